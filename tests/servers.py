"""Servers of this machine that last as long as a test needs them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import TCPServer

from werkzeug.serving import WSGIRequestHandler

STOPS_WITHIN_S = 0.01
"""How soon a server notices that it is to stop; the library's half a second would be most of these tests' time."""


class Quiet(WSGIRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing."""


@contextmanager
def running(server: TCPServer) -> Iterator[str]:
    """The root URL of a server, which answers until the block is left."""
    thread = threading.Thread(target=server.serve_forever, args=(STOPS_WITHIN_S,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

"""`Guests` over the network, and as a local cloud has them. Both ask, and change nothing.

Imports nothing of Google: a guest is reached as any client reaches it.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import urllib.request
from contextlib import closing
from http import HTTPStatus
from typing import Any, Final, assert_never
from urllib.parse import urlencode

from snapkeep.documents import Probe
from snapkeep.ports import Transient

TIMEOUT_S: Final = 5.0
"""To connect, and again for the first piece of an answer. A guest that is not there yet is asked again, later."""

STATUS_BYTES_MAX: Final = 1024

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] (\d{3})\b([^\r\n]*)")

REASON_CHARS_MAX: Final = 200


class NetworkGuests:
    """Guests that this process reaches by their addresses. What their disks hold it cannot know."""

    def reach(self, address: str, probe: Probe) -> str | None:
        """Whether a TCP connection is accepted, or `GET path` over plain HTTP answered with a status from 200 to 399.

        A redirect is an answer, and is not followed: it could lead anywhere.
        """
        try:
            match probe.kind:
                case "tcp":
                    with closing(socket.create_connection((address, probe.port), TIMEOUT_S)):
                        return None
                case "http":
                    with closing(http.client.HTTPConnection(address, probe.port, timeout=TIMEOUT_S)) as connection:
                        connection.request("GET", probe.path)
                        # One piece, in which the status is: a guest that sends byte by byte would hold up everybody.
                        said = _STATUS_LINE.match(connection.sock.recv(STATUS_BYTES_MAX))
                        if said is None:
                            return f"GET {probe.path}: no HTTP status in what came first"[:REASON_CHARS_MAX]
                        if HTTPStatus.OK <= int(said[1]) < HTTPStatus.BAD_REQUEST:
                            return None
                        words = said[2].decode("latin-1").strip()
                        return f"GET {probe.path}: {int(said[1])} {words}"[:REASON_CHARS_MAX]
                case _:
                    assert_never(probe.kind)
        except (OSError, http.client.HTTPException, ValueError) as error:
            return f"{address}:{probe.port}: {error or type(error).__name__}"[:REASON_CHARS_MAX]

    def contents(self, link: str) -> str | None:
        return None


class LocalGuests:
    """The guests of a local cloud, asked at its controls (`url`: its root)."""

    def __init__(self, url: str) -> None:
        self._url = url

    def reach(self, address: str, probe: Probe) -> str | None:
        """Raises Transient where the local cloud does not answer."""
        silence = self._ask("guests", {"address": address, "port": str(probe.port)})["silence"]
        return None if silence is None else str(silence)[:REASON_CHARS_MAX]

    def contents(self, link: str) -> str | None:
        """Raises Transient likewise."""
        content = self._ask("contents", {"link": link})["content"]
        return None if content is None else str(content)

    def _ask(self, control: str, query: dict[str, str]) -> dict[str, Any]:
        url = f"{self._url}/_sim/{control}?{urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:  # noqa: S310 (config allows http only)
                found: dict[str, Any] = json.load(answer)
                return found
        except (OSError, http.client.HTTPException) as error:
            raise Transient(f"the local cloud's guests at {self._url} do not answer: {error}") from error

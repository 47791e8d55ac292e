"""The command line as it is typed, against the real application on memory ports over real HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from click.testing import CliRunner, Result
from tests.makers import World
from tests.servers import STOPS_WITHIN_S as STOPS_WITHIN_S  # the site of tests/web takes it from here
from tests.servers import Quiet, running
from werkzeug.serving import make_server

from snapkeep.cli import root
from snapkeep.local_sign_in import LocalSignIn
from snapkeep.web import create_app

NOT_OURS = ("SNAPKEEP_PROJECT", "GOOGLE_CLOUD_PROJECT", "SNAPKEEP_IAP_CLIENT", "SNAPKEEP_USER")


@contextmanager
def serving(app: Callable[..., Any], **options: Any) -> Iterator[int]:
    """An application at a port of this machine."""
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet, **options)
    with running(server):
        yield server.server_port


@contextmanager
def local_cloud(world: World) -> Iterator[str]:
    """Where the command line finds this world."""
    with serving(create_app(world.ports, LocalSignIn())) as port:
        yield f"http://127.0.0.1:{port}"


def run(api: str, *arguments: object, user: str | None = None, **environment: str | None) -> Result:
    """Type it, as the admin unless another is named."""
    runner = CliRunner(env=dict.fromkeys(NOT_OURS) | {"SNAPKEEP_API": api, "SNAPKEEP_USER": user} | environment)
    return runner.invoke(root, [str(argument) for argument in arguments])


def done(api: str, *arguments: object, user: str | None = None) -> str:
    """What it prints; it has to succeed."""
    result = run(api, *arguments, user=user)
    assert result.exit_code == 0, result.output + result.stderr
    return result.stdout


def read(api: str, *arguments: object, user: str | None = None) -> Any:
    return json.loads(done(api, "--json", *arguments, user=user))


def refused(api: str, *arguments: object, user: str | None = None) -> str:
    """The one line in which it is refused."""
    result = run(api, *arguments, user=user)
    assert result.exit_code == 1, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("snapkeep: ")
    return line.removeprefix("snapkeep: ")

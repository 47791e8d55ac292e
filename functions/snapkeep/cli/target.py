"""Where the command line finds Snapkeep: its API, or a project on Google Cloud; by default the local cloud.

What it shows, it asks the API for (`ask`). Until people come in through the API, it writes with the operator's own
Google identity, and where a project is named and no API, it answers its own questions in this process with that
identity too, so that IAM decides what he may do (docs/adr/0004).
"""

from __future__ import annotations

import getpass
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from typing import Final, TypeVar

import msgspec

from snapkeep import wiring
from snapkeep.cli.output import fail
from snapkeep.local_sign_in import HEADER, LocalSignIn
from snapkeep.ports import Ports

LOCAL: Final = "http://127.0.0.1:8080"
TIMEOUT_S: Final = 30

USER: Final = "admin@vendor.example"
"""Who asks a local cloud."""

API_PATH: Final = "/api/v1"
THIS_MACHINE: Final = ("127.0.0.1", "::1", "localhost")

OK: Final = 200
NOT_FOUND: Final = 404

V = TypeVar("V")

VARIABLES: Final = {
    "SNAPKEEP_PROJECT": "project",
    "SNAPKEEP_DATABASE": "database",
    "SNAPKEEP_CLOCK": "clock",
    "FIRESTORE_EMULATOR_HOST": "firestore",
    "PUBSUB_EMULATOR_HOST": "pubsub",
}
"""The environment that a local cloud gives, and what it calls each part."""


def api() -> str:
    """The root URL of the API, without the path that `snapkeep up` prints it with. Ends with status 1 if it is none."""
    url = (os.environ.get("SNAPKEEP_API") or LOCAL).rstrip("/").removesuffix(API_PATH)
    try:
        parts = urllib.parse.urlsplit(url)
        host = parts.hostname if parts.scheme in ("http", "https") else None
    except ValueError:
        host = None
    if host is None:
        fail(f"SNAPKEEP_API: {url!r} is not an http(s) URL")
    if host not in THIS_MACHINE:
        fail(
            f"SNAPKEEP_API: {host} is not this machine, and only a local cloud can be asked yet; for a project on "
            "Google Cloud unset it and set SNAPKEEP_PROJECT"
        )
    return url


def user() -> str:
    """Who is at the terminal: a claim, as long as Google's own audit logs are what proves it."""
    return getpass.getuser()


def ports() -> Ports:
    """The ports of the project that the environment names, else of the local cloud. Ends with status 1 if neither."""
    if _through_api():
        os.environ.update(_local_environment())
    return wiring.ports(compute=False, quiet=True)


def ask(kind: type[V], path: str, parameters: Mapping[str, str | None] | None = None) -> V:
    """What the API answers to a GET of `/api/v1` + path. Ends with status 1 where it refuses or is not Snapkeep's."""
    return _decoded(kind, path, *_answer(path, parameters))


def look_for(kind: type[V], path: str, parameters: Mapping[str, str | None] | None = None) -> V | None:
    """The same for what may not be there: None then."""
    status, body = _answer(path, parameters)
    return None if status == NOT_FOUND and _problem(body) else _decoded(kind, path, status, body)


def _answer(path: str, parameters: Mapping[str, str | None] | None) -> tuple[int, bytes]:
    given = {name: value for name, value in (parameters or {}).items() if value is not None}
    asked = f"{API_PATH}{path}" + (f"?{urllib.parse.urlencode(given)}" if given else "")
    return _over_http(asked) if _through_api() else _in_process(asked)


def _over_http(path: str) -> tuple[int, bytes]:
    try:
        asked = urllib.request.Request(api() + path, headers={HEADER: USER})  # noqa: S310 - `api` checks the scheme
        with urllib.request.urlopen(asked, timeout=TIMEOUT_S) as answer:  # noqa: S310 - likewise
            return answer.status, answer.read()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read()
    except (OSError, HTTPException, ValueError) as error:
        fail(_nobody(getattr(error, "reason", error)))


def _in_process(path: str) -> tuple[int, bytes]:
    from snapkeep import web

    app = web.create_app(ports(), LocalSignIn())
    app.testing = True  # what Google refuses rises to whoever typed the command
    answer = app.test_client().get(path, headers={HEADER: USER})
    return answer.status_code, answer.data


def _decoded(kind: type[V], path: str, status: int, body: bytes) -> V:
    if status != OK:
        said = _problem(body)
        fail(said or f"{api()} answered {status}, and not as Snapkeep does: something else listens there")
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        fail(f"{api()}{API_PATH}{path} is not what this version of the command line expects: {error}")


def _problem(body: bytes) -> str:
    """What one of Snapkeep's problems says; empty for anything else."""
    try:
        said = json.loads(body)
        return str(said["detail"]) if said.keys() == {"type", "title", "status", "detail"} else ""
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""


def _through_api() -> bool:
    return bool(os.environ.get("SNAPKEEP_API")) or not _project()


def _nobody(reason: object) -> str:
    return (
        f"nobody answers at {api()} ({reason}): start a local cloud with `snapkeep up`, or set SNAPKEEP_PROJECT "
        "to the project that holds Snapkeep"
    )


def _project() -> str | None:
    return os.environ.get("SNAPKEEP_PROJECT") or os.environ.get("GOOGLE_CLOUD_PROJECT")


def _local_environment() -> dict[str, str]:
    """The variables that make Google's clients talk to the local cloud, as that cloud tells them."""
    url = f"{api()}/_sim/environment"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:  # noqa: S310 - `api` checks the scheme
            said = json.load(answer)
        return {variable: str(said[name]) for variable, name in VARIABLES.items()}
    except (OSError, HTTPException, ValueError, KeyError, TypeError) as error:
        reason = getattr(error, "reason", error) if isinstance(error, OSError) else "something else answers there"
        fail(_nobody(reason))

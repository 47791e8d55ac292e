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
from snapkeep.ports import Ports

LOCAL: Final = "http://127.0.0.1:8080"
TIMEOUT_S: Final = 30

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
    return (os.environ.get("SNAPKEEP_API") or LOCAL).rstrip("/")


def user() -> str:
    """Who is at the terminal: a claim, as long as Google's own audit logs are what proves it."""
    return getpass.getuser()


def ports() -> Ports:
    """The ports of the project that the environment names, else of the local cloud. Ends with status 1 if neither."""
    if _through_api():
        os.environ.update(_local_environment())
    return wiring.ports(compute=False, quiet=True)


def ask(kind: type[V], path: str, parameters: Mapping[str, str | None] | None = None) -> V | None:
    """What the API answers to a GET of `/api/v1` + path; None where there is nothing. Ends with status 1 otherwise."""
    given = {name: value for name, value in (parameters or {}).items() if value is not None}
    asked = f"/api/v1{path}" + (f"?{urllib.parse.urlencode(given)}" if given else "")
    status, body = _over_http(asked) if _through_api() else _in_process(asked)
    if status == NOT_FOUND and _detail(body):
        return None
    if status != 200:
        fail(
            _detail(body) or f"{api()} answered {status}, and not as Snapkeep's API does; is SNAPKEEP_API its address?"
        )
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        fail(f"{api()}{asked} is not what this version of the command line expects: {error}")


def _over_http(path: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(_checked(api()) + path, timeout=TIMEOUT_S) as answer:  # noqa: S310 - checked
            return answer.status, answer.read()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read()
    except (OSError, HTTPException, ValueError) as error:
        fail(_nobody(getattr(error, "reason", error)))


def _in_process(path: str) -> tuple[int, bytes]:
    from snapkeep import web

    answer = web.create_app(ports()).test_client().get(path)
    return answer.status_code, answer.data


def _detail(body: bytes) -> str:
    """What a problem+json says; empty for anything else."""
    try:
        return str(json.loads(body)["detail"])
    except (ValueError, KeyError, TypeError):
        return ""


def _through_api() -> bool:
    return bool(os.environ.get("SNAPKEEP_API")) or not _project()


def _checked(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        fail(f"SNAPKEEP_API: {url!r} is not an http(s) URL")
    return url


def _nobody(reason: object) -> str:
    return (
        f"nobody answers at {api()} ({reason}): start a local cloud with `snapkeep up`, or set SNAPKEEP_PROJECT "
        "to the project that holds Snapkeep"
    )


def _project() -> str | None:
    return os.environ.get("SNAPKEEP_PROJECT") or os.environ.get("GOOGLE_CLOUD_PROJECT")


def _local_environment() -> dict[str, str]:
    """The variables that make Google's clients talk to the local cloud, as that cloud tells them."""
    url = f"{_checked(api())}/_sim/environment"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:  # noqa: S310 - the scheme was checked
            said = json.load(answer)
        return {variable: str(said[name]) for variable, name in VARIABLES.items()}
    except (OSError, HTTPException, ValueError, KeyError, TypeError) as error:
        reason = getattr(error, "reason", error) if isinstance(error, OSError) else "something else answers there"
        fail(_nobody(reason))

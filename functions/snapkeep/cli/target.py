"""Where the command line finds Snapkeep's documents: a project on Google Cloud, or the local cloud.

Until people come in through the API, the command line reads and writes with the operator's own Google identity, so
that Firestore's IAM decides what he may do (docs/adr/0004).
"""

from __future__ import annotations

import json
import os
import urllib.request
from http.client import HTTPException
from typing import Final

from snapkeep import wiring
from snapkeep.cli.output import fail
from snapkeep.ports import Ports

LOCAL: Final = "http://127.0.0.1:8080"
TIMEOUT_S: Final = 10

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


def ports() -> Ports:
    """The ports of the project that the environment names, else of the local cloud. Ends with status 1 if neither."""
    if os.environ.get("SNAPKEEP_API") or not _project():
        os.environ.update(_local_environment())
    return wiring.ports(compute=False, quiet=True)


def _project() -> str | None:
    return os.environ.get("SNAPKEEP_PROJECT") or os.environ.get("GOOGLE_CLOUD_PROJECT")


def _local_environment() -> dict[str, str]:
    """The variables that make Google's clients talk to the local cloud, as that cloud tells them."""
    url = f"{api()}/_sim/environment"
    if not url.startswith(("http://", "https://")):
        fail(f"SNAPKEEP_API: {api()!r} is not an http(s) URL")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:  # noqa: S310 - the scheme was checked
            said = json.load(answer)
        return {variable: str(said[name]) for variable, name in VARIABLES.items()}
    except (OSError, HTTPException, ValueError, KeyError, TypeError) as error:
        reason = getattr(error, "reason", error) if isinstance(error, OSError) else "something else answers there"
        fail(
            f"no local cloud at {api()} ({reason}): start one with `snapkeep up`, or set SNAPKEEP_PROJECT "
            "to the project that holds Snapkeep"
        )

"""The composition root: environment -> Config -> ports. Clocks and chance exist here and nowhere below.

Google's clients are imported when a port of theirs is asked for and connect at their first call, so that a function
which never touches Compute Engine does not load its client (1 s and 90 MB of a cold start).
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import sys
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, NoReturn

from snapkeep import config, logged
from snapkeep.cloud import Change
from snapkeep.guests import LocalGuests, NetworkGuests
from snapkeep.ports import NOBODY, Compute, Guests, Identities, Ports, R, Transient

CLOCK_TIMEOUT_S: Final = 10


@lru_cache(maxsize=2)
def ports(*, compute: bool, quiet: bool = False) -> Ports:
    """The ports of this process. Without `compute`, Compute Engine and the guests are out of reach, by mistake too.

    A function logs to standard output; `quiet` is for the command line. Raises config.ConfigError.
    """
    from snapkeep.gcp.firestore import GoogleDocuments
    from snapkeep.gcp.pubsub import GoogleBus

    settings = config.read(os.environ)
    if not quiet:
        log_as_json()
    return Ports(
        documents=GoogleDocuments(settings.project, settings.database),
        compute=google_compute(settings) if compute else OutOfReach(),
        bus=GoogleBus(settings.project),
        clock=SystemClock() if settings.clock == "system" else RemoteClock(settings.clock),
        guests=guests_of(settings) if compute else NOBODY,
    )


@lru_cache(maxsize=1)
def identities() -> Identities:
    """How function `web` of this process knows who comes in. Raises config.ConfigError."""
    return identities_of(config.read(os.environ))


def identities_of(settings: config.Config) -> Identities:
    """How a function `web` with these settings knows who comes in. Raises config.ConfigError."""
    if settings.sign_in == "local":
        from snapkeep.local_sign_in import LocalSignIn

        return LocalSignIn()
    if settings.iap_audience is None:
        raise config.ConfigError(
            "SNAPKEEP_IAP_AUDIENCE: not set; expected the audience of IAP's signed header, "
            "/projects/NUMBER/global/backendServices/ID or /projects/NUMBER/locations/REGION/services/NAME"
        )
    from snapkeep.gcp.identity import IapIdentities

    return IapIdentities(settings.iap_audience, SystemClock())


def guests_of(settings: config.Config) -> Guests:
    return NetworkGuests() if settings.guests == "network" else LocalGuests(settings.guests)


def google_compute(settings: config.Config) -> Compute:
    from snapkeep.gcp.compute import GoogleCompute

    return GoogleCompute(settings.compute_endpoint)


def compute_alone() -> Compute:
    """Compute Engine with the operator's own credentials, for a command that asks nothing else. Raises
    config.ConfigError.
    """
    from snapkeep.gcp.compute import GoogleCompute

    return GoogleCompute(config.compute_endpoint(os.environ))


def wait(seconds: float) -> None:
    """Let real time pass: for a person who looks on at the command line. No function waits."""
    time.sleep(seconds)


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def token(self) -> str:
        return secrets.token_hex(8)


class RemoteClock:
    """The clock of a local cloud, so that its functions live in simulated time."""

    def __init__(self, url: str) -> None:
        self._url = url

    def now(self) -> datetime:
        try:
            with urllib.request.urlopen(self._url, timeout=CLOCK_TIMEOUT_S) as answer:  # noqa: S310 (config allows http only)
                return datetime.fromisoformat(json.load(answer)["now"])
        except OSError as error:
            raise Transient(f"the local cloud's clock at {self._url} does not answer: {error}") from error

    def token(self) -> str:
        return secrets.token_hex(8)


class OutOfReach:
    """Compute Engine for a function that has no business with it."""

    def get(self, kind: type[R], link: str) -> R | None:
        self._refuse(link)

    def find(self, kind: type[R], project: str, where: str = "") -> Iterator[R]:
        self._refuse(project)

    def start(self, change: Change, request_id: str) -> str:
        self._refuse(change.link)

    def _refuse(self, what: str) -> NoReturn:
        raise PermissionError(f"this function was wired without Compute Engine, and asks for {what}")


class JsonLines(logging.Formatter):
    """One JSON object a line, as Cloud Logging reads it from a function's standard output: what metrics are made of."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "severity": record.levelname,
            "message": record.getMessage(),
            "logger": record.name,
        }
        entry |= logged.of(record)
        if record.exc_info:
            entry["stack_trace"] = self.formatException(record.exc_info)
        return json.dumps(entry)


@lru_cache(maxsize=1)
def log_as_json() -> None:
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines())
    root = logging.getLogger("snapkeep")
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    root.propagate = False

"""The environment, read once into a frozen Config (CONTRACT 2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args
from urllib.parse import urlsplit


class ConfigError(Exception):
    """A variable that is missing or wrong: which one, its value, and what is expected."""


SignIn = Literal["iap", "local"]
SIGN_INS: Final[tuple[SignIn, ...]] = get_args(SignIn)


@dataclass(frozen=True, slots=True)
class Config:
    project: str
    database: str
    compute_endpoint: str | None
    clock: str  # "system", or the URL of a local cloud's clock
    guests: str  # "network", or the root URL of a local cloud
    sign_in: SignIn  # how function `web` knows who comes in
    iap_audience: str | None  # whom IAP's tokens must be meant for; function `web` needs it with `iap`


def read(environment: Mapping[str, str]) -> Config:
    """Raises ConfigError."""
    project = environment.get("SNAPKEEP_PROJECT") or environment.get("GOOGLE_CLOUD_PROJECT")
    if not project:
        raise ConfigError("SNAPKEEP_PROJECT: not set; expected the project that holds Snapkeep's documents and topics")
    for name in ("FIRESTORE_EMULATOR_HOST", "PUBSUB_EMULATOR_HOST"):
        # Google's clients take the mere presence of the variable for "talk to an emulator".
        if environment.get(name) == "":
            raise ConfigError(f"{name}: set and empty; unset it, or give the emulator's HOST:PORT")
    clock = environment.get("SNAPKEEP_CLOCK") or "system"
    guests = environment.get("SNAPKEEP_GUESTS") or "network"
    sign_in = environment.get("SNAPKEEP_SIGN_IN") or "iap"
    if sign_in not in SIGN_INS:
        raise ConfigError(f"SNAPKEEP_SIGN_IN: {sign_in!r} is not one of {', '.join(SIGN_INS)}")
    if sign_in == "local" and not environment.get("FIRESTORE_EMULATOR_HOST"):
        # Whoever reaches such a Snapkeep is whom he says: never beside documents that are not a local cloud's.
        raise ConfigError(
            "SNAPKEEP_SIGN_IN: 'local' lets anybody in as anybody, and is refused without FIRESTORE_EMULATOR_HOST; "
            "expected iap"
        )
    return Config(
        project=project,
        database=environment.get("SNAPKEEP_DATABASE") or "(default)",
        compute_endpoint=compute_endpoint(environment),
        clock="system" if clock == "system" else _url("SNAPKEEP_CLOCK", clock) or "system",
        guests="network" if guests == "network" else _url("SNAPKEEP_GUESTS", guests) or "network",
        sign_in=sign_in,
        iap_audience=environment.get("SNAPKEEP_IAP_AUDIENCE") or None,
    )


def compute_endpoint(environment: Mapping[str, str]) -> str | None:
    """Where Compute Engine is; None: Google's. Raises ConfigError."""
    return _url("SNAPKEEP_COMPUTE_ENDPOINT", environment.get("SNAPKEEP_COMPUTE_ENDPOINT"))


def _url(name: str, value: str | None) -> str | None:
    if not value:
        return None
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ConfigError(f"{name}: {value!r} is not an http(s) URL")
    return value.rstrip("/")

"""`Identities` by Identity-Aware Proxy: it puts a signed token in front of every request that it lets through.

What is verified follows https://cloud.google.com/iap/docs/signed-headers-howto: the signature (ES256, by a key that
Google publishes), the time, the audience, the issuer. google-auth verifies the first two, by the machine's clock.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from threading import Lock
from typing import Any, Final

import requests
from google.auth import jwt
from google.auth.exceptions import InvalidValue

from snapkeep.ports import Clock, Lookup, Transient, Unidentified

HEADER: Final = "X-Goog-IAP-JWT-Assertion"
ISSUER: Final = "https://cloud.google.com/iap"
KEYS_URL: Final = "https://www.gstatic.com/iap/verify/public_key"

TOKEN_CHARS_MAX: Final = 8_192
"""IAP's own are below 1,500."""

CLOCK_SKEW_S: Final = 30
"""What Google's page allows the two clocks to differ."""

KEYS_TIMEOUT_S: Final = 5
KEYS_KEPT: Final = timedelta(hours=24)
"""After so long the keys are asked for again, so that a key that Google has withdrawn is not believed for ever."""

UNKNOWN_KEY_PAUSE: Final = timedelta(minutes=1)
"""Between two questions for keys because of a key id that is not among them: who sends invented ones costs little."""

FAILED_PAUSE: Final = timedelta(seconds=5)
"""Between two questions for keys that were not answered."""

EMAIL: Final = re.compile(r"[^\s/\x00-\x1f\x7f]{1,64}@[a-z0-9.-]{1,190}")
"""An address as far as it may become a part of a document's path."""

Keys = Mapping[str, str]
"""Key id -> public key, PEM."""


def fetch_keys(url: str = KEYS_URL, timeout_s: float = KEYS_TIMEOUT_S) -> Keys:
    """The keys that are published there: IAP's own, by default. Raises Transient."""
    try:
        answer = requests.get(url, timeout=timeout_s)
        answer.raise_for_status()
        keys = answer.json()
    except (requests.RequestException, ValueError) as fault:
        raise Transient(f"{url}: {fault}") from fault
    if not isinstance(keys, dict) or not all(isinstance(key, str) for key in keys.values()):
        raise Transient(f"{url}: not a map of key ids to keys")
    return keys


class IapIdentities:
    """Verifies IAP's token against an audience: `/projects/NUMBER/...` of the service that IAP stands before."""

    verified = True

    def __init__(self, audience: str, clock: Clock, fetch: Callable[[], Keys] = fetch_keys) -> None:
        self._audience = audience
        self._clock = clock
        self._fetch = fetch
        self._lock = Lock()  # requests are answered by several threads
        self._keys: Keys = {}
        self._kept_until: datetime | None = None  # None: never fetched
        self._fetch_after: datetime | None = None
        self._fault: Transient | None = None  # what the last question for keys met

    def who(self, header: Lookup, cookie: Lookup) -> str:
        token = header(HEADER)
        if not token:
            raise Unidentified("no identity")
        claims = self._verified(token)
        if claims.get("iss") != ISSUER:
            raise Unidentified("wrong issuer")
        if claims.get("aud") != self._audience:
            raise Unidentified("wrong audience")
        email = claims.get("email")
        # ASCII before lower(): the Kelvin sign would become a k, and its owner somebody else.
        if not isinstance(email, str) or not email.isascii() or not EMAIL.fullmatch(email.lower()):
            raise Unidentified("no email address")
        return email.lower()

    def _verified(self, token: str) -> Mapping[str, Any]:
        """The claims of a token whose signature and time are right."""
        if len(token) > TOKEN_CHARS_MAX:
            raise Unidentified("forged identity")
        try:
            header = jwt.decode_header(token)  # type: ignore[no-untyped-call]  # google-auth types none
        except (ValueError, TypeError, RecursionError):
            raise Unidentified("forged identity") from None
        key_id = header.get("kid")
        # The algorithm is ours to choose, not the sender's.
        if header.get("alg") != "ES256" or not isinstance(key_id, str):
            raise Unidentified("forged identity")
        key = self._key(key_id)
        try:
            claims: Mapping[str, Any] = jwt.decode(  # type: ignore[no-untyped-call]  # google-auth types none
                token, certs={key_id: key}, clock_skew_in_seconds=CLOCK_SKEW_S
            )
        except InvalidValue:
            # Its signature is Google's: what is left to be wrong is the time.
            raise Unidentified("expired identity") from None
        except (ValueError, TypeError, RecursionError):
            raise Unidentified("forged identity") from None
        return claims

    def _key(self, id: str) -> str:
        with self._lock:
            now = self._clock.now()
            stale = self._kept_until is None or now >= self._kept_until
            if (stale or id not in self._keys) and (self._fetch_after is None or now >= self._fetch_after):
                self._refresh(now)
            if id in self._keys and self._kept_until is not None and now < self._kept_until:
                return self._keys[id]
            if self._fault is not None:
                raise self._fault
            raise Unidentified("forged identity")

    def _refresh(self, now: datetime) -> None:
        try:
            self._keys = self._fetch()
        except Transient as fault:
            self._fault, self._fetch_after = fault, now + FAILED_PAUSE
            return
        self._fault, self._kept_until, self._fetch_after = None, now + KEYS_KEPT, now + UNKNOWN_KEY_PAUSE

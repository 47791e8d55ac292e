"""Identity-Aware Proxy, as far as a test needs it: its keys, and tokens that it or somebody else has signed."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from google.auth import jwt
from google.auth.crypt.es import EsSigner

from snapkeep.gcp.identity import ISSUER

AUDIENCE: Final = "/projects/1234/global/backendServices/5678"
KEY_ID: Final = "f9R3yg"
BEFORE: Final = int(datetime(2020, 1, 1, tzinfo=UTC).timestamp())
AFTER: Final = int(datetime(2120, 1, 1, tzinfo=UTC).timestamp())
"""google-auth goes by the machine's clock: long ago, and long after anybody runs this."""


def curve_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def public(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    pem = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return pem.decode()


OURS: Final = curve_key()
OTHERS: Final = curve_key()
KEYS: Final[Mapping[str, str]] = {KEY_ID: public(OURS), "other": public(curve_key())}


def claims(**changes: Any) -> dict[str, Any]:
    """What IAP says of somebody; None leaves a claim out."""
    fields: dict[str, Any] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "iat": BEFORE,
        "exp": AFTER,
        "sub": "accounts.google.com:1",
        "email": "admin@vendor.example",
    }
    return {name: value for name, value in (fields | changes).items() if value is not None}


def token(said: Mapping[str, Any], *, key: ec.EllipticCurvePrivateKey = OURS, key_id: str = KEY_ID) -> str:
    return str(jwt.encode(EsSigner(key, key_id), said).decode())  # type: ignore[no-untyped-call]  # google-auth types none


def part(value: object) -> str:
    """A part of a token that nobody has signed."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def unsigned(header: object, said: object, signature: str = "AAAA") -> str:
    return f"{part(header)}.{part(said)}.{signature}"


def bad() -> dict[str, tuple[str | None, str]]:
    """Every header that must let nobody in, by what is wrong with it, and why it is refused."""
    good = token(claims())
    head, body, signature = good.split(".")
    hmac = {"alg": "HS256", "typ": "JWT", "kid": KEY_ID}
    es256 = {"alg": "ES256", "typ": "JWT", "kid": KEY_ID}
    return {
        "missing": (None, "no identity"),
        "empty": ("", "no identity"),
        "nonsense": ("nonsense", "forged identity"),
        "two parts": (f"{head}.{body}", "forged identity"),
        "no base64": ("***.***.***", "forged identity"),
        "not text": ("\xff.\xff.\xff", "forged identity"),
        "no json": (f"{part('x')}.{part('y')}.AAAA", "forged identity"),
        "a list": (unsigned([es256], [claims()]), "forged identity"),
        "very long": (good + "A" * 10_000, "forged identity"),
        "nested deeply": (f"{'eyJhIjp7' * 900}.e30.AA", "forged identity"),
        "signed by another key": (token(claims(), key=OTHERS), "forged identity"),
        "an unknown key": (token(claims(), key_id="unknown"), "forged identity"),
        "no key id": (unsigned({"alg": "ES256"}, claims(), signature), "forged identity"),
        "a key id that is no text": (unsigned(es256 | {"kid": ["x"]}, claims(), signature), "forged identity"),
        "no algorithm": (unsigned({"alg": "none", "kid": KEY_ID}, claims(), ""), "forged identity"),
        "another algorithm": (unsigned(hmac, claims(), signature), "forged identity"),
        "rsa": (unsigned(es256 | {"alg": "RS256"}, claims(), signature), "forged identity"),
        "claims changed": (f"{head}.{part(claims(email='eve@evil.example'))}.{signature}", "forged identity"),
        "signature cut": (good[:-4], "forged identity"),
        "expired": (token(claims(exp=BEFORE + 600)), "expired identity"),
        "not begun": (token(claims(iat=AFTER - 600)), "expired identity"),
        "no expiry": (token(claims(exp=None)), "forged identity"),
        "an expiry that is no number": (token(claims(exp="never")), "forged identity"),
        "another audience": (token(claims(aud="/projects/1234/global/backendServices/1")), "wrong audience"),
        "several audiences": (token(claims(aud=[AUDIENCE])), "wrong audience"),
        "no audience": (token(claims(aud=None)), "wrong audience"),
        "another issuer": (token(claims(iss="https://accounts.google.com")), "wrong issuer"),
        "no issuer": (token(claims(iss=None)), "wrong issuer"),
        "no email": (token(claims(email=None)), "no email address"),
        "an email that is none": (token(claims(email="nobody")), "no email address"),
        "a path for an email": (token(claims(email="a/../../tenants@acme.example")), "no email address"),
        "a list of emails": (token(claims(email=["admin@vendor.example"])), "no email address"),
    }

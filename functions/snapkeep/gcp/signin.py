"""Who is at the terminal, proved to IAP: an ID token of the operator's Application Default Credentials.

IAP takes an ID token as `Authorization: Bearer`. A service account (its key, the metadata server, or one that the
operator impersonates) gets one for IAP's own client. A person's refresh token gets one for the OAuth client that he
signed in with, which IAP has to let in as a programmatic client.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import google.auth
from google.auth import compute_engine, impersonated_credentials
from google.auth.credentials import Credentials
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, RefreshError, TransportError
from google.auth.transport.requests import Request
from google.oauth2 import credentials as person
from google.oauth2 import id_token, service_account

LOGIN: Final = "gcloud auth application-default login"


class CannotSignIn(Exception):
    """Why there is no token, in one line that says what to do. Never holds a token."""


def id_token_for(audience: str) -> str:
    """An ID token for the IAP whose OAuth client is `audience`; asks Google's token endpoint or metadata server.

    Raises CannotSignIn.
    """
    _quiet()
    try:
        token = _token(_found(), audience, Request())
    except DefaultCredentialsError as error:
        raise CannotSignIn(f"no Google credentials here ({_line(error)}): `{LOGIN}` makes some") from None
    except RefreshError as error:
        raise CannotSignIn(f"Google refuses these credentials ({_line(error)}): `{LOGIN}` renews them") from None
    except TransportError as error:
        raise CannotSignIn(f"Google's token endpoint does not answer ({_line(error)}): try again") from None
    except (GoogleAuthError, ValueError) as error:
        raise CannotSignIn(f"these credentials cannot be used ({_line(error)}): `{LOGIN}` makes others") from None
    if not token:
        raise CannotSignIn(f"Google gave no ID token: sign in with the scopes openid and email, as `{LOGIN}` does")
    return token


@contextmanager
def signed_in() -> Iterator[None]:
    """For calls with the operator's own credentials. Raises CannotSignIn where they are missing, or refused."""
    try:
        yield
    except DefaultCredentialsError as error:
        raise CannotSignIn(f"no Google credentials here ({_line(error)}): `{LOGIN}` makes some") from None
    except GoogleAuthError as error:
        raise CannotSignIn(f"these credentials cannot be used ({_line(error)}): `{LOGIN}` renews them") from None


def _found() -> Credentials:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a project for quotas, which an ID token has no use for
        found, _ = google.auth.default()
    return found


def _token(found: Credentials, audience: str, request: Request) -> str | None:
    match found:
        case person.Credentials():
            found.refresh(request)  # type: ignore[no-untyped-call]  # google-auth types none
            token: str | None = found.id_token
            return token
        case impersonated_credentials.Credentials():
            of_account = impersonated_credentials.IDTokenCredentials(  # type: ignore[no-untyped-call]  # google-auth types none
                target_credentials=found, target_audience=audience, include_email=True
            )
            of_account.refresh(request)
            return str(of_account.token)
        case service_account.Credentials() | compute_engine.Credentials():
            return str(id_token.fetch_id_token(request, audience))  # type: ignore[no-untyped-call]  # google-auth types none
        case _:
            raise CannotSignIn(
                f"{type(found).__module__} gives no ID token: impersonate a service account, "
                f"`{LOGIN} --impersonate-service-account=ACCOUNT`"
            )


def _quiet() -> None:
    """What google-auth would log in between (tries, a project that it misses) is told by the error, or is no matter."""
    log = logging.getLogger("google.auth")
    if not log.handlers:
        log.addHandler(logging.NullHandler())
        log.propagate = False


def _line(error: Exception) -> str:
    """What google-auth says, without the answer's body that it puts second."""
    said = " ".join(str(error.args[0] if error.args else error).split())
    return said.rstrip(".") or type(error).__name__

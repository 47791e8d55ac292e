"""The ID token for IAP: google-auth against a token endpoint and a metadata server that speak HTTP, on this machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import crypt, iam, jwt
from google.auth.compute_engine import _metadata
from google.oauth2 import credentials as person
from tests.servers import running

from snapkeep.gcp.signin import CannotSignIn, id_token_for

AUDIENCE: Final = "0123-iap.apps.googleusercontent.com"
ACCOUNT: Final = "ci@snapkeep.iam.gserviceaccount.com"
FAR: Final = 4_000_000_000  # an expiry in the year 2096


def key_pair() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


KEY: Final = key_pair()


def signed(**claims: Any) -> str:
    signer = crypt.RSASigner.from_string(KEY)  # type: ignore[no-untyped-call]  # google-auth types none
    return str(jwt.encode(signer, {"exp": FAR, "iat": 1, **claims}), "ascii")  # type: ignore[no-untyped-call]  # google-auth types none


@dataclass
class Google:
    """Google's token endpoint and its metadata server: what they were asked, and what they answer."""

    url: str = ""
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    status: int = 200
    answer: Callable[[dict[str, Any]], Any] = lambda form: {}

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc


@pytest.fixture
def google() -> Iterator[Google]:
    one = Google()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            fields = {name: values[0] for name, values in parse_qs(body).items()}
            if self.headers["Content-Type"] == "application/json":
                fields = json.loads(body)
            one.asked.append((self.path, fields))
            self._say(one.status, json.dumps(one.answer(fields)), "application/json")

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            fields = {name: values[0] for name, values in parse_qs(parts.query).items()}
            one.asked.append((parts.path, fields))
            assert self.headers["Metadata-Flavor"] == "Google"
            if parts.path.endswith("/identity"):
                self._say(one.status, one.answer(fields), "text/html")
            elif parts.path.endswith("/project-id"):
                self._say(200, "snapkeep-prod", "application/text")
            elif parts.path.endswith("/default/"):
                said = {"email": ACCOUNT, "scopes": [], "aliases": ["default"]}
                self._say(200, json.dumps(said), "application/json")
            else:
                self._say(200, "instance/\n", "application/text")

        def _say(self, status: int, body: str, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Metadata-Flavor", "Google")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with running(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as one.url:
        yield one


@pytest.fixture(autouse=True)
def nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials that this machine may have, and no metadata server: google-auth looks into the environment."""
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT"):
        monkeypatch.delenv(name, raising=False)


Given = Callable[[dict[str, Any]], None]


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Given:
    """Puts credentials where google-auth finds them: in a file that the environment names."""

    def write(content: dict[str, Any]) -> None:
        path = tmp_path / "credentials.json"
        path.write_text(json.dumps(content))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))

    return write


@pytest.fixture
def a_person(google: Google, given: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    # The file of `gcloud auth application-default login` names no endpoint: it is always Google's.
    monkeypatch.setattr(person, "_GOOGLE_OAUTH2_TOKEN_ENDPOINT", f"{google.url}/token")
    given({"type": "authorized_user", "client_id": "desktop", "client_secret": "s", "refresh_token": "refresh-me"})


def refused() -> str:
    with pytest.raises(CannotSignIn) as said:
        id_token_for(AUDIENCE)
    line = str(said.value)
    assert "\n" not in line
    return line


# --- a person -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("a_person")
def test_a_person_gives_the_id_token_that_comes_with_a_refresh(google: Google) -> None:
    google.answer = lambda form: {"access_token": "a", "expires_in": 3599, "id_token": "of-the-person"}
    assert id_token_for(AUDIENCE) == "of-the-person"
    ((path, form),) = google.asked
    assert (path, form["grant_type"], form["refresh_token"]) == ("/token", "refresh_token", "refresh-me")


def test_an_account_that_a_person_impersonates_asks_for_a_token_for_iap(
    google: Google, given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Both endpoints are always Google's, as a person's is: no file names another.
    monkeypatch.setattr(person, "_GOOGLE_OAUTH2_TOKEN_ENDPOINT", f"{google.url}/token")
    monkeypatch.setattr(iam, "_IAM_IDTOKEN_ENDPOINT", f"{google.url}/{{}}:generateIdToken")
    made = signed(aud=AUDIENCE)
    google.answer = lambda asked: {"token": made} if "audience" in asked else {"access_token": "a", "expires_in": 3599}
    source = {"type": "authorized_user", "client_id": "desktop", "client_secret": "s", "refresh_token": "refresh-me"}
    url = f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{ACCOUNT}:generateAccessToken"
    given(
        {
            "type": "impersonated_service_account",
            "source_credentials": source,
            "service_account_impersonation_url": url,
            "delegates": [],
        }
    )
    assert id_token_for(AUDIENCE) == made
    path, asked = google.asked[-1]
    assert path == f"/{ACCOUNT}:generateIdToken"
    assert (asked["audience"], asked["includeEmail"]) == (AUDIENCE, True)


@pytest.mark.usefixtures("a_person")
def test_a_sign_in_without_openid_is_told_how_to_get_it(google: Google) -> None:
    google.answer = lambda form: {"access_token": "a-secret", "expires_in": 3599}
    line = refused()
    assert "openid" in line
    assert "gcloud auth application-default login" in line
    assert "a-secret" not in line


@pytest.mark.usefixtures("a_person")
def test_a_sign_in_that_has_ended_is_told_how_to_renew_it(google: Google) -> None:
    google.status = 400
    google.answer = lambda form: {"error": "invalid_grant", "error_description": "Token has been expired or revoked."}
    line = refused()
    assert "Token has been expired or revoked" in line
    assert "gcloud auth application-default login" in line
    assert "refresh-me" not in line


# --- accounts of services -----------------------------------------------------------------------------------------


def test_a_service_account_asks_for_a_token_for_iap(google: Google, given: Given) -> None:
    made = signed(aud=AUDIENCE)
    google.answer = lambda form: {"id_token": made}
    given(
        {
            "type": "service_account",
            "client_email": ACCOUNT,
            "private_key": KEY,
            "private_key_id": "1",
            "token_uri": f"{google.url}/token",
        }
    )
    assert id_token_for(AUDIENCE) == made
    ((_, form),) = google.asked
    claims = jwt.decode(form["assertion"], verify=False)  # type: ignore[no-untyped-call]  # google-auth types none
    assert (claims["target_audience"], claims["iss"]) == (AUDIENCE, ACCOUNT)


def test_on_google_cloud_the_metadata_server_gives_the_token(google: Google, monkeypatch: pytest.MonkeyPatch) -> None:
    made = signed(aud=AUDIENCE)
    google.answer = lambda asked: made if asked == {"audience": AUDIENCE, "format": "full"} else str(asked)
    monkeypatch.delenv("NO_GCE_CHECK")
    # google-auth asks this address whether it is on Google Cloud, before it asks the host for anything.
    monkeypatch.setenv("GCE_METADATA_IP", google.host)
    # GCE_METADATA_HOST is read when google-auth is imported: too late for a variable.
    monkeypatch.setattr(_metadata, "_GCE_METADATA_HOST", google.host)
    assert id_token_for(AUDIENCE) == made
    assert any(path.endswith("/instance/service-accounts/default/identity") for path, _ in google.asked)


# --- nobody -------------------------------------------------------------------------------------------------------


def test_without_credentials_one_line_says_how_to_get_them() -> None:
    assert refused().endswith("`gcloud auth application-default login` makes some")


@pytest.mark.parametrize(
    "content", [{}, {"type": "authorized_user"}, {"type": "service_account"}, {"type": "x"}], ids=str
)
def test_credentials_that_are_none_are_one_line(given: Given, content: dict[str, Any]) -> None:
    given(content)
    assert "gcloud auth application-default login" in refused()


def test_a_token_endpoint_that_is_away_is_one_line(given: Given) -> None:
    given(
        {
            "type": "service_account",
            "client_email": ACCOUNT,
            "private_key": KEY,
            "private_key_id": "1",
            "token_uri": "http://127.0.0.1:1/token",
        }
    )
    assert "does not answer" in refused()

"""Where the command line asks, as whom, and what it takes for an answer."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import flask
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.cli.typing_in import read, refused, run, serving
from tests.makers import World
from tests.web.people import put_people
from werkzeug.datastructures import Headers

from snapkeep.cli import target
from snapkeep.gcp import signin
from snapkeep.local_sign_in import HEADER, LocalSignIn
from snapkeep.web import create_app

TOKEN: Final = "eyJ.an-id-token.of-somebody"  # noqa: S105 - of nobody


@pytest.fixture
def world() -> World:
    one = World()
    put_people(one)
    return one


# --- a local cloud ------------------------------------------------------------------------------------------------


def test_a_local_cloud_is_asked_as_the_admin_unless_told_otherwise(world: World) -> None:
    with serving(create_app(world.ports, LocalSignIn())) as port:
        url = f"http://127.0.0.1:{port}"
        assert read(url, "access", "show")["me"]["email"] == target.USER
        assert read(url, "access", "show", user="viewer@vendor.example")["me"]["role"] == "viewer"
        assert "nobody@vendor.example is not known here" in refused(url, "fleet", "list", user="nobody@vendor.example")


@pytest.mark.parametrize("user", ["a\nb: c", "ü@vendor.example", "\x7f"])
def test_a_user_that_is_no_header_is_refused_before_it_is_sent(user: str) -> None:
    assert "is not an email address" in refused("http://127.0.0.1:1", "fleet", "list", user=user)


@pytest.mark.parametrize("api", ["http://snapkeep.vendor.example", "http://10.0.0.7:8080/api/v1"])
def test_an_address_elsewhere_has_to_be_https(api: str) -> None:
    assert "is not this machine: expected https://" in refused(api, "fleet", "list")


def test_no_proxy_stands_before_this_machine(world: World) -> None:
    met: list[str] = []

    def proxy(environ: dict[str, str], start: Callable[[str, list[tuple[str, str]]], object]) -> list[bytes]:
        met.append(environ["PATH_INFO"])
        start("502 Bad Gateway", [])
        return []

    with serving(proxy) as elsewhere, serving(create_app(world.ports, LocalSignIn())) as port:
        target._opener.cache_clear()
        proxies = {"http_proxy": f"http://127.0.0.1:{elsewhere}", "no_proxy": None, "NO_PROXY": None}
        result = run(f"http://127.0.0.1:{port}", "access", "show", **proxies)
        target._opener.cache_clear()
    assert (result.exit_code, met) == (0, []), result.stderr


def test_an_id_that_no_header_takes_is_said_so() -> None:
    for id in ("\u65e5\u672c", "a b", "x" * 201):
        line = refused("http://127.0.0.1:1", "hold", "add", "--tenant", "alpha", "--reason", "r", "--id", id)
        assert "--id: " in line
        assert "is not 1 to 200 printable ASCII characters" in line


def test_an_act_that_was_sent_and_not_answered_names_its_key() -> None:
    app = flask.Flask("away")
    app.add_url_rule("/<path:path>", "away", lambda path: ("gone", 502), methods=["GET", "POST"])
    with serving(app) as port:
        url = f"http://127.0.0.1:{port}"
        act = ("hold", "add", "--tenant", "alpha", "--reason", "r")
        assert refused(url, *act, "--id", "mine").endswith("whether it was done is not known: its key is mine")
        assert "its key is" in refused(url, *act)
        assert "its key is" not in refused(url, "hold", "list")
    assert "its key is" not in refused(url, *act)  # nobody there: it was not sent


Deployed = Callable[[flask.Flask], AbstractContextManager[str]]


# --- a deployment -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of localhost with its key, that signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def deployed(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Deployed:
    """Something behind TLS whose certificate this process believes, and an operator who has a token."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))  # where OpenSSL finds whom to believe
    # How a token is got from Google is the matter of test_signin.py.
    monkeypatch.setattr(signin, "id_token_for", lambda audience: f"{TOKEN}.{audience}")
    target._opener.cache_clear()
    target._id_token.cache_clear()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)

    @contextmanager
    def start(app: flask.Flask) -> Iterator[str]:
        with serving(app, ssl_context=tls) as port:
            yield f"https://localhost:{port}"

    return start


def app_that_says(status: int, body: str, **headers: str) -> tuple[flask.Flask, list[Headers]]:
    """An application that answers everything alike, and the headers of each request to it."""
    app, asked = flask.Flask("stranger"), list[Headers]()

    @app.route("/", defaults={"path": ""}, methods=["GET", "POST"])
    @app.route("/<path:path>", methods=["GET", "POST"])
    def answer(path: str) -> flask.Response:
        asked.append(flask.request.headers)
        return flask.Response(body, status, {name.replace("_", "-"): value for name, value in headers.items()})

    return app, asked


def test_a_deployment_gets_the_token_for_its_iap_and_no_local_name(deployed: Deployed) -> None:
    app, asked = app_that_says(404, "{}")
    with deployed(app) as url:
        run(url, "fleet", "list", SNAPKEEP_IAP_CLIENT="its-client")
    assert asked[0]["Authorization"] == f"Bearer {TOKEN}.its-client"
    assert HEADER not in asked[0]


def test_a_deployment_without_its_client_id_is_not_asked(deployed: Deployed) -> None:
    app, asked = app_that_says(404, "{}")
    with deployed(app) as url:
        assert "SNAPKEEP_IAP_CLIENT: not set" in refused(url, "fleet", "list")
    assert asked == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_with_the_token(deployed: Deployed, status: int) -> None:
    elsewhere, asked = app_that_says(200, "{}")
    with serving(elsewhere) as port:
        app, _ = app_that_says(status, "", Location=f"http://127.0.0.1:{port}/steal")
        with deployed(app) as url:
            result = run(url, "fleet", "list", SNAPKEEP_IAP_CLIENT="c")
    assert asked == []
    assert result.exit_code == 1
    assert "leads to 127.0.0.1" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_what_iap_refuses_is_said_with_what_to_check(deployed: Deployed) -> None:
    said = "Invalid IAP credentials: JWT audience doesn't match"
    app, _ = app_that_says(401, said, X_Goog_IAP_Generated_Response="true")
    with deployed(app) as url:
        result = run(url, "fleet", "list", SNAPKEEP_IAP_CLIENT="c")
    assert said in result.stderr
    assert "roles/iap.httpsResourceAccessor" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("status", "body"), [(200, "<html>"), (500, "oops"), (403, '{"detail": "no"}'), (302, ""), (401, "[]")], ids=str
)
def test_a_token_is_never_printed(deployed: Deployed, status: int, body: str) -> None:
    app, _ = app_that_says(status, body)
    with deployed(app) as url:
        for arguments in (("fleet", "list"), ("hold", "add", "--tenant", "acme", "--reason", "x")):
            result = run(url, *arguments, SNAPKEEP_IAP_CLIENT="c")
            assert result.exit_code == 1
            assert "an-id-token" not in result.output + result.stderr
            assert len(result.stderr.splitlines()) == 1


def test_a_deployment_that_cannot_prove_who_it_is_gets_no_token(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, asked = app_that_says(200, "{}")
    with deployed(app) as url:
        monkeypatch.delenv("SSL_CERT_FILE")  # whom this machine believes: not the certificate of the test
        target._opener.cache_clear()
        result = run(url, "fleet", "list", SNAPKEEP_IAP_CLIENT="c")
    assert asked == []
    assert "cannot prove who it is" in result.stderr


def test_nobody_there_is_said_with_what_to_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signin, "id_token_for", lambda audience: TOKEN)  # as in `deployed`
    target._id_token.cache_clear()
    result = run("https://localhost:1", "fleet", "list", SNAPKEEP_IAP_CLIENT="c")
    assert "nobody answers at https://localhost:1" in result.stderr


def test_an_operator_without_credentials_is_told_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(audience: str) -> str:
        raise signin.CannotSignIn("no Google credentials here: `gcloud auth application-default login` makes some")

    monkeypatch.setattr(signin, "id_token_for", nobody)  # whom Google gives none is the matter of test_signin.py
    target._id_token.cache_clear()
    result = run("https://localhost:1", "fleet", "list", SNAPKEEP_IAP_CLIENT="c")
    assert result.stderr == (
        "snapkeep: no Google credentials here: `gcloud auth application-default login` makes some\n"
    )

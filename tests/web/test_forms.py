"""Forms of our own pages: what another site makes a browser send is refused."""

from __future__ import annotations

import flask
import pytest
from flask.testing import FlaskClient
from tests.makers import World

from snapkeep.local_sign_in import LocalSignIn
from snapkeep.web.door import FORM_COOKIE, FORM_FIELD, Door

HERE = "http://localhost"


@pytest.fixture
def client() -> FlaskClient:
    """A page with a form, and what it is sent to."""
    app, door = flask.Flask("forms"), Door(World().ports, LocalSignIn())

    @app.get("/")
    def page() -> str:
        return f"{door.form_token()} {door.form_token()}"  # two forms on one page

    @app.post("/")
    def act() -> str:
        door.form_is_ours(None)
        return "done"

    app.after_request(door.leave_form_token)
    return app.test_client()


def token(client: FlaskClient) -> str:
    first, second = client.get("/").text.split()
    assert first == second
    return first


def test_a_form_of_ours_is_taken_once_and_again(client: FlaskClient) -> None:
    said = token(client)
    for headers in ({}, {"Origin": HERE}, {"Origin": HERE, "Sec-Fetch-Site": "same-origin"}):
        assert client.post("/", data={FORM_FIELD: said}, headers=headers).text == "done"
    assert token(client) == said  # an open page in another tab stays good


def test_the_token_is_a_cookie_that_no_script_reads_and_no_other_site_sends(client: FlaskClient) -> None:
    said = client.get("/").headers["Set-Cookie"]
    assert said.startswith(f"{FORM_COOKIE}=")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(said.split("; "))
    assert "Set-Cookie" not in client.get("/").headers


def test_two_browsers_have_two_tokens(client: FlaskClient) -> None:
    other = client.application.test_client()
    assert token(client) != token(other)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost.evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_form_from_another_site_is_refused_token_or_not(client: FlaskClient, headers: dict[str, str]) -> None:
    assert client.post("/", data={FORM_FIELD: token(client)}, headers=headers).status_code == 403


def test_a_form_without_its_token_is_refused(client: FlaskClient) -> None:
    said = token(client)
    for data in ({}, {FORM_FIELD: ""}, {FORM_FIELD: "invented"}):
        assert client.post("/", data=data, headers={"Origin": HERE}).status_code == 403
    assert client.application.test_client().post("/", data={FORM_FIELD: said}).status_code == 403
    assert client.application.test_client().post("/", data={FORM_FIELD: ""}).status_code == 403

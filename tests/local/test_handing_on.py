"""The local cloud hands the pages and the API on to function `web` as they were asked for."""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator
from http.cookies import SimpleCookie
from urllib.parse import urlencode

import flask
import pytest
from tests.cli.typing_in import serving
from tests.makers import World
from tests.web.fleets import put_tenant
from tests.web.people import Somebody, put_people

from snapkeep import web
from snapkeep.local_sign_in import LocalSignIn
from snapkeep.web.door import FORM_FIELD, KEY_FIELD
from snapkeep_local.emulators import free_port
from snapkeep_local.runner import add_pages


def front(port: int) -> flask.Flask:
    app = flask.Flask("front")
    add_pages(app, port)
    return app


def answer(port: int, path: str) -> tuple[int, str | None, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        got = connection.getresponse()
        return got.status, got.getheader("Content-Type"), got.read()
    finally:
        connection.close()


@pytest.fixture
def ports() -> Iterator[tuple[int, int]]:
    """Of the front and of what is behind it."""
    world = World()
    put_people(world)
    put_tenant(world, "alpha")
    with serving(web.create_app(world.ports, Somebody())) as behind, serving(front(behind)) as before:
        yield before, behind


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/fleet",
        "/orphans",
        "/tenants/a%20b",
        "/?after=0%7Calpha",
        "/assets/logo.svg",
        "/api/v1/fleet",
        "/api/v1/tenants/alpha",
        "/api/v1/tenants/a%20b",
        "/api/v1/tenants/%C3%BC",
        "/api/v1/tenants/alpha%3Fx=1",
        "/api/v1/tenants/%2561lpha",
        "/api/v1/points?state=%C3%BC",
    ],
)
def test_the_answer_is_the_functions_own(ports: tuple[int, int], path: str) -> None:
    before, behind = (answer(port, path) for port in ports)
    assert before == behind


def test_a_name_of_another_site_is_handed_on_and_refused() -> None:
    world = World()
    put_people(world)
    with serving(web.create_app(world.ports, LocalSignIn())) as behind, serving(front(behind)) as port:
        for host, status in (("evil.example", 400), (f"localhost:{port}", 200)):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            sent = {"Host": host, "X-Snapkeep-Local-User": "admin@vendor.example"}
            connection.request("GET", "/api/v1/fleet", headers=sent)
            assert connection.getresponse().status == status
            connection.close()


def test_a_function_that_is_away_is_said(ports: tuple[int, int]) -> None:
    with serving(front(free_port())) as alone:
        status, _, said = answer(alone, "/api/v1/fleet")
    assert status == 502
    assert b"function web does not answer" in said


def test_forms_and_what_a_browser_keeps_are_handed_on_too() -> None:
    """The way from the sign-in page to an act, with the cookies of each answer."""
    world = World()
    put_people(world)
    put_tenant(world, "alpha")
    with serving(web.create_app(world.ports, LocalSignIn())) as behind, serving(front(behind)) as port:
        browser = Browser(port)
        assert browser.get("/")[0] == 401
        assert browser.post("/sign-in", email="admin@vendor.example") == (303, "/")
        assert browser.get("/")[0] == 200
        browser.get("/tenants/alpha")
        held = browser.post("/tenants/alpha/holds", reason="case 4711")
        assert held == (303, "/tenants/alpha?did=held")
        assert "case 4711" in browser.get("/tenants/alpha")[1]
        assert browser.post("/sign-out") == (303, "/sign-in")
        assert browser.get("/")[0] == 401


class Browser:
    """As much of one as a form needs: cookies, where it is, and the hidden fields of the page that it was given."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._cookies: dict[str, str] = {}
        self._page = ""

    def get(self, path: str) -> tuple[int, str]:
        status, _, self._page = self._send("GET", path, None)
        return status, self._page

    def post(self, path: str, **fields: str) -> tuple[int, str | None]:
        # Those that every form has.
        hidden = dict(re.findall(rf'name="({FORM_FIELD}|{KEY_FIELD})" value="([^"]+)"', self._page))
        status, led_to, _ = self._send("POST", path, urlencode(hidden | fields))
        return status, led_to

    def _send(self, method: str, path: str, body: str | None) -> tuple[int, str | None, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        headers = {
            "Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items()),
            "Origin": f"http://127.0.0.1:{self._port}",
            "Sec-Fetch-Site": "same-origin",
        }
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            for name, value in answer.getheaders():
                if name == "Set-Cookie":
                    morsel = next(iter(SimpleCookie(value).values()))
                    self._cookies[morsel.key] = morsel.value
            return answer.status, answer.getheader("Location"), answer.read().decode()
        finally:
            connection.close()

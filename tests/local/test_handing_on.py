"""The local cloud hands the pages and the API on to function `web` as they were asked for."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import flask
import pytest
from tests.makers import World
from tests.web.fleets import put_tenant
from tests.web.people import Somebody, put_people
from werkzeug.serving import make_server

from snapkeep import web
from snapkeep_local.emulators import free_port
from snapkeep_local.runner import add_pages

Wsgi = Callable[..., Any]


@contextmanager
def serving(app: Wsgi) -> Iterator[int]:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


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


def test_a_function_that_is_away_is_said(ports: tuple[int, int]) -> None:
    with serving(front(free_port())) as alone:
        status, _, said = answer(alone, "/api/v1/fleet")
    assert status == 502
    assert b"function web does not answer" in said

"""The API: views as JSON, problems as problem+json, the same for whatever is not there."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from flask.testing import FlaskClient
from tests.makers import World, point
from tests.web.fleets import put_points, put_tenant
from tests.web.people import client_of, put_people

from snapkeep import views
from snapkeep.ports import Doc, Query, Transient, Write
from snapkeep.web.pages import POLICY


@pytest.fixture
def world() -> World:
    one = World()
    put_people(one)
    put_tenant(one, "alpha")
    put_tenant(one, "beta", breached=True)
    put_points(one, "alpha", 3)
    return one


@pytest.fixture
def client(world: World) -> FlaskClient:
    return client_of(world.ports)


def problem(client: FlaskClient, path: str, status: int) -> str:
    answer = client.get(path)
    assert answer.status_code == status
    assert answer.mimetype == "application/problem+json"
    body = json.loads(answer.data)
    assert set(body) == {"type", "title", "status", "detail"}
    assert body["status"] == status
    return str(body["detail"])


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/api/v1/fleet", views.FleetView),
        ("/api/v1/tenants/alpha", views.TenantView),
        ("/api/v1/points", views.PointsView),
        ("/api/v1/points?tenant=alpha&state=requested", views.PointsView),
        ("/api/v1/points/20261101-o-alpha-app-00000001", views.PointView),
    ],
)
def test_a_view_is_sent_as_it_is(client: FlaskClient, path: str, kind: Any) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    view = msgspec.json.decode(answer.data, type=kind)
    assert msgspec.json.encode(view) == answer.data


def test_pages_of_points_follow_one_another(client: FlaskClient, world: World) -> None:
    put_points(world, "alpha", 70)
    first = json.loads(client.get("/api/v1/points").data)
    second = json.loads(client.get("/api/v1/points", query_string={"after": first["next"]}).data)
    ids = [one["id"] for one in first["points"] + second["points"]]
    assert len(set(ids)) == 70
    assert second["next"] is None


def test_what_is_not_there_is_answered_alike(client: FlaskClient) -> None:
    paths = [
        "/api/v1/tenants/nobody",
        "/api/v1/tenants/_system",
        "/api/v1/tenants/..%2Falpha",
        "/api/v1/points/none",
        "/api/v1/points/a%20b",
        f"/api/v1/points/{'9' * 3000}",
        "/api/v1/tenants/%C3%BC",
        "/api/v1/points/20261101-o-alpha-app-00000001?tenant=beta",
        "/api/v1/nonsense",
        "/api/v2/fleet",
        "/nonsense",
    ]
    assert {problem(client, path, 404) for path in paths} == {"there is nothing here"}


def test_another_method_than_get_is_refused(client: FlaskClient) -> None:
    for path in ("/api/v1/fleet", "/api/v1/tenants/alpha", "/api/v1/points", "/"):
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            assert client.open(path, method=method).status_code == 405


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/api/v1/fleet?after=x", "after: 'x' is not what a page of tenants ends with"),
        ("/api/v1/points?after=x", "after: 'x' is not what a page of points ends with"),
        ("/api/v1/points?stat=verified", "stat: no such parameter here; expected tenant, state, after"),
        ("/api/v1/tenants/alpha?x=1", "x: no such parameter here; none is expected"),
        ("/api/v1/points?state=verified&state=failed", "state: given more than once"),
        ("/api/v1/points?state=fine", "state: 'fine' is none of requested, creating, verified"),
        ("/api/v1/points?tenant=..", "tenant: '..' is no tenant's id"),
    ],
)
def test_a_wrong_parameter_is_said(client: FlaskClient, path: str, said: str) -> None:
    assert problem(client, path, 400).startswith(said)


def test_a_point_that_two_tenants_have_asks_for_the_tenant(client: FlaskClient, world: World) -> None:
    one = point()
    world.put((f"tenants/alpha/points/{one.id}", one), (f"tenants/beta/points/{one.id}", one))
    assert "alpha, beta" in problem(client, f"/api/v1/points/{one.id}", 409)
    assert json.loads(client.get(f"/api/v1/points/{one.id}?tenant=beta").data)["tenant"] == "beta"


class Away:
    """A database that does not answer."""

    def get(self, *paths: str) -> list[Doc | None]:
        raise Transient("secret-host did not answer")

    def find(self, query: Query) -> list[Doc]:
        raise Transient("secret-host did not answer")

    def commit(self, *writes: Write) -> None:
        raise AssertionError("whoever looks changes nothing")


def test_a_database_that_does_not_answer_is_said_without_its_name(world: World) -> None:
    world.documents = Away()
    client = client_of(world.ports)
    assert problem(client, "/api/v1/fleet", 503) == "the database did not answer; ask again"
    assert client.get("/api/v1/fleet").headers["Retry-After"] == "5"


@pytest.mark.parametrize("path", ["/", "/api/v1/fleet", "/api/v1/tenants/nobody"])
def test_every_answer_has_the_strict_headers(client: FlaskClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["Content-Security-Policy"] == POLICY
    assert "unsafe" not in POLICY
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Cache-Control"] == "no-store"

"""The page of a point, as it is sent. No browser."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient
from msgspec.structs import replace
from tests.makers import World
from tests.web.fleets import BOUGHT, put_copies, put_stored, put_tenant
from tests.web.people import ADMIN, client_of, put_people
from tests.web.test_pages import Inline
from tests.web.test_tenants import text

from snapkeep import documents as d


@pytest.fixture
def world() -> World:
    one = World()
    put_people(one, anna="beta")
    put_tenant(one, "alpha")
    put_tenant(one, "beta", deployment="private_saas")
    put_stored(one, "alpha", 7)
    return one


@pytest.fixture
def points(world: World) -> list[str]:
    """Points of alpha, the newest first, with copies as `put_copies` makes them."""
    return put_copies(world, "alpha")


@pytest.fixture
def admin(world: World) -> FlaskClient:
    return client_of(world.ports)


def change(world: World, point: str, **changes: object) -> None:
    path = f"tenants/alpha/points/{point}"
    world.put((path, replace(world.read(d.Point, path), **changes)))


def test_every_set_of_a_point_is_shown_with_its_snapshots(admin: FlaskClient, points: list[str]) -> None:
    shown = text(admin.get(f"/tenants/alpha/points/{points[1]}"))
    assert "At home in southamerica-east1 verified" in shown
    assert f"Copy in {BOUGHT} verified" in shown
    assert "Snapshots ready 1 of 1 Stored 2.0 GiB" in shown
    assert "acme-pam-1-boot boot, boot disk · pd-balanced, 100 GB" in shown
    assert shown.count("READY") == 2


def test_what_holds_a_point_what_it_lost_and_a_failed_test_stand_on_its_page(
    world: World, admin: FlaskClient, points: list[str]
) -> None:
    hold = d.Hold(id="h-0123456789ab", reason="case 4711", by=ADMIN, at=world.clock.now())
    name = world.read(d.Point, f"tenants/alpha/points/{points[1]}").disks[0].snapshot.name
    change(world, points[1], holds=[hold], held=True, gone=[name], usable=False)
    shown = text(admin.get(f"/tenants/alpha/points/{points[1]}"))
    assert "held until it is released: case 4711" in shown
    assert f"gone: {name}, though nobody here deleted it" in shown
    assert "a restore test of it failed: it is not to be relied on" in shown
    assert "Snapshots ready 0 of 1" in shown


def test_what_the_definition_left_out_is_named(world: World, admin: FlaskClient, points: list[str]) -> None:
    change(world, points[0], definition={"left_out": ["metadata startup-script"]})
    assert "metadata startup-script" in text(admin.get(f"/tenants/alpha/points/{points[0]}"))


def test_the_tenants_page_leads_to_each_point(admin: FlaskClient, points: list[str]) -> None:
    shown = admin.get("/tenants/alpha").text
    assert all(f'href="/tenants/alpha/points/{point}"' in shown for point in points)


def test_a_point_that_is_not_there_or_another_tenants_answers_alike(world: World, points: list[str]) -> None:
    browser = client_of(world.ports, "anna@beta.example")
    paths = (
        f"alpha/points/{points[0]}",
        f"beta/points/{points[0]}",
        "beta/points/..",
        "beta/points/x",
        "BETA/points/x",
    )
    assert {browser.get(f"/tenants/{path}").status_code for path in paths} == {404}


def test_nothing_inline_is_in_the_page(admin: FlaskClient, points: list[str]) -> None:
    inline = Inline()
    inline.feed(admin.get(f"/tenants/alpha/points/{points[1]}").text)
    assert inline.found == []

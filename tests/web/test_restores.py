"""The pages of restores, as they are sent, and what their forms do. No browser."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from flask.testing import FlaskClient
from msgspec.structs import replace
from tests.makers import World
from tests.web.fleets import BOUGHT, put_copies, put_stored, put_tenant
from tests.web.people import client_of, put_people
from tests.web.restores import ASKER, HASH, cancelled, completed, put_restore, restore, running
from tests.web.test_pages import Inline
from tests.web.test_tenants import send, text

from snapkeep import documents as d

FORMS = ("approval", "cancellation", "undo")


@pytest.fixture
def world() -> World:
    one = World()
    put_people(one, anna="beta")
    put_tenant(one, "alpha")
    put_tenant(one, "beta", deployment="private_saas")
    put_stored(one, "alpha", 7)
    return one


@pytest.fixture
def admin(world: World) -> FlaskClient:
    return client_of(world.ports)


@pytest.fixture
def asker(world: World) -> FlaskClient:
    return client_of(world.ports, ASKER)


@pytest.fixture
def point(world: World) -> str:
    """The page of a verified point, whose definition lacks a start-up script and two addresses."""
    id = put_copies(world, "alpha")[1]
    path = f"tenants/alpha/points/{id}"
    definition = {
        "machineType": "zones/southamerica-east1-a/machineTypes/n2-standard-4",
        "networkInterfaces": [{"network": "n", "networkIP": "10.0.0.5"}],
        "left_out": ["disk scratch (local SSD)", "metadata startup-script"],
    }
    world.put((path, replace(world.read(d.Point, path), definition=definition)))
    return f"/tenants/alpha/points/{id}"


def forms(answer: str) -> set[str]:
    return set(re.findall(r'action="[^"]*/restores/[^"]*/(\w+)"', answer))


def restores(world: World) -> list[d.Restore]:
    return [d.from_data(d.Restore, data) for path, data in world.documents_in("tenants/alpha/restores/")]


# --- planning and asking ------------------------------------------------------------------------------------------


def test_a_plan_says_all_and_changes_nothing(world: World, asker: FlaskClient, point: str) -> None:
    before = world.memory.dump()
    shown = send(asker, f"{point}/restores", point, mode="in_place", reason="case 4711", act="plan")
    said = text(shown)
    assert shown.status_code == 200
    assert "The plan: restores alpha-app in place, in southamerica-east1-a" in said
    assert "a second person must approve it" in said
    assert "alpha-app in southamerica-east1-a stops" in said
    assert "none has been measured yet" in said
    assert "Read what is there, before anything is changed Ask for a point of the state before Make the disks" in said
    assert world.memory.dump() == before


def test_what_is_lacking_is_supplied_or_waived_item_by_item(world: World, asker: FlaskClient, point: str) -> None:
    fields = {"mode": "new_instance", "name": "alpha-b", "reason": "case 4711"}
    shown = send(asker, f"{point}/restores", point, **fields, act="plan").text
    items = dict(re.findall(r'name="(item-\d)" value="([^"]+)"', shown))
    assert list(items.values()) == ["disk scratch (local SSD)", "metadata startup-script", "address nic0 10.0.0.5"]
    fields |= items | {"planned": re.findall(r'name="planned" value="([^"]*)"', shown)[0]}

    refused = send(asker, f"{point}/restores", point, **fields, act="request")
    assert refused.status_code == 422
    assert "nothing is said of 'disk scratch (local SSD)'" in text(refused)
    assert restores(world) == []

    fields |= {"value-0": "empty", "value-1": "#!/bin/sh\r\nstart\r\n", "waive-2": "on"}
    done = send(asker, f"{point}/restores", point, **fields, act="request")
    (made,) = restores(world)
    assert (done.status_code, done.headers["Location"]) == (303, f"/tenants/alpha/restores/{made.id}?did=requested")
    assert [(one.item, one.handled) for one in made.lacking] == [
        ("disk scratch (local SSD)", "supplied"),
        ("metadata startup-script", "supplied"),
        ("address nic0 10.0.0.5", "waived"),
    ]
    supplied = world.read(d.Supplied, f"tenants/alpha/supplied/{made.id}").values
    assert supplied["metadata startup-script"] == "#!/bin/sh\nstart\n"  # as it was typed, and not as browsers send it
    assert (made.target.name, made.requested_by) == ("alpha-b", ASKER)


def test_nobody_asks_for_what_he_has_not_seen_planned(world: World, asker: FlaskClient, point: str) -> None:
    fields = {"mode": "in_place", "reason": "case 4711", "act": "request", "planned": "disks|||"}
    shown = send(asker, f"{point}/restores", point, **fields)
    assert "was changed after it was planned" in text(shown)
    assert "The plan: restores alpha-app in place" in text(shown)
    assert restores(world) == []


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({"mode": "in_place", "name": "x", "reason": "r"}, 422, "name: given for in_place"),
        ({"mode": "new_instance", "reason": "r"}, 422, "name: missing"),
        ({"mode": "in_place"}, 422, "reason: missing"),
        ({"mode": "sideways", "reason": "r"}, 422, "mode: 'sideways' is not one"),
        ({"mode": "disks", "region": BOUGHT, "reason": "r"}, 409, "it has no multi_region_dr"),
    ],
)
def test_what_cannot_be_planned_is_refused_in_words(
    asker: FlaskClient, point: str, fields: dict[str, str], status: int, said: str
) -> None:
    shown = send(asker, f"{point}/restores", point, **fields, act="plan")
    assert shown.status_code == status
    assert said in text(shown)
    assert 'role="alert"' in shown.text


def test_only_whoever_may_ask_is_shown_the_form(world: World, point: str) -> None:
    assert "Restore from this point" in client_of(world.ports, ASKER).get(point).text
    viewer = client_of(world.ports, "viewer@vendor.example")
    assert "Restore from this point" not in viewer.get(point).text
    assert send(viewer, f"{point}/restores", "/sign-in", mode="disks", reason="r").status_code == 403


# --- the page of one ----------------------------------------------------------------------------------------------


def test_each_state_offers_what_may_be_done_in_it(world: World, admin: FlaskClient) -> None:
    at = world.clock.now()
    for one, expected in (
        (restore(at), {"approval", "cancellation"}),
        (restore(at, state="approved"), {"cancellation"}),
        (running(at), {"cancellation"}),
        (completed(at), {"undo"}),
        (cancelled(at), set()),
    ):
        assert forms(admin.get(put_restore(world, one)).text) == expected, one.state


def test_whoever_asked_is_told_that_another_has_to_approve(world: World, asker: FlaskClient) -> None:
    path = put_restore(world, restore(world.clock.now()))
    shown = asker.get(path)
    assert "approval" not in forms(shown.text)
    assert "You have asked for it, so somebody else has to approve it" in text(shown)
    refused = send(asker, f"{path}/approval", path, request_sha256=HASH)
    assert refused.status_code == 403
    assert "nobody approves his own request" in text(refused)
    assert restores(world)[0].state == "requested"


def test_the_page_shows_exactly_what_is_approved_and_approving_it_begins_it(world: World, admin: FlaskClient) -> None:
    path = put_restore(world, restore(world.clock.now()))
    said = text(admin.get(path))
    assert f"Hash of the request {HASH}" in said
    assert "Disks 2 disks, 200 GB" in said
    done = send(admin, f"{path}/approval", path, request_sha256=HASH)
    assert (done.status_code, done.headers["Location"]) == (303, f"{path}?did=approved")
    assert "Approved. It begins within a minute." in text(admin.get(done.headers["Location"]))
    assert restores(world)[0].approved_by == "admin@vendor.example"


def test_another_requests_hash_and_a_second_approval_are_refused(world: World, admin: FlaskClient) -> None:
    path = put_restore(world, restore(world.clock.now()))
    assert "not that of 20261122" in text(send(admin, f"{path}/approval", path, request_sha256="0" * 64))
    assert send(admin, f"{path}/approval", path, request_sha256=HASH).status_code == 303
    again = send(admin, f"{path}/approval", path, request_sha256=HASH)
    assert again.status_code == 409
    assert "an approval is used once" in text(again)


def test_a_running_one_is_cancelled_with_a_reason_and_says_what_it_takes_back(world: World, admin: FlaskClient) -> None:
    path = put_restore(world, running(world.clock.now()))
    assert send(admin, f"{path}/cancellation", path).status_code == 422
    assert send(admin, f"{path}/cancellation", path, reason="the wrong point").status_code == 303
    said = text(admin.get(path))
    assert "It was cancelled; what it did is being taken back" in said
    assert "taking back: Remove the disks that were made" in said
    assert "cancellation" not in forms(admin.get(path).text)


def test_a_completed_one_says_until_when_its_disks_are_kept_and_asks_for_its_undo(
    world: World, admin: FlaskClient
) -> None:
    path = put_restore(world, completed(world.clock.now()))
    said = text(admin.get(path))
    assert "kept until 2026-11-08 00:12Z" in said
    assert "Probe the tenant names none" in said
    done = send(admin, f"{path}/undo", path, reason="the wrong point")
    assert done.status_code == 303
    assert "puts the former disks of alpha-app back" in text(admin.get(done.headers["Location"])).lower()


def test_what_was_left_behind_is_named(world: World, admin: FlaskClient) -> None:
    said = text(admin.get(put_restore(world, cancelled(world.clock.now()))))
    assert "given up 2026-11-01 00:00Z by admin@vendor.example: the wrong point" in said
    assert "left, and to be removed by hand: projects/acme-prod/zones/southamerica-east1-a/disks/rs-alpha-app" in said


# --- live ---------------------------------------------------------------------------------------------------------


def test_an_open_page_is_told_only_what_changed_and_asks_no_more_once_it_has_ended(
    world: World, admin: FlaskClient
) -> None:
    at = world.clock.now()
    path = put_restore(world, running(at))
    asks = re.search(r'hx-get="([^"]+)"', admin.get(path).text)
    assert asks is not None
    world.clock.move(seconds=40)  # time alone changes nothing on it
    assert admin.get(asks[1]).status_code == 204
    put_restore(world, completed(at))
    told = admin.get(asks[1])
    assert told.status_code == 200
    assert "Completed in 12m 0s" in text(told)
    assert "hx-get" not in told.text
    assert "data-over" in told.text


def test_a_restore_that_waits_because_restores_are_paused_says_so(world: World, admin: FlaskClient) -> None:
    path = put_restore(world, restore(world.clock.now(), state="approved"))
    asks = re.search(r'hx-get="([^"]+)"', admin.get(path).text)
    assert asks is not None
    kinds = d.PausedKinds(restore=d.Paused(tenants=["alpha"]))
    world.put(("system/controls", d.Controls(updated_at=world.clock.now(), paused=kinds)))
    assert "Waits: restores are paused" in text(admin.get(asks[1]))


# --- the tenant's page, and who sees what -------------------------------------------------------------------------


def test_the_tenants_page_lists_its_restores_and_says_how_its_tests_stand(world: World, admin: FlaskClient) -> None:
    at = world.clock.now()
    path = put_restore(world, running(at))
    said = admin.get("/tenants/alpha")
    assert f'href="{path}"' in said.text
    assert "none: the fleet file asks for no restore_test" in text(said)
    owner = world.read(d.Tenant, "tenants/alpha")
    test = d.RestoreTest(every_days=30, network="projects/acme-prod/global/networks/closed")
    world.put(("tenants/alpha", replace(owner, restore_test=test, restore_test_at=at + timedelta(days=1))))
    assert "never had one; next 2026-11-02 00:00Z" in text(admin.get("/tenants/alpha"))


def test_a_restore_that_is_not_there_or_another_tenants_answers_alike(world: World) -> None:
    path = put_restore(world, restore(world.clock.now()))
    browser = client_of(world.ports, "anna@beta.example")
    beside = path.replace("alpha/", "beta/", 1)
    for one in (path, f"{path}/now", beside, "/tenants/beta/restores/..", "/tenants/beta/restores/x"):
        assert browser.get(one).status_code == 404
    for form in FORMS:
        for one in (path, beside, "/tenants/beta/restores/x", "/tenants/BETA/restores/x"):
            assert send(browser, f"{one}/{form}", "/tenants/beta", reason="r", request_sha256=HASH).status_code == 404


def test_nothing_inline_is_in_any_page_and_every_form_is_ours(world: World, admin: FlaskClient, point: str) -> None:
    at = world.clock.now()
    planned = send(admin, f"{point}/restores", point, mode="new_instance", name="b", reason="r", act="plan").text
    pages = [admin.get(put_restore(world, one)).text for one in (restore(at), running(at), completed(at))]
    for page in (planned, admin.get(point).text, *pages):
        inline = Inline()
        inline.feed(page)
        assert inline.found == []
        assert page.count("<form") == page.count('name="form_token"') == page.count('name="idempotency_key"')

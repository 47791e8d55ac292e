"""What people see of restores: a page of a tenant's, and one with all that follows from what is stored."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from tests.makers import THEN, World, tenant
from tests.restore.restores import restore, undoable
from tests.web.fleets import Counting
from tests.web.people import client_of, put_people

from snapkeep import documents as d
from snapkeep import views
from snapkeep.restore import rules


@pytest.fixture
def world() -> World:
    one = World()
    put_people(one)
    one.put(("tenants/acme", tenant()))
    return one


def put(world: World, *restores: d.Restore) -> None:
    world.put(*((f"tenants/acme/restores/{one.id}", one) for one in restores))


def view(world: World, one: d.Restore) -> views.RestoreView:
    put(world, one)
    found = views.restore_of(world.ports, "acme", one.id)
    assert found is not None
    return found


def test_pages_of_restores_follow_one_another_newest_first(world: World) -> None:
    made = [
        restore(id=f"20261101-p-acme-pam-1-{n:08x}", requested_at=THEN + timedelta(minutes=n)) for n in range(70)
    ]  # fmt: skip
    put(world, *made)
    first = views.restores(world.ports, "acme")
    assert first is not None
    assert first.next is not None
    second = views.restores(world.ports, "acme", first.next)
    assert second is not None
    assert [line.id for line in first.restores + second.restores] == [one.id for one in reversed(made)]
    assert second.next is None


def test_a_page_of_restores_costs_a_page_of_reads(world: World) -> None:
    put(world, *(restore(id=f"20261101-p-acme-pam-1-{n:08x}") for n in range(70)))
    counting = Counting(world.memory)
    world.documents = counting
    views.restores(world.ports, "acme")
    assert counting.reads == 51


def test_nothing_is_there_of_a_tenant_or_a_restore_that_is_not(world: World) -> None:
    assert views.restores(world.ports, "nobody") is None
    assert views.restore_of(world.ports, "acme", "20261101-p-acme-pam-1-00000001") is None
    client = client_of(world.ports)
    for path in ("nobody/restores", "acme/restores/20261101-p-acme-pam-1-00000001", "acme/restores/none"):
        assert client.get(f"/api/v1/tenants/{path}").status_code == 404
    assert client.get("/api/v1/tenants/acme/restores?after=x").status_code == 400


def test_what_waits_says_who_may_approve_it_until_its_time_is_over(world: World) -> None:
    waits = view(world, restore())
    assert (waits.approvers, waits.cancellable, waits.step) == (["operator", "admin"], True, None)
    world.clock.move(hours=4)
    assert view(world, restore()).approvers == []


def test_each_step_says_how_long_it_took_or_has_taken(world: World) -> None:
    def at(seconds: int) -> Any:
        return THEN + timedelta(seconds=seconds)

    first, second, third, *rest = rules.steps_of("in_place", "restore")
    steps = [
        replace(first, state="done", at=at(10)), replace(second, state="done", at=at(12)),
        replace(third, state="running", at=at(12)), *rest,
    ]  # fmt: skip
    world.clock.move(seconds=72)
    shown = view(world, restore(state="running", started_at=THEN, steps=steps))
    assert shown.step_took_s == [10, 2, 60, None, None, None, None, None, None]
    assert (shown.step, shown.running_s, shown.took_s) == ("create_disks", 72, None)


def test_a_completed_one_says_what_it_took_and_until_when_it_can_be_undone(world: World) -> None:
    done = view(world, undoable("20261101-p-acme-pam-1-00000002"))
    assert (done.took_s, done.running_s, done.cancellable, done.undo_refused) == (360, None, False, None)
    world.clock.move(days=7)
    late = view(world, undoable("20261101-p-acme-pam-1-00000002"))
    assert "were kept until 2026-11-08 00:00Z: restore a point instead" in str(late.undo_refused)


def test_both_are_sent_as_they_are(world: World) -> None:
    one = undoable("20261101-p-acme-pam-1-00000002")
    put(world, one)
    client = client_of(world.ports)
    for path, kind in (("", views.RestoresView), (f"/{one.id}", views.RestoreView)):
        answer = client.get(f"/api/v1/tenants/acme/restores{path}")
        assert answer.status_code == 200
        assert msgspec.json.encode(msgspec.json.decode(answer.data, type=kind)) == answer.data
    assert json.loads(answer.data)["tenant"] == "acme"

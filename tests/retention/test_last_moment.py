"""What comes between the beginning of a deletion and its last call, and what nobody may be harmed by."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace
from tests.retention.scene import DAY, HOUR, INSTANCE_ID, VAULT, Scene, meets
from tests.retention.test_handler import crowded, over_grace, pause

from snapkeep import documents as d
from snapkeep.discovery.rules import let_go
from snapkeep.ports import Refused, Replace, Transient
from snapkeep.retention import handler

KEEP_FIVE = d.Retention(keep_last=5, keep_daily=0, keep_weekly=0, keep_monthly=0, lock_days=0, keep_after_gone_days=90)
COURT = "court order"


refused = meets("start", Refused("permission missing", code=403, reason="forbidden"))


def hold(scene: Scene, kind: type[d.Tenant] | type[d.Instance], *path: str) -> None:
    held = d.Hold(id="h1", reason=COURT, by="admin@vendor.example", at=scene.cloud.now)
    scene.change(kind, *path, holds=[held])


# --- stopped in the last moment -------------------------------------------------------------------------------------


def test_a_pause_stops_the_snapshots_of_a_point_that_were_not_asked_for_yet() -> None:
    scene, _ = over_grace(2, disks=6)
    scene.effects.after = lambda effect: pause(scene, fleet=True) if effect.startswith("start") else None
    scene.tick()
    assert len(scene.deletions) == 1
    scene.effects.after = lambda _: None
    pause(scene)
    scene.wait(6 * HOUR)
    assert scene.states == ["deleted", "verified"]


@pytest.mark.parametrize(("kind", "path"), [(d.Tenant, ()), (d.Instance, ("instances", INSTANCE_ID))])
def test_a_hold_on_the_tenant_or_the_instance_stops_what_was_not_asked_for_yet(
    kind: type[d.Tenant] | type[d.Instance], path: tuple[str, ...]
) -> None:
    scene, ids = over_grace(4)
    scene.effects.after = lambda effect: (
        pause(scene, fleet=True) if effect.startswith("commit point.deleting") else None
    )
    scene.tick()
    scene.effects.after = lambda _: None
    hold(scene, kind, *path)
    pause(scene)
    scene.wait(12 * HOUR)
    assert (scene.deletions, [scene.there(id) for id in ids]) == ([], [True] * 4)
    scene.change(kind, *path, holds=[])
    scene.wait(12 * HOUR)
    assert scene.states == ["deleted", "deleted", "deleted", "verified"]


def test_a_hold_between_two_calls_stops_the_second() -> None:
    scene, _ = over_grace(3)
    scene.effects.after = lambda effect: hold(scene, d.Tenant) if effect.startswith("start") else None
    scene.tick()
    assert len(scene.deletions) == 1


def test_nothing_older_goes_while_the_newest_point_cannot_be_read_to_be_there() -> None:
    scene, ids = over_grace(4)
    for name in scene.names(ids[-1]):
        scene.cloud.remove_snapshot(f"projects/{VAULT}/global/snapshots/{name}")
    scene.wait(DAY)
    assert [scene.there(id) for id in ids[:-1]] == [True] * 3


# --- tenants that stay after all ------------------------------------------------------------------------------------


def offboarded(days_ago: int) -> tuple[Scene, list[str]]:
    scene = Scene(KEEP_FIVE)
    ids = scene.take_daily(3)
    leaving = d.Offboarding(at=scene.cloud.now, by="admin@vendor.example", reason="contract ended")
    scene.change(d.Tenant, offboarding=leaving)
    instance = scene.held(d.Instance, "instances", INSTANCE_ID)
    found = let_go(instance.value, scene.cloud.now)
    assert found is not None
    scene.memory.commit(instance.replaced(found.after))
    scene.cloud.advance(scene.cloud.now + timedelta(days=days_ago))
    scene.tick()
    assert scene.states == ["verified"] * 3
    return scene, ids


def test_a_tenant_that_stays_after_all_loses_nothing_though_its_project_cannot_be_read() -> None:
    scene, _ = offboarded(89)
    scene.change(d.Tenant, offboarding=None)
    scene.wait(timedelta(days=5))
    assert scene.states == ["verified"] * 3


def test_a_tenant_that_leaves_later_loses_nothing_before() -> None:
    scene, _ = offboarded(80)
    later = d.Offboarding(at=scene.cloud.now + timedelta(days=200), by="admin@vendor.example", reason="later")
    scene.change(d.Tenant, offboarding=later)
    scene.wait(timedelta(days=13))
    assert scene.states == ["verified"] * 3


def test_the_points_of_a_tenant_that_has_left_go_when_their_time_is_over() -> None:
    scene, _ = offboarded(89)
    scene.wait(timedelta(days=4))
    assert scene.states == ["deleted"] * 3


# --- what is not as it should be ------------------------------------------------------------------------------------


def test_a_deletion_is_finished_though_its_point_could_not_be_read_for_a_while() -> None:
    scene, ids = over_grace(3)
    scene.effects.before = meets("start", Transient("503"))
    scene.tick()
    scene.effects.before = lambda _: None
    path = f"tenants/acme/points/{ids[0]}"
    (doc,) = scene.memory.get(path)
    assert doc is not None
    good = dict(doc.data)
    scene.memory.commit(Replace(path, {**good, "state": "archived"}, doc.version))
    scene.wait(HOUR)
    (doc,) = scene.memory.get(path)
    assert doc is not None
    scene.memory.commit(Replace(path, good, doc.version))
    scene.wait(timedelta(days=2))
    assert scene.states == ["deleted", "deleted", "verified"]
    assert not scene.there(ids[0])


def test_a_point_that_cannot_be_stops_its_own_instance_and_no_other() -> None:
    scene = Scene()
    scene.add_instance("2")
    for instance in (INSTANCE_ID, "2"):
        scene.take(instance=instance)
        scene.take(instance=instance)
    odd = scene.take(instance="2")
    scene.change(d.Point, "points", odd, state="expiring")  # and nothing says what it was
    scene.wait(timedelta(days=2))
    refused = [record for record in scene.records() if record["action"] == "retention.refused"]
    assert {record["subject"] for record in refused} == {"instances/2"}
    assert len(refused) <= 3
    assert scene.states.count("deleted") == 1, "the other instance's older point"


# --- bounds ---------------------------------------------------------------------------------------------------------


def test_what_is_asked_for_again_is_of_the_same_bound_as_what_begins() -> None:
    scene = crowded(21, disks=3)
    scene.effects.before = meets("start", Transient("503", reason="resourceNotReady"))
    scene.wait(3 * HOUR)
    scene.effects.before = lambda _: None
    most = 0
    for _ in range(40):
        before = len(scene.deletions)
        scene.cloud.advance(scene.cloud.now + timedelta(minutes=10))
        scene.tick()
        most = max(most, len(scene.deletions) - before)
    assert 60 < most <= handler.DELETES_PER_RUN_MAX + 3 * 1, "at most one point more than the bound"


def test_while_deletions_are_refused_the_points_are_not_read_at_every_tick() -> None:
    scene = Scene()
    for _ in range(40):
        scene.take()
    scene.tick()
    scene.cloud.advance(scene.cloud.now + DAY)
    walks = 0

    def counted(effect: str) -> None:
        nonlocal walks
        walks += effect.startswith("find tenants/acme/points")
        refused(effect)

    scene.effects.before = counted
    scene.wait(timedelta(days=1))
    walks = 0
    scene.wait(timedelta(days=1))
    assert walks <= 10


def test_people_are_told_once_of_a_deletion_that_does_not_come_to_its_end() -> None:
    scene, ids = over_grace(2)
    scene.effects.before = refused
    scene.wait(timedelta(days=3))
    [event] = [event for event in scene.events() if event["type"] == "point.deletion_stuck"]
    assert (event["data"]["point"], event["data"]["failure"]["code"]) == (ids[0], "forbidden")
    scene.effects.before = lambda _: None
    scene.wait(timedelta(days=1))
    assert scene.states == ["deleted", "verified"]


def test_what_an_override_let_go_and_the_run_did_not_begin_is_not_called_back_by_the_breach() -> None:
    scene, _ = over_grace(3)
    override = d.Override(id="o1", reason="space", by="admin@vendor.example", at=scene.cloud.now)
    late = scene.cloud.now - timedelta(hours=1)
    scene.change(d.Instance, "instances", INSTANCE_ID, override=override, breach_at=late)
    scene.wait(2 * HOUR)
    assert scene.states == ["deleted", "deleted", "verified"]
    assert replace(scene.instance, override=None) == scene.instance

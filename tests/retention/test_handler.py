"""`retention` and `expire` on memory ports and the local cloud: what nobody keeps goes, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from msgspec.structs import replace
from tests.retention.scene import DAY, HOUR, INSTANCE_ID, NOW, POLICY, PROJECT, REGION, VAULT, ZONE, Death, Scene, meets

from snapkeep import documents as d
from snapkeep.messages import BadMessage, ExpireBatch, Nudge
from snapkeep.ports import Conflict, Transient
from snapkeep.retention import deletion, handler, rules
from snapkeep_local.faults import DeletionLies, ErrorAfter, ErrorBefore, Fault, OperationFails, Slow, Stuck

KEEP_ALL = d.Retention(keep_last=1000, lock_days=0)


def expiring(days: int = 3, **changes: Any) -> tuple[Scene, list[str]]:
    """Points of some days, of which all but the newest were found to be unwanted just now."""
    scene = Scene()
    ids = scene.take_daily(days, **changes)
    scene.tick()
    assert scene.states == ["expiring"] * (days - 1) + ["verified"]
    return scene, ids


def over_grace(days: int = 3, **changes: Any) -> tuple[Scene, list[str]]:
    """The same at the end of their grace, before the tick that lets them go."""
    scene, ids = expiring(days, **changes)
    scene.cloud.advance(scene.cloud.now + DAY)
    return scene, ids


def crowded(points: int, *, disks: int) -> Scene:
    """Four instances with so many points each, at the end of the grace of all but the newest of each."""
    scene = Scene()
    for number in range(4):
        scene.add_instance(str(number))
        for _ in range(points):
            scene.take(disks=disks, instance=str(number))
    scene.tick()
    scene.cloud.advance(scene.cloud.now + DAY)
    return scene


# --- the two phases -------------------------------------------------------------------------------------------------


def test_what_nobody_keeps_expires_and_is_there_for_a_day_and_then_goes() -> None:
    scene, (first, second, newest) = expiring()
    expiry = scene.point(first).expiry
    assert expiry is not None
    assert (expiry.was, expiry.reason) == ("verified", "no rule keeps it")
    assert expiry.delete_after == scene.cloud.now + DAY
    scene.wait(DAY - timedelta(minutes=10))
    assert scene.deletions == []
    scene.wait(HOUR)
    assert scene.states == ["deleted", "deleted", "verified"]
    assert [scene.there(id) for id in (first, second, newest)] == [False, False, True]
    assert sorted(scene.deletions) == sorted(scene.names(first) + scene.names(second))


def test_the_intent_is_committed_before_the_deletion_is_asked_for() -> None:
    scene, _ = over_grace()
    scene.tick()
    effects = [effect for effect in scene.effects.seen if effect.startswith(("start", "commit point"))]
    assert effects[0].startswith("commit point.deleting")
    assert effects[1].startswith("start ")


def test_every_deletion_has_one_intent_and_one_outcome() -> None:
    scene, ids = over_grace(disks=2)
    scene.wait(HOUR)
    names = [(name, 1) for id in ids[:2] for name in scene.names(id)]
    assert sorted(scene.intents()) == sorted(names)
    assert sorted(scene.outcomes()) == sorted((*name, "succeeded") for name in names)


def test_a_deleted_point_is_told_and_leaves_its_instance() -> None:
    scene, (first, _, newest) = over_grace()
    before = scene.instance.tally
    scene.wait(HOUR)
    point, instance = scene.point(first), scene.instance
    assert (point.stored_for, point.next_at) == (None, None)
    assert [disk.snapshot.status for disk in point.disks] == ["GONE"]
    assert [event["type"] for event in scene.events()] == ["point.deleted"] * 2
    assert scene.events()[0]["data"]["reason"] == "no rule keeps it"
    assert instance.tally == replace(before, stored=before.stored - 2, bytes=before.bytes - 2000)
    assert instance.retention.deleting == []
    assert instance.newest_verified is not None
    assert instance.newest_verified.point == newest


def test_what_is_settled_is_not_touched_again() -> None:
    scene, _ = over_grace()
    scene.wait(HOUR)
    before = scene.memory.dump()
    scene.weigh()
    scene.weigh()
    after = scene.memory.dump()
    assert {path: data for path, data in after.items() if "/points/" in path} == {
        path: data for path, data in before.items() if "/points/" in path
    }
    assert len(scene.deletions) == 2


def test_an_instance_is_looked_at_once_a_day_and_no_more_where_nothing_of_it_is_stored() -> None:
    scene = Scene()
    scene.take()
    scene.tick()
    assert scene.instance.retention_at == scene.cloud.now + rules.LOOK_AGAIN
    empty = Scene()
    empty.weigh()
    assert (empty.instance.retention_at, empty.instance.retention) == (None, d.RetentionWork())


def test_what_expires_is_weighed_again_when_its_grace_ends_however_long_that_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # By itself it is as long as LOOK_AGAIN, and it could not be seen which of the two is gone by.
    monkeypatch.setattr(rules, "EXPIRY_GRACE", 3 * HOUR)
    scene, _ = expiring()
    scene.wait(4 * HOUR)
    assert scene.states == ["deleted", "deleted", "verified"]


def test_the_week_ahead_is_counted_for_health() -> None:
    scene = Scene()
    scene.take_daily(3)
    scene.tick()
    work = scene.instance.retention
    assert (work.going, work.going_bytes) == (3, 3000), "two expire now, and tomorrow's point replaces the newest"


def test_what_is_locked_until_the_last_day_of_the_week_has_its_grace_before_it_yet() -> None:
    for days, going in ((5.9, 1), (6.1, 0)):
        scene = Scene()
        first, _ = scene.take_daily(2)
        scene.change(d.Point, "points", first, lock_until=scene.cloud.now + timedelta(days=days))
        scene.change(d.Tenant, schedule_switch=None, deployment="private_saas")  # so that none comes by itself
        scene.tick()
        assert scene.instance.retention.going == going


def test_in_breach_nothing_is_said_to_go() -> None:
    scene, _ = expiring(4)
    scene.change(d.Instance, "instances", INSTANCE_ID, breach_at=scene.cloud.now)
    scene.weigh()
    assert (scene.instance.retention.going, scene.states) == (0, ["verified"] * 4)


def test_what_is_gone_is_no_longer_counted_as_going() -> None:
    scene, _ = over_grace(3)
    scene.change(d.Tenant, schedule_switch=None, deployment="private_saas")
    scene.wait(HOUR)
    assert (scene.states, scene.instance.retention.going) == (["deleted", "deleted", "verified"], 0)


# --- what keeps a point after all -----------------------------------------------------------------------------------

HOLD = d.Hold(id="h1", reason="case 4711", by="admin@vendor.example", at=NOW)


def hold_point(scene: Scene, id: str) -> None:
    scene.change(d.Point, "points", id, holds=[HOLD])


def hold_instance(scene: Scene, id: str) -> None:
    scene.change(d.Instance, "instances", INSTANCE_ID, holds=[HOLD])


def hold_tenant(scene: Scene, id: str) -> None:
    scene.change(d.Tenant, holds=[HOLD])


HOLDS = pytest.mark.parametrize("hold", [hold_point, hold_instance, hold_tenant])


@HOLDS
def test_a_hold_in_its_grace_calls_a_point_back(hold: Callable[[Scene, str], None]) -> None:
    scene, (first, *_) = expiring()
    hold(scene, first)
    scene.wait(DAY + HOUR)
    assert scene.point(first).state == "verified"
    assert scene.point(first).expiry is None
    assert scene.there(first)


@HOLDS
def test_a_hold_that_comes_between_the_plan_and_the_deletion_wins(hold: Callable[[Scene, str], None]) -> None:
    scene, (first, *_) = over_grace()

    def held_meanwhile(effect: str) -> None:
        if effect.startswith("commit point.deleting"):
            scene.effects.before = lambda effect: None
            hold(scene, first)

    scene.effects.before = held_meanwhile
    scene.tick()
    assert scene.deletions == []
    scene.wait(HOUR)
    assert scene.point(first).state == "verified"
    assert scene.there(first)


def test_another_policy_calls_points_back() -> None:
    scene, _ = expiring()
    scene.change(d.Tenant, retention=KEEP_ALL)
    scene.hand("retention", Nudge(tenants=["acme", "_system"]))
    scene.deliver()
    assert scene.states == ["verified"] * 3
    (called_back,) = [r for r in scene.records("retention.decided") if "called_back" in r["detail"]]
    assert len(called_back["detail"]["called_back"]) == 2


def test_a_locked_point_stays_until_its_lock_ends() -> None:
    scene = Scene()
    first = scene.take(lock_until=NOW + 5 * DAY)
    scene.take()
    scene.wait(4 * DAY)
    assert scene.point(first).state == "verified"
    scene.wait(2 * DAY + HOUR)
    assert scene.point(first).state == "deleted"


def test_an_instance_in_breach_keeps_what_it_has() -> None:
    scene, _ = expiring()
    scene.change(d.Tenant, rpo_hours=1)
    scene.wait(3 * DAY)
    assert scene.states == ["verified"] * 3
    assert scene.deletions == []


def test_an_override_lets_points_of_an_instance_in_breach_go_once() -> None:
    scene, (first, second, third) = expiring()
    scene.change(d.Tenant, rpo_hours=1)
    override = d.Override(id="o1", reason="quota", by="admin@vendor.example", at=NOW)
    scene.change(d.Instance, "instances", INSTANCE_ID, override=override)
    scene.weigh()
    assert scene.instance.override is None
    assert [point.expiry and point.expiry.override for point in map(scene.point, (first, second))] == ["o1", "o1"]
    assert [record["detail"]["override"] for record in scene.records("override.used")] == ["o1"]
    fourth = scene.take()
    scene.change(d.Tenant, rpo_hours=0)  # in breach again, and nobody overrides
    scene.wait(2 * DAY)
    assert [scene.point(id).state for id in (first, second, third, fourth)] == [
        "deleted", "deleted", "verified", "verified",
    ]  # fmt: skip


def test_a_lost_instances_points_go_to_the_last() -> None:
    scene = Scene(replace(POLICY, keep_after_gone_days=10))
    first, newest = scene.take_daily(2)
    scene.change(d.Instance, "instances", INSTANCE_ID, lost_at=scene.cloud.now, lost_reason="gone")
    scene.wait(9 * DAY)
    assert (scene.point(first).state, scene.point(newest).state) == ("deleted", "verified")
    scene.wait(3 * DAY)
    assert scene.point(newest).state == "deleted"
    assert (scene.instance.newest_verified, scene.instance.tally.bytes) == (None, 0)
    assert scene.instance.retention_at is None
    assert scene.cloud.snapshots() == []


def test_the_newest_verified_of_what_is_left_takes_over() -> None:
    scene = Scene(KEEP_ALL)
    first, newest = scene.take_daily(2)
    scene.change(d.Instance, "instances", INSTANCE_ID, lost_at=scene.cloud.now, lost_reason="gone")
    scene.change(d.Point, "points", newest, usable=False)
    scene.wait(2 * DAY)
    assert (scene.point(first).state, scene.point(newest).state) == ("verified", "deleted")
    assert scene.instance.newest_verified is not None
    assert scene.instance.newest_verified.point == first


def test_a_plan_that_would_lose_the_newest_point_is_refused_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    scene, _ = over_grace()

    def mistaken(*_: Any) -> rules.RetentionPlan:
        raise rules.UnsafePlan("would lose the newest")

    monkeypatch.setattr(rules, "plan", mistaken)  # no points lead the real rules to such a plan
    scene.wait(HOUR)
    assert scene.deletions == []
    (refused,) = scene.records("retention.refused")
    assert (refused["outcome"], refused["detail"]["why"]) == ("refused", "would lose the newest")
    monkeypatch.undo()
    scene.wait(DAY + HOUR)
    assert scene.states == ["deleted", "deleted", "verified"]


# --- ours, and others' ----------------------------------------------------------------------------------------------


def test_a_foreign_snapshot_that_took_the_name_survives() -> None:
    scene, (first, *_) = over_grace()
    (name,) = scene.names(first)
    scene.cloud.remove_snapshot(f"projects/{VAULT}/global/snapshots/{name}")
    scene.cloud.plant_snapshot(project=VAULT, name=name)
    scene.wait(HOUR)
    assert name not in scene.deletions
    assert scene.there(first)
    assert scene.point(first).state == "deleted", "ours is gone"
    (outcome,) = [o for r in scene.records("point.deleted") for o in r["detail"]["outcomes"] if o["name"] == name]
    assert outcome["code"] == "not_ours"


def test_a_name_that_is_taken_while_it_is_being_freed_is_left_alone() -> None:
    scene, (first, *_) = over_grace()
    (name,) = scene.names(first)
    scene.tick()
    scene.cloud.advance(scene.cloud.now + timedelta(minutes=1))
    scene.cloud.plant_snapshot(project=VAULT, name=name)
    scene.wait(2 * DAY)
    assert scene.there(first)
    assert scene.deletions.count(name) == 1


def test_labels_make_no_snapshot_ours() -> None:
    scene, (first, *_) = over_grace()
    labels = {"snapkeep-tenant": "acme", "snapkeep-point": first, "snapkeep-role": "home"}
    disk = f"projects/{PROJECT}/zones/{ZONE}/disks/disk-0"
    scene.cloud.plant_snapshot(project=VAULT, name="sk-forged", labels=labels, source_disk=disk, location=REGION)
    scene.wait(2 * DAY)
    assert scene.snapshot("sk-forged") is not None
    assert scene.states == ["deleted", "deleted", "verified"]


def failed(scene: Scene, **changes: Any) -> str:
    """A point that failed before anybody read its snapshots, beside one that is good."""
    id = scene.take(state="failed", **{"noted": False, **changes})
    scene.cloud.advance(scene.cloud.now + DAY)
    scene.take()
    return id


def test_a_failed_point_goes_after_its_own_grace_with_what_it_left() -> None:
    scene = Scene(KEEP_ALL)
    id = failed(scene, attempts=3)
    scene.wait(rules.FAILED_KEPT - DAY - HOUR)
    assert scene.point(id).state == "failed"
    scene.wait(DAY + 3 * HOUR)
    assert scene.point(id).state == "deleted"
    assert sorted(scene.deletions) == sorted(scene.names(id))
    assert len(scene.deletions) == 3, "those of former attempts too"


def test_the_id_of_a_snapshot_that_nobody_had_read_is_committed_before_it_goes() -> None:
    scene = Scene(KEEP_ALL)
    id = failed(scene)
    scene.wait(rules.FAILED_KEPT)

    def look(effect: str) -> None:
        if effect.startswith("start "):
            assert scene.point(id).disks[0].snapshot.id is not None

    scene.effects.before = look
    scene.wait(DAY)
    assert scene.deletions == scene.names(id)


def test_a_failed_point_that_left_nothing_is_deleted_without_a_call() -> None:
    scene = Scene(KEEP_ALL)
    id = failed(scene, made=False)
    scene.wait(rules.FAILED_KEPT + DAY)
    assert scene.point(id).state == "deleted"
    assert (scene.deletions, scene.outcomes()) == ([], [])


@pytest.mark.parametrize(
    "forged",
    [
        {"labels": {}},
        {"labels": {"snapkeep-tenant": "other"}},
        {"location": "us-east4"},
        {"source_disk": None},
    ],
    ids=lambda forged: next(iter(forged)),
)
def test_what_was_never_read_and_is_not_all_that_was_asked_for_is_left_alone(forged: dict[str, Any]) -> None:
    scene = Scene(KEEP_ALL)
    scene.cloud.add_disk(project=PROJECT, zone=ZONE, name="other")
    id = failed(scene, made=False)
    labels = {"snapkeep-tenant": "acme", "snapkeep-point": id, "snapkeep-role": "home"}
    ours = {"labels": labels, "source_disk": f"projects/{PROJECT}/zones/{ZONE}/disks/disk-0", "location": REGION}
    scene.cloud.plant_snapshot(project=VAULT, name=scene.names(id)[0], **{**ours, **forged})
    scene.wait(rules.FAILED_KEPT + DAY)
    assert scene.point(id).state == "deleted"
    assert scene.there(id)
    assert scene.deletions == []


def test_a_snapshot_from_before_the_point_is_not_its_own() -> None:
    scene = Scene(KEEP_ALL)
    id = failed(scene, started_at=NOW + HOUR)
    scene.wait(rules.FAILED_KEPT + DAY)
    assert scene.there(id)


# --- what goes wrong ------------------------------------------------------------------------------------------------


def test_a_deletion_that_reports_success_and_did_not_happen_is_asked_for_again() -> None:
    scene, (first, *_) = over_grace(2)
    scene.cloud.add_fault(Fault(effect=DeletionLies(), count=2))
    scene.wait(3 * HOUR)
    (name,) = scene.names(first)
    assert scene.deletions == [name] * 3
    assert scene.intents() == [(name, 1), (name, 2), (name, 3)]
    assert scene.outcomes() == [(name, 1, "failed"), (name, 2, "failed"), (name, 3, "succeeded")]
    assert scene.states == ["deleted", "verified"]


@pytest.mark.parametrize(
    "effect",
    [
        ErrorBefore(),
        ErrorAfter(),
        ErrorBefore(status=403, reason="rateLimitExceeded"),
        ErrorBefore(status=403, reason="forbidden", message="permission missing"),
        OperationFails(),
        Stuck(),
        Slow(factor=60),
        DeletionLies(),
    ],
    ids=lambda effect: type(effect).__name__,
)
def test_whatever_a_deletion_meets_it_comes_to_its_end(effect: Any) -> None:
    scene, ids = over_grace(disks=3)
    scene.cloud.add_fault(Fault(effect=effect, method="snapshots.delete", count=4))
    scene.wait(DAY)
    assert scene.states == ["deleted", "deleted", "verified"]
    asked, ended = scene.intents(), scene.outcomes()
    assert sorted(asked) == sorted((name, attempt) for name, attempt, _ in ended)
    assert len(set(asked)) == len(asked)
    assert {name for name, _, outcome in ended if outcome == "succeeded"} == {
        name for id in ids[:2] for name in scene.names(id)
    }


def test_what_stands_in_the_way_is_written_down() -> None:
    scene, (first, *_) = over_grace(2)
    refusal = ErrorBefore(status=403, reason="forbidden", message="permission missing")
    scene.cloud.add_fault(Fault(effect=refusal, method="snapshots.delete", count=1))
    scene.tick()
    expiry = scene.point(first).expiry
    assert expiry is not None
    assert expiry.failure == d.Failure(code="forbidden", message="permission missing")
    scene.wait(HOUR)
    (again,) = scene.records("point.deletion_repeated")
    assert again["detail"]["outcomes"][0]["code"] == "forbidden"
    assert scene.point(first).state == "deleted"


def test_a_vault_that_cannot_be_read_keeps_nobody_else_waiting() -> None:
    scene, _ = over_grace()
    scene.tick()
    down = scene.cloud.add_fault(Fault(effect=ErrorBefore(), method="snapshots.list", resource=VAULT))
    scene.add_instance("2")
    other = [scene.take(instance="2") for _ in range(2)]
    scene.wait(HOUR)
    assert [scene.point(id).state for id in other] == ["expiring", "verified"]
    assert scene.instance.retention.deleting != []
    assert scene.instance.retention_at is not None
    assert scene.instance.retention_at > scene.cloud.now
    scene.cloud.clear_faults(down)
    scene.wait(HOUR)
    assert scene.instance.retention.deleting == []


def test_pauses_between_repeated_deletions_grow_and_are_bounded() -> None:
    scene, _ = over_grace(2)
    scene.cloud.add_fault(Fault(effect=DeletionLies()))
    times = []
    for _ in range(24 * 6 * 2):
        before = len(scene.deletions)
        scene.wait(timedelta(minutes=10))
        times += [scene.cloud.now] * (len(scene.deletions) - before)
    gaps = [late - early for early, late in pairwise(times)]
    assert gaps == sorted(gaps)
    assert gaps[0] <= timedelta(minutes=20)
    assert deletion.ASK_AGAIN_MAX <= gaps[-1] <= deletion.ASK_AGAIN_MAX + timedelta(minutes=20)


# --- pausing --------------------------------------------------------------------------------------------------------


def pause(scene: Scene, **where: Any) -> None:
    paused = d.PausedKinds(deletion=d.Paused(**where))
    scene.put("system/controls", d.Controls(updated_at=scene.cloud.now, paused=paused))


WHERE = pytest.mark.parametrize(
    "where", [{"fleet": True}, {"projects": [PROJECT]}, {"projects": [VAULT]}, {"tenants": ["acme"]}], ids=str
)


@WHERE
def test_while_deletion_is_paused_nothing_new_is_marked_or_begun(where: dict[str, Any]) -> None:
    scene, (first, second, third) = over_grace()
    fourth = scene.take()
    pause(scene, **where)
    scene.wait(2 * DAY)
    assert [scene.point(id).state for id in (first, second, third, fourth)] == [
        "expiring", "expiring", "verified", "verified",
    ]  # fmt: skip
    assert scene.deletions == []
    scene.change(d.Point, "points", first, holds=[HOLD])
    scene.wait(2 * HOUR)
    assert scene.point(first).state == "verified", "what is kept after all is called back all the same"
    pause(scene)
    scene.wait(DAY + 2 * HOUR)
    assert [scene.point(id).state for id in (first, second, third, fourth)] == [
        "verified", "deleted", "deleted", "verified",
    ]  # fmt: skip


@WHERE
def test_a_pause_that_comes_after_the_commit_stops_the_calls(where: dict[str, Any]) -> None:
    scene, _ = over_grace()

    def paused_meanwhile(effect: str) -> None:
        if effect.startswith("commit point.deleting"):
            pause(scene, **where)

    scene.effects.after = paused_meanwhile
    scene.wait(DAY)
    assert scene.deletions == []
    scene.effects.after = lambda effect: None
    pause(scene)
    scene.wait(8 * HOUR)
    assert scene.states == ["deleted", "deleted", "verified"]


def test_what_was_asked_for_before_a_pause_is_read_back_in_it() -> None:
    scene, _ = over_grace()
    scene.tick()
    pause(scene, fleet=True)
    scene.wait(HOUR)
    assert scene.states == ["deleted", "deleted", "verified"]


# --- bounds ---------------------------------------------------------------------------------------------------------


def test_one_run_begins_no_more_deletions_for_a_tenant_than_its_bound() -> None:
    scene = crowded(2, disks=45)
    scene.tick()
    assert len(scene.deletions) == 90 <= handler.DELETES_PER_RUN_MAX
    scene.wait(HOUR)
    assert len(scene.deletions) == 180


def test_a_point_with_more_snapshots_than_the_bound_goes_all_the_same() -> None:
    scene, (first, _) = over_grace(2, disks=handler.DELETES_PER_RUN_MAX + 8)
    scene.wait(HOUR)
    assert scene.point(first).state == "deleted"


def test_an_instance_has_so_many_deletions_under_way_at_once() -> None:
    scene = Scene()
    for _ in range(handler.POINTS_AT_ONCE + 6):
        scene.take()
    scene.tick()
    scene.cloud.advance(scene.cloud.now + DAY)
    scene.tick()
    assert len(scene.instance.retention.deleting) == len(scene.deletions) == handler.POINTS_AT_ONCE
    scene.wait(HOUR)
    assert scene.states == ["deleted"] * (handler.POINTS_AT_ONCE + 5) + ["verified"]


def test_a_tenant_gets_one_message_a_run_and_the_rest_is_due_still() -> None:
    scene = Scene()
    for number in range(60):
        scene.add_instance(str(100 + number), retention_at=NOW, retention=d.RetentionWork(plan_at=NOW))
    sent: list[str] = []
    scene.effects.before = lambda effect: sent.append(effect) if effect.startswith("publish") else None
    scene.tick()
    assert sent == ["publish snapkeep-expire"]

    def due() -> int:
        return sum(
            data["retention_at"] is not None for path, data in scene.memory.dump().items() if "/instances/" in path
        )

    assert due() == 10
    scene.tick()
    assert due() == 0


# --- messages -------------------------------------------------------------------------------------------------------


def test_a_tenant_that_is_none_is_a_bad_message() -> None:
    with pytest.raises(BadMessage, match="'nobody' is not a tenant"):
        handler.expire(ExpireBatch(tenant="nobody", instances=["1"]), Scene().of("expire"))


def test_an_instance_that_is_not_due_or_not_there_is_left_alone() -> None:
    scene, _ = over_grace()
    scene.change(d.Instance, "instances", INSTANCE_ID, retention_at=scene.cloud.now + HOUR)
    scene.hand("expire", ExpireBatch(tenant="acme", instances=[INSTANCE_ID, INSTANCE_ID, "404"]))
    assert scene.deletions == []


def test_a_lost_hint_delays_and_loses_nothing() -> None:
    scene, _ = over_grace()
    scene.effects.before = meets("publish", Transient("down"))
    scene.tick()
    scene.effects.before = lambda effect: None
    scene.wait(HOUR)
    assert scene.states == ["deleted", "deleted", "verified"]


# --- dying, and two at once -----------------------------------------------------------------------------------------


def settled(scene: Scene, ids: list[str]) -> None:
    """All has come to its end as if nothing had happened."""
    scene.wait(8 * HOUR)
    assert scene.states == ["deleted"] * (len(ids) - 1) + ["verified"]
    assert [scene.there(id) for id in ids] == [False] * (len(ids) - 1) + [True]
    asked, ended = scene.intents(), scene.outcomes()
    assert len(set(asked)) == len(asked)
    assert sorted(asked) == sorted((name, attempt) for name, attempt, _ in ended)
    names = [name for id in ids[:-1] for name in scene.names(id)]
    assert sorted(name for name, _, outcome in ended if outcome == "succeeded") == sorted(names)
    assert len([event for event in scene.events() if event["type"] == "point.deleted"]) == len(ids) - 1
    assert scene.instance.retention.deleting == []
    assert scene.instance.tally.bytes == 1000 * len(scene.names(ids[-1]))


def undisturbed_effects() -> int:
    """How many effects the tick that begins the deletions, and the next that reads them back, have."""
    scene, _ = over_grace(disks=2)
    count = 0

    def counted(effect: str) -> None:
        nonlocal count
        count += 1

    scene.effects.before = counted
    scene.tick()
    scene.wait(timedelta(minutes=10))
    return count


EFFECTS = undisturbed_effects()


def at_effect(number: int, happens: Callable[[str], None]) -> Callable[[str], None]:
    """For `before` or `after` of Effects: this happens at the effect of that number, from 1, and at no other."""
    seen: list[str] = []

    def counted(effect: str) -> None:
        seen.append(effect)
        if len(seen) == number:
            happens(effect)

    return counted


@pytest.mark.parametrize("fatal", range(1, EFFECTS + 1))
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_process_may_die_at_every_effect(when: str, fatal: int) -> None:
    scene, ids = over_grace(disks=2)

    def die(effect: str) -> None:
        raise Death(effect)

    setattr(scene.effects, when, at_effect(fatal, die))
    for _ in range(2):
        try:
            scene.tick()
        except Death:
            break
        scene.cloud.advance(scene.cloud.now + timedelta(minutes=10))
    scene.effects.before = scene.effects.after = lambda effect: None
    settled(scene, ids)


@pytest.mark.parametrize("at", range(1, EFFECTS + 1))
def test_two_runs_may_do_the_same_at_once(at: int) -> None:
    scene, ids = over_grace(disks=2)
    again = ExpireBatch(tenant="acme", instances=[INSTANCE_ID])
    scene.effects.before = at_effect(at, lambda effect: scene.hand("expire", again))
    scene.tick()
    scene.cloud.advance(scene.cloud.now + timedelta(minutes=10))
    scene.tick()
    settled(scene, ids)


@pytest.mark.parametrize("lost", [Conflict("planted"), Transient("planted")], ids=repr)
def test_a_commit_whose_answer_is_lost_is_found_to_have_happened(lost: Exception) -> None:
    scene, ids = over_grace(disks=2)

    def answer_lost(effect: str) -> None:
        if effect.startswith("commit point.deleting"):
            scene.effects.after = lambda effect: None
            raise lost

    scene.effects.after = answer_lost
    try:
        scene.tick()
    except Transient:
        scene.bus.drop(scene.bus.pending()[0])
    settled(scene, ids)

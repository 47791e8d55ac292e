"""What one read of instant snapshots means to a point: the cases that a well-behaved cloud never shows."""

from collections.abc import Callable, Mapping
from dataclasses import replace as changed
from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from tests.creation.scene import BOUGHT
from tests.makers import PROJECT, REGION, THEN, ZONE, disk, machine, operation, point, snapshot, tenant

from snapkeep import cloud
from snapkeep import documents as d
from snapkeep.cloud import InstantSnapshot, InstantSnapshotGroup, Operation
from snapkeep.creation import moment, release, rules
from snapkeep.creation.moment import Seen

Step = rules.Step[rules.PointChange]

NOW = THEN + timedelta(minutes=1)
POLICY = f"projects/{PROJECT}/regions/{REGION}/resourcePolicies/all"
DISKS = tuple(disk(id=str(n), name=f"disk-{n}", resource_policies=(POLICY,)) for n in (1, 2))
SCOPE = f"zones/{ZONE}"
PAST = THEN - timedelta(hours=1)


def begun(consistency: str = "crash") -> d.Point:
    """A point whose moment was just asked for."""
    policy = cloud.ResourcePolicy("all", PROJECT, REGION, consistency_group=True)
    owner = tenant(consistency=consistency, entitlements=BOUGHT)
    links = {one.link: one for one in DISKS}
    step = moment.begin(point(), owner, machine(*DISKS), links, {policy.link: policy}, THEN)
    assert step.point.state == "creating"
    return step.point


def held(of: d.Point) -> d.Moment:
    assert of.moment is not None
    return of.moment


def instants(of: d.Point, **changes: Any) -> list[InstantSnapshot]:
    """The instant snapshots of a point's moment as they are when all is well, the first of them changed."""
    moment = held(of)
    group = moment.group
    link = f"projects/{PROJECT}/{SCOPE}/instantSnapshotGroups/{group.name}" if group else ""
    labels = {"snapkeep-tenant": "acme", "snapkeep-point": of.id}
    made = [
        InstantSnapshot(
            id=f"50{n}",
            name=ref.name or f"member-{n}",
            project=PROJECT,
            scope=SCOPE,
            status="READY",
            source_disk=DISKS[n].link,
            source_disk_id=ref.disk,
            group=link,
            labels={} if group else labels,
            created_at=THEN,
        )
        for n, ref in enumerate(moment.instants)
    ]
    return [changed(made[0], **changes), *made[1:]]


def group_of(of: d.Point, **changes: Any) -> InstantSnapshotGroup:
    group = held(of).group
    assert group is not None
    return changed(InstantSnapshotGroup("60", group.name, PROJECT, SCOPE, "READY", POLICY, THEN), **changes)


def seen(
    *found: InstantSnapshot,
    groups: tuple[InstantSnapshotGroup, ...] = (),
    operations: Mapping[str, Operation | None] | None = None,
) -> Seen:
    return Seen({one.link: one for one in found}, {one.link: one for one in groups}, operations or {})


def judge(of: d.Point, what: Seen, at: datetime = NOW) -> Step:
    return moment.judge_taking(of, tenant(entitlements=BOUGHT), what, at)


# --- taking -------------------------------------------------------------------------------------------------------


def test_a_moment_that_was_read_as_ready_is_had() -> None:
    of = begun()
    step = judge(of, seen(*instants(of)))
    assert held(step.point).state == "taken"
    assert {o.outcome for o in step.outcomes} == {"succeeded"}
    assert len(step.intents) == 2


STRANGE = f"projects/{PROJECT}/{SCOPE}/disks/strange"


@pytest.mark.parametrize(
    ("changes", "code", "again"),
    [
        ({"created_at": PAST}, "name_taken", True),
        ({"source_disk": STRANGE}, "name_taken", True),
        ({"source_disk_id": "999"}, "disk_replaced", False),
        ({"status": "FAILED"}, "instant_failed", True),
        ({"status": "DELETING"}, "instant_gone", True),
        ({"created_at": THEN + rules.SPREAD_MAX + timedelta(minutes=1)}, "moment_apart", True),
    ],
)
def test_an_instant_snapshot_that_is_not_what_was_asked_for_ends_the_attempt(
    changes: dict[str, Any], code: str, again: bool
) -> None:
    of = begun()
    after = judge(of, seen(*instants(of, **changes))).point
    assert after.failure is not None
    assert after.failure.code == code
    assert (after.state, held(after).attempts) == (("creating", 2) if again else ("failed", 1))


@pytest.mark.parametrize(
    ("group", "member", "code"),
    [
        ({"created_at": PAST}, {}, "name_taken"),
        ({"consistency_group": "another"}, {}, "name_taken"),
        ({"status": "INVALID"}, {}, "instant_failed"),
        ({}, {"group": ""}, "group_incomplete"),
        ({}, {"source_disk_id": "999"}, "disk_replaced"),
    ],
)
def test_a_group_that_is_not_what_was_asked_for_ends_the_attempt(
    group: dict[str, Any], member: dict[str, Any], code: str
) -> None:
    of = begun("group")
    after = judge(of, seen(*instants(of, **member), groups=(group_of(of, **group),))).point
    assert after.failure is not None
    assert after.failure.code == code
    good = judge(of, seen(*instants(of), groups=(group_of(of),))).point
    assert [ref.name for ref in held(good).instants] == ["member-0", "member-1"]


def test_a_group_is_waited_for_longer_than_a_moment_that_there_is_another_way_for() -> None:
    late = THEN + moment.PATIENCE + timedelta(minutes=1)
    group, single = judge(begun("group"), seen(), late), judge(begun(), seen(), late)
    assert [type(change).__name__ for change in group.starts] == ["InsertInstantSnapshotGroup"]
    assert [type(change).__name__ for change in single.starts] == ["InsertSnapshot"] * 2
    at_last = judge(begun("group"), seen(), point().deadline)
    assert (at_last.point.state, at_last.starts, len(at_last.outcomes)) == ("failed", (), 1)


def test_what_another_run_was_heard_with_is_not_refused() -> None:
    of = begun()
    first, second = (rules.instant_link(of, ref) for ref in held(of).instants)
    started = moment.answered(of, {first: "op-1"}, {})
    late = moment.answered(replace(of, moment=started), {}, {first: d.Failure(code="forbidden", message="no")})
    assert (late.instants[0].status, moment.was_refused(late), late.failure) == (None, False, None)
    alone = moment.answered(of, {}, {second: d.Failure(code="forbidden", message="no")})
    assert (alone.instants[1].status, moment.was_refused(alone)) == ("FAILED", True)


# --- home ---------------------------------------------------------------------------------------------------------


def home() -> d.Point:
    of = begun()
    return judge(of, seen(*instants(of))).point


def test_a_snapshot_of_another_instant_snapshot_is_not_ours_though_the_disk_is() -> None:
    of = home()
    ours = snapshot(name=of.disks[0].snapshot.name, source_disk=DISKS[0].link, source_instant_id="500", status="READY")
    (looked, _) = rules.look(of, {ours.name: ours}, {}, NOW)
    assert (looked.failure, looked.snapshot.created_at) == (None, THEN)
    other = changed(ours, source_instant_id="999")
    (looked, _) = rules.look(of, {other.name: other}, {}, NOW)
    assert looked.failure is not None
    assert looked.failure.code == "name_taken"


@pytest.mark.parametrize("changes", [{"id": "999"}, {"status": "DELETING"}])
def test_an_instant_snapshot_that_another_has_taken_the_place_of_is_lost(changes: dict[str, Any]) -> None:
    of = home()
    failed = [rules.refused(of.disks[0], "forbidden", "no", NOW), of.disks[1]]
    whole = moment.judge_home(of, tenant(), failed, seen(*instants(of)), NOW)
    assert held(whole.point).state == "taken"
    lost = moment.judge_home(of, tenant(), failed, seen(*instants(of, **changes)), NOW)
    assert (held(lost.point).state, held(lost.point).attempts) == ("taking", 2)
    assert [entry.attempts for entry in lost.point.disks] == [2, 2]


# --- release ------------------------------------------------------------------------------------------------------


def over(change: Callable[[d.InstantRef], d.InstantRef] = lambda ref: ref) -> d.Point:
    """A point that failed while its moment was being taken; what it knows of each instant snapshot as changed."""
    ended = rules.ended(begun(), d.Failure(code="deadline", message="late"), NOW).point
    return replace(ended, moment=replace(held(ended), instants=[change(ref) for ref in held(ended).instants]))


def let_go(of: d.Point, what: Seen, at: datetime = NOW) -> Step:
    return release.step(of, "acme", what, at)


def test_what_left_no_sign_is_waited_for_until_who_was_to_ask_for_it_is_dead() -> None:
    early = let_go(over(), seen())
    assert held(early.point).state == "releasing"
    assert early.point.next_at == THEN + rules.UNKNOWN_SETTLED
    late = let_go(over(), seen(), THEN + rules.UNKNOWN_SETTLED)
    assert (held(late.point).state, late.point.next_at) == ("released", None)


def test_what_an_operation_may_still_make_is_waited_for_as_long_as_that_runs() -> None:
    of = over(lambda ref: replace(ref, operation="op"))
    at = THEN + timedelta(hours=1)
    running = let_go(of, seen(operations={"op": operation()}), at)
    assert held(running.point).state == "releasing"
    assert running.point.next_at == at + release.ASK_AGAIN_MIN
    for ended in (None, operation(status="DONE")):
        assert held(let_go(of, seen(operations={"op": ended}), at).point).state == "released"


@pytest.mark.parametrize(
    ("changes", "ours"),
    [
        ({}, True),
        ({"created_at": PAST}, False),
        ({"labels": {"snapkeep-tenant": "acme", "snapkeep-point": "another"}}, False),
        ({"labels": {}}, False),
        ({"source_disk": STRANGE}, False),
        ({"source_disk_id": "999"}, True),  # the disk was replaced right before our own request came
    ],
)
def test_what_nobody_noted_is_asked_to_go_only_if_it_is_ours_in_everything(changes: dict[str, Any], ours: bool) -> None:
    of = over()
    step = let_go(of, seen(*instants(of, **changes)))
    names = {change.name for change in step.intents}
    assert (held(of).instants[0].name in names) == ours
    assert held(of).instants[1].name in names


def test_what_is_on_its_way_out_is_not_asked_to_go() -> None:
    of = over(lambda ref: replace(ref, id="500" if ref.disk == "1" else "501"))
    step = let_go(of, seen(*instants(of, status="DELETING")))
    assert (step.intents, held(step.point).removals) == ((), 0)
    assert [type(c).__name__ for c in let_go(of, seen(*instants(of))).intents] == ["DeleteInstantSnapshot"] * 2


def test_members_that_a_group_left_behind_are_asked_to_go_by_themselves() -> None:
    ended = rules.ended(begun("group"), d.Failure(code="deadline", message="late"), NOW).point
    noted = [replace(ref, name=f"member-{n}", id=f"50{n}") for n, ref in enumerate(held(ended).instants)]
    group = held(ended).group
    assert group is not None
    of = replace(ended, moment=replace(held(ended), instants=noted, group=replace(group, id="60")))
    asked = let_go(of, seen(*instants(of), groups=(group_of(of),)))
    assert [type(change).__name__ for change in asked.intents] == ["DeleteInstantSnapshotGroup"]
    gone = let_go(asked.point, seen(*instants(of)), NOW + timedelta(minutes=1))
    assert [o.outcome for o in gone.outcomes] == ["succeeded"]
    assert gone.intents == ()
    assert gone.point.next_at is not None
    left = let_go(gone.point, seen(*instants(of)), gone.point.next_at)
    assert [type(change).__name__ for change in left.intents] == ["DeleteInstantSnapshot"] * 2

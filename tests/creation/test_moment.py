"""Points whose disks are all of one moment, and guests that flush: on the cloud's state machine, to their ends."""

from collections.abc import Callable
from datetime import timedelta
from random import Random

import pytest
from msgspec.structs import replace
from tests.creation.scene import BOUGHT, MINUTE, SECOND, VM, Death, Scene
from tests.makers import PROJECT, REGION, ZONE

from snapkeep import cloud
from snapkeep import documents as d
from snapkeep.creation import moment, release, rules
from snapkeep_local.faults import (
    DeletionLies,
    Effect,
    ErrorAfter,
    ErrorBefore,
    InstantVanishes,
    OperationFails,
    Slow,
    SnapshotFails,
    Stuck,
)

INSTANT = "instantSnapshots.insert"
GROUP = "instantSnapshotGroups.insert"


def bought() -> Scene:
    return Scene(entitlements=BOUGHT)


def grouped() -> Scene:
    return Scene(consistency="group")


# --- one moment ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("of", [bought, grouped])
def test_all_disks_are_of_one_moment_although_they_are_written_to_in_between(of: Callable[[], Scene]) -> None:
    one = of()
    before = one.contents()
    one.ask()
    asked_at = one.clock.now()
    one.write("after the moment")
    point = one.finish()
    assert point.state == "verified"
    assert one.held() == before != one.contents()
    assert {ref.snapshot.created_at for ref in point.disks} == {asked_at}
    assert rules.taken_at(point) == asked_at
    newest = one.the_instance().newest_verified
    assert newest is not None
    assert newest.at == asked_at


def test_a_point_of_a_tenant_with_a_second_region_waits_for_its_copy_with_the_moment_in_hand() -> None:
    one = bought()
    one.ask()
    assert one.asked == {"InsertInstantSnapshot": 2}
    assert one.moment_is("taking")
    point = one.finish()
    assert one.asked == {"InsertInstantSnapshot": 2, "InsertSnapshot": 2}
    assert point.consistency == "crash"
    assert one.moment_is("taken")
    copy = point.copies[SECOND]
    assert (copy.state, copy.way, copy.next_at, point.next_at) == (
        "requested",
        "moment",
        point.verified_at,
        copy.next_at,
    )
    assert len(one.left()) == 2
    one.minutes(60)
    assert len(one.left()) == 2, "the copy is made of them"
    one.copies_end()
    one.minutes(5)
    assert one.left() == []
    assert (one.moment.state, one.the_point().next_at) == ("released", None)
    one.settled()


def test_a_group_without_a_second_region_is_removed_when_its_point_is_verified() -> None:
    one = grouped()
    one.ask()
    assert one.asked == {"InsertInstantSnapshotGroup": 1}
    point = one.finish()
    assert (point.state, point.consistency, point.copies) == ("verified", "group", {})
    one.minutes(5)
    assert one.asked == {"InsertInstantSnapshotGroup": 1, "InsertSnapshot": 2, "DeleteInstantSnapshotGroup": 1}
    assert one.left() == []
    assert (one.moment.state, one.the_point().next_at) == ("released", None)
    one.settled()


def test_a_group_with_a_second_region_waits_for_the_copy() -> None:
    one = Scene(consistency="group", entitlements=BOUGHT)
    one.ask()
    point = one.finish()
    assert point.copies[SECOND].state == "requested"
    one.minutes(60)
    assert len(one.left()) == 3
    one.copies_end()
    one.minutes(5)
    assert one.left() == []
    one.settled()


def test_disks_of_others_under_the_same_consistency_group_are_no_part_of_the_point() -> None:
    one = grouped()
    other = one.cloud.add_disk(project=PROJECT, zone=ZONE, name="others", type="pd-balanced", size_gb=10)
    one.cloud.attach_policy(other, one.policy)
    one.ask()
    point = one.finish()
    assert point.state == "verified"
    assert [disk.name for disk in point.disks] == ["acme-pam-1-boot", "acme-pam-1-data"]
    one.minutes(5)
    assert one.left() == []


@pytest.mark.parametrize("consistency", ["crash", "guest_flush"])
def test_a_tenant_without_add_on_and_group_costs_no_call_more(consistency: str) -> None:
    one = Scene(consistency=consistency)
    one.cloud.calls.clear()
    one.ask()
    point = one.finish()
    assert (point.state, point.moment, point.copies) == ("verified", None, {})
    assert one.asked == {"InsertSnapshot": 2}
    assert not any("nstant" in call or "olicies" in call for call in one.cloud.calls)
    assert sum(one.cloud.calls.values()) <= 2 + 2 + 4  # instances, disks; two snapshots; a few looks


def test_home_snapshots_have_the_right_names_and_places_and_instant_snapshots_lie_beside_their_disks() -> None:
    one = Scene(entitlements=BOUGHT, vault_project="acme-vault")
    one.ask()
    point = one.finish()
    instants = [change for change in one.watched.started if isinstance(change, cloud.InsertInstantSnapshot)]
    snapshots = [change for change in one.watched.started if isinstance(change, cloud.InsertSnapshot)]
    names = [*(change.name for change in instants), *(change.name for change in snapshots)]
    assert {(change.project, change.scope) for change in instants} == {(PROJECT, f"zones/{ZONE}")}
    assert [change.source_disk for change in instants] == one.disks
    assert {change.labels["snapkeep-role"] for change in instants} == {"moment"}
    assert [change.source_instant for change in snapshots] == [change.link for change in instants]
    assert {(change.project, change.location) for change in snapshots} == {("acme-vault", REGION)}
    assert len(set(names)) == 4
    assert all(cloud.NAME.fullmatch(name) for name in names)
    assert [disk.snapshot.name for disk in point.disks] == [change.name for change in snapshots]


# --- what cannot be had -------------------------------------------------------------------------------------------


def test_disks_without_a_consistency_group_fail_the_point_with_the_commands_that_make_one() -> None:
    one = grouped()
    one.cloud.detach_policy(one.disks[1], one.policy)
    one.ask()
    why = one.failure()
    assert (one.the_point().state, why.code) == ("failed", "no_consistency_group")
    assert "no consistency group on acme-pam-1-data." in why.message
    assert f"create disk-consistency-group NAME --region={REGION} --project={PROJECT}" in why.message
    assert f"add-resource-policies DISK --resource-policies=NAME --zone={ZONE}" in why.message
    assert one.watched.started == []


def test_disks_in_different_consistency_groups_fail_the_point_and_so_does_a_schedule_in_place_of_one() -> None:
    one = grouped()
    other = one.cloud.add_policy(project=PROJECT, region=REGION, name="another")
    one.cloud.detach_policy(one.disks[1], one.policy)
    one.cloud.attach_policy(one.disks[1], other)
    one.ask()
    assert "acme-pam-1-boot: acme-pam-1-disks, acme-pam-1-data: another" in one.failure().message
    two = grouped()
    schedule = two.cloud.add_policy(project=PROJECT, region=REGION, name="nightly", consistency_group=False)
    for disk in two.disks:
        two.cloud.detach_policy(disk, two.policy)
        two.cloud.attach_policy(disk, schedule)
    two.ask()
    assert "no consistency group on acme-pam-1-boot, acme-pam-1-data" in two.failure().message


def test_zonal_and_regional_disks_are_no_group() -> None:
    one = grouped()
    both = (ZONE, "southamerica-east1-b")
    regional = one.cloud.add_disk(
        project=PROJECT, zone=ZONE, name="both", type="pd-ssd", size_gb=10, replica_zones=both
    )
    one.cloud.attach_disk(VM, regional)
    one.ask()
    assert one.failure().code == "mixed_disks"
    assert f"both (regions/{REGION})" in one.failure().message
    assert one.watched.started == []


def test_a_guest_that_cannot_flush_fails_the_point_with_what_to_install() -> None:
    one = Scene(consistency="guest_flush")
    one.cloud.set_guest_agent(VM, False)
    one.ask()
    point = one.finish()
    assert (point.state, one.failure().code) == ("failed", "guest_flush_failed")
    assert "does not take part in snapshots" in one.failure().message
    assert "guest agent" in one.failure().message
    assert one.asked == {"InsertSnapshot": 2}, "asking again would not help"
    one.settled()


def test_a_guest_that_flushes_has_flushed_and_a_stopped_one_is_at_rest() -> None:
    one = Scene(consistency="guest_flush")
    one.ask()
    point = one.finish()
    assert (point.state, point.consistency) == ("verified", "guest_flush")
    names = [disk.snapshot.name for disk in point.disks]
    assert all(one.cloud.flushed(cloud.snapshot_link(PROJECT, name)) for name in names)
    two = Scene(consistency="guest_flush")
    two.cloud.stop_instance(VM)
    two.ask()
    point = two.finish()
    assert (point.state, point.consistency) == ("verified", "at_rest")


def test_where_the_platform_refuses_instant_snapshots_home_is_made_of_the_disks_at_once_and_the_copy_later() -> None:
    one = Scene(entitlements=BOUGHT, kinds=("pd-balanced", "pd-extreme"))
    one.ask()
    one.minutes(2)
    assert one.asked == {"InsertInstantSnapshot": 2, "InsertSnapshot": 2}
    point = one.finish()
    copy = point.copies[SECOND]
    assert (point.state, point.consistency) == ("verified", "crash")
    assert (copy.state, copy.next_at) == ("failed", None)
    assert copy.failure is not None
    assert "pd-extreme" in copy.failure.message
    one.minutes(30)
    assert one.left() == [], "what was made of the moment is let go"
    assert one.moment.state == "released"
    one.settled()


@pytest.mark.parametrize(("kind", "told"), [("pd-extreme", 1), ("pd-balanced", 0)])
def test_a_copy_that_has_failed_with_the_moment_is_made_up_as_soon_as_home_is_verified(kind: str, told: int) -> None:
    one = Scene(entitlements=BOUGHT, kinds=("pd-balanced", kind))
    one.ask()
    one.minutes(2)
    assert one.hinted["snapkeep-entitlements"] == 0
    assert one.finish().state == "verified"
    one.minutes(30)
    assert one.hinted["snapkeep-entitlements"] == told


def test_where_the_platform_refuses_the_group_the_point_fails_with_its_word() -> None:
    one = Scene(consistency="group", kinds=("pd-balanced", "pd-extreme"))
    one.ask()
    point = one.finish()
    assert (point.state, one.failure().code) == ("failed", "invalid")
    assert one.asked == {"InsertInstantSnapshotGroup": 1}
    one.minutes(30)
    assert (one.moment.state, one.the_point().next_at) == ("released", None)
    one.settled()


FLAWS: list[tuple[str, Effect]] = [
    ("asked for in vain", OperationFails(code="INTERNAL_ERROR")),
    ("FAILED", OperationFails(code="INTERNAL_ERROR", snapshot="FAILED")),
    ("gone at once", InstantVanishes(after_s=2)),
    ("stuck", Slow(factor=2_000)),  # more than half an hour for what takes seconds
    ("not permitted", ErrorBefore(status=403, reason="forbidden", message="no")),
]


@pytest.mark.parametrize("effect", [flaw[1] for flaw in FLAWS], ids=[flaw[0] for flaw in FLAWS])
@pytest.mark.parametrize("of", [bought, grouped])
def test_a_moment_that_fails_once_is_taken_anew_of_all_disks(of: Callable[[], Scene], effect: Effect) -> None:
    one = of()
    one.fault(effect, "*nstant*.insert", count=1)
    one.ask()
    one.minutes(5, until=lambda: one.moment.attempts == 2)
    point = one.finish()
    assert (point.state, one.moment.attempts) == ("verified", 2)
    assert len({ref.snapshot.created_at for ref in point.disks}) == 1
    assert all(copy.state == "requested" for copy in point.copies.values())
    one.copies_end()
    one.calm()
    assert one.left() == []
    one.settled()


@pytest.mark.parametrize("effect", [flaw[1] for flaw in FLAWS], ids=[flaw[0] for flaw in FLAWS])
def test_a_moment_that_always_fails_never_costs_the_home_point_of_consistency_crash(effect: Effect) -> None:
    one = bought()
    one.fault(effect, INSTANT)
    one.ask()
    point = one.finish()
    assert (point.state, point.copies[SECOND].state) == ("verified", "failed")
    assert one.moment.attempts == moment.MOMENT_ATTEMPTS_MAX
    assert point.verified_at is not None
    assert point.verified_at - point.requested_at < timedelta(hours=2)
    one.calm()
    assert one.left() == []
    one.settled()


@pytest.mark.parametrize("effect", [flaw[1] for flaw in FLAWS], ids=[flaw[0] for flaw in FLAWS])
def test_a_group_that_always_fails_fails_its_point_by_name(effect: Effect) -> None:
    one = grouped()
    one.fault(effect, GROUP)
    one.ask()
    point = one.finish()
    assert point.state == "failed"
    assert one.failure().code in (
        "INTERNAL_ERROR",
        "instant_failed",
        "group_incomplete",
        "instant_gone",
        "instant_stuck",
        "forbidden",
    )
    assert one.asked == {"InsertInstantSnapshotGroup": moment.MOMENT_ATTEMPTS_MAX} or one.moment.attempts == 3
    assert not any(isinstance(change, cloud.InsertSnapshot) for change in one.watched.started)
    one.calm()
    assert one.left() == []
    one.settled()


def test_instant_snapshots_that_nobody_answers_for_are_waited_for_an_hour() -> None:
    one = bought()
    one.fault(ErrorBefore(status=503), INSTANT)
    one.ask()
    one.minutes(55)
    assert one.asked["InsertSnapshot"] == 0
    point = one.finish()
    assert (point.state, point.copies[SECOND].state) == ("verified", "failed")
    failure = point.copies[SECOND].failure
    assert failure is not None
    assert failure.code == "moment_not_taken"
    one.minutes(60)
    one.settled()


def test_instant_snapshots_that_may_not_be_read_do_not_cost_the_home_point() -> None:
    one = bought()
    one.fault(ErrorBefore(status=403, reason="forbidden", message="no"), "instantSnapshots.*ist")
    one.ask()
    point = one.finish()
    assert (point.state, point.copies[SECOND].state) == ("verified", "failed")
    one.minutes(300)
    assert one.the_point().state == "verified"
    assert len(one.left()) == 2, "nobody can tell that they are ours"
    one.calm()
    assert one.left() == []
    one.settled()


# --- home snapshots of the moment ---------------------------------------------------------------------------------


def taken(one: Scene) -> None:
    """Let it come so far that home snapshots are under way."""
    one.ask()
    one.minutes(5, until=lambda: one.moment.state == "taken")
    assert one.asked["InsertSnapshot"] == 2


def test_a_home_snapshot_that_fails_is_made_again_of_the_same_moment() -> None:
    one = bought()
    before = one.contents()
    one.fault(SnapshotFails(), "snapshots.insert", "boot", count=1)
    taken(one)
    one.write("later")
    point = one.finish()
    assert (point.state, [disk.attempts for disk in point.disks]) == ("verified", [2, 1])
    assert one.held() == before
    assert one.moment.attempts == 1
    assert one.asked["InsertInstantSnapshot"] == 2


def test_instant_snapshots_that_vanish_before_home_is_ready_are_taken_anew_of_all_disks() -> None:
    one = bought()
    one.fault(SnapshotFails(), "snapshots.insert", "boot", count=1)
    taken(one)
    first = one.clock.now()
    one.lose_instants()
    one.write("later")
    later = one.contents()
    point = one.finish()
    assert (point.state, one.moment.attempts) == ("verified", 2)
    assert one.held() == later, "of the second moment, the snapshot that had been READY as well"
    assert len({ref.snapshot.created_at for ref in point.disks}) == 1
    assert rules.taken_at(point) > first
    assert [len(disk.superseded) for disk in point.disks] == [1, 1]
    assert point.copies[SECOND].state == "requested"
    one.copies_end()
    one.minutes(30)
    assert one.left() == []
    one.settled()


def test_instant_snapshots_that_vanish_each_time_leave_home_to_the_disks_and_a_group_without_its_point() -> None:
    one = bought()
    one.fault(InstantVanishes(after_s=70), INSTANT)
    one.fault(SnapshotFails(), "snapshots.insert", "boot", count=3)
    one.ask()
    point = one.finish()
    assert (point.state, point.copies[SECOND].state) == ("verified", "failed")
    one.minutes(60)
    one.settled()
    two = grouped()
    two.fault(InstantVanishes(after_s=70), GROUP)
    two.fault(SnapshotFails(), "snapshots.insert", "boot")
    two.ask()
    assert two.finish().state == "failed"
    assert two.failure().code == "instant_gone"
    two.minutes(120)
    assert two.left() == []
    two.settled()


def test_instant_snapshots_that_vanish_when_home_is_ready_are_no_matter_to_home() -> None:
    one = bought()
    taken(one)
    one.let_pass(15 * MINUTE)
    one.lose_instants()
    point = one.finish()
    assert (point.state, point.copies[SECOND].state) == ("verified", "requested")
    one.copies_end()
    one.minutes(3)
    assert one.moment.state == "released"
    assert one.asked["DeleteInstantSnapshot"] == 0
    one.settled()


def test_snapshots_that_cannot_be_made_of_instant_snapshots_are_made_of_the_disks() -> None:
    one = bought()

    def refuse(change: cloud.Change) -> None:
        if isinstance(change, cloud.InsertSnapshot) and change.source_instant:
            one.fault(ErrorBefore(status=400, reason="invalid", message="not of this"), "snapshots.insert", count=1)

    one.watched.before = refuse
    one.ask()
    point = one.finish()
    assert (point.state, point.copies[SECOND].state) == ("verified", "failed")
    assert one.asked["InsertSnapshot"] == 4
    one.minutes(60)
    assert one.left() == []
    one.settled()


def test_a_disk_that_is_replaced_before_the_moment_is_taken_fails_the_point_and_what_was_made_of_it_goes() -> None:
    one = bought()

    def once(change: cloud.Change) -> None:
        one.watched.before = lambda change: None
        one.cloud.replace_disk(one.disks[0])

    one.watched.before = once
    one.ask()
    assert one.finish().state == "failed"
    assert one.failure().code == "disk_replaced"
    assert one.the_point().copies[SECOND].state == "failed"
    one.minutes(30)
    assert one.moment.state == "released"
    assert one.left() == []
    one.settled()


# --- pauses -------------------------------------------------------------------------------------------------------


def test_while_creation_is_paused_a_moment_is_neither_taken_anew_nor_used() -> None:
    one = bought()
    one.ask()
    one.pause(creation=d.Paused(fleet=True))
    one.minutes(40)
    assert one.asked == {"InsertInstantSnapshot": 2}
    assert one.the_point().failure == d.Failure(code="paused", message="creation is paused")
    one.pause()
    point = one.finish()
    assert (point.state, point.copies[SECOND].state) == ("verified", "requested")
    assert rules.taken_at(point) == point.requested_at, "the moment that was had before the pause"


def test_while_deletion_is_paused_a_moment_is_not_released_and_afterwards_it_is() -> None:
    one = grouped()
    one.pause(deletion=d.Paused(tenants=["acme"]))
    one.ask()
    assert one.finish().state == "verified"
    one.minutes(5 * 60)
    assert len(one.left()) == 3
    assert one.asked["DeleteInstantSnapshotGroup"] == 0
    assert one.moment.failure == d.Failure(code="paused", message="deletion is paused")
    assert one.the_point().failure is None
    one.pause()
    one.minutes(70)
    assert one.left() == []
    one.settled()


def test_a_pause_of_deletion_in_the_middle_of_a_release_stops_what_is_not_asked_for_yet() -> None:
    one = bought()
    one.ask()
    one.finish()
    one.copies_end()
    one.watched.before = lambda change: one.pause(deletion=d.Paused(fleet=True))
    one.minutes(1)
    assert one.asked["DeleteInstantSnapshot"] == 1
    one.minutes(60)
    assert len(one.left()) == 1
    one.watched.before = lambda change: None
    one.pause()
    one.minutes(3 * 60)
    assert one.left() == []
    one.settled()


# --- release ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("of", "calls"), [(bought, 2), (grouped, 1)])
def test_what_holds_a_moment_is_asked_to_go_until_it_is_gone_with_longer_and_longer_pauses(
    of: Callable[[], Scene], calls: int
) -> None:
    one = of()
    one.fault(DeletionLies(), "instant*.delete", count=4 * calls)
    one.ask()
    one.finish()
    one.copies_end()
    began = one.clock.now()
    asked_after: list[timedelta] = []
    while one.left():
        before = one.moment.removals
        one.minutes(1)
        if one.moment.removals > before:
            asked_after.append(one.clock.now() - began - MINUTE)
    assert asked_after == [timedelta(minutes=of) for of in (0, 10, 30, 70, 150)]
    one.minutes(2)
    assert one.moment.state == "released"
    one.settled()


def test_a_release_that_meets_faults_is_asked_for_again_and_says_what_it_met() -> None:
    one = grouped()
    one.fault(ErrorBefore(status=403, reason="forbidden", message="a role is missing"), "instantSnapshotGroups.delete")
    one.ask()
    one.finish()
    one.minutes(30)
    assert one.moment.failure is not None
    assert one.moment.failure.message == "a role is missing"
    assert one.the_point().state == "verified"
    assert one.the_point().failure is None
    one.calm()
    assert one.left() == []
    one.settled()


def test_what_never_comes_to_its_end_is_asked_to_go_at_the_longest_pause_for_ever() -> None:
    one = bought()
    one.fault(Stuck(), INSTANT)
    one.ask()
    assert one.finish().state == "verified"
    one.minutes(72 * 60)
    assert (len(one.left()), one.moment.state) == (6, "releasing")
    assert one.moment.failure is not None
    assert one.moment.failure.code == "resourceNotReady"
    assert one.moment.next_at is not None
    assert moment.LOOK < one.moment.next_at - one.clock.now() <= release.ASK_AGAIN_MAX
    assert one.moment.removals < 20


def test_an_instant_snapshot_that_took_the_name_of_ours_is_left_alone() -> None:
    one = bought()
    one.ask()
    one.finish()
    first = one.moment.instants[0]
    one.lose_instants()
    scope, body = first.scope, {"name": first.name, "sourceDisk": one.disks[0]}
    one.cloud.insert_instant_snapshot(PROJECT, scope, body)
    one.let_pass(MINUTE)
    one.copies_end()
    one.minutes(30)
    assert one.left() == [first.name]
    assert one.moment.state == "released"
    assert one.asked["DeleteInstantSnapshot"] == 0
    one.settled()


def test_an_instant_snapshot_that_takes_the_name_of_ours_in_the_last_moment_is_left_alone() -> None:
    one = bought()
    one.ask()
    one.finish()
    first = one.moment.instants[0]
    swapped: list[str] = []

    def swap(what: str) -> None:
        if what == "committed" and not swapped:
            swapped.append(what)
            one.lose_instants()
            one.cloud.insert_instant_snapshot(PROJECT, first.scope, {"name": first.name, "sourceDisk": one.disks[0]})

    one.copies_end()
    one.watched_documents.effect = swap
    one.look()
    assert (swapped, one.moment.removals, one.asked["DeleteInstantSnapshot"]) == (["committed"], 1, 0)
    one.calm()
    assert one.left() == [first.name]
    one.settled()


# --- twice at once, deaths, and all together ----------------------------------------------------------------------


def test_messages_that_come_twice_take_one_moment() -> None:
    one = bought()
    one.ask()
    one.ask()
    one.look()
    assert one.asked == {"InsertInstantSnapshot": 2}
    one.finish()
    assert len(one.points()) == 1
    assert one.asked == {"InsertInstantSnapshot": 2, "InsertSnapshot": 2}


def test_an_instant_snapshot_whose_answer_was_lost_is_adopted() -> None:
    one = bought()
    one.fault(ErrorAfter(status=504), INSTANT)
    one.ask()
    assert [ref.operation for ref in one.moment.instants] == [None, None]
    assert one.finish().state == "verified"
    assert one.moment.attempts == 1
    assert len(one.left()) == 2


def lives_through(one: Scene, effects: int) -> int:
    """A point from its request to the release of its moment, with a death after so many effects; those left of them."""
    left = effects

    def count(what: str) -> None:
        nonlocal left
        left -= 1
        if left == -1:
            raise Death(what)

    def request() -> None:
        if not one.points():
            one.ask()

    one.watched.effect = one.watched_documents.effect = count
    for act in (request, one.finish, one.copies_end, lambda: one.minutes(30)):
        try:
            act()
        except Death:
            act()
    return left


@pytest.mark.parametrize(("of", "apart"), [(bought, 5), (grouped, 0)])
def test_a_death_between_any_two_effects_leaves_nothing_behind(of: Callable[[], Scene], apart: int) -> None:
    effects, left = 0, -1
    while left < 0:
        one = of()
        left = lives_through(one, effects)
        assert one.the_point().state == "verified", effects
        assert rules.spread(one.the_point().disks) <= apart * MINUTE
        assert (one.moment.state, one.left()) == ("released", []), effects
        one.settled()
        effects += 1
    assert effects > 20


STORM: list[tuple[Effect, str]] = [
    (ErrorBefore(status=503), "*"),
    (ErrorAfter(status=503), "*.insert"),
    (ErrorBefore(status=403, reason="rateLimitExceeded"), "*"),
    (OperationFails(), "*.insert"),
    (OperationFails(snapshot="FAILED"), "*.insert"),
    (InstantVanishes(after_s=90), "*"),
    (SnapshotFails(), "*"),
    (Slow(factor=2_000), "*nstant*.insert"),
    (DeletionLies(), "*"),
]


@pytest.mark.parametrize("seed", range(24))
def test_whatever_happens_a_point_is_of_one_moment_or_of_none_and_leaves_nothing_behind(seed: int) -> None:
    random = Random(seed)  # noqa: S311 - seeded on purpose
    group = bool(seed % 2)
    one = Scene(seed=seed, entitlements=BOUGHT, consistency="group" if group else "crash")
    for effect, method in random.sample(STORM, 4):
        one.fault(effect, method, count=random.randrange(1, 8))
    one.ask()
    one.write("in between")
    point = one.finish()
    held = one.held() if point.state == "verified" else []
    if not group:
        assert point.state == "verified", "no fault here lasts"
    if held and point.copies[SECOND].state == "requested":
        assert len({ref.snapshot.created_at for ref in point.disks}) == 1
    if group and held:
        instants = {ref.disk: ref.created_at for ref in one.moment.instants}
        assert [disk.snapshot.created_at for disk in point.disks] == [instants[disk.id] for disk in point.disks]
    one.copies_end()
    one.calm()
    assert (one.moment.state, one.left()) == ("released", [])
    one.settled()
    assert {entry["region"] for entry in one.cloud.log if "region" in entry} <= {REGION}


# --- residency ----------------------------------------------------------------------------------------------------


def test_nothing_is_asked_for_outside_the_home_region_whatever_a_document_says() -> None:
    one = Scene()
    one.fault(ErrorBefore(status=503), "snapshots.insert", count=2)
    one.ask()
    point = one.the_point()
    disks = [replace(disk, snapshot=replace(disk.snapshot, location="europe-west1")) for disk in point.disks]
    one.put((f"tenants/acme/points/{point.id}", replace(point, disks=disks)))
    point = one.finish()
    assert (point.state, one.failure().code) == ("failed", "outside_residency")
    assert "europe-west1; allowed is southamerica-east1" in one.failure().message
    assert one.cloud.snapshots() == []
    assert [r["action"] for r in one.records() if r["outcome"] == "refused"] == ["snapshot.ended"]

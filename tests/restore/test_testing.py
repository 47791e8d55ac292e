"""Restore tests: which set is tested, and what a test may say about it."""

from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from tests.makers import REGION, THEN, copy_of, instance, point, point_disk, tenant

from snapkeep import documents as d
from snapkeep.copies import sets
from snapkeep.restore import testing

US = "us-east1"
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
NETWORK = "projects/acme-prod/global/networks/closed"
TESTED = tenant(restore_test=d.RestoreTest(every_days=30, network=NETWORK))
ADD_ON = d.Entitlements(inter_region_backup=d.InterRegionBackup(region=US, valid_until="2027-12-31"))


def stored(id: str = "p1", days: int = 1, **changes: Any) -> d.Point:
    """A verified point that was taken so many days ago."""
    at = THEN - days * DAY
    ref = d.SnapshotRef(project="acme-prod", name=f"sk-{id}", location=REGION, id=f"9{days}", status="READY",
                        created_at=at, bytes=7)  # fmt: skip
    fields: dict[str, Any] = {"state": "verified", "verified_at": at, "requested_at": at, "next_at": None,
                              "disks": [point_disk(snapshot=ref)], "stored_for": point().instance.id}  # fmt: skip
    return point(id=id, **fields | changes)


def copied(state: d.CopyState = "verified", **changes: Any) -> d.Copy:
    ref = d.SnapshotRef(project="acme-prod", name="sk-copy", location=US, id="77", status="READY", created_at=THEN)
    disk = d.CopyDisk(id="1", name="acme-pam-1-boot", snapshot=ref)
    return copy_of(state, disks=[disk], started_at=THEN, verified_at=THEN, **changes)


def trial_of(one: d.Point, region: str | None = None, **changes: Any) -> d.Restore:
    """A test of a set, half an hour after it was begun: its disks are there and its instance runs."""
    done = [d.RestoreStep(name=name, state="done", at=THEN) for name in ("survey", "create_disks", "create_instance")]
    fields: dict[str, Any] = {
        "updated_at": THEN,
        "id": "20261101-t-acme-pam-1-0badcafe",
        "purpose": "test",
        "mode": "new_instance",
        "state": "running",
        "recovery_point": one.id,
        "instance": one.instance,
        "source": d.RestoreSource(project="acme-prod", region=region or REGION, copy=region is not None),
        "target": d.RestoreTarget(project="acme-prod", region=region or REGION, zone=None, name="rt-acme-pam-1-0"),
        "disks": [],
        "steps": [*done, d.RestoreStep(name="check", state="done", at=THEN + HOUR / 2)],
        "requested_at": THEN,
        "requested_by": "snapkeep",
        "reason": "a test is due",
        "request_sha256": "",
        "needs_approval": False,
        "start_by": THEN + 4 * HOUR,
        "started_at": THEN,
    }
    return d.Restore(**fields | changes)


def ended_by(step: d.StepName, code: str, *checks: str, **changes: Any) -> dict[str, Any]:
    """What is stored of a test that this failure of a step has ended; the names of checks that failed."""
    why = d.Failure(code=code, message="as it was met")
    steps = [
        d.RestoreStep(name=step, state="failed", at=THEN + HOUR, failure=why),
        d.RestoreStep(name="delete_disks", state="skipped", at=THEN + HOUR),
        d.RestoreStep(name="delete_disks", undo=True, state="done", at=THEN + HOUR),
    ]
    failed = [d.RestoreCheck(name=name, state="failed", detail="it is not so") for name in checks]
    given_up = d.Abandoned(ends_as="failed", by="snapkeep", reason="r", at=THEN + HOUR, deadline=THEN + DAY)
    return {"steps": steps, "checks": failed, "abandoned": given_up, "failure": why, **changes}


# --- when ---------------------------------------------------------------------------------------------------------


def test_the_first_tests_of_a_fleet_are_spread_over_a_day() -> None:
    firsts = [testing.first_at(replace(TESTED, id=f"t{number}"), THEN) for number in range(200)]
    assert all(first and THEN <= first <= THEN + DAY for first in firsts)
    assert len({first and first.hour for first in firsts}) == 24


def test_a_tenant_whose_file_asks_for_no_tests_has_no_date() -> None:
    assert testing.first_at(tenant(), THEN) is None


# --- which set ----------------------------------------------------------------------------------------------------


def drawn(points: list[d.Point], owner: d.Tenant = TESTED) -> set[str]:
    """Every set that some token chooses."""
    found = (testing.chosen(points, owner, f"{number:016x}", THEN) for number in range(100))
    return {sets.name_of(one[0].id, one[1]) for one in found if one}


def test_every_usable_set_may_be_chosen_and_no_other() -> None:
    expiry = d.Expiry(was="verified", reason="no rule keeps it", decided_at=THEN, delete_after=THEN + DAY)
    points = [
        stored("good", 1),
        stored("old", 40),
        stored("unusable", 2, usable=False),
        stored("incomplete", 3, gone=["sk-incomplete"]),
        stored("going", 4, state="expiring", expiry=expiry),
        stored("failed", 5, state="failed"),
        stored("running", 6, state="creating"),
    ]
    assert drawn(points) == {"good", "old"}


def test_one_token_always_chooses_the_same_set() -> None:
    points = [stored(f"p{number}", number) for number in range(1, 20)]
    one, other = (testing.chosen(some, TESTED, "0badcafe", THEN) for some in (points, points[::-1]))
    assert one is not None
    assert one == other


def test_copies_are_tested_where_they_are_bought() -> None:
    points = [stored("p", copies={US: copied()})]
    assert drawn(points) == {"p"}
    assert drawn(points, replace(TESTED, entitlements=ADD_ON)) == {"p", f"p@{US}"}


@pytest.mark.parametrize("copy", [copied(usable=False), copied(gone=["sk-copy"]), copied("copying"), copied("failed")])
def test_a_copy_that_cannot_be_restored_from_is_not_tested(copy: d.Copy) -> None:
    assert drawn([stored("p", copies={US: copy})], replace(TESTED, entitlements=ADD_ON)) == {"p"}


def test_a_copy_is_tested_though_its_point_is_gone_at_home() -> None:
    points = [stored("p", state="deleted", copies={US: copied()})]
    assert drawn(points, replace(TESTED, entitlements=ADD_ON)) == {f"p@{US}"}


def test_a_choice_looks_among_few_instances_and_each_has_its_turn() -> None:
    tally = d.Tally(stored=3)
    many = [instance(id=str(number), tally=tally) for number in range(12)] + [instance(id="empty")]
    turns = [testing.in_order(many, f"{number:016x}") for number in range(100)]
    assert {len(turn) for turn in turns} == {testing.INSTANCES_TRIED_MAX}
    assert {turn[0].id for turn in turns} == {str(number) for number in range(12)}


def test_a_test_has_an_id_of_its_own_for_each_due_instant() -> None:
    one = stored()
    ids = {testing.id_of("acme", one, region, THEN + days * DAY) for region in (None, US) for days in (0, 1)}
    assert len(ids) == 4
    assert testing.id_of("acme", one, None, THEN).startswith("20261101-t-acme-pam-1-")


# --- what it says -------------------------------------------------------------------------------------------------


def test_a_test_that_passed_is_noted_with_its_time_and_the_next_one_is_a_month_away() -> None:
    one = stored()
    restore = trial_of(one)
    owner = testing.begun(TESTED, restore, THEN)
    assert owner.restore_testing == restore.id
    end = testing.concluded(restore, owner, one, True, None, THEN + HOUR)
    assert end.point is one
    assert end.carried_out
    assert end.event_type == "restore_test.passed"
    assert end.data["took_s"] == 1800  # until everything was checked, not until it was removed
    assert end.tenant.restore_testing is None
    assert end.tenant.restore_test_at == THEN + HOUR + 30 * DAY
    assert end.tenant.restore_tested == d.RestoreTested(
        restore=restore.id, point=one.id, region=REGION, at=THEN + HOUR, passed=True, took_s=1800
    )


HOME_ZONE = d.RestoreTarget(project="acme-prod", region=REGION, zone=point().instance.zone, name="rt-acme-pam-1-0")


@pytest.mark.parametrize(
    "ended",
    [
        ended_by("survey", "point_gone"),
        ended_by("survey", "snapshot_changed"),
        ended_by("create_disks", "snapshot_changed"),
        ended_by("create_disks", "disk_failed"),
        ended_by("create_disks", "INVALID_FIELD_VALUE", target=HOME_ZONE),
        ended_by("check", "checks_failed", "disks"),
        ended_by("check", "checks_failed", "instance"),
        ended_by("check", "checks_failed", "definition", "contents"),
    ],
)
def test_what_shows_the_set_to_be_wrong_makes_the_point_unusable(ended: dict[str, Any]) -> None:
    one = stored()
    end = testing.concluded(trial_of(one, **ended), TESTED, one, False, ended["failure"], THEN + 2 * HOUR)
    assert end.carried_out
    assert not end.point.usable
    assert end.point.updated_at == THEN + 2 * HOUR
    assert end.event_type == "restore_test.failed"
    assert end.data["failure"]["code"] == ended["failure"].code
    assert end.tenant.restore_tested is not None
    assert not end.tenant.restore_tested.passed
    assert end.tenant.restore_test_at == THEN + 2 * HOUR + 30 * DAY


@pytest.mark.parametrize(
    "ended",
    [
        ended_by("survey", "network_not_isolated"),
        ended_by("survey", "zone_away"),
        ended_by("create_disks", "QUOTA_EXCEEDED"),
        ended_by("create_disks", "point_gone"),  # a key that is not found reads the same
        ended_by("create_disks", "INVALID_FIELD_VALUE"),  # elsewhere
        ended_by("create_instance", "INVALID_FIELD_VALUE", target=HOME_ZONE),
        ended_by("create_instance", "instance_gone"),
        ended_by("check", "checks_failed", "definition"),
        ended_by("check", "made_gone", "instance"),  # somebody has taken it away
        ended_by("check", "deadline", "instance"),
        ended_by("delete_instance", "in_use"),
        ended_by("check", "cancelled", "instance", abandoned=d.Abandoned(
            ends_as="cancelled", by="anna", reason="r", at=THEN, deadline=THEN + DAY)),
        {"state": "cancelled", "failure": d.Failure(code="not_begun", message="paused"), "steps": []},
        {"failure": None},
    ],
)  # fmt: skip
def test_what_says_nothing_of_the_set_leaves_it_as_it_was_and_is_tried_again_tomorrow(ended: dict[str, Any]) -> None:
    one = stored()
    before = d.RestoreTested(restore="r", point="p", region=REGION, at=THEN - DAY, passed=True, took_s=5)
    owner = replace(TESTED, restore_tested=before)
    end = testing.concluded(trial_of(one, **ended), owner, one, False, ended["failure"], THEN + HOUR)
    assert end.point is one
    assert not end.carried_out
    assert end.event_type == "restore_test.failed"
    assert end.data["carried_out"] is False
    assert end.tenant.restore_tested == before
    assert end.tenant.restore_test_at == THEN + HOUR + DAY


def test_a_failed_test_of_a_copy_says_nothing_of_the_point_at_home() -> None:
    one = stored(copies={US: copied()})
    ended = ended_by("survey", "point_gone")
    end = testing.concluded(trial_of(one, US, **ended), TESTED, one, False, ended["failure"], THEN + HOUR)
    assert end.point.usable
    assert not end.point.copies[US].usable
    assert end.data["copy"] is True
    assert end.data["region"] == US


def test_the_end_of_a_test_leaves_another_one_and_a_file_that_asks_for_none_alone() -> None:
    one = stored()
    end = testing.concluded(trial_of(one), tenant(restore_testing="another"), one, True, None, THEN)
    assert end.tenant.restore_testing == "another"
    assert end.tenant.restore_test_at is None
    assert end.tenant.restore_tested is not None


# --- what follows for the instance ---------------------------------------------------------------------------------


def test_an_instance_whose_newest_point_is_unusable_has_the_one_before_as_its_newest() -> None:
    newest, older = stored("newest", 1), stored("older", 2)
    one = instance(newest_verified=d.Newest(point="newest", at=THEN - DAY, took_s=100), retention_at=THEN + DAY)
    bad = replace(newest, usable=False, updated_at=THEN)
    after = testing.weighed_after(one, TESTED, newest, bad, [newest, older], THEN)
    assert after.newest_verified == d.Newest(point="older", at=THEN - 2 * DAY, took_s=100)
    assert after.breach_due_at == THEN - 2 * DAY + timedelta(hours=TESTED.rpo_hours)
    assert after.retention_at == THEN
    assert after.retention.plan_at == THEN


def test_a_copy_that_is_unusable_is_counted_no_more() -> None:
    owner = replace(TESTED, entitlements=ADD_ON)
    before = stored(copies={US: copied()})
    work = d.CopyWork(verified=2, newest={US: d.Newest(point=before.id, at=THEN, took_s=1)})
    one = instance(copies=work, newest_verified=d.Newest(point=before.id, at=THEN - DAY, took_s=100))
    after = replace(before, copies={US: copied(usable=False)})
    weighed = testing.weighed_after(one, owner, before, after, [before], THEN)
    assert weighed.copies.verified == 1
    assert weighed.copies.newest == {}
    assert weighed.newest_verified == one.newest_verified

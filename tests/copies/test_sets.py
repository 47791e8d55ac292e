"""A point's sets: each read as a point of its own, and put back without touching the others."""

from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from tests.makers import THEN, copy_of, point, point_disk

from snapkeep.copies import sets
from snapkeep.documents import GONE, Copy, CopyDisk, Expiry, Failure, Hold, InstantRef, Moment, Point, SnapshotRef

US, WEST = "us-east1", "us-west1"
DAY = timedelta(days=1)
HOLD = Hold(id="h", reason="case 4711", by="someone@vendor.example", at=THEN)
EXPIRY = Expiry(was="verified", reason="no rule keeps it", decided_at=THEN, delete_after=THEN + DAY)


def ref(name: str, region: str = US) -> SnapshotRef:
    return SnapshotRef(project="acme-prod", name=name, location=region, id=f"id of {name}", status="READY", bytes=7)


def copy(region: str = US, **changes: Any) -> Copy:
    disks = [
        CopyDisk(id="1", name="acme-pam-1-boot", snapshot=ref(f"{region}-boot", region), attempts=2),
        CopyDisk(id="2", name="data", snapshot=ref(f"{region}-data", region), superseded=[ref("old", region)]),
    ]
    fields: dict[str, Any] = {"disks": disks, "started_at": THEN, "verified_at": THEN, "lock_until": THEN + 7 * DAY}
    return copy_of(**{"state": "verified"} | fields | changes)


def gone(**changes: Any) -> Copy:
    """A copy whose snapshots were deleted."""
    whole = copy()
    there = [(disk.snapshot, disk.superseded) for disk in whole.disks]
    refs = [(replace(one, status=GONE), [replace(old, status=GONE) for old in others]) for one, others in there]
    disks = [replace(disk, snapshot=x, superseded=y) for disk, (x, y) in zip(whole.disks, refs, strict=True)]
    return replace(whole, disks=disks, **changes)


def stored(**changes: Any) -> Point:
    """A verified point of two disks, with a copy in one region."""
    fields: dict[str, Any] = {
        "state": "verified",
        "disks": [
            point_disk(snapshot=ref("boot", "southamerica-east1")),
            point_disk(id="2", name="data", snapshot=ref("data", "southamerica-east1")),
        ],
        "verified_at": THEN,
        "lock_until": THEN + DAY,
        "stored_for": "10000",
        "next_at": None,
        "copies": {US: copy()},
    }
    return point(**fields | changes)


@pytest.mark.parametrize(("region", "name"), [(None, "p-1"), (US, "p-1@us-east1")])
def test_the_name_of_a_set_says_which_it_is(region: str | None, name: str) -> None:
    assert sets.name_of("p-1", region) == name
    assert sets.named(name) == ("p-1", region)


def test_the_set_at_home_is_the_point_itself() -> None:
    one = stored()
    assert sets.as_point(one, None) is one


def test_a_copy_is_a_point_with_its_own_snapshots_lock_holds_and_end() -> None:
    one = stored(holds=[HOLD], held=True, gone=["boot"], copies={US: copy(gone=["us-east1-data"], expiry=EXPIRY)})
    there = sets.as_point(one, US)
    assert [disk.snapshot.name for disk in there.disks] == ["us-east1-boot", "us-east1-data"]
    assert [(disk.attempts, len(disk.superseded)) for disk in there.disks] == [(2, 0), (1, 1)]
    assert [disk.size_gb for disk in there.disks] == [100, 100], "of the same disks"
    assert (there.lock_until, there.holds, there.held) == (THEN + 7 * DAY, [], False)
    assert (there.gone, there.expiry, there.copies) == (["us-east1-data"], EXPIRY, {})
    assert there.requested_at == one.requested_at, "the moment is the point's"


@pytest.mark.parametrize(
    ("state", "as_a_point"),
    [
        ("requested", "requested"),
        ("copying", "creating"),
        ("verified", "verified"),
        ("failed", "failed"),
        ("expiring", "expiring"),
        ("deleted", "deleted"),
    ],
)
def test_every_state_of_a_copy_is_one_of_a_point_and_back(state: Any, as_a_point: str) -> None:
    one = stored(copies={US: copy(state=state)})
    there = sets.as_point(one, US)
    assert there.state == as_a_point
    assert sets.with_set(one, US, there) == one


def test_no_copy_can_be_missed() -> None:
    one = stored()
    with pytest.raises(ValueError, match="'missed' is no state of a copy"):
        sets.with_set(one, US, replace(sets.as_point(one, US), state="missed"))


def test_a_failed_copy_is_kept_from_when_it_was_requested_itself() -> None:
    one = stored(copies={US: copy(state="failed", requested_at=THEN + 5 * DAY)})
    assert sets.as_point(one, US).requested_at == THEN + 5 * DAY


def test_where_there_is_no_copy_nothing_is_made_up() -> None:
    with pytest.raises(KeyError):
        sets.as_point(stored(), WEST)


def test_what_becomes_of_a_copy_leaves_home_and_other_copies_as_they_are() -> None:
    one = stored(copies={US: copy(), WEST: copy(WEST)})
    there = sets.as_point(one, US)
    disks = [replace(disk, snapshot=replace(disk.snapshot, status="GONE")) for disk in there.disks]
    failure = Failure(code="c", message="m")
    changed = replace(there, state="deleted", disks=disks, expiry=EXPIRY, failure=failure, updated_at=THEN + DAY)
    after = sets.with_set(one, US, changed)
    assert after.copies[US].state == "deleted"
    assert [disk.snapshot.status for disk in after.copies[US].disks] == ["GONE", "GONE"]
    assert [disk.attempts for disk in after.copies[US].disks] == [2, 1]
    assert (after.copies[US].expiry, after.copies[US].failure) == (EXPIRY, failure)
    assert after.updated_at == THEN + DAY
    assert after.copies[WEST] == one.copies[WEST]
    assert replace(after, copies=one.copies, updated_at=one.updated_at) == one


def test_what_becomes_of_home_leaves_copies_as_they_are() -> None:
    one = stored()
    after = sets.with_set(one, None, replace(one, state="expiring", expiry=EXPIRY, copies={}))
    assert (after.state, after.expiry, after.copies) == ("expiring", EXPIRY, one.copies)


def test_a_point_is_held_while_any_of_its_sets_is() -> None:
    one = stored()
    there = sets.with_set(one, US, replace(sets.as_point(one, US), holds=[HOLD]))
    assert there.held
    both = sets.with_set(there, None, replace(there, holds=[HOLD]))
    at_home = sets.with_set(both, US, replace(sets.as_point(both, US), holds=[]))
    assert (at_home.held, list(sets.holds_of(at_home))) == (True, [(None, [HOLD]), (US, [])])
    assert not sets.with_set(at_home, None, replace(at_home, holds=[])).held


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({}, [None, US]),
        ({"state": "failed"}, [None, US]),
        ({"state": "deleted"}, [US]),
        ({"state": "deleted", "copies": {}}, []),
        ({"state": "requested", "copies": {US: copy_of("requested")}}, []),
        ({"copies": {US: copy(state="deleted")}}, [None]),
        ({"copies": {US: copy(state="requested", disks=[])}}, [None]),
        ({"copies": {US: copy(state="requested")}}, [None, US]),  # what former tries left
        ({"copies": {US: gone(state="requested")}}, [None]),  # and what of them is read to be gone
        ({"copies": {US: gone(state="failed")}}, [None]),
        ({"copies": {US: copy(), WEST: copy(WEST, state="failed")}}, [None, US, WEST]),
    ],
    ids=str,
)
def test_a_point_is_stored_where_snapshots_of_it_may_be(changes: dict[str, Any], where: list[str | None]) -> None:
    one = stored(**changes)
    assert list(sets.stored(one)) == where
    assert sets.stored_for(one) == (one.instance.id if where else None)
    by_region = sets.by_region([one])
    assert [region for region, points in by_region.items() if points] == where
    assert {region: points[0] for region, points in by_region.items() if points} == {
        region: sets.as_point(one, region) for region in where
    }


def test_a_point_is_looked_at_for_its_moment_and_for_each_copy() -> None:
    moment = Moment(state="releasing", instants=[InstantRef(disk="1", scope="zones/z", name="i")], next_at=THEN + DAY)
    copies = {US: copy(next_at=THEN + 2 * DAY), WEST: copy(WEST, next_at=THEN + 3 * DAY)}
    assert sets.next_at(stored(copies=copies)) == THEN + 2 * DAY
    assert sets.next_at(stored(copies=copies, moment=moment)) == THEN + DAY
    assert sets.next_at(stored()) is None


def test_a_point_that_is_gone_at_home_is_looked_at_for_what_else_there_is() -> None:
    waits = stored(state="deleted", copies={US: copy(next_at=THEN + DAY)})
    assert (sets.settled(waits).next_at, sets.settled(waits).stored_for) == (THEN + DAY, waits.instance.id)
    runs = stored(state="creating", next_at=THEN, copies={})
    assert sets.settled(runs).next_at == THEN
    assert sets.settled(stored(state="deleted", copies={})).stored_for is None


def test_a_copy_that_is_asked_for_is_new_and_goes_through_temporary_disks() -> None:
    asked = sets.asked_for(None, by="anna", reason="r", lock_days=7, now=THEN)
    assert (asked.state, asked.way, asked.disks, asked.next_at) == ("requested", "temporary_disk", [], THEN)
    assert (asked.lock_until, asked.wanted_since) == (THEN + 7 * DAY, None)


def test_a_copy_that_is_tried_again_knows_its_former_snapshots_its_holds_and_since_when_it_is_wanted() -> None:
    first = copy(state="failed", holds=[HOLD], requested_at=THEN, late_told=True)
    second = sets.asked_for(first, by="snapkeep", reason="r", lock_days=7, now=THEN + DAY)
    assert (second.disks, second.holds, second.late_told) == (first.disks, [HOLD], True)
    assert (second.requested_at, second.wanted_since) == (THEN + DAY, THEN)
    third = sets.asked_for(replace(second, state="failed"), by="snapkeep", reason="r", lock_days=7, now=THEN + 2 * DAY)
    assert third.wanted_since == THEN
    anew = sets.asked_for(replace(first, state="deleted"), by="snapkeep", reason="r", lock_days=7, now=THEN + DAY)
    assert (anew.wanted_since, anew.late_told) == (None, True)


def test_what_a_restore_test_said_of_a_set_is_said_of_no_other() -> None:
    one = point(state="verified", usable=False, copies={US: copy_of("verified"), WEST: copy_of("verified")})
    assert sets.as_point(one, US).usable
    after = sets.with_set(one, US, replace(sets.as_point(one, US), usable=False))
    assert [after.copies[region].usable for region in (US, WEST)] == [False, True]
    assert not sets.as_point(after, US).usable

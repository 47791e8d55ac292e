"""What is bought, what a point's own life means to its copies, and how they are counted."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from tests.makers import PROJECT, REGION, THEN, ZONE, copy_of, point, point_disk, tenant

from snapkeep import cloud
from snapkeep import documents as d
from snapkeep.copies import rules

AWAY = "us-east1"
DAY = timedelta(days=1)


def buyer(until: str = "2026-11-30", region: str = AWAY, **changes: Any) -> d.Tenant:
    bought = d.InterRegionBackup(region=region, valid_until=until)
    return tenant(**{"entitlements": d.Entitlements(inter_region_backup=bought)} | changes)


def left(at: datetime) -> d.Offboarding:
    return d.Offboarding(at=at, by="anna@vendor.example", reason="end of contract")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# --- what is bought -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("owner", "now", "valid"),
    [
        (buyer(), "2026-11-01T00:00", True),
        (buyer(timezone="America/Sao_Paulo"), "2026-12-01T02:59:59", True),  # its last day, there
        (buyer(timezone="America/Sao_Paulo"), "2026-12-01T03:00", False),
        (buyer(timezone="Asia/Tokyo"), "2026-11-30T14:59:59", True),
        (buyer(timezone="Asia/Tokyo"), "2026-11-30T15:00", False),
        (buyer("2011-12-29", timezone="Pacific/Apia"), "2011-12-30T09:59:59", True),  # the 30th did not exist there
        (buyer("2011-12-29", timezone="Pacific/Apia"), "2011-12-30T10:00", False),
        (buyer("9999-12-31"), "2300-01-01T00:00", True),
        (buyer(offboarding=left(at("2026-11-10T00:00"))), "2026-11-09T23:59", True),
        (buyer(offboarding=left(at("2026-11-10T00:00"))), "2026-11-10T00:00", False),
        (tenant(), "2026-11-01T00:00", False),
    ],
)
def test_the_add_on_is_bought_to_the_end_of_its_last_day_by_its_tenants_clock(
    owner: d.Tenant, now: str, valid: bool
) -> None:
    assert (rules.entitled(owner, at(now)) is not None) == valid
    assert rules.regions_of(owner, REGION, at(now)) == ({REGION, AWAY} if valid else {REGION})


NOTED = {AWAY: at("2026-10-20T12:00")}


@pytest.mark.parametrize(
    ("owner", "ended"),
    [
        (buyer(), None),
        (buyer(copies_ended=NOTED), None),  # bought again
        (tenant(), None),  # nobody has noted it
        (tenant(copies_ended=NOTED), "2026-10-20T12:00"),
        (buyer(region="us-west1", copies_ended=NOTED), "2026-10-20T12:00"),  # moved to another region
        (buyer("2026-10-31", timezone="UTC"), "2026-11-01T00:00"),
        (buyer("2026-10-31", timezone="UTC", copies_ended=NOTED), "2026-11-01T00:00"),  # noted before it was renewed
        (buyer("2026-10-31", timezone="UTC", offboarding=left(at("2026-10-25T00:00"))), "2026-10-25T00:00"),
        (buyer(offboarding=left(at("2026-11-01T00:00"))), "2026-11-01T00:00"),
    ],
)
def test_when_copies_ended_to_be_bought_is_what_was_noted_or_the_end_of_the_last_day(
    owner: d.Tenant, ended: str | None
) -> None:
    assert rules.ended_at(owner, AWAY, at("2026-11-05T00:00")) == (at(ended) if ended else None)


# --- residency ----------------------------------------------------------------------------------------------------


def snapshot_in(region: str) -> cloud.InsertSnapshot:
    return cloud.InsertSnapshot(PROJECT, "sk-1", "projects/p/zones/z/disks/d", region, {})


def disk_in(zone: str) -> cloud.InsertDisk:
    return cloud.InsertDisk(PROJECT, f"zones/{zone}", "sk-tmp", "projects/p/global/snapshots/s", "pd-balanced", 10, {})


@pytest.mark.parametrize("change", [snapshot_in(REGION), snapshot_in(AWAY), disk_in(ZONE)])
def test_what_stays_in_the_home_region_and_the_one_that_was_bought_is_let_through(change: cloud.Insert) -> None:
    assert rules.refuse_residency(change, {REGION, AWAY}) is None


@pytest.mark.parametrize("change", [snapshot_in("us"), snapshot_in("europe-west1"), disk_in("us-central1-a")])
def test_what_would_be_stored_anywhere_else_is_refused_by_name(change: cloud.Insert) -> None:
    refused = rules.refuse_residency(change, {REGION, AWAY})
    assert refused is not None
    assert refused.code == "outside_residency"
    assert refused.message.endswith(f"allowed is {REGION}, {AWAY}")


def test_without_the_add_on_a_copy_of_a_snapshot_is_outside() -> None:
    assert rules.refuse_residency(snapshot_in(AWAY), rules.regions_of(tenant(), REGION, THEN))


# --- a point's life -----------------------------------------------------------------------------------------------


def test_a_point_begins_with_a_copy_that_waits_for_it_and_is_locked_by_the_copies_own_policy() -> None:
    retention = d.CopyRetention(lock_days=3)
    bought = d.InterRegionBackup(region=AWAY, valid_until="2026-11-30", retention=retention)
    owner = tenant(entitlements=d.Entitlements(inter_region_backup=bought))
    ((region, copy),) = rules.first_copies(point(), owner, THEN).items()
    assert (region, copy.state, copy.way) == (AWAY, "requested", "moment")
    assert copy.lock_until == THEN + 3 * DAY
    assert copy.next_at is None
    assert not copy.is_stored


@pytest.mark.parametrize(
    "owner",
    [tenant(), buyer("2026-10-30"), buyer(region=REGION)],
    ids=["not bought", "over", "its own region"],
)
def test_a_point_begins_without_a_copy_where_none_is_bought(owner: d.Tenant) -> None:
    assert rules.first_copies(point(), owner, THEN) == {}


def test_the_copy_of_a_point_that_is_flushed_by_its_guest_goes_through_temporary_disks() -> None:
    copies = rules.first_copies(point(), buyer(consistency="guest_flush"), THEN)
    assert copies[AWAY].way == "temporary_disk"
    assert not rules.needs_moment(point(copies=copies))


def moment(**changes: Any) -> d.Moment:
    return d.Moment(**{"state": "taken", "instants": []} | changes)


def test_a_verified_point_hands_its_moment_on_to_its_copy() -> None:
    now = THEN + DAY
    waiting = point(state="verified", copies={AWAY: copy_of("requested")}, moment=moment(), next_at=None)
    verified = rules.home_verified(waiting, now)
    assert verified.copies[AWAY].next_at == verified.next_at == now
    assert verified.moment == moment()


def test_a_verified_point_whose_moment_nobody_needs_releases_it() -> None:
    now = THEN + DAY
    verified = rules.home_verified(point(state="verified", moment=moment(), next_at=None), now)
    assert verified.moment == moment(state="releasing", next_at=now)
    assert verified.next_at == now


def test_a_verified_point_without_copies_and_moment_has_ended() -> None:
    assert rules.home_verified(point(state="verified"), THEN).next_at is None


@pytest.mark.parametrize("state", ["taking", "taken"])
def test_a_failed_point_leaves_no_copy_behind_and_releases_its_moment(state: str) -> None:
    now = THEN + DAY
    why = d.Failure(code="deadline", message="not complete")
    failed = point(state="failed", failure=why, copies={AWAY: copy_of("requested")}, moment=moment(state=state))
    after = rules.home_failed(failed, now)
    assert after.copies[AWAY].state == "failed"
    assert after.copies[AWAY].failure == d.Failure(
        code="home_failed", message="its point is not verified: deadline: not complete"
    )
    assert after.copies[AWAY].next_at is None
    assert after.moment == moment(state="releasing", next_at=now)
    assert after.next_at == now


def test_a_point_whose_moment_cannot_be_had_goes_on_and_only_its_copy_has_failed() -> None:
    why = d.Failure(code="no_moment", message="instant snapshots are refused")
    running = point(state="creating", copies={AWAY: copy_of("requested")}, moment=moment(state="taking"))
    after = rules.moment_failed(running, why, THEN + DAY)
    assert after.state == "creating"
    assert after.next_at == running.next_at
    assert after.moment == running.moment
    assert (after.copies[AWAY].state, after.copies[AWAY].failure) == ("failed", why)
    ended = rules.home_verified(replace(after, state="verified"), THEN + DAY)
    assert ended.copies[AWAY].state == "failed"
    assert ended.moment == moment(state="releasing", next_at=THEN + DAY)


# --- counting -----------------------------------------------------------------------------------------------------


def stored(state: d.CopyState, **changes: Any) -> d.Copy:
    ref = d.SnapshotRef(
        project=PROJECT, name="sk-copy-1", location=AWAY, id="5", status="READY", bytes=700, created_at=THEN
    )
    fields: dict[str, Any] = {
        "disks": [d.CopyDisk(id="1", name="acme-pam-1-boot", snapshot=ref)],
        "started_at": THEN + DAY,
        "verified_at": THEN + DAY + timedelta(minutes=5),
    }
    return copy_of(state, **fields | changes)


def with_copy(copy: d.Copy | None, state: d.PointState = "verified") -> d.Point:
    return point(state=state, disks=[point_disk()], copies={AWAY: copy} if copy else {})


EXPIRY = d.Expiry(was="verified", reason="no rule keeps it", decided_at=THEN, delete_after=THEN + DAY)


@pytest.mark.parametrize(
    ("copy", "bought", "counts"),
    [
        (None, AWAY, {}),
        (copy_of("requested"), AWAY, {"waiting": 1}),
        (copy_of("requested", late_told=True), AWAY, {"waiting": 1, "lagging": 1}),
        (copy_of("failed"), AWAY, {"missing": 1}),
        (copy_of("failed"), None, {}),
        (copy_of("failed", late_told=True), AWAY, {"missing": 1, "lagging": 1}),
        (stored("verified"), AWAY, {"verified": 1, "bytes": 700}),
        (stored("verified", late_told=True), AWAY, {"verified": 1, "bytes": 700}),
        (stored("verified"), "us-west1", {"unentitled": 1, "bytes": 700}),
        (stored("verified", gone=["sk-copy-1"]), AWAY, {"bytes": 700}),
        (stored("expiring", expiry=EXPIRY), AWAY, {"verified": 1, "bytes": 700}),
        (stored("expiring", expiry=replace(EXPIRY, begun_at=THEN)), AWAY, {"bytes": 700}),
        (stored("deleted"), AWAY, {}),
        (stored("failed"), AWAY, {"missing": 1, "bytes": 700}),
        (stored("copying"), AWAY, {"waiting": 1}),
        (stored("requested"), AWAY, {"waiting": 1}),
    ],
)
def test_a_copy_is_counted_by_what_it_is_and_whether_it_is_bought(
    copy: d.Copy | None, bought: str | None, counts: dict[str, Any]
) -> None:
    """From nothing, and back to nothing again."""
    here = rules.counted(d.CopyWork(), None, with_copy(copy), bought)
    assert replace(here, newest={}) == d.CopyWork(**counts)
    gone = rules.counted(here, with_copy(copy), with_copy(None), bought)
    assert replace(gone, newest={}) == d.CopyWork()


def test_what_was_read_of_a_copy_before_its_last_step_is_counted_with_it() -> None:
    copying = with_copy(stored("copying"))  # one snapshot was read to be READY, another is waited for
    began = rules.counted(d.CopyWork(), with_copy(copy_of("requested")), with_copy(stored("copying", disks=[])), AWAY)
    assert rules.counted(began, copying, with_copy(stored("verified")), AWAY).bytes == 700


def test_snapshots_of_a_copy_that_are_gone_have_no_bytes() -> None:
    once = stored("failed").disks[0]
    disks = [once, replace(once, snapshot=replace(once.snapshot, status=d.GONE))]
    assert rules.counted(d.CopyWork(), None, with_copy(stored("failed", disks=disks)), AWAY).bytes == 700


@pytest.mark.parametrize("state", ["creating", "failed"])
def test_the_copy_of_a_point_that_runs_or_has_failed_is_not_counted(state: d.PointState) -> None:
    assert rules.counted(d.CopyWork(), None, with_copy(copy_of("requested"), state), AWAY) == d.CopyWork()


def test_the_newest_verified_copy_of_a_region_is_the_one_of_the_latest_moment() -> None:
    before, after = with_copy(copy_of("requested")), with_copy(stored("verified"))
    here = rules.counted(d.CopyWork(), before, after, AWAY)
    assert here.newest == {AWAY: d.Newest(point=after.id, at=THEN, took_s=300)}
    later = replace(here, newest={AWAY: d.Newest(point="later", at=THEN + DAY, took_s=1)})
    assert rules.counted(later, before, after, AWAY).newest == later.newest
    assert rules.counted(here, after, with_copy(stored("deleted")), AWAY).newest == {}


def test_disks_that_were_copied_in_full_are_counted_once_and_for_ever() -> None:
    temporary = d.TemporaryDisk(project=PROJECT, zone=ZONE, name="sk-tmp", size_gb=100)
    done = stored("verified", way="temporary_disk")
    done = replace(done, disks=[replace(done.disks[0], temporary=temporary)])
    work = rules.counted(d.CopyWork(), with_copy(copy_of("copying")), with_copy(done), AWAY)
    assert (work.catch_up_disks, work.catch_up_bytes) == (1, 100 * 2**30)
    held = replace(done, late_told=True)
    work = rules.counted(work, with_copy(done), with_copy(held), AWAY)
    work = rules.counted(work, with_copy(held), with_copy(replace(held, state="deleted")), AWAY)
    assert (work.catch_up_disks, work.catch_up_bytes) == (1, 100 * 2**30)

"""What was bought of copies in a second region, and what a point's own life means to its copies. Pure.

Creation and retention build on this. How a copy is made is in `tries`, which ones are made up later in `wanted`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from snapkeep import cloud
from snapkeep.copies import sets
from snapkeep.creation.slots import ONE_DAY, first_instant
from snapkeep.documents import GONE, Copy, CopyWork, Failure, InterRegionBackup, MultiRegionDr, Newest, Point, Tenant

COPY_DEADLINE: Final = timedelta(hours=24)
"""From the beginning of a try until the copy must be verified: a region that is away is waited for no longer."""

COPY_WAIT_MAX_DAYS: Final = 14
"""How long a home point is kept for the sake of a copy that is not there, from when the copy was requested."""

CATCH_UP_DAYS: Final = 14
"""How far back copies are made up, from the moment that their points hold."""

COPY_LATE: Final = timedelta(hours=24)
"""A copy that is not verified so long after its point was, people are told of: long before COPY_WAIT_MAX_DAYS."""

UNENTITLED_GRACE: Final = timedelta(days=30)
"""How long copies that are no longer bought are kept, from when that ended."""

CATCH_UP_GB_PER_DAY: Final = 2_000
CATCH_UP_DISKS_PER_DAY: Final = 20
"""Sizes and number of the disks that are copied in full for one tenant in 24 hours; one point's always are."""

ACTOR: Final = "snapkeep"

FOREVER: Final = datetime.max.replace(tzinfo=UTC)


# --- what is bought -----------------------------------------------------------------------------------------------


def ends_at(bought: InterRegionBackup | MultiRegionDr, timezone: str) -> datetime:
    """The first instant at which it is no longer valid: the beginning of the day after its last one."""
    zone = ZoneInfo(timezone)
    day = date.fromisoformat(bought.valid_until)
    try:
        while True:
            day += ONE_DAY
            at = first_instant(day, time(0), zone)
            if at is not None:
                return at
    except OverflowError:  # the last day that there is
        return FOREVER


def entitled(tenant: Tenant, now: datetime) -> InterRegionBackup | None:
    """The add-on, while it is bought: to the end of its last day, and as long as the tenant has not left."""
    bought = tenant.entitlements.inter_region_backup
    if bought is None or tenant.has_left(now) or ends_at(bought, tenant.timezone) <= now:
        return None
    return bought


def ended_at(tenant: Tenant, region: str, now: datetime) -> datetime | None:
    """Since when copies in a region are no longer bought: as noted, or as the last day of the add-on says.

    None while they are bought; and where they no longer are, but nobody has noted since when. Of two instants it is
    the later: what was noted may be of a time before the add-on was bought again.
    """
    bought = entitled(tenant, now)
    if bought is not None and bought.region == region:
        return None
    known = [tenant.copies_ended[region]] if region in tenant.copies_ended else []
    bought = tenant.entitlements.inter_region_backup
    if bought is not None and bought.region == region:
        over = ends_at(bought, tenant.timezone)
        left = tenant.offboarding.at if tenant.offboarding else over
        known.append(min(over, left))
    return max(known, default=None)


def regions_of(tenant: Tenant, home: str, now: datetime) -> set[str]:
    """Where anything of an instance in this home region may be stored."""
    bought = entitled(tenant, now)
    return {home} if bought is None else {home, bought.region}


def refuse_residency(change: cloud.Insert, allowed: Collection[str]) -> Failure | None:
    """Why a change must not be asked for: it would write outside these regions. None if it would not."""
    region = cloud.written_to(change)
    if region in allowed:
        return None
    where = ", ".join(sorted(allowed)) or "nowhere"
    return Failure(code="outside_residency", message=f"{change.link} would be stored in {region}; allowed is {where}")


# --- a point's life, as its copies see it -------------------------------------------------------------------------


def first_copies(point: Point, tenant: Tenant, now: datetime) -> dict[str, Copy]:
    """The copies that a point begins with, by region: requested, and waiting for the point to be verified.

    An instant snapshot knows no guest flush, so that the copy of a point that is taken with one goes through temporary
    disks. The fleet file refuses the two together; a document that has them all the same loses no copy by it.
    """
    bought = entitled(tenant, now)
    if bought is None or bought.region == point.instance.region:
        return {}
    copy = Copy(
        state="requested",
        way="temporary_disk" if tenant.consistency == "guest_flush" else "moment",
        requested_at=now,
        requested_by=ACTOR,
        reason="inter-region backup",
        lock_until=now + timedelta(days=bought.retention.lock_days),
    )
    return {bought.region: copy}


def needs_moment(point: Point) -> bool:
    """Whether a copy is still to be made of the point's instant snapshots."""
    return any(copy.way == "moment" and copy.state in ("requested", "copying") for copy in point.copies.values())


def moment_failed(point: Point, why: Failure, now: datetime) -> Point:
    """The point without a moment that its copies could be made of: those have failed, and are made up later."""
    copies = {
        region: replace(copy, state="failed", failure=why, next_at=None)
        if copy.way == "moment" and copy.state in ("requested", "copying")
        else copy
        for region, copy in point.copies.items()
    }
    return settled(replace(point, copies=copies, updated_at=now), now)


def home_verified(point: Point, now: datetime) -> Point:
    """The point that has just become verified: its copies may be begun, and what nobody needs is to be released.

    `next_at` is set to what is left to do.
    """
    copies = {
        region: replace(copy, next_at=now) if copy.state == "requested" else copy
        for region, copy in point.copies.items()
    }
    return settled(replace(point, copies=copies), now)


def home_failed(point: Point, now: datetime) -> Point:
    """The point that has just failed: it leaves no copy behind, and its instant snapshots are to be released.

    `next_at` is set to what is left to do.
    """
    said = f"{point.failure.code}: {point.failure.message}" if point.failure else "it failed"
    why = Failure(code="home_failed", message=f"its point is not verified: {said}"[:500])
    copies = {
        region: replace(copy, state="failed", failure=why, next_at=None)
        if copy.state in ("requested", "copying")
        else copy
        for region, copy in point.copies.items()
    }
    return settled(replace(point, copies=copies), now)


def settled(point: Point, now: datetime) -> Point:
    """The point with its instant snapshots to be released where nobody needs them, and when it is looked at next."""
    if point.state in ("requested", "creating"):
        return point  # its own snapshots need them, and say when to look
    moment = point.moment
    if moment is not None and moment.state in ("taking", "taken") and not needs_moment(point):
        moment = replace(moment, state="releasing", next_at=now)
    settled = replace(point, moment=moment)
    return replace(settled, next_at=sets.next_at(settled))


# --- an instance's bookkeeping ------------------------------------------------------------------------------------


class _Counts(NamedTuple):
    """What one copy adds to its instance's CopyWork; follows from the point's document alone, whenever it is read."""

    verified: int = 0
    waiting: int = 0
    lagging: int = 0
    missing: int = 0
    unentitled: int = 0
    bytes: int = 0


def counted(work: CopyWork, before: Point | None, after: Point, bought: str | None) -> CopyWork:
    """How an instance's copies stand after one point has changed. `bought`: the region of the add-on, if any.

    A copy counts from when its point is verified; while the point runs, that is what is shown. What a policy would
    have besides is counted by `entitlements`.
    """
    was = _sum(_counts(before, bought)) if before else _Counts()
    became = _sum(_counts(after, bought))
    numbers = {
        name: max(getattr(work, name) + new - old, 0)
        for name, old, new in zip(_Counts._fields, was, became, strict=True)
    }
    full = [copy for region, copy in after.copies.items() if _has_become_verified(before, copy, region)]
    full = [copy for copy in full if copy.way == "temporary_disk"]
    disks = [disk for copy in full for disk in copy.disks]
    return replace(
        work,
        **numbers,
        catch_up_disks=work.catch_up_disks + len(disks),
        catch_up_bytes=work.catch_up_bytes + sum(d.temporary.size_gb for d in disks if d.temporary) * 2**30,
        newest=_newest(work.newest, after),
    )


def _has_become_verified(before: Point | None, copy: Copy, region: str) -> bool:
    known = before.copies.get(region) if before else None
    return copy.state == "verified" and (known is None or known.verified_at != copy.verified_at)


def _counts(point: Point, bought: str | None) -> Iterator[_Counts]:
    if point.state in ("requested", "creating", "failed", "missed"):
        return
    for region, copy in point.copies.items():
        mine = region == bought
        stored = copy.is_stored
        # Of a try that runs no commit but its last is counted, and its snapshots are read before that.
        refs = [] if copy.state in ("requested", "copying") else [disk.snapshot for disk in copy.disks]
        late = copy.late_told and copy.state in ("requested", "copying", "failed") and mine
        yield _Counts(
            verified=int(mine and is_whole(copy)),
            waiting=int(copy.state in ("requested", "copying")),
            lagging=int(late),
            missing=int(mine and copy.state == "failed"),
            unentitled=int(stored and not mine),
            bytes=sum(ref.bytes for ref in refs if ref.status != GONE) if stored else 0,
        )


def _sum(all: Iterator[_Counts]) -> _Counts:
    columns = [sum(column) for column in zip(*all, strict=True)]
    return _Counts(*columns) if columns else _Counts()


def is_whole(copy: Copy) -> bool:
    """Whether it can be restored from: verified, usable, nothing of it missing, and its deletion has not begun."""
    if copy.gone or not copy.usable:
        return False
    if copy.state == "expiring" and copy.expiry is not None:
        return copy.expiry.was == "verified" and copy.expiry.begun_at is None
    return copy.state == "verified"


def moment_of(copy: Copy) -> datetime | None:
    """The moment that a copy can bring back: that of its earliest snapshot."""
    return min((disk.snapshot.created_at for disk in copy.disks if disk.snapshot.created_at), default=None)


def newest_of(point: Point, region: str) -> Newest | None:
    """What a point's whole copy in a region is to CopyWork.newest; None where there is none."""
    copy = point.copies.get(region)
    if copy is None or not is_whole(copy):
        return None
    at = moment_of(copy)
    if at is None or copy.started_at is None or copy.verified_at is None:
        return None
    return Newest(point=point.id, at=at, took_s=int((copy.verified_at - copy.started_at).total_seconds()))


def _newest(known: dict[str, Newest], after: Point) -> dict[str, Newest]:
    """The newest copies, with those of this point; one that has gone is left to `entitlements` to replace."""
    newest = {region: one for region, one in known.items() if one.point != after.id}
    for region in after.copies:
        mine = newest_of(after, region)
        other = newest.get(region)
        if mine is not None and (other is None or other.at < mine.at):
            newest[region] = mine
    return newest

"""Which copies are bought and not there, and which of them are made up now. Pure: facts in, a choice out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from dataclasses import replace as replaced
from datetime import datetime, timedelta
from typing import Final

from msgspec.structs import replace

from snapkeep.copies import rules, sets, tries
from snapkeep.copies.rules import CATCH_UP_DAYS, CATCH_UP_DISKS_PER_DAY, CATCH_UP_GB_PER_DAY, COPY_LATE
from snapkeep.creation.rules import REQUEST_GRACE, taken_at
from snapkeep.documents import Copy, CopyWork, Failure, Instance, Point, Tenant
from snapkeep.retention import rules as retention

A_DAY: Final = timedelta(hours=24)
"""What the daily bounds are counted over, and how long a try through temporary disks is left before another one."""

LOOK_AGAIN: Final = timedelta(hours=1)
"""Until a tenant is weighed again while a copy waits, lags or misses."""

LOOK_AGAIN_QUIET: Final = timedelta(hours=24)
"""The same where nothing does."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What was copied in full within the last day, or is being."""

    points: int = 0
    disks: int = 0
    size_gb: int = 0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.points + other.points, self.disks + other.disks, self.size_gb + other.size_gb)

    def has_room_for(self, more: Spent) -> bool:
        """Whether that still fits into the day. One point always does."""
        if not self.points:
            return True
        total = self + more
        return total.disks <= CATCH_UP_DISKS_PER_DAY and total.size_gb <= CATCH_UP_GB_PER_DAY


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """A point whose copy is not there."""

    point: Point
    region: str
    can_be_made: bool  # now, were there room in the day
    is_late: bool  # and nobody was told yet
    lacks: Failure | None = None  # the key without which it is not asked for, where no entry says so yet

    @property
    def size(self) -> Spent:
        return _size(self.point)

    @property
    def reason(self) -> str:
        copy = self.point.copies.get(self.region)
        if self.lacks is not None or (copy is not None and _lacked_a_key(copy)):
            return "not begun: no_kms_key"
        if copy is None:
            return "bought after the point was taken"
        if copy.state == "failed":
            return f"the last try failed: {copy.failure.code}" if copy.failure else "the last try failed"
        if copy.state == "deleted":
            return "deleted, and wanted again"
        return "not verified a day after its point was taken"


@dataclass(frozen=True, slots=True)
class Weighed:
    """What was found of one instance."""

    found: tuple[Found, ...]
    spent: Spent
    stored: frozenset[str]  # regions of copies that may hold snapshots
    work: CopyWork  # as it is, before anything is done about it


def weigh(points: Sequence[Point], instance: Instance, tenant: Tenant, now: datetime) -> Weighed:
    """Look at all stored points of an instance."""
    bought = rules.entitled(tenant, now)
    region = bought.region if bought is not None and bought.region != instance.region else None
    missing = _missing(points, instance, tenant, region, now) if region is not None else []
    found = [
        Found(
            point,
            region,
            can_be_made=point in missing and _may_try(point, region, tenant, now),
            is_late=_is_late(point, region, now),
            lacks=_lacks(point, region, tenant) if point in missing else None,
        )
        for point in points
        if region is not None
    ]
    spent = sum((_spent(point, now) for point in points), Spent())
    stored = frozenset(r for point in points for r, copy in point.copies.items() if copy.is_stored)
    work = CopyWork()
    for point in points:
        work = rules.counted(work, None, point, region)
    work = replace(
        work,
        missing=len(missing),
        catch_up_disks=instance.copies.catch_up_disks,
        catch_up_bytes=instance.copies.catch_up_bytes,
    )
    return Weighed(tuple(one for one in found if one.can_be_made or one.is_late or one.lacks), spent, stored, work)


def _missing(
    points: Sequence[Point], instance: Instance, tenant: Tenant, region: str, now: datetime
) -> list[Point]:  # fmt: skip
    """The points whose copies are not there and not on their way, and which the copies' own policy would keep if every
    point had one: what it has just let go is not made again."""
    candidates = [point for point in points if _is_candidate(point, region, now)]
    if not candidates:
        return []
    there = [
        sets.as_point(point, region)
        for point in points
        if (copy := point.copies.get(region)) is not None and copy.state in ("verified", "expiring")
    ]
    coming = [point for point in points if _is_coming(point, region)]
    views = [replace(p, copies={}, lock_until=None, holds=[], held=False) for p in (*candidates, *coming)]
    known = retention.situation(tenant, instance, now, region=region)
    # Of no concern to a policy: what only puts off what it decides.
    known = replaced(known, in_breach=False, override=None, instance_holds=(), tenant_holds=())
    kept = retention.plan([*there, *views], known, now).decisions
    wanted = {one.point.id for one in kept if isinstance(one.decision, retention.Keep)}
    return [point for point in candidates if point.id in wanted]


def _is_candidate(point: Point, region: str, now: datetime) -> bool:
    copy = point.copies.get(region)
    absent = copy is None or copy.state in ("failed", "deleted")
    recent = taken_at(point) > now - timedelta(days=CATCH_UP_DAYS)
    return absent and recent and point.state == "verified" and retention.restorable(point)


def _is_coming(point: Point, region: str) -> bool:
    copy = point.copies.get(region)
    return copy is not None and copy.state in ("requested", "copying") and retention.restorable(point)


def _may_try(point: Point, region: str, tenant: Tenant, now: datetime) -> bool:
    """Whether a try may begin now: none through temporary disks began within a day, and nothing is left of the last."""
    copy = point.copies.get(region)
    if copy is not None:
        if copy.next_at is not None:
            return False
        came = _lacked_a_key(copy) and region in tenant.kms_keys
        recent = copy.way == "temporary_disk" and now < copy.requested_at + A_DAY
        if copy.state == "failed" and recent and not came:
            return False
    return tries.no_kms_key(point, region, tenant) is None


def _lacks(point: Point, region: str, tenant: Tenant) -> Failure | None:
    """The key without which a copy that has no entry is not asked for; None where nothing of it is to be noted."""
    copy = point.copies.get(region)
    if copy is not None and (copy.state != "deleted" or copy.next_at is not None):
        return None
    return tries.no_kms_key(point, region, tenant)


def _lacked_a_key(copy: Copy) -> bool:
    """Whether it has failed before anything was asked for: a try does not begin without the key."""
    return copy.state == "failed" and copy.failure is not None and copy.failure.code == "no_kms_key"


def can_be_made_up(point: Point, region: str, tenant: Tenant, now: datetime) -> bool:
    """Whether a copy whose try has failed is made up later, if its policy wants it."""
    refused = tries.not_entitled(tenant, region, now) or tries.no_kms_key(point, region, tenant)
    return refused is None and _is_candidate(point, region, now)


def _is_late(point: Point, region: str, now: datetime) -> bool:
    copy = point.copies.get(region)
    if copy is None or copy.late_told or copy.state not in ("requested", "copying", "failed"):
        return False
    return point.state == "verified" and _age_is_late(point, now)


def _age_is_late(point: Point, now: datetime) -> bool:
    return now >= taken_at(point) + COPY_LATE


def _spent(point: Point, now: datetime) -> Spent:
    recent = any(
        copy.way == "temporary_disk"
        and copy.requested_at > now - A_DAY
        and not _lacked_a_key(copy)
        and point.state not in ("requested", "creating")
        for copy in point.copies.values()
    )
    return _size(point) if recent else Spent()


def _size(point: Point) -> Spent:
    return Spent(1, len(point.disks), sum(disk.size_gb for disk in point.disks))


def chosen(found: Sequence[Found], spent: Spent) -> Collection[Found]:
    """The copies of a tenant that are made up now: the newest first, until the day's bound is met."""
    picked: list[Found] = []
    for one in sorted(found, key=lambda one: (taken_at(one.point), one.point.id), reverse=True):
        if not one.can_be_made:
            continue
        if not spent.has_room_for(one.size):
            break
        spent = spent + one.size
        picked.append(one)
    return set(picked)


def acted_on(one: Found, tenant: Tenant, now: datetime, *, request: bool) -> Point:
    """The point with its copy requested, or failed for want of a key, or with the note that people are told of it."""
    point, region = one.point, one.region
    copy = point.copies.get(region)
    if request:
        copy = _requested(copy, one, tenant, now)
    elif one.lacks is not None:
        copy = replace(_requested(copy, one, tenant, now), state="failed", failure=one.lacks, next_at=None)
    elif one.is_late and copy is not None:
        copy = replace(copy, late_told=True)
    if copy is None or copy == point.copies.get(region):
        return point
    after = replace(point, copies={**point.copies, region: copy}, updated_at=now)
    return replace(after, next_at=sets.next_at(after))


def _requested(before: Copy | None, one: Found, tenant: Tenant, now: datetime) -> Copy:
    bought = rules.entitled(tenant, now)
    assert bought is not None
    lock_days = bought.retention.lock_days
    copy = sets.asked_for(before, by=rules.ACTOR, reason=one.reason, lock_days=lock_days, now=now)
    told = _age_is_late(one.point, now) or (before is not None and before.late_told)
    return replace(copy, late_told=told, next_at=now + REQUEST_GRACE)


def look_again_at(tenant: Tenant, stored: Collection[str], now: datetime, *, waits: bool) -> datetime | None:
    """When a tenant is weighed next; None where it has bought nothing and nothing is stored."""
    bought = rules.entitled(tenant, now)
    if bought is None and not stored:
        return None
    if waits:
        return now + LOOK_AGAIN
    ends = [rules.ends_at(bought, tenant.timezone)] if bought is not None else []
    if bought is not None and tenant.offboarding is not None:
        ends.append(tenant.offboarding.at)
    return min([now + LOOK_AGAIN_QUIET, *ends])

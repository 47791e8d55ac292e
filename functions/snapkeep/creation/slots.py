"""When an instance's daily point is due. Pure: local time exists here and nowhere else in creation.

A slot is a local calendar day and the UTC instant that it starts at. Each instance has one slot a day, whatever its
time zone does to the clock and whatever its schedule is edited to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from snapkeep.documents import Instance, Slot, Tenant

MISSED_DAYS_MAX: Final = 35
"""Days of silence that are written down one by one (what a dashboard shows); of longer ones the last so many are."""

ONE_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class SlotPlan:
    """What the schedule asks of one instance now."""

    missed: tuple[Slot, ...]  # too late to take
    take: Slot | None  # to take now
    planned_day: str | None  # the last day that is decided with this
    next_slot_at: datetime | None  # when to ask again; None: the schedule takes nothing


def plan_slots(instance: Instance, tenant: Tenant, now: datetime) -> SlotPlan:
    """Decide every slot of an instance that has come since the last one that was decided.

    Only the newest of them can still be taken, and only within `catch_up_hours`: after days of silence an instance
    gets one point, not one for each lost day, since a point can only hold what is on the disks now.
    """
    if instance.lost_at is not None or not tenant.vendor_managed or tenant.has_left(now):
        return SlotPlan((), None, instance.planned_day, None)
    zone = ZoneInfo(tenant.timezone)
    come: list[Slot] = []
    following: Slot | None = None
    for slot in _slots_from(_first_open_day(instance, zone), instance.id, tenant):
        if slot.at > now:
            following = slot
            break
        if slot.at >= instance.seen_at:  # earlier ones were never due: nobody knew of the instance
            come.append(slot)
            del come[: -MISSED_DAYS_MAX - 1]
    assert following is not None
    if not come:
        return SlotPlan((), None, instance.planned_day, following.at)
    newest = come[-1]
    in_time = now - newest.at <= timedelta(hours=tenant.schedule.catch_up_hours)
    return SlotPlan(
        missed=tuple(come[:-1] if in_time else come),
        take=newest if in_time else None,
        planned_day=newest.day,
        next_slot_at=following.at,
    )


def only_missed(plan: SlotPlan) -> SlotPlan:
    """The plan without the slot that can still be taken: that one stays due."""
    if plan.take is None or not plan.missed:
        return plan
    return SlotPlan(plan.missed, None, plan.missed[-1].day, plan.take.at)


def slot_of(day: date, instance_id: str, tenant: Tenant) -> Slot | None:
    """The slot of a local day; None for a day that the time zone leaves out (Apia had no 30 December 2011)."""
    return _slot(day, instance_id, tenant.timezone, tenant.schedule.daily_at, tenant.schedule.spread_minutes)


@lru_cache(maxsize=4096)
def _slot(day: date, instance_id: str, timezone: str, daily_at: str, spread_minutes: int) -> Slot | None:
    hour, minute = daily_at.split(":")
    at = first_instant(day, time(int(hour), int(minute)), ZoneInfo(timezone))
    if at is None:
        return None
    return Slot(day=day.isoformat(), at=at + timedelta(seconds=spread_s(instance_id, spread_minutes)))


@lru_cache(maxsize=4096)
def spread_s(instance_id: str, spread_minutes: int) -> int:
    """Seconds after the hour of the schedule at which this instance's slot starts: stable, and even over a fleet."""
    if spread_minutes == 0:
        return 0
    digest = hashlib.sha256(f"spread:{instance_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % (spread_minutes * 60)


@lru_cache(maxsize=4096)
def first_instant(day: date, at: time, zone: tzinfo) -> datetime | None:
    """The first UTC instant at which local clocks show this time on this day.

    A time that the clock jumps over moves to the next one that it shows; one that it shows twice is the first of the
    two. None where no time of the day exists.
    """
    local = datetime.combine(day, at)
    before = local.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if before.astimezone(zone).replace(tzinfo=None) == local:
        return before
    # The clock jumps over it. PEP 495: fold=1 reads a skipped time with the offset after the jump, so that the jump
    # lies between the two readings; find it to the second.
    early, late = local.replace(tzinfo=zone, fold=1).astimezone(UTC), before
    offset_after = late.astimezone(zone).utcoffset()
    while late - early > timedelta(seconds=1):
        middle = early + timedelta(seconds=(late - early) // timedelta(seconds=2))
        if middle.astimezone(zone).utcoffset() == offset_after:
            late = middle
        else:
            early = middle
    moved_on = late.astimezone(zone).date() > day
    if moved_on and (at == time(0) or first_instant(day, time(0), zone) is None):
        return None
    return late


def local_day(at: datetime, timezone: str) -> date:
    return at.astimezone(ZoneInfo(timezone)).date()


def days_earlier(at: datetime, days: int, timezone: str) -> datetime:
    """The instant so many calendar days before, at the same local time, as Go's `time.AddDate` finds it.

    Where clocks skip that time or show it twice, Go promises one of the two readings. It takes the one that this
    finds: the offset that holds where the offset at the local time, read as UTC, would put it.
    """
    zone = ZoneInfo(timezone)
    as_utc = (at.astimezone(zone).replace(tzinfo=None) - timedelta(days=days)).replace(tzinfo=UTC)
    near = as_utc - _offset(as_utc, zone)
    return as_utc - _offset(near, zone)


def _offset(at: datetime, zone: tzinfo) -> timedelta:
    offset = at.astimezone(zone).utcoffset()
    assert offset is not None
    return offset


def _first_open_day(instance: Instance, zone: tzinfo) -> date:
    """The first local day whose slot is not decided yet."""
    if instance.planned_day is not None:
        return date.fromisoformat(instance.planned_day) + ONE_DAY
    # One day early: with a large spread, or an hour near midnight, yesterday's slot may still be to come.
    return instance.seen_at.astimezone(zone).date() - ONE_DAY


def _slots_from(day: date, instance_id: str, tenant: Tenant) -> Iterator[Slot]:
    while True:
        slot = slot_of(day, instance_id, tenant)
        if slot is not None:
            yield slot
        day += ONE_DAY

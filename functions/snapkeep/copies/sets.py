"""A point's sets: what is stored of it at home, and each copy. Pure.

Every set is complete in itself, and has its own lock, holds and end. What weighs, deletes or shows one reads it as a
Point of its own (`as_point`) and puts back what became of it (`with_set`), so that a copy is weighed as a point is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Final

from msgspec.structs import replace

from snapkeep.documents import Copy, CopyDisk, CopyState, Hold, Point, PointDisk, PointState

AT: Final = "@"
"""Between a point's id and a copy's region in the name of a set. Neither has it."""


def name_of(point: str, region: str | None) -> str:
    """How a set is named: `POINT` at home, `POINT@REGION` of a copy."""
    return point if region is None else f"{point}{AT}{region}"


def named(name: str) -> tuple[str, str | None]:
    """The point's id and the copy's region (None: at home) of a set's name."""
    point, _, region = name.partition(AT)
    return point, region or None


def stored(point: Point) -> Iterator[str | None]:
    """The regions of the sets of which snapshots may exist; None: at home."""
    if point.state not in ("requested", "missed", "deleted"):
        yield None
    yield from (region for region, copy in point.copies.items() if copy.is_stored)


_STATES: Final[Mapping[CopyState, PointState]] = {
    "requested": "requested",
    "copying": "creating",
    "verified": "verified",
    "failed": "failed",
    "expiring": "expiring",
    "deleted": "deleted",
}


def as_point(point: Point, region: str | None) -> Point:
    """The set as a Point: the same moment and disks, with the set's own snapshots, state, lock, holds and end.

    Raises KeyError where there is no copy in that region.
    """
    if region is None:
        return point
    copy = point.copies[region]
    mine = {disk.id: disk for disk in copy.disks}
    return replace(
        point,
        state=_STATES[copy.state],
        disks=[_as_point_disk(disk, mine[disk.id]) for disk in point.disks if disk.id in mine],
        requested_at=copy.requested_at if copy.state == "failed" else point.requested_at,
        started_at=copy.started_at,
        verified_at=copy.verified_at,
        deadline=copy.deadline or point.deadline,
        lock_until=copy.lock_until,
        holds=copy.holds,
        held=bool(copy.holds),
        copies={},
        moment=None,
        usable=copy.usable,
        gone=copy.gone,
        expiry=copy.expiry,
        failure=copy.failure,
        next_at=copy.next_at,
    )


def with_set(point: Point, region: str | None, after: Point) -> Point:
    """The point with one of its sets as it is now: `after` is what `as_point` gave, changed.

    What is kept is the set's state, snapshots, holds and end. `updated_at` becomes that of `after`.
    """
    if region is None:
        return replace(after, copies=point.copies, held=_any_held(after, point.copies))
    before = point.copies[region]
    theirs = {disk.id: disk for disk in after.disks}
    copy = replace(
        before,
        state=_copy_state(after.state),
        disks=[_with_snapshots(disk, theirs[disk.id]) if disk.id in theirs else disk for disk in before.disks],
        holds=after.holds,
        usable=after.usable,
        gone=after.gone,
        expiry=after.expiry,
        failure=after.failure,
    )
    copies = {**point.copies, region: copy}
    return replace(point, copies=copies, held=_any_held(point, copies), updated_at=after.updated_at)


def by_region(points: Iterable[Point]) -> dict[str | None, list[Point]]:
    """Of these points, every set of which snapshots may exist, as a Point of its own, by region; None: at home.

    In the order of the points; home first.
    """
    found: dict[str | None, list[Point]] = {None: []}
    for point in points:
        for region in stored(point):
            found.setdefault(region, []).append(as_point(point, region))
    return found


def holds_of(point: Point) -> Iterator[tuple[str | None, list[Hold]]]:
    """The holds on each of its sets, by region; None: at home."""
    yield None, point.holds
    yield from ((region, copy.holds) for region, copy in point.copies.items())


def asked_for(before: Copy | None, *, by: str, reason: str, lock_days: int, now: datetime) -> Copy:
    """The copy of a verified point that is to be made now, through temporary disks.

    `before`: the one that failed, was deleted or is incomplete, of which what is known of its snapshots stays: those
    that may still exist go with the new copy, whose attempts go on from theirs. Its holds and its lock stay too, since
    when a copy is wanted, and that people were told that it is late.
    """
    lock_until = now + timedelta(days=lock_days)
    failed = before if before is not None and before.state == "failed" else None
    return Copy(
        state="requested",
        way="temporary_disk",
        disks=before.disks if before else [],
        requested_at=now,
        wanted_since=(failed.wanted_since or failed.requested_at) if failed else None,
        requested_by=by,
        reason=reason,
        lock_until=max(lock_until, before.lock_until or lock_until) if before else lock_until,
        holds=before.holds if before else [],
        late_told=before.late_told if before else False,
        next_at=now,
    )


def next_at(point: Point) -> datetime | None:
    """When a point whose own snapshots are settled is looked at next: for its moment, or a copy. None: it is ended."""
    times = [copy.next_at for copy in point.copies.values()] + ([point.moment.next_at] if point.moment else [])
    return min((at for at in times if at is not None), default=None)


def settled(point: Point) -> Point:
    """The point with what its own document follows from its sets: for whom it is stored, and, once nothing of it is at
    home, when it is looked at next."""
    look_at = next_at(point) if point.state == "deleted" else point.next_at
    return replace(point, stored_for=stored_for(point), next_at=look_at)


def stored_for(point: Point) -> str | None:
    """What `Point.stored_for` is to say: the instance's id while any set may hold snapshots."""
    return point.instance.id if any(True for _ in stored(point)) else None


def _any_held(point: Point, copies: dict[str, Copy]) -> bool:
    return bool(point.holds) or any(copy.holds for copy in copies.values())


def _copy_state(state: PointState) -> CopyState:
    """Raises ValueError for what no copy can be."""
    for mine, theirs in _STATES.items():
        if theirs == state:
            return mine
    raise ValueError(f"{state!r} is no state of a copy")


def _as_point_disk(disk: PointDisk, mine: CopyDisk) -> PointDisk:
    return replace(
        disk,
        snapshot=mine.snapshot,
        superseded=mine.superseded,
        attempts=mine.attempts,
        operation=mine.operation,
        failure=mine.failure,
        retry_at=mine.retry_at,
    )


def _with_snapshots(disk: CopyDisk, after: PointDisk) -> CopyDisk:
    return replace(disk, snapshot=after.snapshot, superseded=after.superseded)

"""How a point goes, snapshot by snapshot, once nothing keeps it. Pure: facts in, steps out.

What is called a point here is one set of it, at home or a copy, as `copies.sets` shows it.

A snapshot is ours if it has the numeric id that was noted when it was read as part of its point; names and labels say
nothing, since anybody may give them. One whose id was never noted (of an attempt that failed before it was read) is
adopted only if all that it shows is what we asked for, and is then known by its id too. Deleting takes a name, so the
id is compared right before, and gone is what was read to be gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from msgspec.structs import replace

from snapkeep import cloud
from snapkeep.cloud import DeleteSnapshot, Snapshot
from snapkeep.copies import sets
from snapkeep.creation.rules import CLOCK_SKEW, SnapshotOutcome, breach_due, snapshot_name, taken_at
from snapkeep.documents import GONE, Failure, Instance, Newest, Point, PointDisk, SnapshotRef, Tenant

FIRST_LOOK: Final = timedelta(minutes=1)
"""After a deletion was asked for, until it is worth reading back: it takes seconds."""

ASK_AGAIN_MIN: Final = timedelta(minutes=10)
"""Until what is still there is asked to go again: longer than a function may run, so that who was to ask is dead."""

ASK_AGAIN_MAX: Final = timedelta(hours=6)


@dataclass(frozen=True, slots=True)
class Origin:
    """What a set's snapshots show besides the point that they are of."""

    region: str
    role: Literal["home", "copy"]
    sources: Mapping[str, Set[str]]  # a disk's id -> ids of the disks that its snapshots may be made from
    since: datetime | None  # they are not older; None: none was ever asked for


def origin(point: Point, region: str | None) -> Origin:
    """Of the snapshots of a point at home (None), or of its copy in a region: made from its own disks, of which an
    instant snapshot is one too, or from the temporary disks of the copy."""
    if region is None:
        return Origin(point.instance.region, "home", {disk.id: {disk.id} for disk in point.disks}, point.started_at)
    sources = {disk.id: {disk.id} for disk in point.disks}
    for copied in point.copies[region].disks:
        mine = sources.setdefault(copied.id, set())
        mine.update(copied.former_temporaries)
        if copied.temporary is not None and copied.temporary.id is not None:
            mine.add(copied.temporary.id)
    # Of any try: the copy says only when the last one was begun.
    return Origin(region, "copy", sources, point.started_at)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a point's end. Nothing of it is done yet."""

    point: Point  # to be committed first
    asks: tuple[DeleteSnapshot, ...] = ()  # recorded with the commit, asked for after it
    outcomes: tuple[SnapshotOutcome, ...] = ()  # of deletions that were asked for, recorded with the commit


def snapshots_of(point: Point) -> Iterator[tuple[PointDisk, SnapshotRef]]:
    """Every snapshot that was ever asked for as part of the point, with its disk; former attempts included."""
    for disk in point.disks:
        for ref in (*disk.superseded, disk.snapshot):
            yield disk, ref


def left(point: Point) -> list[SnapshotRef]:
    """Those that are not known to be gone."""
    return [ref for _, ref in snapshots_of(point) if ref.status != GONE]


def known(point: Point) -> list[SnapshotRef]:
    """Those of them that may be deleted: their numeric id is noted."""
    return [ref for ref in left(point) if ref.id is not None]


def names_without_id(point: Point) -> list[str]:
    return [ref.name for ref in left(point) if ref.id is None]


def bytes_of(point: Point) -> int:
    """Storage bytes of the snapshots that make the point, as read when they became READY."""
    return sum(disk.snapshot.bytes for disk in point.disks)


def adopted(point: Point, tenant: str, theirs: Origin, found: Mapping[str, Snapshot]) -> Point:
    """The point with the ids of those snapshots that nobody had noted and that are ours beyond doubt.

    `found` are the snapshots of its vault project that carry these names, by name, whoever made them.
    """

    def noted(disk: PointDisk, ref: SnapshotRef) -> SnapshotRef:
        snapshot = found.get(ref.name)
        if ref.id is not None or ref.status == GONE or snapshot is None:
            return ref
        if not _is_ours(point, tenant, theirs, disk, snapshot):
            return ref
        return replace(ref, id=snapshot.id, created_at=ref.created_at or snapshot.created_at)

    return _with_refs(point, noted)


def _is_ours(point: Point, tenant: str, theirs: Origin, disk: PointDisk, found: Snapshot) -> bool:
    """Whether a snapshot that nobody noted the id of shows in everything what was asked for as part of this point."""
    names = {
        snapshot_name(tenant, point.id, point.instance.name, disk.name, disk.id, theirs.region, attempt)
        for attempt in range(1, disk.attempts + 1)
    }
    labels = {"snapkeep-tenant": tenant, "snapkeep-point": point.id, "snapkeep-role": theirs.role}
    return (
        found.name in names
        and found.source_disk_id in theirs.sources[disk.id]
        and found.locations == (theirs.region,)
        and theirs.since is not None
        and found.created_at >= theirs.since - CLOCK_SKEW
        and all(found.labels.get(key) == value for key, value in labels.items())
    )


def has_begun(point: Point) -> bool:
    return point.state == "expiring" and point.expiry is not None and point.expiry.begun_at is not None


def begin(point: Point, reason: str, now: datetime) -> Step:
    """The beginning of the end of a point in `expiring`: from its commit on nothing keeps it."""
    assert point.expiry is not None
    expiry = replace(point.expiry, reason=reason, begun_at=now, attempts=1, asked_at=now)
    begun = replace(point, expiry=expiry, updated_at=now)
    return Step(begun, asks=_asks(begun, known(begun)))


def read_back(
    point: Point, tenant: str, theirs: Origin, found: Mapping[str, Snapshot], now: datetime, *, may_ask: bool
) -> Step | None:
    """What has become of a point whose deletion has begun; None where nothing is to be written yet.

    `found` are the snapshots of its vault project that carry one of its names, by name. Without `may_ask` (deletion is
    paused) what is still there stays there.
    """
    assert point.expiry is not None
    asked = {ref.name for ref in known(point)}
    adopting = adopted(point, tenant, theirs, found)
    there = [ref for ref in known(adopting) if _holds(ref, found)]
    gone = [ref for ref in known(adopting) if ref.name in asked and ref not in there]
    if not there:
        outcomes = tuple(_succeeded(ref, found) for ref in gone)
        names = {ref.name for ref in gone}
        expiry = replace(point.expiry, failure=None)
        ended = replace(
            _gone(adopting, names), state="deleted", stored_for=None, expiry=expiry, next_at=None, updated_at=now
        )
        return Step(ended, outcomes=outcomes)
    going = any(found[ref.name].status == "DELETING" for ref in there)
    if going or not may_ask or now < ask_again_at(point):
        return None
    why = point.expiry.failure or Failure(code="still_there", message="its deletion was asked for and did not happen")
    outcomes = (
        *(_succeeded(ref, found) for ref in gone),
        *(SnapshotOutcome(ref.name, "failed", why.code, why.message) for ref in there if ref.name in asked),
    )
    expiry = replace(point.expiry, attempts=point.expiry.attempts + 1, asked_at=now)
    again = replace(_gone(adopting, {ref.name for ref in gone}), expiry=expiry, updated_at=now)
    return Step(again, asks=_asks(again, there), outcomes=outcomes)


def ask_again_at(point: Point) -> datetime:
    """When what is still there of a point is asked to go again: pauses double with each time it was asked."""
    attempts = point.expiry.attempts if point.expiry else 1
    return asked_at(point) + min(ASK_AGAIN_MIN * (1 << min(max(attempts - 1, 0), 10)), ASK_AGAIN_MAX)


def asked_at(point: Point) -> datetime:
    """When what is left of a point was asked to go last. `updated_at` may tell of another set of it since."""
    return (point.expiry and point.expiry.asked_at) or point.updated_at


def hindered(point: Point, failure: Failure) -> Point:
    """The point with what stood in the way of its deletion. When it was last asked stays as it was."""
    assert point.expiry is not None
    return replace(point, expiry=replace(point.expiry, failure=failure))


def _holds(ref: SnapshotRef, found: Mapping[str, Snapshot]) -> bool:
    """True while the snapshot that was noted is there; another one under its name is not it."""
    return ref.name in found and found[ref.name].id == ref.id


def _succeeded(ref: SnapshotRef, found: Mapping[str, Snapshot]) -> SnapshotOutcome:
    if ref.name not in found:
        return SnapshotOutcome(ref.name, "succeeded")
    other = found[ref.name]
    message = f"{other.link} is another snapshot now, {other.id}, not {ref.id}: it is left alone"
    return SnapshotOutcome(ref.name, "succeeded", "not_ours", message)


def _asks(point: Point, refs: Sequence[SnapshotRef]) -> tuple[DeleteSnapshot, ...]:
    assert point.expiry is not None
    attempt = point.expiry.attempts
    return tuple(DeleteSnapshot(ref.project, ref.name, ref.id, attempt) for ref in refs if ref.id is not None)


def _gone(point: Point, names: set[str]) -> Point:
    return _with_refs(point, lambda _, ref: replace(ref, status=GONE) if ref.name in names else ref)


def _with_refs(point: Point, change: Callable[[PointDisk, SnapshotRef], SnapshotRef]) -> Point:
    disks = [
        replace(disk, snapshot=change(disk, disk.snapshot), superseded=[change(disk, ref) for ref in disk.superseded])
        for disk in point.disks
    ]
    return point if disks == point.disks else replace(point, disks=disks)


# --- the instance's own bookkeeping -------------------------------------------------------------------------------


def after_deletion(
    instance: Instance, deleted: Mapping[str, Point], stored: Sequence[Point], now: datetime
) -> Instance:
    """The instance without these sets, by name. `stored`: what is left, needed where its newest verified went."""
    at_home = [point for name, point in deleted.items() if sets.named(name)[1] is None]
    counted = [point for point in at_home if point.expiry and point.expiry.was == "verified"]
    ids = {point.id for point in at_home}
    work = replace(
        instance.retention,
        deleting=[name for name in instance.retention.deleting if name not in deleted],
        # They were among what was to go within the week.
        going=max(instance.retention.going - len(deleted), 0),
        going_bytes=max(instance.retention.going_bytes - sum(map(bytes_of, deleted.values())), 0),
        incomplete=max(instance.retention.incomplete - sum(bool(point.gone) for point in deleted.values()), 0),
    )
    tally = replace(
        instance.tally,
        stored=max(instance.tally.stored - len(counted), 0),
        bytes=max(instance.tally.bytes - sum(map(bytes_of, counted)), 0),
    )
    after = replace(instance, tally=tally, retention=work, updated_at=now)
    newest = instance.newest_verified
    if newest is None or newest.point not in ids:
        return after
    return replace(after, newest_verified=newest_of(stored, newest.took_s))


def with_newest(instance: Instance, tenant: Tenant, stored: Sequence[Point]) -> Instance:
    """The instance by its points as they are now, where one of them is no longer complete, or is again.

    Its newest verified point, and when it is in breach unless another one comes. A breach that stands is ended, and
    one that has come is told, by `health`.
    """
    before = instance.newest_verified
    after = replace(instance, newest_verified=newest_of(stored, before.took_s if before else None))
    if after.breach_at is not None or after.lost_at is not None:
        return after
    return replace(after, breach_due_at=breach_due(after, tenant))


def newest_of(points: Sequence[Point], took_s: int | None) -> Newest | None:
    """The newest of these points that can be restored and is not on its way out. `took_s`: of the newest before."""
    verified = [(taken_at(point), point.id, point.expected_s) for point in points if _is_verified(point)]
    if not verified:
        return None
    at, id, expected_s = max(verified)
    return Newest(point=id, at=at, took_s=expected_s if took_s is None else took_s)


def _is_verified(point: Point) -> bool:
    if not point.usable or point.gone:
        return False
    if point.state == "expiring" and point.expiry is not None:
        return point.expiry.was == "verified" and point.expiry.begun_at is None
    return point.state == "verified"


# --- audit --------------------------------------------------------------------------------------------------------


def changes_of(asks: Sequence[DeleteSnapshot]) -> Iterator[dict[str, Any]]:
    """The changes as an audit record keeps them."""
    for change in asks:
        yield {
            "change": "DeleteSnapshot",
            "project": change.project,
            "name": change.name,
            "id": change.id,
            "attempt": change.attempt,
            "request_id": cloud.request_id(change),
        }

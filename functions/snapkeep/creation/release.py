"""The release of a moment that nobody needs any more: it is asked to go until it is read to be gone. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from msgspec.structs import replace

from snapkeep.cloud import (
    DeleteInstantSnapshot,
    DeleteInstantSnapshotGroup,
    InstantSnapshot,
    InstantSnapshotGroup,
)
from snapkeep.copies import sets
from snapkeep.creation import rules
from snapkeep.creation.moment import DELETING, LOOK, Seen, group_link, groups_of, held_in, moment_of, noting, since
from snapkeep.creation.rules import PointChange, SnapshotOutcome, Step
from snapkeep.documents import GONE, Failure, GroupRef, InstantRef, Moment, Point

ASK_AGAIN_MIN: Final = timedelta(minutes=10)
"""Until what is still there is asked to go again, doubling: longer than a function may run."""

ASK_AGAIN_MAX: Final = timedelta(hours=6)

DELETION_PAUSED: Final = timedelta(hours=1)
"""Between two looks at a moment that may not be released, because deletion is paused."""


def is_due(point: Point, now: datetime) -> bool:
    """Whether the point's own life is over and its moment is due to be looked at."""
    moment = point.moment
    if point.state in rules.LIVING or moment is None or moment.state != "releasing":
        return False
    return moment.next_at is not None and moment.next_at <= now


def hindered(point: Point, failure: Failure | None, now: datetime, *, pause: timedelta = ASK_AGAIN_MIN) -> Point:
    """The point whose release is looked at later, with what stood in its way."""
    moment = replace(moment_of(point), failure=failure, next_at=now + pause)
    return _with(point, moment)


def _with(point: Point, moment: Moment) -> Point:
    after = replace(point, moment=moment)
    return replace(after, next_at=sets.next_at(after))


@dataclass(frozen=True, slots=True)
class _Fate:
    """What a read shows of one instant snapshot, or group, that is to go."""

    what: Literal["there", "going", "gone", "stranger", "may_come"]
    id: str | None = None


def step(point: Point, tenant: str, seen: Seen, now: datetime) -> Step[PointChange]:
    """Ask for what holds a moment to go, again until it is read to be gone.

    What is ours has the numeric id that was noted when it was read; one that nobody read is adopted only if it is of
    the disk's name, or of the group, and made after the point was begun. Members of a group go with it.
    """
    moment = moment_of(point)
    asked_at = moment.asked_at or point.updated_at
    settled = now - asked_at >= rules.UNKNOWN_SETTLED
    links: dict[str, GroupRef | InstantRef] = {group_link(point, group): group for group in groups_of(moment)}
    members_stay = bool(links)
    links |= {rules.instant_link(point, ref): ref for ref in held_in(moment)}
    fates = {link: _fate(point, tenant, ref, link, seen, settled=settled) for link, ref in links.items()}
    gone = {link for link, fate in fates.items() if fate.what in ("gone", "stranger")}
    outcomes = [
        _gone(moment, links[link], link, fates[link]) for link in links if link in gone and _asked_to_go(links[link])
    ]
    if len(gone) == len(links):
        after = noting(point, lambda link, ref: replace(ref, status=GONE) if link in gone else ref)
        over = replace(moment_of(after), state="released", next_at=None)
        return Step(replace(_with(after, over), updated_at=now), outcomes=tuple(outcomes))

    there = [
        link
        for link, fate in fates.items()
        if fate.what == "there" and not (members_stay and isinstance(links[link], InstantRef))
    ]
    again_at = asked_at + _pause(moment)
    going = any(fate.what == "going" for fate in fates.values())
    due = moment.removals == 0 or now >= again_at or any(not _asked_to_go(links[link]) for link in there)
    asks = there if there and due and not going else []
    attempt = moment.removals + 1
    why = moment.failure or Failure(code="still_there", message="its deletion was asked for and did not happen")
    outcomes += [
        SnapshotOutcome(links[link].name, "failed", why.code, why.message, attempt=moment.removals)
        for link in asks
        if _asked_to_go(links[link])
    ]

    def noted(link: str, ref: GroupRef | InstantRef) -> GroupRef | InstantRef:
        if link in gone:
            return replace(ref, status=GONE)
        if link in asks:
            return replace(ref, id=fates[link].id, status=DELETING)
        return replace(ref, id=ref.id or fates[link].id) if link in fates else ref

    after = noting(point, noted)
    if not asks:
        later = replace(moment_of(after), next_at=again_at if again_at > now else now + ASK_AGAIN_MIN)
        return Step(_with(after, later), outcomes=tuple(outcomes))
    # No failure of before: what stands in the way of these requests is noted anew.
    asking = replace(moment_of(after), removals=attempt, asked_at=now, failure=None, next_at=now + LOOK)
    deletes = tuple(_delete(point, links[link], fates[link].id, attempt) for link in asks)
    return Step(
        replace(_with(after, asking), updated_at=now), intents=deletes, starts=deletes, outcomes=tuple(outcomes)
    )


def _pause(moment: Moment) -> timedelta:
    return min(ASK_AGAIN_MIN * (1 << min(max(moment.removals - 1, 0), 10)), ASK_AGAIN_MAX)


def _asked_to_go(ref: GroupRef | InstantRef) -> bool:
    return ref.status == DELETING


def _fate(point: Point, tenant: str, ref: GroupRef | InstantRef, link: str, seen: Seen, *, settled: bool) -> _Fate:
    found = seen.groups.get(link) if isinstance(ref, GroupRef) else seen.instants.get(link)
    if found is not None:
        ours = found.id == ref.id if ref.id is not None else _is_ours(point, tenant, ref, found)
        if ours:
            return _Fate("going" if found.status == DELETING else "there", found.id)
        return _Fate("stranger", found.id)
    if ref.id is not None:
        return _Fate("gone")
    operation = seen.operations.get(ref.operation) if ref.operation else None
    running = operation is not None and operation.status != "DONE"
    # What left no sign may still be asked for by a run that is late, until it must be dead.
    return _Fate("gone" if settled and not running else "may_come")


def _is_ours(
    point: Point, tenant: str, ref: GroupRef | InstantRef, found: InstantSnapshot | InstantSnapshotGroup
) -> bool:
    """Whether what nobody noted the id of shows in everything what was asked for as part of this point."""
    if found.created_at < since(point):
        return False
    match ref, found:
        case InstantRef(), InstantSnapshot():
            labels = {"snapkeep-tenant": tenant, "snapkeep-point": point.id}
            mine = all(found.labels.get(key) == value for key, value in labels.items())
            # By the disk's link: our own request, which names the disk, may have met another one under that name.
            of = next((rules.disk_link(point, disk) for disk in point.disks if disk.id == ref.disk), None)
            return mine and found.source_disk == of
        case GroupRef(), InstantSnapshotGroup():
            return found.consistency_group == ref.policy
        case _:
            return False


def _gone(moment: Moment, ref: GroupRef | InstantRef, link: str, fate: _Fate) -> SnapshotOutcome:
    if fate.what == "gone":
        return SnapshotOutcome(ref.name, "succeeded", attempt=moment.removals)
    message = f"{link} is another one now, {fate.id}, not {ref.id}: it is left alone"
    return SnapshotOutcome(ref.name, "succeeded", "not_ours", message, attempt=moment.removals)


def _delete(point: Point, ref: GroupRef | InstantRef, id: str | None, attempt: int) -> PointChange:
    assert id is not None
    kind = DeleteInstantSnapshotGroup if isinstance(ref, GroupRef) else DeleteInstantSnapshot
    return kind(point.instance.project, ref.scope, ref.name, id, attempt)

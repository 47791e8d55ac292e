"""How a restore in place swaps the disks of an instance, and swaps them back where it is given up. Pure.

The instance is stopped before any disk of it is touched, each disk is known by its numeric id, and none is deleted:
what was attached before stays as it is, beside the instance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace as changed
from datetime import datetime
from functools import partial
from typing import Final

from msgspec.structs import replace

from snapkeep import cloud
from snapkeep.cloud import AttachDisk, DetachDisk, Disk, SetDiskLabels, StartInstance, StopInstance
from snapkeep.documents import Failure, FormerDisk, Restore
from snapkeep.restore import rules
from snapkeep.restore.asks import Goal, Pursued, asker, ended, pursue
from snapkeep.restore.facts import (
    GOING_DOWN,
    ON_ITS_WAY,
    Facts,
    Incoming,
    Taken,
    attachment,
    incoming,
    instance_of,
    outgoing,
    pursued,
    put_back,
    taken,
)
from snapkeep.restore.rules import ASKS_MAX, FORMER_KEPT, disk_link

OURS: Final = "snapkeep-"
"""What our labels begin with."""


def _without_instance(restore: Restore, at: int) -> Taken:
    """Somebody has removed the instance: nothing can be swapped. What was attached before is named as left."""
    if not restore.steps[at].undo:
        message = f"{restore.target.name} ({restore.target.id}) was removed, or replaced, while it was restored"
        return Taken(restore, dead=Failure(code="instance_gone", message=message))
    former = [one.link for one in outgoing(restore)]
    return Taken(replace(restore, left=sorted({*restore.left, *former})), done=True)


def _stopped(restore: Restore, found: cloud.Instance) -> Goal:
    what = f"StopInstance {found.name}"
    if found.status in ("TERMINATED", *GOING_DOWN, *ON_ITS_WAY):
        return Goal(what, met=found.status == "TERMINATED")
    return Goal(what, met=False, ask=partial(StopInstance, found.project, found.zone, found.name, found.id))


def _is_as_before(restore: Restore, facts: Facts, found: cloud.Instance) -> bool:
    """Whether exactly what was attached before is attached of the two sets of disks."""
    there = {attached.source for attached in found.disks}
    ours = {one.link for one in incoming(restore, facts)} - {one.link for one in outgoing(restore)}
    return not ours & there and {one.link for one in outgoing(restore)} <= there


def stop(restore: Restore, at: int, tenant: str, facts: Facts, now: datetime) -> Taken:
    found = instance_of(restore, facts)
    if found is None:
        return _without_instance(restore, at)
    if restore.steps[at].undo and _is_as_before(restore, facts, found):
        return pursued(restore, at, facts, now, [], None)
    if facts.denied is not None and not restore.steps[at].undo and restore.steps[at].asked == 0:
        return Taken(restore, dead=facts.denied)  # making the disks may have taken hours
    return pursued(restore, at, facts, now, [_stopped(restore, found)], ASKS_MAX)


def detach_disks(restore: Restore, at: int, tenant: str, facts: Facts, now: datetime) -> Taken:
    found = instance_of(restore, facts)
    if found is None:
        return _without_instance(restore, at)
    undo = restore.steps[at].undo
    if undo and _is_as_before(restore, facts, found):
        return pursued(restore, at, facts, now, [], None)
    going = incoming(restore, facts) if undo else outgoing(restore)
    goals = [_detached(one, found, facts) for one in going]
    if undo:  # another disk under the name of one of ours is nobody's to detach
        goals = [goal for goal in goals if goal.lost is None]
    if not all(goal.met for goal in goals) and found.status != "TERMINATED":
        goals = _first_stopped(restore, found, goals)
    return pursued(restore, at, facts, now, goals, ASKS_MAX)


def _first_stopped(restore: Restore, found: cloud.Instance, goals: Sequence[Goal]) -> list[Goal]:
    """The same once the instance is stopped, which somebody has started: what is asked for already is not forgotten."""
    return [_stopped(restore, found), *(changed(goal, ask=None) for goal in goals)]


def _detached(one: Incoming, found: cloud.Instance, facts: Facts) -> Goal:
    what = f"DetachDisk {one.device_name}"
    attached = next((a for a in found.disks if a.source == one.link), None)
    if attached is None:
        return Goal(what, met=True)
    disk = facts.disks.get(one.link)
    if disk is None or (one.id is not None and disk.id != one.id):
        which = disk.id if disk else "not there"
        return Goal(what, met=False, lost=Failure(code="disk_replaced", message=f"{one.link} is {which}, not {one.id}"))
    ask = partial(DetachDisk, found.project, found.zone, found.name, found.id, attached.device_name)
    return Goal(what, met=False, ask=ask)


def attach_disks(restore: Restore, at: int, tenant: str, facts: Facts, now: datetime) -> Taken:
    found = instance_of(restore, facts)
    if found is None:
        return _without_instance(restore, at)
    undo = restore.steps[at].undo
    coming = outgoing(restore) if undo else incoming(restore, facts)
    there = {attached.source for attached in found.disks}
    if undo:  # what somebody has removed meanwhile cannot come back, and keeps nothing else waiting
        lost = [one.link for one in coming if one.link not in there and not _is_the_same(one, facts)]
        restore = replace(restore, left=sorted({*restore.left, *lost}))
        coming = [one for one in coming if one.link not in lost]
    goals = [_attached(one, found, facts) for one in coming]
    if not all(goal.met for goal in goals) and found.status != "TERMINATED":
        goals = _first_stopped(restore, found, goals)
    return pursued(restore, at, facts, now, goals, ASKS_MAX)


def _is_the_same(one: Incoming, facts: Facts) -> bool:
    disk = facts.disks.get(one.link)
    return disk is not None and (one.id is None or disk.id == one.id)


def _attached(one: Incoming, found: cloud.Instance, facts: Facts) -> Goal:
    what = f"AttachDisk {one.device_name}"
    if not _is_the_same(one, facts):  # also where another of its name was attached in its place
        message = f"{one.link} ({one.id}), which was to be attached, is not there any more"
        return Goal(what, met=False, lost=Failure(code="disk_gone", message=message))
    if any(attached.source == one.link for attached in found.disks):
        return Goal(what, met=True)

    def ask(attempt: int) -> AttachDisk:
        return AttachDisk(found.project, found.zone, found.name, found.id, attachment(one), attempt)

    return Goal(what, met=False, ask=ask)


def start(restore: Restore, at: int, tenant: str, facts: Facts, now: datetime) -> Taken:
    found = instance_of(restore, facts)
    if found is None:
        return _without_instance(restore, at)
    what = f"StartInstance {found.name}"
    if not restore.was_running:
        return pursued(restore, at, facts, now, [], None)
    if found.status in ("RUNNING", *GOING_DOWN, *ON_ITS_WAY):
        goal = Goal(what, met=found.status == "RUNNING")
    else:
        goal = Goal(what, met=False, ask=partial(StartInstance, found.project, found.zone, found.name, found.id))
    return pursued(restore, at, facts, now, [goal], ASKS_MAX)


def label_disks(restore: Restore, at: int, tenant: str, facts: Facts, now: datetime) -> Taken:
    """Labels help people. What cannot be labelled is passed over, and is then not deleted later either."""
    step = restore.steps[at]
    goals = [
        _labelled(one, wanted, facts.disks.get(disk_link(one)))
        for one, wanted in _labels(restore, tenant, facts, step.at or now, undo=step.undo)
    ]
    seen = pursue(step, goals, facts.operations, now, asker=asker(restore, at), asks_max=ASKS_MAX)
    if seen.dead is not None:
        rest = tuple(ended(ask, facts.operations, seen.dead) for ask in seen.step.asks if ask.failure is None)
        return taken(restore, at, Pursued(replace(seen.step, asks=[]), outcomes=(*seen.outcomes, *rest), met=True))
    return taken(restore, at, seen)


def _labels(
    restore: Restore, tenant: str, facts: Facts, since: datetime, *, undo: bool
) -> Iterator[tuple[FormerDisk, dict[str, str]]]:
    """Each former disk, and each that is put back, with the labels of ours that it is to have."""
    for one in restore.former:
        before = {key: value for key, value in one.labels.items() if key.startswith(OURS)}
        yield one, before if undo else kept_labels(restore, tenant, since + FORMER_KEPT)
    for one in put_back(restore, facts):
        before = {key: value for key, value in one.labels.items() if key.startswith(OURS)}
        assert facts.undone is not None
        kept = kept_labels(facts.undone, tenant, facts.undone.keep_until or since)
        yield one, kept if undo else before


def kept_labels(restore: Restore, tenant: str, until: datetime) -> dict[str, str]:
    return rules.labels(restore.id, tenant, "former") | {"snapkeep-kept-until": f"{until:%Y-%m-%d}"}


def _labelled(one: FormerDisk, wanted: Mapping[str, str], found: Disk | None) -> Goal:
    what = f"SetDiskLabels {one.name}"
    if found is None or found.id != one.id:
        return Goal(what, met=True)  # there is nothing to be labelled any more
    ours = {key: value for key, value in found.labels.items() if key.startswith(OURS)}
    if ours == wanted:
        return Goal(what, met=True)
    theirs = {key: value for key, value in found.labels.items() if not key.startswith(OURS)}

    def ask(attempt: int) -> SetDiskLabels:
        labels = {**theirs, **wanted}
        return SetDiskLabels(one.project, one.scope, one.name, one.id, labels, found.label_fingerprint, attempt)

    return Goal(what, met=False, ask=ask)

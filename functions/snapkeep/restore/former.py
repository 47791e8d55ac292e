"""Disks that were attached before a restore in place: kept for a while, then asked to go, and never lost before. Pure.

One goes only if it is the disk by its numeric id, attached to nothing, and still labelled as kept by that restore: a
person who takes the label off keeps the disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from msgspec.structs import replace

from snapkeep.cloud import DeleteDisk, Disk
from snapkeep.documents import Failure, FormerDisk, Restore, RestoreStep
from snapkeep.restore import asks
from snapkeep.restore.asks import Goal, pursue
from snapkeep.restore.facts import Facts, with_step
from snapkeep.restore.life import ASK_GRACE, Step
from snapkeep.restore.rules import FORMER_ASKED, disk_link

ASK_AGAIN: Final = timedelta(days=1)
"""Until a disk that may not go now is looked at again."""


def due(restore: Restore, now: datetime) -> bool:
    """Whether it is time for what an ended restore has kept."""
    return restore.state == "completed" and restore.keep_until is not None and restore.keep_until <= now


def wanted(restore: Restore) -> tuple[set[str], set[str]]:
    """Links of the disks, and of the operations, that the next look needs to know."""
    disks = {disk_link(one) for one in restore.former if one.status == "kept"}
    asked = {ask.operation for step in restore.steps for ask in step.asks if ask.operation and ask.failure is None}
    return disks, asked


def remove(restore: Restore, facts: Facts, now: datetime, *, kept_by: str | None) -> Step:
    """Ask for the former disks to go whose time is over. `kept_by`: what keeps all of them for now."""
    assert restore.keep_until is not None
    asked_until = restore.keep_until + FORMER_ASKED
    restore = _with_removal(restore, now)
    at = len(restore.steps) - 1
    goals: dict[str, Goal] = {
        one.id: _gone(restore, one, facts, kept_by) for one in restore.former if one.status == "kept"
    }
    asker = asks.asker(restore, at)
    seen = pursue(restore.steps[at], list(goals.values()), facts.operations, now, asker=asker, asks_max=None)
    former = [
        replace(one, status="gone") if one.id in goals and goals[one.id].met else one for one in restore.former
    ]  # fmt: skip
    after = replace(with_step(restore, at, seen.step), former=former)
    if former != restore.former or seen.starts:
        after = replace(after, updated_at=now)
    if seen.met:
        return Step(_over(after, at, "done", now), outcomes=seen.outcomes)
    waits = any(ask.failure is None for ask in seen.step.asks)
    if now >= asked_until and not waits:
        left = sorted(disk_link(one) for one in former if one.status == "kept")
        return Step(_over(replace(after, left=left), at, "failed", now), outcomes=seen.outcomes)
    look_at = now + ASK_GRACE if seen.starts else now + asks.LOOK_SOON
    return Step(
        replace(after, next_at=look_at if waits else now + ASK_AGAIN),
        seen.intents,
        seen.starts,
        seen.outcomes,
    )


def _with_removal(restore: Restore, now: datetime) -> Restore:
    """The restore with the step that removes former disks, which it gets when their time is over."""
    last = restore.steps[-1]
    if last.name == "delete_disks" and last.state == "running":
        return restore
    return replace(restore, steps=[*restore.steps, RestoreStep(name="delete_disks", state="running", at=now)])


def _over(restore: Restore, at: int, state: str, now: datetime) -> Restore:
    step = replace(restore.steps[at], state=state, at=now, asks=[])
    return replace(with_step(restore, at, step), updated_at=now, next_at=None)


def _gone(restore: Restore, one: FormerDisk, facts: Facts, kept_by: str | None) -> Goal:
    link = disk_link(one)
    what = f"DeleteDisk {one.name}"
    found = facts.disks.get(link)
    if found is None or found.id != one.id or found.status == "DELETING":
        return Goal(what, met=found is None or found.id != one.id)
    if why := kept_by or _kept(restore, found):
        return Goal(what, met=False, hindered=Failure(code="kept", message=f"{link}: {why}"[:500]))
    ask = partial(DeleteDisk, one.project, one.scope, one.name, one.id)
    return Goal(what, met=False, ask=ask)


def _kept(restore: Restore, found: Disk) -> str | None:
    """Why a former disk stays for now."""
    if found.users:
        return f"it is attached to {', '.join(found.users)}"
    labels: Mapping[str, str] = found.labels
    if labels.get("snapkeep-restore") != restore.id or labels.get("snapkeep-role") != "former":
        return "somebody has taken its label off"
    return None


def answered(restore: Restore, operations: Mapping[str, str], refusals: Mapping[str, Failure], now: datetime) -> Step:
    """The ended restore with what its last requests were answered, by request id."""
    noted, outcomes = asks.noted(restore.steps, operations, refusals, now, asks_max=None)
    return Step(replace(restore, steps=noted, next_at=now + asks.LOOK_SOON), outcomes=tuple(outcomes))


def returned(restore: Restore, now: datetime) -> Restore:
    """The restore that was undone: its former disks are attached again, and nothing of it is left to do."""
    former = [replace(one, status="returned") if one.status == "kept" else one for one in restore.former]
    return replace(restore, former=former, keep_until=None, next_at=None, updated_at=now)

"""What was read for a restore, and what comes of taking one of its steps. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from msgspec.structs import replace

from snapkeep import cloud
from snapkeep.cloud import Attachment, Change, Disk, Firewall, Operation, Snapshot, Zone
from snapkeep.documents import Failure, FormerDisk, Restore, RestoreDisk, RestoreStep
from snapkeep.restore import checks, rules
from snapkeep.restore.asks import Goal, Outcome, Pursued, asker, pursue
from snapkeep.restore.definition import NewInstance
from snapkeep.restore.rules import disk_link

BLOCKED_LOOK: Final = timedelta(minutes=5)
"""Until what somebody else has in use is looked at again."""

ON_ITS_WAY: Final = frozenset({"PROVISIONING", "STAGING", "PENDING", "REPAIRING"})
"""Statuses of an instance that comes up."""

GOING_DOWN: Final = frozenset({"STOPPING", "PENDING_STOP", "SUSPENDING"})


@dataclass(frozen=True, slots=True)
class Facts:
    """What was read for one restore. What is not in a map was not read; None: it is not there."""

    instances: Mapping[str, cloud.Instance | None] = field(default_factory=dict)  # by link, as all here
    disks: Mapping[str, Disk | None] = field(default_factory=dict)
    snapshots: Mapping[str, Snapshot | None] = field(default_factory=dict)
    operations: Mapping[str, Operation | None] = field(default_factory=dict)  # read before the others
    zones: Sequence[Zone] = ()
    firewalls: Sequence[Firewall] = ()
    undone: Restore | None = None  # the restore whose former disks are put back
    new: NewInstance | None = None  # what is asked for as the new instance, with what a person supplied
    may_remove: bool = True  # deletion is not paused
    denied: Failure | None = None  # why it must not go on: it is not the tenant's any more
    heard: checks.Heard | None = None  # None: nobody in there was asked yet


@dataclass(frozen=True, slots=True)
class Taken:
    """One step, taken once. Nothing of it is done yet."""

    restore: Restore
    done: bool = False
    intents: tuple[Change, ...] = ()
    starts: tuple[Change, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    dead: Failure | None = None  # it never will be done
    look_at: datetime | None = None


Take = Callable[[Restore, int, str, Facts, datetime], Taken]
"""From the restore, the place of its step, the tenant's id, what was read, and the time."""


def with_step(restore: Restore, at: int, step: RestoreStep) -> Restore:
    return replace(restore, steps=[*restore.steps[:at], step, *restore.steps[at + 1 :]])


def waits(restore: Restore, at: int, why: Failure, look_at: datetime) -> Taken:
    """The step that something stands in the way of."""
    return Taken(with_step(restore, at, replace(restore.steps[at], failure=why)), look_at=look_at)


def pursued(restore: Restore, at: int, facts: Facts, now: datetime, goals: Sequence[Goal], bound: int | None) -> Taken:
    """The step after a look at its goals; what takes a restore back never gives up."""
    step = restore.steps[at]
    limit = None if step.undo else bound
    seen = pursue(step, goals, facts.operations, now, asker=asker(restore, at), asks_max=limit)
    return taken(restore, at, seen)


def taken(restore: Restore, at: int, seen: Pursued) -> Taken:
    """What came of the step by a look at its goals."""
    return Taken(
        with_step(restore, at, seen.step), seen.met, seen.intents, seen.starts, seen.outcomes, seen.dead, seen.look_at
    )


# --- disks that an instance has, or is to have ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Incoming:
    """A disk that a restore in place attaches, or that is attached again when it is taken back."""

    link: str
    id: str | None
    device_name: str
    boot: bool
    mode: str
    interface: str
    auto_delete: bool

    @staticmethod
    def of(disk: RestoreDisk | FormerDisk) -> Incoming:
        return Incoming(
            disk_link(disk), disk.id, disk.device_name, disk.boot, disk.mode, disk.interface, disk.auto_delete
        )


def attachment(one: Incoming) -> Attachment:
    return Attachment(one.link, one.device_name, one.boot, one.mode, one.interface, one.auto_delete)


def put_back(restore: Restore, facts: Facts) -> list[FormerDisk]:
    """The former disks of the restore that is undone, which are attached again; of any other none."""
    if restore.source.undoes is None or facts.undone is None:
        return []
    return [one for one in facts.undone.former if one.status == "kept"]


def incoming(restore: Restore, facts: Facts) -> list[Incoming]:
    """What the restore attaches."""
    if restore.source.undoes is not None:
        return [Incoming.of(one) for one in put_back(restore, facts)]
    return [Incoming.of(disk) for disk in restore.disks]


def outgoing(restore: Restore) -> list[Incoming]:
    """What was attached before."""
    return [Incoming.of(one) for one in restore.former]


def instance_of(restore: Restore, facts: Facts) -> cloud.Instance | None:
    """The instance that is restored in place, if it is there and the same as ever."""
    link = rules.target_link(restore)
    found = facts.instances.get(link) if link is not None else None
    return found if found is not None and found.id == (restore.target.id or restore.instance.id) else None

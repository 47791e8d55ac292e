"""What a try at a copy leaves behind: a temporary disk is asked to go until it is read to be gone. Pure.

Whether a disk is one of ours, and from when on nothing needs it any more, is for the try to say (`tries`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from msgspec.structs import replace

from snapkeep import cloud
from snapkeep.cloud import DeleteDisk, Disk, Operation
from snapkeep.creation.rules import LOOK_MAX, LOOK_MIN, UNKNOWN_SETTLED, SnapshotOutcome
from snapkeep.documents import GONE, TemporaryDisk

REMOVE_AGAIN_MIN: Final = timedelta(minutes=10)
"""Until a disk that is still there is asked to go again: longer than a function may run, so that who asked is dead."""

REMOVE_AGAIN_MAX: Final = timedelta(hours=6)

PAUSED_LOOK: Final = timedelta(hours=1)
"""Until what is paused is looked at again."""


@dataclass(frozen=True, slots=True)
class Removal:
    """How one request that a temporary disk goes ended."""

    outcome: SnapshotOutcome
    attempt: int


@dataclass(frozen=True, slots=True)
class Exit:
    """One step of a temporary disk on its way out. Nothing of it is done yet."""

    temporary: TemporaryDisk  # to be committed first
    look_at: datetime | None = None  # None: it is gone
    remove: DeleteDisk | None = None
    removal: Removal | None = None  # how the request before this step ended


def link(temporary: TemporaryDisk) -> str:
    return cloud.link_of(temporary.project, f"zones/{temporary.zone}", "disks", temporary.name)


def leave(
    temporary: TemporaryDisk,
    found: Disk | None,
    operations: Mapping[str, Operation | None],
    now: datetime,
    *,
    ours: bool,
    may_remove: bool,
) -> Exit:
    """Take a disk that nothing needs one step nearer its end.

    `found` is what has its name, `ours` whether that is the disk itself; `operations` were read before the last look
    for it; `may_remove`: deletion is not paused.
    """
    attempt = temporary.removals
    if found is None and _may_come(temporary, operations, now):
        return Exit(temporary, _look_later(temporary, now))
    if found is None or not ours:
        removal = Removal(SnapshotOutcome(temporary.name, "succeeded"), attempt) if attempt else None
        return Exit(replace(temporary, status=GONE), removal=removal)
    known = replace(temporary, id=found.id)
    if found.status == "DELETING":
        return Exit(known, _look_later(temporary, now))
    if not may_remove:
        return Exit(known, now + PAUSED_LOOK)
    may_go = _removable_at(temporary, found, now)
    if now < may_go:
        return Exit(known, may_go)
    why = "its deletion was asked for and did not happen"
    failed = SnapshotOutcome(temporary.name, "failed", "still_there", why)
    return Exit(
        replace(known, removals=attempt + 1, asked_at=now),
        now + LOOK_MIN,
        DeleteDisk(temporary.project, f"zones/{temporary.zone}", temporary.name, found.id, attempt + 1),
        Removal(failed, attempt) if attempt else None,
    )


def _may_come(temporary: TemporaryDisk, operations: Mapping[str, Operation | None], now: datetime) -> bool:
    """Whether a disk that is not there may still appear: it was asked for, and how that ended is not known."""
    if temporary.removals or temporary.id is not None:
        return False  # it was there
    if temporary.operation is None:
        return temporary.asked_at is not None and now - temporary.asked_at < UNKNOWN_SETTLED
    operation = operations.get(temporary.operation)
    return temporary.operation not in operations or (operation is not None and operation.status != "DONE")


def _look_later(temporary: TemporaryDisk, now: datetime) -> datetime:
    """When to look again at what others do about a disk: the longer it takes, the later."""
    since = temporary.asked_at or now
    return now + min(max((now - since) / 2, LOOK_MIN), LOOK_MAX)


def _removable_at(temporary: TemporaryDisk, found: Disk, now: datetime) -> datetime:
    """From when on a disk may be asked to go: at once; after a pause, where it was asked before or is still made."""
    since = temporary.asked_at or now - REMOVE_AGAIN_MIN
    if temporary.removals:
        return since + min(REMOVE_AGAIN_MIN * (1 << min(temporary.removals - 1, 10)), REMOVE_AGAIN_MAX)
    return since + REMOVE_AGAIN_MIN if found.status in ("CREATING", "RESTORING") else since

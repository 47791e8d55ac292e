"""The disks that a restore makes: each attempt under a name of its own, judged by what is read back. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from msgspec.structs import replace

from snapkeep import cloud
from snapkeep.cloud import Change, Disk, InsertDisk, Operation
from snapkeep.copies.tries import LOST
from snapkeep.creation.rules import PERMANENT, backoff
from snapkeep.documents import Failure, Restore, RestoreDisk
from snapkeep.restore import rules
from snapkeep.restore.asks import LOOK_LATE, LOOK_SOON, Outcome
from snapkeep.restore.rules import ATTEMPTS_MAX, disk_link

LABELS_MAX: Final = 64
"""Labels of one disk (Compute Engine's own limit)."""

MAKING: Final = frozenset({"CREATING", "RESTORING"})


@dataclass(frozen=True, slots=True)
class Made:
    """What came of looking at the disks of a restore once. Nothing of it is done yet."""

    disks: tuple[RestoreDisk, ...]
    done: bool
    intents: tuple[Change, ...]
    starts: tuple[Change, ...]
    outcomes: tuple[Outcome, ...]
    dead: Failure | None
    why: Failure | None
    look_at: datetime


def change_for(restore: Restore, disk: RestoreDisk, tenant: str) -> InsertDisk:
    """The request for a disk, the same whenever it is built for the same attempt."""
    ours = rules.labels(restore.id, tenant, rules.role(restore))
    theirs = sorted((key, value) for key, value in disk.labels.items() if not key.startswith("snapkeep-"))
    return InsertDisk(
        project=disk.project,
        scope=disk.scope,
        name=disk.name,
        source_snapshot=disk.snapshot,
        type=disk.type,
        size_gb=disk.size_gb,
        labels=dict(theirs[: LABELS_MAX - len(ours)]) | ours,
        description=f"Snapkeep restore {restore.id} of {restore.recovery_point}, disk {disk.device_name}",
        kms_key=disk.kms_key,
        replica_zones=tuple(disk.replica_zones),
        provisioned_iops=disk.provisioned_iops,
        provisioned_throughput=disk.provisioned_throughput,
        resource_policies=tuple(disk.resource_policies),
    )


def is_ours(restore: Restore, tenant: str, disk: RestoreDisk, found: Disk) -> bool:
    """Whether a disk under a name of a restore is one that the restore has made: by its id, else by its labels.

    What it was made of is judged apart: what was made of another snapshot under our labels is ours to take away.
    """
    if disk.id is not None and found.id == disk.id:
        return True
    labels = found.labels
    return labels.get("snapkeep-restore") == restore.id and labels.get("snapkeep-tenant") == tenant


def make(
    restore: Restore,
    tenant: str,
    found: Mapping[str, Disk | None],
    operations: Mapping[str, Operation | None],
    now: datetime,
    *,
    first: bool,
) -> Made:
    """Look at each disk once. `first`: nothing of this was ever asked for."""
    disks: list[RestoreDisk] = []
    intents: list[Change] = []
    repeats: list[Change] = []
    outcomes: list[Outcome] = []
    looks: list[datetime] = []
    for before in restore.disks:
        disk = before if first else _judged(restore, tenant, before, found, operations, now)
        if not first and before.failure is None and (disk.failure or (is_made(disk) and not is_made(before))):
            outcomes.append(outcome_of(restore, before, tenant, disk.failure))
        if first:
            intents.append(change_for(restore, disk, tenant))
        elif disk.failure is not None and disk.retry_at is not None and disk.retry_at <= now:
            disk = _next_attempt(restore, disk, tenant)
            intents.append(change_for(restore, disk, tenant))
        elif disk.failure is not None and disk.retry_at is not None:
            looks.append(disk.retry_at)
        elif disk.failure is None and disk.id is None and disk.operation is None:
            repeats.append(change_for(restore, disk, tenant))
        disks.append(disk)
    dead = next((disk.failure for disk in disks if disk.failure and disk.retry_at is None), None)
    if dead is not None:  # no further attempt is begun
        asked = {one.link for one in intents}
        disks = [before if disk_link(disk) in asked else disk
                 for before, disk in zip(restore.disks, disks, strict=True)]  # fmt: skip
        intents, repeats = [], []
    asked_for = [one.asked_at for one in restore.steps if one.name == "create_disks" and one.asked_at]
    waited = now - max(asked_for, default=now)
    looks.append(now + min(max(waited / 2, LOOK_SOON), LOOK_LATE))
    return Made(
        disks=tuple(disks),
        done=all(is_made(disk) for disk in disks) and not first,
        intents=tuple(intents),
        starts=(*intents, *repeats),
        outcomes=tuple(outcomes),
        dead=dead,
        why=next((disk.failure for disk in disks if disk.failure), None),
        look_at=min(looks),
    )


def is_made(disk: RestoreDisk) -> bool:
    return disk.failure is None and disk.status == "READY" and disk.id is not None


def outcome_of(restore: Restore, disk: RestoreDisk, tenant: str, failure: Failure | None) -> Outcome:
    """How the present attempt at a disk ended."""
    request = cloud.request_id(change_for(restore, disk, tenant))
    return Outcome(request, f"InsertDisk {disk.name}", "failed" if failure else "succeeded", failure)


def _next_attempt(restore: Restore, disk: RestoreDisk, tenant: str) -> RestoreDisk:
    attempt = disk.attempts + 1
    return replace(
        disk,
        name=rules.disk_name(tenant, restore.id, rules.begins_with(restore), disk.device_name, attempt),
        attempts=attempt,
        superseded=[*disk.superseded, disk_link(disk)],
        id=None,
        status=None,
        operation=None,
        failure=None,
        retry_at=None,
    )


def _failed(disk: RestoreDisk, code: str, message: str, now: datetime, *, for_good: bool = False) -> RestoreDisk:
    again = not for_good and disk.attempts < ATTEMPTS_MAX
    retry_at = now + backoff(disk.attempts - 1) if again else None
    return replace(disk, failure=Failure(code=code, message=message[:500]), retry_at=retry_at)


def _judged(
    restore: Restore,
    tenant: str,
    disk: RestoreDisk,
    all_found: Mapping[str, Disk | None],
    operations: Mapping[str, Operation | None],
    now: datetime,
) -> RestoreDisk:
    """What became of the present attempt at a disk, as one read shows it."""
    if disk.failure is not None:
        return disk
    link = disk_link(disk)
    found = all_found.get(link)
    if found is None:
        return _judged_unseen(disk, link, operations, now)
    if disk.id is not None and found.id != disk.id:
        return _failed(disk, "disk_replaced", f"{link} is another disk now: {found.id}, not {disk.id}", now)
    if not is_ours(restore, tenant, disk, found):
        return _failed(disk, "name_taken", f"{link} exists and is not ours", now)
    seen = replace(disk, id=found.id, status=found.status)
    if found.status in MAKING and found.source_snapshot_id is None:
        return seen  # nothing promises that it says what of from the start
    if found.source_snapshot_id != disk.snapshot_id:
        message = f"{link} is made of snapshot {found.source_snapshot_id}, not {disk.snapshot_id}"
        return _failed(seen, "snapshot_changed", message, now, for_good=True)
    if found.status in MAKING:
        return seen
    if found.status != "READY":
        return _failed(seen, "disk_failed", f"{link} is {found.status}", now)
    if found.size_gb < disk.size_gb:
        return _failed(seen, "disk_failed", f"{link} has {found.size_gb} GB, not {disk.size_gb}", now)
    return seen


def _judged_unseen(
    disk: RestoreDisk, link: str, operations: Mapping[str, Operation | None], now: datetime
) -> RestoreDisk:  # fmt: skip
    if disk.id is not None:
        return _failed(disk, "disk_gone", f"{link} was there and is gone", now)
    if disk.operation is None or disk.operation not in operations:
        return disk  # asked for by a run that died, perhaps: it is asked for again, under the same name
    operation = operations[disk.operation]
    if operation is not None and operation.status != "DONE":
        return disk
    if operation is not None and operation.error_code:
        return refused(disk, operation.error_code, operation.error_message or "", now, operation.http_status)
    return _failed(disk, "disk_gone", f"{link} was made and is gone", now)


def refused(disk: RestoreDisk, code: str, message: str, now: datetime, status: int | None = None) -> RestoreDisk:
    """An attempt that Compute Engine has answered with a lasting error: in its own words, where it is not the snapshot
    that it does not find."""
    if code in LOST and disk.snapshot.rsplit("/", 1)[1] in message:
        return _failed(disk, "point_gone", f"{disk.snapshot}: {message}", now, for_good=True)
    if "resourcePolicies/" in message and disk.resource_policies:
        # A schedule that was deleted since must not keep anything from being restored.
        return replace(_failed(disk, code, message, now), resource_policies=[])
    not_yet = code.endswith("NOT_READY")
    for_good = code in PERMANENT or (status in (400, 404) and not not_yet)
    return _failed(disk, code, message, now, for_good=for_good)


def noted(
    restore: Restore,
    tenant: str,
    operations: Mapping[str, str],
    refusals: Mapping[str, Failure],
    now: datetime,
) -> tuple[list[RestoreDisk], list[Outcome]]:
    """The disks with what their requests were answered, by request id: an operation, or a refusal."""
    disks: list[RestoreDisk] = []
    outcomes: list[Outcome] = []
    for before in restore.disks:
        disk = before
        request = cloud.request_id(change_for(restore, disk, tenant)) if disk.scope else ""
        unknown = disk.failure is None and disk.operation is None and disk.id is None
        if unknown and request in operations:
            disk = replace(disk, operation=operations[request])
        elif unknown and request in refusals:
            why = refusals[request]
            disk = refused(disk, why.code, why.message, now)
            outcomes.append(outcome_of(restore, before, tenant, disk.failure))
        disks.append(disk)
    return disks, outcomes

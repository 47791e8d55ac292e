"""What a recovery point is made of and when it counts as verified. Pure: facts in, decisions with reasons out.

A point's life: `requested -> creating -> verified | failed`, or `missed` when it was not started in time. `begin`
takes the first step from what Compute Engine holds of the instance; `judge` takes every later one from what it holds
of the snapshots. Both return the point as it is to be stored, the changes to ask for once that is committed, and
the outcomes that the commit records, so that every change of the cloud has an intent before it and one outcome after.
Where snapshots are made from instant snapshots, `moment` stands before and around it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Generic, Literal, TypeVar

import msgspec
from msgspec.structs import replace

from snapkeep import cloud
from snapkeep.cloud import (
    DeleteInstantSnapshot,
    DeleteInstantSnapshotGroup,
    InsertInstantSnapshot,
    InsertInstantSnapshotGroup,
    InsertSnapshot,
    Operation,
    Snapshot,
)
from snapkeep.copies import rules as copies
from snapkeep.creation.slots import local_day
from snapkeep.documents import (
    DiskRef,
    Failure,
    Instance,
    InstanceRef,
    InstantRef,
    Newest,
    Point,
    PointDisk,
    Slot,
    SnapshotRef,
    Tally,
    Tenant,
    Trigger,
)
from snapkeep.restore import manifest

CREATION_DEADLINE: Final = timedelta(hours=12)
"""From the start of a point until it must be verified. A first snapshot of many TB takes hours."""

ON_DEMAND_START: Final = timedelta(hours=6)
"""How long a point on demand may wait for its start (creation paused, quota used up)."""

PRE_RESTORE_START: Final = timedelta(hours=1)
"""How long a point of the state before a restore may wait for its start. The restore waits for none."""

LAST_START: Final = timedelta(minutes=10)
"""Nothing is started this close to the deadline. Longer than a function may run, so that nothing starts after it."""

UNKNOWN_SETTLED: Final = timedelta(minutes=10)
"""A start that left no sign for so long has not happened: the function that was to ask for it is dead by then."""

REQUEST_GRACE: Final = timedelta(minutes=2)
"""What the message of a requested point is given to arrive before reconcile starts the point itself."""

CLOCK_SKEW: Final = timedelta(minutes=1)
"""How far Compute Engine's clock may be behind ours."""

ATTEMPTS_MAX: Final = 5
"""Snapshots tried for one disk of one point."""

DISKS_MAX: Final = 128
"""Disks of one instance (Compute Engine's own limit)."""

DEFINITION_BYTES_MAX: Final = 200_000
"""JSON bytes of a stored definition; Firestore holds 1 MiB in a document."""

LABELS_BYTES_MAX: Final = 100_000
"""JSON bytes of the labels that a point keeps of its disks, all together. Those of further disks are left out."""

STUCK_AFTER: Final = timedelta(hours=4)
"""A snapshot that takes longer, where size and history do not explain it, is taken for stuck: another one is tried.
Only while that one has as long again, since it is not worth giving up what may still become READY in the end."""

STUCK_AFTER_PER_GB: Final = timedelta(seconds=30)
"""What a snapshot is given for each GB of its disk: a first one uploads all that is in use, seldom below 33 MB/s."""

SPREAD_MAX: Final = timedelta(hours=1)
"""How far apart the snapshots of one verified point may have been taken: beyond it, it holds no one moment, and a
database and its log on two disks cannot be restored from it. Disks that are asked for together differ by minutes, and
attempts pause for up to 15: an hour takes in every retry that goes well, and never two tries to have one moment.
"""

FIRST_EXPECTED: Final = timedelta(minutes=3)
"""How long an instance's first point is thought to take. Nobody knows; whoever asked for it waits."""

FIRST_EXPECTED_SCHEDULED: Final = timedelta(minutes=10)
"""The same where nobody waits: whole disks are uploaded, and each look that comes too early costs a call."""

LOOK_MIN: Final = timedelta(seconds=60)
LOOK_MAX: Final = timedelta(minutes=15)
LOOKS_TOGETHER: Final = timedelta(minutes=5)
"""Nobody waits for a scheduled point: it is looked at on these minutes of the clock, so that one list call shows all
those of a project."""

RETRY_MIN: Final = timedelta(minutes=1)
RETRY_MAX: Final = timedelta(minutes=15)
DISK_RATE_PAUSE: Final = timedelta(minutes=10)
"""Compute Engine takes one snapshot of a disk in 10 minutes (bursts of 6 in 60)."""

DAYS_SHOWN: Final = 35

# Errors inside a finished operation (or answers to a start) that asking again does not mend. Everything else may pass.
PERMANENT: Final = frozenset(
    {"RESOURCE_NOT_FOUND", "notFound", "INVALID_FIELD_VALUE", "INVALID_USAGE", "UNSUPPORTED_OPERATION",
     "invalid", "badRequest", "invalidParameter", "required", "outside_residency"}
)  # fmt: skip

LIVING: Final = frozenset({"requested", "creating"})
"""States in which a point's own snapshots are still to come."""

# What ends an attempt for good and has nothing to do with a guest that was to flush.
_NOT_OF_THE_GUEST: Final = frozenset(
    {"RESOURCE_NOT_FOUND", "notFound", "disk_replaced", "wrong_location", "outside_residency"}
)

GUEST_FLUSH_NEEDS: Final = (
    "consistency 'guest_flush' needs Google's guest agent in the guest, on Linux with `enabled = true` under"
    " [Snapshots] in /etc/default/instance_configs.cfg, on Windows with its VSS provider; or set consistency to 'crash'"
)

TRIGGER_LETTER: Final[Mapping[Trigger, str]] = {
    "scheduled": "s",
    "pre_maintenance": "m",
    "on_demand": "o",
    "pre_restore": "r",
}

# What a definition keeps of an instance. Everything else is left out by name.
DEFINITION_FIELDS: Final = (
    "machineType", "minCpuPlatform", "networkInterfaces", "canIpForward", "tags", "labels", "serviceAccounts",
    "scheduling", "shieldedInstanceConfig", "confidentialInstanceConfig", "deletionProtection", "guestAccelerators",
    "resourcePolicies", "hostname", "description", "advancedMachineFeatures", "displayDevice", "reservationAffinity",
)  # fmt: skip

# Metadata whose values are settings. Any other value may be a secret (startup scripts, SSH keys, passwords).
METADATA_KEPT: Final = frozenset(
    {"enable-oslogin", "enable-oslogin-2fa", "block-project-ssh-keys", "serial-port-enable", "enable-guest-attributes",
     "enable-osconfig", "google-logging-enabled", "google-monitoring-enabled", "VmDnsSetting",
     "disable-legacy-endpoints", "windows-startup-script-url", "startup-script-url", "shutdown-script-url",
     "serial-port-logging-enable"}
)  # fmt: skip


# --- names --------------------------------------------------------------------------------------------------------


def point_id(day: str, trigger: Trigger, instance: Instance | InstanceRef, purpose: str) -> str:
    """A point's id. `purpose` is what tells it from the instance's others: the local day, a window, the id of a request
    or of a restore."""
    identity = "|".join((instance.project, instance.zone, instance.id, purpose))
    return f"{_compact(day)}-{TRIGGER_LETTER[trigger]}-{_cut(instance.name, 24)}-{_hex(identity, 8)}"


def snapshot_name(tenant: str, point: str, instance: str, disk: str, disk_id: str, region: str, attempt: int) -> str:
    """A snapshot's name, at most 63 characters: derived, so that a retry finds what an earlier try made."""
    identity = "|".join((tenant, disk_id, point, region, str(attempt)))
    return f"sk-{_cut(instance, 18)}-{_cut(disk, 18)}-{point[:8]}-{_hex(identity, 10)}"


def _cut(name: str, length: int) -> str:
    return name[:length].rstrip("-")


def _hex(text: str, digits: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


def _compact(day: str) -> str:
    return day.replace("-", "")


# --- a new point --------------------------------------------------------------------------------------------------


def scheduled_point(tenant: Tenant, instance: Instance, slot: Slot, now: datetime) -> Point:
    """The point of a slot, as it is first stored."""
    return _new_point(
        tenant,
        instance,
        "scheduled",
        slot.day,
        slot.day,
        now,
        slot.at + timedelta(hours=tenant.schedule.catch_up_hours),
        by="schedule",
        reason=f"daily point of {slot.day}",
        slot=slot,
    )


def missed_point(tenant: Tenant, instance: Instance, slot: Slot, now: datetime) -> Point:
    """The record of a slot whose time ran out before anything was started."""
    point = scheduled_point(tenant, instance, slot, now)
    failure = Failure(
        code="missed", message=f"nothing was started within {tenant.schedule.catch_up_hours} h of the slot"
    )
    return replace(point, state="missed", failure=failure, next_at=None)


def on_demand_point(tenant: Tenant, instance: Instance, request: str, by: str, reason: str, now: datetime) -> Point:
    day = local_day(now, tenant.timezone).isoformat()
    return _new_point(tenant, instance, "on_demand", day, request, now, now + ON_DEMAND_START, by=by, reason=reason)


def pre_restore_point(tenant: Tenant, instance: Instance, restore: str, now: datetime) -> Point:
    """The point of what an instance has before a restore replaces its disks."""
    day = local_day(now, tenant.timezone).isoformat()
    by, reason = "snapkeep", f"before restore {restore}"
    return _new_point(tenant, instance, "pre_restore", day, restore, now, now + PRE_RESTORE_START, by=by, reason=reason)


def _new_point(
    tenant: Tenant,
    instance: Instance,
    trigger: Trigger,
    day: str,
    purpose: str,
    now: datetime,
    start_by: datetime,
    *,
    by: str,
    reason: str,
    slot: Slot | None = None,
) -> Point:
    first = FIRST_EXPECTED_SCHEDULED if trigger == "scheduled" else FIRST_EXPECTED
    took_s = instance.newest_verified.took_s if instance.newest_verified else int(first.total_seconds())
    return Point(
        updated_at=now,
        id=point_id(day, trigger, instance, purpose),
        trigger=trigger,
        state="requested",
        slot=slot,
        instance=InstanceRef(
            id=instance.id, name=instance.name, project=instance.project, zone=instance.zone, region=instance.region
        ),
        vault_project=tenant.vault_project,
        requested_at=now,
        start_after=now,
        start_by=start_by,
        # The latest that it can be; the start sets it, so that a late start has the time that a snapshot takes.
        deadline=start_by + CREATION_DEADLINE,
        lock_until=now + timedelta(days=tenant.retention.lock_days),
        requested_by=by,
        reason=reason,
        expected_s=took_s,
        next_at=now + REQUEST_GRACE,
    )


# --- decisions ----------------------------------------------------------------------------------------------------


PointChange = (
    InsertSnapshot
    | InsertInstantSnapshot
    | InsertInstantSnapshotGroup
    | DeleteInstantSnapshot
    | DeleteInstantSnapshotGroup
)
"""All that the making of a point changes in the cloud."""

C_co = TypeVar("C_co", bound=PointChange, covariant=True)


@dataclass(frozen=True, slots=True)
class SnapshotOutcome:
    """How one change that was asked for ended."""

    name: str
    outcome: Literal["succeeded", "failed"]
    code: str = ""
    message: str = ""
    attempt: int | None = None  # of a deletion: which of them


@dataclass(frozen=True, slots=True)
class Step(Generic[C_co]):
    """One step of a point's life. Nothing of it is done yet."""

    point: Point  # to be committed first, `next_at` included
    intents: tuple[C_co, ...] = ()  # asked for the first time: recorded with the commit
    outcomes: tuple[SnapshotOutcome, ...] = ()  # recorded with the commit
    starts: tuple[C_co, ...] = ()  # to be asked for after the commit (the intents, and repeated asks)


def begin(
    point: Point, tenant: Tenant, found: cloud.Instance | None, disks: Mapping[str, cloud.Disk], now: datetime
) -> Step[InsertSnapshot]:
    """Take a requested point to `creating`: what is attached now, and the snapshot of it that each disk gets.

    `disks` are the instance's disks by link, read after the instance. A point that cannot be taken ends here.
    """
    refusal = _refusal(point, tenant, found, disks)
    if refusal or found is None:
        assert refusal
        return ended(point, refusal, now)
    entries = []
    for attached in found.disks:
        if attached.persistent:
            disk = disks[attached.source]
            entries.append(_entry(point, tenant.id, attached, disk))
    entries, unlabelled = _bounded(entries)
    definition = define(found)
    definition["left_out"] = sorted([*definition["left_out"], *(f"labels of disk {name}" for name in unlabelled)])
    if len(msgspec.json.encode(definition)) > DEFINITION_BYTES_MAX:
        message = f"the instance's definition is larger than {DEFINITION_BYTES_MAX} bytes"
        return ended(point, Failure(code="definition_too_large", message=message), now)
    begun = replace(
        point,
        state="creating",
        consistency="at_rest" if _is_at_rest(tenant, found) else tenant.consistency,
        disks=entries,
        definition=definition,
        stored_for=point.instance.id,
        started_at=now,
        deadline=min(now + CREATION_DEADLINE, point.deadline),
        updated_at=now,
        failure=None,
        faults=0,
        # Should the starts after this commit be lost, reconcile asks again.
        next_at=now + REQUEST_GRACE,
    )
    intents = tuple(change_for(begun, disk, tenant) for disk in entries)
    return Step(begun, intents=intents, starts=intents)


def _refusal(
    point: Point, tenant: Tenant, found: cloud.Instance | None, disks: Mapping[str, cloud.Disk]
) -> Failure | None:
    """Why a point cannot be started at all; None if it can."""
    ref = point.instance
    if found is None:
        return Failure(code="instance_gone", message=f"{ref.name} is not in {ref.project}, zone {ref.zone}")
    if found.id != ref.id:
        message = f"{ref.name} in {ref.zone} is another instance now: {found.id}, not {ref.id}"
        return Failure(code="instance_replaced", message=message)
    attached = [disk for disk in found.disks if disk.persistent]
    if not attached:
        return Failure(code="no_disks", message=f"{ref.name} has no persistent disk")
    if len(attached) > DISKS_MAX:
        return Failure(code="too_many_disks", message=f"{ref.name} has {len(attached)} disks; at most {DISKS_MAX}")
    for disk in attached:
        if disk.source not in disks:
            return Failure(code="disk_gone", message=f"{disk.source} is attached but was not found")
        if disks[disk.source].customer_supplied_key:
            message = f"{disk.source} has a customer-supplied key (CSEK): a snapshot of it could not be restored"
            return Failure(code="csek_disk", message=message)
        if disks[disk.source].region != ref.region:
            return Failure(code="wrong_region", message=f"{disk.source} is not in {ref.region}")
        if _is_of_its_restore(disks[disk.source], point):
            message = f"{disk.source} was made by the restore: the state before is that of the disks it has detached"
            return Failure(code="too_late", message=message)
    if tenant.consistency == "guest_flush" and found.status not in ("RUNNING", "TERMINATED"):
        message = (
            f"{ref.name} is {found.status}: its guest cannot be asked to flush, and its disks are not at rest; "
            "start it, or stop it"
        )
        return Failure(code="guest_not_running", message=message)
    return None


def _is_of_its_restore(disk: cloud.Disk, point: Point) -> bool:
    """Whether a disk is what the restore has put in, before which the point was to be taken."""
    restore = disk.labels.get("snapkeep-restore")
    if point.trigger != "pre_restore" or restore is None:
        return False
    return point.id == point_id(point.id[:8], "pre_restore", point.instance, restore)


def _is_at_rest(tenant: Tenant, found: cloud.Instance) -> bool:
    """Whether the guest was to flush, and does not run: all that it wrote is on its disks."""
    return tenant.consistency == "guest_flush" and found.status == "TERMINATED"


def _entry(point: Point, tenant: str, attached: cloud.AttachedDisk, disk: cloud.Disk) -> PointDisk:
    entry = PointDisk(
        name=disk.name,
        id=disk.id,
        type=disk.type,
        size_gb=disk.size_gb,
        device_name=attached.device_name,
        boot=attached.boot,
        mode=attached.mode,
        interface=attached.interface,
        auto_delete=attached.auto_delete,
        zone=disk.zone,
        replica_zones=list(disk.replica_zones),
        provisioned_iops=disk.provisioned_iops,
        provisioned_throughput=disk.provisioned_throughput,
        architecture=disk.architecture,
        guest_os_features=list(disk.guest_os_features),
        kms_key=disk.kms_key,
        labels=dict(disk.labels),
        resource_policies=list(disk.resource_policies),
        snapshot=SnapshotRef(project=point.vault_project, name="", location=point.instance.region),
        attempts=0,
    )
    return next_attempt(entry, tenant, point)


def _bounded(disks: Sequence[PointDisk]) -> tuple[list[PointDisk], list[str]]:
    """The disks, with labels as far as LABELS_BYTES_MAX goes; and the device names of those that are without theirs."""
    kept, unlabelled, room = [], [], LABELS_BYTES_MAX
    for disk in disks:
        size = len(msgspec.json.encode(disk.labels))
        if size > room:
            unlabelled.append(disk.device_name)
            kept.append(replace(disk, labels={}))
        else:
            room -= size
            kept.append(disk)
    return kept, unlabelled


def next_attempt(disk: PointDisk, tenant: str, point: Point) -> PointDisk:
    attempt = disk.attempts + 1
    home = point.instance.region
    name = snapshot_name(tenant, point.id, point.instance.name, disk.name, disk.id, home, attempt)
    return replace(
        disk,
        snapshot=SnapshotRef(project=point.vault_project, name=name, location=home),
        # Whether it failed or was given up, something of it may be there: it goes when the point does.
        superseded=[*disk.superseded, disk.snapshot] if disk.attempts else [],
        attempts=attempt,
        operation=None,
        failure=None,
        retry_at=None,
    )


def change_for(point: Point, disk: PointDisk, tenant: Tenant) -> InsertSnapshot:
    """The request for a disk's snapshot, the same whenever it is built for the same attempt."""
    ref = point.instance
    instant = source_of(point, disk)
    return InsertSnapshot(
        project=disk.snapshot.project,
        name=disk.snapshot.name,
        source_disk=disk_link(point, disk),
        location=disk.snapshot.location,
        labels={"snapkeep-tenant": tenant.id, "snapkeep-point": point.id, "snapkeep-role": "home"},
        description=manifest.described(point, tenant.id, None, disk),
        kms_key=tenant.kms_keys.get(ref.region) or disk.kms_key,
        source_instant=instant_link(point, instant) if instant else None,
        guest_flush=point.consistency == "guest_flush",
    )


def scope_of(point: Point, disk: PointDisk) -> str:
    """Where a disk lies, as links have it: `zones/Z`, or `regions/R` of a regional disk."""
    return f"zones/{disk.zone}" if disk.zone else f"regions/{point.instance.region}"


def disk_link(point: Point, disk: PointDisk) -> str:
    return cloud.link_of(point.instance.project, scope_of(point, disk), "disks", disk.name)


def instant_link(point: Point, instant: InstantRef) -> str:
    return cloud.link_of(point.instance.project, instant.scope, "instantSnapshots", instant.name)


def source_of(point: Point, disk: PointDisk) -> InstantRef | None:
    """The instant snapshot that the disk's present snapshot is made from; None where it is made from the disk."""
    if point.moment is None or point.moment.state != "taken":
        return None
    return next(instant for instant in point.moment.instants if instant.disk == disk.id)


def judge(
    point: Point,
    tenant: Tenant,
    snapshots: Mapping[str, Snapshot],
    operations: Mapping[str, Operation | None],
    now: datetime,
) -> Step[InsertSnapshot]:
    """Take a `creating` point on, from one read of all its snapshots.

    `snapshots` are those of the vault project that carry one of the point's names, by name, whoever made them.
    `operations` are the operations of the snapshots that were not found, by link, read before the last look for the
    snapshot; None for one that Compute Engine no longer knows.
    """
    return settle(point, tenant, look(point, snapshots, operations, now), now)


def look(
    point: Point, snapshots: Mapping[str, Snapshot], operations: Mapping[str, Operation | None], now: datetime
) -> list[PointDisk]:
    """The disks of a `creating` point as one read of their snapshots shows them; see `judge`."""
    seen = [_judge_disk(disk, point, snapshots.get(disk.snapshot.name), operations, now) for disk in point.disks]
    return _of_one_moment(seen, point, now)


def settle(point: Point, tenant: Tenant, looked: Sequence[PointDisk], now: datetime) -> Step[InsertSnapshot]:
    """Take a `creating` point on, whose disks were `looked` at."""
    disks = list(looked)
    outcomes: list[SnapshotOutcome] = []
    for disk, judged in zip(point.disks, disks, strict=True):
        if judged.failure and not disk.failure:
            outcomes.append(outcome_of(judged))

    if all(is_ready(disk) for disk in disks):
        assert spread(disks) <= SPREAD_MAX
        verified = replace(
            point, state="verified", disks=disks, verified_at=now, updated_at=now, failure=None, faults=0
        )
        return Step(copies.home_verified(verified, now), outcomes=(*outcomes, *map(outcome_of, disks)))

    hopeless = next((disk.failure for disk in disks if disk.failure and disk.retry_at is None), None)
    late = now >= point.deadline
    if hopeless or late:
        if late or not any(is_alive(disk, point, now) for disk in disks):
            why = hopeless or Failure(code="deadline", message=unfinished(disks, point.deadline))
            # Every snapshot that was asked for gets its outcome, also those that outlive the point.
            rest = tuple(outcome_of(disk, why) for disk in disks if not disk.failure)
            return ended(replace(point, disks=disks), _with_guest(point, disks, why), now, (*outcomes, *rest))
        waiting = replace(point, disks=disks, failure=hopeless, updated_at=point.updated_at, next_at=now + LOOK_MIN)
        return Step(waiting, outcomes=tuple(outcomes))

    starts: list[InsertSnapshot] = []
    intents: list[InsertSnapshot] = []
    may_start = now <= point.deadline - LAST_START
    for index, disk in enumerate(disks):
        if not may_start:
            break
        if disk.failure and disk.retry_at and disk.retry_at <= now:
            disks[index] = next_attempt(disk, tenant.id, point)
            intents.append(change_for(point, disks[index], tenant))
        elif not disk.failure and disk.snapshot.id is None and disk.operation is None:
            starts.append(change_for(point, disk, tenant))
    judged_point = replace(point, disks=disks, failure=_latest_failure(disks) or point.failure)
    judged_point = replace(judged_point, next_at=_next_look(judged_point, now, starting=bool(starts or intents)))
    if starts or intents:
        judged_point = replace(judged_point, updated_at=now)
    return Step(judged_point, intents=tuple(intents), outcomes=tuple(outcomes), starts=(*intents, *starts))


def unread(point: Point, fault: Failure, now: datetime) -> Step[InsertSnapshot]:
    """The end of a point whose snapshots could not be read up to its deadline: what was not read is not verified."""
    why = Failure(
        code="deadline", message=f"not read back by the deadline; last met: {fault.code}: {fault.message}"[:500]
    )
    outcomes = tuple(
        SnapshotOutcome(disk.snapshot.name, "failed", why.code, why.message) for disk in point.disks if not disk.failure
    )
    return ended(point, why, now, outcomes)


def _with_guest(point: Point, disks: Sequence[PointDisk], why: Failure) -> Failure:
    """Why a point failed, with what to do about it where a guest could not flush and asking again would not help."""
    for_good = any(disk.failure == why and disk.retry_at is None and disk.attempts < ATTEMPTS_MAX for disk in disks)
    if point.consistency != "guest_flush" or not for_good or why.code in _NOT_OF_THE_GUEST:
        return why
    return Failure(code="guest_flush_failed", message=f"{why.code}: {why.message}"[:300] + f". {GUEST_FLUSH_NEEDS}")


def _judge_disk(
    disk: PointDisk, point: Point, found: Snapshot | None, operations: Mapping[str, Operation | None], now: datetime
) -> PointDisk:
    """What became of the disk's present attempt, as one read shows it."""
    if disk.failure:
        return disk
    if found is None:
        return judge_unseen(disk, point, operations, now)
    asked_for_at = point.started_at or point.requested_at
    instant = source_of(point, disk)
    if instant:
        taken_over = found.source_instant_id != instant.id
    else:
        taken_over = found.source_disk_id != disk.id and found.source_disk.rsplit("/", 1)[-1] != disk.name
    if found.created_at < asked_for_at - CLOCK_SKEW or taken_over:
        message = f"{found.link} exists and is not ours: made from disk {found.source_disk_id} at {found.created_at}"
        return attempt_failed(disk, "name_taken", message, now, pause=RETRY_MIN)
    if instant is None and found.source_disk_id != disk.id:
        # Most likely our own request, which names the disk, met another one. A second try would only meet it again.
        message = f"{disk.name} is another disk now: {found.source_disk_id}, not {disk.id}"
        return attempt_failed(disk, "disk_replaced", message, now, pause=None)
    if found.locations != (disk.snapshot.location,):
        message = f"{found.link} lies in {', '.join(found.locations)}, not in {disk.snapshot.location}"
        # By its id it goes with the point: what lies elsewhere would not be adopted by its name.
        strayed = replace(disk, snapshot=replace(disk.snapshot, id=found.id))
        return attempt_failed(strayed, "wrong_location", message, now, pause=None)
    return judge_seen(disk, found, point, now, instant.created_at if instant else None)


def judge_seen(
    disk: PointDisk, found: Snapshot, point: Point, now: datetime, moment: datetime | None = None
) -> PointDisk:
    """The disk after its snapshot was seen, and is the right one. `moment`: what it holds, if not its own creation."""
    seen = replace(
        disk,
        snapshot=replace(
            disk.snapshot, id=found.id, status=found.status, bytes=found.bytes, created_at=moment or found.created_at
        ),
    )
    match found.status:
        case "CREATING" | "UPLOADING" if _is_stuck(disk, point, found.created_at, now):
            return _given_up(seen, f"{found.link} is {found.status}", found.created_at, now)
        case "READY" | "CREATING" | "UPLOADING":
            return seen
        case "FAILED":
            return attempt_failed(seen, "snapshot_failed", f"{found.link} is FAILED", now, pause=RETRY_MIN)
        case status:
            return attempt_failed(seen, "snapshot_lost", f"{found.link} is {status}", now, pause=RETRY_MIN)


def spread(disks: Sequence[PointDisk]) -> timedelta:
    """How far apart the snapshots that count were taken, READY or on their way."""
    times = [disk.snapshot.created_at for disk in disks if not disk.failure and disk.snapshot.created_at]
    return max(times) - min(times) if times else timedelta(0)


def _of_one_moment(disks: Sequence[PointDisk], point: Point, now: datetime) -> list[PointDisk]:
    """The disks, those outdated whose snapshot was taken more than SPREAD_MAX before the newest that counts.

    That one was taken anew after hours (stuck, an outage between the starts): the others are, too.
    """
    times = [(disk.snapshot.created_at, disk) for disk in disks if not disk.failure and disk.snapshot.created_at]
    if not times:
        return list(disks)
    newest_at, newest = max(times, key=lambda time: time[0])
    outdated = {disk.snapshot.name: at for at, disk in times if newest_at - at > SPREAD_MAX}
    return [
        _outdated(disk, outdated[disk.snapshot.name], newest_at, newest, point, now)
        if disk.snapshot.name in outdated
        else disk
        for disk in disks
    ]


def _outdated(
    disk: PointDisk, at: datetime, newest_at: datetime, newest: PointDisk, point: Point, now: datetime
) -> PointDisk:
    limit = SPREAD_MAX // timedelta(minutes=1)
    message = (
        f"{disk.snapshot.name} of {disk.name} was taken at {at:%Y-%m-%d %H:%M:%S} UTC, that of {newest.name} at "
        f"{newest_at:%Y-%m-%d %H:%M:%S} UTC: more than {limit} minutes apart"
    )
    failed = attempt_failed(disk, "snapshot_outdated", message, now, pause=RETRY_MIN)
    too_late = failed.retry_at is not None and failed.retry_at > point.deadline - LAST_START
    return replace(failed, retry_at=None) if too_late else failed


def _is_stuck(disk: PointDisk, point: Point, since: datetime, now: datetime) -> bool:
    """True when a snapshot has been on its way for so long that another one is more likely to become READY."""
    explained = max(disk.size_gb * STUCK_AFTER_PER_GB, timedelta(seconds=2 * point.expected_s))
    in_time = now <= point.deadline - STUCK_AFTER
    return in_time and disk.attempts < ATTEMPTS_MAX and now - since > max(STUCK_AFTER, explained)


def _given_up(disk: PointDisk, what: str, since: datetime, now: datetime) -> PointDisk:
    hours = (now - since) / timedelta(hours=1)
    return attempt_failed(disk, "snapshot_stuck", f"{what} after {hours:.1f} h", now, pause=RETRY_MIN)


def judge_unseen(disk: PointDisk, point: Point, operations: Mapping[str, Operation | None], now: datetime) -> PointDisk:
    """What became of an attempt whose snapshot is not there, by its operation."""
    name = disk.snapshot.name
    if disk.operation is None:
        if disk.snapshot.id is None:
            return disk  # not started, or started by a run that died: it is asked for again under the same name
        return attempt_failed(disk, "snapshot_lost", f"{name} was there and is gone", now, pause=RETRY_MIN)
    # Whatever an earlier look saw: what this one did not read as READY must not count as such.
    unseen = replace(disk, snapshot=replace(disk.snapshot, status=None))
    if disk.operation not in operations:
        return unseen  # its operation was not read; the next look will
    operation = operations[disk.operation]
    if operation is not None and operation.status != "DONE":
        # The point changed when this was asked for, and may have changed since.
        since = disk.snapshot.created_at or point.updated_at
        if _is_stuck(disk, point, since, now):
            return _given_up(unseen, f"{operation.link} is {operation.status} and {name} not there", since, now)
        return unseen
    if operation is not None and operation.error_code:
        not_yet = operation.error_code.endswith("NOT_READY")
        permanent = operation.error_code in PERMANENT or (operation.http_status in (400, 404) and not not_yet)
        pause = None if permanent else DISK_RATE_PAUSE if "RATE_EXCEEDED" in operation.error_code else RETRY_MIN
        return attempt_failed(disk, operation.error_code, operation.error_message or "", now, pause=pause)
    return attempt_failed(disk, "snapshot_lost", f"{name} was made and is gone", now, pause=RETRY_MIN)


def refused(disk: PointDisk, code: str, message: str, now: datetime) -> PointDisk:
    """A start that Compute Engine answered with a lasting error."""
    permanent = code in PERMANENT
    return attempt_failed(disk, code, message, now, pause=None if permanent else RETRY_MIN)


def attempt_failed(disk: PointDisk, code: str, message: str, now: datetime, *, pause: timedelta | None) -> PointDisk:
    """End the disk's present attempt; `pause` until the next one, None where another would not help."""
    again = pause is not None and disk.attempts < ATTEMPTS_MAX
    retry_at = now + backoff(disk.attempts - 1, pause) if again and pause is not None else None
    return replace(disk, failure=Failure(code=code, message=message[:500]), retry_at=retry_at)


def backoff(times: int, first: timedelta = RETRY_MIN) -> timedelta:
    """How long to wait after the `times`-th fault in a row (from 0): doubling, bounded."""
    return min(first * (1 << min(times, 10)), max(RETRY_MAX, first))


def is_ready(disk: PointDisk) -> bool:
    """Whether its snapshot was read back as complete."""
    return disk.failure is None and disk.snapshot.status == "READY" and disk.snapshot.id is not None


def is_alive(disk: PointDisk, point: Point, now: datetime) -> bool:
    """True while the disk's present attempt may still make or finish a snapshot."""
    if disk.failure or is_ready(disk):
        return False
    if disk.operation is None and disk.snapshot.id is None:
        return now - point.updated_at < UNKNOWN_SETTLED
    return True


def outcome_of(disk: PointDisk, otherwise: Failure | None = None) -> SnapshotOutcome:
    """How its present attempt ended; `otherwise`: why it is given up while it may still go on."""
    failure = disk.failure or (None if is_ready(disk) else otherwise)
    if failure:
        return SnapshotOutcome(disk.snapshot.name, "failed", failure.code, failure.message)
    return SnapshotOutcome(disk.snapshot.name, "succeeded")


def unfinished(disks: Sequence[PointDisk], deadline: datetime) -> str:
    """What was not complete at the deadline, in words."""
    left = ", ".join(f"{disk.name} ({_progress(disk)})" for disk in disks if not is_ready(disk))
    return f"not complete by {deadline:%Y-%m-%d %H:%M} UTC: {left}"


def _progress(disk: PointDisk) -> str:
    if disk.failure:
        return disk.failure.code
    return disk.snapshot.status or ("asked for and not there" if disk.operation else "not started")


def _latest_failure(disks: Sequence[PointDisk]) -> Failure | None:
    return next((disk.failure for disk in disks if disk.failure), None)


def _next_look(point: Point, now: datetime, *, starting: bool) -> datetime:
    """When the point is worth looking at again: once it may be ready, or a retry is due."""
    if starting:
        return now + REQUEST_GRACE
    times = [disk.retry_at for disk in point.disks if disk.failure and disk.retry_at]
    if any(not disk.failure and not is_ready(disk) for disk in point.disks):
        running = now - (point.started_at or now)
        times.append(look_in(running / 2, point, now))
    return min(max(min(times, default=now + LOOK_MIN), now + timedelta(seconds=1)), max(point.deadline, now + LOOK_MIN))


def after_start(point: Point, now: datetime) -> datetime:
    """The first look after every disk was started: when such a point was ready before, never sooner than useful."""
    return look_in(_first_wait(point), point, now)


def _first_wait(point: Point) -> timedelta:
    """How long after its start a point is thought worth a look. Whoever waits for it is not kept by what was learnt."""
    learnt = timedelta(seconds=point.expected_s)
    wait = learnt if point.trigger == "scheduled" else min(learnt, FIRST_EXPECTED)
    return min(max(wait, LOOK_MIN), LOOK_MAX)


def look_in(wait: timedelta, point: Point, now: datetime) -> datetime:
    """The next look, about `wait` from now; for a scheduled point together with the others' (LOOKS_TOGETHER)."""
    at = now + min(max(wait, LOOK_MIN), LOOK_MAX)
    if point.trigger != "scheduled":
        return at
    past = timedelta(minutes=at.minute, seconds=at.second, microseconds=at.microsecond) % LOOKS_TOGETHER
    together = at + (LOOKS_TOGETHER - past) % LOOKS_TOGETHER
    return together if together <= now + LOOK_MAX else together - LOOKS_TOGETHER


def late_to_start(point: Point, now: datetime) -> Step[InsertSnapshot] | None:
    """The end of a requested point that was not started in time; None while it still may be."""
    if now <= point.start_by:
        return None
    why = f"not started by {point.start_by:%Y-%m-%d %H:%M} UTC"
    if point.failure:
        why += f"; last met: {point.failure.code}: {point.failure.message}"
    if point.trigger == "scheduled":
        missed = replace(
            point, state="missed", failure=Failure(code="missed", message=why[:500]), updated_at=now, next_at=None
        )
        return Step(missed)
    return ended(point, Failure(code="not_started", message=why[:500]), now)


def ended(
    point: Point, why: Failure, now: datetime, outcomes: tuple[SnapshotOutcome, ...] = ()
) -> Step[InsertSnapshot]:
    """The end of a point that is not verified."""
    failed = replace(point, state="failed", failure=why, updated_at=now)
    return Step(copies.home_failed(failed, now), outcomes=outcomes)


def postponed(point: Point, failure: Failure, now: datetime, *, pause: timedelta | None = None) -> Point:
    """The same point, to be looked at later: something stood in the way that may pass."""
    wait = pause if pause is not None else backoff(point.faults)
    return replace(point, failure=failure, faults=point.faults + 1, next_at=min(now + wait, _must_end(point, now)))


def _must_end(point: Point, now: datetime) -> datetime:
    """When the point is to be looked at in any case, since its time runs out then."""
    end = point.start_by if point.state == "requested" else point.deadline
    return max(end, now + LOOK_MIN)


# --- what is kept of an instance ----------------------------------------------------------------------------------


def define(instance: cloud.Instance) -> dict[str, Any]:
    """How to build the instance again, without secrets; `left_out` names what is missing from it."""
    whole = instance.definition
    kept = {name: whole[name] for name in DEFINITION_FIELDS if name in whole}
    left_out = [f"disk {disk.device_name} (local SSD)" for disk in instance.disks if not disk.persistent]
    metadata = {}
    items = whole.get("metadata", {}).get("items", [])
    for item in items:
        if item.get("key") in METADATA_KEPT:
            metadata[item["key"]] = item.get("value", "")
        else:
            left_out.append(f"metadata {item.get('key')}")
    ignored = {*DEFINITION_FIELDS, "metadata", *_IDENTITY_FIELDS}
    left_out += [name for name in sorted(whole) if name not in ignored]
    return {**kept, "metadata": metadata, "left_out": sorted(left_out)}


# What a point stores elsewhere, or what says nothing about how to build the instance.
_IDENTITY_FIELDS: Final = frozenset(
    {"id", "name", "zone", "disks", "status", "statusMessage", "kind", "selfLink", "selfLinkWithId",
     "creationTimestamp", "labelFingerprint", "fingerprint", "lastStartTimestamp", "lastStopTimestamp", "cpuPlatform",
     "startRestricted"}
)  # fmt: skip


# --- an instance's own bookkeeping --------------------------------------------------------------------------------


def disk_refs(found: cloud.Instance, disks: Mapping[str, cloud.Disk]) -> list[DiskRef]:
    return [DiskRef(name=disks[a.source].name, id=disks[a.source].id) for a in found.disks if a.source in disks]


def after_transition(instance: Instance, tenant: Tenant | None, before: Point | None, after: Point) -> Instance:
    """The instance with its tally, its newest verified point and its work, after a point of it changed its state."""
    tally = _tallied(instance.tally, before, after)
    changed = replace(instance, tally=tally, updated_at=after.updated_at)
    if after.copies:
        bought = copies.entitled(tenant, after.updated_at) if tenant is not None else None
        work = copies.counted(changed.copies, before, after, bought.region if bought else None)
        changed = replace(changed, copies=work)
    if after.state in ("verified", "failed") and after.stored_for is not None:
        changed = to_be_weighed(changed, after.updated_at)
    if after.state != "verified" or after.verified_at is None or not after.usable:
        return changed
    at = taken_at(after)
    if instance.newest_verified is not None and instance.newest_verified.at >= at:
        return changed
    took_s = int(_learnt(before, after, after.verified_at).total_seconds())
    changed = replace(changed, newest_verified=Newest(point=after.id, at=at, took_s=took_s))
    if instance.breach_at is None and instance.lost_at is None and tenant is not None:
        changed = replace(changed, breach_due_at=breach_due(changed, tenant))
    return changed


def to_be_weighed(instance: Instance, now: datetime) -> Instance:
    """The instance, to be looked at by `expire` as soon as may be: what its points are weighed by has changed."""
    return replace(instance, retention_at=now, retention=replace(instance.retention, plan_at=now))


def _learnt(before: Point | None, after: Point, verified_at: datetime) -> timedelta:
    """When the instance's next point is worth its first look, after its start."""
    if before is not None and all(disk.attempts == 1 and disk.snapshot.id is None for disk in before.disks):
        # READY at the first look that saw anything: sooner may do, and only a try shows it. Of the wait as planned,
        # not as rounded up to a common minute (LOOKS_TOGETHER) or as long as an outage made it, so that it converges.
        return _first_wait(after) * 0.9
    return verified_at - (after.started_at or verified_at)


def taken_at(point: Point) -> datetime:
    """The moment that a point can bring back: that of its earliest snapshot. Ages and RPOs are measured from it."""
    return min([d.snapshot.created_at for d in point.disks if d.snapshot.created_at], default=point.requested_at)


def breach_due(instance: Instance, tenant: Tenant) -> datetime | None:
    """When the instance is in breach of its RPO unless a point is verified before; None if nothing is promised."""
    if instance.lost_at is not None or not tenant.vendor_managed:
        return None
    since = instance.newest_verified.at if instance.newest_verified else instance.seen_at
    return since + timedelta(hours=tenant.rpo_hours)


def _tallied(tally: Tally, before: Point | None, after: Point) -> Tally:
    running = tally.running + (after.state in LIVING) - (before is not None and before.state in LIVING)
    days = dict(tally.days)
    if after.slot and after.state in ("verified", "failed", "missed"):
        days[after.slot.day] = after.state
        for old in sorted(days)[:-DAYS_SHOWN]:
            del days[old]
    return Tally(
        running=max(running, 0),
        verified=tally.verified + (after.state == "verified"),
        failed=tally.failed + (after.state == "failed"),
        missed=tally.missed + (after.state == "missed"),
        stored=tally.stored + (after.state == "verified"),
        bytes=tally.bytes + (sum(d.snapshot.bytes for d in after.disks) if after.state == "verified" else 0),
        days=days,
    )

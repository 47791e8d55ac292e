"""One try at a copy, from its beginning until nothing of it is left behind. Pure: facts in, steps out.

A try is `requested -> copying -> verified | failed`. By way of the moment, each disk's snapshot is made from the
instant snapshot that the home snapshot was made from. By way of temporary disks, later: from the home snapshot a disk
is made, of that a snapshot in the other region, and the disk goes again, whether the try ends well or not. An attempt
at a snapshot, or at a disk, is judged as creation judges one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from msgspec.structs import replace

from snapkeep import cloud
from snapkeep.cloud import DeleteDisk, Disk, InsertDisk, InsertSnapshot, Operation, Snapshot
from snapkeep.copies import leftovers, rules, sets
from snapkeep.copies.leftovers import Exit, Removal, link
from snapkeep.copies.rules import COPY_DEADLINE
from snapkeep.creation import rules as creation
from snapkeep.creation.rules import (
    CLOCK_SKEW,
    LAST_START,
    LOOK_MIN,
    REQUEST_GRACE,
    RETRY_MIN,
)
from snapkeep.creation.rules import SnapshotOutcome as Outcome
from snapkeep.documents import (
    GONE,
    Copy,
    CopyDisk,
    Failure,
    InstantRef,
    Point,
    PointDisk,
    SnapshotRef,
    TemporaryDisk,
    Tenant,
)
from snapkeep.restore import manifest

TEMPORARY_TYPE: Final = "pd-balanced"
TEMPORARY_GB_MIN: Final = 10
"""The least size of such a disk."""

LOST: Final = frozenset({"notFound", "RESOURCE_NOT_FOUND"})
"""How Compute Engine says that what was to be copied from is not there."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What was read for the copies of some points."""

    snapshots: Mapping[str, Snapshot] = field(default_factory=dict)  # of the vault project, by name
    disks: Mapping[str, Disk] = field(default_factory=dict)  # the temporary ones, by link
    operations: Mapping[str, Operation | None] = field(default_factory=dict)  # read before the last look for theirs
    may_start: bool = True  # creation is not paused
    may_remove: bool = True  # deletion is not paused


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a try. Nothing of it is done yet."""

    point: Point  # to be committed first
    intents: tuple[InsertSnapshot | InsertDisk, ...] = ()  # asked for the first time: recorded with the commit
    removes: tuple[DeleteDisk, ...] = ()  # recorded with the commit, asked for after it
    outcomes: tuple[Outcome, ...] = ()  # recorded with the commit
    removals: tuple[Removal, ...] = ()  # likewise
    starts: tuple[InsertSnapshot | InsertDisk, ...] = ()  # to be asked for after it: the intents, and repeated asks


# --- what a try asks for ------------------------------------------------------------------------------------------


def labels(tenant: str, point: Point, role: str) -> dict[str, str]:
    return {"snapkeep-tenant": tenant, "snapkeep-point": point.id, "snapkeep-role": role}


def snapshot_change(point: Point, region: str, disk: CopyDisk, tenant: Tenant) -> InsertSnapshot:
    """The request for a disk's snapshot in the other region, the same whenever it is built for the same attempt."""
    whole = _whole(point, disk)
    if disk.temporary is not None:
        source, instant = link(disk.temporary), None
    else:
        of = _instant(point, disk)
        source, instant = creation.disk_link(point, whole), creation.instant_link(point, of) if of else None
    return InsertSnapshot(
        project=disk.snapshot.project,
        name=disk.snapshot.name,
        source_disk=source,
        location=region,
        labels=labels(tenant.id, point, "copy"),
        description=manifest.described(point, tenant.id, region, disk),
        kms_key=tenant.kms_keys.get(region),
        source_instant=instant,
    )


def disk_change(point: Point, disk: CopyDisk, tenant: Tenant) -> InsertDisk:
    """The request for a temporary disk, the same whenever it is built for the same attempt."""
    assert disk.temporary is not None
    whole, temporary = _whole(point, disk), disk.temporary
    return InsertDisk(
        project=temporary.project,
        scope=f"zones/{temporary.zone}",
        name=temporary.name,
        source_snapshot=cloud.snapshot_link(whole.snapshot.project, whole.snapshot.name),
        type=TEMPORARY_TYPE,
        size_gb=temporary.size_gb,
        labels=labels(tenant.id, point, "temporary"),
        description=f"Snapkeep: temporary, to copy recovery point {point.id} of {point.instance.name} to its region",
        kms_key=tenant.kms_keys.get(point.instance.region) or whole.kms_key,
    )


def _whole(point: Point, disk: CopyDisk) -> PointDisk:
    return next(one for one in point.disks if one.id == disk.id)


def _instant(point: Point, disk: CopyDisk) -> InstantRef | None:
    instants = point.moment.instants if point.moment else []
    return next((one for one in instants if one.disk == disk.id), None)


def _next_attempt(
    disk: CopyDisk, point: Point, region: str, tenant: Tenant, way: str, now: datetime, least_gb: int = 0
) -> CopyDisk:
    """The disk with its next attempt: under new names, of a temporary disk that serves still or a new one.

    `least_gb`: of what the home snapshot holds, where it was read; a later attempt knows it from the one before.
    """
    attempt = disk.attempts + 1
    whole, ref = _whole(point, disk), point.instance

    def name(purpose: str) -> str:
        return creation.snapshot_name(tenant.id, point.id, ref.name, whole.name, whole.id, purpose, attempt)

    temporary = None
    if way == "temporary_disk":
        made = TemporaryDisk(
            project=point.vault_project,
            zone=whole.zone or whole.replica_zones[0],
            name=name(f"{region}|temporary"),
            # Compute Engine makes none smaller than the disk was when it was snapshotted: it may have grown by then.
            size_gb=max(whole.size_gb, least_gb, disk.temporary.size_gb if disk.temporary else TEMPORARY_GB_MIN),
            asked_at=now,
        )
        temporary = disk.temporary if _serves(disk) else made
    given_up = disk.temporary.id if disk.temporary is not None and disk.temporary != temporary else None
    # Whether it failed or was given up, something of it may be there: it goes when the copy does.
    superseded = [*disk.superseded, disk.snapshot] if disk.attempts and not _of_disk(disk) else disk.superseded
    return replace(
        disk,
        snapshot=SnapshotRef(project=point.vault_project, name=name(region), location=region),
        superseded=[one for one in superseded if one.status != GONE],
        attempts=attempt,
        temporary=temporary,
        former_temporaries=[*disk.former_temporaries, *([given_up] if given_up else [])],
        operation=None,
        failure=None,
        retry_at=None,
    )


def _of_disk(disk: CopyDisk) -> bool:
    """Whether the present attempt is still at its temporary disk: no snapshot was asked for yet."""
    return disk.temporary is not None and disk.temporary.ready_at is None


def _serves(disk: CopyDisk) -> bool:
    """Whether its temporary disk can be copied from."""
    temporary = disk.temporary
    return temporary is not None and temporary.ready_at is not None and temporary.status == "READY"


# --- the steps ----------------------------------------------------------------------------------------------------


def is_begun_with_facts(copy: Copy) -> bool:
    """Whether the beginning of this copy needs to know what is there of the home point."""
    return copy.state == "requested" and copy.way == "temporary_disk"


def step(point: Point, region: str, tenant: Tenant, facts: Facts, now: datetime) -> Step | None:
    """Take the copy in a region one step on; None where nothing is to be done or written but `postponed`."""
    copy = point.copies[region]
    match copy.state:
        case "requested":
            refusal = refused(point, region, tenant, facts, now)
            if refusal:
                return _ended(point, region, refusal, facts, tenant, now)
            if _left(copy):
                return _cleaned(Step(point), region, facts, tenant, now)
            return _begin(point, region, tenant, facts, now) if facts.may_start else None
        case "copying":
            return _judge(point, region, tenant, facts, now)
        case _:
            return _cleaned(Step(point), region, facts, tenant, now)


def refused(point: Point, region: str, tenant: Tenant, facts: Facts, now: datetime) -> Failure | None:
    """Why a copy must not or cannot be begun, or begun again; None if it can."""
    if (why := not_entitled(tenant, region, now)) is not None:
        return why
    if (why := no_kms_key(point, region, tenant, facts.snapshots)) is not None:
        return why
    if point.copies[region].way == "moment":
        missing = [d.name for d in point.disks if not _has_instant(point, d)]
        if missing or point.moment is None or point.moment.state != "taken":
            message = f"the moment of {', '.join(missing) or point.id} is not held any more"
            return Failure(code="instant_gone", message=message[:500])
        return None
    if point.state != "verified" or point.gone or not point.usable:
        return Failure(code="source_gone", message=f"{point.id} is not verified, complete and usable any more")
    away = [d.snapshot.name for d in point.disks if not _is_there(d.snapshot, facts.snapshots)]
    if away:
        return Failure(code="source_gone", message=f"{', '.join(away)} of {point.id} cannot be read to be READY"[:500])
    return None


def not_entitled(tenant: Tenant, region: str, now: datetime) -> Failure | None:
    bought = rules.entitled(tenant, now)
    if bought is not None and bought.region == region:
        return None
    message = f"inter-region backup to {region} is not bought now"
    return Failure(code="not_entitled", message=message)


def no_kms_key(
    point: Point, region: str, tenant: Tenant, found: Mapping[str, Snapshot] | None = None
) -> Failure | None:
    """Why a copy would not be encrypted as its home is: with a customer's key, of which the region has none.

    `found`: the home snapshots by name, where they were read; they may have a key that the fleet file names no more.
    """
    if region in tenant.kms_keys:
        return None
    home = point.instance.region
    used = {name for name, snapshot in (found or {}).items() if snapshot.kms_key}
    if keyed := [disk.name for disk in point.disks if disk.kms_key]:
        why = f"a customer's key encrypts {_some(keyed)}"
    elif keyed := [disk.name for disk in point.disks if disk.snapshot.name in used]:
        why = f"a customer's key encrypts what is at home of {_some(keyed)}"
    elif home in tenant.kms_keys:
        why = f"kms_keys has a key for {home}, its home"
    else:
        return None
    message = (
        f"{why}, and kms_keys has none for {region}: add one to the fleet file, "
        f"kms_keys: {{{region}: projects/P/locations/{region}/keyRings/R/cryptoKeys/K}}"
    )
    return Failure(code="no_kms_key", message=message[:500])


def _some(names: Sequence[str]) -> str:
    """So few of them that what is said after them is not cut off."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _has_instant(point: Point, disk: PointDisk) -> bool:
    instants = point.moment.instants if point.moment else []
    return any(one.disk == disk.id and one.id is not None and one.status == "READY" for one in instants)


def _is_there(ref: SnapshotRef, found: Mapping[str, Snapshot]) -> bool:
    return ref.name in found and found[ref.name].id == ref.id and found[ref.name].status == "READY"


def _begin(point: Point, region: str, tenant: Tenant, facts: Facts, now: datetime) -> Step:
    copy = point.copies[region]
    former = {disk.id: disk for disk in copy.disks}
    disks = []
    for whole in point.disks:
        ref = SnapshotRef(project=point.vault_project, name="", location=region)
        disk = former.get(whole.id) or CopyDisk(id=whole.id, name=whole.name, snapshot=ref, attempts=0)
        home = facts.snapshots.get(whole.snapshot.name)
        disk = _next_attempt(disk, point, region, tenant, copy.way, now, home.size_gb if home else 0)
        disks.append(replace(disk, first_attempt=disk.attempts))
    begun = replace(
        copy,
        state="copying",
        disks=disks,
        started_at=now,
        verified_at=None,
        deadline=now + COPY_DEADLINE,
        failure=None,
        faults=0,
        # Should the starts after this commit be lost, reconcile asks again.
        next_at=now + REQUEST_GRACE,
    )
    after = _with_copy(replace(point, updated_at=now), region, begun)
    intents = tuple(_ask_of(after, region, disk, tenant) for disk in disks)
    return Step(after, intents=intents, starts=intents)


def _ask_of(point: Point, region: str, disk: CopyDisk, tenant: Tenant) -> InsertSnapshot | InsertDisk:
    """What the present attempt of a disk is to ask for now."""
    return disk_change(point, disk, tenant) if _of_disk(disk) else snapshot_change(point, region, disk, tenant)


def _with_copy(point: Point, region: str, copy: Copy) -> Point:
    """The point with this copy, and when to look at it next."""
    after = replace(point, copies={**point.copies, region: copy})
    return replace(after, next_at=sets.next_at(after))


def _judge(point: Point, region: str, tenant: Tenant, facts: Facts, now: datetime) -> Step:
    copy = point.copies[region]
    why = not_entitled(tenant, region, now)
    if why is not None:
        return _ended(point, region, why, facts, tenant, now)
    view = sets.as_point(point, region)
    outcomes: list[Outcome] = []
    intents: list[InsertSnapshot | InsertDisk] = []
    starts: list[InsertSnapshot | InsertDisk] = []
    assert copy.deadline is not None
    may_start = facts.may_start and now <= copy.deadline - LAST_START
    disks: list[CopyDisk] = []
    for before in copy.disks:
        disk = _judge_disk(before, point, view, tenant, facts, now)
        if disk.failure and not before.failure:
            outcomes.append(_outcome(disk, point, None))
        disks.append(disk)
    judged = replace(copy, disks=disks)
    if all(creation.is_ready(_view(disk, point)) for disk in disks):
        done = replace(judged, state="verified", verified_at=now, failure=None, faults=0)
        told = tuple(_outcome(disk, point, None) for disk in disks)
        return _cleaned(_moved(point, region, done, (*outcomes, *told), now), region, facts, tenant, now)

    hopeless = next((disk.failure for disk in disks if disk.failure and disk.retry_at is None), None)
    if now >= copy.deadline or hopeless:
        # A temporary disk that is there has come to its end: nobody will ask for its snapshot any more.
        alive = any(creation.is_alive(_view(disk, point), view, now) for disk in disks if not _is_made(disk))
        if now >= copy.deadline or not alive:
            return _ended(
                point, region, hopeless or _too_late(judged, point, now), facts, tenant, now, judged, outcomes
            )
        waiting = replace(judged, failure=hopeless, next_at=now + LOOK_MIN)
        return Step(_with_copy(point, region, waiting), outcomes=tuple(outcomes))

    for index, disk in enumerate(disks if may_start else ()):
        if disk.temporary is not None and _is_made(disk):
            # The end of its making, and that its snapshot is asked for, are one commit.
            outcomes.append(Outcome(disk.temporary.name, "succeeded"))
            disks[index] = replace(disk, temporary=replace(disk.temporary, ready_at=now))
            intents.append(snapshot_change(point, region, disks[index], tenant))
        elif disk.failure and disk.retry_at and disk.retry_at <= now and _is_clear(disk):
            disks[index] = _next_attempt(disk, point, region, tenant, copy.way, now)
            intents.append(_ask_of(point, region, disks[index], tenant))
        elif not disk.failure and _is_unasked(disk):
            starts.append(_ask_of(point, region, disk, tenant))
            if disk.temporary is not None and _of_disk(disk):
                # It may come as long after this as after it was first asked for.
                disks[index] = replace(disk, temporary=replace(disk.temporary, asked_at=now))
    latest = next((disk.failure for disk in disks if disk.failure), None)
    judged = replace(judged, disks=disks, failure=latest or copy.failure)
    look = now + REQUEST_GRACE if starts or intents else _next_look(judged, view, now)
    judged = replace(judged, next_at=min(look if facts.may_start else max(look, now + LOOK_MIN), copy.deadline))
    after = replace(point, updated_at=now) if starts or intents else point
    taken = Step(
        _with_copy(after, region, judged),
        intents=tuple(intents),
        outcomes=tuple(outcomes),
        starts=(*intents, *starts),
    )
    return _cleaned(taken, region, facts, tenant, now)


def _is_made(disk: CopyDisk) -> bool:
    """Whether the present attempt has its temporary disk, and its snapshot is not asked for yet."""
    made = _of_disk(disk) and not disk.failure
    return made and disk.temporary is not None and disk.temporary.status == "READY"


def _is_unasked(disk: CopyDisk) -> bool:
    """Whether nothing is known of what the present attempt asks for: perhaps who was to ask for it died."""
    if _of_disk(disk):
        assert disk.temporary is not None
        return disk.temporary.operation is None and disk.temporary.id is None
    return disk.operation is None and disk.snapshot.id is None


def _is_clear(disk: CopyDisk) -> bool:
    """Whether the next attempt may begin: what the last one left serves it, or is gone."""
    return disk.temporary is None or disk.temporary.status == GONE or _serves(disk)


def _too_late(copy: Copy, point: Point, now: datetime) -> Failure:
    assert copy.deadline is not None
    message = creation.unfinished([_view(disk, point) for disk in copy.disks], copy.deadline)
    if copy.failure:
        message += f"; last met: {copy.failure.code}: {copy.failure.message}"
    return Failure(code="deadline", message=message[:500])


def _next_look(copy: Copy, view: Point, now: datetime) -> datetime:
    times = [disk.retry_at for disk in copy.disks if disk.failure and disk.retry_at]
    if any(not disk.failure for disk in copy.disks):
        times.append(creation.look_in((now - (copy.started_at or now)) / 2, view, now))
    return max(min(times, default=now + LOOK_MIN), now + timedelta(seconds=1))


def postponed(
    point: Point, region: str, failure: Failure | None, now: datetime, *, pause: timedelta | None = None
) -> Point:
    """The same point, its copy to be looked at later: something stands in the way that may pass."""
    copy = point.copies[region]
    wait = pause if pause is not None else creation.backoff(copy.faults)
    at = now + wait
    if copy.state == "copying" and copy.deadline is not None:
        at = min(at, max(copy.deadline, now + LOOK_MIN))
    if copy.state not in ("requested", "copying"):
        failure = None  # why its try has ended stays what it was
    after = replace(copy, failure=failure or copy.failure, faults=copy.faults + 1, next_at=at)
    return _with_copy(point, region, after)


def unread(point: Point, region: str, fault: Failure, tenant: Tenant, now: datetime) -> Step:
    """The end of a try that could not be read up to its deadline: what was not read is not verified."""
    message = f"not read back by the deadline; last met: {fault.code}: {fault.message}"[:500]
    nothing = Facts(may_remove=False)
    return _ended(point, region, Failure(code="deadline", message=message), nothing, tenant, now, blind=True)


def _ended(
    point: Point,
    region: str,
    why: Failure,
    facts: Facts,
    tenant: Tenant,
    now: datetime,
    judged: Copy | None = None,
    outcomes: Sequence[Outcome] = (),
    *,
    blind: bool = False,
) -> Step:
    """The end of a try without success. Everything that was asked for gets its outcome, also what outlives the try."""
    copy = judged or point.copies[region]
    running = copy.disks if copy.state == "copying" else []
    rest = [_outcome(disk, point, why) for disk in running if not disk.failure]
    failed = replace(copy, state="failed", failure=why, faults=0)
    moved = _moved(point, region, failed, (*outcomes, *rest), now)
    if blind:  # nothing was read: what it leaves is looked for at the next look
        later = replace(moved.point.copies[region], next_at=now + LOOK_MIN if _left(failed) else None)
        return Step(_with_copy(moved.point, region, later), outcomes=moved.outcomes)
    return _cleaned(moved, region, facts, tenant, now)


def _moved(point: Point, region: str, copy: Copy, outcomes: Sequence[Outcome], now: datetime) -> Step:
    after = _with_copy(replace(point, updated_at=now), region, replace(copy, next_at=None))
    return Step(rules.settled(after, now), outcomes=tuple(outcomes))


def _outcome(disk: CopyDisk, point: Point, otherwise: Failure | None) -> Outcome:
    """How what a disk has last asked for ended. `otherwise`: why it is given up."""
    return creation.outcome_of(_view(disk, point), otherwise)


# --- one disk -----------------------------------------------------------------------------------------------------


def _view(disk: CopyDisk, point: Point) -> PointDisk:
    """The present attempt as creation's rules see one: what was asked for last, and its number within the try."""
    temporary = disk.temporary
    if temporary is not None and _of_disk(disk):
        name, id, operation = temporary.name, temporary.id, temporary.operation
        ref = SnapshotRef(project=temporary.project, name=name, location=point.instance.region, id=id)
    else:
        ref, operation = disk.snapshot, disk.operation
    return replace(
        _whole(point, disk),
        snapshot=ref,
        superseded=[],
        attempts=disk.attempts - disk.first_attempt + 1,
        operation=operation,
        failure=disk.failure,
        retry_at=disk.retry_at,
    )


def _failing(
    disk: CopyDisk, point: Point, code: str, message: str, now: datetime, pause: timedelta | None = RETRY_MIN
) -> CopyDisk:
    view = creation.attempt_failed(_view(disk, point), code, message, now, pause=pause)
    return replace(disk, failure=view.failure, retry_at=view.retry_at)


def _renamed(disk: CopyDisk, point: Point, now: datetime) -> CopyDisk:
    """The disk with the name of what is missing, where Compute Engine says that something is."""
    if disk.failure is None or disk.failure.code not in LOST:
        return disk
    message = disk.failure.message
    if disk.temporary is None:
        return _failing(disk, point, "instant_gone", message, now, pause=None)
    if _of_disk(disk):
        return _failing(disk, point, "source_gone", message, now, pause=None)
    return _failing(disk, point, "temporary_disk_lost", message, now)


def _judge_disk(
    disk: CopyDisk, point: Point, view: Point, tenant: Tenant, facts: Facts, now: datetime
) -> CopyDisk:  # fmt: skip
    """What became of the disk's present attempt, as one read shows it."""
    temporary = disk.temporary
    if temporary is not None and _serves(disk) and not temporary.removals and link(temporary) not in facts.disks:
        disk = replace(disk, temporary=replace(temporary, status=GONE))  # somebody else has removed it
        if not disk.failure and disk.snapshot.id is None:
            return _failing(disk, point, "temporary_disk_lost", f"{temporary.name} was READY and is gone", now)
    if disk.failure:
        return disk
    if _of_disk(disk):
        return _judge_temporary(disk, point, view, tenant, facts, now)
    found = facts.snapshots.get(disk.snapshot.name)
    if found is None:
        return _judge_unseen(disk, point, view, facts, now)
    return _judge_snapshot(disk, found, point, view, tenant, now)


def _judge_unseen(disk: CopyDisk, point: Point, view: Point, facts: Facts, now: datetime) -> CopyDisk:
    """What was asked for is not there: its operation says why."""
    seen = creation.judge_unseen(_view(disk, point), view, facts.operations, now)
    after = replace(disk, failure=seen.failure, retry_at=seen.retry_at)
    if not _of_disk(disk):
        return _renamed(replace(after, snapshot=seen.snapshot), point, now)
    if after.failure is not None and after.failure.code == "snapshot_lost":
        return replace(after, failure=replace(after.failure, code="temporary_disk_lost"))
    return _renamed(after, point, now)


def _judge_temporary(
    disk: CopyDisk, point: Point, view: Point, tenant: Tenant, facts: Facts, now: datetime
) -> CopyDisk:  # fmt: skip
    assert disk.temporary is not None
    temporary = disk.temporary
    found = facts.disks.get(link(temporary))
    if found is None:
        return _judge_unseen(disk, point, view, facts, now)
    if not _is_ours(disk, found, point, tenant):
        # Nothing of it is to be removed, so nothing stands in the way of another name.
        other = replace(disk, temporary=replace(temporary, status=GONE))
        return _failing(other, point, "name_taken", f"{found.link} exists and is not ours", now)
    seen = replace(disk, temporary=replace(temporary, id=found.id, status=found.status))
    if not _may_be_of_home(disk, found, point):
        message = f"{found.link} is made of snapshot {found.source_snapshot_id}, which has taken the name of home's"
        return _failing(seen, point, "source_gone", message, now, pause=None)
    wanted = disk_change(point, disk, tenant).kms_key
    match found.status:
        case "READY" if found.size_gb < temporary.size_gb:
            message = f"{found.link} has {found.size_gb} GB, not {temporary.size_gb}"
        case "READY" if wanted and cloud.key_without_version(found.kms_key or "") != wanted:
            message = f"{found.link} is not encrypted with {wanted}"
        case "READY" | "CREATING" | "RESTORING":
            return seen
        case status:
            message = f"{found.link} is {status}"
    return _failing(seen, point, "temporary_disk_failed", message, now)


def _is_ours(disk: CopyDisk, found: Disk, point: Point, tenant: Tenant) -> bool:
    """Whether a disk under a temporary one's name is that one: by its id, else by all that it shows.

    Where our own request was accepted, it is, whatever it was made of: the request names its source, and another
    snapshot may have taken that name.
    """
    assert disk.temporary is not None
    if disk.temporary.id is not None:
        return found.id == disk.temporary.id
    made = disk.temporary.operation is not None or _may_be_of_home(disk, found, point)
    claimed = labels(tenant.id, point, "temporary")
    return made and all(found.labels.get(key) == value for key, value in claimed.items())


def _may_be_of_home(disk: CopyDisk, found: Disk, point: Point) -> bool:
    """Whether a disk is made of the home snapshot, or does not say yet what of: nothing promises that from the start.

    One that is taken for a stranger is left alone for ever.
    """
    if found.source_snapshot_id is None and found.status in ("CREATING", "RESTORING"):
        return True
    return found.source_snapshot_id == _whole(point, disk).snapshot.id


def _judge_snapshot(
    disk: CopyDisk, found: Snapshot, point: Point, view: Point, tenant: Tenant, now: datetime
) -> CopyDisk:  # fmt: skip
    began = view.started_at or view.requested_at
    if found.created_at < began - CLOCK_SKEW or not _is_made_of(disk, found, point):
        message = f"{found.link} exists and is not ours: made of disk {found.source_disk_id} at {found.created_at}"
        return _failing(disk, point, "name_taken", message, now)
    if found.locations != (disk.snapshot.location,):
        message = f"{found.link} lies in {', '.join(found.locations)}, not in {disk.snapshot.location}"
        # By its id it goes with the copy: what lies elsewhere would not be adopted by its name.
        strayed = replace(disk, snapshot=replace(disk.snapshot, id=found.id))
        return _failing(strayed, point, "wrong_location", message, now, pause=None)
    whole, wanted = _whole(point, disk), tenant.kms_keys.get(disk.snapshot.location)
    if found.status == "READY" and found.size_gb < whole.size_gb:
        message = f"{found.link} holds {found.size_gb} GB of {whole.size_gb}"
        return _failing(disk, point, "incomplete", message, now)
    if found.status == "READY" and wanted and cloud.key_without_version(found.kms_key or "") != wanted:
        return _failing(disk, point, "wrong_key", f"{found.link} is not encrypted with {wanted}", now)
    seen = creation.judge_seen(_view(disk, point), found, view, now, _moment(disk, point))
    return replace(disk, snapshot=seen.snapshot, failure=seen.failure, retry_at=seen.retry_at)


def _is_made_of(disk: CopyDisk, found: Snapshot, point: Point) -> bool:
    if disk.temporary is not None:
        return found.source_disk_id == disk.temporary.id
    instant = _instant(point, disk)
    return instant is not None and instant.id is not None and found.source_instant_id == instant.id


def _moment(disk: CopyDisk, point: Point) -> datetime | None:
    """The moment that a copy of this disk holds: that of the home snapshot, whichever way it was made."""
    return _whole(point, disk).snapshot.created_at


# --- answers ------------------------------------------------------------------------------------------------------


def answered(
    point: Point,
    region: str,
    operations: Mapping[str, str],
    refusals: Mapping[str, Failure],
    fault: Failure | None,
    now: datetime,
    *,
    pause: timedelta | None = None,
) -> Step | None:
    """The point with what its copy's starts were answered, by name; None where the try is over already.

    `fault`: what stood in the way of one of them and may pass; `pause`: how long it is to be left alone.
    """
    copy = point.copies[region]
    if copy.state != "copying":
        return None
    outcomes: list[Outcome] = []
    disks: list[CopyDisk] = []
    for before in copy.disks:
        disk = before
        name = _view(disk, point).snapshot.name
        if name in operations and _is_unasked(disk):
            disk = _with_operation(disk, operations[name])
        elif name in refusals and disk.failure is None and _is_unasked(disk):
            # Where an operation is noted, another run asked for the same and was heard.
            why = refusals[name]
            view = creation.refused(_view(disk, point), why.code, why.message, now)
            permanent = why.code == "outside_residency"
            disk = replace(disk, failure=view.failure, retry_at=None if permanent else view.retry_at)
            disk = _renamed(disk, point, now)
            outcomes.append(_outcome(disk, point, disk.failure))
        disks.append(disk)
    noted = replace(copy, disks=disks)
    if fault:
        later = postponed(_with_copy(point, region, noted), region, fault, now, pause=pause)
        return Step(later, outcomes=tuple(outcomes))
    dead = any(disk.failure and disk.retry_at is None for disk in disks)
    look = now if dead else _next_look(noted, sets.as_point(point, region), now)
    assert copy.deadline is not None
    noted = replace(noted, faults=0, next_at=min(look, copy.deadline))
    return Step(_with_copy(point, region, noted), outcomes=tuple(outcomes))


def _with_operation(disk: CopyDisk, operation: str) -> CopyDisk:
    if _of_disk(disk):
        assert disk.temporary is not None
        return replace(disk, temporary=replace(disk.temporary, operation=operation))
    return replace(disk, operation=operation)


# --- what temporary disks leave -----------------------------------------------------------------------------------


def _left(copy: Copy) -> list[CopyDisk]:
    """Disks whose temporary one may still be there."""
    return [disk for disk in copy.disks if disk.temporary is not None and disk.temporary.status != GONE]


def _is_over(copy: Copy, disk: CopyDisk, point: Point) -> bool:
    """Whether nothing needs a disk's temporary one any more: its snapshot is there, the try over, or it is no use."""
    if copy.state != "copying":
        return True
    assert disk.temporary is not None
    return not _serves(disk) if disk.failure else creation.is_ready(_view(disk, point))


def _cleaned(taken: Step, region: str, facts: Facts, tenant: Tenant, now: datetime) -> Step:
    """The step with the temporary disks that nothing needs any more on their way out."""
    copy = taken.point.copies[region]
    exits: list[Exit] = []
    disks = []
    for disk in copy.disks:
        temporary = disk.temporary
        if temporary is None or temporary.status == GONE or not _is_over(copy, disk, taken.point):
            disks.append(disk)
            continue
        found = facts.disks.get(link(temporary))
        ours = found is not None and _is_ours(disk, found, taken.point, tenant)
        one = leftovers.leave(temporary, found, facts.operations, now, ours=ours, may_remove=facts.may_remove)
        disks.append(replace(disk, temporary=one.temporary))
        exits.append(one)
    removes = tuple(one.remove for one in exits if one.remove)
    removals = tuple(one.removal for one in exits if one.removal)
    looks = [one.look_at for one in exits if one.look_at]
    if copy.state == "requested":
        looks.append(now + LOOK_MIN)  # what a former try left goes before the next one begins
    if copy.state == "copying" and copy.next_at is not None:
        looks.append(copy.next_at)
    cleaned = replace(copy, disks=disks, next_at=min(looks, default=None))
    point = replace(taken.point, updated_at=now) if removes or removals else taken.point
    return Step(
        _with_copy(point, region, cleaned),
        intents=taken.intents,
        removes=removes,
        outcomes=taken.outcomes,
        removals=removals,
        starts=taken.starts,
    )


# --- what is to be read -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a step of a copy needs to know."""

    snapshots: frozenset[str]  # names, in the vault project
    disks: frozenset[str]  # names of temporary disks, likewise
    operations: Mapping[str, str]  # link of an operation -> link of what it makes, for where that is not found


def wanted(point: Point, region: str) -> Wanted:
    """What to read before the next step of a copy."""
    copy = point.copies[region]
    names: set[str] = set()
    operations: dict[str, str] = {}
    if is_begun_with_facts(copy):
        names |= {disk.snapshot.name for disk in point.disks}
    if copy.state == "copying":
        for disk in copy.disks:
            if not disk.failure and not _of_disk(disk):
                names.add(disk.snapshot.name)
                if disk.operation:
                    operations[disk.operation] = cloud.snapshot_link(disk.snapshot.project, disk.snapshot.name)
    temporaries = [disk.temporary for disk in _left(copy) if disk.temporary]
    operations |= {t.operation: link(t) for t in temporaries if t.operation and t.ready_at is None}
    return Wanted(frozenset(names), frozenset(t.name for t in temporaries), operations)

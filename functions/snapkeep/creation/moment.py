"""One moment of all disks of a point, held in instant snapshots: how it is taken, used and taken anew. Pure.

It stands before and around the point's own rules. The moment is taken first; once every instant snapshot was read as
READY, the home snapshots are made of them and judged by `rules`; when nobody needs the moment any more, `release` lets
it go. What was bought in addition never costs the home point: where a moment cannot be had, a point of consistency
`crash` is made of its disks, as without the add-on, and its copy is made later. One of consistency `group` fails:
nothing else would be what was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as changed
from datetime import datetime, timedelta
from typing import Final

from msgspec.structs import replace

from snapkeep import cloud
from snapkeep.cloud import (
    InsertInstantSnapshot,
    InsertInstantSnapshotGroup,
    InstantSnapshot,
    InstantSnapshotGroup,
    Operation,
)
from snapkeep.copies import rules as copies
from snapkeep.creation import rules
from snapkeep.creation.rules import PointChange, SnapshotOutcome, Step
from snapkeep.documents import GONE, Failure, GroupRef, InstantRef, Moment, Point, PointDisk, Tenant

MOMENT_ATTEMPTS_MAX: Final = 3
"""Moments tried for one point."""

LOOK: Final = timedelta(minutes=1)
"""Until instant snapshots that were asked for, or asked to go, are worth a look: it takes seconds."""

RETRY_MIN: Final = timedelta(minutes=1)
"""Until a moment is taken anew, doubling. Compute Engine takes an instant snapshot of a disk every 30 s."""

STUCK_AFTER: Final = timedelta(minutes=15)
"""An instant snapshot that is not READY so long after it was asked for is taken for stuck."""

PATIENCE: Final = timedelta(hours=1)
"""From the start of a point that can be made of its disks too, until it is."""

FROM_MOMENT_MAX: Final = 3
"""Snapshots of one disk that are tried from instant snapshots, where there is another way; it has what is left."""

DELETING: Final = "DELETING"
"""The status of what is on its way out; noted of a ref, that we have asked for it."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was read of the instant snapshots of some points: by link, whoever made them.

    `operations` are those of what was not found, read before the last look for it; None for one that Compute Engine no
    longer knows.
    """

    instants: Mapping[str, InstantSnapshot] = field(default_factory=dict)
    groups: Mapping[str, InstantSnapshotGroup] = field(default_factory=dict)
    operations: Mapping[str, Operation | None] = field(default_factory=dict)


# --- beginning ----------------------------------------------------------------------------------------------------


def begin(
    point: Point,
    tenant: Tenant,
    found: cloud.Instance | None,
    disks: Mapping[str, cloud.Disk],
    policies: Mapping[str, cloud.ResourcePolicy],
    now: datetime,
) -> Step[PointChange]:
    """Take a requested point to `creating`, in the way that its consistency and what was bought ask for.

    See `rules.begin`. `policies` are the resource policies of the instance's project by link, needed only where the
    consistency is `group`.
    """
    step = rules.begin(point, tenant, found, disks, now)
    begun = step.point
    if begun.state != "creating":
        return step
    begun = replace(begun, copies=copies.first_copies(begun, tenant, now))
    policy = None
    if begun.consistency == "group":
        attached = [disks[rules.disk_link(begun, disk)] for disk in begun.disks]
        common = common_group(begun, attached, policies)
        if isinstance(common, Failure):
            return rules.ended(point, common, now)
        policy = common
    elif not copies.needs_moment(begun):
        return changed(step, point=begun)
    return _asked(replace(begun, moment=_first(begun, tenant, policy)), tenant, now)


def common_group(
    point: Point, disks: Sequence[cloud.Disk], policies: Mapping[str, cloud.ResourcePolicy]
) -> str | Failure:
    """Link of the consistency group that all disks of an instance are in, or why they are in no one."""
    ref = point.instance
    scopes = sorted({disk.scope for disk in disks})
    if len(scopes) > 1:
        where = ", ".join(f"{disk.name} ({disk.scope})" for disk in disks)
        message = (
            f"consistency 'group' needs disks that are all zonal or all regional: {where}. Make new disks of one kind "
            "from snapshots and attach those, or set consistency to 'crash'"
        )
        return Failure(code="mixed_disks", message=message)
    groups = {
        disk.name: {link for link in disk.resource_policies if link in policies and policies[link].consistency_group}
        for disk in disks
    }
    common = set.intersection(*groups.values())
    if common:
        return min(common)
    without = sorted(name for name, mine in groups.items() if not mine)
    if without:
        what = f"no consistency group on {', '.join(without)}"
    else:
        each = ", ".join(f"{name}: {min(mine).rsplit('/', 1)[-1]}" for name, mine in groups.items())
        what = f"the disks are in different consistency groups ({each})"
    scope = f"--{scopes[0].replace('zones/', 'zone=').replace('regions/', 'region=')}"
    message = (
        f"{what}. Make one: gcloud compute resource-policies create disk-consistency-group NAME --region={ref.region} "
        f"--project={ref.project}; and put every disk under it: gcloud compute disks add-resource-policies DISK "
        f"--resource-policies=NAME {scope} --project={ref.project}"
    )
    return Failure(code="no_consistency_group", message=message)


def _first(point: Point, tenant: Tenant, policy: str | None) -> Moment:
    group, instants = _refs(point, tenant, policy, attempt=1)
    return Moment(state="taking", group=group, instants=instants)


def _refs(point: Point, tenant: Tenant, policy: str | None, attempt: int) -> tuple[GroupRef | None, list[InstantRef]]:
    """What a moment is to be held in, by derived names. A group's members get theirs from Compute Engine."""
    ref = point.instance
    instants = []
    for disk in point.disks:
        # In the place of a region: instant snapshots are of no region's set.
        name = rules.snapshot_name(tenant.id, point.id, ref.name, disk.name, disk.id, "instant", attempt)
        instants.append(InstantRef(disk=disk.id, scope=rules.scope_of(point, disk), name="" if policy else name))
    if policy is None:
        return None, instants
    name = rules.snapshot_name(tenant.id, point.id, ref.name, "group", ref.id, "group", attempt)
    return GroupRef(scope=instants[0].scope, name=name, policy=policy), instants


def _asked(point: Point, tenant: Tenant, now: datetime) -> Step[PointChange]:
    """The point whose moment is asked for, for the first time."""
    moment = replace(moment_of(point), asked_at=now, next_at=None)
    # Should the starts after this commit be lost, reconcile asks again.
    asking = replace(point, moment=moment, updated_at=now, next_at=now + rules.REQUEST_GRACE)
    inserts = tuple(_inserts(asking, tenant))
    return Step(asking, intents=inserts, starts=inserts)


def _inserts(point: Point, tenant: Tenant) -> Iterator[InsertInstantSnapshot | InsertInstantSnapshotGroup]:
    """The requests for what left no sign yet, the same whenever they are built for the same attempt."""
    moment, ref = moment_of(point), point.instance
    description = f"Snapkeep recovery point {point.id} of {ref.name}"
    if moment.group is not None:
        if _unasked(moment.group):
            group = moment.group
            yield InsertInstantSnapshotGroup(ref.project, group.scope, group.name, group.policy, description)
        return
    labels = {"snapkeep-tenant": tenant.id, "snapkeep-point": point.id, "snapkeep-role": "moment"}
    for disk, instant in zip(point.disks, moment.instants, strict=True):
        if _unasked(instant):
            yield InsertInstantSnapshot(
                project=ref.project,
                scope=instant.scope,
                name=instant.name,
                source_disk=rules.disk_link(point, disk),
                labels=labels,
                description=f"{description}, disk {disk.device_name}",
            )


def _unasked(ref: GroupRef | InstantRef) -> bool:
    """Whether nothing is known of it: not asked for, or asked for by a run that died."""
    return ref.operation is None and ref.id is None and ref.status is None


# --- taking -------------------------------------------------------------------------------------------------------


def is_taking(point: Point) -> bool:
    return point.state == "creating" and point.moment is not None and point.moment.state == "taking"


def judge_taking(point: Point, tenant: Tenant, seen: Seen, now: datetime) -> Step[PointChange]:
    """Take a point on whose moment is being taken, from one read of its instant snapshots."""
    moment = moment_of(point)
    if now > point.deadline - rules.LAST_START:
        why = Failure(code="deadline", message=f"no one moment of its disks was had by {now:%Y-%m-%d %H:%M} UTC")
        return rules.ended(point, why, now, _outcomes(moment, why))
    if moment.next_at is not None:  # it failed, and the next one is not asked for yet
        if now < moment.next_at:
            return Step(replace(point, next_at=moment.next_at))
        return _asked(point, tenant, now)
    looked = _noted(point, seen)
    noted = replace(point, moment=looked.moment)
    if looked.failure is not None:
        return _attempt_failed(noted, tenant, looked.failure, now, for_good=looked.for_good)
    if looked.ready:
        return _taken(noted, tenant, now)
    late = _too_late(point, now)
    if late is not None:
        return _of_disks(noted, tenant, late, now)
    asked_at = moment.asked_at or point.updated_at
    starts = tuple(_inserts(noted, tenant))
    if not starts and now - asked_at > STUCK_AFTER:
        why = Failure(code="instant_stuck", message=f"not READY {STUCK_AFTER} after they were asked for: {looked.left}")
        return _attempt_failed(noted, tenant, why, now, for_good=False)
    if not starts:
        return Step(replace(noted, next_at=now + LOOK))
    asking = replace(noted, moment=replace(looked.moment, asked_at=now))
    return Step(replace(asking, updated_at=now, next_at=now + rules.REQUEST_GRACE), starts=starts)


def unread(point: Point, tenant: Tenant, fault: Failure, now: datetime) -> Step[PointChange] | None:
    """What becomes of a point whose moment is being taken and could not be read; None: it is looked at later."""
    if now > point.deadline - rules.LAST_START:
        said = f"not read back by the deadline; last met: {fault.code}: {fault.message}"
        why = Failure(code="deadline", message=said[:500])
        return rules.ended(point, why, now, _outcomes(moment_of(point), why))
    late = _too_late(point, now)
    return _of_disks(point, tenant, late, now) if late else None


def _too_late(point: Point, now: datetime) -> Failure | None:
    """Why a point is waited for no longer that can be made of its disks too; None where it can't, or there is time."""
    if point.consistency == "group" or now - (point.started_at or now) <= PATIENCE:
        return None
    met = moment_of(point).failure or point.failure
    last = f"; last met: {met.code}: {met.message}" if met else ""
    return Failure(code="moment_not_taken", message=f"no one moment of its disks within {PATIENCE}{last}"[:500])


@dataclass(frozen=True, slots=True)
class _Looked:
    moment: Moment  # with what was read
    failure: Failure | None = None  # why this attempt at it has failed
    for_good: bool = False  # whether another one would, too
    left: str = ""  # what is not READY

    @property
    def ready(self) -> bool:
        return not self.left and self.failure is None


def _noted(point: Point, seen: Seen) -> _Looked:
    """The moment that is being taken, as one read shows it."""
    moment = moment_of(point)
    group = moment.group
    members: dict[str, InstantSnapshot] = {}
    if group is not None:
        link = group_link(point, group)
        found = seen.groups.get(link)
        if found is None:
            failure, for_good = _unseen(moment, group, link, seen)
            return _Looked(moment, failure, for_good, left=group.name)
        if found.created_at < since(point) or found.consistency_group != group.policy:
            return _Looked(moment, _name_taken(link))
        group = replace(group, id=found.id, status=_status(found.status))
        moment = replace(moment, group=group)
        if found.status == "CREATING":
            return _Looked(moment, left=group.name)
        if found.status != "READY":
            return _Looked(moment, Failure(code="instant_failed", message=f"{link} is {found.status}"))
        members = {one.source_disk: one for one in seen.instants.values() if one.group == link}
    looked = [
        _noted_instant(point, disk, ref, members.get(rules.disk_link(point, disk)), seen)
        for disk, ref in zip(point.disks, moment.instants, strict=True)
    ]
    moment = replace(moment, instants=[ref for ref, _, _ in looked])
    worst = min(((failure, again) for _, failure, again in looked if failure), key=lambda f: f[1], default=None)
    if worst is not None:
        return _Looked(moment, worst[0], for_good=not worst[1])
    left = ", ".join(disk.name for disk, ref in zip(point.disks, moment.instants, strict=True) if not _is_ready(ref))
    times = [ref.created_at for ref in moment.instants if ref.created_at]
    if not left and max(times) - min(times) > rules.SPREAD_MAX:
        message = f"the instant snapshots were taken from {min(times)} to {max(times)}: that is not one moment"
        return _Looked(moment, Failure(code="moment_apart", message=message))
    return _Looked(moment, left=left)


def _noted_instant(
    point: Point, disk: PointDisk, ref: InstantRef, member: InstantSnapshot | None, seen: Seen
) -> tuple[InstantRef, Failure | None, bool]:
    """One instant snapshot as it was read; why it is of no use; and whether another one may be."""
    group = moment_of(point).group
    link = rules.instant_link(point, ref)
    found = member if group else seen.instants.get(link)
    if found is None and group:
        message = f"{group.name} holds no instant snapshot of {disk.name}"
        return ref, Failure(code="group_incomplete", message=message), True
    if found is None:
        failure, for_good = _unseen(moment_of(point), ref, link, seen)
        return ref, failure, not for_good
    named = rules.disk_link(point, disk)
    if found.created_at < since(point) or found.source_disk != named:
        return ref, _name_taken(found.link), True
    if found.source_disk_id != disk.id:
        message = f"{disk.name} is another disk now: {found.source_disk_id}, not {disk.id}"
        return ref, Failure(code="disk_replaced", message=message), False
    noted = replace(ref, name=found.name, id=found.id, status=_status(found.status), created_at=found.created_at)
    match found.status:
        case "READY" | "CREATING":
            return noted, None, True
        case "FAILED":
            return noted, Failure(code="instant_failed", message=f"{found.link} is FAILED"), True
        case status:
            return noted, Failure(code="instant_gone", message=f"{found.link} is {status}"), True


def _status(read: str) -> str | None:
    """The status to be noted. That somebody else lets it go is not that we asked it to."""
    return None if read == DELETING else read


def _name_taken(link: str) -> Failure:
    return Failure(code="name_taken", message=f"{link} exists and is not ours")


def _unseen(moment: Moment, ref: GroupRef | InstantRef, link: str, seen: Seen) -> tuple[Failure | None, bool]:
    """Why what is not there never will be, and whether that is so for another one too; (None, False) if it may be."""
    if ref.status == "FAILED" and moment.failure is not None and ref.id is None:  # it was refused
        return moment.failure, moment.failure.code in rules.PERMANENT
    if ref.id is not None:
        return Failure(code="instant_gone", message=f"{link} was there and is gone"), False
    if ref.operation is None or ref.operation not in seen.operations:
        return None, False
    operation = seen.operations[ref.operation]
    if operation is not None and operation.status != "DONE":
        return None, False
    if operation is not None and operation.error_code:
        code = operation.error_code
        for_good = code in rules.PERMANENT or (operation.http_status in (400, 404) and not code.endswith("NOT_READY"))
        return Failure(code=code, message=(operation.error_message or "")[:500]), for_good
    return Failure(code="instant_gone", message=f"{link} was made and is gone"), False


def _is_ready(ref: InstantRef) -> bool:
    return ref.id is not None and ref.status == "READY"


def _taken(point: Point, tenant: Tenant, now: datetime) -> Step[PointChange]:
    """The point whose moment is had: its home snapshots are asked for."""
    outcomes = _outcomes(moment_of(point))
    moment = replace(moment_of(point), state="taken", failure=None)
    taken = replace(point, moment=moment, failure=None, faults=0, updated_at=now, next_at=now + rules.REQUEST_GRACE)
    inserts = tuple(rules.change_for(taken, disk, tenant) for disk in taken.disks)
    return Step(taken, intents=inserts, starts=inserts, outcomes=outcomes)


def _attempt_failed(point: Point, tenant: Tenant, why: Failure, now: datetime, *, for_good: bool) -> Step[PointChange]:
    """The end of one attempt at a moment, and what follows: another one, the other way, or the point's end."""
    outcomes = _outcomes(moment_of(point), why)
    if why.code == "disk_replaced":
        return rules.ended(point, why, now, outcomes)
    if not for_good and moment_of(point).attempts < MOMENT_ATTEMPTS_MAX:
        return Step(_anew(point, tenant, why, now), outcomes=outcomes)
    if point.consistency == "group":
        return rules.ended(point, why, now, outcomes)
    return _of_disks(point, tenant, why, now)


def _anew(point: Point, tenant: Tenant, why: Failure, now: datetime) -> Point:
    """The point whose moment is to be taken again, of all disks; what there was of it is let go at the end."""
    before = moment_of(point)
    attempt = before.attempts + 1
    group, instants = _refs(point, tenant, before.group.policy if before.group else None, attempt)
    moment = replace(
        before,
        state="taking",
        group=group,
        instants=instants,
        superseded=[*before.superseded, *(ref for ref in before.instants if ref.name)],
        superseded_groups=[*before.superseded_groups, *([before.group] if before.group else [])],
        attempts=attempt,
        failure=why,
        next_at=now + rules.backoff(before.attempts - 1, RETRY_MIN),
    )
    return replace(point, moment=moment, failure=why, updated_at=now, next_at=moment.next_at)


def _of_disks(point: Point, tenant: Tenant, why: Failure, now: datetime) -> Step[PointChange]:
    """The point that is made of its disks after all, as without the add-on; its copies are made later."""
    moment = moment_of(point)
    outcomes = _outcomes(moment, why)
    disks = list(point.disks)
    if moment.state == "taken":
        outcomes = tuple(rules.outcome_of(disk, why) for disk in disks if not disk.failure)
        disks = [rules.next_attempt(disk, tenant.id, point) for disk in disks]
    moment = replace(moment, state="releasing", failure=why, next_at=now)
    direct = replace(
        point,
        moment=moment,
        disks=disks,
        failure=None,
        faults=0,
        updated_at=now,
        next_at=now + rules.REQUEST_GRACE,
    )
    direct = copies.moment_failed(direct, why, now)
    inserts = tuple(rules.change_for(direct, disk, tenant) for disk in disks)
    return Step(direct, intents=inserts, starts=inserts, outcomes=outcomes)


def _outcomes(moment: Moment, otherwise: Failure | None = None) -> tuple[SnapshotOutcome, ...]:
    """How what was asked for as the present attempt ended; `otherwise`: why it is given up where it has not ended."""
    if moment.state != "taking" or moment.next_at is not None:
        return ()
    refs: Sequence[GroupRef | InstantRef] = [moment.group] if moment.group else moment.instants
    return tuple(
        SnapshotOutcome(ref.name, "succeeded")
        if ref.status == "READY" or otherwise is None
        else SnapshotOutcome(ref.name, "failed", otherwise.code, otherwise.message)
        for ref in refs
    )


def answered(point: Point, operations: Mapping[str, str], refusals: Mapping[str, Failure]) -> Moment:
    """The moment with what was answered when it was asked for: operations and refusals by what they are about."""
    moment = moment_of(point)
    failure = moment.failure

    def noted(link: str, ref: GroupRef | InstantRef) -> GroupRef | InstantRef:
        nonlocal failure
        if link in operations and ref.operation is None:
            return replace(ref, operation=operations[link])
        # Where an operation is noted, another run asked for the same and was heard.
        if link in refusals and _unasked(ref):
            failure = refusals[link]
            return replace(ref, status="FAILED")
        return ref

    after = moment_of(noting(point, noted))
    return replace(after, failure=failure)


def was_refused(moment: Moment) -> bool:
    """Whether something that holds the moment was refused when it was asked for: there is nothing to wait for."""
    refs: Sequence[GroupRef | InstantRef] = [moment.group] if moment.group else moment.instants
    return any(ref.status == "FAILED" and ref.id is None for ref in refs)


# --- home ---------------------------------------------------------------------------------------------------------


def is_in_doubt(point: Point, disks: Sequence[PointDisk]) -> bool:
    """Whether a point's instant snapshots are worth a look: one of the snapshots that are made of them has failed."""
    return point.moment is not None and point.moment.state == "taken" and any(disk.failure for disk in disks)


def judge_home(
    point: Point, tenant: Tenant, disks: Sequence[PointDisk], seen: Seen | None, now: datetime
) -> Step[PointChange]:
    """Take a point on of whose home snapshots, made of its moment, one has failed.

    `disks` are as `rules.look` left them; `seen` is None where its instant snapshots could not be read.
    """
    told = tuple(
        rules.outcome_of(judged)
        for disk, judged in zip(point.disks, disks, strict=True)
        if judged.failure and not disk.failure
    )
    looked = replace(point, disks=list(disks))
    lost = _lost(point, seen) if seen else None
    in_time = now <= point.deadline - rules.LAST_START
    attempts = max(disk.attempts for disk in disks)
    if not in_time or not (lost or any(_is_hopeless(disk) for disk in disks)):
        return rules.settle(point, tenant, disks, now)
    if point.consistency != "group" and (
        lost is None or attempts >= FROM_MOMENT_MAX or moment_of(point).attempts >= MOMENT_ATTEMPTS_MAX
    ):
        why = lost or next(disk.failure for disk in disks if disk.failure and _is_hopeless(disk))
        step = _of_disks(looked, tenant, why, now)
        return changed(step, outcomes=(*told, *step.outcomes))
    if lost is None:
        return rules.settle(point, tenant, disks, now)
    rest = tuple(rules.outcome_of(disk, lost) for disk in disks if not disk.failure)
    if attempts >= rules.ATTEMPTS_MAX or moment_of(point).attempts >= MOMENT_ATTEMPTS_MAX:
        return rules.ended(looked, lost, now, (*told, *rest))
    following = [rules.next_attempt(disk, tenant.id, point) for disk in disks]
    return Step(_anew(replace(looked, disks=following), tenant, lost, now), outcomes=(*told, *rest))


def _lost(point: Point, seen: Seen) -> Failure | None:
    """Which of the instant snapshots are no longer there; None if all are."""
    gone = [
        ref.name
        for ref in moment_of(point).instants
        if (found := seen.instants.get(rules.instant_link(point, ref))) is None
        or found.id != ref.id
        or found.status != "READY"
    ]
    if not gone:
        return None
    message = f"gone before every snapshot was made of them: {', '.join(gone)}"
    return Failure(code="instant_gone", message=message[:500])


def _is_hopeless(disk: PointDisk) -> bool:
    """Whether the disk is better snapshotted itself, where that may be, than once more from its instant snapshot."""
    failed = disk.failure is not None and disk.failure.code not in ("wrong_location", "outside_residency")
    return failed and (disk.retry_at is None or disk.attempts >= FROM_MOMENT_MAX)


# --- what holds a moment ------------------------------------------------------------------------------------------


def moment_of(point: Point) -> Moment:
    assert point.moment is not None
    return point.moment


def group_link(point: Point, group: GroupRef) -> str:
    return cloud.link_of(point.instance.project, group.scope, "instantSnapshotGroups", group.name)


def held_in(moment: Moment) -> list[InstantRef]:
    """Every instant snapshot that may be there, former attempts' included."""
    return [ref for ref in (*moment.superseded, *moment.instants) if ref.name and ref.status != GONE]


def groups_of(moment: Moment) -> list[GroupRef]:
    """Every group that may be there."""
    groups = [*moment.superseded_groups, *([moment.group] if moment.group else [])]
    return [group for group in groups if group.status != GONE]


def since(point: Point) -> datetime:
    """What was made before is not ours."""
    return (point.started_at or point.requested_at) - rules.CLOCK_SKEW


def noting(point: Point, note: Callable[[str, GroupRef | InstantRef], GroupRef | InstantRef]) -> Point:
    """The point with each instant snapshot and group of its moment as `note` has it, by its link."""

    def instant(ref: InstantRef) -> InstantRef:
        after = note(rules.instant_link(point, ref), ref)
        assert isinstance(after, InstantRef)
        return after

    def group(ref: GroupRef) -> GroupRef:
        after = note(group_link(point, ref), ref)
        assert isinstance(after, GroupRef)
        return after

    moment = moment_of(point)
    moment = replace(
        moment,
        group=group(moment.group) if moment.group else None,
        instants=[instant(ref) for ref in moment.instants],
        superseded=[instant(ref) for ref in moment.superseded],
        superseded_groups=[group(ref) for ref in moment.superseded_groups],
    )
    return replace(point, moment=moment)

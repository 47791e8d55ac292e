"""Functions `plan` and `create`, and the step that `reconcile` takes for every living point.

Everything here may run twice at once and die between any two lines: what is to be done is committed before it is done,
names are derived, and whoever meets a Conflict re-reads or leaves the work to the next tick.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as replaced
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final, Literal, assert_never

from msgspec.structs import replace

from snapkeep import cloud, hints
from snapkeep import documents as d
from snapkeep.breaker import Breaker
from snapkeep.cloud import (
    DeleteInstantSnapshot,
    DeleteInstantSnapshotGroup,
    InsertInstantSnapshot,
    InsertInstantSnapshotGroup,
    InsertSnapshot,
    InstantSnapshot,
    InstantSnapshotGroup,
    Operation,
    Snapshot,
)
from snapkeep.commands import Clash, PointRequest, Wrong, point_on_demand
from snapkeep.copies.rules import refuse_residency
from snapkeep.creation import moment, release, rules
from snapkeep.creation.slots import SlotPlan, only_missed, plan_slots
from snapkeep.messages import BadMessage, CreateBatch, CreateRequested, Message, PointRef, Tick, not_for
from snapkeep.ports import Conflict, Ports, Refused, Transient, Write
from snapkeep.store import (
    QUERIES,
    REQUEST_KEPT,
    Event,
    Fleet,
    Held,
    Outcome,
    Record,
    TenantStore,
    created,
    digest,
    readable,
)

log: Final = logging.getLogger(__name__)

SCHEDULER: Final = "snapkeep"
"""The actor of what Snapkeep does on its own."""

CONFLICTS_MAX: Final = 3
"""Times that one decision is made anew in one run; after that the next tick does it."""


# --- plan ---------------------------------------------------------------------------------------------------------


def plan(message: Message, ports: Ports) -> None:
    """On a tick: commit a point for every instance whose slot has come, then ask `create` to start them."""
    if not isinstance(message, Tick):
        raise not_for("plan", message)
    now = ports.clock.now()
    fleet = Fleet(ports.documents)
    requested: dict[str, list[PointRef]] = defaultdict(list)
    changed: set[str] = set()
    page: list[Held[d.Instance]] = []
    for instance in readable(d.Instance, fleet.due("slots", now)):
        page.append(instance)
        if len(page) == 100:
            _plan_page(fleet, page, now, requested, changed)
            page = []
    _plan_page(fleet, page, now, requested, changed)
    hints.start_points(ports.bus, requested.values())
    hints.nudge(ports.bus, changed, "audit", "health")


def _plan_page(
    fleet: Fleet,
    page: Sequence[Held[d.Instance]],
    now: datetime,
    requested: dict[str, list[PointRef]],
    changed: set[str],
) -> None:
    tenants = fleet.tenants_by_id([instance.tenant for instance in page])
    for instance in page:
        if instance.tenant not in tenants:
            continue
        tenant = tenants[instance.tenant].value
        points = settle_slots(fleet.tenant(tenant.id), tenant, instance, now)
        if points:
            changed.add(tenant.id)
        for point in points:
            if point.state == "requested":
                requested[point.instance.project].append(PointRef(tenant.id, point.id))


def settle_slots(
    store: TenantStore, tenant: d.Tenant, instance: Held[d.Instance], now: datetime, *, missed_only: bool = False
) -> list[d.Point]:
    """Commit what the schedule asks of one instance now; returns the points that this made.

    With `missed_only` (health looks after a planner that is dead) slots that can still be taken are left alone.
    """
    current: Held[d.Instance] | None = instance
    for _ in range(CONFLICTS_MAX):
        if current is None:
            return []
        decided = plan_slots(current.value, tenant, now)
        if missed_only:
            if not decided.missed:
                return []
            decided = only_missed(decided)
        points = _points_of(decided, tenant, current.value, now)
        existing = store.get_all(d.Point, "points", [p.id for p in points]) if current is not instance else []
        taken = {point.value.id for point in existing}
        points = [point for point in points if point.id not in taken]
        try:
            _commit_slots(store, tenant, current, decided, points, now)
        except Conflict:
            current = store.get(d.Instance, "instances", instance.value.id)
            continue
        return points
    return []


def _points_of(decided: SlotPlan, tenant: d.Tenant, instance: d.Instance, now: datetime) -> list[d.Point]:
    points = [rules.missed_point(tenant, instance, slot, now) for slot in decided.missed]
    if decided.take:
        points.append(rules.scheduled_point(tenant, instance, decided.take, now))
    return points


def _commit_slots(
    store: TenantStore,
    tenant: d.Tenant,
    instance: Held[d.Instance],
    decided: SlotPlan,
    points: Sequence[d.Point],
    now: datetime,
) -> None:
    after = replace(instance.value, planned_day=decided.planned_day, next_slot_at=decided.next_slot_at)
    for point in points:
        after = rules.after_transition(after, tenant, None, point)
    if not points:
        if after != instance.value:
            store.commit(None, instance.replaced(after))
        return
    newest = points[-1]
    missed = [point for point in points if point.state == "missed"]
    record = Record(
        at=now,
        actor=SCHEDULER,
        action="slots.decided",
        subject=f"instances/{instance.value.id}",
        outcome="requested" if newest.state == "requested" else "observed",
        detail={"points": [{"id": p.id, "state": p.state, "day": p.slot and p.slot.day} for p in points]},
        event=_missed_event(instance.value, missed) if missed else None,
    )
    writes = [created(store.path("points", point.id), point) for point in points]
    store.commit(record, instance.replaced(after), *writes)


def _missed_event(instance: d.Instance, missed: Sequence[d.Point]) -> Event:
    days = [point.slot.day for point in missed if point.slot]
    return Event(
        type="slot.missed",
        key=f"{instance.id}|{days[-1]}",
        data={"instance": instance.name, "zone": instance.zone, "days": days, "points": [p.id for p in missed]},
    )


# --- create -------------------------------------------------------------------------------------------------------


def create(message: Message, ports: Ports) -> None:
    """Start requested points. Raises BadMessage for a request that names what does not exist."""
    now = ports.clock.now()
    fleet = Fleet(ports.documents)
    match message:
        case CreateBatch():
            points = _requested_points(fleet, message)
        case CreateRequested():
            point = _request_on_demand(fleet, message, now)
            # For health a point runs from its request to its end.
            hints.nudge(ports.bus, [point.tenant] if point else [], "health")
            # One that `reconcile` has found and begun since is its own: this function reads no snapshots.
            points = [point] if point and point.value.state == "requested" else []
        case _:
            raise not_for("create", message)
    advance(points, ports)


def _requested_points(fleet: Fleet, message: CreateBatch) -> list[Held[d.Point]]:
    by_tenant: dict[str, list[str]] = defaultdict(list)
    for ref in message.points:
        by_tenant[ref.tenant].append(ref.point)
    return [
        point
        for tenant, ids in by_tenant.items()
        for point in fleet.tenant(tenant).get_all(d.Point, "points", ids)
        if point.value.state == "requested"
    ]


def _request_on_demand(fleet: Fleet, message: CreateRequested, now: datetime) -> Held[d.Point] | None:
    """Commit the point that a message asks for, once for one id; None if it was asked for before."""
    store = fleet.tenant(message.tenant)
    # A damaged document rises: once it is mended, the message is as good as any.
    tenant = store.get(d.Tenant)
    if tenant is None:
        raise BadMessage(f"tenant: {message.tenant!r} is not a tenant")
    request_path = ("requests", digest(message.id))
    asker = f"claimed:{message.claimed_actor}"
    wanted = PointRequest(message.id, message.id, asker, message.data.instance, message.data.zone, message.reason)
    for _ in range(CONFLICTS_MAX):
        if store.get(d.Request, *request_path):
            return None
        try:
            point, record, writes = point_on_demand(store, tenant.value, wanted, now)
        except Wrong as wrong:
            raise BadMessage(f"data.{wrong}") from None
        except Clash as clash:
            raise BadMessage(str(clash)) from None
        request = d.Request(updated_at=now, subject=f"points/{point.id}", expire_at=now + REQUEST_KEPT)
        try:
            store.commit(record, *writes, created(store.path(*request_path), request))
        except Conflict:
            continue
        return store.get(d.Point, "points", point.id)
    raise Transient(f"request {message.id!r}: others kept changing the same instance")


# --- the step of every living point -------------------------------------------------------------------------------


Step = rules.Step[rules.PointChange]


@dataclass(frozen=True, slots=True)
class _Project:
    """Points that are read together: their instances lie in one project, their snapshots in one other or the same."""

    instances: str
    vault: str


def advance(points: Iterable[Held[d.Point]], ports: Ports) -> None:
    """Bring living points one step nearer their end, from what is read back, and let go of moments that nobody needs.

    Nothing here waits for the cloud.

    A page of them at a time, so that a run needs no more memory for a larger fleet. Points that are looked at together
    are due at one instant, and so come in the order of their tenants: few projects are on two pages.
    """
    compute = Breaker.of(ports.compute)
    changed: set[str] = set()
    ended: set[str] = set()
    without_copy: set[str] = set()
    left = iter(points)
    while page := list(islice(left, QUERIES["points"].limit)):
        for point, step in _advance_page(page, replaced(ports, compute=compute), compute):
            if step.point.state != point.value.state:
                changed.add(point.tenant)
            if _has_ended(point.value, step.point):
                ended.add(point.tenant)
                if step.point.state == "verified" and any(c.state == "failed" for c in step.point.copies.values()):
                    without_copy.add(point.tenant)
        if compute.nobody_answers:
            log.warning("Compute Engine does not answer: what is left is due still, and the first of the next run")
            break
    hints.nudge(ports.bus, changed, "audit")
    hints.nudge(ports.bus, ended, "health")
    hints.nudge(ports.bus, without_copy, "entitlements")


def _has_ended(before: d.Point, after: d.Point) -> bool:
    """Whether the point's own life ended with this step; its moment and its copies may have some left."""
    return before.state in rules.LIVING and after.state not in rules.LIVING


def _advance_page(
    points: Sequence[Held[d.Point]], ports: Ports, compute: Breaker
) -> Iterator[tuple[Held[d.Point], Step]]:
    """Project by project, until nobody answers; gives what was committed."""
    fleet = Fleet(ports.documents)
    tenants = fleet.tenants_by_id([point.tenant for point in points])
    groups: dict[_Project, list[Held[d.Point]]] = defaultdict(list)
    for point in points:
        if point.tenant not in tenants:
            log.error("%s: its tenant is gone or not readable", point.path)
            continue
        groups[_Project(point.value.instance.project, point.value.vault_project)].append(point)
    run = _Run(ports, fleet, tenants, fleet.controls())
    for project, group in groups.items():
        if compute.nobody_answers:
            return
        yield from _advance_project(run, project, group)


@dataclass(frozen=True, slots=True)
class _Run:
    ports: Ports
    fleet: Fleet
    tenants: dict[str, Held[d.Tenant]]
    controls: d.Controls | None

    def paused(self, point: Held[d.Point]) -> bool:
        return self.controls is not None and self._covers(self.controls.paused.creation, point)

    def deletion_paused(self, point: Held[d.Point]) -> bool:
        return self.controls is not None and self._covers(self.controls.paused.deletion, point)

    def deletion_paused_by_now(self, point: Held[d.Point]) -> bool:
        """The same, read anew: what is deleted does not come back."""
        controls = self.fleet.controls()
        return controls is not None and self._covers(controls.paused.deletion, point)

    def _covers(self, paused: d.Paused, point: Held[d.Point]) -> bool:
        return paused.covers(project=point.value.instance.project, tenant=point.tenant)


def _advance_project(run: _Run, project: _Project, group: Sequence[Held[d.Point]]) -> list[tuple[Held[d.Point], Step]]:
    """One project's points: read, decide, commit, start. Returns what was committed."""
    now = run.ports.clock.now()
    steps: list[tuple[Held[d.Point], Step]] = []
    fresh: list[Held[d.Point]] = []
    taking: list[Held[d.Point]] = []
    begun: list[Held[d.Point]] = []
    over: list[Held[d.Point]] = []
    for point in group:
        late = rules.late_to_start(point.value, now) if point.value.state == "requested" else None
        if late:
            steps.append((point, late))
        elif point.value.state == "requested" and run.paused(point):
            _postpone(run, point, d.Failure(code="paused", message="creation is paused"), now)
        elif point.value.state == "requested":
            fresh.append(point)
        elif moment.is_taking(point.value):
            taking.append(point)
        elif point.value.state == "creating":
            begun.append(point)
        elif release.is_due(point.value, now) and run.deletion_paused(point):
            paused = d.Failure(code="paused", message="deletion is paused")
            _commit_later(run, point, release.hindered(point.value, paused, now, pause=release.DELETION_PAUSED))
        elif release.is_due(point.value, now):
            over.append(point)
    reads = ((fresh, _read_instances), (taking, _read_moments), (begun, _read_snapshots), (over, _read_releases))
    for batch, read in reads:
        try:
            steps += read(run, project, batch, now) if batch else []
        except (Transient, Refused) as fault:
            log.warning("%s (vault %s) cannot be read now: %r", project.instances, project.vault, fault)
            for point in batch:
                _read_failed(run, point, fault, now, steps)
    committed = _commit_steps(run, steps, now)
    _start(run, [(point, step) for point, step in committed if step.starts])
    return committed


def _read_failed(
    run: _Run,
    point: Held[d.Point],
    fault: Transient | Refused,
    now: datetime,
    steps: list[tuple[Held[d.Point], Step]],
) -> None:
    """Nothing is known of the point now: look again later, unless its time is over (then it ends unverified)."""
    failure = _failure(fault)
    step: Step | None = None
    if point.value.state not in rules.LIVING:
        _commit_later(run, point, release.hindered(point.value, failure, now))
        return
    if moment.is_taking(point.value):
        step = moment.unread(point.value, run.tenants[point.tenant].value, failure, now)
    elif point.value.state == "creating" and now >= point.value.deadline:
        step = rules.unread(point.value, failure, now)
    if step and not (step.starts and run.paused(point)):
        steps.append((point, step))
        return
    _postpone(run, point, failure, now)


def _failure(fault: Transient | Refused) -> d.Failure:
    return d.Failure(code=fault.reason or str(fault.code), message=str(fault)[:500])


def _postpone(run: _Run, point: Held[d.Point], failure: d.Failure, now: datetime) -> None:
    _commit_later(run, point, rules.postponed(point.value, failure, now))


def _commit_later(run: _Run, point: Held[d.Point], later: d.Point) -> None:
    try:
        run.fleet.tenant(point.tenant).commit(None, point.replaced(later))
    except Conflict:
        log.info("%s: someone else took it on", point.path)


def _read_instances(
    run: _Run, project: _Project, points: Sequence[Held[d.Point]], now: datetime
) -> list[tuple[Held[d.Point], Step]]:
    compute = run.ports.compute
    found: dict[str, cloud.Instance] = {}
    for where in cloud.named(point.value.instance.name for point in points):
        found |= {instance.link: instance for instance in compute.find(cloud.Instance, project.instances, where)}
    mine: dict[str, cloud.Instance | None] = {p.path: found.get(_instance_link(p.value.instance)) for p in points}
    sources = {a.source for instance in mine.values() if instance for a in instance.disks if a.persistent}
    disks: dict[str, cloud.Disk] = {}
    for where in cloud.named(source.rsplit("/", 1)[1] for source in sources):
        disks |= {disk.link: disk for disk in compute.find(cloud.Disk, project.instances, where)}
    policies: dict[str, cloud.ResourcePolicy] = {}
    if any(run.tenants[p.tenant].value.consistency == "group" for p in points):
        policies = {policy.link: policy for policy in compute.find(cloud.ResourcePolicy, project.instances)}
    # Read after the disks: a restore says that it has them in hand before it touches the first, and for minutes longer.
    here = run.fleet.instances((point.tenant, point.value.instance.id) for point in points)
    steps: list[tuple[Held[d.Point], Step]] = []
    for point in points:
        instance = here.get((point.tenant, point.value.instance.id))
        if instance is None or instance.restoring is None:
            tenant = run.tenants[point.tenant].value
            steps.append((point, moment.begin(point.value, tenant, mine[point.path], disks, policies, now)))
            continue
        restoring = d.Failure(code="restoring", message=f"restore {instance.restoring} has its disks in hand")
        if point.value.trigger == "pre_restore":  # what it was to hold, the restore keeps as detached disks
            steps.append((point, rules.ended(point.value, restoring, now)))
        else:
            _postpone(run, point, restoring, now)
    return steps


def _instance_link(ref: d.InstanceRef) -> str:
    return cloud.link_of(ref.project, f"zones/{ref.zone}", "instances", ref.name)


def _read_snapshots(
    run: _Run, project: _Project, points: Sequence[Held[d.Point]], now: datetime
) -> list[tuple[Held[d.Point], Step]]:
    compute = run.ports.compute
    wanted = {disk.snapshot.name: disk for point in points for disk in point.value.disks if not disk.failure}
    found: dict[str, Snapshot] = {}
    for where in cloud.named(wanted):
        found |= {snapshot.name: snapshot for snapshot in compute.find(Snapshot, project.vault, where)}
    operations: dict[str, Operation | None] = {}
    for name, disk in wanted.items():
        if name in found or disk.operation is None:
            continue
        operation = operations[disk.operation] = compute.get(Operation, disk.operation)
        if operation is None or (operation.status == "DONE" and not operation.error_code):
            # The list may have been read just before the snapshot appeared.
            snapshot = compute.get(Snapshot, cloud.snapshot_link(project.vault, name))
            if snapshot:
                found[name] = snapshot
    looked = {point.path: rules.look(point.value, found, operations, now) for point in points}
    doubtful = [point for point in points if moment.is_in_doubt(point.value, looked[point.path])]
    seen = _moments_if_readable(run, project, doubtful) if doubtful else None
    steps = []
    for point in points:
        tenant, disks = run.tenants[point.tenant].value, looked[point.path]
        if point in doubtful:
            steps.append((point, moment.judge_home(point.value, tenant, disks, seen, now)))
        else:
            steps.append((point, rules.settle(point.value, tenant, disks, now)))
    return _unless_paused(run, steps, now)


def _unless_paused(
    run: _Run, steps: Iterable[tuple[Held[d.Point], Step]], now: datetime
) -> list[tuple[Held[d.Point], Step]]:
    """The steps that may be taken while creation is paused where it is; the others are postponed."""
    may = []
    for point, step in steps:
        if step.starts and run.paused(point):
            _postpone(run, point, d.Failure(code="paused", message="creation is paused"), now)
        else:
            may.append((point, step))
    return may


def _read_moments(
    run: _Run, project: _Project, points: Sequence[Held[d.Point]], now: datetime
) -> list[tuple[Held[d.Point], Step]]:
    """What became of the moments that are being taken."""
    seen = _moments(run, project, points)
    steps = [(p, moment.judge_taking(p.value, run.tenants[p.tenant].value, seen, now)) for p in points]
    return _unless_paused(run, steps, now)


def _read_releases(
    run: _Run, project: _Project, points: Sequence[Held[d.Point]], now: datetime
) -> list[tuple[Held[d.Point], Step]]:
    """What is still there of the moments that nobody needs."""
    seen = _moments(run, project, points)
    return [(p, release.step(p.value, p.tenant, seen, now)) for p in points]


def _moments_if_readable(run: _Run, project: _Project, points: Sequence[Held[d.Point]]) -> moment.Seen | None:
    try:
        return _moments(run, project, points)
    except (Transient, Refused) as fault:
        log.warning("%s: instant snapshots cannot be read now: %r", project.instances, fault)
        return None


def _moments(run: _Run, project: _Project, points: Sequence[Held[d.Point]]) -> moment.Seen:
    """What Compute Engine holds of these points' moments, groups before their members."""
    compute = run.ports.compute
    groups: dict[str, InstantSnapshotGroup] = {}
    operations: dict[str, Operation | None] = {}
    refs: dict[str, d.InstantRef] = {}
    for point in points:
        assert point.value.moment is not None
        refs |= {rules.instant_link(point.value, ref): ref for ref in moment.held_in(point.value.moment)}
        for group in moment.groups_of(point.value.moment):
            link = moment.group_link(point.value, group)
            found = compute.get(InstantSnapshotGroup, link)
            if found is None and group.operation is not None and group.id is None:
                operations[group.operation] = compute.get(Operation, group.operation)
                found = compute.get(InstantSnapshotGroup, link)
            if found is not None:
                groups[link] = found
    # The members of a group that is being taken have names of Compute Engine's own.
    unnamed = any(moment.is_taking(point.value) and point.value.moment.group for point in points if point.value.moment)
    wheres = [""] if unnamed else cloud.named(ref.name for ref in refs.values())
    instants = {
        instant.link: instant for where in wheres for instant in compute.find(InstantSnapshot, project.instances, where)
    }
    for link, ref in refs.items():
        if link in instants or ref.operation is None or ref.id is not None:
            continue
        operations[ref.operation] = compute.get(Operation, ref.operation)
        # The list may have been read just before it appeared.
        late = compute.get(InstantSnapshot, link)
        if late is not None:
            instants[link] = late
    return moment.Seen(instants, groups, operations)


def _commit_steps(
    run: _Run, steps: Sequence[tuple[Held[d.Point], Step]], now: datetime
) -> list[tuple[Held[d.Point], Step]]:
    """Commit each step with its record; those that someone else has taken meanwhile are left out."""
    ending = [point for point, step in steps if _has_ended(point.value, step.point)]
    instances = {
        (tenant, instance.value.id): instance
        for tenant in {point.tenant for point in ending}
        for instance in run.fleet.tenant(tenant).get_all(
            d.Instance, "instances", sorted({p.value.instance.id for p in ending if p.tenant == tenant})
        )
    }
    committed = []
    for point, step in steps:
        store = run.fleet.tenant(point.tenant)
        writes: list[Write] = [point.replaced(step.point)]
        instance = instances.get((point.tenant, point.value.instance.id))
        if _has_ended(point.value, step.point) and instance is not None:
            after = rules.after_transition(instance.value, run.tenants[point.tenant].value, point.value, step.point)
            writes.append(instance.replaced(after))
        try:
            store.commit(_record(point, step, now), *writes)
        except Conflict:
            # Or two points of one instance ended in this run: the second meets the first one's write of the
            # instance. Its next_at has passed, so that the next tick ends it.
            log.info("%s: someone else took it on", point.path)
            continue
        committed.append((point, step))
    return committed


def _record(point: Held[d.Point], step: Step, now: datetime) -> Record | None:
    """The audit record of a step; None where no state changed, nothing was asked for and nothing ended."""
    after = step.point
    moved = after.state != point.value.state
    if not moved and not step.intents and not step.outcomes:
        return None
    detail: dict[str, Any] = {"instance": after.instance.name, "trigger": after.trigger}
    if step.intents:
        detail["changes"] = [cloud.audit_body(change) for change in step.intents]
    if step.outcomes:
        detail["outcomes"] = outcomes_of(step.outcomes)
    failure = after.failure if after.state != "verified" else after.moment and after.moment.failure
    if failure:
        detail["failure"] = {"code": failure.code, "message": failure.message}
    if moved and after.copies:
        detail["copies"] = {region: copy.state for region, copy in after.copies.items()}
    if moved and after.state == "verified":
        detail["snapshots"] = [
            {"name": disk.snapshot.name, "id": disk.snapshot.id, "disk": disk.id, "location": disk.snapshot.location}
            for disk in after.disks
        ]
    outcome, event = _ended_as(after) if moved else ("", "")
    if not outcome:
        outcome = "requested" if step.intents else _outcome_of(step)
    data: dict[str, Any] = {
        "point": after.id,
        "instance": after.instance.name,
        "zone": after.instance.zone,
        **_day(after),
    }
    if after.failure:
        data["failure"] = {"code": after.failure.code, "message": after.failure.message}
    return Record(
        at=now,
        actor=SCHEDULER,
        action=_action(point.value, step),
        subject=f"points/{after.id}",
        outcome=outcome,
        detail=detail,
        event=Event(type=event, key=f"{after.id}|{after.state}", data=data) if event and moved else None,
    )


def _ended_as(point: d.Point) -> tuple[Outcome | Literal[""], str]:
    """The outcome of a point that has just come into its state, and its event; empty where it goes on."""
    match point.state:
        case "verified":
            return "succeeded", "point.verified"
        case "failed":
            return "failed", "point.failed"
        case "missed":
            return "failed", "slot.missed"
        case _:
            return "", ""


def _outcome_of(step: Step) -> Outcome:
    """The outcome of a step that asks for nothing and ends no point."""
    if any(outcome.code == OUTSIDE_RESIDENCY for outcome in step.outcomes):
        return "refused"
    return "failed" if any(outcome.outcome == "failed" for outcome in step.outcomes) else "succeeded"


def _action(before: d.Point, step: Step) -> str:
    after = step.point
    if after.state != before.state:
        return f"point.{after.state}"
    was, now = before.moment, after.moment
    if now is not None and (was is None or now.state != was.state or now.state == "taking"):
        return f"moment.{now.state}"
    if now is not None and after.state not in rules.LIVING:
        return f"moment.{now.state}"
    return "point.retried" if step.intents else "snapshot.ended"


def _day(point: d.Point) -> dict[str, str]:
    return {"day": point.slot.day} if point.slot else {}


def outcomes_of(outcomes: Iterable[rules.SnapshotOutcome]) -> list[dict[str, Any]]:
    return [
        {"name": o.name, "outcome": o.outcome}
        | ({"attempt": o.attempt} if o.attempt is not None else {})
        | ({"code": o.code, "message": o.message} if o.code else {})
        for o in outcomes
    ]


# --- starting -----------------------------------------------------------------------------------------------------


Answer = str | Refused | Transient
"""What a start was answered: its operation's link, or what stood in the way."""

OUTSIDE_RESIDENCY: Final = "outside_residency"


def _start(run: _Run, steps: Sequence[tuple[Held[d.Point], Step]]) -> None:
    """Ask for the changes of committed steps and note what was answered, point by point."""
    for seen, step in steps:
        answers = {change.link: _ask(run, seen, change) for change in step.starts}
        if step.point.state in rules.LIVING:
            _note_answers(run, seen, answers)
        else:
            _note_deletions(run, seen, answers)


def _ask(run: _Run, point: Held[d.Point], change: rules.PointChange) -> Answer:
    """Ask for one change of a point, of which nothing is stored outside its home region. Empty: it is not asked for."""
    compute = run.ports.compute
    try:
        match change:
            case InsertSnapshot() | InsertInstantSnapshot() | InsertInstantSnapshotGroup():
                outside = refuse_residency(change, {point.value.instance.region})
                if outside:
                    return Refused(outside.message, code=403, reason=outside.code)
            case DeleteInstantSnapshot() | DeleteInstantSnapshotGroup():
                if run.deletion_paused_by_now(point) or not _is_there(run, change):
                    return ""  # what is still there at a later look is asked for again
            case _:
                assert_never(change)
        return compute.start(change, cloud.request_id(change))
    except (Refused, Transient) as answer:
        return answer


def _is_there(run: _Run, change: DeleteInstantSnapshot | DeleteInstantSnapshotGroup) -> bool:
    """Whether what is to be deleted by its name is the one that was meant, right before. Raises Transient, Refused."""
    kind: type[InstantSnapshot | InstantSnapshotGroup]
    kind = InstantSnapshot if isinstance(change, DeleteInstantSnapshot) else InstantSnapshotGroup
    found = run.ports.compute.get(kind, change.link)
    return found is not None and found.id == change.id and found.status != "DELETING"


def _note_answers(run: _Run, seen: Held[d.Point], answers: Mapping[str, Answer]) -> None:
    """Commit what the starts of one point were answered. After a Conflict, read-back finds it out all the same."""
    now = run.ports.clock.now()
    store = run.fleet.tenant(seen.tenant)
    current = store.get(d.Point, "points", seen.value.id)
    if current is None or current.value.state != "creating":
        return
    before = current.value
    fault = next((answer for answer in answers.values() if isinstance(answer, Transient)), None)
    outcomes: list[rules.SnapshotOutcome] = []
    disks: list[d.PointDisk] = []
    for disk in before.disks:
        answer = answers.get(cloud.snapshot_link(disk.snapshot.project, disk.snapshot.name))
        noted = disk
        match answer:
            case str() if disk.operation is None:
                noted = replace(disk, operation=answer)
            case Refused(code=409):
                pass  # something has that name: read-back shows whether it is ours
            case Refused() if disk.failure is None and disk.operation is None:
                # Where an operation is noted, another run asked for the same and was heard.
                noted = rules.refused(disk, answer.reason or str(answer.code), answer.message, now)
                outcomes.append(
                    rules.SnapshotOutcome(disk.snapshot.name, "failed", answer.reason, answer.message[:500])
                )
            case _:
                pass
        disks.append(noted)
    point = replace(before, disks=disks, updated_at=now)
    if moment.is_taking(before):
        # 409: something has that name; read-back shows whether it is ours.
        refusals = {link: _failure(a) for link, a in answers.items() if isinstance(a, Refused) and a.code != 409}
        operations = {link: answer for link, answer in answers.items() if isinstance(answer, str)}
        point = replace(point, moment=moment.answered(before, operations, refusals))
    if fault:
        failure = _failure(fault)
        point = rules.postponed(point, failure, now, pause=_pause(fault, point))
    elif point.moment is not None and point.moment.state == "taking":
        refused = moment.was_refused(point.moment)
        point = replace(point, faults=0, next_at=now if refused else now + moment.LOOK)
    else:
        retries = [disk.retry_at for disk in disks if disk.failure and disk.retry_at]
        dead = any(disk.failure and disk.retry_at is None for disk in disks)
        point = replace(point, faults=0, next_at=now if dead else min([rules.after_start(point, now), *retries]))
    try:
        store.commit(_record(current, rules.Step(point, outcomes=tuple(outcomes)), now), current.replaced(point))
    except Conflict:
        log.info("%s: someone else took it on", current.path)


def _pause(fault: Transient, point: d.Point) -> timedelta | None:
    """How long to wait for what is limited by the disk; None where the point's own pace will do."""
    if fault.reason != "RESOURCE_OPERATION_RATE_EXCEEDED":
        return None
    return moment.RETRY_MIN if moment.is_taking(point) else rules.DISK_RATE_PAUSE


def _note_deletions(run: _Run, seen: Held[d.Point], answers: Mapping[str, Answer]) -> None:
    """Write down what stood in the way of a moment's release; the look that asks again tells it."""
    faults = [answer for answer in answers.values() if not isinstance(answer, str)]
    faults = [fault for fault in faults if isinstance(fault, Transient) or fault.code != 404]
    if not faults:
        return
    current = run.fleet.tenant(seen.tenant).get(d.Point, "points", seen.value.id)
    if current is None or current.value.moment is None or current.value.moment.state != "releasing":
        return
    hindered = replace(current.value.moment, failure=_failure(faults[0]))
    _commit_later(run, current, replace(current.value, moment=hindered))

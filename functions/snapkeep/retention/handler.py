"""Functions `retention` and `expire`: the points that nobody wants any more go, and it is written down why.

`retention` finds the instances whose points are to be weighed, or whose deletions are to be read back, and hands them
to `expire` tenant by tenant. Everything here may run twice at once and die between any two lines: what is to be
deleted is committed before it is deleted, in one commit with all that could have kept it, and gone is what was read to
be gone.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as replaced
from datetime import date, datetime, timedelta
from typing import Any, Final, assert_never

from msgspec.structs import replace

from snapkeep import cloud, hints
from snapkeep import documents as d
from snapkeep.breaker import Breaker
from snapkeep.cloud import DeleteSnapshot, Snapshot
from snapkeep.creation.rules import SnapshotOutcome, to_be_weighed
from snapkeep.creation.slots import slot_of
from snapkeep.messages import INSTANCES_PER_MESSAGE_MAX, BadMessage, ExpireBatch, Message, Nudge, Tick, not_for
from snapkeep.ports import Conflict, Ports, Refused, Transient, Write
from snapkeep.retention import deletion, orphans, rules
from snapkeep.retention.deletion import Step
from snapkeep.store import SYSTEM, Event, Fleet, Held, Record, TenantStore, created

log: Final = logging.getLogger(__name__)

ACTOR: Final = "snapkeep"

DELETES_PER_RUN_MAX: Final = 100
"""Snapshots whose deletion one run begins, for one tenant; a point with more of them goes all the same, alone."""

POINTS_AT_ONCE: Final = 20
"""Points of one instance that one commit changes, and whose deletion is under way at once: with their definitions and
disks they stay below the 10 MiB of a commit."""

NEXT_TICK: Final = timedelta(minutes=5)
"""When work that a run left is due again: at the next tick."""

POSTPONED: Final = timedelta(minutes=20)
"""The same where a project gave no answer: at the next tick but one, so that an ill project keeps nobody waiting."""

PAUSED: Final = timedelta(hours=1)
"""The same where deletion is paused; resuming it sends a nudge."""

AHEAD: Final = timedelta(days=7)
"""How far ahead `health` shows what is going to go."""


# --- retention ----------------------------------------------------------------------------------------------------


def retention(message: Message, ports: Ports) -> None:
    """On a tick: hand on the instances that are due, and look for orphans in the vaults that are.

    On a nudge (a policy or a hold has changed): every instance of these tenants is due now.
    """
    match message:
        case Tick():
            due = Fleet(ports.documents).due("retention_due", ports.clock.now())
            _hand_on((doc.path.split("/") for doc in due), ports)
            orphans.look(ports)
        case Nudge():
            for tenant in message.tenants:
                if tenant != SYSTEM:
                    _make_due(Fleet(ports.documents).tenant(tenant), ports)
        case _:
            raise not_for("retention", message)


def _hand_on(due: Iterable[Sequence[str]], ports: Ports) -> None:
    """One message for each tenant, with the instances that have waited longest; the others are due still."""
    instances: dict[str, list[str]] = defaultdict(list)
    for _, tenant, _, instance in due:
        instances[tenant].append(instance)
    for tenant, ids in instances.items():
        hints.send(ports.bus, "expire", ExpireBatch(tenant=tenant, instances=ids[:INSTANCES_PER_MESSAGE_MAX]))


def _make_due(store: TenantStore, ports: Ports) -> None:
    now = ports.clock.now()
    paths = []
    for instance in store.walk(d.Instance, "tenant_instances"):
        if instance.value.retention_at is None:
            continue  # nothing of it is stored
        try:
            store.commit(None, instance.replaced(to_be_weighed(instance.value, now)))
        except Conflict:
            log.info("%s: someone else changed it; it is weighed when that is due", instance.path)
        paths.append(instance.path.split("/"))
    _hand_on(paths, ports)


# --- expire -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Run:
    """What one run shares over all instances of its tenant."""

    ports: Ports
    compute: Breaker
    fleet: Fleet
    store: TenantStore
    tenant: Held[d.Tenant]
    now: datetime
    controls: d.Controls | None
    budget: int = DELETES_PER_RUN_MAX  # snapshots that may still be begun
    silent: set[str] = field(default_factory=set)  # vault projects that gave no answer
    changed: bool = False  # something that people are told of

    def paused(self, *projects: str) -> bool:
        controls = self.controls
        return controls is not None and any(
            controls.paused.deletion.covers(project=project, tenant=self.tenant.value.id) for project in projects
        )

    def paused_now(self, *projects: str) -> bool:
        """The same, from what the controls say at this moment."""
        self.controls = self.fleet.controls()
        return self.paused(*projects)

    def find(self, vault: str, names: Iterable[str]) -> dict[str, Snapshot] | None:
        """The snapshots of a vault project that carry these names, by name; None if it gave no answer."""
        if vault in self.silent:
            return None
        found: dict[str, Snapshot] = {}
        try:
            for where in cloud.named(names):
                found |= {snapshot.name: snapshot for snapshot in self.compute.find(Snapshot, vault, where)}
        except (Transient, Refused) as fault:
            log.warning("%s cannot be read now: %r", vault, fault)
            self.silent.add(vault)
            return None
        return found


def expire(message: Message, ports: Ports) -> None:
    """Carry the deletions of these instances on, then weigh the points of those that are due."""
    if not isinstance(message, ExpireBatch):
        raise not_for("expire", message)
    fleet = Fleet(ports.documents)
    store = fleet.tenant(message.tenant)
    tenant = store.get(d.Tenant)
    if tenant is None:
        raise BadMessage(f"tenant: {message.tenant!r} is not a tenant")
    now = ports.clock.now()
    compute = Breaker(ports.compute)
    run = _Run(replaced(ports, compute=compute), compute, fleet, store, tenant, now, fleet.controls())
    instances = store.get_all(d.Instance, "instances", list(dict.fromkeys(message.instances)))
    due = [instance for instance in instances if instance.value.retention_at and instance.value.retention_at <= now]
    begun = _begun(run, due)
    for instance in due:
        current: Held[d.Instance] | None = instance
        if instance.value.retention.deleting:
            current = _carry_on(run, instance, begun[instance.value.id])
        if current is not None:
            _weigh(run, current)
    if run.changed:
        hints.nudge(ports.bus, [message.tenant], "audit", "health")


# --- deletions that have begun --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Begun:
    """An instance's points whose deletion has begun, and what was read of their snapshots."""

    points: Sequence[Held[d.Point]]
    found: Mapping[str, Mapping[str, Snapshot] | None]  # by vault project; None: it gave no answer


def _begun(run: _Run, instances: Sequence[Held[d.Instance]]) -> dict[str, _Begun]:
    """Read back what was begun: one list call of a vault for all of these instances, where their names fit one."""
    points = {
        instance.value.id: run.store.get_all(d.Point, "points", instance.value.retention.deleting)
        for instance in instances
        if instance.value.retention.deleting
    }
    names: dict[str, set[str]] = defaultdict(set)
    for point in (point for some in points.values() for point in some):
        names[point.value.vault_project] |= {ref.name for ref in deletion.left(point.value)}
    found = {vault: run.find(vault, wanted) for vault, wanted in names.items()}
    return {id: _Begun(some, found) for id, some in points.items()}


def _carry_on(run: _Run, instance: Held[d.Instance], begun: _Begun) -> Held[d.Instance] | None:
    """Commit what has become of an instance's deletions, and ask again for what is still there.

    Returns the instance as it is stored then; None where another run took it on.
    """
    store, now = run.store, run.now
    paused = run.paused(instance.value.project)
    steps: list[tuple[Held[d.Point], Step]] = []
    living: list[d.Point] = []
    waiting: list[datetime] = []
    for point in begun.points:
        expiry = point.value.expiry
        if point.value.state != "expiring" or expiry is None or expiry.begun_at is None:
            continue  # another run has ended it
        found = begun.found[point.value.vault_project]
        may_ask = not paused and not run.paused(point.value.vault_project)
        step = None
        if found is not None:
            step = deletion.read_back(point.value, store.tenant, found, now, may_ask=may_ask)
        if step is not None:
            steps.append((point, step))
        if step is None or step.point.state != "deleted":
            after = step.point if step else point.value
            living.append(after)
            waiting.append(_next_look(after, now, answered=found is not None, paused=not may_ask))
    deleted = [step.point for _, step in steps if step.point.state == "deleted"]
    after = _without(run, instance.value, deleted)
    work = replace(after.retention, deleting=[point.id for point in living])
    after = replace(after, retention=work, retention_at=min([*waiting, *([work.plan_at] if work.plan_at else [])], default=None))
    if after == instance.value and not steps:
        return instance
    records = [_step_record(run, point.value, step) for point, step in steps]
    writes: list[Write] = [instance.replaced(after), *(point.replaced(step.point) for point, step in steps)]
    try:
        store.commit_all(records, *writes)
    except Conflict:
        log.info("%s: someone else took it on", instance.path)
        return None
    run.changed |= bool(steps)
    _ask_for(run, instance.value, [step for _, step in steps if step.asks])
    return store.get(d.Instance, "instances", instance.value.id)


def _next_look(point: d.Point, now: datetime, *, answered: bool, paused: bool) -> datetime:
    """When to look again at a point that is still there."""
    if not answered:
        return now + POSTPONED
    if point.updated_at == now:
        return now + deletion.FIRST_LOOK
    return max(deletion.ask_again_at(point), now + (PAUSED if paused else NEXT_TICK))


def _without(run: _Run, instance: d.Instance, deleted: Sequence[d.Point]) -> d.Instance:
    """The instance after these points are gone from it."""
    if not deleted:
        return instance
    newest = instance.newest_verified
    stored: list[d.Point] = []
    if newest is not None and any(point.id == newest.point for point in deleted):
        ids = {point.id for point in deleted}
        stored = [p for p in _stored_points(run, instance.id) if p.id not in ids]
    return deletion.after_deletion(instance, deleted, stored, run.now)


def _stored_points(run: _Run, instance: str) -> list[d.Point]:
    return [point.value for point in run.store.walk(d.Point, "instance_points", instance)]


def _step_record(run: _Run, before: d.Point, step: Step) -> Record:
    """The audit record of a deletion's step: that it is over, or that it is asked for again."""
    after = step.point
    detail = _detail(after)
    attempts = before.expiry.attempts if before.expiry else 0
    detail["outcomes"] = [_outcome(outcome, attempts) for outcome in step.outcomes]
    if step.asks:
        detail["changes"] = list(deletion.changes_of(step.asks))
        return Record(run.now, ACTOR, "point.deletion_repeated", f"points/{after.id}", "requested", detail)
    data = {
        "point": after.id,
        "instance": after.instance.name,
        "zone": after.instance.zone,
        **({"day": after.slot.day} if after.slot else {}),
        "reason": after.expiry.reason if after.expiry else "",
    }
    event = Event("point.deleted", f"{after.id}|deleted", data)
    return Record(run.now, ACTOR, "point.deleted", f"points/{after.id}", "succeeded", detail, event)


def _detail(point: d.Point) -> dict[str, Any]:
    return {
        "instance": point.instance.name,
        "trigger": point.trigger,
        "reason": point.expiry.reason if point.expiry else "",
    }


def _outcome(outcome: SnapshotOutcome, attempt: int) -> dict[str, Any]:
    said: dict[str, Any] = {"name": outcome.name, "attempt": attempt, "outcome": outcome.outcome}
    return said | ({"code": outcome.code, "message": outcome.message} if outcome.code else {})


# --- weighing -------------------------------------------------------------------------------------------------------


def _weigh(run: _Run, instance: Held[d.Instance]) -> None:
    """Decide about every point of one instance, and commit what follows. Begins the deletion of what is to go."""
    now, work = run.now, instance.value.retention
    if work.plan_at is None or work.plan_at > now:
        return
    points = {point.value.id: point for point in run.store.walk(d.Point, "instance_points", instance.value.id)}
    if not points:
        _note(run, instance, replace(instance.value, retention_at=None, retention=d.RetentionWork(), override=None))
        return
    known = rules.situation(run.tenant.value, instance.value, now)
    stored = [point.value for point in points.values()]
    try:
        plan = rules.plan(stored, known, now)
        going = _going(run, instance.value, stored, known)
    except rules.UnsafePlan as unsafe:
        _refuse(run, instance, str(unsafe))
        return
    paused = run.paused(instance.value.project)
    marks, deletes = _sorted_out(plan, known, now, paused=paused)
    settled = _mark(run, instance.value, points, marks, known)
    chosen = [] if paused else _chosen(run, instance.value, [points[id] for id in deletes], known)
    all_done = settled and len(chosen) == len(deletes)
    plan_at = plan.next_change if all_done else now + (PAUSED if paused else NEXT_TICK)
    after = replace(
        instance.value,
        override=instance.value.override if paused else None,
        retention=replace(
            work, plan_at=plan_at, going=len(going), going_bytes=sum(deletion.bytes_of(point) for point in going)
        ),
    )
    _begin(run, instance, after, plan, chosen)


def _going(
    run: _Run, instance: d.Instance, points: Sequence[d.Point], known: rules.Situation
) -> list[d.Point]:
    """What of an instance will have gone, or be going, a week from now, if all goes well until then."""
    tenant = run.tenant.value
    scheduled: Callable[[date], datetime | None] | None = None
    if tenant.vendor_managed and instance.lost_at is None:

        def scheduled(day: date) -> datetime | None:
            slot = slot_of(day, instance.id, tenant)
            return slot.at if slot else None

    then = rules.forecast(points, known, run.now, run.now + AHEAD, scheduled=scheduled)
    return [one.point for one in then.decisions if not isinstance(one.decision, rules.Keep | rules.Undo)]


def _sorted_out(
    plan: rules.RetentionPlan, known: rules.Situation, now: datetime, *, paused: bool
) -> tuple[list[d.Point], list[str]]:
    """The points that are to be marked, as they are to be; and the ids of those that are to go, the oldest first."""
    override = known.override if known.in_breach else None
    marks: list[d.Point] = []
    deletes: list[str] = []
    for one in reversed(plan.decisions):
        point = one.point
        match one.decision:
            case rules.Keep() | rules.Deleting():
                pass
            case rules.Undo():
                assert point.expiry is not None
                marks.append(replace(point, state=point.expiry.was, expiry=None, updated_at=now))
            case rules.Expire(reason):
                if paused:
                    continue
                assert point.state in ("verified", "failed")
                expiry = d.Expiry(
                    was="verified" if point.state == "verified" else "failed",
                    reason=reason,
                    decided_at=now,
                    delete_after=now + rules.EXPIRY_GRACE,
                    override=override,
                )
                marks.append(replace(point, state="expiring", expiry=expiry, updated_at=now))
            case rules.Wait():
                assert point.expiry is not None
                if override is not None and point.expiry.override is None and not paused:
                    # Without it the breach would call it back at the next look, when the override is used up.
                    marks.append(replace(point, expiry=replace(point.expiry, override=override), updated_at=now))
            case rules.Delete():
                deletes.append(point.id)
            case _:
                assert_never(one.decision)
    return marks, deletes


def _mark(
    run: _Run,
    instance: d.Instance,
    points: Mapping[str, Held[d.Point]],
    marks: Sequence[d.Point],
    known: rules.Situation,
) -> bool:
    """Commit what expires and what is called back; False where someone else changed one of them."""
    settled = True
    for start in range(0, len(marks), POINTS_AT_ONCE):
        some = marks[start : start + POINTS_AT_ONCE]
        detail: dict[str, Any] = {"instance": instance.name}
        expiring = [point for point in some if point.expiry is not None]
        if expiring:
            detail["expiring"] = [{"point": p.id, "reason": p.expiry.reason} for p in expiring if p.expiry]
            detail["delete_after"] = max(p.expiry.delete_after for p in expiring if p.expiry)
        if len(expiring) < len(some):
            detail["called_back"] = [{"point": p.id, "state": p.state} for p in some if p.expiry is None]
        if known.override and known.in_breach:
            detail["override"] = known.override
        record = Record(run.now, ACTOR, "retention.decided", f"instances/{instance.id}", "succeeded", detail)
        try:
            run.store.commit(record, *(points[point.id].replaced(point) for point in some))
        except Conflict:
            log.info("instances/%s: someone else changed one of its points; it is weighed again", instance.id)
            settled = False
            continue
        run.changed = True
    return settled


def _chosen(
    run: _Run, instance: d.Instance, points: Sequence[Held[d.Point]], known: rules.Situation
) -> list[tuple[Held[d.Point], d.Point]]:
    """Those of the points to delete that this run begins with, as they were read and with every id that is known."""
    room = POINTS_AT_ONCE - len(instance.retention.deleting)
    chosen: list[tuple[Held[d.Point], d.Point]] = []
    for point in points:
        if len(chosen) >= room:
            break
        vault = point.value.vault_project
        if vault in run.silent or run.paused(vault):
            continue
        size = len(deletion.left(point.value))
        if size > run.budget and run.budget < DELETES_PER_RUN_MAX:
            break
        missing = deletion.names_without_id(point.value)
        found = run.find(vault, missing)
        if found is None:
            continue
        run.budget = max(run.budget - size, 0)
        chosen.append((point, deletion.adopted(point.value, run.store.tenant, found)))
        if not run.budget:
            break
    return chosen


def _begin(
    run: _Run,
    instance: Held[d.Instance],
    after: d.Instance,
    plan: rules.RetentionPlan,
    chosen: Sequence[tuple[Held[d.Point], d.Point]],
) -> None:
    """Commit the beginning of these deletions with all that could have kept the points, then ask for them."""
    if not chosen:
        _note(run, instance, after)
        return
    now = run.now
    reasons = {one.point.id: one.decision.reason for one in plan.decisions if isinstance(one.decision, rules.Delete)}
    steps = [(point, deletion.begin(known, reasons[known.id], now)) for point, known in chosen]
    ids = [*after.retention.deleting, *(point.value.id for point, _ in steps)]
    after = replace(
        after,
        retention=replace(after.retention, deleting=ids),
        retention_at=now + deletion.FIRST_LOOK,
        updated_at=now,
    )
    records = [
        Record(
            now,
            ACTOR,
            "point.deleting",
            f"points/{step.point.id}",
            "requested",
            _detail(step.point) | {"changes": list(deletion.changes_of(step.asks))},
        )
        for _, step in steps
    ]
    try:
        run.store.commit_all(
            records,
            *(point.replaced(step.point) for point, step in steps),
            instance.replaced(after),
            # Unchanged, so that a hold on the tenant that was committed meanwhile is met here.
            run.tenant.replaced(run.tenant.value),
        )
    except Conflict:
        log.info("%s: something of it or of its tenant has changed; it is weighed again", instance.path)
        return
    run.changed = True
    _refresh_tenant(run)
    _ask_for(run, instance.value, [step for _, step in steps])


def _refresh_tenant(run: _Run) -> None:
    """The tenant with the version that our own commit gave it, for the next instance of this run."""
    tenant = run.store.get(d.Tenant)
    if tenant is not None and tenant.value == run.tenant.value:
        run.tenant = tenant


def _note(run: _Run, instance: Held[d.Instance], after: d.Instance) -> None:
    """Commit when the instance is looked at next, and what people are shown of it."""
    before, now = instance.value, run.now
    if after.retention.plan_at is not None:
        # What is begun already is not looked at later for it.
        deleting = before.retention_at if after.retention.deleting and before.retention_at else None
        soonest = deleting if deleting is not None and deleting > now else None
        after = replace(after, retention_at=min(filter(None, (after.retention.plan_at, soonest))))
    shown = (after.retention.going, after.retention.going_bytes, after.override)
    if shown != (before.retention.going, before.retention.going_bytes, before.override):
        after = replace(after, updated_at=now)
        run.changed = True
    record = None
    if before.override is not None and after.override is None:
        detail = {"instance": before.name, "override": before.override.id, "by": before.override.by}
        record = Record(now, ACTOR, "override.used", f"instances/{before.id}", "observed", detail)
    try:
        run.store.commit(record, instance.replaced(after))
    except Conflict:
        log.info("%s: someone else changed it; it is weighed again", instance.path)


def _refuse(run: _Run, instance: Held[d.Instance], why: str) -> None:
    """A plan that must not be carried out: nothing of the instance goes until somebody has looked."""
    log.error("instances/%s: a plan was refused: %s", instance.value.id, why)
    now = run.now
    plan_at = now + rules.LOOK_AGAIN
    after = replace(
        instance.value, retention_at=plan_at, retention=replace(instance.value.retention, plan_at=plan_at)
    )
    detail = {"instance": instance.value.name, "why": why[:500]}
    record = Record(now, ACTOR, "retention.refused", f"instances/{instance.value.id}", "refused", detail)
    try:
        run.store.commit(record, instance.replaced(after))
    except Conflict:
        return
    run.changed = True


# --- asking ---------------------------------------------------------------------------------------------------------


def _ask_for(run: _Run, instance: d.Instance, steps: Sequence[Step]) -> None:
    """Ask for the deletions of committed steps, point by point, and note what stood in the way."""
    for step in steps:
        if run.compute.nobody_answers or run.paused_now(instance.project, step.point.vault_project):
            return  # they are still there at the next look, which asks again
        for change in step.asks:
            fault = _ask(run, change)
            if fault is not None:
                _note_fault(run, step.point.id, fault)
                break


def _ask(run: _Run, change: DeleteSnapshot) -> Transient | Refused | None:
    """Ask for one snapshot to go, if it is the one that was meant; what stood in the way, if anything did."""
    try:
        found = run.compute.get(Snapshot, change.link)
        if found is None or found.id != change.id or found.status == "DELETING":
            return None  # gone, on its way, or somebody else's under this name: the next look says which
        run.compute.start(change, cloud.request_id(change))
    except (Transient, Refused) as fault:
        if isinstance(fault, Refused) and fault.code == 404:
            return None
        return fault
    return None


def _note_fault(run: _Run, id: str, fault: Transient | Refused) -> None:
    """Write down what stood in the way of a point's deletion; the look that asks again tells it."""
    point = run.store.get(d.Point, "points", id)
    if point is None or point.value.state != "expiring":
        return
    failure = d.Failure(code=fault.reason or str(fault.code), message=str(fault)[:500])
    try:
        run.store.commit(None, point.replaced(deletion.hindered(point.value, failure)))
    except Conflict:
        log.info("%s: someone else took it on", point.path)

"""Functions `retention` and `expire`: the points that nobody wants any more go, and it is written down why.

`retention` finds the instances whose points are to be weighed, or whose deletions are to be read back, and hands them
to `expire` tenant by tenant. Everything here may run twice at once and die between any two lines: what is to be
deleted is committed before it is deleted, in one commit with all that could have kept it, and gone is what was read to
be gone.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from dataclasses import replace as replaced
from datetime import date, datetime, timedelta
from typing import Any, Final, assert_never

import msgspec
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
from snapkeep.store import SYSTEM, Event, Fleet, Held, Record, TenantStore

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

STUCK_ATTEMPTS: Final = 8
"""Times that a point's snapshots were asked to go, in about 17 hours, after which people are told once. It is asked
for every six hours from then on: what stands in the way (a missing permission, a snapshot in use) may pass any day."""

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

    def held(self, instance: d.Instance) -> bool:
        """Whether a hold stands on the instance or the tenant, as they were read."""
        return any(hold.stands(self.now) for hold in (*instance.holds, *self.tenant.value.holds))

    def stopped(self, instance: str, vault: str) -> bool:
        """Whether somebody has stopped what was to be asked for, by what is stored at this very moment: a pause, or a
        hold on the instance or the tenant that came after the beginning. What cannot be read stops it too."""
        paths = ("system/controls", self.store.path(), self.store.path("instances", instance))
        controls, tenant, holder = self.ports.documents.get(*paths)
        if tenant is None or holder is None:
            return True
        try:
            self.controls = controls.read_as(d.Controls) if controls else None
            found = holder.read_as(d.Instance)
            holds = (*found.holds, *tenant.read_as(d.Tenant).holds)
        except msgspec.ValidationError:
            return True
        return self.paused(found.project, vault) or any(hold.stands(self.now) for hold in holds)

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
        current, look_at = (
            _carry_on(run, instance, begun[instance.value.id]) if instance.value.id in begun else (instance, None)
        )
        if current is not None:
            _weigh(run, current, look_at)
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


def _carry_on(run: _Run, instance: Held[d.Instance], begun: _Begun) -> tuple[Held[d.Instance] | None, datetime | None]:
    """Commit what has become of an instance's deletions, and ask again for what is still there.

    Returns the instance as it is stored then (None where another run took it on), and when to look again at what is
    left of them.
    """
    store, now = run.store, run.now
    steps: list[tuple[Held[d.Point], Step]] = []
    living: list[str] = []
    looks: list[datetime] = []
    for point in begun.points:
        if not deletion.has_begun(point.value):
            continue  # another run has ended it
        found = begun.found[point.value.vault_project]
        paused = run.paused(instance.value.project, point.value.vault_project) or run.held(instance.value)
        step = None
        if found is not None:
            step = deletion.read_back(point.value, store.tenant, found, now, may_ask=not paused and run.budget > 0)
        if step is not None:
            steps.append((point, step))
            run.budget -= len(step.asks)
        if step is None or step.point.state != "deleted":
            living.append(point.value.id)
            looks.append(
                _next_look(step.point if step else point.value, now, answered=found is not None, paused=paused)
            )
    after = _without(run, instance.value, [step.point for _, step in steps if step.point.state == "deleted"])
    look_at = min(looks, default=None)
    after = replace(
        after,
        retention=replace(after.retention, deleting=living),
        retention_at=_earliest(look_at, after.retention.plan_at),
    )
    records = [_step_record(run, point.value, step) for point, step in steps]
    writes: list[Write] = [instance.replaced(after), *(point.replaced(step.point) for point, step in steps)]
    try:
        store.commit_all(records, *writes)
    except Conflict:
        log.info("%s: someone else took it on", instance.path)
        return None, None
    run.changed |= bool(steps)
    _ask_for(run, instance.value, [step for _, step in steps if step.asks])
    return store.get(d.Instance, "instances", instance.value.id), look_at


def _earliest(*times: datetime | None) -> datetime | None:
    return min((time for time in times if time is not None), default=None)


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
    data: dict[str, Any] = {
        "point": after.id,
        "instance": after.instance.name,
        "zone": after.instance.zone,
        **({"day": after.slot.day} if after.slot else {}),
        "reason": after.expiry.reason if after.expiry else "",
    }
    if step.asks:
        detail["changes"] = list(deletion.changes_of(step.asks))
        stuck = None
        if attempts == STUCK_ATTEMPTS:
            failure = before.expiry.failure if before.expiry else None
            data["failure"] = {"code": failure.code, "message": failure.message} if failure else None
            stuck = Event("point.deletion_stuck", f"{after.id}|stuck", data)
        return Record(run.now, ACTOR, "point.deletion_repeated", f"points/{after.id}", "requested", detail, stuck)
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


def _weigh(run: _Run, instance: Held[d.Instance], look_at: datetime | None) -> None:
    """Decide about every point of one instance, and commit what follows. Begins the deletion of what is to go.

    `look_at`: when its deletions that have begun are to be looked at again.
    """
    now, work = run.now, instance.value.retention
    if work.plan_at is not None and work.plan_at > now:
        if look_at is None:
            _note(run, instance, instance.value, look_at)
        return
    if run.budget <= 0:
        return  # it is due still, and unread
    points = {point.value.id: point for point in run.store.walk(d.Point, "instance_points", instance.value.id)}
    if not points:
        _note(run, instance, replace(instance.value, retention=d.RetentionWork(), override=None), look_at)
        return
    stored = [point.value for point in points.values()]
    known = rules.situation(run.tenant.value, instance.value, now)
    try:
        plan = rules.plan(stored, known, now)
        # In a breach nobody knows when it ends: until then nothing goes.
        scheduled = None if known.in_breach else _slots(run.tenant.value, instance.value)
        then = rules.forecast(stored, known, now, now + AHEAD, scheduled=scheduled)
    except (rules.UnsafePlan, ValueError) as unsafe:
        # ValueError: a document that says what cannot be. It stops its own instance, and nobody else's.
        _refuse(run, instance, str(unsafe), look_at)
        return
    paused = {vault for vault in {p.vault_project for p in stored} if run.paused(instance.value.project, vault)}
    forgotten = {one.point.id for one in plan.decisions if isinstance(one.decision, rules.Deleting)} - {*work.deleting}
    if forgotten:  # its document could not be read for a while
        work = replace(work, deleting=[*work.deleting, *sorted(forgotten)])
        look_at = _earliest(look_at, now + deletion.FIRST_LOOK)
    marks, deletes = _sorted_out(plan, known, now, paused)
    settled = _mark(run, instance.value, points, marks, known)
    chosen = _chosen(run, work, [points[id] for id in deletes])
    plan_at = plan.next_change
    if marks:
        plan_at = min(plan_at, now + rules.EXPIRY_GRACE)  # when the grace of what expires now is over
    if not settled or len(chosen) < len(deletes) or any(_lets_go_next(mark, now) for mark in marks):
        # With as many under way as may be, there is no use in weighing before one of them is gone.
        full = len(work.deleting) + len(chosen) >= POINTS_AT_ONCE
        plan_at = (look_at if full else None) or now + (POSTPONED if run.silent else NEXT_TICK)
    if paused:
        plan_at = min(plan.next_change, now + PAUSED)
    if chosen and not _newest_is_there(run, plan, known):
        chosen, plan_at = [], now + PAUSED
    going = [one.point for one in then.decisions if isinstance(one.decision, rules.Delete | rules.Deleting)]
    after = replace(
        instance.value,
        override=instance.value.override if paused else None,
        retention=replace(work, plan_at=plan_at, going=len(going), going_bytes=sum(map(deletion.bytes_of, going))),
    )
    reasons = {one.point.id: one.decision.reason for one in plan.decisions if isinstance(one.decision, rules.Delete)}
    _begin(run, instance, after, [(point, deletion.begin(p, reasons[p.id], now)) for point, p in chosen], look_at)


def _slots(tenant: d.Tenant, instance: d.Instance) -> Callable[[date], datetime | None] | None:
    """When the schedule takes a point on each day; None where it takes nothing."""
    if not tenant.vendor_managed or instance.lost_at is not None:
        return None

    def scheduled(day: date) -> datetime | None:
        slot = slot_of(day, instance.id, tenant)
        return slot.at if slot else None

    return scheduled


def _sorted_out(
    plan: rules.RetentionPlan, known: rules.Situation, now: datetime, paused: Set[str]
) -> tuple[list[d.Point], list[str]]:
    """The points that are to be marked, as they are to be; and the ids of those that are to go, the oldest first.

    Of points in a vault where deletion is `paused` none is marked, and none goes; those that are called back are.
    """
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
            case rules.Expire() | rules.Wait() | rules.Delete() if point.vault_project in paused:
                pass
            case rules.Expire(reason):
                assert point.state in ("verified", "failed")
                expiry = d.Expiry(
                    was="verified" if point.state == "verified" else "failed",
                    reason=reason,
                    decided_at=now,
                    delete_after=now + rules.EXPIRY_GRACE,
                    override=override,
                )
                marks.append(replace(point, state="expiring", expiry=expiry, updated_at=now))
            case rules.Wait() | rules.Delete() if override and point.expiry and point.expiry.override is None:
                # Without it the breach would call it back at the next look, when the override is used up.
                marks.append(replace(point, expiry=replace(point.expiry, override=override), updated_at=now))
            case rules.Wait():
                pass
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


def _lets_go_next(mark: d.Point, now: datetime) -> bool:
    """Whether a mark that is being set is of a point that may go at the next look: its grace is over."""
    return mark.expiry is not None and mark.expiry.delete_after <= now


def _newest_is_there(run: _Run, plan: rules.RetentionPlan, known: rules.Situation) -> bool:
    """Whether Compute Engine holds the newest point that can be restored, right before older ones go because of it.

    What nobody has read since it was verified may have been deleted behind our back. Of a lost instance it does not
    matter (nothing there is kept for being the newest), nor where none can be restored.
    """
    newest = next((one.point for one in plan.decisions if rules.restorable(one.point)), None)
    if newest is None or known.lost_at is not None:
        return True
    refs = [disk.snapshot for disk in newest.disks]
    found = run.find(newest.vault_project, [ref.name for ref in refs])
    there = found is not None and all(
        ref.name in found and found[ref.name].id == ref.id and found[ref.name].status == "READY" for ref in refs
    )
    if not there:
        log.warning("%s: nothing older goes: it cannot be read to be whole", newest.id)
    return there


def _chosen(run: _Run, work: d.RetentionWork, points: Sequence[Held[d.Point]]) -> list[tuple[Held[d.Point], d.Point]]:
    """Those of the points to delete that this run begins with, as they were read and with every id that is known."""
    points = points[: max(POINTS_AT_ONCE - len(work.deleting), 0)]
    missing: dict[str, set[str]] = defaultdict(set)
    for point in points:
        missing[point.value.vault_project] |= set(deletion.names_without_id(point.value))
    found = {vault: run.find(vault, names) for vault, names in missing.items()}
    chosen: list[tuple[Held[d.Point], d.Point]] = []
    for point in points:
        there = found[point.value.vault_project]
        if there is None:
            continue
        known = deletion.adopted(point.value, run.store.tenant, there)
        size = len(deletion.known(known))
        if size > run.budget and run.budget < DELETES_PER_RUN_MAX:
            break
        run.budget = max(run.budget - size, 0)
        chosen.append((point, known))
    return chosen


def _begin(
    run: _Run,
    instance: Held[d.Instance],
    after: d.Instance,
    steps: Sequence[tuple[Held[d.Point], Step]],
    look_at: datetime | None,
) -> None:
    """Commit the beginning of these deletions with all that could have kept the points, then ask for them."""
    if not steps:
        _note(run, instance, after, look_at)
        return
    now = run.now
    ids = [*after.retention.deleting, *(point.value.id for point, _ in steps)]
    after = replace(
        after,
        retention=replace(after.retention, deleting=ids),
        retention_at=_earliest(look_at, now + deletion.FIRST_LOOK),
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
    records += _used_up(run, instance.value, after)
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


def _note(run: _Run, instance: Held[d.Instance], after: d.Instance, look_at: datetime | None) -> None:
    """Commit when the instance is looked at next, and what people are shown of it."""
    before = instance.value
    after = replace(after, retention_at=_earliest(look_at, after.retention.plan_at))
    if (after.retention.going, after.retention.going_bytes, after.override) != (
        before.retention.going,
        before.retention.going_bytes,
        before.override,
    ):
        after = replace(after, updated_at=run.now)
        run.changed = True
    try:
        run.store.commit_all(_used_up(run, before, after), instance.replaced(after))
    except Conflict:
        log.info("%s: someone else changed it; it is weighed again", instance.path)


def _used_up(run: _Run, before: d.Instance, after: d.Instance) -> list[Record]:
    """The record of an override that this evaluation has used up."""
    if before.override is None or after.override is not None:
        return []
    detail = {"instance": before.name, "override": before.override.id, "by": before.override.by}
    return [Record(run.now, ACTOR, "override.used", f"instances/{before.id}", "observed", detail)]


def _refuse(run: _Run, instance: Held[d.Instance], why: str, look_at: datetime | None) -> None:
    """A plan that must not be carried out: nothing of the instance begins to go until it is weighed anew."""
    log.error("instances/%s: a plan was refused: %s", instance.value.id, why)
    plan_at = run.now + rules.LOOK_AGAIN
    work = replace(instance.value.retention, plan_at=plan_at)
    after = replace(instance.value, retention_at=_earliest(look_at, plan_at), retention=work)
    detail = {"instance": instance.value.name, "why": why[:500]}
    record = Record(run.now, ACTOR, "retention.refused", f"instances/{instance.value.id}", "refused", detail)
    try:
        run.store.commit(record, instance.replaced(after))
    except Conflict:
        return
    run.changed = True


# --- asking ---------------------------------------------------------------------------------------------------------


def _ask_for(run: _Run, instance: d.Instance, steps: Sequence[Step]) -> None:
    """Ask for the deletions of committed steps, and note what stood in the way. Each is asked for only if nobody has
    stopped it in this moment."""
    for step in steps:
        faults = []
        for change in step.asks:
            if run.compute.nobody_answers or run.stopped(instance.id, change.project):
                break  # what is still there at the next look is asked for again
            if fault := _ask(run, change):
                faults.append(fault)
        if faults:
            _note_fault(run, step.point.id, faults[0])


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

"""Functions `copy` and `entitlements`, and the step that `reconcile` takes for every copy.

Everything here may run twice at once and die between any two lines: what is to be done is committed before it is done,
names are derived, and whoever meets a Conflict leaves the work to the next tick.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as replaced
from datetime import datetime
from typing import Any, Final

from msgspec.structs import replace

from snapkeep import cloud, hints
from snapkeep import documents as d
from snapkeep.breaker import Breaker
from snapkeep.cloud import DeleteDisk, Disk, InsertDisk, InsertSnapshot, Operation, Snapshot
from snapkeep.copies import rules, sets, tries, wanted
from snapkeep.copies.rules import ACTOR
from snapkeep.copies.tries import Facts, Step
from snapkeep.creation.handler import outcomes_of
from snapkeep.creation.rules import DISK_RATE_PAUSE, to_be_weighed
from snapkeep.messages import CopyBatch, Message, Nudge, PointRef, Tick, not_for
from snapkeep.ports import Conflict, Ports, Refused, Transient, Write
from snapkeep.retention.rules import UnsafePlan
from snapkeep.store import SYSTEM, Event, Fleet, Held, Outcome, Record, TenantStore, readable

log: Final = logging.getLogger(__name__)

REFUSALS: Final = frozenset({"not_entitled", "no_kms_key", "outside_residency"})
"""Failures by which Snapkeep itself refuses a copy: nothing was asked for, or nothing more will be."""

WEIGHED_MAX: Final = 3
"""Times that a run weighs a tenant whom others keep changing; then the next tick does. What wakes it wakes others too:
after a fleet file was applied `discover` writes the same tenant."""

POINTS_AT_ONCE: Final = 20
"""Points of one instance that one commit changes: with their definitions and disks they stay below its 10 MiB."""


# --- copy ---------------------------------------------------------------------------------------------------------


def copy(message: Message, ports: Ports) -> None:
    """Start the requested copies of these points."""
    if not isinstance(message, CopyBatch):
        raise not_for("copy", message)
    fleet = Fleet(ports.documents)
    by_tenant: dict[str, list[str]] = defaultdict(list)
    for ref in message.points:
        by_tenant[ref.tenant].append(ref.point)
    points = [
        point
        for tenant, ids in by_tenant.items()
        for point in fleet.tenant(tenant).get_all(d.Point, "points", list(dict.fromkeys(ids)))
        if any(one.state == "requested" and one.next_at is not None for one in point.value.copies.values())
    ]
    advance(points, ports)


# --- the step of every copy ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Work:
    """One copy that is due, as it was read."""

    point: Held[d.Point]
    region: str

    @property
    def copy(self) -> d.Copy:
        return self.point.value.copies[self.region]


@dataclass(slots=True)
class _Run:
    """What one run shares over all copies."""

    ports: Ports
    compute: Breaker
    fleet: Fleet
    tenants: dict[str, Held[d.Tenant]]
    controls: d.Controls | None
    away: dict[str, Transient] = field(default_factory=dict)  # regions that did not take what they were asked for

    def tenant(self, work: _Work) -> d.Tenant:
        return self.tenants[work.point.tenant].value

    def may_start(self, work: _Work) -> bool:
        return self.controls is None or not _covers(self.controls.paused.creation, work.point)

    def may_remove(self, work: _Work) -> bool:
        return self.controls is None or not _covers(self.controls.paused.deletion, work.point)


def _covers(paused: d.Paused, point: Held[d.Point]) -> bool:
    projects = {point.value.instance.project, point.value.vault_project}
    return any(paused.covers(project=project, tenant=point.tenant) for project in projects)


def advance(points: Iterable[Held[d.Point]], ports: Ports) -> None:
    """Bring the copies of these points one step nearer their end, from what is read back. Nothing waits for the cloud.

    Of each point the one that has waited longest: its other copies are due still.
    """
    everyone = list(points)
    compute = Breaker.of(ports.compute)
    fleet = Fleet(ports.documents)
    tenants = fleet.tenants_by_id([point.tenant for point in everyone])
    run = _Run(replaced(ports, compute=compute), compute, fleet, tenants, fleet.controls())
    groups: dict[str, list[_Work]] = defaultdict(list)
    for point in everyone:
        due = sorted((one.next_at, region) for region, one in point.value.copies.items() if one.next_at is not None)
        if point.tenant not in tenants:
            log.error("%s: its tenant is gone or not readable", point.path)
        elif not due:
            _reschedule(run, point)
        else:
            groups[point.value.vault_project].append(_Work(point, due[0][1]))
    moved: list[tuple[_Work, Step]] = []
    for vault, works in groups.items():
        if compute.nobody_answers:
            log.warning("Compute Engine does not answer: what is left is due still, and the first of the next run")
            break
        moved += _advance_vault(run, vault, works)
    states = [(work, step.point.copies[work.region].state) for work, step in moved]
    hints.nudge(ports.bus, {work.point.tenant for work, _ in moved}, "audit")
    hints.nudge(ports.bus, {work.point.tenant for work, state in states if state != work.copy.state}, "health")
    failed = {w.point.tenant for w, state in states if state == "failed" and w.copy.state != state}
    hints.nudge(ports.bus, failed, "entitlements")


def _reschedule(run: _Run, point: Held[d.Point]) -> None:
    """Nothing of its copies is left to do: so it says."""
    if point.value.state in ("requested", "creating"):
        return
    try:
        after = replace(point.value, next_at=sets.next_at(point.value))
        run.fleet.tenant(point.tenant).commit(None, point.replaced(after))
    except Conflict:
        log.info("%s: someone else took it on", point.path)


def _advance_vault(run: _Run, vault: str, works: Sequence[_Work]) -> list[tuple[_Work, Step]]:
    """The copies of one vault project: read, decide, commit, ask. Returns what was committed and told."""
    now = run.ports.clock.now()
    try:
        facts = _read(run, vault, works)
    except (Transient, Refused) as fault:
        log.warning("vault %s cannot be read now: %r", vault, fault)
        read_by = [(work, _unread(run, work, fault, now)) for work in works]
        return [(work, step) for work, step in read_by if step is not None and _commit(run, work, step, now)]
    moved = []
    for work in works:
        mine = replaced(facts, may_start=run.may_start(work), may_remove=run.may_remove(work))
        step = tries.step(work.point.value, work.region, run.tenant(work), mine, now)
        if step is None:
            _postpone(run, work, d.Failure(code="paused", message="creation is paused"), now)
        elif _commit(run, work, step, now):
            if _is_told(work, step):
                moved.append((work, step))
            _start(run, work, step)
            _remove(run, work, step)
    return moved


def _read(run: _Run, vault: str, works: Sequence[_Work]) -> Facts:
    """All that the next steps of these copies need, in few list calls. Raises Transient, Refused."""
    needs = [tries.wanted(work.point.value, work.region) for work in works]
    compute = run.compute
    snapshots: dict[str, Snapshot] = {}
    for where in cloud.named(name for need in needs for name in need.snapshots):
        snapshots |= {one.name: one for one in compute.find(Snapshot, vault, where)}
    disks: dict[str, Disk] = {}
    for where in cloud.named(name for need in needs for name in need.disks):
        disks |= {one.link: one for one in compute.find(Disk, vault, where)}
    operations: dict[str, Operation | None] = {}
    for link, makes in ((link, makes) for need in needs for link, makes in need.operations.items()):
        if makes in disks or makes.rsplit("/", 1)[1] in snapshots:
            continue
        operation = operations[link] = compute.get(Operation, link)
        if operation is None or (operation.status == "DONE" and not operation.error_code):
            # The list may have been read just before what it makes appeared.
            if "/disks/" in makes:
                disk = compute.get(Disk, makes)
                disks |= {makes: disk} if disk else {}
            else:
                snapshot = compute.get(Snapshot, makes)
                snapshots |= {snapshot.name: snapshot} if snapshot else {}
    return Facts(snapshots, disks, operations)


def _unread(run: _Run, work: _Work, fault: Transient | Refused, now: datetime) -> Step | None:
    """Nothing is known of the copy now: look again later, unless its time is over (then it ends unverified)."""
    failure = _failure(fault)
    if work.copy.state == "copying" and work.copy.deadline is not None and now >= work.copy.deadline:
        return tries.unread(work.point.value, work.region, failure, run.tenant(work), now)
    _postpone(run, work, failure, now)
    return None


def _failure(fault: Transient | Refused) -> d.Failure:
    return d.Failure(code=fault.reason or str(fault.code), message=str(fault)[:500])


def _postpone(run: _Run, work: _Work, failure: d.Failure, now: datetime) -> None:
    try:
        later = tries.postponed(work.point.value, work.region, failure, now)
        run.fleet.tenant(work.point.tenant).commit(None, work.point.replaced(later))
    except Conflict:
        log.info("%s: someone else took it on", work.point.path)


def _commit(run: _Run, work: _Work, step: Step, now: datetime) -> bool:
    """Commit a step with its record, and what it changes of the instance; False where someone else came first."""
    store = run.fleet.tenant(work.point.tenant)
    writes: list[Write] = [work.point.replaced(step.point)]
    before, after = work.point.value, step.point
    if after.copies[work.region].state != work.copy.state:
        instance = store.get(d.Instance, "instances", after.instance.id)
        if instance is not None:
            writes.append(instance.replaced(_accounted(instance.value, before, after, run.tenant(work), now)))
    try:
        store.commit(_record(run, work, step, now), *writes)
    except Conflict:
        log.info("%s: someone else took it on", work.point.path)
        return False
    return True


def _accounted(instance: d.Instance, before: d.Point, after: d.Point, tenant: d.Tenant, now: datetime) -> d.Instance:
    """The instance after a copy's state has changed; what has ended is to be weighed."""
    bought = rules.entitled(tenant, now)
    work = rules.counted(instance.copies, before, after, bought.region if bought else None)
    changed = replace(instance, copies=work, updated_at=now)
    ended = any(
        copy.state in ("verified", "failed") and copy.is_stored and copy.state != before.copies[region].state
        for region, copy in after.copies.items()
        if region in before.copies
    )
    return to_be_weighed(changed, now) if ended else changed


# --- records ------------------------------------------------------------------------------------------------------


def _is_told(work: _Work, step: Step) -> bool:
    """Whether a step is recorded: its state moved, something was asked for, or what was asked for ended."""
    moved = step.point.copies[work.region].state != work.copy.state
    return moved or bool(step.intents or step.removes or step.outcomes or step.removals)


def _record(run: _Run, work: _Work, step: Step, now: datetime) -> Record | None:
    if not _is_told(work, step):
        return None
    point, region = step.point, work.region
    after = point.copies[region]
    moved = after.state != work.copy.state
    detail: dict[str, Any] = {"instance": point.instance.name, "region": region, "way": after.way}
    if step.intents or step.removes:
        detail["changes"] = [cloud.audit_body(change) for change in (*step.intents, *step.removes)]
    if step.outcomes or step.removals:
        detail["outcomes"] = [
            *outcomes_of(step.outcomes),
            *(outcomes_of([one.outcome])[0] | {"attempt": one.attempt} for one in step.removals),
        ]
    if moved and after.failure:
        detail["failure"] = _said(after.failure)
    if moved and after.state == "verified":
        detail["snapshots"] = [
            {"name": disk.snapshot.name, "id": disk.snapshot.id, "disk": disk.id, "location": disk.snapshot.location}
            for disk in after.disks
        ]
    action, outcome = _action(after, step, moved=moved)
    return Record(
        at=now,
        actor=ACTOR,
        action=action,
        subject=f"points/{point.id}",
        outcome=outcome,
        detail=detail,
        event=_event(point, region, run.tenant(work), now) if moved and after.state in ("verified", "failed") else None,
    )


def _action(after: d.Copy, step: Step, *, moved: bool) -> tuple[str, Outcome]:
    if moved and after.state == "failed":
        return "copy.failed", "refused" if after.failure and after.failure.code in REFUSALS else "failed"
    if moved and after.state == "verified":
        return "copy.verified", "succeeded"
    if step.intents:
        return ("copy.copying" if moved else "copy.continued"), "requested"
    if step.removes:
        return "copy.cleaning", "requested"
    if any(one.outcome != "succeeded" for one in step.outcomes):
        refused = after.failure is not None and after.failure.code in REFUSALS
        return "copy.attempt_ended", "refused" if refused else "failed"
    return ("copy.attempt_ended" if step.outcomes else "copy.cleaned"), "succeeded"


def _event(point: d.Point, region: str, tenant: d.Tenant, now: datetime) -> Event:
    """That a try ended."""
    copy = point.copies[region]
    data = told(point, region)
    if copy.state == "failed" and copy.failure:
        data["failure"] = _said(copy.failure)
        data["will_be_made_up"] = wanted.can_be_made_up(point, region, tenant, now)
    return Event(f"copy.{copy.state}", f"{point.id}|{region}|{copy.requested_at.isoformat()}|{copy.state}", data)


def told(point: d.Point, region: str) -> dict[str, Any]:
    """What every event about a copy says."""
    return {
        "point": point.id,
        "region": region,
        "instance": point.instance.name,
        "zone": point.instance.zone,
        **({"day": point.slot.day} if point.slot else {}),
    }


def _said(failure: d.Failure) -> dict[str, str]:
    return {"code": failure.code, "message": failure.message}


# --- asking -------------------------------------------------------------------------------------------------------


def _start(run: _Run, work: _Work, step: Step) -> None:
    """Ask for what a committed step begins, and note what was answered."""
    if not step.starts or not _may_start_by_now(run, work):
        return  # what may be asked for at a later look is asked for then
    operations: dict[str, str] = {}
    refusals: dict[str, d.Failure] = {}
    fault: Transient | None = None
    for change in step.starts:
        match _ask(run, work, change):
            case str(operation):
                operations[change.name] = operation
            case d.Failure() as failure:
                refusals[change.name] = failure
            case Transient() as met:
                fault = met
                break  # the rest is asked for at the next look
            case None:
                pass  # something has that name: read-back shows whether it is ours
    _note_answers(run, work, operations, refusals, fault)


def _may_start_by_now(run: _Run, work: _Work) -> bool:
    """Whether nobody has paused it and it is still bought, read anew: a run is minutes long, and what is stored in
    another region stays there for a while."""
    run.controls = run.fleet.controls()
    owner = run.fleet.tenant(work.point.tenant).get(d.Tenant)
    if owner is None:
        return False
    run.tenants[work.point.tenant] = owner
    return run.may_start(work) and tries.not_entitled(owner.value, work.region, run.ports.clock.now()) is None


def _ask(run: _Run, work: _Work, change: InsertSnapshot | InsertDisk) -> str | d.Failure | Transient | None:
    """Ask for one change, if it stays where it may; None where something of that name is there already.

    What a region could not take once, it is not asked again in this run: whatever else is to be done in the project
    must not be left alone because of it.
    """
    now, region = run.ports.clock.now(), cloud.written_to(change)
    home = work.point.value.instance.region
    outside = rules.refuse_residency(change, rules.regions_of(run.tenant(work), home, now))
    if outside is not None:
        log.error("%s: %s", work.point.path, outside.message)
        return outside
    if region in run.away:
        return run.away[region]
    try:
        return run.compute.start(change, cloud.request_id(change))
    except Transient as fault:
        if fault.reason != "RESOURCE_OPERATION_RATE_EXCEEDED":
            run.away[region] = fault
        return fault
    except Refused as answer:
        return None if answer.code == 409 else _failure(answer)


def _note_answers(
    run: _Run,
    work: _Work,
    operations: Mapping[str, str],
    refusals: Mapping[str, d.Failure],
    fault: Transient | None,
) -> None:
    """Commit what the starts of one copy were answered. After a Conflict, read-back finds it out all the same."""
    now = run.ports.clock.now()
    store = run.fleet.tenant(work.point.tenant)
    current = store.get(d.Point, "points", work.point.value.id)
    if current is None or work.region not in current.value.copies:
        return
    pause = DISK_RATE_PAUSE if fault and fault.reason == "RESOURCE_OPERATION_RATE_EXCEEDED" else None
    failure = _failure(fault) if fault else None
    step = tries.answered(current.value, work.region, operations, refusals, failure, now, pause=pause)
    if step is not None:
        _commit(run, _Work(current, work.region), step, now)


def _remove(run: _Run, work: _Work, step: Step) -> None:
    """Ask for temporary disks to go, each only if it is the one that was meant and nobody has paused it by now."""
    for change in step.removes:
        run.controls = run.fleet.controls()
        if run.compute.nobody_answers or not run.may_remove(work):
            return  # what is still there at a later look is asked for again
        try:
            _remove_one(run, change)
        except (Transient, Refused) as fault:
            log.warning("%s: its temporary disk %s stays for now: %r", work.point.path, change.name, fault)


def _remove_one(run: _Run, change: DeleteDisk) -> None:
    found = run.compute.get(Disk, change.link)
    if found is not None and found.id == change.id and found.status != "DELETING":
        run.compute.start(change, cloud.request_id(change))


# --- entitlements -------------------------------------------------------------------------------------------------


def entitlements(message: Message, ports: Ports) -> None:
    """Weigh what tenants have bought against the copies that they have: on a tick of those that are due, on a nudge
    of those that it names."""
    fleet = Fleet(ports.documents)
    match message:
        case Tick():
            tenants: Iterable[Held[d.Tenant]] = readable(d.Tenant, fleet.due("entitlements_due", ports.clock.now()))
        case Nudge():
            named = [tenant for tenant in message.tenants if tenant != SYSTEM]
            tenants = fleet.tenants_by_id(named).values()
        case _:
            raise not_for("entitlements", message)
    changed: set[str] = set()
    for seen in tenants:
        store = fleet.tenant(seen.value.id)
        tenant: Held[d.Tenant] | None = seen
        for _ in range(WEIGHED_MAX):
            if tenant is None:
                break
            done = _weigh(store, tenant, ports.clock.now())
            hints.start_copies(ports.bus, done.requested)
            if done.told:
                changed.add(store.tenant)
            tenant = store.get(d.Tenant) if done.conflict else None
    hints.nudge(ports.bus, changed, "audit", "health")


@dataclass(slots=True)
class _Weighed:
    """What came of weighing a tenant once."""

    requested: list[PointRef] = field(default_factory=list)  # the points whose copies are to be started
    told: bool = False  # something was written that people are told of
    conflict: bool = False  # somebody changed something of it meanwhile: it is to be read and weighed again


def _weigh(store: TenantStore, tenant: Held[d.Tenant], now: datetime) -> _Weighed:
    """Weigh one tenant: note what is no longer bought, make up what is missing, tell what is late, and count."""
    owner = tenant.value
    news: dict[str, list[tuple[Held[d.Point], wanted.Found]]] = {}
    instances: dict[str, Held[d.Instance]] = {}
    counts: dict[str, d.CopyWork] = {}
    spent = wanted.Spent()
    stored: set[str] = set()
    for instance in store.walk(d.Instance, "tenant_instances"):
        points = {p.value.id: p for p in store.walk(d.Point, "instance_points", instance.value.id)}
        try:
            seen = wanted.weigh([p.value for p in points.values()], instance.value, owner, now)
        except (UnsafePlan, ValueError) as unsafe:
            # ValueError: a document that says what cannot be. It stops its own instance, and nobody else's.
            log.error("%s: its copies cannot be weighed: %s", instance.path, unsafe)
            stored |= set(instance.value.copies.newest) | set(owner.copies_ended)
            continue
        spent = spent + seen.spent
        stored |= seen.stored
        instances[instance.value.id], counts[instance.value.id] = instance, seen.work
        news[instance.value.id] = [(points[one.point.id], one) for one in seen.found]
    chosen = wanted.chosen([one for some in news.values() for _, one in some], spent)
    became = _Weighed()
    for id, instance in instances.items():
        steps = [
            (point, one, after)
            for point, one in news[id]
            if (after := wanted.acted_on(one, owner, now, request=one in chosen)) != point.value
        ]
        done = []
        try:
            for one, after in _settle(store, instance, owner, counts[id], steps, now):
                done.append((one, after))
        except Conflict:
            log.info("%s: someone else changed it; it is weighed again", instance.path)
            became.conflict = True
        became.told |= bool(done) or counts[id] != instance.value.copies
        became.requested += [PointRef(owner.id, after.id) for one, after in done if one in chosen]
    waits = any(work.waiting or work.lagging or work.missing for work in counts.values()) or bool(became.requested)
    try:
        became.told |= _note(store, tenant, stored, now, waits=waits)
    except Conflict:
        log.info("%s: someone else changed it; it is weighed again", owner.id)
        became.conflict = True
    return became


def _settle(
    store: TenantStore,
    instance: Held[d.Instance],
    tenant: d.Tenant,
    work: d.CopyWork,
    steps: Sequence[tuple[Held[d.Point], wanted.Found, d.Point]],
    now: datetime,
) -> Iterator[tuple[wanted.Found, d.Point]]:
    """Commit what becomes of one instance's copies with how they stand then; gives what was committed.

    Raises Conflict.
    """
    bought = rules.entitled(tenant, now)
    region = bought.region if bought else None
    current: Held[d.Instance] | None = instance
    for start in range(0, max(len(steps), 1), POINTS_AT_ONCE):
        some = steps[start : start + POINTS_AT_ONCE]
        for point, _, after in some:
            work = rules.counted(work, point.value, after, region)
        work = replace(work, missing=max(work.missing - sum(_was_uncounted(one) for _, one, _ in some), 0))
        if current is None or (not some and work == current.value.copies):
            return
        records = [_missing_record(one, after, now) for _, one, after in some]
        counted = replace(current.value, copies=work, updated_at=now)
        store.commit_all(records, current.replaced(counted), *(p.replaced(after) for p, _, after in some))
        yield from ((one, after) for _, one, after in some)
        if start + POINTS_AT_ONCE < len(steps):
            current = store.get(d.Instance, "instances", instance.value.id)


def _was_uncounted(one: wanted.Found) -> bool:
    """Whether a copy that has an entry now was missing without one that says so."""
    before = one.point.copies.get(one.region)
    return before is None or before.state == "deleted"


def _missing_record(one: wanted.Found, after: d.Point, now: datetime) -> Record:
    """That a copy is not there: it is made up, cannot be made, or is late."""
    copy = after.copies[one.region]
    requested = copy.state == "requested" and copy.requested_at == now
    detail = {"instance": after.instance.name, "region": one.region, "reason": one.reason}
    data = told(after, one.region) | {"reason": one.reason, "being_made": copy.state in ("requested", "copying")}
    before = one.point.copies.get(one.region)
    failure = one.lacks or (before.failure if before is not None else None)
    if failure:
        detail["failure"] = f"{failure.code}: {failure.message}"[:500]
        data["failure"] = _said(failure)
    why = copy.requested_at.isoformat() if requested or one.lacks else "late"
    event = Event("copy.missing", f"{after.id}|{one.region}|{why}", data)
    subject = f"points/{after.id}"
    if requested:
        return Record(now, ACTOR, "copy.requested", subject, "requested", detail, event)
    if one.lacks:
        return Record(now, ACTOR, "copy.failed", subject, "refused", detail, event)
    return Record(now, ACTOR, "copy.late", subject, "observed", detail, event)


def _note(store: TenantStore, tenant: Held[d.Tenant], stored: set[str], now: datetime, *, waits: bool) -> bool:
    """Commit when the tenant is weighed next, and which of its copies are no longer bought; whether that is news.

    Raises Conflict.
    """
    owner = tenant.value
    bought = rules.entitled(owner, now)
    ended = {region: _ended_at(owner, region, now) for region in stored}
    ended = {region: at for region, at in ended.items() if bought is None or bought.region != region}
    records = [_ended_record(region, at, now) for region, at in ended.items() if region not in owner.copies_ended]
    if bought is not None and bought.region in owner.copies_ended:
        since = owner.copies_ended[bought.region].isoformat()
        detail = {"region": bought.region, "ended_at": since}
        records.append(Record(now, ACTOR, "entitlement.returned", ".", "observed", detail))
    after = replace(owner, copies_ended=ended, entitlements_at=wanted.look_again_at(owner, stored, now, waits=waits))
    if records:
        after = replace(after, updated_at=now)
    store.commit_all(records, tenant.replaced(after))
    return bool(records)


def _ended_at(tenant: d.Tenant, region: str, now: datetime) -> datetime:
    """Since when copies that are not bought any more have not been, to be noted.

    Not long before it was first seen: an end that is dated back takes nothing of their grace.
    """
    at = rules.ended_at(tenant, region, now) or now
    return at if region in tenant.copies_ended else max(at, now - wanted.LOOK_AGAIN_QUIET)


def _ended_record(region: str, at: datetime, now: datetime) -> Record:
    kept = at + rules.UNENTITLED_GRACE
    detail = {"region": region, "ended_at": at.isoformat(), "kept_until": kept.isoformat()}
    # An add-on that came back may end as of the same day again: that is told again.
    event = Event("copy.unentitled", f"{region}|{at.isoformat()}|{now.isoformat()}", detail)
    return Record(now, ACTOR, "entitlement.ended", ".", "observed", detail, event)

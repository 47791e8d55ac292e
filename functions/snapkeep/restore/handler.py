"""Function `restore`: the only one that stops, changes or deletes instances.

Everything here may run twice at once and die between any two lines: what is to be done is committed before it is done,
requests have derived ids, and whoever meets a Conflict leaves the work to the next look.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace as replaced
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from snapkeep import cloud, hints
from snapkeep import documents as d
from snapkeep.breaker import Breaker
from snapkeep.cloud import (
    Change,
    DeleteDisk,
    DeleteInstance,
    Disk,
    Firewall,
    InsertDisk,
    InsertInstance,
    Operation,
    Snapshot,
    Zone,
)
from snapkeep.cloud import Instance as Machine
from snapkeep.copies.rules import refuse_residency
from snapkeep.creation import rules as creation
from snapkeep.messages import Message, PointRef, RestoreBatch, not_for
from snapkeep.ports import Conflict, Ports, Refused, Transient, Write
from snapkeep.restore import checks, claims, former, life, planning, rules, survey, testing
from snapkeep.restore.definition import definition_for
from snapkeep.restore.facts import Facts
from snapkeep.restore.life import Step
from snapkeep.restore.rules import ACTOR
from snapkeep.store import Event, Fleet, Held, Outcome, Record, TenantStore, created

log: Final = logging.getLogger(__name__)

ROUNDS_MAX: Final = 6
"""Looks that one run takes at one restore: what needs no waiting is not waited for."""

CLAIMED_LOOK: Final = former.ASK_AGAIN / 24
"""Until former disks are looked at again that another restore may be about to attach."""


def restore(message: Message, ports: Ports) -> None:
    """Bring these restores one step nearer their end, as far as it is their time."""
    if not isinstance(message, RestoreBatch):
        raise not_for("restore", message)
    compute = Breaker.of(ports.compute)
    run = _Run(replaced(ports, compute=compute), compute, Fleet(ports.documents))
    by_tenant: dict[str, list[str]] = defaultdict(list)
    for ref in message.restores:
        by_tenant[ref.tenant].append(ref.restore)
    for tenant, ids in by_tenant.items():
        for id in dict.fromkeys(ids):
            try:
                _carry_on(run, tenant, id)
            except msgspec.ValidationError as error:  # a point, a claim, ...: it keeps no other restore waiting
                log.error("tenants/%s/restores/%s waits until a document is mended: %s", tenant, id, error)
    for functions, tenants in ((("audit", "health"), run.told), (("retention", "entitlements"), run.weighed)):
        hints.nudge(ports.bus, tenants, *functions)


class _Run:
    """What one run shares over all restores."""

    def __init__(self, ports: Ports, compute: Breaker, fleet: Fleet) -> None:
        self.ports = ports
        self.compute = compute
        self.fleet = fleet
        self.told: set[str] = set()  # tenants of which something was recorded
        self.weighed: set[str] = set()  # tenants whose points are to be weighed

    def paused(self, work: _Work, kind: str) -> bool:
        """Read anew each time: whoever stops something means what has not happened yet."""
        controls = self.fleet.controls()
        if controls is None:
            return False
        paused: d.Paused = getattr(controls.paused, kind)
        projects = {work.value.instance.project, work.value.target.project}
        return any(paused.covers(project=project, tenant=work.store.tenant) for project in projects)


@dataclass(frozen=True, slots=True)
class _Work:
    """One restore that is due, as it was read."""

    store: TenantStore
    held: Held[d.Restore]
    tenant: Held[d.Tenant]
    undone: Held[d.Restore] | None = None

    @property
    def value(self) -> d.Restore:
        return self.held.value


def _carry_on(run: _Run, tenant: str, id: str) -> None:
    """Take one restore as far as it goes without waiting for anything."""
    store = run.fleet.tenant(tenant)
    for _ in range(ROUNDS_MAX):
        held = next(iter(store.get_all(d.Restore, "restores", [id])), None)
        owner = run.fleet.tenants_by_id([tenant]).get(tenant)
        if held is None or owner is None:
            log.error("tenants/%s/restores/%s: it, or its tenant, is not there or not readable", tenant, id)
            return
        now = run.ports.clock.now()
        if held.value.next_at is None or held.value.next_at > now or run.compute.nobody_answers:
            return
        undoes = held.value.source.undoes
        work = _Work(store, held, owner, store.get(d.Restore, "restores", undoes) if undoes else None)
        if not _look(run, work, now):
            return


def _look(run: _Run, work: _Work, now: datetime) -> bool:
    """One look at a restore; whether another one may follow at once."""
    match work.value.state:
        case "requested" | "approved":
            return _wait(run, work, now)
        case "running":
            return _run_on(run, work, now)
        case _:
            return _remove_former(run, work, now)


def _wait(run: _Run, work: _Work, now: datetime) -> bool:
    restore = work.value
    why = _not_now(run, work)
    step = life.waiting(restore, now, may_begin=why is None)
    if step is not None:
        return _commit(run, work, step, now)
    if restore.state == "requested" or why is None:
        later = replace(restore, next_at=restore.approve_by or restore.start_by)
    elif why.code == "paused":  # whoever resumes it may be waiting for it
        later = replace(restore, failure=why, next_at=min(now + creation.LOOK_MIN, max(restore.start_by, now)))
    else:
        later = life.postponed(restore, why, now)
    _note(work, later)
    return False


def _not_now(run: _Run, work: _Work) -> d.Failure | None:
    """Why a restore does not begin now; None: it may."""
    if run.paused(work, "restore"):
        return d.Failure(code="paused", message="restores are paused")
    link = rules.claimed(work.value)
    claim = claims.claim_of(work.store, work.value)
    if link is not None and (claim is None or claim.value.restore != work.value.id):
        whose = claim.value.restore if claim is not None else None
        return d.Failure(code="not_claimed", message=f"{link} is claimed for {whose or 'nobody'}, not for it")
    return None


def _run_on(run: _Run, work: _Work, now: datetime) -> bool:
    step = life.too_late(work.value, now)
    if step is None:
        try:
            restore, facts = _read(run, work)
        except (Transient, Refused) as fault:
            log.warning("%s: it cannot be read now: %r", work.held.path, fault)
            _note(work, life.postponed(work.value, _unread(work.value, fault), now))
            return False
        step = life.advance(restore, work.tenant.value.id, facts, now)
    if not _commit(run, work, step, now):
        return False
    _ask(run, work, step)
    return not step.starts


def _note(work: _Work, later: d.Restore) -> None:
    try:
        work.store.commit(None, work.held.replaced(later))
    except Conflict:
        log.info("%s: someone else took it on", work.held.path)


def _failure(fault: Transient | Refused) -> d.Failure:
    return d.Failure(code=fault.reason or str(fault.code), message=str(fault)[:500])


# --- reading ------------------------------------------------------------------------------------------------------


def _unread(restore: d.Restore, fault: Transient | Refused) -> d.Failure:
    """Why a restore does not go on, for whoever waits for it: Google's words say neither where nor what to do."""
    failure = _failure(fault)
    where = restore.target.zone or restore.target.region
    elsewhere = "" if restore.mode == "in_place" else "; if it stays so, cancel it and restore into another zone"
    message = f"what is in {where} cannot be read: {failure.message}; it is tried again{elsewhere}"
    return d.Failure(code=failure.code, message=message[:500])


def _read(run: _Run, work: _Work) -> tuple[d.Restore, Facts]:
    """The restore, its zone chosen where one is up and answers, and all that its next steps need to know.

    Raises Transient, Refused.
    """
    restore, undone = work.value, work.undone.value if work.undone else None
    if not life.wanted(restore, undone).zones:
        return restore, _facts(run, work, restore, [])
    zones = sorted(run.compute.find(Zone, restore.target.project), key=lambda zone: zone.name)
    candidates = survey.candidates(restore, zones) if restore.target.zone is None else []
    for zone in candidates:
        placed = planning.placed(restore, zone)
        try:
            return placed, _facts(run, work, placed, zones)
        except Transient as fault:  # a zone that is being lost may be listed as up for some time
            if zone == candidates[-1]:
                raise
            log.warning("%s: not into %s: %r", work.held.path, zone, fault)
    return restore, _facts(run, work, restore, zones)


def _facts(run: _Run, work: _Work, restore: d.Restore, zones: list[Zone]) -> Facts:
    """What the next steps of a restore, its zone chosen, need to know. Raises Transient, Refused."""
    compute, need = run.compute, life.wanted(restore, work.undone.value if work.undone else None)
    operations = {link: _discreet(restore, compute.get(Operation, link)) for link in sorted(need.operations)}
    instances = {need.instance: compute.get(Machine, need.instance)} if need.instance else {}
    links = set(need.disks)
    if need.attached:
        links |= {one.source for found in instances.values() if found for one in found.disks if one.persistent}
    disks = {link: compute.get(Disk, link) for link in sorted(links)}
    snapshots = {link: compute.get(Snapshot, link) for link in sorted(need.snapshots)}
    firewalls: list[Firewall] = []
    if need.firewalls and restore.target.network:
        project = cloud.partial_link(restore.target.network).split("/")[1]
        firewalls = list(compute.find(Firewall, project))
    facts = Facts(
        instances=instances,
        disks=disks,
        snapshots=snapshots,
        operations=operations,
        zones=zones,
        firewalls=firewalls,
        undone=work.undone.value if work.undone else None,
        new=_new_instance(work, restore),
        may_remove=not run.paused(work, "deletion"),
        denied=_denied(work),
    )
    return replaced(facts, heard=_heard(run, restore, facts))


def _discreet(restore: d.Restore, operation: Operation | None) -> Operation | None:
    """The operation, without words that may hold what a person supplied."""
    if operation is None or operation.error_message is None:
        return operation
    return replaced(operation, error_message=rules.discreet(restore, operation.error_message))


def _denied(work: _Work) -> d.Failure | None:
    """Why a restore that has not touched anything yet must not: what it is to change is not the tenant's any more."""
    if work.value.abandoned is not None or any(one.name == "stop" and one.asked for one in work.value.steps):
        return None
    found = work.store.get_all(d.Instance, "instances", [work.value.instance.id])
    return planning.not_allowed_any_more(work.value, work.tenant.value, found[0].value if found else None)


def _new_instance(work: _Work, restore: d.Restore) -> Any:
    """What is asked for as the new instance; None where none is."""
    zone = restore.target.zone
    if restore.mode != "new_instance" or zone is None or restore.abandoned is not None:
        return None
    supplied = work.store.get(d.Supplied, "supplied", restore.id)
    return definition_for(work.tenant.value.id, restore, zone, supplied.value.values if supplied else {})


def _heard(run: _Run, restore: d.Restore, facts: Facts) -> checks.Heard | None:
    """What is asked of guests once a restore is to be checked."""
    at = life.current(restore)
    step = restore.steps[at] if at is not None else None
    if step is None or step.name != "check" or step.state != "running":
        return None
    guests = run.ports.guests
    links = [link for disk in restore.disks for link in (rules.disk_link(disk), disk.snapshot)]
    contents = {link: guests.contents(link) for link in links}
    found = facts.instances.get(rules.target_link(restore) or "")
    address = checks.address_of(found) if found is not None else None
    if restore.probe is None or address is None or not checks.is_probed(restore):
        return checks.Heard(contents=contents)
    return checks.Heard(asked=True, answer=guests.reach(address, restore.probe), contents=contents)


# --- committing ---------------------------------------------------------------------------------------------------


def _commit(run: _Run, work: _Work, step: Step, now: datetime, extra: Sequence[Write] = ()) -> bool:
    """Commit a step with its records, and all that follows from it; False where someone else came first."""
    before = work.value
    records: list[Record] = []
    try:
        step, writes, more = _with_consequences(run, work, step, now)
        records = [*_records(before, step, now), *more]
        work.store.commit_all(records, work.held.replaced(step.restore), *writes, *extra)
    except Conflict:
        log.info("%s: someone else took it on", work.held.path)
        return False
    if records:
        run.told.add(work.store.tenant)
    if step.restore.pre_restore is not None and before.pre_restore is None:
        hints.start_points(run.ports.bus, [[PointRef(work.store.tenant, step.restore.pre_restore)]])
    return True


def _with_consequences(
    run: _Run, work: _Work, step: Step, now: datetime
) -> tuple[Step, list[Write], list[Record]]:  # fmt: skip
    """The step, what else is written with it, and the records of that."""
    before, after = work.value, step.restore
    if before.state == "approved" and after.state == "running":
        return step, _held_still(work), []
    if _is_past(after, "pre_restore") and not _is_past(before, "pre_restore"):
        return _with_point(work, step, now)
    if before.state in rules.LIVING and after.state not in rules.LIVING:
        writes, records = _ending(run, work, after, now)
        return step, writes, records
    if rules.has_begun(after, "stop") and not rules.has_begun(before, "stop"):
        held = _instance(work)
        marked = held.replaced(replace(held.value, restoring=after.id, updated_at=now)) if held else None
        return step, [marked] if marked else [], []
    return step, [], []


def _is_past(restore: d.Restore, name: str) -> bool:
    return any(one.name == name and one.state == "done" for one in restore.steps)


def _instance(work: _Work) -> Held[d.Instance] | None:
    return work.store.get(d.Instance, "instances", work.value.instance.id)


def _held_still(work: _Work) -> list[Write]:
    """A restore that begins holds its set, also where somebody has released that meanwhile."""
    restore = work.value
    point = work.store.get(d.Point, "points", restore.recovery_point)
    held = claims.with_hold(point.value, restore) if point is not None else None
    return [point.replaced(held)] if point is not None and held is not None and held != point.value else []


def _with_point(work: _Work, step: Step, now: datetime) -> tuple[Step, list[Write], list[Record]]:
    """The point of the state before, requested in the same commit. Where none can be, that is noted and passed over."""
    restore, owner = step.restore, work.tenant.value
    held = _instance(work)
    if held is None or held.value.lost_at is not None or owner.has_left(now):
        why = d.Failure(code="not_protected", message=f"no point is taken of {restore.instance.name} now")
        noted = [replace(one, failure=why) if one.name == "pre_restore" else one for one in restore.steps]
        return replaced(step, restore=replace(restore, steps=noted)), [], []
    point = creation.pre_restore_point(owner, held.value, restore.id, now)
    record = Record(
        at=now,
        actor=ACTOR,
        action="point.requested",
        subject=f"points/{point.id}",
        outcome="requested",
        detail={"instance": held.value.name, "reason": point.reason, "restore": restore.id},
    )
    after = creation.after_transition(held.value, owner, None, point)
    writes: list[Write] = [created(work.store.path("points", point.id), point), held.replaced(after)]
    return replaced(step, restore=replace(restore, pre_restore=point.id)), writes, [record]


# --- the end ------------------------------------------------------------------------------------------------------


def _ending(run: _Run, work: _Work, after: d.Restore, now: datetime) -> tuple[list[Write], list[Record]]:
    """What is written with the end of a restore: nothing of it holds, claims or keeps anything any more."""
    store = work.store
    point = store.get(d.Point, "points", after.recovery_point)
    freed = claims.without_hold(point.value, after, now) if point is not None else None
    writes = claims.released_rest(store, after, now)
    instance = _instance(work)
    marked = instance.value if instance is not None else None
    if marked is not None and marked.restoring == after.id:
        marked = replace(marked, restoring=None, updated_at=now)
    if work.undone is not None and after.state == "completed":
        writes.append(work.undone.replaced(former.returned(work.undone.value, now)))
    records = []
    if after.purpose == "test" and freed is not None:
        passed = _is_past(after, "check")
        told = testing.concluded(after, work.tenant.value, freed, passed, after.failure, now)
        writes.append(work.tenant.replaced(told.tenant))
        records.append(_test_record(work, after, told, now))
        if told.point != freed and marked is not None:
            stored = [one.value for one in store.walk(d.Point, "instance_points", marked.id)]
            marked = testing.weighed_after(marked, told.tenant, freed, told.point, stored, now)
            run.weighed.add(store.tenant)
        freed = told.point
    elif after.purpose == "test":
        tenant, said = testing.given_up(after, work.tenant.value, now)
        writes.append(work.tenant.replaced(tenant))
        event = Event("restore_test.failed", after.id, said)
        records.append(Record(now, ACTOR, event.type, f"restores/{after.id}", "failed", said, event))
    if point is not None and freed is not None and freed != point.value:
        writes.append(point.replaced(freed))
    if instance is not None and marked is not None and marked != instance.value:
        writes.append(instance.replaced(marked))
    return writes, records


def _test_record(work: _Work, after: d.Restore, told: testing.Conclusion, now: datetime) -> Record:
    passed = told.event_type == "restore_test.passed"
    return Record(
        at=now,
        actor=ACTOR,
        action=told.event_type,
        subject=f"restores/{after.id}",
        outcome="succeeded" if passed else "failed",
        detail=told.data,
        event=Event(told.event_type, after.id, told.data),
    )


# --- records ------------------------------------------------------------------------------------------------------


def _records(before: d.Restore, step: Step, now: datetime) -> list[Record]:
    """What a step is told by; none where only bookkeeping is written."""
    after = step.restore
    detail: dict[str, Any] = {"instance": after.instance.name, "point": after.recovery_point, "mode": after.mode}
    if step.intents:
        detail["changes"] = [cloud.audit_body(change) for change in step.intents]
    if step.outcomes:
        detail["outcomes"] = [one.body for one in step.outcomes]
    told = _action(before, after, step)
    if told is None:
        return []
    action, outcome = told
    ended = before.state in rules.LIVING and after.state not in rules.LIVING
    if (ended or action == "restore.abandoned") and after.failure is not None:
        detail["failure"] = {"code": after.failure.code, "message": after.failure.message}
    if after.left and not before.left:
        detail["left"] = after.left
    if ended and after.checks:
        detail["checks"] = [{"name": one.name, "state": one.state, "detail": one.detail} for one in after.checks]
    event = _event(after, now) if ended and before.state == "running" and after.purpose != "test" else None
    return [Record(now, ACTOR, action, f"restores/{after.id}", outcome, detail, event)]


def _action(before: d.Restore, after: d.Restore, step: Step) -> tuple[str, Outcome] | None:
    if before.state not in rules.LIVING:
        moved = step.intents or step.outcomes or after.former != before.former or after.left != before.left
        return ("restore.former_deleted", "requested" if step.intents else "observed") if moved else None
    if after.state != before.state:
        match after.state:
            case "running":
                return "restore.started", "requested"
            case "completed":
                return "restore.completed", "succeeded"
            case "failed":
                return "restore.failed", "failed"
            case _:
                return "restore.cancelled", "observed"
    if after.abandoned is not None and before.abandoned is None:
        return "restore.abandoned", "failed"
    if step.intents:
        return "restore.step", "requested"
    if step.outcomes:
        return "restore.step", "failed" if any(one.outcome == "failed" for one in step.outcomes) else "succeeded"
    return None


def _event(after: d.Restore, now: datetime) -> Event:
    """That a restore which was begun has ended."""
    to = after.target
    data: dict[str, Any] = {
        "restore": after.id,
        "point": after.recovery_point,
        "mode": after.mode,
        "instance": after.instance.name,
        "target": {"name": to.name, "project": to.project, "region": to.region, "zone": to.zone},
        "took_s": int((now - (after.started_at or now)).total_seconds()),
    }
    done = after.state == "completed"
    why = after.failure or (None if done else d.Failure(code=after.state, message=""))
    if why is not None:
        data["failure"] = {"code": why.code, "message": why.message}
    if done:
        return Event("restore.completed", after.id, data)
    return Event("restore.failed", after.id, data | ({"left": after.left} if after.left else {}))


# --- asking -------------------------------------------------------------------------------------------------------


def _ask(run: _Run, work: _Work, step: Step) -> None:
    """Ask for what a committed step begins, and note what was answered."""
    if not step.starts or (not _has_changed_anything(work.value) and run.paused(work, "restore")):
        return  # what may be asked for at a later look is asked for then
    operations: dict[str, str] = {}
    refusals: dict[str, d.Failure] = {}
    fault: Transient | None = None
    for change in step.starts:
        request = cloud.request_id(change)
        try:
            answer = _ask_one(run, work, change, request)
        except Transient as met:
            log.warning("%s: %s: %r", work.held.path, change.link, met)
            fault = met
            continue  # the breaker knows whether the next one is worth a call
        except Refused as refusal:
            why = _failure(refusal)
            refusals[request] = replace(why, message=rules.discreet(work.value, why.message))
            log.warning("%s: %s: %s", work.held.path, change.link, refusals[request])
            continue
        if isinstance(answer, d.Failure):
            refusals[request] = answer
        elif answer is not None:
            operations[request] = answer
    _note_answers(run, work, operations, refusals, fault)


def _has_changed_anything(restore: d.Restore) -> bool:
    """Whether anything that it has asked for is known to have been heard."""
    asked = any(ask.operation for step in restore.steps for ask in step.asks)
    return asked or restore.abandoned is not None or any(disk.operation or disk.id for disk in restore.disks)


def _ask_one(run: _Run, work: _Work, change: Change, request: str) -> str | d.Failure | None:
    """Ask for one change, if it is still what was meant, stays where it may, and nobody has paused it by now.

    None: not asked, or something of that name is there already: the next look says which. Raises Transient, Refused.
    """
    match change:
        case InsertDisk() | InsertInstance():
            owner = work.store.get(d.Tenant)
            now = run.ports.clock.now()
            allowed = rules.regions_of(work.value, owner.value, now) if owner is not None else set()
            outside = refuse_residency(change, allowed)
            if outside is not None:
                log.error("%s: %s", work.held.path, outside.message)
                return outside
            try:
                return run.compute.start(change, request)
            except Refused as refusal:
                if refusal.code == 409:
                    return None
                raise
        case DeleteDisk():
            disk = run.compute.get(Disk, change.link)
            if disk is None or disk.id != change.id or disk.users or run.paused(work, "deletion"):
                return None
        case DeleteInstance():
            machine = run.compute.get(Machine, change.link)
            if machine is None or machine.id != change.id or run.paused(work, "deletion"):
                return None
        case cloud.SetDiskLabels():
            labelled = run.compute.get(Disk, change.link)
            if labelled is None or labelled.id != change.id:
                return None
        case cloud.StopInstance() | cloud.StartInstance() | cloud.AttachDisk() | cloud.DetachDisk():
            machine = run.compute.get(Machine, change.link)
            if machine is None or machine.id != change.id:
                return None
        case _:
            raise AssertionError(f"no restore asks for {change}")
    return run.compute.start(change, request)


def _note_answers(
    run: _Run, work: _Work, operations: dict[str, str], refusals: dict[str, d.Failure], fault: Transient | None
) -> None:
    """Commit what the requests were answered. After a Conflict, read-back finds it out all the same."""
    current = work.store.get(d.Restore, "restores", work.value.id)
    if current is None:
        return
    now = run.ports.clock.now()
    why = _failure(fault) if fault else None
    if current.value.state == "completed":
        step = former.answered(current.value, operations, refusals, now)
    else:
        answer = life.answered(current.value, work.store.tenant, operations, refusals, why, now)
        if answer is None:
            return
        step = answer
    _commit(run, replaced(work, held=current), step, now)


# --- former disks -------------------------------------------------------------------------------------------------


def _remove_former(run: _Run, work: _Work, now: datetime) -> bool:
    """The disks that a restore in place has kept: its time is over, unless something keeps them longer."""
    restore = work.value
    if not former.due(restore, now):
        _note(work, replace(restore, next_at=restore.keep_until))
        return False
    claim = claims.claim_of(work.store, restore)
    if claim is not None and claim.value.restore is not None:
        _note(work, replace(restore, next_at=now + CLAIMED_LOOK))  # perhaps it is about to attach them again
        return False
    disks, operations = former.wanted(restore)
    try:
        asked = {link: run.compute.get(Operation, link) for link in sorted(operations)}
        facts = Facts(disks={link: run.compute.get(Disk, link) for link in sorted(disks)}, operations=asked)
    except (Transient, Refused) as fault:
        _note(work, life.postponed(restore, _failure(fault), now))
        return False
    step = former.remove(restore, facts, now, kept_by=_kept_by(run, work, now))
    # Who would attach them takes the claim first: it was free when this was decided, and must be so when it is written.
    touched = [claim.replaced(replace(claim.value, updated_at=now))] if claim is not None and step.starts else []
    if _commit(run, work, step, now, touched):
        _ask(run, work, step)
    return False


def _kept_by(run: _Run, work: _Work, now: datetime) -> str | None:
    """What keeps everything of the instance for now."""
    if run.paused(work, "deletion"):
        return "deletion is paused"
    instance = _instance(work)
    holds: Sequence[d.Hold] = [*work.tenant.value.holds, *(instance.value.holds if instance is not None else [])]
    return next((f"held: {hold.reason}" for hold in holds if hold.stands(now)), None)

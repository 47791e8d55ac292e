"""Functions `retention` and `expire`: the points that nobody wants any more go, and it is written down why.

`retention` finds the instances whose points are to be weighed, or whose deletions are to be read back, and hands them
to `expire` tenant by tenant. Points at home and their copies are weighed, marked and deleted alike, each region's by
themselves; a commit writes a point once, whatever of its sets change. Everything here may run twice at once and die
between any two lines: what is to be deleted is committed before it is deleted, in one commit with all that could have
kept it, and gone is what was read to be gone.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from dataclasses import replace as replaced
from datetime import date, datetime, timedelta
from itertools import groupby
from typing import Any, Final, NamedTuple, assert_never

import msgspec
from msgspec.structs import replace

from snapkeep import cloud, hints
from snapkeep import documents as d
from snapkeep.breaker import Breaker
from snapkeep.cloud import DeleteSnapshot, Snapshot
from snapkeep.copies import rules as copies
from snapkeep.copies import sets
from snapkeep.creation.rules import SnapshotOutcome, to_be_weighed
from snapkeep.creation.slots import slot_of
from snapkeep.messages import INSTANCES_PER_MESSAGE_MAX, BadMessage, ExpireBatch, Message, Nudge, Tick, not_for
from snapkeep.ports import Conflict, Ports, Refused, Transient, Write
from snapkeep.retention import deletion, orphans, rules
from snapkeep.retention.deletion import Step
from snapkeep.store import SYSTEM, Event, Fleet, Held, Record, TenantStore, timestamp

log: Final = logging.getLogger(__name__)

ACTOR: Final = "snapkeep"

DELETES_PER_RUN_MAX: Final = 100
"""Snapshots whose deletion one run begins, for one tenant; a set with more of them goes all the same, alone."""

POINTS_AT_ONCE: Final = 20
"""Sets of one instance that one commit changes, and whose deletion is under way at once: with the definitions and
disks of their points they stay below the 10 MiB of a commit."""

NEXT_TICK: Final = timedelta(minutes=5)
"""When work that a run left is due again: at the next tick."""

POSTPONED: Final = timedelta(minutes=20)
"""The same where a project gave no answer: at the next tick but one, so that an ill project keeps nobody waiting."""

PAUSED: Final = timedelta(hours=1)
"""The same where deletion is paused; resuming it sends a nudge."""

STUCK_ATTEMPTS: Final = 8
"""Times that a set's snapshots were asked to go, in about 17 hours, after which people are told once. It is asked
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
class _Set:
    """One set of a point, as both were read."""

    stored: Held[d.Point]
    region: str | None  # of a copy; None: at home

    @property
    def name(self) -> str:
        return sets.name_of(self.stored.value.id, self.region)

    @property
    def point(self) -> d.Point:
        return sets.as_point(self.stored.value, self.region)

    @property
    def vault(self) -> str:
        return self.stored.value.vault_project

    @property
    def origin(self) -> deletion.Origin:
        return deletion.origin(self.stored.value, self.region)


def _merged(changes: Iterable[tuple[_Set, d.Point]]) -> list[tuple[Held[d.Point], d.Point]]:
    """What becomes of points whose sets become this: each once, as it was read and as it is to be."""
    after: dict[str, tuple[Held[d.Point], d.Point]] = {}
    for one, changed in changes:
        stored, whole = after.get(one.stored.path, (one.stored, one.stored.value))
        after[one.stored.path] = (stored, sets.with_set(whole, one.region, changed))
    return [(stored, sets.settled(whole)) for stored, whole in after.values()]


def _with_copies(run: _Run, instance: d.Instance, changed: Iterable[tuple[Held[d.Point], d.Point]]) -> d.Instance:
    """The instance with its copies counted as they are after these points have changed."""
    bought = copies.entitled(run.tenant.value, run.now)
    work = instance.copies
    for before, after in changed:
        work = copies.counted(work, before.value, after, bought.region if bought else None)
    return replace(instance, copies=work)


@dataclass(frozen=True, slots=True)
class _Begun:
    """An instance's sets whose deletion has begun, and what was read of their snapshots."""

    sets: Sequence[_Set]
    found: Mapping[str, Mapping[str, Snapshot] | None]  # by vault project; None: it gave no answer


def _begun(run: _Run, instances: Sequence[Held[d.Instance]]) -> dict[str, _Begun]:
    """Read back what was begun: one list call of a vault for all of these instances, where their names fit one."""
    begun = {
        instance.value.id: _sets_of(run, instance.value.retention.deleting)
        for instance in instances
        if instance.value.retention.deleting
    }
    names: dict[str, set[str]] = defaultdict(set)
    for one in (one for some in begun.values() for one in some):
        names[one.vault] |= {ref.name for ref in deletion.left(one.point)}
    found = {vault: run.find(vault, wanted) for vault, wanted in names.items()}
    return {id: _Begun(some, found) for id, some in begun.items()}


def _sets_of(run: _Run, names: Iterable[str]) -> list[_Set]:
    """Those of the sets of these names that are stored and readable."""
    named = [sets.named(name) for name in names]
    points = run.store.get_all(d.Point, "points", list(dict.fromkeys(id for id, _ in named)))
    by_id = {point.value.id: point for point in points}
    return [
        _Set(by_id[id], region)
        for id, region in named
        if id in by_id and (region is None or region in by_id[id].value.copies)
    ]


def _carry_on(run: _Run, instance: Held[d.Instance], begun: _Begun) -> tuple[Held[d.Instance] | None, datetime | None]:
    """Commit what has become of an instance's deletions, and ask again for what is still there.

    Returns the instance as it is stored then (None where another run took it on), and when to look again at what is
    left of them.
    """
    store, now = run.store, run.now
    steps: list[tuple[_Set, Step]] = []
    living: list[str] = []
    looks: list[datetime] = []
    for one in begun.sets:
        point = one.point
        if not deletion.has_begun(point):
            continue  # another run has ended it
        found = begun.found[one.vault]
        paused = run.paused(instance.value.project, one.vault) or run.held(instance.value)
        step = None
        if found is not None:
            may_ask = not paused and run.budget > 0
            step = deletion.read_back(point, store.tenant, one.origin, found, now, may_ask=may_ask)
        if step is not None:
            steps.append((one, step))
            run.budget -= len(step.asks)
        if step is None or step.point.state != "deleted":
            living.append(one.name)
            looks.append(_next_look(step.point if step else point, now, answered=found is not None, paused=paused))
    changed = _merged((one, step.point) for one, step in steps)
    deleted = {one.name: step.point for one, step in steps if step.point.state == "deleted"}
    after = _with_copies(run, _without(run, instance.value, deleted), changed)
    look_at = min(looks, default=None)
    after = replace(
        after,
        retention=replace(after.retention, deleting=living),
        retention_at=_earliest(look_at, after.retention.plan_at),
    )
    records = [_step_record(run, one, step) for one, step in steps]
    writes: list[Write] = [instance.replaced(after), *(point.replaced(whole) for point, whole in changed)]
    try:
        store.commit_all(records, *writes)
    except Conflict:
        log.info("%s: someone else took it on", instance.path)
        return None, None
    run.changed |= bool(steps)
    _ask_for(run, instance.value, [(one, step) for one, step in steps if step.asks])
    return store.get(d.Instance, "instances", instance.value.id), look_at


def _earliest(*times: datetime | None) -> datetime | None:
    return min((time for time in times if time is not None), default=None)


def _next_look(point: d.Point, now: datetime, *, answered: bool, paused: bool) -> datetime:
    """When to look again at a set that is still there."""
    if not answered:
        return now + POSTPONED
    if deletion.asked_at(point) == now:
        return now + deletion.FIRST_LOOK
    return max(deletion.ask_again_at(point), now + (PAUSED if paused else NEXT_TICK))


def _without(run: _Run, instance: d.Instance, deleted: Mapping[str, d.Point]) -> d.Instance:
    """The instance after these sets, by name, are gone from it."""
    if not deleted:
        return instance
    newest = instance.newest_verified
    stored: list[d.Point] = []
    if newest is not None and newest.point in deleted:
        stored = [p for p in _stored_points(run, instance.id) if p.id not in deleted]
    return deletion.after_deletion(instance, deleted, stored, run.now)


def _stored_points(run: _Run, instance: str) -> list[d.Point]:
    return [point.value for point in run.store.walk(d.Point, "instance_points", instance)]


def _step_record(run: _Run, one: _Set, step: Step) -> Record:
    """The audit record of a deletion's step: that it is over, or that it is asked for again."""
    before, after = one.point, step.point
    words = _words(one)
    detail = _detail(one, after)
    attempts = before.expiry.attempts if before.expiry else 0
    detail["outcomes"] = [_outcome(outcome, attempts) for outcome in step.outcomes]
    data = _event_data(one, after)
    if step.asks:
        detail["changes"] = list(deletion.changes_of(step.asks))
        stuck = None
        if attempts == STUCK_ATTEMPTS:
            failure = before.expiry.failure if before.expiry else None
            data["failure"] = {"code": failure.code, "message": failure.message} if failure else None
            stuck = Event(words.stuck, f"{_transition(one, before)}|stuck", data)
        return Record(run.now, ACTOR, words.repeated, f"points/{after.id}", "requested", detail, stuck)
    event = Event(words.deleted, f"{_transition(one, before)}|deleted", data)
    return Record(run.now, ACTOR, words.deleted, f"points/{after.id}", "succeeded", detail, event)


class _Words(NamedTuple):
    """What records and events call the end of a set."""

    deleting: str
    repeated: str
    stuck: str
    deleted: str


POINT: Final = _Words("point.deleting", "point.deletion_repeated", "point.deletion_stuck", "point.deleted")
COPY: Final = _Words("copy.deleting", "copy.deletion_repeated", "copy.deletion_stuck", "copy.deleted")


def _words(one: _Set) -> _Words:
    return POINT if one.region is None else COPY


def _transition(one: _Set, point: d.Point) -> str:
    """Names this end of the set. A copy may be made again and end again; a point at home ends once."""
    if one.region is None or point.expiry is None:
        return one.name
    return f"{one.name}|{point.expiry.decided_at.isoformat()}"


def _detail(one: _Set, point: d.Point) -> dict[str, Any]:
    return {
        "instance": point.instance.name,
        **({"region": one.region} if one.region else {}),
        "trigger": point.trigger,
        "reason": point.expiry.reason if point.expiry else "",
    }


def _event_data(one: _Set, point: d.Point) -> dict[str, Any]:
    return {
        "point": point.id,
        **({"region": one.region} if one.region else {}),
        "instance": point.instance.name,
        "zone": point.instance.zone,
        **({"day": point.slot.day} if point.slot else {}),
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
    try:
        by_region = sets.by_region(point.value for point in points.values())
        plans = [_plan(run, instance.value, region, stored) for region, stored in by_region.items()]
    except (rules.UnsafePlan, ValueError) as unsafe:
        # ValueError: a document that says what cannot be. It stops its own instance, and nobody else's.
        _refuse(run, instance, str(unsafe), look_at)
        return
    vaults = {point.value.vault_project for point in points.values()}
    paused = {vault for vault in vaults if run.paused(instance.value.project, vault)}
    forgotten = {name for one in plans for name in one.deleting} - {*work.deleting}
    if forgotten:  # its document could not be read for a while
        work = replace(work, deleting=[*work.deleting, *sorted(forgotten)])
        look_at = _earliest(look_at, now + deletion.FIRST_LOOK)
    marks = [mark for one in plans for mark in _marks(one, points, now, paused)]
    deletes = [(one, plan) for plan in plans for one in _deletes(plan, points, paused)]
    settled = _mark(run, instance.value, marks, plans[0].known)
    chosen = _chosen(run, work, [one for one, _ in deletes])
    next_change = min(one.plan.next_change for one in plans)
    plan_at = next_change
    if marks:
        plan_at = min(plan_at, now + rules.EXPIRY_GRACE)  # when the grace of what expires now is over
    if not settled or len(chosen) < len(deletes) or any(_lets_go_next(mark, now) for _, mark in marks):
        # With as many under way as may be, there is no use in weighing before one of them is gone.
        full = len(work.deleting) + len(chosen) >= POINTS_AT_ONCE
        plan_at = (look_at if full else None) or now + (POSTPONED if run.silent else NEXT_TICK)
    if paused:
        plan_at = min(next_change, now + PAUSED)
    regions = {one.region for one, _ in chosen}
    whole = {one.region for one in plans if one.region in regions and _newest_is_there(run, one)}
    if regions - whole:
        chosen, plan_at = [(one, point) for one, point in chosen if one.region in whole], now + PAUSED
    going = [point for one in plans for point in one.going]
    work = replace(
        work,
        plan_at=plan_at,
        going=len(going),
        going_bytes=sum(map(deletion.bytes_of, going)),
        incomplete=sum(bool(each.point.gone) for one in plans for each in one.plan.decisions),
    )
    after = replace(instance.value, override=instance.value.override if paused else None, retention=work)
    reasons = {one.name: plan.reason_of(one.name) for one, plan in deletes}
    steps = [(one, deletion.begin(point, reasons[one.name], now)) for one, point in chosen]
    _begin(run, instance, after, steps, look_at)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is decided about an instance's sets in one region."""

    region: str | None
    known: rules.Situation
    plan: rules.RetentionPlan
    going: Sequence[d.Point]  # what will be on its way out within AHEAD

    @property
    def deleting(self) -> list[str]:
        """Names of the sets whose deletion has begun."""
        decided = [one.point.id for one in self.plan.decisions if isinstance(one.decision, rules.Deleting)]
        return [sets.name_of(id, self.region) for id in decided]

    def reason_of(self, name: str) -> str:
        """Why a set goes."""
        return next(
            one.decision.reason
            for one in self.plan.decisions
            if isinstance(one.decision, rules.Delete) and sets.name_of(one.point.id, self.region) == name
        )


def _plan(run: _Run, instance: d.Instance, region: str | None, stored: Sequence[d.Point]) -> _Plan:
    """Raises UnsafePlan, and ValueError for a document that says what cannot be."""
    known = rules.situation(run.tenant.value, instance, run.now, region=region)
    plan = rules.plan(stored, known, run.now)
    # In a breach nobody knows when it ends: until then nothing goes. Of what is not bought nothing is made any more.
    scheduled = None if known.in_breach or known.unbought else _slots(run.tenant.value, instance)
    then = rules.forecast(stored, known, run.now, run.now + AHEAD, scheduled=scheduled)
    going = [one.point for one in then.decisions if isinstance(one.decision, rules.Delete | rules.Deleting)]
    return _Plan(region, known, plan, going)


def _slots(tenant: d.Tenant, instance: d.Instance) -> Callable[[date], datetime | None] | None:
    """When the schedule takes a point on each day; None where it takes nothing."""
    if not tenant.vendor_managed or instance.lost_at is not None:
        return None

    def scheduled(day: date) -> datetime | None:
        slot = slot_of(day, instance.id, tenant)
        return slot.at if slot else None

    return scheduled


def _marks(
    one: _Plan, points: Mapping[str, Held[d.Point]], now: datetime, paused: Set[str]
) -> list[tuple[_Set, d.Point]]:
    """The sets that are to be marked, and as what, the oldest first.

    Of those in a vault where deletion is `paused` none is marked; those that are called back are.
    """
    override = one.known.override if one.known.in_breach else None
    marks: list[d.Point] = []
    for decided in reversed(one.plan.decisions):
        point = decided.point
        match decided.decision:
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
            case rules.Wait() | rules.Delete():
                pass
            case _:
                assert_never(decided.decision)
    return [(_Set(points[mark.id], one.region), mark) for mark in marks]


def _deletes(one: _Plan, points: Mapping[str, Held[d.Point]], paused: Set[str]) -> list[_Set]:
    """The sets that are to go, the oldest first: none that is still to be marked, nor in a vault that is paused."""
    overrides = one.known.in_breach and one.known.override is not None
    return [
        _Set(points[decided.point.id], one.region)
        for decided in reversed(one.plan.decisions)
        if isinstance(decided.decision, rules.Delete)
        and decided.point.vault_project not in paused
        and not (overrides and decided.point.expiry and decided.point.expiry.override is None)
    ]


def _mark(run: _Run, instance: d.Instance, marks: Sequence[tuple[_Set, d.Point]], known: rules.Situation) -> bool:
    """Commit what expires and what is called back; False where someone else changed one of them."""
    settled = True
    # The sets of a point together, so that no commit meets another of this run.
    ordered = sorted(marks, key=lambda mark: mark[0].stored.path)
    for some in _of_few_points(ordered):
        detail: dict[str, Any] = {"instance": instance.name}
        expiring = [(one, point, point.expiry) for one, point in some if point.expiry is not None]
        at_home = [(point, expiry) for one, point, expiry in expiring if one.region is None]
        if at_home:
            detail["expiring"] = [{"point": point.id, "reason": expiry.reason} for point, expiry in at_home]
            detail["delete_after"] = max(expiry.delete_after for _, expiry in at_home)
        called_back = [(one, point) for one, point in some if point.expiry is None]
        if called_back:
            detail["called_back"] = [
                {"point": point.id, **({"region": one.region} if one.region else {}), "state": point.state}
                for one, point in called_back
            ]
        if known.override and known.in_breach:
            detail["override"] = known.override
        subject = f"instances/{instance.id}"
        records = [_expired(run, one, point) for one, point, _ in expiring if one.region is not None]
        if at_home or called_back:
            records.append(Record(run.now, ACTOR, "retention.decided", subject, "succeeded", detail))
        try:
            run.store.commit_all(records, *(stored.replaced(whole) for stored, whole in _merged(some)))
        except Conflict:
            log.info("instances/%s: someone else changed one of its points; it is weighed again", instance.id)
            settled = False
            continue
        run.changed = True
    return settled


def _of_few_points(marks: Sequence[tuple[_Set, d.Point]]) -> Iterator[list[tuple[_Set, d.Point]]]:
    """The marks of POINTS_AT_ONCE points at a time."""
    by_point = [list(some) for _, some in groupby(marks, key=lambda mark: mark[0].stored.path)]
    for start in range(0, len(by_point), POINTS_AT_ONCE):
        yield [mark for some in by_point[start : start + POINTS_AT_ONCE] for mark in some]


def _expired(run: _Run, one: _Set, point: d.Point) -> Record:
    """The record that a copy has begun to expire, or goes on doing so by an override; and its event."""
    assert point.expiry is not None
    data = _event_data(one, point) | {"delete_after": timestamp(point.expiry.delete_after)}
    detail = _detail(one, point) | {"delete_after": point.expiry.delete_after}
    detail |= {"override": point.expiry.override} if point.expiry.override else {}
    event = Event("copy.expired", f"{_transition(one, point)}|expired", data)
    return Record(run.now, ACTOR, "copy.expired", f"points/{point.id}", "succeeded", detail, event)


def _lets_go_next(mark: d.Point, now: datetime) -> bool:
    """Whether a mark that is being set is of a point that may go at the next look: its grace is over."""
    return mark.expiry is not None and mark.expiry.delete_after <= now


def _newest_is_there(run: _Run, one: _Plan) -> bool:
    """Whether Compute Engine holds the newest set that can be restored, right before older ones go because of it.

    What nobody has read since it was verified may have been deleted behind our back. Of a lost instance, and of copies
    that are not bought, it does not matter (nothing there is kept for being the newest), nor where none can be
    restored.
    """
    newest = next((each.point for each in one.plan.decisions if rules.restorable(each.point)), None)
    if newest is None or one.known.lost_at is not None or one.known.unbought is not None:
        return True
    refs = [disk.snapshot for disk in newest.disks]
    found = run.find(newest.vault_project, [ref.name for ref in refs])
    there = found is not None and all(
        ref.name in found and found[ref.name].id == ref.id and found[ref.name].status == "READY" for ref in refs
    )
    if not there:
        log.warning("%s: nothing older goes: it cannot be read to be whole", sets.name_of(newest.id, one.region))
    return there


def _chosen(run: _Run, work: d.RetentionWork, deletes: Sequence[_Set]) -> list[tuple[_Set, d.Point]]:
    """Those of the sets to delete that this run begins with, as Points with every id that is known."""
    deletes = deletes[: max(POINTS_AT_ONCE - len(work.deleting), 0)]
    missing: dict[str, set[str]] = defaultdict(set)
    for one in deletes:
        missing[one.vault] |= set(deletion.names_without_id(one.point))
    found = {vault: run.find(vault, names) for vault, names in missing.items()}
    chosen: list[tuple[_Set, d.Point]] = []
    for one in deletes:
        there = found[one.vault]
        if there is None:
            continue
        known = deletion.adopted(one.point, run.store.tenant, one.origin, there)
        size = len(deletion.known(known))
        if size > run.budget and run.budget < DELETES_PER_RUN_MAX:
            break
        run.budget = max(run.budget - size, 0)
        chosen.append((one, known))
    return chosen


def _begin(
    run: _Run,
    instance: Held[d.Instance],
    after: d.Instance,
    steps: Sequence[tuple[_Set, Step]],
    look_at: datetime | None,
) -> None:
    """Commit the beginning of these deletions with all that could have kept the sets, then ask for them."""
    if not steps:
        _note(run, instance, after, look_at)
        return
    now = run.now
    changed = _merged((one, step.point) for one, step in steps)
    after = _with_copies(run, after, changed)
    after = replace(
        after,
        retention=replace(after.retention, deleting=[*after.retention.deleting, *(one.name for one, _ in steps)]),
        retention_at=_earliest(look_at, now + deletion.FIRST_LOOK),
        updated_at=now,
    )
    records = [
        Record(
            now,
            ACTOR,
            _words(one).deleting,
            f"points/{step.point.id}",
            "requested",
            _detail(one, step.point) | {"changes": list(deletion.changes_of(step.asks))},
        )
        for one, step in steps
    ]
    records += _used_up(run, instance.value, after)
    try:
        run.store.commit_all(
            records,
            *(stored.replaced(whole) for stored, whole in changed),
            instance.replaced(after),
            # Unchanged, so that a hold on the tenant that was committed meanwhile is met here.
            run.tenant.replaced(run.tenant.value),
        )
    except Conflict:
        log.info("%s: something of it or of its tenant has changed; it is weighed again", instance.path)
        return
    run.changed = True
    _refresh_tenant(run)
    _ask_for(run, instance.value, steps)


def _refresh_tenant(run: _Run) -> None:
    """The tenant with the version that our own commit gave it, for the next instance of this run."""
    tenant = run.store.get(d.Tenant)
    if tenant is not None and tenant.value == run.tenant.value:
        run.tenant = tenant


def _note(run: _Run, instance: Held[d.Instance], after: d.Instance, look_at: datetime | None) -> None:
    """Commit when the instance is looked at next, and what people are shown of it."""
    before = instance.value
    after = replace(after, retention_at=_earliest(look_at, after.retention.plan_at))
    if _shown(after) != _shown(before):
        after = replace(after, updated_at=run.now)
        run.changed = True
    try:
        run.store.commit_all(_used_up(run, before, after), instance.replaced(after))
    except Conflict:
        log.info("%s: someone else changed it; it is weighed again", instance.path)


def _shown(instance: d.Instance) -> tuple[object, ...]:
    """What people are shown of an evaluation."""
    work = instance.retention
    return work.going, work.going_bytes, work.incomplete, instance.override


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


def _ask_for(run: _Run, instance: d.Instance, steps: Sequence[tuple[_Set, Step]]) -> None:
    """Ask for the deletions of committed steps, and note what stood in the way. Each is asked for only if nobody has
    stopped it in this moment."""
    for one, step in steps:
        faults = []
        for change in step.asks:
            if run.compute.nobody_answers or run.stopped(instance.id, change.project):
                break  # what is still there at the next look is asked for again
            if fault := _ask(run, change):
                faults.append(fault)
        if faults:
            _note_fault(run, one, faults[0])


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


def _note_fault(run: _Run, of: _Set, fault: Transient | Refused) -> None:
    """Write down what stood in the way of a set's deletion; the look that asks again tells it."""
    point = run.store.get(d.Point, "points", of.stored.value.id)
    if point is None:
        return
    now = _Set(point, of.region)
    if not deletion.has_begun(now.point):
        return
    failure = d.Failure(code=fault.reason or str(fault.code), message=str(fault)[:500])
    hindered = sets.with_set(point.value, of.region, deletion.hindered(now.point, failure))
    try:
        run.store.commit(None, point.replaced(hindered))
    except Conflict:
        log.info("%s: someone else took it on", point.path)

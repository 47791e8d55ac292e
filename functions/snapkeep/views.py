"""What people look at: the fleet, one tenant, points. Each view is a bounded number of reads, whatever the fleet.

States and ages are derived here, when read. The API sends these values as they are and the pages and the command line
show them, so that all three say the same.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import partial
from typing import Final, Literal, TypeVar, assert_never

import msgspec

from snapkeep import access
from snapkeep import documents as d
from snapkeep.copies import rules as copying
from snapkeep.copies import sets
from snapkeep.creation.rules import taken_at
from snapkeep.creation.slots import slot_of
from snapkeep.documents import TENANT_ID_WORD
from snapkeep.health import State, TestedAs, state, tested_as
from snapkeep.ports import Doc, Ports
from snapkeep.restore import planning, words
from snapkeep.restore import rules as restore_rules
from snapkeep.retention import deletion, rules
from snapkeep.store import QUERIES, SYSTEM, Fleet, Held, TenantStore, canonical, digest, readable, timestamp

T = TypeVar("T", bound=d.Stored)

PERIODS: Final[Mapping[str, timedelta]] = {
    "discover": timedelta(minutes=10),
    "plan": timedelta(minutes=5),
    "reconcile": timedelta(minutes=1),
    "audit": timedelta(minutes=5),
    "health": timedelta(minutes=5),
    "retention": timedelta(minutes=10),
    "entitlements": timedelta(hours=1),
    "restore_test": timedelta(hours=1),
}
"""Between two ticks of each function that has any: infra/functions.yaml, which is not deployed with the code."""

PERIODS_SILENT: Final = 3
SILENT_MIN: Final = timedelta(minutes=10)
"""A function is silent once its last tick is older than three periods, and than this: one tick may be late."""


CONTROLS: Final = "system/controls"

BAD_KINDS: Final = ("dead_letter", "rejected")
"""Kinds of bad messages, from the one that needs somebody first: each has its own page, so that none hides another."""


class BadCursor(Exception):
    """An `after` that no page of this list ended with."""


class BadMoment(Exception):
    """A moment that no plan can be made for."""


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A part of what the API answers."""


# --- the fleet ----------------------------------------------------------------------------------------------------


class TenantLine(Shown, frozen=True, kw_only=True):
    """One tenant among the others."""

    id: str
    name: str
    deployment: str
    state: State
    newest_verified_at: datetime | None  # of its worst instance; null: one of them has none
    breach_at: datetime | None
    unprotected: list[str]
    days: dict[str, str]  # local day -> verified | failed | missed
    counts: dict[str, int]
    bytes: int
    copies: dict[str, int]  # as in TenantHealth
    running: int
    going: int  # points that will be deleted within 7 days, as far as can be told
    going_bytes: int
    incomplete: int  # points and copies that lost a snapshot
    tested: TestedAs | None  # what restore tests say of it; null: none are wanted
    restore_tested: d.RestoreTested | None  # the last one that came to a result
    computed_at: datetime


class LastTick(Shown, frozen=True, kw_only=True):
    """When a function last carried out its tick to the end; null: never."""

    function: str
    at: datetime | None
    silent: bool  # it should have done so again by now


class FleetView(Shown, frozen=True, kw_only=True):
    """The fleet: totals, and one page of its tenants, those that need somebody first."""

    at: datetime  # now, by Snapkeep's clock: what ages are counted from
    version: str  # changes when anything in the view may have (`fleet_version`)
    totals: d.FleetHealth | None  # null until function `health` has run
    tenants: list[TenantLine]
    next: str | None  # `after` of the following page
    ticks: list[LastTick]
    bad_messages: list[d.Rejected]  # of the last 30 days: at most 10 of each kind, dead letters first, newest first


def fleet(ports: Ports, after: str | None = None, *, only: str | None = None) -> FleetView:
    """Reads: what `fleet_version` does, the totals, a page of 50 tenants, a tick for each function, 10 bad messages
    of each kind. Raises BadCursor.

    For whoever sees one tenant alone (`only`): the line of that tenant, and nothing that others have a part in.
    """
    if only is not None:
        return _fleet_of(ports, only)
    whole, now = Fleet(ports.documents), ports.clock.now()
    version = fleet_version(ports)  # read first: what changes while the rest is read has another version
    docs = whole.page_docs("health_worst_first", after=_after_tenant(after) if after else None)
    lines = [_line(tenant, now) for tenant in readable(d.TenantHealth, docs)]
    totals = whole.fleet_health()
    return FleetView(
        at=now,
        version=version,
        totals=totals.value if totals else None,
        tenants=lines,
        next=_next(docs, "health_worst_first", lambda doc: str(doc.data["worst_first"])),
        ticks=last_ticks(whole.ticks(), now),
        bad_messages=[
            bad for kind in BAD_KINDS for bad in _values(d.Rejected, whole.page_docs("rejected_newest", kind))
        ],
    )


def _fleet_of(ports: Ports, tenant: str) -> FleetView:
    """Reads one document."""
    version = fleet_version(ports, only=tenant)
    health, now = Fleet(ports.documents).tenant_health(tenant), ports.clock.now()
    return FleetView(
        at=now,
        version=version,
        totals=None,
        tenants=[_line(health, now)] if health else [],
        next=None,
        ticks=[],
        bad_messages=[],
    )


def fleet_version(ports: Ports, *, only: str | None = None) -> str:
    """A digest of what was changed last, and the minute, since ages grow while nothing changes.

    Four reads: the fleet's totals, what is paused, the newest health and the newest bad message, by what they hold.
    While it is still the instant of such a change (with a clock that stands, for as long as it does), others may join
    it: then all that carries this instant counts too, up to a page of 50 of health and of bad messages.

    What it may miss until the next change or the end of the minute: what a run that began earlier writes after a
    newer change (it carries the instant at which the run began), a tick, which the totals tell of later, and one of
    more than 50 changes of the same instant. For whoever sees one tenant alone (`only`) it is of that one's health,
    and of what is paused of it: it tells of nothing that happens to others.
    """
    whole, now = Fleet(ports.documents), ports.clock.now()
    if only is not None:
        paused = msgspec.to_builtins(controls(ports, only=only).paused)
        health = list(filter(None, ports.documents.get(f"health/{only}")))
        return _version([*health, Doc(CONTROLS, paused, None)], now)
    docs = list(filter(None, ports.documents.get("health/_fleet", CONTROLS)))
    for newest, all_at, field in (("health_newest", "health_at", "updated_at"), ("rejected_last", "rejected_at", "at")):
        last = whole.page_docs(newest)
        docs += last
        if last and last[0].data[field] >= now:
            docs += whole.page_docs(all_at, last[0].data[field])
    return _version(docs, now)


def _version(docs: Iterable[Doc], now: datetime) -> str:
    held = canonical([(doc.path, doc.data) for doc in docs])
    return f"{digest(held.decode())[:16]}|{now:%Y-%m-%dT%H:%M}"


def last_ticks(ticks: Mapping[str, datetime], now: datetime) -> list[LastTick]:
    """Of every function that has ticks, by name. Pure."""
    return [
        LastTick(
            function=function,
            at=ticks.get(function),
            silent=function not in ticks or now - ticks[function] > max(PERIODS_SILENT * period, SILENT_MIN),
        )
        for function, period in sorted(PERIODS.items())
    ]


def _line(tenant: Held[d.TenantHealth], now: datetime) -> TenantLine:
    health = tenant.value
    return TenantLine(
        id=tenant.path.removeprefix("health/"),
        name=health.name,
        deployment=health.deployment,
        state=state(health),
        newest_verified_at=health.newest_verified_at,
        breach_at=health.breach_at,
        unprotected=health.unprotected,
        days=health.days,
        counts=health.counts,
        bytes=health.bytes,
        copies=health.copies,
        running=health.running,
        going=health.going,
        going_bytes=health.going_bytes,
        incomplete=health.incomplete,
        tested=tested_as(health, now),
        restore_tested=health.restore_tested,
        computed_at=health.computed_at,
    )


# --- one tenant ---------------------------------------------------------------------------------------------------


Role = Literal["home", "copy"]


class RegionLine(Shown, frozen=True, kw_only=True):
    """What a tenant has in one region: points of the instances that are there, or copies."""

    region: str
    role: Role
    bought_until: str | None  # of copies that are bought: the last day of it
    ended_at: datetime | None  # of copies that no longer are: since when, as far as it was noted
    newest_at: datetime | None  # the moment that the newest set there can bring back
    without: list[str]  # NAME in ZONE of protected instances that have none there, though they should
    sets: int | None  # that are stored and complete; null: not told apart from those of another region
    bytes: int | None  # likewise


class TenantView(Shown, frozen=True, kw_only=True):
    at: datetime
    tenant: d.Tenant
    state: State | None  # null until function `health` has seen it
    health: d.TenantHealth | None
    regions: list[RegionLine]  # home first, then what is bought, then what no longer is
    instances: list[d.Instance]  # by id, at most a page of 200; `health.counts` has how many there are
    points: list[d.Point]  # newest first, at most a page of 50


def tenant(ports: Ports, id: str) -> TenantView | None:
    """Reads: two documents, a page of instances and a page of points."""
    whole = Fleet(ports.documents)
    found = whole.tenants_by_id([id]).get(id)
    if found is None:
        return None
    store, now = whole.tenant(id), ports.clock.now()
    health = whole.tenant_health(id)
    instances = _values(d.Instance, store.page_docs("tenant_instances"))
    return TenantView(
        at=now,
        tenant=found.value,
        state=state(health.value) if health else None,
        health=health.value if health else None,
        regions=regions(found.value, instances, now),
        instances=instances,
        points=_values(d.Point, store.page_docs("tenant_points")),
    )


def regions(owner: d.Tenant, instances: Sequence[d.Instance], now: datetime) -> list[RegionLine]:
    """The tenant's region map, from its own document and its instances'. Pure."""
    there = [one for one in instances if one.lost_at is None or one.tally.stored]
    homes = [_home(region, there) for region in sorted({one.region for one in there})]
    bought = copying.entitled(owner, now)
    known = {region for one in instances for region in one.copies.newest} | owner.copies_ended.keys()
    offered = owner.entitlements.inter_region_backup
    known |= {offered.region} if offered else set()
    others = sorted(known - ({bought.region} if bought else set()))
    ended = [_no_longer(region, owner, instances, now, others) for region in others]
    stored = [line for line in ended if line.sets != 0 or line.newest_at is not None]
    return [*homes, *([_bought(bought, instances)] if bought else []), *stored]


def _home(region: str, instances: Sequence[d.Instance]) -> RegionLine:
    here = [one for one in instances if one.region == region]
    return RegionLine(
        region=region,
        role="home",
        bought_until=None,
        ended_at=None,
        newest_at=max((one.newest_verified.at for one in here if one.newest_verified), default=None),
        without=[_in_zone(one) for one in here if one.lost_at is None and one.newest_verified is None],
        sets=sum(one.tally.stored for one in here),
        bytes=sum(one.tally.bytes for one in here),
    )


def _bought(bought: d.InterRegionBackup, instances: Sequence[d.Instance]) -> RegionLine:
    there = bought.region
    copies = [one.copies for one in instances]
    mixed = any(work.unentitled for work in copies)
    return RegionLine(
        region=there,
        role="copy",
        bought_until=bought.valid_until,
        ended_at=None,
        newest_at=_newest_copy(there, instances),
        without=[
            _in_zone(one)
            for one in instances
            if one.lost_at is None and one.region != there and there not in one.copies.newest
        ],
        sets=sum(work.verified for work in copies),
        bytes=None if mixed else sum(work.bytes for work in copies),
    )


def _no_longer(
    region: str, owner: d.Tenant, instances: Sequence[d.Instance], now: datetime, others: Collection[str]
) -> RegionLine:
    """`others`: every region with copies that are not bought; `unentitled` counts those of all of them."""
    alone = len(others) == 1
    copies = [one.copies for one in instances]
    verified = sum(work.verified for work in copies)
    # Where nothing is bought, what was counted as bought has just ended, and is not counted anew yet.
    ended_since = verified if copying.entitled(owner, now) is None else 0
    mixed = not alone or verified > ended_since
    return RegionLine(
        region=region,
        role="copy",
        bought_until=None,
        ended_at=copying.ended_at(owner, region, now),
        newest_at=_newest_copy(region, instances),
        without=[],
        sets=sum(work.unentitled for work in copies) + ended_since if alone else None,
        bytes=None if mixed else sum(work.bytes for work in copies),
    )


def _newest_copy(region: str, instances: Iterable[d.Instance]) -> datetime | None:
    return max((one.copies.newest[region].at for one in instances if region in one.copies.newest), default=None)


def _in_zone(one: d.Instance) -> str:
    return f"{one.name} in {one.zone}"


# --- points -------------------------------------------------------------------------------------------------------


class SetLine(Shown, frozen=True, kw_only=True):
    """What is stored of a point in one region: at home, or a copy."""

    region: str
    role: Role
    state: d.PointState | d.CopyState
    late: bool  # of a copy: not there a day after its point was, which was told
    way: Literal["moment", "temporary_disk"] | None  # of a copy
    taken_at: datetime | None  # the moment that it can bring back, once a snapshot of it was seen
    verified_at: datetime | None
    lock_until: datetime | None
    disks: int  # that it is to hold; 0 until it is begun
    ready: int  # of these, whose snapshot was read as READY and is there
    bytes: int


class PointView(d.Point, frozen=True, kw_only=True):
    """A point, whose it is, and what is stored of it by region."""

    tenant: str
    sets: list[SetLine]  # home first


class PointsView(Shown, frozen=True, kw_only=True):
    """One page of points, the most recently requested first."""

    at: datetime
    points: list[PointView]
    next: str | None  # `after` of the following page


def points(
    ports: Ports, *, tenant: str | None = None, state: str | None = None, after: str | None = None
) -> PointsView:
    """A page of 50 points: of the fleet or of a tenant, in any state or in one. Raises BadCursor."""
    name = "points_in_state" if state else "points_newest"
    values = (state,) if state else ()
    last = _after_point(after) if after else None
    source: Fleet | TenantStore = Fleet(ports.documents)
    if tenant is not None:
        source = Fleet(ports.documents).tenant(tenant)
        name = "tenant_points_in_state" if state else "tenant_points"
    docs = source.page_docs(name, *values, after=last)
    return PointsView(
        at=ports.clock.now(),
        points=[_point(point) for point in readable(d.Point, docs)],
        next=_next(docs, name, _point_cursor),
    )


def point(ports: Ports, id: str, tenant: str | None = None) -> list[PointView]:
    """The point of this id. One instance that went from a tenant to another may have one in each: then two."""
    docs = Fleet(ports.documents).page_docs("points_by_id", id)
    found = [_point(point) for point in readable(d.Point, docs)]
    return [one for one in found if tenant in (None, one.tenant)]


def point_of(ports: Ports, tenant: str, id: str) -> PointView | None:
    """A tenant's own point of this id. One read."""
    found = Fleet(ports.documents).tenant(tenant).get_all(d.Point, "points", [id])
    return _point(found[0]) if found else None


def _point(point: Held[d.Point]) -> PointView:
    fields = {name: getattr(point.value, name) for name in point.value.__struct_fields__}
    return PointView(tenant=point.tenant, sets=sets_of(point.value), **fields)


def sets_of(point: d.Point) -> list[SetLine]:
    """A point's sets side by side, home first. Pure."""
    return [_set(point, None), *(_set(point, region) for region in sorted(point.copies))]


def _is_late(copy: d.Copy) -> bool:
    return copy.late_told and copy.state in ("requested", "copying", "failed")


def _set(point: d.Point, region: str | None) -> SetLine:
    one, copy = sets.as_point(point, region), point.copies[region] if region else None
    refs = [disk.snapshot for disk in one.disks]
    return SetLine(
        region=region or point.instance.region,
        role="copy" if copy else "home",
        state=copy.state if copy else point.state,
        late=copy is not None and _is_late(copy),
        way=copy.way if copy else None,
        taken_at=min((ref.created_at for ref in refs if ref.created_at), default=None),
        verified_at=one.verified_at,
        lock_until=one.lock_until,
        disks=len(refs),
        ready=sum(ref.status == "READY" and ref.name not in one.gone for ref in refs),
        bytes=sum(ref.bytes for ref in refs if ref.status != d.GONE),
    )


# --- restores -----------------------------------------------------------------------------------------------------


class RestoreLine(Shown, frozen=True, kw_only=True):
    """A restore in a list."""

    tenant: str
    id: str
    purpose: str
    mode: str
    state: str
    recovery_point: str
    undoes: str | None  # the restore whose former disks it puts back
    instance: str  # the point's, by name
    target: d.RestoreTarget
    requested_at: datetime
    requested_by: str
    needs_approval: bool
    approve_by: datetime | None
    approved_by: str | None
    request_sha256: str
    started_at: datetime | None
    finished_at: datetime | None
    took_s: int | None  # of a completed one: from its start until everything was checked
    step: str | None  # the one that it is at; null before its start and after its end
    abandoned: bool  # what it did is being taken back, or was
    failure: d.Failure | None
    left: int  # how many things could not be taken back
    keep_until: datetime | None


class RestoresView(Shown, frozen=True, kw_only=True):
    """A page of a tenant's restores, the most recently requested first."""

    at: datetime
    tenant: str
    restores: list[RestoreLine]
    next: str | None


class RestoreView(d.Restore, frozen=True, kw_only=True):
    """A restore as it is stored, and what is derived from it."""

    tenant: str
    at: datetime
    took_s: int | None
    running_s: int | None  # since it began, while it runs
    stopped_s: int | None  # of a completed one in place: how long its instance was stopped
    size_gb: int  # of the disks that it makes
    step: str | None  # the one that it is at
    step_took_s: list[int | None]  # of each of `steps`; of the one that it is at until now; null: it has not begun
    stops: bool  # whether an instance is stopped for it
    approvers: list[str]  # roles, while it waits for one: not whoever asked for it
    cancellable: bool
    undo_refused: str | None  # why it cannot be undone; null: it can


def restores(ports: Ports, tenant: str, after: str | None = None) -> RestoresView | None:
    """A page of 50 restores of a tenant; None where there is no such tenant. Raises BadCursor."""
    fleet = Fleet(ports.documents)
    last = _after_restore(tenant, after) if after else None
    if not fleet.tenants_by_id([tenant]):
        return None
    docs = fleet.tenant(tenant).page_docs("tenant_restores", after=last)
    return RestoresView(
        at=ports.clock.now(),
        tenant=tenant,
        restores=[_restore_line(tenant, one) for one in _values(d.Restore, docs)],
        next=_next(docs, "tenant_restores", _restore_cursor),
    )


def restore_of(ports: Ports, tenant: str, id: str) -> RestoreView | None:
    """A tenant's restore of this id. Two reads."""
    fleet = Fleet(ports.documents)
    found = fleet.tenant(tenant).get_all(d.Restore, "restores", [id])
    owner = fleet.tenants_by_id([tenant]).get(tenant)
    return _restore(found[0].value, owner.value, ports.clock.now()) if found and owner else None


def _restore(one: d.Restore, owner: d.Tenant, now: datetime) -> RestoreView:
    fields = {name: getattr(one, name) for name in one.__struct_fields__}
    waits = one.state == "requested" and one.approve_by is not None and now < one.approve_by
    right = access.RIGHTS["restore.approve"]
    return RestoreView(
        tenant=owner.id,
        at=now,
        took_s=words.took_s(one),
        running_s=int((now - one.started_at).total_seconds()) if one.started_at and not one.finished_at else None,
        stopped_s=words.stopped_s(one),
        size_gb=sum(disk.size_gb for disk in one.disks),
        step=_step(one),
        step_took_s=_step_times(one, now),
        stops=one.mode == "in_place",
        approvers=list(right.roles(owner.deployment)) if waits else [],
        cancellable=one.state in restore_rules.LIVING and one.abandoned is None,
        undo_refused=planning.not_undoable(one, now),
        **fields,
    )


def _restore_line(tenant: str, one: d.Restore) -> RestoreLine:
    return RestoreLine(
        tenant=tenant,
        id=one.id,
        purpose=one.purpose,
        mode=one.mode,
        state=one.state,
        recovery_point=one.recovery_point,
        undoes=one.source.undoes,
        instance=one.instance.name,
        target=one.target,
        requested_at=one.requested_at,
        requested_by=one.requested_by,
        needs_approval=one.needs_approval,
        approve_by=one.approve_by,
        approved_by=one.approved_by,
        request_sha256=one.request_sha256,
        started_at=one.started_at,
        finished_at=one.finished_at,
        took_s=words.took_s(one),
        step=_step(one),
        abandoned=one.abandoned is not None,
        failure=one.failure,
        left=len(one.left),
        keep_until=one.keep_until,
    )


def _step(one: d.Restore) -> str | None:
    """The name of the step that a running restore is at."""
    if one.state != "running":
        return None
    return next((step.name for step in one.steps if step.state in ("pending", "running")), None)


def _step_times(one: d.Restore, now: datetime) -> list[int | None]:
    """Seconds that each step took, or has taken until now: from the end of the one before it.

    What a restore removes days after its end has no such beginning.
    """
    times: list[int | None] = []
    since = one.started_at
    for step in one.steps:
        if one.finished_at is not None and step.at is not None and step.at > one.finished_at:
            since = None
        ended = step.state in ("done", "failed") and step.at is not None
        if since is None or step.state == "skipped" or not (ended or step.state == "running"):
            times.append(None)
            continue
        until = step.at if ended and step.at else now
        times.append(max(int((until - since).total_seconds()), 0))
        since = until
    return times


# --- retention ----------------------------------------------------------------------------------------------------


Verdict = Literal["keep", "expire", "undo", "wait", "delete", "deleting"]

NOTHING_STORED: Final = "nothing of it is stored"

KEPT: Final[tuple[Verdict, ...]] = ("keep", "undo")
"""Verdicts on what something keeps."""


class PointRetention(Shown, frozen=True, kw_only=True):
    """What becomes of one stored point at home, or of one copy."""

    point: str
    region: str | None  # of a copy; null: at home
    trigger: d.Trigger
    state: d.PointState | d.CopyState
    late: bool  # of a copy: not there a day after its point was, which was told
    failure: d.Failure | None  # why it failed
    taken_at: datetime  # the moment that it can bring back
    decision: Verdict
    reasons: list[str]  # keep, undo: every one; of the others the one why it goes
    until: datetime | None  # wait: the end of its grace
    lock_until: datetime | None
    bytes: int  # of the snapshots that make it


class InstanceRetention(Shown, frozen=True, kw_only=True):
    id: str
    name: str
    zone: str
    lost_at: datetime | None
    breach_at: datetime | None
    override: d.Override | None
    holds: list[d.Hold]
    points: list[PointRetention]  # at home, newest first
    copies: list[PointRetention]  # by region, newest first; those that are only asked for too
    kept_by: dict[str, int]  # rule -> points that it keeps at home
    failure: str | None  # why there is no plan of it, and so nothing of it is deleted


class RetentionView(Shown, frozen=True, kw_only=True):
    """Every stored point of a tenant, what becomes of it and why: now, at a later moment, or by another policy."""

    at: datetime  # now
    planned_for: datetime  # the moment that was asked for; `at` unless it was another
    tenant: str
    policy: d.Retention  # by which it was planned
    proposed: bool  # it is not the tenant's own
    assumed: list[str]  # what is taken for granted of the time until then, each in a sentence
    instances: list[InstanceRetention]
    left_out: int  # instances that were not weighed, as there are too many points: ask for them one by one
    kept_by: dict[str, int]
    going: int  # points that nothing keeps at home
    going_bytes: int
    copies_going: int  # copies that nothing keeps
    copies_going_bytes: int


PLANNED_POINTS_MAX: Final = 10_000
"""Points that one answer weighs: those of 200 instances that keep 50 each."""

UNTIL_THEN: Final = (
    "nobody adds or releases a hold, and neither the policy nor the fleet file changes",
    "what nothing keeps by then has had its 24 hours of grace",
)
TAKEN: Final = "every scheduled point until then is taken and verified"
NOT_TAKEN: Final = "no point is taken until then: the schedule takes nothing of this tenant"


def retention(
    ports: Ports,
    id: str,
    *,
    instance: str | None = None,
    at: datetime | None = None,
    policy: d.Retention | None = None,
    points_max: int = PLANNED_POINTS_MAX,
) -> RetentionView | None:
    """What becomes of every stored point of a tenant, or of one of its instances (by name or numeric id).

    Now, or at a later moment; by the tenant's policy, or by another. None where there is no such tenant, or no such
    instance. Reads the tenant, its instances (at most a page of 200) and their stored points, instance by instance
    until `points_max` are read. Raises BadMoment.
    """
    whole, now = Fleet(ports.documents), ports.clock.now()
    found = whole.tenants_by_id([id]).get(id)
    if found is None:
        return None
    last = now + rules.FORECAST_MAX
    if at is not None and not now <= at <= last:
        raise BadMoment(f"at: {timestamp(at)} cannot be foretold; expected a moment from now to {last:%Y-%m-%d}")
    owner, store = found.value, whole.tenant(id)
    wanted = [
        one for one in _values(d.Instance, store.page_docs("tenant_instances")) if instance in (None, one.name, one.id)
    ]
    if instance is not None and not wanted:
        return None
    planned: list[InstanceRetention] = []
    left = points_max
    for one in sorted(wanted, key=lambda one: (one.lost_at is not None, one.name, one.zone, one.id)):
        if left <= 0:
            break
        points = [point.value for point in store.walk(d.Point, "instance_points", one.id)]
        left -= len(points)
        planned.append(_planned(owner, one, points, now, at, policy))
    going = [line for one in planned for line in one.points if line.decision not in KEPT]
    copies_going = [line for one in planned for line in one.copies if line.decision not in KEPT]
    return RetentionView(
        at=now,
        planned_for=at or now,
        tenant=id,
        policy=policy or owner.retention,
        proposed=policy is not None,
        assumed=_assumptions(owner, at),
        instances=[one for one in planned if one.points or one.copies or one.failure or one.lost_at is None],
        left_out=len(wanted) - len(planned),
        kept_by=_summed(one.kept_by for one in planned),
        going=len(going),
        going_bytes=sum(line.bytes for line in going),
        copies_going=len(copies_going),
        copies_going_bytes=sum(line.bytes for line in copies_going),
    )


def _planned(
    owner: d.Tenant,
    one: d.Instance,
    points: list[d.Point],
    now: datetime,
    at: datetime | None,
    policy: d.Retention | None,
) -> InstanceRetention:
    weighed: dict[str | None, list[d.Point]] = {None: [point for point in points if None in sets.stored(point)]}
    empty: dict[str | None, list[d.Point]] = {}
    for region in sorted({region for point in points for region in point.copies}):
        known = [point for point in points if region in point.copies and point.copies[region].state != "deleted"]
        nothing = [p for p in known if p.copies[region].state == "failed" and not p.copies[region].is_stored]
        weighed[region] = [sets.as_point(point, region) for point in known if point not in nothing]
        empty[region] = [sets.as_point(point, region) for point in nothing]
    plans: dict[str | None, rules.RetentionPlan] = {}
    failures: list[str] = []
    for where, some in weighed.items():
        try:
            plans[where] = _plan_of(owner, one, where, some, now, at, policy)
        except (rules.UnsafePlan, ValueError) as unsafe:  # as function `expire` does: the others have theirs
            failures.append(str(unsafe))
    late = {sets.name_of(point.id, there) for point in points for there, copy in point.copies.items() if _is_late(copy)}
    # A copy of which nothing came to be is told, and neither weighed nor ever deleted.
    told = {
        where: [*plan.decisions, *(rules.Decided(p, rules.Keep((NOTHING_STORED,))) for p in empty.get(where, ()))]
        for where, plan in plans.items()
    }
    lines = {where: [_line_of(decided, where, late) for decided in some] for where, some in told.items()}
    for of_region in lines.values():
        of_region.sort(key=lambda line: line.taken_at, reverse=True)
    return InstanceRetention(
        id=one.id,
        name=one.name,
        zone=one.zone,
        lost_at=one.lost_at,
        breach_at=one.breach_at,
        override=one.override,
        holds=one.holds,
        points=lines.get(None, []),
        copies=[line for where, there in lines.items() if where is not None for line in there],
        kept_by=dict(plans[None].kept_by) if None in plans else {},
        failure="; ".join(failures) or None,
    )


def _plan_of(
    owner: d.Tenant,
    one: d.Instance,
    region: str | None,
    points: list[d.Point],
    now: datetime,
    at: datetime | None,
    policy: d.Retention | None,
) -> rules.RetentionPlan:
    known = rules.situation(owner, one, now, policy if region is None else None, region=region)
    if at is None:
        return rules.plan(points, known, now)
    if owner.offboarding is not None and owner.offboarding.at <= at and known.lost_at is None:
        known = dataclasses.replace(known, lost_at=owner.offboarding.at, in_breach=False)
    # What is bought of copies may end until then.
    then = rules.situation(owner, one, at, policy if region is None else None, region=region)
    unbought = rules.Unbought(copying.ended_at(owner, region, at)) if region and then.unbought else None
    known = dataclasses.replace(known, policy=then.policy, copied_to=then.copied_to, unbought=unbought)
    taken = owner.vendor_managed and then.unbought is None
    return rules.forecast(points, known, now, at, scheduled=partial(_slot_at, one.id, owner) if taken else None)


def _slot_at(instance: str, owner: d.Tenant, day: date) -> datetime | None:
    slot = slot_of(day, instance, owner)
    return slot.at if slot else None


def _line_of(decided: rules.Decided, region: str | None, late: Collection[str]) -> PointRetention:
    """`late`: names of the copies that are."""
    point = decided.point
    word, why, until = _said(point, decided.decision)
    return PointRetention(
        point=point.id,
        region=region,
        trigger=point.trigger,
        state="copying" if region is not None and point.state == "creating" else point.state,
        late=sets.name_of(point.id, region) in late,
        failure=point.failure,
        taken_at=taken_at(point),
        decision=word,
        reasons=[reason for reason in why if reason],
        until=until,
        lock_until=point.lock_until,
        bytes=deletion.bytes_of(point),
    )


def _said(point: d.Point, decision: rules.Decision) -> tuple[Verdict, Sequence[str], datetime | None]:
    match decision:
        case rules.Keep(reasons):
            return "keep", reasons, None
        case rules.Undo(reasons):
            return "undo", reasons, None
        case rules.Expire(reason):
            return "expire", [reason], None
        case rules.Wait(end, reason):
            return "wait", [reason], end
        case rules.Delete(reason):
            return "delete", [reason], None
        case rules.Deleting(since):
            begun = f"its deletion began {since:%Y-%m-%d %H:%M} UTC"
            return "deleting", [point.expiry.reason if point.expiry else "", begun], None
        case _:
            assert_never(decision)


def _assumptions(owner: d.Tenant, at: datetime | None) -> list[str]:
    if at is None:
        return []
    if owner.offboarding is not None and owner.offboarding.at <= at:
        leaves = f"it leaves on {owner.offboarding.at:%Y-%m-%d %H:%M} UTC, and what is taken until then is not counted"
        return [leaves, *UNTIL_THEN]
    return [TAKEN if owner.vendor_managed else NOT_TAKEN, *UNTIL_THEN]


def _summed(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """By rule, in the order in which the rules stand."""
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return {rule.name: total[rule.name] for rule in rules.RULES if rule.name in total}


# --- holds --------------------------------------------------------------------------------------------------------


class HoldLine(Shown, frozen=True, kw_only=True):
    """A hold, and what it holds."""

    tenant: str
    subject: str  # points/ID, instances/ID, or . for the tenant
    name: str  # the point's id, the instance's name, or the tenant's id
    copy: str | None  # the region of the copy that it is on, of a point
    hold: d.Hold
    stands: bool  # its end has not come


class HoldsView(Shown, frozen=True, kw_only=True):
    at: datetime
    holds: list[HoldLine]  # on tenants, then on instances, then on points; of at most 200 of each
    more: bool  # there are more of them than these


def holds(ports: Ports, tenant: str | None = None) -> HoldsView:
    """The holds of the fleet, or of a tenant. Reads: a page of each of what is held."""
    whole, now = Fleet(ports.documents), ports.clock.now()
    if tenant is None:
        owners = whole.page_docs("held_tenants", True)
        instances, points = whole.page_docs("held_instances", True), whole.page_docs("held_points", True)
    else:
        store = whole.tenant(tenant)
        owners = list(filter(None, ports.documents.get(f"tenants/{tenant}")))
        instances = store.page_docs("tenant_held_instances", True)
        points = store.page_docs("tenant_held_points", True)
    lines = [
        *(_hold(h, one.tenant, ".", one.value.id, now) for one in readable(d.Tenant, owners) for h in one.value.holds),
        *(
            _hold(h, one.tenant, f"instances/{one.value.id}", one.value.name, now)
            for one in readable(d.Instance, instances)
            for h in one.value.holds
        ),
        *(
            _hold(h, one.tenant, f"points/{one.value.id}", one.value.id, now, region)
            for one in readable(d.Point, points)
            for region, on in sets.holds_of(one.value)
            for h in on
        ),
    ]
    more = any(len(docs) == QUERIES["held_points"].limit for docs in (owners, instances, points))
    return HoldsView(at=now, holds=lines, more=more)


def _hold(hold: d.Hold, tenant: str, subject: str, name: str, now: datetime, copy: str | None = None) -> HoldLine:
    return HoldLine(tenant=tenant, subject=subject, name=name, copy=copy, hold=hold, stands=hold.stands(now))


# --- orphans ------------------------------------------------------------------------------------------------------


class OrphansView(Shown, frozen=True, kw_only=True):
    """What the last listing of each vault project found that should not be, or that should be and is not."""

    at: datetime
    vaults: list[d.Vault]  # by project, a page of 50
    next: str | None  # `after` of the following page


def orphans(ports: Ports, after: str | None = None) -> OrphansView:
    """Reads a page of 50 vault projects. Raises BadCursor."""
    if after is not None and not _PROJECT.fullmatch(after):
        raise BadCursor(f"after: {after!r} is not what a page of vault projects ends with (its `next`)")
    last = Doc(f"vaults/{after}", {"project": after}, None) if after else None
    docs = Fleet(ports.documents).page_docs("vaults_by_project", after=last)
    return OrphansView(
        at=ports.clock.now(),
        vaults=_values(d.Vault, docs),
        next=_next(docs, "vaults_by_project", lambda doc: str(doc.data["project"])),
    )


# --- controls, access, oneself ------------------------------------------------------------------------------------


class ControlsView(Shown, frozen=True, kw_only=True):
    """What is stopped."""

    at: datetime
    paused: d.PausedKinds


def controls(ports: Ports, *, only: str | None = None) -> ControlsView:
    """Reads a document; for whoever sees one tenant alone (`only`), what of it stops that tenant, in a second one."""
    stored = Fleet(ports.documents).controls()
    paused = stored.paused if stored else d.PausedKinds()
    if only is not None:
        owner = Fleet(ports.documents).tenants_by_id([only]).get(only)
        projects = {owner.value.project, owner.value.vault_project} if owner else set()
        paused = d.PausedKinds(
            creation=paused.creation.of(only, projects),
            deletion=paused.deletion.of(only, projects),
            restore=paused.restore.of(only, projects),
        )
    return ControlsView(at=ports.clock.now(), paused=paused)


class RightLine(Shown, frozen=True, kw_only=True):
    action: str
    words: str
    scope: str
    saas: list[str]  # the roles that may
    private_saas: list[str]


class DutyLine(Shown, frozen=True, kw_only=True):
    what: str
    saas: str
    private_saas: str


class AccessView(Shown, frozen=True, kw_only=True):
    """The tables of `access`: the same for everybody."""

    roles: dict[str, str]  # role -> what it is
    rights: list[RightLine]
    responsibility: list[DutyLine]


def access_tables() -> AccessView:
    return AccessView(
        roles={str(role): words for role, words in access.ROLE_WORDS.items()},
        rights=[
            RightLine(
                action=right.action,
                words=right.words,
                scope=right.scope,
                saas=list(right.saas),
                private_saas=list(right.private_saas),
            )
            for right in access.ACCESS
        ],
        responsibility=[
            DutyLine(what=duty.what, saas=duty.saas, private_saas=duty.private_saas) for duty in access.RESPONSIBILITY
        ],
    )


class MeView(Shown, frozen=True, kw_only=True):
    """Who asks, and what he may do."""

    email: str
    role: str
    tenant: str | None
    verified: bool  # false: a local cloud took his word for who he is
    saas: list[str]  # actions that he may do, to a tenant of this deployment that he sees
    private_saas: list[str]


def me(caller: access.Caller, *, verified: bool) -> MeView:
    return MeView(
        email=caller.email,
        role=caller.role,
        tenant=caller.tenant,
        verified=verified,
        saas=[right.action for right in access.ACCESS if caller.role in right.saas],
        private_saas=[right.action for right in access.ACCESS if caller.role in right.private_saas],
    )


# --- audit --------------------------------------------------------------------------------------------------------


class ChainsView(Shown, frozen=True, kw_only=True):
    """Names of audit chains: `_system`, and every tenant's."""

    chains: list[str]
    next: str | None  # `after` of the following page


def chains(ports: Ports, after: str | None = None, *, only: str | None = None) -> ChainsView:
    """A page of 200 tenants' chains; `_system` is the first of all. Raises BadCursor."""
    if only is not None:
        return ChainsView(chains=[only], next=None)
    if after is not None and not re.fullmatch(TENANT_ID_WORD, after):
        raise BadCursor(f"after: {after!r} is not what a page of chains ends with (its `next`)")
    last = Doc(f"tenants/{after}", {"id": after}, None) if after else None
    docs = Fleet(ports.documents).page_docs("tenants", after=last)
    ids = [doc.path.removeprefix("tenants/") for doc in docs]
    return ChainsView(chains=[*([] if after else [SYSTEM]), *ids], next=_next(docs, "tenants", lambda doc: ids[-1]))


# --- pages --------------------------------------------------------------------------------------------------------

# What a page ended with, written so that a person can read it. It only says where to go on: whatever stands in it,
# the query stays the same.
_TENANT: Final = re.compile(rf"[0-9]\|({TENANT_ID_WORD})")
_PROJECT: Final = re.compile(r"[a-z0-9:.-]{1,100}")
_POINT: Final = re.compile(rf"([0-9T:.-]{{26}}Z)\|({TENANT_ID_WORD})\|([0-9a-z-]{{1,63}})")

_RESTORE: Final = re.compile(r"([0-9T:.-]{26}Z)\|([0-9a-z-]{1,63})")


def _after_tenant(cursor: str) -> Doc:
    match = _TENANT.fullmatch(cursor)
    if not match:
        raise BadCursor(f"after: {cursor!r} is not what a page of tenants ends with (its `next`)")
    return Doc(f"health/{match[1]}", {"worst_first": cursor}, None)


def _point_cursor(doc: Doc) -> str:
    _, tenant, _, id = doc.path.split("/")
    return f"{timestamp(doc.data['requested_at'])}|{tenant}|{id}"


def _after_point(cursor: str) -> Doc:
    match = _POINT.fullmatch(cursor)
    try:
        at = datetime.fromisoformat(match[1]) if match else None
    except ValueError:
        at = None
    if not match or at is None:
        raise BadCursor(f"after: {cursor!r} is not what a page of points ends with (its `next`)")
    return Doc(f"tenants/{match[2]}/points/{match[3]}", {"requested_at": at}, None)


def _restore_cursor(doc: Doc) -> str:
    return f"{timestamp(doc.data['requested_at'])}|{doc.path.rsplit('/', 1)[1]}"


def _after_restore(tenant: str, cursor: str) -> Doc:
    match = _RESTORE.fullmatch(cursor)
    try:
        at = datetime.fromisoformat(match[1]) if match else None
    except ValueError:
        at = None
    if not match or at is None:
        raise BadCursor(f"after: {cursor!r} is not what a page of restores ends with (its `next`)")
    return Doc(f"tenants/{tenant}/restores/{match[2]}", {"requested_at": at}, None)


def _next(docs: list[Doc], name: str, cursor: Callable[[Doc], str]) -> str | None:
    """Where the following page begins; None where this was the last."""
    return cursor(docs[-1]) if len(docs) == QUERIES[name].limit else None


def _values(kind: type[T], docs: Iterable[Doc]) -> list[T]:
    return [one.value for one in readable(kind, docs)]

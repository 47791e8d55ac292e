"""What a person may ask for, in one place for whatever way it comes in by.

Each act is one commit: the change, its audit record, and (where it came with a key) what it was answered, so that
asking again is answered alike and acts once. Whether the asker may, is decided before (`access.decide`, at the door).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from itertools import islice
from typing import Annotated, Any, Final, Literal, TypeVar
from zoneinfo import ZoneInfo

import msgspec
from msgspec.structs import replace

from snapkeep import documents as d
from snapkeep import fleet as fleet_file
from snapkeep import hints, messages
from snapkeep.access import Deployment
from snapkeep.asking import Ask as Ask  # what every caller of a command names with it
from snapkeep.asking import Clash as Clash
from snapkeep.asking import NoTenant as NoTenant
from snapkeep.asking import Wrong as Wrong
from snapkeep.audit import handler as audit
from snapkeep.audit.chain import Head
from snapkeep.audit.handler import Verdict
from snapkeep.copies import rules as copies
from snapkeep.copies import sets
from snapkeep.copies.tries import no_kms_key
from snapkeep.copies.wanted import LOOK_AGAIN_QUIET
from snapkeep.creation import rules as creation
from snapkeep.creation.slots import first_instant
from snapkeep.fleet import Entry, Reading, diff
from snapkeep.messages import Name, PointId, PointRef, Reason, Text, Tick
from snapkeep.ports import Conflict, Ports, Transient, Write
from snapkeep.restore import testing
from snapkeep.retention import rules as retention
from snapkeep.store import (
    QUERIES,
    REQUEST_KEPT,
    SYSTEM,
    Fleet,
    Held,
    Record,
    TenantStore,
    created,
    digest,
)

CONFLICTS_MAX: Final = 5
CONTROLS_CONFLICTS_MAX: Final = 20
"""Of what is paused: one document that every pause and resume of the fleet writes, often many at once."""

KEY: Final = re.compile(r"[\x21-\x7e]{1,200}")
"""An Idempotency-Key."""

HOLDS_MAX: Final = 50
"""Holds on one point, one instance or one tenant."""

GOING_MAX: Final = 1_000
"""Sets that the answer to a hold names as going in spite of it."""

PAUSED_MAX: Final = 500
"""Projects, and tenants, that one kind of change is stopped for one by one; for more there is the whole fleet."""

GIVEN_UP_NAMED_MAX: Final = 100
"""Sets that the answer to an entry names as given up; it counts them all."""

POINTS_READ_MAX: Final = 20_000
"""Stored points that one request weighs: about a minute of reading. What would need more is refused."""

Kind = Literal["creation", "deletion", "restore"]


# --- what is asked and answered -----------------------------------------------------------------------------------

Instant = Annotated[datetime, msgspec.Meta(tz=True, description="RFC 3339, with its offset from UTC")]
Day = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}\Z", description="a local day, YYYY-MM-DD")]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a command is answered."""


class PointAsk(Ask, frozen=True, kw_only=True):
    """A point of an instance, by its name (and its zone where the tenant has two of that name) or its numeric id."""

    instance: Name
    zone: Name | None = None
    reason: Reason


class PointAnswer(Answer, frozen=True, kw_only=True):
    tenant: str
    point: str


class CopyAsk(Ask, frozen=True, kw_only=True):
    """A copy of a verified point in the second region that is bought."""

    region: Name | None = None  # null: the one that is bought
    reason: Reason
    dry_run: bool = False


class CopyAnswer(Answer, frozen=True, kw_only=True):
    tenant: str
    point: str
    region: str
    disks: int  # that are copied, each in full through a temporary disk
    size_gb: int  # of those disks together
    dry_run: bool = False


class HoldAsk(Ask, frozen=True, kw_only=True):
    """A hold on a point, on one copy of it, on all that is stored of an instance, or, with neither, of the tenant."""

    point: PointId | None = None
    copy: Name | None = None  # the region of the point's copy; null: the point at home, whose copies it does not hold
    instance: Name | None = None
    zone: Name | None = None
    reason: Reason
    until: Instant | None = None  # null: until it is released
    dry_run: bool = False


class HoldAnswer(Answer, frozen=True, kw_only=True):
    tenant: str
    subject: str  # points/ID, instances/ID, or . for the tenant
    name: str  # the point's id, the instance's name, or the tenant's id
    copy: str | None = None  # the region of the copy that it is on, of a point
    hold: d.Hold
    called_back: bool = False  # the point, or the copy, was expiring, and is not any more
    going: list[str] = []  # sets whose deletion had begun: what of them was asked for goes; at most GOING_MAX
    lets_go: list[str] | None = None  # a dry run of a release: sets that nothing else keeps; null: not weighed
    dry_run: bool = False


class ReleaseAsk(Ask, frozen=True, kw_only=True):
    reason: Reason
    dry_run: bool = False


class OverrideAsk(Ask, frozen=True, kw_only=True):
    """Let retention work once on an instance that is in breach of its RPO."""

    instance: Name
    zone: Name | None = None
    reason: Reason
    dry_run: bool = False


class OverrideAnswer(Answer, frozen=True, kw_only=True):
    tenant: str
    instance: str
    name: str
    override: d.Override
    lets_go: list[str]  # sets that will be marked to go, as far as is known now
    bytes: int
    dry_run: bool


class ApplyAsk(Ask, frozen=True, kw_only=True):
    """A tenant's entry of the fleet file."""

    entry: dict[str, Any]
    file: Text = "the request"  # where it was written, for the audit record
    accept_deletions: Annotated[int, msgspec.Meta(ge=0)] = 0  # how many sets it gives up, as a dry run counts
    dry_run: bool = False


class FieldChange(Answer, frozen=True, kw_only=True):
    field: str  # "": the tenant is new
    old: Any
    new: Any
    text: str


class GivenUp(Answer, frozen=True, kw_only=True):
    """A point that a change gives up at home, or a copy of one."""

    point: str
    copy: str | None = None  # the copy's region; null: at home
    instance: str  # NAME in ZONE
    locked_until: datetime | None  # before that it does not go all the same
    kept_until: datetime | None = None  # likewise, of a copy that is no longer bought then: its lock, or its grace


class ApplyAnswer(Answer, frozen=True, kw_only=True):
    tenant: str
    changes: list[FieldChange]  # none: it was as the entry says
    deletions: int  # sets that it gives up, whatever still delays their end: by a policy, with their instance or region
    copies: int = 0  # how many of them are copies
    gives_up: list[GivenUp] = []  # those sets, instance by instance; at most GIVEN_UP_NAMED_MAX
    deselected: list[str] = []  # NAME in ZONE: instances that it no longer selects, as far as the documents tell
    warnings: list[str]
    over: list[str] = []  # warnings too, which depend on the day: add-ons whose last one has passed
    dry_run: bool


class OffboardAsk(Ask, frozen=True, kw_only=True):
    """When the tenant leaves: at the beginning of this local day. Without one: it stays."""

    day: Day | None = None
    reason: Reason
    dry_run: bool = False


class OffboardAnswer(Answer, frozen=True, kw_only=True):
    tenant: str
    offboarding: d.Offboarding | None
    dry_run: bool
    points: int | None = None  # where that day has come: the stored points of instances that are lost at once by it


class SwitchAsk(Ask, frozen=True, kw_only=True):
    on: bool
    reason: Reason
    dry_run: bool = False


class SwitchAnswer(Answer, frozen=True, kw_only=True):
    tenant: str
    schedule_switch: d.ScheduleSwitch
    dry_run: bool = False


class PolicyAsk(Ask, frozen=True, kw_only=True):
    """A policy to try out: what it would keep and let go, now or later. Nothing is changed."""

    retention: dict[str, Any]  # as the fleet file has it; what is left out takes its default
    instance: Name | None = None  # of this one alone
    at: Instant | None = None


class PauseAsk(Ask, frozen=True, kw_only=True):
    """Of a tenant: what of it stops, or goes on."""

    what: Kind
    reason: Reason
    dry_run: bool = False


class FleetPauseAsk(Ask, frozen=True, kw_only=True):
    """Of a project's instances and snapshots, or without one of the whole fleet."""

    what: Kind
    project: Name | None = None
    reason: Reason
    dry_run: bool = False


class PauseAnswer(Answer, frozen=True, kw_only=True):
    paused: d.Paused  # all that is stopped of this kind; of a tenant's: what of that covers it
    what: Kind
    dry_run: bool = False


class TickAsk(Ask, frozen=True, kw_only=True):
    """Nothing needs to be said."""


class TickAnswer(Answer, frozen=True, kw_only=True):
    function: str
    topic: str


def utc(at: datetime, field: str) -> datetime:
    """Raises Wrong for a moment whose offset leads out of the calendar."""
    try:
        return at.astimezone(UTC)
    except OverflowError:
        raise Wrong(f"{field}: {at.isoformat()} is beyond the years 1 to 9999 in UTC") from None


# --- asking once --------------------------------------------------------------------------------------------------

A = TypeVar("A", bound=Answer)


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks for what, and the key under which asking again is the same act."""

    by: str  # a verified email address
    key: str
    sha256: str  # of who asks, what for, and with which body
    deployment: Deployment | None = None  # of the tenant, where the right to ask for it was that of its deployment

    @property
    def id(self) -> str:
        """Names the act. Everyone's keys are his own."""
        return f"{self.by}|{self.key}"

    @property
    def act(self) -> str:
        """The same, as no message's id may be, which anybody may choose: none has a line break."""
        return f"person\n{self.id}"

    @property
    def document(self) -> str:
        """Names it among requests."""
        return digest(self.act)


@dataclass(frozen=True, slots=True)
class Act:
    """What a command has decided on: one commit. Without a record only bookkeeping changes, and its answer is kept."""

    record: Record | None
    writes: Sequence[Write] = ()


def once(
    ports: Ports,
    chain: str,
    asked: Asked,
    kind: type[A],
    decide: Callable[[], tuple[A, Act | None]],
    tries: int = CONFLICTS_MAX,
) -> A:
    """Decide and commit once for one key; again on a Conflict, `tries` times in all. Without an Act nothing is done.

    Raises Clash where the key was used for something else, or the tenant's deployment is not what the right to ask
    followed from; Transient, and what `decide` raises.
    """
    fleet = Fleet(ports.documents)
    store = fleet.tenant(chain)
    for _ in range(tries):
        before = store.get(d.Request, "requests", asked.document)
        if before is not None:
            return _again(before.value, asked, kind)
        try:
            _still(store, asked)
            answer, act = decide()
        except (Wrong, Clash):
            # Perhaps against what this very request has done, asked twice at once.
            before = store.get(d.Request, "requests", asked.document)
            if before is None:
                raise
            return _again(before.value, asked, kind)
        if act is None:
            return answer
        now = act.record.at if act.record else ports.clock.now()
        request = d.Request(
            updated_at=now,
            subject=act.record.subject if act.record else ".",
            sha256=asked.sha256,
            answer=msgspec.json.encode(answer).decode(),
            expire_at=now + REQUEST_KEPT,
        )
        kept = created(store.path("requests", asked.document), request)
        try:
            if act.record:
                fleet.commit(act.record, *act.writes, kept, of=chain)
            else:
                store.commit(None, *act.writes, kept)
        except Conflict:
            continue
        return answer
    raise Transient(f"{chain}: others kept changing it; ask again")


def _still(store: TenantStore, asked: Asked) -> None:
    """Raises Clash where the tenant is of another deployment than when the asker was let in."""
    if asked.deployment is not None:
        owner = store.get(d.Tenant)
        if owner is None or owner.value.deployment != asked.deployment:
            raise Clash(f"{store.tenant} is no longer {asked.deployment}, by which this was allowed; ask again")


def _again(before: d.Request, asked: Asked, kind: type[A]) -> A:
    if before.sha256 != asked.sha256:
        raise Clash("Idempotency-Key: used before, for something else; expected a new one for a new request")
    return msgspec.json.decode(before.answer, type=kind)


def owner_of(store: TenantStore) -> Held[d.Tenant]:
    tenant = store.get(d.Tenant)
    if tenant is None:
        raise NoTenant(store.tenant)
    return tenant


def record_of(
    now: datetime, asked: Asked, action: str, subject: str, detail: Mapping[str, Any], outcome: Any = "succeeded"
) -> Record:
    # The key makes two acts that say the same at one instant two records.
    return Record(
        at=now,
        actor=asked.by,
        action=action,
        subject=subject,
        outcome=outcome,
        detail=detail,
        key=f"{action}|{asked.id}",
    )


# --- points -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PointRequest:
    """A point on demand, as API and messages ask for it."""

    id: str  # as the record names it
    act: str  # what the point's own id follows from
    by: str
    instance: str
    zone: str | None
    reason: str


def point_on_demand(
    store: TenantStore, tenant: d.Tenant, wanted: PointRequest, now: datetime
) -> tuple[d.Point, Record, list[Write]]:
    """The point, its audit record and what to write.

    Raises Wrong for an instance that is not there, Clash for a tenant that has left.
    """
    if tenant.offboarding and tenant.has_left(now):
        raise Clash(f"{tenant.id} has left at {tenant.offboarding.at.isoformat()}: nothing of it is taken")
    instance = find_instance(store, wanted.instance, wanted.zone)
    point = creation.on_demand_point(tenant, instance.value, wanted.act, wanted.by, wanted.reason, now)
    record = Record(
        at=now,
        actor=wanted.by,
        action="point.requested",
        subject=f"points/{point.id}",
        outcome="requested",
        detail={"instance": instance.value.name, "reason": wanted.reason, "request": wanted.id},
    )
    after = creation.after_transition(instance.value, tenant, None, point)
    return point, record, [created(store.path("points", point.id), point), instance.replaced(after)]


def find_instance(store: TenantStore, name: str, zone: str | None, *, lost: bool = False) -> Held[d.Instance]:
    """The tenant's one instance of this name or numeric id; with `lost` those that are gone too. Raises Wrong."""
    matching = [
        instance
        for instance in store.walk(d.Instance, "tenant_instances")
        if (lost or instance.value.lost_at is None)
        and name in (instance.value.name, instance.value.id)
        and zone in (None, instance.value.zone)
    ]
    match matching:
        case [only]:
            return only
        case []:
            where = f" in {zone}" if zone else ""
            raise Wrong(f"instance: {store.tenant!r} has no instance {name!r}{where}")
        case _:
            zones = sorted({instance.value.zone for instance in matching})
            if len(zones) > 1:
                raise Wrong(f"zone: missing; {name!r} is in {', '.join(zones)}: name one of them")
            ids = ", ".join(sorted(instance.value.id for instance in matching))
            raise Wrong(f"instance: {name!r} was several machines, one after the other: give one of the ids {ids}")


def request_point(ports: Ports, asked: Asked, tenant: str, ask: PointAsk) -> PointAnswer:
    """Commit a point on demand, and ask `create` to start it. Raises NoTenant, Wrong, Clash, Transient."""
    now = ports.clock.now()
    store = Fleet(ports.documents).tenant(tenant)

    def decide() -> tuple[PointAnswer, Act]:
        wanted = PointRequest(asked.id, asked.act, asked.by, ask.instance, ask.zone, ask.reason)
        point, record, writes = point_on_demand(store, owner_of(store).value, wanted, now)
        return PointAnswer(tenant=tenant, point=point.id), Act(record, writes)

    answer = once(ports, tenant, asked, PointAnswer, decide)
    hints.start_points(ports.bus, [[PointRef(tenant, answer.point)]])
    hints.nudge(ports.bus, [tenant], "audit", "health")
    return answer


# --- copies -------------------------------------------------------------------------------------------------------


def request_copy(ports: Ports, asked: Asked, tenant: str, point: str, ask: CopyAsk) -> CopyAnswer:
    """Commit the request for a copy of a verified point, and ask `copy` to start it.

    Raises NoTenant, Wrong (there is no such point), Clash (what is not bought, or stands against it), Transient.
    """
    now = ports.clock.now()
    store = Fleet(ports.documents).tenant(tenant)

    def decide() -> tuple[CopyAnswer, Act | None]:
        owner = owner_of(store).value
        stored = store.get(d.Point, "points", point)
        if stored is None:
            raise Wrong(f"point: {tenant!r} has no point {point!r}")
        bought = _bought(owner, ask.region, now)
        _may_be_copied(stored.value, bought.region)
        if lacking := no_kms_key(stored.value, bought.region, owner):
            raise Clash(f"{point} is not copied: {lacking.message}")
        copy = sets.asked_for(
            stored.value.copies.get(bought.region),
            by=asked.by,
            reason=ask.reason,
            lock_days=bought.retention.lock_days,
            now=now,
        )
        # A person's word: home waits for it as for a first one.
        copy = replace(copy, wanted_since=None)
        after = replace(stored.value, copies={**stored.value.copies, bought.region: copy}, updated_at=now)
        after = replace(after, next_at=sets.next_at(after))
        answer = CopyAnswer(
            tenant=tenant,
            point=point,
            region=bought.region,
            disks=len(after.disks),
            size_gb=sum(disk.size_gb for disk in after.disks),
            dry_run=ask.dry_run,
        )
        if ask.dry_run:
            return answer, None
        writes: list[Write] = [stored.replaced(after)]
        instance = store.get(d.Instance, "instances", after.instance.id)
        if instance is not None:
            work = copies.counted(instance.value.copies, stored.value, after, bought.region)
            writes.append(instance.replaced(replace(instance.value, copies=work, updated_at=now)))
        detail: dict[str, Any] = {"instance": after.instance.name, "region": bought.region, "reason": ask.reason}
        detail |= {"way": copy.way, "disks": answer.disks, "size_gb": answer.size_gb}
        return answer, Act(record_of(now, asked, "copy.requested", f"points/{point}", detail, "requested"), writes)

    answer = once(ports, tenant, asked, CopyAnswer, decide)
    if not ask.dry_run:
        hints.start_copies(ports.bus, [PointRef(tenant, point)])
        hints.nudge(ports.bus, [tenant], "audit", "health")
    return answer


def _bought(tenant: d.Tenant, region: str | None, now: datetime) -> d.InterRegionBackup:
    """The add-on by which a copy may be made in this region; None: in the one that is bought. Raises Clash."""
    bought = copies.entitled(tenant, now)
    if bought is None:
        had = tenant.entitlements.inter_region_backup
        if tenant.offboarding and tenant.has_left(now):
            why = f"it has left at {tenant.offboarding.at.isoformat()}"
        elif had is not None:
            why = f"inter_region_backup was valid until {had.valid_until}"
        else:
            why = "it has no inter_region_backup"
        raise Clash(f"{tenant.id} is not entitled to copies: {why}. What it has bought stands in the fleet file")
    if region not in (None, bought.region):
        raise Clash(
            f"{tenant.id} is not entitled to copies in {region}: it has bought them in {bought.region}, and nothing "
            "is written anywhere else"
        )
    return bought


def _may_be_copied(point: d.Point, region: str) -> None:
    """Raises Clash where no copy of the point can be made in the region, or there is one, or it is on its way."""
    copy = point.copies.get(region)
    match copy.state if copy else None:
        case "requested" | "copying":
            raise Clash(f"the copy of {point.id} in {region} is on its way already")
        case "verified" if copy is not None and not copy.gone and copy.usable:
            raise Clash(f"{point.id} has a copy in {region} already")
        case "expiring":
            raise Clash(f"{point.id} has a copy in {region} that is about to be deleted: a hold on it keeps it")
        case _ if copy is not None and copy.next_at is not None:
            raise Clash(f"what the last try to copy {point.id} has left is still being removed: ask again in an hour")
        case _:
            pass
    if point.instance.region == region:
        raise Clash(f"{point.id} is at home in {region}: a copy is for another region")
    if point.state != "verified":
        raise Clash(f"{point.id} is {point.state}: only a verified point is copied")
    if not point.usable or point.gone:
        raise Clash(f"{point.id} cannot be restored from, so it is not copied: a snapshot of it is gone or unusable")


# --- holds --------------------------------------------------------------------------------------------------------


def add_hold(ports: Ports, asked: Asked, tenant: str, ask: HoldAsk) -> HoldAnswer:
    """Hold a point, an instance or a tenant: nothing of it is deleted while the hold stands.

    Raises NoTenant, Wrong, Clash (its deletion has begun; too many holds), Transient.
    """
    now = ports.clock.now()
    store = Fleet(ports.documents).tenant(tenant)
    if ask.point is not None and ask.instance is not None:
        raise Wrong("point, instance: both are given; expected one of them, or neither to hold the whole tenant")
    if ask.zone is not None and ask.instance is None:
        raise Wrong("zone: given without instance")
    if ask.copy is not None and ask.point is None:
        raise Wrong("copy: given without point; expected the point whose copy it is")
    if ask.until is not None and ask.until <= now:
        raise Wrong(f"until: {ask.until.isoformat()} is over")
    until = utc(ask.until, "until") if ask.until else None

    def decide() -> tuple[HoldAnswer, Act | None]:
        hold = d.Hold(
            id=f"h-{digest(f'{tenant}|{asked.id}')[:12]}", reason=ask.reason, by=asked.by, at=now, until=until
        )
        owner = owner_of(store)
        if ask.point is not None:
            write, called_back = hold_point(store, ask.point, ask.copy, hold, now)
            subject = f"points/{ask.point}"
            held = HoldAnswer(
                tenant=tenant, subject=subject, name=ask.point, copy=ask.copy, hold=hold, called_back=called_back
            )
        elif ask.instance is not None:
            instance = find_instance(store, ask.instance, ask.zone, lost=True)
            one = instance.value
            going = one.retention.deleting[:GOING_MAX]
            held = HoldAnswer(tenant=tenant, subject=f"instances/{one.id}", name=one.name, hold=hold, going=going)
            write = instance.replaced(_weighed(_holding(one, [*one.holds, hold], now), now))
        else:
            held = HoldAnswer(tenant=tenant, subject=".", name=tenant, hold=hold, going=_begun(store))
            write = owner.replaced(_holding(owner.value, [*owner.value.holds, hold], now))
        detail: dict[str, Any] = {"hold": hold.id, "reason": hold.reason, "until": until, "name": held.name}
        detail |= {"copy": held.copy} if held.copy else {}
        detail |= {"called_back": True} if held.called_back else {}
        detail |= {"going": held.going} if held.going else {}
        if ask.dry_run:
            return replace(held, dry_run=True), None
        return held, Act(record_of(now, asked, "hold.added", held.subject, detail), [write])

    answer = once(ports, tenant, asked, HoldAnswer, decide)
    if ask.dry_run:
        return answer
    if answer.subject == ".":
        # One that began between our reading and our commit writes the tenant as it was, which is no Conflict to us.
        # After our commit none begins.
        answer = replace(answer, going=sorted({*answer.going, *_begun(store)})[:GOING_MAX])
    return _held(ports, answer)


def _begun(store: TenantStore) -> list[str]:
    """Sets of the tenant whose deletion has begun, at most GOING_MAX."""
    begun = (id for one in store.walk(d.Instance, "tenant_instances") for id in one.value.retention.deleting)
    return list(islice(begun, GOING_MAX))


def _held(ports: Ports, answer: HoldAnswer) -> HoldAnswer:
    """Tell of a hold. Only the tenant's own has every instance weighed; one's own is due by its document."""
    hints.nudge(ports.bus, [answer.tenant], "audit", *(("retention",) if answer.subject == "." else ()))
    return answer


def _weighed(instance: d.Instance, now: datetime) -> d.Instance:
    """The instance, to be weighed anew if anything of it is stored."""
    return instance if instance.retention_at is None else creation.to_be_weighed(instance, now)


T = TypeVar("T", d.Tenant, d.Instance, d.Point)


def _holding(holder: T, holds: list[d.Hold], now: datetime) -> T:
    """The holder with these holds, those that have ended left out."""
    standing = [hold for hold in holds if hold.stands(now)]
    if len(standing) > HOLDS_MAX:
        raise Clash(f"{HOLDS_MAX} holds stand on it already: release one first")
    return replace(holder, holds=standing, held=bool(standing), updated_at=now)


def hold_point(store: TenantStore, id: str, region: str | None, hold: d.Hold, now: datetime) -> tuple[Write, bool]:
    """What is written of the point to hold it at home, or its copy; and whether that was in its grace and is called
    back with it."""
    point = store.get(d.Point, "points", id)
    if point is None:
        raise Wrong(f"point: {store.tenant!r} has no point {id!r}")
    if region is not None and region not in point.value.copies:
        raise Wrong(f"copy: {id} has no copy in {region!r}; {_regions(point.value)}")
    before = sets.as_point(point.value, region)
    name = _set_words(id, region)
    if before.state in ("deleted", "missed") or (before.state == "failed" and region is not None and not before.disks):
        raise Clash(f"{name} is {before.state}: there is nothing to hold")
    if before.expiry is not None and before.expiry.begun_at is not None:
        begun = before.expiry.begun_at.isoformat()
        raise Clash(f"the deletion of {name} has begun at {begun}, and nothing undoes that")
    after = _holding(before, [*before.holds, hold], now)
    if before.state == "expiring" and before.expiry is not None:
        after = replace(after, state=before.expiry.was, expiry=None)
    return point.replaced(sets.with_set(point.value, region, after)), after.state != before.state


def _set_words(id: str, region: str | None) -> str:
    return id if region is None else f"the copy of {id} in {region}"


def _regions(point: d.Point) -> str:
    """Where there are copies of a point, in words."""
    return f"it has one in {', '.join(sorted(point.copies))}" if point.copies else "it has none"


def release_hold(ports: Ports, asked: Asked, tenant: str, hold: str, ask: ReleaseAsk) -> HoldAnswer:
    """End a hold. Raises NoTenant, Wrong (there is none of this id), Clash, Transient.

    A dry run weighs the instance that it is on, or whose point; of a tenant's hold it would be every instance.
    """
    now = ports.clock.now()
    store = Fleet(ports.documents).tenant(tenant)

    def decide() -> tuple[HoldAnswer, Act | None]:
        owner = owner_of(store)
        lets_go: list[str] | None = None
        if found := _find(owner.value.holds, hold):
            held = HoldAnswer(tenant=tenant, subject=".", name=tenant, hold=found)
            write = owner.replaced(_holding(owner.value, _without(owner.value.holds, hold), now))
        elif instance := _holder(store.walk(d.Instance, "tenant_held_instances", True), hold):
            one, found = instance
            held = HoldAnswer(tenant=tenant, subject=f"instances/{one.value.id}", name=one.value.name, hold=found)
            free = _weighed(_holding(one.value, _without(one.value.holds, hold), now), now)
            write = one.replaced(free)
            if ask.dry_run:
                lets_go = [name for name, _ in _let_go(store, owner.value, free, now)]
        elif found_on := _held_set(store.walk(d.Point, "tenant_held_points", True), hold):
            stored, region, found = found_on
            id = stored.value.id
            held = HoldAnswer(tenant=tenant, subject=f"points/{id}", name=id, copy=region, hold=found)
            its_set = sets.as_point(stored.value, region)
            let = sets.with_set(stored.value, region, _holding(its_set, _without(its_set.holds, hold), now))
            write = stored.replaced(let)
            its = store.get(d.Instance, "instances", let.instance.id) if ask.dry_run else None
            if its is not None:
                name = sets.name_of(id, region)
                lets_go = [one for one, _ in _let_go(store, owner.value, its.value, now, instead=let) if one == name]
        else:
            raise Wrong(f"hold: {tenant!r} has no hold {hold!r}")
        if ask.dry_run:
            return replace(held, lets_go=lets_go, dry_run=True), None
        detail = {"hold": hold, "held_for": found.reason, "reason": ask.reason, "name": held.name}
        detail |= {"copy": held.copy} if held.copy else {}
        return held, Act(record_of(now, asked, "hold.released", held.subject, detail), [write])

    answer = once(ports, tenant, asked, HoldAnswer, decide)
    return answer if ask.dry_run else _held(ports, answer)


def _let_go(
    store: TenantStore, owner: d.Tenant, instance: d.Instance, now: datetime, instead: d.Point | None = None
) -> list[tuple[str, d.Point]]:
    """The sets, by name, that retention marks to go where the instance, and the point that is given, are as given."""
    stored = [one.value for one in store.walk(d.Point, "instance_points", instance.id)]
    weighed = [instead if instead and instead.id == one.id else one for one in stored]
    going = []
    for region, points in sets.by_region(weighed).items():
        decided = retention.plan(points, retention.situation(owner, instance, now, region=region), now).decisions
        going += [
            (sets.name_of(one.point.id, region), one.point)
            for one in decided
            if isinstance(one.decision, retention.Expire | retention.Delete)
        ]
    return going


def _find(holds: Iterable[d.Hold], id: str) -> d.Hold | None:
    return next((hold for hold in holds if hold.id == id), None)


def _without(holds: Iterable[d.Hold], id: str) -> list[d.Hold]:
    return [hold for hold in holds if hold.id != id]


def _holder(held: Iterable[Held[d.Instance]], id: str) -> tuple[Held[d.Instance], d.Hold] | None:
    """The first of these that has the hold, and the hold."""
    return next(((one, hold) for one in held if (hold := _find(one.value.holds, id))), None)


def _held_set(held: Iterable[Held[d.Point]], id: str) -> tuple[Held[d.Point], str | None, d.Hold] | None:
    """The first of these points that has the hold, the region of the set that it is on (None: at home), the hold."""
    for point in held:
        for region, holds in sets.holds_of(point.value):
            if hold := _find(holds, id):
                return point, region, hold
    return None


# --- stopping and going on ----------------------------------------------------------------------------------------


def pause(
    ports: Ports,
    asked: Asked,
    what: Kind,
    reason: str,
    *,
    tenant: str | None = None,
    project: str | None = None,
    dry_run: bool = False,
) -> PauseAnswer:
    """Stop one kind of change of a tenant, of a project, or with neither of the fleet.

    Raises NoTenant, Wrong (no tenant has the project), Clash, Transient.
    """
    if project is not None and not _is_someones(ports, project):
        raise Wrong(f"project: no tenant has its instances or its snapshots in {project!r}")
    return _set_paused(ports, asked, what, reason, "paused", tenant=tenant, project=project, dry_run=dry_run)


def resume(
    ports: Ports,
    asked: Asked,
    what: Kind,
    reason: str,
    *,
    tenant: str | None = None,
    project: str | None = None,
    dry_run: bool = False,
) -> PauseAnswer:
    """Let it go on; what was stopped in wider words (fleet) stays so. Raises NoTenant, Clash, Transient."""
    return _set_paused(ports, asked, what, reason, "resumed", tenant=tenant, project=project, dry_run=dry_run)


def _is_someones(ports: Ports, project: str) -> bool:
    """Whether a tenant has it, or has had its snapshots there: of every vault that was, a document tells."""
    if any(ports.documents.get(f"vaults/{project}")):
        return True
    return any(project in (one.value.project, one.value.vault_project) for one in Fleet(ports.documents).tenants())


def _set_paused(
    ports: Ports,
    asked: Asked,
    what: Kind,
    reason: str,
    done: Literal["paused", "resumed"],
    *,
    tenant: str | None,
    project: str | None,
    dry_run: bool,
) -> PauseAnswer:
    now = ports.clock.now()
    fleet = Fleet(ports.documents)
    stop = done == "paused"

    def decide() -> tuple[PauseAnswer, Act | None]:
        owner = owner_of(fleet.tenant(tenant)).value if tenant is not None else None
        seen = fleet.held_controls()
        paused = seen.value.paused if seen else d.PausedKinds()
        kind: d.Paused = getattr(paused, what)
        if tenant is not None:
            after = replace(kind, tenants=_listed(kind.tenants, tenant, stop))
        elif project is not None:
            after = replace(kind, projects=_listed(kind.projects, project, stop))
        else:
            after = replace(kind, fleet=stop)
        controls = d.Controls(updated_at=now, paused=replace(paused, **{what: after}))
        write = seen.replaced(controls) if seen else created("system/controls", controls)
        # Whose chain it is, is told of nobody else.
        before = tenant in kind.tenants if tenant else project in kind.projects if project else kind.fleet
        of = {"tenant": tenant} if tenant else {"project": project} if project else {"fleet": True}
        detail = {"what": what, "reason": reason, "before": before} | of
        told = after.of(owner.id, {owner.project, owner.vault_project}) if owner else after
        answer = PauseAnswer(what=what, paused=told, dry_run=dry_run)
        if dry_run:
            return answer, None
        if before == stop:
            return answer, Act(None)  # so that many who stop the same do not stand in each other's way
        return answer, Act(record_of(now, asked, f"{what}.{done}", "system/controls", detail), [write])

    answer = once(ports, tenant or SYSTEM, asked, PauseAnswer, decide, CONTROLS_CONFLICTS_MAX)
    if dry_run:
        return answer
    hints.nudge(ports.bus, [tenant or SYSTEM], "audit")
    if tenant is not None and what == "deletion" and not stop:
        hints.nudge(ports.bus, [tenant], "retention")  # else it looks again within the hour
    return answer


def _listed(names: list[str], name: str, there: bool) -> list[str]:
    after = sorted({*names, name} if there else {*names} - {name})
    if len(after) > PAUSED_MAX:
        raise Clash(f"{PAUSED_MAX} are stopped one by one already: stop the fleet, or let some go on")
    return after


# --- retention, offboarding, the schedule -------------------------------------------------------------------------


def override(ports: Ports, asked: Asked, tenant: str, ask: OverrideAsk) -> OverrideAnswer:
    """Let the points of an instance go once although it is in breach of its RPO. Raises NoTenant, Wrong, Clash."""
    now = ports.clock.now()
    store = Fleet(ports.documents).tenant(tenant)

    def decide() -> tuple[OverrideAnswer, Act | None]:
        owner = owner_of(store).value
        instance = find_instance(store, ask.instance, ask.zone)
        one = instance.value
        if not retention.situation(owner, one, now).in_breach:
            raise Clash(f"{one.name} is not in breach of its RPO: there is nothing to override")
        if one.override is not None:
            raise Clash(f"{one.name} has an override that is not used yet, by {one.override.by}")
        given = d.Override(id=f"o-{digest(f'{tenant}|{asked.id}')[:12]}", reason=ask.reason, by=asked.by, at=now)
        after = creation.to_be_weighed(replace(one, override=given, updated_at=now), now)
        going = _let_go(store, owner, after, now)
        answer = OverrideAnswer(
            tenant=tenant,
            instance=one.id,
            name=one.name,
            override=given,
            lets_go=[name for name, _ in going],
            bytes=sum(disk.snapshot.bytes for _, point in going for disk in point.disks),
            dry_run=ask.dry_run,
        )
        detail = {"override": given.id, "reason": ask.reason, "name": one.name, "lets_go": len(going)}
        record = record_of(now, asked, "retention.overridden", f"instances/{one.id}", detail, "requested")
        return answer, None if ask.dry_run else Act(record, [instance.replaced(after)])

    answer = once(ports, tenant, asked, OverrideAnswer, decide)
    if not ask.dry_run:
        hints.nudge(ports.bus, [tenant], "audit", "retention")
    return answer


def offboard(ports: Ports, asked: Asked, tenant: str, ask: OffboardAsk) -> OffboardAnswer:
    """Say from which local day on a tenant is no longer served, or that it stays. Raises NoTenant, Wrong, Transient."""
    now = ports.clock.now()
    store = Fleet(ports.documents).tenant(tenant)

    def decide() -> tuple[OffboardAnswer, Act | None]:
        owner = owner_of(store)
        leaving = None
        if ask.day is not None:
            leaving = d.Offboarding(at=_beginning(ask.day, owner.value.timezone), by=asked.by, reason=ask.reason)
        points = None
        if leaving is not None and leaving.at <= now:
            instead = "Give a day to come: nothing has to be counted for it"
            lost = _stored_of(store, lambda one: one.lost_at is None, instead)
            points = sum(None in sets.stored(point) for _, stored in lost for point in stored)
        answer = OffboardAnswer(tenant=tenant, offboarding=leaving, points=points, dry_run=ask.dry_run)
        # Discovery makes its instances lost from then on, or finds them again.
        due = [at for at in (owner.value.discover_at, now) if at is not None]
        after = replace(owner.value, offboarding=leaving, discover_at=min(due), updated_at=now)
        if after.entitlements.inter_region_backup or after.entitlements_at:
            after = replace(after, entitlements_at=now)
        before = owner.value.offboarding
        detail = {
            "day": ask.day,
            "at": leaving.at if leaving else None,
            "reason": ask.reason,
            "before": before.at if before else None,
            **({} if points is None else {"points": points}),
        }
        action = "tenant.offboarded" if leaving else "tenant.kept"
        record = record_of(now, asked, action, ".", detail)
        return answer, None if ask.dry_run else Act(record, [owner.replaced(after)])

    answer = once(ports, tenant, asked, OffboardAnswer, decide)
    if not ask.dry_run:
        hints.send(ports.bus, "discover", Tick())
        hints.nudge(ports.bus, [tenant], "audit", "entitlements", "health")
    return answer


def _beginning(day: str, timezone: str) -> datetime:
    """The first instant of a local day."""
    try:
        parsed = date.fromisoformat(day)
        found = first_instant(parsed, time(0), ZoneInfo(timezone))
        if found is None:  # a day that the zone left out: it begins with the next one
            raise ValueError
    except (ValueError, OverflowError):
        raise Wrong(f"day: {day!r} is not a day in {timezone}; expected YYYY-MM-DD") from None
    return found


def switch_schedule(ports: Ports, asked: Asked, tenant: str, ask: SwitchAsk) -> SwitchAnswer:
    """Switch the schedule of a private_saas tenant on or off. Raises NoTenant, Clash, Transient."""
    now = ports.clock.now()
    store = Fleet(ports.documents).tenant(tenant)

    def decide() -> tuple[SwitchAnswer, Act | None]:
        owner = owner_of(store)
        if owner.value.deployment != "private_saas":
            raise Clash(f"{tenant} is {owner.value.deployment}: its schedule is the vendor's")
        switch = d.ScheduleSwitch(on=ask.on, by=asked.by, at=now)
        # Discovery gives its instances their next slot, or takes it from them.
        after = replace(owner.value, schedule_switch=switch, discover_at=now, updated_at=now)
        before = owner.value.schedule_switch
        detail = {"on": ask.on, "reason": ask.reason, "before": before is not None and before.on}
        record = record_of(now, asked, "schedule.switched", ".", detail)
        answer = SwitchAnswer(tenant=tenant, schedule_switch=switch, dry_run=ask.dry_run)
        return answer, None if ask.dry_run else Act(record, [owner.replaced(after)])

    answer = once(ports, tenant, asked, SwitchAnswer, decide)
    if ask.dry_run:
        return answer
    hints.send(ports.bus, "discover", Tick())
    hints.nudge(ports.bus, [tenant], "audit", "health")
    return answer


def tick(ports: Ports, asked: Asked, function: str) -> TickAnswer:
    """Wake a function now rather than at its next scheduled time. Raises Clash, Transient."""
    now = ports.clock.now()
    topic = f"snapkeep-{function.replace('_', '-')}"

    def decide() -> tuple[TickAnswer, Act]:
        record = record_of(now, asked, "function.woken", f"functions/{function}", {"topic": topic}, "requested")
        return TickAnswer(function=function, topic=topic), Act(record)

    answer = once(ports, SYSTEM, asked, TickAnswer, decide)
    ports.bus.publish(answer.topic, messages.encode(Tick()))
    hints.nudge(ports.bus, [SYSTEM], "audit")
    return answer


# --- the fleet file -----------------------------------------------------------------------------------------------


def apply_tenant(ports: Ports, asked: Asked, tenant: str, ask: ApplyAsk) -> ApplyAnswer:
    """Store one tenant as its entry of the fleet file says. Raises Wrong with every mistake, Clash, Transient."""
    reading = fleet_file.parse({ask.file: msgspec.json.encode({"tenants": [ask.entry]})})
    if reading.mistakes:
        raise Wrong("\n".join(str(mistake) for mistake in reading.mistakes))
    (entry,) = reading.valid
    if entry.id != tenant:
        raise Wrong(f"{ask.file}: tenants[0].id: {entry.id!r} is not the tenant {tenant!r} that it is sent for")
    answer = _apply(ports, asked, entry, ask, [str(warning) for warning in reading.warnings])
    if answer.changes and not ask.dry_run:
        _tell_of_applied(ports, [tenant])
    return answer


@dataclass(frozen=True, slots=True)
class Applied:
    """What applying a fleet file changed, or with `dry_run` would change."""

    changes: tuple[ApplyAnswer, ...]  # of the tenants that were not as the file says
    unchanged: tuple[str, ...]  # of those that were
    left_out: tuple[str, ...]  # valid tenants of files with a mistake


def apply_fleet(
    ports: Ports,
    reading: Reading,
    actor: str,
    *,
    accept_deletions: int = 0,
    dry_run: bool = False,
    keep_going: bool = False,
) -> Applied:
    """Store the tenants of a fleet file, each as `apply_tenant` does, for a cloud that is this process's own.

    Of a file with a mistake nothing is applied, unless `keep_going`: then its valid tenants are. Applying twice
    changes nothing the second time, and no tenant is ever deleted. Raises Clash, before anything is stored, unless
    the points and copies that it gives up are exactly `accept_deletions` in all; Transient.
    """
    entries = reading.valid if keep_going else reading.clean
    chosen = {entry.id for entry in entries}
    foreseen = [_apply(ports, _by(ports, actor, one), one, _whole(one, 0, dry_run=True), []) for one in entries]
    changed = [(entry, seen) for entry, seen in zip(entries, foreseen, strict=True) if seen.changes]
    deletions = sum(seen.deletions for _, seen in changed)
    if not dry_run:
        if deletions != accept_deletions:
            of_copies = sum(seen.copies for _, seen in changed)
            raise Clash(_not_accepted("the fleet file", deletions, of_copies, accept_deletions))
        for entry, seen in changed:
            _apply(ports, _by(ports, actor, entry), entry, _whole(entry, seen.deletions, dry_run=False), [])
        if changed:
            _tell_of_applied(ports, [entry.id for entry, _ in changed])
    return Applied(
        changes=tuple(seen for _, seen in changed),
        unchanged=tuple(seen.tenant for seen in foreseen if not seen.changes),
        left_out=tuple(entry.id for entry in reading.valid if entry.id not in chosen),
    )


def _by(ports: Ports, actor: str, entry: Entry) -> Asked:
    # A key of its own: a person may apply one thing, another, and the first again within one instant.
    key = f"apply|{entry.id}|{ports.clock.token()}"
    return Asked(by=actor, key=key, sha256=digest(key))


def _whole(entry: Entry, accept: int, *, dry_run: bool) -> ApplyAsk:
    return ApplyAsk(entry=dict(entry.normal), file=entry.file, accept_deletions=accept, dry_run=dry_run)


def _tell_of_applied(ports: Ports, tenants: Sequence[str]) -> None:
    hints.send(ports.bus, "discover", Tick())
    hints.nudge(ports.bus, tenants, "audit", "entitlements", "health", "retention")


def _apply(ports: Ports, asked: Asked, entry: Entry, ask: ApplyAsk, warnings: list[str]) -> ApplyAnswer:
    """Store what one entry changes, once for one key, if it gives up as many points and copies as are accepted."""
    now = ports.clock.now()
    store = Fleet(ports.documents).tenant(entry.id)
    counted: list[tuple[_Stake, _Given]] = []  # of a try before, which met a Conflict

    def given_up(before: d.Tenant, after: d.Tenant) -> _Given:
        stake = (_at_stake(before, now), _at_stake(after, now))
        known = next((given for those, given in counted if those == stake), None)
        given = known or _given_up(store, before, after, now)
        counted.append((stake, given))
        return given

    def decide() -> tuple[ApplyAnswer, Act | None]:
        before = store.get(d.Tenant)
        after = entry.tenant(applied_at=now, applied_by=asked.by, before=before.value if before else None)
        after = replace(after, discover_at=now)
        if _of_copies(before.value if before else None) != _of_copies(after):
            after = replace(after, entitlements_at=now)
        if _asks_for_tests_anew(before.value if before else None, after):
            after = replace(after, restore_test_at=testing.first_at(after, now))
        differences = diff(before.value if before else None, after)
        given = given_up(before.value, after) if before else _Given(0, 0, [], [])
        answer = ApplyAnswer(
            tenant=entry.id,
            deletions=given.sets,
            copies=given.copies,
            gives_up=given.named,
            deselected=given.deselected,
            changes=[FieldChange(field=one.field, old=one.old, new=one.new, text=str(one)) for one in differences],
            warnings=warnings,
            over=_over(after, now),
            dry_run=ask.dry_run,
        )
        if ask.dry_run:
            return answer, None
        if not differences:
            # Nothing of the file has changed; but it may have asked for tests before there were any.
            undated = before is not None and before.value.restore_test_at != after.restore_test_at
            dated = replace(before.value, restore_test_at=after.restore_test_at) if before and undated else None
            return answer, Act(None, [before.replaced(dated)] if before and dated else [])
        if given.sets != ask.accept_deletions:
            raise Clash(_not_accepted(f"{entry.id}: this entry", given.sets, given.copies, ask.accept_deletions))
        detail: dict[str, Any] = {"file": ask.file, "changes": [str(one) for one in differences]}
        detail |= {"deletions": given.sets, "copies": given.copies, "deselected": given.deselected}
        record = record_of(now, asked, "tenant.applied", ".", detail)
        return answer, Act(record, [before.replaced(after) if before else created(store.path(), after)])

    return once(ports, entry.id, asked, ApplyAnswer, decide)


def _over(tenant: d.Tenant, now: datetime) -> list[str]:
    """What to warn of: the copies of this tenant are said to be bought until a day that has passed."""
    bought = tenant.entitlements.inter_region_backup
    if bought is None or now < copies.ends_at(bought, tenant.timezone):
        return []
    said = f"{bought.valid_until!r} has passed: no copies are made in {bought.region}"
    return [f"{tenant.id}: entitlements.inter_region_backup.valid_until: {said}"]


def _asks_for_tests_anew(before: d.Tenant | None, after: d.Tenant) -> bool:
    """Whether its next restore test is to be dated: the file asks for others than before, or there is no date."""
    changed = before is None or before.restore_test != after.restore_test
    return changed or (after.restore_test is not None and after.restore_test_at is None)


def _of_copies(tenant: d.Tenant | None) -> tuple[object, ...]:
    """All of the fleet file that copies follow from."""
    return (tenant.entitlements.inter_region_backup, tenant.kms_keys) if tenant else (None, {})


def _not_accepted(what: str, deletions: int, of_copies: int, accepted: int) -> str:
    points = deletions - of_copies
    said = [f"{points} point{'s' * (points != 1)}"] if points or not of_copies else []
    said += [f"{of_copies} cop{'ies' if of_copies != 1 else 'y'}"] if of_copies else []
    return (
        f"{what} gives up {' and '.join(said)}, and {accepted} {'is' if accepted == 1 else 'are'} "
        "accepted: a dry run names them; accept exactly as many"
    )


@dataclass(frozen=True, slots=True)
class _Given:
    """What applying an entry gives up."""

    sets: int
    copies: int  # of them
    named: list[GivenUp]
    deselected: list[str]


_Stake = tuple[tuple[object, ...], tuple[object, ...]]


def _at_stake(tenant: d.Tenant, now: datetime) -> tuple[object, ...]:
    """All of a tenant that decides which sets are given up when it changes."""
    return tenant.project, tenant.instances, tenant.retention, tenant.timezone, _copies_kept(tenant, now)


def _copies_kept(tenant: d.Tenant, now: datetime) -> tuple[object, ...] | None:
    """Where copies are bought now, and by which policy they are kept; until when does not matter while they are."""
    bought = copies.entitled(tenant, now)
    return (bought.region, bought.retention) if bought else None


def _given_up(store: TenantStore, before: d.Tenant, after: d.Tenant, now: datetime) -> _Given:
    """What the tenant as it was keeps, and as it will be does not. Reads points only where that could be any.

    Raises Clash where they are more than POINTS_READ_MAX.
    """
    policy_stays = (before.retention, before.timezone) == (after.retention, after.timezone)
    copies_stay = _copies_kept(before, now) in (None, _copies_kept(after, now))
    if policy_stays and copies_stay and (before.project, before.instances) == (after.project, after.instances):
        return _Given(0, 0, [], [])
    counted = 0
    of_copies = 0
    named: list[GivenUp] = []
    deselected: list[str] = []

    def matters(instance: d.Instance) -> bool:
        return not (policy_stays and copies_stay) or _deselects(before, after, instance)

    instead = (
        "Take instances out of the entry a few at a time; for a policy over so many points, have whoever runs Snapkeep "
        "raise POINTS_READ_MAX"
    )
    for instance, stored in _stored_of(store, matters, instead):
        name = f"{instance.name} in {instance.zone}"
        loses = _deselects(before, after, instance)
        deselected += [name] if loses else []
        for region, points in sets.by_region(stored).items():
            then, later = (retention.situation(one, instance, now, region=region) for one in (before, after))
            given = points if loses else retention.gives_up(points, then, later, now)
            counted += len(given)
            of_copies += len(given) if region is not None else 0
            for point in given[: GIVEN_UP_NAMED_MAX - len(named)]:
                locked = point.lock_until if point.lock_until and point.lock_until > now else None
                kept = _kept_until(after, region, locked, now) if region is not None else None
                named.append(GivenUp(point=point.id, copy=region, instance=name, locked_until=locked, kept_until=kept))
    return _Given(counted, of_copies, named, deselected)


def _kept_until(after: d.Tenant, region: str, locked: datetime | None, now: datetime) -> datetime | None:
    """Until when a copy stays at least that the tenant has not bought any more; None while it has."""
    bought = copies.entitled(after, now)
    if bought is not None and bought.region == region:
        return None
    # An end that is dated back takes nothing of the grace.
    since = max(copies.ended_at(after, region, now) or now, now - LOOK_AGAIN_QUIET)
    return max(since + copies.UNENTITLED_GRACE, locked or now)


def _deselects(before: d.Tenant, after: d.Tenant, instance: d.Instance) -> bool:
    """Whether the instance loses its protection, and its points so in the end. One that was lost before does not.

    No document says which labels an instance has: where another label selects, or one takes the place of names, none
    of those that are known is sure to be found again.
    """
    if instance.lost_at is not None:
        return False
    if instance.project != after.project:
        return True
    if after.instances.by_label is not None:
        return after.instances.by_label != before.instances.by_label
    return not any(one.name == instance.name and one.zone == instance.zone for one in after.instances.by_name)


def _stored_of(
    store: TenantStore, wanted: Callable[[d.Instance], bool], instead: str
) -> Iterator[tuple[d.Instance, list[d.Point]]]:
    """These instances of a tenant, each with its stored points.

    Raises Clash beyond POINTS_READ_MAX points in all, with what to do `instead`.
    """
    room = POINTS_READ_MAX
    for instance in store.walk(d.Instance, "tenant_instances"):
        if not wanted(instance.value):
            continue
        points = []
        # One page more than may be: what does not fit is met, and not left out.
        pages = room // QUERIES["instance_points"].limit + 1
        for point in store.walk(d.Point, "instance_points", instance.value.id, pages=pages):
            points.append(point.value)
            if len(points) > room:
                raise Clash(
                    f"{store.tenant}: more than {POINTS_READ_MAX} stored points would have to be weighed, which is "
                    f"more than one request may. {instead}"
                )
        room -= len(points)
        yield instance.value, points


def verify_audit(ports: Ports, tenants: Iterable[str], noted: Mapping[str, Head]) -> list[Verdict]:
    """Walk the chains of these tenants, or of every tenant and of acts that belong to none.

    A name that is no tenant's and has no chain gets no verdict. `noted` are heads that were written down earlier, by
    tenant; each chain must still contain its own.
    """
    fleet = Fleet(ports.documents)
    # A chain that was noted is looked for even where nothing is left of its tenant.
    ids = sorted(tenants) or sorted({*_chains(fleet), *noted})
    verdicts = [audit.verify(fleet.tenant(id), noted) for id in ids]
    known = {SYSTEM, *noted, *fleet.tenants_by_id(ids)}
    return [verdict for verdict in verdicts if verdict.records or verdict.tenant in known]


def audit_chains(ports: Ports) -> dict[str, list[d.AuditRecord]]:
    """Every chain, by tenant."""
    fleet = Fleet(ports.documents)
    return {id: list(audit.records_of(fleet.tenant(id))) for id in _chains(fleet)}


def _chains(fleet: Fleet) -> list[str]:
    return [SYSTEM, *(tenant.value.id for tenant in fleet.tenants())]

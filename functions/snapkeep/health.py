"""Function `health`: what dashboards read, and the alerts that time alone brings.

Everything here is rebuilt from the tenants' and instances' documents, which carry their own tallies, so that one
tenant's health costs as many reads as it has instances. Ages and states are derived when read (`state`).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, get_args

from msgspec.structs import replace

from snapkeep import documents as d
from snapkeep import hints, logged
from snapkeep.creation.handler import settle_slots
from snapkeep.creation.rules import DAYS_SHOWN, breach_due
from snapkeep.messages import Message, Nudge, Tick, not_for
from snapkeep.ports import Conflict, Doc, Documents, Ports
from snapkeep.store import Event, Fleet, Held, Record, TenantStore, put, readable, timestamp

log: Final = logging.getLogger(__name__)

ACTOR: Final = "snapkeep"

OVERLAP: Final = timedelta(minutes=10)
"""How far a tick looks back behind the last one: longer than a function may run, so that no late write is missed."""

TENANTS_AT_ONCE: Final = 100

REJECTED_SHOWN: Final = timedelta(days=7)

State = Literal["breached", "at_risk", "protected", "client_managed", "offboarded"]

RANKS: Final[tuple[State, ...]] = get_args(State)
"""From the one that needs somebody first."""

COPIES: Final = (
    "verified",
    "waiting",
    "lagging",
    "missing",
    "unentitled",
    "bytes",
    "catch_up_disks",
    "catch_up_bytes",
)
"""What `copies` of a tenant's and of the fleet's health holds, each the sum of its instances'."""

TestedAs = Literal["passed", "failed", "never", "overdue"]

TESTED_AS: Final[tuple[TestedAs, ...]] = get_args(TestedAs)
"""What `restore_tests` of the fleet's health counts: each tenant of which restore tests are wanted, once."""

TEST_LATE: Final = timedelta(days=3)
"""Beyond its interval, after which a tenant's last restore test is too long ago: each day another one was tried."""

_HOW_BAD: Final = {"verified": 0, "failed": 1, "missed": 2}
"""States of a day, from the best to the worst."""

_LONG_AGO: Final = datetime(2000, 1, 1, tzinfo=UTC)


def health(message: Message, ports: Ports) -> None:
    """A nudge recomputes the tenants it names; a tick those that changed since the last one, and the fleet's page."""
    now = ports.clock.now()
    fleet = Fleet(ports.documents)
    match message:
        case Nudge():
            _refresh(fleet, ports, [t for t in message.tenants if t != "_system"], now)
        case Tick():
            before = fleet.fleet_health()
            since = before.value.computed_at - OVERLAP if before else _LONG_AGO
            changed, complete_to = fleet.changed_since(since)
            _refresh(fleet, ports, sorted(changed | _due_tenants(fleet, now)), now)
            # With more changes than one run reads, the next one continues where this one stopped.
            _write_fleet(fleet, ports.documents, complete_to or now, now)
        case _:
            raise not_for("health", message)


def _due_tenants(fleet: Fleet, now: datetime) -> set[str]:
    """Tenants with an instance that comes into breach, or whose slot nobody has decided in time."""
    late = {doc.path.split("/")[1] for doc in fleet.due("breaches", now, pages=5)}
    return late | {doc.path.split("/")[1] for doc in fleet.due("slots", now - timedelta(hours=1), pages=5)}


def _refresh(fleet: Fleet, ports: Ports, ids: Sequence[str], now: datetime) -> None:
    """Look after these tenants, TENANTS_AT_ONCE at a time: a run needs no more memory for a larger fleet."""
    for start in range(0, len(ids), TENANTS_AT_ONCE):
        _refresh_some(fleet, ports, ids[start : start + TENANTS_AT_ONCE], now)


def _refresh_some(fleet: Fleet, ports: Ports, ids: Sequence[str], now: datetime) -> None:
    changed: set[str] = set()
    tenants = fleet.tenants_by_id(ids)
    # Before the instances are read: where another run writes meanwhile, this one's is not written over it.
    written = ports.documents.get(*(f"health/{id}" for id in tenants)) if tenants else []
    for tenant, seen in zip(tenants.values(), written, strict=True):
        store = fleet.tenant(tenant.value.id)
        instances = list(store.walk(d.Instance, "tenant_instances"))
        current = []
        for instance in instances:
            after, news = _watch(store, tenant.value, instance, now)
            current.append(after)
            if news:
                changed.add(tenant.value.id)
        _write_tenant(ports.documents, seen, tenant.value, current, now)
    hints.nudge(ports.bus, changed, "audit")


# --- alerts that time brings --------------------------------------------------------------------------------------


def _watch(store: TenantStore, tenant: d.Tenant, instance: Held[d.Instance], now: datetime) -> tuple[d.Instance, bool]:
    """Raise or end the instance's breach, and record slots that a dead planner let pass."""
    slot_has_come = instance.value.next_slot_at is not None and instance.value.next_slot_at <= now
    if slot_has_come and settle_slots(store, tenant, instance, now, missed_only=True):
        instance = store.get(d.Instance, "instances", instance.value.id) or instance
    decided = _breach(tenant, instance.value, now)
    if decided is None:
        return instance.value, False
    after, record = decided
    try:
        store.commit(record, instance.replaced(after))
    except Conflict:
        return instance.value, False  # it has just changed; the change brings its own nudge
    return after, True


def _breach(tenant: d.Tenant, instance: d.Instance, now: datetime) -> tuple[d.Instance, Record] | None:
    """The instance and the record of its coming into breach or out of it; None where nothing changes."""
    due = breach_due(instance, tenant)
    in_breach = due is not None and due <= now
    if in_breach == (instance.breach_at is not None):
        return None
    data = {
        "instance": instance.name,
        "zone": instance.zone,
        "rpo_hours": tenant.rpo_hours,
        "newest_verified_at": instance.newest_verified and instance.newest_verified.at,
    }
    if in_breach:
        after = replace(instance, breach_at=due, breach_due_at=None, updated_at=now)
        # Each coming and going is told by itself, also where the same breach comes again (an edited RPO).
        event = Event("rpo.breached", f"{instance.id}|{timestamp(now)}", data)
    else:
        after = replace(instance, breach_at=None, breach_due_at=due, updated_at=now)
        event = Event("rpo.restored", f"{instance.id}|{timestamp(now)}", data)
    record = Record(
        at=now,
        actor=ACTOR,
        action=event.type,
        subject=f"instances/{instance.id}",
        outcome="observed",
        detail=data,
        event=event,
    )
    return after, record


# --- what dashboards read -----------------------------------------------------------------------------------------


def compute(tenant: d.Tenant, instances: Sequence[d.Instance], now: datetime) -> d.TenantHealth:
    """One tenant's health from its documents. Pure."""
    ours = tenant.vendor_managed and not tenant.has_left(now)
    protected = [i for i in instances if i.lost_at is None] if ours else []
    newest = [i.newest_verified.at for i in protected if i.newest_verified]
    if tenant.has_left(now):  # no RPO is left to judge it by: the newest that it has
        newest = sorted(i.newest_verified.at for i in instances if i.newest_verified)[-1:]
    without = [f"{i.name} in {i.zone}" for i in protected if i.newest_verified is None]
    missing = _not_found(tenant, protected) if ours else set()
    days: dict[str, str] = {}
    for instance in instances:
        for day, ended in instance.tally.days.items():
            if day not in days or _HOW_BAD[ended] > _HOW_BAD[days[day]]:
                days[day] = ended
    stands = d.TenantHealth(
        updated_at=now,
        worst_first="",
        name=tenant.name,
        deployment=tenant.deployment,
        newest_verified_at=min(newest) if newest and not without else None,
        breach_at=min((i.breach_at for i in instances if i.breach_at), default=None),
        unprotected=sorted({*without, *missing}),
        days={day: days[day] for day in sorted(days)[-DAYS_SHOWN:]},
        counts={
            "instances": sum(i.lost_at is None for i in instances),
            "lost": sum(i.lost_at is not None for i in instances),
            "verified": sum(i.tally.verified for i in instances),
            "failed": sum(i.tally.failed for i in instances),
            "missed": sum(i.tally.missed for i in instances),
        },
        bytes=sum(i.tally.bytes for i in instances),
        copies=_copies(tenant, instances),
        running=sum(i.tally.running for i in instances),
        schedule_on=tenant.deployment == "private_saas" and tenant.vendor_managed,
        left_at=tenant.offboarding.at if tenant.offboarding and tenant.has_left(now) else None,
        going=sum(i.retention.going for i in instances),
        going_bytes=sum(i.retention.going_bytes for i in instances),
        incomplete=sum(i.retention.incomplete for i in instances),
        restore_test_every_days=_tested_every(tenant, now),
        restore_tested=tenant.restore_tested,
        computed_at=now,
    )
    return replace(stands, worst_first=f"{RANKS.index(state(stands))}|{tenant.id}")


def _copies(tenant: d.Tenant, instances: Sequence[d.Instance]) -> dict[str, int]:
    """How its copies stand, lost instances' included. Empty where none are bought and nothing was ever copied."""
    sums: Counter[str] = Counter()
    for instance in instances:
        sums.update({name: getattr(instance.copies, name) for name in COPIES})
    return dict(sums) if any(sums.values()) or tenant.entitlements.inter_region_backup else {}


def _not_found(tenant: d.Tenant, protected: Sequence[d.Instance]) -> set[str]:
    """What the fleet file selects and nobody has seen, be it that its project could never be read."""
    by_label = tenant.instances.by_label
    if by_label is not None:
        return {*tenant.unmatched} if protected else {f"label {by_label.label}"}
    there = {(instance.name, instance.zone) for instance in protected}
    return {*tenant.unmatched} | {
        f"{s.name} in {s.zone}" for s in tenant.instances.by_name if (s.name, s.zone) not in there
    }


def state(tenant: d.TenantHealth) -> State:
    """How a tenant stands. `at_risk`: something is unprotected, or the last day that ended has no point."""
    if tenant.left_at is not None:
        return "offboarded"
    if tenant.deployment == "private_saas" and not tenant.schedule_on:
        return "client_managed"
    if tenant.breach_at is not None:
        return "breached"
    last = max(tenant.days, default=None)
    if tenant.unprotected or (last is not None and tenant.days[last] != "verified"):
        return "at_risk"
    return "protected"


def _tested_every(tenant: d.Tenant, now: datetime) -> int | None:
    return tenant.restore_test.every_days if tenant.restore_test and not tenant.has_left(now) else None


def tested_as(tenant: d.TenantHealth, now: datetime) -> TestedAs | None:
    """What restore tests say of a tenant: the worst that holds. None where none are wanted."""
    if tenant.restore_test_every_days is None:
        return None
    last = tenant.restore_tested
    if last is None:
        return "never"
    if not last.passed:
        return "failed"
    late_at = last.at + timedelta(days=tenant.restore_test_every_days) + TEST_LATE
    return "overdue" if late_at <= now else "passed"


def _write_tenant(
    documents: Documents, seen: Doc | None, tenant: d.Tenant, instances: Sequence[d.Instance], now: datetime
) -> None:
    after = compute(tenant, instances, now)
    for before in readable(d.TenantHealth, [seen] if seen else []):
        if replace(before.value, updated_at=now, computed_at=now) == after:
            return
    put(documents, f"health/{tenant.id}", seen, after)


def _write_fleet(fleet: Fleet, documents: Documents, computed: datetime, now: datetime) -> None:
    (seen,) = documents.get("health/_fleet")
    before = next(readable(d.FleetHealth, [seen] if seen else []), None)
    # A read for each tenant, so only when one has changed. What was not in the sums was written after they were read.
    if before is None or fleet.health_changed_since(before.value.updated_at - OVERLAP):
        sums = summarise((h.value for h in fleet.health()), now)
    else:
        sums = before.value
    after = replace(
        sums,
        updated_at=now,
        rejected=len(fleet.rejected("rejected", now - REJECTED_SHOWN)),
        dead_letters=len(fleet.rejected("dead_letter", now - REJECTED_SHOWN)),
        ticks=fleet.ticks(),
        computed_at=computed,
    )
    put(documents, "health/_fleet", seen, after)
    _tell(after, now)


def _tell(fleet: d.FleetHealth, now: datetime) -> None:
    """Log how the fleet stands: the line that gauges are read from."""
    oldest = fleet.oldest_verified_at
    line = logged.FleetStands(
        tenants=fleet.tenants,
        instances=fleet.instances,
        breached=fleet.breached,
        unprotected=fleet.unprotected,
        running=fleet.running,
        bytes=fleet.bytes,
        copy_bytes=fleet.copies.get("bytes", 0),
        copies_missing=fleet.copies.get("missing", 0),
        going_bytes=fleet.going_bytes,
        incomplete=fleet.incomplete,
        rejected=fleet.rejected,
        dead_letters=fleet.dead_letters,
        restore_tests_failed=fleet.restore_tests.get("failed", 0),
        restore_tests_overdue=fleet.restore_tests.get("overdue", 0),
        oldest_verified_s=int((now - oldest).total_seconds()) if oldest else logged.UNSET,
    )
    said = "%s tenants: %s breached, %s instances unprotected"
    log.info(said, line.tenants, line.breached, line.unprotected, extra=logged.fields(line))


def summarise(tenants: Iterable[d.TenantHealth], now: datetime) -> d.FleetHealth:
    """What the fleet's health says of its tenants; the rest of it is empty. Holds one tenant at a time. Pure."""
    sums: Counter[str] = Counter()
    states: Counter[State] = Counter()
    counts: Counter[str] = Counter()
    copies: Counter[str] = Counter()
    tests: Counter[TestedAs] = Counter()
    oldest: datetime | None = None
    for tenant in tenants:
        states[state(tenant)] += 1
        tested = tested_as(tenant, now)
        if tested is not None:
            tests[tested] += 1
        if tenant.newest_verified_at and tenant.left_at is None:
            oldest = min(oldest or tenant.newest_verified_at, tenant.newest_verified_at)
        counts.update(tenant.counts)
        sums.update(unprotected=len(tenant.unprotected), running=tenant.running, bytes=tenant.bytes)
        sums.update(going=tenant.going, going_bytes=tenant.going_bytes, incomplete=tenant.incomplete)
        copies.update(tenant.copies)
    return d.FleetHealth(
        updated_at=now,
        tenants=states.total(),
        instances=counts.pop("instances", 0),
        breached=states["breached"],
        unprotected=sums["unprotected"],
        client_managed=states["client_managed"],
        offboarded=states["offboarded"],
        running=sums["running"],
        counts=dict(counts),
        bytes=sums["bytes"],
        copies=dict(copies),
        going=sums["going"],
        going_bytes=sums["going_bytes"],
        incomplete=sums["incomplete"],
        restore_tests={one: tests[one] for one in TESTED_AS} if tests else {},
        rejected=0,
        dead_letters=0,
        ticks={},
        oldest_verified_at=oldest,
        computed_at=now,
    )

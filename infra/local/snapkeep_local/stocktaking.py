"""What is stored at the end of a simulation, why, and whether that is exactly what the policies keep.

The documents are held to the retention rules, and the simulated cloud to the documents: every stored point is kept by
a rule or on its way out, every other point that was ever verified is gone with all its snapshots, and no snapshot is
left that no point knows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from snapkeep import cloud
from snapkeep import documents as d
from snapkeep.retention import deletion, rules
from snapkeep.retention.rules import Decided, Delete, Deleting, Expire, Keep, Undo, Wait
from snapkeep_local.cloud import Cloud
from snapkeep_local.errors import Json
from snapkeep_local.memory import MemoryDocuments

SETTLED_WITHIN: Final = timedelta(hours=1)
"""How long a decision that has come due may wait for retention, which looks every few minutes."""

ELSEWHERE: Final = "-"
"""The tenant of a snapshot that no point of any tenant knows."""


TOLD_ELSEWHERE: Final = frozenset({"audit", "inbox"})
"""Collections of which there is most, and which say nothing of what is stored."""


@dataclass(frozen=True, slots=True)
class Stock:
    """What is stored of one tenant, in points."""

    tenant: str
    instances: int
    taken: int  # ever verified
    kept: int
    kept_by: dict[str, int]  # a rule's name -> points that it keeps; a point may have several
    wanted: dict[str, int]  # what the policy's counters add up to over the instances that are selected
    expiring: int  # in their grace
    deleting: int
    deleted: int
    wrong: tuple[str, ...]  # what is not as the policy says: empty


def take(documents: MemoryDocuments, simulated: Cloud) -> list[Stock]:
    """Every tenant's stock, by id; with one more, of ELSEWHERE, where there are snapshots that nobody knows."""
    tenants: dict[str, d.Tenant] = {}
    instances: dict[str, list[d.Instance]] = {}
    points: dict[str, list[d.Point]] = {}
    for path, data in documents.dump(leaving_out=TOLD_ELSEWHERE).items():
        match path.split("/"):
            case ["tenants", id]:
                tenants[id] = d.from_data(d.Tenant, data)
            case ["tenants", id, "instances", _]:
                instances.setdefault(id, []).append(d.from_data(d.Instance, data))
            case ["tenants", id, "points", _]:
                points.setdefault(id, []).append(d.from_data(d.Point, data))
    there = {cloud.partial_link(snapshot["selfLink"]): snapshot for snapshot in simulated.snapshots()}
    stocks = [
        _stock(tenant, instances.get(id, ()), points.get(id, ()), there, simulated.now)
        for id, tenant in sorted(tenants.items())
    ]
    known = {
        (cloud.snapshot_link(ref.project, ref.name), ref.id)
        for point in (point for some in points.values() for point in some if point.stored_for)
        for ref in deletion.left(point)
    }
    unknown = [
        f"{link}: no point knows it"
        for link, snapshot in sorted(there.items())
        if (link, snapshot["id"]) not in known and (link, None) not in known
    ]
    if unknown:
        stocks.append(Stock(ELSEWHERE, 0, 0, 0, {}, {}, 0, 0, 0, tuple(unknown)))
    return stocks


def _stock(
    tenant: d.Tenant,
    instances: Sequence[d.Instance],
    points: Sequence[d.Point],
    there: Mapping[str, Json],
    now: datetime,
) -> Stock:
    kept_by: Counter[str] = Counter()
    states: Counter[str] = Counter()
    wrong: list[str] = []
    for instance in instances:
        stored = [point for point in points if point.stored_for == instance.id]
        try:
            plan = rules.plan(stored, rules.situation(tenant, instance, now), now)
        except (rules.UnsafePlan, ValueError) as fault:
            wrong.append(f"{tenant.id}: {instance.name}: {fault}")
            continue
        kept_by.update(plan.kept_by)
        for decided in plan.decisions:
            states[_standing(decided)] += 1
            wrong += [f"{tenant.id}: {decided.point.id}: {why}" for why in _misplaced(decided, instance, now)]
    for point in points:
        wrong += [f"{tenant.id}: {point.id}: {why}" for why in _unaccounted(point, instances, there)]
    return Stock(
        tenant=tenant.id,
        instances=len(instances),
        taken=sum(point.verified_at is not None for point in points),
        kept=states["kept"],
        kept_by={rule.name: kept_by[rule.name] for rule in rules.RULES if kept_by[rule.name]},
        wanted=_wanted(tenant, instances),
        expiring=states["expiring"],
        deleting=states["deleting"],
        deleted=sum(point.state == "deleted" for point in points),
        wrong=tuple(wrong),
    )


def _wanted(tenant: d.Tenant, instances: Sequence[d.Instance]) -> dict[str, int]:
    selected = sum(instance.lost_at is None for instance in instances)
    return {name: selected * int(getattr(tenant.retention, f"keep_{name}")) for name in rules.BUCKETS}


def _standing(decided: Decided) -> str:
    match decided.decision:
        case Keep() | Undo():
            return "kept"
        case Expire() | Wait():
            return "expiring"
        case Delete() | Deleting():
            return "deleting"


def _misplaced(decided: Decided, instance: d.Instance, now: datetime) -> Iterator[str]:
    """What of a stored point is not as the rules decide, though retention has had the time to see to it."""
    due = instance.retention_at
    match decided.decision:
        case Keep() | Wait() | Deleting():
            pass
        case Expire() | Undo() | Delete() as decision:
            if due is None or not now - SETTLED_WITHIN <= due <= now + SETTLED_WITHIN:
                said = f"weighed again {due:%Y-%m-%d %H:%M} UTC" if due else "never weighed again"
                yield f"is {decided.point.state}, and the rules say {type(decision).__name__.lower()} ({said})"


def _unaccounted(point: d.Point, instances: Sequence[d.Instance], there: Mapping[str, Json]) -> Iterator[str]:
    """What of a point's snapshots, or of the document that tells of them, is not as its state says."""
    if point.stored_for is None:
        if point.verified_at is not None and point.state != "deleted":
            yield f"was verified, is {point.state}, and is not stored"
        yield from (f"is {point.state}, and {ref.name} is still there" for ref in _found(point, there))
        return
    if point.stored_for not in {instance.id for instance in instances}:
        yield "is stored for an instance that no document knows"
    if point.state in ("missed", "deleted"):
        yield f"is {point.state}, and said to be stored"
    was = point.expiry.was if point.expiry else point.state
    if was == "verified" and not deletion.has_begun(point):
        found = {ref.name for ref in _found(point, there)}
        missing = [disk.snapshot.name for disk in point.disks if disk.snapshot.name not in found]
        yield from (f"is {point.state}, and {name} is gone" for name in missing if name not in point.gone)


def _found(point: d.Point, there: Mapping[str, Json]) -> Iterator[d.SnapshotRef]:
    """The point's snapshots that there are: by the id that it noted, or, where it noted none, by name."""
    for _, ref in deletion.snapshots_of(point):
        snapshot = there.get(cloud.snapshot_link(ref.project, ref.name))
        if snapshot is not None and ref.id in (None, snapshot["id"]):
            yield ref

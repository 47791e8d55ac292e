"""What is stored at the end of a simulation, why, and whether that is exactly what the policies keep.

The documents are held to the retention rules, and the simulated cloud to the documents: every stored set (a point at
home, or a copy of it) is kept by a rule or on its way out, every other set that was ever verified is gone with all its
snapshots, a copy lies in its own region with the contents of its point, and nothing is left that no point knows: no
snapshot, no instant snapshot or group, no temporary disk.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from snapkeep import cloud
from snapkeep import documents as d
from snapkeep.copies import rules as copies
from snapkeep.copies import sets
from snapkeep.retention import deletion, rules
from snapkeep.retention.rules import Decided, Delete, Deleting, Expire, Keep, Undo, Wait
from snapkeep_local.cloud import Cloud
from snapkeep_local.errors import Json
from snapkeep_local.memory import MemoryDocuments

SETTLED_WITHIN: Final = timedelta(hours=1)
"""How long a decision that has come due may wait for retention, which looks every few minutes."""

COUNTED: Final = ("verified", "waiting", "unentitled")
"""What an instance counts of its copies in the commit of each change. What is missing, `entitlements` counts anew."""

ELSEWHERE: Final = "-"
"""The tenant of what no point of any tenant knows."""


TOLD_ELSEWHERE: Final = frozenset({"audit", "inbox"})
"""Collections of which there is most, and which say nothing of what is stored."""


@dataclass(frozen=True, slots=True)
class Stock:
    """What is stored of one tenant, in points at home, or in copies in one region."""

    tenant: str
    region: str | None  # of the copies; null: the points at home
    instances: int
    taken: int  # ever verified
    kept: int
    kept_by: dict[str, int]  # a rule's name -> sets that it keeps; a set may have several
    wanted: dict[str, int]  # what the policy's counters add up to over the instances that are selected
    expiring: int  # in their grace
    deleting: int
    deleted: int
    bytes: int  # storage bytes of its snapshots, each as read when it was verified
    wrong: tuple[str, ...]  # what is not as the policy says: empty


@dataclass(frozen=True, slots=True)
class _There:
    """What the simulated cloud holds."""

    cloud: Cloud
    snapshots: Mapping[str, Json]  # by link


def take(documents: MemoryDocuments, simulated: Cloud) -> list[Stock]:
    """Every tenant's stock, by id, its copies after its points; with one more, of ELSEWHERE, where there is something
    that nobody knows."""
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
    there = _There(simulated, {cloud.partial_link(one["selfLink"]): one for one in simulated.snapshots()})
    stocks = [
        stock
        for id, tenant in sorted(tenants.items())
        for stock in _stocks(tenant, instances.get(id, ()), points.get(id, ()), there, simulated.now)
    ]
    unknown = tuple(_unknown([point for some in points.values() for point in some], there))
    if unknown:
        stocks.append(Stock(ELSEWHERE, None, 0, 0, 0, {}, {}, 0, 0, 0, 0, unknown))
    return stocks


def _stocks(
    tenant: d.Tenant, instances: Sequence[d.Instance], points: Sequence[d.Point], there: _There, now: datetime
) -> Iterator[Stock]:
    """Its points at home, then its copies in each region where it has bought or ever had any."""
    bought = copies.entitled(tenant, now)
    regions = {region for point in points for region in point.copies} | ({bought.region} if bought else set())
    at_home = _stock(tenant, None, instances, points, there, now)
    yield replace(at_home, wrong=(*at_home.wrong, *_miscounted(tenant, instances, points, bought)))
    for region in sorted(regions):
        yield _stock(tenant, region, instances, points, there, now)


def _miscounted(
    tenant: d.Tenant, instances: Sequence[d.Instance], points: Sequence[d.Point], bought: d.InterRegionBackup | None
) -> Iterator[str]:
    """What an instance counts of its copies otherwise than its points have them."""
    for instance in instances:
        counted = d.CopyWork()
        for point in points:
            if point.stored_for == instance.id:
                counted = copies.counted(counted, None, point, bought.region if bought else None)
        for name in COUNTED:
            says, has = getattr(instance.copies, name), getattr(counted, name)
            if says != has:
                yield f"{tenant.id}: {instance.name}: counts {says} copies {name}, and has {has}"


def _stock(
    tenant: d.Tenant,
    region: str | None,
    instances: Sequence[d.Instance],
    points: Sequence[d.Point],
    there: _There,
    now: datetime,
) -> Stock:
    kept_by: Counter[str] = Counter()
    states: Counter[str] = Counter()
    wrong: list[str] = []
    wanted: Counter[str] = Counter(dict.fromkeys(rules.BUCKETS, 0))
    mine = [sets.as_point(point, region) for point in points if region is None or region in point.copies]
    stored = [one for one, point in _with_points(mine, points) if point.stored_for and region in sets.stored(point)]
    for instance in instances:
        known = rules.situation(tenant, instance, now, region=region)
        if instance.lost_at is None:
            wanted.update({name: int(getattr(known.policy, f"keep_{name}")) for name in rules.BUCKETS})
        try:
            plan = rules.plan([one for one in stored if one.stored_for == instance.id], known, now)
        except (rules.UnsafePlan, ValueError) as fault:
            wrong.append(f"{tenant.id}: {sets.name_of(instance.name, region)}: {fault}")
            continue
        kept_by.update(plan.kept_by)
        for decided in plan.decisions:
            states[_standing(decided)] += 1
            name = sets.name_of(decided.point.id, region)
            wrong += [f"{tenant.id}: {name}: {why}" for why in _misplaced(decided, instance, now)]
    for one, point in _with_points(mine, points):
        name = sets.name_of(point.id, region)
        besides = _unattached(point, instances) if region is None else _unlike(one, point, region, there)
        wrong += [f"{tenant.id}: {name}: {why}" for why in (*besides, *_unaccounted(one, point, region, there))]
    return Stock(
        tenant=tenant.id,
        region=region,
        instances=len(instances),
        taken=sum(one.verified_at is not None for one in mine),
        kept=states["kept"],
        kept_by={rule.name: kept_by[rule.name] for rule in rules.RULES if kept_by[rule.name]},
        wanted=dict(wanted),
        expiring=states["expiring"],
        deleting=states["deleting"],
        deleted=sum(one.state == "deleted" for one in mine),
        bytes=sum(map(deletion.bytes_of, stored)),
        wrong=tuple(wrong),
    )


def _with_points(mine: Sequence[d.Point], points: Sequence[d.Point]) -> Iterator[tuple[d.Point, d.Point]]:
    """Each set with the point that it is of."""
    by_id = {point.id: point for point in points}
    return ((one, by_id[one.id]) for one in mine)


def _standing(decided: Decided) -> str:
    match decided.decision:
        case Keep() | Undo():
            return "kept"
        case Expire() | Wait():
            return "expiring"
        case Delete() | Deleting():
            return "deleting"


def _misplaced(decided: Decided, instance: d.Instance, now: datetime) -> Iterator[str]:
    """What of a stored set is not as the rules decide, though retention has had the time to see to it."""
    due = instance.retention_at
    match decided.decision:
        case Keep() | Wait() | Deleting():
            pass
        case Expire() | Undo() | Delete() as decision:
            if due is None or not now - SETTLED_WITHIN <= due <= now + SETTLED_WITHIN:
                said = f"weighed again {due:%Y-%m-%d %H:%M} UTC" if due else "never weighed again"
                yield f"is {decided.point.state}, and the rules say {type(decision).__name__.lower()} ({said})"


def _unattached(point: d.Point, instances: Sequence[d.Instance]) -> Iterator[str]:
    """What of a point's document does not say for whom it is stored as its sets do."""
    if point.stored_for is None:
        if point.verified_at is not None and sets.stored_for(point) is not None:
            yield f"was verified, is {point.state}, and is not stored"
    elif point.stored_for not in {instance.id for instance in instances}:
        yield "is stored for an instance that no document knows"
    elif sets.stored_for(point) is None:
        yield f"is {point.state}, and said to be stored"


def _unaccounted(one: d.Point, point: d.Point, region: str | None, there: _There) -> Iterator[str]:
    """What of a set's snapshots is not as its state says."""
    if point.stored_for is None or region not in sets.stored(point):
        yield from (f"is {one.state}, and {ref.name} is still there" for ref in _found(one, there))
        return
    was = one.expiry.was if one.expiry else one.state
    if was == "verified" and not deletion.has_begun(one):
        found = {ref.name for ref in _found(one, there)}
        missing = [disk.snapshot.name for disk in one.disks if disk.snapshot.name not in found]
        yield from (f"is {one.state}, and {name} is gone" for name in missing if name not in one.gone)


def _found(one: d.Point, there: _There) -> Iterator[d.SnapshotRef]:
    """The set's snapshots that there are: by the id that it noted, or, where it noted none, by name."""
    for _, ref in deletion.snapshots_of(one):
        snapshot = there.snapshots.get(cloud.snapshot_link(ref.project, ref.name))
        if snapshot is not None and ref.id in (None, snapshot["id"]):
            yield ref


def _unlike(copy: d.Point, point: d.Point, region: str, there: _There) -> Iterator[str]:
    """What of a copy lies elsewhere than in its region, or does not hold what its point holds."""
    if copy.verified_at is None or copy.state == "deleted":
        return
    if len(copy.disks) != len(point.disks):
        yield f"has {len(copy.disks)} of {len(point.disks)} disks"
    home = {disk.id: disk.snapshot for disk in point.disks}
    held = {ref.name for ref in _found(copy, there)}
    held_at_home = {ref.name for ref in _found(point, there)}
    for disk in copy.disks:
        if disk.snapshot.name not in held:
            continue
        link = cloud.snapshot_link(disk.snapshot.project, disk.snapshot.name)
        lies_in = there.snapshots[link]["storageLocations"]
        if lies_in != [region]:
            yield f"{disk.snapshot.name} lies in {', '.join(lies_in)}"
        other = home[disk.id]
        if other.name in held_at_home:
            of_home = cloud.snapshot_link(other.project, other.name)
            if there.cloud.content(link) != there.cloud.content(of_home):
                yield f"{disk.snapshot.name} holds something else than {other.name}"


# --- what nobody knows --------------------------------------------------------------------------------------------


def _unknown(points: Sequence[d.Point], there: _There) -> Iterator[str]:
    """What is there, made by Snapkeep or where its snapshots lie, and of no point that will see to it."""
    known = {
        (cloud.snapshot_link(ref.project, ref.name), ref.id)
        for point in points
        if point.stored_for
        for region in sets.stored(point)
        for ref in deletion.left(sets.as_point(point, region))
    }
    for link, snapshot in sorted(there.snapshots.items()):
        if (link, snapshot["id"]) not in known and (link, None) not in known:
            yield f"{link}: no point knows it"
    moments = [point for point in points if point.moment is not None and point.next_at is not None]
    held = {link for point in moments for link in _held(point)}
    groups = there.cloud.instant_snapshot_groups()
    known_groups = {one["selfLink"] for one in groups if cloud.partial_link(one["selfLink"]) in held}
    instants = there.cloud.instant_snapshots()
    # Members of a group go with it, and are noted by name only once they were read.
    alone = [one for one in instants if one.get("sourceInstantSnapshotGroup") not in known_groups]
    yield from _of_nobody([*alone, *groups], held)
    temporary = {link for point in points for link in _temporary(point)}
    made = [disk for disk in there.cloud.disks() if disk.get("labels", {}).get("snapkeep-role") == "temporary"]
    yield from _of_nobody(made, temporary)


def _of_nobody(resources: Iterable[Json], known: Set[str]) -> Iterator[str]:
    links = sorted(cloud.partial_link(one["selfLink"]) for one in resources)
    return (f"{link}: is left, and no point will remove it" for link in links if link not in known)


def _held(point: d.Point) -> Iterator[str]:
    """The instant snapshots and groups that a point has not released yet."""
    moment = point.moment
    if moment is None or moment.state == "released":
        return
    project = point.instance.project
    for instant in (*moment.instants, *moment.superseded):
        yield f"projects/{project}/{instant.scope}/instantSnapshots/{instant.name}"
    for group in (*([moment.group] if moment.group else []), *moment.superseded_groups):
        yield f"projects/{project}/{group.scope}/instantSnapshotGroups/{group.name}"


def _temporary(point: d.Point) -> Iterator[str]:
    """The temporary disks of its copies that somebody will still look at."""
    for copy in point.copies.values():
        for disk in copy.disks:
            temporary = disk.temporary
            if temporary is not None and copy.next_at is not None:
                yield f"projects/{temporary.project}/zones/{temporary.zone}/disks/{temporary.name}"

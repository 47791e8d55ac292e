"""What is stored at the end of a simulation, why, and whether that is exactly what the policies keep.

The documents are held to the retention rules, and the simulated cloud to the documents: every stored set (a point at
home, or a copy of it) is kept by a rule or on its way out, every other set that was ever verified is gone with all its
snapshots, a copy lies in its own region with the contents of its point, and nothing is left that no point knows: no
snapshot, no instant snapshot or group, no temporary disk. What was restored is there with the contents of its point's
snapshots, the disks from before it are kept as long as was promised and no longer, and of restore tests and of restores
that were given up nothing is left.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from snapkeep import cloud
from snapkeep import documents as d
from snapkeep.copies import rules as copies
from snapkeep.copies import sets
from snapkeep.restore import former
from snapkeep.restore import rules as restoring
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
    disks: Mapping[str, Json]  # by link


@dataclass(slots=True)
class _Known:
    """What the documents of one tenant hold."""

    instances: list[d.Instance] = field(default_factory=list)
    points: list[d.Point] = field(default_factory=list)
    restores: list[d.Restore] = field(default_factory=list)
    claims: list[d.RestoreClaim] = field(default_factory=list)
    supplied: dict[str, d.Supplied] = field(default_factory=dict)  # by the restore's id


def take(documents: MemoryDocuments, simulated: Cloud) -> list[Stock]:
    """Every tenant's stock, by id, its copies after its points; with one more, of ELSEWHERE, where there is something
    that nobody knows."""
    tenants: dict[str, d.Tenant] = {}
    known: defaultdict[str, _Known] = defaultdict(_Known)
    for path, data in documents.dump(leaving_out=TOLD_ELSEWHERE).items():
        match path.split("/"):
            case ["tenants", id]:
                tenants[id] = d.from_data(d.Tenant, data)
            case ["tenants", id, "instances", _]:
                known[id].instances.append(d.from_data(d.Instance, data))
            case ["tenants", id, "points", _]:
                known[id].points.append(d.from_data(d.Point, data))
            case ["tenants", id, "restores", _]:
                known[id].restores.append(d.from_data(d.Restore, data))
            case ["tenants", id, "restore_claims", _]:
                known[id].claims.append(d.from_data(d.RestoreClaim, data))
            case ["tenants", id, "supplied", restore]:
                known[id].supplied[restore] = d.from_data(d.Supplied, data)
    there = _There(
        simulated,
        {cloud.partial_link(one["selfLink"]): one for one in simulated.snapshots()},
        {cloud.partial_link(one["selfLink"]): one for one in simulated.disks()},
    )
    stocks = [
        stock for id, tenant in sorted(tenants.items()) for stock in _stocks(tenant, known[id], there, simulated.now)
    ]
    points = [point for of_tenant in known.values() for point in of_tenant.points]
    restores = [restore for of_tenant in known.values() for restore in of_tenant.restores]
    unknown = (*_unknown(points, there), *_unrestored(restores, there))
    if unknown:
        stocks.append(Stock(ELSEWHERE, None, 0, 0, 0, {}, {}, 0, 0, 0, 0, unknown))
    return stocks


def _stocks(tenant: d.Tenant, known: _Known, there: _There, now: datetime) -> Iterator[Stock]:
    """Its points at home, then its copies in each region where it has bought or ever had any."""
    instances, points = known.instances, known.points
    bought = copies.entitled(tenant, now)
    regions = {region for point in points for region in point.copies} | ({bought.region} if bought else set())
    at_home = _stock(tenant, None, instances, points, there, now)
    of_restores = (f"{tenant.id}: {why}" for why in _misrestored(known, there, now))
    yield replace(at_home, wrong=(*at_home.wrong, *_miscounted(tenant, instances, points, bought), *of_restores))
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


# --- what was restored --------------------------------------------------------------------------------------------


def _misrestored(known: _Known, there: _There, now: datetime) -> Iterator[str]:
    """What of a tenant's restores is not as they say, or is held by one that has ended."""
    gone = {one.id for restore in known.restores for one in restore.former if one.status == "gone"}
    for restore in known.restores:
        ended = restore.state not in restoring.LIVING
        if restore.state == "completed" and restore.purpose == "restore":
            made = [disk for disk in restore.disks if disk.id not in gone]
            yield from (f"{restore.id}: {why}" for disk in made for why in _not_as_stored(disk, there))
        yield from (f"{restore.id}: {why}" for one in restore.former for why in _not_as_kept(restore, one, there, now))
        if ended:
            yield from (f"{restore.id}: is {restore.state}, and {why}" for why in _still_held(restore, known, now))


def _not_as_stored(disk: d.RestoreDisk, there: _There) -> Iterator[str]:
    """What of a disk that was restored is not as the point has it; nobody knows once its snapshot is deleted."""
    link = restoring.disk_link(disk)
    found, snapshot = there.disks.get(link), there.snapshots.get(disk.snapshot)
    if found is None or found["id"] != disk.id:
        yield f"{disk.name} was restored, and is gone"
        return
    is_stored = snapshot is not None and snapshot["id"] == disk.snapshot_id
    if is_stored and there.cloud.content(link) != there.cloud.content(disk.snapshot):
        yield f"{disk.name} holds something else than {disk.snapshot.rsplit('/', 1)[1]}"


def _not_as_kept(restore: d.Restore, one: d.FormerDisk, there: _There, now: datetime) -> Iterator[str]:
    """What of a disk from before a restore is not as was promised."""
    found = there.disks.get(restoring.disk_link(one))
    is_there = found is not None and found["id"] == one.id
    if one.status == "gone":
        if is_there:
            yield f"{one.name} is said to be gone, and is there"
    elif not is_there:
        yield f"{one.name} was attached before it, is {one.status}, and is gone"
    elif one.status == "kept" and restore.keep_until and now > restore.keep_until + former.ASK_AGAIN:
        yield f"{one.name} was to be kept until {restore.keep_until:%Y-%m-%d %H:%M} UTC, and is there"


def _still_held(restore: d.Restore, known: _Known, now: datetime) -> Iterator[str]:
    """What a restore that has ended still has to itself."""
    yield from (f"has {claim.instance} to itself" for claim in known.claims if claim.restore == restore.id)
    yield from (f"has {one.name} in hand" for one in known.instances if one.restoring == restore.id)
    if restore.id in known.supplied and known.supplied[restore.id].values:
        yield "what was supplied for it is stored"
    for point in known.points:
        holds = [*point.holds, *(hold for copy in point.copies.values() for hold in copy.holds)]
        if any(hold.id == restoring.hold_id(restore.id) and hold.stands(now) for hold in holds):
            yield f"holds {point.id}"


def _unrestored(restores: Sequence[d.Restore], there: _There) -> Iterator[str]:
    """Disks and instances that a restore has made or put aside, and that none answers for."""
    known = {link for restore in restores for link in _answered_for(restore)}
    made = [disk for disk in there.disks.values() if "snapkeep-restore" in disk.get("labels", {})]
    links = [cloud.partial_link(disk["selfLink"]) for disk in made]
    links += [one.link for one in there.cloud.instances() if "snapkeep-restore" in one.labels]
    return (f"{link}: is left, and no restore answers for it" for link in sorted(links) if link not in known)


def _answered_for(restore: d.Restore) -> Iterator[str]:
    """Links of what a restore may have in the cloud."""
    living = restore.state in restoring.LIVING
    yield from (restoring.disk_link(one) for one in restore.former if one.status != "gone")
    if living:
        yield from restoring.made_links(restore)
    elif restore.state == "completed" and restore.purpose == "restore":
        yield from map(restoring.disk_link, restore.disks)
    else:
        return
    instance = restoring.target_link(restore)
    if instance is not None:
        yield instance


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
    made = [disk for disk in there.disks.values() if disk.get("labels", {}).get("snapkeep-role") == "temporary"]
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

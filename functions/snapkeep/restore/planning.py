"""What a restore would be: decided from documents alone, and said in words before anybody asks for it. Pure.

`plan` makes the Restore as it would be stored, or refuses it (Wrong, Clash). `test_of` makes a restore test's.
`placed` puts the disks where the zone is that was chosen. What a new instance is made with is in `definition`.
What is only known in the cloud (does the snapshot exist, is the zone up, is the name free) the survey of the restore
reads before it changes anything.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Final, Literal

import msgspec
from msgspec.structs import replace

from snapkeep import cloud
from snapkeep.asking import Ask, Clash, Wrong
from snapkeep.copies import rules as copies
from snapkeep.copies import sets
from snapkeep.documents import (
    Failure,
    Instance,
    InstanceRef,
    Lacking,
    Point,
    PointDisk,
    Restore,
    RestoreDisk,
    RestoreMode,
    RestoreSource,
    RestoreTarget,
    Tenant,
)
from snapkeep.messages import Name, PointId, Reason
from snapkeep.restore import rules, words
from snapkeep.restore.definition import EMPTY, LOCAL_SSD, lacking
from snapkeep.wording import moment

SUPPLIED_MAX: Final = 100
WAIVED_MAX: Final = 500
VALUE_CHARACTERS_MAX: Final = 200_000
"""Of one supplied value; metadata values have at most 256 KiB."""

SUPPLIED_BYTES_MAX: Final = 512 * 1024
"""Of all supplied values together: Compute Engine's own limit of an instance's metadata. They fit into one document."""

UNUSABLE: Final = "point unusable"
"""Lacking: a restore test has failed on the set. It can be waived."""

Item = Annotated[str, msgspec.Meta(min_length=1, max_length=300)]
Value = Annotated[str, msgspec.Meta(min_length=1, max_length=VALUE_CHARACTERS_MAX)]


class RestoreAsk(Ask, frozen=True, kw_only=True):
    """A restore of a point: as disks alone, as a new instance, or in place of what the instance has now."""

    point: PointId
    mode: RestoreMode
    name: Name | None = None  # the new instance's; of mode `disks` what the disks' names begin with
    zone: Name | None = None  # null: the point's own, or in another region any that is up
    region: Name | None = None  # the region of the point's copy; of home: any zone of it that is up
    # Of what is lacking, each item as the plan names it: to its value, or to go without.
    supply: Annotated[dict[Item, Value], msgspec.Meta(max_length=SUPPLIED_MAX)] = msgspec.field(default_factory=dict)
    waive: Annotated[list[Item], msgspec.Meta(max_length=WAIVED_MAX)] = msgspec.field(default_factory=list)
    waive_all: bool = False  # all that is not supplied
    reason: Reason
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """A restore as it would be stored, and what a person should know before he asks for it."""

    restore: Restore
    supplied: Mapping[str, str]  # item to value: secrets may be among them
    lines: tuple[str, ...]  # sentences, the gravest first
    unhandled: tuple[str, ...]  # lacking items that are neither supplied nor waived: it cannot be asked for so


# --- planning -----------------------------------------------------------------------------------------------------


def plan(
    ask: RestoreAsk,
    tenant: Tenant,
    instance: Instance | None,
    point: Point,
    past: Sequence[Restore],
    now: datetime,
    *,
    by: str,
    act: str,
    paused: bool = False,
) -> Plan:
    """The restore that is asked for. Raises Wrong (of the request), Clash (of what is stored).

    `instance`: the point's, as its document says; None: there is none. `past`: the tenant's newest restores. `act`:
    what tells this request from others. `paused`: restores of the tenant are stopped now.
    """
    _may_be_asked(ask)
    target = _target(ask, tenant, instance, point, now)
    source, stored, usable = _source(tenant, point, target.region, now)
    what = "|".join((point.id, source.region, act))
    id = rules.restore_id(now, ask.mode, "restore", point.instance.name, what)
    needs = rules.needs_approval(ask.mode, "restore", tenant)
    restore = Restore(
        updated_at=now,
        id=id,
        mode=ask.mode,
        state="requested" if needs else "approved",
        recovery_point=point.id,
        instance=point.instance,
        source=source,
        target=target,
        disks=_disks(tenant, id, ask.mode, target, point, stored),
        definition={} if ask.mode == "disks" else point.definition,
        steps=rules.steps_of(ask.mode, "restore"),
        probe=None if ask.mode == "disks" else tenant.probe,
        requested_at=now,
        requested_by=by,
        reason=ask.reason,
        request_sha256="",
        needs_approval=needs,
        approve_by=now + rules.APPROVE_WITHIN if needs else None,
        start_by=now + (rules.APPROVE_WITHIN if needs else timedelta(0)) + rules.BEGIN_WITHIN,
        estimate_s=words.estimate(ask.mode, past),
        next_at=now + rules.APPROVE_WITHIN if needs else now,
    )
    if ask.mode == "new_instance" and not any(disk.boot for disk in restore.disks):
        raise Clash(f"{point.id} has no boot disk: no instance can be made of it; mode disks brings its disks back")
    lacks = ([] if usable else [UNUSABLE]) + lacking(ask.mode, point.definition, first_nic_alone=bool(target.network))
    handled = _handled(lacks, ask)
    restore = replace(restore, lacking=handled)
    restore = replace(restore, request_sha256=request_sha256(tenant.id, restore, ask.supply))
    unhandled = tuple(one.item for one in handled if one.handled is None)
    lines = words.of_plan(restore, tenant, point, stored, past, now, paused=paused)
    return Plan(restore, ask.supply, lines, unhandled)


def undo_plan(
    done: Restore,
    tenant: Tenant,
    reason: str,
    past: Sequence[Restore],
    now: datetime,
    *,
    by: str,
    act: str,
    paused: bool = False,
) -> Plan:
    """The restore that puts back what a completed one in place has detached. Raises Clash where nothing can be.

    Whether the instance is the tenant's still, `not_replaceable` says.
    """
    if why := not_undoable(done, now):
        raise Clash(why)
    id = rules.restore_id(now, "in_place", "restore", done.instance.name, "|".join((done.id, "undo", act)))
    restore = Restore(
        updated_at=now,
        id=id,
        mode="in_place",
        state="requested",
        recovery_point=done.recovery_point,
        instance=done.instance,
        source=replace(done.source, undoes=done.id),
        target=done.target,
        disks=[],
        definition=done.definition,
        steps=rules.steps_of("in_place", "restore", undoes=done.id),
        probe=tenant.probe,
        requested_at=now,
        requested_by=by,
        reason=reason,
        request_sha256="",
        needs_approval=True,
        approve_by=now + rules.APPROVE_WITHIN,
        start_by=now + rules.APPROVE_WITHIN + rules.BEGIN_WITHIN,
        estimate_s=words.estimate("in_place", past, undo=True),
        next_at=now + rules.APPROVE_WITHIN,
    )
    restore = replace(restore, request_sha256=request_sha256(tenant.id, restore, {}))
    lines = words.of_undo(restore, done, tenant, past, paused=paused)
    return Plan(restore, {}, lines, ())


def not_undoable(done: Restore, now: datetime) -> str | None:
    """Why a restore cannot be undone; None: it can."""
    if done.mode != "in_place" or done.purpose == "test":
        return f"{done.id} has replaced nothing: only a restore in place is undone"
    if done.state != "completed":
        return f"{done.id} is {done.state}: only a completed restore is undone; a running one is cancelled"
    if any(disk.status == "returned" for disk in done.former):
        return f"{done.id} was undone already"
    if done.keep_until is None or any(disk.status == "gone" for disk in done.former):
        return f"the disks from before {done.id} are not kept any more: restore a point instead"
    if now >= done.keep_until:
        return f"the disks from before {done.id} were kept until {moment(done.keep_until)}: restore a point instead"
    if not done.former or any(disk.status != "kept" for disk in done.former):
        return f"the disks from before {done.id} are not all known to be kept"
    return None


def test_of(tenant: Tenant, point: Point, region: str | None, id: str, now: datetime) -> Restore | Failure:
    """The restore test of a point's set, of its copy in a region (None: at home); or why it cannot be carried out."""
    wanted = tenant.restore_test
    if wanted is None:
        return Failure(code="not_configured", message=f"{tenant.id} has no restore_test in the fleet file")
    where = region or point.instance.region
    add_on = copies.entitled(tenant, now)
    if where != point.instance.region and (add_on is None or add_on.region != where):
        return Failure(code="not_entitled", message=f"inter-region backup to {where} is not bought now")
    if wanted.subnetworks and where not in wanted.subnetworks:
        message = f"restore_test.subnetworks has none for {where}: add it to the fleet file"
        return Failure(code="no_subnetwork", message=message)
    target = RestoreTarget(
        project=tenant.project,
        region=where,
        zone=None,
        name=rules.instance_name_of_test(tenant.id, id, point.instance.name),
        network=wanted.network,
        subnetwork=wanted.subnetworks.get(where),
    )
    try:
        source, stored, _ = _source(tenant, point, where, now)
        disks = _disks(tenant, id, "new_instance", target, point, stored)
    except Clash as clash:
        return Failure(code="not_restorable", message=str(clash)[:500])
    if not any(disk.boot for disk in disks):
        return Failure(code="not_restorable", message=f"{point.id} has no boot disk")
    restore = Restore(
        updated_at=now,
        id=id,
        purpose="test",
        mode="new_instance",
        state="approved",
        recovery_point=point.id,
        instance=point.instance,
        source=source,
        target=target,
        disks=[replace(disk, labels={}, resource_policies=[], auto_delete=False) for disk in disks],
        definition=point.definition,
        steps=rules.steps_of("new_instance", "test"),
        requested_at=now,
        requested_by=rules.ACTOR,
        reason=f"restore test, every {wanted.every_days} days",
        request_sha256="",
        needs_approval=False,
        start_by=now + rules.BEGIN_WITHIN,
        next_at=now,
    )
    return replace(restore, request_sha256=request_sha256(tenant.id, restore, {}))


def request_sha256(tenant: str, restore: Restore, supplied: Mapping[str, str]) -> str:
    """Over all that is asked for, in hex. Of supplied values their digests alone."""
    asked = {
        "tenant": tenant,
        "id": restore.id,
        "purpose": restore.purpose,
        "mode": restore.mode,
        "point": restore.recovery_point,
        "instance": restore.instance,
        "source": restore.source,
        "target": restore.target,
        "disks": restore.disks,
        "definition": restore.definition,
        "lacking": restore.lacking,
        "supplied": {item: hashlib.sha256(value.encode()).hexdigest() for item, value in supplied.items()},
        "probe": restore.probe,
        "requested_at": restore.requested_at,
        "requested_by": restore.requested_by,
        "reason": restore.reason,
    }
    return hashlib.sha256(msgspec.json.encode(asked, order="deterministic")).hexdigest()


# --- where from, where to -----------------------------------------------------------------------------------------


def _may_be_asked(ask: RestoreAsk) -> None:
    """Raises Wrong for what contradicts itself, whatever is stored."""
    if ask.mode == "in_place":
        given = [name for name in ("name", "zone", "region") if getattr(ask, name) is not None]
        if given:
            raise Wrong(f"{given[0]}: given for in_place, which puts disks into the instance where it is; leave it out")
    elif ask.mode == "new_instance" and ask.name is None:
        raise Wrong("name: missing; expected the new instance's name")
    if ask.name is not None and not cloud.NAME.fullmatch(ask.name):
        raise Wrong(f"name: {ask.name!r} is no name; expected a letter first, then a-z, 0-9 and -, at most 63 of them")
    if ask.name is not None and ask.name.startswith("rt-"):
        raise Wrong(f"name: {ask.name!r} begins as restore tests' instances do; expected another name")
    if ask.zone is not None and ask.region is not None and cloud.region_of(ask.zone) != ask.region:
        raise Wrong(f"zone: {ask.zone} is not in {ask.region}; expected one of its zones, or no region")


def _target(ask: RestoreAsk, tenant: Tenant, instance: Instance | None, point: Point, now: datetime) -> RestoreTarget:
    """Where the restore goes. Raises Wrong, Clash."""
    was = point.instance
    if ask.mode == "in_place":
        if why := not_replaceable(tenant, instance, was):
            raise Clash(why)
        return RestoreTarget(project=was.project, region=was.region, zone=was.zone, name=was.name, id=was.id)
    region = cloud.region_of(ask.zone) if ask.zone else ask.region or was.region
    # Without a word about the place: where it was.
    zone = ask.zone or (None if ask.region else was.zone)
    may_go_to(tenant, point, region, now)
    name = ask.name or was.name
    target = RestoreTarget(project=tenant.project, region=region, zone=zone, name=name)
    if ask.mode == "disks":
        return target
    lives = instance is not None and instance.lost_reason != "gone"
    if lives and (name, zone, tenant.project) == (was.name, was.zone, was.project):
        raise Clash(f"{name} in {zone} is there: mode in_place puts the disks into it, or give another name")
    if region == was.region and tenant.project == was.project:
        return target
    recovery = tenant.recovery
    if recovery is None:
        raise Clash(f"{tenant.id} has no recovery in the fleet file: what an instance in {region} is connected to")
    if recovery.subnetworks and region not in recovery.subnetworks:
        raise Clash(f"{tenant.id}: recovery.subnetworks has none for {region}: add it to the fleet file")
    return replace(
        target,
        network=recovery.network,
        subnetwork=recovery.subnetworks.get(region),
        service_account=recovery.service_account if point.definition.get("serviceAccounts") else None,
    )


def not_replaceable(tenant: Tenant, instance: Instance | None, was: InstanceRef) -> str | None:
    """Why the disks of an instance must not be replaced for a tenant; None: they may.

    Only of what it has now: an instance that went to another tenant has points here still.
    """
    if instance is None or instance.lost_reason == "gone":
        since = f" since {moment(instance.lost_at)}" if instance is not None else ""
        return f"{was.name} ({was.id}) is gone{since}: mode new_instance brings it back, under its name too"
    names = tenant.instances.by_name
    named = not names or any((one.name, one.zone) == (was.name, was.zone) for one in names)
    if instance.lost_at is not None or tenant.project != was.project or not named:
        return f"{was.name} ({was.id}) is no longer {tenant.id}'s: mode new_instance makes another of the point"
    return None


def not_allowed_any_more(restore: Restore, tenant: Tenant, instance: Instance | None) -> Failure | None:
    """Why a restore must not go on, though it was asked for and approved hours ago; None: it may.

    `tenant` and `instance` as they are now: the fleet file may have given the instance, or the project, to another one.
    """
    to = restore.target
    if tenant.project != to.project:
        message = f"{tenant.id}'s project is {tenant.project} now, and no longer {to.project}: ask for it again"
        return Failure(code="not_the_tenants", message=message)
    if restore.mode != "in_place":
        return None
    why = not_replaceable(tenant, instance, restore.instance)
    return Failure(code="not_the_tenants", message=why[:500]) if why else None


def _source(tenant: Tenant, point: Point, region: str, now: datetime) -> tuple[RestoreSource, Point, bool]:
    """The set that is restored from in a region, as a Point; and whether restore tests have not found it unusable.

    Raises Clash where there is none, or it may not be used there.
    """
    home = point.instance.region
    if region == home:
        stored, usable, name = point, point.usable, point.id
    else:
        copy = point.copies.get(region)
        if copy is None:
            raise Clash(f"{point.id} has no copy in {region}: it is restored where it is stored, {_places(point)}")
        stored, usable, name = sets.as_point(point, region), copy.usable, f"the copy of {point.id} in {region}"
    if stored.state != "verified" and not _in_grace(stored):
        raise Clash(f"{name} is {stored.state}: only what is verified is restored")
    if stored.gone:
        raise Clash(f"{name} is not complete any more: {words.named(stored.gone)} is not in the vault")
    if not stored.disks or len(stored.disks) != len(point.disks) or any(not one.snapshot.id for one in stored.disks):
        raise Clash(f"{name} has no snapshot of every disk that was read back")
    source = RestoreSource(
        project=stored.disks[0].snapshot.project, region=stored.disks[0].snapshot.location, copy=region != home
    )
    return source, stored, usable


def may_go_to(tenant: Tenant, point: Point, region: str, now: datetime) -> None:
    """Raises Clash where a person's restore must not make anything in a region."""
    if region == point.instance.region:
        return
    bought = rules.dr_region(tenant, now)
    if bought == region:
        return
    had = tenant.entitlements.multi_region_dr
    if bought is not None:
        why = f"multi_region_dr is bought for {bought}"
    elif had is not None and tenant.has_left(now):
        why = "it has left"
    elif had is not None:
        why = f"multi_region_dr was valid until {had.valid_until}"
    else:
        why = "it has no multi_region_dr"
    raise Clash(f"{tenant.id} is not restored in {region}: {why}. What it has bought stands in the fleet file")


def _in_grace(stored: Point) -> bool:
    """Whether the set is about to go and can still be called back: by the hold of the restore."""
    expiry = stored.expiry
    return stored.state == "expiring" and expiry is not None and expiry.was == "verified" and expiry.begun_at is None


def _places(point: Point) -> str:
    there = [region for region, copy in sorted(point.copies.items()) if copy.state == "verified"]
    return " or ".join([point.instance.region, *there])


# --- disks --------------------------------------------------------------------------------------------------------

ZONAL_TYPES: Final[Mapping[str, str]] = {"hyperdisk-balanced-high-availability": "hyperdisk-balanced"}
"""Types that only regional disks have, and what a zonal one takes instead."""


def _disks(
    tenant: Tenant, id: str, mode: RestoreMode, target: RestoreTarget, point: Point, stored: Point
) -> list[RestoreDisk]:
    begin = target.name if mode == "disks" else point.instance.name
    made = [_disk(tenant, id, begin, target, point, disk) for disk in stored.disks]
    if mode == "in_place":  # back where each was, regional ones too
        return [
            replace(one, scope=f"zones/{disk.zone}" if disk.zone else f"regions/{target.region}")
            for one, disk in zip(made, stored.disks, strict=True)
        ]
    if target.zone is None:
        return made
    return [_in_zone(one, target.region, target.zone, point.instance.zone) for one in made]


def _disk(tenant: Tenant, id: str, begin: str, target: RestoreTarget, point: Point, disk: PointDisk) -> RestoreDisk:
    at_home = target.region == point.instance.region and target.project == point.instance.project
    return RestoreDisk(
        device_name=disk.device_name,
        boot=disk.boot,
        mode=disk.mode,
        interface=disk.interface,
        auto_delete=disk.auto_delete,
        of=disk.id,
        snapshot=cloud.snapshot_link(disk.snapshot.project, disk.snapshot.name),
        snapshot_id=disk.snapshot.id,
        project=target.project,
        scope="",
        # Elsewhere these are the zones of another region.
        replica_zones=disk.replica_zones if at_home else [],
        name=rules.disk_name(tenant.id, id, begin, disk.device_name, 1),
        type=disk.type,
        size_gb=disk.size_gb,
        provisioned_iops=disk.provisioned_iops,
        provisioned_throughput=disk.provisioned_throughput,
        kms_key=_key(tenant, target.region, point, disk),
        labels=disk.labels,
        resource_policies=disk.resource_policies if at_home else [],
    )


def _key(tenant: Tenant, region: str, point: Point, disk: PointDisk) -> str | None:
    """The key of a new disk: the tenant's for the region, at home else the disk's own. Raises Clash for want of one.

    What a customer's key encrypted is not left without one.
    """
    if region in tenant.kms_keys:
        return tenant.kms_keys[region]
    if region == point.instance.region:
        return disk.kms_key
    if disk.kms_key or point.instance.region in tenant.kms_keys:
        raise Clash(
            f"{disk.name} is encrypted with a customer's key, and kms_keys has none for {region}: add one to the fleet "
            f"file, kms_keys: {{{region}: projects/P/locations/{region}/keyRings/R/cryptoKeys/K}}"
        )
    return None


def placed(restore: Restore, zone: str) -> Restore:
    """The restore with the zone that was chosen for it, and each disk in it."""
    disks = [_in_zone(disk, restore.target.region, zone, restore.instance.zone) for disk in restore.disks]
    return replace(restore, target=replace(restore.target, zone=zone), disks=disks)


def _in_zone(disk: RestoreDisk, region: str, zone: str, own: str) -> RestoreDisk:
    """A disk for an instance in this zone. A regional one stays so only in the zone that the instance was in (`own`):
    to make one takes both of its zones, and elsewhere one goes because a zone is lost.
    """
    if zone == own and zone in disk.replica_zones:
        return replace(disk, scope=f"regions/{region}")
    return zonal(disk, zone)


def zonal(disk: RestoreDisk, zone: str) -> RestoreDisk:
    """The same disk in one zone alone."""
    return replace(disk, scope=f"zones/{zone}", replica_zones=[], type=ZONAL_TYPES.get(disk.type, disk.type))


# --- what is lacking ----------------------------------------------------------------------------------------------


def _handled(lacks: Sequence[str], ask: RestoreAsk) -> list[Lacking]:
    """Each with what was said about it. Raises Wrong for what was said of something else, or cannot be supplied."""
    for field, said in (("supply", list(ask.supply)), ("waive", ask.waive)):
        for item in said:
            if item not in lacks:
                expected = f"expected one of: {words.named(lacks)}" if lacks else "nothing is lacking"
                raise Wrong(f"{field}: {item!r} is not lacking; {expected}")
    if both := sorted(ask.supply.keys() & set(ask.waive)):
        raise Wrong(f"waive: {both[0]!r} is supplied too; expected one of the two")
    _may_be_stored(ask.supply)
    for item, value in ask.supply.items():
        _may_be_supplied(item, value, ask.mode)
    handled = []
    for item in lacks:
        supplied: Literal["supplied", "waived"] | None = "supplied" if item in ask.supply else None
        waived = ask.waive_all or item in ask.waive
        handled.append(Lacking(item=item, handled=supplied or ("waived" if waived else None)))
    return handled


def _may_be_stored(supply: Mapping[str, str]) -> None:
    """Raises Wrong for more than one document holds."""
    size = sum(len(value.encode()) for value in supply.values())
    if size > SUPPLIED_BYTES_MAX:
        raise Wrong(
            f"supply: {size} bytes in all; expected at most {SUPPLIED_BYTES_MAX}, as an instance's metadata has"
        )


def _may_be_supplied(item: str, value: str, mode: RestoreMode) -> None:
    """Raises Wrong. No message has the value: it may be a secret in a wrong place."""
    if item.startswith("metadata "):
        return
    if item.endswith(LOCAL_SSD) and mode == "new_instance":
        if value != EMPTY:
            raise Wrong(f"supply: of {item!r} nothing can be brought back; expected {EMPTY!r}, or to waive it")
        return
    if item.startswith("address "):
        was = item.rsplit(" ", 1)[1]
        try:
            fits = ipaddress.ip_interface(value).version == ipaddress.ip_interface(was).version
        except ValueError:
            fits = False
        if not fits or ("/" in value) != ("/" in was):
            raise Wrong(f"supply: what is given for {item!r} is no such address; expected that one or another like it")
        return
    raise Wrong(f"supply: {item!r} cannot be supplied; expected to waive it")

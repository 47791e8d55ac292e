"""A restore planned from what Compute Engine alone holds of a point: for the day on which there is no database. Pure.

It is made of what `catalogue` found, and ends in the changes that a person may play by hand (see `script`). Nothing is
restored in place so: that wants somebody who knows what the instance has now. What a manifest says is a claim of
whoever may make snapshots in the project: read the plan before it is carried out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import msgspec
from msgspec.structs import replace

from snapkeep import cloud
from snapkeep.cloud import Attachment, InsertDisk, InsertInstance, Snapshot
from snapkeep.documents import InstanceRef, Restore, RestoreDisk, RestoreSource, RestoreTarget
from snapkeep.restore import making, rules
from snapkeep.restore.catalogue import Found
from snapkeep.restore.definition import definition_for, lacking
from snapkeep.restore.manifest import ManifestDisk

Mode = Literal["disks", "new_instance"]
MODES: Final[tuple[Mode, ...]] = get_args(Mode)

TYPE_UNKNOWN: Final = "pd-balanced"
"""The type of a disk of which nothing tells it."""

ZONAL_TYPES: Final[Mapping[str, str]] = {"hyperdisk-balanced-high-availability": "hyperdisk-balanced"}
"""Types that only regional disks have, and what a zonal one takes instead."""

ACTOR: Final = "from-cloud"


class CannotPlan(Exception):
    """Why there is no plan, and what to do."""


class Shape(msgspec.Struct, frozen=True):
    """What a definition has to look like to be built from, as Compute Engine spells it: nobody has checked it."""

    networkInterfaces: list[dict[str, Any]] = []
    serviceAccounts: list[dict[str, Any]] = []
    guestAccelerators: list[dict[str, Any]] = []
    scheduling: dict[str, Any] = {}
    tags: dict[str, Any] = {}
    labels: dict[str, str] = {}
    metadata: dict[str, str] = {}
    machineType: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class BarePlan:
    """What to make of a set, and what a person should know before he does."""

    found: Found
    mode: Mode
    restore: str  # the id that stands in names and labels; no document has it
    disks: tuple[InsertDisk, ...]
    snapshot_ids: Mapping[str, str]  # numeric, by link
    instance: InsertInstance | None
    lines: tuple[str, ...]
    lacking: tuple[str, ...]


def plan(found: Found, project: str, mode: Mode, zone: str | None, name: str | None) -> BarePlan:
    """The plan for a set of a point. `project`: where disks and instance are made. Raises CannotPlan.

    The same for the same set and the same wishes, names included. It is made in the region that the set is stored in.
    """
    place = _zone(found, zone)
    if name is not None and not cloud.NAME.fullmatch(name):
        raise CannotPlan(
            f"--name: {name!r} is no name; expected a letter first, then a-z, 0-9 and -, at most 63 of them"
        )
    missing = [one for one in found.disks if one.snapshot is None]
    if missing:
        raise CannotPlan(f"{found.point} in {found.region} is not complete: {'; '.join(found.lacking)}")
    if mode == "new_instance" and found.manifest is None:
        raise CannotPlan(f"{found.point}: {found.fault}; --mode disks makes its disks, and nobody knows the instance")
    begin = name or (found.manifest.instance.name if found.manifest else "disk")
    wishes = "|".join((found.tenant, found.point, found.region, ACTOR, place, begin))
    id = rules.restore_id(found.taken_at, mode, "restore", begin, wishes)
    restore = _restore(found, project, mode, place, begin, id)
    disks = tuple(making.change_for(restore, disk, found.tenant) for disk in restore.disks)
    ids = {one.snapshot.link: one.snapshot.id for one in found.disks if one.snapshot}
    lines = list(_lines(found, restore))
    if mode == "disks":
        return BarePlan(found, mode, id, disks, ids, None, tuple(lines), ())
    instance, dropped = _instance(found, restore, place)
    lines += [f"does not go with it to {place}: {one}" for one in dropped]
    if instance.definition.get("deletionProtection") is False and restore.definition.get("deletionProtection"):
        lines.append("not protected from deletion, as what Snapkeep restores is: protect it once you keep it")
    return BarePlan(found, mode, id, disks, ids, instance, tuple(lines), tuple(lacking(mode, restore.definition)))


def _zone(found: Found, zone: str | None) -> str:
    known = found.manifest.instance.zone if found.manifest and found.role == "home" else None
    place = zone or known
    if place is None:
        raise CannotPlan(f"--zone: missing; expected a zone of {found.region}, where {found.point} is stored")
    if not cloud.NAME.fullmatch(place) or cloud.region_of(place) != found.region:
        raise CannotPlan(
            f"--zone: {place} is not in {found.region}, where {found.point} is stored: expected one of its"
        )
    return place


def _restore(found: Found, project: str, mode: Mode, zone: str, name: str, id: str) -> Restore:
    """The restore as a document would have it, so that an instance is defined here as everywhere."""
    manifest = found.manifest
    of = manifest.instance if manifest else None
    home = of.region if of else found.region
    definition = manifest.definition if manifest else {}
    target = RestoreTarget(project=project, region=found.region, zone=zone, name=name)
    if mode == "new_instance" and (found.region, project) != (home, of.project if of else project):
        # Its subnetwork is in another region: of a network that makes them itself, one is found there.
        nics = _shaped(definition).networkInterfaces
        target = replace(target, network=str(nics[0].get("network", "")) if nics else None)
    return Restore(
        updated_at=found.taken_at,
        id=id,
        mode=mode,
        state="requested",
        recovery_point=found.point,
        instance=InstanceRef(
            id=of.id if of else "0",
            name=of.name if of else name,
            project=of.project if of else project,
            zone=of.zone if of else zone,
            region=home,
        ),
        source=RestoreSource(project=found.snapshots[0].project, region=found.region, copy=found.role == "copy"),
        target=target,
        disks=[_disk(found, one.disk, one.snapshot, project, zone, name, id) for one in found.disks if one.snapshot],
        definition=definition if mode == "new_instance" else {},
        steps=[],
        requested_at=found.taken_at,
        requested_by=ACTOR,
        reason="",
        request_sha256="",
        needs_approval=False,
        start_by=found.taken_at,
    )


def _disk(
    found: Found, disk: ManifestDisk, snapshot: Snapshot, project: str, zone: str, name: str, id: str
) -> RestoreDisk:  # fmt: skip
    # To make a regional disk takes both of its zones: in another than its instance's, one may be lost.
    regional = zone in disk.replica_zones and found.manifest is not None and zone == found.manifest.instance.zone
    kind = disk.type or TYPE_UNKNOWN
    at_home = found.role == "home"
    return RestoreDisk(
        device_name=disk.device_name,
        boot=disk.boot,
        mode=disk.mode,
        interface=disk.interface,
        auto_delete=disk.auto_delete,
        of=disk.id,
        snapshot=snapshot.link,
        snapshot_id=snapshot.id,
        project=project,
        scope=f"regions/{found.region}" if regional else f"zones/{zone}",
        replica_zones=disk.replica_zones if regional else [],
        name=rules.disk_name(found.tenant, id, name, disk.device_name or disk.name, 1),
        type=kind if regional else ZONAL_TYPES.get(kind, kind),
        size_gb=disk.size_gb,
        provisioned_iops=disk.provisioned_iops,
        provisioned_throughput=disk.provisioned_throughput,
        # Of a point at home the tenant's key, or else the disk's own; of a copy the tenant's for its region.
        kms_key=snapshot.kms_key,
        labels=disk.labels,
        resource_policies=disk.resource_policies if at_home else [],
    )


def _instance(found: Found, restore: Restore, zone: str) -> tuple[InsertInstance, tuple[str, ...]]:
    """Raises CannotPlan."""
    _shaped(restore.definition)
    if not any(disk.boot for disk in restore.disks):
        raise CannotPlan(f"{found.point} has no boot disk: no instance can be made of it; --mode disks makes its disks")
    try:
        new = definition_for(found.tenant, restore, zone, {})
    except (AttributeError, TypeError, KeyError, ValueError) as error:
        # `Shape` holds what is read first; what lies deeper is a claim too.
        why = f"the manifest's definition cannot be built from ({error})"
        raise CannotPlan(f"{found.point}: {why}; --mode disks makes its disks") from error
    ordered = sorted(restore.disks, key=lambda disk: not disk.boot)
    attached = [
        Attachment(
            source=rules.disk_link(disk),
            device_name=disk.device_name,
            boot=disk.boot,
            mode=disk.mode,
            interface=disk.interface,
            auto_delete=disk.auto_delete,
        )
        for disk in ordered
    ]
    made = InsertInstance(
        project=restore.target.project,
        zone=zone,
        name=restore.target.name,
        definition=new.definition,
        disks=tuple(attached),
        labels=new.labels,
        metadata=new.metadata,
        description=new.description,
    )
    return made, new.dropped


def _shaped(definition: Mapping[str, Any]) -> Shape:
    """Raises CannotPlan."""
    try:
        return msgspec.convert(definition, Shape)
    except msgspec.ValidationError as error:
        raise CannotPlan(f"the manifest's definition is damaged: {error}; --mode disks makes the disks") from error


def _lines(found: Found, restore: Restore) -> list[str]:
    """What a person should know, the gravest first."""
    lines = ["nobody knows whether Snapkeep called it verified, nor what a restore test found: Firestore holds that"]
    if found.fault:
        lines.append(f"its manifest: {found.fault}")
    lines += [f"not complete: {one}" for one in found.lacking]
    if restore.target.network is not None:
        lines.append(f"its subnetwork is not in {found.region}: give one of {restore.target.network} there")
    for one, disk in zip([one for one in found.disks if one.snapshot], restore.disks, strict=True):
        if one.disk.replica_zones and not disk.replica_zones:
            lines.append(f"{disk.device_name} was regional and becomes zonal")
        if not one.disk.type:
            lines.append(f"{disk.device_name} becomes {TYPE_UNKNOWN}: what it was is not known")
    return lines

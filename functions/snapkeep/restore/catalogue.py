"""What Compute Engine alone tells of the points in a project: their snapshots, and the manifests on these. Pure.

Labels say of which point a snapshot is, its location of which set, its description of which disk. Links, numeric ids,
sizes and status are those of the listing. A set is `complete` where every disk of its manifest has a READY snapshot
of the whole disk, made from it (of a copy that cannot be seen: it may have been made of a temporary disk), in the one
location, and those of home within the time that `verified` allows them. What only the database knows is missing:
holds, what a restore test found, and whether Snapkeep ever called it verified.

Labels and descriptions are claims of whoever made the snapshot (see `manifest`): for a person to read, not to act on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from snapkeep.cloud import Snapshot
from snapkeep.creation.rules import SPREAD_MAX
from snapkeep.restore.manifest import MARK, Carried, Damaged, Manifest, ManifestDisk, carried, opened

TENANT_LABEL: Final = "snapkeep-tenant"
POINT_LABEL: Final = "snapkeep-point"
ROLE_LABEL: Final = "snapkeep-role"

SNAPSHOTS_MAX: Final = 50_000
"""Snapshots that one listing is read for: 180 MB and 7 s. With more, whoever asks must name a tenant or a point."""

STRANGERS_MAX: Final = 100
"""Snapshots without a place in any set that are named; the others are counted."""

CANDIDATES_MAX: Final = 4
"""Different manifests of one set that are read: those on most of its snapshots."""

FAULTS_TOLD: Final = 4
"""Snapshots of one set of which it is said that they carry no manifest that reads."""


@dataclass(frozen=True, slots=True)
class FoundDisk:
    """A disk of a set, and the snapshot that a restore is to take; why not, where there is none."""

    disk: ManifestDisk
    snapshot: Snapshot | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """One set of a point: at home, or its copy in a region."""

    tenant: str
    point: str
    region: str
    role: str
    manifest: Manifest | None
    fault: str  # why there is no manifest, or what is odd about it
    disks: tuple[FoundDisk, ...]  # those of the manifest; without one, what its snapshots show
    snapshots: tuple[Snapshot, ...]  # all that claim to be of it, without their descriptions
    lacking: tuple[str, ...]  # what it is not complete for

    @property
    def complete(self) -> bool:
        return not self.lacking

    @property
    def taken_at(self) -> datetime:
        """When it was asked for; without a manifest, when the first of its snapshots was made."""
        return self.manifest.requested_at if self.manifest else min(one.created_at for one in self.snapshots)

    @property
    def bytes(self) -> int:
        return sum(one.bytes for one in self.snapshots)


@dataclass(frozen=True, slots=True)
class Listing:
    """All that one listing shows."""

    sets: tuple[Found, ...]  # newest first
    strangers: tuple[str, ...]  # what has our labels and is in no set, and why
    strangers_total: int
    cut_off: bool  # there were more than SNAPSHOTS_MAX


@dataclass(slots=True)
class _Set:
    snapshots: list[Snapshot] = field(default_factory=list)
    tags: dict[str, Carried] = field(default_factory=dict)  # by the snapshot's name, without its data
    faults: list[str] = field(default_factory=list)
    # By how many parts there are and the checksum: the parts, each kept once however many snapshots carry it.
    manifests: dict[tuple[int, str], dict[int, str]] = field(default_factory=dict)


def read(snapshots: Iterable[Snapshot]) -> Listing:
    """Sort a project's snapshots into sets. Nothing that stands in a label or a description makes it fail."""
    sets: dict[tuple[str, str, str], _Set] = {}
    strangers: list[str] = []
    total, cut_off = 0, False
    for count, snapshot in enumerate(snapshots):
        if count == SNAPSHOTS_MAX:
            cut_off = True
            break
        if not _claims(snapshot):
            continue
        tenant, point = snapshot.labels.get(TENANT_LABEL, ""), snapshot.labels.get(POINT_LABEL, "")
        why = _strange(tenant, point, snapshot)
        if why:
            total += 1
            if len(strangers) < STRANGERS_MAX:
                strangers.append(f"{snapshot.name}: {why}")
            continue
        _take(sets.setdefault((tenant, point, snapshot.locations[0]), _Set()), snapshot)
    found = [_found(*key, one) for key, one in sets.items()]
    found.sort(key=lambda one: (one.taken_at, one.tenant, one.point, one.role == "home", one.region), reverse=True)
    return Listing(tuple(found), tuple(strangers), total, cut_off)


def _claims(snapshot: Snapshot) -> bool:
    """Whether anything of it says that it is Snapkeep's. Others are nobody's business here."""
    return not {TENANT_LABEL, POINT_LABEL}.isdisjoint(snapshot.labels) or MARK in snapshot.description


def _strange(tenant: str, point: str, snapshot: Snapshot) -> str:
    if not tenant or not point:
        return f"without label {POINT_LABEL if tenant else TENANT_LABEL}"
    if len(snapshot.locations) != 1:
        return f"stored in {', '.join(snapshot.locations) or 'no location'}, which no set of a point is"
    return ""


def _take(one: _Set, snapshot: Snapshot) -> None:
    one.snapshots.append(replace(snapshot, description=""))
    try:
        tag = carried(snapshot.description)
    except Damaged as damage:
        one.faults.append(f"{snapshot.name} has {damage}")
        return
    if tag is None:
        return
    one.tags[snapshot.name] = replace(tag, data="")
    parts = one.manifests.setdefault((tag.parts, tag.crc32), {})
    if parts.setdefault(tag.part, tag.data) != tag.data:
        one.faults.append(f"{snapshot.name} has another part {tag.part} than the others")


def _found(tenant: str, point: str, region: str, one: _Set) -> Found:
    manifest, faults = _manifest(tenant, point, region, one)
    role = manifest.role if manifest else min(s.labels.get(ROLE_LABEL, "home") for s in one.snapshots)
    disks = tuple(_disks(manifest, role, one) if manifest else _without_manifest(one))
    lacking = [f"{disk.disk.device_name or disk.disk.name}: {disk.why}" for disk in disks if disk.snapshot is None]
    if manifest is None:
        lacking.append("no manifest: which disks it had is not known")
    lacking += _apart(disks, role)
    return Found(
        tenant=tenant,
        point=point,
        region=region,
        role=role,
        manifest=manifest,
        fault="; ".join(faults),
        disks=disks,
        snapshots=tuple(one.snapshots),
        lacking=tuple(lacking),
    )


def _manifest(tenant: str, point: str, region: str, one: _Set) -> tuple[Manifest | None, list[str]]:
    """The manifest that most snapshots carry of those that are whole and say what the labels say; what is odd."""
    faults = one.faults[:FAULTS_TOLD]
    carriers = Counter((tag.parts, tag.crc32) for tag in one.tags.values())
    valid: list[Manifest] = []
    for key, _ in carriers.most_common(CANDIDATES_MAX):
        count, crc32 = key
        try:
            manifest = opened(one.manifests[key], count, crc32)
        except Damaged as damage:
            faults.append(f"manifest {crc32}: {damage}")
            continue
        if (manifest.tenant, manifest.point, manifest.region) != (tenant, point, region):
            said = f"point {manifest.point} of {manifest.tenant} in {manifest.region}"
            faults.append(f"manifest {crc32} is of {said}, not of what its snapshots' labels and location say")
            continue
        valid.append(manifest)
    if len(carriers) > CANDIDATES_MAX:
        faults.append(f"its snapshots carry {len(carriers)} manifests: the {CANDIDATES_MAX} on most of them are read")
    if len(valid) > 1:
        faults.append(f"its snapshots carry {len(valid)} different manifests: the one on most of them is taken")
    if not valid:
        return None, faults or ["none of its snapshots carries a manifest"]
    return valid[0], faults


def _disks(manifest: Manifest, role: str, one: _Set) -> Iterator[FoundDisk]:
    """Each disk with the snapshot of its last attempt that is right; the reason of the last one where none is."""
    for disk in manifest.disks:
        mine = [s for s in one.snapshots if _disk_of(s, one) == disk.id]
        mine.sort(key=lambda s: (one.tags[s.name].attempt if s.name in one.tags else 0, s.created_at), reverse=True)
        reasons = [_not_right(s, disk, role) for s in mine]
        right = next((s for s, why in zip(mine, reasons, strict=True) if not why), None)
        yield FoundDisk(disk, right, "" if right else next(iter(reasons), "no snapshot of it is there"))


def _disk_of(snapshot: Snapshot, one: _Set) -> str:
    return one.tags[snapshot.name].disk if snapshot.name in one.tags else snapshot.source_disk_id


def _not_right(snapshot: Snapshot, disk: ManifestDisk, role: str) -> str:
    if snapshot.status != "READY":
        return f"{snapshot.name} is {snapshot.status}"
    if role == "home" and snapshot.source_disk_id != disk.id:
        return f"{snapshot.name} was made of disk {snapshot.source_disk_id}, not of {disk.id}"
    if snapshot.size_gb < disk.size_gb:
        return f"{snapshot.name} holds {snapshot.size_gb} GB of {disk.size_gb}"
    return ""


def _without_manifest(one: _Set) -> Iterator[FoundDisk]:
    """What the snapshots themselves show of the disks: how big, and what they were called."""
    for id in sorted({_disk_of(s, one) for s in one.snapshots}):
        mine = [s for s in one.snapshots if _disk_of(s, one) == id]
        ready = [s for s in mine if s.status == "READY"]
        last = max(ready or mine, key=lambda s: s.created_at)
        name = last.source_disk.rsplit("/", 1)[-1]
        shown = ManifestDisk(
            device_name=name,
            name=name,
            id=id,
            type="",
            size_gb=last.size_gb,
            boot=False,
            mode="READ_WRITE",
            interface="",
            auto_delete=False,
        )
        yield FoundDisk(shown, last if ready else None, "" if ready else f"{last.name} is {last.status}")


def _apart(disks: Iterable[FoundDisk], role: str) -> Iterator[str]:
    """Snapshots of living disks that were made too far apart hold no one moment."""
    times = [one.snapshot.created_at for one in disks if one.snapshot and one.snapshot.source_instant_id is None]
    if role == "home" and times and max(times) - min(times) > SPREAD_MAX:
        yield f"its snapshots were made {(max(times) - min(times)).total_seconds() / 60:.0f} minutes apart"

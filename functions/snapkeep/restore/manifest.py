"""What a point's snapshots say of it in their descriptions, for the day on which there is no database. Pure.

A description is one line: first what it says to people, then its part of the manifest (docs/contract.md, section 5):

    Snapkeep recovery point P of I, disk D snapkeep-manifest/1 1/2 disk=ID attempt=1 crc32=0badcafe BASE64

A manifest is JSON, compressed (zlib) and cut into parts. As a rule it is one part, and every snapshot carries the
whole; else each disk's snapshots, attempt after attempt, carry the part of that disk's place. What does not fit even
so is left out, the largest first, and named in the definition's `left_out`. Links, ids and sizes of the snapshots are
not in it: they are not known when it is written, and the listing that it is read from shows them.

Whoever may make snapshots in a project may write there what he likes, and the checksum proves nothing: it finds
accidents. So a manifest is believed for display and for plans that a person reads; nothing else reads one.
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec.structs import replace

from snapkeep.documents import TENANT_ID_WORD, CopyDisk, Point, PointDisk, Trigger

VERSION: Final = 1
MARK: Final = "snapkeep-manifest/"

DESCRIPTION_CHARS_MAX: Final = 2048
"""Of a resource's description in Compute Engine."""

WORDS_CHARS_MAX: Final = 200
"""What stands before the manifest. Of a point it is 90 to 130; only the longest names are cut."""

TAG_CHARS_MAX: Final = 96
"""What says which part it is, of what: the longest has 19 + 7 + 25 + 19 + 14 characters and five spaces."""

PART_BYTES: Final = (DESCRIPTION_CHARS_MAX - WORDS_CHARS_MAX - TAG_CHARS_MAX) // 4 * 3
"""Compressed bytes in one description: 1314, the JSON of about 4 KB."""

PARTS_MAX: Final = 128
"""A part for each disk of an instance (creation.rules.DISKS_MAX)."""

JSON_BYTES_MAX: Final = 1 << 20
"""Of a manifest: what unpacks to more is none, and what would is cut down."""

LEFT_OUT_MAX: Final = 1_000
"""Names in `left_out` that are read."""

# What a manifest may hold where it is read: nothing that could be taken for something else in a table or a command.
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z]([-a-z0-9]{0,61}[a-z0-9])?\Z")]
NumericId = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,20}\Z")]
Word = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._:/@+=-]{0,512}\Z")]
Shown = Annotated[str, msgspec.Meta(pattern=r"^[ -~\u00a1-\u1fff]{0,512}\Z")]
TenantId = Annotated[str, msgspec.Meta(pattern=rf"^{TENANT_ID_WORD}\Z")]
PointId = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,62}\Z")]
Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 40)]


class Damaged(Exception):
    """What should be a manifest, or a part of one, is none: why."""


class ManifestInstance(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    project: Word
    zone: Name
    region: Name
    name: Name
    id: NumericId


class ManifestDisk(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A disk as it was when the point was taken."""

    device_name: Shown
    name: Name
    id: NumericId
    type: Word  # short name: pd-balanced, ...
    size_gb: Count
    boot: bool
    mode: Word
    interface: Word
    auto_delete: bool
    zone: Name | None = None  # null: regional
    replica_zones: list[Name] = []
    provisioned_iops: Count | None = None
    provisioned_throughput: Count | None = None  # MB/s
    architecture: Word | None = None
    guest_os_features: list[Word] = []
    kms_key: Word | None = None
    labels: dict[Shown, Shown] = {}
    resource_policies: list[Word] = []  # links


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """One set of a point: all that is needed to build it again, but for the snapshots' own names and ids."""

    version: Literal[1] = VERSION
    tenant: TenantId
    point: PointId
    trigger: Trigger
    requested_at: datetime
    region: Name  # where the set is stored
    role: Literal["home", "copy"]
    instance: ManifestInstance
    consistency: Literal["crash", "guest_flush", "group", "at_rest"]
    disks: Annotated[list[ManifestDisk], msgspec.Meta(min_length=1, max_length=PARTS_MAX)]
    definition: dict[str, Any]  # as the point stores it, `left_out` included


# --- writing ------------------------------------------------------------------------------------------------------


def described(point: Point, tenant: str, region: str | None, disk: PointDisk | CopyDisk) -> str:
    """The description of a disk's snapshot: at home (`region` None), or of the copy in `region`.

    At most DESCRIPTION_CHARS_MAX characters, all of them printable ASCII; the same whenever it is asked for the same
    attempt, because nothing of the point that changes later is in it. The work is done once for all disks of a set.
    """
    place, whole = next((n, one) for n, one in enumerate(point.disks) if one.id == disk.id)
    what = "copy of recovery point" if region else "recovery point"
    words = f"Snapkeep {what} {point.id} of {point.instance.name}, disk {whole.device_name}"
    words = re.sub(r"[^ -~]", "?", words)[:WORDS_CHARS_MAX]
    parts = _parts(msgspec.json.encode(manifest_of(point, tenant, region), order="sorted"), len(point.disks))
    if not parts:
        return words
    crc32, data = parts[0], parts[1 + place % (len(parts) - 1)]
    which = f"{1 + place % (len(parts) - 1)}/{len(parts) - 1}"
    return f"{words} snapkeep-manifest/{VERSION} {which} disk={disk.id} attempt={disk.attempts} crc32={crc32} {data}"


def manifest_of(point: Point, tenant: str, region: str | None) -> Manifest:
    ref = point.instance
    return Manifest(
        tenant=tenant,
        point=point.id,
        trigger=point.trigger,
        requested_at=point.requested_at,
        region=region or ref.region,
        role="copy" if region else "home",
        instance=ManifestInstance(project=ref.project, zone=ref.zone, region=ref.region, name=ref.name, id=ref.id),
        consistency=point.consistency,
        disks=[
            ManifestDisk(**{name: getattr(disk, name) for name in ManifestDisk.__struct_fields__})
            for disk in point.disks
        ],
        definition=point.definition,
    )


@lru_cache(maxsize=8)
def _parts(encoded: bytes, disks: int) -> tuple[str, ...]:
    """The checksum, then the parts, at most as many as there are disks; empty where not even the least fits.

    Kept for a moment: each disk of a set asks for the same.
    """
    packed = _packed(encoded, disks)
    if packed is None:
        smaller = (_packed(msgspec.json.encode(one, order="sorted"), disks) for one in _ever_less(encoded))
        packed = next((one for one in smaller if one is not None), None)
    if packed is None:
        return ()
    cuts = range(0, len(packed), PART_BYTES)
    return (f"{zlib.crc32(packed):08x}", *(base64.b64encode(packed[at : at + PART_BYTES]).decode() for at in cuts))


def _packed(encoded: bytes, disks: int) -> bytes | None:
    """None where it does not fit into that many descriptions."""
    packed = zlib.compress(encoded, 9)
    return packed if len(encoded) <= JSON_BYTES_MAX and len(packed) <= PART_BYTES * min(disks, PARTS_MAX) else None


def _ever_less(encoded: bytes) -> Iterator[dict[str, Any]]:
    """The manifest without its largest part, then without the next one too; at last with few names of what it lacks."""
    manifest: dict[str, Any] = msgspec.json.decode(encoded)
    definition, disks = manifest["definition"], manifest["disks"]
    lacking: list[str] = definition.pop("left_out", [])
    sizes = {name: len(msgspec.json.encode(value)) for name, value in definition.items() if value}
    of_disks = {f"{name} of disks": name for name in ("labels", "resource_policies")}
    for said, name in of_disks.items():
        values = [disk[name] for disk in disks if disk.get(name)]
        if values:
            sizes[said] = len(msgspec.json.encode(values))
    for name in sorted(sizes, key=lambda one: (-sizes[one], one)):
        if name in of_disks:
            for disk in disks:
                disk.pop(of_disks[name], None)
            lacking.append(name)
        else:
            gone = definition.pop(name)
            lacking += [f"metadata {key}" for key in gone] if name == "metadata" else [name]
        yield {**manifest, "definition": {**definition, "left_out": sorted(lacking)}}
    for kept in (512, 256, 128, 64, 32, 16, 8, 4, 2, 1, 0):
        if kept < len(lacking):
            some = [*sorted(lacking)[:kept], f"and {len(lacking) - kept} more"]
            yield {**manifest, "definition": {**definition, "left_out": some}}


# --- reading ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Carried:
    """What one description says of itself: of which disk its snapshot is, and its part of the manifest."""

    disk: str  # numeric id of the disk that was attached; of a copy not the one that its snapshot was made of
    attempt: int
    part: int  # from 1
    parts: int
    crc32: str  # of all parts together
    data: str  # base64


_TAG: Final = re.compile(
    r"(?:^| )snapkeep-manifest/1 ([0-9]{1,3})/([0-9]{1,3}) disk=([0-9]{1,20}) attempt=([0-9]{1,6})"
    r" crc32=([0-9a-f]{8}) ([A-Za-z0-9+/]+={0,2})\Z"
)
_BEGINNING: Final = re.compile(r"(?:^| )snapkeep-manifest/([0-9]{1,9})")


def carried(description: str) -> Carried | None:
    """The part of a manifest that a description has; None if it claims none. Raises Damaged."""
    found = _TAG.search(description[:DESCRIPTION_CHARS_MAX])
    if found is None:
        begun = _BEGINNING.search(description)
        if begun is None:
            return None
        if int(begun[1]) != VERSION:
            raise Damaged(f"a manifest of version {begun[1]}; this Snapkeep reads version {VERSION}")
        raise Damaged("a manifest that does not read: cut off, or changed")
    part, parts = int(found[1]), int(found[2])
    if not 1 <= part <= parts <= PARTS_MAX:
        raise Damaged(f"part {part} of {parts} of a manifest: there are at most {PARTS_MAX}")
    return Carried(found[3], int(found[4]), part, parts, found[5], found[6])


def opened(parts: Mapping[int, str], count: int, crc32: str) -> Manifest:
    """The manifest of its parts, by their number from 1, as `Carried` has them. Raises Damaged."""
    missing = [n for n in range(1, count + 1) if n not in parts]
    if missing:
        raise Damaged(f"part {missing[0]} of {count} is on no snapshot" + (" (and others)" if missing[1:] else ""))
    try:
        packed = b"".join(base64.b64decode(parts[n], validate=True) for n in range(1, count + 1))
        if f"{zlib.crc32(packed):08x}" != crc32:
            raise Damaged("its checksum is another one")
        unpacking = zlib.decompressobj()
        encoded = unpacking.decompress(packed, JSON_BYTES_MAX)
        if not unpacking.eof:
            raise Damaged(f"it is cut off, or larger than {JSON_BYTES_MAX} bytes")
        manifest = msgspec.json.decode(encoded, type=Manifest)
    except (binascii.Error, zlib.error, msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise Damaged(f"it does not read: {error}"[:200]) from error
    if len({disk.id for disk in manifest.disks}) < len(manifest.disks):
        raise Damaged("it has a disk twice")
    if manifest.requested_at.tzinfo is None:
        raise Damaged("requested_at has no offset from UTC")
    return replace(manifest, definition={**manifest.definition, "left_out": _names(manifest.definition)})


def _names(definition: Mapping[str, Any]) -> list[str]:
    found = definition.get("left_out", [])
    return [re.sub(r"[^ -~]", "?", str(one))[:200] for one in found[:LEFT_OUT_MAX]] if isinstance(found, list) else []

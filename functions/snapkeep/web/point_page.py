"""What a point's page says: what it is, what is stored of it in each region, what stands against relying on it.

Pure. The template only places these values; it decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from msgspec.structs import replace

from snapkeep import documents as d
from snapkeep.copies import sets
from snapkeep.views import PointView, SetLine
from snapkeep.web.fleet_page import Tone
from snapkeep.wording import count, moment, said_of, size

CONSISTENCY: Final[Mapping[str, str]] = {
    "crash": "as after a crash, each disk by itself",
    "guest_flush": "the guest flushed first",
    "group": "all disks at one moment",
    "at_rest": "the instance did not run",
}

TRIGGERS: Final[Mapping[d.Trigger, str]] = {
    "scheduled": "the schedule",
    "pre_maintenance": "before maintenance",
    "on_demand": "asked for",
    "pre_restore": "before a restore",
}

STATE_TONES: Final[Mapping[str, Tone]] = {
    "verified": "good",
    "failed": "bad",
    "missed": "bad",
    "expiring": "warn",
}
"""Of a point's and of a copy's state; any other is told plainly."""

WAYS: Final[Mapping[str, str]] = {
    "moment": "of the same instant snapshots",
    "temporary_disk": "through temporary disks",
}
"""How a copy is made."""


@dataclass(frozen=True, slots=True)
class Row:
    """One disk, and the snapshot of it in one set."""

    disk: str
    what: str  # device, type and size of the disk
    snapshot: str
    where: str
    status: str
    tone: Tone
    stored: str


@dataclass(frozen=True, slots=True)
class Set:
    """What is stored of the point in one region: at home, or a copy."""

    region: str
    title: str
    state: str
    tone: Tone
    facts: tuple[tuple[str, str], ...]
    said: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class PointPage:
    title: str
    taken_at: datetime
    state: str
    tone: Tone
    usable: bool
    facts: tuple[tuple[str, str], ...]
    left_out: tuple[str, ...]  # what its definition does not have
    sets: tuple[Set, ...]


def page(point: PointView) -> PointPage:
    taken = point.sets[0].taken_at or (point.slot.at if point.slot else point.requested_at)
    return PointPage(
        title=f"{point.instance.name}, {moment(taken)} · Snapkeep",
        taken_at=taken,
        state=point.state,
        tone=STATE_TONES.get(point.state, "plain"),
        usable=point.usable,
        facts=tuple(_facts(point)),
        left_out=tuple(str(name) for name in point.definition.get("left_out", ())),
        sets=tuple(_set(point, line) for line in point.sets),
    )


def may_be_restored(point: PointView) -> bool:
    """Whether any set of it is there to restore from: then a form makes sense. A plan says what stands against it."""
    return any(line.state in ("verified", "expiring") for line in point.sets)


def _facts(point: PointView) -> Iterator[tuple[str, str]]:
    ref = point.instance
    yield "Instance", f"{ref.name} ({ref.id})"
    yield "In", f"{ref.project}, {ref.zone}"
    yield "Taken for", TRIGGERS[point.trigger] + (f", slot of {point.slot.day}" if point.slot else "")
    yield "Asked for", f"{moment(point.requested_at)} by {point.requested_by}: {point.reason}"
    if point.started_at:
        yield "Started", moment(point.started_at)
    yield "Consistency", CONSISTENCY[point.consistency]
    if machine := point.definition.get("machineType"):
        yield "Machine type", str(machine).rpartition("/")[2]
    if point.disks:
        yield "Disks", f"{count(len(point.disks), 'disk')}, {sum(disk.size_gb for disk in point.disks):,} GB"


def _set(point: PointView, line: SetLine) -> Set:
    region = None if line.role == "home" else line.region
    one = sets.as_point(point, region)
    usable = point.usable if region is None else point.copies[region].usable
    return Set(
        region=line.region,
        title=f"Copy in {line.region}" if region else f"At home in {line.region}",
        state=f"{line.state}, late" if line.late else line.state,
        tone="warn" if line.late else STATE_TONES.get(line.state, "plain"),
        facts=tuple(_set_facts(point, line)),
        said=tuple(said_of(replace(one, usable=usable))),
        rows=tuple(_row(disk, one) for disk in one.disks),
    )


def _set_facts(point: PointView, line: SetLine) -> Iterator[tuple[str, str]]:
    if line.taken_at:
        yield "The moment it holds", moment(line.taken_at)
    if line.role == "copy":
        copy = point.copies[line.region]
        yield "Asked for", f"{moment(copy.requested_at)} by {copy.requested_by}: {copy.reason}"
        yield "Made", WAYS[copy.way]
    yield "Verified", moment(line.verified_at)
    yield "Locked until", moment(line.lock_until)
    yield "Snapshots ready", f"{line.ready} of {line.disks}"
    yield "Stored", size(line.bytes)


def _row(disk: d.PointDisk, one: d.Point) -> Row:
    ref = disk.snapshot
    status = "gone" if ref.name in one.gone else ref.status or "not seen"
    tone: Tone = "good" if status == "READY" else "bad" if status in ("gone", "FAILED") else "plain"
    return Row(
        disk=disk.name,
        what=f"{disk.device_name}{', boot disk' if disk.boot else ''} · {disk.type}, {disk.size_gb:,} GB",
        snapshot=ref.name,
        where=f"{ref.project}, {ref.location}",
        status=status,
        tone=tone,
        stored=size(ref.bytes),
    )

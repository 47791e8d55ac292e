"""What a restore's page says: how it stands, its steps, what was checked, what is kept, what may be done about it.

Pure. The template only places these values; it decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from snapkeep import documents as d
from snapkeep.restore import progress
from snapkeep.restore.commands import RestorePlan
from snapkeep.views import RestoreLine, RestoreView
from snapkeep.web.fleet_page import Tone
from snapkeep.wording import count, moment


@dataclass(frozen=True, slots=True)
class StepRow:
    what: str
    state: str
    tone: Tone
    at: datetime | None
    took: str
    said: str
    undo: bool


@dataclass(frozen=True, slots=True)
class CheckRow:
    name: str
    state: str
    tone: Tone
    detail: str


@dataclass(frozen=True, slots=True)
class DiskRow:
    """A disk that the restore makes."""

    device: str
    name: str
    what: str
    status: str
    tone: Tone


@dataclass(frozen=True, slots=True)
class FormerRow:
    """A disk that was attached before."""

    device: str
    name: str
    status: str


@dataclass(frozen=True, slots=True)
class RestorePage:
    title: str
    heading: str
    state: str
    tone: Tone
    stands: str
    over: bool
    facts: tuple[tuple[str, str], ...]
    said: tuple[str, ...]
    steps: tuple[StepRow, ...]
    checks: tuple[CheckRow, ...]
    disks: tuple[DiskRow, ...]
    former: tuple[FormerRow, ...]
    kept_until: datetime | None  # the former disks, as long as they are kept
    lacking: tuple[tuple[str, str], ...]
    approval: tuple[tuple[str, str], ...]  # what exactly an approval approves; empty where none is waited for


@dataclass(frozen=True, slots=True)
class PlanPart:
    """A restore that was planned and not asked for."""

    heading: str
    lines: tuple[str, ...]
    steps: tuple[str, ...]
    disks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RestoreRow:
    """One restore in the list of a tenant's."""

    id: str
    what: str
    state: str
    tone: Tone
    at: datetime
    stands: str
    of: str


def page(restore: RestoreView, *, paused: bool) -> RestorePage:
    """`paused`: restores of the tenant are."""
    said = progress.what(restore)
    kept = progress.kept(restore)
    return RestorePage(
        title=f"{restore.state}: {restore.target.name} · Snapkeep",
        heading=_capital(said),
        state=restore.state,
        tone=progress.tone(restore.state, restore.failure),
        stands=progress.stands(restore, paused=paused),
        over=progress.is_over(restore),
        facts=tuple(_facts(restore)),
        said=tuple(progress.said_of(restore)),
        steps=tuple(_step(restore, one, took) for one, took in zip(restore.steps, restore.step_took_s, strict=True)),
        checks=tuple(_check(one) for one in restore.checks),
        disks=tuple(_disk(one) for one in restore.disks),
        former=tuple(FormerRow(one.device_name, one.name, one.status) for one in restore.former),
        kept_until=restore.keep_until if kept else None,
        lacking=tuple((one.item, one.handled or "open") for one in restore.lacking),
        approval=tuple(_approval(restore)) if restore.state == "requested" else (),
    )


def plan(planned: RestorePlan) -> PlanPart:
    return PlanPart(
        heading=progress.what(planned),
        lines=tuple(planned.lines),
        steps=tuple(progress.step(planned, name) for name in planned.steps),
        disks=tuple(_planned(one) for one in planned.disks),
    )


def _planned(disk: d.RestoreDisk) -> str:
    """A disk that would be made, and of which snapshot."""
    boot, key = ", boot disk" if disk.boot else "", ", with its own key" if disk.kms_key else ""
    return f"{disk.device_name}{boot}: {disk.type}, {disk.size_gb:,} GB{key}, from {disk.snapshot}"


def row(line: RestoreLine) -> RestoreRow:
    said = progress.doing(line.purpose, line.mode, line.instance, line.target, undoes=line.undoes)
    return RestoreRow(
        id=line.id,
        what=_capital(said),
        state=line.state,
        tone=progress.tone(line.state, line.failure),
        at=line.requested_at,
        stands=_now(line),
        of=f"{line.recovery_point}, asked for by {line.requested_by}",
    )


def _now(line: RestoreLine) -> str:
    if line.state == "requested":
        return f"waits for an approval until {moment(line.approve_by)}"
    if line.state == "running":
        return "what it did is being taken back" if line.abandoned else progress.STEPS.get(line.step or "", "").lower()
    if line.failure is not None:
        return f"{line.failure.code}: {line.failure.message}"
    return f"in {progress.duration(timedelta(seconds=line.took_s))}" if line.took_s is not None else ""


def _capital(said: str) -> str:
    return said[0].upper() + said[1:]


def _facts(restore: RestoreView) -> Iterator[tuple[str, str]]:
    yield "Asked for", f"{moment(restore.requested_at)} by {restore.requested_by}: {restore.reason}"
    if restore.approved_by:
        yield "Approved", f"{moment(restore.approved_at)} by {restore.approved_by}"
    elif not restore.needs_approval:
        yield "Approved", "needs no approval"
    yield "Source", progress.source(restore)
    yield "Target", progress.target(restore)
    if restore.started_at:
        yield "Started", moment(restore.started_at)
    if restore.finished_at:
        yield "Ended", moment(restore.finished_at)
    over = progress.took(restore)
    if over is not None:
        yield "Took", progress.duration(over)
    else:
        yield "Estimate", progress.estimate(restore.estimate_s)
    if restore.stopped_s is not None:
        yield "Instance stopped for", progress.duration(timedelta(seconds=restore.stopped_s))
    if restore.pre_restore:
        yield "Point of the state before", restore.pre_restore


def _approval(restore: RestoreView) -> Iterator[tuple[str, str]]:
    said = progress.what(restore)
    yield "What", _capital(said)
    yield "From", progress.source(restore)
    yield "Into", progress.target(restore)
    if restore.disks:
        yield "Disks", f"{count(len(restore.disks), 'disk')}, {sum(disk.size_gb for disk in restore.disks):,} GB"
    yield "Lacking", progress.handled(restore) or "nothing"
    if restore.stops:
        yield "Stops", progress.stopping(restore)
    yield "Asked for by", f"{restore.requested_by}: {restore.reason}"
    yield "Hash of the request", restore.request_sha256


def _step(restore: d.Restore, one: d.RestoreStep, took_s: int | None) -> StepRow:
    return StepRow(
        what=progress.step(restore, one.name, back=one.undo),
        state=one.state,
        tone=progress.STEP_TONES[one.state],
        at=one.at,
        # Of a step that is on its way it would grow while nothing changes.
        took=progress.duration(timedelta(seconds=took_s)) if took_s is not None and one.state == "done" else "",
        said=progress.far(restore, one),
        undo=one.undo,
    )


def _check(one: d.RestoreCheck) -> CheckRow:
    tone: Tone = "good" if one.state == "passed" else "bad" if one.state == "failed" else "plain"
    state = "none named" if one.state == "none" and one.name == "probe" else one.state
    return CheckRow(progress.CHECKS.get(one.name, one.name), state, tone, one.detail)


def _disk(one: d.RestoreDisk) -> DiskRow:
    tone: Tone = "good" if one.status == "READY" else "bad" if one.failure else "plain"
    status = one.status or "not made yet"
    return DiskRow(
        device=f"{one.device_name}{', boot disk' if one.boot else ''}",
        name=one.name,
        what=f"{one.type}, {one.size_gb:,} GB"
        + (f"; {one.failure.code}: {one.failure.message}" if one.failure else ""),
        status="removed" if status == d.GONE else status,
        tone=tone,
    )

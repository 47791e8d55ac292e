"""What a tenant's page says: what is agreed and stopped, what is stored, what keeps it, and what may be done about it.

Pure. The template only places these values; it decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, get_args

from snapkeep import documents as d
from snapkeep.access import Action
from snapkeep.commands import Kind
from snapkeep.restore import progress
from snapkeep.views import (
    KEPT,
    HoldLine,
    HoldsView,
    InstanceRetention,
    PointRetention,
    RegionLine,
    RestoreLine,
    RetentionView,
    TenantView,
    Verdict,
)
from snapkeep.web import fleet_page, restore_page
from snapkeep.web.fleet_page import KIND_WORDS, Tone, stopped
from snapkeep.web.restore_page import RestoreRow
from snapkeep.wording import copies, count, count_sets, moment, size

LINES_MAX: Final = 100
"""Points shown of one instance, the newest; a policy of years and months keeps fewer."""

May = Callable[[Action], bool]
"""Whether whoever looks may do this to the tenant."""

VERDICTS: Final[Mapping[Verdict, tuple[Tone, str]]] = {
    "keep": ("good", "kept"),
    "undo": ("good", "kept again"),
    "expire": ("warn", "expires"),
    "wait": ("warn", "expiring"),
    "delete": ("bad", "goes"),
    "deleting": ("bad", "being deleted"),
}


CONSISTENCY: Final[Mapping[str, str]] = {
    "crash": "as after a crash, each disk by itself",
    "guest_flush": "the guest flushes first",
    "group": "all disks at one moment",
}


@dataclass(frozen=True, slots=True)
class Set:
    """What is stored of a point in one region: at home, or a copy."""

    region: str | None  # of a copy; None: at home
    state: str
    tone: Tone
    verdict: str
    reasons: tuple[str, ...]
    bytes: int


@dataclass(frozen=True, slots=True)
class Line:
    """One point, of which something is stored."""

    point: str
    taken_at: datetime
    home: Set
    copies: tuple[Set, ...]


@dataclass(frozen=True, slots=True)
class RegionRow:
    region: str
    role: str
    bought: str  # until when, or since when no longer; empty at home
    tone: Tone
    newest: datetime | None
    sets: str
    stored: str
    without: tuple[str, ...]  # protected instances of which nothing is there


@dataclass(frozen=True, slots=True)
class OfInstance:
    """What is stored of one instance."""

    id: str
    name: str
    zone: str
    figures: str
    goes: int
    lines: tuple[Line, ...]
    left_out: int  # older ones
    failure: str | None  # why there is no plan


@dataclass(frozen=True, slots=True)
class InstanceRow:
    id: str
    name: str
    zone: str
    newest: datetime | None
    next_slot: datetime | None
    notes: tuple[tuple[Tone, str], ...]


@dataclass(frozen=True, slots=True)
class FailedRow:
    """A point that came to nothing."""

    point: str
    instance: str
    at: datetime
    state: str
    why: str


@dataclass(frozen=True, slots=True)
class HoldRow:
    id: str
    reason: str
    on: str
    term: str
    by: str


@dataclass(frozen=True, slots=True)
class Switch:
    """Something that may be done, as a form with a reason."""

    what: str
    words: str
    form: str  # the endpoint that takes it
    act: str  # on its button
    fields: tuple[tuple[str, str], ...]
    tone: Tone = "plain"


@dataclass(frozen=True, slots=True)
class TenantPage:
    title: str
    notices: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    regions: tuple[RegionRow, ...]
    copies: str  # how they stand, in words; empty where there are none
    copied_to: str | None  # the region that a copy may be asked for in, by whoever looks
    copy_regions: tuple[str, ...]  # where copies are, or may be
    instances: tuple[InstanceRow, ...]
    stored: int
    going: str
    kept_by: tuple[tuple[str, int], ...]
    plans: tuple[OfInstance, ...]
    not_weighed: int
    failed: tuple[FailedRow, ...]
    restores: tuple[RestoreRow, ...] | None  # None for whoever may not see them
    tested: str
    tested_tone: Tone
    holds: tuple[HoldRow, ...]
    switches: tuple[Switch, ...]


def page(
    view: TenantView,
    plan: RetentionView | None,
    holds: HoldsView,
    paused: d.PausedKinds,
    may: May,
    restores: Sequence[RestoreLine] | None = None,
) -> TenantPage:
    """`plan`, `restores` are None for whoever may not see them; `paused`: as far as it is about this tenant."""
    tenant = view.tenant
    bought = _bought(view)
    return TenantPage(
        title=f"{tenant.name} · Snapkeep",
        notices=tuple(_notices(view, paused)),
        facts=tuple(_facts(tenant)),
        regions=tuple(_region(line) for line in view.regions),
        copies=_copies(view),
        copied_to=bought if bought and may("copy.request") else None,
        copy_regions=tuple(line.region for line in view.regions if line.role == "copy"),
        instances=tuple(_row(one, view.at) for one in view.instances),
        stored=sum(len(one.points) for one in plan.instances) if plan else 0,
        going=_going(plan) if plan else "",
        kept_by=tuple(plan.kept_by.items()) if plan else (),
        plans=tuple(_plan(one, bought) for one in plan.instances) if plan else (),
        not_weighed=plan.left_out if plan else 0,
        failed=tuple(_failed(view.points)),
        restores=None if restores is None else tuple(map(restore_page.row, restores)),
        tested=progress.tested(tenant, view.at),
        tested_tone="bad" if tenant.restore_tested and not tenant.restore_tested.passed else "plain",
        holds=tuple(_holds(holds)),
        switches=tuple(_switches(view, paused, may)),
    )


# --- what is agreed, and what is stopped --------------------------------------------------------------------------


def _facts(tenant: d.Tenant) -> Iterator[tuple[str, str]]:
    yield "Deployment", tenant.deployment
    yield "Project", tenant.project
    if tenant.vault_project != tenant.project:
        yield "Snapshots in", tenant.vault_project
    yield "Daily at", f"{tenant.schedule.daily_at} {tenant.timezone}" if tenant.vendor_managed else "by the client"
    yield "RPO", f"{tenant.rpo_hours} hours"
    yield "Keeps", policy(tenant.retention)
    yield "Consistency", CONSISTENCY[tenant.consistency]
    yield "Locks", f"{count(tenant.retention.lock_days, 'day')} from its request on"
    yield "After an instance is gone", f"{count(tenant.retention.keep_after_gone_days, 'day')} more"
    if bought := tenant.entitlements.inter_region_backup:
        yield "Keeps of copies", policy(bought.retention)


def policy(keeps: d.Retention | d.CopyRetention) -> str:
    """What a policy keeps, without the rules that keep nothing."""
    rules = {
        "last": keeps.keep_last,
        "daily": keeps.keep_daily,
        "weekly": keeps.keep_weekly,
        "monthly": keeps.keep_monthly,
        "yearly": keeps.keep_yearly,
    }
    words = [f"{name} {number}" for name, number in rules.items() if number]
    within = keeps.keep_within_days
    return ", ".join([*words, *([f"within {count(within, 'day')}"] if within else [])]) or "nothing"


def _notices(view: TenantView, paused: d.PausedKinds) -> Iterator[str]:
    tenant = view.tenant
    yield from fleet_page.paused(paused)
    if tenant.offboarding is not None:
        leaves = "left" if tenant.offboarding.at <= view.at else "leaves"
        yield f"{tenant.name} {leaves} {moment(tenant.offboarding.at)}: {tenant.offboarding.reason}"
    if tenant.discovery_failure is not None:
        yield f"Its project cannot be read: {tenant.discovery_failure.code}: {tenant.discovery_failure.message}"
    for missing in tenant.unmatched:
        yield f"Not found: {missing}"


def _row(one: d.Instance, now: datetime) -> InstanceRow:
    notes: list[tuple[Tone, str]] = []
    if one.lost_at is not None:
        notes.append(("warn", f"{one.lost_reason or 'lost'} since {moment(one.lost_at)}"))
    if one.breach_at is not None:
        notes.append(("bad", f"in breach of its RPO since {moment(one.breach_at)}"))
    if one.override is not None:
        notes.append(("warn", f"retention works on it once in spite of that: {one.override.reason}"))
    if one.retention.incomplete:
        notes.append(("warn", f"{count(one.retention.incomplete, 'point')} lost a snapshot"))
    if any(hold.stands(now) for hold in one.holds):
        notes.append(("good", "held"))
    return InstanceRow(
        id=one.id,
        name=one.name,
        zone=one.zone,
        newest=one.newest_verified.at if one.newest_verified else None,
        next_slot=one.next_slot_at,
        notes=tuple(notes),
    )


# --- regions and copies -------------------------------------------------------------------------------------------


def _bought(view: TenantView) -> str | None:
    """The region in which copies are bought now."""
    return next((line.region for line in view.regions if line.bought_until), None)


def _region(line: RegionLine) -> RegionRow:
    tone: Tone = "plain"
    bought = ""
    if line.role == "copy" and line.bought_until:
        tone, bought = "good", f"until {line.bought_until}"
    elif line.role == "copy":
        tone, bought = "warn", f"ended {line.ended_at:%Y-%m-%d}" if line.ended_at else "not bought"
    return RegionRow(
        region=line.region,
        role=line.role,
        bought=bought,
        tone=tone,
        newest=line.newest_at,
        sets="" if line.sets is None else f"{line.sets:,}",
        stored="" if line.bytes is None else size(line.bytes),
        without=tuple(line.without),
    )


def _copies(view: TenantView) -> str:
    counts = view.health.copies if view.health else {}
    if not counts:
        return ""
    waiting = counts.get("waiting", 0)
    told = [f"{counts.get('verified', 0):,} verified", *([f"{waiting:,} on their way"] if waiting else [])]
    return ", ".join([*told, *filter(None, [copies(counts)])])


def _copy(line: PointRetention, bought: str | None) -> Set:
    tone, verdict = VERDICTS[line.decision]
    if line.late:
        tone, verdict = "warn", "missing" if line.state == "failed" else "late"
    elif line.state in ("requested", "copying"):
        tone, verdict = "plain", "on its way"
    elif line.state == "failed" and line.region == bought:
        tone, verdict = "warn", "missing"
    elif line.region != bought and line.decision in KEPT:
        tone, verdict = "warn", "no longer bought"
    failed = (f"{line.failure.code}: {line.failure.message}",) if line.failure else ()
    return _set(line, tone, verdict, (*failed, *_reasons(line)))


# --- what is stored -----------------------------------------------------------------------------------------------


def _going(plan: RetentionView) -> str:
    going, of_copies = plan.going, plan.copies_going
    if not going + of_copies:
        return "nothing goes now"
    goes = "goes" if going + of_copies == 1 else "go"
    return f"{count_sets(going + of_copies, of_copies)} {goes} ({size(plan.going_bytes + plan.copies_going_bytes)})"


def _plan(one: InstanceRetention, bought: str | None) -> OfInstance:
    lines = _lines(one, bought)
    goes = sum(point.decision not in KEPT for point in (*one.points, *one.copies))
    stored = f"{count(len(one.points), 'point')}, {size(sum(point.bytes for point in one.points))}"
    if one.copies:
        stored += f"; {count(len(one.copies), 'copy', 'copies')}, {size(sum(line.bytes for line in one.copies))}"
    return OfInstance(
        id=one.id,
        name=one.name,
        zone=one.zone,
        figures=f"{stored}; {goes} {'goes' if goes == 1 else 'go'}" if goes else stored,
        goes=goes,
        lines=lines[:LINES_MAX],
        left_out=max(len(lines) - LINES_MAX, 0),
        failure=one.failure,
    )


def _lines(one: InstanceRetention, bought: str | None) -> tuple[Line, ...]:
    """A line for each point, newest first: as it is at home, and below that its copies."""
    beside: dict[str, list[PointRetention]] = {}
    for line in one.copies:
        beside.setdefault(line.point, []).append(line)
    lines = [Line(line.point, line.taken_at, _home(line), ()) for line in one.points]
    there = {line.point for line in lines}
    lines += [
        Line(id, copied[0].taken_at, Set(None, "deleted", "plain", "not at home any more", (), 0), ())
        for id, copied in beside.items()
        if id not in there
    ]
    lines.sort(key=lambda line: line.taken_at, reverse=True)
    return tuple(
        replace(line, copies=tuple(_copy(copy, bought) for copy in beside.get(line.point, ()))) for line in lines
    )


def _home(line: PointRetention) -> Set:
    return _set(line, *VERDICTS[line.decision], _reasons(line))


def _set(line: PointRetention, tone: Tone, verdict: str, reasons: tuple[str, ...]) -> Set:
    return Set(line.region, line.state, tone, verdict, reasons, line.bytes)


def _reasons(line: PointRetention) -> tuple[str, ...]:
    return (*line.reasons, *([f"not before {moment(line.until)}"] if line.until else []))


def _failed(newest: Iterable[d.Point]) -> Iterator[FailedRow]:
    for point in newest:
        if point.failure is not None:
            yield FailedRow(
                point=point.id,
                instance=point.instance.name,
                at=point.requested_at,
                state=point.state,
                why=f"{point.failure.code}: {point.failure.message}",
            )


# --- what people decide -------------------------------------------------------------------------------------------


def _holds(view: HoldsView) -> Iterator[HoldRow]:
    for line in view.holds:
        kind = {"points": "point", "instances": "instance"}.get(line.subject.split("/")[0])
        term = f"until {moment(line.hold.until)}" if line.hold.until else "until it is released"
        yield HoldRow(
            id=line.hold.id,
            reason=line.hold.reason,
            on=_on(line, kind),
            term=term if line.stands else f"over since {moment(line.hold.until)}",
            by=line.hold.by,
        )


def _on(line: HoldLine, kind: str | None) -> str:
    if line.copy:
        return f"copy in {line.copy} of {kind} {line.name}"
    return f"{kind} {line.name}" if kind else "all of it"


def _switches(view: TenantView, paused: d.PausedKinds, may: May) -> Iterator[Switch]:
    tenant = view.tenant
    for kind in get_args(Kind):
        stands: d.Paused = getattr(paused, kind)
        fields = (("what", kind),)
        if tenant.id in stands.tenants and may("tenant.resume"):
            words = f"Paused {stopped(stands)}"
            yield Switch(KIND_WORDS[kind], words, "resume", f"Resume {kind}", fields)
        elif tenant.id not in stands.tenants and may("tenant.pause"):
            words = f"Paused {stopped(stands)}" if stopped(stands) else "Goes on"
            yield Switch(KIND_WORDS[kind], words, "pause", f"Pause {kind}", fields, "bad")
    for one in _in_breach(view.instances):
        if may("retention.override"):
            words = "In breach of its RPO, so that nothing of it goes. Once, its points are weighed as if it were not."
            fields = (("instance", one.id),)
            yield Switch(f"Retention of {one.name}", words, "override", "Override once", fields, "bad")
    if tenant.deployment == "private_saas" and may("schedule.switch"):
        on = tenant.vendor_managed
        words = "A point is taken every day" if on else "The schedule takes nothing"
        fields = (("on", "false" if on else "true"),)
        yield Switch("Schedule", words, "schedule", f"Switch {'off' if on else 'on'}", fields, "bad" if on else "plain")


def _in_breach(instances: Iterable[d.Instance]) -> Iterator[d.Instance]:
    return (one for one in instances if one.breach_at is not None and one.lost_at is None and one.override is None)

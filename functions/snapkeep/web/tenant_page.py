"""What a tenant's page says: what is agreed and stopped, what is stored, what keeps it, and what may be done about it.

Pure. The template only places these values; it decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, get_args

from snapkeep import documents as d
from snapkeep.access import Action
from snapkeep.commands import Kind
from snapkeep.views import HoldsView, InstanceRetention, PointRetention, RetentionView, TenantView, Verdict
from snapkeep.web import fleet_page
from snapkeep.web.fleet_page import KIND_WORDS, Tone, stopped
from snapkeep.wording import count, moment, size

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


@dataclass(frozen=True, slots=True)
class Line:
    """One stored point."""

    point: str
    taken_at: datetime
    state: str
    tone: Tone
    verdict: str
    reasons: tuple[str, ...]
    bytes: int


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
    instances: tuple[InstanceRow, ...]
    stored: int
    going: str
    kept_by: tuple[tuple[str, int], ...]
    plans: tuple[OfInstance, ...]
    not_weighed: int
    failed: tuple[FailedRow, ...]
    holds: tuple[HoldRow, ...]
    switches: tuple[Switch, ...]


def page(view: TenantView, plan: RetentionView | None, holds: HoldsView, paused: d.PausedKinds, may: May) -> TenantPage:
    """`plan` is None for whoever may not see it; `paused`: as far as it is about this tenant."""
    tenant = view.tenant
    return TenantPage(
        title=f"{tenant.name} · Snapkeep",
        notices=tuple(_notices(view, paused)),
        facts=tuple(_facts(tenant)),
        instances=tuple(_row(one, view.at) for one in view.instances),
        stored=sum(len(one.points) for one in plan.instances) if plan else 0,
        going=_going(plan) if plan else "",
        kept_by=tuple(plan.kept_by.items()) if plan else (),
        plans=tuple(_plan(one) for one in plan.instances) if plan else (),
        not_weighed=plan.left_out if plan else 0,
        failed=tuple(_failed(view.points)),
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
    yield "Locks", f"{count(tenant.retention.lock_days, 'day')} from its request on"
    yield "After an instance is gone", f"{count(tenant.retention.keep_after_gone_days, 'day')} more"


def policy(keeps: d.Retention) -> str:
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


# --- what is stored -----------------------------------------------------------------------------------------------


def _going(plan: RetentionView) -> str:
    if not plan.going:
        return "nothing goes now"
    return f"{count(plan.going, 'point')} {'goes' if plan.going == 1 else 'go'} ({size(plan.going_bytes)})"


def _plan(one: InstanceRetention) -> OfInstance:
    lines = tuple(_line(point) for point in one.points[:LINES_MAX])
    goes = sum(point.decision not in ("keep", "undo") for point in one.points)
    figures = f"{count(len(one.points), 'point')}, {size(sum(point.bytes for point in one.points))}"
    return OfInstance(
        id=one.id,
        name=one.name,
        zone=one.zone,
        figures=f"{figures}; {goes} {'goes' if goes == 1 else 'go'}" if goes else figures,
        goes=goes,
        lines=lines,
        left_out=len(one.points) - len(lines),
        failure=one.failure,
    )


def _line(point: PointRetention) -> Line:
    tone, verdict = VERDICTS[point.decision]
    until = (f"not before {moment(point.until)}",) if point.until else ()
    return Line(
        point=point.point,
        taken_at=point.taken_at,
        state=point.state,
        tone=tone,
        verdict=verdict,
        reasons=(*point.reasons, *until),
        bytes=point.bytes,
    )


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
            on=f"{kind} {line.name}" if kind else "all of it",
            term=term if line.stands else f"over since {moment(line.hold.until)}",
            by=line.hold.by,
        )


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

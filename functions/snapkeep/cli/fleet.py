"""`snapkeep fleet apply | list | show | health | offboard`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, get_args
from urllib.parse import quote

import click
import msgspec

from snapkeep import commands, views
from snapkeep import documents as d
from snapkeep import fleet as fleet_file
from snapkeep.cli import target
from snapkeep.cli.controls import paused_words
from snapkeep.cli.output import Output, fail
from snapkeep.cli.retention import policy_words
from snapkeep.cli.typed import Day, Duration
from snapkeep.copies.rules import UNENTITLED_GRACE
from snapkeep.restore.progress import last_test, tested
from snapkeep.wording import age, copies, count, count_sets, moment, size

POINTS_SHOWN: Final = 10
STRIP: Final = {"verified": "■", "failed": "✗", "missed": "✗"}


TESTS: Final = {
    "failed": "the last restore test failed of",
    "overdue": "a restore test is overdue of",
    "never": "no restore test ever of",
}
"""How tenants stand by their restore tests that somebody may have to look at."""


@click.group()
def fleet() -> None:
    """The tenants: what the fleet file says of them and how they stand."""


@fleet.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--dry-run", is_flag=True, help="Say what would change, and how many points and copies would go; change nothing."
)
@click.option("--keep-going", is_flag=True, help="Apply the valid tenants of a file that has mistakes.")
@click.option(
    "--accept-deletions",
    type=click.IntRange(min=0),
    metavar="N",
    help="Apply what gives up exactly so many points and copies, which are then deleted.",
)
@click.pass_obj
def apply(output: Output, path: Path, dry_run: bool, keep_going: bool, accept_deletions: int | None) -> None:
    """Apply a fleet file, or every fleet file in a folder.

    Mistakes are listed one a line on standard error, and nothing of a file that has one is applied. Nor is anything
    if it would give up points or copies, unless their number is named.

    \b
    snapkeep fleet apply fleet/ --dry-run
    snapkeep fleet apply fleet/ --accept-deletions 12
    """
    reading = fleet_file.read(path)
    for mistake in reading.mistakes:
        click.echo(str(mistake), err=True)
    for warning in reading.warnings:
        click.echo(f"warning: {warning}", err=True)
    usable = reading.valid if keep_going else reading.clean
    foreseen = [_apply(entry, dry_run=True) for entry in usable]
    over = [line for seen in foreseen for line in seen.over]
    for line in over:
        click.echo(f"warning: {line}", err=True)
    changed = [(entry, seen) for entry, seen in zip(usable, foreseen, strict=True) if seen.changes]
    giving_up = {seen.tenant: seen.deletions for seen in foreseen if seen.deletions}
    total = sum(giving_up.values())
    of_copies = sum(seen.copies for seen in foreseen)
    may = dry_run or total == (accept_deletions or 0)
    done: list[str] = []
    stopped: SystemExit | None = None
    if may and not dry_run:
        try:
            for entry, seen in changed:
                _apply(entry, dry_run=False, accept_deletions=seen.deletions)
                done.append(entry.id)
                if not output.as_json:
                    _print_changes(output, seen)
        except SystemExit as refusal:  # why stands on standard error already
            stopped = refusal
    left_out = [entry.id for entry in reading.valid if entry not in usable]
    if output.as_json:
        output.json(
            {
                "changes": [
                    {"tenant": seen.tenant, "field": one.field, "old": one.old, "new": one.new}
                    for _, seen in changed
                    for one in seen.changes
                ],
                "unchanged": [seen.tenant for seen in foreseen if not seen.changes],
                "left_out": left_out,
                "mistakes": [str(mistake) for mistake in reading.mistakes],
                "warnings": [*map(str, reading.warnings), *over],
                "deletions": giving_up,
                "copies": {seen.tenant: seen.copies for seen in foreseen if seen.copies},
                "gives_up": {seen.tenant: seen.gives_up for seen in foreseen if seen.gives_up},
                "deselected": {seen.tenant: seen.deselected for seen in foreseen if seen.deselected},
                "applied": may and not dry_run and stopped is None,
                "applied_tenants": done,
                "dry_run": dry_run,
            }
        )
    elif stopped:
        not_done = [entry.id for entry, _ in changed if entry.id not in done]
        output.line(f"stopped half-way: {_named(done)} changed, {_named(not_done)} not")
    elif usable:
        if dry_run or not may:
            for _, seen in changed:
                _print_changes(output, seen)
        said = "changed" if may and not dry_run else "would change"
        output.line(f"{count(len(changed), 'tenant')} {said}, {len(usable) - len(changed)} unchanged")
        if total:
            would = ("is" if total == 1 else "are") + " given up" if may and not dry_run else "would be given up"
            output.line(f"{count_sets(total, of_copies)} {would}: {_numbers(giving_up)}")
            for seen in foreseen:
                _print_given_up(output, seen)
    if stopped:
        raise stopped
    if not may:
        fail(_not_accepted(accept_deletions, giving_up, of_copies))
    if reading.mistakes:
        mistakes = count(len(reading.mistakes), "mistake")
        if not keep_going:
            fail(f"{mistakes}; nothing of a file with a mistake was applied")
        were = "would be" if dry_run else "was" if len(usable) == 1 else "were"
        fail(f"{mistakes}; {count(len(usable), 'valid tenant')} {were} applied (--keep-going)")


def _apply(entry: fleet_file.Entry, *, dry_run: bool, accept_deletions: int = 0) -> commands.ApplyAnswer:
    ask = commands.ApplyAsk(
        entry=dict(entry.normal), file=entry.file, accept_deletions=accept_deletions, dry_run=dry_run
    )
    return target.act(commands.ApplyAnswer, entry.id, "apply", ask)


def _print_changes(output: Output, seen: commands.ApplyAnswer) -> None:
    for change in seen.changes:
        output.line(change.text)
    for instance in seen.deselected:
        output.line(f"{seen.tenant}: {instance} is no longer selected: all its points count as given up")


def _named(tenants: Sequence[str]) -> str:
    names = f" ({', '.join(tenants)})" if tenants else ""
    return count(len(tenants), "tenant") + names


def _numbers(giving_up: Mapping[str, int]) -> str:
    return ", ".join(f"{number} of {tenant}" for tenant, number in sorted(giving_up.items()))


def _print_given_up(output: Output, seen: commands.ApplyAnswer) -> None:
    for one in seen.gives_up:
        lock = f", locked until {moment(one.locked_until)}" if one.locked_until else ""
        lock = f", kept until {moment(one.kept_until)} at least" if one.kept_until else lock
        what = f"the copy in {one.copy} of {one.point}" if one.copy else one.point
        output.line(f"  {seen.tenant}: {what} of {one.instance}{lock}")
    if seen.deletions > len(seen.gives_up):
        output.line(f"  {seen.tenant}: and {seen.deletions - len(seen.gives_up):,} more")


def _not_accepted(accepted: int | None, giving_up: Mapping[str, int], of_copies: int) -> str:
    total = sum(giving_up.values())
    if not total:
        return f"--accept-deletions {accepted}: no point would be given up, so nothing was applied; leave it out"
    wrong = f"--accept-deletions {accepted} is another number: " if accepted is not None else ""
    would = f"{count_sets(total, of_copies)} would be given up ({_numbers(giving_up)}), so nothing was applied"
    return f"{wrong}{would}; --accept-deletions {total} accepts it"


@fleet.command("list")
@click.pass_obj
def list_(output: Output) -> None:
    """Every tenant, how it stands, and its newest verified point; those that need somebody first."""
    first, tenants = _read()
    if output.as_json:
        output.json([msgspec.to_builtins(t) | {"instances": t.counts["instances"]} for t in tenants])
        return
    output.table(
        ("TENANT", "NAME", "DEPLOYMENT", "STATE", "NEWEST VERIFIED", "INSTANCES", "BYTES"),
        [
            (
                t.id,
                t.name,
                t.deployment,
                t.state,
                age(t.newest_verified_at, first.at),
                t.counts["instances"],
                size(t.bytes),
            )
            for t in tenants
        ],
        right=("INSTANCES", "BYTES"),
        text=("NAME",),
        spare=("BYTES", "INSTANCES", "DEPLOYMENT", "NAME"),
    )


def _read() -> tuple[views.FleetView, list[views.TenantLine]]:
    """The first page, on which stands what is said of the whole fleet, and the tenants of all pages."""
    first, *others = target.pages(views.FleetView, "/fleet")
    return first, [tenant for page in (first, *others) for tenant in page.tenants]


@fleet.command()
@click.argument("tenant")
@click.pass_obj
def show(output: Output, tenant: str) -> None:
    """One tenant: its policy, its regions, its instances and its newest points."""
    view = target.look_for(views.TenantView, f"/tenants/{quote(tenant, safe='')}")
    if view is None:
        fail(f"{tenant!r} is not a tenant; `snapkeep fleet list` names them")
    if output.as_json:
        output.json(view)
        return
    now = view.at
    t = view.tenant
    output.line(f"{t.id} · {t.name} · {t.deployment} · {view.state or 'unknown'}")
    output.line(f"project {t.project}, snapshots in {t.vault_project}")
    output.line(
        f"daily at {t.schedule.daily_at} {t.timezone}, spread {t.schedule.spread_minutes} min, "
        f"catch-up {t.schedule.catch_up_hours} h, RPO {t.rpo_hours} h, consistency {t.consistency}"
    )
    output.line(f"keep {policy_words(t.retention)}")
    if bought := t.entitlements.inter_region_backup:
        output.line(f"keep of copies in {bought.region}: {policy_words(bought.retention)}")
    output.line(f"restore tests: {tested(t, now)}")
    for sentence in _decided(view):
        output.line(sentence)
    for missing in t.unmatched:
        output.line(f"not found: {missing}")
    if t.discovery_failure:
        output.line(f"cannot be read: {t.discovery_failure.code}: {t.discovery_failure.message}")
    if view.regions:
        output.line("")
        _print_regions(output, view)
    output.line("")
    output.table(
        ("INSTANCE", "ZONE", "ID", "DISKS", "NEWEST VERIFIED", "NEXT SLOT", "GOING IN 7 DAYS", "NOTE"),
        [
            (
                i.name,
                i.zone,
                i.id,
                len(i.disks),
                age(i.newest_verified.at, now) if i.newest_verified else "never",
                moment(i.next_slot_at) if i.next_slot_at else "none",
                f"{i.retention.going}, {size(i.retention.going_bytes)}" if i.retention.going else "",
                "; ".join(_notes(i, now)),
            )
            for i in view.instances
        ],
        right=("DISKS",),
        text=("NOTE",),
        spare=("ID", "NEXT SLOT", "DISKS", "GOING IN 7 DAYS"),
    )
    output.line("")
    output.table(
        ("POINT", "TRIGGER", "STATE", "REQUESTED", "DISKS", "BYTES", "WHY"),
        [
            (
                p.id,
                p.trigger,
                p.state,
                moment(p.requested_at),
                len(p.disks),
                size(sum(disk.snapshot.bytes for disk in p.disks)),
                p.failure.code if p.failure else p.reason,
            )
            for p in view.points[:POINTS_SHOWN]
        ],
        right=("DISKS", "BYTES"),
        text=("WHY",),
        spare=("TRIGGER", "BYTES", "DISKS", "REQUESTED"),
    )
    # Below the table and once: a message may hold commands, which are to be copied in one piece.
    failures = (p.failure for p in view.points[:POINTS_SHOWN] if p.failure)
    for said in dict.fromkeys(f"{why.code}: {why.message}" for why in failures):
        output.line(said)


def _print_regions(output: Output, view: views.TenantView) -> None:
    """The region map, and what of the copies is not as it should be."""
    output.table(
        ("REGION", "ROLE", "BOUGHT UNTIL", "NEWEST", "SETS", "STORED"),
        [
            (
                line.region,
                line.role,
                _bought(line),
                age(line.newest_at, view.at),
                "" if line.sets is None else line.sets,
                "" if line.bytes is None else size(line.bytes),
            )
            for line in view.regions
        ],
        right=("SETS", "STORED"),
    )
    if view.health and (told := copies(view.health.copies)):
        output.line(f"copies: {told}")
    for line in view.regions:
        if line.ended_at:
            kept = line.ended_at + UNENTITLED_GRACE
            output.line(f"copies in {line.region} are kept until {kept:%Y-%m-%d} at least: no longer bought")
        if line.role == "copy" and line.without:
            output.line(f"no copy in {line.region} of: {', '.join(line.without)}")


def _bought(line: views.RegionLine) -> str:
    if line.role == "home" or line.bought_until:
        return line.bought_until or ""
    return f"ended {line.ended_at:%Y-%m-%d}" if line.ended_at else "not bought"


def _decided(view: views.TenantView) -> Iterator[str]:
    """What people have decided about a tenant, and what is stopped of it."""
    t = view.tenant
    paused = target.ask(views.ControlsView, "/controls").paused
    for what in get_args(commands.Kind):
        kind: d.Paused = getattr(paused, what)
        if kind.covers(project=t.project, tenant=t.id) or t.vault_project in kind.projects:
            yield f"paused: {what} {paused_words(kind)}"
    if t.schedule_switch:
        yield f"its schedule was switched {'on' if t.schedule_switch.on else 'off'} {moment(t.schedule_switch.at)}"
    if t.offboarding:
        yield f"leaves {moment(t.offboarding.at)}: {t.offboarding.reason}"
    held = target.look_for(views.HoldsView, "/holds", {"tenant": t.id})
    for line in held.holds if held else ():
        if line.stands:
            until = f"until {moment(line.hold.until)}" if line.hold.until else "until it is released"
            of = "all of it" if line.subject == "." else line.name
            of = f"the copy of {of} in {line.copy}" if line.copy else of
            yield f"held: {of} {until}: {line.hold.reason} ({line.hold.id})"


def _notes(i: d.Instance, now: datetime) -> Iterator[str]:
    if i.lost_at:
        yield i.lost_reason or "lost"
    if i.breach_at:
        yield f"in breach since {moment(i.breach_at)}"
    if any(hold.stands(now) for hold in i.holds):
        yield "held"
    if i.override:
        yield "overridden once"
    if i.retention.incomplete:
        yield f"{count(i.retention.incomplete, 'point')} lost a snapshot"
    if i.retention.deleting:
        yield f"deleting {len(i.retention.deleting)}"


@fleet.command()
@click.argument("tenant")
@click.option("--on", "day", type=Day(), help="Its last day is the one before: from the beginning of this local day.")
@click.option("--cancel", is_flag=True, help="It stays after all.")
@click.option("--reason", required=True, help="Why; it stands in the audit chain.")
@click.option("--dry-run", is_flag=True, help="Say from when on it would be served no longer, and change nothing.")
@click.pass_obj
def offboard(output: Output, tenant: str, day: str | None, cancel: bool, reason: str, dry_run: bool) -> None:
    """Say when TENANT leaves. From then on nothing of it is taken, and its points go as those of lost instances do.

    \b
    snapkeep fleet offboard acme --on 2027-01-31 --reason "end of contract" --dry-run
    snapkeep fleet offboard acme --cancel --reason "they stay"
    """
    if (day is None) == (not cancel):
        raise click.UsageError("--on DATE or --cancel, one of them")
    ask = commands.OffboardAsk(day=day, reason=reason, dry_run=dry_run)
    answer = target.act(commands.OffboardAnswer, tenant, "offboard", ask)
    if output.as_json:
        output.json(answer)
        return
    would = "would leave" if dry_run else "leaves"
    if answer.offboarding:
        output.line(f"{tenant} {would} {moment(answer.offboarding.at)}")
        if answer.points is not None:
            lost = (
                f"its instances {'would be' if dry_run else 'are'} lost at once, with {count(answer.points, 'point')}"
            )
            output.line(f"that day has come: {lost} stored of them")
        output.line(f"`snapkeep retention plan --tenant {tenant} --at DATE` shows what is left of its points then")
    else:
        output.line(f"{tenant} {'would stay' if dry_run else 'stays'}")


@fleet.command("health")
@click.option(
    "--max-age",
    type=Duration(),
    help="End with status 1 where this was computed longer ago (15m): for a guard outside of Google Cloud.",
)
@click.pass_obj
def health_(output: Output, max_age: timedelta | None) -> None:
    """The fleet at a glance: totals, breaches first, what is paused, what goes, the last tick of each function."""
    view, tenants = _read()
    _show_health(output, view, tenants)
    if max_age is not None:
        _hold_to_age(view, max_age)


def _hold_to_age(view: views.FleetView, max_age: timedelta) -> None:
    """End with status 1 unless function `health` has ticked within this time."""
    if view.totals is None:
        fail("--max-age: how old the fleet's health is cannot be told: it was never computed, or is not for you to see")
    computed = view.totals.updated_at
    if view.at - computed > max_age:
        fail(
            f"the fleet's health was computed {moment(computed)}, longer ago than {max_age}: "
            "function `health` does not tick; see 'A function no longer ticks' in docs/runbook.md"
        )


def _show_health(output: Output, view: views.FleetView, tenants: list[views.TenantLine]) -> None:
    if view.totals is None and view.ticks:  # whoever sees one tenant alone has neither
        fail("health has not been computed yet: the function `health` runs every 5 minutes once it is deployed")
    paused = target.ask(views.ControlsView, "/controls").paused
    if output.as_json:
        output.json(
            {
                "fleet": view.totals,
                "paused": paused,
                "tenants": [{"id": t.id, "state": t.state, "health": t} for t in tenants],
                "ticks": view.ticks,
                "bad_messages": view.bad_messages,
            }
        )
        return
    now = view.at
    if view.totals:
        _print_totals(output, view.totals)
    for stands, words in TESTS.items():
        if names := [t.id for t in tenants if t.tested == stands]:
            output.line(f"{words}: {', '.join(names)}")
    for what in get_args(commands.Kind):
        if where := paused_words(getattr(paused, what)):
            output.line(f"paused: {what} {where}")
    output.line("")
    output.table(
        (
            "TENANT",
            "STATE",
            "NEWEST VERIFIED",
            "RUNNING",
            "GOING",
            "LAST DAYS",
            "COPIES",
            "RESTORE TEST",
            "UNPROTECTED",
        ),
        [
            (
                t.id,
                t.state,
                age(t.newest_verified_at, now),
                t.running,
                t.going,
                "".join(STRIP[t.days[day]] for day in sorted(t.days)[-14:]),
                copies(t.copies) or (f"{t.copies['verified']:,} verified" if t.copies.get("verified") else ""),
                last_test(t.tested, t.restore_tested, now),
                ", ".join(t.unprotected),
            )
            for t in tenants
        ],
        right=("RUNNING", "GOING"),
        text=("COPIES", "UNPROTECTED"),
        spare=("LAST DAYS", "GOING", "RUNNING", "RESTORE TEST"),
    )
    if view.ticks:
        _print_ticks(output, view.ticks, now)
    if view.bad_messages:
        output.line("")
        output.table(
            ("BAD MESSAGE AT", "KIND", "FUNCTION", "REASON"),
            [(moment(b.at), b.kind, b.function, b.reason) for b in view.bad_messages],
            text=("REASON",),
        )


def _print_totals(output: Output, f: d.FleetHealth) -> None:
    output.line(
        f"{f.tenants} tenants, {f.instances} instances: {f.breached} breached, {f.unprotected} unprotected, "
        f"{f.client_managed} client-managed; {f.running} points running; {size(f.bytes)} stored at home"
    )
    if f.copies:
        waiting = f.copies.get("waiting", 0)
        told = [f"{f.copies.get('verified', 0):,} verified", *([f"{waiting:,} on their way"] if waiting else [])]
        told += [copies(f.copies)] if copies(f.copies) else []
        full = count(f.copies.get("catch_up_disks", 0), "disk")
        output.line(f"copies: {', '.join(told)}; {size(f.copies.get('bytes', 0))}")
        output.line(f"made up through temporary disks so far: {full}, {size(f.copies.get('catch_up_bytes', 0))}")
    if f.incomplete:
        lost = f"{count(f.incomplete, 'point')} lost a snapshot"
        output.line(f"{lost}: `snapkeep points orphans` names them, `snapkeep retention plan` says incomplete")
    if f.restore_tests:
        stand = ", ".join(f"{number:,} {stands}" for stands, number in f.restore_tests.items())
        output.line(f"restore tests, by tenant: {stand}")
    output.line(f"{f.rejected} rejected messages, {f.dead_letters} dead letters in 7 days")
    sets = count(f.going, "point or copy", "points or copies")
    output.line(f"{sets} ({size(f.going_bytes)}) will go in the next 7 days, as far as can be told")


def _print_ticks(output: Output, ticks: list[views.LastTick], now: datetime) -> None:
    output.line("")
    output.table(
        ("FUNCTION", "LAST TICK", ""),
        [
            (
                t.function,
                f"{age(t.at, now)} ago" if t.at else "never",
                "" if not t.silent else "silent" if t.at else "not yet",
            )
            for t in ticks
        ],
    )

"""`snapkeep fleet apply | list | show | health`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

import click
import msgspec

from snapkeep import commands, views
from snapkeep import fleet as fleet_file
from snapkeep.cli import target
from snapkeep.cli.output import Output, fail
from snapkeep.wording import age, moment, size

POINTS_SHOWN: Final = 10
STRIP: Final = {"verified": "■", "failed": "✗", "missed": "✗"}


@click.group()
def fleet() -> None:
    """The tenants: what the fleet file says of them and how they stand."""


@fleet.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Say what would change and change nothing.")
@click.option("--keep-going", is_flag=True, help="Apply the valid tenants of a file that has mistakes.")
@click.pass_obj
def apply(output: Output, path: Path, dry_run: bool, keep_going: bool) -> None:
    """Apply a fleet file, or every fleet file in a folder.

    Mistakes are listed one a line on standard error, and nothing of a file that has one is applied.
    """
    reading = fleet_file.read(path)
    for mistake in reading.mistakes:
        click.echo(str(mistake), err=True)
    for warning in reading.warnings:
        click.echo(f"warning: {warning}", err=True)
    usable = reading.valid if keep_going else reading.clean
    applied = None
    if usable:
        applied = commands.apply_fleet(
            target.ports(), reading, f"claimed:{target.user()}", dry_run=dry_run, keep_going=keep_going
        )
    if output.as_json:
        output.json(
            {
                "changes": [
                    {"tenant": c.tenant, "field": c.field, "old": c.old, "new": c.new}
                    for c in (applied.changes if applied else ())
                ],
                "unchanged": applied.unchanged if applied else (),
                "left_out": applied.left_out if applied else [entry.id for entry in reading.valid],
                "mistakes": [str(mistake) for mistake in reading.mistakes],
                "warnings": [str(warning) for warning in reading.warnings],
                "dry_run": dry_run,
            }
        )
    elif applied:
        for change in applied.changes:
            output.line(str(change))
        changed = len({change.tenant for change in applied.changes})
        said = "would change" if dry_run else "changed"
        output.line(f"{changed} tenants {said}, {len(applied.unchanged)} unchanged")
    if reading.mistakes:
        count = len(reading.mistakes)
        if not keep_going:
            fail(f"{count} mistake{'s' * (count > 1)}; nothing of a file with a mistake was applied")
        fail(f"{count} mistake{'s' * (count > 1)}; {len(usable)} valid tenants were applied (--keep-going)")


@fleet.command("list")
@click.pass_obj
def list_(output: Output) -> None:
    """Every tenant, how it stands, and its newest verified point; those that need somebody first."""
    first = _view()
    tenants = list(_every_tenant(first))
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


def _view(after: str | None = None) -> views.FleetView:
    return target.ask(views.FleetView, "/fleet", {"after": after})


def _every_tenant(page: views.FleetView) -> Iterator[views.TenantLine]:
    """The tenants of this page and of all that follow."""
    yield from page.tenants
    while page.next:
        page = _view(page.next)
        yield from page.tenants


@fleet.command()
@click.argument("tenant")
@click.pass_obj
def show(output: Output, tenant: str) -> None:
    """One tenant: its policy, its instances and its newest points."""
    view = target.look_for(views.TenantView, f"/tenants/{quote(tenant, safe='')}")
    if view is None:
        fail(f"{tenant!r} is not a tenant; `snapkeep fleet list` names them")
    if output.as_json:
        output.json(view)
        return
    now = view.at
    t, r = view.tenant, view.tenant.retention
    output.line(f"{t.id} · {t.name} · {t.deployment} · {view.state or 'unknown'}")
    output.line(f"project {t.project}, snapshots in {t.vault_project}")
    output.line(
        f"daily at {t.schedule.daily_at} {t.timezone}, spread {t.schedule.spread_minutes} min, "
        f"catch-up {t.schedule.catch_up_hours} h, RPO {t.rpo_hours} h, consistency {t.consistency}"
    )
    output.line(
        f"keep last {r.keep_last}, daily {r.keep_daily}, weekly {r.keep_weekly}, monthly {r.keep_monthly}, "
        f"yearly {r.keep_yearly}, lock {r.lock_days} days"
    )
    for missing in t.unmatched:
        output.line(f"not found: {missing}")
    if t.discovery_failure:
        output.line(f"cannot be read: {t.discovery_failure.code}: {t.discovery_failure.message}")
    output.line("")
    output.table(
        ("INSTANCE", "ZONE", "ID", "DISKS", "NEWEST VERIFIED", "NEXT SLOT", "NOTE"),
        [
            (
                i.name,
                i.zone,
                i.id,
                len(i.disks),
                age(i.newest_verified.at, now) if i.newest_verified else "never",
                moment(i.next_slot_at) if i.next_slot_at else "none",
                (i.lost_reason or "") if i.lost_at else f"in breach since {moment(i.breach_at)}" if i.breach_at else "",
            )
            for i in view.instances
        ],
        right=("DISKS",),
        text=("NOTE",),
        spare=("ID", "NEXT SLOT", "DISKS"),
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
                f"{p.failure.code}: {p.failure.message}" if p.failure else p.reason,
            )
            for p in view.points[:POINTS_SHOWN]
        ],
        right=("DISKS", "BYTES"),
        text=("WHY",),
        spare=("TRIGGER", "BYTES", "DISKS", "REQUESTED"),
    )


@fleet.command("health")
@click.pass_obj
def health_(output: Output) -> None:
    """The fleet at a glance: totals, breaches first, the last tick of each function, bad messages."""
    view = _view()
    if view.totals is None:
        fail("health has not been computed yet: the function `health` runs every 5 minutes once it is deployed")
    tenants = list(_every_tenant(view))
    if output.as_json:
        output.json(
            {
                "fleet": view.totals,
                "tenants": [{"id": t.id, "state": t.state, "health": t} for t in tenants],
                "ticks": view.ticks,
                "bad_messages": view.bad_messages,
            }
        )
        return
    now, f = view.at, view.totals
    output.line(
        f"{f.tenants} tenants, {f.instances} instances: {f.breached} breached, {f.unprotected} unprotected, "
        f"{f.client_managed} client-managed; {f.running} points running; {size(f.bytes)}"
    )
    output.line(f"{f.going} points ({size(f.going_bytes)}) go within 7 days")
    output.line(f"{f.rejected} rejected messages, {f.dead_letters} dead letters in 7 days")
    output.line("")
    output.table(
        ("TENANT", "STATE", "NEWEST VERIFIED", "RUNNING", "GOING", "LAST DAYS", "UNPROTECTED"),
        [
            (
                t.id,
                t.state,
                age(t.newest_verified_at, now),
                t.running,
                t.going,
                "".join(STRIP[t.days[day]] for day in sorted(t.days)[-14:]),
                ", ".join(t.unprotected),
            )
            for t in tenants
        ],
        right=("RUNNING", "GOING"),
        text=("UNPROTECTED",),
        spare=("LAST DAYS", "GOING", "RUNNING"),
    )
    output.line("")
    output.table(
        ("FUNCTION", "LAST TICK", ""),
        [
            (
                t.function,
                f"{age(t.at, now)} ago" if t.at else "never",
                "" if not t.silent else "silent" if t.at else "not yet",
            )
            for t in view.ticks
        ],
    )
    if view.bad_messages:
        output.line("")
        output.table(
            ("BAD MESSAGE AT", "KIND", "FUNCTION", "REASON"),
            [(moment(b.at), b.kind, b.function, b.reason) for b in view.bad_messages],
            text=("REASON",),
        )

"""`snapkeep points list | show | create | orphans`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, get_args
from urllib.parse import quote

import click

from snapkeep import commands, views
from snapkeep.cli import target
from snapkeep.cli.output import Output, fail
from snapkeep.cli.typed import Name
from snapkeep.documents import PointState
from snapkeep.wording import count, moment, size

LIST_MAX: Final = 1000


@click.group()
def points() -> None:
    """The recovery points: what there is, and one more on demand."""


@points.command("list")
@click.option("--tenant", type=Name(), help="Only this tenant's.")
@click.option("--state", type=click.Choice(get_args(PointState)), help="Only those in this state.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=LIST_MAX, show_default=True, help="At most so many.")
@click.pass_obj
def list_(output: Output, tenant: str | None, state: str | None, limit: int) -> None:
    """Points, the most recently requested first."""
    found: list[views.PointView] = []
    more = False
    for point in _every_point(tenant, state):
        if len(found) == limit:
            more = True
            break
        found.append(point)
    if tenant and not found and target.look_for(views.TenantView, f"/tenants/{quote(tenant, safe='')}") is None:
        fail(f"{tenant!r} is not a tenant; `snapkeep fleet list` names them")
    if output.as_json:
        output.json(found)
    else:
        output.table(
            ("POINT", "TENANT", "INSTANCE", "TRIGGER", "STATE", "REQUESTED", "VERIFIED", "DISKS", "BYTES", "REGION"),
            [
                (
                    p.id,
                    p.tenant,
                    p.instance.name,
                    p.trigger,
                    p.state,
                    moment(p.requested_at),
                    moment(p.verified_at) if p.verified_at else "",
                    len(p.disks),
                    size(sum(disk.snapshot.bytes for disk in p.disks)),
                    p.instance.region,
                )
                for p in found
            ],
            right=("DISKS", "BYTES"),
            spare=("REGION", "TRIGGER", "BYTES", "REQUESTED", "DISKS", "INSTANCE", "VERIFIED"),
        )
    if more:
        click.echo(f"there are more than {limit}; --limit shows more, --tenant and --state fewer", err=True)


def _every_point(tenant: str | None, state: str | None) -> Iterator[views.PointView]:
    for page in target.pages(views.PointsView, "/points", {"tenant": tenant, "state": state}):
        yield from page.points


@points.command()
@click.argument("id")
@click.option("--tenant", type=Name(), help="Whose; needed where two tenants have a point of this id.")
@click.pass_obj
def show(output: Output, id: str, tenant: str | None) -> None:
    """One point: its state and why, its disks and the snapshot of each."""
    p = target.look_for(views.PointView, f"/points/{quote(id, safe='')}", {"tenant": tenant})
    if p is None:
        fail(f"{id!r} is no point" + (f" of {tenant}" if tenant else "") + "; `snapkeep points list` names them")
    if output.as_json:
        output.json(p)
        return
    output.line(f"{p.id} · {p.tenant} · {p.trigger} · {p.state}")
    output.line(f"instance {p.instance.name} ({p.instance.id}) in {p.instance.project}, {p.instance.zone}")
    output.line(f"requested {moment(p.requested_at)} by {p.requested_by}: {p.reason}")
    if p.slot:
        output.line(f"slot of {p.slot.day}, {moment(p.slot.at)}")
    output.line(
        f"started {moment(p.started_at)}, verified {moment(p.verified_at)}, locked until {moment(p.lock_until)}"
    )
    for hold in p.holds:
        output.line(f"held {f'until {moment(hold.until)}' if hold.until else 'until it is released'}: {hold.reason}")
    if p.expiry:
        begun = f"its deletion began {moment(p.expiry.begun_at)}"
        output.line(
            f"goes: {p.expiry.reason}; {begun if p.expiry.begun_at else f'not before {moment(p.expiry.delete_after)}'}"
        )
    for name in p.gone:
        output.line(f"gone: {name}, though nobody here deleted it")
    if p.failure:
        output.line(f"{p.failure.code}: {p.failure.message}")
    output.line("")
    output.table(
        ("DISK", "ID", "TYPE", "GB", "SNAPSHOT", "PROJECT", "LOCATION", "STATUS", "BYTES", "ATTEMPT", "WHY"),
        [
            (
                disk.name,
                disk.id,
                disk.type,
                disk.size_gb,
                disk.snapshot.name,
                disk.snapshot.project,
                disk.snapshot.location,
                "gone" if disk.snapshot.name in p.gone else disk.snapshot.status or "not seen",
                size(disk.snapshot.bytes),
                disk.attempts,
                f"{disk.failure.code}: {disk.failure.message}" if disk.failure else "",
            )
            for disk in p.disks
        ],
        right=("GB", "BYTES", "ATTEMPT"),
        text=("WHY",),
        spare=("TYPE", "PROJECT", "LOCATION", "ID", "GB", "ATTEMPT", "BYTES"),
    )


@points.command()
@click.option("--tenant", required=True)
@click.option("--instance", required=True, help="Its name or numeric id.")
@click.option("--zone", help="Needed where the tenant has two instances of that name.")
@click.option("--reason", required=True, help="Why; it stands in the point and in the audit chain.")
@click.option("--id", "key", help="An idempotency key: the same one twice makes one point.  [default: a new one]")
@click.pass_obj
def create(output: Output, tenant: str, instance: str, zone: str | None, reason: str, key: str | None) -> None:
    """Ask for a point now. Returns when it is written down; the points' list shows what became of it.

    \b
    snapkeep points create --tenant acme --instance acme-pam-1 --reason "before import"
    """
    ask = commands.PointAsk(instance=instance, zone=zone, reason=reason)
    id = key or f"cli-{target.token()}"
    answer = target.act(commands.PointAnswer, tenant, "points", ask, key=id)
    if output.as_json:
        output.json({"id": id, "tenant": answer.tenant, "instance": instance, "point": answer.point})
    else:
        output.line(f"{answer.point} is asked for (request {id}); `snapkeep points show {answer.point}` shows its way")


@points.command()
@click.pass_obj
def orphans(output: Output) -> None:
    """Snapshots with our labels that no document knows, and points whose snapshot is gone. Nobody deletes them.

    \b
    snapkeep points orphans
    """
    vaults = [vault for page in target.pages(views.OrphansView, "/orphans") for vault in page.vaults]
    found = [(vault.project, orphan) for vault in vaults for orphan in vault.orphans]
    if output.as_json:
        output.json(vaults)
        return
    if found:
        output.table(
            ("KIND", "SNAPSHOT", "PROJECT", "TENANT", "POINT", "BYTES", "MADE", "FOUND"),
            [
                (
                    orphan.kind,
                    orphan.snapshot,
                    project,
                    orphan.tenant or "",
                    orphan.point or "",
                    size(orphan.bytes),
                    moment(orphan.created_at) if orphan.created_at else "",
                    moment(orphan.found_at),
                )
                for project, orphan in found
            ],
            right=("BYTES",),
            spare=("MADE", "FOUND", "BYTES", "POINT", "PROJECT"),
        )
        output.line("")
    more = sum(vault.orphans_total - len(vault.orphans) for vault in vaults)
    said = count(len(found), "orphan") + (f" and {more} more" if more else "")
    output.line(f"{said} in {count(len(vaults), 'vault project')}")
    for vault in vaults:
        if vault.failure:
            output.line(f"{vault.project} cannot be listed: {vault.failure.code}: {vault.failure.message}")
        elif vault.listed_at is None:
            output.line(f"{vault.project} was not listed yet")

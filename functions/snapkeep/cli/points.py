"""`snapkeep points list | show | create | copy | orphans`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import timedelta
from typing import Final, get_args
from urllib.parse import quote

import click

from snapkeep import commands, views, wiring
from snapkeep import documents as d
from snapkeep.cli import target
from snapkeep.cli.output import Output, fail
from snapkeep.cli.typed import Duration, Name
from snapkeep.copies import sets
from snapkeep.documents import PointState
from snapkeep.restore.progress import duration
from snapkeep.wording import count, moment, said_of, size

LIST_MAX: Final = 1000

LOOK_S: Final = 2.0
"""Between two looks at a point that is waited for."""

WAYS: Final = {
    "moment": "of the instant snapshots that the point was made of: the same moment",
    "temporary_disk": "through temporary disks, of the snapshots at home",
}
"""How a copy is made."""


@click.group()
def points() -> None:
    """The recovery points: what there is, one more on demand, a copy of one."""


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
            (
                "POINT",
                "TENANT",
                "INSTANCE",
                "TRIGGER",
                "STATE",
                "COPY",
                "REQUESTED",
                "VERIFIED",
                "DISKS",
                "BYTES",
                "REGION",
            ),
            [
                (
                    p.id,
                    p.tenant,
                    p.instance.name,
                    p.trigger,
                    p.state,
                    ", ".join(f"{line.region} {line.state}" for line in p.sets[1:]),
                    moment(p.requested_at),
                    moment(p.verified_at) if p.verified_at else "",
                    len(p.disks),
                    size(sum(disk.snapshot.bytes for disk in p.disks)),
                    p.instance.region,
                )
                for p in found
            ],
            right=("DISKS", "BYTES"),
            spare=("REGION", "TRIGGER", "BYTES", "REQUESTED", "DISKS", "INSTANCE", "VERIFIED", "COPY"),
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
    """One point: its state and why, its disks and the snapshot of each; home and copies side by side."""
    p = _found(id, tenant)
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
    for sentence in said_of(p):
        output.line(sentence)
    for line in p.sets[1:]:
        _print_copy(output, p, line)
    if p.copies:
        output.line("")
        _print_side_by_side(output, p)
    for line in p.sets:
        output.line("")
        _print_snapshots(output, p, line)


def _found(id: str, tenant: str | None) -> views.PointView:
    """The point of this id. Ends with status 1 where there is none."""
    p = target.look_for(views.PointView, f"/points/{quote(id, safe='')}", {"tenant": tenant})
    if p is None:
        fail(f"{id!r} is no point" + (f" of {tenant}" if tenant else "") + "; `snapkeep points list` names them")
    return p


def _print_copy(output: Output, p: views.PointView, line: views.SetLine) -> None:
    copy = p.copies[line.region]
    late = ", late" if line.late else ""
    stored = f", {count(line.disks, 'disk')}, {size(line.bytes)}" if line.disks else ""
    output.line(f"copy in {line.region}: {line.state}{late}{stored}")
    output.line(f"  requested {moment(copy.requested_at)} by {copy.requested_by}: {copy.reason}")
    output.line(f"  made {WAYS[copy.way]}")
    for sentence in said_of(sets.as_point(p, line.region)):
        output.line(f"  {sentence}")


def _print_side_by_side(output: Output, p: views.PointView) -> None:
    """A row for each thing that sets have, a column for each set."""
    beside = [sets.as_point(p, None if line.role == "home" else line.region) for line in p.sets]
    by_id = [{disk.id: disk for disk in one.disks} for one in beside]
    output.table(
        ("", *(f"{line.role.upper()} {line.region}" for line in p.sets)),
        [
            ("state", *(line.state for line in p.sets)),
            ("taken", *(moment(line.taken_at) if line.taken_at else "" for line in p.sets)),
            ("verified", *(moment(line.verified_at) if line.verified_at else "" for line in p.sets)),
            ("locked until", *(moment(line.lock_until) if line.lock_until else "" for line in p.sets)),
            ("stored", *(size(line.bytes) if line.disks else "" for line in p.sets)),
            *(
                (
                    disk.name,
                    *(
                        _stands(disks[disk.id], one) if disk.id in disks else "none"
                        for one, disks in zip(beside, by_id, strict=True)
                    ),
                )
                for disk in p.disks
            ),
        ],
    )


def _stands(disk: d.PointDisk, one: d.Point) -> str:
    """How the snapshot of a disk stands in a set."""
    status = _status(disk, one)
    return f"{status}, {size(disk.snapshot.bytes)}" if status == "READY" else status


def _status(disk: d.PointDisk, one: d.Point) -> str:
    return "gone" if disk.snapshot.name in one.gone else disk.snapshot.status or "not seen"


def _print_snapshots(output: Output, p: views.PointView, line: views.SetLine) -> None:
    """The snapshots of one set; of a copy also the temporary disks that it goes through."""
    one = sets.as_point(p, None if line.role == "home" else line.region)
    where = f"copy in {line.region}" if line.role == "copy" else f"at home in {line.region}"
    if not one.disks:
        output.line(f"{where}: nothing {'is asked for yet' if one.state == 'requested' else 'was asked for'}")
        return
    output.line(where)
    through = {disk.id: disk.temporary for disk in p.copies[line.region].disks} if line.role == "copy" else {}
    columns = ("DISK", "ID", "TYPE", "GB", "SNAPSHOT", "PROJECT", "LOCATION", "STATUS", "BYTES", "ATTEMPT")
    rows = [
        (
            disk.name,
            disk.id,
            disk.type,
            disk.size_gb,
            disk.snapshot.name,
            disk.snapshot.project,
            disk.snapshot.location,
            _status(disk, one),
            size(disk.snapshot.bytes),
            disk.attempts,
        )
        for disk in one.disks
    ]
    more: list[tuple[str, list[str]]] = []  # columns that have something to say only now and then
    if any(through.values()):
        more.append(("TEMPORARY DISK", [_temporary(through.get(disk.id)) for disk in one.disks]))
    if any(disk.failure for disk in one.disks):
        more.append(
            ("WHY", [f"{disk.failure.code}: {disk.failure.message}" if disk.failure else "" for disk in one.disks])
        )
    output.table(
        (*columns, *(name for name, _ in more)),
        [(*row, *(cells[n] for _, cells in more)) for n, row in enumerate(rows)],
        right=("GB", "BYTES", "ATTEMPT"),
        text=[name for name, _ in more],
        spare=("TYPE", "PROJECT", "LOCATION", "ID", "GB", "ATTEMPT", "BYTES"),
    )


def _temporary(disk: d.TemporaryDisk | None) -> str:
    if disk is None:
        return ""
    return f"{disk.name}: {'removed' if disk.status == 'GONE' else disk.status or 'not seen'}"


@points.command()
@click.option("--tenant", required=True)
@click.option("--instance", required=True, help="Its name or numeric id.")
@click.option("--zone", help="Needed where the tenant has two instances of that name.")
@click.option("--reason", required=True, help="Why; it stands in the point and in the audit chain.")
@click.option("--id", "key", help="An idempotency key: the same one twice makes one point.  [default: a new one]")
@click.option("--wait", "bound", type=Duration(), help="Return when it is verified, or has failed, or after this long.")
@click.pass_obj
def create(
    output: Output, tenant: str, instance: str, zone: str | None, reason: str, key: str | None, bound: timedelta | None
) -> None:
    """Ask for a point now. Returns when it is written down; the points' list shows what became of it.

    With --wait (15m, 1h) status 0 says that the point is verified, status 1 why it is not. What was asked for goes on.

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
    if bound is not None:
        _wait(output, tenant, answer.point, bound)


def _wait(output: Output, tenant: str, id: str, bound: timedelta) -> None:
    """Look at a point until it is verified. Ends with status 1 where it has failed, or is not verified in time."""
    looks = math.ceil(bound / timedelta(seconds=LOOK_S))
    if not target.over_https():
        still = (
            "the clock of a local cloud stands still unless it is moved: `snapkeep sim advance 30m` in another terminal"
        )
        click.echo(f"waiting; {still}", err=True)
    for look in range(looks + 1):
        p = _found(id, tenant)
        if p.state == "verified":
            if not output.as_json:
                output.line(f"{id} is verified")
            return
        if p.state not in ("requested", "creating"):
            fail(f"{id} is {p.state}" + (f": {p.failure.code}: {p.failure.message}" if p.failure else ""))
        if look < looks:
            wiring.wait(LOOK_S)
    fail(f"{id} is still {p.state} after {duration(bound)}; `snapkeep points show {id}` shows its way")


@points.command()
@click.argument("id")
@click.option("--reason", required=True, help="Why; it stands in the copy and in the audit chain.")
@click.option("--region", help="Where to.  [default: the region that is bought]")
@click.option("--tenant", type=Name(), help="Whose; needed where two tenants have a point of this id.")
@click.option("--id", "key", help="An idempotency key: the same one twice asks once.  [default: a new one]")
@click.option("--dry-run", is_flag=True, help="Say how much would be copied, and change nothing.")
@click.pass_obj
def copy(
    output: Output, id: str, reason: str, region: str | None, tenant: str | None, key: str | None, dry_run: bool
) -> None:
    """Ask for a copy of the verified point ID in the second region that its tenant has bought.

    Every disk is copied in full, through a temporary disk that is made from its snapshot.

    \b
    snapkeep points copy 20261122-s-acme-pam-1-6a39d0ed --reason "before the move"
    """
    owner = tenant or _found(id, None).tenant
    ask = commands.CopyAsk(region=region, reason=reason, dry_run=dry_run)
    answer = target.act(commands.CopyAnswer, owner, f"points/{quote(id, safe='')}/copies", ask, key=key)
    if output.as_json:
        output.json(answer)
        return
    much = f"{count(answer.disks, 'disk')} of {answer.size_gb:,} GB in full"
    output.line(f"a copy in {answer.region} {'would be' if dry_run else 'is'} asked for: {much}")
    if not dry_run:
        output.line(f"`snapkeep points show {answer.point}` shows its way")


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
                    sets.name_of(orphan.point, orphan.copy) if orphan.point else "",
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

"""`snapkeep points list | show | create`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, get_args
from urllib.parse import quote

import click

from snapkeep import documents as d
from snapkeep import messages, views
from snapkeep.cli import target
from snapkeep.cli.output import Output, fail
from snapkeep.documents import PointState
from snapkeep.ports import Ports
from snapkeep.store import Fleet, digest
from snapkeep.wording import moment, size

LIST_MAX: Final = 1000


@click.group()
def points() -> None:
    """The recovery points: what there is, and one more on demand."""


@points.command("list")
@click.option("--tenant", help="Only this tenant's.")
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
    after: str | None = None
    while True:
        page = target.ask(views.PointsView, "/points", {"tenant": tenant, "state": state, "after": after})
        yield from page.points
        after = page.next
        if after is None:
            return


@points.command()
@click.argument("id")
@click.option("--tenant", help="Whose; needed where two tenants have a point of this id.")
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
                disk.snapshot.status or "not seen",
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
    """Ask for a point now. Returns when the request is published; the points' list shows what became of it."""
    view = target.look_for(views.TenantView, f"/tenants/{quote(tenant, safe='')}")
    if view is None:
        fail(f"{tenant!r} is not a tenant; `snapkeep fleet list` names them")
    _check_instance(view, instance, zone)
    ports = target.ports()
    wanted = messages.CreateRequested(
        id=key or f"cli-{ports.clock.token()}",
        tenant=tenant,
        claimed_actor=target.user(),
        reason=reason,
        data=messages.CreateRequestedData(instance=instance, zone=zone),
    )
    body = messages.encode(wanted)
    try:
        messages.parse(body)
    except messages.BadMessage as bad:
        fail(bad.reason)
    made = _made_before(ports, tenant, wanted.id)
    if made and instance not in (made.instance.name, made.instance.id):
        fail(f"request {wanted.id!r} has made {made.id} of {made.instance.name} and makes no other; take another --id")
    ports.bus.publish("snapkeep-create", body)
    if output.as_json:
        output.json({"id": wanted.id, "tenant": tenant, "instance": instance})
    else:
        output.line(
            f"asked for (request {wanted.id}); `snapkeep points list --tenant {tenant}` shows what became of it"
        )


def _made_before(ports: Ports, tenant: str, key: str) -> d.Point | None:
    """The point that a request of this key has led to."""
    store = Fleet(ports.documents).tenant(tenant)
    request = store.get(d.Request, "requests", digest(key))
    point = store.get(d.Point, *request.value.subject.split("/")) if request else None
    return point.value if point else None


def _check_instance(view: views.TenantView, instance: str, zone: str | None) -> None:
    """Say at once what would only be found among the rejected messages. Ends with status 1."""
    there = [i for i in view.instances if i.lost_at is None]
    named = [i for i in there if instance in (i.name, i.id) and zone in (None, i.zone)]
    all_seen = view.health is not None and view.health.counts["instances"] <= len(there)
    if not named and all_seen:
        where = f" in {zone}" if zone else ""
        fail(
            f"{instance!r}{where} is no instance of {view.tenant.id}; `snapkeep fleet show {view.tenant.id}` names them"
        )
    if len(named) > 1:
        fail(
            f"{view.tenant.id} has {instance!r} in {' and '.join(sorted(i.zone for i in named))}: say which with --zone"
        )

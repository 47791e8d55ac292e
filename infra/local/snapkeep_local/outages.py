"""What goes wrong for customers in the course of a demo, and how people bring it back.

One instance's contents are damaged, one instance is deleted with its disks, and one tenant rehearses the loss of its
region. Whoever restores does it by the commands that the API has, and whoever approves is somebody else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from dataclasses import replace as changed
from datetime import datetime, timedelta
from typing import Final, Literal

from msgspec.structs import replace

from snapkeep import commands, fleet
from snapkeep import documents as d
from snapkeep.restore import commands as restores
from snapkeep.restore import rules
from snapkeep.restore.planning import RestoreAsk
from snapkeep.restore.words import named
from snapkeep.store import Fleet, TenantStore
from snapkeep.wording import count, moment
from snapkeep_local.sim import System

Kind = Literal["damaged", "deleted", "region"]

MODES: Final[dict[Kind, d.RestoreMode]] = {
    "damaged": "in_place",
    "deleted": "new_instance",
    "region": "new_instance",
}
WHEN: Final[dict[Kind, int]] = {"damaged": 1, "deleted": 2, "region": 3}
"""After how many fifths of the days each happens: the last two are left to recover, and to clear up."""

DAYS_MIN: Final = 3
"""In a shorter run there would be no point yet when something goes wrong, or no day left to bring it back."""

ASKS: Final = "ana@vendor.example"
APPROVES: Final = "ben@vendor.example"
LOOK: Final = timedelta(minutes=10)
NOTICED_MAX: Final = timedelta(hours=3)
"""By then `discover` has found that an instance is gone, which looks every hour."""

METADATA: Final = "#!/bin/sh\n# from the customer's own configuration management\n"
"""What is supplied for metadata that no point keeps, since it may be a secret."""


@dataclass(frozen=True, slots=True)
class Due:
    """That something of this kind is to go wrong at noon of a day, counted from 0."""

    kind: Kind
    day: int


@dataclass(frozen=True, slots=True)
class Outage:
    """What went wrong with one instance, and what brought it back."""

    kind: Kind
    tenant: str
    instance: str
    zone: str
    at: datetime
    restore: str  # its id
    mode: d.RestoreMode
    point: str
    point_at: datetime  # the moment that it brought back
    requested_by: str
    approved_by: str | None  # null: this restore needed nobody's approval
    supplied: tuple[str, ...]  # of what no point keeps
    waived: tuple[str, ...]
    state: str  # how the restore ended
    place: str | None  # the zone that it went to
    disks: int
    as_point: bool  # whether, right after it, each disk that it made was attached and held what its snapshot does
    took_s: int  # from its start to its end
    still_s: int | None  # of these, while the instance stood still; null where none was stopped
    # As it is at the end of the demo:
    is_protected: bool  # whether points are taken of what the restore went into
    former: dict[str, int]  # how many of the disks from before it are kept, and how many gone
    kept_until: datetime | None  # for how long they are kept at least


def planned(reading: fleet.Reading, days: int) -> list[Due]:
    """What goes wrong in so many days, and when."""
    if days < DAYS_MIN or not _vendors(reading):
        return []
    return [Due(kind, max(days * fifths // 5, 1)) for kind, fifths in WHEN.items()]


def candidates(reading: fleet.Reading, kind: Kind, used: Sequence[Outage], spared: str | None) -> list[str]:
    """The tenants to which something of a kind may happen: one thing to each, and who may restore elsewhere does that.

    `spared`: a tenant of which something else is shown.
    """
    met = {outage.tenant for outage in used} | {spared}
    elsewhere = [entry.id for entry in _vendors(reading) if "multi_region_dr" in entry.normal["entitlements"]][:1]
    if kind == "region":
        return [id for id in elsewhere if id not in met]
    return [entry.id for entry in _vendors(reading) if entry.id not in (*met, *elsewhere)]


def _vendors(reading: fleet.Reading) -> list[fleet.Entry]:
    return [entry for entry in reading.valid if entry.normal["deployment"] != "private_saas"]


def happen(system: System, kind: Kind, tenants: Sequence[str]) -> Outage | None:
    """Let it go wrong for one of these tenants' instances, the one with the most disks, and bring it back, to the end.

    Time passes meanwhile. None where none of them has an instance with a set to restore from.
    """
    found = [
        (len(instance.disks), -order, instance.id, tenant, newest.point, newest.at, region)
        for order, tenant in enumerate(tenants)
        for instance, newest, region in _restorable(system, tenant, kind)
    ]
    if not found:
        return None
    *_, id, tenant, point, point_at, region = max(found)
    store = Fleet(system.documents).tenant(tenant)
    instance = _instance(store, id)
    at = system.clock.now()
    _break(system, kind, instance)
    noticed = at + (NOTICED_MAX if kind == "deleted" else LOOK)
    while system.clock.now() < noticed and _instance(store, id).lost_at is None:
        system.fast_forward(LOOK)
    ask = RestoreAsk(
        point=point,
        mode=MODES[kind],
        name=None if kind == "damaged" else instance.name,
        region=region,
        reason={"damaged": "its contents are damaged", "deleted": "it was deleted", "region": "rehearsal"}[kind],
    )
    restore = _restored(system, store, ask, key=f"{at:%Y-%m-%d}|{id}")
    return _told(system, kind, tenant, instance, at, point_at, restore)


def _restorable(system: System, tenant: str, kind: Kind) -> Iterator[tuple[d.Instance, d.Newest, str | None]]:
    """Its instances with the newest set of each, and the region of a copy."""
    store = Fleet(system.documents).tenant(tenant)
    owner = store.get(d.Tenant)
    region = rules.dr_region(owner.value, system.clock.now()) if owner and kind == "region" else None
    for held in store.walk(d.Instance, "tenant_instances"):
        instance = held.value
        newest = instance.copies.newest.get(region) if region else instance.newest_verified
        if instance.lost_at is None and newest is not None and (region or kind != "region"):
            yield instance, newest, region


def _instance(store: TenantStore, id: str) -> d.Instance:
    found = store.get(d.Instance, "instances", id)
    assert found is not None
    return found.value


def _link(instance: d.Instance) -> str:
    return f"projects/{instance.project}/zones/{instance.zone}/instances/{instance.name}"


def _break(system: System, kind: Kind, instance: d.Instance) -> None:
    link = _link(instance)
    disks = _attached(system, link)
    if kind == "damaged":
        for disk in disks:
            system.cloud.write(disk, f"nothing that anybody can read, {disk}")
    elif kind == "deleted":
        system.cloud.remove_instance(link)
        for disk in disks:
            system.cloud.remove_disk(disk)


def _attached(system: System, link: str) -> list[str]:
    """Links of the persistent disks of an instance."""
    one = next((one for one in system.cloud.instances() if one.link == link), None)
    return [attached.source for attached in one.disks if attached.persistent] if one else []


def _restored(system: System, store: TenantStore, ask: RestoreAsk, *, key: str) -> d.Restore:
    """The restore that one person plans and asks for and, where it takes two, another approves, once it has ended."""
    planned = _ask(system, store, ask, dry_run=True, key="")
    metadata = [item for item in planned.plan.unhandled if item.startswith("metadata ")]
    waived = [item for item in planned.plan.unhandled if item not in metadata]
    ask = replace(ask, supply=dict.fromkeys(metadata, METADATA), waive=waived)
    asked = _ask(system, store, ask, dry_run=False, key=f"restore|{key}")
    assert asked.restore is not None
    assert asked.request_sha256 is not None
    if asked.plan.needs_approval:
        system.fast_forward(LOOK)
        approval = commands.Asked(by=APPROVES, key=f"approval|{key}", sha256="")
        this = restores.ApprovalAsk(request_sha256=asked.request_sha256)
        restores.approve(system.ports, approval, store.tenant, asked.restore, this)
    while True:  # each restore has a deadline, and ends
        restore = store.get(d.Restore, "restores", asked.restore)
        assert restore is not None
        if restore.value.state not in rules.LIVING:
            return restore.value
        system.fast_forward(LOOK)


def _ask(
    system: System, store: TenantStore, ask: RestoreAsk, *, dry_run: bool, key: str
) -> restores.RestoreAnswer:  # fmt: skip
    asked = commands.Asked(by=ASKS, key=key, sha256="")
    return restores.request(system.ports, asked, store.tenant, replace(ask, dry_run=dry_run))


def _told(
    system: System, kind: Kind, tenant: str, instance: d.Instance, at: datetime, point_at: datetime, restore: d.Restore
) -> Outage:  # fmt: skip
    target = rules.target_link(restore)
    attached = set(_attached(system, target)) if target else set()
    held = [
        system.cloud.held(rules.disk_link(disk)) == system.cloud.held(disk.snapshot) is not None
        and rules.disk_link(disk) in attached
        for disk in restore.disks
    ]
    done = {step.name: step.at for step in restore.steps if step.state == "done" and not step.undo}
    stopping, started = done.get("create_disks"), done.get("start")  # it is stopped once the disks are there
    began, ended = restore.started_at or restore.requested_at, restore.finished_at or system.clock.now()
    return Outage(
        kind=kind,
        tenant=tenant,
        instance=instance.name,
        zone=instance.zone,
        at=at,
        restore=restore.id,
        mode=restore.mode,
        point=restore.recovery_point,
        point_at=point_at,
        requested_by=restore.requested_by,
        approved_by=restore.approved_by,
        supplied=tuple(one.item for one in restore.lacking if one.handled == "supplied"),
        waived=tuple(one.item for one in restore.lacking if one.handled == "waived"),
        state=restore.state,
        place=restore.target.zone,
        disks=len(restore.disks),
        as_point=all(held),
        took_s=int((ended - began).total_seconds()),
        still_s=int((started - stopping).total_seconds()) if started and stopping else None,
        is_protected=False,
        former=_former(restore),
        kept_until=restore.keep_until,
    )


def at_the_end(system: System, outage: Outage) -> Outage:
    """The same, with what has become of it by now."""
    store = Fleet(system.documents).tenant(outage.tenant)
    restore = store.get(d.Restore, "restores", outage.restore)
    assert restore is not None
    id = restore.value.target.id
    instance = store.get(d.Instance, "instances", id) if id else None
    is_protected = instance is not None and instance.value.lost_at is None
    return changed(outage, is_protected=is_protected, former=_former(restore.value))


def _former(restore: d.Restore) -> dict[str, int]:
    statuses: list[str] = [one.status for one in restore.former]
    return dict(Counter(statuses))


# --- in words -----------------------------------------------------------------------------------------------------


def story(outage: Outage) -> list[str]:
    """What a newcomer should know of it, a line each."""
    disks = count(outage.disks, "disk")
    happened = {
        "damaged": f"what is on the {disks} of {outage.instance} was damaged",
        "deleted": f"{outage.instance} was deleted, with its {disks}",
        "region": f"the loss of its region was rehearsed, with {outage.instance}",
    }[outage.kind]
    how = "Into the same instance" if outage.mode == "in_place" else f"As a new instance in {outage.place}"
    people = f"{outage.requested_by} asked" + (f", {outage.approved_by} approved" if outage.approved_by else "")
    lines = [
        f"{moment(outage.at)}  {outage.tenant}: {happened}.",
        f"  {how}, from the point of {moment(outage.point_at)}; {people}.",
    ]
    if outage.state != "completed":
        return [*lines, f"  It ended {outage.state} after {_minutes(outage.took_s)}."]
    still = f"; it stood still for {_minutes(outage.still_s)}" if outage.still_s is not None else ""
    holds = "All disks hold what the point does." if outage.as_point else "A DISK HOLDS SOMETHING ELSE than the point."
    lines.append(f"  Restored within {_minutes(outage.took_s)}{still}. {holds}")
    if outage.waived:
        lines.append(f"  It goes without {named(outage.waived)}.")
    if outage.supplied:
        lines.append(f"  No point keeps what may be secret; it was supplied: {named(outage.supplied)}.")
    if outage.former.get("gone"):
        lines.append(f"  The disks from before were kept until {moment(outage.kept_until)}, and are gone.")
    elif outage.former:
        lines.append(f"  The disks from before are kept until {moment(outage.kept_until)}.")
    if outage.mode == "new_instance" and outage.is_protected:
        lines.append("  The fleet file selects the new instance as it did the old one: it is protected.")
    elif outage.mode == "new_instance":
        lines.append("  No fleet file names the new instance: no points are taken of it.")
    return lines


def _minutes(seconds: int) -> str:
    return count(-(-seconds // 60), "minute")

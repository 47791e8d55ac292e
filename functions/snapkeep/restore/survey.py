"""What is read before a restore changes anything: whether all that it needs is there, and nothing stands against it.
Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from msgspec.structs import replace

from snapkeep import cloud
from snapkeep.cloud import Firewall, Zone
from snapkeep.creation.rules import LOOK_MIN
from snapkeep.documents import Failure, FormerDisk, Restore
from snapkeep.restore import checks, rules
from snapkeep.restore.facts import BLOCKED_LOOK, Facts, Taken, incoming, instance_of, waits, with_step
from snapkeep.restore.planning import zonal


def candidates(restore: Restore, zones: Sequence[Zone]) -> list[str]:
    """The zones to restore into where any of the region will do, of those that are up: the point's own comes first."""
    up = (zone.name for zone in zones if zone.up and zone.region == restore.target.region)
    return sorted(up, key=lambda name: (name != restore.instance.zone, name))


def survey(restore: Restore, at: int, tenant: str, facts: Facts, now: datetime) -> Taken:
    """Whether all that it needs is there, before anything is changed."""
    if why := facts.denied or _wrong_source(restore, facts):
        return Taken(restore, dead=why)
    zone = next((one for one in facts.zones if one.name == restore.target.zone), None)
    if restore.target.zone is None or zone is None or not zone.up:
        which = restore.target.zone or f"every zone of {restore.target.region}"
        message = f"{which} is down or not there; cancel it and restore into another zone, or wait until it is back"
        return waits(restore, at, Failure(code="zone_away", message=message), now + BLOCKED_LOOK)
    restore = _without_lost_replicas(restore, at, zone.name, facts.zones)
    if restore.purpose == "test" and (why := _not_isolated(restore, facts)):
        return Taken(restore, dead=why)
    match restore.mode:
        case "disks":
            return Taken(restore, done=True)
        case "new_instance":
            link = rules.target_link(restore)
            assert link is not None
            if facts.instances.get(link) is not None:
                return Taken(restore, dead=name_taken(link))
            return Taken(restore, done=True)
        case "in_place":
            return _survey_in_place(restore, at, facts, now)


def _without_lost_replicas(restore: Restore, at: int, zone: str, zones: Sequence[Zone]) -> Restore:
    """The restore whose regional disks have both of their zones. One that has lost a zone could not be made: it becomes
    zonal, and the step says so."""
    up = {one.name for one in zones if one.up}
    lost = {name for disk in restore.disks for name in disk.replica_zones if name not in up}
    if not lost:
        return restore
    disks = [zonal(disk, zone) if lost & {*disk.replica_zones} else disk for disk in restore.disks]
    names = ", ".join(was.device_name for was, disk in zip(restore.disks, disks, strict=True) if was != disk)
    message = f"{' and '.join(sorted(lost))} is down: {names} is made in {zone} alone, and is not regional any more"
    noted = replace(restore.steps[at], failure=Failure(code="made_zonal", message=message[:500]))
    return with_step(replace(restore, disks=disks), at, noted)


def name_taken(link: str) -> Failure:
    return Failure(code="name_taken", message=f"{link} exists already: ask for it under another name")


def _wrong_source(restore: Restore, facts: Facts) -> Failure | None:
    """Why the snapshots, or the former disks, cannot be restored from; None if they can."""
    if restore.source.undoes is not None:
        return _wrong_former(restore, facts)
    for disk in restore.disks:
        found = facts.snapshots.get(disk.snapshot)
        if found is None or found.status != "READY":
            message = f"{disk.snapshot} is {found.status if found else 'not there'}"
            return Failure(code="point_gone", message=message)
        if found.id != disk.snapshot_id:
            message = f"{disk.snapshot} is another snapshot now: {found.id}, not {disk.snapshot_id}"
            return Failure(code="snapshot_changed", message=message)
        if found.locations != (restore.source.region,):
            message = f"{disk.snapshot} lies in {', '.join(found.locations)}, not in {restore.source.region}"
            return Failure(code="snapshot_changed", message=message)
    return None


def _wrong_former(restore: Restore, facts: Facts) -> Failure | None:
    put_back = incoming(restore, facts)
    if facts.undone is None or not put_back:
        return Failure(code="former_gone", message=f"{restore.source.undoes} has kept no disks")
    for one in put_back:
        found = facts.disks.get(one.link)
        if found is None or found.id != one.id:
            message = f"{one.link} ({one.id}), which {restore.source.undoes} had kept, is not there any more"
            return Failure(code="former_gone", message=message)
        if found.users:
            return Failure(code="former_in_use", message=f"{one.link} is attached to {', '.join(found.users)}")
    return None


def _not_isolated(restore: Restore, facts: Facts) -> Failure | None:
    """Why what is restored as a test might be reached, or reach anything; None if nothing gets in or out."""
    network = restore.target.network or ""
    mine = [rule for rule in facts.firewalls if cloud.partial_link(rule.network) == cloud.partial_link(network)]
    enabled = [rule for rule in mine if not rule.disabled]
    if allowing := next((rule for rule in enabled if rule.allows), None):
        why = f"its firewall rule {allowing.name} allows traffic"
    elif not any(_denies_all_out(rule) for rule in enabled):
        why = "no firewall rule of it denies all traffic out to 0.0.0.0/0 for every instance"
    else:
        return None
    return Failure(code="network_not_isolated", message=f"{network}: {why}; nothing may get in or out in a test")


def _denies_all_out(rule: Firewall) -> bool:
    everywhere = "0.0.0.0/0" in rule.ranges
    return not rule.allows and rule.direction == "EGRESS" and rule.everything and everywhere and not rule.targeted


def _group_of(found: cloud.Instance) -> str | None:
    """The managed instance group that has made an instance and keeps it as its template says; None: there is none."""
    items = found.definition.get("metadata", {}).get("items", [])
    by = next((str(one.get("value", "")) for one in items if one.get("key") == "created-by"), "")
    return by if "/instanceGroupManagers/" in by else None


def _survey_in_place(restore: Restore, at: int, facts: Facts, now: datetime) -> Taken:
    found = instance_of(restore, facts)
    if found is None:
        ref = restore.instance
        message = f"{ref.name} ({ref.id}) is not in {ref.zone} any more: restore it as a new instance"
        return Taken(restore, dead=Failure(code="instance_gone", message=message))
    if group := _group_of(found):
        message = f"{group} would replace {found.name} as soon as it stops: take it out of the group, or new_instance"
        return Taken(restore, dead=Failure(code="managed_group", message=message[:500]))
    if found.status not in ("RUNNING", "TERMINATED"):
        message = f"{found.name} is {found.status}; it goes on when it is RUNNING or TERMINATED"
        return waits(restore, at, Failure(code="instance_not_steady", message=message), now + LOOK_MIN)
    former = []
    for attached in found.disks:
        if not attached.persistent:
            continue
        disk = facts.disks.get(attached.source)
        if disk is None:
            message = f"{attached.source} is attached to {found.name} and was not found"
            return waits(restore, at, Failure(code="disk_gone", message=message), now + LOOK_MIN)
        former.append(
            FormerDisk(
                project=disk.project,
                scope=disk.scope,
                name=disk.name,
                id=disk.id,
                device_name=attached.device_name,
                boot=attached.boot,
                mode=attached.mode,
                interface=attached.interface,
                auto_delete=attached.auto_delete,
                labels={key: value for key, value in disk.labels.items() if key.startswith("snapkeep-")},
            )
        )
    surveyed = replace(
        restore,
        target=replace(restore.target, id=found.id),
        former=former,
        was_running=found.status == "RUNNING",
        found=checks.comparable(found),
    )
    return Taken(surveyed, done=True)

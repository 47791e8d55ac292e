"""Which instances a tenant has, and what changed since they were last looked at. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from msgspec.structs import replace

from snapkeep import cloud
from snapkeep.creation.rules import breach_due, disk_refs, to_be_weighed
from snapkeep.creation.slots import plan_slots
from snapkeep.documents import DiskRef, Instance, Tenant

What = Literal["seen", "changed", "returned", "lost", "deselected", "offboarded", "bookkeeping"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One instance document to write. `before` is None for an instance seen for the first time."""

    what: What
    before: Instance | None
    after: Instance
    detail: Mapping[str, object]


def selects(tenant: Tenant, instance: cloud.Instance) -> bool:
    """Whether the fleet file's entry names this instance, or a label that it carries; what a restore test has made is
    nobody's."""
    if instance.project != tenant.project or instance.labels.get("snapkeep-role") == "test":
        return False
    by_label = tenant.instances.by_label
    if by_label is not None:
        key, _, value = by_label.label.partition("=")
        return instance.labels.get(key) == value
    return any(s.name == instance.name and s.zone == instance.zone for s in tenant.instances.by_name)


def unmatched(tenant: Tenant, found: Iterable[cloud.Instance]) -> list[str]:
    """What the fleet file selects and the project does not hold, as it reads in the file."""
    found = list(found)
    if tenant.instances.by_label is not None:
        return [] if found else [f"label {tenant.instances.by_label.label}"]
    there = {(instance.name, instance.zone) for instance in found}
    return [f"{s.name} in {s.zone}" for s in tenant.instances.by_name if (s.name, s.zone) not in there]


def findings(
    tenant: Tenant,
    known: Iterable[Instance],
    found: Iterable[cloud.Instance],
    disks: Mapping[str, cloud.Disk],
    now: datetime,
) -> list[Finding]:
    """What to write, comparing the tenant's documents with what its project holds now.

    `found` are the instances that the tenant selects; `disks` theirs, by link. Nothing is returned for an instance
    that is as it was.
    """
    by_id = {instance.id: instance for instance in found}
    result = []
    for before in known:
        present = by_id.pop(before.id, None)
        if before.seen_at > now or (before.lost_at is not None and before.lost_at > now):
            finding = None  # another run has read the project since; what it found is newer than `found`
        elif present is not None:
            finding = _still_there(tenant, before, present, disks, now)
        elif before.lost_at is None:
            finding = _no_longer(tenant, before, now)
        else:
            finding = None
        if finding:
            result.append(finding)
    result += [_first_seen(tenant, present, disks, now) for present in by_id.values()]
    return result


def _first_seen(tenant: Tenant, found: cloud.Instance, disks: Mapping[str, cloud.Disk], now: datetime) -> Finding:
    instance = Instance(
        updated_at=now,
        id=found.id,
        name=found.name,
        project=found.project,
        zone=found.zone,
        region=found.region,
        disks=disk_refs(found, disks),
        seen_at=now,
    )
    after = _with_dates(tenant, instance, now)
    detail = {"name": found.name, "zone": found.zone, "disks": [_disk(d) for d in after.disks]}
    return Finding("seen", None, after, detail)


def _still_there(
    tenant: Tenant, before: Instance, found: cloud.Instance, disks: Mapping[str, cloud.Disk], now: datetime
) -> Finding | None:
    # While a restore has its disks in hand, what is attached is neither what it had nor what it will have.
    attached = before.disks if before.restoring else disk_refs(found, disks)
    refs = sorted(attached, key=lambda ref: ref.id)
    known = sorted(before.disks, key=lambda ref: ref.id)
    after = replace(before, name=found.name, disks=before.disks if refs == known else attached)
    what: What = "bookkeeping"
    detail: dict[str, object] = {}
    if before.lost_at is not None:
        after = to_be_weighed(replace(after, lost_at=None, lost_reason=None, seen_at=now), now)
        what, detail = "returned", {"lost_at": before.lost_at}
    elif refs != known or found.name != before.name:
        what = "changed"
        detail = {
            "name": found.name,
            "disks_added": [_disk(ref) for ref in refs if ref not in known],
            "disks_removed": [_disk(ref) for ref in known if ref not in refs],
        }
    if before.next_slot_at is None and tenant.vendor_managed:
        # Its slots begin anew: what was due while it was away, or its client's to take, was never due.
        after = replace(after, seen_at=now)
    after = _with_dates(tenant, after, now)
    if after.retention_at is None and after.tally.bytes:
        # Points of it are stored, and nobody has been asked to weigh them.
        after = to_be_weighed(after, now)
    return None if after == before else Finding(what, before, replace(after, updated_at=now), detail)


def _no_longer(tenant: Tenant, before: Instance, now: datetime) -> Finding:
    deselected = tenant.instances.by_label is None and not any(
        s.name == before.name and s.zone == before.zone for s in tenant.instances.by_name
    )
    if deselected or before.project != tenant.project:
        return _lost("deselected", "deselected", before, now)
    return _lost("lost", "gone", before, now)


def let_go(before: Instance, now: datetime) -> Finding | None:
    """What to write of an instance of a tenant that has left; None where that is written already."""
    if before.lost_at is not None and before.lost_at <= now:
        return None
    return _lost("offboarded", "offboarded", before, now)


def _lost(what: What, reason: Literal["gone", "deselected", "offboarded"], before: Instance, now: datetime) -> Finding:
    """The instance is not protected any more; its points are weighed as those of a lost one from now on."""
    after = replace(
        before, lost_at=now, lost_reason=reason, next_slot_at=None, breach_at=None, breach_due_at=None, updated_at=now
    )
    if after.retention_at is not None:
        after = to_be_weighed(after, now)
    return Finding(what, before, after, {"name": before.name, "zone": before.zone, "reason": reason})


def _with_dates(tenant: Tenant, instance: Instance, now: datetime) -> Instance:
    """The instance with the instants that queries find it by, after the fleet file or the instance has changed."""
    decided = plan_slots(instance, tenant, now)
    undecided = decided.take or decided.missed
    # A slot that has come already stays due: deciding it is the planner's.
    earliest = min(instance.next_slot_at or now, now)
    next_slot_at = earliest if undecided else decided.next_slot_at
    due = None if instance.breach_at is not None else breach_due(instance, tenant)
    return replace(instance, next_slot_at=next_slot_at, breach_due_at=due)


def _disk(ref: DiskRef) -> dict[str, str]:
    return {"name": ref.name, "id": ref.id}

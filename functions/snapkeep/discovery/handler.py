"""Function `discover`: keeps `tenants/{t}/instances` true to what the tenants' projects hold."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from msgspec.structs import replace

from snapkeep import cloud, hints
from snapkeep import documents as d
from snapkeep.breaker import Breaker
from snapkeep.discovery import rules
from snapkeep.messages import DiscoverBatch, Message, Tick, not_for
from snapkeep.ports import Compute, Conflict, Documents, Ports, Refused, Transient
from snapkeep.store import Event, Fleet, Held, Record, TenantStore, created, put, readable

log: Final = logging.getLogger(__name__)

ACTOR: Final = "snapkeep"

EVERY: Final = timedelta(hours=1)
"""How often a tenant's project is read; sooner after `fleet apply`."""

POSTPONED: Final = timedelta(minutes=20)
"""When a tenant is read again whose project gave no answer: at the next tick but one. So the next is for those that an
ill project kept from being asked, however long it stays ill."""

LEFT_EVERY: Final = timedelta(hours=24)
"""How often a tenant that has left is looked at."""

TENANTS_PER_BATCH: Final = 20
"""Tenants that one run reads: with a project each, some 40 list calls."""


def discover(message: Message, ports: Ports) -> None:
    """A tick asks for the tenants that are due, in batches by project; a batch reads them."""
    match message:
        case Tick():
            _ask_for_due(ports)
        case DiscoverBatch():
            _read_tenants(message.tenants, ports)
        case _:
            raise not_for("discover", message)


def _ask_for_due(ports: Ports) -> None:
    by_project: dict[str, list[str]] = defaultdict(list)  # longest due first, as they are found
    for tenant in readable(d.Tenant, Fleet(ports.documents).due("discovery", ports.clock.now())):
        by_project[tenant.value.project].append(tenant.value.id)
    ids = [id for tenants in by_project.values() for id in tenants]
    for start in range(0, len(ids), TENANTS_PER_BATCH):
        hints.send(ports.bus, "discover", DiscoverBatch(tenants=ids[start : start + TENANTS_PER_BATCH]))


def _read_tenants(ids: Sequence[str], ports: Ports) -> None:
    now = ports.clock.now()
    fleet = Fleet(ports.documents)
    found_by_id = fleet.tenants_by_id(ids)
    by_project: dict[str, list[Held[d.Tenant]]] = defaultdict(list)
    changed: set[str] = set()
    for id in dict.fromkeys(ids):  # in the order of the batch
        if id not in found_by_id:
            continue
        if found_by_id[id].value.has_left(now):
            changed |= _let_go(fleet.tenant(id), found_by_id[id], now)
        else:
            by_project[found_by_id[id].value.project].append(found_by_id[id])
    _note_vaults(ports.documents, [found_by_id[id].value for id in found_by_id], now)
    compute = Breaker(ports.compute)
    for project, tenants in by_project.items():
        if compute.nobody_answers:
            log.warning("Compute Engine does not answer: the other projects are due still, and first in the next run")
            break
        try:
            selected, disks = _read_project(compute, project, tenants)
        except Transient as fault:
            log.warning("%s cannot be read now: %r", project, fault)
            for tenant in tenants:
                _postpone(fleet.tenant(tenant.value.id), tenant, now)
            continue
        except Refused as refusal:
            failure = d.Failure(code=refusal.reason or str(refusal.code), message=refusal.message[:500])
            for tenant in tenants:
                changed |= _note_tenant(fleet.tenant(tenant.value.id), tenant, tenant.value.unmatched, failure, now)
            continue
        for tenant in tenants:
            store = fleet.tenant(tenant.value.id)
            found = selected[tenant.value.id]
            changed |= _write_findings(store, tenant.value, found, disks, now)
            changed |= _note_tenant(store, tenant, rules.unmatched(tenant.value, found), None, now)
    hints.nudge(ports.bus, changed, "audit", "health")


def _let_go(store: TenantStore, tenant: Held[d.Tenant], now: datetime) -> set[str]:
    """A tenant that has left: what was known of it is lost from that day on, and its project is nobody's business."""
    changed: set[str] = set()
    for instance in store.walk(d.Instance, "tenant_instances"):
        finding = rules.let_go(instance.value, now)
        if finding is None:
            continue
        try:
            store.commit(_record(finding, now), instance.replaced(finding.after))
        except Conflict:
            log.info("%s: someone else changed it", instance.path)
            continue
        changed.add(tenant.value.id)
    return changed | _note_tenant(store, tenant, [], None, now)


def _note_vaults(documents: Documents, tenants: Sequence[d.Tenant], now: datetime) -> None:
    """Keep the list of projects that hold snapshots, and of the tenants that have ever had any there."""
    projects = sorted({tenant.vault_project for tenant in tenants})
    for project, seen in zip(projects, documents.get(*(f"vaults/{project}" for project in projects)), strict=True):
        mine = {tenant.id for tenant in tenants if tenant.vault_project == project}
        vaults = list(readable(d.Vault, [seen] if seen else []))
        if seen and (not vaults or mine <= set(vaults[0].value.tenants)):
            continue
        before = vaults[0].value if vaults else d.Vault(updated_at=now, project=project, tenants=[], next_at=now)
        # Where another run was faster, the next reading adds what is still missing.
        put(
            documents,
            f"vaults/{project}",
            seen,
            replace(before, tenants=sorted({*before.tenants, *mine}), updated_at=now),
        )


def _read_project(
    compute: Compute, project: str, tenants: Sequence[Held[d.Tenant]]
) -> tuple[dict[str, list[cloud.Instance]], dict[str, cloud.Disk]]:
    """The instances that each tenant selects and all their disks; what nobody selects is not kept in memory."""
    selected: dict[str, list[cloud.Instance]] = {tenant.value.id: [] for tenant in tenants}
    sources: set[str] = set()
    for instance in compute.find(cloud.Instance, project):
        for tenant in tenants:
            if rules.selects(tenant.value, instance):
                selected[tenant.value.id].append(instance)
                sources |= {disk.source for disk in instance.disks if disk.persistent}
    disks = {disk.link: disk for disk in compute.find(cloud.Disk, project) if disk.link in sources}
    return selected, disks


def _write_findings(
    store: TenantStore, tenant: d.Tenant, found: Sequence[cloud.Instance], disks: dict[str, cloud.Disk], now: datetime
) -> set[str]:
    known = {instance.value.id: instance for instance in store.walk(d.Instance, "tenant_instances")}
    changed: set[str] = set()
    for finding in rules.findings(tenant, [k.value for k in known.values()], found, disks, now):
        after = finding.after
        write = (
            known[after.id].replaced(after)
            if finding.before is not None
            else created(store.path("instances", after.id), after)
        )
        try:
            store.commit(_record(finding, now), write)
        except Conflict:
            # Another run, or a point of the instance, was faster. The next reading compares anew.
            log.info("%s: someone else changed it", write.path)
            continue
        changed.add(tenant.id)
    return changed


def _record(finding: rules.Finding, now: datetime) -> Record | None:
    """The audit record of a finding; None where only the dates changed that queries find the instance by."""
    if finding.what == "bookkeeping":
        return None
    instance = finding.after
    data = {"instance": instance.name, "zone": instance.zone, "id": instance.id}
    lost = Event("instance.lost", f"{instance.id}|{now.isoformat()}", data) if finding.what == "lost" else None
    return Record(
        at=now,
        actor=ACTOR,
        action=f"instance.{finding.what}",
        subject=f"instances/{instance.id}",
        outcome="observed",
        detail=finding.detail,
        event=lost,
    )


def _postpone(store: TenantStore, tenant: Held[d.Tenant], now: datetime) -> None:
    """Let the tenant wait behind those that were not asked. All that is known of it stays as it was."""
    try:
        store.commit(None, tenant.replaced(replace(tenant.value, discover_at=now + POSTPONED)))
    except Conflict:
        log.info("%s: another run or the fleet file was faster, and says when it is read next", tenant.value.id)


def _next_reading(tenant: d.Tenant, now: datetime) -> datetime:
    """In an hour, or when the tenant leaves. Once it has left, the command that calls it back asks for it at once."""
    if tenant.has_left(now):
        return now + LEFT_EVERY
    leaves_at = tenant.offboarding.at if tenant.offboarding else now + EVERY
    return min(now + EVERY, leaves_at)


def _note_tenant(
    store: TenantStore, tenant: Held[d.Tenant], unmatched: list[str], failure: d.Failure | None, now: datetime
) -> set[str]:
    """Write when the tenant is to be read next and what could not be found or read of it."""
    before = tenant.value
    after = replace(before, unmatched=unmatched, discovery_failure=failure, discover_at=_next_reading(before, now))
    news = (after.unmatched, after.discovery_failure) != (before.unmatched, before.discovery_failure)
    record = None
    if news:
        after = replace(after, updated_at=now)
        fresh = [name for name in unmatched if name not in before.unmatched]
        record = Record(
            at=now,
            actor=ACTOR,
            action="tenant.discovered",
            subject=".",
            outcome="failed" if failure else "observed",
            detail={"not_found": unmatched, "failure": failure and f"{failure.code}: {failure.message}"},
            event=Event("instance.lost", f"{','.join(fresh)}|{now.isoformat()}", {"not_found": fresh})
            if fresh
            else None,
        )
    try:
        store.commit(record, tenant.replaced(after))
    except Conflict:
        log.info("%s: the fleet file was applied meanwhile; the next tick reads it again", before.id)
        return set()
    return {before.id} if news else set()

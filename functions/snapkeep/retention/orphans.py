"""Orphans: snapshots that claim to be ours and that no document knows, and points whose snapshots are gone.

Each vault project is listed once a day and compared with the points that may have snapshots there. What is found is
written down, told once, and left alone: a label is only a claim, and what is missing is for a person to explain.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from msgspec.structs import replace

from snapkeep import documents as d
from snapkeep import hints
from snapkeep.breaker import Breaker
from snapkeep.cloud import Snapshot
from snapkeep.creation.rules import to_be_weighed
from snapkeep.ports import Conflict, Ports, Refused, Transient, Write
from snapkeep.retention import deletion
from snapkeep.store import SYSTEM, Event, Fleet, Held, Record, TenantStore, readable

log: Final = logging.getLogger(__name__)

ACTOR: Final = "snapkeep"

EVERY: Final = timedelta(hours=24)
"""How often a vault is listed."""

AGAIN: Final = timedelta(hours=1)
"""When a vault is listed again that gave no answer."""

VAULTS_PER_RUN: Final = 100
"""Vaults that one run lists: a call for each 500 snapshots, and a read for each point. The others are due still."""

ORPHANS_MAX: Final = 500
"""Orphans that a vault's document holds. Further ones are counted, and told only when their number has grown."""

NAMED_MAX: Final = 50
"""Snapshots that one record, or one event, names."""

TENANT_LABEL: Final = "snapkeep-tenant"
POINT_LABEL: Final = "snapkeep-point"

_ID: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
"""What of a label may stand in a document's path."""


def look(ports: Ports) -> None:
    """List the vaults whose time has come, and write down what is found. One that gives no answer is tried later."""
    compute = Breaker(ports.compute)
    fleet = Fleet(ports.documents)
    changed: set[str] = set()
    for count, vault in enumerate(readable(d.Vault, fleet.due("vaults_due", ports.clock.now(), pages=1))):
        if count == VAULTS_PER_RUN or compute.nobody_answers:
            break
        now = ports.clock.now()
        try:
            listed = {s.name: s for s in compute.find(Snapshot, vault.value.project)}
        except (Transient, Refused) as fault:
            log.warning("%s cannot be listed now: %r", vault.value.project, fault)
            failure = d.Failure(code=fault.reason or str(fault.code), message=str(fault)[:500])
            _write(fleet, vault, replace(vault.value, failure=failure, next_at=now + AGAIN), [], now)
            continue
        changed |= _compare(ports, fleet, vault, listed, now)
    hints.nudge(ports.bus, changed, "audit")


def _compare(
    ports: Ports, fleet: Fleet, vault: Held[d.Vault], listed: Mapping[str, Snapshot], now: datetime
) -> set[str]:
    """Compare one listing with the documents. Returns the chains that have something new."""
    changed: set[str] = set()
    orphans: list[d.Orphan] = []
    known: set[str] = set()  # numeric ids, of snapshots that a point is made of
    for tenant in vault.value.tenants:
        store = fleet.tenant(tenant)
        for point in store.walk(d.Point, "stored_points", ""):
            if point.value.vault_project != vault.value.project:
                continue
            known.update(_known(point.value, listed))
            gone = _gone(point.value, listed, now)
            if gone is None:
                continue
            orphans += [_missing(tenant, point.value, ref, now) for ref in gone]
            if _note(store, point, [ref.name for ref in gone], now):
                changed.add(tenant)
    claims = [s for s in listed.values() if TENANT_LABEL in s.labels or POINT_LABEL in s.labels]
    strangers = [s for s in claims if s.id not in known and s.status != "DELETING"]
    orphans += [_stranger(s, now) for s in _unknown(fleet, strangers, now)]
    before = {(one.kind, one.snapshot, one.id): one for one in vault.value.orphans}
    orphans = [before.get((one.kind, one.snapshot, one.id), one) for one in orphans]
    orphans.sort(key=lambda one: (one.found_at, one.snapshot))
    fresh = [one for one in orphans if one.kind == "unknown_snapshot" and one.found_at == now]
    if ORPHANS_MAX < len(orphans) <= vault.value.orphans_total:
        fresh = []
    after = replace(
        vault.value,
        listed_at=now,
        next_at=now + EVERY,
        orphans=orphans[:ORPHANS_MAX],
        orphans_total=len(orphans),
        failure=None,
    )
    if _write(fleet, vault, after, fresh, now) and fresh:
        changed.add(SYSTEM)
    return changed


def _known(point: d.Point, listed: Mapping[str, Snapshot]) -> Iterator[str]:
    """Ids of the listed snapshots that the point knows: by the id that it noted, or, where it noted none, by name."""
    for ref in deletion.left(point):
        found = listed.get(ref.name)
        if found is not None and ref.id in (None, found.id):
            yield found.id


def _gone(point: d.Point, listed: Mapping[str, Snapshot], now: datetime) -> list[d.SnapshotRef] | None:
    """What a verified point is made of and was not there; None for a point of which the listing can say nothing.

    That is one which was not verified yet when the listing began, or whose deletion has begun.
    """
    was = point.expiry.was if point.state == "expiring" and point.expiry else point.state
    if was != "verified" or deletion.has_begun(point) or point.verified_at is None or point.verified_at >= now:
        return None
    refs = [disk.snapshot for disk in point.disks]
    return [ref for ref in refs if ref.name not in listed or listed[ref.name].id != ref.id]


def _note(store: TenantStore, point: Held[d.Point], gone: list[str], now: datetime) -> bool:
    """Commit what of a point is gone, or there again, and have its instance weighed. True if that was news."""
    if gone == point.value.gone:
        return False
    instance = store.get(d.Instance, "instances", point.value.instance.id)
    fresh = [name for name in gone if name not in point.value.gone]
    data: dict[str, Any] = {
        "kind": "snapshot_gone",
        "point": point.value.id,
        "instance": point.value.instance.name,
        "zone": point.value.instance.zone,
        "project": point.value.vault_project,
        "snapshots": fresh[:NAMED_MAX],
    }
    record = Record(
        at=now,
        actor=ACTOR,
        action="point.incomplete" if gone else "point.complete",
        subject=f"points/{point.value.id}",
        outcome="observed",
        detail={"instance": point.value.instance.name, "gone": gone},
        event=Event("orphan.found", f"{point.value.id}|{','.join(gone)}|{now.isoformat()}", data) if fresh else None,
    )
    writes: list[Write] = [point.replaced(replace(point.value, gone=gone, updated_at=now))]
    if instance is not None:
        # Its points are to be weighed without this one.
        writes.append(instance.replaced(to_be_weighed(instance.value, now)))
    try:
        store.commit(record, *writes)
    except Conflict:
        log.info("%s: someone else changed it; the next listing says again what is gone", point.path)
        return False
    return True


def _unknown(fleet: Fleet, strangers: Iterable[Snapshot], now: datetime) -> Iterator[Snapshot]:
    """Those that no point knows, not even one that was deleted, or that moved to another vault, since the listing."""
    for snapshot in strangers:
        tenant, point = snapshot.labels.get(TENANT_LABEL, ""), snapshot.labels.get(POINT_LABEL, "")
        if _ID.fullmatch(tenant) and _ID.fullmatch(point):
            claimed = next(iter(fleet.tenant(tenant).get_all(d.Point, "points", [point])), None)
            if claimed is not None and _accounts_for(claimed.value, snapshot, now):
                continue
        yield snapshot


def _accounts_for(point: d.Point, snapshot: Snapshot, now: datetime) -> bool:
    if point.state == "deleted" and point.updated_at < now:
        return False  # it was read to be gone before the listing began
    return any(ref.name == snapshot.name and ref.id in (None, snapshot.id) for _, ref in deletion.snapshots_of(point))


def _stranger(snapshot: Snapshot, now: datetime) -> d.Orphan:
    return d.Orphan(
        kind="unknown_snapshot",
        snapshot=snapshot.name,
        id=snapshot.id,
        tenant=snapshot.labels.get(TENANT_LABEL),
        point=snapshot.labels.get(POINT_LABEL),
        bytes=snapshot.bytes,
        created_at=snapshot.created_at,
        found_at=now,
    )


def _missing(tenant: str, point: d.Point, ref: d.SnapshotRef, now: datetime) -> d.Orphan:
    return d.Orphan(
        kind="snapshot_gone",
        snapshot=ref.name,
        id=ref.id,
        tenant=tenant,
        point=point.id,
        bytes=ref.bytes,
        created_at=ref.created_at,
        found_at=now,
    )


def _write(fleet: Fleet, vault: Held[d.Vault], after: d.Vault, fresh: list[d.Orphan], now: datetime) -> bool:
    """Store what a listing found; with a record and an event of the unknown snapshots that are new."""
    after = replace(after, updated_at=now)
    records = []
    if fresh:
        names = [{"name": one.snapshot, "id": one.id, "tenant": one.tenant, "point": one.point} for one in fresh]
        said = {"kind": "unknown_snapshot", "project": after.project, "snapshots": names[:NAMED_MAX]}
        data = said | {"count": len(fresh)}
        event = Event("orphan.found", f"{after.project}|{now.isoformat()}", data)
        subject = f"vaults/{after.project}"
        records.append(Record(now, ACTOR, "orphan.found", subject, "observed", data, event))
    try:
        fleet.commit_all(records, vault.replaced(after))
    except Conflict:
        log.info("%s: another run or discovery was faster", vault.path)
        return False
    return True

"""Orphans: snapshots that claim to be ours and that no document knows, and points whose snapshots are gone.

Each vault project is listed once a day and compared with the points that may have snapshots there. What is found is
written down, told once, and left alone: a label is only a claim, and what is missing is for a person to explain.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, Final

from msgspec.structs import replace

from snapkeep import documents as d
from snapkeep import hints
from snapkeep.breaker import Breaker
from snapkeep.cloud import Snapshot
from snapkeep.copies import rules as copies
from snapkeep.copies import sets
from snapkeep.creation.rules import to_be_weighed
from snapkeep.ports import Conflict, Ports, Refused, Transient, Write
from snapkeep.retention import deletion
from snapkeep.store import QUERIES, SYSTEM, Event, Fleet, Held, Record, TenantStore, readable

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

STRANGERS_MAX: Final = 1_000
"""Unknown snapshots that one listing looks up, besides those that its vault's document holds. Anybody may give labels:
the others are counted as they are."""

LOOKED_UP_AT_ONCE: Final = 100
"""Points that one round trip reads for them."""

STORED_PAGES_MAX: Final = 500
"""Pages of 100 stored points that are compared with a listing, for one tenant. With more, the vault says so."""

NOTED_AT_ONCE: Final = 20
"""Points of one instance that one commit changes: below its 10 MiB."""

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
    for count, due in enumerate(readable(d.Vault, fleet.due("vaults_due", ports.clock.now(), pages=1))):
        if count == VAULTS_PER_RUN or compute.nobody_answers:
            break
        now = ports.clock.now()
        vault = _taken_on(ports, fleet, due, now)
        if vault is None:
            continue
        try:
            listed = {s.name: s for s in compute.find(Snapshot, vault.value.project)}
        except (Transient, Refused) as fault:
            log.warning("%s cannot be listed now: %r", vault.value.project, fault)
            failure = d.Failure(code=fault.reason or str(fault.code), message=str(fault)[:500])
            _write(fleet, vault, replace(vault.value, failure=failure), [], now)
            continue
        changed |= _compare(ports, fleet, vault, listed, now)
    # Which copy is the newest then, only `entitlements` counts.
    hints.nudge(ports.bus, changed, "audit", "entitlements", "health")


def _taken_on(ports: Ports, fleet: Fleet, due: Held[d.Vault], now: datetime) -> Held[d.Vault] | None:
    """The vault, put off before it is listed, so that one that no run ever finishes keeps none of the others waiting.

    None where another run has taken it on.
    """
    if not _write(fleet, due, replace(due.value, next_at=now + AGAIN), [], now):
        return None
    return next(readable(d.Vault, filter(None, ports.documents.get(due.path))), None)


def _compare(
    ports: Ports, fleet: Fleet, vault: Held[d.Vault], listed: Mapping[str, Snapshot], now: datetime
) -> set[str]:
    """Compare one listing with the documents. Returns the chains that have something new."""
    changed: set[str] = set()
    orphans: list[d.Orphan] = []
    known: set[str] = set()  # numeric ids, of snapshots that a point is made of
    cut_off: list[str] = []  # tenants with more points than are compared
    for tenant in vault.value.tenants:
        store = fleet.tenant(tenant)
        count = 0
        stored = store.walk(d.Point, "stored_points", "", pages=STORED_PAGES_MAX)
        for instance, points in groupby(stored, key=lambda point: point.value.instance.id):
            news: list[tuple[Held[d.Point], d.Point]] = []
            for point in points:
                count += 1
                if point.value.vault_project != vault.value.project:
                    continue
                compared = point.value
                for region in sets.stored(point.value):
                    one = sets.as_point(point.value, region)
                    known.update(_known(one, listed))
                    gone = _gone(one, listed, now)
                    if gone is None:
                        continue
                    orphans += [_missing(tenant, one, region, ref, now) for ref in gone]
                    names = [ref.name for ref in gone]
                    if names != one.gone:
                        compared = sets.with_set(compared, region, replace(one, gone=names, updated_at=now))
                if compared != point.value:
                    news.append((point, compared))
            for start in range(0, len(news), NOTED_AT_ONCE):
                if _note(store, instance, news[start : start + NOTED_AT_ONCE], now):
                    changed.add(tenant)
        if count >= STORED_PAGES_MAX * QUERIES["stored_points"].limit:
            cut_off.append(tenant)
    before = {(one.kind, one.snapshot, one.id): one for one in vault.value.orphans}
    claims = [s for s in listed.values() if TENANT_LABEL in s.labels or POINT_LABEL in s.labels]
    strangers = [s for s in claims if s.id not in known and s.status != "DELETING"]
    told = [s for s in strangers if ("unknown_snapshot", s.name, s.id) in before]
    others = sorted((s for s in strangers if ("unknown_snapshot", s.name, s.id) not in before), key=lambda s: s.name)
    unknown = [*told, *_unknown(fleet, others[:STRANGERS_MAX], now)]
    orphans += [_stranger(s, now) for s in unknown]
    orphans = [before.get((one.kind, one.snapshot, one.id), one) for one in orphans]
    orphans.sort(key=lambda one: (one.found_at, one.snapshot))
    total = len(orphans) + len(others[STRANGERS_MAX:])
    fresh = [one for one in orphans if one.kind == "unknown_snapshot" and one.found_at == now]
    if ORPHANS_MAX < total <= vault.value.orphans_total:
        fresh = []
    after = replace(
        vault.value,
        listed_at=now,
        next_at=now + EVERY,
        orphans=orphans[:ORPHANS_MAX],
        orphans_total=total,
        failure=_cut_off(cut_off) if cut_off else None,
    )
    if _write(fleet, vault, after, fresh, now) and fresh:
        changed.add(SYSTEM)
    return changed


def _cut_off(tenants: list[str]) -> d.Failure:
    """What is not known where a tenant has more points than are compared; whose snapshots are still no strangers."""
    most = STORED_PAGES_MAX * QUERIES["stored_points"].limit
    message = (
        f"{', '.join(tenants)}: more than {most} stored points; whether snapshots of the others are gone is not known"
    )
    log.error("%s", message)
    return d.Failure(code="too_many_points", message=message[:500])


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


def _note(store: TenantStore, id: str, noted: Sequence[tuple[Held[d.Point], d.Point]], now: datetime) -> bool:
    """Commit what of an instance's points is gone, or there again, and what follows for it. False on a Conflict."""
    # Before its points: what becomes of one of them meanwhile changes the instance too.
    instance = store.get(d.Instance, "instances", id)
    tenant = store.get(d.Tenant)
    writes: list[Write] = [point.replaced(after) for point, after in noted]
    if instance is not None and tenant is not None:
        stored = {point.value.id: point.value for point in store.walk(d.Point, "instance_points", id)}
        stored |= {after.id: after for _, after in noted}
        bought = copies.entitled(tenant.value, now)
        work = instance.value.copies
        for point, after in noted:
            work = copies.counted(work, point.value, after, bought.region if bought else None)
        instance_after = deletion.with_newest(instance.value, tenant.value, list(stored.values()))
        # Its points are to be weighed anew, without those that are incomplete.
        instance_after = replace(to_be_weighed(instance_after, now), copies=work, updated_at=now)
        writes.append(instance.replaced(instance_after))
    try:
        store.commit_all([record for point, after in noted for record in _changes(point.value, after, now)], *writes)
    except Conflict:
        log.info("instances/%s: someone else changed it; the next listing says again what is gone", id)
        return False
    return True


def _changes(before: d.Point, after: d.Point, now: datetime) -> Iterator[Record]:
    """A record for each set of a point of which something is gone, or there again."""
    for region in sets.stored(after):
        one, was = sets.as_point(after, region), sets.as_point(before, region)
        if one.gone != was.gone:
            yield _incomplete(was, one, region, now)


def _incomplete(before: d.Point, after: d.Point, region: str | None, now: datetime) -> Record:
    """The record of what is gone of a set, or there again; with an event of what was not told before."""
    what, name = ("copy" if region else "point"), sets.name_of(after.id, region)
    where = {"region": region} if region else {}
    fresh = [name for name in after.gone if name not in before.gone]
    data: dict[str, Any] = {
        "kind": "snapshot_gone",
        "point": after.id,
        **where,
        "instance": after.instance.name,
        "zone": after.instance.zone,
        "project": after.vault_project,
        "snapshots": fresh[:NAMED_MAX],
    }
    return Record(
        at=now,
        actor=ACTOR,
        action=f"{what}.incomplete" if after.gone else f"{what}.complete",
        subject=f"points/{after.id}",
        outcome="observed",
        detail={"instance": after.instance.name, **where, "gone": after.gone},
        event=Event("orphan.found", f"{name}|{','.join(after.gone)}|{now.isoformat()}", data) if fresh else None,
    )


def _unknown(fleet: Fleet, strangers: Sequence[Snapshot], now: datetime) -> Iterator[Snapshot]:
    """Those that no point knows, not even one that was deleted, or that moved to another vault, since the listing."""
    for start in range(0, len(strangers), LOOKED_UP_AT_ONCE):
        some = strangers[start : start + LOOKED_UP_AT_ONCE]
        points = fleet.points([claim for snapshot in some if (claim := _claimed(snapshot))])
        for snapshot in some:
            claimed = points.get(_claimed(snapshot) or ("", ""))
            if claimed is None or not _accounts_for(claimed, snapshot, now):
                yield snapshot


def _claimed(snapshot: Snapshot) -> tuple[str, str] | None:
    """The tenant and the point that its labels name; None where they name none."""
    tenant, point = snapshot.labels.get(TENANT_LABEL, ""), snapshot.labels.get(POINT_LABEL, "")
    return (tenant, point) if _ID.fullmatch(tenant) and _ID.fullmatch(point) else None


def _accounts_for(point: d.Point, snapshot: Snapshot, now: datetime) -> bool:
    """Whether a set of the point has the snapshot. Of one that is deleted, none is left that was listed: it was read to
    be gone before the listing began."""
    regions = [None, *point.copies]
    known = [sets.as_point(point, region) for region in regions]
    return any(
        ref.name == snapshot.name and ref.id in (None, snapshot.id)
        for one in known
        if one.state != "deleted" or one.updated_at >= now
        for _, ref in deletion.snapshots_of(one)
    )


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


def _missing(tenant: str, point: d.Point, region: str | None, ref: d.SnapshotRef, now: datetime) -> d.Orphan:
    return d.Orphan(
        kind="snapshot_gone",
        snapshot=ref.name,
        id=ref.id,
        tenant=tenant,
        point=point.id,
        copy=region,
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

"""Function `restore_test`: begins the restore tests that are due. Function `restore` carries them out, as any restore.

One commit begins a test: its restore, the hold on its set, and its tenant, which has one test at a time and the date of
the next look. Whoever comes second meets a Conflict on the tenant.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from msgspec.structs import replace

from snapkeep import documents as d
from snapkeep import hints
from snapkeep.copies import sets
from snapkeep.messages import Message, RestoreRef, Tick, not_for
from snapkeep.ports import Conflict, Ports, Write
from snapkeep.restore import planning, rules, testing
from snapkeep.store import Event, Fleet, Held, Record, TenantStore, created, readable

log: Final = logging.getLogger(__name__)

TESTS_PER_RUN: Final = 200
"""Tenants that one run looks at, a few pages of points each. The others are due still, and the first in the next."""


@dataclass(slots=True)
class _Run:
    now: datetime
    token: str
    controls: d.Controls | None
    begun: list[RestoreRef] = field(default_factory=list)
    told: set[str] = field(default_factory=set)  # tenants whose chains have something new

    def paused(self, tenant: d.Tenant) -> bool:
        if self.controls is None:
            return False
        paused = self.controls.paused
        # What a test makes is to be removed again: where nothing may be, it would run, and cost, until then.
        return any(kind.covers(project=tenant.project, tenant=tenant.id) for kind in (paused.restore, paused.deletion))


def restore_test(message: Message, ports: Ports) -> None:
    """On a tick: begin a test of each tenant whose time has come. Where restores or deletions are stopped, it waits."""
    if not isinstance(message, Tick):
        raise not_for("restore_test", message)
    fleet = Fleet(ports.documents)
    run = _Run(ports.clock.now(), ports.clock.token(), fleet.controls())
    looked_at = 0
    for tenant in readable(d.Tenant, fleet.due("restore_tests_due", run.now)):
        if run.paused(tenant.value):
            continue
        _look(run, fleet.tenant(tenant.value.id), tenant)
        looked_at += 1
        if looked_at == TESTS_PER_RUN:
            break
    hints.start_restores(ports.bus, run.begun)
    hints.nudge(ports.bus, run.told, "audit")


def _look(run: _Run, store: TenantStore, tenant: Held[d.Tenant]) -> None:
    owner, now = tenant.value, run.now
    if owner.restore_test is None or owner.has_left(now) or _is_under_way(store, owner):
        _commit(store, [], tenant.replaced(testing.not_begun(owner, now)))
        return
    chosen = _choose(store, owner, run.token, now)
    if chosen is None:
        _commit(store, [], tenant.replaced(testing.not_begun(owner, now)))
        return
    point, region = chosen
    id = testing.id_of(owner.id, point.value, region, owner.restore_test_at or now)
    planned = planning.test_of(owner, point.value, region, id, now)
    if isinstance(planned, d.Failure):
        record = _refused(point.value, region, id, planned, now)
        if _commit(store, [record], tenant.replaced(testing.not_begun(owner, now))):
            run.told.add(owner.id)
        return
    one = sets.as_point(point.value, region)
    held = replace(one, holds=[*one.holds, rules.hold(planned)], updated_at=now)
    writes = (
        created(store.path("restores", id), planned),
        point.replaced(sets.with_set(point.value, region, held)),
        tenant.replaced(testing.begun(owner, planned, now)),
    )
    if _commit(store, [_requested(planned, point.value, region, now)], *writes):
        run.begun.append(RestoreRef(owner.id, id))
        run.told.add(owner.id)


def _is_under_way(store: TenantStore, tenant: d.Tenant) -> bool:
    if tenant.restore_testing is None:
        return False
    before = store.get(d.Restore, "restores", tenant.restore_testing)
    return before is not None and before.value.state in rules.LIVING


def _choose(
    store: TenantStore, tenant: d.Tenant, token: str, now: datetime
) -> tuple[Held[d.Point], str | None] | None:  # fmt: skip
    """The set that is tested: its point, and the copy's region (None: at home). None: there is nothing to test.

    An instance is drawn first, then a set of it: a tenant with many points costs few reads.
    """
    instances = [one.value for one in store.walk(d.Instance, "tenant_instances")]
    for instance in testing.in_order(instances, token):
        stored = store.walk(d.Point, "instance_points", instance.id, pages=testing.POINT_PAGES_MAX)
        points = {point.value.id: point for point in stored}
        found = testing.chosen([point.value for point in points.values()], tenant, token, now)
        if found is not None:
            return points[found[0].id], found[1]
    return None


def _commit(store: TenantStore, records: Sequence[Record], *writes: Write) -> bool:
    try:
        store.commit_all(records, *writes)
    except Conflict:
        log.info("%s: someone else changed it, or tests it; it is due still", store.tenant)
        return False
    return True


def _requested(restore: d.Restore, point: d.Point, region: str | None, now: datetime) -> Record:
    detail = testing.told(point, region) | {
        "purpose": restore.purpose,
        "mode": restore.mode,
        "target": {"project": restore.target.project, "region": restore.target.region, "name": restore.target.name},
        "disks": [{"name": disk.name, "snapshot": disk.snapshot, "id": disk.snapshot_id} for disk in restore.disks],
    }
    return Record(now, rules.ACTOR, "restore.requested", f"restores/{restore.id}", "requested", detail)


def _refused(point: d.Point, region: str | None, id: str, failure: d.Failure, now: datetime) -> Record:
    """That a test cannot be carried out as things stand: nothing was begun."""
    why = {"code": failure.code, "message": failure.message}
    detail = testing.told(point, region) | {"failure": why}
    data = detail | {"restore": id, "carried_out": False, "took_s": 0}
    event = Event("restore_test.failed", id, data)
    return Record(now, rules.ACTOR, "restore.refused", f"restores/{id}", "refused", detail, event)

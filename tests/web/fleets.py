"""Fleets to look at, made by the real functions or document by document, and documents that count their reads."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any, Final

from msgspec.structs import replace
from tests.makers import PROJECT, REGION, THEN, ZONE, World, copy_of, instance, point, point_disk, tenant

from snapkeep import documents as d
from snapkeep import health
from snapkeep.documents import InstanceRef, Tally
from snapkeep.ports import Doc, Documents, Query, Write


def snapshot_ref(**fields: Any) -> d.SnapshotRef:
    return d.SnapshotRef(project=PROJECT, location=REGION, **fields)


def instance_id(number: int) -> str:
    return str(10_000 + number)


def put_tenant(world: World, id: str, *, breached: bool = False, unprotected: bool = False, **changes: Any) -> None:
    """A tenant with one instance and its health, as the functions would have left them."""
    now = world.clock.now()
    selected = d.Selected(by_name=[d.ByName(name=f"{id}-app", zone=ZONE)])
    owner = tenant(id=id, **({"name": id.title(), "instances": selected} | changes))
    at = now - timedelta(hours=owner.rpo_hours + 4) if breached else now
    newest = None if unprotected else d.Newest(point="20261101-s-app-0badcafe", at=at, took_s=180)
    one = instance(
        id=instance_id(len(world.documents_in("tenants/"))),
        name=f"{id}-app",
        newest_verified=newest,
        breach_at=now - timedelta(hours=4) if breached else None,
        tally=Tally(verified=3, stored=3, bytes=1 << 30, days={"2026-10-31": "verified"}),
    )
    world.put(
        (f"tenants/{id}", owner),
        (f"tenants/{id}/instances/{one.id}", one),
        (f"health/{id}", health.compute(owner, [one], now)),
    )


def put_points(world: World, tenant: str, count: int, **changes: Any) -> None:
    """So many points, each requested a minute after the one before."""
    for number in range(count):
        at = THEN + timedelta(minutes=number)
        ref = InstanceRef(id="1", name=f"{tenant}-app", project=f"{tenant}-prod", zone="z-1-a", region="z-1")
        id = f"20261101-o-{tenant}-app-{number:08x}"
        world.put((f"tenants/{tenant}/points/{id}", point(id=id, instance=ref, requested_at=at, **changes)))


def put_stored(world: World, tenant: str, days: int, **changes: Any) -> None:
    """A verified point of the tenant's one instance for each of so many days up to yesterday, 2 GiB each."""
    one = next(d.from_data(d.Instance, data) for path, data in world.documents_in(f"tenants/{tenant}/instances/"))
    ref = InstanceRef(id=one.id, name=one.name, project=one.project, zone=one.zone, region=one.region)
    for back in range(1, days + 1):
        at = world.clock.now() - timedelta(days=back)
        held = snapshot_ref(name=f"sk-{one.name}-{back}", id=str(back), status="READY", bytes=2 << 30, created_at=at)
        id = f"{at:%Y%m%d}-s-{one.name}-{back:08x}"
        fields: dict[str, Any] = {
            "id": id,
            "trigger": "scheduled",
            "state": "verified",
            "instance": ref,
            "disks": [point_disk(snapshot=held)],
            "requested_at": at,
            "verified_at": at + timedelta(minutes=4),
            "lock_until": at + timedelta(days=7),
            "stored_for": one.id,
            "next_at": None,
        }
        world.put((f"tenants/{tenant}/points/{id}", point(**fields | changes)))


def gone(at: datetime) -> d.Orphan:
    """The snapshot of a point of alpha's, which is not there."""
    return d.Orphan(
        kind="snapshot_gone",
        snapshot="sk-a",
        id="1",
        tenant="alpha",
        point="20261101-o-alpha-app-0badcafe",
        bytes=1 << 30,
        created_at=None,
        found_at=at,
    )


BOUGHT: Final = "us-east1"
ENDED: Final = "us-west1"


def put_copies(world: World, tenant: str) -> list[str]:
    """Copies of the tenant's newest six stored points (`put_stored`), and what function `entitlements` says of them.

    From the newest on: copying through a temporary disk and late, verified, failed and so missing, expiring, in a
    region that was bought before, stored there alone as the point at home has gone. The ids of these points.
    """
    owner = world.read(d.Tenant, f"tenants/{tenant}")
    now = world.clock.now()
    add_on = d.InterRegionBackup(region=BOUGHT, valid_until="2027-12-31")
    owner = replace(
        owner, entitlements=d.Entitlements(inter_region_backup=add_on), copies_ended={ENDED: now - timedelta(days=9)}
    )
    points = sorted(world.points(tenant), key=lambda one: one.requested_at, reverse=True)[:6]
    expiry = d.Expiry(was="verified", reason="no rule keeps it", decided_at=now, delete_after=now + timedelta(hours=20))
    failure = d.Failure(code="instant_gone", message="the instant snapshot of acme-pam-1-boot is gone")
    states: tuple[tuple[str, dict[str, Any]], ...] = (
        (BOUGHT, {"state": "copying", "way": "temporary_disk", "late_told": True}),
        (BOUGHT, {"state": "verified"}),
        (BOUGHT, {"state": "failed", "failure": failure, "late_told": True}),
        (BOUGHT, {"state": "expiring", "expiry": expiry}),
        (ENDED, {"state": "verified"}),
        (BOUGHT, {"state": "verified", "way": "temporary_disk"}),
    )
    for one, (region, how) in zip(points, states, strict=True):
        copy = _copy(one, region, **how)
        left = {"state": "deleted"} if one is points[5] else {}
        path = f"tenants/{tenant}/points/{one.id}"
        world.put((path, replace(one, copies={region: copy}, next_at=copy.next_at, **left)))
    (machine,) = world.instances(tenant)
    newest = {
        BOUGHT: d.Newest(point=points[1].id, at=points[1].requested_at, took_s=180),
        ENDED: d.Newest(point=points[4].id, at=points[4].requested_at, took_s=180),
    }
    work = d.CopyWork(
        verified=3, waiting=1, lagging=2, missing=1, unentitled=1, bytes=8 << 30, newest=newest,
        catch_up_disks=1, catch_up_bytes=100 << 30,
    )  # fmt: skip
    machine = replace(machine, copies=work, tally=replace(machine.tally, stored=len(world.points(tenant)) - 1))
    world.put(
        (f"tenants/{tenant}", owner),
        (f"tenants/{tenant}/instances/{machine.id}", machine),
        (f"health/{tenant}", health.compute(owner, [machine], now)),
    )
    return [one.id for one in points]


def _copy(one: d.Point, region: str, **changes: Any) -> d.Copy:
    """A copy of the point, an hour after it; the status of its snapshot follows from its state."""
    (disk,) = one.disks
    at = one.requested_at + timedelta(hours=1)
    ready = changes["state"] in ("verified", "expiring")
    held = replace(
        disk.snapshot,
        name=f"{disk.snapshot.name}-copy",
        location=region,
        id=f"8{disk.snapshot.id}" if ready else None,
        status="READY" if ready else None,
        bytes=disk.snapshot.bytes if ready else 0,
        created_at=one.requested_at if ready else None,
    )
    through = d.TemporaryDisk(
        project=one.vault_project, zone=ZONE, name=f"sk-{disk.name}-tmp", size_gb=disk.size_gb, id="77", status="READY"
    )
    part = d.CopyDisk(
        id=disk.id,
        name=disk.name,
        snapshot=held,
        temporary=through if changes.get("way") == "temporary_disk" else None,
        failure=changes.get("failure"),
    )
    fields: dict[str, Any] = {
        "disks": [part],
        "requested_at": at,
        "started_at": at,
        "verified_at": at + timedelta(minutes=20) if ready else None,
        "lock_until": at + timedelta(days=7),
        "next_at": at + timedelta(days=9) if changes["state"] == "copying" else None,
    }
    return copy_of(**fields | changes)


class Counting:
    """Documents that count what Firestore would bill: a read for each document, at least one for each question."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self.reads = 0
        self.questions: Counter[str] = Counter()

    def get(self, *paths: str) -> list[Doc | None]:
        self.questions["get"] += 1
        self.reads += len(paths)
        return self._documents.get(*paths)

    def find(self, query: Query) -> list[Doc]:
        found = self._documents.find(query)
        self.questions[query.collection] += 1
        self.reads += max(len(found), 1)
        return found

    def commit(self, *writes: Write) -> None:
        raise AssertionError("whoever looks changes nothing")

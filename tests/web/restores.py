"""Restores to look at, in every state, put straight into the documents that pages and command line read."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from tests.makers import PROJECT, REGION, ZONE, World

from snapkeep import documents as d
from snapkeep.restore import rules

ASKER: Final = "operator@vendor.example"
HASH: Final = "5f3a" * 16
POINT: Final = "20261121-s-alpha-app-00000001"


def restore(at: datetime, **changes: Any) -> d.Restore:
    """A restore in place of two disks that was asked for at this moment, and waits for its approval."""
    mode: d.RestoreMode = changes.get("mode", "in_place")
    purpose = changes.get("purpose", "restore")
    ref = d.InstanceRef(id="10000", name="alpha-app", project=PROJECT, zone=ZONE, region=REGION)
    fields: dict[str, Any] = {
        "updated_at": at,
        "id": "20261122-p-alpha-app-0badcafe",
        "mode": mode,
        "state": "requested",
        "recovery_point": POINT,
        "instance": ref,
        "source": d.RestoreSource(project=PROJECT, region=REGION),
        "target": d.RestoreTarget(project=PROJECT, region=REGION, zone=ZONE, name="alpha-app", id="10000"),
        "disks": [disk("boot", boot=True), disk("data")],
        "steps": rules.steps_of(mode, purpose),
        "requested_at": at,
        "requested_by": ASKER,
        "reason": "case 4711",
        "request_sha256": HASH,
        "needs_approval": True,
        "approve_by": at + timedelta(hours=4),
        "start_by": at + timedelta(hours=8),
        "next_at": at + timedelta(hours=4),
    }
    return d.Restore(**fields | changes)


def disk(device: str, **changes: Any) -> d.RestoreDisk:
    fields: dict[str, Any] = {
        "device_name": device,
        "boot": False,
        "mode": "READ_WRITE",
        "interface": "SCSI",
        "auto_delete": True,
        "of": "1",
        "snapshot": f"projects/{PROJECT}/global/snapshots/sk-alpha-app-{device}-20261121-0123456789",
        "snapshot_id": "1",
        "project": PROJECT,
        "scope": f"zones/{ZONE}",
        "name": f"rs-alpha-app-{device}-20261122-0123456789",
        "type": "pd-balanced",
        "size_gb": 100,
    }
    return d.RestoreDisk(**fields | changes)


def former(device: str, status: str = "attached", **changes: Any) -> d.FormerDisk:
    fields: dict[str, Any] = {
        "project": PROJECT,
        "scope": f"zones/{ZONE}",
        "name": f"alpha-app-{device}",
        "id": "1",
        "device_name": device,
        "boot": device == "boot",
        "mode": "READ_WRITE",
        "interface": "SCSI",
        "auto_delete": True,
        "status": status,
    }
    return d.FormerDisk(**fields | changes)


def steps(at: datetime, *done: d.StepName, running: d.StepName | None = None) -> list[d.RestoreStep]:
    """The steps of a restore in place, of which these are done, a minute each."""
    names: list[d.StepName] = [one.name for one in rules.steps_of("in_place", "restore")]
    made = [d.RestoreStep(name=name, state="done", at=at + timedelta(minutes=n)) for n, name in enumerate(done)]
    if running is not None:
        made.append(d.RestoreStep(name=running, state="running", at=at + timedelta(minutes=len(done)), asked=1))
    return [*made, *(d.RestoreStep(name=name) for name in names[len(made) :])]


def running(at: datetime, **changes: Any) -> d.Restore:
    """The same, approved and on its way: one of its disks is ready."""
    fields: dict[str, Any] = {
        "state": "running",
        "approved_by": "admin@vendor.example",
        "approved_at": at,
        "started_at": at,
        "deadline": at + timedelta(hours=24),
        "steps": steps(at, "survey", "pre_restore", running="create_disks"),
        "disks": [disk("boot", boot=True, status="READY", id="7"), disk("data", status="CREATING", id="8")],
        "former": [former("boot"), former("data")],
        "estimate_s": 900,
    }
    return restore(at, **fields | changes)


def completed(at: datetime, **changes: Any) -> d.Restore:
    """The same, with its former disks kept."""
    names: list[d.StepName] = [one.name for one in rules.steps_of("in_place", "restore")]
    checks = [
        d.RestoreCheck(name="disks", state="passed", detail="2 READY"),
        d.RestoreCheck(name="instance", state="passed", detail="RUNNING"),
        d.RestoreCheck(name="probe", state="none", detail="the tenant names none"),
    ]
    fields: dict[str, Any] = {
        "state": "completed",
        "finished_at": at + timedelta(minutes=12),
        "keep_until": at + timedelta(days=7, minutes=12),
        "steps": steps(at, *names),
        "disks": [disk("boot", boot=True, status="READY", id="7"), disk("data", status="READY", id="8")],
        "former": [former("boot", "kept"), former("data", "kept")],
        "checks": checks,
        "next_at": at + timedelta(days=7, minutes=12),
    }
    return running(at, **fields | changes)


def cancelled(at: datetime, **changes: Any) -> d.Restore:
    """The same, cancelled on its way, of which one disk could not be taken back."""
    given_up = d.Abandoned(
        ends_as="cancelled",
        by="admin@vendor.example",
        reason="the wrong point",
        at=at,
        deadline=at + timedelta(hours=24),
    )
    undo = [d.RestoreStep(name=name, undo=True, state="done", at=at) for name in rules.UNDO_STEPS["in_place"]]
    skipped = [d.RestoreStep(name=name, state="skipped", at=at) for name in rules.STEPS["in_place"][3:]]
    fields: dict[str, Any] = {
        "state": "cancelled",
        "finished_at": at + timedelta(minutes=9),
        "abandoned": given_up,
        "failure": d.Failure(code="cancelled", message="the wrong point"),
        "steps": [*steps(at, "survey", "pre_restore", "create_disks")[:3], *skipped, *undo],
        "left": [f"projects/{PROJECT}/zones/{ZONE}/disks/rs-alpha-app-data-20261122-0123456789"],
        "next_at": None,
    }
    return running(at, **fields | changes)


def put_restore(world: World, one: d.Restore, tenant: str = "alpha") -> str:
    """Its page."""
    world.put((f"tenants/{tenant}/restores/{one.id}", one))
    return f"/tenants/{tenant}/restores/{one.id}"

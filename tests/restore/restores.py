"""Restores as documents, with everything filled in that a test does not care about."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tests.makers import INSTANCE_ID, PROJECT, REGION, THEN, ZONE

from snapkeep import documents as d
from snapkeep.restore import rules


def restore(**changes: Any) -> d.Restore:
    """A restore in place that has just been asked for and waits for its approval."""
    fields: dict[str, Any] = {
        "updated_at": THEN,
        "id": "20261101-p-acme-pam-1-00000001",
        "mode": "in_place",
        "state": "requested",
        "recovery_point": "20261101-o-acme-pam-1-0badcafe",
        "instance": d.InstanceRef(id=INSTANCE_ID, name="acme-pam-1", project=PROJECT, zone=ZONE, region=REGION),
        "source": d.RestoreSource(project=PROJECT, region=REGION),
        "target": d.RestoreTarget(project=PROJECT, region=REGION, zone=ZONE, name="acme-pam-1", id=INSTANCE_ID),
        "disks": [],
        "steps": rules.steps_of("in_place", "restore"),
        "requested_at": THEN,
        "requested_by": "otto@vendor.example",
        "reason": "a test",
        "request_sha256": "0" * 64,
        "needs_approval": True,
        "approve_by": THEN + rules.APPROVE_WITHIN,
        "start_by": THEN + rules.APPROVE_WITHIN + rules.BEGIN_WITHIN,
        "next_at": THEN + rules.APPROVE_WITHIN,
    }
    return d.Restore(**fields | changes)


def former(**changes: Any) -> d.FormerDisk:
    """The boot disk from before a restore in place, detached and kept."""
    fields: dict[str, Any] = {
        "project": PROJECT, "scope": f"zones/{ZONE}", "name": "acme-pam-1-boot", "id": "1", "device_name": "boot",
        "boot": True, "mode": "READ_WRITE", "interface": "SCSI", "auto_delete": True, "status": "kept",
    }  # fmt: skip
    return d.FormerDisk(**fields | changes)


def waiting(id: str) -> d.Restore:
    return restore(id=id)


def undoable(id: str) -> d.Restore:
    """A completed restore in place whose former disks are kept."""
    keep_until = THEN + rules.FORMER_KEPT
    return restore(
        id=id,
        state="completed",
        approved_by="ana@vendor.example",
        approved_at=THEN,
        started_at=THEN,
        finished_at=THEN + timedelta(minutes=6),
        former=[former()],
        keep_until=keep_until,
        next_at=keep_until,
    )

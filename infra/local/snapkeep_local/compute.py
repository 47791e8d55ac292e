"""`Compute` over the state machine in this process, without HTTP between."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final, assert_never

from snapkeep import cloud
from snapkeep.cloud import (
    AttachDisk,
    AttachedDisk,
    Attachment,
    Change,
    DeleteDisk,
    DeleteInstance,
    DeleteInstantSnapshot,
    DeleteInstantSnapshotGroup,
    DeleteSnapshot,
    DetachDisk,
    Disk,
    Firewall,
    Insert,
    InsertDisk,
    InsertInstance,
    InsertInstantSnapshot,
    InsertInstantSnapshotGroup,
    InsertSnapshot,
    Instance,
    InstantSnapshot,
    InstantSnapshotGroup,
    Operation,
    Resource,
    ResourcePolicy,
    SetDiskLabels,
    Snapshot,
    StartInstance,
    StopInstance,
    Zone,
    partial_link,
)
from snapkeep.faults import translate
from snapkeep.ports import R, Transient
from snapkeep_local.cloud import Cloud, Kind
from snapkeep_local.errors import ApiError, Json

_KINDS: Final[Mapping[type, Kind]] = {
    Instance: "instances",
    Disk: "disks",
    Snapshot: "snapshots",
    InstantSnapshot: "instantSnapshots",
    InstantSnapshotGroup: "instantSnapshotGroups",
    ResourcePolicy: "resourcePolicies",
    Zone: "zones",
    Firewall: "firewalls",
}

_LINKS: Final[Mapping[type, re.Pattern[str]]] = {
    Instance: re.compile(r"projects/[^/]+/zones/[^/]+/instances/[^/]+"),
    Disk: re.compile(r"projects/[^/]+/(zones|regions)/[^/]+/disks/[^/]+"),
    Snapshot: re.compile(r"projects/[^/]+/global/snapshots/[^/]+"),
    InstantSnapshot: re.compile(r"projects/[^/]+/(zones|regions)/[^/]+/instantSnapshots/[^/]+"),
    InstantSnapshotGroup: re.compile(r"projects/[^/]+/(zones|regions)/[^/]+/instantSnapshotGroups/[^/]+"),
    ResourcePolicy: re.compile(r"projects/[^/]+/regions/[^/]+/resourcePolicies/[^/]+"),
    Zone: re.compile(r"projects/[^/]+/zones/[^/]+"),
    Firewall: re.compile(r"projects/[^/]+/global/firewalls/[^/]+"),
    Operation: re.compile(r"projects/[^/]+/(global|(zones|regions)/[^/]+)/operations/[^/]+"),
}

KNOWN_MAX: Final = 20_000
"""Resources that are remembered in the shape that Snapkeep reads; at the bound all of them are made anew."""

_NOT_DEFINITION: Final = frozenset({"id", "name", "zone", "status", "disks", "kind", "selfLink"})
"""Fields of an instance that have a place of their own in `cloud.Instance`."""


class LocalCompute:
    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._known: dict[str, tuple[Json, Resource]] = {}
        """By link, each with the very answer that it was made of: the same one gives the same."""

    def get(self, kind: type[R], link: str) -> R | None:
        """Raises ValueError for a link that is not of this kind."""
        if not _LINKS[kind].fullmatch(link):
            raise ValueError(f"'{link}' is not the link of a {kind.__name__}")
        try:
            if kind is Operation:
                return _typed(kind, self._cloud.get_operation(link))
            return self._typed(kind, self._cloud.get(_KINDS[kind], link))
        except ApiError as error:
            if (error.status, error.reason) == (404, "notFound"):
                return None
            raise translate(error.status, error.reason, error.message) from error

    def find(self, kind: type[R], project: str, where: str = "") -> Iterator[R]:
        """Raises TypeError for operations and groups of instant snapshots, which are read by their link."""
        if kind not in _KINDS or kind is InstantSnapshotGroup:
            raise TypeError(f"{kind.__name__}: read by its link, not searched for")
        token = ""
        while True:
            try:
                page, token = self._cloud.page(_KINDS[kind], project, filter=where, page_token=token)
            except ApiError as error:
                raise translate(error.status, error.reason, error.message) from error
            if away := self._cloud.away(_KINDS[kind], project):
                # What is in it would look as if it were gone.
                raise Transient(f"no answer from {', '.join(away)}", reason="UNREACHABLE")
            for resource in page:
                yield self._typed(kind, resource)
            if not token:
                return

    def start(self, change: Change, request_id: str) -> str:
        try:
            match change:
                case InsertSnapshot():
                    operation = self._cloud.insert_snapshot(change.project, _snapshot_body(change), request_id)
                case DeleteSnapshot():
                    operation = self._cloud.delete_snapshot(change.link, request_id)
                case InsertInstantSnapshot():
                    body = {**_described(change), "sourceDisk": change.source_disk, "labels": dict(change.labels)}
                    operation = self._cloud.insert_instant_snapshot(change.project, change.scope, body, request_id)
                case DeleteInstantSnapshot():
                    operation = self._cloud.delete_instant_snapshot(change.link, request_id)
                case InsertInstantSnapshotGroup():
                    body = {**_described(change), "sourceConsistencyGroup": change.consistency_group}
                    operation = self._cloud.insert_instant_snapshot_group(
                        change.project, change.scope, body, request_id
                    )
                case DeleteInstantSnapshotGroup():
                    operation = self._cloud.delete_instant_snapshot_group(change.link, request_id)
                case InsertDisk():
                    operation = self._cloud.insert_disk(change.project, change.scope, _disk_body(change), request_id)
                case DeleteDisk():
                    operation = self._cloud.delete_disk(change.link, request_id)
                case SetDiskLabels():
                    operation = self._cloud.set_disk_labels(change.link, change.labels, change.fingerprint, request_id)
                case InsertInstance():
                    body = _instance_body(change)
                    operation = self._cloud.insert_instance(change.project, change.zone, body, request_id)
                case DeleteInstance():
                    operation = self._cloud.delete_instance(change.link, request_id)
                case StopInstance():
                    operation = self._cloud.stop(change.link, request_id, discard_local_ssd=True)
                case StartInstance():
                    operation = self._cloud.start(change.link, request_id)
                case AttachDisk():
                    body = _attachment_body(change.disk, change.zone)
                    operation = self._cloud.attach(change.link, body, request_id)
                case DetachDisk():
                    operation = self._cloud.detach(change.link, change.device_name, request_id)
                case _:
                    assert_never(change)
        except ApiError as error:
            raise translate(error.status, error.reason, error.message) from error
        return partial_link(operation["selfLink"])

    def _typed(self, kind: type[R], found: Json) -> R:
        known = self._known.get(found["selfLink"])
        if known is None or known[0] is not found:
            if len(self._known) == KNOWN_MAX:
                self._known.clear()
            known = self._known[found["selfLink"]] = (found, _typed(kind, found))
        value = known[1]
        assert isinstance(value, kind)
        return value


def _described(change: Insert) -> Json:
    return {"name": change.name, "description": change.description}


def _snapshot_body(change: InsertSnapshot) -> Json:
    body: Json = {
        **_described(change),
        "storageLocations": [change.location],
        "labels": dict(change.labels),
    }
    if change.source_instant:
        # It knows its disk; who names both could name another.
        body["sourceInstantSnapshot"] = change.source_instant
    else:
        body["sourceDisk"] = change.source_disk
    if change.guest_flush:
        body["guestFlush"] = True
    if change.kms_key:
        body["snapshotEncryptionKey"] = {"kmsKeyName": change.kms_key}
    return body


def _disk_body(change: InsertDisk) -> Json:
    body: Json = {
        **_described(change),
        "sourceSnapshot": change.source_snapshot,
        "type": f"projects/{change.project}/{change.scope}/diskTypes/{change.type}",
        "sizeGb": str(change.size_gb),
        "labels": dict(change.labels),
    }
    if change.kms_key:
        body["diskEncryptionKey"] = {"kmsKeyName": change.kms_key}
    if change.replica_zones:
        body["replicaZones"] = [f"projects/{change.project}/zones/{zone}" for zone in change.replica_zones]
    if change.provisioned_iops is not None:
        body["provisionedIops"] = str(change.provisioned_iops)
    if change.provisioned_throughput is not None:
        body["provisionedThroughput"] = str(change.provisioned_throughput)
    if change.resource_policies:
        body["resourcePolicies"] = list(change.resource_policies)
    return body


def _instance_body(change: InsertInstance) -> Json:
    items = sorted({**change.metadata, **change.secrets}.items())
    return {
        **change.definition,
        **_described(change),
        "labels": dict(change.labels),
        "metadata": {"items": [{"key": key, "value": value} for key, value in items]},
        "disks": [_attachment_body(disk, change.zone) for disk in change.disks],
    }


def _attachment_body(disk: Attachment, zone: str) -> Json:
    what: Json = {"type": "PERSISTENT", "source": disk.source}
    if not disk.source:
        what = {"type": "SCRATCH", "initializeParams": {"diskType": f"zones/{zone}/diskTypes/local-ssd"}}
    return {
        **what,
        "deviceName": disk.device_name,
        "boot": disk.boot,
        "mode": disk.mode,
        "interface": disk.interface,
        "autoDelete": disk.auto_delete,
    }


def _typed(kind: type[R], found: Json) -> R:
    """A resource in its REST shape as `cloud` has it."""
    value: Any = _READ[kind](found)
    assert isinstance(value, kind)
    return value


def _instance(found: Json) -> Instance:
    return Instance(
        id=found["id"],
        name=found["name"],
        project=_project(found),
        zone=_last(found["zone"]),
        status=found["status"],
        labels=found.get("labels", {}),
        disks=tuple(
            AttachedDisk(
                device_name=disk["deviceName"],
                source=partial_link(disk.get("source", "")),
                persistent=disk["type"] == "PERSISTENT",
                boot=disk["boot"],
                mode=disk["mode"],
                interface=disk["interface"],
                auto_delete=disk["autoDelete"],
            )
            for disk in found["disks"]
        ),
        definition={name: value for name, value in found.items() if name not in _NOT_DEFINITION},
    )


def _disk(found: Json) -> Disk:
    zone = _last(found["zone"]) if "zone" in found else None
    key = found.get("diskEncryptionKey", {})
    return Disk(
        id=found["id"],
        name=found["name"],
        project=_project(found),
        zone=zone,
        region=cloud.region_of(zone) if zone else _last(found["region"]),
        replica_zones=tuple(_last(replica) for replica in found.get("replicaZones", ())),
        type=_last(found["type"]),
        size_gb=int(found["sizeGb"]),
        status=found["status"],
        labels=found.get("labels", {}),
        provisioned_iops=int(found["provisionedIops"]) if "provisionedIops" in found else None,
        provisioned_throughput=int(found["provisionedThroughput"]) if "provisionedThroughput" in found else None,
        architecture=found.get("architecture"),
        guest_os_features=tuple(feature["type"] for feature in found.get("guestOsFeatures", ())),
        kms_key=cloud.key_without_version(key.get("kmsKeyName", "")) or None,
        customer_supplied_key="sha256" in key,
        resource_policies=tuple(map(partial_link, found.get("resourcePolicies", ()))),
        source_snapshot_id=found.get("sourceSnapshotId"),
        users=tuple(map(partial_link, found.get("users", ()))),
        label_fingerprint=found["labelFingerprint"],
    )


def _snapshot(found: Json) -> Snapshot:
    return Snapshot(
        id=found["id"],
        name=found["name"],
        project=_project(found),
        status=found["status"],
        source_disk=partial_link(found["sourceDisk"]),
        source_disk_id=found["sourceDiskId"],
        locations=tuple(found["storageLocations"]),
        labels=found.get("labels", {}),
        created_at=datetime.fromisoformat(found["creationTimestamp"]),
        bytes=int(found["storageBytes"]),
        kms_key=cloud.key_without_version(found.get("snapshotEncryptionKey", {}).get("kmsKeyName", "")) or None,
        source_instant_id=found.get("sourceInstantSnapshotId"),
        size_gb=int(found["diskSizeGb"]),
        description=found["description"],
    )


def _instant(found: Json) -> InstantSnapshot:
    return InstantSnapshot(
        id=found["id"],
        name=found["name"],
        project=_project(found),
        scope=_scope(found),
        status=found["status"],
        source_disk=partial_link(found["sourceDisk"]),
        source_disk_id=found["sourceDiskId"],
        group=partial_link(found.get("sourceInstantSnapshotGroup", "")),
        labels=found.get("labels", {}),
        created_at=datetime.fromisoformat(found["creationTimestamp"]),
    )


def _instant_group(found: Json) -> InstantSnapshotGroup:
    return InstantSnapshotGroup(
        id=found["id"],
        name=found["name"],
        project=_project(found),
        scope=_scope(found),
        status=found["status"],
        consistency_group=partial_link(found["sourceConsistencyGroup"]),
        created_at=datetime.fromisoformat(found["creationTimestamp"]),
    )


def _policy(found: Json) -> ResourcePolicy:
    return ResourcePolicy(
        name=found["name"],
        project=_project(found),
        region=_last(found["region"]),
        consistency_group="diskConsistencyGroupPolicy" in found,
    )


def _zone(found: Json) -> Zone:
    return Zone(name=found["name"], project=_project(found), region=_last(found["region"]), up=found["status"] == "UP")


def _firewall(found: Json) -> Firewall:
    rules = found.get("allowed") or found.get("denied") or []
    return Firewall(
        name=found["name"],
        project=_project(found),
        network=partial_link(found["network"]),
        direction=found["direction"],
        priority=found["priority"],
        allows="allowed" in found,
        everything=any(rule["IPProtocol"] == "all" for rule in rules),
        ranges=tuple(found.get("sourceRanges" if found["direction"] == "INGRESS" else "destinationRanges", ())),
        targeted="targetTags" in found,
        disabled=found["disabled"],
    )


def _operation(found: Json) -> Operation:
    errors = found.get("error", {}).get("errors", [])
    return Operation(
        id=found["id"],
        name=found["name"],
        link=partial_link(found["selfLink"]),
        status=found["status"],
        target=partial_link(found["targetLink"]),
        error_code=errors[0]["code"] if errors else None,
        error_message=errors[0]["message"] if errors else None,
        http_status=found.get("httpErrorStatusCode"),
    )


_READ: Final[Mapping[type, Callable[[Json], Resource]]] = {
    Instance: _instance,
    Disk: _disk,
    Snapshot: _snapshot,
    InstantSnapshot: _instant,
    InstantSnapshotGroup: _instant_group,
    ResourcePolicy: _policy,
    Zone: _zone,
    Firewall: _firewall,
    Operation: _operation,
}


def _scope(found: Json) -> str:
    return "/".join(partial_link(found["selfLink"]).split("/")[2:4])


def _project(found: Json) -> str:
    return str(partial_link(found["selfLink"]).split("/")[1])


def _last(url: str) -> str:
    return url.rsplit("/", 1)[-1]

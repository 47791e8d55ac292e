"""Compute Engine's resources as the simulated cloud holds them, and their shape in the v1 REST API."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, assert_never

from snapkeep.cloud import region_of
from snapkeep_local.errors import Json

API: Final = "https://www.googleapis.com/compute/v1/"

OperationError = tuple[str, str, int | None]
"""Code, message, and the HTTP status if it has one."""


@dataclass(slots=True)
class Disk:
    id: str
    name: str
    project: str
    zone: str | None
    region: str
    replica_zones: tuple[str, ...]
    type: str
    size_gb: int
    created_at: datetime
    content: str
    labels: dict[str, str]
    kms_key: str | None = None
    customer_supplied_key: bool = False
    architecture: str | None = "X86_64"
    guest_os_features: tuple[str, ...] = ()
    provisioned_iops: int | None = None
    provisioned_throughput: int | None = None
    status: str = "READY"
    users: list[str] = field(default_factory=list)
    policies: list[str] = field(default_factory=list)  # links
    source: str = ""  # link of the snapshot that it was made from
    source_id: str | None = None
    description: str = ""
    instant_at: datetime | None = None  # when the last instant snapshot of it was taken
    written: int = 0  # bytes changed by hand since it was made, beside the daily change
    changes_per_day: float = 0.02  # share of what is in use that changes in a day

    @property
    def scope(self) -> str:
        return f"zones/{self.zone}" if self.zone else f"regions/{self.region}"

    @property
    def link(self) -> str:
        return f"projects/{self.project}/{self.scope}/disks/{self.name}"


@dataclass(slots=True)
class Attached:
    device_name: str
    source: str
    boot: bool
    mode: str = "READ_WRITE"
    interface: str = "SCSI"
    auto_delete: bool = True
    persistent: bool = True
    content: str = ""  # of a local SSD; what a persistent disk holds is the disk's
    coming: bool = False  # asked for, and not yet there


@dataclass(slots=True)
class Instance:
    id: str
    name: str
    project: str
    zone: str
    created_at: datetime
    disks: list[Attached]
    labels: dict[str, str]
    definition: Json
    status: str = "RUNNING"
    guest_agent: bool = True  # without it nobody in the guest hears that it is to flush
    answers: bool = True  # whether its application does, while it runs

    @property
    def link(self) -> str:
        return f"projects/{self.project}/zones/{self.zone}/instances/{self.name}"


@dataclass(slots=True)
class Snapshot:
    id: str
    name: str
    project: str
    status: str
    source: str
    source_id: str
    location: str
    size_gb: int
    created_at: datetime
    bytes: int
    content: str
    labels: dict[str, str]
    description: str
    kms_key: str | None
    written: int  # what its disk had been changed by hand by then: each chain counts from its own last snapshot
    fingerprint: str
    moment: datetime  # that its contents are of
    instant: str = ""  # link of the instant snapshot that it was made from
    instant_id: str | None = None
    flushed: bool = False  # the guest was asked to flush first, and did

    @property
    def link(self) -> str:
        return f"projects/{self.project}/global/snapshots/{self.name}"


@dataclass(slots=True)
class InstantSnapshot:
    id: str
    name: str
    project: str
    scope: str  # zones/Z or regions/R: its disk's
    status: str
    source: str
    source_id: str
    size_gb: int
    created_at: datetime
    content: str
    written: int  # as a snapshot's
    labels: dict[str, str]
    description: str
    fingerprint: str
    group: str = ""  # link of the group that it was made with
    group_id: str | None = None

    @property
    def link(self) -> str:
        return f"projects/{self.project}/{self.scope}/instantSnapshots/{self.name}"


@dataclass(slots=True)
class InstantSnapshotGroup:
    id: str
    name: str
    project: str
    scope: str
    status: str
    policy: str  # link
    policy_id: str
    created_at: datetime
    description: str

    @property
    def link(self) -> str:
        return f"projects/{self.project}/{self.scope}/instantSnapshotGroups/{self.name}"


@dataclass(slots=True)
class ResourcePolicy:
    """A consistency group; or else a schedule of snapshots, which runs nowhere here."""

    id: str
    name: str
    project: str
    region: str
    created_at: datetime
    consistency_group: bool

    @property
    def link(self) -> str:
        return f"projects/{self.project}/regions/{self.region}/resourcePolicies/{self.name}"


@dataclass(slots=True)
class Zone:
    id: str
    name: str
    project: str
    up: bool

    @property
    def link(self) -> str:
        return f"projects/{self.project}/zones/{self.name}"


@dataclass(slots=True)
class Firewall:
    id: str
    name: str
    project: str
    network: str  # link
    created_at: datetime
    direction: str  # INGRESS | EGRESS
    priority: int
    allows: bool
    protocol: str  # all, tcp, ...
    ports: tuple[str, ...]
    ranges: tuple[str, ...]
    target_tags: tuple[str, ...] = ()
    disabled: bool = False

    @property
    def link(self) -> str:
        return f"projects/{self.project}/global/firewalls/{self.name}"


@dataclass(slots=True)
class Operation:
    id: str
    name: str
    link: str  # below projects/P/global, zones/Z or regions/R: where what it works on lies
    kind: str
    target: str
    target_id: str
    request_id: str | None
    asked_at: datetime
    status: str = "PENDING"
    started_at: datetime | None = None
    ended_at: datetime | None = None
    error: OperationError | None = None


# --- the REST shape -----------------------------------------------------------------------------------------------


Resource = (
    Instance | Disk | Snapshot | InstantSnapshot | InstantSnapshotGroup | ResourcePolicy | Zone | Firewall | Operation
)


def rendered(resource: Resource, disks: Mapping[str, Disk]) -> Json:
    """A resource as the API shows it; an instance shows some of its disks."""
    match resource:
        case Instance():
            return _instance_json(resource, disks)
        case Disk():
            return _disk_json(resource)
        case Snapshot():
            return _snapshot_json(resource)
        case InstantSnapshot():
            return _instant_json(resource)
        case InstantSnapshotGroup():
            return _instant_group_json(resource)
        case ResourcePolicy():
            return _policy_json(resource)
        case Zone():
            return _zone_json(resource)
        case Firewall():
            return _firewall_json(resource)
        case Operation():
            return _operation_json(resource)
        case _:
            assert_never(resource)


def fingerprint(labels: Mapping[str, str]) -> str:
    """What changes with a resource's labels."""
    text = json.dumps(labels, sort_keys=True)
    return base64.b64encode(uuid.uuid5(uuid.NAMESPACE_OID, text).bytes[:8]).decode()


def _instance_json(one: Instance, disks: Mapping[str, Disk]) -> Json:
    return {
        "kind": "compute#instance",
        "id": one.id,
        "name": one.name,
        "creationTimestamp": time_text(one.created_at),
        "zone": f"{API}projects/{one.project}/zones/{one.zone}",
        "selfLink": API + one.link,
        "status": one.status,
        **unless_empty("labels", dict(one.labels)),
        "labelFingerprint": fingerprint(one.labels),
        "disks": [
            {
                "kind": "compute#attachedDisk",
                "type": "PERSISTENT" if attached.persistent else "SCRATCH",
                "mode": attached.mode,
                "deviceName": attached.device_name,
                "index": index,
                "boot": attached.boot,
                "autoDelete": attached.auto_delete,
                "interface": attached.interface,
            }
            | ({"source": API + attached.source, "diskSizeGb": str(disks[attached.source].size_gb)}
               if attached.persistent else {"diskSizeGb": "375"})
            for index, attached in enumerate(attached for attached in one.disks if not attached.coming)
        ],
        **one.definition,
    }  # fmt: skip


def _disk_json(one: Disk) -> Json:
    replicas = [f"{API}projects/{one.project}/zones/{zone}" for zone in one.replica_zones]
    key: Json = {}
    if one.kms_key:
        key = {"diskEncryptionKey": {"kmsKeyName": f"{one.kms_key}/cryptoKeyVersions/1"}}
    elif one.customer_supplied_key:
        key = {"diskEncryptionKey": {"sha256": "esTuF7d4eatX4cnc4JsiEiaI+Rff78JgPhA/v1zxX9E="}}
    limits = {"provisionedIops": one.provisioned_iops, "provisionedThroughput": one.provisioned_throughput}
    return {
        "kind": "compute#disk",
        "id": one.id,
        "name": one.name,
        "creationTimestamp": time_text(one.created_at),
        "selfLink": API + one.link,
        "status": one.status,
        "sizeGb": str(one.size_gb),
        "type": f"{API}projects/{one.project}/{one.scope}/diskTypes/{one.type}",
        **unless_empty("labels", dict(one.labels)),
        "labelFingerprint": fingerprint(one.labels),
        **unless_empty("users", [API + user for user in one.users]),
        **({"architecture": one.architecture} if one.architecture else {}),
        **unless_empty("guestOsFeatures", [{"type": feature} for feature in one.guest_os_features]),
        **unless_empty("resourcePolicies", [API + policy for policy in one.policies]),
        **({"description": one.description} if one.description else {}),
        **({"sourceSnapshot": API + one.source, "sourceSnapshotId": one.source_id} if one.source else {}),
        **_where(one.project, one.scope),
        **unless_empty("replicaZones", replicas),
        **key,
        **{name: str(value) for name, value in limits.items() if value is not None},
    }


def _snapshot_json(one: Snapshot) -> Json:
    return {
        "kind": "compute#snapshot",
        "id": one.id,
        "name": one.name,
        "description": one.description,
        "creationTimestamp": time_text(one.created_at),
        "selfLink": API + one.link,
        "status": one.status,
        "sourceDisk": API + one.source,
        "sourceDiskId": one.source_id,
        "diskSizeGb": str(one.size_gb),
        "storageBytes": str(one.bytes if one.status == "READY" else 0),
        "storageBytesStatus": "UP_TO_DATE" if one.status == "READY" else "UPDATING",
        "storageLocations": [one.location],
        **unless_empty("labels", dict(one.labels)),
        "labelFingerprint": one.fingerprint,
        **({"snapshotEncryptionKey": {"kmsKeyName": f"{one.kms_key}/cryptoKeyVersions/1"}} if one.kms_key else {}),
        **({"sourceInstantSnapshot": API + one.instant, "sourceInstantSnapshotId": one.instant_id}
           if one.instant else {}),
    }  # fmt: skip


def _instant_json(one: InstantSnapshot) -> Json:
    group = {"sourceInstantSnapshotGroup": API + one.group, "sourceInstantSnapshotGroupId": one.group_id}
    return {
        "kind": "compute#instantSnapshot",
        "id": one.id,
        "name": one.name,
        "description": one.description,
        "creationTimestamp": time_text(one.created_at),
        **_where(one.project, one.scope),
        "selfLink": API + one.link,
        "status": one.status,
        "sourceDisk": API + one.source,
        "sourceDiskId": one.source_id,
        "diskSizeGb": str(one.size_gb),
        **unless_empty("labels", dict(one.labels)),
        "labelFingerprint": one.fingerprint,
        **(group if one.group else {}),
    }


def _instant_group_json(one: InstantSnapshotGroup) -> Json:
    source = {"consistencyGroup": API + one.policy, "consistencyGroupId": one.policy_id}
    return {
        "kind": "compute#instantSnapshotGroup",
        "id": one.id,
        "name": one.name,
        "description": one.description,
        "creationTimestamp": time_text(one.created_at),
        **_where(one.project, one.scope),
        "selfLink": API + one.link,
        "status": one.status,
        "sourceConsistencyGroup": API + one.policy,
        "resourceStatus": {"consistencyMembershipResolutionTime": time_text(one.created_at), "sourceInfo": source},
    }


def _policy_json(one: ResourcePolicy) -> Json:
    schedule = {"schedule": {"dailySchedule": {"daysInCycle": 1, "startTime": "04:00"}}}
    return {
        "kind": "compute#resourcePolicy",
        "id": one.id,
        "name": one.name,
        "creationTimestamp": time_text(one.created_at),
        **_where(one.project, f"regions/{one.region}"),
        "selfLink": API + one.link,
        "status": "READY",
        **({"diskConsistencyGroupPolicy": {}} if one.consistency_group else {"snapshotSchedulePolicy": schedule}),
    }


def _zone_json(one: Zone) -> Json:
    return {
        "kind": "compute#zone",
        "id": one.id,
        "name": one.name,
        "description": one.name,
        "region": f"{API}projects/{one.project}/regions/{region_of(one.name)}",
        "selfLink": API + one.link,
        "status": "UP" if one.up else "DOWN",
    }


def _firewall_json(one: Firewall) -> Json:
    rule = {"IPProtocol": one.protocol, **unless_empty("ports", list(one.ports))}
    return {
        "kind": "compute#firewall",
        "id": one.id,
        "name": one.name,
        "creationTimestamp": time_text(one.created_at),
        "selfLink": API + one.link,
        "network": API + one.network,
        "direction": one.direction,
        "priority": one.priority,
        "allowed" if one.allows else "denied": [rule],
        **unless_empty("sourceRanges" if one.direction == "INGRESS" else "destinationRanges", list(one.ranges)),
        **unless_empty("targetTags", list(one.target_tags)),
        "disabled": one.disabled,
    }


def _operation_json(one: Operation) -> Json:
    error: Json = {}
    if one.error:
        code, message, status = one.error
        error = {"error": {"errors": [{"code": code, "message": message}]}}
        if status is not None:
            error |= {"httpErrorStatusCode": status, "httpErrorMessage": code}
    return {
        "kind": "compute#operation",
        "id": one.id,
        "name": one.name,
        **_where(one.target.split("/")[1], "/".join(one.link.split("/")[2:4])),
        "operationType": one.kind.partition(".")[2],
        "selfLink": API + one.link,
        "targetLink": API + one.target,
        "targetId": one.target_id,
        "status": one.status,
        "progress": 100 if one.status == "DONE" else 0,
        "insertTime": time_text(one.asked_at),
        **({"clientOperationId": one.request_id} if one.request_id else {}),
        **({"startTime": time_text(one.started_at)} if one.started_at else {}),
        **({"endTime": time_text(one.ended_at)} if one.ended_at else {}),
        **error,
    }


def _where(project: str, scope: str) -> Json:
    """The field that says in which zone or region something lies; none for what is global."""
    kind = scope.partition("/")[0]
    return {kind.removesuffix("s"): f"{API}projects/{project}/{scope}"} if kind in ("zones", "regions") else {}


def unless_empty(name: str, value: Json | list[Any]) -> Json:
    """A field as the API shows it: one without members is left out."""
    return {name: value} if value else {}


def time_text(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds")

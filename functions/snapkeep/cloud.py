"""Compute Engine's resources as far as Snapkeep reads them, and the changes that it asks for.

Values only: no call is made here. Numeric ids are decimal strings everywhere, because Compute Engine's are uint64
and Firestore's integers are int64. Links are partial URLs (`projects/P/zones/Z/disks/N`), never full ones.
Field meanings are those of the Compute Engine v1 REST reference.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any, Final, Literal, assert_never

NAME: Final = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
"""A resource name: RFC 1035, 1 to 63 characters."""

NAMES_PER_FILTER: Final = 60
"""Names in one list filter: at most 60 * 75 characters, well inside the URL length that Google's front ends take."""


@dataclass(frozen=True, slots=True)
class AttachedDisk:
    """A disk as its instance shows it. It carries no disk id: read the Disk for that."""

    device_name: str
    source: str  # the disk's link; "" for a local SSD
    persistent: bool  # False for a local SSD (type SCRATCH), which no snapshot can hold
    boot: bool
    mode: str  # READ_WRITE | READ_ONLY
    interface: str  # SCSI | NVME
    auto_delete: bool


@dataclass(frozen=True, slots=True)
class Instance:
    id: str
    name: str
    project: str
    zone: str
    status: str  # RUNNING, TERMINATED, ...
    labels: Mapping[str, str]
    disks: tuple[AttachedDisk, ...]
    definition: Mapping[str, Any] = field(default_factory=dict)
    """The rest of the v1 resource in REST spelling (camelCase) that describes how to build it again: machineType,
    networkInterfaces, tags, labels, serviceAccounts, scheduling, shieldedInstanceConfig, metadata, ... whole, as read.
    What of it is kept is decided in `creation.rules`."""

    @property
    def link(self) -> str:
        return link_of(self.project, f"zones/{self.zone}", "instances", self.name)

    @property
    def region(self) -> str:
        return region_of(self.zone)


@dataclass(frozen=True, slots=True)
class Disk:
    """A persistent disk. Zonal disks have a `zone`; regional ones a `region` and their `replica_zones`."""

    id: str
    name: str
    project: str
    zone: str | None
    region: str
    replica_zones: tuple[str, ...]
    type: str  # short name: pd-balanced, hyperdisk-balanced, ...
    size_gb: int
    status: str  # CREATING, READY, FAILED, DELETING, ...
    labels: Mapping[str, str]
    provisioned_iops: int | None
    provisioned_throughput: int | None  # MB/s
    architecture: str | None
    guest_os_features: tuple[str, ...]
    kms_key: str | None  # the Cloud KMS key (without version) that encrypts it, if a customer's
    customer_supplied_key: bool  # CSEK: the key itself lives with the customer, so nobody can restore from it alone
    resource_policies: tuple[str, ...] = ()  # links; a consistency group is one of them (see ResourcePolicy)
    source_snapshot_id: str | None = None  # of the snapshot that it was made from
    users: tuple[str, ...] = ()  # links of the instances that it is attached to
    label_fingerprint: str = ""  # of the labels as read: who sets them must show it

    @property
    def link(self) -> str:
        return link_of(self.project, self.scope, "disks", self.name)

    @property
    def scope(self) -> str:
        """Where it lies, as links have it: `zones/Z`, or `regions/R` of a regional disk."""
        return f"zones/{self.zone}" if self.zone else f"regions/{self.region}"


@dataclass(frozen=True, slots=True)
class Snapshot:
    id: str
    name: str
    project: str
    status: str  # CREATING | UPLOADING | READY | FAILED | DELETING
    source_disk: str  # link of the disk as it was named
    source_disk_id: str
    locations: tuple[str, ...]  # storageLocations
    labels: Mapping[str, str]
    created_at: datetime
    bytes: int  # storageBytes: what this snapshot holds of its chain
    kms_key: str | None = None
    source_instant_id: str | None = None  # of the instant snapshot that it was made from
    size_gb: int = 0  # of the disk that it holds
    description: str = ""

    @property
    def link(self) -> str:
        return snapshot_link(self.project, self.name)


@dataclass(frozen=True, slots=True)
class InstantSnapshot:
    """A disk's contents at one moment, kept in the disk's own zone or region for as long as the disk is there.

    Several snapshots can be made from it, in several places. It knows no guest flush.
    """

    id: str
    name: str
    project: str
    scope: str  # zones/Z or regions/R: its disk's
    status: str  # CREATING | READY | FAILED | DELETING
    source_disk: str  # link
    source_disk_id: str
    group: str  # link of the group that it was made with; "": it was made alone
    labels: Mapping[str, str]
    created_at: datetime

    @property
    def link(self) -> str:
        return link_of(self.project, self.scope, "instantSnapshots", self.name)


@dataclass(frozen=True, slots=True)
class InstantSnapshotGroup:
    """Instant snapshots of all disks of a consistency group, of one moment. They go with it."""

    id: str
    name: str
    project: str
    scope: str  # zones/Z or regions/R: that of its disks
    status: str  # CREATING | READY | FAILED | INVALID | DELETING
    consistency_group: str  # link of the resource policy
    created_at: datetime

    @property
    def link(self) -> str:
        return link_of(self.project, self.scope, "instantSnapshotGroups", self.name)


@dataclass(frozen=True, slots=True)
class ResourcePolicy:
    """What a disk can be put under: a consistency group, or a snapshot schedule (which is not ours)."""

    name: str
    project: str
    region: str
    consistency_group: bool

    @property
    def link(self) -> str:
        return link_of(self.project, f"regions/{self.region}", "resourcePolicies", self.name)


@dataclass(frozen=True, slots=True)
class Zone:
    name: str
    project: str
    region: str
    up: bool

    @property
    def link(self) -> str:
        return f"projects/{self.project}/zones/{self.name}"


@dataclass(frozen=True, slots=True)
class Firewall:
    """A firewall rule of a network. What no rule says is denied inwards and allowed outwards."""

    name: str
    project: str
    network: str  # link
    direction: str  # INGRESS | EGRESS
    priority: int  # 0 to 65535; the lowest that matches decides, a denial before a permission
    allows: bool  # False: it denies
    everything: bool  # of every protocol and port
    ranges: tuple[str, ...]  # sources of an INGRESS rule, destinations of an EGRESS rule (CIDR)
    targeted: bool  # for instances of some tags or service accounts only
    disabled: bool

    @property
    def link(self) -> str:
        return link_of(self.project, "global", "firewalls", self.name)


@dataclass(frozen=True, slots=True)
class Operation:
    id: str
    name: str
    link: str  # projects/P/global/operations/N, or .../zones/Z/operations/N
    status: Literal["PENDING", "RUNNING", "DONE"]
    target: str  # link of what it works on
    error_code: str | None = None  # the first of error.errors: QUOTA_EXCEEDED, RESOURCE_NOT_FOUND, ...
    error_message: str | None = None
    http_status: int | None = None  # httpErrorStatusCode, where the failed operation carries one


Resource = (
    Instance | Disk | Snapshot | InstantSnapshot | InstantSnapshotGroup | ResourcePolicy | Zone | Firewall | Operation
)


# --- changes ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class InsertSnapshot:
    """`snapshots.insert`: a snapshot in `project`, stored in `location` and nowhere else.

    Of `source_disk` as it is now; or, where `source_instant` is given, as it was then.
    """

    project: str
    name: str
    source_disk: str  # link; may lie in another project
    location: str  # one region; left out, Compute Engine would choose a multi-region
    labels: Mapping[str, str]
    description: str = ""
    kms_key: str | None = None
    source_instant: str | None = None  # link of an instant snapshot of that disk
    guest_flush: bool = False  # the guest is asked to flush first; not with `source_instant`

    @property
    def link(self) -> str:
        return snapshot_link(self.project, self.name)


@dataclass(frozen=True, slots=True)
class DeleteSnapshot:
    """`snapshots.delete`: it takes a name; `id` is the numeric id that was read under that name just before."""

    project: str
    name: str
    id: str
    attempt: int  # a deletion that was answered and did not happen is asked for again, as another request

    @property
    def link(self) -> str:
        return snapshot_link(self.project, self.name)


@dataclass(frozen=True, slots=True)
class InsertInstantSnapshot:
    """`instantSnapshots.insert` (or `regionInstantSnapshots.insert`), beside the disk."""

    project: str  # the disk's
    scope: str  # zones/Z or regions/R: the disk's
    name: str
    source_disk: str  # link
    labels: Mapping[str, str]
    description: str = ""

    @property
    def link(self) -> str:
        return link_of(self.project, self.scope, "instantSnapshots", self.name)


@dataclass(frozen=True, slots=True)
class DeleteInstantSnapshot:
    """`instantSnapshots.delete`; `id` is the numeric id that was read under that name just before."""

    project: str
    scope: str
    name: str
    id: str
    attempt: int

    @property
    def link(self) -> str:
        return link_of(self.project, self.scope, "instantSnapshots", self.name)


@dataclass(frozen=True, slots=True)
class InsertInstantSnapshotGroup:
    """`instantSnapshotGroups.insert`: an instant snapshot of every disk under a policy, all of one moment.

    Their names are Compute Engine's; each says which group it is of.
    """

    project: str
    scope: str
    name: str
    consistency_group: str  # link of the resource policy
    description: str = ""

    @property
    def link(self) -> str:
        return link_of(self.project, self.scope, "instantSnapshotGroups", self.name)


@dataclass(frozen=True, slots=True)
class DeleteInstantSnapshotGroup:
    """`instantSnapshotGroups.delete`: its instant snapshots go with it."""

    project: str
    scope: str
    name: str
    id: str
    attempt: int

    @property
    def link(self) -> str:
        return link_of(self.project, self.scope, "instantSnapshotGroups", self.name)


@dataclass(frozen=True, slots=True)
class InsertDisk:
    """`disks.insert` (or `regionDisks.insert`): a disk with what a snapshot holds."""

    project: str
    scope: str  # zones/Z, or regions/R of a regional disk
    name: str
    source_snapshot: str  # link
    type: str  # short name: pd-balanced, ...
    size_gb: int
    labels: Mapping[str, str]
    description: str = ""
    kms_key: str | None = None
    replica_zones: tuple[str, ...] = ()  # two, of a regional disk
    provisioned_iops: int | None = None
    provisioned_throughput: int | None = None  # MB/s
    resource_policies: tuple[str, ...] = ()  # links

    @property
    def link(self) -> str:
        return link_of(self.project, self.scope, "disks", self.name)


@dataclass(frozen=True, slots=True)
class DeleteDisk:
    """`disks.delete` (or `regionDisks.delete`); `id` is the numeric id that was read under that name just before."""

    project: str
    scope: str
    name: str
    id: str
    attempt: int
    asker: str = ""  # see `request_id`

    @property
    def link(self) -> str:
        return link_of(self.project, self.scope, "disks", self.name)


@dataclass(frozen=True, slots=True)
class SetDiskLabels:
    """`disks.setLabels` (or `regionDisks.setLabels`): these labels and no others.

    Refused with 412 (`conditionNotMet`) where they have changed since they were read.
    """

    project: str
    scope: str
    name: str
    id: str  # of the disk that was read
    labels: Mapping[str, str]
    fingerprint: str
    attempt: int
    asker: str = ""  # see `request_id`

    @property
    def link(self) -> str:
        return link_of(self.project, self.scope, "disks", self.name)


@dataclass(frozen=True, slots=True)
class Attachment:
    """A disk as an instance is to have it."""

    source: str  # link; "": an empty local SSD
    device_name: str
    boot: bool
    mode: str  # READ_WRITE | READ_ONLY
    interface: str  # SCSI | NVME
    auto_delete: bool


@dataclass(frozen=True, slots=True)
class InsertInstance:
    """`instances.insert`: an instance with these disks, which is started at once."""

    project: str
    zone: str
    name: str
    definition: Mapping[str, Any]
    """Fields of the v1 resource in REST spelling that are sent as they stand: machineType, networkInterfaces, ..."""
    disks: tuple[Attachment, ...]
    labels: Mapping[str, str]
    metadata: Mapping[str, str]
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Metadata too, of which no record has more than the keys."""
    description: str = ""
    attempt: int = 1  # its name stays: an insertion that was answered and made nothing is asked for as another request
    asker: str = ""  # see `request_id`

    @property
    def link(self) -> str:
        return link_of(self.project, f"zones/{self.zone}", "instances", self.name)


@dataclass(frozen=True, slots=True)
class DeleteInstance:
    """`instances.delete`; `id` is the numeric id that was read under that name just before.

    Disks that are attached with `auto_delete` go with it.
    """

    project: str
    zone: str
    name: str
    id: str
    attempt: int
    asker: str = ""  # see `request_id`

    @property
    def link(self) -> str:
        return link_of(self.project, f"zones/{self.zone}", "instances", self.name)


@dataclass(frozen=True, slots=True)
class StopInstance:
    """`instances.stop`: the guest is told to shut down. What is on its local SSDs is lost."""

    project: str
    zone: str
    name: str
    id: str
    attempt: int
    asker: str = ""  # see `request_id`

    @property
    def link(self) -> str:
        return link_of(self.project, f"zones/{self.zone}", "instances", self.name)


@dataclass(frozen=True, slots=True)
class StartInstance:
    """`instances.start`."""

    project: str
    zone: str
    name: str
    id: str
    attempt: int
    asker: str = ""  # see `request_id`

    @property
    def link(self) -> str:
        return link_of(self.project, f"zones/{self.zone}", "instances", self.name)


@dataclass(frozen=True, slots=True)
class AttachDisk:
    """`instances.attachDisk`: to a boot disk the instance must be TERMINATED."""

    project: str
    zone: str
    name: str  # the instance's
    id: str  # likewise
    disk: Attachment
    attempt: int
    asker: str = ""  # see `request_id`

    @property
    def link(self) -> str:
        return link_of(self.project, f"zones/{self.zone}", "instances", self.name)


@dataclass(frozen=True, slots=True)
class DetachDisk:
    """`instances.detachDisk`, by the name that the instance has for it. The disk stays, whatever its `auto_delete`."""

    project: str
    zone: str
    name: str  # the instance's
    id: str  # likewise
    device_name: str
    attempt: int
    asker: str = ""  # see `request_id`

    @property
    def link(self) -> str:
        return link_of(self.project, f"zones/{self.zone}", "instances", self.name)


Insert = InsertSnapshot | InsertInstantSnapshot | InsertInstantSnapshotGroup | InsertDisk | InsertInstance
Delete = DeleteSnapshot | DeleteInstantSnapshot | DeleteInstantSnapshotGroup | DeleteDisk | DeleteInstance
Set = SetDiskLabels | StopInstance | StartInstance | AttachDisk | DetachDisk
"""What changes something that stays."""
Change = Insert | Delete | Set
"""Every way in which Snapkeep changes the cloud: at once the call, the audit body, the fault point of the tests and
the row of the permission table."""


def request_id(change: Change) -> str:
    """The UUID that lets Compute Engine recognise a repeated request; derived, so that a retry sends the same.

    The same change of the same resource may be wanted twice, by two restores or by two steps of one: `asker` says for
    whom it is, and makes two requests of it.
    """
    what = f"snapkeep:{type(change).__name__}:{change.link}"
    match change:
        case InsertSnapshot() | InsertInstantSnapshot() | InsertInstantSnapshotGroup() | InsertDisk():
            pass
        case InsertInstance():
            what += f":{change.attempt}:{change.asker}"
        case DeleteSnapshot() | DeleteInstantSnapshot() | DeleteInstantSnapshotGroup():
            what += f":{change.id}:{change.attempt}"
        case DeleteDisk():
            what = ":".join(filter(None, (what, change.id, str(change.attempt), change.asker)))
        case DeleteInstance() | SetDiskLabels() | StopInstance() | StartInstance():
            what += f":{change.id}:{change.attempt}:{change.asker}"
        case AttachDisk():
            what += f":{change.id}:{change.disk.device_name}:{change.disk.source}:{change.attempt}:{change.asker}"
        case DetachDisk():
            what += f":{change.id}:{change.device_name}:{change.attempt}:{change.asker}"
        case _:
            assert_never(change)
    return str(uuid.uuid5(uuid.NAMESPACE_URL, what))


def written_to(change: Insert) -> str:
    """The region in which a change stores what it makes."""
    match change:
        case InsertSnapshot():
            return change.location
        case InsertInstantSnapshot() | InsertInstantSnapshotGroup():
            return region_of_scope(change.scope)
        case InsertDisk():
            return region_of_scope(change.scope)
        case InsertInstance():
            return region_of(change.zone)
        case _:
            assert_never(change)


def region_of_scope(scope: str) -> str:
    """The region of `zones/Z` or `regions/R`."""
    kind, _, name = scope.partition("/")
    return region_of(name) if kind == "zones" else name


def audit_body(change: Change) -> dict[str, Any]:
    """The change as an audit record keeps it, with the id of its request; of `secrets` the keys alone."""
    body = {f.name: getattr(change, f.name) for f in fields(change) if f.name not in ("description", "secrets")}
    kept = {name: _plain(value) for name, value in body.items()}
    if isinstance(change, InsertInstance):
        kept["secrets"] = sorted(change.secrets)
    return {"change": type(change).__name__, **kept, "request_id": request_id(change)}


def _plain(value: Any) -> Any:
    if isinstance(value, Attachment):
        return asdict(value)
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return dict(value) if isinstance(value, Mapping) else value


Collection = Literal[
    "instances", "disks", "instantSnapshots", "instantSnapshotGroups", "resourcePolicies", "snapshots", "firewalls"
]


def link_of(project: str, scope: str, collection: Collection, name: str) -> str:
    """A resource's partial URL. `scope`: `zones/Z`, `regions/R` or `global`."""
    return f"projects/{project}/{scope}/{collection}/{name}"


def snapshot_link(project: str, name: str) -> str:
    return link_of(project, "global", "snapshots", name)


def region_of(zone: str) -> str:
    """The region that a zone lies in: `southamerica-east1-a` is in `southamerica-east1`."""
    return zone.rsplit("-", 1)[0]


def partial_link(url: str) -> str:
    """A resource's partial URL, whatever host and version its full one names; "" stays ""."""
    at = url.find("projects/")
    return url[at:] if at >= 0 else ""


def key_without_version(key: str) -> str:
    """A Cloud KMS key's resource name without the version that resources report it with."""
    return key.partition("/cryptoKeyVersions/")[0]


def named(names: Iterable[str]) -> Iterator[str]:
    """List filters that together match exactly these names, at most NAMES_PER_FILTER in each."""
    ordered = sorted(set(names))
    for start in range(0, len(ordered), NAMES_PER_FILTER):
        yield " OR ".join(f'(name = "{name}")' for name in ordered[start : start + NAMES_PER_FILTER])

"""Compute Engine as a state machine: pure, seeded, with its own clock.

What Snapkeep depends on is as Google documents it: snapshots that pass through CREATING and UPLOADING, operations that
are DONE with an error inside, reasons and codes of refusals, quotas by project and minute, the pace of one disk's
snapshots, request ids, label fingerprints, paging, numeric ids that change under a name, incremental chains, and the
contents that a snapshot keeps. Time passes only in `advance`; chance comes from the seed alone. What is to happen is
data, so that a cloud can be saved at any moment and goes on as if it had never been away.
"""

from __future__ import annotations

import base64
import heapq
import json
import random
import re
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal, NotRequired, Self, TypedDict, assert_never

import msgspec

from snapkeep.cloud import NAME, region_of
from snapkeep_local import faults as fault_rules
from snapkeep_local import filters
from snapkeep_local.errors import ApiError, Json, already_exists, invalid, not_found, not_ready
from snapkeep_local.faults import Fault, Struck
from snapkeep_local.limits import DEFAULT, Group, Limits, Pace, Quota

API: Final = "https://www.googleapis.com/compute/v1/"
PAGE_MAX: Final = 500
REQUEST_REMEMBERED: Final = timedelta(hours=1)
GIB: Final = 1 << 30

FIRST_BYTES_PER_S: Final = 200 * (1 << 20)
"""What a full upload moves in a second; a first snapshot of 100 GiB with half of it in use takes about 4 minutes."""

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

Kind = Literal["instances", "disks", "snapshots", "operations"]


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
    written: int = 0  # bytes changed by hand since it was made, beside the daily change
    changes_per_day: float = 0.02  # share of what is in use that changes in a day

    @property
    def link(self) -> str:
        where = f"zones/{self.zone}" if self.zone else f"regions/{self.region}"
        return f"projects/{self.project}/{where}/disks/{self.name}"


@dataclass(slots=True)
class Attached:
    device_name: str
    source: str
    boot: bool
    mode: str = "READ_WRITE"
    interface: str = "SCSI"
    auto_delete: bool = True
    persistent: bool = True


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

    @property
    def link(self) -> str:
        return f"projects/{self.project}/global/snapshots/{self.name}"


@dataclass(slots=True)
class Operation:
    id: str
    name: str
    link: str
    kind: str
    target: str
    target_id: str
    request_id: str | None
    asked_at: datetime
    status: str = "PENDING"
    started_at: datetime | None = None
    ended_at: datetime | None = None
    error: OperationError | None = None


class Accepted(TypedDict):
    """A change that was accepted: a line of `Cloud.log`."""

    method: str
    link: str
    id: str  # of what was made or changed
    request_id: str | None
    at: datetime
    source_disk_id: NotRequired[str]


# --- what is to happen --------------------------------------------------------------------------------------------


class _Happening(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind"):
    pass


class OperationEnds(_Happening, frozen=True, tag="operation_ends"):
    operation: str  # its link
    error: OperationError | None


class SnapshotTurns(_Happening, frozen=True, tag="snapshot_turns"):
    """Nothing happens to one that is gone, or of which another has taken the name."""

    snapshot: str  # its link
    id: str
    status: str


class SnapshotGoes(_Happening, frozen=True, tag="snapshot_goes"):
    """Likewise."""

    snapshot: str  # its link
    id: str


Happening = OperationEnds | SnapshotTurns | SnapshotGoes

Chance = tuple[int, tuple[int, ...], float | None]
"""The state of a `random.Random`."""


class Saved(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole Cloud as data; `msgspec.json` writes and reads it exactly."""

    now: datetime
    limits: Limits
    calls: dict[str, int]
    log: list[Accepted]
    chance: Chance
    ids: Chance
    faults_chance: Chance
    faults: dict[int, tuple[Fault, int]]
    faults_added: int
    quota: list[tuple[tuple[str, Group], tuple[int, int]]]
    pace: dict[str, list[datetime]]
    disks: list[Disk]
    instances: list[Instance]
    snapshots: list[Snapshot]
    operations: list[Operation]
    chains: list[tuple[tuple[str, str], list[str]]]  # the snapshots by their links
    requests: list[tuple[tuple[str, str], tuple[datetime, str]]]
    agenda: list[tuple[datetime, int, Happening]]
    order: int


class Cloud:
    """All projects of the simulated Compute Engine. Not safe for threads: callers hold a lock."""

    def __init__(self, seed: int, now: datetime, limits: Limits = DEFAULT) -> None:
        self.now = now
        self.calls: Counter[str] = Counter()
        self.log: list[Accepted] = []
        """Every accepted change: method, link, request id, the time, and the numeric id that it made."""
        self._chance = random.Random(f"cloud:{seed}")  # noqa: S311 - a seeded simulation, not a secret
        self._ids = random.Random(f"ids:{seed}")  # noqa: S311 - a seeded simulation, not a secret
        self._faults = fault_rules.Faults(random.Random(f"faults:{seed}"))  # noqa: S311 - likewise
        self._quota = Quota(limits)
        self._limits = limits
        self._pace = Pace(limits)
        self._disks: dict[str, Disk] = {}
        self._instances: dict[str, Instance] = {}
        self._snapshots: dict[str, Snapshot] = {}
        self._operations: dict[str, Operation] = {}
        self._by_project: dict[tuple[str, str], dict[str, Any]] = defaultdict(dict)
        self._chains: dict[tuple[str, str], list[Snapshot]] = defaultdict(list)
        self._requests: dict[tuple[str, str], tuple[datetime, str]] = {}
        self._shown: dict[str, Json] = {}
        """Instances and disks in their REST shape, by link, as they have been since the fleet was last changed."""
        self._shown_snapshots: dict[str, tuple[tuple[object, ...], Json]] = {}
        """Snapshots likewise, each with all that can change in one."""
        self._agenda: list[tuple[datetime, int, Happening]] = []
        self._order = 0

    # --- saved and resumed --------------------------------------------------------------------------------------

    def saved(self) -> Saved:
        """All of it. The resources in it are this cloud's own: write it down before the cloud goes on."""
        return Saved(
            now=self.now,
            limits=self._limits,
            calls=self.calls,
            log=self.log,
            chance=_state_of(self._chance),
            ids=_state_of(self._ids),
            faults_chance=_state_of(self._faults.rng),
            faults=self._faults.active,
            faults_added=self._faults.added,
            quota=list(self._quota.spent.items()),
            pace={disk: list(taken) for disk, taken in self._pace.taken.items()},
            disks=list(self._disks.values()),
            instances=list(self._instances.values()),
            snapshots=list(self._snapshots.values()),
            operations=list(self._operations.values()),
            chains=[(key, [one.link for one in chain]) for key, chain in self._chains.items()],
            requests=list(self._requests.items()),
            agenda=self._agenda,
            order=self._order,
        )

    @classmethod
    def resumed(cls, saved: Saved) -> Self:
        """The cloud that was saved, which goes on as that one would have. It takes what `saved` holds for its own."""
        cloud = cls(0, saved.now, saved.limits)
        cloud.calls.update(saved.calls)
        cloud.log = saved.log
        cloud._chance.setstate(saved.chance)
        cloud._ids.setstate(saved.ids)
        cloud._faults.rng.setstate(saved.faults_chance)
        cloud._faults = fault_rules.Faults(cloud._faults.rng, saved.faults, saved.faults_added)
        cloud._quota.spent.update(saved.quota)
        for disk_id, taken in saved.pace.items():
            cloud._pace.taken[disk_id].extend(taken)
        for disk in saved.disks:
            cloud._disks[disk.link] = cloud._by_project[disk.project, "disks"][disk.link] = disk
        for instance in saved.instances:
            cloud._instances[instance.link] = instance
            cloud._by_project[instance.project, "instances"][instance.link] = instance
        for snapshot in saved.snapshots:
            cloud._store_snapshot(snapshot)
        for operation in saved.operations:
            cloud._store_operation(operation)
        for key, links in saved.chains:
            cloud._chains[key] = [cloud._snapshots[link] for link in links]
        cloud._requests.update(saved.requests)
        cloud._agenda = saved.agenda
        cloud._order = saved.order
        return cloud

    # --- time -------------------------------------------------------------------------------------------------

    def advance(self, to: datetime) -> None:
        """Let time pass; what falls due meanwhile happens in its order. Raises ValueError for a time that has been."""
        if to < self.now:
            raise ValueError(f"the clock stands at {self.now} and does not go back to {to}")
        while self._agenda and self._agenda[0][0] <= to:
            self.now, _, happening = heapq.heappop(self._agenda)
            self._happen(happening)
        self.now = to

    def _at(self, when: datetime, happening: Happening) -> None:
        self._order += 1
        heapq.heappush(self._agenda, (when, self._order, happening))

    def _happen(self, happening: Happening) -> None:
        match happening:
            case OperationEnds():
                operation = self._operations[happening.operation]
                operation.status, operation.ended_at, operation.error = "DONE", self.now, happening.error
            case SnapshotTurns():
                self._turn(self._same(happening.snapshot, happening.id), happening.status)
            case SnapshotGoes():
                self._vanish(self._same(happening.snapshot, happening.id))
            case _:
                assert_never(happening)

    def _same(self, link: str, id: str) -> Snapshot | None:
        found = self._snapshots.get(link)
        return found if found and found.id == id else None

    def _id(self) -> str:
        """A numeric id as Compute Engine has them: up to 2**64 - 1, so that half of them fit no int64."""
        return str(self._ids.getrandbits(64) | 1)

    # --- the fleet, as its owners change it ---------------------------------------------------------------------

    def add_disk(
        self,
        *,
        project: str,
        zone: str,
        name: str,
        type: str = "pd-balanced",
        size_gb: int = 20,
        content: str | None = None,
        replica_zones: tuple[str, ...] = (),
        labels: Mapping[str, str] | None = None,
        kms_key: str | None = None,
        customer_supplied_key: bool = False,
        boot: bool = False,
        architecture: str = "X86_64",
        provisioned_iops: int | None = None,
        provisioned_throughput: int | None = None,
    ) -> str:
        """Make a disk, regional if it has `replica_zones`; returns its link.

        Raises ApiError 400 for what is no name or no region's zones, 409 if it exists.
        """
        _check_name(name)
        if replica_zones and (zone not in replica_zones or len({region_of(one) for one in replica_zones}) != 1):
            raise invalid("replicaZones", list(replica_zones), f"They must be of one region, with {zone} among them.")
        disk = Disk(
            id=self._id(),
            name=name,
            project=project,
            zone=None if replica_zones else zone,
            region=region_of(zone),
            replica_zones=replica_zones,
            type=type,
            size_gb=size_gb,
            created_at=self.now,
            content=content if content is not None else f"{self._chance.getrandbits(64):016x}",
            labels=dict(labels or {}),
            kms_key=kms_key,
            customer_supplied_key=customer_supplied_key,
            architecture=architecture,
            guest_os_features=("VIRTIO_SCSI_MULTIQUEUE", "UEFI_COMPATIBLE") if boot else (),
            provisioned_iops=provisioned_iops,
            provisioned_throughput=provisioned_throughput,
            changes_per_day=self._chance.uniform(0.002, 0.05),
        )
        if disk.link in self._disks:
            raise already_exists(disk.link)
        self._disks[disk.link] = disk
        self._by_project[project, "disks"][disk.link] = disk
        self._shown.clear()
        return disk.link

    def add_instance(
        self,
        *,
        project: str,
        zone: str,
        name: str,
        disks: Iterable[str] = (),
        labels: Mapping[str, str] | None = None,
        metadata: Mapping[str, str] | None = None,
        machine_type: str = "e2-standard-2",
        local_ssds: int = 0,
        tags: Iterable[str] = (),
        service_account: str | None = None,
    ) -> str:
        """Make a running instance with these disks (links) attached, the first as its boot disk; returns its link.

        Raises ApiError 400 for what is no name, 404 for a disk that there is not, 409 if it exists.
        """
        _check_name(name)
        attached = [
            Attached(
                device_name="persistent-disk-0" if index == 0 else disk.rsplit("/", 1)[1],
                source=disk,
                boot=index == 0,
                auto_delete=index == 0,
            )
            for index, disk in enumerate(disks)
        ]
        attached += [
            Attached(f"local-ssd-{n}", "", boot=False, interface="NVME", persistent=False) for n in range(local_ssds)
        ]
        instance = Instance(
            id=self._id(),
            name=name,
            project=project,
            zone=zone,
            created_at=self.now,
            disks=attached,
            labels=dict(labels or {}),
            definition=self._define(project, zone, machine_type, metadata or {}, tags, service_account),
        )
        if instance.link in self._instances:
            raise already_exists(instance.link)
        # All of them are found before the first is changed.
        for disk in [self._disk(one.source) for one in attached if one.persistent]:
            disk.users.append(instance.link)
        self._instances[instance.link] = instance
        self._by_project[project, "instances"][instance.link] = instance
        self._shown.clear()
        return instance.link

    def _define(
        self,
        project: str,
        zone: str,
        machine_type: str,
        metadata: Mapping[str, str],
        tags: Iterable[str],
        service_account: str | None,
    ) -> Json:
        address = ".".join(str(self._chance.randrange(2, 250)) for _ in range(2))
        region = region_of(zone)
        accounts = [service_account] if service_account else []
        return {
            "machineType": f"{API}projects/{project}/zones/{zone}/machineTypes/{machine_type}",
            "canIpForward": False,
            "deletionProtection": False,
            "networkInterfaces": [
                {
                    "name": "nic0",
                    "network": f"{API}projects/{project}/global/networks/default",
                    "subnetwork": f"{API}projects/{project}/regions/{region}/subnetworks/default",
                    "networkIP": f"10.128.{address}",
                    "stackType": "IPV4_ONLY",
                }
            ],
            "tags": {"fingerprint": "42WmSpB8rSM=", **_unless_empty("items", sorted(tags))},
            "metadata": {
                "fingerprint": "5Pw0wJB7bAY=",
                **_unless_empty("items", [{"key": key, "value": value} for key, value in sorted(metadata.items())]),
            },
            **_unless_empty(
                "serviceAccounts",
                [
                    {"email": account, "scopes": ["https://www.googleapis.com/auth/cloud-platform"]}
                    for account in accounts
                ],
            ),
            "scheduling": {"automaticRestart": True, "onHostMaintenance": "MIGRATE", "preemptible": False},
            "shieldedInstanceConfig": {"enableSecureBoot": True, "enableVtpm": True, "enableIntegrityMonitoring": True},
        }

    def remove_instance(self, link: str) -> None:
        """Delete an instance; its disks stay."""
        instance = self._instance(link)
        for attached in instance.disks:
            if attached.persistent:
                self._disk(attached.source).users.remove(link)
        del self._instances[link]
        del self._by_project[instance.project, "instances"][link]
        self._shown.clear()

    def replace_instance(self, link: str) -> None:
        """Delete an instance and make one of the same name with the same disks: its numeric id is another."""
        self._instance(link).id = self._id()
        self._instance(link).created_at = self.now
        self._shown.clear()

    def attach_disk(self, instance: str, disk: str) -> None:
        """Attach a disk as a data disk. Raises ApiError if it is attached there already."""
        one, wanted = self._instance(instance), self._disk(disk)
        if instance in wanted.users:
            raise ApiError(400, "resourceInUseByAnotherResource", f"'{disk}' is in use by '{instance}'")
        one.disks.append(Attached(disk.rsplit("/", 1)[1], disk, boot=False, auto_delete=False))
        wanted.users.append(instance)
        self._shown.clear()

    def detach_disk(self, instance: str, disk: str) -> None:
        """Detach a disk. Raises ApiError if it is not attached there."""
        one, unwanted = self._instance(instance), self._disk(disk)
        if instance not in unwanted.users:
            raise invalid("disk", disk, f"It is not attached to '{instance}'.")
        one.disks = [attached for attached in one.disks if attached.source != disk]
        unwanted.users.remove(instance)
        self._shown.clear()

    def remove_disk(self, link: str) -> None:
        """Delete a disk. Raises ApiError while it is attached."""
        disk = self._disk(link)
        if disk.users:
            raise ApiError(400, "resourceInUseByAnotherResource", f"'{link}' is in use by '{disk.users[0]}'")
        del self._disks[link]
        del self._by_project[disk.project, "disks"][link]
        self._shown.clear()

    def replace_disk(self, link: str) -> None:
        """Another disk under the same name, attached where the old one was: its numeric id and contents are new."""
        disk = self._disk(link)
        disk.id = self._id()
        disk.created_at = self.now
        disk.written = 0
        disk.content = f"{self._chance.getrandbits(64):016x}"
        self._shown.clear()

    def resize_disk(self, link: str, *, size_gb: int) -> None:
        """Grow a disk. Raises ApiError for a size below its own."""
        disk = self._disk(link)
        if size_gb < disk.size_gb:
            raise invalid("sizeGb", size_gb, "A disk cannot be made smaller.")
        disk.size_gb = size_gb
        self._shown.clear()

    def write(self, link: str, content: str) -> None:
        """Write new contents to a disk."""
        disk = self._disk(link)
        disk.written += 64 << 20
        disk.content = content

    def plant_snapshot(
        self,
        *,
        project: str,
        name: str,
        labels: Mapping[str, str] | None = None,
        source_disk: str | None = None,
        location: str = "us-east4",
    ) -> str:
        """A READY snapshot made by somebody else, whatever it claims in its labels; returns its link.

        Of the disk with this link; left out, of a disk that is none of ours. Nothing if the name is taken.
        """
        link = f"projects/{project}/global/snapshots/{name}"
        if link in self._snapshots:
            return link
        source, source_id = f"projects/{project}/zones/us-east4-a/disks/foreign", None
        if source_disk is not None:
            source, source_id = source_disk, self._disk(source_disk).id
        said = dict(labels or {})
        self._store_snapshot(
            Snapshot(
                self._id(), name, project, "READY", source, source_id or self._id(), location, 10, self.now, 1 << 20,
                "foreign", said, "", None, 0, self._fingerprint(said),
            )
        )  # fmt: skip
        return link

    def remove_snapshot(self, link: str) -> None:
        """A snapshot that somebody else deletes; it is gone at once. Raises ApiError 404 if it is not there."""
        if link not in self._snapshots:
            raise not_found(link)
        self._vanish(self._snapshots[link])

    # --- reads ------------------------------------------------------------------------------------------------

    def get(self, kind: Literal["instances", "disks", "snapshots"], link: str) -> Json:
        """`instances.get`, `disks.get`, `snapshots.get`. Raises ApiError."""
        self._call(f"{kind}.get", _project_of(link), "reads", (link,))
        found = self._table(kind).get(link)
        if found is None:
            raise not_found(link)
        return self._show(link, found)

    def get_operation(self, link: str) -> Json:
        """`globalOperations.get`, `zoneOperations.get`, `regionOperations.get`, by its link. Raises ApiError."""
        methods = {"zones": "zoneOperations.get", "regions": "regionOperations.get"}
        self._call(methods.get(link.split("/")[2], "globalOperations.get"), _project_of(link), "reads", (link,))
        found = self._operations.get(link)
        if found is None:
            raise not_found(link)
        return self._render(found)

    def page(
        self, kind: Kind, project: str, *, filter: str = "", max_results: int = PAGE_MAX, page_token: str = ""
    ) -> tuple[list[Json], str]:
        """One page of a project's resources, of all zones and regions, and the token of the next ("": none).

        The method is `snapshots.list`, `globalOperations.list`, else `{kind}.aggregatedList`. Raises ApiError.
        """
        methods = {"snapshots": "snapshots.list", "operations": "globalOperations.list"}
        method = methods.get(kind, f"{kind}.aggregatedList")
        self._call(method, project, "lists", (f"projects/{project}",))
        if not 1 <= max_results <= PAGE_MAX:
            raise invalid("maxResults", max_results, f"It must be between 1 and {PAGE_MAX}.")
        wanted = filters.parse(filter)
        after = _unpack(page_token, project)
        page: list[Json] = []
        for link, resource in self._candidates(kind, project, wanted):
            if link <= after:
                continue
            rendered = self._show(link, resource)
            if wanted.matches(rendered):
                if len(page) == max_results:
                    return page, _pack(_partial(page[-1]["selfLink"]))
                page.append(rendered)
        return page, ""

    def _candidates(self, kind: Kind, project: str, wanted: filters.Filter) -> Iterator[tuple[str, Any]]:
        table = self._by_project[project, kind]
        names = wanted.names  # worked out anew each time that it is asked for
        if names is None:
            yield from sorted(table.items())
        elif kind in ("snapshots", "operations"):
            for name in sorted(names):
                link = f"projects/{project}/global/{kind}/{name}"
                if link in table:
                    yield link, table[link]
        else:
            yield from sorted((link, found) for link, found in table.items() if found.name in names)

    def scopes(self) -> list[str]:
        """The zones and regions that hold anything, of any project: `zones/Z`, `regions/R`."""
        links = (link for kind in (self._instances, self._disks) for link in kind)
        return sorted({"/".join(link.split("/")[2:4]) for link in links})

    # --- changes ----------------------------------------------------------------------------------------------

    def insert_snapshot(self, project: str, body: Mapping[str, Any], request_id: str | None = None) -> Json:
        """`snapshots.insert`: returns its operation. Raises ApiError."""
        link = f"projects/{project}/global/snapshots/{body.get('name', '')}"
        source = _partial(str(body.get("sourceDisk", "")))
        struck = self._call(fault_rules.INSERT, project, "mutations", (link, source))
        return self._answer(struck, lambda: self._insert_snapshot(project, link, source, body, request_id, struck))

    def _insert_snapshot(
        self, project: str, link: str, source: str, body: Mapping[str, Any], request_id: str | None, struck: Struck
    ) -> Operation:
        repeated = self._repeated(fault_rules.INSERT, request_id)
        if repeated:
            return repeated
        _check_name(str(body.get("name", "")))
        locations = list(body.get("storageLocations") or [])
        if len(locations) > 1:
            raise invalid("resource.storageLocations", locations, "At most one storage location can be given.")
        if link in self._snapshots:
            raise already_exists(link)
        disk = self._disk(source)
        if disk.status != "READY":
            raise not_ready(source)
        in_pace = self._pace.take(disk.id, self.now)
        too_often = ("RESOURCE_OPERATION_RATE_EXCEEDED", f"Operation rate exceeded for resource '{source}'.")
        if not in_pace and self._limits.snapshot_rate_answer == "call":
            raise ApiError(429, *too_often)
        operation = self._operate(fault_rules.INSERT, project, link, request_id)
        if not in_pace:
            self._finish(operation, timedelta(seconds=1), (*too_often, None))
            return operation
        if struck.fails and struck.fails.snapshot == "absent":
            error = (struck.fails.code, struck.fails.message, struck.fails.http_status)
            self._finish(operation, timedelta(seconds=self._chance.uniform(2, 30)), error)
            return operation
        self._take_snapshot(project, disk, body, locations, operation, struck)
        return operation

    def _take_snapshot(
        self,
        project: str,
        disk: Disk,
        body: Mapping[str, Any],
        locations: list[str],
        operation: Operation,
        struck: Struck,
    ) -> None:
        location = locations[0] if locations else _multi_region(disk.region)
        chain = self._chains[disk.id, location]
        changed = self._changed(disk, chain)
        labels = dict(body.get("labels") or {})
        key = (body.get("snapshotEncryptionKey") or {}).get("kmsKeyName") or disk.kms_key
        snapshot = Snapshot(
            id=operation.target_id,
            name=str(body["name"]),
            project=project,
            status="CREATING",
            source=disk.link,
            source_id=disk.id,
            location=location,
            size_gb=disk.size_gb,
            created_at=self.now,
            bytes=changed,
            content=disk.content,
            labels=labels,
            description=str(body.get("description", "")),
            kms_key=key,
            written=disk.written,
            fingerprint=self._fingerprint(labels),
        )
        self._store_snapshot(snapshot)
        chain.append(snapshot)
        self.log.append(
            {
                "method": fault_rules.INSERT,
                "link": snapshot.link,
                "id": snapshot.id,
                "request_id": operation.request_id,
                "at": self.now,
                "source_disk_id": disk.id,
            }
        )
        seconds = (self._chance.uniform(20, 90) + changed / FIRST_BYTES_PER_S) * struck.slow
        create, whole = timedelta(seconds=min(seconds, 10)), timedelta(seconds=seconds)
        uploads = SnapshotTurns(snapshot.link, snapshot.id, "UPLOADING")
        if struck.vanishes_after_s is not None:
            self._at(self.now + timedelta(seconds=struck.vanishes_after_s), SnapshotGoes(snapshot.link, snapshot.id))
        if struck.stuck:
            operation.status, operation.started_at = "RUNNING", self.now
            if struck.stuck.snapshot == "UPLOADING":
                self._at(self.now + create, uploads)
            return
        bad = struck.snapshot_fails or struck.fails is not None
        self._at(self.now + create, uploads)
        self._at(self.now + whole, SnapshotTurns(snapshot.link, snapshot.id, "FAILED" if bad else "READY"))
        fails = struck.fails
        self._finish(operation, whole, (fails.code, fails.message, fails.http_status) if fails else None)

    def delete_snapshot(self, link: str, request_id: str | None = None) -> Json:
        """`snapshots.delete`: its bytes that later snapshots need move to the next of its chain. Raises ApiError."""
        project = _project_of(link)
        struck = self._call(fault_rules.DELETE, project, "mutations", (link,))
        return self._answer(struck, lambda: self._delete_snapshot(project, link, request_id, struck))

    def _delete_snapshot(self, project: str, link: str, request_id: str | None, struck: Struck) -> Operation:
        repeated = self._repeated(fault_rules.DELETE, request_id)
        if repeated:
            return repeated
        snapshot = self._snapshots.get(link)
        if snapshot is None:
            raise not_found(link)
        if snapshot.status in ("CREATING", "DELETING"):
            raise not_ready(link)
        operation = self._operate(fault_rules.DELETE, project, link, request_id, snapshot.id)
        if struck.stuck:
            operation.status, operation.started_at = "RUNNING", self.now
            return operation
        took = timedelta(seconds=self._chance.uniform(2, 20) * struck.slow)
        if struck.fails or struck.deletion_lies:
            fails = struck.fails
            self._finish(operation, took, (fails.code, fails.message, fails.http_status) if fails else None)
            return operation
        snapshot.status = "DELETING"
        self.log.append(
            {"method": fault_rules.DELETE, "link": link, "id": snapshot.id, "request_id": request_id, "at": self.now}
        )
        self._at(self.now + took, SnapshotGoes(snapshot.link, snapshot.id))
        self._finish(operation, took, None)
        return operation

    def set_snapshot_labels(
        self, link: str, labels: Mapping[str, str], fingerprint: str, request_id: str | None = None
    ) -> Json:
        """`snapshots.setLabels`. Raises ApiError, 412 `conditionNotMet` for labels that were changed meanwhile."""
        project = _project_of(link)
        struck = self._call("snapshots.setLabels", project, "mutations", (link,))
        return self._answer(struck, lambda: self._set_labels(project, link, labels, fingerprint, request_id, struck))

    def _set_labels(
        self,
        project: str,
        link: str,
        labels: Mapping[str, str],
        fingerprint: str,
        request_id: str | None,
        struck: Struck,
    ) -> Operation:
        repeated = self._repeated("snapshots.setLabels", request_id)
        if repeated:
            return repeated
        snapshot = self._snapshots.get(link)
        if snapshot is None:
            raise not_found(link)
        if fingerprint != snapshot.fingerprint:
            raise ApiError(412, "conditionNotMet", "Supplied fingerprint does not match current metadata fingerprint.")
        operation = self._operate("snapshots.setLabels", project, link, request_id, snapshot.id)
        if struck.stuck:
            operation.status, operation.started_at = "RUNNING", self.now
            return operation
        took = timedelta(seconds=struck.slow)
        if struck.fails:
            self._finish(operation, took, (struck.fails.code, struck.fails.message, struck.fails.http_status))
            return operation
        snapshot.labels = dict(labels)
        snapshot.fingerprint = self._fingerprint(snapshot.labels)
        self.log.append(
            {"method": operation.kind, "link": link, "id": snapshot.id, "request_id": request_id, "at": self.now}
        )
        self._finish(operation, took, None)
        return operation

    # --- faults, and what a judge may look at -------------------------------------------------------------------

    def add_fault(self, fault: Fault) -> int:
        """Put a fault in force; returns its number."""
        return self._faults.add(fault)

    def clear_faults(self, number: int | None = None) -> None:
        """End one fault, or all. Raises KeyError for one that is not in force."""
        self._faults.clear(number)

    def faults(self) -> list[Json]:
        return self._faults.list()

    def instances(self) -> list[Instance]:
        return list(self._instances.values())

    def snapshots(self) -> list[Json]:
        """Every snapshot that there is now, in its REST shape; no call is counted."""
        return [self._render(snapshot) for snapshot in self._snapshots.values()]

    def snapshot(self, project: str, name: str) -> Json | None:
        found = self._snapshots.get(f"projects/{project}/global/snapshots/{name}")
        return self._render(found) if found else None

    def attached_disk_ids(self, project: str, zone: str, name: str) -> set[str]:
        """The numeric ids of the persistent disks attached to an instance now."""
        instance = self._instance(f"projects/{project}/zones/{zone}/instances/{name}")
        return {self._disk(attached.source).id for attached in instance.disks if attached.persistent}

    def content(self, snapshot_link: str) -> str:
        """What a snapshot holds."""
        return self._snapshots[snapshot_link].content

    def state(self) -> Json:
        """Everything, in JSON's types."""
        return {
            "now": _time(self.now),
            "instances": [self._render(one) for _, one in sorted(self._instances.items())],
            "disks": [self._render(one) | {"content": one.content} for _, one in sorted(self._disks.items())],
            "snapshots": [self._render(one) | {"content": one.content} for _, one in sorted(self._snapshots.items())],
            "operations": [self._render(one) for _, one in sorted(self._operations.items())],
            "faults": self.faults(),
            "calls": dict(sorted(self.calls.items())),
            "log": [{**entry, "at": _time(entry["at"])} for entry in self.log],
        }

    # --- within -----------------------------------------------------------------------------------------------

    def _call(self, method: str, project: str, group: Group, links: tuple[str, ...]) -> Struck:
        self.calls[method] += 1
        self._quota.spend(project, group, self.now)
        struck = self._faults.strike(method, links)
        if struck.error and method not in fault_rules.MUTATIONS:
            raise struck.error
        return struck

    def _answer(self, struck: Struck, change: Callable[[], Operation]) -> Json:
        """The operation that a change starts. Raises ApiError: its refusal, or an error that hides how it went."""
        try:
            operation = change()
        except ApiError:
            if struck.error:
                raise struck.error from None
            raise
        if struck.error:
            raise struck.error
        return self._render(operation)

    def _repeated(self, method: str, request_id: str | None) -> Operation | None:
        """The operation that this very request started before.

        Raises ApiError for an id that is no UUID, or the zero UUID, which is documented not to be supported.
        """
        if request_id is None:
            return None
        if not _UUID.fullmatch(request_id) or not int(request_id.replace("-", ""), 16):
            raise invalid("requestId", request_id, "It must be a valid UUID, and not the zero UUID.")
        known = self._requests.get((method, request_id))
        if known is None or self.now - known[0] > REQUEST_REMEMBERED:
            return None
        return self._operations[known[1]]

    def _operate(
        self, kind: str, project: str, target: str, request_id: str | None, target_id: str | None = None
    ) -> Operation:
        id = self._id()
        name = f"operation-{int(self.now.timestamp() * 1000)}-{id[:12]}"
        link = f"projects/{project}/global/operations/{name}"
        operation = Operation(id, name, link, kind, target, target_id or self._id(), request_id, asked_at=self.now)
        self._store_operation(operation)
        if request_id is not None:
            self._requests[kind, request_id] = (self.now, link)
        return operation

    def _finish(self, operation: Operation, after: timedelta, error: OperationError | None) -> None:
        operation.status, operation.started_at = "RUNNING", self.now
        self._at(self.now + after, OperationEnds(operation.link, error))

    def _turn(self, snapshot: Snapshot | None, status: str) -> None:
        if snapshot and snapshot.status in ("CREATING", "UPLOADING"):
            snapshot.status = status
            if status == "FAILED":
                # Nothing can build on it: what it was to hold, the next one holds.
                self._leave_chain(snapshot)

    def _vanish(self, snapshot: Snapshot | None) -> None:
        if snapshot is None:
            return
        del self._snapshots[snapshot.link]
        del self._by_project[snapshot.project, "snapshots"][snapshot.link]
        self._shown_snapshots.pop(snapshot.link, None)
        self._leave_chain(snapshot)

    def _leave_chain(self, snapshot: Snapshot) -> None:
        chain = self._chains[snapshot.source_id, snapshot.location]
        for at, one in enumerate(chain):
            if one is snapshot:
                del chain[at]
                if at < len(chain):
                    # What the next one shared with it is now its own.
                    chain[at].bytes += snapshot.bytes
                return

    def _changed(self, disk: Disk, chain: list[Snapshot]) -> int:
        """Bytes that a snapshot of the disk holds: all that is in use, or what changed since the last in its chain."""
        used = disk.size_gb * GIB // 2
        if not chain:
            return used
        last = chain[-1]
        days = (self.now - last.created_at) / timedelta(days=1)
        return min(int(used * disk.changes_per_day * days) + disk.written - last.written, used)

    def _store_snapshot(self, snapshot: Snapshot) -> None:
        self._snapshots[snapshot.link] = snapshot
        self._by_project[snapshot.project, "snapshots"][snapshot.link] = snapshot

    def _store_operation(self, operation: Operation) -> None:
        self._operations[operation.link] = operation
        self._by_project[_project_of(operation.link), "operations"][operation.link] = operation

    def _disk(self, link: str) -> Disk:
        disk = self._disks.get(link)
        if disk is None:
            raise not_found(link)
        return disk

    def _instance(self, link: str) -> Instance:
        instance = self._instances.get(link)
        if instance is None:
            raise not_found(link)
        return instance

    def _table(self, kind: Kind) -> Mapping[str, Any]:
        match kind:
            case "instances":
                return self._instances
            case "disks":
                return self._disks
            case "snapshots":
                return self._snapshots
            case "operations":
                return self._operations

    @staticmethod
    def _fingerprint(labels: Mapping[str, str]) -> str:
        text = json.dumps(labels, sort_keys=True)
        return base64.b64encode(uuid.uuid5(uuid.NAMESPACE_OID, text).bytes[:8]).decode()

    def _show(self, link: str, resource: Any) -> Json:
        """A resource as a read answers it: the same dict, until it changes. Operations are few, and made anew."""
        if isinstance(resource, Operation):
            return self._render(resource)
        if isinstance(resource, Snapshot):
            return self._show_snapshot(link, resource)
        shown = self._shown.get(link)
        if shown is None:
            shown = self._shown[link] = self._render(resource)
        return shown

    def _show_snapshot(self, link: str, snapshot: Snapshot) -> Json:
        can_change = (snapshot.id, snapshot.status, snapshot.bytes, snapshot.fingerprint)
        known = self._shown_snapshots.get(link)
        if known is None or known[0] != can_change:
            known = self._shown_snapshots[link] = (can_change, self._render(snapshot))
        return known[1]

    def _render(self, resource: Any) -> Json:
        match resource:
            case Instance():
                return _instance_json(resource, self._disks, self._fingerprint(resource.labels))
            case Disk():
                return _disk_json(resource, self._fingerprint(resource.labels))
            case Snapshot():
                return _snapshot_json(resource)
            case Operation():
                return _operation_json(resource)
        raise TypeError(type(resource))


# --- the REST shape -----------------------------------------------------------------------------------------------


def _instance_json(one: Instance, disks: Mapping[str, Disk], fingerprint: str) -> Json:
    return {
        "kind": "compute#instance",
        "id": one.id,
        "name": one.name,
        "creationTimestamp": _time(one.created_at),
        "zone": f"{API}projects/{one.project}/zones/{one.zone}",
        "selfLink": API + one.link,
        "status": one.status,
        **_unless_empty("labels", dict(one.labels)),
        "labelFingerprint": fingerprint,
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
            for index, attached in enumerate(one.disks)
        ],
        **one.definition,
    }  # fmt: skip


def _disk_json(one: Disk, fingerprint: str) -> Json:
    where = f"zones/{one.zone}" if one.zone else f"regions/{one.region}"
    scope = {"zone": f"{API}projects/{one.project}/{where}"} if one.zone else {
        "region": f"{API}projects/{one.project}/{where}",
        "replicaZones": [f"{API}projects/{one.project}/zones/{zone}" for zone in one.replica_zones],
    }  # fmt: skip
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
        "creationTimestamp": _time(one.created_at),
        "selfLink": API + one.link,
        "status": one.status,
        "sizeGb": str(one.size_gb),
        "type": f"{API}projects/{one.project}/{where}/diskTypes/{one.type}",
        **_unless_empty("labels", dict(one.labels)),
        "labelFingerprint": fingerprint,
        **_unless_empty("users", [API + user for user in one.users]),
        **({"architecture": one.architecture} if one.architecture else {}),
        **_unless_empty("guestOsFeatures", [{"type": feature} for feature in one.guest_os_features]),
        **scope,
        **key,
        **{name: str(value) for name, value in limits.items() if value is not None},
    }


def _snapshot_json(one: Snapshot) -> Json:
    return {
        "kind": "compute#snapshot",
        "id": one.id,
        "name": one.name,
        "description": one.description,
        "creationTimestamp": _time(one.created_at),
        "selfLink": API + one.link,
        "status": one.status,
        "sourceDisk": API + one.source,
        "sourceDiskId": one.source_id,
        "diskSizeGb": str(one.size_gb),
        "storageBytes": str(one.bytes if one.status == "READY" else 0),
        "storageBytesStatus": "UP_TO_DATE" if one.status == "READY" else "UPDATING",
        "storageLocations": [one.location],
        **_unless_empty("labels", dict(one.labels)),
        "labelFingerprint": one.fingerprint,
        **({"snapshotEncryptionKey": {"kmsKeyName": f"{one.kms_key}/cryptoKeyVersions/1"}} if one.kms_key else {}),
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
        "operationType": one.kind.partition(".")[2],
        "selfLink": API + one.link,
        "targetLink": API + one.target,
        "targetId": one.target_id,
        "status": one.status,
        "progress": 100 if one.status == "DONE" else 0,
        "insertTime": _time(one.asked_at),
        **({"clientOperationId": one.request_id} if one.request_id else {}),
        **({"startTime": _time(one.started_at)} if one.started_at else {}),
        **({"endTime": _time(one.ended_at)} if one.ended_at else {}),
        **error,
    }


def _unless_empty(name: str, value: Json | list[Any]) -> Json:
    """A field as the API shows it: one without members is left out."""
    return {name: value} if value else {}


def _time(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds")


def _state_of(chance: random.Random) -> Chance:
    version, numbers, gauss = chance.getstate()
    return version, numbers, gauss


def _project_of(link: str) -> str:
    return link.split("/")[1]


def _partial(url: str) -> str:
    at = url.find("projects/")
    return url[at:] if at >= 0 else url


def _multi_region(region: str) -> str:
    """Where Compute Engine stores a snapshot that names no place: the multi-region nearest to the disk."""
    continent = re.split(r"[-\d]", region)[0]
    nearest = {"europe": "eu", "me": "eu", "africa": "eu", "asia": "asia", "australia": "asia"}
    return nearest.get(continent, "us")


def _pack(link: str) -> str:
    return base64.urlsafe_b64encode(link.encode()).decode()


def _unpack(token: str, project: str) -> str:
    """The link after which the page begins; "" for the first page. Raises ApiError."""
    if not token:
        return ""
    try:
        after = base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode()
    except ValueError:
        after = ""
    if not after.startswith(f"projects/{project}/"):
        raise invalid("pageToken", token, "It is not a token of this list.")
    return after


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise invalid("resource.name", name, f"Must be a match of regex '{NAME.pattern}'")

"""Compute Engine as a state machine: pure, seeded, with its own clock.

What Snapkeep depends on is as Google documents it: snapshots that pass through CREATING and UPLOADING, operations that
are DONE with an error inside, reasons and codes of refusals, quotas by project and minute, the pace of one disk's
snapshots and instant snapshots, consistency groups, request ids, label fingerprints, paging, numeric ids that change
under a name, incremental chains, and the contents that a snapshot, an instant snapshot or a disk made of one keeps.
Time passes only in `advance`; chance comes from the seed alone. What is to happen is data, so that a cloud can be saved
at any moment and goes on as if it had never been away.
"""

from __future__ import annotations

import base64
import heapq
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Literal, NotRequired, Self, TypedDict, TypeVar, assert_never

import msgspec

from snapkeep.cloud import NAME, region_of, region_of_scope
from snapkeep_local import faults as fault_rules
from snapkeep_local import filters, machines, places
from snapkeep_local.errors import ApiError, Json, already_exists, invalid, not_found, not_ready
from snapkeep_local.faults import Fault, Struck
from snapkeep_local.limits import DEFAULT, Group, Limits, Pace, Quota
from snapkeep_local.resources import (
    API,
    Attached,
    Disk,
    Firewall,
    Instance,
    InstantSnapshot,
    InstantSnapshotGroup,
    Operation,
    OperationError,
    Resource,
    ResourcePolicy,
    Snapshot,
    Zone,
    fingerprint,
    rendered,
    time_text,
    unless_empty,
)

PAGE_MAX: Final = 500
REQUEST_REMEMBERED: Final = timedelta(hours=1)
GIB: Final = 1 << 30

FIRST_BYTES_PER_S: Final = 200 * (1 << 20)
"""What a full upload moves in a second; a first snapshot of 100 GiB with half of it in use takes about 4 minutes."""

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

T = TypeVar("T")

Kind = Literal[
    "instances",
    "disks",
    "snapshots",
    "operations",
    "instantSnapshots",
    "instantSnapshotGroups",
    "resourcePolicies",
    "zones",
    "firewalls",
]
"""As links and lists name them."""

GLOBAL: Final = "global"

WITHOUT_INSTANT: Final = frozenset({"hyperdisk-ml", "hyperdisk-throughput", "pd-extreme"})
"""Types of disks of which there are no instant snapshots here. Which they are in truth changes with the releases
(cloud.google.com/compute/docs/disks/instant-snapshots); that there are some is what Snapkeep has to live with."""

DISK_GB_MIN: Final = 10
"""The smallest disk that can be made of a snapshot (the smallest Persistent Disk but pd-extreme)."""

INSTANT_S: Final = (1.0, 5.0)
"""Between these an instant snapshot is in the making, and in the going."""

RUNS_S: Final = (15.0, 60.0)
"""Within these an instance that was made or started runs; a tenth of it passes while it is given its place."""

STOPS_S: Final = (20.0, 90.0)
"""Within these an instance's guest has shut down, and is gone where it was to be deleted."""

ATTACHES_S: Final = (2.0, 10.0)
"""Within these a disk is attached, or detached."""

CHANGES_PER_DAY: Final = 0.02
"""Share of a disk's contents that its guest changes in a day, once it is attached, where that was not invented."""

AGGREGATED: Final[frozenset[Kind]] = frozenset({"instances", "disks", "instantSnapshots", "resourcePolicies"})
"""What is listed by zone and region."""


class Accepted(TypedDict):
    """A change that was accepted: a line of `Cloud.log`."""

    method: str
    link: str
    id: str  # of what was made or changed
    request_id: str | None
    at: datetime
    region: NotRequired[str]
    """In which what an insert made is stored; a multi-region's name where a snapshot named no region."""
    source_disk_id: NotRequired[str]
    source_instant_id: NotRequired[str]
    source_snapshot_id: NotRequired[str]
    members: NotRequired[list[str]]  # ids of the instant snapshots of a group
    disk_ids: NotRequired[list[str]]  # of what an instance was made with, or had attached or detached


# --- what is to happen --------------------------------------------------------------------------------------------


class _Happening(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind"):
    pass


class OperationEnds(_Happening, frozen=True, tag="operation_ends"):
    operation: str  # its link
    error: OperationError | None


class Turns(_Happening, frozen=True, tag="turns"):
    """Nothing happens to one that is gone, or of which another has taken the name."""

    link: str
    id: str
    status: str


class Goes(_Happening, frozen=True, tag="goes"):
    """Likewise."""

    link: str
    id: str


class Becomes(_Happening, frozen=True, tag="becomes"):
    """An instance's next status; nothing happens to one that has not the status that it follows on."""

    link: str
    id: str
    was: str
    status: str


class Attaches(_Happening, frozen=True, tag="attaches"):
    link: str  # the instance's
    id: str
    device_name: str


class Detaches(_Happening, frozen=True, tag="detaches"):
    link: str  # the instance's
    id: str
    device_name: str


Happening = OperationEnds | Turns | Goes | Becomes | Attaches | Detaches

Made = Snapshot | InstantSnapshot | InstantSnapshotGroup | Disk | Instance
"""What a change makes, and another may remove."""

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
    instants: list[InstantSnapshot]
    groups: list[InstantSnapshotGroup]
    policies: list[ResourcePolicy]
    operations: list[Operation]
    chains: list[tuple[tuple[str, str], list[str]]]  # the snapshots by their links
    requests: list[tuple[tuple[str, str], tuple[datetime, str]]]
    agenda: list[tuple[datetime, int, Happening]]
    order: int
    firewalls: list[Firewall] = []
    down: list[str] = []


class Cloud:
    """All projects of the simulated Compute Engine. Not safe for threads: callers hold a lock."""

    def __init__(self, seed: int, now: datetime, limits: Limits = DEFAULT) -> None:
        self.now = now
        self.calls: Counter[str] = Counter()
        self.log: list[Accepted] = []
        """Every accepted change: method, link, request id, the time, the numeric id that it made, and where."""
        self._chance = random.Random(f"cloud:{seed}")  # noqa: S311 - a seeded simulation, not a secret
        self._ids = random.Random(f"ids:{seed}")  # noqa: S311 - a seeded simulation, not a secret
        self._faults = fault_rules.Faults(random.Random(f"faults:{seed}"))  # noqa: S311 - likewise
        self._quota = Quota(limits)
        self._limits = limits
        self._pace = Pace(limits)
        self._disks: dict[str, Disk] = {}
        self._instances: dict[str, Instance] = {}
        self._snapshots: dict[str, Snapshot] = {}
        self._instants: dict[str, InstantSnapshot] = {}
        self._instants_of: dict[str, dict[str, InstantSnapshot]] = defaultdict(dict)  # by the disk's id
        self._groups: dict[str, InstantSnapshotGroup] = {}
        self._policies: dict[str, ResourcePolicy] = {}
        self._firewalls: dict[str, Firewall] = {}
        self._down: set[str] = set()  # zones, by name
        self._operations: dict[str, Operation] = {}
        self._by_project: dict[tuple[str, str], dict[str, Any]] = defaultdict(dict)
        self._chains: dict[tuple[str, str], list[Snapshot]] = defaultdict(list)
        self._requests: dict[tuple[str, str], tuple[datetime, str]] = {}
        self._shown: dict[str, Json] = {}
        """All but snapshots and operations in their REST shape, by link, until one changes."""
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
            instants=list(self._instants.values()),
            groups=list(self._groups.values()),
            policies=list(self._policies.values()),
            operations=list(self._operations.values()),
            chains=[(key, [one.link for one in chain]) for key, chain in self._chains.items()],
            requests=list(self._requests.items()),
            agenda=self._agenda,
            order=self._order,
            firewalls=list(self._firewalls.values()),
            down=sorted(self._down),
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
            cloud._store(disk)
        for instance in saved.instances:
            cloud._store_instance(instance)
        for firewall in saved.firewalls:
            cloud._store_firewall(firewall)
        cloud._down.update(saved.down)
        for snapshot in saved.snapshots:
            cloud._store_snapshot(snapshot)
        for instant in saved.instants:
            cloud._store_instant(instant)
        for group in saved.groups:
            cloud._store(group)
        for policy in saved.policies:
            cloud._policies[policy.link] = cloud._by_project[policy.project, "resourcePolicies"][policy.link] = policy
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
            case Turns():
                if found := self._same(happening.link, happening.id):
                    self._turn(found, happening.status)
            case Goes():
                if found := self._same(happening.link, happening.id):
                    self._vanish(found)
            case Becomes():
                one = self._same_instance(happening)
                if one and one.status == happening.was:
                    one.status = happening.status
                    self._shown.pop(one.link, None)
            case Attaches():
                if one := self._same_instance(happening):
                    for attached in one.disks:
                        if attached.device_name == happening.device_name:
                            attached.coming = False
                    self._shown.pop(one.link, None)
            case Detaches():
                if one := self._same_instance(happening):
                    self._detach(one, happening.device_name)
            case _:
                assert_never(happening)

    def _same_instance(self, happening: Becomes | Attaches | Detaches) -> Instance | None:
        """The instance that is meant; None where it is gone, or another has taken its name."""
        found = self._instances.get(happening.link)
        return found if found and found.id == happening.id else None

    def _same(self, link: str, id: str) -> Made | None:
        found: Made | None = self._made(link).get(link)
        return found if found and found.id == id else None

    def _made(self, link: str) -> dict[str, Any]:
        """Where what this link names is kept."""
        match link.rsplit("/", 2)[1]:
            case "snapshots":
                return self._snapshots
            case "disks":
                return self._disks
            case "instantSnapshots":
                return self._instants
            case "instances":
                return self._instances
            case _:
                return self._groups

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
        self._store(disk)
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
        guest_agent: bool = True,
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
            guest_agent=guest_agent,
        )
        if instance.link in self._instances:
            raise already_exists(instance.link)
        # All of them are found before the first is changed.
        for disk in [self._disk(one.source) for one in attached if one.persistent]:
            disk.users.append(instance.link)
        self._store_instance(instance)
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
            "tags": {"fingerprint": "42WmSpB8rSM=", **unless_empty("items", sorted(tags))},
            "metadata": {
                "fingerprint": "5Pw0wJB7bAY=",
                **unless_empty("items", [{"key": key, "value": value} for key, value in sorted(metadata.items())]),
            },
            **unless_empty(
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
        self._let_go(self._instance(link))

    def replace_instance(self, link: str) -> None:
        """Delete an instance and make one of the same name with the same disks: its numeric id is another."""
        instance = self._instance(link)
        instance.id = self._id()
        instance.created_at = self.now
        for attached in instance.disks:
            attached.coming = False
        self._shown.clear()

    def stop_instance(self, link: str) -> None:
        """Switch an instance off: its status is TERMINATED."""
        instance = self._instance(link)
        instance.status = "TERMINATED"
        self._lose_local_ssds(instance)
        self._shown.pop(link, None)

    def start_instance(self, link: str) -> None:
        self._instance(link).status = "RUNNING"
        self._shown.pop(link, None)

    def set_guest_agent(self, link: str, guest_agent: bool) -> None:
        """Install in the guest what hears that it is to flush, or remove it."""
        self._instance(link).guest_agent = guest_agent

    def set_guest_answers(self, link: str, answers: bool) -> None:
        """Let the application in the guest answer, or not."""
        self._instance(link).answers = answers

    def write_local_ssd(self, instance: str, device_name: str, content: str) -> None:
        """Write new contents to a local SSD, by its device name. Raises ApiError if there is none of that name."""
        self._local_ssd(instance, device_name).content = content

    def set_zone(self, zone: str, up: bool) -> None:
        """Let a zone say that it is UP, or DOWN; what lies in it answers all the same (a fault sees to that).

        Raises ApiError 404 for a zone that there is not.
        """
        if zone not in self._zone_names():
            raise not_found(f"zones/{zone}")
        (self._down.discard if up else self._down.add)(zone)
        self._shown.clear()

    def add_firewall(
        self,
        *,
        project: str,
        name: str,
        network: str,
        direction: Literal["INGRESS", "EGRESS"] = "INGRESS",
        priority: int = 1000,
        allows: bool = False,
        protocol: str = "all",
        ports: tuple[str, ...] = (),
        ranges: tuple[str, ...] = ("0.0.0.0/0",),
        target_tags: tuple[str, ...] = (),
        disabled: bool = False,
    ) -> str:
        """Make a firewall rule of a network (its link); returns the rule's link.

        Raises ApiError 400 for what is no name, 409 if it exists.
        """
        _check_name(name)
        firewall = Firewall(
            self._id(), name, project, network, self.now, direction, priority, allows, protocol, ports, ranges,
            target_tags, disabled,
        )  # fmt: skip
        if firewall.link in self._firewalls:
            raise already_exists(firewall.link)
        self._store_firewall(firewall)
        return firewall.link

    def remove_firewall(self, link: str) -> None:
        """Raises ApiError 404 if it is not there."""
        firewall = _there(self._firewalls, link)
        del self._firewalls[link]
        del self._by_project[firewall.project, "firewalls"][link]
        self._shown.pop(link, None)

    def attach_disk(self, instance: str, disk: str) -> None:
        """Attach a disk as a data disk. Raises ApiError if it is attached there already, or not ready."""
        one, wanted = self._instance(instance), self._ready_disk(disk)
        if instance in wanted.users:
            raise machines.in_use(disk, instance)
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
        """Delete a disk; its instant snapshots go with it. Raises ApiError while it is attached."""
        self._vanish(self._free_disk(link))

    def replace_disk(self, link: str) -> None:
        """Another disk under the same name, attached where the old one was: its numeric id and contents are new."""
        disk = self._disk(link)
        self._lose_instants(disk)
        disk.instant_at = None
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

    def add_policy(self, *, project: str, region: str, name: str, consistency_group: bool = True) -> str:
        """Make a consistency group, or else a schedule of snapshots, which runs nowhere here; returns its link.

        Raises ApiError 400 for what is no name, 409 if it exists.
        """
        _check_name(name)
        policy = ResourcePolicy(self._id(), name, project, region, self.now, consistency_group)
        if policy.link in self._policies:
            raise already_exists(policy.link)
        self._policies[policy.link] = self._by_project[project, "resourcePolicies"][policy.link] = policy
        return policy.link

    def attach_policy(self, disk: str, policy: str) -> None:
        """Put a disk under a policy of its project and region. Raises ApiError."""
        one, wanted = self._disk(disk), _there(self._policies, policy)
        if (one.project, one.region) != (wanted.project, wanted.region):
            raise invalid("policy", policy, f"It is not of the project and region of '{disk}'.")
        if policy in one.policies:
            raise invalid("policy", policy, f"'{disk}' is under it already.")
        one.policies.append(policy)
        self._shown.pop(disk, None)

    def detach_policy(self, disk: str, policy: str) -> None:
        """Take a disk out from under a policy. Raises ApiError if it is not under it."""
        one = self._disk(disk)
        if policy not in one.policies:
            raise invalid("policy", policy, f"'{disk}' is not under it.")
        one.policies.remove(policy)
        self._shown.pop(disk, None)

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
                "foreign", said, "", None, 0, fingerprint(said), self.now,
            )
        )  # fmt: skip
        return link

    def remove_snapshot(self, link: str) -> None:
        """A snapshot that somebody else deletes; it is gone at once. Raises ApiError 404 if it is not there."""
        if link not in self._snapshots:
            raise not_found(link)
        self._vanish(self._snapshots[link])

    # --- reads ------------------------------------------------------------------------------------------------

    def get(self, kind: Kind, link: str) -> Json:
        """`instances.get`, `disks.get`, `regionInstantSnapshots.get`, ...; not of operations. Raises ApiError."""
        method = f"{kind}.get"
        if kind in ("instantSnapshots", "instantSnapshotGroups"):
            method = _in_scope(method, _scope_of(link))
        self._call(method, _project_of(link), "reads", (link,))
        if kind == "zones":
            return self._render(_there(self._zones(_project_of(link)), link))
        found = _there(self._table(kind), link)
        return self._show(link, found)

    def get_operation(self, link: str) -> Json:
        """`globalOperations.get`, `zoneOperations.get`, `regionOperations.get`, by its link. Raises ApiError."""
        methods = {"zones": "zoneOperations.get", "regions": "regionOperations.get"}
        self._call(methods.get(link.split("/")[2], "globalOperations.get"), _project_of(link), "reads", (link,))
        found = _there(self._operations, link)
        return self._render(found)

    def page(
        self,
        kind: Kind,
        project: str,
        *,
        scope: str = "",
        filter: str = "",
        max_results: int = PAGE_MAX,
        page_token: str = "",
    ) -> tuple[list[Json], str]:
        """One page of a project's resources, and the token of the next ("": none).

        Of all zones and regions (`{kind}.aggregatedList`, or `{kind}.list` of what is global); groups of instant
        snapshots of one `scope` (`zones/Z`, `regions/R`: `{kind}.list`), since no list has them all.
        Raises ApiError. What does not answer while the rest does is told by `away`.
        """
        method = _in_scope(f"{kind}.list", scope) if scope else _list_method(kind)
        self._call(method, project, "lists", (f"projects/{project}",))
        if not 1 <= max_results <= PAGE_MAX:
            raise invalid("maxResults", max_results, f"It must be between 1 and {PAGE_MAX}.")
        wanted = filters.parse(filter)
        after = _unpack(page_token, project)
        page: list[Json] = []
        for link, resource in self._candidates(kind, project, wanted):
            if link <= after or (scope and _scope_of(link) != scope):
                continue
            shown = self._show(link, resource)
            if wanted.matches(shown):
                if len(page) == max_results:
                    return page, _pack(_partial(page[-1]["selfLink"]))
                page.append(shown)
        return page, ""

    def away(self, kind: Kind, project: str) -> list[str]:
        """The zones and regions (`zones/Z`) without which a page of a project's resources is answered: faults."""
        if kind not in AGGREGATED:
            return []
        whole = f"projects/{project}"
        away = self._faults.away(_list_method(kind), whole, lambda: [f"{whole}/{scope}" for scope in self.scopes()])
        return [_scope_of(place) for place in away]

    def _candidates(self, kind: Kind, project: str, wanted: filters.Filter) -> Iterator[tuple[str, Any]]:
        if kind == "zones":
            yield from self._zones(project).items()
            return
        table = self._by_project[project, kind]
        names = wanted.names  # worked out anew each time that it is asked for
        if names is None:
            yield from sorted(table.items())
        elif kind in ("snapshots", "operations", "firewalls"):
            for name in sorted(names):
                link = f"projects/{project}/global/{kind}/{name}"
                if link in table:
                    yield link, table[link]
        else:
            yield from sorted((link, found) for link, found in table.items() if found.name in names)

    def scopes(self) -> list[str]:
        """The zones and regions that hold anything, of any project: `zones/Z`, `regions/R`."""
        links = (link for kind in (self._instances, self._disks, self._policies) for link in kind)
        return sorted({_scope_of(link) for link in links})

    # --- changes ----------------------------------------------------------------------------------------------

    def insert_snapshot(self, project: str, body: Mapping[str, Any], request_id: str | None = None) -> Json:
        """`snapshots.insert`: of a disk, or of an instant snapshot; returns its operation. Raises ApiError."""
        link = f"projects/{project}/global/snapshots/{body.get('name', '')}"
        source = _partial(str(body.get("sourceDisk") or ""))
        instant = _partial(str(body.get("sourceInstantSnapshot") or ""))
        if instant in self._instants:
            source = source or self._instants[instant].source
        places = (f"projects/{project}/regions/{region}" for region in body.get("storageLocations") or ())
        return self._change(
            fault_rules.INSERT,
            project,
            (link, source, *([instant] if instant else []), *places),
            request_id,
            lambda struck: self._insert_snapshot(project, link, source, instant, body, request_id, struck),
        )

    def _insert_snapshot(
        self,
        project: str,
        link: str,
        source: str,
        instant: str,
        body: Mapping[str, Any],
        request_id: str | None,
        struck: Struck,
    ) -> Operation:
        _check_name(str(body.get("name", "")))
        locations = list(body.get("storageLocations") or [])
        if len(locations) > 1:
            raise invalid("resource.storageLocations", locations, "At most one storage location can be given.")
        if link in self._snapshots:
            raise already_exists(link)
        flush = bool(body.get("guestFlush"))
        held = self._ready_instant(instant, source, flush) if instant else None
        disk = self._ready_disk(source)
        in_pace = self._pace.take(disk.id, self.now)
        too_often = ("RESOURCE_OPERATION_RATE_EXCEEDED", f"Operation rate exceeded for resource '{source}'.")
        if not in_pace and self._limits.snapshot_rate_answer == "call":
            raise ApiError(429, *too_often)
        operation = self._operate(fault_rules.INSERT, link, request_id)
        if not in_pace:
            self._finish(operation, timedelta(seconds=1), (*too_often, None))
            return operation
        if self._fails_at_once(operation, struck, (2, 30)):
            return operation
        if flush and (deaf := self._deaf_guest(disk)):
            self._finish(operation, timedelta(seconds=self._chance.uniform(2, 30)), deaf)
            return operation
        self._take_snapshot(project, disk, held, body, locations, operation, struck)
        return operation

    def _ready_instant(self, link: str, source: str, flush: bool) -> InstantSnapshot:
        """The instant snapshot that a snapshot is to be made from. Raises ApiError."""
        if flush:
            raise invalid("resource.guestFlush", True, "A snapshot of an instant snapshot knows no guest flush.")
        found = _there(self._instants, link)
        if source != found.source:
            raise invalid("resource.sourceDisk", source, f"'{link}' is of another disk.")
        if found.status != "READY":
            raise not_ready(link)
        return found

    def _deaf_guest(self, disk: Disk) -> OperationError | None:
        """Why nobody hears that the disk is to be flushed; None where somebody does."""
        why = "" if disk.users else "it is attached to no instance"
        for user in map(self._instance, disk.users):
            if user.status != "RUNNING":
                why = f"'{user.link}' is {user.status}"
            elif not user.guest_agent:
                why = f"the guest environment of '{user.link}' does not take part in snapshots"
        return ("UNSUPPORTED_OPERATION", f"Guest flush of '{disk.link}' failed: {why}.", None) if why else None

    def _take_snapshot(
        self,
        project: str,
        disk: Disk,
        instant: InstantSnapshot | None,
        body: Mapping[str, Any],
        locations: list[str],
        operation: Operation,
        struck: Struck,
    ) -> None:
        location = locations[0] if locations else _multi_region(disk.region)
        chain = self._chains[disk.id, location]
        held = instant or disk
        moment = instant.created_at if instant else self.now
        changed = _changed(disk, held, moment, chain)
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
            size_gb=held.size_gb,
            created_at=self.now,
            bytes=changed,
            content=held.content,
            labels=labels,
            description=str(body.get("description", "")),
            kms_key=key,
            written=held.written,
            fingerprint=fingerprint(labels),
            moment=moment,
            instant=instant.link if instant else "",
            instant_id=instant.id if instant else None,
            flushed=bool(body.get("guestFlush")),
        )
        self._store_snapshot(snapshot)
        chain.append(snapshot)
        accepted = self._accepted(operation, location)
        accepted["source_disk_id"] = disk.id
        if instant:
            accepted["source_instant_id"] = instant.id
        seconds = (self._chance.uniform(20, 90) + changed / FIRST_BYTES_PER_S) * struck.slow
        create, whole = timedelta(seconds=min(seconds, 10)), timedelta(seconds=seconds)
        uploads = Turns(snapshot.link, snapshot.id, "UPLOADING")
        if struck.vanishes_after_s is not None:
            self._at(self.now + timedelta(seconds=struck.vanishes_after_s), Goes(snapshot.link, snapshot.id))
        if struck.stuck:
            operation.status, operation.started_at = "RUNNING", self.now
            if struck.stuck.snapshot == "UPLOADING":
                self._at(self.now + create, uploads)
            return
        bad = struck.snapshot_fails or struck.fails is not None
        self._at(self.now + create, uploads)
        self._at(self.now + whole, Turns(snapshot.link, snapshot.id, "FAILED" if bad else "READY"))
        self._finish(operation, whole, _error_of(struck))

    def delete_snapshot(self, link: str, request_id: str | None = None) -> Json:
        """`snapshots.delete`: its bytes that later snapshots need move to the next of its chain. Raises ApiError."""

        def delete(struck: Struck) -> Operation:
            return self._delete(fault_rules.DELETE, _there(self._snapshots, link), request_id, struck, (2, 20))

        return self._change(fault_rules.DELETE, _project_of(link), (link,), request_id, delete)

    def insert_instant_snapshot(
        self, project: str, scope: str, body: Mapping[str, Any], request_id: str | None = None
    ) -> Json:
        """`instantSnapshots.insert`, or `regionInstantSnapshots.insert` in a `scope` `regions/R`. Raises ApiError."""
        name = str(body.get("name", ""))
        link = f"projects/{project}/{scope}/instantSnapshots/{name}"
        source = _partial(str(body.get("sourceDisk") or ""))
        method = _in_scope("instantSnapshots.insert", scope)

        def insert(struck: Struck) -> Operation:
            _check_name(name)
            if link in self._instants:
                raise already_exists(link)
            disk = self._disk(source)
            if (disk.project, disk.scope) != (project, scope):
                raise invalid("resource.sourceDisk", source, f"It does not lie in 'projects/{project}/{scope}'.")
            refused = self._no_instant_of([disk])
            operation = self._operate(method, link, request_id, scope=scope)
            if refused:
                self._finish(operation, timedelta(seconds=1), refused)
                return operation
            if self._fails_at_once(operation, struck, INSTANT_S):
                return operation
            instant = self._take_instant(disk, operation.target_id, name)
            instant.labels = dict(body.get("labels") or {})
            instant.fingerprint = fingerprint(instant.labels)
            instant.description = str(body.get("description", ""))
            self._accepted(operation, disk.region)["source_disk_id"] = disk.id
            self._make(operation, [instant], INSTANT_S, struck)
            return operation

        return self._change(method, project, (link, source), request_id, insert)

    def delete_instant_snapshot(self, link: str, request_id: str | None = None) -> Json:
        """`instantSnapshots.delete`, `regionInstantSnapshots.delete`. Raises ApiError."""
        method = _in_scope("instantSnapshots.delete", _scope_of(link))

        def delete(struck: Struck) -> Operation:
            return self._delete(method, _there(self._instants, link), request_id, struck, INSTANT_S)

        return self._change(method, _project_of(link), (link,), request_id, delete)

    def insert_instant_snapshot_group(
        self, project: str, scope: str, body: Mapping[str, Any], request_id: str | None = None
    ) -> Json:
        """`instantSnapshotGroups.insert`, `regionInstantSnapshotGroups.insert`: of every disk in the `scope` that is
        under the consistency group now, an instant snapshot of this moment. Raises ApiError."""
        name = str(body.get("name", ""))
        link = f"projects/{project}/{scope}/instantSnapshotGroups/{name}"
        source = _partial(str(body.get("sourceConsistencyGroup") or ""))
        method = _in_scope("instantSnapshotGroups.insert", scope)

        def insert(struck: Struck) -> Operation:
            _check_name(name)
            if link in self._groups:
                raise already_exists(link)
            policy = self._consistency_group(project, scope, source)
            disks = [
                disk
                for _, disk in sorted(self._by_project[project, "disks"].items())
                if disk.scope == scope and source in disk.policies
            ]
            if not disks:
                raise invalid("resource.sourceConsistencyGroup", source, f"No disk in '{scope}' is under it.")
            refused = self._no_instant_of(disks)
            operation = self._operate(method, link, request_id, scope=scope)
            if refused:
                self._finish(operation, timedelta(seconds=1), refused)
                return operation
            if self._fails_at_once(operation, struck, INSTANT_S):
                return operation
            group = InstantSnapshotGroup(
                operation.target_id, name, project, scope, "CREATING", source, policy.id, self.now,
                str(body.get("description", "")),
            )  # fmt: skip
            self._store(group)
            members = [self._take_instant(disk, self._id(), _member_name(name, disk), group) for disk in disks]
            self._accepted(operation, region_of_scope(scope))["members"] = [member.id for member in members]
            self._make(operation, [*members, group], INSTANT_S, struck)
            return operation

        return self._change(method, project, (link, source), request_id, insert)

    def _consistency_group(self, project: str, scope: str, link: str) -> ResourcePolicy:
        """The one that a group is to be made of. Raises ApiError."""
        policy = _there(self._policies, link)
        if not policy.consistency_group:
            raise invalid("resource.sourceConsistencyGroup", link, "It is not a consistency group.")
        if (policy.project, policy.region) != (project, region_of_scope(scope)):
            raise invalid("resource.sourceConsistencyGroup", link, f"It is not of the project and region of '{scope}'.")
        return policy

    def delete_instant_snapshot_group(self, link: str, request_id: str | None = None) -> Json:
        """`instantSnapshotGroups.delete`, `regionInstantSnapshotGroups.delete`: its instant snapshots go with it.

        Raises ApiError.
        """
        method = _in_scope("instantSnapshotGroups.delete", _scope_of(link))

        def delete(struck: Struck) -> Operation:
            group = _there(self._groups, link)
            operation = self._delete(method, group, request_id, struck, INSTANT_S)
            if group.status == "DELETING":
                for member in self._members(group):
                    self._turn_to(member, "DELETING")
            return operation

        return self._change(method, _project_of(link), (link,), request_id, delete)

    def _members(self, group: InstantSnapshotGroup) -> list[InstantSnapshot]:
        listed = self._by_project[group.project, "instantSnapshots"].values()
        return [instant for instant in listed if instant.group_id == group.id]

    def _no_instant_of(self, disks: list[Disk]) -> OperationError | None:
        """The error in which it ends that instant snapshots of these disks are asked for now; None where they can be.

        Raises ApiError for what no waiting mends.
        """
        for disk in disks:
            if disk.status != "READY":
                raise not_ready(disk.link)
            if disk.type in WITHOUT_INSTANT:
                why = f"Instant snapshots of disks of the type '{disk.type}' are not supported."
                raise invalid("resource.sourceDisk", disk.link, why)
        most, pause = self._limits.instant_snapshots_per_disk, self._limits.instant_snapshot_pause
        for disk in disks:
            if len(self._instants_of.get(disk.id, ())) >= most:
                full = (
                    f"A disk can't have more than {most} instant snapshots. To create an instant snapshot of the disk,"
                )
                return "LIMIT_EXCEEDED", f"{full} delete one first.", None
            if disk.instant_at and self.now - disk.instant_at < pause:
                wait = f"To create an instant snapshot, wait at least {pause.seconds} seconds and try again."
                message = f"The previous instant snapshot is too recent. {wait}"
                if self._limits.snapshot_rate_answer == "call":
                    raise ApiError(429, "RESOURCE_OPERATION_RATE_EXCEEDED", message)
                return "RESOURCE_OPERATION_RATE_EXCEEDED", message, None
        return None

    def _take_instant(
        self, disk: Disk, id: str, name: str, group: InstantSnapshotGroup | None = None
    ) -> InstantSnapshot:
        disk.instant_at = self.now
        instant = InstantSnapshot(
            id=id,
            name=name,
            project=disk.project,
            scope=disk.scope,
            status="CREATING",
            source=disk.link,
            source_id=disk.id,
            size_gb=disk.size_gb,
            created_at=self.now,
            content=disk.content,
            written=disk.written,
            labels={},
            description="",
            fingerprint=fingerprint({}),
            group=group.link if group else "",
            group_id=group.id if group else None,
        )
        self._store_instant(instant)
        return instant

    def insert_disk(self, project: str, scope: str, body: Mapping[str, Any], request_id: str | None = None) -> Json:
        """`disks.insert`, or `regionDisks.insert` in a `scope` `regions/R`, of a snapshot alone: a disk with what it
        holds. Raises ApiError."""
        name = str(body.get("name", ""))
        link = f"projects/{project}/{scope}/disks/{name}"
        source = _partial(str(body.get("sourceSnapshot") or ""))
        replicas = tuple(_partial(str(zone)) for zone in body.get("replicaZones") or ())
        method = _in_scope("disks.insert", scope)

        def insert(struck: Struck) -> Operation:
            _check_name(name)
            if link in self._disks:
                raise already_exists(link)
            snapshot = _there(self._snapshots, source)
            if snapshot.status != "READY":
                raise not_ready(source)
            disk = self._disk_of(snapshot, project, scope, body, replicas)
            operation = self._operate(method, link, request_id, scope=scope)
            if self._fails_at_once(operation, struck, (2, 30)):
                return operation
            disk.id = operation.target_id
            self._store(disk)
            self._accepted(operation, disk.region)["source_snapshot_id"] = snapshot.id
            download = snapshot.size_gb * GIB / 2 / FIRST_BYTES_PER_S
            self._make(operation, [disk], (5 + download, 20 + download), struck)
            return operation

        return self._change(method, project, (link, source, *replicas), request_id, insert)

    def _disk_of(
        self, snapshot: Snapshot, project: str, scope: str, body: Mapping[str, Any], replicas: tuple[str, ...]
    ) -> Disk:
        """The disk that is asked for, without an id. Raises ApiError."""
        size_gb = int(body.get("sizeGb") or snapshot.size_gb)
        least = max(snapshot.size_gb, DISK_GB_MIN)
        if size_gb < least:
            raise invalid("resource.sizeGb", size_gb, f"Requested disk size cannot be smaller than {least} GB.")
        region = region_of_scope(scope)
        zones = tuple(replica.rsplit("/", 1)[-1] for replica in replicas)
        regional = scope.startswith("regions/")
        if regional and (len(set(zones)) != 2 or any(region_of(zone) != region for zone in zones)):
            raise invalid("resource.replicaZones", list(replicas), f"They must be two zones of '{region}'.")
        if zones and not regional:
            raise invalid("resource.replicaZones", list(replicas), "A zonal disk has none.")
        policies = [_partial(str(policy)) for policy in body.get("resourcePolicies") or ()]
        for policy in policies:
            found = _there(self._policies, policy)
            if (found.project, found.region) != (project, region):
                raise invalid("resource.resourcePolicies", policy, f"It is not of the project and region of '{scope}'.")
        iops, throughput = body.get("provisionedIops"), body.get("provisionedThroughput")
        return Disk(
            id="",
            name=str(body["name"]),
            project=project,
            zone=None if regional else scope.removeprefix("zones/"),
            region=region,
            replica_zones=zones,
            type=str(body.get("type") or "pd-standard").rsplit("/", 1)[-1],
            size_gb=size_gb,
            created_at=self.now,
            content=snapshot.content,
            labels=dict(body.get("labels") or {}),
            kms_key=(body.get("diskEncryptionKey") or {}).get("kmsKeyName"),
            provisioned_iops=int(iops) if iops else None,
            provisioned_throughput=int(throughput) if throughput else None,
            status="CREATING",
            policies=policies,
            changes_per_day=0.0,  # nobody writes to it
            source=snapshot.link,
            source_id=snapshot.id,
            description=str(body.get("description", "")),
        )

    def delete_disk(self, link: str, request_id: str | None = None) -> Json:
        """`disks.delete`, `regionDisks.delete`: its instant snapshots go with it.

        Raises ApiError, also while it is attached.
        """
        method = _in_scope("disks.delete", _scope_of(link))

        def delete(struck: Struck) -> Operation:
            return self._delete(method, self._free_disk(link), request_id, struck, (2, 20))

        return self._change(method, _project_of(link), (link,), request_id, delete)

    def set_disk_labels(self, link: str, labels: Mapping[str, str], seen: str, request_id: str | None = None) -> Json:
        """`disks.setLabels`, `regionDisks.setLabels`.

        Raises ApiError, 412 `conditionNotMet` for labels that were changed meanwhile.
        """
        method = _in_scope("disks.setLabels", _scope_of(link))

        def change(struck: Struck) -> Operation:
            disk = self._disk(link)
            if seen != fingerprint(disk.labels):
                raise _changed_meanwhile()
            operation = self._operate(method, link, request_id, disk.id, scope=disk.scope)
            if self._changes_nothing(operation, struck, timedelta(seconds=1)):
                return operation
            disk.labels = dict(labels)
            self._shown.pop(link, None)
            self._logged(operation)
            self._finish(operation, timedelta(seconds=struck.slow), None)
            return operation

        return self._change(method, _project_of(link), (link,), request_id, change)

    def insert_instance(self, project: str, zone: str, body: Mapping[str, Any], request_id: str | None = None) -> Json:
        """`instances.insert`, with disks that there are and local SSDs: it is started at once. Raises ApiError."""
        name = str(body.get("name", ""))
        scope = f"zones/{zone}"
        link = f"projects/{project}/{scope}/instances/{name}"
        sources = [_partial(str(disk["source"])) for disk in body.get("disks") or () if disk.get("source")]

        def insert(struck: Struck) -> Operation:
            _check_name(name)
            if link in self._instances:
                raise already_exists(link)
            disks = machines.all_attached(body.get("disks") or ())
            for disk in disks:
                self._check_attachable(disk, project, zone)
            told = machines.definition(project, zone, body, self._free_address)
            operation = self._operate(fault_rules.INSTANCE_INSERT, link, request_id, scope=scope)
            if self._fails_at_once(operation, struck, (5, 30)):
                return operation
            if taken := sorted(machines.addresses(told) & self._addresses(project)):
                why = f"IP '{taken[0][1]}' is already being used by another resource."
                self._finish(operation, timedelta(seconds=5), ("IP_IN_USE_BY_ANOTHER_RESOURCE", why, None))
                return operation
            labels = dict(body.get("labels") or {})
            one = Instance(operation.target_id, name, project, zone, self.now, disks, labels, told, "PROVISIONING")
            made_with = [self._use(attached.source, link) for attached in disks if attached.persistent]
            self._store_instance(one)
            self._accepted(operation, region_of(zone))["disk_ids"] = [disk.id for disk in made_with]
            self._run(one, operation, struck, "TERMINATED" if struck.fails else "RUNNING")
            return operation

        return self._change(fault_rules.INSTANCE_INSERT, project, (link, *sources), request_id, insert)

    def delete_instance(self, link: str, request_id: str | None = None) -> Json:
        """`instances.delete`: disks that are attached with `autoDelete` go with it. Raises ApiError."""

        def delete(struck: Struck) -> Operation:
            one = self._instance(link)
            if one.definition.get("deletionProtection"):
                raise machines.misused("Resource cannot be deleted if it's protected against deletion.")
            operation = self._operate(fault_rules.INSTANCE_DELETE, link, request_id, one.id, scope=f"zones/{one.zone}")
            took = timedelta(seconds=self._chance.uniform(*STOPS_S) * struck.slow)
            if struck.deletion_lies:
                self._finish(operation, took, None)
                return operation
            if struck.fails:
                self._finish(operation, took, _error_of(struck))
                return operation
            self._logged(operation)
            self._become(one, "STOPPING")
            if struck.stuck:
                self._never_ends(operation)
                return operation
            self._at(self.now + took, Goes(link, one.id))
            self._finish(operation, took, None)
            return operation

        return self._change(fault_rules.INSTANCE_DELETE, _project_of(link), (link,), request_id, delete)

    def stop(self, link: str, request_id: str | None = None, *, discard_local_ssd: bool | None = None) -> Json:
        """`instances.stop`: its guest shuts down; what is on its local SSDs is lost. Raises ApiError."""

        def change(struck: Struck) -> Operation:
            one = self._instance(link)
            if one.status == "STOPPING":
                raise not_ready(link)
            if discard_local_ssd is None and not all(attached.persistent for attached in one.disks):
                how = "please add `--discard-local-ssd=false` or `--discard-local-ssd=true` to your command."
                why = "VM has a Local SSD attached but an undefined value for `discard-local-ssd`. If using gcloud, "
                raise ApiError(400, "badRequest", why + how)
            operation = self._operate(fault_rules.INSTANCE_STOP, link, request_id, one.id, scope=f"zones/{one.zone}")
            took = timedelta(seconds=self._chance.uniform(*STOPS_S) * struck.slow)
            if struck.fails:
                self._finish(operation, took, _error_of(struck))
                return operation
            self._logged(operation)
            if one.status == "TERMINATED":
                self._finish(operation, timedelta(seconds=1), None)
                return operation
            self._become(one, "STOPPING")
            if struck.stuck:
                self._never_ends(operation)
                return operation
            self._at(self.now + took, Becomes(link, one.id, "STOPPING", "TERMINATED"))
            if discard_local_ssd:
                self._lose_local_ssds(one)
            self._finish(operation, took, None)
            return operation

        return self._change(fault_rules.INSTANCE_STOP, _project_of(link), (link,), request_id, change)

    def start(self, link: str, request_id: str | None = None) -> Json:
        """`instances.start`. Raises ApiError."""

        def change(struck: Struck) -> Operation:
            one = self._instance(link)
            if one.status == "STOPPING":
                raise not_ready(link)
            if not any(attached.boot and not attached.coming for attached in one.disks):
                raise machines.misused("The instance has no boot disk.")
            operation = self._operate(fault_rules.INSTANCE_START, link, request_id, one.id, scope=f"zones/{one.zone}")
            if struck.fails:
                self._finish(operation, timedelta(seconds=self._chance.uniform(*RUNS_S)), _error_of(struck))
                return operation
            self._logged(operation)
            if one.status != "TERMINATED":
                self._finish(operation, timedelta(seconds=1), None)
                return operation
            self._become(one, "PROVISIONING")
            self._run(one, operation, struck, "RUNNING")
            return operation

        return self._change(fault_rules.INSTANCE_START, _project_of(link), (link,), request_id, change)

    def attach(self, link: str, body: Mapping[str, Any], request_id: str | None = None) -> Json:
        """`instances.attachDisk`, of a disk that there is. Raises ApiError."""
        source = _partial(str(body.get("source") or ""))

        def change(struck: Struck) -> Operation:
            one = self._attachable_to(link)
            wanted = machines.attached(body, len(one.disks))
            if not wanted.persistent:
                raise invalid("type", "SCRATCH", "A local SSD cannot be attached to an instance that there is.")
            if any(wanted.device_name == attached.device_name for attached in one.disks):
                raise machines.name_taken(wanted.device_name)
            if wanted.boot and one.status != "TERMINATED":
                raise machines.misused("To attach the boot disk, the instance must be in TERMINATED state.")
            if wanted.boot and any(attached.boot for attached in one.disks):
                raise machines.misused("The instance has a boot disk already.")
            self._check_attachable(wanted, one.project, one.zone)
            operation = self._operate(fault_rules.ATTACH, link, request_id, one.id, scope=f"zones/{one.zone}")
            took = timedelta(seconds=self._chance.uniform(*ATTACHES_S))
            if self._changes_nothing(operation, struck, took):
                return operation
            wanted.coming = True
            # Compute Engine lists the boot disk first.
            one.disks.insert(0 if wanted.boot else len(one.disks), wanted)
            self._logged(operation)["disk_ids"] = [self._use(source, link).id]
            self._shown.pop(link, None)
            self._at(self.now + took * struck.slow, Attaches(link, one.id, wanted.device_name))
            self._finish(operation, took * struck.slow, None)
            return operation

        return self._change(fault_rules.ATTACH, _project_of(link), (link, source), request_id, change)

    def detach(self, link: str, device_name: str, request_id: str | None = None) -> Json:
        """`instances.detachDisk`, by the instance's own name for it: the disk stays. Raises ApiError."""

        def change(struck: Struck) -> Operation:
            one = self._attachable_to(link)
            found = [attached for attached in one.disks if attached.device_name == device_name and not attached.coming]
            if not found:
                raise invalid("deviceName", device_name, f"No attached disk found with device name '{device_name}'")
            if not found[0].persistent:
                raise machines.misused("A local SSD cannot be detached.")
            if found[0].boot and one.status != "TERMINATED":
                raise machines.misused("To detach the boot disk, the instance must be in TERMINATED state.")
            operation = self._operate(fault_rules.DETACH, link, request_id, one.id, scope=f"zones/{one.zone}")
            took = timedelta(seconds=self._chance.uniform(*ATTACHES_S))
            if self._changes_nothing(operation, struck, took):
                return operation
            self._logged(operation)["disk_ids"] = [self._disk(found[0].source).id]
            self._at(self.now + took * struck.slow, Detaches(link, one.id, device_name))
            self._finish(operation, took * struck.slow, None)
            return operation

        return self._change(fault_rules.DETACH, _project_of(link), (link,), request_id, change)

    def set_snapshot_labels(
        self, link: str, labels: Mapping[str, str], fingerprint: str, request_id: str | None = None
    ) -> Json:
        """`snapshots.setLabels`. Raises ApiError, 412 `conditionNotMet` for labels that were changed meanwhile."""
        return self._change(
            fault_rules.LABEL,
            _project_of(link),
            (link,),
            request_id,
            lambda struck: self._set_labels(link, labels, fingerprint, request_id, struck),
        )

    def _set_labels(
        self, link: str, labels: Mapping[str, str], seen: str, request_id: str | None, struck: Struck
    ) -> Operation:
        snapshot = _there(self._snapshots, link)
        if seen != snapshot.fingerprint:
            raise _changed_meanwhile()
        operation = self._operate(fault_rules.LABEL, link, request_id, snapshot.id)
        if struck.stuck:
            operation.status, operation.started_at = "RUNNING", self.now
            return operation
        took = timedelta(seconds=struck.slow)
        if struck.fails:
            self._finish(operation, took, (struck.fails.code, struck.fails.message, struck.fails.http_status))
            return operation
        snapshot.labels = dict(labels)
        snapshot.fingerprint = fingerprint(snapshot.labels)
        self._logged(operation)
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

    def firewalls(self) -> list[Firewall]:
        return list(self._firewalls.values())

    def disks(self) -> list[Json]:
        """Every disk that there is now, in its REST shape; no call is counted."""
        return [self._render(disk) for disk in self._disks.values()]

    def instant_snapshots(self) -> list[Json]:
        """Likewise every instant snapshot."""
        return [self._render(instant) for instant in self._instants.values()]

    def instant_snapshot_groups(self) -> list[Json]:
        return [self._render(group) for group in self._groups.values()]

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

    def content(self, link: str) -> str:
        """What a snapshot, an instant snapshot or a disk holds."""
        return str(self._made(link)[link].content)

    def held(self, link: str) -> str | None:
        """What a snapshot, an instant snapshot or a disk holds; None where there is none."""
        for table in (self._snapshots, self._instants, self._disks):
            if link in table:
                return table[link].content
        return None

    def local_ssd(self, instance: str, device_name: str) -> str:
        """What an instance's local SSD holds. Raises ApiError if it has none of that name."""
        return self._local_ssd(instance, device_name).content

    def silence(self, address: str) -> str | None:
        """Why no application answers at an internal address; None where one does.

        It does in an instance that runs from its boot disk, unless it was told otherwise.
        """
        why = f"no instance has the address {address}"
        for one in self._instances.values():
            if address not in (known for _, known in machines.addresses(one.definition)):
                continue
            if one.status != "RUNNING":
                why = f"'{one.link}' is {one.status}"
            elif not any(attached.boot and not attached.coming for attached in one.disks):
                why = f"'{one.link}' has no boot disk"
            elif not one.answers:
                why = f"the application in '{one.link}' does not answer"
            else:
                return None
        return why

    def flushed(self, snapshot_link: str) -> bool:
        """Whether the guest flushed before this snapshot was taken."""
        return self._snapshots[snapshot_link].flushed

    def moment(self, snapshot_link: str) -> datetime:
        """The moment that a snapshot's contents are of."""
        return self._snapshots[snapshot_link].moment

    def state(self) -> Json:
        """Everything, in JSON's types."""
        return {
            "now": time_text(self.now),
            "instances": [self._render(one) for _, one in sorted(self._instances.items())],
            "disks": [self._render(one) | {"content": one.content} for _, one in sorted(self._disks.items())],
            "snapshots": [
                self._render(one) | {"content": one.content, "flushed": one.flushed, "moment": time_text(one.moment)}
                for _, one in sorted(self._snapshots.items())
            ],
            "instant_snapshots": [
                self._render(one) | {"content": one.content} for _, one in sorted(self._instants.items())
            ],
            "instant_snapshot_groups": [self._render(one) for _, one in sorted(self._groups.items())],
            "firewalls": [self._render(one) for _, one in sorted(self._firewalls.items())],
            "zones_down": sorted(self._down),
            "resource_policies": [self._render(one) for _, one in sorted(self._policies.items())],
            "operations": [self._render(one) for _, one in sorted(self._operations.items())],
            "faults": self.faults(),
            "calls": dict(sorted(self.calls.items())),
            "log": [{**entry, "at": time_text(entry["at"])} for entry in self.log],
        }

    # --- within -----------------------------------------------------------------------------------------------

    def _call(self, method: str, project: str, group: Group, links: tuple[str, ...]) -> Struck:
        self.calls[method] += 1
        self._quota.spend(project, group, self.now)
        struck = self._faults.strike(method, links)
        if struck.error and method not in fault_rules.MUTATIONS:
            raise struck.error
        return struck

    def _change(
        self,
        method: str,
        project: str,
        links: tuple[str, ...],
        request_id: str | None,
        change: Callable[[Struck], Operation],
    ) -> Json:
        """The operation that a change starts, or that the same request started before.

        Raises ApiError: its refusal, or an error that hides how it went.
        """
        struck = self._call(method, project, "mutations", links)
        try:
            operation = self._repeated(method, request_id) or change(struck)
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
        self, kind: str, target: str, request_id: str | None, target_id: str | None = None, *, scope: str = GLOBAL
    ) -> Operation:
        """An operation, which lies where what it works on lies: in a zone, in a region, or in neither."""
        id = self._id()
        name = f"operation-{int(self.now.timestamp() * 1000)}-{id[:12]}"
        link = f"projects/{_project_of(target)}/{scope}/operations/{name}"
        operation = Operation(id, name, link, kind, target, target_id or self._id(), request_id, asked_at=self.now)
        self._store_operation(operation)
        if request_id is not None:
            self._requests[kind, request_id] = (self.now, link)
        return operation

    def _accepted(self, operation: Operation, region: str) -> Accepted:
        """The line of `log` on an operation that makes something in this region."""
        accepted = self._logged(operation)
        accepted["region"] = region
        return accepted

    def _logged(self, operation: Operation) -> Accepted:
        """The line of `log` on an operation that makes, changes or removes something."""
        accepted: Accepted = {
            "method": operation.kind,
            "link": operation.target,
            "id": operation.target_id,
            "request_id": operation.request_id,
            "at": self.now,
        }
        self.log.append(accepted)
        return accepted

    def _finish(self, operation: Operation, after: timedelta, error: OperationError | None) -> None:
        operation.status, operation.started_at = "RUNNING", self.now
        self._at(self.now + after, OperationEnds(operation.link, error))

    def _fails_at_once(self, operation: Operation, struck: Struck, within_s: tuple[float, float]) -> bool:
        """Whether a fault lets the operation end before it has made anything."""
        if struck.fails is None or struck.fails.snapshot != "absent":
            return False
        self._finish(operation, timedelta(seconds=self._chance.uniform(*within_s)), _error_of(struck))
        return True

    def _make(self, operation: Operation, made: Sequence[Made], within_s: tuple[float, float], struck: Struck) -> None:
        """Let what an operation makes come to be: READY within so many seconds."""
        took = timedelta(seconds=self._chance.uniform(*within_s) * struck.slow)
        if struck.vanishes_after_s is not None:
            goes_at = self.now + timedelta(seconds=struck.vanishes_after_s)
            for one in made:
                if isinstance(one, InstantSnapshot):
                    self._at(goes_at, Goes(one.link, one.id))
        if struck.stuck:
            operation.status, operation.started_at = "RUNNING", self.now
            return
        bad = struck.disk_fails or struck.fails is not None
        for one in made:
            self._at(self.now + took, Turns(one.link, one.id, "FAILED" if bad else "READY"))
        self._finish(operation, took, _error_of(struck))

    def _never_ends(self, operation: Operation) -> None:
        operation.status, operation.started_at = "RUNNING", self.now

    def _changes_nothing(self, operation: Operation, struck: Struck, took: timedelta) -> bool:
        """Whether a fault lets the operation go by without an effect."""
        if struck.stuck:
            self._never_ends(operation)
        elif struck.fails:
            self._finish(operation, took * struck.slow, _error_of(struck))
        return bool(struck.stuck or struck.fails)

    # --- instances, within --------------------------------------------------------------------------------------

    def _become(self, one: Instance, status: str) -> None:
        one.status = status
        self._shown.pop(one.link, None)

    def _run(self, one: Instance, operation: Operation, struck: Struck, end: str) -> None:
        """Let an instance that is PROVISIONING come to run, or to another end, unless it stays on the way."""
        took = timedelta(seconds=self._chance.uniform(*RUNS_S) * struck.slow)
        self._at(self.now + took / 10, Becomes(one.link, one.id, "PROVISIONING", "STAGING"))
        if struck.stuck:
            self._never_ends(operation)
            return
        self._at(self.now + took, Becomes(one.link, one.id, "STAGING", end))
        self._finish(operation, took, _error_of(struck))

    def _attachable_to(self, link: str) -> Instance:
        """An instance that stands still. Raises ApiError."""
        one = self._instance(link)
        if one.status not in ("RUNNING", "TERMINATED"):
            raise not_ready(link)
        return one

    def _check_attachable(self, wanted: Attached, project: str, zone: str) -> None:
        """Raises ApiError for a disk that an instance in this zone cannot have in this way."""
        if not wanted.persistent:
            return
        disk = self._ready_disk(wanted.source)
        if disk.project != project or zone not in ((disk.zone,) if disk.zone else disk.replica_zones):
            raise invalid("source", wanted.source, f"The disk must lie in 'projects/{project}/zones/{zone}'.")
        if disk.users and not (wanted.mode == "READ_ONLY" and self._only_read(disk)):
            raise machines.in_use(disk.link, disk.users[0])

    def _only_read(self, disk: Disk) -> bool:
        users = [self._instance(user) for user in disk.users]
        return all(one.mode == "READ_ONLY" for user in users for one in user.disks if one.source == disk.link)

    def _use(self, link: str, user: str) -> Disk:
        """The disk that an instance begins to use."""
        disk = self._disk(link)
        disk.users.append(user)
        disk.changes_per_day = disk.changes_per_day or CHANGES_PER_DAY
        self._shown.pop(link, None)
        return disk

    def _detach(self, one: Instance, device_name: str) -> None:
        for attached in [attached for attached in one.disks if attached.device_name == device_name]:
            one.disks.remove(attached)
            self._disk(attached.source).users.remove(one.link)
            self._shown.pop(attached.source, None)
        self._shown.pop(one.link, None)

    def _let_go(self, one: Instance) -> None:
        """The instance goes, and lets go of its disks."""
        for attached in one.disks:
            if attached.persistent:
                self._disk(attached.source).users.remove(one.link)
                self._shown.pop(attached.source, None)
        del self._instances[one.link]
        del self._by_project[one.project, "instances"][one.link]
        self._shown.pop(one.link, None)

    def _lose_local_ssds(self, one: Instance) -> None:
        for attached in one.disks:
            attached.content = ""

    def _local_ssd(self, instance: str, device_name: str) -> Attached:
        for attached in self._instance(instance).disks:
            if attached.device_name == device_name and not attached.persistent:
                return attached
        raise invalid("deviceName", device_name, f"It is no local SSD of '{instance}'.")

    def _addresses(self, project: str) -> set[tuple[str, str]]:
        """The networks and internal addresses that a project's instances have."""
        instances: Iterable[Instance] = self._by_project[project, "instances"].values()
        return {address for one in instances for address in machines.addresses(one.definition)}

    def _free_address(self, net: str) -> str:
        """An internal address that no instance has, in any network: whoever asks at it means one instance."""
        taken = {address for one in self._instances.values() for _, address in machines.addresses(one.definition)}
        return machines.drawn(taken, lambda: self._chance.randrange(2, 250), net)

    # --- zones ------------------------------------------------------------------------------------------------

    def _zone_names(self) -> list[str]:
        return list(places.zones(region_of_scope(scope) for scope in self.scopes()))

    def _zones(self, project: str) -> dict[str, Zone]:
        """By link. They are of no project, and each project has them below its own name."""
        zones = [
            Zone(str(2000 + number), name, project, name not in self._down)
            for number, name in enumerate(self._zone_names())
        ]
        return {zone.link: zone for zone in zones}

    def _delete(
        self, method: str, one: Made, request_id: str | None, struck: Struck, within_s: tuple[float, float]
    ) -> Operation:
        if one.status in ("CREATING", "DELETING"):
            raise not_ready(one.link)
        scope = _scope_of(one.link) if not isinstance(one, Snapshot) else GLOBAL
        operation = self._operate(method, one.link, request_id, one.id, scope=scope)
        if struck.stuck:
            operation.status, operation.started_at = "RUNNING", self.now
            return operation
        took = timedelta(seconds=self._chance.uniform(*within_s) * struck.slow)
        if struck.fails or struck.deletion_lies:
            self._finish(operation, took, _error_of(struck))
            return operation
        self._turn_to(one, "DELETING")
        self._logged(operation)
        self._at(self.now + took, Goes(one.link, one.id))
        self._finish(operation, took, None)
        return operation

    def _turn(self, one: Made, status: str) -> None:
        """The next step of one that is in the making."""
        if one.status not in ("CREATING", "UPLOADING"):
            return
        self._turn_to(one, status)
        if status == "FAILED" and isinstance(one, Snapshot):
            # Nothing can build on it: what it was to hold, the next one holds.
            self._leave_chain(one)

    def _turn_to(self, one: Made, status: str) -> None:
        one.status = status
        self._shown.pop(one.link, None)

    def _vanish(self, one: Made) -> None:
        if isinstance(one, Instance):
            going = [attached.source for attached in one.disks if attached.persistent and attached.auto_delete]
            self._let_go(one)
            for disk in going:
                if not self._disk(disk).users:
                    self._vanish(self._disk(disk))
            return
        link = one.link
        del self._made(link)[link]
        del self._by_project[one.project, link.rsplit("/", 2)[1]][link]
        self._shown.pop(link, None)
        match one:
            case Snapshot():
                self._shown_snapshots.pop(link, None)
                self._leave_chain(one)
            case Disk():
                self._lose_instants(one)
            case InstantSnapshot():
                del self._instants_of[one.source_id][link]
            case InstantSnapshotGroup():
                for member in self._members(one):
                    self._vanish(member)
            case _:
                assert_never(one)

    def _lose_instants(self, disk: Disk) -> None:
        """Instant snapshots go with their disk."""
        for instant in list(self._instants_of.get(disk.id, {}).values()):
            self._vanish(instant)
        self._instants_of.pop(disk.id, None)

    def _leave_chain(self, snapshot: Snapshot) -> None:
        chain = self._chains[snapshot.source_id, snapshot.location]
        for at, one in enumerate(chain):
            if one is snapshot:
                del chain[at]
                if at < len(chain):
                    # What the next one shared with it is now its own.
                    chain[at].bytes += snapshot.bytes
                return

    def _store(self, one: Disk | InstantSnapshot | InstantSnapshotGroup) -> None:
        link = one.link
        self._made(link)[link] = one
        self._by_project[one.project, link.rsplit("/", 2)[1]][link] = one

    def _store_instance(self, instance: Instance) -> None:
        self._instances[instance.link] = instance
        self._by_project[instance.project, "instances"][instance.link] = instance

    def _store_firewall(self, firewall: Firewall) -> None:
        self._firewalls[firewall.link] = firewall
        self._by_project[firewall.project, "firewalls"][firewall.link] = firewall

    def _store_instant(self, instant: InstantSnapshot) -> None:
        self._store(instant)
        self._instants_of[instant.source_id][instant.link] = instant

    def _store_snapshot(self, snapshot: Snapshot) -> None:
        self._snapshots[snapshot.link] = snapshot
        self._by_project[snapshot.project, "snapshots"][snapshot.link] = snapshot

    def _store_operation(self, operation: Operation) -> None:
        self._operations[operation.link] = operation
        if _scope_of(operation.link).startswith(GLOBAL):  # which are listed together
            self._by_project[_project_of(operation.link), "operations"][operation.link] = operation

    def _disk(self, link: str) -> Disk:
        return _there(self._disks, link)

    def _ready_disk(self, link: str) -> Disk:
        disk = self._disk(link)
        if disk.status != "READY":
            raise not_ready(link)
        return disk

    def _free_disk(self, link: str) -> Disk:
        """One that is attached to nothing."""
        disk = self._disk(link)
        if disk.users:
            raise machines.in_use(link, disk.users[0])
        return disk

    def _instance(self, link: str) -> Instance:
        return _there(self._instances, link)

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
            case "instantSnapshots":
                return self._instants
            case "instantSnapshotGroups":
                return self._groups
            case "resourcePolicies":
                return self._policies
            case "firewalls":
                return self._firewalls
            case "zones":
                raise AssertionError("zones are of no table")

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

    def _render(self, resource: Resource) -> Json:
        return rendered(resource, self._disks)


def _changed_meanwhile() -> ApiError:
    return ApiError(412, "conditionNotMet", "Supplied fingerprint does not match current metadata fingerprint.")


def _list_method(kind: Kind) -> str:
    if kind == "operations":
        return "globalOperations.list"
    return f"{kind}.aggregatedList" if kind in AGGREGATED else f"{kind}.list"


def _state_of(chance: random.Random) -> Chance:
    version, numbers, gauss = chance.getstate()
    return version, numbers, gauss


def _project_of(link: str) -> str:
    return link.split("/")[1]


def _scope_of(link: str) -> str:
    """`zones/Z`, `regions/R`; for what is global, something that begins with it."""
    return "/".join(link.split("/")[2:4])


def _in_scope(method: str, scope: str) -> str:
    """The method as it is called in a region; that of a zone bears no mark."""
    return f"region{method[0].upper()}{method[1:]}" if scope.startswith("regions/") else method


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


def _there(table: Mapping[str, T], link: str) -> T:
    """Raises ApiError 404 for what is not."""
    if link not in table:
        raise not_found(link)
    return table[link]


def _changed(disk: Disk, held: Disk | InstantSnapshot, moment: datetime, chain: list[Snapshot]) -> int:
    """Bytes that a snapshot holds of the disk as it was at a moment: all that is in use, or what is not as it was in
    the last of its chain, which may hold a later moment."""
    used = held.size_gb * GIB // 2
    if not chain:
        return used
    last = chain[-1]
    days = abs((moment - last.moment) / timedelta(days=1))
    return min(int(used * disk.changes_per_day * days) + abs(held.written - last.written), used)


def _error_of(struck: Struck) -> OperationError | None:
    """In which the operation of a struck change ends."""
    fails = struck.fails
    return (fails.code, fails.message, fails.http_status) if fails else None


def _member_name(group: str, disk: Disk) -> str:
    """Compute Engine's own name for the instant snapshot of one disk in a group."""
    return f"{group[:46].rstrip('-')}-{int(disk.id):016x}"

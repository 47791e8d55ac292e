"""Documents, a cloud and a whole Snapkeep for tests, with everything filled in that a test does not care about."""

import base64
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from dataclasses import replace as changed
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from snapkeep import cloud
from snapkeep.cloud import AttachedDisk, Change, Disk, InsertSnapshot, Operation, Resource, Snapshot
from snapkeep.creation import rules
from snapkeep.documents import (
    ByName,
    Copy,
    CopyState,
    DiskRef,
    Instance,
    InstanceRef,
    Point,
    PointDisk,
    Probe,
    Selected,
    SnapshotRef,
    Stored,
    Tenant,
    from_data,
    to_data,
)
from snapkeep.entry import ENTRIES
from snapkeep.messages import Message, encode
from snapkeep.ports import Create, Data, Documents, Ports, R, Refused, Replace
from snapkeep.store import TenantStore
from snapkeep_local.declared import Declared
from snapkeep_local.memory import Delivery, MemoryBus, MemoryDocuments

THEN = datetime(2026, 11, 1, tzinfo=UTC)
PROJECT = "acme-prod"
ZONE = "southamerica-east1-a"
REGION = "southamerica-east1"
INSTANCE_ID = "17870283321406128359"
TICK = b'{"schema":1,"type":"tick"}'
FUNCTIONS = (
    "discover",
    "plan",
    "create",
    "reconcile",
    "audit",
    "health",
    "retention",
    "expire",
    "copy",
    "entitlements",
    "restore",
    "restore_test",
    "dead_letters",
)

T = TypeVar("T", bound=Stored)


# --- documents ---------------------------------------------------------------------------------------------------


def tenant(**changes: Any) -> Tenant:
    fields: dict[str, Any] = {
        "updated_at": THEN,
        "id": "acme",
        "name": "Acme Bank",
        "deployment": "saas",
        "project": "acme-prod",
        "vault_project": "acme-prod",
        "instances": Selected(by_name=[ByName(name="acme-pam-1", zone="southamerica-east1-a")]),
        "timezone": "America/Sao_Paulo",
        "applied_at": THEN,
        "applied_by": "operator:test",
    }
    return Tenant(**fields | changes)


def instance(**changes: Any) -> Instance:
    fields: dict[str, Any] = {
        "updated_at": THEN,
        "id": "17870283321406128359",
        "name": "acme-pam-1",
        "project": "acme-prod",
        "zone": "southamerica-east1-a",
        "region": "southamerica-east1",
        "disks": [DiskRef(name="acme-pam-1-boot", id="1")],
        "seen_at": THEN,
    }
    return Instance(**fields | changes)


def point(**changes: Any) -> Point:
    """A point that was just requested on demand."""
    fields: dict[str, Any] = {
        "updated_at": THEN,
        "id": "20261101-o-acme-pam-1-0badcafe",
        "trigger": "on_demand",
        "state": "requested",
        "instance": InstanceRef(id=INSTANCE_ID, name="acme-pam-1", project=PROJECT, zone=ZONE, region=REGION),
        "vault_project": PROJECT,
        "requested_at": THEN,
        "start_after": THEN,
        "start_by": THEN + rules.ON_DEMAND_START,
        "deadline": THEN + rules.CREATION_DEADLINE,
        "requested_by": "someone",
        "reason": "a test",
        "expected_s": 180,
        "next_at": THEN + rules.REQUEST_GRACE,
    }
    return Point(**fields | changes)


def point_disk(**changes: Any) -> PointDisk:
    """A disk of a point whose first snapshot was asked for and not answered yet."""
    fields: dict[str, Any] = {
        "name": "acme-pam-1-boot",
        "id": "1",
        "type": "pd-balanced",
        "size_gb": 100,
        "device_name": "boot",
        "boot": True,
        "mode": "READ_WRITE",
        "interface": "SCSI",
        "auto_delete": True,
        "zone": ZONE,
        "snapshot": SnapshotRef(project=PROJECT, name="sk-boot-1", location=REGION),
    }
    return PointDisk(**fields | changes)


# --- Compute Engine's resources ----------------------------------------------------------------------------------


def copy_of(state: CopyState, **changes: Any) -> Copy:
    fields: dict[str, Any] = {"state": state, "requested_at": THEN, "requested_by": "snapkeep", "reason": "bought"}
    return Copy(**fields | changes)


def disk(**changes: Any) -> Disk:
    fields: dict[str, Any] = {
        "id": "1",
        "name": "acme-pam-1-boot",
        "project": PROJECT,
        "zone": ZONE,
        "region": REGION,
        "replica_zones": (),
        "type": "pd-balanced",
        "size_gb": 100,
        "status": "READY",
        "labels": {},
        "provisioned_iops": None,
        "provisioned_throughput": None,
        "architecture": "X86_64",
        "guest_os_features": ("UEFI_COMPATIBLE",),
        "kms_key": None,
        "customer_supplied_key": False,
    }
    return Disk(**fields | changes)


def attached(source: str, **changes: Any) -> AttachedDisk:
    fields: dict[str, Any] = {
        "device_name": source.rsplit("/", 1)[-1] or "local-ssd-0",
        "source": source,
        "persistent": bool(source),
        "boot": source.endswith("boot"),
        "mode": "READ_WRITE",
        "interface": "SCSI" if source else "NVME",
        "auto_delete": True,
    }
    return AttachedDisk(**fields | changes)


def machine(*disks: Disk, **changes: Any) -> cloud.Instance:
    """An instance as Compute Engine has it, with these disks attached; without any, with `disk()`."""
    fields: dict[str, Any] = {
        "id": INSTANCE_ID,
        "name": "acme-pam-1",
        "project": PROJECT,
        "zone": ZONE,
        "status": "RUNNING",
        "labels": {"tenant": "acme"},
        "disks": tuple(attached(d.link) for d in disks or (disk(),)),
        "definition": {"machineType": "e2-standard-4"},
    }
    return cloud.Instance(**fields | changes)


def snapshot(**changes: Any) -> Snapshot:
    fields: dict[str, Any] = {
        "id": "9001",
        "name": "sk-boot-1",
        "project": PROJECT,
        "status": "READY",
        "source_disk": disk().link,
        "source_disk_id": "1",
        "locations": (REGION,),
        "labels": {},
        "created_at": THEN + timedelta(seconds=30),
        "bytes": 1_000,
    }
    return Snapshot(**fields | changes)


def operation(**changes: Any) -> Operation:
    fields: dict[str, Any] = {
        "id": "77",
        "name": "op-77",
        "link": f"projects/{PROJECT}/global/operations/op-77",
        "status": "RUNNING",
        "target": "",
    }
    return Operation(**fields | changes)


# --- a cloud and a Snapkeep that uses it --------------------------------------------------------------------------


class HandClock:
    """A clock that stands still until a test moves it."""

    def __init__(self, at: datetime = THEN) -> None:
        self.at = at
        self.tokens = 0

    def now(self) -> datetime:
        return self.at

    def token(self) -> str:
        self.tokens += 1
        return f"{self.tokens:016x}"

    def move(self, **duration: float) -> None:
        self.at += timedelta(**duration)


@dataclass
class FakeCompute:
    """Compute Engine in four dictionaries: a snapshot that is asked for stays as it is until a test moves it on.

    `before` sees each call first (`start NAME`, `find KIND PROJECT`, `get LINK`) and may raise what that call meets;
    `after` sees each start once it has taken effect.
    """

    clock: HandClock
    resources: dict[str, Resource] = field(default_factory=dict)
    started: list[InsertSnapshot] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    before: Callable[[str], None] = lambda call: None
    after: Callable[[str], None] = lambda call: None
    _requests: dict[str, str] = field(default_factory=dict)
    _ids: int = 1000

    def add(self, *resources: Resource) -> None:
        for resource in resources:
            self.resources[resource.link] = resource

    def get(self, kind: type[R], link: str) -> R | None:
        self._called(f"get {link}")
        found = self.resources.get(link)
        return found if isinstance(found, kind) else None

    def find(self, kind: type[R], project: str, where: str = "") -> Iterator[R]:
        self._called(f"find {kind.__name__} {project}")
        names = re.findall(r'name = "([^"]*)"', where)
        for link, resource in list(self.resources.items()):
            wanted = link.startswith(f"projects/{project}/") and (not where or resource.name in names)
            if wanted and isinstance(resource, kind):
                yield resource

    def start(self, change: Change, request_id: str) -> str:
        assert isinstance(change, InsertSnapshot)
        self._called(f"start {change.name}")
        if request_id in self._requests:
            return self._requests[request_id]
        if change.link in self.resources:
            raise Refused(f"{change.link} already exists", code=409, reason="alreadyExists")
        source = self.resources.get(change.source_disk)
        if not isinstance(source, Disk):
            raise Refused(f"{change.source_disk} was not found", code=404, reason="notFound")
        self._ids += 1
        made = snapshot(
            id=str(self._ids),
            name=change.name,
            project=change.project,
            status="CREATING",
            source_disk=change.source_disk,
            source_disk_id=source.id,
            locations=(change.location,),
            labels=change.labels,
            created_at=self.clock.now(),
            kms_key=change.kms_key,
        )
        link = f"projects/{change.project}/global/operations/op-{self._ids}"
        self.add(made, operation(id=str(self._ids), name=f"op-{self._ids}", link=link, target=change.link))
        self.started.append(change)
        self._requests[request_id] = link
        self.after(f"start {change.name}")
        return link

    def _called(self, call: str) -> None:
        self.calls.append(call)
        self.before(call)

    # What happens in the cloud by itself, or by others.

    @property
    def snapshots(self) -> list[Snapshot]:
        return [resource for resource in self.resources.values() if isinstance(resource, Snapshot)]

    def finish(self, name: str, status: str = "READY", **operation_changes: Any) -> None:
        """End the operation of a snapshot and leave the snapshot in this status; "" removes it."""
        for link, resource in list(self.resources.items()):
            if isinstance(resource, Operation) and resource.target.endswith(f"/{name}"):
                self.resources[link] = changed(resource, status="DONE", **operation_changes)
            elif isinstance(resource, Snapshot) and resource.name == name:
                if status:
                    self.resources[link] = changed(resource, status=status)
                else:
                    del self.resources[link]

    def finish_all(self, status: str = "READY") -> None:
        for made in self.snapshots:
            if made.status in ("CREATING", "UPLOADING"):
                self.finish(made.name, status)


@dataclass
class FakeGuests:
    """Every application answers, but for those whose `silence` says why not; disks hold what `held` says."""

    silence: dict[str, str] = field(default_factory=dict)  # by address
    held: dict[str, str] = field(default_factory=dict)  # by the link of a disk or a snapshot
    asked: list[tuple[str, Probe]] = field(default_factory=list)

    def reach(self, address: str, probe: Probe) -> str | None:
        self.asked.append((address, probe))
        return self.silence.get(address)

    def contents(self, link: str) -> str | None:
        return self.held.get(link)


class World:
    """One Snapkeep on memory ports, whose functions run when a test says so.

    `documents` may be replaced by something around it, to put an event between two of its calls.
    """

    def __init__(self, at: datetime = THEN) -> None:
        self.clock = HandClock(at)
        self.memory = MemoryDocuments(self.clock.now)
        self.documents: Documents = self.memory
        self.compute = FakeCompute(self.clock)
        self.guests = FakeGuests()
        self.bus = MemoryBus(self.clock.now)
        self.declared = Declared()
        for function in FUNCTIONS:
            self.bus.subscribe(f"snapkeep-{function.replace('_', '-')}", partial(self.receive, function))

    @property
    def bare(self) -> Ports:
        return Ports(self.documents, self.compute, self.bus, self.clock, self.guests)

    @property
    def ports(self) -> Ports:
        """Those of `web`: what people do and look at goes through it."""
        return self.of("web")

    def of(self, function: str) -> Ports:
        """The ports with which a function can do what it declares."""
        return self.declared.hold(function, self.bare)

    def receive(self, function: str, envelope: Any) -> None:
        """One delivery to this function as it comes, now."""
        ENTRIES[function](envelope, self.of(function))

    def hand(self, function: str, body: bytes | Message) -> None:
        """One delivery of this message to this function, now."""
        self.receive(function, envelope(body if isinstance(body, bytes) else encode(body)))

    def tick(self, *functions: str) -> None:
        """Let each function do its tick, and then whatever messages that led to."""
        for function in functions:
            self.hand(function, TICK)
            self.deliver()

    def deliver(self) -> int:
        """Deliver all that waits; a fault of a function is raised."""
        count = 0
        while delivery := self.bus.deliver_next():
            _raise(delivery)
            count += 1
        return count

    def lose_messages(self) -> None:
        for message in self.bus.pending():
            self.bus.drop(message)

    def pass_time(self, duration: timedelta, every: timedelta = timedelta(minutes=1)) -> None:
        """Time goes by with nothing but the ticks of `reconcile`."""
        end = self.clock.at + duration
        while self.clock.at < end:
            self.clock.at += every
            self.tick("reconcile")

    # What is stored.

    def put(self, *values: tuple[str, Stored]) -> None:
        """Write documents whatever was there."""
        for path, value in values:
            (seen,) = self.memory.get(path)
            data = to_data(value)
            self.memory.commit(Replace(path, data, seen.version) if seen else Create(path, data))

    def set_up(self, *machines: cloud.Instance, of: Tenant | None = None, disks: tuple[Disk, ...] = ()) -> None:
        """A tenant, its machines and their disks; discovered."""
        owner = of or tenant()
        self.compute.add(*(disks or (disk(),)), *(machines or (machine(),)))
        self.put((f"tenants/{owner.id}", owner_due(owner, self.clock.now())))
        self.tick("discover")

    def store(self, id: str = "acme") -> TenantStore:
        return TenantStore(self.documents, id)

    def read(self, kind: type[T], path: str) -> T:
        (doc,) = self.memory.get(path)
        assert doc is not None, path
        return from_data(kind, doc.data)

    def all(self, kind: type[T], collection: str, id: str = "acme") -> list[T]:
        return [from_data(kind, data) for _, data in self.documents_in(f"tenants/{id}/{collection}/")]

    def documents_in(self, prefix: str) -> list[tuple[str, Data]]:
        return [(path, data) for path, data in self.memory.dump().items() if path.startswith(prefix)]

    def points(self, id: str = "acme") -> list[Point]:
        return self.all(Point, "points", id)

    def the_point(self) -> Point:
        (only,) = self.points()
        return only

    def instances(self, id: str = "acme") -> list[Instance]:
        return self.all(Instance, "instances", id)

    def the_instance(self) -> Instance:
        (only,) = self.instances()
        return only

    def records(self, id: str = "acme") -> list[dict[str, Any]]:
        """Bodies of the tenant's audit records, numbered or not, in the order of their commits."""
        inbox = sorted((data for _, data in self.documents_in(f"tenants/{id}/inbox/")), key=lambda d: d["committed_at"])
        return [json.loads(data["bytes"]) for data in inbox]

    def outcomes(self, id: str = "acme") -> list[tuple[str, str]]:
        """Every (snapshot name, outcome) that the tenant's audit records tell of."""
        return [(o["name"], o["outcome"]) for record in self.records(id) for o in record["detail"].get("outcomes", [])]

    def intents(self, id: str = "acme") -> list[str]:
        return [change["name"] for record in self.records(id) for change in record["detail"].get("changes", [])]

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for body in self.bus.outbox("snapkeep-events")]


def owner_due(owner: Tenant, now: datetime) -> Tenant:
    """The tenant as `fleet apply` leaves it: to be discovered at once."""
    data = to_data(owner) | {"discover_at": now, "updated_at": now}
    return from_data(Tenant, data)


def _raise(delivery: Delivery) -> None:
    if delivery.fault:
        raise delivery.fault


def envelope(body: bytes) -> dict[str, Any]:
    """A push delivery of this body."""
    return {
        "message": {"data": base64.b64encode(body).decode(), "attributes": {}, "messageId": "1"},
        "subscription": "projects/local/subscriptions/any",
    }

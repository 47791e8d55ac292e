"""A tenant with stored points, their snapshots in the local cloud, and the two functions that let them go."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from msgspec.structs import replace
from tests.makers import TICK, envelope

from snapkeep import documents as d
from snapkeep.cloud import Change, Resource, Snapshot
from snapkeep.copies import rules as copying
from snapkeep.creation.rules import after_transition, snapshot_name, to_be_weighed
from snapkeep.entry import ENTRIES
from snapkeep.messages import Message, encode
from snapkeep.ports import Create, Doc, Ports, Query, Replace, Write
from snapkeep.store import Held, TenantStore
from snapkeep_local.cloud import Cloud
from snapkeep_local.compute import LocalCompute
from snapkeep_local.declared import Declared
from snapkeep_local.limits import Limits
from snapkeep_local.memory import MemoryBus, MemoryDocuments

R = TypeVar("R", bound=Resource)
T = TypeVar("T", bound=d.Stored)

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
PROJECT, VAULT, ZONE, REGION = "acme-prod", "acme-vault", "southamerica-east1-a", "southamerica-east1"
US = "us-east1"
INSTANCE_ID = "17870283321406128359"
POLICY = d.Retention(keep_last=1, keep_daily=0, keep_weekly=0, keep_monthly=0, lock_days=0)
GENEROUS = Limits(lists_per_minute=10**6, reads_per_minute=10**6, mutations_per_minute=10**6)


class Death(BaseException):
    """The process is gone."""


class Effects:
    """What the functions do to the world, one after the other. `before` and `after` may raise what an effect meets."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.before: Callable[[str], None] = lambda effect: None
        self.after: Callable[[str], None] = lambda effect: None


def meets(begins: str, fault: BaseException) -> Callable[[str], None]:
    """For `before` or `after`: what every effect meets whose words begin so."""

    def met(effect: str) -> None:
        if effect.startswith(begins):
            raise fault.with_traceback(None)  # one and the same each time: without the frames of the time before

    return met


class _Documents:
    def __init__(self, inner: MemoryDocuments, effects: Effects) -> None:
        self._inner, self._effects = inner, effects

    def get(self, *paths: str) -> list[Doc | None]:
        self._effects.before(f"get {' '.join(paths)}")
        return self._inner.get(*paths)

    def find(self, query: Query) -> list[Doc]:
        self._effects.before(f"find {query.collection}")
        return self._inner.find(query)

    def commit(self, *writes: Write) -> None:
        actions = [json.loads(w.data["bytes"])["action"] for w in writes if "/inbox/" in w.path]
        effect = f"commit {' '.join(actions) or writes[0].path}"
        self._effects.before(effect)
        self._inner.commit(*writes)
        self._effects.seen.append(effect)
        self._effects.after(effect)


class _Compute:
    def __init__(self, inner: LocalCompute, effects: Effects) -> None:
        self._inner, self._effects = inner, effects

    def get(self, kind: type[R], link: str) -> R | None:
        self._effects.before(f"compute.get {link}")
        return self._inner.get(kind, link)

    def find(self, kind: type[R], project: str, where: str = "") -> Iterator[R]:
        self._effects.before(f"compute.find {project}")
        return self._inner.find(kind, project, where)

    def start(self, change: Change, request_id: str) -> str:
        self._effects.before(f"start {change.name}")
        operation = self._inner.start(change, request_id)
        self._effects.seen.append(f"start {change.name}")
        self._effects.after(f"start {change.name}")
        return operation


class _Bus:
    def __init__(self, inner: MemoryBus, effects: Effects) -> None:
        self._inner, self._effects = inner, effects

    def publish(self, topic: str, body: bytes) -> None:
        self._effects.before(f"publish {topic}")
        self._inner.publish(topic, body)


class Scene:
    def __init__(self, policy: d.Retention = POLICY, **of_tenant: Any) -> None:
        self.cloud = Cloud(1, NOW, GENEROUS)
        self.memory = MemoryDocuments(lambda: self.cloud.now)
        self.bus = MemoryBus(lambda: self.cloud.now)
        self.compute = LocalCompute(self.cloud)
        self.effects = Effects()
        self.declared = Declared()
        for function in ("retention", "expire"):
            self.bus.subscribe(f"snapkeep-{function}", partial(self.receive, function))
        self.taken = 0
        self.put(
            "tenants/acme",
            d.Tenant(
                updated_at=NOW,
                id="acme",
                name="Acme",
                project=PROJECT,
                vault_project=VAULT,
                instances=d.Selected(by_name=[d.ByName(name="app", zone=ZONE)]),
                timezone="UTC",
                retention=policy,
                applied_at=NOW,
                applied_by="operator:test",
                **{"rpo_hours": 8784, **of_tenant},
            ),
        )
        self.add_instance(INSTANCE_ID)

    def add_instance(self, id: str, **changes: Any) -> None:
        fields: dict[str, Any] = {"name": "app", "project": PROJECT, "zone": ZONE, "region": REGION, "disks": []}
        self.put(
            f"tenants/acme/instances/{id}", d.Instance(updated_at=NOW, id=id, seen_at=NOW, **{**fields, **changes})
        )

    def receive(self, function: str, message: Any) -> None:
        ENTRIES[function](message, self.of(function))

    def now(self) -> datetime:
        return self.cloud.now

    def token(self) -> str:
        return "0" * 16

    @property
    def bare(self) -> Ports:
        return Ports(
            _Documents(self.memory, self.effects),
            _Compute(self.compute, self.effects),
            _Bus(self.bus, self.effects),
            self,
        )

    @property
    def ports(self) -> Ports:
        """Those of `web`: what people do goes through it."""
        return self.of("web")

    def of(self, function: str) -> Ports:
        """The ports with which a function can do what it declares."""
        return self.declared.hold(function, self.bare)

    # --- what is stored -----------------------------------------------------------------------------------------

    def put(self, path: str, value: d.Stored) -> None:
        (seen,) = self.memory.get(path)
        data = d.to_data(value)
        self.memory.commit(Replace(path, data, seen.version) if seen else Create(path, data))

    def read(self, kind: type[T], *parts: str) -> T:
        found = TenantStore(self.memory, "acme").get(kind, *parts)
        assert found is not None, parts
        return found.value

    def held(self, kind: type[T], *parts: str) -> Held[T]:
        found = TenantStore(self.memory, "acme").get(kind, *parts)
        assert found is not None, parts
        return found

    def change(self, kind: type[T], *parts: str, **changes: Any) -> None:
        """Write some fields of a document, as a command or another function does."""
        found = self.held(kind, *parts)
        self.memory.commit(found.replaced(replace(found.value, **changes)))

    def point(self, id: str) -> d.Point:
        return self.read(d.Point, "points", id)

    @property
    def instance(self) -> d.Instance:
        return self.read(d.Instance, "instances", INSTANCE_ID)

    @property
    def states(self) -> list[str]:
        """Of the points, in the order in which they were taken."""
        dump = self.memory.dump()
        return [dump[path]["state"] for path in sorted(p for p in dump if "/points/" in p)]

    def take(
        self,
        *,
        disks: int = 1,
        instance: str = INSTANCE_ID,
        state: d.PointState = "verified",
        noted: bool = True,
        made: bool = True,
        attempts: int = 1,
        **changes: Any,
    ) -> str:
        """A point of this moment with its snapshots; returns its id. A minute passes.

        Not `noted`: nobody has read its snapshots. Not `made`: they do not exist. Of more `attempts` each has made one.
        """
        self.taken += 1
        id = f"{self.cloud.now:%Y%m%d}-o-app-{self.taken:08x}"
        entries = []
        for number in range(disks):
            link = f"projects/{PROJECT}/zones/{ZONE}/disks/disk-{number}"
            name = f"disk-{number}"
            if not any(disk["selfLink"].endswith(link) for disk in self.disks):
                self.cloud.add_disk(project=PROJECT, zone=ZONE, name=name)
                self._disks = None
            disk_id = next(disk["id"] for disk in self.disks if disk["selfLink"].endswith(link))
            refs = []
            for attempt in range(1, attempts + 1):
                snapshot = snapshot_name("acme", id, "app", name, disk_id, REGION, attempt)
                ref = d.SnapshotRef(project=VAULT, name=snapshot, location=REGION)
                if made:
                    labels = {"snapkeep-tenant": "acme", "snapkeep-point": id, "snapkeep-role": "home"}
                    self.cloud.plant_snapshot(
                        project=VAULT, name=snapshot, labels=labels, source_disk=link, location=REGION
                    )
                if made and noted:
                    found = self.snapshot(snapshot)
                    assert found is not None
                    ref = replace(ref, id=found.id, status="READY", bytes=1000, created_at=found.created_at)
                refs.append(ref)
            entries.append(_entry(name, disk_id, refs))
        now = self.cloud.now
        fields: dict[str, Any] = {
            "instance": d.InstanceRef(id=instance, name="app", project=PROJECT, zone=ZONE, region=REGION),
            "vault_project": VAULT,
            "disks": entries,
            "requested_at": now,
            "start_after": now,
            "start_by": now,
            "started_at": now,
            "verified_at": now if state == "verified" else None,
            "deadline": now,
            "stored_for": instance,
            "requested_by": "schedule",
            "reason": "a test",
            "expected_s": 60,
        }
        point = d.Point(updated_at=now, id=id, trigger="on_demand", state=state, **{**fields, **changes})
        self.put(f"tenants/acme/points/{id}", point)
        held = self.held(d.Instance, "instances", instance)
        after = after_transition(held.value, self.read(d.Tenant), None, point)
        self.memory.commit(held.replaced(after))
        self.cloud.advance(now + timedelta(minutes=1))
        return id

    def copy(
        self,
        id: str,
        *,
        region: str = US,
        state: d.CopyState = "verified",
        noted: bool = True,
        made: bool = True,
        attempts: int = 1,
        temporary: bool = False,
        **changes: Any,
    ) -> None:
        """A copy of the point, of this moment, with its snapshots.

        Of its disks, or, with `temporary`, of disks that were made to be copied from. The rest as in `take`.
        """
        before = self.point(id)
        entries = []
        for disk in before.disks:
            made_from = d.TemporaryDisk(project=VAULT, zone=ZONE, name=f"tmp-{disk.name}-{id}", size_gb=20)
            link = f"projects/{PROJECT}/zones/{ZONE}/disks/{disk.name}"
            if temporary:
                link = f"projects/{VAULT}/zones/{ZONE}/disks/{made_from.name}"
                self.cloud.add_disk(project=VAULT, zone=ZONE, name=made_from.name)
                its_id = next(one["id"] for one in self.cloud.state()["disks"] if one["selfLink"].endswith(link))
                made_from = replace(made_from, id=its_id, status="GONE")
            refs = []
            for attempt in range(1, attempts + 1):
                name = snapshot_name("acme", id, "app", disk.name, disk.id, region, attempt)
                ref = d.SnapshotRef(project=VAULT, name=name, location=region)
                labels = {"snapkeep-tenant": "acme", "snapkeep-point": id, "snapkeep-role": "copy"}
                if made:
                    self.cloud.plant_snapshot(
                        project=VAULT, name=name, labels=labels, source_disk=link, location=region
                    )
                found = self.snapshot(name)
                if found is not None and noted:
                    ref = replace(ref, id=found.id, status="READY", bytes=700, created_at=disk.snapshot.created_at)
                refs.append(ref)
            entries.append(
                d.CopyDisk(
                    id=disk.id,
                    name=disk.name,
                    snapshot=refs[-1],
                    superseded=refs[:-1],
                    attempts=attempts,
                    temporary=made_from if temporary else None,
                )
            )
        now = self.cloud.now
        fields: dict[str, Any] = {
            "disks": entries,
            "requested_at": now,
            "requested_by": "snapkeep",
            "reason": "a test",
            "started_at": now,
            "verified_at": now if state == "verified" else None,
        }
        copy = d.Copy(state=state, **{**fields, **changes})
        after = replace(before, copies={**before.copies, region: copy})
        after = replace(after, held=bool(after.holds or copy.holds))
        instance = self.read(d.Instance, "instances", before.instance.id)
        bought = copying.entitled(self.read(d.Tenant), now)
        work = copying.counted(instance.copies, before, after, bought.region if bought else None)
        self.put(f"tenants/acme/points/{id}", after)
        self.put(f"tenants/acme/instances/{instance.id}", to_be_weighed(replace(instance, copies=work), now))
        self.cloud.advance(now + timedelta(minutes=1))

    def copy_names(self, id: str, region: str = US) -> list[str]:
        return [ref.name for disk in self.point(id).copies[region].disks for ref in (*disk.superseded, disk.snapshot)]

    def copy_there(self, id: str, region: str = US) -> bool:
        """Whether any snapshot of the copy's names is there."""
        return any(self.snapshot(name) for name in self.copy_names(id, region))

    def copy_states(self, region: str = US) -> list[str]:
        """Of the copies, in the order in which their points were taken."""
        dump = self.memory.dump()
        points = [dump[path] for path in sorted(p for p in dump if "/points/" in p)]
        return [point["copies"][region]["state"] for point in points if region in point["copies"]]

    _disks: list[Any] | None = None

    @property
    def disks(self) -> list[Any]:
        if self._disks is None:
            self._disks = self.cloud.state()["disks"]
        return self._disks

    def take_daily(self, days: int, **changes: Any) -> list[str]:
        ids = []
        for _ in range(days):
            ids.append(self.take(**changes))
            self.cloud.advance(self.cloud.now + DAY)
        return ids

    # --- what the cloud holds -----------------------------------------------------------------------------------

    def snapshot(self, name: str) -> Snapshot | None:
        return self.compute.get(Snapshot, f"projects/{VAULT}/global/snapshots/{name}")

    def names(self, id: str) -> list[str]:
        return [ref.name for disk in self.point(id).disks for ref in (*disk.superseded, disk.snapshot)]

    def there(self, id: str) -> bool:
        """Whether any snapshot of the point's names is there."""
        return any(self.snapshot(name) for name in self.names(id))

    @property
    def deletions(self) -> list[str]:
        """Names of snapshots that were asked to go, in order."""
        return [effect.split()[1] for effect in self.effects.seen if effect.startswith("start ")]

    # --- what happens -------------------------------------------------------------------------------------------

    def hand(self, function: str, message: Message) -> None:
        self.receive(function, envelope(encode(message)))

    def tick(self) -> None:
        """One tick of `retention`, and what it leads to. A fault of a function is raised."""
        self.receive("retention", envelope(TICK))
        self.deliver()

    def deliver(self) -> None:
        while delivery := self.bus.deliver_next():
            if delivery.fault:
                raise delivery.fault

    def wait(self, duration: timedelta) -> None:
        """Time goes by with the ticks of `retention`, one every ten minutes."""
        end = self.cloud.now + duration
        while self.cloud.now < end:
            self.cloud.advance(min(self.cloud.now + timedelta(minutes=10), end))
            self.tick()

    def weigh(self) -> None:
        """A tick at which the instance is weighed whatever it said."""
        self.change(
            d.Instance,
            "instances",
            INSTANCE_ID,
            retention_at=self.cloud.now,
            retention=replace(self.instance.retention, plan_at=self.cloud.now),
        )
        self.tick()

    # --- what is written down -----------------------------------------------------------------------------------

    def records(self, action: str = "", tenant: str = "acme") -> list[dict[str, Any]]:
        inbox = [data for path, data in self.memory.dump().items() if path.startswith(f"tenants/{tenant}/inbox/")]
        bodies = [json.loads(data["bytes"]) for data in sorted(inbox, key=lambda data: data["committed_at"])]
        return [body for body in bodies if action in ("", body["action"])]

    def intents(self) -> list[tuple[str, int]]:
        return [(c["name"], c["attempt"]) for record in self.records() for c in record["detail"].get("changes", [])]

    def outcomes(self) -> list[tuple[str, int, str]]:
        return [
            (o["name"], o["attempt"], o["outcome"])
            for record in self.records()
            for o in record["detail"].get("outcomes", [])
        ]

    def events(self, tenant: str = "acme") -> list[dict[str, Any]]:
        """Promised with a record; `audit` publishes them."""
        inbox = [data for path, data in self.memory.dump().items() if path.startswith(f"tenants/{tenant}/inbox/")]
        return [data["event"] for data in sorted(inbox, key=lambda data: data["committed_at"]) if data["event"]]


def _entry(name: str, id: str, refs: list[d.SnapshotRef]) -> d.PointDisk:
    return d.PointDisk(
        name=name,
        id=id,
        type="pd-balanced",
        size_gb=20,
        device_name=name,
        boot=False,
        mode="READ_WRITE",
        interface="SCSI",
        auto_delete=True,
        zone=ZONE,
        snapshot=refs[-1],
        superseded=refs[:-1],
        attempts=len(refs),
    )

"""What should have happened in a local cloud, worked out from the fleet file without Snapkeep's own rules.

It is read with Google's clients alone. `Expectations` are the tests that hold whatever happened meanwhile: they stand
in a class of each story, whose fixtures `cloud`, `google` and `day` tell it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import yaml
from google.auth.credentials import AnonymousCredentials
from google.cloud import compute_v1, firestore
from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient  # type: ignore[import-untyped]  # no py.typed
from tests.e2e.conftest import Up

FLEET = Path(__file__).parents[2] / "examples" / "fleet.yaml"

TO_VERIFY = timedelta(hours=1)
"""What a slot is given to become a verified point."""

TO_COPY = timedelta(hours=1)
"""What a verified point is given until its copy is verified too."""

CALL_TIMEOUT_S = 10
PULLS_MAX = 20
EMULATORS = {"FIRESTORE_EMULATOR_HOST": "firestore", "PUBSUB_EMULATOR_HOST": "pubsub"}

TENANTS: list[dict[str, Any]] = yaml.safe_load(FLEET.read_text())["tenants"]


def of_deployment(tenants: Sequence[dict[str, Any]], deployment: str) -> list[dict[str, Any]]:
    return [tenant for tenant in tenants if tenant.get("deployment", "saas") == deployment]


VENDOR_MANAGED = of_deployment(TENANTS, "saas")
CLIENT_MANAGED = of_deployment(TENANTS, "private_saas")


# --- what there is ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Google:
    """Google's clients, pointed at the addresses that `up` printed."""

    project: str
    firestore: firestore.Client
    instances: compute_v1.InstancesClient
    disks: compute_v1.DisksClient
    region_disks: compute_v1.RegionDisksClient
    snapshots: compute_v1.SnapshotsClient
    publisher: Any
    subscriber: Any

    def documents(self, *path: str) -> dict[str, dict[str, Any]]:
        return {doc.id: doc.to_dict() or {} for doc in self.firestore.collection("/".join(path)).stream()}

    def creating(self) -> list[str]:
        """The points whose snapshots have been asked for and not been read back yet."""
        points = self.firestore.collection_group("points").stream()
        return [point.id for point in points if (point.to_dict() or {})["state"] == "creating"]

    def publish(self, topic: str, body: bytes) -> None:
        self.publisher.publish(f"projects/{self.project}/topics/{topic}", body).result(timeout=CALL_TIMEOUT_S)

    def snapshots_of(self, project: str) -> dict[str, compute_v1.Snapshot]:
        return {snapshot.name: snapshot for snapshot in self.snapshots.list(project=project)}


@contextmanager
def google_clients(cloud: Up) -> Iterator[Google]:
    """Google's clients for a local cloud; they go on through a restart that keeps its addresses."""
    before = {name: os.environ.get(name) for name in EMULATORS}
    os.environ.update({name: cloud.addresses[key] for name, key in EMULATORS.items()})
    at: dict[str, Any] = {
        "credentials": AnonymousCredentials(),  # type: ignore[no-untyped-call]  # google-auth types none
        "client_options": {"api_endpoint": cloud.addresses["compute"]},
    }
    project = cloud.addresses["project"]
    clients = Google(
        project,
        firestore.Client(project=project, database=cloud.addresses["database"]),
        compute_v1.InstancesClient(**at),
        compute_v1.DisksClient(**at),
        compute_v1.RegionDisksClient(**at),
        compute_v1.SnapshotsClient(**at),
        PublisherClient(),
        SubscriberClient(),
    )
    try:
        yield clients
    finally:
        clients.publisher.stop()
        clients.subscriber.close()
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@dataclass(frozen=True)
class Protected:
    """An instance that the fleet file asks points of, with what Compute Engine holds of it."""

    tenant: dict[str, Any]
    instance: compute_v1.Instance
    disk_ids: frozenset[str]

    @property
    def zone(self) -> str:
        return self.instance.zone.rsplit("/", 1)[1]

    @property
    def region(self) -> str:
        return self.zone.rsplit("-", 1)[0]

    @property
    def vault(self) -> str:
        return str(self.tenant.get("vault_project", self.tenant["project"]))


def instances_of(google: Google, tenant: dict[str, Any]) -> Iterator[Protected]:
    wanted = tenant["instances"]
    for _, scoped in google.instances.aggregated_list(project=tenant["project"]):
        for instance in scoped.instances:
            zone = instance.zone.rsplit("/", 1)[1]
            if isinstance(wanted, dict):
                key, _, value = wanted["label"].partition("=")
                selected = instance.labels.get(key) == value
            else:
                selected = {"name": instance.name, "zone": zone} in wanted
            if selected:
                sources = [disk.source for disk in instance.disks if disk.type_ == "PERSISTENT"]
                yield Protected(tenant, instance, frozenset(disk_id(google, source) for source in sources))


def disk_id(google: Google, source: str) -> str:
    project, kind, where, name = (source.split("/")[i] for i in (-5, -4, -3, -1))
    if kind == "regions":
        return str(google.region_disks.get(project=project, region=where, disk=name).id)
    return str(google.disks.get(project=project, zone=where, disk=name).id)


def due_days(tenant: dict[str, Any], start: datetime, end: datetime) -> set[str]:
    """The local days whose slot starts, whatever the instance's place in the spread, in time to be verified."""
    schedule = tenant.get("schedule", {})
    hour, minute = map(int, schedule.get("daily_at", "02:30").split(":"))
    spread = timedelta(minutes=schedule.get("spread_minutes", 30))
    zone = ZoneInfo(tenant.get("timezone", "America/Sao_Paulo"))
    days = set()
    for offset in range(-2, (end - start).days + 3):
        day = (start + timedelta(days=offset)).date()
        first = datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone).astimezone(UTC)
        if first >= start and first + spread <= end - TO_VERIFY:
            days.add(day.isoformat())
        else:
            # Else the fleet file would leave open what the test is to expect.
            assert first + spread < start or first > end - TO_VERIFY, f"{tenant['id']}: {day} may or may not be due"
    return days


@dataclass(frozen=True)
class Day:
    """A stretch of simulated time that has passed, and what it left."""

    start: datetime
    end: datetime
    protected: list[Protected]
    points: dict[str, dict[str, dict[str, Any]]]  # tenant -> id -> document
    asked: Sequence[tuple[str, str, str]]  # on demand: tenant, instance's id, reason
    tenants: Sequence[dict[str, Any]]  # as the fleet file has them

    def of(self, one: Protected) -> list[dict[str, Any]]:
        points = self.points[one.tenant["id"]].values()
        return [point for point in points if point["instance"]["id"] == str(one.instance.id)]

    def scheduled(self, one: Protected) -> list[dict[str, Any]]:
        return [point for point in self.of(one) if point["trigger"] == "scheduled"]

    def all(self) -> list[dict[str, Any]]:
        return [point for points in self.points.values() for point in points.values()]


def read_day(
    google: Google,
    start: datetime,
    end: datetime,
    asked: Sequence[tuple[str, str, str]] = (),
    tenants: Sequence[dict[str, Any]] = TENANTS,
) -> Day:
    protected = [one for tenant in of_deployment(tenants, "saas") for one in instances_of(google, tenant)]
    points = {tenant["id"]: google.documents("tenants", tenant["id"], "points") for tenant in tenants}
    return Day(start, end, protected, points, tuple(asked), tenants)


class Strangers:
    """They ask for points on demand, each of another instance."""

    def __init__(self, google: Google, tenants: Sequence[dict[str, Any]] = VENDOR_MANAGED) -> None:
        self._google = google
        self._instances = [one for tenant in tenants for one in instances_of(google, tenant)]
        self.asked: list[tuple[str, str, str]] = []  # tenant, instance's id, reason

    def ask(self) -> None:
        one = self._instances[len(self.asked) % len(self._instances)]
        id = f"request {len(self.asked)}"
        wanted = {
            "schema": 1,
            "type": "create.requested",
            "id": id,
            "tenant": one.tenant["id"],
            "claimed_actor": "ci@vendor.example",
            "reason": id,
            "data": {"instance": str(one.instance.id)},
        }
        self._google.publish("snapkeep-create", json.dumps(wanted).encode())
        self.asked.append((one.tenant["id"], str(one.instance.id), id))


@dataclass
class Listener:
    """Whoever listens to the events, and remembers them: each is pulled once."""

    google: Google
    heard: list[dict[str, Any]] = field(default_factory=list)

    def listen(self) -> None:
        """Hear all that was told before, up to a word of our own."""
        subscription = f"projects/{self.google.project}/subscriptions/snapkeep-events"
        word = f"fence {len(self.heard)}"
        self.google.publish("snapkeep-events", json.dumps({"id": word, "type": "fence"}).encode())
        for _ in range(PULLS_MAX):
            pulled = self.google.subscriber.pull(subscription=subscription, max_messages=1000, timeout=CALL_TIMEOUT_S)
            self.heard += [json.loads(received.message.data) for received in pulled.received_messages]
            ack_ids = [received.ack_id for received in pulled.received_messages]
            if ack_ids:
                self.google.subscriber.acknowledge(subscription=subscription, ack_ids=ack_ids, timeout=CALL_TIMEOUT_S)
            if any(event["id"] == word for event in self.heard):
                return
        raise AssertionError(f"{PULLS_MAX} pulls did not bring {word}")

    def ids(self, type: str) -> dict[str, set[str]]:
        """The ids of the events of a type, by the point that they tell of."""
        ids: dict[str, set[str]] = defaultdict(set)
        for event in self.heard:
            if event["type"] == type:
                ids[event["data"]["point"]].add(event["id"])
        return ids


def snapshots_told(point: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What a point's document says of its snapshots, at home and of its copies, as far as they were asked for."""
    for one in (point, *point["copies"].values()):
        for disk in one["disks"]:
            temporary = disk.get("temporary")
            if not temporary or temporary["ready_at"]:  # before, there is nothing to make it of
                yield disk["snapshot"]


# --- what should be -----------------------------------------------------------------------------------------------


class Expectations:
    def test_every_due_slot_of_every_instance_has_one_verified_point(self, day: Day, cloud: Up) -> None:
        for one in day.protected:
            points = day.scheduled(one)
            days = sorted(point["slot"]["day"] for point in points)
            due = sorted(due_days(one.tenant, day.start, day.end))
            assert days == due, f"{one.tenant['id']} {one.instance.name}: {days}{cloud.said()}"
        assert {point["state"] for point in day.all()} == {"verified"}

    def test_every_point_starts_within_its_spread(self, day: Day) -> None:
        for one in day.protected:
            schedule = one.tenant.get("schedule", {})
            for point in day.scheduled(one):
                hour, minute = map(int, schedule.get("daily_at", "02:30").split(":"))
                local = datetime.fromisoformat(point["slot"]["day"]).replace(hour=hour, minute=minute)
                first = local.replace(tzinfo=ZoneInfo(one.tenant.get("timezone", "America/Sao_Paulo")))
                late = point["slot"]["at"] - first
                assert timedelta() <= late <= timedelta(minutes=schedule.get("spread_minutes", 30))
                assert point["slot"]["at"] <= point["started_at"] <= point["slot"]["at"] + timedelta(minutes=15)

    def test_every_disk_has_a_ready_snapshot_where_it_should_be(self, day: Day, google: Google) -> None:
        snapshots: dict[str, dict[str, compute_v1.Snapshot]] = {
            vault: google.snapshots_of(vault) for vault in {one.vault for one in day.protected}
        }
        for one in day.protected:
            for point in day.of(one):
                assert {disk["id"] for disk in point["disks"]} == one.disk_ids
                for disk in point["disks"]:
                    ref = disk["snapshot"]
                    assert ref["project"] == one.vault
                    snapshot = snapshots[one.vault][ref["name"]]
                    assert str(snapshot.id) == ref["id"]
                    assert snapshot.status == "READY"
                    assert str(snapshot.source_disk_id) == disk["id"]
                    assert list(snapshot.storage_locations) == [one.region]
                    assert snapshot.labels["snapkeep-tenant"] == one.tenant["id"]
                    assert snapshot.labels["snapkeep-point"] == point["id"]

    def test_every_stranger_got_the_point_it_asked_for_once(self, day: Day) -> None:
        got = [
            (tenant, point["instance"]["id"], point["reason"])
            for tenant, points in day.points.items()
            for point in points.values()
            if point["trigger"] == "on_demand"
        ]
        assert sorted(got) == sorted(day.asked)

    def test_no_snapshot_is_there_that_no_point_tells_of(self, day: Day, google: Google) -> None:
        told: dict[str, set[str]] = defaultdict(set)
        for points in day.points.values():
            for point in points.values():
                for ref in snapshots_told(point):
                    told[ref["project"]].add(ref["name"])
        projects = {tenant[key] for tenant in day.tenants for key in ("project", "vault_project") if key in tenant}
        assert {project: set(google.snapshots_of(project)) for project in projects} == {
            project: told[project] for project in projects
        }

    def test_a_client_that_runs_its_own_backups_has_no_points(self, day: Day, google: Google) -> None:
        managed = of_deployment(day.tenants, "private_saas")
        assert managed
        for tenant in managed:
            assert day.points[tenant["id"]] == {}
            assert google.snapshots_of(tenant["project"]) == {}
            assert len(google.documents("tenants", tenant["id"], "instances")) >= 1

    def test_every_audit_chain_is_intact_and_tells_of_every_point(self, day: Day, google: Google) -> None:
        for tenant in day.tenants:
            records = google.documents("tenants", tenant["id"], "audit")
            prev = bytes(32)
            bodies = []
            for number, id in enumerate(sorted(records), start=1):
                record = records[id]
                assert (id, record["seq"], record["prev"]) == (f"{number:012d}", number, prev.hex())
                prev = hashlib.sha256(prev + hashlib.sha256(record["bytes"]).digest()).digest()
                assert record["hash"] == prev.hex()
                bodies.append(json.loads(record["bytes"]))
            told = {b["subject"] for b in bodies if b["action"] == "point.verified" and b["outcome"] == "succeeded"}
            assert told == {f"points/{id}" for id in day.points[tenant["id"]]}
            assert all(body["tenant"] == tenant["id"] for body in bodies)

    def test_every_record_is_numbered(self, day: Day, google: Google) -> None:
        for tenant in day.tenants:
            inbox = google.documents("tenants", tenant["id"], "inbox")
            assert [id for id, record in inbox.items() if record["seq"] is None or record["next_at"] is not None] == []


class NoAttemptFailed(Expectations):
    """What holds besides where Compute Engine answered every call well."""

    def test_every_snapshot_was_asked_for_once(self, day: Day, cloud: Up) -> None:
        """Compute Engine took each from one request, however often that was sent; no attempt failed on the way."""
        log = cloud.ask("state")["log"]
        refs = [ref for point in day.all() for ref in snapshots_told(point)]
        told = Counter(f"projects/{ref['project']}/global/snapshots/{ref['name']}" for ref in refs)
        assert Counter(entry["link"] for entry in log if entry["method"] == "snapshots.insert") == told
        assert set(told.values()) == {1}

    def test_every_copy_that_is_bought_is_ready_in_its_region_and_there_is_no_other(
        self, day: Day, google: Google
    ) -> None:
        """Of every point that was verified in time for it."""
        copied = 0
        for one in day.protected:
            bought = one.tenant.get("entitlements", {}).get("inter_region_backup")
            snapshots = google.snapshots_of(one.vault)
            for point in day.of(one):
                assert point["copies"].keys() == ({bought["region"]} if bought else set())
                if not bought or point["verified_at"] > day.end - TO_COPY:
                    continue
                copied += 1
                copy = point["copies"][bought["region"]]
                assert copy["state"] == "verified"
                assert {disk["id"] for disk in copy["disks"]} == one.disk_ids
                for disk in copy["disks"]:
                    snapshot = snapshots[disk["snapshot"]["name"]]
                    assert str(snapshot.id) == disk["snapshot"]["id"]
                    assert (snapshot.status, list(snapshot.storage_locations)) == ("READY", [bought["region"]])
        assert copied > 0

    def test_every_verified_point_is_told_to_whoever_listens(self, day: Day, google: Google) -> None:
        subscription = f"projects/{google.project}/subscriptions/snapkeep-events"
        expected = {id for points in day.points.values() for id in points}
        told: set[str] = set()
        for _ in range(PULLS_MAX):
            if told >= expected:
                break
            pulled = google.subscriber.pull(subscription=subscription, max_messages=1000, timeout=CALL_TIMEOUT_S)
            events = [json.loads(received.message.data) for received in pulled.received_messages]
            told |= {event["data"]["point"] for event in events if event["type"] == "point.verified"}
            ack_ids = [received.ack_id for received in pulled.received_messages]
            if ack_ids:
                google.subscriber.acknowledge(subscription=subscription, ack_ids=ack_ids, timeout=CALL_TIMEOUT_S)
        assert told == expected

"""A day of the example fleet on Google's emulators and real function processes, read with Google's clients alone.

What should have happened is worked out here from examples/fleet.yaml, without Snapkeep's own rules.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml
from google.auth.credentials import AnonymousCredentials
from google.cloud import compute_v1, firestore
from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient  # type: ignore[import-untyped]
from tests.e2e.conftest import Up, up

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("local cloud")]

FLEET = Path(__file__).parents[2] / "examples" / "fleet.yaml"

START = datetime(2026, 11, 22, tzinfo=UTC)
DAY = timedelta(hours=26)
END = START + DAY
TO_VERIFY = timedelta(hours=1)
"""What a slot is given to become a verified point."""

DAY_TIMEOUT_S = 600
"""Real time for 26 simulated hours: about a minute on two idle cores."""

HOUR_TIMEOUT_S = 120
PULL_TIMEOUT_S = 10
PULLS_MAX = 100
EMULATORS = {"FIRESTORE_EMULATOR_HOST": "firestore", "PUBSUB_EMULATOR_HOST": "pubsub"}


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

    def publish(self, topic: str, body: bytes) -> None:
        self.publisher.publish(f"projects/{self.project}/topics/{topic}", body).result(timeout=PULL_TIMEOUT_S)

    def snapshots_of(self, project: str) -> dict[str, compute_v1.Snapshot]:
        return {snapshot.name: snapshot for snapshot in self.snapshots.list(project=project)}


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory, emulators_installed: None) -> Iterator[Up]:
    arguments = ("--fleet", str(FLEET), "--clock", "simulated", "--start", START.isoformat())
    with up(tmp_path_factory.mktemp("day"), *arguments) as running:
        yield running


@pytest.fixture(scope="module")
def google(cloud: Up) -> Iterator[Google]:
    before = {name: os.environ.get(name) for name in EMULATORS}
    os.environ.update({name: cloud.addresses[key] for name, key in EMULATORS.items()})
    at: dict[str, Any] = {
        "credentials": AnonymousCredentials(),  # type: ignore[no-untyped-call]
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
    yield clients
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


TENANTS: list[dict[str, Any]] = yaml.safe_load(FLEET.read_text())["tenants"]
VENDOR_MANAGED = [tenant for tenant in TENANTS if tenant.get("deployment", "saas") == "saas"]
CLIENT_MANAGED = [tenant for tenant in TENANTS if tenant.get("deployment") == "private_saas"]


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


def due_days(tenant: dict[str, Any]) -> set[str]:
    """The local days whose slot starts, whatever the instance's place in the spread, in time to be verified."""
    schedule = tenant.get("schedule", {})
    hour, minute = map(int, schedule.get("daily_at", "02:30").split(":"))
    spread = timedelta(minutes=schedule.get("spread_minutes", 30))
    zone = ZoneInfo(tenant.get("timezone", "America/Sao_Paulo"))
    days = set()
    for offset in range(-2, 4):
        day = (START + timedelta(days=offset)).date()
        first = datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone).astimezone(UTC)
        if first >= START and first + spread <= END - TO_VERIFY:
            days.add(day.isoformat())
        else:
            # Else the fleet file would leave open what the test is to expect.
            assert first + spread < START or first > END - TO_VERIFY, f"{tenant['id']}: {day} may or may not be due"
    return days


@dataclass(frozen=True)
class Day:
    protected: list[Protected]
    points: dict[str, dict[str, dict[str, Any]]]  # tenant -> id -> document
    seconds: float


@pytest.fixture(scope="module")
def day(cloud: Up, google: Google) -> Day:
    """26 hours, and what they left."""
    began = time.monotonic()
    clock = cloud.json("sim", "advance", "26h", timeout_s=DAY_TIMEOUT_S)
    seconds = time.monotonic() - began
    assert clock["now"] == END.isoformat()
    print(f"26 simulated hours took {seconds:.0f} s")  # noqa: T201 - shown with pytest -s, and where a test fails
    protected = [one for tenant in VENDOR_MANAGED for one in instances_of(google, tenant)]
    points = {tenant["id"]: google.documents("tenants", tenant["id"], "points") for tenant in TENANTS}
    return Day(protected, points, seconds)


def points_of(day: Day, one: Protected) -> list[dict[str, Any]]:
    points = day.points[one.tenant["id"]].values()
    return [point for point in points if point["instance"]["id"] == str(one.instance.id)]


# --- what should be -----------------------------------------------------------------------------------------------


def test_the_example_holds_what_it_is_to_show(day: Day) -> None:
    assert len(day.protected) >= 15
    assert any(len(one.disk_ids) > 1 for one in day.protected)
    assert any(one.vault != one.tenant["project"] for one in day.protected)


def test_every_due_slot_of_every_instance_has_one_verified_point(day: Day, cloud: Up) -> None:
    for one in day.protected:
        points = points_of(day, one)
        days = sorted(point["slot"]["day"] for point in points)
        assert days == sorted(due_days(one.tenant)), f"{one.tenant['id']} {one.instance.name}: {days}{cloud.said()}"
        assert {point["state"] for point in points} == {"verified"}


def test_every_point_starts_within_its_spread(day: Day) -> None:
    for one in day.protected:
        schedule = one.tenant.get("schedule", {})
        for point in points_of(day, one):
            hour, minute = map(int, schedule.get("daily_at", "02:30").split(":"))
            local = datetime.fromisoformat(point["slot"]["day"]).replace(hour=hour, minute=minute)
            first = local.replace(tzinfo=ZoneInfo(one.tenant.get("timezone", "America/Sao_Paulo")))
            late = point["slot"]["at"] - first
            assert timedelta() <= late <= timedelta(minutes=schedule.get("spread_minutes", 30))
            assert point["slot"]["at"] <= point["started_at"] <= point["slot"]["at"] + timedelta(minutes=15)


def test_every_disk_has_a_ready_snapshot_where_it_should_be(day: Day, google: Google) -> None:
    snapshots: dict[str, dict[str, compute_v1.Snapshot]] = {
        vault: google.snapshots_of(vault) for vault in {one.vault for one in day.protected}
    }
    for one in day.protected:
        for point in points_of(day, one):
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


def test_no_snapshot_is_there_that_no_point_tells_of(day: Day, google: Google) -> None:
    told: dict[str, set[str]] = defaultdict(set)
    for points in day.points.values():
        for point in points.values():
            for disk in point["disks"]:
                told[disk["snapshot"]["project"]].add(disk["snapshot"]["name"])
    projects = {tenant[key] for tenant in TENANTS for key in ("project", "vault_project") if key in tenant}
    assert {project: set(google.snapshots_of(project)) for project in projects} == {
        project: told[project] for project in projects
    }


def test_a_client_that_runs_its_own_backups_has_no_points(day: Day, google: Google) -> None:
    assert len(CLIENT_MANAGED) == 2
    for tenant in CLIENT_MANAGED:
        assert day.points[tenant["id"]] == {}
        assert google.snapshots_of(tenant["project"]) == {}
        assert len(google.documents("tenants", tenant["id"], "instances")) >= 1


def test_every_audit_chain_is_intact_and_tells_of_every_point(day: Day, google: Google) -> None:
    for tenant in TENANTS:
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


def test_every_record_is_numbered(day: Day, google: Google) -> None:
    for tenant in TENANTS:
        inbox = google.documents("tenants", tenant["id"], "inbox")
        assert [id for id, record in inbox.items() if record["seq"] is None or record["next_at"] is not None] == []


def test_the_fleets_health_says_so(day: Day, google: Google) -> None:
    fleet = google.documents("health")["_fleet"]
    points = sum(len(points) for points in day.points.values())
    assert fleet["tenants"] == len(TENANTS)
    assert fleet["client_managed"] == len(CLIENT_MANAGED)
    assert (fleet["breached"], fleet["unprotected"], fleet["running"]) == (0, 0, 0)
    assert (fleet["rejected"], fleet["dead_letters"]) == (0, 0)
    assert fleet["counts"]["verified"] == points
    assert fleet["counts"]["failed"] == fleet["counts"]["missed"] == 0
    ticking = {"discover", "plan", "reconcile", "audit", "health"}
    assert set(fleet["ticks"]) == ticking
    assert all(END - at <= timedelta(minutes=20) for at in fleet["ticks"].values())


def test_every_verified_point_is_told_to_whoever_listens(day: Day, google: Google) -> None:
    subscription = f"projects/{google.project}/subscriptions/snapkeep-events"
    expected = {id for points in day.points.values() for id in points}
    told: set[str] = set()
    for _ in range(PULLS_MAX):
        if told >= expected:
            break
        pulled = google.subscriber.pull(subscription=subscription, max_messages=1000, timeout=PULL_TIMEOUT_S)
        events = [json.loads(received.message.data) for received in pulled.received_messages]
        told |= {event["data"]["point"] for event in events if event["type"] == "point.verified"}
        ack_ids = [received.ack_id for received in pulled.received_messages]
        google.subscriber.acknowledge(subscription=subscription, ack_ids=ack_ids, timeout=PULL_TIMEOUT_S)
    assert told == expected


def test_hardly_anything_had_to_be_delivered_twice(day: Day, cloud: Up) -> None:
    functions = cloud.json("sim", "status")["functions"]
    assert functions["reconcile"]["delivered"] + functions["reconcile"]["failed"] >= DAY // timedelta(minutes=1)
    # A slow machine may make a call or two come too late, which is what deliveries are repeated for.
    failed = sum(of["failed"] for of in functions.values())
    assert failed <= sum(of["delivered"] for of in functions.values()) // 100, cloud.said()
    assert all(of["restarts"] == 0 for of in functions.values())


def test_the_command_line_finds_the_local_cloud(day: Day, cloud: Up) -> None:
    states = {tenant["id"]: tenant["state"] for tenant in cloud.json("fleet", "list")}
    managed = {tenant["id"]: "protected" for tenant in VENDOR_MANAGED}
    assert states == managed | {tenant["id"]: "client_managed" for tenant in CLIENT_MANAGED}
    assert cloud.json("audit", "verify")["intact"] is True


# --- what strangers send: after the day, since it changes what is there -------------------------------------------


@pytest.fixture(scope="module")
def later(day: Day, cloud: Up, google: Google) -> dict[str, dict[str, Any]]:
    """Strangers publish, an hour passes; the points of the tenant they named, by the id of the point."""
    wanted = {
        "schema": 1,
        "type": "create.requested",
        "id": "import-2026-11-23",
        "tenant": "brightwater",
        "claimed_actor": "ci@vendor.example",
        "reason": "before import",
        "data": {"instance": "brightwater-app-1"},
    }
    body = json.dumps(wanted).encode()
    google.publish("snapkeep-create", body)
    google.publish("snapkeep-create", body)
    google.publish("snapkeep-create", b'{"schema": 1, "type": "create.requested", "id": ')
    google.publish("snapkeep-create", json.dumps(wanted | {"id": "other", "tenant": "nobody"}).encode())
    google.publish("snapkeep-plan", body)
    cloud.json("sim", "advance", "1h", timeout_s=HOUR_TIMEOUT_S)
    return google.documents("tenants", "brightwater", "points")


def test_a_stranger_gets_one_point_on_demand_however_often_it_asks(
    day: Day, google: Google, later: dict[str, dict[str, Any]]
) -> None:
    (new,) = set(later) - set(day.points["brightwater"])
    point = later[new]
    assert (point["trigger"], point["state"]) == ("on_demand", "verified")
    assert point["reason"] == "before import"
    assert END <= point["requested_at"] <= END + timedelta(minutes=10)
    records = google.documents("tenants", "brightwater", "audit").values()
    (asked,) = (json.loads(r["bytes"]) for r in records if r["action"] == "point.requested")
    assert (asked["actor"], asked["subject"]) == ("claimed:ci@vendor.example", f"points/{new}")


def test_bad_messages_are_settled_with_the_reason(google: Google, later: dict[str, dict[str, Any]]) -> None:
    rejected = google.documents("rejected")
    assert {(r["kind"], r["function"]) for r in rejected.values()} == {("rejected", "create"), ("rejected", "plan")}
    reasons = sorted(r["reason"] for r in rejected.values())
    assert len(reasons) == 3
    assert reasons[0].startswith("body: not JSON")
    assert reasons[1:] == ["tenant: 'nobody' is not a tenant", "type: 'create.requested' is not a message for plan"]
    assert google.documents("health")["_fleet"]["rejected"] == 3

"""The simulator's controls, from outside: what is planted over HTTP is what the API then answers over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from snapkeep_local import schedule
from snapkeep_local.cloud import Cloud
from snapkeep_local.delivery import Broker
from snapkeep_local.emulators import free_port
from snapkeep_local.errors import Json
from snapkeep_local.guard import Guard
from snapkeep_local.nursery import Nursery
from snapkeep_local.processes import Processes, Program
from snapkeep_local.rest import Simulator
from snapkeep_local.runner import add_controls
from snapkeep_local.timekeeper import Simulated

NOW = datetime(2026, 3, 1, 2, 30, tzinfo=UTC)
ZONE = "southamerica-east1-a"


def disk(project: str) -> str:
    return f"projects/{project}/zones/{ZONE}/disks/data"


@pytest.fixture
def simulator() -> Simulator:
    cloud = Cloud(1, NOW)
    for project in ("acme-prod", "beta-prod"):
        cloud.add_disk(project=project, zone=ZONE, name="data", size_gb=100)
    return Simulator(cloud)


@pytest.fixture
def http(simulator: Simulator) -> FlaskClient:
    return simulator.app.test_client()


def plant(http: FlaskClient, kind: str, **fault: Any) -> None:
    effect = {"kind": kind, **fault.pop("effect", {})}
    assert http.post("/_sim/faults", json={"effect": effect, **fault}).status_code == 201


def insert(http: FlaskClient, name: str = "s", project: str = "acme-prod") -> Any:
    body = {"name": name, "sourceDisk": disk(project), "storageLocations": ["southamerica-east1"]}
    return http.post(f"/compute/v1/projects/{project}/global/snapshots", json=body)


def read(http: FlaskClient, kind: str, name: str, project: str = "acme-prod") -> Any:
    return http.get(f"/compute/v1/projects/{project}/global/{kind}/{name}")


def pass_time(simulator: Simulator, **duration: float) -> None:
    simulator.advance(simulator.now() + timedelta(**duration))


def ended(http: FlaskClient, simulator: Simulator, **duration: float) -> tuple[Json, Any]:
    """What has become of a snapshot's operation after so long, and of the snapshot."""
    operation = insert(http).get_json()["name"]
    pass_time(simulator, **duration)
    return read(http, "operations", operation).get_json(), read(http, "snapshots", "s")


# --- what goes wrong ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "made"), [("error_before", 404), ("error_after", 200)])
@pytest.mark.parametrize(("status", "reason"), [(503, "backendError"), (403, "rateLimitExceeded"), (418, "teapot")])
def test_a_call_answers_with_the_status_and_reason_that_were_planted(
    http: FlaskClient, kind: str, made: int, status: int, reason: str
) -> None:
    plant(http, kind, effect={"status": status, "reason": reason, "message": "as planted"}, count=1)
    answer = insert(http)
    error = answer.get_json()["error"]
    assert (answer.status_code, error["code"], error["message"]) == (status, status, "as planted")
    assert error["errors"][0]["reason"] == reason
    assert read(http, "snapshots", "s").status_code == made


def test_a_slow_operation_ends_later(http: FlaskClient, simulator: Simulator) -> None:
    usual = ended(http, simulator, minutes=10)
    assert (usual[0]["status"], usual[1].get_json()["status"]) == ("DONE", "READY")
    plant(http, "slow", effect={"factor": 100}, resource="disks/data")
    operation = insert(http, "slow").get_json()["name"]
    pass_time(simulator, minutes=10)
    assert read(http, "operations", operation).get_json()["status"] == "RUNNING"
    pass_time(simulator, days=1)
    assert read(http, "operations", operation).get_json()["status"] == "DONE"
    assert read(http, "snapshots", "slow").get_json()["status"] == "READY"


def test_a_stuck_operation_never_ends(http: FlaskClient, simulator: Simulator) -> None:
    plant(http, "stuck")
    operation, snapshot = ended(http, simulator, days=9)
    assert (operation["status"], snapshot.get_json()["status"]) == ("RUNNING", "UPLOADING")


@pytest.mark.parametrize(("leaves", "status"), [("absent", 404), ("FAILED", 200)])
def test_an_operation_ends_in_an_error(http: FlaskClient, simulator: Simulator, leaves: str, status: int) -> None:
    plant(http, "operation_fails", effect={"code": "QUOTA_EXCEEDED", "http_status": 403, "snapshot": leaves})
    operation, snapshot = ended(http, simulator, hours=1)
    assert (operation["status"], operation["httpErrorStatusCode"]) == ("DONE", 403)
    assert operation["error"]["errors"][0]["code"] == "QUOTA_EXCEEDED"
    assert (snapshot.status_code, snapshot.get_json().get("status")) == (status, None if status == 404 else "FAILED")


def test_a_snapshot_turns_failed(http: FlaskClient, simulator: Simulator) -> None:
    plant(http, "snapshot_fails")
    operation, snapshot = ended(http, simulator, hours=1)
    assert "error" not in operation
    assert snapshot.get_json()["status"] == "FAILED"


def test_a_snapshot_vanishes(http: FlaskClient, simulator: Simulator) -> None:
    plant(http, "snapshot_vanishes", effect={"after_s": 7200})
    _, snapshot = ended(http, simulator, hours=1)
    assert snapshot.get_json()["status"] == "READY"
    pass_time(simulator, hours=1)
    assert read(http, "snapshots", "s").status_code == 404


# --- whom it strikes ----------------------------------------------------------------------------------------------


def test_a_fault_strikes_its_method_and_its_resource_as_often_as_it_may(http: FlaskClient) -> None:
    plant(http, "error_before", method="snapshots.*", resource="beta-.*/disks/", count=2)
    answers = [insert(http, f"s-{n}", project).status_code for n in range(3) for project in ("acme-prod", "beta-prod")]
    assert answers == [200, 503, 200, 503, 200, 200]
    assert http.get("/compute/v1/projects/beta-prod/aggregated/disks").status_code == 200
    (fault,) = http.get("/_sim/faults").get_json()
    assert (fault["count"], fault["struck"]) == (2, 2)


def test_a_fault_of_every_method_strikes_reads_too(http: FlaskClient) -> None:
    plant(http, "error_before")
    root = "/compute/v1/projects/acme-prod"
    reads = (
        "aggregated/disks",
        "aggregated/instances",
        "global/snapshots",
        "global/operations/x",
        f"zones/{ZONE}/disks/data",
    )
    assert {http.get(f"{root}/{read}").status_code for read in reads} == {503}
    (fault,) = http.get("/_sim/faults").get_json()
    assert fault["struck"] == len(reads)


def test_a_fault_strikes_as_likely_as_it_is_said_and_the_seed_says_when(http: FlaskClient) -> None:
    plant(http, "error_before", probability=0.3)
    path = "/compute/v1/projects/acme-prod/global/snapshots"
    struck = sum(http.get(path).status_code == 503 for _ in range(1000))
    assert 250 < struck < 350
    assert http.get("/_sim/faults").get_json()[0]["struck"] == struck


def test_what_is_over_strikes_nobody(http: FlaskClient) -> None:
    plant(http, "error_before")
    assert http.delete("/_sim/faults").status_code == 204
    assert insert(http).status_code == 200


# --- the clock ----------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(simulator: Simulator, tmp_path: Path) -> FlaskClient:
    """The clock's control, of a time that stands still: nobody runs it."""
    functions = schedule.processes()
    address = f"127.0.0.1:{free_port()}"
    broker = Broker(address, "snapkeep-local", "http://127.0.0.1:0/_push", {f.name: 0 for f in functions})
    programs = Processes([Program(f.name, (), 0, tmp_path / "log") for f in functions], Guard(), Nursery({}))
    time = Simulated(simulator.now, simulator.advance, broker)
    add_controls(simulator.app, time, broker, programs, {"functions": {}})
    return simulator.app.test_client()


@pytest.mark.parametrize(
    "to",
    [
        {"advance_seconds": 90},
        {"advance_seconds": 90, "ticks": False},
        {"to": "2026-03-01T02:31:30Z"},
        {"to": "2026-02-28T23:31:30-03:00"},
    ],
)
def test_time_is_sent_on_its_way(clock: FlaskClient, to: Json) -> None:
    sent = clock.post("/_sim/clock", json=to)
    assert sent.status_code == 202
    told = {"mode": "simulated", "now": NOW.isoformat(), "target": "2026-03-01T02:31:30+00:00", "running": True}
    assert sent.get_json() == told | {"failure": None} == clock.get("/_sim/clock").get_json()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"advance_seconds": 0}, "expected"),
        ({"advance_seconds": 60, "ticks": "no"}, "neither true nor false"),
        ({"advance_seconds": True}, "expected"),
        ({"advance_seconds": 1e9}, "expected"),
        ({"advance_seconds": 86400 * 401}, "more than 400 days ahead"),
        ({"to": "2026-03-01T02:29:59Z"}, "and not back to"),
        ({"to": "2026-03-01T02:31:30"}, "has no time zone"),
        ({"to": "tomorrow"}, "is not a time"),
        ({}, "expected"),
        (None, "expected"),
    ],
)
def test_time_does_not_go_there(clock: FlaskClient, body: Any, said: str) -> None:
    refused = clock.post("/_sim/clock", json=body)
    assert refused.status_code == 400
    assert said in refused.get_json()["error"]
    assert clock.get("/_sim/clock").get_json()["running"] is False

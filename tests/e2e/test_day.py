"""A day of the example fleet on Google's emulators and real function processes, read with Google's clients alone.

What should have happened is worked out here from examples/fleet.yaml, without Snapkeep's own rules.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.e2e.conftest import Up, up
from tests.e2e.expected import (
    CLIENT_MANAGED,
    FLEET,
    TENANTS,
    VENDOR_MANAGED,
    Day,
    Google,
    NoAttemptFailed,
    google_clients,
    read_day,
)

pytestmark = pytest.mark.e2e

START = datetime(2026, 11, 22, tzinfo=UTC)
DAY = timedelta(hours=26)
END = START + DAY
DAY_TIMEOUT_S = 600
"""Real time for 26 simulated hours: about a minute on two idle cores."""

HOUR_TIMEOUT_S = 120


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory, emulators_installed: None) -> Iterator[Up]:
    arguments = ("--fleet", str(FLEET), "--clock", "simulated", "--start", START.isoformat())
    with up(tmp_path_factory.mktemp("day"), *arguments) as running:
        yield running


@pytest.fixture(scope="module")
def google(cloud: Up) -> Iterator[Google]:
    with google_clients(cloud) as clients:
        yield clients


@pytest.fixture(scope="module")
def day(cloud: Up, google: Google) -> Day:
    """26 hours, and what they left."""
    began = time.monotonic()
    clock = cloud.json("sim", "advance", "26h", timeout_s=DAY_TIMEOUT_S)
    assert clock["now"] == END.isoformat()
    print(f"26 simulated hours took {time.monotonic() - began:.0f} s")  # noqa: T201 - shown where a test fails
    return read_day(google, START, END)


# --- what should be -----------------------------------------------------------------------------------------------


def test_the_example_holds_what_it_is_to_show(day: Day) -> None:
    assert len(day.protected) >= 15
    assert any(len(one.disk_ids) > 1 for one in day.protected)
    assert any(one.vault != one.tenant["project"] for one in day.protected)


class TestDay(NoAttemptFailed):
    """Nothing went wrong on this one."""


def test_the_fleets_health_says_so(day: Day, google: Google) -> None:
    fleet = google.documents("health")["_fleet"]
    points = sum(len(points) for points in day.points.values())
    assert fleet["tenants"] == len(TENANTS)
    assert fleet["client_managed"] == len(CLIENT_MANAGED)
    assert (fleet["breached"], fleet["unprotected"], fleet["running"]) == (0, 0, 0)
    assert (fleet["rejected"], fleet["dead_letters"]) == (0, 0)
    assert fleet["counts"]["verified"] == points
    assert fleet["counts"]["failed"] == fleet["counts"]["missed"] == 0
    ticking = {"discover", "plan", "reconcile", "audit", "health", "retention", "entitlements", "restore_test"}
    assert set(fleet["ticks"]) == ticking
    hourly = {"entitlements", "restore_test"}
    assert all(END - at <= timedelta(minutes=20) for name, at in fleet["ticks"].items() if name not in hourly)
    assert all(END - fleet["ticks"][name] <= timedelta(minutes=70) for name in hourly)


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

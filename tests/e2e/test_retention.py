"""Points that nobody keeps go, on Google's emulators and with real function processes; one that is held does not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
from tests.e2e.conftest import COMMAND_TIMEOUT_S, Up, up
from tests.e2e.expected import Google, google_clients

pytestmark = pytest.mark.e2e

START = datetime(2026, 11, 22, 5, tzinfo=UTC)
ADVANCE_TIMEOUT_S = 400
"""Real time for 25 simulated hours: less than a minute on two idle cores."""

FLEET = """
tenants:
  - id: brief
    name: Brief
    project: brief-prod
    vault_project: brief-vault
    timezone: UTC
    rpo_hours: 100
    retention: {keep_last: 1, keep_daily: 0, keep_weekly: 0, keep_monthly: 0, lock_days: 0}
    instances:
      - {name: brief-app, zone: southamerica-east1-a}
"""


@dataclass(frozen=True)
class Story:
    google: Google
    held: str
    unwanted: str
    points: dict[str, dict[str, Any]]  # at the end
    expiring: dict[str, dict[str, Any]]  # before the hold


def ask(google: Google, number: int) -> None:
    wanted = {
        "schema": 1,
        "type": "create.requested",
        "id": f"request-{number}",
        "tenant": "brief",
        "claimed_actor": "ci@vendor.example",
        "reason": "before import",
        "data": {"instance": "brief-app"},
    }
    google.publish("snapkeep-create", json.dumps(wanted).encode())


def hold(cloud: Up, point: str) -> None:
    answer = requests.post(
        f"{cloud.addresses['api']}/tenants/brief/holds",
        json={"point": point, "reason": "case 4711"},
        headers={"Idempotency-Key": "hold-1", "X-Snapkeep-Local-User": "admin@vendor.example"},
        timeout=COMMAND_TIMEOUT_S,
    )
    assert answer.status_code == 200, answer.text


def in_state(points: dict[str, dict[str, Any]], state: str) -> list[str]:
    """Their ids, in the order in which they were asked for."""
    return sorted(
        (id for id, p in points.items() if p["state"] == state), key=lambda id: str(points[id]["requested_at"])
    )


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, emulators_installed: None) -> Iterator[Story]:
    """Three points within an hour, of which the policy keeps the last; one of the others is held; a day passes."""
    folder = tmp_path_factory.mktemp("retention")
    (folder / "fleet.yaml").write_text(FLEET)
    arguments = ("--fleet", str(folder / "fleet.yaml"), "--clock", "simulated", "--start", START.isoformat())
    with up(folder, *arguments) as cloud, google_clients(cloud) as google:
        cloud.json("sim", "advance", "15m", timeout_s=ADVANCE_TIMEOUT_S)
        for number in range(3):
            ask(google, number)
            cloud.json("sim", "advance", "20m", timeout_s=ADVANCE_TIMEOUT_S)
        cloud.json("sim", "advance", "20m", timeout_s=ADVANCE_TIMEOUT_S)
        expiring = google.documents("tenants", "brief", "points")
        held, unwanted = in_state(expiring, "expiring")
        hold(cloud, held)
        cloud.json("sim", "advance", "1h", timeout_s=ADVANCE_TIMEOUT_S)
        # Nothing is due before the grace is over, so nobody is woken for it.
        cloud.ask("clock", {"advance_seconds": timedelta(hours=23).total_seconds(), "ticks": False})
        cloud.arrive()
        cloud.json("sim", "advance", "1h", timeout_s=ADVANCE_TIMEOUT_S)
        points = google.documents("tenants", "brief", "points")
        yield Story(google, held, unwanted, points, expiring)


def snapshots(story: Story, point: str) -> dict[str, str]:
    """The names of the point's snapshots, with the numeric id that each was read by."""
    disks = story.expiring[point]["disks"]
    return {disk["snapshot"]["name"]: disk["snapshot"]["id"] for disk in disks}


def test_the_policy_lets_go_what_is_older_and_says_why(story: Story) -> None:
    assert in_state(story.expiring, "expiring") == [story.held, story.unwanted]
    assert len(in_state(story.expiring, "verified")) == 1
    assert story.expiring[story.unwanted]["expiry"]["reason"] == "no rule keeps it"


def test_a_point_that_nobody_keeps_is_gone_a_day_later(story: Story) -> None:
    point = story.points[story.unwanted]
    assert (point["state"], point["stored_for"]) == ("deleted", None)
    there = story.google.snapshots_of("brief-vault")
    assert len(snapshots(story, story.unwanted)) >= 1
    assert not set(snapshots(story, story.unwanted)) & set(there)


def test_a_point_that_is_held_is_there(story: Story) -> None:
    point = story.points[story.held]
    assert (point["state"], point["expiry"]) == ("verified", None)
    there = story.google.snapshots_of("brief-vault")
    assert {name: str(there[name].id) for name in snapshots(story, story.held)} == snapshots(story, story.held)


def test_the_audit_tells_of_intent_and_outcome(story: Story) -> None:
    records = story.google.documents("tenants", "brief", "audit")
    bodies = [json.loads(records[seq]["bytes"]) for seq in sorted(records)]
    mine = [body for body in bodies if body["subject"] == f"points/{story.unwanted}"]
    ends = [(body["action"], body["outcome"]) for body in mine if body["action"] in ("point.deleting", "point.deleted")]
    assert ends == [("point.deleting", "requested"), ("point.deleted", "succeeded")]
    (begun,) = (body for body in mine if body["action"] == "point.deleting")
    meant = {change["name"]: change["id"] for change in begun["detail"]["changes"]}
    assert meant == snapshots(story, story.unwanted)
    assert [b["actor"] for b in bodies if b["action"] == "hold.added"] == ["admin@vendor.example"]


def test_nothing_is_found_that_nobody_knows(story: Story) -> None:
    vault = story.google.documents("vaults")["brief-vault"]
    assert vault["listed_at"] is not None
    assert (vault["orphans"], vault["failure"]) == ([], None)

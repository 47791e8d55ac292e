"""Thirty days in which nothing succeeds: what was good before must be there afterwards, and then go on as ever."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.faults.keeping import complete, wanted
from tests.faults.world import quiet_log

from snapkeep import fleet
from snapkeep_local import faults
from snapkeep_local.sim import System

FLEET = """
tenants:
  - id: alpha
    name: Alpha
    project: alpha-prod
    timezone: Europe/Madrid
    retention: {keep_last: 2, keep_daily: 3, keep_weekly: 0, keep_monthly: 0, lock_days: 0}
    instances:
      - {name: alpha-app, zone: europe-southwest1-a}
"""


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with quiet_log():
        yield


def stored(system: System) -> dict[str, Any]:
    return system.documents.dump(leaving_out={"audit", "inbox", "requests"})


def ready(system: System) -> set[str]:
    return {one["id"] for one in system.cloud.snapshots() if one["status"] == "READY"}


def good(system: System, instance: str) -> dict[str, set[str]]:
    """The points that can be restored, and the snapshots of each by numeric id."""
    points = complete(stored(system), "alpha", instance)
    return {point["id"]: {disk["snapshot"]["id"] for disk in point["disks"]} for point in points}


def test_thirty_days_of_failures_lose_nothing_good() -> None:
    system = System(seed=5, start=datetime(2026, 5, 1, tzinfo=UTC))
    system.apply(fleet.parse({"fleet.yaml": FLEET.encode()}))
    system.run(timedelta(days=8))
    [path] = [path for path in stored(system) if path.startswith("tenants/alpha/instances/")]
    instance = path.rsplit("/", 1)[1]
    number = system.cloud.add_fault(faults.Fault(effect=faults.SnapshotFails(), method="snapshots.insert"))

    system.run(timedelta(days=2))  # the breach has come, and what was on its way out before it is gone or called back
    kept = good(system, instance)
    assert len(kept) >= 3
    system.run(timedelta(days=28))
    assert good(system, instance) == kept
    assert set().union(*kept.values()) <= ready(system)
    failed = [data for path, data in stored(system).items() if "/points/" in path and data["state"] == "failed"]
    assert len(failed) >= 25  # in breach nothing goes, not even these

    system.cloud.clear_faults(number)
    system.run(timedelta(days=8))
    after = stored(system)
    newest_first = complete(after, "alpha", instance)
    settled = [point["id"] for point in newest_first if point["state"] == "verified"]
    assert set(settled) == wanted(newest_first, after["tenants/alpha"]["retention"], after["tenants/alpha"]["timezone"])
    assert not set(kept) & set(settled)  # newer ones fill the policy's buckets
    assert [d for p, d in after.items() if "/points/" in p and d["state"] == "failed" and d["stored_for"]] == []

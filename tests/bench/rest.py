"""Part `rest`: the deployed functions as processes, on Google's emulators and the simulated Compute Engine over REST.

All slots fall on one minute, so that one tick of `plan` brings all of a fleet's points. Simulated time passes as soon
as every message of a minute is answered: what is measured is the machine's work, not the cloud's waiting.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from google.cloud import firestore
from google.cloud.firestore_v1.base_query import FieldFilter
from tests.bench import floor, proc
from tests.bench.fleets import Size, fleet_file
from tests.bench.up import Up, up

START: Final = "2026-10-01T04:55:00Z"
EVENING: Final = "2026-10-01T05:29:00Z"
MORNING: Final = "2026-10-01T06:40:00Z"
"""The slots are at 05:30; first snapshots of the largest invented disks take 23 minutes, and are seen by 06:10."""

MINUTE: Final = timedelta(minutes=1)
STEP_TIMEOUT_S: Final = 900.0
POLL_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class OfFunction:
    """What one function used for a night's points."""

    deliveries: int
    failed: int
    cpu_s: float
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class Measured:
    size: Size
    verified: int
    calls: dict[str, int]  # of Compute Engine, by method: for the points, discovery's left out
    discovery_calls: dict[str, int]  # from the start to the evening
    functions: dict[str, OfFunction]
    seconds: float  # real ones, from the tick to the last verified point
    minutes: float  # simulated ones meanwhile
    quiet_minute_s: float  # real seconds that a simulated minute takes afterwards, when only the ticks are left
    floor: floor.Floor


def measure(size: Size) -> Measured:
    """One night of a fleet over REST. Raises RuntimeError if a point is not verified."""
    with (
        tempfile.TemporaryDirectory() as folder,
        up(Path(folder), fleet_file(size, spread_minutes=0), START) as cloud,
    ):
        cloud.go(EVENING)
        cloud.arrive(STEP_TIMEOUT_S)
        database = _database(cloud)
        calls_before, before = Counter(_calls(cloud)), _functions(cloud)
        began = time.monotonic()
        cloud.go(MORNING)
        verified = _until_verified(database, size.instances)
        at = cloud.now()
        calls, after = Counter(_calls(cloud)), _functions(cloud)
        cloud.arrive(STEP_TIMEOUT_S)
        quiet_s, quiet = time.monotonic() - verified, (cloud.now() - at) / MINUTE
        least = floor.measure(cloud, database, size)
    used = {
        name: OfFunction(
            deliveries=now.deliveries - before[name].deliveries,
            failed=now.failed - before[name].failed,
            cpu_s=now.cpu_s - before[name].cpu_s,
            peak_bytes=now.peak_bytes,
        )
        for name, now in after.items()
    }
    return Measured(
        size=size,
        verified=size.instances,
        calls=dict(calls - calls_before),
        discovery_calls=dict(calls_before),
        functions=used,
        seconds=verified - began,
        minutes=(at - datetime.fromisoformat(EVENING)) / MINUTE,
        quiet_minute_s=quiet_s / max(quiet, 1.0),
        floor=least,
    )


def _database(cloud: Up) -> firestore.Client:
    os.environ["FIRESTORE_EMULATOR_HOST"] = cloud.addresses["firestore"]
    try:
        return firestore.Client(project=cloud.addresses["project"], database=cloud.addresses["database"])
    finally:
        del os.environ["FIRESTORE_EMULATOR_HOST"]


def _calls(cloud: Up) -> Mapping[str, int]:
    calls: dict[str, int] = cloud.ask("/_sim/calls")
    return calls


def _functions(cloud: Up) -> dict[str, OfFunction]:
    found = {}
    for name, told in cloud.ask("/_sim/deliveries").items():
        used = proc.of_group(told["pid"])
        found[name] = OfFunction(told["delivered"], told["failed"], used.cpu_s, used.peak_bytes)
    return found


def _until_verified(database: firestore.Client, wanted: int) -> float:
    """The time (monotonic) at which so many points were first seen verified. Raises RuntimeError."""
    points = database.collection_group("points")
    pause = threading.Event()
    end = time.monotonic() + STEP_TIMEOUT_S
    while time.monotonic() < end:
        # Most of the time one document is read: is any point still alive?
        alive: list[Any] = list(points.where(filter=ALIVE).limit(1).stream())
        if not alive:
            seen_at = time.monotonic()
            states = Counter(doc.get("state") for doc in points.select(["state"]).stream())
            if states["verified"] == wanted:
                return seen_at
            if states.total() >= wanted:
                raise RuntimeError(f"points ended as {dict(states)}, expected {wanted} verified")
        pause.wait(POLL_S)
    raise RuntimeError(f"not every point was verified within {STEP_TIMEOUT_S:.0f} s")


ALIVE: Final = FieldFilter("next_at", ">", datetime(2000, 1, 1, tzinfo=UTC))
"""An ended point has none."""

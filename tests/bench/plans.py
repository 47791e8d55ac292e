"""Part `plans`: how many retention plans a second, beside how often the same list is sorted by its moments.

The sort is the floor: any plan has to know which point is newer. The two take turns in one run, and the best of each
counts, so that the ratio says little of the machine and of what else runs on it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from tests.bench.fleets import DISKS
from tests.makers import point, point_disk

from snapkeep.creation.rules import taken_at
from snapkeep.documents import Point, Retention, SnapshotRef
from snapkeep.retention.rules import Situation, plan

NOW: Final = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
EVERY: Final = timedelta(hours=8)
SIZES: Final = (100, 1_000, 10_000)
ROUNDS_MIN: Final = 5

SITUATION: Final = Situation(
    policy=Retention(keep_yearly=10, keep_within_days=30),
    timezone="America/Sao_Paulo",
    lost_at=None,
    in_breach=False,
    override=None,
    instance_holds=(),
    tenant_holds=(),
)
"""Every rule of the policy has something to do."""


@dataclass(frozen=True, slots=True)
class Measured:
    points: int
    plan_s: float
    sort_s: float

    @property
    def ratio(self) -> float:
        return self.plan_s / self.sort_s


def measure(points: int, seconds: float) -> Measured:
    """Plans and sorts of the same points, in turn, for about so many seconds."""
    history = verified(points)
    plans: list[float] = []
    sorts: list[float] = []
    end = time.perf_counter() + seconds
    while len(plans) < ROUNDS_MIN or time.perf_counter() < end:
        plans.append(_seconds(lambda: plan(history, SITUATION, NOW)))
        sorts.append(_seconds(lambda: sorted(history, key=taken_at)))
    return Measured(points, min(plans), min(sorts))


def verified(count: int) -> list[Point]:
    """Verified points of one instance, three a day, the last week's locked, in no order."""
    points = [_verified(NOW - number * EVERY) for number in range(count)]
    random.Random(count).shuffle(points)  # noqa: S311 - an order, not a secret
    return points


def _verified(at: datetime) -> Point:
    disks = [
        point_disk(id=str(number), snapshot=SnapshotRef(project="p", name="s", location="l", created_at=at))
        for number in range(DISKS)
    ]
    return point(id=f"{at:%Y%m%dT%H%M}", state="verified", disks=disks, lock_until=at + timedelta(days=7))


def _seconds(what: Callable[[], object]) -> float:
    began = time.perf_counter()
    what()
    return time.perf_counter() - began

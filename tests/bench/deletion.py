"""Part `deletion`: what the end of a point costs in calls of Compute Engine, all of Snapkeep in memory.

The generated fleet keeps one point of each instance and locks none. So the second night's points send the first
night's into their grace, and a day later every snapshot of the first night is deleted and read back as gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from tests.bench import memory
from tests.bench.fleets import Size
from tests.bench.meter import Meter, Used

from snapkeep.retention.rules import EXPIRY_GRACE
from snapkeep_local.sim import System

RETENTION: Final = "{keep_last: 1, keep_daily: 0, keep_weekly: 0, keep_monthly: 0, lock_days: 0}"
SIZES: Final = (100, 1_000)
DELETION_MAX: Final = timedelta(hours=12)
STEP: Final = timedelta(minutes=5)
MARKED: Final = timedelta(minutes=30)
"""After a night: by then `retention` has looked at every instance."""


@dataclass(frozen=True, slots=True)
class Measured:
    size: Size
    snapshots: int  # of the points that were deleted
    used: Used  # by `expire`, which deletes; not by `retention`, which finds what is due and lists vaults once a day
    minutes: int  # simulated ones, from the end of their grace until all were read back as gone


def measure(size: Size) -> Measured:
    """Two nights of a fleet, and the end of the first one's points. Raises RuntimeError if they do not end."""
    meter = Meter()
    system = System(seed=1, start=memory.START, wrap=meter.wrap, deliver=meter.deliver)
    meter.calls = system.cloud.calls
    system.apply(memory.read(size, retention=RETENTION))
    system.run(memory.NIGHT - memory.START)
    memory.night(system)
    system.cloud.advance(memory.NIGHT + memory.DAY - memory.HOUR)
    system.run(memory.HOUR)
    memory.night(system)
    system.run(MARKED)
    system.cloud.advance(system.cloud.now + EXPIRY_GRACE)
    meter.reset()
    began = system.cloud.now
    while _deleted(system) < size.instances:
        system.run(STEP)
        if system.cloud.now - began > DELETION_MAX:
            raise RuntimeError(f"{size}: {_deleted(system)} points deleted within {DELETION_MAX}")
    minutes = (system.cloud.now - began) // timedelta(minutes=1)
    return Measured(size, size.disks, meter.reset()["expire"], minutes)


def _deleted(system: System) -> int:
    return sum(data.get("state") == "deleted" for path, data in system.documents.dump().items() if "/points/" in path)

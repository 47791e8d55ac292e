"""Part `copies`: what a second region costs in calls of Compute Engine, both ways, all of Snapkeep in memory.

By the moment: a later night of a fleet that has bought copies; of each disk an instant snapshot, of that a snapshot in
each region, and the instant snapshot goes. Through temporary disks: a fleet that has not, whose add-on is bought the
morning after its first night; a person asks for a copy of every point, so that no daily bound stands in the way.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

from tests.bench import memory
from tests.bench.fleets import Size
from tests.bench.meter import Meter, Used

from snapkeep import commands
from snapkeep import documents as d
from snapkeep_local.sim import System

REGION: Final = "us-east1"
BOUGHT: Final = f"{{inter_region_backup: {{region: {REGION}, valid_until: 2031-12-31}}}}"
SIZES: Final = (100, 1_000)
FUNCTIONS: Final = ("create", "copy", "reconcile")
"""Those that ask Compute Engine for points and copies; `entitlements`, which finds what is missing, asks it nothing."""

Way = Literal["moment", "temporary_disk"]
NIGHTS: Final = 2
COPIES_MAX: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Measured:
    """By way of the moment the calls for the points at home are among them: the same instant snapshots serve both."""

    size: Size
    way: Way
    copies: int  # verified
    calls: Counter[str]  # by method, a regional disk's with the zonal ones'
    minutes: int  # simulated ones, until nothing of them is left to do


def measure(size: Size, way: Way) -> Measured:
    """Raises RuntimeError unless every point of the night has a verified copy in the end."""
    meter = Meter()
    system = System(seed=1, start=memory.START, wrap=meter.wrap, deliver=meter.deliver)
    meter.calls = system.cloud.calls
    by_moment = way == "moment"
    system.apply(memory.read(size, entitlements=BOUGHT if by_moment else "{}"))
    system.run(memory.NIGHT - memory.START)
    for number in range(NIGHTS if by_moment else 1):
        if number:
            system.cloud.advance(memory.NIGHT + number * memory.DAY - memory.HOUR)
            system.run(memory.HOUR)
        before, began = _verified(system), system.cloud.now
        meter.reset()
        memory.night(system)
    if not by_moment:
        system.apply(memory.read(size, entitlements=BOUGHT))
        _ask_for_all(system)
        before, began = _verified(system), system.cloud.now
        meter.reset()
        while memory.living(system):
            system.minute()
            if system.cloud.now - began > COPIES_MAX:
                raise RuntimeError(f"{size}: copies still live after {COPIES_MAX}")
    minutes = (system.cloud.now - began) // timedelta(minutes=1)
    made = _verified(system) - before
    if made != size.instances:
        raise RuntimeError(f"{size}: {made} copies were verified, expected {size.instances}")
    return Measured(size, way, made, _calls(meter.reset()), minutes)


def _ask_for_all(system: System) -> None:
    """A person asks for a copy of every point."""
    ask = commands.CopyAsk(reason="to be measured")
    for path in [path for path in system.documents.dump() if "/points/" in path]:
        _, tenant, _, point = path.split("/")
        commands.request_copy(system.ports, commands.Asked("ana@vendor.example", path, ""), tenant, point, ask)


def _verified(system: System) -> int:
    points = [d.from_data(d.Point, data) for path, data in system.documents.dump().items() if "/points/" in path]
    return sum(copy.state == "verified" for point in points for copy in point.copies.values())


def _calls(used: dict[str, Used]) -> Counter[str]:
    calls = Counter[str]()
    for name in FUNCTIONS:
        for method, number in used[name].calls.items() if name in used else ():
            kind = method.removeprefix("region")
            calls[kind[0].lower() + kind[1:]] += number
    return calls

"""Part `memory`: the whole of Snapkeep in one process, with a meter between the functions and their ports.

Counts are exact and the same on every machine. CPU time is that of handlers with memory ports: without Google's
clients, without the network.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from tests.bench.fleets import Size, fleet_file
from tests.bench.meter import Meter, Used

from snapkeep import fleet
from snapkeep.store import query
from snapkeep_local.sim import System

START: Final = datetime(2026, 10, 1, 4, 30, tzinfo=UTC)
NIGHT: Final = datetime(2026, 10, 1, 5, 25, tzinfo=UTC)
"""Five minutes before the first slots: 02:30 in Sao Paulo, spread over half an hour."""

SLOTS: Final = timedelta(minutes=40)
NIGHT_MAX: Final = timedelta(hours=8)
HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Night:
    """One night's points, from before the first slot until no point lives and every record is numbered."""

    size: Size
    number: int
    used: dict[str, Used]
    minutes: int
    verified: int


@dataclass(frozen=True, slots=True)
class Measured:
    size: Size
    setup: dict[str, Used]  # from the fleet file's application to the evening
    nights: tuple[Night, ...]
    quiet_hour: dict[str, Used]  # an hour in which nothing is due but discovery


def measure(size: Size, nights: int) -> Measured:
    """Let some nights pass over a fleet. The quiet hours between them are skipped, but for one."""
    meter = Meter()
    system = System(seed=1, start=START, wrap=meter.wrap, deliver=meter.deliver)
    meter.calls = system.cloud.calls
    system.apply(read(size))
    system.run(NIGHT - START)
    setup = meter.reset()
    found = []
    quiet: dict[str, Used] = {}
    verified_before = 0
    for number in range(nights):
        if number:
            system.cloud.advance(NIGHT + number * DAY - HOUR)
            system.run(HOUR)  # what the gap itself brings: discovery of everything at once
            meter.reset()
        began = system.cloud.now
        night(system)
        verified = sum(event["type"] == "point.verified" for event in system.events())
        minutes = (system.cloud.now - began) // timedelta(minutes=1)
        found.append(Night(size, number + 1, meter.reset(), minutes, verified - verified_before))
        verified_before = verified
        if number == 0:
            system.run(timedelta(minutes=30))  # what health looks back on
            meter.reset()
            system.run(HOUR)
            quiet = meter.reset()
    return Measured(size, setup, tuple(found), quiet)


def night(system: System) -> None:
    """From before the first slot until no point lives. Raises RuntimeError if one lives too long."""
    began = system.cloud.now
    while system.cloud.now - began < SLOTS or living(system):
        system.minute()
        if system.cloud.now - began > NIGHT_MAX:
            raise RuntimeError(f"points still live after {NIGHT_MAX}")
    system.run(timedelta(minutes=10))  # the audit's and health's ticks


def read(size: Size, retention: str = "{}", entitlements: str = "{}") -> fleet.Reading:
    """The generated fleet file, with this retention and these entitlements (YAML)."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fleet.yaml"
        path.write_text(fleet_file(size, retention=retention, entitlements=entitlements), encoding="utf-8")
        reading = fleet.read(path)
    if reading.mistakes:
        raise RuntimeError(f"the generated fleet file is wrong: {reading.mistakes[0]}")
    return reading


def living(system: System) -> bool:
    """Whether anything of a point is left to do."""
    return bool(system.documents.find(query("points", datetime.max.replace(tzinfo=UTC))))

"""The whole of Snapkeep in one process: memory ports, the Compute Engine state machine, the deployed entry points.

Messages go through the real codec and the real table of entry points, and time passes only when it is told to. The
demo and the fault tests run on this; with one seed, everything that happens is the same, byte for byte.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Final

from snapkeep import commands, fleet
from snapkeep.commands import Applied
from snapkeep.documents import Tenant
from snapkeep.entry import ENTRIES
from snapkeep.ports import Bus, Compute, Documents, Ports
from snapkeep.store import canonical
from snapkeep_local import schedule
from snapkeep_local.cloud import Cloud
from snapkeep_local.compute import LocalCompute
from snapkeep_local.memory import MemoryBus, MemoryDocuments

MINUTE: Final = timedelta(minutes=1)
PROJECT: Final = "local"
EVENTS: Final = "snapkeep-events"

Wrap = Callable[[Ports], Ports]


class SimClock:
    """The state machine's clock as the functions see it; tokens come from the seed."""

    def __init__(self, cloud: Cloud, seed: int) -> None:
        self._cloud = cloud
        self._random = random.Random(f"tokens:{seed}")

    def now(self) -> datetime:
        return self._cloud.now

    def token(self) -> str:
        return f"{self._random.getrandbits(64):016x}"


class System:
    """One Snapkeep with its cloud. `wrap` may put something between the functions and their ports (faults)."""

    def __init__(self, *, seed: int, start: datetime, wrap: Wrap | None = None) -> None:
        self.seed = seed
        self.cloud = Cloud(seed, start)
        self.clock = SimClock(self.cloud, seed)
        self.documents = MemoryDocuments(self.clock.now)
        self.bus = MemoryBus(self.clock.now, random=random.Random(f"bus:{seed}"), project=PROJECT)
        self.ports = Ports(
            documents=_documents(self.documents),
            compute=_compute(LocalCompute(self.cloud)),
            bus=_bus(self.bus),
            clock=self.clock,
        )
        seen_by_functions = wrap(self.ports) if wrap else self.ports
        for function in schedule.functions():
            entry = ENTRIES[function.name]
            self.bus.subscribe(function.topic, lambda envelope, entry=entry: entry(envelope, seen_by_functions))

    def apply(self, reading: fleet.Reading, actor: str = "operator:demo") -> Applied:
        """Build the cloud that a fleet file implies, then apply the file."""
        now = self.clock.now()
        self.populate([entry.tenant(applied_at=now, applied_by=actor) for entry in reading.valid])
        return commands.apply_fleet(self.ports, reading, actor)

    def populate(self, tenants: Iterable[Tenant]) -> None:
        populate(self.cloud, tenants, self.seed)

    def minute(self) -> None:
        """Let one minute pass: the clock, the scheduler's ticks of that minute, and every delivery that is due."""
        self.step(ticks=True)

    def step(self, *, ticks: bool) -> None:
        self.cloud.advance(self.cloud.now + MINUTE)
        if ticks:
            for function in schedule.ticking(self.cloud.now):
                self.bus.publish(function.topic, schedule.TICK)
        self.deliver()

    def deliver(self) -> None:
        self.bus.pump()

    def run(self, duration: timedelta, each: Callable[[], None] | None = None) -> None:
        end = self.cloud.now + duration
        while self.cloud.now < end:
            self.minute()
            if each:
                each()

    def digest(self) -> str:
        """One hash over everything that happened: every document, every event, every change of the cloud."""
        whole = hashlib.sha256()
        for path, data in sorted(self.documents.dump().items()):
            whole.update(canonical([path, data]))
        for body in self.bus.outbox(EVENTS):
            whole.update(body)
        whole.update(canonical(self.cloud.state()))
        return whole.hexdigest()


def _documents(port: Documents) -> Documents:
    return port


def _compute(port: Compute) -> Compute:
    return port


def _bus(port: Bus) -> Bus:
    return port

"""The whole of Snapkeep in one process: memory ports, the Compute Engine state machine, the deployed entry points.

Messages go through the real codec and the real table of entry points, and time passes only when it is told to. The
demo and the fault tests run on this; with one seed, everything that happens is the same, byte for byte.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, get_args

from snapkeep import commands, fleet, health
from snapkeep.commands import Applied
from snapkeep.documents import Tenant
from snapkeep.entry import ENTRIES
from snapkeep.ports import Ports
from snapkeep.store import Due, Fleet, canonical, query
from snapkeep_local import example, schedule
from snapkeep_local.cloud import Cloud
from snapkeep_local.compute import LocalCompute
from snapkeep_local.memory import MemoryBus, MemoryDocuments

WITH_TTL: Final = ("inbox", "requests", "rejected")
"""Collections whose documents Firestore removes after `expire_at`; here at midnight."""

MINUTE: Final = timedelta(minutes=1)
PROJECT: Final = "local"
EVENTS: Final = "snapkeep-events"

LOOKS_FOR: Final[Mapping[str, tuple[Due, ...]]] = {"reconcile": ("points",)}
"""Functions that are woken more often than others, and the work that their ticks look for: where none of it is due,
a tick does nothing but note that it came."""

WORK: Final[tuple[Due, ...]] = get_args(Due)
"""What the ticks of all functions look for, beside what `health` finds changed."""

ROUND: Final = timedelta(minutes=10)
"""Each function that ticks has ticked once more after it (`test_every_function_ticks_within_a_round`)."""

DAY: Final = timedelta(days=1)
MIDNIGHT: Final = datetime(2000, 1, 1, tzinfo=UTC)

Wrap = Callable[[Ports], Ports]
Deliver = Callable[[str, Ports, Any], None]
"""Carries out one delivery: the function's name, the ports it gets, and the envelope of the push."""


def deliver(function: str, ports: Ports, envelope: Any) -> None:
    ENTRIES[function](envelope, ports)


def populate(cloud: Cloud, tenants: Iterable[Tenant], seed: int, made: Iterable[str] = ()) -> list[str]:
    """Make the instances and disks that a fleet file implies, but for those (links) that were made before.

    Returns all that have been made by now.
    """
    known = {*made, *(instance.link for instance in cloud.instances())}
    for spec in example.inventory(tenants, seed):
        link = f"projects/{spec.project}/zones/{spec.zone}/instances/{spec.name}"
        if link in known:
            continue
        known.add(link)
        disks = [
            cloud.add_disk(
                project=spec.project,
                zone=spec.zone,
                name=disk.name,
                type=disk.type,
                size_gb=disk.size_gb,
                replica_zones=disk.replica_zones,
                kms_key=disk.kms_key,
                boot=disk.boot,
            )
            for disk in spec.disks
            if disk.persistent
        ]
        cloud.add_instance(
            project=spec.project,
            zone=spec.zone,
            name=spec.name,
            disks=disks,
            labels=spec.labels,
            metadata=spec.metadata,
            machine_type=spec.machine_type,
            local_ssds=sum(not disk.persistent for disk in spec.disks),
            tags=spec.tags,
            service_account=spec.service_account,
        )
    return sorted(known)


def _only_looking(at: datetime) -> bool:
    return all(function.name in LOOKS_FOR for function in schedule.ticking(at))


class SimClock:
    """The state machine's clock as the functions see it; tokens come from the seed."""

    def __init__(self, cloud: Cloud, seed: int) -> None:
        self._cloud = cloud
        self._random = random.Random(f"tokens:{seed}")  # noqa: S311 - seeded on purpose

    def now(self) -> datetime:
        return self._cloud.now

    def token(self) -> str:
        return f"{self._random.getrandbits(64):016x}"


class System:
    """One Snapkeep with its cloud.

    `wrap` may put something between the functions and their ports (faults), `deliver` around each delivery (meters).
    """

    def __init__(self, *, seed: int, start: datetime, wrap: Wrap | None = None, deliver: Deliver = deliver) -> None:
        self.seed = seed
        self.cloud = Cloud(seed, start)
        self.clock = SimClock(self.cloud, seed)
        self.documents = MemoryDocuments(self.clock.now)
        order = random.Random(f"bus:{seed}")  # noqa: S311 - seeded on purpose
        self.bus = MemoryBus(self.clock.now, random=order, project=PROJECT)
        self.ports = Ports(
            documents=self.documents,
            compute=LocalCompute(self.cloud),
            bus=self.bus,
            clock=self.clock,
        )
        seen_by_functions = wrap(self.ports) if wrap else self.ports
        for function in schedule.functions():
            self.bus.subscribe(function.topic, partial(deliver, function.name, seen_by_functions))

    def apply(self, reading: fleet.Reading, actor: str = "operator:demo") -> Applied:
        """Build the cloud that a fleet file implies, then apply the file."""
        now = self.clock.now()
        self.populate([entry.tenant(applied_at=now, applied_by=actor) for entry in reading.valid])
        return commands.apply_fleet(self.ports, reading, actor)

    def populate(self, tenants: Iterable[Tenant]) -> None:
        populate(self.cloud, tenants, self.seed)

    def minute(self) -> None:
        """Let one minute pass: the clock, the scheduler's ticks of that minute, and every delivery that is due."""
        now = self.cloud.now + MINUTE
        self.cloud.advance(now)
        for function in schedule.ticking(now):
            self.bus.publish(function.topic, schedule.TICK)
        self.bus.pump()
        if (now.hour, now.minute) == (0, 0):
            for collection in WITH_TTL:
                self.documents.remove_expired(collection, "expire_at")

    def run(self, duration: timedelta) -> None:
        end = self.cloud.now + duration
        while self.cloud.now < end:
            self.minute()

    def fast_forward(self, duration: timedelta) -> None:
        """Do what `run` does, to the same digest, but for ticks that leave nothing behind. Not for watched ports.

        A tick that finds nothing notes that it came, in the place of the note of the one before it. So it is left out
        where the next comes before anybody can read its note.
        """
        end = self.cloud.now + duration
        while self.cloud.now < end:
            self._pass_over_idle_rounds(end)
            self._pass_over_idle_ticks(end)
            self.minute()

    def _pass_over_idle_rounds(self, end: datetime) -> None:
        """Leave out the rounds in which no function finds anything, but for the last one, and leave the notes of the
        one before it: `health` may come before others in the last one, and then reads those."""
        now = self.cloud.now
        if (now - MIDNIGHT) % ROUND:
            return
        tomorrow = now - (now - MIDNIGHT) % DAY + DAY
        idle_until = now
        while idle_until + ROUND <= min(end, tomorrow) and self._idle_until(idle_until + ROUND):
            idle_until += ROUND
        until = idle_until - ROUND
        if until <= now:
            return
        minutes = (until - now) // MINUTE
        arrivals = [len(schedule.ticking(now + number * MINUTE)) for number in range(1, minutes + 1)]
        self.cloud.advance(until)
        self.bus.pass_over(arrivals)
        for function in schedule.ticking(until):  # every one that ticks, at the end of a round
            Fleet(self.documents).ticked(function.name, until)

    def _idle_until(self, at: datetime) -> bool:
        """Whether no message comes, no work falls due, and nothing has changed that `health` may look at again."""
        waiting = self.bus.next_due()
        if waiting is not None and waiting <= at:
            return False
        if any(self.documents.find(query(kind, at)) for kind in WORK):
            return False
        last = Fleet(self.documents).fleet_health()
        since = last.value.computed_at - health.OVERLAP if last else None
        return since is not None and not any(
            self.documents.find(query(name, since)) for name in ("tenants_changed", "instances_changed")
        )

    def _pass_over_idle_ticks(self, end: datetime) -> None:
        ticks = 0
        at = self.cloud.now + MINUTE
        while at < end and _only_looking(at) and _only_looking(at + MINUTE):
            ticks += len(schedule.ticking(at))
            at += MINUTE
        last = at - MINUTE
        waiting = self.bus.next_due()
        if not ticks or (waiting is not None and waiting <= at):
            return
        if not any(self.documents.find(query(kind, last)) for looked_for in LOOKS_FOR.values() for kind in looked_for):
            self.cloud.advance(last)
            self.bus.pass_over([1] * ticks)

    def events(self) -> list[dict[str, Any]]:
        """What was published for others, oldest first."""
        return [json.loads(body) for body in self.bus.outbox(EVENTS)]

    def digest(self) -> str:
        """One hash over everything that happened: every document, every event, every change of the cloud."""
        whole = hashlib.sha256()
        for path, data in sorted(self.documents.dump().items()):
            whole.update(canonical([path, data]))
        for body in self.bus.outbox(EVENTS):
            whole.update(body)
        whole.update(canonical(self.cloud.state()))
        return whole.hexdigest()

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

from msgspec import structs

from snapkeep import commands, fleet
from snapkeep.cloud import region_of
from snapkeep.commands import Applied
from snapkeep.documents import Tenant
from snapkeep.entry import ENTRIES
from snapkeep.ports import Ports, Query
from snapkeep.store import Due, Fleet, canonical, query
from snapkeep_local import example, schedule
from snapkeep_local.cloud import Cloud
from snapkeep_local.compute import LocalCompute
from snapkeep_local.declared import Declared
from snapkeep_local.guests import CloudGuests
from snapkeep_local.memory import MemoryBus, MemoryDocuments

WITH_TTL: Final = ("inbox", "requests", "rejected")
"""Collections whose documents Firestore removes after `expire_at`; here at midnight."""

MINUTE: Final = timedelta(minutes=1)
NO_TIME: Final = timedelta(0)
PROJECT: Final = "local"
EVENTS: Final = "snapkeep-events"

WORK: Final[tuple[Due, ...]] = get_args(Due)
"""What the ticks of all functions look for, beside what `health` finds changed."""

DAY: Final = timedelta(days=1)
MIDNIGHT: Final = datetime(2000, 1, 1, tzinfo=UTC)

FIRST_DUE: Final[Mapping[Due, Query]] = {
    kind: structs.replace(query(kind, datetime(9999, 1, 1, tzinfo=UTC)), limit=1) for kind in WORK
}
"""What finds the work of each kind that falls due first, however late that is."""

Wrap = Callable[[Ports], Ports]
Deliver = Callable[[str, Ports, Any], None]
"""Carries out one delivery: the function's name, the ports it gets, and the envelope of the push."""


def deliver(function: str, ports: Ports, envelope: Any) -> None:
    ENTRIES[function](envelope, ports)


def populate(cloud: Cloud, tenants: Iterable[Tenant], seed: int, made: Iterable[str] = ()) -> list[str]:
    """Make what a fleet file implies: instances with their disks, and firewall rules. Not what was made before (links).

    Returns all that have been made by now.
    """
    tenants = list(tenants)
    known = {*made, *(one.link for one in cloud.instances()), *(one.link for one in cloud.firewalls())}
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
        if spec.consistency_group:
            group = cloud.add_policy(project=spec.project, region=region_of(spec.zone), name=spec.consistency_group)
            for disk_link in disks:
                cloud.attach_policy(disk_link, group)
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
    for rule in example.denials(tenants):
        link = f"projects/{rule.project}/global/firewalls/{rule.name}"
        if link not in known:
            known.add(link)
            cloud.add_firewall(project=rule.project, name=rule.name, network=rule.network, direction=rule.direction)
    return sorted(known)


class SimClock:
    """The state machine's clock as the functions see it.

    Tokens come from the seed and the moment: what a tick draws that leaves nothing behind changes no later one.
    """

    def __init__(self, cloud: Cloud, seed: int) -> None:
        self._cloud = cloud
        self._seed = seed
        self._drawn = (cloud.now, 0)  # the moment of the last token, and how many it has had

    def now(self) -> datetime:
        return self._cloud.now

    def token(self) -> str:
        moment, drawn = self._drawn
        self._drawn = (self._cloud.now, drawn + 1 if moment == self._cloud.now else 1)
        return hashlib.sha256(f"tokens:{self._seed}:{self._drawn}".encode()).hexdigest()[:16]


class System:
    """One Snapkeep with its cloud.

    `wrap` may put something between the functions and their ports (faults), `deliver` around each delivery (meters).
    Whatever that is: a function can do what `declared` says, and nothing else.
    """

    def __init__(
        self,
        *,
        seed: int,
        start: datetime,
        wrap: Wrap | None = None,
        deliver: Deliver = deliver,
        declared: Declared | None = None,
    ) -> None:
        self.seed = seed
        self.cloud = Cloud(seed, start)
        self.clock = SimClock(self.cloud, seed)
        self.documents = MemoryDocuments(self.clock.now)
        order = random.Random(f"bus:{seed}")  # noqa: S311 - seeded on purpose
        self.bus = MemoryBus(self.clock.now, random=order, project=PROJECT)
        self.declared = declared or Declared()
        bare = Ports(
            documents=self.documents,
            compute=LocalCompute(self.cloud),
            bus=self.bus,
            clock=self.clock,
            guests=CloudGuests(self.cloud),
        )
        self.ports = self.declared.hold("web", bare)  # what people do goes through it
        seen_by_functions = wrap(bare) if wrap else bare
        for function in schedule.functions():
            ports = self.declared.hold(function.name, seen_by_functions)
            self.bus.subscribe(function.topic, partial(deliver, function.name, ports))

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
        """Do what `run` does, to the same digest, but for minutes that leave nothing behind. Not for watched ports.

        A tick that finds nothing notes that it came, in the place of the note of the one before it. So of the minutes
        in which no tick finds anything only the last notes are written. The last tick of `health` is carried out: it
        writes down when the others ticked.
        """
        end = self.cloud.now + duration
        while self.cloud.now < end:
            self._pass_over(min(self._next_busy(), self._last_of_health(end)))
            if self.cloud.now < end:
                self.minute()

    def _pass_over(self, busy: datetime) -> None:
        """Leave out the minutes before this one, in which no tick finds anything, but for the last notes of them."""
        now = self.cloud.now
        idle = [now + number * MINUTE for number in range(1, (busy - now) // MINUTE)]
        if not idle:
            return
        self.cloud.advance(idle[-1])
        self.bus.pass_over(len(schedule.ticking(at)) for at in idle)
        last = {function.name: at for at in idle for function in schedule.ticking(at)}
        for function, at in last.items():
            Fleet(self.documents).ticked(function, at)

    def _last_of_health(self, end: datetime) -> datetime:
        """The last minute until then in which `health` ticks; where it does not, the one after the end."""
        last = self._minute_of(end)
        after = last + MINUTE
        while last > self.cloud.now:
            if schedule.wait(last, ("health",)) == NO_TIME:
                return last
            last -= MINUTE
        return after

    def _next_busy(self) -> datetime:
        """The next minute in which a message comes, a tick finds work or something new, or documents go by TTL.

        Work is looked for by `health` too, whoever does it: with time a tenant leaves, and comes into breach.
        """
        now = self.cloud.now
        soonest = now + MINUTE
        busy = self._minute_of(now - (now - MIDNIGHT) % DAY + DAY)
        message = self.bus.next_due()
        if message is not None:
            busy = min(busy, self._minute_of(message))
        if self._news_for_health():
            busy = min(busy, soonest + schedule.wait(soonest, ("health",)))
        for kind, first_due in FIRST_DUE.items():
            looking = (*schedule.asking(kind), "health")
            if soonest + schedule.wait(soonest, looking) < busy:
                for doc in self.documents.find(first_due):
                    due = self._minute_of(doc.data[first_due.order[0][0]])
                    busy = min(busy, due + schedule.wait(due, looking))
        return busy

    def _minute_of(self, at: datetime) -> datetime:
        """The first minute to come in which something of this instant is seen."""
        return self.cloud.now + max(-((self.cloud.now - at) // MINUTE), 1) * MINUTE

    def _news_for_health(self) -> bool:
        """Whether anything was written that the last tick of `health` may not have seen.

        What it has seen the next ones look at again, for as long as OVERLAP, and find that nothing is to be done.
        """
        last = Fleet(self.documents).fleet_health()
        return last is None or any(
            self.documents.find(structs.replace(query(name, last.value.computed_at), limit=1))
            for name in ("tenants_changed", "instances_changed")
        )

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

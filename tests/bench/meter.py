"""Counts what each function does, between the functions and their ports.

Documents are counted as Firestore bills them: a document that is not there and a query that finds nothing are a read
each. Compute Engine's calls are counted by the simulator, a page as a call.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from snapkeep.cloud import Change, Resource
from snapkeep.entry import ENTRIES
from snapkeep.ports import Bus, Compute, Conflict, Doc, Documents, Ports, Query, Write

R = TypeVar("R", bound=Resource)
T = TypeVar("T")

NOBODY: Final = "(none)"
"""What is done outside of any delivery: applying the fleet file, ticking."""


@dataclass(slots=True)
class Used:
    """What one function used."""

    deliveries: int = 0
    reads: int = 0
    writes: int = 0
    commits: int = 0
    conflicts: int = 0
    calls: Counter[str] = field(default_factory=Counter)  # of Compute Engine, by method
    messages: Counter[str] = field(default_factory=Counter)  # published, by topic
    cpu_s: float = 0.0  # of whole deliveries
    ports_cpu_s: float = 0.0  # of it, what the simulated cloud and database took
    most_read: int = 0  # documents that one delivery read, at the most


class Meter:
    """Give `wrap` and `deliver` to a `System`; then `used` fills, by function."""

    def __init__(self) -> None:
        self.used: defaultdict[str, Used] = defaultdict(Used)
        self.function = NOBODY
        self.calls: Counter[str] = Counter()
        """The simulator's own count, by method; to be set before the first delivery."""

    @property
    def now(self) -> Used:
        return self.used[self.function]

    def reset(self) -> dict[str, Used]:
        """What was used since the last time."""
        used, self.used = dict(self.used), defaultdict(Used)
        return used

    def wrap(self, ports: Ports) -> Ports:
        return Ports(
            _Documents(self, ports.documents),
            _Compute(self, ports.compute),
            _Bus(self, ports.bus),
            ports.clock,
            ports.guests,
        )

    def deliver(self, function: str, ports: Ports, envelope: Any) -> None:
        self.function = function
        used = self.now
        reads_before, calls_before, began = used.reads, self.calls.copy(), time.process_time()
        try:
            ENTRIES[function](envelope, ports)
        finally:
            used.cpu_s += time.process_time() - began
            used.calls.update(self.calls - calls_before)
            used.deliveries += 1
            used.most_read = max(used.most_read, used.reads - reads_before)
            self.function = NOBODY

    def inside(self, call: Callable[[], T]) -> T:
        """The call's answer; its time is that of the ports."""
        began = time.process_time()
        try:
            return call()
        finally:
            self.now.ports_cpu_s += time.process_time() - began


class _Documents:
    def __init__(self, meter: Meter, inner: Documents) -> None:
        self._meter, self._inner = meter, inner

    def get(self, *paths: str) -> list[Doc | None]:
        self._meter.now.reads += len(paths)
        return self._meter.inside(lambda: self._inner.get(*paths))

    def find(self, query: Query) -> list[Doc]:
        found = self._meter.inside(lambda: self._inner.find(query))
        self._meter.now.reads += max(len(found), 1)
        return found

    def commit(self, *writes: Write) -> None:
        try:
            self._meter.inside(lambda: self._inner.commit(*writes))
        except Conflict:
            self._meter.now.conflicts += 1
            raise
        self._meter.now.commits += 1
        self._meter.now.writes += len(writes)


class _Compute:
    def __init__(self, meter: Meter, inner: Compute) -> None:
        self._meter, self._inner = meter, inner

    def get(self, kind: type[R], link: str) -> R | None:
        return self._meter.inside(lambda: self._inner.get(kind, link))

    def find(self, kind: type[R], project: str, where: str = "") -> Iterator[R]:
        found = self._inner.find(kind, project, where)
        while (one := self._meter.inside(lambda: next(found, None))) is not None:
            yield one

    def start(self, change: Change, request_id: str) -> str:
        return self._meter.inside(lambda: self._inner.start(change, request_id))


class _Bus:
    def __init__(self, meter: Meter, inner: Bus) -> None:
        self._meter, self._inner = meter, inner

    def publish(self, topic: str, body: bytes) -> None:
        self._meter.now.messages[topic] += 1
        self._meter.inside(lambda: self._inner.publish(topic, body))

"""What the real code logs, as Cloud Logging would get it: formatted by wiring.JsonLines, read back as JSON."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from typing import Any

from msgspec.structs import replace
from tests.makers import INSTANCE_ID, THEN, World, disk, machine, tenant

from snapkeep import documents as d
from snapkeep import wiring
from snapkeep.ports import Transient

Line = dict[str, Any]


class _Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(wiring.JsonLines())
        self.lines: list[Line] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(json.loads(self.format(record)))


@contextmanager
def listening() -> Iterator[list[Line]]:
    """All that Snapkeep logs meanwhile, at the level of a deployed function."""
    root, kept = logging.getLogger("snapkeep"), _Kept()
    before = root.level
    root.addHandler(kept)
    root.setLevel(logging.INFO)
    try:
        yield kept.lines
    finally:
        root.removeHandler(kept)
        root.setLevel(before)


@lru_cache(maxsize=1)
def of_a_bad_day() -> tuple[Line, ...]:
    """A day on which a tenant comes into breach, function `discover` is late, a message is bad and a delivery fails."""
    boot = disk()
    one = World()
    one.set_up(machine(boot), of=tenant(timezone="UTC"), disks=(boot,))
    path = f"tenants/acme/instances/{INSTANCE_ID}"
    with listening() as lines:
        one.tick("discover", "plan", "health")
        one.pass_time(timedelta(hours=2))  # a point is taken, or fails; nobody discovers anything
        one.tick("discover")
        newest = d.Newest(point="p", at=THEN - timedelta(hours=40), took_s=60)
        here = one.the_instance()
        one.put((path, replace(here, newest_verified=newest, breach_due_at=None, updated_at=one.clock.now())))
        one.tick("health", "audit", "health")
        one.hand("plan", b"no message")
        one.hand("dead_letters", b"whatever died")
        with_fault(one)
        one.tick("audit", "health")
    return tuple(lines)


def with_fault(one: World) -> None:
    """One delivery during which the database does not answer."""
    real = one.documents
    one.documents = Away()
    try:
        one.hand("plan", b'{"schema":1,"type":"tick"}')
    except Transient:
        pass
    finally:
        one.documents = real


class Away:
    """Documents that cannot be reached."""

    def __getattr__(self, name: str) -> Any:
        raise Transient("the database does not answer")

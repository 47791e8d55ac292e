"""The one loop: find due work, read back what became of it, and let its own slice take the next step.

Every living piece of work carries `next_at`; each step moves it on or ends it. So the tick alone brings all of it to
its end, whatever messages were lost and wherever a process died.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import Final

from snapkeep import documents as d
from snapkeep import hints
from snapkeep.breaker import Breaker
from snapkeep.copies import handler as copies_handler
from snapkeep.creation import handler as creation_handler
from snapkeep.messages import Message, RestoreRef, Tick, not_for
from snapkeep.ports import Ports
from snapkeep.store import QUERIES, Fleet, readable

log: Final = logging.getLogger(__name__)

POINT_PAGES_PER_RUN: Final = 10
"""Pages of due points in one run (1,000 points); the rest is due still at the next tick."""

RESTORE_PAGES_PER_RUN: Final = 5
"""Pages of due restores in one run (500 restores); the rest is due still at the next tick."""


def reconcile(message: Message, ports: Ports) -> None:
    """On a tick: bring every due point one step nearer its end, a page at a time, each by the slice whose turn it is.

    A page at a time, so that a run needs no more memory for a larger fleet. Points that are looked at together are due
    at one instant, and so come in the order of their tenants: few projects are on two pages.
    """
    if not isinstance(message, Tick):
        raise not_for("reconcile", message)
    now = ports.clock.now()
    _wake_restores(ports, now)
    compute = Breaker(ports.compute)
    shared = replace(ports, compute=compute)
    due = readable(d.Point, Fleet(ports.documents).due("points", now, POINT_PAGES_PER_RUN))
    while page := list(islice(due, QUERIES["points"].limit)):
        creating = [point for point in page if is_creations(point.value, now)]
        copying = [point for point in page if not is_creations(point.value, now)]
        if creating:
            creation_handler.advance(creating, shared)
        if copying:
            copies_handler.advance(copying, shared)
        if compute.nobody_answers:
            log.warning("Compute Engine does not answer: what is left is due still, and the first of the next run")
            break


def _wake_restores(ports: Ports, now: datetime) -> None:
    """Hand due restores to `restore`, which alone may stop, change or delete instances.

    First of all: somebody waits for them, and a message takes no time.
    """
    due = readable(d.Restore, Fleet(ports.documents).due("restores", now, RESTORE_PAGES_PER_RUN))
    hints.start_restores(ports.bus, [RestoreRef(one.tenant, one.value.id) for one in due])


def is_creations(point: d.Point, now: datetime) -> bool:
    """Whether a due point is creation's: its own snapshots, and the moment they were made of.

    One slice at a time, the one whose part has waited longest: an instant snapshot that cannot go is looked at for
    ever, and must not keep a copy waiting. What is due of the other is so still at the next tick.
    """
    if point.state in ("requested", "creating"):
        return True
    moment_at = point.moment.next_at if point.moment else None
    if moment_at is None or moment_at > now:
        return False
    return all(copy.next_at is None or moment_at <= copy.next_at for copy in point.copies.values())

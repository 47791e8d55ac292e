"""The one loop: find due work, read back what became of it, and let its own slice take the next step.

Every living piece of work carries `next_at`; each step moves it on or ends it. So the tick alone brings all of it to
its end, whatever messages were lost and wherever a process died.
"""

from __future__ import annotations

from typing import Final

from snapkeep import documents as d
from snapkeep.creation import handler as creation_handler
from snapkeep.messages import Message, Tick, not_for
from snapkeep.ports import Ports
from snapkeep.store import Fleet, readable

POINT_PAGES_PER_RUN: Final = 10
"""Pages of due points in one run (1,000 points); the rest is due still at the next tick."""


def reconcile(message: Message, ports: Ports) -> None:
    """On a tick: bring every due point one step nearer its end."""
    if not isinstance(message, Tick):
        raise not_for("reconcile", message)
    now = ports.clock.now()
    creation_handler.advance(readable(d.Point, Fleet(ports.documents).due("points", now, POINT_PAGES_PER_RUN)), ports)

"""Messages from one function to another. They are hints: when one is lost, the ticks find the work all the same."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Final

from snapkeep import messages
from snapkeep.ports import Bus, Transient

log: Final = logging.getLogger(__name__)


def nudge(bus: Bus, tenants: Iterable[str], *functions: str) -> None:
    """Ask functions to look at these tenants now."""
    ids = sorted(set(tenants))
    size = messages.TENANTS_PER_MESSAGE_MAX
    for start in range(0, len(ids), size):
        for function in functions:
            send(bus, function, messages.Nudge(tenants=ids[start : start + size]))


def start_points(bus: Bus, projects: Iterable[Sequence[messages.PointRef]]) -> None:
    """Ask `create` to start requested points, in few messages; those of a project share one where they fit.

    A project is read once for each message that names it.
    """
    size = messages.POINTS_PER_MESSAGE_MAX
    batch: list[messages.PointRef] = []
    for refs in projects:
        for start in range(0, len(refs), size):
            together = refs[start : start + size]
            if len(batch) + len(together) > size:
                send(bus, "create", messages.CreateBatch(points=batch))
                batch = []
            batch = [*batch, *together]
    if batch:
        send(bus, "create", messages.CreateBatch(points=batch))


def start_copies(bus: Bus, points: Sequence[messages.PointRef]) -> None:
    """Ask `copy` to start the requested copies of these points."""
    size = messages.POINTS_PER_MESSAGE_MAX
    for start in range(0, len(points), size):
        send(bus, "copy", messages.CopyBatch(points=list(points[start : start + size])))


def start_restores(bus: Bus, restores: Sequence[messages.RestoreRef]) -> None:
    """Ask `restore` to bring these restores one step nearer their end."""
    size = messages.RESTORES_PER_MESSAGE_MAX
    for start in range(0, len(restores), size):
        send(bus, "restore", messages.RestoreBatch(restores=list(restores[start : start + size])))


def send(bus: Bus, function: str, message: messages.Message) -> None:
    try:
        bus.publish(f"snapkeep-{function}", messages.encode(message))
    except Transient as fault:
        # What the message points at is committed; failing now would only repeat the work before it.
        log.warning("a hint to %s was not published: %s", function, fault)

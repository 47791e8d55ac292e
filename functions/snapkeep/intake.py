"""The way in of every message: decode it, hand it to its function, settle what no retry will mend.

A bad message is recorded as rejected with the reason and acknowledged; nothing else changes. A fault that may pass
raises, so that Pub/Sub delivers again and in the end puts the message among the dead letters.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from snapkeep import documents as d
from snapkeep import hints, messages
from snapkeep.messages import BadMessage, DeadLetter, Tick
from snapkeep.ports import Conflict, Ports
from snapkeep.store import REJECTED_KEPT, SYSTEM, Event, Fleet, Record, created

log: Final = logging.getLogger(__name__)


def receive(function: str, envelope: Any, ports: Ports, handle: Callable[[messages.Message, Ports], None]) -> None:
    """Carry out one delivery.

    Raises Transient, Conflict or whatever else `handle` raises but BadMessage, to be delivered again.
    """
    try:
        message = messages.decode(envelope)
        handle(message, ports)
    except BadMessage as bad:
        _reject(function, envelope, bad.reason, ports)
        return
    if isinstance(message, Tick):
        Fleet(ports.documents).ticked(function, ports.clock.now())


def receive_dead_letter(envelope: Any, ports: Ports) -> None:
    """Keep a record of a message that its function never managed to handle, for `fleet health` and for a person."""
    letter: DeadLetter = messages.decode_dead_letter(envelope)
    function = letter.source.rsplit("/", 1)[-1]
    reason = f"{function} did not handle it in all its deliveries"
    _record(
        ports,
        "dead_letter",
        function,
        f"dead-{letter.message_id or messages.fingerprint(envelope)}",
        reason,
        letter.excerpt,
    )


def _reject(function: str, envelope: Any, reason: str, ports: Ports) -> None:
    log.warning("%s: rejected: %s", function, reason)
    _record(ports, "rejected", function, messages.fingerprint(envelope), reason, messages.excerpt(envelope))


def _record(ports: Ports, kind: Any, function: str, id: str, reason: str, excerpt: str) -> None:
    now = ports.clock.now()
    rejected = d.Rejected(
        updated_at=now,
        kind=kind,
        function=function,
        reason=reason,
        excerpt=excerpt,
        at=now,
        expire_at=now + REJECTED_KEPT,
    )
    action = "message.rejected" if kind == "rejected" else "message.died"
    record = Record(
        at=now,
        actor="snapkeep",
        action=action,
        subject=f"rejected/{id}",
        outcome="refused" if kind == "rejected" else "failed",
        detail={"function": function, "reason": reason},
        event=Event("message.rejected", id, {"function": function, "reason": reason}),
    )
    try:
        Fleet(ports.documents).commit(record, created(f"rejected/{id}", rejected))
    except Conflict:
        return  # recorded before: a redelivery, or the same bad message again
    if kind == "rejected":
        # Not for a dead letter: it may itself be such a nudge, and would bring forth the next.
        hints.nudge(ports.bus, [SYSTEM], "audit")

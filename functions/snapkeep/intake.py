"""The way in of every message: decode it, hand it to its function, settle what no retry will mend.

A bad message is recorded as rejected with the reason and acknowledged; nothing else changes. A fault that may pass
raises, so that Pub/Sub delivers again and in the end puts the message among the dead letters.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final, Literal

from snapkeep import documents as d
from snapkeep import hints, logged, messages
from snapkeep.messages import BadMessage, DeadLetter, Tick
from snapkeep.ports import Conflict, Ports
from snapkeep.store import REJECTED_KEPT, SYSTEM, Event, Fleet, Record, created

log: Final = logging.getLogger(__name__)

Outcome = Literal["handled", "rejected", "failed"]

UNREAD: Final = "unknown"
"""The type of a message that could not be read."""


def receive(function: str, envelope: Any, ports: Ports, handle: Callable[[messages.Message, Ports], None]) -> None:
    """Carry out one delivery.

    Raises Transient, Conflict or whatever else `handle` raises but BadMessage, to be delivered again.
    """
    type = UNREAD
    try:
        message = messages.decode(envelope)
        type = str(message.__struct_config__.tag)
        handle(message, ports)
        if isinstance(message, Tick):
            Fleet(ports.documents).ticked(function, ports.clock.now())
            log.info("%s: tick done", function, extra=logged.fields(logged.TickDone(function=function)))
        _tell(logging.INFO, function, type, "handled")
    except BadMessage as bad:
        _reject(function, envelope, bad.reason, ports)
        _tell(logging.WARNING, function, type, "rejected", bad.reason)
    except Exception as fault:  # whatever it is: it is counted here, and rises, so that Pub/Sub delivers again
        _tell(logging.ERROR, function, type, "failed", f"{fault.__class__.__name__}, to be delivered again")
        raise


def receive_dead_letter(envelope: Any, ports: Ports) -> None:
    """Keep a record of a message that its function never managed to handle, for `fleet health` and for a person."""
    letter: DeadLetter = messages.decode_dead_letter(envelope)
    try:
        _bury(letter, envelope, ports)
    except Exception as fault:  # likewise
        _tell(logging.ERROR, "dead_letters", "dead_letter", "failed", f"{fault.__class__.__name__}, to come again")
        raise
    _tell(logging.INFO, "dead_letters", "dead_letter", "handled")


def _bury(letter: DeadLetter, envelope: Any, ports: Ports) -> None:
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


def _tell(level: int, function: str, type: str, outcome: Outcome, why: str = "") -> None:
    """Log one delivery: the line by which deliveries are counted."""
    line = logged.Delivery(function=function, type=type, outcome=outcome)
    words = f"{outcome}: {why}" if why else outcome
    log.log(level, "%s: %s %s", function, type, words, extra=logged.fields(line))


def _reject(function: str, envelope: Any, reason: str, ports: Ports) -> None:
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

"""What is logged so that it can be counted: the kinds of line that metrics, alerts and dashboards rely on.

docs/contract.md has the same table. A line is logged where it is made, with `extra=fields(line)`: `wiring.JsonLines`
writes its fields beside severity and message, and infra/gcp/monitoring.tf filters by them. Each field has few values
but those that say so; nothing of a customer is among them but the tenant's id and the names of documents.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

ATTRIBUTE: Final = "snapkeep"
"""What a log record carries its line as."""

UNSET: Final = msgspec.UNSET


class Line(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """A line with fields; `kind` tells which ones it has."""


class Delivery(Line, frozen=True, kw_only=True, tag="delivery"):
    """One message was handed to a function. How long that took, Cloud Run measures."""

    function: str
    type: str  # of the message; `unknown` of one that could not be read
    outcome: Literal["handled", "rejected", "failed"]  # failed: it is delivered again


class TickDone(Line, frozen=True, kw_only=True, tag="tick"):
    """A function carried out its tick to the end."""

    function: str


class Published(Line, frozen=True, kw_only=True, tag="event"):
    """An event went out on `snapkeep-events`; at least once, as the event itself."""

    type: str
    tenant: str  # as many as there are tenants; `_system`: of none
    subject: str  # the document below its tenant: any number


class Late(Line, frozen=True, kw_only=True, tag="late"):
    """A run found work of a kind that is due. What is brought on is due for as long as two ticks are apart."""

    work: str  # of `store.Due`
    late_s: int  # how long what has waited longest is due
    oldest: str  # the document: any number


class FleetStands(Line, frozen=True, kw_only=True, tag="fleet"):
    """How the fleet stands, once a tick of `health`: numbers of FleetHealth, and the age of its oldest newest point."""

    tenants: int
    instances: int
    breached: int
    unprotected: int
    running: int
    bytes: int
    copy_bytes: int
    copies_missing: int
    going_bytes: int
    incomplete: int
    rejected: int
    dead_letters: int
    restore_tests_failed: int
    restore_tests_overdue: int  # those that never had one are not late
    oldest_verified_s: int | msgspec.UnsetType = UNSET  # left out: nothing is protected yet


KINDS: Final[tuple[type[Line], ...]] = tuple(Line.__subclasses__())


def fields(line: Line) -> dict[str, Any]:
    """What `extra` of a logging call takes."""
    return {ATTRIBUTE: line}


def of(record: Any) -> dict[str, Any]:
    """The fields of a log record's line; none of a record that has no line."""
    line = getattr(record, ATTRIBUTE, None)
    return msgspec.to_builtins(line) if isinstance(line, Line) else {}

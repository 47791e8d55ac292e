"""What each event function understands and who carries it out: the one table between `main.py` and the slices.

The local cloud delivers through the same table, so that a demo runs what is deployed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from snapkeep import health, intake, reconcile
from snapkeep.audit import handler as audit
from snapkeep.copies import handler as copies
from snapkeep.creation import handler as creation
from snapkeep.discovery import handler as discovery
from snapkeep.ports import Ports
from snapkeep.retention import handler as retention

Entry = Callable[[Any, Ports], None]


def discover(envelope: Any, ports: Ports) -> None:
    intake.receive("discover", envelope, ports, discovery.discover)


def plan(envelope: Any, ports: Ports) -> None:
    intake.receive("plan", envelope, ports, creation.plan)


def create(envelope: Any, ports: Ports) -> None:
    intake.receive("create", envelope, ports, creation.create)


def reconcile_(envelope: Any, ports: Ports) -> None:
    intake.receive("reconcile", envelope, ports, reconcile.reconcile)


def audit_(envelope: Any, ports: Ports) -> None:
    intake.receive("audit", envelope, ports, audit.audit)


def health_(envelope: Any, ports: Ports) -> None:
    intake.receive("health", envelope, ports, health.health)


def retention_(envelope: Any, ports: Ports) -> None:
    intake.receive("retention", envelope, ports, retention.retention)


def expire(envelope: Any, ports: Ports) -> None:
    intake.receive("expire", envelope, ports, retention.expire)


def copy(envelope: Any, ports: Ports) -> None:
    intake.receive("copy", envelope, ports, copies.copy)


def entitlements(envelope: Any, ports: Ports) -> None:
    intake.receive("entitlements", envelope, ports, copies.entitlements)


def dead_letters(envelope: Any, ports: Ports) -> None:
    intake.receive_dead_letter(envelope, ports)


ENTRIES: Final[Mapping[str, Entry]] = {
    "discover": discover,
    "plan": plan,
    "create": create,
    "reconcile": reconcile_,
    "audit": audit_,
    "health": health_,
    "retention": retention_,
    "expire": expire,
    "copy": copy,
    "entitlements": entitlements,
    "dead_letters": dead_letters,
}
"""By the name that infra/functions.yaml gives them."""

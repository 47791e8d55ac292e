"""What each event function understands and who carries it out: the one table between `main.py` and the slices.

The local cloud delivers through the same table, so that a demo runs what is deployed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from snapkeep import health, intake, reconcile
from snapkeep.audit import handler as audit
from snapkeep.copies import handler as copies
from snapkeep.creation import handler as creation
from snapkeep.discovery import handler as discovery
from snapkeep.messages import Message
from snapkeep.ports import Ports
from snapkeep.restore import handler as restore
from snapkeep.restore import testing_handler
from snapkeep.retention import handler as retention

Entry = Callable[[Any, Ports], None]

HANDLERS: Final[Mapping[str, Callable[[Message, Ports], None]]] = {
    "discover": discovery.discover,
    "plan": creation.plan,
    "create": creation.create,
    "reconcile": reconcile.reconcile,
    "audit": audit.audit,
    "health": health.health,
    "retention": retention.retention,
    "expire": retention.expire,
    "copy": copies.copy,
    "entitlements": copies.entitlements,
    "restore": restore.restore,
    "restore_test": testing_handler.restore_test,
}
"""Who carries out a decoded message, by the name that infra/functions.yaml gives the function."""

ENTRIES: Final[Mapping[str, Entry]] = {
    **{name: partial(intake.receive, name, handle=handle) for name, handle in HANDLERS.items()},
    "dead_letters": intake.receive_dead_letter,  # reads what the broker gave up on, which need not be a message of ours
}
"""Who takes one delivery as it comes, by the same names."""

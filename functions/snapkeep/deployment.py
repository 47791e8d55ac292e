"""infra/functions.yaml as values: what is deployed, and what each function may do.

Read by the command line, the local cloud and the tests; a deployed function carries neither the file nor a need of it.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

import msgspec

FUNCTIONS_YAML: Final = Path(__file__).parents[2] / "infra" / "functions.yaml"

Access = Literal["get", "create", "replace"]


class Reach(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What of Compute Engine a function may use."""

    changes: tuple[str, ...]  # of `cloud.Change`
    reads: tuple[str, ...]  # kinds of `cloud.Resource`


class Deployed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One function."""

    entry_point: str  # in functions/main.py
    topic: str | None  # None: it answers HTTP
    schedule: str | None  # cron in UTC, when its tick is published; None: never
    compute: Reach
    queries: tuple[str, ...]  # rows of `store.QUERIES`
    documents: tuple[Access, ...]  # what it does with documents by their path
    publishes: tuple[str, ...]  # topics
    memory_mb: int
    timeout_s: int
    max_instances: int


class Delivery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How every push subscription delivers."""

    ack_deadline_s: int
    retry_min_s: int
    retry_max_s: int
    max_delivery_attempts: int
    dead_letter_topic: str
    retention_days: int


class Deployment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of infra/functions.yaml."""

    functions: dict[str, Deployed]
    subscription: Delivery
    topics_out: tuple[str, ...]  # published to, and read by no function of ours


@lru_cache(maxsize=1)
def deployment() -> Deployment:
    """infra/functions.yaml. Raises msgspec.ValidationError where it is not as it should be, OSError without it."""
    import yaml

    return msgspec.convert(yaml.safe_load(FUNCTIONS_YAML.read_text(encoding="utf-8")), Deployment)

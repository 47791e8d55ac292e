"""A deployment that is as it should be, as facts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from snapkeep.cli.doctor import declared
from snapkeep.deployment import deployment
from snapkeep.doctor.checks import Verdict, examined
from snapkeep.doctor.facts import Facts, Function, Job, Known, Letters, NotHere, Offset, Subscription, Tick

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
PROJECT = "snapkeep-local"
WANTED = declared()
NONE = NotHere("there is none on a local cloud")


GOOGLES = (
    "apis", "agent", "grants", "database", "composites", "fields", "roles", "policy", "keys", "quotas", "projects",
)  # fmt: skip
"""Facts that a local cloud has none of."""


def subscription(name: str, **other: Any) -> Subscription:
    """As infra/functions.yaml has it."""
    delivery = deployment().subscription
    letters = name != delivery.dead_letter_topic
    fields: dict[str, Any] = {
        "topic": name,
        "endpoint": f"http://127.0.0.1:8080/_push/x/projects/{PROJECT}/topics/{name}?look=1",
        "account": None,
        "audience": None,
        "ack_deadline_s": delivery.ack_deadline_s,
        "retry_min_s": float(delivery.retry_min_s),
        "retry_max_s": float(delivery.retry_max_s),
        "dead_letter_topic": delivery.dead_letter_topic if letters else None,
        "attempts_max": delivery.max_delivery_attempts if letters else None,
        "retention": timedelta(days=delivery.retention_days),
        "expires": None,
    }
    return Subscription(**fields | other)


def job(function: str, **other: Any) -> Job:
    of = deployment().functions[function]
    fields: dict[str, Any] = {
        "cron": of.schedule,
        "timezone": "UTC",
        "state": "ENABLED",
        "topic": of.topic,
        "changed_at": NOW - timedelta(days=9),
        "failure": None,
    }
    return Job(**fields | other)


def local(**other: Any) -> Facts:
    """Of a local cloud."""
    facts: dict[str, Any] = {
        "local": True,
        "project": PROJECT,
        "now": NOW,
        "functions": Known(dict.fromkeys(deployment().functions, Function("ACTIVE", None, None, None, None))),
        "topics": Known(WANTED.topics),
        "subscriptions": Known({topic: subscription(topic) for topic in WANTED.woken.values()}),
        "waiting_letters": Known(0),
        "settled_letters": Known(Letters(0, None)),
        "jobs": Known({function: job(function) for function in WANTED.ticking}),
        "ticks": Known({function: Tick(NOW - timedelta(minutes=1), None) for function in WANTED.ticking}),
        "clocks": Known((Offset("the clock of function web", "the local cloud's", timedelta()),)),
    }
    facts |= dict.fromkeys(GOOGLES, NONE)
    return Facts(**facts | other)


def verdicts(facts: Facts) -> dict[str, Verdict]:
    return {verdict.check: verdict for verdict in examined(facts, WANTED)}


def found(facts: Facts) -> list[tuple[str, str, str, str]]:
    """Every finding: its check, where, what, and how it is mended."""
    return [(name, one.where, one.what, one.mend) for name, of in verdicts(facts).items() for one in of.findings]

"""Who votes to keep a point, and what becomes of one that nobody votes for."""

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.makers import point

from snapkeep.documents import (
    Expiry,
    Hold,
    Point,
    Retention,
)
from snapkeep.retention.rules import (
    EXPIRY_GRACE,
    Decision,
    Delete,
    Deleting,
    Expire,
    RetentionPlan,
    Situation,
    Undo,
    Wait,
    plan,
)

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)

NOTHING = Retention(keep_last=0, keep_daily=0, keep_weekly=0, keep_monthly=0, keep_yearly=0, keep_within_days=0)
LAST_ONE = Retention(keep_last=1, keep_daily=0, keep_weekly=0, keep_monthly=0)


def known(**changes: Any) -> Situation:
    """A selected instance of a policy that keeps nothing, so that only the rule in question votes."""
    fields: dict[str, Any] = {
        "policy": NOTHING,
        "timezone": "UTC",
        "lost_at": None,
        "in_breach": False,
        "override": None,
        "instance_holds": (),
        "tenant_holds": (),
    }
    return Situation(**fields | changes)


def taken(ago: timedelta, **changes: Any) -> Point:
    """A verified point, so long ago."""
    fields: dict[str, Any] = {"id": f"ago-{ago}", "state": "verified", "requested_at": NOW - ago}
    return point(**fields | changes)


def expiring(ago: timedelta, *, expiry: dict[str, Any] | None = None, **changes: Any) -> Point:
    """A point in its grace, which began an hour ago."""
    fields: dict[str, Any] = {
        "was": "verified",
        "reason": "no rule keeps it",
        "decided_at": NOW - HOUR,
        "delete_after": NOW - HOUR + EXPIRY_GRACE,
    }
    return taken(ago, state="expiring", expiry=Expiry(**fields | (expiry or {})), **changes)


def hold(reason: str = "case 4711", until: datetime | None = None) -> Hold:
    return Hold(id="h1", reason=reason, by="someone@vendor.example", at=NOW - DAY, until=until)


NEWEST = taken(HOUR, id="newest")
"""Keeps the rule for the newest away from the point that a test looks at."""


def of(decided: RetentionPlan) -> dict[str, Decision]:
    return {one.point.id: one.decision for one in decided.decisions}


def decision(looked_at: Point, given: Situation | None = None, *others: Point) -> Decision:
    """What becomes of a point beside a newer one that is verified."""
    return of(plan([looked_at, NEWEST, *others], given or known(), NOW))[looked_at.id]


# --- silence -------------------------------------------------------------------------------------------------------


def test_a_point_that_nobody_wants_begins_to_expire() -> None:
    assert decision(taken(30 * DAY)) == Expire("no rule keeps it")


def test_it_waits_for_the_end_of_its_grace() -> None:
    assert decision(expiring(30 * DAY)) == Wait(NOW + 23 * HOUR, "no rule keeps it")


def test_it_goes_when_its_grace_is_over_to_the_minute() -> None:
    waiting = expiring(30 * DAY)
    end = NOW + 23 * HOUR
    assert isinstance(of(plan([waiting, NEWEST], known(), end - timedelta(minutes=1)))[waiting.id], Wait)
    assert of(plan([waiting, NEWEST], known(), end))[waiting.id] == Delete("no rule keeps it")


def test_what_is_wanted_again_is_called_back_with_all_reasons() -> None:
    wanted = expiring(30 * DAY, holds=[hold()])
    assert decision(wanted) == Undo(("held: case 4711",))


def test_a_hold_calls_back_a_point_whose_grace_is_over_but_whose_deletion_has_not_begun() -> None:
    late = expiring(30 * DAY, expiry={"delete_after": NOW - DAY}, holds=[hold()])
    assert decision(late) == Undo(("held: case 4711",))


def test_nothing_calls_back_a_point_whose_deletion_has_begun() -> None:
    begun = expiring(30 * DAY, expiry={"begun_at": NOW - HOUR}, holds=[hold()], lock_until=NOW + DAY)
    assert decision(begun) == Deleting(NOW - HOUR)

"""Who votes to keep a point, and what becomes of one that nobody votes for."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
from msgspec import structs
from tests.makers import copy_of, instance, point, point_disk, tenant

from snapkeep.documents import (
    CopyRetention,
    CopyState,
    Entitlements,
    Expiry,
    Hold,
    InterRegionBackup,
    Newest,
    Override,
    Point,
    Retention,
    ScheduleSwitch,
    SnapshotRef,
)
from snapkeep.retention import rules
from snapkeep.retention.rules import (
    EXPIRY_GRACE,
    FAILED_KEPT,
    LOOK_AGAIN,
    Decision,
    Delete,
    Deleting,
    Expire,
    Keep,
    RetentionPlan,
    Situation,
    Unbought,
    Undo,
    UnsafePlan,
    Wait,
    forecast,
    gives_up,
    plan,
    situation,
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


def test_a_policy_without_a_place_for_a_point_beside_the_newest_lets_it_go() -> None:
    assert decision(taken(30 * DAY), known(policy=LAST_ONE)) == Expire("no rule keeps it")


# --- the rules that are not the policy's ---------------------------------------------------------------------------


def test_a_point_is_kept_until_its_lock_ends_to_the_minute() -> None:
    until = NOW + 7 * DAY
    one = taken(30 * DAY, lock_until=until)
    assert decision(one) == Keep(("locked until 2026-11-30 12:00 UTC",))
    assert isinstance(of(plan([one, NEWEST], known(), until - timedelta(minutes=1)))[one.id], Keep)
    assert isinstance(of(plan([one, NEWEST], known(), until))[one.id], Expire)


def test_no_later_policy_shortens_a_lock() -> None:
    one = taken(DAY, lock_until=NOW + 6 * DAY)
    for lock_days in (0, 1, 3660):
        shorter = known(policy=Retention(keep_last=1, keep_daily=0, keep_weekly=0, keep_monthly=0, lock_days=lock_days))
        assert decision(one, shorter) == Keep(("locked until 2026-11-29 12:00 UTC",))


@pytest.mark.parametrize("until", [None, NOW + HOUR])
def test_a_hold_keeps_a_point_an_instances_points_or_a_tenants(until: datetime | None) -> None:
    why = hold(until=until)
    assert decision(taken(DAY, holds=[why])) == Keep(("held: case 4711",))
    assert decision(taken(DAY), known(instance_holds=[why])) == Keep(("instance held: case 4711",))
    assert decision(taken(DAY), known(tenant_holds=[why])) == Keep(("tenant held: case 4711",))


def test_a_hold_that_has_ended_keeps_nothing() -> None:
    over = hold(until=NOW)
    everywhere = known(instance_holds=[over], tenant_holds=[over])
    assert decision(taken(DAY, holds=[over]), everywhere) == Expire("no rule keeps it")


def test_every_hold_is_a_reason() -> None:
    held = taken(DAY, holds=[hold("case 1"), hold("case 2", until=NOW), hold("case 3")])
    given = known(instance_holds=[hold("audit")], tenant_holds=[hold("court order"), hold("merger")])
    reasons = (
        "held: case 1",
        "held: case 3",
        "instance held: audit",
        "tenant held: court order",
        "tenant held: merger",
    )
    assert decision(held, given) == Keep(reasons)


@pytest.mark.parametrize("state", ["requested", "creating"])
def test_a_point_that_is_being_made_is_kept(state: str) -> None:
    assert decision(taken(HOUR, id="being made", state=state)) == Keep(("running",))


WAITED_FOR = "source of an unverified copy in us-east1, until 2026-12-05 12:00 UTC"


@pytest.mark.parametrize(
    ("state", "kept"),
    [
        ("requested", True),
        ("copying", True),
        ("failed", True),
        ("verified", False),
        ("expiring", False),
        ("deleted", False),
    ],
)
def test_a_point_is_kept_until_its_copy_is_there(state: CopyState, kept: bool) -> None:
    source = taken(30 * DAY, copies={"us-east1": copy_of(state, requested_at=NOW - 2 * DAY)})
    here = known(copied_to="us-east1")
    assert decision(source, here) == (Keep((WAITED_FOR,)) if kept else Expire("no rule keeps it"))


def test_a_point_waits_for_a_copy_for_so_many_days_and_not_a_minute_longer() -> None:
    source = taken(30 * DAY, copies={"us-east1": copy_of("failed", requested_at=NOW - 2 * DAY)})
    end, here = NOW + 12 * DAY, known(copied_to="us-east1")
    assert isinstance(of(plan([source, NEWEST], here, end - timedelta(minutes=1)))[source.id], Keep)
    assert of(plan([source, NEWEST], here, end))[source.id] == Expire("no rule keeps it")


def test_further_tries_of_a_copy_keep_its_point_no_longer() -> None:
    tried = copy_of("requested", requested_at=NOW, wanted_since=NOW - 2 * DAY)
    source = taken(30 * DAY, copies={"us-east1": tried})
    assert decision(source, known(copied_to="us-east1")) == Keep((WAITED_FOR,))


@pytest.mark.parametrize("bought", [None, "us-west1"])
def test_a_point_waits_for_no_copy_that_is_not_bought(bought: str | None) -> None:
    source = taken(DAY, copies={"us-east1": copy_of("copying", requested_at=NOW)})
    assert decision(source, known(copied_to=bought)) == Expire("no rule keeps it")


def test_a_failed_point_is_kept_a_week_from_its_request() -> None:
    one = taken(DAY, state="failed", lock_until=NOW - HOUR)
    assert decision(one) == Keep(("failed, kept until 2026-11-29 12:00 UTC",))
    assert decision(taken(FAILED_KEPT, state="failed")) == Expire("failed, and its 7 days are over")


def test_a_failed_point_is_kept_to_its_lock_and_held() -> None:
    one = taken(30 * DAY, state="failed", lock_until=NOW + DAY, holds=[hold()])
    assert decision(one) == Keep(("locked until 2026-11-24 12:00 UTC", "held: case 4711"))


def test_a_failed_point_in_its_grace_is_still_a_failed_point() -> None:
    failed = {"was": "failed"}
    assert decision(expiring(30 * DAY, expiry=failed)) == Wait(NOW + 23 * HOUR, "failed, and its 7 days are over")
    assert decision(expiring(DAY, expiry=failed)) == Undo(("failed, kept until 2026-11-29 12:00 UTC",))


def test_a_failed_point_fills_no_bucket_and_is_not_the_newest() -> None:
    failure = taken(timedelta(0), state="failed")
    was_failure = expiring(timedelta(minutes=1), expiry={"was": "failed"}, id="was a failure")
    decided = of(plan([failure, was_failure, NEWEST], known(policy=LAST_ONE), NOW))
    assert decided[NEWEST.id] == Keep(("last 1/1", "newest verified"))


# --- complete, usable ----------------------------------------------------------------------------------------------


def test_a_point_with_a_missing_snapshot_is_kept_and_fills_no_bucket() -> None:
    broken = taken(timedelta(0), gone=["sk-data-1"])
    decided = of(plan([broken, NEWEST], known(policy=LAST_ONE), NOW))
    assert decided == {
        broken.id: Keep(("incomplete: sk-data-1 is gone",)),
        NEWEST.id: Keep(("last 1/1", "newest verified")),
    }
    assert decision(taken(DAY, gone=["sk-a", "sk-b"])) == Keep(("incomplete: sk-a, sk-b are gone",))


def test_a_point_whose_snapshot_vanishes_in_its_grace_is_called_back_for_a_person_to_judge() -> None:
    assert decision(expiring(DAY, gone=["sk-a"])) == Undo(("incomplete: sk-a is gone",))


def test_an_unusable_point_fills_no_bucket_and_goes() -> None:
    decided = of(plan([taken(timedelta(0), usable=False, id="bad"), NEWEST], known(policy=LAST_ONE), NOW))
    assert decided == {
        "bad": Expire("not usable, and no other rule keeps it"),
        NEWEST.id: Keep(("last 1/1", "newest verified")),
    }


def test_a_point_in_its_grace_fills_a_bucket_since_it_can_be_called_back() -> None:
    waiting = expiring(timedelta(0))
    decided = of(plan([waiting, NEWEST], known(policy=LAST_ONE), NOW))
    assert decided == {waiting.id: Undo(("last 1/1", "newest verified")), NEWEST.id: Expire("no rule keeps it")}


def test_a_point_whose_deletion_has_begun_fills_no_bucket() -> None:
    begun = expiring(timedelta(0), expiry={"begun_at": NOW})
    decided = of(plan([begun, NEWEST], known(policy=LAST_ONE), NOW))
    assert decided == {begun.id: Deleting(NOW), NEWEST.id: Keep(("last 1/1", "newest verified"))}


# --- the newest verified -------------------------------------------------------------------------------------------


def test_the_only_verified_point_is_kept_whatever_its_age_and_the_policy() -> None:
    assert of(plan([taken(4000 * DAY, id="only")], known(), NOW)) == {"only": Keep(("newest verified",))}


def test_thirty_days_of_failures_do_not_let_the_last_good_point_go() -> None:
    failures = [taken(n * DAY, state="failed") for n in range(30)]
    good = taken(30 * DAY, id="good")
    assert of(plan([*failures, good], known(), NOW))["good"] == Keep(("newest verified",))


def test_the_newest_that_can_be_restored_is_kept_rather_than_a_newer_one_that_cannot() -> None:
    points = [taken(HOUR, id="unusable", usable=False), taken(DAY, id="good"), taken(2 * DAY, id="older")]
    assert of(plan(points, known(), NOW)) == {
        "unusable": Expire("not usable, and no other rule keeps it"),
        "good": Keep(("newest verified",)),
        "older": Expire("no rule keeps it"),
    }


def test_where_none_can_be_restored_the_newest_verified_is_kept() -> None:
    points = [taken(HOUR, id="newer", usable=False), taken(DAY, id="older", usable=False)]
    assert of(plan(points, known(), NOW)) == {
        "newer": Keep(("newest verified",)),
        "older": Expire("not usable, and no other rule keeps it"),
    }


def test_newest_is_whose_earliest_snapshot_is_newest_not_who_was_asked_for_last() -> None:
    def of_moments(id: str, requested: timedelta, *ago: timedelta) -> Point:
        snapshots = [SnapshotRef(project="p", name=id, location="l", created_at=NOW - each) for each in ago]
        return taken(requested, id=id, disks=[point_disk(snapshot=snapshot) for snapshot in snapshots])

    waited = of_moments("waited", 9 * HOUR, 2 * HOUR, timedelta(minutes=90))
    prompt = of_moments("prompt", 4 * HOUR, 4 * HOUR, timedelta(0))
    assert [one.point.id for one in plan([prompt, waited], known(), NOW).decisions] == ["waited", "prompt"]
    assert of(plan([prompt, waited], known(), NOW))["waited"] == Keep(("newest verified",))


def without(name: str) -> tuple[rules.Rule, ...]:
    """The rules but for one. No points lead all of them to an unsafe plan: only with a mistake in them is one made."""
    return tuple(rule for rule in rules.RULES if rule.name != name)


@pytest.mark.parametrize("newest", [taken(HOUR), expiring(HOUR), expiring(HOUR, expiry={"delete_after": NOW})])
def test_a_plan_that_would_let_the_newest_verified_point_go_is_refused(
    newest: Point, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "RULES", without("newest verified"))  # see `without`
    with pytest.raises(UnsafePlan, match=f"{newest.id}: is the newest verified point of acme-pam-1 and would go"):
        plan([newest, taken(DAY)], known(), NOW)


def test_it_is_refused_for_the_last_one_that_was_verified_though_it_cannot_be_restored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rules, "RULES", without("newest verified"))  # see `without`
    with pytest.raises(UnsafePlan, match="ago-1:00:00: is the newest"):
        plan([taken(HOUR, usable=False), taken(DAY, usable=False)], known(), NOW)


def test_a_newest_verified_point_that_something_else_keeps_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "RULES", without("newest verified"))  # see `without`
    assert of(plan([NEWEST], known(policy=LAST_ONE), NOW)) == {NEWEST.id: Keep(("last 1/1",))}


# --- an instance in breach -----------------------------------------------------------------------------------------

OVERRIDE = "0badcafe"


def test_nothing_of_an_instance_in_breach_goes_also_not_what_is_in_its_grace() -> None:
    points = [
        taken(2 * DAY, id="newest"),
        taken(3 * DAY, id="older", usable=False),
        taken(30 * DAY, id="failed", state="failed"),
        expiring(4 * DAY, id="grace"),
        expiring(5 * DAY, id="late", expiry={"delete_after": NOW}),
    ]
    assert of(plan(points, known(in_breach=True), NOW)) == {
        "newest": Keep(("newest verified", "in breach of its RPO")),
        "older": Keep(("in breach of its RPO",)),
        "failed": Keep(("in breach of its RPO",)),
        "grace": Undo(("in breach of its RPO",)),
        "late": Undo(("in breach of its RPO",)),
    }


def test_an_override_lets_points_go_in_a_breach_and_the_reason_names_it() -> None:
    reason = f"no rule keeps it (in breach of its RPO, overridden: {OVERRIDE})"
    given = known(in_breach=True, override=OVERRIDE)
    assert decision(taken(DAY), given) == Expire(reason)
    assert decision(expiring(DAY), given) == Wait(NOW + 23 * HOUR, reason)


def test_an_override_overrides_the_breach_alone() -> None:
    points = [taken(DAY, lock_until=NOW + DAY), taken(2 * DAY, holds=[hold()]), NEWEST]
    decided = plan(points, known(in_breach=True, override=OVERRIDE), NOW).decisions
    assert all(isinstance(one.decision, Keep) for one in decided)


def test_what_an_override_let_go_is_not_called_back_by_the_breach_once_it_is_used_up() -> None:
    let_go, other = expiring(DAY, expiry={"override": OVERRIDE}), taken(2 * DAY)
    reason = f"no rule keeps it (in breach of its RPO, overridden: {OVERRIDE})"
    decided = of(plan([let_go, other, NEWEST], known(in_breach=True), NOW))
    assert decided[let_go.id] == Wait(NOW + 23 * HOUR, reason)
    assert decided[other.id] == Keep(("in breach of its RPO",))
    assert of(plan([let_go, NEWEST], known(in_breach=True), NOW + DAY))[let_go.id] == Delete(reason)


def test_what_an_override_let_go_is_still_called_back_by_a_hold() -> None:
    assert decision(expiring(DAY, expiry={"override": OVERRIDE}, holds=[hold()]), known(in_breach=True)) == Undo(
        ("held: case 4711",)
    )


# --- a lost instance -----------------------------------------------------------------------------------------------


def lost(days_ago: int, policy: Retention = NOTHING, **changes: Any) -> Situation:
    return known(lost_at=NOW - days_ago * DAY, policy=policy, **changes)


def test_points_of_a_lost_instance_follow_the_policy_and_the_newest_is_one_of_them() -> None:
    points = [taken(DAY, id="newest"), taken(2 * DAY, id="older")]
    policy = Retention(keep_last=1, keep_daily=0, keep_weekly=0, keep_monthly=0)
    assert of(plan(points, lost(1, policy), NOW)) == {
        "newest": Keep(("last 1/1",)),
        "older": Expire("no rule keeps it"),
    }
    assert of(plan(points, lost(1), NOW)) == {
        "newest": Expire("no rule keeps it"),
        "older": Expire("no rule keeps it"),
    }


def test_a_breach_keeps_nothing_of_a_lost_instance() -> None:
    assert of(plan([taken(DAY, id="one")], lost(1, in_breach=True), NOW)) == {"one": Expire("no rule keeps it")}


def test_all_of_a_lost_instance_goes_when_its_time_is_over() -> None:
    policy = Retention(keep_within_days=3660, keep_yearly=100)
    points = [taken(91 * DAY, id="verified"), taken(92 * DAY, id="incomplete", gone=["sk-a"])]
    kept, gone = plan(points, lost(89, policy), NOW), plan(points, lost(90, policy), NOW)
    assert all(isinstance(one.decision, Keep) for one in kept.decisions)
    reason = "its instance was lost 2026-08-25 12:00 UTC: kept for 90 days"
    assert of(gone) == {"verified": Expire(reason), "incomplete": Expire(reason)}


def test_a_failed_point_goes_with_its_lost_instance() -> None:
    at_once = Retention(keep_after_gone_days=0)
    assert isinstance(of(plan([taken(DAY, state="failed", id="f")], lost(0, at_once), NOW))["f"], Expire)


def test_locks_and_holds_keep_points_of_an_instance_whose_time_is_over() -> None:
    points = [
        taken(91 * DAY, id="locked", lock_until=NOW + DAY),
        taken(92 * DAY, id="held", holds=[hold()]),
        taken(93 * DAY, id="copied", copies={"us-east1": copy_of("copying", requested_at=NOW - 2 * DAY)}),
    ]
    assert of(plan(points, lost(100, copied_to="us-east1"), NOW)) == {
        "locked": Keep(("locked until 2026-11-24 12:00 UTC",)),
        "held": Keep(("held: case 4711",)),
        "copied": Keep((WAITED_FOR,)),
    }
    held = plan(points, lost(100, tenant_holds=[hold()]), NOW)
    assert all(isinstance(one.decision, Keep) for one in held.decisions)


# --- copies --------------------------------------------------------------------------------------------------------


def of_copies(**changes: Any) -> Situation:
    return known(region="us-east1", **changes)


def test_copies_are_kept_by_the_policy_of_the_add_on_and_the_newest_in_any_case() -> None:
    week = [taken(n * DAY, id=f"day {n}") for n in range(7)]
    policy = Retention(keep_last=0, keep_daily=2, keep_weekly=0, keep_monthly=0)
    kept = of(plan(week, of_copies(policy=policy), NOW))
    assert kept["day 0"] == Keep(("daily 1/2", "newest verified"))
    assert [one for one, what in kept.items() if isinstance(what, Keep)] == ["day 0", "day 1"]


def test_a_copy_that_is_not_bought_is_kept_for_thirty_days_from_when_that_ended() -> None:
    one = taken(DAY, id="one")
    day = NOW - 10 * DAY
    kept = of(plan([one], of_copies(unbought=Unbought(day)), NOW))
    assert kept == {"one": Keep(("no longer bought: kept until 2026-12-13 12:00 UTC",))}
    over = of(plan([one], of_copies(unbought=Unbought(day)), day + 30 * DAY))
    assert over == {"one": Expire("not bought in us-east1 since 2026-11-13 12:00 UTC: kept for 30 days")}


def test_a_copy_of_which_nobody_has_noted_that_it_is_not_bought_stays() -> None:
    kept = of(plan([taken(400 * DAY, id="one")], of_copies(unbought=Unbought(None)), NOW))
    assert kept == {"one": Keep(("no longer bought, and not noted yet",))}


@pytest.mark.parametrize(
    ("of_point", "kept"),
    [
        ({"lock_until": NOW + DAY}, True),
        ({"holds": [hold()]}, True),
        ({"state": "creating"}, True),
        ({"gone": ["sk-1"]}, False),
        ({"state": "failed"}, False),
        ({}, False),
    ],
    ids=str,
)
def test_of_what_is_not_bought_only_lock_hold_and_its_own_making_keep_anything(
    of_point: dict[str, Any], kept: bool
) -> None:
    policy = Retention(keep_last=1000, keep_within_days=1000)
    given = of_copies(policy=policy, in_breach=True, unbought=Unbought(NOW - 30 * DAY))
    decided = of(plan([taken(DAY, **{"id": "one"} | of_point)], given, NOW))["one"]
    assert isinstance(decided, Keep if kept else Expire)


def test_copies_that_are_not_bought_any_more_are_given_up_and_those_that_were_not_before_are_not() -> None:
    bought, ended = of_copies(policy=LAST_ONE), of_copies(unbought=Unbought(None))
    week = [taken(n * DAY, id=f"day {n}") for n in range(3)]
    assert [one.id for one in gives_up(week, bought, ended, NOW)] == ["day 0"]
    assert gives_up(week, ended, ended, NOW) == []
    assert gives_up(week, ended, bought, NOW) == []


def test_what_is_known_of_copies_follows_from_what_is_bought() -> None:
    add_on = InterRegionBackup(region="us-east1", valid_until="2026-11-23", retention=CopyRetention(keep_daily=5))
    owner = tenant(
        entitlements=Entitlements(inter_region_backup=add_on),
        retention=Retention(keep_after_gone_days=30),
        copies_ended={"us-west1": NOW - DAY},
        timezone="UTC",
    )
    here = situation(owner, instance(), NOW, region="us-east1")
    assert (here.unbought, here.policy.keep_daily, here.policy.keep_weekly) == (None, 5, 4)
    assert (here.policy.keep_after_gone_days, here.copied_to) == (30, None)
    assert situation(owner, instance(), NOW).copied_to == "us-east1"
    assert situation(owner, instance(), NOW, region="us-west1").unbought == Unbought(NOW - DAY)
    assert situation(owner, instance(), NOW, region="us-central1").unbought == Unbought(None)
    over = NOW + 12 * HOUR
    assert situation(owner, instance(), over, region="us-east1").unbought == Unbought(None)
    noted = structs.replace(owner, copies_ended={"us-east1": over - HOUR})  # as of a day that is not the last any more
    assert situation(noted, instance(), over, region="us-east1").unbought == Unbought(over)
    assert situation(owner, instance(), over).copied_to is None


# --- what is known -------------------------------------------------------------------------------------------------


def seen_with_newest(ago: timedelta, **changes: Any) -> Any:
    newest = Newest(point="p", at=NOW - ago, took_s=60)
    return instance(seen_at=NOW - 90 * DAY, newest_verified=newest, **changes)


def test_a_breach_is_computed_afresh() -> None:
    assert not situation(tenant(rpo_hours=26), seen_with_newest(25 * HOUR), NOW).in_breach
    assert situation(tenant(rpo_hours=26), seen_with_newest(26 * HOUR), NOW).in_breach
    assert situation(tenant(rpo_hours=26), seen_with_newest(HOUR, breach_at=NOW - DAY), NOW).in_breach


def test_where_nothing_is_promised_there_is_no_breach() -> None:
    late = seen_with_newest(90 * DAY)
    client_managed = tenant(deployment="private_saas")
    switched_on = ScheduleSwitch(on=True, by="client@acme.example", at=NOW)
    assert not situation(client_managed, late, NOW).in_breach
    assert situation(tenant(deployment="private_saas", schedule_switch=switched_on), late, NOW).in_breach
    assert not situation(tenant(), seen_with_newest(90 * DAY, lost_at=NOW, breach_at=NOW), NOW).in_breach


def test_a_proposed_policy_takes_the_tenants_place() -> None:
    proposed = Retention(keep_last=7)
    assert situation(tenant(retention=LAST_ONE), instance(), NOW).policy == LAST_ONE
    assert situation(tenant(retention=LAST_ONE), instance(), NOW, proposed).policy == proposed


def test_holds_zone_loss_and_override_come_from_the_documents() -> None:
    of_tenant, of_instance = hold("tenant's"), hold("instance's")
    override = Override(id=OVERRIDE, reason="quota", by="admin@vendor.example", at=NOW)
    found = situation(
        tenant(holds=[of_tenant], timezone="Asia/Kolkata"),
        instance(holds=[of_instance], override=override, lost_at=NOW),
        NOW,
    )
    assert (found.tenant_holds, found.instance_holds) == ([of_tenant], [of_instance])
    assert (found.timezone, found.lost_at, found.override) == ("Asia/Kolkata", NOW, OVERRIDE)


# --- plans ---------------------------------------------------------------------------------------------------------


def test_every_kept_point_has_all_its_reasons_the_policys_first() -> None:
    waited_for = {"us-east1": copy_of("requested", requested_at=NOW - 2 * DAY)}
    one = taken(DAY, lock_until=NOW + DAY, holds=[hold()], copies=waited_for, gone=[])
    policy = Retention(keep_last=1, keep_daily=2, keep_weekly=3, keep_monthly=4, keep_yearly=5, keep_within_days=30)
    holds: dict[str, Any] = {"instance_holds": [hold("audit")], "tenant_holds": [hold("court order")]}
    given = known(policy=policy, in_breach=True, copied_to="us-east1", **holds)
    assert of(plan([one], given, NOW))[one.id] == Keep(
        (
            "last 1/1",
            "daily 1/2",
            "weekly 1/3",
            "monthly 1/4",
            "yearly 1/5",
            "within 30 days",
            "newest verified",
            "locked until 2026-11-24 12:00 UTC",
            "held: case 4711",
            "instance held: audit",
            "tenant held: court order",
            WAITED_FOR,
            "in breach of its RPO",
        )
    )


def test_a_plan_counts_the_points_that_each_rule_keeps() -> None:
    points = [
        taken(HOUR, id="a", lock_until=NOW + DAY, holds=[hold("1"), hold("2")]),
        expiring(2 * HOUR, id="b", holds=[hold("3")]),
        taken(DAY, id="c"),
        expiring(2 * DAY, id="d"),
        expiring(3 * DAY, id="e", expiry={"begun_at": NOW}, lock_until=NOW + DAY),
    ]
    policy = Retention(keep_last=0, keep_daily=2, keep_weekly=0, keep_monthly=0)
    assert plan(points, known(policy=policy), NOW).kept_by == {"daily": 2, "newest verified": 1, "locked": 1, "held": 2}


def test_the_plan_is_of_the_newest_first_and_the_order_of_its_input_does_not_matter() -> None:
    same = [taken(DAY, id=id) for id in "abc"]
    points = [taken(2 * DAY, id="old"), *same, NEWEST]
    policy = Retention(keep_last=0, keep_daily=2, keep_weekly=0, keep_monthly=0)
    plans = {str(plan(order, known(policy=policy), NOW)) for order in permutations(points)}
    assert len(plans) == 1
    decided = plan(points, known(policy=policy), NOW).decisions
    assert [one.point.id for one in decided] == ["newest", "a", "b", "c", "old"]
    assert [one.point.id for one in decided if isinstance(one.decision, Keep)] == ["newest", "a"]


def test_no_points_make_an_empty_plan() -> None:
    assert plan([], known(), NOW) == RetentionPlan((), {}, NOW + LOOK_AGAIN)


@pytest.mark.parametrize("state", ["missed", "deleted"])
def test_a_point_that_holds_nothing_is_none_to_decide_about(state: str) -> None:
    with pytest.raises(ValueError, match=f"p1: is {state} and holds no snapshots"):
        plan([point(id="p1", state=state)], known(), NOW)


def test_an_expiring_point_must_say_what_it_was() -> None:
    with pytest.raises(ValueError, match="p1: is expiring without `expiry`"):
        plan([NEWEST, taken(DAY, id="p1", state="expiring")], known(), NOW)


def test_a_point_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="p1: given more than once"):
        plan([taken(DAY, id="p1"), NEWEST, taken(2 * DAY, id="p1")], known(), NOW)


@pytest.mark.parametrize("places", [(0,), (0, 1, 1), (0, 0)])
def test_a_plan_that_is_no_partition_of_its_input_is_refused(
    places: Sequence[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    decide = rules._decide
    # No points lead the real one to leave out or to repeat one of them.
    monkeypatch.setattr(rules, "_decide", lambda facts: [decide(facts)[place] for place in places])
    with pytest.raises(UnsafePlan, match=f"{len(places)} decisions for 2 points"):
        plan([NEWEST, taken(DAY)], known(), NOW)


# --- when to look again --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("points", "given", "expected"),
    [
        ([], known(), LOOK_AGAIN),
        ([taken(DAY, lock_until=NOW + HOUR)], known(), HOUR),
        ([taken(DAY, lock_until=NOW + 25 * HOUR)], known(), LOOK_AGAIN),
        ([taken(DAY, holds=[hold(until=NOW + 2 * HOUR)])], known(), 2 * HOUR),
        ([taken(DAY)], known(instance_holds=[hold(until=NOW + 3 * HOUR)]), 3 * HOUR),
        ([taken(DAY)], known(tenant_holds=[hold(until=NOW + 3 * HOUR)]), 3 * HOUR),
        ([taken(FAILED_KEPT - HOUR, state="failed")], known(), HOUR),
        ([expiring(DAY)], known(), 23 * HOUR),
        ([expiring(DAY, expiry={"delete_after": NOW})], known(), LOOK_AGAIN),
        ([taken(DAY)], known(), LOOK_AGAIN),
        # Only when the last reason of a point ends does its decision change.
        ([taken(DAY, lock_until=NOW + HOUR, holds=[hold(until=NOW + 4 * HOUR)])], known(), 4 * HOUR),
        ([taken(DAY, lock_until=NOW + HOUR, holds=[hold()])], known(), LOOK_AGAIN),
        ([taken(DAY, lock_until=NOW + HOUR)], known(policy=Retention()), LOOK_AGAIN),
        ([taken(DAY, lock_until=NOW + 2 * HOUR), taken(2 * DAY, lock_until=NOW + HOUR)], known(), HOUR),
        # What is called back is kept as long as it has reasons.
        ([expiring(DAY, holds=[hold(until=NOW + HOUR)])], known(), HOUR),
    ],
)
def test_the_next_change_is_the_first_that_time_alone_can_make(
    points: Sequence[Point], given: Situation, expected: timedelta
) -> None:
    assert plan([NEWEST, *points], given, NOW).next_change == NOW + expected


def test_the_end_of_a_lost_instances_time_is_a_change_for_what_its_policy_keeps() -> None:
    given = known(lost_at=NOW - 90 * DAY + 2 * HOUR, policy=LAST_ONE)
    assert plan([taken(100 * DAY)], given, NOW).next_change == NOW + 2 * HOUR
    assert plan([taken(100 * DAY, lock_until=NOW + 3 * HOUR)], given, NOW).next_change == NOW + 3 * HOUR
    assert plan([taken(100 * DAY, gone=["sk-a"])], given, NOW).next_change == NOW + 2 * HOUR


# --- a later moment ------------------------------------------------------------------------------------------------


def nightly(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 3, tzinfo=UTC)


def test_a_forecast_for_now_is_the_plan() -> None:
    points = [NEWEST, taken(DAY), expiring(2 * DAY), taken(timedelta(0), id="r", state="requested")]
    given = known(policy=LAST_ONE)
    assert forecast(points, given, NOW, NOW, scheduled=nightly) == plan(points, given, NOW)


def test_a_forecast_assumes_a_point_for_every_slot_until_then_and_does_not_show_it() -> None:
    points = [taken(HOUR, id="today"), taken(25 * HOUR, id="yesterday"), taken(49 * HOUR, id="before")]
    given = known(policy=Retention(keep_last=0, keep_daily=3, keep_weekly=0, keep_monthly=0))
    kept = [
        plan(points, given, NOW),
        *(forecast(points, given, NOW, NOW + n * DAY, scheduled=nightly) for n in (1, 2, 3)),
    ]
    assert [[one.point.id for one in each.decisions if isinstance(one.decision, Keep)] for each in kept] == [
        ["today", "yesterday", "before"],
        ["today", "yesterday"],
        ["today"],
        [],
    ]
    assert [each.kept_by.get("daily", 0) for each in kept] == [3, 2, 1, 0]
    assert [[one.point.id for one in each.decisions] for each in kept] == [["today", "yesterday", "before"]] * 4


def test_a_slot_counts_from_the_moment_after_now_up_to_the_moment_asked_for() -> None:
    only_last = known(policy=LAST_ONE)
    tonight = nightly(NOW.date() + DAY)
    before = forecast([NEWEST], only_last, NOW, tonight - timedelta(seconds=1), scheduled=nightly)
    after = forecast([NEWEST], only_last, NOW, tonight, scheduled=nightly)
    assert isinstance(before.decisions[0].decision, Keep)
    assert isinstance(after.decisions[0].decision, Expire)  # no time yet for its grace
    taken_already = forecast([NEWEST], only_last, tonight, tonight + HOUR, scheduled=nightly)
    assert isinstance(taken_already.decisions[0].decision, Keep)


def test_a_slot_of_yesterdays_local_day_may_be_still_to_come() -> None:
    def after_midnight(day: date) -> datetime:
        return nightly(day) + DAY  # a slot late in the evening, spread into the next day

    now = nightly(NOW.date()) - HOUR
    ahead = forecast([taken(2 * DAY)], known(policy=LAST_ONE), now, now + 2 * HOUR, scheduled=after_midnight)
    assert isinstance(ahead.decisions[0].decision, Expire)


def test_nothing_is_assumed_where_the_schedule_takes_nothing_or_the_instance_is_lost() -> None:
    in_a_year = NOW + 365 * DAY
    kept = forecast([NEWEST], known(policy=LAST_ONE), NOW, in_a_year, scheduled=None)
    assert kept.decisions[0].decision == Keep(("last 1/1", "newest verified"))
    forever = Retention(keep_last=1, keep_after_gone_days=3660)
    kept = forecast([NEWEST], lost(1, forever), NOW, in_a_year, scheduled=nightly)
    assert isinstance(kept.decisions[0].decision, Keep)


def test_days_that_have_no_slot_bring_no_point() -> None:
    kept = forecast([NEWEST], known(policy=LAST_ONE), NOW, NOW + 30 * DAY, scheduled=lambda day: None)
    assert isinstance(kept.decisions[0].decision, Keep)


def test_locks_holds_and_a_lost_instances_time_end_in_a_forecast() -> None:
    locked = taken(DAY, id="locked", lock_until=NOW + 5 * DAY)
    held = taken(2 * DAY, id="held", holds=[hold(until=NOW + 9 * DAY)])
    for days, kept in ((4, ["locked", "held"]), (6, ["held"]), (10, [])):
        ahead = forecast([locked, held, NEWEST], known(), NOW, NOW + days * DAY, scheduled=nightly)
        assert [one.point.id for one in ahead.decisions if isinstance(one.decision, Keep)] == kept
    gone = forecast([NEWEST], lost(1, Retention()), NOW, NOW + 100 * DAY, scheduled=nightly)
    assert gone.decisions[0].decision == Delete("its instance was lost 2026-11-22 12:00 UTC: kept for 90 days")


def test_what_nobody_wants_then_has_its_grace_behind_it() -> None:
    unwanted = [taken(DAY, id="verified"), expiring(2 * DAY, id="grace")]
    soon = of(forecast([*unwanted, NEWEST], known(), NOW, NOW + 2 * HOUR, scheduled=None))
    assert (soon["verified"], soon["grace"]) == (
        Expire("no rule keeps it"),
        Wait(NOW + 23 * HOUR, "no rule keeps it"),
    )
    tomorrow = of(forecast([*unwanted, NEWEST], known(), NOW, NOW + DAY, scheduled=None))
    assert (tomorrow["verified"], tomorrow["grace"]) == (Delete("no rule keeps it"), Delete("no rule keeps it"))


def test_what_runs_now_is_taken_for_verified_then_and_shown_as_it_is() -> None:
    running = taken(timedelta(0), id="running", state="creating")
    ahead = forecast([running, NEWEST], known(), NOW, NOW + DAY + timedelta(hours=1), scheduled=None)
    assert of(ahead) == {"running": Keep(("newest verified",)), "newest": Delete("no rule keeps it")}
    assert ahead.decisions[0].point is running


def test_points_to_come_end_a_breach_and_without_them_it_lasts() -> None:
    points = [taken(3 * DAY, id="newest"), taken(4 * DAY, id="older")]
    stays = forecast(points, known(in_breach=True), NOW, NOW + 2 * DAY, scheduled=None)
    assert of(stays)["older"] == Keep(("in breach of its RPO",))
    ends = forecast(points, known(in_breach=True), NOW, NOW + 2 * DAY, scheduled=nightly)
    assert of(ends)["older"] == Delete("no rule keeps it")


def test_a_forecast_of_nothing_is_empty() -> None:
    assert forecast([], known(), NOW, NOW + DAY, scheduled=nightly).decisions == ()


@pytest.mark.parametrize("at", [NOW - timedelta(seconds=1), NOW + rules.FORECAST_MAX + timedelta(seconds=1)])
def test_a_forecast_looks_ahead_and_not_further_than_its_bound(at: datetime) -> None:
    with pytest.raises(ValueError, match="expected a moment from now to 2036-11-30 12:00 UTC"):
        forecast([NEWEST], known(), NOW, at, scheduled=nightly)


# --- what a change of policy gives up ------------------------------------------------------------------------------


def daily(count: int, **changes: Any) -> Situation:
    return known(policy=Retention(keep_last=0, keep_daily=count, keep_weekly=0, keep_monthly=0), **changes)


WEEK = [taken(n * DAY, id=f"day {n}") for n in range(7)]


def ids(points: Sequence[Point]) -> list[str]:
    return [one.id for one in points]


def test_a_smaller_policy_gives_up_what_only_the_larger_one_keeps() -> None:
    assert ids(gives_up(WEEK, daily(7), daily(4), NOW)) == ["day 4", "day 5", "day 6"]
    assert gives_up(WEEK, daily(4), daily(7), NOW) == []
    assert gives_up(WEEK, daily(4), daily(4), NOW) == []


def test_it_never_gives_up_the_newest_verified() -> None:
    assert ids(gives_up(WEEK, daily(7), known(), NOW)) == [f"day {n}" for n in range(1, 7)]


@pytest.mark.parametrize(
    "delayed",
    [
        {"lock_until": NOW + 90 * DAY},
        {"holds": [hold()]},
        {"copies": {"us-east1": copy_of("copying", requested_at=NOW)}},
    ],
)
def test_locks_holds_and_copies_only_delay_and_lower_the_number_for_neither_side(delayed: dict[str, Any]) -> None:
    week = [taken(n * DAY, id=f"day {n}", **delayed) for n in range(7)]
    bought: dict[str, Any] = {"copied_to": "us-east1"}
    assert ids(gives_up(week, daily(7, **bought), daily(4, **bought), NOW)) == ["day 4", "day 5", "day 6"]
    assert gives_up(week, daily(2, **bought), daily(1), NOW) == [week[1]]


def test_a_breach_and_holds_of_the_whole_only_delay() -> None:
    busy: dict[str, Any] = {"in_breach": True, "instance_holds": [hold()], "tenant_holds": [hold()]}
    assert ids(gives_up(WEEK, daily(7, **busy), daily(4, **busy), NOW)) == ["day 4", "day 5", "day 6"]


def test_what_is_in_its_grace_counts_if_the_old_policy_would_have_called_it_back() -> None:
    week = [*WEEK[:3], expiring(3 * DAY, id="grace"), expiring(4 * DAY, id="begun", expiry={"begun_at": NOW})]
    assert ids(gives_up(week, daily(7), daily(2), NOW)) == ["day 2", "grace"]


def test_another_time_zone_can_give_up_points_too() -> None:
    # 23:30 and 00:30 UTC: two days in UTC, one in Sao Paulo.
    points = [taken(11.5 * HOUR, id="00:30"), taken(12.5 * HOUR, id="23:30"), taken(13 * HOUR, id="23:00")]
    moved = daily(2, timezone="America/Sao_Paulo")
    assert ids(gives_up(points, daily(2), moved, NOW)) == ["23:30"]


def test_a_shorter_time_for_lost_instances_gives_up_their_points() -> None:
    shorter = Retention(keep_after_gone_days=30)
    assert ids(gives_up(WEEK[:2], lost(60, Retention()), lost(60, shorter), NOW)) == ["day 0", "day 1"]


def test_a_loss_gives_up_even_the_newest() -> None:
    assert ids(gives_up(WEEK[:1], known(), lost(0), NOW)) == ["day 0"]

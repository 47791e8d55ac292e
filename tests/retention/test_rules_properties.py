"""What holds of every plan, over random histories, beside a naive statement of the rules.

The naive statement follows the words of docs/concepts.md, one sentence after the other, in sets and without an eye to
speed, and takes nothing from `retention.rules`. A history is made from its number alone, so that one that fails can be
looked at: `history(4711)`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msgspec import structs
from tests.makers import copy_of, point, point_disk

from snapkeep.copies import sets
from snapkeep.documents import Copy, CopyDisk, CopyState, Expiry, Hold, Point, Retention, SnapshotRef
from snapkeep.retention.rules import (
    Decision,
    Delete,
    Deleting,
    Expire,
    Keep,
    Situation,
    Unbought,
    Undo,
    Wait,
    forecast,
    gives_up,
    plan,
)

HISTORIES = 10_000
BLOCK = 500

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)

ZONES = (
    "UTC", "America/Sao_Paulo", "America/New_York", "America/St_Johns", "Europe/Berlin", "Asia/Kolkata",
    "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia", "Pacific/Kiritimati", "Pacific/Pago_Pago",
)  # fmt: skip
STEPS = (timedelta(minutes=20), 6 * HOUR, DAY, DAY, DAY, 5 * DAY, 40 * DAY, 300 * DAY)
COUNTED = ("last", "daily", "weekly", "monthly", "yearly")


@dataclass(frozen=True)
class History:
    points: tuple[Point, ...]  # in no order
    situation: Situation
    now: datetime


# --- random histories ----------------------------------------------------------------------------------------------


def history(number: int) -> History:
    chance = Random(number)  # noqa: S311 - seeded, for no secret
    now = datetime(2005, 1, 1, tzinfo=UTC) + timedelta(minutes=chance.randrange(20 * 365 * 24 * 60))
    zone = chance.choice(ZONES)
    points = [_point(n, at, now, chance) for n, at in enumerate(_moments(chance, now, ZoneInfo(zone)))]
    chance.shuffle(points)
    lost_at = now - chance.choice((1, 10, 89, 90, 200)) * DAY if chance.random() < 0.2 else None
    in_breach = lost_at is None and chance.random() < 0.2
    situation = Situation(
        policy=_policy(chance),
        timezone=zone,
        lost_at=lost_at,
        in_breach=in_breach,
        override="override" if chance.random() < 0.3 else None,
        instance_holds=_holds(chance, now, 0.05),
        tenant_holds=_holds(chance, now, 0.05),
        **_whereabouts(chance, now),
    )
    return History(tuple(points), situation, now)


def _whereabouts(chance: Random, now: datetime) -> dict[str, Any]:
    """Points at home, whose copies are bought or not; or copies, bought or not."""
    if chance.random() < 0.6:
        return {"copied_to": chance.choice(("us-east1", "us-east1", "us-west1", None))}
    since = chance.choice((None, now, now - 29 * DAY, now - 30 * DAY, now - 90 * DAY))
    return {"region": "us-east1", "unbought": Unbought(since) if chance.random() < 0.5 else None}


def _moments(chance: Random, now: datetime, zone: ZoneInfo) -> Iterator[datetime]:
    at = now - chance.choice((timedelta(0), HOUR, DAY, 3 * DAY))
    step = chance.choice(STEPS)
    for _ in range(chance.choice((0, 1, 2, 5, 12, 25, 40))):
        yield at
        match chance.randrange(10):
            case 0:  # another of the same moment
                pass
            case 1:  # about a midnight
                midnight = datetime.combine(at.astimezone(zone).date(), datetime.min.time(), zone).astimezone(UTC)
                at = min(at, midnight - timedelta(seconds=chance.randrange(-1, 2)))
            case 2:  # a gap
                at -= step * chance.randrange(1, 20)
            case 3 | 4 | 5:  # irregular
                at -= step * chance.random()
            case _:
                at -= step


def _point(number: int, at: datetime, now: datetime, chance: Random) -> Point:
    kind = chance.choices(("verified", "failed", "expiring", "running"), (70, 10, 15, 5))[0]
    state = chance.choice(("requested", "creating")) if kind == "running" else kind
    return point(
        id=f"{number:03d}",
        state=state,
        requested_at=at,
        lock_until=at + chance.choice((0, 1, 7, 30)) * DAY if chance.random() < 0.8 else None,
        holds=_holds(chance, now, 0.05),
        copies={"us-east1": _copy(now, chance)} if chance.random() < 0.2 else {},
        usable=chance.random() < 0.95,
        gone=["sk-gone"] if kind in ("verified", "expiring") and chance.random() < 0.05 else [],
        expiry=_expiry(now, chance) if kind == "expiring" else None,
    )


def _copy(now: datetime, chance: Random) -> Copy:
    state: CopyState = chance.choice(("requested", "copying", "verified", "failed", "expiring", "deleted"))
    return copy_of(
        state,
        requested_at=now - chance.choice((0, 1, 13, 14, 15)) * DAY,
        lock_until=now + chance.choice((-1, 1)) * DAY,
        holds=_holds(chance, now, 0.2),
        expiry=_expiry(now, chance) if state == "expiring" else None,
        gone=["sk-gone"] if state == "verified" and chance.random() < 0.1 else [],
        disks=[CopyDisk(id="1", name="acme-pam-1-boot", snapshot=SnapshotRef(project="v", name="sk", location="r"))],
    )


def _expiry(now: datetime, chance: Random) -> Expiry:
    decided_at = now - chance.choice((0, 1, 23, 24, 48)) * HOUR
    return Expiry(
        was=chance.choice(("verified", "verified", "failed")),
        reason="no rule keeps it",
        decided_at=decided_at,
        delete_after=decided_at + DAY,
        override="override" if chance.random() < 0.2 else None,
        begun_at=now if chance.random() < 0.2 else None,
    )


def _holds(chance: Random, now: datetime, likely: float) -> list[Hold]:
    if chance.random() > likely:
        return []
    until = chance.choice((None, now - DAY, now, now + HOUR, now + 30 * DAY))
    return [Hold(id="h", reason="case 4711", by="someone@vendor.example", at=now - DAY, until=until)]


def _policy(chance: Random) -> Retention:
    counts = {f"keep_{name}": chance.choice((0, 0, 1, 2, 3, 7, 14)) for name in COUNTED}
    return Retention(**counts, keep_within_days=chance.choice((0, 0, 1, 7, 30, 365)))


# --- the rules in plain words --------------------------------------------------------------------------------------


def settled_as(one: Point) -> str:
    return one.expiry.was if one.expiry else one.state


def is_going(one: Point) -> bool:
    return one.expiry is not None and one.expiry.begun_at is not None


def newest_first(points: list[Point]) -> list[Point]:
    by_id = sorted(points, key=lambda one: one.id)
    return sorted(by_id, key=lambda one: datetime(2100, 1, 1, tzinfo=UTC) - one.requested_at)


def whole(points: tuple[Point, ...]) -> list[Point]:
    """Only verified, usable points whose snapshots are all there fill the policy's buckets."""
    return newest_first(
        [p for p in points if settled_as(p) == "verified" and p.usable and not p.gone and not is_going(p)]
    )


def newest_verified(points: tuple[Point, ...]) -> list[Point]:
    verified = newest_first([p for p in points if settled_as(p) == "verified" and not is_going(p)])
    return (whole(points) or verified)[:1]


def by_count(points: list[Point], count: int, bucket: Callable[[Point], object]) -> set[str]:
    """The newest of each of the newest so many buckets. While there are fewer buckets than that, the oldest point."""
    buckets = [list(each) for _, each in groupby(points, key=bucket)]
    kept = [each[0] for each in buckets[:count]]
    if 0 < len(buckets) < count:
        kept.append(points[-1])
    return {one.id for one in kept}


def days_back(at: datetime, days: int, zone: ZoneInfo) -> set[datetime]:
    """That local time so many days before. Two moments where the clocks of that day leave a doubt: which of them it is,
    the table of cases says."""
    local = at.astimezone(zone).replace(tzinfo=None) - timedelta(days=days)
    return {local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)}


def by_policy(given: History, policy: Retention) -> list[set[str]]:
    """What the policy keeps. More than one answer where the clocks leave a doubt about `within`."""
    points, zone = whole(given.points), ZoneInfo(given.situation.timezone)

    def local(one: Point) -> date:
        return one.requested_at.astimezone(zone).date()

    kept = set[str]()
    kept |= by_count(points, policy.keep_last, lambda one: one.id)
    kept |= by_count(points, policy.keep_daily, local)
    kept |= by_count(points, policy.keep_weekly, lambda one: f"{local(one):%G-%V}")
    kept |= by_count(points, policy.keep_monthly, lambda one: f"{local(one):%Y-%m}")
    kept |= by_count(points, policy.keep_yearly, lambda one: f"{local(one):%Y}")
    if not policy.keep_within_days or not points:
        return [kept]
    since = days_back(points[0].requested_at, policy.keep_within_days, zone)
    return [kept | {one.id for one in points if one.requested_at > moment} for moment in since]


def wanted(given: History) -> list[set[str]]:
    """The points that anything wants, by the table in docs/concepts.md."""
    known, now = given.situation, given.now
    bought = known.unbought is None
    selected = known.lost_at is None and bought
    all_go = known.lost_at is not None and now >= known.lost_at + known.policy.keep_after_gone_days * DAY
    kept = set[str]()
    for one in given.points:
        holds = [*one.holds, *known.instance_holds, *known.tenant_holds]
        if (
            (one.lock_until and one.lock_until > now)
            or any(hold.until is None or hold.until > now for hold in holds)
            or is_waiting_for_its_copy(one, known.copied_to, now)
            or one.state in ("requested", "creating")
            or (settled_as(one) == "failed" and one.requested_at + 7 * DAY > now and not all_go and bought)
            or (one.gone and not all_go and bought)
            or (known.unbought and (known.unbought.since is None or now < known.unbought.since + 30 * DAY))
        ):
            kept.add(one.id)
        let_go = known.override or (one.expiry and one.expiry.override)
        if selected and known.in_breach and not let_go:
            kept.add(one.id)
    if selected:
        kept |= {one.id for one in newest_verified(given.points)}
    return [kept] if all_go or not bought else [kept | policys for policys in by_policy(given, known.policy)]


def is_waiting_for_its_copy(one: Point, bought: str | None, now: datetime) -> bool:
    copy = one.copies.get(bought or "")
    missing = copy is not None and copy.state in ("requested", "copying", "failed")
    return missing and copy is not None and copy.requested_at + 14 * DAY > now


def becomes(one: Point, is_wanted: bool, now: datetime) -> type[Decision]:
    if one.expiry is None:
        return Keep if is_wanted else Expire
    if one.expiry.begun_at:
        return Deleting
    if is_wanted:
        return Undo
    return Wait if now < one.expiry.delete_after else Delete


# --- what holds ----------------------------------------------------------------------------------------------------


def kinds(given: History, now: datetime | None = None) -> dict[str, type[Decision]]:
    return {one.point.id: type(one.decision) for one in plan(given.points, given.situation, now or given.now).decisions}


def stays(given: History) -> set[str]:
    return {id for id, kind in kinds(given).items() if kind in (Keep, Undo)}


def agrees_with_the_naive_statement(given: History, chance: Random) -> None:
    by_hand = [{one.id: becomes(one, one.id in kept, given.now) for one in given.points} for kept in wanted(given)]
    assert kinds(given) in by_hand


def is_a_partition(given: History, chance: Random) -> None:
    decided = [one.point for one in plan(given.points, given.situation, given.now).decisions]
    assert sorted(map(id, decided)) == sorted(map(id, given.points))


def keeps_the_newest_verified_while_the_instance_is_selected(given: History, chance: Random) -> None:
    """And of copies the newest, while they are bought."""
    if given.situation.lost_at is None and given.situation.unbought is None:
        assert {one.id for one in newest_verified(given.points)} <= stays(given)


def does_not_depend_on_the_order_of_its_input(given: History, chance: Random) -> None:
    points = chance.sample(given.points, len(given.points))
    assert plan(points, given.situation, given.now) == plan(given.points, given.situation, given.now)


def a_second_run_deletes_nothing_more(given: History, chance: Random) -> None:
    """Whether the first one's deletions are all carried out, or some, or it only marked them and used its override."""
    stay = stays(given)
    back = [structs.replace(one, state=settled_as(one), expiry=None) for one in given.points if one.id in stay]
    go = [one for one in given.points if one.id not in stay]
    some = [one for one in go if chance.random() < 0.5]
    assert stays(replace(given, points=tuple(back))) == stay
    assert stays(replace(given, points=(*back, *some))) == stay
    used_up = replace(given.situation, override=None)
    assert stays(History((*back, *(_marked(one, given) for one in go)), used_up, given.now)) == stay


def _marked(one: Point, given: History) -> Point:
    expiry = one.expiry or Expiry(
        was="failed" if one.state == "failed" else "verified",
        reason="no rule keeps it",
        decided_at=given.now,
        delete_after=given.now + DAY,
    )
    override = expiry.override or given.situation.override
    return structs.replace(one, state="expiring", expiry=structs.replace(expiry, override=override))


def adding_to_the_policy_never_deletes_more(given: History, chance: Random) -> None:
    """Of the same points at the same moment, whatever the rule: one that was zero, or a larger number."""
    name = f"keep_{chance.choice((*COUNTED, 'within_days'))}"
    policy = given.situation.policy
    more = structs.replace(policy, **{name: getattr(policy, name) + chance.choice((1, 2, 30))})
    larger = replace(given.situation, policy=more)
    assert stays(given) <= stays(replace(given, situation=larger))
    assert gives_up(given.points, given.situation, larger, given.now) == []


def gives_up_what_only_the_policy_before_wanted(given: History, chance: Random) -> None:
    known = replace(given.situation, lost_at=None, unbought=None)
    after = replace(known, policy=_policy(chance))
    newest = {one.id for one in newest_verified(given.points)} | {one.id for one in given.points if one.gone}
    found = {one.id for one in gives_up(given.points, known, after, given.now)}
    sides = [by_policy(given, each.policy) for each in (known, after)]
    assert found in [before - kept - newest for before in sides[0] for kept in sides[1]]


def nothing_changes_by_itself_before_the_next_change(given: History, chance: Random) -> None:
    decided = plan(given.points, given.situation, given.now)
    assert given.now < decided.next_change <= given.now + DAY
    later = given.now + (decided.next_change - given.now) * chance.random()
    before, then = kinds(given), kinds(given, later)
    assert {id: kind for id, kind in before.items() if kind is not Delete} == {
        id: kind for id, kind in then.items() if before[id] is not Delete
    }


def what_becomes_of_copies_changes_nothing_at_home_but_how_long_it_waits_for_them(
    given: History, chance: Random
) -> None:
    changed = [structs.replace(one, copies={"us-east1": _copy(given.now, chance)}) for one in given.points]
    alone = replace(given.situation, copied_to=None)
    assert kinds(replace(given, points=tuple(changed), situation=alone)) == kinds(replace(given, situation=alone))
    waiting = {one.id for one in changed if is_waiting_for_its_copy(one, given.situation.copied_to, given.now)}
    at_home = replace(given, points=tuple(changed))
    without = stays(replace(at_home, situation=replace(given.situation, copied_to=None)))
    begun = {one.id for one in changed if is_going(one)}
    assert stays(at_home) == without | (waiting - begun)


def what_becomes_of_home_changes_nothing_for_its_copies(given: History, chance: Random) -> None:
    disks = [point_disk()]
    here = [structs.replace(one, copies={"us-east1": _copy(given.now, chance)}, disks=disks) for one in given.points]
    copies = [sets.as_point(one, "us-east1") for one in here if one.copies["us-east1"].state != "deleted"]
    known = replace(given.situation, region="us-east1", copied_to=None)
    changed = [
        structs.replace(
            one,
            state=chance.choice(("verified", "failed", "deleted", "expiring")),
            lock_until=None,
            holds=[],
            gone=[],
            expiry=_expiry(given.now, chance),
        )
        for one in here
    ]
    later = [sets.as_point(one, "us-east1") for one in changed if one.copies["us-east1"].state != "deleted"]
    assert kinds(History(tuple(later), known, given.now)) == kinds(History(tuple(copies), known, given.now))


def a_forecast_for_now_is_the_plan(given: History, chance: Random) -> None:
    today = forecast(given.points, given.situation, given.now, given.now, scheduled=lambda day: None)
    assert today == plan(given.points, given.situation, given.now)


PROPERTIES = (
    agrees_with_the_naive_statement,
    is_a_partition,
    keeps_the_newest_verified_while_the_instance_is_selected,
    does_not_depend_on_the_order_of_its_input,
    a_second_run_deletes_nothing_more,
    adding_to_the_policy_never_deletes_more,
    gives_up_what_only_the_policy_before_wanted,
    nothing_changes_by_itself_before_the_next_change,
    what_becomes_of_copies_changes_nothing_at_home_but_how_long_it_waits_for_them,
    what_becomes_of_home_changes_nothing_for_its_copies,
    a_forecast_for_now_is_the_plan,
)


@pytest.mark.parametrize(
    "first",
    [pytest.param(first, marks=[pytest.mark.slow] if first else []) for first in range(0, HISTORIES, BLOCK)],
)
def test_every_plan(first: int) -> None:
    for number in range(first, first + BLOCK):
        given = history(number)
        for holds in PROPERTIES:
            try:
                holds(given, Random(number))  # noqa: S311 - likewise
            except Exception as broken:
                broken.add_note(f"history({number}): {holds.__name__}")
                raise


def test_the_histories_show_every_decision_and_every_kind_of_point() -> None:
    """So that no property holds for want of an occasion."""
    seen = {kind for number in range(BLOCK) for kind in kinds(history(number)).values()}
    assert seen == {Keep, Expire, Undo, Wait, Delete, Deleting}
    known = [history(number).situation for number in range(BLOCK)]
    assert any(one.lost_at for one in known)
    assert any(one.in_breach and one.override for one in known)
    assert any(one.in_breach and not one.override for one in known)
    assert {type(one.unbought and one.unbought.since) for one in known if one.region} == {type(None), datetime}
    histories = [history(number) for number in range(BLOCK)]
    assert any(is_waiting_for_its_copy(p, h.situation.copied_to, h.now) for h in histories for p in h.points)


@pytest.mark.parametrize("number", range(0, HISTORIES, 50))
def test_pruning_after_every_point_keeps_what_one_run_at_the_end_would_keep(number: int) -> None:
    """So what is kept does not depend on how often the rules ran. (`within` is left out: where clocks skip an hour, the
    moment that it counts from may go back by some minutes while the newest point goes on.)"""
    given = history(number)
    policy = structs.replace(given.situation.policy, keep_within_days=0)
    known = Situation(policy, given.situation.timezone, None, False, None, (), ())
    arrivals = [point(id=one.id, state="verified", requested_at=one.requested_at) for one in whole(given.points)][::-1]
    stored: list[Point] = []
    for one in arrivals:
        decided = plan([*stored, one], known, given.now).decisions
        stored = [each.point for each in decided if isinstance(each.decision, Keep)]
    assert {one.id for one in stored} == stays(History(tuple(arrivals), known, given.now))

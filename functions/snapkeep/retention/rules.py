"""Which points are kept, for which reasons, and what becomes of the others. Pure: facts in, a plan out.

What is weighed together are the points of one instance in one region: at home, or its copies in another, each as a
point of its own (`copies.sets`). Rules vote to keep; deletion is silence. Each rule looks at all of them at once and
votes for some, with its reason in words. What nobody votes for becomes `expiring`, is weighed again when its grace is
over, and goes if there is still silence. The policy's own rules decide as restic's `forget --keep-*` (0.16 and later)
decides for the same local times.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from operator import itemgetter
from typing import Final, Literal, NamedTuple, assert_never
from zoneinfo import ZoneInfo

from msgspec import structs

from snapkeep.copies import rules as copies
from snapkeep.copies import sets
from snapkeep.creation.rules import breach_due, taken_at
from snapkeep.creation.slots import ONE_DAY, days_earlier, local_day
from snapkeep.documents import CopyRetention, Hold, Instance, InterRegionBackup, Point, Retention, Tenant

EXPIRY_GRACE: Final = timedelta(hours=24)
"""Between the decision that a point goes and its deletion: time for a person to see it, and to hold it."""

FAILED_KEPT: Final = timedelta(days=7)
"""How long a failed point keeps its snapshots after it was requested, for whoever looks into it."""

LOOK_AGAIN: Final = timedelta(hours=24)
"""The longest time between two plans of an instance, whatever the first of them foresaw."""

FORECAST_MAX: Final = timedelta(days=3_660)
"""How far a forecast looks ahead: as far as a policy can reach back in days. It assumes a point for every day."""


POLICY_NUMBERS: Final = CopyRetention.__struct_fields__
"""What a copies' policy says."""


# --- what is known, and what is decided ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Unbought:
    """Copies in this region are not bought, or no longer."""

    since: datetime | None  # None: nobody has noted it yet


@dataclass(frozen=True, slots=True)
class Situation:
    """All that is known besides the points."""

    policy: Retention
    timezone: str
    lost_at: datetime | None  # None: the instance is selected
    in_breach: bool  # of its RPO
    override: str | None  # id of an override that no plan has used yet
    instance_holds: Sequence[Hold]
    tenant_holds: Sequence[Hold]
    region: str | None = None  # where the copies lie that are weighed; None: the points at home are
    copied_to: str | None = None  # the region of the copies that are bought, which points at home wait for
    unbought: Unbought | None = None  # of copies; None: they are bought

    @property
    def gone_at(self) -> datetime | None:
        """From when on nothing but locks and holds keeps a lost instance's points."""
        return None if self.lost_at is None else self.lost_at + timedelta(days=self.policy.keep_after_gone_days)

    def all_go(self, now: datetime) -> bool:
        return self.gone_at is not None and self.gone_at <= now


def situation(
    tenant: Tenant, instance: Instance, now: datetime, policy: Retention | None = None, *, region: str | None = None
) -> Situation:
    """What is known of an instance at home now, or of its copies in a region; with another policy than its own, if one
    is given.

    Whether it is in breach is computed afresh: `health`, which notes it, may not have looked yet.
    """
    due = breach_due(instance, tenant)
    lost_at = instance.lost_at
    if lost_at is not None and instance.lost_reason == "offboarded":
        # Until discovery finds it again, the tenant's word counts: one that stays, or leaves later, has lost nothing.
        lost_at = max(lost_at, tenant.offboarding.at) if tenant.offboarding and tenant.has_left(now) else None
    bought = copies.entitled(tenant, now)
    mine = bought if bought is not None and bought.region == region else None
    return Situation(
        policy=policy or (tenant.retention if region is None else _copies_policy(tenant, mine)),
        timezone=tenant.timezone,
        lost_at=lost_at,
        in_breach=instance.lost_at is None and (instance.breach_at is not None or (due is not None and due <= now)),
        override=instance.override.id if instance.override else None,
        instance_holds=instance.holds,
        tenant_holds=tenant.holds,
        region=region,
        copied_to=bought.region if bought is not None and region is None else None,
        unbought=Unbought(_noted_end(tenant, region, now)) if region is not None and mine is None else None,
    )


def _noted_end(tenant: Tenant, region: str, now: datetime) -> datetime | None:
    """Since when copies there are not bought, once that was noted: a day that is given for it may be long past."""
    return copies.ended_at(tenant, region, now) if region in tenant.copies_ended else None


def _copies_policy(tenant: Tenant, bought: InterRegionBackup | None) -> Retention:
    """By what copies are kept. A lost instance's stay as long as its points; what is not bought, no policy keeps."""
    numbers = structs.asdict(bought.retention) if bought else dict.fromkeys(POLICY_NUMBERS, 0)
    return Retention(**numbers, keep_after_gone_days=tenant.retention.keep_after_gone_days)


@dataclass(frozen=True, slots=True)
class Keep:
    """Stays what it is: requested, creating, verified or failed."""

    reasons: tuple[str, ...]  # all there are, at least one


@dataclass(frozen=True, slots=True)
class Expire:
    """Verified or failed, and nobody wants it: to be marked `expiring`."""

    reason: str


@dataclass(frozen=True, slots=True)
class Undo:
    """Expiring, and wanted after all: to become again what it was (`expiry.was`)."""

    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """Expiring, still unwanted, and in its grace."""

    until: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Delete:
    """Expiring, still unwanted, and its grace is over: its deletion may begin."""

    reason: str


@dataclass(frozen=True, slots=True)
class Deleting:
    """Its deletion has begun, which nothing undoes."""

    since: datetime


Decision = Keep | Expire | Undo | Wait | Delete | Deleting


@dataclass(frozen=True, slots=True)
class Decided:
    point: Point
    decision: Decision


@dataclass(frozen=True, slots=True)
class RetentionPlan:
    """One decision for each point: a partition of what was given."""

    decisions: tuple[Decided, ...]  # newest first
    kept_by: Mapping[str, int]  # a rule's name -> points that it keeps, of those that stay or come back
    next_change: datetime  # when time alone may change a decision next, at most LOOK_AGAIN ahead


class UnsafePlan(Exception):
    """A plan that must not be carried out: its words say which point it would lose, and why that is wrong."""


# --- the rules ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Facts:
    """What the rules look at: an instance's points, newest first."""

    points: Sequence[Point]
    moments: Sequence[datetime]  # of each point, by its place
    local: Sequence[datetime]  # the same in the tenant's time zone
    candidates: Sequence[int]  # places of the points that may fill a bucket
    situation: Situation
    now: datetime


class Vote(NamedTuple):
    place: int  # of the point that is to be kept, in Facts.points
    reason: str
    until: datetime | None = None  # when time alone takes the vote back; None: it does not


Votes = Iterator[Vote]
Bucket = Callable[[datetime, int], object]
"""From a point's local time, and its place among the candidates, to what points of one bucket have in common."""

BUCKETS: Final[Mapping[str, Bucket]] = {
    "last": lambda local, place: place,
    "daily": lambda local, place: local.toordinal(),
    "weekly": lambda local, place: local.isocalendar()[:2],  # the ISO year, which is not always the calendar's
    "monthly": lambda local, place: (local.year, local.month),
    "yearly": lambda local, place: local.year,
}


def newest_of_each(name: str) -> Callable[[Facts], Votes]:
    """The rule that keeps the newest point of each of the last so many buckets: `keep_{name}` of the policy."""
    bucket = BUCKETS[name]

    def votes(facts: Facts) -> Votes:
        count: int = getattr(facts.situation.policy, f"keep_{name}")
        oldest = len(facts.candidates) - 1
        kept, last = 0, None
        for number, place in enumerate(facts.candidates):
            if kept == count:
                return
            value = bucket(facts.local[place], number)
            if value != last:
                kept += 1
                yield Vote(place, f"{name} {kept}/{count}")
            elif number == oldest:  # kept while there is room, so that the history reaches back as far as it can
                yield Vote(place, f"{name} {kept + 1}/{count} (oldest)")
            last = value

    return votes


def within(facts: Facts) -> Votes:
    """Younger than so many days, counted back from the newest point. One from the future, which only a clock that is
    wrong can have made, does not count as the newest: everything else would look old beside it."""
    days = facts.situation.policy.keep_within_days
    if not days:
        return
    newest = next((facts.moments[place] for place in facts.candidates if facts.moments[place] <= facts.now), None)
    after = days_earlier(newest, days, facts.situation.timezone) if newest else None
    reason = f"within {days} day{'s' if days > 1 else ''}"
    for place in facts.candidates:
        if after is not None and facts.moments[place] <= after:
            return
        yield Vote(place, reason)


def newest_verified(facts: Facts) -> Votes:
    """The newest point that can be restored, or, where none can, the newest that was ever verified."""
    place = _newest(facts)
    if place is not None:
        yield Vote(place, "newest verified")


def locked(facts: Facts) -> Votes:
    for place, point in enumerate(facts.points):
        if point.lock_until is not None and facts.now < point.lock_until:
            yield Vote(place, f"locked until {_moment(point.lock_until)}", point.lock_until)


def held(facts: Facts) -> Votes:
    """By a hold on the point, on its instance, or on its tenant."""
    now, every = facts.now, facts.situation
    for place, point in enumerate(facts.points):
        yield from (Vote(place, f"held: {hold.reason}", hold.until) for hold in point.holds if hold.stands(now))
    for whose, holds in (("instance", every.instance_holds), ("tenant", every.tenant_holds)):
        for hold in holds:
            if hold.stands(now):
                reason = f"{whose} held: {hold.reason}"
                yield from (Vote(place, reason, hold.until) for place in range(len(facts.points)))


def source_of_a_copy(facts: Facts) -> Votes:
    """Kept until copied: deleting it now would leave one region without the point. Only while copies are bought there,
    and for COPY_WAIT_MAX_DAYS at the most, however often it is tried."""
    region = facts.situation.copied_to
    for place, point in enumerate(facts.points):
        copy = point.copies.get(region) if region is not None else None
        if copy is not None and copy.state in ("requested", "copying", "failed"):
            until = (copy.wanted_since or copy.requested_at) + timedelta(days=copies.COPY_WAIT_MAX_DAYS)
            if facts.now < until:
                yield Vote(place, f"source of an unverified copy in {region}, until {_moment(until)}", until)


def no_longer_bought(facts: Facts) -> Votes:
    """Copies whose region is not bought any more stay for a grace, in case it is bought again. It begins when it is
    noted that they are not."""
    unbought = facts.situation.unbought
    if unbought is None:
        return
    until = unbought.since + copies.UNENTITLED_GRACE if unbought.since is not None else None
    if until is None or facts.now < until:
        reason = f"no longer bought: kept until {_moment(until)}" if until else "no longer bought, and not noted yet"
        yield from (Vote(place, reason, until) for place in range(len(facts.points)))


def running(facts: Facts) -> Votes:
    for place, point in enumerate(facts.points):
        if point.state in ("requested", "creating"):
            yield Vote(place, "running")


def in_breach(facts: Facts) -> Votes:
    """An instance without a point young enough keeps what there is. An override lets points go in one plan, and those
    that it let go then are not called back by the breach."""
    if not facts.situation.in_breach or facts.situation.override is not None:
        return
    for place, point in enumerate(facts.points):
        if point.expiry is None or point.expiry.override is None:
            yield Vote(place, "in breach of its RPO")


def failed(facts: Facts) -> Votes:
    for place, point in enumerate(facts.points):
        until = point.requested_at + FAILED_KEPT
        if _settled_as(point) == "failed" and facts.now < until:
            yield Vote(place, f"failed, kept until {_moment(until)}", until)


def incomplete(facts: Facts) -> Votes:
    """A snapshot of it is missing though nobody here deleted it: what is left is for a person to judge."""
    for place, point in enumerate(facts.points):
        if point.gone:
            verb = "is" if len(point.gone) == 1 else "are"
            yield Vote(place, f"incomplete: {', '.join(point.gone)} {verb} gone")


@dataclass(frozen=True, slots=True)
class Rule:
    name: str
    votes: Callable[[Facts], Votes]
    counts: Literal["always", "until_gone", "while_selected"]
    """`until_gone`: also for a lost instance, but not once its points are all to go (Situation.gone_at). Of copies that
    are not bought only what counts always does."""
    delays: bool = False
    """It only puts off what the policy decides: what it alone keeps, the policy has given up."""


RULES: Final = (
    *(Rule(name, newest_of_each(name), "until_gone") for name in BUCKETS),
    Rule("within", within, "until_gone"),
    Rule("newest verified", newest_verified, "while_selected"),
    Rule("locked", locked, "always", delays=True),
    Rule("held", held, "always", delays=True),
    Rule("unverified copy", source_of_a_copy, "always", delays=True),
    Rule("running", running, "always", delays=True),
    Rule("breach", in_breach, "while_selected", delays=True),
    Rule("failed", failed, "until_gone", delays=True),
    Rule("incomplete", incomplete, "until_gone"),
    Rule("no longer bought", no_longer_bought, "always", delays=True),
)


# --- plans --------------------------------------------------------------------------------------------------------


def plan(points: Sequence[Point], situation: Situation, now: datetime) -> RetentionPlan:
    """What is to become of every point of one instance. The order in which they are given does not matter.

    Raises UnsafePlan if it would let the newest verified point of a selected instance go, and ValueError for points
    that hold no snapshots (missed, deleted), or one given twice: there is nothing to decide, or no one answer.
    """
    decided = _decide(_facts(points, situation, now))
    return _as_plan(decided, points, now)


def forecast(
    points: Sequence[Point],
    situation: Situation,
    now: datetime,
    at: datetime,
    *,
    scheduled: Callable[[date], datetime | None] | None,
) -> RetentionPlan:
    """The plan of a later moment, if nobody does anything until then and nothing fails.

    `scheduled` tells the instant of a local day's slot; None: the schedule takes nothing. Each slot until then is
    assumed to bring a verified point, which ends a breach and fills buckets, but is not in the answer. So is what
    runs now; and what nobody wants when a grace that is over by then begins is to be deleted by then. Raises as `plan`
    does, and ValueError for a moment that has passed or lies further ahead than FORECAST_MAX.
    """
    if not now <= at <= now + FORECAST_MAX:
        raise ValueError(f"{_moment(at)}: expected a moment from now to {_moment(now + FORECAST_MAX)}")
    assumed = _assumed(points, situation, now, at, scheduled)
    decided = _then(points, assumed, situation, now, at)
    grace_from = at - EXPIRY_GRACE
    if grace_from >= now:
        by_then = [point for point in assumed if point.requested_at <= grace_from]
        silent = {
            one.point.id
            for one in _then(points, by_then, situation, now, grace_from)
            if isinstance(one.decision, Expire)
        }
        decided = [one._replace(decision=_after_grace(one, silent)) for one in decided]
    return _as_plan(decided, points, at)


def _then(
    points: Sequence[Point], assumed: Sequence[Point], situation: Situation, now: datetime, at: datetime
) -> list[_Weighed]:
    """What is decided at a later moment about these points, as they are now, beside those that are assumed."""
    until_then = [_finished(point) for point in points]
    then = replace(situation, in_breach=situation.in_breach and not assumed)
    facts = _facts([*(until_then if at > now else points), *assumed], then, at)
    given = {point.id: point for point in points}
    return [one._replace(point=given[one.point.id]) for one in _decide(facts) if one.point.id in given]


def gives_up(points: Sequence[Point], before: Situation, after: Situation, now: datetime) -> list[Point]:
    """The points, newest first, that something wants before and nothing wants after: what a change costs in the end.

    Locks, holds, grace and a breach only put off what a policy decides, so they lower the number for neither side.
    """
    facts = _facts(points, before, now)
    given_up = _wanted(facts) - _wanted(_facts(points, after, now))
    return [facts.points[place] for place in sorted(given_up)]


class _Weighed(NamedTuple):
    point: Point
    votes: Sequence[tuple[Rule, Vote]]
    decision: Decision


def _facts(points: Sequence[Point], situation: Situation, now: datetime) -> Facts:
    by_id = {point.id: point for point in points}
    if len(by_id) < len(points):
        twice = [id for id, count in Counter(point.id for point in points).items() if count > 1]
        raise ValueError(f"{', '.join(sorted(twice))}: given more than once; expected each point of the instance once")
    # Newest first; among points of one moment by id, so that no plan depends on the order they were read in.
    timed = [(taken_at(by_id[id]), by_id[id]) for id in sorted(by_id)]
    timed.sort(key=itemgetter(0), reverse=True)
    zone = ZoneInfo(situation.timezone)
    return Facts(
        points=[point for _, point in timed],
        moments=[moment for moment, _ in timed],
        local=[moment.astimezone(zone) for moment, _ in timed],
        candidates=[place for place, (_, point) in enumerate(timed) if restorable(point)],
        situation=situation,
        now=now,
    )


def _decide(facts: Facts) -> list[_Weighed]:
    votes = _votes(facts)
    weighed = [
        _Weighed(point, votes[place], _decision(point, votes[place], facts)) for place, point in enumerate(facts.points)
    ]
    _refuse_unsafe(weighed, facts.situation)
    return weighed


def _votes(facts: Facts) -> list[list[tuple[Rule, Vote]]]:
    """Every vote, by the place of its point and in the order of RULES."""
    votes: list[list[tuple[Rule, Vote]]] = [[] for _ in facts.points]
    gone_at = facts.situation.gone_at
    for rule in RULES:
        if _counts(rule, facts.situation, facts.now):
            ends = gone_at if rule.counts == "until_gone" else None
            for vote in rule.votes(facts):
                votes[vote.place].append(
                    (rule, vote if ends is None else vote._replace(until=_first(vote.until, ends)))
                )
    return votes


def _first(one: datetime | None, other: datetime) -> datetime:
    return other if one is None else min(one, other)


def _counts(rule: Rule, situation: Situation, now: datetime) -> bool:
    if situation.unbought is not None and rule.counts != "always":
        return False
    match rule.counts:
        case "always":
            return True
        case "until_gone":
            return not situation.all_go(now)
        case "while_selected":
            return situation.lost_at is None
        case _:
            assert_never(rule.counts)


def _decision(point: Point, votes: Sequence[tuple[Rule, Vote]], facts: Facts) -> Decision:
    reasons = tuple([vote.reason for _, vote in votes])
    match point.state:
        case "requested" | "creating" | "verified" | "failed":
            return Keep(reasons) if reasons else Expire(_silence(point, facts))
        case "expiring":
            if point.expiry is None:
                raise ValueError(f"{point.id}: is expiring without `expiry`, so that nobody knows what it was")
            if point.expiry.begun_at is not None:
                return Deleting(point.expiry.begun_at)
            if reasons:
                return Undo(reasons)
            if facts.now < point.expiry.delete_after:
                return Wait(point.expiry.delete_after, _silence(point, facts))
            return Delete(_silence(point, facts))
        case "missed" | "deleted":
            raise ValueError(f"{point.id}: is {point.state} and holds no snapshots; expected points that may hold some")
        case _:
            assert_never(point.state)


def _silence(point: Point, facts: Facts) -> str:
    """Why nobody wants this point."""
    known = facts.situation
    if known.unbought is not None and known.unbought.since is not None:
        days = copies.UNENTITLED_GRACE.days
        why = f"not bought in {known.region} since {_moment(known.unbought.since)}: kept for {days} days"
    elif known.lost_at is not None and known.all_go(facts.now):
        why = f"its instance was lost {_moment(known.lost_at)}: kept for {known.policy.keep_after_gone_days} days"
    elif _settled_as(point) == "failed":
        why = f"failed, and its {FAILED_KEPT.days} days are over"
    elif not point.usable:
        why = "not usable, and no other rule keeps it"
    else:
        why = "no rule keeps it"
    if known.in_breach and known.lost_at is None and known.unbought is None:
        why += f" (in breach of its RPO, overridden: {(point.expiry and point.expiry.override) or known.override})"
    return why


def _refuse_unsafe(weighed: Sequence[_Weighed], situation: Situation) -> None:
    """Law 6, held apart from the rule that votes for it: whatever the rules say, the newest verified point stays; and
    so does the newest verified copy while copies are bought."""
    if situation.lost_at is not None or situation.unbought is not None:
        return
    newest = next((one for one in weighed if restorable(one.point)), None) or next(
        (one for one in weighed if _settled_as(one.point) == "verified" and not _going(one.point)), None
    )
    if newest is not None and isinstance(newest.decision, Expire | Wait | Delete):
        what = "point" if situation.region is None else "copy"
        raise UnsafePlan(
            f"{sets.name_of(newest.point.id, situation.region)}: is the newest verified {what} of "
            f"{newest.point.instance.name} and would go: "
            f"{newest.decision.reason}. Nothing of this instance is deleted; the rules have to be mended"
        )


def _as_plan(weighed: Sequence[_Weighed], points: Sequence[Point], now: datetime) -> RetentionPlan:
    """Raises UnsafePlan unless there is one decision for each of the points, and no other."""
    if len(weighed) != len(points) or {one.point.id for one in weighed} != {point.id for point in points}:
        raise UnsafePlan(f"{len(weighed)} decisions for {len(points)} points: expected one for each")
    stays = (one for one in weighed if isinstance(one.decision, Keep | Undo))
    counts = Counter(name for one in stays for name in {rule.name for rule, _ in one.votes})
    return RetentionPlan(
        decisions=tuple(Decided(one.point, one.decision) for one in weighed),
        kept_by={rule.name: counts[rule.name] for rule in RULES if rule.name in counts},
        next_change=min([now + LOOK_AGAIN, *(at for one in weighed if (at := _changes_at(one)))]),
    )


def _changes_at(one: _Weighed) -> datetime | None:
    """When time alone may change this decision. What may begin now, or has begun, is nobody's to wait for."""
    match one.decision:
        case Keep() | Undo():
            ends = [vote.until for _, vote in one.votes]
            return None if None in ends else max(end for end in ends if end)
        case Wait(until):
            return until
        case Expire() | Delete() | Deleting():
            return None
        case _:
            assert_never(one.decision)


def _newest(facts: Facts) -> int | None:
    if facts.candidates:
        return facts.candidates[0]
    verified = (n for n, point in enumerate(facts.points) if _settled_as(point) == "verified" and not _going(point))
    return next(verified, None)


def _settled_as(point: Point) -> str:
    """What the point was before it began to expire; of any other, its state."""
    return point.expiry.was if point.state == "expiring" and point.expiry else point.state


def _going(point: Point) -> bool:
    """Its deletion has begun: nothing can count on it any more."""
    return point.expiry is not None and point.expiry.begun_at is not None


def restorable(point: Point) -> bool:
    """May fill a bucket: verified, complete and usable. A point in its grace still may, as it can be called back."""
    return _settled_as(point) == "verified" and point.usable and not point.gone and not _going(point)


def _wanted(facts: Facts) -> set[int]:
    return {place for place, votes in enumerate(_votes(facts)) if any(not rule.delays for rule, _ in votes)}


def _finished(point: Point) -> Point:
    """What runs now, at home or as a copy, is taken for verified."""
    if point.state not in RUNS and not any(copy.state in RUNS for copy in point.copies.values()):
        return point
    done = {r: structs.replace(c, state="verified") if c.state in RUNS else c for r, c in point.copies.items()}
    return structs.replace(point, state="verified" if point.state in RUNS else point.state, copies=done)


RUNS: Final = ("requested", "creating", "copying")


def _assumed(
    points: Sequence[Point],
    situation: Situation,
    now: datetime,
    at: datetime,
    scheduled: Callable[[date], datetime | None] | None,
) -> list[Point]:
    """The verified points that the schedule is going to bring after now and up to a moment."""
    if scheduled is None or situation.lost_at is not None or not points:
        return []
    # From the day before: with a large spread, or an hour near midnight, its slot may still be to come.
    first, last = local_day(now, situation.timezone) - ONE_DAY, local_day(at, situation.timezone)
    days = (first + number * ONE_DAY for number in range((last - first) // ONE_DAY + 1))
    slots = (slot for day in days if (slot := scheduled(day)) is not None and now < slot <= at)
    return [_assumed_point(points[0], slot) for slot in slots]


def _assumed_point(like: Point, at: datetime) -> Point:
    return structs.replace(
        like,
        id=f"assumed {_moment(at)}",  # no id of a point has a space
        state="verified",
        disks=[],
        requested_at=at,
        lock_until=None,
        holds=[],
        copies={},
        usable=True,
        gone=[],
        expiry=None,
    )


def _after_grace(one: _Weighed, silent: Set[str]) -> Decision:
    """What has become of a point that nobody wanted already when a grace that is over by then began."""
    match one.decision:
        case Expire(reason) if one.point.id in silent:
            return Delete(reason)
        case decision:
            return decision


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"

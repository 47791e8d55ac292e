"""A restore from its request to its end, step by step. Pure: facts in, what to commit and to ask for out.

Steps are taken one after the other; those that find nothing left to do are passed in one look. What is given up is
first known to have come to rest, then taken back by steps of its own, so that a restore always comes to an end.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, assert_never

from msgspec.structs import replace

from snapkeep.cloud import Change
from snapkeep.creation.rules import LOOK_MIN, backoff
from snapkeep.documents import GONE, Failure, Restore, RestoreStep
from snapkeep.restore import asks, checks, making, rules, steps
from snapkeep.restore.asks import LOOK_SOON, Outcome
from snapkeep.restore.facts import Facts, Taken, with_step
from snapkeep.restore.rules import ACTOR, ASKS_MAX, FORMER_KEPT, LEFTOVERS_WITHIN, RUN_WITHIN, UNDO_WITHIN, disk_link

ASK_GRACE: Final = LOOK_MIN * 2
"""What whoever committed that something is asked for is given to note the answers."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a restore. Nothing of it is done yet."""

    restore: Restore  # to be committed first
    intents: tuple[Change, ...] = ()  # asked for the first time: recorded with the commit
    starts: tuple[Change, ...] = ()  # to be asked for after it: the intents, and repeated asks
    outcomes: tuple[Outcome, ...] = ()  # recorded with the commit


# --- what is to be read -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a look at a restore needs to know. Nothing of it is searched for: another zone may be away."""

    instance: str | None = None  # link
    attached: bool = False  # and the disks that are attached to it
    disks: frozenset[str] = frozenset()  # links
    snapshots: frozenset[str] = frozenset()
    operations: frozenset[str] = frozenset()
    zones: bool = False
    firewalls: bool = False


def current(restore: Restore) -> int | None:
    """The place of the step whose turn it is; None: all are over."""
    return next((at for at, one in enumerate(restore.steps) if one.state in ("pending", "running")), None)


def wanted(restore: Restore, undone: Restore | None) -> Wanted:
    """What to read before the next look at a running restore, whose zone was chosen where one can be."""
    at = current(restore)
    if at is None:
        return Wanted()
    step = restore.steps[at]
    surveyed = step.name == "survey"
    links = {disk_link(disk) for disk in restore.disks if disk.scope} | set(rules.made_links(restore))
    links |= {disk_link(one) for one in restore.former}
    links |= {disk_link(one) for one in (undone.former if undone is not None else [])}
    of_steps = {ask.operation for one in restore.steps for ask in one.asks if ask.operation and ask.failure is None}
    # Of a disk that was seen the disk itself tells.
    of_disks = {disk.operation for disk in restore.disks if disk.operation and disk.id is None and disk.status != GONE}
    is_test = restore.purpose == "test"
    return Wanted(
        instance=rules.target_link(restore),
        attached=surveyed and restore.mode == "in_place",
        disks=frozenset(links),
        snapshots=frozenset(disk.snapshot for disk in restore.disks) if surveyed else frozenset(),
        operations=frozenset({*of_steps, *of_disks}),
        zones=surveyed,
        firewalls=surveyed and is_test,
    )


# --- the steps ----------------------------------------------------------------------------------------------------


def waiting(restore: Restore, now: datetime, *, may_begin: bool) -> Step | None:
    """The next step of a restore that has not begun; None where nothing is to be done yet."""
    if why := rules.overdue(restore, now):
        return Step(over(restore, "cancelled", why, now))
    if restore.state == "requested":
        return None
    if not may_begin:
        return None
    begun = replace(
        restore,
        state="running",
        started_at=now,
        deadline=now + RUN_WITHIN,
        failure=None,
        faults=0,
        updated_at=now,
        next_at=now,
    )
    return Step(begun)


def advance(restore: Restore, tenant: str, facts: Facts, now: datetime) -> Step:
    """Take a running restore as far on as one read of what it is about allows."""
    if over := too_late(restore, now):
        return over
    if restore.abandoned is not None and (unsettled := _settle(restore, tenant, facts, now)) is not None:
        return unsettled
    intents: tuple[Change, ...] = ()
    starts: tuple[Change, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    seen = restore
    while (at := current(seen)) is not None:
        step = seen.steps[at]
        if step.state == "pending":
            step = replace(step, state="running", at=now)
        seen = with_step(seen, at, step)
        taken = steps.TAKES[step.name](seen, at, tenant, facts, now)
        seen = taken.restore
        intents, starts, outcomes = intents + taken.intents, starts + taken.starts, outcomes + taken.outcomes
        if taken.dead is not None:
            given_up = rules.abandon(seen, "failed", ACTOR, taken.dead, now)
            return Step(given_up, outcomes=outcomes)
        if not taken.done:
            return Step(_later(restore, seen, taken, facts, now), intents, starts, outcomes)
        seen = _done(seen, at, now)
    return Step(_finished(seen, now), outcomes=outcomes)


def too_late(restore: Restore, now: datetime) -> Step | None:
    """The end of its time: a running restore is given up, one that is taken back ends with what is left."""
    if restore.abandoned is not None:
        if now < restore.abandoned.deadline:
            return None
        late = Failure(code="deadline", message=f"not taken back by {restore.abandoned.deadline:%Y-%m-%d %H:%M} UTC")
        ended = over(replace(restore, left=_left(restore)), "failed", restore.failure, now)
        return Step(ended, outcomes=_given_up(restore, late))
    if restore.deadline is None or now < restore.deadline:
        return None
    at = current(restore)
    if at is not None and restore.steps[at].name == "check" and checks.silent(restore) is not None:
        checked = replace(_done(restore, at, now), next_at=now)
        return Step(checked if current(checked) is not None else _finished(checked, now))
    if at is not None and restore.steps[at].name == "delete_disks" and restore.purpose != "test":
        left = sorted(link for disk in restore.disks for link in disk.superseded)
        outcomes = _given_up(restore, Failure(code="deadline", message="it did not go in time"))
        return Step(_finished(replace(restore, left=left), now), outcomes=outcomes)
    said = f": {restore.failure.code}: {restore.failure.message}" if restore.failure else ""
    message = f"not completed by {restore.deadline:%Y-%m-%d %H:%M} UTC{said}"
    why = Failure(code="deadline", message=message[:500])
    return Step(rules.abandon(restore, "failed", ACTOR, why, now))


def _given_up(restore: Restore, why: Failure) -> tuple[Outcome, ...]:
    """What was asked for and never came to an end."""
    asked = (ask for step in restore.steps for ask in step.asks if ask.failure is None)
    return tuple(Outcome(ask.request, ask.what, "failed", why) for ask in asked)


def _done(restore: Restore, at: int, now: datetime) -> Restore:
    """The restore with this step done. What former attempts left goes once all checks are passed."""
    step = restore.steps[at]
    after = with_step(restore, at, replace(step, state="done", at=now))
    after = replace(after, faults=0, updated_at=now)
    left = any(disk.superseded for disk in after.disks)
    if step.name == "check" and after.purpose != "test" and left and after.abandoned is None:
        extra = RestoreStep(name="delete_disks")
        return replace(after, steps=[*after.steps, extra], deadline=now + LEFTOVERS_WITHIN)
    return after


def _later(before: Restore, seen: Restore, taken: Taken, facts: Facts, now: datetime) -> Restore:
    """The restore that waits for its step, and when to look at it again."""
    at = now + ASK_GRACE if taken.starts else taken.look_at or now + LOOK_SOON
    seen = _without_pauses(seen, facts, now)
    ends = seen.abandoned.deadline if seen.abandoned else seen.deadline
    moved = seen.steps != before.steps or bool(taken.starts)
    return replace(
        seen,
        failure=seen.failure if seen.abandoned else None,
        faults=0,
        updated_at=now if moved else seen.updated_at,
        next_at=min(at, max(ends, now + LOOK_SOON)) if ends else at,
    )


def _without_pauses(restore: Restore, facts: Facts, now: datetime) -> Restore:
    """The restore whose time does not run out while deletion is paused and nothing else is left to do."""
    at = current(restore)
    if facts.may_remove or at is None or restore.steps[at].name not in ("delete_instance", "delete_disks"):
        return restore
    until = now + UNDO_WITHIN
    if restore.abandoned is not None:
        return replace(restore, abandoned=replace(restore.abandoned, deadline=max(restore.abandoned.deadline, until)))
    if restore.purpose != "test":
        return restore  # it is as good as completed: what former attempts left may stay
    return replace(restore, deadline=max(restore.deadline or until, until))


# --- giving up ----------------------------------------------------------------------------------------------------


def _settle(restore: Restore, tenant: str, facts: Facts, now: datetime) -> Step | None:
    """What was asked for before a restore was given up may still happen: nothing is taken back before it has.

    None where all of that is over.
    """
    outcomes: list[Outcome] = []
    after = []
    waits = False
    for step in restore.steps:
        if step.undo or not step.asks:
            after.append(step)
            continue
        kept = []
        for ask in step.asks:
            if asks.in_flight(ask, facts.operations, now):
                waits = True
                kept.append(ask)
            elif ask.failure is None:
                outcomes.append(asks.ended(ask, facts.operations, restore.failure))
        after.append(replace(step, asks=kept))
    disks = list(restore.disks)
    if any(one.name == "create_disks" and one.asked for one in restore.steps):
        for at, disk in enumerate(disks):
            if disk.failure is None and not making.is_made(disk) and disk.status != GONE:
                disks[at] = replace(disk, failure=restore.failure, retry_at=None)
                outcomes.append(making.outcome_of(restore, disk, tenant, restore.failure))
    if not waits and not outcomes and after == restore.steps:
        return None
    settled = replace(restore, steps=after, disks=disks)
    if outcomes:
        settled = replace(settled, updated_at=now)
    return Step(replace(settled, next_at=now + LOOK_SOON if waits else now), outcomes=tuple(outcomes))


def _left(restore: Restore) -> list[str]:
    """Links of what was not taken back."""
    left = set(restore.left)
    open_steps = {one.name for one in restore.steps if one.undo and one.state in ("pending", "running")}
    link = rules.target_link(restore)
    if open_steps & {"delete_instance", "stop", "detach_disks", "attach_disks", "start"} and link is not None:
        left.add(link)
    if open_steps & {"detach_disks", "attach_disks"}:
        left |= {disk_link(one) for one in restore.former}
    if "delete_disks" in open_steps:
        left |= set(rules.made_links(restore))
    return sorted(left)


# --- the end ------------------------------------------------------------------------------------------------------


def _finished(restore: Restore, now: datetime) -> Restore:
    """Every step is over."""
    if restore.abandoned is not None:
        ends_as = "failed" if restore.left else restore.abandoned.ends_as
        return over(restore, ends_as, restore.failure, now)
    done = over(restore, "completed", checks.silent(restore), now)
    if restore.mode != "in_place" or not restore.former:
        return done
    until = now + FORMER_KEPT
    former = [replace(one, status="kept") for one in restore.former]
    return replace(done, former=former, keep_until=until, next_at=until)


def over(
    restore: Restore, state: Literal["completed", "failed", "cancelled"], why: Failure | None, now: datetime
) -> Restore:  # fmt: skip
    """The restore at its end: no step of it is left to be taken."""
    ended = [replace(one, state="skipped", at=now) if one.state == "pending" else one for one in restore.steps]
    ended = [replace(one, state="failed", at=now) if one.state == "running" else one for one in ended]
    ended = [replace(one, asks=[ask for ask in one.asks if ask.failure]) for one in ended]
    return replace(
        restore, state=state, steps=ended, failure=why, finished_at=now, faults=0, updated_at=now, next_at=None
    )


# --- what stands in the way ---------------------------------------------------------------------------------------


def postponed(restore: Restore, why: Failure, now: datetime) -> Restore:
    """The same restore, to be looked at later: something stands in the way that may pass."""
    at = now + backoff(restore.faults)
    end = _must_look(restore)
    at = min(at, max(end, now + LOOK_SOON)) if end is not None else at
    kept = restore.failure if restore.abandoned is not None or restore.state not in rules.LIVING else why
    after = replace(restore, failure=kept, faults=restore.faults + 1, next_at=at)
    here = current(restore)
    if restore.state != "running" or here is None:
        return after
    return with_step(after, here, replace(after.steps[here], failure=why))


def _must_look(restore: Restore) -> datetime | None:
    """When its time runs out, whatever stands in the way."""
    match restore.state:
        case "requested":
            return restore.approve_by
        case "approved":
            return restore.start_by
        case "running":
            return restore.abandoned.deadline if restore.abandoned else restore.deadline
        case "completed" | "failed" | "cancelled":
            return None
        case _:
            assert_never(restore.state)


def answered(
    restore: Restore,
    tenant: str,
    operations: dict[str, str],
    refusals: dict[str, Failure],
    fault: Failure | None,
    now: datetime,
) -> Step | None:
    """The restore with what its requests were answered, by request id; None where it has ended meanwhile.

    `fault`: what stood in the way of one of them and may pass.
    """
    if restore.state != "running":
        return None
    disks, of_disks = making.noted(restore, tenant, operations, refusals, now)
    after, of_steps = asks.noted(restore.steps, operations, refusals, now, asks_max=ASKS_MAX)
    noted = replace(restore, disks=disks, steps=after)
    if fault is not None:
        noted = postponed(noted, fault, now)
    else:
        noted = replace(noted, faults=0, next_at=min(restore.next_at or now, now + LOOK_SOON))
    return Step(noted, outcomes=(*of_disks, *of_steps))

"""How a step comes to what it is to bring about: it asks, reads back, and asks again. Pure.

A goal is what is to be so in the cloud, and the change to ask for while it is not. What was asked for is an attempt
of a number of its own, committed before it is asked: as long as nothing is known of its answer it is asked for again as
the same request, which Compute Engine carries out once; as another one only when it is known not to have happened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as changed
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from msgspec.structs import replace

from snapkeep import cloud
from snapkeep.cloud import Change, DeleteDisk, DeleteInstance, InsertInstance, Operation
from snapkeep.creation.rules import PERMANENT, UNKNOWN_SETTLED, backoff
from snapkeep.documents import Failure, Restore, RestoreAsk, RestoreStep

LOOK_SOON: Final = timedelta(seconds=30)
"""Until what takes seconds is looked at again: at the next tick."""

LOOK_LATE: Final = timedelta(minutes=5)
"""The longest time until what takes hours is looked at again: somebody may be waiting for it."""


Askable = InsertInstance | DeleteInstance | DeleteDisk | cloud.Set
"""What a step asks for by a goal."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What is to be so, as one read shows it."""

    what: str  # names it within its step
    met: bool
    ask: Callable[[int], Askable] | None = None  # for the number of the attempt; None: it is on its way, or hindered
    hindered: Failure | None = None  # why it cannot be asked for now, and may be later
    lost: Failure | None = None  # why it never will be so


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one change that was asked for ended."""

    request_id: str
    what: str
    outcome: Literal["succeeded", "failed"]
    failure: Failure | None = None

    @property
    def body(self) -> dict[str, Any]:
        """As an audit record keeps it."""
        said = {"code": self.failure.code, "message": self.failure.message} if self.failure else {}
        return {"request_id": self.request_id, "what": self.what, "outcome": self.outcome, **said}


@dataclass(frozen=True, slots=True)
class Pursued:
    """What came of looking at the goals of a step once. Nothing of it is done yet."""

    step: RestoreStep
    intents: tuple[Change, ...] = ()  # asked for the first time: recorded with the commit
    starts: tuple[Change, ...] = ()  # to be asked for after it: the intents, and repeated asks
    outcomes: tuple[Outcome, ...] = ()
    met: bool = False  # all of them
    dead: Failure | None = None  # why one of them never will be
    look_at: datetime | None = None


@dataclass(slots=True)
class _Looked:
    asks: list[RestoreAsk] = field(default_factory=list)
    intents: list[Change] = field(default_factory=list)
    repeats: list[Change] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    dead: Failure | None = None
    why: Failure | None = None
    looks: list[datetime] = field(default_factory=list)
    waits: bool = False
    asker: str = ""
    asked: int = 0  # by the step so far


def pursue(
    step: RestoreStep,
    goals: Iterable[Goal],
    operations: Mapping[str, Operation | None],
    now: datetime,
    *,
    asker: str,
    asks_max: int | None,
) -> Pursued:
    """Look at each goal once. `asks_max`: attempts at one of them, after which it is taken for lost; None: no bound.

    `asker` names the step among all steps of all restores. `operations` were read before what the goals are judged by.
    """
    known = {ask.what: ask for ask in step.asks}
    seen = _Looked(asker=asker, asked=step.asked)
    for goal in goals:
        _look(goal, known.pop(goal.what, None), operations, now, asks_max, seen)
    for ask in known.values():  # of a goal that is none any more
        seen.outcomes += [] if ask.failure else [ended(ask, operations, None)]
    if seen.dead is not None:  # nothing more is asked for
        begun = {cloud.request_id(change) for change in seen.intents}
        seen.asks = [ask for ask in seen.asks if ask.request not in begun]
        seen.intents, seen.repeats = [], []
    asked = bool(seen.intents or seen.repeats)
    after = replace(
        step,
        asks=seen.asks,
        asked=step.asked + len(seen.intents),
        asked_at=now if asked else step.asked_at,
        failure=seen.dead or seen.why or step.failure,
    )
    return Pursued(
        step=after,
        intents=tuple(seen.intents),
        starts=(*seen.intents, *seen.repeats),
        outcomes=tuple(seen.outcomes),
        met=not seen.waits and seen.dead is None,
        dead=seen.dead,
        look_at=min(seen.looks, default=now + LOOK_SOON),
    )


def asker(restore: Restore, at: int) -> str:
    """Names the step at this place of a restore among all that may ask for the same."""
    return f"{restore.id}:{at}"


def _look(
    goal: Goal,
    ask: RestoreAsk | None,
    operations: Mapping[str, Operation | None],
    now: datetime,
    asks_max: int | None,
    seen: _Looked,
) -> None:
    if goal.met:
        if ask is not None and ask.failure is None:
            seen.outcomes.append(Outcome(ask.request, ask.what, "succeeded"))
        return
    seen.waits = True
    seen.why = goal.hindered or seen.why
    if goal.lost is not None:
        seen.dead = goal.lost
        if ask is not None and ask.failure is None:
            seen.outcomes.append(Outcome(ask.request, ask.what, "failed", goal.lost))
            ask = replace(ask, failure=goal.lost)
        seen.asks += [ask] if ask is not None else []
        return
    if ask is not None and ask.failure is None and ask.operation is not None:
        ask = _answered(ask, goal, operations, now, asks_max, seen)
    if ask is None or (ask.failure is not None and ask.retry_at is not None and ask.retry_at <= now):
        if goal.ask is None:
            seen.asks += [ask] if ask is not None else []
            return
        attempt = ask.attempt + 1 if ask is not None else 1
        number = seen.asked + len(seen.intents) + 1
        change = changed(goal.ask(number), asker=seen.asker)
        seen.intents.append(change)
        ask = RestoreAsk(what=goal.what, attempt=attempt, number=number, at=now, request=cloud.request_id(change))
    elif ask.failure is not None and ask.retry_at is None:
        seen.dead = ask.failure
    elif ask.failure is not None and ask.retry_at is not None:
        seen.why = seen.why or ask.failure
        seen.looks.append(ask.retry_at)
    elif ask.operation is None and goal.ask is not None:
        seen.repeats.append(changed(goal.ask(ask.number), asker=seen.asker))
        ask = replace(ask, at=now)
    seen.asks.append(ask)


def _answered(
    ask: RestoreAsk,
    goal: Goal,
    operations: Mapping[str, Operation | None],
    now: datetime,
    asks_max: int | None,
    seen: _Looked,
) -> RestoreAsk:
    """The attempt, which an operation was named for, after a read that does not show what it is to bring about."""
    assert ask.operation is not None
    operation = operations.get(ask.operation)
    unread = ask.operation not in operations
    if unread or (operation is not None and operation.status != "DONE"):
        return ask
    if operation is not None and operation.error_code:
        not_yet = operation.error_code.endswith("NOT_READY")
        for_good = operation.error_code in PERMANENT or (operation.http_status in (400, 404) and not not_yet)
        why = Failure(code=operation.error_code, message=(operation.error_message or "")[:500])
    elif goal.ask is None:
        return ask  # it is on its way
    else:
        for_good, why = False, Failure(code="not_so", message=f"{goal.what}: it was done, and is not so")
    seen.outcomes.append(Outcome(ask.request, ask.what, "failed", why))
    return failed(ask, why, now, for_good=for_good, asks_max=asks_max)


def failed(ask: RestoreAsk, why: Failure, now: datetime, *, for_good: bool, asks_max: int | None) -> RestoreAsk:
    """The end of an attempt that is known not to have had its effect, and when the next one is due."""
    over = asks_max is not None and (for_good or ask.attempt >= asks_max)
    return replace(ask, failure=why, retry_at=None if over else now + backoff(ask.attempt - 1))


def ended(ask: RestoreAsk, operations: Mapping[str, Operation | None], why: Failure | None) -> Outcome:
    """How an attempt ended that nobody looks at the goal of any more."""
    operation = operations.get(ask.operation) if ask.operation is not None else None
    if operation is not None and operation.error_code:
        why = Failure(code=operation.error_code, message=(operation.error_message or "")[:500])
        return Outcome(ask.request, ask.what, "failed", why)
    if ask.operation is not None:
        return Outcome(ask.request, ask.what, "succeeded")
    unknown = Failure(code="unknown", message="what it was answered is not known")
    return Outcome(ask.request, ask.what, "failed", why or unknown)


def in_flight(ask: RestoreAsk, operations: Mapping[str, Operation | None], now: datetime) -> bool:
    """Whether what was asked for may still happen, though nobody asks for it any more."""
    if ask.failure is not None:
        return False
    if ask.operation is None:
        return now - ask.at < UNKNOWN_SETTLED
    operation = operations.get(ask.operation)
    return ask.operation not in operations or (operation is not None and operation.status != "DONE")


def noted(
    steps: Sequence[RestoreStep],
    operations: Mapping[str, str],
    refusals: Mapping[str, Failure],
    now: datetime,
    *,
    asks_max: int | None,
) -> tuple[list[RestoreStep], list[Outcome]]:
    """The steps with what their asks were answered, by request id: an operation, or a refusal."""
    outcomes: list[Outcome] = []
    after = []
    for step in steps:
        asks = []
        last = step.operation
        for before in step.asks:
            ask = before
            if ask.failure is None and ask.operation is None and ask.request in operations:
                last = operations[ask.request]
                ask = replace(ask, operation=last)
            elif ask.failure is None and ask.operation is None and ask.request in refusals:
                why = refusals[ask.request]
                bound = None if step.undo else asks_max
                ask = failed(ask, why, now, for_good=why.code in PERMANENT, asks_max=bound)
                outcomes.append(Outcome(ask.request, ask.what, "failed", why))
            asks.append(ask)
        after.append(replace(step, asks=asks, operation=last))
    return after, outcomes

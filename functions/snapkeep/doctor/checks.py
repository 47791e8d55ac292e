"""What `snapkeep doctor` finds: facts in, verdicts with findings and their mends out. Pure.

CHECKS is the table. A check that could not read what it judges says so; it is never well by default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal, TypeVar, assert_never

from snapkeep.deployment import Delivery, Deployment
from snapkeep.doctor.facts import (
    DELETED_TOPIC,
    Facts,
    Function,
    Job,
    Known,
    Letters,
    NotHere,
    Offset,
    Read,
    Subscription,
    Tick,
    Unread,
)
from snapkeep.wording import count

T = TypeVar("T")

Severity = Literal["error", "warning"]
Stand = Literal["ok", "finding", "cannot be told", "not here"]

LATE_PERIODS: Final = 2
LATE_SLACK: Final = timedelta(minutes=10)
"""A function is silent once its last tick is older than two periods and this: the longest run, and its delivery."""

SKEW_MAX: Final = timedelta(seconds=30)
"""Between two clocks. Slots are kept to the minute, and a tick's own time is taken up to a call before Firestore's."""

LETTERS_DAYS: Final = 7
"""For how long dead letters are found after they were settled."""

LOCAL_MEND: Final = "snapkeep sim mend"
RESTART: Final = "end `snapkeep up` with Ctrl-C, and start it again"
DEPLOY: Final = "make deploy"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong."""

    severity: Severity
    where: str  # the resource
    what: str  # what is wrong with it, and what follows
    mend: str  # the exact command


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check came to."""

    check: str
    stand: Stand
    said: str  # what was looked at, or why nothing was
    findings: tuple[Finding, ...] = ()
    untold: tuple[Unread, ...] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is declared, and so should be there."""

    deployment: Deployment

    @property
    def woken(self) -> dict[str, str]:
        """Each function that messages wake, and its topic."""
        return {name: f.topic for name, f in self.deployment.functions.items() if f.topic is not None}

    @property
    def ticking(self) -> dict[str, str]:
        """Each function that Cloud Scheduler wakes, and its cron expression."""
        return {name: f.schedule for name, f in self.deployment.functions.items() if f.schedule is not None}

    @property
    def topics(self) -> frozenset[str]:
        of_ours = self.deployment
        return frozenset((*self.woken.values(), *of_ours.topics_out, of_ours.subscription.dead_letter_topic))


@dataclass(frozen=True, slots=True)
class Seen:
    """What a check's function answers; the table makes a Verdict of it."""

    said: str
    findings: tuple[Finding, ...] = ()
    untold: tuple[Unread, ...] = ()
    here: bool = True


Look = Callable[[Facts, Wanted], Seen]


def examined(facts: Facts, wanted: Wanted) -> tuple[Verdict, ...]:
    """The verdict of every check, in the order of the table."""
    return tuple(_verdict(name, look(facts, wanted)) for name, look in CHECKS)


def green(verdicts: tuple[Verdict, ...]) -> bool:
    """Whether nothing was found, and nothing left untold."""
    return all(verdict.stand in ("ok", "not here") for verdict in verdicts)


def _verdict(name: str, seen: Seen) -> Verdict:
    stand: Stand = "ok"
    if seen.findings:
        stand = "finding"
    elif seen.untold:
        stand = "cannot be told"
    elif not seen.here:
        stand = "not here"
    return Verdict(name, stand, seen.said, seen.findings, seen.untold)


def _of(read: Read[T], judged: Callable[[T], Seen]) -> Seen:
    """What is judged of a fact that was read; of another one, that and why it was not."""
    match read:
        case Known(value=value):
            return judged(value)
        case Unread():
            return Seen("", untold=(read,))
        case NotHere(why=why):
            return Seen(why, here=False)
        case _:
            assert_never(read)


def _both(*seen: Seen) -> Seen:
    """Several looks as one."""
    here = [one for one in seen if one.here] or list(seen)
    return Seen(
        "; ".join(one.said for one in here if one.said),
        tuple(finding for one in seen for finding in one.findings),
        tuple(untold for one in seen for untold in one.untold),
        here=any(one.here for one in seen),
    )


def _mend(facts: Facts) -> str:
    """What puts topics and subscriptions right."""
    return LOCAL_MEND if facts.local else DEPLOY


# --- functions ----------------------------------------------------------------------------------------------------


def functions(facts: Facts, wanted: Wanted) -> Seen:
    def judged(found: Mapping[str, Function]) -> Seen:
        missing = [name for name in wanted.deployment.functions if name not in found]
        findings = [
            Finding("error", f"function {name}", "it is not deployed: its work is left undone", _again(facts))
            for name in missing
        ]
        for name, function in found.items():
            if function.state != "ACTIVE":
                what = f"it is {function.state}, expected ACTIVE"
                findings.append(Finding("error", f"function {name}", what, _again(facts)))
        said = "run" if facts.local else "are deployed"
        return Seen(f"{len(found)} of {len(wanted.deployment.functions)} {said}", tuple(findings))

    return _of(facts.functions, judged)


def _again(facts: Facts) -> str:
    return RESTART if facts.local else DEPLOY


# --- Pub/Sub ------------------------------------------------------------------------------------------------------


def topics(facts: Facts, wanted: Wanted) -> Seen:
    def judged(found: frozenset[str]) -> Seen:
        functions = {topic: name for name, topic in wanted.woken.items()}
        findings = tuple(
            Finding("error", f"topic {topic}", f"it is not there: {_unheard(functions.get(topic))}", _mend(facts))
            for topic in sorted(wanted.topics - found)
        )
        return Seen(f"{len(wanted.topics & found)} of {len(wanted.topics)} are there", findings)

    return _of(facts.topics, judged)


def _unheard(function: str | None) -> str:
    if function is None:
        return "what is published to it is lost"
    return f"nothing wakes function {function}, and its subscription hears nothing"


def subscriptions(facts: Facts, wanted: Wanted) -> Seen:
    """Those of topics that are there, or could not be read: a missing topic is a finding of its own."""

    def judged(found: Mapping[str, Subscription]) -> Seen:
        delivery = wanted.deployment.subscription
        gone = _missing_topics(facts, wanted)
        findings = []
        for function, topic in wanted.woken.items():
            subscription = found.get(topic)
            if topic in gone:
                continue
            if subscription is None:
                what = f"it is not there: no message reaches function {function}"
            else:
                what = "; ".join(_wrongs(facts, delivery, function, topic, subscription))
            if what:
                findings.append(Finding("error", f"subscription {topic}", what, _mend(facts)))
        wanting = wanted.woken.values()
        return Seen(f"{sum(topic in found for topic in wanting)} of {len(wanting)} are there", tuple(findings))

    return _of(facts.subscriptions, judged)


def _missing_topics(facts: Facts, wanted: Wanted) -> frozenset[str]:
    return wanted.topics - facts.topics.value if isinstance(facts.topics, Known) else frozenset()


def _wrongs(facts: Facts, delivery: Delivery, function: str, topic: str, found: Subscription) -> Iterator[str]:
    """What of a subscription is not as infra/functions.yaml has it."""
    if found.topic == DELETED_TOPIC:
        yield "it hears nothing: its topic was deleted and made anew"
    elif found.topic != topic:
        yield f"it is of topic {found.topic}"
    if found.endpoint is None:
        yield f"it pushes to nobody, so that function {function} is not woken"
    elif not found.endpoint.partition("?")[0].endswith(f"/projects/{facts.project}/topics/{topic}"):
        # functions-framework learns the topic from there.
        yield f"its push endpoint {found.endpoint} does not end in /projects/{facts.project}/topics/{topic}"
    if topic != delivery.dead_letter_topic:
        if found.dead_letter_topic is None:
            yield "it has no dead letters: a message that cannot be handled is tried until it is lost"
        elif (found.dead_letter_topic, found.attempts_max) != (
            delivery.dead_letter_topic,
            delivery.max_delivery_attempts,
        ):
            yield (
                f"its dead letters go to {found.dead_letter_topic} after {found.attempts_max} attempts, expected "
                f"{delivery.dead_letter_topic} after {delivery.max_delivery_attempts}"
            )
    if found.ack_deadline_s != delivery.ack_deadline_s:
        yield f"its ack deadline is {found.ack_deadline_s} s, expected {delivery.ack_deadline_s} s"
    if found.retry_min_s is None:
        yield f"it has no retry policy, expected {delivery.retry_min_s} to {delivery.retry_max_s} s"
    elif (found.retry_min_s, found.retry_max_s) != (delivery.retry_min_s, delivery.retry_max_s):
        was = f"{found.retry_min_s:g} to {found.retry_max_s:g} s"
        yield f"it tries again after {was}, expected {delivery.retry_min_s} to {delivery.retry_max_s} s"
    if found.retention != timedelta(days=delivery.retention_days):
        yield f"it keeps messages for {found.retention}, expected {count(delivery.retention_days, 'day')}"
    if found.expires is not None:
        yield f"it is deleted when it was not used for {found.expires}, expected never"


# --- dead letters -------------------------------------------------------------------------------------------------


def dead_letters(facts: Facts, wanted: Wanted) -> Seen:
    topic = wanted.deployment.subscription.dead_letter_topic

    def waiting(number: int) -> Seen:
        what = (
            f"{count(number, 'dead letter')} wait{'s' * (number == 1)} there, which function dead_letters did not take"
        )
        found = (Finding("error", f"subscription {topic}", what, _reading_logs(facts)),) if number else ()
        return Seen(f"{number} wait", found)

    def settled(letters: Letters) -> Seen:
        if not letters.number:
            return Seen(f"none in {count(LETTERS_DAYS, 'day')}")
        ended = f"{count(letters.number, 'message')} ended there in {count(LETTERS_DAYS, 'day')}"
        what = f"{ended}; the newest: {letters.newest}"
        finding = Finding("warning", f"topic {topic}", what, "snapkeep fleet health")
        return Seen(f"{letters.number} in {count(LETTERS_DAYS, 'day')}", (finding,))

    return _both(_of(facts.waiting_letters, waiting), _of(facts.settled_letters, settled))


def _reading_logs(facts: Facts) -> str:
    if facts.local:
        return "less .snapkeep/up/dead_letters.log"
    return f"gcloud functions logs read snapkeep-dead-letters --gen2 --project {facts.project}"


# --- Cloud Scheduler ----------------------------------------------------------------------------------------------


def schedules(facts: Facts, wanted: Wanted) -> Seen:
    def judged(found: Mapping[str, Job]) -> Seen:
        stopped = [name for name in wanted.ticking if name in found and found[name].state != "ENABLED"]
        if facts.local and len(stopped) == len(wanted.ticking):
            what = f"it is stopped: {count(len(stopped), 'function')} get no ticks, so that nothing begins by itself"
            return Seen(
                "stopped", (Finding("error", "Cloud Scheduler's stand-in", what, "snapkeep sim scheduler start"),)
            )
        findings = tuple(_wrong_jobs(facts, wanted, found))
        return Seen(f"{sum(name in found for name in wanted.ticking)} of {len(wanted.ticking)} are there", findings)

    return _of(facts.jobs, judged)


def _wrong_jobs(facts: Facts, wanted: Wanted, found: Mapping[str, Job]) -> Iterator[Finding]:
    for name, cron in wanted.ticking.items():
        job, topic = found.get(name), wanted.woken.get(name)
        where = f"schedule {name}"
        if job is None:
            yield Finding("error", where, f"it is not there: function {name} gets no ticks", DEPLOY)
            continue
        if job.state != "ENABLED":
            yield Finding("error", where, f"it is {job.state}: function {name} gets no ticks", DEPLOY)
        if (job.cron, job.topic) != (cron, topic) or job.timezone not in ("UTC", "Etc/UTC"):
            was = f"'{job.cron}' ({job.timezone}) to {job.topic or 'no topic'}"
            yield Finding("error", where, f"it is {was}, expected '{cron}' (UTC) to {topic}", DEPLOY)
        if job.failure:
            yield Finding("error", where, f"its last attempt failed: {job.failure}", DEPLOY)


def ticks(facts: Facts, wanted: Wanted) -> Seen:
    """Whether functions do what their ticks ask. Silence that another finding explains is not found twice."""

    def judged(found: Mapping[str, Tick]) -> Seen:
        silent = [name for name, cron in wanted.ticking.items() if _silent(facts, name, cron, found.get(name))]
        if not silent:
            return Seen(f"{len(wanted.ticking)} functions, none of them silent")
        why = {name for name in silent if _explained(facts, wanted, name)}
        findings = tuple(
            Finding("error", f"function {name}", _since(found.get(name)), _waking(facts, name))
            for name in silent
            if name not in why
        )
        explained = f"{_are(len(why))} silent, for what is found of schedules, topics or subscriptions" if why else ""
        of_their_own = f"{_are(len(findings))} silent" if findings else ""
        return Seen("; ".join(filter(None, (of_their_own, explained))), findings)

    return _of(facts.ticks, judged)


def _are(number: int) -> str:
    return f"{count(number, 'function')} {'is' if number == 1 else 'are'}"


def _silent(facts: Facts, name: str, cron: str, tick: Tick | None) -> bool:
    job = facts.jobs.value.get(name) if isinstance(facts.jobs, Known) else None
    known = [at for at in (tick.at if tick else None, job.changed_at if job else None) if at is not None]
    return not known or facts.now - max(known) > LATE_PERIODS * period(cron) + LATE_SLACK


def _since(tick: Tick | None) -> str:
    last = f"it last carried one out {tick.at:%Y-%m-%d %H:%M}Z" if tick else "it never carried one out"
    return f"its ticks are published, and {last}"


def _waking(facts: Facts, name: str) -> str:
    log = f".snapkeep/up/{name}.log" if facts.local else f"gcloud functions logs read snapkeep-{name} --gen2"
    return f"snapkeep tick {name}; then read its log: {log}"


def _explained(facts: Facts, wanted: Wanted, name: str) -> bool:
    """Whether a finding of another check says why this function has no ticks."""
    topic = wanted.woken[name]
    if topic in _missing_topics(facts, wanted):
        return True
    if isinstance(facts.subscriptions, Known):
        subscription = facts.subscriptions.value.get(topic)
        if subscription is None or subscription.topic != topic or subscription.endpoint is None:
            return True
    if isinstance(facts.jobs, Known):
        job = facts.jobs.value.get(name)
        return job is None or job.state != "ENABLED"
    return False


def period(cron: str) -> timedelta:
    """Between two ticks of the forms that infra/functions.yaml has: minutes of every hour, in every hour.

    Raises ValueError for another one.
    """
    minute, *rest = cron.split()
    if rest == ["*"] * 4:
        if minute == "*":
            return timedelta(minutes=1)
        if minute.isdigit():
            return timedelta(hours=1)
        if minute.startswith("*/") and minute[2:].isdigit():
            return timedelta(minutes=int(minute[2:]))
    raise ValueError(f"{cron!r}: expected '* * * * *', '*/N * * * *' or 'M * * * *'")


# --- clocks -------------------------------------------------------------------------------------------------------


def clocks(facts: Facts, wanted: Wanted) -> Seen:
    def judged(offsets: tuple[Offset, ...]) -> Seen:
        worst = max((abs(one.ahead) for one in offsets), default=timedelta())
        findings = tuple(
            Finding(
                "error",
                one.clock,
                _off(one),
                RESTART if facts.local else "chronyc tracking; then mend its time service",
            )
            for one in offsets
            if abs(one.ahead) > SKEW_MAX
        )
        return Seen(f"{count(len(offsets), 'comparison')}, at most {worst.total_seconds():.0f} s apart", findings)

    return _of(facts.clocks, judged)


def _off(offset: Offset) -> str:
    by = f"{abs(offset.ahead).total_seconds():.0f} s"
    way = "ahead of" if offset.ahead > timedelta() else "behind"
    return f"it is {by} {way} {offset.of}: slots and locks are off by as much"


# --- the table ----------------------------------------------------------------------------------------------------

CHECKS: Final[tuple[tuple[str, Look], ...]] = (
    ("functions", functions),
    ("topics", topics),
    ("subscriptions", subscriptions),
    ("dead letters", dead_letters),
    ("schedules", schedules),
    ("ticks", ticks),
    ("clocks", clocks),
)

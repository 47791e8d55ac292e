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
    Binding,
    Columns,
    Database,
    Facts,
    Function,
    Indexed,
    Job,
    Known,
    Letters,
    NotHere,
    Offset,
    Quota,
    Read,
    Resource,
    Subscription,
    TenantProject,
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

QUOTA_FULL: Final = 0.8
"""The share of a quota from which it is a finding: raising one takes Google days."""

WELL: Final = ("ENABLED", "there")
"""States of keys and networks that are as they should be."""

APIS: Final = frozenset(
    f"{name}.googleapis.com"
    for name in (
        "artifactregistry",
        "cloudbuild",
        "cloudfunctions",
        "cloudresourcemanager",
        "cloudscheduler",
        "compute",
        "firestore",
        "iam",
        "logging",
        "monitoring",
        "pubsub",
        "run",
        "storage",
    )
)
"""What every deployment asks of its project (infra/gcp/apis.tf)."""

BOUND: Final = ("snapkeep", "topic", "instances", "vault")
"""Places of roles that are looked at; the others are bound to single networks and service accounts."""

THIS_MACHINE: Final = "the clock of this machine"
"""Of the clocks that are compared the one that an operator sets himself."""

PUSHES: Final = "sk-push"
"""The service account that Pub/Sub's pushes are signed as."""

INGRESS: Final = ("ALLOW_INTERNAL_ONLY", "ALLOW_INTERNAL_AND_GCLB")
"""Whence functions may be called; the second for those that answer people, behind their load balancer."""

PUBLISHES: Final = "roles/pubsub.publisher"
TAKES: Final = "roles/pubsub.subscriber"
"""What Pub/Sub's service agent needs, of the dead-letter topic and of each subscription that letters die on."""

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
class Granted:
    """A custom role that a function is to hold."""

    id: str
    function: str
    place: str  # snapkeep, topic, instances, vault, or another that is not looked at
    permissions: frozenset[str]
    conditional: bool = False  # to be bound with an IAM condition alone


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is declared, and so should be there."""

    deployment: Deployment
    composites: frozenset[tuple[str, str, Columns]]
    fields: Mapping[tuple[str, str], Indexed]
    roles: tuple[Granted, ...]

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
        "; ".join(dict.fromkeys(one.said for one in here if one.said)),  # several say the same of an emulator
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
            what = "; ".join(_wrong_function(facts, wanted, name, function))
            if what:
                findings.append(Finding("error", f"function {name}", what, _again(facts)))
        releases = sorted({one.release for one in found.values() if one.release is not None})
        if len(releases) > 1:
            findings.append(Finding("error", "functions", f"they are of releases {', '.join(releases)}", DEPLOY))
        active = sum(name in found and found[name].state == "ACTIVE" for name in wanted.deployment.functions)
        said = "run" if facts.local else "are active"
        return Seen(f"{active} of {len(wanted.deployment.functions)} {said}", tuple(findings))

    return _of(facts.functions, judged)


def _wrong_function(facts: Facts, wanted: Wanted, name: str, found: Function) -> Iterator[str]:
    if found.state != "ACTIVE":
        yield f"it is {found.state}, expected ACTIVE"
    if facts.local:
        return
    runs_as = f"{account(name)}@{facts.project}.iam.gserviceaccount.com"
    if found.account != runs_as:
        yield f"it runs as {found.account}, expected {runs_as}"
    allowed = INGRESS[:1] if name in wanted.woken else INGRESS
    if found.ingress not in allowed:
        yield f"its ingress is {found.ingress}, expected {' or '.join(allowed)}"
    if found.release is None:
        yield "it is of no release"


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
    elif not facts.local:
        yield from _wrong_identity(facts, function, topic, found)
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


def _wrong_identity(facts: Facts, function: str, topic: str, found: Subscription) -> Iterator[str]:
    """Where a push goes, and as whom: the function lets nobody else in."""
    pushes = f"{PUSHES}@{facts.project}.iam.gserviceaccount.com"
    if found.account != pushes:
        yield f"it is signed as {found.account or 'nobody'}, expected {pushes}"
    one = facts.functions.value.get(function) if isinstance(facts.functions, Known) else None
    if one is not None and one.url is not None:
        if found.endpoint != f"{one.url}/projects/{facts.project}/topics/{topic}":
            yield f"it pushes to {found.endpoint}, and the function is at {one.url}"
        if found.audience != one.url:
            yield f"its token is meant for {found.audience}, expected {one.url}"


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

    def granted(agent: str) -> Seen:
        return _of(facts.grants, lambda grants: Seen("granted", tuple(_ungranted(wanted, agent, grants))))

    return _both(
        _of(facts.waiting_letters, waiting),
        _of(facts.settled_letters, settled),
        _of(facts.agent, granted),
        # Should nobody know whom they are to be granted to, it is still told whether they could be read.
        Seen("", here=False) if isinstance(facts.agent, Known) else _of(facts.grants, lambda _: Seen("")),
    )


def _ungranted(wanted: Wanted, agent: str, grants: Mapping[str, frozenset[Binding]]) -> Iterator[Finding]:
    """What Pub/Sub's service agent lacks: without it nothing ever gets among the dead letters."""
    letters = wanted.deployment.subscription.dead_letter_topic
    needed = [(f"topic {letters}", PUBLISHES)]
    needed += [(f"subscription {topic}", TAKES) for topic in wanted.woken.values() if topic != letters]
    for where, role in needed:
        if not any(one.role == role and one.member == agent for one in grants.get(where, ())):
            yield Finding("error", where, f"{agent} does not hold {role}: what cannot be delivered is tried on", DEPLOY)


def _reading_logs(facts: Facts) -> str:
    if facts.local:
        return "less .snapkeep/up/dead_letters.log"
    return _logs(facts, "dead_letters")


def _logs(facts: Facts, function: str) -> str:
    where = f'resource.labels.service_name="{deployed_name(function)}"'
    return f"gcloud logging read '{where}' --project {facts.project} --freshness=3h --limit=50"


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
    log = f"less .snapkeep/up/{name}.log" if facts.local else _logs(facts, name)
    return f"snapkeep tick {name}; then read what it says: {log}"


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
                _setting(facts, one),
            )
            for one in offsets
            if abs(one.ahead) > SKEW_MAX
        )
        return Seen(f"{count(len(offsets), 'comparison')}, at most {worst.total_seconds():.0f} s apart", findings)

    return _of(facts.clocks, judged)


def _setting(facts: Facts, offset: Offset) -> str:
    if facts.local:
        return RESTART
    return "timedatectl set-ntp true" if offset.clock == THIS_MACHINE else DEPLOY


def _off(offset: Offset) -> str:
    by = f"{abs(offset.ahead).total_seconds():.0f} s"
    way = "ahead of" if offset.ahead > timedelta() else "behind"
    return f"it is {by} {way} {offset.of}: slots and locks are off by as much"


# --- what there is on Google Cloud alone --------------------------------------------------------------------------


def apis(facts: Facts, wanted: Wanted) -> Seen:
    def judged(enabled: frozenset[str]) -> Seen:
        findings = tuple(
            Finding(
                "error", f"API {api}", "it is not enabled", f"gcloud services enable {api} --project {facts.project}"
            )
            for api in sorted(APIS - enabled)
        )
        return Seen(f"{len(APIS & enabled)} of {len(APIS)} are enabled", findings)

    return _of(facts.apis, judged)


def database(facts: Facts, wanted: Wanted) -> Seen:
    def judged(found: Database | None) -> Seen:
        if found is None:
            return Seen("none", (Finding("error", "Firestore", "the database is not there", DEPLOY),))
        wrongs = []
        if found.type != "FIRESTORE_NATIVE":
            wrongs.append(f"it is {found.type}, expected FIRESTORE_NATIVE")
        if not found.protected:
            wrongs.append("it is not protected from being deleted")
        if not found.recoverable:
            wrongs.append("it has no point-in-time recovery")
        findings = (Finding("error", "Firestore", "; ".join(wrongs), DEPLOY),) if wrongs else ()
        return Seen(found.type, findings)

    return _of(facts.database, judged)


def indexes(facts: Facts, wanted: Wanted) -> Seen:
    """Composite ones, single fields and TTL. What is not READY serves no query yet."""

    def composite(found: Mapping[tuple[str, str, Columns], str]) -> Seen:
        findings = []
        for key in sorted(wanted.composites):
            collection, scope, columns = key
            where = f"index of {collection} ({scope}): {', '.join(f'{name} {way}' for name, way in columns)}"
            state = found.get(key)
            if state is None:
                findings.append(Finding("error", where, "it is not there: a query of Snapkeep's fails", DEPLOY))
            elif state != "READY":
                again = "wait and look again: snapkeep doctor" if state == "CREATING" else DEPLOY
                findings.append(Finding("error", where, f"it is {state}, expected READY", again))
        return Seen(
            f"{len(wanted.composites & found.keys())} of {len(wanted.composites)} composite ones", tuple(findings)
        )

    def single(found: Mapping[tuple[str, str], Indexed]) -> Seen:
        findings = []
        for (collection, field), needed in sorted(wanted.fields.items()):
            indexed = found.get((collection, field))
            wrongs = []
            if indexed is None:
                wrongs.append("it is indexed as Firestore does by itself")
            else:
                lacking = sorted(needed.indexes - indexed.indexes)
                too_many = sorted(indexed.indexes - needed.indexes)
                wrongs += [f"it lacks {' '.join(one)}" for one in lacking]
                wrongs += [f"it has {' '.join(one)}, which no query uses" for one in too_many]
                if not indexed.ready:
                    wrongs.append("it is not READY")
                if needed.expires and not indexed.expires:
                    wrongs.append("it has no TTL: what has expired is kept for ever")
            if wrongs:
                findings.append(Finding("error", f"field {collection}.{field}", "; ".join(wrongs), DEPLOY))
        return Seen(f"{len(wanted.fields.keys() & found.keys())} of {len(wanted.fields)} fields", tuple(findings))

    return _both(_of(facts.composites, composite), _of(facts.fields, single))


def roles(facts: Facts, wanted: Wanted) -> Seen:
    """In Snapkeep's own project: each custom role's permissions, who holds what, and that nobody has a key."""

    def permissions(found: Mapping[str, frozenset[str] | None]) -> Seen:
        own = {role.id: role for role in wanted.roles if role.place in ("snapkeep", "topic")}
        findings = tuple(_wrong_roles(facts.project, own, found, DEPLOY))
        return Seen(f"{count(len(own), 'role')}", findings)

    def bindings(policy: frozenset[Binding]) -> Seen:
        places = frozenset({"snapkeep"})
        accounts = wanted.deployment.functions
        return Seen(
            f"{count(len(accounts), 'service account')}",
            tuple(_held(facts.project, facts, wanted, places, policy, DEPLOY)),
        )

    def keys(found: Mapping[str, int]) -> Seen:
        findings = tuple(
            Finding("error", f"service account {name}", f"people made {count(number, 'key')} of it", _keys(facts, name))
            for name, number in sorted(found.items())
            if number
        )
        return Seen("no keys" if not findings else "keys", findings)

    return _both(_of(facts.roles, permissions), _of(facts.policy, bindings), _of(facts.keys, keys))


def _keys(facts: Facts, name: str) -> str:
    of = f"--iam-account={name}@{facts.project}.iam.gserviceaccount.com"
    return f"gcloud iam service-accounts keys list --managed-by=user {of}; then `keys delete` each"


def _wrong_roles(
    project: str, own: Mapping[str, Granted], found: Mapping[str, frozenset[str] | None], mend: str
) -> Iterator[Finding]:
    for id, role in own.items():
        held, where = found.get(id), f"role projects/{project}/roles/{id}"
        if held is None:
            yield Finding("error", where, f"it is not there: function {role.function} is refused what it does", mend)
            continue
        lacking, too_many = sorted(role.permissions - held), sorted(held - role.permissions)
        parts = [f"it lacks {', '.join(lacking)}"] if lacking else []
        parts += [f"it holds {', '.join(too_many)}, which nothing declares"] if too_many else []
        if parts:
            yield Finding("error", where, "; ".join(parts), mend)


def _held(
    project: str, facts: Facts, wanted: Wanted, places: frozenset[str], policy: frozenset[Binding], mend: str
) -> Iterator[Finding]:
    """What functions' service accounts lack of their roles in a project's policy, and what else they hold there."""
    for name in wanted.deployment.functions:
        member = f"serviceAccount:{account(name)}@{facts.project}.iam.gserviceaccount.com"
        of_it = [role for role in wanted.roles if role.function == name]
        due = {f"projects/{project}/roles/{role.id}" for role in of_it if role.place in places}
        # Those of networks and of service accounts may be held of the project or of one resource.
        may = due | {f"projects/{project}/roles/{role.id}" for role in of_it if role.place not in BOUND}
        held = {binding.role for binding in policy if binding.member == member}
        where = f"service account {account(name)} in {project}"
        if due - held:
            yield Finding("error", where, f"it is not bound to {', '.join(sorted(due - held))}", mend)
        bare = {binding.role for binding in policy if binding.member == member and not binding.conditional}
        for role in of_it:
            id = f"projects/{project}/roles/{role.id}"
            if role.place in places and role.conditional and id in bare:
                yield Finding("error", where, f"it holds {id} without the condition on names", mend)
        for id in sorted(held - may):
            yield Finding("error", where, f"it holds {id}, which it is not to", _unbinding(project, member, id))


def _unbinding(project: str, member: str, role: str) -> str:
    return f"gcloud projects remove-iam-policy-binding {project} --member={member} --role={role} --all"


def quotas(facts: Facts, wanted: Wanted) -> Seen:
    """Rates of API calls are not among them: Cloud Monitoring's alert looks at those."""

    def judged(found: tuple[Quota, ...]) -> Seen:
        findings = []
        for quota in found:
            if quota.limit > 0 and quota.usage / quota.limit >= QUOTA_FULL:
                place = f"{quota.project}, {quota.region or 'global'}"
                what = f"{quota.usage:g} of {quota.limit:g} are used"
                url = f"https://console.cloud.google.com/iam-admin/quotas?project={quota.project}"
                findings.append(Finding("warning", f"quota {quota.metric} of {place}", what, f"ask for more at {url}"))
        return Seen(f"{count(len(found), 'quota')}, without API rates", tuple(findings))

    return _of(facts.quotas, judged)


def projects(facts: Facts, wanted: Wanted) -> Seen:
    """Of every tenant: the project of its instances, and its vault."""

    def judged(found: tuple[TenantProject, ...]) -> Seen:
        looked = [_project(facts, wanted, one) for one in found]
        return _both(Seen(f"{count(len(found), 'project')} of tenants"), *looked)

    return _of(facts.projects, judged)


def _project(facts: Facts, wanted: Wanted, project: TenantProject) -> Seen:
    mend = f"terraform apply, where infra/gcp/tenant is applied for {', '.join(project.tenants)}"
    own = [role for role in wanted.roles if role.place in project.places]

    def enabled(on: bool) -> Seen:
        api = "compute.googleapis.com"
        enable = f"gcloud services enable {api} --project {project.id}"
        return Seen("", () if on else (Finding("error", f"API {api} in {project.id}", "it is not enabled", enable),))

    def permissions(found: Mapping[str, frozenset[str] | None]) -> Seen:
        return Seen("", tuple(_wrong_roles(project.id, {role.id: role for role in own}, found, mend)))

    def bindings(policy: frozenset[Binding]) -> Seen:
        return Seen("", tuple(_held(project.id, facts, wanted, project.places, policy, mend)))

    def resource(one: Resource) -> Seen:
        def judged(state: str | None) -> Seen:
            if state in WELL:
                return Seen("")
            what = "it is not there" if state is None else f"it is {state}"
            return Seen("", (Finding("error", f"{one.kind} {one.link}", what, mend),))

        return _of(one.state, judged)

    return _both(
        _of(project.compute, enabled),
        _of(project.roles, permissions),
        _of(project.policy, bindings),
        *map(resource, project.resources),
    )


# --- names --------------------------------------------------------------------------------------------------------


def deployed_name(function: str) -> str:
    """What its Cloud Run function and its job of Cloud Scheduler are called."""
    return f"snapkeep-{function.replace('_', '-')}"


def account(function: str) -> str:
    """Its service account, before the @."""
    return f"sk-{function.replace('_', '-')}"


# --- the table ----------------------------------------------------------------------------------------------------

CHECKS: Final[tuple[tuple[str, Look], ...]] = (
    ("APIs", apis),
    ("functions", functions),
    ("topics", topics),
    ("subscriptions", subscriptions),
    ("dead letters", dead_letters),
    ("schedules", schedules),
    ("ticks", ticks),
    ("clocks", clocks),
    ("Firestore", database),
    ("indexes", indexes),
    ("roles", roles),
    ("quotas", quotas),
    ("tenants' projects", projects),
)

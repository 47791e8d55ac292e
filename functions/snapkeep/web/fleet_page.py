"""What the fleet page says, derived from the fleet's view: the verdict, what needs somebody, tiles, strips of days.

Pure. The template only places these values; it decides nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final, Literal

from snapkeep import documents as d
from snapkeep.commands import Kind
from snapkeep.health import TESTED_AS, State, TestedAs
from snapkeep.views import PERIODS, FleetView, LastTick, TenantLine
from snapkeep.wording import COPY_WORDS, age, count, size

DAYS: Final = 35
"""Days in a strip: what `days` of a tenant's health holds."""

NAMES_SHOWN: Final = 3
"""Unprotected instances that are named at once; the others unfold."""

FIRST_TICKS: Final = "on a local cloud time stands still until snapkeep sim advance 10m"

REASON_CHARS_MAX: Final = 400
"""Of a bad message's reason and excerpt; the whole stands in `rejected` and comes with the API."""

Mark = Literal["verified", "failed", "missed", "none"]
Tone = Literal["bad", "warn", "good", "plain"]

MARKS: Final[tuple[Mark, ...]] = ("verified", "failed", "missed", "none")
MARK_WORDS: Final[Mapping[Mark, str]] = {
    "verified": "verified",
    "failed": "failed",
    "missed": "missed",
    "none": "without a slot",
}
KIND_WORDS: Final[Mapping[Kind, str]] = {
    "creation": "New points",
    "deletion": "Deletion",
    "restore": "Restores",
}
STATE_WORDS: Final[Mapping[State, str]] = {
    "breached": "breached",
    "at_risk": "at risk",
    "protected": "protected",
    "client_managed": "client-managed",
    "offboarded": "offboarded",
}


# --- what is stopped ----------------------------------------------------------------------------------------------


def paused(kinds: d.PausedKinds) -> list[str]:
    """A sentence for each kind of change that is stopped somewhere."""
    stood = ((what, stopped(getattr(kinds, kind))) for kind, what in KIND_WORDS.items())
    return [f"{what}: paused {where}" for what, where in stood if where]


def stopped(one: d.Paused) -> str:
    """Where one kind of change is stopped; empty for nowhere."""
    parts = ["for the whole fleet"] if one.fleet else []
    for names, noun in ((one.projects, "project"), (one.tenants, "tenant")):
        if names:
            more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
            parts.append(f"for {noun}{'s' * (len(names) > 1)} {', '.join(names[:NAMES_SHOWN])}{more}")
    return ", ".join(parts)


# --- copies -------------------------------------------------------------------------------------------------------


def _undelivered(counts: Mapping[str, int]) -> list[str]:
    """What was bought and is not there."""
    missing, late = counts.get("missing", 0), counts.get("lagging", 0)
    said = [f"{count(missing, 'copy', 'copies')} {'is' if missing == 1 else 'are'} missing"] * bool(missing)
    return said + [f"{count(late, 'copy', 'copies')} {'is' if late == 1 else 'are'} late"] * bool(late)


def _but(counts: Mapping[str, int]) -> str:
    """What a verdict adds where copies that were bought are not there."""
    worst = next((name for name in ("missing", "lagging") if counts.get(name)), None)
    return f", but copies are {COPY_WORDS[worst]}" if worst else ""


def _sums(view: FleetView) -> Mapping[str, int]:
    """Copies of the fleet; for whoever sees one tenant alone, of that one."""
    if view.totals is not None:
        return view.totals.copies
    return Counter({name: number for line in view.tenants for name, number in line.copies.items()})


TEST_CONCERNS: Final[tuple[tuple[TestedAs, Tone, tuple[str, str]], ...]] = (
    ("failed", "bad", ("failed", "failed")),
    ("overdue", "warn", ("is overdue", "are overdue")),
)
"""How tenants stand by their restore tests that somebody should look at, the worst first; for one, and for several."""


# --- the strip ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Day:
    day: str  # YYYY-MM-DD, the tenant's local day
    mark: Mark
    text: str


@dataclass(frozen=True, slots=True)
class Strip:
    """How the last days of one tenant ended, oldest first."""

    days: tuple[Day, ...]
    label: str  # the strip in one sentence, for whoever does not see it


def last_day(now: datetime, tenants: Sequence[Mapping[str, str]]) -> date:
    """The last day of every strip of a page, so that they stand below one another.

    Today in UTC; or tomorrow, where a tenant's local day has begun and ended sooner. `now` is in UTC.
    """
    today = now.date()
    tomorrow = today + timedelta(days=1)
    return tomorrow if any(tomorrow.isoformat() in days for days in tenants) else today


def strip(days: Mapping[str, str], last: date) -> Strip:
    """The 35 days up to `last`. A day that has not ended, or had no slot, has no mark; neither has an unknown word."""
    window = [(last - timedelta(days=back)).isoformat() for back in range(DAYS - 1, -1, -1)]
    shown = tuple(_day(day, days.get(day)) for day in window)
    counts = Counter(day.mark for day in shown)
    told = ", ".join(f"{counts[mark]} {MARK_WORDS[mark]}" for mark in MARKS if counts[mark])
    return Strip(shown, f"{DAYS} days: {told}")


def _day(day: str, ended: str | None) -> Day:
    mark: Mark = next((mark for mark in MARKS if mark == ended), "none")
    return Day(day, mark, f"{day}: {ended or 'no slot'}")


# --- what needs somebody ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Concern:
    """One thing that somebody should look at, with its reason."""

    tone: Tone
    what: str  # the state or kind, in a word or two
    who: str  # whom or what it concerns
    tenant: str | None  # its id, where it is about one
    since: datetime | None
    reasons: tuple[str, ...]
    names: tuple[str, ...] = ()  # of what is unprotected


def concerns(view: FleetView) -> list[Concern]:
    """What needs somebody, the worst first: breaches, silent functions, tenants at risk, lost snapshots, copies, bad
    messages."""
    tenants = [_of_tenant(line, view.at) for line in view.tenants if line.state in ("breached", "at_risk")]
    breached = [concern for concern in tenants if concern.tone == "bad"]
    at_risk = [concern for concern in tenants if concern.tone != "bad"]
    return [
        *breached,
        *_silent(view.ticks, view.at),
        *at_risk,
        *_incomplete(view),
        *_copies(view),
        *_tests(view),
        *_bad_messages(view),
    ]


def _of_tenant(line: TenantLine, now: datetime) -> Concern:
    return Concern(
        tone="bad" if line.state == "breached" else "warn",
        what=STATE_WORDS[line.state],
        who=line.name,
        tenant=line.id,
        since=line.breach_at,
        reasons=tuple(_reasons(line, now)),
        names=tuple(line.unprotected),
    )


def _reasons(line: TenantLine, now: datetime) -> list[str]:
    reasons = []
    if line.newest_verified_at is not None:
        reasons.append(f"newest verified point {age(line.newest_verified_at, now)} old")
    last = max(line.days, default=None)
    if last is not None and line.days[last] != "verified":
        reasons.append(f"the slot of {last} {'was missed' if line.days[last] == 'missed' else line.days[last]}")
    if line.unprotected:
        reasons.append(f"{count(len(line.unprotected), 'instance')} unprotected")
    return reasons


def _silent(ticks: Sequence[LastTick], now: datetime) -> list[Concern]:
    silent = [tick for tick in ticks if tick.silent]
    if not silent:
        return []
    stopped = any(tick.at for tick in silent)
    reasons = [f"{tick.function}: {_silence(tick, now)}" for tick in silent]
    if not stopped:
        # A Snapkeep that has just begun; on a local cloud its first ticks are waiting for somebody to let time pass.
        reasons = [f"never ticked: {', '.join(tick.function for tick in silent)}", FIRST_TICKS]
    return [
        Concern(
            tone="bad" if stopped else "warn",
            what="silent" if stopped else "not yet",
            who=f"{count(len(silent), 'function')} {_is(silent)} silent" if stopped else _not_yet(ticks),
            tenant=None,
            since=min((tick.at for tick in silent if tick.at), default=None),
            reasons=tuple(reasons),
        )
    ]


def _is(some: Sequence[object]) -> str:
    return "is" if len(some) == 1 else "are"


def _not_yet(ticks: Sequence[LastTick]) -> str:
    return "Not every function has run yet" if any(tick.at for tick in ticks) else "No function has run yet"


def _silence(tick: LastTick, now: datetime) -> str:
    every = f"ticks every {age(now - PERIODS[tick.function], now)}"
    return f"last tick {age(tick.at, now)} ago, {every}" if tick.at else f"never ticked, {every}"


def _incomplete(view: FleetView) -> list[Concern]:
    """Points and copies that cannot be restored as a whole any more, in one line."""
    lost = view.totals.incomplete if view.totals else sum(line.incomplete for line in view.tenants)
    if not lost:
        return []
    told = (_whose([line.name for line in view.tenants if line.incomplete]), "kept for a person to judge")
    return [Concern("warn", "snapshots", f"{count(lost, 'point')} lost a snapshot", None, None, told)]


def _copies(view: FleetView) -> list[Concern]:
    """Copies that were bought and are not there, in one line: where a region is away they are those of many."""
    undelivered = _undelivered(_sums(view))
    if not undelivered:
        return []
    told = _whose([line.name for line in view.tenants if _undelivered(line.copies)])
    return [Concern("warn", "copies", " and ".join(undelivered), None, None, (told,))]


def _tests(view: FleetView) -> list[Concern]:
    """Tenants whose last restore test failed, or is too long ago. That one never had any is on its own line."""
    tests = _tested(view)
    found = []
    for stands, tone, words in TEST_CONCERNS:
        if number := tests.get(stands, 0):
            told = _whose([line.name for line in view.tenants if line.tested == stands])
            who = f"{count(number, 'restore test')} {words[number > 1]}"
            found.append(Concern(tone, "tests", who, None, None, (told,)))
    return found


def _tested(view: FleetView) -> Mapping[str, int]:
    """Tenants by what their restore tests say; for whoever sees one tenant alone, that one."""
    if view.totals is not None:
        return view.totals.restore_tests
    return Counter(line.tested for line in view.tenants if line.tested is not None)


def _whose(names: Sequence[str]) -> str:
    """Of whom something is; of the tenants that this page has."""
    more = f" and {count(len(names) - NAMES_SHOWN, 'other')}" if len(names) > NAMES_SHOWN else ""
    return f"of {', '.join(names[:NAMES_SHOWN])}{more}" if names else "of tenants on a further page"


def _bad_messages(view: FleetView) -> list[Concern]:
    dead, rejected = (view.totals.dead_letters, view.totals.rejected) if view.totals else (0, 0)
    if not dead and not rejected:
        return []
    kinds = [count(dead, "dead letter")] * bool(dead) + [count(rejected, "rejected message")] * bool(rejected)
    newest = max(view.bad_messages, key=lambda bad: bad.at, default=None)
    told = (f"the newest {age(newest.at, view.at)} ago, for {newest.function}",) if newest else ()
    who = f"{' and '.join(kinds)} in 7 days"
    return [Concern("bad" if dead else "warn", "messages", who, None, None, told)]


# --- the verdict --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Verdict:
    tone: Tone
    text: str


def verdict(view: FleetView, *, first: bool) -> Verdict:
    """The fleet in one sentence; `first`: the view is the first page, where those that need somebody stand."""
    breached, at_risk = _in_state(view, "breached"), _in_state(view, "at_risk")
    whole = first and view.next is None
    if view.totals and not whole:
        breached = max(breached, view.totals.breached)
    more = " or more" if view.next and view.tenants and view.tenants[-1].state == "at_risk" else ""
    silent = [tick for tick in view.ticks if tick.silent]
    if not view.tenants and first and not (view.totals and view.totals.tenants):
        return Verdict("plain", "No tenants yet")
    if breached:
        return Verdict("bad", f"{count(breached, 'tenant')} in breach")
    if any(tick.at for tick in silent):
        return Verdict("bad", f"{count(len(silent), 'function')} {_is(silent)} silent")
    if silent:
        return Verdict("warn", _not_yet(view.ticks))
    if at_risk:
        return Verdict("warn", f"No breach, {at_risk}{more} at risk")
    if not first:
        return Verdict("plain", "No tenant is in breach")
    others = _in_state(view, "client_managed") + _in_state(view, "offboarded")
    ours = "vendor-managed tenant" if others else "tenant"
    if but := _but(_sums(view)):
        return Verdict("warn", f"Every {ours} is protected{but}")
    return Verdict("good", f"Every {ours} is protected")


OWN: Final[Mapping[State, tuple[Tone, str]]] = {
    "breached": ("bad", "{} is in breach"),
    "at_risk": ("warn", "{} is at risk"),
    "protected": ("good", "{} is protected"),
    "client_managed": ("plain", "{} is client-managed: the schedule takes nothing of it"),
    "offboarded": ("plain", "{} has left"),
}


def own_verdict(view: FleetView) -> Verdict:
    """The same for whoever sees one tenant alone: how it stands."""
    for line in view.tenants:
        tone, text = OWN[line.state]
        if line.state == "protected" and (but := _but(line.copies)):
            return Verdict("warn", f"{text.format(line.name)}{but}")
        return Verdict(tone, text.format(line.name))
    return Verdict("plain", "No figures yet")


def _in_state(view: FleetView, state: State) -> int:
    return sum(line.state == state for line in view.tenants)


# --- tiles --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tile:
    label: str
    value: str
    tone: Tone = "plain"


def tiles(view: FleetView) -> list[Tile]:
    """The totals; none before function `health` has computed them."""
    totals = view.totals
    if totals is None:
        return []
    return [
        Tile("tenants", f"{totals.tenants:,}"),
        Tile("instances", f"{totals.instances:,}"),
        Tile("breached", f"{totals.breached:,}", "bad" if totals.breached else "plain"),
        Tile("unprotected", f"{totals.unprotected:,}", "warn" if totals.unprotected else "plain"),
        Tile("running", f"{totals.running:,}"),
        Tile("stored at home", size(totals.bytes)),
        *_copy_tiles(totals.copies),
        *_test_tiles(totals.restore_tests),
        Tile("go in 7 days", f"{totals.going:,}"),
        Tile("client-managed", f"{totals.client_managed:,}"),
        Tile("dead letters, 7 days", f"{totals.dead_letters:,}", "bad" if totals.dead_letters else "plain"),
    ]


def _copy_tiles(counts: Mapping[str, int]) -> list[Tile]:
    """Where there are copies: how many, and what of them somebody may have to look at."""
    if not counts:
        return []
    told = [
        Tile(f"copies {words}", f"{counts[name]:,}", "plain" if name == "unentitled" else "warn")
        for name, words in COPY_WORDS.items()
        if counts.get(name)
    ]
    return [Tile("copies", f"{counts.get('verified', 0):,}"), *told]


TEST_TONES: Final[Mapping[TestedAs, Tone]] = {"passed": "plain", "failed": "bad", "never": "warn", "overdue": "warn"}


def _test_tiles(tests: Mapping[str, int]) -> list[Tile]:
    """Where restore tests are wanted: how many tenants' last one passed, and what somebody may have to look at."""
    shown = [one for one in TESTED_AS if tests.get(one) or (one == "passed" and tests)]
    words = {"never": "never tested"}
    return [Tile(words.get(one, f"tests {one}"), f"{tests.get(one, 0):,}", TEST_TONES[one]) for one in shown]


# --- words --------------------------------------------------------------------------------------------------------


def cut(text: str) -> str:
    """At most REASON_CHARS_MAX characters of a text that others wrote."""
    return text if len(text) <= REASON_CHARS_MAX else f"{text[: REASON_CHARS_MAX - 1]}…"

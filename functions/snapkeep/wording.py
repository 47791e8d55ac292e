"""Sizes, instants and ages in the words that the command line and the pages show. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from snapkeep.documents import Point

COPY_WORDS: Final[Mapping[str, str]] = {
    "missing": "missing",
    "lagging": "late",
    "unentitled": "no longer bought",
}
"""Of counts of copies (`health.COPIES`) that somebody may have to look at, the worst first."""


def size(count: int) -> str:
    """Bytes in the unit that leaves one to three digits before the point: `12.4 GiB`."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if amount < 1000 or unit == "TiB":
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    raise AssertionError


def moment(at: datetime | None) -> str:
    """An instant in UTC, to the minute: `2026-11-22 03:05Z`."""
    return "never" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M}Z"


def age(at: datetime | None, now: datetime) -> str:
    """How long ago, in the two largest units: `5h 10m`, `3d 4h`."""
    if at is None:
        return "never"
    minutes = max((now - at) // timedelta(minutes=1), 0)
    days, rest = divmod(minutes, 24 * 60)
    hours, minutes = divmod(rest, 60)
    return f"{days}d {hours}h" if days else f"{hours}h {minutes}m" if hours else f"{minutes}m"


def count(number: int, noun: str, nouns: str | None = None) -> str:
    """`1 point`, `2 points`; `nouns`: where it is not the noun and an s."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {nouns or f'{noun}s'}"


def copies(counts: Mapping[str, int]) -> str:
    """What of copies somebody may have to look at: `2 missing, 1 late`; empty where there is nothing."""
    return ", ".join(f"{counts[name]:,} {words}" for name, words in COPY_WORDS.items() if counts.get(name))


def count_sets(number: int, of_copies: int) -> str:
    """So many sets, of which so many are copies: `12 points and 3 copies`."""
    at_home = number - of_copies
    said = [count(at_home, "point")] if at_home or not of_copies else []
    return " and ".join(said + ([count(of_copies, "copy", "copies")] if of_copies else []))


def said_of(one: Point) -> Iterator[str]:
    """What holds one set of a point, why it goes, what of it is gone, why it failed, and that a test of it did."""
    for hold in one.holds:
        yield f"held {f'until {moment(hold.until)}' if hold.until else 'until it is released'}: {hold.reason}"
    if one.expiry:
        begun = f"its deletion began {moment(one.expiry.begun_at)}"
        later = f"not before {moment(one.expiry.delete_after)}"
        yield f"goes: {one.expiry.reason}; {begun if one.expiry.begun_at else later}"
    for name in one.gone:
        yield f"gone: {name}, though nobody here deleted it"
    if one.failure:
        yield f"{one.failure.code}: {one.failure.message}"
    if not one.usable:
        yield "a restore test of it failed: it is not to be relied on"

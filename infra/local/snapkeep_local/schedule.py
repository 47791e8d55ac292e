"""The functions as the local cloud runs them, and which of them Cloud Scheduler would wake at a minute."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

from snapkeep.deployment import deployment

TICK: Final = b'{"schema":1,"type":"tick"}'


@dataclass(frozen=True, slots=True)
class Function:
    """One that messages of its topic wake."""

    name: str
    entry_point: str
    topic: str
    schedule: str | None
    every_min: int | None  # minutes between ticks; None: never


@dataclass(frozen=True, slots=True)
class HttpFunction:
    """One that answers HTTP."""

    name: str
    entry_point: str


@lru_cache(maxsize=1)
def functions() -> tuple[Function, ...]:
    return tuple(
        Function(name, f.entry_point, f.topic, f.schedule, every_min(f.schedule))
        for name, f in deployment().functions.items()
        if f.topic is not None
    )


@lru_cache(maxsize=1)
def http_functions() -> tuple[HttpFunction, ...]:
    return tuple(HttpFunction(name, f.entry_point) for name, f in deployment().functions.items() if f.topic is None)


def processes() -> tuple[Function | HttpFunction, ...]:
    """All of them, each of which is a process."""
    return (*functions(), *http_functions())


def every_min(cron: str | None) -> int | None:
    """The period in minutes of the cron forms that functions.yaml uses: `* * * * *`, `*/N * * * *`, `M * * * *`.

    Raises ValueError for any other form, which the local scheduler does not know.
    """
    return None if cron is None else _minutes(cron)[0]


def _minutes(cron: str) -> tuple[int, int]:
    """The period, and the first minute of the hour. Raises ValueError."""
    minute, *rest = cron.split()
    if rest == ["*"] * 4:
        if minute.isdigit() and int(minute) <= 59:
            return 60, int(minute)
        period = "1" if minute == "*" else minute.removeprefix("*/")
        if period.isdigit() and 1 <= int(period) <= 59 and 60 % int(period) == 0:
            return int(period), 0
    raise ValueError(
        f"functions.yaml: schedule {cron!r}: expected '* * * * *', '*/N * * * *', N dividing 60, or 'M * * * *'"
    )


def ticking(at: datetime) -> tuple[Function, ...]:
    """The functions that are woken at this minute (UTC)."""
    return _ticking(at.minute)


@lru_cache(maxsize=60)
def _ticking(minute: int) -> tuple[Function, ...]:
    return tuple(f for f in functions() if f.schedule is not None and _ticks(f.schedule, minute))


def _ticks(cron: str, minute: int) -> bool:
    period, first = _minutes(cron)
    return minute % period == first


@lru_cache(maxsize=64)
def asking(query: str) -> tuple[str, ...]:
    """The functions that ask a row of `store.QUERIES`."""
    return tuple(name for name, f in deployment().functions.items() if query in f.queries)


def wait(at: datetime, functions: tuple[str, ...]) -> timedelta:
    """How long after this minute one of these functions ticks; nothing, where one does in it."""
    return _wait(at.minute, functions)


@lru_cache(maxsize=1024)
def _wait(minute: int, functions: tuple[str, ...]) -> timedelta:
    waits = (n for n in range(60) if any(one.name in functions for one in _ticking((minute + n) % 60)))
    return timedelta(minutes=next(waits))

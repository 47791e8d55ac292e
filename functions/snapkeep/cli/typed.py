"""What is typed for a time: an instant, a local day, or how long."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import click

UNITS: Final = {"d": timedelta(days=1), "h": timedelta(hours=1), "m": timedelta(minutes=1), "s": timedelta(seconds=1)}
DURATION: Final = re.compile(r"(?:\d{1,6}[dhms])+")


class Moment(click.ParamType[datetime]):
    """An instant: `2026-11-22T00:00:00Z`; a day alone is its beginning in UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not a time such as 2026-11-22T00:00:00Z", param, ctx)
        if at.tzinfo is None and "T" not in value and " " not in value:
            return at.replace(tzinfo=UTC)
        if at.tzinfo is None:
            self.fail(f"{value!r} has no time zone; {value}Z would be UTC", param, ctx)
        return at.astimezone(UTC)


class Day(click.ParamType[str]):
    """A local day: `2026-11-22`."""

    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return date.fromisoformat(value).isoformat()
        except ValueError:
            self.fail(f"{value!r} is not a day such as 2026-11-22", param, ctx)


class Duration(click.ParamType[timedelta]):
    """`26h`, `90m`, `1d12h`: whole numbers of days, hours, minutes and seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        if not DURATION.fullmatch(value):
            self.fail(f"{value!r} is not a duration such as 26h, 90m or 1d12h", param, ctx)
        parts = re.findall(r"(\d+)([dhms])", value)
        duration = sum((int(number) * UNITS[unit] for number, unit in parts), timedelta())
        if not duration:
            self.fail(f"{value!r} is no time at all", param, ctx)
        return duration


class Name(click.ParamType[str]):
    """A name, of which something has to be left: a script's unset variable must not ask for everything."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value:
            self.fail("it is empty: give a name, or leave the option out", param, ctx)
        return str(value)

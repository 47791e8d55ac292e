"""The policy's rules, case by case: local times in, reasons out.

The expectations are worked out by hand from what restic's `forget --keep-*` (0.16 and later) does with these local
times: going from the newest point to the oldest, each rule counts a point whose bucket differs from that of the last
point that it counted, and the oldest point in any case, as long as it has room. `within` is measured in calendar days
back from the newest point, which itself is in and that moment out.

A case is what it shows, its policy (every rule that is not named keeps nothing) and, but for UTC, its time zone; then
a line for each point, newest first: its local time, and the reasons that keep it, or `-`. `again` is the second time
that clocks show it, `Z` a time in UTC.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from tests.makers import point

from snapkeep.documents import Point, Retention
from snapkeep.retention.rules import Expire, Keep, Situation, plan


@dataclass(frozen=True)
class Case:
    what: str
    policy: str
    points: tuple[str, ...]
    zone: str = "UTC"


TABLE = """
# --- last ---------------------------------------------------------------------------------------------------------

the last three of five | last 3
    2026-11-23 02:30  last 1/3
    2026-11-22 02:30  last 2/3
    2026-11-21 02:30  last 3/3
    2026-11-20 02:30  -
    2026-11-19 02:30  -

last counts points, not days | last 2
    2026-11-23 02:32  last 1/2
    2026-11-23 02:31  last 2/2
    2026-11-23 02:30  -
    2026-11-22 02:30  -

fewer points than last asks for | last 3
    2026-11-23 02:30  last 1/3
    2026-11-22 02:30  last 2/3

points of one moment are as many points | last 2
    2026-11-23 02:30  last 1/2
    2026-11-23 02:30  last 2/2
    2026-11-23 02:30  -

the only point has no older one to be newer than | last 1 daily 1 weekly 1 monthly 1 yearly 1
    2026-11-23 02:30  last 1/1, daily 1/1, weekly 1/1, monthly 1/1, yearly 1/1


# --- daily --------------------------------------------------------------------------------------------------------

the newest of each of the last two days | daily 2
    2026-11-23 14:00  daily 1/2
    2026-11-23 02:30  -
    2026-11-22 14:00  daily 2/2
    2026-11-22 02:30  -
    2026-11-21 02:30  -

a second before midnight is another day | daily 2
    2026-11-23 00:00:00  daily 1/2
    2026-11-22 23:59:59  daily 2/2
    2026-11-22 23:59:58  -

midnight itself begins the day | daily 1
    2026-11-23 23:59:59  daily 1/1
    2026-11-23 00:00:00  -
    2026-11-22 23:59:59  -

days without a point do not count | daily 3
    2026-11-23 02:30  daily 1/3
    2026-09-02 02:30  daily 2/3
    2026-01-15 02:30  daily 3/3
    2026-01-14 02:30  -

the same day of another month is another day | daily 2
    2026-11-23 02:30  daily 1/2
    2026-10-23 02:30  daily 2/2
    2025-10-23 02:30  -

fewer days than daily asks for | daily 14
    2026-11-23 02:30  daily 1/14
    2026-11-22 02:30  daily 2/14
    2026-11-21 02:30  daily 3/14

a leap day is a day | daily 3
    2024-03-01 02:30  daily 1/3
    2024-02-29 02:30  daily 2/3
    2024-02-28 02:30  daily 3/3
    2024-02-27 02:30  -


# --- the oldest ---------------------------------------------------------------------------------------------------

with room left, the oldest point of the same day is kept too | daily 14
    2026-11-23 14:00  daily 1/14
    2026-11-23 08:00  -
    2026-11-23 02:30  daily 2/14 (oldest)

the oldest takes the last room | daily 2
    2026-11-23 14:00  daily 1/2
    2026-11-23 08:00  -
    2026-11-23 02:30  daily 2/2 (oldest)

without room, the oldest goes like any other | daily 1
    2026-11-23 14:00  daily 1/1
    2026-11-23 02:30  -

an oldest point that is the newest of its day counts for that | daily 2
    2026-11-23 14:00  daily 1/2
    2026-11-22 02:30  daily 2/2

the last room went to the day that the oldest is of | daily 2
    2026-11-23 02:30  daily 1/2
    2026-11-22 14:00  daily 2/2
    2026-11-22 02:30  -

the oldest of one moment with the newest is kept as the oldest | daily 2
    2026-11-23 02:30  daily 1/2
    2026-11-23 02:30  -
    2026-11-23 02:30  daily 2/2 (oldest)

the oldest is kept by every rule that has room | daily 3 weekly 2 monthly 5 yearly 1
    2026-11-26 10:00  daily 1/3, weekly 1/2, monthly 1/5, yearly 1/1
    2026-11-25 10:00  daily 2/3
    2026-11-25 09:00  daily 3/3 (oldest), weekly 2/2 (oldest), monthly 2/5 (oldest)

the oldest may be new to one rule and the oldest to another | daily 3 monthly 3
    2026-11-26 10:00  daily 1/3, monthly 1/3
    2026-11-25 10:00  daily 2/3
    2026-11-24 10:00  daily 3/3, monthly 2/3 (oldest)

a rule that keeps nothing does not keep the oldest either | last 1
    2026-11-23 02:30  last 1/1
    2020-01-01 02:30  -


# --- weekly -------------------------------------------------------------------------------------------------------

a week begins on Monday | weekly 2
    2026-11-23 00:00:00  weekly 1/2
    2026-11-22 23:59:59  weekly 2/2
    2026-11-21 02:30     -

from Monday to Sunday is one week | weekly 1
    2026-11-22 23:59:59  weekly 1/1
    2026-11-16 00:00:00  -
    2026-11-15 23:59:59  -

week 53 of 2020 goes on in January | weekly 3
    2021-01-04 02:30  weekly 1/3
    2021-01-03 02:30  weekly 2/3
    2021-01-01 02:30  -
    2020-12-31 02:30  -
    2020-12-28 02:30  -
    2020-12-27 02:30  weekly 3/3
    2020-12-26 02:30  -

week 53 of 2026 and the new year | weekly 2 yearly 2
    2027-01-01 02:30  weekly 1/2, yearly 1/2
    2026-12-31 02:30  yearly 2/2
    2026-12-28 02:30  -
    2026-12-27 02:30  weekly 2/2
    2026-12-26 02:30  -

the last days of 2025 are of week 1 of 2026 | weekly 2
    2026-01-04 02:30  weekly 1/2
    2025-12-29 02:30  -
    2025-12-28 02:30  weekly 2/2
    2025-12-27 02:30  -

week 1 at both ends of 2024 is two weeks | weekly 3
    2024-12-30 02:30  weekly 1/3
    2024-01-01 02:30  weekly 2/3
    2023-12-31 02:30  weekly 3/3
    2023-12-30 02:30  -

the same week of another year is another week | weekly 2
    2026-11-23 02:30  weekly 1/2
    2025-11-17 02:30  weekly 2/2
    2025-11-16 02:30  -

weeks without a point do not count | weekly 2
    2026-11-23 02:30  weekly 1/2
    2026-03-05 02:30  weekly 2/2
    2026-03-04 02:30  -
    2026-02-20 02:30  -

the oldest of the only week | weekly 8
    2026-11-27 02:30  weekly 1/8
    2026-11-26 02:30  -
    2026-11-25 02:30  weekly 2/8 (oldest)

a leap day can end a month within a week | weekly 1 monthly 2
    2024-03-01 02:30  weekly 1/1, monthly 1/2
    2024-02-29 02:30  monthly 2/2
    2024-02-28 02:30  -


# --- monthly ------------------------------------------------------------------------------------------------------

a month ends a second before the first | monthly 2
    2026-11-01 00:00:00  monthly 1/2
    2026-10-31 23:59:59  monthly 2/2
    2026-10-31 02:30     -

the newest of each month | monthly 3
    2026-11-23 02:30  monthly 1/3
    2026-11-01 02:30  -
    2026-10-30 02:30  monthly 2/3
    2026-10-01 02:30  -
    2026-09-17 02:30  monthly 3/3
    2026-09-16 02:30  -

the same month of another year is another month | monthly 2
    2026-11-23 02:30  monthly 1/2
    2025-11-23 02:30  monthly 2/2
    2024-11-23 02:30  -

months without a point do not count | monthly 3
    2026-11-23 02:30  monthly 1/3
    2026-06-02 02:30  monthly 2/3
    2025-12-31 02:30  monthly 3/3
    2025-12-30 02:30  -

February of a leap year ends on the 29th | monthly 2
    2024-03-01 02:30  monthly 1/2
    2024-02-29 02:30  monthly 2/2
    2024-02-28 02:30  -

fewer months than monthly asks for keep the oldest of the last | monthly 12
    2026-11-23 02:30  monthly 1/12
    2026-10-31 02:30  monthly 2/12
    2026-10-15 02:30  -
    2026-10-02 02:30  monthly 3/12 (oldest)


# --- yearly -------------------------------------------------------------------------------------------------------

a year ends a second before January | yearly 2
    2026-01-01 00:00:00  yearly 1/2
    2025-12-31 23:59:59  yearly 2/2
    2025-12-31 02:30     -

the first of January keeps a year though its week is the old year's | yearly 2
    2021-01-01 02:30  yearly 1/2
    2020-12-31 02:30  yearly 2/2
    2020-01-01 02:30  -

years without a point do not count | yearly 3
    2026-11-23 02:30  yearly 1/3
    2023-02-01 02:30  yearly 2/3
    2016-02-29 02:30  yearly 3/3
    2016-02-28 02:30  -

fewer years than yearly asks for | yearly 10
    2026-11-23 02:30  yearly 1/10
    2026-11-22 02:30  -
    2025-05-05 02:30  yearly 2/10
    2025-05-04 02:30  yearly 3/10 (oldest)


# --- within -------------------------------------------------------------------------------------------------------

exactly so many days old is too old | within 7
    2026-11-23 12:00:00  within 7 days
    2026-11-16 12:00:01  within 7 days
    2026-11-16 12:00:00  -
    2026-11-16 11:59:59  -

within counts from the newest point, however long ago that is | within 30
    2019-06-30 02:30  within 30 days
    2019-06-01 02:30  within 30 days
    2019-05-31 02:30  -

within one day | within 1
    2026-11-23 02:30  within 1 day
    2026-11-22 02:31  within 1 day
    2026-11-22 02:30  -

within does not keep the oldest | within 10
    2026-11-23 02:30  within 10 days
    2026-11-13 02:30  -

thirty days back over February | within 30
    2026-03-15 12:00  within 30 days
    2026-02-13 12:01  within 30 days
    2026-02-13 12:00  -

thirty days back over a leap day | within 30
    2024-03-15 12:00  within 30 days
    2024-02-14 12:01  within 30 days
    2024-02-14 12:00  -

a year of days is not a year where a leap day lies between | within 365
    2024-03-01 12:00  within 365 days
    2023-03-02 12:01  within 365 days
    2023-03-02 12:00  -
    2023-03-01 12:00  -

every point within is kept, also several of a day | within 2
    2026-11-23 14:00  within 2 days
    2026-11-23 02:30  within 2 days
    2026-11-22 14:00  within 2 days
    2026-11-22 02:30  within 2 days
    2026-11-21 14:00  -


# --- daylight-saving days -----------------------------------------------------------------------------------------

a day that begins at one o'clock | daily 2 | America/Sao_Paulo
    2018-11-04 01:00:00  daily 1/2
    2018-11-03 23:59:59  daily 2/2
    2018-11-03 23:59:58  -

a day whose last hour comes twice is one day | daily 2 | America/Sao_Paulo
    2018-02-18 00:00:00        daily 1/2
    2018-02-17 23:30:00 again  daily 2/2
    2018-02-17 23:30:00        -
    2018-02-17 00:00:00        -

of an hour that comes twice the second is the newer | daily 1 | Europe/Berlin
    2026-10-25 02:15 again  daily 1/1
    2026-10-25 02:45        -
    2026-10-25 02:15        -

a day of 23 hours is one day | daily 2 | Europe/Berlin
    2026-03-30 00:00:00  daily 1/2
    2026-03-29 23:59:59  daily 2/2
    2026-03-29 03:00:00  -
    2026-03-29 01:59:59  -
    2026-03-29 00:00:00  -

where clocks go back over midnight, the day that is come back to counts again | daily 5 | America/St_Johns
    2010-11-07 08:00:00        daily 1/5
    2010-11-06 23:30:00 again  daily 2/5
    2010-11-07 00:00:30        daily 3/5
    2010-11-06 23:30:00        daily 4/5
    2010-11-06 08:00:00        daily 5/5 (oldest)

a day that never was | daily 3 weekly 2 | Pacific/Apia
    2011-12-31 00:00:00  daily 1/3, weekly 1/2
    2011-12-29 23:59:59  daily 2/3
    2011-12-28 02:30:00  daily 3/3
    2011-12-25 02:30:00  weekly 2/2
    2011-12-24 02:30:00  -

a week with a day of 25 hours ends on Sunday all the same | weekly 2 | Europe/Berlin
    2026-10-26 00:00:00  weekly 1/2
    2026-10-25 23:59:59  weekly 2/2
    2026-10-25 02:30:00  -

within a day of 25 hours | within 1 | Europe/Berlin
    2026-10-25 12:00  within 1 day
    2026-10-24 12:01  within 1 day
    2026-10-24 12:00  -

within a day of 23 hours | within 1 | Europe/Berlin
    2026-03-29 12:00  within 1 day
    2026-03-28 12:01  within 1 day
    2026-03-28 12:00  -
    2026-03-28 11:01  -

back to a time that clocks skipped, east of Greenwich: an hour later | within 1 | Europe/Berlin
    2026-03-30 02:30  within 1 day
    2026-03-29 03:31  within 1 day
    2026-03-29 03:30  -
    2026-03-29 01:59  -

back to a time that clocks skipped, west of Greenwich: an hour earlier | within 1 | America/New_York
    2026-03-09 02:30  within 1 day
    2026-03-08 03:00  within 1 day
    2026-03-08 01:31  within 1 day
    2026-03-08 01:30  -

back to a time that came twice, east of Greenwich: the second | within 1 | Europe/Berlin
    2026-10-26 02:30        within 1 day
    2026-10-25 02:31 again  within 1 day
    2026-10-25 02:30 again  -
    2026-10-25 02:45        -
    2026-10-25 02:30        -

back to a time that came twice, west of Greenwich: the first | within 1 | America/New_York
    2026-11-02 01:30        within 1 day
    2026-11-01 01:30 again  within 1 day
    2026-11-01 01:31        within 1 day
    2026-11-01 01:30        -

back into a day that never was leads to where one came from | within 1 last 1 | Pacific/Apia
    2011-12-31 12:00  last 1/1
    2011-12-29 13:00  -


# --- time zones ---------------------------------------------------------------------------------------------------

one day in UTC | daily 1
    2026-11-22 23:30Z  daily 1/1
    2026-11-22 10:00Z  -
    2026-11-22 09:59Z  -
    2026-11-22 00:00Z  -

furthest east, midnight is at 10:00 UTC | daily 2 | Pacific/Kiritimati
    2026-11-22 23:30:00Z  daily 1/2
    2026-11-22 10:00:00Z  -
    2026-11-22 09:59:59Z  daily 2/2
    2026-11-22 00:00:00Z  -

furthest west, at 11:00 UTC | daily 2 | Pacific/Pago_Pago
    2026-11-22 23:30:00Z  daily 1/2
    2026-11-22 11:00:00Z  -
    2026-11-22 10:59:59Z  daily 2/2
    2026-11-22 00:00:00Z  -

half an hour off: midnight in India is at 18:30 UTC | daily 2 | Asia/Kolkata
    2026-11-22 23:30:00Z  daily 1/2
    2026-11-22 18:30:00Z  -
    2026-11-22 18:29:59Z  daily 2/2
    2026-11-22 00:00:00Z  -

three quarters off: in Nepal at 18:15 UTC | daily 2 | Asia/Kathmandu
    2026-11-22 23:30:00Z  daily 1/2
    2026-11-22 18:15:00Z  -
    2026-11-22 18:14:59Z  daily 2/2
    2026-11-22 00:00:00Z  -

half an hour off to the west: in the Marquesas at 09:30 UTC | daily 2 | Pacific/Marquesas
    2026-11-22 23:30:00Z  daily 1/2
    2026-11-22 09:30:00Z  -
    2026-11-22 09:29:59Z  daily 2/2
    2026-11-22 00:00:00Z  -

half an hour that comes twice | daily 1 within 1 | Australia/Lord_Howe
    2026-04-05 01:45 again  daily 1/1, within 1 day
    2026-04-05 01:45        within 1 day
    2026-04-04 01:46        within 1 day
    2026-04-04 01:45        -

Monday in New Zealand is Sunday in UTC | weekly 2 | Pacific/Auckland
    2026-11-22 11:00Z     weekly 1/2
    2026-11-22 10:59:59Z  weekly 2/2
    2026-11-22 10:00Z     -

the new year comes three hours later to Sao Paulo | monthly 2 yearly 2 | America/Sao_Paulo
    2026-01-01 03:00:00Z  monthly 1/2, yearly 1/2
    2026-01-01 02:59:59Z  monthly 2/2, yearly 2/2
    2025-12-31 23:00:00Z  -

within is the same local time, not so many hours | within 30 | America/New_York
    2026-11-20 05:00Z  within 30 days
    2026-10-21 04:01Z  within 30 days
    2026-10-21 04:00Z  -


# --- together -----------------------------------------------------------------------------------------------------

every rule together | last 2 daily 3 weekly 2 monthly 2 yearly 2 within 2
    2026-11-23 12:00  last 1/2, daily 1/3, weekly 1/2, monthly 1/2, yearly 1/2, within 2 days
    2026-11-23 02:30  last 2/2, within 2 days
    2026-11-22 02:30  daily 2/3, weekly 2/2, within 2 days
    2026-11-21 02:30  daily 3/3
    2026-11-20 02:30  -
    2026-10-31 02:30  monthly 2/2
    2026-10-30 02:30  -
    2025-12-31 02:30  yearly 2/2
    2025-12-30 02:30  -

the rules count apart: what one keeps is no less for another | last 3 daily 2
    2026-11-23 02:30  last 1/3, daily 1/2
    2026-11-22 02:30  last 2/3, daily 2/2
    2026-11-21 02:30  last 3/3
    2026-11-20 02:30  -

a rule that has room goes on where another ends | daily 2 weekly 3
    2026-11-25 02:30  daily 1/2, weekly 1/3
    2026-11-24 02:30  daily 2/2
    2026-11-23 02:30  -
    2026-11-22 02:30  weekly 2/3
    2026-11-16 02:30  -
    2026-11-15 02:30  weekly 3/3
    2026-11-14 02:30  -

the default policy after a gap of half a year | last 3 daily 14 weekly 8 monthly 12
    2026-11-23 02:30  last 1/3, daily 1/14, weekly 1/8, monthly 1/12
    2026-05-20 02:30  last 2/3, daily 2/14, weekly 2/8, monthly 2/12
    2026-05-19 02:30  last 3/3, daily 3/14
    2026-05-19 01:30  -
    2026-05-18 02:30  daily 4/14, weekly 3/8 (oldest), monthly 3/12 (oldest)
"""


# --- reading a case ------------------------------------------------------------------------------------------------


def cases(table: str) -> list[Case]:
    found = []
    for block in re.split(r"\n{2,}", re.sub(r"^#.*$", "", table, flags=re.MULTILINE).strip()):
        head, *points = block.splitlines()
        what, policy, *zone = head.split(" | ")
        found.append(Case(what, policy, tuple(points), *zone))
    return found


CASES = cases(TABLE)


def moment(text: str, zone: ZoneInfo) -> datetime:
    """`2026-11-23 02:30`, local; with `again` its second time, with `Z` in UTC. Raises where clocks never show it."""
    if text.endswith("Z"):
        return datetime.fromisoformat(text)
    local = datetime.fromisoformat(text.removesuffix(" again"))
    at = local.replace(tzinfo=zone, fold=int(text.endswith(" again"))).astimezone(UTC)
    assert at.astimezone(zone).replace(tzinfo=None) == local, f"{text} is skipped in {zone}"
    assert at.astimezone(zone).fold == text.endswith(" again"), f"{text} comes once in {zone}"
    return at


def read(case: Case) -> list[tuple[Point, tuple[str, ...]]]:
    rows = [re.split(r"\s{2,}", line.strip()) for line in case.points]
    zone = ZoneInfo(case.zone)
    return [
        (
            point(id=f"{number:02d}", state="verified", requested_at=moment(when, zone)),
            () if reasons == "-" else tuple(reasons.split(", ")),
        )
        for number, (when, reasons) in enumerate(rows)
    ]


def policy(text: str) -> Retention:
    words = text.split()
    fields = dict.fromkeys(("keep_last", "keep_daily", "keep_weekly", "keep_monthly"), 0)
    for name, count in zip(words[::2], words[1::2], strict=True):
        fields["keep_within_days" if name == "within" else f"keep_{name}"] = int(count)
    return Retention(**fields, keep_after_gone_days=3_660)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_each_point_is_kept_for_these_reasons(case: Case) -> None:
    rows = read(case)
    now = max(one.requested_at for one, _ in rows) + timedelta(days=400)
    # Of an instance that was lost yesterday: the policy counts, and no other rule has a word to say.
    lost = Situation(policy(case.policy), case.zone, now - timedelta(days=1), False, None, (), ())
    decided = plan([one for one, _ in reversed(rows)], lost, now).decisions
    assert [one.point for one in decided] == [one for one, _ in rows]
    found = [one.decision.reasons if isinstance(one.decision, Keep) else () for one in decided]
    assert found == [reasons for _, reasons in rows]
    assert all(isinstance(one.decision, Keep | Expire) for one in decided)


def test_the_table_has_the_cases_that_were_asked_for() -> None:
    assert len(CASES) >= 60
    assert len({case.what for case in CASES}) == len(CASES)


def test_a_point_from_the_future_is_not_what_within_counts_from() -> None:
    now = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
    ages = {"tomorrow": -1, "today": 0, "a week ago": 7, "eight days ago": 8}
    points = [point(id=id, state="verified", requested_at=now - timedelta(days=days)) for id, days in ages.items()]
    lost = Situation(policy("within 8"), "UTC", now, False, None, (), ())
    decided = plan(points, lost, now).decisions
    assert [one.point.id for one in decided if isinstance(one.decision, Keep)] == ["tomorrow", "today", "a week ago"]
    all_to_come = plan(points[:1], lost, now).decisions
    assert [one.decision for one in all_to_come] == [Keep(("within 8 days",))]

"""When a daily point is due, in every time zone and after every silence."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.makers import instance, tenant

from snapkeep.creation.slots import MISSED_DAYS_MAX, days_earlier, first_instant, plan_slots, slot_of, spread_s
from snapkeep.documents import Instance, Schedule, Tenant

ZONES = ["UTC", "America/Sao_Paulo", "America/New_York", "Europe/Madrid", "Asia/Tokyo", "Australia/Lord_Howe",
         "Asia/Kathmandu", "Pacific/Apia", "America/St_Johns"]  # fmt: skip


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "day", "clock", "expected"),
    [
        ("UTC", "2026-11-22", "02:30", "2026-11-22T02:30"),
        ("America/Sao_Paulo", "2026-11-22", "02:30", "2026-11-22T05:30"),
        ("Asia/Tokyo", "2026-11-22", "02:30", "2026-11-21T17:30"),
        # New York jumps from 02:00 to 03:00 on 8 March 2026: 02:30 does not exist, 03:00 EDT is the next that does.
        ("America/New_York", "2026-03-08", "02:30", "2026-03-08T07:00"),
        ("America/New_York", "2026-03-08", "02:00", "2026-03-08T07:00"),
        ("America/New_York", "2026-03-08", "01:59", "2026-03-08T06:59"),
        ("America/New_York", "2026-03-08", "03:00", "2026-03-08T07:00"),
        # It shows 01:30 twice on 1 November 2026: the first, in EDT.
        ("America/New_York", "2026-11-01", "01:30", "2026-11-01T05:30"),
        ("America/New_York", "2026-11-01", "02:00", "2026-11-01T07:00"),
        # Madrid: 02:00 to 03:00 on 29 March 2026, back on 25 October.
        ("Europe/Madrid", "2026-03-29", "02:30", "2026-03-29T01:00"),
        ("Europe/Madrid", "2026-10-25", "02:30", "2026-10-25T00:30"),
        # Lord Howe moves by half an hour: 02:00 to 02:30 on 4 October 2026.
        ("Australia/Lord_Howe", "2026-10-04", "02:15", "2026-10-03T15:30"),
        # Sao Paulo began 4 November 2018 at 01:00: there was no midnight.
        ("America/Sao_Paulo", "2018-11-04", "00:00", "2018-11-04T03:00"),
    ],
)
def test_a_local_time_is_the_first_instant_at_which_clocks_show_it(
    zone: str, day: str, clock: str, expected: str
) -> None:
    hour, minute = map(int, clock.split(":"))
    assert first_instant(date.fromisoformat(day), time(hour, minute), ZoneInfo(zone)) == at(expected)


@pytest.mark.parametrize("clock", [time(0), time(2, 30), time(23, 59)])
def test_a_day_that_a_zone_leaves_out_has_no_slot(clock: time) -> None:
    assert first_instant(date(2011, 12, 30), clock, ZoneInfo("Pacific/Apia")) is None
    assert first_instant(date(2011, 12, 29), clock, ZoneInfo("Pacific/Apia")) is not None
    assert first_instant(date(2011, 12, 31), clock, ZoneInfo("Pacific/Apia")) is not None


@given(
    zone=st.sampled_from(ZONES),
    day=st.dates(date(2000, 1, 1), date(2037, 12, 31)),
    minutes=st.integers(0, 24 * 60 - 1),
)
def test_slots_of_following_days_follow_one_another(zone: str, day: date, minutes: int) -> None:
    clock = time(*divmod(minutes, 60))
    here = first_instant(day, clock, ZoneInfo(zone))
    following = first_instant(day + timedelta(days=1), clock, ZoneInfo(zone))
    if here is not None and following is not None:
        assert timedelta(hours=22) <= following - here <= timedelta(hours=26)
    if here is not None:
        shown = here.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        assert shown >= datetime.combine(day, clock)
        just_before = (here - timedelta(seconds=1)).astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        assert just_before < datetime.combine(day, clock)


def test_the_spread_is_stable_and_even() -> None:
    offsets = [spread_s(str(n), 30) for n in range(6000)]
    assert offsets == [spread_s(str(n), 30) for n in range(6000)]
    per_minute = [sum(1 for o in offsets if o // 60 == minute) for minute in range(30)]
    assert min(per_minute) > 150
    assert max(per_minute) < 250
    assert spread_s("1", 0) == 0


def walk(
    one: Instance, policy: Tenant, start: datetime, end: datetime, every: timedelta
) -> tuple[list[str], list[str]]:
    """Plan as the function does, and return the days that were taken and missed."""
    taken: list[str] = []
    missed: list[str] = []
    now = start
    while now < end:
        if one.next_slot_at is None or one.next_slot_at <= now:
            decided = plan_slots(one, policy, now)
            taken += [decided.take.day] if decided.take else []
            missed += [slot.day for slot in decided.missed]
            one = replace(one, planned_day=decided.planned_day, next_slot_at=decided.next_slot_at)
        now += every
    return taken, missed


@pytest.mark.parametrize("zone", ZONES)
def test_every_local_day_of_a_year_has_exactly_one_slot(zone: str) -> None:
    policy = tenant(timezone=zone, schedule=Schedule(daily_at="02:30"))
    start = at("2026-01-01T00:00")
    taken, missed = walk(instance(seen_at=start), policy, start, at("2027-01-02T00:00"), timedelta(minutes=5))
    assert missed == []
    assert taken == sorted(set(taken))
    assert len(taken) in (365, 366, 367)
    days = {date.fromisoformat(day) for day in taken}
    assert len(days) == (max(days) - min(days)).days + 1


def test_an_instance_is_due_only_from_when_it_was_first_seen() -> None:
    policy = tenant(timezone="UTC", schedule=Schedule(daily_at="02:30", spread_minutes=0))
    decided = plan_slots(instance(seen_at=at("2026-11-22T15:00")), policy, at("2026-11-22T15:00"))
    assert decided.take is None
    assert decided.missed == ()
    assert decided.next_slot_at == at("2026-11-23T02:30")


def test_after_days_of_silence_one_point_is_taken_and_the_lost_days_are_missed() -> None:
    policy = tenant(timezone="UTC", schedule=Schedule(daily_at="02:30", spread_minutes=0))
    quiet = instance(seen_at=at("2026-11-01T00:00"), planned_day="2026-11-18")
    decided = plan_slots(quiet, policy, at("2026-11-22T09:00"))
    assert [slot.day for slot in decided.missed] == ["2026-11-19", "2026-11-20", "2026-11-21"]
    assert decided.take is not None
    assert decided.take.day == decided.planned_day == "2026-11-22"
    assert decided.next_slot_at == at("2026-11-23T02:30")


@pytest.mark.parametrize(("hour", "taken"), [("22:30", True), ("22:31", False)])
def test_a_slot_is_missed_once_it_is_later_than_catch_up_hours(hour: str, taken: bool) -> None:
    policy = tenant(timezone="UTC", schedule=Schedule(daily_at="02:30", spread_minutes=0, catch_up_hours=20))
    late = instance(seen_at=at("2026-11-01T00:00"), planned_day="2026-11-21")
    decided = plan_slots(late, policy, at(f"2026-11-22T{hour}"))
    assert (decided.take is not None) == taken
    assert (len(decided.missed) == 1) != taken


def test_a_silence_of_years_is_bounded() -> None:
    policy = tenant(timezone="UTC")
    quiet = instance(seen_at=at("2015-01-01T00:00"), planned_day="2015-01-01")
    decided = plan_slots(quiet, policy, at("2026-11-22T12:00"))
    assert len(decided.missed) == MISSED_DAYS_MAX
    assert decided.take is not None


@given(
    st.lists(st.tuples(st.integers(0, 24 * 60 - 1), st.sampled_from(ZONES), st.integers(1, 40)), min_size=1, max_size=8)
)
def test_editing_the_schedule_never_makes_two_points_of_a_day(edits: list[tuple[int, str, int]]) -> None:
    now = at("2026-03-01T00:00")
    one = instance(seen_at=now)
    decided_days: list[str] = []
    for minutes, zone, hours in edits:
        clock = "{:02}:{:02}".format(*divmod(minutes, 60))
        policy = tenant(timezone=zone, schedule=Schedule(daily_at=clock))
        one = replace(one, next_slot_at=None)
        end = now + timedelta(hours=hours)
        while now < end:
            decided = plan_slots(one, policy, now)
            decided_days += [slot.day for slot in decided.missed] + ([decided.take.day] if decided.take else [])
            one = replace(one, planned_day=decided.planned_day, next_slot_at=decided.next_slot_at)
            now += timedelta(minutes=47)
    assert decided_days == sorted(set(decided_days))


def test_client_managed_and_lost_instances_are_left_alone() -> None:
    now = at("2026-11-22T12:00")
    theirs = plan_slots(instance(seen_at=at("2026-11-01T00:00")), tenant(deployment="private_saas"), now)
    gone = plan_slots(instance(seen_at=at("2026-11-01T00:00"), lost_at=now), tenant(), now)
    assert theirs.next_slot_at is None
    assert gone.next_slot_at is None
    assert (theirs.take, gone.take) == (None, None)


def test_a_slot_keeps_its_day_when_the_spread_passes_midnight() -> None:
    policy = tenant(timezone="UTC", schedule=Schedule(daily_at="23:59", spread_minutes=240))
    slots = [slot_of(date(2026, 11, 22), str(n), policy) for n in range(20)]
    assert {slot.day for slot in slots if slot} == {"2026-11-22"}
    assert any(slot.at.date() == date(2026, 11, 23) for slot in slots if slot)


@pytest.mark.parametrize(
    ("zone", "instant", "days", "expected"),
    [
        ("UTC", "2024-03-01T02:30", 1, "2024-02-29T02:30"),
        ("UTC", "2024-03-01T02:30", 366, "2023-03-01T02:30"),
        ("Asia/Kathmandu", "2026-11-22T18:15", 30, "2026-10-23T18:15"),
        # A day of 23 hours in Madrid, one of 25.
        ("Europe/Madrid", "2026-03-29T10:00", 1, "2026-03-28T11:00"),
        ("Europe/Madrid", "2026-10-25T11:00", 1, "2026-10-24T10:00"),
        # 02:30 does not exist on 29 March in Madrid (Go says 03:30), nor on 8 March in New York (Go says 01:30).
        ("Europe/Madrid", "2026-03-30T00:30", 1, "2026-03-29T01:30"),
        ("America/New_York", "2026-03-09T06:30", 1, "2026-03-08T06:30"),
        # 02:30 comes twice on 25 October in Madrid (Go: the second), 01:30 on 1 November in New York (the first).
        ("Europe/Madrid", "2026-10-26T01:30", 1, "2026-10-25T01:30"),
        ("America/New_York", "2026-11-02T06:30", 1, "2026-11-01T05:30"),
        # Apia had no 30 December 2011.
        ("Pacific/Apia", "2011-12-30T22:00", 1, "2011-12-30T22:00"),
        ("Pacific/Apia", "2011-12-30T22:00", 2, "2011-12-29T22:00"),
    ],
)
def test_days_earlier_is_the_same_local_time_as_go_finds_it(zone: str, instant: str, days: int, expected: str) -> None:
    assert days_earlier(at(instant), days, zone) == at(expected)

"""Simulated time goes on only when the messages of the last minute are answered."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from snapkeep.ports import Transient
from snapkeep_local import schedule
from snapkeep_local.delivery import Ledger
from snapkeep_local.timekeeper import CannotMove, Simulated, System

START = datetime(2026, 11, 22, tzinfo=UTC)
TIMEOUT_S = 10.0
AT_ONCE_S = 0.0


class Clock:
    """The cloud's clock, and every instant that it was moved to."""

    def __init__(self) -> None:
        self.at = START
        self.moves: list[datetime] = []

    def now(self) -> datetime:
        return self.at

    def advance(self, to: datetime) -> None:
        self.at = to
        self.moves.append(to)


class Functions:
    """Functions that answer a tick as soon as they are allowed to."""

    def __init__(self, clock: Clock) -> None:
        self.ledger = Ledger()
        self.clock = clock
        self.ticks: list[tuple[datetime, str]] = []
        self.allowed = threading.Event()
        self.allowed.set()
        self.came = threading.Event()

    def publish(self, topic: str, body: bytes) -> None:
        assert body == schedule.TICK
        id = str(len(self.ticks))
        self.ticks.append((self.clock.at, topic))
        self.ledger.published(topic, [id])
        threading.Thread(target=self._handle, args=(topic, id), daemon=True).start()

    def _handle(self, topic: str, id: str) -> None:
        self.ledger.arrived(topic, id)
        self.came.set()
        self.allowed.wait(TIMEOUT_S)
        self.ledger.answered(topic, id, well=True)


class Broken(Functions):
    def publish(self, topic: str, body: bytes) -> None:
        raise Transient("no broker")


@contextmanager
def running(clock: Clock, functions: Functions) -> Iterator[Simulated]:
    time = Simulated(clock.now, clock.advance, functions)
    time.start()
    try:
        yield time
    finally:
        time.stop()


def arrive(time: Simulated) -> None:
    pause = threading.Event()
    for _ in range(int(TIMEOUT_S / 0.01)):
        if not time.status()["running"]:
            return
        pause.wait(0.01)
    raise AssertionError(f"time did not arrive: {time.status()}")


def test_every_minute_has_the_ticks_of_its_schedule() -> None:
    clock = Clock()
    functions = Functions(clock)
    with running(clock, functions) as time:
        time.move(by=timedelta(minutes=10))
        arrive(time)
    assert clock.moves == [START + timedelta(minutes=n) for n in range(1, 11)]
    assert functions.ticks == [(at, f.topic) for at in clock.moves for f in schedule.ticking(at)]


def test_the_next_minute_waits_until_every_message_is_answered() -> None:
    clock = Clock()
    functions = Functions(clock)
    functions.allowed.clear()
    with running(clock, functions) as time:
        time.move(by=timedelta(minutes=2))
        assert functions.came.wait(TIMEOUT_S)
        assert clock.at == START + timedelta(minutes=1)
        assert time.status()["running"]
        functions.allowed.set()
        arrive(time)
    assert clock.at == START + timedelta(minutes=2)


def test_parts_of_a_minute_have_no_ticks_of_their_own() -> None:
    clock = Clock()
    functions = Functions(clock)
    with running(clock, functions) as time:
        time.move(by=timedelta(seconds=30))
        arrive(time)
        assert functions.ticks == []
        time.move(to=START + timedelta(seconds=61))
        arrive(time)
    assert {at for at, _ in functions.ticks} == {START + timedelta(minutes=1)}
    assert clock.moves[-1] == START + timedelta(seconds=61)


def test_two_who_ask_for_an_hour_get_two() -> None:
    clock = Clock()
    with running(clock, Functions(clock)) as time:
        time.move(by=timedelta(hours=1))
        time.move(by=timedelta(hours=1))
        arrive(time)
    assert clock.at == START + timedelta(hours=2)


def test_without_ticks_a_month_passes_at_once_and_nobody_is_woken() -> None:
    clock = Clock()
    functions = Functions(clock)
    with running(clock, functions) as time:
        time.move(by=timedelta(days=31), ticks=False)
        arrive(time)
        assert (clock.moves, functions.ticks) == ([START + timedelta(days=31)], [])
        time.move(by=timedelta(minutes=1))
        arrive(time)
    assert {at for at, _ in functions.ticks} == {START + timedelta(days=31, minutes=1)}


def test_time_that_is_on_its_way_does_not_change_how_it_goes() -> None:
    clock = Clock()
    functions = Functions(clock)
    functions.allowed.clear()
    with running(clock, functions) as time:
        time.move(by=timedelta(minutes=2))
        with pytest.raises(CannotMove, match="on its way with ticks"):
            time.move(by=timedelta(days=1), ticks=False)
        functions.allowed.set()
        arrive(time)
    assert clock.at == START + timedelta(minutes=2)


def test_time_does_not_go_back_nor_too_far() -> None:
    clock = Clock()
    time = Simulated(clock.now, clock.advance, Functions(clock))
    with pytest.raises(CannotMove, match="not back"):
        time.move(to=START - timedelta(seconds=1))
    with pytest.raises(CannotMove, match="more than 400 days ahead"):
        time.move(by=timedelta(days=401))
    assert not time.status()["running"]


def test_the_machines_own_time_is_not_moved() -> None:
    clock = Clock()
    with pytest.raises(CannotMove, match="--clock simulated"):
        System(clock.advance, Functions(clock)).move(by=timedelta(hours=1))


def test_a_tick_that_cannot_be_published_is_lost_and_time_goes_on() -> None:
    clock = Clock()
    with running(clock, Broken(clock)) as time:
        time.move(by=timedelta(minutes=3))
        arrive(time)
        assert time.status()["failure"] is None
    assert clock.at == START + timedelta(minutes=3)


def test_a_fault_of_the_cloud_stops_time_and_is_told() -> None:
    clock = Clock()

    def advance(to: datetime) -> None:
        raise RuntimeError("the cloud fell over")

    time = Simulated(clock.now, advance, Functions(clock))
    time.start()
    time.move(by=timedelta(minutes=3))
    arrive(time)
    status = time.status()
    time.stop()
    assert status["failure"] == "RuntimeError: the cloud fell over"
    assert status["target"] == status["now"] == START.isoformat()


# --- which messages are on their way ------------------------------------------------------------------------------


def test_a_message_is_on_its_way_from_its_publication_to_its_answer() -> None:
    ledger = Ledger()
    ledger.published("snapkeep-plan", ["1"])
    assert ledger.wait_quiet(AT_ONCE_S) == 1
    ledger.published("snapkeep-plan", ["2"])
    ledger.arrived("snapkeep-plan", "2")
    assert ledger.busy("snapkeep-plan")
    ledger.answered("snapkeep-plan", "2", well=True)
    assert ledger.wait_quiet(AT_ONCE_S) == 0
    assert not ledger.busy("snapkeep-plan")


def test_an_answer_may_be_faster_than_word_of_the_publication() -> None:
    ledger = Ledger()
    ledger.arrived("snapkeep-plan", "1")
    ledger.answered("snapkeep-plan", "1", well=True)
    ledger.published("snapkeep-plan", ["1"])
    assert ledger.wait_quiet(AT_ONCE_S) == 0


def test_messages_of_two_topics_are_two_though_their_ids_are_one() -> None:
    ledger = Ledger()
    ledger.published("snapkeep-plan", ["1"])
    ledger.published("snapkeep-audit", ["1"])
    ledger.arrived("snapkeep-plan", "1")
    ledger.answered("snapkeep-plan", "1", well=True)
    assert ledger.wait_quiet(AT_ONCE_S) == 1


def test_what_failed_comes_again_and_is_not_waited_for_meanwhile() -> None:
    ledger = Ledger()
    ledger.published("snapkeep-plan", ["1"])
    ledger.arrived("snapkeep-plan", "1")
    ledger.answered("snapkeep-plan", "1", well=False)
    assert ledger.wait_quiet(AT_ONCE_S) == 0
    ledger.arrived("snapkeep-plan", "1")
    assert ledger.wait_quiet(AT_ONCE_S) == 1
    count = ledger.count("snapkeep-plan")
    assert (count.delivered, count.failed, count.in_flight) == (0, 1, 1)


def test_a_message_that_nobody_answers_holds_time_up_once() -> None:
    ledger = Ledger()
    ledger.published("snapkeep-plan", ["1", "2"])
    ledger.arrived("snapkeep-plan", "1")
    assert ledger.wait_quiet(AT_ONCE_S) == 2
    assert ledger.wait_quiet(AT_ONCE_S) == 0
    ledger.answered("snapkeep-plan", "1", well=True)
    ledger.arrived("snapkeep-plan", "1")
    assert ledger.wait_quiet(AT_ONCE_S) == 1

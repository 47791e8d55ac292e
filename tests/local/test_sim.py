"""A simulation that leaves out what leaves nothing behind is the same simulation, byte for byte."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from snapkeep import fleet
from snapkeep.ports import Ports
from snapkeep.store import query
from snapkeep_local import demo, schedule, sim
from snapkeep_local.faults import ErrorAfter, Fault, OperationFails
from snapkeep_local.sim import System

HOUR = timedelta(hours=1)


def system(deliveries: Counter[str]) -> System:
    def counted(function: str, ports: Ports, envelope: Any) -> None:
        deliveries[function] += 1
        sim.deliver(function, ports, envelope)

    one = System(seed=3, start=demo.START, deliver=counted)
    one.apply(fleet.read(demo.EXAMPLE))
    one.cloud.add_fault(Fault(effect=ErrorAfter(), method="snapshots.insert", count=2))
    one.cloud.add_fault(Fault(effect=OperationFails(), method="snapshots.insert", count=3))
    return one


def test_fast_forward_comes_to_the_same_digest_with_fewer_deliveries() -> None:
    whole, fast = Counter[str](), Counter[str]()
    one, other = system(whole), system(fast)
    for hours in range(30):
        one.run(HOUR)
        other.fast_forward(HOUR)
        if hours % 5 == 0:
            assert other.documents.dump() == one.documents.dump(), f"after {hours + 1} hours"
    assert other.digest() == one.digest()
    for function, count in whole.items():
        assert fast[function] <= count
    assert 3 * fast["reconcile"] < whole["reconcile"] == 30 * 60
    assert fast["health"] < whole["health"]
    assert fast["create"] == whole["create"]


def test_every_function_ticks_within_a_round() -> None:
    for function in schedule.functions():
        assert function.every_min is None or sim.ROUND % (function.every_min * sim.MINUTE) == timedelta(0)


@pytest.mark.parametrize("minutes", [1, 2, 3, 4, 5, 7])
def test_fast_forward_ends_where_it_was_told_to(minutes: int) -> None:
    one, other = system(Counter()), system(Counter())
    for _ in range(4):
        one.run(minutes * sim.MINUTE)
        other.fast_forward(minutes * sim.MINUTE)
        assert other.cloud.now == one.cloud.now
    assert other.digest() == one.digest()


def test_a_tick_that_finds_work_is_never_left_out() -> None:
    deliveries = Counter[str]()
    one = system(deliveries)
    steps: list[str] = []
    for number in range(24 * 12):
        before = one.cloud.now
        due = [doc.path for doc in one.documents.find(query("points", before + 4 * sim.MINUTE))]
        count = deliveries["reconcile"]
        one.fast_forward(5 * sim.MINUTE)
        if due:
            steps.append(f"{number}: {deliveries['reconcile'] - count}")
    assert steps
    assert {step.partition(": ")[2] for step in steps} == {"5"}


def test_messages_that_are_due_are_not_passed_over() -> None:
    one = system(Counter())
    one.bus.publish("snapkeep-audit", b"{}")
    with pytest.raises(ValueError, match="is due"):
        one.bus.pass_over([1])


def test_what_is_passed_over_leaves_the_order_of_the_rest_as_it_was() -> None:
    heard: dict[bool, list[str]] = {}
    for passed_over in (True, False):
        one = system(Counter())
        heard[passed_over] = []
        for topic in ("a", "b", "c"):
            one.bus.subscribe(topic, partial(_hear, heard[passed_over], topic))
        one.bus.pump()
        if passed_over:
            one.bus.pass_over([1, 1, 1])
        else:
            for _ in range(3):
                one.bus.publish("a", b"x")
                one.bus.pump()
            del heard[passed_over][:]
        for topic in ("a", "b", "c"):
            one.bus.publish(topic, b"x")
        one.bus.pump()
    assert heard[True] == heard[False]


def _hear(heard: list[str], topic: str, envelope: Any) -> None:
    heard.append(f"{topic} {envelope['message']['messageId']}")

"""A simulation that leaves out what leaves nothing behind is the same simulation, byte for byte."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest

from snapkeep import fleet
from snapkeep.commands import Asked, OffboardAsk, offboard
from snapkeep.ports import Ports
from snapkeep.store import query
from snapkeep_local import demo, sim
from snapkeep_local.faults import ErrorAfter, Fault, OperationFails
from snapkeep_local.sim import Deliver, System

HOUR = timedelta(hours=1)


def system(deliveries: Counter[str], deliver: Deliver = sim.deliver) -> System:
    def counted(function: str, ports: Ports, envelope: Any) -> None:
        deliveries[function] += 1
        deliver(function, ports, envelope)

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


def test_fast_forward_comes_to_the_same_digest_a_day_at_a_time_while_a_tenant_leaves() -> None:
    one, other = system(Counter()), system(Counter())
    for each, forward in ((one, one.run), (other, other.fast_forward)):
        forward(10 * HOUR)
        leaving = OffboardAsk(day="2026-10-02", reason="contract ended")
        offboard(each.ports, Asked("ana@vendor.example", "left", ""), demo_tenant(), leaving)
        forward(24 * HOUR)
    assert "offboarded" in reasons_of_loss(one)
    assert other.digest() == one.digest()


def test_what_a_demo_leaves_to_the_tests_changes_nothing() -> None:
    checked, trusting = system(Counter()), system(Counter())
    trusting.documents.checks = False
    for each in (checked, trusting):
        each.fast_forward(72 * HOUR)
    assert trusting.digest() == checked.digest()


def demo_tenant() -> str:
    return next(entry.id for entry in fleet.read(demo.EXAMPLE).valid)


def reasons_of_loss(one: System) -> set[str | None]:
    return {data["lost_reason"] for data in one.documents.dump().values() if "lost_reason" in data}


@pytest.mark.parametrize("minutes", [1, 2, 3, 4, 5, 7])
def test_fast_forward_ends_where_it_was_told_to(minutes: int) -> None:
    one, other = system(Counter()), system(Counter())
    for _ in range(4):
        one.run(minutes * sim.MINUTE)
        other.fast_forward(minutes * sim.MINUTE)
        assert other.cloud.now == one.cloud.now
    assert other.digest() == one.digest()


def test_a_tick_that_finds_work_is_never_left_out() -> None:
    found: set[datetime] = set()
    ticked: set[datetime] = set()

    def noted(function: str, ports: Ports, envelope: Any) -> None:
        if function == "reconcile":
            now = ports.clock.now()
            ticked.add(now)
            if ports.documents.find(query("points", now)):
                found.add(now)
        sim.deliver(function, ports, envelope)

    one = system(Counter(), noted)
    one.run(24 * HOUR)
    work = set(found)
    found.clear()
    ticked.clear()
    other = system(Counter(), noted)
    other.fast_forward(24 * HOUR)
    assert work
    assert found == work
    assert len(ticked) < 12 * 60


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

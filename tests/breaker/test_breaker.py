"""What one run of a function no longer asks, once it has seen that there will be no answer."""

import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace

import pytest
from tests.makers import PROJECT, FakeCompute, HandClock, disk, machine

from snapkeep.breaker import FAULTS_IN_A_ROW_MAX, PROJECTS_IN_A_ROW_MAX, Breaker
from snapkeep.cloud import Disk, InsertSnapshot, Instance, request_id
from snapkeep.ports import R, Refused, Transient

BUSY = Transient("busy")
QUOTA = Transient("quota", code=403, reason="rateLimitExceeded")
OTHER = "beta-prod"


def compute(*faults: Transient | Refused | None) -> FakeCompute:
    """A cloud whose first calls meet these, where they meet anything."""
    one = FakeCompute(HandClock())
    one.add(disk(), machine(), disk(project=OTHER))
    left = list(faults)

    def meet(call: str) -> None:
        fault = left.pop(0) if left else None
        if fault is not None:
            raise fault

    one.before = meet
    return one


def get(of: Breaker, project: str = PROJECT) -> object:
    return of.get(Disk, replace(disk(), project=project).link)


def find(of: Breaker, project: str = PROJECT) -> object:
    return list(of.find(Instance, project))


def start(of: Breaker, project: str = PROJECT) -> object:
    change = InsertSnapshot(project, "sk-1", disk().link, "southamerica-east1", {})
    return of.start(change, request_id(change))


Call = Callable[..., object]
CALLS = pytest.mark.parametrize("call", [get, find, start])


@CALLS
def test_what_is_answered_is_passed_on(call: Call) -> None:
    inner = compute()
    breaker = Breaker(inner)
    assert call(breaker) == call(breaker)
    assert len(inner.calls) == 2


@CALLS
@pytest.mark.parametrize("first", [get, find, start])
def test_a_project_whose_quota_is_used_up_is_left_alone_and_no_other_one(first: Call, call: Call) -> None:
    inner = compute(QUOTA)
    breaker = Breaker(inner)
    with pytest.raises(Transient) as met:
        first(breaker)
    with pytest.raises(Transient) as again:
        call(breaker)
    assert met.value is QUOTA
    assert repr(again.value) == repr(QUOTA)
    assert len(inner.calls) == 1
    get(breaker, OTHER)
    assert len(inner.calls) == 2


@CALLS
def test_a_project_that_fails_many_times_in_a_row_is_left_alone_and_no_other_one(call: Call) -> None:
    inner = compute(*[BUSY] * FAULTS_IN_A_ROW_MAX)
    breaker = Breaker(inner)
    for _ in range(FAULTS_IN_A_ROW_MAX + 1):
        with pytest.raises(Transient, match="busy"):
            call(breaker)
    assert len(inner.calls) == FAULTS_IN_A_ROW_MAX
    assert not breaker.nobody_answers
    get(breaker, OTHER)
    assert len(inner.calls) == FAULTS_IN_A_ROW_MAX + 1


@CALLS
def test_when_many_projects_fail_in_a_row_nobody_is_asked(call: Call) -> None:
    inner = compute(*[BUSY] * PROJECTS_IN_A_ROW_MAX)
    breaker = Breaker(inner)
    for number in range(PROJECTS_IN_A_ROW_MAX):
        assert not breaker.nobody_answers
        with pytest.raises(Transient, match="busy"):
            call(breaker, f"p{number}")
    assert breaker.nobody_answers
    with pytest.raises(Transient, match="busy"):
        get(breaker, OTHER)
    assert len(inner.calls) == PROJECTS_IN_A_ROW_MAX


def test_an_answer_of_anyone_ends_the_row_of_projects() -> None:
    inner = compute(*[BUSY] * (PROJECTS_IN_A_ROW_MAX - 1), None, BUSY)
    breaker = Breaker(inner)
    for number in range(PROJECTS_IN_A_ROW_MAX + 1):
        with suppress(Transient):
            get(breaker, f"p{number}")
    assert not breaker.nobody_answers


def test_quotas_that_are_used_up_are_no_outage() -> None:
    breaker = Breaker(compute(*[QUOTA] * 2 * PROJECTS_IN_A_ROW_MAX))
    for number in range(2 * PROJECTS_IN_A_ROW_MAX):
        with pytest.raises(Transient):
            get(breaker, f"p{number}")
    assert not breaker.nobody_answers


def test_zones_that_are_away_are_no_outage() -> None:
    away = Transient("no answer from zones/us-east1-c", reason="UNREACHABLE")
    breaker = Breaker(compute(*[away] * 2 * PROJECTS_IN_A_ROW_MAX))
    for number in range(2 * PROJECTS_IN_A_ROW_MAX):
        with pytest.raises(Transient):
            find(breaker, f"p{number}")
    assert not breaker.nobody_answers


def test_a_project_whose_zone_is_away_is_left_alone_in_the_end_like_any_other() -> None:
    inner = compute(*[Transient("no answer from zones/us-east1-c", reason="UNREACHABLE")] * FAULTS_IN_A_ROW_MAX)
    breaker = Breaker(inner)
    for _ in range(FAULTS_IN_A_ROW_MAX + 1):
        with pytest.raises(Transient, match="us-east1-c"):
            find(breaker)
    assert len(inner.calls) == FAULTS_IN_A_ROW_MAX


@pytest.mark.parametrize("faults", [[QUOTA], [BUSY] * FAULTS_IN_A_ROW_MAX])
def test_a_project_that_is_left_alone_costs_no_memory_however_often_it_is_asked_for(faults: list[Transient]) -> None:
    breaker = Breaker(compute(*faults))
    for _ in faults:
        with pytest.raises(Transient):
            get(breaker)
    assert len({_depth(breaker, PROJECT) for _ in range(100)}) == 1


def test_an_outage_costs_no_memory_however_often_anyone_is_asked_for() -> None:
    breaker = Breaker(compute(*[BUSY] * PROJECTS_IN_A_ROW_MAX))
    for number in range(PROJECTS_IN_A_ROW_MAX):
        with pytest.raises(Transient):
            get(breaker, f"p{number}")
    assert len({_depth(breaker, OTHER) for _ in range(100)}) == 1


def _depth(breaker: Breaker, project: str) -> int:
    """How many frames the refusal's traceback holds."""
    with pytest.raises(Transient) as met:
        get(breaker, project)
    return len(traceback.extract_tb(met.value.__traceback__))


@pytest.mark.parametrize("answer", [None, Refused("no", code=403, reason="forbidden")])
def test_any_answer_ends_the_row(answer: Refused | None) -> None:
    few = [BUSY] * (FAULTS_IN_A_ROW_MAX - 1)
    inner = compute(*few, answer, *few)
    breaker = Breaker(inner)
    for _ in range(2 * len(few) + 1):
        with suppress(Transient, Refused):
            get(breaker)
    assert get(breaker) == disk()
    assert len(inner.calls) == 2 * len(few) + 2


@pytest.mark.parametrize("reason", ["RESOURCE_OPERATION_RATE_EXCEEDED", "resourceNotReady"])
def test_what_one_disk_cannot_do_now_says_nothing_about_the_next(reason: str) -> None:
    inner = compute(*[Transient("too soon", code=429, reason=reason)] * 2 * FAULTS_IN_A_ROW_MAX)
    breaker = Breaker(inner)
    for _ in range(2 * FAULTS_IN_A_ROW_MAX):
        with pytest.raises(Transient, match="too soon"):
            start(breaker)
    assert get(breaker) == disk()


def test_a_search_that_breaks_off_is_a_fault_like_any_other() -> None:
    class BreaksOff(FakeCompute):
        def find(self, kind: type[R], project: str, where: str = "") -> Iterator[R]:
            yield from super().find(kind, project, where)
            raise QUOTA

    inner = BreaksOff(HandClock())
    inner.add(machine())
    breaker = Breaker(inner)
    found = breaker.find(Instance, PROJECT)
    assert next(found) == machine()
    with pytest.raises(Transient):
        next(found)
    with pytest.raises(Transient):
        get(breaker)
    assert len(inner.calls) == 1

"""Two people at once at one restore, and approvals given twice, again, too late, or for another request."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

import pytest
from tests.faults import restored
from tests.faults.restoring import ANA, OTTO, Meets, Scene
from tests.faults.world import quiet_log

from snapkeep.commands import Clash

EVA = "eva@vendor.example"
EFFECTS = 3
"""Of one command: its commit, and what it asks others to look at."""


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with quiet_log():
        yield


@dataclass
class Meanwhile(Meets):
    """Somebody else's command is carried out in front of one effect of this one."""

    number: int
    act: Callable[[], object]

    def before(self, scene: Scene, number: int, effect: str) -> None:
        if number == self.number:
            scene.apart += 1
            try:
                self.act()
            finally:
                scene.apart -= 1


def at_once(scene: Scene, number: int, one: Callable[[], object], other: Callable[[], object]) -> int:
    """How many of two commands were refused, the other carried out in front of this effect of the one."""
    refused = 0

    def counted(act: Callable[[], object]) -> None:
        nonlocal refused
        try:
            act()
        except Clash:
            refused += 1

    scene.mark()
    scene.meets = Meanwhile(number, lambda: counted(other))
    counted(one)
    scene.meets = Meets()
    return refused


@pytest.mark.parametrize("number", range(EFFECTS - 1))
def test_of_two_requests_for_one_instance_one_is_refused(number: int) -> None:
    scene = Scene()
    assert at_once(scene, number, lambda: scene.ask("in_place"), lambda: scene.ask("in_place")) == 1
    (id,) = scene.living()
    scene.approve(id)
    scene.settle()
    assert restored.findings(scene) == []


@pytest.mark.parametrize("number", range(EFFECTS))
def test_of_two_approvals_one_is_refused(number: int) -> None:
    scene = Scene()
    id = scene.ask("in_place")
    assert at_once(scene, number, lambda: scene.approve(id), lambda: scene.approve(id, EVA)) == 1
    scene.settle()
    assert restored.findings(scene) == []


@pytest.mark.parametrize("number", range(EFFECTS))
def test_what_is_cancelled_while_it_is_approved_ends_once(number: int) -> None:
    scene = Scene()
    id = scene.ask("in_place")
    at_once(scene, number, lambda: scene.approve(id), lambda: scene.cancel(id))
    scene.settle()
    assert scene.all_of("restores")[id]["state"] == "cancelled"
    assert restored.findings(scene) == []


def test_an_approval_counts_once_in_time_for_this_request_and_from_another_person() -> None:
    scene = Scene()
    first = scene.ask("in_place")
    scene.cancel(first)
    id = scene.ask("in_place")
    with pytest.raises(Clash, match="not that of"):
        scene.approve(id, ANA, scene.all_of("restores")[first]["request_sha256"])
    with pytest.raises(Clash, match="his own"):
        scene.approve(id, OTTO)
    scene.approve(id, ANA, key="once")
    scene.approve(id, ANA, key="once")  # the same act, answered alike
    with pytest.raises(Clash, match="an approval is used once"):
        scene.approve(id, ANA, key="twice")
    scene.settle()
    with pytest.raises(Clash, match="an approval is used once"):
        scene.approve(id, EVA)
    late = scene.ask("in_place")
    scene.cloud.advance(scene.now() + timedelta(hours=4))
    with pytest.raises(Clash, match="had to be approved by"):
        scene.approve(late)
    scene.settle()
    assert restored.findings(scene) == []

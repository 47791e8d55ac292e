"""Each kind of restore played once, and again from before every one of its effects, with something happening there.

Replay one with `python -m tests.faults restores NAME EVENT NUMBER`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final, get_args

from tests.faults import restored
from tests.faults.restoring import AWAY, DAY, OTHER_ZONE, REGION, SOURCE, Event, Meets, Once, Scene

from snapkeep import documents as d
from snapkeep.documents import StepName
from snapkeep.restore import rules
from snapkeep_local import schedule

EVENTS: Final[tuple[Event, ...]] = get_args(Event)


@dataclass(frozen=True)
class Scenario:
    begin: Callable[[Scene], object]  # what comes before: nothing happens to it
    end: Callable[[Scene, Callable[[], None]], None] = Scene.settle


def _until(scene: Scene, step: StepName) -> None:
    """Go on until this step is under way and has asked for something."""
    for _ in range(100):
        for _ in scene.minute():
            for one in scene.all_of("restores").values():
                for running in one["steps"] if one["state"] == "running" else ():
                    if running["name"] == step and running["state"] == "running" and running["asked"]:
                        return
    raise AssertionError(f"it never comes to {step}")


def _abandoned(begin: Callable[[Scene], object], step: StepName) -> Scenario:
    """Cancelled while this step is under way."""

    def begin_and_cancel(scene: Scene) -> None:
        begin(scene)
        _until(scene, step)
        scene.cancel_all()

    return Scenario(begin_and_cancel)


def _disks(scene: Scene) -> str:
    return scene.ask("disks")


def _new_instance(scene: Scene) -> str:
    return scene.ask("new_instance")


def _in_place(scene: Scene) -> str:
    id = scene.ask("in_place")
    scene.forge_approvals()
    scene.approve(id)
    return id


def _stopped(scene: Scene) -> None:
    scene.cloud.stop_instance(SOURCE)
    for _ in scene.minute():
        pass
    scene.untouched = restored.holding(scene.cloud, SOURCE)
    _in_place(scene)


def _kept(scene: Scene) -> str:
    """A completed restore in place, a day later."""
    id = _in_place(scene)
    scene.settle()
    assert scene.all_of("restores")[id]["state"] == "completed"
    scene.wait(DAY)
    found = restored.holding(scene.cloud, SOURCE)
    assert found is not None
    scene.precious |= {disk_id for _, disk_id, _, _ in found.devices.values()}
    return id


def _undone(scene: Scene) -> None:
    scene.approve(scene.ask_undo(_kept(scene)))


def _time_is_over(scene: Scene) -> None:
    _kept(scene)
    scene.wait(rules.FORMER_KEPT - DAY - DAY)


def _label_is_off(scene: Scene) -> None:
    _time_is_over(scene)
    scene.take_label_off()


def _passes(scene: Scene, watch: Callable[[], None]) -> None:
    scene.wait(3 * DAY, watch)


def _test(scene: Scene) -> None:
    scene.change("tenants/acme", d.Tenant, restore_test_at=scene.now())
    scene.bus.publish("snapkeep-restore-test", schedule.TICK)
    scene.deliver()
    assert scene.living()


def _not_approved(scene: Scene) -> None:
    scene.ask("in_place")
    scene.forge_approvals()


def _taken(scene: Scene) -> None:
    """Something foreign is where the first disks and the instance are to go."""
    id = scene.ask("new_instance")
    for disk in scene.all_of("restores")[id]["disks"][:1]:
        scene.foreign_disk(disk["name"])
    _until(scene, "create_disks")
    scene.foreign_instance("app-2")


def _disk_taken(scene: Scene) -> None:
    id = _in_place(scene)
    for disk in scene.all_of("restores")[id]["disks"]:
        scene.foreign_disk(disk["name"])


SCENARIOS: Final[Mapping[str, Scenario]] = {
    "disks": Scenario(_disks),
    "new_instance": Scenario(_new_instance),
    "new_instance in another zone": Scenario(lambda scene: scene.ask("new_instance", zone=OTHER_ZONE)),
    "new_instance in any zone": Scenario(lambda scene: scene.ask("new_instance", region=REGION)),
    "new_instance in the copy's region": Scenario(lambda scene: scene.ask("new_instance", region=AWAY)),
    "in_place": Scenario(_in_place),
    "in_place of what did not run": Scenario(_stopped),
    "undo": Scenario(_undone),
    "test": Scenario(_test),
    "former disks go": Scenario(_time_is_over, _passes),
    "former disks go, but one": Scenario(_label_is_off, _passes),
    "nobody approves": Scenario(_not_approved),
    "names are taken": Scenario(_taken),
    "names of disks are taken": Scenario(_disk_taken),
    "disks, abandoned": _abandoned(_disks, "create_disks"),
    "new_instance, abandoned": _abandoned(_new_instance, "create_instance"),
    "in_place, abandoned as disks are made": _abandoned(_in_place, "create_disks"),
    "in_place, abandoned as it stops": _abandoned(_in_place, "stop"),
    "in_place, abandoned between the disks": _abandoned(_in_place, "attach_disks"),
    "in_place, abandoned as it starts": _abandoned(_in_place, "start"),
    "undo, abandoned": _abandoned(_undone, "attach_disks"),
    "test, abandoned": _abandoned(_test, "create_instance"),
}


@cache
def _before() -> bytes:
    return Scene().saved()


@dataclass
class History:
    """One play of a scenario to which nothing happened."""

    scene: Scene  # at its end
    moments: list[tuple[int, bytes]]  # before deliveries: effects so far, and the scene

    @property
    def effects(self) -> int:
        return self.scene.effects

    def at(self, number: int) -> Scene:
        """The scene before the delivery in which the effect of this number comes."""
        saved = next(saved for effects, saved in reversed(self.moments) if effects <= number)
        return Scene.resumed(saved)


@cache
def history(name: str) -> History:
    scene = Scene.resumed(_before())
    scene.apart += 1
    SCENARIOS[name].begin(scene)
    scene.apart -= 1
    scene.mark()
    moments: list[tuple[int, bytes]] = []

    def watch() -> None:
        if not moments or moments[-1][0] < scene.effects:
            moments.append((scene.effects, scene.saved()))

    moments.append((0, scene.saved()))
    SCENARIOS[name].end(scene, watch)
    return History(scene, moments)


def findings(name: str, number: int, meets: Meets) -> list[str]:
    """What is wrong at the end of the scenario, with what happens at the effect of this number."""
    scene = history(name).at(number)
    scene.meets = meets
    SCENARIOS[name].end(scene, lambda: None)
    return restored.findings(scene)


def swept(name: str, event: Event) -> Iterator[str]:
    """What is wrong where this happens at one of the effects, whichever it is."""
    for number in range(history(name).effects):
        for finding in findings(name, number, Once(number, event)):
            yield f"{name}, {event} at {number}: {finding}"

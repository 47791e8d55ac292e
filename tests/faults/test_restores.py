"""Whatever happens at whichever effect of a restore, it comes to its end, and nothing is lost, doubled or left.

Replay one with `python -m tests.faults restores "in_place" death 17`.
"""

from collections.abc import Iterator
from typing import Any, Final

import pytest
from tests.faults import restored
from tests.faults.restoring import Event
from tests.faults.sweep import EVENTS, SCENARIOS, history, swept
from tests.faults.world import quiet_log

QUICK: Final = {"disks", "new_instance", "in_place", "undo"}

ABANDONED: Final = {name for name in SCENARIOS if "abandoned" in name}
SWAPPING: Final = {name for name in SCENARIOS if "in_place" in name or "undo" in name}

WHERE: Final[dict[Event, set[str]]] = {
    "cancelled": set(SCENARIOS) - ABANDONED - {"former disks go", "former disks go, but one"},
    "vanished": {"disks", "new_instance", "in_place", "test", "names of disks are taken"},
    "pointed": SWAPPING,
    "started": SWAPPING,
    "stopped": SWAPPING | {"new_instance", "new_instance, abandoned", "test"},
    "second": {"new_instance", "new_instance in any zone", "in_place", "in_place, abandoned as it stops", "undo"},
    "forged": {"in_place", "nobody approves"},
    "replaced": {"former disks go", "former disks go, but one", "undo", "undo, abandoned"},
}
"""Where what may happen is not what happens elsewhere; the others everywhere."""


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with quiet_log():
        yield


def _cases() -> Iterator[Any]:
    for event in EVENTS:
        for name in SCENARIOS:
            if name in WHERE.get(event, SCENARIOS):
                marks = () if event == "death" and name in QUICK else pytest.mark.slow
                yield pytest.param(name, event, marks=marks, id=f"{name}-{event}".replace(" ", "-"))


@pytest.mark.parametrize(("name", "event"), list(_cases()))
def test_it_may_happen_at_every_effect(name: str, event: Event) -> None:
    assert list(swept(name, event)) == []


@pytest.mark.parametrize("name", list(SCENARIOS))
def test_undisturbed_it_ends_as_it_should(name: str) -> None:
    scene = history(name).scene
    assert restored.findings(scene) == []
    *_, last = sorted(scene.all_of("restores").values(), key=lambda one: one["requested_at"])
    ends = {"nobody approves": "cancelled", "names are taken": "failed"}
    assert last["state"] == ends.get(name, "cancelled" if "abandoned" in name else "completed")

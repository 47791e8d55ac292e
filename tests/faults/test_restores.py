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

POINTLESS: Final[dict[Event, set[str]]] = {
    "cancelled": {name for name in SCENARIOS if "abandoned" in name} | {"former disks go"},
    "vanished": {name for name in SCENARIOS if "abandoned" in name or "undo" in name} | {"former disks go"},
    "pointed": {name for name in SCENARIOS if "in_place" not in name and "undo" not in name},
}
"""Where it would meet nothing that it does not meet elsewhere."""


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with quiet_log():
        yield


def _cases() -> Iterator[Any]:
    for event in EVENTS:
        for name in SCENARIOS:
            if name not in POINTLESS.get(event, ()):
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

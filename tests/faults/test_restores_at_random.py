"""Restores under a mix of everything at once, from a seed: deaths, faults, twins, doubled messages, a bad cloud."""

import random
from collections.abc import Iterator
from typing import Final

import pytest
from tests.faults import restored
from tests.faults.restoring import Meets, Scene
from tests.faults.sweep import SCENARIOS, history
from tests.faults.world import Death, quiet_log

from snapkeep.ports import Conflict, Transient
from snapkeep_local import faults

SEEDS: Final = 300
QUICK: Final = 30
STRIKES_MAX: Final = 25
"""Then the faults stop, and it comes to its end."""

NAMES: Final = [name for name in SCENARIOS if not name.startswith("former")]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with quiet_log():
        yield


class Storm(Meets):
    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.rate = rng.choice((0.02, 0.06, 0.15))
        self.strikes = 0

    def _strikes(self, rate: float) -> bool:
        if self.strikes == STRIKES_MAX or self.rng.random() >= rate:
            return False
        self.strikes += 1
        return True

    def before(self, scene: Scene, number: int, effect: str) -> None:
        if not self._strikes(self.rate):
            return
        match self.rng.randrange(4):
            case 0:
                raise Death(effect)
            case 1:
                code, reason = self.rng.choice(((503, "backendError"), (429, "rateLimitExceeded")))
                raise Transient(f"{effect}: planted", code=code, reason=reason if effect == "start" else "")
            case 2:
                scene.aside(scene.hand_over)
            case _:
                for message in scene.bus.pending()[:1]:
                    scene.bus.duplicate(message)

    def after(self, scene: Scene, number: int, effect: str) -> None:
        if self._strikes(self.rate / 2):
            met_itself = effect == "commit" and self.rng.random() < 0.5
            raise Conflict("planted") if met_itself else Transient(f"{effect}: its answer was lost")


def _cloud_fault(rng: random.Random) -> faults.Fault:
    effect = rng.choice(
        (
            faults.Slow(factor=5),
            faults.OperationFails(),
            faults.OperationFails(code="RESOURCE_NOT_READY", http_status=400),
            faults.DiskFails(),
            faults.ErrorAfter(),
            faults.ErrorBefore(),
            faults.ErrorBefore(status=429, reason="rateLimitExceeded", message="too often"),
            faults.DeletionLies(),
        )
    )
    return faults.Fault(effect=effect, method=rng.choice(("disks.*", "instances.*")), count=rng.randint(1, 3))


@pytest.mark.parametrize(
    "seed", [seed if seed < QUICK else pytest.param(seed, marks=pytest.mark.slow) for seed in range(SEEDS)]
)
def test_it_comes_to_its_end_once_the_faults_stop(seed: int) -> None:
    rng = random.Random(f"restores:{seed}")  # noqa: S311 - seeded on purpose
    name = rng.choice(NAMES)
    scene = history(name).at(0)
    scene.meets = Storm(rng)
    for _ in range(rng.randint(0, 3)):
        scene.cloud.add_fault(_cloud_fault(rng))
    SCENARIOS[name].end(scene, lambda: None)
    assert restored.findings(scene) == []

"""The second hundred seeds of `test_faults`, in longer steps; in a file of their own for another worker to take."""

from collections.abc import Iterator

import pytest
from tests.faults import judge
from tests.faults.world import World, quiet_log

SEEDS = range(100, 200)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with quiet_log():
        yield


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_everything_comes_to_its_end_once_the_faults_stop(seed: int) -> None:
    world = World(seed)
    world.run()
    assert judge.findings(world) == []

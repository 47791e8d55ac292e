"""The whole system in a hostile world, one seed a test. Replay one with `python -m tests.faults SEED`."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.faults import judge
from tests.faults.world import World, quiet_log

SEEDS = 100
"""As many again are in `test_faults_further`: a file of tests is one worker's."""
QUICK = 10
MEETING = 40
"""Seeds that together have met all that a hostile world is to bring."""


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with quiet_log():
        yield


@dataclass
class Met:
    """What the points and acts of a seed were like."""

    states: set[str] = field(default_factory=set)
    codes: set[str] = field(default_factory=set)
    triggers: set[str] = field(default_factory=set)
    acts: set[str] = field(default_factory=set)
    copies: set[tuple[str, str]] = field(default_factory=set)
    attempts: int = 0
    moments: int = 0
    repeated: bool = False
    orphans: bool = False

    def add(self, stored: Mapping[str, Any]) -> None:
        for path, data in stored.items():
            if "/inbox/" in path:
                self.acts.add(json.loads(data["bytes"])["action"])
            self.orphans |= path.startswith("vaults/") and data["orphans_total"] > 0
            if "/points/" in path:
                self._add_point(data)

    def _add_point(self, point: Mapping[str, Any]) -> None:
        self.states.add(point["state"])
        self.triggers.add(point["trigger"])
        self.codes.add((point["failure"] or {}).get("code", ""))
        self.repeated |= (point["expiry"] or {}).get("attempts", 0) > 1
        self.attempts = max([self.attempts, *(disk["attempts"] for disk in point["disks"])])
        self.moments = max(self.moments, point["moment"]["attempts"] if point["moment"] else 0)
        self.copies |= {(copy["way"], copy["state"]) for copy in point["copies"].values()}
        self.codes |= {f"copy: {copy['failure']['code']}" for copy in point["copies"].values() if copy["failure"]}


@pytest.fixture(scope="module")
def met() -> dict[int, Met]:
    """What each seed met that was played here: another time costs as much again."""
    return {}


def played(seed: int, met: dict[int, Met]) -> list[str]:
    """Play a seed; returns what is wrong at its end."""
    world = World(seed)
    world.run()
    met[seed] = Met()
    met[seed].add(world.system.documents.dump())
    return judge.findings(world)


@pytest.mark.parametrize(
    "seed", [seed if seed < QUICK else pytest.param(seed, marks=pytest.mark.slow) for seed in range(SEEDS)]
)
def test_everything_comes_to_its_end_once_the_faults_stop(seed: int, met: dict[int, Met]) -> None:
    assert played(seed, met) == []


def test_one_seed_is_one_history() -> None:
    digests = []
    for _ in range(2):
        world = World(3)
        world.run()
        digests.append(world.system.digest())
    assert digests[0] == digests[1]


@pytest.mark.slow
def test_the_seeds_meet_what_they_are_meant_to_meet(met: dict[int, Met]) -> None:
    """A hostile world that does not hurt proves nothing."""
    for seed in set(range(MEETING)) - met.keys():
        played(seed, met)
    all_of = [met[seed] for seed in range(MEETING)]
    acts = {act for one in all_of for act in one.acts}
    codes = {code for one in all_of for code in one.codes}
    copies = {copy for one in all_of for copy in one.copies}
    assert {state for one in all_of for state in one.states} == {"verified", "failed", "missed", "expiring", "deleted"}
    assert any(one.repeated for one in all_of)
    assert any(one.orphans for one in all_of)
    assert acts >= {"hold.added", "deletion.paused", "deletion.resumed"}
    assert acts >= {"entitlement.ended", "entitlement.returned", "copy.requested", "copy.late", "copy.cleaned"}
    assert acts >= {"copy.verified", "copy.failed", "copy.expired", "copy.deleted", "moment.taken", "moment.released"}
    assert copies >= {(way, end) for way in ("moment", "temporary_disk") for end in ("verified", "failed", "deleted")}
    assert codes >= {"copy: not_entitled", "copy: instant_gone", "copy: source_gone", "copy: deadline"}
    assert max(one.moments for one in all_of) > 1
    assert {trigger for one in all_of for trigger in one.triggers} == {"scheduled", "on_demand"}
    assert max(one.attempts for one in all_of) > 1
    assert {"deadline", "instance_gone", "forbidden"} & codes

"""The whole system in a hostile world, one seed a test. Replay one with `python -m tests.faults SEED`."""

import json
from collections.abc import Iterator

import pytest
from tests.faults import judge
from tests.faults.world import World, quiet_log

SEEDS = 100
"""As many again are in `test_faults_further`: a file of tests is one worker's."""
QUICK = 10


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with quiet_log():
        yield


@pytest.mark.parametrize(
    "seed", [seed if seed < QUICK else pytest.param(seed, marks=pytest.mark.slow) for seed in range(SEEDS)]
)
def test_everything_comes_to_its_end_once_the_faults_stop(seed: int) -> None:
    world = World(seed)
    world.run()
    assert judge.findings(world) == []


def test_one_seed_is_one_history() -> None:
    digests = []
    for _ in range(2):
        world = World(3)
        world.run()
        digests.append(world.system.digest())
    assert digests[0] == digests[1]


@pytest.mark.slow
def test_the_seeds_meet_what_they_are_meant_to_meet() -> None:
    """A hostile world that does not hurt proves nothing."""
    states: set[str] = set()
    codes: set[str] = set()
    triggers: set[str] = set()
    acts: set[str] = set()
    copies: set[tuple[str, str]] = set()
    attempts = moments = 0
    repeated = orphans = False
    for seed in range(40):
        world = World(seed)
        world.run()
        for path, data in world.system.documents.dump().items():
            if "/inbox/" in path:
                acts.add(json.loads(data["bytes"])["action"])
            orphans = orphans or (path.startswith("vaults/") and data["orphans_total"] > 0)
            if "/points/" in path:
                states.add(data["state"])
                triggers.add(data["trigger"])
                codes.add((data["failure"] or {}).get("code", ""))
                repeated = repeated or ((data["expiry"] or {}).get("attempts", 0) > 1)
                attempts = max([attempts, *(disk["attempts"] for disk in data["disks"])])
                moments = max(moments, data["moment"]["attempts"] if data["moment"] else 0)
                copies |= {(copy["way"], copy["state"]) for copy in data["copies"].values()}
                codes |= {f"copy: {copy['failure']['code']}" for copy in data["copies"].values() if copy["failure"]}
    assert states == {"verified", "failed", "missed", "expiring", "deleted"}
    assert repeated
    assert orphans
    assert acts >= {"hold.added", "deletion.paused", "deletion.resumed"}
    assert acts >= {"entitlement.ended", "entitlement.returned", "copy.requested", "copy.late", "copy.cleaned"}
    assert acts >= {"copy.verified", "copy.failed", "copy.expired", "copy.deleted", "moment.taken", "moment.released"}
    assert copies >= {(way, end) for way in ("moment", "temporary_disk") for end in ("verified", "failed", "deleted")}
    assert codes >= {"copy: not_entitled", "copy: instant_gone", "copy: source_gone", "copy: deadline"}
    assert moments > 1
    assert triggers == {"scheduled", "on_demand"}
    assert attempts > 1
    assert {"deadline", "instance_gone", "forbidden"} & codes

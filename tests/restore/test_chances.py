"""Restores under faults, deaths, doubled messages and cancellations that chance puts together, by seed."""

from __future__ import annotations

from random import Random
from typing import Final

import pytest
from tests.restore.scene import HOUR, Restoring
from tests.restore.test_ends import nothing_is_kept
from tests.restore.test_handler import OLD, all_is_told

from snapkeep import documents as d
from snapkeep_local.faults import DeletionLies, DiskFails, Effect, ErrorAfter, ErrorBefore, Fault, OperationFails, Slow

SEEDS: Final = 60
ENDS_WITHIN: Final = 80 * HOUR
"""Four to begin, a day to be carried out, a day to be taken back, and some."""

CHANGES: Final = (
    "disks.insert", "disks.delete", "disks.setLabels", "instances.insert", "instances.delete", "instances.stop",
    "instances.start", "instances.attachDisk", "instances.detachDisk",
)  # fmt: skip
AWAY: Final = ErrorBefore(status=503, reason="backendError")
EFFECTS: Final[tuple[tuple[Effect, tuple[str, ...]], ...]] = (
    (AWAY, (*CHANGES, "*.get")),
    (ErrorBefore(status=403, reason="rateLimitExceeded"), CHANGES),
    (ErrorAfter(), CHANGES),
    (OperationFails(code="INTERNAL_ERROR", message="try again", http_status=500), CHANGES),
    (Slow(factor=8.0), CHANGES),
    (DeletionLies(), ("disks.delete", "instances.delete")),
    (DiskFails(), ("disks.insert",)),
)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_restore_comes_to_an_end_whole_or_with_nothing_left(seed: int) -> None:
    chance, one = Random(seed), Restoring()  # noqa: S311 - chance that can be repeated, by its seed
    before, contents = one.machine(), one.contents()
    mode: d.RestoreMode = chance.choice(("disks", "new_instance", "in_place", "in_place"))
    for _ in range(chance.randint(0, 5)):
        effect, methods = chance.choice(EFFECTS)
        fault = Fault(method=chance.choice(methods), effect=effect, probability=chance.choice((0.3, 0.6, 1.0)),
                      count=chance.randint(1, 6))  # fmt: skip
        one.cloud.add_fault(fault)
    id = one.ask(mode)
    play(one, id, chance)
    one.cloud.clear_faults()
    ended = one.restore(id)
    nothing_is_kept(one)
    all_is_told(one)
    assert {"boot", "data", "logs"} <= set(one.names())
    assert len(one.machines()) <= 2
    after = one.machine()
    assert after is not None
    assert before is not None
    assert after.status == "RUNNING"
    if ended.state == "completed":
        assert len(one.names("rs-")) == 3 + len(ended.left)
    elif not ended.left:
        assert (one.names("rs-"), one.machines()) == ([], ["app"])
        assert sorted(after.disks, key=str) == sorted(before.disks, key=str)
    if ended.state == "completed" and mode != "disks":
        assert one.contents("app-2" if mode == "new_instance" else "app") == OLD
    if mode != "in_place":
        assert (after, one.contents()) == (before, contents)


def play(one: Restoring, id: str, chance: Random) -> None:
    """The restore to its end. Within its first hour processes die, and perhaps somebody cancels it."""
    begun, cancelled_at = one.cloud.now, chance.choice((None, None, chance.randint(1, 12)))
    minute = 0
    while not one.is_over(id):
        minute += 1
        assert one.cloud.now < begun + ENDS_WITHIN, one.restore(id)
        if minute < 60 and chance.random() < 0.25:
            one.die_at(chance.randint(1, 6), chance.choice(("before", "after")))
        one.outlive(one.minute)
        one.effects.before = one.effects.after = lambda effect: None
        if chance.random() < 0.2:
            one.hand_restore(id, id)
        if minute == cancelled_at and one.restore(id).state == "running":
            one.cancel(id)

"""Restore tests from the tick that begins them to what they say, on the local cloud."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.makers import TICK, envelope
from tests.restore.scene import HOUR, MINUTE, NETWORK, PROJECT, Restoring

from snapkeep import cloud
from snapkeep import documents as d

DAY = timedelta(days=1)


def due(*, isolated: bool, **of: Any) -> Restoring:
    """A tenant with one point, whose restore test is due, and the network for it."""
    one = Restoring(restore_test=d.RestoreTest(every_days=30, network=NETWORK), **of)
    if isolated:
        one.cloud.add_firewall(project=PROJECT, name="nothing-out", network=NETWORK, direction="EGRESS")
    one.change(d.Tenant, restore_test_at=one.now())
    return one


def tick(one: Restoring) -> None:
    one.receive("restore_test", envelope(TICK))


def finish(one: Restoring) -> d.Tenant:
    """The tenant, once its test has ended; nothing of that is left then."""
    one.run_until(lambda: one.read(d.Tenant).restore_testing is None, 3 * DAY)
    assert one.machines() in (["app"], [])
    assert one.names("rs-") == []
    assert not one.point(one.point_id).held
    return one.read(d.Tenant)


def test_a_test_that_finds_all_as_it_should_be_is_timed_and_leaves_nothing() -> None:
    one = due(isolated=True)
    tick(one)
    id = one.read(d.Tenant).restore_testing
    assert id is not None
    after = finish(one)
    assert after.restore_tested is not None
    assert (after.restore_tested.passed, after.restore_tested.point) == (True, one.point_id)
    assert 0 < after.restore_tested.took_s < HOUR.total_seconds()
    assert after.restore_test_at == one.restore(id).finished_at + 30 * DAY  # type: ignore[operator]  # it has ended
    assert {check.name for check in one.restore(id).checks if check.state == "passed"} >= {"disks", "contents"}
    (event,) = one.told("restore_test.passed")
    assert (event["data"]["restore"], event["data"]["carried_out"]) == (id, True)
    assert one.point(one.point_id).usable
    assert one.read(d.Instance, "instances", one.machine_id).newest_verified is not None


def test_a_test_that_finds_a_snapshot_gone_makes_the_point_unusable_and_nobodys_newest() -> None:
    one = due(isolated=True)
    ref = one.point(one.point_id).disks[0].snapshot
    one.cloud.remove_snapshot(cloud.snapshot_link(ref.project, ref.name))
    tick(one)
    after = finish(one)
    assert after.restore_tested is not None
    assert not after.restore_tested.passed
    assert not one.point(one.point_id).usable
    here = one.read(d.Instance, "instances", one.machine_id)
    assert here.newest_verified is None
    assert here.retention_at is not None
    (event,) = one.told("restore_test.failed")
    assert (event["data"]["carried_out"], event["data"]["failure"]["code"]) == (True, "point_gone")


def test_a_network_that_something_gets_out_of_is_told_and_says_nothing_of_the_point() -> None:
    one = due(isolated=False)
    tick(one)
    after = finish(one)
    assert after.restore_tested is None
    assert one.point(one.point_id).usable
    (event,) = one.told("restore_test.failed")
    assert (event["data"]["carried_out"], event["data"]["failure"]["code"]) == (False, "network_not_isolated")
    assert after.restore_test_at is not None
    assert after.restore_test_at <= one.now() + DAY


def spoilt(one: Restoring) -> cloud.Instance:
    """The instance of a test, one of whose disks holds something else than its snapshot: what is looked at again."""
    tick(one)
    one.run_until(lambda: len(one.machines()) == 2)
    (made,) = (made for made in one.cloud.instances() if made.name != "app")
    found = one.machine(made.name)
    assert found is not None
    one.cloud.write(found.disks[1].source, "something else")
    one.run(5 * MINUTE)
    restore = one.restore(one.read(d.Tenant).restore_testing or "")
    assert [(step.name, step.failure and step.failure.code) for step in restore.steps if step.state == "running"] == [
        ("check", "checks_failed")
    ]
    return found


def test_a_test_whose_disks_hold_something_else_makes_the_point_unusable() -> None:
    one = due(isolated=True)
    spoilt(one)
    finish(one)
    assert not one.point(one.point_id).usable
    (event,) = one.told("restore_test.failed")
    assert event["data"]["carried_out"] is True
    assert "contents" in event["data"]["failure"]["message"]


def test_a_test_whose_instance_somebody_takes_away_says_nothing_of_the_point() -> None:
    one = due(isolated=True)
    one.cloud.remove_instance(spoilt(one).link)
    finish(one)
    assert one.point(one.point_id).usable
    (event,) = one.told("restore_test.failed")
    assert (event["data"]["carried_out"], event["data"]["failure"]["code"]) == (False, "made_gone")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_run_that_dies_anywhere_leaves_one_test_or_none(number: int, when: str) -> None:
    one = due(isolated=True)
    one.die_at(number, when)
    one.outlive(lambda: tick(one))
    one.outlive(lambda: tick(one))  # in an hour; what it meets then, the first has left
    finish(one)
    tests = [path for path in one.memory.dump() if "/restores/" in path]
    assert len(tests) == 1
    assert len(one.told("restore_test.passed")) == 1

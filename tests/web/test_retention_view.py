"""What people are shown of retention: every stored point with its decision, now, later, and by another policy."""

from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from tests.makers import World, instance
from tests.web.fleets import BOUGHT, ENDED, Counting, put_copies, put_stored, put_tenant
from tests.web.people import client_of, put_people

from snapkeep import documents as d
from snapkeep import views
from snapkeep.views import RetentionView

WEEKS = d.Retention(keep_last=0, keep_daily=7, keep_weekly=0, keep_monthly=0, lock_days=0)


@pytest.fixture
def world() -> World:
    one = World()
    put_people(one)
    put_tenant(one, "alpha", retention=WEEKS)
    put_stored(one, "alpha", 20, lock_until=None)
    return one


def seen(world: World, **asked: Any) -> RetentionView:
    view = views.retention(world.ports, "alpha", **asked)
    assert view is not None
    return view


def decisions(view: RetentionView) -> list[str]:
    (one,) = view.instances
    return [line.decision for line in one.points]


def test_every_stored_point_has_its_decision_and_reasons_newest_first(world: World) -> None:
    view = seen(world)
    assert decisions(view) == ["keep"] * 7 + ["expire"] * 13
    assert view.instances[0].points[0].reasons == ["daily 1/7", "newest verified"]
    assert view.instances[0].points[7].reasons == ["no rule keeps it"]
    assert view.kept_by == {"daily": 7, "newest verified": 1}
    assert (view.going, view.going_bytes) == (13, 13 * (2 << 30))
    assert (view.proposed, view.assumed) == (False, [])


def test_the_bytes_of_a_point_are_those_that_its_tally_counts(world: World) -> None:
    one = world.points("alpha")[0]
    (disk,) = one.disks
    outdated = replace(disk.snapshot, name="sk-outdated", id="4711", bytes=1 << 40)
    world.put((f"tenants/alpha/points/{one.id}", replace(one, disks=[replace(disk, superseded=[outdated])])))
    assert {line.bytes for line in seen(world).instances[0].points} == {2 << 30}


def test_another_policy_is_tried_and_nothing_is_stored(world: World) -> None:
    before = world.memory.dump()
    view = seen(world, policy=replace(WEEKS, keep_daily=2))
    assert decisions(view) == ["keep"] * 2 + ["expire"] * 18
    assert view.proposed
    assert view.policy.keep_daily == 2
    assert world.memory.dump() == before


def test_a_later_moment_says_what_was_taken_for_granted(world: World) -> None:
    view = seen(world, at=world.clock.now() + timedelta(days=3))
    # Three points more by then, so three days less of the present ones are kept; the last of them is in its grace.
    assert decisions(view) == ["keep"] * 4 + ["expire"] + ["delete"] * 15
    assert view.assumed[0] == "every scheduled point until then is taken and verified"
    assert view.planned_for - view.at == timedelta(days=3)


def test_a_tenant_that_leaves_before_that_moment_keeps_nothing_for_ever(world: World) -> None:
    owner = world.read(d.Tenant, "tenants/alpha")
    leaves = d.Offboarding(at=world.clock.now() + timedelta(days=2), by="a@vendor.example", reason="end of contract")
    world.put(("tenants/alpha", replace(owner, offboarding=leaves)))
    view = seen(world, at=world.clock.now() + timedelta(days=93))
    assert set(decisions(view)) == {"delete"}
    assert view.assumed[0].startswith("it leaves on 2026-11-03 00:00 UTC")


def test_a_moment_that_has_passed_is_refused(world: World) -> None:
    with pytest.raises(views.BadMoment, match="expected a moment from now"):
        seen(world, at=world.clock.now() - timedelta(days=1))


def test_one_instance_can_be_asked_for_by_name_or_id(world: World) -> None:
    world.put(("tenants/alpha/instances/77", instance(id="77", name="alpha-db")))
    assert [one.name for one in seen(world).instances] == ["alpha-app", "alpha-db"]
    for asked in ("77", "alpha-db"):
        assert [one.id for one in seen(world, instance=asked).instances] == ["77"]
    assert views.retention(world.ports, "alpha", instance="none") is None
    assert views.retention(world.ports, "nobody") is None


def test_a_lost_instance_without_points_is_not_listed(world: World) -> None:
    world.put(("tenants/alpha/instances/77", instance(id="77", name="alpha-db", lost_at=world.clock.now())))
    assert [one.name for one in seen(world).instances] == ["alpha-app"]


def test_what_it_reads_is_bounded_and_what_is_left_out_is_counted(world: World) -> None:
    world.put(("tenants/alpha/instances/77", instance(id="77", name="alpha-db")))
    counting = Counting(world.memory)
    world.documents = counting
    view = seen(world, points_max=10)
    assert ([one.name for one in view.instances], view.left_out) == (["alpha-app"], 1)
    assert counting.reads == 1 + 2 + 20  # the tenant, its instances, the points of the first


def test_a_point_whose_deletion_has_begun_says_since_when(world: World) -> None:
    now = world.clock.now()
    gone = d.Expiry(was="verified", reason="no rule keeps it", decided_at=now, delete_after=now, begun_at=now)
    path = min(path for path, _ in world.documents_in("tenants/alpha/points/"))
    world.put((path, replace(world.read(d.Point, path), state="expiring", expiry=gone)))
    line = next(line for line in seen(world).instances[0].points if line.decision == "deleting")
    assert line.reasons == ["no rule keeps it", "its deletion began 2026-11-01 00:00 UTC"]


def test_an_instance_that_cannot_be_planned_says_why_and_the_others_are_planned(world: World) -> None:
    # A point that is expiring, and nobody knows what it was.
    damaged = min(path for path, _ in world.documents_in("tenants/alpha/points/"))
    world.put((damaged, replace(world.read(d.Point, damaged), state="expiring", expiry=None)))
    world.put(("tenants/alpha/instances/77", instance(id="77", name="alpha-db")))
    first, second = seen(world).instances
    assert (first.points, second.failure) == ([], None)
    assert first.failure is not None
    assert "is expiring without `expiry`" in first.failure
    shown = client_of(world.ports).get("/tenants/alpha").text
    assert "Cannot be planned, and so nothing of it is deleted" in shown


# --- copies -------------------------------------------------------------------------------------------------------


@pytest.fixture
def copied() -> World:
    one = World()
    put_people(one)
    put_tenant(one, "alpha")
    put_stored(one, "alpha", 6)
    put_copies(one, "alpha")
    return one


def test_copies_have_lines_of_their_own_beside_the_points_at_home(copied: World) -> None:
    (one,) = seen(copied).instances
    assert one.failure is None
    assert [line.region for line in one.points] == [None] * 5  # of the sixth nothing is stored at home
    copies = [(line.point[:8], line.region, line.state, line.decision, line.late) for line in one.copies]
    assert copies == [
        ("20261031", BOUGHT, "copying", "keep", True),
        ("20261030", BOUGHT, "verified", "keep", False),
        ("20261029", BOUGHT, "failed", "keep", True),
        ("20261028", BOUGHT, "expiring", "undo", False),
        ("20261026", BOUGHT, "verified", "keep", False),
        ("20261027", ENDED, "verified", "keep", False),
    ]
    assert [line.failure.code for line in one.copies if line.failure] == ["instant_gone"]
    assert "daily 1/7" in one.copies[1].reasons  # by the copies' own policy
    assert "no longer bought: kept until 2026-11-22 00:00 UTC" in one.copies[-1].reasons


def test_copies_that_go_are_counted_apart(copied: World) -> None:
    copied.clock.move(days=60)  # locks are over, and so is the grace of the region that is not bought any more
    view = seen(copied)
    (one,) = view.instances
    assert [line.decision for line in one.copies if line.region == ENDED] == ["expire"]
    going = [line for line in one.copies if line.decision not in views.KEPT]
    assert (view.copies_going, view.copies_going_bytes) == (len(going), sum(line.bytes for line in going))
    assert view.going == sum(line.decision not in views.KEPT for line in one.points)


def test_a_copy_that_failed_before_anything_of_it_was_stored_never_goes(copied: World) -> None:
    path = next(path for path, _ in copied.documents_in("tenants/alpha/points/20261029"))
    one = copied.read(d.Point, path)
    copies = one.copies | {BOUGHT: replace(one.copies[BOUGHT], disks=[])}
    copied.put((path, replace(one, copies=copies)))
    before = seen(copied).copies_going
    copied.clock.move(days=10)  # longer than what is left of a failed try is kept
    view = seen(copied)
    (line,) = [line for line in view.instances[0].copies if line.state == "failed"]
    assert (line.decision, line.reasons, line.bytes) == ("keep", ["nothing of it is stored"], 0)
    assert view.copies_going == before


def test_an_add_on_that_ends_before_the_moment_that_is_asked_for_keeps_nothing_then(copied: World) -> None:
    owner = copied.read(d.Tenant, "tenants/alpha")
    soon = d.InterRegionBackup(region=BOUGHT, valid_until="2026-11-30")
    copied.put(("tenants/alpha", replace(owner, entitlements=d.Entitlements(inter_region_backup=soon))))
    (one,) = seen(copied, at=copied.clock.now() + timedelta(days=100)).instances
    verified = [line for line in one.copies if line.region == BOUGHT and line.state == "verified"]
    assert {line.decision for line in verified} == {"delete"}


def test_a_policy_that_is_tried_is_that_of_the_points_and_not_of_their_copies(copied: World) -> None:
    (before,), (after,) = seen(copied).instances, seen(copied, policy=replace(WEEKS, keep_daily=1)).instances
    assert after.copies == before.copies
    assert after.points != before.points


def test_copies_cost_no_further_reads(copied: World) -> None:
    counting = Counting(copied.memory)
    copied.documents = counting
    seen(copied)
    assert counting.reads == 1 + 1 + 6  # the tenant, its instance, its points


def test_a_hold_on_a_copy_says_which_it_is_on(copied: World) -> None:
    point = copied.points("alpha")[0]
    (region,) = point.copies
    held = d.Hold(id="h-0123456789ab", reason="case 4711", by="somebody", at=copied.clock.now())
    copies = {region: replace(point.copies[region], holds=[held])}
    copied.put((f"tenants/alpha/points/{point.id}", replace(point, copies=copies, held=True)))
    (line,) = views.holds(copied.ports, "alpha").holds
    assert (line.name, line.copy, line.hold) == (point.id, region, held)

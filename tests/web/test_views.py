"""Views: derived states, the order that they are shown in, pages, and a bound on what each reads."""

from datetime import UTC, datetime, timedelta
from typing import get_args, get_type_hints

import pytest
from msgspec.structs import replace
from tests.makers import INSTANCE_ID, REGION, THEN, ZONE, World, copy_of, instance, point, point_disk, tenant
from tests.web.figures import put_rejected
from tests.web.fleets import Counting, put_points, put_tenant, snapshot_ref

from snapkeep import documents as d
from snapkeep import views
from snapkeep.messages import Nudge
from snapkeep.ports import Replace
from snapkeep.views import BadCursor
from snapkeep_local import schedule


def every_tenant(world: World) -> list[str]:
    found: list[str] = []
    after: str | None = None
    while True:
        page = views.fleet(world.ports, after)
        found += [line.id for line in page.tenants]
        if page.next is None:
            return found
        after = page.next


def test_tenants_that_need_somebody_come_first() -> None:
    world = World()
    put_tenant(world, "alpha")
    put_tenant(world, "beta", deployment="private_saas")
    put_tenant(world, "gamma", breached=True)
    put_tenant(world, "delta", unprotected=True)
    put_tenant(world, "aaron")
    lines = views.fleet(world.ports).tenants
    assert [(line.id, line.state) for line in lines] == [
        ("gamma", "breached"),
        ("delta", "at_risk"),
        ("aaron", "protected"),
        ("alpha", "protected"),
        ("beta", "client_managed"),
    ]


def test_the_order_follows_when_a_state_changes() -> None:
    world = World()
    world.set_up()
    world.tick("health")
    put_tenant(world, "zeta", unprotected=True)
    put_tenant(world, "yota")
    assert [line.id for line in views.fleet(world.ports).tenants] == ["acme", "zeta", "yota"]
    # Nothing of acme is ever verified: after its RPO it is in breach.
    world.clock.move(hours=27)
    world.hand("health", Nudge(tenants=["acme"]))
    assert views.fleet(world.ports).tenants[0].state == "breached"


def test_pages_hold_every_tenant_once() -> None:
    world = World()
    for number in range(120):
        put_tenant(world, f"t{number:03}", breached=number % 7 == 0)
    found = every_tenant(world)
    assert sorted(found) == [f"t{number:03}" for number in range(120)]
    assert found[:18] == [f"t{number:03}" for number in range(120) if number % 7 == 0]


def test_a_fleet_of_any_size_costs_the_same_reads() -> None:
    world = World()
    for number in range(300):
        put_tenant(world, f"t{number:03}")
    for number in range(30):
        world.hand("create", f"bad {number}".encode())
    put_points(world, "t000", 200)
    world.clock.move(seconds=1)
    for view, most in (
        (lambda: views.fleet(world.ports), 50 + 20 + len(views.PERIODS) + 1 + 4),
        (lambda: views.fleet_version(world.ports), 4),
        (lambda: views.tenant(world.ports, "t000"), 2 + 200 + 50),
        (lambda: views.points(world.ports), 50),
        (lambda: views.point(world.ports, "20261101-o-t000-app-00000001"), 2),
    ):
        counting = Counting(world.memory)
        world.documents = counting
        view()
        assert 0 < counting.reads <= most


def test_the_version_changes_with_anyones_health_and_each_minute() -> None:
    world = World()
    put_tenant(world, "alpha")
    first = views.fleet_version(world.ports)
    assert views.fleet(world.ports).version == first
    world.clock.move(seconds=1)
    put_tenant(world, "beta", breached=True)
    second = views.fleet_version(world.ports)
    world.clock.move(minutes=1)
    assert len({first, second, views.fleet_version(world.ports)}) == 3


def test_the_version_changes_with_anyones_health_while_the_clock_stands_still() -> None:
    world = World()
    for id in ("alpha", "beta", "zeta"):
        put_tenant(world, id)
    seen = [views.fleet_version(world.ports)]
    for id in ("alpha", "zeta", "beta"):  # whichever of them it is that changes
        put_tenant(world, id, breached=True)
        seen.append(views.fleet_version(world.ports))
    assert len(set(seen)) == 4
    assert views.fleet_version(world.ports) == seen[-1]


def test_the_version_changes_with_each_bad_message_while_the_clock_stands_still() -> None:
    world = World()
    seen = [views.fleet_version(world.ports)]
    for number in range(8):
        world.hand("create", f"bad {number}".encode())
        seen.append(views.fleet_version(world.ports))
    assert len(set(seen)) == 9


def test_the_version_changes_with_the_totals_of_a_run_that_began_before_the_newest_change() -> None:
    world = World()
    world.set_up()
    world.tick("health")
    began = views.fleet(world.ports).totals
    assert began is not None
    world.clock.move(seconds=2)
    put_tenant(world, "beta")
    first = views.fleet_version(world.ports)
    world.put(("health/_fleet", replace(began, breached=1)))
    assert views.fleet_version(world.ports) != first


def test_the_version_of_one_tenant_tells_of_its_own_pauses_and_of_no_others() -> None:
    world = World()
    for id in ("alpha", "beta"):
        put_tenant(world, id)

    def pause(stopped: d.Paused) -> None:
        world.put(("system/controls", d.Controls(updated_at=THEN, paused=d.PausedKinds(deletion=stopped))))

    before = views.fleet_version(world.ports, only="alpha")
    whole = views.fleet_version(world.ports)
    pause(d.Paused(tenants=["beta"], projects=["beta-prod"]))
    assert views.fleet_version(world.ports, only="alpha") == before
    assert views.fleet_version(world.ports) != whole
    pause(d.Paused(tenants=["alpha"]))
    assert views.fleet_version(world.ports, only="alpha") != before


def test_the_version_at_one_instant_costs_a_page_of_each_at_the_most() -> None:
    world = World()
    for number in range(70):
        put_tenant(world, f"t{number:03}")
        world.hand("create", f"bad {number}".encode())
    counting = Counting(world.memory)
    world.documents = counting
    views.fleet_version(world.ports)
    assert counting.reads == 4 + 50 + 50


def test_a_fleet_that_was_never_computed_has_no_totals() -> None:
    view = views.fleet(World().ports)
    assert (view.totals, view.tenants, view.next, view.bad_messages) == (None, [], None, [])
    assert all(tick.at is None and tick.silent for tick in view.ticks)


def test_bad_messages_are_shown_newest_first() -> None:
    world = World()
    for number in range(3):
        world.hand("create", f"bad {number}".encode())
        world.clock.move(minutes=1)
    assert [bad.excerpt for bad in views.fleet(world.ports).bad_messages] == ["bad 2", "bad 1", "bad 0"]


def test_no_number_of_rejected_messages_hides_a_dead_letter() -> None:
    world = World()
    put_rejected(world, 0, at=THEN)
    for number in range(1, 41):
        put_rejected(world, number, kind="rejected", at=THEN + timedelta(minutes=number))
    shown = views.fleet(world.ports).bad_messages
    newest = [THEN + timedelta(minutes=number) for number in range(40, 30, -1)]
    assert [(bad.kind, bad.at) for bad in shown] == [("dead_letter", THEN), *(("rejected", at) for at in newest)]


def test_every_kind_of_bad_message_is_shown() -> None:
    assert set(views.BAD_KINDS) == set(get_args(get_type_hints(d.Rejected)["kind"]))


@pytest.mark.parametrize(
    ("function", "late", "silent"),
    [
        ("reconcile", timedelta(minutes=9), False),  # a minute is not worth waking anybody
        ("reconcile", timedelta(minutes=11), True),
        ("plan", timedelta(minutes=15), False),
        ("plan", timedelta(minutes=16), True),
        ("discover", timedelta(minutes=29), False),
        ("discover", timedelta(minutes=31), True),
    ],
)
def test_a_function_is_silent_after_three_periods(function: str, late: timedelta, silent: bool) -> None:
    ticks = {tick.function: tick.silent for tick in views.last_ticks({function: THEN}, THEN + late)}
    assert ticks.pop(function) == silent
    assert all(ticks.values())


def test_the_periods_are_those_of_functions_yaml() -> None:
    scheduled = {f.name: timedelta(minutes=f.every_min) for f in schedule.functions() if f.every_min}
    assert scheduled == views.PERIODS


# --- a tenant and points ------------------------------------------------------------------------------------------


def test_a_tenant_that_is_not_there_has_no_view() -> None:
    assert views.tenant(World().ports, "nobody") is None


BOUGHT = d.Entitlements(inter_region_backup=d.InterRegionBackup(region="us-east1", valid_until="2026-11-30"))


def newest(hours: float) -> d.Newest:
    return d.Newest(point="p", at=THEN + timedelta(hours=hours), took_s=60)


def mapped(owner: d.Tenant, *instances: d.Instance, at: datetime = THEN) -> list[views.RegionLine]:
    return views.regions(owner, instances, at)


def test_the_region_map_says_what_is_at_home_and_what_is_copied() -> None:
    copied = d.CopyWork(verified=4, bytes=40, newest={"us-east1": newest(5)})
    one = instance(newest_verified=newest(6), tally=d.Tally(stored=9, bytes=90), copies=copied)
    bare = instance(id="2", name="bare", newest_verified=newest(3), tally=d.Tally(stored=1, bytes=10))
    home, copy = mapped(tenant(entitlements=BOUGHT), one, bare)
    assert (home.region, home.role, home.sets, home.bytes) == (REGION, "home", 10, 100)
    assert (home.newest_at, home.without, home.bought_until) == (newest(6).at, [], None)
    assert (copy.region, copy.role, copy.sets, copy.bytes) == ("us-east1", "copy", 4, 40)
    assert (copy.newest_at, copy.bought_until, copy.ended_at) == (newest(5).at, "2026-11-30", None)
    assert copy.without == [f"bare in {ZONE}"]


def test_what_was_just_bought_stands_in_the_region_map_though_nothing_is_there_yet() -> None:
    _, copy = mapped(tenant(entitlements=BOUGHT), instance())
    assert (copy.region, copy.newest_at, copy.sets, copy.bytes) == ("us-east1", None, 0, 0)


def test_copies_that_are_no_longer_bought_say_since_when() -> None:
    still = instance(copies=d.CopyWork(unentitled=3, bytes=30, newest={"us-east1": newest(5)}))
    _, copy = mapped(tenant(copies_ended={"us-east1": THEN}), still)
    assert (copy.bought_until, copy.ended_at, copy.sets, copy.bytes) == (None, THEN, 3, 30)


def test_an_add_on_whose_last_day_is_over_is_not_shown_as_bought_though_nobody_has_counted_since() -> None:
    still = instance(copies=d.CopyWork(verified=3, bytes=30, newest={"us-east1": newest(5)}))
    _, copy = mapped(tenant(entitlements=BOUGHT, timezone="UTC"), still, at=datetime(2026, 12, 1, tzinfo=UTC))
    assert (copy.bought_until, copy.ended_at) == (None, datetime(2026, 12, 1, tzinfo=UTC))
    assert (copy.sets, copy.bytes) == (3, 30)


def test_an_add_on_that_is_over_and_left_nothing_behind_is_not_shown() -> None:
    over = datetime(2026, 12, 2, tzinfo=UTC)
    assert [line.role for line in mapped(tenant(entitlements=BOUGHT), instance(), at=over)] == ["home"]


def test_what_was_bought_in_another_region_before_has_its_own_line() -> None:
    moved = d.CopyWork(verified=2, unentitled=3, bytes=50, newest={"us-east1": newest(5), "us-west1": newest(1)})
    _, new, old = mapped(tenant(entitlements=BOUGHT, copies_ended={"us-west1": THEN}), instance(copies=moved))
    assert (new.region, new.sets, new.bytes) == ("us-east1", 2, None)
    assert (old.region, old.sets, old.bytes, old.ended_at) == ("us-west1", 3, None, THEN)


def test_the_region_map_costs_no_read_of_its_own() -> None:
    world = World()
    put_tenant(world, "acme", entitlements=BOUGHT)
    counting = Counting(world.memory)
    world.documents = counting
    view = views.tenant(world.ports, "acme")
    assert view is not None
    assert [line.role for line in view.regions] == ["home", "copy"]
    assert counting.reads == 4  # the tenant, its health, its one instance; and that there is no point


def test_the_sets_of_a_point_stand_side_by_side_home_first() -> None:
    at = THEN + timedelta(minutes=1)
    ref = snapshot_ref(name="sk-1", id="1", status="READY", bytes=5, created_at=at)
    here = point_disk(snapshot=ref)
    there = replace(ref, name="sk-2", location="us-east1", id="2")
    lost = d.CopyDisk(id="1", name=here.name, snapshot=there)
    copies = {
        "us-east1": copy_of("verified", disks=[lost], verified_at=at, gone=["sk-2"]),
        "europe-west3": copy_of("requested", late_told=True, way="temporary_disk"),
    }
    home, waiting, copy = views.sets_of(point(state="verified", disks=[here], verified_at=at, copies=copies))
    assert (home.region, home.role, home.state, home.ready, home.bytes) == (REGION, "home", "verified", 1, 5)
    assert (home.way, home.taken_at, home.late) == (None, at, False)
    assert (copy.region, copy.role, copy.state, copy.way) == ("us-east1", "copy", "verified", "moment")
    assert (copy.disks, copy.ready, copy.taken_at) == (1, 0, at)
    assert (waiting.state, waiting.late, waiting.disks, waiting.taken_at) == ("requested", True, 0, None)


def test_what_is_read_to_be_gone_of_a_set_has_no_bytes() -> None:
    disk = point_disk(snapshot=snapshot_ref(name="sk-1", id="1", status="GONE", bytes=5))
    gone = d.CopyDisk(id="1", name=disk.name, snapshot=disk.snapshot)
    lines = views.sets_of(point(state="deleted", disks=[disk], copies={"us-east1": copy_of("deleted", disks=[gone])}))
    assert [(line.disks, line.ready, line.bytes) for line in lines] == [(1, 0, 0), (1, 0, 0)]


def test_a_tenant_without_health_is_shown_all_the_same() -> None:
    world = World()
    world.put(("tenants/acme", tenant()), (f"tenants/acme/instances/{INSTANCE_ID}", instance()))
    view = views.tenant(world.ports, "acme")
    assert view is not None
    assert (view.state, view.health, [i.name for i in view.instances]) == (None, None, ["acme-pam-1"])


def test_points_come_newest_first_page_by_page() -> None:
    world = World()
    put_points(world, "acme", 60)
    put_points(world, "beta", 60, state="verified")
    ids: list[tuple[str, str]] = []
    times: list[datetime] = []
    after: str | None = None
    while True:
        page = views.points(world.ports, after=after)
        ids += [(one.tenant, one.id) for one in page.points]
        times += [one.requested_at for one in page.points]
        if page.next is None:
            break
        after = page.next
    assert len(ids) == len(set(ids)) == 120
    assert times == sorted(times, reverse=True)
    assert {p.tenant for p in views.points(world.ports, state="verified").points} == {"beta"}
    assert {p.tenant for p in views.points(world.ports, tenant="acme").points} == {"acme"}
    assert views.points(world.ports, tenant="acme", state="verified").points == []


def test_a_point_that_two_tenants_have_is_told_apart() -> None:
    world = World()
    one = point()
    world.put((f"tenants/acme/points/{one.id}", one), (f"tenants/beta/points/{one.id}", one))
    assert [p.tenant for p in views.point(world.ports, one.id)] == ["acme", "beta"]
    assert [p.tenant for p in views.point(world.ports, one.id, "beta")] == ["beta"]
    assert views.point(world.ports, "20261101-o-acme-pam-1-ffffffff") == []


@pytest.mark.parametrize("cursor", ["", "0", "0|", "x|acme", "0|acme/..", "0|acme\n", "2026-11-01|acme|p"])
def test_a_cursor_that_no_page_ended_with_is_refused(cursor: str) -> None:
    if cursor:
        with pytest.raises(BadCursor, match="after: "):
            views.fleet(World().ports, cursor)
        with pytest.raises(BadCursor, match="after: "):
            views.points(World().ports, after=f"{cursor}|")


def test_a_damaged_document_hides_nobody_else() -> None:
    world = World()
    put_tenant(world, "alpha")
    put_tenant(world, "beta")
    (seen,) = world.memory.get("health/alpha")
    assert seen is not None
    world.memory.commit(Replace("health/alpha", seen.data | {"days": 7}, seen.version))
    assert [line.id for line in views.fleet(world.ports).tenants] == ["beta"]

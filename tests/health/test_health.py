"""What dashboards read, and the alerts that time alone brings."""

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from tests.makers import INSTANCE_ID, THEN, ZONE, World, disk, instance, machine, owner_due, tenant

from snapkeep import documents as d
from snapkeep import health
from snapkeep.messages import Nudge
from snapkeep.ports import Doc, Query, Refused, Write
from snapkeep_local.memory import MemoryDocuments

BOOT = disk()
INSTANCE = f"tenants/acme/instances/{INSTANCE_ID}"
RPO = timedelta(hours=26)
HOUR = timedelta(hours=1)


def world(**of: Any) -> World:
    one = World()
    one.set_up(machine(BOOT), of=tenant(timezone="UTC", **of), disks=(BOOT,))
    one.tick("health")
    return one


def verified(one: World, at: datetime) -> None:
    """A point of the instance, taken at this instant, has just been verified."""
    here = one.the_instance()
    newest = d.Newest(point="p", at=at, took_s=60)
    one.put((INSTANCE, replace(here, newest_verified=newest, updated_at=one.clock.now())))


def of_tenant(one: World, id: str = "acme") -> d.TenantHealth:
    return one.read(d.TenantHealth, f"health/{id}")


def of_fleet(one: World) -> d.FleetHealth:
    return one.read(d.FleetHealth, "health/_fleet")


def events(one: World, *types: str) -> list[dict[str, Any]]:
    one.tick("audit")
    return [event for event in one.events() if event["type"] in types]


# --- one tenant ---------------------------------------------------------------------------------------------------


def at(hours: float) -> datetime:
    return THEN + timedelta(hours=hours)


def newest(hours: float) -> d.Newest:
    return d.Newest(point="p", at=at(hours), took_s=60)


def test_a_tenants_newest_point_is_that_of_its_worst_instance() -> None:
    two = [instance(newest_verified=newest(5)), instance(id="2", newest_verified=newest(3))]
    assert health.compute(tenant(), two, THEN).newest_verified_at == at(3)


def test_a_tenant_with_an_instance_that_has_no_point_has_no_newest_point() -> None:
    two = [instance(newest_verified=newest(5)), instance(id="2", name="bare")]
    told = health.compute(tenant(), two, THEN)
    assert told.newest_verified_at is None
    assert told.unprotected == [f"bare in {ZONE}"]


def test_a_lost_instance_does_not_make_its_tenant_worse_but_its_days_and_points_stay() -> None:
    lost = instance(id="2", lost_at=THEN, tally=d.Tally(verified=3, bytes=7, days={"2026-11-01": "failed"}))
    told = health.compute(tenant(), [instance(newest_verified=newest(5)), lost], THEN)
    assert told.newest_verified_at == at(5)
    assert told.unprotected == []
    assert (told.counts["instances"], told.counts["lost"], told.counts["verified"], told.bytes) == (1, 1, 3, 7)
    assert told.days == {"2026-11-01": "failed"}


def test_a_day_is_as_good_as_its_worst_instance() -> None:
    days = [
        {"2026-11-01": "verified", "2026-11-02": "verified", "2026-11-03": "verified"},
        {"2026-11-01": "failed", "2026-11-02": "missed"},
        {"2026-11-01": "missed", "2026-11-02": "failed", "2026-11-03": "verified"},
    ]
    three = [instance(id=str(n), tally=d.Tally(days=these)) for n, these in enumerate(days)]
    told = health.compute(tenant(), three, THEN)
    assert told.days == {"2026-11-01": "missed", "2026-11-02": "missed", "2026-11-03": "verified"}


def test_the_days_shown_are_bounded() -> None:
    days = {(THEN + timedelta(days=n)).date().isoformat(): "verified" for n in range(60)}
    told = health.compute(tenant(), [instance(tally=d.Tally(days=days))], THEN)
    assert len(told.days) == 35
    assert min(told.days) == "2026-11-26"


def test_totals_are_those_of_the_instances() -> None:
    tallies = [d.Tally(running=1, verified=2, failed=3, missed=4, bytes=5), d.Tally(running=10, verified=20, bytes=50)]
    told = health.compute(tenant(), [instance(id=str(n), tally=t) for n, t in enumerate(tallies)], THEN)
    assert told.counts == {"instances": 2, "lost": 0, "verified": 22, "failed": 3, "missed": 4}
    assert (told.running, told.bytes) == (11, 55)


def test_points_that_lost_a_snapshot_are_counted() -> None:
    two = [instance(retention=d.RetentionWork(incomplete=2)), instance(id="2", retention=d.RetentionWork(incomplete=1))]
    told = health.compute(tenant(), two, THEN)
    assert told.incomplete == 3
    assert health.summarise([told, told], THEN).incomplete == 6


BOUGHT = d.Entitlements(inter_region_backup=d.InterRegionBackup(region="us-east1", valid_until="2027-12-31"))


def test_copies_are_the_sums_of_the_instances_lost_ones_too() -> None:
    here = d.CopyWork(verified=7, waiting=1, lagging=2, missing=3, bytes=70, catch_up_disks=4, catch_up_bytes=400)
    lost = d.CopyWork(verified=5, unentitled=6, bytes=50)
    two = [instance(copies=here), instance(id="2", lost_at=THEN, copies=lost)]
    assert health.compute(tenant(entitlements=BOUGHT), two, THEN).copies == {
        "verified": 12,
        "waiting": 1,
        "lagging": 2,
        "missing": 3,
        "unentitled": 6,
        "bytes": 120,
        "catch_up_disks": 4,
        "catch_up_bytes": 400,
    }


def test_copies_are_shown_where_they_are_bought_or_still_there_and_of_nobody_else() -> None:
    still = instance(copies=d.CopyWork(unentitled=1))
    assert health.compute(tenant(), [instance()], THEN).copies == {}
    assert set(health.compute(tenant(entitlements=BOUGHT), [instance()], THEN).copies.values()) == {0}
    assert health.compute(tenant(), [still], THEN).copies["unentitled"] == 1


def test_every_count_of_copies_is_shown() -> None:
    counted = {field.name for field in msgspec.structs.fields(d.CopyWork) if field.type is int}
    assert set(health.COPIES) == counted


def test_the_fleets_copies_are_those_of_its_tenants() -> None:
    told = [
        health.compute(tenant(entitlements=BOUGHT), [instance(copies=d.CopyWork(verified=n, missing=1))], THEN)
        for n in (2, 3)
    ]
    fleet = health.summarise([*told, health.compute(tenant(), [instance()], THEN)], THEN)
    assert (fleet.copies["verified"], fleet.copies["missing"], fleet.copies["lagging"]) == (5, 2, 0)
    assert health.summarise([health.compute(tenant(), [], THEN)], THEN).copies == {}


@pytest.mark.parametrize(
    ("owner", "instances", "expected"),
    [
        ({}, [{"newest_verified": newest(0)}], "protected"),
        ({}, [{}], "at_risk"),
        ({}, [{"newest_verified": newest(0), "tally": d.Tally(days={"2026-11-01": "failed"})}], "at_risk"),
        ({}, [{"newest_verified": newest(0), "tally": d.Tally(days={"2026-11-01": "missed"})}], "at_risk"),
        (
            {},
            [{"newest_verified": newest(0), "tally": d.Tally(days={"2026-11-01": "missed", "2026-11-02": "verified"})}],
            "protected",
        ),
        ({}, [{"newest_verified": newest(0), "breach_at": THEN}], "breached"),
        ({"unmatched": ["ghost in z"]}, [{"newest_verified": newest(0)}], "at_risk"),
        ({}, [], "at_risk"),
        ({"discovery_failure": d.Failure(code="forbidden", message="no")}, [], "at_risk"),
        ({"instances": d.Selected(by_label=d.ByLabel(label="a=b"))}, [], "at_risk"),
        ({}, [{"newest_verified": newest(0), "lost_at": THEN}], "at_risk"),
        ({"deployment": "private_saas"}, [{}], "client_managed"),
        ({"deployment": "private_saas"}, [], "client_managed"),
    ],
)
def test_a_tenants_state_never_claims_a_protection_that_nobody_has_seen(
    owner: dict[str, Any], instances: list[dict[str, Any]], expected: str
) -> None:
    theirs = [instance(**({"id": str(number)} | fields)) for number, fields in enumerate(instances)]
    assert health.state(health.compute(tenant(**owner), theirs, THEN)) == expected


def test_a_tenant_whose_project_may_not_be_read_is_at_risk_from_the_start() -> None:
    one = World()

    def forbid(call: str) -> None:
        if call.startswith("find"):
            raise Refused("forbidden", code=403, reason="forbidden")

    one.compute.before = forbid
    one.put(("tenants/acme", owner_due(tenant(), one.clock.now())))
    one.tick("discover", "health")
    assert of_tenant(one).unprotected == [f"acme-pam-1 in {ZONE}"]
    assert of_fleet(one).unprotected == 1


# --- breaches -----------------------------------------------------------------------------------------------------


def test_a_breach_is_raised_once_when_its_time_comes_and_restored_once_by_a_point() -> None:
    one = world()
    one.clock.at = THEN + RPO - timedelta(minutes=1)
    one.tick("health")
    assert one.the_instance().breach_at is None
    one.clock.at = THEN + RPO
    for _ in range(5):
        one.tick("health")
        one.clock.move(minutes=5)
    assert one.the_instance().breach_at == THEN + RPO
    assert of_tenant(one).breach_at == THEN + RPO
    assert health.state(of_tenant(one)) == "breached"
    assert of_fleet(one).breached == 1
    (raised,) = events(one, "rpo.breached")
    assert raised["data"]["instance"] == "acme-pam-1"
    assert raised["data"]["rpo_hours"] == 26
    verified(one, one.clock.now())
    for _ in range(5):
        one.tick("health")
        one.clock.move(minutes=5)
    here = one.the_instance()
    assert here.breach_at is None
    assert here.newest_verified is not None
    assert here.breach_due_at == here.newest_verified.at + RPO
    assert len(events(one, "rpo.breached")) == len(events(one, "rpo.restored")) == 1
    assert of_fleet(one).breached == 0


def test_a_point_that_is_itself_too_old_ends_no_breach() -> None:
    one = world()
    one.clock.at = THEN + 3 * RPO
    one.tick("health")
    verified(one, THEN + RPO)
    one.tick("health")
    assert one.the_instance().breach_at is not None
    assert events(one, "rpo.restored") == []


def test_each_breach_has_an_event_of_its_own() -> None:
    one = world()
    owner = one.read(d.Tenant, "tenants/acme")
    one.clock.at = THEN + RPO
    one.tick("health")
    for hours in (300, 26, 300, 26):
        one.clock.move(minutes=10)
        one.put(("tenants/acme", replace(owner, rpo_hours=hours, updated_at=one.clock.now())))
        one.tick("health")
    ids = [event["id"] for event in events(one, "rpo.breached", "rpo.restored")]
    assert len(ids) == len(set(ids)) == 5


def test_two_runs_of_health_at_once_raise_one_breach() -> None:
    one = world()
    one.clock.at = THEN + RPO

    class Meanwhile:
        def __init__(self) -> None:
            self.happened = False

        def get(self, *paths: str) -> Any:
            return one.memory.get(*paths)

        def find(self, query: Any) -> Any:
            return one.memory.find(query)

        def commit(self, *writes: Any) -> None:
            if not self.happened:
                self.happened = True
                one.documents = one.memory
                one.clock.move(seconds=1)
                one.hand("health", Nudge(tenants=["acme"]))
            one.memory.commit(*writes)

    one.documents = Meanwhile()
    one.hand("health", Nudge(tenants=["acme"]))
    one.tick("health")
    assert len(events(one, "rpo.breached")) == 1
    assert of_tenant(one).breach_at == THEN + RPO


def test_a_client_managed_tenant_is_never_in_breach() -> None:
    one = world(deployment="private_saas")
    one.clock.move(days=90)
    one.tick("health")
    assert events(one, "rpo.breached") == []
    assert health.state(of_tenant(one)) == "client_managed"
    assert of_fleet(one).client_managed == 1


def test_a_lost_instance_is_not_in_breach() -> None:
    one = world()
    del one.compute.resources[machine().link]
    one.clock.move(hours=1)
    one.tick("discover")
    one.clock.move(days=90)
    one.tick("health")
    assert events(one, "rpo.breached") == []


# --- a dead planner -----------------------------------------------------------------------------------------------


def test_health_writes_down_the_slots_that_a_dead_planner_let_pass() -> None:
    one = world()
    for _ in range(7 * 24):
        one.clock.move(hours=1)
        one.tick("health")
    days = [p.slot.day for p in one.points() if p.slot]
    assert {p.state for p in one.points()} == {"missed"}
    assert days == [f"2026-11-0{n}" for n in range(1, 8)]
    told = [day for event in events(one, "slot.missed") for day in event["data"]["days"]]
    assert told == days
    assert of_tenant(one).counts["missed"] == 7
    assert of_tenant(one).days == dict.fromkeys(days, "missed")


def test_health_leaves_a_slot_that_can_still_be_taken_to_the_planner() -> None:
    one = world()
    due = one.the_instance().next_slot_at
    assert due is not None
    one.clock.at = due + 19 * HOUR
    one.tick("health")
    assert one.points() == []
    one.tick("plan")
    assert one.the_point().state == "creating"


def test_health_writes_down_what_was_missed_even_where_the_next_slot_has_come() -> None:
    one = world(schedule=d.Schedule(catch_up_hours=23))
    due = one.the_instance().next_slot_at
    assert due is not None
    one.clock.at = due + timedelta(days=3, hours=2)  # health too was dead, until now
    one.tick("health")
    assert [(p.slot.day, p.state) for p in one.points() if p.slot] == [
        ("2026-11-01", "missed"),
        ("2026-11-02", "missed"),
        ("2026-11-03", "missed"),
    ]
    one.tick("plan")
    assert [p.state for p in one.points()] == ["missed"] * 3 + ["creating"]
    assert one.the_instance().tally.missed == 3


# --- the fleet ----------------------------------------------------------------------------------------------------


def test_the_fleet_is_the_sum_of_its_tenants() -> None:
    one = world()
    far = disk(project="beta-prod")
    beta = tenant(id="beta", name="Beta", project="beta-prod", timezone="UTC", deployment="private_saas")
    one.set_up(machine(far, id="7", project="beta-prod"), of=beta, disks=(far,))
    one.hand("create", b"nonsense")
    one.tick("plan", "health")
    told = of_fleet(one)
    assert (told.tenants, told.instances, told.client_managed, told.breached) == (2, 2, 1, 0)
    assert told.unprotected == 1
    assert told.rejected == 1
    assert told.dead_letters == 0
    assert {"discover", "plan", "health"} >= set(told.ticks) >= {"discover", "plan"}
    assert told.computed_at == one.clock.now()


def test_bad_messages_are_counted_for_a_week() -> None:
    one = world()
    one.hand("create", b"nonsense")
    one.clock.move(days=6)
    one.tick("health")
    assert of_fleet(one).rejected == 1
    one.clock.move(days=2)
    one.tick("health")
    assert of_fleet(one).rejected == 0


def test_a_running_point_is_seen_in_its_tenant_and_in_the_fleet() -> None:
    one = world()
    due = one.the_instance().next_slot_at
    assert due is not None
    one.clock.at = due
    one.tick("plan")
    assert of_tenant(one).running == 1
    one.tick("health")
    assert of_fleet(one).running == 1
    one.clock.move(minutes=20)
    one.compute.finish_all()
    one.tick("reconcile", "health")
    assert (of_tenant(one).running, of_tenant(one).counts["verified"]) == (0, 1)
    assert health.state(of_tenant(one)) == "protected"
    assert of_fleet(one).bytes > 0


def test_a_tick_computes_only_what_changed_and_writes_only_what_differs() -> None:
    one = world()
    one.clock.move(hours=1)
    one.tick("health")
    before = of_tenant(one)
    one.clock.move(hours=1)
    one.tick("health")
    assert of_tenant(one) == before
    assert of_fleet(one).computed_at == one.clock.now()


def test_a_change_that_was_committed_late_is_not_overlooked() -> None:
    one = world()
    decided = one.clock.now() + timedelta(minutes=1)
    one.clock.move(minutes=8)
    one.tick("health")
    here = one.the_instance()
    # A slow function decided at 00:01 and commits only now, after health has looked.
    one.put((INSTANCE, replace(here, tally=d.Tally(verified=5), updated_at=decided)))
    one.clock.move(minutes=5)
    one.tick("health")
    assert of_tenant(one).counts["verified"] == 5


def test_an_older_reading_that_is_written_late_is_mended_by_the_next_tick() -> None:
    one = world()
    one.clock.move(minutes=30)
    stale = of_tenant(one)
    one.put((INSTANCE, replace(one.the_instance(), tally=d.Tally(verified=5), updated_at=one.clock.now())))
    one.tick("health")
    one.put(("health/acme", stale))  # another run had read the instance before
    one.clock.move(minutes=5)
    one.tick("health")
    assert of_tenant(one).counts["verified"] == 5


class Finds:
    """Documents that remember which collections were asked for, and how often."""

    def __init__(self, inner: MemoryDocuments) -> None:
        self.inner = inner
        self.collections: Counter[str] = Counter()

    def get(self, *paths: str) -> list[Doc | None]:
        return self.inner.get(*paths)

    def find(self, query: Query) -> list[Doc]:
        found = self.inner.find(query)
        self.collections[query.collection] += len(found)
        return found

    def commit(self, *writes: Write) -> None:
        self.inner.commit(*writes)


def test_the_fleet_is_summed_again_only_after_a_tenant_has_changed() -> None:
    one = world()
    one.clock.move(hours=1)
    one.tick("health")
    one.clock.move(minutes=30)
    one.documents = finds = Finds(one.memory)
    one.tick("health")
    assert finds.collections["health"] == 0
    assert of_fleet(one).tenants == 1
    assert of_fleet(one).ticks["health"] == one.clock.now() - timedelta(minutes=30)


def test_a_tenants_health_that_was_written_late_is_summed_by_the_next_tick() -> None:
    one = world()
    one.clock.move(hours=1)
    one.tick("health")
    decided = one.clock.now() + timedelta(minutes=1)
    one.clock.move(minutes=8)
    one.tick("health")
    # A slow run decided at 01:01 and writes only now, after the fleet was summed.
    one.put(("health/acme", replace(of_tenant(one), running=3, updated_at=decided)))
    one.clock.move(minutes=5)
    one.tick("health")
    assert of_fleet(one).running == 3


def test_more_tenants_than_are_looked_at_at_once_are_all_looked_at() -> None:
    one = World()
    ids = [f"tenant-{number:03d}" for number in range(health.TENANTS_AT_ONCE + 1)]
    one.put(*((f"tenants/{id}", tenant(id=id)) for id in ids))
    one.tick("health")
    assert of_fleet(one).tenants == len(ids)


# --- who has left, who has switched the schedule on, and what goes ------------------------------------------------


def switched(on: bool) -> d.ScheduleSwitch:
    return d.ScheduleSwitch(on=on, by="client@acme.example", at=THEN)


@pytest.mark.parametrize(
    ("of", "stands"),
    [
        ({"deployment": "private_saas"}, "client_managed"),
        ({"deployment": "private_saas", "schedule_switch": switched(False)}, "client_managed"),
        ({"deployment": "private_saas", "schedule_switch": switched(True)}, "protected"),
        ({"offboarding": d.Offboarding(at=THEN, by="a", reason="r")}, "offboarded"),
        ({"offboarding": d.Offboarding(at=THEN + HOUR, by="a", reason="r")}, "protected"),
    ],
    ids=str,
)
def test_a_tenant_stands_as_who_takes_care_of_it_says(of: dict[str, Any], stands: str) -> None:
    told = health.compute(tenant(**of), [instance(newest_verified=newest(0))], THEN)
    assert health.state(told) == stands
    assert told.worst_first.startswith(str(health.RANKS.index(health.state(told))))


def test_a_tenant_that_has_left_misses_nothing() -> None:
    left = tenant(offboarding=d.Offboarding(at=THEN, by="a", reason="r"))
    told = health.compute(left, [instance(lost_at=THEN, lost_reason="offboarded")], THEN)
    assert (told.unprotected, told.newest_verified_at, told.left_at) == ([], None, THEN)
    assert health.summarise([told], THEN).offboarded == 1


def test_a_tenant_that_has_left_shows_the_newest_point_that_it_has() -> None:
    left = tenant(offboarding=d.Offboarding(at=THEN, by="a", reason="r"))
    gone: dict[str, Any] = {"lost_at": THEN, "lost_reason": "offboarded"}
    older, newer = (d.Newest(point="p", at=THEN - hours * HOUR, took_s=60) for hours in (9, 3))
    some = [instance(**gone), instance(**gone, newest_verified=older), instance(**gone, newest_verified=newer)]
    told = health.compute(left, some, THEN)
    assert (told.unprotected, told.newest_verified_at) == ([], THEN - 3 * HOUR)


def test_what_goes_within_a_week_is_summed() -> None:
    two = [
        instance(retention=d.RetentionWork(going=3, going_bytes=300)),
        instance(id="2", lost_at=THEN, retention=d.RetentionWork(going=1, going_bytes=50)),
    ]
    told = health.compute(tenant(), two, THEN)
    assert (told.going, told.going_bytes) == (4, 350)
    fleet = health.summarise([told, told], THEN)
    assert (fleet.going, fleet.going_bytes) == (8, 700)


# --- restore tests ------------------------------------------------------------------------------------------------

MONTHLY = d.RestoreTest(every_days=30, network="projects/acme-prod/global/networks/closed")


def last_test(days_ago: float, *, passed: bool = True) -> d.RestoreTested:
    then = THEN - timedelta(days=days_ago)
    return d.RestoreTested(restore="r", point="p", region="southamerica-east1", at=then, passed=passed, took_s=900)


@pytest.mark.parametrize(
    ("of", "stands"),
    [
        ({}, None),
        ({"restore_tested": last_test(1)}, None),
        ({"restore_test": MONTHLY}, "never"),
        ({"restore_test": MONTHLY, "restore_tested": last_test(32.9)}, "passed"),
        ({"restore_test": MONTHLY, "restore_tested": last_test(33)}, "overdue"),
        ({"restore_test": MONTHLY, "restore_tested": last_test(40, passed=False)}, "failed"),
        ({"restore_test": MONTHLY, "offboarding": d.Offboarding(at=THEN, by="a", reason="r")}, None),
    ],
)
def test_a_tenant_shows_what_its_last_restore_test_said(of: dict[str, Any], stands: str | None) -> None:
    told = health.compute(tenant(**of), [instance()], THEN)
    assert health.tested_as(told, THEN) == stands
    assert told.restore_tested == of.get("restore_tested")


def test_the_fleet_counts_each_tenant_with_restore_tests_once() -> None:
    several = [None, last_test(1), last_test(2), last_test(50), last_test(1, passed=False)]
    told = [health.compute(tenant(restore_test=MONTHLY, restore_tested=one), [], THEN) for one in several]
    fleet = health.summarise([*told, health.compute(tenant(), [], THEN)], THEN)
    assert fleet.restore_tests == {"passed": 2, "failed": 1, "never": 1, "overdue": 1}
    assert health.summarise([health.compute(tenant(), [], THEN)], THEN).restore_tests == {}

"""What a tenant's project holds, and what becomes of the documents when that changes."""

from collections.abc import Callable
from dataclasses import replace as changed
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from tests.makers import (
    INSTANCE_ID,
    PROJECT,
    REGION,
    THEN,
    ZONE,
    World,
    attached,
    disk,
    instance,
    machine,
    owner_due,
    tenant,
)

from snapkeep import documents as d
from snapkeep.breaker import PROJECTS_IN_A_ROW_MAX
from snapkeep.discovery import rules
from snapkeep.discovery.handler import EVERY, POSTPONED, TENANTS_PER_BATCH
from snapkeep.messages import DiscoverBatch
from snapkeep.ports import Refused, Transient

BOOT, DATA = disk(), disk(id="2", name="acme-pam-1-data")
LABELLED = d.Selected(by_label=d.ByLabel(label="tenant=acme"))
OTHER_ZONE = "southamerica-east1-b"


def world(*machines: Any, of: d.Tenant | None = None) -> World:
    one = World()
    one.set_up(*(machines or (machine(BOOT),)), of=of or tenant(timezone="UTC"), disks=(BOOT, DATA))
    return one


def later(one: World, **duration: float) -> None:
    """Time passes until discovery is due again, and it runs."""
    one.clock.move(**(duration or {"hours": 1}))
    one.tick("discover", "audit")


def actions(one: World) -> list[str]:
    return [record["action"] for record in one.records() if record["action"].startswith("instance.")]


def events(one: World, type: str = "instance.lost") -> list[dict[str, Any]]:
    one.tick("audit")
    return [event for event in one.events() if event["type"] == type]


def remove(one: World, *links: str) -> None:
    for link in links:
        del one.compute.resources[link]


# --- selection ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "labels", "selected"),
    [
        ("tenant=acme", {"tenant": "acme"}, True),
        ("tenant=acme", {"tenant": "acme2"}, False),
        ("tenant=acme", {"tenant": ""}, False),
        ("tenant=acme", {}, False),
        ("tenant=", {"tenant": ""}, True),
        ("tenant=", {}, False),
    ],
)
def test_a_label_selects_the_instances_that_carry_it(label: str, labels: dict[str, str], selected: bool) -> None:
    owner = tenant(instances=d.Selected(by_label=d.ByLabel(label=label)))
    assert rules.selects(owner, machine(labels=labels)) == selected


def test_a_name_selects_in_its_zone_and_project_only() -> None:
    assert rules.selects(tenant(), machine())
    assert not rules.selects(tenant(), machine(zone=OTHER_ZONE))
    assert not rules.selects(tenant(), machine(name="acme-pam-10"))
    assert not rules.selects(tenant(), machine(project="beta-prod"))


def test_what_a_restore_test_has_made_is_nobodys() -> None:
    made = {"tenant": "acme", "snapkeep-role": "test"}
    assert not rules.selects(tenant(instances=LABELLED), machine(labels=made))
    assert not rules.selects(tenant(), machine(labels=made))
    assert rules.selects(tenant(instances=LABELLED), machine(labels=made | {"snapkeep-role": "restored"}))


# --- seen, changed, replaced, lost, returned ----------------------------------------------------------------------


def test_a_new_instance_is_written_down_with_its_disks_and_its_first_slot() -> None:
    one = world(machine(BOOT, DATA))
    here = one.the_instance()
    assert (here.id, here.name, here.zone, here.region, here.project) == (
        INSTANCE_ID,
        "acme-pam-1",
        ZONE,
        REGION,
        PROJECT,
    )
    assert [(ref.name, ref.id) for ref in here.disks] == [(BOOT.name, "1"), (DATA.name, "2")]
    assert here.seen_at == THEN
    assert here.next_slot_at is not None
    assert THEN < here.next_slot_at <= THEN + timedelta(days=1)
    assert here.breach_due_at == THEN + timedelta(hours=26)
    assert actions(one) == ["instance.seen"]
    assert one.read(d.Tenant, "tenants/acme").discover_at == THEN + timedelta(hours=1)


def test_reading_what_is_as_it_was_writes_nothing_of_the_instance() -> None:
    one = world()
    before = one.documents_in("tenants/acme/instances")
    later(one)
    assert one.documents_in("tenants/acme/instances") == before
    assert actions(one) == ["instance.seen"]


def test_the_order_in_which_disks_are_attached_is_no_change() -> None:
    one = world(machine(BOOT, DATA))
    one.compute.add(machine(DATA, BOOT))
    later(one)
    assert actions(one) == ["instance.seen"]


def test_a_disk_more_or_less_is_a_change_that_says_which() -> None:
    one = world()
    one.compute.add(machine(BOOT, DATA))
    later(one)
    assert [ref.id for ref in one.the_instance().disks] == ["1", "2"]
    one.compute.add(machine(BOOT))
    later(one)
    changes = [record["detail"] for record in one.records() if record["action"] == "instance.changed"]
    assert [(c["disks_added"], c["disks_removed"]) for c in changes] == [
        ([{"name": DATA.name, "id": "2"}], []),
        ([], [{"name": DATA.name, "id": "2"}]),
    ]


def test_disks_that_a_restore_has_in_hand_are_compared_once_it_has_ended() -> None:
    one = world(machine(BOOT, DATA))
    path = f"tenants/acme/instances/{INSTANCE_ID}"
    one.put((path, replace(one.the_instance(), restoring="20261101-p-acme-pam-1-0badcafe")))
    one.compute.add(machine(BOOT, status="TERMINATED"))
    later(one)
    assert [ref.name for ref in one.the_instance().disks] == [BOOT.name, DATA.name]
    assert one.the_instance().lost_at is None
    one.put((path, replace(one.the_instance(), restoring=None)))
    later(one)
    assert actions(one) == ["instance.seen", "instance.changed"]


def test_a_replaced_disk_of_the_same_name_is_a_change() -> None:
    one = world()
    one.compute.add(disk(id="99"))
    later(one)
    assert [ref.id for ref in one.the_instance().disks] == ["99"]
    assert actions(one) == ["instance.seen", "instance.changed"]


def test_a_local_ssd_is_no_disk_of_an_instance() -> None:
    one = world(machine(disks=(attached(BOOT.link), attached(""))))
    assert [ref.name for ref in one.the_instance().disks] == [BOOT.name]


def test_an_instance_that_was_replaced_is_lost_and_another_is_seen() -> None:
    one = world()
    one.compute.add(machine(BOOT, id="42"))
    later(one)
    old, new = sorted(one.instances(), key=lambda i: i.seen_at)
    assert (old.id, old.lost_reason, old.next_slot_at, old.breach_due_at) == (INSTANCE_ID, "gone", None, None)
    assert (new.id, new.lost_at) == ("42", None)
    (event,) = events(one)
    assert event["data"]["id"] == INSTANCE_ID


def test_an_instance_that_is_gone_is_lost_once_with_one_event() -> None:
    one = world()
    remove(one, machine().link)
    later(one)
    later(one)
    gone = one.the_instance()
    assert gone.lost_at == THEN + timedelta(hours=1)
    assert gone.lost_reason == "gone"
    assert gone.next_slot_at is None
    assert actions(one) == ["instance.seen", "instance.lost"]
    assert [e["data"].get("id") for e in events(one) if "id" in e["data"]] == [INSTANCE_ID]


def test_a_lost_instance_that_returns_begins_its_slots_anew() -> None:
    one = world()
    there = machine(BOOT)
    remove(one, there.link)
    later(one)
    one.clock.move(days=10)
    one.compute.add(there)
    later(one)
    back = one.the_instance()
    assert (back.lost_at, back.lost_reason) == (None, None)
    assert back.next_slot_at is not None
    assert back.next_slot_at > one.clock.now()
    assert back.seen_at == one.clock.now()
    one.clock.at = back.next_slot_at
    one.tick("plan")
    assert [p.state for p in one.points()] == ["creating"]  # the ten days are nobody's fault
    assert actions(one) == ["instance.seen", "instance.lost", "instance.returned"]


def test_an_instance_that_is_no_longer_selected_is_deselected_without_an_alarm() -> None:
    one = world()
    elsewhere = d.Selected(by_name=[d.ByName(name="other", zone=ZONE)])
    one.put(("tenants/acme", owner_due(tenant(timezone="UTC", instances=elsewhere), one.clock.now())))
    later(one)
    gone = one.the_instance()
    assert gone.lost_reason == "deselected"
    assert actions(one) == ["instance.seen", "instance.deselected"]
    assert [e for e in events(one) if "id" in e["data"]] == []


def test_an_instance_of_a_project_that_the_tenant_left_is_deselected() -> None:
    one = world()
    one.put(("tenants/acme", owner_due(tenant(timezone="UTC", project="acme-new"), one.clock.now())))
    later(one)
    assert one.the_instance().lost_reason == "deselected"


def test_two_instances_of_one_name_in_two_zones_are_two() -> None:
    both = d.Selected(by_name=[d.ByName(name="acme-pam-1", zone=ZONE), d.ByName(name="acme-pam-1", zone=OTHER_ZONE)])
    twin = machine(DATA, id="2", zone=OTHER_ZONE)
    one = world(machine(BOOT), twin, of=tenant(timezone="UTC", instances=both))
    assert {(i.id, i.zone) for i in one.instances()} == {(INSTANCE_ID, ZONE), ("2", OTHER_ZONE)}
    assert one.read(d.Tenant, "tenants/acme").unmatched == []


def test_only_what_is_selected_is_kept() -> None:
    one = world(machine(BOOT), machine(DATA, id="2", name="unrelated", labels={}))
    assert [i.name for i in one.instances()] == ["acme-pam-1"]


def test_an_instance_that_gets_the_label_is_seen_and_one_that_loses_it_is_lost() -> None:
    plain = machine(DATA, id="2", name="acme-pam-2", labels={})
    one = world(machine(BOOT), plain, of=tenant(timezone="UTC", instances=LABELLED))
    assert [i.name for i in one.instances()] == ["acme-pam-1"]
    one.compute.add(changed(plain, labels={"tenant": "acme"}), machine(BOOT, labels={}))
    later(one)
    assert {i.name: i.lost_at is None for i in one.instances()} == {"acme-pam-1": False, "acme-pam-2": True}


# --- what is not found or cannot be read --------------------------------------------------------------------------


def test_a_name_that_the_project_does_not_hold_is_told_once() -> None:
    two = d.Selected(by_name=[d.ByName(name="acme-pam-1", zone=ZONE), d.ByName(name="ghost", zone=ZONE)])
    one = world(of=tenant(timezone="UTC", instances=two))
    later(one)
    assert one.read(d.Tenant, "tenants/acme").unmatched == [f"ghost in {ZONE}"]
    assert [e["data"] for e in events(one)] == [{"not_found": [f"ghost in {ZONE}"]}]
    one.compute.add(machine(DATA, id="2", name="ghost"))
    later(one)
    assert one.read(d.Tenant, "tenants/acme").unmatched == []
    assert len(events(one)) == 1


def test_a_label_that_nothing_carries_is_told() -> None:
    one = world(machine(BOOT, labels={}), of=tenant(timezone="UTC", instances=LABELLED))
    assert one.read(d.Tenant, "tenants/acme").unmatched == ["label tenant=acme"]


def failing(one: World, fault: Exception, call: str = "find") -> None:
    def meet(made: str) -> None:
        if made.startswith(call):
            raise fault

    one.compute.before = meet


@pytest.mark.parametrize("call", ["find Instance", "find Disk"])
def test_a_list_that_fails_for_now_leaves_everything_as_it_was_and_is_read_again(call: str) -> None:
    one = world()
    one.clock.move(hours=1)
    before = kept(one)
    failing(one, Transient("busy"), call)
    one.tick("discover")
    assert kept(one) == before
    assert one.read(d.Tenant, "tenants/acme").discover_at == one.clock.now() + POSTPONED
    one.compute.before = lambda call: None
    remove(one, machine().link)
    one.clock.move(minutes=20)
    one.tick("discover")
    assert one.the_instance().lost_at is not None


def kept(one: World) -> dict[str, Any]:
    """All that is stored but when the tenant is read next, and the ticks."""
    dump = {path: data for path, data in one.memory.dump().items() if not path.startswith("system/")}
    dump["tenants/acme"] = {name: value for name, value in dump["tenants/acme"].items() if name != "discover_at"}
    return dump


def test_a_project_that_may_not_be_read_loses_no_instance_and_says_so_once() -> None:
    one = world()
    failing(one, Refused("Compute Engine API has not been used", code=403, reason="accessNotConfigured"))
    later(one)
    later(one)
    assert one.the_instance().lost_at is None
    owner = one.read(d.Tenant, "tenants/acme")
    assert owner.discovery_failure == d.Failure(
        code="accessNotConfigured", message="Compute Engine API has not been used"
    )
    assert owner.discover_at == one.clock.now() + timedelta(hours=1)
    assert [r["outcome"] for r in one.records() if r["action"] == "tenant.discovered"] == ["failed"]
    one.compute.before = lambda call: None
    later(one)
    assert one.read(d.Tenant, "tenants/acme").discovery_failure is None


def test_one_project_that_cannot_be_read_does_not_stop_another() -> None:
    one = world()
    far = disk(project="beta-prod")
    beta = tenant(id="beta", project="beta-prod", vault_project="beta-prod")
    failing(one, Transient("busy"), f"find Instance {PROJECT}")
    one.put(("tenants/acme", owner_due(tenant(), one.clock.now())))
    one.set_up(machine(far, project="beta-prod", id="7"), of=beta, disks=(far,))
    assert [i.id for i in one.instances("beta")] == ["7"]


def test_an_outage_is_met_at_a_few_projects_and_the_others_are_read_later() -> None:
    one = World()
    ids = [f"t{number}" for number in range(PROJECTS_IN_A_ROW_MAX + 3)]
    for id in ids:
        one.put((f"tenants/{id}", owner_due(tenant(id=id, project=f"{id}-prod"), THEN)))
    failing(one, Transient("busy"))
    one.tick("discover")
    assert len(one.compute.calls) == PROJECTS_IN_A_ROW_MAX
    one.compute.before = lambda call: None
    one.compute.calls.clear()
    one.clock.move(minutes=10)
    one.tick("discover")
    asked = [call for call in one.compute.calls if "Instance" in call]
    assert asked == [f"find Instance {id}-prod" for id in ids[PROJECTS_IN_A_ROW_MAX:]]
    one.clock.move(minutes=10)
    one.tick("discover")
    assert {call for call in one.compute.calls if "Instance" in call} == {f"find Instance {id}-prod" for id in ids}


@pytest.mark.parametrize("ill", [PROJECTS_IN_A_ROW_MAX, 3 * PROJECTS_IN_A_ROW_MAX, 2 * TENANTS_PER_BATCH])
def test_projects_that_are_ill_for_days_keep_nobody_else_from_being_read(ill: int) -> None:
    one = World()
    sick = [f"a{number:02}" for number in range(ill)]
    well = [f"b{number:02}" for number in range(20)]
    for id in (*sick, *well):
        one.put((f"tenants/{id}", owner_due(tenant(id=id, project=f"{id}-prod"), THEN)))
    failing(one, Transient("busy"), "find Instance a")
    read_at = dict.fromkeys(well, THEN)
    for _ in range(3 * 24 * 6):
        one.compute.calls.clear()
        one.tick("discover")
        for id in well:
            if f"find Disk {id}-prod" in one.compute.calls:
                read_at[id] = one.clock.now()
            assert one.clock.now() - read_at[id] <= EVERY + POSTPONED
        one.clock.move(minutes=10)
    one.compute.before = lambda call: None
    one.compute.calls.clear()
    for _ in range(3):
        one.tick("discover")
        one.clock.move(minutes=10)
    assert {f"find Disk {id}-prod" for id in sick} <= set(one.compute.calls)


def test_tenants_of_one_project_share_its_reading() -> None:
    one = World()
    twin = machine(DATA, id="2", name="beta-1", labels={"tenant": "beta"})
    one.compute.add(BOOT, DATA, machine(BOOT), twin)
    acme = owner_due(tenant(instances=LABELLED), THEN)
    beta = owner_due(tenant(id="beta", instances=d.Selected(by_label=d.ByLabel(label="tenant=beta"))), THEN)
    one.put(("tenants/acme", acme), ("tenants/beta", beta))
    one.tick("discover")
    assert one.compute.calls == [f"find Instance {PROJECT}", f"find Disk {PROJECT}"]
    assert [i.name for i in one.instances("acme")] == ["acme-pam-1"]
    assert [i.name for i in one.instances("beta")] == ["beta-1"]


def test_many_tenants_are_read_in_batches() -> None:
    one = World()
    for number in range(45):
        id = f"t{number:02}"
        one.put((f"tenants/{id}", owner_due(tenant(id=id, project=f"p{number:02}"), THEN)))
    one.hand("discover", b'{"schema":1,"type":"tick"}')
    assert len(one.bus.pending("snapkeep-discover")) == 3
    one.deliver()
    one.compute.calls.clear()
    one.tick("discover")
    assert one.compute.calls == []  # nobody is due any more


# --- schedules ----------------------------------------------------------------------------------------------------


def test_an_edited_schedule_moves_the_next_slot() -> None:
    one = world()
    before = one.the_instance().next_slot_at
    assert before is not None
    edited = tenant(timezone="UTC", schedule=d.Schedule(daily_at="20:00", spread_minutes=0))
    one.put(("tenants/acme", owner_due(edited, one.clock.now())))
    one.tick("discover")
    assert one.the_instance().next_slot_at == THEN + timedelta(hours=20)
    assert actions(one) == ["instance.seen"]  # bookkeeping is not an act


def test_an_edited_rpo_moves_the_breach() -> None:
    one = world()
    one.put(("tenants/acme", owner_due(tenant(timezone="UTC", rpo_hours=5), one.clock.now())))
    one.tick("discover")
    assert one.the_instance().breach_due_at == THEN + timedelta(hours=5)


def test_a_slot_that_has_come_stays_due_when_discovery_comes_before_the_planner() -> None:
    one = world()
    at = one.the_instance().next_slot_at
    assert at is not None
    one.clock.at = at + timedelta(hours=1)
    one.put(("tenants/acme", owner_due(one.read(d.Tenant, "tenants/acme"), one.clock.now())))
    one.tick("discover")
    due = one.the_instance().next_slot_at
    assert due is not None
    assert due <= one.clock.now()
    one.tick("plan")
    assert [p.slot.day for p in one.points() if p.slot] == ["2026-11-01"]


def test_a_tenant_that_becomes_client_managed_has_no_slot_and_no_breach() -> None:
    one = world()
    theirs = owner_due(tenant(timezone="UTC", deployment="private_saas"), one.clock.now())
    one.put(("tenants/acme", theirs))
    one.tick("discover")
    here = one.the_instance()
    assert (here.next_slot_at, here.breach_due_at) == (None, None)


def test_a_tenant_that_becomes_vendor_managed_owes_nothing_for_the_time_before() -> None:
    one = world(of=tenant(timezone="UTC", deployment="private_saas"))
    one.clock.move(days=60)
    ours = owner_due(tenant(timezone="UTC"), one.clock.now())
    one.put(("tenants/acme", ours))
    one.tick("discover", "plan", "health")
    here = one.the_instance()
    assert here.tally.missed == 0
    assert here.next_slot_at is not None
    assert here.next_slot_at > one.clock.now()
    assert here.breach_at is None
    assert here.breach_due_at == one.clock.now() + timedelta(hours=26)
    assert one.points() == []


# --- two at once --------------------------------------------------------------------------------------------------


class Meanwhile:
    """Documents with something that happens just before the first commit, or the first query."""

    def __init__(self, one: World, event: Callable[[], None], before: str = "commit") -> None:
        self.one = one
        self.event: Callable[[], None] | None = event
        self.before = before

    def get(self, *paths: str) -> Any:
        return self.one.memory.get(*paths)

    def find(self, query: Any) -> Any:
        self._happen("find")
        return self.one.memory.find(query)

    def commit(self, *writes: Any) -> None:
        self._happen("commit")
        self.one.memory.commit(*writes)

    def _happen(self, call: str) -> None:
        if self.event and call == self.before:
            event, self.event = self.event, None
            self.one.documents = self.one.memory
            event()


BATCH = DiscoverBatch(tenants=["acme"])


def test_two_discoveries_at_once_see_an_instance_once() -> None:
    one = World()
    one.compute.add(BOOT, machine(BOOT))
    one.put(("tenants/acme", owner_due(tenant(), THEN)))
    one.documents = Meanwhile(one, lambda: one.hand("discover", BATCH))
    one.hand("discover", BATCH)
    assert len(one.instances()) == 1
    assert actions(one) == ["instance.seen"]


def test_a_discovery_that_read_the_cloud_earlier_does_not_lose_what_a_later_one_saw() -> None:
    one = World()
    one.compute.add(BOOT)
    one.put(("tenants/acme", owner_due(tenant(), THEN)))

    def later_run() -> None:
        one.clock.move(seconds=20)
        one.compute.add(machine(BOOT))
        one.hand("discover", BATCH)

    one.documents = Meanwhile(one, later_run, before="find")  # the cloud was read, the documents are not yet
    one.hand("discover", BATCH)
    assert one.the_instance().lost_at is None
    assert actions(one) == ["instance.seen"]


def test_a_discovery_that_read_the_cloud_earlier_does_not_bring_back_what_a_later_one_lost() -> None:
    one = world()
    one.clock.move(hours=1)

    def later_run() -> None:
        one.clock.move(seconds=20)
        remove(one, machine().link)
        one.hand("discover", BATCH)

    one.documents = Meanwhile(one, later_run, before="find")
    one.hand("discover", BATCH)
    assert one.the_instance().lost_at is not None
    assert actions(one) == ["instance.seen", "instance.lost"]


def test_a_fleet_file_that_is_applied_meanwhile_is_read_again_and_not_overwritten() -> None:
    one = world()
    one.clock.move(hours=1)
    edited = tenant(timezone="UTC", name="Acme Bank SA")

    def apply() -> None:
        one.put(("tenants/acme", owner_due(edited, one.clock.now())))

    one.documents = Meanwhile(one, apply)
    one.hand("discover", BATCH)
    owner = one.read(d.Tenant, "tenants/acme")
    assert owner.name == "Acme Bank SA"
    assert owner.discover_at is not None
    assert owner.discover_at <= one.clock.now()  # it is still due


def test_a_point_that_ends_meanwhile_is_not_overwritten() -> None:
    one = world()
    one.compute.add(machine(BOOT, DATA))
    one.clock.move(hours=1)

    def end() -> None:
        here = one.the_instance()
        tally = replace(here.tally, verified=1)
        one.put((f"tenants/acme/instances/{INSTANCE_ID}", replace(here, tally=tally)))

    one.documents = Meanwhile(one, end)
    one.hand("discover", BATCH)
    assert one.the_instance().tally.verified == 1
    later(one)
    assert [ref.id for ref in one.the_instance().disks] == ["1", "2"]
    assert one.the_instance().tally.verified == 1


# --- the rules alone ----------------------------------------------------------------------------------------------


def test_findings_name_every_kind_of_change_once() -> None:
    known = [instance(), instance(id="2", name="gone"), instance(id="3", name="old", lost_at=THEN, lost_reason="gone")]
    owner = tenant(
        instances=d.Selected(by_name=[d.ByName(name=n, zone=ZONE) for n in ("acme-pam-1", "gone", "old", "new")])
    )
    found = [machine(BOOT, DATA), machine(BOOT, id="3", name="old"), machine(BOOT, id="4", name="new")]
    disks = {held.link: held for held in (BOOT, DATA)}
    now = THEN + timedelta(hours=1)
    told = {f.after.id: f.what for f in rules.findings(owner, known, found, disks, now)}
    assert told == {INSTANCE_ID: "changed", "2": "lost", "3": "returned", "4": "seen"}
    after = [f.after for f in rules.findings(owner, known, found, disks, now)]
    assert rules.findings(owner, after, found, disks, now) == []


# --- a tenant that leaves -----------------------------------------------------------------------------------------


def leaving(one: World, at: Any) -> None:
    """The tenant is offboarded at this instant, by a command, which leaves the rest of it as it is."""
    owner = one.read(d.Tenant, "tenants/acme")
    offboarding = d.Offboarding(at=at, by="admin@vendor.example", reason="contract ended")
    one.put(("tenants/acme", replace(owner, offboarding=offboarding)))


def test_from_its_date_on_a_tenant_that_leaves_has_lost_its_instances_and_its_project_is_not_read() -> None:
    one = world()
    leaving(one, THEN + timedelta(hours=2))
    later(one)
    assert one.the_instance().lost_at is None
    assert one.read(d.Tenant, "tenants/acme").discover_at == THEN + timedelta(hours=2), "not an hour later"
    read = len(one.compute.calls)
    later(one)
    left = one.the_instance()
    assert (left.lost_at, left.lost_reason) == (one.clock.at, "offboarded")
    assert (left.next_slot_at, left.breach_due_at) == (None, None)
    assert len(one.compute.calls) == read
    later(one, days=2)
    assert actions(one) == ["instance.seen", "instance.offboarded"]
    assert events(one) == []
    assert len(one.compute.calls) == read


def test_a_tenant_that_comes_back_before_or_after_its_date_is_read_again() -> None:
    one = world()
    leaving(one, THEN + timedelta(hours=1))
    later(one)
    owner = one.read(d.Tenant, "tenants/acme")
    one.put(("tenants/acme", owner_due(replace(owner, offboarding=None), one.clock.at)))
    one.tick("discover")
    assert one.the_instance().lost_at is None
    assert actions(one)[-1] == "instance.returned"


def test_nothing_is_planned_for_a_tenant_that_has_left_also_where_nobody_has_noticed_yet() -> None:
    one = world()
    leaving(one, THEN)
    one.clock.move(days=1)
    one.tick("plan")
    assert one.points() == []


# --- what retention needs -----------------------------------------------------------------------------------------


def test_the_vaults_and_the_tenants_that_have_ever_used_them_are_known() -> None:
    one = world()
    assert one.read(d.Vault, f"vaults/{PROJECT}").tenants == ["acme"]
    owner = one.read(d.Tenant, "tenants/acme")
    one.put(("tenants/acme", replace(owner, vault_project="acme-vault")))
    one.put(("tenants/beta", owner_due(tenant(id="beta"), one.clock.now())))
    later(one)
    later(one)
    assert one.read(d.Vault, "vaults/acme-vault").tenants == ["acme"]
    assert one.read(d.Vault, f"vaults/{PROJECT}").tenants == ["acme", "beta"], "its older points are still there"


def test_an_instance_that_is_lost_or_returns_is_weighed_anew() -> None:
    one = world()
    path = f"tenants/acme/instances/{INSTANCE_ID}"
    tomorrow = THEN + timedelta(days=1)
    one.put((path, replace(one.the_instance(), retention_at=tomorrow, retention=d.RetentionWork(plan_at=tomorrow))))
    remove(one, machine(BOOT).link)
    later(one)
    assert one.the_instance().retention_at == one.clock.at
    one.put((path, replace(one.the_instance(), retention_at=tomorrow)))
    one.compute.add(machine(BOOT))
    later(one)
    assert one.the_instance().retention_at == one.the_instance().retention.plan_at == one.clock.at


def test_an_instance_of_which_nothing_is_stored_is_not_made_due_again_and_again() -> None:
    one = world()
    path = f"tenants/acme/instances/{INSTANCE_ID}"
    # One point failed before it had a snapshot, another was verified once and has been deleted.
    one.put((path, replace(one.the_instance(), tally=d.Tally(failed=1, verified=1))))
    later(one)
    assert one.the_instance().retention_at is None


def test_an_instance_with_points_that_nobody_was_asked_to_weigh_is_weighed() -> None:
    one = world()
    path = f"tenants/acme/instances/{INSTANCE_ID}"
    assert one.the_instance().retention_at is None, "it has no points"
    one.put((path, replace(one.the_instance(), tally=d.Tally(verified=1, bytes=1000))))
    later(one)
    assert one.the_instance().retention_at == one.clock.at

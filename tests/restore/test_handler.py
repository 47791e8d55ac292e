"""Restores from their request to their end, on the local cloud."""

from __future__ import annotations

from msgspec.structs import replace
from tests.restore.scene import MINUTE, OTHER_ZONE, REGION, ZONE, Restoring

from snapkeep import documents as d
from snapkeep_local import faults

OLD = {"persistent-disk-0": "boot", "data": "data", "logs": "logs"}
"""What the devices held when the point was taken."""


def all_is_told(one: Restoring) -> None:
    """Every change that was asked for has exactly one outcome."""
    assert sorted(one.requests()) == sorted(one.ended_requests())


# --- every mode ---------------------------------------------------------------------------------------------------


def test_disks_come_back_with_what_they_held() -> None:
    one = Restoring()
    done = one.finish(one.ask("disks"))
    assert done.state == "completed"
    made = [one.cloud.content(f"projects/{x.project}/{x.scope}/disks/{x.name}") for x in done.disks]
    assert made == list(OLD.values())
    assert {x.scope for x in done.disks} == {f"zones/{ZONE}"}
    assert len(one.told("restore.completed")) == 1
    all_is_told(one)


def test_a_new_instance_has_the_contents_and_the_source_is_as_it_was() -> None:
    one = Restoring()
    before = (one.machine(), one.contents())
    done = one.finish(one.ask("new_instance"))
    assert done.state == "completed"
    assert one.contents("app-2") == OLD
    assert (one.machine(), one.contents()) == before
    assert {check.name: check.state for check in done.checks} == {
        "disks": "passed", "instance": "passed", "devices": "passed", "definition": "passed", "probe": "passed",
        "contents": "passed",
    }  # fmt: skip
    all_is_told(one)


def test_in_place_the_same_instance_has_the_old_contents_under_the_same_devices() -> None:
    one = Restoring()
    before = one.machine()
    assert before is not None
    done = one.finish(one.ask("in_place"))
    after = one.machine()
    assert after is not None
    assert done.state == "completed"
    assert one.contents() == OLD
    assert (after.id, after.status) == (before.id, "RUNNING")
    assert [x.device_name for x in after.disks] == [x.device_name for x in before.disks]
    assert {x.status for x in done.former} == {"kept"}
    kept = [one.disk(x.source) for x in before.disks]
    assert [x.labels["snapkeep-role"] if x else "lost" for x in kept] == ["former"] * 3
    assert one.read(d.Instance, "instances", one.machine_id).restoring is None
    assert done.pre_restore is not None
    assert one.claims() == []
    all_is_told(one)


def test_what_did_not_run_before_does_not_run_after() -> None:
    one = Restoring()
    one.cloud.stop_instance(one.machine_link)
    one.run(2 * MINUTE)
    done = one.finish(one.ask("in_place"))
    after = one.machine()
    assert after is not None
    assert (done.state, after.status) == ("completed", "TERMINATED")
    assert one.contents() == OLD


def test_an_instance_that_was_deleted_with_its_disks_comes_back_from_its_definition() -> None:
    one = Restoring()
    links = one.attached()
    one.cloud.remove_instance(one.machine_link)
    for link in links:
        if one.disk(link):
            one.cloud.remove_disk(link)
    one.change(d.Instance, "instances", one.machine_id, lost_at=one.cloud.now, lost_reason="gone")
    done = one.finish(one.ask("new_instance", name="app"))
    assert done.state == "completed"
    assert one.contents("app") == OLD


def test_a_zone_that_is_down_is_not_needed_for_a_restore_into_another() -> None:
    one = Restoring()
    one.cloud.set_zone(ZONE, up=False)
    done = one.finish(one.ask("new_instance", region=REGION))
    assert (done.state, done.target.zone) == ("completed", OTHER_ZONE)
    assert one.contents("app-2", OTHER_ZONE) == OLD
    assert done.target.address is not None  # what whoever waits for it needs first


def test_a_zone_that_is_listed_as_up_and_does_not_answer_is_passed_over_where_any_will_do() -> None:
    one = Restoring()
    one.cloud.add_fault(faults.Fault(effect=faults.ErrorBefore(status=503), resource=f"zones/{ZONE}"))
    done = one.finish(one.ask("new_instance", region=REGION))
    assert (done.state, done.target.zone) == ("completed", OTHER_ZONE)
    assert one.contents("app-2", OTHER_ZONE) == OLD


def test_a_regional_disk_that_has_lost_a_zone_is_made_in_the_other_one_alone() -> None:
    one = Restoring()
    one.cloud.set_zone(OTHER_ZONE, up=False)
    id = one.ask("in_place")
    asked = one.restore(id)
    regional = [replace(disk, scope=f"regions/{REGION}", replica_zones=[ZONE, OTHER_ZONE])
                if disk.device_name == "data" else disk for disk in asked.disks]  # fmt: skip
    one.put(f"tenants/acme/restores/{id}", replace(asked, disks=regional))
    done = one.finish(id)
    assert (done.state, {disk.scope for disk in done.disks}) == ("completed", {f"zones/{ZONE}"})
    noted = done.steps[0].failure
    assert noted is not None
    assert (noted.code, noted.message) == (
        "made_zonal",
        f"{OTHER_ZONE} is down: data is made in {ZONE} alone, and is not regional any more",
    )


def test_a_restore_that_waits_for_a_zone_says_which_and_what_can_be_done() -> None:
    one = Restoring()
    one.cloud.add_fault(faults.Fault(effect=faults.ErrorBefore(status=503), resource=f"zones/{ZONE}"))
    id = one.ask("new_instance", zone=ZONE)
    one.run(MINUTE)
    waits = one.restore(id).failure
    assert waits is not None
    assert waits.message.startswith(f"what is in {ZONE} cannot be read: ")
    assert waits.message.endswith("; it is tried again; if it stays so, cancel it and restore into another zone")


def test_the_ends_of_a_restore_let_go_of_its_set() -> None:
    one = Restoring()
    id = one.ask("in_place")
    one.run(3 * MINUTE)
    assert [hold.id for hold in one.point(one.point_id).holds] == [f"restore-{id}"]
    one.finish(id)
    assert one.point(one.point_id).holds == []
    assert not one.point(one.point_id).held

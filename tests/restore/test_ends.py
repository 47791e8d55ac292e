"""However a restore is disturbed, it comes to an end: completed, or with nothing of it left. On the local cloud."""

from __future__ import annotations

from dataclasses import replace as changed
from datetime import timedelta
from itertools import count

import pytest
from msgspec.structs import replace
from tests.restore.scene import HOUR, MINUTE, NETWORK, PROJECT, REGION, ZONE, Restoring
from tests.restore.test_handler import OLD, all_is_told
from tests.retention.scene import meets

from snapkeep import cloud
from snapkeep import documents as d
from snapkeep.ports import Replace, Transient
from snapkeep.restore import checks, progress, rules, words
from snapkeep.restore.facts import Facts
from snapkeep.restore.survey import survey
from snapkeep_local.faults import DeletionLies, DiskFails, ErrorAfter, ErrorBefore, Fault, OperationFails, Slow

DAY = timedelta(days=1)
MODES = ("disks", "new_instance", "in_place")


def is_whole(one: Restoring, id: str, mode: d.RestoreMode, before: dict[str, str]) -> None:
    """The end that a restore comes to, however often somebody died on the way."""
    done = one.restore(id)
    assert done.state == "completed", done.failure
    assert len(one.machines()) == (2 if mode == "new_instance" else 1)
    assert len(one.names("rs-")) == 3
    assert {"boot", "data", "logs"} < set(one.names())
    if mode != "disks":
        assert one.contents("app-2" if mode == "new_instance" else "app") == OLD
    if mode != "in_place":
        assert one.contents() == before
    nothing_is_kept(one)
    assert len(one.told("restore.completed")) == 1
    all_is_told(one)


def nothing_is_kept(one: Restoring) -> None:
    """No claim, no hold, no mark: others may go on."""
    assert one.claims() == []
    assert one.point(one.point_id).holds == []
    assert one.read(d.Instance, "instances", one.machine_id).restoring is None


def all_is_as_before(one: Restoring, before: cloud.Instance, contents: dict[str, str]) -> None:
    after = one.machine()
    assert after is not None
    assert (after.id, after.status) == (before.id, before.status)
    assert sorted(after.disks, key=str) == sorted(before.disks, key=str)
    assert one.contents() == contents
    assert [one.disk(x.source).labels.keys() for x in after.disks] == [{"of"}] * 3  # type: ignore[union-attr]  # there
    assert (one.machines(), one.names("rs-")) == (["app"], [])
    nothing_is_kept(one)
    all_is_told(one)


def the_machine(one: Restoring) -> cloud.Instance:
    found = one.machine()
    assert found is not None
    return found


# --- whatever happens in between ----------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("mode", MODES)
def test_a_process_that_dies_at_any_effect_costs_nothing_but_time(mode: d.RestoreMode, when: str) -> None:
    survived = next(number for number in count(1) if not dies_at(number, mode, when))
    assert survived > 12


def dies_at(number: int, mode: d.RestoreMode, when: str) -> bool:
    """Whether there was such an effect to die at. What is left of it comes to its end all the same."""
    one = Restoring()
    before, id = one.contents(), one.ask(mode)
    one.die_at(number, when)
    died = one.outlive(lambda: one.run_until(lambda: one.is_over(id), 6 * HOUR))
    one.finish(id)
    is_whole(one, id, mode, before)
    return died


@pytest.mark.parametrize("mode", MODES)
def test_answers_that_are_lost_are_found_by_what_is_there(mode: d.RestoreMode) -> None:
    one = Restoring()
    before, id = one.contents(), one.ask(mode)
    for method in ("disks.insert", "instances.insert", "instances.stop", "instances.detachDisk", "instances.start"):
        one.cloud.add_fault(Fault(method=method, effect=ErrorAfter(), count=4))
    one.finish(id)
    is_whole(one, id, mode, before)


@pytest.mark.parametrize("mode", MODES)
def test_a_doubled_message_does_nothing_twice(mode: d.RestoreMode) -> None:
    one = Restoring()
    before, id = one.contents(), one.ask(mode)
    while not one.is_over(id):
        one.hand_restore(id, id)
        one.hand_restore(id)
        one.minute()
    is_whole(one, id, mode, before)


@pytest.mark.parametrize("mode", MODES)
def test_lost_messages_cost_nothing_but_time(mode: d.RestoreMode) -> None:
    one = Restoring()
    before, id = one.contents(), one.ask(mode)
    while not one.is_over(id):
        one.effects.before = meets("publish", Transient("the broker is away"))
        one.run(2 * MINUTE)
        one.effects.before = lambda effect: None
        one.minute()
    is_whole(one, id, mode, before)


def test_an_operation_that_fails_is_asked_for_again_as_another_request() -> None:
    one = Restoring()
    before, id = one.contents(), one.ask("in_place")
    for method in ("instances.stop", "instances.detachDisk", "instances.attachDisk", "instances.start"):
        fails = OperationFails(code="INTERNAL_ERROR", message="try again", http_status=500)
        one.cloud.add_fault(Fault(method=method, effect=fails, count=1))
    one.finish(id)
    is_whole(one, id, "in_place", before)
    assert any(ask["attempt"] == 2 for r in one.records("restore.step") for ask in r["detail"].get("changes", [])
               if "attempt" in ask)  # fmt: skip


def test_a_disk_that_fails_is_made_under_another_name_and_nothing_of_the_first_is_left() -> None:
    one = Restoring()
    id = one.ask("new_instance")
    one.cloud.add_fault(Fault(method="disks.insert", effect=DiskFails(), count=1))
    done = one.finish(id)
    assert done.state == "completed"
    assert sorted(disk.attempts for disk in done.disks) == [1, 1, 2]
    assert len(one.names("rs-")) == 3
    assert one.contents("app-2") == OLD
    all_is_told(one)


# --- giving up ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("minutes", range(1, 8))
@pytest.mark.parametrize("mode", MODES)
def test_what_is_cancelled_leaves_nothing(mode: d.RestoreMode, minutes: int) -> None:
    one = Restoring()
    before, contents, id = the_machine(one), one.contents(), one.ask(mode)
    one.run(minutes * MINUTE)
    if one.is_over(id):
        return is_whole(one, id, mode, contents)
    one.cancel(id)
    ended = one.finish(id)
    assert (ended.state, ended.left) == ("cancelled", [])
    assert len(one.told("restore.failed")) == 1
    return all_is_as_before(one, before, contents)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_process_that_dies_while_it_takes_back_leaves_nothing_either(when: str) -> None:
    def dies(number: int) -> bool:
        one = Restoring()
        before, contents, id = the_machine(one), one.contents(), one.ask("in_place")
        one.run_until(lambda: any(x.name == "start" and x.state == "running" for x in one.restore(id).steps))
        one.cancel(id)
        one.die_at(number, when)
        died = one.outlive(lambda: one.run_until(lambda: one.is_over(id), 6 * HOUR))
        assert (one.finish(id).state, one.restore(id).left) == ("cancelled", [])
        all_is_as_before(one, before, contents)
        return died

    assert next(number for number in count(1) if not dies(number)) > 8


def test_a_step_that_is_refused_for_good_is_taken_back_with_googles_word() -> None:
    one = Restoring()
    before, contents, id = the_machine(one), one.contents(), one.ask("in_place")
    one.cloud.add_fault(Fault(method="instances.attachDisk", effect=ErrorBefore(status=400, reason="invalid"), count=3))
    ended = one.finish(id)
    assert (ended.state, ended.failure and ended.failure.code) == ("failed", "invalid")
    all_is_as_before(one, before, contents)


def test_what_is_not_found_for_a_disk_is_the_point_only_where_google_says_so() -> None:
    one = Restoring()
    key = "projects/acme-prod/locations/eu/keyRings/r/cryptoKeys/k"
    told = ErrorBefore(status=404, reason="notFound", message=f"The resource '{key}' was not found")
    one.cloud.add_fault(Fault(method="disks.insert", effect=told))
    ended = one.finish(one.ask("disks"))
    assert ended.failure is not None
    assert (ended.state, ended.failure.code) == ("failed", "notFound")
    assert key in ended.failure.message


GIVEN = "s3cret-0123"


@pytest.mark.parametrize("operation", [False, True])
def test_what_google_repeats_of_supplied_metadata_is_written_down_nowhere(
    operation: bool, caplog: pytest.LogCaptureFixture
) -> None:
    one = Restoring()
    lacks = "metadata startup-script"
    id = one.ask("new_instance", supply={lacks: GIVEN})
    said = f"Invalid value for field 'resource.metadata.items[1].value': '{GIVEN}'."
    effect = (
        OperationFails(code="INVALID_FIELD_VALUE", message=said, http_status=400)
        if operation
        else ErrorBefore(status=400, reason="invalid", message=said)
    )
    one.cloud.add_fault(Fault(method="instances.insert", effect=effect))
    ended = one.finish(id)
    assert ended.state == "failed"
    assert ended.failure is not None
    assert "metadata" in ended.failure.message
    assert GIVEN not in str(one.memory.dump())
    assert GIVEN not in caplog.text
    assert (one.machines(), one.names("rs-")) == (["app"], [])


def test_an_instance_that_its_group_would_replace_is_not_stopped() -> None:
    one = Restoring()
    id = one.ask("in_place")
    group = "projects/1/zones/z/instanceGroupManagers/web"
    found = the_machine(one)
    metadata = {"metadata": {"items": [{"key": "created-by", "value": group}]}}
    facts = Facts(
        instances={found.link: changed(found, definition={**found.definition, **metadata})},
        snapshots={disk.snapshot: one.compute.get(cloud.Snapshot, disk.snapshot) for disk in one.restore(id).disks},
        zones=list(one.compute.find(cloud.Zone, PROJECT)),
    )
    taken = survey(one.restore(id), 0, "acme", facts, one.cloud.now)
    assert taken.dead is not None
    assert (taken.dead.code, group in taken.dead.message) == ("managed_group", True)


def test_a_label_that_somebody_adds_meanwhile_does_not_take_a_new_instance_back() -> None:
    one = Restoring()
    found = the_machine(one)
    asked = replace(one.restore(one.ask("in_place")), found=checks.comparable(found))
    for labels, state in (({"env": "prod", "more": "x"}, "passed"), ({"more": "x"}, "failed")):
        instance = changed(found, labels=labels)
        seen = checks.Seen(instance=instance, disks={}, attached=(), new=None, heard=checks.Heard())
        assert [c.state for c in checks.check(asked, seen) if c.name == "definition"] == [state]


def test_a_document_that_is_damaged_stops_no_other_restore() -> None:
    one = Restoring()
    first = one.ask("in_place")
    second = one.ask("disks")
    claim = f"tenants/acme/restore_claims/{rules.claim_id(rules.claimed(one.restore(first)) or '')}"
    (doc,) = one.memory.get(claim)
    assert doc is not None
    one.memory.commit(Replace(claim, {"schema": 1, "restore": 7}, doc.version))
    one.hand_restore(first, second)
    assert one.restore(second).state == "running"


def test_a_snapshot_schedule_that_was_deleted_since_keeps_no_disk_from_coming_back() -> None:
    one = Restoring()
    id = one.ask("disks")
    gone = f"projects/{PROJECT}/regions/{REGION}/resourcePolicies/nightly"
    asked = one.restore(id)
    disks = [replace(disk, resource_policies=[gone]) for disk in asked.disks]
    one.put(f"tenants/acme/restores/{id}", replace(asked, disks=disks))
    ended = one.finish(id)
    assert ended.state == "completed", ended.failure
    assert len(one.names("rs-")) == 3
    nothing_is_kept(one)


@pytest.mark.parametrize("minutes", [0, 2])
@pytest.mark.parametrize(
    "changes", [{"project": "other"}, {"instances": d.Selected(by_name=[d.ByName(name="another", zone=ZONE)])}]
)
def test_an_instance_that_went_to_another_tenant_meanwhile_is_not_touched(
    minutes: int, changes: dict[str, object]
) -> None:
    one = Restoring()
    before, contents, id = the_machine(one), one.contents(), one.ask("in_place")
    one.cloud.add_fault(Fault(method="disks.insert", effect=Slow(factor=20.0)))
    one.run(minutes * MINUTE)
    one.put("tenants/acme", replace(one.read(d.Tenant), **changes))
    ended = one.finish(id, 26 * HOUR)
    assert (ended.state, ended.failure and ended.failure.code) == ("failed", "not_the_tenants")
    assert "StopInstance" not in str(one.records())
    all_is_as_before(one, before, contents)


def test_a_point_that_vanishes_meanwhile_ends_it_with_nothing_left() -> None:
    one = Restoring()
    before, contents, id = the_machine(one), one.contents(), one.ask("in_place")
    disk = one.point(one.point_id).disks[1]
    link = cloud.snapshot_link(disk.snapshot.project, disk.snapshot.name)
    one.cloud.remove_snapshot(link)
    ended = one.finish(id)
    assert (ended.state, ended.failure and ended.failure.code) == ("failed", "point_gone")
    all_is_as_before(one, before, contents)


@pytest.mark.parametrize("mode", ["in_place", "new_instance"])
def test_what_does_not_answer_in_time_is_restored_all_the_same_and_said_so(mode: d.RestoreMode) -> None:
    one = Restoring()
    one.cloud.set_guest_answers(one.machine_link, False)
    id = one.ask(mode)
    if mode == "new_instance":
        one.run_until(lambda: one.machine("app-2") is not None)
        one.cloud.set_guest_answers(cloud.link_of(PROJECT, f"zones/{ZONE}", "instances", "app-2"), False)
    ended = one.finish(id)
    assert (ended.state, ended.failure and ended.failure.code) == ("completed", "probe_failed")
    assert [check.name for check in ended.checks if check.state == "failed"] == ["probe"]
    assert one.contents("app" if mode == "in_place" else "app-2") == OLD
    told = one.told("restore.completed")
    assert [event["data"]["failure"]["code"] for event in told] == ["probe_failed"]
    assert one.told("restore.failed") == []
    said = progress.stands(ended)
    assert "the application does not answer: look at it" in said
    assert ("undo it" in said) == (mode == "in_place")
    assert words.estimate(mode, [ended]) is None  # it waited for an answer until nobody waits any longer


def test_what_is_not_as_it_should_be_is_taken_back_whether_it_answers_or_not() -> None:
    one = Restoring()
    before, contents = the_machine(one), one.contents()
    one.cloud.set_guest_answers(one.machine_link, False)
    id = one.ask("in_place")
    one.run_until(lambda: any(step.name == "start" and step.state == "done" for step in one.restore(id).steps))
    made = one.restore(id).disks[1]
    one.cloud.write(rules.disk_link(made), "something else")
    ended = one.finish(id)
    assert (ended.state, ended.failure and ended.failure.code) == ("failed", "checks_failed")
    assert ended.failure is not None
    assert ended.failure.message.startswith("contents")
    all_is_as_before(one, before, contents)


def test_a_restore_whose_time_is_over_ends_and_names_what_never_came_to_rest() -> None:
    one = Restoring()
    before, contents, id = the_machine(one), one.contents(), one.ask("in_place")
    one.cloud.add_fault(Fault(method="disks.insert", effect=Slow(factor=100_000.0)))
    one.run(rules.RUN_WITHIN + rules.UNDO_WITHIN + HOUR, 10 * MINUTE)
    ended = one.restore(id)
    assert (ended.state, ended.failure and ended.failure.code) == ("failed", "deadline")
    assert [link.rsplit("/", 1)[1] for link in ended.left] == one.names("rs-")  # they are being made still
    assert (the_machine(one), one.contents()) == (before, contents)
    nothing_is_kept(one)


def test_what_cannot_be_taken_back_in_time_is_named() -> None:
    one = Restoring()
    id = one.ask("new_instance")
    one.run_until(lambda: len(one.machines()) == 2)
    one.cancel(id)
    one.cloud.add_fault(Fault(method="instances.delete", effect=DeletionLies()))
    ended = one.finish(id, 2 * DAY)
    assert ended.state == "failed"
    assert any(link.endswith("instances/app-2") for link in ended.left)
    nothing_is_kept(one)
    all_is_told(one)


def test_an_instance_that_somebody_removes_meanwhile_ends_it_and_no_disk_is_lost() -> None:
    one = Restoring()
    id = one.ask("in_place")
    one.run_until(lambda: any(x.name == "attach_disks" and x.state == "running" for x in one.restore(id).steps))
    one.cloud.remove_instance(one.machine_link)
    ended = one.finish(id)
    assert (ended.state, ended.failure and ended.failure.code) == ("failed", "instance_gone")
    assert {"boot", "data", "logs"} <= set(one.names())
    nothing_is_kept(one)


# --- pausing ------------------------------------------------------------------------------------------------------


def test_nothing_begins_while_restores_are_paused_and_what_waits_too_long_is_cancelled() -> None:
    one = Restoring()
    before, contents = the_machine(one), one.contents()
    one.pause(restore=d.Paused(fleet=True))
    first = one.ask("in_place")
    one.run(rules.BEGIN_WITHIN + HOUR, 5 * MINUTE)
    ended = one.restore(first)
    assert (ended.state, ended.failure and ended.failure.code) == ("cancelled", "not_begun")
    all_is_as_before(one, before, contents)
    one.pause()
    assert one.finish(one.ask("in_place")).state == "completed"


def test_what_waited_while_restores_were_paused_begins_within_minutes_of_their_being_resumed() -> None:
    one = Restoring()
    one.pause(restore=d.Paused(fleet=True))
    id = one.ask("disks")
    one.run(HOUR)
    assert one.restore(id).state == "approved"
    one.pause()
    one.run(2 * MINUTE)
    assert one.restore(id).state == "running"


def test_deletions_wait_while_they_are_paused_and_so_does_their_time() -> None:
    one = Restoring()
    id = one.ask("disks")
    one.run_until(lambda: len(one.names("rs-")) == 3)
    one.pause(deletion=d.Paused(fleet=True))
    one.cancel(id)
    one.run(3 * DAY, 20 * MINUTE)
    assert one.restore(id).state == "running"
    assert len(one.names("rs-")) == 3
    one.pause()
    assert (one.finish(id).state, one.names("rs-")) == ("cancelled", [])


# --- former disks -------------------------------------------------------------------------------------------------


def test_former_disks_stay_for_seven_days_and_then_go() -> None:
    one = Restoring()
    id = one.ask("in_place")
    one.finish(id)
    one.run(7 * DAY - HOUR, 20 * MINUTE)
    assert {"boot", "data", "logs"} < set(one.names())
    one.run(3 * HOUR, 5 * MINUTE)
    done = one.restore(id)
    assert {x.status for x in done.former} == {"gone"}
    assert done.next_at is None
    assert [name for name in one.names() if not name.startswith("rs-")] == []
    assert one.contents() == OLD
    all_is_told(one)


def test_a_former_disk_whose_label_somebody_took_off_or_that_is_in_use_stays() -> None:
    one = Restoring()
    id = one.ask("in_place")
    one.finish(id)
    link = cloud.link_of(PROJECT, f"zones/{ZONE}", "disks", "data")
    disk = one.disk(link)
    assert disk is not None
    change = cloud.SetDiskLabels(PROJECT, f"zones/{ZONE}", "data", disk.id, {}, disk.label_fingerprint, 1)
    one.compute.start(change, cloud.request_id(change))
    one.cloud.add_instance(project=PROJECT, zone=ZONE, name="helper", disks=[link.replace("/data", "/logs")])
    one.run(9 * DAY, 20 * MINUTE)
    assert {name for name in one.names() if not name.startswith("rs-")} == {"data", "logs"}
    one.run(31 * DAY, 4 * HOUR)
    done = one.restore(id)
    assert done.next_at is None
    assert sorted(x.rsplit("/", 1)[1] for x in done.left) == ["data", "logs"]


@pytest.mark.parametrize("what", ["hold", "pause"])
def test_former_disks_stay_while_something_keeps_them(what: str) -> None:
    one = Restoring()
    id = one.ask("in_place")
    one.finish(id)
    hold = d.Hold(id="h", reason="a trial", by="anna", at=one.cloud.now)
    if what == "hold":
        one.change(d.Instance, "instances", one.machine_id, holds=[hold], held=True)
    else:
        one.pause(deletion=d.Paused(tenants=["acme"]))
    one.run(9 * DAY, 20 * MINUTE)
    assert {"boot", "data", "logs"} < set(one.names())
    one.change(d.Instance, "instances", one.machine_id, holds=[], held=False)
    one.pause()
    one.run(2 * DAY, 20 * MINUTE)
    assert {x.status for x in one.restore(id).former} == {"gone"}


# --- undo ---------------------------------------------------------------------------------------------------------


def test_an_undo_puts_the_former_disks_back_and_can_be_undone() -> None:
    one = Restoring()
    contents = one.contents()
    first = one.ask("in_place")
    one.finish(first)
    second = one.ask_undo(first)
    assert one.finish(second).state == "completed"
    assert one.contents() == contents
    assert {x.status for x in one.restore(first).former} == {"returned"}
    assert [one.disk(link).labels.keys() for link in one.attached()] == [{"of"}] * 3  # type: ignore[union-attr]  # there
    third = one.ask_undo(second)
    assert one.finish(third).state == "completed"
    assert one.contents() == OLD
    one.run(8 * DAY, 20 * MINUTE)
    assert len(one.names()) == 3
    assert one.contents() == OLD
    all_is_told(one)


@pytest.mark.parametrize("minutes", range(1, 6))
def test_an_undo_that_is_cancelled_leaves_the_restored_disks_and_keeps_the_former(minutes: int) -> None:
    one = Restoring()
    first = one.ask("in_place")
    one.finish(first)
    second = one.ask_undo(first)
    one.run(minutes * MINUTE)
    one.cancel(second)
    assert one.finish(second).state == "cancelled"
    assert one.contents() == OLD
    assert {x.status for x in one.restore(first).former} == {"kept"}
    assert [one.disk(f"projects/{PROJECT}/zones/{ZONE}/disks/{name}").labels["snapkeep-role"]  # type: ignore[union-attr]  # there
            for name in ("boot", "data", "logs")] == ["former"] * 3  # fmt: skip
    nothing_is_kept(one)
    all_is_told(one)


# --- tests --------------------------------------------------------------------------------------------------------


def with_tests() -> Restoring:
    one = Restoring(restore_test=d.RestoreTest(every_days=30, network=NETWORK))
    one.cloud.add_firewall(project=PROJECT, name="nothing-out", network=NETWORK, direction="EGRESS")
    return one


def test_a_test_leaves_nothing_and_proves_the_point() -> None:
    one = with_tests()
    before, contents = the_machine(one), one.contents()
    id = one.ask_test()
    assert one.finish(id).state == "completed"
    all_is_as_before(one, before, contents)
    (event,) = one.told("restore_test.passed")
    assert event["data"]["carried_out"]
    result = one.read(d.Tenant).restore_tested
    assert result is not None
    assert (result.passed, result.restore) == (True, id)


def test_a_network_that_is_not_closed_is_told_and_says_nothing_of_the_point() -> None:
    one = with_tests()
    one.cloud.add_firewall(project=PROJECT, name="in", network=NETWORK, allows=True, ranges=("10.0.0.0/8",))
    ended = one.finish(one.ask_test())
    assert ended.failure is not None
    assert ended.failure.code == "network_not_isolated"
    assert one.point(one.point_id).usable
    (event,) = one.told("restore_test.failed")
    assert not event["data"]["carried_out"]


def test_a_point_whose_snapshot_is_gone_is_not_usable_after_its_test() -> None:
    one = with_tests()
    disk = one.point(one.point_id).disks[0]
    one.cloud.remove_snapshot(cloud.snapshot_link(disk.snapshot.project, disk.snapshot.name))
    assert one.finish(one.ask_test()).state == "failed"
    assert not one.point(one.point_id).usable
    assert one.read(d.Instance, "instances", one.machine_id).newest_verified is None


# --- where it may go ----------------------------------------------------------------------------------------------


def test_what_would_be_stored_outside_the_tenants_regions_is_refused_by_its_name() -> None:
    one = Restoring()
    id = one.ask("disks")
    held = one.held(d.Restore, "restores", id)
    moved = [replace(disk, scope="zones/europe-west1-b") for disk in held.value.disks]
    one.memory.commit(held.replaced(replace(held.value, disks=moved)))
    ended = one.finish(id)
    assert (ended.state, ended.failure and ended.failure.code) == ("failed", "outside_residency")
    assert one.names("rs-") == []

"""Names and bounds of restores, how a step asks for what is not so yet, and what stands in a survey's way."""

from __future__ import annotations

from dataclasses import replace as changed
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from msgspec.structs import replace
from tests.makers import PROJECT, REGION, THEN, ZONE, attached, disk, machine, operation, snapshot, tenant

from snapkeep import cloud
from snapkeep import documents as d
from snapkeep.creation.rules import UNKNOWN_SETTLED
from snapkeep.restore import asks, facts, former, life, rules, steps, survey
from snapkeep.restore.asks import Goal

NOW = THEN
LINK = "projects/p/zones/z/operations/op-1"
NOT_SO = Goal("StopInstance app", met=False, ask=partial(cloud.StopInstance, PROJECT, ZONE, "app", "1"))
SO = changed(NOT_SO, met=True)


def restore(mode: d.RestoreMode = "in_place", **changes: Any) -> d.Restore:
    """One that was just begun."""
    made = d.RestoreDisk(
        device_name="boot", boot=True, mode="READ_WRITE", interface="SCSI", auto_delete=True, of="1",
        snapshot=snapshot().link, snapshot_id="9001", project=PROJECT, scope=f"zones/{ZONE}", name="rs-1",
        type="pd-balanced", size_gb=100,
    )  # fmt: skip
    one = d.Restore(
        updated_at=NOW, id="20261101-p-app-00000001", mode=mode, state="running", recovery_point="x",
        instance=d.InstanceRef(id=machine().id, name="acme-pam-1", project=PROJECT, zone=ZONE, region=REGION),
        source=d.RestoreSource(project=PROJECT, region=REGION),
        target=d.RestoreTarget(project=PROJECT, region=REGION, zone=ZONE, name="acme-pam-1"), disks=[made],
        steps=rules.steps_of(mode, "restore"), requested_at=NOW, requested_by="anna", reason="a test",
        request_sha256="", needs_approval=True, start_by=NOW, started_at=NOW, deadline=NOW + rules.RUN_WITHIN,
        next_at=NOW,
    )  # fmt: skip
    return replace(one, **changes)


# --- names --------------------------------------------------------------------------------------------------------


def test_names_are_derived_and_are_names() -> None:
    name = rules.disk_name("acme", restore().id, "a-very-long-instance-name-", "Data_Disk.1" * 9, 1)
    assert cloud.NAME.fullmatch(name)
    assert name == rules.disk_name("acme", restore().id, "a-very-long-instance-name-", "Data_Disk.1" * 9, 1)
    assert name != rules.disk_name("acme", restore().id, "a-very-long-instance-name-", "Data_Disk.1" * 9, 2)
    assert cloud.NAME.fullmatch(rules.instance_name_of_test("acme", restore().id, "x" * 63))


# --- asking -------------------------------------------------------------------------------------------------------


def look(step: d.RestoreStep, goal: Goal, after: timedelta = timedelta(0), **operations: Any) -> asks.Pursued:
    known = {LINK: operation(link=LINK, **operations)} if operations else {}
    return asks.pursue(step, [goal], known, NOW + after, asker="r:1", asks_max=2)


def asked(**changes: Any) -> d.RestoreStep:
    """A step that has asked once, and was answered."""
    step = look(d.RestoreStep(name="stop"), NOT_SO).step
    return replace(step, asks=[replace(step.asks[0], **{"operation": LINK, **changes})])


def test_what_is_so_is_not_asked_for() -> None:
    seen = look(d.RestoreStep(name="stop"), SO)
    assert (seen.met, seen.starts, seen.outcomes) == (True, (), ())


def test_while_no_answer_is_known_the_same_request_is_asked_for_again_without_another_intent() -> None:
    first = look(d.RestoreStep(name="stop"), NOT_SO)
    again = look(first.step, NOT_SO, timedelta(minutes=2))
    assert [cloud.request_id(x) for x in again.starts] == [cloud.request_id(x) for x in first.starts]
    assert (len(first.intents), len(again.intents)) == (1, 0)


def test_the_same_change_for_two_restores_or_two_steps_of_one_is_two_requests() -> None:
    other = restore(id="20261101-p-app-00000002")
    askers = [asks.asker(restore(), 3), asks.asker(restore(), 9), asks.asker(other, 3)]
    seen = [asks.pursue(d.RestoreStep(name="stop"), [NOT_SO], {}, NOW, asker=one, asks_max=2) for one in askers]
    assert len({cloud.request_id(change) for one in seen for change in one.starts}) == 3


def test_nothing_is_asked_for_while_an_operation_runs() -> None:
    assert look(asked(), NOT_SO, status="RUNNING").starts == ()


def test_what_has_failed_is_asked_for_later_as_another_request_and_each_has_one_outcome() -> None:
    failed = look(asked(), NOT_SO, status="DONE", error_code="INTERNAL_ERROR")
    assert [one.outcome for one in failed.outcomes] == ["failed"]
    assert failed.starts == ()
    again = look(failed.step, NOT_SO, timedelta(minutes=2))
    assert [change.attempt for change in again.intents if isinstance(change, cloud.StopInstance)] == [2]
    assert again.outcomes == ()
    done = look(again.step, SO, timedelta(minutes=3))
    assert [one.outcome for one in done.outcomes] == ["succeeded"]
    assert len({failed.outcomes[0].request_id, done.outcomes[0].request_id}) == 2


def test_what_was_done_and_is_not_so_is_asked_for_again() -> None:
    seen = look(asked(), NOT_SO, status="DONE")
    assert [one.failure.code for one in seen.outcomes if one.failure] == ["not_so"]
    assert seen.step.asks[0].retry_at is not None


@pytest.mark.parametrize(("code", "status"), [("INVALID_USAGE", None), ("SOMETHING", 404)])
def test_a_refusal_for_good_ends_the_step_and_begins_nothing_else(code: str, status: int | None) -> None:
    known = {LINK: operation(link=LINK, status="DONE", error_code=code, http_status=status)}
    other = Goal("StopInstance b", met=False, ask=partial(cloud.StopInstance, PROJECT, ZONE, "b", "2"))
    seen = asks.pursue(asked(), [other, NOT_SO], known, NOW, asker="r:1", asks_max=2)
    assert seen.dead is not None
    assert (seen.intents, seen.starts, len(seen.step.asks)) == ((), (), 1)


def test_attempts_have_a_bound_but_what_takes_back_never_gives_up() -> None:
    step = asked(attempt=2)
    known = {LINK: operation(link=LINK, status="DONE", error_code="INTERNAL_ERROR")}
    assert asks.pursue(step, [NOT_SO], known, NOW, asker="r:1", asks_max=2).dead is not None
    assert asks.pursue(step, [NOT_SO], known, NOW, asker="r:1", asks_max=None).dead is None


@pytest.mark.parametrize(
    ("operation_link", "after", "may"),
    [(None, timedelta(minutes=9), True), (None, UNKNOWN_SETTLED, False), (LINK, timedelta(days=1), True)],
)
def test_what_may_still_happen_is_known(operation_link: str | None, after: timedelta, may: bool) -> None:
    (ask,) = asked(operation=operation_link).asks
    running = {LINK: operation(link=LINK, status="RUNNING")}
    assert asks.in_flight(ask, running, NOW + after) is may


# --- giving up ----------------------------------------------------------------------------------------------------

WHY = d.Failure(code="cancelled", message="not needed")


def begun(one: d.Restore, *names: str) -> d.Restore:
    """The restore with these steps behind it, the last of them running."""
    some = [replace(s, state="running" if s.name == names[-1] else "done", at=NOW) if s.name in names else s
            for s in one.steps]  # fmt: skip
    return replace(one, steps=some)


@pytest.mark.parametrize(
    ("mode", "steps_begun", "undo"),
    [
        ("in_place", ("survey",), []),
        ("in_place", ("survey", "create_disks"), ["delete_disks"]),
        (
            "in_place",
            ("survey", "create_disks", "stop"),
            ["stop", "detach_disks", "attach_disks", "start", "label_disks", "delete_disks"],
        ),
        ("new_instance", ("survey", "create_disks"), ["delete_disks"]),
        ("new_instance", ("survey", "create_disks", "create_instance"), ["delete_instance", "delete_disks"]),
        ("disks", ("survey", "create_disks"), ["delete_disks"]),
    ],
)
def test_what_was_begun_is_taken_back_and_nothing_else(
    mode: d.RestoreMode, steps_begun: tuple[str, ...], undo: list[str]
) -> None:
    given_up = rules.abandon(begun(restore(mode), *steps_begun), "cancelled", "bruno", WHY, NOW)
    assert [step.name for step in given_up.steps if step.undo] == undo
    assert all(step.state in ("done", "failed", "skipped") for step in given_up.steps if not step.undo)
    assert rules.abandon(given_up, "failed", "x", WHY, NOW) == given_up


def test_nothing_is_taken_back_before_what_was_asked_for_has_come_to_rest() -> None:
    one = begun(restore(), "survey", "create_disks", "stop")
    step = replace(one.steps[3], asks=asked().asks)
    one = replace(one, steps=[*one.steps[:3], step, *one.steps[4:]])
    given_up = rules.abandon(one, "cancelled", "bruno", WHY, NOW)
    link = rules.target_link(one)
    assert link is not None
    seen = facts.Facts(instances={link: machine()}, operations={LINK: operation(link=LINK, status="RUNNING")})
    waits = life.advance(given_up, "acme", seen, NOW)
    assert (waits.starts, waits.restore.steps[-1].state) == ((), "pending")


def test_a_former_disk_is_never_what_is_deleted_whatever_its_name_and_labels_say() -> None:
    ours = rules.labels(restore().id, "acme", "restored")
    mine = disk(id="77", name="rs-1", labels=ours)
    one = rules.abandon(begun(restore(), "survey", "create_disks"), "cancelled", "bruno", WHY, NOW)
    one = replace(one, former=[d.FormerDisk(project=PROJECT, scope=f"zones/{ZONE}", name="rs-1", id="77",
                                            device_name="boot", boot=True, mode="READ_WRITE", interface="SCSI",
                                            auto_delete=True)])  # fmt: skip
    at = len(one.steps) - 1
    assert steps.delete_disks(one, at, "acme", facts.Facts(disks={mine.link: mine}), NOW).starts == ()
    strange = replace(one, former=[])
    assert len(steps.delete_disks(strange, at, "acme", facts.Facts(disks={mine.link: mine}), NOW).starts) == 1


@pytest.mark.parametrize(
    "found",
    [
        disk(id="2", labels=rules.labels(restore().id, "acme", "former")),
        disk(id="1", labels={}),
        disk(id="1", labels={"snapkeep-restore": "another", "snapkeep-role": "former"}),
        disk(id="1", labels=rules.labels(restore().id, "acme", "former"), users=("projects/p/zones/z/instances/i",)),
    ],
)
def test_a_former_disk_goes_only_if_it_is_that_disk_ours_still_and_used_by_nobody(found: cloud.Disk) -> None:
    kept = d.FormerDisk(project=PROJECT, scope=f"zones/{ZONE}", name="acme-pam-1-boot", id="1", device_name="boot",
                        boot=True, mode="READ_WRITE", interface="SCSI", auto_delete=True, status="kept")  # fmt: skip
    one = replace(restore(), state="completed", former=[kept], keep_until=NOW)
    assert former.remove(one, facts.Facts(disks={found.link: found}), NOW, kept_by=None).starts == ()
    good = disk(id="1", labels=rules.labels(restore().id, "acme", "former"))
    assert len(former.remove(one, facts.Facts(disks={good.link: good}), NOW, kept_by=None).starts) == 1
    assert former.remove(one, facts.Facts(disks={good.link: good}), NOW, kept_by="held").starts == ()


# --- survey -------------------------------------------------------------------------------------------------------

UP = cloud.Zone(name=ZONE, project=PROJECT, region=REGION, up=True)
GOOD = facts.Facts(
    instances={machine().link: machine()},
    disks={disk().link: disk()},
    snapshots={snapshot().link: snapshot()},
    zones=[UP],
)


def surveyed(one: d.Restore, seen: facts.Facts) -> str | None:
    """The code of what stands in the way; None: nothing does."""
    taken = survey.survey(one, 0, "acme", seen, NOW)
    assert taken.starts == ()
    if taken.done:
        return None
    why = taken.dead or taken.restore.steps[0].failure
    assert why is not None
    return why.code


@pytest.mark.parametrize(
    ("seen", "code"),
    [
        (GOOD, None),
        (changed(GOOD, snapshots={}), "point_gone"),
        (changed(GOOD, snapshots={snapshot().link: snapshot(status="DELETING")}), "point_gone"),
        (changed(GOOD, snapshots={snapshot().link: snapshot(id="9002")}), "snapshot_changed"),
        (changed(GOOD, snapshots={snapshot().link: snapshot(locations=("us",))}), "snapshot_changed"),
        (changed(GOOD, zones=[changed(UP, up=False)]), "zone_away"),
        (changed(GOOD, zones=[]), "zone_away"),
        (changed(GOOD, instances={machine().link: None}), "instance_gone"),
        (changed(GOOD, instances={machine().link: machine(id="2")}), "instance_gone"),
        (changed(GOOD, instances={machine().link: machine(status="STOPPING")}), "instance_not_steady"),
        (changed(GOOD, disks={}), "disk_gone"),
    ],
)
def test_a_survey_says_what_stands_in_the_way_before_anything_is_changed(seen: facts.Facts, code: str | None) -> None:
    assert surveyed(restore(), seen) == code


def test_a_survey_notes_every_attached_disk_also_one_that_no_point_has() -> None:
    added = disk(id="2", name="added", labels={"a": "b", "snapkeep-role": "restored"})
    two = changed(machine(), disks=(attached(disk().link), attached(added.link), attached("")))
    seen = changed(GOOD, instances={two.link: two}, disks={disk().link: disk(), added.link: added})
    taken = survey.survey(restore(), 0, "acme", seen, NOW)
    assert [(x.name, x.id, x.labels) for x in taken.restore.former] == [
        ("acme-pam-1-boot", "1", {}),
        ("added", "2", {"snapkeep-role": "restored"}),  # what others say stays on the disk
    ]


def test_a_name_that_is_there_already_is_not_restored_to() -> None:
    assert surveyed(restore("new_instance"), GOOD) == "name_taken"
    assert surveyed(restore("new_instance"), changed(GOOD, instances={machine().link: None})) is None


QUIET = "projects/p/global/networks/quiet"
DENIES = cloud.Firewall(name="no", project="p", network=QUIET, direction="EGRESS", priority=1000, allows=False,
                        everything=True, ranges=("0.0.0.0/0",), targeted=False, disabled=False)  # fmt: skip


@pytest.mark.parametrize(
    ("firewalls", "isolated"),
    [
        ([DENIES], True),
        ([], False),
        ([changed(DENIES, disabled=True)], False),
        ([changed(DENIES, targeted=True)], False),
        ([changed(DENIES, ranges=("10.0.0.0/8",))], False),
        ([changed(DENIES, everything=False)], False),
        ([changed(DENIES, direction="INGRESS")], False),
        ([DENIES, changed(DENIES, allows=True, direction="INGRESS")], False),
        ([DENIES, changed(DENIES, allows=True, disabled=True)], True),
        ([DENIES, changed(DENIES, allows=True, network="projects/p/global/networks/other")], True),
    ],
)
def test_a_test_is_made_only_where_nothing_gets_in_or_out(firewalls: list[cloud.Firewall], isolated: bool) -> None:
    one = replace(restore("new_instance"), purpose="test", target=replace(restore().target, network=QUIET))
    seen = changed(GOOD, instances={}, firewalls=firewalls)
    assert surveyed(one, seen) == (None if isolated else "network_not_isolated")


# --- where --------------------------------------------------------------------------------------------------------


def test_only_home_is_written_to_and_the_second_region_while_restores_into_it_are_bought() -> None:
    dr = d.MultiRegionDr(region="us-east1", valid_until="2026-11-30")
    owner = tenant(entitlements=d.Entitlements(multi_region_dr=dr))
    assert rules.regions_of(restore(), tenant(), NOW) == {REGION}
    assert rules.regions_of(restore(), owner, NOW) == {REGION, "us-east1"}
    assert rules.regions_of(restore(), owner, NOW + timedelta(days=31)) == {REGION}

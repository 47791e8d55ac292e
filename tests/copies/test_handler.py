"""Copies from their request to their end, on the local cloud, whatever happens in between."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from msgspec.structs import replace
from tests.copies.scene import AWAY, HOUR, MINUTE, Copying, bought
from tests.makers import copy_of
from tests.retention.scene import DAY, INSTANCE_ID, PROJECT, REGION, VAULT, ZONE, meets

from snapkeep import cloud, commands
from snapkeep import documents as d
from snapkeep.copies import handler, rules, wanted
from snapkeep.copies.rules import UNENTITLED_GRACE
from snapkeep.copies.wanted import LOOK_AGAIN_QUIET
from snapkeep.messages import CopyBatch, Nudge, PointRef
from snapkeep.ports import Transient
from snapkeep.store import TenantStore
from snapkeep_local.faults import (
    DeletionLies,
    DiskFails,
    ErrorAfter,
    ErrorBefore,
    Fault,
    OperationFails,
    SnapshotFails,
    Stuck,
)


def test_a_copy_of_the_moment_holds_what_home_holds_though_the_disks_were_written_to() -> None:
    one = Copying()
    id = one.take_whole(moment=True)
    one.run_until(lambda: one.settled(id))
    copy = one.copy_of(id)
    assert copy.state == "verified"
    assert one.contents(id, AWAY) == one.contents(id)
    assert [disk.snapshot.created_at for disk in copy.disks] == [d.snapshot.created_at for d in one.point(id).disks]
    assert one.regions() == {REGION, AWAY}
    assert one.asked("temporary") == []


def test_a_copy_that_was_bought_later_is_made_through_temporary_disks_of_which_none_is_left() -> None:
    one = Copying()
    id = one.take_whole()
    one.run_until(lambda: one.settled(id))
    copy = one.copy_of(id)
    assert (copy.state, copy.way) == ("verified", "temporary_disk")
    assert one.contents(id, AWAY) == one.contents(id)
    assert len(one.asked("temporary")) == len(one.asked("DeleteDisk")) == 2
    assert one.temporaries() == []
    assert one.regions() == {REGION, AWAY}
    assert one.cloud.now - copy.requested_at < 2 * HOUR
    one.run(5 * MINUTE)
    assert one.point(id).next_at is None


# --- whatever happens in between ----------------------------------------------------------------------------------


def begin(way: str) -> tuple[Copying, str]:
    one = Copying()
    return one, one.take_whole(moment=way == "moment")


def is_whole(one: Copying, id: str) -> None:
    """The end that every try comes to, however often somebody died on the way."""
    copy = one.copy_of(id)
    assert copy.state == "verified", copy.failure
    assert one.contents(id, AWAY) == one.contents(id)
    assert one.temporaries() == []
    assert one.regions() == {REGION, AWAY}
    work = one.instance.copies
    assert (work.verified, work.waiting, work.missing, work.lagging) == (1, 0, 0, 0)
    assert work.newest[AWAY].point == id
    # Every intent has exactly one outcome.
    asked = sorted((c["name"], c.get("attempt", 0)) for r in one.records() for c in r["detail"].get("changes", []))
    ended = sorted((o["name"], o.get("attempt", 0)) for r in one.records() for o in r["detail"].get("outcomes", []))
    assert asked == ended
    assert len(one.told("copy.verified")) == 1


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("way", ["moment", "temporary_disk"])
def test_a_process_that_dies_at_any_effect_costs_nothing_but_time(way: str, when: str) -> None:
    survived = next(number for number in count(1) if not dies_at(number, way, when))
    assert survived > 6


def dies_at(number: int, way: str, when: str) -> bool:
    """Whether there was such an effect to die at. What is left of it comes to its end all the same."""
    one, id = begin(way)
    one.die_at(number, when)

    def run() -> None:
        one.run_until(lambda: one.settled(id), 6 * HOUR)

    died = one.outlive(run)
    run()
    is_whole(one, id)
    return died


@pytest.mark.parametrize("way", ["moment", "temporary_disk"])
def test_the_ticks_alone_bring_a_copy_to_its_end_when_every_message_is_lost(way: str) -> None:
    one, id = begin(way)
    one.effects.before = meets("publish", Transient("the broker is away"))
    one.run_until(lambda: one.settled(id))
    one.effects.before = lambda effect: None
    is_whole(one, id)


@pytest.mark.parametrize("way", ["moment", "temporary_disk"])
def test_an_answer_that_is_lost_is_found_by_its_name(way: str) -> None:
    one, id = begin(way)
    one.cloud.add_fault(Fault(method="*.insert", effect=ErrorAfter(), count=3))
    one.run_until(lambda: one.settled(id))
    is_whole(one, id)


@pytest.mark.parametrize("way", ["moment", "temporary_disk"])
def test_one_list_call_reads_what_became_of_all_copies_of_a_vault(way: str) -> None:
    one = Copying()
    ids = [one.take_whole(moment=way == "moment") for _ in range(3)]
    for id in ids if way == "temporary_disk" else ():
        one.ask(id)
    one.run_until(lambda: all(one.state(id) == "copying" for id in ids))
    reads: list[str] = []
    one.effects.before = lambda effect: reads.append(effect) if effect.startswith("compute.") else None
    for id in ids:
        one.change(d.Point, "points", id, next_at=one.cloud.now)
    one.cloud.advance(one.cloud.now + 4 * MINUTE)
    one.tick_of("reconcile")
    lists = [read for read in reads if read == f"compute.find {VAULT}"]
    assert len(lists) == 1  # of snapshots, or first of the disks that they are to be made of


def test_a_batch_that_comes_twice_starts_a_copy_once() -> None:
    one, id = begin("moment")
    batch = CopyBatch(points=[PointRef("acme", id), PointRef("acme", id), PointRef("nobody", id)])
    for _ in range(3):
        one.hand("copy", batch)
    assert [effect for effect in one.effects.seen if effect.startswith("start")] == [
        f"start {name}" for name in one.asked("copy")
    ]
    assert len(one.asked("copy")) == 2
    one.run_until(lambda: one.settled(id))
    is_whole(one, id)


def test_a_snapshot_that_fails_is_taken_again_of_the_same_moment() -> None:
    one, id = begin("moment")
    one.cloud.add_fault(Fault(effect=SnapshotFails(), count=1))
    one.run_until(lambda: one.settled(id))
    assert len(one.asked("copy")) == 3
    is_whole(one, id)


@pytest.mark.parametrize("effect", [DiskFails(), OperationFails()])
def test_a_temporary_disk_that_fails_is_removed_and_made_again(effect: Any) -> None:
    one, id = begin("temporary_disk")
    one.cloud.add_fault(Fault(method="disks.insert", effect=effect, count=1))
    one.run_until(lambda: one.settled(id))
    assert len(one.asked("temporary")) == 3
    is_whole(one, id)


def test_a_temporary_disk_that_somebody_else_removes_is_made_again() -> None:
    one, id = begin("temporary_disk")
    one.run_until(lambda: bool(one.asked("copy")))
    removed = [disk for disk in one.cloud.disks() if disk["name"] in one.temporaries()]
    for disk in removed:
        one.cloud.remove_disk(cloud.partial_link(disk["selfLink"]))
    one.cloud.add_fault(Fault(method="snapshots.insert", effect=OperationFails(), count=2))
    one.run_until(lambda: one.settled(id), 8 * HOUR)
    assert one.copy_of(id).state == "verified"
    known = {former for disk in one.copy_of(id).disks for former in disk.former_temporaries}
    assert {disk["id"] for disk in removed} >= known != set(), "what was made of them is still known as the copy's"
    assert one.temporaries() == []


def test_a_deletion_of_a_temporary_disk_that_did_not_happen_is_asked_for_again() -> None:
    one, id = begin("temporary_disk")
    one.cloud.add_fault(Fault(method="disks.delete", effect=DeletionLies(), count=2))
    one.run_until(lambda: one.settled(id), 8 * HOUR)
    assert len(one.asked("DeleteDisk")) == 4
    is_whole(one, id)


def test_a_disk_that_took_a_temporary_ones_name_is_left_alone() -> None:
    one, id = begin("temporary_disk")
    one.effects.before = meets("start", Transient("not now"))
    one.run_until(lambda: bool(one.asked("temporary")))
    one.effects.before = lambda effect: None
    taken = one.asked("temporary")[0]
    one.cloud.add_disk(project=VAULT, zone=ZONE, name=taken)
    one.run_until(lambda: one.settled(id), 8 * HOUR)
    assert one.copy_of(id).state == "verified"
    assert [disk["name"] for disk in one.cloud.disks() if disk["name"].startswith("sk-")] == [taken]
    assert taken not in one.asked("DeleteDisk")


def test_a_disk_that_has_grown_since_its_point_was_begun_is_copied_whole() -> None:
    one = Copying()
    one.take_whole()
    for disk in one.disks:
        one.cloud.resize_disk(cloud.partial_link(disk["selfLink"]), size_gb=500)
    id = one.take_whole()
    assert {disk.size_gb for disk in one.point(id).disks} != {500}
    one.cloud.add_fault(Fault(method="disks.insert", effect=DiskFails(), count=1))
    one.run_until(lambda: one.settled(id), 8 * HOUR)
    assert one.copy_of(id).state == "verified", one.copy_of(id).failure
    assert one.contents(id, AWAY) == one.contents(id)
    assert one.temporaries() == []


# --- what cannot be copied now ------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["moment", "temporary_disk"])
def test_a_region_that_is_away_for_two_days_is_waited_for_no_longer_and_made_up_when_it_is_back(way: str) -> None:
    one, id = begin(way)
    away = one.cloud.add_fault(Fault(method="snapshots.insert", effect=ErrorBefore()))
    one.run_until(lambda: one.state(id) == "copying")
    begun = one.cloud.now
    one.run_until(lambda: bool(one.told("copy.failed")), 2 * DAY)
    assert timedelta(0) <= one.cloud.now - begun - rules.COPY_DEADLINE < HOUR
    (failed,) = one.told("copy.failed")
    assert failed["data"]["will_be_made_up"]
    assert failed["data"]["failure"]["code"] == "deadline"
    assert "Backend Error" in failed["data"]["failure"]["message"]
    if way == "temporary_disk":  # a try through disks is left for a day since it was asked for
        one.run_until(lambda: one.settled(id) and one.state(id) == "failed")
        assert one.temporaries() == []
    one.run(DAY)
    assert one.state(id) != "verified"
    one.cloud.clear_faults(away)
    one.run_until(lambda: one.state(id) == "verified" and one.settled(id), 3 * DAY)
    assert one.contents(id, AWAY) == one.contents(id)
    assert one.temporaries() == []
    made_up = [event["data"]["reason"] for event in one.told("copy.missing")]
    assert "the last try failed: deadline" in made_up


def test_what_a_region_does_not_take_is_asked_once_in_a_run() -> None:
    one = Copying()
    ids = [one.take_whole(moment=True) for _ in range(4)]
    for id in ids:
        one.change(d.Point, "points", id, next_at=one.cloud.now)
    tries: list[str] = []

    def met(effect: str) -> None:
        if effect.startswith("start"):
            tries.append(effect)
            raise Transient("backendError")

    one.effects.before = met
    one.minute()
    assert len(tries) == 1


def test_an_instant_snapshot_that_is_gone_ends_the_try_and_the_copy_is_made_up_through_a_disk() -> None:
    one, id = begin("moment")
    lost = one.point(id).moment
    assert lost is not None
    for instant in lost.instants:
        change = cloud.DeleteInstantSnapshot(PROJECT, instant.scope, instant.name, instant.id or "", 1)
        one.compute.start(change, cloud.request_id(change))
    one.cloud.advance(one.cloud.now + 5 * MINUTE)
    one.run_until(lambda: bool(one.told("copy.failed")))
    assert one.told("copy.failed")[0]["data"]["failure"]["code"] == "instant_gone"
    moment = one.point(id).moment
    assert moment is not None
    assert moment.state in ("releasing", "released")
    one.run_until(lambda: one.state(id) == "verified" and one.settled(id), 4 * HOUR)
    assert one.copy_of(id).way == "temporary_disk"
    assert one.contents(id, AWAY) == one.contents(id)


@pytest.mark.parametrize("way", ["moment", "temporary_disk"])
def test_an_entitlement_that_ends_in_the_middle_ends_the_try_and_leaves_no_disk(way: str) -> None:
    one, id = begin(way)
    one.run_until(lambda: one.state(id) == "copying")
    asked = len(one.asked("copy"))
    one.change(d.Tenant, entitlements=d.Entitlements(), entitlements_at=one.cloud.now)
    one.run_until(lambda: one.settled(id))
    assert one.failure(id) == "not_entitled"
    assert len(one.asked("copy")) == asked
    assert one.temporaries() == []
    (event,) = one.told("copy.failed")
    assert event["data"]["will_be_made_up"] is False
    one.run(3 * HOUR)
    assert one.state(id) == "failed"
    assert [record["outcome"] for record in one.records("copy.failed")] == ["refused"]


@pytest.mark.parametrize("way", ["moment", "temporary_disk"])
@pytest.mark.parametrize("what", ["it ends", "it moves", "a pause"])
def test_what_has_changed_since_a_run_read_it_counts_right_before_anything_is_asked_for(way: str, what: str) -> None:
    one, id = begin(way)

    def met(effect: str) -> None:
        if effect != "commit copy.copying":
            return
        if what == "a pause":
            one.pause(creation=d.Paused(fleet=True))
        elif what == "it ends":
            one.change(d.Tenant, entitlements=d.Entitlements())
        else:
            moved = d.InterRegionBackup(region="us-west1", valid_until="2027-12-31")
            one.change(d.Tenant, entitlements=d.Entitlements(inter_region_backup=moved))

    one.effects.after = met
    one.run_until(lambda: one.state(id) == "copying")
    one.effects.after = lambda effect: None
    asked = {f"start {name}" for name in (*one.asked("copy"), *one.asked("temporary"))}
    one.run(3 * MINUTE)
    assert len(asked) == 2
    assert asked.isdisjoint(one.effects.seen)
    if what == "a pause":
        one.pause()
        one.run_until(lambda: one.settled(id), 8 * HOUR)
        is_whole(one, id)
    else:
        one.run_until(lambda: one.settled(id))
        assert one.failure(id) == "not_entitled"


@pytest.mark.parametrize("way", ["moment", "temporary_disk"])
def test_what_is_encrypted_with_a_customers_key_is_not_copied_without_one_for_the_region(way: str) -> None:
    key = "projects/p/locations/southamerica-east1/keyRings/r/cryptoKeys/k"
    one = Copying(kms_keys={REGION: key})
    id = one.take_whole(moment=way == "moment")
    if way == "temporary_disk":
        one.ask(id)
    one.run_until(lambda: one.state(id) == "failed")
    assert one.failure(id) == "no_kms_key"
    assert one.asked("copy") == one.asked("temporary") == []
    one.run(2 * DAY)
    assert one.state(id) == "failed"
    assert one.instance.copies.missing == 1
    there = "projects/p/locations/us-east1/keyRings/r/cryptoKeys/k"
    one.change(d.Tenant, kms_keys={REGION: key, AWAY: there}, entitlements_at=one.cloud.now)
    one.run_until(lambda: one.state(id) == "verified" and one.settled(id), 4 * HOUR)
    made = [one.snapshot(disk.snapshot.name) for disk in one.copy_of(id).disks]
    assert {cloud.key_without_version(found.kms_key or "") for found in made if found} == {there}
    assert one.temporaries() == []


def test_a_copy_bought_later_that_lacks_a_key_says_so_once_and_is_made_as_soon_as_the_key_is_there() -> None:
    key = "projects/p/locations/southamerica-east1/keyRings/r/cryptoKeys/k"
    one = Copying(entitlements=d.Entitlements(), kms_keys={REGION: key})
    ids = [one.take_whole(), one.take_whole()]
    one.cloud.advance(one.cloud.now + DAY)
    one.change(d.Tenant, entitlements=bought(), entitlements_at=one.cloud.now)
    one.run(3 * HOUR)
    assert [one.failure(id) for id in ids] == ["no_kms_key"] * 2
    copy = one.copy_of(ids[0])
    assert (copy.state, copy.disks, copy.next_at, copy.late_told) == ("failed", [], None, True)
    events = one.told("copy.missing")
    assert sorted(event["data"]["point"] for event in events) == sorted(ids)
    for event in events:
        assert (event["data"]["being_made"], event["data"]["failure"]["code"]) == (False, "no_kms_key")
        assert f"kms_keys has none for {AWAY}" in event["data"]["failure"]["message"]
    assert [record["outcome"] for record in one.records("copy.failed")] == ["refused"] * 2
    assert one.asked("copy") == one.asked("temporary") == []
    work = one.instance.copies
    assert (work.missing, work.lagging, work.waiting) == (2, 2, 0)
    stored = TenantStore(one.memory, "acme").walk(d.Point, "instance_points", INSTANCE_ID)
    assert work == wanted.weigh([p.value for p in stored], one.instance, one.read(d.Tenant), one.cloud.now).work

    there = "projects/p/locations/us-east1/keyRings/r/cryptoKeys/k"
    one.change(d.Tenant, kms_keys={REGION: key, AWAY: there}, entitlements_at=one.cloud.now)
    one.run_until(lambda: all(one.state(id) == "verified" and one.settled(id) for id in ids), 4 * HOUR)
    made = [one.snapshot(disk.snapshot.name) for id in ids for disk in one.copy_of(id).disks]
    assert {cloud.key_without_version(found.kms_key or "") for found in made if found} == {there}


def test_nothing_is_asked_for_outside_the_two_regions_whatever_is_stored() -> None:
    one, id = begin("temporary_disk")
    one.effects.before = meets("start", Transient("not now"))
    one.run_until(lambda: one.state(id) == "copying")
    copy = one.copy_of(id)
    strayed = [replace(x, temporary=replace(x.temporary, zone="europe-west1-b")) for x in copy.disks if x.temporary]
    one.change(d.Point, "points", id, copies={AWAY: replace(copy, disks=strayed)})
    one.effects.before = lambda effect: None
    one.run_until(lambda: one.settled(id))
    assert one.failure(id) == "outside_residency"
    assert "europe" not in str(one.cloud.log)
    assert "refused" in [record["outcome"] for record in one.records("copy.failed")]


def test_a_point_whose_snapshots_are_gone_cannot_be_copied_any_more() -> None:
    one = Copying()
    id = one.take_whole()
    one.ask(id)
    for name in one.names(id):
        one.cloud.remove_snapshot(cloud.snapshot_link(VAULT, name))
    one.run_until(lambda: one.settled(id))
    assert one.failure(id) == "source_gone"
    assert one.asked("temporary") == []


def test_a_source_that_goes_before_the_disk_is_made_ends_the_try() -> None:
    one, id = begin("temporary_disk")
    one.effects.before = meets("start", Transient("not now"))
    one.run_until(lambda: one.state(id) == "copying")
    for name in one.names(id):
        one.cloud.remove_snapshot(cloud.snapshot_link(VAULT, name))
    one.effects.before = lambda effect: None
    one.run_until(lambda: one.settled(id))
    assert one.failure(id) == "source_gone"
    assert one.temporaries() == []
    assert one.told("copy.failed")[0]["data"]["will_be_made_up"]  # until the vault is listed, nobody knows better


# --- pauses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["moment", "temporary_disk"])
def test_nothing_is_begun_while_creation_is_paused_and_all_of_it_afterwards(way: str) -> None:
    one, id = begin(way)
    one.pause(creation=d.Paused(fleet=True))
    one.run(5 * HOUR)
    assert one.asked("copy") == one.asked("temporary") == []
    assert one.state(id) == "requested"
    one.pause()
    one.run_until(lambda: one.settled(id))
    is_whole(one, id)


def test_a_pause_between_the_disk_and_its_snapshot_keeps_the_disk() -> None:
    one, id = begin("temporary_disk")
    one.run_until(lambda: one.state(id) == "copying")
    one.pause(creation=d.Paused(tenants=["acme"]))
    one.run(3 * HOUR)
    assert one.asked("copy") == []
    assert len(one.temporaries()) == 2
    one.pause()
    one.run_until(lambda: one.settled(id))
    is_whole(one, id)


def test_temporary_disks_stay_while_deletion_is_paused() -> None:
    one, id = begin("temporary_disk")
    one.pause(deletion=d.Paused(projects=[VAULT]))
    one.run_until(lambda: one.state(id) == "verified")
    one.run(5 * HOUR)
    assert one.asked("DeleteDisk") == []
    assert len(one.temporaries()) == 2
    one.pause()
    one.run_until(lambda: one.settled(id))
    is_whole(one, id)


def test_a_pause_that_comes_right_before_the_call_is_heeded() -> None:
    one, id = begin("temporary_disk")

    def met(effect: str) -> None:
        if effect.startswith("commit") and "copy.verified" in effect:
            one.effects.before = lambda effect: None
            one.pause(deletion=d.Paused(fleet=True))

    one.effects.before = met
    one.run_until(lambda: one.state(id) == "verified")
    one.run(10 * MINUTE)
    assert not [entry for entry in one.cloud.log if entry["method"] == "disks.delete"]


# --- what is bought and missing -----------------------------------------------------------------------------------


def test_what_is_missing_is_made_up_newest_first_within_the_daily_bound() -> None:
    one = Copying(entitlements=bought(keep_last=10))
    ids = [one.take_whole(disks=8) for _ in range(5)]
    one.run_until(lambda: bool(one.told("copy.missing")))
    asked = {event["data"]["point"] for event in one.told("copy.missing")}
    assert asked == {ids[4], ids[3]}  # 16 of 20 disks
    assert one.instance.copies.missing == 3
    one.run(20 * HOUR)
    assert [one.state(id) for id in ids] == [None, None, None, "verified", "verified"]
    one.run(6 * HOUR)
    asked = {event["data"]["point"] for event in one.told("copy.missing")}
    assert asked == {ids[4], ids[3], ids[2], ids[1]}
    one.run(DAY)
    assert [one.state(id) for id in ids] == ["verified"] * 5
    assert one.temporaries() == []
    work = one.instance.copies
    assert (work.verified, work.missing, work.catch_up_disks) == (5, 0, 40)


def test_a_point_that_is_larger_than_the_bound_is_made_up_alone() -> None:
    one = Copying()
    ids = [one.take_whole(disks=1), one.take_whole(disks=rules.CATCH_UP_DISKS_PER_DAY + 1)]
    one.run_until(lambda: one.state(ids[1]) == "verified", 4 * HOUR)
    one.run(12 * HOUR)
    assert one.state(ids[0]) is None


def test_what_is_older_than_the_catch_up_is_not_made_up() -> None:
    one = Copying(entitlements=d.Entitlements())
    id = one.take_whole()
    one.cloud.advance(one.cloud.now + rules.CATCH_UP_DAYS * DAY)
    one.change(d.Tenant, entitlements=bought(), entitlements_at=one.cloud.now)
    one.run(3 * HOUR)
    assert one.state(id) is None
    assert one.instance.copies.missing == 0


def test_what_the_copies_own_policy_would_not_keep_is_not_made() -> None:
    one = Copying(entitlements=bought(keep_daily=1, keep_weekly=0))
    ids = [one.take_whole(disks=1) for _ in range(3)]
    one.run(4 * HOUR)
    assert [one.state(id) for id in ids] == [None, None, "verified"]


def test_a_copy_that_is_late_is_told_once() -> None:
    one, id = begin("moment")
    one.cloud.add_fault(Fault(method="snapshots.insert", effect=Stuck()))
    one.run(22 * HOUR)
    assert one.told("copy.missing") == []
    one.run(4 * DAY)
    reasons = [event["data"]["reason"] for event in one.told("copy.missing")]
    assert reasons.count("not verified a day after its point was taken") == 1
    assert reasons.count("the last try failed: deadline") == len(reasons) - 1 > 1
    assert one.copy_of(id).late_told
    assert one.instance.copies.lagging == 1


def test_a_copy_that_lost_a_snapshot_is_made_again_and_all_of_it_goes_in_the_end() -> None:
    one = Copying()
    id = one.take_whole()
    one.copy(id, region=AWAY)
    (lost, left) = one.copy_names(id, AWAY)
    one.cloud.remove_snapshot(f"projects/{VAULT}/global/snapshots/{lost}")
    incomplete = one.point(id)
    one.put(
        f"tenants/acme/points/{id}",
        replace(incomplete, copies={AWAY: replace(incomplete.copies[AWAY], gone=[lost])}),
    )
    asked = commands.Asked(by="anna@vendor.example", key="k", sha256="s")
    commands.request_copy(one.ports, asked, "acme", id, commands.CopyAsk(reason="it lost a snapshot"))
    one.run_until(lambda: one.settled(id))
    assert (one.state(id), one.copy_of(id).gone, one.temporaries()) == ("verified", [], [])
    assert one.contents(id, AWAY) == one.contents(id)
    assert one.snapshot(left) is not None
    gone_at = one.cloud.now - 40 * DAY
    one.change(d.Tenant, entitlements=d.Entitlements(), copies_ended={AWAY: gone_at})
    one.weigh()
    one.wait(10 * DAY)
    assert (one.state(id), one.copy_there(id, AWAY)) == ("deleted", False)


def test_copies_that_are_no_longer_bought_are_told_once_and_are_copies_again_when_they_are() -> None:
    one, id = begin("moment")
    one.run_until(lambda: one.settled(id))
    ended = one.cloud.now
    one.change(d.Tenant, entitlements=d.Entitlements(), entitlements_at=ended)
    one.run(3 * HOUR)
    (event,) = one.told("copy.unentitled")
    assert event["data"]["region"] == AWAY
    noted = one.read(d.Tenant)
    assert timedelta(0) <= noted.copies_ended[AWAY] - ended <= HOUR
    assert (one.instance.copies.verified, one.instance.copies.unentitled) == (0, 1)
    one.change(d.Tenant, entitlements=bought(), entitlements_at=one.cloud.now)
    one.run(2 * HOUR)
    assert one.read(d.Tenant).copies_ended == {}
    assert (one.instance.copies.verified, one.instance.copies.unentitled) == (1, 0)
    assert [record["action"] for record in one.records("entitlement.returned")] == ["entitlement.returned"]
    assert one.state(id) == "verified"


def test_a_tenant_that_has_bought_nothing_and_stores_nothing_is_not_weighed_again() -> None:
    one = Copying(entitlements=d.Entitlements())
    one.take_whole()
    one.run(2 * HOUR)
    assert one.read(d.Tenant).entitlements_at is None


def test_the_end_of_the_last_day_is_noticed_within_the_hour() -> None:
    one = Copying(entitlements=bought(until="2026-11-01"))
    id = one.take_whole(moment=True)
    one.run_until(lambda: one.settled(id))
    one.run(13 * HOUR)
    assert one.read(d.Tenant).copies_ended == {AWAY: datetime(2026, 11, 2, tzinfo=UTC)}
    assert len(one.told("copy.unentitled")) == 1


@pytest.mark.parametrize("how", ["last day", "offboarded"])
def test_an_end_that_is_dated_back_takes_nothing_of_the_grace_of_copies(how: str) -> None:
    one = Copying()
    id = one.take_whole()
    one.copy(id, region=AWAY)
    then, now = one.cloud.now - 40 * DAY, one.cloud.now
    leaving = d.Offboarding(at=then, by="anna", reason="left")
    how_it_ends: dict[str, Any] = {"entitlements": bought(until=f"{then:%Y-%m-%d}")}
    one.change(d.Tenant, entitlements_at=now, **(how_it_ends if how == "last day" else {"offboarding": leaving}))
    one.weigh()
    assert one.state(id) == "verified", "nobody has noted it"
    one.tick_of("entitlements")
    (event,) = one.told("copy.unentitled")
    kept_until = now - LOOK_AGAIN_QUIET + UNENTITLED_GRACE
    assert event["data"]["kept_until"] == kept_until.isoformat()
    one.wait(kept_until - one.cloud.now - HOUR)
    assert one.state(id) == "verified"
    one.wait(2 * DAY + 2 * HOUR)
    assert one.state(id) == "deleted"


def test_a_nudge_weighs_a_tenant_at_once() -> None:
    one = Copying()
    id = one.take_whole()
    one.change(d.Tenant, entitlements_at=None)
    one.hand("entitlements", Nudge(tenants=["acme", "_system", "nobody"]))
    assert one.state(id) == "requested"


def test_an_instance_that_somebody_changes_meanwhile_is_weighed_again_at_once() -> None:
    one = Copying()
    id = one.take_whole()
    met = meanwhile(one, "commit copy.requested", d.Instance, "instances", INSTANCE_ID, times=1)
    one.hand("entitlements", Nudge(tenants=["acme"]))
    assert len(met) == 1
    assert one.state(id) in ("requested", "copying")


def test_a_tenant_that_somebody_changes_meanwhile_is_weighed_again_at_once() -> None:
    """As by `discover`, which a fleet file wakes together with `entitlements`."""
    one = Copying()
    id = one.take_whole(moment=True)
    one.run_until(lambda: one.settled(id))
    one.change(d.Tenant, entitlements=d.Entitlements())
    met = meanwhile(one, "commit entitlement.ended", d.Tenant, times=1)
    one.hand("entitlements", Nudge(tenants=["acme"]))
    assert len(met) == 1
    assert one.read(d.Tenant).copies_ended == {AWAY: one.cloud.now}
    assert len(one.told("copy.unentitled")) == 1


def test_what_others_keep_changing_is_left_to_the_next_tick() -> None:
    one = Copying()
    id = one.take_whole()
    met = meanwhile(one, "commit copy.requested", d.Instance, "instances", INSTANCE_ID, times=handler.WEIGHED_MAX)
    one.hand("entitlements", Nudge(tenants=["acme"]))
    assert (len(met), one.state(id)) == (handler.WEIGHED_MAX, None)
    one.run_until(lambda: one.state(id) == "verified" and one.settled(id), 4 * HOUR)
    is_whole(one, id)


def meanwhile(one: Copying, effect: str, kind: type[Any], *path: str, times: int) -> list[str]:
    """Somebody changes a document right before so many of these effects; returns those that he met."""
    met: list[str] = []

    def change(seen: str) -> None:
        if seen == effect and len(met) < times:
            met.append(seen)
            one.change(kind, *path, updated_at=one.cloud.now + len(met) * MINUTE)

    one.effects.before = change
    return met


def test_an_instance_that_cannot_be_weighed_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    one = Copying()
    id = one.take_whole()
    one.add_instance("99", name="other")
    other = replace(one.point(id), id="20261101-o-other-00000001", stored_for="99")
    # What no document should say: it goes, and nobody knows what it was.
    broken = replace(other, id="20261101-o-other-00000002", copies={AWAY: copy_of("expiring", disks=gone_disks())})
    for point in (other, broken):
        one.put(f"tenants/acme/points/{point.id}", point)
    one.run_until(lambda: one.state(id) == "verified", 4 * HOUR)
    assert "instances/99: its copies cannot be weighed" in caplog.text
    assert one.state(other.id) is None


def gone_disks() -> list[d.CopyDisk]:
    return [d.CopyDisk(id="1", name="x", snapshot=d.SnapshotRef(project=VAULT, name="x", location=AWAY))]

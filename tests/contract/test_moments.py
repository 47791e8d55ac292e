"""Instant snapshots, their groups, what is stored from them, and disks made of snapshots: in memory and over Google's
client alike."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, timedelta
from typing import Any

import pytest
from tests.contract.clouds import BOOT, DATA, GENEROUS, INSTANCE, KEY, NOW, PROJECT, REGION, VAULT, ZONE, Side, fleet
from tests.contract.clouds import reached as reached_by

from snapkeep.cloud import (
    Change,
    DeleteDisk,
    DeleteInstantSnapshot,
    DeleteInstantSnapshotGroup,
    Disk,
    InsertDisk,
    InsertInstantSnapshot,
    InsertInstantSnapshotGroup,
    InsertSnapshot,
    InstantSnapshot,
    InstantSnapshotGroup,
    Operation,
    Resource,
    ResourcePolicy,
    Snapshot,
    request_id,
    written_to,
)
from snapkeep.ports import Refused, Transient
from snapkeep_local.cloud import Cloud
from snapkeep_local.faults import (
    DeletionLies,
    DiskFails,
    Effect,
    ErrorAfter,
    ErrorBefore,
    Fault,
    InstantVanishes,
    OperationFails,
    Slow,
    Stuck,
)

IN_ZONE = f"zones/{ZONE}"
IN_REGION = f"regions/{REGION}"
OTHER = f"projects/{PROJECT}/zones/{ZONE}/disks/csek"
GROUP = f"projects/{PROJECT}/regions/{REGION}/resourcePolicies/together"
SCHEDULE = f"projects/{PROJECT}/regions/{REGION}/resourcePolicies/nightly"


def instant(name: str = "in-1", disk: str = BOOT, scope: str = IN_ZONE) -> InsertInstantSnapshot:
    return InsertInstantSnapshot(PROJECT, scope, name, disk, {"snapkeep-tenant": "acme"}, "Snapkeep")


def group(name: str = "gr-1", scope: str = IN_ZONE, policy: str = GROUP) -> InsertInstantSnapshotGroup:
    return InsertInstantSnapshotGroup(PROJECT, scope, name, policy, "Snapkeep")


def snapshot(name: str = "sk-1", **changes: Any) -> InsertSnapshot:
    fields: dict[str, Any] = {"project": VAULT, "name": name, "source_disk": BOOT, "location": REGION, "labels": {}}
    return InsertSnapshot(**fields | changes)


def disk(name: str = "tmp-1", source: str = "", **changes: Any) -> InsertDisk:
    fields: dict[str, Any] = {
        "project": VAULT,
        "scope": f"zones/{ZONE}",
        "name": name,
        "source_snapshot": source or snapshot().link,
        "type": "pd-ssd",
        "size_gb": 20,
        "labels": {"snapkeep-role": "temporary"},
    }
    return InsertDisk(**fields | changes)


def under(one: Cloud, *disks: str, policy: str = GROUP) -> None:
    """Put disks under a consistency group, which is made for them."""
    one.add_policy(project=PROJECT, region=REGION, name=policy.rsplit("/", 1)[1])
    for link in disks:
        one.attach_policy(link, policy)


def taken(side: Side, change: InsertInstantSnapshot | None = None) -> InstantSnapshot:
    """An instant snapshot that is READY."""
    wanted = change or instant()
    side.start(wanted)
    side.pass_time(minutes=1)
    return side.one(InstantSnapshot, wanted.link)


def stored(side: Side, change: InsertSnapshot | None = None) -> Snapshot:
    """A snapshot that is READY."""
    wanted = change or snapshot()
    side.start(wanted)
    side.pass_time(hours=1)
    return side.one(Snapshot, wanted.link)


def made(side: Side) -> Disk:
    """A disk that was made of a snapshot, and is READY."""
    stored(side)
    side.start(disk())
    side.pass_time(hours=1)
    return side.one(Disk, disk().link)


def refusal(side: Side, change: Change) -> tuple[int, str]:
    with pytest.raises(Refused) as refused:
        side.start(change)
    return refused.value.code, refused.value.reason


# --- instant snapshots ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("source", "scope"), [(BOOT, IN_ZONE), (DATA, IN_REGION)])
def test_an_instant_snapshot_is_asked_for_and_read_until_it_is_ready(side: Side, source: str, scope: str) -> None:
    change = instant(disk=source, scope=scope)
    link = side.start(change)
    assert link.startswith(f"projects/{PROJECT}/{scope}/operations/"), "an operation lies where what it works on lies"
    assert (side.one(Operation, link).status, side.one(Operation, link).target) == ("RUNNING", change.link)
    assert side.one(InstantSnapshot, change.link).status == "CREATING"
    side.pass_time(seconds=10)
    found = side.one(InstantSnapshot, change.link)
    assert (found.status, found.link, found.scope) == ("READY", change.link, scope)
    assert (found.source_disk, found.source_disk_id) == (source, side.one(Disk, source).id)
    assert (found.group, found.labels) == ("", {"snapkeep-tenant": "acme"})
    assert (found.created_at, found.created_at.tzinfo) == (NOW, UTC)
    assert (side.one(Operation, link).status, side.one(Operation, link).error_code) == ("DONE", None)


def test_instant_snapshots_of_all_zones_and_regions_are_found(side: Side) -> None:
    for change in (instant("in-1"), instant("in-2", DATA, IN_REGION), instant("in-3", OTHER)):
        side.start(change)
    found = list(side.compute.find(InstantSnapshot, PROJECT))
    assert found == list(side.local.find(InstantSnapshot, PROJECT))
    assert sorted(one.name for one in found) == ["in-1", "in-2", "in-3"]
    named = list(side.compute.find(InstantSnapshot, PROJECT, '(name = "in-2") OR (name = "in-3")'))
    assert sorted(one.name for one in named) == ["in-2", "in-3"]


def test_an_instant_snapshot_goes_when_it_is_asked_to(side: Side) -> None:
    found = taken(side)
    link = side.start(DeleteInstantSnapshot(PROJECT, IN_ZONE, found.name, found.id, 1))
    assert link.startswith(f"projects/{PROJECT}/{IN_ZONE}/operations/")
    assert side.one(InstantSnapshot, found.link).status == "DELETING"
    side.pass_time(minutes=1)
    assert side.both(InstantSnapshot, found.link) is None
    again = DeleteInstantSnapshot(PROJECT, IN_ZONE, found.name, found.id, 2)
    assert refusal(side, again) == (404, "notFound")


def test_an_instant_snapshot_that_begins_may_be_asked_to_go_later(side: Side) -> None:
    side.start(instant())
    young = side.one(InstantSnapshot, instant().link)
    with pytest.raises(Transient) as soon:
        side.start(DeleteInstantSnapshot(PROJECT, IN_ZONE, young.name, young.id, 1))
    assert (soon.value.code, soon.value.reason) == (400, "resourceNotReady")


@pytest.mark.parametrize("lost", [Cloud.replace_disk, Cloud.remove_disk])
def test_instant_snapshots_go_with_their_disk(side: Side, lost: Callable[[Cloud, str], None]) -> None:
    found = taken(side, instant(disk=OTHER))
    lost(side.cloud, OTHER)
    assert side.both(InstantSnapshot, found.link) is None


def test_a_disk_of_a_type_without_instant_snapshots_is_refused_for_good(side: Side) -> None:
    throughput = side.cloud.add_disk(project=PROJECT, zone=ZONE, name="cold", type="hyperdisk-throughput")
    assert refusal(side, instant(disk=throughput)) == (400, "invalid")


def test_an_instant_snapshot_lies_beside_its_disk(side: Side) -> None:
    assert refusal(side, instant(scope=f"zones/{REGION}-b")) == (400, "invalid")
    assert refusal(side, instant(scope=IN_REGION)) == (400, "invalid")
    assert refusal(side, instant(disk=f"{BOOT}-none")) == (404, "notFound")


def test_a_disk_has_one_instant_snapshot_in_half_a_minute(side: Side) -> None:
    side.start(instant("in-1"))
    side.pass_time(seconds=29)
    link = side.start(instant("in-2"))
    side.pass_time(seconds=1)
    assert side.one(Operation, link).error_code == "RESOURCE_OPERATION_RATE_EXCEEDED"
    assert side.both(InstantSnapshot, instant("in-2").link) is None
    assert taken(side, instant("in-3")).status == "READY"


def test_a_disk_has_32_instant_snapshots_at_most(side: Side) -> None:
    for number in range(32):
        taken(side, instant(f"in-{number}"))
    link = side.start(instant("in-32"))
    side.pass_time(minutes=1)
    assert side.one(Operation, link).error_code == "LIMIT_EXCEEDED"
    first = side.one(InstantSnapshot, instant("in-0").link)
    side.start(DeleteInstantSnapshot(PROJECT, IN_ZONE, first.name, first.id, 1))
    side.pass_time(minutes=1)
    assert taken(side, instant("in-33")).status == "READY"


def test_the_pause_between_instant_snapshots_may_be_told_by_the_call(way: str) -> None:
    strict = fleet(type(GENEROUS)(snapshot_rate_answer="call"))
    with reached_by(way, strict) as side:
        side.start(instant())
        with pytest.raises(Transient) as soon:
            side.start(instant("in-2"))
        assert (soon.value.code, soon.value.reason) == (429, "RESOURCE_OPERATION_RATE_EXCEEDED")
        assert not soon.value.of_project


# --- groups --------------------------------------------------------------------------------------------------------


def test_a_group_is_one_moment_of_every_disk_under_the_policy_in_its_zone(side: Side) -> None:
    under(side.cloud, BOOT, OTHER, DATA, f"projects/{PROJECT}/zones/{REGION}-b/disks/fast")
    link = side.start(group())
    assert link.startswith(f"projects/{PROJECT}/{IN_ZONE}/operations/")
    assert side.one(InstantSnapshotGroup, group().link).status == "CREATING"
    side.pass_time(seconds=10)
    found = side.one(InstantSnapshotGroup, group().link)
    assert (found.status, found.link, found.scope) == ("READY", group().link, IN_ZONE)
    assert (found.consistency_group, found.created_at, found.created_at.tzinfo) == (GROUP, NOW, UTC)
    members = list(side.compute.find(InstantSnapshot, PROJECT))
    assert members == list(side.local.find(InstantSnapshot, PROJECT))
    assert {(one.source_disk, one.group, one.status) for one in members} == {
        (BOOT, found.link, "READY"),
        (OTHER, found.link, "READY"),
    }
    assert {one.created_at for one in members} == {NOW}


def test_a_group_of_regional_disks_lies_in_their_region(side: Side) -> None:
    under(side.cloud, BOOT, DATA)
    change = group(scope=IN_REGION)
    assert side.start(change).startswith(f"projects/{PROJECT}/{IN_REGION}/operations/")
    side.pass_time(seconds=10)
    assert side.one(InstantSnapshotGroup, change.link).scope == IN_REGION
    [member] = side.compute.find(InstantSnapshot, PROJECT)
    assert (member.source_disk, member.scope) == (DATA, IN_REGION)


def test_instant_snapshots_go_with_their_group(side: Side) -> None:
    under(side.cloud, BOOT, OTHER)
    side.start(group())
    side.pass_time(minutes=1)
    alone = taken(side)
    found = side.one(InstantSnapshotGroup, group().link)
    side.start(DeleteInstantSnapshotGroup(PROJECT, IN_ZONE, found.name, found.id, 1))
    assert side.one(InstantSnapshotGroup, found.link).status == "DELETING"
    going = [one for one in side.compute.find(InstantSnapshot, PROJECT) if one.status == "DELETING"]
    assert [one.group for one in going] == [found.link] * 2
    side.pass_time(minutes=1)
    assert side.both(InstantSnapshotGroup, found.link) is None
    assert list(side.compute.find(InstantSnapshot, PROJECT)) == [alone]


def test_a_group_needs_a_consistency_group_with_a_disk_in_its_zone(side: Side) -> None:
    assert refusal(side, group()) == (404, "notFound")
    under(side.cloud, BOOT)
    side.cloud.add_policy(project=PROJECT, region=REGION, name="nightly", consistency_group=False)
    side.cloud.attach_policy(BOOT, SCHEDULE)
    assert refusal(side, group(scope=f"zones/{REGION}-b")) == (400, "invalid")
    assert refusal(side, group(scope="zones/us-east1-b")) == (400, "invalid")
    assert refusal(side, group(policy=SCHEDULE)) == (400, "invalid")
    assert list(side.compute.find(InstantSnapshot, PROJECT)) == []


def test_a_group_is_refused_as_a_whole_where_one_of_its_disks_is_too_soon(side: Side) -> None:
    under(side.cloud, BOOT, OTHER)
    side.start(instant())
    link = side.start(group())
    side.pass_time(seconds=10)
    assert side.one(Operation, link).error_code == "RESOURCE_OPERATION_RATE_EXCEEDED"
    assert side.both(InstantSnapshotGroup, group().link) is None
    assert [one.name for one in side.compute.find(InstantSnapshot, PROJECT)] == ["in-1"]


@pytest.mark.parametrize("kind", [Operation, InstantSnapshotGroup])
def test_what_no_list_has_of_all_zones_is_not_searched_for(side: Side, kind: type[Resource]) -> None:
    with pytest.raises(TypeError, match=kind.__name__):
        list(side.compute.find(kind, PROJECT))


# --- policies ------------------------------------------------------------------------------------------------------


def test_a_disk_tells_its_policies_and_a_policy_what_it_is(side: Side) -> None:
    under(side.cloud, BOOT, DATA)
    side.cloud.add_policy(project=PROJECT, region=REGION, name="nightly", consistency_group=False)
    side.cloud.attach_policy(BOOT, SCHEDULE)
    side.cloud.add_policy(project=PROJECT, region="us-east1", name="together")
    assert side.one(Disk, BOOT).resource_policies == (GROUP, SCHEDULE)
    assert side.one(Disk, DATA).resource_policies == (GROUP,)
    assert side.one(Disk, OTHER).resource_policies == ()
    assert side.one(ResourcePolicy, GROUP) == ResourcePolicy("together", PROJECT, REGION, consistency_group=True)
    assert not side.one(ResourcePolicy, SCHEDULE).consistency_group
    found = list(side.compute.find(ResourcePolicy, PROJECT))
    assert found == list(side.local.find(ResourcePolicy, PROJECT))
    assert [(one.region, one.name) for one in found] == [
        (REGION, "nightly"),
        (REGION, "together"),
        ("us-east1", "together"),
    ]
    side.cloud.detach_policy(BOOT, GROUP)
    assert side.one(Disk, BOOT).resource_policies == (SCHEDULE,)


# --- links ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "link"),
    [
        (InstantSnapshot, instant().link),
        (InstantSnapshot, instant(scope=IN_REGION).link),
        (InstantSnapshotGroup, group().link),
        (InstantSnapshotGroup, group(scope=IN_REGION).link),
        (ResourcePolicy, GROUP),
        (Operation, f"projects/{PROJECT}/{IN_REGION}/operations/none"),
    ],
)
def test_what_is_not_there_is_none(side: Side, kind: type[Resource], link: str) -> None:
    assert side.compute.get(kind, link) is None


@pytest.mark.parametrize(
    ("kind", "link"),
    [
        (InstantSnapshot, group().link),
        (InstantSnapshot, f"projects/{PROJECT}/global/instantSnapshots/one"),
        (InstantSnapshotGroup, instant().link),
        (ResourcePolicy, f"projects/{PROJECT}/{IN_ZONE}/resourcePolicies/one"),
    ],
)
def test_a_link_of_another_kind_is_a_mistake_and_not_something_missing(
    side: Side, kind: type[Resource], link: str
) -> None:
    with pytest.raises(ValueError, match="is not the link of a"):
        side.compute.get(kind, link)


# --- snapshots of instant snapshots --------------------------------------------------------------------------------


def test_snapshots_in_two_regions_hold_the_moment_of_one_instant_snapshot(side: Side) -> None:
    side.cloud.write(BOOT, "then")
    held = taken(side)
    side.cloud.write(BOOT, "later")
    side.cloud.resize_disk(BOOT, size_gb=50)
    home = snapshot("home", source_instant=held.link)
    copy = snapshot("copy", source_instant=held.link, location="us-east1")
    for change in (home, copy):
        found = stored(side, change)
        assert (found.status, found.source_instant_id, found.size_gb) == ("READY", held.id, 20)
        assert (found.source_disk, found.source_disk_id) == (BOOT, held.source_disk_id)
        assert side.cloud.content(change.link) == "then"
    assert side.one(Snapshot, copy.link).locations == ("us-east1",)
    plain = stored(side, snapshot("plain"))
    assert (plain.source_instant_id, plain.size_gb, side.cloud.content(plain.link)) == (None, 50, "later")


def test_a_snapshot_outlives_the_instant_snapshot_that_it_is_being_made_of(side: Side) -> None:
    held = taken(side)
    change = snapshot(source_instant=held.link)
    side.start(change)
    side.start(DeleteInstantSnapshot(PROJECT, IN_ZONE, held.name, held.id, 1))
    side.pass_time(hours=1)
    found = side.one(Snapshot, change.link)
    assert (found.status, found.source_instant_id) == ("READY", held.id)


def test_what_an_instant_snapshot_cannot_be_stored_as(side: Side) -> None:
    held = instant()
    assert refusal(side, snapshot(source_instant=held.link)) == (404, "notFound")
    side.start(held)
    with pytest.raises(Transient) as young:
        side.start(snapshot(source_instant=held.link))
    assert (young.value.code, young.value.reason) == (400, "resourceNotReady")
    side.pass_time(minutes=1)
    assert refusal(side, snapshot(source_instant=held.link, guest_flush=True)) == (400, "invalid")


def test_snapshots_of_instant_snapshots_count_in_the_pace_of_their_disk(side: Side) -> None:
    held = taken(side)
    links = [side.start(snapshot(f"sk-{number}", source_instant=held.link)) for number in range(7)]
    side.pass_time(minutes=30)
    codes = [side.one(Operation, link).error_code for link in links]
    assert codes == [None] * 6 + ["RESOURCE_OPERATION_RATE_EXCEEDED"]


# --- guest flush ---------------------------------------------------------------------------------------------------


def test_a_guest_is_asked_to_flush(side: Side) -> None:
    found = stored(side, snapshot(guest_flush=True))
    assert (found.status, side.cloud.flushed(found.link)) == ("READY", True)
    assert not side.cloud.flushed(stored(side, snapshot("plain")).link)


@pytest.mark.parametrize(
    "deaf",
    [
        lambda one: one.stop_instance(INSTANCE),
        lambda one: one.set_guest_agent(INSTANCE, False),
        lambda one: one.detach_disk(INSTANCE, BOOT),
    ],
)
def test_a_flush_that_nobody_hears_fails_and_stores_nothing(side: Side, deaf: Callable[[Cloud], None]) -> None:
    deaf(side.cloud)
    link = side.start(snapshot(guest_flush=True))
    side.pass_time(minutes=1)
    operation = side.one(Operation, link)
    assert operation.error_code == "UNSUPPORTED_OPERATION"
    assert "Guest flush" in (operation.error_message or "")
    assert side.both(Snapshot, snapshot().link) is None
    assert stored(side, snapshot("plain")).status == "READY"


# --- disks ---------------------------------------------------------------------------------------------------------


def test_a_disk_is_made_of_a_snapshot_and_read_until_it_is_ready(side: Side) -> None:
    side.cloud.write(BOOT, "then")
    source = stored(side)
    change = disk(kms_key=f"{KEY}-2")
    link = side.start(change)
    assert link.startswith(f"projects/{VAULT}/{IN_ZONE}/operations/")
    assert side.one(Disk, change.link).status == "CREATING"
    with pytest.raises(Transient, match="is not ready"):
        side.start(snapshot("sk-2", source_disk=change.link))
    side.pass_time(hours=1)
    found = side.one(Disk, change.link)
    assert (found.status, found.source_snapshot_id, found.link) == ("READY", source.id, change.link)
    assert (found.zone, found.type, found.size_gb) == (ZONE, "pd-ssd", 20)
    assert (found.kms_key, found.labels) == (f"{KEY}-2", {"snapkeep-role": "temporary"})
    assert side.cloud.content(change.link) == "then"
    assert side.one(Operation, link).error_code is None
    assert side.one(Disk, BOOT).source_snapshot_id is None


def test_a_snapshot_of_a_disk_made_of_a_snapshot_holds_the_same_and_begins_a_chain(side: Side) -> None:
    side.cloud.write(BOOT, "then")
    stored(side, snapshot("sk-0", location="us-east1"))
    temporary = made(side)
    side.cloud.write(BOOT, "later")
    copy = stored(side, snapshot("copy", source_disk=temporary.link, location="us-east1"))
    assert (copy.source_disk_id, copy.bytes) == (temporary.id, 10 << 30), "nothing is shared with the other disk's"
    assert side.cloud.content(copy.link) == "then"


def test_a_larger_disk_takes_longer_to_make(side: Side) -> None:
    large = stored(side, snapshot("large", source_disk=DATA))
    stored(side)
    side.start(disk())
    side.start(disk("tmp-2", large.link, size_gb=500))
    side.pass_time(minutes=5)
    assert side.one(Disk, disk().link).status == "READY"
    assert side.one(Disk, disk("tmp-2").link).status == "CREATING"
    side.pass_time(hours=1)
    assert side.one(Disk, disk("tmp-2").link).status == "READY"


def test_what_no_disk_can_be_made_of(side: Side) -> None:
    assert refusal(side, disk()) == (404, "notFound")
    side.start(snapshot())
    with pytest.raises(Transient) as young:
        side.start(disk())
    assert (young.value.code, young.value.reason) == (400, "resourceNotReady")
    side.pass_time(hours=1)
    assert refusal(side, disk(size_gb=19)) == (400, "invalid")
    assert refusal(side, disk("Not a name")) == (400, "invalid")
    side.start(disk())
    with pytest.raises(Refused) as taken_name:
        side.compute.start(disk(), "9c3cb4de-24a0-4ef2-b7a3-df4a1b7a3a10")
    assert (taken_name.value.code, taken_name.value.reason) == (409, "alreadyExists")


def test_a_disk_goes_when_it_is_asked_to_and_its_instant_snapshots_with_it(side: Side) -> None:
    temporary = made(side)
    held = InsertInstantSnapshot(VAULT, IN_ZONE, "in-1", temporary.link, {})
    taken(side, held)
    link = side.start(DeleteDisk(VAULT, f"zones/{ZONE}", temporary.name, temporary.id, 1))
    assert (side.one(Disk, temporary.link).status, side.one(Operation, link).status) == ("DELETING", "RUNNING")
    side.pass_time(minutes=1)
    assert side.both(Disk, temporary.link) is None
    assert side.both(InstantSnapshot, held.link) is None
    assert refusal(side, DeleteDisk(VAULT, f"zones/{ZONE}", temporary.name, temporary.id, 2)) == (404, "notFound")


def test_a_disk_in_use_is_not_deleted(side: Side) -> None:
    attached = side.one(Disk, BOOT)
    delete = DeleteDisk(PROJECT, f"zones/{ZONE}", attached.name, attached.id, 1)
    assert refusal(side, delete) == (400, "resourceInUseByAnotherResource")
    assert side.one(Disk, BOOT).status == "READY"


# --- every change --------------------------------------------------------------------------------------------------


def ready(side: Side) -> None:
    """A cloud in which each of CHANGES can be asked for."""
    under(side.cloud, OTHER)
    taken(side, instant("in-0"))
    side.start(group("gr-0"))
    stored(side)
    side.start(disk("tmp-0"))
    side.pass_time(hours=1)


CHANGES: list[Callable[[Side], Change]] = [
    lambda side: instant(),
    lambda side: instant(disk=DATA, scope=IN_REGION),
    lambda side: group(),
    lambda side: snapshot("sk-2", source_instant=instant("in-0").link, kms_key=KEY),
    lambda side: snapshot("sk-2", guest_flush=True),
    lambda side: disk(kms_key=KEY),
    lambda side: DeleteInstantSnapshot(PROJECT, IN_ZONE, "in-0", side.one(InstantSnapshot, instant("in-0").link).id, 1),
    lambda side: DeleteInstantSnapshotGroup(
        PROJECT, IN_ZONE, "gr-0", side.one(InstantSnapshotGroup, group("gr-0").link).id, 1
    ),
    lambda side: DeleteDisk(VAULT, f"zones/{ZONE}", "tmp-0", side.one(Disk, disk("tmp-0").link).id, 1),
]


@pytest.mark.parametrize("change", CHANGES)
def test_both_ask_in_the_same_words(change: Callable[[Side], Change]) -> None:
    states = []
    for way in ("local", "google"):
        with reached_by(way, fleet()) as side:
            ready(side)
            side.start(change(side))
            state = side.cloud.state()
            del state["calls"]
            states.append(state)
    assert states[0] == states[1]


@pytest.mark.parametrize("change", CHANGES)
def test_the_same_request_is_the_same_operation(side: Side, change: Callable[[Side], Change]) -> None:
    ready(side)
    wanted = change(side)
    first = side.start(wanted)
    accepted = len(side.cloud.log)
    side.pass_time(minutes=5)
    assert side.start(wanted) == first
    assert len(side.cloud.log) == accepted


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_whose_answer_is_lost_happened_all_the_same(side: Side, change: Callable[[Side], Change]) -> None:
    ready(side)
    wanted = change(side)
    side.cloud.add_fault(Fault(effect=ErrorAfter(), count=1))
    with pytest.raises(Transient):
        side.start(wanted)
    assert side.cloud.log[-1]["link"] == wanted.link
    assert side.cloud.log[-1]["request_id"] == request_id(wanted)
    assert side.one(Operation, side.start(wanted)).target == wanted.link


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_asked_for_once(side: Side, change: Callable[[Side], Change]) -> None:
    ready(side)
    wanted = change(side)
    calls, accepted = side.cloud.calls.total(), len(side.cloud.log)
    side.cloud.add_fault(Fault(effect=ErrorBefore(), count=1))
    with pytest.raises(Transient):
        side.start(wanted)
    assert (side.cloud.calls.total(), len(side.cloud.log)) == (calls + 1, accepted)


@pytest.mark.parametrize("change", CHANGES[:6])
def test_the_log_says_in_which_region_bytes_were_stored(side: Side, change: Callable[[Side], Change]) -> None:
    ready(side)
    wanted = change(side)
    assert isinstance(wanted, InsertSnapshot | InsertInstantSnapshot | InsertInstantSnapshotGroup | InsertDisk)
    side.start(wanted)
    assert side.cloud.log[-1]["region"] == written_to(wanted)


MADE: list[tuple[type[InstantSnapshot] | type[InstantSnapshotGroup] | type[Disk], Change]] = [
    (InstantSnapshot, instant()),
    (InstantSnapshotGroup, group()),
    (Disk, disk()),
]


# --- faults --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("effect", [OperationFails(code="ZONE_RESOURCE_POOL_EXHAUSTED"), OperationFails()])
def test_what_fails_to_be_made_is_not_there(side: Side, effect: OperationFails) -> None:
    ready(side)
    side.cloud.add_fault(Fault(effect=effect, method="*.insert"))
    for kind, change in MADE:
        link = side.start(change)
        side.pass_time(minutes=1)
        assert side.one(Operation, link).error_code == effect.code
        assert side.both(kind, change.link) is None


def test_what_fails_to_be_made_may_be_there_and_failed(side: Side) -> None:
    ready(side)
    side.cloud.add_fault(Fault(effect=OperationFails(snapshot="FAILED"), method="*.insert"))
    for kind, change in MADE:
        link = side.start(change)
        side.pass_time(minutes=5)
        assert side.one(Operation, link).error_code == "INTERNAL_ERROR"
        assert side.one(kind, change.link).status == "FAILED"


@pytest.mark.parametrize(("effect", "after"), [(Stuck(), timedelta(days=2)), (Slow(factor=100), timedelta(minutes=1))])
def test_what_is_made_may_take_long_or_for_ever(side: Side, effect: Effect, after: timedelta) -> None:
    ready(side)
    side.cloud.add_fault(Fault(effect=effect, method="*.insert"))
    for kind, change in MADE:
        link = side.start(change)
        side.pass_time(seconds=after.total_seconds())
        assert side.one(Operation, link).status == "RUNNING"
        assert side.one(kind, change.link).status == "CREATING"


def test_a_fault_of_a_disk_strikes_what_is_made_of_its_moment(side: Side) -> None:
    held = taken(side)
    side.cloud.add_fault(Fault(effect=ErrorBefore(), method="snapshots.insert", resource="disks/pam-1-boot$"))
    with pytest.raises(Transient):
        side.start(snapshot(source_instant=held.link))


def test_an_instant_snapshot_may_vanish(side: Side) -> None:
    under(side.cloud, OTHER)
    side.cloud.add_fault(Fault(effect=InstantVanishes(after_s=600)))
    side.start(instant())
    side.start(group())
    side.pass_time(minutes=9)
    assert {one.status for one in side.compute.find(InstantSnapshot, PROJECT)} == {"READY"}
    side.pass_time(minutes=1)
    assert list(side.compute.find(InstantSnapshot, PROJECT)) == []
    assert side.one(InstantSnapshotGroup, group().link).status == "READY", "the group itself stays"


def test_a_disk_may_fail_though_its_operation_does_not(side: Side) -> None:
    stored(side)
    side.cloud.add_fault(Fault(effect=DiskFails()))
    link = side.start(disk())
    side.pass_time(hours=1)
    assert (side.one(Operation, link).status, side.one(Operation, link).error_code) == ("DONE", None)
    assert side.one(Disk, disk().link).status == "FAILED"


@pytest.mark.parametrize("change", CHANGES[6:])
def test_a_deletion_that_was_done_may_not_have_happened(side: Side, change: Callable[[Side], Change]) -> None:
    ready(side)
    wanted = change(side)
    side.cloud.add_fault(Fault(effect=DeletionLies(), count=1))
    before = side.cloud.state()
    link = side.start(wanted)
    side.pass_time(minutes=5)
    assert (side.one(Operation, link).status, side.one(Operation, link).error_code) == ("DONE", None)
    after = side.cloud.state()
    for kind in ("disks", "instant_snapshots", "instant_snapshot_groups"):
        assert after[kind] == before[kind]

"""The simulated Compute Engine behaves as Google documents the real one, as far as Snapkeep depends on it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from flask.testing import FlaskClient

from snapkeep.cloud import named
from snapkeep_local.cloud import Cloud
from snapkeep_local.errors import ApiError, Json
from snapkeep_local.faults import (
    DeletionLies,
    Effect,
    ErrorAfter,
    ErrorBefore,
    Fault,
    OperationFails,
    Slow,
    SnapshotFails,
    SnapshotVanishes,
    Stuck,
)
from snapkeep_local.filters import parse
from snapkeep_local.limits import Limits
from snapkeep_local.rest import Simulator

NOW = datetime(2026, 3, 1, 2, 30, tzinfo=UTC)
PROJECT = "acme-prod"
ZONE = "southamerica-east1-a"
DISK = f"projects/{PROJECT}/zones/{ZONE}/disks/data"
INSTANCE = f"projects/{PROJECT}/zones/{ZONE}/instances/pam-1"
POLICY = f"projects/{PROJECT}/regions/southamerica-east1/resourcePolicies/together"
UUID = "9c3cb4de-24a0-4ef2-b7a3-df4a1b7a3a10"


def fleet(seed: int = 1, limits: Limits | None = None) -> Cloud:
    """One instance with one disk of 100 GB that holds `first`."""
    one = Cloud(seed, NOW, limits) if limits else Cloud(seed, NOW)
    one.add_disk(project=PROJECT, zone=ZONE, name="data", size_gb=100, content="first")
    one.add_instance(project=PROJECT, zone=ZONE, name="pam-1", disks=[DISK])
    return one


@pytest.fixture
def cloud() -> Cloud:
    return fleet()


def link(name: str, project: str = PROJECT) -> str:
    return f"projects/{project}/global/snapshots/{name}"


def take(cloud: Cloud, name: str, disk: str = DISK, request_id: str | None = None, **more: Any) -> Json:
    body = {"name": name, "sourceDisk": disk, "storageLocations": ["southamerica-east1"], **more}
    return cloud.insert_snapshot(PROJECT, body, request_id)


def wait(cloud: Cloud, **duration: float) -> None:
    cloud.advance(cloud.now + timedelta(**duration))


def snapshot(cloud: Cloud, name: str) -> Json:
    found = cloud.snapshot(PROJECT, name)
    assert found is not None
    return found


def operation(cloud: Cloud, asked: Json) -> Json:
    return cloud.get_operation(asked["selfLink"].partition("/v1/")[2])


def size(cloud: Cloud, name: str) -> int:
    return int(snapshot(cloud, name)["storageBytes"])


def refused(call: Callable[[], object]) -> tuple[int, str]:
    with pytest.raises(ApiError) as error:
        call()
    return error.value.status, error.value.reason


# --- time ----------------------------------------------------------------------------------------------------------


def test_time_never_goes_back(cloud: Cloud) -> None:
    wait(cloud, hours=1)
    with pytest.raises(ValueError, match="does not go back"):
        cloud.advance(NOW + timedelta(minutes=59))
    assert cloud.now == NOW + timedelta(hours=1)


def test_it_does_not_matter_in_how_many_steps_time_passes() -> None:
    one, other = fleet(), fleet()
    for cloud in (one, other):
        take(cloud, "a")
        cloud.add_fault(Fault(effect=SnapshotVanishes(after_s=300)))
        take(cloud, "b")
    one.advance(NOW + timedelta(hours=3))
    for _ in range(180):
        wait(other, minutes=1)
    assert one.state() == other.state()


def test_the_same_seed_gives_the_same_state_byte_for_byte() -> None:
    def lived(seed: int) -> str:
        cloud = fleet(seed)
        cloud.add_fault(Fault(effect=SnapshotFails(), probability=0.5))
        for number in range(20):
            take(cloud, f"s-{number}", request_id=None)
            wait(cloud, minutes=15)
        cloud.replace_disk(DISK)
        cloud.delete_snapshot(link("s-3"))
        wait(cloud, hours=1)
        return json.dumps(cloud.state())

    assert lived(1) == lived(1)
    assert lived(1) != lived(2)


def test_ids_are_uint64_and_many_fit_no_int64() -> None:
    cloud = Cloud(3, NOW)
    for number in range(50):
        cloud.add_disk(project=PROJECT, zone=ZONE, name=f"d-{number}")
    ids = [int(disk["id"]) for disk in cloud.page("disks", PROJECT)[0]]
    assert len(set(ids)) == 50
    assert any(id >= 2**63 for id in ids)
    assert all(0 < id < 2**64 for id in ids)


# --- a snapshot's life ---------------------------------------------------------------------------------------------


def test_a_snapshot_is_creating_then_uploading_then_ready(cloud: Cloud) -> None:
    asked = take(cloud, "s")
    seen = []
    for _ in range(60):
        seen.append((snapshot(cloud, "s")["status"], operation(cloud, asked)["status"]))
        wait(cloud, seconds=10)
    assert list(dict.fromkeys(seen)) == [("CREATING", "RUNNING"), ("UPLOADING", "RUNNING"), ("READY", "DONE")]
    assert operation(cloud, asked)["targetId"] == snapshot(cloud, "s")["id"]
    assert operation(cloud, asked)["progress"] == 100


def test_a_snapshot_is_a_minute_or_more_in_the_making(cloud: Cloud) -> None:
    take(cloud, "s")
    wait(cloud, minutes=1)
    assert snapshot(cloud, "s")["status"] == "UPLOADING"


def test_a_snapshot_tells_its_bytes_when_it_is_ready(cloud: Cloud) -> None:
    take(cloud, "s")
    assert (size(cloud, "s"), snapshot(cloud, "s")["storageBytesStatus"]) == (0, "UPDATING")
    wait(cloud, hours=1)
    assert (size(cloud, "s"), snapshot(cloud, "s")["storageBytesStatus"]) == (50 << 30, "UP_TO_DATE")


def test_a_snapshot_keeps_what_the_disk_held_when_it_was_asked_for(cloud: Cloud) -> None:
    take(cloud, "before")
    cloud.write(DISK, "second")
    take(cloud, "after")
    cloud.replace_disk(DISK)
    wait(cloud, hours=1)
    assert (cloud.content(link("before")), cloud.content(link("after"))) == ("first", "second")


def test_a_snapshot_outlives_its_disk_and_names_it_by_id(cloud: Cloud) -> None:
    id = cloud.get("disks", DISK)["id"]
    take(cloud, "s")
    wait(cloud, hours=1)
    cloud.remove_instance(INSTANCE)
    cloud.remove_disk(DISK)
    assert snapshot(cloud, "s")["sourceDiskId"] == id
    assert cloud.content(link("s")) == "first"


@pytest.mark.parametrize(
    ("zone", "stored"),
    [
        ("southamerica-east1-a", "us"),
        ("us-east1-b", "us"),
        ("northamerica-northeast1-a", "us"),
        ("europe-west1-b", "eu"),
        ("africa-south1-a", "eu"),
        ("asia-east1-a", "asia"),
        ("australia-southeast1-a", "asia"),
    ],
)
def test_a_snapshot_that_names_no_location_lands_in_a_multi_region(cloud: Cloud, zone: str, stored: str) -> None:
    disk = cloud.add_disk(project=PROJECT, zone=zone, name="d")
    take(cloud, "s", disk, storageLocations=[])
    assert snapshot(cloud, "s")["storageLocations"] == [stored]


def test_a_snapshot_is_encrypted_with_the_key_of_its_disk_or_with_its_own(cloud: Cloud) -> None:
    disk = cloud.add_disk(project=PROJECT, zone=ZONE, name="d", kms_key="projects/k/cryptoKeys/a")
    take(cloud, "disks", disk)
    take(cloud, "own", disk, snapshotEncryptionKey={"kmsKeyName": "projects/k/cryptoKeys/b"})
    take(cloud, "none")
    keys = [snapshot(cloud, name).get("snapshotEncryptionKey") for name in ("disks", "own", "none")]
    assert keys == [
        {"kmsKeyName": "projects/k/cryptoKeys/a/cryptoKeyVersions/1"},
        {"kmsKeyName": "projects/k/cryptoKeys/b/cryptoKeyVersions/1"},
        None,
    ]


@pytest.mark.parametrize("name", ["", "A", "1a", "a-", "a" * 64, "a/b", "a\n"])
def test_a_name_must_be_one(cloud: Cloud, name: str) -> None:
    assert refused(lambda: take(cloud, name)) == (400, "invalid")
    assert refused(lambda: cloud.add_disk(project=PROJECT, zone=ZONE, name=name)) == (400, "invalid")
    assert refused(lambda: cloud.add_instance(project=PROJECT, zone=ZONE, name=name)) == (400, "invalid")


def test_a_snapshot_has_one_location_at_most(cloud: Cloud) -> None:
    assert refused(lambda: take(cloud, "s", storageLocations=["us", "eu"])) == (400, "invalid")


def test_a_name_is_taken_until_its_snapshot_is_gone(cloud: Cloud) -> None:
    take(cloud, "s")
    wait(cloud, hours=1)
    assert refused(lambda: take(cloud, "s")) == (409, "alreadyExists")
    cloud.delete_snapshot(link("s"))
    assert refused(lambda: take(cloud, "s")) == (409, "alreadyExists")
    wait(cloud, minutes=1)
    take(cloud, "s")


def test_a_disk_that_is_not_there_cannot_be_snapshotted(cloud: Cloud) -> None:
    assert refused(lambda: take(cloud, "s", DISK + "-2")) == (404, "notFound")


def test_a_planted_snapshot_is_somebody_elses(cloud: Cloud) -> None:
    cloud.plant_snapshot(project=PROJECT, name="s")
    found = cloud.get("snapshots", link("s"))
    assert (found["status"], found["storageLocations"]) == ("READY", ["us-east4"])
    assert found["sourceDiskId"] != cloud.get("disks", DISK)["id"]
    assert cloud.log == []
    cloud.plant_snapshot(project=PROJECT, name="s")
    assert cloud.get("snapshots", link("s")) == found, "a name that is taken stays as it is"
    cloud.delete_snapshot(link("s"))
    wait(cloud, minutes=1)
    assert cloud.snapshots() == []


def test_a_planted_snapshot_may_claim_to_be_ours(cloud: Cloud) -> None:
    take(cloud, "ours")
    wait(cloud, hours=1)
    ours = cloud.get("snapshots", link("ours"))
    location, labels = ours["storageLocations"][0], {"snapkeep-tenant": "acme"}
    cloud.plant_snapshot(project=PROJECT, name="forged", labels=labels, source_disk=DISK, location=location)
    forged = cloud.get("snapshots", link("forged"))
    assert forged["labels"] == labels
    assert all(forged[name] == ours[name] for name in ("sourceDisk", "sourceDiskId", "storageLocations", "status"))
    assert forged["id"] != ours["id"]


def test_a_name_that_was_freed_may_be_planted_on(cloud: Cloud) -> None:
    take(cloud, "s")
    wait(cloud, hours=1)
    before = cloud.get("snapshots", link("s"))["id"]
    cloud.remove_snapshot(link("s"))
    assert refused(lambda: cloud.remove_snapshot(link("s"))) == (404, "notFound")
    cloud.plant_snapshot(project=PROJECT, name="s")
    assert cloud.get("snapshots", link("s"))["id"] != before


# --- chains --------------------------------------------------------------------------------------------------------


def chain(cloud: Cloud) -> list[int]:
    """Four daily snapshots, a to d; their sizes."""
    for name in "abcd":
        take(cloud, name)
        wait(cloud, days=1)
    return [size(cloud, name) for name in "abcd"]


def test_the_first_of_a_chain_is_whole_and_the_others_hold_what_changed(cloud: Cloud) -> None:
    first, *others = chain(cloud)
    assert first == 50 << 30
    assert all(0 < one < first / 10 for one in others)


def test_what_is_written_makes_the_next_snapshot_larger(cloud: Cloud) -> None:
    chain(cloud)
    cloud.write(DISK, "second")
    take(cloud, "e")
    wait(cloud, days=1)
    take(cloud, "f")
    wait(cloud, days=1)
    assert size(cloud, "e") == size(cloud, "d") + (64 << 20)
    assert size(cloud, "f") == size(cloud, "d"), "and only the next"


@pytest.mark.parametrize(("gone", "next"), [("a", "b"), ("b", "c"), ("c", "d")])
def test_bytes_of_a_deleted_snapshot_move_to_the_next(cloud: Cloud, gone: str, next: str) -> None:
    sizes = dict(zip("abcd", chain(cloud), strict=True))
    cloud.delete_snapshot(link(gone))
    wait(cloud, minutes=5)
    kept = {name: size(cloud, name) for name in "abcd" if name != gone}
    assert sum(kept.values()) == sum(sizes.values()), "the total is what it was"
    assert kept[next] == sizes[gone] + sizes[next]
    assert all(cloud.content(link(name)) == "first" for name in kept)


def test_bytes_of_the_newest_snapshot_are_freed(cloud: Cloud) -> None:
    sizes = chain(cloud)
    cloud.delete_snapshot(link("d"))
    wait(cloud, minutes=5)
    assert [size(cloud, name) for name in "abc"] == sizes[:3]


def test_after_the_whole_chain_the_next_is_a_first_one(cloud: Cloud) -> None:
    chain(cloud)
    for name in "abcd":
        cloud.delete_snapshot(link(name))
    wait(cloud, minutes=5)
    take(cloud, "e")
    wait(cloud, hours=1)
    assert size(cloud, "e") == 50 << 30


def test_a_location_has_a_chain_of_its_own(cloud: Cloud) -> None:
    take(cloud, "here")
    take(cloud, "there", storageLocations=["us-east1"])
    wait(cloud, hours=1)
    assert size(cloud, "here") == size(cloud, "there") == 50 << 30


def test_what_is_written_counts_in_every_chain(cloud: Cloud) -> None:
    for day in (1, 2):
        take(cloud, f"here-{day}")
        take(cloud, f"there-{day}", storageLocations=["us-east1"])
        wait(cloud, days=1)
        cloud.write(DISK, "second")
    assert size(cloud, "here-2") == size(cloud, "there-2") > 64 << 20


def test_what_a_freed_snapshot_held_is_in_the_next_one_taken(cloud: Cloud) -> None:
    take(cloud, "a")
    wait(cloud, days=1)
    cloud.write(DISK, "second")
    take(cloud, "b")
    wait(cloud, hours=1)
    held = size(cloud, "b")
    cloud.delete_snapshot(link("b"))
    wait(cloud, minutes=5)
    take(cloud, "c")
    wait(cloud, hours=1)
    assert size(cloud, "c") >= held > 64 << 20


def test_a_replaced_disk_begins_a_chain(cloud: Cloud) -> None:
    take(cloud, "old")
    wait(cloud, days=1)
    cloud.replace_disk(DISK)
    take(cloud, "new")
    wait(cloud, days=1)
    assert size(cloud, "new") == 50 << 30


def test_nothing_is_built_on_a_failed_snapshot(cloud: Cloud) -> None:
    cloud.add_fault(Fault(effect=SnapshotFails(), count=1))
    take(cloud, "failed")
    wait(cloud, days=1)
    take(cloud, "good")
    wait(cloud, days=1)
    assert (snapshot(cloud, "failed")["status"], size(cloud, "failed")) == ("FAILED", 0)
    assert size(cloud, "good") == 50 << 30


def test_what_was_built_on_a_snapshot_before_it_failed_holds_its_bytes_too(cloud: Cloud) -> None:
    cloud.add_fault(Fault(effect=SnapshotFails(), count=1))
    take(cloud, "failed")
    take(cloud, "good")
    wait(cloud, days=1)
    assert size(cloud, "good") == 50 << 30


# --- deletion ------------------------------------------------------------------------------------------------------


def test_a_snapshot_is_deleting_before_it_is_gone(cloud: Cloud) -> None:
    take(cloud, "s")
    wait(cloud, hours=1)
    asked = cloud.delete_snapshot(link("s"))
    assert (snapshot(cloud, "s")["status"], operation(cloud, asked)["status"]) == ("DELETING", "RUNNING")
    wait(cloud, minutes=1)
    assert operation(cloud, asked)["status"] == "DONE"
    assert refused(lambda: cloud.get("snapshots", link("s"))) == (404, "notFound")
    assert refused(lambda: cloud.delete_snapshot(link("s"))) == (404, "notFound")


def test_a_snapshot_that_begins_or_ends_cannot_be_deleted(cloud: Cloud) -> None:
    take(cloud, "s")
    assert refused(lambda: cloud.delete_snapshot(link("s"))) == (400, "resourceNotReady")
    wait(cloud, hours=1)
    cloud.delete_snapshot(link("s"))
    assert refused(lambda: cloud.delete_snapshot(link("s"))) == (400, "resourceNotReady")


def test_a_snapshot_deleted_while_it_uploads_does_not_come_back(cloud: Cloud) -> None:
    take(cloud, "s")
    wait(cloud, seconds=15)
    cloud.delete_snapshot(link("s"))
    wait(cloud, hours=1)
    assert cloud.snapshots() == []


def test_a_deletion_may_say_that_it_is_done_and_leave_the_snapshot(cloud: Cloud) -> None:
    take(cloud, "s")
    wait(cloud, hours=1)
    cloud.add_fault(Fault(effect=DeletionLies(), count=1))
    asked = cloud.delete_snapshot(link("s"))
    wait(cloud, minutes=1)
    assert operation(cloud, asked)["status"] == "DONE"
    assert "error" not in operation(cloud, asked)
    assert snapshot(cloud, "s")["status"] == "READY"
    cloud.delete_snapshot(link("s"))
    wait(cloud, minutes=1)
    assert cloud.snapshots() == []


def test_a_new_snapshot_of_a_name_is_not_touched_by_the_end_of_the_old_one(cloud: Cloud) -> None:
    cloud.add_fault(Fault(effect=SnapshotVanishes(after_s=3600), count=1))
    take(cloud, "s")
    wait(cloud, minutes=30)
    cloud.delete_snapshot(link("s"))
    wait(cloud, minutes=5)
    take(cloud, "s")
    wait(cloud, hours=2)
    assert snapshot(cloud, "s")["status"] == "READY"


# --- labels --------------------------------------------------------------------------------------------------------


def test_labels_are_changed_by_who_has_read_them(cloud: Cloud) -> None:
    take(cloud, "s", labels={"a": "1"})
    fingerprint = snapshot(cloud, "s")["labelFingerprint"]
    cloud.set_snapshot_labels(link("s"), {"a": "2"}, fingerprint)
    assert snapshot(cloud, "s")["labels"] == {"a": "2"}
    assert snapshot(cloud, "s")["labelFingerprint"] != fingerprint
    stale = refused(lambda: cloud.set_snapshot_labels(link("s"), {}, fingerprint))
    assert stale == (412, "conditionNotMet")
    assert snapshot(cloud, "s")["labels"] == {"a": "2"}


def test_labels_that_are_gone_are_not_told(cloud: Cloud) -> None:
    take(cloud, "s", labels={"a": "1"})
    cloud.set_snapshot_labels(link("s"), {}, snapshot(cloud, "s")["labelFingerprint"])
    assert "labels" not in snapshot(cloud, "s")


def test_only_what_is_there_can_be_labelled(cloud: Cloud) -> None:
    assert refused(lambda: cloud.set_snapshot_labels(link("s"), {}, "")) == (404, "notFound")


# --- requests ------------------------------------------------------------------------------------------------------


def test_a_request_is_remembered_for_an_hour(cloud: Cloud) -> None:
    first = take(cloud, "s", request_id=UUID)
    wait(cloud, minutes=60)
    again = take(cloud, "s", request_id=UUID)
    assert again["name"] == first["name"]
    assert again["status"] == "DONE"
    wait(cloud, seconds=1)
    assert refused(lambda: take(cloud, "s", request_id=UUID)) == (409, "alreadyExists")


def test_a_request_of_one_method_is_none_of_another(cloud: Cloud) -> None:
    take(cloud, "s", request_id=UUID)
    wait(cloud, minutes=30)
    deleted = cloud.delete_snapshot(link("s"), UUID)
    assert deleted["operationType"] == "delete"
    assert cloud.delete_snapshot(link("s"), UUID)["name"] == deleted["name"]


def test_a_request_that_was_refused_may_be_made_again(cloud: Cloud) -> None:
    later = DISK + "-2"
    assert refused(lambda: take(cloud, "s", later, UUID)) == (404, "notFound")
    cloud.add_disk(project=PROJECT, zone=ZONE, name="data-2")
    take(cloud, "s", later, UUID)


@pytest.mark.parametrize(
    "id",
    ["", "1", "snapkeep", "00000000-0000-0000-0000-000000000000", UUID.replace("-", ""), f"{{{UUID}}}", UUID + "\n"],
)
def test_a_request_id_must_be_a_uuid_and_not_the_zero_one(cloud: Cloud, id: str) -> None:
    assert refused(lambda: take(cloud, "s", request_id=id)) == (400, "invalid")
    assert cloud.snapshots() == []


# --- quotas and pace -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "most"),
    [
        (lambda cloud: cloud.get("disks", DISK), 1500),
        (lambda cloud: cloud.page("disks", PROJECT, filter="name = none"), 1500),
        (lambda cloud: cloud.set_snapshot_labels(link("s"), {}, ""), 375),
    ],
)
def test_a_project_has_so_many_calls_a_minute(call: Callable[[Cloud], object], most: int) -> None:
    cloud = fleet()
    cloud.plant_snapshot(project=PROJECT, name="s")

    def calls_until_refused() -> int:
        for number in range(2000):
            try:
                call(cloud)
            except ApiError as error:
                if (error.status, error.reason) == (403, "rateLimitExceeded"):
                    return number
        raise AssertionError("never refused")

    assert calls_until_refused() == most
    assert calls_until_refused() == 0
    wait(cloud, seconds=59)
    assert calls_until_refused() == 0
    wait(cloud, seconds=1)
    assert calls_until_refused() == most


def test_projects_and_kinds_of_calls_have_quotas_of_their_own() -> None:
    cloud = fleet(limits=Limits(reads_per_minute=1, lists_per_minute=1))
    cloud.get("disks", DISK)
    assert refused(lambda: cloud.get("disks", DISK)) == (403, "rateLimitExceeded")
    cloud.page("disks", PROJECT)
    cloud.page("disks", "other")
    assert refused(lambda: cloud.page("disks", PROJECT)) == (403, "rateLimitExceeded")


def error_codes(cloud: Cloud, asked: list[Json]) -> list[str | None]:
    wait(cloud, minutes=5)
    return [operation(cloud, one).get("error", {}).get("errors", [{}])[0].get("code") for one in asked]


def test_a_disk_takes_six_snapshots_in_an_hour(cloud: Cloud) -> None:
    codes = error_codes(cloud, [take(cloud, f"s-{number}") for number in range(7)])
    assert codes == [None] * 6 + ["RESOURCE_OPERATION_RATE_EXCEEDED"]
    assert cloud.snapshot(PROJECT, "s-6") is None, "the call was accepted, and nothing came of it"
    cloud.advance(NOW + timedelta(minutes=59, seconds=59))
    early = take(cloud, "s-6")
    cloud.advance(NOW + timedelta(minutes=60))
    in_time = take(cloud, "s-7")
    assert error_codes(cloud, [early, in_time]) == ["RESOURCE_OPERATION_RATE_EXCEEDED", None]


def test_the_pace_is_that_of_a_disk_and_not_of_its_name(cloud: Cloud) -> None:
    for number in range(6):
        take(cloud, f"s-{number}")
    cloud.replace_disk(DISK)
    other = cloud.add_disk(project=PROJECT, zone=ZONE, name="other")
    assert error_codes(cloud, [take(cloud, "new"), take(cloud, "other", other)]) == [None, None]


def test_the_pace_may_be_answered_at_once_instead() -> None:
    cloud = fleet(limits=Limits(snapshot_rate_answer="call"))
    for number in range(6):
        take(cloud, f"s-{number}")
    assert refused(lambda: take(cloud, "s-6")) == (429, "RESOURCE_OPERATION_RATE_EXCEEDED")


# --- the fleet -----------------------------------------------------------------------------------------------------


def test_what_is_replaced_has_the_same_name_and_another_id(cloud: Cloud) -> None:
    instance, disk = cloud.get("instances", INSTANCE), cloud.get("disks", DISK)
    wait(cloud, days=1)
    cloud.replace_instance(INSTANCE)
    cloud.replace_disk(DISK)
    new_instance, new_disk = cloud.get("instances", INSTANCE), cloud.get("disks", DISK)
    assert new_instance["id"] != instance["id"]
    assert new_disk["id"] != disk["id"]
    assert new_disk["creationTimestamp"] > disk["creationTimestamp"]
    assert [one["source"] for one in new_instance["disks"]] == [new_disk["selfLink"]]
    assert cloud.attached_disk_ids(PROJECT, ZONE, "pam-1") == {new_disk["id"]}


OTHER = f"projects/{PROJECT}/zones/{ZONE}/disks/other"


@pytest.mark.parametrize(
    "change",
    [
        lambda cloud: cloud.add_disk(project=PROJECT, zone=ZONE, name="third"),
        lambda cloud: cloud.add_instance(project=PROJECT, zone=ZONE, name="pam-2", disks=[OTHER]),
        lambda cloud: cloud.remove_instance(INSTANCE),
        lambda cloud: cloud.replace_instance(INSTANCE),
        lambda cloud: cloud.attach_disk(INSTANCE, OTHER),
        lambda cloud: cloud.detach_disk(INSTANCE, DISK),
        lambda cloud: cloud.remove_disk(OTHER),
        lambda cloud: cloud.replace_disk(DISK),
        lambda cloud: cloud.resize_disk(DISK, size_gb=200),
    ],
)
def test_a_change_of_the_fleet_is_seen_by_the_next_read(cloud: Cloud, change: Callable[[Cloud], object]) -> None:
    def read() -> Json:
        return {kind: cloud.page(kind, PROJECT)[0] for kind in ("instances", "disks")}

    cloud.add_disk(project=PROJECT, zone=ZONE, name="other")
    before = read()
    assert read() == before
    wait(cloud, days=1)
    change(cloud)
    after, state = read(), cloud.state()
    assert after != before
    assert after["instances"] == state["instances"]
    assert after["disks"] == [{k: v for k, v in disk.items() if k != "content"} for disk in state["disks"]]


def test_disks_come_and_go(cloud: Cloud) -> None:
    other = cloud.add_disk(project=PROJECT, zone=ZONE, name="other")
    cloud.attach_disk(INSTANCE, other)
    assert [disk["deviceName"] for disk in cloud.get("instances", INSTANCE)["disks"]] == ["persistent-disk-0", "other"]
    assert cloud.get("disks", other)["users"] == [cloud.get("instances", INSTANCE)["selfLink"]]
    assert refused(lambda: cloud.attach_disk(INSTANCE, other)) == (400, "resourceInUseByAnotherResource")
    assert refused(lambda: cloud.remove_disk(other)) == (400, "resourceInUseByAnotherResource")
    cloud.detach_disk(INSTANCE, other)
    assert refused(lambda: cloud.detach_disk(INSTANCE, other)) == (400, "invalid")
    cloud.remove_disk(other)
    assert refused(lambda: cloud.get("disks", other)) == (404, "notFound")


def test_a_disk_grows_and_never_shrinks(cloud: Cloud) -> None:
    cloud.resize_disk(DISK, size_gb=200)
    assert cloud.get("disks", DISK)["sizeGb"] == "200"
    assert cloud.get("instances", INSTANCE)["disks"][0]["diskSizeGb"] == "200"
    assert refused(lambda: cloud.resize_disk(DISK, size_gb=199)) == (400, "invalid")


def test_disks_stay_when_their_instance_goes(cloud: Cloud) -> None:
    cloud.remove_instance(INSTANCE)
    assert cloud.page("instances", PROJECT) == ([], "")
    assert "users" not in cloud.get("disks", DISK)
    cloud.add_instance(project=PROJECT, zone=ZONE, name="pam-1", disks=[DISK])


@pytest.mark.parametrize(
    "change",
    [
        lambda cloud: cloud.add_instance(project=PROJECT, zone=ZONE, name="new", disks=[DISK, DISK + "-none"]),
        lambda cloud: cloud.attach_disk(INSTANCE, DISK + "-none"),
        lambda cloud: cloud.attach_disk(INSTANCE + "-none", DISK),
        lambda cloud: cloud.detach_disk(INSTANCE, DISK + "-none"),
        lambda cloud: cloud.replace_disk(DISK + "-none"),
        lambda cloud: cloud.write(DISK + "-none", ""),
        lambda cloud: cloud.remove_instance(INSTANCE + "-none"),
    ],
)
def test_a_change_of_what_is_not_there_changes_nothing(cloud: Cloud, change: Callable[[Cloud], object]) -> None:
    before = cloud.state()
    assert refused(lambda: change(cloud)) == (404, "notFound")
    assert cloud.state() == before


def test_what_exists_is_not_made_again(cloud: Cloud) -> None:
    assert refused(lambda: cloud.add_disk(project=PROJECT, zone=ZONE, name="data")) == (409, "alreadyExists")
    assert refused(lambda: cloud.add_instance(project=PROJECT, zone=ZONE, name="pam-1")) == (409, "alreadyExists")


@pytest.mark.parametrize("replicas", [("us-east1-b", "us-east1-c"), (ZONE, "us-east1-b")])
def test_a_regional_disk_lies_in_one_region(cloud: Cloud, replicas: tuple[str, ...]) -> None:
    wrong = refused(lambda: cloud.add_disk(project=PROJECT, zone=ZONE, name="r", replica_zones=replicas))
    assert wrong == (400, "invalid")


# --- lists ---------------------------------------------------------------------------------------------------------


def plant(cloud: Cloud, names: list[str]) -> None:
    for name in names:
        cloud.plant_snapshot(project=PROJECT, name=name)


def names(page: list[Json]) -> list[str]:
    return [one["name"] for one in page]


def test_pages_follow_one_another_without_gaps(cloud: Cloud) -> None:
    plant(cloud, [f"s-{number}" for number in range(7)])
    seen, token, pages = [], "", 0
    while pages == 0 or token:
        page, token = cloud.page("snapshots", PROJECT, max_results=3, page_token=token)
        seen += names(page)
        pages += 1
    assert (seen, pages) == ([f"s-{number}" for number in range(7)], 3)


def test_a_page_that_ends_with_the_list_has_no_next(cloud: Cloud) -> None:
    plant(cloud, ["a", "b"])
    assert cloud.page("snapshots", PROJECT, max_results=2)[1] == ""


def test_a_token_holds_while_others_make_and_delete(cloud: Cloud) -> None:
    plant(cloud, ["b", "d", "f", "h"])
    page, token = cloud.page("snapshots", PROJECT, max_results=2)
    assert names(page) == ["b", "d"]
    plant(cloud, ["a", "c", "g"])
    cloud.delete_snapshot(link("d"))
    cloud.delete_snapshot(link("f"))
    wait(cloud, minutes=5)
    rest, _ = cloud.page("snapshots", PROJECT, page_token=token)
    assert names(rest) == ["g", "h"], "nothing before is given again, and nothing that stayed is passed over"


def test_a_token_belongs_to_a_filter_as_well(cloud: Cloud) -> None:
    plant(cloud, [f"{kind}-{number}" for number in range(5) for kind in "ab"])
    page, token = cloud.page("snapshots", PROJECT, filter="name eq a-.*", max_results=2)
    rest, end = cloud.page("snapshots", PROJECT, filter="name eq a-.*", page_token=token)
    assert (names(page + rest), end) == ([f"a-{number}" for number in range(5)], "")


@pytest.mark.parametrize("token", ["nonsense", "!!!!", "AAAA", "ñ"])
def test_a_token_that_was_never_given_is_refused(cloud: Cloud, token: str) -> None:
    assert refused(lambda: cloud.page("snapshots", PROJECT, page_token=token)) == (400, "invalid")


def test_a_token_of_another_project_is_refused(cloud: Cloud) -> None:
    plant(cloud, ["a", "b"])
    _, token = cloud.page("snapshots", PROJECT, max_results=1)
    assert refused(lambda: cloud.page("snapshots", "other", page_token=token)) == (400, "invalid")


@pytest.mark.parametrize("most", [0, -1, 501])
def test_a_page_holds_1_to_500(cloud: Cloud, most: int) -> None:
    assert refused(lambda: cloud.page("snapshots", PROJECT, max_results=most)) == (400, "invalid")


def test_a_project_is_listed_alone(cloud: Cloud) -> None:
    plant(cloud, ["a"])
    cloud.plant_snapshot(project=PROJECT + "-2", name="b")
    assert names(cloud.page("snapshots", PROJECT)[0]) == ["a"]
    assert names(cloud.page("snapshots", PROJECT + "-2")[0]) == ["b"]


def test_operations_are_listed_too(cloud: Cloud) -> None:
    asked = take(cloud, "s")
    assert cloud.page("operations", PROJECT) == ([asked], "")
    assert cloud.page("operations", PROJECT, filter=f'name = "{asked["name"]}"') == ([asked], "")
    assert cloud.page("operations", PROJECT, filter="status = DONE") == ([], "")


DISK_JSON: Json = {
    "name": "data-1",
    "status": "READY",
    "sizeGb": "100",
    "creationTimestamp": "2026-03-01T02:30:00.000+00:00",
    "labels": {"tier": "gold", "empty": ""},
    "users": ["https://www.googleapis.com/compute/v1/projects/p/zones/z/instances/i"],
    "replicated": True,
}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "name = data-1",
        "name=data-1",
        "name = 'data-1'",
        '(name = "data-1")',
        '(name = "data-1") OR (name = "data-2")',
        "name != data-2",
        "labels.tier = gold",
        "labels.tier:gold",
        "labels.tier:*",
        "labels:tier",
        "NOT name = data-2",
        "NOT labels.none:*",
        "labels.none != gold",
        "sizeGb > 20",
        "sizeGb <= 100",
        "sizeGb >= 100 AND sizeGb < 101",
        "status = READY name = data-1",
        "status = READY AND (name = x OR name = data-1)",
        "name = x OR name = data-1 AND status = READY",
        'creationTimestamp < "2026-03-02T00:00:00Z"',
        "replicated = true",
        "name eq data-.*",
        "name eq 'data-\\d'",
        "name ne data",
        "(name eq data-.*) (status eq READY)",
    ],
)
def test_a_filter_matches(text: str) -> None:
    assert parse(text).matches(DISK_JSON)


@pytest.mark.parametrize(
    "text",
    [
        "name = data",
        "name eq data",
        "name ne data-.*",
        'name = "DATA-1"',
        "labels.none = gold",
        "labels.none:*",
        "sizeGb < 20",
        "sizeGb > 100",
        "NOT name = data-1",
        "status = READY AND name = x",
        "(name = x) OR (name = y)",
        "name = data-1 OR name = x AND status = FAILED",
        "replicated = false",
        "unknown.path.of.fields = 1",
    ],
)
def test_a_filter_does_not_match(text: str) -> None:
    assert not parse(text).matches(DISK_JSON)


@pytest.mark.parametrize(
    "text",
    [
        "name",
        "name =",
        "= data-1",
        "(name = a",
        "name = a)",
        "name = a OR",
        "name ~ a",
        "name eq [",
        "(name eq a) AND (name = b)",
        '"name" = a',
        "(" * 60 + "name = a" + ")" * 60,
        "name = " + "a" * 20_000,
    ],
)
def test_a_filter_that_means_nothing_is_refused(text: str) -> None:
    assert refused(lambda: parse(text)) == (400, "invalid")


def test_hundreds_of_names_are_looked_up_and_not_searched_for(cloud: Cloud) -> None:
    plant(cloud, [f"s-{number}" for number in range(300)])
    wanted = [f"s-{number}" for number in range(0, 300, 3)]
    for where in named(wanted):
        assert parse(where).names is not None
    found = [name for where in named(wanted) for name in names(cloud.page("snapshots", PROJECT, filter=where)[0])]
    assert sorted(found) == sorted(wanted)


def test_a_filter_by_name_finds_disks_of_all_zones(cloud: Cloud) -> None:
    for zone in ("us-east1-b", "us-east1-c"):
        cloud.add_disk(project=PROJECT, zone=zone, name="data")
    assert len(cloud.page("disks", PROJECT, filter="name = data")[0]) == 3


# --- faults --------------------------------------------------------------------------------------------------------


def test_an_error_before_does_nothing(cloud: Cloud) -> None:
    cloud.add_fault(Fault(effect=ErrorBefore(status=429, reason="rateLimitExceeded")))
    assert refused(lambda: take(cloud, "s", request_id=UUID)) == (429, "rateLimitExceeded")
    assert (cloud.snapshots(), cloud.log) == ([], [])


def test_an_error_after_has_done_it(cloud: Cloud) -> None:
    take(cloud, "s")
    wait(cloud, hours=1)
    cloud.add_fault(Fault(effect=ErrorAfter(status=504, reason="gatewayTimeout")))
    assert refused(lambda: take(cloud, "t")) == (504, "gatewayTimeout")
    assert refused(lambda: cloud.delete_snapshot(link("s"))) == (504, "gatewayTimeout")
    fingerprint = snapshot(cloud, "t")["labelFingerprint"]
    assert refused(lambda: cloud.set_snapshot_labels(link("t"), {"a": "b"}, fingerprint)) == (504, "gatewayTimeout")
    assert snapshot(cloud, "s")["status"] == "DELETING"
    assert snapshot(cloud, "t")["labels"] == {"a": "b"}
    assert [entry["method"] for entry in cloud.log] == [
        "snapshots.insert",
        "snapshots.insert",
        "snapshots.delete",
        "snapshots.setLabels",
    ]


@pytest.mark.parametrize(
    "read",
    [
        lambda cloud: cloud.get("disks", DISK),
        lambda cloud: cloud.get("disks", DISK + "-none"),
        lambda cloud: cloud.page("disks", PROJECT),
        lambda cloud: cloud.get_operation(f"projects/{PROJECT}/global/operations/none"),
    ],
)
def test_an_error_after_a_read_is_an_error(cloud: Cloud, read: Callable[[Cloud], object]) -> None:
    cloud.add_fault(Fault(effect=ErrorAfter(), count=1))
    assert refused(lambda: read(cloud)) == (503, "backendError")


def test_an_error_after_hides_a_refusal(cloud: Cloud) -> None:
    take(cloud, "s")
    cloud.add_fault(Fault(effect=ErrorAfter(), count=1))
    assert refused(lambda: take(cloud, "s")) == (503, "backendError")
    assert refused(lambda: take(cloud, "s")) == (409, "alreadyExists")


def test_a_slow_operation_takes_so_many_times_as_long(cloud: Cloud) -> None:
    cloud.add_fault(Fault(effect=Slow(factor=100)))
    asked = take(cloud, "s")
    wait(cloud, hours=5)
    assert (snapshot(cloud, "s")["status"], operation(cloud, asked)["status"]) == ("UPLOADING", "RUNNING")
    wait(cloud, hours=10)
    assert (snapshot(cloud, "s")["status"], operation(cloud, asked)["status"]) == ("READY", "DONE")


@pytest.mark.parametrize("status", ["CREATING", "UPLOADING"])
def test_a_stuck_operation_never_ends(cloud: Cloud, status: Any) -> None:
    cloud.add_fault(Fault(effect=Stuck(snapshot=status), count=1))
    asked = take(cloud, "s")
    wait(cloud, days=30)
    assert (snapshot(cloud, "s")["status"], operation(cloud, asked)["status"]) == (status, "RUNNING")


def test_a_stuck_deletion_deletes_nothing(cloud: Cloud) -> None:
    take(cloud, "s")
    wait(cloud, hours=1)
    cloud.add_fault(Fault(effect=Stuck(), count=1))
    asked = cloud.delete_snapshot(link("s"))
    wait(cloud, days=1)
    assert (snapshot(cloud, "s")["status"], operation(cloud, asked)["status"]) == ("READY", "RUNNING")


def failing(**effect: Any) -> Fault:
    return Fault(effect=OperationFails(code="INTERNAL_ERROR", message="broken", **effect), count=1)


def test_a_failing_insert_leaves_nothing(cloud: Cloud) -> None:
    cloud.add_fault(failing())
    asked = take(cloud, "s")
    assert asked["status"] == "RUNNING"
    wait(cloud, minutes=5)
    ended = operation(cloud, asked)
    assert (ended["status"], ended["error"]["errors"]) == ("DONE", [{"code": "INTERNAL_ERROR", "message": "broken"}])
    assert "httpErrorStatusCode" not in ended
    assert cloud.snapshots() == []


def test_a_failing_insert_may_leave_a_failed_snapshot(cloud: Cloud) -> None:
    cloud.add_fault(failing(snapshot="FAILED", http_status=500))
    asked = take(cloud, "s")
    wait(cloud, hours=1)
    assert (snapshot(cloud, "s")["status"], operation(cloud, asked)["httpErrorStatusCode"]) == ("FAILED", 500)


def test_what_fails_to_be_deleted_or_labelled_stays(cloud: Cloud) -> None:
    take(cloud, "s", labels={"a": "1"})
    wait(cloud, hours=1)
    before = snapshot(cloud, "s")
    cloud.add_fault(failing())
    deleted = cloud.delete_snapshot(link("s"))
    cloud.add_fault(failing())
    labelled = cloud.set_snapshot_labels(link("s"), {}, before["labelFingerprint"])
    wait(cloud, hours=1)
    assert [operation(cloud, one)["error"]["errors"][0]["code"] for one in (deleted, labelled)] == [
        "INTERNAL_ERROR"
    ] * 2
    assert snapshot(cloud, "s") == before


def test_a_snapshot_may_fail_behind_an_operation_that_ends_well(cloud: Cloud) -> None:
    cloud.add_fault(Fault(effect=SnapshotFails()))
    asked = take(cloud, "s")
    wait(cloud, hours=1)
    assert snapshot(cloud, "s")["status"] == "FAILED"
    assert "error" not in operation(cloud, asked)


def test_a_snapshot_may_vanish_without_a_call(cloud: Cloud) -> None:
    cloud.add_fault(Fault(effect=SnapshotVanishes(after_s=3600)))
    take(cloud, "s")
    wait(cloud, seconds=3599)
    assert snapshot(cloud, "s")["status"] == "READY"
    wait(cloud, seconds=1)
    assert cloud.snapshots() == []
    assert cloud.calls["snapshots.delete"] == 0


def test_a_fault_can_strike_the_snapshots_that_are_to_be_stored_in_one_region(cloud: Cloud) -> None:
    cloud.add_fault(Fault(effect=ErrorBefore(), method="snapshots.insert", resource="regions/us-east1$"))
    away = {"name": "a", "sourceDisk": DISK, "storageLocations": ["us-east1"]}
    assert refused(lambda: cloud.insert_snapshot(PROJECT, away)) == (503, "backendError")
    assert cloud.insert_snapshot(PROJECT, {**away, "storageLocations": ["us-east4"]})["status"] == "RUNNING"


def test_a_fault_strikes_so_many_calls_of_its_method_and_resource(cloud: Cloud) -> None:
    number = cloud.add_fault(Fault(effect=ErrorBefore(), method="snapshots.*", resource="/disks/data$", count=2))
    other = cloud.add_disk(project=PROJECT, zone=ZONE, name="other")
    take(cloud, "a", other)
    cloud.get("disks", DISK)
    assert [refused(lambda: take(cloud, "b")) for _ in range(2)] == [(503, "backendError")] * 2
    take(cloud, "b")
    [told] = cloud.faults()
    assert (told["id"], told["struck"], told["count"]) == (number, 2, 2)
    assert told["effect"] == {
        "kind": "error_before",
        "status": 503,
        "reason": "backendError",
        "message": "Backend Error",
    }


def test_what_has_struck_often_enough_lets_the_next_one_strike(cloud: Cloud) -> None:
    first = cloud.add_fault(Fault(effect=Slow(factor=2), method="snapshots.insert", count=1))
    take(cloud, "a")
    second = cloud.add_fault(Fault(effect=Slow(factor=2), method="snapshots.*"))
    take(cloud, "b")
    cloud.clear_faults(second)
    take(cloud, "c")
    cloud.add_fault(Fault(effect=ErrorBefore(), method="snapshots.insert", count=1))
    assert refused(lambda: take(cloud, "d")) == (503, "backendError")
    assert [(one["id"], one["struck"]) for one in cloud.faults()] == [(first, 1), (second + 1, 1)]


def test_a_fault_strikes_with_its_probability() -> None:
    cloud = fleet(limits=Limits(reads_per_minute=10**6))
    cloud.add_fault(Fault(effect=ErrorBefore(), probability=0.25))
    struck = 0
    for _ in range(1000):
        try:
            cloud.get("disks", DISK)
        except ApiError:
            struck += 1
    assert 200 < struck < 300


@pytest.mark.parametrize(
    "effect", [Slow(factor=2), Stuck(), OperationFails(), SnapshotFails(), SnapshotVanishes(after_s=1), DeletionLies()]
)
def test_a_read_is_not_struck_by_what_it_cannot_meet(cloud: Cloud, effect: Effect) -> None:
    cloud.add_fault(Fault(effect=effect))
    cloud.get("disks", DISK)
    cloud.page("disks", PROJECT)
    assert cloud.faults()[0]["struck"] == 0


def test_a_call_that_an_error_ends_has_met_nothing_else(cloud: Cloud) -> None:
    cloud.add_fault(Fault(effect=SnapshotFails(), count=1))
    cloud.add_fault(Fault(effect=ErrorBefore(), count=1))
    refused(lambda: take(cloud, "s"))
    assert [fault["struck"] for fault in cloud.faults()] == [0, 1]
    take(cloud, "s")
    wait(cloud, hours=1)
    assert snapshot(cloud, "s")["status"] == "FAILED"


def test_a_list_goes_on_without_a_zone_as_often_as_its_fault_says(cloud: Cloud) -> None:
    number = cloud.add_fault(Fault(effect=ErrorBefore(), method="disks.*", resource=f"zones/{ZONE}", count=2))
    assert [cloud.away("instances", PROJECT), cloud.away("snapshots", PROJECT)] == [[], []]
    assert [cloud.away("disks", PROJECT) for _ in range(3)] == [[f"zones/{ZONE}"], [f"zones/{ZONE}"], []]
    assert [(fault["id"], fault["struck"]) for fault in cloud.faults()] == [(number, 2)]


def test_a_fault_that_ends_the_whole_list_takes_no_zone_away(cloud: Cloud) -> None:
    cloud.add_fault(Fault(effect=ErrorBefore(), resource=PROJECT, count=1))
    assert refused(lambda: cloud.page("disks", PROJECT)) == (503, "backendError")
    cloud.add_fault(Fault(effect=ErrorBefore(), resource=PROJECT, probability=0.0))
    assert cloud.away("disks", PROJECT) == []


def test_faults_end_when_they_are_cleared(cloud: Cloud) -> None:
    first, second = (cloud.add_fault(Fault(effect=ErrorBefore(), method=method)) for method in ("disks.*", "*.insert"))
    cloud.clear_faults(first)
    cloud.get("disks", DISK)
    assert refused(lambda: take(cloud, "s")) == (503, "backendError")
    with pytest.raises(KeyError):
        cloud.clear_faults(first)
    cloud.clear_faults()
    take(cloud, "s")
    assert (cloud.faults(), second) == ([], first + 1)


# --- the controls over HTTP ----------------------------------------------------------------------------------------


@pytest.fixture
def http(cloud: Cloud) -> FlaskClient:
    return Simulator(cloud).app.test_client()


def test_who_uses_the_cloud_is_alone_with_it(cloud: Cloud) -> None:
    simulator = Simulator(cloud)
    came = threading.Event()

    def look() -> None:
        simulator.now()
        came.set()

    def use(_: Cloud) -> bool:
        other.start()
        return came.wait(0.05)

    other = threading.Thread(target=look)
    assert not simulator.use(use)
    other.join()
    assert came.is_set()


def said(answer: Any) -> str:
    """The message of an error in the shape of Google's."""
    error = answer.get_json()["error"]
    assert (error["code"], error["errors"][0]["message"]) == (answer.status_code, error["message"])
    return str(error["message"])


def test_faults_are_put_in_force_listed_and_ended(http: FlaskClient, cloud: Cloud) -> None:
    fault = {"method": "snapshots.insert", "count": 2, "effect": {"kind": "error_after", "status": 503}}
    added = http.post("/_sim/faults", json=fault)
    assert (added.status_code, added.get_json()) == (201, {"id": 1})
    assert http.get("/_sim/faults").get_json() == cloud.faults()
    assert http.delete("/_sim/faults/1").status_code == 204
    assert http.get("/_sim/faults").get_json() == []
    again = http.delete("/_sim/faults/1")
    assert again.status_code == 404
    assert "no fault 1" in said(again)
    http.post("/_sim/faults", json=fault)
    assert http.delete("/_sim/faults").status_code == 204
    assert cloud.faults() == []


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ({}, "missing required field `effect`"),
        ({"effect": {"kind": "explode"}}, "Invalid value 'explode'"),
        ({"effect": {"kind": "slow"}}, "missing required field `factor`"),
        ({"effect": {"kind": "stuck", "for": 1}}, "unknown field `for`"),
        ({"effect": {"kind": "stuck"}, "probability": 2}, "probability: 2.0 is not between 0 and 1"),
        ({"effect": {"kind": "stuck"}, "count": 0}, "count: 0 is not a number of times"),
        ({"effect": {"kind": "stuck"}, "resource": "["}, "is not a regular expression"),
    ],
)
def test_a_fault_that_is_none_is_refused_with_what_is_wrong(http: FlaskClient, fault: Json, why: str) -> None:
    answer = http.post("/_sim/faults", json=fault)
    assert answer.status_code == 400
    assert why in said(answer)


def test_the_fleet_is_changed(http: FlaskClient, cloud: Cloud) -> None:
    def change(kind: str, **fields: Any) -> str:
        answer = http.post("/_sim/fleet", json={"kind": kind, **fields})
        assert answer.status_code == 200, answer.get_json()
        return str(answer.get_json()["link"])

    before = cloud.get("disks", DISK)
    spot = {"project": PROJECT, "zone": ZONE}
    disk = change("add_disk", **spot, name="new", size_gb=10, labels={"a": "b"}, content="first", architecture="ARM64")
    instance = change("add_instance", **spot, name="pam-2", disks=[disk], metadata={"k": "v"}, local_ssds=1)
    assert change("attach_disk", instance=INSTANCE, disk=disk) == INSTANCE
    assert change("detach_disk", instance=INSTANCE, disk=disk) == INSTANCE
    assert change("resize_disk", disk=disk, size_gb=20) == disk
    assert change("write_disk", disk=disk, content="second") == disk
    assert change("replace_disk", disk=DISK) == DISK
    old = cloud.get("instances", instance)
    assert change("replace_instance", instance=instance) == instance
    assert cloud.get("disks", DISK)["id"] != before["id"]
    assert cloud.get("instances", instance)["id"] != old["id"]
    state = http.get("/_sim/state").get_json()
    [told] = [one for one in state["disks"] if one["name"] == "new"]
    assert (told["content"], told["sizeGb"], told["labels"]) == ("second", "20", {"a": "b"})
    change("remove_instance", instance=instance)
    change("remove_disk", disk=disk)
    assert [one["name"] for one in http.get("/_sim/state").get_json()["disks"]] == ["data"]


def test_zones_guests_local_ssds_and_firewall_rules_are_changed(http: FlaskClient, cloud: Cloud) -> None:
    def change(kind: str, **fields: Any) -> str:
        answer = http.post("/_sim/fleet", json={"kind": kind, **fields})
        assert answer.status_code == 200, answer.get_json()
        return str(answer.get_json()["link"])

    spot = {"project": PROJECT, "zone": ZONE}
    boot = change("add_disk", **spot, name="boot-2", content="first")
    instance = change("add_instance", **spot, name="pam-2", disks=[boot], local_ssds=1)
    address = cloud.get("instances", instance)["networkInterfaces"][0]["networkIP"]

    def silence(of: str = address) -> Any:
        return http.get("/_sim/guests", query_string={"address": of, "port": 443}).get_json()["silence"]

    assert silence() is None
    assert "no instance has the address 10.0.0.1" in silence("10.0.0.1")
    change("set_guest_answers", instance=instance, answers=False)
    assert "does not answer" in silence()
    change("set_guest_answers", instance=instance, answers=True)
    assert change("write_local_ssd", instance=instance, device_name="local-ssd-0", content="cache") == instance
    assert cloud.local_ssd(instance, "local-ssd-0") == "cache"
    change("stop_instance", instance=instance)
    assert "TERMINATED" in silence()
    assert cloud.local_ssd(instance, "local-ssd-0") == ""
    change("start_instance", instance=instance)
    change("detach_disk", instance=instance, disk=boot)
    assert "no boot disk" in silence()
    assert http.get("/_sim/contents", query_string={"link": boot}).get_json() == {"content": "first"}
    for nothing in (boot + "-2", instance, ""):
        assert http.get("/_sim/contents", query_string={"link": nothing}).get_json() == {"content": None}
    assert change("set_zone", zone=ZONE, up=False) == f"zones/{ZONE}"
    assert http.get("/_sim/state").get_json()["zones_down"] == [ZONE]
    rule = change("add_firewall", project=PROJECT, name="deny", network="projects/p/global/networks/n")
    (told,) = http.get("/_sim/state").get_json()["firewalls"]
    assert (told["direction"], told["denied"], told["sourceRanges"]) == (
        "INGRESS", [{"IPProtocol": "all"}], ["0.0.0.0/0"]
    )  # fmt: skip
    change("remove_firewall", firewall=rule)
    assert http.get("/_sim/state").get_json()["firewalls"] == []


def test_policies_come_over_disks_and_instances_are_switched_off_and_on(http: FlaskClient, cloud: Cloud) -> None:
    def change(kind: str, **fields: Any) -> str:
        answer = http.post("/_sim/fleet", json={"kind": kind, **fields})
        assert answer.status_code == 200, answer.get_json()
        return str(answer.get_json()["link"])

    def status() -> str:
        return str(cloud.get("instances", INSTANCE)["status"])

    spot = {"project": PROJECT, "region": "southamerica-east1"}
    group = change("add_policy", **spot, name="together")
    schedule = change("add_policy", **spot, name="nightly", consistency_group=False)
    assert change("attach_policy", disk=DISK, policy=group) == DISK
    change("attach_policy", disk=DISK, policy=schedule)
    state = http.get("/_sim/state").get_json()
    assert [one["name"] for one in state["resource_policies"]] == ["nightly", "together"]
    policies = [policy.rpartition("/")[2] for policy in state["disks"][0]["resourcePolicies"]]
    assert policies == ["together", "nightly"]
    change("detach_policy", disk=DISK, policy=schedule)
    assert len(cloud.get("disks", DISK)["resourcePolicies"]) == 1
    assert status() == "RUNNING"
    assert change("stop_instance", instance=INSTANCE) == INSTANCE
    assert status() == "TERMINATED"
    change("start_instance", instance=INSTANCE)
    assert status() == "RUNNING"
    change("set_guest_agent", instance=INSTANCE, guest_agent=False)
    asked = take(cloud, "s", guestFlush=True)
    wait(cloud, minutes=1)
    assert "error" in operation(cloud, asked)
    change("set_guest_agent", instance=INSTANCE, guest_agent=True)
    take(cloud, "s", guestFlush=True)
    assert [one["flushed"] for one in http.get("/_sim/state").get_json()["snapshots"]] == [True]


@pytest.mark.parametrize(
    ("change", "status", "why"),
    [
        ({"kind": "paint_disk"}, 400, "Invalid value 'paint_disk'"),
        ({"disk": DISK}, 400, "missing required field `kind`"),
        ({"kind": "resize_disk", "disk": DISK}, 400, "missing required field `size_gb`"),
        ({"kind": "resize_disk", "disk": DISK, "size_gb": "20"}, 400, "Expected `int`, got `str` - at `$.size_gb`"),
        ({"kind": "resize_disk", "disk": DISK, "size_gb": 0}, 400, "Expected `int` >= 1"),
        ({"kind": "resize_disk", "disk": DISK, "size_gb": 1}, 400, "A disk cannot be made smaller"),
        ({"kind": "write_disk", "disk": DISK, "content": "x", "colour": 1}, 400, "unknown field `colour`"),
        ({"kind": "add_disk", "project": PROJECT, "zone": ZONE, "name": "No"}, 400, "resource.name"),
        ({"kind": "add_disk", "project": PROJECT, "zone": ZONE, "name": "data"}, 409, "already exists"),
        ({"kind": "remove_disk", "disk": DISK + "-2"}, 404, "was not found"),
        ({"kind": "remove_disk", "disk": DISK}, 400, "is already being used by"),
        ({"kind": "add_policy", "project": PROJECT, "region": "us-east1", "name": "No"}, 400, "resource.name"),
        ({"kind": "attach_policy", "disk": DISK, "policy": POLICY}, 404, "was not found"),
        ({"kind": "detach_policy", "disk": DISK, "policy": POLICY}, 400, "is not under it"),
        ({"kind": "stop_instance", "instance": INSTANCE + "-2"}, 404, "was not found"),
        ({"kind": "set_guest_agent", "instance": INSTANCE}, 400, "missing required field `guest_agent`"),
        ({"kind": "set_zone", "zone": "us-east1-a", "up": False}, 404, "was not found"),
        ({"kind": "write_local_ssd", "instance": INSTANCE, "device_name": "x", "content": ""}, 400, "no local SSD"),
        ({"kind": "remove_firewall", "firewall": "projects/p/global/firewalls/f"}, 404, "was not found"),
        ([], 400, "Expected `object`"),
    ],
)
def test_a_change_of_the_fleet_that_cannot_be_is_refused(
    http: FlaskClient, cloud: Cloud, change: Any, status: int, why: str
) -> None:
    before = cloud.state()
    answer = http.post("/_sim/fleet", json=change)
    assert answer.status_code == status
    assert why in said(answer)
    assert cloud.state() == before


def test_calls_are_counted_by_method(http: FlaskClient) -> None:
    root = "/compute/v1/projects/acme-prod"
    for path in ("aggregated/disks", "aggregated/disks", "global/snapshots", "global/operations"):
        assert http.get(f"{root}/{path}").status_code == 200
    assert http.get(f"{root}/zones/{ZONE}/operations/none").status_code == 404
    assert http.get("/_sim/calls").get_json() == {
        "disks.aggregatedList": 2,
        "globalOperations.list": 1,
        "snapshots.list": 1,
        "zoneOperations.get": 1,
    }


def test_the_state_is_everything(http: FlaskClient, cloud: Cloud) -> None:
    take(cloud, "s")
    state = http.get("/_sim/state").get_json()
    assert state == json.loads(json.dumps(cloud.state()))
    assert state.keys() == {
        *("now", "instances", "disks", "snapshots", "instant_snapshots", "instant_snapshot_groups"),
        *("resource_policies", "firewalls", "zones_down", "operations", "faults", "calls", "log"),
    }


# --- the API over HTTP, as far as no client of ours asks -----------------------------------------------------------

ROOT = f"/compute/v1/projects/{PROJECT}"


def test_a_policy_is_of_the_project_and_region_of_its_disks_and_over_each_once(cloud: Cloud) -> None:
    for project, region in ((PROJECT, "us-east1"), ("beta-prod", "southamerica-east1")):
        elsewhere = cloud.add_policy(project=project, region=region, name="together")
        assert refused(partial(cloud.attach_policy, DISK, elsewhere)) == (400, "invalid")
    cloud.add_policy(project=PROJECT, region="southamerica-east1", name="together")
    assert refused(lambda: cloud.add_policy(project=PROJECT, region="southamerica-east1", name="together"))[0] == 409
    cloud.attach_policy(DISK, POLICY)
    assert refused(lambda: cloud.attach_policy(DISK, POLICY)) == (400, "invalid")


def test_moments_are_listed_read_and_counted_where_they_lie(http: FlaskClient, cloud: Cloud) -> None:
    cloud.add_policy(project=PROJECT, region="southamerica-east1", name="together")
    cloud.attach_policy(DISK, POLICY)
    zone = f"/compute/v1/projects/{PROJECT}/zones/{ZONE}"
    body = {"name": "moment", "sourceConsistencyGroup": f"https://compute.googleapis.com/compute/v1/{POLICY}"}
    asked = http.post(f"{zone}/instantSnapshotGroups", json=body).get_json()
    assert asked["zone"].endswith(f"zones/{ZONE}")
    assert http.get(f"{zone}/operations/{asked['name']}").get_json()["status"] == "RUNNING"
    assert http.get("/compute/v1/projects/acme-prod/global/operations").get_json().get("items") is None
    wait(cloud, seconds=10)
    [group] = http.get(f"{zone}/instantSnapshotGroups").get_json()["items"]
    assert (group["name"], group["status"]) == ("moment", "READY")
    assert "items" not in http.get(zone.replace("-a", "-b") + "/instantSnapshotGroups").get_json()
    root = f"/compute/v1/projects/{PROJECT}"
    [held] = http.get(f"{root}/aggregated/instantSnapshots").get_json()["items"][f"zones/{ZONE}"]["instantSnapshots"]
    assert (held["diskSizeGb"], held["sourceInstantSnapshotGroupId"]) == ("100", group["id"])
    assert http.get(f"{zone}/instantSnapshots/{held['name']}").get_json() == held
    policies = http.get(f"{root}/aggregated/resourcePolicies").get_json()["items"]
    assert [list(scope) for scope in policies.values()] == [["resourcePolicies"]], "policies are in regions alone"
    calls = http.get("/_sim/calls").get_json()
    assert calls == {
        "globalOperations.list": 1,
        "instantSnapshotGroups.insert": 1,
        "instantSnapshotGroups.list": 2,
        "instantSnapshots.aggregatedList": 1,
        "instantSnapshots.get": 1,
        "resourcePolicies.aggregatedList": 1,
        "zoneOperations.get": 1,
    }


@pytest.mark.parametrize(
    ("path", "body", "why"),
    [
        ("instantSnapshots", {"name": "i", "sourceDisk": 1}, "Expected `str`"),
        ("instantSnapshotGroups", [], "Expected `object`"),
        ("disks", {"name": "d", "sizeGb": "many"}, "matching regex"),
    ],
)
def test_what_is_asked_for_in_wrong_words_is_refused(http: FlaskClient, path: str, body: Any, why: str) -> None:
    answer = http.post(f"/compute/v1/projects/{PROJECT}/zones/{ZONE}/{path}", json=body)
    assert answer.status_code == 400
    assert why in said(answer)


def test_a_snapshot_of_an_earlier_moment_holds_what_changed_since(cloud: Cloud) -> None:
    body = {"name": "i", "sourceDisk": DISK}
    cloud.insert_instant_snapshot(PROJECT, f"zones/{ZONE}", body)
    wait(cloud, days=3)
    take(cloud, "now")
    instant = f"projects/{PROJECT}/zones/{ZONE}/instantSnapshots/i"
    for name in ("then", "again"):
        take(cloud, name, disk="", sourceInstantSnapshot=instant)
    wait(cloud, hours=1)
    assert [cloud.moment(link(name)) for name in ("now", "then")] == [NOW + timedelta(days=3), NOW]
    assert 0 < size(cloud, "then") < size(cloud, "now") == 50 << 30
    assert size(cloud, "again") == 0, "the same moment once more"


def test_an_aggregated_list_says_which_scopes_hold_nothing(http: FlaskClient, cloud: Cloud) -> None:
    cloud.add_disk(project="other", zone="us-east1-b", name="r", replica_zones=("us-east1-b", "us-east1-c"))
    items = http.get(f"{ROOT}/aggregated/disks").get_json()["items"]
    assert [disk["name"] for disk in items[f"zones/{ZONE}"]["disks"]] == ["data"]
    assert items["regions/us-east1"]["warning"]["code"] == "NO_RESULTS_ON_PAGE"
    instances = http.get(f"{ROOT}/aggregated/instances").get_json()["items"]
    assert list(instances) == [f"zones/{ZONE}"], "instances are in zones only"


def test_a_snapshot_is_made_labelled_and_deleted(http: FlaskClient, cloud: Cloud) -> None:
    body = {"name": "s", "sourceDisk": f"https://compute.googleapis.com/compute/v1/{DISK}", "guestFlush": False}
    assert http.post(f"{ROOT}/global/snapshots?requestId={UUID}", json=body).get_json()["clientOperationId"] == UUID
    wait(cloud, hours=1)
    fingerprint = http.get(f"{ROOT}/global/snapshots/s").get_json()["labelFingerprint"]
    labels = {"labels": {"a": "b"}, "labelFingerprint": fingerprint}
    assert http.post(f"{ROOT}/global/snapshots/s/setLabels", json=labels).status_code == 200
    assert http.post(f"{ROOT}/global/snapshots/s/setLabels", json=labels).status_code == 412
    deletion = http.delete(f"{ROOT}/global/snapshots/s").get_json()
    assert http.get(f"{ROOT}/global/operations/{deletion['name']}").get_json()["status"] == "RUNNING"
    wait(cloud, minutes=1)
    assert "items" not in http.get(f"{ROOT}/global/snapshots").get_json()


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("GET", "/", b"", 404),
        ("GET", f"{ROOT}/zones/{ZONE}/machineTypes", b"", 404),
        ("GET", f"{ROOT}/zones/{ZONE}/instances/none", b"", 404),
        ("GET", f"{ROOT}/galaxies/milky-way/disks/data", b"", 404),
        ("PUT", f"{ROOT}/global/snapshots", b"", 405),
        ("POST", f"{ROOT}/global/snapshots", b"", 400),
        ("POST", f"{ROOT}/global/snapshots", b"{", 400),
        ("POST", f"{ROOT}/global/snapshots", b"\xff\xfe", 400),
        ("POST", f"{ROOT}/global/snapshots", b'{"name": 1}', 400),
        ("POST", f"{ROOT}/global/snapshots", b'{"name": "s", "labels": {"a": 1}}', 400),
        ("POST", f"{ROOT}/global/snapshots", b'"' + b"a" * (1 << 20) + b'"', 413),
        ("GET", f"{ROOT}/global/snapshots?maxResults=many", b"", 400),
        ("GET", f"{ROOT}/global/snapshots?maxResults=501", b"", 400),
        ("GET", f"{ROOT}/global/snapshots?pageToken=x", b"", 400),
        ("GET", f"{ROOT}/global/snapshots?filter=%28", b"", 400),
        ("DELETE", f"{ROOT}/global/snapshots/none?requestId=1", b"", 400),
    ],
)
def test_what_cannot_be_served_is_refused_in_the_shape_of_googles_errors(
    http: FlaskClient, method: str, path: str, content: bytes, status: int
) -> None:
    answer = http.open(path, method=method, data=content)
    assert answer.status_code == status
    assert said(answer)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"disks": None}, "Expected `array`, got `null` - at `$.disks`"),
        ({"disks": [{"boot": True}]}, "resource.disks[0].source"),
        ({"disks": [{"boot": True, "type": "SCRATCH"}]}, "A SCRATCH disk is a local SSD"),
        ({"metadata": {"items": [5]}}, "at `$.metadata.items[0]`"),
        ({"networkInterfaces": [None]}, "at `$.networkInterfaces[0]`"),
        ({"networkInterfaces": [{"subnetwork": "x"}]}, "resource.networkInterfaces[0].subnetwork"),
        ({"machineType": "e2-standard-2"}, "The URL is malformed"),
    ],
)
def test_what_is_no_instance_is_refused_over_http(http: FlaskClient, cloud: Cloud, wrong: Json, why: str) -> None:
    boot = cloud.add_disk(project=PROJECT, zone=ZONE, name="boot-2")
    sent = {
        "name": "pam-2",
        "machineType": f"zones/{ZONE}/machineTypes/e2-standard-2",
        "networkInterfaces": [{}],
        "disks": [{"boot": True, "source": f"https://www.googleapis.com/compute/v1/{boot}"}],
    }
    instances = f"{ROOT}/zones/{ZONE}/instances"
    answer = http.post(instances, json={**sent, **wrong})
    assert answer.status_code == 400
    assert why in said(answer)
    assert http.post(instances, json=sent).status_code == 200

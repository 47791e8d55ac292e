"""Compute in memory and over google-cloud-compute: one suite, and what only shows between the client and a server."""

from __future__ import annotations

import json
import socket
import socketserver
import struct
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol
from urllib.parse import urlsplit

import pytest
from tests.contract.clouds import (
    BOOT,
    CALLS_TIMEOUT_S,
    DATA,
    INSTANCE,
    KEY,
    NOW,
    PROJECT,
    REGION,
    VAULT,
    ZONE,
    Side,
    fleet,
    reached,
    served,
)
from tests.servers import running

from snapkeep import cloud
from snapkeep.cloud import (
    AttachedDisk,
    DeleteSnapshot,
    Disk,
    InsertSnapshot,
    Instance,
    InstantSnapshot,
    InstantSnapshotGroup,
    Operation,
    Resource,
    ResourcePolicy,
    Snapshot,
    request_id,
)
from snapkeep.gcp import compute as adapter
from snapkeep.gcp.compute import GoogleCompute
from snapkeep.ports import Compute, Refused, Transient
from snapkeep_local.cloud import Cloud
from snapkeep_local.compute import LocalCompute
from snapkeep_local.emulators import free_port
from snapkeep_local.faults import (
    DeletionLies,
    ErrorAfter,
    ErrorBefore,
    Fault,
    OperationFails,
    SnapshotFails,
    SnapshotVanishes,
    Stuck,
)
from snapkeep_local.limits import Limits
from snapkeep_local.rest import Simulator


def insert(name: str = "sk-1", **changes: Any) -> InsertSnapshot:
    fields: dict[str, Any] = {
        "project": PROJECT,
        "name": name,
        "source_disk": BOOT,
        "location": REGION,
        "labels": {"snapkeep-tenant": "acme", "snapkeep-role": "home"},
        "description": "Snapkeep",
    }
    return InsertSnapshot(**{**fields, **changes})


# --- what is read --------------------------------------------------------------------------------------------------


def test_an_instance_is_read_with_everything_that_builds_it_again(side: Side) -> None:
    one = side.one(Instance, INSTANCE)
    assert (one.name, one.project, one.zone, one.region, one.status) == ("pam-1", PROJECT, ZONE, REGION, "RUNNING")
    assert one.id.isdecimal()
    assert one.labels == {"tenant": "acme", "tier": "gold"}
    assert one.link == INSTANCE
    api = "https://www.googleapis.com/compute/v1/"
    assert one.definition["machineType"] == f"{api}projects/{PROJECT}/zones/{ZONE}/machineTypes/e2-standard-2"
    assert one.definition["tags"]["items"] == ["https", "pam"]
    assert one.definition["canIpForward"] is False
    assert one.definition["networkInterfaces"][0]["networkIP"].startswith("10.128.")
    assert one.definition["serviceAccounts"][0]["email"] == "pam@acme-prod.iam.gserviceaccount.com"
    assert one.definition["shieldedInstanceConfig"]["enableVtpm"] is True
    assert one.definition["metadata"]["items"] == [
        {"key": "enable-oslogin", "value": "TRUE"},
        {"key": "startup-script", "value": "#!/bin/sh\necho up"},
    ]
    assert one.definition["labels"] == {"tenant": "acme", "tier": "gold"}
    assert one.definition.keys().isdisjoint({"id", "name", "zone", "status", "disks", "kind", "selfLink"})


def test_an_instance_shows_its_disks_and_which_of_them_no_snapshot_can_hold(side: Side) -> None:
    boot, data, first_ssd, second_ssd = side.one(Instance, INSTANCE).disks
    assert boot == AttachedDisk("persistent-disk-0", BOOT, True, True, "READ_WRITE", "SCSI", True)
    assert data == AttachedDisk("pam-1-data", DATA, True, False, "READ_WRITE", "SCSI", False)
    assert first_ssd == AttachedDisk("local-ssd-0", "", False, False, "READ_WRITE", "NVME", True)
    assert second_ssd.device_name == "local-ssd-1"


def test_a_zonal_disk_is_read(side: Side) -> None:
    disk = side.one(Disk, BOOT)
    assert (disk.zone, disk.region, disk.replica_zones) == (ZONE, REGION, ())
    assert (disk.type, disk.size_gb, disk.status, disk.labels) == ("pd-balanced", 20, "READY", {"role": "boot"})
    assert disk.guest_os_features == ("VIRTIO_SCSI_MULTIQUEUE", "UEFI_COMPATIBLE")
    assert disk.kms_key == KEY, "without the version of the key"
    assert not disk.customer_supplied_key
    assert disk.link == BOOT


def test_a_regional_disk_is_read(side: Side) -> None:
    disk = side.one(Disk, DATA)
    assert (disk.zone, disk.region, disk.replica_zones) == (None, REGION, (ZONE, f"{REGION}-b"))
    assert (disk.size_gb, disk.kms_key, disk.guest_os_features) == (500, None, ())
    assert disk.link == DATA


def test_a_disk_whose_key_the_customer_holds_is_told_from_others(side: Side) -> None:
    disk = side.one(Disk, f"projects/{PROJECT}/zones/{ZONE}/disks/csek")
    assert (disk.customer_supplied_key, disk.kms_key, disk.architecture) == (True, None, "ARM64")


def test_provisioned_performance_is_read_where_there_is_any(side: Side) -> None:
    fast = side.one(Disk, f"projects/{PROJECT}/zones/{REGION}-b/disks/fast")
    assert (fast.type, fast.provisioned_iops, fast.provisioned_throughput) == ("hyperdisk-balanced", 3600, 290)
    other = side.one(Disk, BOOT)
    assert (other.provisioned_iops, other.provisioned_throughput) == (None, None)


def test_what_is_not_told_is_empty(side: Side) -> None:
    bare = side.one(Instance, f"projects/{PROJECT}/zones/us-east1-b/instances/bare")
    assert bare.labels == {}
    assert bare.definition.keys().isdisjoint({"labels", "serviceAccounts"})
    assert "items" not in bare.definition["tags"]


@pytest.mark.parametrize(
    ("kind", "link"),
    [
        (Instance, f"projects/{PROJECT}/zones/{ZONE}/instances/none"),
        (Instance, f"projects/{PROJECT}/zones/us-east1-b/instances/pam-1"),
        (Disk, f"projects/{PROJECT}/zones/{ZONE}/disks/none"),
        (Disk, f"projects/{PROJECT}/regions/{REGION}/disks/pam-1-boot"),
        (Snapshot, f"projects/{PROJECT}/global/snapshots/none"),
        (Operation, f"projects/{PROJECT}/global/operations/none"),
        (Operation, f"projects/{PROJECT}/zones/{ZONE}/operations/none"),
    ],
)
def test_what_is_not_there_is_none(side: Side, kind: type[Resource], link: str) -> None:
    assert side.compute.get(kind, link) is None


@pytest.mark.parametrize(
    ("kind", "link"),
    [
        (Instance, BOOT),
        (Disk, INSTANCE),
        (Snapshot, f"projects/{PROJECT}/zones/{ZONE}/snapshots/one"),
        (Operation, "operation-1"),
        (Disk, ""),
    ],
)
def test_a_link_of_another_kind_is_a_mistake_and_not_something_missing(
    side: Side, kind: type[Resource], link: str
) -> None:
    with pytest.raises(ValueError, match="is not the link of a"):
        side.compute.get(kind, link)


# --- what is searched for ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Instance, Disk, Snapshot])
def test_everything_of_a_project_is_found_in_all_zones_and_regions(side: Side, kind: type[Resource]) -> None:
    side.compute.start(insert(), request_id(insert()))
    found = list(side.compute.find(kind, PROJECT))
    assert found == list(side.local.find(kind, PROJECT))
    wanted = {
        Instance: {INSTANCE, f"projects/{PROJECT}/zones/us-east1-b/instances/bare"},
        Disk: {
            BOOT,
            DATA,
            f"projects/{PROJECT}/zones/{ZONE}/disks/csek",
            f"projects/{PROJECT}/zones/{REGION}-b/disks/fast",
            f"projects/{PROJECT}/zones/us-east1-b/disks/bare",
        },
        Snapshot: {insert().link},
    }
    assert {resource.link for resource in found} == wanted[kind]


def test_nothing_is_found_in_a_project_that_holds_nothing(side: Side) -> None:
    for kind in (Instance, Disk, Snapshot):
        assert list(side.compute.find(kind, "empty")) == []


@pytest.mark.parametrize("kind", [Instance, Disk])
def test_the_same_name_in_two_zones_is_found_twice(side: Side, kind: type[Instance] | type[Disk]) -> None:
    for zone in (f"{REGION}-a", f"{REGION}-b", "us-east1-b"):
        disk = side.cloud.add_disk(project=PROJECT, zone=zone, name="twin")
        side.cloud.add_instance(project=PROJECT, zone=zone, name="twin", disks=[disk])
    found = list(side.compute.find(kind, PROJECT, '(name = "twin")'))
    assert found == list(side.local.find(kind, PROJECT, '(name = "twin")'))
    assert [one.zone for one in found] == [f"{REGION}-a", f"{REGION}-b", "us-east1-b"]
    assert len({one.id for one in found}) == 3


def test_more_than_a_page_is_found_whole_and_in_order(side: Side) -> None:
    names = [f"s-{number:04}" for number in range(1100)]
    for name in names:
        side.cloud.plant_snapshot(project=VAULT, name=name)
    found = list(side.compute.find(Snapshot, VAULT))
    assert [snapshot.name for snapshot in found] == names
    assert found == list(side.local.find(Snapshot, VAULT))
    assert side.cloud.calls["snapshots.list"] == 6, "three pages of 500 for each of us"


def test_more_than_a_page_of_many_zones_is_found_whole(side: Side) -> None:
    for number in range(600):
        zone = f"{('us-east1', 'europe-west1', 'us-west1')[number % 3]}-{'bcd'[number % 2]}"
        replicas = (zone, f"{zone[:-1]}a") if number % 5 == 0 else ()
        side.cloud.add_disk(project="wide", zone=zone, name=f"d-{number}", replica_zones=replicas)
    found = list(side.compute.find(Disk, "wide"))
    assert len({disk.id for disk in found}) == 600
    assert found == list(side.local.find(Disk, "wide"))


def test_a_page_is_read_when_the_one_before_is_used_up(side: Side) -> None:
    for number in range(501):
        side.cloud.plant_snapshot(project=VAULT, name=f"s-{number}")
    found = side.compute.find(Snapshot, VAULT)
    for _ in range(500):
        next(found)
    assert side.cloud.calls["snapshots.list"] == 1
    next(found)
    assert side.cloud.calls["snapshots.list"] == 2


def test_names_are_found_by_the_filters_that_are_built_for_them(side: Side) -> None:
    names = [f"s-{number}" for number in range(150)]
    for name in names:
        side.cloud.plant_snapshot(project=VAULT, name=name)
    wanted = [*names[::2], "never-made"]
    found = [one.name for where in cloud.named(wanted) for one in side.compute.find(Snapshot, VAULT, where)]
    assert sorted(found) == sorted(names[::2])
    assert side.cloud.calls["snapshots.list"] == 2


@pytest.mark.parametrize(
    ("where", "names"),
    [
        ("labels.tier = gold", ["pam-1"]),
        ("labels.tenant:*", ["pam-1"]),
        ("name eq pam-.*", ["pam-1"]),
        ("NOT labels.tenant:*", ["bare"]),
        ("labels.tenant = acme AND status = TERMINATED", []),
    ],
)
def test_other_filters_reach_compute_engine_as_they_are(side: Side, where: str, names: list[str]) -> None:
    assert [one.name for one in side.compute.find(Instance, PROJECT, where)] == names


def test_a_filter_that_cannot_be_read_is_refused(side: Side) -> None:
    with pytest.raises(Refused, match="Invalid list filter expression") as refused:
        list(side.compute.find(Disk, PROJECT, "name ="))
    assert (refused.value.code, refused.value.reason) == (400, "invalid")


def test_operations_are_not_searched_for(side: Side) -> None:
    with pytest.raises(TypeError, match="Operation"):
        list(side.compute.find(Operation, PROJECT))


# --- what is asked for ---------------------------------------------------------------------------------------------


def test_a_snapshot_is_asked_for_and_read_until_it_is_ready(side: Side) -> None:
    change = insert()
    link = side.compute.start(change, request_id(change))
    operation = side.one(Operation, link)
    assert (operation.link, operation.status, operation.target) == (link, "RUNNING", change.link)
    young = side.one(Snapshot, change.link)
    assert (young.status, young.bytes) == ("CREATING", 0)
    side.pass_time(hours=1)
    operation, snapshot = side.one(Operation, link), side.one(Snapshot, change.link)
    assert (operation.status, operation.error_code, operation.error_message) == ("DONE", None, None)
    assert (snapshot.status, snapshot.locations, snapshot.labels) == ("READY", (REGION,), change.labels)
    assert (snapshot.source_disk, snapshot.source_disk_id) == (BOOT, side.one(Disk, BOOT).id)
    assert (snapshot.created_at, snapshot.created_at.tzinfo) == (NOW, UTC)
    assert snapshot.bytes == 10 << 30
    assert snapshot.kms_key == KEY, "that of its disk, without the version"
    assert snapshot.id == young.id
    stored = side.cloud.snapshot(PROJECT, change.name)
    assert stored is not None
    assert stored["description"] == "Snapkeep"


def test_a_snapshot_of_a_regional_disk_in_another_project_and_under_its_own_key(side: Side) -> None:
    change = insert(project=VAULT, source_disk=DATA, location="us-east1", kms_key=f"{KEY}-2", labels={})
    operation = side.compute.start(change, request_id(change))
    assert operation.startswith(f"projects/{VAULT}/global/operations/")
    side.pass_time(hours=2)
    snapshot = side.one(Snapshot, change.link)
    assert (snapshot.project, snapshot.source_disk, snapshot.locations) == (VAULT, DATA, ("us-east1",))
    assert (snapshot.kms_key, snapshot.labels, snapshot.status) == (f"{KEY}-2", {}, "READY")


def test_both_ask_in_the_same_words() -> None:
    one, other = fleet(), fleet()
    change = insert(kms_key=KEY, labels={"a": "b"})
    LocalCompute(one).start(change, request_id(change))
    with served(Simulator(other)) as endpoint:
        GoogleCompute(endpoint).start(change, request_id(change))
    assert one.state() == other.state()


def test_the_same_request_is_the_same_operation(side: Side) -> None:
    change = insert()
    first = side.compute.start(change, request_id(change))
    side.pass_time(minutes=30)
    assert side.compute.start(change, request_id(change)) == first
    assert len(side.cloud.snapshots()) == 1
    assert len(side.cloud.log) == 1


def test_a_request_id_stands_for_its_first_request_whatever_comes_with_it_later(side: Side) -> None:
    first = side.compute.start(insert(), request_id(insert()))
    other = insert("sk-2", source_disk=DATA)
    assert side.compute.start(other, request_id(insert())) == first
    assert side.both(Snapshot, other.link) is None
    assert side.compute.start(other, request_id(other)) != first
    assert side.one(Snapshot, other.link).source_disk == DATA


def test_a_request_that_failed_is_the_same_failed_operation_when_it_is_sent_again(side: Side) -> None:
    side.cloud.add_fault(Fault(effect=OperationFails(), count=1))
    first = side.compute.start(insert(), request_id(insert()))
    side.pass_time(minutes=5)
    assert side.compute.start(insert(), request_id(insert())) == first
    assert side.one(Operation, first).error_code == "INTERNAL_ERROR"


def test_a_request_that_was_refused_may_be_sent_again(side: Side) -> None:
    link = f"projects/{PROJECT}/zones/{ZONE}/disks/late"
    change = insert(source_disk=link)
    with pytest.raises(Refused):
        side.compute.start(change, request_id(change))
    side.cloud.add_disk(project=PROJECT, zone=ZONE, name="late")
    assert side.one(Operation, side.compute.start(change, request_id(change))).target == change.link


def test_a_request_is_forgotten_after_a_while_and_its_name_is_taken_all_the_same(side: Side) -> None:
    side.compute.start(insert(), request_id(insert()))
    side.pass_time(hours=3)
    with pytest.raises(Refused) as refused:
        side.compute.start(insert(), request_id(insert()))
    assert (refused.value.code, refused.value.reason) == (409, "alreadyExists")


@pytest.mark.parametrize("id", ["sk-1", "00000000-0000-0000-0000-000000000000", "9c3cb4de24a04ef2b7a3df4a1b7a3a10"])
def test_a_request_id_that_is_no_uuid_is_refused_and_nothing_is_done(side: Side, id: str) -> None:
    with pytest.raises(Refused, match="requestId") as refused:
        side.compute.start(insert(), id)
    assert (refused.value.code, refused.value.reason) == (400, "invalid")
    assert side.both(Snapshot, insert().link) is None


def test_the_id_of_a_change_is_a_uuid_of_its_own_and_always_the_same() -> None:
    changes = [insert(), insert("sk-2"), insert(project=VAULT)]
    ids = [request_id(change) for change in changes]
    assert [str(uuid.UUID(id)) for id in ids] == ids
    assert len(set(ids)) == len(ids)
    assert request_id(insert(labels={}, description="other words")) == ids[0], "it is the name that is asked for"


def test_another_request_for_a_name_that_is_taken_is_refused_with_409(side: Side) -> None:
    side.compute.start(insert(), request_id(insert()))
    with pytest.raises(Refused, match="already exists") as refused:
        side.compute.start(insert(), "9c3cb4de-24a0-4ef2-b7a3-df4a1b7a3a10")
    assert (refused.value.code, refused.value.reason) == (409, "alreadyExists")
    assert refused.value.message == f"The resource '{insert().link}' already exists"


def test_a_snapshot_of_a_disk_that_is_gone_is_refused_with_404(side: Side) -> None:
    gone = insert(source_disk=f"projects/{PROJECT}/zones/{ZONE}/disks/gone")
    with pytest.raises(Refused, match="disks/gone") as refused:
        side.compute.start(gone, request_id(gone))
    assert (refused.value.code, refused.value.reason) == (404, "notFound")


def test_a_name_that_is_none_is_refused(side: Side) -> None:
    with pytest.raises(Refused) as refused:
        side.compute.start(insert("Not A Name"), request_id(insert()))
    assert refused.value.code == 400


def test_an_operation_may_be_done_with_an_error_inside(side: Side) -> None:
    side.cloud.add_fault(Fault(effect=OperationFails(code="QUOTA_EXCEEDED", message="Quota 'SNAPSHOTS' exceeded.")))
    link = side.compute.start(insert(), request_id(insert()))
    side.pass_time(minutes=5)
    operation = side.one(Operation, link)
    assert (operation.status, operation.http_status) == ("DONE", None)
    assert (operation.error_code, operation.error_message) == ("QUOTA_EXCEEDED", "Quota 'SNAPSHOTS' exceeded.")
    assert side.both(Snapshot, insert().link) is None


def test_a_failed_operation_may_carry_an_http_status(side: Side) -> None:
    effect = OperationFails(code="RESOURCE_NOT_FOUND", message="gone", http_status=404, snapshot="FAILED")
    side.cloud.add_fault(Fault(effect=effect))
    link = side.compute.start(insert(), request_id(insert()))
    side.pass_time(hours=1)
    operation = side.one(Operation, link)
    assert (operation.error_code, operation.http_status) == ("RESOURCE_NOT_FOUND", 404)
    assert side.one(Snapshot, insert().link).status == "FAILED"


def test_a_snapshot_may_fail_though_its_operation_does_not(side: Side) -> None:
    side.cloud.add_fault(Fault(effect=SnapshotFails()))
    link = side.compute.start(insert(), request_id(insert()))
    side.pass_time(hours=1)
    assert side.one(Operation, link).error_code is None
    assert side.one(Snapshot, insert().link).status == "FAILED"


def test_a_snapshot_may_vanish(side: Side) -> None:
    side.cloud.add_fault(Fault(effect=SnapshotVanishes(after_s=1800)))
    side.compute.start(insert(), request_id(insert()))
    side.pass_time(minutes=29)
    assert side.one(Snapshot, insert().link).status == "READY"
    side.pass_time(minutes=1)
    assert side.both(Snapshot, insert().link) is None


def test_an_operation_may_never_end(side: Side) -> None:
    side.cloud.add_fault(Fault(effect=Stuck()))
    link = side.compute.start(insert(), request_id(insert()))
    side.pass_time(days=2)
    assert side.one(Operation, link).status == "RUNNING"
    assert side.one(Snapshot, insert().link).status == "UPLOADING"


# --- what is to go -------------------------------------------------------------------------------------------------


def taken(side: Side) -> Snapshot:
    """A snapshot that is READY."""
    side.compute.start(insert(), request_id(insert()))
    side.pass_time(hours=1)
    return side.one(Snapshot, insert().link)


def deletion(of: Snapshot, attempt: int = 1) -> DeleteSnapshot:
    return DeleteSnapshot(of.project, of.name, of.id, attempt)


def delete(side: Side, change: DeleteSnapshot) -> str:
    return side.compute.start(change, request_id(change))


def test_a_snapshot_is_asked_to_go_and_read_until_it_is_gone(side: Side) -> None:
    found = taken(side)
    link = delete(side, deletion(found))
    assert (side.one(Operation, link).status, side.one(Operation, link).target) == ("RUNNING", found.link)
    assert side.one(Snapshot, found.link).status == "DELETING"
    side.pass_time(minutes=1)
    assert (side.one(Operation, link).status, side.one(Operation, link).error_code) == ("DONE", None)
    assert side.both(Snapshot, found.link) is None


def test_both_ask_a_snapshot_to_go_in_the_same_words() -> None:
    states = []
    for way in ("local", "google"):
        with reached(way, fleet()) as side:
            delete(side, deletion(taken(side)))
            state = side.cloud.state()
            states.append({name: state[name] for name in ("snapshots", "operations", "log")})
    assert states[0] == states[1]


def test_the_same_deletion_is_the_same_operation(side: Side) -> None:
    change = deletion(taken(side))
    first = delete(side, change)
    side.pass_time(minutes=5)
    assert delete(side, change) == first
    assert [entry["method"] for entry in side.cloud.log] == ["snapshots.insert", "snapshots.delete"]


def test_a_repeated_deletion_leaves_whatever_has_taken_the_name_since(side: Side) -> None:
    change = deletion(taken(side))
    delete(side, change)
    side.pass_time(minutes=5)
    side.cloud.plant_snapshot(project=PROJECT, name=change.name)
    delete(side, change)
    side.pass_time(minutes=5)
    assert side.one(Snapshot, change.link).id != change.id


def test_a_snapshot_that_is_not_there_is_refused_with_404(side: Side) -> None:
    with pytest.raises(Refused) as refused:
        delete(side, DeleteSnapshot(PROJECT, "sk-none", "1", 1))
    assert (refused.value.code, refused.value.reason) == (404, "notFound")


def test_a_snapshot_that_begins_or_goes_already_may_be_asked_later(side: Side) -> None:
    side.compute.start(insert(), request_id(insert()))
    young = side.one(Snapshot, insert().link)
    with pytest.raises(Transient) as too_soon:
        delete(side, deletion(young))
    side.pass_time(hours=1)
    delete(side, deletion(young, 2))
    with pytest.raises(Transient) as going:
        delete(side, deletion(young, 3))
    assert [(f.value.code, f.value.reason) for f in (too_soon, going)] == [(400, "resourceNotReady")] * 2


def test_a_deletion_that_was_done_may_not_have_happened(side: Side) -> None:
    found = taken(side)
    side.cloud.add_fault(Fault(effect=DeletionLies(), count=1))
    link = delete(side, deletion(found))
    side.pass_time(minutes=5)
    assert (side.one(Operation, link).status, side.one(Operation, link).error_code) == ("DONE", None)
    assert side.one(Snapshot, found.link).status == "READY"
    assert delete(side, deletion(found)) == link, "the same request is answered as before, and does nothing"
    side.pass_time(minutes=5)
    assert side.one(Snapshot, found.link).status == "READY"
    assert delete(side, deletion(found, 2)) != link
    side.pass_time(minutes=5)
    assert side.both(Snapshot, found.link) is None


def test_a_deletion_whose_answer_is_lost_happened_all_the_same(side: Side) -> None:
    found = taken(side)
    side.cloud.add_fault(Fault(effect=ErrorAfter(), count=1))
    with pytest.raises(Transient):
        delete(side, deletion(found))
    side.pass_time(minutes=5)
    assert side.both(Snapshot, found.link) is None


def test_the_id_of_a_deletion_is_that_of_one_attempt_at_one_snapshot() -> None:
    changes = [
        DeleteSnapshot(project, name, id, attempt)
        for project in (PROJECT, VAULT)
        for name in ("sk-1", "sk-2")
        for id in ("1", "2")
        for attempt in (1, 2)
    ]
    ids = {request_id(change) for change in changes}
    assert len(ids) == len(changes)
    assert request_id(insert()) not in ids
    assert request_id(DeleteSnapshot(PROJECT, "sk-1", "1", 1)) == request_id(changes[0])


# --- faults --------------------------------------------------------------------------------------------------------


def get_boot(compute: Compute) -> object:
    return compute.get(Disk, BOOT)


def find_disks(compute: Compute) -> object:
    return list(compute.find(Disk, PROJECT))


def find_snapshots(compute: Compute) -> object:
    return list(compute.find(Snapshot, PROJECT))


def start_one(compute: Compute) -> object:
    return compute.start(insert(), request_id(insert()))


def delete_one(compute: Compute) -> object:
    change = DeleteSnapshot(PROJECT, "sk-1", "1", 1)
    return compute.start(change, request_id(change))


CALLS = [get_boot, find_disks, find_snapshots, start_one]


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (408, "timeout"),
        (429, ""),
        (429, "rateLimitExceeded"),
        (429, "RESOURCE_OPERATION_RATE_EXCEEDED"),
        (403, "rateLimitExceeded"),
        (403, "userRateLimitExceeded"),
        (403, "quotaExceeded"),
        (403, "RATE_LIMIT_EXCEEDED"),
        (400, "resourceNotReady"),
        (400, "RESOURCE_NOT_READY"),
        (500, "backendError"),
        (500, "internalError"),
        (502, "badGateway"),
        (503, "backendError"),
        (504, "gatewayTimeout"),
    ],
)
@pytest.mark.parametrize("call", [*CALLS, delete_one])
def test_a_fault_that_may_pass_is_transient(side: Side, call: Any, status: int, reason: str) -> None:
    side.cloud.add_fault(Fault(effect=ErrorBefore(status=status, reason=reason, message="as the test asks")))
    with pytest.raises(Transient, match=r"^as the test asks$") as passing:
        call(side.compute)
    assert (passing.value.code, passing.value.reason) == (status, reason)
    used_up = ("rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded", "RATE_LIMIT_EXCEEDED")
    assert passing.value.of_project == (reason in used_up)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (400, "invalid"),
        (400, "badRequest"),
        (403, "forbidden"),
        (403, "accessNotConfigured"),
        (403, ""),
        (404, "other"),
        (409, "alreadyExists"),
        (409, "resourceInUseByAnotherResource"),
        (412, "conditionNotMet"),
        (413, "uploadTooLarge"),
        (501, "notImplemented"),
    ],
)
@pytest.mark.parametrize("call", [*CALLS, delete_one])
def test_a_fault_that_will_not_pass_is_a_refusal(side: Side, call: Any, status: int, reason: str) -> None:
    side.cloud.add_fault(Fault(effect=ErrorBefore(status=status, reason=reason, message="as the test asks")))
    with pytest.raises(Refused) as refused:
        call(side.compute)
    assert (refused.value.code, refused.value.reason, refused.value.message) == (status, reason, "as the test asks")
    assert side.cloud.calls.total() == 1


@pytest.mark.parametrize("call", [find_disks, find_snapshots, start_one, delete_one])
def test_what_is_not_found_is_refused_where_it_is_not_what_was_asked_for(side: Side, call: Any) -> None:
    side.cloud.add_fault(Fault(effect=ErrorBefore(status=404, reason="notFound", message="no such project")))
    with pytest.raises(Refused, match="no such project") as refused:
        call(side.compute)
    assert (refused.value.code, refused.value.reason) == (404, "notFound")


def test_a_fault_at_a_later_page_is_met_there_and_what_came_before_stands(side: Side) -> None:
    for number in range(501):
        side.cloud.plant_snapshot(project=VAULT, name=f"s-{number:03}")
    found = side.compute.find(Snapshot, VAULT)
    names = [next(found).name for _ in range(500)]
    side.cloud.add_fault(Fault(effect=ErrorBefore(status=403, reason="rateLimitExceeded", message="used up")))
    with pytest.raises(Transient, match="used up"):
        next(found)
    assert names == [f"s-{number:03}" for number in range(500)]


@pytest.mark.parametrize("call", [get_boot, find_disks, find_snapshots])
def test_a_read_whose_answer_is_lost_is_transient(side: Side, call: Any) -> None:
    side.cloud.add_fault(Fault(effect=ErrorAfter()))
    with pytest.raises(Transient):
        call(side.compute)


@pytest.fixture
def strict(way: str) -> Iterator[Side]:
    """A side on which three calls of a group use up a project's minute."""
    limits = Limits(reads_per_minute=3, lists_per_minute=3, mutations_per_minute=3)
    with reached(way, fleet(limits)) as one:
        yield one


@pytest.mark.parametrize("call", CALLS)
def test_the_quota_of_a_minute_is_one_of_the_project(strict: Side, call: Any) -> None:
    for _ in range(3):
        call(strict.compute)
    with pytest.raises(Transient, match="Quota exceeded for quota metric") as exhausted:
        call(strict.compute)
    assert exhausted.value.of_project
    assert (exhausted.value.code, exhausted.value.reason) == (403, "rateLimitExceeded")
    assert list(strict.compute.find(Disk, "another")) == []
    strict.pass_time(minutes=1)
    call(strict.compute)


def test_the_pace_of_a_disk_is_told_by_its_operation(way: str) -> None:
    with reached(way, fleet(Limits(snapshots_per_disk=2))) as side:
        changes = [insert(f"sk-{number}") for number in range(3)]
        links = [side.compute.start(change, request_id(change)) for change in changes]
        other = insert("sk-other", source_disk=DATA)
        side.compute.start(other, request_id(other))
        side.pass_time(hours=1)
        codes = [side.one(Operation, link).error_code for link in links]
        assert codes == [None, None, "RESOURCE_OPERATION_RATE_EXCEEDED"]
        assert side.both(Snapshot, changes[2].link) is None
        assert side.one(Snapshot, other.link).status == "READY", "another disk has a pace of its own"
        again = insert("sk-again")
        link = side.compute.start(again, request_id(again))
        side.pass_time(minutes=30)
        assert side.one(Operation, link).error_code is None


def test_the_pace_of_a_disk_may_be_told_by_the_call_and_is_not_of_the_project(way: str) -> None:
    with reached(way, fleet(Limits(snapshots_per_disk=1, snapshot_rate_answer="call"))) as side:
        side.compute.start(insert(), request_id(insert()))
        soon = insert("sk-2")
        with pytest.raises(Transient, match="Operation rate exceeded") as too_soon:
            side.compute.start(soon, request_id(soon))
        assert (too_soon.value.code, too_soon.value.reason) == (429, "RESOURCE_OPERATION_RATE_EXCEEDED")
        assert not too_soon.value.of_project
        side.pass_time(hours=1)
        assert side.one(Operation, side.compute.start(soon, request_id(soon))).target == soon.link


def test_after_an_unknown_outcome_the_same_request_finds_its_operation(side: Side) -> None:
    side.cloud.add_fault(Fault(effect=ErrorAfter(), count=1))
    change = insert()
    with pytest.raises(Transient) as unknown:
        side.compute.start(change, request_id(change))
    assert unknown.value.code == 503
    assert side.one(Snapshot, change.link).status == "CREATING", "it was done all the same"
    link = side.compute.start(change, request_id(change))
    assert side.one(Operation, link).target == change.link
    assert len(side.cloud.log) == 1


def test_an_answer_that_is_lost_hides_a_refusal_too(side: Side) -> None:
    side.compute.start(insert(), request_id(insert()))
    side.cloud.add_fault(Fault(effect=ErrorAfter(), count=1))
    with pytest.raises(Transient):
        side.compute.start(insert(), "9c3cb4de-24a0-4ef2-b7a3-df4a1b7a3a10")


# --- Google's client alone -----------------------------------------------------------------------------------------


@pytest.fixture
def google() -> Iterator[tuple[GoogleCompute, Cloud]]:
    one = fleet()
    with served(Simulator(one)) as endpoint:
        yield GoogleCompute(endpoint), one


@pytest.mark.parametrize("call", [get_boot, find_disks, find_snapshots])
def test_a_moments_fault_of_a_read_is_not_noticed(google: tuple[GoogleCompute, Cloud], call: Any) -> None:
    compute, one = google
    one.add_fault(Fault(effect=ErrorBefore(status=500, reason="backendError"), count=1))
    call(compute)
    assert one.calls.total() == 2


def test_a_moments_fault_between_two_pages_loses_and_doubles_nothing(google: tuple[GoogleCompute, Cloud]) -> None:
    compute, one = google
    for number in range(501):
        one.plant_snapshot(project=VAULT, name=f"s-{number}")
    found = compute.find(Snapshot, VAULT)
    names = [next(found).name for _ in range(500)]
    one.add_fault(Fault(effect=ErrorBefore(), count=1))
    names += [snapshot.name for snapshot in found]
    assert len(set(names)) == len(names) == 501


def test_a_change_is_asked_for_once(google: tuple[GoogleCompute, Cloud]) -> None:
    compute, one = google
    one.add_fault(Fault(effect=ErrorBefore(), count=1))
    with pytest.raises(Transient):
        start_one(compute)
    one.add_fault(Fault(effect=ErrorBefore(), count=1))
    with pytest.raises(Transient):
        delete_one(compute)
    assert one.calls == {"snapshots.insert": 1, "snapshots.delete": 1}


def test_an_exhausted_quota_is_not_asked_for_again(google: tuple[GoogleCompute, Cloud]) -> None:
    compute, one = google
    one.add_fault(Fault(effect=ErrorBefore(status=403, reason="rateLimitExceeded")))
    with pytest.raises(Transient):
        get_boot(compute)
    assert one.calls.total() == 1


@pytest.mark.parametrize("call", [*CALLS, delete_one])
def test_a_server_that_is_not_there_is_transient(call: Any) -> None:
    compute = GoogleCompute(f"http://127.0.0.1:{free_port()}", calls_timeout_s=CALLS_TIMEOUT_S)
    with pytest.raises(Transient) as refused:
        call(compute)
    assert refused.value.code == 503


class Breakdown(Protocol):
    """What becomes of one connection once its request has come."""

    def __call__(self, connection: socket.socket) -> None: ...


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def hang_up(connection: socket.socket) -> None:
    """Closed without a word."""


def break_off(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 999\r\n\r\n{")


def break_off_a_chunk(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{")


@contextmanager
def breaking(breakdown: Breakdown) -> Iterator[str]:
    """A server whose every connection breaks down in this way; its root URL."""

    class Breaks(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65_536)
            breakdown(self.request)

    class Server(socketserver.ThreadingTCPServer):
        def shutdown_request(self, request: Any) -> None:
            request.close()  # as it is: without the farewell that would end a reset politely

    with running(Server(("127.0.0.1", 0), Breaks)) as url:
        yield url


@pytest.mark.parametrize("breakdown", [reset, hang_up, break_off, break_off_a_chunk])
@pytest.mark.parametrize("call", CALLS)
def test_a_connection_that_breaks_is_transient(call: Any, breakdown: Breakdown) -> None:
    with breaking(breakdown) as endpoint, pytest.raises(Transient) as broken:
        call(GoogleCompute(endpoint, calls_timeout_s=CALLS_TIMEOUT_S))
    assert (broken.value.code, broken.value.reason) == (503, "")


@pytest.mark.parametrize("call", CALLS)
def test_an_answer_that_does_not_come_in_time_is_transient(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # One call is waited for a quarter of a minute, too long for a test; it is no argument of the port.
    monkeypatch.setitem(adapter._ONE_CALL, "timeout", 0.05)
    over = threading.Event()

    def say_nothing(connection: socket.socket) -> None:
        over.wait()

    with breaking(say_nothing) as endpoint:
        with pytest.raises(Transient) as late:
            call(GoogleCompute(endpoint, calls_timeout_s=CALLS_TIMEOUT_S))
        over.set()
    assert late.value.code == 503


def test_no_client_is_made_before_it_is_needed() -> None:
    # An endpoint that no client could be made for.
    GoogleCompute("https://nowhere.invalid")


def test_a_clock_that_ticks_by_itself_moves_the_cloud_before_each_request() -> None:
    now = [NOW]
    one = fleet()
    with served(Simulator(one, lambda: now[0])) as endpoint:
        compute = GoogleCompute(endpoint)
        start_one(compute)
        now[0] += timedelta(hours=1)
        snapshot = compute.get(Snapshot, insert().link)
        assert snapshot is not None
        assert snapshot.status == "READY"
        now[0] -= timedelta(minutes=1)  # the machine's clock was set
        assert compute.get(Snapshot, insert().link) == snapshot
    assert one.now == NOW + timedelta(hours=1)


def test_many_at_once_are_served_one_after_the_other() -> None:
    one = fleet()
    simulator = Simulator(one)
    failed: list[BaseException] = []
    with served(simulator) as endpoint:
        compute = GoogleCompute(endpoint)
        get_boot(compute)

        def work(worker: int) -> None:
            try:
                for number in range(10):
                    name = f"w-{worker}-{number}"
                    disk = simulator.use(partial(Cloud.add_disk, project=PROJECT, zone=ZONE, name=name))
                    change = insert(name, source_disk=disk)
                    compute.start(change, request_id(change))
                    simulator.advance(simulator.now() + timedelta(minutes=1))
                    list(compute.find(Disk, PROJECT))
            except BaseException as fault:  # noqa: BLE001 - told to the test's own thread
                failed.append(fault)

        workers = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert not failed
    assert len(one.log) == 40


# --- what the state machine never says -----------------------------------------------------------------------------


@dataclass
class Canned:
    """A server that answers each path with what it was given: status, and a body that is JSON unless it is text."""

    answers: dict[str, tuple[int, Any]] = field(default_factory=dict)
    asked: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)


@contextmanager
def answering(canned: Canned) -> Iterator[GoogleCompute]:
    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = urlsplit(self.path).path.removeprefix("/compute/v1/")
            canned.asked.append((path, {name.lower(): value for name, value in self.headers.items()}))
            status, body = canned.answers[path]
            content = (body if isinstance(body, str) else json.dumps(body)).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/html" if isinstance(body, str) else "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with running(ThreadingHTTPServer(("127.0.0.1", 0), Answers)) as url:
        yield GoogleCompute(url, calls_timeout_s=CALLS_TIMEOUT_S)


HTML = "<!DOCTYPE html><title>Error</title>"


def test_a_proxys_404_does_not_make_anything_look_lost() -> None:
    with answering(Canned({INSTANCE: (404, HTML)})) as compute, pytest.raises(Refused) as refused:
        compute.get(Instance, INSTANCE)
    assert (refused.value.code, refused.value.reason) == (404, "")


def test_a_proxys_502_is_transient() -> None:
    with answering(Canned({INSTANCE: (502, HTML)})) as compute, pytest.raises(Transient) as passing:
        compute.get(Instance, INSTANCE)
    assert passing.value.code == 502


def test_the_reason_may_stand_in_the_details_alone() -> None:
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "RATE_LIMIT_EXCEEDED", "domain": "d"}
    error = {"error": {"code": 403, "message": "Quota exceeded", "details": [info]}}
    with answering(Canned({INSTANCE: (403, error)})) as compute, pytest.raises(Transient) as passing:
        compute.get(Instance, INSTANCE)
    assert passing.value.of_project


@pytest.mark.parametrize(
    "page",
    [
        {"items": {"zones/us-east1-b": {}}, "unreachables": ["zones/us-east1-c"]},
        {"items": {"zones/us-east1-c": {"warning": {"code": "UNREACHABLE", "message": "down"}}}},
    ],
)
@pytest.mark.parametrize(
    ("kind", "plural"),
    [
        (Instance, "instances"),
        (Disk, "disks"),
        (InstantSnapshot, "instantSnapshots"),
        (ResourcePolicy, "resourcePolicies"),
    ],
)
def test_a_zone_that_does_not_answer_is_no_empty_zone(kind: type[Resource], plural: str, page: Any) -> None:
    path = f"projects/{PROJECT}/aggregated/{plural}"
    with answering(Canned({path: (200, page)})) as compute, pytest.raises(Transient, match="zones/us-east1-c"):
        list(compute.find(kind, PROJECT))


def test_a_zonal_operation_is_read_and_fields_that_no_client_knows_are_passed_over() -> None:
    link = f"projects/{PROJECT}/zones/{ZONE}/operations/operation-1"
    api = "https://compute.googleapis.com/compute/v1/"
    operation = {
        "kind": "compute#operation",
        "id": "18446744073709551615",
        "name": "operation-1",
        "zone": f"{api}projects/{PROJECT}/zones/{ZONE}",
        "selfLink": api + link,
        "targetLink": api + BOOT,
        "status": "DONE",
        "fieldOfNextYear": {"a": [1]},
        "error": {"errors": [{"code": "ZONE_RESOURCE_POOL_EXHAUSTED", "message": "none left"}, {"code": "OTHER"}]},
        "httpErrorStatusCode": 503,
        "httpErrorMessage": "SERVICE UNAVAILABLE",
    }
    with answering(Canned({link: (200, operation)})) as compute:
        assert compute.get(Operation, link) == Operation(
            id="18446744073709551615",
            name="operation-1",
            link=link,
            status="DONE",
            target=BOOT,
            error_code="ZONE_RESOURCE_POOL_EXHAUSTED",
            error_message="none left",
            http_status=503,
        )


def test_a_group_may_tell_its_consistency_group_in_one_place_or_in_two() -> None:
    policy = f"projects/{PROJECT}/regions/{REGION}/resourcePolicies/together"
    link = f"projects/{PROJECT}/zones/{ZONE}/instantSnapshotGroups/g"
    group = {"id": "1", "name": "g", "selfLink": f"https://h/v1/{link}", "status": "READY",
             "creationTimestamp": "2026-03-01T02:30:00.000Z"}  # fmt: skip
    source = {"resourceStatus": {"sourceInfo": {"consistencyGroup": f"https://h/v1/{policy}"}}}
    for told in (source, {"sourceConsistencyGroup": f"https://h/v1/{policy}"}):
        with answering(Canned({link: (200, group | told)})) as compute:
            found = compute.get(InstantSnapshotGroup, link)
        assert found is not None
        assert (found.consistency_group, found.created_at) == (policy, NOW)


@pytest.mark.parametrize("policy", ["diskConsistencyGroupPolicy", "snapshotSchedulePolicy", "workloadPolicy"])
def test_of_policies_only_one_kind_is_a_consistency_group(policy: str) -> None:
    link = f"projects/{PROJECT}/regions/{REGION}/resourcePolicies/p"
    told = {"name": "p", "region": f"https://h/v1/projects/{PROJECT}/regions/{REGION}", "selfLink": f"https://h/{link}"}
    with answering(Canned({link: (200, told | {policy: {}})})) as compute:
        found = compute.get(ResourcePolicy, link)
    assert found is not None
    assert (found.consistency_group, found.link) == (policy == "diskConsistencyGroupPolicy", link)


@pytest.mark.parametrize(("said", "status"), [("PENDING", "PENDING"), ("RUNNING", "RUNNING"), ("ABORTING", "RUNNING")])
def test_an_operation_is_done_only_when_it_says_so(said: str, status: str) -> None:
    link = f"projects/{PROJECT}/global/operations/operation-1"
    operation = {"id": "1", "name": "operation-1", "selfLink": f"https://h/v1/{link}", "status": said}
    with answering(Canned({link: (200, operation)})) as compute:
        found = compute.get(Operation, link)
    assert found is not None
    assert found.status == status


def test_times_with_an_offset_are_read_in_utc() -> None:
    link = f"projects/{PROJECT}/global/snapshots/s"
    snapshot = {
        "id": "1",
        "name": "s",
        "selfLink": f"https://h/{link}",
        "creationTimestamp": "2026-02-28T18:30:00.000-08:00",
    }
    with answering(Canned({link: (200, snapshot)})) as compute:
        found = compute.get(Snapshot, link)
    assert found is not None
    assert (found.created_at, found.created_at.tzinfo) == (NOW, UTC)


def test_no_credentials_go_over_plain_http() -> None:
    canned = Canned({INSTANCE: (404, HTML)})
    with answering(canned) as compute, pytest.raises(Refused):
        compute.get(Instance, INSTANCE)
    [(_, headers)] = canned.asked
    assert "authorization" not in headers

"""Instances and their disks, changed in memory and over google-cloud-compute: one suite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from tests.contract.clouds import BOOT, DATA, INSTANCE, KEY, PROJECT, REGION, ZONE, Side, fleet, reached

from snapkeep.cloud import (
    AttachDisk,
    Attachment,
    Change,
    DeleteDisk,
    DeleteInstance,
    DetachDisk,
    Disk,
    Firewall,
    InsertDisk,
    InsertInstance,
    InsertSnapshot,
    Instance,
    Operation,
    SetDiskLabels,
    Snapshot,
    StartInstance,
    StopInstance,
    Zone,
    link_of,
)
from snapkeep.ports import Refused, Transient
from snapkeep_local.faults import (
    DeletionLies,
    DiskFails,
    ErrorAfter,
    ErrorBefore,
    Fault,
    OperationFails,
    Slow,
    Stuck,
)

B = f"{REGION}-b"
SNAPSHOT = f"projects/{PROJECT}/global/snapshots/sk-1"
POLICY = f"projects/{PROJECT}/regions/{REGION}/resourcePolicies/together"
NETWORK = f"projects/{PROJECT}/global/networks/default"


def taken(side: Side, source: str = BOOT, name: str = "sk-1") -> Snapshot:
    """A snapshot that is READY."""
    change = InsertSnapshot(PROJECT, name, source, REGION, {})
    side.start(change)
    side.pass_time(hours=1)
    return side.one(Snapshot, change.link)


def of_snapshot(name: str = "new-1", **changes: Any) -> InsertDisk:
    fields: dict[str, Any] = {
        "project": PROJECT,
        "scope": f"zones/{ZONE}",
        "name": name,
        "source_snapshot": SNAPSHOT,
        "type": "pd-balanced",
        "size_gb": 20,
        "labels": {"snapkeep-role": "restored"},
        "description": "Snapkeep",
    }
    return InsertDisk(**{**fields, **changes})


def made(side: Side, change: InsertDisk) -> Disk:
    side.start(change)
    side.pass_time(hours=2)
    disk = side.one(Disk, change.link)
    assert disk.status == "READY"
    return disk


def attachment(source: str, **changes: Any) -> Attachment:
    fields: dict[str, Any] = {
        "source": source,
        "device_name": "data-1",
        "boot": False,
        "mode": "READ_WRITE",
        "interface": "SCSI",
        "auto_delete": False,
    }
    return Attachment(**{**fields, **changes})


def definition(**changes: Any) -> Mapping[str, Any]:
    return {
        "machineType": f"zones/{ZONE}/machineTypes/n2-standard-4",
        "canIpForward": False,
        "networkInterfaces": [{"network": NETWORK, "accessConfigs": [{"type": "ONE_TO_ONE_NAT"}]}],
        "tags": {"items": ["pam"]},
        "serviceAccounts": [{"email": "pam@acme-prod.iam.gserviceaccount.com", "scopes": ["cloud-platform"]}],
        "scheduling": {"automaticRestart": True, "onHostMaintenance": "MIGRATE", "preemptible": False},
        **changes,
    }


def machine(disks: tuple[Attachment, ...], name: str = "pam-2", **changes: Any) -> InsertInstance:
    fields: dict[str, Any] = {
        "project": PROJECT,
        "zone": ZONE,
        "name": name,
        "definition": definition(),
        "disks": disks,
        "labels": {"snapkeep-role": "restored"},
        "metadata": {"enable-oslogin": "TRUE"},
        "secrets": {"token": "s3cret"},
        "description": "Snapkeep",
    }
    return InsertInstance(**{**fields, **changes})


def boot_of(side: Side, name: str = "boot-2", zone: str = ZONE) -> Attachment:
    link = side.cloud.add_disk(project=PROJECT, zone=zone, name=name, boot=True)
    return attachment(link, device_name="persistent-disk-0", boot=True, auto_delete=True)


def spare(side: Side, name: str = "spare", zone: str = ZONE, replicas: tuple[str, ...] = ()) -> str:
    return side.cloud.add_disk(project=PROJECT, zone=zone, name=name, replica_zones=replicas)


def running(side: Side, **changes: Any) -> Instance:
    """A new instance that runs, with a boot disk of its own."""
    change = machine((boot_of(side),), **changes)
    side.start(change)
    side.pass_time(minutes=5)
    one = side.one(Instance, change.link)
    assert one.status == "RUNNING"
    return one


def stop(one: Instance, attempt: int = 1) -> StopInstance:
    return StopInstance(one.project, one.zone, one.name, one.id, attempt)


def start(one: Instance, attempt: int = 1) -> StartInstance:
    return StartInstance(one.project, one.zone, one.name, one.id, attempt)


def deletion(one: Instance, attempt: int = 1) -> DeleteInstance:
    return DeleteInstance(one.project, one.zone, one.name, one.id, attempt)


def attach(one: Instance, disk: Attachment, attempt: int = 1) -> AttachDisk:
    return AttachDisk(one.project, one.zone, one.name, one.id, disk, attempt)


def detach(one: Instance, device_name: str, attempt: int = 1) -> DetachDisk:
    return DetachDisk(one.project, one.zone, one.name, one.id, device_name, attempt)


def stopped(side: Side) -> Instance:
    one = side.one(Instance, INSTANCE)
    side.start(stop(one))
    side.pass_time(minutes=5)
    one = side.one(Instance, INSTANCE)
    assert one.status == "TERMINATED"
    return one


def refusal(side: Side, change: Change) -> tuple[int, str]:
    """Status and reason with which a change is refused; nothing has changed then."""
    before = side.cloud.state()
    with pytest.raises(Refused) as refused:
        side.start(change)
    after = side.cloud.state()
    assert {**before, "calls": {}} == {**after, "calls": {}}
    return refused.value.code, refused.value.reason


def outcome(side: Side, operation: str) -> tuple[str, str | None]:
    found = side.one(Operation, operation)
    return found.status, found.error_code


# --- disks of snapshots --------------------------------------------------------------------------------------------


def test_a_disk_of_a_snapshot_holds_what_the_snapshot_holds(side: Side) -> None:
    snapshot = taken(side)
    disk = made(side, of_snapshot())
    assert side.cloud.content(disk.link) == side.cloud.content(snapshot.link) == side.cloud.content(BOOT)
    assert (disk.source_snapshot_id, disk.labels) == (snapshot.id, {"snapkeep-role": "restored"})
    assert (disk.users, disk.type, disk.size_gb) == ((), "pd-balanced", 20)


def test_a_regional_disk_of_a_snapshot_lies_in_both_of_its_zones(side: Side) -> None:
    snapshot = taken(side, DATA)
    change = of_snapshot(scope=f"regions/{REGION}", replica_zones=(ZONE, B), size_gb=500, kms_key=KEY)
    operation = side.start(change)
    assert operation.startswith(f"projects/{PROJECT}/regions/{REGION}/operations/")
    side.pass_time(hours=1)
    disk = side.one(Disk, change.link)
    assert (disk.zone, disk.region, disk.replica_zones, disk.kms_key) == (None, REGION, (ZONE, B), KEY)
    assert (disk.status, disk.source_snapshot_id) == ("READY", snapshot.id)
    assert side.cloud.content(disk.link) == side.cloud.content(DATA)


def test_performance_and_policies_of_a_disk_are_what_was_asked_for(side: Side) -> None:
    taken(side)
    side.cloud.add_policy(project=PROJECT, region=REGION, name="together")
    change = of_snapshot(
        type="hyperdisk-balanced", provisioned_iops=3600, provisioned_throughput=290, resource_policies=(POLICY,)
    )
    disk = made(side, change)
    assert (disk.type, disk.provisioned_iops, disk.provisioned_throughput) == ("hyperdisk-balanced", 3600, 290)
    assert disk.resource_policies == (POLICY,)


@pytest.mark.parametrize(
    "wrong",
    [
        {"replica_zones": (ZONE,)},
        {"replica_zones": (ZONE, ZONE)},
        {"replica_zones": (ZONE, "us-east1-b")},
        {"replica_zones": ()},
        {"scope": f"zones/{ZONE}", "replica_zones": (ZONE, B)},
        {"size_gb": 10},
    ],
)
def test_a_regional_disk_has_two_zones_of_its_region_and_room_for_the_snapshot(side: Side, wrong: Any) -> None:
    taken(side)
    change = of_snapshot(**{"scope": f"regions/{REGION}", "replica_zones": (ZONE, B), **wrong})
    assert refusal(side, change) == (400, "invalid")


def test_a_disk_under_a_policy_that_there_is_not_is_refused(side: Side) -> None:
    taken(side)
    assert refusal(side, of_snapshot(resource_policies=(POLICY,))) == (404, "notFound")


@pytest.mark.parametrize("scope", [f"zones/{ZONE}", f"regions/{REGION}"])
def test_a_disk_may_turn_failed_and_be_deleted(side: Side, scope: str) -> None:
    taken(side)
    side.cloud.add_fault(Fault(effect=DiskFails(), count=1))
    change = of_snapshot(scope=scope, replica_zones=(ZONE, B) if scope.startswith("regions") else ())
    operation = side.start(change)
    side.pass_time(hours=1)
    disk = side.one(Disk, change.link)
    assert (disk.status, outcome(side, operation)) == ("FAILED", ("DONE", None))
    side.start(DeleteDisk(PROJECT, scope, change.name, disk.id, 1))
    side.pass_time(minutes=1)
    assert side.both(Disk, change.link) is None


# --- labels --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("link", [BOOT, DATA])
def test_labels_of_a_disk_are_set_by_who_shows_what_was_read(side: Side, link: str) -> None:
    disk = side.one(Disk, link)
    labels = {**disk.labels, "snapkeep-role": "former"}
    side.start(SetDiskLabels(PROJECT, disk.scope, disk.name, disk.id, labels, disk.label_fingerprint, 1))
    again = side.one(Disk, link)
    assert (again.labels, again.id) == (labels, disk.id)
    assert again.label_fingerprint != disk.label_fingerprint
    late = SetDiskLabels(PROJECT, disk.scope, disk.name, disk.id, {}, disk.label_fingerprint, 2)
    assert refusal(side, late) == (412, "conditionNotMet")


def test_labels_that_fail_to_be_set_stay_as_they_were(side: Side) -> None:
    disk = side.one(Disk, BOOT)
    side.cloud.add_fault(Fault(effect=OperationFails(), count=1))
    operation = side.start(SetDiskLabels(PROJECT, disk.scope, disk.name, disk.id, {}, disk.label_fingerprint, 1))
    side.pass_time(minutes=1)
    assert outcome(side, operation) == ("DONE", "INTERNAL_ERROR")
    assert side.one(Disk, BOOT).labels == {"role": "boot"}


# --- a new instance ------------------------------------------------------------------------------------------------


def test_an_instance_is_made_of_disks_that_there_are_and_comes_to_run(side: Side) -> None:
    boot, data = boot_of(side), attachment(spare(side), mode="READ_WRITE", interface="NVME")
    ssd = attachment("", device_name="local-ssd-0", interface="NVME", auto_delete=True)
    change = machine((boot, data, ssd))
    operation = side.start(change)
    assert operation.startswith(f"projects/{PROJECT}/zones/{ZONE}/operations/")
    young = side.one(Instance, change.link)
    assert young.status == "PROVISIONING"
    side.pass_time(seconds=7)
    assert side.one(Instance, change.link).status == "STAGING"
    side.pass_time(minutes=5)
    one = side.one(Instance, change.link)
    assert (one.status, one.id, outcome(side, operation)) == ("RUNNING", young.id, ("DONE", None))
    assert one.labels == {"snapkeep-role": "restored"}
    shown = [
        Attachment(disk.source, disk.device_name, disk.boot, disk.mode, disk.interface, disk.auto_delete)
        for disk in one.disks
    ]
    assert shown == [boot, data, ssd]
    assert [disk.persistent for disk in one.disks] == [True, True, False]
    assert [side.one(Disk, disk.source).users for disk in (boot, data)] == [(one.link,), (one.link,)]


def test_the_definition_of_an_instance_is_told_as_it_was_sent_and_completed(side: Side) -> None:
    one = running(side)
    api = "https://www.googleapis.com/compute/v1/"
    assert one.definition["machineType"] == f"{api}projects/{PROJECT}/zones/{ZONE}/machineTypes/n2-standard-4"
    (nic,) = one.definition["networkInterfaces"]
    assert (nic["name"], nic["network"]) == ("nic0", api + NETWORK)
    assert nic["subnetwork"] == f"{api}projects/{PROJECT}/regions/{REGION}/subnetworks/default"
    assert nic["networkIP"].startswith("10.128.")
    assert nic["accessConfigs"][0]["natIP"].startswith("34.95.")
    assert one.definition["tags"]["items"] == ["pam"]
    assert one.definition["description"] == "Snapkeep"
    assert one.definition["metadata"]["items"] == [
        {"key": "enable-oslogin", "value": "TRUE"},
        {"key": "token", "value": "s3cret"},
    ]


def test_both_ask_for_an_instance_and_what_becomes_of_it_in_the_same_words() -> None:
    states = []
    for way in ("local", "google"):
        with reached(way, fleet()) as side:
            taken(side)
            disk = made(side, of_snapshot(provisioned_iops=3000, labels={"a": "b"}))
            made(side, of_snapshot("new-2", scope=f"regions/{REGION}", replica_zones=(ZONE, B), kms_key=KEY))
            one = running(side)
            side.start(attach(one, attachment(disk.link)))
            side.pass_time(minutes=1)
            side.start(SetDiskLabels(PROJECT, disk.scope, disk.name, disk.id, {}, disk.label_fingerprint, 1))
            side.start(detach(one, "data-1"))
            side.start(stop(side.one(Instance, INSTANCE)))
            side.pass_time(minutes=5)
            side.start(start(side.one(Instance, INSTANCE)))
            side.start(deletion(one))
            side.pass_time(minutes=5)
            states.append({**side.cloud.state(), "calls": {}})
    assert states[0] == states[1]


def test_an_address_that_is_asked_for_is_given_unless_somebody_has_it(side: Side) -> None:
    nic = {"network": NETWORK, "networkIP": "10.128.7.7"}
    one = running(side, definition=definition(networkInterfaces=[nic]))
    assert one.definition["networkInterfaces"][0]["networkIP"] == "10.128.7.7"
    assert "accessConfigs" not in one.definition["networkInterfaces"][0]
    other = machine((boot_of(side, "boot-3"),), "pam-3", definition=definition(networkInterfaces=[nic]))
    operation = side.start(other)
    side.pass_time(minutes=5)
    assert outcome(side, operation) == ("DONE", "IP_IN_USE_BY_ANOTHER_RESOURCE")
    assert side.both(Instance, other.link) is None
    assert side.one(Disk, other.disks[0].source).users == ()


@pytest.mark.parametrize(
    "wrong",
    [
        {"machineType": "n2-standard-4"},
        {"machineType": f"zones/{B}/machineTypes/n2-standard-4"},
        {"networkInterfaces": []},
        {"networkInterfaces": [{"subnetwork": f"projects/{PROJECT}/regions/us-east1/subnetworks/default"}]},
    ],
)
def test_a_definition_that_fits_no_instance_of_the_zone_is_refused(side: Side, wrong: Any) -> None:
    assert refusal(side, machine((boot_of(side),), definition=definition(**wrong))) == (400, "invalid")


def test_an_instance_without_a_boot_disk_in_the_first_place_is_refused(side: Side) -> None:
    boot, data = boot_of(side), attachment(spare(side))
    for disks in ((), (data,), (data, boot), (boot, boot)):
        assert refusal(side, machine(disks)) == (400, "invalid")


def test_two_disks_of_one_device_name_are_refused(side: Side) -> None:
    disks = (boot_of(side), attachment(spare(side), device_name="persistent-disk-0"))
    assert refusal(side, machine(disks)) == (400, "invalid")


def test_an_instance_of_a_name_that_is_taken_is_refused(side: Side) -> None:
    assert refusal(side, machine((boot_of(side),), "pam-1")) == (409, "alreadyExists")


def test_the_same_request_for_an_instance_is_the_same_operation(side: Side) -> None:
    change = machine((boot_of(side),))
    first = side.start(change)
    side.pass_time(minutes=5)
    assert side.start(change) == first


def test_an_instance_for_which_there_is_no_room_is_not_made(side: Side) -> None:
    no_room = OperationFails(code="ZONE_RESOURCE_POOL_EXHAUSTED", message="no room")
    side.cloud.add_fault(Fault(effect=no_room, method="instances.insert"))
    change = machine((boot_of(side),))
    operation = side.start(change)
    side.pass_time(minutes=5)
    assert outcome(side, operation) == ("DONE", "ZONE_RESOURCE_POOL_EXHAUSTED")
    assert side.both(Instance, change.link) is None
    assert side.one(Disk, change.disks[0].source).users == ()


@pytest.mark.parametrize(
    ("effect", "status", "ended"),
    [
        (OperationFails(snapshot="FAILED"), "TERMINATED", ("DONE", "INTERNAL_ERROR")),
        (Stuck(), "STAGING", ("RUNNING", None)),
    ],
)
def test_an_instance_may_be_made_and_never_run(side: Side, effect: Any, status: str, ended: Any) -> None:
    side.cloud.add_fault(Fault(effect=effect, method="instances.insert", count=1))
    change = machine((boot_of(side),))
    operation = side.start(change)
    side.pass_time(hours=5)
    assert (side.one(Instance, change.link).status, outcome(side, operation)) == (status, ended)


# --- stopped and started -------------------------------------------------------------------------------------------


def test_an_instance_is_stopped_and_started_again(side: Side) -> None:
    one = side.one(Instance, INSTANCE)
    operation = side.start(stop(one))
    assert side.one(Instance, INSTANCE).status == "STOPPING"
    side.pass_time(minutes=5)
    assert (side.one(Instance, INSTANCE).status, outcome(side, operation)) == ("TERMINATED", ("DONE", None))
    operation = side.start(start(one))
    assert side.one(Instance, INSTANCE).status == "PROVISIONING"
    side.pass_time(minutes=5)
    assert (side.one(Instance, INSTANCE).status, outcome(side, operation)) == ("RUNNING", ("DONE", None))
    assert side.one(Instance, INSTANCE).disks == one.disks


def test_what_is_on_local_ssds_is_lost_when_an_instance_is_stopped(side: Side) -> None:
    side.cloud.write_local_ssd(INSTANCE, "local-ssd-1", "cache")
    assert side.cloud.local_ssd(INSTANCE, "local-ssd-1") == "cache"
    kept = side.cloud.content(BOOT)
    stopped(side)
    assert side.cloud.local_ssd(INSTANCE, "local-ssd-1") == ""
    assert side.cloud.content(BOOT) == kept


def test_what_is_so_already_is_no_mistake_and_what_is_on_the_way_may_be_asked_later(side: Side) -> None:
    one = side.one(Instance, INSTANCE)
    side.start(start(one))
    assert side.one(Instance, INSTANCE).status == "RUNNING"
    side.start(stop(one))
    for change in (stop(one, 2), start(one, 2), detach(one, "pam-1-data")):
        with pytest.raises(Transient) as passing:
            side.start(change)
        assert (passing.value.code, passing.value.reason) == (400, "resourceNotReady")
    side.pass_time(minutes=5)
    side.start(stop(one, 3))
    side.pass_time(minutes=5)
    assert side.one(Instance, INSTANCE).status == "TERMINATED"


@pytest.mark.parametrize(("effect", "status"), [(Stuck(), "STOPPING"), (OperationFails(), "RUNNING")])
def test_an_instance_may_not_stop(side: Side, effect: Any, status: str) -> None:
    side.cloud.add_fault(Fault(effect=effect, method="instances.stop", count=1))
    operation = side.start(stop(side.one(Instance, INSTANCE)))
    side.pass_time(hours=5)
    assert side.one(Instance, INSTANCE).status == status
    assert outcome(side, operation)[0] == ("RUNNING" if status == "STOPPING" else "DONE")


def test_an_instance_without_a_boot_disk_is_not_started(side: Side) -> None:
    one = stopped(side)
    side.start(detach(one, "persistent-disk-0"))
    side.pass_time(minutes=1)
    assert refusal(side, start(one)) == (400, "invalidResourceUsage")


# --- deleted -------------------------------------------------------------------------------------------------------


def test_an_instance_goes_with_the_disks_that_are_to_go_with_it(side: Side) -> None:
    boot, data = boot_of(side), attachment(spare(side))
    change = machine((boot, data))
    side.start(change)
    side.pass_time(minutes=5)
    operation = side.start(deletion(side.one(Instance, change.link)))
    assert side.one(Instance, change.link).status == "STOPPING"
    side.pass_time(minutes=5)
    assert outcome(side, operation) == ("DONE", None)
    assert side.both(Instance, change.link) is None
    assert side.both(Disk, boot.source) is None
    assert side.one(Disk, data.source).users == ()


def test_an_instance_that_is_protected_is_not_deleted(side: Side) -> None:
    one = running(side, definition=definition(deletionProtection=True))
    assert refusal(side, deletion(one)) == (400, "invalidResourceUsage")


def test_a_deletion_of_an_instance_may_not_have_happened(side: Side) -> None:
    one = running(side)
    side.cloud.add_fault(Fault(effect=DeletionLies(), count=1))
    operation = side.start(deletion(one))
    side.pass_time(minutes=5)
    assert outcome(side, operation) == ("DONE", None)
    assert side.one(Instance, one.link) == one


def test_a_disk_that_is_attached_is_not_deleted(side: Side) -> None:
    disk = side.one(Disk, BOOT)
    assert disk.users == (INSTANCE,)
    change = DeleteDisk(PROJECT, disk.scope, disk.name, disk.id, 1)
    assert refusal(side, change) == (400, "resourceInUseByAnotherResource")


# --- attached and detached -----------------------------------------------------------------------------------------


def test_a_disk_is_attached_to_an_instance_that_runs_and_detached_again(side: Side) -> None:
    one, disk = side.one(Instance, INSTANCE), attachment(spare(side), interface="NVME", auto_delete=True)
    operation = side.start(attach(one, disk))
    assert side.one(Instance, INSTANCE).disks == one.disks, "it takes some seconds"
    side.pass_time(minutes=1)
    assert outcome(side, operation) == ("DONE", None)
    shown = side.one(Instance, INSTANCE).disks[-1]
    assert (shown.source, shown.device_name, shown.boot) == (disk.source, "data-1", False)
    assert (shown.mode, shown.interface, shown.auto_delete) == ("READ_WRITE", "NVME", True)
    assert side.one(Disk, disk.source).users == (INSTANCE,)
    side.start(detach(one, "data-1"))
    side.pass_time(minutes=1)
    assert side.one(Instance, INSTANCE).disks == one.disks
    assert side.one(Disk, disk.source).users == (), "it stays, whatever its autoDelete"


def test_the_disks_of_an_instance_that_is_off_are_exchanged_one_for_one(side: Side) -> None:
    taken(side)
    taken(side, DATA, "sk-2")
    one = stopped(side)
    side.cloud.write(BOOT, "damaged")
    new = made(side, of_snapshot()), made(
        side,
        of_snapshot("new-2", scope=f"regions/{REGION}", replica_zones=(ZONE, B), size_gb=500,
                    source_snapshot=f"{SNAPSHOT[:-1]}2"),
    )  # fmt: skip
    old = [disk for disk in one.disks if disk.persistent]
    for disk in old:
        side.start(detach(one, disk.device_name))
    side.pass_time(minutes=1)
    assert [disk.persistent for disk in side.one(Instance, INSTANCE).disks] == [False, False]
    # The data disk first: the boot disk is listed first all the same.
    for made_now, was in reversed(list(zip(new, old, strict=True))):
        how = Attachment(made_now.link, was.device_name, was.boot, was.mode, was.interface, was.auto_delete)
        side.start(attach(one, how))
    side.pass_time(minutes=1)
    boot, *_, data = side.one(Instance, INSTANCE).disks
    assert [(disk.device_name, disk.source) for disk in (boot, data)] == [
        ("persistent-disk-0", new[0].link),
        ("pam-1-data", new[1].link),
    ]
    side.start(start(one))
    side.pass_time(minutes=5)
    assert side.one(Instance, INSTANCE).status == "RUNNING"
    assert side.cloud.content(boot.source) != side.cloud.content(BOOT) == "damaged"


def test_a_boot_disk_is_detached_and_attached_only_while_its_instance_is_off(side: Side) -> None:
    one = side.one(Instance, INSTANCE)
    assert refusal(side, detach(one, "persistent-disk-0")) == (400, "invalidResourceUsage")
    assert refusal(side, attach(one, attachment(spare(side), boot=True))) == (400, "invalidResourceUsage")
    one = stopped(side)
    assert refusal(side, attach(one, attachment(spare(side, "other"), boot=True))) == (400, "invalidResourceUsage")


def test_a_disk_that_another_instance_writes_to_is_not_attached(side: Side) -> None:
    one = running(side)
    assert refusal(side, attach(one, attachment(BOOT))) == (400, "resourceInUseByAnotherResource")
    assert refusal(side, attach(one, attachment(BOOT, mode="READ_ONLY"))) == (400, "resourceInUseByAnotherResource")


def test_a_disk_that_is_only_read_may_be_attached_to_several(side: Side) -> None:
    one, disk = running(side), spare(side)
    for instance in (one, side.one(Instance, INSTANCE)):
        side.start(attach(instance, attachment(disk, mode="READ_ONLY")))
        side.pass_time(minutes=1)
    assert side.one(Disk, disk).users == (one.link, INSTANCE)


def test_a_device_name_that_is_taken_is_refused(side: Side) -> None:
    one = side.one(Instance, INSTANCE)
    assert refusal(side, attach(one, attachment(spare(side), device_name="pam-1-data"))) == (400, "invalid")


def test_a_disk_is_attached_where_it_lies(side: Side) -> None:
    one = side.one(Instance, INSTANCE)
    away = spare(side, "away", B)
    aside = spare(side, "aside", B, (B, f"{REGION}-c"))
    near = spare(side, "near", B, (B, ZONE))
    for disk in (away, aside):
        assert refusal(side, attach(one, attachment(disk))) == (400, "invalid")
    side.start(attach(one, attachment(near)))
    assert side.one(Disk, near).users == (INSTANCE,)


def test_a_device_that_there_is_not_is_not_detached(side: Side) -> None:
    assert refusal(side, detach(side.one(Instance, INSTANCE), "data-9")) == (400, "invalid")


@pytest.mark.parametrize("effect", [Stuck(), OperationFails(code="INTERNAL_ERROR")])
def test_a_disk_may_not_come_to_be_attached_nor_detached(side: Side, effect: Any) -> None:
    one, disk = side.one(Instance, INSTANCE), spare(side)
    side.cloud.add_fault(Fault(effect=effect))
    side.start(attach(one, attachment(disk)))
    side.start(detach(one, "pam-1-data"))
    side.pass_time(hours=1)
    assert side.one(Instance, INSTANCE).disks == one.disks
    assert side.one(Disk, disk).users == ()


def test_a_change_whose_answer_is_lost_happened_all_the_same(side: Side) -> None:
    one, disk = side.one(Instance, INSTANCE), spare(side)
    change = attach(one, attachment(disk))
    side.cloud.add_fault(Fault(effect=ErrorAfter(), count=1))
    with pytest.raises(Transient):
        side.start(change)
    operation = side.start(change)
    side.pass_time(minutes=1)
    assert outcome(side, operation) == ("DONE", None)
    assert side.one(Disk, disk).users == (INSTANCE,)


def test_a_slow_change_takes_its_time(side: Side) -> None:
    side.cloud.add_fault(Fault(effect=Slow(factor=100)))
    one = side.one(Instance, INSTANCE)
    side.start(stop(one))
    side.pass_time(minutes=30)
    assert side.one(Instance, INSTANCE).status == "STOPPING"


# --- zones and firewalls -------------------------------------------------------------------------------------------


def test_the_zones_of_every_region_are_found(side: Side) -> None:
    zones = {zone.name: zone for zone in side.compute.find(Zone, PROJECT)}
    assert zones == {zone.name: zone for zone in side.local.find(Zone, PROJECT)}
    assert [name for name in zones if name.startswith(f"{REGION}-")] == [ZONE, B, f"{REGION}-c"]
    for region in ("us-east1", "europe-west1"):
        assert [name[-1] for name in zones if name.startswith(f"{region}-")] == ["b", "c", "d"]
    assert zones[ZONE] == Zone(ZONE, PROJECT, REGION, True)
    assert side.one(Zone, f"projects/{PROJECT}/zones/{ZONE}") == zones[ZONE]
    assert side.both(Zone, f"projects/{PROJECT}/zones/us-east1-a") is None


def test_a_zone_may_be_down(side: Side) -> None:
    assert all(zone.up for zone in side.compute.find(Zone, PROJECT))
    side.cloud.set_zone(ZONE, False)
    assert not side.one(Zone, f"projects/{PROJECT}/zones/{ZONE}").up
    assert side.one(Zone, f"projects/{PROJECT}/zones/{B}").up
    assert [zone.name for zone in side.compute.find(Zone, PROJECT) if not zone.up] == [ZONE]
    side.cloud.set_zone(ZONE, True)
    assert side.one(Zone, f"projects/{PROJECT}/zones/{ZONE}").up


def test_the_firewall_rules_of_a_project_are_found(side: Side) -> None:
    isolated = f"projects/{PROJECT}/global/networks/isolated"
    side.cloud.add_firewall(project=PROJECT, name="deny-out", network=isolated, direction="EGRESS", priority=0)
    side.cloud.add_firewall(
        project=PROJECT, name="allow-ssh", network=NETWORK, allows=True, protocol="tcp", ports=("22",),
        ranges=("203.0.113.0/24",), target_tags=("pam",), disabled=True,
    )  # fmt: skip
    ssh = Firewall(
        "allow-ssh", PROJECT, NETWORK, "INGRESS", 1000, True, False, ("203.0.113.0/24",), targeted=True, disabled=True
    )
    out = Firewall("deny-out", PROJECT, isolated, "EGRESS", 0, False, True, ("0.0.0.0/0",), False, False)
    assert list(side.compute.find(Firewall, PROJECT)) == list(side.local.find(Firewall, PROJECT)) == [ssh, out]
    api = "https://www.googleapis.com/compute/v1/"
    assert list(side.compute.find(Firewall, PROJECT, f'(network = "{api}{isolated}")')) == [out]
    assert side.one(Firewall, link_of(PROJECT, "global", "firewalls", "deny-out")) == out
    assert list(side.compute.find(Firewall, "empty")) == []


# --- a whole zone away ---------------------------------------------------------------------------------------------


def test_one_fault_takes_a_whole_zone_away_and_nothing_else(side: Side) -> None:
    taken(side)
    one, other = side.one(Instance, INSTANCE), f"projects/{PROJECT}/zones/us-east1-b"
    side.cloud.add_fault(Fault(effect=ErrorBefore(), resource=f"zones/{ZONE}"))
    lost: list[Any] = [
        lambda: side.compute.get(Instance, INSTANCE),
        lambda: side.compute.get(Disk, BOOT),
        lambda: side.compute.get(Zone, f"projects/{PROJECT}/zones/{ZONE}"),
        lambda: side.start(of_snapshot()),
        lambda: side.start(of_snapshot(scope=f"regions/{REGION}", replica_zones=(ZONE, B), size_gb=500)),
        lambda: side.start(machine((attachment(f"{other}/disks/bare", boot=True),))),
        *(lambda change=change: side.start(change) for change in (stop(one), start(one), deletion(one))),
        lambda: side.start(attach(one, attachment(BOOT))),
        lambda: side.start(detach(one, "pam-1-data")),
        lambda: side.start(SetDiskLabels(PROJECT, f"zones/{ZONE}", "pam-1-boot", "1", {}, "", 1)),
    ]
    for call in lost:
        with pytest.raises(Transient) as away:
            call()
        assert away.value.code == 503
    for kind in (Instance, Disk):
        with pytest.raises(Transient, match=f"no answer from zones/{ZONE}") as away:
            list(side.compute.find(kind, PROJECT))
        assert away.value.reason == "UNREACHABLE"
    assert side.one(Instance, f"{other}/instances/bare").status == "RUNNING"
    assert side.one(Disk, DATA).status == "READY"
    assert side.one(Snapshot, SNAPSHOT).status == "READY"
    elsewhere = made(side, of_snapshot(scope=f"zones/{B}"))
    assert side.cloud.content(elsewhere.link) == side.cloud.content(BOOT)
    side.cloud.clear_faults()
    assert {found.link for found in side.compute.find(Instance, PROJECT)} == {INSTANCE, f"{other}/instances/bare"}


@pytest.mark.parametrize(("kind", "link"), [(Zone, BOOT), (Firewall, SNAPSHOT)])
def test_a_link_of_another_kind_is_a_mistake(side: Side, kind: type[Zone] | type[Firewall], link: str) -> None:
    with pytest.raises(ValueError, match="is not the link of a"):
        side.compute.get(kind, link)

"""A cloud that was saved and resumed goes on as if it had never been away."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from snapkeep_local.cloud import Cloud, Saved
from snapkeep_local.errors import ApiError
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
    SnapshotFails,
    SnapshotVanishes,
    Stuck,
)
from snapkeep_local.limits import Limits

NOW = datetime(2026, 3, 1, 2, 30, tzinfo=UTC)
PROJECT = "acme-prod"
ZONE = "southamerica-east1-a"
NAMES = ("one", "two", "three")
DISKS = tuple(f"projects/{PROJECT}/zones/{ZONE}/disks/{name}" for name in ("boot", "data"))
INSTANCE = f"projects/{PROJECT}/zones/{ZONE}/instances/pam-1"
SCOPE = f"zones/{ZONE}"
POLICY = f"projects/{PROJECT}/regions/southamerica-east1/resourcePolicies/together"
REQUESTS = (None, *(str(uuid.uuid5(uuid.NAMESPACE_OID, word)) for word in ("a", "b")))

LIMITS = Limits(reads_per_minute=4, mutations_per_minute=4, snapshots_per_disk=3, instant_snapshots_per_disk=2)
"""So low that a run meets them."""

Act = Callable[[Cloud], Any]


def take(name: str, disk: str, request_id: str | None) -> Act:
    body = {"name": name, "sourceDisk": disk, "storageLocations": ["southamerica-east1"]}
    return lambda cloud: cloud.insert_snapshot(PROJECT, body, request_id)


def take_of(name: str, instant: str, request_id: str | None) -> Act:
    body = {"name": name, "sourceInstantSnapshot": beside("instantSnapshots", instant)}
    return lambda cloud: cloud.insert_snapshot(PROJECT, body, request_id)


def hold(name: str, disk: str, request_id: str | None) -> Act:
    body = {"name": name, "sourceDisk": disk}
    return lambda cloud: cloud.insert_instant_snapshot(PROJECT, SCOPE, body, request_id)


def hold_all(name: str, request_id: str | None) -> Act:
    body = {"name": name, "sourceConsistencyGroup": POLICY}
    return lambda cloud: cloud.insert_instant_snapshot_group(PROJECT, SCOPE, body, request_id)


def make_disk(name: str, snapshot: str, request_id: str | None) -> Act:
    body = {"name": name, "sourceSnapshot": link(snapshot)}
    return lambda cloud: cloud.insert_disk(PROJECT, SCOPE, body, request_id)


def make_regional_disk(name: str, snapshot: str, request_id: str | None) -> Act:
    zones = [f"projects/{PROJECT}/zones/southamerica-east1-{letter}" for letter in "ab"]
    body = {"name": name, "sourceSnapshot": link(snapshot), "replicaZones": zones}
    return lambda cloud: cloud.insert_disk(PROJECT, "regions/southamerica-east1", body, request_id)


def make_instance(name: str, disk: str, request_id: str | None) -> Act:
    body = {
        "name": name,
        "machineType": f"zones/{ZONE}/machineTypes/e2-standard-2",
        "networkInterfaces": [{}],
        "disks": [{"source": disk, "boot": True, "autoDelete": True, "deviceName": "persistent-disk-0"}],
    }
    return lambda cloud: cloud.insert_instance(PROJECT, ZONE, body, request_id)


def attach(name: str, disk: str, request_id: str | None) -> Act:
    body = {"source": disk, "deviceName": "more", "mode": "READ_ONLY"}
    return lambda cloud: cloud.attach(beside("instances", name), body, request_id)


def label_disk(disk: str, value: str, request_id: str | None) -> Act:
    def act(cloud: Cloud) -> Any:
        seen = next((one["labelFingerprint"] for one in cloud.disks() if one["selfLink"].endswith(disk)), "")
        return cloud.set_disk_labels(disk, {"a": value}, seen, request_id)

    return act


def beside(kind: str, name: str) -> str:
    return f"projects/{PROJECT}/{SCOPE}/{kind}/{name}"


def link(name: str) -> str:
    return f"projects/{PROJECT}/global/snapshots/{name}"


def label(name: str, labels: dict[str, str], request_id: str | None) -> Act:
    def act(cloud: Cloud) -> Any:
        snapshot = cloud.snapshot(PROJECT, name)
        fingerprint = snapshot["labelFingerprint"] if snapshot else ""
        return cloud.set_snapshot_labels(link(name), labels, fingerprint, request_id)

    return act


def fault(effect: Effect, probability: float, count: int | None) -> Act:
    return lambda cloud: cloud.add_fault(Fault(effect=effect, probability=probability, count=count))


names = st.sampled_from(NAMES)
machines = st.sampled_from((*NAMES, "pam-1"))
disks = st.sampled_from(DISKS)
requests = st.sampled_from(REQUESTS)
effects: st.SearchStrategy[Effect] = st.sampled_from(
    [
        ErrorBefore(),
        ErrorAfter(),
        Slow(factor=7.3),
        Stuck(snapshot="CREATING"),
        Stuck(),
        OperationFails(),
        OperationFails(snapshot="FAILED", http_status=500),
        SnapshotFails(),
        SnapshotVanishes(after_s=90.5),
        InstantVanishes(after_s=90.5),
        DiskFails(),
        DeletionLies(),
    ]
)
acts: st.SearchStrategy[Act] = st.one_of(
    st.builds(take, names, disks, requests),
    st.builds(take, names, disks, requests),
    st.builds(lambda name, id: lambda cloud: cloud.delete_snapshot(link(name), id), names, requests),
    st.builds(hold, names, disks, requests),
    st.builds(hold_all, names, requests),
    st.builds(take_of, names, names, requests),
    st.builds(make_disk, names, names, requests),
    st.builds(
        lambda name, id: lambda cloud: cloud.delete_instant_snapshot(beside("instantSnapshots", name), id),
        names,
        requests,
    ),
    st.builds(
        lambda name, id: lambda cloud: cloud.delete_instant_snapshot_group(beside("instantSnapshotGroups", name), id),
        names,
        requests,
    ),
    st.builds(lambda name, id: lambda cloud: cloud.delete_disk(beside("disks", name), id), names, requests),
    st.builds(make_regional_disk, names, names, requests),
    st.builds(label_disk, disks, st.sampled_from(["x", "y"]), requests),
    st.builds(make_instance, names, st.one_of(disks, names.map(lambda name: beside("disks", name))), requests),
    st.builds(lambda name, id: lambda cloud: cloud.delete_instance(beside("instances", name), id), machines, requests),
    st.builds(
        lambda name, id: lambda cloud: cloud.stop(beside("instances", name), id, discard_local_ssd=True),
        machines,
        requests,
    ),
    st.builds(lambda name, id: lambda cloud: cloud.start(beside("instances", name), id), machines, requests),
    st.builds(attach, machines, st.one_of(disks, names.map(lambda name: beside("disks", name))), requests),
    st.builds(
        lambda name, device, id: lambda cloud: cloud.detach(beside("instances", name), device, id),
        machines,
        st.sampled_from(["persistent-disk-0", "data", "more"]),
        requests,
    ),
    st.builds(lambda up: lambda cloud: cloud.set_zone(ZONE, up), st.booleans()),
    st.just(lambda cloud: cloud.add_firewall(project=PROJECT, name="deny", network="projects/p/global/networks/n")),
    st.just(lambda cloud: cloud.set_guest_answers(INSTANCE, False)),
    st.just(lambda cloud: cloud.write_local_ssd(INSTANCE, "local-ssd-0", "cache")),
    st.just(lambda cloud: (cloud.away("disks", PROJECT), cloud.page("disks", PROJECT))),
    st.just(lambda cloud: (cloud.page("zones", PROJECT), cloud.page("firewalls", PROJECT))),
    st.builds(lambda disk: lambda cloud: cloud.attach_policy(disk, POLICY), disks),
    st.just(lambda cloud: cloud.stop_instance(INSTANCE)),
    st.builds(label, names, st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from(["x", "y"])), requests),
    st.builds(
        lambda seconds: lambda cloud: cloud.advance(cloud.now + timedelta(seconds=seconds)), st.floats(0.001, 2000)
    ),
    st.builds(fault, effects, st.sampled_from([0.5, 1.0]), st.sampled_from([None, 1, 3])),
    st.builds(lambda number: lambda cloud: cloud.clear_faults(number), st.sampled_from([None, 1, 2])),
    st.builds(lambda disk: lambda cloud: cloud.replace_disk(disk), disks),
    st.builds(lambda disk: lambda cloud: cloud.write(disk, "written"), disks),
    st.builds(lambda disk: lambda cloud: cloud.resize_disk(disk, size_gb=500), disks),
    st.just(lambda cloud: cloud.replace_instance(INSTANCE)),
    st.just(lambda cloud: cloud.plant_snapshot(project=PROJECT, name=NAMES[0])),
    st.builds(lambda name: lambda cloud: cloud.remove_snapshot(link(name)), names),
    st.builds(lambda name: lambda cloud: cloud.get("snapshots", link(name)), names),
    st.just(lambda cloud: cloud.page("snapshots", PROJECT, max_results=2)),
    st.just(lambda cloud: cloud.page("operations", PROJECT)),
    st.just(lambda cloud: cloud.page("instantSnapshots", PROJECT)),
)


def built(seed: int = 1) -> Cloud:
    cloud = Cloud(seed, NOW, LIMITS)
    for name in ("boot", "data"):
        cloud.add_disk(project=PROJECT, zone=ZONE, name=name, size_gb=10)
    cloud.add_instance(project=PROJECT, zone=ZONE, name="pam-1", disks=DISKS, local_ssds=1, metadata={"k": "v"})
    cloud.add_policy(project=PROJECT, region="southamerica-east1", name="together")
    cloud.attach_policy(DISKS[0], POLICY)
    return cloud


def answer(cloud: Cloud, act: Act) -> Any:
    try:
        return act(cloud)
    except (ApiError, KeyError) as refusal:
        return repr(refusal)


def resumed(cloud: Cloud) -> Cloud:
    return Cloud.resumed(msgspec.json.decode(msgspec.json.encode(cloud.saved()), type=Saved))


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 9), st.lists(st.tuples(acts, st.booleans()), max_size=40))
def test_a_resumed_cloud_answers_as_one_that_never_stopped(seed: int, steps: list[tuple[Act, bool]]) -> None:
    steady, saved = built(seed), built(seed)
    for act, stop in steps:
        assert answer(steady, act) == answer(saved, act)
        if stop:
            saved = resumed(saved)
    # What is still to happen happens.
    for cloud in (steady, saved):
        cloud.advance(cloud.now + timedelta(days=1))
    assert steady.state() == saved.state()
    assert (steady.calls, steady.log) == (saved.calls, saved.log)
    assert msgspec.json.encode(steady.saved()) == msgspec.json.encode(saved.saved())


def test_an_instance_half_started_and_a_disk_half_attached_are_finished_after_the_resumption() -> None:
    cloud = built()
    cloud.set_zone(ZONE, False)
    cloud.add_firewall(project=PROJECT, name="deny", network=f"projects/{PROJECT}/global/networks/isolated")
    cloud.set_guest_answers(INSTANCE, False)
    spare, new = (cloud.add_disk(project=PROJECT, zone=ZONE, name=name) for name in ("spare", "new"))
    make_instance("one", new, None)(cloud)
    attach("pam-1", spare, None)(cloud)
    cloud.stop_instance(INSTANCE)
    again = resumed(cloud)
    again.advance(NOW + timedelta(minutes=5))
    shown = {one["name"]: one for one in again.state()["instances"]}
    assert shown["one"]["status"] == "RUNNING"
    assert "more" in [disk["deviceName"] for disk in shown["pam-1"]["disks"]]
    assert (again.state()["zones_down"], len(again.firewalls())) == ([ZONE], 1)
    again.start_instance(INSTANCE)
    assert "does not answer" in str(again.silence(shown["pam-1"]["networkInterfaces"][0]["networkIP"]))


def test_what_is_half_done_is_finished_after_the_resumption() -> None:
    cloud = built()
    take("one", DISKS[0], None)(cloud)
    cloud.advance(NOW + timedelta(seconds=15))
    again = resumed(cloud)
    assert [one["status"] for one in again.snapshots()] == ["UPLOADING"]
    again.advance(NOW + timedelta(hours=1))
    assert [one["status"] for one in again.snapshots()] == ["READY"]


def test_a_snapshot_made_anew_under_a_name_does_not_meet_the_end_of_the_first() -> None:
    """The first is deleted while it uploads; what was to become of it is not to become of the second."""
    cloud = built()
    cloud.add_fault(Fault(effect=SnapshotVanishes(after_s=20), method="snapshots.insert", count=1))
    cloud.add_fault(Fault(effect=OperationFails(snapshot="FAILED"), method="snapshots.insert", count=1))
    take("one", DISKS[0], None)(cloud)
    cloud.advance(NOW + timedelta(seconds=21))
    assert cloud.snapshots() == []
    take("one", DISKS[0], None)(cloud)
    cloud.advance(NOW + timedelta(hours=1))
    assert [one["status"] for one in cloud.snapshots()] == ["READY"]


def test_a_moment_is_still_held_and_still_a_disks_after_the_resumption() -> None:
    cloud = built()
    hold_all("one", None)(cloud)
    cloud.advance(NOW + timedelta(seconds=2))
    again = resumed(cloud)
    again.advance(NOW + timedelta(minutes=1))
    assert [one["status"] for one in again.instant_snapshots()] == ["READY"]
    hold("two", DISKS[0], None)(again)
    again.advance(NOW + timedelta(minutes=2))
    hold("three", DISKS[0], None)(again)
    assert len(again.instant_snapshots()) == 2, "the first is still counted"
    again.replace_disk(DISKS[0])
    assert again.instant_snapshots() == []


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"now": 1}', b"[1, 2"])
def test_what_is_no_saved_cloud_is_not_taken_for_one(damage: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(damage, type=Saved)

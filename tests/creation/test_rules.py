"""What a point is made of, and when it counts as verified."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from dataclasses import replace as changed
from datetime import date, datetime, timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.makers import (
    INSTANCE_ID,
    PROJECT,
    REGION,
    THEN,
    ZONE,
    attached,
    disk,
    instance,
    machine,
    operation,
    point,
    point_disk,
    snapshot,
    tenant,
)

from snapkeep import cloud
from snapkeep.cloud import AttachedDisk, Disk, InsertSnapshot, Operation, Snapshot
from snapkeep.creation import rules
from snapkeep.documents import Failure, Newest, Point, PointDisk, PointState, Retention, Schedule, Slot, SnapshotRef
from snapkeep.documents import Tenant as TenantDocument

NOW = THEN + timedelta(minutes=1)
OWNER = tenant()
Step = rules.Step[InsertSnapshot]


def begin(
    found: cloud.Instance | None,
    *disks: Disk,
    at: datetime = NOW,
    owner: TenantDocument = OWNER,
    of: Point | None = None,
) -> Step:
    return rules.begin(of or point(), owner, found, {d.link: d for d in disks}, at)


# --- begin --------------------------------------------------------------------------------------------------------


def many(count: int) -> tuple[Disk, ...]:
    return tuple(disk(id=str(n), name=f"d{n}") for n in range(count))


@pytest.mark.parametrize(
    ("found", "disks", "code", "says"),
    [
        (None, (), "instance_gone", ZONE),
        (machine(id="2"), (disk(),), "instance_replaced", "2, not " + INSTANCE_ID),
        (machine(disks=()), (), "no_disks", "acme-pam-1"),
        (machine(disks=(attached(""),)), (), "no_disks", "acme-pam-1"),
        (machine(*many(129)), many(129), "too_many_disks", "at most 128"),
        (machine(), (), "disk_gone", disk().link),
        (machine(disk(customer_supplied_key=True)), (disk(customer_supplied_key=True),), "csek_disk", "CSEK"),
        (
            machine(disk(zone=None, region="us-east1")),
            (disk(zone=None, region="us-east1"),),
            "wrong_region",
            "not in southamerica-east1",
        ),
    ],
)
def test_a_point_that_cannot_be_taken_ends_with_the_reason(
    found: cloud.Instance | None, disks: tuple[Disk, ...], code: str, says: str
) -> None:
    step = begin(found, *disks)
    assert step.point.state == "failed"
    assert step.point.failure is not None
    assert step.point.failure.code == code
    assert says in step.point.failure.message
    assert step.point.next_at is None
    assert (step.intents, step.starts, step.outcomes) == ((), (), ())
    assert step.point.stored_for is None, "nothing of it is stored"


def test_a_point_keeps_what_a_restored_disk_is_to_carry() -> None:
    policy = f"projects/{PROJECT}/regions/{REGION}/resourcePolicies/nightly"
    one = disk(labels={"team": "pam"}, resource_policies=(policy,))
    (entry,) = begin(machine(one), one).point.disks
    assert (entry.labels, entry.resource_policies) == ({"team": "pam"}, [policy])


def test_labels_beyond_the_bound_are_left_out_by_name() -> None:
    long = {f"l{number:02}".ljust(60, "x"): "y" * 60 for number in range(64)}
    disks = tuple(disk(id=str(n), name=f"d{n:03}", labels=long) for n in range(20))
    begun = begin(machine(*disks), *disks).point
    labelled = [entry.device_name for entry in begun.disks if entry.labels]
    assert 0 < len(labelled) < 20
    rest = [f"labels of disk {d.name}" for d in disks if d.name not in labelled]
    assert begun.definition["left_out"] == rest


def test_a_point_before_a_restore_is_not_taken_of_what_the_restore_has_put_in() -> None:
    restore, other = "20261101-p-acme-pam-1-0badcafe", "20261001-p-acme-pam-1-0badcafe"
    mine = disk(labels={"snapkeep-restore": restore})
    wanted = rules.pre_restore_point(OWNER, instance(), restore, NOW)
    late = begin(machine(mine), mine, of=wanted).point
    assert (late.state, late.failure and late.failure.code) == ("failed", "too_late")
    former = disk(labels={"snapkeep-restore": other})
    assert begin(machine(former), former, of=wanted).point.state == "creating"
    assert begin(machine(mine), mine).point.state == "creating"


def test_one_disk_with_a_customer_supplied_key_refuses_the_whole_point() -> None:
    good, bad = disk(), disk(id="2", name="keyed", customer_supplied_key=True)
    step = begin(machine(good, bad), good, bad)
    assert step.point.state == "failed"
    assert step.starts == ()


@pytest.mark.parametrize(
    ("status", "used", "flush"), [("RUNNING", "guest_flush", True), ("TERMINATED", "at_rest", False)]
)
def test_a_guest_that_runs_is_asked_to_flush_and_one_that_does_not_has_its_disks_at_rest(
    status: str, used: str, flush: bool
) -> None:
    step = begin(machine(status=status), disk(), owner=tenant(consistency="guest_flush"))
    assert step.point.consistency == used
    assert [change.guest_flush for change in step.starts] == [flush]


@pytest.mark.parametrize("status", ["STAGING", "STOPPING", "SUSPENDED", "REPAIRING"])
def test_a_guest_that_is_neither_running_nor_stopped_cannot_flush(status: str) -> None:
    step = begin(machine(status=status), disk(), owner=tenant(consistency="guest_flush"))
    assert step.point.failure is not None
    assert step.point.failure.code == "guest_not_running"
    assert status in step.point.failure.message
    assert begin(machine(status=status), disk()).point.state == "creating", "no matter where nobody is to flush"


def test_every_persistent_disk_gets_a_snapshot_in_the_home_region_and_local_ssds_are_named_as_left_out() -> None:
    boot, data = disk(), disk(id="2", name="acme-pam-1-data")
    found = machine(
        disks=(attached(boot.link), attached(data.link, mode="READ_ONLY"), attached("", device_name="local-ssd-0"))
    )
    step = begin(found, boot, data)
    assert step.point.state == "creating"
    assert step.point.started_at == NOW
    assert step.point.stored_for == INSTANCE_ID
    assert [(d.name, d.id, d.mode, d.attempts) for d in step.point.disks] == [
        ("acme-pam-1-boot", "1", "READ_WRITE", 1),
        ("acme-pam-1-data", "2", "READ_ONLY", 1),
    ]
    assert step.intents == step.starts
    assert [change.location for change in step.starts] == [REGION, REGION]
    assert [change.source_disk for change in step.starts] == [boot.link, data.link]
    assert len({change.name for change in step.starts}) == 2
    assert step.point.definition["left_out"] == ["disk local-ssd-0 (local SSD)"]
    assert step.point.next_at is not None


def test_a_regional_disk_is_asked_for_in_its_region_and_stored_in_the_home_region() -> None:
    regional = disk(zone=None, replica_zones=(ZONE, "southamerica-east1-b"))
    (change,) = begin(machine(regional), regional).starts
    assert change.source_disk == f"projects/{PROJECT}/regions/{REGION}/disks/acme-pam-1-boot"
    assert change.location == REGION
    (entry,) = begin(machine(regional), regional).point.disks
    assert entry.zone is None
    assert entry.replica_zones == [ZONE, "southamerica-east1-b"]


def test_snapshots_go_to_the_vault_project_with_labels_for_people() -> None:
    of = point(vault_project="acme-vault")
    (change,) = begin(machine(), disk(), of=of).starts
    assert change.project == "acme-vault"
    assert change.labels == {"snapkeep-tenant": "acme", "snapkeep-point": of.id, "snapkeep-role": "home"}
    assert all(re.fullmatch(r"[a-z0-9_-]{0,63}", value) for value in change.labels.values())


@pytest.mark.parametrize(
    ("of_tenant", "of_disk", "expected"),
    [
        ({}, None, None),
        ({}, "disk-key", "disk-key"),
        ({REGION: "tenant-key"}, "disk-key", "tenant-key"),
        ({REGION: "tenant-key"}, None, "tenant-key"),
        ({"us-east1": "elsewhere"}, "disk-key", "disk-key"),
    ],
)
def test_the_tenants_key_of_the_home_region_comes_before_the_disks_own(
    of_tenant: dict[str, str], of_disk: str | None, expected: str | None
) -> None:
    keyed = disk(kms_key=of_disk)
    (change,) = begin(machine(keyed), keyed, owner=tenant(kms_keys=of_tenant)).starts
    assert change.kms_key == expected


def test_a_definition_keeps_settings_and_names_every_secret_that_it_leaves_out() -> None:
    items = [
        {"key": "enable-oslogin", "value": "TRUE"},
        {"key": "startup-script", "value": "curl -u admin:hunter2"},
        {"key": "ssh-keys", "value": "root:ssh-ed25519 AAAA"},
        {"key": "windows-keys"},
        {"key": "user-data", "value": "password: hunter2"},
    ]
    found = machine(
        definition={
            "machineType": "e2-standard-4",
            "metadata": {"items": items, "fingerprint": "x"},
            "networkInterfaces": [{"network": "n", "networkIP": "10.0.0.2"}],
            "keyRevocationActionType": "STOP",
            "id": "1",
            "selfLink": "https://...",
        }
    )
    definition = rules.define(found)
    assert definition["machineType"] == "e2-standard-4"
    assert definition["networkInterfaces"] == [{"network": "n", "networkIP": "10.0.0.2"}]
    assert definition["metadata"] == {"enable-oslogin": "TRUE"}
    assert definition["left_out"] == [
        "keyRevocationActionType",
        "metadata ssh-keys",
        "metadata startup-script",
        "metadata user-data",
        "metadata windows-keys",
    ]
    assert "hunter2" not in str(definition)


@pytest.mark.parametrize(
    "definition", [{}, {"metadata": {}}, {"metadata": {"items": []}}, {"metadata": {"items": [{}]}}]
)
def test_a_definition_with_little_in_it_is_no_reason_to_fail(definition: dict[str, object]) -> None:
    assert begin(machine(definition=definition), disk()).point.state == "creating"


def test_a_definition_that_would_not_fit_a_document_is_refused() -> None:
    step = begin(machine(definition={"description": "x" * (rules.DEFINITION_BYTES_MAX + 1)}), disk())
    assert step.point.failure is not None
    assert step.point.failure.code == "definition_too_large"


# --- names --------------------------------------------------------------------------------------------------------

NAMES = st.from_regex(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)
HOSTILE = st.one_of(NAMES, st.sampled_from(["a" + "-" * 61 + "b", "a", "a" * 63, "a" * 17 + "--" + "b" * 10]))
DAYS = st.dates(min_value=date(2000, 1, 1), max_value=date(2099, 12, 31))


@given(tenant_id=NAMES, machine_name=HOSTILE, disk_name=HOSTILE, day=DAYS, attempt=st.integers(1, rules.ATTEMPTS_MAX))
def test_whatever_things_are_called_names_are_valid_and_stable(
    tenant_id: str, machine_name: str, disk_name: str, day: object, attempt: int
) -> None:
    of = instance(name=machine_name)
    id = rules.point_id(str(day), "scheduled", of, str(day))
    assert re.fullmatch(r"[0-9]{8}-s-[a-z0-9-]{1,24}-[0-9a-f]{8}", id)
    assert len(id) <= 63
    name = rules.snapshot_name(tenant_id, id, machine_name, disk_name, "1", REGION, attempt)
    assert cloud.NAME.fullmatch(name)
    assert len(name) <= 63
    assert name == rules.snapshot_name(tenant_id, id, machine_name, disk_name, "1", REGION, attempt)


def test_snapshot_names_differ_in_everything_that_makes_a_snapshot_another() -> None:
    base = ("acme", "20261101-s-acme-pam-1-00000000", "acme-pam-1", "d", "1", REGION, 1)
    others = [
        ("acmf", *base[1:]),
        (base[0], "20261101-s-acme-pam-1-00000001", *base[2:]),
        (*base[:4], "2", *base[5:]),
        (*base[:5], "us-east1", 1),
        (*base[:6], 2),
    ]
    names = [rules.snapshot_name(*parts) for parts in [base, *others]]
    assert len(set(names)) == len(names)


def test_a_slot_has_one_id_whatever_its_hour_is_edited_to() -> None:
    early = rules.scheduled_point(OWNER, instance(), Slot(day="2026-11-01", at=THEN), NOW)
    late_at = THEN + timedelta(hours=9)
    late = rules.scheduled_point(OWNER, instance(), Slot(day="2026-11-01", at=late_at), late_at)
    assert early.id == late.id == rules.missed_point(OWNER, instance(), Slot(day="2026-11-01", at=THEN), NOW).id


def test_points_of_other_days_instances_and_requests_have_other_ids() -> None:
    one = instance()
    ids = [
        rules.scheduled_point(OWNER, one, Slot(day="2026-11-01", at=THEN), NOW).id,
        rules.scheduled_point(OWNER, one, Slot(day="2026-11-02", at=THEN), NOW).id,
        rules.scheduled_point(OWNER, replace(one, id="5"), Slot(day="2026-11-01", at=THEN), NOW).id,
        rules.scheduled_point(
            OWNER, replace(one, zone="southamerica-east1-b"), Slot(day="2026-11-01", at=THEN), NOW
        ).id,
        rules.scheduled_point(OWNER, replace(one, project="other"), Slot(day="2026-11-01", at=THEN), NOW).id,
        rules.on_demand_point(OWNER, one, "2026-11-01", "me", "why", NOW).id,
        rules.on_demand_point(OWNER, one, "r2", "me", "why", NOW).id,
    ]
    assert len(set(ids)) == len(ids)


def test_a_points_lock_is_fixed_when_it_is_taken() -> None:
    owner = tenant(retention=Retention(lock_days=30))
    assert rules.on_demand_point(owner, instance(), "r", "me", "why", NOW).lock_until == NOW + timedelta(days=30)


def test_asking_again_is_the_same_request_and_another_attempt_is_another() -> None:
    step = begin(machine(), disk())
    (entry,) = step.point.disks
    again = rules.change_for(step.point, entry, OWNER)
    assert again == step.starts[0]
    assert cloud.request_id(again) == cloud.request_id(step.starts[0])
    lost = replace(entry, failure=Failure(code="x", message="x"), retry_at=NOW)
    following = rules.judge(replace(step.point, disks=[lost]), OWNER, {}, {}, NOW)
    assert cloud.request_id(following.starts[0]) != cloud.request_id(again)


# --- start windows ------------------------------------------------------------------------------------------------


def requested(**changes: object) -> Point:
    slot = Slot(day="2026-11-01", at=THEN)
    return replace(rules.scheduled_point(OWNER, instance(), slot, THEN), **changes)


def test_a_scheduled_point_may_start_as_long_as_the_tenants_catch_up_hours_say() -> None:
    owner = tenant(schedule=Schedule(catch_up_hours=20))
    waiting = rules.scheduled_point(owner, instance(), Slot(day="2026-11-01", at=THEN), THEN)
    in_time = THEN + timedelta(hours=20)
    assert rules.late_to_start(waiting, in_time) is None
    begun = begin(machine(), disk(), at=in_time, of=waiting).point
    assert begun.state == "creating"
    assert begun.deadline - in_time > timedelta(hours=6)  # and it still has the time that a snapshot takes
    late = rules.late_to_start(waiting, in_time + timedelta(seconds=1))
    assert late is not None
    assert late.point.state == "missed"
    assert late.point.next_at is None


def test_a_point_that_was_not_started_says_since_when_it_could_not_be_and_what_it_met_last() -> None:
    waiting = requested(failure=Failure(code="paused", message="creation is paused"))
    now = waiting.start_by + timedelta(minutes=1)
    late = rules.late_to_start(waiting, now)
    assert late is not None
    assert late.point.failure is not None
    assert "paused: creation is paused" in late.point.failure.message
    said = re.search(r"not started by (\S+ \S+) UTC", late.point.failure.message)
    assert said is not None
    assert datetime.strptime(said[1] + "+0000", "%Y-%m-%d %H:%M%z") <= now


def test_a_point_on_demand_that_was_not_started_in_time_fails() -> None:
    late = rules.late_to_start(point(), point().start_by + timedelta(seconds=1))
    assert late is not None
    assert late.point.state == "failed"
    assert late.point.failure is not None
    assert late.point.failure.code == "not_started"


def test_a_postponed_point_waits_longer_each_time_and_never_past_its_end() -> None:
    waiting = requested()
    waits = []
    for _ in range(8):
        later = rules.postponed(waiting, Failure(code="503", message="busy"), THEN)
        assert later.next_at is not None
        waits.append(later.next_at - THEN)
        waiting = later
    assert waits[:4] == [timedelta(minutes=m) for m in (1, 2, 4, 8)]
    assert waits[-1] == rules.RETRY_MAX
    just_before = waiting.start_by - timedelta(minutes=2)
    last = rules.postponed(waiting, Failure(code="503", message="busy"), just_before).next_at
    assert last is not None
    assert last <= waiting.start_by + timedelta(minutes=1)


# --- judge: one disk ----------------------------------------------------------------------------------------------

OP = operation().link
HOME = SnapshotRef(project=PROJECT, name="sk-boot-1", location=REGION)
SEEN = SnapshotRef(
    project=PROJECT, name="sk-boot-1", location=REGION, id="9001", status="UPLOADING", created_at=THEN, bytes=10
)
STARTED = point_disk(operation=OP)


def creating(*disks: PointDisk, **changes: object) -> Point:
    fields: dict[str, object] = {"state": "creating", "disks": list(disks or (STARTED,)), "started_at": THEN}
    return point(**fields | changes)


def judge(
    of: Point, *found: Snapshot, at: datetime = NOW, operations: Mapping[str, Operation | None] | None = None
) -> Step:
    return rules.judge(of, OWNER, {s.name: s for s in found}, operations or {}, at)


def test_a_point_is_verified_when_every_snapshot_was_read_as_ready() -> None:
    step = judge(creating(), snapshot())
    assert step.point.state == "verified"
    assert step.point.verified_at == NOW
    assert step.point.next_at is None
    assert step.outcomes == (rules.SnapshotOutcome("sk-boot-1", "succeeded"),)
    (entry,) = step.point.disks
    assert (entry.snapshot.id, entry.snapshot.status, entry.snapshot.bytes) == ("9001", "READY", 1_000)


@pytest.mark.parametrize("status", ["CREATING", "UPLOADING"])
def test_a_snapshot_on_its_way_is_waited_for(status: str) -> None:
    step = judge(creating(), snapshot(status=status))
    assert step.point.state == "creating"
    assert (step.outcomes, step.starts) == ((), ())
    assert step.point.next_at is not None
    assert NOW < step.point.next_at <= NOW + rules.LOOK_MAX


STRANGE = f"projects/{PROJECT}/zones/{ZONE}/disks/strange"

WRONG = [
    ("failed", [snapshot(status="FAILED")], {}, STARTED, "snapshot_failed", True),
    ("being deleted", [snapshot(status="DELETING")], {}, STARTED, "snapshot_lost", True),
    ("of another disk", [snapshot(source_disk_id="2")], {}, STARTED, "disk_replaced", False),
    ("elsewhere", [snapshot(locations=("us",))], {}, STARTED, "wrong_location", False),
    ("in two places", [snapshot(locations=(REGION, "us-east1"))], {}, STARTED, "wrong_location", False),
    ("nowhere", [snapshot(locations=())], {}, STARTED, "wrong_location", False),
    ("someone else's", [snapshot(source_disk=STRANGE, source_disk_id="2")], {}, point_disk(), "name_taken", True),
    ("older than we", [snapshot(created_at=THEN - timedelta(hours=1))], {}, STARTED, "name_taken", True),
    ("older, adopted", [snapshot(created_at=THEN - timedelta(hours=1))], {}, point_disk(), "name_taken", True),
    ("made and gone", [], {OP: operation(status="DONE")}, STARTED, "snapshot_lost", True),
    ("forgotten", [], {OP: None}, STARTED, "snapshot_lost", True),
    ("adopted and gone", [], {}, point_disk(snapshot=SEEN), "snapshot_lost", True),
    (
        "refused for now",
        [],
        {OP: operation(status="DONE", error_code="QUOTA_EXCEEDED", error_message="quota")},
        STARTED,
        "QUOTA_EXCEEDED",
        True,
    ),
    (
        "refused for good",
        [],
        {OP: operation(status="DONE", error_code="RESOURCE_NOT_FOUND", error_message="no disk")},
        STARTED,
        "RESOURCE_NOT_FOUND",
        False,
    ),
    (
        "not a request",
        [],
        {OP: operation(status="DONE", error_code="ODD", http_status=400)},
        STARTED,
        "ODD",
        False,
    ),
]


@pytest.mark.parametrize(
    ("found", "operations", "entry", "code", "again"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG]
)
def test_a_snapshot_that_is_not_what_was_asked_for_fails_its_attempt(
    found: list[Snapshot], operations: dict[str, Operation | None], entry: PointDisk, code: str, again: bool
) -> None:
    step = judge(creating(entry), *found, operations=operations)
    assert [(o.name, o.outcome, o.code) for o in step.outcomes] == [("sk-boot-1", "failed", code)]
    assert step.starts == ()
    (after,) = step.point.disks
    if again:
        assert step.point.state == "creating"
        assert after.retry_at is not None
        assert step.point.next_at == after.retry_at
    else:
        assert step.point.state == "failed"
        assert step.point.failure is not None
        assert step.point.failure.code == code
        assert step.point.next_at is None


def test_a_disk_rate_error_is_tried_again_after_ten_minutes() -> None:
    done = operation(status="DONE", error_code="RESOURCE_OPERATION_RATE_EXCEEDED", error_message="slow down")
    (after,) = judge(creating(), operations={OP: done}).point.disks
    assert after.retry_at == NOW + timedelta(minutes=10)


def test_a_snapshot_of_another_name_or_owner_of_the_same_disk_is_not_looked_at() -> None:
    step = judge(creating(), snapshot(name="someone-elses"), operations={OP: operation()})
    assert step.point.state == "creating"
    assert step.outcomes == ()


def test_a_snapshot_that_our_dead_run_made_is_adopted() -> None:
    step = judge(creating(point_disk()), snapshot(status="UPLOADING"))
    (entry,) = step.point.disks
    assert entry.snapshot.id == "9001"
    assert step.starts == ()
    assert judge(step.point, snapshot()).point.state == "verified"


def test_a_snapshot_whose_start_left_no_sign_is_asked_for_again_by_the_same_name() -> None:
    step = judge(creating(point_disk()))
    assert [change.name for change in step.starts] == ["sk-boot-1"]
    assert step.intents == ()  # the intent stands already
    assert step.point.disks[0].attempts == 1


def test_an_operation_that_still_runs_is_waited_for() -> None:
    step = judge(creating(), operations={OP: operation(status="RUNNING")})
    assert step.point.state == "creating"
    assert (step.outcomes, step.starts) == ((), ())


@pytest.mark.parametrize("operations", [{OP: operation(status="RUNNING")}, {}])
def test_a_snapshot_that_was_ready_and_is_not_there_now_verifies_nothing(
    operations: dict[str, Operation | None],
) -> None:
    ready = point_disk(operation=OP, snapshot=replace(SEEN, status="READY"))
    step = judge(creating(ready), operations=operations)
    assert step.point.state == "creating"
    assert step.starts == ()


def test_ready_snapshots_are_read_again_until_the_last_one_is_ready_too() -> None:
    first = point_disk(operation=OP, snapshot=replace(SEEN, status="READY"))
    second = point_disk(
        id="2", name="data", operation=OP + "2", snapshot=SnapshotRef(project=PROJECT, name="sk-2", location=REGION)
    )
    step = judge(
        creating(first, second),
        snapshot(name="sk-2", id="9002", source_disk_id="2"),
        operations={OP: operation(status="DONE")},
    )
    assert step.point.state == "creating"
    assert [(o.name, o.code) for o in step.outcomes] == [("sk-boot-1", "snapshot_lost")]


def test_a_retry_is_a_new_name_with_its_intent_and_the_old_name_has_its_outcome() -> None:
    failed = judge(creating(), snapshot(status="FAILED")).point
    assert failed.next_at is not None
    early = judge(failed, snapshot(status="FAILED"), at=failed.next_at - timedelta(seconds=1))
    assert (early.outcomes, early.starts) == ((), ())
    step = judge(failed, snapshot(status="FAILED"), at=failed.next_at)
    assert step.outcomes == ()
    assert step.starts == step.intents
    (change,) = step.intents
    assert change.name != "sk-boot-1"
    (entry,) = step.point.disks
    assert (entry.attempts, entry.operation, entry.failure, entry.snapshot.id) == (2, None, None, None)
    assert [(ref.name, ref.id) for ref in entry.superseded] == [("sk-boot-1", "9001")], "it goes when the point does"


def test_attempts_are_bounded_and_wait_longer_each_time() -> None:
    now = NOW
    of = creating()
    waits: list[timedelta] = []
    names = []
    while of.state == "creating":
        names.append(of.disks[0].snapshot.name)
        of = judge(of, snapshot(name=names[-1], status="FAILED", created_at=now), at=now).point
        if of.next_at is None:
            break
        waits.append(of.next_at - now)
        now = of.next_at
        of = judge(of, at=now).point
    assert len(names) == len(set(names)) == rules.ATTEMPTS_MAX
    assert [ref.name for ref in of.disks[0].superseded] == names[:-1]
    assert waits == sorted(waits)
    assert of.failure is not None
    assert of.failure.code == "snapshot_failed"


def test_a_stuck_snapshot_ends_its_point_at_the_deadline_with_what_is_missing() -> None:
    step = judge(creating(), snapshot(status="UPLOADING"), at=point().deadline)
    assert step.point.state == "failed"
    assert step.point.failure is not None
    assert step.point.failure.code == "deadline"
    assert "acme-pam-1-boot (UPLOADING)" in step.point.failure.message
    assert [(o.name, o.outcome) for o in step.outcomes] == [("sk-boot-1", "failed")]


def on_its_way(size_gb: int = 100, expected_s: int = 180, attempts: int = 1) -> Point:
    entry = point_disk(operation=OP, size_gb=size_gb, snapshot=SEEN, attempts=attempts)
    return creating(entry, expected_s=expected_s)


def test_a_stuck_snapshot_is_given_up_for_another_one_while_that_one_has_as_long() -> None:
    uploading = snapshot(status="UPLOADING", created_at=THEN)
    assert judge(on_its_way(), uploading, at=THEN + rules.STUCK_AFTER).outcomes == ()
    given_up = judge(on_its_way(), uploading, at=THEN + rules.STUCK_AFTER + timedelta(minutes=6))
    assert [(o.outcome, o.code) for o in given_up.outcomes] == [("failed", "snapshot_stuck")]
    assert "is UPLOADING after 4.1 h" in given_up.outcomes[0].message
    assert given_up.point.next_at is not None
    again = judge(given_up.point, uploading, at=given_up.point.next_at)
    assert len(again.intents) == 1
    assert again.intents[0].name != uploading.name
    last = point().deadline - rules.STUCK_AFTER
    assert judge(on_its_way(), uploading, at=last).outcomes != ()
    assert judge(on_its_way(), uploading, at=last + timedelta(seconds=1)).outcomes == ()


@pytest.mark.parametrize("status", ["CREATING", "UPLOADING"])
@pytest.mark.parametrize(
    ("of", "stuck"),
    [
        (on_its_way(), True),
        (on_its_way(size_gb=450), True),
        (on_its_way(size_gb=500), False),  # may take so long to upload
        (on_its_way(expected_s=9_000), False),  # took half as long last time
        (on_its_way(attempts=rules.ATTEMPTS_MAX), False),  # and there is no other one to come
    ],
)
def test_a_snapshot_is_stuck_when_neither_its_size_nor_its_history_explain_how_long_it_takes(
    of: Point, status: str, stuck: bool
) -> None:
    step = judge(of, snapshot(status=status, created_at=THEN), at=THEN + rules.STUCK_AFTER + timedelta(minutes=1))
    assert bool(step.outcomes) == stuck
    assert step.point.state == "creating"


@pytest.mark.parametrize("seen", [SEEN, replace(SEEN, id=None, status=None, created_at=None)])
def test_an_operation_that_never_ends_is_given_up_too_where_there_is_no_snapshot(seen: SnapshotRef) -> None:
    of = creating(point_disk(operation=OP, snapshot=seen, attempts=1), updated_at=THEN)
    running: dict[str, Operation | None] = {OP: operation(link=OP)}
    assert judge(of, operations=running, at=THEN + rules.STUCK_AFTER).outcomes == ()
    given_up = judge(of, operations=running, at=THEN + rules.STUCK_AFTER + timedelta(minutes=1))
    assert [(o.outcome, o.code) for o in given_up.outcomes] == [("failed", "snapshot_stuck")]
    assert given_up.point.next_at is not None
    assert len(judge(given_up.point, at=given_up.point.next_at).intents) == 1
    late = judge(of, operations=running, at=of.deadline)
    assert late.point.failure is not None
    assert late.point.failure.message.endswith("acme-pam-1-boot (asked for and not there)")


def test_a_first_snapshot_of_a_terabyte_that_uploads_slowly_is_never_given_up() -> None:
    of = on_its_way(size_gb=1_000)
    for hours in range(12):
        now = THEN + timedelta(hours=hours)
        assert judge(of, snapshot(status="UPLOADING", created_at=THEN), at=now).outcomes == ()


# --- judge: one moment --------------------------------------------------------------------------------------------

DATA = SnapshotRef(project=PROJECT, name="sk-2", location=REGION)


def two_disks(attempts: int = 1, **changes: object) -> Point:
    """Boot and data, both asked for; `attempts` are those of the boot disk."""
    boot = point_disk(operation=OP, attempts=attempts)
    return creating(boot, point_disk(id="2", name="data", operation=OP + "2", attempts=2, snapshot=DATA), **changes)


def taken_apart(by: timedelta, status: str = "READY") -> tuple[Snapshot, Snapshot]:
    """Snapshots of both, that of the data disk so much later than that of the boot disk."""
    return (
        snapshot(created_at=THEN),
        snapshot(name="sk-2", id="9002", source_disk_id="2", status=status, created_at=THEN + by),
    )


def test_snapshots_that_were_taken_within_the_longest_spread_make_a_point() -> None:
    step = judge(two_disks(), *taken_apart(rules.SPREAD_MAX), at=THEN + timedelta(hours=2))
    assert step.point.state == "verified"


@pytest.mark.parametrize("status", ["READY", "UPLOADING"])
def test_a_snapshot_that_is_older_than_another_ones_moment_is_outdated_and_taken_anew(status: str) -> None:
    both = taken_apart(rules.SPREAD_MAX + timedelta(seconds=1), status)
    now = THEN + timedelta(minutes=70)
    step = judge(two_disks(), *both, at=now)
    assert step.point.state == "creating"
    assert step.intents == ()
    ((name, outcome, code, message),) = ((o.name, o.outcome, o.code, o.message) for o in step.outcomes)
    assert (name, outcome, code) == ("sk-boot-1", "failed", "snapshot_outdated")
    assert "acme-pam-1-boot was taken at 2026-11-01 00:00:00 UTC" in message
    assert "data at 2026-11-01 01:00:01 UTC" in message
    assert step.point.next_at is not None
    again = judge(step.point, *both, at=step.point.next_at)
    assert again.outcomes == ()
    (change,) = again.intents
    assert change.source_disk.endswith("/acme-pam-1-boot")
    assert change.name != "sk-boot-1"
    made = snapshot(name=change.name, id="9003", created_at=step.point.next_at)
    ended = judge(again.point, made, taken_apart(rules.SPREAD_MAX + timedelta(seconds=1))[1], at=now + rules.LOOK_MAX)
    assert ended.point.state == "verified"
    assert rules.spread(ended.point.disks) <= rules.SPREAD_MAX


@pytest.mark.parametrize(
    ("of", "now"),
    [
        (two_disks(attempts=rules.ATTEMPTS_MAX), THEN + timedelta(hours=8)),
        (two_disks(), point().deadline - rules.LAST_START),  # the pause ends later
        (two_disks(), point().deadline + timedelta(hours=1)),
    ],
)
def test_a_point_whose_disks_cannot_be_had_of_one_moment_fails_and_says_so(of: Point, now: datetime) -> None:
    step = judge(of, *taken_apart(timedelta(hours=4)), at=now)
    assert step.point.state == "failed"
    assert step.point.failure is not None
    assert step.point.failure.code == "snapshot_outdated"
    assert [(o.name, o.outcome) for o in step.outcomes] == [("sk-boot-1", "failed"), ("sk-2", "succeeded")]


def test_an_attempt_that_has_ended_outdates_nothing() -> None:
    boot, _ = taken_apart(timedelta(0))
    lost = snapshot(name="sk-2", id="9002", source_disk_id="2", status="FAILED", created_at=THEN + timedelta(hours=4))
    step = judge(two_disks(), boot, lost, at=THEN + timedelta(hours=5))
    assert [(o.name, o.code) for o in step.outcomes] == [("sk-2", "snapshot_failed")]


def test_a_point_that_is_incomplete_at_its_deadline_says_of_each_disk_why() -> None:
    failed = point_disk(
        id="2",
        name="data",
        snapshot=replace(DATA, status="READY"),
        failure=Failure(code="snapshot_outdated", message="x"),
        retry_at=point().deadline,
    )
    step = judge(creating(STARTED, failed), snapshot(), at=point().deadline)
    assert step.point.failure is not None
    assert step.point.failure.message.endswith("UTC: data (snapshot_outdated)")


def test_a_snapshot_that_is_ready_after_hours_was_not_stuck() -> None:
    assert judge(on_its_way(), snapshot(created_at=THEN), at=THEN + timedelta(hours=7)).point.state == "verified"


def test_a_point_that_is_complete_when_it_is_looked_at_late_is_verified_all_the_same() -> None:
    assert judge(creating(), snapshot(), at=point().deadline + timedelta(hours=1)).point.state == "verified"


def test_a_hopeless_point_ends_only_when_nothing_of_it_is_alive() -> None:
    other = point_disk(
        id="2", name="data", operation=OP + "2", snapshot=SnapshotRef(project=PROJECT, name="sk-2", location=REGION)
    )
    uploading = snapshot(name="sk-2", id="9002", source_disk_id="2", status="UPLOADING")
    wrong = snapshot(locations=("us",))
    waiting = judge(creating(STARTED, other), wrong, uploading)
    assert waiting.point.state == "creating"
    assert [o.name for o in waiting.outcomes] == ["sk-boot-1"]
    assert waiting.point.next_at == NOW + rules.LOOK_MIN
    still = judge(waiting.point, wrong, uploading, at=NOW + timedelta(hours=1))
    assert still.point.state == "creating"
    assert (still.outcomes, still.starts) == ((), ())
    ended = judge(still.point, wrong, replace_status(uploading, "READY"), at=NOW + timedelta(hours=2))
    assert ended.point.state == "failed"
    assert ended.point.failure is not None
    assert ended.point.failure.code == "wrong_location"
    strayed = ended.point.disks[0].snapshot
    assert (strayed.id, strayed.status) == (wrong.id, None), "known, so that it can go with the point"
    assert [(o.name, o.outcome) for o in ended.outcomes] == [("sk-2", "succeeded")]


def test_a_hopeless_point_waits_for_a_start_that_may_still_be_on_its_way_and_never_repeats_it() -> None:
    dead = point_disk(
        id="2", name="data", failure=Failure(code="invalid", message="no"), snapshot=replace(HOME, name="sk-2")
    )
    of = creating(point_disk(), dead)
    soon = judge(of, at=NOW)
    assert soon.point.state == "creating"
    assert soon.starts == ()
    settled = judge(soon.point, at=THEN + rules.UNKNOWN_SETTLED)
    assert settled.point.state == "failed"
    assert [(o.name, o.outcome) for o in settled.outcomes] == [("sk-boot-1", "failed")]


def test_nothing_is_tried_again_in_the_last_minutes() -> None:
    failed = point_disk(failure=Failure(code="x", message="x"), retry_at=THEN)
    edge = point().deadline - rules.LAST_START
    assert judge(creating(failed), at=edge).starts != ()
    late = judge(creating(failed), at=edge + timedelta(seconds=1))
    assert late.starts == ()
    assert late.point.next_at is not None
    assert late.point.next_at > edge + timedelta(seconds=1)


def test_a_point_that_cannot_be_read_by_its_deadline_is_not_verified() -> None:
    ready = point_disk(operation=OP, snapshot=replace(SEEN, status="READY"))
    gone = point_disk(id="2", failure=Failure(code="x", message="x"), snapshot=replace(HOME, name="sk-2"))
    step = rules.unread(creating(ready, gone), Failure(code="503", message="busy"), point().deadline)
    assert step.point.state == "failed"
    assert [(o.name, o.outcome) for o in step.outcomes] == [("sk-boot-1", "failed")]  # sk-2 has its outcome already


# --- judge: any history of the cloud ------------------------------------------------------------------------------


@dataclass
class RandomCloud:
    """A cloud that does what it likes with what is asked of it, and a driver that carries out every step."""

    random: Random
    point: Point
    now: datetime
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    operations: dict[str, Operation] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    outcomes: list[tuple[str, str]] = field(default_factory=list)
    outdated: set[str] = field(default_factory=set)
    shown: dict[str, Snapshot] = field(default_factory=dict)
    ids: int = 1

    def take(self, step: Step) -> None:
        self.point = step.point
        self.outcomes += [(o.name, o.outcome) for o in step.outcomes]
        self.outdated |= {o.name for o in step.outcomes if o.code == "snapshot_outdated"}
        self.asked += [change.name for change in step.intents]
        assert {c.name for c in step.intents} <= {c.name for c in step.starts}
        for change in step.starts:
            assert self.now <= self.point.deadline - rules.LAST_START
            self.start(change)
        if step.starts:
            self.never_two_alive()

    def start(self, change: InsertSnapshot) -> None:
        """The start may be lost, take effect unseen, be refused, or be answered."""
        fate = self.random.choice(["lost", "unseen", "refused", "invalid", "answered", "answered", "answered"])
        if self.random.random() < 0.05 and change.name not in self.snapshots:
            self.snapshots[change.name] = snapshot(
                id="666", name=change.name, source_disk_id="666", created_at=self.now - timedelta(days=9)
            )
        if fate == "lost":
            return
        if fate in ("refused", "invalid"):
            disks = []
            for entry in self.point.disks:
                if entry.snapshot.name == change.name and not entry.failure and change.name not in self.snapshots:
                    code = "invalid" if fate == "invalid" and self.random.random() < 0.3 else "forbidden"
                    entry = rules.refused(entry, code, "no", self.now)
                    self.outcomes.append((change.name, "failed"))
                disks.append(entry)
            self.point = replace(self.point, disks=disks, updated_at=self.now)
            return
        if change.name in self.snapshots:
            return  # 409: whose it is shows when it is read
        (entry,) = [d for d in self.point.disks if d.snapshot.name == change.name]
        self.ids += 1
        link = f"op-{self.ids}"
        source = "999" if self.random.random() < 0.05 else entry.id
        where = ("us",) if self.random.random() < 0.05 else (change.location,)
        self.snapshots[change.name] = snapshot(
            id=str(self.ids),
            name=change.name,
            status="CREATING",
            source_disk_id=source,
            locations=where,
            created_at=self.now,
        )
        self.operations[link] = operation(link=link, target=change.name)
        if fate == "answered":
            noted = [replace(d, operation=link) if d is entry else d for d in self.point.disks]
            self.point = replace(self.point, disks=noted, updated_at=self.now)

    def live(self) -> None:
        """Time passes, and the cloud with it."""
        for name, held in list(self.snapshots.items()):
            status = {"CREATING": "UPLOADING", "UPLOADING": "READY"}.get(held.status, held.status)
            fate = self.random.random()
            if fate < 0.4:
                self.snapshots[name] = changed(held, status=status)
            elif fate < 0.45:
                self.snapshots[name] = changed(held, status=self.random.choice(["FAILED", "DELETING"]))
            elif fate < 0.5:
                del self.snapshots[name]
        for link, running in list(self.operations.items()):
            held_now = self.snapshots.get(running.target)
            if held_now is None and self.random.random() < 0.3:
                code = self.random.choice([None, "QUOTA_EXCEEDED", "RESOURCE_NOT_FOUND"])
                self.operations[link] = changed(running, status="DONE", error_code=code)
            elif held_now is not None and held_now.status == "READY" and self.random.random() < 0.5:
                self.operations[link] = changed(running, status="DONE")

    def look(self) -> Step:
        self.shown = dict(self.snapshots)
        wanted = [d.operation for d in self.point.disks if d.operation and d.snapshot.name not in self.shown]
        known = {link: self.operations.get(link) if self.random.random() < 0.98 else None for link in wanted}
        return rules.judge(self.point, OWNER, self.shown, known, self.now)

    def never_two_alive(self) -> None:
        """What an earlier attempt made is stuck, outdated, or no longer on its way when the next one starts."""
        current = {entry.snapshot.name for entry in self.point.disks}
        ids = {entry.id for entry in self.point.disks}
        for name, held in self.snapshots.items():
            given_up = name in self.outdated or self.now - held.created_at > rules.STUCK_AFTER
            if name not in current and held.status in ("CREATING", "UPLOADING") and not given_up:
                assert held.source_disk_id not in ids or held.locations != (REGION,), f"{name} beside its successor"


@given(seed=st.integers(0, 2**32), count=st.integers(1, 4))
def test_every_snapshot_ever_asked_for_has_exactly_one_outcome_when_its_point_has_ended(seed: int, count: int) -> None:
    disks = many(count)
    begun = begin(machine(*disks), *disks)
    driver = RandomCloud(Random(seed), point(), NOW)  # noqa: S311 - seeded on purpose
    driver.take(begun)
    steps = 0
    while driver.point.state == "creating":
        steps += 1
        assert steps < 2_000, "the point never ends"
        assert driver.point.next_at is not None
        if driver.point.next_at > driver.now:
            driver.now = driver.point.next_at
        else:
            driver.now += timedelta(minutes=1)
        if driver.random.random() < 0.3:
            driver.now += timedelta(minutes=driver.random.randrange(90))
        driver.live()
        driver.take(driver.look())
    assert sorted(name for name, _ in driver.outcomes) == sorted(driver.asked)
    assert driver.now <= driver.point.deadline + timedelta(hours=3)
    assert all(entry.attempts <= rules.ATTEMPTS_MAX for entry in driver.point.disks)
    if driver.point.state == "verified":
        for entry in driver.point.disks:
            read = driver.shown[entry.snapshot.name]
            assert (read.status, read.source_disk_id, read.locations) == ("READY", entry.id, (REGION,))
            assert (read.id, read.status) == (entry.snapshot.id, entry.snapshot.status)
        times = [driver.shown[entry.snapshot.name].created_at for entry in driver.point.disks]
        assert max(times) - min(times) <= rules.SPREAD_MAX
        succeeded = {name for name, outcome in driver.outcomes if outcome == "succeeded"}
        assert succeeded == {entry.snapshot.name for entry in driver.point.disks}
    else:
        assert driver.point.state == "failed"
        assert driver.point.failure is not None
        assert driver.point.next_at is None


# --- an instance's bookkeeping ------------------------------------------------------------------------------------


def verified_at(minutes: int, **changes: object) -> Point:
    made = THEN + timedelta(minutes=minutes)
    entry = point_disk(snapshot=replace(SEEN, status="READY", created_at=made, bytes=500))
    fields: dict[str, object] = {"state": "verified", "verified_at": made + timedelta(minutes=10)}
    return creating(entry, **fields | {"started_at": made} | changes)


def test_a_point_brings_back_the_moment_of_its_earliest_snapshot() -> None:
    early = point_disk(snapshot=replace(SEEN, created_at=THEN))
    late = point_disk(id="2", snapshot=replace(SEEN, created_at=THEN + timedelta(hours=1)))
    assert rules.taken_at(creating(late, early)) == THEN
    assert rules.taken_at(creating(point_disk())) == THEN  # requested_at, where nothing was read


def test_a_verified_point_becomes_the_newest_and_moves_the_breach() -> None:
    before = creating()
    after = rules.after_transition(instance(), OWNER, before, verified_at(5))
    assert after.newest_verified is not None
    assert after.newest_verified.at == THEN + timedelta(minutes=5)
    assert after.breach_due_at == THEN + timedelta(minutes=5, hours=26)


@pytest.mark.parametrize(
    ("state", "stored_for", "weighed_at"),
    [("verified", INSTANCE_ID, NOW), ("failed", INSTANCE_ID, NOW), ("failed", None, None), ("missed", None, None)],
)
def test_a_point_that_ends_and_holds_snapshots_has_its_instance_weighed(
    state: str, stored_for: str | None, weighed_at: datetime | None
) -> None:
    ended = creating(state=state, stored_for=stored_for, updated_at=NOW)
    after = rules.after_transition(instance(), OWNER, creating(), ended)
    assert (after.retention_at, after.retention.plan_at) == (weighed_at, weighed_at)


@pytest.mark.parametrize(
    ("trigger", "expected_s", "seen", "learnt_s"),
    [
        ("scheduled", 400, False, 360),  # READY at the first look: a little less than was planned
        ("scheduled", 7_200, False, 810),  # and no look is planned later than LOOK_MAX
        ("on_demand", 400, False, 162),  # nor of what somebody waits for later than FIRST_EXPECTED
        ("scheduled", 20, False, 54),
        ("scheduled", 400, True, 600),  # more looks: what it took
    ],
)
def test_an_instance_learns_when_its_next_point_is_worth_a_look(
    trigger: str, expected_s: int, seen: bool, learnt_s: int
) -> None:
    before = creating(point_disk(operation=OP, snapshot=SEEN) if seen else STARTED)
    ended = verified_at(5, trigger=trigger, expected_s=expected_s)  # 10 minutes after its start
    learnt = rules.after_transition(instance(), OWNER, before, ended).newest_verified
    assert learnt is not None
    assert learnt.took_s == learnt_s


def test_an_older_point_that_is_verified_later_does_not_become_the_newest() -> None:
    newest = Newest(point="n", at=THEN + timedelta(hours=1), took_s=60)
    after = rules.after_transition(instance(newest_verified=newest), OWNER, creating(), verified_at(5))
    assert after.newest_verified == newest
    assert after.tally.verified == 1


@pytest.mark.parametrize(
    ("before", "after", "running", "verified", "failed", "missed"),
    [
        (None, "requested", 1, 0, 0, 0),
        ("requested", "creating", 0, 0, 0, 0),
        ("creating", "verified", -1, 1, 0, 0),
        ("creating", "failed", -1, 0, 1, 0),
        ("requested", "failed", -1, 0, 1, 0),
        ("requested", "missed", -1, 0, 0, 1),
        (None, "missed", 0, 0, 0, 1),
    ],
)
def test_the_tally_follows_every_change_of_state(
    before: PointState | None, after: PointState, running: int, verified: int, failed: int, missed: int
) -> None:
    start = replace(instance(), tally=replace(instance().tally, running=3))
    one = verified_at(5)
    tally = rules.after_transition(
        start, OWNER, replace(one, state=before) if before else None, replace(one, state=after)
    ).tally
    assert (tally.running - 3, tally.verified, tally.failed, tally.missed) == (running, verified, failed, missed)
    assert (tally.stored, tally.bytes) == ((1, 500) if after == "verified" else (0, 0))


def test_the_tally_keeps_the_last_days_of_scheduled_points_only() -> None:
    one = instance()
    for number in range(60):
        day = (THEN + timedelta(days=number)).date().isoformat()
        ended = verified_at(5, slot=Slot(day=day, at=THEN), trigger="scheduled")
        one = rules.after_transition(one, OWNER, creating(), ended)
    assert len(one.tally.days) == rules.DAYS_SHOWN
    assert max(one.tally.days) == "2026-12-30"
    on_demand = rules.after_transition(one, OWNER, creating(), verified_at(5))
    assert on_demand.tally.days == one.tally.days


def test_an_instance_is_in_breach_rpo_hours_after_its_newest_point_or_after_it_was_first_seen() -> None:
    hours = timedelta(hours=26)
    assert rules.breach_due(instance(), OWNER) == THEN + hours
    newest = Newest(point="n", at=THEN + timedelta(hours=5), took_s=60)
    assert rules.breach_due(instance(newest_verified=newest), OWNER) == THEN + timedelta(hours=5) + hours
    assert rules.breach_due(instance(lost_at=THEN), OWNER) is None
    assert rules.breach_due(instance(), tenant(deployment="private_saas")) is None


def replace_status(of: Snapshot, status: str) -> Snapshot:
    return changed(of, status=status)


def test_a_local_ssd_alone_is_not_a_disk() -> None:
    scratch: AttachedDisk = attached("")
    assert not scratch.persistent


@pytest.mark.parametrize("expected_s", [1, 60, 299, 301, 840, 3600])
@pytest.mark.parametrize("past_s", [0, 1, 119, 299])
def test_scheduled_points_are_looked_at_together_and_never_later_than_the_longest_wait(
    expected_s: int, past_s: int
) -> None:
    now = NOW.replace(minute=0, second=0) + timedelta(seconds=past_s)
    look = rules.after_start(point(trigger="scheduled", expected_s=expected_s), now)
    assert (look - NOW.replace(minute=0, second=0)) % rules.LOOKS_TOGETHER == timedelta(0)
    assert now + rules.LOOK_MIN <= look <= now + rules.LOOK_MAX
    assert look >= now + min(timedelta(seconds=expected_s), rules.LOOK_MAX - rules.LOOKS_TOGETHER)


def test_a_point_that_somebody_asked_for_is_looked_at_as_soon_as_it_may_be_ready() -> None:
    assert rules.after_start(point(trigger="on_demand", expected_s=90), NOW) == NOW + timedelta(seconds=90)


@pytest.mark.parametrize("trigger", ["on_demand", "pre_maintenance", "pre_restore"])
def test_a_point_on_demand_is_not_slowed_by_what_scheduled_ones_learnt(trigger: str) -> None:
    look = rules.after_start(point(trigger=trigger, expected_s=900), NOW)
    assert look == NOW + rules.FIRST_EXPECTED

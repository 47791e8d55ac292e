"""What a restore would be, and what is refused before anything is stored."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

import pytest
from msgspec.structs import replace
from tests.makers import REGION, THEN, ZONE, copy_of, instance, point, point_disk, tenant
from tests.restore.restores import former

from snapkeep import documents as d
from snapkeep.asking import Clash, Wrong
from snapkeep.restore import planning, rules, words
from snapkeep.restore.definition import NOTHING_TO_START, definition_for
from snapkeep.restore.planning import Plan, RestoreAsk

NOW: Final = THEN + timedelta(days=2)
DR: Final = "us-east1"
OTHER_ZONE: Final = f"{REGION}-b"
BOUGHT: Final = d.Entitlements(
    inter_region_backup=d.InterRegionBackup(region=DR, valid_until="2027-12-31"),
    multi_region_dr=d.MultiRegionDr(region=DR, valid_until="2027-12-31"),
)
RECOVERY: Final = d.Recovery(
    network="projects/acme-prod/global/networks/main",
    subnetworks={DR: f"projects/acme-prod/regions/{DR}/subnetworks/dr"},
    service_account="restored@acme-prod.iam.gserviceaccount.com",
)
API: Final = "https://www.googleapis.com/compute/v1/"
DEFINITION: Final[dict[str, Any]] = {
    "machineType": f"{API}projects/acme-prod/zones/{ZONE}/machineTypes/e2-standard-4",
    "networkInterfaces": [
        {
            "name": "nic0",
            "fingerprint": "abc=",
            "kind": "compute#networkInterface",
            "network": f"{API}projects/acme-prod/global/networks/main",
            "subnetwork": f"{API}projects/acme-prod/regions/{REGION}/subnetworks/main",
            "networkIP": "10.0.0.5",
            "accessConfigs": [{"kind": "compute#accessConfig", "type": "ONE_TO_ONE_NAT", "natIP": "203.0.113.7"}],
        }
    ],
    "tags": {"items": ["web"], "fingerprint": "xyz="},
    "labels": {"tenant": "acme"},
    "serviceAccounts": [{"email": "app@acme-prod.iam.gserviceaccount.com", "scopes": ["cloud-platform"]}],
    "scheduling": {"automaticRestart": True, "nodeAffinities": [{"key": "node"}]},
    "resourcePolicies": [f"{API}projects/acme-prod/regions/{REGION}/resourcePolicies/spread"],
    "deletionProtection": True,
    "metadata": {"enable-oslogin": "TRUE", "startup-script-url": "gs://acme/start.sh"},
    "left_out": ["disk scratch (local SSD)", "metadata startup-script", "resourceStatus"],
}
LACKING: Final = [
    "disk scratch (local SSD)", "metadata startup-script", "address nic0 10.0.0.5", "address nic0 203.0.113.7",
]  # fmt: skip


def snapshot_of(number: int, location: str = REGION) -> d.SnapshotRef:
    return d.SnapshotRef(
        project="acme-vault", name=f"sk-{number}-{location}", location=location, id=f"90{number}", status="READY",
        bytes=1 << 30, created_at=THEN,
    )  # fmt: skip


def verified(**changes: Any) -> d.Point:
    """A verified point of two disks, the second of them regional, with a copy."""
    disks = [
        point_disk(snapshot=snapshot_of(1), labels={"app": "pam"}),
        point_disk(
            name="acme-pam-1-data", id="2", device_name="data", boot=False, size_gb=500, zone=None,
            replica_zones=[ZONE, OTHER_ZONE], type="hyperdisk-balanced-high-availability", snapshot=snapshot_of(2),
        ),
    ]  # fmt: skip
    copied = [d.CopyDisk(id=one.id, name=one.name, snapshot=snapshot_of(int(one.id), DR)) for one in disks]
    fields: dict[str, Any] = {
        "state": "verified",
        "disks": disks,
        "definition": DEFINITION,
        "verified_at": THEN,
        "copies": {DR: copy_of("verified", disks=copied, verified_at=THEN)},
        "next_at": None,
    }
    return point(**fields | changes)


def planned(
    ask: dict[str, Any],
    *,
    of: d.Tenant | None = None,
    one: d.Instance | None = None,
    at: d.Point | None = None,
    past: list[d.Restore] | None = None,
) -> Plan:
    stored = at or verified()
    return planning.plan(
        RestoreAsk(**{"point": stored.id, "reason": "r", **ask}),
        of or tenant(),
        one or instance(),
        stored,
        past or [],
        NOW,
        by="ana@vendor.example",
        act="key-1",
    )


# --- in place -----------------------------------------------------------------------------------------------------


def test_in_place_puts_every_disk_back_where_it_was_and_needs_a_second_person() -> None:
    plan = planned({"mode": "in_place", "waive_all": True})
    restore = plan.restore
    assert (restore.state, restore.needs_approval, restore.approve_by) == ("requested", True, NOW + timedelta(hours=4))
    assert restore.next_at == restore.approve_by
    assert [step.name for step in restore.steps] == [
        "survey", "pre_restore", "create_disks", "stop", "detach_disks", "attach_disks", "start", "label_disks",
        "check",
    ]  # fmt: skip
    assert [(disk.scope, disk.replica_zones) for disk in restore.disks] == [
        (f"zones/{ZONE}", []),
        (f"regions/{REGION}", [ZONE, OTHER_ZONE]),
    ]
    assert restore.disks[0].snapshot == f"projects/acme-vault/global/snapshots/sk-1-{REGION}"
    assert (restore.disks[0].snapshot_id, restore.disks[0].labels) == ("901", {"app": "pam"})
    assert restore.target.id == restore.instance.id
    assert [one.item for one in restore.lacking] == ["disk scratch (local SSD)"]
    assert plan.lines[0].startswith("a second person must approve it until 2026-11-03 04:00Z: one of operator, admin")
    assert "acme-pam-1 in southamerica-east1-a stops, for as yet unmeasured time" in plan.lines
    assert any("what is on its local SSDs is lost with the stop: scratch" in line for line in plan.lines)


@pytest.mark.parametrize("lost", [None, {"lost_at": THEN, "lost_reason": "gone"}])
def test_in_place_of_an_instance_that_is_gone_is_refused_with_what_to_do(lost: dict[str, Any] | None) -> None:
    ask = RestoreAsk(point=verified().id, mode="in_place", reason="r")
    gone = instance(**lost) if lost else None
    with pytest.raises(Clash, match=r"is gone.*: mode new_instance brings it back, under its name too"):
        planning.plan(ask, tenant(), gone, verified(), [], NOW, by="ana", act="k")


@pytest.mark.parametrize(
    ("owner", "one"),
    [
        (tenant(), instance(lost_at=THEN, lost_reason="deselected")),
        (tenant(), instance(lost_at=THEN, lost_reason="offboarded")),
        (tenant(project="acme-new"), instance()),
        (tenant(instances=d.Selected(by_name=[d.ByName(name="acme-pam-2", zone=ZONE)])), instance()),
    ],
)
def test_in_place_touches_no_instance_that_may_be_another_tenants_by_now(owner: d.Tenant, one: d.Instance) -> None:
    with pytest.raises(Clash, match="is no longer acme's"):
        planned({"mode": "in_place", "waive_all": True}, of=owner, one=one)


@pytest.mark.parametrize("field", ["name", "zone", "region"])
def test_in_place_takes_no_place(field: str) -> None:
    with pytest.raises(Wrong, match=f"{field}: given for in_place"):
        planned({"mode": "in_place", field: OTHER_ZONE})


# --- a new instance -----------------------------------------------------------------------------------------------


def test_a_new_instance_of_a_saas_tenant_needs_no_approval_and_waits_for_nothing() -> None:
    restore = planned({"mode": "new_instance", "name": "acme-pam-9", "waive_all": True}).restore
    assert (restore.state, restore.needs_approval, restore.approve_by) == ("approved", False, None)
    assert (restore.next_at, restore.start_by) == (NOW, NOW + timedelta(hours=4))
    assert (restore.target.zone, restore.target.name, restore.target.network) == (ZONE, "acme-pam-9", None)
    assert [step.name for step in restore.steps] == ["survey", "create_disks", "create_instance", "check"]
    assert restore.probe is None


def test_every_restore_of_a_private_saas_tenant_needs_a_second_person() -> None:
    theirs = tenant(deployment="private_saas")
    for ask in ({"mode": "disks"}, {"mode": "new_instance", "name": "n", "waive_all": True}):
        plan = planned(ask, of=theirs)
        assert (plan.restore.state, plan.restore.needs_approval) == ("requested", True)
        assert "operator, admin, client_admin" in plan.lines[0]


def test_a_lost_instance_comes_back_under_its_own_name_and_a_living_ones_name_is_taken() -> None:
    ask = {"mode": "new_instance", "name": "acme-pam-1", "waive_all": True}
    assert planned(ask, one=instance(lost_at=THEN, lost_reason="gone")).restore.target.name == "acme-pam-1"
    with pytest.raises(Clash, match="acme-pam-1 in southamerica-east1-a is there"):
        planned(ask)


def test_a_regional_disk_stays_so_in_the_zone_where_it_was() -> None:
    at_home = planned({"mode": "new_instance", "name": "n", "waive_all": True})
    assert [disk.scope for disk in at_home.restore.disks] == [f"zones/{ZONE}", f"regions/{REGION}"]
    assert not [line for line in at_home.lines if "zonal" in line]


@pytest.mark.parametrize("zone", [OTHER_ZONE, f"{REGION}-c"], ids=["that of its replica", "a third one"])
def test_in_another_zone_it_becomes_zonal_and_needs_nothing_of_the_zone_that_may_be_lost(zone: str) -> None:
    plan = planned({"mode": "new_instance", "name": "n", "waive_all": True, "zone": zone})
    assert [disk.scope for disk in plan.restore.disks] == [f"zones/{zone}"] * 2
    assert [(disk.type, disk.replica_zones) for disk in plan.restore.disks][1] == ("hyperdisk-balanced", [])
    assert "regional disks become zonal there: data" in plan.lines


def test_any_zone_of_the_home_region_is_chosen_later() -> None:
    plan = planned({"mode": "new_instance", "name": "n", "region": REGION, "waive_all": True})
    assert plan.restore.target.zone is None
    assert {disk.scope for disk in plan.restore.disks} == {""}
    assert f"regional disks become zonal there, unless that is {ZONE}: data" in plan.lines
    there = planning.placed(plan.restore, OTHER_ZONE)
    assert there.target.zone == OTHER_ZONE
    assert [disk.scope for disk in there.disks] == [f"zones/{OTHER_ZONE}"] * 2
    where_it_was = planning.placed(plan.restore, ZONE)
    assert [disk.scope for disk in where_it_was.disks] == [f"zones/{ZONE}", f"regions/{REGION}"]


# --- the copy's region --------------------------------------------------------------------------------------------


def test_the_copys_region_takes_the_copys_snapshots_and_what_recovery_says() -> None:
    owner = tenant(entitlements=BOUGHT, recovery=RECOVERY)
    plan = planned({"mode": "new_instance", "name": "n", "region": DR, "waive_all": True}, of=owner)
    restore = plan.restore
    assert restore.source == d.RestoreSource(project="acme-vault", region=DR, copy=True)
    assert [disk.snapshot_id for disk in restore.disks] == ["901", "902"]
    assert restore.disks[0].snapshot.endswith(f"sk-1-{DR}")
    assert (restore.target.network, restore.target.subnetwork) == (RECOVERY.network, RECOVERY.subnetworks[DR])
    assert restore.target.service_account == RECOVERY.service_account
    assert [disk.replica_zones for disk in restore.disks] == [[], []]
    left_out = "left out of its definition, because only its own place has it: resourcePolicies, "
    assert f"{left_out}scheduling.nodeAffinities" in plan.lines


def test_of_several_interfaces_the_first_alone_is_connected_elsewhere_and_has_an_address() -> None:
    nics = [*DEFINITION["networkInterfaces"], {"network": "n", "networkIP": "10.9.0.5"}]
    at = verified(definition=DEFINITION | {"networkInterfaces": nics})
    owner = tenant(entitlements=BOUGHT, recovery=RECOVERY)
    plan = planned({"mode": "new_instance", "name": "n", "region": DR}, of=owner, at=at)
    assert plan.unhandled == tuple(LACKING)
    assert "1 further network interface left out: `recovery` names one network" in plan.lines
    assert len(definition_for("acme", plan.restore, f"{DR}-b", {}).definition["networkInterfaces"]) == 1
    assert "address nic1 10.9.0.5" in planned({"mode": "new_instance", "name": "n"}, at=at).unhandled


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"entitlements": d.Entitlements()}, "it has no multi_region_dr"),
        (
            {"entitlements": replace(BOUGHT, multi_region_dr=d.MultiRegionDr(region=DR, valid_until="2026-11-01"))},
            "multi_region_dr was valid until 2026-11-01",
        ),
        ({"offboarding": d.Offboarding(at=THEN, by="a", reason="r")}, "it has left"),
        ({"recovery": None}, "has no recovery in the fleet file"),
        ({"recovery": replace(RECOVERY, subnetworks={REGION: "x"})}, f"recovery.subnetworks has none for {DR}"),
        ({"kms_keys": {REGION: "k"}}, f"kms_keys has none for {DR}"),
    ],
)
def test_the_copys_region_is_refused_without_what_it_needs(changes: dict[str, Any], why: str) -> None:
    owner = tenant(**{"entitlements": BOUGHT, "recovery": RECOVERY} | changes)
    with pytest.raises(Clash, match=why):
        planned({"mode": "new_instance", "name": "n", "region": DR, "waive_all": True}, of=owner)


def test_a_region_that_was_not_bought_is_refused_though_another_was() -> None:
    with pytest.raises(Clash, match=f"multi_region_dr is bought for {DR}"):
        planned({"mode": "disks", "region": "us-west1"}, of=tenant(entitlements=BOUGHT, recovery=RECOVERY))


# --- the source ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"state": "failed"}, "is failed: only what is verified is restored"),
        ({"gone": ["sk-1"]}, "is not complete any more: sk-1 is not in the vault"),
        ({"disks": [point_disk()]}, "has no snapshot of every disk that was read back"),
    ],
)
def test_a_point_that_cannot_be_restored_is_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(Clash, match=why):
        planned({"mode": "disks"}, at=verified(**changes))


def test_a_point_in_its_grace_is_restored_and_one_whose_deletion_has_begun_is_not() -> None:
    expiry = d.Expiry(was="verified", reason="r", decided_at=THEN, delete_after=NOW)
    assert planned({"mode": "disks"}, at=verified(state="expiring", expiry=expiry)).restore.state == "approved"
    with pytest.raises(Clash, match="is expiring"):
        planned({"mode": "disks"}, at=verified(state="expiring", expiry=replace(expiry, begun_at=THEN)))


def test_an_unusable_point_is_restored_only_by_who_says_so() -> None:
    at = verified(usable=False)
    assert planned({"mode": "disks"}, at=at).unhandled == (planning.UNUSABLE,)
    assert planned({"mode": "disks", "waive": [planning.UNUSABLE]}, at=at).unhandled == ()


# --- what is lacking ----------------------------------------------------------------------------------------------


def test_what_the_definition_left_out_is_named_and_each_is_supplied_or_waived() -> None:
    ask: dict[str, Any] = {"mode": "new_instance", "name": "n"}
    plan = planned(ask)
    assert plan.unhandled == tuple(LACKING)
    assert [line for line in plan.lines if line.startswith("lacking")] == [
        f"lacking, to be supplied or waived: {item}" for item in LACKING
    ]
    ask |= {
        "supply": {
            "metadata startup-script": "#!/bin/sh", "address nic0 10.0.0.5": "10.0.0.9",
            "disk scratch (local SSD)": "empty",
        },
        "waive": ["address nic0 203.0.113.7"],
    }  # fmt: skip
    plan = planned(ask)
    assert plan.unhandled == ()
    assert [one.handled for one in plan.restore.lacking] == ["supplied", "supplied", "supplied", "waived"]
    assert planned({"mode": "disks"}).restore.lacking == []


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"waive": ["metadata x"]}, "waive: 'metadata x' is not lacking; expected one of: disk scratch"),
        ({"supply": {"metadata x": "1"}}, "supply: 'metadata x' is not lacking"),
        ({"supply": {LACKING[1]: "v"}, "waive": [LACKING[1]]}, "is supplied too; expected one of the two"),
        ({"supply": {LACKING[0]: "s3cret"}}, "expected 'empty', or to waive it"),
        ({"supply": {LACKING[2]: "s3cret"}}, "is no such address"),
        ({"supply": {LACKING[2]: "fd00::1"}}, "is no such address"),
        ({"supply": {LACKING[2]: "10.0.0.0/24"}}, "is no such address"),
    ],
)
def test_what_is_said_of_the_wrong_thing_is_refused_without_a_value_in_the_words(said: Any, why: str) -> None:
    with pytest.raises(Wrong, match=why) as refused:
        planned({"mode": "new_instance", "name": "n", **said})
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("ask", "why"),
    [
        ({"mode": "new_instance"}, "name: missing"),
        ({"mode": "new_instance", "name": "9lives"}, "name: '9lives' is no name"),
        ({"mode": "new_instance", "name": "rt-x"}, "begins as restore tests' instances do"),
        ({"mode": "disks", "zone": "us-east1-b", "region": REGION}, "zone: us-east1-b is not in"),
    ],
)
def test_a_request_that_contradicts_itself_is_wrong(ask: dict[str, Any], why: str) -> None:
    with pytest.raises(Wrong, match=why):
        planned(ask)


# --- the request's hash -------------------------------------------------------------------------------------------


def test_every_difference_in_what_is_asked_for_is_another_hash() -> None:
    ask: dict[str, Any] = {"mode": "new_instance", "name": "n", "waive_all": True}
    owner = tenant(entitlements=BOUGHT, recovery=RECOVERY)
    moved = verified(disks=[replace(one, snapshot=replace(one.snapshot, id="7")) for one in verified().disks])
    plans = [
        planned(ask, of=owner),
        planned(ask | {"name": "m"}, of=owner),
        planned(ask | {"zone": OTHER_ZONE}, of=owner),
        planned(ask | {"region": DR}, of=owner),
        planned(ask | {"reason": "another"}, of=owner),
        planned(ask | {"supply": {LACKING[1]: "a"}}, of=owner),
        planned(ask | {"supply": {LACKING[1]: "b"}}, of=owner),
        planned(ask, of=owner, at=moved),
        planned({"mode": "disks"}, of=owner),
        planned({"mode": "in_place", "waive_all": True}, of=owner),
    ]
    assert len({plan.restore.request_sha256 for plan in plans}) == len(plans)
    assert planned(ask, of=owner).restore == plans[0].restore


# --- the new instance's definition --------------------------------------------------------------------------------


def test_the_definition_of_a_new_instance_has_what_was_supplied_and_nothing_that_only_reads() -> None:
    supplied = {LACKING[1]: "#!/bin/sh", LACKING[2]: "10.0.0.5", LACKING[0]: "empty"}
    restore = planned({"mode": "new_instance", "name": "n", "supply": supplied, "waive_all": True}).restore
    new = definition_for("acme", restore, ZONE, supplied)
    assert new.definition["machineType"] == f"zones/{ZONE}/machineTypes/e2-standard-4"
    assert new.definition["networkInterfaces"] == [
        {
            "network": f"{API}projects/acme-prod/global/networks/main",
            "subnetwork": f"{API}projects/acme-prod/regions/{REGION}/subnetworks/main",
            "networkIP": "10.0.0.5",
            "accessConfigs": [{"type": "ONE_TO_ONE_NAT"}],
        }
    ]
    assert new.definition["tags"] == {"items": ["web"]}
    assert new.definition["scheduling"] == DEFINITION["scheduling"]
    assert new.definition["resourcePolicies"] == DEFINITION["resourcePolicies"]
    assert not {"labels", "metadata", "left_out"} & new.definition.keys()
    assert new.labels == {
        "tenant": "acme", "snapkeep-tenant": "acme", "snapkeep-restore": restore.id, "snapkeep-role": "restored",
    }  # fmt: skip
    assert (new.metadata, new.secrets) == (DEFINITION["metadata"], {"startup-script": "#!/bin/sh"})
    assert (new.empty_disks, new.dropped) == (("scratch",), ())


def test_in_another_region_it_is_connected_as_recovery_says_and_loses_what_only_home_has() -> None:
    owner = tenant(entitlements=BOUGHT, recovery=RECOVERY)
    restore = planned({"mode": "new_instance", "name": "n", "region": DR, "waive_all": True}, of=owner).restore
    new = definition_for("acme", restore, f"{DR}-b", {})
    (nic,) = new.definition["networkInterfaces"]
    assert (nic["network"], nic["subnetwork"]) == (RECOVERY.network, RECOVERY.subnetworks[DR])
    assert new.definition["serviceAccounts"] == [{"email": RECOVERY.service_account, "scopes": ["cloud-platform"]}]
    assert new.definition["scheduling"] == {"automaticRestart": True}
    assert new.dropped == ("resourcePolicies", "scheduling.nodeAffinities")


# --- tests --------------------------------------------------------------------------------------------------------

TESTED: Final = d.RestoreTest(network="projects/acme-prod/global/networks/isolated")


def test_a_restore_test_makes_an_instance_that_reaches_nothing_and_starts_nothing() -> None:
    restore = planning.test_of(tenant(restore_test=TESTED), verified(), None, "20261103-t-acme-pam-1-00000001", NOW)
    assert isinstance(restore, d.Restore)
    assert (restore.purpose, restore.state, restore.needs_approval) == ("test", "approved", False)
    assert restore.target.name.startswith("rt-acme-pam-1-")
    assert [step.name for step in restore.steps][-2:] == ["delete_instance", "delete_disks"]
    assert all(disk.labels == {} and not disk.resource_policies for disk in restore.disks)
    new = definition_for("acme", restore, ZONE, {})
    assert new.definition["networkInterfaces"] == [{"network": TESTED.network}]
    assert new.definition["deletionProtection"] is False
    assert not {"tags", "serviceAccounts", "resourcePolicies", "canIpForward"} & new.definition.keys()
    assert new.metadata == {"enable-oslogin": "TRUE", **NOTHING_TO_START}
    assert new.secrets == {}
    assert new.labels.keys() == {"snapkeep-tenant", "snapkeep-restore", "snapkeep-role"}


@pytest.mark.parametrize(
    ("changes", "region", "code"),
    [
        ({}, None, "not_configured"),
        ({"restore_test": replace(TESTED, subnetworks={DR: "x"})}, None, "no_subnetwork"),
        ({"restore_test": TESTED}, DR, "not_entitled"),
    ],
)
def test_a_restore_test_that_cannot_be_carried_out_says_why(
    changes: dict[str, Any], region: str | None, code: str
) -> None:
    said = planning.test_of(tenant(**changes), verified(), region, "20261103-t-acme-pam-1-00000001", NOW)
    assert isinstance(said, d.Failure)
    assert said.code == code


def test_a_copy_is_tested_in_its_region_by_the_copies_own_add_on() -> None:
    add_on = d.Entitlements(inter_region_backup=BOUGHT.inter_region_backup)
    owner = tenant(restore_test=TESTED, entitlements=add_on)
    restore = planning.test_of(owner, verified(), DR, "20261103-t-acme-pam-1-00000001", NOW)
    assert isinstance(restore, d.Restore)
    assert (restore.source.copy, restore.target.region) == (True, DR)
    assert rules.regions_of(restore, owner, NOW) == {REGION, DR}
    assert rules.regions_of(replace(restore, purpose="restore"), owner, NOW) == {REGION}


# --- how long, and back again -------------------------------------------------------------------------------------


def completed(mode: d.RestoreMode, seconds: int, **changes: Any) -> d.Restore:
    made = planned({"mode": mode, "name": None if mode == "in_place" else "n", "waive_all": True}).restore
    end = NOW + timedelta(seconds=seconds)
    steps = [replace(step, state="done", at=NOW + timedelta(seconds=10 * n)) for n, step in enumerate(made.steps)]
    steps[-1] = replace(steps[-1], at=end)
    fields: dict[str, Any] = {"state": "completed", "started_at": NOW, "finished_at": end, "steps": steps}
    return replace(made, **fields | changes)


def test_an_estimate_is_the_median_of_the_tenants_own_completed_restores_of_that_mode() -> None:
    past = [completed("new_instance", seconds) for seconds in (60, 300, 1000)]
    past += [completed("disks", 5), completed("new_instance", 9, state="failed")]
    ask = {"mode": "new_instance", "name": "n", "waive_all": True}
    assert planned(ask, past=past).restore.estimate_s == 300
    assert "takes about 5 min, as the tenant's last ones did" in planned(ask, past=past).lines
    assert planned(ask).restore.estimate_s is None
    assert "how long it takes is not known: none has been measured yet" in planned(ask).lines


def test_how_long_an_instance_stops_is_measured_from_before_its_stop_to_after_its_start() -> None:
    before = completed("in_place", 200)
    # create_disks is the third step of in place, start the seventh; ten seconds lie between two.
    assert words.stopped_s(before) == 40
    assert (
        "acme-pam-1 in southamerica-east1-a stops, for about 40 s"
        in planned({"mode": "in_place", "waive_all": True}, past=[before]).lines
    )


def test_a_completed_restore_in_place_is_undone_by_one_that_needs_approval_too() -> None:
    done = completed("in_place", 200, former=[former()], keep_until=NOW + timedelta(days=7))
    plan = planning.undo_plan(done, tenant(), "wrong point", [], NOW, by="ana", act="k")
    undo = plan.restore
    assert (undo.source.undoes, undo.disks, undo.needs_approval, undo.state) == (done.id, [], True, "requested")
    assert undo.id != done.id
    assert [step.name for step in undo.steps] == [
        "survey", "stop", "detach_disks", "attach_disks", "start", "label_disks", "check",
    ]  # fmt: skip
    assert f"attached again: acme-pam-1-boot, as before {done.id}" in plan.lines


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"state": "failed"}, "is failed: only a completed restore is undone"),
        ({"keep_until": NOW}, "were kept until"),
        ({"former": [former(status="gone")]}, "are not kept any more"),
        ({"keep_until": None}, "are not kept any more"),
        ({"former": [former(status="returned")]}, "was undone already"),
        ({"former": []}, "not all known to be kept"),
        ({"mode": "disks"}, "has replaced nothing"),
    ],
)
def test_what_cannot_be_undone_is_refused(changes: dict[str, Any], why: str) -> None:
    done = completed("in_place", 200, former=[former()], keep_until=NOW + timedelta(days=7))
    with pytest.raises(Clash, match=why):
        planning.undo_plan(replace(done, **changes), tenant(), "r", [], NOW, by="ana", act="k")


def test_a_new_instance_that_the_fleet_file_selects_is_protected_and_another_is_said_not_to_be() -> None:
    ask = {"mode": "new_instance", "waive_all": True}
    line = "n is not protected afterwards: no point holds it until the fleet file names it"
    assert line in planned(ask | {"name": "n"}).lines
    by_label = tenant(instances=d.Selected(by_label=d.ByLabel(label="tenant=acme")))
    assert line not in planned(ask | {"name": "n"}, of=by_label).lines
    elsewhere = tenant(entitlements=BOUGHT, recovery=RECOVERY)
    in_dr = planned(ask | {"name": "acme-pam-1", "region": DR}, of=elsewhere)
    assert "acme-pam-1 is not protected afterwards: no point holds it until the fleet file names it" in in_dr.lines


def test_a_new_instance_is_not_protected_from_its_own_taking_back_and_the_plan_says_so() -> None:
    made = planned({"mode": "new_instance", "name": "acme-pam-9", "waive_all": True})
    assert definition_for("acme", made.restore, ZONE, {}).definition["deletionProtection"] is False
    assert any("protected from deletion" in line for line in made.lines)


def test_what_is_supplied_has_a_bound_all_together() -> None:
    ask = {"mode": "new_instance", "name": "acme-pam-9", "waive_all": True, "supply": {LACKING[1]: "x" * 600_000}}
    with pytest.raises(Wrong, match="supply: 600000 bytes in all"):
        planned(ask)

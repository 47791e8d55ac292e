"""The demo says exactly what each policy keeps, and finds whatever is stored, or gone, against it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Container
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from snapkeep import documents as d
from snapkeep import fleet
from snapkeep.cli import root
from snapkeep_local import demo, stocktaking
from snapkeep_local.cloud import Cloud
from snapkeep_local.memory import MemoryDocuments
from snapkeep_local.sim import System
from snapkeep_local.stocktaking import Stock

FLEET = """
tenants:
  - id: acme
    name: Acme Bank
    project: acme-prod
    instances:
      - {name: acme-pam-1, zone: southamerica-east1-a}
    retention: {keep_last: 1, keep_daily: 3, keep_weekly: 0, keep_monthly: 0, lock_days: 2}
"""
DAYS = 8
PROCESS_TIMEOUT_S = 120.0
COPIED = (
    FLEET
    + """
    entitlements:
      inter_region_backup:
        {region: us-east1, valid_until: 2031-12-31, retention: {keep_daily: 2, keep_weekly: 0, lock_days: 1}}
"""
)


def start(fleet_file: Path, text: str) -> System:
    fleet_file.write_text(text)
    system = System(seed=1, start=demo.START)
    system.apply(fleet.read(fleet_file))
    return system


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> System:
    """Eight quiet days of one instance of which three days' points are kept."""
    system = start(tmp_path_factory.mktemp("ran") / "fleet.yaml", FLEET)
    system.run(timedelta(days=DAYS))
    return system


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> System:
    """The same, of a tenant whose points are copied; of the copies two days' are kept."""
    system = start(tmp_path_factory.mktemp("copied") / "fleet.yaml", COPIED)
    system.fast_forward(timedelta(days=DAYS))
    return system


class Altered:
    """The documents of a system with some of them otherwise."""

    def __init__(self, system: System, altered: dict[str, d.Stored | None]) -> None:
        self._whole = system.documents.dump()
        for path, document in altered.items():
            if document is None:
                del self._whole[path]
            else:
                self._whole[path] = d.to_data(document)

    def dump(self, *, leaving_out: Container[str] = ()) -> dict[str, Any]:
        return {path: data for path, data in self._whole.items() if path.split("/")[-2] not in leaving_out}


def points(system: System) -> list[tuple[str, d.Point]]:
    """Newest first."""
    found = [(path, data) for path, data in system.documents.dump().items() if "/points/" in path]
    return [(path, d.from_data(d.Point, data)) for path, data in reversed(found)]


def stock(system: System, altered: dict[str, d.Stored | None] | None = None) -> list[Stock]:
    documents: Any = Altered(system, altered or {})
    return stocktaking.take(documents, system.cloud)


def wrong(system: System, altered: dict[str, d.Stored | None]) -> list[str]:
    return [line for one in stock(system, altered) for line in one.wrong]


def test_every_point_that_was_taken_is_kept_by_a_rule_on_its_way_out_or_deleted(ran: System) -> None:
    [one] = stock(ran)
    assert one.wrong == ()
    assert (one.tenant, one.instances, one.taken) == ("acme", 1, DAYS)
    assert one.kept == 3
    assert one.kept_by == {"last": 1, "daily": 3, "newest verified": 1, "locked": 2}
    assert one.wanted == {"last": 1, "daily": 3, "weekly": 0, "monthly": 0, "yearly": 0}
    assert one.expiring >= 1
    assert one.kept + one.expiring + one.deleting + one.deleted == DAYS


def test_a_point_that_no_rule_keeps_and_that_does_not_expire_is_found(ran: System) -> None:
    path, point = next((path, point) for path, point in points(ran) if point.state == "expiring")
    [found] = wrong(ran, {path: replace(point, state="verified", expiry=None)})
    assert found.startswith(f"acme: {point.id}: is verified, and the rules say expire (weighed again 2026-10-")


def test_a_point_that_expires_though_a_rule_keeps_it_is_found(ran: System) -> None:
    path, point = points(ran)[0]
    expiry = d.Expiry(was="verified", reason="-", decided_at=ran.cloud.now, delete_after=ran.cloud.now)
    [found] = wrong(ran, {path: replace(point, state="expiring", expiry=expiry)})
    assert found.startswith(f"acme: {point.id}: is expiring, and the rules say undo (weighed again 2026-10-")


def test_a_verified_point_that_is_neither_stored_nor_deleted_is_found(ran: System) -> None:
    path, point = points(ran)[-1]
    assert point.state == "deleted"
    assert wrong(ran, {path: replace(point, state="verified")}) == [
        f"acme: {point.id}: was verified, is verified, and is not stored"
    ]


def test_a_deleted_point_whose_snapshots_are_there_is_found(ran: System) -> None:
    path, point = points(ran)[0]
    names = [disk.snapshot.name for disk in point.disks]
    found = wrong(ran, {path: replace(point, state="deleted", stored_for=None)})
    assert [line for line in found if line.startswith(f"acme: {point.id}: ")] == [
        f"acme: {point.id}: is deleted, and {name} is still there" for name in names
    ]


def test_a_snapshot_that_no_point_knows_is_found(ran: System) -> None:
    path, point = points(ran)[0]
    [*_, unknown] = stock(ran, {path: None})
    links = sorted(f"projects/{point.vault_project}/global/snapshots/{disk.snapshot.name}" for disk in point.disks)
    assert unknown.tenant == stocktaking.ELSEWHERE
    assert unknown.wrong == tuple(f"{link}: no point knows it" for link in links)


def test_a_stored_point_whose_snapshot_is_gone_is_found_unless_it_says_so(ran: System) -> None:
    path, point = points(ran)[0]
    disk = point.disks[0]
    other = replace(disk, snapshot=replace(disk.snapshot, id="1"))
    found = wrong(ran, {path: replace(point, disks=[other, *point.disks[1:]])})
    assert f"acme: {point.id}: is verified, and {disk.snapshot.name} is gone" in found
    gone = replace(point, disks=[other, *point.disks[1:]], gone=[disk.snapshot.name])
    assert f"acme: {point.id}: is verified, and {disk.snapshot.name} is gone" not in wrong(ran, {path: gone})


# --- copies -------------------------------------------------------------------------------------------------------


def newest(system: System) -> tuple[str, d.Point, d.Copy]:
    path, point = points(system)[0]
    return path, point, point.copies["us-east1"]


def with_copy(point: d.Point, copy: d.Copy) -> d.Point:
    return replace(point, copies={"us-east1": copy})


def with_snapshot(copy: d.Copy, ref: d.SnapshotRef) -> d.Copy:
    return replace(copy, disks=[replace(copy.disks[0], snapshot=ref), *copy.disks[1:]])


def test_copies_are_counted_apart_and_by_their_own_policy(copied: System) -> None:
    home, copies = stock(copied)
    assert (home.wrong, copies.wrong) == ((), ())
    assert (home.region, copies.region) == (None, "us-east1")
    assert home.kept_by["daily"] == home.wanted["daily"] == 3
    assert copies.kept_by == {"daily": 2, "newest verified": 1, "locked": 1}
    assert copies.wanted["daily"] == copies.kept == 2
    assert copies.taken == copies.kept + copies.expiring + copies.deleting + copies.deleted == DAYS
    assert copies.deleted > home.deleted
    assert 0 < copies.bytes < home.bytes


def test_a_copy_that_no_rule_keeps_and_that_does_not_expire_is_found(copied: System) -> None:
    path, point = next((path, point) for path, point in points(copied) if point.copies["us-east1"].state == "expiring")
    staying = replace(point.copies["us-east1"], state="verified", expiry=None)
    [found] = wrong(copied, {path: with_copy(point, staying)})
    assert found.startswith(f"acme: {point.id}@us-east1: is verified, and the rules say expire (weighed again")


def test_a_deleted_copy_whose_snapshots_are_there_is_found(copied: System) -> None:
    path, point, copy = newest(copied)
    found = wrong(copied, {path: with_copy(point, replace(copy, state="deleted"))})
    for disk in copy.disks:
        assert f"acme: {point.id}@us-east1: is deleted, and {disk.snapshot.name} is still there" in found


def test_a_copy_whose_snapshot_is_gone_is_found(copied: System) -> None:
    path, point, copy = newest(copied)
    ref = copy.disks[0].snapshot
    found = wrong(copied, {path: with_copy(point, with_snapshot(copy, replace(ref, id="1")))})
    assert f"acme: {point.id}@us-east1: is verified, and {ref.name} is gone" in found


def test_a_copy_that_lies_in_another_region_is_found(copied: System) -> None:
    path, point, copy = newest(copied)
    at_home = point.disks[0].snapshot
    found = wrong(copied, {path: with_copy(point, with_snapshot(copy, at_home))})
    assert f"acme: {point.id}@us-east1: {at_home.name} lies in southamerica-east1" in found


def test_a_copy_that_holds_something_else_than_its_point_is_found(copied: System) -> None:
    path, point, copy = newest(copied)
    other = points(copied)[1][1].copies["us-east1"].disks[1].snapshot
    found = wrong(copied, {path: with_copy(point, with_snapshot(copy, other))})
    mine = point.disks[0].snapshot.name
    assert f"acme: {point.id}@us-east1: {other.name} holds something else than {mine}" in found


def test_a_copy_without_one_of_the_disks_is_found(copied: System) -> None:
    path, point, copy = newest(copied)
    found = wrong(copied, {path: with_copy(point, replace(copy, disks=copy.disks[1:]))})
    assert f"acme: {point.id}@us-east1: has {len(point.disks) - 1} of {len(point.disks)} disks" in found


def test_a_copy_that_its_instance_does_not_count_is_found(copied: System) -> None:
    path, data = next((path, data) for path, data in copied.documents.dump().items() if "/instances/" in path)
    instance = d.from_data(d.Instance, data)
    counts = instance.copies
    miscounted = replace(instance, copies=replace(counts, verified=counts.verified + 1))
    [found] = wrong(copied, {path: miscounted})
    assert found == f"acme: {instance.name}: counts {counts.verified + 1} copies verified, and has {counts.verified}"


def test_what_copying_leaves_behind_is_found() -> None:
    simulated = Cloud(1, demo.START)
    labels = {"snapkeep-role": "temporary"}
    disk = simulated.add_disk(project="acme-prod", zone="us-east4-a", name="left", labels=labels)
    group = simulated.add_policy(project="acme-prod", region="us-east4", name="all")
    simulated.attach_policy(disk, group)
    link = {"sourceDisk": disk, "name": "instant"}
    simulated.insert_instant_snapshot("acme-prod", "zones/us-east4-a", link)
    members = {"sourceConsistencyGroup": group, "name": "moment"}
    simulated.advance(demo.START + timedelta(hours=1))
    simulated.insert_instant_snapshot_group("acme-prod", "zones/us-east4-a", members)
    simulated.advance(demo.START + timedelta(hours=2))
    [elsewhere] = stocktaking.take(MemoryDocuments(lambda: simulated.now), simulated)
    kinds = [line.split("/")[4] for line in elsewhere.wrong]
    assert kinds == ["instantSnapshotGroups", "instantSnapshots", "instantSnapshots", "disks"]
    assert elsewhere.wrong[-1] == f"{disk}: is left, and no point will remove it"


# --- what was restored --------------------------------------------------------------------------------------------

RESTORED_DAYS = 12
OTHERS = """
  - id: bolt
    name: Bolt
    project: bolt-prod
    instances: [{name: server-4, zone: us-east4-a}]
  - id: cove
    name: Cove
    project: cove-prod
    instances: {label: "snapkeep=daily"}
    restore_test: {every_days: 90, network: projects/cove-prod/global/networks/isolated}
  - id: dune
    name: Dune
    project: dune-prod
    instances: [{name: server-1, zone: us-east4-a}]
    entitlements: {inter_region_backup: {region: us-east1, valid_until: 2031-12-31}}
"""
WITH_DR = (
    COPIED
    + """
      multi_region_dr: {region: us-east1, valid_until: 2031-12-31}
    recovery: {network: projects/acme-prod/global/networks/main}
"""
    + OTHERS
)


@pytest.fixture(scope="module")
def restored(tmp_path_factory: pytest.TempPathFactory) -> tuple[System, demo.Report]:
    """A demo in which each thing goes wrong that can, and long enough that the disks from before it have gone."""
    folder = tmp_path_factory.mktemp("restored")
    (folder / "fleet.yaml").write_text(WITH_DR)
    reading = fleet.read(folder / "fleet.yaml")
    return demo.run(reading, days=RESTORED_DAYS, seed=1, audit_folder=folder / "audit", progress=lambda _: None)


def restore_of(ran: tuple[System, demo.Report], kind: str) -> tuple[str, d.Restore]:
    system, report = ran
    [outage] = [outage for outage in report.outages if outage.kind == kind]
    path = f"tenants/{outage.tenant}/restores/{outage.restore}"
    return path, d.from_data(d.Restore, system.documents.dump()[path])


def test_a_demo_brings_back_what_was_damaged_what_was_deleted_and_a_region(
    restored: tuple[System, demo.Report],
) -> None:
    _, report = restored
    assert (report.wrong, report.restored, report.protected) == ([], True, True)
    damaged, deleted, region = report.outages
    assert [(one.kind, one.mode, one.state) for one in report.outages] == [
        ("damaged", "in_place", "completed"),
        ("deleted", "new_instance", "completed"),
        ("region", "new_instance", "completed"),
    ]
    assert damaged.approved_by not in (None, damaged.requested_by)
    assert damaged.still_s is not None
    assert 0 < damaged.still_s < damaged.took_s
    assert damaged.former == {"gone": damaged.disks}
    assert {damaged.tenant, deleted.tenant} == {"bolt", "cove"}
    assert deleted.is_protected
    assert (region.tenant, region.is_protected) == ("acme", False)
    assert region.place is not None
    assert region.place.startswith("us-east1-")
    for outage in report.outages:
        assert outage.point_at < outage.at


def test_a_demo_says_which_tenants_restores_were_tested(restored: tuple[System, demo.Report]) -> None:
    _, report = restored
    [tests] = report.tests
    assert (tests.tenant, tests.passed, tests.failed, tests.not_carried_out) == ("cove", 1, 0, 0)
    assert tests.last_took_s
    assert report.never_tested == ("acme", "bolt", "dune")


def test_a_restored_disk_that_holds_something_else_than_its_snapshot_is_found(
    restored: tuple[System, demo.Report],
) -> None:
    path, restore = restore_of(restored, "region")
    disk = restore.disks[0]
    newest = next(point for path, point in points(restored[0]) if path.startswith("tenants/acme/"))
    other = newest.disks[1].snapshot
    link = f"projects/{other.project}/global/snapshots/{other.name}"
    swapped = replace(disk, snapshot=link, snapshot_id=other.id)
    found = wrong(restored[0], {path: replace(restore, disks=[swapped, *restore.disks[1:]])})
    assert found == [f"acme: {restore.id}: {disk.name} holds something else than {other.name}"]


def test_a_restored_disk_that_is_gone_is_found(restored: tuple[System, demo.Report]) -> None:
    path, restore = restore_of(restored, "region")
    disk = replace(restore.disks[0], id="1")
    found = wrong(restored[0], {path: replace(restore, disks=[disk, *restore.disks[1:]])})
    assert found == [f"acme: {restore.id}: {disk.name} was restored, and is gone"]


def test_what_a_restore_that_was_given_up_has_left_is_found(restored: tuple[System, demo.Report]) -> None:
    path, restore = restore_of(restored, "region")
    found = wrong(restored[0], {path: replace(restore, state="failed")})
    links = [f"projects/acme-prod/{disk.scope}/disks/{disk.name}" for disk in restore.disks]
    links.append(f"projects/acme-prod/zones/{restore.target.zone}/instances/{restore.target.name}")
    assert found == [f"{link}: is left, and no restore answers for it" for link in sorted(links)]


def test_a_disk_from_before_a_restore_that_goes_too_early_or_never_is_found(
    restored: tuple[System, demo.Report],
) -> None:
    system, _ = restored
    path, restore = restore_of(restored, "damaged")
    former = restore.former[0]
    kept = replace(restore, former=[replace(former, status="kept"), *restore.former[1:]])
    tenant = path.split("/")[1]
    assert f"{tenant}: {restore.id}: {former.name} was attached before it, is kept, and is gone" in wrong(
        system, {path: kept}
    )
    [new, *others] = restore.disks
    there = replace(former, name=new.name, id=new.id or "", status="kept")
    found = wrong(system, {path: replace(restore, disks=others, former=[there])})
    assert restore.keep_until is not None
    until = f"{restore.keep_until:%Y-%m-%d %H:%M} UTC"
    assert f"{tenant}: {restore.id}: {new.name} was to be kept until {until}, and is there" in found


def test_what_an_ended_restore_still_has_to_itself_is_found(restored: tuple[System, demo.Report]) -> None:
    system, _ = restored
    path, restore = restore_of(restored, "damaged")
    tenant = path.split("/")[1]
    whole = system.documents.dump()
    claim_path = next(path for path in whole if path.startswith(f"tenants/{tenant}/restore_claims/"))
    claim = replace(d.from_data(d.RestoreClaim, whole[claim_path]), restore=restore.id)
    instance_path = f"tenants/{tenant}/instances/{restore.instance.id}"
    instance = replace(d.from_data(d.Instance, whole[instance_path]), restoring=restore.id)
    said = f"{tenant}: {restore.id}: is completed, and"
    assert wrong(system, {claim_path: claim, instance_path: instance}) == [
        f"{said} has {claim.instance} to itself",
        f"{said} has {instance.name} in hand",
    ]


def test_a_demo_tells_what_was_restored_and_says_when_it_is_too_short_for_that(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(FLEET)
    said = {
        days: CliRunner().invoke(root, ["demo", f"--days={days}", f"--fleet={path}", f"--audit={tmp_path / 'audit'}"])
        for days in (1, 3)
    }
    assert (said[1].exit_code, said[3].exit_code) == (0, 0)
    assert "Nothing goes wrong in large in less than 3 days" in said[1].stdout
    assert "acme: what is on the " in said[3].stdout
    assert "ben@vendor.example approved." in said[3].stdout
    assert "All disks hold what the point does." in said[3].stdout
    assert "The disks from before are kept until 2026-10-09" in said[3].stdout


def test_the_demo_shows_an_add_on_that_ends_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(COPIED)
    asked = ["demo", f"--days={DAYS}", f"--fleet={path}", f"--audit={tmp_path / 'audit'}"]
    said = CliRunner().invoke(root, asked)
    assert said.exit_code == 0, said.output
    assert "The add-on of acme ended 2026-10-03 12:00Z and was bought again 2026-10-05 12:00Z." in said.stdout
    assert "That is exactly what the policies keep" in said.stdout
    told = json.loads(CliRunner().invoke(root, ["--json", *asked]).stdout)
    [row] = told["tenants"]
    assert row["copies"]["catch_up_disks"] > 0
    assert row["copies"]["missing"] == row["copies"]["unentitled"] == 0
    assert [line["region"] for line in row["regions"]] == ["southamerica-east1", "us-east1"]
    assert told["events"]["copy.unentitled"] == 1
    assert told["events"]["copy.missing"] >= 1


def test_the_clients_of_a_demo_take_the_points_that_are_theirs(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    of_client = FLEET.replace("project:", "deployment: private_saas\n    consistency: group\n    project:")
    path.write_text(of_client)
    system, report = demo.run(
        fleet.read(path), days=1, seed=1, audit_folder=tmp_path / "audit", progress=lambda _: None
    )
    [(_, point)] = points(system)
    assert (point.state, point.consistency, point.trigger) == ("verified", "group", "on_demand")
    assert (report.protected, report.wrong) == (True, [])


def test_the_digest_of_a_demo_is_the_same_wherever_its_fleet_file_lies(tmp_path: Path) -> None:
    digests = set()
    for folder in ("here", "there/below"):
        path = tmp_path / folder / "fleet.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(COPIED)
        _, report = demo.run(fleet.read(path), days=6, seed=1, audit_folder=tmp_path / folder, progress=lambda _: None)
        digests.add(report.digest)
    assert len(digests) == 1


def test_two_processes_come_to_the_same_digest_however_they_hash(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(COPIED)
    asked = ["--json", "demo", "--days=6", f"--fleet={path}", f"--audit={tmp_path / 'audit'}"]
    digests = set()
    for number in ("1", "77"):
        ran = subprocess.run(  # noqa: S603 - this interpreter, and words of this test
            [sys.executable, "-m", "snapkeep.cli", *asked],
            env=os.environ | {"PYTHONHASHSEED": number, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            check=True,
            text=True,
            timeout=PROCESS_TIMEOUT_S,
        )
        digests.add(json.loads(ran.stdout)["digest"])
    assert len(digests) == 1


def test_the_demo_prints_what_each_rule_keeps_and_ends_well(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(FLEET)
    asked = ["demo", f"--days={DAYS}", f"--fleet={path}", f"--audit={tmp_path / 'audit'}"]
    said = CliRunner().invoke(root, asked)
    assert said.exit_code == 0, said.output
    assert "That is exactly what the policies keep" in said.stdout
    assert "3/3" in said.stdout
    [one] = json.loads(CliRunner().invoke(root, ["--json", *asked]).stdout)["stock"]
    assert one["kept_by"]["daily"] == 3
    assert one["wrong"] == []


def test_a_demo_that_stores_something_else_ends_with_status_1_and_says_what(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(FLEET)
    take = stocktaking.take

    def after_a_stray(documents: MemoryDocuments, simulated: Cloud) -> list[Stock]:
        simulated.plant_snapshot(project="acme-prod", name="stray")
        return take(documents, simulated)

    # A demo is one call, in which nothing goes wrong: there is no other way in for a stray.
    monkeypatch.setattr(stocktaking, "take", after_a_stray)
    said = CliRunner().invoke(root, ["demo", "--days=1", f"--fleet={path}", f"--audit={tmp_path / 'audit'}"])
    assert said.exit_code == 1
    assert "projects/acme-prod/global/snapshots/stray: no point knows it" in said.stderr
    assert "what is stored is not what the policies keep: 1 finding," in said.stderr

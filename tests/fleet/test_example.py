"""The example fleet shows every option; the cloud that it implies has what demonstrations need."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest

from snapkeep import cloud, fleet
from snapkeep.documents import ByName, CopyRetention, Retention, Schedule, Selected, Tenant
from snapkeep_local import example, sim
from snapkeep_local.cloud import Cloud
from snapkeep_local.compute import LocalCompute

EXAMPLE = Path(__file__).parents[2] / "examples" / "fleet.yaml"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
READING = fleet.read(EXAMPLE)
TENANTS = [entry.tenant(applied_at=NOW, applied_by="ana@vendor.example") for entry in READING.valid]
SEEDS = (0, 1, 7)


def test_the_example_has_twelve_tenants_and_neither_mistake_nor_warning() -> None:
    assert [str(one) for one in (*READING.mistakes, *READING.warnings)] == []
    assert len(READING.clean) == len(TENANTS) == 12


def test_every_option_of_the_fleet_file_occurs() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    named = ({one.name for one in msgspec.structs.fields(Tenant)} - fleet.NOT_WRITTEN) | {
        *Schedule.__struct_fields__,
        *Retention.__struct_fields__,
        *CopyRetention.__struct_fields__,
        *("inter_region_backup", "multi_region_dr", "region", "valid_until", "network", "subnetworks"),
        *("service_account", "kind", "every_hours", "every_days", "label", "zone"),
    }
    assert {name for name in named if f"{name}:" not in text} == set()
    assert {tenant.deployment for tenant in TENANTS} == {"saas", "private_saas"}
    assert {tenant.consistency for tenant in TENANTS} == {"crash", "guest_flush", "group"}
    assert {one.kind for tenant in TENANTS for one in tenant.client_backups} == {"credentials", "videos"}
    assert any(tenant.instances.by_label for tenant in TENANTS)
    assert any(tenant.vault_project != tenant.project for tenant in TENANTS)


def test_two_tenants_run_their_own_backups() -> None:
    assert len([tenant for tenant in TENANTS if not tenant.vendor_managed]) == 2


def test_there_are_time_zones_with_and_without_daylight_saving() -> None:
    names = {tenant.timezone for tenant in TENANTS}
    days = [datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)]
    shifting = {name for name in names if len({day.astimezone(ZoneInfo(name)).utcoffset() for day in days}) > 1}
    assert {"America/Sao_Paulo", "Asia/Tokyo", "UTC"} <= names - shifting
    assert {"America/New_York", "Europe/Madrid"} <= shifting
    # Both sides of the world, so that the fleet's days begin and end at many hours.
    offsets = {NOW.astimezone(ZoneInfo(name)).utcoffset() for name in names}
    assert len(offsets) >= 4
    assert timedelta(hours=9) in offsets


def test_three_tenants_have_copies_and_two_share_a_project_by_label() -> None:
    assert len([tenant for tenant in TENANTS if tenant.entitlements.inter_region_backup]) == 3
    shared = [name for name, count in Counter(tenant.project for tenant in TENANTS).items() if count > 1]
    assert len(shared) == 1
    assert all(tenant.instances.by_label for tenant in TENANTS if tenant.project == shared[0])


@pytest.mark.parametrize("seed", SEEDS)
def test_the_cloud_holds_every_selected_instance(seed: int) -> None:
    held = example.inventory(TENANTS, seed)
    for tenant in TENANTS:
        for one in tenant.instances.by_name:
            assert (tenant.project, one.zone, one.name) in {(spec.project, spec.zone, spec.name) for spec in held}
        if tenant.instances.by_label:
            key, _, value = tenant.instances.by_label.label.partition("=")
            carrying = [spec for spec in held if spec.project == tenant.project and spec.labels.get(key) == value]
            assert example.LABELLED_MIN <= len(carrying) <= example.LABELLED_MAX
            assert len({spec.zone for spec in carrying}) == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_instances_have_one_to_five_disks_and_every_count_occurs(seed: int) -> None:
    held = example.inventory(TENANTS, seed)
    assert {len([disk for disk in spec.disks if disk.persistent]) for spec in held} == {1, 2, 3, 4, 5}
    assert all([disk.boot for disk in spec.disks] == [True] + [False] * (len(spec.disks) - 1) for spec in held)


@pytest.mark.parametrize("seed", SEEDS)
def test_some_instance_has_a_local_ssd_and_some_a_regional_disk(seed: int) -> None:
    held = example.inventory(TENANTS, seed)
    assert any(not disk.persistent for spec in held for disk in spec.disks)
    regional = [(spec, disk) for spec in held for disk in spec.disks if disk.regional]
    assert regional
    for spec, disk in regional:
        assert len(set(disk.replica_zones)) == 2
        assert spec.zone in disk.replica_zones
        assert {cloud.region_of(zone) for zone in disk.replica_zones} == {cloud.region_of(spec.zone)}


@pytest.mark.parametrize("seed", SEEDS)
def test_instances_of_one_moment_have_all_disks_in_one_zone_and_under_one_policy(seed: int) -> None:
    of_one_moment = {tenant.project for tenant in TENANTS if tenant.consistency == "group"}
    held = example.inventory(TENANTS, seed)
    together = [spec for spec in held if spec.project in of_one_moment]
    assert together
    assert not any(disk.regional for spec in together for disk in spec.disks)
    assert all(cloud.NAME.fullmatch(spec.consistency_group) for spec in together)
    assert len({(spec.project, spec.consistency_group) for spec in together}) == len(together)
    assert {spec.consistency_group for spec in held if spec.project not in of_one_moment} == {""}
    built = Cloud(seed, NOW)
    sim.populate(built, TENANTS, seed)
    grouped = {instance.link for instance in built.instances() if instance.project in of_one_moment}
    for disk in built.disks():
        policies = [policy.rpartition("/")[2] for policy in disk.get("resourcePolicies", ())]
        [user] = [cloud.partial_link(user) for user in disk["users"]]
        assert len(policies) == (user in grouped)


def test_the_networks_of_restore_tests_let_nothing_in_or_out() -> None:
    built = Cloud(1, NOW)
    sim.populate(built, TENANTS, 1)
    networks = {tenant.restore_test.network for tenant in TENANTS if tenant.restore_test}
    assert len(networks) > 1
    for network in networks:
        rules = list(LocalCompute(built).find(cloud.Firewall, network.split("/")[1]))
        assert {(rule.direction, rule.allows, rule.everything, rule.ranges) for rule in rules} == {
            (direction, False, True, ("0.0.0.0/0",)) for direction in ("INGRESS", "EGRESS")
        }
        assert {rule.network for rule in rules} == {network}
        assert not any(rule.targeted or rule.disabled for rule in rules)


@pytest.mark.parametrize("seed", SEEDS)
def test_names_are_valid_and_unique_where_they_must_be(seed: int) -> None:
    held = example.inventory(TENANTS, seed)
    places = Counter(
        (spec.project, cloud.region_of(spec.zone) if disk.regional else spec.zone, disk.name)
        for spec in held
        for disk in spec.disks
    )
    assert set(places.values()) == {1}
    for spec in held:
        for name in (spec.name, *(disk.name for disk in spec.disks)):
            assert cloud.NAME.fullmatch(name)


def test_the_longest_names_stay_valid_and_apart() -> None:
    names = [f"{'n' * 60}-{end}a" for end in "ab"]
    names += [f"{'n' * 40}-{'m' * 21}{end}" for end in "ab"]
    selected = Selected(by_name=[ByName(name=name, zone="us-east1-b") for name in names])
    [tenant] = [msgspec.structs.replace(TENANTS[0], instances=selected)]
    disks = [disk.name for spec in example.inventory([tenant], 1) for disk in spec.disks]
    assert len(set(disks)) == len(disks)
    assert all(cloud.NAME.fullmatch(name) for name in disks)


def test_the_same_fleet_and_seed_give_the_same_cloud() -> None:
    assert example.inventory(TENANTS, 3) == example.inventory([*reversed(TENANTS)], 3)


def test_another_seed_changes_sizes_but_neither_names_nor_the_number_of_disks() -> None:
    one, other = example.inventory(TENANTS, 1), example.inventory(TENANTS, 2)
    assert one != other
    assert names_of(one) == names_of(other)


def test_one_tenant_more_changes_nothing_about_the_others() -> None:
    fewer, all_of_them = example.inventory(TENANTS[1:], 1), example.inventory(TENANTS, 1)
    assert [spec for spec in all_of_them if spec in fewer] == fewer


def test_invented_instances_never_stand_in_the_region_of_their_copies() -> None:
    madrid = next(tenant for tenant in TENANTS if tenant.timezone == "Europe/Madrid")
    dunaria = next(tenant for tenant in TENANTS if tenant.id == "dunaria")
    copies = madrid.entitlements.inter_region_backup
    assert copies is not None
    for region in ("southamerica-east1", "us-east1"):
        entitlements = msgspec.structs.replace(
            madrid.entitlements, inter_region_backup=msgspec.structs.replace(copies, region=region)
        )
        tenant: Tenant = msgspec.structs.replace(dunaria, entitlements=entitlements)
        assert region not in {cloud.region_of(spec.zone) for spec in example.inventory([tenant], 1)}


def test_disks_are_encrypted_with_the_tenants_key_of_their_region() -> None:
    acme = next(tenant for tenant in TENANTS if tenant.id == "acme")
    keys = {disk.kms_key for spec in example.inventory([acme], 1) for disk in spec.disks if disk.persistent}
    assert keys == {acme.kms_keys["southamerica-east1"]}


def names_of(held: list[example.InstanceSpec]) -> list[tuple[str, str, str, tuple[str, ...]]]:
    return [(spec.project, spec.zone, spec.name, tuple(disk.name for disk in spec.disks)) for spec in held]

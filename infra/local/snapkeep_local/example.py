"""The cloud that a fleet file implies: which instances, disks and firewall rules the local cloud holds at the start.

A fleet file says which instances are a tenant's and nothing about what they are made of. That is invented here, and
follows from the names alone, so that two runs, and a run with one tenant more, hold the same instances. Only
what no decision depends on (sizes, machine types) varies with the seed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeVar

from snapkeep.cloud import region_of
from snapkeep.documents import Tenant

T = TypeVar("T")

DISKS_MAX: Final = 5  # persistent disks of an invented instance; at least 1
LABELLED_MIN: Final = 2  # instances invented for a label
LABELLED_MAX: Final = 3
NAME_CHARS_MAX: Final = 63
LOCAL_SSD_GB: Final = 375  # the one size that local SSDs have
DIRECTIONS: Final[tuple[Literal["INGRESS", "EGRESS"], ...]] = ("INGRESS", "EGRESS")

REGION_OF_ZONE_NAME: Final[Mapping[str, str]] = {
    "America/Sao_Paulo": "southamerica-east1",
    "America/Fortaleza": "southamerica-east1",
    "America/Santiago": "southamerica-west1",
    "America/New_York": "us-east4",
    "America/Chicago": "us-central1",
    "America/Los_Angeles": "us-west1",
    "Europe/London": "europe-west2",
    "Europe/Madrid": "europe-southwest1",
    "Asia/Tokyo": "asia-northeast1",
    "Asia/Singapore": "asia-southeast1",
}
REGION_OF_CONTINENT: Final[Mapping[str, str]] = {
    "Africa": "africa-south1",
    "America": "us-east4",
    "Asia": "asia-southeast1",
    "Australia": "australia-southeast1",
    "Europe": "europe-west3",
}
REGION_OTHERWISE: Final = "us-central1"
REGION_BESIDE: Final = "us-west1"  # where the plausible region is the one that the copies go to

MACHINE_TYPES: Final = ("e2-standard-2", "e2-standard-4", "n2-standard-4", "n2-standard-8")
MACHINE_TYPES_WITH_SSD: Final = ("n2-standard-4", "n2-standard-8")  # an e2 machine takes no local SSD
DATA_TYPES: Final = ("pd-balanced", "pd-ssd", "pd-standard")
BOOT_GB: Final = (20, 30, 50)
DATA_GB: Final = (50, 100, 200, 500)


@dataclass(frozen=True, slots=True)
class DiskSpec:
    name: str
    type: str  # short name: pd-balanced, ..., or local-ssd
    size_gb: int
    boot: bool = False
    persistent: bool = True  # False: a local SSD, which no snapshot can hold
    replica_zones: tuple[str, ...] = ()  # two zones: a regional disk; none: a disk of the instance's zone
    kms_key: str | None = None

    @property
    def regional(self) -> bool:
        return bool(self.replica_zones)


@dataclass(frozen=True, slots=True)
class InstanceSpec:
    project: str
    zone: str
    name: str
    machine_type: str
    disks: tuple[DiskSpec, ...]  # the boot disk first; between 1 and DISKS_MAX of them are persistent
    labels: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    service_account: str | None = None
    consistency_group: str = ""  # the policy that all its persistent disks are under; "": none


@dataclass(frozen=True, slots=True)
class DenialSpec:
    """A firewall rule that denies everything, in or out."""

    project: str
    name: str
    network: str  # link
    direction: Literal["INGRESS", "EGRESS"]


def denials(tenants: Iterable[Tenant]) -> list[DenialSpec]:
    """What isolates the networks of the tenants' restore tests: nothing comes in, and nothing goes out."""
    networks = sorted({tenant.restore_test.network for tenant in tenants if tenant.restore_test})
    return [denial(network, direction) for network in networks for direction in DIRECTIONS]


def denial(network: str, direction: Literal["INGRESS", "EGRESS"]) -> DenialSpec:
    _, project, *_, name = network.split("/")
    return DenialSpec(project, disk_name(name, f"deny-{direction.lower()}"), network, direction)


def inventory(tenants: Iterable[Tenant], seed: int = 0) -> list[InstanceSpec]:
    """The instances that the tenants select, in the order of project, zone and name.

    By name: that instance. By label: two or three that carry it, in one zone of the region that the tenant's time zone
    suggests (never the one that its copies go to).
    """
    found = {(spec.project, spec.zone, spec.name): spec for tenant in tenants for spec in instances(tenant, seed)}
    return [found[key] for key in sorted(found)]


def instances(tenant: Tenant, seed: int) -> Iterator[InstanceSpec]:
    for one in tenant.instances.by_name:
        yield instance(tenant, one.zone, one.name, {}, seed)
    if tenant.instances.by_label:
        key, _, value = tenant.instances.by_label.label.partition("=")
        region = region_for(tenant)
        zone = pick(("a", "b", "c"), tenant.id, "zone")
        count = LABELLED_MIN + number(tenant.id, "count") % (LABELLED_MAX - LABELLED_MIN + 1)
        for index in range(1, count + 1):
            # The tenant's id in the name keeps those of two tenants in one project apart.
            yield instance(tenant, f"{region}-{zone}", f"{tenant.id}-srv-{index}", {key: value}, seed)


def region_for(tenant: Tenant) -> str:
    """A plausible home region for the instances that a tenant selects by label."""
    continent = tenant.timezone.partition("/")[0]
    region = REGION_OF_ZONE_NAME.get(tenant.timezone, REGION_OF_CONTINENT.get(continent, REGION_OTHERWISE))
    copies = tenant.entitlements.inter_region_backup
    return REGION_BESIDE if copies and copies.region == region else region


def instance(tenant: Tenant, zone: str, name: str, labels: Mapping[str, str], seed: int) -> InstanceSpec:
    identity = (tenant.project, zone, name)
    chance = (*identity, str(seed))
    of_one_moment = tenant.consistency == "group"
    made = disks(identity, chance, tenant.kms_keys.get(region_of(zone)))
    # A consistency group holds one moment of the disks in one zone.
    own = tuple(disk for disk in made if not (of_one_moment and disk.regional))
    machine_types = MACHINE_TYPES if all(disk.persistent for disk in own) else MACHINE_TYPES_WITH_SSD
    return InstanceSpec(
        project=tenant.project,
        zone=zone,
        name=name,
        machine_type=pick(machine_types, *chance, "machine"),
        disks=own,
        labels={"environment": "production", **labels},
        # One entry that is worth keeping and one that may hold secrets: a point's definition must tell them apart.
        metadata={"enable-oslogin": "TRUE", "startup-script": f"#!/bin/sh\nexport ADMIN_TOKEN=invented-{name}\n"},
        tags=("pam",),
        service_account=f"server@{tenant.project}.iam.gserviceaccount.com",
        # A policy is of a region, where an instance of the same name may stand in another zone.
        consistency_group=disk_name(name, f"disks-{zone[-1]}") if of_one_moment else "",
    )


def disks(identity: tuple[str, str, str], chance: tuple[str, ...], kms_key: str | None) -> Iterator[DiskSpec]:
    """An instance's disks: the boot disk, its data disks, and on one instance in four a local SSD.

    On one instance in three that has data disks the last of them is regional.
    """
    _, zone, name = identity
    count = 1 + number(*identity, "disks") % DISKS_MAX
    yield DiskSpec(disk_name(name, "boot"), "pd-balanced", pick(BOOT_GB, *chance, "boot"), boot=True, kms_key=kms_key)
    for index in range(1, count):
        last_is_regional = index == count - 1 and number(*identity, "regional") % 3 == 0
        # A regional disk's name is unique in its region, where an instance of the same name may stand in another zone.
        suffix = f"data-{index}-regional-{zone[-1]}" if last_is_regional else f"data-{index}"
        yield DiskSpec(
            disk_name(name, suffix),
            "pd-balanced" if last_is_regional else pick(DATA_TYPES, *chance, f"type-{index}"),
            pick(DATA_GB, *chance, f"size-{index}"),
            replica_zones=replicas(zone) if last_is_regional else (),
            kms_key=kms_key,
        )
    if number(*identity, "scratch") % 4 == 0:
        yield DiskSpec(disk_name(name, "scratch"), "local-ssd", LOCAL_SSD_GB, persistent=False)


def disk_name(instance: str, suffix: str) -> str:
    """`{instance}-{suffix}`, cut where a name may be no longer; eight digits then keep the names of two apart."""
    whole = f"{instance}-{suffix}"
    if len(whole) <= NAME_CHARS_MAX:
        return whole
    tail = f"-{number(instance) % 16**8:08x}-{suffix}"
    return instance[: NAME_CHARS_MAX - len(tail)].rstrip("-") + tail


def replicas(zone: str) -> tuple[str, str]:
    """The instance's zone and another of its region."""
    return zone, f"{region_of(zone)}-{'b' if zone.endswith('-a') else 'a'}"


def pick(choices: Sequence[T], *words: str) -> T:
    return choices[number(*words) % len(choices)]


def number(*words: str) -> int:
    """A number that follows from the words alone, on every machine and in every release of Python."""
    return int.from_bytes(hashlib.sha256("\0".join(words).encode()).digest()[:8], "big")

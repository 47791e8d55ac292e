"""The roles are enough: each call of the simulated functions is one that its function's roles allow in that project.

Declarations are held per kind (`snapkeep_local.declared`); this is per permission, project and name, as IAM checks.
What each call needs is written down here anew, and not read from infra/permissions.yaml.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar, assert_never

import pytest
from tests.faults import restoring, sweep, world

from snapkeep import cloud, fleet
from snapkeep.cloud import Change, Resource
from snapkeep.permissions import Place, grants
from snapkeep.ports import Compute, Ports
from snapkeep_local import demo
from snapkeep_local.declared import Declared

R = TypeVar("R", bound=Resource)

DAYS: Final = 16
"""So long that points expire, disks that were replaced go, and what an ended add-on has missed is copied."""

COLLECTIONS: Final[Mapping[type[Any], str]] = {
    cloud.Instance: "instances",
    cloud.Disk: "disks",
    cloud.Snapshot: "snapshots",
    cloud.InstantSnapshot: "instantSnapshots",
    cloud.InstantSnapshotGroup: "instantSnapshotGroups",
    cloud.ResourcePolicy: "resourcePolicies",
    cloud.Zone: "zones",
    cloud.Firewall: "firewalls",
}
OPERATIONS: Final = {"global": "globalOperations", "zones": "zoneOperations", "regions": "regionOperations"}

Need = tuple[str, str, str]
"""A permission without `compute.`, the project that it is checked in, and the name of what it is checked on, or ''."""

ELSEWHERE: Final[tuple[Place, ...]] = ("instances", "network", "subnetwork", "service_account")
"""What a tenant's project is, where it names no other."""


def read(kind: type[Any], link: str) -> Need:
    _, project, scope, *_, name = link.split("/")
    return f"{OPERATIONS[scope] if kind is cloud.Operation else COLLECTIONS[kind]}.get", project, name


def on(permission: str, link: str) -> Need:
    """Checked on the resource of this link."""
    return permission, link.split("/")[1], link.rsplit("/", 1)[1]


def changed(change: Change) -> Iterator[Need]:
    match change:
        case cloud.InsertSnapshot():
            yield on("snapshots.create", change.link)
            yield on("snapshots.setLabels", change.link)
            if change.source_instant:
                yield on("instantSnapshots.useReadOnly", change.source_instant)
            else:
                yield on("disks.createSnapshot", change.source_disk)
        case cloud.InsertInstantSnapshot():
            yield on("instantSnapshots.create", change.link)
            yield on("instantSnapshots.setLabels", change.link)
            yield on("disks.createSnapshot", change.source_disk)
        case cloud.InsertInstantSnapshotGroup():
            yield on("instantSnapshotGroups.create", change.link)
            yield on("resourcePolicies.useReadOnly", change.consistency_group)
        case cloud.InsertDisk():
            yield on("disks.create", change.link)
            yield on("disks.setLabels", change.link)
            yield on("snapshots.useReadOnly", change.source_snapshot)
            yield from (on("resourcePolicies.use", policy) for policy in change.resource_policies)
        case cloud.InsertInstance():
            yield from made(change)
        case cloud.DeleteSnapshot():
            yield on("snapshots.delete", change.link)
        case cloud.DeleteInstantSnapshot():
            yield on("instantSnapshots.delete", change.link)
        case cloud.DeleteInstantSnapshotGroup():
            yield on("instantSnapshotGroups.delete", change.link)
        case cloud.DeleteDisk():
            yield on("disks.delete", change.link)
        case cloud.SetDiskLabels():
            yield on("disks.setLabels", change.link)
        case cloud.DeleteInstance():
            yield on("instances.delete", change.link)
        case cloud.StopInstance():
            yield on("instances.stop", change.link)
        case cloud.StartInstance():
            yield on("instances.start", change.link)
        case cloud.AttachDisk():
            yield on("instances.attachDisk", change.link)
            yield attached(change.disk)
        case cloud.DetachDisk():
            yield on("instances.detachDisk", change.link)
        case _:
            assert_never(change)


def made(change: cloud.InsertInstance) -> Iterator[Need]:
    yield on("instances.create", change.link)
    yield on("instances.setLabels", change.link)
    yield on("instances.setMetadata", change.link)
    for disk in change.disks:
        yield attached(disk) if disk.source else ("disks.create", change.project, "")
    if change.definition.get("tags"):
        yield on("instances.setTags", change.link)
    for account in change.definition.get("serviceAccounts", []):
        yield on("instances.setServiceAccount", change.link)
        yield "iam.serviceAccounts.actAs", change.project, account["email"]
    for nic in change.definition.get("networkInterfaces", []):
        connected = nic.get("subnetwork") or nic.get("network") or change.link
        yield "subnetworks.use", cloud.partial_link(connected).split("/")[1], ""


def attached(disk: cloud.Attachment) -> Need:
    return on("disks.use" if disk.mode == "READ_WRITE" else "disks.useReadOnly", disk.source)


@dataclass
class Roles:
    """What all functions may do where, by their roles; what they did, and what they may not have done."""

    places: Mapping[str, set[Place]]  # by project
    did: Counter[tuple[str, str]] = field(default_factory=Counter)  # function and permission
    refused: set[tuple[str, str, str, str]] = field(default_factory=set)  # function, permission, project and name

    def __post_init__(self) -> None:
        self._granted: defaultdict[tuple[str, Place, str], set[str | None]] = defaultdict(set)
        for grant in grants():
            permission = grant.permission.removeprefix("compute.")
            self._granted[grant.function, grant.place, permission].add(grant.condition)

    def check(self, function: str, needs: Iterator[Need]) -> None:
        for permission, project, name in needs:
            self.did[function, permission] += 1
            conditions: set[str | None] = set()
            for place in self.places[project]:
                conditions |= self._granted.get((function, place, permission), set())
            if None not in conditions and not ("ours" in conditions and name.startswith("sk-")):
                self.refused.add((function, permission, project, name))


@dataclass
class Watched:
    inner: Compute
    function: str
    roles: Roles

    def get(self, kind: type[R], link: str) -> R | None:
        self.roles.check(self.function, iter([read(kind, link)]))
        return self.inner.get(kind, link)

    def find(self, kind: type[R], project: str, where: str = "") -> Iterator[R]:
        self.roles.check(self.function, iter([(f"{COLLECTIONS[kind]}.list", project, "")]))
        return self.inner.find(kind, project, where)

    def start(self, change: Change, request_id: str) -> str:
        self.roles.check(self.function, changed(change))
        return self.inner.start(change, request_id)


def watch(monkeypatch: pytest.MonkeyPatch, roles: Roles) -> None:
    hold = Declared.hold

    def held(self: Declared, function: str, ports: Ports) -> Ports:
        found = hold(self, function, ports)
        return Ports(found.documents, Watched(found.compute, function, roles), found.bus, found.clock, found.guests)

    # Every simulation gives its functions their ports by it, and none has a place of its own for another look at them.
    monkeypatch.setattr(Declared, "hold", held)


def places_of(reading: fleet.Reading) -> Mapping[str, set[Place]]:
    """What each project of a fleet is to its tenants."""
    places: defaultdict[str, set[Place]] = defaultdict(set)
    for entry in reading.valid:
        places[str(entry.normal["project"])] |= set(ELSEWHERE)
        places[str(entry.normal["vault_project"])].add("vault")
    return places


@pytest.mark.slow
def test_sixteen_days_of_the_example_fleet_need_nothing_that_the_roles_have_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    reading = fleet.read(demo.EXAMPLE)
    roles = Roles(places_of(reading))
    watch(monkeypatch, roles)
    demo.run(reading, days=DAYS, seed=1, audit_folder=tmp_path, progress=lambda _: None)
    assert roles.refused == set()
    # That all of this happened, some of it in vaults of their own.
    for function, permission in (
        ("create", "snapshots.create"), ("reconcile", "instantSnapshots.delete"), ("expire", "snapshots.delete"),
        ("copy", "disks.create"), ("reconcile", "disks.delete"), ("restore", "instances.create"),
        ("restore", "disks.delete"), ("restore", "instances.stop"), ("retention", "snapshots.list"),
    ):  # fmt: skip
        assert roles.did[function, permission], (function, permission)


@pytest.mark.slow
def test_a_hostile_world_needs_nothing_that_the_roles_have_not(monkeypatch: pytest.MonkeyPatch) -> None:
    roles = Roles(places_of(fleet.read(world.FLEET)))
    watch(monkeypatch, roles)
    with world.quiet_log():
        world.World(0).run()
    assert roles.refused == set()
    assert roles.did["reconcile", "disks.create"]  # asked for again, after a death


@pytest.mark.parametrize("name", list(sweep.SCENARIOS))
def test_a_restore_needs_nothing_that_the_roles_have_not(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    roles = Roles({restoring.PROJECT: set(ELSEWHERE), restoring.VAULT: {"vault"}})
    watch(monkeypatch, roles)
    scene = restoring.Scene()
    sweep.SCENARIOS[name].begin(scene)
    sweep.SCENARIOS[name].end(scene, lambda: None)
    assert roles.refused == set()
    assert roles.did["restore", "disks.get"] or name == "nobody approves"


def test_what_the_roles_have_not_is_seen() -> None:
    roles = Roles({"acme-prod": set(ELSEWHERE), "acme-vault": {"vault"}})
    roles.check("expire", changed(cloud.DeleteSnapshot("acme-vault", "sk-one", "1", 1)))
    roles.check("restore", changed(cloud.StopInstance("acme-prod", "z", "app", "1", 1)))
    assert roles.refused == set()
    roles.check("expire", changed(cloud.DeleteSnapshot("acme-vault", "theirs", "1", 1)))
    roles.check("create", changed(cloud.DeleteSnapshot("acme-vault", "sk-one", "1", 1)))
    roles.check("copy", changed(cloud.DeleteDisk("acme-prod", "zones/z", "sk-one", "1", 1)))
    roles.check("discover", iter([read(cloud.Instance, "projects/acme-prod/zones/z/instances/app")]))
    assert roles.refused == {
        ("expire", "snapshots.delete", "acme-vault", "theirs"),
        ("create", "snapshots.delete", "acme-vault", "sk-one"),
        ("copy", "disks.delete", "acme-prod", "sk-one"),
        ("discover", "instances.get", "acme-prod", "app"),
    }

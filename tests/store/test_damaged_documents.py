"""One document that is not what it should be stops nobody else's recovery points."""

from typing import Any

import msgspec
import pytest
from tests.makers import INSTANCE_ID, World, disk, machine, owner_due, tenant

from snapkeep import documents as d
from snapkeep.messages import CreateRequested, CreateRequestedData
from snapkeep.ports import Create, Data, Replace


def two_tenants() -> World:
    """Acme and Beta, each with one machine, discovered."""
    one = World()
    for id in ("acme", "beta"):
        boot = disk(project=f"{id}-prod")
        owner = tenant(id=id, project=f"{id}-prod", vault_project=f"{id}-prod", timezone="UTC")
        one.set_up(machine(boot, project=f"{id}-prod"), of=owner, disks=(boot,))
    one.lose_messages()
    return one


def slot_comes(one: World) -> None:
    (here,) = one.instances("beta")
    assert here.next_slot_at is not None
    one.clock.at = here.next_slot_at


def damage(one: World, path: str, **fields: Any) -> None:
    (doc,) = one.memory.get(path)
    data: Data = (doc.data if doc else {}) | fields
    one.memory.commit(Replace(path, data, doc.version) if doc else Create(path, data))


def remove(one: World, path: str) -> None:
    damage(one, path, gone_at=one.clock.now())
    one.memory.remove_expired(path.split("/")[-2], "gone_at")


DAMAGES = [
    ("tenants/acme", {"rpo_hours": "many"}),
    ("tenants/acme", {"schema": None}),
    (f"tenants/acme/instances/{INSTANCE_ID}", {"disks": "none"}),
]


@pytest.mark.parametrize(("path", "fields"), DAMAGES)
def test_a_damaged_tenant_or_instance_does_not_stop_another_tenants_points(path: str, fields: dict[str, Any]) -> None:
    one = two_tenants()
    damage(one, path, **fields)
    slot_comes(one)
    one.tick("plan")
    one.clock.move(minutes=20)
    one.compute.finish_all()
    one.tick("reconcile", "health")
    assert [p.state for p in one.points("beta")] == ["verified"]
    assert one.read(d.TenantHealth, "health/beta").counts["verified"] == 1


@pytest.mark.parametrize(
    "fields", [{"disks": 7}, {"state": "odd"}, {"instance": None}, {"deadline": "never"}, {"requested_at": None}]
)
def test_a_damaged_point_does_not_stop_the_others(fields: dict[str, Any]) -> None:
    one = two_tenants()
    slot_comes(one)
    one.tick("plan")
    (path,) = [path for path, _ in one.documents_in("tenants/acme/points/")]
    damage(one, path, **fields)
    one.clock.move(minutes=20)
    one.compute.finish_all()
    one.tick("reconcile")
    assert [p.state for p in one.points("beta")] == ["verified"]


@pytest.mark.parametrize("path", ["tenants/acme", f"tenants/acme/instances/{INSTANCE_ID}"])
def test_a_tenant_or_instance_that_someone_removed_does_not_stop_the_others(path: str) -> None:
    one = two_tenants()
    slot_comes(one)
    one.tick("plan")
    remove(one, path)
    one.clock.move(minutes=20)
    one.compute.finish_all()
    one.tick("reconcile")
    assert [p.state for p in one.points("beta")] == ["verified"]


def test_a_point_whose_instance_document_is_gone_still_ends() -> None:
    one = two_tenants()
    slot_comes(one)
    one.tick("plan")
    remove(one, f"tenants/acme/instances/{INSTANCE_ID}")
    one.clock.move(minutes=20)
    one.compute.finish_all()
    one.tick("reconcile")
    assert [p.state for p in one.points("acme")] == ["verified"]


def test_a_damaged_tenant_does_not_stop_the_discovery_of_another() -> None:
    one = two_tenants()
    one.clock.move(hours=1)
    damage(one, "tenants/acme", instances=[])
    one.put(("tenants/beta", owner_due(one.read(d.Tenant, "tenants/beta"), one.clock.now())))
    one.compute.calls.clear()
    one.tick("discover")
    assert "find Instance beta-prod" in one.compute.calls


def test_a_request_for_a_damaged_tenant_is_kept_until_it_is_mended() -> None:
    one = two_tenants()
    whole = one.memory.dump()["tenants/acme"]
    damage(one, "tenants/acme", rpo_hours="many")
    wanted = CreateRequested(
        id="r-1",
        tenant="acme",
        claimed_actor="ci@vendor.example",
        reason="before import",
        data=CreateRequestedData(instance="acme-pam-1"),
    )
    with pytest.raises(msgspec.ValidationError, match=r"tenants/acme: .*rpo_hours"):
        one.hand("create", wanted)
    assert not [path for path in one.memory.dump() if path.startswith("rejected/")]
    damage(one, "tenants/acme", **whole)
    one.hand("create", wanted)
    assert [point.trigger for point in one.points()] == ["on_demand"]


def test_a_damaged_record_of_a_bad_message_does_not_stop_health() -> None:
    one = two_tenants()
    for number in range(2):
        one.hand("create", b"bad %d" % number)
    damaged, _ = [path for path, _ in one.documents_in("rejected/")]
    damage(one, damaged, reason=7)
    one.tick("health")
    page = one.read(d.FleetHealth, "health/_fleet")
    assert (page.tenants, page.rejected) == (2, 1)

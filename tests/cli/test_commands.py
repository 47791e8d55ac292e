"""What the commands do to the documents."""

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.makers import INSTANCE_ID, World, disk, machine
from tests.web.fleets import put_stored

from snapkeep import commands, fleet
from snapkeep import documents as d
from snapkeep.ports import Transient
from snapkeep.store import Fleet
from snapkeep_local import runner

ACTOR = "claimed:operator"

ACME = """\
tenants:
  - id: acme
    name: Acme Bank
    project: acme-prod
    timezone: UTC
    instances: [{name: acme-pam-1, zone: southamerica-east1-a}]
"""


def reading(folder: Path, text: str = ACME) -> fleet.Reading:
    path = folder / "fleet.yaml"
    path.write_text(text)
    return fleet.read(path)


def world() -> World:
    one = World()
    one.compute.add(disk(), machine(disk()))
    return one


def tenants(one: World) -> list[str]:
    return [tenant.value.id for tenant in Fleet(one.ports.documents).tenants()]


def test_applying_discovers_at_once_and_records_who_changed_what(tmp_path: Path) -> None:
    one = world()
    applied = commands.apply_fleet(one.ports, reading(tmp_path), ACTOR)
    assert {change.tenant for change in applied.changes} == {"acme"}
    one.deliver()
    assert [i.id for i in one.instances()] == [INSTANCE_ID]
    first = one.records()[0]
    assert (first["action"], first["actor"], first["outcome"]) == ("tenant.applied", ACTOR, "succeeded")
    assert first["detail"]["changes"]


def test_applying_twice_changes_nothing_the_second_time(tmp_path: Path) -> None:
    one = world()
    commands.apply_fleet(one.ports, reading(tmp_path), ACTOR)
    one.deliver()
    before = one.memory.dump()
    one.clock.move(hours=2)
    applied = commands.apply_fleet(one.ports, reading(tmp_path), "claimed:another")
    assert (applied.changes, applied.unchanged) == ((), ("acme",))
    assert one.memory.dump() == before
    assert one.bus.pending() == []


def test_a_dry_run_says_what_would_change_and_changes_nothing(tmp_path: Path) -> None:
    one = world()
    applied = commands.apply_fleet(one.ports, reading(tmp_path), ACTOR, dry_run=True)
    assert applied.changes
    assert one.memory.dump() == {}
    assert one.bus.pending() == []


def test_a_tenant_that_the_file_no_longer_names_is_kept(tmp_path: Path) -> None:
    one = world()
    commands.apply_fleet(one.ports, reading(tmp_path), ACTOR)
    commands.apply_fleet(one.ports, reading(tmp_path, ACME.replace("id: acme", "id: beta")), ACTOR)
    assert tenants(one) == ["acme", "beta"]


def test_a_file_that_gives_points_up_is_stored_only_for_exactly_as_many(tmp_path: Path) -> None:
    one = world()
    two = ACME.replace("instances: [", "instances: [{name: acme-pam-2, zone: southamerica-east1-a}, ")
    commands.apply_fleet(one.ports, reading(tmp_path, two), ACTOR)
    one.deliver()
    put_stored(one, "acme", 3)
    before = one.memory.dump()
    other = reading(tmp_path, two.replace("name: acme-pam-1", "name: acme-pma-1"))
    for accepted in (0, 2, 4):
        with pytest.raises(commands.Clash, match=f"gives up 3 points, and {accepted} are accepted"):
            commands.apply_fleet(one.ports, other, ACTOR, accept_deletions=accepted)
    assert one.memory.dump() == before
    applied = commands.apply_fleet(one.ports, other, ACTOR, accept_deletions=3)
    assert [change.deletions for change in applied.changes] == [3]
    assert "snapkeep-retention" in [message.topic for message in one.bus.pending()]


def test_a_local_cloud_goes_on_as_it_was_where_its_file_gives_points_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = world()
    runner.apply_file(one.ports, reading(tmp_path))
    one.deliver()
    put_stored(one, "acme", 3)
    before = one.memory.dump()
    runner.apply_file(one.ports, reading(tmp_path, ACME.replace("acme-pam-1", "acme-pma-1")))
    assert one.memory.dump() == before
    assert "not applied: the fleet file gives up 3 points" in caplog.text


def test_a_file_with_a_mistake_changes_nothing_unless_told_to_keep_going(tmp_path: Path) -> None:
    one = world()
    text = ACME + "  - {id: Bad}\n"
    applied = commands.apply_fleet(one.ports, reading(tmp_path, text), ACTOR)
    assert (applied.changes, applied.left_out) == ((), ("acme",))
    assert one.memory.dump() == {}
    applied = commands.apply_fleet(one.ports, reading(tmp_path, text), ACTOR, keep_going=True)
    assert applied.left_out == ()
    assert tenants(one) == ["acme"]


class Meanwhile:
    """Documents in which something happens before each of the first commits."""

    def __init__(self, one: World, times: int) -> None:
        self.one = one
        self.left = times

    def get(self, *paths: str) -> Any:
        return self.one.memory.get(*paths)

    def find(self, query: Any) -> Any:
        return self.one.memory.find(query)

    def commit(self, *writes: Any) -> None:
        if self.left:
            self.left -= 1
            owner = self.one.read(d.Tenant, "tenants/acme")
            failure = d.Failure(code="forbidden", message=str(self.left))
            self.one.put(("tenants/acme", replace(owner, unmatched=["ghost"], discovery_failure=failure)))
        self.one.memory.commit(*writes)


def test_what_discovery_keeps_of_a_tenant_survives_an_edit_at_the_same_time(tmp_path: Path) -> None:
    one = world()
    commands.apply_fleet(one.ports, reading(tmp_path), ACTOR)
    one.clock.move(minutes=1)
    one.documents = Meanwhile(one, 1)
    commands.apply_fleet(one.ports, reading(tmp_path, ACME.replace("Acme Bank", "Acme")), ACTOR)
    owner = one.read(d.Tenant, "tenants/acme")
    assert (owner.name, owner.unmatched) == ("Acme", ["ghost"])


def test_an_edit_that_never_gets_through_says_so(tmp_path: Path) -> None:
    one = world()
    commands.apply_fleet(one.ports, reading(tmp_path), ACTOR)
    one.clock.move(minutes=1)
    one.documents = Meanwhile(one, 100)
    with pytest.raises(Transient, match="ask again"):
        commands.apply_fleet(one.ports, reading(tmp_path, ACME.replace("Acme Bank", "Acme")), ACTOR)

"""The demo says exactly what each policy keeps, and finds whatever is stored, or gone, against it."""

from __future__ import annotations

import json
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


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> System:
    """Eight quiet days of one instance of which three days' points are kept."""
    path = tmp_path_factory.mktemp("fleet") / "fleet.yaml"
    path.write_text(FLEET)
    system = System(seed=1, start=demo.START)
    system.apply(fleet.read(path))
    system.run(timedelta(days=DAYS))
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

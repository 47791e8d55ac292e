"""Orphans: what nobody knows and what is gone, found by one listing a day, told once and left alone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.retention.scene import DAY, HOUR, INSTANCE_ID, NOW, PROJECT, REGION, VAULT, ZONE, Scene

from snapkeep import documents as d
from snapkeep.retention import orphans
from snapkeep_local.faults import ErrorBefore, Fault

KEEP_ALL = d.Retention(keep_last=1000, lock_days=0)
OURS = {"snapkeep-tenant": "acme", "snapkeep-point": "20261101-o-app-00000001", "snapkeep-role": "home"}


def scene(policy: d.Retention = KEEP_ALL, *, tenants: list[str] | None = None) -> Scene:
    one = Scene(policy)
    known = ["acme"] if tenants is None else tenants
    one.put(f"vaults/{VAULT}", d.Vault(updated_at=NOW, project=VAULT, tenants=known, next_at=NOW))
    return one


def vault(one: Scene) -> d.Vault:
    (doc,) = one.memory.get(f"vaults/{VAULT}")
    assert doc is not None
    return d.from_data(d.Vault, doc.data)


def found(one: Scene) -> list[tuple[str, str]]:
    return [(orphan.kind, orphan.snapshot) for orphan in vault(one).orphans]


def link(name: str) -> str:
    return f"projects/{VAULT}/global/snapshots/{name}"


def test_where_all_is_as_it_should_be_there_is_no_orphan() -> None:
    one = scene()
    one.take(disks=2, attempts=2)
    one.take(state="failed", noted=False)
    one.take(state="creating", noted=False, verified_at=None)
    one.cloud.plant_snapshot(project=VAULT, name="somebody-elses", labels={"team": "data"})
    one.tick()
    assert vault(one).listed_at == one.cloud.now
    assert (found(one), vault(one).orphans_total, one.events()) == ([], 0, [])


def test_a_vault_is_listed_once_a_day_by_one_call() -> None:
    one = scene()
    one.take()
    lists: list[str] = []
    one.effects.before = lambda effect: lists.append(effect) if effect.startswith("compute.find") else None
    one.wait(DAY * 3)
    assert lists == [f"compute.find {VAULT}"] * 3


@pytest.mark.parametrize(
    "labels",
    [
        OURS,
        {"snapkeep-tenant": "acme"},
        {"snapkeep-point": "20261101-o-app-00000001"},
        {"snapkeep-tenant": "nobody", "snapkeep-point": "none"},
        {"snapkeep-tenant": "a/b", "snapkeep-point": "../tenants/acme"},
    ],
    ids=str,
)
def test_a_snapshot_with_our_labels_that_no_document_knows_is_told_once_and_left_alone(labels: dict[str, str]) -> None:
    one = scene()
    one.take()
    disk = f"projects/{PROJECT}/zones/{ZONE}/disks/disk-0"
    one.cloud.plant_snapshot(project=VAULT, name="sk-forged", labels=labels, source_disk=disk, location=REGION)
    one.wait(DAY * 3)
    assert found(one) == [("unknown_snapshot", "sk-forged")]
    (orphan,) = vault(one).orphans
    assert (orphan.tenant, orphan.point) == (labels.get("snapkeep-tenant"), labels.get("snapkeep-point"))
    assert orphan.found_at < one.cloud.now - DAY, "when it was first found"
    (event,) = one.events("_system")
    assert (event["type"], event["data"]["kind"], event["data"]["project"]) == (
        "orphan.found",
        "unknown_snapshot",
        VAULT,
    )
    assert one.events() == []
    assert one.snapshot("sk-forged") is not None
    one.cloud.remove_snapshot(link("sk-forged"))
    one.wait(DAY + HOUR)
    assert found(one) == []


def test_a_snapshot_that_is_gone_is_told_once_and_its_point_fills_no_bucket() -> None:
    one = scene(d.Retention(keep_last=1, keep_daily=0, keep_weekly=0, keep_monthly=0, lock_days=0))
    older, newest = one.take(disks=2), one.take(disks=2)
    lost, _ = one.names(newest)
    one.cloud.remove_snapshot(link(lost))
    one.tick()
    one.wait(3 * DAY)
    assert found(one) == [("snapshot_gone", lost)]
    assert one.point(newest).gone == [lost]
    (event,) = one.events()
    assert (event["type"], event["data"]["kind"]) == ("orphan.found", "snapshot_gone")
    assert (event["data"]["point"], event["data"]["snapshots"]) == (newest, [lost])
    assert one.events("_system") == []
    assert [one.point(id).state for id in (older, newest)] == ["verified", "verified"], "the older one is kept instead"
    assert one.deletions == []


def test_another_snapshot_under_our_name_is_not_ours() -> None:
    one = scene()
    (name,) = one.names(one.take())
    one.cloud.remove_snapshot(link(name))
    one.cloud.plant_snapshot(project=VAULT, name=name, labels=OURS)
    one.tick()
    assert sorted(found(one)) == [("snapshot_gone", name), ("unknown_snapshot", name)]


def test_a_snapshot_that_is_there_again_completes_its_point() -> None:
    one = scene()
    id = one.take()
    (name,) = one.names(id)
    ours = one.cloud._snapshots[link(name)]  # nobody can bring one back, but a listing may have erred
    one.cloud.remove_snapshot(link(name))
    one.tick()
    assert one.point(id).gone == [name]
    one.cloud._store_snapshot(ours)
    one.wait(DAY + HOUR)
    assert (one.point(id).gone, found(one)) == ([], [])
    assert len(one.events()) == 1


def test_what_is_being_deleted_or_was_just_deleted_is_no_orphan() -> None:
    one = scene(d.Retention(keep_last=1, keep_daily=0, keep_weekly=0, keep_monthly=0, lock_days=0))
    for _ in range(3):
        one.take(disks=2)
        one.cloud.advance(one.cloud.now + DAY)
    one.tick()
    for _ in range(24 * 6 * 2):
        one.wait(timedelta(minutes=10))
        (doc,) = one.memory.get(f"vaults/{VAULT}")
        assert doc is not None
        one.put(f"vaults/{VAULT}", d.from_data(d.Vault, doc.data | {"next_at": one.cloud.now}))
        assert found(one) == []
    assert one.states == ["deleted", "deleted", "verified"]


def test_a_point_that_ends_while_its_vault_is_listed_is_not_missed() -> None:
    one = scene()

    def ends(effect: str) -> None:
        if effect == "find tenants/acme/points":
            one.effects.before = lambda effect: None
            one.take()  # committed after the listing was read

    one.effects.before = ends
    orphans.look(one.ports)
    assert found(one) == []


def test_a_tenant_that_came_to_the_vault_since_is_known_by_its_points() -> None:
    one = scene(tenants=[])
    one.take(disks=2)
    one.tick()
    assert found(one) == []


def test_a_vault_that_gives_no_answer_says_so_and_is_tried_again() -> None:
    one = scene()
    one.take()
    down = one.cloud.add_fault(
        Fault(effect=ErrorBefore(status=403, reason="forbidden", message="permission missing"), method="snapshots.list")
    )
    one.tick()
    assert vault(one).failure == d.Failure(code="forbidden", message="permission missing")
    assert vault(one).listed_at is None
    one.cloud.clear_faults(down)
    one.wait(orphans.AGAIN + HOUR)
    assert vault(one).failure is None
    assert vault(one).listed_at is not None


def test_more_orphans_than_a_document_holds_are_counted() -> None:
    one = scene()
    for number in range(orphans.ORPHANS_MAX + 7):
        one.cloud.plant_snapshot(project=VAULT, name=f"sk-{number}", labels={"snapkeep-tenant": "acme"})
    one.tick()
    assert (len(vault(one).orphans), vault(one).orphans_total) == (orphans.ORPHANS_MAX, orphans.ORPHANS_MAX + 7)
    (event,) = one.events("_system")
    assert (event["data"]["count"], len(event["data"]["snapshots"])) == (orphans.ORPHANS_MAX + 7, orphans.NAMED_MAX)
    one.wait(2 * DAY)
    assert len(one.events("_system")) == 1
    one.cloud.plant_snapshot(project=VAULT, name="sk-new", labels={"snapkeep-tenant": "acme"})
    one.wait(DAY)
    assert len(one.events("_system")) == 2


def test_one_run_lists_so_many_vaults_and_the_rest_is_due_still(monkeypatch: pytest.MonkeyPatch) -> None:
    one = scene()
    for number in range(3):
        fields: dict[str, Any] = {"project": f"vault-{number}", "tenants": [], "next_at": NOW}
        one.put(f"vaults/vault-{number}", d.Vault(updated_at=NOW, **fields))
    monkeypatch.setattr(orphans, "VAULTS_PER_RUN", 2)
    listed = []
    for _ in range(2):
        one.tick()
        dump = one.memory.dump()
        listed.append(sum(data["listed_at"] is not None for path, data in dump.items() if path.startswith("vaults/")))
    assert listed == [2, 4]


def test_an_instance_whose_point_is_incomplete_is_weighed_anew() -> None:
    one = scene()
    (name,) = one.names(one.take())
    one.wait(HOUR)
    one.cloud.remove_snapshot(link(name))
    one.wait(DAY)
    assert one.read(d.Instance, "instances", INSTANCE_ID).retention.plan_at is not None
    (record,) = one.records("point.incomplete")
    assert record["detail"]["gone"] == [name]

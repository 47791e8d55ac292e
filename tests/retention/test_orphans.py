"""Orphans: what nobody knows and what is gone, found by one listing a day, told once and left alone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from tests.retention.scene import DAY, HOUR, INSTANCE_ID, NOW, PROJECT, REGION, US, VAULT, ZONE, Death, Scene, meets

from snapkeep import documents as d
from snapkeep.messages import Nudge, parse
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
    assert one.instance.retention.incomplete == 1


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
    orphans.look(one.of("retention"))
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


def test_one_run_lists_so_many_vaults_and_the_rest_is_due_still() -> None:
    one = scene()
    for number in range(orphans.VAULTS_PER_RUN + 1):
        fields: dict[str, Any] = {"project": f"vault-{number}", "tenants": [], "next_at": NOW}
        one.put(f"vaults/vault-{number}", d.Vault(updated_at=NOW, **fields))
    listed = []
    for _ in range(2):
        one.tick()
        dump = one.memory.dump()
        listed.append(sum(data["listed_at"] is not None for path, data in dump.items() if path.startswith("vaults/")))
    assert listed == [orphans.VAULTS_PER_RUN, orphans.VAULTS_PER_RUN + 2]


def test_an_instance_whose_point_is_incomplete_is_weighed_anew() -> None:
    one = scene()
    (name,) = one.names(one.take())
    one.wait(HOUR)
    one.cloud.remove_snapshot(link(name))
    one.wait(DAY)
    assert one.read(d.Instance, "instances", INSTANCE_ID).retention.plan_at is not None
    (record,) = one.records("point.incomplete")
    assert record["detail"]["gone"] == [name]


def test_an_instance_whose_newest_point_is_gone_is_in_breach_by_the_one_before() -> None:
    one = scene(d.Retention(keep_last=1, keep_daily=0, keep_weekly=0, keep_monthly=0, lock_days=0))
    one.change(d.Tenant, rpo_hours=26)
    ids = []
    for _ in range(3):
        one.cloud.advance(one.cloud.now + timedelta(hours=30))
        ids.append(one.take())
    took_s = newest(one).took_s
    taken_at = one.point(ids[1]).disks[0].snapshot.created_at
    assert taken_at is not None
    one.cloud.remove_snapshot(link(one.names(ids[2])[0]))
    orphans.look(one.of("retention"))
    assert newest(one) == d.Newest(point=ids[1], at=taken_at, took_s=took_s)
    assert one.instance.breach_due_at == taken_at + timedelta(hours=26), "which is over: health tells it"
    assert one.instance.updated_at == one.cloud.now, "so that health looks"
    one.tick()
    one.wait(DAY + HOUR)
    assert one.states == ["verified"] * 3, "in breach nothing goes"


def test_one_that_is_there_again_is_the_newest_again() -> None:
    one = scene()
    one.change(d.Tenant, rpo_hours=26)
    one.take()
    one.cloud.advance(one.cloud.now + HOUR)
    id = one.take()
    before = one.instance
    (name,) = one.names(id)
    ours = one.cloud._snapshots[link(name)]
    one.cloud.remove_snapshot(link(name))
    one.tick()
    assert newest(one).point != id
    one.cloud._store_snapshot(ours)
    one.wait(DAY + HOUR)
    assert (newest(one), one.instance.breach_due_at) == (before.newest_verified, before.breach_due_at)


def test_an_instance_whose_only_point_is_gone_has_none_and_a_breach_that_stands_is_healths_to_end() -> None:
    one = scene()
    id = one.take()
    one.change(d.Instance, "instances", INSTANCE_ID, breach_at=NOW, breach_due_at=None)
    (name,) = one.names(id)
    ours = one.cloud._snapshots[link(name)]
    one.cloud.remove_snapshot(link(name))
    one.tick()
    assert (one.instance.newest_verified, one.instance.breach_at, one.instance.breach_due_at) == (None, NOW, None)
    one.cloud._store_snapshot(ours)
    one.wait(DAY + HOUR)
    assert (newest(one).point, newest(one).took_s) == (id, one.point(id).expected_s)
    assert (one.instance.breach_at, one.instance.breach_due_at) == (NOW, None)


def test_of_a_whole_vault_that_is_gone_every_point_is_noted() -> None:
    one = scene()
    ids = [one.take() for _ in range(orphans.NOTED_AT_ONCE + 5)]
    for id in ids:
        one.cloud.remove_snapshot(link(one.names(id)[0]))
    one.tick()
    assert [len(one.point(id).gone) for id in ids] == [1] * len(ids)
    assert (one.instance.newest_verified, len(one.events())) == (None, len(ids))


def newest(one: Scene) -> d.Newest:
    assert one.instance.newest_verified is not None
    return one.instance.newest_verified


def test_strangers_are_looked_up_together_and_those_that_are_known_to_be_strangers_not_again() -> None:
    one = scene()
    for number in range(250):
        plant(one, f"sk-{number}", {"snapkeep-tenant": f"t-{number}", "snapkeep-point": f"p-{number}"})
    lookups: list[str] = []
    one.effects.before = lambda effect: lookups.append(effect) if effect.startswith("get tenants/t-") else None
    orphans.look(one.of("retention"))
    assert [effect.count("/points/") for effect in lookups] == [100, 100, 50]
    assert vault(one).orphans_total == 250
    lookups.clear()
    plant(one, "sk-new", {"snapkeep-tenant": "t-new", "snapkeep-point": "p-new"})
    one.wait(DAY + HOUR)
    assert lookups == ["get tenants/t-new/points/p-new"]
    assert vault(one).orphans_total == 251


def test_one_listing_looks_up_so_many_strangers_and_counts_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    # Fewer than a vault's document names, so that it shows which were looked up.
    monkeypatch.setattr(orphans, "STRANGERS_MAX", 3)
    one = scene()
    for number in range(5):
        plant(one, f"sk-{number}", {"snapkeep-tenant": "acme"})
    one.tick()
    assert ([orphan.snapshot for orphan in vault(one).orphans], vault(one).orphans_total) == (
        ["sk-0", "sk-1", "sk-2"],
        5,
    )
    one.wait(DAY + HOUR)
    assert len(vault(one).orphans) == 5


def plant(one: Scene, name: str, labels: dict[str, str]) -> None:
    one.cloud.plant_snapshot(project=VAULT, name=name, labels=labels)


def test_a_vault_that_kills_every_run_keeps_no_other_waiting() -> None:
    one = scene()
    one.put("vaults/other", d.Vault(updated_at=NOW, project="other", tenants=[], next_at=NOW + timedelta(seconds=1)))
    one.cloud.advance(NOW + HOUR)
    one.effects.before = meets(f"compute.find {VAULT}", Death())
    with pytest.raises(Death):
        orphans.look(one.of("retention"))
    orphans.look(one.of("retention"))
    (other,) = one.memory.get("vaults/other")
    assert other is not None
    assert other.data["listed_at"] == one.cloud.now
    assert vault(one).next_at == one.cloud.now + orphans.AGAIN


def test_a_vault_that_another_run_has_taken_on_is_left_to_it() -> None:
    one = scene()
    lists: list[str] = []

    def other_run(effect: str) -> None:
        if effect.startswith("compute.find"):
            lists.append(effect)
        if effect == f"commit vaults/{VAULT}" and not lists:
            one.effects.before = lambda effect: None
            orphans.look(one.of("retention"))
            one.effects.before = other_run

    one.effects.before = other_run
    orphans.look(one.of("retention"))
    assert lists == []
    assert vault(one).listed_at == one.cloud.now


def test_of_more_points_than_are_compared_the_vault_says_so_and_makes_no_strangers(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # As many points as the real bound has would take minutes.
    monkeypatch.setattr(orphans, "STORED_PAGES_MAX", 1)
    one = scene()
    for _ in range(101):
        one.take()
    one.tick()
    failure = vault(one).failure
    assert failure is not None
    assert failure.code == "too_many_points"
    assert "acme: more than 100 stored points" in failure.message
    assert failure.message in caplog.text
    assert found(one) == []


# --- copies ---------------------------------------------------------------------------------------------------------


def with_copies() -> tuple[Scene, str]:
    """Two points with a copy each in the region that is bought; the newer one's id."""
    one = scene()
    add_on = d.InterRegionBackup(region=US, valid_until="2030-12-31", retention=d.CopyRetention(keep_last=1))
    one.change(d.Tenant, entitlements=d.Entitlements(inter_region_backup=add_on))
    for id in (one.take(), one.take()):
        one.copy(id, attempts=2)
    return one, id


def test_snapshots_of_copies_are_known_also_where_nothing_is_at_home_any_more() -> None:
    one, id = with_copies()
    gone_at_home = replace(one.point(id), state="deleted", updated_at=NOW - DAY)
    one.put(f"tenants/acme/points/{id}", gone_at_home)
    for name in one.names(id):
        one.cloud.remove_snapshot(link(name))
    one.tick()
    assert (found(one), one.events()) == ([], [])


def test_a_snapshot_that_is_gone_from_a_copy_is_noted_there_and_the_point_at_home_is_whole() -> None:
    one, id = with_copies()
    (_, lost) = one.copy_names(id)
    one.cloud.remove_snapshot(link(lost))
    one.tick()
    assert (one.point(id).gone, one.point(id).copies[US].gone) == ([], [lost])
    (orphan,) = vault(one).orphans
    assert (orphan.kind, orphan.snapshot, orphan.point, orphan.copy) == ("snapshot_gone", lost, id, US)
    (event,) = one.events()
    assert (event["data"]["point"], event["data"]["region"], event["data"]["snapshots"]) == (id, US, [lost])
    (record,) = one.records("copy.incomplete")
    assert (record["subject"], record["detail"]["gone"]) == (f"points/{id}", [lost])
    assert (one.instance.copies.verified, one.instance.retention.incomplete) == (1, 1)
    one.wait(9 * DAY)
    assert one.copy_states() == ["verified", "verified"], "the older one is kept instead, this one for a person to see"


def test_when_the_newest_copy_is_gone_entitlements_is_woken_to_tell_which_is_the_newest_then() -> None:
    one, id = with_copies()
    one.cloud.remove_snapshot(link(one.copy_names(id)[-1]))
    one.tick()
    assert one.instance.copies.newest == {}
    assert [parse(body) for body in one.bus.outbox("snapkeep-entitlements")] == [Nudge(tenants=["acme"])]


def test_a_copys_snapshot_that_is_there_although_it_was_read_to_be_gone_is_a_stranger() -> None:
    one, id = with_copies()
    copy = one.point(id).copies[US]
    after = replace(one.point(id), copies={US: replace(copy, state="deleted")}, updated_at=NOW - DAY)
    one.put(f"tenants/acme/points/{id}", after)
    one.tick()
    assert sorted(found(one)) == sorted(("unknown_snapshot", name) for name in one.copy_names(id))


def test_what_has_lost_a_snapshot_is_counted_until_it_is_there_again_or_is_gone_as_a_whole() -> None:
    one, id = with_copies()
    ref = one.point(id).disks[0].snapshot
    one.cloud.remove_snapshot(link(ref.name))
    one.tick()
    assert one.instance.retention.incomplete == 1
    assert one.instance.updated_at == one.cloud.now, "health looks at what has changed"
    one.change(d.Instance, "instances", INSTANCE_ID, lost_at=one.cloud.now - 200 * DAY, lost_reason="gone")
    one.weigh()
    one.wait(2 * DAY)
    assert (one.instance.retention.incomplete, one.states) == (0, ["deleted", "deleted"])

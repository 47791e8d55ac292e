"""Copies go as points go: marked, called back, deleted and read back by the same code, and independently of home."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from tests.retention.scene import DAY, HOUR, INSTANCE_ID, NOW, POLICY, US, VAULT, Death, Scene

from snapkeep import documents as d
from snapkeep.copies.rules import COPY_WAIT_MAX_DAYS, UNENTITLED_GRACE
from snapkeep.retention import rules

KEEP_ALL = d.Retention(keep_last=1000, lock_days=0)
LAST_ONE = d.CopyRetention(keep_last=1, keep_daily=0, keep_weekly=0, lock_days=0)
ALL_COPIES = d.CopyRetention(keep_last=1000, lock_days=0)


def bought(policy: d.CopyRetention = LAST_ONE, **changes: Any) -> d.Entitlements:
    fields: dict[str, Any] = {"region": US, "valid_until": "2030-12-31", "retention": policy}
    return d.Entitlements(inter_region_backup=d.InterRegionBackup(**fields | changes))


def copied(
    days: int = 3, *, home: d.Retention = KEEP_ALL, policy: d.CopyRetention = LAST_ONE, **changes: Any
) -> tuple[Scene, list[str]]:
    """Points of some days, each with its copy in the region that is bought."""
    scene = Scene(home, entitlements=bought(policy))
    ids = []
    for _ in range(days):
        ids.append(scene.take())
        scene.copy(ids[-1], **changes)
        scene.cloud.advance(scene.cloud.now + DAY)
    return scene, ids


def ends(scene: Scene, since: Any = None) -> None:
    """The add-on is over; noted, where it is said since when."""
    scene.change(d.Tenant, entitlements=d.Entitlements(), copies_ended={US: since} if since else {})


# --- one set and the other ------------------------------------------------------------------------------------------


def test_a_copy_that_its_policy_does_not_keep_goes_after_a_day_and_its_point_stays() -> None:
    scene, ids = copied()
    scene.tick()
    assert scene.copy_states() == ["expiring", "expiring", "verified"]
    assert scene.deletions == []
    gone = scene.copy_names(ids[0]) + scene.copy_names(ids[1])
    scene.wait(DAY + HOUR)
    assert (scene.copy_states(), scene.states) == (["deleted", "deleted", "verified"], ["verified"] * 3)
    assert sorted(scene.deletions) == sorted(gone)
    assert [scene.there(id) for id in ids] == [True] * 3
    assert [scene.point(id).stored_for for id in ids] == [INSTANCE_ID] * 3


def test_a_point_that_goes_at_home_leaves_its_copy_and_is_read_for_it_still() -> None:
    scene, ids = copied(home=POLICY, policy=ALL_COPIES)
    scene.wait(DAY + HOUR)
    assert (scene.states, scene.copy_states()) == (["deleted", "deleted", "verified"], ["verified"] * 3)
    assert [scene.there(id) for id in ids] == [False, False, True]
    assert [scene.copy_there(id) for id in ids] == [True] * 3
    assert [scene.point(id).stored_for for id in ids] == [INSTANCE_ID] * 3
    scene.change(d.Tenant, entitlements=bought(LAST_ONE))
    scene.weigh()
    scene.wait(DAY + HOUR)
    assert scene.copy_states() == ["deleted", "deleted", "verified"]
    assert [scene.point(id).stored_for for id in ids] == [None, None, INSTANCE_ID]
    assert scene.instance.retention.deleting == []


def test_both_sets_of_a_point_go_in_commits_that_write_it_once() -> None:
    scene, ids = copied(home=POLICY)
    scene.wait(DAY + HOUR)
    assert (scene.states, scene.copy_states()) == (["deleted", "deleted", "verified"],) * 2
    assert [scene.point(id).stored_for for id in ids] == [None, None, INSTANCE_ID]
    names = [name for id in ids[:2] for name in (*scene.names(id), *scene.copy_names(id))]
    assert sorted(scene.deletions) == sorted(names)
    assert sorted(scene.intents()) == sorted((name, 1) for name in names)
    assert sorted(scene.outcomes()) == sorted((name, 1, "succeeded") for name in names)
    assert scene.instance.retention.deleting == []


DEATHS = 60
"""More effects than two runs have, each."""


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_process_may_die_at_every_effect_on_two_sets(when: str) -> None:
    for fatal in range(1, DEATHS + 1):
        scene, ids = copied(2, home=POLICY)
        scene.tick()
        scene.cloud.advance(scene.cloud.now + DAY)
        left = [fatal]

        def die(effect: str, left: list[int] = left) -> None:
            left[0] -= 1
            if not left[0]:
                raise Death(effect)

        setattr(scene.effects, when, die)
        for _ in range(2):
            try:
                scene.tick()
            except Death:
                break
            scene.cloud.advance(scene.cloud.now + timedelta(minutes=10))
        scene.effects.before = scene.effects.after = lambda effect: None
        scene.wait(3 * HOUR)
        assert (scene.states, scene.copy_states()) == (["deleted", "verified"],) * 2, fatal
        assert (scene.point(ids[0]).stored_for, scene.instance.retention.deleting) == (None, []), fatal
        assert sorted(scene.intents()) == sorted({(name, attempt) for name, attempt, _ in scene.outcomes()}), fatal
    assert left[0] > 0, "the last of them was never reached"


# --- what keeps a copy ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on", ["copy", "instance", "tenant"])
def test_a_hold_calls_a_copy_back_from_its_grace(on: str) -> None:
    scene, ids = copied()
    scene.tick()
    hold = d.Hold(id="h", reason="case 4711", by="a@b.example", at=NOW)
    if on == "copy":
        one = scene.point(ids[0])
        copies = {US: replace(one.copies[US], holds=[hold])}
        scene.change(d.Point, "points", ids[0], copies=copies, held=True)
    elif on == "instance":
        scene.change(d.Instance, "instances", INSTANCE_ID, holds=[hold], held=True)
    else:
        scene.change(d.Tenant, holds=[hold], held=True)
    scene.weigh()
    scene.wait(2 * DAY)
    assert scene.copy_states() == ["verified", "deleted" if on == "copy" else "verified", "verified"]
    (called_back,) = [r for r in scene.records("retention.decided") if "called_back" in r["detail"]]
    assert called_back["detail"]["called_back"][0] == {"point": ids[0], "region": US, "state": "verified"}


def test_a_hold_at_home_keeps_no_copy_and_one_on_a_copy_keeps_nothing_at_home() -> None:
    scene, ids = copied(home=POLICY)
    hold = d.Hold(id="h", reason="case 4711", by="a@b.example", at=NOW)
    scene.change(d.Point, "points", ids[0], holds=[hold], held=True)
    one = scene.point(ids[1])
    scene.change(d.Point, "points", ids[1], copies={US: replace(one.copies[US], holds=[hold])}, held=True)
    scene.wait(DAY + HOUR)
    assert scene.states == ["verified", "deleted", "verified"]
    assert scene.copy_states() == ["deleted", "verified", "verified"]
    assert [scene.point(id).held for id in ids] == [True, True, False]


def test_a_lock_of_a_copy_is_its_own() -> None:
    scene, _ = copied(lock_until=NOW + 30 * DAY)
    scene.wait(2 * DAY)
    assert scene.copy_states() == ["verified"] * 3
    scene.wait(30 * DAY)
    assert scene.copy_states() == ["deleted", "deleted", "verified"]


def test_copies_of_an_instance_in_breach_stay() -> None:
    scene, _ = copied()
    scene.change(d.Instance, "instances", INSTANCE_ID, breach_at=scene.cloud.now)
    scene.wait(3 * DAY)
    assert scene.copy_states() == ["verified"] * 3


def test_the_newest_copy_stays_while_copies_are_bought_whatever_its_age() -> None:
    scene, _ = copied(policy=d.CopyRetention(keep_daily=0, keep_weekly=0, lock_days=0))
    scene.wait(100 * DAY)
    assert scene.copy_states() == ["deleted", "deleted", "verified"]


def test_a_plan_that_would_let_the_newest_copy_go_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    scene, ids = copied(policy=d.CopyRetention(keep_daily=0, keep_weekly=0, lock_days=0))
    # A mistake in the rules, which no document can make.
    monkeypatch.setattr(rules, "RULES", [rule for rule in rules.RULES if rule.name != "newest verified"])
    scene.wait(2 * DAY)
    assert (scene.copy_states(), scene.deletions) == (["verified"] * 3, [])
    (refused, *_) = scene.records("retention.refused")
    assert refused["detail"]["why"].startswith(f"{ids[-1]}@{US}: is the newest verified copy of app and would go")


def test_no_copy_goes_because_of_a_newer_one_that_is_not_there() -> None:
    scene, ids = copied()
    scene.tick()
    (newest,) = scene.copy_names(ids[-1])
    scene.cloud.remove_snapshot(f"projects/{VAULT}/global/snapshots/{newest}")
    scene.wait(DAY + HOUR)
    assert scene.deletions == []


def test_copies_go_with_the_points_of_a_lost_instance() -> None:
    scene, _ = copied(policy=ALL_COPIES)
    scene.change(d.Instance, "instances", INSTANCE_ID, lost_at=scene.cloud.now, lost_reason="gone")
    scene.wait(89 * DAY)
    assert scene.copy_states() == ["verified"] * 3
    scene.wait(3 * DAY)
    assert (scene.copy_states(), scene.states) == (["deleted"] * 3, ["deleted"] * 3)


# --- what is not bought any more ------------------------------------------------------------------------------------


def test_what_is_no_longer_bought_stays_until_that_was_noted_and_thirty_days_then_all_goes() -> None:
    scene, ids = copied(policy=ALL_COPIES)
    ends(scene)
    scene.wait(40 * DAY)
    assert scene.copy_states() == ["verified"] * 3, "nobody has noted it"
    since = scene.cloud.now
    ends(scene, since)
    scene.wait(UNENTITLED_GRACE - HOUR)
    assert scene.copy_states() == ["verified"] * 3
    scene.wait(DAY)
    assert scene.copy_states() == ["expiring"] * 3
    scene.wait(DAY + HOUR)
    assert (scene.copy_states(), scene.states) == (["deleted"] * 3, ["verified"] * 3)
    assert [scene.copy_there(id) for id in ids] == [False] * 3
    expired = [event for event in scene.events() if event["type"] == "copy.expired"]
    assert len(expired) == 3
    assert expired[0]["data"]["reason"] == f"not bought in {US} since {since:%Y-%m-%d %H:%M} UTC: kept for 30 days"


def test_what_is_bought_again_in_its_grace_is_called_back() -> None:
    scene, _ = copied(policy=ALL_COPIES)
    ends(scene, scene.cloud.now - UNENTITLED_GRACE)
    scene.weigh()
    assert scene.copy_states() == ["expiring"] * 3
    scene.change(d.Tenant, entitlements=bought(ALL_COPIES), copies_ended={})
    scene.weigh()
    assert scene.copy_states() == ["verified"] * 3
    scene.wait(3 * DAY)
    assert (scene.copy_states(), scene.deletions) == (["verified"] * 3, [])


@pytest.mark.parametrize("kept", ["locked", "held"])
def test_a_copy_that_is_not_bought_is_kept_by_lock_and_hold_alone(kept: str) -> None:
    hold = d.Hold(id="h", reason="case 4711", by="a@b.example", at=NOW)
    what = {"lock_until": NOW + 90 * DAY} if kept == "locked" else {"holds": [hold]}
    scene, _ = copied(policy=ALL_COPIES, **what)
    ends(scene, scene.cloud.now - UNENTITLED_GRACE)
    scene.wait(10 * DAY)
    assert scene.copy_states() == ["verified"] * 3


def test_copies_in_two_regions_are_weighed_each_by_their_own() -> None:
    scene, ids = copied(policy=ALL_COPIES)
    for id in ids:
        scene.copy(id, region="us-west1")
    scene.change(d.Tenant, copies_ended={"us-west1": scene.cloud.now - UNENTITLED_GRACE})
    scene.wait(2 * DAY)
    assert (scene.copy_states(), scene.copy_states("us-west1")) == (["verified"] * 3, ["deleted"] * 3)
    assert scene.states == ["verified"] * 3


# --- home waits -----------------------------------------------------------------------------------------------------


def test_a_point_at_home_waits_for_its_copy_for_so_many_days() -> None:
    scene = Scene(POLICY, entitlements=bought())
    ids = scene.take_daily(2)
    scene.copy(ids[0], state="failed", made=False, noted=False, disks=[])
    begun = scene.point(ids[0]).copies[US].requested_at
    scene.wait(begun + timedelta(days=COPY_WAIT_MAX_DAYS) - scene.cloud.now - HOUR)
    assert scene.states == ["verified", "verified"]
    scene.wait(DAY + 3 * HOUR)
    assert scene.states == ["deleted", "verified"]


def test_a_point_goes_at_once_when_its_copy_is_there() -> None:
    scene = Scene(POLICY, entitlements=bought(ALL_COPIES))
    ids = scene.take_daily(2)
    scene.copy(ids[0], state="requested", made=False, noted=False, disks=[])
    scene.wait(DAY)
    assert scene.states == ["verified", "verified"]
    scene.copy(ids[0])
    scene.wait(DAY + HOUR)
    assert (scene.states, scene.copy_states()) == (["deleted", "verified"], ["verified"])


# --- whose it is ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temporary", [False, True], ids=["of the disk", "of a temporary disk"])
def test_snapshots_of_a_failed_copy_that_nobody_noted_are_adopted_and_go(temporary: bool) -> None:
    scene = Scene(KEEP_ALL, entitlements=bought())
    ids = [scene.take(disks=2)]
    scene.copy(ids[0], state="failed", noted=False, attempts=2, temporary=temporary)
    scene.wait(9 * DAY)
    assert scene.copy_states() == ["deleted"]
    assert not scene.copy_there(ids[0])


def test_what_a_former_try_left_of_its_own_temporary_disk_goes_too() -> None:
    scene = Scene(KEEP_ALL, entitlements=bought())
    id = scene.take()
    scene.copy(id, state="failed", noted=False, temporary=True)
    copy = scene.point(id).copies[US]
    (disk,) = copy.disks
    assert disk.temporary is not None
    assert disk.temporary.id is not None
    later = replace(disk, temporary=None, former_temporaries=[disk.temporary.id])
    began = scene.cloud.now  # a later try, which came to nothing
    copies = {US: replace(copy, disks=[later], started_at=began)}
    scene.change(d.Point, "points", id, copies=copies)
    scene.wait(9 * DAY)
    assert (scene.copy_states(), scene.copy_there(id)) == (["deleted"], False)


@pytest.mark.parametrize("what", ["labels", "location", "source_disk"])
def test_what_only_looks_like_a_copys_snapshot_is_left_alone(what: str) -> None:
    scene = Scene(KEEP_ALL, entitlements=bought())
    ids = [scene.take()]
    scene.copy(ids[0], state="failed", noted=False, made=False)
    (name,) = scene.copy_names(ids[0])
    ours: dict[str, Any] = {
        "labels": {"snapkeep-tenant": "acme", "snapkeep-point": ids[0], "snapkeep-role": "copy"},
        "location": US,
        "source_disk": "projects/acme-prod/zones/southamerica-east1-a/disks/disk-0",
    }
    other = {
        "labels": {**ours["labels"], "snapkeep-role": "home"},
        "location": "us-west1",
        "source_disk": None,
    }[what]
    scene.cloud.plant_snapshot(project=VAULT, name=name, **ours | {what: other})
    scene.wait(9 * DAY)
    assert scene.copy_states() == ["deleted"]
    assert scene.copy_there(ids[0])
    assert scene.deletions == []


# --- what is written down -------------------------------------------------------------------------------------------


def test_records_and_events_of_a_copy_name_it() -> None:
    scene, ids = copied(2)
    scene.wait(DAY + HOUR)
    told = [(r["action"], r["subject"], r["detail"]["region"]) for r in scene.records() if "copy" in r["action"]]
    assert told == [(f"copy.{what}", f"points/{ids[0]}", US) for what in ("expired", "deleting", "deleted")]
    expired, deleted = scene.events()
    data = {"point": ids[0], "region": US, "instance": "app", "zone": "southamerica-east1-a"}
    assert expired["type"] == "copy.expired"
    assert expired["data"].items() >= (data | {"reason": "no rule keeps it"}).items()
    assert (deleted["type"], deleted["data"]) == ("copy.deleted", data | {"reason": "no rule keeps it"})
    assert scene.records("retention.decided") == []


def test_an_instance_counts_its_copies_as_they_go() -> None:
    scene, ids = copied()
    assert (scene.instance.copies.verified, scene.instance.copies.bytes) == (3, 2100)
    scene.wait(DAY + HOUR)
    work = scene.instance.copies
    assert (work.verified, work.bytes, work.unentitled) == (1, 700, 0)
    assert work.newest[US].point == ids[-1]
    assert scene.instance.tally.stored == 3


def test_what_goes_within_a_week_counts_copies_too() -> None:
    scene, _ = copied()
    scene.tick()
    # The newest too: by then there is another one.
    assert (scene.instance.retention.going, scene.instance.retention.going_bytes) == (3, 2100)
    scene.wait(DAY + HOUR)
    assert (scene.instance.retention.going, scene.instance.retention.going_bytes) == (1, 700)

"""One try at a copy, step by step: what is asked for, what counts as made, and what is left behind."""

from dataclasses import replace as replaced
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from tests.copies.test_rules import AWAY, buyer
from tests.makers import PROJECT, REGION, THEN, ZONE, copy_of, disk, operation, point, point_disk, snapshot

from snapkeep import cloud
from snapkeep import documents as d
from snapkeep.cloud import InsertDisk, InsertSnapshot
from snapkeep.copies import sets, tries
from snapkeep.copies.rules import COPY_DEADLINE
from snapkeep.copies.tries import Facts
from snapkeep.creation.rules import LOOK_MIN
from snapkeep.retention import deletion

NOW = THEN + timedelta(hours=1)
LATER = NOW + timedelta(minutes=20)
OWNER = buyer()
HOME_KEY = "projects/p/locations/southamerica-east1/keyRings/r/cryptoKeys/k"
AWAY_KEY = "projects/p/locations/us-east1/keyRings/r/cryptoKeys/k"


def verified(way: str, **of_disk: Any) -> d.Point:
    """A point whose copy is due."""
    home = d.SnapshotRef(project=PROJECT, name="sk-home-1", location=REGION, id="9", status="READY", created_at=THEN)
    one = point_disk(snapshot=home, **of_disk)
    instant = d.InstantRef(disk=one.id, scope=f"zones/{ZONE}", name="i-1", id="77", status="READY", created_at=THEN)
    return point(
        state="verified",
        disks=[one],
        moment=d.Moment(state="taken", instants=[instant]) if way == "moment" else None,
        copies={AWAY: copy_of("requested", way=way, next_at=NOW)},
        next_at=NOW,
    )


HOME = {"sk-home-1": snapshot(id="9", name="sk-home-1")}


def begun(way: str, owner: d.Tenant = OWNER, **of_disk: Any) -> tuple[d.Point, tries.Step]:
    step = tries.step(verified(way, **of_disk), AWAY, owner, Facts(HOME), NOW)
    assert step is not None
    return step.point, step


def copied(step: tries.Step | None) -> d.Copy:
    assert step is not None
    return step.point.copies[AWAY]


def code(step: tries.Step | None) -> str | None:
    copy = copied(step)
    why = copy.failure or next((one.failure for one in copy.disks if one.failure), None)
    return why.code if why else None


def answered(at: d.Point) -> d.Point:
    """The point after all that was asked for was accepted."""
    names = [x.temporary.name if x.temporary and x.temporary.ready_at is None else x.snapshot.name
             for x in at.copies[AWAY].disks]  # fmt: skip
    step = tries.answered(at, AWAY, dict.fromkeys(names, "projects/p/global/operations/o"), {}, None, NOW)
    assert step is not None
    return step.point


def made(at: d.Point, **changes: Any) -> cloud.Snapshot:
    """The copy's snapshot as Compute Engine would have it."""
    name = at.copies[AWAY].disks[0].snapshot.name
    fields: dict[str, Any] = {
        "id": "500",
        "name": name,
        "locations": (AWAY,),
        "created_at": LATER,
        "source_disk_id": "1",
        "source_instant_id": "77",
        "size_gb": 100,
    }
    return snapshot(**fields | changes)


def temporary(at: d.Point, **changes: Any) -> cloud.Disk:
    known = at.copies[AWAY].disks[0].temporary
    assert known is not None
    labels = tries.labels("acme", at, "temporary")
    fields: dict[str, Any] = {"id": "600", "name": known.name, "labels": labels, "source_snapshot_id": "9"}
    return disk(**fields | changes)


# --- what is asked for --------------------------------------------------------------------------------------------


def test_a_copy_of_the_moment_asks_for_a_snapshot_of_each_instant_in_the_other_region() -> None:
    at, step = begun("moment", buyer(kms_keys={AWAY: AWAY_KEY}))
    (change,) = step.starts
    assert isinstance(change, InsertSnapshot)
    assert change.location == AWAY
    assert change.source_instant == f"projects/{PROJECT}/zones/{ZONE}/instantSnapshots/i-1"
    assert change.labels["snapkeep-role"] == "copy"
    assert change.kms_key == AWAY_KEY
    assert at.copies[AWAY].deadline == NOW + COPY_DEADLINE


@pytest.mark.parametrize(
    ("of_disk", "zone", "size_gb", "key"),
    [
        ({}, ZONE, 100, None),
        ({"size_gb": 4}, ZONE, 10, None),
        ({"zone": None, "replica_zones": ["southamerica-east1-b", ZONE]}, "southamerica-east1-b", 100, None),
        ({"kms_key": HOME_KEY}, ZONE, 100, HOME_KEY),
    ],
)
def test_a_temporary_disk_is_made_of_the_home_snapshot_where_its_disk_was(
    of_disk: dict[str, Any], zone: str, size_gb: int, key: str | None
) -> None:
    _, step = begun("temporary_disk", buyer(kms_keys={AWAY: AWAY_KEY}), **of_disk)
    (change,) = step.starts
    assert isinstance(change, InsertDisk)
    assert (change.scope, change.size_gb, change.kms_key) == (f"zones/{zone}", size_gb, key)
    assert change.type == "pd-balanced"
    assert change.source_snapshot == cloud.snapshot_link(PROJECT, "sk-home-1")
    assert cloud.written_to(change) == REGION


def test_another_try_has_other_names_and_keeps_what_the_last_one_left() -> None:
    at, _ = begun("moment")
    failed = replace(at.copies[AWAY], state="failed")
    asked = replace(failed, state="requested", way="temporary_disk", next_at=NOW)
    step = tries.step(replace(at, copies={AWAY: asked}), AWAY, OWNER, Facts(HOME), LATER)
    (first,), (second,) = failed.disks, copied(step).disks
    assert second.snapshot.name != first.snapshot.name
    assert second.superseded == [first.snapshot]
    assert (second.attempts, second.first_attempt) == (2, 2)


@pytest.mark.parametrize(
    ("changes", "owner", "failure"),
    [
        ({}, buyer("2026-10-30"), "not_entitled"),
        ({}, buyer(region="us-west1"), "not_entitled"),
        ({}, buyer(kms_keys={REGION: HOME_KEY}), "no_kms_key"),
        ({"moment": None}, OWNER, "instant_gone"),
        ({"moment": d.Moment(state="releasing", instants=[])}, OWNER, "instant_gone"),
    ],
)
def test_a_copy_that_cannot_be_made_fails_by_name_and_lets_the_moment_go(
    changes: dict[str, Any], owner: d.Tenant, failure: str
) -> None:
    step = tries.step(replace(verified("moment"), **changes), AWAY, owner, Facts(), NOW)
    assert step is not None
    assert (copied(step).state, code(step)) == ("failed", failure)
    assert step.starts == ()
    assert copied(step).next_at is None
    assert step.point.moment is None or step.point.moment.state == "releasing"


def test_what_home_is_encrypted_with_counts_also_when_the_fleet_file_no_longer_names_the_key() -> None:
    keyed = {"sk-home-1": replaced(HOME["sk-home-1"], kms_key=f"{HOME_KEY}/cryptoKeyVersions/1")}
    step = tries.step(verified("temporary_disk"), AWAY, OWNER, Facts(keyed), NOW)
    assert (copied(step).state, code(step)) == ("failed", "no_kms_key")
    other = tries.step(verified("temporary_disk"), AWAY, buyer(kms_keys={AWAY: AWAY_KEY}), Facts(keyed), NOW)
    assert copied(other).state == "copying"


@pytest.mark.parametrize(
    ("own", "read", "keys", "said"),
    [
        ([1], [], {REGION: HOME_KEY}, "a customer's key encrypts data-1, and"),
        ([], [2], {REGION: HOME_KEY}, "a customer's key encrypts what is at home of data-2, and"),
        ([], [], {REGION: HOME_KEY}, f"kms_keys has a key for {REGION}, its home, and"),
        ([1, 2, 3, 4, 5], [], {}, "a customer's key encrypts data-1, data-2, data-3 and 2 more, and"),
        ([], [], {}, None),
    ],
)
def test_what_lacks_a_key_names_only_disks_that_have_one(
    own: list[int], read: list[int], keys: dict[str, str], said: str | None
) -> None:
    def of_disk(number: int) -> d.PointDisk:
        home = d.SnapshotRef(project=PROJECT, name=f"sk-home-{number}", location=REGION)
        key = HOME_KEY if number in own else None
        return point_disk(id=str(number), name=f"data-{number}", snapshot=home, kms_key=key)

    one = point(disks=[of_disk(number) for number in range(1, 6)])
    found = {
        f"sk-home-{number}": snapshot(name=f"sk-home-{number}", kms_key=HOME_KEY if number in read else None)
        for number in range(1, 6)
    }
    failure = tries.no_kms_key(one, AWAY, buyer(kms_keys=keys), found)
    if said is None:
        assert failure is None
        return
    assert failure is not None
    assert failure.message.startswith(f"{said} kms_keys has none for {AWAY}: add one to the fleet file, kms_keys: {{")
    assert failure.message.endswith("}")


@pytest.mark.parametrize(
    "changes",
    [{"gone": ["sk-home-1"]}, {"usable": False}, {"state": "expiring"}, {"state": "deleted"}],
)
def test_a_point_that_goes_or_cannot_be_restored_from_is_no_source(changes: dict[str, Any]) -> None:
    step = tries.step(replace(verified("temporary_disk"), **changes), AWAY, OWNER, Facts(HOME), NOW)
    assert code(step) == "source_gone"


# --- what counts as made ------------------------------------------------------------------------------------------


def test_a_copy_is_verified_by_what_was_read_back_and_is_of_the_homes_moment() -> None:
    at = answered(begun("moment")[0])
    step = tries.step(at, AWAY, OWNER, Facts({made(at).name: made(at)}), LATER)
    assert step is not None
    assert copied(step).state == "verified"
    assert copied(step).disks[0].snapshot.created_at == THEN
    assert [(one.name, one.outcome) for one in step.outcomes] == [(made(at).name, "succeeded")]
    assert step.point.moment is not None
    assert step.point.moment.state == "releasing"
    assert step.point.next_at == LATER


@pytest.mark.parametrize(
    ("wrong", "failure", "again"),
    [
        ({"source_instant_id": "78"}, "name_taken", True),
        ({"source_instant_id": None}, "name_taken", True),
        ({"created_at": NOW - timedelta(hours=1)}, "name_taken", True),
        ({"locations": ("us-west1",)}, "wrong_location", False),
        ({"locations": ("us",)}, "wrong_location", False),
        ({"size_gb": 99}, "incomplete", True),
        ({"kms_key": None}, "wrong_key", True),
        ({"kms_key": f"{HOME_KEY}/cryptoKeyVersions/1"}, "wrong_key", True),
        ({"status": "FAILED"}, "snapshot_failed", True),
        ({"status": "DELETING"}, "snapshot_lost", True),
    ],
)
def test_what_is_not_what_was_asked_for_is_no_copy(wrong: dict[str, Any], failure: str, again: bool) -> None:
    owner = buyer(kms_keys={AWAY: AWAY_KEY})
    at = answered(begun("moment", owner)[0])
    found = made(at, **{"kms_key": f"{AWAY_KEY}/cryptoKeyVersions/3"} | wrong)
    step = tries.step(at, AWAY, owner, Facts({found.name: found}), LATER)
    assert code(step) == failure
    assert copied(step).state == ("copying" if again else "failed")


def test_a_copy_that_strayed_is_known_by_its_id_so_that_it_can_go() -> None:
    at = answered(begun("moment")[0])
    found = made(at, locations=("us",))
    step = tries.step(at, AWAY, OWNER, Facts({found.name: found}), LATER)
    assert code(step) == "wrong_location"
    strayed = sets.as_point(replace(at, copies={AWAY: copied(step)}), AWAY)
    assert [(ref.name, ref.id) for ref in deletion.known(strayed)] == [(found.name, found.id)]


def test_an_old_snapshot_of_the_disk_itself_is_not_the_copy_of_a_temporary_one() -> None:
    at = with_disk()
    found = made(at, source_disk_id="1")
    facts = Facts({found.name: found}, {temporary(at).link: temporary(at)})
    assert code(tries.step(at, AWAY, OWNER, facts, LATER)) == "name_taken"


def with_disk() -> d.Point:
    """A point whose copy has its temporary disk and has asked for its snapshot."""
    at = answered(begun("temporary_disk")[0])
    step = tries.step(at, AWAY, OWNER, Facts(HOME, {temporary(at).link: temporary(at)}), NOW)
    assert step is not None
    (change,) = step.starts
    assert isinstance(change, InsertSnapshot)
    assert change.source_disk == temporary(at).link
    assert [(one.name, one.outcome) for one in step.outcomes] == [(temporary(at).name, "succeeded")]
    return answered(step.point)


def test_a_temporary_disk_goes_as_soon_as_its_snapshot_is_there() -> None:
    at = with_disk()
    found = made(at, source_disk_id="600", source_instant_id=None)
    facts = Facts({found.name: found}, {temporary(at).link: temporary(at)})
    step = tries.step(at, AWAY, OWNER, facts, LATER)
    assert step is not None
    assert copied(step).state == "verified"
    assert [(one.name, one.id, one.attempt) for one in step.removes] == [(temporary(at).name, "600", 1)]
    assert copied(step).next_at is not None
    gone = tries.step(step.point, AWAY, OWNER, Facts(), LATER)
    assert gone is not None
    assert copied(gone).next_at is None
    assert [(one.outcome.outcome, one.attempt) for one in gone.removals] == [("succeeded", 1)]
    assert gone.point.next_at is None


@pytest.mark.parametrize(
    ("wrong", "failure"),
    [
        ({"source_snapshot_id": "10"}, "source_gone"),
        ({"labels": {}}, "name_taken"),
        ({"size_gb": 99}, "temporary_disk_failed"),
        ({"status": "FAILED"}, "temporary_disk_failed"),
    ],
)
def test_a_disk_that_is_not_what_was_asked_for_is_not_copied_from(wrong: dict[str, Any], failure: str) -> None:
    at = answered(begun("temporary_disk")[0])
    found = temporary(at, **wrong)
    step = tries.step(at, AWAY, OWNER, Facts(disks={found.link: found}), LATER)
    assert step is not None
    assert code(step) == failure
    assert [one.id for one in step.removes] == ([] if failure == "name_taken" else ["600"])
    assert step.starts == ()


def test_of_a_disk_that_comes_when_the_try_is_lost_no_snapshot_is_asked_for() -> None:
    at = verified("temporary_disk")
    at = replace(at, disks=[*at.disks, replace(at.disks[0], id="2", name="other")])
    begun = tries.step(at, AWAY, OWNER, Facts(HOME), NOW)
    assert begun is not None
    names = [change.name for change in begun.starts]
    refused = d.Failure(code="outside_residency", message="no")
    known = tries.answered(begun.point, AWAY, {names[0]: "o"}, {names[1]: refused}, None, NOW)
    assert known is not None
    found = temporary(known.point)
    step = tries.step(known.point, AWAY, OWNER, Facts(HOME, {found.link: found}), LATER)
    assert (copied(step).state, code(step)) == ("failed", "outside_residency")
    assert step is not None
    assert [(one.name, one.outcome) for one in step.outcomes] == [(names[0], "failed")]
    assert (step.intents, step.starts, [one.name for one in step.removes]) == ((), (), [names[0]])


@pytest.mark.parametrize("status", ["CREATING", "RESTORING"])
@pytest.mark.parametrize("was_answered", [True, False])
def test_a_disk_that_does_not_say_yet_what_it_is_made_of_is_ours_by_its_labels(status: str, was_answered: bool) -> None:
    at, _ = begun("temporary_disk")
    at = answered(at) if was_answered else at
    found = temporary(at, source_snapshot_id=None, status=status)
    step = tries.step(at, AWAY, OWNER, Facts(disks={found.link: found}), LATER)
    assert step is not None
    assert code(step) is None
    known = copied(step).disks[0].temporary
    assert known is not None
    assert known.id == "600"
    other = temporary(at, source_snapshot_id="10")
    step = tries.step(step.point, AWAY, OWNER, Facts(disks={other.link: other}), LATER)
    assert step is not None
    assert code(step) == "source_gone"
    assert [one.id for one in step.removes] == ["600"]


def test_a_disk_under_the_id_of_another_is_never_removed() -> None:
    at = with_disk()
    other = temporary(at, id="601")
    copy = replace(at.copies[AWAY], state="failed", next_at=LATER)
    step = tries.step(replace(at, copies={AWAY: copy}), AWAY, OWNER, Facts(disks={other.link: other}), LATER)
    assert step is not None
    assert step.removes == ()
    assert copied(step).next_at is None


def test_a_disk_that_was_asked_for_and_may_still_come_is_waited_for() -> None:
    at, _ = begun("temporary_disk")
    over = replace(at, copies={AWAY: replace(at.copies[AWAY], state="failed", next_at=NOW)})
    soon = tries.step(over, AWAY, OWNER, Facts(), NOW + timedelta(minutes=9))
    assert copied(soon).next_at is not None
    then = tries.step(over, AWAY, OWNER, Facts(), NOW + timedelta(minutes=10))
    assert copied(then).next_at is None


def test_a_disk_that_was_asked_for_again_may_still_come_from_then_on() -> None:
    at, _ = begun("temporary_disk")
    again = tries.step(at, AWAY, OWNER, Facts(), NOW + timedelta(hours=1))
    assert again is not None
    assert [change.name for change in again.starts] == [temporary(at).name]
    ended = tries.step(again.point, AWAY, buyer("2026-10-30"), Facts(), NOW + timedelta(hours=1, minutes=1))
    assert (copied(ended).state, code(ended)) == ("failed", "not_entitled")
    assert copied(ended).next_at is not None
    assert ended is not None
    late = temporary(at)
    found = tries.step(ended.point, AWAY, OWNER, Facts(disks={late.link: late}), NOW + timedelta(hours=1, minutes=2))
    assert found is not None
    assert [one.id for one in found.removes] == ["600"]


@pytest.mark.parametrize(("status", "done"), [("RUNNING", False), ("DONE", True)])
def test_a_disk_whose_operation_runs_is_waited_for(status: str, done: bool) -> None:
    at = answered(begun("temporary_disk")[0])
    over = replace(at, copies={AWAY: replace(at.copies[AWAY], state="failed", next_at=NOW)})
    link = "projects/p/global/operations/o"
    facts = Facts(operations={link: operation(link=link, status=status)})
    assert (copied(tries.step(over, AWAY, OWNER, facts, NOW + timedelta(days=1))).next_at is None) == done


@pytest.mark.parametrize(
    ("status", "removals", "minutes", "asks"),
    [
        ("READY", 0, 0, True),
        ("FAILED", 0, 0, True),
        ("CREATING", 0, 9, False),  # it may become READY any moment, and cannot go before
        ("CREATING", 0, 10, True),  # or never
        ("READY", 1, 9, False),
        ("READY", 1, 10, True),
        ("READY", 2, 19, False),
        ("READY", 2, 20, True),
        ("READY", 40, 6 * 60, True),
        ("DELETING", 0, 600, False),
        ("DELETING", 3, 600, False),
    ],
)
def test_a_disk_that_is_still_there_is_asked_to_go_after_pauses_that_double(
    status: str, removals: int, minutes: int, asks: bool
) -> None:
    at, _ = begun("temporary_disk")
    (one,) = at.copies[AWAY].disks
    assert one.temporary is not None
    asked = replace(one, temporary=replace(one.temporary, id="600", removals=removals, asked_at=NOW))
    over = replace(at, copies={AWAY: replace(at.copies[AWAY], state="failed", disks=[asked], next_at=NOW)})
    there = temporary(at, status=status)
    now = NOW + timedelta(minutes=minutes)
    step = tries.step(over, AWAY, OWNER, Facts(disks={there.link: there}), now)
    assert step is not None
    assert [change.attempt for change in step.removes] == ([removals + 1] if asks else [])
    look = copied(step).next_at
    assert look is not None
    assert look > now
    paused = tries.step(over, AWAY, OWNER, Facts(disks={there.link: there}, may_remove=False), now)
    assert paused is not None
    assert paused.removes == ()


# --- pauses and answers -------------------------------------------------------------------------------------------


def test_nothing_is_begun_while_it_may_not_and_nothing_goes_on() -> None:
    assert tries.step(verified("moment"), AWAY, OWNER, Facts(may_start=False), NOW) is None
    at = answered(begun("temporary_disk")[0])
    facts = Facts(HOME, {temporary(at).link: temporary(at)}, may_start=False)
    step = tries.step(at, AWAY, OWNER, facts, LATER)
    assert step is not None
    assert (step.starts, step.removes, step.outcomes) == ((), (), ())


@pytest.mark.parametrize(("way", "failure"), [("moment", "instant_gone"), ("temporary_disk", "source_gone")])
@pytest.mark.parametrize("said", ["notFound", "RESOURCE_NOT_FOUND"])
def test_a_source_that_is_not_found_ends_the_try_by_its_name(way: str, failure: str, said: str) -> None:
    at, step = begun(way)
    (change,) = step.starts
    refusal = {change.name: d.Failure(code=said, message="it was not found")}
    noted = tries.answered(at, AWAY, {}, refusal, None, NOW)
    assert noted is not None
    assert noted.point.copies[AWAY].next_at == NOW
    ended = tries.step(noted.point, AWAY, OWNER, Facts(), NOW)
    assert (copied(ended).state, code(ended)) == ("failed", failure)


def test_an_answer_that_comes_after_the_end_changes_nothing() -> None:
    at, _ = begun("moment")
    over = replace(at, copies={AWAY: replace(at.copies[AWAY], state="failed")})
    assert tries.answered(over, AWAY, {}, {}, None, NOW) is None


def test_a_try_that_could_not_be_read_up_to_its_deadline_has_failed_and_still_looks_for_its_disk() -> None:
    at = with_disk()
    step = tries.unread(at, AWAY, d.Failure(code="backendError", message="away"), OWNER, NOW + COPY_DEADLINE)
    copy = copied(step)
    assert (copy.state, code(step)) == ("failed", "deadline")
    assert copy.next_at == NOW + COPY_DEADLINE + LOOK_MIN
    assert [one.outcome for one in step.outcomes] == ["failed"]


@pytest.mark.parametrize(("state", "told"), [("copying", "timeout"), ("failed", "not_entitled")])
def test_a_fault_while_a_lost_try_is_cleaned_up_does_not_hide_why_it_failed(state: d.CopyState, told: str) -> None:
    why = d.Failure(code="not_entitled", message="inter-region backup to us-east1 is not bought now")
    copy = copy_of(state, failure=why if state == "failed" else None, next_at=NOW)
    met = d.Failure(code="timeout", message="no answer")
    later = tries.postponed(point(state="verified", copies={AWAY: copy}), AWAY, met, NOW).copies[AWAY]
    assert later.failure is not None
    assert later.failure.code == told
    assert later.next_at is not None
    assert later.next_at > NOW

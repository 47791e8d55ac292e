"""Restore tests that are due are begun: one at a time for each tenant, whatever happens in between."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from tests.makers import REGION, THEN, World, copy_of, instance, point, point_disk, tenant

from snapkeep import documents as d
from snapkeep.messages import BadMessage, Nudge, RestoreBatch, RestoreRef, Tick, parse
from snapkeep.ports import Doc, Documents, Query, Replace, Transient, Write
from snapkeep.restore import testing
from snapkeep.restore.testing_handler import restore_test
from snapkeep.store import QUERIES

US = "us-east1"
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
CLOSED = d.RestoreTest(every_days=30, network="projects/acme-prod/global/networks/closed")
ADD_ON = d.Entitlements(inter_region_backup=d.InterRegionBackup(region=US, valid_until="2027-12-31"))


def stored(id: str, taken: datetime, **changes: Any) -> d.Point:
    """A verified point of one disk."""
    ref = d.SnapshotRef(project="acme-prod", name=f"sk-{id}", location=REGION, id="9001", status="READY",
                        created_at=taken, bytes=7)  # fmt: skip
    fields: dict[str, Any] = {"state": "verified", "verified_at": taken, "requested_at": taken, "next_at": None,
                              "disks": [point_disk(snapshot=ref)], "stored_for": instance().id}  # fmt: skip
    return point(id=id, **fields | changes)


def copied() -> d.Copy:
    ref = d.SnapshotRef(project="acme-prod", name="sk-copy", location=US, id="77", status="READY", created_at=THEN)
    disk = d.CopyDisk(id="1", name="acme-pam-1-boot", snapshot=ref)
    return copy_of("verified", disks=[disk], started_at=THEN, verified_at=THEN)


def world(*points: d.Point, id: str = "acme", **of: Any) -> World:
    """A tenant whose first restore test is due, with these points; without any, with one."""
    one = World()
    some = points or (stored("20261030-s-acme-pam-1-0badcafe", THEN - DAY),)
    fields = {"restore_test": CLOSED, "restore_test_at": THEN, **of}
    one.put((f"tenants/{id}", tenant(id=id, **fields)))
    here = instance(tally=d.Tally(stored=len(some)))
    one.put((f"tenants/{id}/instances/{here.id}", here))
    one.put(*[(f"tenants/{id}/points/{one.id}", one) for one in some])
    return one


def run(one: World) -> None:
    restore_test(Tick(), one.of("restore_test"))


def the(one: World) -> d.Tenant:
    return one.read(d.Tenant, "tenants/acme")


def begun(one: World) -> list[d.Restore]:
    return one.all(d.Restore, "restores")


def sent(one: World, topic: str) -> list[Any]:
    return [parse(message.body) for message in one.bus.pending() if message.topic == topic]


class Between:
    """The database, with something that happens right before or after a commit."""

    def __init__(self, inner: Documents, before: Callable[[], None], after: Callable[[], None]) -> None:
        self._inner, self._before, self._after = inner, before, after

    def get(self, *paths: str) -> list[Doc | None]:
        return self._inner.get(*paths)

    def find(self, query: Query) -> list[Doc]:
        return self._inner.find(query)

    def commit(self, *writes: Write) -> None:
        self._before()
        self._inner.commit(*writes)
        self._after()


def nothing() -> None:
    """Happens."""


# --- begun --------------------------------------------------------------------------------------------------------


def test_a_test_that_is_due_is_begun_with_a_hold_on_its_point_and_no_approval() -> None:
    one = world()
    run(one)
    (test,) = begun(one)
    assert (test.purpose, test.mode, test.state, test.needs_approval) == ("test", "new_instance", "approved", False)
    assert test.recovery_point == one.the_point().id
    assert test.target.network == CLOSED.network
    assert test.next_at == THEN
    assert the(one).restore_testing == test.id
    (hold,) = one.the_point().holds
    assert hold.id == f"restore-{test.id}"
    assert one.the_point().held
    assert [(r["action"], r["outcome"]) for r in one.records()] == [("restore.requested", "requested")]
    assert sent(one, "snapkeep-restore") == [RestoreBatch(restores=[RestoreRef("acme", test.id)])]
    assert sent(one, "snapkeep-audit") == [Nudge(tenants=["acme"])]


@pytest.mark.parametrize("deployment", ["saas", "private_saas"])
def test_clients_that_take_care_of_their_backups_themselves_are_tested_too(deployment: str) -> None:
    one = world(deployment=deployment)
    run(one)
    assert len(begun(one)) == 1


def test_a_copy_is_tested_in_its_region_and_held_there_alone() -> None:
    one = world(stored("20261030-s-acme-pam-1-0badcafe", THEN - DAY, state="deleted", copies={US: copied()}),
                entitlements=ADD_ON)  # fmt: skip
    run(one)
    (test,) = begun(one)
    assert (test.source.region, test.source.copy, test.target.region) == (US, True, US)
    assert one.the_point().holds == []
    assert len(one.the_point().copies[US].holds) == 1
    assert one.the_point().held


def test_every_due_tenant_has_its_test_and_the_others_wait() -> None:
    one = world()
    for id, at in (("beta", THEN - HOUR), ("gamma", THEN + HOUR), ("delta", None)):
        other = world(id=id, restore_test_at=at)
        one.put(*[(path, _as(path, data)) for path, data in other.documents_in(f"tenants/{id}")])
    run(one)
    ids = [path.split("/")[1] for path, _ in one.documents_in("tenants/") if "/restores/" in path]
    assert sorted(ids) == ["acme", "beta"]


def _as(path: str, data: dict[str, Any]) -> d.Stored:
    kind = d.Point if "/points/" in path else d.Instance if "/instances/" in path else d.Tenant
    return d.from_data(kind, data)


# --- once ---------------------------------------------------------------------------------------------------------


def test_one_due_instant_makes_one_test_however_often_it_is_looked_at() -> None:
    one = world()
    for _ in range(3):
        run(one)
        one.clock.move(hours=1)
    assert len(begun(one)) == 1


def test_two_runs_at_once_begin_one_test() -> None:
    points = [stored(f"202610{day}-s-acme-pam-1-0badcafe", THEN - day * DAY) for day in range(10, 30)]
    one = world(*points)
    inner = one.documents

    def another() -> None:
        one.documents = inner
        run(one)  # with a token of its own: it draws another set

    one.documents = Between(inner, another, nothing)
    run(one)
    (test,) = begun(one)
    assert the(one).restore_testing == test.id
    assert [point.id for point in one.points() if point.holds] == [test.recovery_point]


def test_a_run_that_dies_after_its_commit_leaves_a_test_that_the_ticks_find() -> None:
    one = world()
    inner = one.documents

    def dies() -> None:
        raise Transient("it is not known whether it was written")

    one.documents = Between(inner, nothing, dies)
    with pytest.raises(Transient):
        run(one)
    one.documents = inner
    run(one)
    (test,) = begun(one)
    assert test.next_at == THEN
    assert len(one.records()) == 1


def test_a_tenant_has_one_test_at_a_time() -> None:
    one = world()
    run(one)
    (first,) = begun(one)
    # The fleet file is applied meanwhile, with another interval.
    one.put(("tenants/acme", replace(the(one), restore_test_at=one.clock.now())))
    run(one)
    assert begun(one) == [first]
    assert the(one).restore_test_at == THEN + testing.AGAIN
    one.put((f"tenants/acme/restores/{first.id}", replace(first, state="completed")))
    one.clock.move(days=1)
    run(one)
    assert len(begun(one)) == 2


def test_a_point_that_changes_meanwhile_is_drawn_again_at_the_next_tick() -> None:
    one = world()
    inner = one.documents

    def changes() -> None:
        one.documents = inner
        expiry = d.Expiry(was="verified", reason="r", decided_at=THEN, delete_after=THEN + DAY)
        one.put(
            (f"tenants/acme/points/{one.the_point().id}", replace(one.the_point(), state="expiring", expiry=expiry))
        )

    one.documents = Between(inner, changes, nothing)
    run(one)
    assert begun(one) == []
    assert one.the_point().holds == []
    assert the(one).restore_test_at == THEN, "it is due still"


# --- not begun ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["restore", "deletion"])
@pytest.mark.parametrize("where", [{"fleet": True}, {"projects": ["acme-prod"]}, {"tenants": ["acme"]}])
def test_no_test_is_begun_while_restores_or_deletions_are_stopped_and_it_is_afterwards(
    where: dict[str, Any], kind: str
) -> None:
    one = world()
    kinds = d.PausedKinds(**{kind: d.Paused(**where)})
    one.put(("system/controls", d.Controls(updated_at=THEN, paused=kinds)))
    run(one)
    assert begun(one) == []
    one.put(("system/controls", d.Controls(updated_at=THEN)))
    run(one)
    assert len(begun(one)) == 1


def test_a_tenant_that_has_left_is_not_tested_and_one_that_comes_back_is() -> None:
    one = world(offboarding=d.Offboarding(at=THEN, by="anna", reason="leaves"))
    run(one)
    assert begun(one) == []
    one.put(("tenants/acme", replace(the(one), offboarding=None)))
    one.clock.move(days=1)
    run(one)
    assert len(begun(one)) == 1


def test_where_nothing_can_be_tested_another_look_is_taken_the_next_day_and_nobody_is_told() -> None:
    one = world(stored("20261030-s-acme-pam-1-0badcafe", THEN - DAY, usable=False))
    run(one)
    assert begun(one) == []
    assert one.records() == []
    assert the(one).restore_test_at == THEN + DAY


def test_a_test_that_cannot_be_carried_out_as_things_stand_is_told_and_says_nothing_of_the_point() -> None:
    elsewhere = {"europe-west1": "projects/acme-prod/regions/europe-west1/subnetworks/closed"}
    one = world(restore_test=replace(CLOSED, subnetworks=elsewhere))
    run(one)
    assert begun(one) == []
    assert the(one).restore_test_at == THEN + DAY
    assert the(one).restore_tested is None
    assert one.the_point().usable
    (entry,) = one.all(d.InboxRecord, "inbox")
    assert entry.event is not None
    assert entry.event["type"] == "restore_test.failed"
    assert (entry.event["data"]["carried_out"], entry.event["data"]["failure"]["code"]) == (False, "no_subnetwork")


def test_what_is_no_tick_is_refused() -> None:
    with pytest.raises(BadMessage, match="not a message for restore_test"):
        restore_test(Nudge(tenants=["acme"]), world().of("restore_test"))


# --- bounds -------------------------------------------------------------------------------------------------------


def test_a_tenant_with_many_points_costs_a_bounded_number_of_reads() -> None:
    one = world()
    hopeless = replace(one.the_point(), usable=False)
    page = QUERIES["instance_points"].limit
    many = [instance(id=str(number), tally=d.Tally(stored=1)) for number in range(testing.INSTANCES_TRIED_MAX - 1)]
    one.put(*[(f"tenants/acme/instances/{here.id}", here) for here in many])
    for number in range(4 * page):
        id = f"20261030-s-acme-pam-1-{number:08x}"
        one.put((f"tenants/acme/points/{id}", replace(hopeless, id=id, stored_for=many[0].id)))
    one.put((f"tenants/acme/points/{hopeless.id}", hopeless))
    read: list[Query] = []

    class Counting(Between):
        def find(self, query: Query) -> list[Doc]:
            read.append(query)
            return super().find(query)

    one.documents = Counting(one.memory, nothing, nothing)
    run(one)
    assert begun(one) == []
    points = [query for query in read if query.collection.endswith("/points")]
    assert len(points) == testing.POINT_PAGES_MAX + testing.INSTANCES_TRIED_MAX - 1


def test_a_document_that_is_damaged_stops_no_other_tenant() -> None:
    one = world(restore_test_at=THEN - HOUR)
    other = world(id="beta")
    one.put(*[(path, _as(path, data)) for path, data in other.documents_in("tenants/beta")])
    (seen,) = one.memory.get("tenants/acme")
    assert seen is not None
    one.memory.commit(Replace(seen.path, seen.data | {"deployment": 7}, seen.version))
    run(one)
    assert [path.split("/")[1] for path, _ in one.documents_in("tenants/") if "/restores/" in path] == ["beta"]

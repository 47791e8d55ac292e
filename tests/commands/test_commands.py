"""What people may ask for: one commit each, with its record and its answer; twice under one key is once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from tests.makers import THEN, World, copy_of, point, point_disk, tenant
from tests.web.fleets import put_stored, put_tenant

from snapkeep import commands
from snapkeep import documents as d
from snapkeep.commands import (
    ApplyAsk,
    Asked,
    Clash,
    CopyAsk,
    HoldAsk,
    NoTenant,
    OffboardAsk,
    OverrideAsk,
    PointAsk,
    ReleaseAsk,
    SwitchAsk,
    Wrong,
)
from snapkeep.messages import CopyBatch, CreateRequested, CreateRequestedData, Nudge, PointRef, parse
from snapkeep.ports import Doc, Documents, Query, Transient, Write

ANNA = "anna@vendor.example"
WEEK = d.Retention(keep_last=0, keep_daily=7, keep_weekly=0, keep_monthly=0, lock_days=0)


def asked(key: str = "k1", by: str = ANNA, what: str = "this") -> Asked:
    return Asked(by=by, key=key, sha256=what)


@pytest.fixture
def world() -> World:
    one = World()
    put_tenant(one, "acme", retention=WEEK)
    return one


def the(world: World, id: str = "acme") -> d.Tenant:
    return world.read(d.Tenant, f"tenants/{id}")


def machine(world: World, id: str = "acme") -> d.Instance:
    (only,) = world.instances(id)
    return only


def actions(world: World, id: str = "acme") -> list[tuple[str, str, str]]:
    return [(record["actor"], record["action"], record["subject"]) for record in world.records(id)]


class Between:
    """Documents to which something happens right before a commit, once."""

    def __init__(self, world: World, happens: Callable[[], object]) -> None:
        self._documents: Documents = world.documents
        self._happens: Callable[[], object] | None = happens
        self.found: list[str] = []  # collections that were asked for

    def get(self, *paths: str) -> list[Doc | None]:
        return self._documents.get(*paths)

    def find(self, query: Query) -> list[Doc]:
        self.found.append(query.collection)
        return self._documents.find(query)

    def commit(self, *writes: Write) -> None:
        happens, self._happens = self._happens, None
        if happens:
            happens()
        self._documents.commit(*writes)


# --- once ---------------------------------------------------------------------------------------------------------


def test_two_at_once_under_one_key_act_once_and_are_answered_alike(world: World) -> None:
    ask = PointAsk(instance="acme-app", reason="before import")
    others: list[Any] = []
    plain = world.ports
    world.documents = Between(world, lambda: others.append(commands.request_point(plain, asked(), "acme", ask)))
    answer = commands.request_point(world.ports, asked(), "acme", ask)
    assert others == [answer]
    assert [one.id for one in world.points()] == [answer.point]
    assert len(world.records()) == 1


def test_a_change_by_another_meanwhile_is_not_lost(world: World) -> None:
    plain = world.ports
    world.documents = Between(
        world, lambda: commands.add_hold(plain, asked("other"), "acme", HoldAsk(reason="the first"))
    )
    commands.add_hold(world.ports, asked(), "acme", HoldAsk(reason="the second"))
    assert [hold.reason for hold in the(world).holds] == ["the first", "the second"]


class Contended(Between):
    """Documents that somebody else always writes to first."""

    def commit(self, *writes: Write) -> None:
        from snapkeep.ports import Conflict

        raise Conflict


def test_who_is_always_too_late_is_told_to_ask_again(world: World) -> None:
    world.documents = Contended(world, lambda: None)
    with pytest.raises(Transient, match="others kept changing it; ask again"):
        commands.add_hold(world.ports, asked(), "acme", HoldAsk(reason="r"))


def test_a_key_that_was_used_for_something_else_is_refused(world: World) -> None:
    commands.add_hold(world.ports, asked(), "acme", HoldAsk(reason="r"))
    with pytest.raises(Clash, match="used before, for something else"):
        commands.add_hold(world.ports, asked(what="that"), "acme", HoldAsk(reason="s"))


def test_the_answer_of_a_key_is_kept_for_a_month(world: World) -> None:
    commands.add_hold(world.ports, asked(), "acme", HoldAsk(reason="r"))
    ((_, data),) = world.documents_in("tenants/acme/requests/")
    assert data["expire_at"] - world.clock.now() == timedelta(days=30)


def test_a_tenant_that_is_not_there_is_said(world: World) -> None:
    with pytest.raises(NoTenant):
        commands.add_hold(world.ports, asked(), "nobody", HoldAsk(reason="r"))
    assert world.documents_in("tenants/nobody") == []


# --- points -------------------------------------------------------------------------------------------------------


def test_a_point_is_asked_for_with_the_askers_verified_address(world: World) -> None:
    answer = commands.request_point(world.ports, asked(), "acme", PointAsk(instance="acme-app", reason="r"))
    assert world.the_point().requested_by == ANNA
    assert actions(world) == [(ANNA, "point.requested", f"points/{answer.point}")]
    assert machine(world).tally.running == 1


def test_a_message_and_a_person_with_the_same_word_make_a_point_each(world: World) -> None:
    commands.request_point(world.ports, asked("import-1"), "acme", PointAsk(instance="acme-app", reason="r"))
    data = CreateRequestedData(instance="acme-app")
    message = CreateRequested(id="import-1", tenant="acme", claimed_actor=ANNA, reason="r", data=data)
    world.hand("create", message)
    assert sorted(one.requested_by for one in world.points()) == [ANNA, f"claimed:{ANNA}"]


@pytest.mark.parametrize(
    "ask", [PointAsk(instance="none", reason="r"), PointAsk(instance="acme-app", zone="z-9-a", reason="r")]
)
def test_an_instance_that_is_not_there_is_said(world: World, ask: PointAsk) -> None:
    with pytest.raises(Wrong, match="instance: 'acme' has no instance"):
        commands.request_point(world.ports, asked(), "acme", ask)
    assert world.points() == []


# --- copies -------------------------------------------------------------------------------------------------------

US = "us-east1"
BOUGHT = d.Entitlements(inter_region_backup=d.InterRegionBackup(region=US, valid_until="2027-12-31"))


@pytest.fixture
def bought(world: World) -> World:
    """Acme has bought copies, and has a verified point of two disks."""
    world.put(("tenants/acme", replace(the(world), entitlements=BOUGHT)))
    put_stored(world, "acme", 1, disks=[point_disk(), point_disk(name="data", id="2", size_gb=500)])
    return world


def ask_copy(world: World, key: str = "k1", **changes: Any) -> commands.CopyAnswer:
    ask = CopyAsk(**{"reason": "before the move"} | changes)
    return commands.request_copy(world.ports, asked(key), "acme", world.the_point().id, ask)


def copy_there(world: World, state: Any, **changes: Any) -> d.Copy:
    """The point's copy, as it is put there."""
    point = world.the_point()
    disks = [d.CopyDisk(id=one.id, name=one.name, snapshot=one.snapshot) for one in point.disks]
    copy = copy_of(state, **{"disks": disks} | changes)
    held = bool(point.holds or copy.holds)
    world.put((f"tenants/acme/points/{point.id}", replace(point, copies={US: copy}, held=held)))
    return copy


def test_a_copy_is_asked_for_once_and_started(bought: World) -> None:
    answer = ask_copy(bought)
    assert ask_copy(bought) == answer
    assert (answer.region, answer.disks, answer.size_gb) == (US, 2, 600)
    one, now = bought.the_point(), bought.clock.now()
    copy = one.copies[US]
    assert (copy.state, copy.way, copy.requested_by, copy.reason) == (
        "requested",
        "temporary_disk",
        ANNA,
        "before the move",
    )
    assert (copy.next_at, one.next_at, copy.lock_until) == (now, now, now + timedelta(days=7))
    assert machine(bought).copies.waiting == 1
    assert actions(bought) == [(ANNA, "copy.requested", f"points/{one.id}")]
    assert CopyBatch(points=[PointRef("acme", one.id)]) in [parse(body) for body in sent(bought, "snapkeep-copy")]


def sent(world: World, topic: str) -> list[bytes]:
    return [*world.bus.outbox(topic), *(one.body for one in world.bus.pending() if one.topic == topic)]


def test_a_copy_that_is_asked_for_dry_is_not_made(bought: World) -> None:
    before = bought.memory.dump()
    assert ask_copy(bought, dry_run=True).dry_run
    assert bought.memory.dump() == before


@pytest.mark.parametrize(
    ("of_tenant", "ask", "why"),
    [
        ({"entitlements": d.Entitlements()}, {}, "acme is not entitled to copies: it has no inter_region_backup"),
        ({}, {"region": "us-west1"}, "not entitled to copies in us-west1: it has bought them in us-east1"),
        (
            {
                "entitlements": d.Entitlements(
                    inter_region_backup=d.InterRegionBackup(region=US, valid_until="2026-10-30")
                )
            },
            {},
            "was valid until 2026-10-30",
        ),
        ({"offboarding": d.Offboarding(at=THEN, by=ANNA, reason="r")}, {}, "it has left at 2026-11-01T00:00:00"),
    ],
    ids=["nothing bought", "another region", "over", "left"],
)
def test_a_copy_that_is_not_bought_is_refused_with_the_reason(
    bought: World, of_tenant: dict[str, Any], ask: dict[str, Any], why: str
) -> None:
    bought.put(("tenants/acme", replace(the(bought), **of_tenant)))
    before = bought.memory.dump()
    with pytest.raises(Clash, match=why):
        ask_copy(bought, **ask)
    assert bought.memory.dump() == before


@pytest.mark.parametrize(
    ("of_point", "why"),
    [
        ({"state": "creating"}, "is creating: only a verified point is copied"),
        ({"state": "failed"}, "is failed: only"),
        ({"gone": ["sk-1"]}, "cannot be restored from"),
        ({"usable": False}, "cannot be restored from"),
        ({"copies": {US: copy_of("requested")}}, "is on its way already"),
        ({"copies": {US: copy_of("copying")}}, "is on its way already"),
        ({"copies": {US: copy_of("verified")}}, "has a copy in us-east1 already"),
        ({"copies": {US: copy_of("expiring")}}, "about to be deleted: a hold on it keeps it"),
        ({"copies": {US: copy_of("failed", next_at=THEN)}}, "what the last try to copy .* is still being removed"),
        ({"disks": [point_disk(kms_key="projects/p/locations/r/keyRings/r/cryptoKeys/k")]}, "kms_keys has none for us"),
    ],
    ids=str,
)
def test_a_copy_that_cannot_be_made_is_refused_with_the_reason(
    bought: World, of_point: dict[str, Any], why: str
) -> None:
    one = bought.the_point()
    bought.put((f"tenants/acme/points/{one.id}", replace(one, **of_point)))
    with pytest.raises(Clash, match=why):
        ask_copy(bought)
    assert bought.records() == []


def test_a_copy_of_a_point_that_is_not_there_is_said(bought: World) -> None:
    with pytest.raises(Wrong, match="point: 'acme' has no point '20260101-s-acme-app-00000000'"):
        commands.request_copy(bought.ports, asked(), "acme", "20260101-s-acme-app-00000000", CopyAsk(reason="r"))


@pytest.mark.parametrize("state", ["failed", "deleted"])
def test_what_is_known_of_a_former_try_stays_with_the_copy_that_is_asked_for(bought: World, state: str) -> None:
    hold = d.Hold(id="h1", reason="r", by=ANNA, at=THEN)
    former = copy_there(bought, state, holds=[hold], requested_at=THEN - timedelta(days=20))
    ask_copy(bought)
    assert bought.the_point().copies[US].wanted_since is None, "home waits for it as for a first one"
    assert (bought.the_point().copies[US].disks, bought.the_point().copies[US].holds) == (former.disks, [hold])


@pytest.mark.parametrize("wrong", [{"gone": ["sk-boot-1"]}, {"usable": False}])
def test_a_copy_that_cannot_be_restored_from_may_be_made_again_and_what_is_left_of_it_goes_with_the_new_one(
    bought: World, wrong: dict[str, Any]
) -> None:
    lock = bought.clock.now() + timedelta(days=90)
    former = copy_there(bought, "verified", lock_until=lock, **wrong)
    ask_copy(bought)
    copy = bought.the_point().copies[US]
    assert (copy.state, copy.gone, copy.usable, copy.disks) == ("requested", [], True, former.disks)
    assert copy.lock_until == lock, "no later policy shortens it"


# --- holds --------------------------------------------------------------------------------------------------------


def going(**changes: Any) -> d.Point:
    """A point in its grace."""
    now = datetime(2026, 11, 1, tzinfo=UTC)
    fields: dict[str, Any] = {
        "was": "verified",
        "reason": "no rule keeps it",
        "decided_at": now - timedelta(hours=3),
        "delete_after": now + timedelta(hours=21),
    }
    return point(state="expiring", stored_for="10000", next_at=None, expiry=d.Expiry(**fields | changes))


@pytest.mark.parametrize("was", ["verified", "failed"])
def test_a_hold_calls_a_point_in_its_grace_back_in_the_same_commit(world: World, was: str) -> None:
    one = going(was=was)
    world.put((f"tenants/acme/points/{one.id}", one))
    before = machine(world).tally
    answer = commands.add_hold(world.ports, asked(), "acme", HoldAsk(point=one.id, reason="case 4711"))
    after = world.the_point()
    assert (after.state, after.expiry, after.holds, after.held) == (was, None, [answer.hold], True)
    assert answer.called_back
    assert world.records()[0]["detail"]["called_back"] is True
    assert machine(world).tally == before
    assert actions(world) == [(ANNA, "hold.added", f"points/{one.id}")]


def test_a_hold_on_a_point_whose_deletion_has_begun_is_refused(world: World) -> None:
    one = going(begun_at=world.clock.now())
    world.put((f"tenants/acme/points/{one.id}", one))
    with pytest.raises(Clash, match="has begun at 2026-11-01T00:00:00"):
        commands.add_hold(world.ports, asked(), "acme", HoldAsk(point=one.id, reason="case 4711"))
    assert world.the_point() == one


def test_a_deletion_that_begins_meanwhile_is_met(world: World) -> None:
    one = going()
    path = f"tenants/acme/points/{one.id}"
    world.put((path, one))
    world.documents = Between(world, lambda: world.put((path, going(begun_at=world.clock.now()))))
    with pytest.raises(Clash, match="has begun"):
        commands.add_hold(world.ports, asked(), "acme", HoldAsk(point=one.id, reason="too late"))


@pytest.mark.parametrize("state", ["deleted", "missed"])
def test_there_is_nothing_to_hold_of_a_point_that_has_no_snapshots(world: World, state: str) -> None:
    one = point(state=state)
    world.put((f"tenants/acme/points/{one.id}", one))
    with pytest.raises(Clash, match=f"is {state}: there is nothing to hold"):
        commands.add_hold(world.ports, asked(), "acme", HoldAsk(point=one.id, reason="r"))


def test_an_instance_and_a_tenant_are_held_and_released(world: World) -> None:
    on_instance = commands.add_hold(world.ports, asked("a"), "acme", HoldAsk(instance="acme-app", reason="audit"))
    on_tenant = commands.add_hold(world.ports, asked("b"), "acme", HoldAsk(reason="case 4711"))
    assert (on_instance.subject, on_tenant.subject) == ("instances/10000", ".")
    assert (machine(world).held, the(world).held) == (True, True)
    for number, one in enumerate((on_instance, on_tenant)):
        answer = commands.release_hold(world.ports, asked(f"r{number}"), "acme", one.hold.id, ReleaseAsk(reason="over"))
        assert (answer.subject, answer.hold) == (one.subject, one.hold)
    assert (machine(world).held, the(world).held) == (False, False)
    assert (machine(world).holds, the(world).holds) == ([], [])


def deleting(world: World, *ids: str) -> None:
    one = machine(world)
    work = d.RetentionWork(plan_at=None, deleting=list(ids))
    world.put((f"tenants/acme/instances/{one.id}", replace(one, retention=work, retention_at=world.clock.now())))


@pytest.mark.parametrize("ask", [HoldAsk(reason="r", instance="acme-app"), HoldAsk(reason="r")])
def test_a_hold_names_the_points_that_it_comes_too_late_for(world: World, ask: HoldAsk) -> None:
    first = commands.add_hold(world.ports, asked("a"), "acme", ask)
    assert (first.going, first.called_back) == ([], False)
    assert not {"going", "called_back"} & world.records()[0]["detail"].keys()
    deleting(world, "p1", "p2")
    late = commands.add_hold(world.ports, asked("b"), "acme", ask)
    assert late.going == world.records()[1]["detail"]["going"] == ["p1", "p2"]


def test_a_deletion_that_begins_while_the_tenant_is_held_is_named(world: World) -> None:
    def begins() -> None:
        deleting(world, "p1")
        world.put(("tenants/acme", the(world)))  # as the beginning does: nothing of it changes

    world.documents = Between(world, begins)
    assert commands.add_hold(world.ports, asked(), "acme", HoldAsk(reason="r")).going == ["p1"]


def woken(world: World) -> list[str]:
    return [message.topic for message in world.bus.pending() if message.topic == "snapkeep-retention"]


def test_only_a_hold_on_the_tenant_has_every_instance_weighed(world: World) -> None:
    one = point(state="verified")
    tomorrow = world.clock.now() + timedelta(days=1)
    waits = replace(machine(world), retention_at=tomorrow, retention=d.RetentionWork(plan_at=tomorrow))
    world.put((f"tenants/acme/points/{one.id}", one), (f"tenants/acme/instances/{waits.id}", waits))
    on_point = commands.add_hold(world.ports, asked("p"), "acme", HoldAsk(point=one.id, reason="r"))
    commands.release_hold(world.ports, asked("rp"), "acme", on_point.hold.id, ReleaseAsk(reason="over"))
    assert (woken(world), machine(world)) == ([], waits), "one point keeps nothing but itself"
    on_instance = commands.add_hold(world.ports, asked("i"), "acme", HoldAsk(instance="acme-app", reason="r"))
    assert (woken(world), machine(world).retention.plan_at) == ([], world.clock.now())
    held = machine(world)
    world.put((f"tenants/acme/instances/{held.id}", replace(held, retention_at=tomorrow)))
    commands.release_hold(world.ports, asked("ri"), "acme", on_instance.hold.id, ReleaseAsk(reason="over"))
    assert (woken(world), machine(world).retention_at) == ([], world.clock.now())
    on_tenant = commands.add_hold(world.ports, asked("t"), "acme", HoldAsk(reason="r"))
    commands.release_hold(world.ports, asked("rt"), "acme", on_tenant.hold.id, ReleaseAsk(reason="over"))
    assert len(woken(world)) == 2


def test_an_instance_of_which_nothing_is_stored_is_held_and_not_weighed(world: World) -> None:
    commands.add_hold(world.ports, asked(), "acme", HoldAsk(instance="acme-app", reason="r"))
    assert (machine(world).held, machine(world).retention_at) == (True, None)


def test_an_instance_that_is_gone_can_be_held(world: World) -> None:
    lost = replace(machine(world), lost_at=world.clock.now(), lost_reason="gone")
    world.put((f"tenants/acme/instances/{lost.id}", lost))
    commands.add_hold(world.ports, asked(), "acme", HoldAsk(instance="acme-app", reason="r"))
    assert machine(world).held


def test_of_two_machines_of_one_name_the_id_says_which(world: World) -> None:
    world.put(("tenants/acme/instances/77", replace(machine(world), id="77", lost_at=world.clock.now())))
    with pytest.raises(Wrong, match="give one of the ids 10000, 77"):
        commands.add_hold(world.ports, asked(), "acme", HoldAsk(instance="acme-app", reason="r"))
    assert commands.add_hold(world.ports, asked(), "acme", HoldAsk(instance="77", reason="r")).subject == "instances/77"


def test_a_point_is_released(world: World) -> None:
    one = point(state="verified")
    world.put((f"tenants/acme/points/{one.id}", one))
    added = commands.add_hold(world.ports, asked("a"), "acme", HoldAsk(point=one.id, reason="r"))
    commands.release_hold(world.ports, asked("b"), "acme", added.hold.id, ReleaseAsk(reason="over"))
    assert (world.the_point().holds, world.the_point().held) == ([], False)
    with pytest.raises(Wrong, match="has no hold"):
        commands.release_hold(world.ports, asked("c"), "acme", added.hold.id, ReleaseAsk(reason="again"))


def test_a_copy_is_held_and_released_and_its_point_at_home_is_not(bought: World) -> None:
    copy_there(bought, "verified")
    id = bought.the_point().id
    added = commands.add_hold(bought.ports, asked("a"), "acme", HoldAsk(point=id, copy=US, reason="case 4711"))
    assert (added.subject, added.name, added.copy) == (f"points/{id}", id, US)
    one = bought.the_point()
    assert (one.holds, one.copies[US].holds, one.held) == ([], [added.hold], True)
    at_home = commands.add_hold(bought.ports, asked("b"), "acme", HoldAsk(point=id, reason="too"))
    assert (bought.the_point().holds, bought.the_point().copies[US].holds) == ([at_home.hold], [added.hold])
    over = commands.release_hold(bought.ports, asked("c"), "acme", at_home.hold.id, ReleaseAsk(reason="over"))
    assert (over.copy, bought.the_point().holds, bought.the_point().held) == (None, [], True)
    over = commands.release_hold(bought.ports, asked("d"), "acme", added.hold.id, ReleaseAsk(reason="over"))
    assert (over.copy, bought.the_point().copies[US].holds, bought.the_point().held) == (US, [], False)
    assert [record["detail"].get("copy") for record in bought.records()] == [US, None, None, US]


def test_a_hold_calls_a_copy_in_its_grace_back(bought: World) -> None:
    copy_there(bought, "expiring", expiry=going().expiry)
    answer = commands.add_hold(bought.ports, asked(), "acme", HoldAsk(point=bought.the_point().id, copy=US, reason="r"))
    copy = bought.the_point().copies[US]
    assert (answer.called_back, copy.state, copy.expiry) == (True, "verified", None)


@pytest.mark.parametrize(
    ("copy", "why"),
    [
        ({"state": "deleted"}, "is deleted: there is nothing to hold"),
        ({"state": "failed", "disks": []}, "is failed: there is nothing to hold"),
        ({"state": "expiring", "expiry": going(begun_at=THEN).expiry}, "has begun at 2026-11-01"),
    ],
    ids=["deleted", "failed", "begun"],
)
def test_there_is_nothing_to_hold_of_a_copy_that_is_not_there(bought: World, copy: dict[str, Any], why: str) -> None:
    copy_there(bought, **copy)
    id = bought.the_point().id
    with pytest.raises(Clash, match=f"the (deletion of the )?copy of {id} in {US} {why}"):
        commands.add_hold(bought.ports, asked(), "acme", HoldAsk(point=id, copy=US, reason="r"))


def test_the_region_of_a_copy_that_is_held_must_be_right(bought: World) -> None:
    copy_there(bought, "verified")
    with pytest.raises(Wrong, match="has no copy in 'us-west1'; it has one in us-east1"):
        commands.add_hold(
            bought.ports, asked(), "acme", HoldAsk(point=bought.the_point().id, copy="us-west1", reason="r")
        )


def test_a_release_of_a_copy_that_is_tried_names_the_copy_if_it_goes(bought: World) -> None:
    hold = d.Hold(id="h1", reason="r", by=ANNA, at=THEN)
    copy_there(bought, "failed", holds=[hold], requested_at=THEN - timedelta(days=30))
    ask = ReleaseAsk(reason="r", dry_run=True)
    answer = commands.release_hold(bought.ports, asked(), "acme", "h1", ask)
    assert answer.lets_go == [f"{bought.the_point().id}@{US}"]
    everything = commands.add_hold(bought.ports, asked("i"), "acme", HoldAsk(instance="acme-app", reason="r"))
    answer = commands.release_hold(bought.ports, asked("ri"), "acme", everything.hold.id, ask)
    assert answer.lets_go == [], "the copy is still held itself"


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (HoldAsk(point="20261101-o-a-00000001", instance="acme-app", reason="r"), "both are given"),
        (HoldAsk(zone="z-1-a", reason="r"), "zone: given without instance"),
        (HoldAsk(copy="us-east1", reason="r"), "copy: given without point"),
        (HoldAsk(until=datetime(2026, 10, 31, tzinfo=UTC), reason="r"), "is over"),
        (HoldAsk(point="20261101-o-a-00000001", reason="r"), "has no point"),
        (HoldAsk(instance="none", reason="r"), "has no instance"),
    ],
)
def test_a_hold_that_cannot_be_is_said(world: World, ask: HoldAsk, said: str) -> None:
    with pytest.raises(Wrong, match=said):
        commands.add_hold(world.ports, asked(), "acme", ask)
    assert world.records() == []


def test_holds_have_a_bound_and_those_that_have_ended_do_not_count(world: World) -> None:
    until = world.clock.now() + timedelta(hours=1)
    for number in range(commands.HOLDS_MAX):
        commands.add_hold(world.ports, asked(f"k{number}"), "acme", HoldAsk(reason="r", until=until))
    with pytest.raises(Clash, match="50 holds stand on it already"):
        commands.add_hold(world.ports, asked("more"), "acme", HoldAsk(reason="r"))
    world.clock.move(hours=2)
    commands.add_hold(world.ports, asked("more"), "acme", HoldAsk(reason="r"))
    assert len(the(world).holds) == 1


def test_applying_the_fleet_file_keeps_what_people_have_decided(world: World) -> None:
    commands.add_hold(world.ports, asked("a"), "acme", HoldAsk(reason="case 4711"))
    commands.offboard(world.ports, asked("b"), "acme", OffboardAsk(day="2026-12-01", reason="leaves"))
    before = the(world)
    commands.apply_tenant(world.ports, asked("c"), "acme", ApplyAsk(entry=entry(name="Acme & Sons")))
    after = the(world)
    assert after.name == "Acme & Sons"
    assert (after.holds, after.held, after.offboarding) == (before.holds, True, before.offboarding)


# --- stopping -----------------------------------------------------------------------------------------------------


def paused(world: World) -> d.Paused:
    return world.read(d.Controls, "system/controls").paused.deletion


def test_a_tenant_a_project_and_the_fleet_are_paused_each_by_its_own_words(world: World) -> None:
    commands.pause(world.ports, asked("a"), "deletion", "r", tenant="acme")
    commands.pause(world.ports, asked("b"), "deletion", "r", project="acme-prod")
    commands.pause(world.ports, asked("c"), "deletion", "r")
    assert paused(world) == d.Paused(fleet=True, projects=["acme-prod"], tenants=["acme"])
    commands.resume(world.ports, asked("d"), "deletion", "r")
    assert paused(world) == d.Paused(fleet=False, projects=["acme-prod"], tenants=["acme"])
    commands.resume(world.ports, asked("e"), "deletion", "r", tenant="acme")
    commands.resume(world.ports, asked("f"), "deletion", "r", project="acme-prod")
    assert paused(world) == d.Paused()
    assert [a for _, a, _ in actions(world)] == ["deletion.paused", "deletion.resumed"]
    assert [a for _, a, _ in actions(world, "_system")] == ["deletion.paused"] * 2 + ["deletion.resumed"] * 2


def test_one_kind_is_paused_and_the_others_go_on(world: World) -> None:
    commands.pause(world.ports, asked(), "creation", "r")
    kinds = world.read(d.Controls, "system/controls").paused
    assert (kinds.creation.fleet, kinds.deletion.fleet, kinds.restore.fleet) == (True, False, False)


def test_pausing_what_is_paused_changes_nothing_and_its_answer_is_kept(world: World) -> None:
    told = [commands.pause(world.ports, asked(key), "creation", "r", tenant="acme") for key in ("a", "b")]
    assert told[0] == told[1]
    assert world.read(d.Controls, "system/controls").paused.creation.tenants == ["acme"]
    assert len(world.records()) == 1
    commands.resume(world.ports, asked("c"), "creation", "r", tenant="acme")
    assert commands.pause(world.ports, asked("b"), "creation", "r", tenant="acme") == told[1]
    assert world.read(d.Controls, "system/controls").paused.creation.tenants == []


def test_a_pause_gets_through_where_many_others_pause_at_once(world: World) -> None:
    plain, late = world.ports, iter(range(10))

    class Busy(Between):
        def commit(self, *writes: Write) -> None:
            for number in late:
                commands.pause(plain, asked(f"other-{number}"), "restore", "r", tenant=f"t{number}")
                break
            super().commit(*writes)

    for number in range(10):
        put_tenant(world, f"t{number}")
    world.documents = Busy(world, lambda: None)
    commands.pause(world.ports, asked(), "restore", "r")
    kind = world.read(d.Controls, "system/controls").paused.restore
    assert (kind.fleet, len(kind.tenants)) == (True, 10)


def test_what_is_answered_of_a_tenants_pause_is_what_covers_the_tenant(world: World) -> None:
    owner = the(world)
    for key, project in (("a", owner.project), ("b", owner.vault_project), ("c", "others-prod")):
        put_tenant(world, f"others-{key}", project=project)
        commands.pause(world.ports, asked(key), "deletion", "r", project=project)
    told = commands.resume(world.ports, asked("d"), "deletion", "r", tenant="acme").paused
    assert told == d.Paused(projects=sorted({owner.project, owner.vault_project}))


def test_a_project_that_no_tenant_has_is_not_paused_and_may_be_resumed(world: World) -> None:
    with pytest.raises(Wrong, match="project: no tenant has its instances or its snapshots in 'acme-prdo'"):
        commands.pause(world.ports, asked(), "deletion", "r", project="acme-prdo")
    commands.resume(world.ports, asked(), "deletion", "r", project="acme-prdo")
    vault = d.Vault(updated_at=THEN, project="old-vault", tenants=[], next_at=THEN)
    world.put(("vaults/old-vault", vault))
    assert commands.pause(world.ports, asked("v"), "deletion", "r", project="old-vault").paused.projects == [
        "old-vault"
    ]


def test_who_was_let_in_by_a_deployment_that_has_changed_is_refused(world: World) -> None:
    let_in = Asked(by=ANNA, key="key", sha256="this", deployment="private_saas")
    for act in (
        lambda: commands.add_hold(world.ports, let_in, "acme", HoldAsk(reason="r")),
        lambda: commands.pause(world.ports, let_in, "deletion", "r", tenant="acme"),
    ):
        with pytest.raises(Clash, match="acme is no longer private_saas, by which this was allowed"):
            act()
    assert world.records() == []
    commands.add_hold(world.ports, Asked(by=ANNA, key="k", sha256="s", deployment="saas"), "acme", HoldAsk(reason="r"))


def test_two_that_pause_at_once_both_do(world: World) -> None:
    plain = world.ports
    world.documents = Between(world, lambda: commands.pause(plain, asked("b"), "restore", "r", tenant="beta"))
    put_tenant(world, "beta")
    commands.pause(world.ports, asked("a"), "restore", "r", tenant="acme")
    assert world.read(d.Controls, "system/controls").paused.restore.tenants == ["acme", "beta"]


# --- retention ----------------------------------------------------------------------------------------------------


def in_breach(world: World) -> None:
    put_stored(world, "acme", 20, lock_until=None)
    one = machine(world)
    world.put((f"tenants/acme/instances/{one.id}", replace(one, breach_at=world.clock.now(), breach_due_at=None)))


def test_an_override_says_what_it_lets_go_and_is_used_once(world: World) -> None:
    in_breach(world)
    ask = OverrideAsk(instance="acme-app", reason="the disk is full", dry_run=True)
    told = commands.override(world.ports, asked("dry"), "acme", ask)
    assert (len(told.lets_go), told.bytes, told.dry_run) == (13, 13 * (2 << 30), True)
    assert (machine(world).override, world.records()) == (None, [])
    done = commands.override(
        world.ports, asked("a"), "acme", OverrideAsk(instance="acme-app", reason="the disk is full")
    )
    assert (done.lets_go, machine(world).override) == (told.lets_go, done.override)
    assert actions(world) == [(ANNA, "retention.overridden", "instances/10000")]
    with pytest.raises(Clash, match="an override that is not used yet"):
        commands.override(world.ports, asked("b"), "acme", OverrideAsk(instance="acme-app", reason="again"))
    world.tick("retention")
    states = [one.state for one in world.points()]
    assert (states.count("expiring"), states.count("verified"), machine(world).override) == (13, 7, None)


def test_without_a_breach_there_is_nothing_to_override(world: World) -> None:
    put_stored(world, "acme", 20, lock_until=None)
    with pytest.raises(Clash, match="is not in breach of its RPO"):
        commands.override(world.ports, asked(), "acme", OverrideAsk(instance="acme-app", reason="r"))


def test_without_an_override_nothing_goes_in_a_breach(world: World) -> None:
    in_breach(world)
    one = machine(world)
    due = replace(one, retention_at=world.clock.now(), retention=d.RetentionWork(plan_at=world.clock.now()))
    world.put((f"tenants/acme/instances/{one.id}", due))
    world.tick("retention")
    assert {one.state for one in world.points()} == {"verified"}


# --- offboarding and the switch -----------------------------------------------------------------------------------


def test_a_tenant_leaves_at_the_beginning_of_a_local_day(world: World) -> None:
    dry = OffboardAsk(day="2026-12-01", reason="the contract ends", dry_run=True)
    told = commands.offboard(world.ports, asked("dry"), "acme", dry)
    assert told.offboarding is not None
    assert told.offboarding.at == datetime(2026, 12, 1, 3, tzinfo=UTC)  # Sao Paulo
    assert the(world).offboarding is None
    commands.offboard(world.ports, asked("a"), "acme", OffboardAsk(day="2026-12-01", reason="the contract ends"))
    assert the(world).offboarding == told.offboarding
    commands.offboard(world.ports, asked("b"), "acme", OffboardAsk(reason="it stays"))
    assert the(world).offboarding is None
    assert [a for _, a, _ in actions(world)] == ["tenant.offboarded", "tenant.kept"]


def test_a_day_that_has_come_says_what_it_lets_go_at_once(world: World) -> None:
    put_stored(world, "acme", 3)
    ask = OffboardAsk(day="2026-10-20", reason="r", dry_run=True)
    assert commands.offboard(world.ports, asked("dry"), "acme", ask).points == 3
    commands.offboard(world.ports, asked("a"), "acme", replace(ask, dry_run=False))
    assert world.records()[0]["detail"]["points"] == 3
    later = commands.offboard(world.ports, asked("b"), "acme", replace(ask, day="2026-12-01"))
    assert later.points is None


def test_what_is_stored_as_a_copy_alone_is_no_point_that_goes_with_its_instance(world: World) -> None:
    put_stored(world, "acme", 3)
    path = world.documents_in("tenants/acme/points/")[0][0]
    one = world.read(d.Point, path)
    disks = [d.CopyDisk(id=disk.id, name=disk.name, snapshot=disk.snapshot) for disk in one.disks]
    world.put((path, replace(one, state="deleted", copies={US: copy_of("verified", disks=disks)})))
    ask = OffboardAsk(day="2026-10-20", reason="r", dry_run=True)
    assert commands.offboard(world.ports, asked("dry"), "acme", ask).points == 2


def test_nothing_is_taken_of_a_tenant_that_has_left(world: World) -> None:
    commands.offboard(world.ports, asked("a"), "acme", OffboardAsk(day="2026-10-31", reason="r"))
    with pytest.raises(Clash, match="acme has left at 2026-10-31T03:00:00"):
        commands.request_point(world.ports, asked("p"), "acme", PointAsk(instance="acme-app", reason="one more"))
    assert world.points() == []


@pytest.mark.parametrize("day", ["2026-02-30", "0000-01-01", "2026-13-01"])
def test_a_day_that_is_none_is_said(world: World, day: str) -> None:
    with pytest.raises(Wrong, match=f"day: '{day}' is not a day in America/Sao_Paulo"):
        commands.offboard(world.ports, asked(), "acme", OffboardAsk(day=day, reason="r"))


@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31"])
def test_a_day_at_the_ends_of_time_is_no_fault(world: World, day: str) -> None:
    try:
        commands.offboard(world.ports, asked(), "acme", OffboardAsk(day=day, reason="r"))
    except Wrong:
        assert the(world).offboarding is None


def test_a_clients_schedule_is_switched_on_and_off(world: World) -> None:
    put_tenant(world, "priv", deployment="private_saas")
    assert not the(world, "priv").vendor_managed
    answer = commands.switch_schedule(world.ports, asked("a"), "priv", SwitchAsk(on=True, reason="please"))
    assert answer.schedule_switch == the(world, "priv").schedule_switch
    assert the(world, "priv").vendor_managed
    commands.switch_schedule(world.ports, asked("b"), "priv", SwitchAsk(on=False, reason="we do it"))
    assert not the(world, "priv").vendor_managed


def test_the_schedule_takes_points_from_the_switch_on_and_none_from_the_switch_off() -> None:
    world = World()
    world.set_up(of=tenant(deployment="private_saas"))
    assert world.the_instance().next_slot_at is None
    for key, on in (("a", True), ("b", False)):
        commands.switch_schedule(world.ports, asked(key), "acme", SwitchAsk(on=on, reason="r"))
        world.deliver()  # the hint to discovery
        assert (world.the_instance().next_slot_at is not None) == on
        assert (world.the_instance().breach_due_at is not None) == on


def test_a_tenant_that_has_left_is_served_no_more_and_one_that_stays_after_all_is_again() -> None:
    world = World()
    world.set_up()
    commands.offboard(world.ports, asked("a"), "acme", OffboardAsk(day="2026-11-02", reason="leaves"))
    world.deliver()
    assert world.the_instance().lost_at is None
    world.clock.move(hours=30)
    world.tick("discover")
    assert (world.the_instance().lost_reason, world.the_instance().next_slot_at) == ("offboarded", None)
    commands.offboard(world.ports, asked("b"), "acme", OffboardAsk(reason="stays"))
    world.deliver()
    assert world.the_instance().lost_at is None


def test_a_saas_tenants_schedule_is_nobodys_to_switch(world: World) -> None:
    with pytest.raises(Clash, match="its schedule is the vendor's"):
        commands.switch_schedule(world.ports, asked(), "acme", SwitchAsk(on=False, reason="r"))


def test_a_function_is_woken_and_a_second_time_after_a_lost_answer(world: World) -> None:
    for _ in range(2):
        commands.tick(world.ports, asked(), "plan")
    assert len(world.records("_system")) == 1
    assert [message.topic for message in world.bus.pending() if message.topic == "snapkeep-plan"] == [
        "snapkeep-plan"
    ] * 2


# --- the fleet file -----------------------------------------------------------------------------------------------


def entry(**changes: Any) -> dict[str, Any]:
    policy = {"keep_last": 0, "keep_daily": 7, "keep_weekly": 0, "keep_monthly": 0, "lock_days": 0}
    fields = {
        "id": "acme",
        "name": "Acme",
        "project": "acme-prod",
        "instances": [{"name": "acme-app", "zone": "southamerica-east1-a"}],
        "retention": policy,
    }
    return fields | changes


def test_a_policy_that_lets_points_go_is_stored_only_for_exactly_as_many(world: World) -> None:
    put_stored(world, "acme", 20)  # locked for a week more, which only puts their end off
    less = entry(retention=entry()["retention"] | {"keep_daily": 2})
    told = commands.apply_tenant(world.ports, asked("dry"), "acme", ApplyAsk(entry=less, dry_run=True))
    assert (told.deletions, [one.text for one in told.changes]) == (5, ["acme: retention.keep_daily: 7 -> 2"])
    for number, accepted in enumerate((0, 4, 6)):
        with pytest.raises(Clash, match=f"gives up 5 points, and {accepted} are accepted"):
            commands.apply_tenant(
                world.ports, asked(f"w{number}"), "acme", ApplyAsk(entry=less, accept_deletions=accepted)
            )
    assert the(world).retention.keep_daily == 7
    commands.apply_tenant(world.ports, asked("a"), "acme", ApplyAsk(entry=less, accept_deletions=5))
    assert the(world).retention.keep_daily == 2
    assert world.records()[-1]["detail"]["deletions"] == 5


def test_a_policy_that_keeps_more_needs_no_number_and_one_that_is_given_is_wrong(world: World) -> None:
    put_stored(world, "acme", 20, lock_until=None)
    more = entry(retention=entry()["retention"] | {"keep_daily": 9})
    with pytest.raises(Clash, match="gives up 0 points, and 3 are accepted"):
        commands.apply_tenant(world.ports, asked("w"), "acme", ApplyAsk(entry=more, accept_deletions=3))
    assert commands.apply_tenant(world.ports, asked("a"), "acme", ApplyAsk(entry=more)).deletions == 0
    assert the(world).retention.keep_daily == 9


APP = {"name": "acme-app", "zone": "southamerica-east1-a"}


@pytest.mark.parametrize(
    ("edit", "deletions"),
    [
        ({"instances": [APP, {"name": "acme-new", "zone": "southamerica-east1-a"}]}, 0),
        ({"name": "Acme & Sons"}, 0),
        ({"instances": [APP | {"name": "acme-pap"}]}, 20),
        ({"instances": [APP | {"zone": "southamerica-east1-b"}]}, 20),
        ({"instances": [{"label": "app=acme"}]}, 20),
        ({"project": "acme-porod"}, 20),
        ({"instances": [APP | {"name": "acme-pap"}], "retention": {"keep_last": 1000, "lock_days": 0}}, 20),
    ],
    ids=str,
)
def test_an_edit_that_ends_an_instances_protection_gives_up_all_its_points(
    world: World, edit: dict[str, Any], deletions: int
) -> None:
    put_stored(world, "acme", 20)
    ask = ApplyAsk(entry=entry(**edit))
    told = commands.apply_tenant(world.ports, asked("dry"), "acme", replace(ask, dry_run=True))
    assert told.deletions == deletions
    assert told.deselected == (["acme-app in southamerica-east1-a"] if deletions else [])
    if deletions:
        with pytest.raises(Clash, match="gives up 20 points, and 0 are accepted"):
            commands.apply_tenant(world.ports, asked("w"), "acme", ask)
    commands.apply_tenant(world.ports, asked("a"), "acme", replace(ask, accept_deletions=deletions))
    assert world.records()[-1]["detail"]["deselected"] == told.deselected


def test_the_same_label_selects_the_same_instances_and_another_one_may_select_none(world: World) -> None:
    by_label = d.Selected(by_label=d.ByLabel(label="app=acme"))
    world.put(("tenants/acme", replace(the(world), instances=by_label)))
    put_stored(world, "acme", 4)
    same = commands.apply_tenant(
        world.ports, asked(), "acme", ApplyAsk(entry=entry(name="A", instances=[{"label": "app=acme"}]), dry_run=True)
    )
    other = commands.apply_tenant(
        world.ports, asked(), "acme", ApplyAsk(entry=entry(instances=[{"label": "app=acem"}]), dry_run=True)
    )
    assert (same.deletions, other.deletions) == (0, 4)


def bought_entry(days: int = 7, **changes: Any) -> dict[str, Any]:
    policy = {"keep_daily": days, "keep_weekly": 0, "lock_days": 7}
    add_on = {"region": US, "valid_until": "2027-12-31", "retention": policy} | changes
    return entry(entitlements={"inter_region_backup": add_on})


@pytest.fixture
def copied(world: World) -> World:
    """Acme has bought copies for a week of days, and has a copy of each of its eight points."""
    commands.apply_tenant(world.ports, asked("buy"), "acme", ApplyAsk(entry=bought_entry()))
    put_stored(world, "acme", 8)
    for one in world.points():
        disks = [d.CopyDisk(id=disk.id, name=disk.name, snapshot=disk.snapshot) for disk in one.disks]
        copies = {US: copy_of("verified", disks=disks, verified_at=one.verified_at, lock_until=one.lock_until)}
        world.put((f"tenants/acme/points/{one.id}", replace(one, copies=copies)))
    return world


@pytest.mark.parametrize(
    ("edited", "given_up"),
    [
        (bought_entry(valid_until="2028-12-31"), 0),
        (bought_entry(valid_until="2026-11-02"), 0),
        (bought_entry(days=9), 0),
        (bought_entry(days=5), 2),
        (bought_entry(valid_until="2026-10-29"), 7),
        (bought_entry(region="us-west1"), 7),
        (entry(), 7),
    ],
    ids=["longer", "shorter, and to come", "keeps more", "keeps less", "over", "another region", "no more"],
)
def test_an_edit_gives_up_the_copies_that_are_not_kept_or_not_bought_then(
    copied: World, edited: dict[str, Any], given_up: int
) -> None:
    ask = ApplyAsk(entry=edited, dry_run=True)
    told = commands.apply_tenant(copied.ports, asked("dry"), "acme", ask)
    assert (told.deletions, told.copies, [one.copy for one in told.gives_up]) == (given_up, given_up, [US] * given_up)
    if given_up:
        with pytest.raises(Clash, match=f"gives up {given_up} copies, and 0 are accepted"):
            commands.apply_tenant(copied.ports, asked("w"), "acme", ApplyAsk(entry=edited))
    commands.apply_tenant(copied.ports, asked("a"), "acme", ApplyAsk(entry=edited, accept_deletions=given_up))
    assert copied.records()[-1]["detail"]["copies"] == given_up


def test_an_instance_that_is_deselected_gives_up_its_copies_with_its_points(copied: World) -> None:
    elsewhere = bought_entry() | {"instances": [APP | {"name": "acme-pap"}]}
    told = commands.apply_tenant(copied.ports, asked("dry"), "acme", ApplyAsk(entry=elsewhere, dry_run=True))
    assert (told.deletions, told.copies) == (16, 8)
    with pytest.raises(Clash, match="gives up 8 points and 8 copies, and 0 are accepted"):
        commands.apply_tenant(copied.ports, asked("w"), "acme", ApplyAsk(entry=elsewhere))


def test_copies_are_weighed_anew_when_what_they_follow_from_changes(world: World) -> None:
    key = "projects/acme-kms/locations/us-east1/keyRings/r/cryptoKeys/k"
    due = []
    for number, edited in enumerate(
        (entry(name="A"), bought_entry() | {"name": "A"}, bought_entry() | {"name": "B"},
         bought_entry() | {"name": "B", "kms_keys": {US: key}})
    ):  # fmt: skip
        world.clock.move(hours=1)
        commands.apply_tenant(world.ports, asked(f"a{number}"), "acme", ApplyAsk(entry=edited))
        due.append(the(world).entitlements_at == world.clock.now())
    assert Nudge(tenants=["acme"]) in [parse(body) for body in sent(world, "snapkeep-entitlements")]
    assert due == [False, True, False, True]


def test_copies_are_weighed_anew_when_their_tenant_leaves_or_stays(copied: World) -> None:
    for key, day in (("a", "2026-12-01"), ("b", None)):
        copied.clock.move(hours=1)
        commands.offboard(copied.ports, asked(key), "acme", OffboardAsk(day=day, reason="r"))
        assert the(copied).entitlements_at == copied.clock.now()
        assert Nudge(tenants=["acme"]) in [parse(body) for body in sent(copied, "snapkeep-entitlements")]
        copied.lose_messages()


def test_a_file_that_asks_for_restore_tests_has_the_first_within_a_day_and_one_that_no_longer_does_none(
    world: World,
) -> None:
    asks = entry(restore_test={"every_days": 30, "network": "projects/acme-prod/global/networks/closed"})
    commands.apply_tenant(world.ports, asked("a"), "acme", ApplyAsk(entry=asks))
    first = the(world).restore_test_at
    assert first is not None
    assert world.clock.now() <= first <= world.clock.now() + timedelta(days=1)
    world.clock.move(hours=1)
    commands.apply_tenant(world.ports, asked("b"), "acme", ApplyAsk(entry=asks | {"name": "Acme & Sons"}))
    assert the(world).restore_test_at == first
    commands.apply_tenant(world.ports, asked("c"), "acme", ApplyAsk(entry=entry()))
    assert the(world).restore_test_at is None


def test_applying_the_same_file_again_dates_tests_that_nobody_has_dated(world: World) -> None:
    asks = entry(restore_test={"every_days": 30, "network": "projects/acme-prod/global/networks/closed"})
    commands.apply_tenant(world.ports, asked("a"), "acme", ApplyAsk(entry=asks))
    first = the(world).restore_test_at
    world.put(("tenants/acme", replace(the(world), restore_test_at=None)))
    records = world.records()
    assert commands.apply_tenant(world.ports, asked("b"), "acme", ApplyAsk(entry=asks)).changes == []
    assert the(world).restore_test_at == first
    assert world.records() == records


def test_an_instance_that_is_lost_already_is_not_given_up_once_more(world: World) -> None:
    put_stored(world, "acme", 20)
    lost = replace(machine(world), lost_at=world.clock.now(), lost_reason="gone")
    world.put((f"tenants/acme/instances/{lost.id}", lost))
    ask = ApplyAsk(entry=entry(instances=[APP | {"name": "acme-app-2"}]))
    assert commands.apply_tenant(world.ports, asked(), "acme", ask).deletions == 0


def test_an_edit_for_which_too_many_points_would_be_read_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_stored(world, "acme", 20)
    less = ApplyAsk(entry=entry(retention=entry()["retention"] | {"keep_daily": 2}), dry_run=True)
    # As many points as the real bound has would take a minute.
    monkeypatch.setattr(commands, "POINTS_READ_MAX", 20)
    assert commands.apply_tenant(world.ports, asked("a"), "acme", less).deletions == 5
    monkeypatch.setattr(commands, "POINTS_READ_MAX", 19)
    with pytest.raises(Clash, match="more than 19 stored points would have to be weighed"):
        commands.apply_tenant(world.ports, asked("b"), "acme", less)


def test_points_are_counted_once_however_often_others_are_faster(world: World) -> None:
    put_stored(world, "acme", 20)

    def changes() -> None:
        world.put(("tenants/acme", replace(the(world), unmatched=["ghost"])))

    between = Between(world, changes)
    world.documents = between
    less = ApplyAsk(entry=entry(retention=entry()["retention"] | {"keep_daily": 2}), accept_deletions=5)
    commands.apply_tenant(world.ports, asked("a"), "acme", less)
    assert between.found.count("tenants/acme/points") == 1
    assert (the(world).retention.keep_daily, the(world).unmatched) == (2, ["ghost"])


def test_another_time_zone_counts_too(world: World) -> None:
    put_stored(world, "acme", 20, lock_until=None)
    told = commands.apply_tenant(
        world.ports, asked(), "acme", ApplyAsk(entry=entry(timezone="Asia/Tokyo"), dry_run=True)
    )
    assert [one.field for one in told.changes] == ["timezone"]
    assert told.deletions == 0  # a point a day is a point a day there


def test_a_new_tenant_is_stored_and_discovered_at_once(world: World) -> None:
    ask = ApplyAsk(entry=entry(id="beta", instances=[{"label": "t=b"}]), file="fleet.yaml")
    answer = commands.apply_tenant(world.ports, asked(), "beta", ask)
    assert [one.text for one in answer.changes] == ["beta: new"]
    assert (the(world, "beta").applied_by, the(world, "beta").discover_at) == (ANNA, world.clock.now())
    again = commands.apply_tenant(world.ports, asked("b"), "beta", ask)
    assert (again.changes, len(world.records("beta"))) == ([], 1)


def test_every_mistake_of_an_entry_is_said_one_a_line(world: World) -> None:
    wrong = entry(rpo_hours=0, timezone="Mars/Base", nonsense=1)
    with pytest.raises(Wrong) as said:
        commands.apply_tenant(world.ports, asked(), "acme", ApplyAsk(entry=wrong, file="fleet.yaml"))
    lines = str(said.value).splitlines()
    assert len(lines) == 3
    assert all(line.startswith("fleet.yaml: tenants[0].") for line in lines)


def test_an_entry_of_another_tenant_is_refused(world: World) -> None:
    with pytest.raises(Wrong, match="'beta' is not the tenant 'acme'"):
        commands.apply_tenant(world.ports, asked(), "acme", ApplyAsk(entry=entry(id="beta")))

"""What people may do with restores: one commit each, once for one key, and nothing that another had to allow."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace as changed
from datetime import timedelta
from typing import Any, Final

import pytest
from flask.testing import FlaskClient
from msgspec.structs import replace
from tests.makers import INSTANCE_ID, THEN, ZONE, World, instance, tenant
from tests.restore.restores import former, restore, undoable
from tests.restore.test_planning import BOUGHT, DR, LACKING, RECOVERY, verified
from tests.web.people import client_of, put_people

from snapkeep import documents as d
from snapkeep.commands import Asked, Clash, NoTenant, Wrong
from snapkeep.ports import Doc, Query, Write
from snapkeep.restore import claims, commands, rules
from snapkeep.restore.commands import ApprovalAsk, CancelAsk, RestoreAnswer, UndoAsk
from snapkeep.restore.planning import RestoreAsk

ANA: Final = "ana@vendor.example"
OTTO: Final = "otto@vendor.example"
NEW: Final[dict[str, Any]] = {"mode": "new_instance", "name": "acme-pam-9", "waive_all": True}
IN_PLACE: Final[dict[str, Any]] = {"mode": "in_place", "waive_all": True}
CLAIMED: Final = f"projects/acme-prod/zones/{ZONE}/instances/acme-pam-1"


@pytest.fixture
def world() -> World:
    return world_of()


def world_of(**changes: Any) -> World:
    one = World(THEN + timedelta(days=1))
    put_people(one, anna="acme")
    one.put(
        ("tenants/acme", tenant(**changes)),
        (f"tenants/acme/instances/{INSTANCE_ID}", instance()),
        (f"tenants/acme/points/{verified().id}", verified()),
    )
    return one


def by(who: str, key: str = "key-1") -> Asked:
    return Asked(by=who, key=key, sha256=f"{who}|{key}")


def ask(world: World, who: str = OTTO, key: str = "key-1", **said: Any) -> RestoreAnswer:
    return commands.request(world.ports, by(who, key), "acme", RestoreAsk(point=verified().id, reason="r", **said))


def asked_id(answer: RestoreAnswer) -> str:
    assert answer.restore is not None
    return answer.restore


def stored(world: World, answer: RestoreAnswer) -> d.Restore:
    return world.read(d.Restore, f"tenants/acme/restores/{answer.restore}")


def claim(world: World, link: str = CLAIMED) -> d.RestoreClaim:
    return world.read(d.RestoreClaim, f"tenants/acme/restore_claims/{rules.claim_id(link)}")


def published(world: World, topic: str) -> list[Any]:
    waiting = [message.body for message in world.bus.pending(topic)]
    return [json.loads(body) for body in [*world.bus.outbox(topic), *waiting]]


# --- asking -------------------------------------------------------------------------------------------------------


def test_a_request_is_one_commit_of_the_restore_its_hold_its_claim_and_its_record(world: World) -> None:
    answer = ask(world, **IN_PLACE)
    one = stored(world, answer)
    assert (one.state, one.requested_by, one.needs_approval) == ("requested", OTTO, True)
    (hold,) = world.the_point().holds
    assert (hold.id, hold.by) == (f"restore-{one.id}", "snapkeep")
    assert hold.until == world.clock.now() + timedelta(hours=48)
    assert world.the_point().held
    assert claim(world) == d.RestoreClaim(updated_at=world.clock.now(), instance=CLAIMED, restore=one.id)
    (record,) = world.records()
    assert (record["action"], record["actor"], record["subject"]) == ("restore.requested", OTTO, f"restores/{one.id}")
    assert record["detail"]["request_sha256"] == one.request_sha256 == answer.request_sha256


def test_a_restore_that_needs_nobody_is_handed_on_at_once_and_one_that_does_is_not(world: World) -> None:
    ask(world, key="a", **IN_PLACE)
    assert published(world, "snapkeep-restore") == []
    answer = ask(world, key="b", **NEW)
    (message,) = published(world, "snapkeep-restore")
    assert message["restores"] == [{"tenant": "acme", "restore": answer.restore}]


def test_a_dry_run_says_all_of_it_and_changes_nothing(world: World) -> None:
    before = world.memory.dump()
    answer = ask(world, mode="new_instance", name="n", dry_run=True)
    assert world.memory.dump() == before
    assert (answer.restore, answer.request_sha256, answer.dry_run) == (None, None, True)
    assert answer.plan.unhandled == LACKING
    assert (answer.plan.size_gb, answer.plan.steps[0], answer.plan.approvers) == (600, "survey", [])
    assert any("2 disks of 600 GB" in line for line in answer.plan.lines)


def test_what_is_lacking_and_not_spoken_of_refuses_the_request_by_name(world: World) -> None:
    before = world.memory.dump()
    with pytest.raises(Wrong, match=r"nothing is said of 'disk scratch \(local SSD\)', 'metadata startup-script'"):
        ask(world, mode="new_instance", name="n")
    assert world.memory.dump() == before


def test_what_was_supplied_is_kept_apart_and_stands_in_no_answer_and_no_record(world: World) -> None:
    answer = ask(world, **NEW, supply={LACKING[1]: "s3cret"})
    kept = world.read(d.Supplied, f"tenants/acme/supplied/{answer.restore}")
    assert kept.values == {LACKING[1]: "s3cret"}
    for path, data in world.memory.dump().items():
        assert path.startswith("tenants/acme/supplied/") or "s3cret" not in repr(data), path


def test_the_same_key_asks_once_and_is_answered_alike(world: World) -> None:
    first = ask(world, **NEW)
    before = world.memory.dump()
    world.clock.move(minutes=5)
    assert ask(world, **NEW) == first
    assert world.memory.dump() == before
    with pytest.raises(Clash, match="Idempotency-Key: used before"):
        commands.request(
            world.ports, Asked(by=OTTO, key="key-1", sha256="another"), "acme",
            RestoreAsk(point=verified().id, reason="r", mode="disks"),
        )  # fmt: skip


def test_two_restores_into_one_instance_are_one_at_a_time(world: World) -> None:
    first = ask(world, **IN_PLACE)
    with pytest.raises(Clash, match=f"{CLAIMED} has a restore already, {first.restore}: one at a time"):
        ask(world, key="key-2", **IN_PLACE)
    ask(world, key="key-3", **NEW)  # another instance
    with pytest.raises(Clash, match="instances/acme-pam-9 has a restore already"):
        ask(world, key="key-4", **NEW)


def test_two_at_once_end_as_one(world: World) -> None:
    ports = Between(world, lambda: ask(world, key="key-2", **IN_PLACE)).ports
    said = RestoreAsk(point=verified().id, reason="r", **IN_PLACE)
    with pytest.raises(Clash, match="has a restore already"):
        commands.request(ports, by(ANA), "acme", said)
    assert len(world.all(d.Restore, "restores")) == 1


def test_a_point_in_its_grace_is_called_back_by_the_request(world: World) -> None:
    expiry = d.Expiry(was="verified", reason="r", decided_at=THEN, delete_after=THEN)
    path = f"tenants/acme/points/{verified().id}"
    world.put((path, verified(state="expiring", expiry=expiry)))
    ask(world, mode="disks")
    assert (world.the_point().state, world.the_point().expiry) == ("verified", None)
    world.put((path, verified(state="expiring", expiry=replace(expiry, begun_at=THEN))))
    with pytest.raises(Clash, match="is expiring: only what is verified is restored"):
        ask(world, key="key-2", mode="disks")


def test_a_restore_in_the_copys_region_holds_the_copy_and_not_the_point() -> None:
    world = world_of(entitlements=BOUGHT, recovery=RECOVERY)
    answer = ask(world, **NEW, region=DR)
    point = world.the_point()
    assert (point.holds, [hold.id for hold in point.copies[DR].holds]) == ([], [f"restore-{answer.restore}"])
    commands.cancel(world.ports, by(OTTO, "c"), "acme", asked_id(answer), CancelAsk(reason="r"))
    assert world.the_point() == replace(verified(), updated_at=world.clock.now())


def test_what_is_not_there_is_said(world: World) -> None:
    with pytest.raises(NoTenant):
        commands.request(world.ports, by(OTTO), "nobody", RestoreAsk(point=verified().id, reason="r", mode="disks"))
    said = RestoreAsk(point="20261101-o-x-00000000", reason="r", mode="disks")
    with pytest.raises(Wrong, match="has no point '20261101-o-x-00000000'"):
        commands.request(world.ports, by(OTTO), "acme", said)
    with pytest.raises(Wrong, match="has no restore"):
        commands.cancel(world.ports, by(OTTO), "acme", "20261101-p-x-00000000", CancelAsk(reason="r"))


def test_a_plan_says_that_restores_are_paused(world: World) -> None:
    paused = d.PausedKinds(restore=d.Paused(tenants=["acme"]))
    world.put(("system/controls", d.Controls(updated_at=THEN, paused=paused)))
    assert "restores are paused" in ask(world, mode="disks", dry_run=True).plan.lines[-1]


# --- approving ----------------------------------------------------------------------------------------------------


def approve(world: World, answer: RestoreAnswer, who: str = ANA, key: str = "ok", sha256: str | None = None) -> str:
    said = ApprovalAsk(request_sha256=sha256 or answer.request_sha256 or "")
    return commands.approve(world.ports, by(who, key), "acme", asked_id(answer), said).state


def test_another_person_approves_by_the_hash_and_it_begins(world: World) -> None:
    answer = ask(world, **IN_PLACE)
    world.clock.move(hours=1)
    assert approve(world, answer) == "approved"
    one = stored(world, answer)
    assert (one.approved_by, one.approved_at, one.next_at) == (ANA, world.clock.now(), world.clock.now())
    assert one.start_by == world.clock.now() + timedelta(hours=4)
    assert [record["action"] for record in world.records()] == ["restore.requested", "restore.approved"]
    assert len(published(world, "snapkeep-restore")) == 1


def test_an_approval_counts_once_and_the_same_key_says_the_same(world: World) -> None:
    answer = ask(world, **IN_PLACE)
    approve(world, answer)
    before = world.memory.dump()
    assert approve(world, answer) == "approved"
    with pytest.raises(Clash, match=f"was approved already, by {ANA}: an approval is used once"):
        approve(world, answer, key="again")
    assert world.memory.dump() == before


@pytest.mark.parametrize(
    ("said", "hours", "why"),
    [
        ({"sha256": "f" * 64}, 1, "request_sha256: not that of"),
        ({"who": OTTO}, 1, "nobody approves his own request"),
        ({}, 4, "had to be approved by 2026-11-02 04:00Z: ask for it again"),
    ],
)
def test_an_approval_of_something_else_of_ones_own_or_too_late_is_refused(
    world: World, said: dict[str, str], hours: int, why: str
) -> None:
    answer = ask(world, **IN_PLACE)
    world.clock.move(hours=hours)
    before = world.memory.dump()
    with pytest.raises(Clash, match=why):
        approve(world, answer, **said)
    assert world.memory.dump() == before


def test_an_approval_for_another_request_of_the_same_words_is_refused(world: World) -> None:
    first = ask(world, **IN_PLACE)
    commands.cancel(world.ports, by(OTTO, "c"), "acme", asked_id(first), CancelAsk(reason="r"))
    second = ask(world, key="key-2", **IN_PLACE)
    with pytest.raises(Clash, match="not that of"):
        approve(world, second, sha256=first.request_sha256)


def test_what_needs_no_approval_takes_none(world: World) -> None:
    with pytest.raises(Clash, match="needs no approval"):
        approve(world, ask(world, **NEW))


def test_what_has_ended_is_not_approved(world: World) -> None:
    answer = ask(world, **IN_PLACE)
    commands.cancel(world.ports, by(OTTO, "c"), "acme", asked_id(answer), CancelAsk(reason="r"))
    with pytest.raises(Clash, match="is cancelled: ask for it again"):
        approve(world, answer)


def sent(client: FlaskClient, path: str, body: dict[str, Any], key: str = "k") -> Any:
    return client.post(f"/api/v1/tenants/acme{path}", json=body, headers={"Idempotency-Key": key})


def test_at_the_door_nobody_approves_his_own_and_the_refusals_are_written_down() -> None:
    world = world_of(deployment="private_saas")
    anna, admin = client_of(world.ports, "anna@acme.example"), client_of(world.ports)
    said = sent(anna, "/restores", {"point": verified().id, "mode": "disks", "reason": "r"}).json
    path, right = f"/restores/{said['restore']}/approval", {"request_sha256": said["request_sha256"]}
    own = sent(anna, path, right)
    assert (own.status_code, own.json["detail"]) == (403, "nobody approves his own request")
    assert sent(admin, path, {"request_sha256": "e" * 64}).status_code == 409
    assert sent(admin, path, right, "k2").json["state"] == "approved"
    assert sent(client_of(world.ports, "viewer@vendor.example"), path, right).status_code == 403
    assert sent(admin, "/restores/20261101-p-x-00000000/approval", right, "k3").status_code == 422
    refused = [r for r in world.records("_system") if r["action"] == "access.refused"]
    assert {r["actor"] for r in refused} == {"anna@acme.example", "viewer@vendor.example"}
    (against,) = [r for r in world.records() if r["action"] == "act.refused"]
    assert (against["actor"], against["subject"]) == ("admin@vendor.example", "access/restore.approve")


def test_a_client_admin_approves_what_the_vendor_asked_for_of_his_own_tenant_alone() -> None:
    world = world_of(deployment="private_saas")
    world.put(("principals/bob@beta.example", d.Principal(updated_at=THEN, role="client_admin", tenant="beta")))
    said = sent(client_of(world.ports), "/restores", {"point": verified().id, "mode": "disks", "reason": "r"}).json
    path, right = f"/restores/{said['restore']}/approval", {"request_sha256": said["request_sha256"]}
    assert sent(client_of(world.ports, "bob@beta.example"), path, right).status_code == 404
    assert sent(client_of(world.ports, "anna@acme.example"), path, right).json["state"] == "approved"


# --- ending one ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ask_for", [IN_PLACE, {**NEW, "supply": {LACKING[1]: "s3cret"}}])
def test_what_has_not_begun_ends_at_once_and_gives_all_back(world: World, ask_for: dict[str, Any]) -> None:
    answer = ask(world, **ask_for)
    said = commands.cancel(world.ports, by(ANA, "c"), "acme", asked_id(answer), CancelAsk(reason="not needed"))
    one = stored(world, answer)
    assert (said.state, said.abandoned) == ("cancelled", False)
    assert (one.state, one.next_at, one.finished_at) == ("cancelled", None, world.clock.now())
    assert one.failure == d.Failure(code="cancelled", message=f"{ANA}: not needed")
    assert (world.the_point().holds, world.the_point().held) == ([], False)
    assert [c.restore for c in world.all(d.RestoreClaim, "restore_claims")] == [None]
    assert all(kept.values == {} for kept in world.all(d.Supplied, "supplied"))
    assert world.records()[-1]["action"] == "restore.cancelled"
    assert {step.state for one in world.all(d.Restore, "restores") for step in one.steps} == {"skipped"}
    ask(world, key="key-2", **ask_for)  # the next one takes the claim


def test_a_test_that_has_not_begun_is_told_as_not_carried_out_and_another_is_tried_tomorrow(world: World) -> None:
    one = restore(purpose="test", mode="new_instance", state="approved")
    world.put((f"tenants/acme/restores/{one.id}", one))
    owner = world.read(d.Tenant, "tenants/acme")
    tested = d.RestoreTest(network="projects/acme-prod/global/networks/isolated")
    asks = replace(owner, restore_test=tested, restore_testing=one.id, restore_test_at=THEN + timedelta(days=4))
    world.put(("tenants/acme", asks))
    commands.cancel(world.ports, by(ANA, "c"), "acme", one.id, CancelAsk(reason="not today"))
    after = world.read(d.Tenant, "tenants/acme")
    assert (after.restore_testing, after.restore_test_at) == (None, world.clock.now() + timedelta(days=1))
    event = [record for record in world.records() if record["action"] == "restore.cancelled"]
    assert len(event) == 1
    told = [held.event for held in world.all(d.InboxRecord, "inbox") if held.event]
    assert [(said["type"], said["data"]["carried_out"]) for said in told] == [("restore_test.failed", False)]


def test_what_runs_is_given_up_and_handed_on_to_be_taken_back(world: World) -> None:
    answer = ask(world, **IN_PLACE)
    one = stored(world, answer)
    steps = [replace(one.steps[0], state="done", at=THEN), *one.steps[1:]]
    world.put((f"tenants/acme/restores/{one.id}", replace(one, state="running", started_at=THEN, steps=steps)))
    said = commands.cancel(world.ports, by(ANA, "c"), "acme", one.id, CancelAsk(reason="wrong one", dry_run=True))
    assert (said.abandoned, stored(world, answer).abandoned) == (True, None)
    commands.cancel(world.ports, by(ANA, "c"), "acme", one.id, CancelAsk(reason="wrong one"))
    after = stored(world, answer)
    assert after.abandoned is not None
    assert (after.state, after.abandoned.ends_as, after.abandoned.by) == ("running", "cancelled", ANA)
    assert world.the_point().held  # until what it did is taken back
    assert len(published(world, "snapkeep-restore")) == 1
    with pytest.raises(Clash, match="was given up already"):
        commands.cancel(world.ports, by(ANA, "d"), "acme", one.id, CancelAsk(reason="r"))


@pytest.mark.parametrize("state", ["completed", "failed", "cancelled"])
def test_what_has_ended_is_not_cancelled(world: World, state: d.RestoreState) -> None:
    one = restore(state=state)
    world.put((f"tenants/acme/restores/{one.id}", one))
    with pytest.raises(Clash, match=f"is {state}: there is nothing to cancel"):
        commands.cancel(world.ports, by(ANA), "acme", one.id, CancelAsk(reason="r"))


def test_the_end_of_one_restore_leaves_what_others_hold(world: World) -> None:
    mine, other = ask(world, key="a", mode="disks"), ask(world, key="b", mode="disks")
    point = world.the_point()
    theirs = d.Hold(id="h-0123456789ab", reason="case", by=ANA, at=THEN)
    world.put((f"tenants/acme/points/{point.id}", replace(point, holds=[*point.holds, theirs])))
    commands.cancel(world.ports, by(ANA, "c"), "acme", asked_id(mine), CancelAsk(reason="r"))
    assert [hold.id for hold in world.the_point().holds] == [f"restore-{other.restore}", theirs.id]


def test_an_end_finds_nothing_to_give_back_where_the_point_has_gone(world: World) -> None:
    one = restore(recovery_point="20261101-o-gone-00000000")
    assert claims.released(world.store(), one, THEN) == []


# --- undoing one --------------------------------------------------------------------------------------------------


def put_done(world: World, **changes: Any) -> d.Restore:
    done = replace(undoable("20261101-p-acme-pam-1-00000002"), **changes)
    world.put((f"tenants/acme/restores/{done.id}", done))
    return done


def test_an_undo_is_a_restore_of_its_own_that_needs_a_second_person(world: World) -> None:
    done = put_done(world)
    answer = commands.undo(world.ports, by(OTTO), "acme", done.id, UndoAsk(reason="wrong point"))
    one = stored(world, answer)
    assert (one.source.undoes, one.state, one.disks) == (done.id, "requested", [])
    assert claim(world).restore == one.id
    assert approve(world, answer) == "approved"


def test_the_disks_that_an_undo_puts_back_are_kept_until_it_can_have_ended(world: World) -> None:
    late = world.clock.now() + timedelta(hours=1)
    done = put_done(world, keep_until=late, next_at=late)
    commands.undo(world.ports, by(OTTO), "acme", done.id, UndoAsk(reason="r"))
    after = world.read(d.Restore, f"tenants/acme/restores/{done.id}")
    assert after.keep_until == after.next_at == world.clock.now() + rules.HOLD_FOR


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"state": "running"}, "is running: only a completed restore is undone"),
        ({"keep_until": THEN}, "were kept until"),
        ({"former": [former(status="returned")]}, "was undone already"),
    ],
)
def test_what_cannot_be_undone_is_refused(world: World, changes: dict[str, Any], why: str) -> None:
    done = put_done(world, **changes)
    before = world.memory.dump()
    with pytest.raises(Clash, match=why):
        commands.undo(world.ports, by(OTTO), "acme", done.id, UndoAsk(reason="r"))
    assert world.memory.dump() == before


def test_an_undo_touches_no_instance_that_may_be_another_tenants_by_now(world: World) -> None:
    done = put_done(world)
    world.put((f"tenants/acme/instances/{INSTANCE_ID}", instance(lost_at=THEN, lost_reason="deselected")))
    with pytest.raises(Clash, match="is no longer acme's"):
        commands.undo(world.ports, by(OTTO), "acme", done.id, UndoAsk(reason="r"))


def test_a_dry_run_of_an_undo_changes_nothing(world: World) -> None:
    done = put_done(world)
    before = world.memory.dump()
    answer = commands.undo(world.ports, by(OTTO), "acme", done.id, UndoAsk(reason="r", dry_run=True))
    assert world.memory.dump() == before
    assert f"attached again: acme-pam-1-boot, as before {done.id}" in answer.plan.lines


# --- between two calls --------------------------------------------------------------------------------------------


class Between:
    """The world's documents, with something that happens just before the first commit."""

    def __init__(self, world: World, happens: Callable[[], object]) -> None:
        self._world = world
        self._happens: Callable[[], object] | None = happens

    @property
    def ports(self) -> Any:
        return changed(self._world.ports, documents=self)

    def get(self, *paths: str) -> list[Doc | None]:
        return self._world.memory.get(*paths)

    def find(self, query: Query) -> list[Doc]:
        return self._world.memory.find(query)

    def commit(self, *writes: Write) -> None:
        happens, self._happens = self._happens, None
        if happens is not None:
            happens()
        self._world.memory.commit(*writes)

"""Points from their request to their end, through the deployed entry points, whatever happens in between."""

import json
from collections.abc import Callable
from dataclasses import replace as changed
from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from tests.makers import (
    INSTANCE_ID,
    PROJECT,
    REGION,
    THEN,
    TICK,
    ZONE,
    World,
    attached,
    disk,
    instance,
    machine,
    snapshot,
    tenant,
)

from snapkeep import cloud
from snapkeep import documents as d
from snapkeep.creation import rules
from snapkeep.messages import CreateBatch, PointRef
from snapkeep.ports import Conflict, Doc, Documents, Query, Refused, Transient, Write

HOUR = timedelta(hours=1)
BOOT, DATA = disk(), disk(id="2", name="acme-pam-1-data")


def world(**of: Any) -> World:
    """A tenant with one machine of two disks, discovered."""
    one = World()
    one.set_up(machine(BOOT, DATA), of=tenant(timezone="UTC", **of), disks=(BOOT, DATA))
    one.lose_messages()
    return one


def due(**of: Any) -> World:
    """The same, at the instant at which its first slot comes."""
    one = world(**of)
    at = one.the_instance().next_slot_at
    assert at is not None
    one.clock.at = at
    return one


def request(**changes: Any) -> bytes:
    body = {
        "schema": 1,
        "type": "create.requested",
        "id": "r-1",
        "tenant": "acme",
        "claimed_actor": "ci@vendor.example",
        "reason": "before import",
        "data": {"instance": "acme-pam-1"},
    }
    return json.dumps(body | changes).encode()


def pause(one: World, **where: Any) -> None:
    kinds = d.PausedKinds(creation=d.Paused(**where))
    one.put(("system/controls", d.Controls(updated_at=one.clock.now(), paused=kinds)))


def finish(one: World) -> None:
    """The cloud finishes what was asked of it, and reconcile reads it."""
    one.clock.move(minutes=20)
    one.compute.finish_all()
    one.tick("reconcile")


class Between:
    """Documents with an event before each commit: another process that comes between reading and writing."""

    def __init__(self, inner: Documents, event: Callable[[tuple[Write, ...]], None]) -> None:
        self.inner = inner
        self.event = event

    def get(self, *paths: str) -> list[Doc | None]:
        return self.inner.get(*paths)

    def find(self, query: Query) -> list[Doc]:
        return self.inner.find(query)

    def commit(self, *writes: Write) -> None:
        self.event(writes)
        self.inner.commit(*writes)


def once(event: Callable[[], None]) -> Callable[[tuple[Write, ...]], None]:
    done: list[bool] = []

    def happen(writes: tuple[Write, ...]) -> None:
        if not done:
            done.append(True)
            event()

    return happen


def commits(one: World, event: Callable[[], None]) -> None:
    """Let this happen just before the next commit."""
    one.documents = Between(one.memory, once(event))


# --- the whole way ------------------------------------------------------------------------------------------------


def test_a_slot_becomes_a_verified_point() -> None:
    one = due()
    one.tick("plan")
    begun = one.the_point()
    assert begun.state == "creating"
    assert [change.location for change in one.compute.started] == [REGION, REGION]
    finish(one)
    ended = one.the_point()
    assert ended.state == "verified"
    assert ended.next_at is None
    assert [(s.snapshot.status, s.snapshot.location) for s in ended.disks] == [("READY", REGION)] * 2
    here = one.the_instance()
    assert here.newest_verified is not None
    assert here.newest_verified.point == ended.id
    assert (here.tally.running, here.tally.verified) == (0, 1)
    assert here.tally.days == {"2026-11-01": "verified"}
    assert sorted(one.outcomes()) == sorted((name, "succeeded") for name in one.intents())
    assert [event["type"] for event in one.events()].count("point.verified") == 1


def test_the_ticks_alone_bring_a_point_to_its_end_when_every_message_is_lost() -> None:
    one = due()
    one.hand("plan", b'{"schema":1,"type":"tick"}')
    one.lose_messages()
    for _ in range(10):
        one.clock.move(minutes=1)
        one.hand("reconcile", b'{"schema":1,"type":"tick"}')
        one.lose_messages()
    assert one.the_point().state == "creating"
    one.compute.finish_all()
    one.clock.move(minutes=15)
    one.hand("reconcile", b'{"schema":1,"type":"tick"}')
    assert one.the_point().state == "verified"


def test_a_point_is_read_with_one_list_call_and_looked_at_no_oftener_than_useful() -> None:
    one = due()
    one.tick("plan")
    one.compute.calls.clear()
    one.pass_time(timedelta(minutes=30))
    calls = one.compute.calls
    assert set(calls) == {f"find Snapshot {PROJECT}"}
    assert len(calls) <= 12


# --- plan ---------------------------------------------------------------------------------------------------------


def test_planning_twice_takes_one_point() -> None:
    one = due()
    one.tick("plan", "plan")
    assert len(one.points()) == 1
    assert len(one.compute.started) == 2


def test_two_planners_at_once_take_one_point() -> None:
    one = due()

    def other() -> None:
        one.documents = one.memory
        one.hand("plan", b'{"schema":1,"type":"tick"}')

    commits(one, other)
    one.hand("plan", b'{"schema":1,"type":"tick"}')
    one.documents = one.memory
    one.deliver()
    assert len(one.points()) == 1
    assert len(one.compute.started) == 2
    assert one.the_instance().tally.running == 1


def test_a_plan_whose_commit_was_written_and_reported_as_a_conflict_takes_one_point() -> None:
    one = due()

    class Lossy(Between):
        def commit(self, *writes: Write) -> None:
            self.inner.commit(*writes)
            one.documents = one.memory
            raise Conflict("our own retried commit")

    one.documents = Lossy(one.memory, lambda writes: None)
    one.hand("plan", b'{"schema":1,"type":"tick"}')
    one.lose_messages()
    assert len(one.points()) == 1
    assert one.the_instance().planned_day == "2026-11-01"
    one.pass_time(timedelta(minutes=3))
    assert one.the_point().state == "creating"


def test_a_slot_whose_point_exists_already_is_not_planned_again_for_ever() -> None:
    one = due()
    one.tick("plan")
    there = one.the_instance()
    forgotten = replace(there, planned_day=None, next_slot_at=one.clock.now())
    one.put((f"tenants/acme/instances/{INSTANCE_ID}", forgotten))
    one.tick("plan")
    assert len(one.points()) == 1
    here = one.the_instance()
    assert here.planned_day == "2026-11-01"
    assert here.next_slot_at is not None
    assert here.next_slot_at > one.clock.now()
    assert here.tally.running == 1


def test_an_instance_that_keeps_changing_is_left_to_the_next_tick() -> None:
    one = due()

    def touch(writes: tuple[Write, ...]) -> None:
        here = one.the_instance()
        one.put((f"tenants/acme/instances/{INSTANCE_ID}", replace(here, updated_at=here.updated_at + HOUR)))

    one.documents = Between(one.memory, touch)
    one.hand("plan", b'{"schema":1,"type":"tick"}')
    assert one.points() == []
    one.documents = one.memory
    one.tick("plan")
    assert len(one.points()) == 1


def test_days_of_silence_are_told_in_one_event_and_one_point_is_taken() -> None:
    one = due()
    one.clock.move(days=3)
    one.tick("plan")
    states = sorted((p.slot.day, p.state) for p in one.points() if p.slot)
    assert [state for _, state in states] == ["missed", "missed", "missed", "creating"]
    one.tick("audit")
    (event,) = [e for e in one.events() if e["type"] == "slot.missed"]
    assert event["data"]["days"] == [day for day, _ in states[:3]]
    assert one.the_instance().tally.missed == 3


def test_a_tenant_that_becomes_client_managed_is_not_planned() -> None:
    one = due()
    one.put(("tenants/acme", replace(tenant(timezone="UTC"), deployment="private_saas")))
    one.tick("plan")
    assert one.points() == []
    assert one.the_instance().next_slot_at is None


# --- on demand ----------------------------------------------------------------------------------------------------


def test_a_request_takes_one_point_however_often_it_arrives() -> None:
    one = world()
    for _ in range(3):
        one.hand("create", request())
        one.deliver()
        one.clock.move(hours=1)
    asked = one.the_point()
    assert asked.trigger == "on_demand"
    assert asked.requested_by == "claimed:ci@vendor.example"
    assert asked.reason == "before import"
    assert len(one.compute.started) == 2
    requested = [record for record in one.records() if record["action"] == "point.requested"]
    assert [record["actor"] for record in requested] == ["claimed:ci@vendor.example"]


def test_a_request_tells_health_that_a_point_runs_now() -> None:
    one = world()
    told: list[str] = []
    for _ in range(2):
        one.hand("create", request())
        told += [message.topic for message in one.bus.pending() if b"nudge" in message.body]
        one.lose_messages()
    assert told.count("snapkeep-health") == 1
    one.hand("create", request(id="r-2"))
    one.deliver()
    (here,) = [data for _, data in one.documents_in("health/") if data.get("running")]
    assert here["running"] == 2


def test_two_deliveries_of_one_request_at_once_take_one_point() -> None:
    one = world()

    def other() -> None:
        one.documents = one.memory
        one.hand("create", request())

    commits(one, other)
    one.hand("create", request())
    one.documents = one.memory
    one.deliver()
    assert len(one.points()) == 1
    assert len(one.compute.started) == 2
    assert one.the_instance().tally.running == 1


def test_a_requested_point_that_reconcile_has_found_first_is_left_to_it() -> None:
    """`create` may not read snapshots: who looks at what has begun is `reconcile`."""
    one = world()

    class Overtaken(Between):
        def commit(self, *writes: Write) -> None:
            self.inner.commit(*writes)
            self.event(writes)

    def other() -> None:
        one.documents = one.memory
        one.clock.move(minutes=5)
        one.hand("reconcile", TICK)
        assert one.the_point().state == "creating"

    one.documents = Overtaken(one.memory, once(other))
    one.hand("create", request())
    assert one.the_point().state == "creating"
    assert len(one.compute.started) == 2


def test_two_requests_for_one_instance_take_two_points() -> None:
    one = world()
    one.hand("create", request())
    one.hand("create", request(id="r-2"))
    assert len(one.points()) == 2
    finish(one)
    one.clock.move(minutes=2)
    one.tick("reconcile")  # both end in one run, and write the same instance
    assert [p.state for p in one.points()] == ["verified", "verified"]
    assert (one.the_instance().tally.running, one.the_instance().tally.verified) == (0, 2)


def test_the_same_request_id_of_another_tenant_is_another_request() -> None:
    one = world()
    other = tenant(id="beta", project="beta-prod", vault_project="beta-prod")
    far = disk(project="beta-prod")
    one.set_up(machine(far, id="5", project="beta-prod"), of=other, disks=(far,))
    one.hand("create", request())
    one.hand("create", request(tenant="beta"))
    assert len(one.points("acme")) == len(one.points("beta")) == 1


def test_an_instance_may_be_named_by_its_number() -> None:
    one = world()
    one.hand("create", request(data={"instance": INSTANCE_ID}))
    assert one.the_point().instance.name == "acme-pam-1"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tenant": "nobody"}, "tenant: 'nobody' is not a tenant"),
        ({"data": {"instance": "acme-pam-9"}}, "data.instance: 'acme' has no instance 'acme-pam-9'"),
        ({"data": {"instance": "acme-pam-1", "zone": "us-east1-b"}}, "has no instance 'acme-pam-1' in us-east1-b"),
    ],
)
def test_a_request_for_what_does_not_exist_is_rejected_with_the_reason(changes: dict[str, Any], says: str) -> None:
    one = world()
    one.hand("create", request(**changes))
    ((_, rejected),) = one.documents_in("rejected/")
    assert says in rejected["reason"]
    assert one.points() == []
    assert one.documents_in("tenants/acme/requests/") == []


def test_a_request_for_a_tenant_that_has_left_is_rejected() -> None:
    one = world()
    left = d.Offboarding(at=one.clock.now(), by="anna@vendor.example", reason="end of contract")
    one.put(("tenants/acme", replace(one.read(d.Tenant, "tenants/acme"), offboarding=left)))
    one.hand("create", request())
    ((_, rejected),) = one.documents_in("rejected/")
    assert "acme has left at" in rejected["reason"]
    assert one.points() == []


def test_a_request_that_was_rejected_can_be_sent_again_once_it_makes_sense() -> None:
    one = World()
    one.hand("create", request())
    assert len(one.documents_in("rejected/")) == 1
    one.set_up()
    one.hand("create", request())
    assert len(one.points()) == 1


def test_a_name_that_two_zones_share_must_come_with_its_zone() -> None:
    one = world()
    twin = replace(instance(), id="2", zone="southamerica-east1-b", next_slot_at=None)
    one.put(("tenants/acme/instances/2", twin))
    one.hand("create", request())
    ((_, rejected),) = one.documents_in("rejected/")
    assert rejected["reason"] == (
        "data.zone: missing; 'acme-pam-1' is in southamerica-east1-a, southamerica-east1-b: name one of them"
    )
    one.hand("create", request(data={"instance": "acme-pam-1", "zone": ZONE}))
    assert one.the_point().instance.zone == ZONE


def test_a_lost_instance_cannot_be_asked_for() -> None:
    one = world()
    one.put((f"tenants/acme/instances/{INSTANCE_ID}", replace(one.the_instance(), lost_at=THEN)))
    one.hand("create", request())
    assert one.points() == []
    assert len(one.documents_in("rejected/")) == 1


def test_a_batch_that_names_what_is_not_there_or_not_waiting_does_nothing() -> None:
    one = due()
    one.tick("plan")
    before = one.memory.dump()
    refs = [PointRef("nobody", "20261101-s-x-00000000"), PointRef("acme", one.the_point().id)]
    one.hand("create", CreateBatch(points=[*refs, *refs]))
    assert one.memory.dump() == before
    assert len(one.compute.started) == 2


def test_a_batch_that_names_a_point_twice_starts_it_once() -> None:
    one = due()
    one.hand("plan", b'{"schema":1,"type":"tick"}')
    ref = PointRef("acme", one.the_point().id)
    one.hand("create", CreateBatch(points=[ref, ref]))
    assert one.the_point().state == "creating"
    assert len(one.compute.started) == 2


# --- pause --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", [{"fleet": True}, {"projects": [PROJECT]}, {"tenants": ["acme"]}])
def test_nothing_starts_while_creation_is_paused_and_all_of_it_afterwards(where: dict[str, Any]) -> None:
    one = due()
    pause(one, **where)
    one.tick("plan")
    one.pass_time(15 * HOUR, every=timedelta(minutes=5))
    assert one.compute.started == []
    waiting = one.the_point()
    assert waiting.state == "requested"
    assert waiting.failure is not None
    assert waiting.failure.code == "paused"
    pause(one)
    one.pass_time(timedelta(minutes=20))
    assert one.the_point().state == "creating"
    finish(one)
    assert one.the_point().state == "verified"
    assert one.the_point().failure is None


@pytest.mark.parametrize("where", [{"projects": ["other"]}, {"tenants": ["beta"]}])
def test_a_pause_elsewhere_stops_nothing_here(where: dict[str, Any]) -> None:
    one = due()
    pause(one, **where)
    one.tick("plan")
    assert len(one.compute.started) == 2


def test_a_pause_of_deletion_does_not_stop_creation() -> None:
    one = due()
    kinds = d.PausedKinds(deletion=d.Paused(fleet=True))
    one.put(("system/controls", d.Controls(updated_at=THEN, paused=kinds)))
    one.tick("plan")
    assert len(one.compute.started) == 2


def test_a_slot_that_is_paused_away_is_missed_with_the_reason() -> None:
    one = due()
    pause(one, fleet=True)
    one.tick("plan")
    one.pass_time(21 * HOUR, every=timedelta(minutes=10))
    ended = one.the_point()
    assert ended.state == "missed"
    assert ended.failure is not None
    assert "creation is paused" in ended.failure.message
    one.tick("audit")
    assert [e["type"] for e in one.events()].count("slot.missed") == 1
    assert one.the_instance().tally.running == 0


RESTORE = "20261101-p-acme-pam-1-0badcafe"


def restoring(one: World, restore: str | None) -> None:
    """A restore takes the instance's disks in hand, or (None) has let go of them."""
    one.put((f"tenants/acme/instances/{INSTANCE_ID}", replace(one.the_instance(), restoring=restore)))


@pytest.mark.parametrize("trigger", ["scheduled", "on_demand"])
@pytest.mark.parametrize("disks", [(), (BOOT,), (BOOT, DATA)])
def test_no_point_is_begun_while_a_restore_has_the_disks_in_hand(trigger: str, disks: tuple[cloud.Disk, ...]) -> None:
    one = due()
    restoring(one, RESTORE)
    one.compute.add(machine(disks=tuple(attached(disk.link) for disk in disks), status="TERMINATED"))
    if trigger == "scheduled":
        one.tick("plan")
    else:
        one.hand("create", request())
    one.pass_time(HOUR)
    waiting = one.the_point()
    assert (waiting.state, waiting.trigger, waiting.disks) == ("requested", trigger, [])
    assert waiting.failure is not None
    assert (waiting.failure.code, RESTORE in waiting.failure.message) == ("restoring", True)
    assert one.compute.started == []
    restoring(one, None)
    one.compute.add(machine(BOOT, DATA))
    one.pass_time(timedelta(minutes=20))
    assert len(one.the_point().disks) == 2
    finish(one)
    assert one.the_point().state == "verified"


def test_a_restore_that_takes_the_disks_in_hand_while_they_are_read_leaves_the_point_unbegun() -> None:
    one = due()

    def takes(call: str) -> None:
        if call.startswith("find Instance"):
            restoring(one, RESTORE)

    one.compute.before = takes
    one.tick("plan")
    assert one.the_point().state == "requested"
    assert one.compute.started == []


def before_restore(one: World) -> d.Point:
    """The point of the state before a restore is requested."""
    point = rules.pre_restore_point(one.read(d.Tenant, "tenants/acme"), one.the_instance(), RESTORE, one.clock.now())
    one.put((f"tenants/acme/points/{point.id}", point))
    return point


def test_the_point_before_a_restore_is_taken_as_long_as_the_restore_leaves_the_disks_alone() -> None:
    one = world()
    before_restore(one)
    one.clock.move(minutes=3)
    one.tick("reconcile")
    finish(one)
    assert (one.the_point().state, one.the_point().trigger) == ("verified", "pre_restore")


def test_the_point_before_a_restore_that_was_not_begun_before_it_has_failed() -> None:
    one = world()
    before_restore(one)
    restoring(one, RESTORE)
    one.clock.move(minutes=3)
    one.tick("reconcile")
    ended = one.the_point()
    assert (ended.state, ended.failure and ended.failure.code, ended.next_at) == ("failed", "restoring", None)
    assert one.the_instance().newest_verified is None


def test_a_pause_lets_what_is_running_end_and_starts_no_second_attempt() -> None:
    one = due()
    one.tick("plan")
    pause(one, fleet=True)
    first, second = (change.name for change in one.compute.started)
    one.compute.finish(first)
    one.compute.finish(second, "FAILED")
    one.pass_time(timedelta(minutes=40))
    assert len(one.compute.started) == 2
    assert one.outcomes() == [(second, "failed")]
    pause(one)
    one.pass_time(timedelta(minutes=30))
    assert len(one.compute.started) == 3
    finish(one)
    assert one.the_point().state == "verified"
    assert sorted(name for name, _ in one.outcomes()) == sorted(one.intents())


# --- what Compute Engine answers ----------------------------------------------------------------------------------


def failing(one: World, call: str, *faults: Exception) -> list[Exception]:
    """Calls that begin so meet these faults, one each; returns those that are left."""
    left = list(faults)

    def meet(made: str) -> None:
        if made.startswith(call) and left:
            raise left.pop(0)

    one.compute.before = meet
    return left


def fleet_of(count: int) -> World:
    """A tenant with machines m0, m1, ... of one disk each, all of whose slots have come."""
    one = World()
    disks = tuple(disk(id=str(n), name=f"m{n}-boot") for n in range(count))
    machines = [machine(held, id=str(n), name=f"m{n}") for n, held in enumerate(disks)]
    owner = tenant(timezone="UTC", instances=d.Selected(by_label=d.ByLabel(label="tenant=acme")))
    one.set_up(*machines, of=owner, disks=disks)
    one.lose_messages()
    one.clock.at = max(i.next_slot_at for i in one.instances() if i.next_slot_at)
    return one


def test_a_used_up_quota_stops_the_project_and_what_is_left_continues_later() -> None:
    one = fleet_of(10)
    quota = Transient("quota", code=403, reason="rateLimitExceeded")
    starts: list[str] = []

    def meet(made: str) -> None:
        if made.startswith("start"):
            starts.append(made)
            if len(starts) > 3:
                raise quota

    one.compute.before = meet
    one.tick("plan")
    assert len(one.compute.started) == 3
    assert len(starts) == 4  # the fourth meets it, the others are not even tried
    assert {p.state for p in one.points()} == {"creating"}
    one.compute.before = lambda call: None
    one.pass_time(timedelta(minutes=20))
    assert len(one.compute.started) == 10
    finish(one)
    assert {p.state for p in one.points()} == {"verified"}


def test_one_projects_quota_does_not_stop_another_project() -> None:
    one = due()
    far = disk(project="beta-prod")
    other = tenant(id="beta", project="beta-prod", vault_project="beta-prod", timezone="UTC")
    one.set_up(machine(far, id="5", project="beta-prod"), of=other, disks=(far,))
    one.clock.move(days=1)

    def meet(made: str) -> None:
        if made.startswith("start") and "acme" in made and len(one.compute.started) < 1:
            raise Transient("quota", code=403, reason="rateLimitExceeded")

    one.compute.before = meet
    one.hand("create", request())
    one.compute.before = lambda call: None
    one.hand("create", request(tenant="beta"))
    assert {change.project for change in one.compute.started} == {"beta-prod"}


def test_a_used_up_quota_is_met_once_by_all_the_tenants_of_a_project() -> None:
    one = due()
    other = tenant(id="beta", vault_project="beta-vault", timezone="UTC")
    one.set_up(machine(BOOT, DATA), of=other, disks=(BOOT, DATA))
    one.lose_messages()
    one.clock.move(days=1)
    one.hand("plan", b'{"schema":1,"type":"tick"}')
    one.lose_messages()
    failing(one, "find", *[Transient("quota", code=403, reason="rateLimitExceeded")] * 9)
    one.compute.calls.clear()
    one.clock.move(minutes=3)
    one.tick("reconcile")
    assert one.compute.calls == [f"find Instance {PROJECT}"]
    one.compute.before = lambda call: None
    one.pass_time(timedelta(minutes=20))
    finish(one)
    assert all("verified" in {p.state for p in one.points(id)} for id in ("acme", "beta"))


def test_many_faults_in_a_row_end_the_starting_of_one_run() -> None:
    one = fleet_of(12)
    left = failing(one, "start", *[Transient("busy")] * 100)
    one.hand("plan", b'{"schema":1,"type":"tick"}')
    one.deliver()
    assert len(left) == 95
    one.compute.before = lambda call: None
    one.pass_time(timedelta(minutes=20))
    finish(one)
    assert {p.state for p in one.points()} == {"verified"}


def fleets_of_their_own(count: int) -> World:
    """Tenants with a project and a machine each, all of whose slots have come."""
    one = World()
    for number in range(count):
        id, project = f"t{number}", f"t{number}-prod"
        disks = tuple(disk(id=f"{number}{n}", name=f"d{n}", project=project) for n in range(6))
        owner = tenant(id=id, project=project, vault_project=project, timezone="UTC")
        one.set_up(machine(*disks, project=project, id=f"{number}"), of=owner, disks=disks)
    one.lose_messages()
    one.clock.move(hours=4)
    one.hand("plan", b'{"schema":1,"type":"tick"}')
    one.lose_messages()
    one.clock.move(minutes=3)
    return one


def test_a_project_in_which_nothing_can_be_started_takes_no_other_with_it() -> None:
    one = fleets_of_their_own(3)

    def meet(made: str) -> None:
        if made.startswith("start") and made.split()[1] in one.intents("t0"):
            raise Transient("busy")

    one.compute.before = meet
    for _ in range(30):
        one.clock.move(minutes=1)
        one.tick("reconcile")
    finish(one)
    assert [{p.state for p in one.points(id)} for id in ("t1", "t2")] == [{"verified"}, {"verified"}]
    assert {p.state for p in one.points("t0")} == {"creating"}


def test_when_nobody_answers_the_rest_is_left_as_it_is_and_comes_first_next_time() -> None:
    one = fleets_of_their_own(8)
    failing(one, "find", *[Transient("busy")] * 5)
    before = {id: one.points(id)[0] for id in (f"t{n}" for n in range(8))}
    one.tick("reconcile")
    untouched = [id for id, point in before.items() if one.points(id)[0] == point]
    assert len(untouched) == 3
    one.tick("reconcile")
    assert {id for id, point in before.items() if one.points(id)[0].state == "creating"} == set(untouched)


def test_a_start_that_took_effect_and_was_answered_with_an_error_is_adopted() -> None:
    one = due()

    def lose(made: str) -> None:
        raise Transient("timeout", code=504)

    one.compute.after = lose
    one.tick("plan")
    one.compute.after = lambda call: None
    one.pass_time(timedelta(minutes=10))
    assert len(one.compute.snapshots) == 2
    finish(one)
    assert one.the_point().state == "verified"
    assert sorted(one.outcomes()) == sorted((name, "succeeded") for name in one.intents())


def test_a_conflict_with_our_own_snapshot_is_adopted() -> None:
    one = due()
    one.compute._requests.clear()

    def forget(made: str) -> None:
        one.compute._requests.clear()  # Compute Engine remembers request ids for a while only
        raise Transient("timeout", code=504)

    one.compute.after = forget
    one.tick("plan")
    hidden = {s.link: one.compute.resources.pop(s.link) for s in one.compute.snapshots}

    def appear(made: str) -> None:
        if made.startswith("start"):  # they were there all the time: the list was read too early
            one.compute.resources.update(hidden)

    one.compute.before = appear
    one.compute.after = lambda call: None
    one.pass_time(timedelta(minutes=10))
    assert len(one.compute.started) == 2
    finish(one)
    assert one.the_point().state == "verified"


def test_a_name_that_a_stranger_took_is_left_alone_and_another_attempt_is_made() -> None:
    one = due()
    one.hand("plan", b'{"schema":1,"type":"tick"}')
    of = one.the_point()
    name = rules.snapshot_name("acme", of.id, "acme-pam-1", BOOT.name, BOOT.id, REGION, 1)
    strange = disk(id="666", name="strange")
    stranger = snapshot(
        id="666", name=name, source_disk=strange.link, source_disk_id=strange.id, created_at=one.clock.now()
    )
    one.compute.add(stranger)
    one.deliver()
    one.pass_time(timedelta(minutes=15))
    finish(one)
    ended = one.the_point()
    assert ended.state == "verified"
    assert one.compute.resources[stranger.link] == stranger
    assert [entry.attempts for entry in ended.disks] == [2, 1]
    assert (name, "failed") in one.outcomes()
    assert sorted(n for n, _ in one.outcomes()) == sorted(one.intents())


def test_a_start_that_is_refused_for_good_fails_the_point_once_the_rest_has_ended() -> None:
    one = due()
    failing(one, "start", Refused("bad disk", code=400, reason="invalid"))
    one.tick("plan")
    one.pass_time(timedelta(minutes=5))
    assert one.the_point().state == "creating"  # the other disk's snapshot still uploads
    finish(one)
    ended = one.the_point()
    assert ended.state == "failed"
    assert ended.failure is not None
    assert (ended.failure.code, ended.failure.message) == ("invalid", "bad disk")
    assert sorted(outcome for _, outcome in one.outcomes()) == ["failed", "succeeded"]
    assert sorted(name for name, _ in one.outcomes()) == sorted(one.intents())
    assert [e["type"] for e in one.events()].count("point.failed") == 1


def test_a_start_that_is_refused_for_now_is_tried_again_under_another_name() -> None:
    one = due()
    failing(one, "start", Refused("no permission", code=403, reason="forbidden"))
    one.tick("plan")
    one.pass_time(timedelta(minutes=5))
    assert len({change.name for change in one.compute.started}) == 2
    assert [entry.attempts for entry in one.the_point().disks] == [2, 1]
    finish(one)
    assert one.the_point().state == "verified"
    assert sorted(name for name, _ in one.outcomes()) == sorted(one.intents())


def test_a_late_refusal_does_not_fail_what_another_run_has_started() -> None:
    one = due()
    answers: list[str] = []

    def overtaken(made: str) -> None:
        # While this start is on its way, reconcile asks for the same; then this one is refused.
        if made.startswith("start") and not answers:
            answers.append(made)
            one.clock.move(minutes=3)
            one.hand("reconcile", b'{"schema":1,"type":"tick"}')
            raise Refused("no permission", code=403, reason="forbidden")

    one.compute.before = overtaken
    one.tick("plan")
    assert [entry.failure for entry in one.the_point().disks] == [None, None]
    finish(one)
    assert one.the_point().state == "verified"
    assert len(one.compute.snapshots) == 2


def test_a_project_that_cannot_be_read_postpones_its_points_until_their_time_is_over() -> None:
    one = due()
    failing(one, "find", *[Refused("forbidden", code=403, reason="forbidden")] * 10_000)
    one.tick("plan")
    one.pass_time(5 * HOUR)
    waiting = one.the_point()
    assert waiting.state == "requested"
    assert waiting.failure is not None
    assert waiting.failure.code == "forbidden"
    assert len(one.compute.calls) < 60
    one.pass_time(16 * HOUR, every=timedelta(minutes=5))
    assert one.the_point().state == "missed"


def test_a_vault_that_cannot_be_read_up_to_the_deadline_fails_its_point() -> None:
    one = due()
    one.tick("plan")
    one.compute.finish_all()
    failing(one, "find Snapshot", *[Transient("busy")] * 10_000)
    one.pass_time(11 * HOUR, every=timedelta(minutes=5))
    assert one.the_point().state == "creating"
    one.pass_time(2 * HOUR, every=timedelta(minutes=5))
    ended = one.the_point()
    assert ended.state == "failed"
    assert ended.failure is not None
    assert ended.failure.code == "deadline"
    assert sorted(one.outcomes()) == sorted((name, "failed") for name in one.intents())
    assert ended.next_at is None


def test_a_snapshot_that_someone_deletes_before_the_point_is_complete_is_made_again() -> None:
    one = due()
    one.tick("plan")
    first, _ = (change.name for change in one.compute.started)
    one.compute.finish(first)
    one.pass_time(timedelta(minutes=10))
    one.compute.finish(first, "")
    one.pass_time(timedelta(minutes=30))
    assert len(one.compute.started) == 3
    finish(one)
    ended = one.the_point()
    assert ended.state == "verified"
    live = {s.name: s for s in one.compute.snapshots}
    assert {entry.snapshot.name for entry in ended.disks} <= set(live)
    assert (first, "failed") in one.outcomes()


def upload(one: World, stuck: str, hours: int) -> None:
    """So many hours in which every snapshot is READY a minute after its start but this one."""
    for _ in range(hours * 60):
        one.clock.move(minutes=1)
        for made in one.compute.snapshots:
            if made.name != stuck:
                one.compute.finish(made.name)
        one.tick("reconcile")


def moments(one: World) -> list[datetime]:
    """When the snapshots of the only point were taken, as Compute Engine tells it."""
    held = {made.name: made.created_at for made in one.compute.snapshots}
    return [held[entry.snapshot.name] for entry in one.the_point().disks]


def test_a_disk_that_is_retaken_hours_later_takes_the_other_one_with_it() -> None:
    one = due()
    one.tick("plan")
    boot, data = (change.name for change in one.compute.started)
    upload(one, stuck=data, hours=5)
    assert one.the_point().state == "verified"
    assert max(moments(one)) - min(moments(one)) <= rules.SPREAD_MAX
    assert [entry.attempts for entry in one.the_point().disks] == [2, 2]
    newest = one.the_instance().newest_verified
    assert newest is not None
    assert newest.at == min(moments(one)) > one.clock.now() - HOUR
    assert len(one.compute.started) == len({change.name for change in one.compute.started}) == 4
    assert sorted(name for name, _ in one.outcomes()) == sorted(one.intents())
    assert {name for name, outcome in one.outcomes() if outcome == "failed"} == {boot, data}
    assert (one.the_instance().tally.running, one.the_instance().tally.verified) == (0, 1)


def test_a_long_outage_between_two_starts_leaves_no_point_of_two_moments() -> None:
    one = due()
    until = one.clock.now() + 3 * HOUR

    def meet(made: str) -> None:
        if made.startswith("start") and one.compute.started and one.clock.now() < until:
            raise Transient("busy")

    one.compute.before = meet
    one.tick("plan")
    assert len(one.compute.started) == 1
    upload(one, stuck="", hours=5)
    assert one.the_point().state == "verified"
    assert max(moments(one)) - min(moments(one)) <= rules.SPREAD_MAX
    assert [entry.attempts for entry in one.the_point().disks] == [2, 1]


def test_a_one_minute_snapshot_converges_to_a_look_after_one_minute() -> None:
    one = due()
    took: list[timedelta] = []
    for _ in range(40):
        at = one.the_instance().next_slot_at
        assert at is not None
        one.clock.at = at
        one.tick("plan")
        upload(one, stuck="", hours=1)
        newest = max(one.points(), key=lambda p: p.requested_at)
        assert newest.verified_at is not None
        took.append(newest.verified_at - at)
    assert took[0] > timedelta(minutes=10)
    assert max(took[-10:]) <= rules.LOOK_MIN + rules.LOOKS_TOGETHER


def test_a_snapshot_of_seven_minutes_is_looked_at_about_once_a_night() -> None:
    one = due()
    looks: list[int] = []
    for _ in range(40):
        at = one.the_instance().next_slot_at
        assert at is not None
        one.clock.at = at
        one.tick("plan")
        one.compute.calls.clear()
        one.clock.move(minutes=6)
        one.tick("reconcile")
        upload(one, stuck="", hours=1)
        looks.append(one.compute.calls.count(f"find Snapshot {PROJECT}"))
    assert {p.state for p in one.points()} == {"verified"}
    assert sum(looks) <= 1.5 * len(looks)


def test_a_snapshot_that_vanishes_while_its_operation_runs_verifies_nothing() -> None:
    one = due()
    one.tick("plan")
    first, second = (change.name for change in one.compute.started)
    (ready,) = [made for made in one.compute.snapshots if made.name == first]
    one.compute.add(changed(ready, status="READY"))
    one.pass_time(timedelta(minutes=10))
    del one.compute.resources[f"projects/{PROJECT}/global/snapshots/{first}"]
    one.compute.finish(second)
    one.pass_time(timedelta(minutes=30))
    assert one.the_point().state == "creating"


def test_an_instance_that_was_replaced_since_its_discovery_fails_its_point() -> None:
    one = due()
    one.compute.add(machine(BOOT, id="42"))
    one.tick("plan")
    ended = one.the_point()
    assert ended.state == "failed"
    assert ended.failure is not None
    assert ended.failure.code == "instance_replaced"
    assert one.compute.started == []
    assert one.the_instance().tally.failed == 1


def test_a_machine_of_the_same_name_in_another_zone_is_not_taken_for_ours() -> None:
    one = due()
    del one.compute.resources[machine().link]
    one.compute.add(machine(BOOT, zone="southamerica-east1-b"))
    one.tick("plan")
    ended = one.the_point()
    assert ended.failure is not None
    assert ended.failure.code == "instance_gone"


def test_a_local_ssd_is_left_out_and_named() -> None:
    one = due()
    one.compute.add(machine(disks=(attached(BOOT.link), attached("", device_name="scratch"))))
    one.tick("plan")
    assert len(one.compute.started) == 1
    assert one.the_point().definition["left_out"] == ["disk scratch (local SSD)"]


# --- races and deaths ---------------------------------------------------------------------------------------------


class Death(BaseException):
    """The process ends here."""


def test_a_process_that_dies_between_commit_and_start_is_continued_by_the_ticks() -> None:
    one = due()
    deaths: list[str] = []

    def die(made: str) -> None:
        if made.startswith("start") and not deaths:
            deaths.append(made)
            raise Death

    one.compute.before = die
    one.hand("plan", b'{"schema":1,"type":"tick"}')
    with pytest.raises(Death):
        one.deliver()
    one.lose_messages()
    assert one.the_point().state == "creating"
    one.pass_time(timedelta(minutes=5))
    assert len(one.compute.started) == 2
    finish(one)
    assert one.the_point().state == "verified"


def test_a_process_that_dies_between_start_and_note_makes_no_second_snapshot() -> None:
    one = due()
    deaths: list[str] = []

    def die(made: str) -> None:
        if not deaths:
            deaths.append(made)
            raise Death

    one.compute.after = die
    one.hand("plan", b'{"schema":1,"type":"tick"}')
    with pytest.raises(Death):
        one.deliver()
    one.lose_messages()
    one.pass_time(timedelta(minutes=5))
    finish(one)
    assert one.the_point().state == "verified"
    assert len(one.compute.snapshots) == 2


def test_two_runs_of_reconcile_at_once_start_nothing_twice_and_tell_each_outcome_once() -> None:
    one = due()
    one.tick("plan")
    one.compute.finish_all()
    one.clock.move(minutes=20)

    def other() -> None:
        one.documents = one.memory
        one.hand("reconcile", b'{"schema":1,"type":"tick"}')

    commits(one, other)
    one.hand("reconcile", b'{"schema":1,"type":"tick"}')
    one.documents = one.memory
    one.deliver()
    assert one.the_point().state == "verified"
    assert one.the_instance().tally.verified == 1
    assert sorted(one.outcomes()) == sorted((name, "succeeded") for name in one.intents())


def test_a_verified_point_and_a_discovery_at_once_lose_neither_of_their_changes() -> None:
    one = due()
    one.tick("plan")
    one.compute.finish_all()
    one.compute.add(machine(BOOT))  # the second disk was detached
    one.clock.move(hours=2)

    def other() -> None:
        one.documents = one.memory
        one.tick("discover")

    commits(one, other)
    one.hand("reconcile", b'{"schema":1,"type":"tick"}')
    one.documents = one.memory
    one.clock.move(minutes=1)
    one.tick("reconcile")
    here = one.the_instance()
    assert [ref.name for ref in here.disks] == [BOOT.name]
    assert here.newest_verified is not None
    assert here.tally.verified == 1


def test_many_points_of_one_instance_that_end_together_all_end() -> None:
    one = world()
    for number in range(6):
        one.hand("create", request(id=f"r-{number}"))
    one.compute.finish_all()
    one.pass_time(timedelta(minutes=30))
    assert {p.state for p in one.points()} == {"verified"}
    assert one.the_instance().tally.verified == 6
    assert sorted(one.outcomes()) == sorted((name, "succeeded") for name in one.intents())


def test_a_living_point_always_has_a_time_at_which_it_is_looked_at() -> None:
    one = due()
    quiet: list[datetime] = []
    one.tick("plan")
    for number in range(13 * 12):
        one.clock.move(minutes=5)
        if number % 7 == 0:
            failing(one, "find", Transient("busy"))
        if number % 11 == 0:
            for made in one.compute.snapshots:
                one.compute.finish(made.name, "FAILED")
        one.tick("reconcile")
        of = one.the_point()
        if of.state in ("requested", "creating"):
            assert of.next_at is not None
            assert of.next_at <= one.clock.now() + timedelta(minutes=15)
        else:
            quiet.append(one.clock.now())
            assert of.next_at is None
    assert quiet
    assert sorted(name for name, _ in one.outcomes()) == sorted(one.intents())

"""A tenant's own documents, the questions about the fleet, and what a commit holds."""

import json
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from tests.makers import INSTANCE_ID, THEN, World, instance, point, tenant

from snapkeep import documents as d
from snapkeep.ports import Conflict, Create
from snapkeep.store import QUERIES, Event, Fleet, Record, canonical, created, query, timestamp

HERE = f"tenants/acme/instances/{INSTANCE_ID}"


def record(**changes: Any) -> Record:
    fields: dict[str, Any] = {
        "at": THEN,
        "actor": "snapkeep",
        "action": "instance.seen",
        "subject": "instances/1",
        "outcome": "observed",
    }
    return Record(**fields | changes)


def test_a_tenants_store_writes_nothing_of_another_tenant() -> None:
    store = World().store("acme")
    for path in ("tenants/beta", "tenants/beta/points/x", "tenants/acmeX/points/x", "system/controls", "health/acme"):
        with pytest.raises(ValueError, match="not of tenant acme"):
            store.commit(None, Create(path, {}))


def test_a_change_and_its_record_are_one_commit() -> None:
    one = World()
    one.put((HERE, instance()))
    with pytest.raises(Conflict):
        one.store().commit(record(), created(HERE, instance()))
    assert one.records() == []
    one.store().commit(record(), created("tenants/acme/instances/2", instance(id="2")))
    assert [r["action"] for r in one.records()] == ["instance.seen"]


def test_one_act_on_one_subject_at_one_instant_is_recorded_once() -> None:
    one = World()
    one.store().commit(record())
    with pytest.raises(Conflict):
        one.store().commit(record())
    one.store().commit(record(at=THEN + timedelta(microseconds=1)))
    one.store().commit(record(outcome="failed"))
    assert len(one.records()) == 3


def test_a_record_says_whose_it_is_and_carries_the_time_of_its_commit() -> None:
    one = World()
    one.store().commit(record(event=Event("instance.lost", "k", {"name": "a"})))
    ((_, data),) = one.documents_in("tenants/acme/inbox/")
    body = json.loads(data["bytes"])
    assert body["tenant"] == "acme"
    assert canonical(body) == data["bytes"]
    assert data["committed_at"] == THEN
    assert (data["seq"], data["next_at"]) == (None, THEN)
    assert data["event"]["type"] == "instance.lost"


def test_the_id_of_an_event_follows_from_tenant_type_and_transition() -> None:
    def id_of(world: World, id: str, type: str, key: str) -> str:
        world.store(id).commit(record(event=Event(type, key), subject=f"{type}{key}"))
        return str(
            max(world.documents_in(f"tenants/{id}/inbox/"), key=lambda d: d[1]["committed_at"])[1]["event"]["id"]
        )

    first = id_of(World(), "acme", "point.verified", "p1")
    assert first == id_of(World(), "acme", "point.verified", "p1")
    others = [("beta", "point.verified", "p1"), ("acme", "point.failed", "p1"), ("acme", "point.verified", "p2")]
    assert len({first, *(id_of(World(), *other) for other in others)}) == 4


def test_due_work_comes_longest_due_first_whichever_tenants_it_is() -> None:
    one = World()
    times = {"acme": 5, "beta": 1, "gamma": 3, "delta": 9}
    for id, minutes in times.items():
        one.put((f"tenants/{id}/points/p", point(id="p", next_at=THEN + timedelta(minutes=minutes))))
    one.put(("tenants/acme/points/ended", point(id="ended", next_at=None)))
    due = Fleet(one.memory).due("points", THEN + timedelta(minutes=5))
    assert [doc.path for doc in due] == ["tenants/beta/points/p", "tenants/gamma/points/p", "tenants/acme/points/p"]


def test_due_work_is_walked_page_by_page_and_no_further_than_asked() -> None:
    one = World()
    writes = [Create(f"tenants/acme/points/p{n:04}", d.to_data(point(id=f"p{n:04}"))) for n in range(450)]
    one.memory.commit(*writes[:300])
    one.memory.commit(*writes[300:])
    later = THEN + timedelta(hours=1)
    assert len(list(Fleet(one.memory).due("points", later))) == 450
    assert len(list(Fleet(one.memory).due("points", later, pages=2))) == 2 * QUERIES["points"].limit < 450


def test_walking_due_work_while_it_is_moved_on_meets_each_piece_once() -> None:
    one = World()
    writes = [Create(f"tenants/acme/points/p{n:04}", d.to_data(point(id=f"p{n:04}"))) for n in range(399)]
    one.memory.commit(*writes)
    later = THEN + timedelta(hours=1)
    seen = []
    for doc in Fleet(one.memory).due("points", later):
        seen.append(doc.path)
        one.put((doc.path, replace(d.from_data(d.Point, doc.data), next_at=later)))
        if len(seen) > 1000:
            break
    assert len(set(seen)) == 399


def test_all_changes_are_found_however_many_fell_into_one_instant() -> None:
    one = World()
    count = 10_100  # more than one walk of other questions reads
    base = d.to_data(instance(updated_at=THEN))
    writes = [Create(f"tenants/t{n:05}/instances/1", base) for n in range(count)]
    for start in range(0, count, 400):
        one.memory.commit(*writes[start : start + 400])
    changed, complete_to = Fleet(one.memory).changed_since(THEN)
    assert len(changed) == count
    assert complete_to is None


def test_changes_of_a_tenant_and_of_its_instances_count_alike() -> None:
    one = World()
    later = THEN + timedelta(minutes=1)
    one.put(("tenants/acme", tenant(updated_at=later)), ("tenants/beta", tenant(id="beta")))
    one.put(("tenants/gamma/instances/1", instance(id="1", updated_at=later)))
    assert Fleet(one.memory).changed_since(later)[0] == {"acme", "gamma"}


def test_instants_are_written_so_that_equal_ones_have_equal_bytes() -> None:
    assert timestamp(THEN) == "2026-11-01T00:00:00.000000Z"


def test_every_question_has_its_values() -> None:
    for name, shape in QUERIES.items():
        values = [None if op == "==" else THEN for _, op in shape.where]
        asked = query(
            name, *values, parent="tenants/acme/" if name.startswith(("tenant_", "un", "numb", "aud")) else ""
        )
        World().memory.find(asked)
        with pytest.raises(ValueError, match=r"zip\(\)"):
            query(name, *values, "one more")


@pytest.mark.parametrize("kind", [d.Tenant, d.Instance, d.Point])
def test_what_is_stored_is_read_back_as_it_was(kind: type[d.Stored]) -> None:
    value = {d.Tenant: tenant(), d.Instance: instance(), d.Point: point()}[kind]
    one = World()
    one.put(("tenants/x", value))
    assert one.read(kind, "tenants/x") == value

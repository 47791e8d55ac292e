"""Due restores are handed to the one function that may carry them out."""

from __future__ import annotations

from datetime import timedelta

from tests.makers import TICK, World

from snapkeep import documents as d
from snapkeep import messages
from snapkeep.messages import RestoreBatch, RestoreRef, parse
from snapkeep.ports import Replace


def restore(number: int, **changes: object) -> d.Restore:
    ref = d.InstanceRef(id="1", name="app", project="p", zone="us-east1-b", region="us-east1")
    at = World().clock.now()
    one = d.Restore(
        updated_at=at, id=f"20261101-d-app-{number:08x}", mode="disks", state="approved", recovery_point="x",
        instance=ref, source=d.RestoreSource(project="p", region="us-east1"),
        target=d.RestoreTarget(project="p", region="us-east1", zone=None, name="app"), disks=[], steps=[],
        requested_at=at, requested_by="anna", reason="a test", request_sha256="", needs_approval=False, start_by=at,
        next_at=at,
    )  # fmt: skip
    return d.from_data(d.Restore, d.to_data(one) | changes)


def handed_on(one: World) -> list[RestoreRef]:
    """The restores that `reconcile` has asked for, in messages that are not too large."""
    one.lose_messages()
    one.hand("reconcile", TICK)
    batches = [parse(message.body) for message in one.bus.pending() if message.topic == "snapkeep-restore"]
    assert all(isinstance(batch, RestoreBatch) for batch in batches)
    return [ref for batch in batches if isinstance(batch, RestoreBatch) for ref in batch.restores]


def test_what_is_due_is_handed_on_whosesoever_it_is_and_nothing_else() -> None:
    one = World()
    later = one.clock.now() + timedelta(minutes=1)
    due = [("acme", restore(1)), ("beta", restore(2))]
    for tenant, value in [*due, ("acme", restore(3, next_at=later)), ("acme", restore(4, next_at=None))]:
        one.put((f"tenants/{tenant}/restores/{value.id}", value))
    assert sorted(handed_on(one), key=str) == sorted((RestoreRef(tenant, x.id) for tenant, x in due), key=str)
    assert one.compute.calls == []


def test_many_are_handed_on_in_messages_of_a_bounded_size() -> None:
    one = World()
    for number in range(messages.RESTORES_PER_MESSAGE_MAX + 5):
        one.put((f"tenants/acme/restores/{restore(number).id}", restore(number)))
    assert len(handed_on(one)) == messages.RESTORES_PER_MESSAGE_MAX + 5


def test_a_damaged_restore_stops_no_other() -> None:
    one = World()
    one.put(("tenants/acme/restores/bad", restore(1)), (f"tenants/acme/restores/{restore(2).id}", restore(2)))
    (seen,) = one.memory.get("tenants/acme/restores/bad")
    assert seen is not None
    broken = {**seen.data, "steps": "none"}
    one.memory.commit(Replace(seen.path, broken, seen.version))
    assert handed_on(one) == [RestoreRef("acme", restore(2).id)]

"""A tenant's chain: whatever is changed, removed, inserted, swapped or repeated is found and named."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.makers import THEN, World, tenant

from snapkeep import commands
from snapkeep import documents as d
from snapkeep.audit import chain
from snapkeep.audit import handler as audit
from snapkeep.messages import Nudge
from snapkeep.ports import Conflict, Create, Data, Replace, Transient
from snapkeep.store import Event, Fleet, Record, canonical, timestamp


def body(number: int, **changes: Any) -> bytes:
    fields = {
        "at": timestamp(THEN + timedelta(minutes=number)),
        "actor": "snapkeep",
        "action": "instance.seen",
        "subject": f"instances/{number}",
        "outcome": "observed",
        "tenant": "acme",
        "detail": {"number": number},
    }
    return canonical(fields | changes)


def links(count: int = 5) -> list[d.AuditRecord]:
    return chain.append(chain.EMPTY, [body(number) for number in range(count)])


def found(records: list[d.AuditRecord]) -> list[int]:
    return [finding.seq for finding in chain.verify(records, "acme")[1]]


def test_a_chain_that_was_appended_to_is_intact() -> None:
    records = links()
    head, findings = chain.verify(records, "acme")
    assert findings == []
    assert head == chain.Head(5, records[-1].hash)
    assert [record.seq for record in records] == [1, 2, 3, 4, 5]
    assert records[0].prev == "00" * 32
    more = chain.append(head, [body(5), body(6)])
    assert chain.verify([*records, *more], "acme") == (chain.Head(7, more[-1].hash), [])


def test_an_empty_chain_is_intact() -> None:
    assert chain.verify([], "acme") == (chain.EMPTY, [])
    assert chain.append(chain.EMPTY, []) == []


def test_whoever_appends_the_same_writes_the_same() -> None:
    assert links() == links()


CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("bytes", {"bytes": body(2, actor="someone")}),
    ("bytes that mean the same", {"bytes": body(2) + b" "}),
    ("no bytes", {"bytes": b""}),
    ("hash", {"hash": "00" * 32}),
    ("hash in capitals", {}),
    ("prev", {"prev": "11" * 32}),
    ("prev that is not hex", {"prev": "zz"}),
    ("at", {"at": THEN}),
    ("actor", {"actor": "Snapkeep"}),
    ("action", {"action": "instance.lost"}),
    ("subject", {"subject": "instances/3"}),
    ("outcome", {"outcome": "failed"}),
    ("updated_at", {"updated_at": THEN}),
    ("schema", {"schema": 2}),
]


@pytest.mark.parametrize("changes", [c[1] for c in CHANGES], ids=[c[0] for c in CHANGES])
def test_a_changed_field_is_found_in_its_record(changes: dict[str, Any]) -> None:
    records = links()
    changed = replace(records[2], **changes or {"hash": records[2].hash.upper()})
    records[2] = changed
    assert 3 in found(records)
    assert not {1, 2, 5} & set(found(records))


@settings(max_examples=200)
@given(st.data())
def test_every_single_byte_of_a_body_matters(data: st.DataObject) -> None:
    records = links(3)
    at = data.draw(st.integers(0, 2))
    raw = bytearray(records[at].bytes)
    where = data.draw(st.integers(0, len(raw) - 1))
    raw[where] ^= data.draw(st.integers(1, 255))
    records[at] = replace(records[at], bytes=bytes(raw))
    assert at + 1 in found(records)


@pytest.mark.parametrize("number", range(1, 5))
def test_a_removed_record_is_missed(number: int) -> None:
    records = links()
    del records[number - 1]
    (finding,) = chain.verify(records, "acme")[1]
    assert (finding.seq, finding.problem) == (number, f"record {number} missing")


def test_several_removed_records_are_one_finding() -> None:
    (finding,) = chain.verify([links()[0], *links()[4:]], "acme")[1]
    assert (finding.seq, finding.problem) == (2, "records 2 to 4 missing")


def test_a_repeated_record_is_found() -> None:
    records = links()
    assert found([*records[:3], records[2], *records[3:]]) == [3]


def test_swapped_records_are_found() -> None:
    records = links()
    records[1], records[2] = records[2], records[1]
    assert found(records) != []


def test_records_with_swapped_numbers_are_found() -> None:
    records = links()
    swapped = [records[0], replace(records[2], seq=2), replace(records[1], seq=3), *records[3:]]
    assert {2, 3} <= set(found(swapped))


def test_an_inserted_record_that_is_sound_in_itself_is_found() -> None:
    records = links()
    (forged,) = chain.append(chain.Head(2, records[1].hash), [body(99)])
    assert 4 in found([*records[:2], forged, *records[3:]])  # in place of the third: the fourth does not follow it
    assert 3 in found([*records[:3], forged, *records[3:]])  # beside it


def test_a_forged_rest_of_a_chain_is_found_against_a_head_that_was_noted() -> None:
    records = links()
    forged = [*records[:2], *chain.append(chain.Head(2, records[1].hash), [body(n) for n in (7, 8, 9)])]
    head, findings = chain.verify(forged, "acme")
    assert findings == []
    verdict = audit.Verdict("acme", 5, head, ())
    hashes = {record.seq: record.hash for record in forged}
    noted = {"acme": chain.Head(5, records[4].hash)}
    assert [f.seq for f in audit.against(verdict, noted, hashes).findings] == [5]
    assert audit.against(verdict, {"acme": chain.Head(2, records[1].hash)}, hashes).intact


def test_a_chain_of_another_tenant_is_found() -> None:
    assert [f.problem for f in chain.verify(links(2), "beta")[1]] == ["belongs to tenant 'acme'"] * 2


def test_a_record_whose_bytes_are_no_record_is_found() -> None:
    (odd,) = chain.append(chain.EMPTY, [body(0)])
    for raw in (b"[]", b"{}", b"7", b"\xff", body(0, at="yesterday"), body(0, at=7), b'{"tenant":1}'):
        hashed = chain.link(chain.GENESIS, raw).hex()
        assert found([replace(odd, bytes=raw, hash=hashed)]) == [1]


# --- as it is stored ----------------------------------------------------------------------------------------------


def stored(count: int = 5) -> World:
    """A tenant with a chain of this many records."""
    one = World()
    one.put(("tenants/acme", tenant_of_the_chain()))
    for number in range(count):
        note(one, number)
    one.tick("audit")
    return one


def tenant_of_the_chain() -> d.Tenant:
    return tenant()


def note(one: World, number: int, *, event: bool = False) -> None:
    record = Record(
        at=one.clock.now(),
        actor="snapkeep",
        action="instance.seen",
        subject=f"instances/{number}",
        outcome="observed",
        detail={"number": number},
        event=Event("instance.lost", str(number), {"number": number}) if event else None,
    )
    one.store().commit(record)


def verdict(one: World, noted: dict[str, chain.Head] | None = None) -> audit.Verdict:
    (only,) = commands.verify_audit(one.ports, ["acme"], noted or {})
    return only


def tamper(one: World, number: int, change: Callable[[Data], Data], collection: str = "audit") -> None:
    path = f"tenants/acme/{collection}/{number:012d}"
    (doc,) = one.memory.get(path)
    assert doc is not None
    one.memory.commit(Replace(path, change(doc.data), doc.version))


def remove(one: World, *paths: str) -> None:
    for path in paths:
        (doc,) = one.memory.get(path)
        assert doc is not None
        one.memory.commit(Replace(path, doc.data | {"gone_at": THEN - timedelta(days=1)}, doc.version))
    for group in {path.split("/")[-2] for path in paths}:
        one.memory.remove_expired(group, "gone_at")


FIELDS: list[tuple[str, Any]] = [
    ("seq", 9),
    ("seq", "3"),
    ("seq", None),
    ("bytes", b"x"),
    ("bytes", "x"),
    ("prev", "0" * 64),
    ("prev", 7),
    ("hash", "0" * 64),
    ("hash", None),
    ("at", THEN + timedelta(days=1)),
    ("at", "yesterday"),
    ("actor", "someone"),
    ("actor", 5),
    ("action", ""),
    ("subject", "instances/x"),
    ("outcome", "succeeded"),
    ("outcome", ["observed"]),
    ("schema", 2),
    ("schema", "1"),
    ("updated_at", THEN - timedelta(days=1)),
    ("updated_at", None),
    ("remark", "a field more"),
]


@pytest.mark.parametrize(("name", "value"), FIELDS, ids=[f"{name}={value!r}" for name, value in FIELDS])
def test_any_change_of_a_stored_record_is_found_and_named(name: str, value: Any) -> None:
    one = stored()
    assert verdict(one).intact
    tamper(one, 3, lambda data: data | {name: value})
    told = verdict(one)
    assert told.tenant == "acme"
    assert 3 in {finding.seq for finding in told.findings}


@pytest.mark.parametrize("name", ["seq", "bytes", "prev", "hash", "at", "actor", "action", "subject", "outcome"])
def test_a_removed_field_of_a_stored_record_is_found_and_named(name: str) -> None:
    one = stored()
    tamper(one, 3, lambda data: {key: value for key, value in data.items() if key != name})
    assert 3 in {finding.seq for finding in verdict(one).findings}


@pytest.mark.parametrize("number", range(1, 6))
def test_a_removed_stored_record_is_found_and_named_be_it_the_last(number: int) -> None:
    one = stored()
    remove(one, f"tenants/acme/audit/{number:012d}")
    assert {finding.seq for finding in verdict(one).findings} == {number}


def test_a_truncated_tail_is_found_against_a_noted_head_even_if_the_inbox_is_gone_too() -> None:
    one = stored()
    noted = {"acme": verdict(one).head}
    remove(one, *(path for path, _ in one.documents_in("tenants/acme/inbox/")))
    remove(one, "tenants/acme/audit/000000000004", "tenants/acme/audit/000000000005")
    assert verdict(one).intact  # nothing in the tenant itself can tell
    assert [(f.seq, f.problem) for f in verdict(one, noted).findings] == [
        (4, "missing: the chain ended at record 5 before and ends at 3 now")
    ]


def test_a_rewritten_chain_is_found_against_the_inbox() -> None:
    one = stored()
    forged = chain.append(chain.EMPTY, [body(n, detail={"forged": True}) for n in range(5)])

    def written_over(data: Data) -> Data:
        return d.to_data(forged[data["seq"] - 1])

    for record in forged:
        tamper(one, record.seq, written_over)
    assert {finding.seq for finding in verdict(one).findings} == {1, 2, 3, 4, 5}


def test_records_that_changed_places_are_found() -> None:
    one = stored()
    one_path, other_path = "tenants/acme/audit/000000000002", "tenants/acme/audit/000000000003"
    first, second = one.memory.get(one_path, other_path)
    assert first is not None
    assert second is not None
    one.memory.commit(
        Replace(one_path, second.data, first.version),
        Replace(other_path, first.data, second.version),
    )
    assert {2, 3} & {finding.seq for finding in verdict(one).findings}


def test_a_record_under_another_name_is_found() -> None:
    one = stored()
    (last,) = one.memory.get("tenants/acme/audit/000000000005")
    assert last is not None
    more = chain.append(chain.Head(5, last.data["hash"]), [body(6)])
    one.memory.commit(Create("tenants/acme/audit/zzz", d.to_data(more[0])))
    assert verdict(one).findings != ()


def test_a_tenant_that_is_gone_with_its_chain_is_found_against_the_heads_that_were_noted() -> None:
    one = stored()
    noted = {"acme": verdict(one).head}
    remove(one, *(path for path, _ in one.documents_in("tenants/acme")))
    verdicts = commands.verify_audit(one.ports, [], noted)
    assert [v.tenant for v in verdicts if not v.intact] == ["acme"]


def test_a_long_chain_is_verified_to_its_end_though_a_query_is_bounded() -> None:
    one = World()
    one.put(("tenants/acme", tenant_of_the_chain()))
    records = chain.append(chain.EMPTY, [body(n) for n in range(10_050)])
    entries = [Create(f"tenants/acme/audit/{r.seq:012d}", d.to_data(r)) for r in records]
    numbered = [
        Create(
            f"tenants/acme/inbox/{r.seq}",
            d.to_data(d.InboxRecord(updated_at=THEN, bytes=r.bytes, committed_at=THEN, seq=r.seq)),
        )
        for r in records
    ]
    writes = entries + numbered
    for start in range(0, len(writes), 400):
        one.memory.commit(*writes[start : start + 400])
    told = verdict(one)
    assert (told.records, told.intact) == (10_050, True)
    remove(one, "tenants/acme/audit/000000010050")
    assert {finding.seq for finding in verdict(one).findings} == {10_050}


def test_a_chain_is_read_in_parts_that_meet_and_pass_over_nothing() -> None:
    one = World()
    records = chain.append(chain.EMPTY, [body(n) for n in range(450)])
    for start in range(0, 450, 150):
        part = records[start : start + 150]
        one.memory.commit(*(Create(f"tenants/acme/audit/{r.seq:012d}", d.to_data(r)) for r in part))
    parts = list(audit.pages(one.store()))
    assert [record.seq for part in parts for record in part.records] == list(range(1, 451))
    assert [part.next for part in parts] == [200, 399, None]
    # What carries the number of the last one that was read, and is stored elsewhere.
    one.memory.commit(Create("tenants/acme/audit/forged", d.to_data(records[199])))
    assert [finding.seq for finding in audit.verify(one.store()).findings] == [200]
    assert audit.judge("acme", audit.pages(one.store())) == audit.verify(one.store())


def test_every_tenant_and_the_acts_of_none_have_a_chain_to_verify() -> None:
    one = stored()
    one.hand("create", b"not JSON")
    one.tick("audit")
    verdicts = commands.verify_audit(one.ports, [], {})
    assert [(v.tenant, v.records, v.intact) for v in verdicts] == [("_system", 1, True), ("acme", 5, True)]


# --- numbering ----------------------------------------------------------------------------------------------------


def test_numbers_follow_the_order_of_the_commits_whatever_the_records_say_of_their_time() -> None:
    one = World()
    for number, minutes in enumerate((5, 3, 9, 1)):
        one.clock.at = THEN + timedelta(minutes=minutes)
        note(one, number)
    one.clock.at = THEN + timedelta(hours=1)
    one.hand("audit", b'{"schema":1,"type":"tick"}')
    chained = [json.loads(r.bytes)["detail"]["number"] for r in audit.records_of(one.store())]
    assert chained == [0, 1, 2, 3]  # the clock of the commits never goes back, ours may


class SecondRun:
    """Documents in which another numbering happens just before a commit of the first."""

    def __init__(self, one: World, times: int) -> None:
        self.one = one
        self.left = times

    def get(self, *paths: str) -> Any:
        return self.one.memory.get(*paths)

    def find(self, query: Any) -> Any:
        return self.one.memory.find(query)

    def commit(self, *writes: Any) -> None:
        if self.left:
            self.left -= 1
            note(self.one_on_memory(), 100 + self.left)
            audit.number(Fleet(self.one.memory).tenant("acme"), self.one.clock.now())
        self.one.memory.commit(*writes)

    def one_on_memory(self) -> World:
        self.one.documents = self.one.memory
        return self.one


@pytest.mark.parametrize("times", [1, 3])
def test_two_numberers_at_once_make_one_chain(times: int) -> None:
    one = World()
    for number in range(7):
        note(one, number, event=True)
    for _ in range(times):
        note(one, 50 + times, event=True)
        audit.number(Fleet(SecondRun(one, 1)).tenant("acme"), one.clock.now())
        one.clock.move(minutes=1)
    told = verdict(one)
    assert told.intact
    assert told.records == 7 + 2 * times
    inbox = one.all(d.InboxRecord, "inbox")
    assert sorted(record.seq or 0 for record in inbox) == list(range(1, told.records + 1))


def test_a_numbering_whose_commit_was_written_and_reported_as_a_conflict_numbers_nothing_twice() -> None:
    one = World()
    for number in range(3):
        note(one, number)

    class Lossy(SecondRun):
        def commit(self, *writes: Any) -> None:
            self.one.memory.commit(*writes)
            if self.left:
                self.left -= 1
                raise Conflict("our own retried commit")

    audit.number(Fleet(Lossy(one, 1)).tenant("acme"), one.clock.now())
    assert verdict(one).intact
    assert verdict(one).records == 3


def test_more_than_one_batch_is_numbered_in_one_run() -> None:
    one = World()
    for number in range(250):
        note(one, number)
    one.tick("audit")
    assert verdict(one).records == 250
    assert verdict(one).intact


def test_records_that_are_large_together_are_numbered_all_the_same() -> None:
    one = World()
    for number in range(60):
        big = Record(
            at=THEN, actor="snapkeep", action="x", subject=str(number), outcome="observed", detail={"x": "y" * 200_000}
        )
        one.store().commit(big)
    one.tick("audit")
    assert verdict(one).records == 60
    assert verdict(one).intact


# --- events -------------------------------------------------------------------------------------------------------


class Unsteady:
    """A bus that takes this many events and then meets the fault."""

    def __init__(self, takes: int, fault: BaseException | None = None) -> None:
        self.takes = takes
        self.fault = fault or Transient("the broker is busy")
        self.taken: list[bytes] = []

    def publish(self, topic: str, body: bytes) -> None:
        if self.takes == 0:
            raise self.fault
        self.takes -= 1
        self.taken.append(body)


class Death(BaseException):
    """The process ends here."""


def test_an_event_is_published_once_its_record_is_numbered_and_not_again() -> None:
    one = World()
    note(one, 1, event=True)
    note(one, 2)
    one.tick("audit", "audit")
    (event,) = one.events()
    assert event["type"] == "instance.lost"
    assert event["tenant"] == "acme"
    assert event["data"] == {"number": 1}
    assert event["schema"] == 1


def test_a_crash_between_numbering_and_publishing_publishes_at_the_next_tick() -> None:
    one = World()
    note(one, 1, event=True)
    audit.number(one.store(), one.clock.now())
    assert one.events() == []
    one.clock.move(minutes=5)
    one.tick("audit")
    assert len(one.events()) == 1


def with_events(count: int) -> World:
    one = World()
    for number in range(count):
        note(one, number, event=True)
    audit.number(one.store(), one.clock.now())
    return one


def test_a_broker_that_fails_in_between_gets_the_rest_later() -> None:
    one = with_events(5)
    bus = Unsteady(3)
    with pytest.raises(Transient):
        audit.publish(one.store(), bus, one.clock.now())
    bus.takes = 100
    audit.publish(one.store(), bus, one.clock.now())
    assert [json.loads(event)["data"]["number"] for event in bus.taken] == [0, 1, 2, 3, 4]


def test_a_process_that_dies_between_publishing_and_noting_publishes_the_same_again() -> None:
    one = with_events(5)
    bus = Unsteady(3, Death())
    with pytest.raises(Death):
        audit.publish(one.store(), bus, one.clock.now())
    bus.takes = 100
    audit.publish(one.store(), bus, one.clock.now())
    assert len(bus.taken) == 8
    assert len({json.loads(event)["id"] for event in bus.taken}) == 5
    assert len(set(bus.taken)) == 5  # a repeated event is the same, byte for byte


def test_one_tenants_fault_does_not_hold_up_the_records_of_another() -> None:
    one = World()
    for id in ("acme", "beta"):
        record = Record(at=THEN, actor="snapkeep", action="x", subject="y", outcome="observed")
        one.store(id).commit(record)

    class AcmeIsDown(SecondRun):
        def commit(self, *writes: Any) -> None:
            if any(write.path.startswith("tenants/acme/") for write in writes):
                raise Transient("down")
            self.one.memory.commit(*writes)

    one.documents = AcmeIsDown(one, 0)
    with pytest.raises(Transient):
        one.hand("audit", b'{"schema":1,"type":"tick"}')
    assert len(list(audit.records_of(one.store("beta")))) == 1
    one.documents = one.memory
    one.tick("audit")
    assert len(list(audit.records_of(one.store("acme")))) == 1


def test_events_are_published_in_the_order_of_their_numbers() -> None:
    one = World()
    for number in range(30):
        note(one, number, event=True)
    one.tick("audit")
    assert [event["data"]["number"] for event in one.events()] == list(range(30))


def test_an_event_is_not_published_before_its_record_has_its_number() -> None:
    one = World()
    note(one, 1, event=True)
    bus = Unsteady(10)
    audit.publish(one.store(), bus, one.clock.now())
    assert bus.taken == []


def test_a_nudge_numbers_only_the_tenants_that_it_names() -> None:
    one = stored(0)
    note(one, 1)
    one.hand("audit", Nudge(tenants=["beta"]))
    assert verdict(one).records == 0
    one.hand("audit", Nudge(tenants=["acme"]))
    assert verdict(one).records == 1


def test_a_nudge_publishes_what_it_numbers_and_leaves_what_did_not_get_out_before_to_the_tick() -> None:
    one = World()
    note(one, 1, event=True)
    audit.number(one.store(), one.clock.now())  # and then the process died
    note(one, 2)
    one.hand("audit", Nudge(tenants=["acme"]))
    assert (verdict(one).records, one.events()) == (2, [])
    note(one, 3, event=True)
    one.hand("audit", Nudge(tenants=["acme"]))
    assert [event["data"]["number"] for event in one.events()] == [1, 3]
    note(one, 4, event=True)
    audit.number(one.store(), one.clock.now())
    one.tick("audit")
    assert [event["data"]["number"] for event in one.events()] == [1, 3, 4]

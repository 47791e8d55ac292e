"""What is special to the cloud in memory; what it shares with Google's services is in tests/contract."""

from __future__ import annotations

import base64
import functools
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snapkeep.ports import (
    SERVER_TIME,
    WRITES_PER_COMMIT_MAX,
    Conflict,
    Create,
    Direction,
    Doc,
    Operator,
    Query,
    Replace,
)
from snapkeep_local.memory import (
    BACKOFF_MAX_S,
    RETENTION,
    Envelope,
    MemoryBus,
    MemoryDocuments,
    ordered,
)

START = datetime(2026, 3, 1, 2, 30, tzinfo=UTC)


class Hands:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.at = START

    def __call__(self) -> datetime:
        return self.at


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def documents(hands: Hands) -> MemoryDocuments:
    return MemoryDocuments(hands)


@pytest.fixture
def bus(hands: Hands) -> MemoryBus:
    return MemoryBus(hands, project="demo", max_attempts=3)


def nested(depth: int) -> dict[str, Any]:
    return {"m": nested(depth - 1) if depth > 1 else 1}


def read(documents: MemoryDocuments, path: str) -> Doc:
    (doc,) = documents.get(path)
    assert doc is not None
    return doc


# --- queries against a naive scan --------------------------------------------------------------------------------

# Hypothesis takes its bounds without a zone.
TIMES = st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001
NUMBERS = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, 2**63 - 512, -(2**63), 0, 1]),
    st.floats(),
    st.sampled_from([0.0, -0.0, 1.0, 1.5, 2.0**53, 2.0**63, -(2.0**63)]),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    NUMBERS,
    TIMES,
    st.text(max_size=4),
    st.text("\x00\x01a", max_size=3),
    st.binary(max_size=3),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner.filter(lambda value: not isinstance(value, list)), max_size=3),
        st.dictionaries(st.text("ab.", min_size=1, max_size=2), inner, max_size=2),
    ),
    max_leaves=4,
)
FEW = st.one_of(
    st.none(), st.booleans(), st.integers(0, 3), st.sampled_from([START, START + timedelta(1), "", "a", "b"])
)


def rank(value: Any) -> int:
    if value is None:
        return 0
    if isinstance(value, bool):
        return 1
    if isinstance(value, int | float):
        return 2 if value != value else 3
    return [datetime, str, bytes, list, dict].index(type(value)) + 4


def compare(left: Any, right: Any) -> int:
    """Firestore's order of values, written as its documentation says it."""
    if rank(left) != rank(right):
        return -1 if rank(left) < rank(right) else 1
    if left is None or rank(left) == 2:
        return 0
    if isinstance(left, list):
        return compare_each(left, right)
    if isinstance(left, dict):
        return compare_each(
            [part for item in sorted(left.items()) for part in item],
            [part for item in sorted(right.items()) for part in item],
        )
    return int(left > right) - int(left < right)


def compare_each(left: list[Any], right: list[Any]) -> int:
    for one, other in zip(left, right, strict=False):
        if order := compare(one, other):
            return order
    return (len(left) > len(right)) - (len(left) < len(right))


def sign(left: bytes, right: bytes) -> int:
    return (left > right) - (left < right)


@given(VALUES, VALUES)
def test_the_order_of_encoded_values_is_the_documented_one(left: Any, right: Any) -> None:
    assert sign(ordered(left), ordered(right)) == compare(left, right)
    assert sign(ordered(left) + b"\x01", ordered(right) + b"\x09") == (compare(left, right) or -1), (
        "no one begins another"
    )


OPERATORS: dict[Operator, Any] = {
    "==": lambda order: order == 0,
    "<": lambda order: order < 0,
    "<=": lambda order: order <= 0,
    ">": lambda order: order > 0,
    ">=": lambda order: order >= 0,
}


def scan(stored: dict[str, dict[str, Any]], query: Query) -> list[str]:
    """The query's whole answer, found the slow way."""
    order = list(query.order)
    last: Direction = order[-1][1] if order else "asc"
    unequal = sorted({name for name, operator, _ in query.where if operator != "=="} - {name for name, _ in order})
    order += [(name, last) for name in unequal]

    def found(path: str, data: dict[str, Any]) -> bool:
        collection = path.rpartition("/")[0]
        if (collection.rpartition("/")[2] if query.group else collection) != query.collection:
            return False
        if any(name not in data for name, _ in order):
            return False
        return all(
            name in data
            and (operator == "==" or rank(data[name]) == rank(value))
            and OPERATORS[operator](compare(data[name], value))
            for name, operator, value in query.where
        )

    def before(left: str, right: str) -> int:
        for name, direction in order:
            if way := compare(stored[left][name], stored[right][name]):
                return way if direction == "asc" else -way
        way = compare_each(left.split("/"), right.split("/"))
        return way if last == "asc" else -way

    matching = [path for path, data in stored.items() if found(path, data)]
    return sorted(matching, key=functools.cmp_to_key(before))


PATHS = st.builds(
    "/".join,
    st.tuples(
        st.sampled_from(["tenants"]),
        st.sampled_from(["a", "b", "a-b"]),
        st.sampled_from(["points", "points", "audit"]),
        st.sampled_from(["1", "2", "10", "1 ", "é"]),
    ),
)
DIRECTIONS: st.SearchStrategy[Direction] = st.sampled_from(("asc", "desc"))
NAMES = st.sampled_from(["next_at", "state", "seq"])
FIELDS = st.dictionaries(NAMES, FEW, max_size=3)


@st.composite
def queries(draw: st.DrawFn) -> Query:
    group = draw(st.booleans())
    collection = (
        "points" if group else draw(st.sampled_from(["tenants/a/points", "tenants/a-b/points", "tenants/c/points"]))
    )
    names = draw(st.lists(NAMES, unique=True, max_size=2))
    order = tuple((name, draw(DIRECTIONS)) for name in names)
    comparisons = st.tuples(NAMES, st.sampled_from(list(OPERATORS)), FEW)
    where = draw(st.lists(comparisons.filter(lambda row: row[1] == "==" or row[2] is not None), max_size=3))
    return Query(collection, group, tuple(where), order, limit=draw(st.integers(1, 3)))


@given(
    st.lists(st.tuples(PATHS, FIELDS), max_size=12),
    st.lists(queries(), min_size=1, max_size=3),
    st.lists(st.tuples(PATHS, FIELDS), max_size=12),
)
def test_every_page_of_every_query_is_what_a_scan_would_find(
    early: list[tuple[str, dict[str, Any]]], asked: list[Query], late: list[tuple[str, dict[str, Any]]]
) -> None:
    documents = MemoryDocuments(lambda: START)
    for round_ in (early, late):  # the second round changes documents that indexes hold already
        for path, data in round_:
            (seen,) = documents.get(path)
            documents.commit(Replace(path, data, seen.version) if seen else Create(path, data))
        for query in asked:
            pages: list[str] = []
            page = documents.find(query)
            while page:
                assert len(page) <= query.limit
                pages += [doc.path for doc in page]
                page = documents.find(
                    Query(query.collection, query.group, query.where, query.order, query.limit, after=page[-1])
                )
            assert pages == scan(documents.dump(), query)


# --- documents ---------------------------------------------------------------------------------------------------


def test_a_clock_that_stands_still_gives_every_commit_a_later_time(documents: MemoryDocuments) -> None:
    for name in ("a", "b", "c"):
        documents.commit(Create(f"inbox/{name}", {"committed_at": SERVER_TIME}))
    times = [doc.data["committed_at"] for doc in documents.find(Query("inbox", order=(("committed_at", "asc"),)))]
    assert times == [START + timedelta(microseconds=more) for more in range(3)]


def test_a_refused_commit_uses_up_no_time_and_leaves_nothing(documents: MemoryDocuments) -> None:
    documents.commit(Create("a/1", {"at": SERVER_TIME}))
    with pytest.raises(Conflict, match="a/1 exists"):
        documents.commit(Create("a/2", {"at": SERVER_TIME}), Create("a/1", {}))
    documents.commit(Create("a/3", {"at": SERVER_TIME}))
    assert documents.dump() == {"a/1": {"at": START}, "a/3": {"at": START + timedelta(microseconds=1)}}


def test_what_goes_in_and_out_is_copied(documents: MemoryDocuments) -> None:
    data: dict[str, Any] = {"disks": [{"name": "boot"}]}
    documents.commit(Create("a/1", data))
    data["disks"][0]["name"] = "changed"
    read(documents, "a/1").data["disks"].append("changed")
    documents.dump()["a/1"]["disks"].clear()
    assert read(documents, "a/1").data == {"disks": [{"name": "boot"}]}


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        pytest.param({"a": START.replace(tzinfo=None)}, "carries no time zone", id="naive time"),
        pytest.param({"a": (1, 2)}, "tuple is not a Firestore value", id="tuple"),
        pytest.param({"a": {1, 2}}, "set is not a Firestore value", id="set"),
        pytest.param({"a": {"b": SERVER_TIME}}, "ServerTime is not a Firestore value", id="server time inside a map"),
        pytest.param({"a": [[1]]}, "a list directly within a list", id="list in list"),
        pytest.param({"a": {"b": [2**63]}}, "is not an int64", id="too large an integer"),
        pytest.param({"a": -(2**63) - 1}, "is not an int64", id="too small an integer"),
        pytest.param({"a": {1: 2}}, "the key 1 is int", id="key not a string"),
        pytest.param({"": 1}, "is not a field name", id="empty key"),
        pytest.param({"__a__": 1}, "is not a field name", id="reserved key"),
        pytest.param({"a": "x" * 1_048_576}, "at most 1048576 fit a document", id="too large"),
        pytest.param({"a": "\ud800"}, "surrogates not allowed", id="half a character"),
        pytest.param(nested(21), "more than 20 deep", id="deep"),
    ],
)
def test_refuses_what_firestore_would_not_keep_as_it_is(
    documents: MemoryDocuments, data: dict[str, Any], fault: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=fault):
        documents.commit(Create("a/1", data))
    assert documents.dump() == {}


@pytest.mark.parametrize("path", ["a", "a/b/c", "a//b/c", "a/.", "a/..", "a/__b__", "", "/a/b", "a/b/"])
def test_refuses_a_path_that_is_no_document(documents: MemoryDocuments, path: str) -> None:
    with pytest.raises(ValueError, match=r"is not an id|is a collection"):
        documents.commit(Create(path, {}))
    with pytest.raises(ValueError, match=r"is not an id|is a collection"):
        documents.get(path)


def test_a_commit_is_bounded_and_writes_no_document_twice(documents: MemoryDocuments) -> None:
    with pytest.raises(ValueError, match="401 writes in a commit, expected 1 to 400"):
        documents.commit(*(Create(f"a/{number}", {}) for number in range(WRITES_PER_COMMIT_MAX + 1)))
    with pytest.raises(ValueError, match="0 writes in a commit"):
        documents.commit()
    with pytest.raises(ValueError, match="the same document twice"):
        documents.commit(Create("a/1", {}), Create("a/1", {}))
    with pytest.raises(ValueError, match="more than 10485760 bytes"):
        documents.commit(*(Create(f"a/{number}", {"bytes": b"x" * 1_000_000}) for number in range(11)))
    documents.commit(*(Create(f"a/{number}", {}) for number in range(WRITES_PER_COMMIT_MAX)))
    assert len(documents.dump()) == WRITES_PER_COMMIT_MAX


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        pytest.param(Query("a", where=(("at", "<", None),)), "nothing is more or less than null", id="less than null"),
        pytest.param(Query("a/b"), "is a document", id="a document"),
        pytest.param(Query("a/b/c", group=True), "named by an id", id="a group by path"),
        pytest.param(Query("a", order=(("x", "asc"), ("x", "desc"))), "ordered twice", id="ordered twice"),
        pytest.param(Query("a", limit=0), "limit 0", id="no limit"),
        pytest.param(
            Query("a", order=(("x", "asc"),), after=Doc("a/1", {}, 1)), "lacks 'x'", id="after without the field"
        ),
    ],
)
def test_refuses_a_query_that_firestore_would_refuse(documents: MemoryDocuments, query: Query, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        documents.find(query)


def test_removes_what_has_expired_and_nothing_else(documents: MemoryDocuments, hands: Hands) -> None:
    documents.commit(
        Create("tenants/a/requests/1", {"expire_at": START + timedelta(days=1)}),
        Create("tenants/b/requests/2", {"expire_at": START + timedelta(days=2)}),
        Create("tenants/b/requests/3", {"expire_at": None}),
        Create("tenants/b/inbox/4", {"expire_at": START}),
    )
    hands.at += timedelta(days=1)
    assert documents.remove_expired("requests", "expire_at") == 1
    assert list(documents.dump()) == ["tenants/b/inbox/4", "tenants/b/requests/2", "tenants/b/requests/3"]
    assert [doc.path for doc in documents.find(Query("requests", group=True))] == list(documents.dump())[1:]


# --- messages ----------------------------------------------------------------------------------------------------


class Function:
    """A handler that remembers what reached it, and fails while it is told to."""

    def __init__(self) -> None:
        self.received: list[Envelope] = []
        self.fault: BaseException | None = None

    def __call__(self, envelope: Envelope) -> None:
        self.received.append(envelope)
        if self.fault is not None:
            raise self.fault

    @property
    def bodies(self) -> list[bytes]:
        return [base64.b64decode(envelope["message"]["data"]) for envelope in self.received]


@pytest.fixture
def function(bus: MemoryBus) -> Function:
    function = Function()
    bus.subscribe("snapkeep-create", function)
    return function


def test_delivers_a_push_envelope_and_forgets_what_was_acknowledged(bus: MemoryBus, function: Function) -> None:
    bus.publish("snapkeep-create", b"{}")
    assert bus.next_due() == START
    delivery = bus.deliver_next()
    assert delivery is not None
    assert delivery.fault is None
    assert function.received == [
        {
            "message": {
                "data": "e30=",
                "attributes": {},
                "messageId": "1",
                "message_id": "1",
                "publishTime": "2026-03-01T02:30:00.000Z",
                "publish_time": "2026-03-01T02:30:00.000Z",
            },
            "subscription": "projects/demo/subscriptions/snapkeep-create",
            "deliveryAttempt": 1,
        }
    ]
    assert bus.deliver_next() is None
    assert bus.next_due() is None


def test_a_topic_without_a_subscription_keeps_what_was_published(bus: MemoryBus) -> None:
    bus.publish("snapkeep-events", b"1")
    bus.publish("snapkeep-events", b"2")
    assert bus.outbox("snapkeep-events") == [b"1", b"2"]
    assert bus.outbox("snapkeep-other") == []
    assert bus.next_due() is None


def test_a_failed_message_comes_again_ever_later(hands: Hands) -> None:
    bus = MemoryBus(hands, max_attempts=100)
    function = Function()
    function.fault = RuntimeError("not now")
    bus.subscribe("snapkeep-create", function)
    bus.publish("snapkeep-create", b"1")
    waits: list[float] = []
    for _ in range(8):
        delivery = bus.deliver_next()
        assert delivery is not None
        assert delivery.fault is function.fault
        assert bus.deliver_next() is None
        due = bus.next_due()
        assert due is not None
        waits.append((due - hands.at).total_seconds())
        hands.at = due
    assert waits == [10, 20, 40, 80, 160, 320, BACKOFF_MAX_S, BACKOFF_MAX_S]
    assert [envelope["deliveryAttempt"] for envelope in function.received] == list(range(1, 9))
    assert {envelope["message"]["messageId"] for envelope in function.received} == {"1"}


def test_the_last_attempt_ends_in_the_dead_letters_with_its_history(
    bus: MemoryBus, function: Function, hands: Hands
) -> None:
    dead_letters = Function()
    bus.subscribe("snapkeep-dead-letters", dead_letters)
    function.fault = RuntimeError("never")
    bus.publish("snapkeep-create", b"body")
    dead: list[bool] = []
    while (due := bus.next_due()) and not dead_letters.received:
        hands.at = due
        delivery = bus.deliver_next()
        assert delivery is not None
        dead.append(delivery.dead)
    assert dead == [False, False, True, False]
    (envelope,) = dead_letters.received
    assert dead_letters.bodies == [b"body"]
    assert envelope["message"]["messageId"] == "2"
    assert envelope["message"]["attributes"] == {
        "CloudPubSubDeadLetterSourceDeliveryCount": "3",
        "CloudPubSubDeadLetterSourceSubscription": "snapkeep-create",
        "CloudPubSubDeadLetterSourceSubscriptionProject": "demo",
        "CloudPubSubDeadLetterSourceTopicPublishTime": "2026-03-01T02:30:00.000Z",
    }
    assert bus.pending() == []


def test_a_dead_letter_that_nobody_takes_ends_with_its_retention(bus: MemoryBus, hands: Hands) -> None:
    dead_letters = Function()
    dead_letters.fault = RuntimeError("never")
    bus.subscribe("snapkeep-dead-letters", dead_letters)
    bus.publish("snapkeep-dead-letters", b"1")
    while due := bus.next_due():
        hands.at = due
        bus.deliver_next()
    assert RETENTION - timedelta(seconds=BACKOFF_MAX_S) <= hands.at - START < RETENTION


class Died(BaseException):
    pass


def test_the_death_of_a_function_rises_and_its_message_comes_again(
    bus: MemoryBus, function: Function, hands: Hands
) -> None:
    function.fault = Died()
    bus.publish("snapkeep-create", b"1")
    with pytest.raises(Died):
        bus.deliver_next()
    function.fault = None
    hands.at += timedelta(seconds=10)
    assert bus.pump() == 1
    assert function.bodies == [b"1", b"1"]


def test_a_message_published_while_another_is_delivered_is_delivered_too(bus: MemoryBus, function: Function) -> None:
    bus.subscribe("snapkeep-discover", lambda _: bus.publish("snapkeep-create", b"next"))
    bus.publish("snapkeep-discover", b"first")
    assert bus.pump() == 2
    assert function.bodies == [b"next"]


def test_functions_that_message_one_another_for_ever_are_found_out(bus: MemoryBus) -> None:
    bus.subscribe("a", lambda _: bus.publish("a", b"again"))
    bus.publish("a", b"first")
    with pytest.raises(RuntimeError, match="still messages due after 50 deliveries"):
        bus.pump(50)


def test_the_seed_decides_the_order(hands: Hands) -> None:
    def order(seed: int | None) -> list[bytes]:
        bus = MemoryBus(hands, random=None if seed is None else Random(seed))  # noqa: S311 - an order, not a secret
        function = Function()
        bus.subscribe("a", function)
        for number in range(20):
            bus.publish("a", b"%d" % number)
        assert bus.pump() == 20
        return function.bodies

    published = [b"%d" % number for number in range(20)]
    assert order(None) == published
    assert order(1) == order(1) != order(2)
    assert sorted(order(1)) == sorted(published)


def test_a_waiting_message_can_be_lost_doubled_or_late(bus: MemoryBus, function: Function, hands: Hands) -> None:
    for body in (b"lost", b"doubled", b"late"):
        bus.publish("snapkeep-create", body)
    lost, doubled, late = bus.pending("snapkeep-create")
    bus.drop(lost)
    copy = bus.duplicate(doubled)
    assert copy.id == doubled.id
    bus.delay(late, timedelta(hours=1))
    assert bus.pump() == 2
    assert function.bodies == [b"doubled", b"doubled"]
    assert bus.next_due() == START + timedelta(hours=1)
    hands.at += timedelta(hours=1)
    assert bus.pump() == 1
    assert function.bodies[-1] == b"late"


def test_waiting_messages_can_take_one_anothers_places(bus: MemoryBus, function: Function, hands: Hands) -> None:
    for body in (b"1", b"2", b"3"):
        bus.publish("snapkeep-create", body)
    first, _, third = bus.pending()
    bus.delay(third, timedelta(minutes=1))
    bus.reorder([third, first])
    hands.at += timedelta(minutes=1)
    assert bus.pump() == 3
    assert function.bodies == [b"3", b"2", b"1"]


def test_what_does_not_wait_cannot_be_tampered_with(bus: MemoryBus, function: Function) -> None:
    bus.publish("snapkeep-create", b"1")
    (message,) = bus.pending()
    bus.pump()
    assert function.bodies == [b"1"]
    with pytest.raises(ValueError, match="not in list"):
        bus.drop(message)
    with pytest.raises(ValueError, match="not in list"):
        bus.delay(message, timedelta(1))
    with pytest.raises(ValueError, match="does not wait"):
        bus.duplicate(message)
    with pytest.raises(ValueError, match="must wait"):
        bus.reorder([message])


def test_a_topic_has_one_subscription_and_a_message_has_a_body(bus: MemoryBus, function: Function) -> None:
    with pytest.raises(ValueError, match="has a subscription already"):
        bus.subscribe("snapkeep-create", function)
    with pytest.raises(ValueError, match="a body of 0 bytes"):
        bus.publish("snapkeep-create", b"")
    with pytest.raises(ValueError, match="a body of 10000001 bytes"):
        bus.publish("snapkeep-create", b"x" * 10_000_001)

"""Whatever arrives is settled: understood, or recorded as rejected with a reason, and nothing else changes."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.makers import FUNCTIONS, THEN, World, envelope

from snapkeep import messages
from snapkeep.messages import BadMessage, CreateRequested, Nudge, Tick, decode, encode
from snapkeep.ports import Data, Transient

EVENT_FUNCTIONS = [name for name in FUNCTIONS if name != "dead_letters"]


def create_requested(**changes: Any) -> dict[str, Any]:
    body: dict[str, Any] = {
        "schema": 1,
        "type": "create.requested",
        "id": "r-1",
        "tenant": "acme",
        "claimed_actor": "ci@vendor.example",
        "reason": "before import",
        "data": {"instance": "acme-pam-1"},
    }
    return body | changes


def dumped(**changes: Any) -> bytes:
    return json.dumps(create_requested(**changes)).encode()


def everything_but_the_rejected(one: World) -> dict[str, Data]:
    kept = ("rejected/", "tenants/_system/")
    return {path: data for path, data in one.memory.dump().items() if not path.startswith(kept)}


def world() -> World:
    one = World()
    one.set_up()
    one.tick("audit", "health")
    return one


def rejected(one: World) -> list[Data]:
    return [data for _, data in one.documents_in("rejected/")]


def refuse(delivery: Any, function: str = "create") -> Data:
    """Hand this delivery to a function twice; it must be settled as rejected once, and nothing else may change."""
    one = world()
    before = everything_but_the_rejected(one)
    calls = len(one.compute.calls)
    one.receive(function, delivery)
    (record,) = one.records("_system")
    assert (record["action"], record["outcome"]) == ("message.rejected", "refused")
    after = one.memory.dump()
    one.clock.move(minutes=5)
    one.receive(function, delivery)
    assert one.memory.dump() == after, "a redelivery was recorded again"
    assert everything_but_the_rejected(one) == before
    assert len(one.compute.calls) == calls
    one.deliver()
    assert [e["type"] for e in one.events()].count("message.rejected") == 1
    (kept,) = rejected(one)
    assert (kept["function"], kept["kind"]) == (function, "rejected")
    assert kept["reason"] == record["detail"]["reason"]
    assert kept["expire_at"] > kept["at"]
    assert all(text.isprintable() for text in (kept["reason"], kept["excerpt"]))
    assert len(kept["reason"]) <= 1_000
    return kept


DEEP = b"[" * 100_000
WRONG: list[tuple[str, bytes, str]] = [
    ("not JSON", b"hello", "body: not JSON"),
    ("nothing", b"", "body: "),
    ("half a message", dumped()[:-1], "body: not JSON"),
    ("two messages", dumped() + dumped(), "body: not JSON"),
    ("not UTF-8", b'{"type":"tick","x":"\xff\xfe"}', "body: not UTF-8"),
    ("a byte order mark", b"\xef\xbb\xbf" + dumped(), "body: not JSON"),
    ("UTF-16", json.dumps(create_requested()).encode("utf-16"), "body: "),
    ("an array", b"[]", "body: Expected `object`, got `array`"),
    ("a string", b'"tick"', "body: Expected `object`"),
    ("null", b"null", "body: Expected `object`"),
    ("no type", b'{"schema":1}', "body: Object missing required field `type`"),
    ("unknown type", b'{"schema":1,"type":"point.delete"}', "body: Invalid value 'point.delete' - at `$.type`"),
    ("a type that is no text", b'{"schema":1,"type":["tick"]}', "body: Expected `str`"),
    ("a type of ours for another function", b'{"type":"nudge","tenants":["acme"]}', "not a message for create"),
    ("a tick", b'{"schema":1,"type":"tick"}', "type: 'tick' is not a message for create"),
    ("another schema", dumped(schema=2), "body: Invalid enum value 2 - at `$.schema`"),
    ("a schema in words", dumped(schema="1"), "$.schema"),
    ("a schema that is true", dumped(schema=True), "$.schema"),
    ("no id", json.dumps({**create_requested(), "id": None}).encode(), "$.id"),
    ("no schema of ours", b'{"type":"create.requested"}', "missing required field"),
    ("an empty id", dumped(id=""), "$.id"),
    ("a long id", dumped(id="x" * 201), "$.id"),
    ("an id with a line break", dumped(id="a\nb"), "$.id"),
    ("an id with a line break at its end", dumped(id="a\n"), "$.id"),
    ("an id with NUL", dumped(id="a\x00"), "$.id"),
    ("a number for an id", dumped(id=1), "$.id"),
    ("no reason", dumped(reason=""), "$.reason"),
    ("a huge reason", dumped(reason="x" * 501), "$.reason"),
    ("a reason that turns the reading direction", dumped(reason="\u202edrowssap"), "$.reason"),
    ("a reason that isolates", dumped(reason="a\u2066b"), "$.reason"),
    ("an escape sequence", dumped(claimed_actor="\x1b[2J"), "$.claimed_actor"),
    ("a C1 control", dumped(claimed_actor="a\x9bb"), "$.claimed_actor"),
    ("a line separator", dumped(reason="a\u2028b"), "$.reason"),
    ("a lone surrogate", dumped(reason="X").replace(b'"X"', b'"\\ud800"'), "body: "),
    ("a raw lone surrogate", dumped(reason="X").replace(b'"X"', b'"\xed\xa0\x80"'), "UTF-8"),
    ("a tenant of another shape", dumped(tenant="../beta"), "$.tenant"),
    ("a tenant with capitals", dumped(tenant="Acme"), "$.tenant"),
    ("a tenant with a line break", dumped(tenant="acme\n"), "$.tenant"),
    ("the system's own chain", dumped(tenant="_system"), "$.tenant"),
    ("a tenant that is not there", dumped(tenant="nobody"), "tenant: 'nobody' is not a tenant"),
    ("an instance that is not there", dumped(data={"instance": "x"}), "has no instance 'x'"),
    ("an instance with a path in it", dumped(data={"instance": "../../x"}), "$.data.instance"),
    ("a filter for an instance", dumped(data={"instance": 'x") OR (name != "'}), "$.data.instance"),
    ("data that is a list", dumped(data=["acme-pam-1"]), "$.data"),
    ("no data", dumped(data={}), "missing required field `instance`"),
    ("100,000 brackets", DEEP, "body: "),
    ("100,000 brackets where text is expected", dumped(reason="X").replace(b'"X"', DEEP[:60_000]), "body: "),
    ("deep in a field that is not known", b'{"type":"tick","x":' + DEEP[:60_000], "body: "),
    ("an infinite number", dumped(id="X").replace(b'"X"', b"1e400"), "body: "),
    ("10**400", dumped(schema="X").replace(b'"X"', b"1" + b"0" * 400), "body: "),
    ("NaN", dumped(schema="X").replace(b'"X"', b"NaN"), "body: not JSON"),
    ("more than 64 KiB", dumped(reason="x" * 70_000), "65536"),
    ("more than 10 MiB", b'"' + b"x" * 11_000_000 + b'"', "65536"),
    ("no tenants too many", b'{"type":"nudge","tenants":' + json.dumps(["acme"] * 101).encode() + b"}", "$.tenants"),
    ("a point of another shape", b'{"type":"create.batch","points":[{"tenant":"acme","point":"../x"}]}', "point"),
    ("no points", b'{"type":"create.batch","points":[]}', "$.points"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "says"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_a_bad_body_is_settled_with_the_reason(body: bytes, says: str) -> None:
    assert says in refuse(envelope(body))["reason"]


def nested(depth: int) -> list[Any]:
    deep: list[Any] = []
    for _ in range(depth):
        deep = [deep]
    return deep


ENVELOPES: list[tuple[str, Any, str]] = [
    ("nothing", None, "message.data: missing"),
    ("text", "hello", "message.data: missing"),
    ("bytes", b"hello", "message.data: missing"),
    ("a list", [1, 2], "message.data: missing"),
    ("an empty object", {}, "message.data: missing"),
    ("a message that is text", {"message": "x"}, "message.data: missing"),
    ("no data", {"message": {"messageId": "1"}}, "message.data: missing"),
    ("data that is null", {"message": {"data": None}}, "message.data: missing"),
    ("data that is a number", {"message": {"data": 7}}, "message.data: missing"),
    ("data that is not base64", {"message": {"data": "%%%"}}, "message.data: not base64"),
    ("data in the alphabet of URLs", {"message": {"data": "_-_-"}}, "message.data: not base64"),
    ("data with a line break", {"message": {"data": "e30=\n"}}, "message.data: not base64"),
    ("data with a letter too many", {"message": {"data": "e30=e"}}, "message.data: not base64"),
    ("data that is not ASCII", {"message": {"data": "é" * 8}}, "message.data: not base64"),
    ("data with a lone surrogate", {"message": {"data": "\ud800" * 4}}, "message.data: not base64"),
    ("data nested for ever", {"message": {"data": nested(100_000)}}, "message.data: missing"),
    ("an envelope nested for ever", nested(100_000), "message.data: missing"),
    ("keys that are no text", {1: 2, "message": {3: 4}}, "message.data: missing"),
    ("much of nothing", {"message": {"attributes": {str(n): "x" * 100 for n in range(1000)}}}, "message.data: missing"),
    ("base64 above the bound", {"message": {"data": "A" * 100_000}}, "larger than 65536 bytes"),
]  # fmt: skip


@pytest.mark.parametrize(("delivery", "says"), [e[1:] for e in ENVELOPES], ids=[e[0] for e in ENVELOPES])
def test_a_bad_envelope_is_settled_with_the_reason(delivery: Any, says: str) -> None:
    assert says in refuse(delivery)["reason"]


def test_a_redelivery_without_data_is_the_same_message_whatever_the_number_of_its_delivery() -> None:
    one = world()
    for attempt in range(1, 4):
        delivery = {"message": {"messageId": "17", "attributes": {}}, "deliveryAttempt": attempt}
        one.receive("create", delivery)
    assert len(rejected(one)) == 1


def test_two_different_bad_messages_are_two_records() -> None:
    one = world()
    one.hand("create", b"first")
    one.hand("create", b"second")
    assert len(rejected(one)) == 2
    assert len(one.records("_system")) == 2


def test_an_excerpt_shows_the_beginning_and_nothing_that_a_terminal_acts_on() -> None:
    kept = refuse(envelope(b"\x1b[2J\xff" + "\u202e".encode() + b"<script>" + b"x" * 5000))
    assert kept["excerpt"].startswith("\\x1b[2J\\xff\\u202e<script>xxx")
    assert len(kept["excerpt"]) == messages.EXCERPT_CHARS_MAX


@pytest.mark.parametrize("function", EVENT_FUNCTIONS)
def test_every_function_rejects_what_is_not_for_it(function: str) -> None:
    strange: dict[str, messages.Message] = {
        "discover": Nudge(tenants=["acme"]),
        "plan": Nudge(tenants=["acme"]),
        "create": Tick(),
        "reconcile": Nudge(tenants=["acme"]),
        "audit": messages.DiscoverBatch(tenants=["acme"]),
        "retention": messages.DiscoverBatch(tenants=["acme"]),
        "expire": Tick(),
        "copy": Tick(),
        "restore": Tick(),
        "entitlements": messages.DiscoverBatch(tenants=["acme"]),
        "restore_test": Nudge(tenants=["acme"]),
        "health": messages.DiscoverBatch(tenants=["acme"]),
    }
    kept = refuse(envelope(encode(strange[function])), function)
    assert kept["reason"].endswith(f"is not a message for {function}")


def test_a_rejection_that_cannot_be_recorded_now_is_delivered_again() -> None:
    one = world()

    class Down:
        def get(self, *paths: str) -> Any:
            raise Transient("down")

        def find(self, query: Any) -> Any:
            raise Transient("down")

        def commit(self, *writes: Any) -> None:
            raise Transient("down")

    one.documents = Down()
    with pytest.raises(Transient):
        one.hand("create", b"hello")
    one.documents = one.memory
    one.hand("create", b"hello")
    assert len(rejected(one)) == 1


# --- dead letters -------------------------------------------------------------------------------------------------


def test_a_dead_letter_is_kept_for_a_person() -> None:
    one = world()
    letter = envelope(dumped())
    letter["message"]["attributes"] = {"CloudPubSubDeadLetterSourceSubscription": "snapkeep-create"}
    for _ in range(2):
        one.receive("dead_letters", letter)
    (kept,) = rejected(one)
    assert kept["kind"] == "dead_letter"
    assert kept["function"] == "snapkeep-create"
    assert kept["reason"] == "snapkeep-create did not handle it in all its deliveries"
    assert "before import" in kept["excerpt"]
    (record,) = one.records("_system")
    assert (record["action"], record["outcome"]) == ("message.died", "failed")


@pytest.mark.parametrize(
    "id", ["a/b", "", ".", "..", "__x__", "x" * 5000, "a\x00b", "\ud800", 7, None, nested(100_000), {}]
)
def test_a_dead_letter_is_kept_whatever_its_number_is(id: Any) -> None:
    one = world()
    letter = {"message": {"data": "e30=", "messageId": id}}
    one.receive("dead_letters", letter)
    assert len(rejected(one)) == 1


@pytest.mark.parametrize(("delivery", "_says"), [e[1:] for e in ENVELOPES], ids=[e[0] for e in ENVELOPES])
def test_a_dead_letter_is_kept_whatever_it_is(delivery: Any, _says: str) -> None:
    one = world()
    before = everything_but_the_rejected(one)
    one.receive("dead_letters", delivery)
    assert len(rejected(one)) == 1
    assert everything_but_the_rejected(one) == before


@pytest.mark.parametrize("source", [nested(100_000), "\ud800", "a/b/c/" + "x" * 5000, "\x1b[2J", 5])
def test_a_dead_letter_is_kept_whatever_it_says_of_where_it_comes_from(source: Any) -> None:
    one = world()
    letter = {"message": {"data": "e30=", "attributes": {"CloudPubSubDeadLetterSourceSubscription": source}}}
    one.receive("dead_letters", letter)
    (kept,) = rejected(one)
    assert kept["function"].isprintable()


# --- anything at all ----------------------------------------------------------------------------------------------

WORDS = st.sampled_from(
    [
        "tick",
        "nudge",
        "create.requested",
        "create.batch",
        "discover.batch",
        "acme",
        "_system",
        "x",
        "",
        "\x00",
        "\u202e",
    ]
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | WORDS
FIELDS = st.sampled_from(["type", "schema", "id", "tenant", "tenants", "points", "point", "data", "instance", "reason"])
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(FIELDS | st.text(max_size=5), inner, max_size=6),
    max_leaves=20,
)


def is_understood(delivery: Any) -> bool:
    try:
        decode(delivery)
    except BadMessage:
        return False
    return True


@settings(max_examples=200)
@given(body=st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_no_body_gets_out_of_a_function_or_changes_anything(body: bytes) -> None:
    one = World()
    for function in FUNCTIONS:
        one.receive(function, envelope(body))
    if not is_understood(envelope(body)):
        assert everything_but_the_rejected(one) == {}
        assert {data["kind"] for data in rejected(one)} == {"rejected", "dead_letter"}


ANYTHING = st.recursive(
    LEAVES | st.binary(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["message", "data", "attributes", "messageId", "subscription"])
            | st.integers()
            | st.text(max_size=4),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)


@settings(max_examples=200)
@given(delivery=ANYTHING)
def test_no_envelope_gets_out_of_a_function_or_changes_anything(delivery: Any) -> None:
    one = World()
    for function in FUNCTIONS:
        one.receive(function, delivery)
    if not is_understood(delivery):
        assert everything_but_the_rejected(one) == {}


@settings(max_examples=200)
@given(tenant=WORDS | st.text(max_size=31), instance=WORDS | st.text(max_size=64), key=st.text(max_size=201))
def test_a_request_names_only_what_it_may(tenant: str, instance: str, key: str) -> None:
    body = dumped(tenant=tenant, id=key, data={"instance": instance})
    try:
        message = decode(envelope(body))
    except BadMessage as bad:
        refusal = bad.reason
    else:
        assert isinstance(message, CreateRequested)
        assert message.tenant.isascii()
        assert "/" not in message.tenant + message.data.instance
        return
    assert refusal.isprintable()


# --- what is understood -------------------------------------------------------------------------------------------


def test_fields_that_are_not_known_are_ignored_so_that_publishers_may_add_some() -> None:
    assert decode(envelope(b'{"schema":1,"type":"tick","since":[1,{"x":null}],"y":1e400}')) == Tick()


def test_of_two_fields_of_one_name_nothing_worse_than_one_of_them_is_taken() -> None:
    body = dumped().replace(b'"tenant": "acme"', b'"tenant": "acme", "tenant": "nobody"')
    assert "nobody" in refuse(envelope(body))["reason"]


def test_a_nudge_may_name_tenants_and_the_chain_of_acts_of_none() -> None:
    assert decode(envelope(b'{"type":"nudge","tenants":["acme","_system"]}')) == Nudge(tenants=["acme", "_system"])
    with pytest.raises(BadMessage):
        decode(envelope(b'{"type":"nudge","tenants":["_other"]}'))
    with pytest.raises(BadMessage):
        decode(envelope(b'{"type":"nudge","tenants":["a/b"]}'))


@pytest.mark.parametrize("function", ["audit", "health"])
def test_a_nudge_for_a_tenant_that_does_not_exist_does_nothing(function: str) -> None:
    one = World()
    one.hand(function, Nudge(tenants=["nobody", "_system"]))
    assert one.memory.dump() == {}


def test_a_discovery_of_a_tenant_that_does_not_exist_does_nothing() -> None:
    one = World()
    one.hand("discover", messages.DiscoverBatch(tenants=["nobody"]))
    assert one.memory.dump() == {}
    assert one.compute.calls == []


def test_what_is_encoded_is_what_is_decoded() -> None:
    for message in (
        Tick(),
        Nudge(tenants=["acme"]),
        messages.DiscoverBatch(tenants=["acme"]),
        messages.CreateBatch(points=[messages.PointRef("acme", "20261101-s-acme-pam-1-0badcafe")]),
    ):
        assert decode(envelope(encode(message))) == message


def test_a_tick_that_was_carried_out_leaves_its_time() -> None:
    one = World()
    one.hand("plan", b'{"schema":1,"type":"tick"}')
    (tick,) = [data for path, data in one.memory.dump().items() if path == "system/tick-plan"]
    assert tick["at"] == THEN


def test_base64_of_exactly_the_bound_is_read() -> None:
    body = b'{"type":"tick","x":"' + b"x" * (messages.MESSAGE_BYTES_MAX - 22) + b'"}'
    assert len(body) == messages.MESSAGE_BYTES_MAX
    assert decode({"message": {"data": base64.b64encode(body).decode()}}) == Tick()

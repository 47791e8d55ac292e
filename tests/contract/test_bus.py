"""One suite for every Bus: the one in memory, and Cloud Pub/Sub on Google's emulator."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Any

import pytest
from google.api_core.exceptions import InvalidArgument
from tests.contract.conftest import ATTEMPTS_MAX, DEAD_LETTERS, Broker
from tests.contract.losses import ALWAYS, Losses

from snapkeep import messages
from snapkeep.ports import Transient

CREATE = "snapkeep-create"


class Function:
    """A handler that remembers what reached it, and raises as often as it is told to."""

    def __init__(self, *, faults: int = 0) -> None:
        self.received: list[dict[str, Any]] = []
        self._faults = faults

    def __call__(self, envelope: dict[str, Any]) -> None:
        self.received.append(envelope)
        if len(self.received) <= self._faults:
            raise RuntimeError("not now")

    @property
    def bodies(self) -> list[bytes]:
        return [base64.b64decode(envelope["message"]["data"]) for envelope in self.received]

    @property
    def ids(self) -> set[str]:
        return {envelope["message"]["messageId"] for envelope in self.received}


def test_what_is_published_is_pushed_to_the_topics_subscription(broker: Broker, project: str) -> None:
    function = Function()
    broker.subscribe(CREATE, function)
    broker.bus.publish(CREATE, b'{"schema":1,"type":"tick"}')
    broker.settle(lambda: bool(function.received))
    (envelope,) = function.received
    assert envelope["subscription"] == f"projects/{project}/subscriptions/{CREATE}"
    message = envelope["message"]
    assert message["attributes"] == {}
    assert message["messageId"] == message["message_id"] != ""
    assert message["publishTime"] == message["publish_time"]
    assert message["publishTime"].endswith("Z")
    assert datetime.fromisoformat(message["publishTime"]).tzinfo is not None
    assert messages.decode(envelope) == messages.Tick()


def test_a_body_arrives_byte_for_byte(broker: Broker) -> None:
    function = Function()
    broker.subscribe(CREATE, function)
    body = bytes(range(256)) + "ação".encode()
    broker.bus.publish(CREATE, body)
    broker.settle(lambda: bool(function.received))
    assert function.bodies == [body]


def test_every_message_of_many_arrives_under_an_id_of_its_own(broker: Broker) -> None:
    function = Function()
    broker.subscribe(CREATE, function)
    bodies = {b"%d" % number for number in range(20)}
    for body in sorted(bodies):
        broker.bus.publish(CREATE, body)
    broker.settle(lambda: len(function.received) >= len(bodies))
    assert set(function.bodies) == bodies
    assert len(function.ids) == len(bodies)


def test_a_message_goes_to_its_own_topic_only(broker: Broker) -> None:
    creating, discovering = Function(), Function()
    broker.subscribe(CREATE, creating)
    broker.subscribe("snapkeep-discover", discovering)
    broker.bus.publish("snapkeep-discover", b"discover")
    broker.bus.publish(CREATE, b"create")
    broker.settle(lambda: bool(creating.received and discovering.received))
    assert (creating.bodies, discovering.bodies) == ([b"create"], [b"discover"])


def test_a_message_that_is_refused_comes_again_as_the_same_message(broker: Broker) -> None:
    function = Function(faults=1)
    broker.subscribe(CREATE, function)
    broker.bus.publish(CREATE, b"again")
    broker.settle(lambda: len(function.received) >= 2)
    first, second = function.received
    assert first["message"] == second["message"]


def test_after_its_last_attempt_a_message_is_among_the_dead_letters(broker: Broker, project: str) -> None:
    function, dead_letters = Function(faults=ATTEMPTS_MAX), Function()
    broker.subscribe(DEAD_LETTERS, dead_letters)
    broker.subscribe(CREATE, function)
    broker.bus.publish(CREATE, b"never")
    broker.settle(lambda: bool(dead_letters.received))
    assert len(function.received) == ATTEMPTS_MAX
    assert dead_letters.bodies == [b"never"]
    (envelope,) = dead_letters.received
    attributes = envelope["message"]["attributes"]
    assert attributes["CloudPubSubDeadLetterSourceDeliveryCount"] == str(ATTEMPTS_MAX)
    assert attributes["CloudPubSubDeadLetterSourceSubscription"] == CREATE
    assert attributes["CloudPubSubDeadLetterSourceSubscriptionProject"] == project
    published_at = attributes["CloudPubSubDeadLetterSourceTopicPublishTime"]
    assert datetime.fromisoformat(published_at) == datetime.fromisoformat(
        function.received[0]["message"]["publishTime"]
    )
    assert messages.decode_dead_letter(envelope).source == CREATE


def test_a_message_whose_answer_is_lost_arrives_all_the_same(broker: Broker, losses: Losses) -> None:
    function = Function()
    broker.subscribe(CREATE, function)
    losses.answers = ALWAYS
    with pytest.raises(Transient):
        broker.bus.publish(CREATE, b"unknown")
    losses.answers = 0
    broker.bus.publish(CREATE, b"known")
    broker.settle(lambda: set(function.bodies) == {b"unknown", b"known"})


def test_a_message_that_is_lost_on_its_way_is_transient_and_never_arrives(broker: Broker, losses: Losses) -> None:
    function = Function()
    broker.subscribe(CREATE, function)
    losses.calls = ALWAYS
    with pytest.raises(Transient):
        broker.bus.publish(CREATE, b"lost")
    losses.calls = 0
    for body in (b"first", b"second"):
        broker.bus.publish(CREATE, body)
    broker.settle(lambda: len(function.received) >= 2)
    assert set(function.bodies) == {b"first", b"second"}


def test_an_empty_body_is_refused(broker: Broker) -> None:
    broker.subscribe(CREATE, Function())
    with pytest.raises((ValueError, InvalidArgument)):
        broker.bus.publish(CREATE, b"")

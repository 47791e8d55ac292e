"""Pub/Sub's part of the local cloud: topics, push subscriptions, and an account of which messages are on their way.

The runner stands on both sides of the emulator. Functions publish through `Broker.address` and are pushed to through
`Broker.push`, so it is known exactly which messages nobody has answered yet: simulated time waits for them.
"""

from __future__ import annotations

import http.client
import itertools
import json
import logging
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import grpc  # type: ignore[import-untyped]  # no py.typed
from google.api_core import exceptions as errors
from google.api_core.retry import Retry, if_exception_type
from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient  # type: ignore[import-untyped]  # no py.typed
from google.pubsub_v1.types import PublishRequest, PublishResponse, Subscription

from snapkeep.deployment import Delivery, Deployment, deployment
from snapkeep.ports import Transient
from snapkeep_local import schedule
from snapkeep_local.schedule import Function

log: Final = logging.getLogger(__name__)

HOST: Final = "127.0.0.1"
PUBLISHER: Final = "google.pubsub.v1.Publisher"
CALL_TIMEOUT_S: Final = 30.0
"""One call to the emulator."""

AGAIN: Final = Retry(predicate=if_exception_type(errors.ServiceUnavailable), timeout=10.0)
"""How topics and subscriptions are asked for: the client's own retries would go on for ten minutes."""

FRONT_THREADS: Final = 8
FRONT_STOP_S: Final = 1.0

REMEMBERED_MAX: Final = 10_000
"""Answered messages that are remembered, to know them when word of their publication comes late."""

LOSE_ANSWERS_MAX: Final = 1000
"""Of one function, to be lost: each of them is a delivery more."""

ACKNOWLEDGES: Final = (102, 200, 201, 202, 204)
"""The HTTP statuses that Pub/Sub takes for an acknowledgement."""

BAD_GATEWAY: Final = 502
GATEWAY_TIMEOUT: Final = 504

SETTLED: Final = ("ack_deadline_seconds", "dead_letter_policy", "message_retention_duration", "retry_policy")
"""What of a subscription infra/functions.yaml says."""

Key = tuple[str, str]
"""A message: the short name of its topic, and the id that the broker gave it."""


@dataclass(frozen=True, slots=True)
class Count:
    """Deliveries of one topic so far."""

    delivered: int
    failed: int  # answered with an error: they come again, and in the end go to the dead letters
    in_flight: int
    unsettled: int = 0  # messages that failed and were not answered well since: to come again, or dead letters


class Ledger:
    """Which messages are on their way: published and not answered yet. Safe for threads.

    A message that was answered with an error is not: the broker brings it again when its backoff is over.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._expected: set[Key] = set()
        self._in_flight: Counter[Key] = Counter()
        self._given_up: set[Key] = set()
        self._answered: OrderedDict[Key, None] = OrderedDict()
        self._unsettled: OrderedDict[Key, None] = OrderedDict()
        self._delivered: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()

    def published(self, topic: str, ids: Iterable[str]) -> None:
        with self._changed:
            # The push may have been faster than the broker's answer to the publisher.
            self._expected.update((topic, id) for id in ids if (topic, id) not in self._answered)

    def arrived(self, topic: str, id: str) -> None:
        with self._changed:
            self._in_flight[topic, id] += 1

    def answered(self, topic: str, id: str, *, well: bool) -> None:
        key = (topic, id)
        with self._changed:
            self._in_flight[key] -= 1
            if self._in_flight[key] <= 0:
                del self._in_flight[key]
                self._given_up.discard(key)
            self._expected.discard(key)
            self._answered[key] = None
            if len(self._answered) > REMEMBERED_MAX:
                self._answered.popitem(last=False)
            self._unsettled.pop(key, None)
            if not well:
                self._unsettled[key] = None
                if len(self._unsettled) > REMEMBERED_MAX:
                    self._unsettled.popitem(last=False)
            (self._delivered if well else self._failed)[topic] += 1
            self._changed.notify_all()

    def wait_quiet(self, timeout_s: float) -> int:
        """Return once nothing is on its way: 0, or after `timeout_s` how many messages still are.

        Those are not waited for again.
        """
        with self._changed:
            if self._changed.wait_for(lambda: not self._waiting(), timeout_s):
                return 0
            late = self._waiting()
            self._expected -= late
            self._given_up |= self._in_flight.keys()
            return len(late)

    def busy(self, topic: str) -> bool:
        """Whether a message of the topic is being handled now."""
        with self._changed:
            return any(of == topic for of, _ in self._in_flight)

    def count(self, topic: str) -> Count:
        with self._changed:
            in_flight = sum(number for (of, _), number in self._in_flight.items() if of == topic)
            unsettled = sum(of == topic for of, _ in self._unsettled)
            return Count(self._delivered[topic], self._failed[topic], in_flight, unsettled)

    def _waiting(self) -> set[Key]:
        return (self._expected | self._in_flight.keys()) - self._given_up


class Broker:
    """The Pub/Sub emulator with Snapkeep's topics and subscriptions, and the gateway on both of its sides."""

    def __init__(self, emulator: str, project: str, gateway: str, ports: Mapping[str, int]) -> None:
        """`emulator` is its HOST:PORT, `gateway` the URL below which pushes come in, `ports` each function's own."""
        self.ledger = Ledger()
        self._project = project
        self._gateway = gateway
        self._ports = ports
        self._timeouts = {name: one.timeout_s for name, one in deployment().functions.items()}
        self._holding = False
        self._losing: Counter[str] = Counter()  # by function
        self._losing_lock = threading.Lock()
        self._channel = grpc.insecure_channel(emulator)
        self._publish = self._channel.unary_unary(f"/{PUBLISHER}/Publish")
        self._subscriber: Any = None
        self._pushed: dict[str, str] = {}  # topic -> function
        self._topics: list[str] = []
        self._wanted: list[dict[str, Any]] = []  # subscriptions, as they are asked for
        self._looks = itertools.count()
        self._front = grpc.server(ThreadPoolExecutor(FRONT_THREADS, thread_name_prefix="publish"))
        handler = grpc.unary_unary_rpc_method_handler(self._pass_on)  # without codecs: bytes in, bytes out
        self._front.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(PUBLISHER, {"Publish": handler})])
        self.address = f"{HOST}:{self._front.add_insecure_port(f'{HOST}:0')}"
        """Where functions publish: as PUBSUB_EMULATOR_HOST is to hold it."""

    def start(self, functions: Iterable[Function], deployed: Deployment) -> None:
        """Make the topics and subscriptions of infra/functions.yaml and begin to take messages.

        PUBSUB_EMULATOR_HOST must name the emulator. What an emulator that ran before already has is taken over, with
        the messages that wait there, and put right where it is not as it should be.
        """
        delivery = deployed.subscription
        self._subscriber = SubscriberClient()
        functions = list(functions)
        dead_letters = delivery.dead_letter_topic
        self._topics = sorted({*(f.topic for f in functions), *deployed.topics_out, dead_letters})
        for function in functions:
            self._pushed[function.topic] = function.name
            request = self._subscription(function.topic, delivery)
            request["push_config"] = {"push_endpoint": self._endpoint(function.topic)}
            if function.topic != dead_letters:
                request["dead_letter_policy"] = {
                    "dead_letter_topic": self._topic(dead_letters),
                    "max_delivery_attempts": delivery.max_delivery_attempts,
                }
            self._wanted.append(request)
        # Without a subscription nobody could ever read what goes out; pulled by whoever wants to.
        self._wanted += [self._subscription(topic, delivery) for topic in deployed.topics_out]
        self._declare()
        self._front.start()

    def mend(self) -> list[str]:
        """Make again what topics and subscriptions are missing, put right what is not as it should be, and name them.

        Raises Transient.
        """
        try:
            return self._declare()
        except (errors.GoogleAPICallError, errors.RetryError) as fault:
            raise Transient(f"the Pub/Sub emulator: {fault.message}; `snapkeep up` starts another") from fault

    def _declare(self) -> list[str]:
        """What was made or put right."""
        mended = []
        publisher = PublisherClient()
        for topic in self._topics:
            try:
                publisher.create_topic(name=self._topic(topic), retry=AGAIN, timeout=CALL_TIMEOUT_S)
                mended.append(self._topic(topic))
            except errors.AlreadyExists:
                log.debug("topic %s is there already", topic)
        publisher.stop()
        return mended + [request["name"] for request in self._wanted if self._subscribe(request)]

    def _subscription(self, topic: str, delivery: Delivery) -> dict[str, Any]:
        return {
            "name": self._subscription_name(topic),
            "topic": self._topic(topic),
            "ack_deadline_seconds": delivery.ack_deadline_s,
            "message_retention_duration": timedelta(days=delivery.retention_days),
            "retry_policy": {
                "minimum_backoff": timedelta(seconds=delivery.retry_min_s),
                "maximum_backoff": timedelta(seconds=delivery.retry_max_s),
            },
        }

    def _subscribe(self, request: dict[str, Any]) -> bool:
        """Have this subscription be there as it should; whether it was not."""
        name = request["name"]
        try:
            self._subscriber.create_subscription(request=request, retry=AGAIN, timeout=CALL_TIMEOUT_S)
        except errors.AlreadyExists:
            wanted = Subscription(request)
            found = self._subscriber.get_subscription(subscription=name, retry=AGAIN, timeout=CALL_TIMEOUT_S)
            if found.topic != wanted.topic:
                # That of a topic which was deleted hears nothing any more.
                self._subscriber.delete_subscription(subscription=name, retry=AGAIN, timeout=CALL_TIMEOUT_S)
                return self._subscribe(request)
            wrong = [field for field in SETTLED if getattr(found, field) != getattr(wanted, field)]
            if wrong:
                update = {"subscription": wanted, "update_mask": {"paths": wrong}}
                self._subscriber.update_subscription(request=update, retry=AGAIN, timeout=CALL_TIMEOUT_S)
            # It pushes to a gateway that is gone, was told to wait for one, or pushes to nobody.
            if "push_config" in request:
                self._point(name, request["push_config"])
            return bool(wrong) or (not found.push_config.push_endpoint and "push_config" in request)
        return True

    def _point(self, subscription: str, push_config: Mapping[str, str]) -> None:
        self._subscriber.modify_push_config(subscription=subscription, push_config=push_config, timeout=CALL_TIMEOUT_S)

    def forget(self) -> None:
        """Delete Snapkeep's subscriptions, with the messages that wait there.

        PUBSUB_EMULATOR_HOST must name the emulator.
        """
        topics = {*(function.topic for function in schedule.functions()), *deployment().topics_out}
        with SubscriberClient() as subscriber:
            for topic in sorted(topics):
                with suppress(errors.NotFound):
                    name = self._subscription_name(topic)
                    subscriber.delete_subscription(subscription=name, retry=AGAIN, timeout=CALL_TIMEOUT_S)

    def hold(self) -> None:
        """Have the emulator keep what comes from now on until the next `start`: pushed to nobody, it would die."""
        self._holding = True
        for topic in self._pushed:
            try:
                self._point(self._subscription_name(topic), {})
            except errors.GoogleAPICallError as fault:
                log.warning("%s goes on pushing: %s", topic, fault)

    def stop(self) -> None:
        self._front.stop(FRONT_STOP_S).wait(FRONT_STOP_S)
        self._channel.close()

    # --- publishing -----------------------------------------------------------------------------------------------

    def publish(self, topic: str, body: bytes) -> None:
        """Publish a message of the runner's own: `snapkeep.ports.Bus`. Raises Transient."""
        request = PublishRequest(topic=self._topic(topic), messages=[{"data": body}])
        try:
            self._forward(PublishRequest.serialize(request), CALL_TIMEOUT_S)
        except grpc.RpcError as fault:
            raise Transient(f"{topic}: {fault.details()}") from fault

    def _pass_on(self, request: bytes, context: Any) -> bytes:
        left_s = context.time_remaining()
        try:
            return self._forward(request, CALL_TIMEOUT_S if left_s is None else min(left_s, CALL_TIMEOUT_S))
        except grpc.RpcError as refusal:
            context.abort(refusal.code(), refusal.details())
            raise AssertionError("abort raises") from refusal

    def _forward(self, request: bytes, timeout_s: float) -> bytes:
        answer: bytes = self._publish(request, timeout=timeout_s)
        topic = str(PublishRequest.deserialize(request).topic).rsplit("/", 1)[-1]
        if topic in self._pushed:
            self.ledger.published(topic, PublishResponse.deserialize(answer).message_ids)
            self._hurry(topic)
        return answer

    def _hurry(self, topic: str) -> None:
        """Have the emulator look for messages of the topic now.

        It looks every 100 ms, and at once when a subscription's push endpoint changes or a push has been answered.
        A simulated day is 2,700 messages one after the other: five minutes of waiting, or ten seconds.
        """
        if self._holding or self.ledger.busy(topic):
            return
        endpoint = f"{self._endpoint(topic)}?look={next(self._looks) % 2}"
        try:
            self._point(self._subscription_name(topic), {"push_endpoint": endpoint})
        except errors.GoogleAPICallError as fault:
            log.info("%s waits for the emulator's next look: %s", topic, fault)

    def _endpoint(self, topic: str) -> str:
        # functions-framework learns the topic from a path that ends like this.
        return f"{self._gateway}/{self._pushed[topic]}/{self._topic(topic)}"

    def _topic(self, topic: str) -> str:
        return f"projects/{self._project}/topics/{topic}"

    def _subscription_name(self, topic: str) -> str:
        # As Terraform names them; a dead letter carries this name as its source.
        return f"projects/{self._project}/subscriptions/{topic}"

    # --- pushing --------------------------------------------------------------------------------------------------

    def lose_answers(self, function: str, number: int) -> None:
        """Have the function's next so many good answers get lost on their way: its work is done, and comes again.

        Replaces what was asked before; 0 loses none. Raises ValueError for a function that takes no messages and for
        a number that is not from 0 to LOSE_ANSWERS_MAX.
        """
        names = [one.name for one in schedule.functions()]
        if function not in names:
            raise ValueError(f"function: {function!r} is none of {', '.join(names)}")
        if not 0 <= number <= LOSE_ANSWERS_MAX:
            raise ValueError(f"lose_answers: {number} is not from 0 to {LOSE_ANSWERS_MAX}")
        with self._losing_lock:
            self._losing[function] = number

    def losing(self, function: str) -> int:
        """How many of the function's good answers are still to be lost."""
        with self._losing_lock:
            return self._losing[function]

    def _lose(self, function: str) -> bool:
        with self._losing_lock:
            lost = self._losing[function] > 0
            self._losing[function] -= lost
            return lost

    def push(self, function: str, topic: str, body: bytes) -> int:
        """Hand a push on to its function and return the HTTP status that it answers.

        502 or 504 if it does not answer, and where its answer is to be lost.
        """
        id = _message_id(body)
        short = topic.rsplit("/", 1)[-1]
        self.ledger.arrived(short, id)
        status = BAD_GATEWAY
        began = time.monotonic()
        try:
            status = self._hand_on(function, topic, body)
            if status in ACKNOWLEDGES and self._lose(function):
                log.info("the answer of %s to message %s is lost, as was asked for", function, id)
                status = GATEWAY_TIMEOUT
        finally:
            well = status in ACKNOWLEDGES
            if not well:
                took_s = time.monotonic() - began
                log.warning("%s answered %d to message %s after %.1f s", function, status, id, took_s)
            self.ledger.answered(short, id, well=well)
        return status

    def _hand_on(self, function: str, topic: str, body: bytes) -> int:
        connection = http.client.HTTPConnection(HOST, self._ports[function], timeout=self._timeouts[function])
        try:
            connection.request("POST", f"/{topic}", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
        except TimeoutError:
            return GATEWAY_TIMEOUT
        except (OSError, http.client.HTTPException):
            return BAD_GATEWAY  # the process has died, or is on its way back
        else:
            return answer.status
        finally:
            connection.close()


def _message_id(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"]["messageId"])
    except (ValueError, KeyError, TypeError):
        return ""

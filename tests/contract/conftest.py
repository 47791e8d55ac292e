"""What both suites run on: the cloud in memory, and Google's own emulators through Snapkeep's adapters.

The emulators are started once in each test process that needs them.
"""

from __future__ import annotations

import json
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

import pytest
from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient  # type: ignore[import-untyped]  # no py.typed
from tests.contract.clouds import Side, fleet, reached
from tests.contract.losses import Losses, LossyBus, LossyDocuments, wire
from tests.servers import running

from snapkeep.gcp.firestore import GoogleDocuments
from snapkeep.gcp.pubsub import GoogleBus
from snapkeep.ports import Bus, Documents
from snapkeep_local import emulators
from snapkeep_local.memory import MemoryBus, MemoryDocuments

DELIVERY_TIMEOUT_S = 60.0
"""Until a message or a dead letter has come from the emulator, which chooses its own backoff (about 3 s)."""

CALLS_TIMEOUT_S = 1.0
"""In place of half a minute: tests of what lasts wait for it to pass."""

ATTEMPTS_MAX = 5
"""Deliveries before a dead letter: the least that Pub/Sub takes."""

DEAD_LETTERS = "snapkeep-dead-letters"

ON_MEMORY = pytest.param("memory")
ON_EMULATORS = pytest.param("emulator", marks=pytest.mark.e2e)


@contextmanager
def variable(name: str, value: str) -> Iterator[None]:
    """The environment with one variable set."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@pytest.fixture(scope="session")
def firestore_emulator(emulators_installed: None) -> Iterator[emulators.Emulator]:
    with emulators.firestore() as emulator:
        yield emulator


@pytest.fixture(scope="session")
def pubsub_emulator(emulators_installed: None) -> Iterator[emulators.Emulator]:
    with emulators.pubsub() as emulator:
        yield emulator


@pytest.fixture
def project() -> str:
    """A project of its own for each test: nothing of another test is in it."""
    return f"demo-{uuid.uuid4().hex[:20]}"


# --- clouds -------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["local", "google"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def side(way: str) -> Iterator[Side]:
    with reached(way, fleet()) as one:
        yield one


# --- documents ---------------------------------------------------------------------------------------------------


class Advancing:
    """A clock that is a second later each time it is asked."""

    def __init__(self) -> None:
        self.at = datetime(2026, 3, 1, 2, 30, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.at += timedelta(seconds=1)
        return self.at


@pytest.fixture(params=[ON_MEMORY, ON_EMULATORS])
def documents(request: pytest.FixtureRequest, project: str) -> Iterator[Documents]:
    if request.param == "memory":
        yield MemoryDocuments(Advancing())
        return
    emulator: emulators.Emulator = request.getfixturevalue("firestore_emulator")
    with variable(emulator.variable, emulator.address):
        yield GoogleDocuments(project, "(default)")


@pytest.fixture
def losses() -> Losses:
    return Losses()


@pytest.fixture(params=[ON_MEMORY, ON_EMULATORS])
def lossy_documents(request: pytest.FixtureRequest, project: str, losses: Losses) -> Iterator[Documents]:
    """Documents to which `losses` happen."""
    if request.param == "memory":
        yield LossyDocuments(MemoryDocuments(Advancing()), losses)
        return
    emulator: emulators.Emulator = request.getfixturevalue("firestore_emulator")
    with wire(emulator.address, losses) as address, variable(emulator.variable, address):
        yield GoogleDocuments(project, "(default)", calls_timeout_s=CALLS_TIMEOUT_S)


# --- messages ----------------------------------------------------------------------------------------------------

Handler = Callable[[dict[str, Any]], None]


class Broker(Protocol):
    """A bus under test, and what Terraform and the platform do around it."""

    @property
    def bus(self) -> Bus: ...

    def subscribe(self, topic: str, handler: Handler) -> None:
        """A topic with one push subscription, with dead letters after ATTEMPTS_MAX unless it is theirs."""
        ...

    def settle(self, done: Callable[[], bool]) -> None:
        """Let messages be delivered until it is so. Raises AssertionError when it does not come to that."""
        ...


@dataclass
class InMemory:
    project: str
    losses: Losses
    at: datetime = datetime(2026, 3, 1, 2, 30, tzinfo=UTC)
    bus: Bus = field(init=False)

    def __post_init__(self) -> None:
        self._queue = MemoryBus(lambda: self.at, project=self.project, max_attempts=ATTEMPTS_MAX)
        self.bus = LossyBus(self._queue, self.losses)

    def subscribe(self, topic: str, handler: Handler) -> None:
        self._queue.subscribe(topic, handler)

    def settle(self, done: Callable[[], bool]) -> None:
        while not done():
            due = self._queue.next_due()
            assert due is not None, "nothing is left to deliver"
            self.at = max(self.at, due)
            self._queue.deliver_next()


@dataclass
class OnEmulator:
    project: str
    endpoint: str  # of the server that pushes come to
    handlers: dict[str, Handler]
    came: threading.Condition
    bus: Bus = field(init=False)

    def __post_init__(self) -> None:
        self.bus = GoogleBus(self.project, calls_timeout_s=CALLS_TIMEOUT_S)
        self._publisher = PublisherClient()
        self._subscriber = SubscriberClient()
        self._subscriptions: list[str] = []
        # A subscription can only name a dead-letter topic that exists.
        self._publisher.create_topic(name=f"projects/{self.project}/topics/{DEAD_LETTERS}")

    def subscribe(self, topic: str, handler: Handler) -> None:
        name = f"projects/{self.project}/topics/{topic}"
        self.handlers[f"/{name}"] = handler
        subscription = f"projects/{self.project}/subscriptions/{topic}"
        request: dict[str, Any] = {
            "name": subscription,
            "topic": name,
            "push_config": {"push_endpoint": f"{self.endpoint}/{name}"},
            "retry_policy": {"minimum_backoff": timedelta(seconds=0.1), "maximum_backoff": timedelta(seconds=0.2)},
        }
        if topic != DEAD_LETTERS:
            self._publisher.create_topic(name=name)
            request["dead_letter_policy"] = {
                "dead_letter_topic": f"projects/{self.project}/topics/{DEAD_LETTERS}",
                "max_delivery_attempts": ATTEMPTS_MAX,
            }
        self._subscriber.create_subscription(request=request)
        self._subscriptions.append(subscription)

    def settle(self, done: Callable[[], bool]) -> None:
        with self.came:
            assert self.came.wait_for(done, DELIVERY_TIMEOUT_S), f"not within {DELIVERY_TIMEOUT_S:.0f} s"

    def close(self) -> None:
        # Deleted, so that the emulator pushes nothing to a server that is gone.
        for subscription in self._subscriptions:
            self._subscriber.delete_subscription(subscription=subscription)
        self._subscriber.close()
        self._publisher.stop()


@contextmanager
def push_server(handlers: dict[str, Handler], came: threading.Condition) -> Iterator[str]:
    """A server that answers a push as the platform does: 204, or 500 when the handler raised. Yields its root URL."""

    class Pushes(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with came:
                try:
                    handlers[self.path](body)
                    status = 204
                except RuntimeError:
                    status = 500
                came.notify_all()
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing: a failed delivery is what some of these tests are about."""

    with running(ThreadingHTTPServer(("127.0.0.1", 0), Pushes)) as url:
        yield url


@pytest.fixture(params=[ON_MEMORY, ON_EMULATORS])
def broker(request: pytest.FixtureRequest, project: str, losses: Losses) -> Iterator[Broker]:
    """A broker; `losses` happen to what is published."""
    if request.param == "memory":
        yield InMemory(project, losses)
        return
    emulator: emulators.Emulator = request.getfixturevalue("pubsub_emulator")
    handlers: dict[str, Handler] = {}
    came = threading.Condition()
    front = wire(emulator.address, losses)
    with front as address, variable(emulator.variable, address), push_server(handlers, came) as endpoint:
        broker = OnEmulator(project, endpoint, handlers, came)
        try:
            yield broker
        finally:
            broker.close()

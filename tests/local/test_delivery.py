"""What the gateway of pushes makes of a function's answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import flask
import pytest
from tests.servers import running

from snapkeep_local import schedule
from snapkeep_local.delivery import LOSE_ANSWERS_MAX, Broker
from snapkeep_local.emulators import free_port
from snapkeep_local.guard import Guard
from snapkeep_local.nursery import Nursery
from snapkeep_local.processes import Processes, Program
from snapkeep_local.runner import add_controls
from snapkeep_local.timekeeper import System

TOPIC = "projects/snapkeep-local/topics/snapkeep-create"


class Function:
    """The function `create`: counts the messages that it did the work of, and answers as it is told."""

    def __init__(self) -> None:
        self.port = 0
        self.status = 204
        self.done: list[str] = []


@pytest.fixture
def create() -> Iterator[Function]:
    function = Function()

    class Pushes(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            function.done.append(body["message"]["messageId"])
            self.send_response(function.status)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Pushes)
    function.port = server.server_port
    with running(server):
        yield function


@pytest.fixture
def broker(create: Function) -> Iterator[Broker]:
    """Nothing is published here, so that no emulator is needed."""
    ports = {function.name: create.port for function in schedule.processes()}
    broker = Broker(f"127.0.0.1:{free_port()}", "snapkeep-local", "http://127.0.0.1:0/_push", ports)
    yield broker
    broker.stop()


def push(broker: Broker, id: str) -> int:
    return broker.push("create", TOPIC, json.dumps({"message": {"messageId": id, "data": ""}}).encode())


def test_lost_answers_are_of_work_that_was_done_and_are_counted_as_failed(broker: Broker, create: Function) -> None:
    broker.lose_answers("create", 2)
    assert [push(broker, id) for id in ("1", "2", "1")] == [504, 504, 204]
    assert broker.ledger.count("snapkeep-create").unsettled == 1
    assert push(broker, "2") == 204
    assert create.done == ["1", "2", "1", "2"]
    count = broker.ledger.count("snapkeep-create")
    assert (count.delivered, count.failed, count.in_flight, count.unsettled) == (2, 2, 0, 0)


def test_an_answer_that_is_a_failure_anyway_is_not_one_of_them(broker: Broker, create: Function) -> None:
    broker.lose_answers("create", 1)
    create.status = 500
    assert push(broker, "1") == 500
    create.status = 204
    assert [push(broker, "1"), push(broker, "1")] == [504, 204]


def test_the_answers_of_other_functions_arrive(broker: Broker) -> None:
    broker.lose_answers("audit", 5)
    assert push(broker, "1") == 204
    assert (broker.losing("audit"), broker.losing("create")) == (5, 0)


# --- the control --------------------------------------------------------------------------------------------------


@pytest.fixture
def client(broker: Broker, tmp_path: Path) -> Any:
    programs = [Program(function.name, (), 0, tmp_path / "log") for function in schedule.processes()]
    app = flask.Flask("controls")
    add_controls(
        app, System(lambda to: None, broker), broker, Processes(programs, Guard(), Nursery({})), {"functions": {}}
    )
    return app.test_client()


def test_the_control_answers_with_the_deliveries(client: Any) -> None:
    done = client.post("/_sim/deliveries", json={"function": "create", "lose_answers": 3})
    assert (done.status_code, done.json) == (200, client.get("/_sim/deliveries").json)
    assert {name: of["lose_answers"] for name, of in done.json.items() if of["lose_answers"]} == {"create": 3}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"function": "created", "lose_answers": 1}, "function: 'created' is none of discover, plan, create"),
        ({"function": "web", "lose_answers": 1}, "function: 'web' is none of discover, plan, create"),
        ({"function": "create", "lose_answers": -1}, "lose_answers: -1 is not from 0 to 1000"),
        ({"function": "create", "lose_answers": LOSE_ANSWERS_MAX + 1}, "lose_answers: 1001 is not from 0 to 1000"),
        ({"function": "create", "lose_answers": True}, 'expected {"function": "create", "lose_answers": 3}'),
        ({"function": "create"}, 'expected {"function": "create", "lose_answers": 3}'),
        (["create"], 'expected {"function": "create", "lose_answers": 3}'),
        (None, 'expected {"function": "create", "lose_answers": 3}'),
    ],
)
def test_what_it_does_not_understand_is_said_in_one_line(client: Any, body: Any, said: str) -> None:
    done = client.post("/_sim/deliveries", json=body)
    assert done.status_code == 400
    assert done.json["error"].startswith(said)
    assert "\n" not in done.json["error"]
    assert all(of["lose_answers"] == 0 for of in client.get("/_sim/deliveries").json.values())

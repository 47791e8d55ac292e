"""What a function loads until its first answer: Google's largest client only where it is used, no client at import.

Each function is run as it is deployed, by the framework from main.py and through wiring, in a process of its own; only
the two adapters that it would meet a server with are replaced by memory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from snapkeep.deployment import deployment

ROOT = Path(__file__).parents[2]
MAIN = ROOT / "functions" / "main.py"
TIMEOUT_S = 60

FUNCTIONS = deployment().functions

PROGRAM = """
import base64, json, sys
from datetime import UTC, datetime

import google.auth
import grpc

made = []

def forbid(where, name):
    real = getattr(where, name)
    def client(*arguments, **options):
        made.append(name)
        return real(*arguments, **options)
    setattr(where, name, client)

for name in ("insecure_channel", "secure_channel"):
    forbid(grpc, name)
forbid(google.auth, "default")

from functions_framework import create_app

source, target, signature = sys.argv[1:]
app = create_app(target, source, signature)
at_import = [name for name in sys.modules if name.startswith(("google.cloud.firestore", "google.cloud.compute"))]
made_at_import = list(made)

import snapkeep.gcp.firestore, snapkeep.gcp.pubsub
from snapkeep_local.memory import MemoryBus, MemoryDocuments

now = lambda: datetime(2026, 11, 22, tzinfo=UTC)
snapkeep.gcp.firestore.GoogleDocuments = lambda *arguments: MemoryDocuments(now)
snapkeep.gcp.pubsub.GoogleBus = lambda *arguments: MemoryBus(now)

with app.test_client() as client:
    if signature == "http":
        answers = [client.get(path) for path in ("/", "/api/v1/fleet", "/api/v1/points")]
    else:
        body = base64.b64encode(b'{"schema":1,"type":"tick"}').decode()
        envelope = {"message": {"data": body, "messageId": "1", "publishTime": "2026-11-22T00:00:00Z"},
                    "subscription": "projects/p/subscriptions/s"}
        answers = [client.post("/projects/p/topics/t", json=envelope)]

print(json.dumps({
    "statuses": [answer.status_code for answer in answers],
    "at_import": at_import,
    "made_at_import": made_at_import,
    "compute": any(name.startswith("google.cloud.compute") for name in sys.modules),
    "made": made,
}))
"""


@lru_cache
def first_answer(name: str) -> dict[str, Any]:
    function = FUNCTIONS[name]
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_EMULATOR_HOST")}
    environment |= {
        "SNAPKEEP_PROJECT": "p",
        "SNAPKEEP_COMPUTE_ENDPOINT": "http://127.0.0.1:1",
        "SNAPKEEP_IAP_AUDIENCE": "/projects/1/global/backendServices/2",
        "PYTHONPATH": os.pathsep.join([str(MAIN.parent), str(ROOT / "infra" / "local")]),
    }
    signature = "cloudevent" if function.topic else "http"
    done = subprocess.run(  # noqa: S603 - the program above
        [sys.executable, "-c", PROGRAM, str(MAIN), function.entry_point, signature],
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


@pytest.mark.parametrize("name", FUNCTIONS)
def test_nothing_of_google_is_loaded_or_made_at_import(name: str) -> None:
    said = first_answer(name)
    assert (said["at_import"], said["made_at_import"]) == ([], [])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_client_of_compute_engine_is_loaded_only_by_functions_that_use_it(name: str) -> None:
    compute = FUNCTIONS[name].compute
    assert first_answer(name)["compute"] == bool(compute.changes or compute.reads)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_first_message_is_answered_on_what_was_wired(name: str) -> None:
    # `create` has no tick: it refuses one for good, and so answers well too. `web` knows nobody without IAP's header.
    assert set(first_answer(name)["statuses"]) == ({200} if FUNCTIONS[name].topic else {401})


@pytest.mark.parametrize("name", [name for name, f in FUNCTIONS.items() if not f.compute.reads])
def test_a_client_is_made_at_its_first_call(name: str) -> None:
    assert first_answer(name)["made"] == []


LEARNING = """
import sys

import msgspec

from snapkeep import documents, messages
from snapkeep.web import routes
from snapkeep_local import rest

asked = [(route.body, route.answer) for route in routes.ROUTES if route.body]
kinds = [*documents.Stored.__subclasses__(), *(kind for pair in asked for kind in pair if kind), rest.FleetChange]
late = []

def look(frame, event, argument):
    if event == "call" and frame.f_code.co_name == "get_class_annotations":
        late.append(kind)

sys.setprofile(look)
for kind in kinds:
    try:
        msgspec.convert({}, kind)
    except msgspec.ValidationError:
        pass
sys.setprofile(None)
print(len(kinds), *late)

class Unknown(msgspec.Struct):
    field: int

kind, late = Unknown, []
sys.setprofile(look)
msgspec.convert({"field": 1}, kind)
sys.setprofile(None)
print(len(late))
"""


def test_every_type_that_is_read_is_learnt_while_one_thread_runs() -> None:
    """Learnt by two at once, as by a process that begins with two messages, one of them ends the process."""
    paths = os.pathsep.join([str(MAIN.parent), str(ROOT / "infra" / "local")])
    done = subprocess.run(  # noqa: S603 - the program above
        [sys.executable, "-c", LEARNING],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    known, unknown = done.stdout.splitlines()
    number, *late = known.split()
    assert int(number) > 20
    assert late == []
    assert unknown == "1", "msgspec learns a type by another function now: this test has to look for that one"

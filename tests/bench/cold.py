"""Part `cold`: from the start of a function's process to its first answered delivery, and what it weighs then.

Each function of infra/functions.yaml is started as `snapkeep up` and the platform start it, under functions-framework,
against a running local cloud, and gets a delivery that leaves it nothing to do: what is measured is the start.
"""

from __future__ import annotations

import base64
import compileall
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.bench import proc
from tests.bench.fleets import Size, fleet_file
from tests.bench.up import Up, up

from snapkeep.deployment import Deployed, deployment
from snapkeep_local import schedule
from snapkeep_local.emulators import HOST, free_port
from snapkeep_local.runner import MAIN, THREADS, WORKERS

START: Final = "2026-10-01T12:00:00Z"
FLEET: Final = Size("apart", 1)
FIRST_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 20.0
POLL_S: Final = 0.005

TENANT: Final = "bench-00000"
"""The only one of FLEET."""

NOBODY: Final = {"tenant": "nobody", "point": "20261001-s-nobody-00000000"}
MESSAGES: Final[dict[str, Any]] = {
    # `create` has no tick: a point that does not exist (any more) is settled by looking for it.
    "create": {"schema": 1, "type": "create.batch", "points": [NOBODY]},
    "copy": {"schema": 1, "type": "copy.batch", "points": [NOBODY]},
    "restore": {
        "schema": 1,
        "type": "restore.batch",
        "restores": [{"tenant": "nobody", "restore": "20261001-d-nobody-00000000"}],
    },
    # So is an instance for `expire`; its tenant is looked up first, and has to be there.
    "expire": {"schema": 1, "type": "expire.batch", "tenant": TENANT, "instances": ["0"]},
}
"""The first delivery of functions that take no tick."""


@dataclass(frozen=True, slots=True)
class Measured:
    function: str
    seconds: float  # the best of all starts
    all_seconds: tuple[float, ...]
    peak_bytes: int
    now_bytes: int


def measure(starts: int) -> list[Measured]:
    """Every function, started so many times. Raises RuntimeError for one that does not answer well."""
    compileall.compile_dir(str(MAIN.parent), quiet=1)  # as a deployed image has it
    with tempfile.TemporaryDirectory() as folder, up(Path(folder), fleet_file(FLEET), START) as cloud:
        return [
            _measure(name, function, cloud, Path(folder), starts) for name, function in deployment().functions.items()
        ]


def _measure(name: str, function: Deployed, cloud: Up, folder: Path, starts: int) -> Measured:
    found = [_start(name, function, cloud, folder) for _ in range(starts)]
    took = tuple(seconds for seconds, _ in found)
    best, used = min(found, key=lambda one: one[0])
    return Measured(name, best, took, used.peak_bytes, used.now_bytes)


def _start(name: str, function: Deployed, cloud: Up, folder: Path) -> tuple[float, proc.Used]:
    port = free_port()
    topic = function.topic
    command = [sys.executable, "-P", "-m", "functions_framework", "--source", str(MAIN)]
    command += ["--target", function.entry_point, "--signature-type", "cloudevent" if topic else "http"]
    command += ["--host", HOST, "--port", str(port)]
    told = cloud.environment() | {"WORKERS": str(WORKERS), "THREADS": str(THREADS)}
    said = folder / f"{name}.log"
    with said.open("wb") as log:
        began = time.monotonic()
        process = subprocess.Popen(  # noqa: S603 - our own command
            command, env=told, stdout=log, stderr=log, start_new_session=True
        )
    try:
        status = _first_answer(port, name, topic, process)
        seconds = time.monotonic() - began
        if status >= http.client.INTERNAL_SERVER_ERROR or (topic and status >= http.client.MULTIPLE_CHOICES):
            raise RuntimeError(f"{name} answered {status}:\n{said.read_text()[-2000:]}")
        return seconds, proc.of_group(process.pid)
    finally:
        _stop(process)


def _first_answer(port: int, name: str, topic: str | None, process: subprocess.Popen[bytes]) -> int:
    pause = threading.Event()
    end = time.monotonic() + FIRST_TIMEOUT_S
    while True:
        connection = http.client.HTTPConnection(HOST, port, timeout=FIRST_TIMEOUT_S)
        try:
            if topic is None:
                connection.request("GET", "/")
            else:
                path = f"/projects/bench/topics/{topic}"
                connection.request("POST", path, envelope(name, topic), {"Content-Type": "application/json"})
            return connection.getresponse().status
        except ConnectionError:
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{name} never answered (its process: {process.poll()})") from None
            pause.wait(POLL_S)
        finally:
            connection.close()


def envelope(name: str, topic: str) -> bytes:
    """The body of the push that is the function's first."""
    message = json.dumps(MESSAGES[name]).encode() if name in MESSAGES else schedule.TICK
    data = base64.b64encode(message).decode()
    when = "2026-10-01T12:00:00.000Z"
    return json.dumps(
        {
            "message": {"data": data, "attributes": {}, "messageId": "1", "publishTime": when},
            "subscription": f"projects/bench/subscriptions/{topic}",
        }
    ).encode()


def _stop(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            continue
    process.wait()

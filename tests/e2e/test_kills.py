"""Every process of every function is killed while points are made, and nothing is lost of the day's work."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from tests.e2e.conftest import Up, alive, descendants, until, up
from tests.e2e.expected import FLEET, Day, Google, NoAttemptFailed, Strangers, google_clients, read_day

from snapkeep_local import schedule

pytestmark = pytest.mark.e2e

START = datetime(2026, 11, 22, 5, tzinfo=UTC)
END = START + timedelta(hours=3, minutes=30)
"""In these hours the points of the Americas are due."""

LAST = timedelta(minutes=30)
"""What is left of the hours after the last kill, for the last points."""

LOOK_S = 0.02
BUSY_S = 1.0
"""How long a function is waited for to have a message in its hands."""

FUNCTIONS = tuple(function.name for function in schedule.processes())

SLICE = timedelta(minutes=(END - START - LAST) // timedelta(minutes=1) // (2 * len(FUNCTIONS)))
"""Of each kill: every function is killed in two ways."""


def leader(cloud: Up, function: str) -> int | None:
    pid = cloud.ask("deliveries")[function]["pid"]
    return None if pid is None else int(pid)


def kill_group(cloud: Up, function: str) -> None:
    """Everything of the function at once, as a machine's end does; `up` starts it again."""
    pid = leader(cloud, function)
    assert pid is not None
    os.killpg(pid, signal.SIGKILL)
    until(lambda: leader(cloud, function) not in (None, pid), f"{function} is started again")


def kill_worker(cloud: Up, function: str) -> None:
    """The process that handles messages, whose parent starts another."""
    pid = leader(cloud, function)
    assert pid is not None
    workers: dict[int, str] = {}

    def found() -> bool:
        workers.update(descendants(pid))
        return bool(workers)

    until(found, f"{function} has a worker")
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    until(lambda: not alive(workers), f"the worker of {function} is gone")


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory, emulators_installed: None) -> Iterator[Up]:
    with up(tmp_path_factory.mktemp("kills"), "--fleet", str(FLEET), "--start", START.isoformat()) as running:
        yield running


@pytest.fixture(scope="module")
def google(cloud: Up) -> Iterator[Google]:
    with google_clients(cloud) as clients:
        yield clients


@pytest.fixture(scope="module")
def day(cloud: Up, google: Google) -> Day:
    """Each function is killed in each way, in the middle of a message where it has one. Each slice has work to do."""
    strangers = Strangers(google)
    pause = threading.Event()
    for kill in (kill_group, kill_worker):
        for function in FUNCTIONS:
            strangers.ask()
            cloud.go_on(SLICE)
            end = time.monotonic() + BUSY_S
            while time.monotonic() < end and not cloud.ask("deliveries")[function]["in_flight"]:
                pause.wait(LOOK_S)
            kill(cloud, function)
            cloud.arrive()
    cloud.ask("clock", {"to": END.isoformat()})
    cloud.arrive()
    return read_day(google, START, END, strangers.asked)


class TestFunctionsThatAreKilled(NoAttemptFailed):
    def test_each_was_started_again(self, day: Day, cloud: Up) -> None:
        restarts = {name: of["restarts"] for name, of in cloud.ask("deliveries").items()}
        assert restarts == dict.fromkeys(FUNCTIONS, 1)

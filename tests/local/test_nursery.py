"""The nursery of the functions' processes: whom it starts leads a group of his own, and whoever ends is told of."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from snapkeep_local.emulators import HOST, free_port
from snapkeep_local.nursery import Child, Nursery

ENDS_S = 30.0
FUNCTION = """
import functions_framework

@functions_framework.http
def hello(request):
    return "hello"
"""


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    one = Nursery(os.environ)
    yield one
    one.stop()


def started(nursery: Nursery, folder: Path) -> Child:
    (folder / "main.py").write_text(FUNCTION)
    arguments = ["--source", str(folder / "main.py"), "--target", "hello", "--host", HOST, "--port", str(free_port())]
    return nursery.start(arguments, folder / "log")


def ended(child: Child) -> int | None:
    pause, until = threading.Event(), time.monotonic() + ENDS_S
    while child.poll() is None and time.monotonic() < until:
        pause.wait(0.02)
    return child.poll()


def test_who_is_started_can_be_ended_with_his_group_at_once(nursery: Nursery, tmp_path: Path) -> None:
    for number in range(20):
        folder = tmp_path / str(number)
        folder.mkdir()
        child = started(nursery, folder)
        os.killpg(child.pid, signal.SIGKILL)  # raises where there is no such group yet
        assert ended(child) == -signal.SIGKILL


def test_who_cannot_begin_is_told_of_and_his_log_says_why(nursery: Nursery, tmp_path: Path) -> None:
    child = nursery.start(["--source", str(tmp_path / "none.py"), "--target", "hello"], tmp_path / "log")
    assert ended(child) == 1
    assert "none.py" in (tmp_path / "log").read_text()

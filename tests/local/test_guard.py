"""The guard ends what it was told of when whoever told it is gone, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from snapkeep_local.guard import Guard, left_by

TIMEOUT_S = 30.0


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that leads a group of its own."""
    with subprocess.Popen(["/bin/sleep", "600"], start_new_session=True) as process:
        yield process
        process.kill()


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ([], set()),
        (["started 5\n", "started 6\n"], {5, 6}),
        (["started 5\n", "started 6\n", "ended 5\n"], {6}),
        (["started 5\n", "ended 5\n", "started 5\n"], {5}),
        (["started 5\n", "all is in order\n"], set()),
    ],
)
def test_it_knows_what_was_left(said: list[str], left: set[int]) -> None:
    assert left_by(said) == left


def test_what_a_killed_process_started_is_ended(sleeper: subprocess.Popen[bytes]) -> None:
    script = (
        "import os, signal\n"
        "from snapkeep_local.guard import Guard\n"
        "guard = Guard()\n"
        "guard.start()\n"
        f"guard.started({sleeper.pid})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    dies = subprocess.run(  # noqa: S603 - the program above
        [sys.executable, "-c", script], timeout=TIMEOUT_S, check=False
    )
    assert dies.returncode == -signal.SIGKILL
    assert sleeper.wait(TIMEOUT_S) == -signal.SIGTERM


def test_an_ordered_end_ends_nobody(sleeper: subprocess.Popen[bytes]) -> None:
    guard = Guard()
    guard.start()
    guard.started(sleeper.pid)
    guard.stop()
    guard.stop()
    assert sleeper.poll() is None


def test_a_guard_that_is_gone_is_no_hindrance(
    sleeper: subprocess.Popen[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    guard = Guard()
    guard.start()
    assert guard.pid is not None
    os.kill(guard.pid, signal.SIGKILL)
    pause = threading.Event()
    for _ in range(int(TIMEOUT_S / 0.01)):
        guard.started(sleeper.pid)
        if caplog.records:
            break
        pause.wait(0.01)
    assert "the guard is gone" in caplog.text
    guard.stop()

"""`snapkeep up` as a real process, and what the tests need to look at it from outside.

Nothing of Snapkeep's own adapters is used here: what the functions did is read with Google's clients.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

pytest.register_assert_rewrite("tests.e2e.expected")

READY_TIMEOUT_S = 120
"""Until `up` says that it is ready: ten seconds are usual."""

STOP_TIMEOUT_S = 60
COMMAND_TIMEOUT_S = 60
SETTLE_TIMEOUT_S = 60
ADVANCE_TIMEOUT_S = 180
POLL_S = 0.05

SNAPKEEP = (sys.executable, "-m", "snapkeep.cli")

NOT_OURS = (
    "FIRESTORE_EMULATOR_HOST",
    "PUBSUB_EMULATOR_HOST",
    "SNAPKEEP_API",
    "SNAPKEEP_USER",
    "SNAPKEEP_PROJECT",
    "GOOGLE_CLOUD_PROJECT",
)
"""Variables that would lead these tests to another cloud than their own."""


def until(condition: Callable[[], bool], what: str, timeout_s: float = SETTLE_TIMEOUT_S) -> None:
    pause = threading.Event()
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"not within {timeout_s:.0f} s: {what}"
        pause.wait(POLL_S)


def environment(**more: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in NOT_OURS} | more


@dataclass(frozen=True)
class Up:
    """A running `snapkeep up`, with the addresses that it printed."""

    process: subprocess.Popen[str]
    addresses: dict[str, Any]
    folder: Path

    def snapkeep(
        self, *arguments: str, timeout_s: float = COMMAND_TIMEOUT_S, **more: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of the command line against this local cloud; `more` variables may say who asks."""
        return run(*arguments, timeout_s=timeout_s, SNAPKEEP_API=self.addresses["sim"], **more)

    def json(self, *arguments: str, timeout_s: float = COMMAND_TIMEOUT_S) -> Any:
        done = self.snapkeep("--json", *arguments, timeout_s=timeout_s)
        assert done.returncode == 0, done.stderr + self.said()
        return json.loads(done.stdout)

    def ask(self, control: str, body: Any = None) -> Any:
        """What a control of this local cloud answers: `/_sim/...`."""
        url = f"{self.addresses['sim']}/_sim/{control}"
        method = "GET" if body is None else "POST"
        answer = requests.request(method, url, json=body, timeout=COMMAND_TIMEOUT_S)
        assert answer.ok, answer.text
        return answer.json()

    def go_on(self, by: timedelta) -> None:
        """Send time on its way, and do not wait for it."""
        self.ask("clock", {"advance_seconds": by.total_seconds()})

    def arrive(self) -> None:
        until(lambda: not self.ask("clock")["running"], "time arrives", ADVANCE_TIMEOUT_S)
        assert self.ask("clock")["failure"] is None, self.said()

    def said(self) -> str:
        return said(self.folder)

    def descendants(self) -> dict[int, str]:
        return descendants(self.process.pid)


def run(*arguments: str, timeout_s: float = COMMAND_TIMEOUT_S, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own command
        [*SNAPKEEP, *arguments],
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def launch(folder: Path, *arguments: str, **more: str) -> subprocess.Popen[str]:
    """Start `snapkeep up` in a folder of its own, which gets its logs."""
    with (folder / "stderr").open("a") as errors:
        return subprocess.Popen(  # noqa: S603 - our own command
            [*SNAPKEEP, "up", "--port", "0", *arguments],
            env=environment(**more),
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,  # a Ctrl-C of whoever runs the tests ends `up` through its fixture
        )


@contextmanager
def up(folder: Path, *arguments: str, **more: str) -> Iterator[Up]:
    """A local cloud that is ready; stopped at the end, whatever happens."""
    process = launch(folder, *arguments, **more)
    try:
        yield Up(process, _ready(process, folder), folder)
    finally:
        stop(process)


def _ready(process: subprocess.Popen[str], folder: Path) -> dict[str, Any]:
    assert process.stdout is not None
    lines: queue.Queue[str] = queue.Queue()
    reader = threading.Thread(target=lambda out: lines.put(out.readline()), args=(process.stdout,), daemon=True)
    reader.start()
    try:
        line = lines.get(timeout=READY_TIMEOUT_S)
    except queue.Empty:
        line = ""
    assert line, f"`snapkeep up` did not become ready:\n{said(folder)}"
    addresses: dict[str, Any] = json.loads(line)
    return addresses


def stop(process: subprocess.Popen[str]) -> int:
    """End it as an operator would, and return its exit status."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    if process.stdout is not None:
        process.stdout.close()
    return process.returncode


def said(folder: Path) -> str:
    """What `up` wrote to standard error and its functions to their logs, the end of each."""
    files = [folder / "stderr", *sorted((folder / ".snapkeep" / "up").glob("*.log"))]
    return "\n".join(f"--- {file.name}\n{file.read_text()[-2000:]}" for file in files if file.exists())


# --- processes, as Linux lists them -------------------------------------------------------------------------------


def descendants(root: int) -> dict[int, str]:
    """Every process below this one: its id, and when it was started, which tells it from a later one of that id."""
    parents: dict[int, int] = {}
    started: dict[int, str] = {}
    for folder in Path("/proc").iterdir():
        fields = _stat(folder)
        if fields:
            parents[int(folder.name)] = int(fields[1])
            started[int(folder.name)] = fields[19]
    below = {root}
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in below} - below
        below |= more
        grown = bool(more)
    return {pid: started[pid] for pid in below - {root}}


def children(parent: int) -> list[int]:
    """The processes that this one is the parent of."""
    of = ((folder, _stat(folder)) for folder in Path("/proc").iterdir())
    return [int(folder.name) for folder, fields in of if fields and int(fields[1]) == parent]


def command_of(pid: int) -> bytes:
    """With which arguments a process was started; empty where it is gone."""
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes()
    except OSError:
        return b""


def at_work_in(folder: Path) -> list[int]:
    """The processes whose current folder it is, whoever started them."""
    found = []
    for process in Path("/proc").iterdir():
        with suppress(OSError):  # it has just ended, or is no process at all
            if (process / "cwd").readlink() == folder:
                found.append(int(process.name))
    return found


def alive(processes: dict[int, str]) -> list[int]:
    """Which of these still run."""
    now = ((pid, _stat(Path("/proc") / str(pid))) for pid in processes)
    return [pid for pid, fields in now if fields and fields[19] == processes[pid] and fields[0] not in "ZX"]


def _stat(folder: Path) -> list[str]:
    """The fields of /proc/PID/stat after the name, which may hold anything; empty where there is no process."""
    try:
        return (folder / "stat").read_text().rpartition(")")[2].split() if folder.name.isdigit() else []
    except OSError:
        return []

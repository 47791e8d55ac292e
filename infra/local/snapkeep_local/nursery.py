"""Where the function processes of `snapkeep up` come from: one process that has imported what all of them need.

Each function is a process of its own, in a session of its own, under functions-framework as it is deployed; but the
second or two of imports is paid once instead of fourteen times, and once more whenever one of them dies.

The nursery reads from standard input what is to be started, a line of JSON each, and says on standard output whom it
started and who has ended. It ends with its standard input; what it started goes on until `up`, or its guard, ends it.
It has one thread and opens no connection, so that it may fork.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

PRELOADED: Final = (
    "functions_framework",
    "functions_framework._http",  # with gunicorn
    "gunicorn.workers.gthread",
    "snapkeep.entry",
    "snapkeep.web",
    "snapkeep.wiring",
    "snapkeep.gcp.firestore",
    "snapkeep.gcp.pubsub",
    "snapkeep.gcp.compute",
)
"""What some function or other imports before its first answer."""

STARTED_TIMEOUT_S: Final = 60.0
"""For the nursery's word that somebody was started: its imports at first. A loaded machine takes ten."""

LINE_BYTES_MAX: Final = 65536


class NurseryFailed(OSError):
    """The nursery is gone, or says nothing."""


@dataclass(slots=True)
class Child:
    """A process that the nursery started. It leads a group of its own."""

    pid: int
    returncode: int | None = None  # as subprocess has it: negative for the signal that ended it; None: it runs

    def poll(self) -> int | None:
        return self.returncode


class Nursery:
    """The nursery as `up` has it. Safe for threads."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """`environment`: of everything that it starts."""
        self._environment = environment
        self._lock = threading.Lock()
        self._said = threading.Condition()
        self._process: subprocess.Popen[bytes] | None = None
        self._listener: threading.Thread | None = None
        self._started: list[Child] = []  # not yet handed out
        self._living: dict[int, Child] = {}

    def start(self, arguments: Sequence[str], said: Path) -> Child:
        """A process that runs functions-framework with these arguments and appends what it says to a file.

        Raises NurseryFailed.
        """
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._open()
            process = self._process
            assert process is not None
            assert process.stdin is not None
            try:
                process.stdin.write(json.dumps({"arguments": list(arguments), "log": str(said)}).encode() + b"\n")
                process.stdin.flush()
            except OSError as fault:
                raise NurseryFailed(f"the nursery of the functions is gone: {fault}") from fault
            with self._said:
                if not self._said.wait_for(lambda: self._started or process.poll() is not None, STARTED_TIMEOUT_S):
                    raise NurseryFailed(f"the nursery of the functions says nothing for {STARTED_TIMEOUT_S:.0f} s")
                if not self._started:
                    raise NurseryFailed(f"the nursery of the functions ended with {process.returncode}")
                return self._started.pop()

    def stop(self) -> None:
        """Everything that it started has been ended: it may go. Idempotent."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
            process.wait()
        if self._listener is not None:
            self._listener.join()

    def _open(self) -> None:
        self._process = subprocess.Popen(
            # -P: whatever lies in the current folder is not what it imports.
            [sys.executable, "-P", "-m", "snapkeep_local.nursery"],
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C at the terminal is the runner's to pass on
        )
        self._listener = threading.Thread(target=self._listen, args=(self._process,), name="nursery", daemon=True)
        self._listener.start()

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self._hear(json.loads(line))
        # Without it nobody would hear of their ends: what lives is ended by `up`, and started again.
        process.wait()
        with self._said:
            for child in self._living.values():
                child.returncode = -signal.SIGHUP
            self._living.clear()
            self._said.notify_all()

    def _hear(self, said: Any) -> None:
        with self._said:
            match said:
                case {"started": int() as pid}:
                    self._living[pid] = Child(pid)
                    self._started.append(self._living[pid])
                case {"ended": int() as pid, "status": int() as status}:
                    self._living.pop(pid, Child(pid)).returncode = status
            self._said.notify_all()


# --- in the nursery's own process ---------------------------------------------------------------------------------


def main() -> None:
    """Import, and start what is asked for until standard input ends."""
    for name in PRELOADED:
        importlib.import_module(name)
    gc.freeze()  # else the first collection of each would copy the memory that they share
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(wake)
    asked = b""
    while True:
        ready, _, _ = select.select([0, woken], [], [])
        if woken in ready:
            os.read(woken, LINE_BYTES_MAX)
            _tell_who_ended()
        if 0 in ready:
            more = os.read(0, LINE_BYTES_MAX)
            if not more:
                return
            *lines, asked = (asked + more).split(b"\n")
            for line in lines:
                _start(json.loads(line), (woken, wake))


def _start(request: dict[str, Any], ours: tuple[int, int]) -> None:
    leads, led = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.close(leads)
        os.close(led)
        _become(request["arguments"], Path(request["log"]), ours)
    os.close(led)
    os.read(leads, 1)  # nothing: it ends when the child leads its group, or is gone; before that nobody could end it
    os.close(leads)
    _say({"started": pid})


def _tell_who_ended() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _say({"ended": pid, "status": os.waitstatus_to_exitcode(status)})


def _say(what: dict[str, int]) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


def _become(arguments: list[str], said: Path, ours: tuple[int, int]) -> NoReturn:
    """Be functions-framework, and nothing of the nursery."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number in ours:
        os.close(number)
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(said, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for number, to in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(number, to)
    os.close(nothing)
    os.close(log)
    sys.argv = ["functions_framework", *arguments]
    runpy.run_module("functions_framework", run_name="__main__", alter_sys=True)
    sys.exit(0)


if __name__ == "__main__":
    main()

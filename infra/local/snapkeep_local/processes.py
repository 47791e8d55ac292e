"""The functions of `snapkeep up`: each a process that leads its own group, started again when it dies, stopped whole.

Only processes that were started here are ever ended, by the group that they lead.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from snapkeep_local.emulators import answers, signals_held
from snapkeep_local.guard import Guard
from snapkeep_local.nursery import Child, Nursery

log: Final = logging.getLogger(__name__)

READY_TIMEOUT_S: Final = 60.0
"""Until a process answers at its port. One second is usual; a loaded machine takes ten."""

STOP_TIMEOUT_S: Final = 10.0
"""From SIGTERM until SIGKILL, for all processes together."""

WATCH_S: Final = 0.2
"""Between two looks at whether every process lives."""

POLL_S: Final = 0.05

RESTART_MIN_S: Final = 0.5
RESTART_MAX_S: Final = 30.0
"""Between the death of a process and its next start: doubling from the least to the most."""

STEADY_S: Final = 60.0
"""A process that lived so long starts again after RESTART_MIN_S when it dies."""

LOG_LINES_SHOWN: Final = 20


class CannotStart(Exception):
    """A process that ended or never answered; the message says which, and shows the end of its log."""


@dataclass(frozen=True, slots=True)
class Program:
    """A function, and the port at which it answers once it is ready."""

    name: str
    arguments: Sequence[str]  # of functions-framework
    port: int
    log: Path


class Process:
    """One program and whichever process runs it now."""

    def __init__(self, program: Program, guard: Guard, nursery: Nursery) -> None:
        self.program = program
        self._guard = guard
        self._nursery = nursery
        self.restarts = 0
        self._running: Child | None = None
        self._started_at = 0.0  # monotonic
        self._restart_at: float | None = None  # monotonic; None: it lives
        self._pause_s = RESTART_MIN_S

    @property
    def pid(self) -> int | None:
        """The process, which leads the group of everything that it started; None while there is none."""
        return self._running.pid if self._running and self._running.returncode is None else None

    def start(self) -> None:
        with signals_held():
            self._running = self._nursery.start(self.program.arguments, self.program.log)
            self._guard.started(self._running.pid)
        self._started_at = time.monotonic()
        self._restart_at = None

    def wait_ready(self, until: float) -> None:
        """Return when its port answers. Raises CannotStart."""
        assert self._running is not None
        pause = threading.Event()
        while not answers(self.program.port):
            if self._running.poll() is not None:
                raise CannotStart(f"{self.program.name} ended with {self._running.returncode}:\n{self._tail()}")
            if time.monotonic() > until:
                raise CannotStart(f"{self.program.name} is not ready in {READY_TIMEOUT_S:.0f} s:\n{self._tail()}")
            pause.wait(POLL_S)

    def tend(self) -> None:
        """Notice a death, and start the process again when its pause is over."""
        now = time.monotonic()
        if self._running is None:
            return
        if self._restart_at is not None:
            if now >= self._restart_at:
                self.restarts += 1
                self.start()
        elif self._running.poll() is not None:
            if now - self._started_at >= STEADY_S:
                self._pause_s = RESTART_MIN_S
            log.warning(
                "%s ended with %s and starts again in %.1f s; see %s",
                *(self.program.name, self._running.returncode, self._pause_s, self.program.log),
            )
            self.signal(signal.SIGKILL)  # what it left behind of its group would hold the port
            self._guard.ended(self._running.pid)
            self._restart_at = now + self._pause_s
            self._pause_s = min(self._pause_s * 2, RESTART_MAX_S)

    def signal(self, number: int) -> bool:
        """Send a signal to the whole group; False when nobody of it is left."""
        if self._running is None:
            return False
        try:
            os.killpg(self._running.pid, number)
        except ProcessLookupError:
            return False
        return True

    def _tail(self) -> str:
        lines = self.program.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-LOG_LINES_SHOWN:])


class Processes:
    """All of them. `start` returns when every one answers; a thread then keeps them alive until `stop`."""

    def __init__(self, programs: Sequence[Program], guard: Guard, nursery: Nursery) -> None:
        self.all = tuple(Process(program, guard, nursery) for program in programs)
        self._nursery = nursery
        self._stopping = threading.Event()
        self._watch = threading.Thread(target=self._keep_alive, name="processes", daemon=True)

    def start(self) -> None:
        for process in self.all:
            process.start()

    def wait_ready(self) -> None:
        """Return when every process answers; from then on whichever dies is started again. Raises CannotStart."""
        until = time.monotonic() + READY_TIMEOUT_S
        for process in self.all:
            process.wait_ready(until)
        self._watch.start()

    def _keep_alive(self) -> None:
        while not self._stopping.wait(WATCH_S):
            for process in self.all:
                try:
                    process.tend()
                except OSError as fault:  # out of processes or memory: the next look tries again
                    log.warning("%s does not start: %s", process.program.name, fault)

    def stop(self) -> None:
        """End every process and its group: SIGTERM, and SIGKILL for what is left after STOP_TIMEOUT_S. Idempotent."""
        self._stopping.set()
        if self._watch.is_alive():
            self._watch.join(STOP_TIMEOUT_S)
        pause = threading.Event()
        left = list(self.all)
        for number in (signal.SIGTERM, signal.SIGKILL):
            left = [process for process in left if process.signal(number)]
            until = time.monotonic() + STOP_TIMEOUT_S
            while left and time.monotonic() < until:
                left = [process for process in left if process.signal(0)]
                pause.wait(POLL_S)
        self._nursery.stop()

"""The guard of `snapkeep up`: a process that ends what `up` started, should `up` die without doing so (SIGKILL).

It reads from a pipe whose other end `up` alone holds: which process groups there are, and at last that all is in
order. A pipe that ends without that word means that `up` is dead, and the groups are ended at once: nobody else can
have got the number of one of them by then, as he might have by the next start of an `up`.
"""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from typing import Final

from snapkeep_local.emulators import POLL_S, STOP_TIMEOUT_S, signal_group, signals_held

log: Final = logging.getLogger(__name__)


class Guard:
    """The guard as `up` has it. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> None:
        with signals_held():
            self._process = subprocess.Popen(
                # -P: whatever lies in the current folder is not what it imports.
                [sys.executable, "-P", "-m", "snapkeep_local.guard"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                bufsize=0,  # what cannot be said is not kept to be said later
                start_new_session=True,  # what ends `up` from the terminal does not end its guard
            )

    def started(self, group: int) -> None:
        """A process group was started."""
        self._tell(f"started {group}")

    def ended(self, group: int) -> None:
        """Nobody of the group is left."""
        self._tell(f"ended {group}")

    def stop(self) -> None:
        """All groups have been ended: the guard may go. Idempotent."""
        self._tell("all is in order")
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _tell(self, line: str) -> None:
        with self._lock:
            if self._process is None or self._process.stdin is None or self._process.stdin.closed:
                return
            try:
                self._process.stdin.write(f"{line}\n".encode())
            except OSError:
                log.warning("the guard is gone: should `up` be killed, what it started stays")
                self._process.stdin.close()


def left_by(said: Iterable[str]) -> set[int]:
    """The groups that whoever said these lines left behind when it fell silent."""
    groups: set[int] = set()
    for line in said:
        match line.split():
            case ["started", number]:
                groups.add(int(number))
            case ["ended", number]:
                groups.discard(int(number))
            case _:
                return set()
    return groups


def end(groups: Iterable[int]) -> None:
    """SIGTERM, and SIGKILL for what is left of them after STOP_TIMEOUT_S."""
    pause = threading.Event()
    left = set(groups)
    for number in (signal.SIGTERM, signal.SIGKILL):
        left = {group for group in left if signal_group(group, number)}
        for _ in range(int(STOP_TIMEOUT_S / POLL_S)):
            left = {group for group in left if signal_group(group, 0)}
            if not left:
                return
            pause.wait(POLL_S)


if __name__ == "__main__":
    end(left_by(sys.stdin))

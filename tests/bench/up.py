"""`snapkeep up` as a real process on a generated fleet, as it looks from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import requests

READY_TIMEOUT_S: Final = 300.0
STOP_TIMEOUT_S: Final = 60.0
ANSWER_TIMEOUT_S: Final = 60.0
POLL_S: Final = 0.1

NOT_OURS: Final = (
    "FIRESTORE_EMULATOR_HOST",
    "PUBSUB_EMULATOR_HOST",
    "SNAPKEEP_API",
    "SNAPKEEP_PROJECT",
    "GOOGLE_CLOUD_PROJECT",
)
"""Variables that would lead to another cloud."""


@dataclass(frozen=True, slots=True)
class Up:
    """A running local cloud, with the addresses that it printed."""

    addresses: dict[str, Any]

    def ask(self, path: str, body: Any = None) -> Any:
        """An answer of its controls (`/_sim/...`). Raises requests.RequestException."""
        method = "GET" if body is None else "POST"
        answer = requests.request(method, f"{self.addresses['sim']}{path}", json=body, timeout=ANSWER_TIMEOUT_S)
        answer.raise_for_status()
        return answer.json()

    def go(self, to: str) -> None:
        """Send time to an instant; returns at once."""
        self.ask("/_sim/clock", {"to": to})

    def now(self) -> datetime:
        """The cloud's time."""
        return datetime.fromisoformat(self.ask("/_sim/clock")["now"])

    def arrive(self, timeout_s: float) -> None:
        """Return when time is where it was sent. Raises RuntimeError."""
        end = time.monotonic() + timeout_s
        pause = threading.Event()
        while (clock := self.ask("/_sim/clock"))["running"]:
            if time.monotonic() > end:
                raise RuntimeError(f"time is at {clock['now']} and not at {clock['target']} after {timeout_s:.0f} s")
            pause.wait(POLL_S)
        if clock["failure"]:
            raise RuntimeError(f"time stopped at {clock['now']}: {clock['failure']}")

    def environment(self) -> dict[str, str]:
        """What a function's process needs to know to work in this cloud."""
        return environment() | {
            "SNAPKEEP_PROJECT": self.addresses["project"],
            "SNAPKEEP_DATABASE": self.addresses["database"],
            "SNAPKEEP_SIGN_IN": "local",
            "SNAPKEEP_COMPUTE_ENDPOINT": self.addresses["compute"],
            "SNAPKEEP_CLOCK": self.addresses["clock"],
            "SNAPKEEP_GUESTS": self.addresses["sim"],
            "FIRESTORE_EMULATOR_HOST": self.addresses["firestore"],
            "PUBSUB_EMULATOR_HOST": self.addresses["pubsub"],
        }


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in NOT_OURS}


@contextmanager
def up(folder: Path, fleet: str, start: str) -> Iterator[Up]:
    """A local cloud of this fleet file, ready; stopped at the end. Raises RuntimeError if it does not come up."""
    path = folder / "fleet.yaml"
    path.write_text(fleet, encoding="utf-8")
    command = [sys.executable, "-m", "snapkeep.cli", "up", "--port", "0", "--fleet", str(path), "--start", start]
    said = folder / "stderr"
    with said.open("w") as errors:
        process = subprocess.Popen(  # noqa: S603 - our own command
            command, env=environment(), cwd=folder, stdout=subprocess.PIPE, stderr=errors, text=True,
            start_new_session=True,
        )  # fmt: skip
    assert process.stdout is not None
    # A process that never says anything is ended, which ends the reading.
    watch = threading.Timer(READY_TIMEOUT_S, process.terminate)
    watch.start()
    try:
        line = process.stdout.readline()
        watch.cancel()
        if not line:
            raise RuntimeError(f"`snapkeep up` did not come up:\n{said.read_text()[-2000:]}")
        yield Up(json.loads(line))
    finally:
        watch.cancel()
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_TIMEOUT_S)
        process.stdout.close()

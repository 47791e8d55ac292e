"""Google's own Firestore and Pub/Sub emulators as child processes, for `snapkeep up` and the tests.

gcloud starts each of them through two or three processes of its own, so each runs in a process group that is stopped
as a whole. They keep everything in memory: stopped, all is forgotten.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

HOST: Final = "127.0.0.1"

READY_TIMEOUT_S: Final = 60.0
"""Until a port answers. Five seconds are usual; a loaded machine takes twenty."""

STOP_TIMEOUT_S: Final = 10.0
"""From SIGTERM until SIGKILL."""

POLL_S: Final = 0.1
LOG_LINES_SHOWN: Final = 5

JAVA_OPTIONS: Final = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""What the emulators run with unless JAVA_TOOL_OPTIONS says otherwise. They live for minutes: compiling them to the
last costs as much again as what they do meanwhile (6 simulated hours of the example fleet: 16 s, with this 8)."""

INSTALL: Final = (
    "Google's emulators are missing: install the Google Cloud CLI and Java 11 or newer (Java 21 for CLI 529 or newer), "
    "then `gcloud components install beta cloud-firestore-emulator pubsub-emulator`"
)


class EmulatorsMissing(Exception):
    """The machine lacks gcloud, Java or an emulator; the message is one line that says what installs them."""


class EmulatorFailed(Exception):
    """An emulator did not come up; the message holds the last lines of what it said."""


class Emulator:
    """One emulator: `start` returns when it answers, `stop` when it is gone. Also a context manager.

    `command` is what follows `gcloud`; `variable` is where Google's clients look for its address.
    """

    def __init__(self, name: str, *, command: tuple[str, ...], variable: str, port: int | None = None) -> None:
        self.name = name
        self.variable = variable
        self.port = port or free_port()
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    @property
    def address(self) -> str:
        """`host:port`, as `variable` is to hold it."""
        return f"{HOST}:{self.port}"

    @property
    def group(self) -> int | None:
        """The process group that it runs in; None while it does not."""
        return self._process.pid if self._process else None

    def start(self, started: Callable[[int], None] = lambda group: None) -> Self:
        """Start it and wait until it answers; `started` is told its process group at once.

        Raises EmulatorsMissing where the machine lacks it, EmulatorFailed when it ends or is not ready in time.
        """
        gcloud = installed()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        with signals_held():
            self._process = subprocess.Popen(  # noqa: S603 - a fixed command
                [gcloud, *self._command, f"--host-port={self.address}", "--quiet"],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # Without a terminal gcloud would ask nothing, but still look for news of itself.
                env={
                    "JAVA_TOOL_OPTIONS": JAVA_OPTIONS,
                    **os.environ,
                    "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
                    "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "1",
                },
            )
            started(self._process.pid)
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise
        return self

    def _wait(self) -> None:
        assert self._process is not None
        pause = threading.Event()
        until = time.monotonic() + READY_TIMEOUT_S
        while not answers(self.port):
            if self._process.poll() is not None:
                raise EmulatorFailed(f"the {self.name} emulator ended with {self._process.returncode}: {self._said()}")
            if time.monotonic() > until:
                raise EmulatorFailed(
                    f"the {self.name} emulator is not ready in {READY_TIMEOUT_S:.0f} s: {self._said()}"
                )
            pause.wait(POLL_S)

    def _said(self) -> str:
        assert self._log is not None
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").splitlines()
        return " | ".join(line.strip() for line in lines[-LOG_LINES_SHOWN:])

    def stop(self) -> None:
        """End its whole process group: SIGTERM, and SIGKILL for what is left after STOP_TIMEOUT_S. Idempotent."""
        process, self._process = self._process, None
        if process is not None:
            _end_group(process)
        if self._log is not None:
            self._log.close()
            self._log = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


@contextmanager
def signals_held() -> Iterator[None]:
    """Hold back the signals that end this process until a child that is being started has been noted.

    Their handlers raise; between the fork and the assignment that would leave a child that nobody knows. In other
    threads nothing is held: signals are only handled in the main one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    held = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.signal(number, lambda number, _frame: came.append(number)) for number in held}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
        for one in came:
            signal.raise_signal(one)


def firestore(port: int | None = None) -> Emulator:
    """Firestore in native mode. Every project and database exists, empty, as soon as it is named."""
    return Emulator(
        "Firestore",
        command=("emulators", "firestore", "start"),
        variable="FIRESTORE_EMULATOR_HOST",
        port=port,
    )


def pubsub(port: int | None = None) -> Emulator:
    """Pub/Sub. Every project exists; topics and subscriptions have to be made."""
    return Emulator(
        "Pub/Sub",
        command=("beta", "emulators", "pubsub", "start", "--project=demo-snapkeep"),
        variable="PUBSUB_EMULATOR_HOST",
        port=port,
    )


def installed() -> str:
    """Where gcloud is. Raises EmulatorsMissing unless it, Java and both emulators are on this machine."""
    gcloud = shutil.which("gcloud")
    if gcloud is None:
        raise EmulatorsMissing(f"gcloud is not on the path. {INSTALL}")
    if shutil.which("java") is None:
        raise EmulatorsMissing(f"java is not on the path. {INSTALL}")
    platform = Path(gcloud).resolve().parent.parent / "platform"
    if not platform.is_dir():  # a wrapper: the emulators lie where the tool itself says
        asked = [gcloud, "info", "--format=value(installation.sdk_root)"]
        said = subprocess.run(asked, capture_output=True, text=True, timeout=READY_TIMEOUT_S, check=False)  # noqa: S603 - fixed words
        platform = Path(said.stdout.strip()) / "platform"
    missing = [name for name in ("cloud-firestore-emulator", "pubsub-emulator") if not (platform / name).is_dir()]
    if missing:
        raise EmulatorsMissing(f"gcloud has no {' and no '.join(missing)}. {INSTALL}")
    return gcloud


def free_port() -> int:
    """A port that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def answers(port: int) -> bool:
    """Whether something listens on a port of this machine."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((HOST, port)) == 0


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process that leads its own group, and all of that group."""
    group = process.pid
    pause = threading.Event()
    for sent in (signal.SIGTERM, signal.SIGKILL):
        if not signal_group(group, sent):
            break
        until = time.monotonic() + STOP_TIMEOUT_S
        # The leader is reaped as it ends; the group is gone with its last member.
        while time.monotonic() < until:
            process.poll()
            if not signal_group(group, 0):
                break
            pause.wait(POLL_S)
    process.wait(STOP_TIMEOUT_S)


def signal_group(group: int, number: int) -> bool:
    """Send a signal to a process group; False when there is none any more."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True

"""Google's emulators as child processes: they come up, they go away, and what is missing is said in one line."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from snapkeep_local import emulators

EMULATORS = [pytest.param(emulators.firestore, id="firestore"), pytest.param(emulators.pubsub, id="pubsub")]
INSTALLS = "gcloud components install beta cloud-firestore-emulator pubsub-emulator"


def executable(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


class Searched:
    """The machine with nothing on its path but one folder."""

    def __init__(self, folder: Path) -> None:
        self._path = str(folder)

    def __enter__(self) -> None:
        self._before = os.environ["PATH"]
        os.environ["PATH"] = self._path

    def __exit__(self, *_: object) -> None:
        os.environ["PATH"] = self._before


def test_a_machine_without_gcloud_is_told_what_installs_it(tmp_path: Path) -> None:
    with Searched(tmp_path), pytest.raises(emulators.EmulatorsMissing, match="gcloud is not on the path") as raised:
        emulators.firestore().start()
    assert INSTALLS in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_machine_without_java_is_told_so(tmp_path: Path) -> None:
    executable(tmp_path / "gcloud", "exit 0")
    with Searched(tmp_path), pytest.raises(emulators.EmulatorsMissing, match="java is not on the path"):
        emulators.installed()


def test_a_gcloud_without_an_emulator_is_told_which(tmp_path: Path) -> None:
    for tool in ("gcloud", "java"):
        executable(tmp_path / "sdk" / "bin" / tool, "exit 0")
    (tmp_path / "sdk" / "platform" / "pubsub-emulator").mkdir(parents=True)
    with Searched(tmp_path / "sdk" / "bin"):
        with pytest.raises(emulators.EmulatorsMissing, match="gcloud has no cloud-firestore-emulator") as raised:
            emulators.installed()
        assert INSTALLS in str(raised.value)
        (tmp_path / "sdk" / "platform" / "cloud-firestore-emulator").mkdir()
        assert emulators.installed() == str(tmp_path / "sdk" / "bin" / "gcloud")


def test_an_emulator_that_ends_at_once_is_quoted(tmp_path: Path) -> None:
    executable(tmp_path / "sdk" / "bin" / "gcloud", "echo first; echo the port is taken >&2; exit 3")
    executable(tmp_path / "sdk" / "bin" / "java", "exit 0")
    for name in ("cloud-firestore-emulator", "pubsub-emulator"):
        (tmp_path / "sdk" / "platform" / name).mkdir(parents=True)
    emulator = emulators.pubsub()
    with Searched(tmp_path / "sdk" / "bin"), pytest.raises(emulators.EmulatorFailed) as raised:
        emulator.start()
    assert str(raised.value) == "the Pub/Sub emulator ended with 3: first | the port is taken"
    emulator.stop()


def test_the_variable_is_the_one_that_googles_clients_read() -> None:
    emulator = emulators.firestore(port=8911)
    assert (emulator.variable, emulator.address) == ("FIRESTORE_EMULATOR_HOST", "127.0.0.1:8911")
    assert emulators.pubsub().variable == "PUBSUB_EMULATOR_HOST"


@pytest.mark.e2e
@pytest.mark.parametrize("make", EMULATORS)
def test_an_emulator_answers_while_it_runs_and_leaves_nothing_behind(
    make: Callable[[], emulators.Emulator], emulators_installed: None
) -> None:
    emulator = make()
    assert not emulators.answers(emulator.port)
    with emulator:
        assert emulators.answers(emulator.port)
        group = emulator.group
        assert group is not None
        os.killpg(group, 0)
    assert not emulators.answers(emulator.port)
    assert emulator.group is None
    with pytest.raises(ProcessLookupError):
        os.killpg(group, 0)

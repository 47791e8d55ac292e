"""A signal ends `snapkeep up` wherever it comes: here, while a line is logged, whose handlers swallow exceptions."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, Self

import pytest

from snapkeep_local import runner

HANGS_S = 30
"""After which a test that waits for ever is told to fail."""


class Nothing:
    """A local cloud without anything in it."""

    def __init__(self, settings: runner.Settings) -> None:
        self.addresses: dict[str, Any] = {"sim": "http://127.0.0.1:1"}
        self.left = False
        made.append(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.left = True


made: list[Nothing] = []


class Interrupted(logging.Handler):
    """The signal comes while the line that says `ready` is written; what that raises is swallowed here."""

    def __init__(self, number: int, swallowed: type[BaseException]) -> None:
        super().__init__()
        self._number = number
        self._swallowed = swallowed

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith("ready"):
            with suppress(self._swallowed):
                signal.raise_signal(self._number)


@pytest.fixture
def deadline() -> Iterator[None]:
    def hangs(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"`up` goes on after {HANGS_S} s")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(HANGS_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def interrupted() -> Iterator[Callable[[int, type[BaseException]], None]]:
    log = logging.getLogger("snapkeep_local")
    handlers, level = list(log.handlers), log.level
    yield lambda number, swallowed: log.addHandler(Interrupted(number, swallowed))
    log.handlers[:] = handlers
    log.setLevel(level)


@pytest.mark.parametrize("number", runner.ENDS)
@pytest.mark.parametrize("swallowed", [Exception, BaseException])
def test_a_signal_that_comes_while_a_line_is_logged_ends_it(
    number: int,
    swallowed: type[BaseException],
    monkeypatch: pytest.MonkeyPatch,
    interrupted: Callable[[int, type[BaseException]], None],
    deadline: None,
) -> None:
    # A real one would start emulators and processes, which no signal of this test needs.
    monkeypatch.setattr(runner, "LocalCloud", Nothing)
    handler = signal.getsignal(number)
    interrupted(number, swallowed)
    runner.up(runner.Settings(fleet=Path("fleet.yaml")))
    assert made.pop().left
    assert signal.getsignal(number) == handler

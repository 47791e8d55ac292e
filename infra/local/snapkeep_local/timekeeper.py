"""How time passes in the local cloud, and Cloud Scheduler's stand-in, which publishes each function's ticks by it.

Simulated time stands still until it is told where to go; then it goes minute by minute, and each next minute waits
until every message of the last one has been answered. So a day takes as long as its work does, and no longer. Without
ticks it goes there at once: Compute Engine lives on, and no function is woken, as if Cloud Scheduler were down.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, Protocol

from snapkeep.ports import Transient
from snapkeep_local.delivery import Ledger
from snapkeep_local.schedule import TICK, ticking

log: Final = logging.getLogger(__name__)

MINUTE: Final = timedelta(minutes=1)

STEP_TIMEOUT_S: Final = 60.0
"""How long a simulated minute waits for its messages, in real time; later ones come late, as messages may."""

STRANGERS_S: Final = 0.25
"""How long the end of an advance waits for messages of other publishers: the emulator looks for them every 0.1 s."""

ADVANCE_MAX: Final = timedelta(days=400)
"""How far time may be sent at once."""

WAIT_S: Final = 1.0
"""Between two looks at whether to stop."""

STOP_TIMEOUT_S: Final = 5.0

Mode = Literal["simulated", "system"]


class CannotMove(Exception):
    """Time does not go there; the message says why."""


class Publisher(Protocol):
    """The part of `delivery.Broker` that time needs."""

    @property
    def ledger(self) -> Ledger: ...

    def publish(self, topic: str, body: bytes) -> None: ...


class Scheduler:
    """Cloud Scheduler's stand-in: publishes each function's ticks when their minute comes, unless it is stopped."""

    def __init__(self, now: Callable[[], datetime], broker: Publisher) -> None:
        """`now` reads the clock that it lives by."""
        self._now = now
        self._broker = broker
        self._turned = (True, now())

    def turn(self, *, on: bool) -> None:
        """Stop it, or let it go on. What it did not publish meanwhile is not made up for: Google's does not either."""
        self._turned = (on, self._now())

    def status(self) -> dict[str, Any]:
        """`running`, and `since` when it is so."""
        running, since = self._turned
        return {"running": running, "since": since.isoformat()}

    def tick(self, at: datetime) -> None:
        """Publish the ticks of a minute. One that cannot be published is lost: the next one finds its work."""
        running, _ = self._turned
        for function in ticking(at) if running else ():
            try:
                self._broker.publish(function.topic, TICK)
            except Transient as fault:
                log.warning("%s was not woken at %s: %s", function.name, at.isoformat(), fault)


class Timekeeper(Protocol):
    mode: Mode
    scheduler: Scheduler

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def move(self, *, to: datetime | None = None, by: timedelta | None = None, ticks: bool = True) -> None:
        """Send time to an instant, or on by so much. Returns at once. Raises CannotMove.

        Not `ticks`: nobody is woken on the way.
        """
        ...

    def status(self) -> dict[str, Any]:
        """`mode`, `now`, `target` (where it is going), `running` (whether it is on its way), `failure`."""
        ...


class Simulated:
    """Time that goes where it is sent, in a thread of its own."""

    mode: Mode = "simulated"

    def __init__(self, now: Callable[[], datetime], advance: Callable[[datetime], None], broker: Publisher) -> None:
        """`now` reads the cloud's clock, `advance` moves it; both are safe for threads."""
        self._now = now
        self._advance = advance
        self._broker = broker
        self.scheduler = Scheduler(now, broker)
        self._target = now()
        self._moving = False
        self._ticks = True
        self._failure: str | None = None
        self._stopping = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="time", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(STOP_TIMEOUT_S)

    def move(self, *, to: datetime | None = None, by: timedelta | None = None, ticks: bool = True) -> None:
        with self._changed:
            if self._moving and ticks != self._ticks:
                how = "with" if self._ticks else "without"
                raise CannotMove(f"the clock is on its way {how} ticks: wait until it is there")
            # Two who ask for an hour each, at once, get two.
            target = to if to is not None else self._target + (by or timedelta())
            if target < self._target:
                raise CannotMove(f"the clock goes to {self._target.isoformat()} and not back to {target.isoformat()}")
            if target - self._target > ADVANCE_MAX:
                raise CannotMove(f"{target.isoformat()} is more than {ADVANCE_MAX.days} days ahead")
            self._target = target
            self._ticks = ticks
            self._failure = None
            self._moving = True
            self._changed.notify_all()

    def status(self) -> dict[str, Any]:
        with self._changed:
            return {
                "mode": self.mode,
                "now": self._now().isoformat(),
                "target": self._target.isoformat(),
                "running": self._moving,
                "failure": self._failure,
            }

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._moving or self._stopping)
                if self._stopping:
                    return
                target, ticks = self._target, self._ticks
            try:
                arrived = self._step(target, ticks)
                failure = None
            except Exception as fault:  # whatever it is, who sent time on its way must learn that it stands still
                log.exception("time stopped at %s", self._now().isoformat())
                arrived, failure = True, f"{type(fault).__name__}: {fault}"
            with self._changed:
                if failure:
                    self._target = self._now()
                if failure or (arrived and self._target == target):
                    self._moving = False
                    self._failure = failure

    def _step(self, target: datetime, ticks: bool) -> bool:
        """Go on by a minute at the most, or without ticks all the way; True when time is there and all is quiet."""
        now = self._now()
        if now < target:
            following = now.replace(second=0, microsecond=0) + MINUTE
            at = min(following, target) if ticks else target
            self._advance(at)
            if ticks and at == following:
                self.scheduler.tick(at)
        late = self._broker.ledger.wait_quiet(STEP_TIMEOUT_S)
        if late:
            log.warning("%d messages unanswered after %.0f s; time goes on without them", late, STEP_TIMEOUT_S)
        if self._now() < target:
            return False
        with self._changed:
            self._changed.wait_for(lambda: self._stopping, STRANGERS_S)
        self._broker.ledger.wait_quiet(STEP_TIMEOUT_S)
        return True


class System:
    """The machine's own time: each minute's ticks are published when it comes."""

    mode: Mode = "system"

    def __init__(self, advance: Callable[[datetime], None], broker: Publisher) -> None:
        """`advance` is called every minute; between those, whoever uses the cloud lets time reach the present."""
        self._advance = advance
        self.scheduler = Scheduler(lambda: datetime.now(UTC), broker)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="time", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(STOP_TIMEOUT_S)

    def move(self, *, to: datetime | None = None, by: timedelta | None = None, ticks: bool = True) -> None:
        raise CannotMove(
            "this local cloud lives in the machine's own time; `snapkeep up --clock simulated` can be moved"
        )

    def status(self) -> dict[str, Any]:
        now = datetime.now(UTC).isoformat()
        return {"mode": self.mode, "now": now, "target": now, "running": False, "failure": None}

    def _run(self) -> None:
        following = datetime.now(UTC).replace(second=0, microsecond=0) + MINUTE
        while not self._stopping.wait(min(WAIT_S, max((following - datetime.now(UTC)).total_seconds(), 0.01))):
            now = datetime.now(UTC)
            if now >= following:
                self._advance(now)
                self.scheduler.tick(following)
                # A machine that slept has missed ticks; Cloud Scheduler does not make up for them either.
                following = max(following, now.replace(second=0, microsecond=0)) + MINUTE

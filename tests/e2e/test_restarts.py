"""`snapkeep up` is stopped, and killed, in the middle of the work, and goes on with the emulators that outlived it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.e2e.conftest import Up, alive, stop, until, up
from tests.e2e.expected import FLEET, Day, Google, NoAttemptFailed, Strangers, google_clients, read_day

from snapkeep_local import emulators

pytestmark = pytest.mark.e2e

START = datetime(2026, 11, 22, 5, tzinfo=UTC)
END = START + timedelta(hours=3, minutes=30)
"""In these hours the points of the Americas are due."""

SLICE = timedelta(minutes=10)


@dataclass(frozen=True)
class Story:
    cloud: Up  # of the last life
    google: Google
    day: Day
    stopped: dict[str, Any]  # what the simulated cloud held before the first `up` was stopped
    resumed: dict[str, Any]  # and when the second was ready
    killed: dict[str, Any]  # before the second was killed
    resumed_again: dict[str, Any]  # and when the third was ready


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, emulators_installed: None) -> Iterator[Story]:
    """Three lives in one folder. Points are being made at the end of each, and a stranger asks while nobody lives."""
    folder = tmp_path_factory.mktemp("stopped")
    with ExitStack() as stack:
        kept = [stack.enter_context(emulator) for emulator in (emulators.firestore(), emulators.pubsub())]
        variables = {emulator.variable: emulator.address for emulator in kept}
        port = str(emulators.free_port())  # so that one Compute Engine client lasts

        def start() -> Up:
            return stack.enter_context(
                up(folder, "--fleet", str(FLEET), "--start", START.isoformat(), "--port", port, **variables)
            )

        first = start()
        google = stack.enter_context(google_clients(first))
        strangers = Strangers(google)
        while not google.creating():
            assert datetime.fromisoformat(first.ask("clock")["now"]) < END - SLICE
            first.go_on(timedelta(minutes=2))
            first.arrive()
        stopped = first.ask("state")
        assert stop(first.process) == 0
        strangers.ask()

        second = start()
        resumed = second.ask("state")
        second.go_on(SLICE)
        second.arrive()
        strangers.ask()
        second.go_on(timedelta(hours=1))
        until(lambda: bool(google.creating()), "a point is being made")
        started = second.descendants()
        killed = second.ask("state")
        second.process.kill()
        second.process.wait()

        third = start()
        resumed_again = third.ask("state")
        until(lambda: not alive(started), "what the killed one started ends")
        third.ask("clock", {"to": END.isoformat()})
        third.arrive()
        day = read_day(google, START, END, strangers.asked)
        yield Story(third, google, day, stopped, resumed, killed, resumed_again)


@pytest.fixture(scope="module")
def cloud(story: Story) -> Up:
    return story.cloud


@pytest.fixture(scope="module")
def google(story: Story) -> Google:
    return story.google


@pytest.fixture(scope="module")
def day(story: Story) -> Day:
    return story.day


class TestAnUpThatIsStoppedAndKilled(NoAttemptFailed):
    def test_the_next_life_of_a_stopped_one_begins_where_it_ended(self, story: Story) -> None:
        before, after = story.stopped, story.resumed
        assert after["now"] == before["now"]
        assert (after["instances"], after["disks"]) == (before["instances"], before["disks"])
        assert after["log"][: len(before["log"])] == before["log"]
        assert before["snapshots"]

    def test_the_next_life_of_a_killed_one_knows_all_that_was_answered(self, story: Story) -> None:
        before, after = story.killed, story.resumed_again
        assert after["now"] >= before["now"]
        assert (after["instances"], after["disks"]) == (before["instances"], before["disks"])
        assert after["log"][: len(before["log"])] == before["log"]
        assert len(before["log"]) > len(story.stopped["log"])

    def test_a_beginning_that_does_not_apply_is_said(self, story: Story) -> None:
        said = (story.cloud.folder / "stderr").read_text()
        assert said.count("snapkeep up: --start and --seed do not apply to a cloud that goes on\n") == 2
        assert "another cloud" not in said

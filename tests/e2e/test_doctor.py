"""`snapkeep doctor` on a local cloud: green, then three things go wrong and are found, then each mend is followed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient  # type: ignore[import-untyped]  # no py.typed
from tests.e2e.conftest import Up, up

pytestmark = pytest.mark.e2e


@dataclass(frozen=True)
class Story:
    """What doctor said, as (status, JSON), at each stage of one local cloud's life."""

    cloud: Up
    at_first: tuple[int, Any]
    broken: tuple[int, Any]
    told: str  # of the broken one, as text
    mended: tuple[int, Any]
    later: tuple[int, Any]
    ticks: tuple[int, int]  # deliveries to function reconcile over an hour with a silent scheduler, and after it


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, emulators_installed: None) -> Iterator[Story]:
    with up(tmp_path_factory.mktemp("doctor"), "--start", "2026-11-22T00:00:00Z") as cloud:
        at_first = _doctor(cloud)
        cloud.snapkeep("sim", "scheduler", "stop")
        before = _delivered(cloud)
        with pytest.MonkeyPatch.context() as patch:  # Google's clients look for the emulator in the environment
            patch.setenv("PUBSUB_EMULATOR_HOST", cloud.addresses["pubsub"])
            _break(cloud.addresses["project"])
        cloud.json("sim", "advance", "1h")
        silent = _delivered(cloud) - before
        broken, told = _doctor(cloud), cloud.snapkeep("doctor", COLUMNS="80").stdout
        for finding in _findings(broken[1]):
            done = cloud.snapkeep(*finding["mend"].split()[1:])
            assert done.returncode == 0, done.stderr
        mended = _doctor(cloud)
        cloud.json("sim", "advance", "15m")
        yield Story(
            cloud, at_first, broken, told, mended, _doctor(cloud), (silent, _delivered(cloud) - before - silent)
        )


def _doctor(cloud: Up) -> tuple[int, Any]:
    done = cloud.snapkeep("--json", "doctor")
    assert done.stdout, done.stderr + cloud.said()
    return done.returncode, json.loads(done.stdout)


def _delivered(cloud: Up) -> int:
    return int(cloud.ask("deliveries")["reconcile"]["delivered"])


def _findings(said: Any) -> list[dict[str, str]]:
    return [finding for check in said["checks"] for finding in check["findings"]]


def _break(project: str) -> None:
    """Delete a topic, and replace a subscription by one without dead letters."""
    publisher, subscriber = PublisherClient(), SubscriberClient()
    publisher.delete_topic(topic=publisher.topic_path(project, "snapkeep-copy"))
    name = subscriber.subscription_path(project, "snapkeep-plan")
    found = subscriber.get_subscription(subscription=name)
    subscriber.delete_subscription(subscription=name)
    del found.dead_letter_policy
    subscriber.create_subscription(request=found)
    publisher.stop()
    subscriber.close()


def test_a_new_local_cloud_is_green_and_says_what_is_not_here(story: Story) -> None:
    status, said = story.at_first
    assert (status, said["green"], _findings(said)) == (0, True, []), story.cloud.said()
    assert {check["stand"] for check in said["checks"]} <= {"ok", "not here"}
    assert all(check["said"] for check in said["checks"])


def test_three_things_go_wrong_and_are_three_findings_with_their_mends(story: Story) -> None:
    status, said = story.broken
    assert (status, said["green"]) == (1, False)
    assert [(one["where"], one["mend"]) for one in _findings(said)] == [
        ("topic snapkeep-copy", "snapkeep sim mend"),
        ("subscription snapkeep-plan", "snapkeep sim mend"),
        ("Cloud Scheduler's stand-in", "snapkeep sim scheduler start"),
    ]
    assert [untold for check in said["checks"] for untold in check["untold"]] == []


def test_time_passes_without_a_tick_while_the_scheduler_is_silent(story: Story) -> None:
    silent, after = story.ticks
    assert silent == 0
    assert after >= 15


def test_what_is_printed_fits_a_terminal_and_tells_every_finding(story: Story) -> None:
    lines = story.told.splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.startswith("   mend: ") for line in lines) == 3
    assert {line[0] for line in lines if line[1:3] == ". "} == {"1", "2", "3"}


def test_following_the_mends_makes_it_green_again(story: Story) -> None:
    for status, said in (story.mended, story.later):
        assert (status, said["green"], _findings(said)) == (0, True, []), story.cloud.said()

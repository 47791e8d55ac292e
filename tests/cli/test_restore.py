"""Restores at the command line: planned, asked for, approved, followed, cancelled, undone."""

from __future__ import annotations

import os
import pty
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.cli.typing_in import done, local_cloud, read, refused, run
from tests.makers import World
from tests.web.fleets import BOUGHT, put_copies, put_stored, put_tenant
from tests.web.people import put_people
from tests.web.restores import ASKER, HASH, cancelled, completed, put_restore, restore, running

from snapkeep import documents as d
from snapkeep import wiring

ID = "20261122-p-alpha-app-0badcafe"
OF = ("--tenant", "alpha")
FOLLOWED_WITHIN_S = 60


@pytest.fixture
def world() -> World:
    one = World()
    put_people(one, anna="beta")
    put_tenant(one, "alpha")
    put_stored(one, "alpha", 7)
    return one


@pytest.fixture
def point(world: World) -> str:
    """A verified point, whose definition lacks a start-up script and an address."""
    id = put_copies(world, "alpha")[1]
    path = f"tenants/alpha/points/{id}"
    definition = {"networkInterfaces": [{"networkIP": "10.0.0.5"}], "left_out": ["metadata startup-script"]}
    world.put((path, replace(world.read(d.Point, path), definition=definition)))
    return id


@pytest.fixture
def api(world: World) -> Iterator[str]:
    with local_cloud(world) as url:
        yield url


def restores(world: World) -> list[d.Restore]:
    return [d.from_data(d.Restore, data) for path, data in world.documents_in("tenants/alpha/restores/")]


# --- planning -----------------------------------------------------------------------------------------------------


def test_a_plan_can_be_pasted_as_its_request(api: str, world: World, point: str, tmp_path: Path) -> None:
    script = tmp_path / "start up.sh"
    script.write_text("#!/bin/sh\nstart\n")
    before = world.memory.dump()
    options = ("--name", "alpha-b", "--supply", f"metadata startup-script=@{script}", "--waive-all")
    said = done(api, "restore", "plan", *OF, "--point", point, "--mode", "new_instance", *options)
    assert said.startswith("it restores alpha-app as alpha-b in southamerica-east1-a\n")
    assert "- nothing stops, and nothing that is there is changed\n" in said
    assert world.memory.dump() == before
    pasted = shlex.split(said.splitlines()[-1].replace("--reason ...", "--reason 'case 4711'"))
    assert pasted[0] == "snapkeep"
    told = done(api, *pasted[1:], user=ASKER)
    (made,) = restores(world)
    assert told.startswith(f"{made.id} is asked for: it restores alpha-app as alpha-b in southamerica-east1-a\n")
    assert f"`snapkeep restore status {made.id} --tenant alpha --follow`" in told
    supplied = world.read(d.Supplied, f"tenants/alpha/supplied/{made.id}").values
    assert supplied == {"metadata startup-script": "#!/bin/sh\nstart\n"}


def test_a_plan_names_what_is_lacking_and_a_request_without_it_is_refused(api: str, world: World, point: str) -> None:
    what = (*OF, "--point", point, "--mode", "new_instance", "--name", "alpha-b")
    said = done(api, "restore", "plan", *what)
    assert "  metadata startup-script\n  address nic0 10.0.0.5\n" in said
    assert "nothing is said of 'metadata startup-script'" in refused(api, "restore", "request", *what, "--reason", "r")
    assert restores(world) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--mode", "in_place", "--name", "x"), "name: given for in_place"),
        (("--mode", "new_instance"), "name: missing"),
        (("--mode", "disks", "--region", BOUGHT), "it has no multi_region_dr"),
        (("--mode", "disks", "--waive", "x"), "waive: 'x' is not lacking"),
        (("--mode", "disks", "--supply", "x=@/nowhere"), "--supply: /nowhere: No such file or directory"),
    ],
)
def test_what_cannot_be_planned_is_refused_in_one_line(
    api: str, point: str, options: tuple[str, ...], said: str
) -> None:
    assert said in refused(api, "restore", "plan", *OF, "--point", point, *options)


@pytest.mark.parametrize("options", [("--mode", "disks", "--supply", "x"), (), ("--mode", "sideways")])
def test_wrong_usage_ends_with_2(api: str, point: str, options: tuple[str, ...]) -> None:
    assert run(api, "restore", "plan", *OF, "--point", point, *options).exit_code == 2


def test_a_dry_run_of_a_request_is_a_plan(api: str, world: World, point: str) -> None:
    what = (*OF, "--point", point, "--mode", "in_place", "--reason", "case 4711")
    answer = read(api, "restore", "request", *what, "--dry-run")
    assert (answer["restore"], answer["dry_run"], answer["plan"]["needs_approval"]) == (None, True, True)
    assert restores(world) == []


# --- asking, approving, ending ------------------------------------------------------------------------------------


def test_a_request_prints_the_command_that_approves_it(api: str, world: World, point: str) -> None:
    what = (*OF, "--point", point, "--mode", "in_place", "--reason", "case 4711")
    said = done(api, "restore", "request", *what, user=ASKER)
    approval = shlex.split(next(line for line in said.splitlines() if "restore approve" in line))
    assert refused(api, *approval[1:], user=ASKER) == "nobody approves his own request"
    assert "is approved: it begins within a minute" in done(api, *approval[1:])
    assert [one.state for one in restores(world)] == ["approved"]
    assert "an approval is used once" in refused(api, *approval[1:])


def test_the_same_key_twice_asks_once(api: str, world: World, point: str) -> None:
    what = (*OF, "--point", point, "--mode", "in_place", "--reason", "case 4711", "--id", "k-1")
    assert done(api, "restore", "request", *what) == done(api, "restore", "request", *what)
    assert len(restores(world)) == 1


def test_one_is_cancelled_and_says_what_that_takes(api: str, world: World) -> None:
    put_restore(world, running(world.clock.now()))
    assert done(api, "restore", "cancel", ID, *OF, "--reason", "r", "--dry-run") == (
        f"{ID}: what it did would be taken back\n"
        f"`snapkeep restore status {ID} --tenant alpha --follow` shows its steps\n"
    )
    assert "is being taken back" in done(api, "restore", "cancel", ID, *OF, "--reason", "r")
    assert "was given up already" in refused(api, "restore", "cancel", ID, *OF, "--reason", "r")


def test_an_undo_is_a_restore_of_its_own_with_its_approval(api: str, world: World) -> None:
    put_restore(world, completed(world.clock.now()))
    said = done(api, "restore", "undo", ID, *OF, "--reason", "the wrong point", user=ASKER)
    assert f"it puts the former disks of alpha-app back: undoes {ID}" in said
    assert "somebody else has to approve it:\n  snapkeep restore approve 20261101-p-alpha-app-" in said


@pytest.mark.parametrize("verb", ["cancel", "undo", "approve", "status"])
def test_a_restore_that_is_not_there_is_said_to_be(api: str, world: World, verb: str) -> None:
    options = {"approve": ("--request-sha256", HASH), "status": ()}.get(verb, ("--reason", "r"))
    for id in ("20261122-p-none-0badcafe", "none"):
        assert id in refused(api, "restore", verb, id, *OF, *options)


# --- how it stands ------------------------------------------------------------------------------------------------


def test_status_shows_steps_checks_and_what_to_do_next(api: str, world: World) -> None:
    put_restore(world, restore(world.clock.now()))
    waits = done(api, "restore", "status", ID, *OF)
    assert "Waits for the approval of a second person, until 2026-11-01 04:00Z" in waits
    assert f"  snapkeep restore approve {ID} --tenant alpha --request-sha256 {HASH}\n" in waits
    put_restore(world, completed(world.clock.now()))
    over = done(api, "restore", "status", ID, *OF)
    assert "completed · Completed in 12m 0s" in over
    assert "2 of 2 disks ready" in over
    assert "probe     none    the tenant names none" in over
    assert f"2 former disks kept until 2026-11-08 00:12Z; to put them back:\n  snapkeep restore undo {ID}" in over


def test_whoever_approves_reads_what_it_is_made_from_and_what_stops(api: str, world: World) -> None:
    lacks = [d.Lacking(item="metadata startup-script", handled="supplied"), d.Lacking(item="x", handled="waived")]
    put_restore(world, replace(restore(world.clock.now()), lacking=lacks))
    waits = done(api, "restore", "status", ID, *OF).splitlines()
    (made_from,) = [line for line in waits if line.startswith("from ")]
    assert f"{restores(world)[0].recovery_point}, at home in southamerica-east1 (" in made_from
    assert "lacking: metadata startup-script (supplied), x (waived)" in waits
    assert any(line.startswith("stops alpha-app, until its new disks are attached") for line in waits)


def test_status_names_the_disks_that_are_made(api: str, world: World) -> None:
    put_restore(world, running(world.clock.now()))
    said = done(api, "restore", "status", ID, *OF)
    for disk in restores(world)[0].disks:
        assert f"{disk.name}  {disk.device_name}" in said


def test_a_restore_that_takes_longer_than_estimated_shows_how_long(api: str, world: World) -> None:
    put_restore(world, replace(running(world.clock.now() - timedelta(hours=3)), estimate_s=780))
    assert "\nestimate: about 13m 0s; under way for 3h 0m\n" in done(api, "restore", "status", ID, *OF)


def test_a_restore_that_waits_since_restores_are_paused_does_not_promise_to_begin(api: str, world: World) -> None:
    paused = d.Failure(code="paused", message="restores are paused")
    one = replace(restore(world.clock.now()), state="approved", needs_approval=False, failure=paused)
    put_restore(world, one)
    said = done(api, "restore", "status", ID, *OF)
    assert "Waits: restores are paused. Not begun by " in said
    assert "within a minute" not in said


def test_who_cancelled_is_said_once(api: str, world: World) -> None:
    put_restore(world, cancelled(world.clock.now()))
    (one,) = restores(world)
    assert one.abandoned is not None
    given_up = replace(one.abandoned, by="otto@x.example", reason="otto@x.example: wrong point")
    put_restore(world, replace(one, abandoned=given_up))
    (said,) = [line for line in done(api, "restore", "status", ID, *OF).splitlines() if line.startswith("given up")]
    assert said.endswith(" by otto@x.example: wrong point")


def test_status_lists_a_tenants_restores_newest_first(api: str, world: World) -> None:
    at = world.clock.now()
    put_restore(world, completed(at))
    put_restore(world, restore(at + timedelta(hours=1), id="20261122-n-alpha-app-0badcafe", mode="new_instance"))
    listed = done(api, "restore", "status", *OF).splitlines()
    assert [line.split()[:3] for line in listed[1:]] == [
        ["20261122-n-alpha-app-0badcafe", "new_instance", "requested"],
        [ID, "in_place", "completed"],
    ]
    assert [one["id"] for one in read(api, "restore", "status", *OF)] == ["20261122-n-alpha-app-0badcafe", ID]
    put_tenant(world, "gamma")
    assert done(api, "restore", "status", "--tenant", "gamma") == "gamma has no restores\n"
    assert "is not a tenant" in refused(api, "restore", "status", "--tenant", "nobody")


def test_tables_fit_into_80_columns(api: str, world: World) -> None:
    put_restore(world, running(world.clock.now()))
    for what in ((), (ID,)):
        shown = run(api, "restore", "status", *what, *OF, COLUMNS="80").stdout
        table = shown.partition("STEP" if what else "RESTORE")[2]
        assert max(len(line) for line in table.splitlines() if not line.startswith("(left out")) <= 80


# --- followed -----------------------------------------------------------------------------------------------------


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """What happens between two looks of whoever follows, one after the other, instead of real time that passes."""

    def between(*changes: Callable[[], object]) -> None:
        left = iter(changes)
        # Nobody waits for two seconds of real time to see that he looks again.
        monkeypatch.setattr(wiring, "wait", lambda seconds: next(left)())

    return between


@pytest.mark.parametrize(("end", "status"), [(completed, 0), (cancelled, 1)])
def test_whoever_follows_sees_each_step_once_and_how_it_ended(
    api: str, world: World, waits: Callable[..., None], end: Callable[..., d.Restore], status: int
) -> None:
    at = world.clock.now()
    put_restore(world, restore(at))
    waits(
        lambda: put_restore(world, running(at)),
        lambda: None,
        lambda: put_restore(world, end(at)),
    )
    result = run(api, "restore", "status", ID, *OF, "--follow")
    lines = result.stdout.splitlines()
    assert result.exit_code == status
    assert lines[0] == f"{ID}: Waits for the approval of a second person, until 2026-11-01 04:00Z"
    assert lines.count("2026-11-01 00:00Z survey done") == 1
    assert "2026-11-01 00:02Z create_disks running: 1 of 2 disks ready" in lines
    assert any(line.startswith(f"{ID} · {'completed' if status == 0 else 'cancelled'} · C") for line in lines)
    if status:
        assert "left, and to be removed by hand: " in result.stdout
    else:
        assert "check probe none: the tenant names none" in lines


def test_json_of_what_is_followed_is_how_it_ended(api: str, world: World, waits: Callable[..., None]) -> None:
    at = world.clock.now()
    put_restore(world, running(at))
    waits(lambda: put_restore(world, completed(at)))
    assert read(api, "restore", "status", ID, *OF, "--follow")["state"] == "completed"


def test_in_a_terminal_the_table_is_kept_current_until_the_end(api: str, world: World) -> None:
    at = world.clock.now()
    put_restore(world, running(at))
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "snapkeep.cli", "restore", "status", ID, *OF, "--follow"]
    here = os.pathsep.join(sys.path)  # this tree, wherever another one is installed
    environment = {**os.environ, "SNAPKEEP_API": api, "TERM": "xterm", "COLUMNS": "100", "PYTHONPATH": here}
    follower = subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment)  # noqa: S603 - this interpreter
    os.close(theirs)
    overdue = threading.Timer(FOLLOWED_WITHIN_S, follower.kill)
    overdue.start()
    shown = ""
    try:
        while chunk := _read(ours):
            shown += chunk
            if "1 of 2 disks ready" in shown:
                put_restore(world, completed(at))
        assert follower.wait(FOLLOWED_WITHIN_S) == 0
    finally:
        overdue.cancel()
        follower.kill()
        follower.wait()
        os.close(ours)
    assert "Completed in 12m 0s" in shown


def _read(terminal: int) -> str:
    """What stands in the terminal since the last look; empty once its program has ended."""
    try:
        return os.read(terminal, 65536).decode(errors="replace")
    except OSError:  # Linux's way to say that nobody writes any more
        return ""

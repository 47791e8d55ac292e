"""What the command line shows comes from the API: against a real server, on memory ports."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import flask
import pytest
from click.testing import Result
from msgspec.structs import replace
from tests.cli.typing_in import done, local_cloud, read, run, serving
from tests.makers import World, instance, point_disk
from tests.web.fleets import put_copies, put_points, put_stored, put_tenant
from tests.web.people import put_people

from snapkeep import documents as d
from snapkeep import health, wiring


@pytest.fixture
def world() -> World:
    one = World()
    put_people(one)
    put_tenant(one, "alpha")
    put_tenant(one, "beta", breached=True)
    put_points(one, "alpha", 70, disks=[point_disk()])
    one.hand("create", b"bad")
    one.tick("audit", "health")
    return one


@pytest.fixture
def api(world: World) -> Iterator[str]:
    with local_cloud(world) as url:
        yield url


def test_the_fleet_is_listed_worst_first(api: str) -> None:
    said = read(api, "fleet", "list")
    assert [(one["id"], one["state"], one["instances"]) for one in said] == [
        ("beta", "breached", 1),
        ("alpha", "protected", 1),
    ]
    table = run(api, "fleet", "list").stdout
    assert table.index("beta") < table.index("alpha")


def test_every_page_of_tenants_is_listed(api: str, world: World) -> None:
    for number in range(60):
        put_tenant(world, f"t{number:02}")
    assert len(read(api, "fleet", "list")) == 62


def test_the_fleets_health_tells_of_ticks_and_bad_messages(api: str) -> None:
    said = read(api, "fleet", "health")
    assert said["fleet"]["rejected"] == 1
    assert [(bad["kind"], bad["excerpt"]) for bad in said["bad_messages"]] == [("rejected", "bad")]
    assert {tick["function"]: tick["silent"] for tick in said["ticks"]} == {
        "audit": False,
        "discover": True,
        "health": False,
        "plan": True,
        "reconcile": True,
        "retention": True,
        "entitlements": True,
        "restore_test": True,
    }
    assert said["paused"]["deletion"]["fleet"] is False
    table = run(api, "fleet", "health").stdout
    assert "not yet" in table
    assert "0 points or copies (0 B) will go in the next 7 days" in table
    assert "1 rejected messages" in table


def test_the_fleets_health_tells_of_points_that_lost_a_snapshot(api: str, world: World) -> None:
    assert "lost a snapshot" not in run(api, "fleet", "health").stdout
    (path,) = (path for path, _ in world.documents_in("tenants/alpha/instances/"))
    one = world.read(d.Instance, path)
    world.clock.move(minutes=1)
    world.put((path, replace(one, retention=d.RetentionWork(incomplete=2), updated_at=world.clock.now())))
    world.tick("health")
    assert "2 points lost a snapshot: `snapkeep points orphans` names them" in run(api, "fleet", "health").stdout


def test_a_guard_is_told_when_the_fleets_health_is_older_than_it_may_be(api: str, world: World) -> None:
    world.clock.move(minutes=14)
    assert run(api, "fleet", "health", "--max-age", "15m").exit_code == 0
    world.clock.move(minutes=2)  # function `health` does not tick, whoever's fault that is
    old = run(api, "fleet", "health", "--max-age", "15m")
    assert old.exit_code == 1
    assert old.stderr.startswith("snapkeep: the fleet's health was computed ")
    assert "beta" in old.stdout
    assert run(api, "fleet", "health").exit_code == 0
    world.tick("health")
    assert run(api, "--json", "fleet", "health", "--max-age", "15m").exit_code == 0


def test_a_guard_who_may_not_see_the_fleets_health_is_told_so(api: str, world: World) -> None:
    put_people(world, anna="alpha")
    blind = run(api, "fleet", "health", "--max-age", "15m", user="anna@alpha.example")
    assert blind.exit_code == 1
    assert "not for you to see" in blind.stderr


def test_a_guard_that_reaches_nobody_fails_too() -> None:
    nobody = run("http://127.0.0.1:1", "fleet", "health", "--max-age", "15m")
    assert nobody.exit_code == 1
    assert nobody.stderr.startswith("snapkeep: ")


def test_what_is_paused_stands_in_the_fleets_health(api: str) -> None:
    assert run(api, "pause", "deletion", "--reason", "looking").exit_code == 0
    assert "paused: deletion everywhere" in run(api, "fleet", "health").stdout


def test_whoever_sees_one_tenant_alone_is_shown_that_one(api: str, world: World) -> None:
    put_people(world, anna="alpha")
    shown = run(api, "fleet", "health", user="anna@alpha.example")
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert "alpha" in shown.stdout
    assert "beta" not in shown.stdout


def test_a_tenant_is_shown(api: str) -> None:
    said = read(api, "fleet", "show", "beta")
    assert (said["tenant"]["id"], said["state"], len(said["instances"])) == ("beta", "breached", 1)
    assert "in breach since" in run(api, "fleet", "show", "beta").stdout


def test_why_points_failed_is_said_once_below_them_in_one_piece(api: str, world: World) -> None:
    why = d.Failure(code="no_consistency_group", message="no consistency group on acme-pam-1-boot. Make one: gcloud x")
    path = "tenants/alpha/points/{}"
    failed = [one["id"] for one in read(api, "points", "list", "--tenant", "alpha")[:2]]
    for id in failed:
        point = world.read(d.Point, path.format(id))
        world.put((path.format(id), replace(point, state="failed", disks=[], failure=why)))
    lines = run(api, "fleet", "show", "alpha", COLUMNS="80").stdout.splitlines()
    assert [line for line in lines if why.message in line] == [f"{why.code}: {why.message}"]
    assert sum(line.startswith(tuple(failed)) and line.rstrip().endswith(why.code) for line in lines) == 2
    assert "at home in z-1: nothing was asked for" in run(api, "points", "show", failed[0]).stdout


@pytest.mark.parametrize("id", ["nobody", "..", "a/b", "ACME", "%2e%2e"])
def test_a_tenant_that_is_not_there_is_one_line(api: str, id: str) -> None:
    result = run(api, "fleet", "show", id)
    assert result.exit_code == 1
    assert result.stderr == f"snapkeep: {id!r} is not a tenant; `snapkeep fleet list` names them\n"


def test_every_page_of_points_is_listed_up_to_the_limit(api: str) -> None:
    said = read(api, "points", "list")
    assert len({one["id"] for one in said}) == 70
    assert {one["tenant"] for one in said} == {"alpha"}
    assert [disk["name"] for disk in said[0]["disks"]] == ["acme-pam-1-boot"]
    limited = run(api, "--json", "points", "list", "--limit", "60")
    assert len(json.loads(limited.stdout)) == 60
    assert "more than 60" in limited.stderr
    assert run(api, "points", "list", "--limit", "70").stderr == ""
    assert read(api, "points", "list", "--tenant", "beta") == []
    assert read(api, "points", "list", "--state", "verified") == []
    assert len(read(api, "points", "list", "--state", "requested", "--tenant", "alpha")) == 70


def test_columns_says_how_wide_a_table_is_in_a_file_too(api: str) -> None:
    narrow = run(api, "points", "list", COLUMNS="100").stdout.splitlines()
    assert max(map(len, narrow[:-1])) <= 100
    assert narrow[-1].startswith("(left out for want of width: REGION, TRIGGER")
    for none in (None, "0", "wide"):
        whole = run(api, "points", "list", COLUMNS=none).stdout
        assert "REGION" in whole.splitlines()[0]
        assert "left out" not in whole


def test_a_point_is_shown_with_its_disks(api: str) -> None:
    id = "20261101-o-alpha-app-00000007"
    assert read(api, "points", "show", id)["tenant"] == "alpha"
    shown = run(api, "points", "show", id).stdout
    assert f"{id} · alpha · on_demand · requested" in shown
    assert "sk-boot-1" in shown


@pytest.fixture
def copied(world: World) -> list[str]:
    """A tenant with copies in every state; the ids of their points."""
    put_tenant(world, "gamma")
    put_stored(world, "gamma", 6)
    return put_copies(world, "gamma")


def wide(lines: list[str]) -> int:
    """The width of tables; the sentence below one goes on in the terminal's next line."""
    return max(len(line) for line in lines if not line.startswith("(left out"))


def cells(line: str) -> list[str]:
    return re.split(r"  +", line.strip())


def test_home_and_copy_of_a_point_stand_side_by_side(api: str, copied: list[str]) -> None:
    shown = run(api, "points", "show", copied[1], COLUMNS="80").stdout.splitlines()
    assert "copy in us-east1: verified, 1 disk, 2.0 GiB" in shown
    table = shown[shown.index("") + 1 :]
    assert cells(table[0]) == ["HOME southamerica-east1", "COPY us-east1"]
    rows = {row[0]: row[1:] for row in map(cells, table[1 : table.index("")])}
    assert rows["state"] == ["verified", "verified"]
    assert rows["taken"] == ["2026-10-30 00:00Z", "2026-10-30 00:00Z"]
    assert rows["verified"] == ["2026-10-30 00:04Z", "2026-10-30 01:20Z"]
    assert rows["acme-pam-1-boot"] == ["READY, 2.0 GiB", "READY, 2.0 GiB"]
    assert "sk-gamma-app-2-copy" in "\n".join(table)
    assert wide(table) <= 80


def test_a_copy_that_is_not_there_says_how_it_is_made_and_what_stands_in_its_way(api: str, copied: list[str]) -> None:
    copying = run(api, "points", "show", copied[0]).stdout
    assert "copy in us-east1: copying, late, 1 disk, 0 B" in copying
    assert "through temporary disks, of the snapshots at home" in copying
    assert "sk-acme-pam-1-boot-tmp: READY" in copying
    failed = run(api, "points", "show", copied[2]).stdout
    assert "  instant_gone: the instant snapshot of acme-pam-1-boot is gone" in failed
    assert "goes: no rule keeps it; not before 2026-11-01 20:00Z" in run(api, "points", "show", copied[3]).stdout


def test_the_list_of_points_names_their_copies(api: str, copied: list[str]) -> None:
    shown = run(api, "points", "list", "--tenant", "gamma").stdout
    assert "us-east1 copying" in shown
    assert "us-west1 verified" in shown


def test_a_tenants_regions_are_a_map(api: str, copied: list[str]) -> None:
    shown = run(api, "fleet", "show", "gamma", COLUMNS="80").stdout.splitlines()
    at = next(n for n, line in enumerate(shown) if line.startswith("REGION"))
    assert cells(shown[at]) == ["REGION", "ROLE", "BOUGHT UNTIL", "NEWEST", "SETS", "STORED"]
    assert cells(shown[at + 1]) == ["southamerica-east1", "home", "0m", "5", "1.0 GiB"]
    assert cells(shown[at + 2]) == ["us-east1", "copy", "2027-12-31", "2d 0h", "3"]
    assert cells(shown[at + 3]) == ["us-west1", "copy", "ended 2026-10-23", "5d 0h", "1"]
    assert shown[at + 4] == "copies: 1 missing, 2 late, 1 no longer bought"
    assert shown[at + 5] == "copies in us-west1 are kept until 2026-11-22 at least: no longer bought"
    assert wide(shown[at:]) <= 80


def test_the_fleets_health_counts_copies(api: str, world: World, copied: list[str]) -> None:
    world.tick("health")
    assert read(api, "fleet", "health")["fleet"]["copies"]["lagging"] == 2
    shown = run(api, "fleet", "health").stdout
    told = "copies: 3 verified, 1 on their way, 1 missing, 2 late, 1 no longer bought; 8.0 GiB"
    assert told in shown
    assert "made up through temporary disks so far: 1 disk, 100.0 GiB" in shown


def test_a_point_that_is_not_there_is_one_line(api: str) -> None:
    result = run(api, "points", "show", "none")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "snapkeep: 'none' is no point; `snapkeep points list` names them\n"


def test_the_points_of_a_tenant_that_is_not_there_are_refused(api: str) -> None:
    result = run(api, "points", "list", "--tenant", "nobody")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "snapkeep: 'nobody' is not a tenant; `snapkeep fleet list` names them\n"


@pytest.fixture
def acme(world: World) -> World:
    """A tenant whose points can be started."""
    world.set_up()
    return world


def ask_for(api: str, instance: str, *more: str, reason: str = "before import") -> Result:
    return run(api, "points", "create", "--tenant", "acme", "--instance", instance, "--reason", reason, *more)


def test_a_point_is_asked_for_once_whatever_the_same_id_is_sent_again(api: str, acme: World) -> None:
    for _ in range(2):
        assert ask_for(api, "acme-pam-1", "--id", "import-1").exit_code == 0
        acme.deliver()
    assert [point.reason for point in acme.points()] == ["before import"]
    assert [point.requested_by for point in acme.points()] == ["admin@vendor.example"]


def test_what_is_asked_for_is_named(api: str, acme: World) -> None:
    result = run(api, "--json", "points", "create", "--tenant", "acme", "--instance", "acme-pam-1", "--reason", "x")
    said = json.loads(result.stdout)
    assert said["point"] == acme.the_point().id
    assert said["id"].startswith("cli-")
    assert (said["tenant"], said["instance"]) == ("acme", "acme-pam-1")


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[float]]:
    """What happens between two looks of whoever waits, one after the other, instead of real time that passes."""

    def between(*changes: Callable[[], object]) -> list[float]:
        left, slept = iter(changes), list[float]()

        def pass_by(seconds: float) -> None:
            slept.append(seconds)
            next(left)()

        # Nobody waits for two seconds of real time to see that he looks again.
        monkeypatch.setattr(wiring, "wait", pass_by)
        return slept

    return between


def becomes(world: World, **changes: Any) -> Callable[[], object]:
    """The one point of acme is another all at once."""

    def change() -> None:
        one = world.the_point()
        world.put((f"tenants/acme/points/{one.id}", replace(one, **changes)))

    return change


def test_whoever_waits_for_a_point_is_told_that_it_is_verified(
    api: str, acme: World, waits: Callable[..., list[float]]
) -> None:
    slept = waits(becomes(acme, state="creating"), becomes(acme, state="verified"))
    result = ask_for(api, "acme-pam-1", "--wait", "15m")
    assert result.exit_code == 0
    assert "clock of a local cloud stands still" in result.stderr
    assert result.stdout.endswith(f"{acme.the_point().id} is verified\n")
    assert len(slept) == 2


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (
            {"state": "failed", "failure": d.Failure(code="DEADLINE", message="six hours are over")},
            "is failed: DEADLINE: six hours",
        ),
        ({"state": "expiring"}, "is expiring"),
    ],
    ids=["failed", "gone already"],
)
def test_whoever_waits_for_a_point_that_ends_otherwise_is_told_why(
    api: str, acme: World, waits: Callable[..., list[float]], end: dict[str, Any], said: str
) -> None:
    waits(becomes(acme, **end))
    result = ask_for(api, "acme-pam-1", "--wait", "15m")
    assert result.exit_code == 1
    assert f"{acme.the_point().id} {said}" in result.stderr


def test_waiting_has_a_bound_and_what_was_asked_for_goes_on(
    api: str, acme: World, waits: Callable[..., list[float]]
) -> None:
    slept = waits(*[lambda: None] * 30)
    result = ask_for(api, "acme-pam-1", "--wait", "1m")
    assert (result.exit_code, sum(slept)) == (1, 60)
    assert "is still requested after 1m 0s" in result.stderr
    assert acme.the_point().state == "requested"


def test_an_id_that_made_a_point_of_another_instance_is_refused(api: str, acme: World) -> None:
    assert ask_for(api, "acme-pam-1", "--id", "import-1").exit_code == 0
    acme.put(("tenants/acme/instances/77", instance(id="77", name="acme-pam-2")))
    refused = ask_for(api, "acme-pam-2", "--id", "import-1")
    assert refused.exit_code == 1
    assert "used before, for something else" in refused.stderr


@pytest.mark.parametrize(("reason", "said"), [("", "reason: empty"), ("  ", "reason: empty"), ("a\nb", "reason")])
def test_a_reason_that_is_none_is_refused(api: str, acme: World, reason: str, said: str) -> None:
    refused = ask_for(api, "acme-pam-1", reason=reason)
    assert refused.exit_code == 1
    assert said in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert acme.points() == []


def test_what_the_api_refuses_is_one_line(api: str) -> None:
    result = run(api, "points", "list", "--tenant", "../x")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "snapkeep: tenant: '../x' is no tenant's id\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--tenant", "nobody", "--instance", "x"), "'nobody' is not there; `snapkeep fleet list` names what is"),
        (("--tenant", "alpha", "--instance", "x"), "instance: 'alpha' has no instance 'x'"),
        (("--tenant", "alpha", "--instance", "alpha-app", "--zone", "z-1-b"), "instance: 'alpha' has no instance"),
    ],
)
def test_a_point_of_what_is_not_there_is_not_asked_for(api: str, arguments: tuple[str, ...], said: str) -> None:
    result = run(api, "points", "create", *arguments, "--reason", "before import")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"snapkeep: {said}")


def test_two_instances_of_a_name_need_the_zone(api: str, world: World) -> None:
    put_tenant(world, "gamma")
    world.put(("tenants/gamma/instances/77", instance(id="77", name="gamma-app", zone="z-1-b")))
    world.clock.move(seconds=timedelta(minutes=1).total_seconds())
    result = run(api, "points", "create", "--tenant", "gamma", "--instance", "gamma-app", "--reason", "before import")
    assert result.exit_code == 1
    assert result.stderr == "snapkeep: zone: missing; 'gamma-app' is in southamerica-east1-a, z-1-b: name one of them\n"


def test_the_address_of_the_api_may_hold_its_path(api: str) -> None:
    for address in (f"{api}/api/v1", f"{api}/api/v1/", f"{api}/"):
        assert len(read(address, "fleet", "list")) == 2


@pytest.fixture(params=[b'{"detail":"Not Found"}', b"<html>", b""])
def stranger(request: pytest.FixtureRequest) -> Iterator[str]:
    """Another server, that answers everything with its own 404."""
    with serving(flask.Response(request.param, 404)) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("arguments", [("fleet", "list"), ("fleet", "show", "acme"), ("points", "show", "x")])
def test_another_servers_404_says_nothing_about_tenants(stranger: str, arguments: tuple[str, ...]) -> None:
    result = run(stranger, *arguments)
    assert result.exit_code == 1
    assert "something else listens there" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_health_names_whose_restore_tests_somebody_may_have_to_look_at_and_show_says_how_one_stands(
    api: str, world: World
) -> None:
    owner = world.read(d.Tenant, "tenants/alpha")
    test = d.RestoreTest(every_days=30, network="projects/acme-prod/global/networks/closed")
    assert "restore tests: none: the fleet file asks for no restore_test\n" in done(api, "fleet", "show", "alpha")
    instances = world.instances("alpha")

    def tests_of(**last: Any) -> None:
        after = replace(owner, restore_test=test, **last)
        world.put(("tenants/alpha", after), ("health/alpha", health.compute(after, instances, world.clock.now())))

    tests_of()
    assert "no restore test ever of: alpha\n" in done(api, "fleet", "health")
    assert "restore tests: never had one\n" in done(api, "fleet", "show", "alpha")
    why = d.Failure(code="checks_failed", message="contents: differ")
    fields: dict[str, Any] = {"restore": "r", "point": "p", "region": "z-1", "at": world.clock.now(), "took_s": 744}
    tests_of(restore_tested=d.RestoreTested(passed=False, failure=why, **fields))
    assert "the last restore test failed of: alpha\n" in done(api, "fleet", "health")
    told = done(api, "fleet", "show", "alpha")
    assert "restore tests: FAILED 0m ago: p in z-1: checks_failed: contents: differ\n" in told
    tests_of(restore_tested=d.RestoreTested(passed=True, **fields))
    assert "passed 0m ago" in done(api, "fleet", "health")
    assert "restore tests: passed 0m ago in 12m 24s: p in z-1\n" in done(api, "fleet", "show", "alpha")

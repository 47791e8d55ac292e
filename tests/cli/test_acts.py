"""What a person decides at the command line: holds, pauses, overrides, offboarding, the schedule, policies."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.cli.typing_in import done, local_cloud, read, refused, run
from tests.makers import World, instance
from tests.web.fleets import gone, put_copies, put_stored, put_tenant
from tests.web.people import put_people

from snapkeep import documents as d

WEEK = d.Retention(keep_last=0, keep_daily=7, keep_weekly=0, keep_monthly=0, lock_days=0)
CLIENT = "anna@beta.example"
VIEWER = "viewer@vendor.example"


@pytest.fixture
def world() -> World:
    one = World()
    put_people(one, anna="beta")
    put_tenant(one, "alpha", retention=WEEK)
    put_tenant(one, "beta", deployment="private_saas")
    put_stored(one, "alpha", 10, lock_until=None)
    return one


@pytest.fixture
def api(world: World) -> Iterator[str]:
    with local_cloud(world) as url:
        yield url


def rows(table: str) -> list[list[str]]:
    """Cells of a table's rows, by the gaps between them."""
    return [[cell for cell in line.split("  ") if cell] for line in table.splitlines()]


# --- copies -------------------------------------------------------------------------------------------------------


@pytest.fixture
def copied(world: World) -> list[str]:
    """A tenant with copies in every state, and a seventh point that has none; the ids of their points."""
    put_tenant(world, "gamma")
    put_stored(world, "gamma", 7)
    return [*put_copies(world, "gamma"), min(point.id for point in world.points("gamma"))]


def test_a_copy_is_asked_for_by_the_points_id_alone(api: str, world: World, copied: list[str]) -> None:
    before = world.memory.dump()
    would = done(api, "points", "copy", copied[6], "--reason", "before the move", "--dry-run")
    assert would == "a copy in us-east1 would be asked for: 1 disk of 100 GB in full\n"
    assert world.memory.dump() == before
    said = done(api, "points", "copy", copied[6], "--reason", "before the move")
    assert said.splitlines()[0] == "a copy in us-east1 is asked for: 1 disk of 100 GB in full"
    copy = world.read(d.Point, f"tenants/gamma/points/{copied[6]}").copies["us-east1"]
    assert (copy.state, copy.reason, copy.requested_by) == ("requested", "before the move", "admin@vendor.example")
    assert "copy in us-east1: requested" in done(api, "points", "show", copied[6])
    assert "us-east1: nothing is asked for yet" in done(api, "points", "show", copied[6])


def test_a_copy_that_is_not_bought_or_is_there_already_is_refused_with_the_reason(api: str, copied: list[str]) -> None:
    def ask(id: str, *more: str) -> str:
        return refused(api, "points", "copy", id, "--reason", "x", *more)

    assert "is not entitled to copies in us-west1" in ask(copied[6], "--region", "us-west1")
    assert "has a copy in us-east1 already" in ask(copied[1])
    assert "is on its way already" in ask(copied[0])
    assert "alpha is not entitled to copies" in ask("20261031-s-alpha-app-00000001")
    assert ask("20261031-s-nobody-app-00000001").startswith("'20261031-s-nobody-app-00000001' is no point")


def test_a_copy_can_be_held_apart_from_its_point(api: str, world: World, copied: list[str]) -> None:
    held = done(
        api, "hold", "add", "--tenant", "gamma", "--point", copied[3], "--copy", "us-east1", "--reason", "case 4711"
    )
    assert held.splitlines()[:2] == [
        f"the copy of {copied[3]} in us-east1 is held until it is released: case 4711",
        "it was expiring, and is called back",
    ]
    point = world.read(d.Point, f"tenants/gamma/points/{copied[3]}")
    assert [hold.reason for hold in point.copies["us-east1"].holds] == ["case 4711"]
    assert point.holds == []
    assert f"{copied[3]}@us-east1" in done(api, "hold", "list", "--tenant", "gamma")
    assert "held until it is released: case 4711" in done(api, "points", "show", copied[3])
    shown = done(api, "fleet", "show", "gamma")
    assert f"held: the copy of {copied[3]} in us-east1 until it is released: case 4711" in shown


def test_a_plan_shows_copies_below_the_points_of_their_instance(api: str, copied: list[str]) -> None:
    lines = done(api, "retention", "plan", "--tenant", "gamma").splitlines()
    home, bought, ended = (lines.index(line) for line in (lines[2], "copies in us-east1", "copies in us-west1"))
    assert home < bought < ended
    (copying,) = (line for line in lines[bought:ended] if line.startswith(copied[0]))
    assert "copying, late" in copying
    (failed,) = (line for line in lines[bought:ended] if line.startswith(copied[2]))
    assert "instant_gone: the instant snapshot of acme-pam-1-boot is gone" in failed
    assert "6 copies, 8.0 GiB" in lines
    assert lines[-1] == "nothing goes"


# --- retention plan -----------------------------------------------------------------------------------------------


def test_a_plan_shows_every_point_with_its_decision_and_reasons(api: str) -> None:
    said = done(api, "retention", "plan", "--tenant", "alpha")
    lines = said.splitlines()
    assert lines[0] == "alpha at 2026-11-01 00:00Z, by its policy: daily 7, 90 days after it is gone"
    points = [line for line in lines if line.startswith("202610")]
    assert len(points) == 10
    assert "verified" in points[0]
    assert "keep" in points[0]
    assert "daily 1/7, newest verified" in points[0]
    assert "expires" in points[7]
    assert "no rule keeps it" in points[7]
    assert lines[-2:] == [
        "10 points, 20.0 GiB; kept by: 7 daily, 1 newest verified",
        "3 points go: 6.0 GiB freed",
    ]


def test_a_plan_of_a_later_day_says_what_it_takes_for_granted(api: str) -> None:
    said = done(api, "retention", "plan", "--tenant", "alpha", "--at", "2026-11-04")
    assert said.startswith("alpha at 2026-11-04 00:00Z")
    assert "assumed: every scheduled point until then is taken and verified" in said
    assert "6 points go: 12.0 GiB freed" in said


def test_a_plan_by_another_policy_says_so_and_changes_nothing(api: str, world: World, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("keep_daily: 2\nkeep_last: 0\nkeep_weekly: 0\nkeep_monthly: 0\n")
    before = world.memory.dump()
    said = read(api, "retention", "plan", "--tenant", "alpha", "--policy", policy)
    assert (said["proposed"], said["going"], said["policy"]["keep_daily"]) == (True, 8, 2)
    assert "by a proposed policy: daily 2" in done(api, "retention", "plan", "--tenant", "alpha", "--policy", policy)
    assert world.memory.dump() == before


def test_a_plan_of_one_instance_is_of_that_one(api: str, world: World) -> None:
    world.put(("tenants/alpha/instances/77", instance(id="77", name="alpha-db")))
    said = done(api, "retention", "plan", "--tenant", "alpha", "--instance", "alpha-db")
    assert "alpha-db (southamerica-east1-a)" in said
    assert "nothing is stored" in said
    assert "alpha-app" not in said


def test_a_wrong_policy_is_one_line_a_mistake_and_a_last_one(api: str, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("keep_daily: many\nkeep_last: -1\n")
    result = run(api, "retention", "plan", "--tenant", "alpha", "--policy", policy)
    assert result.exit_code == 1
    *mistakes, last = result.stderr.splitlines()
    assert len(mistakes) == 2
    assert last == f"snapkeep: {policy}: 2 mistakes; nothing was planned by it"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--tenant", "nobody"), "'nobody' is not a tenant; `snapkeep fleet list` names them"),
        (("--tenant", "alpha", "--instance", "none"), "'alpha' has no instance 'none', or is not a tenant"),
        (("--tenant", "alpha", "--at", "2026-10-01"), "expected a moment from now to"),
        (("--tenant", "alpha", "--at", "2099-01-01"), "expected a moment from now to"),
    ],
)
def test_a_plan_of_what_is_not_there_is_refused(api: str, arguments: tuple[str, ...], said: str) -> None:
    assert said in refused(api, "retention", "plan", *arguments)


@pytest.mark.parametrize("at", ["tomorrow", "2026-11-04T00:00", "2026-13-01"])
def test_what_is_no_time_is_wrong_usage(api: str, at: str) -> None:
    result = run(api, "retention", "plan", "--tenant", "alpha", "--at", at)
    assert result.exit_code == 2
    assert "Error: Invalid value for '--at'" in result.stderr


# --- holds --------------------------------------------------------------------------------------------------------


def test_a_hold_is_added_listed_shown_and_released(api: str, world: World) -> None:
    said = done(api, "hold", "add", "--tenant", "alpha", "--reason", "case 4711", "--until", "2026-12-01")
    assert said.splitlines()[0] == "tenant alpha is held until 2026-12-01 00:00Z: case 4711"
    (hold,) = world.read(d.Tenant, "tenants/alpha").holds
    assert (hold.by, hold.reason) == ("admin@vendor.example", "case 4711")
    listed = done(api, "hold", "list")
    assert hold.id in listed
    assert "case 4711" in listed
    assert f"held: all of it until 2026-12-01 00:00Z: case 4711 ({hold.id})" in done(api, "fleet", "show", "alpha")
    assert "tenant held: case 4711" in done(api, "retention", "plan", "--tenant", "alpha")
    said = done(api, "hold", "release", "--tenant", "alpha", hold.id, "--reason", "case closed")
    assert said.splitlines()[0] == "tenant alpha is no longer held for: case 4711"
    assert done(api, "hold", "list", "--tenant", "alpha") == "nothing is held\n"


def test_a_point_and_an_instance_can_be_held(api: str, world: World) -> None:
    point = read(api, "points", "list", "--tenant", "alpha")[0]["id"]
    said = read(api, "hold", "add", "--tenant", "alpha", "--point", point, "--reason", "known good")
    assert (said["subject"], said["hold"]["reason"]) == (f"points/{point}", "known good")
    assert "held until it is released: known good" in done(api, "points", "show", point)
    said = read(api, "hold", "add", "--tenant", "alpha", "--instance", "alpha-app", "--reason", "migration")
    assert said["name"] == "alpha-app"
    assert [one["name"] for one in read(api, "hold", "list", "--tenant", "alpha")["holds"]] == ["alpha-app", point]


def test_a_plan_says_first_that_deletion_is_paused_for_the_tenant(api: str) -> None:
    line = "deletion is paused {}: nothing goes until it is resumed"
    for where, said in ((("--tenant", "alpha"), "for tenant alpha"), ((), "everywhere")):
        done(api, "pause", "deletion", *where, "--reason", "r")
        assert done(api, "retention", "plan", "--tenant", "alpha").splitlines()[0] == line.format(said)
        done(api, "resume", "deletion", *where, "--reason", "r")
    done(api, "pause", "deletion", "--tenant", "beta", "--reason", "r")
    assert "paused" not in done(api, "retention", "plan", "--tenant", "alpha")


def test_a_hold_without_an_end_is_open_in_the_list(api: str) -> None:
    done(api, "hold", "add", "--tenant", "alpha", "--reason", "case 4711")
    (line,) = (one for one in done(api, "hold", "list").splitlines() if "case 4711" in one)
    assert " open " in line


def test_a_hold_that_comes_late_says_for_what(api: str, world: World) -> None:
    (one,) = world.instances("alpha")
    path = f"tenants/alpha/instances/{one.id}"
    world.put((path, replace(one, retention=d.RetentionWork(deleting=["p1", "p2"]))))
    said = done(api, "hold", "add", "--tenant", "alpha", "--reason", "case 4711").splitlines()
    assert said[1] == ("the deletion of 2 points had begun before: p1, p2; only what had not been asked for yet stays")
    (first, *_) = world.points("alpha")
    grace = d.Expiry(was="verified", reason="r", decided_at=world.clock.now(), delete_after=world.clock.now())
    world.put((f"tenants/alpha/points/{first.id}", replace(first, state="expiring", expiry=grace)))
    said = done(api, "hold", "add", "--tenant", "alpha", "--point", first.id, "--reason", "good").splitlines()
    assert said[1] == "it was expiring, and is called back"


def test_the_same_id_twice_is_one_hold(api: str, world: World) -> None:
    for _ in range(2):
        done(api, "hold", "add", "--tenant", "alpha", "--reason", "case 4711", "--id", "ticket-4711")
    assert len(world.read(d.Tenant, "tenants/alpha").holds) == 1
    line = refused(api, "hold", "add", "--tenant", "alpha", "--reason", "another", "--id", "ticket-4711")
    assert "used before, for something else" in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("add", "--tenant", "alpha", "--point", "20261001-s-x-0badcafe", "--reason", "x"), "20261001-s-x-0badcafe"),
        (("add", "--tenant", "alpha", "--instance", "none", "--reason", "x"), "none"),
        (("add", "--tenant", "nobody", "--reason", "x"), "'nobody' is not there; `snapkeep fleet list` names what is"),
        (("add", "--tenant", "alpha", "--reason", ""), "reason"),
        (("release", "--tenant", "alpha", "0123456789abcdef", "--reason", "x"), "of 'alpha' is not there"),
        (("list", "--tenant", ".."), "is no tenant's id"),
    ],
)
def test_a_hold_on_what_is_not_there_is_one_line(api: str, arguments: tuple[str, ...], said: str) -> None:
    assert said in refused(api, "hold", *arguments)


def test_a_hold_is_on_one_thing(api: str) -> None:
    result = run(api, "hold", "add", "--tenant", "a", "--point", "p", "--instance", "i", "--reason", "x")
    assert result.exit_code == 2
    assert "not both" in result.stderr


def test_who_may_not_is_told_who_may(api: str) -> None:
    line = refused(api, "hold", "add", "--tenant", "alpha", "--reason", "x", user=VIEWER)
    assert line == "hold.add is not for viewer: it needs operator or admin"


# --- pause, resume ------------------------------------------------------------------------------------------------


def test_what_is_paused_is_said_until_it_goes_on(api: str) -> None:
    assert done(api, "pause", "deletion", "--reason", "looking") == "deletion is paused everywhere\n"
    assert done(api, "pause", "deletion", "--tenant", "alpha", "--reason", "looking") == (
        "deletion is paused everywhere, for tenant alpha\n"
    )
    assert "paused: deletion everywhere, for tenant alpha" in done(api, "fleet", "show", "alpha")
    assert done(api, "resume", "deletion", "--reason", "done") == "deletion is paused for tenant alpha\n"
    assert (
        done(api, "resume", "deletion", "--tenant", "alpha", "--reason", "done")
        == "deletion is paused nowhere for alpha\n"
    )


def test_a_project_can_be_paused(api: str) -> None:
    said = read(api, "pause", "creation", "--project", "acme-prod", "--reason", "quota")
    assert (said["what"], said["paused"]["projects"]) == ("creation", ["acme-prod"])
    assert done(api, "resume", "creation", "--tenant", "alpha", "--reason", "x") == (
        "creation is paused in project acme-prod\n"
    )


def test_a_project_that_nobody_has_is_not_paused(api: str) -> None:
    assert "no tenant has" in refused(api, "pause", "deletion", "--project", "acme-prdo", "--reason", "x")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("pause", "deletion"), "deletion would be paused everywhere\n"),
        (("resume", "deletion"), "deletion would be paused nowhere\n"),
        (("pause", "creation", "--tenant", "beta"), "creation would be paused for tenant beta\n"),
        (("hold", "add", "--tenant", "beta"), "tenant beta would be held until it is released: r\n"),
        (("schedule", "on", "--tenant", "beta"), "the schedule of beta would be on\n"),
        (("schedule", "off", "--tenant", "beta"), "the schedule of beta would be off\n"),
    ],
)
def test_a_dry_run_says_what_would_be_and_changes_nothing(
    api: str, world: World, arguments: tuple[str, ...], said: str
) -> None:
    before = world.memory.dump()
    user = CLIENT if arguments[0] == "schedule" else None
    assert done(api, *arguments, "--reason", "r", "--dry-run", user=user) == said
    assert read(api, *arguments, "--reason", "r", "--dry-run", user=user)["dry_run"] is True
    assert world.memory.dump() == before


def test_a_dry_run_of_a_release_says_what_nothing_else_keeps(api: str, world: World) -> None:
    def release(subject: tuple[str, ...]) -> str:
        hold = read(api, "hold", "add", "--tenant", "alpha", *subject, "--reason", "case 4711")["hold"]["id"]
        before = world.memory.dump()
        said = done(api, "hold", "release", hold, "--tenant", "alpha", "--reason", "x", "--dry-run")
        assert world.memory.dump() == before
        done(api, "hold", "release", hold, "--tenant", "alpha", "--reason", "x")
        return said

    oldest, newest = world.points("alpha")[0].id, world.points("alpha")[-1].id
    assert release(("--point", oldest)) == (
        f"point {oldest} would no longer be held for: case 4711\n"
        f"1 point would go after 24 hours of grace, kept by nothing else: {oldest}\n"
    )
    assert "nothing would go: something else keeps each" in release(("--point", newest))
    assert "3 points would go after 24 hours of grace" in release(("--instance", "alpha-app"))
    assert "`snapkeep retention plan` has them all" in release(())


def test_pausing_needs_a_reason_and_one_place(api: str) -> None:
    assert run(api, "pause", "deletion").exit_code == 2
    assert run(api, "pause", "everything", "--reason", "x").exit_code == 2
    assert run(api, "pause", "deletion", "--tenant", "a", "--project", "p", "--reason", "x").exit_code == 2


@pytest.mark.parametrize("where", ["--tenant", "--project"])
def test_a_name_that_is_empty_is_not_the_whole_fleet(api: str, world: World, where: str) -> None:
    done(api, "pause", "deletion", "--reason", "case 4711")
    result = run(api, "resume", "deletion", where, "", "--reason", "of one alone")
    assert result.exit_code == 2
    assert "it is empty: give a name, or leave the option out" in result.stderr
    assert world.read(d.Controls, "system/controls").paused.deletion.fleet


@pytest.mark.parametrize("noun", ["points", "hold"])
def test_a_list_of_an_empty_name_is_not_the_whole_list(api: str, noun: str) -> None:
    assert run(api, noun, "list", "--tenant", "").exit_code == 2


def test_a_client_of_a_saas_tenant_pauses_nothing(api: str) -> None:
    assert "it needs" in refused(api, "pause", "deletion", "--reason", "x", user=CLIENT)
    line = refused(api, "pause", "deletion", "--tenant", "alpha", "--reason", "x", user=CLIENT)
    assert line == "'alpha' is not there; `snapkeep fleet list` names what is"
    assert "for tenant beta" in done(api, "pause", "deletion", "--tenant", "beta", "--reason", "x", user=CLIENT)


# --- override -----------------------------------------------------------------------------------------------------


def in_breach(world: World) -> None:
    path = next(path for path, _ in world.documents_in("tenants/alpha/instances/"))
    one = world.read(d.Instance, path)
    old = d.Newest(point="x", at=world.clock.now() - timedelta(days=3), took_s=60)
    world.put((path, replace(one, newest_verified=old, breach_at=world.clock.now())))


OVERRIDE = ("retention", "override", "--tenant", "alpha", "--instance", "alpha-app", "--reason", "their disk is full")


def test_an_override_says_what_goes_and_a_dry_run_changes_nothing(api: str, world: World) -> None:
    in_breach(world)
    assert "in breach of its RPO" in done(api, "retention", "plan", "--tenant", "alpha")
    before = world.memory.dump()
    said = done(api, *OVERRIDE, "--dry-run")
    assert said.splitlines()[0] == "3 points of alpha-app would go: 6.0 GiB"
    assert len(said.splitlines()) == 4
    assert world.memory.dump() == before
    assert "3 points of alpha-app go after their 24 hours of grace" in done(api, *OVERRIDE)
    assert "overridden once: their disk is full" in done(api, "retention", "plan", "--tenant", "alpha")


def test_an_operator_cannot_override(api: str, world: World) -> None:
    in_breach(world)
    assert "it needs admin" in refused(api, *OVERRIDE, user="operator@vendor.example")


# --- offboard -----------------------------------------------------------------------------------------------------


def test_a_tenant_leaves_on_a_day_and_may_stay_after_all(api: str, world: World) -> None:
    leave = ("fleet", "offboard", "alpha", "--on", "2026-12-01", "--reason", "end of contract")
    before = world.memory.dump()
    assert done(api, *leave, "--dry-run").splitlines()[0] == "alpha would leave 2026-12-01 03:00Z"
    assert world.memory.dump() == before
    assert done(api, *leave).splitlines()[0] == "alpha leaves 2026-12-01 03:00Z"
    assert "leaves 2026-12-01 03:00Z: end of contract" in done(api, "fleet", "show", "alpha")
    assert done(api, "fleet", "offboard", "alpha", "--cancel", "--reason", "they stay") == "alpha stays\n"
    assert "leaves" not in done(api, "fleet", "show", "alpha")


def test_a_day_that_has_come_says_what_is_lost_at_once(api: str, world: World) -> None:
    leave = ("fleet", "offboard", "alpha", "--on", "2020-01-01", "--reason", "it left long ago")
    said = done(api, *leave, "--dry-run").splitlines()
    assert said[1] == "that day has come: its instances would be lost at once, with 10 points stored of them"
    assert "its instances are lost at once, with 10 points stored of them" in done(api, *leave)


def test_offboarding_needs_a_day_or_a_cancellation(api: str) -> None:
    for more in ((), ("--on", "2026-12-01", "--cancel"), ("--on", "soon")):
        assert run(api, "fleet", "offboard", "alpha", "--reason", "x", *more).exit_code == 2
    assert "'nobody' is not there" in refused(api, "fleet", "offboard", "nobody", "--cancel", "--reason", "x")


# --- schedule -----------------------------------------------------------------------------------------------------


def test_a_client_switches_the_schedule_of_his_own_tenant_and_nobody_else(api: str) -> None:
    switch = ("schedule", "on", "--tenant", "beta", "--reason", "agreed")
    assert "client_admin" in refused(api, *switch)
    assert done(api, *switch, user=CLIENT) == "the schedule of beta is on\n"
    assert "its schedule was switched on" in done(api, "fleet", "show", "beta")
    said = read(api, "schedule", "off", "--tenant", "beta", "--reason", "enough", user=CLIENT)
    assert said["schedule_switch"]["on"] is False


# --- access, orphans, tick ----------------------------------------------------------------------------------------


def test_access_shows_who_one_is_the_table_and_whose_work_is_what(api: str) -> None:
    said = done(api, "access", "show", user=CLIENT)
    first = "anna@beta.example, client_admin of beta (not verified: a local cloud believes whoever asks)"
    assert said.splitlines()[0] == first
    mine = {row[0]: row[1].strip() for row in rows(said) if len(row) > 2}
    assert (mine["hold.add"], mine["fleet.read"], mine["tick"]) == ("private_saas", "yes", "no")
    assert "system backups (recovery points)" in said
    both = read(api, "access", "show")
    assert both["me"]["role"] == "admin"
    assert {"rights", "responsibility", "roles"} <= both.keys()


def test_orphans_are_listed_by_project(api: str, world: World) -> None:
    assert done(api, "points", "orphans") == "0 orphans in 0 vault projects\n"
    now = world.clock.now()
    one = d.Vault(
        project="v1",
        tenants=["alpha"],
        listed_at=now,
        orphans=[gone(now), replace(gone(now), snapshot="sk-b", copy="us-east1")],
        orphans_total=3,
        next_at=now,
        updated_at=now,
    )
    no = d.Failure(code="forbidden", message="no")
    other = d.Vault(project="v2", tenants=["alpha"], failure=no, next_at=now, updated_at=now)
    world.put(("vaults/v1", one), ("vaults/v2", other))
    said = done(api, "points", "orphans")
    assert "snapshot_gone  sk-a" in said
    assert "20261101-o-alpha-app-0badcafe@us-east1" in said
    assert "2 orphans and 1 more in 2 vault projects" in said
    assert "v2 cannot be listed: forbidden: no" in said
    assert [vault["project"] for vault in read(api, "points", "orphans")] == ["v1", "v2"]


def test_a_function_is_woken(api: str, world: World) -> None:
    assert read(api, "tick", "plan")["topic"] == "snapkeep-plan"
    assert "published to snapkeep-plan" in done(api, "tick", "plan")
    assert "it needs operator or admin" in refused(api, "tick", "plan", user="auditor@vendor.example")


# --- the audit chains ---------------------------------------------------------------------------------------------


def test_stored_chains_are_read_and_verified_here(api: str, world: World, tmp_path: Path) -> None:
    done(api, "hold", "add", "--tenant", "alpha", "--reason", "case 4711")
    world.tick("audit")
    told = [line.split()[:3] for line in done(api, "audit", "verify").splitlines()[1:]]
    assert told == [["_system", "0", "intact"], ["alpha", "1", "intact"], ["beta", "0", "intact"]]
    assert done(api, "audit", "export", tmp_path / "chains").startswith("3 chains in ")
    assert "intact" in done(api, "audit", "verify", "--from", tmp_path / "chains", "--tenant", "alpha")


def test_a_chain_that_was_changed_is_told_by_tenant_and_record(api: str, world: World) -> None:
    for reason in ("one", "two"):
        done(api, "hold", "add", "--tenant", "alpha", "--reason", reason)
    world.tick("audit")
    path = "tenants/alpha/audit/000000000002"
    record = world.read(d.AuditRecord, path)
    world.put((path, replace(record, bytes=record.bytes.replace(b"two", b"six"))))
    result = run(api, "audit", "verify", "--tenant", "alpha")
    assert result.exit_code == 1
    assert "alpha: record 2: its bytes or hash were changed" in result.stderr.splitlines()


def test_a_chain_that_was_noted_and_is_gone_is_told(api: str, world: World, tmp_path: Path) -> None:
    heads = tmp_path / "heads.json"
    heads.write_text('{"gone": {"seq": 3, "hash": "00"}}')
    result = run(api, "audit", "verify", "--heads", heads)
    assert result.exit_code == 1
    assert "gone: record 1: missing: the chain ended at record 3 before and ends at 0 now" in result.stderr


def test_a_chain_of_nobody_is_one_line(api: str) -> None:
    assert refused(api, "audit", "verify", "--tenant", "alhpa") == (
        "no chain of 'alhpa': not a tenant (`snapkeep fleet list` names them)"
    )


def test_a_client_verifies_his_own_chain_alone(api: str) -> None:
    assert [row[0] for row in rows(done(api, "audit", "verify", user=CLIENT))[1:]] == ["beta"]


def test_no_export_is_written_over_what_a_folder_holds(api: str, tmp_path: Path) -> None:
    chains, others = tmp_path / "chains", tmp_path / "others"
    for folder in (chains, others):
        folder.mkdir()
    done(api, "audit", "export", chains)  # empty
    (others / "notes").write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    expected = "already, which would be overwritten; expected a folder that is empty or not there"
    assert refused(api, "audit", "export", chains) == f"{chains}: holds an export {expected}"
    assert refused(api, "audit", "export", others) == f"{others}: holds 'notes' {expected}"
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_folder_that_cannot_be_written_is_one_line(api: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refused(api, "audit", "export", tmp_path / "file" / "below")

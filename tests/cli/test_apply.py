"""`fleet apply` through the API: what changes, what a policy gives up, and that its number has to be named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest
from click.testing import Result
from tests.cli.typing_in import done, local_cloud, read, refused, run
from tests.makers import ZONE, World, instance
from tests.web.fleets import put_copies, put_stored, put_tenant
from tests.web.people import put_people

from snapkeep import documents as d
from snapkeep.copies.rules import UNENTITLED_GRACE
from snapkeep.ports import Write
from snapkeep.wording import moment

ALPHA = """\
tenants:
  - id: alpha
    name: Alpha
    project: acme-prod
    timezone: UTC
    instances: [{name: alpha-app, zone: southamerica-east1-a}]
    retention: {keep_last: 0, keep_daily: DAILY, keep_weekly: 0, keep_monthly: 0, lock_days: 0}
"""


@pytest.fixture
def world() -> World:
    one = World()
    put_people(one)
    return one


@pytest.fixture
def api(world: World) -> Iterator[str]:
    with local_cloud(world) as url:
        yield url


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    return written(tmp_path, 14)


def written(folder: Path, daily: int, more: str = "") -> Path:
    path = folder / "fleet.yaml"
    path.write_text(ALPHA.replace("DAILY", str(daily)) + more)
    return path


@pytest.fixture
def stored(api: str, world: World, fleet: Path) -> World:
    """Alpha is applied, and has ten points."""
    done(api, "fleet", "apply", fleet)
    world.put(("tenants/alpha/instances/77", instance(id="77", name="alpha-app")))
    put_stored(world, "alpha", 10, lock_until=None)
    return world


def points_of(world: World) -> list[str]:
    """Newest first."""
    return sorted((path.rsplit("/", 1)[-1] for path, _ in world.documents_in("tenants/alpha/points/")), reverse=True)


def oldest_of(world: World, number: int) -> str:
    return "".join(f"  alpha: {id} of alpha-app in southamerica-east1-a\n" for id in points_of(world)[-number:])


def test_a_new_tenant_is_applied_by_whoever_is_signed_in(api: str, world: World, fleet: Path) -> None:
    assert done(api, "fleet", "apply", fleet) == "alpha: new\n1 tenant changed, 0 unchanged\n"
    assert world.read(d.Tenant, "tenants/alpha").applied_by == "admin@vendor.example"
    assert world.records("alpha")[0]["detail"]["file"] == str(fleet)
    assert done(api, "fleet", "apply", fleet) == "0 tenants changed, 1 unchanged\n"


def test_a_dry_run_changes_nothing(api: str, world: World, fleet: Path) -> None:
    before = world.memory.dump()
    assert done(api, "fleet", "apply", fleet, "--dry-run") == "alpha: new\n1 tenant would change, 0 unchanged\n"
    assert world.memory.dump() == before
    said = read(api, "fleet", "apply", fleet, "--dry-run")
    assert (said["dry_run"], said["applied"], said["deletions"]) == (True, False, {})


def test_a_policy_that_gives_points_up_is_refused_until_their_number_is_named(
    api: str, stored: World, tmp_path: Path
) -> None:
    path = written(tmp_path, 3)
    change = "alpha: retention.keep_daily: 14 -> 3\n"
    assert done(api, "fleet", "apply", path, "--dry-run") == (
        f"{change}1 tenant would change, 0 unchanged\n7 points would be given up: 7 of alpha\n{oldest_of(stored, 7)}"
    )
    before = stored.memory.dump()
    for more in ((), ("--accept-deletions", "6"), ("--accept-deletions", "8")):
        line = refused(api, "fleet", "apply", path, *more)
        would = "7 points would be given up (7 of alpha), so nothing was applied"
        assert f"{would}; --accept-deletions 7 accepts it" in line
        assert oldest_of(stored, 7) in run(api, "fleet", "apply", path, *more).stdout
    assert stored.memory.dump() == before
    assert done(api, "fleet", "apply", path, "--accept-deletions", "7") == (
        f"{change}1 tenant changed, 0 unchanged\n7 points are given up: 7 of alpha\n{oldest_of(stored, 7)}"
    )
    assert stored.read(d.Tenant, "tenants/alpha").retention.keep_daily == 3


def test_an_add_on_whose_last_day_has_passed_is_warned_of(api: str, world: World, tmp_path: Path) -> None:
    today = world.clock.now().date()

    def applied(last: date) -> Result:
        add_on = f"    entitlements: {{inter_region_backup: {{region: us-east1, valid_until: '{last}'}}}}\n"
        return run(api, "fleet", "apply", written(tmp_path, 14, add_on), "--dry-run")

    warning = "warning: alpha: entitlements.inter_region_backup.valid_until: "
    yesterday = today - timedelta(days=1)
    said = applied(yesterday)
    assert said.exit_code == 0
    assert f"{warning}'{yesterday}' has passed: no copies are made in us-east1\n" in said.stderr
    assert warning not in applied(today).stderr


def test_an_entry_that_ends_the_add_on_names_the_copies_that_it_gives_up(
    api: str, world: World, tmp_path: Path
) -> None:
    put_tenant(world, "gamma")
    put_stored(world, "gamma", 6, lock_until=None)
    ids = put_copies(world, "gamma")
    path = tmp_path / "gamma.yaml"
    path.write_text(ALPHA.replace("alpha", "gamma").replace("Alpha", "Gamma").replace("DAILY", "14"))
    said = done(api, "fleet", "apply", path, "--dry-run").splitlines()
    kept = f"kept until {moment(world.clock.now() + UNENTITLED_GRACE)} at least"  # its lock ends before that
    assert f"  gamma: the copy in us-east1 of {ids[1]} of gamma-app in {ZONE}, {kept}" in said
    told = read(api, "fleet", "apply", path, "--dry-run")
    number = told["copies"]["gamma"]
    assert number == told["deletions"]["gamma"] > 1  # no point at home goes
    assert f"{number} copies would be given up: {number} of gamma" in said
    line = refused(api, "fleet", "apply", path)
    assert f"{number} copies would be given up" in line
    assert f"{number} copies are given up" in done(api, "fleet", "apply", path, "--accept-deletions", number)


def test_a_number_where_nothing_is_given_up_is_a_mistake(api: str, stored: World, tmp_path: Path) -> None:
    line = refused(api, "fleet", "apply", written(tmp_path, 20), "--accept-deletions", "7")
    assert line == "--accept-deletions 7: no point would be given up, so nothing was applied; leave it out"
    assert "1 tenant changed" in done(api, "fleet", "apply", written(tmp_path, 20), "--accept-deletions", "0")


def test_the_refusal_as_json_names_the_number_of_each_tenant(api: str, stored: World, tmp_path: Path) -> None:
    result = run(api, "--json", "fleet", "apply", written(tmp_path, 3))
    assert result.exit_code == 1
    said = json.loads(result.stdout)
    assert (said["deletions"], said["applied"]) == ({"alpha": 7}, False)
    assert [one["point"] for one in said["gives_up"]["alpha"]] == points_of(stored)[-7:]


def test_points_that_a_lock_still_delays_are_named_with_its_end(api: str, world: World, fleet: Path) -> None:
    done(api, "fleet", "apply", fleet)
    world.put(("tenants/alpha/instances/77", instance(id="77", name="alpha-app")))
    end = world.clock.now() + timedelta(days=3)
    put_stored(world, "alpha", 2, lock_until=end)
    fleet.write_text(fleet.read_text().replace("name: alpha-app", "name: alpha-new"))
    said = done(api, "fleet", "apply", fleet, "--dry-run")
    for point in points_of(world):
        assert f"  alpha: {point} of alpha-app in southamerica-east1-a, locked until {moment(end)}\n" in said


def test_what_is_given_up_is_named_up_to_a_bound_and_counted_beyond_it(api: str, world: World, fleet: Path) -> None:
    done(api, "fleet", "apply", fleet)
    world.put(("tenants/alpha/instances/77", instance(id="77", name="alpha-app")))
    put_stored(world, "alpha", 103)
    fleet.write_text(fleet.read_text().replace("name: alpha-app", "name: alpha-new"))
    said = done(api, "fleet", "apply", fleet, "--dry-run")
    assert said.count("of alpha-app in") == 100
    assert said.endswith("  alpha: and 3 more\n")


def test_the_valid_tenants_of_a_file_with_mistakes_are_applied_when_told_to_keep_going(
    api: str, world: World, tmp_path: Path
) -> None:
    path = written(tmp_path, 14, "  - {id: Bad}\n")
    assert run(api, "fleet", "apply", path).exit_code == 1
    assert world.documents_in("tenants/") == []
    result = run(api, "fleet", "apply", path, "--keep-going")
    assert result.exit_code == 1
    assert result.stdout == "alpha: new\n1 tenant changed, 0 unchanged\n"
    assert "1 valid tenant was applied (--keep-going)" in result.stderr.splitlines()[-1]


def test_who_may_not_apply_is_told_and_nothing_is_applied(api: str, world: World, fleet: Path) -> None:
    line = refused(api, "fleet", "apply", fleet, user="operator@vendor.example")
    assert line == "tenant.apply is not for operator: it needs admin"
    assert world.documents_in("tenants/alpha") == []
    assert [record["action"] for record in world.records("_system")] == ["access.refused"]


class Demoted:
    """Documents in which the admin is a viewer as soon as a tenant was applied."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.get, self.find = world.memory.get, world.memory.find

    def commit(self, *writes: Write) -> None:
        self._world.memory.commit(*writes)
        if any(write.path == "tenants/alpha" for write in writes):
            principal = d.Principal(updated_at=self._world.clock.now(), role="viewer")
            self._world.put(("principals/admin@vendor.example", principal))


def half_way(folder: Path, *options: str) -> Result:
    """Type `fleet apply` for three new tenants, of which only the first is still the admin's to apply."""
    world = World()
    put_people(world)
    world.documents = Demoted(world)
    path = folder / "three.yaml"
    entries = [
        {"id": id, "name": id, "project": f"{id}-prod", "instances": [{"name": "a", "zone": "southamerica-east1-a"}]}
        for id in ("alpha", "beta", "gamma")
    ]
    path.write_text(json.dumps({"tenants": entries}))
    with local_cloud(world) as api:
        return run(api, *options, "fleet", "apply", path)


def test_a_file_that_is_refused_half_way_says_what_was_applied(tmp_path: Path) -> None:
    result = half_way(tmp_path)
    assert (result.exit_code, result.stderr) == (1, "snapkeep: tenant.apply is not for viewer: it needs admin\n")
    assert result.stdout == "alpha: new\nstopped half-way: 1 tenant (alpha) changed, 2 tenants (beta, gamma) not\n"


def test_as_json_too(tmp_path: Path) -> None:
    result = half_way(tmp_path, "--json")
    said = json.loads(result.stdout)
    assert (result.exit_code, said["applied"], said["applied_tenants"]) == (1, False, ["alpha"])

"""Nothing is used that infra/functions.yaml does not declare, and nothing is declared that is not used.

The first half is held wherever functions run: the demo, the hostile world, the restores and the tests' own worlds. Here
stand the planted ones that it must find, and the runs that between them use every single declaration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import pytest
from msgspec.structs import replace
from tests.access.test_every_route import marked, questions
from tests.copies.scene import Copying, bought
from tests.faults import restoring, sweep
from tests.faults.world import World, quiet_log
from tests.makers import TICK, envelope
from tests.makers import World as Plain
from tests.restore import test_tests_to_their_end as restore_tests
from tests.web.people import client_of

from snapkeep import cloud, commands, fleet
from snapkeep import documents as d
from snapkeep.deployment import Deployed, deployment
from snapkeep.entry import ENTRIES
from snapkeep.messages import CopyBatch, PointRef, encode
from snapkeep.ports import Create, Query, Replace
from snapkeep.views import PERIODS
from snapkeep_local import demo
from snapkeep_local.declared import NO_ROW, Declared, Kind, Undeclared, Use, declares
from snapkeep_local.faults import Effect, Fault, OperationFails
from snapkeep_local.sim import System

FUNCTIONS: Final = deployment().functions

SEEDS: Final = (1, 7, 9)
"""Of the hostile world, those that between them meet all that a restore does not."""


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    with quiet_log():
        yield


# --- what is declared is used -------------------------------------------------------------------------------------


def the_hostile_world(declared: Declared) -> None:
    """Points, retention, orphans, copies, audit, health."""
    for seed in SEEDS:
        World(seed, declared).run()


def restores(declared: Declared, names: tuple[str, ...] = tuple(sweep.SCENARIOS)) -> None:
    """Each kind of restore, abandoned ones included."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(restoring.Scene, "declared", declared)  # of the class: what is saved of a scene holds no ports
        for name in names:
            sweep.history.__wrapped__(name)  # not one that another test has played


def a_test_that_finds_a_snapshot_gone(declared: Declared) -> None:
    """The point is not usable any more: the tenant's points and copies are to be weighed."""
    one = restore_tests.due(isolated=True)
    one.declared = declared
    ref = one.point(one.point_id).disks[0].snapshot
    one.cloud.remove_snapshot(cloud.snapshot_link(ref.project, ref.name))
    restore_tests.tick(one)
    restore_tests.finish(one)


def a_copy_that_is_asked_for_elsewhere_while_another_is_made(declared: Declared) -> None:
    """`copy` brings to its end what was being made in the region that is no longer bought, and was due before."""
    effects: tuple[Effect | None, ...] = (None, OperationFails())
    for effect in effects:
        one = Copying()
        one.declared = declared
        id = one.take_whole()
        if effect:
            one.cloud.add_fault(Fault(method="disks.insert", effect=effect))
        one.ask(id)
        one.receive("copy", envelope(encode(CopyBatch(points=[PointRef("acme", id)]))))
        region = d.InterRegionBackup(region="us-central1", valid_until="2027-12-31", retention=d.CopyRetention())
        one.change(d.Tenant, entitlements=replace(bought(), inter_region_backup=region))
        one.cloud.advance(one.now() + timedelta(minutes=5))
        asked = commands.Asked(by="anna@vendor.example", key="k", sha256="s")
        commands.request_copy(one.ports, asked, "acme", id, commands.CopyAsk(reason="they have moved"))
        one.deliver()


def people(declared: Declared) -> None:
    """Every route with every parameter, every page, every function woken, the sign-in of a local cloud."""
    one = marked("saas")
    one.declared = declared
    browser = client_of(one.ports)
    for path in (*questions(one), "/api/v1/points?tenant=alpha&state=verified", "/sign-in"):
        browser.get(path)
    for function in PERIODS:
        browser.post(f"/api/v1/ticks/{function}", json={}, headers={"Idempotency-Key": function})


def messages_that_are_wrong(declared: Declared) -> None:
    """What is bad is settled by every function; what died is kept."""
    one = Plain()
    one.declared = declared
    for function in ENTRIES:
        one.receive(function, envelope(f'{{"for": "{function}"}}'.encode()))


RUNS: Final[tuple[Callable[[Declared], None], ...]] = (
    the_hostile_world,
    restores,
    a_test_that_finds_a_snapshot_gone,
    a_copy_that_is_asked_for_elsewhere_while_another_is_made,
    people,
    messages_that_are_wrong,
)


def test_whatever_a_function_declares_some_run_uses() -> None:
    declared = Declared()
    for run in RUNS:
        run(declared)
    assert sorted(declared.unused()) == [], "infra/functions.yaml: declared and not used: take it away"


# --- what is used and not declared --------------------------------------------------------------------------------


def without(function: str, use: Use) -> dict[str, Deployed]:
    """A copy of the list, in which this function does not declare this."""
    one = FUNCTIONS[function]

    def left(kind: Kind) -> tuple[str, ...]:
        return tuple(name for name in declares(one, kind) if Use(kind, name) != use)

    changed = replace(
        one,
        compute=replace(one.compute, changes=left("changes"), reads=left("reads")),
        queries=left("queries"),
        documents=left("documents"),
        publishes=left("publishes"),
    )
    assert changed != one
    return {**FUNCTIONS, function: changed}


def a_demo(declared: Declared) -> None:
    system = System(seed=1, start=demo.START, declared=declared)
    system.apply(fleet.read(demo.EXAMPLE))
    system.run(timedelta(hours=4))


@dataclass(frozen=True)
class Planted:
    """A use that is not declared any more, and the runs that must meet it."""

    function: str
    kind: Kind
    name: str
    runs: Callable[[Declared], None]

    @property
    def use(self) -> Use:
        return Use(self.kind, self.name)

    def __str__(self) -> str:
        return f"{self.function} {self.kind} {self.name}"


def in_place(declared: Declared) -> None:
    restores(declared, ("in_place",))


def in_isolation(declared: Declared) -> None:
    restores(declared, ("test",))


PLANTED: Final = (
    Planted("discover", "reads", "Disk", a_demo),
    Planted("discover", "documents", "create", a_demo),
    Planted("plan", "queries", "slots", a_demo),
    Planted("plan", "publishes", "snapkeep-create", a_demo),
    Planted("create", "changes", "InsertSnapshot", a_demo),
    Planted("web", "publishes", "snapkeep-discover", a_demo),
    Planted("reconcile", "reads", "Snapshot", the_hostile_world),
    Planted("audit", "documents", "replace", the_hostile_world),
    Planted("expire", "changes", "DeleteSnapshot", the_hostile_world),
    Planted("retention", "queries", "instance_points", the_hostile_world),
    Planted("health", "documents", "get", the_hostile_world),
    Planted("restore", "changes", "StopInstance", in_place),
    Planted("restore", "reads", "Firewall", in_isolation),
    Planted("restore_test", "publishes", "snapkeep-restore", in_isolation),
)


@pytest.mark.parametrize("planted", PLANTED, ids=str)
def test_a_use_that_is_not_declared_ends_the_run_by_its_name(planted: Planted) -> None:
    with pytest.raises(Undeclared, match=rf"^infra/functions\.yaml: {planted.function}: .*{planted.name}") as refused:
        planted.runs(Declared(without(planted.function, planted.use)))
    assert (refused.value.function, refused.value.use) == (planted.function, planted.use)


def test_every_kind_of_use_is_planted() -> None:
    assert {planted.kind for planted in PLANTED} == {"changes", "reads", "queries", "documents", "publishes"}


def test_a_query_that_is_no_row_of_the_table_is_refused_whoever_asks() -> None:
    asked = (
        Query("tenants", where=(("name", "==", "Acme"),)),
        Query("tenants", where=(("discover_at", ">=", demo.START),), order=(("discover_at", "asc"),)),
        Query("tenants", where=(("discover_at", "<=", demo.START),), order=(("discover_at", "desc"),)),
        Query("tenants", group=True, where=(("discover_at", "<=", demo.START),), order=(("discover_at", "asc"),)),
    )
    for query in asked:
        with pytest.raises(Undeclared) as refused:
            Declared().hold("discover", Plain().bare).documents.find(query)
        assert refused.value.use == Use("queries", NO_ROW)


def test_a_commit_is_refused_for_the_one_write_of_it_that_is_not_declared() -> None:
    one = Plain()
    ports = Declared(without("discover", Use("documents", "replace"))).hold("discover", one.bare)
    with pytest.raises(Undeclared, match="it used replace"):
        ports.documents.commit(Create("tenants/acme", {}), Replace("tenants/beta", {}, None))
    assert one.memory.dump() == {}


def test_what_is_refused_has_no_effect() -> None:
    one = Plain()
    ports = Declared(without("plan", Use("publishes", "snapkeep-create"))).hold("plan", one.bare)
    with pytest.raises(Undeclared):
        ports.bus.publish("snapkeep-create", TICK)
    assert one.bus.pending() == []


def test_no_handler_can_take_a_refusal_for_an_answer() -> None:
    assert not issubclass(Undeclared, Exception)


def test_a_declaration_that_nothing_uses_is_told() -> None:
    declared = Declared({"dead_letters": replace(FUNCTIONS["dead_letters"], publishes=("snapkeep-audit",))})
    ENTRIES["dead_letters"](envelope(b"{}"), declared.hold("dead_letters", Plain().bare))
    assert declared.unused() == {("dead_letters", Use("publishes", "snapkeep-audit"))}

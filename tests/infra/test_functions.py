"""infra/functions.yaml is the one list of functions: what it says is what there is."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import get_args

import pytest

from snapkeep import cloud, wiring
from snapkeep.deployment import deployment
from snapkeep.entry import ENTRIES
from snapkeep.store import QUERIES
from snapkeep_local import schedule

MAIN = Path(__file__).parents[2] / "functions" / "main.py"

FUNCTIONS = deployment().functions


def decorated(decorator: str) -> list[ast.FunctionDef]:
    """The functions of main.py that the framework finds by this decorator."""
    body = ast.parse(MAIN.read_text()).body
    return [n for n in body if isinstance(n, ast.FunctionDef) and decorator in map(ast.unparse, n.decorator_list)]


def decorators_of_the_framework() -> list[str]:
    body = ast.parse(MAIN.read_text()).body
    said = [ast.unparse(d) for n in body if isinstance(n, ast.FunctionDef) for d in n.decorator_list]
    return [name for name in said if name.startswith("functions_framework.")]


def entry_points() -> dict[str, str]:
    """Every event function of main.py, with the entry of ENTRIES that it hands on to."""
    found = {}
    for node in decorated("functions_framework.cloud_event"):
        called = [n for n in ast.walk(node) if isinstance(n, ast.Subscript) and ast.unparse(n.value) == "ENTRIES"]
        (name,) = (ast.literal_eval(n.slice) for n in called)
        found[node.name] = name
    return found


def with_compute(entry_point: str) -> bool:
    """Whether main.py wires this entry point with Compute Engine."""
    (node,) = (n for n in ast.parse(MAIN.read_text()).body if isinstance(n, ast.FunctionDef) and n.name == entry_point)
    (wired,) = (k.value for n in ast.walk(node) if isinstance(n, ast.Call) for k in n.keywords if k.arg == "compute")
    return bool(ast.literal_eval(wired))


def test_main_the_list_and_the_table_of_entries_name_the_same_functions() -> None:
    events = {f.entry_point: name for name, f in FUNCTIONS.items() if f.topic}
    assert set(events.values()) == set(ENTRIES)
    assert events == entry_points()
    over_http = {f.entry_point for f in FUNCTIONS.values() if not f.topic}
    assert over_http == {node.name for node in decorated("functions_framework.http")}
    assert len(events) + len(over_http) == len(FUNCTIONS) == len(decorators_of_the_framework())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_query_that_a_function_may_use_exists(name: str) -> None:
    assert set(FUNCTIONS[name].queries) <= set(QUERIES)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_change_and_kind_that_a_function_may_use_exists(name: str) -> None:
    changes = {kind.__name__ for kind in get_args(cloud.Change) or (cloud.Change,)}
    kinds = {kind.__name__ for kind in get_args(cloud.Resource)}
    compute = FUNCTIONS[name].compute
    assert set(compute.changes) <= changes
    assert set(compute.reads) <= kinds


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_wired_with_compute_engine_exactly_when_the_list_says_so(name: str) -> None:
    compute = FUNCTIONS[name].compute
    assert with_compute(FUNCTIONS[name].entry_point) == bool(compute.changes or compute.reads)


def test_every_schedule_is_one_that_the_local_scheduler_knows() -> None:
    assert [f.name for f in schedule.processes()] == list(FUNCTIONS)  # a function for HTTP comes last
    assert {f.name for f in schedule.functions() if f.every_min} == {n for n, f in FUNCTIONS.items() if f.schedule}


@pytest.mark.parametrize(
    "cron", ["30 2 * * *", "*/7 * * * *", "*/0 * * * *", "60 * * * *", "* * * *", "1-5 * * * *", "@daily"]
)
def test_another_form_of_schedule_is_refused_by_its_name(cron: str) -> None:
    with pytest.raises(ValueError, match=r"functions\.yaml: schedule") as refused:
        schedule.every_min(cron)
    assert repr(cron) in str(refused.value)


def test_every_function_has_a_topic_of_its_own_and_all_deliver_alike() -> None:
    topics = [f.topic for f in FUNCTIONS.values() if f.topic]
    assert len(set(topics)) == len(topics)
    deployed = deployment()
    assert deployed.subscription.dead_letter_topic in topics
    assert not set(deployed.topics_out) & set(topics)
    # A function may run as long as its timeout: until then the broker must not deliver the message again.
    assert all(f.timeout_s <= deployed.subscription.ack_deadline_s for f in FUNCTIONS.values())


def test_a_function_without_compute_engine_cannot_reach_it() -> None:
    compute = wiring.OutOfReach()
    with pytest.raises(PermissionError, match="wired without Compute Engine"):
        compute.get(cloud.Disk, "projects/p/zones/z/disks/d")
    with pytest.raises(PermissionError, match="wired without Compute Engine"):
        compute.find(cloud.Disk, "p")

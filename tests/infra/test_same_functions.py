"""Whoever knows the functions knows the same ones as infra/functions.yaml: code, local cloud, Terraform and docs.

That Terraform makes of the list what it should is in tests/infra/terraform, that the contract tells their topics and
schedules in test_contract_doc.py.
"""

from __future__ import annotations

import ast
import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from snapkeep.deployment import Deployed, deployment
from snapkeep_local import runner, schedule

ROOT: Final = Path(__file__).parents[2]
FUNCTIONS: Final[Mapping[str, Deployed]] = deployment().functions

Names = set[str]


def of_main(text: str) -> Names:
    """The functions that the framework finds."""
    found = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
    return {one.name for one in found if any("functions_framework." in ast.unparse(d) for d in one.decorator_list)}


def of_entry(text: str) -> Names:
    """The keys of its tables; and those that answer HTTP, which main.py hands to the pages itself."""
    tables = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Dict)]
    keys = {key.value for table in tables for key in table.keys if isinstance(key, ast.Constant)}
    return {str(key) for key in keys} | {name for name, one in FUNCTIONS.items() if one.topic is None}


def of_contract(text: str) -> Names:
    """The rows of the table of functions."""
    table = text.split("\n| function | topic |", 1)[1].split("\n\n", 1)[0]
    return set(re.findall(r"^\| `(\w+)` \|", table, re.M))


def of_flow(text: str) -> Names:
    return set(re.findall(r'<text class="fn"[^>]*>(\w+)</text>', text))


def of_permissions(text: str) -> Names:
    """The headings of its part function by function."""
    return set(re.findall(r"^### (\w+)$", text, re.M))


@dataclass(frozen=True)
class Knows:
    """A text that names every function: how it is read, and how one more would stand in it."""

    file: str
    names: Callable[[str], Names]
    one: str  # how the function `expire` stands there
    none: str  # the same place without it

    def text(self) -> str:
        return (ROOT / self.file).read_text(encoding="utf-8")


KNOW: Final = (
    Knows("functions/main.py", of_main, "@functions_framework.cloud_event\ndef expire(", "def expire("),
    Knows("functions/snapkeep/entry.py", of_entry, '    "expire": retention.expire,\n', ""),
    Knows("docs/contract.md", of_contract, "\n| `expire` | `snapkeep-expire` |", "\n|  |  |"),
    Knows("docs/flow.svg", of_flow, ">expire</text>", "></text>"),
    Knows("docs/permissions.md", of_permissions, "\n### expire\n", "\n"),
)


@pytest.mark.parametrize("knows", KNOW, ids=lambda knows: knows.file)
def test_it_knows_every_function_and_no_other(knows: Knows) -> None:
    assert knows.names(knows.text()) == set(FUNCTIONS)


@pytest.mark.parametrize("knows", KNOW, ids=lambda knows: knows.file)
def test_one_that_it_lacks_and_one_that_nobody_else_knows_are_missed(knows: Knows) -> None:
    text = knows.text()
    assert text.count(knows.one) == 1
    assert knows.names(text.replace(knows.one, knows.none)) == set(FUNCTIONS) - {"expire"}
    renamed = knows.one.replace("expire", "prune", 1)
    assert knows.names(text.replace(knows.one, renamed)) == set(FUNCTIONS) - {"expire"} | {"prune"}


def test_an_entry_point_is_called_as_its_function() -> None:
    assert {name: one.entry_point for name, one in FUNCTIONS.items()} == {name: name for name in FUNCTIONS}


# --- the local cloud ----------------------------------------------------------------------------------------------


def started(folder: Path) -> Names:
    """The processes of functions that `up` starts."""
    cloud = runner.LocalCloud(runner.Settings(fleet=ROOT / "examples" / "fleet.yaml", folder=folder))
    return {program.name.removeprefix("function ") for program in cloud._programs(defaultdict(int))}


def test_the_runner_starts_every_function_and_no_other(tmp_path: Path) -> None:
    assert started(tmp_path) == set(FUNCTIONS)


def test_a_function_that_the_runner_does_not_start_or_made_up_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes = [one for one in schedule.processes() if one.name != "expire"]
    # What the runner would take it from, had it a list of its own.
    monkeypatch.setattr(schedule, "processes", lambda: [*processes, schedule.HttpFunction("prune", "prune")])
    assert started(tmp_path) == set(FUNCTIONS) - {"expire"} | {"prune"}


# --- Terraform, where it names one by hand -------------------------------------------------------------------------

PICKED: Final = re.compile(r'\b(?:functions?|names|service_accounts)\["(\w+)"\]')
"""One function out of a map of all of them."""


def named_by_hand(root: Path) -> Names:
    return {name for file in root.rglob("*.tf") for name in PICKED.findall(file.read_text(encoding="utf-8"))}


def test_terraform_names_no_function_by_hand_that_there_is_not() -> None:
    named = named_by_hand(ROOT / "infra" / "gcp")
    assert {"web", "expire"} <= named
    assert named <= set(FUNCTIONS)


def test_a_function_that_terraform_alone_knows_is_missed(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "infra" / "gcp", tmp_path / "gcp", ignore=shutil.ignore_patterns(".terraform"))
    door = tmp_path / "gcp" / "door.tf"
    door.write_text(door.read_text(encoding="utf-8").replace('names["web"]', 'names["pages"]'), encoding="utf-8")
    assert named_by_hand(tmp_path) - set(FUNCTIONS) == {"pages"}

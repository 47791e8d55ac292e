"""infra/gcp/catalogue as Terraform itself evaluates it: it has no provider, so nothing has to be reached for it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import yaml

from snapkeep import permissions
from snapkeep.deployment import Deployment, deployment
from snapkeep.permissions import Role, grants, roles

INFRA: Final = Path(__file__).parents[3] / "infra"
LISTS: Final = ("functions.yaml", "permissions.yaml", "firestore.yaml")
TERRAFORM_TIMEOUT_S: Final = 60


@dataclass(frozen=True)
class Evaluated:
    outputs: Mapping[str, Any]

    def roles(self) -> set[Role]:
        return {
            Role(one["function"], one["place"], one["condition"] or None, tuple(one["permissions"]))
            for one in self.outputs["roles"].values()
        }


def evaluated(at: Path, functions: Mapping[str, Any] | None = None) -> Evaluated:
    """What Terraform makes of the catalogue, in a folder of its own. `functions`: instead of functions.yaml."""
    for name in LISTS:
        shutil.copy(INFRA / name, at / name)
    if functions is not None:
        (at / "functions.yaml").write_text(yaml.safe_dump(dict(functions)), encoding="utf-8")
    folder = at / "gcp" / "catalogue"
    shutil.copytree(INFRA / "gcp" / "catalogue", folder, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*"))
    terraform(folder, "init", "-backend=false")
    terraform(folder, "apply", "-auto-approve")
    said = json.loads(terraform(folder, "output", "-json"))
    return Evaluated({name: one["value"] for name, one in said.items()})


def terraform(folder: Path, *arguments: str) -> str:
    """What a command says. No configuration of the machine's own takes part."""
    program = shutil.which("terraform")
    assert program is not None, "the fixture terraform_installed comes first"
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1"}
    command = [program, *arguments, "-no-color"]
    done = subprocess.run(  # noqa: S603 - the program and its arguments are the test's own
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TERRAFORM_TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def catalogue(terraform_installed: None, tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    return evaluated(tmp_path_factory.mktemp("catalogue"))


@cache
def listed() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((INFRA / "functions.yaml").read_text(encoding="utf-8"))
    return found


def test_terraform_grants_each_function_in_each_place_exactly_what_it_declares(catalogue: Evaluated) -> None:
    assert catalogue.roles() == set(roles())
    assert {key: one["id"] for key, one in catalogue.outputs["roles"].items()} == {
        ".".join(filter(None, (role.function, role.place, role.condition))): role.id for role in roles()
    }
    held = sum(len(role.permissions) for role in catalogue.roles())
    assert held == len(grants())


def test_terraform_binds_under_the_conditions_of_the_list(catalogue: Evaluated) -> None:
    assert catalogue.outputs["conditions"] == {
        name: msgspec.to_builtins(one) for name, one in permissions.permissions().conditions.items()
    }
    assert catalogue.outputs["publishing"] == [one.permission for one in permissions.permissions().publishes]


def test_terraform_knows_the_functions_and_topics_that_python_knows(catalogue: Evaluated) -> None:
    assert catalogue.outputs["functions"] == listed()["functions"]
    assert catalogue.outputs["subscription"] == msgspec.to_builtins(deployment().subscription)
    of_functions = {one.topic for one in deployment().functions.values() if one.topic}
    assert set(catalogue.outputs["topics"]) == of_functions | set(deployment().topics_out)


def test_a_planted_declaration_reaches_the_roles_of_both_and_is_found(tmp_path: Path, catalogue: Evaluated) -> None:
    planted = json.loads(json.dumps(listed()))
    planted["functions"]["expire"]["compute"]["changes"] += ["StopInstance"]
    planted["functions"]["expire"]["queries"] = []
    seen = evaluated(tmp_path, planted)
    assert seen.roles() == set(roles(grants(msgspec.convert(planted, Deployment))))
    assert seen.roles() != set(roles())
    more = {(role.place, one) for role in seen.roles() for one in role.permissions if role.function == "expire"}
    before = {(role.place, one) for role in roles() for one in role.permissions if role.function == "expire"}
    assert more - before == {("instances", "compute.instances.stop")}
    assert before - more == {("snapkeep", "datastore.entities.list")}


def test_a_declaration_that_the_list_does_not_know_stops_terraform(terraform_installed: None, tmp_path: Path) -> None:
    planted = json.loads(json.dumps(listed()))
    planted["functions"]["expire"]["compute"]["changes"] = ["DeleteEverything"]
    with pytest.raises(AssertionError, match=r"needs\.changes is object"):
        evaluated(tmp_path, planted)

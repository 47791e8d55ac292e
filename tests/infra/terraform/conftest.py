"""Terraform itself, on this machine, with a stand-in for Google's provider (`stand_in.py`): nothing is downloaded.

A test of what the Terraform makes asks for the fixture `planned` or `applied`:

    from tests.infra.terraform.running import Apply

    def test_every_subscription_sends_to_its_own_topic(applied: Apply) -> None:
        made = applied("infra/gcp/examples/minimal", {"project": "example", "release": "releases/functions-0.zip"})
        for subscription in made.of("google_pubsub_subscription").values():
            assert subscription["push_config"][0]["push_endpoint"].endswith(subscription["topic"])

`planned(root, variables)` is `terraform plan`: what Google fills in is not known and left out. `applied(root,
variables)` is what `terraform apply` would make: what Google fills in is made up (`stand_in.IDS`), so that what is made
of it can be looked at, through modules and references. `.of(type)` has the resources of a type, address -> values (a
block is a list of one or more), `.outputs` the outputs, `.json` all that `terraform show -json` says. Both are made
once for the same root and variables. Where Terraform refuses, TerraformRefused holds what it said.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.infra.terraform.running import (
    ENVIRONMENT,
    EXAMPLE,
    INSTALL,
    MAKE,
    ROOT,
    Apply,
    Plan,
    StandIn,
    Terraform,
    copy,
)


@pytest.fixture(scope="session")
def terraform_installed() -> None:
    """Skips where Terraform is missing; fails there with CI=true or SNAPKEEP_REQUIRE_EMULATORS=1."""
    if shutil.which("terraform") is None:
        if os.environ.get("CI") == "true" or os.environ.get("SNAPKEEP_REQUIRE_EMULATORS") == "1":
            pytest.fail(INSTALL, pytrace=False)
        # Counted as not run, with the line that installs it: a newcomer without Terraform can work on the rest.
        pytest.skip(f"NOT RUN: {INSTALL}")


@pytest.fixture(scope="session")
def tools(terraform_installed: None) -> Path:
    """The programs of the environment that `make terraform` made."""
    if not (ENVIRONMENT / ".made").exists():
        pytest.fail(MAKE, pytrace=False)
    return ENVIRONMENT / "bin"


@pytest.fixture(scope="session")
def stand_in(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    """The stand-in provider, listening. One serves every run of Terraform in this process, one after the other."""
    folder = tmp_path_factory.mktemp("provider")
    serving = StandIn(folder / "socket", folder / "validated.jsonl")
    process = subprocess.Popen(  # noqa: S603 - our own program
        [
            tools / "python",
            "-m",
            "tests.infra.terraform.stand_in",
            ENVIRONMENT / "bindings",
            serving.socket,
            serving.log,
            ROOT / "infra",
            EXAMPLE,
        ],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    if not process.stdout.readline():
        _, said = process.communicate()
        pytest.fail(f"the stand-in provider did not start:\n{said}", pytrace=False)
    yield serving
    process.communicate("")
    assert process.returncode == 0


@pytest.fixture(scope="session")
def terraform(stand_in: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """Terraform for the repository's own tree."""
    folder = tmp_path_factory.mktemp("terraform")
    return Terraform(copy(folder / "tree"), folder / "data", stand_in.socket, stand_in.log)


@pytest.fixture(scope="session")
def planned(terraform: Terraform) -> Plan:
    return Plan(terraform)


@pytest.fixture(scope="session")
def applied(terraform: Terraform) -> Apply:
    return Apply(terraform)

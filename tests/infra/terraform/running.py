"""Runs Terraform itself on a copy of the repository's infra/, with a stand-in for Google's provider (`stand_in.py`)."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[3]
EXAMPLE: Final = ROOT / "tests" / "infra" / "terraform" / "example"
"""What the stand-in itself is tested with."""
ENVIRONMENT: Final = ROOT / os.environ.get("INFRA_VENV", ".venv-infra")
"""Where `make terraform` installs what these tests run with."""

INSTALL: Final = (
    "Terraform is missing: install Terraform 1.9 or newer (https://developer.hashicorp.com/terraform/install), one "
    "program that is to be on the path"
)
MAKE: Final = f"{ENVIRONMENT} is missing or incomplete: `make terraform` makes it"
TIMEOUT_S: Final = 120
UNATTENDED: Final = ("-input=false", "-lock=false")
LOCAL_STATE: Final = 'terraform {\n  backend "local" {}\n}\n'

Variables = Mapping[str, Any]


class TerraformRefused(Exception):
    """What `terraform` said when it refused, as it wrote it."""


@dataclass(frozen=True)
class Checked:
    """What Terraform had validated by the provider: how many resources and data sources, arguments and blocks."""

    resources: int
    arguments: int
    blocks: int

    def __add__(self, other: Checked) -> Checked:
        return Checked(self.resources + other.resources, self.arguments + other.arguments, self.blocks + other.blocks)


@dataclass(frozen=True)
class Made:
    """What a plan or an apply makes. `json` is what `terraform show -json` says of it."""

    json: dict[str, Any]

    def of(self, kind: str) -> dict[str, dict[str, Any]]:
        """The managed resources of a type, of all modules: address -> values."""
        return {
            resource["address"]: resource["values"]
            for resource in _resources(self._values.get("root_module", {}))
            if resource["type"] == kind and resource["mode"] == "managed"
        }

    @property
    def after(self) -> dict[str, set[str]]:
        """What each managed resource that was applied waited for: addresses without keys, through all modules."""
        return {
            resource["address"]: set(resource.get("depends_on", []))
            for resource in _resources(self._values.get("root_module", {}))
            if resource["mode"] == "managed"
        }

    @property
    def kinds(self) -> set[str]:
        """The types of all resources and data sources."""
        return {resource["type"] for resource in _resources(self._values.get("root_module", {}))}

    @property
    def outputs(self) -> dict[str, Any]:
        return {name: output.get("value") for name, output in self._values.get("outputs", {}).items()}

    @property
    def _values(self) -> Mapping[str, Any]:
        values: Mapping[str, Any] = self.json.get("planned_values") or self.json.get("values") or {}
        return values


def _resources(module: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield from module.get("resources", [])
    for child in module.get("child_modules", []):
        yield from _resources(child)


def _provider(socket: Path) -> dict[str, str]:
    """By this variable Terraform finds a provider that runs already."""
    address = {"Network": "unix", "String": str(socket)}
    serving = {"Protocol": "grpc", "ProtocolVersion": 6, "Pid": os.getpid(), "Test": True, "Addr": address}
    return {"TF_REATTACH_PROVIDERS": json.dumps({"registry.terraform.io/hashicorp/google": serving})}


class Terraform:
    """`terraform` for a copy of the repository's infra/, so that nothing is written beside what is checked."""

    def __init__(self, tree: Path, data: Path, socket: Path, log: Path) -> None:
        self.tree = tree
        self._program = shutil.which("terraform") or "terraform"
        self._data = data
        self._log = log
        data.mkdir(parents=True)
        self._socket = socket
        # Without the variables that people have set for their own work.
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_")} | {
            "CHECKPOINT_DISABLE": "1",
            # Terraform lives for seconds: collecting garbage as often as Go does by itself is a third of what it costs.
            "GOGC": "400",
            "TF_CLI_CONFIG_FILE": os.devnull,
            "TF_CLI_ARGS": "-no-color",
            "TF_IN_AUTOMATION": "1",
            **_provider(socket),
        }

    def validate(self, root: str) -> tuple[list[str], Checked]:
        """What Terraform refuses of a folder, each with the file and line, and what was checked of it."""
        self._log.unlink(missing_ok=True)
        self._init(root, "-backend=false")
        said = json.loads(self._run(root, "validate", "-json", may_fail=True))
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        checked = [json.loads(line) for line in lines]
        return [_told(one) for one in said["diagnostics"] if one["severity"] == "error"], Checked(
            len(checked), sum(one["arguments"] for one in checked), sum(one["blocks"] for one in checked)
        )

    def plan(self, root: str, variables: Variables) -> Made:
        self._ready(root)
        file = self._data / "planned"
        self._run(root, "plan", *UNATTENDED, "-refresh=false", f"-out={file}", self._given(variables))
        return Made(json.loads(self._run(root, "show", "-json", str(file))))

    def foreseen(self, root: str, variables: Variables) -> Made:
        """What an `apply` would make, with what Google fills in made up, told by a plan."""
        environment = self._environment
        self._environment = environment | _provider(self._socket.with_name(f"{self._socket.name}.foresees"))
        try:
            plan = self.plan(root, variables)
        finally:
            self._environment = environment
        return Made(plan.json | {"values": plan.json["planned_values"]})

    def apply(self, root: str, variables: Variables) -> Made:
        """On nothing, whatever was applied before."""
        self._ready(root)
        state = self._state(root, variables)
        state.unlink(missing_ok=True)
        self._run(root, "apply", *UNATTENDED, "-auto-approve", f"-state={state}", self._given(variables))
        return Made(json.loads(self._run(root, "show", "-json", str(state))))

    def changes(self, root: str, before: Variables, after: Variables) -> dict[str, list[str]]:
        """What a plan with `after` changes of what was applied with `before`: address -> actions."""
        self._ready(root)
        state, file = self._state(root, before), self._data / "planned"
        self._run(root, "plan", *UNATTENDED, "-refresh=false", f"-state={state}", f"-out={file}", self._given(after))
        planned = json.loads(self._run(root, "show", "-json", str(file)))
        actions = {one["address"]: one["change"]["actions"] for one in planned["resource_changes"]}
        return {address: done for address, done in actions.items() if done not in (["no-op"], ["read"])}

    def destroy(self, root: str, variables: Variables) -> Made:
        """What is left of an `apply` of the same root and variables."""
        self._ready(root)
        state = self._state(root, variables)
        options = (*UNATTENDED, "-refresh=false", "-auto-approve", f"-state={state}")
        self._run(root, "destroy", *options, self._given(variables))
        return Made(json.loads(self._run(root, "show", "-json", str(state))))

    def _state(self, root: str, variables: Variables) -> Path:
        of = hashlib.sha256(json.dumps([root, variables], sort_keys=True).encode()).hexdigest()[:12]
        return self._data / f"{of}.tfstate"

    def _given(self, variables: Variables) -> str:
        file = self._data / "given.tfvars.json"
        file.write_text(json.dumps(variables))
        return f"-var-file={file}"

    def _ready(self, root: str) -> None:
        (self.tree / root / "state_override.tf").write_text(LOCAL_STATE)
        self._init(root)

    def _init(self, root: str, *options: str) -> None:
        shutil.rmtree(self._data / "init", ignore_errors=True)
        self._run(root, "init", "-input=false", *options)

    def _run(self, root: str, command: str, *options: str, may_fail: bool = False) -> str:
        done = subprocess.run(  # noqa: S603 - a fixed program, our own folder
            [self._program, f"-chdir={self.tree / root}", command, *options],
            env=self._environment | {"TF_DATA_DIR": str(self._data / "init")},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        if done.returncode and not may_fail:
            raise TerraformRefused(f"terraform {command} in {root}:\n{done.stdout}\n{done.stderr}")
        return done.stdout


def _told(diagnostic: Mapping[str, Any]) -> str:
    place = diagnostic.get("range")
    where = f"{place['filename']}:{place['start']['line']}: " if place else ""
    return f"{where}{diagnostic['summary']}: {diagnostic.get('detail', '')}"


def copy(to: Path) -> Path:
    """A copy of what Terraform reads: infra/ without the local cloud, and the example of the stand-in's own tests."""
    shutil.copytree(ROOT / "infra", to / "infra", ignore=shutil.ignore_patterns("local", ".terraform*", "__pycache__"))
    shutil.copytree(EXAMPLE, to / "example")
    return to


@dataclass(frozen=True)
class StandIn:
    socket: Path
    log: Path


class Plan:
    """The fixture `planned`: a root of the repository and its variables -> what `terraform plan` would make."""

    def __init__(self, terraform: Terraform) -> None:
        self._terraform = terraform
        self._known: dict[str, Made] = {}

    def __call__(self, root: str, variables: Variables) -> Made:
        key = json.dumps([root, variables], sort_keys=True)
        if key not in self._known:
            self._known[key] = self.make(root, variables)
        return self._known[key]

    def make(self, root: str, variables: Variables) -> Made:
        return self._terraform.plan(root, variables)


class Apply(Plan):
    """The fixture `applied`: the same, with what Google fills in made up."""

    def make(self, root: str, variables: Variables) -> Made:
        return self._terraform.foreseen(root, variables)

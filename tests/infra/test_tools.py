"""`make audit` and `make sbom`, with the tools of .venv-tools; and the scripts of infra/ in the eyes of one of them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parents[2]
TIMEOUT_S: Final = 300

SCRIPTS: Final = sorted([*(ROOT / "infra").rglob("*.sh"), ROOT / ".ci" / "run"])


@pytest.fixture(scope="session")
def tools() -> Path:
    """The environment of infra/tools/requirements.txt."""
    folder = ROOT / ".venv-tools"
    assert (folder / ".done").exists(), "the tools are missing: make .venv-tools/.done"
    return folder


def run(script: str, tools: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own script
        [ROOT / "infra" / "tools" / script],
        env={**os.environ, "TOOLS": str(tools), **more},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.relative_to(ROOT).as_posix())
def test_a_script_is_one_that_shellcheck_has_nothing_against(script: Path, tools: Path) -> None:
    done = subprocess.run(  # noqa: S603 - a tool of ours on a script of ours
        [tools / "bin" / "shellcheck", "--external-sources", "--source-path=SCRIPTDIR", "--severity=style", script],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")
    text = script.read_text(encoding="utf-8")
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "\nset -euo pipefail\n" in text


# --- audit --------------------------------------------------------------------------------------------------------


def stand_in(folder: Path, known: str, ours: str) -> Path:
    """Tools whose pip-audit answers by these lines of shell: to the version known to be vulnerable, and to us."""
    program = folder / "bin" / "pip-audit"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\ncase "$*" in *requirements.txt) {ours} ;; *) {known} ;; esac\n')
    program.chmod(0o755)
    return folder


FOUND: Final = """echo '{"dependencies": [{"name": "pyyaml", "vulns": [{"id": "PYSEC-2020-96"}]}]}'; exit 1"""
NOTHING: Final = """echo '{"dependencies": [{"name": "pyyaml", "vulns": []}]}'; exit 0"""


@pytest.mark.parametrize(
    "known", [NOTHING, "echo 'Failed to resolve' >&2; exit 1"], ids=["no advisories", "no network"]
)
def test_an_audit_that_cannot_ask_fails_and_says_so(tmp_path: Path, known: str) -> None:
    done = run("audit.sh", stand_in(tmp_path, known, "exit 0"))
    assert done.returncode == 1
    assert done.stderr.startswith("audit: nothing was audited: the advisory service (PyPI) is out of reach")


def test_an_audit_that_can_ask_passes_and_fails_with_what_it_finds(tmp_path: Path) -> None:
    (tmp_path / "clean").mkdir()
    (tmp_path / "found").mkdir()
    assert run("audit.sh", stand_in(tmp_path / "clean", FOUND, "exit 0")).returncode == 0
    assert run("audit.sh", stand_in(tmp_path / "found", FOUND, "exit 1")).returncode == 1


def test_the_audit_asks_for_all_that_the_functions_run_on_and_lets_nothing_be_skipped(tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    run("audit.sh", stand_in(tmp_path, FOUND, f'echo "$@" > {asked}'))
    assert asked.read_text().split() == ["--strict", "--progress-spinner", "off", "--requirement", "requirements.txt"]


def test_the_real_tool_passes_or_says_that_it_could_not_ask(tools: Path) -> None:
    """Whether its advisories can be reached is not ours to say; what it may not do is pass without them."""
    done = run("audit.sh", tools, https_proxy="http://127.0.0.1:1")
    assert done.returncode == 1
    assert "audit: nothing was audited" in done.stderr


# --- SBOM ---------------------------------------------------------------------------------------------------------


def read(file: Path) -> dict[str, Any]:
    bom: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return bom


@pytest.mark.slow
def test_the_sbom_names_all_that_the_functions_run_on_and_is_made_again_without_a_network(
    tmp_path: Path, tools: Path
) -> None:
    first = run("sbom.sh", tools, BUILD=str(tmp_path))
    assert (first.returncode, first.stderr) == (0, ""), first.stderr
    bom = read(tmp_path / "sbom.json")
    assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.6")
    held = {part["name"]: part["version"] for part in bom["components"]}
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    asked = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert asked.items() <= held.items()
    assert {"grpcio", "protobuf", "requests"} <= held.keys()  # what those bring
    assert held.keys().isdisjoint({"pip", "setuptools", "pytest", "pip-audit", "snapkeep"})
    (of_us,) = (line["dependsOn"] for line in bom["dependencies"] if line["ref"] == "root-component")
    assert {ref.split("==")[0] for ref in of_us} == set(asked)

    again = run("sbom.sh", tools, BUILD=str(tmp_path), PIP_NO_INDEX="1", https_proxy="http://127.0.0.1:1")
    assert again.returncode == 0, again.stderr
    assert read(tmp_path / "sbom.json") == bom

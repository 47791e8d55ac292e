"""Format, checkov's rules, and Cloud Build's schema: each finding is mended, or explained beside what it is about."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from tests.infra.terraform.running import ROOT, copy

TIMEOUT_S: Final = 120
BUCKET: Final = """resource "google_storage_bucket" "open" {
  name     = "open-to-everybody"
  location = "EU"
}
"""


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own tools on our own files
        [*command], capture_output=True, text=True, timeout=TIMEOUT_S, check=False, cwd=ROOT
    )


@pytest.fixture(scope="module")
def checkov(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What checkov says of infra/ and, in a folder beside it, of what it is to find. It asks nobody: the rules that it
    brings are those that it has."""
    tree = copy(tmp_path_factory.mktemp("checkov"))
    (tree / "planted").mkdir()
    (tree / "planted" / "main.tf").write_text(BUCKET)
    offline = ("--skip-download", "--download-external-modules", "false")
    done = run(tools / "checkov", "--framework", "terraform", *offline, "--output", "json", "--directory", tree)
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def test_every_file_is_formatted(terraform_installed: None) -> None:
    program = shutil.which("terraform")
    assert program is not None
    done = run(program, "fmt", "-check", "-recursive", "-no-color", ROOT)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_checkov_finds_nothing_that_is_not_explained_beside_it(
    checkov: dict[str, Any], record_property: Callable[[str, object], None]
) -> None:
    results = checkov["results"]
    assert [
        f"{one['check_id']} {one['resource']} {one['file_path']}:{one['file_line_range'][0]}: {one['check_name']}"
        for one in results["failed_checks"]
        if one["file_path"].startswith("/infra/")
    ] == []
    assert results["parsing_errors"] == []
    unexplained = [
        one["resource"] for one in results["skipped_checks"] if len(one["check_result"]["suppress_comment"].split()) < 4
    ]
    assert unexplained == []
    passed = [one for one in results["passed_checks"] if one["file_path"].startswith("/infra/")]
    # Most rules look at one kind of resource: this says that they looked at ours.
    assert passed
    record_property(
        "says",
        f"checkov: {len(passed)} checks of {len({one['resource'] for one in passed})} resources passed, "
        f"{len(results['skipped_checks'])} are explained beside what they are about",
    )


def test_checkov_finds_what_is_planted(checkov: dict[str, Any]) -> None:
    found = {one["check_id"] for one in checkov["results"]["failed_checks"] if one["file_path"].startswith("/planted/")}
    # Access by each object's own list, versions not kept, public access not prevented.
    assert {"CKV_GCP_29", "CKV_GCP_78", "CKV_GCP_114"} <= found


def test_every_skip_names_its_check_and_its_reason() -> None:
    skips = [
        line.strip()
        for file in sorted((ROOT / "infra").rglob("*.tf"))
        for line in file.read_text().splitlines()
        if "checkov:skip" in line
    ]
    assert [line for line in skips if not re.fullmatch(r"# ?checkov:skip=CKV2?_GCP_\d+: ?\S.*", line)] == []


@pytest.mark.parametrize("file", ["cloudbuild.yaml", "cloudbuild-promote.yaml"])
def test_cloud_build_accepts_what_it_is_given(tools: Path, file: str) -> None:
    done = run(tools / "check-jsonschema", "--builtin-schema", "vendor.cloudbuild", ROOT / file)
    assert done.returncode == 0, done.stdout


def test_a_mistake_in_cloudbuild_yaml_is_refused(tools: Path, tmp_path: Path) -> None:
    build = yaml.safe_load((ROOT / "cloudbuild.yaml").read_text())
    build["steps"][0]["waitfor"] = ["-"]
    file = tmp_path / "cloudbuild.yaml"
    file.write_text(yaml.safe_dump(build))
    done = run(tools / "check-jsonschema", "--builtin-schema", "vendor.cloudbuild", file)
    assert done.returncode != 0
    assert "'waitfor' was unexpected" in done.stdout


def test_no_file_switches_checks_off_for_all() -> None:
    settings = [name for name in (".checkov.yaml", ".checkov.yml", ".checkov.baseline") if (ROOT / name).exists()]
    assert settings == []
    assert [name for name in os.environ if name.startswith(("CKV_", "CHECKOV_"))] == []

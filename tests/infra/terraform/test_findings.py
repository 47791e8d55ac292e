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

import yaml
from tests.infra.terraform.running import ROOT

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


def checkov(tools: Path, folder: Path) -> dict[str, Any]:
    """What checkov says of a folder. It asks nobody: the rules that it brings are those that it has."""
    options = (
        "--framework",
        "terraform",
        "--skip-download",
        "--download-external-modules",
        "false",
        "--output",
        "json",
    )
    done = run(tools / "checkov", "--directory", folder, *options)
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def test_every_file_is_formatted(terraform_installed: None) -> None:
    program = shutil.which("terraform")
    assert program is not None
    done = run(program, "fmt", "-check", "-recursive", "-no-color", ROOT)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_checkov_finds_nothing_that_is_not_explained_beside_it(
    tools: Path, record_property: Callable[[str, object], None]
) -> None:
    said = checkov(tools, ROOT / "infra")
    results = said["results"]
    assert [
        f"{one['check_id']} {one['resource']} infra{one['file_path']}:{one['file_line_range'][0]}: {one['check_name']}"
        for one in results["failed_checks"]
    ] == []
    assert results["parsing_errors"] == []
    # Most rules look at one kind of resource: this says that they looked at ours.
    assert results["passed_checks"]
    unexplained = [
        one["resource"] for one in results["skipped_checks"] if len(one["check_result"]["suppress_comment"].split()) < 4
    ]
    assert unexplained == []
    record_property(
        "says",
        f"checkov: {said['summary']['passed']} checks passed, {said['summary']['skipped']} explained beside what they "
        f"are about, in {said['summary']['resource_count']} resources",
    )


def test_checkov_finds_what_is_planted(tools: Path, tmp_path: Path) -> None:
    (tmp_path / "main.tf").write_text(BUCKET)
    found = {one["check_id"] for one in checkov(tools, tmp_path)["results"]["failed_checks"]}
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


def test_cloud_build_accepts_cloudbuild_yaml(tools: Path) -> None:
    done = run(tools / "check-jsonschema", "--builtin-schema", "vendor.cloudbuild", ROOT / "cloudbuild.yaml")
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

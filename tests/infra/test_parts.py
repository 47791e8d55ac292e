"""The project's own files: every dependency pinned and with its reason, every link, package and make target there."""

import re
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

ROOT: Final = Path(__file__).parents[2]
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
RUNTIME: Final = [
    line for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines() if not line.startswith("#")
]
TOOLS: Final = [
    line
    for line in (ROOT / "infra" / "tools" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
]
CHECKS: Final = [
    line
    for file in ("requirements.txt", "bindings.txt")
    for line in (ROOT / "tests" / "infra" / "terraform" / file).read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
]
DEV: Final = PROJECT["dependency-groups"]["dev"]
PARTS: Final = (ROOT / "docs" / "adr" / "0002-parts.md").read_text(encoding="utf-8")
PAGES: Final = sorted(p for p in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def told(section: str) -> list[str]:
    text = PARTS.split(f"\n## {section} ", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"^\| `([^`]+)` \|", text, re.M)


def test_every_dependency_is_pinned() -> None:
    assert [
        part for part in [*RUNTIME, *DEV, *TOOLS, *CHECKS] if not re.fullmatch(r"[A-Za-z0-9-]+==[0-9.]+", part)
    ] == []


def test_every_dependency_has_its_reason_and_every_reason_its_dependency() -> None:
    assert sorted(told("Runtime")) == sorted(part.split("==")[0] for part in RUNTIME)
    assert sorted(told("Development")) == sorted(part.split("==")[0] for part in DEV)
    assert sorted(told("Tools")) == sorted(part.split("==")[0] for part in TOOLS)
    assert sorted(told("Checks")) == sorted(part.split("==")[0] for part in CHECKS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_a_page_points_to_is_there(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(#[^)]*)?\)", page.read_text(encoding="utf-8"))
    missing = [link for link, _ in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_heading_that_a_page_points_to_is_there(page: Path) -> None:
    for link, heading in re.findall(r"\]\(([^)#\s]*)#([^)]*)\)", page.read_text(encoding="utf-8")):
        target = (page.parent / link) if link else page
        assert heading in anchors(target), f"{link}#{heading}"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as its host makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_package_is_installed_by_its_name() -> None:
    packages = {
        path.parent.relative_to(ROOT / base).as_posix().replace("/", ".")
        for base in ("functions", "infra/local")
        for path in (ROOT / base).rglob("__init__.py")
    }
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == packages


def targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))


def steps(file: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))["steps"]
    return found


PIPELINE: Final = {
    "cloudbuild.yaml": ["lint", "audit", "sbom", "terraform", "test", "package", "deploy", "smoke", "promote"],
    "cloudbuild-promote.yaml": ["replace"],
}


@pytest.mark.parametrize("file", PIPELINE)
def test_every_step_of_cloud_build_calls_one_target_of_make_and_nothing_else(file: str) -> None:
    first, *others = steps(file)
    # Only Terraform's own image has Terraform: the first step lays it where the others find it.
    assert (first["entrypoint"], first["args"]) == ("cp", ["/bin/terraform", "/tools/terraform"])
    assert [step["id"] for step in others] == PIPELINE[file]
    for step in others:
        assert (step["entrypoint"], step["args"]) == (
            "bash",
            ["-euc", f"infra/tools/prepare.sh && make {step['id']}"],
        )
    assert set(PIPELINE[file]) <= targets()


@pytest.mark.parametrize("file", PIPELINE)
def test_every_image_of_cloud_build_is_pinned(file: str) -> None:
    for step in steps(file):
        assert re.search(r":[0-9]+\.[0-9]+\.[0-9]+(-emulators)?$", step["name"]), step["name"]


@pytest.mark.parametrize("file", PIPELINE)
def test_every_substitution_of_cloud_build_is_used_and_has_a_default(file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    build = yaml.safe_load(text)
    used = set(re.findall(r"\$(_[A-Z_]+)", text))
    assert used == set(build["substitutions"])
    # Cloud Build hands every substitution on as it stands: one that a shell of ours reads would be an expression of it.
    assert [step["id"] for step in build["steps"] if "$" in "".join(step["args"])] == []


def test_the_triggers_say_the_substitutions_that_their_files_have() -> None:
    text = (ROOT / "infra" / "gcp" / "pipeline.tf").read_text(encoding="utf-8")
    shared = set(re.findall(r"^    (_[A-Z_]+) +=", text, re.M))
    for file, one in zip(PIPELINE, ("_PRODUCTION", "_RELEASE"), strict=True):
        assert re.search(rf"merge\(local\.pipeline_settings, {{ {one} = ", text)
        build = yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))
        assert shared | {one} == set(build["substitutions"])


def test_make_lists_every_target_and_continuous_integration_calls_such() -> None:
    assert targets() >= {"demo", "test", "check", "fmt", "up", "help", "clean"}
    assert set(re.findall(r"make ([a-z]+)\b", (ROOT / ".ci" / "run").read_text(encoding="utf-8"))) <= targets()

"""The project's own files: every dependency pinned and with its reason, every link, package and make target there."""

import re
import tomllib
from pathlib import Path
from typing import Final

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


def test_make_and_cloud_build_speak_of_the_same_targets() -> None:
    targets = set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    assert targets >= {"demo", "test", "check", "fmt", "up", "help", "clean"}
    steps = yaml.safe_load((ROOT / "cloudbuild.yaml").read_text(encoding="utf-8"))["steps"]
    called = {target for step in steps for target in re.findall(r"make ([a-z]+)\b", " ".join(step["args"]))}
    assert called == {"check", "test"}
    assert set(re.findall(r"make ([a-z]+)\b", (ROOT / ".ci" / "run").read_text(encoding="utf-8"))) <= targets

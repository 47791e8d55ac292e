"""Every resource, argument and block of the Terraform stands in the provider's schema, and mistakes are found."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest
from tests.infra.terraform import schema
from tests.infra.terraform.running import ENVIRONMENT, ROOT, StandIn, Terraform, copy

INFRA: Final = ROOT / "infra"
FOLDERS: Final = sorted(
    {
        file.parent.relative_to(ROOT).as_posix()
        for file in INFRA.rglob("*.tf")
        if not any(part.startswith(".") for part in file.relative_to(ROOT).parts)
    }
)
"""Every folder with Terraform in it."""
BLOCK: Final = re.compile(r'^(?P<mode>resource|data) "(?P<type>google_\w+)" "\w+" \{\n.*?^\}', re.M | re.S)
META: Final = {"count", "for_each", "depends_on", "provider", "lifecycle"}
"""Arguments and blocks of Terraform itself."""


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.tf"))


def declared(folder: Path) -> int:
    """How many resources and data sources a folder declares, with those of the modules that it uses."""
    text = "\n".join(file.read_text() for file in files(folder))
    modules = re.findall(r'^module "\w+" \{\n.*?^\}', text, re.M | re.S)
    sources = [re.search(r'^ +source += "(\.[^"]*)"$', module, re.M) for module in modules]
    assert None not in sources, f"{folder}: a module that is not of this repository"
    return len(re.findall(r'^(?:resource|data) "google_', text, re.M)) + sum(
        declared((folder / source[1]).resolve()) for source in sources if source is not None
    )


def test_there_is_terraform_to_check() -> None:
    assert "infra/gcp" in FOLDERS


@pytest.mark.parametrize("folder", FOLDERS)
def test_everything_in_a_folder_is_in_the_schema(
    terraform: Terraform, folder: str, record_property: Callable[[str, object], None]
) -> None:
    refused, checked = terraform.validate(folder)
    assert refused == []
    # The provider was asked about each of them: none was passed over.
    assert checked.resources == declared(ROOT / folder)
    record_property(
        "says",
        f"{folder}: {checked.resources} resources and data sources, {checked.arguments} arguments and "
        f"{checked.blocks} blocks held to the schema of Google's provider {schema.version(ENVIRONMENT / 'bindings')}",
    )


def test_the_oldest_provider_that_is_let_in_is_the_one_that_the_schema_is_of(tools: Path) -> None:
    """An argument of a later one would be refused by the schema; one that an older one lacks would not."""
    oldest = schema.version(ENVIRONMENT / "bindings").removesuffix(".0")
    asked = {
        (file.relative_to(ROOT).as_posix(), found)
        for file in INFRA.rglob("*.tf")
        for found in re.findall(r'source += "hashicorp/google"\n +version = "([^"]*)"', file.read_text())
    }
    assert asked
    assert {one for one in asked if not one[1].startswith(f">= {oldest},")} == set()


@dataclass(frozen=True)
class Place:
    """A resource or data source in a file, and the schema of its type."""

    file: str
    start: int
    text: str
    block: schema.Block = field(compare=False)

    @property
    def arguments(self) -> list[str]:
        """Those of its own, not of its blocks, as they are written in formatted Terraform."""
        return [name for name in re.findall(r"^  (\w+) += ", self.text, re.M) if name in self.block.attributes]


@dataclass(frozen=True)
class Mistake:
    """`plant` makes one in a resource, or None where there is nothing to make it of; `said` is Terraform's word."""

    plant: Callable[[Place], str | None]
    said: str


def misspelt(place: Place) -> str | None:
    """Its first argument, with a letter too many."""
    for name in place.arguments:
        return re.sub(rf"^  {name}( +=)", rf"  {name}x\1", place.text, count=1, flags=re.M)
    return None


def misspelt_in_a_block(place: Place) -> str | None:
    """The first argument of its first block."""
    found = re.search(r"^  (\w+) \{\n    (\w+)(?= += )", place.text, re.M)
    return None if found is None or found[1] in META else place.text.replace(found[0], f"{found[0]}x", 1)


def missing(place: Place) -> str | None:
    """An argument that must be given. A line takes its place, so that no other moves."""
    for name in place.arguments:
        line = re.search(rf"^  {name} += .*[^\[{{(]\n", place.text, re.M)
        if place.block.attributes[name].required and line is not None and "<<" not in line[0]:
            return place.text.replace(line[0], "\n", 1)
    return None


def missing_block(place: Place) -> str | None:
    """All blocks of a name that must be given."""
    for name, nested in place.block.blocks.items():
        of_name = re.compile(rf"^  {name} \{{\n.*?^  \}}\n", re.M | re.S)
        if nested.at_least and of_name.search(place.text):
            return of_name.sub(lambda found: "\n" * found[0].count("\n"), place.text)
    return None


def misplaced(place: Place) -> str | None:
    """An argument of its own, in one of its blocks."""
    for name, nested in place.block.blocks.items():
        for argument in place.arguments:
            if argument not in nested.block.attributes and f"\n  {name} {{\n" in place.text:
                return place.text.replace(f"\n  {name} {{\n", f"\n  {name} {{\n    {argument} = null\n", 1)
    return None


def of_no_type(place: Place) -> str | None:
    return re.sub(r'^(\w+ "\w+)"', r'\1x"', place.text, count=1)


def refers_to_nothing(place: Place) -> str | None:
    """A reference to an attribute that the other resource does not have. Not to one of several ([each.key]): of these
    Terraform knows only in a plan."""
    found = re.search(r"google_\w+\.\w+(?:\[\d+\])?\.[a-z_]+\b(?=[\n\"}),])", place.text)
    return None if found is None else place.text.replace(found[0], f"{found[0]}x", 1)


MISTAKES: Final = {
    "misspelt": Mistake(misspelt, "Unsupported argument"),
    "misspelt in a block": Mistake(misspelt_in_a_block, "Unsupported argument"),
    "missing": Mistake(missing, "Missing required argument"),
    "missing block": Mistake(missing_block, "Insufficient"),
    "misplaced": Mistake(misplaced, "Unsupported argument"),
    "of no type": Mistake(of_no_type, "Invalid"),
    "refers to nothing": Mistake(refers_to_nothing, "Unsupported attribute"),
}


def places(folder: Path) -> Iterable[Place]:
    for file in files(folder):
        text = file.read_text()
        for found in BLOCK.finditer(text):
            of = schema.resource if found["mode"] == "resource" else schema.data_source
            block = of(ENVIRONMENT / "bindings", found["type"])
            assert block is not None, found["type"]
            yield Place(file.name, found.start(), found[0], block)


@pytest.mark.parametrize("kind", MISTAKES)
@pytest.mark.parametrize("folder", ["infra/gcp", "infra/gcp/tenant"])
def test_a_mistake_in_any_resource_is_refused(
    stand_in: StandIn, tmp_path: Path, folder: str, kind: str, record_property: Callable[[str, object], None]
) -> None:
    """The mistake is planted in every resource at once. Terraform does not look at what depends on a resource that it
    refuses: what it found is mended, and it is asked again, until each was found."""
    terraform = Terraform(copy(tmp_path / "tree"), tmp_path / "data", stand_in.socket, stand_in.log)
    mistake = MISTAKES[kind]
    planted = {place: wrong for place in places(ROOT / folder) if (wrong := mistake.plant(place)) is not None}
    assert planted
    left = dict(planted)
    while left:
        lines: dict[str, Place] = {}
        for file in files(ROOT / folder):
            text = file.read_text()
            at = 0
            written = ""
            for place, wrong in sorted(left.items(), key=lambda one: one[0].start):
                if place.file == file.name:
                    written += text[at : place.start]
                    first = written.count("\n") + 1
                    lines |= {f"{file.name}:{first + n}": place for n in range(wrong.count("\n") + 1)}
                    written += wrong
                    at = place.start + len(place.text)
            (terraform.tree / folder / file.name).write_text(written + text[at:])
        refused, _ = terraform.validate(folder)
        found = {
            lines[where]
            for one in refused
            if f": {mistake.said}" in one and (where := ":".join(one.split(":")[:2])) in lines
        }
        assert found, f"{len(left)} of {len(planted)} were not found: {[one.text for one in left][:3]}\n{refused}"
        left = {place: wrong for place, wrong in left.items() if place not in found}
    record_property("says", f"{folder}: {len(planted)} of {len(planted)} planted mistakes found: {kind}")

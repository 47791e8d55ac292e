"""The form that a restore is planned and asked for with: what it offers, and what was filled in.

Pure. What is lacking is known once it was planned: each item then has a field of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from snapkeep import documents as d
from snapkeep.restore.definition import EMPTY, LOCAL_SSD

MODES: Final[Mapping[d.RestoreMode, str]] = {
    "in_place": "in place: the instance stops, and gets these disks",
    "new_instance": "as a new instance beside it",
    "disks": "as disks alone, attached to nothing",
}

Kind = Literal["text", "address", "empty", "none"]
"""How an item may be supplied: as a text of many lines, as an address, as an empty disk, not at all."""

FIELDS: Final = ("mode", "name", "region", "zone", "reason")
"""Of the form as of `RestoreAsk`."""


@dataclass(frozen=True, slots=True)
class Item:
    """Something that is lacking, with what is said about it."""

    item: str
    kind: Kind
    offered: str  # what supplying it would usually be
    value: str
    waived: bool
    open: bool  # neither supplied nor waived


@dataclass(frozen=True, slots=True)
class RestoreForm:
    values: Mapping[str, str]
    modes: tuple[tuple[str, str], ...]
    regions: tuple[tuple[str, str], ...]  # none where there is nothing to choose
    items: tuple[Item, ...]
    planned: str  # what the plan is of that is shown; empty where none is


def form(point: d.Point, given: Mapping[str, str], lacking: Sequence[d.Lacking] | None = None) -> RestoreForm:
    """`given`: the form as it was sent; `lacking`: of the plan that was made of it; None: there is none."""
    values = {name: given.get(name, "") for name in FIELDS}
    copied = [region for region, copy in sorted(point.copies.items()) if copy.state == "verified"]
    home = point.instance.region
    regions = [("", f"{home}, in {point.instance.zone} or the zone below"), (home, f"{home}, in any zone that is up")]
    regions += [(region, f"{region}, from the copy there") for region in copied]
    said = _said(given)
    return RestoreForm(
        values=values | {"mode": values["mode"] or "in_place"},
        modes=tuple(MODES.items()),
        regions=tuple(regions),
        items=tuple(_item(one, said) for one in lacking or ()),
        planned=_planned(given) if lacking is not None else "",
    )


def asked(given: Mapping[str, str], point: str, *, dry_run: bool) -> dict[str, Any]:
    """What the form asks for, as the fields of `RestoreAsk`; one that was left empty was not given."""
    fields: dict[str, Any] = {name: given[name].strip() for name in FIELDS if given.get(name, "").strip()}
    # What was lacking in one mode is not what is lacking in another.
    said = _said(given) if given.get("planned", "").partition("|")[0] == given.get("mode") else {}
    return fields | {
        "point": point,
        "supply": {item: value for item, (value, _) in said.items() if value},
        "waive": [item for item, (_, waived) in said.items() if waived],
        "dry_run": dry_run,
    }


def is_planned(given: Mapping[str, str]) -> bool:
    """Whether the form asks for what the plan beside it is of: nobody asks for what he has not seen."""
    return given.get("planned") == _planned(given)


def _planned(given: Mapping[str, str]) -> str:
    return "|".join(given.get(name, "").strip() for name in ("mode", "name", "region", "zone"))


def _said(given: Mapping[str, str]) -> dict[str, tuple[str, bool]]:
    """Of each item: the value that was filled in, and whether it is waived."""
    numbers = sorted(int(name[5:]) for name in given if name.startswith("item-") and name[5:].isdecimal())
    return {
        # A browser sends the lines of a text with carriage returns, which no script survives.
        given[f"item-{n}"]: (given.get(f"value-{n}", "").replace("\r\n", "\n"), f"waive-{n}" in given)
        for n in numbers
    }


def _item(one: d.Lacking, said: Mapping[str, tuple[str, bool]]) -> Item:
    value, waived = said.get(one.item, ("", False))
    kind = _kind(one.item)
    offered = EMPTY if kind == "empty" else one.item.rsplit(" ", 1)[1] if kind == "address" else ""
    return Item(one.item, kind, offered, value, waived or one.handled == "waived", one.handled is None)


def _kind(item: str) -> Kind:
    if item.startswith("metadata "):
        return "text"
    if item.startswith("address "):
        return "address"
    return "empty" if item.endswith(LOCAL_SSD) else "none"

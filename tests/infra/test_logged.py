"""What is logged can be counted on: each line that metrics are made of has its fields, wherever it is made."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, get_args

import msgspec
import pytest
from tests.infra.log_lines import of_a_bad_day
from tests.infra.test_contract_doc import code, rows_with

from snapkeep import logged
from snapkeep.store import Due

KINDS = {str(kind.__struct_config__.tag): kind for kind in logged.KINDS}
EVERY_LINE_HAS = {"severity", "message", "logger"}


def lines(kind: str) -> list[dict[str, Any]]:
    return [line for line in of_a_bad_day() if line.get("kind") == kind]


def test_every_field_of_a_line_is_in_the_contract_and_no_other() -> None:
    told = defaultdict(list)
    for row in rows_with("line"):
        told[code(row["line"])].append(code(row["holds"]))
    assert told == {name: list(kind.__struct_fields__) for name, kind in KINDS.items()}


def test_every_kind_of_work_that_may_be_late_is_in_the_contract() -> None:
    (row,) = (row for row in rows_with("line") if code(row["holds"]) == "work")
    assert [f"`{kind}`" in row["what it is"] for kind in get_args(Due)] == [True] * len(get_args(Due))


@pytest.mark.parametrize("kind", KINDS)
def test_a_line_of_each_kind_comes_out_with_all_its_fields(kind: str) -> None:
    seen = lines(kind)
    assert seen
    for line in seen:
        optional = {field.name for field in msgspec.structs.fields(KINDS[kind]) if not field.required}
        assert set(line) | optional == {"kind", *KINDS[kind].__struct_fields__} | EVERY_LINE_HAS
        msgspec.convert(line, KINDS[kind])  # of the types that it should have


def test_a_delivery_says_how_it_ended() -> None:
    ended = {(line["function"], line["type"], line["outcome"], line["severity"]) for line in lines("delivery")}
    assert {
        ("plan", "tick", "handled", "INFO"),
        ("plan", "tick", "failed", "ERROR"),
        ("plan", "unknown", "rejected", "WARNING"),
        ("dead_letters", "dead_letter", "handled", "INFO"),
    } <= ended


def test_a_tick_is_told_by_the_function_that_carried_it_out_and_only_then() -> None:
    ticks = [line["function"] for line in lines("tick")]
    handled = [line["function"] for line in lines("delivery") if (line["type"], line["outcome"]) == ("tick", "handled")]
    assert ticks == handled


def test_an_event_is_told_when_it_goes_out() -> None:
    told = {(line["tenant"], line["type"]) for line in lines("event")}
    assert {("acme", "rpo.breached"), ("_system", "message.rejected")} <= told


def test_the_fleet_says_that_it_is_in_breach_and_how_old_its_oldest_point_is() -> None:
    before, *_, after = lines("fleet")
    assert (before["breached"], before["tenants"]) == (0, 1)
    assert "oldest_verified_s" not in before
    assert (after["breached"], after["dead_letters"], after["rejected"]) == (1, 1, 1)
    assert after["oldest_verified_s"] >= 40 * 3600


def test_work_that_nobody_has_brought_on_says_for_how_long_it_is_due() -> None:
    (late,) = (line for line in lines("late") if line["work"] == "discovery")
    assert (late["oldest"], late["late_s"] >= 3600) == ("tenants/acme", True)

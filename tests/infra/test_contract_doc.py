"""docs/contract.md and the code say the same: documents, messages, queries, functions, environment, fleet file."""

from __future__ import annotations

import inspect
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, get_args

import msgspec
import pytest
import yaml

from snapkeep import config, documents, fleet, messages, store
from snapkeep.cli import root
from snapkeep.cli import target as cli_target
from snapkeep.web import openapi, routes
from snapkeep_local import cli as local_cli
from snapkeep_local import faults, rest

ROOT: Final = Path(__file__).parents[2]
CONTRACT: Final = (ROOT / "docs" / "contract.md").read_text(encoding="utf-8")
SOURCES: Final = "\n".join(
    path.read_text(encoding="utf-8") for path in sorted((ROOT / "functions" / "snapkeep").rglob("*.py"))
)

Table = list[dict[str, str]]


def tables() -> Iterator[tuple[str, Table]]:
    """Every table with the heading that it stands under; its rows by column, code marks removed from the first cell."""
    heading, columns, rows = "", [], []  # type: tuple[str, list[str], Table]
    for line in [*CONTRACT.splitlines(), ""]:
        if line.startswith("#"):
            heading = line.lstrip("# ")
        if line.startswith("|"):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            if not columns:
                columns = cells
            elif not all(re.fullmatch("-+", cell) for cell in cells):
                rows.append(dict(zip(columns, cells, strict=True)))
        elif columns:
            yield heading, rows
            columns, rows = [], []


TABLES: Final = list(tables())


def code(cell: str) -> str:
    """What stands between the first pair of code marks."""
    found = re.search(r"`([^`]+)`", cell)
    return found[1] if found else ""


def rows_with(column: str) -> Table:
    return [row for _, rows in TABLES for row in rows if column in row]


def section(title: str) -> str:
    """The text from a heading of the second level to the next one."""
    return CONTRACT.split(f"\n## {title}", 1)[1].split("\n## ", 1)[0]


def structs(module: Any, base: type[msgspec.Struct]) -> dict[str, type[msgspec.Struct]]:
    return {
        name: kind
        for name, kind in vars(module).items()
        if inspect.isclass(kind) and issubclass(kind, base) and kind.__module__ == module.__name__
    }


# --- documents -----------------------------------------------------------------------------------------------------

DOCUMENTS: Final = {
    name: kind
    for name, kind in structs(documents, msgspec.Struct).items()
    if kind not in (documents.Part, documents.Stored)
}
DOCUMENTED: Final = {
    code(heading): [code(row["field"]) for row in rows] for heading, rows in TABLES if heading.startswith("`")
}


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_every_field_of_a_document_is_in_the_contract_and_no_other(name: str) -> None:
    assert sorted(DOCUMENTED[name]) == sorted(DOCUMENTS[name].__struct_fields__)


def test_every_document_in_the_contract_is_in_the_code() -> None:
    assert sorted(DOCUMENTED) == sorted(DOCUMENTS)


def test_every_type_that_the_contract_names_has_a_table() -> None:
    named = {word for heading, rows in TABLES if heading.startswith("`") for row in rows
             for word in re.findall(r"`([A-Z][A-Za-z]+)`", row["what it is"])}  # fmt: skip
    assert {word for word in named if not word.isupper()} <= set(DOCUMENTED)


def test_every_document_of_its_own_says_where_it_lies() -> None:
    whole = [name for name, kind in DOCUMENTS.items() if issubclass(kind, documents.Stored)]
    headings = [heading for heading, _ in TABLES]
    assert [name for name in whole if not any(re.match(rf"`{name}`: `[a-z_]+/", h) for h in headings)] == []


# --- queries -------------------------------------------------------------------------------------------------------


def test_the_queries_are_those_of_the_code() -> None:
    told = {}
    for row in rows_with("query"):
        collection = code(row["collection"])
        compares = tuple(tuple(part.split()) for part in re.findall(r"`([^`]+)`", row["compares"]))
        order = tuple(
            (name, "desc" if desc else "asc") for name, desc in re.findall(r"`([^`]+)`( desc)?", row["sorted by"])
        )
        told[code(row["query"])] = (collection, "(group)" in row["collection"], compares, order)
    assert told == {name: (q.collection, q.group, q.where, q.order) for name, q in store.QUERIES.items()}


# --- functions, topics, messages, events ---------------------------------------------------------------------------

FUNCTIONS: Final = yaml.safe_load((ROOT / "infra" / "functions.yaml").read_text(encoding="utf-8"))


def test_the_functions_their_topics_and_schedules_are_those_of_functions_yaml() -> None:
    told = {
        code(row["function"]): (code(row["topic"]) or None, code(row["tick"]) or None)
        for row in rows_with("tick")
        if "function" in row
    }
    assert told == {name: (f["topic"], f["schedule"]) for name, f in FUNCTIONS["functions"].items()}


def test_the_topics_that_go_out_are_in_the_contract() -> None:
    assert [topic for topic in FUNCTIONS["topics_out"] if f"`{topic}`" not in section("3.")] == []


def test_the_delivery_is_that_of_functions_yaml() -> None:
    s = FUNCTIONS["subscription"]
    told = f"repeated after {s['retry_min_s']} to {s['retry_max_s']} s, {s['max_delivery_attempts']} times at most"
    assert told in section("3.")
    assert s["dead_letter_topic"] in section("3.")


def test_every_field_of_a_message_is_in_the_contract_and_no_other() -> None:
    told: dict[str, set[str]] = defaultdict(set)
    for row in rows_with("type"):
        if "to" in row:
            told[code(row["type"])] |= {code(row["field"])} - {""}
    kinds = structs(messages, messages.Tick.__mro__[1])
    in_code = {
        str(kind.__struct_config__.tag): set(kind.__struct_fields__) - {"schema"}
        for name, kind in kinds.items()
        if not name.startswith("_")
    }
    assert told == in_code


def test_the_parts_of_messages_are_in_the_contract() -> None:
    told = {code(row["field"]): row["what it is"] for row in rows_with("to")}
    for field, kind in (("data", messages.CreateRequestedData), ("points", messages.PointRef)):
        assert f"{{{', '.join(kind.__struct_fields__)}}}" in told[field]


def test_the_bounds_of_messages_are_those_of_the_code() -> None:
    told = {code(row["type"]): row["what it is"] for row in rows_with("to")}
    assert f"up to {messages.TENANTS_PER_MESSAGE_MAX} " in told["nudge"]
    assert f"1 to {messages.TENANTS_PER_MESSAGE_MAX} " in told["discover.batch"]
    assert f"1 to {messages.POINTS_PER_MESSAGE_MAX} " in told["create.batch"]
    assert f"at most {messages.MESSAGE_BYTES_MAX // 1024} KiB" in section("3.")


def test_the_example_message_is_a_message() -> None:
    (block,) = re.findall(r"```json\n(.*?)```", section("3."), re.S)
    decoded = msgspec.json.decode(block, type=messages.CreateRequested)
    assert decoded.data.instance in {"acme-pam-1"}
    assert json.loads(block)["type"] == "create.requested"


def test_events_are_published_as_the_contract_says() -> None:
    built = {code(row["event"]) for row in rows_with("event")}
    later = section("3.").split("**Not built yet.**")[1]
    assert [event for event in sorted(built) if f'"{event}"' not in SOURCES] == []
    assert [event for event in re.findall(r"`([a-z_]+\.[a-z_]+)`", later) if f'"{event}"' in SOURCES] == []


# --- environment ---------------------------------------------------------------------------------------------------


def test_every_variable_that_is_read_is_in_the_contract_and_no_other() -> None:
    read = set()
    for module in (config, cli_target):
        read |= set(re.findall(r'"([A-Z]+_[A-Z_]+)"', inspect.getsource(module)))
    told = {code(row["variable"]) for row in rows_with("variable")}
    assert read - {"GOOGLE_CLOUD_PROJECT"} == told
    assert "`GOOGLE_CLOUD_PROJECT`" in section("2.")


def test_the_defaults_of_the_environment_are_those_of_the_code() -> None:
    told = {code(row["variable"]): code(row["default"]) for row in rows_with("variable")}
    read = config.read({"GOOGLE_CLOUD_PROJECT": "p"})
    assert told["SNAPKEEP_DATABASE"] == read.database
    assert told["SNAPKEEP_CLOCK"] == read.clock
    assert told["SNAPKEEP_GUESTS"] == read.guests
    assert told["SNAPKEEP_API"] == cli_target.LOCAL
    assert told["SNAPKEEP_SIGN_IN"] == read.sign_in


# --- the fleet file ------------------------------------------------------------------------------------------------

FLEET: Final = {code(row["field"]): row for row in rows_with("default") if "field" in row}

LEAST: Final[dict[str, Any]] = {
    "id": "acme",
    "name": "Acme Bank",
    "project": "acme-prod",
    "instances": [{"name": "acme-1", "zone": "southamerica-east1-a"}],
}
COPIES: Final = {"region": "us-east1", "valid_until": "2031-12-31"}
NETWORK: Final = "projects/acme-prod/global/networks/main"
WITH_ALL: Final[dict[str, Any]] = {
    **LEAST,
    "retention": {"keep_last": 1},
    "entitlements": {"inter_region_backup": {**COPIES, "retention": {"keep_last": 1}}, "multi_region_dr": COPIES},
    "recovery": {"network": NETWORK},
    "restore_test": {"network": NETWORK},
    "probe": {"kind": "http", "port": 443},
}


def read(tenant: dict[str, Any]) -> fleet.Reading:
    return fleet.parse({"fleet.yaml": json.dumps({"tenants": [tenant]}).encode()})


def changed(tenant: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """A copy of the tenant with another value at a path; every other `keep_` is above 0, or 0 would be refused."""
    copy: dict[str, Any] = json.loads(json.dumps(tenant))
    *parents, last = path.split(".")
    part = copy
    for parent in parents:
        part = part.setdefault(parent, {})
    if last == "keep_last":
        part["keep_daily"] = 1
    part[last] = value
    return copy


def leaves(kind: Any, path: str = "") -> Iterator[str]:
    """Paths of all single values that a struct holds, as the fleet file writes them."""
    for field in msgspec.structs.fields(kind):
        inner = field.type
        options = [one for one in getattr(inner, "__args__", (inner,)) if inspect.isclass(one)]
        nested = [one for one in options if issubclass(one, documents.Part)]
        name = f"{path}{field.name}"
        if nested and getattr(inner, "__origin__", None) is None and nested[0] is not documents.Selected:
            yield from leaves(nested[0], f"{name}.")
        else:
            yield name


def test_every_key_of_the_fleet_file_is_in_the_contract_and_no_other() -> None:
    in_code = {path for path in leaves(documents.Tenant) if path.split(".")[0] not in fleet.NOT_WRITTEN}
    assert set(FLEET) == in_code


@pytest.mark.parametrize(
    "path", [p for p, row in FLEET.items() if re.match(r"\d+ to \d+$", row["what may stand there"])]
)
def test_the_bounds_of_the_fleet_file_are_those_that_are_held(path: str) -> None:
    least, most = map(int, FLEET[path]["what may stand there"].split(" to "))
    for value, is_held in ((least, True), (most, True), (least - 1, False), (most + 1, False)):
        mistakes = [str(mistake) for mistake in read(changed(WITH_ALL, path, value)).mistakes]
        assert (mistakes == []) == is_held, (value, mistakes)


@pytest.mark.parametrize("path", [path for path, row in FLEET.items() if row["default"].startswith("`")])
def test_the_defaults_of_the_fleet_file_are_those_that_are_taken(path: str) -> None:
    *parents, last = path.split(".")
    tenant = {**WITH_ALL, "entitlements": {"inter_region_backup": COPIES}}
    del tenant["retention"]
    part: Any = read(tenant).valid[0].normal
    for parent in parents:
        part = part[parent]
    told = FLEET[path]["default"].strip("`")
    assert str(part[last]) == told


@pytest.mark.parametrize("path", [path for path, row in FLEET.items() if row["default"] == "required"])
def test_what_the_fleet_file_requires_is_required(path: str) -> None:
    tenant = {name: value for name, value in LEAST.items() if name != path}
    assert [str(m) for m in read(tenant).mistakes if m.path[-1] == path]


def test_the_example_mistake_reads_as_it_is_printed() -> None:
    broken = changed(LEAST, "schedule.daily_at", "25:00")
    tenants = [{**LEAST, "id": f"t-{n}", "instances": [{"label": f"n={n}"}]} for n in range(3)] + [broken]
    said = fleet.parse({"fleet.yaml": json.dumps({"tenants": tenants}).encode()}).mistakes
    assert str(said[0]) in " ".join(section("1.").split())


def test_the_bounds_of_a_fleet_are_those_of_the_code() -> None:
    told = next(line for line in section("1.").splitlines() if line.startswith("- Bounds:"))
    mib = 1024 * 1024
    bounds = (fleet.FILES_MAX, fleet.FILE_BYTES_MAX // mib, fleet.FLEET_BYTES_MAX // mib, fleet.TENANTS_MAX,
              fleet.MISTAKES_MAX)  # fmt: skip
    assert [int(number) for number in re.findall(r"\d+", told)] == list(bounds)


# --- the command line ----------------------------------------------------------------------------------------------


def commands(group: Any, prefix: str = "snapkeep") -> Iterator[tuple[str, set[str]]]:
    """Every command with its options."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix} {name}")
        else:
            options = {o for p in command.params for o in p.opts if o.startswith("--")}
            yield f"{prefix} {name}", options


def test_every_command_and_option_is_in_the_contract_and_no_other() -> None:
    told: dict[str, set[str]] = {}
    for row in rows_with("command"):
        text = code(row["command"])
        words = re.match(r"[a-z ]+[a-z]", text)
        assert words is not None
        told[words[0]] = told.get(words[0], set()) | set(re.findall(r"--[a-z0-9-]+", text))
    assert told == dict(commands(root))


# --- the API -------------------------------------------------------------------------------------------------------


def test_every_route_is_in_the_contract_with_what_it_takes_and_answers_and_no_other() -> None:
    told = {
        code(row["route"]): (code(row["action"]), re.findall(r"`(\w+)`", row["takes"]), row["what it is for"])
        for row in rows_with("route")
    }
    taken = {
        f"{one.method} {one.path}": (
            one.action,
            list(one.body.__struct_fields__ if one.body else one.query),
            one.words,
        )
        for one in routes.ROUTES
    }
    assert told == taken


@pytest.mark.parametrize(
    "route", [one for one in routes.ROUTES if one.name not in ("point", "restore", "openapi")], ids=lambda one: one.name
)
def test_what_a_route_answers_is_in_the_contract(route: routes.Route) -> None:
    (row,) = (row for row in rows_with("route") if code(row["route"]) == f"{route.method} {route.path}")
    assert re.findall(r"`(\w+)`", row["answers"]) == list(route.answer.__struct_fields__)


def test_every_status_that_the_api_documents_is_in_the_contract() -> None:
    assert {int(row["status"]) for row in rows_with("status")} >= set(openapi.WORDS)


# --- the local cloud -----------------------------------------------------------------------------------------------


def tags(union: Any) -> set[str]:
    return {str(kind.__struct_config__.tag) for kind in get_args(union)}


def test_the_controls_of_the_local_cloud_are_those_of_the_code() -> None:
    told = {code(row["control"]) for row in rows_with("control")}
    served = set()
    for module in ("rest.py", "runner.py"):
        source = (ROOT / "infra" / "local" / "snapkeep_local" / module).read_text(encoding="utf-8")
        for method, path in re.findall(r'@app\.(get|post|delete)\("(/_sim/[^"]+)"', source):
            part = re.sub(r"<(?:int:)?(\w+)>", r"{\1}", path)
            served.add(f"{method.upper()} {part}")
    assert told == served


def test_the_faults_and_changes_of_the_local_cloud_are_those_of_the_code() -> None:
    told = section("8.").split("Effects of a fault:")[1].split("**Not built yet.**")[0]
    effects, changes = re.sub(r"\([^)]*\)", "", told).split("Kinds of a change:")
    assert set(re.findall(r"`(\w+)`", effects)) == tags(faults.Effect)
    assert set(re.findall(r"`(\w+)`", changes)) == tags(rest.FleetChange)
    assert (set(local_cli.EFFECTS), set(local_cli.CHANGES)) == (tags(faults.Effect), tags(rest.FleetChange))


def test_the_line_that_up_prints_has_the_keys_of_the_contract() -> None:
    source = (ROOT / "infra" / "local" / "snapkeep_local" / "runner.py").read_text(encoding="utf-8")
    printed = re.search(r"self\.addresses = \{(.*?)\n        \}", source, re.S)
    assert printed is not None
    assert [code(row["key"]) for row in rows_with("key")] == re.findall(r'^            "(\w+)":', printed[1], re.M)

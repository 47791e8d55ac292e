"""The command line: exit statuses, one line for what went wrong, and JSON for scripts."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import flask
import pytest
from click.testing import CliRunner, Result
from rich.console import Console
from tests.cli.typing_in import serving
from tests.makers import THEN

from snapkeep.audit import chain, export
from snapkeep.cli import root
from snapkeep.cli.output import Output
from snapkeep.store import canonical, timestamp
from snapkeep.wording import age, moment, size

NOWHERE = {
    "SNAPKEEP_API": "http://127.0.0.1:1",
    "SNAPKEEP_PROJECT": None,
    "SNAPKEEP_USER": None,
    "SNAPKEEP_IAP_CLIENT": None,
    "GOOGLE_CLOUD_PROJECT": None,
}


def run(*arguments: str | Path, api: str = "http://127.0.0.1:1") -> Result:
    runner = CliRunner(env=NOWHERE | {"SNAPKEEP_API": api})
    return runner.invoke(root, [str(argument) for argument in arguments])


def lines(text: str) -> list[str]:
    return text.splitlines()


# --- usage --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["fleet", "nonsense"],
        ["fleet", "apply"],
        ["fleet", "apply", "no/such/file.yaml"],
        ["fleet", "show"],
        ["fleet", "list", "--nonsense"],
        ["fleet", "list", "more"],
        ["audit", "verify", "--from", "no/such/folder"],
        ["audit", "verify", "--heads", "no/such/file"],
        ["audit", "export"],
        ["points", "list", "--state", "fine"],
        ["points", "list", "--limit", "0"],
        ["points", "show"],
        ["points", "create", "--tenant", "acme"],
        ["points", "copy", "20261101-s-acme-pam-1-0123abcd"],
        ["points", "orphans", "more"],
        ["retention", "plan"],
        ["retention", "plan", "--tenant", "acme", "--policy", "no/such/file.yaml"],
        ["retention", "override", "--tenant", "acme", "--instance", "i"],
        ["hold", "add", "--tenant", "acme"],
        ["hold", "add", "--tenant", "acme", "--copy", "us-east1", "--reason", "x"],
        ["hold", "release", "--tenant", "acme", "--reason", "x"],
        ["pause"],
        ["pause", "deletion"],
        ["resume", "deletion"],
        ["schedule", "on", "--tenant", "acme"],
        ["fleet", "offboard", "acme", "--on", "2027-01-31"],
        ["fleet", "apply", "tests", "--accept-deletions", "-1"],
        ["tick"],
        ["tick", "create"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2_and_changes_nothing(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Error: " in result.stderr
    assert "Traceback" not in result.output + result.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["fleet", "-h"], ["fleet", "apply", "-h"], ["audit", "-h"]])
def test_help_is_help(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: ")


# --- no cloud to talk to ------------------------------------------------------------------------------------------

ASKS_THE_API = [
    ["fleet", "list"],
    ["fleet", "health"],
    ["fleet", "show", "acme"],
    ["points", "list"],
    ["points", "show", "20261101-s-acme-pam-1-0123abcd"],
    ["points", "create", "--tenant", "acme", "--instance", "acme-pam-1", "--reason", "before import"],
    ["points", "copy", "20261101-s-acme-pam-1-0123abcd", "--reason", "x"],
    ["points", "orphans"],
    ["retention", "plan", "--tenant", "acme"],
    ["retention", "override", "--tenant", "acme", "--instance", "acme-pam-1", "--reason", "x"],
    ["hold", "add", "--tenant", "acme", "--reason", "x"],
    ["hold", "release", "--tenant", "acme", "0badcafe", "--reason", "x"],
    ["hold", "list"],
    ["pause", "deletion", "--reason", "x"],
    ["resume", "deletion", "--reason", "x"],
    ["schedule", "on", "--tenant", "acme", "--reason", "x"],
    ["fleet", "offboard", "acme", "--cancel", "--reason", "x"],
    ["access", "show"],
    ["tick", "plan"],
    ["audit", "verify"],
    ["audit", "export", "x"],
]


def ends_in_one_line(result: Result) -> str:
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    (line,) = lines(result.stderr)
    assert line.startswith("snapkeep: ")
    assert result.stdout == ""
    return line


@pytest.mark.parametrize("arguments", ASKS_THE_API, ids=" ".join)
def test_without_a_cloud_one_line_says_what_to_do(arguments: list[str]) -> None:
    line = ends_in_one_line(run(*arguments))
    assert "nobody answers at http://127.0.0.1:1" in line
    assert "snapkeep up" in line
    assert "SNAPKEEP_API" in line


@pytest.mark.parametrize("api", ["ftp://x", "127.0.0.1:8080", "http://127.0.0.1:99999", "http://a b", "http://["])
def test_an_address_that_is_none_is_one_line_too(api: str) -> None:
    ends_in_one_line(run("fleet", "list", api=api))


@pytest.fixture(
    params=[b"{}", b"[]", b"7", b'"x"', b"<html>", b"\xff", b"", b'{"project":"p"}', b'{"detail":"Not Found"}']
)
def someone_else(request: pytest.FixtureRequest) -> Iterator[str]:
    """Something that is no local cloud answers at the address."""
    with serving(flask.Response(request.param)) as port:
        yield f"http://127.0.0.1:{port}"


def test_something_else_at_the_address_is_one_line_too(someone_else: str) -> None:
    line = ends_in_one_line(run("fleet", "list", api=someone_else))
    assert someone_else in line


# --- fleet apply --------------------------------------------------------------------------------------------------

TEN_MISTAKES = """\
tenants:
  - id: Acme
    name: ""
    deployment: on_prem
    project: "not a project!"
    instances: []
    timezone: America/Nowhere
    schedule: {daily_at: "25:00", spread_minutes: -1, catch_up_hours: 0}
    rpo_hours: never
"""


def test_ten_mistakes_are_ten_lines_and_a_last_one(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(TEN_MISTAKES)
    result = run("fleet", "apply", path)
    assert result.exit_code == 1
    *mistakes, last = lines(result.stderr)
    assert len(mistakes) == 10
    assert all(str(path) in mistake and "tenants[0]" in mistake for mistake in mistakes)
    assert last == "snapkeep: 10 mistakes; nothing of a file with a mistake was applied"
    assert result.stdout == ""


def test_mistakes_as_json_are_on_standard_output_and_the_status_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(TEN_MISTAKES)
    result = run("--json", "fleet", "apply", path)
    assert result.exit_code == 1
    said = json.loads(result.stdout)
    assert set(said) == {
        "changes",
        "unchanged",
        "left_out",
        "mistakes",
        "warnings",
        "deletions",
        "copies",
        "gives_up",
        "deselected",
        "applied",
        "applied_tenants",
        "dry_run",
    }
    assert len(said["mistakes"]) == 10
    assert said["changes"] == said["unchanged"] == []
    assert said["dry_run"] is False


@pytest.mark.parametrize("content", [b"", b"tenants: [", b"\xff\xfe", b"tenants: {}", b"[]", b"tenants:\n  - 7\n"])
def test_a_file_that_is_none_is_refused_without_a_traceback(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_bytes(content)
    result = run("fleet", "apply", path)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert str(path) in result.stderr


def test_a_good_file_without_a_cloud_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(
        "tenants: [{id: acme, name: Acme, project: acme-prod, instances: [{name: a, zone: southamerica-east1-a}]}]"
    )
    result = run("fleet", "apply", path)
    assert "nobody answers" in lines(result.stderr)[-1]
    assert result.exit_code == 1


# --- audit verify --from ------------------------------------------------------------------------------------------


def exported(folder: Path) -> Path:
    bodies = [
        canonical(
            {
                "at": timestamp(THEN + timedelta(minutes=number)),
                "actor": "snapkeep",
                "action": "point.verified",
                "subject": f"points/{number}",
                "outcome": "succeeded",
                "tenant": "acme",
                "detail": {},
            }
        )
        for number in range(3)
    ]
    export.write(folder, {"acme": chain.append(chain.EMPTY, bodies), "_system": []})
    return folder


def test_an_intact_export_exits_with_0_and_needs_no_cloud(tmp_path: Path) -> None:
    result = run("audit", "verify", "--from", exported(tmp_path))
    assert result.exit_code == 0
    assert result.stderr == ""
    assert [line.split()[:3] for line in lines(result.stdout)] == [
        ["TENANT", "RECORDS", "CHAIN"],
        ["_system", "0", "intact"],
        ["acme", "3", "intact"],
    ]


def test_a_changed_record_exits_with_1_and_is_named_with_its_tenant(tmp_path: Path) -> None:
    path = exported(tmp_path) / "acme.jsonl"
    path.write_bytes(path.read_bytes().replace(b"points/1", b"points/9"))
    result = run("audit", "verify", "--from", tmp_path)
    assert result.exit_code == 1
    assert "BROKEN" in result.stdout
    assert lines(result.stderr)
    assert all(line.startswith("acme: record 2: ") for line in lines(result.stderr))


def test_verdicts_as_json(tmp_path: Path) -> None:
    folder = exported(tmp_path)
    said = json.loads(run("--json", "audit", "verify", "--from", folder).stdout)
    assert said["intact"] is True
    assert [c["tenant"] for c in said["chains"]] == ["_system", "acme"]
    assert set(said["chains"][1]) == {"tenant", "records", "intact", "head", "findings"}
    assert said["chains"][1]["head"]["seq"] == 3
    (folder / "acme.jsonl").write_bytes(b"x\n")
    result = run("--json", "audit", "verify", "--from", folder)
    assert result.exit_code == 1
    said = json.loads(result.stdout)
    assert said["intact"] is False
    assert said["chains"][1]["findings"][0] == {"seq": 1, "problem": "its line is not an audit record"}


def test_what_a_verification_printed_are_heads_for_the_next(tmp_path: Path) -> None:
    folder = exported(tmp_path / "export")
    heads = tmp_path / "heads-before.json"
    heads.write_text(run("--json", "audit", "verify", "--from", folder).stdout)
    assert run("audit", "verify", "--from", folder, "--heads", heads).exit_code == 0
    lines_before = (folder / "acme.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "acme.jsonl").write_bytes(b"".join(lines_before[:2]))
    content = json.loads((folder / "heads.json").read_bytes())
    content["acme"] = {"seq": 2, "hash": json.loads(lines_before[1])["hash"]}
    (folder / "heads.json").write_bytes(canonical(content))
    assert run("audit", "verify", "--from", folder).exit_code == 0
    result = run("audit", "verify", "--from", folder, "--heads", heads)
    assert result.exit_code == 1
    assert lines(result.stderr) == ["acme: record 3: missing: the chain ended at record 3 before and ends at 2 now"]


def test_one_tenants_chain_can_be_asked_for_and_a_typing_mistake_is_not_an_intact_chain(tmp_path: Path) -> None:
    folder = exported(tmp_path)
    assert "acme" in run("audit", "verify", "--from", folder, "--tenant", "acme").stdout
    line = ends_in_one_line(run("audit", "verify", "--from", folder, "--tenant", "acme", "--tenant", "acmee"))
    assert "'acmee'" in line


def test_a_folder_that_is_no_export_is_one_line(tmp_path: Path) -> None:
    assert "heads.json" in ends_in_one_line(run("audit", "verify", "--from", tmp_path))


# --- what is printed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, "0 B"), (999, "999 B"), (1024, "1.0 KiB"), (12_400_000_000, "11.5 GiB"), (2**60, "1048576.0 TiB")],
)
def test_sizes_are_short(count: int, expected: str) -> None:
    assert size(count) == expected


@pytest.mark.parametrize(
    ("ago", "expected"),
    [
        (timedelta(seconds=59), "0m"),
        (timedelta(minutes=59), "59m"),
        (timedelta(hours=5, minutes=10), "5h 10m"),
        (timedelta(days=3, hours=4, minutes=5), "3d 4h"),
        (-timedelta(minutes=5), "0m"),
    ],
)
def test_ages_are_short(ago: timedelta, expected: str) -> None:
    assert age(THEN - ago, THEN) == expected


def test_what_never_was_is_never() -> None:
    assert age(None, THEN) == moment(None) == "never"


def test_names_that_look_like_markup_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=False).table(("NAME",), [("[bold]Acme[/]",), ("[/]",)])
    assert capsys.readouterr().out.split() == ["NAME", "[bold]Acme[/]", "[/]"]


def table(capsys: pytest.CaptureFixture[str], width: int, *, bounded: bool = True, **options: Any) -> str:
    output = Output(as_json=False)
    output.bounded = bounded
    output.console = Console(width=width, highlight=False)
    row = ("20261122-s-acme-pam-1-6a39d0ed", "scheduled", "daily point of the 22nd, which took a while", "8.6 GiB")
    output.table(("POINT", "TRIGGER", "WHY", "BYTES"), [row], **options)
    return capsys.readouterr().out


def test_a_wide_terminal_shows_every_column(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(table(capsys, 120, spare=("TRIGGER",), text=("WHY",)).splitlines()) == 2


def test_what_a_narrow_terminal_leaves_out_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    said = table(capsys, 60, spare=("TRIGGER", "BYTES"), text=("WHY",))
    assert "scheduled" not in said
    assert "left out for want of width: TRIGGER, BYTES;" in said
    assert "20261122-s-acme-pam-1-6a39d0ed" in said
    assert all(word in said for word in ["daily", "point", "of", "the", "22nd,", "which", "took", "a", "while"])


def test_what_is_written_to_a_file_has_every_column(capsys: pytest.CaptureFixture[str]) -> None:
    said = table(capsys, 60, bounded=False, spare=("TRIGGER", "BYTES"), text=("WHY",))
    assert "left out" not in said
    assert "scheduled" in said


def test_a_table_that_is_too_wide_all_the_same_is_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    said = table(capsys, 40)
    assert "20261122-s-acme-pam-1-6a39d0ed  scheduled" in said
    assert "8.6 GiB" in said


def test_heads_that_name_no_chain_prove_nothing_and_are_refused(tmp_path: Path) -> None:
    exported(tmp_path)
    heads = tmp_path / "noted.json"
    heads.write_text("{}")
    line = ends_in_one_line(run("audit", "verify", "--from", tmp_path, "--heads", heads))
    assert "names no chain" in line

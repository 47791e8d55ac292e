"""Says, after every run, how many tests of each kind ran, and why the others did not.

A kind is a folder of tests/; those of its tests that need Google's emulators (marker `e2e`) are counted apart. With
pytest-xdist this runs in the process that collects the workers' reports.

Here, too, stands the one rule for machines without those emulators.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import settings

from snapkeep_local import emulators

# A machine that is busy is no finding: no property has a time in which it must hold.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

# Tables are as wide as a test says, whatever terminal it was started in.
os.environ.pop("COLUMNS", None)

TESTS: Final = Path(__file__).parent

PASSED: Final = "passed"
FAILED: Final = "failed"
NOT_RUN: Final = "not run"
DESELECTED: Final = "left out"
COLUMNS: Final = (PASSED, FAILED, NOT_RUN, DESELECTED)

CATEGORIES: Final = {
    "passed": PASSED,
    "xpassed": PASSED,
    "failed": FAILED,
    "error": FAILED,
    "skipped": NOT_RUN,
    "xfailed": NOT_RUN,
}
"""pytest's words for how a test ended -> ours."""

LEFT_OUT: Final = pytest.StashKey[Counter[str]]()
NOTHING: Final[Counter[str]] = Counter()


@pytest.fixture(scope="session")
def emulators_installed() -> None:
    """Skips where Google's emulators are missing; fails there with CI=true or SNAPKEEP_REQUIRE_EMULATORS=1."""
    try:
        emulators.installed()
    except emulators.EmulatorsMissing as missing:
        if os.environ.get("CI") == "true" or os.environ.get("SNAPKEEP_REQUIRE_EMULATORS") == "1":
            pytest.fail(str(missing), pytrace=False)
        pytest.skip(f"NOT RUN: {missing}")


def kind_of(nodeid: str, keywords: Iterable[str] = ()) -> str:
    """`tests/contract/test_bus.py::test_x[emulator]` -> `contract`, or where marked e2e `contract on emulators`."""
    parts = nodeid.split("::", 1)[0].split("/")
    folder = parts[1] if len(parts) > 2 else "tests"
    return f"{folder} on emulators" if "e2e" in keywords and folder != "e2e" else folder


def count(stats: Mapping[str, Sequence[Any]]) -> tuple[dict[str, Counter[str]], dict[str, Counter[str]]]:
    """How many tests of each kind ended how; and of those that did not run, how many of each kind for each reason.

    A test counts once, and as failed if anything of it failed: its set-up, itself, or its tear-down.
    """
    ended: dict[str, tuple[str, str, str]] = {}
    for category, column in CATEGORIES.items():
        for report in stats.get(category, ()):
            kind = kind_of(report.nodeid, getattr(report, "keywords", ()))
            if column != FAILED and ended.get(report.nodeid, ("", ""))[1] == FAILED:
                continue
            ended[report.nodeid] = (kind, column, _reason(report) if column == NOT_RUN else "")
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    reasons: dict[str, Counter[str]] = defaultdict(Counter)
    for kind, column, reason in ended.values():
        counts[kind][column] += 1
        if column == NOT_RUN:
            reasons[reason][kind] += 1
    return counts, reasons


def said(stats: Mapping[str, Sequence[Any]]) -> list[str]:
    """What tests that passed have to say (`record_property("says", ...)`): how much it was that they looked at."""
    properties = [one for report in stats.get("passed", ()) for one in report.user_properties]
    return sorted({str(text) for key, text in properties if key == "says"})


def _reason(report: Any) -> str:
    if getattr(report, "wasxfail", None) is not None:
        return f"expected to fail: {report.wasxfail}"
    # A skipped test's report is (file, line, "Skipped: reason").
    longrepr = report.longrepr
    text = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
    return text.removeprefix("Skipped: ").removeprefix("NOT RUN: ").strip() or "no reason given"


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    for item in items:
        stash = item.config.stash
        marks = [mark.name for mark in item.iter_markers()]
        stash[LEFT_OUT] = stash.get(LEFT_OUT, NOTHING) + Counter([kind_of(item.nodeid, marks)])


def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        left_out = session.config.stash.get(LEFT_OUT, NOTHING)
        output["snapkeep_left_out"] = dict(left_out)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    # Every worker collects the same tests, so that any one of them tells.
    output = getattr(node, "workeroutput", None) or {}
    if "snapkeep_left_out" in output:
        node.config.stash[LEFT_OUT] = Counter(output["snapkeep_left_out"])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    counts, reasons = count(terminalreporter.stats)
    for kind, number in config.stash.get(LEFT_OUT, NOTHING).items():
        counts.setdefault(kind, Counter())[DESELECTED] += number
    if not counts:
        return
    total: Counter[str] = sum(counts.values(), Counter())
    columns = [c for c in COLUMNS if total[c] or c != DESELECTED]
    width = max(len(kind) for kind in (*counts, "all"))
    terminalreporter.section("tests of each kind")
    terminalreporter.line(" ".join([" " * width, *(f"{c:>9}" for c in columns)]))
    for kind in sorted(counts):
        terminalreporter.line(" ".join([f"{kind:{width}}", *(f"{counts[kind][c]:>9}" for c in columns)]))
    terminalreporter.line(" ".join([f"{'all':{width}}", *(f"{total[c]:>9}" for c in columns)]))
    for reason, kinds in reasons.items():
        told = ", ".join(f"{number} of {kind}" for kind, number in sorted(kinds.items()))
        terminalreporter.line(f"not run: {told}: {reason}", yellow=True)
    if total[DESELECTED]:
        terminalreporter.line(f"left out: by {_selection(config)}")
    for line in said(terminalreporter.stats):
        terminalreporter.line(line)


def _selection(config: pytest.Config) -> str:
    options = [("-m", config.option.markexpr), ("-k", config.option.keyword)]
    return " ".join(f'{option} "{value}"' for option, value in options if value) or "the command line"

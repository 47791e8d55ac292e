"""A guard, taken away from a copy of the code, and whether the fault tests miss it."""

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SEEDS_MAX = 40
TIMEOUT_S = 400


@dataclass(frozen=True)
class Bug:
    name: str
    file: str
    guard: str  # stands exactly once in the file
    without: str
    found: str  # what a finding must say
    also: tuple[
        tuple[str, str, str], ...
    ] = ()  # what else goes, where one guard stands behind another: file, guard, ...
    first: int = 0  # the seed that is tried first: those before it found nothing when this was written
    replayed: tuple[str, ...] = ()  # of restores: the scenario and the event that miss it; else seeds do


def searched(tree: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The fault tests of this tree, until one finds something: status 1 then."""
    return subprocess.run(  # noqa: S603 - our own module
        [sys.executable, "-m", "tests.faults", *words, "--until-found"],
        cwd=tree,
        env={"PYTHONPATH": f"{tree}:{tree}/functions:{tree}/infra/local", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def is_missed(bug: Bug, folder: Path) -> None:
    """Fails unless some seed finds what goes wrong without the guard."""
    for part in ("functions", "infra", "tests/faults"):
        shutil.copytree(ROOT / part, folder / part)  # what is compiled too: most of it holds still
    for name, guard, without in ((bug.file, bug.guard, bug.without), *bug.also):
        file = folder / name
        text = file.read_text(encoding="utf-8")
        assert text.count(guard) == 1, f"{name} has the guard {text.count(guard)} times"
        file.write_text(text.replace(guard, without), encoding="utf-8")
    words = ("restores", *bug.replayed) if bug.replayed else (str(bug.first), str(SEEDS_MAX))
    run = searched(folder, *words)
    if run.returncode == 0 and bug.first:
        words = ("0", str(bug.first))
        run = searched(folder, *words)
    assert run.returncode == 1, f"not caught by {words}:\n{run.stdout[-500:]}{run.stderr[-2000:]}"
    assert re.search(bug.found, run.stdout), run.stdout[-1000:] + run.stderr[-1000:]

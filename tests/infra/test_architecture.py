"""The architecture, held: which file may reach for Google, the clock, chance, the environment, and what is pure.

`ruff check` holds most of it while one types (pyproject.toml, banned-api). Here the same is said exactly, file by
file, from the syntax tree alone; and each law is broken once to see that it is noticed.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
SOURCES: Final = ("functions", "infra")


# --- the laws ------------------------------------------------------------------------------------------------------


def within(*prefixes: str) -> Callable[[str], bool]:
    """Whether a dotted name is one of these or below one."""
    return lambda name: any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def unseeded(name: str) -> bool:
    """`random.Random` with a seed is how chance is made repeatable; everything else of `random` is not."""
    return name == "random.Random()" or (
        name.startswith("random.") and name.split(".")[1] not in ("Random", "Random()")
    )


@dataclass(frozen=True)
class Law:
    name: str
    forbids: Callable[[str], bool]
    where: str  # the files that it holds for: below this folder
    but_in: tuple[str, ...]  # files, or folders that end in a slash
    by_ruff: bool = True


LAWS: Final = (
    Law(
        "google in gcp",
        within("google", "grpc", "requests"),
        "",
        (
            "functions/snapkeep/gcp/",
            "infra/local/snapkeep_local/delivery.py",  # makes topics and subscriptions, Terraform's part
        ),
    ),
    Law(
        "framework in main",
        within("functions_framework", "cloudevents"),
        "",
        ("functions/main.py",),
    ),
    Law(
        "time in wiring",
        within(
            "datetime.datetime.now",
            "datetime.datetime.utcnow",
            "datetime.datetime.today",
            "datetime.date.today",
            "time",
        ),
        "",
        (
            "functions/snapkeep/wiring.py",
            "infra/local/snapkeep_local/delivery.py",  # delivers in real time to real processes
            "infra/local/snapkeep_local/emulators.py",  # waits in real time for real processes
            "infra/local/snapkeep_local/processes.py",  # likewise
            "infra/local/snapkeep_local/runner.py",  # `up` begins at the present unless told otherwise
            "infra/local/snapkeep_local/timekeeper.py",  # `up --clock system`
        ),
    ),
    Law(
        "chance in wiring",
        lambda name: within("secrets", "os.urandom", "uuid.uuid1", "uuid.uuid4")(name) or unseeded(name),
        "",
        ("functions/snapkeep/wiring.py",),
    ),
    Law(
        "environment in wiring",
        within("os.environ", "os.environb", "os.getenv", "os.putenv"),
        "",
        (
            "functions/snapkeep/wiring.py",
            "functions/snapkeep/config.py",
            "functions/snapkeep/cli/target.py",
            "infra/local/snapkeep_local/emulators.py",  # the processes inherit it
            "infra/local/snapkeep_local/runner.py",  # likewise; and it may name emulators that run already
        ),
    ),
    Law(
        "no local cloud in what is deployed",
        within("snapkeep_local"),
        "functions/",
        ("functions/snapkeep/cli/__init__.py",),  # loads it as a plug-in where it is installed
        by_ruff=False,
    ),
)

PURE: Final = (
    "functions/snapkeep/access.py",
    "functions/snapkeep/asking.py",
    "functions/snapkeep/cloud.py",
    "functions/snapkeep/deployment.py",
    "functions/snapkeep/doctor/checks.py",
    "functions/snapkeep/doctor/facts.py",
    "functions/snapkeep/documents.py",
    "functions/snapkeep/fleet.py",
    "functions/snapkeep/messages.py",
    "functions/snapkeep/audit/chain.py",
    "functions/snapkeep/copies/leftovers.py",
    "functions/snapkeep/copies/rules.py",
    "functions/snapkeep/copies/sets.py",
    "functions/snapkeep/copies/tries.py",
    "functions/snapkeep/copies/wanted.py",
    "functions/snapkeep/creation/moment.py",
    "functions/snapkeep/creation/release.py",
    "functions/snapkeep/creation/rules.py",
    "functions/snapkeep/creation/slots.py",
    "functions/snapkeep/discovery/rules.py",
    "functions/snapkeep/restore/asks.py",
    "functions/snapkeep/restore/bare.py",
    "functions/snapkeep/restore/catalogue.py",
    "functions/snapkeep/restore/checks.py",
    "functions/snapkeep/restore/definition.py",
    "functions/snapkeep/restore/facts.py",
    "functions/snapkeep/restore/former.py",
    "functions/snapkeep/restore/life.py",
    "functions/snapkeep/restore/making.py",
    "functions/snapkeep/restore/manifest.py",
    "functions/snapkeep/restore/planning.py",
    "functions/snapkeep/restore/progress.py",
    "functions/snapkeep/restore/rules.py",
    "functions/snapkeep/restore/script.py",
    "functions/snapkeep/restore/steps.py",
    "functions/snapkeep/restore/survey.py",
    "functions/snapkeep/restore/swap.py",
    "functions/snapkeep/restore/testing.py",
    "functions/snapkeep/restore/words.py",
    "functions/snapkeep/retention/deletion.py",
    "functions/snapkeep/retention/rules.py",
    "functions/snapkeep/wording.py",
)
"""Facts in, decisions out. They import nothing that could reach the world, and of Snapkeep only one another."""

HARMLESS: Final = (
    "__future__",
    "base64",
    "binascii",
    "collections",
    "dataclasses",
    "datetime",
    "difflib",
    "enum",
    "functools",
    "hashlib",
    "ipaddress",
    "json",
    "msgspec",
    "operator",
    "re",
    "reprlib",
    "shlex",
    "statistics",
    "typing",
    "uuid",
    "yaml",
    "zlib",
    "zoneinfo",
)
READS_FILES: Final = ("functions/snapkeep/deployment.py", "functions/snapkeep/fleet.py")
FILES: Final = ("os", "os.walk", "pathlib")
REACHES_OUT: Final = ("open()", "input()", "print()", "exec()", "eval()", "__import__()")


# --- reading the tree ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Use:
    """A dotted name that a file uses; calls without arguments end in `()`. `imported`: by an import statement."""

    name: str
    line: int
    imported: bool


def uses(source: str) -> Iterator[Use]:
    """Every imported name, and every use of one with what follows it: `dt.now()` is `datetime.datetime.now`."""
    tree = ast.parse(source)
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                for alias in names:
                    bound = alias.asname or alias.name.split(".")[0]
                    known[bound] = alias.name if alias.asname else bound
                    yield Use(alias.name, node.lineno, True)
            case ast.ImportFrom(module=str(module), names=names):
                for alias in names:
                    known[alias.asname or alias.name] = f"{module}.{alias.name}"
                    yield Use(f"{module}.{alias.name}", node.lineno, True)
    for node in ast.walk(tree):
        match node:
            case ast.Attribute() | ast.Name():
                name = dotted(node, known)
                if name:
                    yield Use(name, node.lineno, False)
            case ast.Call(func=ast.Name(id=called)) if called not in known:
                yield Use(f"{called}()", node.lineno, False)
            case ast.Call(func=func, args=[], keywords=[]):
                name = dotted(func, known)
                if name:
                    yield Use(f"{name}()", node.lineno, False)


def dotted(node: ast.expr, known: dict[str, str]) -> str | None:
    match node:
        case ast.Name(id=name):
            return known.get(name)
        case ast.Attribute(value=value, attr=attr):
            before = dotted(value, known)
            return f"{before}.{attr}" if before else None
    return None


def violations(path: str, source: str) -> set[str]:
    """What a file breaks: the law's name, the line, and the name that was used."""
    found = set()
    for law in LAWS:
        if not path.startswith(law.where) or any(path == place or _below(path, place) for place in law.but_in):
            continue
        found |= {f"{law.name}: {path}:{use.line}: {use.name}" for use in uses(source) if law.forbids(use.name)}
    if path in PURE:
        found |= {f"pure: {path}:{use.line}: {use.name}" for use in uses(source) if not _harmless(path, use)}
    return found


def _below(path: str, folder: str) -> bool:
    return folder.endswith("/") and path.startswith(folder)


def _harmless(path: str, use: Use) -> bool:
    if not use.imported:
        return use.name not in REACHES_OUT and (use.name in FILES or not within("os")(use.name))
    ours = tuple(pure.removeprefix("functions/").removesuffix(".py").replace("/", ".") for pure in PURE)
    if path in READS_FILES and (use.name in FILES or within("pathlib")(use.name)):
        return True
    # `from snapkeep import cloud` names the module itself; `from snapkeep.cloud import X` something in it.
    return within(*HARMLESS, *ours)(use.name)


def python_files() -> list[str]:
    return sorted(path.relative_to(ROOT).as_posix() for folder in SOURCES for path in (ROOT / folder).rglob("*.py"))


def ruff(path: str, source: str) -> str:
    """What ruff says of a file of this name with this content, by the project's own settings."""
    said = subprocess.run(  # noqa: S603 - a fixed command
        [sys.executable, "-m", "ruff", "check", "--no-cache", "--select=TID", "--output-format=concise",
         "--stdin-filename", path, "-"],
        input=source,
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )  # fmt: skip
    return said.stdout


# --- the tree is clean ---------------------------------------------------------------------------------------------


def test_every_file_keeps_every_law() -> None:
    broken = {line for path in python_files() for line in violations(path, (ROOT / path).read_text(encoding="utf-8"))}
    assert not broken, "\n".join(sorted(broken))


def test_every_file_that_a_law_names_is_there() -> None:
    named = {place for law in LAWS for place in law.but_in} | set(PURE)
    assert [place for place in sorted(named) if not (ROOT / place).exists()] == []


def test_every_file_of_rules_is_held_pure() -> None:
    rules = [path for path in python_files() if Path(path).name in ("rules.py", "chain.py", "slots.py")]
    assert set(rules) <= set(PURE)


def test_ruff_excuses_no_file_that_no_law_excuses() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    ignores = settings["tool"]["ruff"]["lint"]["per-file-ignores"]
    by_ruff = {glob.removesuffix("*.py") for glob, codes in ignores.items() if "TID251" in codes} - {"tests/**"}
    by_law = {place for law in LAWS if law.by_ruff for place in law.but_in}
    needed = {place for place in by_law if place != "functions/snapkeep/config.py"}  # is handed what it reads
    assert by_ruff == needed


# --- and is noticed when it is not ---------------------------------------------------------------------------------

HANDLER: Final = "functions/snapkeep/creation/handler.py"
RULES: Final = "functions/snapkeep/creation/rules.py"
WIRING: Final = "functions/snapkeep/wiring.py"
GCP: Final = "functions/snapkeep/gcp/compute.py"
LOCAL: Final = "infra/local/snapkeep_local/cloud.py"


@pytest.mark.parametrize(
    ("law", "path", "source"),
    [
        ("google in gcp", HANDLER, "from google.cloud import firestore\n"),
        ("google in gcp", HANDLER, "def f():\n    import google.auth\n"),
        ("google in gcp", LOCAL, "import grpc\n"),
        ("google in gcp", "functions/snapkeep/cli/fleet.py", "from google.api_core.exceptions import NotFound\n"),
        ("framework in main", HANDLER, "import functions_framework\n"),
        ("time in wiring", HANDLER, "from datetime import UTC, datetime\nnow = datetime.now(UTC)\n"),
        ("time in wiring", HANDLER, "import datetime as dt\nnow = dt.datetime.utcnow()\n"),
        ("time in wiring", HANDLER, "from datetime import date\ntoday = date.today()\n"),
        ("time in wiring", LOCAL, "from time import monotonic\n"),
        ("chance in wiring", HANDLER, "from uuid import uuid4\n"),
        ("chance in wiring", HANDLER, "import uuid\nid = uuid.uuid1()\n"),
        ("chance in wiring", HANDLER, "import secrets\n"),
        ("chance in wiring", HANDLER, "import os\nsalt = os.urandom(8)\n"),
        ("chance in wiring", LOCAL, "import random\nrandom.shuffle([])\n"),
        ("chance in wiring", LOCAL, "from random import choice\n"),
        ("environment in wiring", HANDLER, "import os\nproject = os.environ['PROJECT']\n"),
    ],
)
def test_a_planted_violation_is_noticed_by_its_name(law: str, path: str, source: str) -> None:
    assert {line.split(":")[0] for line in violations(path, source)} == {law}
    assert "TID251" in ruff(path, source)


@pytest.mark.parametrize(
    ("law", "path", "source"),
    [
        ("chance in wiring", LOCAL, "import random\nchance = random.Random()\n"),
        ("chance in wiring", LOCAL, "from random import Random\nchance = Random()\n"),
        ("google in gcp", "functions/main.py", "import requests\n"),
        ("framework in main", GCP, "from cloudevents.http import CloudEvent\n"),
        ("time in wiring", GCP, "import time\ntime.sleep(1)\n"),
        ("environment in wiring", GCP, "from os import getenv\n"),
        ("google in gcp", WIRING, "from google.cloud import firestore\n"),
        ("environment in wiring", GCP, "import os\nhost = os.environ\n"),
        ("time in wiring", "functions/snapkeep/cli/target.py", "import time\n"),
        ("time in wiring", "functions/main.py", "import time\n"),
        ("no local cloud in what is deployed", HANDLER, "from snapkeep_local.memory import MemoryBus\n"),
        ("no local cloud in what is deployed", "functions/main.py", "import snapkeep_local\n"),
        ("pure", RULES, "from snapkeep.ports import Ports\n"),
        ("pure", RULES, "from snapkeep.store import Fleet\n"),
        ("pure", RULES, "from snapkeep.creation import handler\n"),
        ("pure", RULES, "from snapkeep import wiring\n"),
        ("pure", RULES, "import urllib.request\n"),
        ("pure", RULES, "import logging\n"),
        ("pure", RULES, "from pathlib import Path\n"),
        ("pure", RULES, "text = open('fleet.yaml').read()\n"),
        ("pure", "functions/snapkeep/creation/slots.py", "from snapkeep.config import Config\n"),
        ("pure", "functions/snapkeep/discovery/rules.py", "from snapkeep.discovery.handler import discover\n"),
        ("pure", "functions/snapkeep/audit/chain.py", "from snapkeep.store import canonical\n"),
        ("pure", "functions/snapkeep/fleet.py", "import os\nos.remove('fleet.yaml')\n"),
        ("pure", "functions/snapkeep/fleet.py", "import subprocess\n"),
    ],
)
def test_what_ruff_cannot_say_is_noticed_here(law: str, path: str, source: str) -> None:
    assert {line.split(":")[0] for line in violations(path, source)} == {law}


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (RULES, "from google.cloud import firestore\n"),
        (RULES, "from datetime import UTC, datetime\nnow = datetime.now(UTC)\n"),
    ],
)
def test_rules_that_reach_for_google_or_a_clock_are_noticed(path: str, source: str) -> None:
    assert violations(path, source)
    assert "TID251" in ruff(path, source)


def test_google_is_loaded_only_when_a_port_asks_for_it() -> None:
    assert "TID253" in ruff(WIRING, "from snapkeep.gcp.compute import GoogleCompute\n")
    assert ruff(WIRING, "def f() -> None:\n    from snapkeep.gcp.compute import GoogleCompute\n") == (
        "All checks passed!\n"
    )


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (GCP, "from google.cloud import compute_v1\n"),
        (WIRING, "import secrets\nfrom datetime import UTC, datetime\nnow = datetime.now(UTC)\n"),
        (LOCAL, "import random\nchance = random.Random('seed')\nchance.shuffle([])\n"),
        (HANDLER, "from datetime import datetime\nat = datetime.fromisoformat('2026-01-01')\n"),
        (RULES, "import uuid\nid = uuid.uuid5(uuid.NAMESPACE_URL, 'x')\n"),
    ],
)
def test_what_is_allowed_passes(path: str, source: str) -> None:
    assert violations(path, source) == set()
    assert ruff(path, source) == "All checks passed!\n"

"""Guards, each taken away from a copy of the code: the fault tests must miss every one of them."""

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

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


RULES = "functions/snapkeep/creation/rules.py"
HANDLER = "functions/snapkeep/creation/handler.py"
AUDIT = "functions/snapkeep/audit/handler.py"
RETENTION = "functions/snapkeep/retention/rules.py"
EXPIRE = "functions/snapkeep/retention/handler.py"
DELETION = "functions/snapkeep/retention/deletion.py"

BUGS = [
    Bug(
        "a snapshot that is still being uploaded counts as done",
        RULES,
        'disk.snapshot.status == "READY" and disk.snapshot.id is not None',
        "disk.snapshot.id is not None",
        "verified with",
    ),
    Bug(
        "nobody compares the numeric id of the disk",
        RULES,
        "    if found.source_disk_id != disk.id:\n        # Most likely",
        "    if not found.source_disk_id:\n        # Most likely",
        "verified with",
    ),
    Bug(
        "the snapshot is stored wherever Compute Engine likes",
        "infra/local/snapkeep_local/compute.py",
        '"storageLocations": [change.location],',
        '"storageLocations": [],',
        "lies in",
    ),
    Bug(
        "the cloud is changed first and the intent committed afterwards",
        HANDLER,
        """    committed = _commit_steps(run, steps, now)
    _start(run, [(point, step) for point, step in committed if step.starts])
""",
        """    _start(run, [(point, step) for point, step in steps if step.starts])
    committed = _commit_steps(run, steps, now)
""",
        "without an intent",
    ),
    Bug(
        "a change is committed without its record",
        HANDLER,
        "store.commit(_record(point, step, now), *writes)",
        "store.commit(None, *writes)",
        "without an intent",
    ),
    Bug(
        "a snapshot that is still being made is given up for another",
        RULES,
        'case "READY" | "CREATING" | "UPLOADING":',
        'case "READY":',
        "snapshots for",
    ),
    Bug(
        "an attempt that has ended is told again at every look",
        RULES,
        "if judged.failure and not disk.failure:",
        "if judged.failure:",
        "outcomes",
    ),
    Bug(
        "a stuck operation is waited for without end",
        RULES,
        "late = now >= point.deadline",
        "late = False",
        "is still creating",
    ),
    Bug(
        "the disks of one point are taken hours apart",
        RULES,
        "SPREAD_MAX: Final = timedelta(hours=1)",
        "SPREAD_MAX: Final = timedelta(hours=24)",
        "verified with disks of",
    ),
    Bug(
        "an instance of the same name is taken for the one that was meant",
        RULES,
        "    if found.id != ref.id:",
        "    if not found.id:",
        "is of instance",
    ),
    Bug(
        "the schedule takes points of client-managed tenants",
        "functions/snapkeep/creation/slots.py",
        "if instance.lost_at is not None or not tenant.vendor_managed or tenant.has_left(now):",
        "if instance.lost_at is not None:",
        "client-managed",
    ),
    Bug(
        "an instance that is gone is not noticed",
        "functions/snapkeep/discovery/rules.py",
        "elif before.lost_at is None:",
        "elif before.lost_at is not None:",
        "known and not lost",
    ),
    Bug(
        "a chain is not continued from its last record",
        AUDIT,
        "chain.Head(last[0].value.seq, last[0].value.hash)",
        "chain.Head(last[0].value.seq, chain.EMPTY.hash)",
        "does not continue",
    ),
    Bug(
        "an event is noted as published and never was",
        AUDIT,
        "                bus.publish(EVENTS_TOPIC, canonical(record.value.event))",
        "                canonical(record.value.event)",
        "never published",
    ),
    Bug(
        "a point that met a passing fault is never looked at again",
        RULES,
        "next_at=min(now + wait, _must_end(point, now)))",
        "next_at=None)",
        "is still|nowhere|0 outcomes",
    ),
    Bug(
        "a point goes before its grace is over",
        RETENTION,
        "if facts.now < point.expiry.delete_after:",
        "if facts.now < point.expiry.decided_at:",
        "in its grace",
    ),
    Bug(
        "a lock keeps nothing",
        RETENTION,
        "if point.lock_until is not None and facts.now < point.lock_until:",
        "if point.lock_until is not None and facts.now > point.lock_until:",
        "it is locked until",
    ),
    Bug(
        "a hold on an instance or a tenant keeps nothing",
        RETENTION,
        "            if hold.stands(now):\n                reason =",
        "            if not hold.stands(now):\n                reason =",
        "its (instance|tenant) is held",
    ),
    Bug(
        "the last bucket of a rule is forgotten",
        RETENTION,
        "            if kept == count:",
        "            if kept + 1 >= count:",
        "a rule wants it",
    ),
    Bug(
        "the oldest point is not kept while a rule has room",
        RETENTION,
        "elif number == oldest:",
        "elif number > oldest:",
        "a rule wants it",
    ),
    Bug(
        "points go while their instance is in breach",
        RETENTION,
        "if not facts.situation.in_breach or facts.situation.override is not None:",
        "if facts.situation.in_breach or facts.situation.override is not None:",
        "its instance is in breach",
    ),
    Bug(
        "a failed point goes at once",
        RETENTION,
        "FAILED_KEPT: Final = timedelta(days=7)",
        "FAILED_KEPT: Final = timedelta(hours=1)",
        "it failed only at",
    ),
    Bug(
        "a point that has lost a snapshot fills a bucket",
        RETENTION,
        'return _settled_as(point) == "verified" and point.usable and not point.gone and not _going(point)',
        'return _settled_as(point) == "verified" and point.usable and not _going(point)',
        "a rule wants it|is the newest verified|it is incomplete|still expiring",
    ),
    Bug(
        "nobody compares the numeric id before a snapshot goes",
        EXPIRE,
        'if found is None or found.id != change.id or found.status == "DELETING":',
        'if found is None or found.status == "DELETING":',
        "is asked to go as",
    ),
    Bug(
        "a deletion begins beside a hold on its tenant",
        EXPIRE,
        "            run.tenant.replaced(run.tenant.value),\n",
        "",
        "its tenant is held",
    ),
    Bug(
        "the controls are not read before snapshots go",
        EXPIRE,
        "if run.compute.nobody_answers or run.stopped(instance.id, change.project):",
        "if run.compute.nobody_answers:",
        "nobody looked whether deletion is paused",
    ),
    Bug(
        "a deletion that was answered is believed",
        DELETION,
        "there = [ref for ref in known(adopting) if _holds(ref, found)]",
        "there: list[SnapshotRef] = []",
        "deleted, and",
    ),
    Bug(
        "a snapshot is taken for ours by its name alone",
        DELETION,
        "        found.name in names\n        and",
        "        found.name in names\n        or",
        "the foreign snapshot",
    ),
    Bug(
        "a deletion is asked for again as the same request",
        "functions/snapkeep/cloud.py",
        'what += f":{change.id}:{change.attempt}"',
        'what += f":{change.id}"',
        "as the same request",
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name.replace(" ", "-"))
def test_a_guard_that_is_taken_away_is_missed(bug: Bug, tmp_path: Path) -> None:
    for folder in ("functions", "infra", "tests/faults"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    file = tmp_path / bug.file
    text = file.read_text(encoding="utf-8")
    assert text.count(bug.guard) == 1, f"{bug.file} has the guard {text.count(bug.guard)} times"
    file.write_text(text.replace(bug.guard, bug.without), encoding="utf-8")
    run = subprocess.run(  # noqa: S603 - our own module
        [sys.executable, "-m", "tests.faults", "0", str(SEEDS_MAX), "--until-found"],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{tmp_path}:{tmp_path}/functions:{tmp_path}/infra/local", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert run.returncode == 1, f"not caught by {SEEDS_MAX} seeds:\n{run.stdout[-500:]}{run.stderr[-2000:]}"
    assert re.search(bug.found, run.stdout), run.stdout[-1000:] + run.stderr[-1000:]


def test_without_a_planted_bug_the_same_command_finds_nothing() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.faults", "0", "2", "--until-found"],
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{ROOT}/functions:{ROOT}/infra/local", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr

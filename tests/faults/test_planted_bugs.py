"""Guards of creation, discovery and audit: the fault tests must miss every one of them."""

from pathlib import Path

import pytest
from tests.faults.planted import ROOT, Bug, is_missed, searched

RULES = "functions/snapkeep/creation/rules.py"
HANDLER = "functions/snapkeep/creation/handler.py"
AUDIT = "functions/snapkeep/audit/handler.py"

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
        "    if instant is None and found.source_disk_id != disk.id:\n        # Most likely",
        "    if instant is None and not found.source_disk_id:\n        # Most likely",
        "verified with",
        first=10,
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
        # What a process that died did not commit is asked for again, and need not be the same then.
        "without an intent|asked for as the same request as another",
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
        first=3,
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
]


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name.replace(" ", "-"))
def test_a_guard_that_is_taken_away_is_missed(bug: Bug, tmp_path: Path) -> None:
    is_missed(bug, tmp_path)


def test_without_a_planted_bug_the_same_command_finds_nothing() -> None:
    run = searched(ROOT, "0", "2")
    assert run.returncode == 0, run.stdout + run.stderr

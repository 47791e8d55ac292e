"""Guards of retention: the fault tests must miss every one of them."""

from pathlib import Path

import pytest
from tests.faults.planted import Bug, is_missed

RETENTION = "functions/snapkeep/retention/rules.py"
EXPIRE = "functions/snapkeep/retention/handler.py"
DELETION = "functions/snapkeep/retention/deletion.py"

BUGS = [
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
        first=26,
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
        first=11,
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
        first=4,
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
    is_missed(bug, tmp_path)

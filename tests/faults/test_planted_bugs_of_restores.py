"""Guards of restores: what happens at every effect must miss every one of them. And each stands where it is said."""

from pathlib import Path

import pytest
from tests.faults import test_planted_bugs, test_planted_bugs_of_copies, test_planted_bugs_of_retention
from tests.faults.planted import ROOT, Bug, is_missed

CLAIMS = "functions/snapkeep/restore/claims.py"
CLOUD = "functions/snapkeep/cloud.py"
COMMANDS = "functions/snapkeep/restore/commands.py"
FORMER = "functions/snapkeep/restore/former.py"
HANDLER = "functions/snapkeep/restore/handler.py"
MAKING = "functions/snapkeep/restore/making.py"
STEPS = "functions/snapkeep/restore/steps.py"
SWAP = "functions/snapkeep/restore/swap.py"

BUGS = [
    Bug(
        "a former disk is asked to go by its name, whatever has that by now",
        FORMER,
        """    if found is None or found.id != one.id or found.status == "DELETING":
        return Goal(what, met=found is None or found.id != one.id)
""",
        "    if found is None:\n        return Goal(what, met=True)\n",
        "is asked to go as",
        also=((HANDLER, "if disk is None or disk.id != change.id or disk.users", "if disk is None or disk.users"),),
        replayed=("former disks go", "replaced"),
    ),
    Bug(
        "a former disk goes though somebody has taken its label off",
        FORMER,
        '''labels.get("snapkeep-restore") != restore.id or labels.get("snapkeep-role") != "former"''',
        "not restore.id",
        "asked to go without its label",
        replayed=("former disks go, but one", "death"),
    ),
    Bug(
        "nobody claims the instance that is restored into",
        CLAIMS,
        "    if before.value.restore is not None:\n",
        "    if before.value.restore == restore:\n",
        "2 restores live",
        replayed=("in_place", "second"),
    ),
    Bug(
        "the set is not held while it is restored from",
        CLAIMS,
        "        writes.append(held)\n",
        "",
        "its set is not held",
        also=((HANDLER, "return step, _held_still(work), []", "return step, [], []"),),
        replayed=("disks", "death"),
    ),
    Bug(
        "what has the name of a new disk is taken for it",
        MAKING,
        """    return labels.get("snapkeep-restore") == restore.id and labels.get("snapkeep-tenant") == tenant""",
        "    return bool(restore) or bool(labels)",
        "is not ours",
        replayed=("names are taken", "death"),
    ),
    Bug(
        "what has the name of the new instance is taken for it",
        STEPS,
        """    return labels.get("snapkeep-restore") == restore.id and labels.get("snapkeep-tenant") == tenant""",
        "    return bool(restore) or bool(labels)",
        "is asked to go as|is not what it was",
        replayed=("names are taken", "death"),
    ),
    Bug(
        "what is given up does not attach the former disks again",
        SWAP,
        "    coming = outgoing(restore) if undo else incoming(restore, facts)\n",
        "    coming = [] if undo else incoming(restore, facts)\n",
        "and has left|and the instance was",
        replayed=("in_place, abandoned between the disks", "death"),
    ),
    Bug(
        "an approval is good for whatever is asked for",
        COMMANDS,
        "    if one.request_sha256 != sha256:\n",
        "    if not sha256:\n",
        "has approved 0000",
        replayed=("nobody approves", "forged"),
    ),
    Bug(
        "somebody approves his own request",
        COMMANDS,
        "    if one.requested_by == by:\n",
        "    if not by:\n",
        "has approved his own",
        replayed=("nobody approves", "forged"),
    ),
    Bug(
        "the instance does not say that it is being restored",
        HANDLER,
        "replace(held.value, restoring=after.id, updated_at=now)",
        "replace(held.value, updated_at=now)",
        "and the instance says that None restores it",
        replayed=("in_place", "death"),
    ),
    Bug(
        "what a step asks for is asked first, and committed afterwards",
        HANDLER,
        "    if not _commit(run, work, step, now):\n        return False\n    _ask(run, work, step)\n",
        "    _ask(run, work, step)\n    if not _commit(run, work, step, now):\n        return False\n",
        "without an intent",
        replayed=("disks", "death"),
    ),
    Bug(
        "what is asked for again is the same request",
        CLOUD,
        'what += f":{change.id}:{change.device_name}:{change.attempt}:{change.asker}"',
        'what += f":{change.id}:{change.device_name}"',
        "a second intent",
        replayed=("undo, abandoned", "death"),
    ),
    Bug(
        "a restore is completed, and nobody looks at what was made of it",
        STEPS,
        "    if not failed:\n",
        "    if made:\n",
        "completed, and",
        replayed=("new_instance", "stopped"),
    ),
    Bug(
        "what is taken back goes though deletion is paused",
        HANDLER,
        'disk.users or run.paused(work, "deletion"):\n',
        "disk.users:\n",
        "while deletion is paused",
        also=((HANDLER, 'may_remove=not run.paused(work, "deletion"),', "may_remove=True,"),),
        replayed=("disks, abandoned", "paused"),
    ),
]

ALL = [
    *BUGS,
    *test_planted_bugs.BUGS,
    *test_planted_bugs_of_copies.BUGS,
    *test_planted_bugs_of_retention.BUGS,
]


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name.replace(" ", "-"))
def test_a_guard_that_is_taken_away_is_missed(bug: Bug, tmp_path: Path) -> None:
    is_missed(bug, tmp_path)


@pytest.mark.parametrize("bug", ALL, ids=lambda bug: bug.name.replace(" ", "-"))
def test_a_guard_stands_once_in_its_file(bug: Bug) -> None:
    for file, guard in ((bug.file, bug.guard), *((file, guard) for file, guard, _ in bug.also)):
        assert (ROOT / file).read_text(encoding="utf-8").count(guard) == 1, (file, guard)

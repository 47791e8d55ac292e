"""Guards of moments, copies and what was bought: the fault tests must miss every one of them."""

from pathlib import Path

import pytest
from tests.faults.planted import Bug, is_missed

RULES = "functions/snapkeep/copies/rules.py"
TRIES = "functions/snapkeep/copies/tries.py"
COPY = "functions/snapkeep/copies/handler.py"
MOMENT = "functions/snapkeep/creation/moment.py"
RETENTION = "functions/snapkeep/retention/rules.py"

NO_RESIDENCY = (RULES, "    if region in allowed:\n", "    if region:\n")
"""Behind most others: no change is asked for outside the regions that are bought."""

BUGS = [
    Bug(
        "a copy goes to a region that nobody bought",
        TRIES,
        "        location=region,\n        labels=labels(tenant.id",
        '        location="us-east1",\n        labels=labels(tenant.id',
        "was written to us-east1",
        also=(NO_RESIDENCY,),
    ),
    Bug(
        "nobody looks at what is bought before a copy is asked for",
        TRIES,
        "    if bought is not None and bought.region == region:\n",
        "    if True:\n",
        "was written to",
        also=(NO_RESIDENCY,),
    ),
    Bug(
        "a moment that nobody needs is not let go",
        RULES,
        'moment = replace(moment, state="releasing", next_at=now)',
        'moment = replace(moment, state="releasing", next_at=None)',
        "is left|its moment is",
    ),
    Bug(
        "an instant snapshot of a moment that was given up serves the next one",
        MOMENT,
        "        instants=instants,\n        superseded=",
        """        instants=[
            old if group is None and old.status == "READY" else new
            for old, new in zip(before.instants, instants, strict=True)
        ],
        superseded=""",
        "of a moment that was given up|2 outcomes",
    ),
    Bug(
        "a temporary disk stays when its try has failed",
        TRIES,
        '    if copy.state != "copying":\n        return True\n    assert',
        '    if copy.state != "copying":\n        return copy.state == "verified"\n    assert',
        "is left",
    ),
    Bug(
        "a copy is made of the disk as it is now, and that it is READY is enough",
        TRIES,
        "        source_instant=instant,\n",
        "        source_instant=None,\n",
        "other contents than home",
        also=(
            (
                TRIES,
                "instant is not None and instant.id is not None and found.source_instant_id == instant.id",
                "instant is not None",
            ),
        ),
    ),
    Bug(
        "a copy that is still being uploaded counts as verified",
        TRIES,
        "    if all(creation.is_ready(_view(disk, point)) for disk in disks):\n",
        "    if all(disk.snapshot.id is not None for disk in disks):\n",
        "copied as",
    ),
    Bug(
        "the home point does not wait for its copy",
        RETENTION,
        '    Rule("unverified copy", source_of_a_copy, "always", delays=True),\n',
        "",
        "a deletion begins, though its copy in",
        first=6,
    ),
    Bug(
        "copies that are no longer bought have no grace",
        RULES,
        "UNENTITLED_GRACE: Final = timedelta(days=30)",
        "UNENTITLED_GRACE: Final = timedelta(0)",
        "it is no longer bought only since",
    ),
    Bug(
        "every attempt at a copy has the same names",
        TRIES,
        "whole.id, purpose, attempt)",
        "whole.id, purpose, 1)",
        "a second intent",
    ),
    Bug(
        "a copy is asked for first and its intent committed afterwards",
        COPY,
        "        elif _commit(run, work, step, now):\n",
        "        elif _start(run, work, step) or _commit(run, work, step, now):\n",
        "without an intent",
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name.replace(" ", "-"))
def test_a_guard_that_is_taken_away_is_missed(bug: Bug, tmp_path: Path) -> None:
    is_missed(bug, tmp_path)

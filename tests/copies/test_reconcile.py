"""Whose turn a due point is: creation's or the copies'."""

from datetime import datetime, timedelta

import pytest
from tests.copies.test_rules import AWAY
from tests.makers import THEN, copy_of, point

from snapkeep.documents import Moment
from snapkeep.reconcile import is_creations

NOW = THEN + timedelta(hours=1)
EARLIER, LATER = NOW - timedelta(minutes=5), NOW + timedelta(minutes=5)


@pytest.mark.parametrize(
    ("moment_at", "copy_at", "creations"),
    [
        (EARLIER, None, True),
        (EARLIER, NOW, True),
        (NOW, EARLIER, False),  # an instant snapshot that cannot go is always due: the copy has waited longer
        (LATER, EARLIER, False),
        (None, EARLIER, False),
    ],
)
def test_the_part_that_has_waited_longest_is_taken_on(
    moment_at: datetime | None, copy_at: datetime | None, creations: bool
) -> None:
    moment = Moment(state="releasing", instants=[], next_at=moment_at)
    one = point(state="verified", moment=moment, copies={AWAY: copy_of("copying", next_at=copy_at)})
    assert is_creations(one, NOW) is creations


def test_a_point_that_is_being_made_is_creations() -> None:
    assert is_creations(point(state="creating"), NOW)

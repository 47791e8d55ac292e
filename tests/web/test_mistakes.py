"""What is wrong with a body is said in the words of its fields, whichever field it is."""

from __future__ import annotations

import msgspec
import pytest

from snapkeep.commands import HoldAsk
from snapkeep.web.mistakes import EXPECTED, SHOWN_CHARS_MAX, given, mistake
from snapkeep.web.routes import ROUTES


def said_of(body: bytes) -> str:
    with pytest.raises(msgspec.ValidationError) as wrong:
        msgspec.json.decode(body, type=HoldAsk)
    return mistake(wrong.value, given(body), HoldAsk)


def test_every_field_of_every_body_has_words() -> None:
    assert {name for route in ROUTES if route.body for name in route.body.__struct_fields__} == {*EXPECTED}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"reason": "x", "point": "nope"}', "point: 'nope' is not one; expected a point's id"),
        (b'{"reason": "x", "until": "soon"}', "until: 'soon' is not one; expected a moment in RFC 3339"),
        (b'{"reason": "x", "dry_run": "yes"}', "dry_run: 'yes' is not one; expected true or false"),
        (b'{"reason": ["x"]}', "reason: not one; expected why"),
        (b'{"reason": null}', "reason: null is not one; expected why"),
    ],
)
def test_a_value_that_cannot_be_is_shown_with_what_is_expected(body: bytes, said: str) -> None:
    assert said_of(body).startswith(said)


def test_a_long_value_is_cut() -> None:
    line = said_of(b'{"reason": "%s"}' % (b"x" * 501))
    assert len(line) < SHOWN_CHARS_MAX + 100

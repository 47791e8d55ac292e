"""What is wrong with what was asked for, in the words of its fields: for API, command line and forms.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

EXPECTED: Final[Mapping[str, str]] = {
    "reason": "why, on one line of at most 500 characters",
    "instance": "an instance's name or numeric id",
    "zone": "a zone such as southamerica-east1-a",
    "project": "a project's id",
    "point": "a point's id, as `snapkeep points list` shows it",
    "copy": "the region of a copy of the point, such as us-east1",
    "region": "a region such as us-east1",
    "mode": "disks, new_instance or in_place",
    "name": "1 to 63 of a-z, 0-9 and -, a letter first, no - at its end",
    "supply": "lacking items, each with its value",
    "waive": "a list of lacking items",
    "waive_all": "true or false",
    "request_sha256": "the hash of the request, 64 hex digits, as `snapkeep restore status` shows it",
    "day": "a local day, YYYY-MM-DD",
    "what": "creation, deletion or restore",
    "until": "a moment in RFC 3339 with its offset, such as 2027-03-01T00:00:00Z",
    "at": "a moment in RFC 3339 with its offset, such as 2027-03-01T00:00:00Z",
    "on": "true or false",
    "dry_run": "true or false",
    "accept_deletions": "a number of points and copies, 0 or more",
    "entry": "a tenant as the fleet file has it",
    "retention": "a policy as the fleet file has it",
    "file": "where it was written, on one line",
}
"""Of the fields of every body (`commands.Ask`), by name."""

SHOWN_CHARS_MAX: Final = 60
"""Of a value that is wrong."""

_AT: Final = re.compile(r" - at `\$\.(\w+)[^`]*`$")
_MISSING: Final = re.compile(r"Object missing required field `(\w+)`$")
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*)`$", re.S)


def mistake(error: msgspec.ValidationError, asked: object, kind: type[msgspec.Struct]) -> str:
    """One line: which field, what is wrong with it, what is expected. `asked`: the same before its types."""
    said = str(error)
    if missing := _MISSING.match(said):
        return f"{missing[1]}: missing; expected {EXPECTED[missing[1]]}"
    if unknown := _UNKNOWN.match(said):
        return f"{_shown(unknown[1])}: no such field here; expected {', '.join(kind.__struct_fields__)}"
    at = _AT.search(said)
    if at is None:
        return f"body: expected a JSON object with {', '.join(kind.__struct_fields__)}"
    field = at[1]
    if not isinstance(asked, dict):
        return f"{field}: expected {EXPECTED[field]}"
    value: Any = asked.get(field)
    if isinstance(value, str) and not value.strip():
        wrong = "empty"
    elif isinstance(value, str | int | float | bool | None):
        wrong = f"{_shown(value)} is not one"
    else:
        wrong = "not one"
    return f"{field}: {wrong}; expected {EXPECTED[field]}"


def given(body: bytes) -> object:
    """A body before its types; None where it is not JSON to its end."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return None


def _shown(value: object) -> str:
    text = ascii(value) if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= SHOWN_CHARS_MAX else f"{text[: SHOWN_CHARS_MAX - 3]}..."

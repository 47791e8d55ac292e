"""What asking for something is made of, whatever is asked for: bodies, and the refusals of commands. Pure."""

from __future__ import annotations

import msgspec


class Wrong(Exception):
    """What is asked for names something that is not there, or cannot be: which, and what is expected."""


class Clash(Exception):
    """It is well asked for, and what is stored stands against it."""


class NoTenant(Exception):
    """There is no tenant of this id."""


class Ask(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a request."""

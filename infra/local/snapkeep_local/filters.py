"""The `filter` of Compute Engine's list calls: parsed once, matched against resources in their REST shape.

Both of the documented kinds are understood, and not mixed, as documented: AIP-160 comparisons (`=`, `!=`, `<`, `<=`,
`>`, `>=`, `:`) joined by AND, OR, NOT or juxtaposition (OR binds tightest), and regular expressions (`eq`, `ne`)
that must match the whole value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, Protocol

from snapkeep_local.errors import ApiError

_TOKEN: Final = re.compile(r"""\s*(?:(?P<mark>[()])|(?P<op>!=|<=|>=|[=<>:])|"(?P<dq>[^"]*)"|'(?P<sq>[^']*)'|"""
                           r"""(?P<word>[^\s()"'=!<>:]+))""")  # fmt: skip
_FIELD: Final = re.compile(r"[A-Za-z][\w-]*(\.[\w-]+)*")
_BARE_REGEX: Final = re.compile(r"\s*(?P<field>[A-Za-z][\w.-]*)\s+(?P<op>eq|ne)\s+(?P<value>.+?)\s*")
_FILTER_CHARACTERS_MAX: Final = 16_384
_NESTING_MAX: Final = 50


class Filter(Protocol):
    def matches(self, resource: Mapping[str, Any]) -> bool: ...

    @property
    def names(self) -> frozenset[str] | None:
        """The only names that can match, where the filter says so: lets a list look them up instead of scanning."""
        ...


@dataclass(frozen=True, slots=True)
class Everything:
    names: None = None

    def matches(self, resource: Mapping[str, Any]) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Compare:
    field: str
    op: str
    value: str

    @property
    def names(self) -> frozenset[str] | None:
        return frozenset((self.value,)) if self.field == "name" and self.op == "=" else None

    def matches(self, resource: Mapping[str, Any]) -> bool:
        found: Any = resource
        for part in self.field.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        match self.op:
            case "=":
                return found is not None and _text(found) == self.value
            case "!=":
                return found is None or _text(found) != self.value
            case "eq":
                return found is not None and re.fullmatch(self.value, _text(found)) is not None
            case "ne":
                return found is None or re.fullmatch(self.value, _text(found)) is None
            case ":":
                return found is not None and (self.value == "*" or self.value in _held(found))
            case op:
                return found is not None and _ORDER[op](*_comparable(_text(found), self.value))


@dataclass(frozen=True, slots=True)
class AllOf:
    terms: tuple[Filter, ...]

    @property
    def names(self) -> frozenset[str] | None:
        known = [names for term in self.terms if (names := term.names) is not None]
        return frozenset.intersection(*known) if known else None

    def matches(self, resource: Mapping[str, Any]) -> bool:
        return all(term.matches(resource) for term in self.terms)


@dataclass(frozen=True, slots=True)
class AnyOf:
    terms: tuple[Filter, ...]

    @property
    def names(self) -> frozenset[str] | None:
        known = [names for term in self.terms if (names := term.names) is not None]
        return frozenset.union(*known) if len(known) == len(self.terms) else None

    def matches(self, resource: Mapping[str, Any]) -> bool:
        return any(term.matches(resource) for term in self.terms)


@dataclass(frozen=True, slots=True)
class NoneOf:
    term: Filter
    names: None = None

    def matches(self, resource: Mapping[str, Any]) -> bool:
        return not self.term.matches(resource)


@lru_cache(maxsize=256)
def parse(text: str) -> Filter:
    """The filter that `text` says; everything for "". Raises ApiError 400 `invalid`."""
    if not text.strip():
        return Everything()
    if len(text) > _FILTER_CHARACTERS_MAX:
        raise _wrong(text, f"longer than {_FILTER_CHARACTERS_MAX} characters")
    if bare := _BARE_REGEX.fullmatch(text):
        value = bare["value"]
        quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
        return _regex(text, bare["field"], bare["op"], value[1:-1] if quoted else value)
    return _Parser(text).filter()


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[tuple[str, str]] = []
        at, end = 0, len(text.rstrip())
        while at < end:
            found = _TOKEN.match(text, at)
            if found is None:
                raise _wrong(text, f"cannot be read at character {at + 1}")
            assert found.lastgroup is not None
            self.tokens.append((found.lastgroup, found[found.lastgroup]))
            at = found.end()
        self.at = 0
        self.depth = 0
        self.kinds: set[bool] = set()  # whether regular expressions were met, and whether comparisons were

    def filter(self) -> Filter:
        whole = self.conjunction()
        if self.at < len(self.tokens):
            raise _wrong(self.text, f"'{self.tokens[self.at][1]}' is not expected there")
        if len(self.kinds) > 1:
            raise _wrong(self.text, "regular expressions (eq, ne) cannot be mixed with other comparisons")
        return whole

    def conjunction(self) -> Filter:
        terms = [self.disjunction()]
        while self.at < len(self.tokens) and self.tokens[self.at] != ("mark", ")"):
            self.take_if(("word", "AND"))
            terms.append(self.disjunction())
        return terms[0] if len(terms) == 1 else AllOf(tuple(terms))

    def disjunction(self) -> Filter:
        terms = [self.term()]
        while self.take_if(("word", "OR")):
            terms.append(self.term())
        return terms[0] if len(terms) == 1 else AnyOf(tuple(terms))

    def term(self) -> Filter:
        if self.take_if(("word", "NOT")):
            return NoneOf(self.term())
        if not self.take_if(("mark", "(")):
            return self.comparison()
        self.depth += 1
        if self.depth > _NESTING_MAX:
            raise _wrong(self.text, f"nested more than {_NESTING_MAX} deep")
        inner = self.conjunction()
        if not self.take_if(("mark", ")")):
            raise _wrong(self.text, "a parenthesis is not closed")
        self.depth -= 1
        return inner

    def comparison(self) -> Filter:
        (field_kind, field), (op_kind, op), (value_kind, value) = self.take(), self.take(), self.take()
        if field_kind != "word" or not _FIELD.fullmatch(field):
            raise _wrong(self.text, f"'{field}' is not a field")
        if value_kind in ("mark", "op"):
            raise _wrong(self.text, f"'{value}' is not a value")
        if op_kind == "op":
            self.kinds.add(False)
            return Compare(field, op, value)
        if op_kind == "word" and op in ("eq", "ne"):
            self.kinds.add(True)
            return _regex(self.text, field, op, value)
        raise _wrong(self.text, f"'{op}' is not an operator")

    def take(self) -> tuple[str, str]:
        if self.at == len(self.tokens):
            raise _wrong(self.text, "it ends too early")
        self.at += 1
        return self.tokens[self.at - 1]

    def take_if(self, token: tuple[str, str]) -> bool:
        if self.at < len(self.tokens) and self.tokens[self.at] == token:
            self.at += 1
            return True
        return False


def _regex(text: str, field: str, op: str, value: str) -> Filter:
    try:
        re.compile(value)
    except re.error as error:
        raise _wrong(text, f"'{value}' is not a regular expression: {error}") from None
    return Compare(field, op, value)


def _wrong(text: str, why: str) -> ApiError:
    shown = text if len(text) <= 200 else text[:200] + "..."
    message = f"Invalid value for field 'filter': '{shown}'. Invalid list filter expression: {why}."
    return ApiError(400, "invalid", message)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _held(value: object) -> str | list[str]:
    """What `:` looks into: keys of a map, members of a list, the text of anything else."""
    return [_text(member) for member in value] if isinstance(value, Mapping | list) else _text(value)


def _comparable(found: str, wanted: str) -> tuple[Any, Any]:
    """Both as numbers or as instants where both are; as texts otherwise."""
    for kind in (int, float, _instant):
        try:
            return kind(found), kind(wanted)
        except ValueError:
            continue
    return found, wanted


def _instant(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(text)
    return at


_ORDER: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "<": lambda found, wanted: bool(found < wanted),
    "<=": lambda found, wanted: bool(found <= wanted),
    ">": lambda found, wanted: bool(found > wanted),
    ">=": lambda found, wanted: bool(found >= wanted),
}

"""What infra/functions.yaml declares of each function, held to as the roles of a deployment hold to it.

`Declared.hold` gives one function its ports. What it does not declare is refused there, as IAM would refuse it, and
what it uses is noted, so that a declaration that nothing uses can be found.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal, NamedTuple, TypeVar, get_args

from snapkeep.cloud import Change, Resource
from snapkeep.deployment import Deployed, deployment
from snapkeep.ports import Bus, Compute, Create, Doc, Documents, Ports, Query, Write
from snapkeep.store import QUERIES

R = TypeVar("R", bound=Resource)

Kind = Literal["changes", "reads", "queries", "documents", "publishes"]

NO_ROW: Final = "no row of store.QUERIES"


class Use(NamedTuple):
    """Something of a function's declaration: `changes` InsertDisk, `queries` slots, `documents` create."""

    kind: Kind
    name: str


class Undeclared(BaseException):
    """A function used what it does not declare. Not an Exception: no handler can go on as if it had been an answer."""

    def __init__(self, function: str, use: Use, declared: tuple[str, ...]) -> None:
        super().__init__(
            f"infra/functions.yaml: {function}: it used {use.name}, which its {use.kind} do not have "
            f"({', '.join(declared) or 'none'}): a deployment would refuse it; declare it there, or do without"
        )
        self.function = function
        self.use = use


def declares(deployed: Deployed, kind: Kind) -> tuple[str, ...]:
    """All that a function declares of one kind."""
    match kind:
        case "changes":
            return deployed.compute.changes
        case "reads":
            return deployed.compute.reads
        case "queries":
            return deployed.queries
        case "documents":
            return deployed.documents
        case "publishes":
            return deployed.publishes


def everything(deployed: Deployed) -> set[Use]:
    """All that a function declares."""
    kinds: tuple[Kind, ...] = get_args(Kind)
    return {Use(kind, name) for kind in kinds for name in declares(deployed, kind)}


Key = tuple[str, bool, tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]]
"""The shape of a query: the collection's id, whether it is of a group, what it compares, how it is sorted."""


@cache
def _rows() -> Mapping[Key, tuple[str, ...]]:
    """The rows of QUERIES of each shape."""
    rows: defaultdict[Key, tuple[str, ...]] = defaultdict(tuple)
    for name, shape in QUERIES.items():
        rows[shape.collection, shape.group, shape.where, shape.order] += (name,)
    return rows


class Declared:
    """Who may do what, and what each has done.

    With other functions than those of infra/functions.yaml it is a test of this very thing.
    """

    def __init__(self, functions: Mapping[str, Deployed] | None = None) -> None:
        self.functions = deployment().functions if functions is None else functions
        self._used: defaultdict[str, _Used] = defaultdict(_Used)

    def hold(self, function: str, ports: Ports) -> Ports:
        """The ports with which this function can do what it declares, and nothing else.

        They raise Undeclared. What is no part of the declaration, clock and guests, stays as it is. Raises KeyError for
        a function that is not in the list.
        """
        deployed, used = self.functions[function], self._used[function]

        def check(kind: Kind, *names: str) -> None:
            """One of these names has to be declared; all that are have been used."""
            declared = declares(deployed, kind)
            found = [name for name in names if name in declared]
            if not found:
                raise Undeclared(function, Use(kind, " or ".join(names) or NO_ROW), declared)
            used.uses |= {Use(kind, name) for name in found}

        return Ports(
            _Documents(ports.documents, used.known, check),
            _Compute(ports.compute, used.known, check),
            _Bus(ports.bus, used.known, check),
            ports.clock,
            ports.guests,
        )

    def used(self, function: str) -> frozenset[Use]:
        """What this function has used until now. Of queries with equal shapes: each that it declares."""
        return frozenset(self._used[function].uses)

    def unused(self) -> set[tuple[str, Use]]:
        """What is declared, and by which function, that it has not used until now."""
        return {
            (function, use)
            for function, deployed in self.functions.items()
            for use in everything(deployed) - self._used[function].uses
        }


class _Used:
    """What one function has used: as it is declared, and as it is known again, which is all that is looked at then."""

    def __init__(self) -> None:
        self.uses: set[Use] = set()
        self.known: set[object] = set()


Check = Callable[..., None]


@dataclass(slots=True)
class _Documents:
    _inner: Documents
    _known: set[object]
    _check: Check

    def get(self, *paths: str) -> list[Doc | None]:
        if "get" not in self._known:
            self._check("documents", "get")
            self._known.add("get")
        return self._inner.get(*paths)

    def find(self, query: Query) -> list[Doc]:
        collection = query.collection.rpartition("/")[2]
        key = (collection, query.group, tuple([(field, op) for field, op, _ in query.where]), query.order)
        if key not in self._known:
            self._check("queries", *_rows().get(key, ()))
            self._known.add(key)
        return self._inner.find(query)

    def commit(self, *writes: Write) -> None:
        for write in writes:
            kind = type(write)
            if kind not in self._known:
                self._check("documents", "create" if kind is Create else "replace")
                self._known.add(kind)
        self._inner.commit(*writes)


@dataclass(slots=True)
class _Compute:
    _inner: Compute
    _known: set[object]
    _check: Check

    def get(self, kind: type[R], link: str) -> R | None:
        self._check_read(kind)
        return self._inner.get(kind, link)

    def find(self, kind: type[R], project: str, where: str = "") -> Iterator[R]:
        self._check_read(kind)
        return self._inner.find(kind, project, where)

    def start(self, change: Change, request_id: str) -> str:
        kind = type(change)
        if kind not in self._known:
            self._check("changes", kind.__name__)
            self._known.add(kind)
        return self._inner.start(change, request_id)

    def _check_read(self, kind: type[object]) -> None:
        if kind not in self._known:
            self._check("reads", kind.__name__)
            self._known.add(kind)


@dataclass(slots=True)
class _Bus:
    _inner: Bus
    _known: set[object]
    _check: Check

    def publish(self, topic: str, body: bytes) -> None:
        if topic not in self._known:
            self._check("publishes", topic)
            self._known.add(topic)
        self._inner.publish(topic, body)

"""Firestore and Pub/Sub in memory, as far as Snapkeep uses them.

`MemoryDocuments` keeps Firestore's preconditions, value types, value order and query semantics; `MemoryBus` keeps
Pub/Sub's push delivery, backoff and dead letters on a clock that somebody else moves. `tests/contract` holds both to
the same suite as the adapters on Google's own emulators. Nothing here reads the machine's clock or its randomness.
"""

from __future__ import annotations

import base64
import itertools
import struct
import threading
from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from random import Random
from typing import Any, Final

import msgspec

from snapkeep.ports import (
    SERVER_TIME,
    WRITES_PER_COMMIT_MAX,
    Conflict,
    Create,
    Data,
    Direction,
    Doc,
    Query,
    V,
    Write,
)

DOCUMENT_BYTES_MAX: Final = 1_048_576
"""Firestore's bound on one document: 1 MiB. Measured here on the packed form, which is within a few percent."""

COMMIT_BYTES_MAX: Final = 10_485_760
"""Firestore's bound on one request: 10 MiB."""

KINDS_OF_QUERIES_MAX: Final = 10_000
"""Of how many kinds of queries, each over its own collection, the index is remembered."""

MAP_DEPTH_MAX: Final = 20
"""Firestore's bound on maps and lists within one another."""

INT_MIN: Final = -(2**63)
INT_MAX: Final = 2**63 - 1

# --- values ------------------------------------------------------------------------------------------------------

_PLAIN: Final = frozenset({str, bool, float, bytes, type(None)})

Place = str | tuple["Place", str]
"""A document's path, or a place in it: that of the map around it, and the field. It becomes words only in an error."""


def _at(where: Place) -> str:
    return where if isinstance(where, str) else f"{_at(where[0])}.{where[1]}"


def _check_map(data: Mapping[str, Any], where: Place, depth: int) -> None:
    if depth > MAP_DEPTH_MAX:
        raise ValueError(f"{_at(where)}: maps and lists lie more than {MAP_DEPTH_MAX} deep in one another")
    wrong = _wrong_name(tuple(data))
    if wrong:
        raise type(wrong)(f"{_at(where)}: {wrong}")
    for key, value in data.items():
        kind = type(value)
        # What nearly all values are, before the others are looked at more closely.
        if kind in _PLAIN or (kind is datetime and value.tzinfo is UTC):
            continue
        if kind is not int or not INT_MIN <= value <= INT_MAX:
            _check(value, where, key, depth)


@lru_cache(maxsize=4096)
def _wrong_name(names: tuple[Any, ...]) -> TypeError | ValueError | None:
    """What is wrong with one of a map's keys. The same few sets of fields come again and again."""
    for name in names:
        if type(name) is not str:
            return TypeError(f"the key {name!r} is {type(name).__name__}, expected str")
        if not name or (name.startswith("__") and name.endswith("__")):
            return ValueError(f"{name!r} is not a field name (empty, or reserved: __.*__)")
    return None


def _check(value: Any, where: Place, key: str, depth: int) -> None:
    """Raise TypeError or ValueError for a value that Firestore would not keep exactly as it is."""
    kind = type(value)
    if kind is int:
        if not INT_MIN <= value <= INT_MAX:
            raise ValueError(f"{_at((where, key))}: {value} is not an int64")
    elif kind is datetime:
        if value.utcoffset() is None:
            raise ValueError(f"{_at((where, key))}: {value!r} carries no time zone")
    elif kind is dict:
        _check_map(value, (where, key), depth + 1)
    elif kind is list:
        if depth >= MAP_DEPTH_MAX:
            raise ValueError(f"{_at((where, key))}: maps and lists lie more than {MAP_DEPTH_MAX} deep in one another")
        for element in value:
            if type(element) is list:
                raise ValueError(f"{_at((where, key))}: a list directly within a list")
            if type(element) not in _PLAIN:
                _check(element, where, key, depth + 1)
    elif kind not in _PLAIN:
        raise TypeError(f"{_at((where, key))}: {kind.__name__} is not a Firestore value")


_MICROSECOND: Final = timedelta(microseconds=1)
_YEAR_ONE: Final = datetime(1, 1, 1, tzinfo=UTC)
_INVERT: Final = bytes(255 - byte for byte in range(256))

# The first byte of an encoded value: Firestore's order of types.
_NULL, _BOOL, _NAN, _NUMBER, _TIME, _STRING, _BYTES, _LIST, _MAP = (bytes([rank]) for rank in range(1, 10))
_END: Final = b"\x00"  # lower than any first byte: the shorter list or map sorts first
_ABOVE: Final = b"\xff"  # higher than any byte that can follow a component, inverted or not


def ordered(value: Any) -> bytes:
    """Encode a value so that the order of bytes is Firestore's order of values, and no encoding begins another.

    Null < booleans < NaN < numbers < times < strings < bytes < lists < maps; integers and floats compare exactly.
    """
    if value is None:
        return _NULL
    if isinstance(value, bool):
        return b"\x02\x01" if value else b"\x02\x00"
    if isinstance(value, datetime):
        return _ordered_time(value)
    if isinstance(value, str):
        return _STRING + _terminated(value.encode())
    if isinstance(value, int | float):
        return _ordered_number(value)
    if isinstance(value, bytes):
        return _BYTES + _terminated(value)
    if isinstance(value, list):
        return _LIST + b"".join(map(ordered, value)) + _END
    if isinstance(value, dict):
        return _MAP + b"".join(ordered(key) + ordered(value[key]) for key in sorted(value)) + _END
    raise TypeError(f"{type(value).__name__} is not a Firestore value")


@lru_cache(maxsize=4096)  # the time that it is now is asked for again and again
def _ordered_time(value: datetime) -> bytes:
    micros: int = (value - _YEAR_ONE) // _MICROSECOND
    return _TIME + micros.to_bytes(8, "big")


def _terminated(raw: bytes) -> bytes:
    return raw.replace(b"\x00", b"\x00\xff") + b"\x00\x01"


def _ordered_number(value: int | float) -> bytes:
    if value != value:
        return _NAN
    near = float(value)
    bits = int.from_bytes(struct.pack(">d", near or 0.0), "big")  # `or`: -0.0 equals 0
    sortable = bits ^ 0xFFFF_FFFF_FFFF_FFFF if bits >> 63 else bits | 1 << 63
    # Between neighbouring floats lie up to 1,024 int64s: what the float lacks decides among them.
    lacks = value - int(near) if isinstance(value, int) else 0
    return _NUMBER + sortable.to_bytes(8, "big") + (lacks + 0x8000).to_bytes(2, "big")


# --- paths -------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=65_536)
def _segments(path: str) -> tuple[str, ...]:
    """The parts of a path. Raises ValueError where Firestore would refuse one."""
    parts = tuple(path.split("/"))
    for part in parts:
        if not part or part in (".", "..") or (part.startswith("__") and part.endswith("__")):
            raise ValueError(f"{path!r}: {part!r} is not an id (empty, a dot, two dots, or reserved: __.*__)")
        if "\x00" in part or "\x01" in part or len(part.encode()) > 1500:
            raise ValueError(f"{path!r}: {part!r} is not an id (control characters, or more than 1,500 bytes)")
    return parts


@lru_cache(maxsize=65_536)
def _place(path: str) -> tuple[str, str]:
    """The collection id and the collection path of a document."""
    parts = _segments(path)
    if len(parts) % 2:
        raise ValueError(f"{path!r} is a collection, not a document")
    return parts[-2], path.rpartition("/")[0]


@lru_cache(maxsize=65_536)
def _ordered_path(path: str) -> bytes:
    # Part by part: the separator is lower than anything within a part, the end lower still.
    return path.encode().replace(b"/", b"\x01") + b"\x00"


# --- documents ---------------------------------------------------------------------------------------------------

Where = tuple[tuple[str, str], ...]
"""Fields and how they are compared."""

Order = tuple[tuple[str, Direction], ...]

Shape = tuple[str, bool, tuple[str, ...], Order]
"""What one index serves: collection id, group or not, the fields compared for equality, the fields ordered by."""


class _Index:
    """Every document that a query of one shape can find, in the order in which that query gives them.

    This is Firestore's own design: whatever the query, its answer is one contiguous range of one index.
    """

    def __init__(self, shape: Shape) -> None:
        _, self._group, self._equal, self.order = shape
        self._descending = bool(self.order) and self.order[-1][1] == "desc"
        self._named = (*self._equal, *(name for name, _ in self.order))
        self._keys: defaultdict[str, list[bytes]] = defaultdict(list)
        """Sorted, by collection: a list of all would grow long, and what is put into it moves all that follows."""
        self.paths: dict[bytes, str] = {}
        self._key_of: dict[str, tuple[tuple[Any, ...], bytes]] = {}  # with the values that it is made of

    def fill(self, documents: Iterable[tuple[str, Data]]) -> None:
        for path, data in documents:
            values = self._values(data)
            if values is not None:
                key = self._key(path, data)
                self._key_of[path] = values, key
                self.paths[key] = path
                self.keys(_place(path)[1]).append(key)
        for keys in self._keys.values():
            keys.sort()

    def keys(self, collection: str) -> list[bytes]:
        """In order, what a query of this collection can find; of a group it is one list, whatever the collection."""
        return self._keys["" if self._group else collection]

    def put(self, path: str, data: Data | None) -> None:
        """Keep the document's place true; None: it is gone."""
        before = self._key_of.get(path)
        values = None if data is None else self._values(data)
        if before is None and values is None:
            return
        keys = self.keys(_place(path)[1])
        if before is not None:
            if values is not None and _same(values, before[0]):
                return
            del keys[bisect_left(keys, before[1])]
            del self.paths[before[1]], self._key_of[path]
        if data is not None and values is not None:
            key = self._key(path, data)
            insort(keys, key)
            self.paths[key] = path
            self._key_of[path] = values, key

    def _values(self, data: Data) -> tuple[Any, ...] | None:
        """What decides where a document stands; None for one that lacks one of the fields: no query here finds it."""
        try:
            return tuple([data[name] for name in self._named])
        except KeyError:
            return None

    def _key(self, path: str, data: Data) -> bytes:
        equal = [ordered(data[name]) for name in self._equal]
        return self.prefix(_place(path)[1], equal) + self.position(path, data)

    def prefix(self, collection: str, equal: Sequence[bytes]) -> bytes:
        return (b"" if self._group else _ordered_path(collection)) + b"".join(equal)

    def position(self, path: str, data: Data) -> bytes:
        """The rest of a key, after the prefix. Raises KeyError for a field that the document lacks."""
        parts = [
            ordered(data[name]) if direction == "asc" else ordered(data[name]).translate(_INVERT)
            for name, direction in self.order
        ]
        at = _ordered_path(path)
        parts.append(at.translate(_INVERT) if self._descending else at)
        return b"".join(parts)


_SIMPLE: Final = frozenset({str, datetime, bytes, type(None)})
"""Types whose equal values are one to Firestore as well; to Python, true is 1."""


def _same(values: Sequence[Any], others: Sequence[Any]) -> bool:
    """Whether two documents surely stand at the same place. False says nothing."""
    return values == others and _SIMPLE.issuperset(map(type, values))


class _Stored(msgspec.Struct, frozen=True):
    raw: bytes  # packed: unpacking is the deep copy
    version: int


_UNPACK: Final[Callable[[bytes], Data]] = msgspec.msgpack.Decoder(Data).decode
_PACK: Final = msgspec.msgpack.Encoder(order="deterministic").encode


class _PackedDoc(Doc):
    """A document that is unpacked when it is looked at: straight into a type, where that is what is asked for."""

    __slots__ = ("_stored", "_unpacked")

    def __init__(self, path: str, stored: _Stored) -> None:
        self.path = path
        self.version = stored.version
        self._stored = stored
        self._unpacked: Data | None = None

    @property
    def data(self) -> Data:
        data = self._unpacked
        if data is None:
            data = self._unpacked = _UNPACK(self._stored.raw)
        return data

    def read_as(self, kind: type[V]) -> V:
        unpack: Callable[[bytes], V] = _unpacking(kind)
        return unpack(self._stored.raw)


class _SharedDoc(_PackedDoc):
    """The same for a process whose parts trust each other: who reads a document as a type gets the very value that
    was made of these bytes before. Nobody changes a value that he has read; a demo would end with another digest."""

    __slots__ = ()

    def read_as(self, kind: type[V]) -> V:
        value: V = _unpacked_before(kind, self._stored.raw)
        return value


@lru_cache(maxsize=8192)
def _unpacked_before(kind: type[V], raw: bytes) -> V:
    unpack: Callable[[bytes], V] = _unpacking(kind)
    return unpack(raw)


@lru_cache(maxsize=256)
def _unpacking(kind: type[V]) -> Callable[[bytes], V]:
    return msgspec.msgpack.Decoder(kind).decode


def _shape(collection: str, group: bool, where: Where, order: Order) -> Shape:
    parts = _segments(collection)
    if group and len(parts) != 1:
        raise ValueError(f"{collection!r}: a collection group is named by an id, not by a path")
    if len(parts) % 2 == 0:
        raise ValueError(f"{collection!r} is a document, not a collection")
    equal = tuple(name for name, operator in where if operator == "==")
    named = {name for name, _ in order}
    if len(named) != len(order):
        raise ValueError(f"{collection!r}: ordered twice by the same field")
    # Firestore orders by the fields of inequalities too, in the direction of the last field ordered by.
    implied = sorted({name for name, operator in where if operator != "=="} - named)
    direction: Direction = order[-1][1] if order else "asc"
    return parts[-1], group, equal, order + tuple((name, direction) for name in implied)


class MemoryDocuments:
    """`Documents` in memory: Firestore's preconditions and queries, each query one range of one sorted index.

    `clock` gives the time that SERVER_TIME stands for; where it stands still, each commit is a microsecond later
    than the one before. Safe to use from several threads.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.checks = True
        """Whether values are held to what Firestore keeps, and each read makes its own. A demo leaves that to the
        tests."""
        self._clock = clock
        self._lock = threading.Lock()
        self._stored: dict[str, _Stored] = {}
        self._groups: dict[str, set[str]] = {}
        self._indexes: dict[Shape, _Index] = {}
        self._index_for: dict[tuple[str, bool, Where, Order], _Index] = {}  # what many kinds of queries have come to
        self._indexes_of: dict[str, list[_Index]] = {}
        self._commits = 0
        self._committed_at = datetime.min.replace(tzinfo=UTC)

    def get(self, *paths: str) -> list[Doc | None]:
        for path in paths:
            _place(path)
        with self._lock:
            return [self._doc(path) if path in self._stored else None for path in paths]

    def _doc(self, path: str) -> Doc:
        stored = self._stored[path]
        return _PackedDoc(path, stored) if self.checks else _SharedDoc(path, stored)

    def commit(self, *writes: Write) -> None:
        """Write all or none. Raises Conflict; ValueError or TypeError for what Firestore would refuse for good."""
        if not 0 < len(writes) <= WRITES_PER_COMMIT_MAX:
            raise ValueError(f"{len(writes)} writes in a commit, expected 1 to {WRITES_PER_COMMIT_MAX}")
        if len(writes) > 1 and len({write.path for write in writes}) != len(writes):
            raise ValueError("a commit writes the same document twice")
        with self._lock:
            at = max(self._clock().astimezone(UTC), self._committed_at + _MICROSECOND)
            prepared = [_prepare(write, at, checked=self.checks) for write in writes]
            if sum([len(raw) for _, raw in prepared]) > COMMIT_BYTES_MAX:
                raise ValueError(f"a commit of more than {COMMIT_BYTES_MAX} bytes")
            stored = [self._stored.get(write.path) for write in writes]
            for write, before in zip(writes, stored, strict=True):
                _expect(write, before)
            self._committed_at = at
            self._commits += 1
            for write, before, (data, raw) in zip(writes, stored, prepared, strict=True):
                if before is not None and before.raw == raw:
                    continue  # as in Firestore, a write that changes nothing leaves the version as it was
                path = write.path
                group = _place(path)[0]
                self._stored[path] = _Stored(raw, self._commits)
                if before is None:
                    self._groups.setdefault(group, set()).add(path)
                for index in self._indexes_of.get(group, ()):
                    index.put(path, data)

    def find(self, query: Query) -> list[Doc]:
        """Read one page. Raises ValueError for a query that Firestore would refuse."""
        if query.limit < 1:
            raise ValueError(f"limit {query.limit}, expected 1 or more")
        asked = (query.collection, query.group, tuple([one[:2] for one in query.where]), query.order)
        with self._lock:
            index = self._index_for.get(asked) or self._find_index(*asked)
            prefix = index.prefix(query.collection, [ordered(value) for _, op, value in query.where if op == "=="])
            low, high, rest = _range(prefix, query, index.order)
            keys = index.keys(query.collection)
            start = bisect_left(keys, low)
            if query.after is not None:
                try:
                    last = prefix + index.position(query.after.path, query.after.data)
                except KeyError as missing:
                    raise ValueError(f"{query.after.path} lacks {missing}, so no page can follow it") from None
                start = max(start, bisect_right(keys, last))
            found: list[Doc] = []
            for at in range(start, bisect_left(keys, high, lo=start)):
                doc = self._doc(index.paths[keys[at]])
                if not rest or all(_holds(doc.data[name], op, value) for name, op, value in rest):
                    found.append(doc)
                    if len(found) == query.limit:
                        break
            return found

    def _find_index(self, collection: str, group: bool, where: Where, order: Order) -> _Index:
        """The index that serves such queries; made with the first of them. Raises ValueError."""
        shape = _shape(collection, group, where, order)
        index = self._indexes.get(shape)
        if index is None:
            index = self._indexes[shape] = _Index(shape)
            index.fill((path, self._doc(path).data) for path in self._groups.get(shape[0], ()))
            self._indexes_of.setdefault(shape[0], []).append(index)
        if len(self._index_for) == KINDS_OF_QUERIES_MAX:
            self._index_for.clear()
        self._index_for[collection, group, where, order] = index
        return index

    def remove_expired(self, group: str, name: str) -> int:
        """Do what a TTL policy on the field does: remove the documents of a collection group whose time has passed.

        Returns how many. Firestore itself takes up to a day for it, so nothing may depend on the moment.
        """
        removed = 0
        while page := self.find(Query(group, group=True, where=((name, "<=", self._clock()),))):
            with self._lock:
                for doc in page:
                    del self._stored[doc.path]
                    self._groups[group].discard(doc.path)
                    for index in self._indexes_of[group]:
                        index.put(doc.path, None)
            removed += len(page)
        return removed

    def dump(self, *, leaving_out: Container[str] = ()) -> dict[str, Data]:
        """What is stored, by path, in path order, but for the collections (by id) that are left out. A copy."""
        with self._lock:
            paths = [path for path in self._stored if path.rsplit("/", 2)[-2] not in leaving_out]
            return {path: self._doc(path).data for path in sorted(paths, key=_ordered_path)}


def _expect(write: Write, stored: _Stored | None) -> None:
    if isinstance(write, Create):
        if stored is not None:
            raise Conflict(f"{write.path} exists already")
    elif stored is None:
        raise Conflict(f"{write.path} does not exist")
    elif stored.version != write.version:
        raise Conflict(f"{write.path} has changed since it was read")


def _prepare(write: Write, at: datetime, *, checked: bool) -> tuple[Data, bytes]:
    """The data to index and the bytes to store. Raises TypeError, ValueError."""
    _place(write.path)
    data = write.data
    if SERVER_TIME in data.values():
        data = {name: at if value is SERVER_TIME else value for name, value in data.items()}
    if checked:
        _check_map(data, write.path, 1)
    raw = _PACK(data)
    if len(raw) > DOCUMENT_BYTES_MAX:
        raise ValueError(f"{write.path}: {len(raw)} bytes, at most {DOCUMENT_BYTES_MAX} fit a document")
    return data, raw


def _range(prefix: bytes, query: Query, order: Order) -> tuple[bytes, bytes, list[tuple[str, str, Any]]]:
    """The range of an index, upper end exclusive, and the inequalities that it does not decide."""
    low, high = prefix, prefix + _ABOVE
    rest: list[tuple[str, str, Any]] = []
    for name, operator, value in query.where:
        if operator == "==":
            continue
        if value is None or value != value:
            raise ValueError(f"{name} {operator} {value}: nothing is more or less than null or NaN")
        if name != order[0][0]:
            rest.append((name, operator, value))
            continue
        bound = ordered(value)
        of_type = bound[0]
        up = order[0][1] == "asc"
        if not up:
            bound, of_type = bound.translate(_INVERT), 255 - of_type
        edge = prefix + bound if (operator in (">=", "<")) == up else prefix + bound + _ABOVE
        # An inequality finds values of its own type only.
        if (operator in (">", ">=")) == up:
            low, high = max(low, edge), min(high, prefix + bytes((of_type + 1,)))
        else:
            low, high = max(low, prefix + bytes((of_type,))), min(high, edge)
    return low, high, rest


def _holds(found: Any, operator: str, value: Any) -> bool:
    left, right = ordered(found), ordered(value)
    if left[0] != right[0]:
        return False
    match operator:
        case "<":
            return left < right
        case "<=":
            return left <= right
        case ">":
            return left > right
        case ">=":
            return left >= right
    raise ValueError(f"{operator!r} is not an operator")


# --- messages ----------------------------------------------------------------------------------------------------

MAX_ATTEMPTS: Final = 5
"""Deliveries of a message before it goes to the dead letters. Pub/Sub's default, and its least."""

BACKOFF_MIN_S: Final = 10
BACKOFF_MAX_S: Final = 600
"""The retry policy of a subscription; both are Pub/Sub's defaults for exponential backoff."""

RETENTION: Final = timedelta(days=7)
"""How long a subscription keeps a message that nobody acknowledges (Pub/Sub's default)."""

BODY_BYTES_MAX: Final = 10_000_000
"""Pub/Sub's bound on one message: 10 MB."""

Envelope = dict[str, Any]
"""The JSON body of a push request: `message` (data in base64, attributes, messageId, publishTime), `subscription`."""

Handler = Callable[[Envelope], object]
"""Returning acknowledges the message; raising asks for it again."""


@dataclass(slots=True, eq=False)
class Message:
    """One copy of a message that waits for its delivery. Two copies of a duplicated one share their `id`."""

    id: str
    topic: str
    body: bytes
    attributes: Mapping[str, str]
    published_at: datetime
    due: datetime
    attempt: int = 0  # deliveries so far
    _order: int = field(default=0, repr=False)


class Delivery(msgspec.Struct, frozen=True):
    """What became of one delivery. `fault` is what the handler raised; None: acknowledged."""

    message: Message
    attempt: int  # from 1
    fault: Exception | None
    dead: bool  # it was the last attempt: the message went to the dead letters


class MemoryBus:
    """`Bus` in memory, with at most one push subscription to a topic, as Snapkeep has it.

    Nothing is delivered until `deliver_next` is called; what is due is decided by `clock`. Among the messages that
    are due, `random` picks (Pub/Sub promises no order); without it they come in the order they fell due in.
    The queue can be tampered with (`drop`, `duplicate`, `delay`, `reorder`): when to do so is the caller's policy.
    """

    def __init__(
        self,
        clock: Callable[[], datetime],
        *,
        random: Random | None = None,
        project: str = "local",
        dead_letter_topic: str = "snapkeep-dead-letters",
        max_attempts: int = MAX_ATTEMPTS,
    ) -> None:
        self._clock = clock
        self._random = random
        self._project = project
        self._dead_letter_topic = dead_letter_topic
        self._max_attempts = max_attempts
        self._handlers: dict[str, Handler] = {}
        self._queue: list[Message] = []  # by (due, order)
        self._outbox: dict[str, list[bytes]] = {}
        self._ids = itertools.count(1)
        self._orders = itertools.count(1)

    def subscribe(self, topic: str, handler: Handler) -> None:
        """Deliver what is published to the topic from now on. Raises ValueError if the topic has its handler."""
        if topic in self._handlers:
            raise ValueError(f"topic {topic} has a subscription already")
        self._handlers[topic] = handler

    def publish(self, topic: str, body: bytes) -> None:
        """Queue a message for the topic's subscription or, where it has none, keep it in its outbox.

        Raises ValueError for an empty body or one above BODY_BYTES_MAX, which Pub/Sub refuses.
        """
        if not body or len(body) > BODY_BYTES_MAX:
            raise ValueError(f"{topic}: a body of {len(body)} bytes, expected 1 to {BODY_BYTES_MAX}")
        self._publish(topic, bytes(body), {})

    def _publish(self, topic: str, body: bytes, attributes: Mapping[str, str]) -> None:
        if topic not in self._handlers:
            self._outbox.setdefault(topic, []).append(body)
            return
        now = self._clock()
        self._put(Message(str(next(self._ids)), topic, body, attributes, published_at=now, due=now))

    def outbox(self, topic: str) -> list[bytes]:
        """What was published to a topic while it had no subscription, oldest first. A copy."""
        return list(self._outbox.get(topic, ()))

    def pending(self, topic: str | None = None) -> list[Message]:
        """What waits, in the order it falls due in; of one topic, or of all."""
        return [message for message in self._queue if topic is None or message.topic == topic]

    def next_due(self) -> datetime | None:
        """When there will be something to deliver; None: nothing waits."""
        return self._queue[0].due if self._queue else None

    def deliver_next(self) -> Delivery | None:
        """Deliver one message that is due; None if none is.

        An Exception of the handler is its fault (HTTP 500). Anything stronger, such as a simulated death of the
        process, asks for the message again as well, and rises.
        """
        now = self._clock()
        due = bisect_right(self._queue, now, key=_due)
        if not due:
            return None
        message = self._queue.pop(self._random.randrange(due) if self._random else 0)
        attempt = message.attempt = message.attempt + 1
        try:
            self._handlers[message.topic](self._envelope(message))
        except Exception as fault:  # noqa: BLE001 - whatever a function raises, the platform answers 500
            return Delivery(message, attempt, fault, dead=self._failed(message))
        except BaseException:
            self._failed(message)
            raise
        return Delivery(message, attempt, None, dead=False)

    def pass_over(self, arrivals: Iterable[int]) -> None:
        """Go on as if messages had come, so many at each of these instants, and had been acknowledged before the next.
        No handler is called.

        Raises ValueError where a message is due, which would have been delivered among them.
        """
        if self._queue and self._queue[0].due <= self._clock():
            raise ValueError(f"message {self._queue[0].id} is due")
        for count in arrivals:
            for waiting in range(count, 0, -1):
                next(self._ids), next(self._orders)
                if self._random:
                    self._random.randrange(waiting)

    def pump(self, deliveries_max: int = 100_000) -> int:
        """Deliver until nothing is due at this instant; returns the number of deliveries.

        Raises RuntimeError after `deliveries_max`: functions that message one another for ever.
        """
        for count in range(deliveries_max):
            if self.deliver_next() is None:
                return count
        raise RuntimeError(f"still messages due after {deliveries_max} deliveries at {self._clock()}")

    def _failed(self, message: Message) -> bool:
        """Decide when a message comes again; True if it went to the dead letters instead."""
        dead_letter = message.topic == self._dead_letter_topic
        if message.attempt >= self._max_attempts and not dead_letter:
            subscription = {
                "CloudPubSubDeadLetterSourceDeliveryCount": str(message.attempt),
                "CloudPubSubDeadLetterSourceSubscription": message.topic,
                "CloudPubSubDeadLetterSourceSubscriptionProject": self._project,
                "CloudPubSubDeadLetterSourceTopicPublishTime": _rfc3339(message.published_at),
            }
            self._publish(self._dead_letter_topic, message.body, {**message.attributes, **subscription})
            return True
        backoff_s = min(BACKOFF_MIN_S * 2 ** min(message.attempt - 1, 16), BACKOFF_MAX_S)
        due = self._clock() + timedelta(seconds=backoff_s)
        if due < message.published_at + RETENTION:
            message.due = due
            self._put(message)
        return False

    def _envelope(self, message: Message) -> Envelope:
        published_at = _rfc3339(message.published_at)
        envelope: Envelope = {
            # Push requests spell these two both ways.
            "message": {
                "data": base64.b64encode(message.body).decode(),
                "attributes": dict(message.attributes),
                "messageId": message.id,
                "message_id": message.id,
                "publishTime": published_at,
                "publish_time": published_at,
            },
            "subscription": f"projects/{self._project}/subscriptions/{message.topic}",
        }
        if message.topic != self._dead_letter_topic:
            envelope["deliveryAttempt"] = message.attempt
        return envelope

    def _put(self, message: Message) -> None:
        message._order = next(self._orders)
        insort(self._queue, message, key=_place_in_queue)

    def drop(self, message: Message) -> None:
        """Lose a message that waits. Raises ValueError if it does not."""
        self._queue.remove(message)

    def duplicate(self, message: Message) -> Message:
        """Queue a second copy of a message that waits, due at the same time; returns the copy."""
        if message not in self._queue:
            raise ValueError(f"message {message.id} does not wait")
        copy = Message(
            message.id,
            message.topic,
            message.body,
            message.attributes,
            published_at=message.published_at,
            due=message.due,
            attempt=message.attempt,
        )
        self._put(copy)
        return copy

    def delay(self, message: Message, by: timedelta) -> None:
        """Let a message that waits fall due later. Raises ValueError if it does not wait."""
        self._queue.remove(message)
        message.due += by
        self._put(message)

    def reorder(self, messages: Sequence[Message]) -> None:
        """Let these messages, all of which wait, take one another's places, to fall due in the order given.

        Raises ValueError if one of them does not wait, or is given twice.
        """
        places = sorted((message.due, message._order) for message in messages)
        kept = [message for message in self._queue if message not in messages]
        if len(kept) + len(messages) != len(self._queue):
            raise ValueError("messages to reorder must wait, and be given once each")
        self._queue = kept
        for message, (due, order) in zip(messages, places, strict=True):
            message.due, message._order = due, order
            insort(self._queue, message, key=_place_in_queue)


def _due(message: Message) -> datetime:
    return message.due


def _place_in_queue(message: Message) -> tuple[datetime, int]:
    return message.due, message._order


@lru_cache(maxsize=64)
def _rfc3339(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

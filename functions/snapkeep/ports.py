"""The seven effects: all that can fail, take time, or differ between two runs of Snapkeep.

Rules never see a port. Handlers reach the world through these Protocols only; `gcp/` implements them on Google's
client libraries and `infra/local` in memory, and one contract suite (`tests/contract`) holds both to the same words.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, Protocol, TypeVar

import msgspec

from snapkeep.cloud import Change, Resource
from snapkeep.documents import Probe

R = TypeVar("R", bound=Resource)
V = TypeVar("V", bound=msgspec.Struct)


class Conflict(Exception):
    """A precondition failed, perhaps through our own retried commit: re-read and decide again."""


class Transient(Exception):
    """A fault that may pass (429, 503, rateLimitExceeded, timeout). The effect may have happened all the same."""

    def __init__(self, message: str, *, code: int = 503, reason: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason

    def __repr__(self) -> str:
        return f"{self.code} {self.reason or '-'}: {self}"

    @property
    def of_project(self) -> bool:
        """True when every further call in the project would meet it too: its quota per minute is used up."""
        return self.reason in ("rateLimitExceeded", "userRateLimitExceeded", "RATE_LIMIT_EXCEEDED", "quotaExceeded")


class Refused(Exception):
    """An answer that will not change by asking again. `code` is the HTTP status, `reason` Google's error reason."""

    def __init__(self, message: str, *, code: int, reason: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message

    def __repr__(self) -> str:
        return f"{self.code} {self.reason or '-'}: {self}"


class ServerTime:
    """Marks a field that the database fills with the commit's own time (Firestore: REQUEST_TIME)."""

    def __repr__(self) -> str:
        return "SERVER_TIME"


SERVER_TIME: Final = ServerTime()

Data = dict[str, Any]


class Doc:
    """A document as read. `version` is opaque: hand it back in a Replace to say which state was seen.

    Two are equal that have the same path and data. A database may unpack the data only when they are asked for.
    """

    __slots__ = ("_data", "path", "version")

    def __init__(self, path: str, data: Data, version: object) -> None:
        self.path = path
        self.version = version
        self._data = data

    @property
    def data(self) -> Data:
        return self._data

    def read_as(self, kind: type[V]) -> V:
        """The document as a msgspec Struct. Raises msgspec.ValidationError where it is none of this kind."""
        return msgspec.convert(self.data, kind, builtin_types=(datetime, bytes))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Doc) and (self.path, self.data) == (other.path, other.data)

    def __repr__(self) -> str:
        return f"Doc({self.path!r}, {self.data!r}, {self.version!r})"


class Create(msgspec.Struct, frozen=True):
    """Write a document that must not exist yet; Conflict if it does. Creating is how work is claimed."""

    path: str
    data: Data


class Replace(msgspec.Struct, frozen=True):
    """Write every field of a document that must still have the version that was seen; Conflict otherwise."""

    path: str
    data: Data
    version: object


Write = Create | Replace

Operator = Literal["==", "<", "<=", ">", ">="]
Direction = Literal["asc", "desc"]


class Query(msgspec.Struct, frozen=True):
    """One page of a collection, or (with `group`) of every collection of that name. Built only in `store.QUERIES`.

    `collection` is a path (`tenants/acme/points`) or, with `group`, a collection id (`points`).
    `where` compares top-level fields; `None` compares equal to null only. A document that lacks a field of `where`
    or `order` is not found by it, and neither is one whose field is null under an inequality (as in Firestore).
    Ties in `order` fall in path order, in the direction of the last ordered field. `after` is the last document
    of the page before.
    """

    collection: str
    group: bool = False
    where: tuple[tuple[str, Operator, Any], ...] = ()
    order: tuple[tuple[str, Direction], ...] = ()
    limit: int = 100
    after: Doc | None = None


class Documents(Protocol):
    """The database. At most `WRITES_PER_COMMIT_MAX` writes in a commit, each of its own document."""

    def get(self, *paths: str) -> list[Doc | None]:
        """Read documents by path, in the order asked for, in one round trip; None where there is none.

        Raises Transient.
        """
        ...

    def find(self, query: Query) -> list[Doc]:
        """Read one page of a query. Raises Transient."""
        ...

    def commit(self, *writes: Write) -> None:
        """Write all or none.

        Raises Conflict when a precondition does not hold, Transient when it is not known whether it was written.
        """
        ...


class Compute(Protocol):
    """Compute Engine. Links are partial URLs: `projects/P/global/snapshots/N`, `projects/P/zones/Z/disks/N`."""

    def get(self, kind: type[R], link: str) -> R | None:
        """Read one resource; None where there is none. Raises Transient, Refused."""
        ...

    def find(self, kind: type[R], project: str, where: str = "") -> Iterator[R]:
        """Read all resources of a project that match the filter, in all zones and regions, page by page.

        `where` is a Compute Engine list filter (`cloud.named` builds the one that is used).
        Raises Transient, Refused.
        """
        ...

    def start(self, change: Change, request_id: str) -> str:
        """Ask for a change and return at once with the link of its operation.

        The same `request_id` (a UUID) asks for the same change once.
        Raises Transient, Refused (409: something of that name exists; read it).
        """
        ...


class Guests(Protocol):
    """What runs inside a tenant's instances. Nothing is changed there."""

    def reach(self, address: str, probe: Probe) -> str | None:
        """Ask the application at an address whether it answers: None if it does, else what came instead.

        Raises Transient where that cannot be found out now.
        """
        ...

    def contents(self, link: str) -> str | None:
        """A digest of what a disk or a snapshot holds, where that can be known: on a local cloud. None elsewhere.

        Raises Transient.
        """
        ...


class Bus(Protocol):
    def publish(self, topic: str, body: bytes) -> None:
        """Publish a message; return when the broker has it. `topic` is a short name. Raises Transient."""
        ...


class Clock(Protocol):
    def now(self) -> datetime:
        """The time, aware and in UTC."""
        ...

    def token(self) -> str:
        """A random word of 16 hex digits; seeded in the simulator."""
        ...


WRITES_PER_COMMIT_MAX: Final = 400
"""Writes in one commit. Firestore took at most 500 for years and now bounds bytes (10 MiB); this keeps both."""


class Nobody:
    """The guests for a function that has no business with them."""

    def reach(self, address: str, probe: Probe) -> str | None:
        raise PermissionError(f"this function was wired without a way to the guests, and asks {address}")

    def contents(self, link: str) -> str | None:
        raise PermissionError(f"this function was wired without a way to the guests, and asks for {link}")


NOBODY: Final = Nobody()


@dataclass(frozen=True, slots=True)
class Ports:
    documents: Documents
    compute: Compute
    bus: Bus
    clock: Clock
    guests: Guests = NOBODY


# --- who comes in -------------------------------------------------------------------------------------------------


class Unidentified(Exception):
    """Nobody is known to be behind a request. `reason` is one of few words, and repeats nothing of what was sent."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


Lookup = Callable[[str], str | None]
"""What was sent under a name; None for nothing."""


class Identities(Hashable, Protocol):
    """Who is behind an HTTP request. It changes nothing and is no effect: a fault there is a request not answered."""

    @property
    def verified(self) -> bool:
        """False where anybody may say to be anybody: on a local cloud, which marks it wherever it is seen."""
        ...

    def who(self, header: Lookup, cookie: Lookup) -> str:
        """The email address, in lower case, of whoever sent the request with these headers and cookies.

        Raises Unidentified, Transient.
        """
        ...

"""`Documents` on Cloud Firestore in native mode (and on its emulator, where FIRESTORE_EMULATOR_HOST names one)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import islice
from typing import Any, Final, TypeVar

from google.api_core import exceptions as errors
from google.api_core.retry import Retry
from google.cloud import firestore
from google.cloud.firestore_v1.base_document import DocumentSnapshot
from google.cloud.firestore_v1.base_query import BaseQuery, FieldFilter
from google.cloud.firestore_v1.field_path import FieldPath

from snapkeep.gcp.calls import CALL_TIMEOUT_S, CALLS_TIMEOUT_S, PASSING, again_on, transient
from snapkeep.ports import WRITES_PER_COMMIT_MAX, Conflict, Create, Data, Doc, Query, Replace, ServerTime, Write

T = TypeVar("T")

_DIRECTIONS: Final = {"asc": BaseQuery.ASCENDING, "desc": BaseQuery.DESCENDING}
_NAME: Final = "__name__"


_READ_RETRY: Final = again_on(errors.DeadlineExceeded, errors.InternalServerError, errors.ServiceUnavailable)

# A commit that was lost on its way back may be sent again: it then ends in Conflict, as the port says.
_COMMIT_RETRY: Final = again_on(errors.TooManyRequests, errors.ServiceUnavailable)

# The library would go on with a broken stream from its last document and count the limit from there again.
# A page is small: it is read again as a whole, around the library.
_NO_RETRY: Final = Retry(predicate=lambda _: False)


@dataclass(frozen=True, slots=True)
class _Version:
    """What a Replace needs of the state that was seen."""

    updated_at: datetime  # as the server gave it, to the nanosecond: rounded, it would match nothing
    fields: frozenset[str]  # Replace writes a whole document, so those it does not name have to go


class GoogleDocuments:
    """Documents in one Firestore database. The client is made at the first call: its channel does not survive a fork.

    What no retry mends (permission, a missing index, a value that Firestore does not hold) rises as google.api_core's
    exception: it is a mistake of ours or of the set-up, not an answer to decide on.
    """

    def __init__(self, project: str, database: str, *, calls_timeout_s: float = CALLS_TIMEOUT_S) -> None:
        self._project = project
        self._database = database
        self._read_retry = _READ_RETRY.with_timeout(calls_timeout_s)
        self._commit_retry = _COMMIT_RETRY.with_timeout(calls_timeout_s)

    @cached_property
    def _client(self) -> firestore.Client:
        return firestore.Client(project=self._project, database=self._database)

    def get(self, *paths: str) -> list[Doc | None]:
        if not paths:
            return []
        references = [self._client.document(path) for path in paths]

        def read() -> dict[str, Doc]:
            snapshots = self._client.get_all(references, retry=_NO_RETRY, timeout=CALL_TIMEOUT_S)
            return {doc.path: doc for doc in _docs(snapshots)}

        found = _called(self._read_retry(read))
        return [found.get(path) for path in paths]

    def find(self, query: Query) -> list[Doc]:
        built = self._build(query)

        def read() -> list[Doc]:
            return list(_docs(islice(built.stream(retry=_NO_RETRY, timeout=CALL_TIMEOUT_S), query.limit)))

        return _called(self._read_retry(read))

    def _build(self, query: Query) -> Any:
        """The client's query. Ties are ordered by __name__ and what Firestore implies is said: cursors need both."""
        built: Any = (
            self._client.collection_group(query.collection)
            if query.group
            else self._client.collection(query.collection)
        )
        for name, operator, value in query.where:
            built = built.where(filter=FieldFilter(_field(name), operator, value))
        last = query.order[-1][1] if query.order else "asc"
        ordered = {name for name, _ in query.order}
        implied = sorted({name for name, operator, _ in query.where if operator != "=="} - ordered)
        order = [*query.order, *((name, last) for name in implied)]
        for name, direction in order:
            built = built.order_by(_field(name), direction=_DIRECTIONS[direction])
        built = built.order_by(_NAME, direction=_DIRECTIONS[last])
        if query.after is not None:
            values = [query.after.data[name] for name, _ in order]
            built = built.start_after([*values, self._client.document(query.after.path)])
        return built.limit(query.limit)

    def commit(self, *writes: Write) -> None:
        if not 0 < len(writes) <= WRITES_PER_COMMIT_MAX:
            raise ValueError(f"{len(writes)} writes in a commit, expected 1 to {WRITES_PER_COMMIT_MAX}")
        if len({write.path for write in writes}) != len(writes):
            raise ValueError("a commit writes the same document twice")
        batch = self._client.batch()
        for write in writes:
            reference = self._client.document(write.path)
            match write:
                case Create():
                    batch.create(reference, _sent(write.data))
                case Replace():
                    version = write.version
                    if not isinstance(version, _Version):
                        raise Conflict(f"{write.path}: {version!r} is no version that was read here")
                    fields = {_field(name): value for name, value in _sent(write.data).items()}
                    fields |= {_field(name): firestore.DELETE_FIELD for name in version.fields - write.data.keys()}
                    seen = self._client.write_option(last_update_time=version.updated_at)
                    batch.update(reference, fields, option=seen)
        try:
            _called(lambda: batch.commit(retry=self._commit_retry, timeout=CALL_TIMEOUT_S))
        except (errors.AlreadyExists, errors.FailedPrecondition, errors.NotFound) as fault:
            raise Conflict(f"{', '.join(write.path for write in writes)}: {fault.message}") from fault


def _called(call: Callable[[], T]) -> T:
    """The call's answer. Raises Transient for a fault that may pass; the rest rises as it is."""
    try:
        return call()
    except (*PASSING, errors.RetryError) as fault:
        raise transient(fault) from fault


def _field(name: str) -> str:
    """A top-level field's name as a field path: quoted where it holds dots or other characters."""
    return str(FieldPath(name).to_api_repr())


def _sent(data: Data) -> Data:
    return {
        name: firestore.SERVER_TIMESTAMP if isinstance(value, ServerTime) else value for name, value in data.items()
    }


def _docs(snapshots: Iterator[DocumentSnapshot[Any]]) -> Iterator[Doc]:
    for snapshot in snapshots:
        if snapshot.exists:
            data = {name: _plain(value) for name, value in (snapshot.to_dict() or {}).items()}
            assert snapshot.update_time is not None
            yield Doc(snapshot.reference.path, data, _Version(snapshot.update_time, frozenset(data)))


def _plain(value: Any) -> Any:
    """The value with datetimes of the standard library: Google's subclass compares and prints in its own way."""
    if isinstance(value, datetime):
        at = value.astimezone(UTC)
        return datetime(at.year, at.month, at.day, at.hour, at.minute, at.second, at.microsecond, tzinfo=UTC)
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value

"""Reading and writing what is stored: a repository bound to one tenant, and the few questions about the whole fleet.

A change of state and its audit record are one commit (`TenantStore.commit` takes both). Code that acts for a tenant
holds a TenantStore and so cannot reach another's documents; `Fleet` is what schedulers and dashboards use.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Generic, Literal, TypeVar

import msgspec

from snapkeep import documents as d
from snapkeep import logged
from snapkeep.ports import SERVER_TIME, Conflict, Create, Direction, Doc, Documents, Operator, Query, Replace, Write

log: Final = logging.getLogger(__name__)

T = TypeVar("T", bound=d.Stored)

SYSTEM: Final = "_system"
"""The tenant of acts that belong to no tenant. No fleet file can name it."""

PAGE: Final = 200
"""Documents in one page of a query."""

VIEW_PAGE: Final = 50
"""Documents in one page of what a person looks at."""

PAGES_MAX: Final = 50
"""Pages that one walk reads at the most: 10,000 documents; what is left waits for the next run."""

CHANGES_PAGES_MAX: Final = 500
"""Pages of changes that one run of health reads: 100,000 documents, more than change within its overlap. Were they
more, every run would read the same ones again."""

REQUEST_KEPT: Final = timedelta(days=30)
INBOX_KEPT: Final = timedelta(days=30)
REJECTED_KEPT: Final = timedelta(days=30)

Outcome = Literal["requested", "succeeded", "failed", "refused", "observed"]


# --- queries: the only place that builds one, and what the deployed indexes are made from -------------------------


@dataclass(frozen=True, slots=True)
class Shape:
    """What a query compares and how it is sorted; the values come with the call."""

    collection: str
    where: tuple[tuple[str, Operator], ...] = ()
    order: tuple[tuple[str, Direction], ...] = ()
    group: bool = False
    limit: int = PAGE


QUERIES: Final[Mapping[str, Shape]] = {
    # Over the whole fleet.
    "discovery": Shape("tenants", (("discover_at", "<="),), (("discover_at", "asc"),)),
    "slots": Shape("instances", (("next_slot_at", "<="),), (("next_slot_at", "asc"),), group=True),
    "breaches": Shape("instances", (("breach_due_at", "<="),), (("breach_due_at", "asc"),), group=True),
    "points": Shape("points", (("next_at", "<="),), (("next_at", "asc"),), group=True, limit=100),  # large ones
    "inbox": Shape("inbox", (("next_at", "<="),), (("next_at", "asc"),), group=True),
    "retention_due": Shape("instances", (("retention_at", "<="),), (("retention_at", "asc"),), group=True),
    "entitlements_due": Shape("tenants", (("entitlements_at", "<="),), (("entitlements_at", "asc"),)),
    "restores": Shape("restores", (("next_at", "<="),), (("next_at", "asc"),), group=True, limit=100),
    "restore_tests_due": Shape("tenants", (("restore_test_at", "<="),), (("restore_test_at", "asc"),)),
    "vaults_due": Shape("vaults", (("next_at", "<="),), (("next_at", "asc"),)),
    "instances_changed": Shape("instances", (("updated_at", ">="),), (("updated_at", "asc"),), group=True),
    "tenants_changed": Shape("tenants", (("updated_at", ">="),), (("updated_at", "asc"),)),
    "tenants": Shape("tenants", order=(("id", "asc"),)),
    "health": Shape("health", (("kind", "=="),)),
    "health_changed": Shape("health", (("kind", "=="), ("updated_at", ">=")), (("updated_at", "asc"),), limit=1),
    "rejected": Shape("rejected", (("kind", "=="), ("at", ">=")), (("at", "desc"),), limit=100),
    "ticks": Shape("system", order=(("at", "asc"),)),
    # Over the whole fleet, for people: a page at a time.
    "health_worst_first": Shape("health", order=(("worst_first", "asc"),), limit=VIEW_PAGE),
    "health_newest": Shape("health", order=(("updated_at", "desc"),), limit=1),
    "health_at": Shape("health", (("updated_at", "=="),), limit=VIEW_PAGE),
    "rejected_newest": Shape("rejected", (("kind", "=="),), (("at", "desc"),), limit=10),
    "rejected_last": Shape("rejected", order=(("at", "desc"),), limit=1),
    "rejected_at": Shape("rejected", (("at", "=="),), limit=VIEW_PAGE),
    "points_newest": Shape("points", order=(("requested_at", "desc"),), group=True, limit=VIEW_PAGE),
    "points_in_state": Shape("points", (("state", "=="),), (("requested_at", "desc"),), group=True, limit=VIEW_PAGE),
    "points_by_id": Shape("points", (("id", "=="),), group=True, limit=2),
    "vaults_by_project": Shape("vaults", order=(("project", "asc"),), limit=VIEW_PAGE),
    "held_tenants": Shape("tenants", (("held", "=="),)),
    "held_instances": Shape("instances", (("held", "=="),), group=True),
    "held_points": Shape("points", (("held", "=="),), group=True),
    "principals": Shape("principals", order=(("role", "asc"),), limit=VIEW_PAGE),
    # Within one tenant.
    "tenant_instances": Shape("instances", order=(("id", "asc"),)),
    # The newest first: where a walk is cut off, what it did not read is older than all that it decides about.
    "instance_points": Shape("points", (("stored_for", "=="),), (("requested_at", "desc"),), limit=100),  # large ones
    "stored_points": Shape("points", (("stored_for", ">"),), (("stored_for", "asc"),), limit=100),  # likewise
    "tenant_held_instances": Shape("instances", (("held", "=="),)),
    "tenant_held_points": Shape("points", (("held", "=="),)),
    "tenant_restores": Shape("restores", order=(("requested_at", "desc"),), limit=VIEW_PAGE),
    "tenant_points": Shape("points", order=(("requested_at", "desc"),), limit=VIEW_PAGE),
    "tenant_points_in_state": Shape("points", (("state", "=="),), (("requested_at", "desc"),), limit=VIEW_PAGE),
    "unnumbered": Shape("inbox", (("seq", "=="),), (("committed_at", "asc"),), limit=100),
    "unpublished": Shape("inbox", (("next_at", "<="),), (("next_at", "asc"),), limit=100),
    "numbered_from": Shape("inbox", (("seq", ">="),), (("seq", "asc"),)),
    "audit_head": Shape("audit", order=(("seq", "desc"),), limit=1),
    "audit": Shape("audit", (("seq", ">="),), (("seq", "asc"),)),
}

Due = Literal[
    "discovery", "slots", "breaches", "points", "inbox", "retention_due", "entitlements_due", "restores",
    "restore_tests_due", "vaults_due",
]  # fmt: skip


def query(name: str, *values: Any, parent: str = "", after: Doc | None = None) -> Query:
    shape = QUERIES[name]
    where = tuple([(f, op, value) for (f, op), value in zip(shape.where, values, strict=True)])
    return Query(parent + shape.collection, shape.group, where, shape.order, shape.limit, after)


# --- what was read ------------------------------------------------------------------------------------------------


class Held(msgspec.Struct, Generic[T], frozen=True, eq=False):
    """A document as it was read: its value, and the version that a Replace must still find."""

    path: str
    value: T
    version: object

    @property
    def tenant(self) -> str:
        """The tenant that the document belongs to (`tenants/{t}/...`)."""
        return self.path.split("/", 2)[1]

    def replaced(self, value: T) -> Replace:
        return Replace(self.path, d.to_data(value), self.version)


def held(kind: type[T], doc: Doc) -> Held[T]:
    """Raises msgspec.ValidationError, which names the document."""
    try:
        return Held(doc.path, doc.read_as(kind), doc.version)
    except msgspec.ValidationError as error:
        raise msgspec.ValidationError(f"{doc.path}: {error}") from None


def readable(kind: type[T], docs: Iterable[Doc]) -> Iterator[Held[T]]:
    """Those documents that are of this kind. The others are logged and left alone: one of them stops nobody else."""
    for doc in docs:
        try:
            yield held(kind, doc)
        except msgspec.ValidationError as error:
            log.error("a document is not what it should be, and is left alone until it is mended: %s", error)


def created(path: str, value: d.Stored) -> Create:
    return Create(path, d.to_data(value))


# --- audit records ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Event:
    """What others are told once the record is numbered. `key` names the transition, so that its id is derived."""

    type: str
    key: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Record:
    """One act, for the audit chain: who did what to what, with which outcome, and the details that prove it."""

    at: datetime
    actor: str
    action: str  # point.requested, point.creating, instance.seen, ...
    subject: str  # path of the document it is about, below its tenant
    outcome: Outcome
    detail: Mapping[str, Any] = field(default_factory=dict)
    event: Event | None = None
    key: str = ""  # the act's idempotency key; left out, two records that say the same of one instant are one


def timestamp(at: datetime) -> str:
    """RFC 3339 in UTC with microseconds, always: equal instants have equal bytes."""
    return f"{at.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def canonical(value: Any) -> bytes:
    """Deterministic JSON: keys sorted, no spaces. What is hashed."""
    return msgspec.json.encode(value, order="deterministic")


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _inbox(tenant: str, record: Record) -> Create:
    body = canonical(
        {
            "at": timestamp(record.at),
            "actor": record.actor,
            "action": record.action,
            "subject": record.subject,
            "outcome": record.outcome,
            "tenant": tenant,
            "detail": record.detail,
        }
    )
    event = _event(tenant, record, record.event) if record.event else None
    entry = d.InboxRecord(updated_at=record.at, bytes=body, committed_at=record.at, event=event, next_at=record.at)
    data = d.to_data(entry) | {"committed_at": SERVER_TIME}
    return Create(f"tenants/{tenant}/inbox/{digest(record.key or body.decode())}", data)


def _event(tenant: str, record: Record, event: Event) -> dict[str, Any]:
    return {
        "schema": 1,
        "id": digest(f"{tenant}|{event.type}|{event.key}")[:32],
        "type": event.type,
        "tenant": tenant,
        "at": timestamp(record.at),
        "subject": record.subject,
        "data": dict(event.data),
    }


# --- one tenant ---------------------------------------------------------------------------------------------------


class TenantStore:
    """One tenant's documents. It has no way to name another's."""

    def __init__(self, documents: Documents, tenant: str) -> None:
        self._documents = documents
        self.tenant = tenant
        self._root = f"tenants/{tenant}"

    def path(self, *parts: str) -> str:
        return "/".join((self._root, *parts))

    def get(self, kind: type[T], *parts: str) -> Held[T] | None:
        (doc,) = self._documents.get(self.path(*parts))
        return held(kind, doc) if doc else None

    def get_all(self, kind: type[T], collection: str, ids: Sequence[str]) -> list[Held[T]]:
        """Those of these documents that exist and are readable."""
        docs = self._documents.get(*(self.path(collection, id) for id in ids)) if ids else []
        return list(readable(kind, filter(None, docs)))

    def page(self, kind: type[T], name: str, *values: Any) -> list[Held[T]]:
        """The first page of one of the tenant's own queries."""
        return [held(kind, doc) for doc in self.page_docs(name, *values)]

    def page_docs(self, name: str, *values: Any, after: Doc | None = None) -> list[Doc]:
        """The page of one of the tenant's own queries that follows `after`, as it is stored."""
        return self._documents.find(query(name, *values, parent=f"{self._root}/", after=after))

    def walk(self, kind: type[T], name: str, *values: Any, pages: int = PAGES_MAX) -> Iterator[Held[T]]:
        """Every readable document of one of the tenant's own queries, page by page, at most so many pages."""
        yield from readable(kind, self.walk_docs(name, *values, pages=pages))

    def walk_docs(self, name: str, *values: Any, pages: int = PAGES_MAX) -> Iterator[Doc]:
        """The same as they are stored, for whoever must not trust that they are what they should be."""
        yield from _walk(self._documents, name, *values, parent=f"{self._root}/", pages=pages)

    def commit(self, record: Record | None, *writes: Write) -> None:
        """All writes and the record that tells of them, or nothing. Without a record: only what is bookkeeping.

        Raises Conflict, Transient.
        """
        self.commit_all((record,) if record else (), *writes)

    def commit_all(self, records: Sequence[Record], *writes: Write) -> None:
        """The same where one commit tells of several acts."""
        for write in writes:
            if write.path != self._root and not write.path.startswith(f"{self._root}/"):
                raise ValueError(f"{write.path} is not of tenant {self.tenant}")
        self._documents.commit(*writes, *(_inbox(self.tenant, record) for record in records))


# --- the whole fleet ----------------------------------------------------------------------------------------------


class Fleet:
    """The questions that no single tenant can answer."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    def tenant(self, tenant: str) -> TenantStore:
        return TenantStore(self._documents, tenant)

    def commit(self, record: Record, *writes: Write, of: str = SYSTEM) -> None:
        """Write documents, whosesoever they are, with their record in the chain of a tenant, else of `_system`.

        Raises Conflict, Transient.
        """
        self._documents.commit(*writes, _inbox(of, record))

    def commit_all(self, records: Sequence[Record], *writes: Write) -> None:
        """Write documents of no tenant with any number of records; with none, only what is bookkeeping."""
        self._documents.commit(*writes, *(_inbox(SYSTEM, record) for record in records))

    def due(self, kind: Due, now: datetime, pages: int = PAGES_MAX) -> Iterator[Doc]:
        """Work of one kind whose time has come, longest due first, whichever tenant's it is.

        Logs how late the first of it is: work that nobody brings on shows there, at the price of no further read.
        """
        for number, doc in enumerate(_walk(self._documents, kind, now, pages=pages)):
            if number == 0:
                _tell_late(kind, doc, now)
            yield doc

    def tenants(self) -> Iterator[Held[d.Tenant]]:
        yield from readable(d.Tenant, _walk(self._documents, "tenants"))

    def tenants_by_id(self, ids: Sequence[str]) -> dict[str, Held[d.Tenant]]:
        """The tenants that exist among these and are readable, in one round trip."""
        unique = sorted(set(ids))
        docs = self._documents.get(*(f"tenants/{id}" for id in unique)) if unique else []
        return {tenant.tenant: tenant for tenant in readable(d.Tenant, filter(None, docs))}

    def points(self, ids: Iterable[tuple[str, str]]) -> dict[tuple[str, str], d.Point]:
        """The points that exist among these (tenant, id) and are readable, in one round trip."""
        paths = [f"tenants/{tenant}/points/{id}" for tenant, id in sorted(set(ids))]
        docs = self._documents.get(*paths) if paths else []
        return {(one.tenant, one.path.rsplit("/", 1)[1]): one.value for one in readable(d.Point, filter(None, docs))}

    def instances(self, ids: Iterable[tuple[str, str]]) -> dict[tuple[str, str], d.Instance]:
        """The instances that exist among these (tenant, id) and are readable, in one round trip."""
        paths = [f"tenants/{tenant}/instances/{id}" for tenant, id in sorted(set(ids))]
        docs = self._documents.get(*paths) if paths else []
        return {(one.tenant, one.value.id): one.value for one in readable(d.Instance, filter(None, docs))}

    def changed_since(self, since: datetime) -> tuple[set[str], datetime | None]:
        """Tenants whose own document or an instance's was written since then.

        Also the instant up to which these are all, when there are more than one walk reads; None when these are all.
        """
        tenants: set[str] = set()
        complete_to: datetime | None = None
        for name in ("tenants_changed", "instances_changed"):
            for count, doc in enumerate(_walk(self._documents, name, since, pages=CHANGES_PAGES_MAX), start=1):
                tenants.add(doc.path.split("/", 2)[1])
                if count == CHANGES_PAGES_MAX * PAGE:
                    last = doc.data["updated_at"]
                    complete_to = min(complete_to or last, last)
        return tenants, complete_to

    def health(self) -> Iterator[Held[d.TenantHealth]]:
        yield from readable(d.TenantHealth, _walk(self._documents, "health", "tenant"))

    def health_changed_since(self, since: datetime) -> bool:
        """Whether any tenant's health was written since then."""
        return bool(self._documents.find(query("health_changed", "tenant", since)))

    def fleet_health(self) -> Held[d.FleetHealth] | None:
        return next(readable(d.FleetHealth, filter(None, self._documents.get("health/_fleet"))), None)

    def tenant_health(self, tenant: str) -> Held[d.TenantHealth] | None:
        return next(readable(d.TenantHealth, filter(None, self._documents.get(f"health/{tenant}"))), None)

    def rejected(self, kind: str, since: datetime) -> list[Held[d.Rejected]]:
        """Kept records of bad messages since then that are readable, newest first, at most 100."""
        return list(readable(d.Rejected, self._documents.find(query("rejected", kind, since))))

    def controls(self) -> d.Controls | None:
        seen = self.held_controls()
        return seen.value if seen else None

    def held_controls(self) -> Held[d.Controls] | None:
        """The same, to be replaced."""
        (doc,) = self._documents.get("system/controls")
        return held(d.Controls, doc) if doc else None

    def principal(self, email: str) -> d.Principal | None:
        """What the owner of this address may do; None where nothing, or nothing readable, stands about him."""
        found = next(readable(d.Principal, filter(None, self._documents.get(f"principals/{email}"))), None)
        return found.value if found else None

    def principals(self) -> list[tuple[str, d.Principal]]:
        """A page of those who may do anything here, with their addresses: for the sign-in of a local cloud."""
        found = readable(d.Principal, self.page_docs("principals"))
        return [(one.path.removeprefix("principals/"), one.value) for one in found]

    def page_docs(self, name: str, *values: Any, after: Doc | None = None) -> list[Doc]:
        """The page of a query over the whole fleet that follows `after`, for people to look at."""
        return self._documents.find(query(name, *values, after=after))

    def ticks(self) -> dict[str, datetime]:
        """When each function last carried out its tick to the end."""
        docs = self._documents.find(query("ticks"))
        return {doc.path.removeprefix("system/tick-"): doc.data["at"] for doc in docs}

    def ticked(self, function: str, now: datetime) -> None:
        """Note that a function carried out its tick. A Conflict is another run of it saying the same."""
        path = f"system/tick-{function}"
        (doc,) = self._documents.get(path)
        put(self._documents, path, doc, d.Tick(updated_at=now, at=now))


def _tell_late(kind: Due, longest_due: Doc, now: datetime) -> None:
    ((due_at, _),) = QUERIES[kind].where
    late = now - longest_due.data[due_at]
    line = logged.Late(work=kind, late_s=int(late.total_seconds()), oldest=longest_due.path)
    log.info("%s: due for %s s: %s", kind, line.late_s, line.oldest, extra=logged.fields(line))


def put(documents: Documents, path: str, seen: Doc | None, value: d.Stored) -> bool:
    """Write a derived document whatever it held; False when another writer came between (his is as good as ours)."""
    data = d.to_data(value)
    try:
        documents.commit(Replace(path, data, seen.version) if seen else Create(path, data))
    except Conflict:
        return False
    return True


def _walk(documents: Documents, name: str, *values: Any, parent: str = "", pages: int = PAGES_MAX) -> Iterator[Doc]:
    after: Doc | None = None
    for _ in range(pages):
        page = documents.find(query(name, *values, parent=parent, after=after))
        yield from page
        if len(page) < QUERIES[name].limit:
            return
        after = page[-1]

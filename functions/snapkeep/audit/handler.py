"""Function `audit`: numbers each tenant's inbox into its chain, then publishes the events. And the chain's verifier."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from snapkeep import documents as d
from snapkeep import logged
from snapkeep.audit import chain
from snapkeep.messages import Message, Nudge, Tick, not_for
from snapkeep.ports import Bus, Conflict, Doc, Ports, Transient
from snapkeep.store import INBOX_KEPT, QUERIES, Fleet, Held, TenantStore, canonical, created

log: Final = logging.getLogger(__name__)

EVENTS_TOPIC: Final = "snapkeep-events"

BATCHES_PER_RUN_MAX: Final = 50
"""Batches of 100 records that one run numbers for one tenant; what is left is due still."""

BATCH_BYTES_MAX: Final = 4 * 1024 * 1024
"""Bytes of records in one numbering. Each is written twice, into the inbox and the chain; Firestore takes 10 MiB."""


class Damaged(Exception):
    """A stored record that is none any more: whose, which, and what is wrong with it."""


def audit(message: Message, ports: Ports) -> None:
    """A nudge names the tenants; a tick looks for whatever is due."""
    now = ports.clock.now()
    fleet = Fleet(ports.documents)
    match message:
        case Nudge():
            tenants = set(message.tenants)
        case Tick():
            tenants = {doc.path.split("/")[1] for doc in fleet.due("inbox", now)}
        case _:
            raise not_for("audit", message)
    failed: Exception | None = None
    for tenant in sorted(tenants):
        store = fleet.tenant(tenant)
        try:
            events = number(store, now)
            # What an earlier run did not get out is the tick's; a nudge is about what is new.
            if events or isinstance(message, Tick):
                publish(store, ports.bus, now)
        except (Transient, msgspec.MsgspecError, ValueError, KeyError) as fault:  # or a damaged record
            failed = fault  # the others' records do not wait for this one's
    if failed:
        raise failed


def number(store: TenantStore, now: datetime) -> bool:
    """Append what is in the inbox to the chain, in the order in which the database committed it.

    Returns whether there may be an event to publish among it.
    """
    events = False
    for _ in range(BATCHES_PER_RUN_MAX):
        page = store.page(d.InboxRecord, "unnumbered", None)
        if not page:
            break
        inbox = _batch(page)
        events = events or any(record.value.event for record in inbox)
        last = store.page(d.AuditRecord, "audit_head")
        head = chain.Head(last[0].value.seq, last[0].value.hash) if last else chain.EMPTY
        links = chain.append(head, [record.value.bytes for record in inbox])
        writes = [created(store.path("audit", f"{link.seq:012d}"), link) for link in links]
        numbered = [
            record.replaced(
                replace(
                    record.value,
                    seq=link.seq,
                    next_at=now if record.value.event else None,
                    expire_at=now + INBOX_KEPT,
                    updated_at=now,
                )
            )
            for record, link in zip(inbox, links, strict=True)
        ]
        try:
            store.commit(None, *writes, *numbered)
        except Conflict:
            # Another run got there, or this very commit was written and its answer lost: read what is left.
            log.info("%s: another run numbers the inbox", store.tenant)
            continue
        if len(inbox) == len(page) < QUERIES["unnumbered"].limit:
            break  # what has come meanwhile brings a nudge of its own
    return events


def _batch(inbox: Sequence[Held[d.InboxRecord]]) -> list[Held[d.InboxRecord]]:
    """The first records that fit one commit, at least one."""
    batch: list[Held[d.InboxRecord]] = []
    size = 0
    for record in inbox:
        size += len(record.value.bytes)
        if batch and size > BATCH_BYTES_MAX:
            break
        batch.append(record)
    return batch


def publish(store: TenantStore, bus: Bus, now: datetime) -> None:
    """Publish the events of numbered records, each at least once."""
    for _ in range(BATCHES_PER_RUN_MAX):
        page = store.page(d.InboxRecord, "unpublished", now)
        # In the order of the chain, so that whoever reads them sees a breach before its end.
        due = sorted((record for record in page if record.value.seq is not None), key=lambda r: r.value.seq or 0)
        published: list[Held[d.InboxRecord]] = []
        failed: Transient | None = None
        for record in due:
            try:
                bus.publish(EVENTS_TOPIC, canonical(record.value.event))
            except Transient as fault:
                failed = fault
                break
            published.append(record)
            _tell(record.value.event or {})
        if published:
            # Also after a fault: what is out is noted, or many events on a bad day would never all get through.
            try:
                store.commit(None, *(r.replaced(replace(r.value, next_at=None, updated_at=now)) for r in published))
            except Conflict:
                log.info("%s: another run publishes too", store.tenant)
                return
        if failed:
            raise failed
        if len(page) < QUERIES["unpublished"].limit:
            return


def _tell(event: Mapping[str, Any]) -> None:
    """Log an event that is out: the line by which events are counted."""
    type, tenant, subject = (str(event.get(name, "unknown")) for name in ("type", "tenant", "subject"))  # or damaged
    line = logged.Published(type=type, tenant=tenant, subject=subject)
    log.info("%s: %s of %s", line.tenant, line.type, line.subject, extra=logged.fields(line))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What walking one tenant's chain showed."""

    tenant: str
    records: int
    head: chain.Head
    findings: tuple[chain.Finding, ...]

    @property
    def intact(self) -> bool:
        return not self.findings


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a chain as it is stored, and what the inbox still knows of it; enough to verify it elsewhere."""

    chain: str
    records: list[d.AuditRecord]  # by seq, as many as could be read
    unreadable: list[Unreadable]
    stored: int  # records, those included that cannot be read
    numbered: list[Numbered]  # what was given a number from there on, as far as it is kept
    next: int | None  # `from` of the following page


class Unreadable(msgspec.Struct, frozen=True, kw_only=True):
    """A record that is not what it should be, or not where it should be."""

    seq: int
    problem: str


class Numbered(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of the inbox that was given a number."""

    seq: int
    bytes: d.Raw


def page(store: TenantStore, start: int) -> Page:
    """The part of a chain that begins at a number. Reads a page of records and one of the inbox: 400 documents."""
    records: list[d.AuditRecord] = []
    unreadable: list[Unreadable] = []
    docs = store.page_docs("audit", start)
    for doc in docs:
        record, problem = _read(doc)
        if record:
            records.append(record)
        if problem:
            unreadable.append(Unreadable(seq=doc.data["seq"], problem=problem))
    inbox = store.page_docs("numbered_from", start)
    last = [int(found[-1].data["seq"]) for found, name in ((docs, "audit"), (inbox, "numbered_from"))
            if len(found) == QUERIES[name].limit]  # fmt: skip
    # A part ends before the last number that was read, and the next begins with it: what else carries that number, and
    # should not, is not passed over.
    following = max(min(last), start + 1) if last else None
    end = following - 1 if following is not None else None
    return Page(
        chain=store.tenant,
        records=[one for one in records if end is None or one.seq <= end],
        unreadable=[one for one in unreadable if end is None or one.seq <= end],
        stored=sum(1 for doc in docs if end is None or doc.data["seq"] <= end),
        numbered=[
            Numbered(seq=doc.data["seq"], bytes=doc.data.get("bytes") or b"")
            for doc in inbox
            if end is None or doc.data["seq"] <= end
        ],
        next=following,
    )


def pages(store: TenantStore) -> Iterator[Page]:
    """The whole of a chain."""
    start: int | None = 1
    while start is not None:
        one = page(store, start)
        yield one
        start = one.next


def verify(store: TenantStore, noted: Mapping[str, chain.Head] | None = None) -> Verdict:
    """Walk the chain as it is stored; compare it with heads noted earlier and with what the inbox still knows."""
    return judge(store.tenant, pages(store), noted)


def judge(tenant: str, parts: Iterable[Page], noted: Mapping[str, chain.Head] | None = None) -> Verdict:
    """The same for the pages of a chain, wherever they were read."""
    records: list[d.AuditRecord] = []
    findings: list[chain.Finding] = []
    numbered: list[Numbered] = []
    count = 0
    for part in parts:
        records += part.records
        findings += [chain.Finding(one.seq, one.problem) for one in part.unreadable]
        numbered += part.numbered
        count += part.stored
    head, found = chain.verify(records, tenant)
    # A record that cannot be read is missing from the chain too; say it once.
    told = {finding.seq for finding in findings}
    findings += [finding for finding in found if finding.seq not in told]
    bodies = {record.seq: record.bytes for record in records}
    for entry in numbered:
        if entry.seq > head.seq and entry.seq not in told:
            findings.append(chain.Finding(entry.seq, "was numbered, and is missing from the end of the chain"))
        elif entry.seq in bodies and bodies[entry.seq] != entry.bytes:
            findings.append(chain.Finding(entry.seq, "differs from the record that was numbered"))
    verdict = Verdict(tenant, count, head, tuple(sorted(findings, key=lambda f: f.seq)))
    return against(verdict, noted or {}, {record.seq: record.hash for record in records})


def against(verdict: Verdict, noted: Mapping[str, chain.Head], hashes: Mapping[int, str]) -> Verdict:
    """The verdict with what a head that was noted earlier adds: a chain may grow, never shrink or change before it."""
    before = noted.get(verdict.tenant)
    if before is None or before == chain.EMPTY:
        return verdict
    if before.seq > verdict.head.seq:
        problem = f"missing: the chain ended at record {before.seq} before and ends at {verdict.head.seq} now"
    elif hashes.get(before.seq) != before.hash:
        problem = "is not the record that stood here before"
    else:
        return verdict
    findings = (*verdict.findings, chain.Finding(min(before.seq, verdict.head.seq + 1), problem))
    return Verdict(verdict.tenant, verdict.records, verdict.head, findings)


def records_of(store: TenantStore) -> Iterator[d.AuditRecord]:
    """Every record of the chain, however long it is. Raises Damaged."""
    for doc in _from_the_first(store):
        record, problem = _read(doc)
        if record is None:
            raise Damaged(f"{doc.path} {problem}: `snapkeep audit verify` names all that is wrong")
        yield record


def _read(doc: Doc) -> tuple[d.AuditRecord | None, str | None]:
    """A stored record, and what is wrong with the way it is stored."""
    try:
        record = d.from_data(d.AuditRecord, doc.data)
    except msgspec.ValidationError as error:
        return None, f"is not an audit record ({error})"
    id = doc.path.rsplit("/", 1)[1]
    if id != f"{record.seq:012d}":
        return record, f"is stored as {id}"
    if d.to_data(record) != doc.data:
        return record, "holds more than an audit record does"
    return record, None


def _from_the_first(store: TenantStore) -> Iterator[Doc]:
    """Every record of a chain as it is stored, however many there are: walk by walk from the number after the last."""
    following = 1
    while True:
        last = None
        for doc in store.walk_docs("audit", following):
            yield doc
            last = doc.data["seq"]
        if last is None:
            return
        following = int(last) + 1

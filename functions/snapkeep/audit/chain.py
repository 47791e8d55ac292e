"""A tenant's audit chain: how its links are made and how it is verified. Pure.

`hash = sha256(prev || sha256(bytes))` over raw bytes; the first `prev` is 32 zero bytes. Changing, removing or
inserting a record breaks every hash after it; removing the last ones shows against a head that was noted before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from snapkeep.documents import AuditRecord

GENESIS: Final = bytes(32)
"""What stands before the first record."""

INDEXED: Final = ("at", "actor", "action", "subject", "outcome")
"""Fields repeated beside `bytes` so that queries find them; a verifier compares them."""


@dataclass(frozen=True, slots=True)
class Head:
    """Where a chain ends: the number of its last record (0: it is empty) and that record's hash in hex."""

    seq: int
    hash: str


EMPTY: Final = Head(0, GENESIS.hex())


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with one record of a chain."""

    seq: int
    problem: str


def link(prev: bytes, body: bytes) -> bytes:
    return hashlib.sha256(prev + hashlib.sha256(body).digest()).digest()


def append(head: Head, bodies: Sequence[bytes]) -> list[AuditRecord]:
    """The records that continue a chain with these bodies, in this order.

    Every field follows from the body and the record before it, so that whoever numbers writes the same.
    """
    records = []
    for body in bodies:
        fields = msgspec.json.decode(body)
        at = instant(fields["at"])
        hashed = link(bytes.fromhex(head.hash), body).hex()
        record = AuditRecord(
            updated_at=at,
            seq=head.seq + 1,
            bytes=body,
            prev=head.hash,
            hash=hashed,
            at=at,
            actor=fields["actor"],
            action=fields["action"],
            subject=fields["subject"],
            outcome=fields["outcome"],
        )
        records.append(record)
        head = Head(record.seq, record.hash)
    return records


def verify(records: Iterable[AuditRecord], tenant: str) -> tuple[Head, list[Finding]]:
    """Walk a chain from its first record in order of `seq`. Returns where it ends and everything found wrong with it.

    After a broken link the walk goes on from what the record itself says, so that each damage is told once.
    """
    head = EMPTY
    findings: list[Finding] = []
    for record in records:
        expected = head.seq + 1
        if record.seq > expected:
            missing = f"record {expected}" if record.seq == expected + 1 else f"records {expected} to {record.seq - 1}"
            findings.append(Finding(expected, f"{missing} missing"))
        elif record.seq < expected:
            findings.append(Finding(record.seq, "a second record with this number"))
        elif record.prev != head.hash:
            findings.append(Finding(record.seq, "does not continue the record before it"))
        findings += [Finding(record.seq, problem) for problem in _problems(record, tenant)]
        head = Head(record.seq, record.hash)
    return head, findings


def _problems(record: AuditRecord, tenant: str) -> Iterable[str]:
    try:
        prev = bytes.fromhex(record.prev)
    except ValueError:
        yield "prev is not hex"
        return
    if link(prev, record.bytes).hex() != record.hash:
        yield "its bytes or hash were changed"
        return
    try:
        fields: dict[str, Any] = json.loads(record.bytes)
        said = {name: fields[name] for name in INDEXED} | {"tenant": fields["tenant"]}
        said["at"] = instant(said["at"])
    except (ValueError, KeyError, TypeError):
        yield "its bytes are not an audit record"
        return
    for name in INDEXED:
        if said[name] != getattr(record, name):
            yield f"{name} differs from what its bytes say"
    if record.updated_at != record.at:
        yield "updated_at differs from what its bytes say"
    if said["tenant"] != tenant:
        yield f"belongs to tenant {said['tenant']!r}"
    if record.schema != 1:
        yield f"schema {record.schema} is unknown"


def instant(text: str) -> datetime:
    """What `store.timestamp` wrote. Raises ValueError for the same instant in any other form."""
    at = datetime.fromisoformat(text)
    if at.tzinfo is not UTC or f"{at.replace(tzinfo=None).isoformat(timespec='microseconds')}Z" != text:
        raise ValueError(f"{text!r} is not written as YYYY-MM-DDTHH:MM:SS.ffffffZ")
    return at

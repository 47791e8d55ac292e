"""Audit chains as files that anyone can keep and verify without Firestore.

`{tenant}.jsonl` holds a record a line in its one canonical form; `heads.json` says where each chain ends. Whatever
byte is changed, either a line is no longer what Snapkeep writes, or a hash does not fit, or a chain ends elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from snapkeep.audit import chain
from snapkeep.audit.handler import Verdict, against
from snapkeep.documents import AuditRecord
from snapkeep.store import canonical, timestamp

HEADS: Final = "heads.json"
SUFFIX: Final = ".jsonl"


class Unreadable(Exception):
    """An export that cannot be written, or verified at all: which file or folder, and why."""


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    action: str
    actor: str
    at: str
    bytes: str
    hash: str
    outcome: str
    prev: str
    seq: int
    subject: str


def expect_free(folder: Path) -> None:
    """For an export that is to be kept: raises Unreadable where the folder is there and holds anything."""
    try:
        held = min((path.name for path in folder.iterdir()), default=None) if folder.exists() else None
    except OSError as error:
        raise Unreadable(f"{folder}: cannot be read ({error.strerror})") from None
    if held is not None:
        what = "an export" if (folder / HEADS).exists() else repr(held)
        raise Unreadable(
            f"{folder}: holds {what} already, which would be overwritten; expected a folder that is empty or not there"
        )


def write(folder: Path, chains: Mapping[str, Iterable[AuditRecord]]) -> None:
    """Write chains, by tenant, into a folder; what it held of an earlier export is replaced. Raises Unreadable."""
    try:
        _write(folder, chains)
    except OSError as error:
        raise Unreadable(f"{folder}: cannot be written ({error.strerror})") from None


def _write(folder: Path, chains: Mapping[str, Iterable[AuditRecord]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    before = read_heads(folder / HEADS) if (folder / HEADS).exists() else {}
    for old in folder.glob(f"*{SUFFIX}"):
        if old.name.removesuffix(SUFFIX) in before:  # nobody else's files
            old.unlink()
    heads: dict[str, Any] = {}
    for tenant, records in sorted(chains.items()):
        head = chain.EMPTY
        with (folder / f"{tenant}{SUFFIX}").open("wb") as file:
            for record in records:
                file.write(_line(record) + b"\n")
                head = chain.Head(record.seq, record.hash)
        heads[tenant] = {"seq": head.seq, "hash": head.hash}
    (folder / HEADS).write_bytes(canonical(heads) + b"\n")


def verify(folder: Path, noted: Mapping[str, chain.Head] | None = None) -> list[Verdict]:
    """Verify every chain of an export against itself, its `heads.json` and heads noted earlier. Raises Unreadable."""
    heads = read_heads(folder / HEADS)
    verdicts = []
    there = {path.name.removesuffix(SUFFIX) for path in folder.glob(f"*{SUFFIX}")}
    for tenant in sorted({*heads, *there, *(noted or {})}):
        path = folder / f"{tenant}{SUFFIX}"
        verdict, hashes = _verify_file(path, tenant) if path.exists() else (_absent(tenant), {})
        if tenant not in heads and tenant in there:
            finding = chain.Finding(verdict.head.seq, f"{HEADS} does not know this chain")
            verdict = Verdict(tenant, verdict.records, verdict.head, (*verdict.findings, finding))
        elif tenant in heads and heads[tenant].seq < verdict.head.seq:
            finding = chain.Finding(heads[tenant].seq + 1, f"{HEADS} ends this chain before it")
            verdict = Verdict(tenant, verdict.records, verdict.head, (*verdict.findings, finding))
        verdicts.append(against(against(verdict, heads, hashes), noted or {}, hashes))
    return verdicts


def read_heads(path: Path) -> dict[str, chain.Head]:
    """Heads by tenant, from an export or from what `audit verify --json` printed earlier. Raises Unreadable."""
    try:
        content = json.loads(path.read_bytes())
        chains = content
        if isinstance(content.get("chains"), list):  # not a map: that would be a tenant of this name
            chains = {entry["tenant"]: entry["head"] for entry in content["chains"]}
        return {tenant: chain.Head(int(head["seq"]), str(head["hash"])) for tenant, head in chains.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unreadable(f"{path}: not a list of chain heads ({type(error).__name__}: {error})") from None


def _line(record: AuditRecord) -> bytes:
    return canonical(
        {
            "seq": record.seq,
            "bytes": record.bytes.decode("utf-8", "backslashreplace"),  # damaged bytes show by their hash
            "prev": record.prev,
            "hash": record.hash,
            "at": timestamp(record.at),
            "actor": record.actor,
            "action": record.action,
            "subject": record.subject,
            "outcome": record.outcome,
        }
    )


def _verify_file(path: Path, tenant: str) -> tuple[Verdict, dict[int, str]]:
    records: list[AuditRecord] = []
    findings: list[chain.Finding] = []
    content = path.read_bytes()
    lines = content.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    elif lines:
        findings.append(chain.Finding(len(lines), "its line does not end"))
    for number, line in enumerate(lines, start=1):
        try:
            record = _record(line)
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError):
            findings.append(chain.Finding(number, "its line is not an audit record"))
            continue
        if _line(record) != line:
            findings.append(chain.Finding(number, "its line is not written as Snapkeep writes it"))
        records.append(record)
    head, found = chain.verify(records, tenant)
    # A line that cannot be read is missing from the chain too; say it once.
    unread = {finding.seq for finding in findings}
    findings += [finding for finding in found if finding.seq not in unread]
    ordered = tuple(sorted(findings, key=lambda finding: finding.seq))
    return Verdict(tenant, len(lines), head, ordered), {record.seq: record.hash for record in records}


def _record(line: bytes) -> AuditRecord:
    read = msgspec.json.decode(line, type=_Line)
    at = chain.instant(read.at)
    return AuditRecord(
        updated_at=at,
        seq=read.seq,
        bytes=read.bytes.encode(),
        prev=read.prev,
        hash=read.hash,
        at=at,
        actor=read.actor,
        action=read.action,
        subject=read.subject,
        outcome=read.outcome,
    )


def _absent(tenant: str) -> Verdict:
    return Verdict(tenant, 0, chain.EMPTY, ())

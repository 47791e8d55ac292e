"""What a person may ask for, in one place for whatever way it comes in by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from msgspec.structs import replace

from snapkeep import documents as d
from snapkeep import hints
from snapkeep.audit import handler as audit
from snapkeep.audit.chain import Head
from snapkeep.audit.handler import Verdict
from snapkeep.fleet import Difference, Entry, Reading, diff
from snapkeep.messages import Tick
from snapkeep.ports import Conflict, Ports, Transient
from snapkeep.store import SYSTEM, Fleet, Record, TenantStore, created

CONFLICTS_MAX: Final = 5


@dataclass(frozen=True, slots=True)
class Applied:
    """What applying a fleet file changed, or with `dry_run` would change."""

    changes: tuple[Difference, ...]
    unchanged: tuple[str, ...]  # tenants that were as the file says
    left_out: tuple[str, ...]  # valid tenants of files with a mistake


def apply_fleet(
    ports: Ports, reading: Reading, actor: str, *, dry_run: bool = False, keep_going: bool = False
) -> Applied:
    """Store the tenants of a fleet file; one commit and one audit record for each that changes.

    Of a file with a mistake nothing is applied, unless `keep_going`: then its valid tenants are. Applying twice
    changes nothing the second time, and no tenant is ever deleted. Raises Transient.
    """
    entries = reading.valid if keep_going else reading.clean
    chosen = {entry.id for entry in entries}
    fleet = Fleet(ports.documents)
    now = ports.clock.now()
    changes: list[Difference] = []
    unchanged: list[str] = []
    for entry in entries:
        # A key of its own: a person may apply one thing, another, and the first again within one instant.
        key = f"apply|{entry.id}|{ports.clock.token()}"
        differences = _apply(fleet.tenant(entry.id), entry, actor, now, key=key, dry_run=dry_run)
        changes += differences
        if not differences:
            unchanged.append(entry.id)
    changed = {change.tenant for change in changes}
    if changed and not dry_run:
        hints.send(ports.bus, "discover", Tick())
        hints.nudge(ports.bus, changed, "audit", "health")
    left_out = tuple(entry.id for entry in reading.valid if entry.id not in chosen)
    return Applied(tuple(changes), tuple(unchanged), left_out)


def _apply(store: TenantStore, entry: Entry, actor: str, now: datetime, *, key: str, dry_run: bool) -> list[Difference]:
    for _ in range(CONFLICTS_MAX):
        before = store.get(d.Tenant)
        after = entry.tenant(applied_at=now, applied_by=actor, before=before.value if before else None)
        differences = diff(before.value if before else None, after)
        if not differences or dry_run:
            return differences
        after = replace(after, discover_at=now)
        record = Record(
            at=now,
            actor=actor,
            action="tenant.applied",
            subject=".",
            outcome="succeeded",
            detail={"file": entry.file, "changes": [str(difference) for difference in differences]},
            key=key,
        )
        try:
            store.commit(record, before.replaced(after) if before else created(store.path(), after))
        except Conflict:
            continue  # discovery wrote what it keeps about the tenant meanwhile, or another apply was faster
        return differences
    raise Transient(f"{store.tenant}: others kept changing it; apply again")


def verify_audit(ports: Ports, tenants: Iterable[str], noted: Mapping[str, Head]) -> list[Verdict]:
    """Walk the chains of these tenants, or of every tenant and of acts that belong to none.

    A name that is no tenant's and has no chain gets no verdict. `noted` are heads that were written down earlier, by
    tenant; each chain must still contain its own.
    """
    fleet = Fleet(ports.documents)
    # A chain that was noted is looked for even where nothing is left of its tenant.
    ids = sorted(tenants) or sorted({*_chains(fleet), *noted})
    verdicts = [audit.verify(fleet.tenant(id), noted) for id in ids]
    known = {SYSTEM, *noted, *fleet.tenants_by_id(ids)}
    return [verdict for verdict in verdicts if verdict.records or verdict.tenant in known]


def audit_chains(ports: Ports) -> dict[str, list[d.AuditRecord]]:
    """Every chain, by tenant."""
    fleet = Fleet(ports.documents)
    return {id: list(audit.records_of(fleet.tenant(id))) for id in _chains(fleet)}


def _chains(fleet: Fleet) -> list[str]:
    return [SYSTEM, *(tenant.value.id for tenant in fleet.tenants())]

"""`snapkeep demo`: the main job on a fleet file, fast-forwarded in one process, with a few seeded faults.

The real handlers run behind the real message codec; only the ports are in memory. The same seed gives the same run,
byte for byte, which the printed digest shows.
"""

from __future__ import annotations

import gc
import logging
import random
import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from werkzeug.serving import make_server

from snapkeep import commands, fleet
from snapkeep import documents as d
from snapkeep.audit import export
from snapkeep.audit.handler import Verdict
from snapkeep.health import state
from snapkeep.local_sign_in import LocalSignIn
from snapkeep.ports import Ports
from snapkeep.store import Fleet
from snapkeep.web import create_app
from snapkeep_local import faults, stocktaking
from snapkeep_local.people import invite
from snapkeep_local.sim import System
from snapkeep_local.stocktaking import Stock

EXAMPLE: Final = Path(__file__).parents[3] / "examples" / "fleet.yaml"
HOST: Final = "127.0.0.1"
START: Final = datetime(2026, 10, 1, tzinfo=UTC)
HOUR: Final = timedelta(hours=1)
QUIET: Final = timedelta(days=1)
"""The last day goes without new faults, so that the end shows what was recovered."""

FAULTS_PER_DAY: Final = 0.7
DAYS_MAX: Final = 400


@dataclass(frozen=True, slots=True)
class Row:
    """How one tenant stands at the end."""

    tenant: str
    name: str
    deployment: str
    state: str
    newest_verified_at: datetime | None
    instances: int
    points: dict[str, int]  # by state
    bytes: int
    faults: int  # calls for this tenant that met a planted fault
    audit_records: int
    chain_intact: bool


@dataclass(frozen=True, slots=True)
class Report:
    seed: int
    days: int
    ended_at: datetime
    tenants: tuple[Row, ...]
    calls: dict[str, int]
    events: dict[str, int]
    digest: str
    audit_folder: str
    stock: tuple[Stock, ...]

    @property
    def protected(self) -> bool:
        """Whether every vendor-managed tenant ended protected, with its chain intact."""
        return all(row.state in ("protected", "client_managed") and row.chain_intact for row in self.tenants)

    @property
    def wrong(self) -> list[str]:
        """What is stored, or gone, though the policies do not say so."""
        return [line for stock in self.stock for line in stock.wrong]


def run(
    reading: fleet.Reading, *, days: int, seed: int, audit_folder: Path, progress: Callable[[float], None]
) -> tuple[System, Report]:
    """Let `days` days pass over a fleet; `progress` is told the share that is done. Writes the audit chains.

    Returns what it ran on too, as it stands at the end.
    """
    system = System(seed=seed, start=START)
    system.documents.checks = False
    system.apply(reading)
    chance = random.Random(f"demo:{seed}")  # noqa: S311 - a seeded simulation, not a secret
    tenants = [entry.id for entry in reading.valid]
    projects = {entry.id: str(entry.normal["project"]) for entry in reading.valid}
    vaults = {entry.id: str(entry.normal["vault_project"]) for entry in reading.valid}
    planted: dict[int, str] = {}
    hours = days * 24
    with _few_collections():
        passed = 0
        for hour in range(hours):
            strikes = hour <= hours - QUIET // HOUR and chance.random() < FAULTS_PER_DAY / 24
            if strikes or hour % 24 == 0:  # in long steps: each carries out its last tick of `health`
                system.fast_forward((hour - passed) * HOUR)
                passed = hour
                progress(hour / hours)
            if strikes:
                tenant = chance.choice(tenants)
                number = system.cloud.add_fault(_fault(chance, (projects[tenant], vaults[tenant])))
                planted[number] = tenant
        system.fast_forward((hours - passed) * HOUR)
        progress(1.0)
        return system, _report(system, days=days, planted=planted, audit_folder=audit_folder)


@contextmanager
def _few_collections() -> Iterator[None]:
    """Let Python look for cycles seldom: hardly any arise here, and all that is stored would be looked through."""
    before = gc.get_threshold()
    gc.set_threshold(100_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def listen(port: int) -> socket.socket:
    """Take a port of this machine, 0: a free one, for `serve`. Raises OSError where another has it."""
    return socket.create_server((HOST, port))


def serve(ports: Ports, listening: socket.socket) -> None:
    """Show the pages and the API on these ports, until Ctrl-C or SIGTERM."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)  # also where whoever started this has it ignored
    invite(ports.documents, (tenant.value for tenant in Fleet(ports.documents).tenants()), ports.clock.now())
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # no line for each request
    with listening:
        make_server(HOST, 0, create_app(ports, LocalSignIn()), threaded=True, fd=listening.fileno()).serve_forever()


def _fault(chance: random.Random, projects: tuple[str, str]) -> faults.Fault:
    """Something of what goes wrong in a month, for one tenant's projects."""
    effect = chance.choice(
        (
            faults.ErrorBefore(status=503, reason="backendError"),
            faults.ErrorBefore(status=403, reason="rateLimitExceeded", message="Quota exceeded, per minute"),
            faults.ErrorAfter(status=503, reason="backendError"),
            faults.Slow(factor=8),
            faults.OperationFails(),
            faults.SnapshotFails(),
            faults.SnapshotVanishes(after_s=30),
        )
    )
    where = "|".join(f"projects/{project}/" for project in projects)
    return faults.Fault(effect=effect, method="snapshots.insert", resource=where, count=chance.randint(1, 3))


def _report(system: System, *, days: int, planted: dict[int, str], audit_folder: Path) -> Report:
    met: Counter[str] = Counter()
    for fault in system.cloud.faults():
        met[planted[fault["id"]]] += fault["struck"]
    export.write(audit_folder, commands.audit_chains(system.ports))
    verdicts = {verdict.tenant: verdict for verdict in commands.verify_audit(system.ports, (), {})}
    rows = [
        _row(system, tenant.value, met[tenant.value.id], verdicts[tenant.value.id])
        for tenant in Fleet(system.documents).tenants()
    ]
    events = Counter(str(event["type"]) for event in system.events())
    return Report(
        seed=system.seed,
        days=days,
        ended_at=system.clock.now(),
        tenants=tuple(rows),
        calls=dict(sorted(system.cloud.calls.items())),
        events=dict(sorted(events.items())),
        digest=system.digest(),
        audit_folder=str(audit_folder),
        stock=tuple(stocktaking.take(system.documents, system.cloud)),
    )


def _row(system: System, tenant: d.Tenant, faults_met: int, verdict: Verdict) -> Row:
    whole = Fleet(system.documents)
    health = whole.tenant_health(tenant.id)
    assert health is not None
    stands = health.value
    tallies = [i.value.tally for i in whole.tenant(tenant.id).walk(d.Instance, "tenant_instances")]
    return Row(
        tenant=tenant.id,
        name=tenant.name,
        deployment=tenant.deployment,
        state=state(stands),
        newest_verified_at=stands.newest_verified_at,
        instances=len(tallies),
        points={
            "verified": sum(t.verified for t in tallies),
            "failed": sum(t.failed for t in tallies),
            "missed": sum(t.missed for t in tallies),
            "running": sum(t.running for t in tallies),
        },
        bytes=sum(t.bytes for t in tallies),
        faults=faults_met,
        audit_records=verdict.records,
        chain_intact=verdict.intact,
    )

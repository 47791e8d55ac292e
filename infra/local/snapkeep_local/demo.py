"""`snapkeep demo`: the main job on a fleet file, fast-forwarded in one process, with a few seeded faults.

The real handlers run behind the real message codec; only the ports are in memory. People do what they would: a client
who runs its own backups asks for points, one tenant's inter-region add-on ends and is bought again, and what goes wrong
in large (`outages`) is restored, each by the commands that a person has. The same seed gives the same run, byte for
byte, which the printed digest shows.
"""

from __future__ import annotations

import gc
import logging
import os
import random
import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
from werkzeug.serving import make_server

from snapkeep import commands, fleet, views
from snapkeep import documents as d
from snapkeep.audit import export
from snapkeep.audit.handler import Verdict
from snapkeep.health import state
from snapkeep.local_sign_in import LocalSignIn
from snapkeep.ports import Ports
from snapkeep.store import Fleet
from snapkeep.views import RegionLine
from snapkeep.web import create_app
from snapkeep_local import faults, outages, stocktaking
from snapkeep_local.outages import Outage
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

ADD_ON_DAYS_MIN: Final = 6
"""In a shorter run no add-on ends: there would be no time to make up what was missed."""

CLIENTS_EVERY_DAYS: Final = 7
"""How often clients who run their own backups ask for a point of each instance."""

NOON: Final = 12
TEST_EVENTS: Final = ("restore_test.passed", "restore_test.failed")
OPERATOR: Final = "operator:demo"


@dataclass(frozen=True, slots=True)
class AddOn:
    """An inter-region add-on that ends in the course of the run, and is bought again."""

    tenant: str
    ended_at: datetime
    returned_at: datetime


@dataclass(frozen=True, slots=True)
class Tests:
    """The restore tests of one tenant that has asked for them."""

    tenant: str
    passed: int
    failed: int  # they have shown that a set cannot be restored from
    not_carried_out: int  # nothing was found out
    last_took_s: int | None  # from the start of the last that came to a result until everything was checked


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
    regions: tuple[RegionLine, ...]  # its region map
    copies: dict[str, int]  # how its copies stand, as its health says; empty where none are bought and none were made
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
    add_on: AddOn | None  # null: none was changed
    outages: tuple[Outage, ...]
    tests: tuple[Tests, ...]
    never_tested: tuple[str, ...]  # tenants of which no test has ever come to a result
    stock: tuple[Stock, ...]

    @property
    def restored(self) -> bool:
        """Whether every outage ended with all disks as its point has them."""
        return all(outage.state == "completed" and outage.as_point for outage in self.outages)

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

    Returns what it ran on too, as it stands at the end. What happens, and so the digest, follows from what the fleet
    files say, and not from the folder that they lie in.
    """
    reading = _by_name(reading)
    system = System(seed=seed, start=START)
    system.documents.checks = False
    system.apply(reading, OPERATOR)
    chance = random.Random(f"demo:{seed}")  # noqa: S311 - a seeded simulation, not a secret
    tenants = [entry.id for entry in reading.valid]
    projects = {entry.id: str(entry.normal["project"]) for entry in reading.valid}
    vaults = {entry.id: str(entry.normal["vault_project"]) for entry in reading.valid}
    planted: dict[int, str] = {}
    hours = days * 24
    add_on = _add_on(reading, days)
    to_come = outages.planned(reading, days)
    met: list[Outage] = []
    with _few_collections():
        for hour in range(hours):
            strikes = hour <= hours - QUIET // HOUR and chance.random() < FAULTS_PER_DAY / 24
            acts = _people(reading, add_on, hour) if hour % 24 == NOON else []
            due = [one.kind for one in to_come if one.day * 24 + NOON == hour]
            if strikes or acts or due or hour % 24 == 0:  # in long steps: each carries out its last tick of `health`
                # What was restored since may have taken longer.
                system.fast_forward(START + hour * HOUR - system.clock.now())
                progress(hour / hours)
            for act in acts:
                act(system)
            for kind in due:
                others = outages.candidates(reading, kind, met, add_on.tenant if add_on else None)
                met += [outage] if (outage := outages.happen(system, kind, others)) else []
            if strikes:
                tenant = chance.choice(tenants)
                number = system.cloud.add_fault(_fault(chance, (projects[tenant], vaults[tenant])))
                planted[number] = tenant
        system.fast_forward(START + hours * HOUR - system.clock.now())
        progress(1.0)
        report = _report(system, days=days, planted=planted, add_on=add_on, met=met, audit_folder=audit_folder)
        return system, report


# --- what people do meanwhile -------------------------------------------------------------------------------------


def _by_name(reading: fleet.Reading) -> fleet.Reading:
    """The same, its files named from the folder that holds them all: what is recorded tells nothing of the machine."""
    folder = Path(os.path.commonpath([Path(file).absolute().parent for file in reading.files]))
    names = {file: Path(file).absolute().relative_to(folder).as_posix() for file in reading.files}
    return replace(reading, valid=tuple(replace(entry, file=names[entry.file]) for entry in reading.valid))


def _add_on(reading: fleet.Reading, days: int) -> AddOn | None:
    """Whose add-on ends after a third of the days, and is bought again when half of them have passed: the last
    tenant's that has one."""
    bought = [entry.id for entry in reading.valid if _bought(entry)]
    if not bought or days < ADD_ON_DAYS_MIN:
        return None
    noon = START + NOON * HOUR
    return AddOn(bought[-1], noon + timedelta(days=days // 3), noon + timedelta(days=days // 2))


def _bought(entry: fleet.Entry) -> bool:
    return entry.normal["entitlements"].get("inter_region_backup") is not None


def _people(reading: fleet.Reading, add_on: AddOn | None, hour: int) -> list[Callable[[System], None]]:
    """What people do at noon of this day."""
    at = START + hour * HOUR
    acts: list[Callable[[System], None]] = []
    if add_on is not None and at in (add_on.ended_at, add_on.returned_at):
        entry = next(entry for entry in reading.valid if entry.id == add_on.tenant)
        acts.append(partial(_apply, _without_add_on(entry) if at == add_on.ended_at else entry))
    if hour // 24 % CLIENTS_EVERY_DAYS == 0:
        clients = [entry.id for entry in reading.valid if entry.normal["deployment"] == "private_saas"]
        acts += [partial(_ask_for_points, tenant) for tenant in clients]
    return acts


def _without_add_on(entry: fleet.Entry) -> fleet.Entry:
    """What an operator writes into the fleet file when the add-on ends, and restores elsewhere with it."""
    normal = {**entry.normal, "entitlements": {}}
    [without] = fleet.parse({entry.file: msgspec.json.encode({"tenants": [normal]})}).valid
    return replace(without, index=entry.index)


def _apply(entry: fleet.Entry, system: System) -> None:
    """Apply this entry as an operator does, who has seen what it gives up."""
    reading = fleet.Reading((entry.file,), (entry,), (), ())
    foreseen = commands.apply_fleet(system.ports, reading, OPERATOR, dry_run=True)
    given_up = sum(change.deletions for change in foreseen.changes)
    commands.apply_fleet(system.ports, reading, OPERATOR, accept_deletions=given_up)


def _ask_for_points(tenant: str, system: System) -> None:
    """A client who runs its own backups asks for a point of each instance."""
    client = f"client@{tenant}.example"
    day = f"{system.clock.now():%Y-%m-%d}"
    for instance in Fleet(system.documents).tenant(tenant).walk(d.Instance, "tenant_instances"):
        asked = commands.Asked(by=client, key=f"{day}|{instance.value.id}", sha256="")
        ask = commands.PointAsk(instance=instance.value.id, reason="the week's backup")
        commands.request_point(system.ports, asked, tenant, ask)


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


def _report(
    system: System,
    *,
    days: int,
    planted: dict[int, str],
    add_on: AddOn | None,
    met: Sequence[Outage],
    audit_folder: Path,
) -> Report:
    struck: Counter[str] = Counter()
    for fault in system.cloud.faults():
        struck[planted[fault["id"]]] += fault["struck"]
    export.write(audit_folder, commands.audit_chains(system.ports))
    verdicts = {verdict.tenant: verdict for verdict in commands.verify_audit(system.ports, (), {})}
    rows = [
        _row(system, tenant.value, struck[tenant.value.id], verdicts[tenant.value.id])
        for tenant in Fleet(system.documents).tenants()
    ]
    tenants = [tenant.value for tenant in Fleet(system.documents).tenants()]
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
        add_on=add_on,
        outages=tuple(outages.at_the_end(system, outage) for outage in met),
        tests=tuple(_tests(system, tenant) for tenant in tenants if tenant.restore_test),
        never_tested=tuple(tenant.id for tenant in tenants if tenant.restore_tested is None),
        stock=tuple(stocktaking.take(system.documents, system.cloud)),
    )


def _tests(system: System, tenant: d.Tenant) -> Tests:
    told = [event for event in system.events() if event["tenant"] == tenant.id and event["type"] in TEST_EVENTS]
    outcomes = Counter("passed" if event["type"] == TEST_EVENTS[0] else
                       "failed" if event["data"]["carried_out"] else "not_carried_out" for event in told)  # fmt: skip
    last = tenant.restore_tested
    return Tests(
        tenant.id, outcomes["passed"], outcomes["failed"], outcomes["not_carried_out"], last.took_s if last else None
    )


def _row(system: System, tenant: d.Tenant, faults_met: int, verdict: Verdict) -> Row:
    whole = Fleet(system.documents)
    health = whole.tenant_health(tenant.id)
    assert health is not None
    stands = health.value
    seen = views.tenant(system.ports, tenant.id)
    assert seen is not None
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
        regions=tuple(seen.regions),
        copies=dict(stands.copies),
        faults=faults_met,
        audit_records=verdict.records,
        chain_intact=verdict.intact,
    )

"""Part `restores`: what a restore costs in calls of Compute Engine and in simulated time, all of Snapkeep in memory.

One instance, made here with as many disks as are asked for, has one point. It is restored in each mode: as disks alone,
as a new instance beside the old one, and in place. Larger disks take longer to be made, and are looked at more often.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from tests.bench import memory
from tests.bench.meter import Meter

from snapkeep import commands, fleet
from snapkeep import documents as d
from snapkeep.restore import commands as restores
from snapkeep.restore import rules
from snapkeep.restore.planning import RestoreAsk
from snapkeep.store import Fleet
from snapkeep_local.sim import MINUTE, System

TENANT: Final = "bench"
PROJECT: Final = "bench-prod"
ZONE: Final = "southamerica-east1-a"
NAME: Final = "server"
FLEET: Final = f"""
tenants:
  - {{id: {TENANT}, name: Bench, project: {PROJECT}, instances: [{{name: {NAME}, zone: {ZONE}}}],
      timezone: America/Sao_Paulo, probe: {{kind: tcp, port: 443}}}}
"""
MODES: Final[tuple[d.RestoreMode, ...]] = ("disks", "new_instance", "in_place")
DISKS: Final = (1, 4, 16)
SIZE_GB: Final = 100
SIZES_GB: Final = (100, 1_000, 10_000)
"""Of the disks where looks are compared; in these DISKS_WAITED_FOR are restored in place."""

DISKS_WAITED_FOR: Final = 4
POINT_MAX: Final = timedelta(hours=16)
"""A first snapshot of the largest disks uploads for seven hours."""

ONCE: Final[Mapping[d.RestoreMode, int]] = {"disks": 0, "new_instance": 2, "in_place": 4}
BY_DISK: Final[Mapping[d.RestoreMode, int]] = {"disks": 2, "new_instance": 2, "in_place": 4}
"""The least that any program must ask Compute Engine for. Of each disk: one insert, one read that it is there; in
place, one detachment of the disk before it and one attachment too. Of a new instance: one insert and one read; of one
in place: a read of what is attached, a stop, a start, and a read that it runs."""


@dataclass(frozen=True, slots=True)
class Measured:
    mode: d.RestoreMode
    disks: int
    size_gb: int  # of each disk
    calls: Counter[str]  # of function `restore`, by method, until the restore was completed
    looks: int  # deliveries to `restore` with it
    seconds: float  # simulated ones, from its start to its end
    operations_s: float  # of these, while at least one operation on a disk or the instance was under way

    @property
    def least(self) -> int:
        return ONCE[self.mode] + BY_DISK[self.mode] * self.disks


def measure(mode: d.RestoreMode, disks: int, size_gb: int = SIZE_GB) -> Measured:
    """Raises RuntimeError unless the point is verified and the restore is completed."""
    meter = Meter()
    system = System(seed=1, start=memory.START, wrap=meter.wrap, deliver=meter.deliver)
    meter.calls = system.cloud.calls
    _build(system, disks, size_gb)
    system.apply(_read())
    store = Fleet(system.documents).tenant(TENANT)
    point = _point(system)
    asked = commands.Asked("ana@vendor.example", "bench", "")
    name = None if mode == "in_place" else f"{NAME}-again"
    ask = RestoreAsk(point=point, mode=mode, name=name, waive_all=True, reason="to be measured")
    meter.reset()
    answer = restores.request(system.ports, asked, TENANT, ask)
    assert answer.restore is not None
    assert answer.request_sha256 is not None
    if answer.plan.needs_approval:
        approval = commands.Asked("ben@vendor.example", "bench", "")
        this = restores.ApprovalAsk(request_sha256=answer.request_sha256)
        restores.approve(system.ports, approval, TENANT, answer.restore, this)
    while True:
        system.minute()
        held = store.get(d.Restore, "restores", answer.restore)
        assert held is not None
        restore = held.value
        if restore.state not in rules.LIVING:
            break
    if restore.state != "completed":
        raise RuntimeError(f"{mode}, {disks} disks: {restore.state}, {restore.failure}")
    assert restore.started_at is not None
    assert restore.finished_at is not None
    used = meter.reset()["restore"]
    return Measured(
        mode=mode,
        disks=disks,
        size_gb=size_gb,
        calls=used.calls,
        looks=used.deliveries,
        seconds=(restore.finished_at - restore.started_at).total_seconds(),
        operations_s=_under_way(system, restore.started_at),
    )


def _build(system: System, disks: int, size_gb: int) -> None:
    made = [
        system.cloud.add_disk(project=PROJECT, zone=ZONE, name=f"{NAME}-{number}", size_gb=size_gb, boot=not number)
        for number in range(disks)
    ]
    system.cloud.add_instance(project=PROJECT, zone=ZONE, name=NAME, disks=made)


def _read() -> fleet.Reading:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fleet.yaml"
        path.write_text(FLEET, encoding="utf-8")
        reading = fleet.read(path)
    if reading.mistakes:
        raise RuntimeError(f"the fleet file is wrong: {reading.mistakes[0]}")
    return reading


def _point(system: System) -> str:
    """The id of the first night's point, once it is verified."""
    store = Fleet(system.documents).tenant(TENANT)
    began = system.cloud.now
    while system.cloud.now - began < POINT_MAX:
        system.run(10 * MINUTE)
        for instance in store.walk(d.Instance, "tenant_instances"):
            if instance.value.newest_verified is not None:
                return instance.value.newest_verified.point
    raise RuntimeError(f"no point was verified within {POINT_MAX}")


def _under_way(system: System, since: datetime) -> float:
    """Seconds since then in which an operation on a disk or an instance was under way."""
    spans = sorted(
        (_instant(one["insertTime"]), _instant(one["endTime"]))
        for one in system.cloud.state()["operations"]
        if _is_of_a_restore(one) and _instant(one["insertTime"]) >= since
    )
    total, until = 0.0, since
    for begin, end in spans:
        total += max((end - max(begin, until)).total_seconds(), 0.0)
        until = max(until, end)
    return total


def _is_of_a_restore(operation: dict[str, Any]) -> bool:
    return "/disks/" in operation["targetLink"] or "/instances/" in operation["targetLink"]


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)

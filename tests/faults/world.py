"""A hostile world around the whole of Snapkeep, drawn from one seed.

Every effect of every function passes through here, and at each one the world may kill the process before or after it,
lose the answer of a write that happened, answer with a passing fault, or let another run of a function go first.
Between the minutes messages are lost, doubled, delayed and reordered, the cloud misbehaves, disks change under our
hands, and the scheduler dies for days. Then the faults stop, and `judge` asks whether everything came to its end.
"""

from __future__ import annotations

import base64
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any, Final, TypeVar

from msgspec.structs import replace
from tests.faults import copying, judge, keeping

from snapkeep import commands, fleet
from snapkeep.cloud import (
    Change,
    DeleteDisk,
    DeleteInstantSnapshot,
    DeleteInstantSnapshotGroup,
    DeleteSnapshot,
    InsertDisk,
    InsertInstantSnapshot,
    InsertInstantSnapshotGroup,
    InsertSnapshot,
    Resource,
    partial_link,
)
from snapkeep.creation.rules import point_id, snapshot_name
from snapkeep.documents import Instance, from_data
from snapkeep.entry import ENTRIES
from snapkeep.messages import CopyBatch, CreateRequested, CreateRequestedData, PointRef, encode
from snapkeep.ports import Conflict, Doc, Ports, Query, Transient, Write
from snapkeep_local import faults, schedule
from snapkeep_local.declared import Declared
from snapkeep_local.errors import ApiError
from snapkeep_local.sim import System

R = TypeVar("R", bound=Resource)

START: Final = datetime(2026, 3, 26, 18, 0, tzinfo=UTC)  # Madrid changes its clocks on the 29th
STEP: Final = timedelta(minutes=5)
AGEING: Final = timedelta(hours=24)
"""Before the faults: the grace of what was taken at the start ends soon after they begin."""
LONG_STEP: Final = timedelta(minutes=10)
"""Of the second hundred seeds, where less happens at a time and more between two looks; and while all settle."""
LARGE_STEP: Final = timedelta(minutes=30)
FAULTY: Final = timedelta(days=2)
SETTLING: Final = timedelta(hours=38)
PASSING: Final = frozenset({"audit", "inbox", "requests", "health", "rejected"})
"""Collections of which nothing that the world does depends."""

FLEET: Final = Path(__file__).with_name("fleet.yaml")


@contextmanager
def quiet_log() -> Iterator[None]:
    """What the functions log of thousands of planted faults would only hide what is found."""
    log = logging.getLogger("snapkeep")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


class Death(BaseException):
    """The process is gone. Not an Exception: nothing in it can catch its own end."""


@dataclass(frozen=True, slots=True)
class Mix:
    """How likely each thing is at one effect, drawn anew for each seed so that seeds differ in character."""

    death_before: float
    death_after: float
    answer_lost: float
    transient: float
    exhausted: float
    interleave: float
    drop: float
    double: float
    delay: float

    @staticmethod
    def draw(rng: random.Random) -> Mix:
        def rate(most: float) -> float:
            return rng.choice((0.0, most / 10, most / 3, most))

        return Mix(
            death_before=rate(0.05),
            death_after=rate(0.05),
            answer_lost=rate(0.1),
            transient=rate(0.3),
            exhausted=rate(0.05),
            interleave=rate(0.05),
            drop=rate(0.5),
            double=rate(0.3),
            delay=rate(0.3),
        )


@dataclass(slots=True)
class Trace:
    """What happened, in order: the judge's only source beside the cloud itself."""

    commits: list[tuple[int, tuple[Write, ...]]] = field(default_factory=list)
    starts: list[tuple[int, Change]] = field(default_factory=list)
    requests: dict[str, Change] = field(default_factory=dict)  # by request id
    broken: list[str] = field(default_factory=list)  # laws seen broken while it ran
    order: int = 0
    # When the controls were last looked at and a deletion last begun: by the run, and by the one that goes between.
    looked: Counter[int] = field(default_factory=Counter)
    begun: Counter[int] = field(default_factory=Counter)
    saw_paused: dict[int, Any] = field(default_factory=dict)  # where deletion was paused, as that run saw it last

    def next(self) -> int:
        self.order += 1
        return self.order


class World:
    def __init__(self, seed: int, declared: Declared | None = None) -> None:
        self.rng = random.Random(f"world:{seed}")  # noqa: S311 - seeded on purpose
        self.mix = Mix.draw(self.rng)
        self.step = STEP if seed < 100 else LONG_STEP
        self.faulty = False
        self.depth = 0
        self.trace = Trace()
        self.system = System(seed=seed, start=START, wrap=self._wrap, declared=declared)
        self.struck: list[dict[str, Any]] = []
        self.dead_days = timedelta(0)
        self.tampered: set[str] = set()
        self.planted: dict[str, str] = {}  # foreign snapshots: link -> numeric id; they must outlive everything
        self.asked = 0  # commands of people
        self.ledger = copying.Ledger()
        self._kept: dict[str, Any] = {}  # by path, what was committed last

    # --- ports ------------------------------------------------------------------------------------------------

    def _wrap(self, ports: Ports) -> Ports:
        self.inner = ports
        return Ports(
            documents=_Documents(self, ports),
            compute=_Compute(self, ports),
            bus=_Bus(self, ports),
            clock=ports.clock,
            guests=ports.guests,
        )

    def before(self, effect: str) -> None:
        """Whatever may happen in front of an effect. Raises Death, Transient."""
        if not self.faulty:
            return
        self._interleave()
        if self.rng.random() < self.mix.death_before:
            raise Death(effect)
        # The database and the bus fail less often: with a dozen effects in a run, most would never end otherwise.
        if self.rng.random() < self.mix.transient / (1 if effect.startswith("compute") else 8):
            code, reason = self.rng.choice(((503, "backendError"), (429, "rateLimitExceeded"), (504, "timeout")))
            raise Transient(f"{effect}: planted", code=code, reason=reason if effect.startswith("compute") else "")
        if effect.startswith("compute") and self.rng.random() < self.mix.exhausted:
            raise Transient(f"{effect}: planted", code=403, reason="rateLimitExceeded")

    def written(self, change: Change) -> None:
        """The instance goes on writing: no two moments of its disks hold the same."""
        cloud = self.system.cloud
        match change:
            case InsertSnapshot(source_disk=disk, source_instant=None) | InsertInstantSnapshot(source_disk=disk):
                written = [disk]
            case InsertInstantSnapshotGroup(consistency_group=group):
                written = [partial_link(one["selfLink"]) for one in cloud.disks()
                           if any(url.endswith(group) for url in one.get("resourcePolicies", []))]  # fmt: skip
            case InsertSnapshot() | InsertDisk() | _:
                return
        for link in written:
            if "/disks/sk-" not in link:  # a temporary one is written to by nobody
                with suppress(ApiError):
                    cloud.write(link, f"written {self.trace.next()}")

    def after(self, effect: str) -> None:
        """Whatever may happen behind an effect that took place. Raises Death, Transient, Conflict."""
        if not self.faulty:
            return
        if self.rng.random() < self.mix.death_after:
            raise Death(effect)
        if effect in ("commit", "compute.start", "publish") and self.rng.random() < self.mix.answer_lost:
            # Google's client retries a commit whose answer was lost, and meets its own write.
            lost = Conflict("planted") if effect == "commit" and self.rng.random() < 0.5 else None
            raise lost or Transient(f"{effect}: its answer was lost")

    def _interleave(self) -> None:
        """Let another run of some function, or a person's act, go first, from its start to its end: two at once."""
        if self.depth or self.rng.random() >= self.mix.interleave:
            return
        functions = ("reconcile", "plan", "audit", "health", "discover", "reconcile", "retention", "entitlements")
        name = self.rng.choice((*functions, "copy", "hold", "pause", "buy"))
        self.depth += 1
        try:
            match name:
                case "hold":
                    self._hold()
                case "pause":
                    self._pause()
                case "buy":
                    if self.rng.random() < 0.1:
                        self._change_what_is_bought()
                case "copy":
                    self._receive(name, self._copy_batch())
                case _:
                    self._receive(name, schedule.TICK)
        except (Exception, Death):  # noqa: BLE001, S110 - it may fail like any other; Pub/Sub would deliver again
            pass
        finally:
            self.depth -= 1

    def hostile(self, function: str) -> Ports:
        """The ports of a function that is carried out beside the deliveries."""
        return self.system.declared.hold(function, self._wrap(self.inner))

    def _receive(self, function: str, body: bytes) -> None:
        ENTRIES[function](_envelope(body), self.hostile(function))

    # --- time -------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """A day without faults, so that there is something to expire; two days of them; then time to settle."""
        reading = fleet.read(FLEET)
        assert not reading.mistakes, reading.mistakes
        self.system.apply(reading)
        self._kept = self.system.documents.dump(leaving_out=PASSING)
        self._note_what_is_bought()
        for _ in range(3):
            self._pass(timedelta(minutes=15))
            for one in self.system.cloud.instances():
                self._ask_for(one.project, one.zone, one.name)
        self._pass(AGEING, step=LARGE_STEP)
        self.faulty = True
        self._lasting_faults()
        steps = FAULTY // self.step
        silence = self._silence(steps)
        for step in range(steps):
            self._tamper_with_cloud()
            self._ask_on_demand()
            self._hold_and_pause()
            self._buy_and_copy()
            self._pass(self.step, step=self.step, ticks=step not in silence)
        self.faulty = False
        for what in self._paused():
            self._command(partial(commands.resume, what="deletion", reason="go on", tenant=what))
        self._settle_what_is_bought()
        self.struck = self.system.cloud.faults()
        self.system.cloud.clear_faults()
        self._pass(SETTLING, step=LONG_STEP)
        self._receive("audit", schedule.TICK)  # what was recorded in the last step is numbered too

    def kept(self) -> dict[str, Any]:
        """What is stored of tenants, their instances and points, and the controls."""
        return dict(self._kept)

    def keep(self, writes: tuple[Write, ...]) -> None:
        """Reading all of it anew whenever it is asked for would be a third of a seed's time."""
        self._kept |= {write.path: write.data for write in writes if write.path.rsplit("/", 2)[-2] not in PASSING}

    def _lasting_faults(self) -> None:
        """What every seed meets: a deletion that lies; and one in three, a tenant none of whose points succeed."""
        lies = faults.Fault(effect=faults.DeletionLies(), method="snapshots.delete", count=self.rng.randint(1, 3))
        self.system.cloud.add_fault(lies)
        if self.rng.random() < 1 / 4:  # the regions that copies go to are away
            away = faults.Fault(
                effect=faults.ErrorBefore(), method="snapshots.insert", resource="regions/(europe-west1|us-central1)$"
            )
            self.system.cloud.add_fault(away)
        if self.rng.random() < 1 / 3:
            tenant = self.rng.choice(("alpha", "beta"))
            fails = faults.Fault(effect=faults.SnapshotFails(), method="snapshots.insert", resource=f"{tenant}-prod/")
            self.system.cloud.add_fault(fails)

    def summary(self) -> str:
        """What this seed was like, for a person who replays it."""
        points = [data["state"] for path, data in self.system.documents.dump().items() if "/points/" in path]
        states = ", ".join(f"{points.count(state)} {state}" for state in sorted(set(points)))
        copies = Counter(
            f"{copy['state']} {'by disk' if copy['way'] == 'temporary_disk' else 'at once'}"
            for path, data in self.system.documents.dump().items()
            if "/points/" in path
            for copy in data["copies"].values()
        )
        states += f"; copies: {', '.join(f'{count} {what}' for what, count in sorted(copies.items()))}"
        struck = sum(fault["struck"] for fault in self.struck)
        return f"{states}; {len(self.trace.starts)} starts, {struck} cloud faults, {len(self.trace.commits)} commits"

    def _silence(self, steps: int) -> range:
        """The steps in which the scheduler is dead; for one seed in four it is dead for three days."""
        match self.rng.randrange(4):
            case 0:
                return range(steps // 4, steps // 4 + timedelta(hours=14) // self.step)
            case 1:
                self.dead_days = timedelta(days=3)
        return range(0)

    def _pass(self, duration: timedelta, *, ticks: bool = True, step: timedelta = STEP) -> None:
        if self.faulty and self.dead_days and self.rng.random() < 0.005:
            self.system.cloud.advance(self.system.cloud.now + self.dead_days)
            self.dead_days = timedelta(0)
        for _ in range(duration // step):
            since = self.system.cloud.now
            self.system.cloud.advance(since + step)
            for topic in _ticking(since, step) if ticks else ():
                self.system.bus.publish(topic, schedule.TICK)
            self._deliver()

    def _deliver(self) -> None:
        bus = self.system.bus
        if self.faulty:
            for message in bus.pending():
                if message.id in self.tampered:
                    continue  # once each, or doubles of doubles would fill the world
                self.tampered.add(message.id)
                if self.rng.random() < self.mix.drop and b'"tick"' not in message.body:
                    bus.drop(message)
                elif self.rng.random() < self.mix.double:
                    bus.duplicate(message)
                elif self.rng.random() < self.mix.delay:
                    bus.delay(message, timedelta(minutes=self.rng.choice((1, 7, 45))))
        for _ in range(10_000):
            try:
                if bus.deliver_next() is None:
                    return
            except Death:
                continue  # the message is asked for again, as Pub/Sub does when no answer comes
        raise AssertionError("functions message one another for ever")

    # --- mischief ---------------------------------------------------------------------------------------------

    def _tamper_with_cloud(self) -> None:
        if self.rng.random() < 0.05:
            self.system.cloud.add_fault(self._cloud_fault())
        if self.rng.random() < 0.03:
            self.system.cloud.add_fault(self._fault_of_copying())
        if self.rng.random() < 0.01:
            self._lose_source()
        if self.rng.random() < 0.02:
            self._change_disks()
        if self.rng.random() < 0.03:
            self._squat()
        if self.rng.random() < 0.02:
            self._forge()
        if self.rng.random() < 0.008:
            self._take_name()

    def _cloud_fault(self) -> Any:
        effect = self.rng.choice(
            (
                faults.DeletionLies(),
                faults.Stuck(snapshot=self.rng.choice(("CREATING", "UPLOADING"))),
                faults.Slow(factor=self.rng.choice((5, 60))),
                faults.OperationFails(),
                faults.OperationFails(snapshot="FAILED"),
                faults.OperationFails(code="RESOURCE_NOT_READY", http_status=400),
                faults.OperationFails(code="QUOTA_EXCEEDED", http_status=403),
                faults.SnapshotFails(),
                faults.SnapshotVanishes(after_s=self.rng.choice((30, 300, 4000))),
                faults.ErrorAfter(),
                faults.ErrorBefore(status=429, reason="RESOURCE_OPERATION_RATE_EXCEEDED", message="too often"),
                faults.ErrorBefore(status=403, reason="forbidden", message="permission missing"),
            )
        )
        # Only where every attempt at a disk is stuck does its point live to its deadline.
        most = 20 if isinstance(effect, faults.Stuck) else 4
        return faults.Fault(effect=effect, method="snapshots.*", count=self.rng.randint(1, most))

    def _fault_of_copying(self) -> faults.Fault:
        """Of what is made only to copy from: it vanishes, is refused, fails, sticks, or is there though it went."""
        effect = self.rng.choice(
            (
                faults.InstantVanishes(after_s=self.rng.choice((3, 70, 400))),
                faults.InstantVanishes(after_s=self.rng.choice((3, 70, 400))),
                faults.DiskFails(),
                faults.DeletionLies(),
                faults.Stuck(),
                faults.Slow(factor=self.rng.choice((5, 60))),
                faults.OperationFails(),
                faults.OperationFails(snapshot="FAILED"),
                faults.OperationFails(code="UNSUPPORTED_OPERATION", http_status=400),
                faults.ErrorAfter(),
                faults.ErrorBefore(status=400, reason="invalid", message="not supported for this disk"),
            )
        )
        method = self.rng.choice(("disks.*", "*nstantSnapshot*"))
        if isinstance(effect, faults.DiskFails):
            method = "disks.insert"
        elif isinstance(effect, faults.InstantVanishes):
            method = "*nstantSnapshot*.insert"
        elif isinstance(effect, faults.ErrorBefore | faults.ErrorAfter):
            method = method.replace("disks.*", "disks.insert").replace("Snapshot*", "Snapshot*.insert")
        return faults.Fault(effect=effect, method=method, count=self.rng.randint(1, 4))

    def _lose_source(self) -> None:
        """A home snapshot of which a copy is still to be made is deleted behind our back."""
        found = [
            disk["snapshot"]
            for path, point in self.kept().items()
            if path.split("/")[2:3] == ["points"] and point["state"] == "verified"
            if any(copy["state"] in ("requested", "copying", "failed") for copy in point["copies"].values())
            for disk in point["disks"]
            if (there := self.system.cloud.snapshot(disk["snapshot"]["project"], disk["snapshot"]["name"]))
            and there["id"] == disk["snapshot"]["id"]
        ]
        if found:
            ref = self.rng.choice(found)
            self.system.cloud.remove_snapshot(f"projects/{ref['project']}/global/snapshots/{ref['name']}")

    def _change_disks(self) -> None:
        """Replace, resize, add or remove a disk of some instance, or the instance itself."""
        cloud = self.system.cloud
        one = self.rng.choice(cloud.instances())
        project, zone, name = one.project, one.zone, one.name
        attached = [disk for disk in one.disks if disk.persistent and not disk.boot and "/zones/" in disk.source]
        match self.rng.randrange(6):
            case 0 | 5 if attached:
                cloud.replace_disk(self.rng.choice(attached).source)
            case 1 if attached:
                cloud.resize_disk(self.rng.choice(attached).source, size_gb=777)
            case 2:
                disk = f"{name}-new-{self.rng.randrange(10_000)}"
                cloud.add_disk(project=project, zone=zone, name=disk, type="pd-ssd", size_gb=20)
                added = f"projects/{project}/zones/{zone}/disks/{disk}"
                cloud.attach_disk(one.link, added)
                for policy in self._policies(one) if self.rng.random() < 0.8 else ():
                    cloud.attach_policy(added, policy)
            case 3 if attached:
                gone = self.rng.choice(attached).source
                cloud.detach_disk(one.link, gone)
                cloud.remove_disk(gone)
            case 4:
                cloud.replace_instance(one.link)
                if self.rng.random() < 0.5:
                    self._ask_for(project, zone, name)  # before anybody has noticed

    def _policies(self, one: Any) -> set[str]:
        """The policies that all disks of an instance were under at the start."""
        boot = next(disk.source for disk in one.disks if disk.boot)
        shown = self.system.cloud.get("disks", boot)
        return {partial_link(url) for url in shown.get("resourcePolicies", [])}

    def _squat(self) -> None:
        """Put a foreign snapshot where our next one would go."""
        documents = self.kept()
        instances = [(p, from_data(Instance, v)) for p, v in documents.items() if p.split("/")[2:3] == ["instances"]]
        living = [(p, i) for p, i in instances if i.lost_at is None and i.next_slot_at]
        if not living:
            return
        path, instance = self.rng.choice(living)
        tenant = path.split("/")[1]
        day = instance.next_slot_at.date() if instance.next_slot_at else START.date()
        for offset in (0, -1):
            slot_day = (day + timedelta(days=offset)).isoformat()
            point = point_id(slot_day, "scheduled", instance, slot_day)
            disk = self.rng.choice(sorted(instance.disks, key=lambda ref: ref.id))
            name = snapshot_name(tenant, point, instance.name, disk.name, disk.id, instance.region, 1)
            vault = documents[f"tenants/{tenant}"]["vault_project"]
            self._plant(vault, name)

    def _plant(self, project: str, name: str, **claims: Any) -> None:
        there = self.system.cloud.snapshot(project, name)
        link = self.system.cloud.plant_snapshot(project=project, name=name, **claims)
        planted = self.system.cloud.snapshot(project, name)
        if there is None and planted is not None:
            self.planted[link] = planted["id"]

    def _forge(self) -> None:
        """A foreign snapshot with our labels, of our disk, in our place."""
        found = self._some_snapshot()
        if found is not None:
            tenant, point, disk, ref = found
            name = self.rng.choice((f"sk-forged-{self.rng.randrange(10**6)}", f"{ref['name'][:50]}-x"))
            self._plant(ref["project"], name, **self._claims(tenant, point, disk))

    def _take_name(self) -> None:
        """One of ours is deleted behind our back, and another one takes its name."""
        found = self._some_snapshot()
        if found is not None:
            tenant, point, disk, ref = found
            self.system.cloud.remove_snapshot(f"projects/{ref['project']}/global/snapshots/{ref['name']}")
            self._plant(ref["project"], ref["name"], **self._claims(tenant, point, disk))

    def _claims(self, tenant: str, point: Any, disk: Any) -> dict[str, Any]:
        labels = {"snapkeep-tenant": tenant, "snapkeep-point": point["id"], "snapkeep-role": "home"}
        scope = f"zones/{disk['zone']}" if disk["zone"] else f"regions/{point['instance']['region']}"
        source = f"projects/{point['instance']['project']}/{scope}/disks/{disk['name']}"
        try:
            self.system.cloud.get("disks", source)
        except ApiError:
            return {"labels": labels, "location": point["instance"]["region"]}
        return {"labels": labels, "location": point["instance"]["region"], "source_disk": source}

    def _some_snapshot(self) -> tuple[str, Any, Any, Any] | None:
        """A snapshot of some point that is there and ours, with its tenant, point and disk."""
        found = [
            (path.split("/")[1], point, disk, disk["snapshot"])
            for path, point in self.kept().items()
            if path.split("/")[2:3] == ["points"] and point["state"] in ("verified", "expiring")
            for disk in point["disks"]
            if (there := self.system.cloud.snapshot(disk["snapshot"]["project"], disk["snapshot"]["name"]))
            and there["id"] == disk["snapshot"]["id"]
        ]
        return self.rng.choice(found) if found else None

    # --- what people do -----------------------------------------------------------------------------------------

    def _hold_and_pause(self) -> None:
        if self.rng.random() < 0.02:
            self._hold()
        if self.rng.random() < (0.05 if self._paused() else 0.01):
            self._pause()

    def in_the_last_moment(self, path: str) -> None:
        """Someone holds what is to go, between the plan and the commit that begins its deletion."""
        if not self.faulty or self.depth or self.rng.random() >= 0.12:
            return
        _, tenant, _, point = path.split("/")
        until = self.system.clock.now() + timedelta(hours=self.rng.choice((1, 6)))
        wanted = commands.HoldAsk(reason="wait", until=until, point=self.rng.choice((point, None)))
        self.depth += 1
        self._command(partial(commands.add_hold, tenant=tenant, ask=wanted))
        self.depth -= 1

    def _hold(self) -> None:
        """Hold a point, an instance or a tenant; most holds end within the day."""
        stored = self.kept()
        tenant = self.rng.choice([path.split("/")[1] for path in stored if path.split("/")[2:3] == ["instances"]])
        points = [p for p in stored.values() if p.get("stored_for") and p["id"] in _ids(stored, tenant, "points")]
        hours = self.rng.choice((1, 6, 20))
        wanted = commands.HoldAsk(reason="case 4711", until=self.system.clock.now() + timedelta(hours=hours))
        match self.rng.randrange(4):
            case 0 | 1 if points:
                point = self.rng.choice(points)
                wanted = replace(wanted, point=point["id"], copy=self.rng.choice((None, *point["copies"])))
            case 2:
                wanted = replace(wanted, instance=self.rng.choice(_ids(stored, tenant, "instances")))
        self._command(partial(commands.add_hold, tenant=tenant, ask=wanted))

    def _buy_and_copy(self) -> None:
        if self.rng.random() < 0.015:
            self._change_what_is_bought()
        if self.rng.random() < 0.03:
            self._ask_for_copy()

    def _change_what_is_bought(self) -> None:
        """Somebody ends, moves or brings back a tenant's add-on in the fleet file."""
        entry = self.rng.choice([entry for entry in _tenants() if _addon(entry)])
        if self.ledger.regions(entry.id, self.system.clock.now()) != {_addon(entry)["region"]}:
            self._apply(entry, _addon(entry))
            return
        today = self.system.clock.now().date()
        match self.rng.randrange(5):
            case 0:
                self._apply(entry, {**_addon(entry), "valid_until": today.isoformat()})
            case 1:
                self._apply(entry, {**_addon(entry), "valid_until": (today - timedelta(days=2)).isoformat()})
            case 2 if entry.id == "alpha":
                self._apply(entry, {**_addon(entry), "region": "europe-west4"})
            case _:
                self._apply(entry, None)

    def _settle_what_is_bought(self) -> None:
        """As the faults end, everything is bought again; in one seed of three one tenant's add-on has ended."""
        ended = self.rng.choice((None, None, self.rng.choice(("alpha", "gamma"))))
        for entry in _tenants():
            if _addon(entry):
                self._apply(entry, None if entry.id == ended else _addon(entry))

    def _apply(self, entry: fleet.Entry, addon: dict[str, Any] | None) -> None:
        """Apply the tenant's entry with another add-on (None: without), and accept what that gives up."""
        wanted = {**entry.normal, "entitlements": {"inter_region_backup": addon} if addon else {}}
        ask = commands.ApplyAsk(entry=wanted, dry_run=True)
        asked = commands.Asked(by="admin@vendor.example", key=f"dry-{self.asked}", sha256=str(self.asked))
        # A dry run: nothing is written.
        given = commands.apply_tenant(self.system.ports, asked, entry.id, ask).deletions
        ask = replace(ask, dry_run=False, accept_deletions=given)
        self._command(partial(commands.apply_tenant, tenant=entry.id, ask=ask))
        self._note_what_is_bought()

    def _note_what_is_bought(self) -> None:
        self.ledger.note(self.kept(), self.system.clock.now())

    def _ask_for_copy(self) -> None:
        """Somebody asks for a copy of a point, bought or not."""
        points = [(path, p) for path, p in self.kept().items() if p.get("stored_for") and p["state"] == "verified"]
        if points:
            path, point = self.rng.choice(points)
            tenant, wanted = path.split("/")[1], commands.CopyAsk(reason="before the audit")
            self._command(partial(commands.request_copy, tenant=tenant, point=point["id"], ask=wanted))

    def _copy_batch(self) -> bytes:
        """A message, perhaps an old one, that asks for copies of some points."""
        points = [path.split("/") for path, point in self.kept().items() if point.get("copies") and "slot" in point]
        chosen = self.rng.sample(points, min(len(points), 5))
        return encode(CopyBatch(points=[PointRef(parts[1], parts[3]) for parts in chosen]))

    def _pause(self) -> None:
        paused = self._paused()
        act = commands.resume if paused else commands.pause
        tenant = self.rng.choice(paused or (None, "alpha", "beta"))
        self._command(partial(act, what="deletion", reason="looking into it", tenant=tenant))

    def _paused(self) -> list[str | None]:
        """Where deletion is paused: tenants, and None for the fleet."""
        controls = self.inner.documents.get("system/controls")[0]
        if controls is None:
            return []
        deletion = controls.data["paused"]["deletion"]
        return [*deletion["tenants"], *([None] if deletion["fleet"] else [])]

    def _command(self, act: Callable[..., object]) -> None:
        """Someone asks for something; what he is refused, or the answer that he never gets, is his to deal with."""
        self.asked += 1
        asked = commands.Asked(by="admin@vendor.example", key=f"key-{self.asked}", sha256=str(self.asked))
        with suppress(commands.Clash, commands.Wrong, Transient, Conflict, Death):
            act(self.hostile("web"), asked)

    def _ask_on_demand(self) -> None:
        if self.rng.random() >= 0.03:
            return
        one = self.rng.choice(self.system.cloud.instances())
        self._ask_for(one.project, one.zone, one.name)

    def _ask_for(self, project: str, zone: str, name: str) -> None:
        key = f"request-{self.rng.randrange(40)}"
        tenant = next(t.id for t in _tenants() if t.normal["project"] == project)
        message = CreateRequested(
            id=key,
            tenant=tenant,
            claimed_actor="ci@vendor.example",
            reason="before import",
            data=CreateRequestedData(instance=name, zone=zone),
        )
        for _ in range(self.rng.randint(1, 3)):
            self.system.bus.publish("snapkeep-create", encode(message))


@cache
def _ticking(since: datetime, step: timedelta) -> tuple[str, ...]:
    """Topics of the functions that tick within this step, each once."""
    minutes = (since + timedelta(minutes=number + 1) for number in range(step // timedelta(minutes=1)))
    return tuple(dict.fromkeys(function.topic for at in minutes for function in schedule.ticking(at)))


@cache
def _tenants() -> tuple[fleet.Entry, ...]:
    return fleet.read(FLEET).valid


def _addon(entry: fleet.Entry) -> Any:
    """The add-on that the fleet file says; empty for a tenant that never bought it."""
    return entry.normal["entitlements"].get("inter_region_backup")


def _envelope(body: bytes) -> dict[str, Any]:
    return {"message": {"data": base64.b64encode(body).decode(), "messageId": "0"}, "subscription": "planted"}


class _Documents:
    def __init__(self, world: World, inner: Ports) -> None:
        self._world, self._inner = world, inner.documents

    def get(self, *paths: str) -> list[Doc | None]:
        self._world.before("get")
        found = self._inner.get(*paths)
        if "system/controls" in paths:
            trace, depth = self._world.trace, self._world.depth
            trace.looked[depth] = trace.next()
            controls = found[paths.index("system/controls")]
            trace.saw_paused[depth] = controls.data["paused"]["deletion"] if controls else {}
        return found

    def find(self, query: Query) -> list[Doc]:
        self._world.before("find")
        return self._inner.find(query)

    def commit(self, *writes: Write) -> None:
        self._world.before("commit")
        begins = [write for write in writes if _begun(write)]
        if begins:
            self._world.in_the_last_moment(begins[0].path)
        stored = self._world.kept() if begins else {}
        self._inner.commit(*writes)
        self._world.keep(writes)
        trace = self._world.trace
        trace.commits.append((trace.next(), writes))
        if stored:
            trace.begun[self._world.depth] = trace.order
        watch(self._world, writes, stored)
        self._world.after("commit")


class _Compute:
    def __init__(self, world: World, inner: Ports) -> None:
        self._world, self._inner = world, inner.compute

    def get(self, kind: type[R], link: str) -> R | None:
        self._world.before("compute.get")
        return self._inner.get(kind, link)

    def find(self, kind: type[R], project: str, where: str = "") -> Iterator[R]:
        self._world.before("compute.find")
        return self._inner.find(kind, project, where)

    def start(self, change: Change, request_id: str) -> str:
        self._world.before("compute.start")
        trace = self._world.trace
        trace.starts.append((trace.next(), change))
        if trace.requests.setdefault(request_id, change) != change:
            trace.broken.append(f"{change.name}: {change} is asked for as the same request as another")
        cloud, paused = self._world.system.cloud, trace.saw_paused.get(self._world.depth, {})
        match change:
            case DeleteSnapshot():
                stored = self._world.kept()
                trace.broken += keeping.of_call(stored, cloud, change.project, change.name, change.id, paused)
                if trace.looked[self._world.depth] < trace.begun[self._world.depth]:
                    trace.broken.append(f"{change.name} is asked to go, and nobody looked whether deletion is paused")
            case DeleteInstantSnapshot() | DeleteInstantSnapshotGroup() | DeleteDisk():
                trace.broken += copying.of_call(self._world.kept(), cloud, change, paused)
            case _:
                pass
        operation = self._inner.start(change, request_id)
        self._world.written(change)
        self._world.after("compute.start")
        return operation


class _Bus:
    def __init__(self, world: World, inner: Ports) -> None:
        self._world, self._inner = world, inner.bus

    def publish(self, topic: str, body: bytes) -> None:
        self._world.before("publish")
        self._inner.publish(topic, body)
        self._world.after("publish")


def watch(world: World, writes: tuple[Write, ...], before: dict[str, Any]) -> None:
    """Hold what is being committed against what the cloud holds at this very instant, and what was stored before it."""
    cloud, broken = world.system.cloud, world.trace.broken
    for write in writes:
        if write.path.split("/")[2:3] != ["points"]:
            continue
        tenant = write.path.split("/")[1]
        broken += judge.of_write(cloud, write.data)
        broken += copying.of_write(world.ledger, cloud, tenant, write.data)
        begun = _begun(write)
        new = begun - keeping.begun(before[write.path]) if begun else begun
        paused = world.trace.saw_paused.get(world.depth, {})
        for region in new:
            broken += keeping.of_beginning(before, tenant, write.data, region, paused, cloud.now)


def _begun(write: Write) -> set[str | None]:
    """The sets whose deletion has begun (now, or before) of the point that this writes, if it writes one."""
    return keeping.begun(write.data) if write.path.split("/")[2:3] == ["points"] else set()


def _ids(stored: dict[str, Any], tenant: str, collection: str) -> list[str]:
    return [path.split("/")[3] for path in stored if path.startswith(f"tenants/{tenant}/{collection}/")]

"""An instance with a point, and every effect of the functions that restore it: what may happen at one of them.

A scene can be saved before each delivery and resumed there, so that one history is played once and then again from just
before each of its effects, with something else happening at it.
"""

from __future__ import annotations

import base64
import json
import pickle
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, ClassVar, Final, Literal, TypeVar

from msgspec.structs import replace
from tests.faults import restored
from tests.faults.world import Death

from snapkeep import cloud, commands
from snapkeep import documents as d
from snapkeep.commands import Asked
from snapkeep.entry import ENTRIES
from snapkeep.messages import RestoreBatch, RestoreRef, encode
from snapkeep.ports import Conflict, Create, Data, Doc, Ports, Query, Replace, Transient, Write
from snapkeep.restore import commands as restores
from snapkeep.restore.planning import RestoreAsk
from snapkeep.restore.rules import LIVING
from snapkeep_local import schedule
from snapkeep_local.cloud import Cloud
from snapkeep_local.compute import LocalCompute
from snapkeep_local.declared import Declared
from snapkeep_local.errors import ApiError
from snapkeep_local.guests import CloudGuests
from snapkeep_local.limits import Limits
from snapkeep_local.memory import MemoryBus, MemoryDocuments

R = TypeVar("R", bound=cloud.Resource)

START: Final = datetime(2026, 11, 2, 12, 20, tzinfo=UTC)
MINUTE: Final = timedelta(minutes=1)
DAY: Final = timedelta(days=1)
ENDS_WITHIN: Final = timedelta(hours=4 + 4 + 24 + 24 + 6)
"""To be approved, to begin, to run, to be taken back; and pauses."""
TICKS_MAX: Final = 3000

PROJECT, VAULT = "acme-prod", "acme-vault"
REGION, ZONE, OTHER_ZONE, AWAY = "southamerica-east1", "southamerica-east1-a", "southamerica-east1-b", "us-east1"
QUIET: Final = f"projects/{PROJECT}/global/networks/quiet"
SOURCE: Final = f"projects/{PROJECT}/zones/{ZONE}/instances/app"
GENEROUS: Final = Limits(lists_per_minute=10**6, reads_per_minute=10**6, mutations_per_minute=10**6)

PAUSED: Final = ("restore", "deletion")

ANA, OTTO = "ana@vendor.example", "otto@vendor.example"
FUNCTIONS: Final = ("restore", "reconcile", "create", "copy", "restore_test")

Event = Literal[
    "death", "lost", "twin", "cancelled", "vanished", "pointed", "started", "stopped", "paused", "second", "forged",
    "replaced",
]  # fmt: skip
"""The process dies; the answer is lost; another run goes first; somebody cancels; a snapshot vanishes; a point is asked
for; somebody starts or stops the instance; pauses restores and deletions; asks for the same again; approves what he may
not; replaces a kept disk by another one of its name."""


class Documents(MemoryDocuments):
    """The same, but that it can be saved: its lock and its indexes are made anew."""

    def __getstate__(self) -> dict[str, Any]:
        return {name: self.__dict__[name] for name in ("_clock", "_stored", "_groups", "_commits", "_committed_at")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["_clock"])  # type: ignore[misc]  # what a new one has, before what was saved
        self.__dict__ |= state


@dataclass(slots=True)
class Trace:
    """What happened, in order."""

    records: list[dict[str, Any]] = field(default_factory=list)
    intended: dict[str, int] = field(default_factory=dict)  # by request id, the place of the record that tells of it
    requests: dict[str, cloud.Change] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)  # laws seen broken while it ran


class Meets:
    """What happens at each effect: nothing."""

    def before(self, scene: Scene, number: int, effect: str) -> None:
        """Raises Death, Transient."""

    def after(self, scene: Scene, number: int, effect: str) -> None:
        """Raises Death, Transient, Conflict."""


@dataclass
class Once(Meets):
    """Something happens at one effect."""

    number: int
    event: Event

    def before(self, scene: Scene, number: int, effect: str) -> None:
        if number != self.number:
            return
        match self.event:
            case "death":
                raise Death(effect)
            case "twin":
                scene.aside(scene.hand_over)
            case "cancelled":
                scene.aside(scene.cancel_all)
            case "vanished":
                scene.lose_snapshot()
            case "pointed":
                scene.aside(scene.ask_for_point)
            case "started" | "stopped":
                scene.touch(self.event, number)
            case "second":
                scene.aside(scene.ask_again)
            case "forged":
                scene.forge_approvals()
            case "replaced" if effect == "commit":  # what is read is asked for at once: nobody can look between
                scene.replace_kept()
            case "paused":
                scene.aside(partial(scene.pause, MINUTE * 40))
            case _:
                pass

    def after(self, scene: Scene, number: int, effect: str) -> None:
        if number == self.number and self.event == "lost":
            # Google's client retries a commit whose answer was lost, and meets its own write.
            raise Conflict("planted") if effect == "commit" and number % 2 else Transient(f"{effect}: answer lost")


class Scene:
    """Acme's instance `app` with a verified point, and all that was written to its disks since."""

    declared: ClassVar = Declared()  # of all scenes, and no part of what is saved of one

    def __init__(self) -> None:
        self.cloud = Cloud(1, START, GENEROUS)
        self.documents = Documents(self.now)
        self.bus = MemoryBus(self.now)
        self.trace = Trace()
        self.effects = 0  # of the functions, since the last `mark`
        self.meets = Meets()
        self.apart = 1  # above 0: nothing is counted, and nothing happens at it
        self.asked = 0
        self.kept: dict[str, Data] = {}  # by path, what was committed last
        self.goes_on_at: datetime | None = None  # what somebody has paused
        self.paused_at: int | None = None  # at which effect; None: nothing is paused
        self.touched = -1  # at which effect somebody started or stopped what is restored
        self.lost: set[str] = set()  # snapshots that vanished, links
        self.removed: set[str] = set()  # disks that somebody else has removed, by their ids
        self.foreign: dict[str, str] = {}  # what is not ours, and stays: link -> numeric id
        self.source = SOURCE
        self.before: dict[str, restored.Holding] = {}  # by restore, what the instance held when it was asked for
        for function in FUNCTIONS:
            self.bus.subscribe(f"snapkeep-{function.replace('_', '-')}", partial(self._deliver, function))
        self._build()
        self.apart = 0

    def _build(self) -> None:
        self._put("tenants/acme", _tenant())
        disks = [self.cloud.add_disk(project=PROJECT, zone=ZONE, name=name, content=f"{name} then", boot=name == "boot",
                                     labels={"of": name}) for name in ("boot", "data")]  # fmt: skip
        self.cloud.add_instance(
            project=PROJECT, zone=ZONE, name="app", disks=disks, labels={"env": "prod"}, tags=["web"],
            metadata={"enable-oslogin": "TRUE"},
        )  # fmt: skip
        self.cloud.add_firewall(project=PROJECT, name="nothing-out", network=QUIET, direction="EGRESS")
        found = self.machine(SOURCE)
        assert found is not None
        refs = [d.DiskRef(name=name, id=disk.id) for name, disk in self.disks_of(found).items()]
        self.instance_id = found.id
        instance = d.Instance(
            updated_at=START, id=found.id, seen_at=START, name="app", project=PROJECT, zone=ZONE, region=REGION,
            disks=refs,
        )  # fmt: skip
        self._put(f"tenants/acme/instances/{found.id}", instance)
        self.point = self.ask_for_point()
        self.settle()
        assert self.kept[f"tenants/acme/points/{self.point}"]["state"] == "verified"
        copies = self.kept[f"tenants/acme/points/{self.point}"]["copies"]
        assert copies[AWAY]["state"] == "verified", copies
        self.then = restored.contents(self.cloud, SOURCE)  # by device
        for link in [one.source for one in found.disks]:
            self.cloud.write(link, f"{link.rsplit('/', 1)[1]} now")
        self.snapshots = {one["selfLink"]: one["id"] for one in self.cloud.snapshots()}
        self.precious = {disk.id for disk in self.disks_of(found).values()}  # never lost
        self.untouched = restored.holding(self.cloud, self.source)

    # --- saved and resumed --------------------------------------------------------------------------------------

    def saved(self) -> bytes:
        return pickle.dumps(self, pickle.HIGHEST_PROTOCOL)

    @staticmethod
    def resumed(saved: bytes) -> Scene:
        scene: Scene = pickle.loads(saved)  # noqa: S301 - our own, of this very process
        return scene

    def mark(self) -> None:
        """From here on effects are counted."""
        self.effects = 0

    # --- ports ---------------------------------------------------------------------------------------------------

    def now(self) -> datetime:
        return self.cloud.now

    def token(self) -> str:
        return "0" * 16

    @property
    def ports(self) -> Ports:
        """Those of `web`: what people do goes through it."""
        return self.of("web")

    def of(self, function: str) -> Ports:
        """The ports with which a function can do what it declares."""
        compute = LocalCompute(self.cloud)
        bare = Ports(
            _Documents(self), _Compute(self, compute), _Bus(self), self, CloudGuests(self.cloud)
        )  # fmt: skip
        return self.declared.hold(function, bare)

    def _deliver(self, function: str, envelope: Any) -> None:
        ENTRIES[function](envelope, self.of(function))

    def meet(self, effect: str, act: Callable[[], Any]) -> Any:
        """Do something to the world, and whatever happens at it."""
        if self.apart:
            return act()
        number = self.effects
        self.effects += 1
        self.meets.before(self, number, effect)
        done = act()
        self.meets.after(self, number, effect)
        return done

    def aside(self, act: Callable[[], object]) -> None:
        """Somebody or something else goes first, from its start to its end; it may be refused or fail."""
        self.apart += 1
        with suppress(commands.Clash, commands.Wrong, Transient, Conflict):
            act()
        self.apart -= 1

    # --- what is there -------------------------------------------------------------------------------------------

    def machine(self, link: str) -> cloud.Instance | None:
        return LocalCompute(self.cloud).get(cloud.Instance, link)

    def disk(self, link: str) -> cloud.Disk | None:
        return LocalCompute(self.cloud).get(cloud.Disk, link)

    def id_of(self, link: str) -> str | None:
        """The numeric id of a disk or an instance; None: it is not there."""
        found = self.machine(link) if "/instances/" in link else self.disk(link)
        return found.id if found else None

    def disks_of(self, found: cloud.Instance) -> dict[str, cloud.Disk]:
        disks = [self.disk(one.source) for one in found.disks if one.persistent]
        return {one.name: one for one in disks if one is not None}

    def all_of(self, collection: str) -> dict[str, Data]:
        """Documents of a collection as they were committed last, by id."""
        return {path.split("/")[3]: data for path, data in self.kept.items() if path.split("/")[2:3] == [collection]}

    def living(self) -> list[str]:
        return [id for id, one in self.all_of("restores").items() if one["state"] in LIVING]

    def _put(self, path: str, value: d.Stored) -> None:
        (seen,) = self.documents.get(path)
        data = d.to_data(value)
        self.ports.documents.commit(Replace(path, data, seen.version) if seen else Create(path, data))

    def change(self, path: str, kind: type[d.Stored], **changes: Any) -> None:
        (seen,) = self.documents.get(path)
        assert seen is not None, path
        self.aside(lambda: self._put(path, replace(d.from_data(kind, seen.data), **changes)))

    # --- what people do ------------------------------------------------------------------------------------------

    def by(self, who: str, key: str | None = None) -> Asked:
        self.asked += 1
        key = key or f"key-{self.asked}"
        return Asked(by=who, key=key, sha256=f"{who}|{key}")

    def ask(self, mode: d.RestoreMode, **asked: Any) -> str:
        """A restore that Otto asks for; its id."""
        if mode == "new_instance":
            asked = {"name": "app-2", "waive_all": True} | asked
        ask = RestoreAsk(point=self.point, mode=mode, reason="r", **asked)
        return self._asked(restores.request(self.ports, self.by(OTTO), "acme", ask))

    def ask_undo(self, id: str) -> str:
        return self._asked(restores.undo(self.ports, self.by(OTTO), "acme", id, restores.UndoAsk(reason="r")))

    def _asked(self, answer: restores.RestoreAnswer) -> str:
        assert answer.restore is not None
        return answer.restore

    def approve(self, id: str, who: str = ANA, sha256: str | None = None, key: str | None = None) -> None:
        sha256 = sha256 or self.all_of("restores")[id]["request_sha256"]
        ask = restores.ApprovalAsk(request_sha256=sha256)
        restores.approve(self.ports, self.by(who, key), "acme", id, ask)

    def cancel(self, id: str) -> None:
        restores.cancel(self.ports, self.by(ANA), "acme", id, restores.CancelAsk(reason="not needed"))

    def cancel_all(self) -> None:
        for id in self.living():
            self.cancel(id)

    def touch(self, event: Event, number: int) -> None:
        """Somebody starts or stops what is restored, whatever is done to its disks."""
        self.touched = number
        for one in self.all_of("restores").values():
            to = one["target"]
            if one["state"] in LIVING and one["mode"] != "disks" and to["zone"] is not None:
                link = f"projects/{to['project']}/zones/{to['zone']}/instances/{to['name']}"
                with suppress(ApiError):
                    self.cloud.start_instance(link) if event == "started" else self.cloud.stop_instance(link)

    def ask_again(self) -> None:
        """Somebody else asks for the same at once, and has it approved."""
        for one in list(self.all_of("restores").values()):
            if one["state"] in LIVING and one["purpose"] != "test" and one["mode"] != "disks":
                new = one["mode"] == "new_instance"
                name, zone = one["target"]["name"], one["target"]["zone"]
                self.approve(self.ask(one["mode"], **({"name": name, "zone": zone} if new else {})))

    def forge_approvals(self) -> None:
        """Whoever may not approve tries to, and who may tries another hash."""
        for id in self.living():
            for who, sha256 in ((ANA, "0" * 64), (OTTO, None)):
                self.apart += 1
                with suppress(commands.Clash):
                    self.approve(id, who, sha256)
                    self.trace.broken.append(f"{id}: {who} has approved {sha256 or 'his own'}")
                self.apart -= 1

    def replace_kept(self) -> None:
        """Somebody deletes a disk that a restore keeps, and makes another of its name."""
        for one in self.all_of("restores").values():
            for former in one["former"]:
                link = f"projects/{former['project']}/{former['scope']}/disks/{former['name']}"
                found = self.disk(link)
                if former["status"] == "kept" and found and found.id == former["id"] and not found.users:
                    self.cloud.replace_disk(link)
                    self.removed.add(former["id"])
                    self.foreign[link] = self.id_of(link) or ""
                    return

    def take_label_off(self) -> None:
        """Somebody keeps a former disk by taking its labels off."""
        for one in self.all_of("restores").values():
            former = one["former"][0]
            link = f"projects/{former['project']}/{former['scope']}/disks/{former['name']}"
            self.cloud.set_disk_labels(link, {}, self.cloud.get("disks", link)["labelFingerprint"])
            self.foreign[link] = former["id"]

    def pause(self, duration: timedelta) -> None:
        """Somebody stops restores and deletions, and lets them go on after a while."""
        for what in PAUSED:
            commands.pause(self.ports, self.by(ANA), what=what, reason="r", tenant="acme")
        self.goes_on_at, self.paused_at = self.now() + duration, self.effects - 1

    def _go_on(self) -> None:
        for what in PAUSED:
            commands.resume(self.ports, self.by(ANA), what=what, reason="r", tenant="acme")
        self.goes_on_at = self.paused_at = None

    def ask_for_point(self) -> str:
        ask = commands.PointAsk(instance="app", zone=ZONE, reason="r")
        return commands.request_point(self.ports, self.by(ANA), "acme", ask).point

    def foreign_disk(self, name: str) -> None:
        """Somebody else's disk, where one of ours would go."""
        link = self.cloud.add_disk(project=PROJECT, zone=ZONE, name=name)
        self.foreign[link] = self.id_of(link) or ""

    def foreign_instance(self, name: str) -> None:
        link = self.cloud.add_instance(project=PROJECT, zone=ZONE, name=name)
        self.foreign[link] = self.id_of(link) or ""

    def lose_snapshot(self) -> None:
        """A snapshot that is restored from is deleted behind our back."""
        for one in self.all_of("restores").values():
            for disk in one["disks"] if one["state"] in LIVING else ():
                with suppress(ApiError):
                    self.cloud.remove_snapshot(disk["snapshot"])
                    self.lost.add(disk["snapshot"])
                    return

    # --- time ----------------------------------------------------------------------------------------------------

    def hand_over(self) -> None:
        """A run of `restore` for all that lives, from its start to its end."""
        refs = [RestoreRef("acme", id) for id in self.living()]
        if refs:
            self._deliver("restore", _envelope(encode(RestoreBatch(restores=refs))))

    def minute(self, at: datetime | None = None) -> Iterator[None]:
        """The next minute (or a later one), its tick and all messages; stands before each delivery."""
        self.cloud.advance(max(at or START, self.now() + MINUTE))
        if self.goes_on_at is not None and self.goes_on_at <= self.now():
            self.aside(self._go_on)
        self.bus.publish("snapkeep-reconcile", schedule.TICK)
        self.bus.publish("snapkeep-copy", schedule.TICK)
        while self.bus.pending() and (self.bus.next_due() or START) <= self.now():
            yield
            self.deliver()

    def deliver(self) -> None:
        try:
            delivery = self.bus.deliver_next()
            if delivery and delivery.fault and not isinstance(delivery.fault, Transient | Conflict):
                raise delivery.fault
        except Death:
            for message in self.bus.pending():
                self.bus.drop(message)  # the ticks alone find what is to be done

    def settle(self, watch: Callable[[], None] = lambda: None) -> None:
        """Go on until nothing lives; `watch` is called before each delivery."""
        end = self.now() + ENDS_WITHIN
        for _ in range(TICKS_MAX):
            due = self._next_due()
            if due is None:
                return
            if self.now() > end:
                break
            for _ in self.minute(due):
                watch()
        self.trace.broken.append(f"it never ends: {self.living()}")

    def wait(self, duration: timedelta, watch: Callable[[], None] = lambda: None) -> None:
        """Time goes by with the ticks at which something is due; `watch` is called before each delivery."""
        end = self.now() + duration
        while self.now() < end:
            ends = [one["next_at"] for one in self.all_of("restores").values() if one["next_at"]]
            for _ in self.minute(min([end, *ends])):
                watch()

    def _next_due(self) -> datetime | None:
        """When something that lives is to be looked at next; None: nothing does."""
        ends = [one["next_at"] for one in self.all_of("restores").values() if one["state"] in LIVING]
        for one in self.all_of("points").values():
            ends += [one["next_at"]] if one["state"] in ("requested", "creating") else []
            ends += [copy["next_at"] for copy in one["copies"].values() if copy["state"] in ("requested", "copying")]
        message = self.bus.next_due()
        return min((one for one in (*ends, message) if one is not None), default=None)


def _tenant() -> d.Tenant:
    bought = d.Entitlements(
        inter_region_backup=d.InterRegionBackup(region=AWAY, valid_until="2027-12-31"),
        multi_region_dr=d.MultiRegionDr(region=AWAY, valid_until="2027-12-31"),
    )
    return d.Tenant(
        updated_at=START, id="acme", name="Acme", project=PROJECT, vault_project=VAULT, timezone="UTC",
        instances=d.Selected(by_name=[d.ByName(name="app", zone=ZONE)]), applied_at=START, applied_by="operator:test",
        entitlements=bought, recovery=d.Recovery(network=f"projects/{PROJECT}/global/networks/recovery"),
        restore_test=d.RestoreTest(every_days=30, network=QUIET), probe=d.Probe(kind="tcp", port=443),
    )  # fmt: skip


def _envelope(body: bytes) -> dict[str, Any]:
    return {"message": {"data": base64.b64encode(body).decode(), "messageId": "0"}, "subscription": "planted"}


class _Documents:
    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    def get(self, *paths: str) -> list[Doc | None]:
        return self._scene.documents.get(*paths)

    def find(self, query: Query) -> list[Doc]:
        return self._scene.documents.find(query)

    def commit(self, *writes: Write) -> None:
        scene = self._scene
        if all(write.path.startswith("system/tick") for write in writes):
            scene.documents.commit(*writes)
            return
        scene.meet("commit", partial(self._commit, *writes))

    def _commit(self, *writes: Write) -> None:
        scene = self._scene
        scene.documents.commit(*writes)
        before = dict(scene.kept)
        scene.kept |= {write.path: write.data for write in writes}
        for write in writes:
            if "/inbox/" in write.path:
                record = json.loads(write.data["bytes"])
                scene.trace.records.append(record)
                for change in record["detail"].get("changes", ()):
                    restored.of_intent(scene, record, change)
        restored.of_commit(scene, before, writes)


class _Compute:
    def __init__(self, scene: Scene, inner: LocalCompute) -> None:
        self._scene, self._inner = scene, inner

    def get(self, kind: type[R], link: str) -> R | None:
        return self._inner.get(kind, link)

    def find(self, kind: type[R], project: str, where: str = "") -> Iterator[R]:
        return self._inner.find(kind, project, where)

    def start(self, change: cloud.Change, request_id: str) -> str:
        answer: str = self._scene.meet("start", partial(self._start, change, request_id))
        return answer

    def _start(self, change: cloud.Change, request_id: str) -> str:
        restored.of_call(self._scene, change, request_id)
        answer = self._inner.start(change, request_id)
        restored.after_call(self._scene, change)
        return answer


class _Bus:
    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    def publish(self, topic: str, body: bytes) -> None:
        self._scene.meet("publish", partial(self._scene.bus.publish, topic, body))

"""A Snapkeep on the state machine of the cloud, of which creation alone runs, for points that are of one moment."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

from msgspec.structs import replace
from tests.makers import PROJECT, REGION, THEN, ZONE, World, owner_due, tenant

from snapkeep import documents as d
from snapkeep.cloud import Change, partial_link
from snapkeep.creation import handler, rules
from snapkeep.ports import Compute, Doc, Documents, Ports, Query, R, Write
from snapkeep.store import Fleet, readable
from snapkeep_local.cloud import Cloud
from snapkeep_local.compute import LocalCompute
from snapkeep_local.faults import Effect, Fault

SECOND = "us-east1"
BOUGHT = d.Entitlements(inter_region_backup=d.InterRegionBackup(region=SECOND, valid_until="2030-12-31"))
MINUTE = timedelta(minutes=1)
VM = f"projects/{PROJECT}/zones/{ZONE}/instances/acme-pam-1"
POLICY = "acme-pam-1-disks"

Meets = Callable[[str], None]


class Death(BaseException):
    """The process ends here."""


class WatchedCompute:
    """A Compute that tells of each change before and after it is asked for."""

    def __init__(self, inner: Compute) -> None:
        self.inner = inner
        self.started: list[Change] = []
        self.before: Callable[[Change], None] = lambda change: None
        self.effect: Meets = lambda what: None

    def get(self, kind: type[R], link: str) -> R | None:
        return self.inner.get(kind, link)

    def find(self, kind: type[R], project: str, where: str = "") -> Iterator[R]:
        return self.inner.find(kind, project, where)

    def start(self, change: Change, request_id: str) -> str:
        self.before(change)
        self.effect("start")
        self.started.append(change)
        answer = self.inner.start(change, request_id)
        self.effect("started")
        return answer


class WatchedDocuments:
    """Documents that tell of each commit before and after it."""

    def __init__(self, inner: Documents) -> None:
        self.inner = inner
        self.effect: Meets = lambda what: None

    def get(self, *paths: str) -> list[Doc | None]:
        return self.inner.get(*paths)

    def find(self, query: Query) -> list[Doc]:
        return self.inner.find(query)

    def commit(self, *writes: Write) -> None:
        self.effect("commit")
        self.inner.commit(*writes)
        self.effect("committed")


class Scene(World):
    """One tenant with one instance of two disks, discovered."""

    def __init__(self, *, seed: int = 1, kinds: tuple[str, str] = ("pd-balanced", "pd-balanced"), **of: Any) -> None:
        super().__init__()
        self.hinted: Counter[str] = Counter()  # messages by their topic, all of which were lost
        self.cloud = Cloud(seed, THEN)
        self.watched = WatchedCompute(LocalCompute(self.cloud))
        self.documents = self.watched_documents = WatchedDocuments(self.memory)
        names = ("acme-pam-1-boot", "acme-pam-1-data")
        self.disks = [
            self.cloud.add_disk(
                project=PROJECT, zone=ZONE, name=name, type=kind, size_gb=20, boot=name.endswith("boot")
            )
            for name, kind in zip(names, kinds, strict=True)
        ]
        self.cloud.add_instance(project=PROJECT, zone=ZONE, name="acme-pam-1", disks=self.disks)
        self.policy = self.cloud.add_policy(project=PROJECT, region=REGION, name=POLICY)
        for disk in self.disks:
            self.cloud.attach_policy(disk, self.policy)
        owner = tenant(timezone="UTC", **of)
        self.put((f"tenants/{owner.id}", owner_due(owner, self.clock.now())))
        self.tick("discover")
        self.lose_messages()

    @property
    def bare(self) -> Ports:
        return Ports(self.documents, self.watched, self.bus, self.clock)

    def fault(self, effect: Effect, method: str = "*", resource: str = "", count: int | None = None) -> int:
        return self.cloud.add_fault(Fault(effect=effect, method=method, resource=resource, count=count))

    def pause(self, **kinds: d.Paused) -> None:
        controls = d.Controls(updated_at=self.clock.now(), paused=d.PausedKinds(**kinds))
        self.put(("system/controls", controls))

    # What happens.

    def lose_messages(self) -> None:
        self.hinted.update(message.topic for message in self.bus.pending())
        super().lose_messages()

    def ask(self, id: str = "r-1") -> None:
        """Somebody asks for a point, which is begun at once."""
        body = {
            "schema": 1, "type": "create.requested", "id": id, "tenant": "acme", "claimed_actor": "ci@vendor.example",
            "reason": "before import", "data": {"instance": "acme-pam-1"},
        }  # fmt: skip
        self.hand("create", json.dumps(body).encode())
        self.lose_messages()

    def look(self) -> None:
        """What `reconcile` hands to creation."""
        now = self.clock.now()
        due = list(readable(d.Point, Fleet(self.memory).due("points", now)))
        mine = [point for point in due if point.value.state in rules.LIVING or _moment_is_due(point.value, now)]
        handler.advance(mine, self.of("reconcile"))
        self.lose_messages()

    def minutes(self, count: float, *, until: Callable[[], bool] = lambda: False) -> None:
        """So many minutes pass, with a look in each, or fewer: until this is so."""
        for _ in range(int(count)):
            if until():
                return
            self.let_pass(MINUTE)
            self.look()

    def let_pass(self, duration: timedelta) -> None:
        self.clock.at += duration
        self.cloud.advance(self.clock.at)

    def finish(self) -> d.Point:
        """Let the point come to its own end."""
        self.minutes(13 * 60, until=lambda: self.the_point().state not in rules.LIVING)
        return self.the_point()

    def copies_end(self) -> None:
        """What `copies` leaves when the copies are verified: nobody needs the moment any more."""
        (point,) = self.points()
        assert point.moment is not None
        at = self.clock.now()
        copies = {region: replace(copy, state="verified", next_at=None) for region, copy in point.copies.items()}
        moment = replace(point.moment, state="releasing", next_at=at)
        after = replace(point, copies=copies, moment=moment, next_at=at)
        self.put((f"tenants/acme/points/{point.id}", after))

    def lose_instants(self) -> None:
        """Somebody else deletes the instant snapshots."""
        for held in self.cloud.instant_snapshots():
            self.cloud.delete_instant_snapshot(partial_link(held["selfLink"]))
        self.let_pass(timedelta(seconds=10))

    def calm(self) -> None:
        """Nothing goes wrong any more, and what was slow comes to its end, until nothing is left of the moment."""
        self.cloud.clear_faults()
        self.minutes(24 * 60, until=lambda: self.moment_is("released"))

    # What there is.

    @property
    def asked(self) -> Counter[str]:
        return Counter(type(change).__name__ for change in self.watched.started)

    @property
    def moment(self) -> d.Moment:
        moment = self.the_point().moment
        assert moment is not None
        return moment

    def moment_is(self, state: str) -> bool:
        return self.moment.state == state

    def contents(self) -> list[str]:
        """What the disks hold now."""
        return [self.cloud.content(disk) for disk in self.disks]

    def held(self) -> list[str]:
        """What the snapshots of the point hold."""
        return [
            self.cloud.content(f"projects/{PROJECT}/global/snapshots/{s.snapshot.name}") for s in self.the_point().disks
        ]

    def write(self, content: str) -> None:
        """Something else stands on each disk from now on."""
        for disk in self.disks:
            self.cloud.write(disk, f"{content} {disk[-4:]}")

    def left(self) -> list[str]:
        """Names of the instant snapshots and groups that are there."""
        found = [*self.cloud.instant_snapshots(), *self.cloud.instant_snapshot_groups()]
        return sorted(one["name"] for one in found)

    def settled(self) -> None:
        """Every change that was asked for has its intent and, now that all is over, exactly one outcome."""
        intents: Counter[tuple[str, int]] = Counter()
        outcomes: Counter[tuple[str, int]] = Counter()
        for record in self.records():
            intents.update((c["name"], c.get("attempt", 0)) for c in record["detail"].get("changes", []))
            outcomes.update((o["name"], o.get("attempt", 0)) for o in record["detail"].get("outcomes", []))
        assert outcomes == intents
        assert set(intents.values()) <= {1}
        asked = {(change.name, getattr(change, "attempt", 0)) for change in self.watched.started}
        assert asked <= set(intents)

    def failure(self) -> d.Failure:
        failure = self.the_point().failure
        assert failure is not None
        return failure


def _moment_is_due(point: d.Point, now: datetime) -> bool:
    return point.moment is not None and point.moment.next_at is not None and point.moment.next_at <= now

"""A tenant that has bought copies, its verified points in the local cloud, and the functions that copy them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any, Final

from msgspec.structs import replace
from tests.makers import FUNCTIONS, TICK, envelope
from tests.retention.scene import NOW, POLICY, PROJECT, REGION, VAULT, ZONE, Death, Scene

from snapkeep import cloud
from snapkeep import documents as d
from snapkeep.copies import rules, sets, tries

AWAY: Final = "us-east1"
MINUTE: Final = timedelta(minutes=1)
HOUR: Final = timedelta(hours=1)

UNENDING: Final = timedelta(days=3)
"""What nothing here takes as long as."""


def bought(until: str = "2027-12-31", **retention: int) -> d.Entitlements:
    policy = d.CopyRetention(**retention)
    return d.Entitlements(inter_region_backup=d.InterRegionBackup(region=AWAY, valid_until=until, retention=policy))


class Copying(Scene):
    """`reconcile` ticks every minute, `entitlements` every hour; nothing else happens by itself."""

    def __init__(self, **of_tenant: Any) -> None:
        super().__init__(POLICY, **{"entitlements": bought(), "entitlements_at": NOW} | of_tenant)
        for function in set(FUNCTIONS) - {"retention", "expire", "audit", "health"}:
            self.bus.subscribe(f"snapkeep-{function.replace('_', '-')}", partial(self.receive, function))

    # --- points -------------------------------------------------------------------------------------------------

    def take_whole(self, *, disks: int = 2, moment: bool = False, **changes: Any) -> str:
        """A verified point whose snapshots were made of the disks, or of a `moment` of them that is held; its id.

        The disks go on being written to.
        """
        links = [self._disk(number) for number in range(disks)]
        for link in links:
            self.cloud.write(link, f"{link} at {self.cloud.now}")
        instants = [self._instant_of(link) for link in links] if moment else []
        id = self.take(disks=disks, made=False)
        before = self.point(id)
        for number, disk in enumerate(before.disks):
            source = instants[number].link if moment else None
            name, labels = disk.snapshot.name, tries.labels("acme", before, "home")
            self._make(cloud.InsertSnapshot(VAULT, name, links[number], REGION, labels, source_instant=source))
        self.rewrite()
        self.cloud.advance(self.cloud.now + HOUR)
        refs = [self._read(disk.snapshot) for disk in before.disks]
        if moment:
            refs = [replace(ref, created_at=one.created_at) for ref, one in zip(refs, instants, strict=True)]
        now = self.cloud.now
        after = replace(before, disks=[replace(x, snapshot=r) for x, r in zip(before.disks, refs, strict=True)])
        if moment:
            held = [d.InstantRef(disk=i.source_disk_id, scope=i.scope, name=i.name, id=i.id, status="READY",
                                 created_at=i.created_at) for i in instants]  # fmt: skip
            copies = rules.first_copies(before, self.read(d.Tenant), before.requested_at)
            after = replace(after, copies=copies, moment=d.Moment(state="taken", instants=held))
            after = rules.home_verified(after, now)
        self.put(f"tenants/acme/points/{id}", replace(after, verified_at=now, **changes))
        return id

    def _disk(self, number: int) -> str:
        link = f"projects/{PROJECT}/zones/{ZONE}/disks/disk-{number}"
        if not any(disk["selfLink"].endswith(link) for disk in self.disks):
            self.cloud.add_disk(project=PROJECT, zone=ZONE, name=f"disk-{number}")
            self._disks = None
        return link

    def _make(self, change: cloud.Insert) -> None:
        self.compute.start(change, cloud.request_id(change))

    def _instant_of(self, disk: str) -> cloud.InstantSnapshot:
        name = f"i{self.taken}-{disk.rsplit('/', 1)[1]}"
        change = cloud.InsertInstantSnapshot(PROJECT, f"zones/{ZONE}", name, disk, {})
        self._make(change)
        self.cloud.advance(self.cloud.now + 2 * MINUTE)
        found = self.compute.get(cloud.InstantSnapshot, change.link)
        assert found is not None
        assert found.status == "READY"
        return found

    def _read(self, ref: d.SnapshotRef) -> d.SnapshotRef:
        found = self.snapshot(ref.name)
        assert found is not None
        assert found.status == "READY"
        return replace(ref, id=found.id, status="READY", bytes=found.bytes, created_at=found.created_at)

    def rewrite(self) -> None:
        """The machine goes on: its disks hold something else from now on."""
        for disk in self.disks:
            self.cloud.write(cloud.partial_link(disk["selfLink"]), "later")

    def copy_of(self, point: str, region: str = AWAY) -> d.Copy:
        return self.point(point).copies[region]

    def state(self, point: str) -> str | None:
        """Of its copy; None: it has none."""
        copy = self.point(point).copies.get(AWAY)
        return copy.state if copy else None

    def failure(self, point: str) -> str | None:
        failure = self.copy_of(point).failure
        return failure.code if failure else None

    def ask(self, point: str) -> None:
        """Somebody asks for a copy of this point."""
        copy = sets.asked_for(None, by="anna", reason="a test", lock_days=0, now=self.cloud.now)
        self.change(d.Point, "points", point, copies={AWAY: copy}, next_at=self.cloud.now)

    # --- what the cloud holds -----------------------------------------------------------------------------------

    def contents(self, point: str, region: str | None = None) -> list[str]:
        """What the snapshots of one set hold, by disk."""
        one = self.point(point)
        refs = [disk.snapshot for disk in (one.copies[region].disks if region else one.disks)]
        return [self.cloud.content(cloud.snapshot_link(ref.project, ref.name)) for ref in refs]

    def temporaries(self) -> list[str]:
        """Names of disks in the cloud that only copies need."""
        return [disk["name"] for disk in self.cloud.disks() if "snapkeep-role" in disk.get("labels", {})]

    def regions(self) -> set[str]:
        """Where there are snapshots."""
        return {region for one in self.cloud.snapshots() for region in one["storageLocations"]}

    # --- what happens -------------------------------------------------------------------------------------------

    def pass_minute(self) -> None:
        self.cloud.advance(self.cloud.now + MINUTE)

    def tick_of(self, function: str) -> None:
        self.receive(function, envelope(TICK))

    def minute(self) -> None:
        """A minute passes, with its ticks and all messages."""
        self.pass_minute()
        self.tick_of("reconcile")
        if self.cloud.now.minute == 17:
            self.tick_of("entitlements")
        self.deliver()

    def run(self, duration: timedelta) -> None:
        end = self.cloud.now + duration
        while self.cloud.now < end:
            self.minute()

    def run_until(self, done: Callable[[], bool], at_most: timedelta = 3 * HOUR) -> None:
        end = self.cloud.now + at_most
        while not done():
            assert self.cloud.now < end, "it takes too long"
            self.minute()

    def settled(self, point: str) -> bool:
        """Whether nothing of the point's copy is left to do."""
        copy = self.point(point).copies.get(AWAY)
        return copy is not None and copy.state in ("verified", "failed") and copy.next_at is None

    def die_at(self, number: int, when: str) -> None:
        """The process dies right before, or right after, the so-many-th thing that it does to the world."""
        count = 0

        def met(effect: str) -> None:
            nonlocal count
            if effect.startswith(("commit", "start", "publish")):
                count += 1
                if count == number:
                    raise Death

        setattr(self.effects, when, met)

    def outlive(self, act: Callable[[], None]) -> bool:
        """Do this; True if the process died of it, after which it lives again."""
        try:
            act()
        except Death:
            self.effects.before = self.effects.after = lambda effect: None
            return True
        return False

    def pause(self, **kinds: d.Paused) -> None:
        self.put("system/controls", d.Controls(updated_at=self.cloud.now, paused=d.PausedKinds(**kinds)))

    # --- what is written down -----------------------------------------------------------------------------------

    def told(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events() if event["type"] == kind]

    def asked(self, role: str) -> list[str]:
        """Names of what was asked for with this role, or to go (`DeleteDisk`), in order."""
        changes = [change for record in self.records() for change in record["detail"].get("changes", [])]
        return [c["name"] for c in changes if c.get("labels", {}).get("snapkeep-role", c["change"]) == role]

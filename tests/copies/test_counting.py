"""What an instance says of its copies is at any time what a recount of its points finds, whatever has happened."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from random import Random

import pytest
from tests.copies.scene import AWAY, HOUR, Copying, bought
from tests.retention.scene import DAY, INSTANCE_ID, VAULT

from snapkeep import cloud, commands
from snapkeep import documents as d
from snapkeep.commands import Asked, Clash, CopyAsk, HoldAsk, Wrong
from snapkeep.copies import wanted
from snapkeep.store import TenantStore

FEW = bought(keep_last=2, keep_daily=2, keep_weekly=0, lock_days=0)
STEPS = 30
ACTS = ("take", "take", "wait", "wait", "wait", "ask", "hold", "lose", "end", "return")


class Life(Copying):
    """What may happen to a tenant's copies, in an order that a seed tells."""

    def __init__(self, seed: int) -> None:
        super().__init__(entitlements=FEW)
        self.random = Random(seed)  # noqa: S311 - seeded, for no secret
        self.ids: list[str] = []
        self.change(d.Tenant, retention=d.Retention(keep_last=3, keep_daily=3, lock_days=0))

    def happens(self, number: int) -> str:
        act = self.random.choice(ACTS) if self.ids else "take"
        id = self.random.choice(self.ids or [""])
        by = Asked(by="anna@vendor.example", key=str(number), sha256=str(number))
        match act:
            case "take":
                buys = self.read(d.Tenant).entitlements.inter_region_backup is not None
                moment = buys and self.random.random() < 0.5
                self.ids.append(self.take_whole(disks=self.random.randint(1, 3), moment=moment))
                self.weighed()  # the scene's points are counted by nobody else
            case "wait":
                self.pass_time(self.random.choice([HOUR, 6 * HOUR, DAY, 2 * DAY]))
            case "ask":
                with suppress(Clash):
                    commands.request_copy(self.ports, by, "acme", id, CopyAsk(reason="a test"))
            case "hold":
                until = self.cloud.now + DAY
                with suppress(Clash, Wrong):
                    commands.add_hold(self.ports, by, "acme", HoldAsk(point=id, copy=AWAY, reason="a", until=until))
            case "lose":
                there = [name for name in self.copy_names(id, AWAY) if self.snapshot(name)] if self.state(id) else []
                for name in there[:1]:
                    self.cloud.remove_snapshot(f"projects/{VAULT}/global/snapshots/{name}")
            case "end":
                self.weighed(entitlements=d.Entitlements())
            case "return":
                self.weighed(entitlements=FEW)
        self.deliver()
        return act

    def rewrite(self) -> None:
        """The machine writes to its own disks; those that are copied from come and go."""
        for disk in self.disks:
            if disk["name"].startswith("disk-"):
                self.cloud.write(cloud.partial_link(disk["selfLink"]), "later")

    def weighed(self, **changes: object) -> None:
        self.change(d.Tenant, **changes, entitlements_at=self.cloud.now)
        self.tick_of("entitlements")

    def pass_time(self, duration: timedelta) -> None:
        end = self.cloud.now + duration
        while self.cloud.now < end:
            self.cloud.advance(self.cloud.now + timedelta(minutes=self.random.choice([1, 2, 40])))
            self.tick_of("reconcile")
            self.tick()

    def recount(self) -> d.CopyWork:
        points = [one.value for one in TenantStore(self.memory, "acme").walk(d.Point, "instance_points", INSTANCE_ID)]
        return wanted.weigh(points, self.instance, self.read(d.Tenant), self.cloud.now).work


def shown(work: d.CopyWork) -> tuple[object, ...]:
    """All but `missing`, which follows from what the policy wants and is known by recounting alone."""
    newest = {region: one.point for region, one in work.newest.items()}
    return work.verified, work.waiting, work.lagging, work.unentitled, work.bytes, newest


@pytest.mark.parametrize("seed", range(6))
def test_an_instances_copies_are_counted_as_a_recount_finds_them(seed: int) -> None:
    life = Life(seed)
    for number in range(STEPS):
        act = life.happens(number)
        assert shown(life.instance.copies) == shown(life.recount()), (number, act)
    life.weighed()
    assert life.instance.copies == life.recount()

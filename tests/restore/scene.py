"""An instance in the local cloud with a verified point, and the functions that restore it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace as replaced
from datetime import timedelta
from functools import partial
from typing import Any, Final

from msgspec.structs import replace
from tests.copies.scene import AWAY, HOUR, MINUTE, bought
from tests.makers import FUNCTIONS, TICK, envelope
from tests.retention.scene import PROJECT, REGION, ZONE, Death, Scene

from snapkeep import cloud
from snapkeep import documents as d
from snapkeep.creation import rules as creation
from snapkeep.messages import RestoreBatch, RestoreRef, encode
from snapkeep.ports import Ports
from snapkeep.restore import planning, rules
from snapkeep.store import TenantStore, created
from snapkeep_local.guests import CloudGuests

PROBE: Final = d.Probe(kind="tcp", port=443)
NETWORK: Final = f"projects/{PROJECT}/global/networks/quiet"
OTHER_ZONE: Final = f"{REGION}-b"

__all__ = ["AWAY", "HOUR", "MINUTE", "NETWORK", "OTHER_ZONE", "PROJECT", "REGION", "ZONE", "Restoring", "bought"]


class Restoring(Scene):
    """`reconcile` ticks every minute; nothing else happens by itself but what messages ask for."""

    def __init__(self, **of_tenant: Any) -> None:
        super().__init__(**{"probe": PROBE} | of_tenant)
        for function in set(FUNCTIONS) - {"retention", "expire", "audit", "health", "discover"}:
            self.bus.subscribe(f"snapkeep-{function.replace('_', '-')}", partial(self.receive, function))
        self.machine_link = self._add_machine()
        self.point_id = self._take()
        for link in self.attached():
            self.cloud.write(link, f"later {link}")
        self.number = 0

    @property
    def bare(self) -> Ports:
        return replaced(super().bare, guests=CloudGuests(self.cloud))

    def _add_machine(self) -> str:
        disks = [self.cloud.add_disk(project=PROJECT, zone=ZONE, name=name, content=name, labels={"of": name},
                                     boot=name == "boot") for name in ("boot", "data", "logs")]  # fmt: skip
        link = self.cloud.add_instance(
            project=PROJECT, zone=ZONE, name="app", disks=disks, labels={"env": "prod"}, tags=["web"],
            metadata={"enable-oslogin": "TRUE", "startup-script": "echo hello"},
        )  # fmt: skip
        found = self.compute.get(cloud.Instance, link)
        assert found is not None
        refs = []
        for one in found.disks:
            disk = self.compute.get(cloud.Disk, one.source)
            assert disk is not None
            refs.append(d.DiskRef(name=disk.name, id=disk.id))
        self.machine_id = found.id
        self.add_instance(found.id, disks=refs)
        return link

    def _take(self) -> str:
        """A verified point of the machine, by the functions that take one."""
        store = TenantStore(self.memory, "acme")
        held = self.held(d.Instance, "instances", self.machine_id)
        owner = self.read(d.Tenant)
        point = creation.on_demand_point(owner, held.value, "a-test", "anna", "a test", self.cloud.now)
        after = creation.after_transition(held.value, owner, None, point)
        self.memory.commit(created(store.path("points", point.id), point), held.replaced(after))
        self.run_until(lambda: self.point(point.id).state == "verified")
        return point.id

    # --- restores -----------------------------------------------------------------------------------------------

    def ask(self, mode: d.RestoreMode, **asked: Any) -> str:
        """A restore that was asked for, and approved where it needs to be; its id."""
        self.number += 1
        now = self.cloud.now
        if mode == "new_instance":
            asked = {"name": "app-2", "waive_all": True} | asked
        ask = planning.RestoreAsk(point=self.point_id, mode=mode, reason="a test", **asked)
        plan = planning.plan(
            ask, self.read(d.Tenant), self.read(d.Instance, "instances", self.machine_id), self.point(self.point_id),
            [], now, by="anna", act=f"request {self.number}",
        )  # fmt: skip
        return self.store_asked(plan.restore, dict(plan.supplied))

    def ask_undo(self, id: str) -> str:
        self.number += 1
        plan = planning.undo_plan(
            self.restore(id), self.read(d.Tenant), "it was wrong", [], self.cloud.now, by="anna", act=str(self.number)
        )
        return self.store_asked(plan.restore, {})

    def store_asked(self, restore: d.Restore, supplied: dict[str, str]) -> str:
        """What the request and the approval write, which are tried where they are."""
        now = self.cloud.now
        approved = replace(restore, state="approved", approved_at=now, start_by=now + rules.BEGIN_WITHIN, next_at=now)
        self.put(f"tenants/acme/restores/{restore.id}", approved)
        link = rules.claimed(restore)
        if link is not None:
            claim = d.RestoreClaim(updated_at=now, instance=link, restore=restore.id)
            self.put(f"tenants/acme/restore_claims/{rules.claim_id(link)}", claim)
        values = d.Supplied(updated_at=now, values=supplied, expire_at=now + 48 * HOUR)
        self.put(f"tenants/acme/supplied/{restore.id}", values)
        return restore.id

    def ask_test(self) -> str:
        now = self.cloud.now
        id = rules.restore_id(now, "new_instance", "test", "app", str(self.number))
        restore = planning.test_of(self.read(d.Tenant), self.point(self.point_id), None, id, now)
        assert isinstance(restore, d.Restore), restore
        return self.store_asked(restore, {})

    def restore(self, id: str) -> d.Restore:
        return self.read(d.Restore, "restores", id)

    def is_over(self, id: str) -> bool:
        return self.restore(id).state not in rules.LIVING

    def finish(self, id: str, at_most: timedelta = 6 * HOUR) -> d.Restore:
        self.run_until(lambda: self.is_over(id), at_most)
        return self.restore(id)

    def cancel(self, id: str) -> None:
        held = self.held(d.Restore, "restores", id)
        why = d.Failure(code="cancelled", message="bruno: not needed")
        self.memory.commit(held.replaced(rules.abandon(held.value, "cancelled", "bruno", why, self.cloud.now)))

    def hand_restore(self, *ids: str) -> None:
        body = encode(RestoreBatch(restores=[RestoreRef("acme", id) for id in ids]))
        self.receive("restore", envelope(body))

    # --- what the cloud holds -----------------------------------------------------------------------------------

    def machine(self, name: str = "app", zone: str = ZONE) -> cloud.Instance | None:
        return self.compute.get(cloud.Instance, cloud.link_of(PROJECT, f"zones/{zone}", "instances", name))

    def attached(self, name: str = "app", zone: str = ZONE) -> list[str]:
        found = self.machine(name, zone)
        assert found is not None
        return [one.source for one in found.disks]

    def contents(self, name: str = "app", zone: str = ZONE) -> dict[str, str]:
        """What the disks of an instance hold, by device."""
        found = self.machine(name, zone)
        assert found is not None
        return {one.device_name: self.cloud.content(one.source) for one in found.disks}

    def disk(self, link: str) -> cloud.Disk | None:
        return self.compute.get(cloud.Disk, link)

    def names(self, prefix: str = "") -> list[str]:
        """Names of all disks in the cloud that begin so."""
        return sorted(one["name"] for one in self.cloud.disks() if one["name"].startswith(prefix))

    def machines(self) -> list[str]:
        return sorted(one.name for one in self.cloud.instances())

    # --- what happens -------------------------------------------------------------------------------------------

    def minute(self) -> None:
        """A minute passes, with its tick and all messages."""
        self.cloud.advance(self.cloud.now + MINUTE)
        self.receive("reconcile", envelope(TICK))
        self.deliver()

    def run(self, duration: timedelta, step: timedelta = MINUTE) -> None:
        end = self.cloud.now + duration
        while self.cloud.now < end:
            self.cloud.advance(self.cloud.now + step - MINUTE)
            self.minute()

    def run_until(self, done: Callable[[], bool], at_most: timedelta = 3 * HOUR) -> None:
        end = self.cloud.now + at_most
        while not done():
            assert self.cloud.now < end, "it takes too long"
            self.minute()

    def pause(self, **kinds: d.Paused) -> None:
        self.put("system/controls", d.Controls(updated_at=self.cloud.now, paused=d.PausedKinds(**kinds)))

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

    # --- what is written down -----------------------------------------------------------------------------------

    def claims(self) -> list[str]:
        """The restores that have a claim now."""
        dump = self.memory.dump()
        return [data["restore"] for path, data in dump.items() if "/restore_claims/" in path and data["restore"]]

    def requests(self) -> list[str]:
        """Ids of all requests that records tell of having been asked for."""
        return [change["request_id"] for r in self.records() for change in r["detail"].get("changes", [])
                if r["action"].startswith("restore.")]  # fmt: skip

    def ended_requests(self) -> list[str]:
        return [one["request_id"] for r in self.records() for one in r["detail"].get("outcomes", [])
                if r["action"].startswith("restore.")]  # fmt: skip

    def told(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events() if event["type"] == kind]

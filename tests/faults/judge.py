"""What must hold when the faults have stopped, judged against the state machine and the trace, not our own word.

Each finding is a sentence. No finding: the seed passes.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace
from tests.faults import copying, keeping

from snapkeep import documents as d
from snapkeep.audit import chain
from snapkeep.cloud import region_of, snapshot_link
from snapkeep.creation.rules import after_transition, taken_at
from snapkeep.creation.slots import slot_of
from snapkeep.ports import Create
from snapkeep_local.cloud import Cloud

if TYPE_CHECKING:
    from tests.faults.world import World

FINAL = ("verified", "failed", "missed")
STORED = ("expiring", "deleted")
"""States after the final one: what the point was by then stands in its `expiry`."""


def final_state(point: Mapping[str, Any]) -> str:
    """What a point's creation ended as."""
    state: str = point["expiry"]["was"] if point["state"] in STORED else point["state"]
    return state


def of_write(cloud: Cloud, point: Mapping[str, Any]) -> list[str]:
    """A point as it is being committed, against what the cloud holds at this very instant."""
    fresh = all(disk["operation"] is None for disk in point["disks"])
    if point["state"] == "creating" and fresh and not (point["moment"] and point["moment"]["attempts"] > 1):
        return _of_beginning(cloud, point)
    if point["state"] != "verified" or point["verified_at"] != cloud.now:
        return []
    broken = []
    home = point["instance"]["region"]
    for disk in point["disks"]:
        ref = disk["snapshot"]
        held = cloud.snapshot(ref["project"], ref["name"])
        if held is None:
            broken.append(f"{point['id']}: verified without {ref['name']}")
        elif held["status"] != "READY" or held["sourceDiskId"] != disk["id"] or held["id"] != ref["id"]:
            broken.append(f"{point['id']}: verified with {ref['name']}, which is {held}")
        elif held["storageLocations"] != [home]:
            broken.append(f"{point['id']}: verified with {ref['name']} in {held['storageLocations']}")
    if not point["disks"]:
        broken.append(f"{point['id']}: verified without a disk")
    taken = [disk["snapshot"] for disk in point["disks"] if cloud.snapshot(*_named(disk["snapshot"]))]
    times = [cloud.moment(snapshot_link(*_named(ref))) for ref in taken]
    if times and max(times) - min(times) > timedelta(hours=1):
        broken.append(f"{point['id']}: verified with disks of {min(times)} and of {max(times)}")
    return broken


def _named(ref: Mapping[str, Any]) -> tuple[str, str]:
    return ref["project"], ref["name"]


def _of_beginning(cloud: Cloud, point: Mapping[str, Any]) -> list[str]:
    """A point that has just been begun is of the instance that it names and covers what is attached to it now."""
    ref = point["instance"]
    if point["started_at"] != cloud.now or any(disk["attempts"] > 1 for disk in point["disks"]):
        return []
    there = [i for i in cloud.instances() if (i.project, i.zone, i.name) == (ref["project"], ref["zone"], ref["name"])]
    if [instance.id for instance in there] != [ref["id"]]:
        return [f"{point['id']}: is of instance {ref['id']}, in the cloud is {[i.id for i in there]}"]
    attached = cloud.attached_disk_ids(ref["project"], ref["zone"], ref["name"])
    covered = {disk["id"] for disk in point["disks"]}
    return [] if attached == covered else [f"{point['id']}: covers {covered}, attached are {attached}"]


def findings(world: World) -> list[str]:
    """Everything that is not as it must be at the end."""
    stored = world.system.documents.dump()
    return [
        *world.trace.broken,
        *_every_slot_has_one_end(world, stored),
        *_none_starts_too_late(stored),
        *_no_second_snapshot(world, stored),
        *_intents_and_outcomes(world, stored),
        *_chains(stored),
        *_events(world, stored),
        *_nothing_lives(stored),
        *_tallies(stored),
        *_requests(stored),
        *copying.at_the_end(world, stored),
        *keeping.at_the_end(stored, world.system.cloud, world.planted, world.system.clock.now()),
    ]


def _documents(stored: Mapping[str, Any], collection: str) -> Iterator[tuple[str, str, Any]]:
    for path, data in stored.items():
        parts = path.split("/")
        if len(parts) == 4 and parts[2] == collection:
            yield parts[1], parts[3], data


def _every_slot_has_one_end(world: World, stored: Mapping[str, Any]) -> Iterator[str]:
    """Every due slot of every vendor-managed instance is in exactly one final state."""
    now = world.system.clock.now()
    points: dict[tuple[str, str], list[str]] = defaultdict(list)
    for _, _, point in _documents(stored, "points"):
        if point["trigger"] == "scheduled":
            points[point["instance"]["id"], point["slot"]["day"]].append(final_state(point))
    protected = 0
    for owner, id, data in _documents(stored, "instances"):
        tenant = d.from_data(d.Tenant, stored[f"tenants/{owner}"])
        instance = d.from_data(d.Instance, data)
        if tenant.deployment == "private_saas":
            if any(key[0] == id for key in points):
                yield f"{owner}: a point of a client-managed tenant"
            continue
        protected += 1
        until = min(instance.lost_at or now, now)
        day = instance.seen_at.date() - timedelta(days=1)
        while day <= until.date() + timedelta(days=1):
            slot = slot_of(day, id, tenant)
            day += timedelta(days=1)
            # Near the end of the time in which an instance was known, a slot may or may not have been decided.
            if slot is None or slot.at < instance.seen_at or slot.at > until - timedelta(minutes=30):
                continue
            states = points.get((id, slot.day), [])
            if len(states) != 1 or states[0] not in FINAL:
                if instance.lost_at is not None and not states and _unsure(instance.lost_at, slot.at):
                    continue
                yield f"{owner}: {instance.name} {id}: slot {slot.day} is {states or 'nowhere'}"
    if protected < 4:
        yield f"only {protected} instances were ever protected"
    # What the cloud holds at the end must be known: nobody may be forgotten.
    known = {id for _, id, data in _documents(stored, "instances") if data["lost_at"] is None}
    there = {instance.id for instance in world.system.cloud.instances()}
    if known != there:
        yield f"instances known and not lost: {sorted(known)}; in the cloud: {sorted(there)}"


def _none_starts_too_late(stored: Mapping[str, Any]) -> Iterator[str]:
    """A scheduled point is started within its tenant's catch_up_hours, or missed."""
    for owner, id, point in _documents(stored, "points"):
        if point["trigger"] != "scheduled" or point["started_at"] is None:
            continue
        hours = stored[f"tenants/{owner}"]["schedule"]["catch_up_hours"]
        if point["started_at"] > point["slot"]["at"] + timedelta(hours=hours):
            yield f"{owner}: {id}: started at {point['started_at']}, later than {hours} h after {point['slot']['at']}"


def _unsure(lost_at: Any, slot_at: Any) -> bool:
    """A lost instance's last slots may have passed while nobody ran the planner."""
    return bool(lost_at - slot_at < timedelta(days=4))


def _no_second_snapshot(world: World, stored: Mapping[str, Any]) -> Iterator[str]:
    """No disk has two snapshots of ours for one point in one region, and none lies where its point has nothing.

    One that was given up as stuck may still have become READY, and one that was outdated by it is; so is what a try at
    a copy left that failed, and a moment that was taken anew.
    """
    given_up = {
        outcome["name"]
        for _, _, record in _documents(stored, "inbox")
        for outcome in json.loads(record["bytes"])["detail"].get("outcomes", ())
        if outcome.get("code") in ("snapshot_stuck", "snapshot_outdated")
    } | world.ledger.given_up
    points = {point["id"]: point for _, _, point in _documents(stored, "points")}
    count: Counter[tuple[str, str, str]] = Counter()
    for snapshot in world.system.cloud.snapshots():
        point = snapshot.get("labels", {}).get("snapkeep-point")
        if point is None or snapshot["id"] in world.planted.values():
            continue
        (location,) = snapshot["storageLocations"]
        if snapshot["status"] == "READY" and snapshot["name"] not in given_up:
            count[_disk(snapshot, points.get(point)), point, location] += 1
        copies = points[point]["copies"] if point in points else ()
        if location != _home(snapshot["sourceDisk"]) and location not in copies:
            yield f"{snapshot['name']} of {snapshot['sourceDisk']} lies in {snapshot['storageLocations']}"
    for (disk, point, location), times in count.items():
        if times > 1:
            yield f"disk {disk} has {times} snapshots for {point} in {location}"


def _disk(snapshot: Mapping[str, Any], point: Mapping[str, Any] | None) -> str:
    """The numeric id of the disk that a snapshot is of; of a temporary disk, of the one that it stood for."""
    for copy in point["copies"].values() if point else ():
        for disk in copy["disks"]:
            if snapshot["name"] in {ref["name"] for ref in (disk["snapshot"], *disk["superseded"])}:
                return str(disk["id"])
    return str(snapshot["sourceDiskId"])


def _home(disk: str) -> str:
    """The region of a disk, by its link."""
    *_, scope, place, _, _ = disk.split("/")
    return region_of(place) if scope == "zones" else place


CREATION = 0
"""The number of the attempt of a snapshot's creation, whose own attempts have names of their own."""

Asked = tuple[str, int]
"""A change that was asked for: the name of what it makes or deletes, and the number of the attempt at its deletion."""


def _intents_and_outcomes(world: World, stored: Mapping[str, Any]) -> Iterator[str]:
    """Every change of the cloud was asked for after its intent was committed, and has one outcome."""
    intents: dict[Asked, int] = {}
    outcomes: dict[Asked, list[str]] = defaultdict(list)
    committed: set[str] = set()
    for order, writes in world.trace.commits:
        for write in writes:
            if not (isinstance(write, Create) and "/inbox/" in write.path):
                continue
            committed.add(write.path)
            record = json.loads(write.data["bytes"])
            detail = record["detail"]
            for change in detail.get("changes", ()) if record["action"] != "tenant.applied" else ():
                asked = (change["name"], change.get("attempt", CREATION))
                if asked in intents:
                    yield f"{asked}: a second intent"
                intents.setdefault(asked, order)
            for outcome in detail.get("outcomes", ()):
                asked = (outcome["name"], outcome.get("attempt", CREATION))
                outcomes[asked].append(outcome["outcome"])
                if asked not in intents:
                    yield f"{asked}: an outcome before its intent"
    for order, change in world.trace.starts:
        asked = (change.name, getattr(change, "attempt", CREATION))
        if intents.get(asked, order + 1) > order:
            yield f"{asked}: was asked for without an intent"
    points = [point for _, _, point in _documents(stored, "points")]
    going = {asked for point in points for part in (keeping, copying) for asked in part.under_way(point)}
    for asked in intents:
        if len(outcomes[asked]) != 1 and not (asked in going and not outcomes[asked]):
            yield f"{asked}: {len(outcomes[asked])} outcomes: {outcomes[asked]}"
    verified = {
        disk["snapshot"]["name"] for point in points if final_state(point) == "verified" for disk in point["disks"]
    }
    for name in verified.union(copying.verified(points)):
        if outcomes[name, CREATION] != ["succeeded"]:
            yield f"{name}: of a verified point, and its outcome is {outcomes[name, CREATION]}"
    if missing := committed - stored.keys():
        yield f"records that were committed are gone: {sorted(missing)}"


def _chains(stored: Mapping[str, Any]) -> Iterator[str]:
    owners = {path.split("/")[1] for path in stored if path.startswith("tenants/")}
    for owner in sorted(owners):
        records = sorted((id, data) for tenant, id, data in _documents(stored, "audit") if tenant == owner)
        _, found = chain.verify([d.from_data(d.AuditRecord, data) for _, data in records], owner)
        yield from (f"{owner}: record {finding.seq}: {finding.problem}" for finding in found)
        inbox = [data for tenant, _, data in _documents(stored, "inbox") if tenant == owner]
        if sorted(data["seq"] or 0 for data in inbox) != list(range(1, len(records) + 1)):
            yield f"{owner}: the inbox is not numbered one to one"
        bodies = {data["seq"]: data["bytes"] for _, data in records}
        for data in inbox:
            if data["seq"] and bodies[data["seq"]] != data["bytes"]:
                yield f"{owner}: record {data['seq']} is not what was committed"


def _events(world: World, stored: Mapping[str, Any]) -> Iterator[str]:
    published = Counter(event["id"] for event in world.system.events())
    promised = Counter(data["event"]["id"] for _, _, data in _documents(stored, "inbox") if data["event"])
    for id, times in promised.items():
        if times > 1:
            yield f"event {id}: {times} records promise it"
        if not published[id]:
            yield f"event {id}: never published"
    for id in published.keys() - promised.keys():
        yield f"event {id}: published without a record"


def _nothing_lives(stored: Mapping[str, Any]) -> Iterator[str]:
    for owner, id, point in _documents(stored, "points"):
        if point["state"] not in (*FINAL, *STORED) and not _still_young(point, stored):
            yield f"{owner}: point {id} is still {point['state']}, next at {point['next_at']}"
    for owner, id, record in _documents(stored, "inbox"):
        if record["next_at"] is not None:
            yield f"{owner}: inbox record {id} was never finished"


def _still_young(point: Mapping[str, Any], stored: Mapping[str, Any]) -> bool:
    now = max(data["at"] for path, data in stored.items() if path.startswith("system/tick-"))
    return bool(now - point["requested_at"] < timedelta(minutes=45))


def _tallies(stored: Mapping[str, Any]) -> Iterator[str]:
    """An instance's tally, newest point and breach say what its points say."""
    now = max(data["at"] for path, data in stored.items() if path.startswith("system/tick-"))
    for owner, id, data in _documents(stored, "instances"):
        tenant = d.from_data(d.Tenant, stored[f"tenants/{owner}"])
        instance = d.from_data(d.Instance, data)
        points = [d.from_data(d.Point, p) for t, _, p in _documents(stored, "points") if p["instance"]["id"] == id]
        gone = {point.id for point in points if point.state == "deleted"}
        going = {point.id for point in points if point.expiry and point.expiry.begun_at and point.id not in gone}
        points = [replace(point, state=point.expiry.was, expiry=None) if point.expiry else point for point in points]
        expected = d.Instance(
            updated_at=instance.updated_at, id=id, name="", project="", zone="", region="", disks=[], seen_at=now
        )
        for point in sorted(points, key=lambda p: p.requested_at):
            expected = after_transition(expected, None, None, point)
        deleted = [_bytes(point) for point in points if point.id in gone and point.state == "verified"]
        left = replace(
            expected.tally,
            stored=expected.tally.stored - len(deleted),
            bytes=expected.tally.bytes - sum(deleted),
        )
        expected = replace(expected, tally=left)
        if expected.tally != instance.tally:
            yield f"{owner}: {id}: tally {instance.tally} should be {expected.tally}"
        mine = instance.newest_verified
        verified = {
            point.id: taken_at(point)
            for point in points
            if point.state == "verified" and point.id not in gone | going and point.usable and not point.gone
        }
        if mine and mine.point in going:
            continue  # until it is read to be gone, it is the newest that there is
        newest_at = max(verified.values(), default=None)
        # Of two points of one instant either is the newest: the one that ended first.
        if (mine and (mine.at, verified.get(mine.point))) != (newest_at and (newest_at, newest_at)):
            yield f"{owner}: {id}: newest verified is {mine}, should be of {newest_at}"
        if instance.lost_at is None and tenant.vendor_managed:
            since = instance.newest_verified.at if instance.newest_verified else instance.seen_at
            late = now - since > timedelta(hours=tenant.rpo_hours, minutes=10)
            if late and instance.breach_at is None:
                yield f"{owner}: {id}: in breach since {since}, and nobody was told"
            if not late and instance.breach_at is not None and now - since < timedelta(hours=tenant.rpo_hours):
                yield f"{owner}: {id}: told to be in breach, and is not"


def _bytes(point: d.Point) -> int:
    return sum(disk.snapshot.bytes for disk in point.disks)


def _requests(stored: Mapping[str, Any]) -> Iterator[str]:
    """One request id has the effect of once."""
    taken = sum(point["trigger"] == "on_demand" for _, _, point in _documents(stored, "points"))
    asked = sum("/requests/" in path and not data["sha256"] for path, data in stored.items())
    if taken != asked:
        yield f"{asked} requests were acted on and {taken} points taken"

"""What must hold of moments, copies and temporary disks, in the judge's own plain words: no rule is asked here.

Only what is stored, what the cloud holds and what it accepted count. Each finding is a sentence.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from tests.faults import keeping

from snapkeep.cloud import Delete, DeleteDisk, region_of
from snapkeep_local.cloud import Cloud
from snapkeep_local.errors import ApiError

if TYPE_CHECKING:
    from tests.faults.world import World

Stored = Mapping[str, Any]

MADE_UP = timedelta(days=14)
"""How far back copies are made up."""

SOON = timedelta(hours=3)
"""Within which, without faults, a copy is begun and verified once it is asked for, or may be made up."""

TRY = timedelta(hours=24)
"""A try at a copy has ended by then."""

DISKS_PER_DAY = 20
"""Disks that are copied in full for one tenant in a day."""

LIVING = ("requested", "creating")
INSERT = re.compile(r"\w+\.insert")


@dataclass(slots=True)
class Ledger:
    """What was bought when, and what the points held when they were verified: written down while it happens."""

    bought: dict[str, list[tuple[datetime, Stored]]] = field(default_factory=lambda: defaultdict(list))
    """By tenant: its document from each change on."""

    contents: dict[tuple[str, str], str] = field(default_factory=dict)
    """By point and numeric id of the disk: what its home snapshot holds."""

    given_up: set[str] = field(default_factory=set)
    """Names of snapshots of tries at a copy that failed, and of moments that were taken anew or done without."""

    def note(self, stored: Stored, now: datetime) -> None:
        """Write down what is bought from now on."""
        for path, data in stored.items():
            known = self.bought[path.split("/")[1]] if path.count("/") == 1 and path.startswith("tenants/") else None
            if known is not None and (not known or known[-1][1]["entitlements"] != data["entitlements"]):
                known.append((now, data))

    def regions(self, tenant: str, at: datetime) -> set[str]:
        """Where copies of a tenant were bought at an instant; of two documents of one instant either may be meant."""
        found = set()
        documents = self.bought[tenant]
        for (since, document), (until, _) in zip(documents, [*documents[1:], (None, None)], strict=True):
            addon = keeping.bought(document, at)
            if addon is not None and since <= at and (until is None or at <= until):
                found.add(addon["region"])
        return found


# --- while it runs --------------------------------------------------------------------------------------------------


def of_write(ledger: Ledger, cloud: Cloud, tenant: str, point: Stored) -> Iterator[str]:
    """A point as it is being committed, against what the cloud holds at this very instant."""
    if point["state"] == "verified" and point["verified_at"] == cloud.now:
        yield from _of_moment(cloud, point)
        for disk in point["disks"]:
            link = _link(disk["snapshot"])
            if cloud.snapshot(*_named(disk["snapshot"])):
                ledger.contents[point["id"], disk["id"]] = cloud.content(link)
    moment = point["moment"]
    if moment and point["state"] == "creating" and (moment["attempts"] > 1 or moment["state"] == "releasing"):
        ledger.given_up |= {ref["name"] for disk in point["disks"] for ref in disk["superseded"]}
    for region, copy in point["copies"].items():
        if copy["state"] == "failed":
            ledger.given_up |= {
                ref["name"] for disk in copy["disks"] for ref in (disk["snapshot"], *disk["superseded"])
            }
        if copy["state"] == "verified" and copy["verified_at"] == cloud.now:
            yield from (f"{point['id']}@{region}: {why}" for why in _of_copy(ledger, cloud, tenant, point, region))


def _of_moment(cloud: Cloud, point: Stored) -> Iterator[str]:
    """Home snapshots are all of the present moment, or none is; a group's are of one instant."""
    held = [one for disk in point["disks"] if (one := cloud.snapshot(*_named(disk["snapshot"])))]
    made_of = {one.get("sourceInstantSnapshotId") for one in held}
    present = {ref["id"] for ref in point["moment"]["instants"]} if point["moment"] else set()
    if made_of != {None} and not made_of <= present:
        yield f"{point['id']}: verified, and of the moments {made_of}, where the present one is {present}"
    given_up = {ref["id"] for ref in point["moment"]["superseded"]} - {None} if point["moment"] else set()
    if made_of & given_up:
        yield f"{point['id']}: verified, and of instant snapshots of a moment that was given up: {made_of & given_up}"
    moments = {
        cloud.moment(_link(disk["snapshot"])) for disk in point["disks"] if cloud.snapshot(*_named(disk["snapshot"]))
    }
    if point["consistency"] == "group" and len(moments) > 1:
        yield f"{point['id']}: verified as one moment, and of {sorted(moments)}"


def _of_copy(ledger: Ledger, cloud: Cloud, tenant: str, point: Stored, region: str) -> Iterator[str]:
    """Why a copy that is being called verified is not."""
    copy, keys = point["copies"][region], ledger.bought[tenant][-1][1]["kms_keys"]
    sizes = {disk["id"]: disk["size_gb"] for disk in point["disks"]}
    if {disk["id"] for disk in copy["disks"]} != set(sizes):
        yield "copied without all of its disks"
    for disk in copy["disks"]:
        ref = disk["snapshot"]
        held = cloud.snapshot(*_named(ref))
        if held is None:
            yield f"copied without {ref['name']}"
            continue
        if held["status"] != "READY" or held["id"] != ref["id"]:
            yield f"copied as {ref['name']}, which is {held}"
        if held["storageLocations"] != [region]:
            yield f"copied to {held['storageLocations']}"
        if cloud.content(_link(ref)) != ledger.contents.get((point["id"], disk["id"])):
            yield f"{ref['name']} holds other contents than home"
        if int(held["diskSizeGb"]) < sizes[disk["id"]]:
            yield f"{ref['name']} holds {held['diskSizeGb']} GB of {sizes[disk['id']]}"
        key, asked = held.get("snapshotEncryptionKey", {}).get("kmsKeyName", ""), keys.get(region)
        if asked and not key.startswith(asked):
            yield f"{ref['name']} is encrypted with {key or 'no key of the client'}"


def of_call(stored: Stored, cloud: Cloud, change: Delete, paused: Stored) -> Iterator[str]:
    """A deletion of what was made only to copy from, as it is being asked for: ours, and needed by nobody."""
    held = _held(cloud, change.link)
    if held is not None and held["id"] != change.id:
        yield f"{change.name} is asked to go as {change.id}, and is {held['id']}"
    of = [
        (path, point)
        for path, point in stored.items()
        if path.split("/")[2:3] == ["points"] and (change.link, change.id) in {one[:2] for one in _passing(point)}
    ]
    if len(of) != 1:
        yield f"{change.name} ({change.id}) is asked to go, and is of {len(of)} points"
    for path, point in of:
        if keeping.covers(paused, path.split("/")[1]):
            yield f"{change.name} is asked to go while deletion is paused"
        if isinstance(change, DeleteDisk):
            needed = _needs_disk(cloud, point, change.link)
        else:
            needed = point["state"] in LIVING or any(
                copy["way"] == "moment" and copy["state"] in ("requested", "copying")
                for copy in point["copies"].values()
            )
        if needed:
            yield f"{change.name} is asked to go, and {point['id']} still needs it"


def _needs_disk(cloud: Cloud, point: Stored, link: str) -> bool:
    """Whether a copy that is being made still needs a temporary disk that serves."""
    for copy in point["copies"].values():
        for disk in copy["disks"] if copy["state"] == "copying" else ():
            if disk["temporary"] and _disk_link(disk["temporary"]) == link and not disk["failure"]:
                held = cloud.snapshot(*_named(disk["snapshot"]))
                return held is None or held["status"] != "READY"
    return False


def _passing(point: Stored) -> Iterator[tuple[str, str | None, str | None]]:
    """Link, numeric id and operation of everything that was made only to copy from."""
    project, moment = point["instance"]["project"], point["moment"]
    if moment:
        for ref in (*moment["instants"], *moment["superseded"]):
            yield f"projects/{project}/{ref['scope']}/instantSnapshots/{ref['name']}", ref["id"], ref["operation"]
        for ref in (moment["group"], *moment["superseded_groups"]):
            if ref:
                yield (
                    f"projects/{project}/{ref['scope']}/instantSnapshotGroups/{ref['name']}",
                    ref["id"],
                    ref["operation"],
                )
    for copy in point["copies"].values():
        for disk in copy["disks"]:
            if disk["temporary"]:
                yield _disk_link(disk["temporary"]), disk["temporary"]["id"], disk["temporary"]["operation"]


def _held(cloud: Cloud, link: str) -> Stored | None:
    kinds = {
        "disks": cloud.disks,
        "instantSnapshots": cloud.instant_snapshots,
        "instantSnapshotGroups": cloud.instant_snapshot_groups,
    }
    return next((one for one in kinds[link.rsplit("/", 2)[1]]() if one["selfLink"].endswith(f"/{link}")), None)


# --- at the end -----------------------------------------------------------------------------------------------------


def at_the_end(world: World, stored: Stored) -> Iterator[str]:
    cloud = world.system.cloud
    points = [(path, data) for path, data in stored.items() if path.split("/")[2:3] == ["points"]]
    yield from residency(
        world.ledger, cloud, {path.split("/")[1]: data for path, data in stored.items() if _is_tenant(path)}
    )
    yield from _nothing_left(cloud, points)
    yield from _all_ended(world, points)
    yield from _copied(world, stored)
    yield from _work(stored)


def _is_tenant(path: str) -> bool:
    return path.startswith("tenants/") and path.count("/") == 1


def residency(ledger: Ledger, cloud: Cloud, owners: Mapping[str, Stored]) -> Iterator[str]:
    """Every byte that the cloud accepted lies at home or, of snapshots, in what its owner had bought then."""
    owner_of = {data[field]: tenant for tenant, data in owners.items() for field in ("project", "vault_project")}
    homes = {owner_of[one.project]: region_of(one.zone) for one in cloud.instances()}
    for entry in cloud.log:
        if not INSERT.fullmatch(entry["method"]):
            continue
        tenant = owner_of[entry["link"].split("/")[1]]
        allowed = {homes[tenant]}
        if entry["method"] == "snapshots.insert":
            allowed |= ledger.regions(tenant, entry["at"])
        if entry["region"] not in allowed:
            yield f"{entry['link']} was written to {entry['region']} at {entry['at']}; allowed was {sorted(allowed)}"


def _nothing_left(cloud: Cloud, points: Sequence[tuple[str, Stored]]) -> Iterator[str]:
    """No temporary disk, instant snapshot or group is there, but what is stuck in its creation and cannot go."""
    disks = [one for one in cloud.disks() if one.get("labels", {}).get("snapkeep-role") == "temporary"]
    for one in (*disks, *cloud.instant_snapshots(), *cloud.instant_snapshot_groups()):
        name = re.sub(r".*/projects/", "projects/", one["selfLink"])
        if one["status"] != "CREATING" and not (one["status"] == "READY" and _is_of_stuck_group(cloud, one)):
            yield f"{name} is left, {one['status']}"


def _is_of_stuck_group(cloud: Cloud, instant: Stored) -> bool:
    stuck = {group["id"] for group in cloud.instant_snapshot_groups() if group["status"] == "CREATING"}
    return instant.get("sourceInstantSnapshotGroupId") in stuck


def _all_ended(world: World, points: Sequence[tuple[str, Stored]]) -> Iterator[str]:
    """Every moment is let go and every try at a copy has come to its end, but what is young or cannot go."""
    now, cloud = world.system.clock.now(), world.system.cloud
    for path, point in points:
        moment = point["moment"]
        young = point["state"] in LIVING or now - point["requested_at"] < SOON
        left = any(_is_stuck(cloud, link, operation) for link, _, operation in _passing(point))
        for region, copy in point["copies"].items():
            if copy["state"] in ("requested", "copying"):
                since = copy["started_at"] if copy["state"] == "copying" else copy["requested_at"]
                if now - since > (TRY if copy["state"] == "copying" else SOON) and point["state"] not in LIVING:
                    yield f"{path}: its copy in {region} is {copy['state']} since {since}"
                young = True
            elif not left and now - (copy["verified_at"] or copy["started_at"] or now) > SOON:
                there = [d["temporary"] for d in copy["disks"] if d["temporary"] and d["temporary"]["status"] != "GONE"]
                if there:
                    yield f"{path}: its copy in {region} is {copy['state']}, and not read to be gone are {there}"
        if moment and moment["state"] != "released" and not young and not left:
            yield f"{path}: has ended, and its moment is {moment['state']}"
        waiting = [part["next_at"] for part in (moment, *point["copies"].values()) if part and part["next_at"]]
        if point["state"] not in LIVING and point["next_at"] != min(waiting, default=None):
            yield f"{path}: has ended, is due at {point['next_at']}, and what is left of it at {waiting}"


def _is_stuck(cloud: Cloud, link: str, operation: str | None) -> bool:
    """Whether it is in its creation for ever, or may be: its operation does not end."""
    held = _held(cloud, link)
    if held is not None and held["status"] == "CREATING":
        return True
    try:
        return operation is not None and cloud.get_operation(operation)["status"] != "DONE"
    except ApiError:
        return False


def _copied(world: World, stored: Stored) -> Iterator[str]:
    """Every copy that is bought and wanted is there, or is being made within the bounds."""
    now = world.system.clock.now()
    for path, instance in stored.items():
        if path.split("/")[2:3] != ["instances"] or instance["lost_at"] is not None:
            continue
        tenant = path.split("/")[1]
        owner = stored[f"tenants/{tenant}"]
        addon = keeping.bought(owner, now)
        since = world.ledger.bought[tenant][-1][0]
        if addon is None or now - since < SOON:
            continue
        points = [one for one in keeping.complete(stored, tenant, instance["id"]) if one["state"] == "verified"]
        copies = keeping.complete(stored, tenant, instance["id"], addon["region"])
        either = sorted({one["id"]: one for one in (*points, *copies)}.values(), key=keeping.taken, reverse=True)
        wanted = keeping.wanted(either, addon["retention"], owner["timezone"])
        for point in points:
            copy = point["copies"].get(addon["region"])
            young = now - point["verified_at"] < SOON
            if point["id"] not in wanted or young or keeping.taken(point) < now - MADE_UP:
                continue
            if copy is not None and copy["state"] in ("verified", "requested", "copying", "expiring"):
                continue
            by_disk = copy is not None and (copy["state"], copy["way"]) == ("failed", "temporary_disk")
            if by_disk and now < copy["requested_at"] + TRY + SOON:
                continue  # one full-size try a day
            if _bound_reached(world, owner, len(point["disks"]), now):
                continue
            if copy and any(_is_stuck(world.system.cloud, link, asked) for link, _, asked in _passing(point)):
                continue  # what the last try left cannot go
            why = f"{copy['state']}: {copy['failure']}" if copy else "not there"
            yield f"{point['id']}: its copy in {addon['region']} is bought and wanted, and is {why}"


def _bound_reached(world: World, owner: Stored, disks: int, now: datetime) -> bool:
    """Whether one point more would be more than is copied in full in a day."""
    copied: int = sum(
        entry["method"] == "disks.insert"
        and entry["link"].split("/")[1] == owner["vault_project"]
        and now - entry["at"] < timedelta(days=1)
        for entry in world.system.cloud.log
    )
    return copied + disks > DISKS_PER_DAY


def _work(stored: Stored) -> Iterator[str]:
    """What instances say of their copies is what their points say."""
    now = max(data["at"] for path, data in stored.items() if path.startswith("system/tick-"))
    for path, instance in stored.items():
        if path.split("/")[2:3] != ["instances"]:
            continue
        tenant = path.split("/")[1]
        owner = stored[f"tenants/{tenant}"]
        addon = keeping.bought(owner, now)
        region = addon["region"] if addon else None
        counts: Counter[str] = Counter()
        for point in stored.values():
            if not _is_of(point, tenant, instance["id"], stored):
                continue
            for where, copy in point["copies"].items():
                stored_there = copy["state"] != "deleted" and bool(copy["disks"])
                whole = copy["state"] == "verified" or (
                    copy["state"] == "expiring"
                    and copy["expiry"]["was"] == "verified"
                    and not copy["expiry"]["begun_at"]
                )
                counts["verified"] += where == region and whole and not copy["gone"]
                counts["waiting"] += copy["state"] in ("requested", "copying")
                counts["unentitled"] += where != region and stored_there
                refs = [disk["snapshot"] for disk in copy["disks"]]
                if stored_there and copy["state"] not in ("requested", "copying"):
                    counts["bytes"] += sum(ref["bytes"] for ref in refs if ref["status"] != "GONE")
        said = {name: instance["copies"][name] for name in ("verified", "waiting", "unentitled", "bytes")}
        if said != {name: counts[name] for name in said}:
            yield f"{path}: says of its copies {said}, and its points say {dict(counts)}"


def _is_of(point: Stored, tenant: str, instance: str, stored: Stored) -> bool:
    if "slot" not in point or point["instance"]["id"] != instance:
        return False
    return point["state"] not in (*LIVING, "failed", "missed") and f"tenants/{tenant}/points/{point['id']}" in stored


def under_way(point: Stored) -> Iterator[tuple[str, int]]:
    """What was asked for, or asked to go, of a moment or for a copy, and may not have ended."""
    moment = point["moment"]
    if moment and moment["state"] == "releasing":
        refs: Iterable[Stored | None] = (*moment["instants"], *moment["superseded"], moment["group"])
        for ref in (*refs, *moment["superseded_groups"]):
            if ref and ref["status"] == "DELETING":
                yield ref["name"], moment["removals"]
    for copy in point["copies"].values():
        for disk in copy["disks"]:
            temporary = disk["temporary"]
            if temporary and temporary["status"] != "GONE":
                yield temporary["name"], temporary["removals"]
            if copy["state"] == "copying":
                yield disk["snapshot"]["name"], 0


def verified(points: Iterable[Stored]) -> Iterator[str]:
    """Names of the snapshots of verified copies."""
    for point in points:
        for one in keeping.sets(point).values():
            if one["region"] and (one["state"] == "verified" or (one["expiry"] and one["expiry"]["was"] == "verified")):
                yield from (disk["snapshot"]["name"] for disk in one["disks"])


def _named(ref: Stored) -> tuple[str, str]:
    return ref["project"], ref["name"]


def _link(ref: Stored) -> str:
    return f"projects/{ref['project']}/global/snapshots/{ref['name']}"


def _disk_link(temporary: Stored) -> str:
    return f"projects/{temporary['project']}/zones/{temporary['zone']}/disks/{temporary['name']}"

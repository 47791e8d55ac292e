"""What may go and what may not, in the judge's own plain words: nothing here asks the rules under test.

Only what is stored and what the cloud holds count. Each finding is a sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from snapkeep_local.cloud import Cloud

Stored = Mapping[str, Any]

GRACE = timedelta(hours=24)
FAILED_KEPT = timedelta(days=7)
UNBOUGHT_KEPT = timedelta(days=30)
COPY_WAITED_FOR = timedelta(days=14)


def sets(point: Stored) -> dict[str | None, Stored]:
    """What may be stored of a point: itself at home (None), and each copy by its region, as a point is."""
    copies = {
        region: {
            **point,
            "copies": {},
            "set": f"{point['id']}@{region}",
            "region": region,
            "requested_at": copy["requested_at"] if "failed" in (copy["state"], _was(copy)) else point["requested_at"],
            **{field: copy[field] for field in ("state", "disks", "lock_until", "holds", "gone", "expiry")},
        }
        for region, copy in point["copies"].items()
    }
    return {None: {**point, "set": point["id"], "region": None}, **copies}


def _was(one: Stored) -> str | None:
    return one["expiry"]["was"] if one["expiry"] else None


def begun(point: Stored) -> set[str | None]:
    """The sets of a point whose deletion has begun, now or before."""
    return {region for region, one in sets(point).items() if one["expiry"] and one["expiry"]["begun_at"] is not None}


def bought(owner: Stored, now: datetime) -> Stored | None:
    """The add-on of a tenant, as long as it may be used."""
    addon: Stored | None = owner["entitlements"]["inter_region_backup"]
    left = owner["offboarding"] and owner["offboarding"]["at"] <= now
    return addon if addon and not left and now < ends_at(addon, owner["timezone"]) else None


def ends_at(addon: Stored, timezone: str) -> datetime:
    """The midnight after its last day."""
    after = date.fromisoformat(addon["valid_until"]) + timedelta(days=1)
    return datetime(after.year, after.month, after.day, tzinfo=ZoneInfo(timezone)).astimezone(UTC)


def of_beginning(
    stored: Stored, tenant: str, point: Stored, region: str | None, paused: Stored, now: datetime
) -> Iterator[str]:
    """The deletion of a set as it is being committed, against what was stored until then.

    `paused`: where deletion was paused when the run looked last. A pause that comes between its look and its commit
    stops the calls, not the commit.
    """
    one = sets(point)[region]
    name = one["set"]
    if covers(paused, tenant):
        yield f"{name}: a deletion begins, though deletion is paused"
    expiry = one["expiry"]
    if one["state"] != "expiring":
        yield f"{name}: a deletion begins, and the point is {one['state']}"
    if now < expiry["decided_at"] + GRACE:
        yield f"{name}: a deletion begins at {now}, in its grace since {expiry['decided_at']}"
    before = sets(stored[f"tenants/{tenant}/points/{point['id']}"])[region]
    if before["state"] != "expiring":
        yield f"{name}: a deletion begins of what was {before['state']}"
    for why in _kept(stored, tenant, before, now):
        yield f"{name}: a deletion begins, though {why}"


def _kept(stored: Stored, tenant: str, point: Stored, now: datetime) -> Iterator[str]:
    """Why a set, as it was stored, must not go."""
    owner, region = stored[f"tenants/{tenant}"], point["region"]
    addon = bought(owner, now)
    instance = stored[f"tenants/{tenant}/instances/{point['instance']['id']}"]
    if point["lock_until"] and now < point["lock_until"]:
        yield f"it is locked until {point['lock_until']}"
    for what, holder in (("it", point), ("its instance", instance), ("its tenant", owner)):
        if any(hold["until"] is None or now < hold["until"] for hold in holder["holds"]):
            yield f"{what} is held"
    if region is not None and (addon is None or addon["region"] != region):
        since = owner["copies_ended"].get(region)
        if since is None or now < since + UNBOUGHT_KEPT:
            yield f"it is no longer bought only since {since}"
        return
    lost_at = instance["lost_at"]
    if lost_at is None:
        if instance["breach_at"] and not point["expiry"]["override"]:
            yield "its instance is in breach"
        if point["id"] == newest(stored, tenant, instance["id"], region):
            yield "it is the newest verified of its instance"
    if region is None and addon is not None:
        copy = point["copies"].get(addon["region"])
        waited_for = copy and copy["state"] in ("requested", "copying", "failed")
        if copy and waited_for and now < (copy["wanted_since"] or copy["requested_at"]) + COPY_WAITED_FOR:
            yield f"its copy in {addon['region']} is {copy['state']}"
    if lost_at is not None and now >= lost_at + timedelta(days=owner["retention"]["keep_after_gone_days"]):
        return
    if point["expiry"]["was"] == "failed":
        if now < point["requested_at"] + FAILED_KEPT:
            yield f"it failed only at {point['requested_at']}"
        return
    if point["gone"]:
        yield "it is incomplete"
    policy = owner["retention"] if region is None or addon is None else addon["retention"]
    if point["id"] in wanted(complete(stored, tenant, instance["id"], region), policy, owner["timezone"]):
        yield "a rule wants it"


def complete(stored: Stored, tenant: str, instance: str, region: str | None = None) -> list[Stored]:
    """The points of an instance that fill buckets, newest first: at home, or as copies in a region."""
    of_it = (
        sets(data)
        for path, data in stored.items()
        if path.startswith(f"tenants/{tenant}/points/") and data["instance"]["id"] == instance
    )
    points = [one[region] for one in of_it if region in one]
    there = [
        point
        for point in points
        if point["state"] == "verified" or (point["state"] == "expiring" and point["expiry"]["was"] == "verified")
    ]
    usable = [point for point in there if point["usable"] and not point["gone"]]
    return sorted(usable, key=taken, reverse=True)


def newest(stored: Stored, tenant: str, instance: str, region: str | None = None) -> str | None:
    return next((point["id"] for point in complete(stored, tenant, instance, region)), None)


def taken(point: Stored) -> datetime:
    moment: datetime = min(disk["snapshot"]["created_at"] for disk in point["disks"])
    return moment


def wanted(newest_first: Sequence[Stored], policy: Stored, timezone: str) -> set[str]:
    """What the policy keeps: for each rule the newest of each of its newest buckets, and with room the oldest."""
    zone = ZoneInfo(timezone)
    if not newest_first:
        return set()
    local = [(point["id"], taken(point).astimezone(zone)) for point in newest_first]
    buckets: tuple[tuple[str, Callable[[str, datetime], object]], ...] = (
        ("keep_last", lambda id, at: id),
        ("keep_daily", lambda id, at: at.date()),
        ("keep_weekly", lambda id, at: at.isocalendar()[:2]),
        ("keep_monthly", lambda id, at: (at.year, at.month)),
        ("keep_yearly", lambda id, at: at.year),
    )
    kept: set[str] = set()
    for rule, bucket in buckets:
        count = policy[rule]
        firsts: dict[object, str] = {}
        for id, at in local:
            firsts.setdefault(bucket(id, at), id)
        kept |= set(list(firsts.values())[:count])
        if len(firsts) < count:
            kept.add(local[-1][0])
    if policy["keep_within_days"]:
        oldest = local[0][1].replace(tzinfo=None) - timedelta(days=policy["keep_within_days"])
        kept |= {id for id, at in local if at.replace(tzinfo=None) > oldest}
    return kept


def covers(paused: Stored, tenant: str) -> bool:
    return bool(paused.get("fleet") or tenant in paused.get("tenants", ()))


def of_call(stored: Stored, cloud: Cloud, project: str, name: str, id: str, paused: Stored) -> Iterator[str]:
    """A deletion as it is being asked for: of a snapshot that is ours by number, of a point whose end is committed."""
    held = cloud.snapshot(project, name)
    if held is not None and held["id"] != id:
        yield f"{name} is asked to go as {id}, and is {held['id']}"
    owners = [
        (path, one)
        for path, data in stored.items()
        if path.split("/")[2:3] == ["points"]
        for one in sets(data).values()
        if (project, name, id) in set(_snapshots(one))
    ]
    if len(owners) != 1:
        yield f"{name} ({id}) is asked to go, and is of {len(owners)} points"
    for path, point in owners:
        if point["state"] != "expiring" or point["expiry"]["begun_at"] is None:
            yield f"{name} is asked to go, and its point {path} is {point['state']}, its deletion not begun"
        if covers(paused, path.split("/")[1]):
            yield f"{name} is asked to go while deletion is paused"


def under_way(point: Stored) -> Iterator[tuple[str, int]]:
    """What was asked to go of a point last, by name and number of the attempt, and may still be there."""
    for one in sets(point).values():
        if one["state"] == "expiring":
            yield from ((name, one["expiry"]["attempts"]) for _, name, _ in _snapshots(one))


def _left(point: Stored, there: Mapping[tuple[str, str], Any]) -> list[Any]:
    return [there[project, name] for project, name, _ in _snapshots(point) if (project, name) in there]


def _snapshots(point: Stored) -> Iterator[tuple[str, str, str | None]]:
    for disk in point["disks"]:
        for ref in (disk["snapshot"], *disk["superseded"]):
            yield ref["project"], ref["name"], ref["id"]


def at_the_end(stored: Stored, cloud: Cloud, planted: Mapping[str, str], now: datetime) -> Iterator[str]:
    """Nothing foreign is gone, nothing that should be there is gone, and what was to go went."""
    there = {(one["selfLink"].split("projects/", 1)[1].split("/")[0], one["name"]): one for one in cloud.snapshots()}
    ids = {one["id"] for one in there.values()}
    for link, id in planted.items():
        if id not in ids:
            yield f"the foreign snapshot {link} ({id}) is gone"
    for path, point in stored.items():
        if path.split("/")[2:3] != ["points"]:
            continue
        for one in sets(point).values():
            if one["state"] == "deleted":
                left = [name for _, name, id in _snapshots(one) if id in ids]
                if left:
                    yield f"{one['set']}: deleted, and {', '.join(left)} is there"
            late = one["state"] == "expiring" and now > one["expiry"]["delete_after"] + timedelta(hours=12)
            # One that is stuck in its creation cannot be deleted: it is asked to go every six hours.
            if late and not any(held["status"] == "CREATING" for held in _left(one, there)):
                yield f"{one['set']}: still expiring, could go since {one['expiry']['delete_after']}"
        copied = any(one["state"] != "deleted" and one["disks"] for one in point["copies"].values())
        if point["state"] == "deleted" and not copied and point["stored_for"]:
            yield f"{path}: deleted, and still looked at"
        if copied and not point["stored_for"]:
            yield f"{path}: has a copy, and nobody looks at it"
    for path, instance in stored.items():
        if path.split("/")[2:3] != ["instances"] or instance["lost_at"] is not None:
            continue
        tenant = path.split("/")[1]
        if (
            instance["newest_verified"]
            and newest(stored, tenant, instance["id"]) is None
            and not _any_gone(stored, path)
        ):
            yield f"{path}: had a verified point, and has none now"
        mine = [data for there_at, data in stored.items() if there_at.startswith(f"tenants/{tenant}/points/")]
        for region in (None, *sorted({region for point in mine for region in point["copies"]})):
            for point in complete(stored, tenant, instance["id"], region):
                for project, name, noted in _snapshots_now(point):
                    held = there.get((project, name))
                    if held is None or held["id"] != noted:
                        yield f"{point['set']}: is {point['state']}, and {name} is not there"


def _snapshots_now(point: Stored) -> Iterator[tuple[str, str, str | None]]:
    for disk in point["disks"]:
        ref = disk["snapshot"]
        if point["expiry"] is None or point["expiry"]["begun_at"] is None:
            yield ref["project"], ref["name"], ref["id"]


def _any_gone(stored: Stored, instance_path: str) -> bool:
    tenant, id = instance_path.split("/")[1], instance_path.split("/")[3]
    return any(
        data["gone"]
        for path, data in stored.items()
        if path.startswith(f"tenants/{tenant}/points/") and data["instance"]["id"] == id
    )

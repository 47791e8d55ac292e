"""What must hold of restores, while they run and at their end, judged against the cloud and what was committed before.

Each finding is a sentence. No finding: it passes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from tests.faults import judge

from snapkeep import cloud as c
from snapkeep import documents as d
from snapkeep.ports import Create, Write
from snapkeep.restore import rules
from snapkeep_local.cloud import Cloud

if TYPE_CHECKING:
    from tests.faults.restoring import Scene

KEPT: Final = timedelta(days=7)
OURS: Final = "snapkeep-restore"
LIVING: Final = ("requested", "approved", "running")

Stored = dict[str, Any]


@dataclass(frozen=True)
class Holding:
    """An instance as it was at one instant."""

    id: str
    status: str
    devices: dict[str, tuple[str, str, bool, str]]  # link and numeric id of the disk, boot, mode
    contents: dict[str, str]  # of its disks, by device


def holding(cloud: Cloud, link: str) -> Holding | None:
    """What the instance of this link has now; None: it is not there."""
    for one in cloud.instances():
        if one.link == link:
            there = [disk for disk in one.disks if disk.persistent and not disk.coming]
            devices = {disk.device_name: (disk.source, _disk_id(cloud, disk.source), disk.boot, disk.mode)
                       for disk in there}  # fmt: skip
            return Holding(
                one.id, one.status, devices, {disk.device_name: cloud.content(disk.source) for disk in there}
            )
    return None


def contents(cloud: Cloud, link: str) -> dict[str, str]:
    """What the disks of an instance hold, by device."""
    found = holding(cloud, link)
    assert found is not None, link
    return found.contents


def _disk(cloud: Cloud, link: str) -> Stored | None:
    """As it is: nothing that strikes calls strikes this."""
    return next((one for one in cloud.disks() if c.partial_link(one["selfLink"]) == link), None)


def _disk_id(cloud: Cloud, link: str) -> str:
    found = _disk(cloud, link)
    return found["id"] if found else ""


def _users(found: Stored) -> list[str]:
    return [c.partial_link(url) for url in found.get("users", [])]


# --- while it runs ------------------------------------------------------------------------------------------------


def of_intent(scene: Scene, record: Stored, change: Stored) -> None:
    """A change that a committed record says is about to be asked for."""
    id = change.get("request_id")
    if id is None or not record["action"].startswith("restore."):
        return
    if id in scene.trace.intended:
        scene.trace.broken.append(f"{change['change']} {change['name']}: a second intent")
    scene.trace.intended[id] = len(scene.trace.records)
    restore = scene.all_of("restores").get(record["subject"].removeprefix("restores/"))
    if change["change"] in ("InsertDisk", "InsertInstance") and (restore is None or restore["abandoned"]):
        scene.trace.broken.append(f"{change['name']}: is to be made by a restore that was given up")


def of_commit(scene: Scene, before: dict[str, Stored], writes: tuple[Write, ...]) -> None:
    """What was committed at this instant."""
    broken = scene.trace.broken
    for write in writes:
        collection, data = write.path.split("/")[2:3], write.data
        if collection == ["restores"]:
            if isinstance(write, Create):
                link = _claimed(data)
                found = holding(scene.cloud, link) if link and data["mode"] == "in_place" else None
                if found:
                    scene.before[data["id"]] = found
            broken += _of_transition(scene, before.get(write.path), data)
        elif collection == ["points"]:
            broken += judge.of_write(scene.cloud, data)
            broken += _of_point(scene, data)
    claimed = Counter(_claimed(one) for one in scene.all_of("restores").values() if one["state"] in LIVING)
    broken += [f"{link}: {count} restores live" for link, count in claimed.items() if link and count > 1]


def _claimed(restore: Stored) -> str | None:
    return rules.claimed(d.from_data(d.Restore, restore))


def _of_transition(scene: Scene, before: Stored | None, after: Stored) -> Iterator[str]:
    id, now = after["id"], scene.now()
    was = before["state"] if before else None
    if was == after["state"]:
        return
    if was is None:
        if after["state"] != ("requested" if after["needs_approval"] else "approved"):
            yield f"{id}: begins as {after['state']}"
        return
    if was not in LIVING:
        yield f"{id}: {was} becomes {after['state']}"
    match after["state"]:
        case "approved":
            if after["approved_by"] in (None, after["requested_by"]) or now >= after["approve_by"]:
                yield f"{id}: approved by {after['approved_by']} at {now}"
        case "running":
            if now >= after["start_by"]:
                yield f"{id}: begun at {now}, after {after['start_by']}"
            if after["needs_approval"] and after["approved_by"] is None:
                yield f"{id}: begun, and nobody approved it"
        case "completed":
            yield from _of_completion(scene, after)


def _of_completion(scene: Scene, restore: Stored) -> Iterator[str]:
    """A restore as it is committed to be completed, against what the cloud holds at this very instant."""
    id = restore["id"]
    if restore["purpose"] == "test":
        return
    if restore["mode"] == "disks":
        for disk in restore["disks"]:
            found = _disk(scene.cloud, _link(disk))
            if found is None or found["id"] != disk["id"] or found["status"] != "READY":
                yield f"{id}: completed, and {disk['name']} is {found and found['status']}"
            elif scene.cloud.content(_link(disk)) != scene.then[disk["device_name"]]:
                yield f"{id}: {disk['name']} does not hold what was there then"
        return
    to = restore["target"]
    found_there = holding(scene.cloud, f"projects/{to['project']}/zones/{to['zone']}/instances/{to['name']}")
    if found_there is None:
        yield f"{id}: completed, and there is no {to['name']}"
        return
    wanted = "RUNNING" if restore["was_running"] else "TERMINATED"
    just_now = scene.touched == scene.effects - 1  # since it was read
    if (found_there.status != wanted and not just_now) or found_there.id != to["id"]:
        yield f"{id}: completed, and {to['name']} is {found_there.id} {found_there.status}"
    undone = restore["source"]["undoes"]
    then = scene.before[undone].contents if undone else scene.then
    if found_there.contents != then:
        yield f"{id}: completed, and {to['name']} holds {found_there.contents}, not {then}"
    if restore["mode"] != "in_place":
        return
    was = scene.before[id]
    if found_there.id != was.id or _shape(found_there) != _shape(was):
        yield f"{id}: completed, and {to['name']} has {_shape(found_there)}, had {_shape(was)}"
    if undone and found_there.devices != scene.before[undone].devices:
        yield f"{id}: undone, and {to['name']} has {found_there.devices}"
    if not undone and {one[1] for one in found_there.devices.values()} & {one[1] for one in was.devices.values()}:
        yield f"{id}: completed, and former disks are attached"


def _shape(found: Holding) -> dict[str, tuple[bool, str]]:
    return {device: (boot, mode) for device, (_, _, boot, mode) in found.devices.items()}


def _of_point(scene: Scene, point: Stored) -> Iterator[str]:
    """No point mixes disks from before a restore with those that it made."""
    if point["state"] != "verified":
        return
    ids = {disk["id"] for disk in point["disks"]}
    made = {disk["id"] for one in scene.all_of("restores").values() for disk in one["disks"]}
    if ids & made and ids - made:
        yield f"{point['id']}: mixes former disks with restored ones: {sorted(ids)}"


def of_call(scene: Scene, change: c.Change, request: str) -> None:
    """What is being asked of Compute Engine, before it is."""
    trace = scene.trace
    if scene.kept["tenants/acme"] and not isinstance(change, c.InsertSnapshot) and not _is_of_copying(change):
        if request not in trace.intended:
            trace.broken.append(f"{type(change).__name__} {change.name}: was asked for without an intent")
        trace.broken += _of_change(scene, change)
    if trace.requests.setdefault(request, change) != change:
        trace.broken.append(f"{change.name}: {change} is asked for as the same request as {trace.requests[request]}")


def _is_of_copying(change: c.Change) -> bool:
    """Whether a change is none that restores ask for."""
    if isinstance(change, c.InsertDisk):
        return OURS not in change.labels
    if isinstance(change, c.DeleteDisk):
        return change.name.startswith("sk-")
    return not isinstance(
        change,
        c.InsertInstance | c.DeleteInstance | c.StopInstance | c.StartInstance | c.AttachDisk | c.DetachDisk
        | c.SetDiskLabels,
    )  # fmt: skip


def _of_change(scene: Scene, change: c.Change) -> Iterator[str]:
    name = f"{type(change).__name__} {change.name}"
    if isinstance(change, c.DeleteDisk | c.DeleteInstance) and scene.paused_at not in (None, scene.effects - 1):
        yield f"{name}: is asked to go while deletion is paused"
    match change:
        case c.InsertDisk() | c.InsertInstance():
            restore = scene.all_of("restores").get(change.labels.get(OURS, ""))
            if restore is None or restore["state"] != "running":  # given up between the commit and this, perhaps
                yield f"{name}: of {restore and (restore['id'], restore['state'])}"
            else:
                yield from _has_to_itself(scene, name, restore)
        case c.DeleteDisk():
            found = _disk(scene.cloud, change.link)
            if found is None:
                return
            if found["id"] != change.id:
                yield f"{name}: is asked to go as {change.id}, and is {found['id']}"
            if OURS not in found.get("labels", {}):
                yield f"{name}: is asked to go, and is not ours"
            if found["id"] in scene.precious:
                yield from _of_former(scene, name, found)
        case c.DeleteInstance():
            machine = scene.machine(change.link)
            if machine is None:
                return
            if machine.id != change.id or OURS not in machine.labels:
                yield f"{name}: is asked to go as {change.id}, and is {machine.id} with {machine.labels}"
            with_it = {_disk_id(scene.cloud, one.source) for one in machine.disks if one.auto_delete}
            if with_it & scene.precious:
                yield f"{name}: former disks would go with it"
        case c.SetDiskLabels():
            found = _disk(scene.cloud, change.link)
            if found is not None and found["id"] != change.id:
                yield f"{name}: is labelled as {change.id}, and is {found['id']}"
        case c.StopInstance() | c.StartInstance() | c.AttachDisk() | c.DetachDisk():
            machine = scene.machine(change.link)
            running = [one for one in scene.all_of("restores").values()
                       if one["state"] == "running" and one["mode"] == "in_place"]  # fmt: skip
            if machine is not None and machine.id != change.id:
                yield f"{name}: of {change.id}, and is {machine.id}"
            if len(running) != 1:
                yield f"{name}: {len(running)} restores in place run"
                return
            yield from _has_to_itself(scene, name, running[0])
            marked = scene.kept[f"tenants/acme/instances/{scene.instance_id}"]["restoring"]
            if marked != running[0]["id"]:
                yield f"{name}: and the instance says that {marked} restores it"
        case _:
            yield f"{name}: no restore asks for that"


def _has_to_itself(scene: Scene, name: str, restore: Stored) -> Iterator[str]:
    """Nothing is made or changed for a restore that does not hold its set, and claim its instance."""
    point = scene.kept[f"tenants/acme/points/{restore['recovery_point']}"]
    source = restore["source"]
    holds = point["copies"][source["region"]]["holds"] if source["copy"] else point["holds"]
    if not source["undoes"] and f"restore-{restore['id']}" not in {hold["id"] for hold in holds}:
        yield f"{name}: its set is not held by {restore['id']}"
    link = _claimed(restore)
    claim = scene.kept.get(f"tenants/acme/restore_claims/{rules.claim_id(link)}") if link else None
    if link and (claim is None or claim["restore"] != restore["id"]):
        yield f"{name}: {link} is not claimed by {restore['id']}"


def _of_former(scene: Scene, name: str, found: Stored) -> Iterator[str]:
    """A former disk goes only once its time is over, detached, and labelled as kept by the restore that kept it."""
    for restore in scene.all_of("restores").values():
        for one in restore["former"]:
            if one["id"] == found["id"] and one["status"] == "kept" and restore["state"] == "completed":
                labels = found.get("labels", {})
                if restore["keep_until"] is None or scene.now() < restore["finished_at"] + KEPT:
                    yield f"{name}: a former disk is asked to go before its time"
                if _users(found):
                    yield f"{name}: a former disk is asked to go that is attached"
                if labels.get(OURS) != restore["id"] or labels.get("snapkeep-role") != "former":
                    yield f"{name}: a former disk is asked to go without its label"
                if _is_claimed(scene, restore):
                    yield f"{name}: a former disk is asked to go that another restore is about to attach"
                return
    yield f"{name}: a former disk is asked to go, and none keeps it"


def _is_claimed(scene: Scene, restore: Stored) -> bool:
    link = _claimed(restore)
    return any(_claimed(one) == link for one in scene.all_of("restores").values() if one["state"] in LIVING)


def after_call(scene: Scene, change: c.Change) -> None:
    """Never two instances for one request, also not in two zones."""
    if not isinstance(change, c.InsertInstance):
        return
    made = [one.link for one in scene.cloud.instances() if one.labels.get(OURS) == change.labels.get(OURS)]
    if len(made) > 1:
        scene.trace.broken.append(f"{change.labels.get(OURS)}: has two instances: {made}")


# --- at the end ---------------------------------------------------------------------------------------------------


def findings(scene: Scene) -> list[str]:
    """Everything that is not as it must be once nothing lives any more."""
    return [
        *scene.trace.broken,
        *_every_restore(scene),
        *_intents_and_outcomes(scene),
        *_nothing_is_held(scene),
        *_snapshots(scene),
        *_approvals(scene),
        *_nothing_is_lost(scene),
    ]


def _every_restore(scene: Scene) -> Iterator[str]:
    restores = scene.all_of("restores")
    named: set[str] = {link for one in restores.values() for link in one["left"]}
    last = max((one for one in restores.values() if one["mode"] == "in_place" and one["id"] in scene.before),
               key=lambda one: one["requested_at"], default=None)  # fmt: skip
    for id, one in restores.items():
        if one["state"] in LIVING:
            yield f"{id}: is {one['state']} for ever: {one['failure']}"
            continue
        if one["state"] != "completed" and one["failure"] is None:
            yield f"{id}: {one['state']}, and does not say why"
        if one["left"] and not scene.removed:
            yield f"{id}: {one['state']}, and has left {one['left']}"
        ended = [r for r in scene.trace.records if r["subject"] == f"restores/{id}" and r["action"] in ENDS]
        if len(ended) != 1 or ended[0]["action"] != f"restore.{one['state']}":
            yield f"{id}: {one['state']}, and its records say {[r['action'] for r in ended]}"
        if one["state"] == "completed" and one["purpose"] != "test":
            yield from _is_still_there(scene, one)
        else:
            yield from _nothing_of(scene, id, named)
        if one is last and one["state"] != "completed" and not one["left"]:
            yield from _is_as_before(scene, one)
    if last is None:
        yield from _source_is_untouched(scene)


ENDS: Final = ("restore.completed", "restore.failed", "restore.cancelled")


def _is_still_there(scene: Scene, restore: Stored) -> Iterator[str]:
    """What a completed restore has made, and what was there before, to the last disk."""
    id = restore["id"]
    undone_by = [one for one in scene.all_of("restores").values()
                 if one["source"]["undoes"] == id and one["state"] == "completed"]  # fmt: skip
    for disk in restore["disks"]:
        if _disk_id(scene.cloud, _link(disk)) != disk["id"]:
            yield f"{id}: {disk['name']} is gone"
    made = {disk["name"] for disk in restore["disks"]}
    more = [one["name"] for one in scene.cloud.disks() if one.get("labels", {}).get(OURS) == id
            and one.get("labels", {}).get("snapkeep-role") != "former" and one["name"] not in made]  # fmt: skip
    if more and not restore["left"]:
        yield f"{id}: what former attempts made is left: {more}"
    for former in restore["former"]:
        found = _disk(scene.cloud, _link(former))
        labels = found.get("labels", {}) if found else {}
        wanted = {"kept": not undone_by, "returned": bool(undone_by), "gone": True}.get(former["status"], False)
        if not wanted:
            yield f"{id}: {former['name']} is {former['status']}"
        if former["status"] == "gone":
            if found is not None and found["id"] == former["id"]:
                yield f"{id}: {former['name']} is gone, and there"
        elif former["id"] in scene.removed or _link(former) in scene.foreign:
            continue  # somebody else's by now (`_nothing_is_lost`)
        elif found is None or found["id"] != former["id"]:
            yield f"{id}: the former disk {former['name']} is lost"
        elif former["status"] == "kept" and (_users(found) or labels.get(OURS) != id):
            yield f"{id}: the former disk {former['name']} has {_users(found)} {labels}"
        elif former["status"] == "returned" and OURS in labels and former["labels"].get(OURS) is None:
            yield f"{id}: the disk {former['name']} was put back, and is still labelled {labels}"


def _nothing_of(scene: Scene, id: str, named: set[str]) -> Iterator[str]:
    """Nothing is left of what a restore made that did not complete, or that was a test."""
    for one in scene.cloud.instances():
        if one.labels.get(OURS) == id and one.link not in named:
            yield f"{id}: the instance {one.name} is left"
    for disk in scene.cloud.disks():
        if disk.get("labels", {}).get(OURS) == id and c.partial_link(disk["selfLink"]) not in named:
            yield f"{id}: the disk {disk['name']} is left: {disk['labels']}"


def _is_as_before(scene: Scene, restore: Stored) -> Iterator[str]:
    """An abandoned restore in place has left the instance as it was."""
    was = scene.before[restore["id"]]
    to = restore["target"]
    found = holding(scene.cloud, f"projects/{to['project']}/zones/{to['zone']}/instances/{to['name']}")
    if found != _as_it_runs(scene, was, found):
        yield f"{restore['id']}: {restore['state']}, and the instance was {was} and is {found}"


def _as_it_runs(scene: Scene, was: Holding | None, found: Holding | None) -> Holding | None:
    """What it was; whether it runs is somebody's word who has started or stopped it."""
    return replace(was, status=found.status) if was and found and scene.touched >= 0 else was


def _source_is_untouched(scene: Scene) -> Iterator[str]:
    found = holding(scene.cloud, scene.source)
    if found != _as_it_runs(scene, scene.untouched, found):
        yield f"nothing was restored in place, and the instance was {scene.untouched} and is {found}"


def _intents_and_outcomes(scene: Scene) -> Iterator[str]:
    """Every change was recorded before it was asked for (`of_call`), and has one outcome."""
    outcomes: dict[str, list[str]] = defaultdict(list)
    for place, record in enumerate(scene.trace.records):
        if not record["action"].startswith("restore."):
            continue
        for outcome in record["detail"].get("outcomes", ()):
            outcomes[outcome["request_id"]].append(outcome["outcome"])
            if scene.trace.intended.get(outcome["request_id"], place + 2) > place + 1:
                yield f"{outcome['what']}: an outcome before its intent"
    for id in scene.trace.intended:
        if len(outcomes[id]) != 1:
            yield f"{scene.trace.requests.get(id) or id}: {len(outcomes[id])} outcomes: {outcomes[id]}"
    for restore in scene.all_of("restores").values():
        if any(ask["failure"] is None for step in restore["steps"] for ask in step["asks"]):
            yield f"{restore['id']}: has ended, and waits for an answer"


def _nothing_is_held(scene: Scene) -> Iterator[str]:
    for id, point in scene.all_of("points").items():
        for one in (point, *point["copies"].values()):
            yield from (f"{id}: is still held: {hold['id']}" for hold in one["holds"])
        if point["held"]:
            yield f"{id}: says that it is held"
    for claim in scene.all_of("restore_claims").values():
        if claim["restore"] is not None:
            yield f"{claim['instance']}: still claimed by {claim['restore']}"
    for id, supplied in scene.all_of("supplied").items():
        if supplied["values"]:
            yield f"{id}: what was supplied for it is still kept"
    for id, instance in scene.all_of("instances").items():
        if instance["restoring"] is not None:
            yield f"{id}: still says that {instance['restoring']} restores it"
    if scene.kept["tenants/acme"]["restore_testing"] is not None:
        yield "a restore test is said to be under way"


def _snapshots(scene: Scene) -> Iterator[str]:
    """The snapshots that were there are there, but for what vanished behind our back."""
    there = {one["selfLink"]: one["id"] for one in scene.cloud.snapshots()}
    for link, id in scene.snapshots.items():
        if there.get(link) != id and c.partial_link(link) not in scene.lost:
            yield f"{link}: is gone, or another"


def _approvals(scene: Scene) -> Iterator[str]:
    """Of every restore that had to be approved and began, one approval: another person's, of this very request."""
    given: dict[str, list[Stored]] = defaultdict(list)
    for record in scene.trace.records:
        if record["action"] == "restore.approved":
            given[record["subject"].removeprefix("restores/")].append(record)
    for id, one in scene.all_of("restores").items():
        found = given[id]
        if len(found) != (1 if one["approved_by"] else 0):
            yield f"{id}: approved {len(found)} times"
        if one["needs_approval"] and one["started_at"] and not found:
            yield f"{id}: begun without an approval"
        for record in found:
            said = record["detail"]["request_sha256"]
            if record["actor"] in (one["requested_by"], None) or said != one["request_sha256"]:
                yield f"{id}: approved by {record['actor']} as {said}"


def _nothing_is_lost(scene: Scene) -> Iterator[str]:
    """No disk that was attached when a restore came is gone, unless its time was over or somebody else removed it."""
    gone = {one["id"] for restore in scene.all_of("restores").values() for one in restore["former"]
            if one["status"] == "gone"}  # fmt: skip
    there = {one["id"] for one in scene.cloud.disks()}
    for id in scene.precious - there - gone - scene.removed:
        yield f"disk {id} is lost"
    for link, id in scene.foreign.items():
        if scene.id_of(link) != id:
            yield f"{link}, which is not ours, is not what it was"


def _link(disk: Stored) -> str:
    return f"projects/{disk['project']}/{disk['scope']}/disks/{disk['name']}"

"""What is compared before a restore counts as completed: all of it as it was read back. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from snapkeep import cloud
from snapkeep.cloud import Attachment, Disk
from snapkeep.documents import Failure, Restore, RestoreCheck, RestoreDisk
from snapkeep.restore.definition import NewInstance
from snapkeep.restore.rules import disk_link


@dataclass(frozen=True, slots=True)
class Heard:
    """What guests were asked. `asked`: the probe was; `answer`: what came instead of an answer, None where it came."""

    asked: bool = False
    answer: str | None = None
    contents: Mapping[str, str | None] = field(default_factory=dict)  # of disks and snapshots, by link


@dataclass(frozen=True, slots=True)
class Seen:
    """What was read of a restore that has done all else."""

    instance: cloud.Instance | None  # under the name that it restores to
    disks: Mapping[str, Disk | None]  # by link
    attached: Sequence[Attachment]  # as they are to be
    new: NewInstance | None  # of mode `new_instance`
    heard: Heard


def check(restore: Restore, seen: Seen) -> list[RestoreCheck]:
    """Every check of a restore of this mode."""
    checks = [_disks(restore, seen)]
    if restore.mode != "disks":
        found = seen.instance if seen.instance is not None and seen.instance.id == restore.target.id else None
        checks += [_instance(restore, found), _devices(restore, seen, found), _definition(restore, seen, found)]
        checks.append(_probe(restore, seen))
    return [*checks, _contents(restore, seen)]


PROBE: Final = "probe"
"""The one check that says nothing of what was made: whoever asks may have no way to it, or ask too early."""


def silent(restore: Restore) -> Failure | None:
    """That the application did not answer, where that alone is wrong; None where it did, or more is wrong."""
    failed = [one for one in restore.checks if one.state == "failed"]
    if [one.name for one in failed] != [PROBE]:
        return None
    return Failure(code="probe_failed", message=failed[0].detail)


def is_gone(restore: Restore, seen: Seen) -> bool:
    """Whether the instance, or a disk, that was read to be there before is not there any more."""
    if restore.mode != "disks" and (seen.instance is None or seen.instance.id != restore.target.id):
        return True
    found = [(disk, seen.disks.get(disk_link(disk))) for disk in restore.disks]
    return any(there is None or there.id != disk.id for disk, there in found)


def _of(name: str, wrong: str | None, said: str = "") -> RestoreCheck:
    return RestoreCheck(name=name, state="failed" if wrong else "passed", detail=(wrong or said)[:500])


def _disks(restore: Restore, seen: Seen) -> RestoreCheck:
    """Every disk is READY, as large as it was, of its type, and made of the right snapshot."""
    for disk in restore.disks:
        if wrong := _wrong(disk, seen.disks.get(disk_link(disk))):
            return _of("disks", wrong)
    if restore.source.undoes is not None:
        for one in seen.attached:
            found = seen.disks.get(one.source)
            if found is None or found.status != "READY":
                return _of("disks", f"{one.source} is {found.status if found else 'not there'}")
    return _of("disks", None)


def _wrong(disk: RestoreDisk, found: Disk | None) -> str | None:
    link = disk_link(disk)
    if found is None or found.id != disk.id:
        return f"{link} is not there"
    if found.status != "READY":
        return f"{link} is {found.status}"
    if found.size_gb < disk.size_gb:
        return f"{link} has {found.size_gb} GB, not {disk.size_gb}"
    if found.type != disk.type:
        return f"{link} is {found.type}, not {disk.type}"
    if found.source_snapshot_id != disk.snapshot_id:
        return f"{link} is made of snapshot {found.source_snapshot_id}, not {disk.snapshot_id}"
    return None


def _instance(restore: Restore, found: cloud.Instance | None) -> RestoreCheck:
    wanted = "RUNNING" if restore.was_running else "TERMINATED"
    status = found.status if found else "not there"
    return _of("instance", None if status == wanted else f"{restore.target.name} is {status}, not {wanted}", wanted)


def _devices(restore: Restore, seen: Seen, found: cloud.Instance | None) -> RestoreCheck:
    there = {disk.device_name: disk for disk in found.disks} if found else {}
    for one in seen.attached:
        disk = there.get(one.device_name)
        if disk is None or disk.source != one.source:
            holds = disk.source if disk else "nothing"
            return _of("devices", f"device {one.device_name} has {holds}, not {one.source}")
        if (disk.boot, disk.mode) != (one.boot, one.mode):
            return _of("devices", f"device {one.device_name}: boot {disk.boot}, {disk.mode}")
    return _of("devices", None, ", ".join(one.device_name for one in seen.attached))


def _definition(restore: Restore, seen: Seen, found: cloud.Instance | None) -> RestoreCheck:
    """In place nothing of it may have changed; a new instance must be what was asked for."""
    if found is None:
        return _of("definition", f"{restore.target.name} is not there")
    is_so = comparable(found)
    if restore.mode == "in_place":
        to_be = restore.found
    elif seen.new is not None:
        to_be = _compared(seen.new.definition, seen.new.labels)
    else:
        return RestoreCheck(name="definition", state="none")
    different = [name for name in COMPARED if not _is_as(name, is_so.get(name), to_be.get(name))]
    if not different:
        return _of("definition", None)
    name = different[0]
    return _of("definition", f"{name}: {is_so.get(name)!r}, not {to_be.get(name)!r}")


def _is_as(name: str, is_so: Any, to_be: Any) -> bool:
    """Whether this is as it is to be. Labels may have come to it: automation adds its own to whatever is made."""
    if name == "labels":
        return dict(to_be or {}).items() <= dict(is_so or {}).items()
    return bool(is_so == to_be)


COMPARED: Final = ("machineType", "tags", "labels", "networks", "serviceAccounts")


def comparable(found: cloud.Instance) -> dict[str, Any]:
    """Of an instance's definition what the checks compare."""
    return _compared(found.definition, found.labels)


def _compared(definition: Mapping[str, Any], labels: Mapping[str, str]) -> dict[str, Any]:
    nics = definition.get("networkInterfaces", [])
    return {
        "machineType": str(definition.get("machineType", "")).rsplit("/", 1)[-1],
        "tags": sorted(definition.get("tags", {}).get("items", [])),
        "labels": dict(labels),
        "networks": [_network(nic) for nic in nics],
        "serviceAccounts": sorted(str(one.get("email", "")) for one in definition.get("serviceAccounts", [])),
    }


def _network(nic: Mapping[str, Any]) -> str:
    """What an interface is connected to; one that names a subnetwork alone is in that one's network."""
    return str(nic.get("network", "")).rsplit("/", 1)[-1] or str(nic.get("subnetwork", "")).rsplit("/", 1)[-1]


def address_of(found: cloud.Instance) -> str | None:
    """The internal address of the first interface."""
    nics = found.definition.get("networkInterfaces", [])
    return str(nics[0]["networkIP"]) if nics and nics[0].get("networkIP") else None


def is_probed(restore: Restore) -> bool:
    """Whether an application is to be asked: nobody reaches a test, and what did not run before does not now."""
    return restore.probe is not None and restore.purpose != "test" and restore.was_running


def _probe(restore: Restore, seen: Seen) -> RestoreCheck:
    if restore.probe is None or not is_probed(restore):
        return RestoreCheck(name=PROBE, state="none")
    said = f"{restore.probe.kind} {restore.probe.port}"
    if not seen.heard.asked:
        return _of(PROBE, f"{said}: {restore.target.name} has no address that could be asked")
    return _of(PROBE, f"{said}: {seen.heard.answer}" if seen.heard.answer is not None else None, said)


def _contents(restore: Restore, seen: Seen) -> RestoreCheck:
    """Only where contents can be known at all, and of disks that were made of snapshots."""
    known = seen.heard.contents
    compared = 0
    for disk in restore.disks:
        is_so, to_be = known.get(disk_link(disk)), known.get(disk.snapshot)
        if is_so is None or to_be is None:
            continue
        compared += 1
        if is_so != to_be:
            return _of("contents", f"{disk_link(disk)} does not hold what {disk.snapshot} holds")
    return _of("contents", None) if compared else RestoreCheck(name="contents", state="none")

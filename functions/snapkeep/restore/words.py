"""A planned restore in sentences, and how long the tenant's last ones took. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from statistics import median
from typing import Any, Final

from snapkeep import wording
from snapkeep.access import RIGHTS
from snapkeep.cloud import region_of
from snapkeep.creation.rules import taken_at
from snapkeep.documents import Lacking, Point, Restore, RestoreMode, Tenant
from snapkeep.restore.definition import definition_for, device_of, lacking
from snapkeep.restore.rules import FORMER_KEPT
from snapkeep.wording import moment

ESTIMATED_FROM: Final = 20
"""Completed restores that an estimate is made from, the newest."""

# --- how long -----------------------------------------------------------------------------------------------------


def took_s(restore: Restore) -> int | None:
    """Seconds from its start until everything was checked; None where it was not completed."""
    if restore.state != "completed" or restore.started_at is None or restore.finished_at is None:
        return None
    checked = next((one.at for one in restore.steps if one.name == "check" and one.state == "done"), None)
    return int(((checked or restore.finished_at) - restore.started_at).total_seconds())


def stopped_s(restore: Restore) -> int | None:
    """Seconds that a completed restore in place had its instance stopped; None where that is not known."""
    if restore.mode != "in_place" or restore.state != "completed":
        return None
    at = {one.name: one.at for one in restore.steps if not one.undo}
    up = at.get("start")
    down = at.get("create_disks") or at.get("survey")  # the step before `stop` was done then
    return None if up is None or down is None else int((up - down).total_seconds())


def estimate(mode: RestoreMode, past: Iterable[Restore], *, undo: bool = False) -> int | None:
    """Seconds that a restore will take, from the tenant's own; None: none has been measured yet."""
    answered = (one for one in _alike(mode, past, undo=undo) if one.failure is None)  # the others waited in vain
    measured = [took for one in answered if (took := took_s(one)) is not None]
    return int(median(measured[:ESTIMATED_FROM])) if measured else None


def _alike(mode: RestoreMode, past: Iterable[Restore], *, undo: bool) -> list[Restore]:
    return [one for one in past if one.mode == mode and (one.source.undoes is not None) == undo]


# --- words --------------------------------------------------------------------------------------------------------

_PAUSED: Final = "restores are paused: it waits until they go on, and is cancelled if it has to wait too long"


def of_plan(
    restore: Restore,
    tenant: Tenant,
    point: Point,
    stored: Point,
    past: Sequence[Restore],
    now: datetime,
    *,
    paused: bool,
) -> tuple[str, ...]:
    lines = [_approval(restore, tenant)] if restore.needs_approval else []
    if restore.mode == "in_place":
        lines += [_stops(restore, past), *_in_place_loses(restore, point)]
    else:
        lines.append("nothing stops, and nothing that is there is changed")
    lines += [_made(restore), _from(restore, stored)]
    lines += _unlike(restore, stored)
    lines += [_lacking_words(one) for one in restore.lacking]
    if restore.mode == "new_instance" and (why := _unprotected(restore, tenant)):
        lines.append(why)
    if restore.mode == "disks":
        lines.append("the disks stay until somebody deletes them, and no point holds them")
    elif restore.probe is None:
        lines.append("no probe is named in the fleet file: whether the application answers is not checked")
    lines.append(_estimate(restore))
    return (*lines, _PAUSED) if paused else tuple(lines)


def of_undo(
    restore: Restore, done: Restore, tenant: Tenant, past: Sequence[Restore], *, paused: bool
) -> tuple[str, ...]:
    """What a person should know before he has a restore undone, the gravest first."""
    kept = (
        f"what was written since {moment(done.finished_at)} stays on the disks that {done.id} made: they are kept for "
        f"{FORMER_KEPT.days} days, until when this can be undone in turn"
    )
    lines = [
        _approval(restore, tenant),
        _stops(restore, past),
        f"attached again: {named(one.name for one in done.former)}, as before {done.id}",
        kept,
        *_local_ssds_lost(done.definition),
        _estimate(restore),
    ]
    return (*lines, _PAUSED) if paused else tuple(lines)


def _approval(restore: Restore, tenant: Tenant) -> str:
    roles = ", ".join(RIGHTS["restore.approve"].roles(tenant.deployment))
    until = moment(restore.approve_by)
    return f"a second person must approve it until {until}: one of {roles}, and not {restore.requested_by}"


def _stops(restore: Restore, past: Sequence[Restore]) -> str:
    alike = _alike("in_place", past, undo=restore.source.undoes is not None)
    measured = [took for one in alike if (took := stopped_s(one)) is not None]
    long = f"for about {_long(int(median(measured[:ESTIMATED_FROM])))}" if measured else "for as yet unmeasured time"
    return f"{restore.target.name} in {restore.target.zone} stops, {long}"


def _in_place_loses(restore: Restore, point: Point) -> list[str]:
    kept = (
        f"what was written to {restore.target.name} after {moment(taken_at(point))} is not in it any more: its disks "
        f"of now are detached, labelled and kept for {FORMER_KEPT.days} days, and `restore undo` puts them back"
    )
    return [kept, *_local_ssds_lost(point.definition)]


def _local_ssds_lost(definition: Mapping[str, Any]) -> list[str]:
    lost = [device_of(item) for item in lacking("in_place", definition)]
    return [f"what is on its local SSDs is lost with the stop: {named(lost)}"] if lost else []


def _made(restore: Restore) -> str:
    target = restore.target
    size = sum(disk.size_gb for disk in restore.disks)
    where = target.zone or f"a zone of {target.region} that is up"
    disks = f"{wording.count(len(restore.disks), 'disk')} of {size:,} GB"
    match restore.mode:
        case "disks":
            return f"made: {disks} in {where}, named rs-{target.name}-..."
        case "new_instance":
            return f"made: the instance {target.name} in {where}, with {disks}; it starts at once"
        case "in_place":
            return f"made: {disks} in {where}, under the device names of those that they replace"


def _from(restore: Restore, stored: Point) -> str:
    source = restore.source
    held = wording.size(sum(disk.snapshot.bytes for disk in stored.disks))
    what = "its copy" if source.copy else "the point"
    when = moment(taken_at(stored))
    return f"from {what} in {source.region}: {restore.recovery_point}, the state of {when}, {held} stored"


def _unlike(restore: Restore, stored: Point) -> list[str]:
    """How what is made is not as it was."""
    lines = []
    zonal = [
        disk.device_name
        for disk, was in zip(restore.disks, stored.disks, strict=True)
        if was.zone is None and not disk.scope.startswith("regions/")
    ]
    if zonal:
        undecided = restore.target.zone is None and restore.target.region == restore.instance.region
        unless = f", unless that is {restore.instance.zone}" if undecided else ""
        lines.append(f"regional disks become zonal there{unless}: {named(zonal)}")
    if restore.mode != "new_instance":
        return lines
    zone = restore.target.zone or f"{restore.target.region}-?"  # some zone: what it drops is the same in each
    new = definition_for("", restore, zone, {})
    if new.dropped:
        lines.append(f"left out of its definition, because only its own place has it: {named(new.dropped)}")
    if new.protected:
        lines.append("not protected from deletion, so that it can be taken back: protect it once you keep it")
    if restore.target.network:
        lines.append(f"connected to {restore.target.subnetwork or restore.target.network}, as `recovery` says")
        more = len(restore.definition.get("networkInterfaces", [])) - 1
        if more > 0:
            lines.append(f"{wording.count(more, 'further network interface')} left out: `recovery` names one network")
    if restore.target.service_account:
        lines.append(f"runs as {restore.target.service_account}, as `recovery` says")
    return lines


def _lacking_words(one: Lacking) -> str:
    match one.handled:
        case "supplied":
            return f"supplied: {one.item}"
        case "waived":
            return f"gone without: {one.item}"
        case None:
            return f"lacking, to be supplied or waived: {one.item}"


def _unprotected(restore: Restore, tenant: Tenant) -> str | None:
    """Why no point will hold the new instance; None where the fleet file selects it."""
    target = restore.target
    if label := tenant.instances.by_label:
        key, _, value = label.label.partition("=")
        selected = restore.definition.get("labels", {}).get(key) == value
    else:
        there = [one.zone for one in tenant.instances.by_name if one.name == target.name]
        selected = any(target.zone in (None, zone) and region_of(zone) == target.region for zone in there)
    if selected:
        return None
    return f"{target.name} is not protected afterwards: no point holds it until the fleet file names it"


def _estimate(restore: Restore) -> str:
    if restore.estimate_s is None:
        return "how long it takes is not known: none has been measured yet"
    return f"takes about {_long(restore.estimate_s)}, as the tenant's last ones did"


def _long(seconds: int) -> str:
    return f"{seconds} s" if seconds < 120 else f"{round(seconds / 60)} min"


NAMED_MAX: Final = 20
"""Things that a sentence names; it counts the rest."""


def named(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - NAMED_MAX} more" if len(listed) > NAMED_MAX else ""
    return ", ".join(listed[:NAMED_MAX]) + more

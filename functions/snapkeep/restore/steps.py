"""How each step of a restore is taken, from one read of what it is about. Pure: facts in, what to ask for out.

A step is driven by what is so: it asks for what is not so yet, and is done when nothing is left to ask for. So whoever
died before it, or runs beside it, changes nothing but the time that it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from msgspec.structs import replace

from snapkeep import cloud
from snapkeep.cloud import (
    AttachDisk,
    Attachment,
    Change,
    DeleteDisk,
    DeleteInstance,
    DetachDisk,
    Disk,
    Firewall,
    InsertInstance,
    Operation,
    SetDiskLabels,
    Snapshot,
    StartInstance,
    StopInstance,
    Zone,
)
from snapkeep.creation.rules import LOOK_MIN, UNKNOWN_SETTLED
from snapkeep.documents import GONE, Failure, FormerDisk, Restore, RestoreDisk, RestoreStep, StepName
from snapkeep.restore import checks, making, rules
from snapkeep.restore.asks import Goal, Outcome, Pursued, asker, ended, pursue
from snapkeep.restore.definition import NewInstance
from snapkeep.restore.rules import ASKS_MAX, FORMER_KEPT, PROBE_PATIENCE, disk_link

PAUSED_LOOK: Final = timedelta(minutes=30)
"""Until what is paused is looked at again."""

BLOCKED_LOOK: Final = timedelta(minutes=5)
"""Until what somebody else has in use is looked at again."""

ON_ITS_WAY: Final = frozenset({"PROVISIONING", "STAGING", "PENDING", "REPAIRING"})
"""Statuses of an instance that comes up."""

GOING_DOWN: Final = frozenset({"STOPPING", "PENDING_STOP", "SUSPENDING"})

OURS: Final = "snapkeep-"
"""What our labels begin with."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What was read for one restore. What is not in a map was not read; None: it is not there."""

    instances: Mapping[str, cloud.Instance | None] = field(default_factory=dict)  # by link, as all here
    disks: Mapping[str, Disk | None] = field(default_factory=dict)
    snapshots: Mapping[str, Snapshot | None] = field(default_factory=dict)
    operations: Mapping[str, Operation | None] = field(default_factory=dict)  # read before the others
    zones: Sequence[Zone] = ()
    firewalls: Sequence[Firewall] = ()
    undone: Restore | None = None  # the restore whose former disks are put back
    new: NewInstance | None = None  # what is asked for as the new instance, with what a person supplied
    may_remove: bool = True  # deletion is not paused
    heard: checks.Heard | None = None  # None: nobody in there was asked yet


@dataclass(frozen=True, slots=True)
class Taken:
    """One step, taken once. Nothing of it is done yet."""

    restore: Restore
    done: bool = False
    intents: tuple[Change, ...] = ()
    starts: tuple[Change, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    dead: Failure | None = None  # it never will be done
    look_at: datetime | None = None


Take = Callable[[Restore, int, str, Facts, datetime], Taken]
"""From the restore, the place of its step, the tenant's id, what was read, and the time."""


def with_step(restore: Restore, at: int, step: RestoreStep) -> Restore:
    return replace(restore, steps=[*restore.steps[:at], step, *restore.steps[at + 1 :]])


def _waits(restore: Restore, at: int, why: Failure, look_at: datetime) -> Taken:
    return Taken(with_step(restore, at, replace(restore.steps[at], failure=why)), look_at=look_at)


def _pursued(restore: Restore, at: int, facts: Facts, now: datetime, goals: Sequence[Goal], bound: int | None) -> Taken:
    """The step after a look at its goals; what takes a restore back never gives up."""
    step = restore.steps[at]
    limit = None if step.undo else bound
    seen = pursue(step, goals, facts.operations, now, asker=asker(restore, at), asks_max=limit)
    return _of(restore, at, seen)


def _of(restore: Restore, at: int, seen: Pursued) -> Taken:
    return Taken(
        with_step(restore, at, seen.step), seen.met, seen.intents, seen.starts, seen.outcomes, seen.dead, seen.look_at
    )


# --- survey -------------------------------------------------------------------------------------------------------


def chosen(restore: Restore, zones: Sequence[Zone]) -> str | None:
    """The zone to restore into where any of the region will do: the point's own, else the first one that is up."""
    up = sorted(zone.name for zone in zones if zone.up and zone.region == restore.target.region)
    return restore.instance.zone if restore.instance.zone in up else next(iter(up), None)


def survey(restore: Restore, at: int, tenant: str, facts: Facts, now: datetime) -> Taken:
    """Whether all that it needs is there, before anything is changed."""
    if why := _wrong_source(restore, facts):
        return Taken(restore, dead=why)
    zone = next((one for one in facts.zones if one.name == restore.target.zone), None)
    if restore.target.zone is None or zone is None or not zone.up:
        which = restore.target.zone or f"every zone of {restore.target.region}"
        message = f"{which} is down or not there; cancel it and restore into another zone, or wait until it is back"
        return _waits(restore, at, Failure(code="zone_away", message=message), now + BLOCKED_LOOK)
    if restore.purpose == "test" and (why := _not_isolated(restore, facts)):
        return Taken(restore, dead=why)
    match restore.mode:
        case "disks":
            return Taken(restore, done=True)
        case "new_instance":
            link = rules.target_link(restore)
            assert link is not None
            if facts.instances.get(link) is not None:
                return Taken(restore, dead=_taken(link))
            return Taken(restore, done=True)
        case "in_place":
            return _survey_in_place(restore, at, facts, now)


def _taken(link: str) -> Failure:
    return Failure(code="name_taken", message=f"{link} exists already: ask for it under another name")


def _wrong_source(restore: Restore, facts: Facts) -> Failure | None:
    """Why the snapshots, or the former disks, cannot be restored from; None if they can."""
    if restore.source.undoes is not None:
        return _wrong_former(restore, facts)
    for disk in restore.disks:
        found = facts.snapshots.get(disk.snapshot)
        if found is None or found.status != "READY":
            message = f"{disk.snapshot} is {found.status if found else 'not there'}"
            return Failure(code="point_gone", message=message)
        if found.id != disk.snapshot_id:
            message = f"{disk.snapshot} is another snapshot now: {found.id}, not {disk.snapshot_id}"
            return Failure(code="snapshot_changed", message=message)
        if found.locations != (restore.source.region,):
            message = f"{disk.snapshot} lies in {', '.join(found.locations)}, not in {restore.source.region}"
            return Failure(code="snapshot_changed", message=message)
    return None


def _wrong_former(restore: Restore, facts: Facts) -> Failure | None:
    put_back = incoming(restore, facts)
    if facts.undone is None or not put_back:
        return Failure(code="former_gone", message=f"{restore.source.undoes} has kept no disks")
    for one in put_back:
        found = facts.disks.get(one.link)
        if found is None or found.id != one.id:
            message = f"{one.link} ({one.id}), which {restore.source.undoes} had kept, is not there any more"
            return Failure(code="former_gone", message=message)
        if found.users:
            return Failure(code="former_in_use", message=f"{one.link} is attached to {', '.join(found.users)}")
    return None


def _not_isolated(restore: Restore, facts: Facts) -> Failure | None:
    """Why what is restored as a test might be reached, or reach anything; None if nothing gets in or out."""
    network = restore.target.network or ""
    mine = [rule for rule in facts.firewalls if cloud.partial_link(rule.network) == cloud.partial_link(network)]
    enabled = [rule for rule in mine if not rule.disabled]
    if allowing := next((rule for rule in enabled if rule.allows), None):
        why = f"its firewall rule {allowing.name} allows traffic"
    elif not any(_denies_all_out(rule) for rule in enabled):
        why = "no firewall rule of it denies all traffic out to 0.0.0.0/0 for every instance"
    else:
        return None
    return Failure(code="network_not_isolated", message=f"{network}: {why}; nothing may get in or out in a test")


def _denies_all_out(rule: Firewall) -> bool:
    everywhere = "0.0.0.0/0" in rule.ranges
    return not rule.allows and rule.direction == "EGRESS" and rule.everything and everywhere and not rule.targeted


def _survey_in_place(restore: Restore, at: int, facts: Facts, now: datetime) -> Taken:
    found = instance_of(restore, facts)
    if found is None:
        ref = restore.instance
        message = f"{ref.name} ({ref.id}) is not in {ref.zone} any more: restore it as a new instance"
        return Taken(restore, dead=Failure(code="instance_gone", message=message))
    if found.status not in ("RUNNING", "TERMINATED"):
        message = f"{found.name} is {found.status}; it goes on when it is RUNNING or TERMINATED"
        return _waits(restore, at, Failure(code="instance_not_steady", message=message), now + LOOK_MIN)
    former = []
    for attached in found.disks:
        if not attached.persistent:
            continue
        disk = facts.disks.get(attached.source)
        if disk is None:
            message = f"{attached.source} is attached to {found.name} and was not found"
            return _waits(restore, at, Failure(code="disk_gone", message=message), now + LOOK_MIN)
        former.append(
            FormerDisk(
                project=disk.project,
                scope=disk.scope,
                name=disk.name,
                id=disk.id,
                device_name=attached.device_name,
                boot=attached.boot,
                mode=attached.mode,
                interface=attached.interface,
                auto_delete=attached.auto_delete,
                labels=dict(disk.labels),
            )
        )
    surveyed = replace(
        restore,
        target=replace(restore.target, id=found.id),
        former=former,
        was_running=found.status == "RUNNING",
        found=checks.comparable(found),
    )
    return Taken(surveyed, done=True)


def pre_restore(restore: Restore, at: int, tenant: str, facts: Facts, now: datetime) -> Taken:
    """Whoever commits this requests the point in the same commit (see `handler`). It is never waited for."""
    return Taken(restore, done=True)


# --- disks and instance that are made -----------------------------------------------------------------------------


def create_disks(restore: Restore, at: int, tenant: str, facts: Facts, now: datetime) -> Taken:
    step = restore.steps[at]
    made = making.make(restore, tenant, facts.disks, facts.operations, now, first=step.asked == 0)
    asked = bool(made.starts)
    after = replace(
        step,
        asked=step.asked + len(made.intents),
        asked_at=now if asked else step.asked_at,
        failure=made.dead or made.why or step.failure,
    )
    restored = with_step(replace(restore, disks=list(made.disks)), at, after)
    return Taken(restored, made.done, made.intents, made.starts, made.outcomes, made.dead, made.look_at)


def create_instance(restore: Restore, at: int, tenant: str, facts: Facts, now: datetime) -> Taken:
    link = rules.target_link(restore)
    assert link is not None
    found = facts.instances.get(link)
    what = f"InsertInstance {restore.target.name}"
    if found is not None and not is_ours(restore, tenant, found):
        return _pursued(restore, at, facts, now, [Goal(what, met=False, lost=_taken(link))], ASKS_MAX)
    if found is not None:
        restore = replace(restore, target=replace(restore.target, id=found.id))
        return _pursued(restore, at, facts, now, [Goal(what, met=found.status not in ON_ITS_WAY)], ASKS_MAX)
    if restore.target.id is not None:
        gone = Failure(code="instance_gone", message=f"{link} was made and is gone")
        return _pursued(restore, at, facts, now, [Goal(what, met=False, lost=gone)], ASKS_MAX)
    goal = Goal(what, met=False, ask=partial(_insert_instance, restore, facts))
    return _pursued(restore, at, facts, now, [goal], ASKS_MAX)


def _insert_instance(restore: Restore, facts: Facts, attempt: int) -> InsertInstance:
    new = facts.new
    assert new is not None
    assert restore.target.zone is not None
    # Compute Engine wants the boot disk first.
    disks = sorted(restore.disks, key=lambda disk: not disk.boot)
    empty = [Attachment("", device, boot=False, mode="READ_WRITE", interface="NVME", auto_delete=True)
             for device in new.empty_disks]  # fmt: skip
    return InsertInstance(
        project=restore.target.project,
        zone=restore.target.zone,
        name=restore.target.name,
        definition=new.definition,
        disks=(*(attachment(Incoming.of(disk)) for disk in disks), *empty),
        labels=new.labels,
        metadata=new.metadata,
        secrets=new.secrets,
        description=new.description,
        attempt=attempt,
    )


def is_ours(restore: Restore, tenant: str, found: cloud.Instance) -> bool:
    """Whether an instance under the new one's name is that one: by its id, else by its labels."""
    if restore.target.id is not None:
        return found.id == restore.target.id
    labels = found.labels
    return labels.get("snapkeep-restore") == restore.id and labels.get("snapkeep-tenant") == tenant


# --- disks of an instance, swapped --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Incoming:
    """A disk that a restore in place attaches, or that is attached again when it is taken back."""

    link: str
    id: str | None
    device_name: str
    boot: bool
    mode: str
    interface: str
    auto_delete: bool

    @staticmethod
    def of(disk: RestoreDisk | FormerDisk) -> Incoming:
        return Incoming(
            disk_link(disk), disk.id, disk.device_name, disk.boot, disk.mode, disk.interface, disk.auto_delete
        )


def attachment(one: Incoming) -> Attachment:
    return Attachment(one.link, one.device_name, one.boot, one.mode, one.interface, one.auto_delete)


def put_back(restore: Restore, facts: Facts) -> list[FormerDisk]:
    """The former disks of the restore that is undone, which are attached again; of any other none."""
    if restore.source.undoes is None or facts.undone is None:
        return []
    return [one for one in facts.undone.former if one.status == "kept"]


def incoming(restore: Restore, facts: Facts) -> list[Incoming]:
    """What the restore attaches."""
    if restore.source.undoes is not None:
        return [Incoming.of(one) for one in put_back(restore, facts)]
    return [Incoming.of(disk) for disk in restore.disks]


def outgoing(restore: Restore) -> list[Incoming]:
    """What was attached before."""
    return [Incoming.of(one) for one in restore.former]


def instance_of(restore: Restore, facts: Facts) -> cloud.Instance | None:
    """The instance that is restored in place, if it is there and the same as ever."""
    link = rules.target_link(restore)
    found = facts.instances.get(link) if link is not None else None
    return found if found is not None and found.id == (restore.target.id or restore.instance.id) else None


def _without_instance(restore: Restore, at: int) -> Taken:
    """Somebody has removed the instance: nothing can be swapped. What was attached before is named as left."""
    if not restore.steps[at].undo:
        message = f"{restore.target.name} ({restore.target.id}) was removed, or replaced, while it was restored"
        return Taken(restore, dead=Failure(code="instance_gone", message=message))
    former = [one.link for one in outgoing(restore)]
    return Taken(replace(restore, left=sorted({*restore.left, *former})), done=True)


def _stopped(restore: Restore, found: cloud.Instance) -> Goal:
    what = f"StopInstance {found.name}"
    if found.status in ("TERMINATED", *GOING_DOWN, *ON_ITS_WAY):
        return Goal(what, met=found.status == "TERMINATED")
    return Goal(what, met=False, ask=partial(StopInstance, found.project, found.zone, found.name, found.id))


def _is_as_before(restore: Restore, facts: Facts, found: cloud.Instance) -> bool:
    """Whether exactly what was attached before is attached of the two sets of disks."""
    there = {attached.source for attached in found.disks}
    ours = {one.link for one in incoming(restore, facts)} - {one.link for one in outgoing(restore)}
    return not ours & there and {one.link for one in outgoing(restore)} <= there


def stop(restore: Restore, at: int, tenant: str, facts: Facts, now: datetime) -> Taken:
    found = instance_of(restore, facts)
    if found is None:
        return _without_instance(restore, at)
    if restore.steps[at].undo and _is_as_before(restore, facts, found):
        return _pursued(restore, at, facts, now, [], None)
    return _pursued(restore, at, facts, now, [_stopped(restore, found)], ASKS_MAX)


def detach_disks(restore: Restore, at: int, tenant: str, facts: Facts, now: datetime) -> Taken:
    found = instance_of(restore, facts)
    if found is None:
        return _without_instance(restore, at)
    undo = restore.steps[at].undo
    if undo and _is_as_before(restore, facts, found):
        return _pursued(restore, at, facts, now, [], None)
    going = incoming(restore, facts) if undo else outgoing(restore)
    goals = [_detached(one, found, facts) for one in going]
    if undo:  # another disk under the name of one of ours is nobody's to detach
        goals = [goal for goal in goals if goal.lost is None]
    if not all(goal.met for goal in goals) and found.status != "TERMINATED":
        goals = [_stopped(restore, found)]  # somebody has started it
    return _pursued(restore, at, facts, now, goals, ASKS_MAX)


def _detached(one: Incoming, found: cloud.Instance, facts: Facts) -> Goal:
    what = f"DetachDisk {one.device_name}"
    attached = next((a for a in found.disks if a.source == one.link), None)
    if attached is None:
        return Goal(what, met=True)
    disk = facts.disks.get(one.link)
    if disk is None or (one.id is not None and disk.id != one.id):
        which = disk.id if disk else "not there"
        return Goal(what, met=False, lost=Failure(code="disk_replaced", message=f"{one.link} is {which}, not {one.id}"))
    ask = partial(DetachDisk, found.project, found.zone, found.name, found.id, attached.device_name)
    return Goal(what, met=False, ask=ask)


def attach_disks(restore: Restore, at: int, tenant: str, facts: Facts, now: datetime) -> Taken:
    found = instance_of(restore, facts)
    if found is None:
        return _without_instance(restore, at)
    undo = restore.steps[at].undo
    coming = outgoing(restore) if undo else incoming(restore, facts)
    there = {attached.source for attached in found.disks}
    if undo:  # what somebody has removed meanwhile cannot come back, and keeps nothing else waiting
        lost = [one.link for one in coming if one.link not in there and not _is_the_same(one, facts)]
        restore = replace(restore, left=sorted({*restore.left, *lost}))
        coming = [one for one in coming if one.link not in lost]
    goals = [_attached(one, found, facts) for one in coming]
    if not all(goal.met for goal in goals) and found.status != "TERMINATED":
        goals = [_stopped(restore, found)]  # somebody has started it
    return _pursued(restore, at, facts, now, goals, ASKS_MAX)


def _is_the_same(one: Incoming, facts: Facts) -> bool:
    disk = facts.disks.get(one.link)
    return disk is not None and (one.id is None or disk.id == one.id)


def _attached(one: Incoming, found: cloud.Instance, facts: Facts) -> Goal:
    what = f"AttachDisk {one.device_name}"
    if any(attached.source == one.link for attached in found.disks):
        return Goal(what, met=True)
    if not _is_the_same(one, facts):
        message = f"{one.link} ({one.id}), which was to be attached, is not there any more"
        return Goal(what, met=False, lost=Failure(code="disk_gone", message=message))

    def ask(attempt: int) -> AttachDisk:
        return AttachDisk(found.project, found.zone, found.name, found.id, attachment(one), attempt)

    return Goal(what, met=False, ask=ask)


def start(restore: Restore, at: int, tenant: str, facts: Facts, now: datetime) -> Taken:
    found = instance_of(restore, facts)
    if found is None:
        return _without_instance(restore, at)
    what = f"StartInstance {found.name}"
    if not restore.was_running:
        return _pursued(restore, at, facts, now, [], None)
    if found.status in ("RUNNING", *GOING_DOWN, *ON_ITS_WAY):
        goal = Goal(what, met=found.status == "RUNNING")
    else:
        goal = Goal(what, met=False, ask=partial(StartInstance, found.project, found.zone, found.name, found.id))
    return _pursued(restore, at, facts, now, [goal], ASKS_MAX)


def label_disks(restore: Restore, at: int, tenant: str, facts: Facts, now: datetime) -> Taken:
    """Labels help people. What cannot be labelled is passed over, and is then not deleted later either."""
    step = restore.steps[at]
    goals = [
        _labelled(one, wanted, facts.disks.get(disk_link(one)))
        for one, wanted in _labels(restore, tenant, facts, step.at or now, undo=step.undo)
    ]
    seen = pursue(step, goals, facts.operations, now, asker=asker(restore, at), asks_max=ASKS_MAX)
    if seen.dead is not None:
        rest = tuple(ended(ask, facts.operations, seen.dead) for ask in seen.step.asks if ask.failure is None)
        return _of(restore, at, Pursued(replace(seen.step, asks=[]), outcomes=(*seen.outcomes, *rest), met=True))
    return _of(restore, at, seen)


def _labels(
    restore: Restore, tenant: str, facts: Facts, since: datetime, *, undo: bool
) -> Iterator[tuple[FormerDisk, dict[str, str]]]:
    """Each former disk, and each that is put back, with the labels of ours that it is to have."""
    for one in restore.former:
        before = {key: value for key, value in one.labels.items() if key.startswith(OURS)}
        yield one, before if undo else kept_labels(restore, tenant, since + FORMER_KEPT)
    for one in put_back(restore, facts):
        before = {key: value for key, value in one.labels.items() if key.startswith(OURS)}
        assert facts.undone is not None
        kept = kept_labels(facts.undone, tenant, facts.undone.keep_until or since)
        yield one, kept if undo else before


def kept_labels(restore: Restore, tenant: str, until: datetime) -> dict[str, str]:
    return rules.labels(restore.id, tenant, "former") | {"snapkeep-kept-until": f"{until:%Y-%m-%d}"}


def _labelled(one: FormerDisk, wanted: Mapping[str, str], found: Disk | None) -> Goal:
    what = f"SetDiskLabels {one.name}"
    if found is None or found.id != one.id:
        return Goal(what, met=True)  # there is nothing to be labelled any more
    ours = {key: value for key, value in found.labels.items() if key.startswith(OURS)}
    if ours == wanted:
        return Goal(what, met=True)
    theirs = {key: value for key, value in found.labels.items() if not key.startswith(OURS)}

    def ask(attempt: int) -> SetDiskLabels:
        labels = {**theirs, **wanted}
        return SetDiskLabels(one.project, one.scope, one.name, one.id, labels, found.label_fingerprint, attempt)

    return Goal(what, met=False, ask=ask)


# --- check --------------------------------------------------------------------------------------------------------


def check(restore: Restore, at: int, tenant: str, facts: Facts, now: datetime) -> Taken:
    if facts.heard is None:
        return Taken(restore, look_at=now)  # asked at once: only now is it known that there is something to ask
    seen = checks.Seen(
        instance=facts.instances.get(rules.target_link(restore) or ""),
        disks=facts.disks,
        attached=tuple(attachment(one) for one in incoming(restore, facts)),
        new=facts.new,
        heard=facts.heard,
    )
    made = checks.check(restore, seen)
    after = replace(restore, checks=made)
    wrong = next((one for one in made if one.state == "failed"), None)
    if wrong is None:
        return Taken(after, done=True)
    # What somebody has taken away says nothing of the set that it was made of.
    code = "made_gone" if checks.is_gone(restore, seen) else "checks_failed"
    why = Failure(code=code, message=f"{wrong.name}: {wrong.detail}"[:500])
    if now - (restore.steps[at].at or now) >= PROBE_PATIENCE:
        return Taken(after, dead=why)
    return _waits(after, at, why, now + LOOK_MIN)


# --- taking away --------------------------------------------------------------------------------------------------


def delete_instance(restore: Restore, at: int, tenant: str, facts: Facts, now: datetime) -> Taken:
    """Of a test, or of an abandoned restore: the instance that was made, and no other."""
    link = rules.target_link(restore)
    found = facts.instances.get(link) if link is not None else None
    what = f"DeleteInstance {restore.target.name}"
    if found is None or not is_ours(restore, tenant, found):
        return _pursued(restore, at, facts, now, [Goal(what, met=True)], None)
    restore = replace(restore, target=replace(restore.target, id=found.id))
    if found.status in GOING_DOWN:
        return _pursued(restore, at, facts, now, [Goal(what, met=False)], None)
    made = {disk_link(disk) for disk in restore.disks}
    strange = [one.source for one in found.disks if one.persistent and one.auto_delete and one.source not in made]
    if strange:
        why = Failure(code="in_use", message=f"{', '.join(strange)} would go with {found.link}: detach it first"[:500])
        return _waits(restore, at, why, now + BLOCKED_LOOK)
    if not facts.may_remove:
        return _waits(restore, at, PAUSED, now + PAUSED_LOOK)
    goal = Goal(what, met=False, ask=partial(DeleteInstance, found.project, found.zone, found.name, found.id))
    return _pursued(restore, at, facts, now, [goal], None)


PAUSED: Final = Failure(code="paused", message="deletion is paused")


def delete_disks(restore: Restore, at: int, tenant: str, facts: Facts, now: datetime) -> Taken:
    """Of a test, or of an abandoned restore: the disks that were made. Of one that succeeded: what attempts left."""
    step = restore.steps[at]
    everything = step.undo or restore.purpose == "test"
    goals = []
    for disk in restore.disks:
        goals += [_removed(restore, tenant, disk, link, facts) for link in disk.superseded]
        if everything and disk.scope and disk.status != GONE:
            coming = _may_come(restore, disk, facts, now)
            goals.append(_removed(restore, tenant, disk, disk_link(disk), facts, coming=coming))
    taken = _pursued(restore, at, facts, now, goals, None)
    if taken.done:
        gone = [
            replace(disk, superseded=[], status=GONE if everything else disk.status) for disk in taken.restore.disks
        ]
        return Taken(replace(taken.restore, disks=gone), done=True, outcomes=taken.outcomes)
    paused = any(goal.hindered is PAUSED for goal in goals)
    look_at = now + PAUSED_LOOK if paused and not taken.starts else taken.look_at
    return Taken(taken.restore, False, taken.intents, taken.starts, taken.outcomes, look_at=look_at)


def _may_come(restore: Restore, disk: RestoreDisk, facts: Facts, now: datetime) -> bool:
    """Whether a disk that is not there may still appear: it was asked for, and how that ended is not known."""
    if disk.id is not None:
        return False  # it was there
    asked_at = max((one.asked_at for one in restore.steps if one.name == "create_disks" and one.asked_at), default=None)
    if disk.operation is None:
        return asked_at is not None and now - asked_at < UNKNOWN_SETTLED
    operation = facts.operations.get(disk.operation)
    return disk.operation not in facts.operations or (operation is not None and operation.status != "DONE")


def _removed(
    restore: Restore, tenant: str, disk: RestoreDisk, link: str, facts: Facts, *, coming: bool = False
) -> Goal:
    """That what was made under a link is gone. A disk that was attached before is never what was made."""
    what = f"DeleteDisk {link.rsplit('/', 1)[1]}"
    found = facts.disks.get(link)
    if found is None:
        return Goal(what, met=not coming)
    if not making.is_ours(restore, tenant, disk, found) or found.id in {one.id for one in restore.former}:
        return Goal(what, met=True)
    if found.users:
        message = f"{link} is attached to {', '.join(found.users)}: detach it"
        return Goal(what, met=False, hindered=Failure(code="in_use", message=message[:500]))
    if found.status == "DELETING" or coming:
        return Goal(what, met=False)
    if not facts.may_remove:
        return Goal(what, met=False, hindered=PAUSED)
    ask = partial(DeleteDisk, found.project, found.scope, found.name, found.id)
    return Goal(what, met=False, ask=ask)


TAKES: Final[Mapping[StepName, Take]] = {
    "survey": survey,
    "pre_restore": pre_restore,
    "create_disks": create_disks,
    "stop": stop,
    "detach_disks": detach_disks,
    "attach_disks": attach_disks,
    "start": start,
    "label_disks": label_disks,
    "create_instance": create_instance,
    "check": check,
    "delete_instance": delete_instance,
    "delete_disks": delete_disks,
}

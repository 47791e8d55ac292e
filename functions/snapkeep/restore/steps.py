"""How each step of a restore is taken, from one read of what it is about. Pure: facts in, what to ask for out.

A step is driven by what is so: it asks for what is not so yet, and is done when nothing is left to ask for. So whoever
died before it, or runs beside it, changes nothing but the time that it takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from msgspec.structs import replace

from snapkeep import cloud
from snapkeep.cloud import Attachment, DeleteDisk, DeleteInstance, InsertInstance
from snapkeep.creation.rules import LOOK_MIN, UNKNOWN_SETTLED
from snapkeep.documents import GONE, Failure, Restore, RestoreDisk, StepName
from snapkeep.restore import checks, making, rules
from snapkeep.restore.asks import Goal
from snapkeep.restore.facts import (
    BLOCKED_LOOK,
    GOING_DOWN,
    ON_ITS_WAY,
    Facts,
    Incoming,
    Take,
    Taken,
    attachment,
    incoming,
    pursued,
    waits,
    with_step,
)
from snapkeep.restore.rules import ASKS_MAX, PROBE_PATIENCE, disk_link
from snapkeep.restore.survey import name_taken, survey
from snapkeep.restore.swap import attach_disks, detach_disks, label_disks, start, stop

PAUSED_LOOK: Final = timedelta(minutes=30)
"""Until what is paused is looked at again."""

PAUSED: Final = Failure(code="paused", message="deletion is paused")


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
        return pursued(restore, at, facts, now, [Goal(what, met=False, lost=name_taken(link))], ASKS_MAX)
    if found is not None:
        target = replace(restore.target, id=found.id, address=checks.address_of(found))
        restore = replace(restore, target=target)
        return pursued(restore, at, facts, now, [Goal(what, met=found.status not in ON_ITS_WAY)], ASKS_MAX)
    if restore.target.id is not None:
        gone = Failure(code="instance_gone", message=f"{link} was made and is gone")
        return pursued(restore, at, facts, now, [Goal(what, met=False, lost=gone)], ASKS_MAX)
    goal = Goal(what, met=False, ask=partial(_insert_instance, restore, facts))
    return pursued(restore, at, facts, now, [goal], ASKS_MAX)


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
    failed = [one for one in made if one.state == "failed"]
    if not failed:
        return Taken(after, done=True)
    over = now - (restore.steps[at].at or now) >= PROBE_PATIENCE
    if over and checks.silent(after) is not None:
        return Taken(after, done=True)  # all of it is there: to take it back would cost more than to look at it
    wrong = next((one for one in failed if one.name != checks.PROBE), failed[0])
    # What somebody has taken away says nothing of the set that it was made of.
    code = "made_gone" if checks.is_gone(restore, seen) else "checks_failed"
    why = Failure(code=code, message=f"{wrong.name}: {wrong.detail}"[:500])
    if over:
        return Taken(after, dead=why)
    return waits(after, at, why, now + LOOK_MIN)


# --- taking away --------------------------------------------------------------------------------------------------


def delete_instance(restore: Restore, at: int, tenant: str, facts: Facts, now: datetime) -> Taken:
    """Of a test, or of an abandoned restore: the instance that was made, and no other."""
    link = rules.target_link(restore)
    found = facts.instances.get(link) if link is not None else None
    what = f"DeleteInstance {restore.target.name}"
    if found is None or not is_ours(restore, tenant, found):
        return pursued(restore, at, facts, now, [Goal(what, met=True)], None)
    restore = replace(restore, target=replace(restore.target, id=found.id))
    if found.status in GOING_DOWN:
        return pursued(restore, at, facts, now, [Goal(what, met=False)], None)
    made = {disk_link(disk) for disk in restore.disks}
    strange = [one.source for one in found.disks if one.persistent and one.auto_delete and one.source not in made]
    if strange:
        why = Failure(code="in_use", message=f"{', '.join(strange)} would go with {found.link}: detach it first"[:500])
        return waits(restore, at, why, now + BLOCKED_LOOK)
    if not facts.may_remove:
        return waits(restore, at, PAUSED, now + PAUSED_LOOK)
    goal = Goal(what, met=False, ask=partial(DeleteInstance, found.project, found.zone, found.name, found.id))
    return pursued(restore, at, facts, now, [goal], None)


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
    taken = pursued(restore, at, facts, now, goals, None)
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

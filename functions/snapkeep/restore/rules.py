"""What a restore is: its names, its steps, its bounds, and what becomes of it when it is given up. Pure.

A restore is `requested -> approved -> running -> completed | failed | cancelled`. How each step is taken is in `steps`,
what is compared at the end in `checks`; `life` leads through both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final, Literal

from msgspec.structs import replace

from snapkeep import cloud
from snapkeep.copies import rules as copies
from snapkeep.documents import (
    GONE,
    Abandoned,
    Failure,
    FormerDisk,
    Hold,
    Restore,
    RestoreDisk,
    RestoreMode,
    RestoreStep,
    StepName,
    Tenant,
)

ACTOR: Final = "snapkeep"

APPROVE_WITHIN: Final = timedelta(hours=4)
"""From a request until somebody else must have approved it."""

BEGIN_WITHIN: Final = timedelta(hours=4)
"""From the approval until it must have begun: nobody expects it any more after that."""

HOLD_FOR: Final = timedelta(hours=48)
"""How long the set is held from the request on, should nobody release it: longer than a restore can take."""

RUN_WITHIN: Final = timedelta(hours=24)
"""From its beginning until a restore must be completed; then it is given up. A disk of many TB takes hours."""

UNDO_WITHIN: Final = timedelta(hours=24)
"""From when a restore was given up until all that it did must be taken back; what is left then is named."""

FORMER_KEPT: Final = timedelta(days=7)
"""How long the disks that were attached before a restore in place are kept."""

FORMER_ASKED: Final = timedelta(days=30)
"""How long after that they are asked to go, once a day; what is left then stays, and people are told."""

PROBE_PATIENCE: Final = timedelta(minutes=15)
"""How long what was restored is given to pass all checks."""

ATTEMPTS_MAX: Final = 3
"""Disks tried for one disk of a restore."""

ASKS_MAX: Final = 10
"""Times that an instance, or one change of what is there, is asked for, each after an answer that it did not happen:
for an hour and a half, in which a zone may have room again."""

LEFTOVERS_WITHIN: Final = timedelta(hours=1)
"""How long a restore that has passed its checks waits for what its former attempts left to go."""

STEPS: Final[dict[RestoreMode, tuple[StepName, ...]]] = {
    "disks": ("survey", "create_disks", "check"),
    "new_instance": ("survey", "create_disks", "create_instance", "check"),
    "in_place": (
        "survey",
        "pre_restore",
        "create_disks",
        "stop",
        "detach_disks",
        "attach_disks",
        "start",  # before the labels: nobody waits for those
        "label_disks",
        "check",
    ),
}

AFTER_A_TEST: Final[tuple[StepName, ...]] = ("delete_instance", "delete_disks")

NOT_OF_AN_UNDO: Final[frozenset[StepName]] = frozenset({"pre_restore", "create_disks"})
"""Steps in place that an undo has no need of: its disks are there."""

UNDO_STEPS: Final[dict[RestoreMode, tuple[StepName, ...]]] = {
    "disks": ("delete_disks",),
    "new_instance": ("delete_instance", "delete_disks"),
    "in_place": ("stop", "detach_disks", "attach_disks", "start", "label_disks", "delete_disks"),
}
"""What takes back an abandoned restore. A step that finds nothing to do is done at its first look."""

LIVING: Final = frozenset({"requested", "approved", "running"})


# --- names --------------------------------------------------------------------------------------------------------


_LETTERS: Final[dict[RestoreMode, str]] = {"disks": "d", "new_instance": "n", "in_place": "p"}


def restore_id(now: datetime, mode: RestoreMode, purpose: Literal["restore", "test"], instance: str, what: str) -> str:
    """A restore's id. `what` tells it from others of that day: point, source, and what it was asked with."""
    letter = "t" if purpose == "test" else _LETTERS[mode]
    return f"{now:%Y%m%d}-{letter}-{_cut(instance, 24)}-{_hex(f'{mode}|{what}', 8)}"


def disk_name(tenant: str, restore: str, instance: str, device: str, attempt: int) -> str:
    """The name of a disk that a restore makes, at most 63 characters: derived, so that a retry finds it."""
    identity = "|".join((tenant, restore, device, str(attempt)))
    return f"rs-{_cut(instance, 18)}-{_plain(device, 18)}-{restore[:8]}-{_hex(identity, 10)}"


def begins_with(restore: Restore) -> str:
    """What the names of its disks begin with: the name asked for of mode `disks`, else the point's instance."""
    return restore.target.name if restore.mode == "disks" else restore.instance.name


def instance_name_of_test(tenant: str, restore: str, instance: str) -> str:
    """The name of the instance of a restore test."""
    return f"rt-{_cut(instance, 30)}-{_hex(f'{tenant}|{restore}', 10)}"


def claim_id(instance: str) -> str:
    """The id of the RestoreClaim on an instance, by its link."""
    return hashlib.sha256(instance.encode()).hexdigest()[:32]


def claimed(restore: Restore) -> str | None:
    """The link that the RestoreClaim of a restore is on; None where it makes disks alone, or is a test.

    A new instance's name is claimed in its region (`projects/P/regions/R/instances/N`): its zone may be chosen later.
    """
    to = restore.target
    if restore.purpose == "test" or restore.mode == "disks":
        return None
    scope = f"zones/{to.zone}" if restore.mode == "in_place" else f"regions/{to.region}"
    return cloud.link_of(to.project, scope, "instances", to.name)


def target_link(restore: Restore) -> str | None:
    """The link of the instance that is restored into, or made; None where there is none, or its zone is not chosen."""
    to = restore.target
    if restore.mode == "disks" or to.zone is None:
        return None
    return cloud.link_of(to.project, f"zones/{to.zone}", "instances", to.name)


def hold_id(restore: str) -> str:
    """The id of the hold by which a living restore keeps its set."""
    return f"restore-{restore}"


def hold(restore: Restore) -> Hold:
    """The hold by which a living restore keeps its set."""
    reason = f"restore {restore.id} is made from it"
    at = restore.requested_at
    return Hold(id=hold_id(restore.id), reason=reason, by=ACTOR, at=at, until=at + HOLD_FOR)


def labels(restore: str, tenant: str, role: Literal["restored", "test", "former"]) -> dict[str, str]:
    return {"snapkeep-tenant": tenant, "snapkeep-restore": restore, "snapkeep-role": role}


def role(restore: Restore) -> Literal["restored", "test"]:
    """The role of what a restore makes."""
    return "test" if restore.purpose == "test" else "restored"


def discreet(restore: Restore, message: str) -> str:
    """What Compute Engine said of a change, for records, views and logs: where it refuses metadata it repeats that,
    and values that a person supplied may be secrets."""
    supplied = any(one.handled == "supplied" and one.item.startswith("metadata ") for one in restore.lacking)
    if not supplied or "metadata" not in message.lower():
        return message
    return "it refuses the metadata; what it says of it may repeat what was supplied, and is not kept"


def disk_link(disk: RestoreDisk | FormerDisk) -> str:
    return cloud.link_of(disk.project, disk.scope, "disks", disk.name)


def _cut(name: str, length: int) -> str:
    return name[:length].rstrip("-")


def _plain(device: str, length: int) -> str:
    """A device name as part of a resource's name: it may hold what no resource's name does."""
    return _cut("".join(c if c.isascii() and c.isalnum() else "-" for c in device.lower()).strip("-") or "disk", length)


def _hex(text: str, digits: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


# --- a new restore ------------------------------------------------------------------------------------------------


def steps_of(mode: RestoreMode, purpose: Literal["restore", "test"], undoes: str | None = None) -> list[RestoreStep]:
    """The steps that a restore begins with."""
    names = STEPS[mode] + (AFTER_A_TEST if purpose == "test" else ())
    left_out = NOT_OF_AN_UNDO if undoes is not None else frozenset()
    return [RestoreStep(name=name) for name in names if name not in left_out]


def needs_approval(mode: RestoreMode, purpose: Literal["restore", "test"], tenant: Tenant) -> bool:
    """Whether a second person has to approve it."""
    return purpose == "restore" and (mode == "in_place" or tenant.deployment == "private_saas")


# --- where ---------------------------------------------------------------------------------------------------------


def dr_region(tenant: Tenant, now: datetime) -> str | None:
    """The second region in which the tenant may be restored; None where that is not bought now."""
    bought = tenant.entitlements.multi_region_dr
    if bought is None or tenant.has_left(now) or copies.ends_at(bought, tenant.timezone) <= now:
        return None
    return bought.region


def regions_of(restore: Restore, tenant: Tenant, now: datetime) -> set[str]:
    """Where a restore may store anything: at home, and in the second region while restores into it are bought.

    A test of a copy is made where the copy is, as long as that is bought to be stored there.
    """
    home, second = restore.instance.region, dr_region(tenant, now)
    bought = copies.entitled(tenant, now) if restore.purpose == "test" else None
    return {home, *([second] if second else []), *([bought.region] if bought else [])}


# --- its time runs out --------------------------------------------------------------------------------------------


def overdue(restore: Restore, now: datetime) -> Failure | None:
    """Why a restore that has not begun never will; None while it still may."""
    if restore.state == "requested" and restore.approve_by is not None and restore.approve_by <= now:
        message = f"nobody approved it by {restore.approve_by:%Y-%m-%d %H:%M} UTC; ask for it again"
        return Failure(code="not_approved", message=message)
    if restore.state == "approved" and restore.start_by <= now:
        why = f"; last met: {restore.failure.code}: {restore.failure.message}" if restore.failure else ""
        message = f"it was not begun by {restore.start_by:%Y-%m-%d %H:%M} UTC{why}"
        return Failure(code="not_begun", message=message[:500])
    return None


# --- giving up ----------------------------------------------------------------------------------------------------


def abandon(
    restore: Restore, ends_as: Literal["failed", "cancelled"], by: str, why: Failure, now: datetime
) -> Restore:  # fmt: skip
    """A running restore that is not carried on: what it did is to be taken back before it ends.

    What it has begun to ask for is read back by the steps that take it back.
    """
    if restore.abandoned is not None or restore.state != "running":
        return restore
    back = [RestoreStep(name=name, undo=True) for name in _undo_steps(restore)]
    steps = [replace(one, state="skipped", at=now) if one.state == "pending" else one for one in restore.steps]
    steps = [replace(one, state="failed", at=now, failure=why) if one.state == "running" else one for one in steps]
    given_up = Abandoned(ends_as=ends_as, by=by, reason=why.message, at=now, deadline=now + UNDO_WITHIN)
    return replace(
        restore, steps=[*steps, *back], abandoned=given_up, failure=why, faults=0, updated_at=now, next_at=now
    )


def _undo_steps(restore: Restore) -> Iterator[StepName]:
    """What takes back all that a restore has begun."""
    for name in UNDO_STEPS[restore.mode]:
        of: StepName = "stop"
        if name in ("delete_instance", "delete_disks"):
            of = "create_instance" if name == "delete_instance" else "create_disks"
        if has_begun(restore, of):
            yield name


def has_begun(restore: Restore, name: StepName) -> bool:
    """Whether a step of this name, of the restore itself, was ever begun: it may have changed something."""
    return any(one.name == name and not one.undo and one.at is not None and one.state != "skipped"
               for one in restore.steps)  # fmt: skip


def made_links(restore: Restore) -> Iterator[str]:
    """Links of every disk that a restore may have made and that was not read to be gone."""
    for disk in restore.disks:
        if not disk.scope:
            continue
        yield from disk.superseded
        if disk.status != GONE:
            yield disk_link(disk)

"""How a restore stands, in words for people: the same on the pages and the command line. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Final, Literal, Protocol

from snapkeep import documents as d
from snapkeep.restore import rules
from snapkeep.wording import age, count, moment

Tone = Literal["bad", "warn", "good", "plain"]

MODES: Final[Mapping[d.RestoreMode, str]] = {
    "in_place": "in place",
    "new_instance": "as a new instance",
    "disks": "as disks alone",
}

STATE_TONES: Final[Mapping[str, Tone]] = {
    "requested": "warn",
    "approved": "plain",
    "running": "plain",
    "completed": "good",
    "failed": "bad",
    "cancelled": "warn",
}


def tone(state: str, failure: d.Failure | None) -> Tone:
    """How a state looks; a completed one with a failure has an application that does not answer."""
    return "warn" if state == "completed" and failure is not None else STATE_TONES[state]


STEPS: Final[Mapping[str, str]] = {
    "survey": "Read what is there, before anything is changed",
    "pre_restore": "Ask for a point of the state before",
    "create_disks": "Make the disks",
    "stop": "Stop the instance",
    "detach_disks": "Detach its disks",
    "attach_disks": "Attach the new disks",
    "start": "Start the instance",
    "label_disks": "Label the former disks, which are kept",
    "create_instance": "Make the instance",
    "check": "Check what was made",
    "delete_instance": "Remove the instance",
    "delete_disks": "Remove the disks that were made",
}

BACK: Final[Mapping[str, str]] = {
    "stop": "Stop the instance, if it runs",
    "detach_disks": "Detach the new disks",
    "attach_disks": "Attach the former disks again",
    "start": "Start the instance, if it ran before",
    "label_disks": "Take the labels off the former disks",
}
"""The same where a step puts back what was there before."""

STEP_TONES: Final[Mapping[str, Tone]] = {
    "done": "good",
    "failed": "bad",
    "running": "plain",
    "pending": "plain",
    "skipped": "plain",
}

CHECKS: Final[Mapping[str, str]] = {
    "disks": "Disks",
    "instance": "Instance",
    "devices": "Devices",
    "definition": "Definition",
    "probe": "Probe",
    "contents": "Contents",
}


def is_over(restore: d.Restore) -> bool:
    """Whether it has ended, so that nothing of it changes any more but the disks it has kept."""
    return restore.state not in rules.LIVING


def doing(
    purpose: str, mode: str, instance: str, to: d.RestoreTarget, *, disks: int = 0, undoes: str | None = None
) -> str:
    """What a restore does, from a verb on: `restores acme-pam-1 in place, in southamerica-east1-a`."""
    where = to.zone or to.region
    if purpose == "test":
        return f"tests a point of {instance} as {to.name} in {where}"
    if undoes:
        return f"puts the former disks of {to.name} back: undoes {undoes}"
    match mode:
        case "in_place":
            return f"restores {to.name} in place, in {where}"
        case "new_instance":
            return f"restores {instance} as {to.name} in {where}"
        case _:
            return f"makes {count(disks, 'disk') if disks else 'the disks'} of {instance} in {where}"


class Planned(Protocol):
    """A restore, or the plan of one."""

    @property
    def mode(self) -> d.RestoreMode: ...
    @property
    def instance(self) -> d.InstanceRef: ...
    @property
    def source(self) -> d.RestoreSource: ...
    @property
    def target(self) -> d.RestoreTarget: ...
    @property
    def disks(self) -> list[d.RestoreDisk]: ...


def what(restore: Planned) -> str:
    """What it does, from a verb on."""
    purpose = restore.purpose if isinstance(restore, d.Restore) else "restore"
    return doing(
        purpose,
        restore.mode,
        restore.instance.name,
        restore.target,
        disks=len(restore.disks),
        undoes=restore.source.undoes,
    )


def step(restore: Planned, name: str, *, back: bool = False) -> str:
    """What a step does. `back`: it takes back what the restore did."""
    if back or (restore.source.undoes and name in ("attach_disks", "label_disks")):
        return BACK.get(name, STEPS[name])
    return STEPS[name]


def far(restore: d.Restore, one: d.RestoreStep) -> str:
    """How far a step is, where that can be told, and what stood in its way last."""
    said = []
    if one.name == "create_disks" and one.state in ("running", "done"):
        ready = sum(disk.status == "READY" for disk in restore.disks)
        said.append(f"{ready} of {count(len(restore.disks), 'disk')} ready")
    if one.failure is not None and one.state != "done":
        said.append(f"{one.failure.code}: {one.failure.message}")
    return "; ".join(said)


def source(restore: d.Restore) -> str:
    """Where what it restores from lies."""
    if restore.source.undoes:
        return f"the former disks of restore {restore.source.undoes}"
    kind = "a copy" if restore.source.copy else "at home"
    return f"{restore.recovery_point}, {kind} in {restore.source.region} ({restore.source.project})"


def target(restore: d.Restore) -> str:
    """What it goes into, and where that is."""
    to = restore.target
    at = f", at {to.address}" if to.address else ""
    return f"{to.name} in {to.project}, {to.zone or f'{to.region}, in the first zone that is up'}{at}"


def handled(restore: d.Restore) -> str:
    """What the stored definition does not have, each with what was said of it; empty: it has all."""
    return ", ".join(f"{one.item} ({one.handled})" for one in restore.lacking)


def stopping(restore: d.Restore) -> str:
    """What stops of a restore that stops its instance, and for how long."""
    return f"{restore.target.name}, until its new disks are attached; its present ones are kept for 7 days"


def took(restore: d.Restore) -> timedelta | None:
    """From its beginning to its end; None for one that has not ended, or never began."""
    if restore.started_at is None or restore.finished_at is None:
        return None
    return restore.finished_at - restore.started_at


def duration(length: timedelta) -> str:
    """`45s`, `12m 5s`, `2h 3m`."""
    minutes, seconds = divmod(max(int(length.total_seconds()), 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes}m" if hours else f"{minutes}m {seconds}s" if minutes else f"{seconds}s"


def estimate(seconds: int | None) -> str:
    return "none has been measured yet" if seconds is None else f"about {duration(timedelta(seconds=seconds))}"


def stands(restore: d.Restore, *, paused: bool = False) -> str:
    """How it stands, in a sentence. `paused`: restores of the tenant are, as of now; else as it was last looked at."""
    over = took(restore)
    after = f" after {duration(over)}" if over is not None else ""
    match restore.state:
        case "requested":
            return f"Waits for the approval of a second person, until {moment(restore.approve_by)}"
        case "approved":
            if paused or (restore.failure is not None and restore.failure.code == "paused"):
                return f"Waits: restores are paused. Not begun by {moment(restore.start_by)}, it is cancelled"
            return "Begins within a minute"
        case "running" if restore.abandoned is not None:
            ends = "was cancelled" if restore.abandoned.ends_as == "cancelled" else "failed"
            return f"It {ends}; what it did is being taken back"
        case "running":
            number = next((n for n, one in enumerate(restore.steps, 1) if one.state in ("running", "pending")), 0)
            return f"Step {number or len(restore.steps)} of {len(restore.steps)}"
        case "completed":
            done = f"in {duration(over)}" if over is not None else ""
            if restore.failure is not None:
                undo = ", and undo it if it is the wrong point" if restore.mode == "in_place" else ""
                return f"Restored {done}, but the application does not answer: look at it{undo}".replace(" ,", ",")
            return f"Completed {done}".rstrip()
        case "failed":
            return f"Failed{after}"
        case "cancelled":
            return f"Cancelled{after}"


def kept(restore: d.Restore) -> list[d.FormerDisk]:
    """The disks of before that it has kept, detached."""
    return [disk for disk in restore.former if disk.status == "kept"]


def said_of(restore: d.Restore) -> Iterator[str]:
    """Why it did not end well, or what does not answer, and what of it is still there."""
    if restore.abandoned is not None:
        by = restore.abandoned.by
        # The reason of a cancellation begins with who it is, as its step says it.
        yield f"given up {moment(restore.abandoned.at)} by {by}: {restore.abandoned.reason.removeprefix(f'{by}: ')}"
    if restore.failure is not None and (
        restore.abandoned is None or restore.failure.message != restore.abandoned.reason
    ):
        yield f"{restore.failure.code}: {restore.failure.message}"
    for link in restore.left:
        yield f"left, and to be removed by hand: {link}"


def last_test(stands: str | None, last: d.RestoreTested | None, now: datetime) -> str:
    """How a tenant stands by its restore tests (`health.TestedAs`), and the last one: `passed 3d 4h ago`.

    Empty where no tests are wanted.
    """
    if stands is None or last is None:
        return stands or ""
    return f"{stands}, passed {age(last.at, now)} ago" if stands == "overdue" else f"{stands} {age(last.at, now)} ago"


def tested(tenant: d.Tenant, now: datetime) -> str:
    """How the tenant's restore tests stand, in a line."""
    last = tenant.restore_tested
    said = []
    if tenant.restore_test is None:
        said.append("none: the fleet file asks for no restore_test")
    if last is not None:
        region = f" in {last.region}"
        ago = f"{age(last.at, now)} ago"
        if last.passed:
            said.append(f"passed {ago} in {duration(timedelta(seconds=last.took_s))}: {last.point}{region}")
        else:
            why = f": {last.failure.code}: {last.failure.message}" if last.failure else ""
            said.append(f"FAILED {ago}: {last.point}{region}{why}")
    elif tenant.restore_test is not None:
        said.append("never had one")
    if tenant.restore_test is not None and tenant.restore_test_at is not None:
        said.append(f"next {moment(tenant.restore_test_at)}" if tenant.restore_testing is None else "one is under way")
    return "; ".join(said)

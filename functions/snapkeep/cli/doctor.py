"""`snapkeep doctor`: what is wrong with a deployment or a local cloud, and how it is mended.

A local cloud is read through its controls and its emulators, a deployment through Google's control planes with the
operator's own Application Default Credentials. Nothing is changed.
"""

from __future__ import annotations

import textwrap
from datetime import datetime, timedelta
from typing import Any, Final

import click
import msgspec

from snapkeep.cli import target
from snapkeep.cli.output import Output, fail
from snapkeep.cli.target import Unheard
from snapkeep.cli.typed import Name
from snapkeep.deployment import deployment
from snapkeep.doctor import checks
from snapkeep.doctor.checks import LETTERS_DAYS, RESTART, Verdict, Wanted
from snapkeep.doctor.facts import Facts, Function, Job, Known, Offset, Read, Unread
from snapkeep.wording import count

TEXT_WIDTH_MAX: Final = 100
"""Of what is read as text, however wide the terminal is."""


@click.command()
@click.option("--project", type=Name(), help="Of a deployment: its project.  [default: SNAPKEEP_PROJECT]")
@click.option("--region", help="Of a deployment: its region.  [default: that of its functions]")
@click.option("--tenant", type=Name(), help="Of the tenants look at this one alone.")
@click.pass_obj
def doctor(output: Output, project: str | None, region: str | None, tenant: str | None) -> None:
    """Say what is wrong with this Snapkeep, and how to mend it. Status 0: all is well and could be looked at.

    The local cloud at SNAPKEEP_API, or a deployment: with an https SNAPKEEP_API, or a --project.
    """
    wanted = Wanted(deployment())
    facts = _local()
    verdicts = checks.examined(facts, wanted)
    if output.as_json:
        output.json({"project": facts.project, "green": checks.green(verdicts), "checks": verdicts})
    else:
        _print(output, verdicts)
    if not checks.green(verdicts):
        fail(_summary(verdicts))


# --- a local cloud ------------------------------------------------------------------------------------------------


class _Environment(msgspec.Struct, frozen=True):
    """What is read of `GET /_sim/environment`."""

    project: str
    database: str
    pubsub: str
    firestore: str


class _Delivery(msgspec.Struct, frozen=True):
    """What is read of `GET /_sim/deliveries`, of one function."""

    pid: int | None
    in_flight: int
    unsettled: int


class _Scheduler(msgspec.Struct, frozen=True):
    """`GET /_sim/scheduler`."""

    running: bool
    since: datetime


class _Clock(msgspec.Struct, frozen=True):
    """What is read of `GET /_sim/clock`."""

    now: datetime


class _Fleet(msgspec.Struct, frozen=True):
    """What is read of `GET /api/v1/fleet`."""

    at: datetime


def _local() -> Facts:
    """What a local cloud's controls and emulators say. Ends with status 1 where there is none."""
    from snapkeep.gcp.platform import Plane, read

    try:
        where = target.hear(_Environment, "/_sim/environment")
        now = target.hear(_Clock, "/_sim/clock").now
    except Unheard as reason:
        fail(str(reason))
    plane = Plane(where.project, {"pubsub": f"http://{where.pubsub}", "firestore": f"http://{where.firestore}"})
    deliveries = _heard(dict[str, _Delivery], "/_sim/deliveries")
    since = now - timedelta(days=LETTERS_DAYS)
    return Facts(
        local=True,
        project=where.project,
        now=now,
        functions=_mapped(deliveries, _processes),
        topics=read(plane.topics),
        subscriptions=read(plane.subscriptions),
        waiting_letters=_mapped(deliveries, lambda of: of["dead_letters"].in_flight + of["dead_letters"].unsettled),
        settled_letters=read(lambda: plane.dead_letters(where.database, since)),
        jobs=_mapped(_heard(_Scheduler, "/_sim/scheduler"), _jobs),
        ticks=read(lambda: plane.ticks(where.database, comparable=False)),
        clocks=_clocks(),
    )


def _heard(kind: type[Any], path: str) -> Read[Any]:
    try:
        return Known(target.hear(kind, path))
    except Unheard as reason:
        return Unread(str(reason), RESTART)


def _mapped(read: Read[Any], into: Any) -> Read[Any]:
    return Known(into(read.value)) if isinstance(read, Known) else read


def _processes(deliveries: dict[str, _Delivery]) -> dict[str, Function]:
    """Each function's process; one without an id has died and is on its way back."""
    return {
        name: Function("ACTIVE" if of.pid else "without a process", None, None, None, None)
        for name, of in deliveries.items()
    }


def _jobs(scheduler: _Scheduler) -> dict[str, Job]:
    """The stand-in has the schedules of infra/functions.yaml itself; it runs, or it does not."""
    state = "ENABLED" if scheduler.running else "PAUSED"
    return {
        name: Job(function.schedule, "UTC", state, function.topic, scheduler.since, None)
        for name, function in deployment().functions.items()
        if function.schedule is not None
    }


def _clocks() -> Read[tuple[Offset, ...]]:
    """The clock that the API lives by, held to the local cloud's: to what that said before and after."""
    try:
        before = target.hear(_Clock, "/_sim/clock").now
        at = target.hear(_Fleet, f"{target.API_PATH}/fleet").at
        after = target.hear(_Clock, "/_sim/clock").now
    except Unheard as reason:
        return Unread(str(reason), RESTART)
    nearest = min(max(at, before), after)
    return Known((Offset("the clock of function web", "the local cloud's", at - nearest),))


# --- what is printed ----------------------------------------------------------------------------------------------


def _print(output: Output, verdicts: tuple[Verdict, ...]) -> None:
    output.table(
        ("CHECK", "VERDICT", "LOOKED AT"),
        [(one.check, one.stand, one.said or _untold(one)) for one in verdicts],
        text=("LOOKED AT",),
    )
    told = [
        (f"{finding.severity}: {finding.where}: {finding.what}", finding.mend)
        for one in verdicts
        for finding in one.findings
    ]
    told += [(f"cannot be told: {one.why}", one.mend) for verdict in verdicts for one in verdict.untold]
    for number, (what, mend) in enumerate(told, 1):
        output.line("")
        lead = f"{number}. "
        width = min(output.console.width, TEXT_WIDTH_MAX) if output.bounded else TEXT_WIDTH_MAX
        hang = " " * len(lead)
        output.line(
            textwrap.fill(
                what,
                width,
                initial_indent=lead,
                subsequent_indent=hang,
                break_long_words=False,
                break_on_hyphens=False,
            )
        )
        output.line(f"{hang}mend: {mend}")  # in one line, however long: it is there to be copied


def _untold(verdict: Verdict) -> str:
    return f"{count(len(verdict.untold), 'thing')} could not be read: see below" if verdict.untold else ""


def _summary(verdicts: tuple[Verdict, ...]) -> str:
    findings = sum(len(one.findings) for one in verdicts)
    untold = sum(len(one.untold) for one in verdicts)
    parts = [count(findings, "finding")] if findings else []
    parts += [f"{untold} could not be told"] if untold else []
    return f"{' and '.join(parts)}: see above"

"""`snapkeep pause | resume` and `snapkeep schedule on | off`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, get_args

import click

from snapkeep import commands
from snapkeep import documents as d
from snapkeep.cli import target
from snapkeep.cli.output import Output
from snapkeep.cli.typed import Name

F = TypeVar("F", bound=Callable[..., object])

WHAT = click.Choice(get_args(commands.Kind))
REASON = click.option("--reason", required=True, help="Why; it stands in the audit chain.")


def pausing(command: F) -> F:
    """What `pause` and `resume` take."""
    say = click.option("--dry-run", is_flag=True, help="Say where it would be paused then, and change nothing.")
    project = click.option("--project", type=Name(), help="Of this project's instances and snapshots alone.")
    tenant = click.option("--tenant", type=Name(), help="Of this tenant alone.")
    return click.argument("what", type=WHAT)(tenant(project(REASON(say(command)))))


def switching(command: F) -> F:
    """What `schedule on` and `schedule off` take."""
    say = click.option("--dry-run", is_flag=True, help="Say whether it could be switched, and change nothing.")
    return click.option("--tenant", required=True)(REASON(say(command)))


@click.command()
@pausing
@click.pass_obj
def pause(
    output: Output, what: commands.Kind, tenant: str | None, project: str | None, reason: str, dry_run: bool
) -> None:
    """Stop WHAT (creation, deletion or restore): of a tenant, of a project, or of the whole fleet. At once.

    \b
    snapkeep pause deletion --reason "looking into case 4711"
    snapkeep pause creation --tenant acme --reason "their storage is full"
    """
    _set(output, "pause", what, tenant, project, reason, dry_run)


@click.command()
@pausing
@click.pass_obj
def resume(
    output: Output, what: commands.Kind, tenant: str | None, project: str | None, reason: str, dry_run: bool
) -> None:
    """Let WHAT go on, where it was paused in the same words. Says what is still paused.

    \b
    snapkeep resume deletion --reason "case 4711 is closed"
    """
    _set(output, "resume", what, tenant, project, reason, dry_run)


def _set(
    output: Output,
    verb: str,
    what: commands.Kind,
    tenant: str | None,
    project: str | None,
    reason: str,
    dry_run: bool,
) -> None:
    if tenant and project:
        raise click.UsageError("--tenant or --project, not both")
    if tenant:
        of_tenant = commands.PauseAsk(what=what, reason=reason, dry_run=dry_run)
        answer = target.act(commands.PauseAnswer, tenant, verb, of_tenant)
    else:
        ask = commands.FleetPauseAsk(what=what, project=project, reason=reason, dry_run=dry_run)
        answer = target.send(commands.PauseAnswer, f"/controls/{verb}", ask)
    if output.as_json:
        output.json(answer)
    else:
        where = paused_words(answer.paused) or (f"nowhere for {tenant}" if tenant else "nowhere")
        output.line(f"{answer.what} {'would be' if dry_run else 'is'} paused {where}")


def paused_words(paused: d.Paused) -> str:
    """Where one kind of change is stopped; empty for nowhere."""
    parts = ["everywhere"] if paused.fleet else []
    parts += [f"in project{'s' * (len(paused.projects) > 1)} {', '.join(paused.projects)}"] if paused.projects else []
    parts += [f"for tenant{'s' * (len(paused.tenants) > 1)} {', '.join(paused.tenants)}"] if paused.tenants else []
    return ", ".join(parts)


@click.group()
def schedule() -> None:
    """The schedule of a private_saas tenant, which its own client_admin switches."""


@schedule.command()
@switching
@click.pass_obj
def on(output: Output, tenant: str, reason: str, dry_run: bool) -> None:
    """Have a point taken every day.

    \b
    SNAPKEEP_USER=client@estrelinha.example snapkeep schedule on --tenant estrelinha --reason "agreed"
    """
    _switch(output, tenant, reason, dry_run, on=True)


@schedule.command()
@switching
@click.pass_obj
def off(output: Output, tenant: str, reason: str, dry_run: bool) -> None:
    """Have no more points taken by the schedule. Those that are stored stay as long as something keeps them."""
    _switch(output, tenant, reason, dry_run, on=False)


def _switch(output: Output, tenant: str, reason: str, dry_run: bool, *, on: bool) -> None:
    ask = commands.SwitchAsk(on=on, reason=reason, dry_run=dry_run)
    answer = target.act(commands.SwitchAnswer, tenant, "schedule", ask)
    if output.as_json:
        output.json(answer)
    else:
        output.line(
            f"the schedule of {tenant} {'would be' if dry_run else 'is'} {'on' if answer.schedule_switch.on else 'off'}"
        )

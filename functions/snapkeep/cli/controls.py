"""`snapkeep pause | resume` and `snapkeep schedule on | off`."""

from __future__ import annotations

from typing import get_args

import click

from snapkeep import commands
from snapkeep import documents as d
from snapkeep.cli import target
from snapkeep.cli.output import Output

WHAT = click.Choice(get_args(commands.Kind))


@click.command()
@click.argument("what", type=WHAT)
@click.option("--tenant", help="Of this tenant alone.")
@click.option("--project", help="Of this project's instances and snapshots alone.")
@click.option("--reason", required=True, help="Why; it stands in the audit chain.")
@click.pass_obj
def pause(output: Output, what: commands.Kind, tenant: str | None, project: str | None, reason: str) -> None:
    """Stop WHAT (creation, deletion or restore): of a tenant, of a project, or of the whole fleet. At once.

    \b
    snapkeep pause deletion --reason "looking into case 4711"
    snapkeep pause creation --tenant acme --reason "their storage is full"
    """
    _set(output, "pause", what, tenant, project, reason)


@click.command()
@click.argument("what", type=WHAT)
@click.option("--tenant", help="Of this tenant alone.")
@click.option("--project", help="Of this project's instances and snapshots alone.")
@click.option("--reason", required=True, help="Why; it stands in the audit chain.")
@click.pass_obj
def resume(output: Output, what: commands.Kind, tenant: str | None, project: str | None, reason: str) -> None:
    """Let WHAT go on, where it was paused in the same words. Says what is still paused.

    \b
    snapkeep resume deletion --reason "case 4711 is closed"
    """
    _set(output, "resume", what, tenant, project, reason)


def _set(output: Output, verb: str, what: commands.Kind, tenant: str | None, project: str | None, reason: str) -> None:
    if "" in (tenant, project):
        raise click.UsageError("--tenant and --project must not be empty: without them it is the whole fleet")
    if tenant and project:
        raise click.UsageError("--tenant or --project, not both")
    if tenant:
        answer = target.act(commands.PauseAnswer, tenant, verb, commands.PauseAsk(what=what, reason=reason))
    else:
        ask = commands.FleetPauseAsk(what=what, project=project, reason=reason)
        answer = target.send(commands.PauseAnswer, f"/controls/{verb}", ask)
    if output.as_json:
        output.json(answer)
    else:
        where = paused_words(answer.paused)
        output.line(f"{answer.what} is paused {where}" if where else f"{answer.what} is paused nowhere")


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
@click.option("--tenant", required=True)
@click.option("--reason", required=True, help="Why; it stands in the audit chain.")
@click.pass_obj
def on(output: Output, tenant: str, reason: str) -> None:
    """Have a point taken every day.

    \b
    SNAPKEEP_USER=client@estrelinha.example snapkeep schedule on --tenant estrelinha --reason "agreed"
    """
    _switch(output, tenant, reason, on=True)


@schedule.command()
@click.option("--tenant", required=True)
@click.option("--reason", required=True, help="Why; it stands in the audit chain.")
@click.pass_obj
def off(output: Output, tenant: str, reason: str) -> None:
    """Have no more points taken by the schedule. Those that are stored stay as long as something keeps them."""
    _switch(output, tenant, reason, on=False)


def _switch(output: Output, tenant: str, reason: str, *, on: bool) -> None:
    ask = commands.SwitchAsk(on=on, reason=reason)
    answer = target.act(commands.SwitchAnswer, tenant, "schedule", ask)
    if output.as_json:
        output.json(answer)
    else:
        output.line(f"the schedule of {tenant} is {'on' if answer.schedule_switch.on else 'off'}")

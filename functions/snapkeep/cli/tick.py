"""`snapkeep tick`: wake a function now rather than at its next scheduled time."""

from __future__ import annotations

import click

from snapkeep import commands
from snapkeep.cli import target
from snapkeep.cli.output import Output
from snapkeep.views import PERIODS


@click.command()
@click.argument("function", type=click.Choice(sorted(PERIODS)))
@click.pass_obj
def tick(output: Output, function: str) -> None:
    """Publish the message that Cloud Scheduler publishes to FUNCTION, which then looks for due work.

    \b
    snapkeep tick plan
    """
    answer = target.send(commands.TickAnswer, f"/ticks/{function}", commands.TickAsk())
    if output.as_json:
        output.json(answer)
    else:
        output.line(f"published to {answer.topic}; `snapkeep fleet health` shows when it was carried out")

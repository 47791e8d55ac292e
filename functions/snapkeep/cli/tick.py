"""`snapkeep tick`: wake a function now rather than at its next scheduled time."""

from __future__ import annotations

import click

from snapkeep import messages
from snapkeep.cli import target
from snapkeep.cli.output import Output
from snapkeep.views import PERIODS


@click.command()
@click.argument("function", type=click.Choice(sorted(PERIODS)))
@click.pass_obj
def tick(output: Output, function: str) -> None:
    """Publish the message that Cloud Scheduler publishes to FUNCTION, which then looks for due work."""
    topic = f"snapkeep-{function}"
    target.ports().bus.publish(topic, messages.encode(messages.Tick()))
    if output.as_json:
        output.json({"topic": topic})
    else:
        output.line(f"published to {topic}; `snapkeep fleet health` shows when it was carried out")

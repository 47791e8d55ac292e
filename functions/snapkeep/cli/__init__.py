"""The `snapkeep` command: `snapkeep [--json] NOUN VERB`.

Exit status: 0 done; 1 refused or failed, said in one line on standard error; 2 wrong usage.
"""

from __future__ import annotations

import importlib.util
import sys

import click

from snapkeep.cli import audit, fleet, points, tick
from snapkeep.cli.output import Output
from snapkeep.config import ConfigError
from snapkeep.ports import Conflict, Refused, Transient


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.version_option(package_name="snapkeep")
@click.pass_context
def root(context: click.Context, as_json: bool) -> None:
    """Keep the recovery points of your customers' systems on Google Cloud."""
    context.obj = Output(as_json)


root.add_command(fleet.fleet)
root.add_command(points.points)
root.add_command(audit.audit)
root.add_command(tick.tick)

if importlib.util.find_spec("snapkeep_local"):
    # The local cloud is a plug-in: it is never deployed.
    from snapkeep_local.cli import register

    register(root)


def main() -> None:
    """Run the command line; whatever was foreseen to go wrong ends in one line and status 1."""
    try:
        root.main(prog_name="snapkeep")
    except (ConfigError, Transient, Refused, Conflict) as error:
        click.echo(f"snapkeep: {error}", err=True)
        sys.exit(1)
    except Exception as error:  # Google's, whose types are loaded only once something has failed; any other rises
        from snapkeep.gcp.calls import refusal

        said = refusal(error)
        if said is None:
            raise
        click.echo(f"snapkeep: {said}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()

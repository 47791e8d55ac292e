"""The `snapkeep` command: `snapkeep [--json] NOUN VERB`.

Exit status: 0 done; 1 refused or failed, said in one line on standard error; 2 wrong usage.
"""

from __future__ import annotations

import importlib.util

import click

from snapkeep.cli import access, audit, controls, doctor, fleet, hold, points, restore, retention, tick
from snapkeep.cli.output import Output


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.version_option(package_name="snapkeep")
@click.pass_context
def root(context: click.Context, as_json: bool) -> None:
    """Keep the recovery points of your customers' systems on Google Cloud."""
    context.obj = Output(as_json)


root.add_command(fleet.fleet)
root.add_command(points.points)
root.add_command(retention.retention)
root.add_command(restore.restore)
root.add_command(hold.hold)
root.add_command(controls.pause)
root.add_command(controls.resume)
root.add_command(controls.schedule)
root.add_command(access.access)
root.add_command(audit.audit)
root.add_command(tick.tick)
root.add_command(doctor.doctor)

if importlib.util.find_spec("snapkeep_local"):
    # The local cloud is a plug-in: it is never deployed.
    from snapkeep_local.cli import register

    register(root)


def main() -> None:
    """Run the command line."""
    root.main(prog_name="snapkeep")


if __name__ == "__main__":
    main()

"""`snapkeep access show`."""

from __future__ import annotations

import click
import msgspec

from snapkeep import views
from snapkeep.cli import target
from snapkeep.cli.output import Output

UNVERIFIED = "not verified: a local cloud believes whoever asks"


@click.group()
def access() -> None:
    """Who may do what."""


@access.command()
@click.pass_obj
def show(output: Output) -> None:
    """Who you are here, the table of actions by role, and whose work is what.

    \b
    SNAPKEEP_USER=auditor@vendor.example snapkeep access show
    """
    me = target.ask(views.MeView, "/me")
    tables = target.ask(views.AccessView, "/access")
    if output.as_json:
        output.json({"me": msgspec.to_builtins(me), **msgspec.to_builtins(tables)})
        return
    of = f" of {me.tenant}" if me.tenant else ""
    output.line(f"{me.email}, {me.role}{of}" + ("" if me.verified else f" ({UNVERIFIED})"))
    output.line("")
    output.table(
        ("ACTION", "YOU", "WHO", "PRIVATE_SAAS ALSO", "WHAT IT IS"),
        [
            (right.action, _mine(right, me), _who(right.saas, len(tables.roles)), _more(right), right.words)
            for right in tables.rights
        ],
        text=("WHO", "WHAT IT IS"),
        spare=("WHAT IT IS",),
    )
    output.line("")
    output.table(("ROLE", "WHAT IT IS"), list(tables.roles.items()), text=("WHAT IT IS",))
    output.line("")
    output.table(
        ("WHOSE WORK", "SAAS", "PRIVATE_SAAS"),
        [(duty.what, duty.saas, duty.private_saas) for duty in tables.responsibility],
    )


def _mine(right: views.RightLine, me: views.MeView) -> str:
    both = (right.action in me.saas, right.action in me.private_saas)
    return {(True, True): "yes", (False, True): "private_saas", (True, False): "saas"}.get(both, "no")


def _who(roles: list[str], all_roles: int) -> str:
    return "everyone" if len(roles) == all_roles else ", ".join(roles) or "nobody"


def _more(right: views.RightLine) -> str:
    """Who may it to a tenant of this deployment, besides those who may it to any."""
    return ", ".join(role for role in right.private_saas if role not in right.saas)

"""`snapkeep hold add | release | list`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from urllib.parse import quote

import click

from snapkeep import commands, views
from snapkeep.cli import target
from snapkeep.cli.output import Output, fail
from snapkeep.cli.typed import Moment, Name
from snapkeep.copies import sets
from snapkeep.wording import count_sets, moment

NAMED_MAX = 20
"""Points and copies that a line names; `--json` names them all."""


@click.group()
def hold() -> None:
    """Named reasons not to delete: one point, all of an instance, all of a tenant."""


@hold.command()
@click.option("--tenant", required=True)
@click.option("--instance", help="All that is stored of this instance, by its name or numeric id.")
@click.option("--zone", help="Needed where the tenant has two instances of that name.")
@click.option("--point", help="This one point, by its id: as it is stored at home.")
@click.option("--copy", metavar="REGION", help="With --point: not the point at home, but its copy in this region.")
@click.option("--reason", required=True, help="What it is held for; every plan shows it.")
@click.option("--until", type=Moment(), help="When it ends by itself.  [default: when it is released]")
@click.option("--id", "key", help="An idempotency key: the same one twice makes one hold.  [default: a new one]")
@click.option("--dry-run", is_flag=True, help="Say what would be held, and change nothing.")
@click.pass_obj
def add(
    output: Output,
    tenant: str,
    instance: str | None,
    zone: str | None,
    point: str | None,
    copy: str | None,
    reason: str,
    until: datetime | None,
    key: str | None,
    dry_run: bool,
) -> None:
    """Hold a point, a copy of it, an instance or, with none of these, the whole tenant. What is expiring comes back.

    \b
    snapkeep hold add --tenant acme --reason "case 4711"
    snapkeep hold add --tenant acme --instance acme-pam-1 --reason "migration" --until 2027-01-31
    snapkeep hold add --tenant acme --point 20261122-s-acme-pam-1-6a39d0ed --reason "known good"
    snapkeep hold add --tenant acme --point 20261122-s-acme-pam-1-6a39d0ed --copy us-east1 --reason "known good"
    """
    if point and instance:
        raise click.UsageError("--point or --instance, not both: a hold is on one of them, or on the tenant")
    if copy and not point:
        raise click.UsageError("--copy REGION needs --point: a copy is one of a point")
    ask = commands.HoldAsk(
        point=point, copy=copy, instance=instance, zone=zone, reason=reason, until=until, dry_run=dry_run
    )
    answer = target.act(commands.HoldAnswer, tenant, "holds", ask, key=key)
    if output.as_json:
        output.json(answer)
        return
    one = answer.hold
    output.line(f"{_on(answer)} {'would be' if dry_run else 'is'} held {_term(one.until)}: {one.reason}")
    if answer.called_back:
        output.line(f"it {'is' if dry_run else 'was'} expiring, and {'would be' if dry_run else 'is'} called back")
    if answer.going:
        begun = f"the deletion of {counted(answer.going)} had begun before: {', '.join(answer.going)}"
        output.line(f"{begun}; only what had not been asked for yet stays")
    if not dry_run:
        output.line(f"`snapkeep hold release --tenant {tenant} {one.id} --reason ...` ends it")


@hold.command()
@click.argument("id")
@click.option("--tenant", required=True)
@click.option("--reason", required=True, help="Why it ends; it stands in the audit chain.")
@click.option("--dry-run", is_flag=True, help="Say what would be let go, and change nothing.")
@click.pass_obj
def release(output: Output, id: str, tenant: str, reason: str, dry_run: bool) -> None:
    """End the hold ID. What no other reason keeps then goes after its 24 hours of grace.

    \b
    snapkeep hold release --tenant acme 5f3a9c1e --reason "case closed"
    """
    path = f"holds/{quote(id, safe='')}/release"
    what = f"hold {id!r} of {tenant!r}"
    ask = commands.ReleaseAsk(reason=reason, dry_run=dry_run)
    answer = target.act(commands.HoldAnswer, tenant, path, ask, what=what)
    if output.as_json:
        output.json(answer)
    elif dry_run:
        output.line(f"{_on(answer)} would no longer be held for: {answer.hold.reason}")
        output.line(_would_go(answer.lets_go))
    else:
        output.line(f"{_on(answer)} is no longer held for: {answer.hold.reason}")
        output.line(f"`snapkeep retention plan --tenant {tenant}` shows what keeps its points now")


@hold.command("list")
@click.option("--tenant", type=Name(), help="Only this tenant's.")
@click.pass_obj
def list_(output: Output, tenant: str | None) -> None:
    """Every hold, and what it is on."""
    view = target.look_for(views.HoldsView, "/holds", {"tenant": tenant})
    if view is None:
        fail(f"{tenant!r} is not a tenant; `snapkeep fleet list` names them")
    if output.as_json:
        output.json(view)
        return
    if not view.holds:
        output.line("nothing is held")
        return
    output.table(
        ("HOLD", "TENANT", "ON", "NAME", "REASON", "UNTIL", "BY", "SINCE"),
        [
            (
                line.hold.id,
                line.tenant,
                kind(line.subject),
                sets.name_of(line.name, line.copy),
                line.hold.reason,
                (moment(line.hold.until) if line.hold.until else "open") + ("" if line.stands else " (over)"),
                line.hold.by,
                moment(line.hold.at),
            )
            for line in view.holds
        ],
        text=("REASON",),
        spare=("SINCE", "BY", "ON"),
    )
    if view.more:
        click.echo("there are more; --tenant shows one tenant's", err=True)


def _would_go(lets_go: list[str] | None) -> str:
    """What a release lets go, as far as its dry run has weighed it."""
    if lets_go is None:
        return "what no other reason keeps would go after its 24 hours of grace: `snapkeep retention plan` has them all"
    if not lets_go:
        return "nothing would go: something else keeps each"
    named = f"{', '.join(lets_go[:NAMED_MAX])}{' and more' if len(lets_go) > NAMED_MAX else ''}"
    return f"{counted(lets_go)} would go after 24 hours of grace, kept by nothing else: {named}"


def counted(names: Sequence[str]) -> str:
    """How many points and how many copies these are, of which the API has given the names (`POINT`, `POINT@REGION`)."""
    return count_sets(len(names), sum(sets.named(name)[1] is not None for name in names))


def kind(subject: str) -> str:
    """What a hold is on, from the document that it stands in."""
    return {"points": "point", "instances": "instance"}.get(subject.split("/")[0], "tenant")


def _on(answer: commands.HoldAnswer) -> str:
    if answer.copy:
        return f"the copy of {answer.name} in {answer.copy}"
    return f"{kind(answer.subject)} {answer.name}"


def _term(until: datetime | None) -> str:
    return f"until {moment(until)}" if until else "until it is released"

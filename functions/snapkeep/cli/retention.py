"""`snapkeep retention plan | override`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final
from urllib.parse import quote

import click
import msgspec

from snapkeep import commands, fleet, views
from snapkeep.cli import target
from snapkeep.cli.controls import paused_words
from snapkeep.cli.hold import counted
from snapkeep.cli.output import Output, fail
from snapkeep.cli.typed import Moment
from snapkeep.store import timestamp
from snapkeep.views import InstanceRetention, PointRetention, RetentionView
from snapkeep.wording import count, moment, size

WORDS: Final[dict[views.Verdict, str]] = {
    "keep": "keep",
    "undo": "keep again",
    "expire": "expires",
    "wait": "expiring",
    "delete": "goes",
    "deleting": "deleting",
}
"""Of a decision, as the table shows it."""


@click.group()
def retention() -> None:
    """What is kept of a tenant, why, and what goes."""


@retention.command()
@click.option("--tenant", required=True)
@click.option("--instance", help="Only this one's, by its name or numeric id.")
@click.option("--at", type=Moment(), help="As it will stand then, if nobody does anything until then.")
@click.option(
    "--policy",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="By this policy instead: a fleet file that names the tenant, or a mapping of keep_last, keep_daily, ...",
)
@click.pass_obj
def plan(output: Output, tenant: str, instance: str | None, at: datetime | None, policy: Path | None) -> None:
    """Every stored point, what becomes of it and why. Changes nothing.

    \b
    snapkeep retention plan --tenant acme
    snapkeep retention plan --tenant acme --instance acme-pam-1 --at 2027-01-31
    snapkeep retention plan --tenant acme --policy weekly.yaml
    """
    path = f"/tenants/{quote(tenant, safe='')}/retention"
    if policy is None:
        view = target.look_for(RetentionView, path, {"instance": instance, "at": timestamp(at) if at else None})
    else:
        proposed, mistakes = fleet.read_policy(policy, tenant)
        for mistake in mistakes:
            click.echo(str(mistake), err=True)
        if proposed is None:
            fail(f"{policy}: {count(len(mistakes), 'mistake')}; nothing was planned by it")
        ask = commands.PolicyAsk(retention=msgspec.to_builtins(proposed), at=at, instance=instance)
        view = target.look_for(RetentionView, path, body=ask)
    if view is None:
        there = f"{tenant!r} has no instance {instance!r}, or" if instance else f"{tenant!r}"
        fail(f"{there} is not a tenant; `snapkeep fleet list` names them")
    if output.as_json:
        output.json(view)
        return
    _print_paused(output, tenant)
    _print(output, view)


def _print_paused(output: Output, tenant: str) -> None:
    """Say first what makes the rest wait."""
    view = target.look_for(views.TenantView, f"/tenants/{quote(tenant, safe='')}")
    paused = target.ask(views.ControlsView, "/controls").paused.deletion
    if view is not None and (
        paused.covers(project=view.tenant.project, tenant=tenant) or view.tenant.vault_project in paused.projects
    ):
        output.line(f"deletion is paused {paused_words(paused)}: nothing goes until it is resumed")


def _print(output: Output, view: RetentionView) -> None:
    by = "a proposed policy" if view.proposed else "its policy"
    output.line(f"{view.tenant} at {moment(view.planned_for)}, by {by}: {policy_words(view.policy)}")
    for sentence in view.assumed:
        output.line(f"assumed: {sentence}")
    lines = [line for one in view.instances for line in one.points]
    copied = [line for one in view.instances for line in one.copies]
    several = len(view.instances) > 1
    for one in view.instances:
        output.line("")
        output.line(_about(one, view))
        _print_points(output, one.points, spare=("STATE", "TAKEN", "BYTES"))
        for region in sorted({line.region for line in one.copies if line.region}):
            output.line("")
            output.line(f"copies in {region}")
            # A copy may be on its way: its state says more than when its point was taken.
            there = [line for line in one.copies if line.region == region]
            _print_points(output, there, spare=("TAKEN", "BYTES", "STATE"))
    output.line("")
    kept = ", ".join(f"{number} {rule}" for rule, number in view.kept_by.items()) or "nothing"
    whole = f"{count(len(lines), 'point')} of {count(len(view.instances), 'instance')}" if several else None
    output.line(f"{whole or count(len(lines), 'point')}, {size(sum(line.bytes for line in lines))}; kept by: {kept}")
    if copied:
        output.line(f"{count(len(copied), 'copy', 'copies')}, {size(sum(line.bytes for line in copied))}")
    goes = [_goes(view.going, "point", "points", view.going_bytes)] if view.going else []
    goes += [_goes(view.copies_going, "copy", "copies", view.copies_going_bytes)] if view.copies_going else []
    output.line("; ".join(goes) or "nothing goes")
    if view.left_out:
        output.line(
            f"{count(view.left_out, 'instance')} not weighed, as there are too many points; --instance names one"
        )


def _goes(number: int, noun: str, nouns: str, bytes: int) -> str:
    return f"{count(number, noun, nouns)} {'goes' if number == 1 else 'go'}: {size(bytes)} freed"


def _print_points(output: Output, lines: Sequence[PointRetention], spare: Sequence[str]) -> None:
    if not lines:
        return
    output.table(
        ("POINT", "TAKEN", "STATE", "DECISION", "BYTES", "REASONS"),
        [
            (
                line.point,
                moment(line.taken_at),
                f"{line.state}, late" if line.late else line.state,
                WORDS[line.decision],
                size(line.bytes),
                ", ".join(_reasons(line)),
            )
            for line in lines
        ],
        right=("BYTES",),
        text=("REASONS",),
        spare=spare,
    )


def _reasons(line: PointRetention) -> list[str]:
    failed = [f"{line.failure.code}: {line.failure.message}"] if line.failure and line.region else []
    until = [f"goes at {moment(line.until)} or after"] if line.until else []
    return [*failed, *line.reasons, *until]


def _about(one: InstanceRetention, view: RetentionView) -> str:
    said = [f"{one.name} ({one.zone})"]
    if one.lost_at:
        said.append(f"lost {moment(one.lost_at)}")
    if one.breach_at:
        said.append(f"in breach of its RPO since {moment(one.breach_at)}")
    if one.override:
        said.append(f"overridden once: {one.override.reason}")
    said += [f"held: {hold.reason}" for hold in one.holds if hold.stands(view.planned_for)]
    if one.failure:
        said.append(f"cannot be planned, and so nothing of it is deleted: {one.failure}")
    elif not one.points:
        said.append("nothing is stored at home" if one.copies else "nothing is stored")
    return "; ".join(said)


def policy_words(policy: object) -> str:
    """A policy in one line, without what keeps nothing."""
    rules = msgspec.to_builtins(policy)
    words = {
        "keep_last": "last {}", "keep_daily": "daily {}", "keep_weekly": "weekly {}", "keep_monthly": "monthly {}",
        "keep_yearly": "yearly {}", "keep_within_days": "within {} days", "lock_days": "lock {} days",
        "keep_after_gone_days": "{} days after it is gone",
    }  # fmt: skip
    return ", ".join(text.format(rules[name]) for name, text in words.items() if rules.get(name))


@retention.command()
@click.option("--tenant", required=True)
@click.option("--instance", required=True, help="Its name or numeric id.")
@click.option("--zone", help="Needed where the tenant has two instances of that name.")
@click.option("--reason", required=True, help="Why; it stands in the audit chain.")
@click.option("--dry-run", is_flag=True, help="Say what would go and change nothing.")
@click.pass_obj
def override(output: Output, tenant: str, instance: str, zone: str | None, reason: str, dry_run: bool) -> None:
    """Let retention work once on an instance in breach of its RPO, which otherwise keeps all that it has.

    \b
    snapkeep retention override --tenant acme --instance acme-pam-1 --reason "disk is full" --dry-run
    """
    ask = commands.OverrideAsk(instance=instance, zone=zone, reason=reason, dry_run=dry_run)
    answer = target.act(commands.OverrideAnswer, tenant, "override", ask)
    if output.as_json:
        output.json(answer)
        return
    _print_paused(output, tenant)
    would = "would go" if dry_run else "go after their 24 hours of grace"
    output.line(f"{counted(answer.lets_go)} of {answer.name} {would}: {size(answer.bytes)}")
    for point in answer.lets_go:
        output.line(f"  {point}")

"""`snapkeep restore plan | request | approve | status | cancel | undo`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final, TypeVar, get_args
from urllib.parse import quote

import click
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from snapkeep import documents as d
from snapkeep import views, wiring
from snapkeep.cli import from_cloud as bare
from snapkeep.cli import target
from snapkeep.cli.output import STYLES, Output, fail
from snapkeep.cli.typed import Name
from snapkeep.restore import commands, progress
from snapkeep.restore.planning import VALUE_CHARACTERS_MAX, RestoreAsk
from snapkeep.wording import count, moment

F = TypeVar("F", bound=Callable[..., object])

FOLLOW_S: Final = 2.0
"""Between two questions of `status --follow`."""

REASON: Final = click.option("--reason", required=True, help="Why; it stands in the restore and in the audit chain.")
TENANT: Final = click.option("--tenant", type=Name(), required=True)
KEY: Final = click.option(
    "--id", "key", help="An idempotency key: the same one twice has the effect of once.  [default: a new one]"
)


@click.group()
def restore() -> None:
    """Bring a point back: plan it, ask for it, have it approved, follow it, undo it."""


def asking(command: F) -> F:
    """What `plan` and `request` take."""
    for option in (
        click.option("--waive-all", is_flag=True, help="Go without all that is lacking and not supplied."),
        click.option("--waive", multiple=True, metavar="ITEM", help="Go without this of what is lacking."),
        click.option(
            "--supply",
            multiple=True,
            metavar="ITEM=VALUE",
            help="Supply this of what is lacking; VALUE @FILE is what the file holds.",
        ),
        click.option("--region", type=Name(), help="The region of its copy; or its own, for any zone that is up."),
        click.option("--zone", type=Name(), help="Another zone than the point's own."),
        click.option("--name", type=Name(), help="Of the new instance; of mode disks what their names begin with."),
    ):
        command = option(command)
    return command


# --- planning and asking ------------------------------------------------------------------------------------------


@restore.command()
@click.option("--tenant", type=Name())
@click.option("--point", type=Name(), help="The point's id, as `snapkeep points list` shows it.")
@click.option("--mode", type=click.Choice(get_args(d.RestoreMode)), help="With --from-cloud new_instance by default.")
@asking
@click.option("--from-cloud", is_flag=True, help="Without Snapkeep: from what Compute Engine alone holds.")
@click.option("--project", type=Name(), help="With --from-cloud: the project that holds the snapshots.")
@click.option(
    "--script", "as_script", is_flag=True, help="With --from-cloud: the commands of gcloud that carry it out."
)
@click.pass_obj
def plan(
    output: Output,
    tenant: str | None,
    point: str | None,
    mode: d.RestoreMode | None,
    name: str | None,
    zone: str | None,
    region: str | None,
    supply: tuple[str, ...],
    waive: tuple[str, ...],
    waive_all: bool,
    from_cloud: bool,
    project: str | None,
    as_script: bool,
) -> None:
    """Say what a restore would do, what it lacks, who must approve it and how long it takes. Changes nothing.

    With --from-cloud there need be no Snapkeep; without --point it lists what a project's snapshots tell of.

    \b
    snapkeep restore plan --tenant acme --point 20261122-s-acme-pam-1-6a39d0ed --mode in_place
    snapkeep restore plan --tenant acme --point 20261122-s-acme-pam-1-6a39d0ed --mode new_instance --name pam-1-b \\
        --zone southamerica-east1-c --supply 'metadata startup-script=@start.sh' --waive 'address nic0 10.0.0.5'
    snapkeep restore plan --from-cloud --project acme-prod
    snapkeep restore plan --from-cloud --project acme-prod --point 20261122-s-acme-pam-1-6a39d0ed --script
    """
    if from_cloud:
        if project is None:
            raise click.UsageError("--from-cloud needs --project: the one that holds the snapshots")
        if mode == "in_place" or supply or waive or waive_all:
            raise click.UsageError("--from-cloud plans new_instance and disks, and asks for nothing to be supplied")
        if as_script and point is None:
            raise click.UsageError(
                "--script needs --point: the one that is to be restored; without both all are listed"
            )
        bare.plan(
            output,
            project=project,
            tenant=tenant,
            point=point,
            region=region,
            mode=mode or "new_instance",
            zone=zone,
            name=name,
            as_script=as_script,
        )
        return
    if project or as_script:
        raise click.UsageError("--project and --script go with --from-cloud")
    if tenant is None or point is None or mode is None:
        raise click.UsageError("--tenant, --point and --mode say what would be restored, and how")
    ask = _ask(point, mode, name, zone, region, supply, waive, waive_all, "a plan", dry_run=True)
    answer = target.act(commands.RestoreAnswer, tenant, "restores", ask)
    if output.as_json:
        output.json(answer)
        return
    _print_plan(output, answer)
    output.line("")
    if answer.plan.unhandled:
        output.line("lacking, to be supplied (--supply 'ITEM=VALUE') or gone without (--waive 'ITEM', --waive-all):")
        for item in answer.plan.unhandled:
            output.line(f"  {item}")
    output.line("ask for it with:")
    output.line(f"  {_typed(tenant, ask, supply)} --reason ...")


@restore.command()
@TENANT
@click.option("--point", type=Name(), required=True, help="The point's id, as `snapkeep points list` shows it.")
@click.option("--mode", type=click.Choice(get_args(d.RestoreMode)), required=True)
@asking
@REASON
@KEY
@click.option("--dry-run", is_flag=True, help="As `plan`: say what it would do, and change nothing.")
@click.pass_obj
def request(
    output: Output,
    tenant: str,
    point: str,
    mode: d.RestoreMode,
    name: str | None,
    zone: str | None,
    region: str | None,
    supply: tuple[str, ...],
    waive: tuple[str, ...],
    waive_all: bool,
    reason: str,
    key: str | None,
    dry_run: bool,
) -> None:
    """Ask for a restore. Returns when it is written down; `status --follow` shows what becomes of it.

    \b
    snapkeep restore request --tenant acme --point 20261122-s-acme-pam-1-6a39d0ed --mode in_place --reason "case 4711"
    """
    ask = _ask(point, mode, name, zone, region, supply, waive, waive_all, reason, dry_run=dry_run)
    answer = target.act(commands.RestoreAnswer, tenant, "restores", ask, key=key)
    _print_asked(output, tenant, answer, dry_run=dry_run)


@restore.command()
@click.argument("id")
@TENANT
@REASON
@KEY
@click.option("--dry-run", is_flag=True, help="Say what it would do, and change nothing.")
@click.pass_obj
def undo(output: Output, id: str, tenant: str, reason: str, key: str | None, dry_run: bool) -> None:
    """Ask for the former disks of the completed restore in place ID to be put back: a new restore, with its approval.

    \b
    snapkeep restore undo 20261122-p-acme-pam-1-9f2c1d7a --tenant acme --reason "the wrong point"
    """
    ask = commands.UndoAsk(reason=reason, dry_run=dry_run)
    answer = target.act(commands.RestoreAnswer, tenant, _path(id, "undo"), ask, key=key, **_named(tenant, id))
    _print_asked(output, tenant, answer, dry_run=dry_run)


@restore.command()
@click.argument("id")
@TENANT
@click.option("--request-sha256", required=True, metavar="HASH", help="Of what was asked for, as `status` shows it.")
@KEY
@click.pass_obj
def approve(output: Output, id: str, tenant: str, request_sha256: str, key: str | None) -> None:
    """Approve the restore ID that somebody else has asked for: exactly what the hash is of. It begins within a minute.

    \b
    snapkeep restore approve 20261122-p-acme-pam-1-9f2c1d7a --tenant acme --request-sha256 5f3a...
    """
    ask = commands.ApprovalAsk(request_sha256=request_sha256)
    answer = target.act(commands.RestoreState, tenant, _path(id, "approval"), ask, key=key, **_named(tenant, id))
    if output.as_json:
        output.json(answer)
        return
    output.line(f"{answer.restore} is approved: it begins within a minute")
    output.line(_follow(tenant, answer.restore))


@restore.command()
@click.argument("id")
@TENANT
@REASON
@KEY
@click.option("--dry-run", is_flag=True, help="Say whether it could be cancelled, and change nothing.")
@click.pass_obj
def cancel(output: Output, id: str, tenant: str, reason: str, key: str | None, dry_run: bool) -> None:
    """Cancel the restore ID. What a running one did is taken back, step by step.

    \b
    snapkeep restore cancel 20261122-p-acme-pam-1-9f2c1d7a --tenant acme --reason "the wrong point"
    """
    ask = commands.CancelAsk(reason=reason, dry_run=dry_run)
    answer = target.act(commands.RestoreState, tenant, _path(id, "cancellation"), ask, key=key, **_named(tenant, id))
    if output.as_json:
        output.json(answer)
    elif answer.abandoned:
        output.line(f"{answer.restore}: what it did {'would be' if dry_run else 'is being'} taken back")
        output.line(_follow(tenant, answer.restore))
    else:
        output.line(f"{answer.restore} {'would be' if dry_run else 'is'} cancelled; nothing of it was begun")


def _ask(
    point: str,
    mode: d.RestoreMode,
    name: str | None,
    zone: str | None,
    region: str | None,
    supply: Sequence[str],
    waive: Sequence[str],
    waive_all: bool,
    reason: str,
    *,
    dry_run: bool,
) -> RestoreAsk:
    return RestoreAsk(
        point=point,
        mode=mode,
        name=name,
        zone=zone,
        region=region,
        supply=dict(_supplied(supply)),
        waive=list(waive),
        waive_all=waive_all,
        reason=reason,
        dry_run=dry_run,
    )


def _supplied(given: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Items and their values. Ends with status 2 for what is neither, and with 1 for a file that cannot be read."""
    for one in given:
        item, equals, value = one.partition("=")
        if not (item and equals and value):
            raise click.UsageError(f"--supply {item!r}: expected ITEM=VALUE, or ITEM=@FILE")
        yield item, _file(value[1:]) if value.startswith("@") else value


def _file(path: str) -> str:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        fail(f"--supply: {path}: {getattr(error, 'strerror', None) or 'not UTF-8'}; expected a file of text")
    if not text or len(text) > VALUE_CHARACTERS_MAX:
        fail(f"--supply: {path}: {len(text):,} characters; expected 1 to {VALUE_CHARACTERS_MAX:,}")
    return text


def _typed(tenant: str, ask: RestoreAsk, supply: Sequence[str]) -> str:
    """The command that asks for what was planned, but for its reason; what was supplied as it was typed."""
    words = ["snapkeep", "restore", "request", "--tenant", tenant, "--point", ask.point, "--mode", ask.mode]
    for option, value in (("--name", ask.name), ("--zone", ask.zone), ("--region", ask.region)):
        words += [option, value] if value else []
    for one in supply:
        words += ["--supply", one]
    for one in ask.waive:
        words += ["--waive", one]
    return shlex.join([*words, *(["--waive-all"] if ask.waive_all else [])])


# --- what is printed ----------------------------------------------------------------------------------------------


def _print_plan(output: Output, answer: commands.RestoreAnswer) -> None:
    one = answer.plan
    output.line(f"it {progress.what(one)}")
    for sentence in one.lines:
        output.line(f"- {sentence}")
    output.line("")
    output.table(("STEP", "WHAT IT DOES"), [(name, progress.step(one, name)) for name in one.steps])
    if one.disks:
        output.line("")
        output.table(
            ("DEVICE", "BOOT", "TYPE", "GB", "SNAPSHOT"),
            [
                (
                    disk.device_name,
                    "yes" if disk.boot else "",
                    disk.type,
                    disk.size_gb,
                    disk.snapshot.rpartition("/")[2],
                )
                for disk in one.disks
            ],
            right=("GB",),
            spare=("TYPE", "BOOT"),
        )


def _print_asked(output: Output, tenant: str, answer: commands.RestoreAnswer, *, dry_run: bool) -> None:
    """What was asked for, and what is to be done next."""
    if output.as_json:
        output.json(answer)
        return
    if dry_run or answer.restore is None:
        _print_plan(output, answer)
        for item in answer.plan.unhandled:
            output.line(f"lacking: {item}")
        return
    output.line(f"{answer.restore} is asked for: it {progress.what(answer.plan)}")
    if answer.state == "requested":
        output.line(f"until {moment(answer.approve_by)} somebody else has to approve it:")
        output.line(f"  {_approval(tenant, answer.restore, answer.request_sha256)}")
    output.line(_follow(tenant, answer.restore))


def _approval(tenant: str, id: str, request_sha256: str | None) -> str:
    return f"snapkeep restore approve {id} --tenant {tenant} --request-sha256 {request_sha256}"


def _follow(tenant: str, id: str) -> str:
    return f"`snapkeep restore status {id} --tenant {tenant} --follow` shows its steps"


def _path(id: str, act: str = "") -> str:
    return f"restores/{quote(id, safe='')}" + (f"/{act}" if act else "")


def _named(tenant: str, id: str) -> dict[str, str]:
    """What is said where the restore is not there."""
    return {"what": f"restore {id!r} of {tenant!r}", "listed": f"restore status --tenant {tenant}"}


# --- how it stands ------------------------------------------------------------------------------------------------


@restore.command()
@click.argument("id", required=False)
@TENANT
@click.option("--follow", is_flag=True, help="Show its steps until it has ended: status 0 once completed, else 1.")
@click.pass_obj
def status(output: Output, id: str | None, tenant: str, follow: bool) -> None:
    """How the restore ID stands; without an ID the tenant's restores, the most recently requested first.

    \b
    snapkeep restore status --tenant acme
    snapkeep restore status 20261122-p-acme-pam-1-9f2c1d7a --tenant acme --follow
    """
    if id is None:
        if follow:
            raise click.UsageError("--follow needs the ID of a restore")
        _print_list(output, tenant)
        return
    one = _seen(tenant, id)
    if follow:
        one = _followed(output, tenant, one)
    if output.as_json:
        output.json(one)
    elif not follow:
        _print_one(output, tenant, one)
    if follow:
        sys.exit(0 if one.state == "completed" else 1)


def _seen(tenant: str, id: str) -> views.RestoreView:
    found = target.look_for(views.RestoreView, f"/tenants/{quote(tenant, safe='')}/{_path(id)}")
    if found is None:
        fail(f"restore {id!r} of {tenant!r} is not there; `snapkeep restore status --tenant {tenant}` names what is")
    return found


def _print_list(output: Output, tenant: str) -> None:
    found = list(_every_restore(tenant))
    if output.as_json:
        output.json(found)
        return
    if not found:
        output.line(f"{tenant} has no restores")
        return
    output.table(
        ("RESTORE", "MODE", "STATE", "REQUESTED", "TOOK", "POINT", "BY"),
        [
            (
                one.id,
                "test" if one.purpose == "test" else "undo" if one.undoes else one.mode,
                one.state,
                moment(one.requested_at),
                progress.duration(timedelta(seconds=one.took_s)) if one.took_s is not None else "",
                one.recovery_point,
                one.requested_by,
            )
            for one in found
        ],
        right=("TOOK",),
        spare=("BY", "POINT", "TOOK", "REQUESTED"),
    )


def _every_restore(tenant: str) -> Iterator[views.RestoreLine]:
    """The tenant's restores, page by page. Ends with status 1 where there is no such tenant."""
    after: str | None = None
    while True:
        page = target.look_for(views.RestoresView, f"/tenants/{quote(tenant, safe='')}/restores", {"after": after})
        if page is None:
            fail(f"{tenant!r} is not a tenant; `snapkeep fleet list` names them")
        yield from page.restores
        after = page.next
        if after is None:
            return


def _print_one(output: Output, tenant: str, one: views.RestoreView) -> None:
    for line in _head(one):
        output.line(line)
    output.line("")
    _print_steps(output, one)
    if one.checks:
        output.line("")
        output.table(("CHECK", "STATE", "DETAIL"), [(c.name, c.state, c.detail) for c in one.checks], text=("DETAIL",))
    if one.disks:
        output.line("")
        output.table(
            ("DISK", "DEVICE", "GB", "STATUS"),
            [
                (
                    disk.name,
                    disk.device_name,
                    disk.size_gb,
                    "removed" if disk.status == d.GONE else disk.status or "not made yet",
                )
                for disk in one.disks
            ],
            right=("GB",),
            spare=("GB", "DEVICE"),
        )
    if one.former:
        output.line("")
        output.table(("FORMER DISK", "DEVICE", "STATUS"), [(f.name, f.device_name, f.status) for f in one.former])
    for line in _tail(tenant, one):
        output.line(line)


def _head(one: views.RestoreView) -> Iterator[str]:
    yield f"{one.id} · {one.state} · {progress.stands(one)}"
    yield f"it {progress.what(one)}"
    yield f"from {progress.source(one)}"
    if one.lacking:
        yield f"lacking: {progress.handled(one)}"
    if one.stops and not progress.is_over(one):
        yield f"stops {progress.stopping(one)}"
    yield f"requested {moment(one.requested_at)} by {one.requested_by}: {one.reason}"
    if one.approved_by:
        yield f"approved {moment(one.approved_at)} by {one.approved_by}"
    if one.started_at:
        yield f"started {moment(one.started_at)}" + (f", ended {moment(one.finished_at)}" if one.finished_at else "")
    if not progress.is_over(one):
        since = f"; under way for {progress.duration(timedelta(seconds=one.running_s))}" if one.running_s else ""
        yield f"estimate: {progress.estimate(one.estimate_s)}{since}"
    yield from progress.said_of(one)


def _tail(tenant: str, one: d.Restore) -> Iterator[str]:
    """What can be done next."""
    if one.state == "requested":
        yield f"what is asked for has the hash {one.request_sha256}; somebody else than {one.requested_by} approves it:"
        yield f"  {_approval(tenant, one.id, one.request_sha256)}"
    if kept := progress.kept(one):
        yield f"{count(len(kept), 'former disk')} kept until {moment(one.keep_until)}; to put them back:"
        yield f"  snapkeep restore undo {one.id} --tenant {tenant} --reason ..."


def _print_steps(output: Output, one: d.Restore) -> None:
    output.table(
        ("STEP", "STATE", "AT", "WHAT IT DOES", "SAID"),
        [
            (
                *_named_step(step),
                moment(step.at) if step.at else "",
                progress.step(one, step.name, back=step.undo),
                progress.far(one, step),
            )
            for step in one.steps
        ],
        text=("SAID",),
        spare=("WHAT IT DOES", "AT"),
    )


def _named_step(step: d.RestoreStep) -> tuple[str, str]:
    return f"undo: {step.name}" if step.undo else step.name, step.state


# --- live ---------------------------------------------------------------------------------------------------------


def _followed(output: Output, tenant: str, one: views.RestoreView) -> views.RestoreView:
    """The restore as it has ended: shown meanwhile as a table that is kept current, or line by line in a file."""
    if output.as_json:
        while not progress.is_over(one):
            wiring.wait(FOLLOW_S)
            one = _seen(tenant, one.id)
        return one
    if output.console.is_terminal:
        with Live(_drawn(one), console=output.console, auto_refresh=False, transient=True) as live:
            while not progress.is_over(one):
                wiring.wait(FOLLOW_S)
                one = _seen(tenant, one.id)
                live.update(_drawn(one), refresh=True)
        _print_one(output, tenant, one)
        return one
    told: set[str] = set()
    while True:
        for line in _told(one):
            if line not in told:
                told.add(line)
                output.line(line)
        if progress.is_over(one):
            break
        wiring.wait(FOLLOW_S)
        one = _seen(tenant, one.id)
    for line in (*progress.said_of(one), *_tail(tenant, one)):
        output.line(line)
    return one


def _told(one: d.Restore) -> Iterator[str]:
    """A line for each thing that can change, so that a new one is one that was not there before."""
    if one.state == "requested":
        yield f"{one.id}: {progress.stands(one)}"
    for step in one.steps:
        if step.state != "pending":
            name, state = _named_step(step)
            said = progress.far(one, step)
            yield f"{moment(step.at)} {name} {state}" + (f": {said}" if said else "")
    if one.checks and progress.is_over(one):
        for check in one.checks:
            yield f"check {check.name} {check.state}" + (f": {check.detail}" if check.detail else "")
    if progress.is_over(one):
        yield f"{one.id} · {one.state} · {progress.stands(one)}"


def _drawn(one: d.Restore) -> Group:
    """The restore as a terminal shows it while it runs."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("STEP", "STATE", "AT", "SAID"):
        table.add_column(column, overflow="fold")
    for step in one.steps:
        name, state = _named_step(step)
        at = moment(step.at) if step.at else ""
        table.add_row(name, Text(state, style=STYLES.get(state, "")), at, progress.far(one, step))
    return Group(Text(f"{one.id} · {one.state} · {progress.stands(one)}"), Text(""), table)

"""The local cloud's part of the command line: `snapkeep up` and `snapkeep sim ...`. A plug-in of `snapkeep.cli`."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import urllib.parse
from contextlib import closing
from datetime import datetime, timedelta
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from snapkeep import fleet as fleet_file
from snapkeep.cli import target
from snapkeep.cli.output import Output, fail
from snapkeep.cli.typed import Duration, Moment
from snapkeep.wording import count, moment, size

if TYPE_CHECKING:
    from snapkeep_local import demo as demos
    from snapkeep_local.stocktaking import Stock
    from snapkeep_local.timekeeper import Mode

EXAMPLE: Final = Path(__file__).parents[3] / "examples" / "fleet.yaml"

TIMEOUT_S: Final = 30
POLL_S: Final = 0.2
"""Between two looks at how far the clock has come."""


RULES_SHOWN: Final = {
    "last": "last",
    "daily": "daily",
    "weekly": "weekly",
    "monthly": "monthly",
    "yearly": "yearly",
    "within": "within",
    "newest": "newest verified",
    "locked": "locked",
    "held": "held",
}
"""Columns of the demo's second table, and the rules that they count."""

COPIES_SHOWN: Final = ("waiting", "missing", "unentitled", "catch_up_disks")
"""Counts of a tenant's health that the demo's table of copies shows."""

WRONG_SHOWN: Final = 20
"""Findings of a demo that are printed."""

CHANGES: Final = (
    "add_disk",
    "add_firewall",
    "add_instance",
    "add_policy",
    "attach_disk",
    "attach_policy",
    "detach_disk",
    "detach_policy",
    "remove_disk",
    "remove_firewall",
    "remove_instance",
    "replace_disk",
    "replace_instance",
    "resize_disk",
    "set_guest_agent",
    "set_guest_answers",
    "set_zone",
    "start_instance",
    "stop_instance",
    "write_disk",
    "write_local_ssd",
)

EFFECTS: Final = (
    "error_before",
    "error_after",
    "slow",
    "stuck",
    "operation_fails",
    "snapshot_fails",
    "snapshot_vanishes",
    "instant_vanishes",
    "disk_fails",
    "deletion_lies",
)


def register(root: click.Group) -> None:
    """Add the local cloud's commands to the root command."""
    root.add_command(demo)
    root.add_command(up)
    root.add_command(sim)


# --- what is typed ------------------------------------------------------------------------------------------------


class Setting(click.ParamType[tuple[str, Any]]):
    """`NAME=VALUE`; the value is JSON, or else text."""

    name = "name=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        if isinstance(value, tuple):
            return value
        name, equals, text = value.partition("=")
        if not name or not equals:
            self.fail(f"{value!r} is not NAME=VALUE", param, ctx)
        try:
            return name, json.loads(text)
        except ValueError:
            return name, text


# --- demo ---------------------------------------------------------------------------------------------------------


@click.command()
@click.option("--days", type=click.IntRange(1, 400), default=30, show_default=True, help="Simulated days.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same run, byte for byte.")
@click.option(
    "--fleet",
    type=click.Path(exists=True, path_type=Path),
    default=EXAMPLE,
    help="The fleet file, or a folder of them.  [default: examples/fleet.yaml]",
)
@click.option(
    "--audit",
    "audit_folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".snapkeep/demo/audit"),
    show_default=True,
    help="Where the audit chains are written.",
)
@click.option("--serve", is_flag=True, help="Then show the fleet page on 127.0.0.1, until Ctrl-C.")
@click.option("--port", type=click.IntRange(0, 65535), help="Where --serve listens.  [default: a free port]")
@click.pass_obj
def demo(output: Output, days: int, seed: int, fleet: Path, audit_folder: Path, serve: bool, port: int | None) -> None:
    """Run the main job on a fleet in this process, fast-forwarded, with a few seeded faults."""
    from snapkeep_local import demo as demos

    if port is not None and not serve:
        raise click.UsageError("--port goes with --serve")
    reading = fleet_file.read(fleet)
    for mistake in reading.mistakes:
        click.echo(str(mistake), err=True)
    if reading.mistakes:
        fail(f"{fleet}: {count(len(reading.mistakes), 'mistake')}; the demo needs a fleet file without any")
    try:
        listening = demos.listen(port or 0) if serve else None
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        fail(f"port {port}: {reason}: end what listens there, or take another with --port")
    # What the functions log would only interrupt the bar; it is all in the audit chains.
    logging.getLogger("snapkeep").addHandler(logging.NullHandler())
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=2) as progress:
        task = progress.add_task(f"{days} days of {len(reading.valid)} tenants", total=1.0)
        system, report = demos.run(
            reading,
            days=days,
            seed=seed,
            audit_folder=audit_folder,
            progress=lambda done: progress.update(task, completed=done),
        )
    if output.as_json:
        output.json(report)
    else:
        _print_demo(output, report)
    if listening:
        click.echo(
            f"The fleet page: http://{demos.HOST}:{listening.getsockname()[1]}/ until Ctrl-C", err=output.as_json
        )
        demos.serve(system.ports, listening)
    if report.wrong:
        for line in report.wrong[:WRONG_SHOWN]:
            click.echo(line, err=True)
        wrong = count(len(report.wrong), "finding")
        fail(f"what is stored is not what the policies keep: {wrong}, the first of them above")
    if not report.restored:
        fail("what went wrong was not brought back as its point has it: see what is told of it")
    if not report.protected:
        fail("a vendor-managed tenant did not end protected, or a chain is broken: see the table")


def _print_demo(output: Output, report: demos.Report) -> None:
    columns = ("TENANT", "STATE", "NEWEST VERIFIED", "INSTANCES", "VERIFIED", "FAILED", "MISSED", "BYTES", "FAULTS MET",
               "AUDIT RECORDS", "CHAIN")  # fmt: skip
    output.table(
        columns,
        [
            (
                row.tenant,
                row.state,
                moment(row.newest_verified_at) if row.newest_verified_at else "",
                row.instances,
                row.points["verified"],
                row.points["failed"],
                row.points["missed"],
                size(row.bytes),
                row.faults,
                row.audit_records,
                "intact" if row.chain_intact else "BROKEN",
            )
            for row in report.tenants
        ],
        right=columns[3:10],
        spare=("AUDIT RECORDS", "INSTANCES", "BYTES", "NEWEST VERIFIED"),
    )
    output.line("")
    _print_copies(output, report)
    _print_stock(output, report)
    output.line("")
    _print_restores(output, report)
    calls = ", ".join(f"{count} {method}" for method, count in report.calls.items())
    events = ", ".join(f"{count} {name}" for name, count in report.events.items())
    output.line(f"{report.days} days until {moment(report.ended_at)}. Compute Engine calls: {calls}.")
    output.line(f"Events: {events}.")
    output.line(f"Audit chains: {report.audit_folder}")
    output.line(f"Verify them: snapkeep audit verify --from {report.audit_folder}")
    output.line(f"Seed {report.seed}, digest {report.digest}")


def _print_copies(output: Output, report: demos.Report) -> None:
    """How the copies of each tenant stand that has any, and what is stored of it in each region."""
    copied = [row for row in report.tenants if row.copies]
    if not copied:
        return
    output.line("Complete sets of tenants with inter-region backup, at home and in their second region:")
    columns = ("TENANT", "REGION", "SETS", "STORED", "WAITING", "MISSING", "ENDED", "CATCH-UP")
    lines: list[tuple[object, ...]] = []
    for row in copied:
        counts = tuple(row.copies.get(name, 0) for name in COPIES_SHOWN)
        for line in row.regions:
            known = ("" if line.sets is None else line.sets, "" if line.bytes is None else size(line.bytes))
            if line.role == "home":
                lines.append((row.tenant, line.region, *known, *("" for _ in COPIES_SHOWN)))
            else:
                lines.append(("", line.region, *known, *counts))
    output.table(columns, lines, right=columns[2:])
    output.line("WAITING: copies on their way. MISSING: bought, and neither there nor on their way.")
    output.line("ENDED: stored, and no longer bought. CATCH-UP: disks copied in full, later.")
    if report.add_on:
        add_on = report.add_on
        ended, returned = moment(add_on.ended_at), moment(add_on.returned_at)
        output.line(f"The add-on of {add_on.tenant} ended {ended} and was bought again {returned}.")
    output.line("")


def _print_stock(output: Output, report: demos.Report) -> None:
    """Which rule keeps how many sets; after the slash what the policy's counters add up to."""
    output.line("Points that are stored, and copies by their region; how many of them each rule keeps:")
    columns = ("TENANT", "TAKEN", "KEPT", *(name.upper() for name in RULES_SHOWN), "OTHER", "EXPIRING", "DELETING",
               "DELETED")  # fmt: skip
    output.table(
        columns,
        [
            (
                f"  {stock.region}" if stock.region else stock.tenant,
                stock.taken,
                stock.kept,
                *(_kept(stock, name) for name in RULES_SHOWN.values()),
                ", ".join(f"{n} {rule}" for rule, n in stock.kept_by.items() if rule not in RULES_SHOWN.values()),
                stock.expiring,
                stock.deleting,
                stock.deleted,
            )
            for stock in report.stock
        ],
        right=[column for column in columns if column not in ("TENANT", "OTHER")],
        spare=("OTHER", "WITHIN", "HELD", "DELETING", "YEARLY", "TAKEN", "LOCKED"),
    )
    if not report.wrong:
        output.line("That is exactly what the policies keep, and nothing else that was made is left.")


def _print_restores(output: Output, report: demos.Report) -> None:
    """What went wrong and was brought back, and what the restore tests say."""
    from snapkeep_local import outages

    if report.outages:
        output.line("What went wrong in large, and was brought back:")
    elif report.days < outages.DAYS_MIN:
        output.line(
            f"Nothing goes wrong in large in less than {outages.DAYS_MIN} days: there is no point to go back to."
        )
    for outage in report.outages:
        for line in outages.story(outage):
            output.line(line)
    for one in report.tests:
        known = {"failed": one.failed, "not carried out": one.not_carried_out}
        others = "".join(f", {number} {what}" for what, number in known.items() if number)
        took = "" if one.last_took_s is None else f"; the last took {count(-(-one.last_took_s // 60), 'minute')}"
        output.line(f"Restore tests of {one.tenant}: {one.passed} passed{others}{took}.")
    if report.never_tested:
        output.line(f"Never tested: {', '.join(report.never_tested)}.")
    output.line("")


def _kept(stock: Stock, rule: str) -> str:
    kept, wanted = stock.kept_by.get(rule, 0), stock.wanted.get(rule, 0)
    return f"{kept}/{wanted}" if wanted and stock.taken else str(kept or "")


# --- up -----------------------------------------------------------------------------------------------------------


@click.command()
@click.option(
    "--fleet",
    type=click.Path(exists=True, path_type=Path),
    default=EXAMPLE,
    help="The fleet file, or a folder of them.  [default: examples/fleet.yaml]",
)
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0: a free one.")
@click.option(
    "--clock",
    type=click.Choice(["simulated", "system"]),
    default="simulated",
    show_default=True,
    help="simulated: time stands still but for `snapkeep sim advance`. system: the machine's own.",
)
@click.option("--start", type=Moment(), help="Where a simulated clock begins.  [default: now]")
@click.option("--seed", type=int, help="Of all chance in the simulated Compute Engine.  [default: 0]")
def up(fleet: Path, port: int, clock: Mode, start: datetime | None, seed: int | None) -> None:
    """Run the whole of Snapkeep on this machine, with Google's emulators, until Ctrl-C.

    Prints one line of JSON when all is ready; every function's log is in .snapkeep/up.
    """
    if start and clock == "system":
        raise click.UsageError("--start goes with --clock simulated: the machine's own clock begins where it is")
    # Imported here, or every other command would wait for Google's clients.
    from snapkeep_local import runner
    from snapkeep_local.emulators import EmulatorFailed, EmulatorsMissing
    from snapkeep_local.processes import CannotStart

    try:
        runner.up(runner.Settings(fleet=fleet, port=port, clock=clock, start=start, seed=seed))
    except (runner.CannotRun, EmulatorFailed, EmulatorsMissing, CannotStart) as reason:
        fail(str(reason))


# --- sim ----------------------------------------------------------------------------------------------------------


@click.group()
def sim() -> None:
    """Control a local cloud that runs (SNAPKEEP_API says where; http://127.0.0.1:8080 otherwise)."""


@sim.command()
@click.pass_obj
def status(output: Output) -> None:
    """Its time, what was delivered to each function, and the calls to Compute Engine."""
    clock = _ask("GET", "/_sim/clock")
    deliveries = _ask("GET", "/_sim/deliveries")
    calls = _ask("GET", "/_sim/calls")
    if output.as_json:
        output.json({"clock": clock, "functions": deliveries, "calls": calls})
        return
    moving = f", on its way to {clock['target']}" if clock["running"] else ""
    output.line(f"{clock['now']} ({clock['mode']}{moving})")
    if clock["failure"]:
        output.line(f"time stopped: {clock['failure']}")
    columns = ("delivered", "failed", "in_flight", "restarts", "pid")
    output.table(
        ("FUNCTION", *(column.upper().replace("_", " ") for column in columns)),
        [(name, *(of[column] for column in columns)) for name, of in deliveries.items()],
        right=("DELIVERED", "FAILED", "IN FLIGHT", "RESTARTS", "PID"),
    )
    output.table(("CALL", "COUNT"), sorted(calls.items()), right=("COUNT",))


@sim.command()
@click.argument("duration", type=Duration())
@click.option("--without-ticks", is_flag=True, help="At once, and nobody is woken: as if Cloud Scheduler were down.")
@click.pass_obj
def advance(output: Output, duration: timedelta, without_ticks: bool) -> None:
    """Let DURATION pass (26h, 90m, 1d12h), and return when every message of that time is answered."""
    began = datetime.fromisoformat(_ask("GET", "/_sim/clock")["now"])
    asked = {"advance_seconds": duration.total_seconds(), "ticks": not without_ticks}
    clock = _ask("POST", "/_sim/clock", asked)
    shown = sys.stderr.isatty()
    pause = threading.Event()
    try:
        while clock["running"]:
            if shown:
                _show_progress(began, clock)
            pause.wait(POLL_S)
            clock = _ask("GET", "/_sim/clock")
    except KeyboardInterrupt:
        fail(f"time goes on to {clock['target']} without being waited for; `snapkeep sim status` shows where it is")
    if shown:
        click.echo("\r\x1b[K", err=True, nl=False)
    if clock["failure"]:
        fail(f"time stopped at {clock['now']}: {clock['failure']}")
    if output.as_json:
        output.json(clock)
    else:
        output.line(f"it is {clock['now']}")


def _show_progress(began: datetime, clock: dict[str, Any]) -> None:
    now, end = datetime.fromisoformat(clock["now"]), datetime.fromisoformat(clock["target"])
    share = (now - began) / (end - began) if end > began else 1.0
    click.echo(f"\r\x1b[K{now:%Y-%m-%d %H:%M}Z  {share:4.0%}", err=True, nl=False)


@sim.command()
@click.argument("turn", type=click.Choice(["start", "stop", "status"]))
@click.pass_obj
def scheduler(output: Output, turn: str) -> None:
    """Cloud Scheduler's stand-in: stopped, it wakes nobody while time passes."""
    answer = (
        _ask("GET", "/_sim/scheduler")
        if turn == "status"
        else _ask("POST", "/_sim/scheduler", {"running": turn == "start"})
    )
    if output.as_json:
        output.json(answer)
    else:
        output.line(f"the scheduler {'runs' if answer['running'] else 'is stopped'} since {answer['since']}")


@sim.command()
@click.pass_obj
def mend(output: Output) -> None:
    """Make topics and subscriptions again that are missing, and put right what infra/functions.yaml has otherwise."""
    answer = _ask("POST", "/_sim/subscriptions", {})
    if output.as_json:
        output.json(answer)
        return
    for name in answer["mended"]:
        output.line(name)
    output.line(f"{count(len(answer['mended']), 'resource')} mended")


# --- sim fault ----------------------------------------------------------------------------------------------------


@sim.group()
def fault() -> None:
    """What is to go wrong in the simulated Compute Engine."""


@fault.command("add")
@click.argument("effect", type=click.Choice(EFFECTS))
@click.option("--method", help="Only calls of this method; a glob: snapshots.*")
@click.option("--resource", help="Only calls about a link that this regular expression is found in.")
@click.option("--probability", type=click.FloatRange(0, 1), help="How likely such a call meets it.  [default: 1]")
@click.option("--count", type=click.IntRange(min=1), help="How many calls meet it.  [default: without end]")
@click.option("--set", "settings", type=Setting(), multiple=True, help="Of the effect: status=503, factor=20, ...")
@click.pass_obj
def add_fault(
    output: Output,
    effect: str,
    method: str | None,
    resource: str | None,
    probability: float | None,
    count: int | None,
    settings: tuple[tuple[str, Any], ...],
) -> None:
    """Have calls meet EFFECT from now on.

    A whole zone away: error_before --resource zones/us-east1-b
    """
    given = {"method": method, "resource": resource, "probability": probability, "count": count}
    body: dict[str, Any] = {"effect": {"kind": effect, **dict(settings)}}
    body |= {name: value for name, value in given.items() if value is not None}
    added = _ask("POST", "/_sim/faults", body)
    if output.as_json:
        output.json(added)
    else:
        output.line(f"fault {added['id']} is in force")


@fault.command("list")
@click.pass_obj
def list_faults(output: Output) -> None:
    """The faults in force, and how many calls each has struck."""
    faults = _ask("GET", "/_sim/faults")
    if output.as_json:
        output.json(faults)
        return
    output.table(
        ("ID", "EFFECT", "METHOD", "RESOURCE", "PROBABILITY", "COUNT", "STRUCK"),
        [
            (f["id"], _effect(f["effect"]), f["method"], f["resource"], f["probability"], f["count"] or "", f["struck"])
            for f in faults
        ],
        right=("ID", "PROBABILITY", "COUNT", "STRUCK"),
        text=("RESOURCE",),
    )


def _effect(effect: dict[str, Any]) -> str:
    settings = [f"{name}={value}" for name, value in effect.items() if name != "kind"]
    return " ".join([effect["kind"], *settings])


@fault.command("clear")
@click.argument("number", type=int, required=False)
@click.pass_obj
def clear_faults(output: Output, number: int | None) -> None:
    """End the fault NUMBER, or all of them."""
    _ask("DELETE", "/_sim/faults" if number is None else f"/_sim/faults/{number}")
    if output.as_json:
        output.json({"cleared": number or "all"})
    else:
        output.line("no fault is in force" if number is None else f"fault {number} is over")


# --- sim fleet ----------------------------------------------------------------------------------------------------


@sim.group()
def fleet() -> None:
    """The instances and disks of the simulated Compute Engine."""


@fleet.command("list")
@click.option("--project", help="Only this project's.")
@click.pass_obj
def list_fleet(output: Output, project: str | None) -> None:
    """Every disk by its link, the instances that it is attached to, and what it holds."""
    state = _ask("GET", "/_sim/state")
    attached: dict[str, list[str]] = {}
    for instance in state["instances"]:
        for disk in instance["disks"]:
            attached.setdefault(_link(disk.get("source", "")), []).append(_link(instance["selfLink"]))
    disks = [
        {
            "disk": _link(disk["selfLink"]),
            "id": disk["id"],
            "size_gb": int(disk["sizeGb"]),
            "content": disk["content"],
            "instances": attached.get(_link(disk["selfLink"]), []),
        }
        for disk in state["disks"]
    ]
    disks = [disk for disk in disks if project in (None, disk["disk"].split("/")[1])]
    if output.as_json:
        output.json(disks)
        return
    output.table(
        ("DISK", "ID", "GB", "CONTENT", "INSTANCE"),
        [(d["disk"], d["id"], d["size_gb"], d["content"], ", ".join(d["instances"])) for d in disks],
        right=("ID", "GB"),
        text=("INSTANCE",),
    )


@fleet.command()
@click.argument("kind", type=click.Choice(CHANGES))
@click.argument("settings", type=Setting(), nargs=-1)
@click.pass_obj
def change(output: Output, kind: str, settings: tuple[tuple[str, Any], ...]) -> None:
    """Change the fleet as its owner would, behind Snapkeep's back.

    SETTINGS are NAME=VALUE: resize_disk disk=projects/P/zones/Z/disks/D size_gb=200. One that is missing or unknown
    is named in the answer.
    """
    changed = _ask("POST", "/_sim/fleet", {"kind": kind, **dict(settings)})
    if output.as_json:
        output.json(changed)
    else:
        output.line(changed["link"])


def _link(url: str) -> str:
    return url[url.find("projects/") :]


# --- asking -------------------------------------------------------------------------------------------------------


def _ask(method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """The JSON that the local cloud answers. Ends with status 1 and one line where there is none, or it refuses."""
    url = urllib.parse.urlsplit(target.api() + path)
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} if data else {}
    try:
        connect = HTTPSConnection if url.scheme == "https" else HTTPConnection
        with closing(connect(url.netloc, timeout=TIMEOUT_S)) as connection:
            connection.request(method, url.path, data, headers)
            answer = connection.getresponse()
            content = answer.read()
        if answer.status >= HTTPStatus.MULTIPLE_CHOICES:
            fail(f"{path}: {_said(content) or f'{answer.status} {answer.reason}'}")
        return json.loads(content) if content else {}
    except (OSError, HTTPException, ValueError) as error:
        fail(f"no local cloud at {target.api()} ({error}): start one with `snapkeep up`, or set SNAPKEEP_API")


def _said(content: bytes) -> str:
    """What the simulator has against a request, in one line; nothing if that is not said."""
    try:
        error = json.loads(content)["error"]
    except (ValueError, KeyError, TypeError):
        return ""
    return str(error["message"] if isinstance(error, dict) and "message" in error else error)

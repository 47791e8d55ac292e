"""`snapkeep audit verify | export`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from snapkeep import commands
from snapkeep.audit import export as exports
from snapkeep.audit import handler
from snapkeep.cli import target
from snapkeep.cli.output import Output, fail


@click.group()
def audit() -> None:
    """The audit chains: one for each tenant, and one for acts of no tenant."""


@audit.command()
@click.option("--tenant", "tenants", multiple=True, help="Only this tenant's chain; may be repeated.")
@click.option(
    "--from",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Verify an export (of `audit export`, or what `demo` wrote) instead of what is stored.",
)
@click.option(
    "--heads",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Heads noted earlier (heads.json, or the output of --json audit verify): no chain may have shrunk since.",
)
@click.pass_obj
def verify(output: Output, tenants: tuple[str, ...], folder: Path | None, heads: Path | None) -> None:
    """Walk chains and find any changed, missing or inserted record."""
    try:
        noted = exports.read_heads(heads) if heads else {}
        if heads and not noted:
            fail(f"{heads}: names no chain, so that there is nothing to compare with")
        if folder:
            verdicts = [v for v in exports.verify(folder, noted) if not tenants or v.tenant in tenants]
        else:
            verdicts = commands.verify_audit(target.ports(), tenants, noted)
    except exports.Unreadable as error:
        fail(str(error))
    unknown = sorted({*tenants} - {verdict.tenant for verdict in verdicts})
    if unknown:
        fail(f"no chain of {', '.join(map(repr, unknown))}: not a tenant (`snapkeep fleet list` names them)")
    broken = [verdict for verdict in verdicts if not verdict.intact]
    if output.as_json:
        output.json({"intact": not broken, "chains": [_as_json(verdict) for verdict in verdicts]})
    else:
        output.table(
            ("TENANT", "RECORDS", "CHAIN", "HEAD"),
            [(v.tenant, v.records, "intact" if v.intact else "BROKEN", v.head.hash[:16]) for v in verdicts],
            right=("RECORDS",),
        )
    for verdict in broken:
        for finding in verdict.findings:
            click.echo(f"{verdict.tenant}: record {finding.seq}: {finding.problem}", err=True)
    if not verdicts:
        fail("no chain to verify")
    if broken:
        sys.exit(1)


@audit.command("export")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.pass_obj
def export_(output: Output, folder: Path) -> None:
    """Write every chain into FOLDER, to be kept and verified elsewhere."""
    try:
        chains = commands.audit_chains(target.ports())
        exports.write(folder, chains)
    except (handler.Damaged, exports.Unreadable) as error:
        fail(str(error))
    if output.as_json:
        output.json({"folder": str(folder), "chains": len(chains)})
    else:
        output.line(f"{len(chains)} chains in {folder}; verify them with `snapkeep audit verify --from {folder}`")


def _as_json(verdict: handler.Verdict) -> dict[str, object]:
    return {
        "tenant": verdict.tenant,
        "records": verdict.records,
        "intact": verdict.intact,
        "head": {"seq": verdict.head.seq, "hash": verdict.head.hash},
        "findings": [{"seq": finding.seq, "problem": finding.problem} for finding in verdict.findings],
    }

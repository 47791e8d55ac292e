"""`snapkeep audit verify | export`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import click

from snapkeep import documents as d
from snapkeep import views
from snapkeep.audit import export as exports
from snapkeep.audit import handler
from snapkeep.audit.chain import Head
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
    """Walk chains and find any changed, missing or inserted record. What is stored is read and verified here.

    \b
    snapkeep audit verify --tenant acme
    snapkeep audit verify --from FOLDER --heads heads.json
    """
    try:
        noted = exports.read_heads(heads) if heads else {}
        if heads and not noted:
            fail(f"{heads}: names no chain, so that there is nothing to compare with")
        if folder:
            verdicts = [v for v in exports.verify(folder, noted) if not tenants or v.tenant in tenants]
        else:
            verdicts = list(_verdicts(tenants, noted))
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
    """Write every chain into FOLDER, which is empty or not there yet, to be kept and verified elsewhere."""
    try:
        exports.expect_free(folder)
        chains = {chain: _records(chain) for chain in _chains()}
        exports.write(folder, chains)
    except exports.Unreadable as error:
        fail(str(error))
    if output.as_json:
        output.json({"folder": str(folder), "chains": len(chains)})
    else:
        output.line(f"{len(chains)} chains in {folder}; verify them with `snapkeep audit verify --from {folder}`")


def _chains() -> Iterator[str]:
    for page in target.pages(views.ChainsView, "/audit"):
        yield from page.chains


def _pages(chain: str) -> Iterator[handler.Page]:
    """A chain as it is stored, page by page; nothing where there is none."""
    start: int | None = 1
    while start is not None:
        page = target.look_for(handler.Page, f"/audit/{quote(chain, safe='')}", {"from": str(start)})
        if page is None:
            return
        yield page
        start = page.next


def _verdicts(tenants: tuple[str, ...], noted: Mapping[str, Head]) -> Iterator[handler.Verdict]:
    """Of these chains, else of every one; also of one that was noted and is not there any more."""
    for chain in sorted(tenants) or sorted({*_chains(), *noted}):
        pages = list(_pages(chain))
        if pages or chain in noted:
            yield handler.judge(chain, pages, noted)


def _records(chain: str) -> Iterator[d.AuditRecord]:
    """Ends with status 1 at a record that cannot be read: an export without it would look whole."""
    for page in _pages(chain):
        for one in page.unreadable:
            fail(f"{chain}: record {one.seq} {one.problem}: `snapkeep audit verify` names all that is wrong")
        yield from page.records


def _as_json(verdict: handler.Verdict) -> dict[str, object]:
    return {
        "tenant": verdict.tenant,
        "records": verdict.records,
        "intact": verdict.intact,
        "head": {"seq": verdict.head.seq, "hash": verdict.head.hash},
        "findings": [{"seq": finding.seq, "problem": finding.problem} for finding in verdict.findings],
    }

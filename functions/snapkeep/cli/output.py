"""What the command line prints: tables for people, JSON for scripts, failures in one line on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal, NoReturn

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

WIDTH_WITHOUT_TERMINAL: Final = 160

STYLES: Final = {
    "protected": "green",
    "verified": "green",
    "intact": "green",
    "at_risk": "yellow",
    "creating": "cyan",
    "requested": "cyan",
    "breached": "bold red",
    "failed": "red",
    "missed": "red",
    "silent": "bold red",
    "client_managed": "dim",
}


class Output:
    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        width = None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL
        self.console = Console(width=width, highlight=False, soft_wrap=False)

    def json(self, value: Any) -> None:
        encoded = msgspec.json.encode(value, order="sorted")
        click.echo(msgspec.json.format(encoded, indent=2).decode())

    def line(self, text: str) -> None:
        click.echo(text)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = ()) -> None:
        """Print a table; the words of STYLES are coloured where a terminal shows colours.

        The first column names the row and is never broken, so that it can be copied.
        """
        table = Table(box=None, pad_edge=False, header_style="bold")
        for number, column in enumerate(columns):
            justify: Literal["right", "left"] = "right" if column in right else "left"
            table.add_column(column, justify=justify, overflow="fold", no_wrap=number == 0)
        for row in rows:
            table.add_row(*(_cell(value) for value in row))
        self.console.print(table)


def fail(message: str) -> NoReturn:
    """End with status 1 and one line that says what, where and what to do."""
    click.echo(f"snapkeep: {message}", err=True)
    sys.exit(1)


def _cell(value: object) -> str:
    text = escape(str(value))
    style = STYLES.get(str(value))
    return f"[{style}]{text}[/]" if style else text

"""What the command line prints: tables for people, JSON for scripts, failures in one line on standard error."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, NoReturn

import click
import msgspec
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table

WIDTH_WITHOUT_TERMINAL: Final = 160
NO_TERMINAL: Final = (0, 0)
"""Columns and lines of what has none."""

TEXT_WIDTH_MIN: Final = 20
"""What a column of text is folded to at the narrowest before others are left out."""

GAP: Final = 2
"""Between two columns, as rich sets them."""

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
    "offboarded": "dim",
    "expiring": "yellow",
    "deleted": "dim",
    "approved": "cyan",
    "running": "cyan",
    "completed": "green",
    "cancelled": "yellow",
    "done": "green",
    "passed": "green",
    "pending": "dim",
    "skipped": "dim",
    "ok": "green",
    "finding": "bold red",
    "cannot be told": "yellow",
    "not here": "dim",
}


class Output:
    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        width = shutil.get_terminal_size(NO_TERMINAL).columns  # COLUMNS, else the terminal's
        # A file or a program takes any width, unless COLUMNS says one: every column is there.
        self.bounded = width > 0
        self.console = Console(width=width or WIDTH_WITHOUT_TERMINAL, highlight=False, soft_wrap=False)

    def json(self, value: Any) -> None:
        encoded = msgspec.json.encode(value, order="sorted")
        click.echo(msgspec.json.format(encoded, indent=2).decode())

    def line(self, text: str) -> None:
        click.echo(text)

    def table(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[object]],
        *,
        right: Sequence[str] = (),
        text: Sequence[str] = (),
        spare: Sequence[str] = (),
    ) -> None:
        """Print a table; the words of STYLES are coloured where a terminal shows colours.

        What stands in a cell is kept in one line, so that it can be read and copied, but for the columns `text`, which
        may be folded. Where the width is bounded and too small, columns of `spare` are left out, the first of them
        first, and a last line names them. What is too wide even so goes on in the terminal's next line: nothing is cut.
        """
        cells = [[str(value) for value in row] for row in rows]
        widths = {c: max([len(c), *(cell_len(row[n]) for row in cells)]) for n, c in enumerate(columns)}
        for column in text:
            widths[column] = min(widths[column], TEXT_WIDTH_MIN)
        left_out: list[str] = []
        for column in spare:
            if not self.bounded or _wide(widths) <= self.console.width:
                break
            left_out.append(column)
            del widths[column]
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            justify: Literal["right", "left"] = "right" if column in right else "left"
            if column in widths:
                table.add_column(column, justify=justify, overflow="fold", no_wrap=column not in text)
        for row in cells:
            table.add_row(*(_cell(value) for c, value in zip(columns, row, strict=True) if c in widths))
        shown = self.console.width
        self.console.width = max(shown, _wide(widths))
        self.console.print(table)
        self.console.width = shown
        if left_out:
            self.line(f"(left out for want of width: {', '.join(left_out)}; a wider terminal or --json shows them)")


def fail(message: str) -> NoReturn:
    """End with status 1 and one line that says what, where and what to do."""
    click.echo(f"snapkeep: {message}", err=True)
    sys.exit(1)


def _wide(widths: Mapping[str, int]) -> int:
    return sum(widths.values()) + GAP * (len(widths) - 1)


def _cell(value: str) -> str:
    text = escape(value)
    style = STYLES.get(value)
    return f"[{style}]{text}[/]" if style else text

"""Tables and trees on a terminal or in a file: every amount, id and name whole, whatever the width."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from otel_cost.cli.text import plain, plain_lines

UNBOUNDED = 1_000_000
"""Columns of what is no terminal: a file and a pipe take lines of any length."""
GAP = "  "
MIN_FOLDED = 16
"""Columns that a text which may be folded keeps at least."""
MAX_INDENT = 10
"""Levels that lines of a tree are indented by at most: a trace may be deeper than any terminal is wide."""


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        is_number: It stands right, and is never folded.
        is_whole: It is never folded, as an id or a time.
    """

    heading: str
    is_number: bool = False
    is_whole: bool = False


Cell = str | Text


class PlainConsole(Console):
    """A console that takes text as it is: no markup, no emoji codes, no line cut, nothing to obey."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print text, tables and styled text; strings keep their lines and tabs alone."""
        shown = (plain_lines(each) if isinstance(each, str) else each for each in objects)
        super().print(*shown, **options)


def console(*, stderr: bool = False) -> Console:
    """Return the console of a command: as wide as the terminal, unbounded where there is none."""
    width = None if (sys.stderr if stderr else sys.stdout).isatty() else UNBOUNDED
    return PlainConsole(
        stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True, width=width
    )


def print_table(out: Console, columns: Sequence[Column], rows: Iterable[Sequence[Cell]]) -> None:
    """Print rows below each other; where a terminal is too narrow for that, each as a paragraph."""
    cells = [[_text(cell) for cell in row] for row in rows]
    widths = _widths(columns, cells, out.width)
    if widths is None:
        for row in cells:
            _print_record(out, columns, row)
        return
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=any(c.heading for c in columns))
    for column, width in zip(columns, widths, strict=True):
        table.add_column(
            column.heading, justify="right" if column.is_number else "left", width=width, overflow="fold"
        )
    for row in cells:
        table.add_row(*row)
    out.print(table)


def _text(cell: Cell) -> Text:
    return cell if isinstance(cell, Text) else Text(plain(cell))


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[Text]], limit: int) -> list[int] | None:
    """Return the width of each column, texts folded as far as they must be; None when it does not suffice."""
    longest = [max((row[at].cell_len for row in rows), default=0) for at in range(len(columns))]
    words = [max(map(len, column.heading.split()), default=0) for column in columns]
    widths = [max(length, len(column.heading)) for length, column in zip(longest, columns, strict=True)]
    least = [
        max(word, length if column.is_number or column.is_whole else min(length, MIN_FOLDED))
        for word, length, column in zip(words, longest, columns, strict=True)
    ]
    excess = sum(widths) + len(GAP) * (len(columns) - 1) - limit
    while excess > 0:
        room, at = max((width - low, at) for at, (width, low) in enumerate(zip(widths, least, strict=True)))
        if room <= 0:
            return None
        second = sorted(width - low for width, low in zip(widths, least, strict=True))[-2:][0]
        taken = min(excess, max(1, room - second))
        widths[at] -= taken
        excess -= taken
    return widths


def _print_record(out: Console, columns: Sequence[Column], row: Sequence[Text]) -> None:
    parts = (
        Text.assemble((column.heading, "bold"), " " if column.heading else "", cell)
        for column, cell in zip(columns, row, strict=True)
        if cell
    )
    for number, line in enumerate(flow(parts, out.width - len(GAP))):
        out.print(Text(GAP if number else "") + line)


def flow(parts: Iterable[Text], width: int) -> Iterator[Text]:
    """Yield lines of parts that stay whole; only one that is longer than a line is folded, at its spaces."""
    line = Text()
    for gap, piece in _pieces(parts, width):
        if line and line.cell_len + len(gap) + piece.cell_len > width:
            yield line
            line = Text()
        line = line + gap + piece if line else piece
    yield line


def _pieces(parts: Iterable[Text], width: int) -> Iterator[tuple[str, Text]]:
    for part in parts:
        words = [part] if part.cell_len <= width else part.split(" ")
        for number, word in enumerate(words):
            yield " " if number else GAP, word


def print_tree(out: Console, lines: Iterable[tuple[int, bool, Sequence[Text]]]) -> None:
    """Print a tree, its lines in order.

    Args:
        lines: Of each its depth, whether it is the last one below its parent, and its parts.
    """
    is_unicode = out.encoding.lower().startswith("utf")
    fork, corner, bar = ("├── ", "└── ", "│   ") if is_unicode else ("+-- ", "`-- ", "|   ")
    bars: list[str] = []
    for depth, is_last, parts in lines:
        del bars[max(depth - 1, 0) :]
        above = "".join(bars[-MAX_INDENT:])
        begins = above + (corner if is_last else fork) if depth else ""
        goes_on = above + ("    " if is_last else bar) if depth else ""
        for number, line in enumerate(flow(parts, out.width - len(begins))):
            out.print(Text(goes_on + GAP if number else begins) + line)
        if depth:
            bars.append("    " if is_last else bar)

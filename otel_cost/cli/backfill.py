"""`otel-cost backfill`: charge spans that were there before the views were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console

from otel_cost.cli.options import DsnOption
from otel_cost.cli.progress import show_counted
from otel_cost.cli.reports import err, open_changeable, out
from otel_cost.store import backfill
from otel_cost.store.backfill import Day, Report
from otel_cost.store.period import parse_since

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.command("backfill")
def read_spans(
    since: Annotated[str, typer.Option(help="From which day on: 24h, 7d, 2026-01-31 or all.")] = "all",
    again: Annotated[
        bool, typer.Option("--again", help="Read those that were read, too, as after a kill.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what there is to read, and read nothing.")
    ] = False,
    store: DsnOption = None,
) -> None:
    """Charge the spans in otel_traces that no view has read: those that came before migrate did.

    A span that was read counts once, however often it is read.
    """
    begins = parse_since(since)
    with open_changeable(store) as opened:
        if dry_run:
            days = backfill.days_to_read(opened, begins, again=again)
        else:
            with _progress(err) as report:
                days = backfill.backfill(opened, begins, report, again=again)
    for day in days:
        out.print(f"{day.day}: {day.unread:,} of {day.spans:,} spans had not been read")
    if not days:
        out.print("every span was read")
    elif dry_run:
        out.print("nothing was changed; without --dry-run they are read")


@contextmanager
def _progress(console: Console) -> Iterator[Report]:
    """Yield what is told after each part: a bar on a terminal, a line for each day elsewhere."""
    told: set[Day] = set()
    with show_counted(console, "reading") as show:

        def report(day: Day, done: int, total: int) -> None:
            show(f"reading {day.day}", done, total)
            if not console.is_terminal and day not in told:
                told.add(day)
                console.print(f"reading {day.day}, part {done:,} of {total:,}")

        yield report

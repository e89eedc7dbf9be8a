"""How far a long command is: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from otel_cost.cli.text import plain

if TYPE_CHECKING:
    from otel_cost.server.importer import Summary
    from otel_cost.server.records import Source

    Report = Callable[[Source, Summary], None]


@contextmanager
def show_counted(console: Console, begins: str) -> Iterator[Callable[[str, int, int], None]]:
    """Yield what a terminal is told of a task: at what it is, how much is done, and of how much.

    Args:
        begins: What is shown until then.
    """
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(begins, total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total)


@contextmanager
def show_progress(sources: Sequence[Source], console: Console, *, quiet: bool) -> Iterator[Report]:
    """Yield what an importer calls after each batch.

    Args:
        quiet: Show nothing unless somebody watches a terminal.
    """
    if not console.is_terminal:
        yield _plain(console, quiet)
        return
    rate = TextColumn("{task.fields[spans]:,} spans, {task.fields[speed]:,.0f}/s")
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        rate,
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        total = sum(source.size for source in sources) or None
        task = bar.add_task("importing", total=total, spans=0, speed=0.0)

        def report(source: Source, summary: Summary) -> None:
            elapsed = bar.tasks[task].elapsed or 1e-9
            done = sum(each.position for each in sources)
            bar.update(task, completed=done, spans=summary.spans, speed=summary.spans / elapsed)

        yield report


def _plain(console: Console, quiet: bool) -> Report:
    seen: set[int] = set()

    def report(source: Source, summary: Summary) -> None:
        if not quiet and id(source) not in seen:
            seen.add(id(source))
            console.print(plain(f"importing {source.name}"))

    return report

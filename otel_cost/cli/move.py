"""`otel-cost move`: a whole store, to a server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console

from otel_cost.cli.console import console
from otel_cost.cli.progress import show_counted
from otel_cost.cli.setup import bring_up_to_date
from otel_cost.errors import ConfigError
from otel_cost.store import open_store
from otel_cost.store.dsn import Server, parse_dsn
from otel_cost.store.move import Partition, Report
from otel_cost.store.move import move as move_store

app = typer.Typer(no_args_is_help=True, add_completion=False)
out = console()
err = console(stderr=True)


@app.command()
def move(
    source: Annotated[
        str, typer.Option("--from", help="The store as it is: chdb:///path or clickhouse://...")
    ],
    target: Annotated[str, typer.Option("--to", help="An empty database of a server: clickhouse://...")],
) -> None:
    """Copy a whole store to a server, compare both, and leave the old one as it is.

    Nothing may write to either meanwhile. A move that was stopped goes on where it was.
    """
    if not isinstance(parse_dsn(target), Server):
        raise ConfigError(
            f"--to {target} is no server; write clickhouse://user:password@host:8123/database, and copy an "
            "embedded store with its directory, while nothing has it open"
        )
    with open_store(source, create=False) as old, open_store(target) as new:
        old.migrate()
        bring_up_to_date(new)
        with _progress(err) as report:
            found = move_store(old, new, report)
    for table in found:
        told = f"{table.rows:,} rows in {table.partitions:,} partitions, checksum {table.checksum:016x}"
        out.print(f"{table.table}: {told}")
    out.print("Both stores hold the same; point OTEL_COST_STORE and the senders to the new one.")


@contextmanager
def _progress(terminal: Console) -> Iterator[Report]:
    """Yield what is told after each partition: a bar on a terminal, a line each elsewhere."""
    with show_counted(terminal, "moving") as show:

        def report(part: Partition, done: int, total: int) -> None:
            name = f"{part.table} {part.partition_id}"
            show(name, done, total)
            if not terminal.is_terminal:
                terminal.print(f"{name}: {done:,} of {total:,} rows")

        yield report

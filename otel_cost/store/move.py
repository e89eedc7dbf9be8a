"""Copy a whole store to a server, partition by partition, and prove that it arrived."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from otel_cost.errors import ConfigError, StoreError
from otel_cost.store import migrations, reprice, rollups
from otel_cost.store.cluster import shown_table
from otel_cost.store.dsn import Server
from otel_cost.store.files import named_sql, statements
from otel_cost.store.topology import local_database

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

    from otel_cost.store.client import Store

MOVED = (
    "otel_traces_trace_id_ts",
    "trace_links",
    "decisions",
    "repricings",
    "repricing_runs",
    "charges",
    "otel_traces",
)
"""Tables whose rows are copied. All others are written from elsewhere, or made from these."""
TOTALS = (
    "spend_hours",
    "spend_days",
    "user_spend_days",
    "tool_spend_days",
    "execution_days",
    "baselines",
)
"""Made from charges, so that only those of days whose charges were dropped are copied, and last."""
ROLLED = ("trace_links", "charges")
"""Whose partitions tell which totals are to be made anew: by how much was put in, not by what is there."""
NOTHING = (0, 0)
"""The fingerprint of a partition without rows, or of none."""
STAGED = "move_"
"""Begins the name of the table that a partition is copied to before it takes its place."""


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition of a table, and how many rows it keeps."""

    table: str
    partition_id: str
    rows: int


@dataclass(frozen=True, slots=True)
class Moved:
    """What was found of a table in both stores, when it had been copied."""

    table: str
    partitions: int
    rows: int
    checksum: int


Report = Callable[[Partition, int, int], None]
"""Told after each partition: which, rows done, rows in all."""


def move(source: Store, target: Store, report: Report) -> list[Moved]:
    """Copy every span, charge, decision and repricing of a store to an empty one, whose tables exist.

    The source is only read. A partition is copied to a table beside the target's, compared with the source,
    and takes its place in one step, so that views see none of it and a killed move loses and repeats nothing.
    One that the source has written to since it was copied is taken out before, with the totals made of it.
    Totals of days whose charges were dropped are added to those that the target makes itself. The next run
    of the same move goes on where it was. In the end all of both is compared once more.

    Returns:
        One entry per table: the rows and the checksum of both.

    Raises:
        ConfigError: The target is no server, or holds what did not come from this source; or a repricing of
            the source has stopped half-way.
        StoreError: Somebody wrote to one of the stores meanwhile, or one refused.
    """
    _begin(source, target)
    parts = [part for table in (*MOVED, *TOTALS) for part in _partitions(source, table)]
    total, done = sum(part.rows for part in parts), 0
    for part in parts:
        fingerprint, found = _fingerprint(source, part), _fingerprint(target, part)
        if found != fingerprint:
            if part.table in TOTALS:
                _add(source, target, part)
            else:
                if found != NOTHING and part.table in ROLLED:
                    _take_out(target, part)
                _copy(source, target, part, fingerprint)
        done += part.rows
        report(part, done, total)
    moved = _compared(source, target)
    with target.nodes("move") as nodes:
        nodes[0].command(_sql("note_dropped_days"))
    for table in MOVED:
        _on_nodes(target, f"DROP TABLE {STAGED}{table}")
    return moved


def _compared(source: Store, target: Store) -> list[Moved]:
    """Return what both stores hold; raises `StoreError` where they differ."""
    found = []
    for table in (*MOVED, *TOTALS):
        old, new = (
            {part.partition_id: part for part in _partitions(store, table)} for store in (source, target)
        )
        there = {name: _fingerprint(source, part) for name, part in old.items()}
        here = {name: _fingerprint(target, part) for name, part in new.items()}
        if differing := sorted(name for name in {*there, *here} if there.get(name) != here.get(name)):
            raise StoreError(
                f"{table} of the two stores differs in partition {differing[0]}: "
                "somebody wrote to one of them; stop that and run the same move again"
            )
        rows, checksum = (sum(numbers) for numbers in zip(*there.values(), strict=True)) if there else (0, 0)
        found.append(Moved(table, len(there), rows, checksum % 2**64))
    return found


def _begin(source: Store, target: Store) -> None:
    """Make the tables that partitions are copied to, or find those of an earlier run of this move."""
    if not isinstance(target.place, Server) or target.is_served:
        raise ConfigError(f"{target.place} is no ClickHouse server; move to clickhouse://host:8123/database")
    if source.is_served:
        raise ConfigError("the store is served by otel-cost up; stop it with otel-cost down and move it then")
    if half := [run.run_id for run in reprice.runs(source) if run.state in reprice.HALF_WRITTEN]:
        raise ConfigError(
            f"repricing {half[0]} stopped while it was writing; finish it in the old store with "
            f"otel-cost reprice --resume {half[0]}, or bring the old amounts back with --undo {half[0]}, "
            "and run the same move again"
        )
    came_from = f"otel-cost move from {source.query('store_identity').rows[0][0]}"
    begun = _comments(target)
    if begun and set(begun.values()) != {came_from}:
        raise ConfigError(
            f"{target.place!r} holds a part of another store, which was being moved there; "
            "go on with that move, or give this one a database of its own"
        )
    if not begun and (full := [table for table in MOVED if _partitions(target, table)]):
        raise ConfigError(
            f"{target.place!r} is not empty ({', '.join(full)}); move to a database nothing was written to"
        )
    _on_nodes(target, *_staged_tables(came_from))
    _show_staged(target)


def _comments(target: Store) -> dict[str, str]:
    """Return whose partitions were being copied, by the tables they were copied to."""
    asked = (
        "SELECT name, comment FROM system.tables"
        " WHERE database = currentDatabase() AND startsWith(name, {staged:String}) AND comment != ''"
    )
    found: dict[str, str] = {}
    with target.nodes("move") as clients:
        for client in clients:
            for name, comment in client.query(asked, parameters={"staged": STAGED}).result_rows:
                found[str(name)] = str(comment)
    return found


def _staged_tables(came_from: str) -> Iterator[str]:
    """Yield the migrations of the moved tables, for tables of other names, and what marks whose they are."""
    named = re.compile(rf"^(CREATE TABLE IF NOT EXISTS|ALTER TABLE) ({'|'.join(MOVED)})\b")
    for statement in migrations.tables():
        if named.match(statement):
            yield named.sub(rf"\1 {STAGED}\2", statement)
    for table in MOVED:
        yield f"ALTER TABLE {STAGED}{table} MODIFY COMMENT '{came_from}'"


def _show_staged(target: Store) -> None:
    """Show the tables that partitions are copied to on all shards of a cluster as one."""
    if not target.topology.cluster or not isinstance(target.place, Server):
        return
    local = local_database(target.place.database)
    with target.connection("move") as client:
        for statement in _staged_tables(""):
            if made := shown_table(statement, local, target.topology.cluster):
                client.command(made)


def _take_out(target: Store, part: Partition) -> None:
    """Drop a partition that is to be copied anew, and have the totals made anew that were made of it."""
    _on_nodes(target, f"ALTER TABLE {part.table} DROP PARTITION ID '{part.partition_id}'")
    with target.nodes("move") as nodes:
        for node in nodes:
            rollups.forget_all(node)


def _copy(source: Store, target: Store, part: Partition, fingerprint: tuple[int, int]) -> None:
    """Copy one partition, compare it, and put it in its place."""
    staged = Partition(f"{STAGED}{part.table}", part.partition_id, 0)
    _on_nodes(target, f"ALTER TABLE {staged.table} DROP PARTITION ID '{part.partition_id}'")
    with target.connection("move") as new:
        _stream(source, "read_partition", _named(part), new, staged.table)
    arrived = _fingerprint(target, staged)
    if arrived != fingerprint:
        raise StoreError(
            f"{fingerprint[0]:,} rows of partition {part.partition_id} of {part.table} were sent and "
            f"{arrived[0]:,} arrived, or others; stop what writes to the store and run the same move again"
        )
    with target.nodes("move") as nodes:
        for node in nodes:
            _put_in_place(node, part.table, staged)


def _put_in_place(node: Client, table: str, staged: Partition) -> None:
    """Replace a partition by what arrived on a node: one of several shards may have got nothing of it."""
    place = f"PARTITION ID '{staged.partition_id}'"
    if node.query(_HAS_PARTS, parameters=_named(staged)).result_rows:
        node.command(f"ALTER TABLE {table} REPLACE {place} FROM {staged.table}")
    else:
        node.command(f"ALTER TABLE {table} DROP {place}")
    node.command(f"ALTER TABLE {staged.table} DROP {place}")


_HAS_PARTS = """
SELECT 1 FROM system.parts
WHERE active AND database = currentDatabase()
    AND table = {table:String} AND partition_id = {partition_id:String}
LIMIT 1
"""


def _add(source: Store, target: Store, part: Partition) -> None:
    """Add the totals of days without charges to those that are made there, where again is as good as once.

    On a cluster they go to the first node: nobody makes them anew, so it does not matter which has them, but
    another one would count them twice.
    """
    with target.nodes("move") as nodes:
        _stream(source, "read_partition_of_totals", _named(part), nodes[0], part.table)


def _stream(source: Store, name: str, params: dict[str, Any], new: Client, table: str) -> None:
    with source.connection("move") as old:
        stream = old.raw_stream(_sql(name), parameters=params, fmt="Native")
        new.raw_insert(table, insert_block=_chunks(stream), fmt="Native")


def _chunks(stream: Any) -> Generator[bytes, None, None]:
    """Yield what a stream gives, a mebibyte at a time."""
    while chunk := stream.read(1 << 20):
        yield chunk


def _partitions(store: Store, table: str) -> list[Partition]:
    """Return the partitions of a table, of totals those with days that have no charges."""
    rows = _ask(store, "partitions", {"table": table})
    return [Partition(table, str(partition_id), int(count)) for partition_id, count in rows]


def _fingerprint(store: Store, part: Partition) -> tuple[int, int]:
    """Return the rows of a partition and their checksum, of totals those of days that have no charges."""
    ((rows, checksum),) = _ask(store, "fingerprint", _named(part))
    return int(rows), int(checksum)


def _ask(store: Store, name: str, params: dict[str, Any]) -> list[Any]:
    """Return the rows of a query about a table, or of the one about totals that answers the same."""
    of_totals = "_of_totals" if params["table"] in TOTALS else ""
    with store.connection("move") as client:
        return list(client.query(_sql(f"{name}{of_totals}"), parameters=params).result_rows)


def _named(part: Partition) -> dict[str, Any]:
    return {"table": part.table, "partition_id": part.partition_id}


def _sql(name: str) -> str:
    (statement,) = statements(named_sql("move", name))
    return statement


def _on_nodes(store: Store, *made: str) -> None:
    """Run statements where a store's tables are."""
    with store.nodes("move") as clients:
        for statement in made:
            for client in clients:
                client.command(statement)

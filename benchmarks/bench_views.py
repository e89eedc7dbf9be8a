"""What the warehouse's views add to an insert of spans, side by side in one run. Reports, never gates.

    python benchmarks/bench_views.py [--rounds 5] [--sizes 4096,20000,65536]

Spans go into `otel_traces` as the Collector's exporter makes it (with its view of when a trace began), into
the same table with all views of ours, and through both views and accounting pass. CPU seconds of the whole
engine are compared, medians of interleaved rounds, merges stopped: read the ratios.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import statistics
import tempfile
import time
from datetime import date
from pathlib import Path

from warehouse.load import BLOCK, command, load, read, sql

from otel_cost.store import SPAN_COLUMNS, Packed, Store, open_store
from otel_cost.store.client import WRITE

RESULTS = Path(__file__).parent / "results" / "views.md"
TABLES = ("otel_traces", "otel_traces_trace_id_ts", "charges", "trace_links", "decisions")
VIEWS = ("mark_spans", "link_spans", "read_decisions")
"""Views of `otel_traces` that are ours; those of `marked_spans` and `readings` follow from the first."""
PATHS = ALONE, VIEWED, ACCOUNTED = "alone", "with all views", "with all views and the accounting pass"
MODEL_CALLS = "SpanName LIKE 'chat %'"
Blocks = dict[tuple[str, int], Packed]
Found = dict[tuple[str, int, str], list[float]]


def prepare(directory: Path, sizes: list[int]) -> tuple[Store, Blocks]:
    """Return an empty store, and packed spans of each mix and size."""
    store = open_store(f"chdb://{directory}")
    load(store, 3 * max(sizes), last_day=date(2026, 6, 3), days=1, raw_days=1)
    blocks = {("agents", size): packed(store, size) for size in sizes}
    blocks |= {("model calls", size): packed(store, size, MODEL_CALLS) for size in sizes}
    empty(store)
    command(store, sql("insert_web"), BLOCK, seed=1, spans=max(sizes))
    blocks |= {("web service", size): packed(store, size) for size in sizes}
    empty(store)
    command(store, "SYSTEM STOP MERGES")
    return store, blocks


def packed(store: Store, size: int, which: str = "true") -> Packed:
    """Return some spans of the store, in order of time, as a receiver would hand them on."""
    columns = ", ".join(f"`{name}`" for name in SPAN_COLUMNS)
    some = f"FROM otel_traces WHERE {which} ORDER BY Timestamp LIMIT {size}"
    block = store.sql(
        f"SELECT {columns} {some} SETTINGS max_block_size = {size}", fmt="Native", readonly=False
    )
    found = Packed(block, [row[0] for row in read(store, f"SELECT TraceId {some}")])
    assert len(found) == size, f"asked for {size} spans where {which}, found {len(found)}"
    return found


def empty(store: Store) -> None:
    """Forget every span."""
    for table in TABLES:
        command(store, f"TRUNCATE TABLE {table}")


def seconds(store: Store, batch: Packed, path: str) -> float:
    """Return the CPU seconds of the engine for one insert."""
    if path == ALONE:
        for view in VIEWS:
            command(store, f"DETACH TABLE {view}")
    gc.collect()
    began = time.process_time()
    insert(store, batch, is_accounted=path == ACCOUNTED)
    elapsed = time.process_time() - began
    if path == ALONE:
        for view in VIEWS:
            command(store, f"ATTACH TABLE {view}")
    empty(store)
    return elapsed


def insert(store: Store, batch: Packed, *, is_accounted: bool) -> None:
    """Insert as the store does, with its settings."""
    if is_accounted:
        store.insert_packed([batch])
        return
    with store.connection("insert_spans") as client:
        client.raw_insert(
            "otel_traces",
            column_names=list(SPAN_COLUMNS),
            insert_block=batch.block,
            settings=WRITE,
            fmt="Native",
        )


def measure(store: Store, blocks: Blocks, rounds: int) -> Found:
    """Return the seconds of every insert, by mix, size and path. The first round warms up and is left out."""
    found: Found = {}
    for number in range(rounds + 1):
        for (mix, size), batch in blocks.items():
            for path in PATHS:
                taken = seconds(store, batch, path)
                if number:
                    found.setdefault((mix, size, path), []).append(taken)
    return found


def report(found: Found, blocks: Blocks, rounds: int) -> str:
    """Return the table in Markdown."""
    lines = [
        "# What the views cost on insert",
        "",
        f"Medians of {rounds} interleaved rounds, CPU time of the engine, merges stopped; "
        f"{os.cpu_count()} cores, Python {platform.python_version()}, load {os.getloadavg()[1]:.1f}. "
        "Agents: generated spans of model calls, tool calls, agents and requests; model calls: those alone; "
        "web service: ordinary spans of requests and queries. Bytes are those of a span in ClickHouse's "
        "Native format.",
        "",
        "| spans | an insert | bytes | alone, spans/s | all views | of alone | and accounting | of alone |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for (mix, size), batch in blocks.items():
        alone, viewed, accounted = (statistics.median(found[mix, size, path]) for path in PATHS)
        lines.append(
            f"| {mix} | {size:,} | {len(batch.block) / size:,.0f} | {size / alone:,.0f} "
            f"| {size / viewed:,.0f} | {viewed / alone:.2f}x "
            f"| {size / accounted:,.0f} | {accounted / alone:.2f}x |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", default="4096,20000,65536")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        store, blocks = prepare(Path(directory), [int(size) for size in options.sizes.split(",")])
        with store:
            found = measure(store, blocks, options.rounds)
    table = report(found, blocks, options.rounds)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(table, encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()

"""Charge spans that are in the store and that no view has read.

They came before the views did, as in a database that a Collector has filled for months, or while a view was
missing. Each view reads on insert only, so its query is run here over what it has not seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from otel_cost.errors import StoreError
from otel_cost.store.client import WRITE
from otel_cost.store.files import named_sql, statements, view_over

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

    from otel_cost.store.client import Store

VIEWS = ("otel_traces_trace_id_ts_mv", "read_decisions", "mark_spans", "link_spans")
"""Those that read `otel_traces`. The last two write down what was read, so they come last."""
SPANS_PER_PART = 50_000
"""Spans read by one statement of each view: some hundred megabytes."""


@dataclass(frozen=True, slots=True)
class Day:
    """A UTC day with spans to read.

    Attributes:
        spans: How many it has.
        unread: How many of them no view has read.
    """

    day: date
    spans: int
    unread: int

    @property
    def parts(self) -> int:
        """In how many parts it is read."""
        return -(-self.spans // SPANS_PER_PART)


Report = Callable[[Day, int, int], None]
"""Told after each part: of which day, parts done, parts in all."""


def days_to_read(store: Store, since: datetime, *, again: bool = False) -> list[Day]:
    """Return the days from the one of `since` on that have spans to read, the earliest first.

    Args:
        again: Days of which every span was read, too.
    """
    unread = {row["utc_day"]: row for row in store.query("reconcile_spans", since=since).dicts()}
    if not again:
        return [Day(day, row["received"], row["missing"]) for day, row in unread.items()]
    with store.connection("backfill") as client:
        found = client.query(_sql("days"), parameters={"since": since}).result_rows
    return [Day(day, spans, unread[day]["missing"] if day in unread else 0) for day, spans in found]


def backfill(store: Store, since: datetime, report: Report, *, again: bool = False) -> list[Day]:
    """Read the spans of these days that no view has read, and decide what counts. Twice is as good as once.

    Args:
        again: Read those that were read, too, as after a kill within a part: every span then is as if it had
            been delivered once more, which changes nothing that was right.

    Returns:
        What there was to read.

    Raises:
        StoreError: The store refused it, or spans are still not read.
    """
    days = days_to_read(store, since, again=again)
    total, done = sum(day.parts for day in days), 0
    for day in days:
        for part in range(day.parts):
            _read(store, {"day": day.day, "parts": day.parts, "part": part, "again": again})
            done += 1
            report(day, done, total)
    if left := days_to_read(store, since):
        raise StoreError(
            f"{left[0].unread:,} spans of {left[0].day} are still not read; if more came meanwhile, "
            "run otel-cost backfill again"
        )
    return days


def _read(store: Store, params: dict[str, Any]) -> None:
    """Read a part of a day where its spans are, and account for their traces."""
    with store.nodes("backfill", one_per_shard=True) as clients:
        traces = {trace for client in clients for trace in _read_here(client, params)}
    store.account(traces)


def _read_here(client: Client, params: dict[str, Any]) -> list[str]:
    found = client.query(_sql("unread_traces"), parameters=params).result_rows
    for view in VIEWS if found else ():
        target, query = view_over(view, _sql("unread_spans"))
        described = client.query(f"DESCRIBE (\n{query}\n)", parameters=params).result_rows
        columns = ", ".join(str(row[0]) for row in described)
        client.command(f"INSERT INTO {target} ({columns})\n{query}", parameters=params, settings=WRITE)
    return [str(trace) for (trace,) in found]


def _sql(name: str) -> str:
    (statement,) = statements(named_sql("backfill", name))
    return statement

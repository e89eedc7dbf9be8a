"""Spans that no view has read are charged as if they came now, once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from otel_cost.pricing import PriceBook
from otel_cost.server.otlp_json import flatten
from otel_cost.server.spans import Row, to_columns
from otel_cost.store import Store, backfill, open_store
from otel_cost.store.files import sql_files, statements
from otel_cost.store.period import EPOCH
from tests.clickhouse.calls import Call, moment
from tests.clickhouse.conftest import empty, on_every_node, set_refreshing
from tests.clickhouse.test_delivery import said
from tests.conformance import suite


def _rows() -> list[Row]:
    return [row for case in suite.load() for request in case.requests() for row in flatten(request).rows]


def _halves() -> tuple[list[Row], list[Row]]:
    rows = _rows()
    return rows[: len(rows) // 2], rows[len(rows) // 2 :]


@contextmanager
def without_views(store: Store) -> Iterator[None]:
    """Take away what reads spans, as it is before `migrate`."""
    on_every_node(store, *(f"DETACH TABLE {view}" for view in backfill.VIEWS))
    try:
        yield
    finally:
        on_every_node(store, *(f"ATTACH TABLE {view}" for view in backfill.VIEWS))


def _whole(store: Store) -> list[dict[str, Any]]:
    """Return what the store says when everything was read as it came, and empty it."""
    store.insert_spans(to_columns(_rows()))
    whole = said(store)
    empty(store)
    return whole


def _times(store: Store) -> bytes:
    """Return when traces began and ended, which finds their spans."""
    times = (
        "SELECT TraceId, min(Start), max(End) FROM otel_traces_trace_id_ts GROUP BY TraceId ORDER BY TraceId"
    )
    return store.sql(times, fmt="TSV")


def test_spans_without_views_are_read_later(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some came before the views and some after: all charges, links and decisions are there afterwards."""
    monkeypatch.setattr(backfill, "SPANS_PER_PART", 20)
    store.insert_spans(to_columns(_rows()))
    times = _times(store)
    empty(store)
    whole = _whole(store)
    early, late = _halves()
    with without_views(store):
        store.insert_spans(to_columns(early))
    store.insert_spans(to_columns(late))
    found = backfill.days_to_read(store, EPOCH)
    assert sum(day.unread for day in found) == len({(row[1], row[2]) for row in early})
    assert said(store) != whole
    told: list[tuple[int, int]] = []
    assert backfill.backfill(store, EPOCH, lambda day, done, total: told.append((done, total))) == found
    assert [done for done, _ in told] == list(range(1, told[-1][1] + 1))
    assert len(told) > len(found)
    assert said(store) == whole
    assert _times(store) == times
    assert backfill.days_to_read(store, EPOCH) == []


def test_reading_again_changes_nothing(store: Store) -> None:
    """Spans that were read count once, however often they are read."""
    whole = _whole(store)
    store.insert_spans(to_columns(_rows()))
    (*_, last) = backfill.days_to_read(store, EPOCH, again=True)
    assert last.unread == 0
    backfill.backfill(store, EPOCH, lambda *_: None, again=True)
    assert said(store) == whole


def test_only_the_days_asked_for_are_read(store: Store) -> None:
    """`since` is a day: what came before it stays unread."""
    calls = [Call(1, 1, moment("2026-06-01 23:59")), Call(2, 1, moment("2026-06-02 00:00"))]
    with without_views(store):
        store.insert_spans(to_columns(row for call in calls for row in call.rows()))
    first, second = days = backfill.days_to_read(store, EPOCH)
    assert [(str(each.day), each.spans, each.unread) for each in days] == [
        ("2026-06-01", 1, 1),
        ("2026-06-02", 1, 1),
    ]
    assert backfill.backfill(store, moment("2026-06-02 12:00"), lambda *_: None) == [second]
    assert backfill.days_to_read(store, EPOCH) == [first]


def test_a_database_that_a_collector_filled_is_charged(server_dsn: str, book: PriceBook) -> None:
    """`migrate` makes its tables around an `otel_traces` that is there, and its spans are read afterwards."""
    (made,) = statements(sql_files("migrations")[0].read_text())
    with open_store(f"{server_dsn.removesuffix('costs')}filled_before") as store:
        try:
            store.sql(made, fmt="Null", readonly=False)
            with store.connection("insert") as client:
                client.insert("otel_traces", list(to_columns(_rows()).values()), column_oriented=True)
            store.migrate()
            store.push_prices(book)
            set_refreshing(store, "STOP")
            backfill.backfill(store, EPOCH, lambda *_: None)
            found = said(store)
            empty(store)
            assert found == _whole(store)
        finally:
            store.sql("DROP DATABASE filled_before", fmt="Null", readonly=False)

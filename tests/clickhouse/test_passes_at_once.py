"""Accounting passes may run at the same time: none undoes what another knows better."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from otel_cost.pricing import PriceBook
from otel_cost.server.otlp_json import flatten
from otel_cost.server.spans import Row, to_columns
from otel_cost.store import Store, open_store
from tests.clickhouse import spans
from tests.clickhouse.conftest import empty, set_refreshing
from tests.conformance import suite

PASSES_AT_ONCE = 3
BATCHES = 4
LATER = """
INSERT INTO charges
SELECT * REPLACE (
    NOT counted AS counted,
    'said later' AS not_counted_reason,
    toUnixTimestamp64Micro(now64(6) + INTERVAL 1 HOUR) AS version)
FROM charges FINAL
"""
"""What a pass that began an hour later would have written, had it come to other conclusions."""


@pytest.fixture
def server_store(server_dsn: str, book: PriceBook) -> Iterator[Store]:
    """A store on a server: an embedded one runs one statement at a time."""
    with open_store(server_dsn) as store:
        store.migrate()
        store.push_prices(book)
        set_refreshing(store, "STOP")
        empty(store)
        yield store


def _rows() -> list[Row]:
    """Return the spans of the cases in which a later span changes what is known of an earlier one."""
    cases = [case for case in suite.load() if len(case.spans) > 1]
    return [row for case in cases for request in case.requests() for row in flatten(request).rows]


def _said(store: Store) -> dict[tuple[str, str], dict[str, Any]]:
    answer = store.sql("SELECT * EXCEPT (version) FROM charges FINAL", fmt="JSONEachRow")
    rows = [json.loads(line) for line in answer.splitlines()]
    return {(row["trace_id"], row["span_id"]): row for row in rows}


def _account_until(done: threading.Event, dsn: str, trace_ids: list[str]) -> int:
    """Run one pass after the other on a connection of its own; return how many."""
    passes = 0
    with open_store(dsn) as store:
        while not done.is_set():
            store.account(trace_ids)
            passes += 1
    return passes


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_passes_during_inserts_end_in_the_truth(server_store: Store, server_dsn: str, seed: int) -> None:
    """Passes race while spans come in, shuffled and some twice; what they leave is what one pass finds."""
    rows = _rows()
    trace_ids = sorted({str(row[1]) for row in rows})
    server_store.insert_spans(to_columns(rows))
    truth = _said(server_store)
    empty(server_store)
    delivered = rows + rows[::3]
    random.Random(seed).shuffle(delivered)
    done = threading.Event()
    with ThreadPoolExecutor(PASSES_AT_ONCE) as threads:
        racing = [threads.submit(_account_until, done, server_dsn, trace_ids) for _ in range(PASSES_AT_ONCE)]
        try:
            for part in range(BATCHES):
                server_store.insert_spans(to_columns(delivered[part::BATCHES]))
        finally:
            done.set()
        assert sum(thread.result() for thread in racing) > BATCHES
    server_store.account(trace_ids)
    assert _said(server_store) == truth


def test_what_a_later_pass_decided_is_left_alone(store: Store) -> None:
    """A pass that began earlier, and so may know less, neither changes nor repeats a later one's verdict."""
    (case,) = [case for case in suite.load() if case.name == "payer_named_on_the_root"]
    for request in case.requests():
        spans.insert(store, [request])
    assert {row["counted"] for row in spans.charges(store).values()} == {True, False}
    store.sql(LATER, fmt="Null", readonly=False)
    decided = spans.charges(store)
    written = store.sql("SELECT count() FROM charges", fmt="TSV")
    store.account([trace for trace, _ in decided])
    assert spans.charges(store) == decided
    assert store.sql("SELECT count() FROM charges", fmt="TSV") == written

"""A database of an earlier version, upgraded, is what a fresh one is: tables, views, and what they hold."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from otel_cost.pricing import PriceBook
from otel_cost.server.otlp_json import flatten
from otel_cost.server.spans import to_columns
from otel_cost.store import Store, files, open_store, prices, rollups
from otel_cost.store.tables import replace
from tests.clickhouse.calls import Call, moment
from tests.clickhouse.conftest import set_refreshing
from tests.clickhouse.test_collector_feed import insert_like_a_collector
from tests.clickhouse.test_delivery import said
from tests.clickhouse.test_queries import PARAMETERS, QUERIES
from tests.conformance import suite
from tests.waiting import until

Push = Callable[[Store, PriceBook], object]
UPGRADES = Path(__file__).parent / "upgrades"
*EARLIER, LATEST = sorted(path.name for path in UPGRADES.iterdir() if path.is_dir())
VERSIONS = [*(pytest.param(version, marks=pytest.mark.slow) for version in EARLIER), LATEST]
LATER = {"reported_cost_usd", "is_provider_inferred"}
"""Columns of charges that pricing again reads, and that older rows lack: they keep NULL and false."""
TOLD_OTHERWISE = {
    "a_hosts_prices_are_not_its_models_makers",
    "a_provider_bills_nothing",
    "bedrock_counts_input_without_cache_by_every_instrumentation",
    "calls_that_the_provider_refused",
    "claude_code_names_a_context_of_a_million_tokens",
    "frameworks_on_bedrock_count_input_with_cache",
    "inference_in_a_region_and_searches_that_no_usage_tells",
    "langchain_over_bedrock_is_one_call",
    "one_response_in_other_words",
    "response_ids_that_come_again",
    "the_host_that_was_called_bills",
    "thoughts_of_an_interaction_are_beside_its_output",
    "tool_called_again_by_the_same_id",
    "tool_ids_numbered_in_each_conversation",
    "xai_counts_reasoning_beside_output",
    "zero_from_an_unknown_emitter_is_no_bill",
}
"""Cases that an earlier version read or counted otherwise: what was charged then stays as it is."""
NOON = moment("2026-06-01 12:00")
SINCE = datetime(2020, 1, 1, tzinfo=timezone.utc)
SCHEMA = {
    "tables": """
SELECT name, engine, engine_full, partition_key, sorting_key, primary_key, create_table_query
FROM system.tables
WHERE database = currentDatabase() AND name != 'migrations' AND NOT startsWith(name, '.')
ORDER BY name
""",
    "columns": """
SELECT table, name, type, default_kind, default_expression, compression_codec, position
FROM system.columns
WHERE database = currentDatabase() AND table != 'migrations' AND NOT startsWith(table, '.')
ORDER BY table, position
""",
    "indexes": """
SELECT table, name, type_full, expr, granularity
FROM system.data_skipping_indices
WHERE database = currentDatabase()
ORDER BY table, name
""",
}


@pytest.fixture
def databases(server_dsn: str) -> Iterator[list[str]]:
    """Two databases of a server that do not exist yet."""
    names = ["upgraded", "fresh"]
    yield [f"{server_dsn.removesuffix('costs')}{name}" for name in names]
    with open_store(server_dsn) as store:
        for name in names:
            store.sql(f"DROP DATABASE IF EXISTS {name}", fmt="Null", readonly=False)


@contextmanager
def files_of(version: str) -> Iterator[None]:
    """Work with the SQL files of an earlier version."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("otel_cost.store.files.sql_root", lambda: UPGRADES / version)
        if not (UPGRADES / version / "views" / "dropped_days.sql").exists():
            patch.setattr(rollups, "forget", rollups.forget_all)  # as versions without that view did
        files.named_sql.cache_clear()
        yield
    files.named_sql.cache_clear()


def _made(dsn: str, book: PriceBook, *, is_filled: bool, push: Push = Store.push_prices) -> None:
    """Make a database with the files at hand, and deliver the spans that all versions tell alike."""
    with open_store(dsn) as store:
        store.migrate()
        set_refreshing(store, "STOP")
        push(store, book)
        if is_filled:
            store.insert_spans(to_columns(_rows(without=TOLD_OTHERWISE)))


def _push(store: Store, book: PriceBook) -> None:
    """Push a book as an earlier version did; the first ones kept no record of what a push changed."""
    if (files.sql_root() / "queries" / "pushed_rates.sql").exists():
        store.push_prices(book)
        return
    with store.connection("push") as client:
        rows = [prices.pattern_row(row) for row in book.pattern_rows()]
        replace(client, "model_patterns", prices._PATTERNS, rows)
        replace(client, "prices", prices._PRICES, [prices.price_row(row) for row in book.price_rows()])
        prices.reload(client)


def _rows(*, without: Collection[str] = ()) -> list[Any]:
    cases = [case for case in suite.load() if case.name not in without]
    return [row for case in cases for request in case.requests() for row in flatten(request).rows]


def _schema(store: Store) -> dict[str, list[dict[str, Any]]]:
    """Return everything a database is made of, but for its own name."""
    name = str(getattr(store.place, "database", ""))
    told = {}
    for what, query in SCHEMA.items():
        answer = store.sql(query).decode().replace(f"{name}.", "").replace(f"'{name}'", "")
        told[what] = [json.loads(line) for line in answer.splitlines()]
    return told


def _kept(store: Store) -> list[dict[str, Any]]:
    """Return what a store says, but for what an earlier version did not write down."""
    return [{name: value for name, value in row.items() if name not in LATER} for row in said(store)]


def _answers(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows of every named query."""
    answers = {}
    for name in QUERIES:
        text = files.named_sql("queries", name)
        known = {"since": SINCE, "limit": 1_000, **PARAMETERS.get(name, {})}
        used = {key: value for key, value in known.items() if f"{{{key}:" in text}
        answers[name] = store.query(name, **used).rows
    return answers


@pytest.mark.parametrize("is_filled", [False, True], ids=["empty", "filled"])
@pytest.mark.parametrize("version", VERSIONS)
def test_an_upgrade_equals_a_fresh_install(
    databases: list[str], book: PriceBook, version: str, is_filled: bool
) -> None:
    """Tables, columns, keys, codecs, indexes, views, charges and every named query are the same."""
    with files_of(version):
        _made(databases[0], book, is_filled=is_filled, push=_push)
    for dsn in databases:
        _made(dsn, book, is_filled=dsn != databases[0] and is_filled)
    with open_store(databases[0]) as upgraded, open_store(databases[1]) as fresh:
        assert upgraded.pending() == []
        assert _schema(upgraded) == _schema(fresh)
        assert _kept(upgraded) == _kept(fresh)
        assert _answers(upgraded) == _answers(fresh)
        assert bool(said(upgraded)) == is_filled
        upgraded.insert_spans(to_columns(_rows()))
        fresh.insert_spans(to_columns(_rows()))
        assert _kept(upgraded) == _kept(fresh)


class Collector:
    """Inserts batches of one call each until it is told to end, and each again until it is taken."""

    def __init__(self, dsn: str, number: int) -> None:
        self._dsn, self._number, self._ends = dsn, number, threading.Event()
        self.taken: list[Call] = []
        self.refused: list[str] = []

    def run(self) -> None:
        with open_store(self._dsn) as store:
            while not self._ends.is_set():
                call = Call(self._number, len(self.taken), NOON)
                try:
                    insert_like_a_collector(store, [call.request()])
                except Exception as error:
                    self.refused.append(str(error))
                else:
                    self.taken.append(call)

    def end(self) -> None:
        self._ends.set()


@pytest.mark.parametrize("version", VERSIONS)
def test_spans_that_come_during_an_upgrade_are_charged_once(
    databases: list[str], book: PriceBook, version: str
) -> None:
    """Collectors insert while tables and views change: each span that was taken has a charge and a link."""
    with files_of(version):
        _made(databases[0], book, is_filled=False, push=_push)
    collectors = [Collector(databases[0], number) for number in range(3)]
    with ThreadPoolExecutor() as pool:
        running = [pool.submit(each.run) for each in collectors]
        try:
            until(lambda: all(each.taken for each in collectors))
            _made(databases[0], book, is_filled=False)
            before = [len(each.taken) for each in collectors]
            until(lambda: all(len(each.taken) > n for each, n in zip(collectors, before, strict=True)))
        finally:
            for each in collectors:
                each.end()
    for each in running:
        each.result()
    calls = [call for each in collectors for call in each.taken]
    with open_store(databases[0]) as store:
        charged = store.sql("SELECT count(), sum(cost_usd) FROM charges FINAL", fmt="TSV").decode().split()
        assert [Decimal(text) for text in charged] == [len(calls), sum(call.cost_usd for call in calls)]
        assert store.query("reconcile_spans", since=SINCE).rows == []
    assert [error for each in collectors for error in each.refused] == []


def test_the_comparison_can_fail(databases: list[str], book: PriceBook) -> None:
    """A database with another codec, a missing column or another view is not the same."""
    for dsn in databases:
        _made(dsn, book, is_filled=False)
    with open_store(databases[0]) as changed, open_store(databases[1]) as fresh:
        assert _schema(changed) == _schema(fresh)
        for statement in (
            "ALTER TABLE charges MODIFY COLUMN trace_id String CODEC(ZSTD(9))",
            "ALTER TABLE trace_links DROP INDEX idx_inserted_at",
            "CREATE OR REPLACE VIEW unpriced AS SELECT 1 AS calls",
        ):
            before = _schema(changed)
            changed.sql(statement, fmt="Null", readonly=False)
            assert _schema(changed) != before

"""A server fed by a Collector, which only inserts into otel_traces, decides what counts by itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from otel_cost.pricing import PriceBook
from otel_cost.server.otlp_json import flatten
from otel_cost.store import SPAN_COLUMNS, Store, open_store
from tests.clickhouse import spans
from tests.clickhouse.conftest import empty, set_refreshing
from tests.conformance import suite
from tests.data import ROOT

COLUMNS = {"reason": "not_counted_reason", "status": "price_status"}
"""Columns of charges for what the suite calls otherwise."""


@pytest.fixture
def fed_store(server_dsn: str, book: PriceBook) -> Iterator[Store]:
    """A store on a server."""
    with open_store(server_dsn) as store:
        store.migrate()
        store.push_prices(book)
        set_refreshing(store, "START")
        empty(store)
        yield store


def insert_like_a_collector(
    store: Store, requests: Iterable[spans.Request], settings: dict[str, Any] | None = None
) -> None:
    """Put spans into the table and nothing more: no accounting pass, none of our settings."""
    rows = [row for request in requests for row in flatten(request).rows]
    columns: list[Any] = [list(column) for column in zip(*rows, strict=True)]
    with store.connection("insert") as client:
        names, types = list(SPAN_COLUMNS), list(SPAN_COLUMNS.values())
        client.insert(
            "otel_traces",
            columns,
            column_names=names,
            column_type_names=types,
            column_oriented=True,
            settings=settings,
        )


def test_a_refreshed_view_accounts_for_a_collector(fed_store: Store) -> None:
    """After a refresh each span counts as it should, for whom it should, although nobody called the pass."""
    cases = [
        case for case in suite.load() if "covered" in str(case.expected) or "duplicate" in str(case.expected)
    ]
    assert len(cases) > 5
    for case in cases:
        insert_like_a_collector(fed_store, case.requests())
    for statement in ("SYSTEM REFRESH VIEW refresh_accounts", "SYSTEM WAIT VIEW refresh_accounts"):
        with fed_store.connection("refresh") as client:
            client.command(statement)
    found = {key[1]: row for key, row in spans.charges(fed_store).items()}
    for case in cases:
        for name, wanted in case.expected["spans"].items():
            row = found[suite.span_id(case.name, name)]
            told = {key: value for key, value in wanted.items() if key != "cost_usd"}
            assert {key: row[COLUMNS.get(key, key)] for key in told} == told, (case.name, name)


AN_HOUR_AGO = """
ALTER TABLE trace_links UPDATE inserted_at = inserted_at - INTERVAL 1 HOUR WHERE true
SETTINGS mutations_sync = 2
"""


def _commands(store: Store, *statements: str) -> None:
    with store.connection("test") as client:
        for statement in statements:
            client.command(statement)


def test_a_span_of_1970_hides_no_second_record(fed_store: Store) -> None:
    """A clock that was never set moves no bound: records of one response in two traces are one call."""
    call = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.response.id": "resp-1970",
        "gen_ai.usage.input_tokens": "1000",
    }
    set_refreshing(fed_store, "STOP")
    insert_like_a_collector(fed_store, [spans.of_attributes(1, call)])
    _commands(fed_store, AN_HOUR_AGO)
    insert_like_a_collector(fed_store, [spans.of_attributes(2, call)])
    never_set = f"(toDateTime64(0, 9), '{3:032x}', '{3:016x}')"
    _commands(fed_store, f"INSERT INTO otel_traces (Timestamp, TraceId, SpanId) VALUES {never_set}")
    set_refreshing(fed_store, "START")
    _commands(fed_store, "SYSTEM REFRESH VIEW refresh_accounts", "SYSTEM WAIT VIEW refresh_accounts")
    assert sorted(row["counted"] for row in spans.charges(fed_store).values()) == [False, True]


def test_an_insert_without_our_settings_takes_little_memory(fed_store: Store) -> None:
    """Thousands of calls once took gigabytes: ClickHouse evaluates what is chosen by `if` lazily."""
    usage = {"gen_ai.usage.input_tokens": 1000, "gen_ai.usage.output_tokens": 200}
    said: dict[str, Any] = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o", **usage}
    said["gen_ai.input.messages"] = "what the agent was told " * 120
    failed = {name: value for name, value in said.items() if name not in usage}
    calls = [spans.of_attributes(number, said if number % 2 else failed) for number in range(1, 2001)]
    insert_like_a_collector(fed_store, calls, settings={"max_memory_usage": 500_000_000})
    counted = fed_store.sql("SELECT sum(input_tokens), sum(output_tokens) FROM charges FINAL", fmt="TSV")
    assert counted == b"1000000\t200000\n"


def test_the_exporters_columns_are_ours() -> None:
    """`otel_traces` has exactly the columns that SPAN_COLUMNS fills, in its order."""
    text = (ROOT / "clickhouse" / "migrations" / "0001_create_otel_traces.sql").read_text()
    positions = [text.index(f"    {name.partition('.')[0]} ") for name in SPAN_COLUMNS]
    assert positions == sorted(positions)

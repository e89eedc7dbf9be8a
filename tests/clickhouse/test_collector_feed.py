"""A server fed by a Collector, which only inserts into otel_traces, decides what counts by itself."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from typing import Any

import pytest

from otel_cost.cli import doctor
from otel_cost.errors import StoreError
from otel_cost.pricing import PriceBook
from otel_cost.server.otlp_json import flatten
from otel_cost.store import SPAN_COLUMNS, Store, open_store
from otel_cost.store.files import named_sql
from tests.clickhouse import spans
from tests.clickhouse.conftest import empty, set_refreshing
from tests.conformance import suite
from tests.data import ROOT
from tests.waiting import until

COLUMNS = {"reason": "not_counted_reason", "status": "price_status"}
"""Columns of charges for what the suite calls otherwise."""


@pytest.fixture
def fed_store(server_dsn: str, book: PriceBook) -> Iterator[Store]:
    """A store on a server."""
    with open_store(server_dsn) as store:
        store.migrate()
        store.push_prices(book)
        set_refreshing(store, "STOP")
        empty(store)
        set_refreshing(store, "START")
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
    _commands(fed_store, *PASS)
    found = {key[1]: row for key, row in spans.charges(fed_store).items()}
    for case in cases:
        for name, wanted in case.expected["spans"].items():
            row = found[suite.span_id(case.name, name)]
            told = {key: value for key, value in wanted.items() if key != "cost_usd"}
            assert {key: row[COLUMNS.get(key, key)] for key in told} == told, (case.name, name)


PASS = ("SYSTEM REFRESH VIEW refresh_accounts", "SYSTEM WAIT VIEW refresh_accounts")
NOTE = ("SYSTEM REFRESH VIEW note_accounts", "SYSTEM WAIT VIEW note_accounts")


def _insert_before(store: Store, minutes: int, *requests: spans.Request) -> None:
    """Put spans into the table as a Collector did some minutes ago."""
    insert_like_a_collector(store, requests)
    _commands(
        store,
        f"ALTER TABLE trace_links UPDATE inserted_at = now() - INTERVAL {minutes} MINUTE"
        " WHERE inserted_at > now() - INTERVAL 2 MINUTE SETTINGS mutations_sync = 2",
    )


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
    _insert_before(fed_store, 60, spans.of_attributes(1, call))
    insert_like_a_collector(fed_store, [spans.of_attributes(2, call)])
    never_set = f"(toDateTime64(0, 9), '{3:032x}', '{3:016x}')"
    _commands(fed_store, f"INSERT INTO otel_traces (Timestamp, TraceId, SpanId) VALUES {never_set}")
    set_refreshing(fed_store, "START")
    _commands(fed_store, *PASS)
    assert sorted(row["counted"] for row in spans.charges(fed_store).values()) == [False, True]


def _last_pass_before(store: Store, minutes: int) -> None:
    """Leave the store as where a pass that succeeded just now had looked at spans of some minutes ago."""
    _commands(
        store,
        "TRUNCATE TABLE accounting_passes",
        "INSERT INTO accounting_passes (passed_until, noted_at)"
        f" SELECT now() - INTERVAL {minutes} MINUTE, now64(3)",
    )


def _repeated_call(number: int) -> list[spans.Request]:
    """Return a call that two traces tell."""
    call = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.response.id": f"resp-{number}",
        "gen_ai.usage.input_tokens": "1000",
    }
    return [spans.of_attributes(trace, call) for trace in (2 * number, 2 * number + 1)]


def _left_out(store: Store) -> int:
    return sum(not row["counted"] for row in spans.charges(store).values())


def _gaps(store: Store) -> list[dict[str, Any]]:
    return store.query("accounting_gaps", since="2020-01-01 00:00:00").dicts()


def test_spans_that_came_while_no_pass_worked_are_accounted(fed_store: Store) -> None:
    """After a time without passes the next ones go on where the last one ended, some minutes at a time."""
    set_refreshing(fed_store, "STOP")
    _last_pass_before(fed_store, 12)
    _insert_before(fed_store, 11, *_repeated_call(1))
    _insert_before(fed_store, 7, *_repeated_call(2))
    assert [(gap["shard"], gap["is_skipped"]) for gap in _gaps(fed_store)] == [(0, False)]
    window = "SELECT dateDiff('minute', since, now()), until - since FROM accounting_window"
    assert fed_store.sql(window, fmt="TSV") == b"11\t180\n"
    set_refreshing(fed_store, "START")

    def is_done() -> bool:
        _commands(fed_store, *PASS, *NOTE)
        return _left_out(fed_store) == 2

    until(is_done, timeout_s=120)
    assert not _gaps(fed_store)


def test_a_long_time_without_spans_is_no_time_to_catch_up_with(fed_store: Store) -> None:
    """A server that was off for three days has nothing to do for them and begins with the next span."""
    set_refreshing(fed_store, "STOP")
    _last_pass_before(fed_store, 3 * 24 * 60)
    insert_like_a_collector(fed_store, _repeated_call(1))
    set_refreshing(fed_store, "START")
    _commands(fed_store, *PASS)
    assert _left_out(fed_store) == 1
    until(lambda: (_commands(fed_store, *PASS, *NOTE), not _gaps(fed_store))[1])


def test_passes_that_fail_do_not_hold_back_all_later_spans(fed_store: Store) -> None:
    """What passes fail at for ten minutes (here seconds) on end is passed over and told, and not before."""
    set_refreshing(fed_store, "STOP")
    noting = named_sql("server", "note_accounts").partition("\nAS\n")[2]
    noting = noting.replace("INTERVAL 10 MINUTE", "INTERVAL 10 SECOND").replace("uptime()", "601")
    _insert_before(fed_store, 6, *_repeated_call(1))
    _commands(fed_store, "RENAME TABLE charges TO aside")
    try:
        _last_pass_before(fed_store, 7)
        with pytest.raises(StoreError, match="charges"):
            _commands(fed_store, "SYSTEM START VIEW refresh_accounts", *PASS)
        _commands(fed_store, f"INSERT INTO accounting_passes {noting}")
        assert _gaps(fed_store) == []
        time.sleep(11)
        _commands(fed_store, f"INSERT INTO accounting_passes {noting}")
        assert [gap["is_skipped"] for gap in _gaps(fed_store)] == [True]
    finally:
        _commands(fed_store, "RENAME TABLE aside TO charges")
    told = [finding for finding in doctor.examine(str(fed_store.place)) if finding.subject == "accounting"]
    assert [finding.level for finding in told] == ["fail"]
    assert f"backfill --again --since {datetime.now(timezone.utc):%Y-%m-}" in told[0].remedy


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

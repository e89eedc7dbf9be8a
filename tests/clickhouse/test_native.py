"""The named queries answer over the native protocol as they do over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import pytest
from clickhouse_driver import Client

from otel_cost.pricing import PriceBook
from otel_cost.store import Store
from otel_cost.store.files import named_sql, statements
from tests.clickhouse import spans
from tests.clickhouse.conftest import empty, migrated_store, set_refreshing
from tests.clickhouse.test_queries import CASES, PARAMETERS, QUERIES
from tests.clickhouse.test_store import HOSTILE

SINCE = datetime(2026, 6, 1, tzinfo=timezone.utc)


@pytest.fixture(scope="module", params=["server", "cluster"])
def asked(request: pytest.FixtureRequest, book: PriceBook) -> Iterator[tuple[Store, Client]]:
    """A store with the spans of the cases, and a native connection to its database."""
    with migrated_store(request, request.param, book) as store:
        set_refreshing(store, "STOP")
        empty(store)
        requests = [json.loads(line) for line in (CASES / "input.jsonl").read_text().splitlines()]
        spans.insert(store, requests)
        port = int(store.sql("SELECT getServerPort('tcp_port')", fmt="TSV"))
        settings = {"server_side_params": True, "session_timezone": "UTC", **store.settings}
        native = Client(store.place.host, port, database=store.place.database, settings=settings)
        yield store, native
        native.disconnect()


def _text(value: Any) -> str:
    """Return a parameter as the native client sends it: text that the server reads."""
    return f"{value:%Y-%m-%d %H:%M:%S}" if isinstance(value, datetime) else value


def _plain(value: Any) -> Any:
    """Return a time without its zone: one client gives UTC times one, the other does not."""
    return value.replace(tzinfo=None) if isinstance(value, datetime) else value


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_answers_alike(asked: tuple[Store, Client], name: str) -> None:
    """Columns, order, money and times of every named query are those of HTTP."""
    store, native = asked
    (statement,) = statements(named_sql("queries", name))
    known = {"since": SINCE, "limit": 10, **PARAMETERS.get(name, {})}
    used = {key: value for key, value in known.items() if f"{{{key}:" in statement}
    wanted = store.query(name, **used)
    rows, columns = native.execute(
        statement, {key: _text(value) for key, value in used.items()}, with_column_types=True
    )
    if rows:  # the client for HTTP is told no columns of an empty answer
        assert tuple(column[0] for column in columns) == wanted.columns
    assert [tuple(map(_plain, row)) for row in rows] == [tuple(map(_plain, row)) for row in wanted.rows]


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_a_parameter_is_data(asked: tuple[Store, Client], value: str) -> None:
    """Whatever a parameter holds comes back as it was, and every table is still there."""
    store, native = asked
    assert native.execute("SELECT {value:String}", {"value": value}) == [(value,)]
    (statement,) = statements(named_sql("queries", "find_traces"))
    assert native.execute(statement, {"id": value}) == []
    assert store.query("find_traces", id=value).rows == []
    assert native.execute("EXISTS TABLE charges") == [(1,)]

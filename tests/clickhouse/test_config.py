"""A server with clickhouse/config keeps little about itself, and fits a small machine."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from otel_cost.store import Store, open_store
from otel_cost.store.files import sql_root
from tests.servers import clickhouse_server

CONFIG = sql_root() / "config" / "config.d" / "otel-cost.xml"
SHIPPED = (
    "asynchronous_metric_log", "backup_log", "blob_storage_log", "error_log", "metric_log", "part_log",
    "processors_profile_log", "query_log", "query_metric_log", "query_thread_log", "query_views_log",
    "session_log", "text_log", "trace_log",
)  # fmt: skip
"""Logs that the config.xml of ClickHouse's packages turns on, or that people turn on."""
QUERIES = 20
LOGS = "SELECT name FROM system.tables WHERE database = 'system' AND endsWith(name, '_log') ORDER BY name"


def _shipped() -> str:
    return "".join(f"<{name}><database>system</database><table>{name}</table></{name}>" for name in SHIPPED)


@pytest.fixture(scope="module")
def tamed() -> Iterator[Store]:
    """A server with our file in its config.d."""
    with clickhouse_server(config=_shipped(), config_d=[CONFIG]) as dsn, open_store(dsn) as store:
        yield store


def _flush(store: Store) -> None:
    with store.connection("flush") as client:
        client.command("SYSTEM FLUSH LOGS")


def test_only_the_log_of_queries_is_kept_and_for_a_week(tamed: Store) -> None:
    """Nothing writes while nobody asks: twenty queries and five quiet seconds are two rows a query."""
    for number in range(QUERIES):
        tamed.sql("SELECT {number:UInt8}", {"number": number})
    time.sleep(5)
    _flush(tamed)
    assert tamed.sql(LOGS, fmt="TSV").decode().split() == ["crash_log", "query_log"]
    rows = int(tamed.sql("SELECT count() FROM system.query_log", fmt="TSV"))
    assert 2 * QUERIES <= rows <= 2 * QUERIES + 30
    made = tamed.sql("SELECT engine_full FROM system.tables WHERE name = 'query_log'", fmt="TSVRaw").decode()
    assert "PARTITION BY event_date" in made
    assert "TTL event_date + toIntervalDay(7)" in made


def test_the_same_server_without_it_keeps_more(tamed: Store) -> None:
    """The comparison is not between two servers that would keep nothing anyway."""
    with clickhouse_server(config=_shipped()) as dsn, open_store(dsn) as plain:
        time.sleep(2)
        _flush(plain)
        kept = set(plain.sql(LOGS, fmt="TSV").decode().split())
        assert kept > {"metric_log", "part_log", "query_log", "session_log"}
        assert int(plain.sql("SELECT count() FROM system.metric_log", fmt="TSV")) > 0


def test_caches_and_merges_fit_a_small_machine(tamed: Store) -> None:
    """The limits of the file are those of the server."""
    asked = "SELECT name, value FROM system.server_settings WHERE name IN {names:Array(String)}"
    wanted = {
        "max_server_memory_usage_to_ram_ratio": "0.7",
        "mark_cache_size": str(256 * 1024**2),
        "max_concurrent_queries": "100",
        "background_pool_size": "4",
    }
    with tamed.connection("settings") as client:
        assert dict(client.query(asked, parameters={"names": list(wanted)}).result_rows) == wanted

"""Where a store is, who may open it, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from otel_cost.errors import ConfigError, StoreBusyError, StoreError
from otel_cost.store import Store, open_store
from otel_cost.store.dsn import OWNER_FILE, Embedded, Server, default_dsn, parse_dsn, served_by
from otel_cost.store.period import EPOCH, parse_since

NOW = datetime(2026, 6, 15, 12, tzinfo=timezone.utc)

HOSTILE = {
    "or": "x' OR 1=1 --",
    "drop": "'; DROP TABLE charges; --",
    "unicode": "ü€😀\u202e\ufeff",
    "backslashes": "\\' OR 1=1 --\\",
    "control": "a\tb\nc\rd",
    "nul": "a\0b",
    "braces": "{x:String} %(x)s",
    "long": "x" * 100_000,
}
HOLD = """
import sys
from otel_cost.store import open_store
with open_store(sys.argv[1]) as store:
    print("open", flush=True)
    sys.stdin.read()
"""


def test_an_embedded_store_is_a_path() -> None:
    """`chdb:///path` is a directory; a home directory may be written as one."""
    assert parse_dsn("chdb:///tmp/some%20where") == Embedded(Path("/tmp/some where").resolve())


def test_a_server_is_a_url() -> None:
    """User, password, port and database are taken from the DSN, with ClickHouse's defaults."""
    assert parse_dsn("clickhouse://me:p%40ss@db:9999/costs") == Server("db", 9999, "me", "p@ss", "costs")
    assert parse_dsn("clickhouse://db") == Server("db", 8123)
    assert parse_dsn("clickhouses://db") == Server("db", 8443, secure=True)


@pytest.mark.parametrize("dsn", ["", "postgres://x/y", "chdb://", "clickhouse://", "clickhouse://db:port/x"])
def test_what_is_no_store_is_refused(dsn: str) -> None:
    """The message names the variable, the value and the forms there are."""
    with pytest.raises(ConfigError, match=r"OTEL_COST_STORE=.*chdb:///path"):
        parse_dsn(dsn)


def test_a_password_is_never_shown() -> None:
    """Neither an error nor a representation of a store shows its password or token."""
    with pytest.raises(ConfigError) as refused:
        parse_dsn("clickhouse://me:secret@db:port/x")
    shown = f"{refused.value} {parse_dsn('clickhouse://me:secret@db/x')!r} {Server('h', 1, token='secret')!r}"
    assert "secret" not in shown


def test_the_default_is_the_variable_or_the_data_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_COST_STORE names the store; without it the store is below the XDG data directory."""
    monkeypatch.setenv("OTEL_COST_STORE", "chdb:///elsewhere")
    assert default_dsn() == "chdb:///elsewhere"
    monkeypatch.delenv("OTEL_COST_STORE")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert default_dsn() == "chdb:///data/otel-cost/store"


def test_a_serving_process_is_found_while_it_lives(tmp_path: Path) -> None:
    """The owner's file leads to it; a file left behind by a dead process, or a broken one, does not."""
    owner = {"url": "http://127.0.0.1:4318", "proxy_path": "/clickhouse", "token": "t", "pid": os.getppid()}
    (tmp_path / OWNER_FILE).write_text(json.dumps(owner))
    found = served_by(Embedded(tmp_path))
    assert found is not None
    assert (found.host, found.port, found.proxy_path, found.token) == ("127.0.0.1", 4318, "/clickhouse", "t")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / OWNER_FILE).write_text(json.dumps({**owner, "pid": ended.pid}))
    assert served_by(Embedded(tmp_path)) is None
    (tmp_path / OWNER_FILE).write_text("{")
    assert served_by(Embedded(tmp_path)) is None


def test_a_store_in_use_is_busy(tmp_path: Path) -> None:
    """A second process is told that the path is taken and what to do, not given a traceback of the engine."""
    pytest.importorskip("chdb")
    dsn = f"chdb://{tmp_path.resolve()}"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, dsn], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        second = subprocess.run(
            [sys.executable, "-c", HOLD, dsn], input="", capture_output=True, text=True, check=False
        )
        holder.stdin.close()
    assert "StoreBusyError" in second.stderr
    assert "OTEL_COST_STORE" in second.stderr


def test_a_server_that_is_not_there_is_named() -> None:
    """The error says which server, without its password."""
    with pytest.raises(StoreError, match=r"cannot reach .*127\.0\.0\.1:9") as refused:
        open_store("clickhouse://me:secret@127.0.0.1:9/x")
    assert "secret" not in str(refused.value)
    assert "clickhouse://me@127.0.0.1:9/x: nothing listens there" in str(refused.value)
    assert not isinstance(refused.value, StoreBusyError)


def test_reading_cannot_write(store: Store) -> None:
    """A person's own statement reads; one that changes anything is refused and changes nothing."""
    assert store.sql("SELECT 1 AS one") == b'{"one":1}\n'
    for statement in ("DROP TABLE charges", "INSERT INTO trace_links (trace_id) VALUES ('x')"):
        with pytest.raises(StoreError, match="sql: "):
            store.sql(statement)
    assert store.sql("SELECT count() FROM trace_links", fmt="TSV") == b"0\n"


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_parameters_are_not_text(store: Store, value: str) -> None:
    """A parameter is a value, whatever is in it, in named queries and in queries of one's own."""
    answer = store.sql("SELECT {value:String} AS value, length(value) AS bytes", {"value": value})
    assert json.loads(answer) == {"value": value, "bytes": len(value.encode())}
    assert store.query("find_traces", id=value).rows == []
    days = {"first_day": "1970-01-01", "last_day": "2149-06-06"}
    assert store.query("trace_totals", id=value, **days).dicts()[0]["model_calls"] == 0
    assert store.sql("SELECT count() FROM charges", fmt="TSV") == b"0\n"


def test_an_incomplete_batch_is_refused(store: Store) -> None:
    """Columns that are missing or differ in length are named, and nothing is stored."""
    with pytest.raises(StoreError, match="lacks the columns Timestamp"):
        store.insert_spans({"TraceId": ["x"]})


def test_an_unknown_query_names_those_there_are(store: Store) -> None:
    """A typing mistake in a query's name is answered with the names."""
    with pytest.raises(ConfigError, match="top_models"):
        store.query("top_modles")


def test_a_closed_store_says_so(server_dsn: str) -> None:
    """Closing twice is harmless; using a closed store is an error that says what to do."""
    opened = open_store(server_dsn)
    opened.close()
    opened.close()
    with pytest.raises(StoreError, match="is closed"):
        opened.query("unpriced")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("24h", NOW - timedelta(hours=24)),
        ("7d", NOW - timedelta(days=7)),
        ("2w", NOW - timedelta(days=14)),
        ("999999w", EPOCH),
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=timezone.utc)),
        ("2026-01-31T10:00:00+02:00", datetime(2026, 1, 31, 8, tzinfo=timezone.utc)),
        ("2026-01-31T10:00:00Z", datetime(2026, 1, 31, 10, tzinfo=timezone.utc)),
        ("all", EPOCH),
    ],
)
def test_periods(text: str, expected: datetime) -> None:
    """Lengths count back from now, days and times are UTC unless they say otherwise."""
    assert parse_since(text, NOW) == expected


@pytest.mark.parametrize("text", ["", "7", "yesterday", "-7d", "7 d"])
def test_what_is_no_period_is_refused(text: str) -> None:
    """The message shows the value and what to write."""
    with pytest.raises(ConfigError, match="write 24h, 7d"):
        parse_since(text, NOW)

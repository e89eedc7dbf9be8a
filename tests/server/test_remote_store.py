"""`otel-cost up` in front of a ClickHouse server: the same answers, passed on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.server.commands import Up, otel_cost, serving
from tests.server.harness import request_of
from tests.server.test_importer import lines
from tests.servers import clickhouse_server

PROTOBUF = {"Content-Type": "application/x-protobuf"}


@pytest.fixture(scope="module")
def dsn() -> Iterator[str]:
    """A database of its own on a real server."""
    with clickhouse_server() as found:
        yield found.removesuffix("/default") + "/spend_of_agents"


@pytest.fixture(scope="module")
def up(dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """`otel-cost up` over it."""
    with serving(tmp_path_factory.mktemp("unused") / "store", "--store", dsn) as started:
        yield dataclasses.replace(started)


def ask(up: Up, sql: str, **params: str) -> requests.Response:
    """Send a query through the endpoint."""
    return requests.post(f"{up.http}/clickhouse", data=sql, params=params, timeout=60)


def test_spans_go_through_to_the_server(up: Up, dsn: str) -> None:
    """Acknowledged spans are in the server's own tables."""
    body = request_of(7, seed=31).SerializeToString()
    assert requests.post(f"{up.http}/v1/traces", data=body, headers=PROTOBUF, timeout=60).status_code == 200
    address = dsn.removeprefix("clickhouse://default@").partition("/")[0]
    direct = requests.post(
        f"http://{address}/", data="SELECT count() FROM spend_of_agents.otel_traces", timeout=30
    )
    assert int(direct.text) >= 7
    assert int(ask(up, "SELECT count() FROM otel_traces").text) >= 7


def test_queries_are_answered_as_by_the_embedded_engine(up: Up) -> None:
    """Parameters, settings, formats, and columns of empty results."""
    assert ask(up, "SELECT {n:UInt8} + 1, currentDatabase()", param_n="41").text == "42\tspend_of_agents\n"
    shaped = ask(up, "SELECT toDateTime(0, 'UTC') SETTINGS max_threads = 1", date_time_output_format="iso")
    assert shaped.text == "1970-01-01T00:00:00Z\n"
    assert ask(up, "SELECT getSetting('log_comment') SETTINGS log_comment = 'it''s'").text == "it\\'s\n"
    assert b"nothing" in ask(up, "SELECT 1 AS nothing WHERE 0 FORMAT Native").content


@pytest.mark.parametrize(
    "sql",
    [
        "DROP TABLE otel_traces",
        "INSERT INTO otel_traces (TraceId) VALUES ('x')",
        "SELECT * FROM url('http://127.0.0.1:1/', LineAsString)",
        "SELECT file('/etc/hostname')",
        "SELECT 1; SELECT 2",
        "SELECT 1 SETTINGS readonly = 0",
        "SET readonly = 0",
    ],
)
def test_nothing_can_be_changed_or_reached(up: Up, sql: str) -> None:
    """The same screen, and the server's own read-only setting behind it."""
    refused = ask(up, sql)
    assert refused.status_code in (400, 403), refused.text
    assert refused.headers["X-ClickHouse-Exception-Code"] in ("62", "164")


def test_errors_are_the_servers(up: Up) -> None:
    """Its codes, without its address or credentials."""
    missing = ask(up, "SELECT * FROM missing")
    assert (missing.status_code, missing.headers["X-ClickHouse-Exception-Code"]) == (404, "60")


def test_files_are_imported(dsn: str, tmp_path: Path) -> None:
    """Straight into the server; notes on half-done files are kept below the state directory."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines(4) + lines(1).rstrip() + b" " * 9_000_000 + b"\n" + lines(1))
    done = otel_cost("import", "--store", dsn, str(path), XDG_STATE_HOME=str(tmp_path / "state"))
    assert done.returncode == 0, done.stderr
    assert "18 spans" in done.stdout
    assert (tmp_path / "state" / "otel-cost" / "imports.json").exists()

"""The read endpoint, as ClickHouse's own clients see it. Needs the embedded engine."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import clickhouse_connect
import pytest
import requests
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from otel_cost.server.process import Address, Listening, Server, Sockets
from otel_cost.server.queries import QueryEndpoint
from otel_cost.store.dsn import DATABASE, Embedded
from otel_cost.store.reader import EmbeddedEngine, Reader, escape
from otel_cost.store.screen import QueryRefusedError, screen
from tests.server.fakes import MemoryStore

TOKEN = "a-token"


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with a token over an embedded store with one table; yields its URL."""
    chdb = pytest.importorskip("chdb")
    path = tmp_path_factory.mktemp("store").resolve()
    keeper = chdb.connect(str(path))
    keeper.query(f"CREATE DATABASE IF NOT EXISTS {DATABASE}")
    keeper.query(
        f"CREATE TABLE {DATABASE}.spend (team String, cost Decimal(38, 12), at DateTime('UTC'))"
        " ENGINE = MergeTree ORDER BY team"
    )
    keeper.query(
        f"INSERT INTO {DATABASE}.spend"
        " VALUES ('red', 1.5, '2026-01-01 00:00:00'), ('blue', 2.25, '2026-01-02 03:04:05')"
    )
    sockets = Sockets(Address("127.0.0.1", 0), None, TOKEN)
    loop, started, where = asyncio.new_event_loop(), threading.Event(), []

    def ready(listening: Listening) -> None:
        where.append(f"http://{listening.http}/clickhouse")
        started.set()

    reader = Reader(EmbeddedEngine(Embedded(path)), DATABASE)
    server = Server(MemoryStore(), QueryEndpoint(reader), sockets, TOKEN)
    thread = threading.Thread(target=lambda: loop.run_until_complete(server.run(ready)), daemon=True)
    thread.start()
    assert started.wait(30)
    yield where[0]
    loop.call_soon_threadsafe(server.stop)
    thread.join(30)
    loop.close()
    sockets.close()
    keeper.close()


@pytest.fixture
def client(endpoint: str) -> Iterator[Client]:
    """ClickHouse's own Python client, as the command line uses it."""
    port = int(endpoint.split(":")[2].split("/")[0])
    made = clickhouse_connect.get_client(
        host="127.0.0.1",
        port=port,
        proxy_path="/clickhouse",
        access_token=TOKEN,
        autogenerate_session_id=False,
    )
    yield made
    made.close()


def ask(endpoint: str, sql: str | None = None, **params: str) -> requests.Response:
    """Send a query as a script would."""
    return requests.post(endpoint, data=sql, params=params, headers={"X-ClickHouse-Key": TOKEN}, timeout=30)


def test_the_official_client_reads_typed_values(client: Client) -> None:
    """Native output, server-side parameters, exact decimals and times."""
    result = client.query(
        "SELECT team, cost, at FROM spend WHERE cost > {least:Float64} ORDER BY team", {"least": 2}
    )
    assert result.column_names == ("team", "cost", "at")
    (row,) = result.result_rows
    assert (row[0], str(row[1]), row[2].isoformat()) == ("blue", "2.250000000000", "2026-01-02T03:04:05")
    assert client.ping()
    assert client.command("SELECT count() FROM spend") == 2


def test_an_empty_result_has_its_columns(client: Client) -> None:
    """Reports print their headings when there is nothing to show."""
    result = client.query(
        "SELECT team, cost AS `what it cost` FROM spend WHERE team = {team:String}", {"team": "none"}
    )
    assert result.column_names == ("team", "what it cost")
    assert result.result_rows == []


def test_parameters_are_values_and_nothing_else(client: Client) -> None:
    """Quotes, backslashes, tabs and newlines arrive as they were sent."""
    text = "it's \\ a\ttab\nand `more` {x:String} ünïcödé"
    assert client.query("SELECT {text:String}", {"text": text}).result_rows == [(text,)]
    assert client.query("SELECT {names:Array(String)}", {"names": ["a'b", "c\\"]}).result_rows == [
        (["a'b", "c\\"],)
    ]


def test_long_parameters_travel_as_a_form(endpoint: str) -> None:
    """A thousand ids do not fit a URL; clients then send multipart forms."""
    ids = "[" + ",".join(f"'{number:032x}'" for number in range(2000)) + "]"
    fields = {"query": (None, "SELECT length({ids:Array(String)}) AS n"), "param_ids": (None, ids)}
    response = requests.post(endpoint, files=fields, headers={"X-ClickHouse-Key": TOKEN}, timeout=30)
    assert response.text == "2000\n"


def test_formats_and_headers(endpoint: str) -> None:
    """FORMAT in the query, then the header, then `default_format`, then TabSeparated."""
    sql = "SELECT 1 AS one"
    assert ask(endpoint, sql).text == "1\n"
    assert ask(endpoint, sql, default_format="JSONEachRow").json() == {"one": 1}
    response = ask(endpoint, sql + " FORMAT JSONCompact", default_format="CSV")
    assert response.json()["data"] == [[1]]
    assert response.headers["Content-Type"].startswith("application/json")
    assert response.headers["X-ClickHouse-Format"] == "JSONCompact"
    assert response.headers["X-ClickHouse-Timezone"]
    assert (
        ask(endpoint, "SELECT 1 SETTINGS max_threads = 1 FORMAT CSV").headers["X-ClickHouse-Format"] == "CSV"
    )


def test_a_query_may_come_in_the_url(endpoint: str) -> None:
    """GET with `query`, `param_*`, `database` and the password as ClickHouse takes it."""
    query = {"query": "SELECT {n:UInt8} + 1, currentDatabase()", "param_n": "41", "password": TOKEN}
    assert requests.get(endpoint, params=query, timeout=30).text == f"42\t{DATABASE}\n"
    system = requests.get(endpoint, params={**query, "database": "system"}, timeout=30)
    assert system.text == "42\tsystem\n"


def test_settings_that_only_shape_the_answer_are_taken(endpoint: str) -> None:
    """In the URL and in the query; unknown or reaching ones are refused."""
    shaped = ask(endpoint, "SELECT toDateTime(0, 'UTC')", date_time_output_format="iso")
    assert shaped.text == "1970-01-01T00:00:00Z\n"
    assert ask(endpoint, "SELECT 1 SETTINGS max_threads = 1, log_comment = 'a, b'").status_code == 200
    for refused in ({"allow_introspection_functions": "1"}, {"format_schema": "x"}, {"nonsense": "1"}):
        response = ask(endpoint, "SELECT 1", **refused)
        assert response.headers["X-ClickHouse-Exception-Code"] == "164"
    assert ask(endpoint, "SELECT 1 SETTINGS storage_file_read_method = 'mmap'").status_code == 403


def test_limits_cannot_be_raised(endpoint: str) -> None:
    """A reader may ask for less time and memory, never for more."""
    sql = "SELECT getSetting('max_memory_usage') AS bytes, getSetting('max_execution_time') AS seconds"
    high = ask(
        endpoint, sql, max_memory_usage="999999999999", max_execution_time="0", default_format="JSONEachRow"
    )
    assert high.json() == {"bytes": 2 * 1024**3, "seconds": 60}
    low = ask(
        endpoint, sql, max_memory_usage="100000000", max_execution_time="2", default_format="JSONEachRow"
    )
    assert low.json() == {"bytes": 100000000, "seconds": 2}
    assert ask(endpoint, sql + " SETTINGS max_execution_time = 600").status_code == 403


REFUSED = [
    "INSERT INTO spend VALUES ('x', 1, now())",
    "DROP TABLE spend",
    "ALTER TABLE spend DELETE WHERE 1",
    "CREATE TABLE t (a Int8) ENGINE = Memory",
    "CREATE TEMPORARY TABLE t (a Int8)",
    "SET max_memory_usage = 0",
    "SET readonly = 0",
    "SYSTEM SHUTDOWN",
    "USE system",
    "KILL QUERY WHERE 1",
    "SELECT 1 INTO OUTFILE '/tmp/otel-cost-test-outfile'",
    "SELECT 1 INTO/**/OUTFILE '/tmp/otel-cost-test-outfile' FORMAT CSV",
    "EXPLAIN SELECT 1 INTO OUTFILE '/tmp/otel-cost-test-outfile'",
    "SELECT file('/etc/hostname')",
    "SELECT `file`('/etc/hostname')",
    "SELECT \"f\\x69le\"('/etc/hostname')",
    "SELECT file /* hidden */ ('/etc/hostname')",
    "SELECT * FROM file('/etc/hostname', LineAsString)",
    "SELECT * FROM FILE('/etc/hostname', LineAsString)",
    "WITH (SELECT * FROM file('/etc/hostname', LineAsString)) AS x SELECT x",
    "SELECT 1 WHERE 1 IN (SELECT * FROM url('http://127.0.0.1:1/', LineAsString))",
    "DESCRIBE TABLE url('http://127.0.0.1:1/', LineAsString)",
    "SELECT * FROM remote('127.0.0.1', system.one)",
    "SELECT * FROM s3('http://127.0.0.1:1/b/x', 'TSV', 'a Int8')",
    "SELECT * FROM executable('x.sh', 'TSV', 'a Int8')",
    "SELECT * FROM Python(endpoint)",
    "SELECT * FROM mysql('127.0.0.1:1', 'a', 'b', 'c', 'd')",
    "SELECT 1; DROP TABLE spend",
    "SELECT 1; SELECT file('/etc/hostname')",
    "SELECT 1 SETTINGS readonly = 0",
    "BACKUP TABLE spend TO File('/tmp/otel-cost-test-outfile')",
]


@pytest.mark.parametrize("sql", REFUSED)
def test_nothing_can_be_changed_or_reached(endpoint: str, sql: str) -> None:
    """Only reading, only our tables: whatever the statement, the function or the quoting."""
    response = ask(endpoint, sql)
    assert response.status_code in (400, 403), response.text
    assert response.text.startswith("Code: ")
    assert response.headers["X-ClickHouse-Exception-Code"] in ("62", "164")
    assert not Path("/tmp/otel-cost-test-outfile").exists()
    assert ask(endpoint, "SELECT count(), sum(cost) FROM spend").text == "2\t3.75\n"


def test_harmless_look_alikes_are_answered(endpoint: str) -> None:
    """Words that only look forbidden: in strings, as column names."""
    sql = "SELECT 'INTO OUTFILE file(', file, 'a;b' FROM (SELECT 1 AS file) -- drop\n;"
    assert ask(endpoint, sql).text == "INTO OUTFILE file(\t1\ta;b\n"
    assert ask(endpoint, "(SELECT 1) UNION ALL (SELECT 1)").text == "1\n1\n"
    assert ask(endpoint, "WITH 1 AS x SELECT x").text == "1\n"
    assert ask(endpoint, "SHOW TABLES").text == "spend\n"
    assert ask(endpoint, "DESCRIBE spend").text.startswith("team\tString")
    assert "MergeTree" in ask(endpoint, "SHOW CREATE TABLE spend").text
    assert ask(endpoint, "EXISTS spend").text == "1\n"
    assert ask(endpoint, "SELECT sum(number) FROM numbers(4)").text == "6\n"
    assert ask(endpoint, "SELECT if(1, 'view', 'x'), format('{}', 'y')").text == "view\ty\n"


def test_errors_are_the_engines(client: Client, endpoint: str) -> None:
    """Clients see ClickHouse's code and message."""
    with pytest.raises(DatabaseError, match="UNKNOWN_TABLE"):
        client.query("SELECT * FROM missing")
    missing = ask(endpoint, "SELECT * FROM missing")
    assert (missing.status_code, missing.headers["X-ClickHouse-Exception-Code"]) == (404, "60")
    assert missing.text.startswith("Code: 60. DB::Exception: ")
    assert ask(endpoint, "SELEC 1").headers["X-ClickHouse-Exception-Code"] == "62"
    assert ask(endpoint, "SELECT {x:UInt8}").headers["X-ClickHouse-Exception-Code"] == "456"
    assert ask(endpoint, "SELECT groupArray(number) FROM numbers(1000000000)").headers[
        "X-ClickHouse-Exception-Code"
    ] in ("241", "396")
    assert ask(endpoint, "SELECT '" + "x" * 300_000 + "'").headers["X-ClickHouse-Exception-Code"] == "62"


def test_queries_run_side_by_side(endpoint: str) -> None:
    """A slow query does not hold up a quick one."""
    slow = threading.Thread(target=ask, args=(endpoint, "SELECT sleepEachRow(0.5) FROM numbers(4)"))
    slow.start()
    quick = ask(endpoint, "SELECT 1")
    assert slow.is_alive()
    assert quick.text == "1\n"
    slow.join(20)


def test_the_token_is_needed(endpoint: str) -> None:
    """As bearer token, password, key or basic authentication; anything else is ClickHouse's 516."""
    base = endpoint + "?query=SELECT+1"
    good = [
        {"Authorization": f"Bearer {TOKEN}"},
        {"X-ClickHouse-Key": TOKEN, "X-ClickHouse-User": "anybody"},
    ]
    assert all(requests.get(base, headers=headers, timeout=20).text == "1\n" for headers in good)
    assert requests.get(base, auth=("default", TOKEN), timeout=20).text == "1\n"
    for headers in (
        {},
        {"Authorization": "Bearer x"},
        {"X-ClickHouse-Key": "x"},
        {"Authorization": "Basic %%"},
    ):
        response = requests.get(base, headers=headers, timeout=20)
        assert (response.status_code, response.headers["X-ClickHouse-Exception-Code"]) == (403, "516")


def test_web_pages_cannot_ask(endpoint: str) -> None:
    """Not even with the token: a page has no business here."""
    headers = {"X-ClickHouse-Key": TOKEN, "Sec-Fetch-Site": "cross-site"}
    assert requests.get(endpoint + "?query=SELECT+1", headers=headers, timeout=20).status_code == 403


def test_ping_and_an_empty_query_answer_ok(endpoint: str) -> None:
    """What health checks of ClickHouse's clients send."""
    assert requests.get(endpoint + "/ping", timeout=20).text == "Ok.\n"
    assert ask(endpoint).text == "Ok.\n"


def test_native_compression_is_refused_clearly(endpoint: str) -> None:
    """`compress=1` frames the body in ClickHouse's own way, which is not offered."""
    assert ask(endpoint, "SELECT 1", compress="1").status_code == 501


def test_the_screen_knows_settings_between_other_clauses() -> None:
    """Names and literals of every SETTINGS clause, however deep."""
    inner = "SELECT 1 SETTINGS max_threads = 2"
    sql = f"SELECT * FROM ({inner}) SETTINGS final = 1, log_comment = 'a, (b' FORMAT CSV"
    assert screen(sql, frozenset()) == {"max_threads": "2", "final": "1", "log_comment": "'a, (b'"}
    with pytest.raises(QueryRefusedError, match="max_table_size_to_drop"):
        screen("SELECT 1 SETTINGS max_table_size_to_drop = 0", frozenset())


def test_escaping_is_tab_separated() -> None:
    """What ClickHouse expects of parameters."""
    assert escape("a\\b\tc\nd'e") == "a\\\\b\\tc\\nd\\'e"

"""The users of clickhouse/config and the roles of clickhouse/access may do their work and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from xml.etree import ElementTree

import pytest
from clickhouse_driver import Client
from clickhouse_driver.errors import ServerException

from otel_cost.errors import StoreError
from otel_cost.pricing import PriceBook
from otel_cost.store import Store, open_store
from otel_cost.store.access import role_statements
from otel_cost.store.client import READ_ONLY, WRITE
from otel_cost.store.files import named_sql, sql_root
from otel_cost.store.topology import CLUSTER_SETTINGS, SINGLE, Topology
from tests.clickhouse import spans
from tests.clickhouse.test_collector_feed import insert_like_a_collector
from tests.clickhouse.test_queries import CASES, PARAMETERS, QUERIES
from tests.clickhouse.test_store import HOSTILE
from tests.servers import clickhouse_server, with_users

USERS_FILE = Path(sql_root()) / "config" / "users.d" / "otel-cost.xml"
ROLES = ("reader", "grafana", "writer", "control")
SINCE = datetime(2026, 6, 1, tzinfo=timezone.utc)
CONFIG = """
<access_control_improvements>
    <select_from_system_db_requires_grant>true</select_from_system_db_requires_grant>
    <select_from_information_schema_requires_grant>true</select_from_information_schema_requires_grant>
</access_control_improvements>
"""
Open = Callable[[str], Store]


@pytest.fixture(scope="module")
def open_as(book: PriceBook) -> Iterator[Open]:
    """Opens the store of a server as one of the users of its config file; the control user made it."""
    with pytest.MonkeyPatch.context() as patch:
        for role in ROLES:
            patch.setenv(f"OTEL_COST_{role.upper()}_PASSWORD", f"{role}'s")
        with clickhouse_server(config=CONFIG, users=with_users(USERS_FILE)) as dsn:
            address = dsn.partition("@")[2].removesuffix("default")

            def opened(role: str, database: str = "costs") -> Store:
                user = f"otel_cost_{role}:{role}%27s" if role != "default" else "default"
                return open_store(f"clickhouse://{user}@{address}{database}")

            with opened("control") as store:
                store.migrate()
                store.push_prices(book)
            with opened("default", "secrets") as other:
                other.sql("CREATE TABLE kept (a String) ORDER BY a", fmt="Null", readonly=False)
            yield opened


@pytest.fixture(scope="module")
def filled(open_as: Open) -> None:
    """The spans of the cases, as the control user delivers them."""
    requests = [json.loads(line) for line in (CASES / "input.jsonl").read_text().splitlines()]
    with open_as("control") as store:
        spans.insert(store, requests)


@pytest.mark.parametrize("role", ["reader", "grafana", "control"])
@pytest.mark.usefixtures("filled")
def test_who_may_read_gets_every_answer(open_as: Open, role: str) -> None:
    """Every named query answers for a reader what it answers for the one who may do anything."""
    with open_as(role) as store, open_as("default") as all_mighty:
        for name in QUERIES:
            known = {"since": SINCE, "limit": 10, **PARAMETERS.get(name, {})}
            text = named_sql("queries", name)
            used = {key: value for key, value in known.items() if f"{{{key}:" in text}
            assert store.query(name, **used) == all_mighty.query(name, **used), name
        assert store.sql("SELECT 1 AS one", readonly=role == "reader") == b'{"one":1}\n'


def test_the_writer_inserts_and_reads_nothing(open_as: Open) -> None:
    """Its spans are priced by the views of the control user; it can look at none of it."""
    case = [json.loads(line) for line in (CASES / "input.jsonl").read_text().splitlines()][:1]
    with open_as("writer") as store, open_as("default") as all_mighty:
        before = int(all_mighty.sql("SELECT count() FROM otel_traces", fmt="TSV"))
        insert_like_a_collector(store, case)
        assert int(all_mighty.sql("SELECT count() FROM otel_traces", fmt="TSV")) > before
        assert int(all_mighty.sql("SELECT count() FROM charges WHERE cost_usd > 0", fmt="TSV")) > 0
        for table in ("otel_traces", "charges", "prices"):
            with pytest.raises(StoreError, match="Not enough privileges"):
                store.sql(f"SELECT * FROM {table}")
        with pytest.raises(StoreError, match="Not enough privileges"):
            store.sql("INSERT INTO charges (trace_id) VALUES ('x')", readonly=False)


OUTSIDE = [
    "SELECT * FROM secrets.kept",
    "SELECT * FROM merge('secrets', '.*')",
    "SELECT * FROM file('/etc/passwd', LineAsString)",
    "SELECT * FROM url('http://127.0.0.1:1/', LineAsString)",
    "SELECT * FROM remote('127.0.0.1', system.one)",
    "SELECT * FROM s3('http://bucket.s3.amazonaws.com/key', LineAsString)",
    "SELECT * FROM mysql('127.0.0.1:1', 'a', 'b', 'c', 'd')",
    "SELECT * FROM executable('cat', TSV, 'a String', (SELECT 1))",
    "SELECT * FROM system.users",
    "SELECT * FROM system.processes",
    "SELECT * FROM information_schema.tables",
]
CHANGES = [
    "INSERT INTO charges (trace_id) VALUES ('x')",
    "INSERT INTO otel_traces (TraceId) VALUES ('x')",
    "ALTER TABLE charges UPDATE cost_usd = 0 WHERE 1",
    "ALTER TABLE charges DROP COLUMN cost_usd",
    "TRUNCATE TABLE charges",
    "DROP TABLE charges",
    "DROP DATABASE costs",
    "CREATE TABLE mine (a String) ORDER BY a",
    "CREATE TEMPORARY TABLE mine (a String)",
    "CREATE VIEW mine AS SELECT 1",
    "OPTIMIZE TABLE charges FINAL",
    "SYSTEM STOP MERGES charges",
    "SYSTEM RELOAD DICTIONARY prices_dictionary",
    "SYSTEM SHUTDOWN",
    "CREATE USER me",
    "GRANT ALL ON *.* TO otel_cost_reader",
    "SET readonly = 0",
    "SET max_memory_usage = 100000000000",
    "SELECT 1 SETTINGS max_execution_time = 0",
    "KILL QUERY WHERE 1",
]


REFUSED = r"Not enough privileges|READONLY|in readonly mode|CONSTRAINT|shouldn't be|no tables satisfied"


@pytest.mark.parametrize("statement", [*OUTSIDE, *CHANGES])
@pytest.mark.parametrize("role", ["reader", "grafana"])
@pytest.mark.usefixtures("filled")
def test_a_reader_can_do_nothing_else(open_as: Open, role: str, statement: str) -> None:
    """The server refuses whatever changes something or reaches outside the store, over both protocols."""
    with open_as(role) as store, open_as("default") as all_mighty:
        before = _counts(all_mighty)
        with pytest.raises(StoreError, match=REFUSED), store.connection("test") as client:
            client.raw_query(statement)
        with pytest.raises(ServerException, match=REFUSED), _native(all_mighty, role) as native:
            native.execute(statement)
        assert _counts(all_mighty) == before


def _counts(store: Store) -> bytes:
    return store.sql("SELECT count(), sum(cost_usd) FROM charges", fmt="TSV")


def _native(store: Store, role: str) -> Client:
    port = int(store.sql("SELECT getServerPort('tcp_port')", fmt="TSV"))
    settings = {"server_side_params": True}
    return Client(
        "127.0.0.1", port, user=f"otel_cost_{role}", password=f"{role}'s", database="costs", settings=settings
    )


def test_a_reader_sees_only_the_store(open_as: Open) -> None:
    """Other databases, tables and columns are not even listed."""
    with open_as("reader") as store:
        assert (
            store.sql("SELECT DISTINCT database FROM system.tables WHERE database != 'system'", fmt="TSV")
            == b"costs\n"
        )
        assert store.sql("SELECT count() FROM system.columns WHERE database = 'secrets'", fmt="TSV") == b"0\n"
        assert b"secrets" not in store.sql("SHOW DATABASES", fmt="TSV")


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        (
            "SELECT sleepEachRow(1) FROM numbers(100) SETTINGS max_block_size = 1, max_execution_time = 1",
            "TIMEOUT_EXCEEDED",
        ),
        (
            "SELECT groupArray(repeat('x', 1000)) FROM numbers(10000000) SETTINGS max_memory_usage = 1e8",
            "MEMORY_LIMIT_EXCEEDED",
        ),
        ("SELECT number FROM numbers(2000000)", "TOO_MANY_ROWS_OR_BYTES"),
        ("SELECT repeat('x', 10000 + number % 2) FROM numbers(100000)", "TOO_MANY_ROWS_OR_BYTES"),
    ],
)
@pytest.mark.parametrize("role", ["reader", "grafana"])
def test_a_runaway_query_ends_with_a_clear_error(open_as: Open, role: str, statement: str, told: str) -> None:
    """Time, memory, rows and bytes of a result: the error names the limit, and the server goes on."""
    with open_as(role) as store:
        with pytest.raises(StoreError, match=told):
            store.sql(statement, readonly=False)
        assert store.sql("SELECT 1", fmt="TSV", readonly=False) == b"1\n"


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.usefixtures("filled")
def test_a_parameter_is_data(open_as: Open, name: str) -> None:
    """Whatever a parameter holds is compared and given back as it was, over both protocols."""
    value = HOSTILE[name]
    with open_as("reader") as store, open_as("default") as all_mighty:
        before = _counts(all_mighty)
        assert store.query("find_traces", id=value).rows == []
        answer = store.sql("SELECT {value:String} AS value, length(value) AS bytes", {"value": value})
        assert json.loads(answer) == {"value": value, "bytes": len(value.encode())}
        with _native(all_mighty, "reader") as native:
            assert native.execute("SELECT {value:String}", {"value": value}) == [(value,)]
        assert _counts(all_mighty) == before


def test_a_parameter_of_a_megabyte_is_data_or_refused(open_as: Open) -> None:
    """A server reads 128 KiB of a parameter over HTTP, and says so; the native protocol has no such limit."""
    value = "x" * 1_000_000
    with open_as("reader") as store, open_as("default") as all_mighty:
        with pytest.raises(StoreError, match=r"find_traces: .*Field value too long"):
            store.query("find_traces", id=value)
        with _native(all_mighty, "reader") as native:
            assert native.execute("SELECT {value:String}", {"value": value}) == [(value,)]


def test_the_config_file_says_what_the_sql_says() -> None:
    """Grants, settings and their bounds are the same in both, role by role."""
    users = ElementTree.parse(USERS_FILE).getroot()
    made = [re.sub(r"\s+", " ", text) for text in role_statements("costs", SINGLE)]
    for role in ROLES:
        name = f"otel_cost_{role}"
        granted = [
            text.removesuffix(f" TO {name}").replace("`", "")
            for text in made
            if text.endswith(f" TO {name}") and text.startswith("GRANT")
        ]
        assert [query.text for query in users.findall(f"roles/{name}/grants/query")] == granted
        (profile,) = [text for text in made if text.startswith(f"CREATE SETTINGS PROFILE OR REPLACE {name} ")]
        assert _settings_of_sql(profile) == _settings_of_xml(users.find(f"profiles/{name}"))


def _settings_of_sql(profile: str) -> dict[str, str]:
    """Return each setting with its bounds."""
    pairs = [
        part.partition(" = ")
        for part in profile.partition(" SETTINGS ")[2].partition(" SETTINGS ")[2].split(", ")
    ]
    return {name: value.replace("'", "") for name, _, value in pairs}


def _settings_of_xml(profile: ElementTree.Element | None) -> dict[str, str]:
    assert profile is not None
    found = {part.tag: str(part.text) for part in profile if part.tag != "constraints"}
    for bound in profile.findall("constraints/*"):
        for kind in bound:
            found[bound.tag] += f" {kind.tag.upper()}" + (f" {kind.text}" if kind.text else "")
    return found


def test_profiles_hold_what_the_store_sets() -> None:
    """Whoever connects without otel-cost works under the same settings."""
    users = ElementTree.parse(USERS_FILE).getroot()
    reader, writer = (
        _settings_of_xml(users.find(f"profiles/otel_cost_{role}")) for role in ("reader", "writer")
    )
    assert {name: reader[name].split()[0] for name in READ_ONLY} == {
        name: str(value) for name, value in READ_ONLY.items()
    }
    assert {name: reader[name] for name in CLUSTER_SETTINGS if name in reader} == {
        "distributed_product_mode": "global",
        "skip_unavailable_shards": "0",
    }
    assert {name: writer.get(name) for name in WRITE if name in writer} == {
        name: str(WRITE[name]) for name in WRITE if name in writer
    }


def test_the_sql_of_the_roles_is_valid(open_as: Open) -> None:
    """ClickHouse understands each statement; on a cluster each grant is for both databases of a node."""
    with open_as("default") as store:
        for statement in role_statements("agents-costs", Topology("main")):
            assert b"Query" in store.sql(f"EXPLAIN AST {statement}", fmt="TSV", readonly=False)
    grants = [text for text in role_statements("agents-costs", Topology("main")) if "otel_traces" in text]
    assert ["`agents-costs`" in text or "`agents-costs_local`" in text for text in grants] == [True, True]


def test_roles_are_for_servers(open_as: Open, tmp_path: Path) -> None:
    """A server that keeps no users of SQL says so, and the error what to do."""
    with (
        open_as("default") as store,
        pytest.raises(StoreError, match=r"grant: .*storage is readonly.*; give the user access_man"),
    ):
        store.grant()

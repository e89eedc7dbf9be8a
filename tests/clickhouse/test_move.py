"""A store is moved to a server whole, whatever happens on the way, and both can be read."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from otel_cost.errors import ConfigError, StoreError
from otel_cost.pricing import PriceBook
from otel_cost.server.otlp_json import flatten
from otel_cost.server.spans import Row, to_columns
from otel_cost.store import Store, migrations, move, open_store, reprice
from otel_cost.store.files import named_sql
from otel_cost.store.topology import PER_NODE, Topology, table_name
from tests.clickhouse import spans
from tests.clickhouse.calls import Call, moment
from tests.clickhouse.conftest import empty, on_every_node
from tests.clickhouse.test_delivery import said
from tests.clickhouse.test_reprice import CHEAPER
from tests.conformance import suite
from tests.servers import CLUSTER

SINCE = datetime(2020, 1, 1, tzinfo=timezone.utc)
COMMAND = "import sys; from otel_cost.cli.main import main; main()"
MADE_ANEW = {"rolling_days", "rollup_states", "anomalies", "repriced"}
"""Tables with rows that a move leaves out, because they are made from the others."""
LEFT_BEHIND = {"price_changes", "accounting_passes"}
"""Records of what was done to the old store, or by it, which stay with it."""
DROPPED = "2026-06-01", "2026-06-02"
"""Days of which only totals are left."""
DAYS, SPANS_A_DAY = 12, 400
FILL = """
INSERT INTO otel_traces (Timestamp, TraceId, SpanId, SpanName, ServiceName, SpanAttributes, StatusCode)
SELECT
    toDateTime64('2026-06-01 00:00:00', 9, 'UTC') + toIntervalDay(number % {days:UInt32}),
    lower(hex(MD5(toString(number)))),
    leftPad(lower(hex(number)), 16, '0'),
    'chat',
    'agents',
    map(
        'gen_ai.operation.name', 'chat', 'gen_ai.provider.name', 'openai',
        'gen_ai.request.model', 'gpt-4o-mini',
        'gen_ai.usage.input_tokens', toString(number)),
    'Ok'
FROM numbers({days:UInt32} * {spans:UInt32})
"""


def _rows() -> list[Row]:
    return [row for case in suite.load() for request in case.requests() for row in flatten(request).rows]


def _no_report(*_: object) -> None:
    """Say nothing."""


@pytest.fixture
def embedded(embedded_dsn: str, book: PriceBook) -> Iterator[Store]:
    """An embedded store with the spans of every case, delivered twice."""
    with open_store(embedded_dsn) as store:
        store.migrate()
        store.push_prices(book)
        empty(store)
        for _ in range(2):
            store.insert_spans(to_columns(_rows()))
        yield store


@pytest.fixture
def databases(server_dsn: str, request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """Two databases of a server that do not exist yet."""
    stem = re.sub(r"\W", "_", request.node.name)[:40]
    names = [f"{stem}_{which}" for which in ("old", "new")]
    yield [f"{server_dsn.removesuffix('costs')}{name}" for name in names]
    with open_store(server_dsn) as store:
        for name in names:
            store.sql(f"DROP DATABASE IF EXISTS {name}", fmt="Null", readonly=False)


@pytest.fixture
def sharded_dsn(cluster_dsn: str) -> Iterator[str]:
    """A database of the cluster that does not exist yet. It goes: while it is there, its views refresh."""
    dsn = f"{cluster_dsn}_moved"
    yield dsn
    with open_store(dsn) as store:
        on_every_node(store, *(f"DROP DATABASE {name}" for name in ("costs_moved", "costs_moved_local")))


def _opened(dsn: str, book: PriceBook, topology: Topology | None = None) -> Store:
    store = open_store(dsn)
    store.migrate(topology)
    store.push_prices(book)
    return store


def test_an_embedded_store_moves_to_a_server(embedded: Store, databases: list[str], book: PriceBook) -> None:
    """Every charge and execution is there, the old store is as it was, and the new one goes on from there."""
    before = said(embedded)
    with _opened(databases[1], book) as new:
        found = {table.table: table for table in move.move(embedded, new, _no_report)}
        assert found["charges"].rows == len(embedded.sql("SELECT 1 FROM charges FINAL", fmt="TSV").split())
        assert found["otel_traces"].rows == 2 * len(_rows())
        assert said(embedded) == said(new) == before
        new.insert_spans(to_columns(_rows()))
        assert said(new) == before
        assert b"move_" not in new.sql("SHOW TABLES", fmt="TSV")


@pytest.mark.slow
def test_a_store_moves_to_a_cluster(embedded: Store, sharded_dsn: str, book: PriceBook) -> None:
    """Each trace arrives on the shard where its spans go from now on."""
    with _opened(sharded_dsn, book, Topology(CLUSTER)) as new:
        move.move(embedded, new, _no_report)
        assert _summed(new) == _summed(embedded)
        new.insert_spans(to_columns(_rows()))
        assert _summed(new) == _summed(embedded)


def _summed(store: Store) -> list[Any]:
    """Return charges, executions and spending: each shard has a row of its own for what was spent there."""
    rows: list[Any] = [row for row in said(store) if "execution_id" in row]
    spent = (
        "SELECT hour, user_id, model, sum(cost_usd), sum(calls) FROM spend_hourly GROUP BY ALL ORDER BY ALL"
    )
    return [*rows, store.sql(spent, fmt="TSV")]


def _filled(dsn: str, book: PriceBook) -> Store:
    store = _opened(dsn, book)
    with store.connection("fill") as client:
        client.command(FILL, parameters={"days": DAYS, "spans": SPANS_A_DAY})
    return store


def _drop_days(store: Store) -> None:
    """Drop days as retention does, when they are rolled up."""
    store.roll()
    with store.nodes("drop") as nodes:
        for node in nodes:
            for table in ("charges", "trace_links", "otel_traces"):
                for day in DROPPED:
                    node.command(f"ALTER TABLE {table} DROP PARTITION '{day}'")


def _told(store: Store) -> list[Any]:
    """Return what all time cost in each way, and what is usual."""
    store.roll()
    names = "top_models", "top_users", "top_tools", "top_executions", "spend_by_day", "spend_by_hour"
    asked = {
        "since": moment("2026-05-25 00:00"),
        "until": moment("2026-06-15 00:00"),
        "limit": 100,
        "by": "model",
    }
    rows: list[Any] = []
    for name in names:
        used = {key: value for key, value in asked.items() if f"{{{key}:" in named_sql("queries", name)}
        rows.append(store.query(name, **used).rows)
    norms = "SELECT hour, sum(executions), sum(cost_usd) FROM baselines FINAL GROUP BY hour ORDER BY hour"
    return [*rows, store.sql(norms, fmt="TSV")]


def _check_dropped_days(old: Store, new: Store) -> None:
    """Move a store that has lost days, and compare."""
    _drop_days(old)
    before = _told(old)
    days = [row[0] for row in before[4]]
    assert len(days) == DAYS
    moved = {table.table: table for table in move.move(old, new, _no_report)}
    assert moved["spend_hours"].rows > 0
    assert _told(new) == _told(old) == before
    assert new.query("reconcile", since=SINCE).rows == []


def test_days_without_charges_keep_their_totals(databases: list[str], book: PriceBook) -> None:
    """What retention dropped is still in the totals of the new store, once, also after another move."""
    with _filled(databases[0], book) as old, _opened(databases[1], book) as new:
        _check_dropped_days(old, new)
        for part in move._partitions(old, "spend_hours"):
            move._add(old, new, part)
        assert _told(new) == _told(old)


def test_a_late_span_leaves_totals_that_were_moved(databases: list[str], book: PriceBook) -> None:
    """A span of a day whose totals came without charges makes none of them anew in the new store."""
    with _filled(databases[0], book) as old, _opened(databases[1], book) as new:
        _drop_days(old)
        move.move(old, new, _no_report)
        before = _told(new)
        late = [Call(99, number, moment(f"{day} 23:30")) for number, day in enumerate(DROPPED)]
        spans.insert(new, [call.request() for call in late])
        assert _told(new) == before


@pytest.mark.slow
def test_totals_of_days_without_charges_move_to_a_cluster(
    databases: list[str], sharded_dsn: str, book: PriceBook
) -> None:
    """The shards' totals together are those of the old store."""
    with (
        _filled(databases[0], book) as old,
        _opened(sharded_dsn, book, Topology(CLUSTER)) as new,
    ):
        _check_dropped_days(old, new)


def test_repricings_move_with_the_charges(
    embedded: Store, databases: list[str], book: PriceBook, tmp_path: Path
) -> None:
    """What a call cost before it was priced again is known in the new store, which can bring it back."""
    before = spans.charges(embedded)
    (tmp_path / "cheaper.yaml").write_text(CHEAPER)
    embedded.push_prices(PriceBook.load([tmp_path / "cheaper.yaml"]))
    done = reprice.reprice(embedded, reprice.Asked(), reason="a new contract")
    assert done.run.changed > 0
    with _opened(databases[1], book) as new:
        move.move(embedded, new, _no_report)
        assert reprice.runs(new) == reprice.runs(embedded)
        assert spans.charges(new) == spans.charges(embedded) != before
        undone = reprice.undo(new, done.run.run_id)
        assert undone.run.changed == done.run.changed
        assert _costs(spans.charges(new)) == _costs(before)


def _costs(charges: dict[Any, dict[str, Any]]) -> dict[Any, Any]:
    return {key: charge["cost_usd"] for key, charge in charges.items()}


def test_a_repricing_that_stopped_half_way_is_finished_first(
    databases: list[str], embedded: Store, book: PriceBook
) -> None:
    """The message names the run; what it had prepared would be left behind."""
    reprice._note(embedded, reprice.Run(run_id="20260601-120000-ab12", state="stopped"))
    with (
        _opened(databases[1], book) as new,
        pytest.raises(ConfigError, match="repricing 20260601-120000-ab12 stopped while it was writing"),
    ):
        move.move(embedded, new, _no_report)


@pytest.mark.parametrize("after_lines", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_a_killed_move_goes_on(databases: list[str], book: PriceBook, after_lines: int) -> None:
    """Killed between or within partitions, the same command ends with everything there, once."""
    with _filled(databases[0], book) as old:
        old.roll()
        command = [sys.executable, "-c", COMMAND, "move", "--from", databases[0], "--to", databases[1]]
        with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as first:
            assert first.stderr is not None
            for _ in range(after_lines):
                assert " rows" in first.stderr.readline()
            first.kill()
        with open_store(databases[1]) as new:
            assert new.query("top_models", since=SINCE, limit=10) != old.query(
                "top_models", since=SINCE, limit=10
            )
        second = subprocess.run(command, capture_output=True, text=True, check=False)
        assert second.returncode == 0, second.stderr
        assert f"charges: {DAYS * SPANS_A_DAY:,} rows in {DAYS} partitions" in second.stdout
        with open_store(databases[1]) as new:
            new.roll()
            assert new.query("top_models", since=SINCE, limit=10) == old.query(
                "top_models", since=SINCE, limit=10
            )
            count = "SELECT count() FROM otel_traces"
            assert int(new.sql(count, fmt="TSV")) == int(old.sql(count, fmt="TSV")) == DAYS * SPANS_A_DAY


def test_what_is_written_meanwhile_is_noticed(databases: list[str], book: PriceBook) -> None:
    """A span that came after its partition was copied is not lost silently; moving again takes it.

    Also into the totals, which the new store has made by then of what it had.
    """
    with _filled(databases[0], book) as old, _opened(databases[1], book) as new:
        written = []

        def write(part: move.Partition, *_: int) -> None:
            if part.table == "otel_traces" and not written:
                written.append(part)
                old.insert_spans(to_columns(_rows()))

        with pytest.raises(StoreError, match=r"differs in partition .* run the same move again"):
            move.move(old, new, write)
        new.roll()
        move.move(old, new, _no_report)
        assert said(new) == said(old)


def test_a_target_that_holds_something_is_refused(
    databases: list[str], embedded: Store, book: PriceBook
) -> None:
    """Another store's rows are neither mixed with these nor overwritten, nor is half of another move."""
    with _filled(databases[0], book) as full, _opened(databases[1], book) as new:
        before = said(full)
        with pytest.raises(
            ConfigError, match=r"is not empty \(otel_traces_trace_id_ts, .*nothing was written to"
        ):
            move.move(embedded, full, _no_report)
        assert said(full) == before
        move._begin(full, new)
        with pytest.raises(ConfigError, match="holds a part of another store"):
            move.move(embedded, new, _no_report)


def test_a_store_moves_to_servers_only(embedded: Store, databases: list[str], book: PriceBook) -> None:
    """The message says what to write."""
    with (
        _filled(databases[0], book) as old,
        pytest.raises(ConfigError, match="no ClickHouse server; move to click"),
    ):
        move.move(old, embedded, _no_report)


def test_every_table_is_moved_or_made_anew() -> None:
    """A table that a migration adds is copied, or named as one that is written or made elsewhere."""
    tables = {table_name(statement) for statement in migrations.tables() if "MergeTree" in statement}
    assert tables - PER_NODE - MADE_ANEW - LEFT_BEHIND == {*move.MOVED, *move.TOTALS}

"""A cluster of shards shows the same as one server, and says so when a shard is gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_cost.errors import ConfigError, StoreError
from otel_cost.pricing import PriceBook
from otel_cost.server.otlp_json import flatten
from otel_cost.server.spans import to_columns
from otel_cost.store import Store, cluster, open_store
from otel_cost.store.dsn import Server
from otel_cost.store.topology import Topology
from tests.clickhouse import spans
from tests.clickhouse.conftest import empty, migrated_store, on_every_node, set_refreshing
from tests.clickhouse.test_collector_feed import insert_like_a_collector
from tests.clickhouse.test_migrations import own_files
from tests.conformance import suite
from tests.servers import CLUSTER, REPLICAS, clickhouse_cluster, stop

__all__ = ["own_files"]
TABLES = ("otel_traces", "charges", "trace_links")
EVERYWHERE = """
SELECT trace_id, uniqExact(_shard_num) AS shards, any(_shard_num) AS shard
FROM {table:Identifier}
GROUP BY trace_id
"""


@pytest.fixture
def store(request: pytest.FixtureRequest, book: PriceBook) -> Iterator[Store]:
    """A store on two shards, without spans."""
    with migrated_store(request, "cluster", book) as opened:
        set_refreshing(opened, "STOP")
        empty(opened)
        yield opened


def _all_cases(store: Store) -> None:
    rows = [row for case in suite.load() for request in case.requests() for row in flatten(request).rows]
    store.insert_spans(to_columns(rows))


def test_a_trace_is_on_one_shard(store: Store) -> None:
    """Spans, charges and links of a trace are together, and the traces are on both shards."""
    _all_cases(store)
    shards: dict[str, str] = {}
    for table in ("charges", "trace_links"):
        answer = store.sql(EVERYWHERE, {"table": table}, fmt="TSV").decode()
        for trace_id, count, shard in map(str.split, answer.splitlines()):
            assert count == "1"
            assert shards.setdefault(trace_id, shard) == shard
    assert set(shards.values()) == {"1", "2"}


def test_records_of_one_response_on_two_shards_count_once(store: Store) -> None:
    """Two instrumentations put a call into traces of their own; the shards find out by themselves."""
    traces = _traces_on_both_shards(store)
    call = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.response.id": "resp-1",
        "gen_ai.usage.input_tokens": "1000",
    }
    at = (spans.STARTED_NS, spans.STARTED_NS + 10**9)
    for number, trace_id in enumerate(traces, 1):
        insert_like_a_collector(store, [spans._request("app", trace_id, f"{number:016x}", at, call)])
    assert sum(row["counted"] for row in spans.charges(store).values()) == 2
    for verb in ("START", "REFRESH", "WAIT", "STOP"):
        on_every_node(store, f"SYSTEM {verb} VIEW refresh_accounts")
    counted = [row["counted"] for row in spans.charges(store).values()]
    assert sorted(counted) == [False, True]


def _traces_on_both_shards(store: Store) -> list[str]:
    """Return two trace ids that are kept on different shards."""
    found: dict[str, str] = {}
    for number in range(1, 20):
        trace_id = f"{number:032x}"
        answer = store.sql("SELECT cityHash64({id:String}) % 2", {"id": trace_id}, fmt="TSV")
        found.setdefault(answer.decode(), trace_id)
    assert len(found) == 2
    return list(found.values())


def test_the_topology_is_found_again(store: Store) -> None:
    """Who opens the store need not know that it is a cluster's, and it does not become another."""
    with open_store(_dsn(store)) as again:
        assert again.topology == Topology(CLUSTER)
        assert again.migrate() == again.pending() == []
        with pytest.raises(ConfigError, match=r"is a database of cluster 'costs'.* cannot become"):
            again.migrate(Topology(CLUSTER, is_replicated=True))


def test_a_cluster_nobody_knows_is_named(server_dsn: str) -> None:
    """The error says which clusters the server knows, and nothing was made."""
    with open_store(server_dsn.removesuffix("costs") + "nowhere") as store:
        with pytest.raises(ConfigError, match=r"knows no cluster 'costs', only .*remote_servers"):
            store.migrate(Topology("costs"))
        assert store.is_empty()


def test_one_replica_of_each_shard_is_worked_on(store: Store) -> None:
    """What is written into one replica is on the others by itself; each shard needs its own."""
    assert isinstance(store.place, Server)
    with store.connection("test") as client:
        for name, shards in ((CLUSTER, 2), (REPLICAS, 1)):
            nodes = cluster.find_nodes(client, store.place, name)
            assert len(nodes) == 2
            places = cluster.first_replicas(nodes)
            assert places == [place for _, place in nodes][:shards]


def test_a_new_column_shows_on_all_shards(store: Store, own_files: Path) -> None:
    """A migration that adds a column of charges adds it to the table of all shards too, once on each node."""
    _all_cases(store)
    before = store.sql("SELECT count() FROM charges FINAL", fmt="TSV")
    added = own_files / "migrations" / "9999_extend_charges.sql"
    added.write_text("ALTER TABLE charges ADD COLUMN IF NOT EXISTS colour String DEFAULT 'red'")
    with open_store(f"{_dsn(store)}_two") as other:
        other.migrate(Topology(CLUSTER))
        answer = other.sql(
            "SELECT name FROM system.columns WHERE database = currentDatabase()"
            " AND table = 'charges' AND name = 'colour'",
            fmt="TSV",
        )
        assert answer == b"colour\n"
    assert store.sql("SELECT count() FROM charges FINAL", fmt="TSV") == before


def test_prices_are_on_every_node(store: Store) -> None:
    """Each node prices the spans it gets, so each has the whole book, and no row of it shows twice."""
    books = "SELECT count() FROM clusterAllReplicas({cluster:String}, {database:Identifier}, prices)"
    database = f"{store.place.database}_local"
    everywhere = int(store.sql(books, {"cluster": CLUSTER, "database": database}, fmt="TSV"))
    assert everywhere == 2 * int(store.sql("SELECT count() FROM prices", fmt="TSV")) > 100


def _dsn(store: Store) -> str:
    return f"clickhouse://default@{store.place.host}:{store.place.port}/{store.place.database}"


@pytest.mark.slow
def test_a_shard_that_is_gone_is_an_error(book: PriceBook) -> None:
    """A total without a shard would be wrong, so there is none; a batch for it is not acknowledged either."""
    with clickhouse_cluster() as running, open_store(f"{running.dsn.removesuffix('default')}costs") as store:
        store.migrate(Topology(CLUSTER))
        store.push_prices(book)
        _all_cases(store)
        stop(running.processes[1])
        with pytest.raises(StoreError, match=r"top_models: .*(connect|refused|ALL_CONNECTION_TRIES_FAILED)"):
            store.query("top_models", since="2020-01-01 00:00:00", limit=10)
        with pytest.raises(StoreError, match="insert_spans: "):
            _all_cases(store)


@pytest.mark.parametrize("replicated", [False, True])
def test_the_ddl_of_every_topology_is_valid(store: Store, replicated: bool) -> None:
    """ClickHouse understands each statement with ON CLUSTER and, where asked for, Replicated engines."""
    statements = list(cluster.script("agents-costs", Topology("main", replicated)))
    assert sum("ENGINE = Distributed('main', 'agents-costs_local', '" in made for made in statements) == 19
    for statement in statements:
        if not statement.startswith("USE "):
            assert "ON CLUSTER `main`" in statement.splitlines()[0], statement
            tree = store.sql(f"EXPLAIN AST {statement}", fmt="TSV").decode()
            assert tree.startswith(("CreateQuery", "AlterQuery"))
    engines = [made for made in statements if "MergeTree" in made]
    path = "MergeTree('/clickhouse/tables/{database}/{table}/{shard}', '{replica}'"
    assert sum(
        f"Replicated{kind}{path}" in made for made in engines for kind in ("", "Replacing", "Aggregating")
    ) == (18 if replicated else 0)

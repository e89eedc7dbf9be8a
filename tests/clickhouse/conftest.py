"""A store with tables and prices: embedded, on a real server, and on a cluster of two shards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from otel_cost.pricing import PriceBook
from otel_cost.store import Store, anomalies, open_store
from otel_cost.store.dsn import Server
from otel_cost.store.files import sql_files
from otel_cost.store.move import TOTALS
from otel_cost.store.rollups import view_name
from otel_cost.store.topology import Topology
from tests.servers import CLUSTER, Cluster, clickhouse_cluster, clickhouse_server, refreshing
from tests.stores import embedded
from tests.waiting import until

SPANS = ("otel_traces", "otel_traces_trace_id_ts", "charges", "trace_links", "decisions")
PASSES = ("accounting_passes",)
REPRICINGS = ("repricings", "repricing_runs")
ROLLUPS = ("rolling_days", "rollup_states", *TOTALS, "anomalies")
KINDS = {"chdb": "embedded_dsn", "server": "server_dsn", "cluster": "cluster_dsn"}
"""Each kind of store, and the fixture that says where one is."""


IN_EVERY_RUN = (
    "test_queries",
    "test_decisions",
    "test_executions",
    "test_native",
    "test_cluster",
)
"""Modules whose tests on a cluster are not left to the slow matrix."""
SLOW_ON_A_SERVER = ("test_reprice", "test_anomalies", "test_rollups")
"""Modules that take minutes on a server, and run the same statements on the embedded engine every time."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave what takes long on a cluster or a server to the slow matrix."""
    for item in items:
        if "[server" in item.name and item.path.stem in SLOW_ON_A_SERVER:
            item.add_marker(pytest.mark.slow)
        if "[cluster" in item.name and item.path.stem not in IN_EVERY_RUN:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def running_server() -> Iterator[str]:
    """A ClickHouse server, one for the whole run."""
    with clickhouse_server() as dsn:
        yield dsn


@pytest.fixture(scope="module")
def server_dsn(running_server: str) -> Iterator[str]:
    """A database of the server. What refreshes there rests while other modules run."""
    with refreshing(running_server):
        yield f"{running_server.removesuffix('default')}costs"


@pytest.fixture(scope="session")
def running_cluster() -> Iterator[Cluster]:
    """A cluster of two shards, one for the whole run."""
    with clickhouse_cluster() as running:
        yield running


@pytest.fixture(scope="module")
def cluster_dsn(running_cluster: Cluster) -> Iterator[str]:
    """A database of the cluster. What refreshes there rests while other modules run."""
    with refreshing(*running_cluster.dsns):
        yield f"{running_cluster.dsn.removesuffix('default')}costs"


@pytest.fixture(scope="session")
def embedded_dsn(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where an embedded store may be; one process opens one at a time."""
    return embedded(tmp_path_factory.mktemp("store") / "store")


@pytest.fixture(scope="session")
def book() -> PriceBook:
    """The price book that ships with the package."""
    return PriceBook.load()


@pytest.fixture(scope="module", params=list(KINDS))
def opened_store(request: pytest.FixtureRequest, book: PriceBook) -> Iterator[Store]:
    """A store of each kind, migrated and with prices."""
    with migrated_store(request, request.param, book) as store:
        set_refreshing(store, "STOP")
        yield store


@contextmanager
def migrated_store(request: pytest.FixtureRequest, kind: str, book: PriceBook) -> Iterator[Store]:
    """Open a store of a kind, with its tables and prices in place."""
    with open_store(request.getfixturevalue(KINDS[kind])) as store:
        store.migrate(Topology(CLUSTER) if kind == "cluster" else None)
        store.push_prices(book)
        yield store


@pytest.fixture
def store(opened_store: Store) -> Store:
    """A store without spans."""
    empty(opened_store)
    return opened_store


def set_refreshing(store: Store, verb: str) -> None:
    """STOP or START a server's periodic pass: it may write what one test left into the tables of the next."""
    _refreshing(store, verb, "refresh_accounts", "note_accounts")
    if verb == "STOP" and isinstance(store.place, Server):
        until(lambda: not _is_passing(store))


def _is_passing(store: Store) -> bool:
    """Whether a pass that was told to stop still works."""
    running = (
        "SELECT count() FROM system.view_refreshes"
        " WHERE database = currentDatabase() AND view = 'refresh_accounts' AND status = 'Running'"
    )
    with store.nodes("test") as clients:
        return any(client.command(running) for client in clients)


def _refreshing(store: Store, verb: str, *views: str) -> None:
    if isinstance(store.place, Server):
        on_every_node(store, *(f"SYSTEM {verb} VIEW {view}" for view in views))


def empty(store: Store) -> None:
    """Forget every span, what was added up of them, and what became of prices."""
    set_finding(store, "WAIT")
    rolling = [view_name(path) for path in sql_files("rollups")]
    _refreshing(store, "STOP", *rolling)
    on_every_node(store, *(f"TRUNCATE TABLE {table}" for table in (*SPANS, *PASSES, *REPRICINGS, *ROLLUPS)))
    _refreshing(store, "START", *rolling)


def set_finding(store: Store, verb: str) -> None:
    """STOP or START a server's periodic look for what is unusual, or WAIT until one has ended."""
    if isinstance(store.place, Server):
        with store.connection("finding") as client:
            for path in sql_files("findings"):
                client.command(f"SYSTEM {verb} VIEW {anomalies.view_name(path)}")


def on_every_node(store: Store, *statements: str) -> None:
    """Run statements where the tables are: in the store, or in the database of each node of a cluster."""
    with store.nodes("test") as clients:
        for statement in statements:
            for client in clients:
                client.command(statement)

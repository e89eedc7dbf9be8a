"""A store with tables and prices, embedded and on a real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from otel_cost.pricing import PriceBook
from otel_cost.store import Store, open_store
from otel_cost.store.dsn import Server
from otel_cost.store.files import sql_files
from otel_cost.store.rollups import view_name
from tests.servers import clickhouse_server

SPANS = ("otel_traces", "otel_traces_trace_id_ts", "charges", "trace_links", "decisions")
ROLLUPS = (
    "rolling_days",
    "rollup_states",
    "spend_hours",
    "spend_days",
    "user_spend_days",
    "execution_days",
)


@pytest.fixture(scope="session")
def server_dsn() -> Iterator[str]:
    """A database of a ClickHouse server, one for the whole run."""
    with clickhouse_server() as dsn:
        yield f"{dsn.removesuffix('default')}costs"


@pytest.fixture(scope="session")
def embedded_dsn(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where an embedded store may be; one process opens one at a time."""
    pytest.importorskip("chdb")
    return f"chdb://{tmp_path_factory.mktemp('store').resolve()}"


@pytest.fixture(scope="session")
def book() -> PriceBook:
    """The price book that ships with the package."""
    return PriceBook.load()


@pytest.fixture(scope="module", params=["chdb", "server"])
def opened_store(request: pytest.FixtureRequest, book: PriceBook) -> Iterator[Store]:
    """A store of either kind, migrated and with prices."""
    dsn = request.getfixturevalue("embedded_dsn" if request.param == "chdb" else "server_dsn")
    with open_store(dsn) as store:
        store.migrate()
        store.push_prices(book)
        set_refreshing(store, "STOP")
        yield store


@pytest.fixture
def store(opened_store: Store) -> Store:
    """A store without spans."""
    empty(opened_store)
    return opened_store


def set_refreshing(store: Store, verb: str) -> None:
    """STOP or START a server's periodic pass: it may write what one test left into the tables of the next."""
    _refreshing(store, verb, "refresh_accounts")


def _refreshing(store: Store, verb: str, *views: str) -> None:
    if isinstance(store.place, Server):
        with store._statement("refreshing") as client:
            for view in views:
                client.command(f"SYSTEM {verb} VIEW {view}")


def empty(store: Store) -> None:
    """Forget every span and what was added up of them."""
    rolling = [view_name(path) for path in sql_files("rollups")]
    _refreshing(store, "STOP", *rolling)
    for table in (*SPANS, *ROLLUPS):
        store.sql(f"TRUNCATE TABLE {table}", fmt="Null", readonly=False)
    _refreshing(store, "START", *rolling)

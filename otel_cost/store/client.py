"""Open a ClickHouse, embedded or remote, and ask it things by name."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import zstandard

from otel_cost.errors import ConfigError, StoreBusyError, StoreError
from otel_cost.store import access, anomalies, cluster, migrations, prices, retention, rollups
from otel_cost.store import policy as warehouse_policy
from otel_cost.store.connection import SETTINGS, connect_and_create, short
from otel_cost.store.dsn import (
    VARIABLE,
    Embedded,
    Server,
    default_dsn,
    is_locked,
    make_directory,
    parse_dsn,
    served_by,
)
from otel_cost.store.files import named_sql, statements
from otel_cost.store.reader import Reader, escape, open_reader
from otel_cost.store.screen import QueryRefusedError
from otel_cost.store.spans import SPAN_COLUMNS, Packed, pack
from otel_cost.store.topology import (
    CLUSTER_SETTINGS,
    NO_SETTINGS,
    SINGLE,
    Topology,
    check_change,
    find_topology,
)

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

    from otel_cost.budgets import Policy
    from otel_cost.pricing import PriceBook
    from otel_cost.store.price_changes import BookChange

TRACES_PER_PASS = 2_000
"""Traces looked at by one accounting statement; bounds its memory and the length of its parameter."""

READ_ONLY = {
    "readonly": 2,
    "max_execution_time": 60,
    "max_result_rows": 1_000_000,
    "max_memory_usage": 4_000_000_000,
    "result_overflow_mode": "throw",
}
"""What a person's own statement may do: read, for a minute, a million rows."""

WRITE = {
    "short_circuit_function_evaluation": "disable",
    "query_plan_enable_optimizations": 0,
    "optimize_and_compare_chain": 0,
    "compile_expressions": 0,
    "max_partitions_per_insert_block": 0,
    "materialized_views_ignore_errors": 0,
    "max_recursive_cte_evaluation_depth": 1_001,
}
"""Settings of an insert.

The views are long plain expressions, which ClickHouse makes slow by optimising them: ten times for a hundred
spans. A file of old spans may touch any number of days.
"""


@dataclass(frozen=True, slots=True)
class Result:
    """The answer of a named query: column names, and rows of typed values (money is `Decimal`)."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]

    def dicts(self) -> list[dict[str, Any]]:
        """Return the rows as one mapping each, keyed by column name."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


class Store:
    """One database of spans and charges. Use it from several threads; statements run one at a time.

    Attributes:
        place: Where it is, fit for a message: a directory, or a server without its password.
    """

    def __init__(self, client: Client, place: Embedded | Server) -> None:
        self.place = place
        self._client: Client | None = client
        self._lock = threading.Lock()
        self._is_rolled = self._is_found = False
        self.topology = SINGLE
        if isinstance(place, Server) and not self.is_served:
            with self.connection("find_topology") as opened:
                self._spread(opened, find_topology(opened))

    def _spread(self, client: Client, topology: Topology) -> None:
        """Note how the database is spread, and tell the connection what that asks for."""
        self.topology = topology
        for name, value in self.settings.items():
            client.set_client_setting(name, value)

    @property
    def is_served(self) -> bool:
        """Whether it is reached through the `otel-cost up` that has it open."""
        return isinstance(self.place, Server) and bool(self.place.proxy_path)

    @property
    def settings(self) -> Mapping[str, str | int]:
        """Settings that statements on this store need, beside those every connection has."""
        return CLUSTER_SETTINGS if self.topology.cluster else NO_SETTINGS

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def migrate(self, topology: Topology | None = None) -> list[str]:
        """Create or upgrade the tables and views. Returns the names of what was applied.

        Args:
            topology: How an empty server is to be used. Default: as it is used now.

        Raises:
            ConfigError: The store is used otherwise already, or the server knows no such cluster.
            StoreError: A released migration was edited, or a statement was refused.
        """
        with self.connection("migrate") as client:
            if topology and topology != self.topology:
                check_change(self.topology, topology, self.place, is_empty=not migrations.has_history(client))
                self._spread(client, topology)
            if isinstance(self.place, Server) and self.topology.cluster:
                return cluster.migrate(client, self.place, self.topology)
            return migrations.apply(client, self.place, self.topology)

    def pending(self) -> list[str]:
        """Return the migrations and views that `migrate` would apply."""
        with self.connection("pending") as client:
            if isinstance(self.place, Server) and self.topology.cluster:
                return cluster.pending(client, self.place, self.topology)
            return migrations.pending(client, self.place, self.topology)

    def grant(self) -> list[str]:
        """Make or change the roles of clickhouse/access for this store. Returns the names of their files.

        Raises:
            ConfigError: The store is embedded, and has no users.
            StoreError: The user may not, or the server's users are in config files.
        """
        if not isinstance(self.place, Server) or self.is_served:
            raise ConfigError(f"{self.place} has no users; roles are for a ClickHouse server")
        with self.connection("grant") as client:
            return access.grant(client, self.place, self.topology)

    def retain(self, days: Mapping[str, int]) -> list[str]:
        """Set how many days tables keep their rows, 0 for ever. Returns the tables that changed.

        Args:
            days: By the names of clickhouse/retention, as `retention.parse` gives them.
        """
        with self.nodes("retain") as clients:
            return list(dict.fromkeys(name for client in clients for name in retention.apply(client, days)))

    def is_empty(self) -> bool:
        """Whether no migration was ever applied here."""
        with self.connection("is_empty") as client:
            return not migrations.has_history(client)

    def insert_spans(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Store a batch of spans, price them and decide which count. On return they are on disk.

        One insert per call, whatever its size: some thousand spans a call are best, one costs nearly as much
        as a thousand. Delivering a batch again is harmless: it heals a batch that a crash left half written.

        Args:
            columns: Every column of `SPAN_COLUMNS`, sequences of one length:

                - Timestamp: start, `int` nanoseconds since the epoch; Duration: `int` nanoseconds, 0 or more
                - TraceId (32), SpanId (16), ParentSpanId (16 or empty): lower-case hexadecimal `str`
                - TraceState, SpanName, ServiceName, ScopeName, ScopeVersion, StatusMessage: `str`, empty when
                  absent
                - SpanKind: Unspecified, Internal, Server, Client, Producer or Consumer
                - StatusCode: Unset, Ok or Error
                - ResourceAttributes, SpanAttributes: `dict[str, str]`; values as the Collector writes them
                  (`true`, `12`, `0.5`, JSON for arrays and maps, base64 for bytes)
                - Events.Timestamp: list of `int` nanoseconds; Events.Name: list of `str`; Events.Attributes:
                  list of `dict[str, str]`; the three lists of a span have one length
                - Links.TraceId, Links.SpanId, Links.TraceState: list of `str`; Links.Attributes: list of dict

        Raises:
            StoreError: The store refused the batch. Nothing is acknowledged; send it again.
        """
        self.insert_packed([pack(columns)])

    def insert_packed(self, parts: Sequence[Packed]) -> None:
        """Store packed spans in one insert, otherwise as `insert_spans` does.

        Raises:
            StoreError: The store refused them. Nothing is acknowledged; send them again.
        """
        block = b"".join(part.block for part in parts)
        if not block:
            return
        is_far = isinstance(self.place, Server)
        with self.connection("insert_spans") as client:
            self._is_rolled = False
            client.raw_insert(
                "otel_traces",
                column_names=list(SPAN_COLUMNS),
                insert_block=zstandard.compress(block, 1) if is_far else block,
                settings={"log_comment": "insert_spans", **WRITE},
                fmt="Native",
                compression="zstd" if is_far else None,
            )
        self.account(chain.from_iterable(part.trace_ids for part in parts))

    def account(self, trace_ids: Iterable[str]) -> None:
        """Decide again which spans of these traces count. Running it twice changes nothing.

        Traces that hold another record of one of their responses are decided with them.
        """
        for part in self.to_account(trace_ids):
            self.run("account_traces", **part)

    def to_account(self, trace_ids: Iterable[str]) -> Iterator[dict[str, Any]]:
        """Yield the parameters of `account_traces`, pass by pass.

        They are the traces to decide together (`trace_ids`), others to look at for it (`rivals`), and between
        which days all their spans are (`first_day`, `last_day`): a pass does not grow with the history.
        """
        remaining = iter(sorted(set(trace_ids)))
        while some := list(islice(remaining, TRACES_PER_PASS)):
            days = self._days(some)
            near = self._traces("related_traces", some, days)
            touched = [*some, *near] if near else self._traces("traces_to_account", some, days)
            if near:
                days = self._days(touched)
            if touched:
                rivals = self._traces("related_traces", touched, days) if near else []
                yield {"trace_ids": touched, "rivals": rivals, **days}

    def _days(self, trace_ids: list[str]) -> dict[str, Any]:
        (days,) = self.ask("trace_days", trace_ids=trace_ids).dicts()
        return days

    def _traces(self, query: str, trace_ids: list[str], days: Mapping[str, Any]) -> list[str]:
        return [row[0] for row in self.ask(query, trace_ids=trace_ids, **days).rows]

    def roll(self) -> None:
        """Bring the rollups up to date with everything inserted so far. Running it twice changes nothing.

        An embedded store does so by itself before it answers; a server every few seconds.

        Raises:
            StoreError: The store refused it, or a server did not come to an end.
        """
        if self.is_served:
            return  # the process that serves the store does it
        with self.nodes("roll") as clients:
            self._is_rolled = True
            try:
                if sum(rollups.roll(client, self.place) for client in clients):
                    self._is_found = False
            except BaseException:
                self._is_rolled = False
                raise

    def forget_rollups(self) -> None:
        """Have the next `roll` make the totals of every day anew, whatever their state."""
        with self.nodes("forget_rollups") as clients:
            self._is_rolled = False
            for client in clients:
                rollups.forget(client)

    def stale_days(self) -> list[str]:
        """Return the days that got spans since they were rolled up, the earliest first."""
        with self.nodes("stale_days") as clients:
            return sorted({day for client in clients for day in rollups.stale_days(client)})

    def find_anomalies(self) -> None:
        """Note what is unusual as of the rollups, and what is so no longer. Running it twice changes nothing.

        An embedded store does so by itself before it is asked for anomalies; a server once a minute.

        Raises:
            StoreError: The store refused it.
        """
        if self.is_served:
            return  # the process that serves the store does it
        with self.connection("find_anomalies") as client:
            if isinstance(self.place, Server) and self.topology.cluster:
                cluster.find_anomalies(client, self.place, self.topology)
            else:
                anomalies.find(client, self.place)
            self._is_found = True

    def catch_up(self, asked: str = "") -> None:
        """Roll up what was inserted since, where nobody else does: in an embedded store.

        Args:
            asked: The statement that is asked next. Looking for anomalies takes a while, so it is done only
                before one that reads them.
        """
        if not isinstance(self.place, Embedded):
            return
        if not self._is_rolled:
            self.roll()
        if not self._is_found and anomalies.is_about(asked):
            self.find_anomalies()

    def query(self, name: str, **params: Any) -> Result:
        """Run the named query `queries/<name>.sql` with typed server-side parameters.

        Raises:
            ConfigError: There is no query of that name.
            StoreError: The store refused it.
        """
        self.catch_up(named_sql("queries", name))
        return self.ask(name, **params)

    def ask(self, name: str, **params: Any) -> Result:
        """Run a named query that reads no rollup, as `query` does, without bringing them up to date first."""
        (statement,) = statements(named_sql("queries", name))
        with self.connection(name) as client:
            result = client.query(statement, parameters=params, settings={"log_comment": name})
        return Result(tuple(result.column_names), [tuple(row) for row in result.result_rows])

    def sql(
        self,
        text: str,
        params: Mapping[str, Any] | None = None,
        fmt: str = "JSONEachRow",
        *,
        readonly: bool = True,
    ) -> bytes:
        """Run any one statement and return its output in a ClickHouse format.

        Args:
            readonly: Refuse statements that change anything, and bound time, memory and rows.

        Raises:
            StoreError: The store refused it.
        """
        if readonly:
            self.catch_up(text)
        if readonly and isinstance(self.place, Embedded):
            return self._read(text, params or {}, fmt)
        settings = {"log_comment": "sql", **(READ_ONLY if readonly else {})}
        with self.connection("sql") as client:
            self._is_rolled = self._is_rolled and readonly
            return client.raw_query(text, parameters=dict(params or {}), settings=settings, fmt=fmt)

    def _read(self, text: str, params: Mapping[str, Any], fmt: str) -> bytes:
        """Read on a connection of its own: an embedded one that is read only once is so for good."""
        self._check_open()
        try:
            plain = {
                name: escape(value) if isinstance(value, str) else str(value)
                for name, value in params.items()
            }
            return self._reader.answer(text, params=plain, fmt=fmt).data
        except QueryRefusedError as error:
            raise StoreError(f"sql: {short(error)}") from error

    @cached_property
    def _reader(self) -> Reader:
        return open_reader(self.place)

    def push_prices(self, book: PriceBook, *, dry_run: bool = False) -> BookChange:
        """Replace the prices and model patterns by those of a price book, when they differ.

        Spans that come from then on are priced by it. What was there is kept in `price_changes`.

        Args:
            dry_run: Change nothing, and return what would change.
        """
        with self.connection("push_prices") as client:
            if dry_run:
                return prices.compare(client, book)
            if isinstance(self.place, Server) and self.topology.cluster:
                return cluster.push_prices(client, self.place, self.topology, book)
            return prices.push(client, book)

    def push_policy(self, policy: Policy) -> None:
        """Replace budgets, clocks and where the unusual begins by those of a policy, where they differ.

        When a clock changes, days are other days: the rollups are made anew.
        """
        with self.connection("push_policy") as client:
            self._is_rolled = self._is_found = False
            if isinstance(self.place, Server) and self.topology.cluster:
                cluster.push_policy(client, self.place, self.topology, policy)
            else:
                warehouse_policy.push(client, policy)

    def close(self) -> None:
        """Release the store. Closing twice is harmless."""
        with self._lock:
            client, self._client = self._client, None
            if client is not None:
                client.close()

    def run(
        self,
        name: str,
        settings: Mapping[str, Any] = WRITE,
        *,
        on_each_shard: bool = False,
        **params: Any,
    ) -> None:
        """Run the named statement `queries/<name>.sql`, which changes something, with typed parameters.

        Args:
            on_each_shard: On a cluster, run it on the tables of each shard instead of those of all: prices
                are looked up in a dictionary, which each node has of its own.

        Raises:
            ConfigError: There is no statement of that name.
            StoreError: The store refused it.
        """
        if on_each_shard:
            with self.nodes(name, one_per_shard=True) as clients:
                for client in clients:
                    self._command(client, name, settings, params)
            return
        with self.connection(name) as client:
            self._command(client, name, settings, params)

    def _command(
        self, client: Client, name: str, settings: Mapping[str, Any], params: Mapping[str, Any]
    ) -> None:
        self._is_rolled = False
        for statement in statements(named_sql("queries", name)):
            client.command(statement, parameters=dict(params), settings={"log_comment": name, **settings})

    def insert_row(self, table: str, row: Mapping[str, Any]) -> None:
        """Add one row to a table of notes, by the names of its columns."""
        with self.connection(f"insert into {table}") as client:
            client.insert(table, [list(row.values())], column_names=list(row))

    @contextmanager
    def connection(self, what: str) -> Iterator[Client]:
        """Hold the connection for a while; its errors become `StoreError`, which begins with `what`."""
        from clickhouse_connect.driver.exceptions import ClickHouseError

        with self._lock:
            try:
                yield self._check_open()
            except ClickHouseError as error:
                raise StoreError(f"{what}: {short(error)}") from error

    @contextmanager
    def nodes(self, what: str, *, one_per_shard: bool = False) -> Iterator[list[Client]]:
        """Hold a connection to the tables of each node of a cluster, or the store's own where it is none.

        Args:
            one_per_shard: Of replicas that hold the same, the one that the cluster's statements go to.
        """
        with self.connection(what) as client:
            if not isinstance(self.place, Server) or not self.topology.cluster:
                yield [client]
                return
            with cluster.opened_nodes(
                client, self.place, self.topology, one_per_shard=one_per_shard
            ) as opened:
                yield [node.own for node in opened]

    def _check_open(self) -> Client:
        if self._client is None:
            raise StoreError(f"the store at {self.place} is closed; open it again")
        return self._client


def open_store(dsn: str | None = None, *, create: bool = True) -> Store:
    """Open the store at a DSN: `chdb:///path`, `clickhouse://user:password@host:8123/database` or `clickhouses://`.

    Default: OTEL_COST_STORE, else an embedded store below the XDG data directory. An embedded store that
    `otel-cost up` serves is reached through that process.

    Args:
        create: Make the directory of an embedded store that is not there yet.

    Raises:
        ConfigError: The DSN cannot be understood, or the directory not be made, or is not there.
        StoreBusyError: Another process owns the embedded store.
        StoreError: The server cannot be reached.
    """
    place = parse_dsn(dsn or default_dsn())
    if isinstance(place, Embedded):
        owner = served_by(place)
        return _open_server(owner) if owner else _open_embedded(place, create=create)
    return _open_server(place)


def _open_embedded(place: Embedded, *, create: bool) -> Store:
    import clickhouse_connect
    from clickhouse_connect.driver.exceptions import ClickHouseError

    if "chdb" not in sys.modules and is_locked(place):  # a lock of our own would look the same
        raise _busy(place)
    if not create and not os.path.lexists(place.path):
        raise nothing_at(place)
    make_directory(place)
    try:
        client = clickhouse_connect.get_client(dsn=f"chdb://{place.path}", settings=SETTINGS)
    except (ClickHouseError, RuntimeError) as error:
        if is_locked(place):
            raise _busy(place) from error
        raise StoreError(f"cannot open {place}: {short(error)}") from error
    return Store(client, place)


def nothing_at(place: Embedded | Server) -> ConfigError:
    """Return the error of who looks for spans where there are none."""
    return ConfigError(
        f"there is nothing at {place} yet; otel-cost up or otel-cost import FILE fills it, and {VARIABLE} or "
        "--store names another place"
    )


def _busy(place: Embedded) -> StoreBusyError:
    return StoreBusyError(
        f"{place} is in use by another process; stop it, or give each process its own OTEL_COST_STORE"
    )


def _open_server(place: Server) -> Store:
    return Store(connect_and_create(place), place)

"""Bring every node of a cluster to the schema of this version, and show all of them as one database."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from otel_cost.errors import ConfigError
from otel_cost.store import anomalies, migrations, policy, prices
from otel_cost.store.connection import connect_and_create
from otel_cost.store.dsn import Server
from otel_cost.store.files import named_sql, statements
from otel_cost.store.topology import PER_NODE, SHARDING_COLUMNS, Topology, local_database, table_name

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

    from otel_cost.budgets import Policy
    from otel_cost.pricing import PriceBook
    from otel_cost.store.price_changes import BookChange


@dataclass(frozen=True, slots=True)
class Node:
    """A server of the cluster, with a connection to each of its two databases."""

    place: Server
    own: Client
    shown: Client


def migrate(client: Client, place: Server, topology: Topology) -> list[str]:
    """Apply what is new on each node and return the names, in order.

    Tables come first everywhere: the views of one node read the tables of the others.

    Raises:
        ConfigError: The servers know no such cluster.
        StoreError: A node cannot be reached, or a migration that was applied has since been edited.
    """
    applied: list[str] = []
    with opened_nodes(client, place, topology) as nodes:
        for node in nodes:
            applied += migrations.create(node.own, node.place, topology)
        for node in nodes:
            _show_tables(node, topology)
        for node in nodes:
            applied += migrations.define(node.own, node.place, topology, place.database)
            applied += migrations.define_shown(node.shown, node.place)
        applied += migrations.define_findings(nodes[0].shown, nodes[0].place, nodes[0].place.database)
    return list(dict.fromkeys(applied))


def pending(client: Client, place: Server, topology: Topology) -> list[str]:
    """Return the names of what `migrate` would do on any node, without doing it."""
    found: list[str] = []
    with opened_nodes(client, place, topology) as nodes:
        for node in nodes:
            found += migrations.pending(node.own, node.place, topology, place.database)
    return list(dict.fromkeys(found))


def push_prices(client: Client, place: Server, topology: Topology, book: PriceBook) -> BookChange:
    """Give every node the prices: each prices the spans it gets. Returns what changed."""
    changed = prices.compare(client, book)
    with opened_nodes(client, place, topology) as nodes:
        for node in nodes:
            pushed = prices.push(node.own, book)
            if pushed.changes or pushed.old_version != pushed.new_version:
                prices.reload(node.shown, prices.loaded(node.shown))
    return changed


def push_policy(client: Client, place: Server, topology: Topology, own: Policy) -> None:
    """Give every node the budgets and clocks: each rolls up the spans it has."""
    with opened_nodes(client, place, topology) as nodes:
        for node in nodes:
            if policy.push(node.own, own):
                node.shown.command("SYSTEM RELOAD DICTIONARY time_zones_dictionary")


def find_anomalies(client: Client, place: Server, topology: Topology) -> None:
    """Note what is unusual on all shards; the first node does it for all."""
    with opened_nodes(client, place, topology) as nodes:
        anomalies.find(nodes[0].shown, nodes[0].place)


def script(database: str, topology: Topology) -> Iterator[str]:
    """Yield the statements that make the tables and views on every node, for those who apply DDL themselves.

    Each is run once, on any node, which hands it on (`ON CLUSTER`). `migrate` brings the prices afterwards.
    """
    local = local_database(database)
    for name in (local, database):
        yield f"CREATE DATABASE IF NOT EXISTS {identifier(name)} ON CLUSTER {identifier(topology.cluster)}"
    tables = list(migrations.tables())
    yield f"USE {identifier(local)}"
    yield from (topology.on_cluster(topology.replicated(statement)) for statement in tables)
    yield f"USE {identifier(database)}"
    for statement in tables:
        if made := shown_table(statement, local, topology.cluster):
            yield topology.on_cluster(made)
    yield f"USE {identifier(local)}"
    yield from map(topology.on_cluster, migrations.views(topology, database))
    yield f"USE {identifier(database)}"
    yield from map(topology.on_cluster, migrations.shown_views())


@contextmanager
def opened_nodes(
    client: Client, place: Server, topology: Topology, *, one_per_shard: bool = False
) -> Iterator[list[Node]]:
    """Yield every node of the cluster, or the first replica of each shard, connected."""
    found = find_nodes(client, place, topology.cluster)
    with ExitStack() as stack:
        places = first_replicas(found) if one_per_shard else [each for _, each in found]
        yield [_open_node(each, stack) for each in places]


def first_replicas(nodes: Sequence[tuple[int, Server]]) -> list[Server]:
    """Return the first server of each shard, of nodes as `find_nodes` gives them."""
    first: dict[int, Server] = {}
    for shard, place in nodes:
        first.setdefault(shard, place)
    return list(first.values())


def find_nodes(client: Client, place: Server, cluster: str) -> list[tuple[int, Server]]:
    """Return the shard of each server of a cluster and where it is: the same user, its own host and port.

    They are by shard, and its replicas in the order of the servers' config.

    Raises:
        ConfigError: The server's config has no such cluster.
    """
    names = [str(row[0]) for row in client.query("SELECT DISTINCT cluster FROM system.clusters").result_rows]
    if cluster not in names:
        known = ", ".join(sorted(names)) or "none"
        raise ConfigError(
            f"{place!r} knows no cluster {cluster!r}, only {known}; name one of remote_servers in its config"
        )
    (statement,) = statements(named_sql("cluster/setup", "nodes"))
    rows: Sequence[Sequence[object]]
    if place.secure:
        hosts = "SELECT shard_num, host_name, 0 FROM system.clusters WHERE cluster = {cluster:String}"
        rows = client.query(hosts, parameters={"cluster": cluster}).result_rows
    else:
        rows = client.query(statement, parameters={"cluster": cluster}).result_rows
    return [
        (int(str(shard)), replace(place, host=str(host), port=int(str(port)) or place.port))
        for shard, host, port in rows
    ]


def _open_node(place: Server, stack: ExitStack) -> Node:
    shown = connect_and_create(place)
    stack.callback(shown.close)
    own_place = replace(place, database=local_database(place.database))
    own = connect_and_create(own_place)
    stack.callback(own.close)
    return Node(own_place, own, shown)


def _show_tables(node: Node, topology: Topology) -> None:
    """Make a table of all shards for each table of a node, anew where its columns changed."""
    columns, shown = _columns(node.own), _columns(node.shown)
    for statement in migrations.tables():
        table = table_name(statement)
        made = shown_table(statement, node.place.database, topology.cluster)
        if made and shown.get(table) != columns[table]:
            if table not in PER_NODE:
                node.shown.command(f"DROP TABLE IF EXISTS {table}")
            node.shown.command(made)


def _columns(client: Client) -> dict[str, list[tuple[str, ...]]]:
    """Return the columns of each table of a database."""
    rows = client.query(
        "SELECT table, name, type, default_kind, default_expression FROM system.columns"
        " WHERE database = currentDatabase() ORDER BY table, position"
    ).result_rows
    found: dict[str, list[tuple[str, ...]]] = {}
    for table, *column in rows:
        found.setdefault(str(table), []).append(tuple(str(part) for part in column))
    return found


def shown_table(statement: str, local: str, cluster: str) -> str:
    """Return the statement that shows a table of every node as one, empty where there are no rows to show.

    Args:
        statement: Makes the table on a node.
        local: The database it is in.
    """
    table = table_name(statement)
    if not table or "MergeTree" not in statement:
        return ""
    (made,) = statements(
        named_sql("cluster/setup", "per_node_table" if table in PER_NODE else "distributed_table")
    )
    key = _sharding_column(statement)
    marks = {
        "<table>": identifier(table),
        "<local>": identifier(local),
        "<cluster_name>": _text(cluster),
        "<local_name>": _text(local),
        "<table_name>": _text(table),
        "<sharding_key>": f", cityHash64({key})" if key else "",
    }
    for mark, value in marks.items():
        made = made.replace(mark, value)
    return made


def _sharding_column(statement: str) -> str:
    """Return the column that a table is spread by, empty where nobody inserts into all shards."""
    like = re.match(r"CREATE TABLE IF NOT EXISTS \w+ AS (\w+)", statement)
    if like:
        return _sharding_column(next(each for each in migrations.tables() if table_name(each) == like[1]))
    return next((name for name in SHARDING_COLUMNS if re.search(rf"^\s*{name}\s", statement, re.M)), "")


def identifier(name: str) -> str:
    """Return a name as a statement has it."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def _text(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

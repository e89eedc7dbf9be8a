"""What differs between one server, replicas of it, and a cluster of shards.

On a cluster two databases of each node belong together. `<database>_local` holds the tables of the node, and
the views and dictionaries that work on them. `<database>` shows all shards as if they were one server: a
Distributed table for each table, and the plain views over these. All spans of a trace are on one shard.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from otel_cost.errors import ConfigError

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

PER_NODE = frozenset(
    {"migrations", "prices", "model_patterns", "tool_prices", "budgets", "time_zones", "anomaly_settings"}
)
"""Tables that hold the same on every node: each node is given them, so they are not replicated."""
OF_NODE = frozenset({"accounting_passes"})
"""Tables in which a node notes what it has done itself, so they are not replicated either."""
SHARDING_COLUMNS = ("TraceId", "trace_id", "run_id")
"""What a table is spread by, the first that it has: spans of a trace are together, and notes of a run."""

REPLICA_PATH = "'/clickhouse/tables/{database}/{table}/{shard}', '{replica}'"
"""Where replicas of a table find each other in Keeper; {shard} and {replica} are macros of the server."""

NO_SETTINGS: dict[str, str | int] = {}
CLUSTER_SETTINGS: dict[str, str | int] = {
    "distributed_product_mode": "global",
    "distributed_foreground_insert": 1,
    "skip_unavailable_shards": 0,
    "parallel_distributed_insert_select": 0,
    "load_balancing": "in_order",
    "prefer_localhost_replica": 0,
}
"""Settings of a connection to a cluster.

A subquery about several shards is asked once and sent to all: traces of one response may be on two of them.
An insert is acknowledged when the shards have it, and what it selects is selected once, not by each shard.
A shard that does not answer is an error: a total without it is wrong. Of replicas the first one is asked and
written to, so that what was just written is read.
"""

_ENGINE = re.compile(r"\bENGINE = (\w*MergeTree)(?:\(([^)]*)\))?")
_TABLE = re.compile(r"CREATE TABLE IF NOT EXISTS (\w+)")
_NAMED = re.compile(
    r"^(?:CREATE(?: OR REPLACE)?|ALTER) (?:TABLE|DICTIONARY|(?:MATERIALIZED )?VIEW)"
    r"(?: IF (?:NOT )?EXISTS)? (?:\w+|`[^`]+`)"
)


@dataclass(frozen=True, slots=True)
class Topology:
    """How a database is spread over servers.

    Attributes:
        cluster: Name of the cluster in the servers' config (`remote_servers`); empty for a single server.
        is_replicated: Whether tables are Replicated, so that replicas of a shard hold the same.
    """

    cluster: str = ""
    is_replicated: bool = False

    def replicated(self, statement: str) -> str:
        """Return the statement of a migration with the engine that the table has here."""
        return _replicated(statement) if self.is_replicated else statement

    def on_cluster(self, statement: str) -> str:
        """Return a DDL statement that one node hands on to all."""
        return _NAMED.sub(lambda found: f"{found[0]} ON CLUSTER `{self.cluster}`", statement)


SINGLE = Topology()
"""An embedded store, or a server of its own."""


def table_name(statement: str) -> str:
    """Return the table that a statement makes, empty where it makes none."""
    table = _TABLE.match(statement)
    return table[1] if table else ""


def local_database(database: str) -> str:
    """Return the database of a cluster's node that holds the node's own tables."""
    return f"{database}_local"


def find_topology(client: Client) -> Topology:
    """Return how the database of a connection is spread, which its table of spans tells."""
    engines = client.query(
        "SELECT engine_full FROM system.tables WHERE database = currentDatabase() AND name = 'otel_traces'"
    ).result_rows
    engine = str(engines[0][0]) if engines else ""
    distributed = re.match(r"Distributed\('([^']+)', '([^']+)'", engine)
    if not distributed:
        return Topology(is_replicated=engine.startswith("Replicated"))
    below = client.query(
        "SELECT engine FROM system.tables WHERE database = {database:String} AND name = 'otel_traces'",
        parameters={"database": distributed[2]},
    ).result_rows
    return Topology(distributed[1], is_replicated=bool(below) and str(below[0][0]).startswith("Replicated"))


def check_change(now: Topology, asked: Topology, place: object, *, is_empty: bool) -> None:
    """Raise `ConfigError` when a store with tables is asked to become spread in another way."""
    if is_empty:
        return
    raise ConfigError(
        f"{place} is {_described(now)} already and cannot become {_described(asked)}; "
        "migrate an empty database and fill it with otel-cost move"
    )


def _described(topology: Topology) -> str:
    kind = "replicated" if topology.is_replicated else "not replicated"
    place = f"a database of cluster {topology.cluster!r}" if topology.cluster else "a single server"
    return f"{place}, {kind},"


def _replicated(statement: str) -> str:
    """Return the statement with a Replicated engine.

    ReplicatedMergeTree drops a block it had before, and what the views make of it with it, so that a batch
    that a crash left half written would not be healed by its second delivery. Its window is closed: the
    tables know repeats by key.
    """
    table = table_name(statement)
    if not table or table in PER_NODE | OF_NODE or not _ENGINE.search(statement):
        return statement
    made = _ENGINE.sub(_replicated_engine, statement)
    setting = "replicated_deduplication_window = 0"
    if re.search(r"\bSETTINGS\b", made):
        return re.sub(r"\bSETTINGS\b", f"SETTINGS {setting},", made, count=1)
    return f"{made}\nSETTINGS {setting}"


def _replicated_engine(found: re.Match[str]) -> str:
    arguments = ", ".join([REPLICA_PATH, *([found[2]] if found[2] else [])])
    return f"ENGINE = Replicated{found[1]}({arguments})"

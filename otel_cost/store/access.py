"""Who may do what: the roles of clickhouse/access, on a server whose users are made by SQL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from otel_cost.errors import StoreError
from otel_cost.store.cluster import identifier, opened_nodes
from otel_cost.store.connection import short
from otel_cost.store.dsn import Server
from otel_cost.store.files import SHOWN, named_sql, sql_files, statements
from otel_cost.store.topology import Topology, local_database

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

_NO_ROLES = ("ACCESS_STORAGE", "ACCESS_DENIED")
_REMEDY = (
    "give the user access_management, or where users are in config files "
    "copy clickhouse/config/users.d/otel-cost.xml to the server"
)


def grant(client: Client, place: Server, topology: Topology) -> list[str]:
    """Make or change every role, on every node, and return their names."""
    made = list(role_statements(place.database, topology))
    if not topology.cluster:
        _run(client, made)
    else:
        with opened_nodes(client, place, topology) as nodes:
            for node in nodes:
                _run(node.shown, made)
    return [f"access/{path.stem}" for path in sql_files("access")]


def role_statements(database: str, topology: Topology) -> Iterator[str]:
    """Yield what makes the roles: each grant once for each database of the store."""
    databases = [database, *([local_database(database)] if topology.cluster else [])]
    for path in sql_files("access"):
        for statement in statements(named_sql("access", path.stem)):
            for name in databases if SHOWN in statement else databases[:1]:
                yield statement.replace(SHOWN, identifier(name))


def _run(client: Client, made: list[str]) -> None:
    from clickhouse_connect.driver.exceptions import ClickHouseError

    try:
        for statement in made:
            client.command(statement)
    except ClickHouseError as error:
        if any(f"({code}" in str(error) for code in _NO_ROLES):
            raise StoreError(f"grant: {short(error)}; {_REMEDY}") from error
        raise

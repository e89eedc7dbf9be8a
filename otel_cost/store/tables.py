"""Small tables that are written whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client


def replace(client: Client, table: str, columns: Mapping[str, str], rows: Sequence[tuple[Any, ...]]) -> None:
    """Put rows in the place of all that a table holds. Readers see the old ones or the new ones.

    Args:
        columns: Name and ClickHouse type of each value of a row.
    """
    client.command(f"DROP TABLE IF EXISTS {table}_next")
    client.command(f"CREATE TABLE {table}_next AS {table}")
    if rows:
        names, types = list(columns), list(columns.values())
        client.insert(f"{table}_next", rows, column_names=names, column_type_names=types)
    client.command(f"EXCHANGE TABLES {table} AND {table}_next")
    client.command(f"DROP TABLE {table}_next")

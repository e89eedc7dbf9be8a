"""Connections to ClickHouse servers, with what every one of them is told."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from otel_cost.errors import StoreError
from otel_cost.store.dsn import Server

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

_MAY_NOT = ("ACCESS_DENIED", "READONLY")
"""What a server answers to who only reads or inserts."""
FINAL: dict[str, str | int] = {
    "do_not_merge_across_partitions_select_final": 1,
    "optimize_move_to_prewhere_if_final": 1,
}
"""How `FINAL` reads no more than it must.

All versions of a charge are in the partition of its day, so over a day the others need not be read: without
the first ClickHouse 26 reads every day whatever the condition on the day. They have one key, so what is asked
of the key can be asked before the rest of a row is read, which is the second.
"""
SETTINGS = {"session_timezone": "UTC", "date_time_output_format": "simple", **FINAL}
"""Settings of every connection, embedded ones too."""


def connect(place: Server) -> Client:
    """Return a connection to a database that exists.

    Raises:
        StoreError: The server cannot be reached or lets nobody in.
    """
    import clickhouse_connect
    from clickhouse_connect.driver.exceptions import ClickHouseError

    try:
        return clickhouse_connect.get_client(
            host=place.host,
            port=place.port,
            username=None if place.token else place.user,
            password=place.password,
            database=place.database,
            interface="https" if place.secure else "http",
            proxy_path=place.proxy_path,
            access_token=place.token or None,
            settings=SETTINGS,
            autogenerate_session_id=False,
        )
    except ClickHouseError as error:
        raise StoreError(f"cannot reach {place!r}: {short(error)}") from error


def connect_and_create(place: Server) -> Client:
    """Return a connection to a database, which is made where it is missing and the user may make it."""
    from clickhouse_connect.driver.exceptions import ClickHouseError

    if place.database == "default" or place.proxy_path:
        return connect(place)
    client = connect(replace(place, database="default"))
    try:
        named = {"database": place.database}
        client.command("CREATE DATABASE IF NOT EXISTS {database:Identifier}", parameters=named)
    except ClickHouseError as error:
        if not any(f"({code})" in str(error) for code in _MAY_NOT):
            raise StoreError(f"cannot make {place!r}: {short(error)}") from error
    finally:
        client.close()
    return connect(place)


def short(error: Exception) -> str:
    """Return the first lines of a driver's error: it may quote a whole statement."""
    return " ".join(str(error).split())[:600]

"""Connections to ClickHouse servers, with what every one of them is told."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from otel_cost.errors import StoreError
from otel_cost.store.dsn import VARIABLE, Server

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
        raise StoreError(f"cannot reach {place}: {_cause(error)}") from error


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
            raise StoreError(f"cannot make {place}: {_cause(error)}") from error
    finally:
        client.close()
    return connect(place)


_CAUSES = (
    ("Connection refused", "nothing listens there; start it, or correct host and port (8123, with TLS 8443)"),
    (r"resolve|Name or service|name resolution|getaddrinfo", "there is no such host; correct its name"),
    (r"timed out|Timeout", "it does not answer; correct host and port, or look at the network between"),
    (r"AUTHENTICATION_FAILED|REQUIRED_PASSWORD", "user or password is wrong; correct them in the DSN"),
    ("UNKNOWN_DATABASE", "there is no such database, and this user may not make it; correct its name"),
    (r"SSL|CERTIFICATE", "TLS fails; clickhouses:// is with TLS (8443), clickhouse:// without (8123)"),
    (
        r"BadStatusLine|RemoteDisconnected|Connection aborted|reset by peer|port 9000|HTTP/0\.9",
        "what listens there does not speak HTTP; use ClickHouse's HTTP port (8123, with TLS 8443)",
    ),
)
"""What a driver's error has in it, and what it means to a person."""


def _cause(error: Exception) -> str:
    """Return why a server could not be reached and what to do, in a few words."""
    text = short(error)
    known = (told for pattern, told in _CAUSES if re.search(pattern, text))
    return next(known, f"{text[:200]}; correct the DSN in {VARIABLE} or --store")


def short(error: Exception) -> str:
    """Return the first lines of a driver's error: it may quote a whole statement."""
    return " ".join(str(error).split())[:600]

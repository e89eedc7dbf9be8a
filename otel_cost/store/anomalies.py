"""Find what is unusual about spending: on a server once a minute, in an embedded store when asked for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from otel_cost.store.dsn import Embedded, Server
from otel_cost.store.files import sql_files, statements
from otel_cost.store.rollups import SETTINGS, parts_of

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

EVERY_S = 60
"""Seconds between two looks of a server: how long a finding may be behind the rollups."""
TARGET = "anomalies"


def find(client: Client, place: Embedded | Server) -> None:
    """Note what is unusual as of the rollups, and what is so no longer. Running it twice changes nothing.

    A server does it by its own view, and this waits for it: of two writers at once the one that saw less
    could bring back what is over.
    """
    for path in sql_files("findings"):
        if isinstance(place, Embedded):
            (statement,) = statements(path.read_text(encoding="utf-8"))
            client.command(statement, settings={"log_comment": view_name(path)})
        else:
            client.command(f"SYSTEM REFRESH VIEW {view_name(path)}")
            client.command(f"SYSTEM WAIT VIEW {view_name(path)}")


def is_about(statement: str) -> bool:
    """Whether a statement may read what was found."""
    return TARGET in statement


def view_of(path: Path, local: str = "") -> str:
    """Return the refreshable view that does on a server what a file of `findings/` does once.

    Args:
        local: Of a cluster, the database that the view's own node keeps the findings in.
    """
    table, select = parts_of(path)
    target = f"`{local}`.{table}" if local else table
    settings = f"{SETTINGS}, distributed_product_mode = 'global'" if local else SETTINGS
    return (
        f"CREATE MATERIALIZED VIEW IF NOT EXISTS {view_name(path)}\n"
        f"REFRESH EVERY {EVERY_S} SECOND APPEND\nTO {target} EMPTY\nAS\n{select}\n{settings}"
    )


def view_name(path: Path) -> str:
    """Return the name of the refreshable view: `find_anomalies` of `1_anomalies.sql`."""
    return f"find_{path.stem.partition('_')[2]}"

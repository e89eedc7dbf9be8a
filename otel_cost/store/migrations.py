"""Bring a database to the schema of this version: forward only, and any number of times."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from otel_cost.errors import StoreError
from otel_cost.store import anomalies, rollups
from otel_cost.store.dsn import Embedded, Server
from otel_cost.store.files import SHOWN, sql_files, statements, with_parts
from otel_cost.store.topology import SINGLE, Topology

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

_HISTORY = """
CREATE TABLE IF NOT EXISTS migrations
(
    name        String,
    checksum    String,
    applied_at  DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(applied_at)
ORDER BY name
"""
_RETIRED = ("link_payers",)
"""Views of earlier versions. Named, because a view without a file may be a later version's."""
_DROPPED = ""
"""Noted as the checksum of a view that was dropped."""
_MATERIALIZED = re.compile(
    r"CREATE\s+MATERIALIZED\s+VIEW\s+IF\s+NOT\s+EXISTS\s+(\w+)(.*?)\bAS\b\s+(?=SELECT|WITH)", re.S
)


def apply(client: Client, place: Embedded | Server, topology: Topology = SINGLE) -> list[str]:
    """Apply what is new to the one database of a connection and return its names, in order.

    Raises:
        StoreError: A migration that was applied has since been edited.
    """
    return [*create(client, place, topology), *define(client, place, topology)]


def create(client: Client, place: Embedded | Server, topology: Topology = SINGLE) -> list[str]:
    """Apply the migrations that are new and return their names.

    Raises:
        StoreError: A migration that was applied has since been edited.
    """
    client.command(_HISTORY)
    applied = _applied(client)
    pending = [path for path in sql_files("migrations") if not _is_applied(path, applied)]
    for path in pending:
        for statement in statements(path.read_text(encoding="utf-8")):
            client.command(topology.replicated(_with_credentials(statement, place)))
        _note(client, _key(path), _checksum(path))
    return [_key(path) for path in pending]


def define(
    client: Client, place: Embedded | Server, topology: Topology = SINGLE, database: str = ""
) -> list[str]:
    """Bring the views and dictionaries to those of this version, and return the names of those that changed.

    Where totals are made in another way than before, the next passes make those of every day anew.

    Args:
        database: Of a cluster, the one that shows all shards.
    """
    changed = _define(client, place, _views(place, topology), database)
    if isinstance(place, Server):
        _own_views(client)
    return changed


def _own_views(client: Client) -> None:
    """Have views that write do so with the rights of their maker, so that who inserts need read nothing."""
    views = client.query(
        "SELECT name FROM system.tables WHERE database = currentDatabase() AND engine = 'MaterializedView'"
        " AND NOT create_table_query LIKE '%SQL SECURITY DEFINER%'"
    ).result_rows
    for (name,) in views:
        client.command(f"ALTER TABLE {name} MODIFY SQL SECURITY DEFINER DEFINER = CURRENT_USER")


def define_shown(client: Client, place: Server) -> list[str]:
    """Bring the database that shows all shards of a cluster to the plain views of this version."""
    client.command(_HISTORY)
    return _define(client, place, [path for path in _views(place, SINGLE) if _is_shown(path)])


def define_findings(client: Client, place: Server, local: str) -> list[str]:
    """Let one node of a cluster look for what is unusual on all shards, and keep it in its own database."""
    return _define(client, place, sql_files("findings"), local)


def _define(client: Client, place: Embedded | Server, views: list[Path], database: str = "") -> list[str]:
    applied = _applied(client)
    changed = [path for path in views if applied.get(_key(path)) != _checksum(path, database)]
    for path in changed:
        for statement in statements(_text(path, database)) if _is_made(path, place) else ():
            _put_view(client, _with_credentials(statement, place), is_known=_key(path) in applied)
        if _is_rollup(path):  # before it is noted: a kill in between leaves it to the next run
            rollups.forget(client)
        _note(client, _key(path), _checksum(path, database))
    retired = _retired(applied)
    for key in retired:  # last, so that what takes its place is there already
        client.command(f"DROP VIEW IF EXISTS {key.removeprefix('views/')}")
        _note(client, key, _DROPPED)
    return [*map(_key, changed), *retired]


def pending(
    client: Client, place: Embedded | Server, topology: Topology = SINGLE, database: str = ""
) -> list[str]:
    """Return the names of what `apply` would do, without doing it."""
    applied = _applied(client) if has_history(client) else {}
    files = [*sql_files("migrations"), *_views(place, topology)]
    new = [_key(path) for path in files if applied.get(_key(path)) != _checksum(path, database)]
    return [*new, *_retired(applied)]


def _retired(applied: dict[str, str]) -> list[str]:
    """Return the views that an earlier version made and this one does without."""
    return [key for key in (f"views/{name}" for name in _RETIRED) if key in applied]


def _views(place: Embedded | Server, topology: Topology) -> list[Path]:
    """Return the files of views in the order they are made, and of rollups, which every store notes."""
    named = {path.stem: path for path in sql_files("views")}
    if _works_by_itself(place):
        named |= {path.stem: path for path in sql_files("server")}
    if topology.cluster:
        named |= {path.stem: path for path in sql_files("cluster")}
    finding = sql_files("findings") if _works_by_itself(place) and not topology.cluster else []
    return [*_by_dependency(list(named.values())), *sql_files("rollups"), *finding]


def _works_by_itself(place: Embedded | Server) -> bool:
    """Whether it is a server, which rolls up and accounts without anybody asking, for a Collector.

    A store that `otel-cost up` serves is reached like a server, and is an embedded one.
    """
    return isinstance(place, Server) and not place.proxy_path


def _is_rollup(path: Path) -> bool:
    return path.parent.name == "rollups"


def _is_made(path: Path, place: Embedded | Server) -> bool:
    """Whether a file becomes a view: an embedded store runs those of `rollups/` when somebody asks."""
    return _works_by_itself(place) or not _is_rollup(path)


def _is_shown(path: Path) -> bool:
    """Whether a file makes what only reads, and reads tables: a plain view or a dictionary."""
    (statement,) = statements(path.read_text(encoding="utf-8"))
    is_of_node = "FROM system." in statement
    return path.parent.name == "views" and statement.startswith("CREATE OR REPLACE") and not is_of_node


def tables() -> list[str]:
    """Return the statements of all migrations."""
    return [text for path in sql_files("migrations") for text in statements(path.read_text(encoding="utf-8"))]


def views(topology: Topology, database: str) -> list[str]:
    """Return the statements of the views on a node of a cluster, in order. `database` shows all shards."""
    paths = _views(Server("", 0), topology)
    return [text for path in paths for text in statements(_text(path, database))]


def shown_views() -> list[str]:
    """Return the statements of the views of the database that shows all shards of a cluster, in order."""
    paths = [path for path in _views(Server("", 0), SINGLE) if _is_shown(path)]
    return [text for path in paths for text in statements(path.read_text(encoding="utf-8"))]


def has_history(client: Client) -> bool:
    """Whether anything was ever applied here."""
    return bool(client.command("EXISTS TABLE migrations"))


def _applied(client: Client) -> dict[str, str]:
    rows = client.query("SELECT name, checksum FROM migrations FINAL").result_rows
    return {str(name): str(checksum) for name, checksum in rows if checksum != _DROPPED}


def _is_applied(path: Path, applied: dict[str, str]) -> bool:
    found = applied.get(_key(path))
    if found is not None and found != _checksum(path):
        raise StoreError(
            f"{path.name} was edited after it had been applied "
            f"(checksum {_checksum(path)[:12]}, was {found[:12]}); restore it and write a new migration"
        )
    return found is not None


def _by_dependency(views: list[Path]) -> list[Path]:
    """Order views so that each comes after those it reads."""
    names = {path.stem: path for path in views}
    ordered: list[Path] = []

    def visit(path: Path) -> None:
        if path in ordered:
            return
        text = "\n".join(statements(_text(path)))
        for name in sorted(names):
            if name != path.stem and re.search(rf"\b(?:FROM|JOIN)\s+{name}\b|'{name}'", text):
                visit(names[name])
        ordered.append(path)

    for path in views:
        visit(path)
    return ordered


def _put_view(client: Client, statement: str, *, is_known: bool) -> None:
    """Create a view, or give a live materialized one its new query without losing rows in between."""
    materialized = _MATERIALIZED.match(statement)
    if is_known and materialized and "REFRESH" not in materialized[2]:
        client.command(f"ALTER TABLE {materialized[1]} MODIFY QUERY {statement[materialized.end() :]}")
    elif is_known and materialized:
        client.command(f"DROP VIEW IF EXISTS {materialized[1]}")
        client.command(statement)
    else:
        client.command(statement)


def _with_credentials(statement: str, place: Embedded | Server) -> str:
    """Let a dictionary read its table on a server whose user has a name or a password."""
    if not isinstance(place, Server) or (place.user == "default" and not place.password):
        return statement
    user, password = (text.replace("\\", "\\\\").replace("'", "\\'") for text in (place.user, place.password))
    return statement.replace("SOURCE(CLICKHOUSE(", f"SOURCE(CLICKHOUSE(USER '{user}' PASSWORD '{password}' ")


def _note(client: Client, key: str, checksum: str) -> None:
    row = [key, checksum, datetime.now(timezone.utc)]
    client.insert("migrations", [row], column_names=["name", "checksum", "applied_at"])


def _key(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def _checksum(path: Path, database: str = "") -> str:
    return hashlib.sha256(_text(path, database).encode()).hexdigest()


def _text(path: Path, database: str = "") -> str:
    """Return a file with what it asks for put in. `database` shows all shards of a cluster."""
    if _is_rollup(path):
        return rollups.view_of(path)
    if path.parent.name == "findings":
        return anomalies.view_of(path, database)
    text = path.read_text(encoding="utf-8")
    if not database:  # the tables of a single server are all there are
        text = text.replace(f"{SHOWN}.", "")
    return with_parts(text, database, is_of_shard=path.parent.name == "cluster")

"""Bring a database to the schema of this version: forward only, and any number of times."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from otel_cost.errors import StoreError
from otel_cost.store.dsn import Embedded, Server
from otel_cost.store.files import sql_files, statements, with_parts

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


def apply(client: Client, place: Embedded | Server) -> list[str]:
    """Apply what is new and return its names, in order.

    Raises:
        StoreError: A migration that was applied has since been edited.
    """
    client.command(_HISTORY)
    applied = _applied(client)
    pending = [path for path in sql_files("migrations") if not _is_applied(path, applied)]
    changed = [path for path in _views(place) if applied.get(_key(path)) != _checksum(path)]
    for path in pending:
        for statement in statements(path.read_text(encoding="utf-8")):
            client.command(_with_credentials(statement, place))
        _note(client, _key(path), _checksum(path))
    for path in changed:
        for statement in statements(_text(path)):
            _put_view(client, _with_credentials(statement, place), is_known=_key(path) in applied)
        _note(client, _key(path), _checksum(path))
    retired = _retired(applied)
    for key in retired:  # last, so that what takes its place is there already
        client.command(f"DROP VIEW IF EXISTS {key.removeprefix('views/')}")
        _note(client, key, _DROPPED)
    return [*(_key(path) for path in pending + changed), *retired]


def pending(client: Client, place: Embedded | Server) -> list[str]:
    """Return the names of what `apply` would do, without doing it."""
    applied = _applied(client) if has_history(client) else {}
    files = [*sql_files("migrations"), *_views(place)]
    return [*(_key(path) for path in files if applied.get(_key(path)) != _checksum(path)), *_retired(applied)]


def _retired(applied: dict[str, str]) -> list[str]:
    """Return the views that an earlier version made and this one does without."""
    return [key for key in (f"views/{name}" for name in _RETIRED) if key in applied]


def _views(place: Embedded | Server) -> list[Path]:
    """Return the view files in the order they are made. Only a server may be fed by a Collector."""
    extra = sql_files("server") if isinstance(place, Server) else []
    return _by_dependency([*sql_files("views"), *extra])


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


def _checksum(path: Path) -> str:
    return hashlib.sha256(_text(path).encode()).hexdigest()


def _text(path: Path) -> str:
    return with_parts(path.read_text(encoding="utf-8"))

"""Queries of strangers: answered in any format, within limits, without a way to change anything."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import orjson

from otel_cost.store.connection import FINAL
from otel_cost.store.dsn import DATABASE, Embedded, Server
from otel_cost.store.screen import QueryRefusedError, check_setting, closed_functions, format_in, screen

MAX_QUERY_CHARS = 262_144
"""Longest query text: ClickHouse's own `max_query_size`."""
MAX_EXECUTION_S = 60
MAX_MEMORY_BYTES = 2 * 1024**3
"""Memory of one query: half of a small machine, so that ingest goes on."""
MAX_RESULT_BYTES = 256 * 1024**2
_LIMITS = {
    "max_execution_time": MAX_EXECUTION_S,
    "max_memory_usage": MAX_MEMORY_BYTES,
    "max_result_bytes": MAX_RESULT_BYTES,
    "max_query_size": MAX_QUERY_CHARS * 4,
}
_SETTINGS_PROBE = re.compile(
    r"SELECT [\w, ]+ FROM system\.settings( LIMIT \d+)?(\s+FORMAT \w+)?", re.IGNORECASE
)
_CODE = re.compile(r"Code: (\d+)")


@dataclass(frozen=True, slots=True)
class Answer:
    """The output of a query in a ClickHouse format."""

    data: bytes
    format: str
    rows_read: int = 0
    bytes_read: int = 0
    elapsed_ns: int = 0


class Engine(Protocol):
    """Runs one statement with settings of its own, read only."""

    def run(
        self, sql: str, fmt: str, params: Mapping[str, str], settings: Mapping[str, str], database: str
    ) -> Answer:
        """Return the output; raises `QueryRefusedError` with the engine's code."""
        ...


class Reader:
    """Answers queries over one store. Use it from several threads; they run side by side."""

    def __init__(self, engine: Engine, database: str) -> None:
        self._engine, self.database = engine, database

    @cached_property
    def timezone(self) -> str:
        """The engine's time zone, which clients need to read plain `DateTime`."""
        return self._ask("SELECT timezone()")

    def answer(
        self,
        sql: str,
        *,
        params: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
        fmt: str = "TabSeparated",
        database: str | None = None,
    ) -> Answer:
        """Run one reading statement.

        Args:
            sql: The statement; a FORMAT clause in it wins over `fmt`.
            params: Values of `{name:Type}`, escaped as in TabSeparated, which is how HTTP clients send them.
            settings: Settings of this query, as plain text.
            fmt: Format of the output.
            database: Where unqualified names are looked up. Default: the store's.

        Raises:
            QueryRefusedError: It is refused here or by the engine; `code` is ClickHouse's.
        """
        for name in settings or {}:
            check_setting(name)
        canonical = self._canonical(sql)
        literals = {name: _literal(value) for name, value in (settings or {}).items()}
        literals.update(screen(canonical, self._closed))
        chosen = format_in(canonical) or fmt
        where = database or self.database
        found = self._engine.run(sql, chosen, params or {}, _bounded(literals), where)
        if not found.data and chosen == "Native":
            return Answer(self._header(canonical, params or {}, where), chosen)
        return found

    @cached_property
    def _closed(self) -> frozenset[str]:
        return closed_functions(iter(self._ask("SELECT name FROM system.table_functions").split("\n")))

    def _ask(self, sql: str, **params: str) -> str:
        return self._engine.run(sql, "TSVRaw", params, {}, self.database).data.decode().rstrip("\n")

    def _canonical(self, sql: str) -> str:
        """Return the statement as the engine reads it: no room for tricks with quotes or comments."""
        if len(sql) > MAX_QUERY_CHARS:
            raise QueryRefusedError(
                62, f"The query is longer than {MAX_QUERY_CHARS} characters. (SYNTAX_ERROR)"
            )
        return self._ask("SELECT formatQuerySingleLine({q:String})", q=escape(sql))

    def _header(self, canonical: str, params: Mapping[str, str], database: str) -> bytes:
        """Return the names and types of an empty result in Native, which the embedded engine leaves out."""
        if not canonical.lstrip("(").startswith(("SELECT", "WITH")):
            return b""
        query = re.sub(r"\s+FORMAT \w+\s*$", "", canonical)
        answer = self._engine.run(f"DESCRIBE TABLE ({query})", "JSONCompactEachRow", params, {}, database)
        columns = [orjson.loads(line)[:2] for line in answer.data.splitlines()]
        names = b"".join(_counted(name) + _counted(kind) for name, kind in columns)
        return _varint(len(columns)) + _varint(0) + names


class EmbeddedEngine:
    """The embedded engine, through a connection of its own for each query: no setting stays behind."""

    def __init__(self, store: Embedded) -> None:
        self._path = str(store.path)
        self._opening = threading.Lock()

    def run(
        self, sql: str, fmt: str, params: Mapping[str, str], settings: Mapping[str, str], database: str
    ) -> Answer:
        """Run a statement on a fresh connection that may only read."""
        import chdb

        started = time.monotonic_ns()
        with self._opening:
            connection = chdb.connect(self._path)
        try:
            for name, value in {**FINAL, **settings}.items():
                connection.query(f"SET {name} = {value}")
            connection.query("USE `" + database.replace("\\", "\\\\").replace("`", "\\`") + "`")
            connection.query(f"SET readonly = {_readonly(sql)}")
            result = connection.query(sql, fmt, params=dict(params))
            return _answer(result, fmt, time.monotonic_ns() - started)
        except Exception as error:  # chDB raises several kinds, all with ClickHouse's message
            raise _refused(str(error)) from error
        finally:
            connection.close()


class ServerEngine:
    """A ClickHouse over HTTP, asked with its own `readonly` setting."""

    def __init__(self, store: Server, settings: Mapping[str, str | int]) -> None:
        import urllib3

        self._settings = {name: str(value) for name, value in {**FINAL, **settings}.items()}
        self._url = f"{'https' if store.secure else 'http'}://{store.host}:{store.port}{store.proxy_path}/"
        self._pool = urllib3.PoolManager(timeout=urllib3.Timeout(connect=10, read=MAX_EXECUTION_S + 10))
        self._headers = {"X-ClickHouse-User": store.user, "X-ClickHouse-Key": store.password}

    def run(
        self, sql: str, fmt: str, params: Mapping[str, str], settings: Mapping[str, str], database: str
    ) -> Answer:
        """Send a statement to the server."""
        from urllib.parse import urlencode

        fields = self._settings | {name: _unquoted(value) for name, value in settings.items()}
        fields |= {"database": database, "default_format": fmt, "readonly": _readonly(sql)}
        fields |= {f"param_{name}": value for name, value in params.items()}
        url = f"{self._url}?{urlencode(fields)}"
        response: Any = self._pool.request("POST", url, body=sql.encode(), headers=self._headers)
        if response.status != 200:
            raise _refused(response.data.decode(errors="replace"))
        summary = orjson.loads(response.headers.get("X-ClickHouse-Summary") or "{}")
        numbers = (int(summary.get(name, 0)) for name in ("read_rows", "read_bytes", "elapsed_ns"))
        return Answer(response.data, fmt, *numbers)


def open_reader(store: Embedded | Server, settings: Mapping[str, str | int] | None = None) -> Reader:
    """Return a reader of a store that this process has open, or of a server.

    Args:
        settings: What every query on this server needs, as `Store.settings` says.
    """
    if isinstance(store, Embedded):
        return Reader(EmbeddedEngine(store), DATABASE)
    return Reader(ServerEngine(store, settings or {}), store.database)


def _readonly(sql: str) -> str:
    """Return the engine's own read-only level.

    Level 1 lets nobody change a setting. Clients ask `system.settings` first and then send none, not even
    harmless ones, so that question alone is answered as level 2 would: what may be changed is checked here.
    """
    return "2" if _SETTINGS_PROBE.fullmatch(sql.strip()) else "1"


def escape(text: str) -> str:
    """Escape a query parameter as TabSeparated does."""
    for plain, escaped in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("'", "\\'"), ("\0", "\\0")):
        text = text.replace(plain, escaped)
    return text


def _bounded(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the settings within our limits, which a reader may lower but not raise."""
    limited = {name: _lower(settings.get(name, ""), limit) for name, limit in _LIMITS.items()}
    return {**settings, **limited, "result_overflow_mode": "'throw'"}


def _lower(asked: str, limit: int) -> str:
    number = asked.strip("'")
    return str(min(int(number), limit)) if number.isdecimal() and int(number) else str(limit)


def _literal(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _unquoted(literal: str) -> str:
    if not literal.startswith("'"):
        return literal
    return re.sub(r"\\(.)", r"\1", literal[1:-1], flags=re.DOTALL)


def _answer(result: Any, fmt: str, elapsed_ns: int) -> Answer:
    if result is None:
        return Answer(b"", fmt, elapsed_ns=elapsed_ns)
    return Answer(result.bytes() or b"", fmt, result.rows_read(), result.bytes_read(), elapsed_ns)


def _refused(message: str) -> QueryRefusedError:
    found = _CODE.search(message)
    text = message[found.start() :] if found else message
    text = re.sub(r"^Code: \d+\. DB::Exception: ", "", text.strip())
    return QueryRefusedError(int(found.group(1)) if found else 1002, text)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes((*out, number))


def _counted(text: str) -> bytes:
    data = text.encode()
    return _varint(len(data)) + data

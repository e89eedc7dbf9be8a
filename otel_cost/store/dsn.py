"""Where a store is: what OTEL_COST_STORE may say."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from otel_cost.errors import ConfigError

VARIABLE = "OTEL_COST_STORE"
OWNER_FILE = "otel-cost.json"
"""Written into an embedded store's directory by the process that serves it."""

_FORMS = "chdb:///path or clickhouse://user:password@host:8123/database (clickhouses:// for TLS)"


@dataclass(frozen=True, slots=True)
class Embedded:
    """An embedded store in a directory, owned by one process at a time."""

    path: Path

    def __str__(self) -> str:
        """Show the directory."""
        return str(self.path)


@dataclass(frozen=True, slots=True)
class Server:
    """A ClickHouse reached over HTTP.

    Attributes:
        proxy_path: Path before ClickHouse's own, where `otel-cost up` passes queries on.
        token: Bearer token of that proxy; empty for a plain server.
        typed: What a person wrote, without the password; empty where nobody did.
    """

    host: str
    port: int
    user: str = "default"
    password: str = ""
    database: str = "default"
    secure: bool = False
    proxy_path: str = ""
    token: str = ""
    typed: str = field(default="", compare=False)

    def __repr__(self) -> str:
        """Show where it is as it was written, without the password."""
        if self.typed:
            return self.typed
        return f"{'clickhouses' if self.secure else 'clickhouse'}://{self.user}@{self.host}:{self.port}/{self.database}"


def default_dsn() -> str:
    """Return OTEL_COST_STORE, else an embedded store below the XDG data directory."""
    if found := os.environ.get(VARIABLE):
        return found
    data_home = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return f"chdb://{Path(data_home) / 'otel-cost' / 'store'}"


def parse_dsn(dsn: str) -> Embedded | Server:
    """Read a DSN.

    Raises:
        ConfigError: It is neither an embedded store nor a server.
    """
    parts = urlsplit(dsn)
    if parts.scheme == "chdb":
        path = unquote(parts.netloc + parts.path)
        if path.strip("/"):
            return Embedded(Path(path).expanduser().resolve())
    elif parts.scheme in ("clickhouse", "clickhouses") and parts.hostname:
        return _parse_server(dsn)
    raise ConfigError(f"{VARIABLE}={_without_password(dsn)!r} is not a store; write {_FORMS}")


def _parse_server(dsn: str) -> Server:
    parts = urlsplit(dsn)
    secure = parts.scheme == "clickhouses"
    try:
        port = parts.port or (8443 if secure else 8123)
    except ValueError:
        raise ConfigError(
            f"{VARIABLE}={_without_password(dsn)!r} has no usable port; write {_FORMS}"
        ) from None
    return Server(
        host=parts.hostname or "",
        port=port,
        user=unquote(parts.username or "default"),
        password=unquote(parts.password or ""),
        database=unquote(parts.path.strip("/")) or "default",
        secure=secure,
        typed=_without_password(dsn),
    )


def make_directory(store: Embedded) -> None:
    """Make the directory of an embedded store where it is missing.

    Raises:
        ConfigError: It cannot be made, or something else is there.
    """
    try:
        store.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = "is no directory" if store.path.exists() else f"cannot be made: {error.strerror}"
        raise ConfigError(
            f"the store's directory {store.path} {why}; name a directory that you may write in {VARIABLE} or "
            "--store, as chdb:///path"
        ) from None


def served_by(store: Embedded) -> Server | None:
    """Return the address of the living process that owns an embedded store and serves queries, if any."""
    try:
        owner = json.loads((store.path / OWNER_FILE).read_text(encoding="utf-8"))
        url = urlsplit(owner["url"])
        if int(owner["pid"]) == os.getpid() or not _is_alive(int(owner["pid"])):
            return None
        return Server(
            host=url.hostname or "127.0.0.1",
            port=url.port or 80,
            secure=url.scheme == "https",
            proxy_path=str(owner.get("proxy_path") or ""),
            token=str(owner.get("token") or ""),
            database=DATABASE,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_locked(store: Embedded) -> bool:
    """Return whether an engine has the store open: it holds a lock on its status file."""
    try:
        with (store.path / "status").open("rb") as status:
            fcntl.flock(status, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


DATABASE = "default"
"""The database of an embedded store. A server's is named by its DSN."""


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _without_password(dsn: str) -> str:
    head, at, _ = urlsplit(dsn).netloc.rpartition("@")
    return dsn.replace(f"{head}@", f"{head.partition(':')[0]}@") if at else dsn

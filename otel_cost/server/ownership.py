"""The file by which other commands find the process that serves an embedded store."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from otel_cost.store.dsn import OWNER_FILE, Embedded, Server


@contextlib.contextmanager
def owned(store: Embedded | Server, *, url: str, proxy_path: str, token: str | None) -> Iterator[None]:
    """Say in the store's directory where it is served, for as long as the block runs.

    The file may hold the token, so only its owner can read it. A server needs no file: anybody can reach it.
    """
    if isinstance(store, Server):
        yield
        return
    path = store.path / OWNER_FILE
    _write(path, {"url": url, "proxy_path": proxy_path, "token": token or "", "pid": os.getpid()})
    try:
        yield
    finally:
        if read_owner(store) == os.getpid():
            path.unlink(missing_ok=True)


def read_owner(store: Embedded) -> int | None:
    """Return the process id in the owner file, whether that process lives or not."""
    try:
        return int(json.loads((store.path / OWNER_FILE).read_text(encoding="utf-8"))["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, content: dict[str, object]) -> None:
    """Replace the file in one step, so that nobody reads half of it."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".otel-cost-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise

"""Run `otel-cost up` beside the terminal, and stop it again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from otel_cost.errors import ConfigError, StoreBusyError, StoreError
from otel_cost.server.ownership import read_owner
from otel_cost.store.dsn import Embedded, Server, make_directory, parse_dsn, served_by

LOG_FILE = "otel-cost.log"
START_S, STOP_S = 60.0, 40.0
"""How long a start may take (migrations on a cold disk), and a stop (twice the drain)."""


def check_not_served(store: Embedded | Server) -> None:
    """Raise `StoreBusyError` when another process serves the embedded store already."""
    serving = served_by(store) if isinstance(store, Embedded) else None
    if serving is not None and isinstance(store, Embedded):
        raise StoreBusyError(
            f"process {read_owner(store)} already serves {store.path} at "
            f"http://{serving.host}:{serving.port}; use that one, stop it with `otel-cost down`, "
            "or give this one another --store"
        )


def start(dsn: str, http: str, grpc: str, token: str | None, *, say: Callable[[str], None]) -> int:
    """Start the server as a process of its own and return its id once it serves.

    Raises:
        StoreError: It ended, or does not answer in time; its last words are in the message.
    """
    place = parse_dsn(dsn)
    if isinstance(place, Server):
        raise ConfigError(
            "--background is for an embedded store (chdb:///path), whose directory says where it runs; "
            f"for {place} leave it out, and have your service manager keep otel-cost up running"
        )
    check_not_served(place)
    make_directory(place)
    log = place.path / LOG_FILE
    process = _spawn(dsn, http, grpc, token, log)
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise StoreError(f"`otel-cost up` ended at once: {_last_words(log)}")
        if _serves(place, process.pid):
            say(_last_words(log))
            say(f"it runs in the background, its log is {log}; otel-cost down stops it")
            return process.pid
        time.sleep(0.1)
    process.terminate()
    raise StoreError(f"`otel-cost up` does not answer after {START_S:.0f} s: {_last_words(log)}")


def stop(dsn: str) -> int | None:
    """Stop the process that serves an embedded store. Returns its id, or nothing when none was running.

    Raises:
        StoreError: It does not end.
    """
    place = parse_dsn(dsn)
    if isinstance(place, Server) or served_by(place) is None:
        return None
    process = read_owner(place)
    if process is None:
        return None
    os.kill(process, signal.SIGTERM)
    deadline = time.monotonic() + STOP_S
    while time.monotonic() < deadline:
        if served_by(place) is None:
            return process
        time.sleep(0.1)
    raise StoreError(f"process {process} still runs after {STOP_S:.0f} s; see {place.path / LOG_FILE}")


def _spawn(dsn: str, http: str, grpc: str, token: str | None, log: Path) -> subprocess.Popen[bytes]:
    run = "from otel_cost.cli.main import main; main()"
    options = ["--store", dsn, "--http", http, "--grpc", grpc]
    command = [sys.executable, "-c", run, "up", *options]
    environment = {**os.environ, **({"OTEL_COST_TOKEN": token} if token else {})}
    with log.open("wb") as file:
        return subprocess.Popen(  # noqa: S603 our own module, no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=environment,
            start_new_session=True,
        )


def _serves(place: Embedded, process: int) -> bool:
    return (
        read_owner(place) == process
        and served_by(place) is not None
        and b"next:" in _read(place.path / LOG_FILE)
    )


def _read(log: Path) -> bytes:
    try:
        return log.read_bytes()
    except OSError:
        return b""


def _last_words(log: Path) -> str:
    return _read(log)[-2_000:].decode(errors="replace").strip()

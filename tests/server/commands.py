"""The real command line in processes of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import requests

COMMAND = [sys.executable, "-c", "from otel_cost.cli.main import main; main()"]
START_S = 90.0


def environment(**changes: str) -> dict[str, str]:
    """Return an environment without our own settings, so that a developer's do not leak into tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "XDG_"))}
    return {**kept, "NO_COLOR": "1", **changes}


def otel_cost(*arguments: str, timeout_s: float = 120, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env=environment(**changes),
        check=False,
    )


@dataclass
class Up:
    """A running `otel-cost up`."""

    process: subprocess.Popen[str]
    store: Path
    lines: list[str] = field(default_factory=list)
    http: str = ""
    grpc: str = ""

    @property
    def dsn(self) -> str:
        """The store's DSN."""
        return f"chdb://{self.store}"

    def greeted(self) -> bool:
        """Read the greeting up to its last line."""
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line)
            if "OTLP/HTTP" in line:
                self.http = line.split()[1]
            if "OTLP/gRPC" in line:
                self.grpc = line.split()[1]
            if line.startswith("next:"):
                return True
        return False

    def query(self, sql: str, token: str = "") -> str:
        """Ask the read endpoint."""
        headers = {"X-ClickHouse-Key": token}
        response = requests.post(f"{self.http}/clickhouse", data=sql, headers=headers, timeout=60)
        assert response.status_code == 200, response.text
        return response.text

    def end(self, number: int = signal.SIGTERM, timeout_s: float = 60) -> int:
        """Send a signal and return the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout_s)


def start(store: Path, *options: str, **changes: str) -> Up:
    """Start a server on free ports and return it once it serves."""
    ports = ["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"] if "--http" not in options else []
    process = subprocess.Popen(
        [*COMMAND, "up", "--store", f"chdb://{store}", *ports, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(**changes),
    )
    up = Up(process, store)
    watchdog = threading.Timer(START_S, process.kill)
    watchdog.start()
    try:
        if not up.greeted():
            status = process.wait(10)
            assert process.stdout
            process.stdout.close()
            raise AssertionError(f"otel-cost up ended with {status}: {''.join(up.lines)}")
    finally:
        watchdog.cancel()
    return up


@contextlib.contextmanager
def serving(store: Path, *options: str, **changes: str) -> Iterator[Up]:
    """Run a server for a block, and kill it if it is still there afterwards."""
    up = start(store, *options, **changes)
    try:
        yield up
    finally:
        if up.process.poll() is None:
            up.process.kill()
        up.process.wait(30)
        assert up.process.stdout
        up.process.stdout.close()


def owner(store: Path) -> dict[str, object]:
    """Return what the owner file says."""
    return dict(json.loads((store / "otel-cost.json").read_text()))


def wait_for(condition: object, deadline_s: float = 30) -> None:
    """Return when the condition holds."""
    end = time.monotonic() + deadline_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "the condition never held"
        time.sleep(0.02)

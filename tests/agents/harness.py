"""What agent tests share: a collector to send to, programs run as users run them, separate environments."""

from __future__ import annotations

import fcntl
import gzip
import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_cost import instrument
from tests.data import ROOT

VENVS = ROOT / ".cache" / "venvs"


@dataclass(frozen=True)
class Received:
    """One span as an OTLP backend receives it."""

    name: str
    scope: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: Mapping[str, Any]
    resource: Mapping[str, Any]
    status: int = 0

    @property
    def is_counted(self) -> bool:
        """Whether this span is a model or tool call that counts."""
        return bool(self.attributes.get("otel_cost.counted"))

    @property
    def cost_usd(self) -> Decimal | None:
        """The cost, None when it has none."""
        text = self.attributes.get("otel_cost.cost_usd")
        return None if text is None else Decimal(text)


class Collector:
    """An OTLP/HTTP endpoint on a loopback port that keeps what it receives."""

    def __init__(self) -> None:
        self.spans: list[Received] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Receiver)
        self._server.daemon_threads = True
        self._server.collector = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Collector:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """The base URL for OTEL_EXPORTER_OTLP_ENDPOINT."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def wait(self, count: int, timeout_s: float = 10) -> list[Received]:
        """Return the spans once there are so many of them."""
        deadline = time.monotonic() + timeout_s
        while len(self.spans) < count and time.monotonic() < deadline:
            time.sleep(0.02)
        return list(self.spans)

    def named(self, name: str) -> list[Received]:
        """Return the spans of one name."""
        return [span for span in self.spans if span.name == name]

    def counted(self) -> list[Received]:
        """Return the calls that count."""
        return [span for span in self.spans if span.is_counted]


class _Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        if self.path.endswith("/v1/traces"):
            self.server.collector.spans += _decode(body)  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


def _decode(body: bytes) -> list[Received]:
    request = ExportTraceServiceRequest.FromString(body)
    return [
        Received(
            span.name,
            scope_spans.scope.name,
            span.trace_id.hex(),
            span.span_id.hex(),
            span.parent_span_id.hex(),
            _map(span.attributes),
            _map(resource_spans.resource.attributes),
            span.status.code,
        )
        for resource_spans in request.resource_spans
        for scope_spans in resource_spans.scope_spans
        for span in scope_spans.spans
    ]


def _map(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return getattr(value, kind) if kind else None


@dataclass
class Program:
    """A Python program run in a process of its own, instrumented as `otel-cost run` does it.

    Attributes:
        code: Source text, or a path below the checkout.
        python: The interpreter; default: this one.
        instrumented: Whether zero-code set-up is on.
    """

    code: str | Path
    arguments: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    python: str = sys.executable
    instrumented: bool = True

    def command(self) -> list[str]:
        """Return the command line."""
        if isinstance(self.code, Path):
            return [self.python, str(self.code), *self.arguments]
        return [self.python, "-c", textwrap.dedent(self.code), *self.arguments]

    def environ(self, *more: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of the process: nothing of OpenTelemetry's but what is given."""
        inherited = {
            name: text
            for name, text in os.environ.items()
            if not name.startswith(("OTEL_", "OPENAI_", "ANTHROPIC_", "TRACEPARENT", "BAGGAGE", "PYTHON"))
        }
        environ = inherited | {"PYTHONWARNINGS": "default"} | dict(self.environment)
        for given in more:
            environ |= given
        return dict(instrument.environment(environ)) if self.instrumented else environ

    def run(self, *more: Mapping[str, str], timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        """Run it to the end."""
        return subprocess.run(
            self.command(),
            env=self.environ(*more),
            text=True,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )

    def start(self, *more: Mapping[str, str]) -> subprocess.Popen[str]:
        """Start it and return at once."""
        return subprocess.Popen(
            self.command(), env=self.environ(*more), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )


def send_to(collector: Collector) -> dict[str, str]:
    """Return the variables that send spans to a collector soon."""
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "200"}


def interpreter(version: str) -> str:
    """Return a Python of a version such as `3.13`, as uv takes it: a path where one is at hand."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = sorted(root.glob(f"versions/{version}.*/bin/python{version}"))
    return str(found[-1]) if found else version


def environment(name: str, packages: Sequence[str], *, python: str = sys.executable) -> str:
    """Return the interpreter of a separate environment with otel_cost and packages in it, made once.

    Skips the test when they cannot be installed. The environment is kept below `.cache/venvs` and made anew
    when the list of packages changes.
    """
    home = VENVS / name
    made = str(home / "bin" / "python")
    recipe = home / "recipe.txt"
    own, _, _ = (ROOT / "pyproject.toml").read_text().partition("[dependency-groups]")
    wanted = "\n".join([python, *packages, own])
    VENVS.mkdir(parents=True, exist_ok=True)
    with (VENVS / f"{name}.lock").open("w") as lock:  # several test processes may want it at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if recipe.exists() and recipe.read_text() == wanted:
            return made
        shutil.rmtree(home, ignore_errors=True)
        _uv("venv", "--python", python, str(home))
        _uv("pip", "install", "--python", made, "--prerelease", "if-necessary", "-e", str(ROOT), *packages)
        recipe.write_text(wanted)
    return made


def _uv(*arguments: str) -> None:
    uv = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if uv is None:
        pytest.skip("no uv to make a separate environment with; `pip install uv`")
    made = subprocess.run([uv, *arguments], capture_output=True, text=True, timeout=600, check=False)
    if made.returncode:
        pytest.skip(f"a separate environment could not be made: {made.stderr.strip()[-500:]}")

"""What goes with spans to a collector, and what an empty export to it says."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from otel_cost.cli.probe import probe
from otel_cost.exporter import guard_default_exporters, headers_in_force
from tests.agents.harness import Program
from tests.data import ROOT
from tests.servers import free_port

SPAN = "from opentelemetry import trace; trace.get_tracer('t').start_span('s').end()"


@contextmanager
def answering(token: str = "") -> Iterator[tuple[str, list[str]]]:
    """Serve OTLP/HTTP that asks for a token, and note the authorization of each request."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            seen.append(self.headers.get("authorization", ""))
            is_right = not token or seen[-1] == f"Bearer {token}"
            self.send_response(404 if self.path != "/v1/traces" else 200 if is_right else 401)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEADERS", "PROTOCOL", "TRACES_ENDPOINT", "TRACES_HEADERS", "TRACES_PROTOCOL", "TIMEOUT"):
        monkeypatch.delenv(f"OTEL_EXPORTER_OTLP_{name}", raising=False)


@pytest.mark.parametrize(
    ("variables", "headers"),
    [
        ({}, {"authorization": "Bearer s3 cret"}),
        ({"OTEL_EXPORTER_OTLP_HEADERS": "x=1"}, {"x": "1", "authorization": "Bearer s3 cret"}),
        ({"OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Basic%20me"}, {"authorization": "Basic me"}),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:1"}, {"authorization": "Bearer s3 cret"}),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://api.elsewhere.example"}, {}),
    ],
)
def test_the_token_goes_to_this_machine_where_nothing_else_is_said(
    variables: dict[str, str], headers: dict[str, str]
) -> None:
    """Headers that a person set win, and somebody else's collector never sees the token."""
    assert headers_in_force({"OTEL_COST_TOKEN": "s3 cret", **variables}) == headers


def test_run_sends_the_token() -> None:
    """With OTEL_COST_TOKEN set, as for `otel-cost up`, spans of `otel-cost run` are let in."""
    main = "from otel_cost.cli.main import main; main()"
    with answering("s3cret") as (url, seen):
        program = Program(main, ("run", "--", sys.executable, "-c", SPAN), instrumented=False)
        ours = {"PYTHONPATH": str(ROOT), "OTEL_COST_TOKEN": "s3cret"}
        finished = program.run({"OTEL_EXPORTER_OTLP_ENDPOINT": url, **ours})
    assert finished.returncode == 0, finished.stderr
    assert set(seen) == {"Bearer s3cret"}
    assert "401" not in finished.stderr


def test_an_empty_export_names_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """The token, the path, the protocol, or nobody there: each has its words and its remedy."""
    with answering("s3cret") as (url, _):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        assert "asks for another token (status 401)" in probe().detail
        assert "OTEL_COST_TOKEN" in probe().remedy
        monkeypatch.setenv("OTEL_COST_TOKEN", "s3cret")
        assert probe() == (f"{url}/v1/traces takes spans", "")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
        assert "does not take traces by gRPC" in probe().detail
        assert "http/protobuf" in probe().remedy
        monkeypatch.delenv("OTEL_EXPORTER_OTLP_PROTOCOL")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"{url}/v1/traces")
        assert "is no place for traces (status 404)" in probe().detail
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    assert probe().detail.startswith("nothing listens at")


def test_what_does_not_speak_http_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the port of OTLP/gRPC, which closes such a connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            for _ in range(2):
                connection, _address = listener.accept()
                with connection:
                    connection.settimeout(0.2)
                    try:
                        connection.recv(4096)
                        connection.sendall(b"\x00\x00\x06\x04" + bytes(11))
                    except OSError:
                        pass

        thread = threading.Thread(target=hang_up)
        thread.start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{listener.getsockname()[1]}")
        answer = probe()
        thread.join()
    assert "does not speak HTTP" in answer.detail
    assert "OTEL_EXPORTER_OTLP_PROTOCOL=grpc" in answer.remedy


def test_a_distributions_exporter_waits_no_longer_than_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """gRPC to a port of HTTP never arrives; the end of the program waits OTEL_COST_FLUSH_TIMEOUT_S for it."""
    monkeypatch.setenv("OTEL_COST_FLUSH_TIMEOUT_S", "1")
    with answering() as (url, _):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        guard_default_exporters(provider)
        provider.get_tracer("t").start_span("s").end()
        started_s = time.monotonic()
        provider.shutdown()
    assert time.monotonic() - started_s < 6

"""`otel-cost up` as a person runs it: a real process, real exporters, real signals."""

from __future__ import annotations

import concurrent.futures
import json
import random
import shutil
import signal
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from otel_cost.cli.serve import BEARER_NEEDED
from otel_cost.store import open_store
from tests.server.commands import Up, otel_cost, owner, serving
from tests.server.harness import request_of
from tests.server.test_spans import json_nested, raw_nested

PROTOBUF = {"Content-Type": "application/x-protobuf"}
JSON = {"Content-Type": "application/json"}
COUNT = "SELECT count(), uniqExact(TraceId, SpanId) FROM otel_traces"


@pytest.fixture(scope="module")
def up(prepared_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A server for tests that need no store of their own."""
    path = tmp_path_factory.mktemp("up") / "store"
    shutil.copytree(prepared_store, path, symlinks=True)
    with serving(path) as started:
        yield started


def post(up: Up, body: bytes, headers: dict[str, str] = PROTOBUF) -> requests.Response:
    """Send a body of traces."""
    return requests.post(f"{up.http}/v1/traces", data=body, headers=headers, timeout=60)


def test_the_greeting_says_what_a_sender_needs(up: Up) -> None:
    """The address with the protocol: distributions send by gRPC where only the address is set."""
    (line,) = [line for line in up.lines if "OTLP/HTTP" in line]
    assert f"OTEL_EXPORTER_OTLP_ENDPOINT={up.http} OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf" in line
    assert "authorization=Bearer%20" in BEARER_NEEDED


@pytest.mark.parametrize("protocol", ["http", "http-gzip", "grpc"])
def test_real_exporters_deliver(up: Up, protocol: str) -> None:
    """The SDK's exporters are understood and priced: 1000 tokens in, 200 out of gpt-4o are $0.0045.

    $2.50 and $10.00 a million tokens: https://openai.com/api/pricing, 2026-08-21.
    """
    exporter: SpanExporter
    if protocol == "grpc":
        exporter = GrpcExporter(endpoint=up.grpc, insecure=True)
    else:
        compression = Compression.Gzip if protocol == "http-gzip" else Compression.NoCompression
        exporter = HttpExporter(endpoint=f"{up.http}/v1/traces", compression=compression)
    results: list[SpanExportResult] = []
    export = exporter.export
    exporter.export = lambda spans: results.append(export(spans)) or results[-1]  # type: ignore[method-assign,func-returns-value]
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with provider.get_tracer("test").start_as_current_span("chat gpt-4o") as span:
        span.set_attribute("gen_ai.operation.name", "chat")
        span.set_attribute("gen_ai.provider.name", "openai")
        span.set_attribute("gen_ai.request.model", "gpt-4o")
        span.set_attribute("gen_ai.usage.input_tokens", 1000)
        span.set_attribute("gen_ai.usage.output_tokens", 200)
        trace_id = format(span.get_span_context().trace_id, "032x")
    provider.shutdown()
    assert results == [SpanExportResult.SUCCESS]
    found = up.query(f"SELECT cost_usd, counted FROM charges FINAL WHERE trace_id = '{trace_id}'")
    assert found == "0.0045\ttrue\n"


def test_commands_find_the_running_server(up: Up) -> None:
    """While a process owns the store, the store is opened through it."""
    post(up, request_of(1, seed=77).SerializeToString())
    with open_store(up.dsn) as store:
        count = json.loads(
            store.sql("SELECT count() AS n FROM otel_traces WHERE ServiceName = {s:String}", {"s": "agent"})
        )
        assert int(count["n"]) >= 1


def test_the_owner_file_is_private_and_true(up: Up) -> None:
    """It says where and who, and only its owner can read it, as it may hold the token."""
    mode = stat.S_IMODE((up.store / "otel-cost.json").stat().st_mode)
    assert mode == 0o600
    assert owner(up.store) == {
        "url": up.http,
        "proxy_path": "/clickhouse",
        "token": "",
        "pid": up.process.pid,
    }


def test_another_server_on_the_same_store_says_who_serves(up: Up) -> None:
    """One store, one process: the second names the first and what to do."""
    second = otel_cost("up", "--store", up.dsn, "--http", "127.0.0.1:0", "--grpc", "")
    assert second.returncode == 1
    assert str(up.process.pid) in second.stderr
    assert up.http in second.stderr
    assert "otel-cost down" in second.stderr
    assert "Traceback" not in second.stderr


def test_a_taken_port_is_one_readable_sentence(up: Up, tmp_path: Path) -> None:
    """The port is named, and what to do."""
    port = up.http.rpartition(":")[2]
    grpc_port = up.grpc.rpartition(":")[2]
    for options in (
        ("--http", f"127.0.0.1:{port}"),
        ("--http", "127.0.0.1:0", "--grpc", f"127.0.0.1:{grpc_port}"),
    ):
        second = otel_cost("up", "--store", f"chdb://{tmp_path / 'other'}", *options)
        assert second.returncode == 2
        assert options[-1] in second.stderr
        assert "another port" in second.stderr
        assert "Traceback" not in second.stderr


@pytest.mark.parametrize("option", ["--http", "--grpc"])
def test_other_machines_need_a_token(tmp_path: Path, option: str) -> None:
    """Listening beyond this machine without a token is refused, naming the variable."""
    others = {"--http": "127.0.0.1:0", "--grpc": "127.0.0.1:0", option: "0.0.0.0:0"}
    arguments = [part for pair in others.items() for part in pair]
    refused = otel_cost("up", "--store", f"chdb://{tmp_path / 'store'}", *arguments)
    assert refused.returncode == 2
    assert "OTEL_COST_TOKEN" in refused.stderr
    assert not (tmp_path / "store").exists()


def test_bad_addresses_are_named(tmp_path: Path) -> None:
    """What is not host:port is said with what would be."""
    for bad in ("4318", "127.0.0.1:http", "127.0.0.1:99999", "::1:4318"):
        refused = otel_cost("up", "--store", f"chdb://{tmp_path / 'store'}", "--http", bad)
        assert refused.returncode == 2
        assert f"--http='{bad}'" in refused.stderr


def test_a_token_guards_everything(fresh_store: Path) -> None:
    """Sending and reading need it; commands take it from the owner file."""
    with serving(fresh_store, OTEL_COST_TOKEN="s3cret") as up:
        body = request_of(3).SerializeToString()
        assert post(up, body).status_code == 401
        assert post(up, body, {**PROTOBUF, "Authorization": "Bearer s3cret"}).status_code == 200
        assert requests.get(f"{up.http}/clickhouse?query=SELECT+1", timeout=20).status_code == 403
        assert up.query(COUNT, "s3cret") == "3\t3\n"
        with open_store(up.dsn) as store:
            assert b'"3"' in store.sql("SELECT count() AS n FROM otel_traces") or b"3" in store.sql(COUNT)


def test_spans_survive_a_restart(fresh_store: Path) -> None:
    """SIGTERM and Ctrl-C end it with 0, the owner file is gone, and the spans are there next time."""
    for round_number, ending in enumerate((signal.SIGTERM, signal.SIGINT), 1):
        with serving(fresh_store) as up:
            assert post(up, request_of(10, seed=round_number).SerializeToString()).status_code == 200
            assert up.end(ending) == 0
        assert not (fresh_store / "otel-cost.json").exists()
    with serving(fresh_store) as up:
        assert up.query(COUNT) == "20\t20\n"


def test_a_stale_owner_file_is_no_obstacle(fresh_store: Path) -> None:
    """A process that was killed left its file behind; the next start replaces it."""
    with serving(fresh_store) as up:
        up.end(signal.SIGKILL)
    assert (fresh_store / "otel-cost.json").exists()
    with serving(fresh_store) as again:
        assert owner(fresh_store)["pid"] == again.process.pid


def test_stopping_answers_those_who_wait(fresh_store: Path) -> None:
    """Requests in hand when the signal comes are stored and answered, or told to come back; none is lost."""
    with serving(fresh_store) as up, concurrent.futures.ThreadPoolExecutor(8) as pool:
        sent = [
            pool.submit(try_post, up, request_of(50, seed=seed).SerializeToString()) for seed in range(16)
        ]
        time.sleep(0.15)
        assert up.end() == 0
        stored = sum(future.result() for future in sent)
    with serving(fresh_store) as up:
        count, unique = map(int, up.query(COUNT).split())
        assert count == unique >= stored * 50


def try_post(up: Up, body: bytes) -> bool:
    """Return whether a body was acknowledged."""
    try:
        return post(up, body).status_code == 200
    except requests.RequestException:
        return False


def test_background_and_down(fresh_store: Path) -> None:
    """`--background` returns once it serves; `down` stops it; a second `down` finds nothing."""
    store = f"chdb://{fresh_store}"
    ports = ("--http", "127.0.0.1:0", "--grpc", "")
    try:
        started = otel_cost("up", "--background", "--store", store, *ports)
        assert started.returncode == 0, started.stderr
        url = str(owner(fresh_store)["url"])
        assert url in started.stdout
        assert requests.get(f"{url}/readyz", timeout=10).json() == {"status": "ready"}
        again = otel_cost("up", "--background", "--store", store, *ports)
        assert again.returncode == 1
        assert "already serves" in again.stderr
    finally:
        stopped = otel_cost("down", "--store", store)
    assert stopped.returncode == 0
    assert "stopped process" in stopped.stdout
    assert "nothing was running" in otel_cost("down", "--store", store).stdout


def test_background_says_why_it_does_not_start(tmp_path: Path, up: Up) -> None:
    """The child's last words are the error."""
    taken = ("--http", up.http.removeprefix("http://"), "--grpc", "")
    failed = otel_cost("up", "--background", "--store", f"chdb://{tmp_path / 'store'}", *taken)
    assert failed.returncode == 1
    assert "already listens" in failed.stderr


def malformed_bodies() -> list[tuple[bytes, dict[str, str]]]:
    """Return bodies that break careless receivers."""
    chosen = random.Random(7)
    good = request_of(20, seed=500).SerializeToString()
    huge = request_of(1, seed=501)
    huge.resource_spans[0].scope_spans[0].spans[0].attributes.add(key="p").value.string_value = (
        "x" * 10_000_000
    )
    deep = '{"resourceSpans":[{"scopeSpans":[{"spans":[{"attributes":[{"key":"a","value":'
    gzipped = {**PROTOBUF, "Content-Encoding": "gzip"}
    bodies = [(good[: chosen.randrange(1, len(good))], PROTOBUF) for _ in range(15)]
    bodies += [(chosen.randbytes(chosen.randrange(1, 4000)), PROTOBUF) for _ in range(15)]
    bodies += [(chosen.randbytes(300), JSON), (chosen.randbytes(300), gzipped), (good, gzipped)]
    bodies += [(huge.SerializeToString(), PROTOBUF), (raw_nested(10_000), PROTOBUF)]
    bodies += [((deep + json_nested(10_000) + "}]}]}]}]}").encode(), JSON), (b"[" * 100_000, JSON)]
    flipped = bytearray(good)
    for _ in range(15):
        flipped[chosen.randrange(len(flipped))] ^= 1 << chosen.randrange(8)
        bodies.append((bytes(flipped), PROTOBUF))
    return bodies


def test_malformed_bodies_harm_nothing(fresh_store: Path) -> None:
    """Each gets a clear status, the process lives, and earlier spans are as they were."""
    with serving(fresh_store) as up:
        assert post(up, request_of(30, seed=499).SerializeToString()).status_code == 200
        before = up.query("SELECT * FROM otel_traces ORDER BY SpanId FORMAT JSONEachRow")
        for body, headers in malformed_bodies():
            response = post(up, body, headers)
            assert response.status_code in (200, 400), (response.status_code, body[:40])
            if response.status_code == 400:
                assert response.headers["Content-Type"] == headers["Content-Type"]
        ids = f"TraceId IN (SELECT DISTINCT TraceId FROM otel_traces WHERE SpanId IN ({quoted(30, 499)}))"
        after = up.query(f"SELECT * FROM otel_traces WHERE {ids} ORDER BY SpanId FORMAT JSONEachRow")
        assert after == before
        assert post(up, request_of(5, seed=498).SerializeToString()).status_code == 200
        assert up.end() == 0


def quoted(count: int, seed: int) -> str:
    """Return the span ids of a request as SQL literals."""
    request = request_of(count, seed=seed)
    return ",".join(f"'{span.span_id.hex()}'" for span in request.resource_spans[0].scope_spans[0].spans)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_raw_connections_harm_nothing(up: Up, data: st.DataObject) -> None:
    """Whatever comes over a socket, cut off or complete, the next request is answered."""
    host, _, port = up.http.removeprefix("http://").partition(":")
    start_line = data.draw(
        st.sampled_from([b"POST /v1/traces HTTP/1.1\r\n", b"GET / HTTP/1.1\r\n", b"\x16\x03\x01", b""])
    )
    head = data.draw(
        st.sampled_from(
            [b"Host: localhost\r\nContent-Length: 50\r\n", b"Content-Length: -1\r\n", b"\x00\r\n"]
        )
    )
    rest = data.draw(st.binary(max_size=60))
    with socket.create_connection((host, int(port)), timeout=10) as client:
        client.sendall(start_line + head + b"\r\n" + rest)
    assert requests.get(f"{up.http}/readyz", timeout=10).status_code == 200

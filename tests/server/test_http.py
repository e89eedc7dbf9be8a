"""OTLP over HTTP, as senders see it."""

from __future__ import annotations

import gzip
import json
import socket
import zlib
from collections.abc import Iterator

import pytest
import requests
import zstandard
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otel_cost.server import http as http_module
from otel_cost.server import ingest
from tests.server.fakes import MemoryStore
from tests.server.harness import Running, request_of, running

PROTOBUF = {"Content-Type": "application/x-protobuf"}
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def shared() -> Iterator[Running]:
    """A server for tests that need no store of their own."""
    with running() as server:
        yield server


def post(
    server: Running, body: bytes, headers: dict[str, str] = PROTOBUF, path: str = "/v1/traces"
) -> requests.Response:
    """Send a body."""
    return requests.post(server.http + path, data=body, headers=headers, timeout=20)


def status_of(response: requests.Response) -> Status:
    """Return the Status in a protobuf answer."""
    assert response.headers["Content-Type"] == "application/x-protobuf"
    return Status.FromString(response.content)


def test_spans_are_in_the_store_when_the_sender_is_answered() -> None:
    """An acknowledged span is on disk."""
    with running() as server:
        response = post(server, request_of(3).SerializeToString())
        assert response.status_code == 200
        assert response.headers["Content-Type"] == "application/x-protobuf"
        assert not ExportTraceServiceResponse.FromString(response.content).HasField("partial_success")
        assert server.store.column("SpanName") == ["chat"] * 3


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("zstd", zstandard.ZstdCompressor().compress),
        ("identity", bytes),
    ],
)
def test_compressed_bodies_are_understood(shared: Running, encoding: str, compress: object) -> None:
    """Every encoding that exporters offer works."""
    body = compress(request_of(2).SerializeToString())  # type: ignore[operator]
    assert post(shared, body, {**PROTOBUF, "Content-Encoding": encoding}).status_code == 200


def test_gzip_in_several_members_is_one_body(shared: Running) -> None:
    """Concatenated gzip members are read to the end."""
    body = request_of(2).SerializeToString()
    packed = gzip.compress(body[:50]) + gzip.compress(body[50:])
    assert post(shared, packed, {**PROTOBUF, "Content-Encoding": "gzip"}).status_code == 200


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
def test_rubbish_or_half_a_compressed_body_is_refused(shared: Running, encoding: str) -> None:
    """A body that does not decompress is malformed, never an empty success."""
    headers = {**PROTOBUF, "Content-Encoding": encoding}
    body = request_of(50).SerializeToString()
    pack = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstandard.ZstdCompressor().compress}[
        encoding
    ]
    for bad in (b"rubbish that is nothing", pack(body)[:-9], pack(body)[:30]):
        response = post(shared, bad, headers)
        assert response.status_code == 400, bad[:20]
        assert encoding in status_of(response).message


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_decompression_bomb_is_refused(shared: Running, encoding: str) -> None:
    """A few kilobytes that grow to a gigabyte are refused, and cost little memory."""
    pack = {"gzip": lambda data: gzip.compress(data, 6), "zstd": zstandard.ZstdCompressor().compress}[
        encoding
    ]
    bomb = pack(bytes(200 * 1024 * 1024))
    assert len(bomb) < 1024 * 1024
    response = post(shared, bomb, {**PROTOBUF, "Content-Encoding": encoding})
    assert response.status_code == 413
    assert str(ingest.MAX_BODY_BYTES) in status_of(response).message


def test_a_body_beyond_the_limit_is_refused_before_it_is_read(shared: Running) -> None:
    """The declared length decides; nobody waits for gigabytes."""
    with socket.create_connection((shared.host, shared.port), timeout=10) as client:
        head = b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-protobuf\r\n"
        client.sendall(head + b"Content-Length: 99999999999\r\n\r\n")
        assert b" 413 " in client.recv(4096)


def test_a_chunked_body_beyond_the_limit_is_cut_off(shared: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body of unknown length is refused once it is too long."""
    monkeypatch.setattr(http_module, "MAX_BODY_BYTES", 1000)
    response = requests.post(
        shared.http + "/v1/traces", data=iter([b"x" * 900] * 3), headers=PROTOBUF, timeout=20
    )
    assert response.status_code == 413


def test_valid_spans_are_kept_beside_invalid_ones() -> None:
    """Invalid spans are rejected one by one, and the sender learns how many and why."""
    request = request_of(5)
    spans = request.resource_spans[0].scope_spans[0].spans
    spans[0].trace_id = b"short"
    spans[1].span_id = bytes(8)
    spans[2].parent_span_id = b"123"
    spans[3].start_time_unix_nano = 0
    with running() as server:
        response = post(server, request.SerializeToString())
        partial = ExportTraceServiceResponse.FromString(response.content).partial_success
        assert response.status_code == 200
        assert partial.rejected_spans == 4
        assert "traceId is 5 bytes, expected 16" in partial.error_message
        assert server.store.column("SpanId") == [spans[4].span_id.hex()]


def test_answers_in_json_to_json() -> None:
    """A JSON request gets a JSON answer, with 64-bit integers as strings."""
    span = {
        "traceId": "ab" * 16,
        "spanId": "cd" * 8,
        "name": "chat",
        "startTimeUnixNano": "1760000000000000000",
    }
    bad = {**span, "spanId": "zz"}
    body = {"resourceSpans": [{"scopeSpans": [{"spans": [span, bad]}]}]}
    with running() as server:
        response = post(server, json.dumps(body).encode(), JSON)
        assert response.headers["Content-Type"] == "application/json"
        assert response.json()["partialSuccess"]["rejectedSpans"] == "1"
        assert "spanId is not hexadecimal" in response.json()["partialSuccess"]["errorMessage"]
        assert server.store.column("TraceId") == ["ab" * 16]


@pytest.mark.parametrize(
    "body",
    [b"\xff\xfe\xfd", b"{}", b"[1, 2]", request_of(3).SerializeToString()[:-7], b"\x12\x03abc"],
    ids=["random", "json", "json-array", "truncated", "another-message"],
)
def test_a_body_that_is_not_otlp_is_malformed(shared: Running, body: bytes) -> None:
    """400 with a Status, so that the sender does not retry."""
    response = post(shared, body)
    assert response.status_code == 400
    assert status_of(response).code == 3
    assert "ExportTraceServiceRequest" in status_of(response).message


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"null",
        b"[]",
        b'{"other": 1}',
        b'{"resourceSpans": 5}',
        b'{"resourceSpans": [5]}',
        b'{"resourceSpans": [{"scopeSpans": {}}]}',
        b'{"resourceSpans": [{"resource": {"attributes": [7]}}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": "x"}]}]}',
    ],
)
def test_json_that_is_not_otlp_is_malformed(shared: Running, body: bytes) -> None:
    """400 with a Status in JSON."""
    response = post(shared, body, JSON)
    assert response.status_code == 400
    assert response.json()["code"] == 3


def test_empty_requests_are_fine(shared: Running) -> None:
    """Exporters may send nothing; that is a success."""
    assert post(shared, b"").status_code == 200
    assert post(shared, b"{}", JSON).json() == {}


def test_other_content_types_and_encodings_are_unsupported(shared: Running) -> None:
    """415 names what would be understood."""
    for headers in ({"Content-Type": "text/plain"}, {}, {**PROTOBUF, "Content-Encoding": "br"}):
        response = post(shared, b"x", headers)
        assert response.status_code == 415, headers


def test_unknown_paths_and_methods_say_what_is_served(shared: Running) -> None:
    """404 and 405 name the right path and method."""
    missing = post(shared, b"", JSON, "/v1/trace")
    assert missing.status_code == 404
    assert "/v1/traces" in missing.json()["message"]
    wrong = requests.get(shared.http + "/v1/traces", timeout=10)
    assert wrong.status_code == 405
    assert wrong.headers["Allow"] == "POST"


def test_logs_and_metrics_are_taken_and_dropped() -> None:
    """An exporter of all signals gets a success, and what was dropped is counted."""
    with running() as server:
        for path in ("/v1/logs", "/v1/metrics"):
            assert post(server, b"anything", path=path).status_code == 200
        health = requests.get(server.http + "/healthz", timeout=10).json()
        assert health["dropped_logs_requests"] == health["dropped_metrics_requests"] == 1


def test_a_token_is_needed_where_one_is_set() -> None:
    """401 without or with a wrong token; health stays open."""
    with running(token="secret-token") as server:
        body = request_of(1).SerializeToString()
        for authorization in ("", "Bearer wrong", "Basic c2VjcmV0LXRva2Vu", "Bearer secret-tokenx"):
            response = post(server, body, {**PROTOBUF, "Authorization": authorization})
            assert response.status_code == 401
            assert response.headers["WWW-Authenticate"] == "Bearer"
        assert post(server, body, {**PROTOBUF, "Authorization": "Bearer secret-token"}).status_code == 200
        assert requests.get(server.http + "/healthz", timeout=10).status_code == 200
        assert len(server.store.column("SpanId")) == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Host": "rebound.example:4318"},
    ],
)
def test_web_pages_cannot_send(shared: Running, headers: dict[str, str]) -> None:
    """A page of another site is refused, also under a name of its own that resolves to this machine."""
    assert post(shared, request_of(1).SerializeToString(), {**PROTOBUF, **headers}).status_code == 403


def test_a_full_queue_pushes_back() -> None:
    """429 with Retry-After once the queue is full, and success after it drained."""
    store = MemoryStore()
    with running(store) as server:
        server.server._writer._queue_spans = 10
        store.open.clear()
        bodies = [request_of(10, seed=seed).SerializeToString() for seed in range(3)]
        with requests.Session() as first, requests.Session() as second:
            import concurrent.futures

            with concurrent.futures.ThreadPoolExecutor() as pool:
                one = pool.submit(
                    first.post, server.http + "/v1/traces", bodies[0], headers=PROTOBUF, timeout=20
                )
                wait_for(lambda: server.server._writer._writing == 10)
                two = pool.submit(
                    second.post, server.http + "/v1/traces", bodies[1], headers=PROTOBUF, timeout=20
                )
                wait_for(lambda: server.server._writer._queued == 10)
                refused = post(server, bodies[2])
                assert refused.status_code == 429
                assert int(refused.headers["Retry-After"]) >= 1
                assert status_of(refused).code == 8
                store.open.set()
                assert one.result().status_code == two.result().status_code == 200
        assert post(server, bodies[2]).status_code == 200


def wait_for(condition: object, deadline_s: float = 10) -> None:
    """Return when the condition holds."""
    import time

    end = time.monotonic() + deadline_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "the condition never held"
        time.sleep(0.01)


def test_a_store_that_is_down_makes_senders_wait() -> None:
    """429 rather than a loss when the store takes nothing, and success once it is back."""
    store = MemoryStore()
    store.is_down = True
    with running(store) as server:
        body = request_of(4).SerializeToString()
        refused = post(server, body)
        assert refused.status_code == 429
        assert "Retry-After" in refused.headers
        assert requests.get(server.http + "/healthz", timeout=10).json()["refused_requests"] == 1
        store.is_down = False
        assert post(server, body).status_code == 200


def test_a_slow_sender_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that never ends holds nothing for long."""
    monkeypatch.setattr(http_module, "BODY_TIMEOUT_S", 0.3)
    with running() as server, socket.create_connection((server.host, server.port), timeout=10) as client:
        head = b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-protobuf\r\n"
        client.sendall(head + b"Content-Length: 100\r\n\r\nabc")
        assert b" 408 " in client.recv(4096)
        assert post(server, request_of(1).SerializeToString()).status_code == 200


def test_health_and_readiness(shared: Running) -> None:
    """Probes need no token and no body."""
    assert requests.get(shared.http + "/healthz", timeout=10).json()["status"] == "ok"
    assert requests.get(shared.http + "/readyz", timeout=10).json() == {"status": "ready"}

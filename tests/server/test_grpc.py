"""OTLP over gRPC, as senders see it."""

from __future__ import annotations

import gzip
from collections.abc import Iterator

import grpc
import pytest
import requests
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2_grpc import LogsServiceStub
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2_grpc import MetricsServiceStub
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub

from otel_cost.server.ingest import MAX_BODY_BYTES
from tests.server.fakes import MemoryStore
from tests.server.harness import Running, request_of, running

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


@pytest.fixture
def server() -> Iterator[Running]:
    """A server over a store in memory."""
    with running() as started:
        yield started


def send_raw(server: Running, body: bytes, **options: object) -> bytes:
    """Send bytes to the trace service and return the answer's bytes."""
    with grpc.insecure_channel(server.grpc, options=[("grpc.max_send_message_length", -1)]) as channel:
        return bytes(channel.unary_unary(EXPORT)(body, timeout=20, **options))


def test_spans_are_in_the_store_when_the_sender_is_answered(server: Running) -> None:
    """An acknowledged span is on disk."""
    with grpc.insecure_channel(server.grpc) as channel:
        for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
            answer = TraceServiceStub(channel).Export(request_of(4), compression=compression, timeout=20)
            assert answer == ExportTraceServiceResponse()
    assert len(server.store.column("SpanId")) == 8


def test_valid_spans_are_kept_beside_invalid_ones(server: Running) -> None:
    """Invalid spans are a partial success."""
    request = request_of(3)
    request.resource_spans[0].scope_spans[0].spans[1].trace_id = b""
    answer = ExportTraceServiceResponse.FromString(send_raw(server, request.SerializeToString()))
    assert answer.partial_success.rejected_spans == 1
    assert "traceId is 0 bytes" in answer.partial_success.error_message
    assert len(server.store.column("SpanId")) == 2


@pytest.mark.parametrize("body", [b"\xff\xff\xff", request_of(3).SerializeToString()[:-5]])
def test_rubbish_is_an_invalid_argument(server: Running, body: bytes) -> None:
    """The sender learns that retrying is useless, and the server goes on."""
    with pytest.raises(grpc.RpcError) as caught:
        send_raw(server, body)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "ExportTraceServiceRequest" in caught.value.details()
    assert send_raw(server, request_of(1).SerializeToString()) == b""


def test_a_message_beyond_the_limit_is_refused(server: Running) -> None:
    """Large messages, and small ones that grow when decompressed, end with RESOURCE_EXHAUSTED."""
    body = bytes(MAX_BODY_BYTES + 1)
    assert len(gzip.compress(body)) < 100_000
    for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
        with pytest.raises(grpc.RpcError) as caught:
            send_raw(server, body, compression=compression)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert send_raw(server, request_of(1).SerializeToString()) == b""


def test_a_token_is_needed_where_one_is_set() -> None:
    """UNAUTHENTICATED without or with a wrong token."""
    body = request_of(1).SerializeToString()
    with running(token="secret-token") as server:
        for metadata in (None, [("authorization", "Bearer nope")]):
            with pytest.raises(grpc.RpcError) as caught:
                send_raw(server, body, metadata=metadata)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert send_raw(server, body, metadata=[("authorization", "Bearer secret-token")]) == b""


def test_a_store_that_is_down_pushes_back_with_retry_info() -> None:
    """RESOURCE_EXHAUSTED without RetryInfo would make the sender drop its spans."""
    store = MemoryStore()
    store.is_down = True
    with running(store) as server:
        with pytest.raises(grpc.RpcError) as caught:
            send_raw(server, request_of(2).SerializeToString())
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        details = dict(caught.value.trailing_metadata())["grpc-status-details-bin"]
        status, info = Status.FromString(details), RetryInfo()
        assert status.code == 8
        assert status.details[0].Unpack(info)
        assert info.retry_delay.seconds >= 1
        store.is_down = False
        assert send_raw(server, request_of(2).SerializeToString()) == b""


def test_logs_and_metrics_are_taken_and_dropped(server: Running) -> None:
    """An exporter of all signals gets a success, and what was dropped is counted."""
    with grpc.insecure_channel(server.grpc) as channel:
        LogsServiceStub(channel).Export(ExportLogsServiceRequest(), timeout=20)
        MetricsServiceStub(channel).Export(ExportMetricsServiceRequest(), timeout=20)
    health = requests.get(server.http + "/healthz", timeout=10).json()
    assert health["dropped_logs_requests"] == health["dropped_metrics_requests"] == 1


def test_unknown_services_are_unimplemented(server: Running) -> None:
    """gRPC's own answer for what is not there."""
    with grpc.insecure_channel(server.grpc) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/other.Service/Call")(b"", timeout=20)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED

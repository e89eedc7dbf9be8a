"""OTLP over gRPC. https://opentelemetry.io/docs/specs/otlp/#otlpgrpc"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse

from otel_cost.errors import BackpressureError, MalformedError
from otel_cost.server.guard import Guard
from otel_cost.server.http import PROTOBUF, trace_response
from otel_cost.server.ingest import MAX_BODY_BYTES, Ingest

MAX_CONCURRENT_RPCS = 64
"""Calls served at once; each may hold `MAX_BODY_BYTES` before its size is known."""
_Handler = Callable[[bytes], Awaitable[bytes]]
_DETAILS = "grpc-status-details-bin"


def build_grpc_server(ingest: Ingest, guard: Guard) -> grpc.aio.Server:
    """Return a gRPC server with the three OTLP services; the caller binds and starts it."""
    server = grpc.aio.server(
        maximum_concurrent_rpcs=MAX_CONCURRENT_RPCS,
        options=[("grpc.max_receive_message_length", MAX_BODY_BYTES), ("grpc.so_reuseport", 0)],
    )
    service = _Service(ingest, guard)
    handlers = {
        "trace.v1.Trace": service.traces,
        "logs.v1.Logs": service.logs,
        "metrics.v1.Metrics": service.metrics,
    }
    server.add_generic_rpc_handlers(
        tuple(
            grpc.method_handlers_generic_handler(
                f"opentelemetry.proto.collector.{name}Service",
                {"Export": grpc.unary_unary_rpc_method_handler(service.contained(handler))},
            )
            for name, handler in handlers.items()
        )
    )
    return server


class _Service:
    """The three Export methods, on undecoded bytes so that a bad message gets a clear answer."""

    def __init__(self, ingest: Ingest, guard: Guard) -> None:
        self._ingest, self._guard = ingest, guard

    def contained(self, handler: _Handler) -> Callable[[bytes, Any], Awaitable[bytes]]:
        """Return the handler behind the token, its errors as the statuses a sender understands."""

        async def export(body: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            metadata = {str(key).lower(): str(value) for key, value in context.invocation_metadata() or ()}
            if not self._guard.has_bearer(metadata.get("authorization", "")):
                why = "a token is needed: send the metadata `authorization: Bearer <OTEL_COST_TOKEN>`"
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, why)
            try:
                return await self._with_room(handler, body)
            except MalformedError as error:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            except BackpressureError as error:
                self._ingest.counters.refused_requests += 1
                await _push_back(context, error, is_ready=self._ingest.is_ready)

        return export

    async def _with_room(self, handler: _Handler, body: bytes) -> bytes:
        self._ingest.reserve(len(body))
        try:
            return await handler(body)
        finally:
            self._ingest.release(len(body))

    async def traces(self, body: bytes) -> bytes:
        """Store the spans of an `ExportTraceServiceRequest`."""
        answer: bytes = trace_response(await self._ingest.export(body, PROTOBUF)).SerializeToString()
        return answer

    async def logs(self, body: bytes) -> bytes:
        """Take logs and drop them, so that an exporter of all signals stays calm."""
        self._ingest.counters.dropped_logs_requests += 1
        return ExportLogsServiceResponse().SerializeToString()

    async def metrics(self, body: bytes) -> bytes:
        """Take metrics and drop them, so that an exporter of all signals stays calm."""
        self._ingest.counters.dropped_metrics_requests += 1
        return ExportMetricsServiceResponse().SerializeToString()


async def _push_back(context: Any, error: BackpressureError, *, is_ready: bool) -> NoReturn:
    """End the call so that the sender retries: OTLP asks for RetryInfo with RESOURCE_EXHAUSTED."""
    code = grpc.StatusCode.RESOURCE_EXHAUSTED if is_ready else grpc.StatusCode.UNAVAILABLE
    delay = Duration(seconds=int(error.retry_after_s), nanos=int(error.retry_after_s % 1 * 1e9))
    status = Status(code=code.value[0], message=str(error))
    status.details.add().Pack(RetryInfo(retry_delay=delay))
    await context.abort(code, str(error), ((_DETAILS, status.SerializeToString()),))
    raise AssertionError("abort raises")

"""OTLP over HTTP. https://opentelemetry.io/docs/specs/otlp/#otlphttp"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from google.rpc import code_pb2
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from otel_cost.errors import BackpressureError, MalformedError
from otel_cost.server.guard import Guard
from otel_cost.server.ingest import DECODERS, ENCODINGS, MAX_BODY_BYTES, Ingest, Outcome, TooLargeError

BODY_TIMEOUT_S = 30.0
"""How long a sender may take over its body: 20 MB at 6 Mbit/s."""
PROTOBUF = "application/x-protobuf"
_Handler = Callable[[Request], Awaitable[Response]]
_CODES = {
    400: code_pb2.INVALID_ARGUMENT,
    401: code_pb2.UNAUTHENTICATED,
    403: code_pb2.PERMISSION_DENIED,
    404: code_pb2.UNIMPLEMENTED,
    405: code_pb2.UNIMPLEMENTED,
    408: code_pb2.DEADLINE_EXCEEDED,
    413: code_pb2.INVALID_ARGUMENT,
    415: code_pb2.INVALID_ARGUMENT,
    429: code_pb2.RESOURCE_EXHAUSTED,
    500: code_pb2.INTERNAL,
    503: code_pb2.UNAVAILABLE,
}


def content_type(request: Request) -> str:
    """Return the media type of the body, without parameters and in lower case."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def reply(
    request: Request, message: Message, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a message in the encoding the request came in; JSON for anything but protobuf."""
    if content_type(request) == PROTOBUF:
        return Response(message.SerializeToString(), status, dict(headers or {}), PROTOBUF)
    text = MessageToJson(message, indent=None)
    return Response(text, status, dict(headers or {}), "application/json")


def refuse(request: Request, status: int, why: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error as OTLP asks for it: a `google.rpc.Status`."""
    return reply(request, Status(code=_CODES.get(status, code_pb2.UNKNOWN), message=why), status, headers)


async def on_http_error(request: Request, error: Exception) -> Response:
    """Answer what no route took: unknown paths and methods."""
    if not isinstance(error, HTTPException):
        raise error
    why = {
        404: f"{request.url.path} is not served here: traces go to /v1/traces, queries to /clickhouse",
        405: f"{request.method} is not served at {request.url.path}: OTLP is sent by POST",
    }
    return refuse(request, error.status_code, why.get(error.status_code, error.detail), error.headers)


class Receiver:
    """The OTLP/HTTP endpoints."""

    def __init__(self, ingest: Ingest, guard: Guard) -> None:
        self._ingest, self._guard = ingest, guard

    def routes(self) -> list[Route]:
        """Return the routes to mount."""
        return [
            Route("/v1/traces", self._guarded(self._traces), methods=["POST"]),
            Route("/v1/logs", self._guarded(self._logs), methods=["POST"]),
            Route("/v1/metrics", self._guarded(self._metrics), methods=["POST"]),
            Route("/healthz", self._healthz),
            Route("/readyz", self._readyz),
        ]

    def _guarded(self, handler: _Handler) -> _Handler:
        async def guarded(request: Request) -> Response:
            if self._guard.is_foreign(request):
                return refuse(request, 403, "requests from web pages are not served")
            if not self._guard.has_bearer(request.headers.get("authorization", "")):
                why = "a token is needed: send `Authorization: Bearer <OTEL_COST_TOKEN>`"
                return refuse(request, 401, why, {"WWW-Authenticate": "Bearer"})
            return await self._contained(request, handler)

        return guarded

    async def _contained(self, request: Request, handler: _Handler) -> Response:
        """Answer with the status a sender understands, whatever goes wrong."""
        try:
            return self._unsupported(request) or await handler(request)
        except TooLargeError as error:
            return refuse(request, 413, str(error), {"Connection": "close"})
        except MalformedError as error:
            return refuse(request, 400, str(error))
        except BackpressureError as error:
            self._ingest.counters.refused_requests += 1
            status = 429 if self._ingest.is_ready else 503
            return refuse(request, status, str(error), {"Retry-After": str(math.ceil(error.retry_after_s))})
        except asyncio.TimeoutError:
            why = f"the body did not arrive within {BODY_TIMEOUT_S:.0f} s"
            return refuse(request, 408, why, {"Connection": "close"})
        except ClientDisconnect:
            return Response(status_code=400)

    def _unsupported(self, request: Request) -> Response | None:
        kind, encoding = content_type(request), _encoding(request)
        if kind not in DECODERS:
            return refuse(request, 415, f"Content-Type {kind!r} is not OTLP: use {' or '.join(DECODERS)}")
        if encoding not in ENCODINGS:
            return refuse(
                request, 415, f"Content-Encoding {encoding!r} is not understood: use gzip, deflate or zstd"
            )
        return None

    async def _traces(self, request: Request) -> Response:
        body = await self._body(request)
        try:
            outcome = await self._ingest.export(body, content_type(request), _encoding(request))
        finally:
            self._ingest.release(len(body))
        return reply(request, trace_response(outcome))

    async def _logs(self, request: Request) -> Response:
        self._ingest.release(len(await self._body(request)))
        self._ingest.counters.dropped_logs_requests += 1
        return reply(request, ExportLogsServiceResponse())

    async def _metrics(self, request: Request) -> Response:
        self._ingest.release(len(await self._body(request)))
        self._ingest.counters.dropped_metrics_requests += 1
        return reply(request, ExportMetricsServiceResponse())

    async def _body(self, request: Request) -> bytes:
        """Return the body as sent, its size reserved; the caller releases it."""
        declared = request.headers.get("content-length", "0")
        if declared.isdecimal() and int(declared) > MAX_BODY_BYTES:
            raise TooLargeError
        body = bytearray()
        try:
            await asyncio.wait_for(self._read(request, body), BODY_TIMEOUT_S)
        except BaseException:
            self._ingest.release(len(body))
            raise
        return bytes(body)

    async def _read(self, request: Request, body: bytearray) -> None:
        async for chunk in request.stream():
            self._ingest.reserve(len(chunk))
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise TooLargeError

    async def _healthz(self, request: Request) -> Response:
        pending = self._ingest.pending_spans
        return JSONResponse({"status": "ok", "pending_spans": pending, **self._ingest.counters.as_dict()})

    async def _readyz(self, request: Request) -> Response:
        ready = self._ingest.is_ready
        return JSONResponse({"status": "ready" if ready else "stopping"}, 200 if ready else 503)


def trace_response(outcome: Outcome) -> ExportTraceServiceResponse:
    """Return the answer to an export: empty when all was accepted, a partial success otherwise."""
    response = ExportTraceServiceResponse()
    if outcome.rejected:
        response.partial_success.rejected_spans = outcome.rejected
        response.partial_success.error_message = outcome.message
    return response


def _encoding(request: Request) -> str:
    return request.headers.get("content-encoding", "").strip().lower()

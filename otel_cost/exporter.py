"""An OTLP exporter that an absent collector cannot slow down."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

logger = logging.getLogger("otel_cost")

DEFAULT_ENDPOINT = "http://127.0.0.1:4318"
CONNECT_TIMEOUT_S = 0.5
RETRY_AFTER_S = 2.0
EXPORT_TIMEOUT_S = 5.0


def endpoint(environ: Mapping[str, str] | None = None) -> str:
    """Return where spans are sent: the standard variables, by default the port of `otel-cost up`."""
    environ = os.environ if environ is None else environ
    return (
        environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
        or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
        or DEFAULT_ENDPOINT
    )


def is_reachable(url: str, timeout_s: float = CONNECT_TIMEOUT_S) -> bool:
    """Return whether something listens at a URL's host and port."""
    parts = urlsplit(url if "//" in url else f"//{url}")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "127.0.0.1", port), timeout_s).close()
    except OSError:
        return False
    return True


class ResilientExporter(SpanExporter):
    """Sends spans as the standard `OTEL_EXPORTER_OTLP_*` variables say; gives up at once when nobody listens.

    While the collector is away spans are dropped and counted, and one line is logged. It is tried again every
    two seconds, so that a collector started later receives what follows.
    """

    def __init__(self, inner: SpanExporter | None = None, *, url: str | None = None) -> None:
        self._url = url or endpoint()
        # Not made lazily: an import at exit would change the status of an interrupted program.
        self._inner = inner or _otlp_exporter()
        self._is_up = False
        self._has_complained = False
        self._next_try_s = 0.0
        self.dropped_spans = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans, or drop them when nobody listens."""
        if self._can_send():
            result = self._inner.export(spans)
            self._is_up = result is SpanExportResult.SUCCESS
            return result
        self.dropped_spans += len(spans)
        if not self._has_complained:
            self._has_complained = True
            logger.warning(
                "nothing listens at %s, so the spans of this run are not kept; start `otel-cost up`, or set "
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                self._url,
            )
        return SpanExportResult.FAILURE

    def _can_send(self) -> bool:
        if self._is_up:
            return True
        now_s = time.monotonic()
        if now_s >= self._next_try_s:
            self._is_up = is_reachable(self._url)
            self._next_try_s = now_s + RETRY_AFTER_S
        return self._is_up

    def shutdown(self) -> None:
        """Close the connection."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is held back here."""
        return self._inner.force_flush(timeout_millis)


def _otlp_exporter() -> SpanExporter:
    """Return the exporter of the protocol asked for, HTTP where none is."""
    protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get(
        "OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"
    )
    arguments: dict[str, Any] = {}
    if not any(f"OTEL_EXPORTER_OTLP_{name}TIMEOUT" in os.environ for name in ("", "TRACES_")):
        arguments["timeout"] = EXPORT_TIMEOUT_S
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter

        return GrpcExporter(**arguments)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter

    if endpoint() == DEFAULT_ENDPOINT:
        arguments["endpoint"] = f"{DEFAULT_ENDPOINT}/v1/traces"
    return HttpExporter(**arguments)

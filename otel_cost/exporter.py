"""An OTLP exporter that an absent collector cannot slow down."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from opentelemetry import _logs, metrics
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.util.re import parse_env_headers

logger = logging.getLogger("otel_cost")

DEFAULT_ENDPOINT = "http://127.0.0.1:4318"
DEFAULT_GRPC_ENDPOINT = "http://127.0.0.1:4317"
CONNECT_TIMEOUT_S = 0.5
RETRY_AFTER_S = 2.0
SLOW_S = 1.0
EXPORT_TIMEOUT_S = 5
"""Default of OTEL_COST_FLUSH_TIMEOUT_S: how long one batch, and so the end of a process, may take."""


def endpoint(environ: Mapping[str, str] | None = None) -> str:
    """Return where spans are sent: the standard variables, by default the port of `otel-cost up`."""
    environ = os.environ if environ is None else environ
    return (
        environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
        or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
        or DEFAULT_ENDPOINT
    )


def traces_url(environ: Mapping[str, str] | None = None) -> str:
    """Return where spans are posted over HTTP: only what is set for traces alone is a whole address."""
    environ = os.environ if environ is None else environ
    whole = environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    return whole or f"{endpoint(environ).rstrip('/')}/v1/traces"


def protocol(environ: Mapping[str, str] | None = None) -> str:
    """Return the protocol that spans are sent with, HTTP where none is asked for."""
    environ = os.environ if environ is None else environ
    names = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    return next((environ[name] for name in names if environ.get(name)), "http/protobuf")


def headers_in_force(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the headers that go with spans.

    Those of the standard variables, and OTEL_COST_TOKEN where they have no authorization. It is sent to
    this machine alone: any other address may be somebody else's collector.
    """
    environ = os.environ if environ is None else environ
    names = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")
    text = next((environ[name] for name in names if environ.get(name)), "")
    headers = dict(parse_env_headers(text, liberal=True))
    token = environ.get("OTEL_COST_TOKEN")
    if token and "authorization" not in headers and _is_here(endpoint(environ)):
        headers["authorization"] = f"Bearer {token}"
    return headers


def _is_here(url: str) -> bool:
    host = urlsplit(url if "//" in url else f"//{url}").hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def is_reachable(url: str, timeout_s: float = CONNECT_TIMEOUT_S) -> bool:
    """Return whether something listens at a URL's host and port."""
    parts = urlsplit(url if "//" in url else f"//{url}")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "127.0.0.1", port), timeout_s).close()
    except OSError:
        return False
    return True


class Gate:
    """Tells exporters whether somebody listens, so that they need not wait to find out.

    Args:
        url: Where the spans go.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._is_up = False
        self._has_complained = False
        self._next_try_s = 0.0

    def is_open(self) -> bool:
        """Return whether it is worth trying to send; log one line the first time it is not."""
        if not self._is_up and time.monotonic() >= self._next_try_s:
            self._is_up = is_reachable(self._url)
            self._next_try_s = time.monotonic() + RETRY_AFTER_S
        if not self._is_up:
            self._complain()
        return self._is_up

    def send(self, export: Callable[[], Any]) -> Any:
        """Send a batch and return the exporter's answer.

        After a failure it is looked whether anybody listens before the next batch is sent; after a slow one,
        as of a collector that accepts and never answers, not before two seconds have passed.
        """
        started_s = time.monotonic()
        result = export()
        self._is_up = getattr(result, "name", "") == "SUCCESS"
        now_s = time.monotonic()
        if not self._is_up and now_s - started_s > SLOW_S:
            self._next_try_s = now_s + RETRY_AFTER_S
        return result

    def _complain(self) -> None:
        if not self._has_complained:
            self._has_complained = True
            logger.warning(
                "nothing listens at %s, so the spans of this run are not kept; start `otel-cost up`, or set "
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                self._url,
            )


class ResilientExporter(SpanExporter):
    """Sends spans as the standard `OTEL_EXPORTER_OTLP_*` variables say; gives up at once when nobody listens.

    While the collector is away spans are dropped and counted, and one line is logged. It is tried again every
    two seconds, so that a collector started later receives what follows.
    """

    def __init__(self, inner: SpanExporter | None = None, *, url: str | None = None) -> None:
        self._gate = Gate(url or endpoint())
        # Not made lazily: an import at exit would change the status of an interrupted program.
        self._inner = inner or _otlp_exporter()
        self.dropped_spans = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans, or drop them when nobody listens."""
        if not self._gate.is_open():
            self.dropped_spans += len(spans)
            return SpanExportResult.FAILURE
        result: SpanExportResult = self._gate.send(lambda: self._inner.export(spans))
        return result

    def shutdown(self) -> None:
        """Close the connection."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is held back here."""
        return self._inner.force_flush(timeout_millis)


def guard_default_exporters(provider: object) -> None:
    """Keep exporters that a distribution made for the default endpoint from waiting for a collector.

    Where nobody chose an endpoint, probably nobody listens at the default one; the SDK's exporters would log
    each failure and hold the program up for ten seconds when it ends. Whatever the endpoint, a batch takes no
    longer than one of ours: what listens may not understand, as the port of OTLP/HTTP does not gRPC.
    """
    for exporter in _otlp_exporters(provider):
        _limit_time(exporter)
    if any(name.startswith("OTEL_EXPORTER_OTLP_") and name.endswith("ENDPOINT") for name in os.environ):
        return
    is_grpc = os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc") == "grpc"
    gate = Gate(DEFAULT_GRPC_ENDPOINT if is_grpc else DEFAULT_ENDPOINT)
    for exporter in _otlp_exporters(provider):
        exporter.export = _guarded(exporter.export, gate)


def _otlp_exporters(provider: object) -> Iterator[Any]:
    """Yield the SDK's own exporters of a provider, of log records and of metrics."""
    for holder in _holders(provider):
        exporter = getattr(holder, "_exporter", None)
        if exporter is not None and type(exporter).__name__.startswith("OTLP"):
            yield exporter


def _limit_time(exporter: Any) -> None:
    """Let a batch take no longer than OTEL_COST_FLUSH_TIMEOUT_S, where nobody chose another time."""
    if _is_timeout_chosen():
        return
    holders: tuple[Any, ...] = (exporter, getattr(exporter, "_client", None))
    for holder in holders:
        if isinstance(getattr(holder, "_timeout", None), int | float):
            holder._timeout = min(holder._timeout, _timeout_s())


def _is_timeout_chosen() -> bool:
    return any(f"OTEL_EXPORTER_OTLP_{name}TIMEOUT" in os.environ for name in ("", "TRACES_"))


def _holders(provider: object) -> Iterator[object]:
    """Yield what holds an exporter: batching processors of spans and log records, readers of metrics."""
    spans = getattr(provider, "_active_span_processor", None)
    records = getattr(_logs.get_logger_provider(), "_multi_log_record_processor", None)
    processors = (
        *getattr(spans, "_span_processors", ()),
        *getattr(records, "_log_record_processors", ()),
    )
    yield from (getattr(processor, "_batch_processor", None) for processor in processors)
    meters = metrics.get_meter_provider()
    configured = getattr(meters, "_sdk_config", None)
    readers: Sequence[object] = getattr(meters, "_metric_readers", getattr(configured, "metric_readers", ()))
    yield from readers


def _guarded(send: Callable[..., Any], gate: Gate) -> Callable[..., Any]:
    def export(*arguments: Any, **options: Any) -> Any:
        return gate.send(lambda: send(*arguments, **options)) if gate.is_open() else None

    return export


def _timeout_s() -> int:
    """Return how long one batch may take; a setting that cannot be used is reported elsewhere."""
    text = os.environ.get("OTEL_COST_FLUSH_TIMEOUT_S", "").strip()
    return int(text) if text.isdecimal() and int(text) > 0 else EXPORT_TIMEOUT_S


def _otlp_exporter() -> SpanExporter:
    """Return the exporter of the protocol asked for, HTTP where none is."""
    arguments: dict[str, Any] = {}
    if headers := headers_in_force():
        arguments["headers"] = headers
    if not _is_timeout_chosen():
        arguments["timeout"] = _timeout_s()
    if protocol() == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter

        return GrpcExporter(**arguments)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter

    if endpoint() == DEFAULT_ENDPOINT:
        arguments["endpoint"] = f"{DEFAULT_ENDPOINT}/v1/traces"
    return HttpExporter(**arguments)

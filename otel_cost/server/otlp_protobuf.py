"""OTLP in protobuf to rows. https://opentelemetry.io/docs/specs/otlp/#binary-protobuf-encoding"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_cost.errors import MalformedError
from otel_cost.server import spans
from otel_cost.server.spans import Decoded, Row


def decode_protobuf(body: bytes) -> Decoded:
    """Return the spans of an `ExportTraceServiceRequest`, and count those that cannot be accepted.

    Raises:
        MalformedError: The body is something else, truncated, or nested beyond protobuf's 100 messages.
    """
    try:
        request = ExportTraceServiceRequest.FromString(body)
    except DecodeError as error:
        raise MalformedError(
            f"the body is not an OTLP ExportTraceServiceRequest in protobuf: {error}"
        ) from error
    if body and not request.resource_spans:
        raise MalformedError(
            "the body has bytes but no resource_spans: it is not an OTLP ExportTraceServiceRequest"
        )
    return flatten(request)


def flatten(request: ExportTraceServiceRequest) -> Decoded:
    """Return the spans of a parsed request as rows."""
    spans.check_spans(
        len(group.spans) for resource in request.resource_spans for group in resource.scope_spans
    )
    decoded = Decoded()
    for resource_spans in request.resource_spans:
        resource = _attributes(resource_spans.resource.attributes)
        spans.cut(resource, decoded)
        for group in resource_spans.scope_spans:
            scope = (group.scope.name, group.scope.version)
            _add_group(decoded, group.spans, resource, scope)
    return decoded


def _add_group(
    decoded: Decoded, group: Iterable[Span], resource: dict[str, str], scope: tuple[str, str]
) -> None:
    add, service = decoded.rows.append, resource.get("service.name", "")
    for span in group:
        try:
            add(_row(decoded, span, resource, service, scope))
        except MalformedError as error:  # noqa: PERF203
            decoded.reject(error)


def _row(decoded: Decoded, span: Span, resource: dict[str, str], service: str, scope: tuple[str, str]) -> Row:
    trace_id, span_id, parent = span.trace_id, span.span_id, span.parent_span_id
    start, events, links = span.start_time_unix_nano, span.events, span.links
    spans.check_ids(trace_id, span_id, parent)
    spans.check_start(start)
    attributes = _attributes(span.attributes)
    spans.cut(attributes, decoded)
    return (
        start,
        trace_id.hex(),
        span_id.hex(),
        spans.parent_hex(parent),
        span.trace_state,
        span.name[: spans.MAX_VALUE_CHARS],
        spans.span_kind(span.kind),
        service,
        resource,
        *scope,
        attributes,
        spans.duration_ns(start, span.end_time_unix_nano),
        spans.status_code(span.status.code),
        span.status.message[: spans.MAX_VALUE_CHARS],
        *(_events(decoded, events) if events else ([], [], [])),
        *(_links(decoded, links) if links else ([], [], [], [])),
    )


def _events(decoded: Decoded, events: Any) -> tuple[list[int], list[str], list[dict[str, str]]]:
    spans.check_count("events", len(events))
    attributes = [_attributes(event.attributes) for event in events]
    for one in attributes:
        spans.cut(one, decoded)
    return (
        [spans.event_ns(event.time_unix_nano) for event in events],
        [event.name for event in events],
        attributes,
    )


def _links(decoded: Decoded, links: Any) -> tuple[list[str], list[str], list[str], list[dict[str, str]]]:
    spans.check_count("links", len(links))
    attributes = [_attributes(link.attributes) for link in links]
    for one in attributes:
        spans.cut(one, decoded)
    return (
        [link.trace_id.hex() for link in links],
        [link.span_id.hex() for link in links],
        [link.trace_state for link in links],
        attributes,
    )


def _attributes(pairs: Any) -> dict[str, str]:
    spans.check_count("attributes", len(pairs))
    found = {}
    for pair in pairs:
        value = pair.value
        found[pair.key] = value.string_value or _text(value)
    return found


def _text(value: AnyValue) -> str:
    member = value.WhichOneof("value")
    if member == "int_value":
        return str(value.int_value)
    if member == "bool_value":
        return "true" if value.bool_value else "false"
    if member == "double_value":
        return spans.float_text(value.double_value)
    if member == "bytes_value":
        return spans.bytes_text(value.bytes_value)
    if member in ("array_value", "kvlist_value"):
        return spans.json_text(_plain(value, 1))
    return ""


def _plain(value: AnyValue, depth: int) -> Any:
    """Return a nested value as plain Python, ready for JSON."""
    spans.check_depth(depth)
    member = value.WhichOneof("value")
    if member == "array_value":
        return [_plain(item, depth + 1) for item in value.array_value.values]
    if member == "kvlist_value":
        return {pair.key: _plain(pair.value, depth + 1) for pair in _pairs(value)}
    if member == "double_value":
        return spans.json_number(value.double_value)
    if member == "bytes_value":
        return spans.bytes_text(value.bytes_value)
    return getattr(value, member) if member else None


def _pairs(value: AnyValue) -> Iterable[KeyValue]:
    pairs: Iterable[KeyValue] = value.kvlist_value.values
    return pairs

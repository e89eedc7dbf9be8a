"""Spans of recorded OTLP/JSON, for tests that look at them one by one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RecordedSpan:
    """One span of an OTLP/JSON request with the scope and resource it came with."""

    span: dict[str, Any]
    scope: str
    scope_version: str
    resource: dict[str, Any]

    @property
    def attributes(self) -> dict[str, Any]:
        """Return the attributes as an SDK would hold them."""
        return attribute_map(self.span.get("attributes", []))

    @property
    def exceptions(self) -> list[Any]:
        """Return the type of each exception that was recorded on it."""
        events = (attribute_map(event.get("attributes", [])) for event in self.span.get("events", []))
        return [event.get("exception.type") for event in events]


def recorded_spans(request: dict[str, Any]) -> Iterator[RecordedSpan]:
    """Yield every span of an ExportTraceServiceRequest."""
    for resource_spans in request["resourceSpans"]:
        resource = attribute_map(resource_spans.get("resource", {}).get("attributes", []))
        for scope_spans in resource_spans["scopeSpans"]:
            scope = scope_spans.get("scope", {})
            for span in scope_spans["spans"]:
                yield RecordedSpan(span, scope.get("name", ""), scope.get("version", ""), resource)


def attribute_map(pairs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return OTLP key-value pairs as a map."""
    return {pair["key"]: any_value(pair["value"]) for pair in pairs}


def any_value(value: dict[str, Any]) -> Any:
    """Return the Python value of an OTLP AnyValue."""
    if not value:
        return None
    kind, held = next(iter(value.items()))
    if kind == "intValue":
        return int(held)
    if kind == "arrayValue":
        return tuple(any_value(item) for item in held.get("values", []))
    if kind == "kvlistValue":
        return attribute_map(held.get("values", []))
    return held

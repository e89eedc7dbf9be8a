"""The columns of `otel_traces`, as the OpenTelemetry Collector's ClickHouse exporter makes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from otel_cost.errors import StoreError

SPAN_COLUMNS = {
    "Timestamp": "DateTime64(9)",
    "TraceId": "String",
    "SpanId": "String",
    "ParentSpanId": "String",
    "TraceState": "String",
    "SpanName": "LowCardinality(String)",
    "SpanKind": "LowCardinality(String)",
    "ServiceName": "LowCardinality(String)",
    "ResourceAttributes": "Map(LowCardinality(String), String)",
    "ScopeName": "String",
    "ScopeVersion": "String",
    "SpanAttributes": "Map(LowCardinality(String), String)",
    "Duration": "UInt64",
    "StatusCode": "LowCardinality(String)",
    "StatusMessage": "String",
    "Events.Timestamp": "Array(DateTime64(9))",
    "Events.Name": "Array(LowCardinality(String))",
    "Events.Attributes": "Array(Map(LowCardinality(String), String))",
    "Links.TraceId": "Array(String)",
    "Links.SpanId": "Array(String)",
    "Links.TraceState": "Array(String)",
    "Links.Attributes": "Array(Map(LowCardinality(String), String))",
}
"""Column name to ClickHouse type, in the order of the table."""
SPAN_TYPES = tuple(SPAN_COLUMNS.values())


def check_columns(columns: Mapping[str, Sequence[Any]]) -> None:
    """Raise `StoreError` unless every column is there and all have one length."""
    if missing := [name for name in SPAN_COLUMNS if name not in columns]:
        raise StoreError(f"a batch of spans lacks the columns {', '.join(missing)}; see SPAN_COLUMNS")
    lengths = {name: len(columns[name]) for name in SPAN_COLUMNS}
    if len(set(lengths.values())) > 1:
        raise StoreError(f"the columns of a batch of spans differ in length: {lengths}")

"""The columns of `otel_traces`, as the OpenTelemetry Collector's ClickHouse exporter makes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from otel_cost.errors import StoreError

if TYPE_CHECKING:
    from clickhouse_connect.datatypes.base import ClickHouseType

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


@dataclass(frozen=True, slots=True)
class Packed:
    """Spans as the store reads them, made wherever there is time for it.

    Attributes:
        block: ClickHouse's Native format; blocks join end to end.
        trace_ids: The trace of each span.
    """

    block: bytes
    trace_ids: Sequence[str]

    def __len__(self) -> int:
        return len(self.trace_ids)


def pack(columns: Mapping[str, Sequence[Any]]) -> Packed:
    """Return the columns of a batch, as `Store.insert_spans` takes them, ready for `Store.insert_packed`.

    Raises:
        StoreError: A column is missing, or shorter than another.
    """
    from clickhouse_connect.driver.insert import InsertContext
    from clickhouse_connect.driver.transform import NativeTransform

    check_columns(columns)
    values = [columns[name] for name in SPAN_COLUMNS]
    if not columns["TraceId"]:
        return Packed(b"", ())
    context = InsertContext("otel_traces", list(SPAN_COLUMNS), _types(), values, column_oriented=True)
    block = b"".join(NativeTransform.build_insert(context))
    if context.insert_exception is not None:
        raise StoreError(f"a batch of spans cannot be packed: {context.insert_exception}")
    _, _, block = block.partition(b"\n")  # the statement, which the driver writes in front
    return Packed(block, columns["TraceId"])


@cache
def _types() -> list[ClickHouseType]:
    from clickhouse_connect.datatypes.registry import get_from_name

    return [get_from_name(name) for name in SPAN_TYPES]

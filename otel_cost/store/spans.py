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
        StoreError: A column is missing, shorter than another, or holds what its type cannot.
    """
    check_columns(columns)
    trace_ids = columns["TraceId"]
    if not trace_ids:
        return Packed(b"", ())
    try:
        return Packed(_native(columns, len(trace_ids)), trace_ids)
    except Exception as error:  # the driver lets through whatever a value raises
        raise StoreError(f"a batch of spans cannot be packed: {error}") from error


def _native(columns: Mapping[str, Sequence[Any]], rows: int) -> bytes:
    """Return one block of ClickHouse's Native format: counts, then each column's name, type and values.

    The driver writes the values; making its own insert of them would import pandas, a second of work.
    """
    from clickhouse_connect.driver.common import write_leb128
    from clickhouse_connect.driver.insert import InsertContext

    types = _types()
    context = InsertContext("otel_traces", list(SPAN_COLUMNS), types)
    block = bytearray()
    write_leb128(len(types), block)
    write_leb128(rows, block)
    for name, kind in zip(SPAN_COLUMNS, types, strict=True):
        for text in (name, kind.insert_name):
            write_leb128(len(text), block)
            block += text.encode()
        kind.write_column(columns[name], block, context)
    return bytes(block)


@cache
def _types() -> list[ClickHouseType]:
    from clickhouse_connect.datatypes.registry import get_from_name

    return [get_from_name(name) for name in SPAN_TYPES]

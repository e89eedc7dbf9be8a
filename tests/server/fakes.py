"""Stores that do what a test tells them, in place of a database."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from clickhouse_connect.driver.buffer import ResponseBuffer
from clickhouse_connect.driver.query import QueryContext
from clickhouse_connect.driver.transform import NativeTransform

from otel_cost.errors import StoreError
from otel_cost.store import Packed


class MemoryStore:
    """Keeps batches in memory; can be told to refuse spans, to fail, or to wait."""

    def __init__(self) -> None:
        self.batches: list[Mapping[str, Sequence[Any]]] = []
        self.refused_names: set[str] = set()
        self.is_down = False
        self.inserts = 0
        self.open = threading.Event()
        self.open.set()

    def insert_packed(self, parts: Sequence[Packed]) -> None:
        """Keep a batch, or refuse it as told."""
        self.open.wait(10)
        self.inserts += 1
        columns = unpack(parts)
        if self.is_down or self.refused_names & set(columns["SpanName"]):
            raise StoreError("refused, as told")
        self.batches.append(columns)

    def column(self, name: str) -> list[Any]:
        """Return one column over all batches."""
        return [value for batch in self.batches for value in batch[name]]


def unpack(parts: Sequence[Packed]) -> dict[str, Sequence[Any]]:
    """Read packed spans as a database would."""
    context = QueryContext(query_formats={"DateTime64": "int"})
    blocks = SimpleNamespace(gen=iter([part.block for part in parts]), close=lambda: None, last_message=b"")
    found = NativeTransform.parse_response(ResponseBuffer(blocks), context)
    return dict(zip(found.column_names, found.result_columns, strict=True))

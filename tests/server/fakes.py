"""Stores that do what a test tells them, in place of a database."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from otel_cost.errors import StoreError


class MemoryStore:
    """Keeps batches in memory; can be told to refuse spans, to fail, or to wait."""

    def __init__(self) -> None:
        self.batches: list[Mapping[str, Sequence[Any]]] = []
        self.refused_names: set[str] = set()
        self.is_down = False
        self.inserts = 0
        self.open = threading.Event()
        self.open.set()

    def insert_spans(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Keep a batch, or refuse it as told."""
        self.open.wait(10)
        self.inserts += 1
        if self.is_down or self.refused_names & set(columns["SpanName"]):
            raise StoreError("refused, as told")
        self.batches.append(columns)

    def column(self, name: str) -> list[Any]:
        """Return one column over all batches."""
        return [value for batch in self.batches for value in batch[name]]

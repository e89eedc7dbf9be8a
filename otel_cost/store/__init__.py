"""The warehouse: the only package that knows SQL exists."""

from __future__ import annotations

from otel_cost.store.client import Result, Store, open_store
from otel_cost.store.spans import SPAN_COLUMNS, Packed, pack

__all__ = ["SPAN_COLUMNS", "Packed", "Result", "Store", "open_store", "pack"]

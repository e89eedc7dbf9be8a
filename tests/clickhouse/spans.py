"""Recorded and made-up spans, on their way into a store and through the rules in Python."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

from otel_cost.accounting import Entry, Span, account
from otel_cost.pricing import PriceBook
from otel_cost.server.otlp_json import flatten
from otel_cost.server.spans import to_columns
from otel_cost.store import Store
from tests.conformance.backends import facts
from tests.data import lines
from tests.otlp import recorded_spans

RECORDED = {
    "logfire": "replayed_spans/logfire-5.2.0.otlp.jsonl.xz",
    "openinference_old": "replayed_spans/openinference-openai-0.1.30+anthropic-0.1.20.otlp.jsonl.xz",
    "openinference": "replayed_spans/openinference-openai-0.1.66.otlp.jsonl.xz",
    "openllmetry_old": "replayed_spans/openllmetry-0.33.12.otlp.jsonl.xz",
    "openllmetry": "replayed_spans/openllmetry-0.62.4.otlp.jsonl.xz",
    "otel_genai": "replayed_spans/otel-genai-1.3b0.otlp.jsonl.xz",
    "otel_openai_v2": "replayed_spans/otel-openai-v2-2.1b0.otlp.jsonl.xz",
    "trail": "trail/traces.otlp.jsonl.xz",
    "frameworks": "framework_traces/framework_traces.otlp.jsonl",
}

Request = dict[str, Any]


def recorded_requests(name: str) -> list[Request]:
    """Return the OTLP/JSON requests of a recorded data set; skips where the data is not at hand."""
    return [json.loads(line)["otlp"] for line in lines(RECORDED[name])]


def insert(store: Store, requests: Iterable[Request]) -> None:
    """Deliver requests in one batch, as the receiver would."""
    rows = []
    for request in requests:
        decoded = flatten(request)
        assert not decoded.rejected
        rows += decoded.rows
    store.insert_spans(to_columns(rows))


def charges(store: Store) -> dict[tuple[str, str], dict[str, Any]]:
    """Return every row of `charges FINAL` by trace and span id."""
    answer = store.sql("SELECT * FROM charges FINAL", fmt="JSONEachRow")
    rows = [json.loads(line, parse_float=Decimal) for line in answer.splitlines()]
    return {(row["trace_id"], row["span_id"]): row for row in rows}


def entries(requests: Iterable[Request], book: PriceBook) -> dict[tuple[str, str], Entry]:
    """Return what the rules in Python say about the same spans."""
    return account(_spans(requests, book))


def _spans(requests: Iterable[Request], book: PriceBook) -> Iterator[Span]:
    for request in requests:
        for recorded in recorded_spans(request):
            yield facts(recorded, book)

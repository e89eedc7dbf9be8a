"""Recorded and made-up spans, on their way into a store and through the rules in Python."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

from otel_cost.accounting import Entry, Key, Span, account
from otel_cost.pricing import PriceBook
from otel_cost.server.otlp_json import flatten
from otel_cost.server.spans import to_columns
from otel_cost.store import Store
from tests.conformance.backends import facts
from tests.data import lines, shared_data
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

JAVASCRIPT = "otel_fixtures/vercel_ai_sdk_v6/all-spans.json"
"""Spans of the AI SDK as the JavaScript SDK holds them; which stands under which was not recorded."""
ONE_CALL = "otel_fixtures/openinference_genai"
"""Attributes of one call and one tool call, as several conventions write them: a file each."""
STARTED_NS = 1_780_315_200_000_000_000
"""2026-06-01 12:00:00 UTC, where a fixture has no time of its own."""

Request = dict[str, Any]


def recorded_requests(name: str) -> list[Request]:
    """Return the OTLP/JSON requests of a recorded data set; skips where the data is not at hand."""
    return [json.loads(line)["otlp"] for line in lines(RECORDED[name])]


def fixture_requests() -> list[Request]:
    """Return the spans of the shared fixtures as OTLP/JSON; skips where the data is not at hand."""
    made = [_of_javascript(span) for span in json.loads(shared_data(JAVASCRIPT).read_text())]
    files = sorted(shared_data(ONE_CALL).glob("*.json"))
    made += [of_attributes(number, json.loads(file.read_text())) for number, file in enumerate(files, 1)]
    return made


def _of_javascript(span: dict[str, Any]) -> Request:
    start, end = (
        seconds * 10**9 + nanoseconds for seconds, nanoseconds in (span["startTime"], span["endTime"])
    )
    ids = span["spanContext"]
    return _request("ai", ids["traceId"], ids["spanId"], (start, end), span["attributes"])


def of_attributes(number: int, attributes: dict[str, Any], started_ns: int = STARTED_NS) -> Request:
    """Return a span of one second, whose ids are a number, as OTLP/JSON."""
    at = (started_ns, started_ns + 10**9)
    return _request("fixture", f"{number:032x}", f"{number:016x}", at, attributes)


def _request(
    scope: str, trace_id: str, span_id: str, at: tuple[int, int], attributes: dict[str, Any]
) -> Request:
    span = {
        "traceId": trace_id,
        "spanId": span_id,
        "name": "span",
        "startTimeUnixNano": str(at[0]),
        "endTimeUnixNano": str(at[1]),
        "attributes": [{"key": name, "value": _any_value(value)} for name, value in attributes.items()],
    }
    return {"resourceSpans": [{"scopeSpans": [{"scope": {"name": scope}, "spans": [span]}]}]}


def _any_value(value: Any) -> dict[str, Any]:
    """Return an attribute as OTLP has it: a number of JavaScript without a fraction is an integer."""
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int | float):
        return {"intValue": str(int(value))} if value == int(value) else {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_any_value(item) for item in value]}}
    return {"stringValue": value}


def insert(store: Store, requests: Iterable[Request]) -> None:
    """Deliver requests in one batch, as the receiver would, and have them added up."""
    rows = []
    for request in requests:
        decoded = flatten(request)
        assert not decoded.rejected
        rows += decoded.rows
    store.insert_spans(to_columns(rows))
    store.roll()


def charges(store: Store) -> dict[tuple[str, str], dict[str, Any]]:
    """Return every row of `charges FINAL` by trace and span id."""
    answer = store.sql("SELECT * FROM charges FINAL", fmt="JSONEachRow")
    rows = [json.loads(line, parse_float=Decimal) for line in answer.splitlines()]
    return {(row["trace_id"], row["span_id"]): row for row in rows}


def entries(requests: Iterable[Request], book: PriceBook) -> dict[Key, Entry]:
    """Return what the rules in Python say about the same spans."""
    return account(_spans(requests, book))


def _spans(requests: Iterable[Request], book: PriceBook) -> Iterator[Span]:
    for request in requests:
        for recorded in recorded_spans(request):
            yield facts(recorded, book)

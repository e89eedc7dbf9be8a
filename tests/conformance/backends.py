"""The project's own answers to the conformance suite: over whole sets of spans, and live in a process."""

from __future__ import annotations

import random
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import Span as ApiSpan
from opentelemetry.trace import Status, StatusCode, Tracer, set_span_in_context

from otel_cost.accounting import Entry, Span, account
from otel_cost.attributes import EXECUTION_ID, PAYER_NAMES
from otel_cost.charging import charge, error_type_of
from otel_cost.config import Config
from otel_cost.money import usd_text
from otel_cost.pricing import PriceBook
from otel_cost.processor import CostSpanProcessor
from otel_cost.usage import MODEL, read
from tests.conformance.suite import BASE_NS, MS, Answer, Case
from tests.otlp import RecordedSpan, recorded_spans

COLUMNS = {"user": "user_id", "agent": "agent_name", "session": "session_id"}
"""What a payer's field is called in answers and in SQL, where that is not its own name."""
PAYER_COLUMNS = {
    "execution_id": EXECUTION_ID[0],
    **{COLUMNS.get(name, name): aliases[0] for name, aliases in PAYER_NAMES.items()},
}
"""The attribute a live span carries each payer field in."""


def facts(recorded: RecordedSpan, book: PriceBook) -> Span:
    """Return what accounting needs to know of a recorded span, read and priced."""
    span, attributes = recorded.span, recorded.attributes
    started = int(span["startTimeUnixNano"])
    reading = read(attributes, scope=recorded.scope, scope_version=recorded.scope_version)
    is_billable = reading is not None and reading.is_billable
    is_error = span.get("status", {}).get("code") == 2
    error_type = error_type_of(attributes, recorded.exceptions if is_error else ())
    return Span(
        trace_id=span["traceId"],
        span_id=span["spanId"],
        parent_span_id=span.get("parentSpanId") or "",
        scope=recorded.scope,
        started_ns=started,
        ended_ns=int(span["endTimeUnixNano"]),
        reading=reading,
        charge=charge(reading, attributes, book, at=started, error_type=error_type)
        if reading and is_billable
        else None,
        is_error=is_error,
    )


def in_python(case: Case, book: PriceBook) -> Answer:
    """Answer with `accounting.account`, given the spans in a shuffled order, some of them twice."""
    spans = [facts(recorded, book) for request in case.requests() for recorded in recorded_spans(request)]
    shuffled = spans + spans[: len(spans) // 2]
    random.Random(case.name).shuffle(shuffled)
    entries = account(shuffled).values()
    return Answer(totals(entries), {str(entry.span.span_id): _said(entry) for entry in entries})


def totals(entries: Any) -> dict[str, Any]:
    """Return the suite's totals over counted entries."""
    counted: list[Entry] = [entry for entry in entries if entry.counted]
    calls = [entry for entry in counted if entry.span.reading and entry.span.reading.kind == MODEL]
    return {
        "cost_usd": usd_text(sum(entry.cost_picousd or 0 for entry in counted)),
        "input_tokens": sum(entry.input_tokens for entry in counted),
        "output_tokens": sum(entry.output_tokens for entry in counted),
        "model_calls": len(calls),
        "tool_calls": len(counted) - len(calls),
        "unpriced_calls": sum(entry.cost_picousd is None for entry in calls),
    }


def _said(entry: Entry) -> dict[str, Any]:
    cost = entry.cost_picousd
    status = entry.span.charge.status if entry.span.charge else None
    return {
        "counted": entry.counted,
        "reason": entry.reason,
        "status": status,
        "cost_usd": None if cost is None else usd_text(cost),
    }


class FixedIds(IdGenerator):
    """Gives out the ids it was told, so that spans made live have the ids of the case."""

    def __init__(self) -> None:
        self.trace_id = self.span_id = 0

    def generate_trace_id(self) -> int:
        return self.trace_id

    def generate_span_id(self) -> int:
        return self.span_id

    def is_trace_id_random(self) -> bool:
        return False


def live(case: Case, book: PriceBook) -> Answer:
    """Answer by making the spans with the SDK, in the order of their times, and asking the processor."""
    ids, exporter = FixedIds(), InMemorySpanExporter()
    processor = CostSpanProcessor(Config(metrics=False), book=book)
    provider = TracerProvider(resource=_resource(case), id_generator=ids, shutdown_on_exit=False)
    provider.add_span_processor(processor)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    started: dict[str, ApiSpan] = {}
    moments = [(span["at"][0], 0, index, span) for index, span in enumerate(case.spans)]
    moments += [(span["at"][1], 1, -index, span) for index, span in enumerate(case.spans)]
    for _, is_end, _, span in sorted(moments, key=lambda moment: moment[:3]):
        if is_end:
            started[span["id"]].end(BASE_NS + span["at"][1] * MS)
        else:
            started[span["id"]] = _start(case, span, provider.get_tracer(*span["scope"]), ids, started)
    provider.shutdown()
    finished = exporter.get_finished_spans()
    named = {str((span.attributes or {}).get(EXECUTION_ID[0], "")) for span in finished}
    executions = [processor.execution(name) for name in sorted(named)]
    known = [execution for execution in executions if execution]
    return Answer(
        {
            "cost_usd": usd_text(sum(execution.total.cost_picousd for execution in known)),
            "input_tokens": sum(execution.total.input_tokens for execution in known),
            "output_tokens": sum(execution.total.output_tokens for execution in known),
            "model_calls": sum(execution.model_calls for execution in known),
            "tool_calls": sum(execution.tool_calls for execution in known),
            "unpriced_calls": sum(execution.total.unpriced for execution in known),
        },
        {format(span.context.span_id, "016x"): _payer(span) for span in finished},
    )


def _resource(case: Case) -> Resource:
    """Return the one resource a case's spans have: they are made in one process."""
    first, *others = (span.get("resource", {}) for span in case.spans)
    assert all(other == first for other in others), case.name
    return Resource({"service.name": "conformance", **first})


def _payer(span: ReadableSpan) -> dict[str, Any]:
    written = span.attributes or {}
    return {column: written.get(name, "") for column, name in PAYER_COLUMNS.items()}


def _start(
    case: Case, span: dict[str, Any], tracer: Tracer, ids: FixedIds, started: dict[str, ApiSpan]
) -> ApiSpan:
    trace_id, span_id = case.ids(span)
    ids.trace_id, ids.span_id = int(trace_id, 16), int(span_id, 16)
    parent = started.get(span.get("parent", ""))
    context = set_span_in_context(parent) if parent else None
    live_span = tracer.start_span(
        span["name"], context, attributes=span["attributes"], start_time=BASE_NS + span["at"][0] * MS
    )
    if span.get("error"):
        live_span.set_status(Status(StatusCode.ERROR))
    if "exception" in span:
        live_span.add_event("exception", {"exception.type": span["exception"]})
    return live_span

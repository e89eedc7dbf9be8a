"""Accounting over whole sets of spans: properties, and the recorded traces of real agents."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_cost.accounting import Entry, Span, account
from otel_cost.pricing import PriceBook
from otel_cost.usage import Reading, Usage
from tests.conformance.backends import facts, totals
from tests.data import lines
from tests.otlp import recorded_spans


@cache
def _book() -> PriceBook:
    return PriceBook.load()


@st.composite
def traces(draw: st.DrawFn) -> list[Span]:
    """A trace of calls, agents, tools and other spans in a random tree; parents may be missing."""
    size = draw(st.integers(min_value=1, max_value=14))
    spans = []
    for number in range(size):
        span_class = draw(st.sampled_from(["model", "model", "aggregate", "tool", "other"]))
        tokens = draw(st.sampled_from([None, 0, 10, 20, 30]))
        usage = None if tokens is None else Usage(input_tokens=tokens, output_tokens=tokens // 10)
        reading = Reading(
            span_class,
            model="m",
            usage=usage if span_class in ("model", "aggregate") else None,
            response_id=draw(st.sampled_from(["", "", "r1", "r2"])) if span_class == "model" else "",
            tool_name="t" if span_class == "tool" else "",
        )
        start = draw(st.integers(min_value=0, max_value=50))
        parent = draw(st.integers(min_value=-1, max_value=size))
        spans.append(
            Span(
                trace_id="t",
                span_id=f"{number:02d}",
                parent_span_id=f"{parent:02d}" if 0 <= parent != number else "",
                scope=draw(st.sampled_from(["a", "b"])),
                started_ns=start,
                ended_ns=start + draw(st.integers(min_value=0, max_value=50)),
                reading=None if span_class == "other" else reading,
            )
        )
    return spans


@given(traces(), st.randoms(use_true_random=False))
def test_order_and_repetition_change_nothing(spans: list[Span], random: object) -> None:
    """Any order, with any spans delivered again, gives the same entries."""
    again = spans + spans[::2]
    random.shuffle(again)  # type: ignore[attr-defined]
    assert account(again) == account(spans)


@given(traces())
def test_every_billable_span_is_accounted_for(spans: list[Span]) -> None:
    """A span is counted or says why not; nothing disappears and nothing is negative."""
    entries = account(spans)
    assert set(entries) == {(s.trace_id, s.span_id) for s in spans if s.reading and s.reading.is_billable}
    for entry in entries.values():
        assert entry.counted == (entry.reason == "")
        assert entry.input_tokens >= 0 <= entry.output_tokens


@given(traces())
def test_never_more_than_the_plain_sum(spans: list[Span]) -> None:
    """What counts is at most what all spans say together."""
    said = [span.usage for span in spans if span.usage]
    counted = totals(account(spans).values())
    assert counted["input_tokens"] <= sum(usage.total_input_tokens for usage in said)
    assert counted["output_tokens"] <= sum(usage.total_output_tokens for usage in said)


@given(traces())
def test_calls_alone_all_count(spans: list[Span]) -> None:
    """Calls of one scope without ids and without relation to each other count whole."""
    calls = [
        span._replace(parent_span_id="", scope="a", reading=span.reading._replace(response_id=""))
        for span in spans
        if span.reading and span.reading.span_class == "model"
    ]
    assert all(entry.counted for entry in account(calls).values())


def _accounted(name: str) -> Iterator[tuple[dict[str, object], list[Entry]]]:
    for line in lines(name):
        record = json.loads(line)
        spans = [facts(recorded, _book()) for recorded in recorded_spans(record["otlp"])]
        yield record, list(account(spans).values())


def test_trail_counts_model_calls_only() -> None:
    """Agents' totals are left out: tokens and dollars equal the sum over the labelled model calls.

    One recording holds a call's span twice, and its label adds both: 7,386 and 646 tokens of Claude 3.7
    Sonnet at 3 and 15 USD per million are 0.022158 + 0.00969 = 0.031848 USD too many.
    """
    labels = {label["trace_id"]: label for label in map(json.loads, lines("trail/labels.jsonl"))}
    total = Decimal(0)
    for record, entries in _accounted("trail/traces.otlp.jsonl.xz"):
        label, found = labels.pop(str(record["trace_id"])), totals(entries)
        repeated = label["dup_span_ids"]
        wanted = (
            label["prompt_tokens"] - 7_386 * repeated,
            label["completion_tokens"] - 646 * repeated,
            Decimal(str(label["list_price_usd"])) - Decimal("0.031848") * repeated,
        )
        cost = Decimal(found["cost_usd"])
        assert (found["input_tokens"], found["output_tokens"]) == wanted[:2]
        assert abs(cost - wanted[2]) < Decimal("0.000001")
        total += cost
    assert labels == {}
    assert total == Decimal("10.5911165")


# The true calls of each recorded trace, worked from the provider's usage kept beside it: input and output
# tokens over model calls, and the rates in force at the time (USD per million, provider price pages):
# gpt-4o-mini 0.15 / 0.60, gemini-2.0-flash 0.10 / 0.40, gpt-4o 2.50 / 10, gpt-4.1 2 / 8, gpt-5 1.25 / 10.
FRAMEWORKS = {
    "crewai": (190, 164, "0.0001269"),  # 190 x 0.15 + 164 x 0.60 = 28.5 + 98.4
    "google-adk": (67, 9, "0.0000103"),  # 67 x 0.10 + 9 x 0.40 = 6.7 + 3.6
    "llamaindex": (13, 81, "0.0008425"),  # 13 x 2.50 + 81 x 10 = 32.5 + 810
    "openai-agents": (140, 44, "0.000632"),  # 140 x 2 + 44 x 8 = 280 + 352
    "pydantic-ai": (31, 96, "0.0010375"),  # 31 x 2.50 + 96 x 10 = 77.5 + 960
    "vercel-aisdk": (62, 85, "0.0009275"),  # 62 x 1.25 + 85 x 10 = 77.5 + 850
}


def test_framework_traces_count_each_call_once() -> None:
    """Ten frameworks: each model call once; where the recording has no tokens, unpriced, never zero."""
    seen = {}
    for record, entries in _accounted("framework_traces/framework_traces.otlp.jsonl"):
        found = totals(entries)
        framework = str(record["framework"])
        if framework in FRAMEWORKS:
            seen[framework] = (found["input_tokens"], found["output_tokens"], found["cost_usd"])
            assert found["unpriced_calls"] == 0
        else:
            assert found["input_tokens"] == 0
            assert all(entry.cost_picousd is None for entry in entries), framework
    assert seen == FRAMEWORKS


@pytest.mark.parametrize("depth", [10, 3_000])
def test_deep_traces_are_followed_to_a_bound(depth: int) -> None:
    """A chain of any depth is accounted for in time linear in its length."""
    spans = [
        Span("t", f"{n}", f"{n - 1}" if n else "", "a", n, 10_000, Reading("aggregate") if n else None)
        for n in range(depth)
    ]
    call = Reading("model", model="m", usage=Usage(input_tokens=5))
    spans.append(Span("t", "call", f"{depth - 1}", "a", depth, 9_000, call))
    assert totals(account(spans).values())["input_tokens"] == 5

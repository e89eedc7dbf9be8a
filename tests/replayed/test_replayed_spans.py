"""Recorded provider responses, seen through seven instrumentations, give the provider's own usage."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from typing import Any

import pytest
import yaml

from otel_cost.usage import Reading, Usage, read
from tests.data import ROOT, lines, shared_data
from tests.otlp import recorded_spans

INSTRUMENTATIONS = (
    "logfire-5.2.0",
    "openinference-openai-0.1.30+anthropic-0.1.20",
    "openinference-openai-0.1.66",
    "openllmetry-0.33.12",
    "openllmetry-0.62.4",
    "otel-genai-1.3b0",
    "otel-openai-v2-2.1b0",
)
OUTCOMES = {
    "logfire-5.2.0": {"equal": 105, "provider sent none": 2},
    "openinference-openai-0.1.30+anthropic-0.1.20": {
        "equal": 96,
        "cache_not_reported": 6,
        "provider sent none": 2,
    },
    "openinference-openai-0.1.66": {"equal": 88, "provider sent none": 2},
    "openllmetry-0.33.12": {
        "equal": 8,
        "cache_not_reported": 56,
        "span carries none": 9,
        "provider sent none": 2,
    },
    "openllmetry-0.62.4": {"equal": 99, "output_overstated": 6, "provider sent none": 2},
    "otel-genai-1.3b0": {"equal": 105, "provider sent none": 2},
    "otel-openai-v2-2.1b0": {"cache_not_reported": 58, "provider sent none": 2},
}
BUCKETS = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
EXCEPTIONS = yaml.safe_load((ROOT / "tests/replayed/exceptions.yaml").read_text())


@cache
def _cases() -> dict[int, dict[str, Any]]:
    return {case["case"]: case for case in map(json.loads, lines("replayed_spans/cases.jsonl"))}


def _readings(line: str) -> tuple[int, list[Reading]]:
    record = json.loads(line)
    readings = [
        read(span.attributes, scope=span.scope, scope_version=span.scope_version)
        for span in recorded_spans(record["otlp"])
    ]
    return record["case"], [reading for reading in readings if reading]


def _exception(instrumentation: str, case: dict[str, Any], *, no_usage: bool) -> dict[str, Any] | None:
    for entry in EXCEPTIONS:
        if (
            entry["instrumentation"] == instrumentation
            and entry["api"] == case["api"]
            and entry.get("stream", False) in (case["stream"], False)
            and entry.get("no_usage", False) == no_usage
        ):
            return dict(entry)
    return None


def _seen(usage: Usage) -> dict[str, int]:
    return {
        "input_tokens": usage.total_input_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens + usage.cache_write_1h_tokens,
        "output_tokens": usage.total_output_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
    }


@pytest.mark.parametrize("instrumentation", INSTRUMENTATIONS)
def test_usage_is_the_providers_own(instrumentation: str) -> None:
    """Buckets equal the provider's raw usage; what a span lacks is listed, and marked on the reading."""
    outcome: Counter[str] = Counter()
    for line in lines(f"replayed_spans/{instrumentation}.otlp.jsonl.xz"):
        number, readings = _readings(line)
        case = _cases()[number]
        carrying = [reading for reading in readings if reading.usage]
        if case["usage"] is None:
            assert not carrying, f"case {number}: the provider sent no usage"
            outcome["provider sent none"] += 1
            continue
        if not carrying:
            assert _exception(instrumentation, case, no_usage=True), f"case {number}: usage was lost"
            outcome["span carries none"] += 1
            continue
        assert len(carrying) == 1, f"case {number}: usage stands on {len(carrying)} spans"
        outcome[_compare(instrumentation, case, carrying[0])] += 1
    assert outcome == OUTCOMES[instrumentation]


def _compare(instrumentation: str, case: dict[str, Any], reading: Reading) -> str:
    assert reading.usage is not None
    wanted = {name: case["usage"].get(name) or 0 for name in BUCKETS}
    seen = _seen(reading.usage)
    entry = _exception(instrumentation, case, no_usage=False)
    if entry is None:
        assert (seen, reading.marks) == (wanted, ()), f"case {case['case']}"
        return "equal"
    assert entry["mark"] in reading.marks, f"case {case['case']} is not marked"
    assert reading.is_estimate
    differing = {name for name in BUCKETS if seen[name] != wanted[name]}
    assert differing <= set(entry["lacks"]), f"case {case['case']} also differs in {differing}"
    return entry["mark"]


def test_every_listed_exception_is_real() -> None:
    """An exception that no recorded call needs any more is taken off the list."""
    shared_data("replayed_spans/cases.jsonl")
    needed = set()
    for instrumentation in INSTRUMENTATIONS:
        for line in lines(f"replayed_spans/{instrumentation}.otlp.jsonl.xz"):
            number, readings = _readings(line)
            case = _cases()[number]
            no_usage = not any(reading.usage for reading in readings)
            entry = _exception(instrumentation, case, no_usage=no_usage)
            if case["usage"] is not None and entry:
                needed.add(json.dumps(entry, sort_keys=True))
    assert needed == {json.dumps(entry, sort_keys=True) for entry in EXCEPTIONS}


def test_response_ids_are_the_providers_own() -> None:
    """An id read from a span is the response's, so that two records of one call can be matched."""
    checked = 0
    for instrumentation in INSTRUMENTATIONS:
        for line in lines(f"replayed_spans/{instrumentation}.otlp.jsonl.xz"):
            number, readings = _readings(line)
            for reading in readings:
                if reading.response_id:
                    assert reading.response_id == _cases()[number]["response_id"]
                    checked += 1
    assert checked > 400

"""Real billed agent calls come out of the store at what the provider billed, to the micro-dollar."""

from __future__ import annotations

import hashlib
import json
import random
from collections import defaultdict
from decimal import Decimal
from typing import Any

from otel_cost.store import Store
from tests.clickhouse import spans
from tests.data import lines

MICRO = Decimal("0.000001")
BATCH = 1_000


def _billed_calls() -> list[dict[str, Any]]:
    calls = [json.loads(line, parse_float=Decimal) for line in lines("miniswe_gemini3/calls.jsonl.xz")]
    return [call for call in calls if call["gateway"] == "openrouter"]


def _span(call: dict[str, Any]) -> dict[str, Any]:
    """Return a call as the official instrumentation would write it, without any cost."""
    name = f"{call['execution_id']}/{call['seq']}"
    usage = {
        "gen_ai.usage.input_tokens": call["prompt_tokens"],
        "gen_ai.usage.cache_read.input_tokens": call["cached_tokens"],
        "gen_ai.usage.output_tokens": call["completion_tokens"],
        "gen_ai.usage.reasoning.output_tokens": call["reasoning_tokens"],
    }
    texts = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openrouter",
        "gen_ai.request.model": "google/gemini-3-pro-preview",
        "gen_ai.response.id": call["response_id"],
        "otel_cost.execution.id": call["execution_id"],
    }
    pairs = [{"key": key, "value": {"intValue": str(value)}} for key, value in usage.items()]
    pairs += [{"key": key, "value": {"stringValue": value}} for key, value in texts.items()]
    return {
        "traceId": hashlib.sha256(call["execution_id"].encode()).hexdigest()[:32],
        "spanId": hashlib.sha256(name.encode()).hexdigest()[:16],
        "name": "chat google/gemini-3-pro-preview",
        "kind": 3,
        "startTimeUnixNano": str(call["created"] * 10**9 + call["seq"]),
        "endTimeUnixNano": str((call["created"] + 1) * 10**9),
        "attributes": pairs,
    }


def _request(made: list[dict[str, Any]]) -> dict[str, Any]:
    scope = {"name": "opentelemetry.instrumentation.openai", "version": "1"}
    return {"resourceSpans": [{"scopeSpans": [{"scope": scope, "spans": made}]}]}


def test_every_call_and_execution_equals_the_bill(store: Store) -> None:
    """Delivered twice and shuffled, each call and each execution costs what OpenRouter billed for it."""
    calls = _billed_calls()
    delivered = [_span(call) for call in calls] * 2
    random.Random(7).shuffle(delivered)
    for start in range(0, len(delivered), BATCH):
        spans.insert(store, [_request(delivered[start : start + BATCH])])
    billed = {call["response_id"]: call["cost_usd"] for call in calls}
    by_execution: dict[str, Decimal] = defaultdict(Decimal)
    for call in calls:
        by_execution[call["execution_id"]] += call["cost_usd"]

    found = {row["response_id"]: row for row in spans.charges(store).values()}
    assert found.keys() == billed.keys()
    assert len(found) > 3_000
    assert all(row["counted"] and row["price_status"] == "priced" for row in found.values())
    off = [key for key, row in found.items() if abs(Decimal(str(row["cost_usd"])) - billed[key]) >= MICRO]
    assert off == []
    answer = store.sql("SELECT execution_id, cost_usd, model_calls FROM executions", fmt="JSONEachRow")
    rows = [json.loads(line, parse_float=Decimal) for line in answer.splitlines()]
    assert sum(int(row["model_calls"]) for row in rows) == len(calls)
    totals = {row["execution_id"]: row["cost_usd"] for row in rows}
    assert totals.keys() == by_execution.keys()
    assert [key for key, cost in totals.items() if abs(cost - by_execution[key]) >= MICRO] == []

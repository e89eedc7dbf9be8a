"""Recorded responses and billed runs, priced from their usage alone."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import datetime, timezone
from decimal import Decimal

from otel_cost.pricing import PriceBook
from otel_cost.totals import usage_of_totals
from otel_cost.usage import Usage
from tests.data import lines

PRICED_AT = datetime(2026, 11, 22, tzinfo=timezone.utc)
"""When the expected amounts of the replayed cases were computed."""


DEARER_SNAPSHOT = 323
"""A case of gpt-4o-2024-05-13, which costs 5 and 15 USD per million tokens (https://platform.openai.com/docs/pricing);
its expected amount was computed at the 2.50 and 10 of gpt-4o."""


def test_recorded_responses_have_their_expected_cost() -> None:
    """107 recorded OpenAI and Anthropic responses cost what an independent catalogue says."""
    book = PriceBook.load()
    different = {}
    count = 0
    for line in lines("replayed_spans/cases.jsonl"):
        case = json.loads(line, parse_float=Decimal)
        if not case["usage"] or case["expected_usd"] is None:
            continue
        count += 1
        provider = case["api"].partition(".")[0]
        charge = book.price(
            usage_of_totals(case["usage"]), model=case["model"], provider=provider, at=PRICED_AT
        )
        if charge.cost_usd is None or abs(charge.cost_usd - case["expected_usd"]) >= Decimal("1e-9"):
            different[case["case"]] = (case["model"], charge.cost_usd, case["expected_usd"])
    assert count > 100
    assert different == {
        DEARER_SNAPSHOT: ("gpt-4o-2024-05-13", Decimal("0.000155"), Decimal("0.0000825")),
    }


def test_billed_agent_calls_are_exact() -> None:
    """Every billed call of 500 agent runs costs what OpenRouter billed, and so does every run.

    Rates of google/gemini-3-pro-preview up to 200,000 input tokens: 2.00 USD per million for input, 0.20 for
    cached input, 12.00 for output (https://openrouter.ai/google/gemini-3-pro-preview, 2025-11-18).
    """
    book = PriceBook.load()
    ours: dict[str, int] = defaultdict(int)
    billed: dict[str, Decimal] = defaultdict(Decimal)
    count = 0
    for line in lines("miniswe_gemini3/calls.jsonl.xz"):
        call = json.loads(line, parse_float=Decimal)
        if call["cost_usd"] is None:
            continue
        usage = Usage(
            input_tokens=call["prompt_tokens"] - call["cached_tokens"],
            cache_read_tokens=call["cached_tokens"],
            output_tokens=call["completion_tokens"],
        )
        charge = book.price(
            usage, model=call["response_model"], provider="openrouter", at=call["created"] * 10**9
        )
        assert charge.status == "priced"
        assert charge.cost_usd is not None
        assert abs(charge.cost_usd - call["cost_usd"]) < Decimal("1e-9"), call["response_id"]
        ours[call["execution_id"]] += charge.cost_picousd or 0
        billed[call["execution_id"]] += call["cost_usd"]
        count += 1
    assert count > 3000
    for execution, cost in billed.items():
        assert abs(Decimal(ours[execution]).scaleb(-12) - cost) < Decimal("1e-6")

"""Values nobody should send never stop an insert, and both readers make the same of them."""

from __future__ import annotations

import random
from typing import Any

import pytest

from otel_cost import attributes, usage
from otel_cost.store import SPAN_COLUMNS, Store
from tests.clickhouse import spans

SPANS = 600
NAMES = sorted(
    {name for aliases in attributes.USAGE_NAMES.values() for name in aliases}
    | attributes.MARKERS
    | {*attributes.REPORTED_COST, *attributes.PROVIDER, *attributes.REQUEST_MODEL}
    | {attributes.USAGE_RAW, attributes.PROVIDER_METADATA, attributes.LANGFUSE_USAGE_DETAILS}
    | {attributes.COST_CURRENCY, attributes.COST_SOURCE, attributes.COST_USD}
)
NUMBERS = [
    "",
    "0",
    "1",
    "5",
    "-1",
    "12.0",
    "12.5",
    " 7",
    "0.1",
    "1e12",
    "1e308",
    "1e400",
    "NaN",
    "inf",
    "-inf",
]
HUGE = [
    "1000000000000",
    "1000000000001",
    "99999999999999999999",
    "9" * 60,
    "123456789012.1234567890123456789",
]
TEXTS = [
    "null",
    "true",
    "[]",
    "{}",
    "{" * 500,
    '{"a":' * 3_000,
    "\x00\x01",
    "é" * 5_000,
    "gpt-4o",
    "openai",
    "chat",
]
DOCUMENTS = ['{"input_tokens":1e300}', '{"prompt_tokens":"5","prompt_tokens_details":null}', "USD", "EUR"]
DURATIONS = [0, 1, 10**9, 2**63, 2**64 - 1]
STARTS = [946_684_800 * 10**9, 1_780_315_200 * 10**9, 4_102_444_800 * 10**9 - 1]
SCOPES = ["", "logfire", "openinference.instrumentation.x", "litellm"]


def _made(seed: int) -> list[dict[str, Any]]:
    chance = random.Random(seed)
    values = NUMBERS + HUGE + TEXTS + DOCUMENTS
    empty: dict[str, Any] = {
        name: [] if name.startswith(("Events", "Links")) else "" for name in SPAN_COLUMNS
    }
    made = []
    for number in range(SPANS):
        known = chance.sample(NAMES, chance.randint(1, 14))
        span = {
            "Timestamp": chance.choice(STARTS),
            "TraceId": f"{chance.randint(1, 80):032x}",
            "SpanId": f"{number + 1:016x}",
            "ParentSpanId": f"{chance.randint(1, SPANS):016x}",
            "ScopeName": chance.choice(SCOPES),
            "ScopeVersion": chance.choice(["", "a", "1.x", "0.33.2", "9" * 30]),
            "SpanAttributes": {name: chance.choice(values) for name in known},
            "ResourceAttributes": {},
            "Duration": chance.choice(DURATIONS),
        }
        made.append({**empty, **span})
    return made


@pytest.mark.parametrize("seed", [1, 2])
def test_malformed_values(store: Store, seed: int) -> None:
    """Odd numbers, broken JSON, cycles of parents, endless durations: stored, and read alike in Python."""
    made = _made(seed)
    store.insert_spans({name: [span[name] for span in made] for name in SPAN_COLUMNS})
    found = {key[1]: row for key, row in spans.charges(store).items()}
    billable = 0
    for span in made:
        reading = usage.read(
            span["SpanAttributes"], scope=span["ScopeName"], scope_version=span["ScopeVersion"]
        )
        row = found.get(span["SpanId"])
        assert (row is not None) == bool(reading and reading.is_billable), span["SpanAttributes"]
        if row is not None and reading is not None:
            billable += 1
            assert sorted(row["usage_marks"]) == sorted(reading.marks), span["SpanAttributes"]
            assert row["has_reported_cost"] == (reading.reported_cost_usd is not None)
            assert (row["input_tokens"] is None) == (reading.usage is None)
    assert billable > 100

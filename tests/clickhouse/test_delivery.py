"""However spans are delivered, the totals are the same."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_cost.server.otlp_json import flatten
from otel_cost.server.spans import Row, to_columns
from otel_cost.store import Store
from tests.clickhouse import spans
from tests.clickhouse.conftest import empty
from tests.conformance import suite

PARTS = 6
"""Deliveries a set of spans is cut into."""


def _rows() -> list[Row]:
    """Return the spans of every conformance case: parents, duplicates, remainders, several traces."""
    requests = [request for case in suite.load() for request in case.requests()]
    return [row for request in requests for row in flatten(request).rows]


def said(store: Store) -> list[dict[str, Any]]:
    """Return everything the store says, but for when it came to think so."""
    answer = store.sql(
        "SELECT * EXCEPT (version) FROM charges FINAL ORDER BY trace_id, span_id", fmt="JSONEachRow"
    )
    rows = [json.loads(line) for line in answer.splitlines()]
    store.roll()
    for told in ("executions ORDER BY execution_id", "spend_hourly ORDER BY ALL", "spend_daily ORDER BY ALL"):
        answer = store.sql(f"SELECT * FROM {told}", fmt="JSONEachRow")
        rows += [json.loads(line) for line in answer.splitlines()]
    return rows


@pytest.fixture(scope="module")
def once_in_order(opened_store: Store) -> list[dict[str, Any]]:
    """What the store says when every span comes once, together."""
    empty(opened_store)
    opened_store.insert_spans(to_columns(_rows()))
    return said(opened_store)


@settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(seed=st.integers(0, 2**32), repeated=st.integers(0, PARTS))
def test_order_batching_and_repetition_change_nothing(
    opened_store: Store, once_in_order: list[dict[str, Any]], seed: int, repeated: int
) -> None:
    """Any order, any batches, any of them again: every charge and every execution total is the same."""
    empty(opened_store)
    chance = random.Random(seed)
    rows = _rows()
    chance.shuffle(rows)
    cuts = sorted(chance.sample(range(1, len(rows)), PARTS - 1))
    parts = [rows[start:end] for start, end in zip([0, *cuts], [*cuts, len(rows)], strict=True)]
    deliveries = parts + chance.sample(parts, repeated)
    chance.shuffle(deliveries)
    for part in deliveries:
        opened_store.insert_spans(to_columns(part))
    assert said(opened_store) == once_in_order


def test_accounting_twice_changes_nothing(store: Store) -> None:
    """The accounting pass is idempotent: a second one writes no row."""
    rows = _rows()
    store.insert_spans(to_columns(rows))
    before = store.sql("SELECT count(), max(version) FROM charges", fmt="TSV")
    store.account([row[1] for row in rows])
    assert store.sql("SELECT count(), max(version) FROM charges", fmt="TSV") == before


def test_the_comparison_can_fail(store: Store, once_in_order: list[dict[str, Any]]) -> None:
    """A store that lacks a span says something else."""
    empty(store)
    store.insert_spans(to_columns(_rows()[1:]))
    assert said(store) != once_in_order


def test_a_batch_half_written_is_healed_by_delivering_it_again(store: Store) -> None:
    """A crash after the spans and before the charges, or between charges and accounting, leaves no trace."""
    requests = list(next(case for case in suite.load() if len(case.spans) > 2).requests())
    for request in requests:
        spans.insert(store, [request])
    whole = said(store)
    for table in ("charges", "trace_links"):
        store.sql(f"TRUNCATE TABLE {table}", fmt="Null", readonly=False)
    for request in requests:
        spans.insert(store, [request])
    assert said(store) == whole


def test_a_trace_is_shown_whole_however_it_was_delivered(store: Store) -> None:
    """Spans of one trace that came one by one within its last second are all in its tree."""
    for number, start_ns in enumerate((200_000_000, 700_000_000, 999_999_999), start=1):
        span = {
            "traceId": "ab" * 16,
            "spanId": f"{number:016x}",
            "startTimeUnixNano": str(1_790_000_000_000_000_000 + start_ns),
            "endTimeUnixNano": str(1_790_000_001_000_000_000),
        }
        spans.insert(store, [{"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}])
    found = store.query("trace_spans", trace_ids=["ab" * 16]).dicts()
    assert [span["span_id"] for span in found] == [f"{number:016x}" for number in (1, 2, 3)]


def test_the_id_of_a_tool_call_leads_to_no_other_trace(store: Store) -> None:
    """Models number their tool calls anew in each conversation: a pass looks at its own traces only."""
    tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.call.id": "call_0"}
    model = {"gen_ai.operation.name": "chat", "gen_ai.response.id": "chatcmpl-1"}
    for number, attributes in enumerate((tool, tool, model, model), 1):
        spans.insert(store, [spans.of_attributes(number, attributes)])
    assert list(store.to_account([f"{1:032x}"])) == []
    (part,) = store.to_account([f"{3:032x}"])
    assert part["trace_ids"] == [f"{3:032x}", f"{4:032x}"]

"""A process killed while it inserts loses nothing it acknowledged and counts nothing twice."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path

import pytest

from otel_cost.store import open_store
from tests.stores import embedded

BATCHES = 12
CALLS = 50
PRICE = Decimal("0.000225")
"""gpt-4o-mini, 400 x 0.15 + 600 x 0.075 + 200 x 0.60 USD per million tokens
(https://platform.openai.com/docs/pricing)."""

INSERT = """
import sys
from otel_cost.store import SPAN_COLUMNS, open_store
from tests.clickhouse.test_crash import BATCHES, batch
with open_store(sys.argv[1]) as store:
    for number in range(BATCHES):
        store.insert_spans(batch(number))
        print(number, flush=True)
"""


def batch(number: int) -> dict[str, list[object]]:
    """Return the columns of one batch: `CALLS` calls of one model, each recorded by two instrumentations."""
    columns: dict[str, list[object]] = {name: [] for name in _span(0, 0, "first")}
    for call in range(CALLS):
        for scope in ("first", "second"):
            for name, value in _span(number, call, scope).items():
                columns[name].append(value)
    return columns


def _span(number: int, call: int, scope: str) -> dict[str, object]:
    usage = {"gen_ai.usage.input_tokens": "1000", "gen_ai.usage.output_tokens": "200"}
    if scope == "first":
        usage["gen_ai.usage.cache_read.input_tokens"] = "600"
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.response.id": f"resp_{number}_{call}",
        **usage,
    }
    span_id = f"{number:07x}{call:08x}{1 if scope == 'first' else 2}"
    return {
        "Timestamp": 1_780_315_200_000_000_000 + number * 10**9 + call,
        "TraceId": f"{number + 1:032x}",
        "SpanId": span_id,
        "ParentSpanId": "",
        "TraceState": "",
        "SpanName": "chat",
        "SpanKind": "Client",
        "ServiceName": "agents",
        "ResourceAttributes": {},
        "ScopeName": scope,
        "ScopeVersion": "",
        "SpanAttributes": attributes,
        "Duration": 10**9,
        "StatusCode": "Ok",
        "StatusMessage": "",
        **{f"Events.{name}": [] for name in ("Timestamp", "Name", "Attributes")},
        **{f"Links.{name}": [] for name in ("TraceId", "SpanId", "TraceState", "Attributes")},
    }


def _killed_insert(dsn: str, after_batches: int, pause_s: float) -> int:
    """Run the inserting process, kill it some time after a batch, and return the last one acknowledged."""
    with subprocess.Popen([sys.executable, "-c", INSERT, dsn], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= after_batches:
                break
        time.sleep(pause_s)
        process.kill()
        rest = process.stdout.read().split()
    return int(rest[-1]) if rest else after_batches


@pytest.mark.parametrize(
    ("after_batches", "pause_s"),
    [
        (3, 0.15),
        pytest.param(0, 0.05, marks=pytest.mark.slow),
        pytest.param(5, 0.3, marks=pytest.mark.slow),
    ],
)
def test_a_kill_during_inserts(tmp_path: Path, after_batches: int, pause_s: float) -> None:
    """Acknowledged batches are whole after the kill; delivering everything again gives the exact total."""
    dsn = embedded(tmp_path / "store")
    acknowledged = _killed_insert(dsn, after_batches, pause_s)

    total = (
        "SELECT count() AS calls, toString(sum(cost_usd)) AS cost_usd FROM charges FINAL"
        " WHERE counted AND trace_id <= lower(leftPad(hex(toUInt32({last:String}) + 1), 32, '0'))"
    )
    with open_store(dsn) as store:
        (kept,) = store.sql(total, {"last": str(acknowledged)}).splitlines()
        for number in range(BATCHES):
            store.insert_spans(batch(number))
        (whole,) = store.sql(total, {"last": str(BATCHES)}).splitlines()
    calls = (acknowledged + 1) * CALLS
    assert json.loads(kept) == {"calls": calls, "cost_usd": _text(calls * PRICE)}
    assert json.loads(whole) == {"calls": BATCHES * CALLS, "cost_usd": _text(BATCHES * CALLS * PRICE)}


def _text(amount: Decimal) -> str:
    return f"{amount:f}".rstrip("0").rstrip(".")

"""An execution lasts as long as its root span and ends as that did, whatever its charges say."""

from __future__ import annotations

import json
from typing import Any

from otel_cost.store import Store
from tests.clickhouse import spans

SECOND = 10**9
BASE = 1_780_315_200 * SECOND
"""2026-06-01 12:00:00 UTC."""
CALL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o-mini",
    "gen_ai.usage.input_tokens": "1000",
}
OK, ERROR = 1, 2


def _span(number: int, parent: int, at_s: tuple[int, int], status: int, **attributes: str) -> dict[str, Any]:
    """Return a request of one span of trace 1; attribute names with `__` for a dot."""
    pairs = {name.replace("__", "."): value for name, value in attributes.items()}
    span = {
        "traceId": f"{1:032x}",
        "spanId": f"{number:016x}",
        "parentSpanId": f"{parent:016x}" if parent else "",
        "name": "span",
        "startTimeUnixNano": str(BASE + at_s[0] * SECOND),
        "endTimeUnixNano": str(BASE + at_s[1] * SECOND),
        "attributes": [{"key": name, "value": {"stringValue": text}} for name, text in pairs.items()],
        "status": {"code": status},
    }
    return {"resourceSpans": [{"scopeSpans": [{"scope": {"name": "app"}, "spans": [span]}]}]}


def _call(number: int, parent: int, at_s: tuple[int, int], status: int = OK) -> dict[str, Any]:
    return _span(number, parent, at_s, status, **CALL)


def _executions(store: Store) -> dict[str, tuple[str, str, str]]:
    """Return start, end and status of each execution: times as the seconds after 12:00."""
    answer = store.sql("SELECT * FROM executions", fmt="JSONEachRow")
    rows = [json.loads(line) for line in answer.splitlines()]
    return {
        row["execution_id"]: (row["started_at"][17:19], row["ended_at"][17:19], row["status"]) for row in rows
    }


def test_an_execution_lasts_as_long_as_its_root(store: Store) -> None:
    """The root says when it began and ended and how, although a call in it failed; it may come last."""
    spans.insert(store, [_call(2, 1, (3, 4), ERROR)])
    assert _executions(store) == {f"{1:032x}": ("03", "04", "error")}
    spans.insert(store, [_span(1, 0, (0, 9), OK)])
    assert _executions(store) == {f"{1:032x}": ("00", "09", "ok")}


def test_a_failed_root_is_a_failed_execution(store: Store) -> None:
    """The execution is in error, although every call in it went well."""
    spans.insert(store, [_span(1, 0, (0, 9), ERROR), _call(2, 1, (3, 4))])
    assert _executions(store) == {f"{1:032x}": ("00", "09", "error")}


def test_without_its_root_it_is_what_is_known(store: Store) -> None:
    """Where the root was never received, what is known bounds it; the last span says how it went."""
    spans.insert(store, [_span(2, 1, (2, 8), ERROR), _call(3, 2, (3, 4))])
    assert _executions(store) == {f"{1:032x}": ("02", "08", "error")}


def test_an_execution_inside_a_trace_has_its_own_root(store: Store) -> None:
    """Two runs named inside one request each last as long as the span that names them."""
    one = _span(2, 1, (1, 4), OK, otel_cost__execution__id="run-1")
    two = _span(3, 1, (5, 8), ERROR, otel_cost__execution__id="run-2")
    spans.insert(store, [_call(4, 2, (2, 3)), _call(5, 3, (6, 7)), one, two, _span(1, 0, (0, 9), OK)])
    assert _executions(store) == {"run-1": ("01", "04", "ok"), "run-2": ("05", "08", "error")}

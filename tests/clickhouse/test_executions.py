"""An execution lasts as long as its root span and ends as that did, whatever its charges say."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from otel_cost.store import Store
from tests.clickhouse import spans
from tests.clickhouse.conftest import on_every_node

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


def _failed(number: int, error_type: str) -> dict[str, Any]:
    """Return a call of trace 1 that failed, without usage."""
    call = {name: value for name, value in CALL.items() if "usage" not in name}
    return _span(number, 1, (number, number + 1), ERROR, **call, error__type=error_type)


def test_an_execution_of_refused_calls_cost_nothing(store: Store) -> None:
    """No call of it was billed, in every total; none of its models lacks a price. What may be billed does.

    https://learn.microsoft.com/azure/ai-services/openai/how-to/manage-costs (2026-11)
    """
    spans.insert(store, [_span(1, 0, (0, 9), ERROR), _failed(2, "429"), _failed(3, "openai.RateLimitError")])
    assert _costs(store) == [(0, 2, 0)] * 3
    assert store.query("unpriced").rows == []
    spans.insert(store, [_failed(4, "openai.APITimeoutError")])
    assert _costs(store) == [(0, 3, 1)] * 3
    assert [row["calls"] for row in store.query("unpriced").dicts()] == [1]


def test_an_execution_of_calls_that_may_be_billed_is_unknown(store: Store) -> None:
    """Nothing says what they cost: no amount in any total."""
    spans.insert(store, [_failed(2, "openai.APITimeoutError"), _failed(3, "openai.BadRequestError")])
    assert _costs(store) == [(None, 2, 2)] * 3


def _costs(store: Store) -> list[tuple[Decimal | None, int, int]]:
    """Return cost, model calls and unpriced calls in three reports: of the run, its traces and its model."""
    trace_id = f"{1:032x}"
    (run,) = store.query("top_executions", since="2026-06-01 00:00:00", limit=2).dicts()
    (model,) = store.query("top_models", since="2026-06-01 00:00:00", limit=2).dicts()
    rows = [run, _total(store, trace_id)[2], model]
    return [(row["cost_usd"], row["model_calls"], row["unpriced_calls"]) for row in rows]


def _runs(execution_id: str, count: int, *, first: int = 1) -> list[dict[str, Any]]:
    """Return calls of an execution, each in a trace of its own."""
    call = {**CALL, "otel_cost.execution.id": execution_id}
    return [spans.of_attributes(number, call) for number in range(first, first + count)]


def _total(store: Store, named: str) -> tuple[int, int, dict[str, Any]]:
    """Return how many traces are told of those an id means, how many there are, and what they cost."""
    found = store.query("find_traces", id=named).dicts()
    days = {name: found[0][name] for name in ("first_day", "last_day")}
    (total,) = store.query("trace_totals", id=named, **days).dicts()
    return len(found), found[0]["traces"], total


def test_all_traces_of_an_execution_are_in_its_total(store: Store) -> None:
    """1,000 tokens at 0.15 USD a million, 230 times; a hundred traces are told, and how many there are.

    https://openai.com/api/pricing (2026-11)
    """
    spans.insert(store, _runs("run", 230) + _runs("other", 5, first=1_001))
    told, traces, total = _total(store, "run")
    assert (told, traces, total["model_calls"]) == (100, 230, 230)
    assert total["cost_usd"] == 230 * Decimal("0.00015")
    assert (total["input_tokens"], total["execution_ids"]) == (230_000, ["run"])
    (row,) = store.query("top_executions", since="2026-06-01 00:00:00", limit=1).dicts()
    assert (row["execution_id"], row["cost_usd"]) == ("run", total["cost_usd"])


def test_a_call_of_another_execution_in_one_of_its_traces_is_in_the_total(store: Store) -> None:
    """The total is that of the traces, as the trees show them."""
    inner = _span(3, 1, (86_400, 86_401), OK, **CALL, otel_cost__execution__id="inner")
    spans.insert(store, [_span(2, 1, (3, 4), OK, **CALL, otel_cost__execution__id="run"), inner])
    for named in ("run", "inner"):
        told, traces, total = _total(store, named)
        assert (told, traces, total["model_calls"], total["execution_ids"]) == (1, 1, 2, ["inner", "run"])


def test_the_id_of_an_execution_is_not_the_beginning_of_a_trace(store: Store) -> None:
    """Traces 1 to 3 begin with 00; as long as no execution is called that, they are meant."""
    spans.insert(store, _runs("run", 3))
    assert _total(store, "00")[:2] == (3, 3)
    spans.insert(store, _runs("00", 1, first=4))
    assert _total(store, "00")[:2] == (1, 1)
    assert _total(store, "000")[:2] == (4, 4)


def test_traces_that_an_execution_had_are_no_longer_its_own(store: Store) -> None:
    """A call that its process names first, and then the span around it: the later word is the only one."""
    request = _call(2, 1, (3, 4))
    named = {"key": "otel_cost.execution.id", "value": {"stringValue": "process"}}
    request["resourceSpans"][0]["resource"] = {"attributes": [named]}
    spans.insert(store, [request])
    assert _total(store, "process")[1] == 1
    spans.insert(store, [_span(1, 0, (0, 9), OK, otel_cost__execution__id="run")])
    assert _total(store, "run")[1] == 1
    assert store.query("find_traces", id="process").rows == []


def test_an_execution_whose_spans_are_gone_is_totalled(store: Store) -> None:
    """Spans may be kept for less time than charges, and only they tell when a trace was: some are gone."""
    days = [spans.STARTED_NS + day * 86_400 * SECOND for day in range(3)]
    call = {**CALL, "otel_cost.execution.id": "run"}
    spans.insert(store, [spans.of_attributes(number, call, at) for number, at in enumerate(days, 1)])
    gone = "ALTER TABLE otel_traces_trace_id_ts DELETE WHERE Start < '2026-06-02 00:00:00'"
    on_every_node(store, f"{gone} SETTINGS mutations_sync = 1")
    told, traces, total = _total(store, "run")
    assert (told, traces, total["model_calls"]) == (3, 3, 3)

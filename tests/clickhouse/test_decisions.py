"""Decisions of the guard come out of the spans that tell them, once each, whichever spans these are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from otel_cost import attributes
from otel_cost.pricing import PriceBook
from otel_cost.store import Store, open_store
from otel_cost.store.files import named_sql
from tests.clickhouse import spans
from tests.clickhouse.conftest import empty
from tests.clickhouse.test_collector_feed import insert_like_a_collector

AT = 1_780_315_200_000_000_000
"""2026-06-01 12:00:00 UTC."""
CALL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.usage.input_tokens": "1000",
}


def _pairs(texts: dict[str, str]) -> list[dict[str, Any]]:
    return [{"key": name, "value": {"stringValue": text}} for name, text in texts.items()]


def span_of(number: int, *events: tuple[str, dict[str, str]], **span: str) -> dict[str, Any]:
    """Return a request of one span of trace 1 with events, all at one moment; `__` stands for a dot."""
    made = {
        "traceId": f"{1:032x}",
        "spanId": f"{number:016x}",
        "name": "span",
        "startTimeUnixNano": str(AT),
        "endTimeUnixNano": str(AT + 10**9),
        "attributes": _pairs({name.replace("__", "."): text for name, text in span.items()}),
        "events": [
            {"timeUnixNano": str(AT), "name": name, "attributes": _pairs(told)} for name, told in events
        ],
    }
    scopes = [{"scope": {"name": "nobody's"}, "spans": [made]}]
    resource = {"attributes": _pairs({"deployment.environment.name": "prod", "otel_cost.team": "red"})}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": scopes}]}


def refusal(**told: str) -> tuple[str, dict[str, str]]:
    """Return an event of a refusal in mode enforce."""
    known = {"otel_cost.kind": "budget_usd", "otel_cost.mode": "enforce"}
    return attributes.REFUSED, known | {
        f"otel_cost.{name.replace('__', '.')}": text for name, text in told.items()
    }


def rows(store: Store, columns: str) -> list[list[Any]]:
    """Return columns of every decision."""
    answer = store.sql(
        f"SELECT {columns} FROM decisions FINAL ORDER BY trace_id, span_id, event_number",
        fmt="JSONCompactEachRow",
    )
    return [json.loads(line) for line in answer.splitlines()]


def test_each_event_of_the_guard_is_a_decision(store: Store) -> None:
    """All of them at one moment on one span, and nothing of other events, however often it is delivered."""
    told = [("exception", {"otel_cost.kind": "none"})]
    told += [(name, {"otel_cost.kind": "budget_usd"}) for name in attributes.DECISIONS]
    for _ in range(3):
        spans.insert(store, [span_of(1, *told), span_of(2)])
    assert rows(store, "decision, kind") == [[name, "budget_usd"] for name in attributes.DECISIONS.values()]


def test_the_events_of_python_are_those_of_sql() -> None:
    """An event added to attributes.py and forgotten in SQL fails here, one that is called otherwise too."""
    text = "".join(named_sql("views", "read_decisions").split())
    names = ",".join(f"'{name}'" for name in attributes.DECISIONS)
    assert text.count(f"[{names}]") == 2
    assert f"[{','.join(repr(name) for name in attributes.DECISIONS.values())}]" in text
    written = {text for name, text in vars(attributes).items() if name.startswith("DECISION_")}
    assert sorted(name for name in written - {attributes.DECISION_SPAN} if name not in text) == []


def test_any_span_can_tell_one(store: Store) -> None:
    """A span that is no model call, a model call, and one that says nothing, not even its execution."""
    other = span_of(1, refusal(execution__id="run-1"), http__route="/ask")
    call = span_of(2, refusal(), otel_cost__execution__id="run-2", **_underscored(CALL))
    bare = span_of(3, refusal())
    spans.insert(store, [other, call, bare])
    assert rows(store, "execution_id, decision, mode") == [
        ["run-1", "deny", "enforce"],
        ["run-2", "deny", "enforce"],
        [f"{1:032x}", "deny", "enforce"],
    ]


def _underscored(texts: dict[str, str]) -> dict[str, str]:
    return {name.replace(".", "__"): text for name, text in texts.items()}


def test_who_pays_is_who_the_event_names(store: Store) -> None:
    """Field by field the event, else its span, else the resource."""
    spans.insert(store, [span_of(1, refusal(user="ann"), user__id="bob", gen_ai__agent__name="planner")])
    assert rows(store, "user_id, agent_name, team, environment") == [["ann", "planner", "red", "prod"]]


def test_amounts_are_exact_and_unknown_is_not_zero(store: Store) -> None:
    """Every digit of a pico-dollar; what is no amount, or is not told, is NULL."""
    spans.insert(store, [span_of(1, refusal(limit_usd="1.000000000001", spent_usd="much", asked_usd="0"))])
    columns = "toString(limit_usd), spent_usd, toString(asked_usd), reserved_usd"
    assert rows(store, columns) == [["1.000000000001", None, "0", None]]


def test_the_first_refusal_that_was_enforced_killed_the_execution(store: Store) -> None:
    """One in mode shadow did not, a warning neither; the status says so, whatever the root span says."""
    warned = ("otel_cost.warned", {"otel_cost.kind": "context_growth", "otel_cost.mode": "enforce"})
    shadow = (attributes.REFUSED, {"otel_cost.kind": "max_depth", "otel_cost.mode": "shadow"})
    spans.insert(store, [span_of(1, warned, shadow, **_underscored(CALL))])
    query = "SELECT status, killed_reason FROM executions"
    assert store.sql(query, fmt="TSV") == b"ok\t\n"
    spans.insert(store, [span_of(2, refusal(kind="retry_storm"), refusal(kind="max_model_calls"))])
    assert store.sql(query, fmt="TSV") == b"killed\tretry_storm\n"


@pytest.fixture
def fed_store(server_dsn: str, book: PriceBook) -> Iterator[Store]:
    """A store on a server that a Collector feeds."""
    with open_store(server_dsn) as store:
        store.migrate()
        store.push_prices(book)
        empty(store)
        yield store


def test_a_collector_needs_to_do_nothing_for_it(fed_store: Store) -> None:
    """Rows that are only inserted into otel_traces, without our settings, are enough."""
    insert_like_a_collector(fed_store, [span_of(1, refusal(execution__id="run"))])
    assert rows(fed_store, "execution_id, decision, kind") == [["run", "deny", "budget_usd"]]

"""Every view and query over one small set of spans, against results worked by hand.

The spans (cases/input.jsonl): ann's agent planner calls gpt-4o-mini with 1,000 tokens in, 600 of them cached,
and 200 out, recorded by two instrumentations, and a tool without a price. Bob's run-b, an hour later, calls
gpt-4o (1,000 in, 100 out) and a model nobody has a price for (50 in, 5 out).

Rates in USD per million tokens (https://platform.openai.com/docs/pricing): gpt-4o-mini 0.15 in, 0.075 cached,
0.60 out; gpt-4o-2024-08-06 2.50 in, 10 out. So ann's call costs 400 x 0.15 + 600 x 0.075 + 200 x 0.60 = 225
micro-dollars, and bob's 1,000 x 2.50 + 100 x 10 = 3,500.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from otel_cost.budgets import Policy
from otel_cost.store import Store
from otel_cost.store.files import named_sql, sql_files, statements
from tests.clickhouse import spans
from tests.clickhouse.conftest import empty

CASES = Path(__file__).parent / "cases"
WRITING = {"account_traces"}
"""Queries without a result of their own: test_agreement.py and test_delivery.py are about them."""
OF_PRICES = ("reprice", "repricing", "pushed")
"""Steps of pricing again and of pushing prices: test_reprice.py and test_price_push.py are about them."""
TRACES = ["a" * 32, "b" * 32]
DAYS = {"first_day": "2026-05-31", "last_day": "2026-06-02"}
PARAMETERS: dict[str, dict[str, Any]] = {
    "find_traces": {"id": "run-b"},
    "trace_spans": {"trace_ids": TRACES},
    "trace_totals": {"id": TRACES[0], **DAYS},
    "trace_days": {"trace_ids": TRACES},
    "traces_to_account": {"trace_ids": TRACES, **DAYS},
    "related_traces": {"trace_ids": TRACES[:1], **DAYS},
    "trace_decisions": {"trace_ids": TRACES},
    "decisions": {"execution_id": ""},
    "anomalies": {"until": "2100-01-01 00:00:00", "kind": ""},
    "budget_status": {"at": "2026-06-01 18:00:00", "is_day": "false", "level": ""},
    "spend_by_day": {"until": "2026-06-30 00:00:00", "by": "model"},
    "spend_by_hour": {"until": "2026-06-07 00:00:00", "by": "user"},
}
TOP = {"since": "2026-06-01 00:00:00", "limit": "10"}
VIEWS = {
    "executions": "SELECT * FROM executions ORDER BY execution_id",
    "spend_hourly": "SELECT * FROM spend_hourly ORDER BY hour, model",
    "spend_daily": "SELECT * FROM spend_daily ORDER BY day, model",
    "tool_spend_daily": "SELECT * FROM tool_spend_daily ORDER BY day, tool_name, price_status",
    "user_spend_daily": "SELECT * FROM user_spend_daily ORDER BY day, user_id, price_status",
    "view_unpriced": "SELECT * FROM unpriced",
}


@pytest.fixture(scope="module")
def filled_store(opened_store: Store) -> Store:
    """A store that got the spans twice."""
    empty(opened_store)
    requests = [json.loads(line) for line in (CASES / "input.jsonl").read_text().splitlines()]
    opened_store.push_policy(
        Policy.load(
            user_usd_per_day={"*": "0.01", "ann": "0.0005"},
            team_usd_per_month={"red": "1"},
            organization_usd_per_month="0.003",
        )
    )
    spans.insert(opened_store, requests)
    spans.insert(opened_store, requests[::-1])
    opened_store.roll()
    opened_store.find_anomalies()
    return opened_store


def _expected(name: str) -> str:
    return (CASES / f"{name}.tsv").read_text()


QUERIES = sorted(
    {path.stem for path in sql_files("queries") if not path.stem.startswith(OF_PRICES)}
    - WRITING
    - {"store_identity"}
)


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_answers_as_worked_by_hand(filled_store: Store, name: str) -> None:
    """Each named query gives the columns and rows in cases/<name>.tsv."""
    (statement,) = statements(named_sql("queries", name))
    params = {**TOP, **PARAMETERS.get(name, {})}
    used = {key: value for key, value in params.items() if f"{{{key}:" in statement}
    answer = filled_store.sql(statement, used, fmt="TSVWithNames")
    assert answer.decode() == _expected(name)


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_holds_what_was_worked_by_hand(filled_store: Store, name: str) -> None:
    """Each view people query gives the columns and rows in cases/<name>.tsv."""
    answer = filled_store.sql(VIEWS[name], fmt="TSVWithNames")
    assert answer.decode() == _expected(name)


def _answer(store: Store, name: str, **params: Any) -> str:
    (statement,) = statements(named_sql("queries", name))
    given = {**TOP, **PARAMETERS.get(name, {}), **params}
    return store.sql(
        statement, {key: value for key, value in given.items() if f"{{{key}:" in statement}, fmt="TSV"
    ).decode()


def _asking(parameter: str) -> list[str]:
    return [name for name in QUERIES if f"{{{parameter}:DateTime" in named_sql("queries", name)]


def test_queries_since_long_ago_answer_from_the_beginning(filled_store: Store) -> None:
    """`--since all` begins in 1970, and earlier times too say all there is."""
    for name in _asking("since"):
        whole = _answer(filled_store, name, since="2026-05-01 00:00:00")
        for since in ("1970-01-01 00:00:00", "1969-12-31 23:59:59", "1900-01-01 00:00:00"):
            assert _answer(filled_store, name, since=since) == whole, (name, since)


def test_queries_since_a_time_to_come_answer_nothing(filled_store: Store) -> None:
    """A time far ahead, also one that a `Date` does not hold, has nothing after it."""
    for name in _asking("since"):
        for since in ("2100-01-01 00:00:00", "2199-01-01 00:00:00"):
            answer = _answer(filled_store, name, since=since, until="2262-01-01 00:00:00")
            assert answer == "", (name, since)


def test_queries_until_a_time_to_come_answer_up_to_now(filled_store: Store) -> None:
    """A period that ends far ahead has what there is. Its bound counts back from now, not its end."""
    begins = {"since": "2026-06-01 00:00:00"}
    for name in ("anomalies", "spend_by_day"):
        whole = _answer(filled_store, name, **begins)
        for until in ("2100-01-01 00:00:00", "2199-01-01 00:00:00", "2262-01-01 00:00:00"):
            assert _answer(filled_store, name, until=until, **begins) == whole, (name, until)


def test_queries_until_long_ago_answer_nothing(filled_store: Store) -> None:
    """A period that ends before the first span is empty."""
    for name in _asking("until"):
        answer = _answer(filled_store, name, since="1900-01-01 00:00:00", until="1970-01-01 00:00:00")
        assert answer == "", name


def test_budgets_at_a_time_far_away_are_unspent(filled_store: Store) -> None:
    """What a budget is asked about at a time without spending, nothing is spent of it."""
    for year in ("1950-01-01", "1970-01-20", "2105-01-01", "2199-01-01"):
        for is_day in (False, True):
            at = {"at": f"{year} 00:00:00", "is_day": is_day}
            rows = filled_store.query("budget_status", **at, level="", limit=9).dicts()
            assert sorted((row["name"], row["spent_usd"]) for row in rows) == [("ann", 0), ("red", 0)], at


def test_typed_results(filled_store: Store) -> None:
    """A named query called from Python gives money as exact decimals and times with a zone."""
    from datetime import datetime, timezone
    from decimal import Decimal

    result = filled_store.query("top_models", since=datetime(2026, 6, 1, tzinfo=timezone.utc), limit=1)
    (row,) = result.dicts()
    assert row["cost_usd"] == Decimal("0.0035")
    assert isinstance(row["cost_usd"], Decimal)
    (run,) = filled_store.query(
        "top_executions", since=datetime(2026, 6, 1, 13, tzinfo=timezone.utc), limit=5
    ).dicts()
    assert run["execution_id"] == "run-b"
    assert run["started_at"].replace(tzinfo=timezone.utc) == datetime(2026, 6, 1, 13, tzinfo=timezone.utc)


def test_every_case_belongs_to_a_query_or_view() -> None:
    """No expectation is left behind when a query goes."""
    assert {path.stem for path in CASES.glob("*.tsv")} == {*QUERIES, *VIEWS}


SLICES = {
    "organization": "organization",
    "team": "team",
    "user": "user_id",
    "feature": "feature",
    "environment": "environment",
    "agent": "agent_name",
    "component": "component",
    "provider": "provider",
    "model": "model",
    "tool": "tool_name",
}
"""What spending can be sliced by, and the column of charges that says it."""


@pytest.mark.parametrize(
    ("name", "by"),
    [("spend_by_hour", by) for by in SLICES] + [("spend_by_day", by) for by in SLICES if by != "user"],
)
def test_slices_add_up_to_the_whole(filled_store: Store, name: str, by: str) -> None:
    """Whatever spending is sliced by, its slices are the values of that column, and together all of it."""
    params = {"since": "2026-06-01 00:00:00", "until": "2026-06-07 00:00:00"}
    (whole,) = _sums(filled_store, name, params | {"by": ""})
    slices = _sums(filled_store, name, params | {"by": by})
    assert whole[1:] == tuple(map(sum, list(zip(*slices, strict=True))[1:]))
    values = filled_store.sql(f"SELECT DISTINCT {SLICES[by]} FROM charges FINAL WHERE counted", fmt="TSV")
    assert {row[0] for row in slices} == set(values.decode().removesuffix("\n").split("\n"))


def _sums(store: Store, name: str, params: dict[str, str]) -> list[tuple[Any, ...]]:
    """Return name, cost, model calls and tool calls of each slice, over all hours or days."""
    found: dict[str, list[Any]] = {}
    for row in store.query(name, **params).dicts():
        sums = found.setdefault(row["name"], [0, 0, 0])
        amounts = (row["cost_usd"] or 0, row["model_calls"], row["tool_calls"])
        sums[:] = [total + more for total, more in zip(sums, amounts, strict=True)]
    return [(key, *sums) for key, sums in found.items()]

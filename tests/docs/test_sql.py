"""Every answer of docs/sql.md runs, and gives what was worked out by hand from the spans of `cookbook`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from otel_cost.pricing import PriceBook
from otel_cost.store import Store, open_store
from otel_cost.store.files import sql_files
from otel_cost.store.topology import Topology
from tests.clickhouse import spans
from tests.data import ROOT
from tests.docs import cookbook
from tests.servers import CLUSTER, clickhouse_cluster, clickhouse_server
from tests.stores import embedded

PAGE = (ROOT / "docs" / "sql.md").read_text(encoding="utf-8")
PARAMETERS = {
    "execution_id": cookbook.trace_id("chat"),
    "provider": "openai",
    "model": "gpt-4o-mini",
    "attribute": "http.route",
}
LONG = ("charges", "otel_traces", "trace_links")
"""Tables that are too long to be read without a bound."""
WITHOUT_TIME = {
    "What were a model's rates, and since when?",
    "Which budgets will run out, and when?",
    "What did each team spend of its budget?",
}
"""Questions about all times, or about the window of a budget."""


@dataclass(frozen=True)
class Recipe:
    """One question of the page, its statement and the text that says how to read it."""

    question: str
    sql: str
    text: str

    @property
    def params(self) -> dict[str, str]:
        """Values of the parameters that the statement names."""
        return {name: PARAMETERS[name] for name in re.findall(r"\{(\w+):\w+\}", self.sql)}


@dataclass(frozen=True)
class Table:
    """An answer: columns with their types, and rows with exact numbers."""

    types: dict[str, str]
    rows: list[dict[str, Any]]

    def only(self, columns: str) -> list[tuple[Any, ...]]:
        """Return some columns of each row, in order."""
        return [tuple(row[name] for name in columns.split()) for row in self.rows]


RECIPES = {
    question: Recipe(question, sql, text)
    for question, sql, text in re.findall(
        r"^### (.*?)\n\n```sql\n(.*?)```\n\n(.*?)(?=^##|\Z)", PAGE, re.S | re.M
    )
}


def _book(path: Path) -> PriceBook:
    """Return the price book with the price file of the fleet."""
    path.write_text(cookbook.PRICES, encoding="utf-8")
    return PriceBook.load([path])


KINDS = ["chdb", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("server", "cluster"))]


@pytest.fixture(scope="module", params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store with the spans of the fleet: embedded, on a server and on a cluster of two shards."""
    with ExitStack() as stack:
        if request.param == "chdb":
            dsn = embedded(tmp_path_factory.mktemp("store") / "costs", has_prices=False)
        elif request.param == "server":
            dsn = stack.enter_context(clickhouse_server())
        else:
            dsn = stack.enter_context(clickhouse_cluster()).dsn
        opened = stack.enter_context(open_store(re.sub("/default$", "/costs", dsn)))
        opened.migrate(Topology(CLUSTER) if request.param == "cluster" else None)
        opened.push_prices(_book(tmp_path_factory.mktemp("prices") / "prices.yaml"))
        opened.push_policy(cookbook.policy())
        spans.insert(opened, cookbook.requests())
        yield opened


def _ask(store: Store, recipe: Recipe, *, at_their_time: bool) -> Table:
    """Ask as printed, or as on the day of the fleet."""
    sql = _on_their_day(recipe.sql) if at_their_time else recipe.sql
    answer = store.sql(sql, recipe.params, fmt="JSONCompactEachRowWithNamesAndTypes")
    names, types, *rows = [json.loads(line, parse_float=Decimal) for line in answer.splitlines()]
    return Table(dict(zip(names, types, strict=True)), [dict(zip(names, row, strict=True)) for row in rows])


def _on_their_day(sql: str) -> str:
    """Return a statement that takes the day of the fleet for today; `budget_status` asks the clock itself."""
    status = f"budget_status_at(at = toDateTime('{cookbook.NOON}', 'UTC'), is_day = false)"
    return re.sub(r"\bbudget_status\b", status, sql.replace("today()", f"toDate('{cookbook.TODAY}')"))


def usd(micro: int) -> Decimal:
    """Return micro-dollars as USD."""
    return Decimal(micro) / 1_000_000


UNKNOWN = None
ANSWERS: dict[str, tuple[str, list[tuple[Any, ...]]]] = {
    "What does each feature cost per day?": (
        "day feature cost_usd unpriced_calls",
        [
            ("2026-05-26", "", usd(2625), 0),
            ("2026-05-28", "search", usd(210), 0),
            ("2026-06-10", "nightly", usd(1050), 0),
            ("2026-06-15", "search", usd(210), 0),
            ("2026-06-17", "search", usd(210), 0),
            ("2026-06-22", "write", usd(3300 + 150 + 210), 0),
            ("2026-06-23", "research", usd(8250), 0),
            ("2026-06-23", "", usd(360), 0),
            ("2026-06-23", "search", usd(210), 0),
            ("2026-06-24", "search", usd(3500 + 7000 + 210), 0),
            ("2026-06-24", "nightly", usd(210), 0),
            ("2026-06-24", "write", UNKNOWN, 1),
        ],
    ),
    "What do organizations and teams spend this month?": (
        "organization team cost_usd tool_cost_usd unpriced_calls",
        [
            ("acme", "blue", usd(3660 + 8250), UNKNOWN, 1),
            ("acme", "red", usd(10_710 + 3 * 210), UNKNOWN, 0),
            ("globex", "green", usd(1050 + 210), UNKNOWN, 0),
            ("", "", usd(360), UNKNOWN, 0),
        ],
    ),
    "What does each environment cost?": (
        "environment cost_usd cost_ratio",
        [  # of 27,705 in all
            ("prod", usd(23_460), Decimal("0.8468")),
            ("", usd(2625 + 360), Decimal("0.1077")),
            ("test", usd(1260), Decimal("0.0455")),
        ],
    ),
    "At which hours and on which weekdays is it spent?": (
        "weekday hour_of_day cost_usd calls",
        [  # 27 May to 23 June; globex is nine hours ahead
            (1, 10, usd(210), 1),
            (1, 11, usd(3660), 3),
            (2, 5, usd(360), 1),
            (2, 14, usd(210), 1),
            (2, 16, usd(8250), 1),
            (3, 10, usd(210), 1),
            (3, 11, usd(1050), 1),
            (4, 10, usd(210), 1),
        ],
    ),
    "What changed since last week?": (
        "feature this_week_usd last_week_usd change_usd change_ratio",
        [  # 17 to 23 against 10 to 16 June
            ("research", usd(8250), UNKNOWN, usd(8250), UNKNOWN),
            ("write", usd(3660), UNKNOWN, usd(3660), UNKNOWN),
            ("nightly", UNKNOWN, usd(1050), usd(-1050), -1),
            ("", usd(360), UNKNOWN, usd(360), UNKNOWN),
            ("search", usd(420), usd(210), usd(210), 1),
        ],
    ),
    "What will each organization have spent by the end of the month?": (
        "organization spent_usd last_7_days_usd month_end_usd",
        [  # seven days are left, so that a seventh of the last seven days comes seven times
            ("acme", usd(4 * 210 - 210 + 3660 + 8250), usd(12_330), usd(12_540 + 12_330)),
            ("globex", usd(1050), UNKNOWN, usd(1050)),
            ("", usd(360), usd(360), usd(720)),
        ],
    ),
    "Which models are new this week?": (
        "model first_seen_on agent_names",
        [
            ("o4-mini", "2026-06-22", ["writer"]),
            ("claude-sonnet-4-5", "2026-06-23", ["researcher"]),
            ("acme-1", "2026-06-24", ["writer"]),
        ],
    ),
    "Who spends most this month, and what was it last month?": (
        "user_id this_month_usd last_month_usd last_month_to_date_usd unpriced_calls",
        [
            ("ann", usd(10_710 + 2 * 210), usd(7000 + 210), usd(7000), 0),
            ("cat", usd(8250), UNKNOWN, UNKNOWN, 0),
            ("bob", usd(210 + 3660), UNKNOWN, UNKNOWN, 1),
            ("dan", usd(1260), UNKNOWN, UNKNOWN, 0),
        ],
    ),
    "Which share of the users makes 80 % of the spend?": (
        # of 24,720 ann 11,340 and cat 8,250 make 79.2 %, with bob's 3,870 it is 94.9 %
        "users users_of_80_percent users_ratio cost_usd unpriced_calls",
        [(4, 3, Decimal("0.75"), usd(24_720), 1)],
    ),
    "What is spent without an owner?": (
        "agent_name without_organization_usd without_team_usd without_user_usd without_feature_usd",
        [("", *[usd(360)] * 4)],
    ),
    "What does an execution cost, typically and at worst?": (
        "agent_name executions p50_usd p99_usd cost_usd executions_with_unpriced_calls",
        [
            ("planner", 5, usd(210), usd(10_710), usd(10_710 + 4 * 210), 0),
            ("researcher", 1, usd(8250), usd(8250), usd(8250), 0),
            ("", 4, usd(1050), usd(2625), usd(2625 + 1050 + 210 + 360), 0),
            ("writer", 2, usd(3660), usd(3660), usd(3660), 1),
        ],
    ),
    "What does a successful execution cost?": (
        "agent_name executions successes usd_per_success",
        [
            ("writer", 2, 1, usd(3660)),
            ("planner", 5, 5, usd(11_550 // 5)),
            ("", 4, 4, Decimal("0.00106125")),  # 4,245 / 4
            ("researcher", 1, 0, UNKNOWN),
        ],
    ),
    "What do failed executions cost?": (
        "agent_name status cost_usd cost_ratio",
        [
            ("researcher", "killed", usd(8250), 1),
            ("writer", "error", usd(3660), 1),
            ("planner", "ok", usd(11_550), 1),
            ("", "ok", usd(4245), 1),
            ("writer", "ok", UNKNOWN, UNKNOWN),
        ],
    ),
    "What did killed executions cost, and what did the guard save?": (
        "killed_reason executions cost_usd refused_usd executions_without_amount",
        [("budget_usd", 1, usd(8250), usd(20_000), 0)],
    ),
    "Which executions cost over ten times their agent's median?": (
        "execution_id cost_usd median_usd times_median",
        [(cookbook.trace_id("chat"), usd(10_710), usd(210), 51)],
    ),
    "How does the prompt grow within an execution?": (
        "model input_tokens added_tokens cost_usd spent_usd",
        [
            ("gpt-4o", 1000, UNKNOWN, usd(3500), usd(3500)),
            ("gpt-4o", 3000, 2000, usd(7000), usd(10_500)),
            ("gpt-4o-mini", 1000, -2000, usd(210), usd(10_710)),
        ],
    ),
    "What do sub-agents cost inside executions?": (
        "execution_agent_name agent_name component calls cost_usd unpriced_calls",
        [
            ("", "", "", 2, usd(210 + 360), 0),
            ("planner", "planner", "", 4, usd(10_500 + 2 * 210), 0),
            ("planner", "reader", "digest", 1, usd(210), 0),
            ("researcher", "researcher", "", 1, usd(8250), 0),
            ("writer", "writer", "", 4, usd(3660), 1),
        ],
    ),
    "How much of the input comes from the cache?": (
        "model input_tokens cache_read_tokens cache_hit_ratio cache_write_tokens",
        [
            ("gpt-4o-mini", 7 * 1000 + 1000 + 10_000 + 2000, 0, 0, 0),
            ("gpt-4o", 4000, 2000, Decimal("0.5"), 0),
            ("claude-sonnet-4-5", 2000, 0, 0, 1000),
            ("house-9", 1000, 0, 0, 0),
            ("o4-mini", 1000, 0, 0, 0),
            ("acme-1", 50, 0, 0, 0),
        ],
    ),
    "What does the cache save?": (
        "model saved_usd write_premium_usd net_saved_usd unpriced_calls",
        [  # 2,000 x (2.50 - 1.25), and 1,000 x (3.75 - 3)
            ("gpt-4o", usd(2500), 0, usd(2500), 0),
            ("claude-sonnet-4-5", 0, usd(750), usd(-750), 0),
        ],
    ),
    "What would another model have cost?": (
        "feature model list_cost_usd other_cost_usd saved_usd calls_left_out",
        [  # at 0.15, 0.075 and 0.60
            ("search", "gpt-4o", usd(10_500), usd(210 + 150 + 150 + 120), usd(9870), 0),
            ("research", "claude-sonnet-4-5", usd(8250), usd(300 + 60), usd(7890), 0),
            ("", "house-9", usd(3500), usd(210), usd(3290), 0),
            ("write", "o4-mini", usd(3300), usd(150 + 300), usd(2850), 0),
            ("", "gpt-4o-mini", usd(360), usd(360), 0, 0),
            ("search", "gpt-4o-mini", usd(5 * 210), usd(5 * 210), 0, 0),
            ("write", "gpt-4o-mini", usd(360), usd(360), 0, 0),
            ("nightly", "gpt-4o-mini", usd(1260), usd(2100 + 210), usd(-1050), 0),
            ("write", "acme-1", UNKNOWN, UNKNOWN, UNKNOWN, 1),
        ],
    ),
    "How much of the output is reasoning, and what does it cost?": (
        "model reasoning_ratio reasoning_usd list_cost_usd",
        [  # 400 x 4.40, and 50 x 20
            ("o4-mini", Decimal("0.8"), usd(1760), usd(3300)),
            ("house-9", Decimal("0.5"), usd(1000), usd(3500)),
        ],
    ),
    "How often do tools fail?": (
        "tool_name tool_calls failed_calls failed_ratio cost_usd unpriced_calls",
        [("web_search", 2, 1, Decimal("0.5"), UNKNOWN, 2)],
    ),
    "What do failed and retried calls cost?": (
        "model error_type failed_calls retried_calls cost_usd",
        [("gpt-4o-mini", "timeout", 1, 1, usd(150))],
    ),
    "How much of the cost is estimated?": (
        "organization cost_usd estimated_usd estimated_cost_ratio priced_ratio unpriced_ratio",
        [
            ("globex", usd(1260), usd(210), Decimal("0.1667"), Decimal("0.5"), 0),
            ("", usd(2985), 0, 0, 1, 0),
            ("acme", usd(23_460), 0, 0, Decimal("0.9167"), Decimal("0.0833")),
        ],
    ),
    "Which calls were not counted, and why?": (
        "not_counted_reason scope_name calls cost_usd",
        [("duplicate_response_id", "another.instrumentation", 1, usd(3500))],
    ),
    "Which budgets will run out, and when?": (
        # 660 are left, and 11,340 took 23.5 days: 1.3677 days, 32 h 49 min 31 s from noon
        "name limit_usd spent_usd exhausted_at",
        [("red", usd(12_000), usd(11_340), "2026-06-25 20:49:31")],
    ),
    "What did each team spend of its budget?": (
        "team spent_usd remaining_usd utilisation_ratio elapsed_ratio unpriced_calls",
        [
            ("red", usd(11_340), usd(660), Decimal("0.945"), Decimal("0.7833"), 0),
            ("blue", usd(11_910), usd(88_090), Decimal("0.1191"), Decimal("0.7833"), 1),
        ],
    ),
    "What does each route of the service cost?": (
        "value traces cost_usd unpriced_calls",
        [
            ("", 7, usd(2 * 210 + 3660 + 8250 + 210 + 360), 1),
            ("/chat", 1, usd(10_710), 0),
        ],
    ),
    "Did a release change what a call costs?": (
        "service_name version calls cost_usd usd_per_call unpriced_calls",
        [
            ("agents", "1.0", 7, usd(2 * 210 + 3660 + 8250), usd(12_330 // 6), 1),
            ("agents", "2.0", 3, usd(10_710), usd(10_710 // 3), 0),
            ("cron", "1.0", 1, usd(360), usd(360), 0),
            ("nightly", "1.0", 1, usd(210), usd(210), 0),
        ],
    ),
    "Which models is it spent on?": (
        "model cost_usd calls usd_per_call input_tokens output_tokens unpriced_calls",
        [
            ("gpt-4o", usd(10_500), 2, usd(5250), 4000, 300, 0),
            ("claude-sonnet-4-5", usd(8250), 1, usd(8250), 2000, 100, 0),
            ("o4-mini", usd(3300), 1, usd(3300), 1000, 500, 0),
            ("gpt-4o-mini", usd(3030), 10, usd(303), 20_000, 7 * 100 + 1000 + 100, 0),
            ("house-9", usd(2625), 1, usd(2625), 1000, 100, 0),
            ("acme-1", UNKNOWN, 1, UNKNOWN, 50, 5, 1),
        ],
    ),
    "How does the model mix of a feature change over the weeks?": (
        "week feature model calls calls_ratio",
        [
            ("2026-05-18", "search", "gpt-4o", 1, 1),
            ("2026-05-25", "", "house-9", 1, 1),
            ("2026-05-25", "search", "gpt-4o-mini", 1, 1),
            ("2026-06-08", "nightly", "gpt-4o-mini", 1, 1),
            ("2026-06-15", "search", "gpt-4o-mini", 2, 1),
            ("2026-06-22", "", "gpt-4o-mini", 1, 1),
            ("2026-06-22", "nightly", "gpt-4o-mini", 1, 1),
            ("2026-06-22", "research", "claude-sonnet-4-5", 1, 1),
            ("2026-06-22", "search", "gpt-4o", 2, Decimal("0.5")),
            ("2026-06-22", "search", "gpt-4o-mini", 2, Decimal("0.5")),
            ("2026-06-22", "write", "gpt-4o-mini", 2, Decimal("0.5")),
            ("2026-06-22", "write", "acme-1", 1, Decimal("0.25")),
            ("2026-06-22", "write", "o4-mini", 1, Decimal("0.25")),
        ],
    ),
    "How many users spend something each day?": (
        "day active_users cost_usd usd_per_user cost_without_user_usd unpriced_calls",
        [
            ("2026-05-26", 0, UNKNOWN, UNKNOWN, usd(2625), 0),
            ("2026-05-28", 1, usd(210), usd(210), UNKNOWN, 0),
            ("2026-06-10", 1, usd(1050), usd(1050), UNKNOWN, 0),
            ("2026-06-15", 1, usd(210), usd(210), UNKNOWN, 0),
            ("2026-06-17", 1, usd(210), usd(210), UNKNOWN, 0),
            ("2026-06-22", 1, usd(3660), usd(3660), UNKNOWN, 0),
            ("2026-06-23", 2, usd(210 + 8250), usd(4230), usd(360), 0),
            ("2026-06-24", 3, usd(10_710 + 210), usd(3640), UNKNOWN, 1),
        ],
    ),
    "What does a conversation cost?": (
        "session_id user_id executions cost_usd unpriced_calls",
        [("talk-1", "ann", 1, usd(10_710), 0)],
    ),
    "What does the guard decide?": (
        "day decision mode kind decisions executions asked_usd",
        [("2026-06-23", "deny", "enforce", "budget_usd", 1, 1, usd(20_000))],
    ),
    "Which executions run longest?": (
        "agent_name duration_s status cost_usd",
        [
            ("planner", 30, "ok", usd(10_710)),
            ("writer", 9, "error", usd(3660)),
            ("researcher", 5, "killed", usd(8250)),
            ("", 1, "ok", usd(210)),
            ("planner", 1, "ok", usd(210)),
            ("", 1, "ok", usd(360)),
            ("writer", 1, "ok", UNKNOWN),
            ("planner", 1, "ok", usd(210)),
        ],
    ),
    "Which executions have the largest prompts?": (
        "agent_name first_input_tokens max_input_tokens times_first input_tokens",
        [
            ("planner", 1000, 3000, 3, 5000),
            ("researcher", 2000, 2000, 1, 2000),
            ("", 2000, 2000, 1, 2000),
            ("", 1000, 1000, 1, 1000),
            ("planner", 1000, 1000, 1, 1000),
            ("writer", 1000, 1000, 1, 3000),
            ("planner", 1000, 1000, 1, 1000),
            ("writer", 50, 50, 1, 50),
        ],
    ),
    "Which service tiers are used?": (
        "model service_tier calls calls_ratio cost_usd estimated_calls unpriced_calls",
        [
            ("acme-1", "", 1, 1, UNKNOWN, 0, 1),
            ("claude-sonnet-4-5", "", 1, 1, usd(8250), 0, 0),
            ("house-9", "", 1, 1, usd(2625), 0, 0),
            ("gpt-4o", "", 2, 1, usd(10_500), 0, 0),
            ("gpt-4o-mini", "", 8, Decimal("0.8"), usd(6 * 210 + 150 + 360), 0, 0),
            ("gpt-4o-mini", "batch", 1, Decimal("0.1"), usd(1050), 0, 0),
            ("gpt-4o-mini", "scale", 1, Decimal("0.1"), usd(210), 1, 0),
            ("o4-mini", "", 1, 1, usd(3300), 0, 0),
        ],
    ),
    "What do discounts save?": (
        "model list_cost_usd cost_usd discount_usd unpriced_calls",
        [
            ("house-9", usd(3500), usd(2625), usd(875), 0),
            ("claude-sonnet-4-5", usd(8250), usd(8250), 0, 0),
            ("gpt-4o", usd(10_500), usd(10_500), 0, 0),
            ("gpt-4o-mini", usd(3030), usd(3030), 0, 0),
            ("o4-mini", usd(3300), usd(3300), 0, 0),
            ("acme-1", UNKNOWN, UNKNOWN, UNKNOWN, 1),
        ],
    ),
    "How many tool calls does an execution make?": (
        "agent_name executions model_calls tool_calls tool_calls_per_execution p99_tool_calls",
        [
            ("planner", 5, 7, 2, Decimal("0.4"), 2),
            ("", 4, 4, 0, 0, 0),
            ("researcher", 1, 1, 0, 0, 0),
            ("writer", 2, 4, 0, 0, 0),
        ],
    ),
    "Which tools do the most expensive executions call?": (
        "tool_name tool_calls executions tool_calls_per_execution failed_calls",
        [("web_search", 2, 1, 2, 1)],
    ),
    "Which models have no price, and how much are they used?": (
        "provider model calls calls_with_usage input_tokens output_tokens first_seen_on",
        [("acme", "acme-1", 1, 1, 50, 5, "2026-06-24")],
    ),
    "Which calls lost the spans above them?": (
        "service_name calls orphan_calls orphan_ratio orphan_cost_usd unpriced_calls",
        [
            ("cron", 1, 1, 1, usd(360), 0),
            ("agents", 6, 0, 0, UNKNOWN, 1),
            ("nightly", 1, 0, 0, UNKNOWN, 0),
        ],
    ),
}


def test_the_page_is_a_page_of_recipes() -> None:
    """Every heading that is a question has a statement and a text, and every expected answer a question."""
    assert list(RECIPES) == re.findall(r"^### (.*)$", PAGE, re.M)
    assert len(RECIPES) >= 30
    assert ANSWERS.keys() <= RECIPES.keys()
    assert all(question.endswith("?") for question in RECIPES)


@pytest.mark.parametrize("question", RECIPES)
def test_a_question_is_answered_as_printed(store: Store, question: str) -> None:
    """It can be pasted, and money comes back as Decimal."""
    answer = _ask(store, RECIPES[question], at_their_time=False)
    money = {name: kind for name, kind in answer.types.items() if "usd" in name.split("_")}
    assert not {name: kind for name, kind in money.items() if "Decimal(38" not in kind}


@pytest.mark.parametrize("question", RECIPES)
def test_an_answer_is_the_one_worked_by_hand(store: Store, question: str) -> None:
    """On the day of the fleet it has rows; where they were worked out, these."""
    recipe = RECIPES[question]
    answer = _ask(store, recipe, at_their_time=True)
    assert answer.rows
    if question in ANSWERS:
        columns, expected = ANSWERS[question]
        assert answer.only(columns) == expected


def _relations() -> set[str]:
    """Return the name of every table, view and dictionary."""
    text = "\n".join(
        Path(path).read_text() for folder in ("migrations", "views") for path in sql_files(folder)
    )
    return set(re.findall(r"(?:TABLE|VIEW|DICTIONARY)(?: IF NOT EXISTS)? (\w+)", text))


@pytest.mark.parametrize("question", RECIPES)
def test_a_text_names_what_the_answer_has(store: Store, question: str) -> None:
    """Names in it are columns of the answer or tables; money never goes without a word on unpriced calls."""
    recipe = RECIPES[question]
    columns = _ask(store, recipe, at_their_time=False).types.keys()
    named = set(re.findall(r"`(\w+)`", recipe.text))
    assert named & columns
    assert named - columns <= _relations()
    if any("usd" in name.split("_") for name in columns):
        assert "unpriced" in recipe.text


@pytest.mark.parametrize("question", RECIPES)
def test_a_statement_is_bounded_and_spelled_out(question: str) -> None:
    """It names its columns, and where it reads a long table, it says so and bounds it each time."""
    sql = RECIPES[question].sql
    assert "SELECT *" not in sql
    reads = re.findall(rf"(?:FROM|JOIN) (?:{'|'.join(LONG)})\b", sql)
    assert sql.startswith("-- Reads ") == bool(reads)
    assert len(re.findall(r"(?:started_at|Timestamp) >= today\(\)", sql)) >= len(reads)
    assert question in WITHOUT_TIME or "today()" in sql

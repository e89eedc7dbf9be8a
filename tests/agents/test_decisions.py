"""An agent that the guard stops is in the reports: from the request that was not sent to the row."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from otel_cost.fake_provider import FakeProvider, Reply
from otel_cost.usage import Usage
from tests.server import commands
from tests.server.commands import Up

# gpt-5-mini: $0.25 input, $2.00 output per million tokens (https://developers.openai.com/api/docs/pricing):
# 1,000 in and 100 out cost 250 + 200 = 450 millionths of a dollar. The next holds about 220.
REPLY = Reply(usage=Usage(input_tokens=1_000, output_tokens=100))
AGENT = """
import openai, otel_cost
client = openai.OpenAI(max_retries=9)
def step():
    told = [{"role": "user", "content": "a secret"}]
    client.chat.completions.create(model="gpt-5-mini", messages=told, max_completion_tokens=100)
"""
WATCHED = "with otel_cost.execution('run-1', agent='planner', team='red'):\n    while True: step()\n"
UNWATCHED = "while True: step()\n"


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A running `otel-cost up`."""
    pytest.importorskip("chdb")
    with commands.serving(tmp_path_factory.mktemp("decisions") / "store") as made:
        yield made


def run(up: Up, code: str, home: Path, **settings: str) -> tuple[int, str]:
    """Run an agent with a budget for one call and a half; return its requests and what it says."""
    script = home / "agent.py"
    script.write_text(AGENT + code)
    with FakeProvider(REPLY) as provider:
        told = {"OTEL_COST_BUDGET_USD": "0.0006", "OTEL_EXPORTER_OTLP_ENDPOINT": up.http}
        arguments = ("run", "--", "python", str(script))
        finished = commands.otel_cost(*arguments, **provider.environment, **told, **settings)
        assert finished.returncode != 0
        return provider.count(), finished.stderr


def rows(up: Up, sql: str) -> list[dict[str, Any]]:
    """Return what the warehouse answers."""
    return [json.loads(line) for line in up.query(f"{sql} FORMAT JSONEachRow").splitlines()]


def reported(up: Up, *arguments: str) -> list[dict[str, Any]]:
    """Return what a report of the command line says."""
    done = commands.otel_cost(*arguments, "--json", OTEL_COST_STORE=up.dsn)
    assert done.returncode == 0, done.stderr
    told: list[dict[str, Any]] = json.loads(done.stdout)
    return told


def test_an_agent_that_is_stopped_is_in_the_reports(up: Up, tmp_path: Path) -> None:
    """One call is paid for, the next is refused: who, why and how much stand in decisions and executions."""
    sent, errors = run(up, WATCHED, tmp_path)
    assert sent == 1
    assert "BudgetExceeded: execution run-1 may spend" in errors
    (decision,) = reported(up, "decisions", "--execution", "run-1")
    told = {name: decision[name] for name in ("decision", "kind", "mode", "team", "agent_name", "model")}
    assert told == {
        "decision": "deny",
        "kind": "budget_usd",
        "mode": "enforce",
        "team": "red",
        "agent_name": "planner",
        "model": "gpt-5-mini",
    }
    amounts = [decision[name] for name in ("limit_usd", "spent_usd", "reserved_usd")]
    assert amounts == ["0.0006", "0.00045", "0"]
    assert Decimal("0.00015") < Decimal(decision["asked_usd"]) < Decimal("0.001")
    assert decision["reason"].startswith("execution run-1 may spend $0.0006")
    assert decision["top_components"] == "planner gpt-5-mini $0.00045"
    assert "secret" not in json.dumps(decision)
    (execution,) = [row for row in reported(up, "top", "executions") if row["execution_id"] == "run-1"]
    killed = (execution["status"], execution["killed_reason"], execution["cost_usd"])
    assert killed == ("killed", "budget_usd", "0.00045")


def test_a_script_without_instrumentors_is_in_the_reports(up: Up, tmp_path: Path) -> None:
    """Nobody makes a span of the call: the refusal is told on the script's own."""
    settings = {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "*", "OTEL_SERVICE_NAME": "bare"}
    sent, _ = run(up, UNWATCHED, tmp_path, **settings)
    assert sent == 1
    (decision,) = rows(up, "SELECT * FROM decisions FINAL WHERE service_name = 'bare'")
    assert (decision["decision"], decision["kind"]) == ("deny", "budget_usd")
    assert decision["execution_id"] == decision["trace_id"]


def test_a_script_whose_traces_are_sampled_away_is_in_the_reports(up: Up, tmp_path: Path) -> None:
    """Not one of its spans is sent, and the refusal is."""
    settings = {"OTEL_TRACES_SAMPLER": "always_off", "OTEL_SERVICE_NAME": "dropped"}
    sent, _ = run(up, WATCHED.replace("run-1", "run-2"), tmp_path, **settings)
    assert sent == 1
    assert (
        rows(
            up, "SELECT * FROM otel_traces WHERE ServiceName = 'dropped' AND SpanName != 'otel_cost.decision'"
        )
        == []
    )
    (decision,) = rows(up, "SELECT * FROM decisions FINAL WHERE service_name = 'dropped'")
    assert (decision["execution_id"], decision["team"]) == ("run-2", "red")

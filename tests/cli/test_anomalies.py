"""`otel-cost anomalies`, as a person uses it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from otel_cost.budgets import Policy
from otel_cost.cli.main import app
from otel_cost.store import open_store
from tests.clickhouse.test_anomalies import NOW, call, insert, runs
from tests.stores import embedded


@pytest.fixture
def filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store with an execution of 50 times the median, and a model without a price."""
    monkeypatch.setenv("OTEL_COST_STORE", embedded(tmp_path / "store", has_prices=False))
    with open_store() as store:
        store.push_policy(Policy())
        insert(store, [*runs(["1"] * 6 + ["50"]), call("new", NOW, None, model="nova")])


@pytest.mark.usefixtures("filled")
def test_findings_are_listed_in_words() -> None:
    """The gravest comes first, with its kind, subject, stake and reason."""
    shown = CliRunner().invoke(app, ["anomalies", "--since", "all"], catch_exceptions=False)
    assert shown.exit_code == 0
    lines = [line for line in shown.stdout.splitlines() if line.startswith(("critical", "warning"))]
    assert [line.split()[:4] for line in lines] == [
        ["critical", "open", "execution_cost", "execution:run-6"],
        ["warning", "open", "unpriced_model", "model:nova"],
    ]
    assert "$49.00" in lines[0]
    assert "unknown" in lines[1]


@pytest.mark.usefixtures("filled")
def test_json_has_exact_amounts_and_the_evidence() -> None:
    """`--json` gives every column, money as text; `--kind` narrows it."""
    shown = CliRunner().invoke(
        app, ["anomalies", "--since", "all", "--kind", "execution_cost", "--json"], catch_exceptions=False
    )
    (row,) = json.loads(shown.stdout)
    assert (row["stake_usd"], row["expected"], row["seen"]) == ("49", "1", "50")
    assert row["evidence"].startswith("SELECT ")
    assert row["first_seen"].startswith("2026-06-30T12:00:00")


@pytest.mark.usefixtures("filled")
def test_a_kind_that_does_not_exist_is_bad_input() -> None:
    """A kind with a typo is told, with those there are."""
    shown = CliRunner().invoke(app, ["anomalies", "--kind", "loops"])
    assert "--kind 'loops' is not known; write one of execution_cost," in str(shown.exception)


@pytest.mark.usefixtures("filled")
def test_nothing_unusual_is_said() -> None:
    """A time without findings says so."""
    shown = CliRunner().invoke(app, ["anomalies", "--since", "2026-07-05"], catch_exceptions=False)
    assert "Nothing unusual since 2026-07-05" in shown.stdout

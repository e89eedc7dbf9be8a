"""Planted trouble is found, and agents at peace are left alone; docs/anomalies.md has more seeds."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator
from random import Random

import pytest

from otel_cost.budgets import ANOMALY_KINDS
from otel_cost.store import Store, open_store
from tests.anomalies import evaluate, fleet, plants, shapes
from tests.anomalies.evaluate import Tally
from tests.data import shared_data

SEED = 201


@pytest.fixture
def recordings() -> None:
    """Skip where the recordings that traffic is made of are not at hand."""
    shared_data("miniswe_gemini3")
    shared_data("azure_llm_2023")


@pytest.fixture
def store() -> Iterator[Store]:
    """A store with tables and default settings."""
    with tempfile.TemporaryDirectory() as directory, open_store(f"chdb://{directory}") as opened:
        evaluate.prepare(opened)
        yield opened


@pytest.mark.usefixtures("recordings")
def test_healthy_recorded_runs_are_no_finding(store: Store) -> None:
    """Each recorded healthy run, as it was, over a week: their contexts grow, and nothing is said of it."""
    random = Random(SEED)
    (coder,) = (agent for agent in fleet.clean_agents() if agent.name == "coder")
    executions = [
        fleet.Execution(
            fleet.new_id(random), fleet.BEGIN + fleet.HOUR * 2 * number, coder, calls, "gemini-3-pro"
        )
        for number, calls in enumerate(shapes.runs())
    ]
    fleet.insert(store, executions)
    assert len(executions) > 50
    assert evaluate.look(store) == []


@pytest.mark.usefixtures("recordings")
def test_a_few_agents_in_trouble(store: Store) -> None:
    """Of a small fleet all but faint trouble is found, nothing else is, and each finding's query runs."""
    grown = plants.grow(Random(SEED), {"coder"}, {"prompt_creep", "unpriced_model"})
    fleet.insert(store, grown.executions)
    found = evaluate.look(store)
    tallies: dict[str, Tally] = defaultdict(Tally)
    evaluate.compare(found, grown.labels, tallies)
    planted = {"execution_cost", "loop", "retry_storm", "context_growth", "prompt_creep", "unpriced_model"}
    assert {kind for kind, tally in tallies.items() if tally.planted} == planted
    assert {kind: tally.alerts for kind, tally in tallies.items() if tally.alerts} == {}
    assert sum(tally.found.total() for tally in tallies.values()) >= 0.9 * len(grown.labels)
    for finding in {finding["kind"]: finding for finding in found}.values():
        assert store.sql(finding["evidence"]), finding["evidence"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("recordings")
def test_precision_and_recall() -> None:
    """Every kind is found nine times in ten, and nine findings in ten are about a plant; each query runs."""
    grown = plants.grow(Random(SEED))
    tallies: dict[str, Tally] = defaultdict(Tally)
    with tempfile.TemporaryDirectory() as directory, open_store(f"chdb://{directory}") as opened:
        evaluate.prepare(opened)
        fleet.insert(opened, grown.executions)
        found = evaluate.look(opened)
        for finding in {finding["kind"]: finding for finding in found}.values():
            assert opened.sql(finding["evidence"]), finding["evidence"]
    evaluate.compare(found, grown.labels, tallies)
    planted = {kind: tally for kind, tally in tallies.items() if tally.planted}
    assert set(planted) == set(ANOMALY_KINDS) - {"execution_maximum"}
    assert {kind: tally.precision for kind, tally in planted.items() if tally.precision < 0.9} == {}
    found_plants = sum(tally.found.total() for tally in planted.values())
    assert found_plants >= 0.9 * len(grown.labels)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("recordings")
def test_false_alerts() -> None:
    """Of ten agents at peace, looked at daily for three weeks, there is at most one alert an agent-week."""
    agent_weeks, found = evaluate.clean(SEED)
    alerts = [finding for finding in found if finding["severity"] != "info"]
    assert len(alerts) <= agent_weeks

"""The kill matrix: whatever sends the requests, whoever watches and however the loop is written, it ends.

Every cell is an agent that would go on for ever, in an execution with a budget of exactly three calls,
against a provider that counts requests. After the kill not one request arrives, the program ends in time, and
the error at its top is `BudgetExceeded` or carries it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import pytest

from tests.agents.harness import Program, environment
from tests.agents.programs import kill_frameworks  # noqa: F401 (registers its agents)
from tests.agents.programs.kill_clients import CLIENTS
from tests.data import ROOT

Result = dict[str, Any]

LOOPS = ("plain", "swallow", "retry", "twenty")
END = "the end of the process"
NONE, OFFICIAL, OPENINFERENCE, OPENLLMETRY = "none", "official", "openinference", "openllmetry"
ENDS_WITHIN_S = 10
"""From the first refusal to the end of the program."""


class Libraries(NamedTuple):
    """Libraries that can be installed together, each the first word of its clients' names."""

    names: tuple[str, ...]
    packages: tuple[str, ...]


ENVIRONMENTS = {
    "current": Libraries(
        ("openai", "anthropic", "bedrock", "langchain", "langgraph", "openai-agents", "pydantic-ai"),
        (
            "aiohttp",
            "anthropic>=2.12",
            "boto3",
            "httpx",
            "langchain>=1.4",
            "langchain-openai>=1.7",
            "langgraph>=1.2",
            "openai>=3.54",
            "openai-agents>=0.24",
            "openinference-instrumentation-anthropic",
            "openinference-instrumentation-bedrock",
            "openinference-instrumentation-langchain",
            "openinference-instrumentation-openai",
            "openinference-instrumentation-openai-agents",
            "opentelemetry-instrumentation-anthropic",
            "opentelemetry-instrumentation-bedrock",
            "opentelemetry-instrumentation-langchain",
            "opentelemetry-instrumentation-openai",
            "opentelemetry-instrumentation-openai-agents",
            "otel-cost[instrument]",
            "pydantic-ai-slim[anthropic,openai]>=2.68",
            "tenacity",
        ),
    ),
    "gateways": Libraries(
        ("google-genai", "google-interactions", "mistral", "cohere", "ollama", "litellm", "smolagents"),
        (
            "aiohttp",
            "cohere",
            "google-genai",
            "litellm",
            "mcp",
            "mistralai",
            "ollama",
            "openinference-instrumentation-cohere",
            "openinference-instrumentation-google-genai",
            "openinference-instrumentation-litellm",
            "openinference-instrumentation-mistralai",
            "openinference-instrumentation-ollama",
            "openinference-instrumentation-smolagents",
            "opentelemetry-instrumentation-cohere",
            "opentelemetry-instrumentation-google-generativeai",
            "opentelemetry-instrumentation-litellm",
            "opentelemetry-instrumentation-ollama",
            "otel-cost[instrument]",
            "smolagents[litellm,openai]",
            "tenacity",
        ),
    ),
    "crewai": Libraries(
        ("crewai",),
        (
            "crewai",
            "openinference-instrumentation-crewai",
            "opentelemetry-instrumentation-crewai",
            "otel-cost[instrument]",
            "tenacity",
        ),
    ),
}


_GENAI = "opentelemetry.instrumentation.genai"
_OPENINFERENCE = "openinference.instrumentation"
_OPENLLMETRY = "opentelemetry.instrumentation"

SCOPES: dict[str, dict[str, tuple[str, ...]]] = {
    OFFICIAL: {
        "openai": (f"{_GENAI}.openai",),
        "anthropic": (f"{_GENAI}.anthropic",),
        "bedrock": (f"{_GENAI}.bedrock",),
        "langchain": (f"{_GENAI}.langchain",),
        "langgraph": (f"{_GENAI}.langchain",),
        "openai-agents": (f"{_GENAI}.openai_agents",),
        "pydantic-ai": ("pydantic-ai",),
        "google-genai": ("opentelemetry.instrumentation.google_genai",),
        "google-interactions": ("opentelemetry.instrumentation.google_genai",),
        "smolagents": (f"{_GENAI}.smolagents",),
    },
    OPENINFERENCE: {
        "openai": (f"{_OPENINFERENCE}.openai",),
        "anthropic": (f"{_OPENINFERENCE}.anthropic",),
        "bedrock": (f"{_OPENINFERENCE}.bedrock",),
        "langchain": (f"{_OPENINFERENCE}.langchain",),
        "langgraph": (f"{_OPENINFERENCE}.langchain",),
        "openai-agents": (f"{_OPENINFERENCE}.openai_agents",),
        "pydantic-ai": (f"{_OPENINFERENCE}.openai", f"{_OPENINFERENCE}.anthropic"),
        "google-genai": (f"{_OPENINFERENCE}.google_genai",),
        "google-interactions": (f"{_OPENINFERENCE}.google_genai",),
        "mistral": (f"{_OPENINFERENCE}.mistralai",),
        "cohere": (f"{_OPENINFERENCE}.cohere",),
        "ollama": (f"{_OPENINFERENCE}.ollama",),
        "litellm": (f"{_OPENINFERENCE}.litellm",),
        "smolagents": (f"{_OPENINFERENCE}.smolagents",),
        "crewai": (f"{_OPENINFERENCE}.crewai",),
    },
    OPENLLMETRY: {
        "openai": (f"{_OPENLLMETRY}.openai.v1",),
        "anthropic": (f"{_OPENLLMETRY}.anthropic",),
        "bedrock": (f"{_OPENLLMETRY}.bedrock",),
        "langchain": (f"{_OPENLLMETRY}.langchain",),
        "langgraph": (f"{_OPENLLMETRY}.langchain",),
        "openai-agents": (f"{_OPENLLMETRY}.openai_agents",),
        "pydantic-ai": (f"{_OPENLLMETRY}.openai.v1", f"{_OPENLLMETRY}.anthropic"),
        "google-genai": (f"{_OPENLLMETRY}.google_generativeai",),
        "cohere": (f"{_OPENLLMETRY}.cohere",),
        "ollama": (f"{_OPENLLMETRY}.ollama",),
        "litellm": (f"{_OPENLLMETRY}.litellm",),
        "crewai": (f"{_OPENLLMETRY}.crewai.instrumentation",),
    },
}
"""Scopes of the spans of each family's instrumentor, of which one is seen in every cell it watches. A library
that is not named has none that works with its current version. Pydantic AI makes its own spans, and those of
the SDK below it come with them."""


def library_of(cell: str) -> str:
    """Return the library a client or a cell is named after."""
    return cell.partition("/")[0].split()[0]


def cells_of(name: str, family: str) -> list[str]:
    """Return the cells of an environment: every loop unwatched, the one that swallows errors watched."""
    named = [client for client in CLIENTS if library_of(client) in ENVIRONMENTS[name].names]
    if family == NONE:
        return [f"{client}/{loop}" for client in named for loop in LOOPS]
    return [f"{client}/swallow" for client in named if library_of(client) in SCOPES[family]]


GROUPS = [
    (name, family)
    for name in ENVIRONMENTS
    for family in (NONE, OFFICIAL, OPENINFERENCE, OPENLLMETRY)
    if cells_of(name, family)
]
CELLS = [(name, family, cell) for name, family in GROUPS for cell in cells_of(name, family)]


def program(python: str, family: str, cells: list[str], more: Mapping[str, str]) -> Program:
    """Return a program that runs cells, watched by the instrumentors of a family, or by none."""
    settings = {
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_COST_INSTRUMENTORS": f"{family},anthropic={family}",
        "CREWAI_DISABLE_TELEMETRY": "true",
    }
    code = "import sys; from tests.agents.programs.kill_matrix import main; main(sys.argv[1:])"
    return Program(code, cells, settings | dict(more), python, instrumented=family != NONE)


def run(python: str, family: str, cells: list[str], **more: str) -> dict[str, Result]:
    """Run cells in one process, in a new one after a cell that did not end; return what came of each."""
    results: dict[str, Result] = {}
    while left := [cell for cell in cells if cell not in results]:
        finished = program(python, family, left, more).run(timeout_s=600)
        lines = [line[5:] for line in finished.stdout.splitlines() if line.startswith("CELL ")]
        found = {result["cell"]: result for result in map(json.loads, lines)}
        results |= found
        if finished.returncode or not found:
            stuck = next((cell for cell in left if cell not in found), END)
            results[stuck] = {"cell": stuck, "failure": finished.stderr[-1500:]}
    return results


@cache
def measured(name: str, family: str) -> dict[str, Result]:
    """Return the results of an environment's cells under a family of instrumentors."""
    python = environment(f"kill-{name}", ENVIRONMENTS[name].packages)
    return run(python, family, cells_of(name, family))


def check(result: Result) -> None:
    """Three requests, none after the kill; the program ended soon, by our error."""
    assert "failure" not in result, result["failure"]
    assert (result["requests"], result["before_kill"]) == (3, 3)
    assert result["ours"] in ("is ours", "carries ours", "quotes ours"), result["text"]
    assert result["ended_after_s"] < ENDS_WITHIN_S


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("name", "family", "cell"), CELLS)
def test_nothing_is_sent_after_the_kill(name: str, family: str, cell: str) -> None:
    """Exactly three requests arrive, the program ends, and where it should be watched it was."""
    result = measured(name, family)[cell]
    check(result)
    if family != NONE:
        assert set(SCOPES[family][library_of(cell)]) & set(result["scopes"])


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("name", "family"), GROUPS)
def test_the_process_ends_too(name: str, family: str) -> None:
    """After all its executions were killed, a process comes to its end by itself, without an error."""
    results = measured(name, family)
    assert END not in results, results[END]["failure"]


def test_loops_of_this_environment_end() -> None:
    """Two cells of the matrix that take seconds, among the tests of every day."""
    cells = ["openai chat/swallow", "openai chat async stream/twenty"]
    results = run(sys.executable, NONE, cells)
    assert sorted(results) == sorted(cells)
    for result in results.values():
        check(result)


def test_what_is_sent_after_a_refusal_is_seen() -> None:
    """A guard that only takes notes does not pass: the requests after the one that it would refuse count."""
    cell = "openai chat/twenty"
    result = run(sys.executable, NONE, [cell], OTEL_COST_GUARD="shadow")[cell]
    assert result["requests"] == 20
    with pytest.raises(AssertionError):
        check(result)

"""A fleet to spend the money: organizations, teams, users, features, agents, and the models they use."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

import numpy as np

SLOTS = 65_536
"""Executions are drawn from this many ready-made combinations of payer, agent and model."""
WEEKDAY_SLOTS = 32_768
USER_EXPONENT = 1.1
"""Of the zipf law of who is active: one in a hundred users makes about half of the executions."""
HOURS = (1, 1, 1, 1, 1, 2, 3, 5, 8, 10, 11, 11, 9, 10, 11, 11, 10, 8, 6, 4, 3, 2, 2, 1)
"""How busy each hour of a day is, UTC. Assumed: the recording is of one hour."""
WEEKDAYS = (1.0, 1.05, 1.05, 1.0, 0.9, 0.35, 0.3)
"""How busy each day is, Monday first. Assumed, as above."""

MODELS = (
    # provider, response model, request model, kind of response id, share of the agents
    ("openai", "gpt-5-2025-08-07", "gpt-5", "chatcmpl", 0.22),
    ("openai", "gpt-5-mini-2025-08-07", "gpt-5-mini", "resp", 0.12),
    ("anthropic", "claude-sonnet-4-5-20250929", "claude-sonnet-4-5", "msg", 0.22),
    ("anthropic", "claude-haiku-4-5-20251001", "claude-haiku-4-5", "msg", 0.08),
    ("openrouter", "google/gemini-3-pro-preview", "google/gemini-3-pro-preview", "gen", 0.14),
    ("gcp.gemini", "gemini-2.5-flash", "gemini-2.5-flash", "none", 0.08),
    ("azure.ai.openai", "gpt-4.1-2025-04-14", "gpt-4.1", "chatcmpl", 0.06),
    ("mistral_ai", "mistral-large-latest", "mistral-large-latest", "chatcmpl", 0.03),
    ("vllm", "acme-coder-70b", "acme-coder-70b", "chatcmpl", 0.05),  # nobody publishes a price for it
)
SCOPES = {
    "openai": "opentelemetry.instrumentation.genai.openai",
    "anthropic": "opentelemetry.instrumentation.genai.anthropic",
    "openrouter": "opentelemetry.instrumentation.genai.openai",
    "gcp.gemini": "opentelemetry.instrumentation.google_genai",
    "azure.ai.openai": "opentelemetry.instrumentation.genai.openai",
    "mistral_ai": "opentelemetry.instrumentation.mistralai",
    "vllm": "opentelemetry.instrumentation.genai.openai",
}
FEATURES = (
    "code-review",
    "support-chat",
    "search",
    "summaries",
    "onboarding",
    "triage",
    "reports",
    "copilot",
)
JOBS = ("planner", "researcher", "coder", "reviewer", "router", "writer")
TOOLS = ("shell", "read_file", "search", "edit_file", "fetch_url", "run_tests", "query_database", "calendar")


@dataclass(frozen=True, slots=True)
class Fleet:
    """How many of each there are."""

    organizations: int = 12
    teams: int = 60
    users: int = 5_000
    agents: int = 48


def profiles(fleet: Fleet, seed: int) -> dict[str, list[object]]:
    """Return the columns of `SLOTS` combinations of payer, agent, model and habits of instrumentation."""
    random = np.random.default_rng(seed)
    users = random.choice(fleet.users, SLOTS, p=_zipf(fleet.users, USER_EXPONENT))
    agents = random.choice(fleet.agents, SLOTS, p=_zipf(fleet.agents, 0.8))
    models = random.choice(len(MODELS), fleet.agents, p=[model[4] for model in MODELS])
    small = random.choice(len(MODELS), fleet.agents, p=[model[4] for model in MODELS])
    names = [str(uuid.UUID(bytes=random.bytes(16), version=4)) for _ in range(fleet.users)]
    columns: dict[str, list[object]] = {"slot": list(range(SLOTS))}
    columns |= _payers(fleet, users, names)
    columns |= _agents(agents)
    columns |= _models("", models[agents]) | _models("small_", small[agents])
    return columns | _habits(agents, random)


def _zipf(count: int, exponent: float) -> np.ndarray:
    weights = 1 / np.arange(1, count + 1) ** exponent
    return weights / weights.sum()


def _payers(fleet: Fleet, users: np.ndarray, names: list[str]) -> dict[str, list[object]]:
    """A user is in one team for good, and a team in one organization; big ones have more."""
    teams = (users * 7919) % fleet.teams
    organizations = (teams * teams) // fleet.teams % fleet.organizations
    return {
        "organization": [f"org-{number:02d}" for number in organizations],
        "team": [f"team-{number:02d}" for number in teams],
        "user_id": [names[number] for number in users],
    }


def _agents(agents: np.ndarray) -> dict[str, list[object]]:
    features = [FEATURES[number % len(FEATURES)] for number in agents]
    return {
        "feature": features,
        "agent_name": [f"{JOBS[number % len(JOBS)]}-{number:02d}" for number in agents],
        "service_name": [f"{feature}-service" for feature in features],
        "environment": ["staging" if number % 9 == 8 else "production" for number in agents],
    }


def _models(prefix: str, models: np.ndarray) -> dict[str, list[object]]:
    rows = [MODELS[number] for number in models]
    names = ("provider", "model", "request_model", "id_kind")
    return {f"{prefix}{name}": [row[place] for row in rows] for place, name in enumerate(names)} | {
        f"{prefix}scope_name": [SCOPES[row[0]] for row in rows]
    }


def _habits(agents: np.ndarray, random: np.random.Generator) -> dict[str, list[object]]:
    """How an agent is instrumented is a matter of the agent, not of chance."""
    return {
        "is_nested": [bool(number % 10 < 3) for number in agents],
        "has_web_span": [bool(number % 5 < 2) for number in agents],
        "has_http_spans": [bool(number % 10 in (1, 5, 8)) for number in agents],
        "is_doubled": [bool(number % 24 == 7) for number in agents],
        "has_session": [bool(number % 2) for number in agents],
        "has_tool_ids": [bool(number % 3) for number in agents],
        "names_execution": [bool(number % 5 == 4) for number in agents],
        "is_payer_inherited": [bool(number % 2 == 0) for number in agents],
        "session_of": [int(number) for number in random.integers(0, 2**32, SLOTS)],
    }


def day_weight(weekday: int) -> float:
    """Return how busy a day is, Monday = 0."""
    return WEEKDAYS[weekday]


def arrivals(offsets_s: list[float], seed: int) -> dict[str, list[object]]:
    """Return arrivals, `WEEKDAY_SLOTS` a weekday: recorded within the hour, assumed over the week."""
    random = np.random.default_rng(seed + 1)
    share = np.array(HOURS) / sum(HOURS)
    hours = random.choice(24, 7 * WEEKDAY_SLOTS, p=share)
    seconds = hours * 3600 + random.choice(np.array(offsets_s), 7 * WEEKDAY_SLOTS)
    return {
        "weekday": np.repeat(np.arange(7), WEEKDAY_SLOTS).tolist(),
        "arrival": np.tile(np.arange(WEEKDAY_SLOTS), 7).tolist(),
        "offset_ns": (seconds * 1e9).astype(np.int64).tolist(),
    }

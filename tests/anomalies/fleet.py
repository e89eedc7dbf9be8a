"""Agents at work for weeks, busy by day and on weekdays: executions as typed rows of the warehouse."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from random import Random
from typing import Any

from otel_cost.store import Store
from tests.anomalies import shapes
from tests.anomalies.shapes import Call

BEGIN = datetime(2026, 6, 1, tzinfo=timezone.utc)
"""A Monday."""
HOUR = timedelta(hours=1)

MODELS: dict[str, tuple[str, str, str, str]] = {
    "gemini-3-pro": ("google", "2", "0.20", "12"),
    "gpt-5": ("openai", "1.25", "0.125", "10"),
    "gpt-5-mini": ("openai", "0.25", "0.025", "2"),
    "gpt-5-nano": ("openai", "0.05", "0.005", "0.40"),
    "claude-opus": ("anthropic", "15", "1.50", "75"),
    "claude-sonnet": ("anthropic", "3", "0.30", "15"),
    "claude-haiku": ("anthropic", "1", "0.10", "5"),
}
"""Provider, and USD per million tokens in, cached and out: of the size of list prices, not current ones."""

Shape = Callable[[Random], list[Call]]


@dataclass(frozen=True, slots=True)
class Execution:
    """One agent run before it becomes rows."""

    id: str
    at: datetime
    agent: Agent
    calls: Sequence[Call]
    model: str
    is_owned: bool = True


@dataclass(frozen=True, slots=True)
class Agent:
    """Who works, on what, how often and when.

    Attributes:
        models: The models it uses and how often each, one for a whole execution.
        per_day: Executions on a weekday.
        season: The share of a weekday's work in each hour of the week, Monday first.
        level: How busy an hour is, apart from the season; changed to plant a spike.
        model_at, shape_at: What an execution of a time uses and looks like; changed to plant.
        failed_ratio: Executions whose calls may fail at all, a few of them.
    """

    name: str
    feature: str
    models: dict[str, float]
    per_day: float
    shape: Shape
    season: Sequence[float]
    level: Callable[[datetime], float] = field(default=lambda _: 1.0)
    models_at: Callable[[datetime], dict[str, float] | None] = field(default=lambda _: None)
    changed: Callable[[datetime, list[Call], Random], list[Call]] = field(default=lambda _, calls, __: calls)
    is_owned_at: Callable[[datetime], bool] = field(default=lambda _: True)
    failed_ratio: float = 0.02

    def executions(self, begin: datetime, end: datetime, random: Random) -> Iterator[Execution]:
        """Yield what it does between two times."""
        hour = begin
        while hour < end:
            usual = self.per_day * self.season[hour.weekday() * 24 + hour.hour]
            count = shapes.poisson(usual * shapes.burst_factor(random) * self.level(hour), random)
            for at in sorted(hour + HOUR * random.random() for _ in range(count)):
                yield self._execution(at, random)
            hour += HOUR

    def _execution(self, at: datetime, random: Random) -> Execution:
        models = self.models_at(at) or self.models
        (model,) = random.choices(list(models), list(models.values()))
        calls = self.changed(at, self.shape(random), random)
        if random.random() < self.failed_ratio:
            calls = _with_failures(calls, random)
        return Execution(new_id(random), at, self, calls, model, self.is_owned_at(at))


def new_id(random: Random) -> str:
    """Return a trace id."""
    return f"{random.getrandbits(128):032x}"


def _with_failures(calls: list[Call], random: Random) -> list[Call]:
    """Return a run in which a call fails once, twice or three times before it is answered."""
    place = random.randrange(len(calls))
    failed = calls[place]._replace(output_tokens=0, is_failed=True, tool="")
    return [*calls[:place], *[failed] * random.choice((1, 1, 1, 2, 3)), *calls[place:]]


def office_hours(weekend: float = 0.15) -> list[float]:
    """Return the season of people at work: a hill by day, little at night and at the weekend."""
    hill = [
        0.2,
        0.1,
        0.1,
        0.1,
        0.1,
        0.3,
        0.8,
        2,
        4,
        5,
        5.5,
        5,
        4.2,
        5,
        5.5,
        5.5,
        5,
        4,
        2.5,
        1.5,
        1,
        0.8,
        0.5,
        0.3,
    ]
    total = sum(hill)
    return [value / total * (1 if day < 5 else weekend) for day in range(7) for value in hill]


def around_the_clock() -> list[float]:
    """Return the season of a service for everybody: a shallow wave each day, the weekend a little lower."""
    wave = [3, 2.5, 2, 2, 2, 2.5, 3, 3.5, 4, 4.5, 5, 5, 5, 5, 5, 5, 5, 5, 5.5, 6, 6, 5.5, 4.5, 3.5]
    total = sum(wave)
    return [value / total * (1 if day < 5 else 0.8) for day in range(7) for value in wave]


def nightly(hour: int = 2) -> list[float]:
    """Return the season of a batch: all of it in two hours of each night."""
    return [0.5 if at in (hour, hour + 1) else 0.0 for _ in range(7) for at in range(24)]


def coding(tools: Sequence[str] = ("shell",), scale: float = 1.0) -> Shape:
    """Return the shape of recorded runs of a coding agent, with other tools if told."""

    def shape(random: Random) -> list[Call]:
        calls = shapes.varied(random.choice(shapes.runs()), random, scale=scale)
        return [call._replace(tool=random.choice(tools)) if call.tool else call for call in calls]

    return shape


def serving(turns: Sequence[int] = (1,), base_tokens: int = 0, scale: float = 1.0) -> Shape:
    """Return the shape of recorded requests, one or a few to a conversation, behind a system prompt."""

    def shape(random: Random) -> list[Call]:
        known = shapes.requests()
        made, history = [], 0
        for _ in range(random.choice(turns)):
            call = random.choice(known)
            own = round(call.input_tokens * scale)
            made.append(Call(base_tokens + history + own, 0, call.output_tokens))
            history += own + call.output_tokens
        return made

    return shape


def small(input_tokens: int = 350, output_tokens: int = 12) -> Shape:
    """Return the shape of a simple task: one short prompt, one short answer."""

    def shape(random: Random) -> list[Call]:
        spread = random.lognormvariate(0, 0.3)
        return [
            Call(
                round(input_tokens * spread), 0, max(1, round(output_tokens * random.lognormvariate(0, 0.4)))
            )
        ]

    return shape


def clean_agents() -> list[Agent]:
    """Return ten agents as different as agents are: coding, research, chat, batch, routing, classifying."""
    office, clock = office_hours(), around_the_clock()
    return [
        Agent("coder", "fix-issue", {"gemini-3-pro": 1}, 14, coding(), office),
        Agent(
            "researcher", "report", {"gpt-5": 1}, 9, coding(("web_search", "read_page", "note"), 0.6), office
        ),
        Agent("helpdesk", "support", {"gpt-5-mini": 1}, 150, serving((1, 1, 2, 2, 3, 5), 900, 0.4), clock),
        Agent("completer", "completion", {"gpt-5-mini": 1}, 260, serving(), office),
        Agent(
            "router", "answers", {"gpt-5-mini": 0.85, "gpt-5": 0.15}, 180, serving((1, 2), 600, 0.5), clock
        ),
        Agent("classifier", "triage", {"gpt-5-nano": 1}, 220, small(), clock),
        Agent("digest", "digest", {"claude-haiku": 1}, 60, serving((1,), 2000), nightly()),
        Agent("reviewer", "review", {"claude-sonnet": 1}, 40, serving((1, 3), 1500), office_hours(0.02)),
        Agent(
            "writer", "drafts", {"claude-sonnet": 0.7, "claude-haiku": 0.3}, 50, serving((2, 4), 400), office
        ),
        Agent("voice", "calls", {"gpt-5-mini": 1}, 90, serving((3, 4, 6), 700, 0.1), around_the_clock()),
    ]


CHARGE_COLUMNS = (
    "trace_id",
    "span_id",
    "parent_span_id",
    "execution_id",
    "started_at",
    "ended_at",
    "service_name",
    "kind",
    "span_class",
    "provider",
    "model",
    "input_tokens",
    "cache_read_tokens",
    "output_tokens",
    "cost_usd",
    "list_cost_usd",
    "price_status",
    "status",
    "organization",
    "team",
    "user_id",
    "feature",
    "agent_name",
    "tool_name",
    "version",
)
LINK_COLUMNS = ("trace_id", "span_id", "started_at", "ended_at", "span_class", "status")


def cost_usd(model: str, call: Call) -> Decimal | None:
    """Return what a call costs; None for a model without a price, nothing for a call that failed."""
    if model not in MODELS:
        return None
    if call.is_failed:
        return Decimal(0)
    _, fresh, cached, out = (MODELS[model][0], *(Decimal(rate) for rate in MODELS[model][1:]))
    tokens = (call.input_tokens - call.cached_tokens) * fresh + call.cached_tokens * cached
    return (tokens + call.output_tokens * out) / 1_000_000


def insert(store: Store, executions: Sequence[Execution], *, chunk: int = 100_000) -> None:
    """Store executions as charges and links, as if their spans had been read, priced and accounted."""
    charges = [row for execution in executions for row in charge_rows(execution)]
    links = [link_row(execution) for execution in executions]
    with store.connection("insert") as client:
        for begin in range(0, len(charges), chunk):
            client.insert(
                "charges",
                charges[begin : begin + chunk],
                column_names=CHARGE_COLUMNS,
                settings={"max_partitions_per_insert_block": 0},
            )
        if links:
            client.insert(
                "trace_links",
                links,
                column_names=LINK_COLUMNS,
                settings={"max_partitions_per_insert_block": 0},
            )


def charge_rows(execution: Execution) -> Iterator[tuple[Any, ...]]:
    """Yield a row for each model call, and one for each tool call after it."""
    at, root = execution.at, f"{0:016x}"
    agent = execution.agent
    payer: tuple[str, ...] = ("acme", agent.feature, f"user-{int(execution.id[:4], 16) % 40}", agent.feature)
    if not execution.is_owned:
        payer = ("", "", "", "")
    for number, call in enumerate(execution.calls):
        cost = cost_usd(execution.model, call)
        until = at + timedelta(seconds=1 + call.output_tokens / 60)
        provider = MODELS.get(execution.model, ("openai",))[0]
        status = "Error" if call.is_failed else "Unset"
        yield (
            *(
                execution.id,
                f"{2 * number + 1:016x}",
                root,
                execution.id,
                at,
                until,
                agent.name,
                "model",
                "model",
            ),
            *(
                provider,
                execution.model,
                call.input_tokens,
                call.cached_tokens,
                call.output_tokens,
                cost,
                cost,
            ),
            *("unpriced" if cost is None else "priced", status, *payer, agent.name, "", 1),
        )
        at = until + timedelta(seconds=0.2)
        if call.tool:
            yield (
                *(execution.id, f"{2 * number + 2:016x}", root, execution.id, at, at + timedelta(seconds=2)),
                *(agent.name, "tool", "tool", "", "", None, 0, None, None, None, "unpriced", "Unset", *payer),
                *(agent.name, call.tool, 1),
            )
            at += timedelta(seconds=2.2)


def link_row(execution: Execution) -> tuple[Any, ...]:
    """Return the root span of an execution."""
    length = timedelta(
        seconds=sum(3 + call.output_tokens / 60 + 2.4 * bool(call.tool) for call in execution.calls)
    )
    return execution.id, f"{0:016x}", execution.at, execution.at + length, "aggregate", "Unset"

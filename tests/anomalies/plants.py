"""Trouble put into clean traffic on purpose, each with a label: what must be found, at which strength.

Strengths go from faint to plain. Beside the plants stand decoys: what looks like trouble and is none.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import Random
from statistics import median
from typing import NamedTuple

from tests.anomalies import fleet
from tests.anomalies.fleet import BEGIN, HOUR, Agent, Execution
from tests.anomalies.shapes import Call

DAYS = 35
PLANTED_FROM = BEGIN + timedelta(days=28)
"""The last week; what comes before is history."""


class Label(NamedTuple):
    """One thing that must be found.

    Attributes:
        subjects: The subject of its finding; any of them will do.
        related: Subjects whose other findings come of the same trouble, and are not held against anybody.
    """

    kind: str
    strength: str
    subjects: frozenset[str]
    related: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Planted:
    """A fleet with trouble in it."""

    executions: list[Execution]
    labels: list[Label]


def grow(
    random: Random, names: Collection[str] | None = None, kinds: Collection[str] | None = None
) -> Planted:
    """Return five weeks of a clean fleet and of agents in trouble, with every kind at every strength.

    Args:
        names: Only these of the clean agents.
        kinds: Only agents in trouble of these kinds.
    """
    end = BEGIN + timedelta(days=DAYS)
    agents = [agent for agent in fleet.clean_agents() if names is None or agent.name in names]
    labels: list[Label] = []
    for agent, label in _troubled_agents(random):
        if kinds is not None and (label is None or label.kind not in kinds):
            continue
        agents.append(agent)
        if label:
            labels.append(label)
    executions = [execution for agent in agents for execution in agent.executions(BEGIN, end, random)]
    for execution, label in _troubled_executions(agents, executions, random):
        executions.append(execution)
        if label:
            labels.append(label)
    return Planted(sorted(executions, key=lambda execution: execution.at), labels)


def _label(kind: str, strength: str, agent: Agent, *subjects: str) -> Label:
    about = {f"agent:{agent.name}", f"feature:{agent.feature}"}
    return Label(kind, strength, frozenset(subjects or about), frozenset(about))


def _named(agent: Agent, number: int, **changes: object) -> Agent:
    """Return an agent like another, that works on a feature of its own."""
    return replace(agent, name=f"{agent.name}-{number}", feature=f"{agent.feature}-{number}", **changes)  # type: ignore[arg-type]


def _some_hour(random: Random, agent: Agent, share: float = 0.6) -> datetime:
    """Return an hour of the last week in which the agent is busy: at least `share` of its busiest hour."""
    busy = max(agent.season) * share
    hours = [PLANTED_FROM + HOUR * at for at in range(6 * 24) if agent.season[at] >= busy]
    return random.choice(hours)


def _troubled_agents(random: Random) -> Iterator[tuple[Agent, Label | None]]:
    by_name = {agent.name: agent for agent in fleet.clean_agents()}
    numbers = iter(range(1, 1_000))
    for strength, factor, hours, name in (
        ("x2.5 for 3 h", 2.5, 3, "completer"),
        ("x3 for 2 h", 3, 2, "helpdesk"),
        ("x5 for 1 h, 5 an hour", 5, 1, "voice"),
        ("x10 for 1 h", 10, 1, "classifier"),
    ):
        base = by_name[name]
        begin = _some_hour(random, base)
        level = _between(begin, begin + HOUR * hours, factor)
        agent = _named(base, next(numbers), level=level)
        yield agent, _label("volume_spike", strength, agent)
    for strength, growth, jump in (
        ("+10 % a week", 0.10, 1.0),
        ("+20 % a week", 0.20, 1.0),
        ("+50 % at once", 0, 1.5),
    ):
        agent = _named(by_name["helpdesk"], next(numbers), per_day=60, changed=_creep(growth, jump))
        yield agent, _label("prompt_creep", strength, agent, f"agent:{agent.name}")
    for strength, share in (("15 % to 40 %", 0.40), ("15 % to 70 %", 0.70), ("15 % to 100 %", 1.0)):
        begin = PLANTED_FROM + timedelta(days=random.randrange(1, 5))
        agent = _named(by_name["router"], next(numbers), models_at=_routing(begin, share))
        yield agent, _label("routing_failure", strength, agent, f"feature:{agent.feature}")
    for strength, models in (
        ("a quarter on the cheap one", {"gpt-5": 0.75, "gpt-5-nano": 0.25}),
        ("a twentieth on the cheap one", {"claude-sonnet": 0.95, "claude-haiku": 0.05}),
    ):
        agent = _named(by_name["classifier"], next(numbers), models=models)
        yield agent, _label("oversized_model", strength, agent, f"feature:{agent.feature}")
    yield _named(by_name["classifier"], next(numbers), models={"gpt-5": 1}), None
    long = fleet.small(900, 1400)
    yield (
        _named(by_name["classifier"], next(numbers), models={"gpt-5": 0.7, "gpt-5-nano": 0.3}, shape=long),
        None,
    )
    for strength, share in (("half of an hour's calls", 0.5), ("nine of ten", 0.9)):
        base = by_name["completer"]
        begin = _some_hour(random, base)
        agent = _named(base, next(numbers), changed=_outage(begin, begin + HOUR, share))
        yield agent, _label("retry_storm", strength, agent)
    for strength, count in (("three calls", 3), ("fifty calls", 50)):
        number = next(numbers)
        model, begin = f"brand-new-{number}", _some_hour(random, by_name["helpdesk"])
        agent = _named(by_name["helpdesk"], number, per_day=20, models_at=_pilot(begin, model, count))
        yield agent, _label("unpriced_model", strength, agent, f"model:{model}")
    for strength, name in (("cents a day", "helpdesk"), ("dollars a day", "writer")):
        agent = _named(by_name[name], next(numbers), is_owned_at=lambda at: at < PLANTED_FROM)
        yield agent, _label("unowned_spend", strength, agent, f"agent:{agent.name}")


def _between(begin: datetime, end: datetime, factor: float) -> Callable[[datetime], float]:
    return lambda at: factor if begin <= at < end else 1.0


def _creep(growth: float, jump: float) -> Callable[[datetime, list[Call], Random], list[Call]]:
    """Return a change by which the system prompt of 900 tokens, and what is quoted, grows with the weeks."""

    def changed(at: datetime, calls: list[Call], _: Random) -> list[Call]:
        weeks = (at - BEGIN) / timedelta(days=7)
        factor = (1 + growth) ** weeks * (jump if at >= PLANTED_FROM else 1)
        return [call._replace(input_tokens=round(call.input_tokens * factor)) for call in calls]

    return changed


def _routing(begin: datetime, share: float) -> Callable[[datetime], dict[str, float] | None]:
    return lambda at: {"gpt-5-mini": 1 - share, "gpt-5": share} if at >= begin else None


def _outage(
    begin: datetime, end: datetime, share: float
) -> Callable[[datetime, list[Call], Random], list[Call]]:
    """Return a change by which calls fail, and are tried again, while a provider is down."""

    def changed(at: datetime, calls: list[Call], random: Random) -> list[Call]:
        if not begin <= at < end or random.random() >= share:
            return calls
        return [calls[0]._replace(output_tokens=0, is_failed=True)] * 3

    return changed


def _pilot(begin: datetime, model: str, count: int) -> Callable[[datetime], dict[str, float] | None]:
    left = [count]

    def models_at(at: datetime) -> dict[str, float] | None:
        if at < begin or not left[0]:
            return None
        left[0] -= 1
        return {model: 1}

    return models_at


Change = Callable[[list[Call], Random], list[Call]]


def _troubled_executions(
    agents: Sequence[Agent], known: Sequence[Execution], random: Random
) -> Iterator[tuple[Execution, Label | None]]:
    """Yield executions of the clean agents that went wrong in the last week, and decoys without a label."""
    by_name = {agent.name: agent for agent in agents}
    for kind, strength, name, change in _changes(known):
        if name not in by_name:
            continue
        agent = by_name[name]
        at = _some_hour(random, agent, 0.3) + HOUR * random.random()
        model = max(agent.models, key=agent.models.__getitem__)
        execution = Execution(fleet.new_id(random), at, agent, change(agent.shape(random), random), model)
        subject = f"execution:{execution.id}"
        yield execution, Label(kind, strength, frozenset({subject})) if kind else None


def _changes(known: Sequence[Execution]) -> Iterator[tuple[str, str, str, Change]]:
    """Yield kind (empty for a decoy), strength, agent, and what happens to one of its runs."""
    present = {run.agent.name for run in known}
    usual = {
        name: _median_usd(known, name)
        for name in ("coder", "researcher", "helpdesk", "reviewer")
        if name in present
    }
    for name, usd in usual.items():
        for factor in (11, 15, 40):
            yield "execution_cost", f"{factor}x the median", name, _costing(usd * factor, name)
        yield "", "9x the median", name, _costing(usd * 9, name)
    for times, noise in ((8, 0.0), (10, 0.05), (15, 0.05), (40, 0.05)):
        for lag in (1, 2, 3):
            yield "loop", f"{times} repeats, {noise:.0%} noise", "coder", _looping(times, lag, noise)
            yield "loop", f"{times} repeats, {noise:.0%} noise", "researcher", _looping(times, lag, noise)
    for times in (5, 8, 20):
        for name in ("coder", "helpdesk", "writer"):
            yield "retry_storm", f"{times} in a row", name, _failing(times)
    yield "", "3 failures in a row", "coder", _failing(3)
    yield "", "10 failures apart", "coder", _failing_apart(10)
    for factor in (4, 6, 12):
        yield "context_growth", f"grows {factor}x as fast", "coder", _swelling(factor)
        yield "context_growth", f"grows {factor}x as fast", "researcher", _swelling(factor)


def _median_usd(known: Sequence[Execution], name: str) -> float:
    costs = [
        float(sum(fleet.cost_usd(run.model, call) or 0 for call in run.calls))
        for run in known
        if run.agent.name == name
    ]
    return median(costs)


def _costing(usd: float, name: str) -> Change:
    """Return a change by which a run is followed by others like it until together they cost so much."""
    (agent,) = (agent for agent in fleet.clean_agents() if agent.name == name)
    model = max(agent.models, key=agent.models.__getitem__)

    def changed(calls: list[Call], random: Random) -> list[Call]:
        made, spent = list(calls), float(sum(fleet.cost_usd(model, call) or 0 for call in calls))
        while spent < usd:
            for call in agent.shape(random):
                if spent < usd:
                    made.append(call)
                    spent += float(fleet.cost_usd(model, call) or 0)
        return made

    return changed


def _looping(times: int, lag: int, noise: float) -> Change:
    """Return a change by which a run repeats its last `lag` steps until each was made `times` times again."""

    def changed(calls: list[Call], random: Random) -> list[Call]:
        place = random.randrange(lag, max(lag + 1, len(calls) // 2))
        made, step = list(calls[:place]), calls[place - lag : place]
        for round_ in range(times):
            for call in step:
                output = max(1, round(call.output_tokens * random.uniform(1 - noise, 1 + noise)))
                grown = made[-1].input_tokens + 120 + 10 * round_ % 7
                made.append(call._replace(input_tokens=grown, output_tokens=output))
        return [*made, *calls[place:]]

    return changed


def _failing(times: int) -> Change:
    def changed(calls: list[Call], random: Random) -> list[Call]:
        place = random.randrange(len(calls))
        failed = calls[place]._replace(output_tokens=0, is_failed=True, tool="")
        return [*calls[:place], *[failed] * times, *calls[place:]]

    return changed


def _failing_apart(times: int) -> Change:
    def changed(calls: list[Call], random: Random) -> list[Call]:
        failing = set(random.sample(range(0, len(calls), 2), min(times, len(calls) // 2)))
        return [
            shown
            for number, call in enumerate(calls)
            for shown in (
                (call._replace(output_tokens=0, is_failed=True, tool=""), call)
                if number in failing
                else (call,)
            )
        ]

    return changed


def _swelling(factor: float) -> Change:
    """Return a change by which each step adds `factor` times as much to the prompt as it did."""

    def changed(calls: list[Call], _: Random) -> list[Call]:
        first = calls[0].input_tokens
        return [
            call._replace(input_tokens=max(1, round(first + (call.input_tokens - first) * factor)))
            for call in calls
        ]

    return changed

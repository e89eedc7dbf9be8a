"""Says what a policy means: which limits hold for whom, where each comes from, and what happens at it."""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from otel_cost.attribution import Payer
from otel_cost.budgets import (
    ENFORCE,
    LEVELS,
    NO_LIMIT_ADVICE,
    OFF,
    SECTIONS,
    SHADOW,
    TABLES,
    WARN,
    ExecutionLimits,
    LevelBudget,
    Policy,
)
from otel_cost.detectors import DETECTORS
from otel_cost.errors import UnknownModelError
from otel_cost.policy_values import EVERYONE, is_pattern
from otel_cost.pricing import PriceBook
from otel_cost.usage import Usage

WHEN_REACHED = {
    ENFORCE: "the call is not sent; BudgetExceeded ends the execution",
    WARN: "a warning is logged; the call is sent",
    SHADOW: "it is recorded; the call is sent",
    OFF: "nothing: the guard is off",
}
LEVEL_ACTIONS = {
    "user": "soft: warn, and ask for a cheaper model",
    "team": "soft: alert the team's lead",
    "organization": "hard: refuse new executions until somebody approves",
}
NOT_ENFORCED = "(this version checks it only)"
PREFIX = "OTEL_COST_"
OTHER_VARIABLES = frozenset({"OTEL_COST_POLICY", "OTEL_COST_STORE", "OTEL_COST_TOKEN"})
_TYPICAL_CALL = Usage(input_tokens=10_000, output_tokens=1_000)
"""To compare models by; agents read some ten times what they write."""


class Rule(NamedTuple):
    """One thing that holds for an execution.

    Attributes:
        section: Where in the policy: `execution`, `agents.planner`, `ladder`, `detectors`, `budgets`.
        setting: Its name, with its unit: `budget_usd`, `max_calls_per_tool.web_search`.
        value: As text.
        origin: `otel-cost.yaml:4`, a variable, `argument` or `default`.
        when_reached: What happens.
    """

    section: str
    setting: str
    value: str
    origin: str
    when_reached: str


def explain(
    policy: Policy,
    *,
    agent: str = "",
    feature: str = "",
    user: str = "",
    team: str = "",
    organization: str = "",
) -> list[Rule]:
    """Return every rule that holds for an execution of somebody's, in the order of the policy."""
    limits = policy.limits_for(agent=agent, feature=feature)
    rules = [*_limits(policy, limits, agent, feature), *_ladder(policy, limits), *_detectors(policy)]
    levels = policy.level_budgets(user=user, team=team, organization=organization)
    return rules + [_level(policy, budget) for budget in levels]


def _limits(policy: Policy, limits: ExecutionLimits, agent: str, feature: str) -> Iterator[Rule]:
    then = WHEN_REACHED[policy.guard.mode]
    sections = policy.sections_for(agent=agent, feature=feature)
    for name, value in limits.values().items():
        if isinstance(value, Mapping) or value is None:
            continue
        path = next(path for path, section in sections if getattr(section, name) == value)
        yield Rule(".".join(path), name, text(value), policy.origin(*path, name), then)
    for tool, calls in limits.max_calls_per_tool.items():
        if calls is not None:
            path, section = next(item for item in sections if item[1].calls_of(tool) == calls)
            entry = tool if tool in section.max_calls_per_tool else EVERYONE
            origin = policy.origin(*path, "max_calls_per_tool", entry)
            yield Rule(".".join(path), f"max_calls_per_tool.{tool}", str(calls), origin, then)


def _ladder(policy: Policy, limits: ExecutionLimits) -> Iterator[Rule]:
    if limits.budget_usd is None or policy.guard.mode == OFF:
        return
    cheaper = ", ".join(f"{model} -> {to}" for model, to in policy.ladder.downgrade_to.items())
    is_noted = "" if policy.guard.mode == ENFORCE else " (noted only: the guard does not enforce)"
    steps = {
        "warn_at_ratio": "a warning is logged",
        "remind_at_ratio": f"the agent is told in its requests what remains{is_noted}",
        "downgrade_at_ratio": f"cheaper models are asked for: {cheaper}{is_noted}",
    }
    for name, then in steps.items():
        ratio = getattr(policy.ladder, name)
        if ratio is not None:
            at = text((Decimal(str(ratio)) * limits.budget_usd).normalize())
            yield Rule("ladder", name, text(ratio), policy.origin("ladder", name), f"at {at} USD {then}")
    if policy.guard.clamp:
        then = f"a call that does not fit may write less, if that fits{is_noted}"
        yield Rule("guard", "clamp", "true", policy.origin("guard", "clamp"), then)
    if policy.ladder.wrap_up_call:
        then = f"one last call is let through for the agent to sum up{is_noted}"
        yield Rule("ladder", "wrap_up_call", "true", policy.origin("ladder", "wrap_up_call"), then)
    refusals = policy.guard.escalate_after_refusals
    if refusals is not None and policy.guard.mode == ENFORCE:
        name = "escalate_after_refusals"
        then = "the main thread is interrupted, then the process ended"
        yield Rule("guard", name, str(refusals), policy.origin("guard", name), then)


def _detectors(policy: Policy) -> Iterator[Rule]:
    if policy.guard.mode == OFF:
        return
    for name in DETECTORS:
        action = getattr(policy.detectors, name)
        then = "a warning says what the pattern has cost so far"
        if action not in {OFF, WARN}:
            then = WHEN_REACHED[policy.guard.mode]
        if action != OFF:
            yield Rule("detectors", name, action, policy.origin("detectors", name), then)


def _level(policy: Policy, budget: LevelBudget) -> Rule:
    amount = getattr(policy.budgets, budget.setting)[budget.pattern]
    origin = policy.origin("budgets", budget.setting, budget.pattern)
    then = f"{LEVEL_ACTIONS[budget.level]} {NOT_ENFORCED}"
    return Rule("budgets", f"{budget.setting}.{budget.pattern}", text(amount), origin, then)


def notes(policy: Policy, book: PriceBook) -> list[str]:
    """Return what is allowed but probably not meant."""
    found = [] if policy.is_limited else [NO_LIMIT_ADVICE]
    for model, cheaper in policy.ladder.downgrade_to.items():
        found += [
            f"downgrade_to: no price is known for {name!r}"
            for name in (model, cheaper)
            if not is_pattern(name) and _cost_picousd(book, name) is None
        ]
        before, after = _cost_picousd(book, model), _cost_picousd(book, cheaper)
        if before is not None and after is not None and after >= before:
            found.append(f"downgrade_to: {cheaper!r} does not cost less than {model!r}")
    found += [
        f"{section} {name}: {limit} {text(value)} has no effect: that of `execution` is lower"
        for section in TABLES
        for name, limits in getattr(policy, section).items()
        for limit, value in limits.values().items()
        if _is_above(value, getattr(policy.execution, limit))
    ]
    if policy.guard.mode == OFF and policy.is_limited:
        found.append("limits are set, and the guard is off: nothing is stopped")
    if policy.ladder.downgrade_to and policy.ladder.downgrade_at_ratio is None:
        found.append("downgrade_to: has no effect without downgrade_at_ratio; 1 is for calls that do not fit")
    return found


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """Return a note for each `OTEL_COST_*` variable that nothing reads: most likely a misspelt limit."""
    known = known_variables()
    names = sorted(name for name in environ if name.startswith(PREFIX) and name not in known)
    found = []
    for name in names:
        close = difflib.get_close_matches(name, known, 1)
        found.append(f"{name} is not read by anything" + (f"; did you mean {close[0]}?" if close else ""))
    return found


def known_variables() -> set[str]:
    """Return every `OTEL_COST_*` variable there is."""
    from otel_cost.instrument import InstrumentConfig
    from otel_cost.ledger.open import LEDGER

    kinds = (InstrumentConfig, *SECTIONS.values())
    settings = {item.metadata["variable"] for kind in kinds for item in fields(kind)}
    payer = {f"{PREFIX}{name.upper()}" for name in Payer._fields}
    return (settings | payer | OTHER_VARIABLES | {LEDGER, "OTEL_COST_INHERITED"}) - {""}


def _is_above(value: Any, everywhere: Any) -> bool:
    if value is None or everywhere is None or isinstance(value, Mapping):
        return False
    return bool(value > everywhere)


def _cost_picousd(book: PriceBook, model: str) -> int | None:
    try:
        return book.price(_TYPICAL_CALL, model=model, at=time.time_ns()).cost_picousd
    except UnknownModelError:
        return None


def summary(policy: Policy) -> list[str]:
    """Return what a policy limits, a line for each section that says something."""
    lines = [f"guard: {policy.guard.mode}, {policy.guard.bound}"]
    if policy.execution.is_limited:
        lines.append(f"execution: {_listed(policy.execution)}")
    for section in TABLES:
        table: Mapping[str, ExecutionLimits] = getattr(policy, section)
        lines += [f"{section} {name}: {_listed(limits)}" for name, limits in table.items()]
    for _, setting, *_ in LEVELS:
        if amounts := getattr(policy.budgets, setting):
            lines.append(f"budgets: {setting} {_pairs(amounts)} {NOT_ENFORCED}")
    if policy.prices:
        lines.append(f"prices: {', '.join(str(path) for path in policy.prices)}")
    return lines


def _listed(limits: ExecutionLimits) -> str:
    shown = {name: value for name, value in limits.values().items() if value not in (None, {})}
    return ", ".join(
        f"{name} {_pairs(value) if isinstance(value, Mapping) else text(value)}"
        for name, value in shown.items()
    )


def _pairs(values: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={OFF if value is None else text(value)}" for name, value in values.items())


def as_json(policy: Policy) -> dict[str, Any]:
    """Return a policy in the shape of its file, amounts as exact text."""
    names = (*SECTIONS, *TABLES, "prices")
    made: dict[str, Any] = {name: _plain(getattr(policy, name)) for name in names}
    return made


def text(value: object) -> str:
    """Return a value as it would be written in the file, in plain digits."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.10g}"
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Decimal | Path):
        return text(value)
    return OFF if value is None else value

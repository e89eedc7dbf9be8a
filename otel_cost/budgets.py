"""The policy: what executions, users, teams and organizations may spend, and what happens when they reach it.

A setting is taken from an argument, else from its `OTEL_COST_*` variable, else from the policy file, else it
has its default. `docs/budgets.md` shows the file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

from otel_cost import policy_values as read
from otel_cost.detectors import DEFAULT_THRESHOLDS, DETECTORS
from otel_cost.money import to_picousd
from otel_cost.policy_values import EVERYONE, Given

SHADOW, WARN, ENFORCE, OFF = "shadow", "warn", "enforce", "off"
STRICT, ESTIMATE = "strict", "estimate"
AUTO, MEMORY, SHARED = "auto", "memory", "shared"
ALLOW, DENY, KILL = "allow", "deny", "kill"

SUGGESTED_BUDGET_USD = Decimal("5.00")
"""A limit that stops what has run away and nothing else: 500 recorded runs of a coding agent cost 0.38 USD at
the median and 1.99 at the 99th percentile."""
NO_LIMIT_ADVICE = (
    "no limit is set, so nothing is ever stopped; a sensible first one is "
    f"OTEL_COST_BUDGET_USD={SUGGESTED_BUDGET_USD}: recorded runs of a coding agent cost 0.38 USD at the "
    "median and 1.99 at the 99th percentile"
)
MAX_REMEMBERED = 4_096
"""Pairs of agent and feature whose limits are kept; names may be made up by users."""


def _setting(variable: str, default: Any, parse: Callable[[Given], Any], help_text: str) -> Any:
    metadata = {"variable": variable, "parse": parse, "help": help_text}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)


def _thresholds_of(detector: Given) -> dict[str, float]:
    return read.by_name(_threshold, names=DEFAULT_THRESHOLDS[detector.name])(detector)


def _threshold(given: Given) -> float:
    return read.ratio(given) if given.name == "similarity_ratio" else read.threshold(given)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardSettings:
    """How the guard decides about a model call."""

    mode: str = _setting(
        "OTEL_COST_GUARD",
        ENFORCE,
        read.one_of(OFF, SHADOW, WARN, ENFORCE),
        "`off`, `shadow` (record what would have been refused), `warn` (and log it), `enforce` (refuse it).",
    )
    bound: str = _setting(
        "OTEL_COST_GUARD_BOUND",
        STRICT,
        read.one_of(STRICT, ESTIMATE),
        "What a call holds before it is sent: `strict`, the most it can cost; `estimate`, what is likely.",
    )
    clamp: bool = _setting(
        "OTEL_COST_GUARD_CLAMP",
        False,
        read.switch,
        "Lower a request's output limit to what the budget still allows, so that the provider enforces it.",
    )
    ask_for_usage: bool = _setting(
        "OTEL_COST_ASK_FOR_USAGE",
        True,
        read.switch,
        "Ask for the usage of chat streams that do not ask for it, and keep the chunk with it to itself.",
    )
    unpriced: str = _setting(
        "OTEL_COST_GUARD_UNPRICED",
        ESTIMATE,
        read.one_of(ESTIMATE, DENY, ALLOW),
        "A model without a price: `estimate` it at dear rates, `deny` it, or `allow` it uncounted.",
    )
    on_failure: str = _setting(
        "OTEL_COST_GUARD_ON_FAILURE",
        ALLOW,
        read.one_of(ALLOW, DENY),
        "When the guard itself fails: `allow` the call, counted and logged, or `deny` it.",
    )
    escalate_after_refusals: int | None = _setting(
        "OTEL_COST_GUARD_ESCALATE_AFTER_REFUSALS",
        None,
        read.optional(read.positive_count),
        "Refused attempts of an execution until the main thread is interrupted, then the process ended.",
    )
    ledger: str = _setting(
        "OTEL_COST_GUARD_LEDGER",
        AUTO,
        read.one_of(AUTO, MEMORY, SHARED),
        "Who shares an execution's budget: `auto`, child processes that it starts; `memory`, threads and "
        "tasks alone; `shared`, every process of this user, by the execution's id.",
    )
    max_wait_s: float = _setting(
        "OTEL_COST_GUARD_MAX_WAIT_S",
        60.0,
        read.waiting_s,
        "How long a call may wait, in s, for calls in flight to give back what they hold too much.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionLimits:
    """What one execution may use. None: nothing limits it. 0 forbids it.

    Attributes:
        max_calls_per_tool: By the tool's name; `*` is for each tool that has no entry of its own. None: no
            limit for this tool.
    """

    budget_usd: Decimal | None = _setting(  # noqa: RUF009 (a field, not a value)
        "OTEL_COST_BUDGET_USD", None, read.optional(read.amount_usd), "What one execution may spend, in USD."
    )
    max_model_calls: int | None = _setting(
        "OTEL_COST_MAX_MODEL_CALLS", None, read.optional(read.count), "Model calls of one execution."
    )
    max_tool_calls: int | None = _setting(
        "OTEL_COST_MAX_TOOL_CALLS", None, read.optional(read.count), "Tool calls of one execution."
    )
    max_calls_per_tool: Mapping[str, int | None] = _setting(
        "OTEL_COST_MAX_CALLS_PER_TOOL",
        {},
        read.per_tool,
        "Calls of one tool in one execution: `web_search=20,*=100`; `*` is each tool not named.",
    )
    max_total_tokens: int | None = _setting(
        "OTEL_COST_MAX_TOTAL_TOKENS",
        None,
        read.optional(read.count),
        "Tokens of one execution, input (cached included) and output together.",
    )
    max_wall_time_s: float | None = _setting(
        "OTEL_COST_MAX_WALL_TIME_S",
        None,
        read.optional(read.seconds),
        "How long one execution may take, in s, until no further call is let through.",
    )
    max_depth: int | None = _setting(
        "OTEL_COST_MAX_DEPTH",
        None,
        read.optional(read.count),
        "How deep agents may nest; 0: no sub-agents.",
    )

    @property
    def budget_picousd(self) -> int | None:
        """The budget in pico-USD (1e-12 USD), as ledgers count; None without one."""
        return None if self.budget_usd is None else to_picousd(self.budget_usd)

    @property
    def is_limited(self) -> bool:
        """Whether anything is limited."""
        tools = self.max_calls_per_tool.values()
        others = [value for name, value in self.values().items() if name != "max_calls_per_tool"]
        return any(value is not None for value in (*others, *tools))

    @property
    def limits_steps(self) -> bool:
        """Whether calls, tokens or time are limited, which the processes of an execution count together."""
        counted = (self.max_model_calls, self.max_tool_calls, self.max_total_tokens, self.max_wall_time_s)
        return any(limit is not None for limit in (*counted, *self.max_calls_per_tool.values()))

    def values(self) -> dict[str, Any]:
        """Return the limits by name."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    def calls_of(self, tool: str) -> int | None:
        """Return how often a tool may be called; None: as often as it likes."""
        return self.max_calls_per_tool.get(tool, self.max_calls_per_tool.get(EVERYONE))

    def tightest(self, other: ExecutionLimits) -> ExecutionLimits:
        """Return the lower one of each limit."""
        theirs = other.values()
        lowest = {name: _lowest(own, theirs[name]) for name, own in self.values().items()}
        tools = {**self.max_calls_per_tool, **other.max_calls_per_tool}
        lowest["max_calls_per_tool"] = {
            tool: _lowest(self.calls_of(tool), other.calls_of(tool)) for tool in tools
        }
        return ExecutionLimits(**lowest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """What may be spent per day and month, above single executions, by name or `*` for everybody else's."""

    user_usd_per_day: Mapping[str, Decimal | None] = _setting(
        "OTEL_COST_BUDGET_USER_USD_PER_DAY",
        {},
        read.for_each(read.optional(read.amount_usd)),
        "What a user may spend a day, in USD: an amount for everybody, or `*=10,alice=25`. Soft.",
    )
    team_usd_per_month: Mapping[str, Decimal | None] = _setting(
        "OTEL_COST_BUDGET_TEAM_USD_PER_MONTH",
        {},
        read.for_each(read.optional(read.amount_usd)),
        "What a team may spend a month, in USD, written alike. Soft.",
    )
    organization_usd_per_month: Mapping[str, Decimal | None] = _setting(
        "OTEL_COST_BUDGET_ORGANIZATION_USD_PER_MONTH",
        {},
        read.for_each(read.optional(read.amount_usd)),
        "What an organization may spend a month, in USD, written alike. Hard.",
    )
    time_zone: Mapping[str, str] = _setting(
        "OTEL_COST_BUDGET_TIME_ZONE",
        {},
        read.per_organization(read.time_zone),
        "Where days and months begin: `Europe/Berlin`, or by organization `*=UTC,acme=Asia/Kolkata`. "
        "Default: UTC.",
    )


class LevelBudget(NamedTuple):
    """A budget above executions that holds for somebody.

    Attributes:
        level: `user`, `team` or `organization`.
        setting: `user_usd_per_day`.
        pattern: The entry of the policy that was matched.
        budget_picousd: In pico-USD (1e-12 USD), in each window.
        window: `day` or `month`, in the time zone of the policy.
        is_hard: New work is refused when it is reached; otherwise somebody is told.
    """

    level: str
    setting: str
    pattern: str
    budget_picousd: int
    window: str
    is_hard: bool


LEVELS = (
    ("user", "user_usd_per_day", "day", False),
    ("team", "team_usd_per_month", "month", False),
    ("organization", "organization_usd_per_month", "month", True),
)
"""Each level above an execution, its setting, its window, and whether it blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Detectors:
    """What is done about each pattern of waste: nothing, a warning, or the end of the execution."""

    identical_calls: str = _setting(
        "OTEL_COST_DETECTOR_IDENTICAL_CALLS",
        WARN,
        read.one_of(OFF, WARN, KILL),
        "The same call with the same parameters again and again: `off`, `warn` or `kill`.",
    )
    ping_pong: str = _setting(
        "OTEL_COST_DETECTOR_PING_PONG",
        WARN,
        read.one_of(OFF, WARN, KILL),
        "Two calls or agents that answer each other in turn: `off`, `warn` or `kill`.",
    )
    near_identical_calls: str = _setting(
        "OTEL_COST_DETECTOR_NEAR_IDENTICAL_CALLS",
        WARN,
        read.one_of(OFF, WARN, KILL),
        "One call with hardly changed parameters: `off`, `warn` or `kill`.",
    )
    retry_storm: str = _setting(
        "OTEL_COST_DETECTOR_RETRY_STORM",
        WARN,
        read.one_of(OFF, WARN, KILL),
        "Failures, or replies thrown away, in a row: `off`, `warn` or `kill`.",
    )
    context_growth: str = _setting(
        "OTEL_COST_DETECTOR_CONTEXT_GROWTH",
        WARN,
        read.one_of(OFF, WARN, KILL),
        "Calls that cost more and more without progress: `off`, `warn` or `kill`.",
    )
    thresholds: Mapping[str, Mapping[str, float]] = _setting(
        "",
        {},
        read.by_name(_thresholds_of, names=DETECTORS),
        "How much of a pattern each detector speaks of, by its name; what is not named keeps its default.",
    )


ANOMALY_KINDS = (
    "execution_cost",
    "execution_maximum",
    "loop",
    "retry_storm",
    "context_growth",
    "volume_spike",
    "oversized_model",
    "prompt_creep",
    "routing_failure",
    "unpriced_model",
    "unowned_spend",
)
"""What the warehouse finds after the fact."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Anomalies:
    """Where the unusual begins, for what the warehouse finds after the fact."""

    watch_days: int = _setting(
        "OTEL_COST_ANOMALY_WATCH_DAYS",
        7,
        read.positive_count,
        "Days that are looked at; what lies further back is resolved.",
    )
    baseline_days: int = _setting(
        "OTEL_COST_ANOMALY_BASELINE_DAYS",
        28,
        read.positive_count,
        "Days that what is usual is taken from.",
    )
    min_executions: int = _setting(
        "OTEL_COST_ANOMALY_MIN_EXECUTIONS",
        5,
        read.positive_count,
        "Other executions of an agent and feature that there must be to compare one with.",
    )
    execution_factor: Decimal = _setting(  # noqa: RUF009 (a field, not a value)
        "OTEL_COST_ANOMALY_EXECUTION_FACTOR",
        Decimal(10),
        read.factor,
        "An execution is found when it costs more than so many times the median of the others.",
    )
    max_execution_usd: Decimal | None = _setting(  # noqa: RUF009 (a field, not a value)
        "OTEL_COST_ANOMALY_MAX_EXECUTION_USD",
        None,
        read.optional(read.amount_usd),
        "An execution is found when it costs more, whatever is usual, in USD.",
    )
    max_execution_calls: int | None = _setting(
        "OTEL_COST_ANOMALY_MAX_EXECUTION_CALLS",
        None,
        read.optional(read.count),
        "An execution is found when it calls models more often.",
    )
    volume_score: float = _setting(
        "OTEL_COST_ANOMALY_VOLUME_SCORE",
        5.0,
        read.threshold,
        "Spreads above what is usual at this hour of the week that make a spike.",
    )
    volume_factor: float = _setting(
        "OTEL_COST_ANOMALY_VOLUME_FACTOR",
        2.0,
        read.threshold,
        "Times what is usual at this hour that make a spike; both must hold.",
    )
    volume_min_executions: int = _setting(
        "OTEL_COST_ANOMALY_VOLUME_MIN_EXECUTIONS",
        10,
        read.positive_count,
        "Executions in an hour that a spike has at least.",
    )
    simple_input_tokens: int = _setting(
        "OTEL_COST_ANOMALY_SIMPLE_INPUT_TOKENS",
        1000,
        read.count,
        "Input tokens a call of a simple task, at most.",
    )
    simple_output_tokens: int = _setting(
        "OTEL_COST_ANOMALY_SIMPLE_OUTPUT_TOKENS",
        250,
        read.count,
        "Output tokens a call of a simple task, at most.",
    )
    simple_min_executions: int = _setting(
        "OTEL_COST_ANOMALY_SIMPLE_MIN_EXECUTIONS",
        20,
        read.positive_count,
        "Simple executions that a dear model must have had, to be found too large for them.",
    )
    loop_repeats: int = _setting(
        "OTEL_COST_ANOMALY_LOOP_REPEATS",
        6,
        read.positive_count,
        "Repeated model calls in a row that are a loop.",
    )
    retry_failures: int = _setting(
        "OTEL_COST_ANOMALY_RETRY_FAILURES",
        5,
        read.positive_count,
        "Failed calls in a row, of one execution, that are a retry storm.",
    )
    retry_failed_ratio: float = _setting(
        "OTEL_COST_ANOMALY_RETRY_FAILED_RATIO",
        0.5,
        read.ratio,
        "Share of an agent's calls in an hour that fail in a retry storm.",
    )
    retry_min_calls: int = _setting(
        "OTEL_COST_ANOMALY_RETRY_MIN_CALLS",
        12,
        read.positive_count,
        "Failed calls of an agent in an hour that a retry storm has at least.",
    )
    growth_factor: float = _setting(
        "OTEL_COST_ANOMALY_GROWTH_FACTOR",
        2.5,
        read.threshold,
        "Times what the agent's prompts usually grow by from call to call.",
    )
    growth_min_tokens: int = _setting(
        "OTEL_COST_ANOMALY_GROWTH_MIN_TOKENS",
        10_000,
        read.count,
        "Tokens of the largest prompt, below which growth does not matter.",
    )
    creep_factor: float = _setting(
        "OTEL_COST_ANOMALY_CREEP_FACTOR",
        1.25,
        read.threshold,
        "Times as long as weeks ago that an agent's first prompt must be.",
    )
    creep_min_tokens: int = _setting(
        "OTEL_COST_ANOMALY_CREEP_MIN_TOKENS",
        200,
        read.count,
        "Tokens that an agent's first prompt must have gained.",
    )
    routing_points: float = _setting(
        "OTEL_COST_ANOMALY_ROUTING_POINTS",
        0.2,
        read.ratio,
        "How much the share of calls to dear models must rise: 0.2 is from 10 % to 30 %.",
    )
    routing_min_calls: int = _setting(
        "OTEL_COST_ANOMALY_ROUTING_MIN_CALLS",
        30,
        read.positive_count,
        "Calls of a feature on a day, below which their shares say nothing.",
    )
    unowned_usd: Decimal = _setting(  # noqa: RUF009 (a field, not a value)
        "OTEL_COST_ANOMALY_UNOWNED_USD",
        Decimal("0.10"),
        read.amount_usd,
        "What an agent may spend within `watch_days` without anybody to pay for it, in USD.",
    )
    warning_usd: Decimal = _setting(  # noqa: RUF009 (a field, not a value)
        "OTEL_COST_ANOMALY_WARNING_USD",
        Decimal("0.10"),
        read.amount_usd,
        "USD at stake from which a finding is a warning; below, it is for information.",
    )
    critical_usd: Decimal = _setting(  # noqa: RUF009 (a field, not a value)
        "OTEL_COST_ANOMALY_CRITICAL_USD",
        Decimal(10),
        read.amount_usd,
        "USD at stake from which a finding is critical.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """What happens on the way to an execution's budget, each at a ratio of it."""

    warn_at_ratio: float | None = _setting(
        "OTEL_COST_WARN_AT_RATIO", 0.8, read.optional(read.ratio), "Warn at this share of the budget."
    )
    remind_at_ratio: float | None = _setting(
        "OTEL_COST_REMIND_AT_RATIO",
        None,
        read.optional(read.ratio),
        "From this share on, tell the agent in its requests what remains.",
    )
    downgrade_at_ratio: float | None = _setting(
        "OTEL_COST_DOWNGRADE_AT_RATIO",
        None,
        read.optional(read.ratio),
        "From this share on, ask for the cheaper models of `downgrade_to`.",
    )
    downgrade_to: Mapping[str, str] = _setting(
        "OTEL_COST_DOWNGRADE_TO",
        {},
        read.by_name(read.word),
        "The cheaper model of the same provider for each: `gpt-5=gpt-5-mini,o3=o4-mini`.",
    )
    wrap_up_call: bool = _setting(
        "OTEL_COST_WRAP_UP_CALL",
        False,
        read.switch,
        "Let one last call through for the agent to sum up, from money kept back for it.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Everything that was decided about spending.

    Attributes:
        execution: Limits of every execution.
        agents: Further limits, by the agent's name or a pattern of names such as `research-*`.
        features: Further limits, by feature likewise.
        prices: Price files laid over the catalogue; later ones win.
        path: The policy file that was read; None without one.
        origins: Where each setting that is not a default comes from: `otel-cost.yaml:4`, its variable, or
            `argument`, by its path: `("agents", "planner", "budget_usd")`.
    """

    guard: GuardSettings = GuardSettings()
    execution: ExecutionLimits = ExecutionLimits()
    agents: Mapping[str, ExecutionLimits] = field(default_factory=dict)
    features: Mapping[str, ExecutionLimits] = field(default_factory=dict)
    budgets: Budgets = Budgets()
    detectors: Detectors = Detectors()
    ladder: Ladder = Ladder()
    anomalies: Anomalies = Anomalies()
    prices: tuple[Path, ...] = ()
    path: Path | None = None
    origins: Mapping[tuple[str, ...], str] = field(default_factory=dict, compare=False)
    _limits: dict[tuple[str, str], ExecutionLimits] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @classmethod
    def load(
        cls, path: str | Path | None = None, *, environ: Mapping[str, str] | None = None, **arguments: Any
    ) -> Policy:
        """Return the policy in force.

        Args:
            path: The policy file; default: what `OTEL_COST_POLICY` names, else `otel-cost.yaml` in the
                working directory where there is one.
            environ: Default: the environment of the process.
            arguments: Settings by name (`budget_usd=5`, `mode="shadow"`), and `agents`, `features`, `prices`
                and `thresholds` as mappings and lists. None is not given; "off" lifts a limit.

        Raises:
            ConfigError: With every value that cannot be used, each with its file:line, variable or argument.
        """
        from otel_cost.policy_file import Loader

        return Loader(path, os.environ if environ is None else environ, arguments).load()

    @property
    def is_limited(self) -> bool:
        """Whether any execution can be stopped at all: without a limit none is."""
        return any(limits.is_limited for limits in self._tables())

    @property
    def limits_steps(self) -> bool:
        """Whether the calls, tokens or time of any execution are limited."""
        return any(limits.limits_steps for limits in self._tables())

    def _tables(self) -> tuple[ExecutionLimits, ...]:
        return (self.execution, *self.agents.values(), *self.features.values())

    def limits_for(self, *, agent: str = "", feature: str = "") -> ExecutionLimits:
        """Return what an execution is held to: of all limits that apply, the lowest.

        An agent is held to its own entry, else to the first pattern that matches it; one without a name is
        matched by `*` alone. Features likewise.
        """
        found = self._limits.get((agent, feature))
        if found is None:
            if len(self._limits) >= MAX_REMEMBERED:
                self._limits.clear()
            applied = (limits for _, limits in self.sections_for(agent=agent, feature=feature))
            found = self._limits[agent, feature] = reduce(ExecutionLimits.tightest, applied)
        return found

    def sections_for(
        self, *, agent: str = "", feature: str = ""
    ) -> list[tuple[tuple[str, ...], ExecutionLimits]]:
        """Return the sections that limit an execution, each with its path in the policy."""
        found: list[tuple[tuple[str, ...], ExecutionLimits]] = [(("execution",), self.execution)]
        for section, table, name in (("agents", self.agents, agent), ("features", self.features, feature)):
            pattern = match(table, name)
            if pattern is not None:
                found.append(((section, pattern), table[pattern]))
        return found

    def origin(self, *path: str) -> str:
        """Return where a setting comes from: `otel-cost.yaml:4`, its variable, `argument` or `default`."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.origins:
                return self.origins[path[:length]]
        return "default"

    def level_budgets(
        self, *, user: str = "", team: str = "", organization: str = ""
    ) -> tuple[LevelBudget, ...]:
        """Return the budgets above executions that hold for somebody; names match as those of agents do."""
        names = {"user": user, "team": team, "organization": organization}
        found = []
        for level, setting, window, is_hard in LEVELS:
            table: Mapping[str, Decimal | None] = getattr(self.budgets, setting)
            pattern = match(table, names[level])
            usd = None if pattern is None else table[pattern]
            if pattern is not None and usd is not None:
                found.append(LevelBudget(level, setting, pattern, to_picousd(usd), window, is_hard))
        return tuple(found)


SECTIONS: Mapping[str, type] = {
    "guard": GuardSettings,
    "execution": ExecutionLimits,
    "budgets": Budgets,
    "detectors": Detectors,
    "ladder": Ladder,
    "anomalies": Anomalies,
}
"""The sections of the file whose settings have variables too."""
TABLES = ("agents", "features")


def match(names: Iterable[str], name: str) -> str | None:
    """Return the entry for a name: itself, else the first pattern (`*`, `?`, `[ab]`) that matches it."""
    known = names if isinstance(names, Mapping) else tuple(names)
    if name and name in known:
        return name
    return next((pattern for pattern in known if _matches(name, pattern)), None)


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) if name else pattern == EVERYONE


def _lowest(own: Any, theirs: Any) -> Any:
    if own is None or theirs is None:
        return theirs if own is None else own
    return None if isinstance(own, Mapping) else min(own, theirs)

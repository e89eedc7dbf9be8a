"""The policy: where its settings come from, what holds for whom, and what is said about mistakes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_cost import policy_report
from otel_cost.budgets import MAX_REMEMBERED, Detectors, ExecutionLimits, Policy
from otel_cost.config import Config
from otel_cost.detectors import DEFAULT_THRESHOLDS, DETECTORS, thresholds
from otel_cost.errors import ConfigError
from otel_cost.pricing import PriceBook

BUDGETS = st.none() | st.decimals(0, 1_000, places=6)
COUNTS = st.none() | st.integers(0, 1_000)
LIMITS = st.builds(
    ExecutionLimits,
    budget_usd=BUDGETS,
    max_model_calls=COUNTS,
    max_calls_per_tool=st.dictionaries(st.sampled_from(["*", "a", "b", "c"]), COUNTS),
    max_wall_time_s=st.none() | st.floats(0.1, 1_000),
)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty directory, with no setting of the machine's own."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("OTEL_COST_")]:
        monkeypatch.delenv(name)


def write(text: str, name: str = "otel-cost.yaml") -> Path:
    """Write a policy into the working directory."""
    path = Path(name)
    path.write_text(text, encoding="utf-8")
    return path


def problems_of(text: str = "", environ: dict[str, str] | None = None, **arguments: Any) -> list[str]:
    """Return what is wrong with a policy."""
    if text:
        write(text)
    with pytest.raises(ConfigError) as caught:
        Policy.load(environ=environ or {}, **arguments)
    return list(caught.value.problems)


# Sources


def test_without_anything_nothing_is_limited() -> None:
    """The defaults stop nothing, warn at 80 %, and enforce whatever limit will be set."""
    policy = Policy.load(environ={})
    assert policy == Policy()
    assert not policy.is_limited
    assert policy.limits_for(agent="planner") == ExecutionLimits()
    assert (policy.guard.mode, policy.guard.bound, policy.guard.on_failure) == ("enforce", "strict", "allow")
    assert (policy.guard.unpriced, policy.guard.escalate_after_refusals) == ("estimate", None)
    assert policy.ladder.warn_at_ratio == 0.8
    assert {getattr(policy.detectors, name) for name in DETECTORS} == {"warn"}


def test_argument_beats_variable_beats_file_beats_default() -> None:
    """The same setting from each source, one after the other taken away."""
    write("execution: {budget_usd: 3, max_depth: 3}\nguard: {mode: warn}\n")
    environ = {"OTEL_COST_BUDGET_USD": "2", "OTEL_COST_MAX_DEPTH": "2"}
    limits = Policy.load(environ=environ, budget_usd=1).execution
    assert (limits.budget_usd, limits.max_depth) == (Decimal(1), 2)
    assert Policy.load(environ={}).execution == ExecutionLimits(budget_usd=Decimal(3), max_depth=3)
    assert Policy.load(environ={}).guard.mode == "warn"
    assert Policy.load("/dev/null", environ={}).execution == ExecutionLimits()


def test_the_file_is_the_one_named() -> None:
    """An argument names it, else the variable, else it is `otel-cost.yaml` here."""
    write("execution: {max_depth: 1}\n")
    write("execution: {max_depth: 2}\n", "two.yaml")
    write("execution: {max_depth: 3}\n", "three.yaml")
    environ = {"OTEL_COST_POLICY": "two.yaml"}
    named = ((None, {}), (None, environ), ("three.yaml", environ))
    assert [Policy.load(path, environ=env).execution.max_depth for path, env in named] == [1, 2, 3]


def test_off_lifts_a_limit_and_none_is_not_given() -> None:
    """A variable can take back what the file says; an empty one, and None, say nothing."""
    write("execution: {budget_usd: 3}\nladder: {warn_at_ratio: off}\n")
    assert Policy.load(environ={"OTEL_COST_BUDGET_USD": "off"}).execution.budget_usd is None
    assert Policy.load(environ={"OTEL_COST_BUDGET_USD": " "}).execution.budget_usd == 3
    assert Policy.load(environ={}, budget_usd=None).execution.budget_usd == 3
    assert Policy.load(environ={}).ladder.warn_at_ratio is None


def test_each_source_can_say_everything() -> None:
    """Mappings and lists have a way to be written in a variable and as an argument, to the same effect."""
    write(
        "execution: {max_calls_per_tool: {web: 3, '*': 9}}\n"
        "budgets: {user_usd_per_day: {'*': 10, alice: 25.50}, time_zone: Europe/Berlin}\n"
        "detectors: {retry_storm: kill}\n"
        "ladder: {downgrade_at_ratio: 0.7, downgrade_to: {gpt-5: gpt-5-mini}}\n"
        "prices: [a.yaml, b.yaml]\n"
    )
    said = {
        "OTEL_COST_MAX_CALLS_PER_TOOL": "web=3, *=9",
        "OTEL_COST_BUDGET_USER_USD_PER_DAY": "*=10,alice=25.50",
        "OTEL_COST_BUDGET_TIME_ZONE": "Europe/Berlin",
        "OTEL_COST_DETECTOR_RETRY_STORM": "kill",
        "OTEL_COST_DOWNGRADE_AT_RATIO": "0.7",
        "OTEL_COST_DOWNGRADE_TO": "gpt-5=gpt-5-mini",
        "OTEL_COST_PRICES": "a.yaml:b.yaml",
    }
    from_file = Policy.load(environ={})
    from_variables = Policy.load("/dev/null", environ=said)
    from_arguments = Policy.load(
        "/dev/null",
        environ={},
        max_calls_per_tool={"web": 3, "*": 9},
        user_usd_per_day={"*": 10, "alice": Decimal("25.50")},
        time_zone={"*": "Europe/Berlin"},
        retry_storm="kill",
        downgrade_at_ratio=0.7,
        downgrade_to={"gpt-5": "gpt-5-mini"},
        prices=[Path("a.yaml"), "b.yaml"],
    )
    for name in ("execution", "budgets", "detectors", "ladder", "prices"):
        assert getattr(from_file, name) == getattr(from_variables, name) == getattr(from_arguments, name)
    assert from_file.prices == (Path("a.yaml"), Path("b.yaml"))


def test_one_amount_is_everybodys() -> None:
    """`user_usd_per_day: 10` is `{'*': 10}`, in the file and in a variable."""
    write("budgets: {user_usd_per_day: 10}\n")
    environ = {"OTEL_COST_BUDGET_TEAM_USD_PER_MONTH": "300"}
    budgets = Policy.load(environ=environ).budgets
    assert (budgets.user_usd_per_day, budgets.team_usd_per_month) == ({"*": 10}, {"*": 300})


def test_price_files_stand_beside_the_policy(tmp_path: Path) -> None:
    """A relative path of the file starts from the file's directory, and the processor reads the same."""
    (tmp_path / "conf").mkdir()
    write("prices: [house.yaml, /etc/all.yaml]\nexecution: {budget_usd: 1$}\n", "conf/policy.yaml")
    environ = {"OTEL_COST_POLICY": "conf/policy.yaml"}
    expected = (Path("conf/house.yaml"), Path("/etc/all.yaml"))
    assert Config.load(environ).prices == expected
    assert Config.load(environ | {"OTEL_COST_PRICES": "x.yaml"}).prices == (Path("x.yaml"),)
    assert Config.load(environ, prices=()).prices == ()
    write("prices: [house.yaml, /etc/all.yaml]\n", "conf/policy.yaml")
    assert Policy.load(environ=environ).prices == expected


def test_the_origin_of_each_setting_is_known() -> None:
    """The line, the variable, the argument, or the default."""
    write(
        "execution:\n  budget_usd: 3\n  max_calls_per_tool:\n    web: 3\n"
        "agents:\n  planner:\n    max_depth: 1\n"
    )
    policy = Policy.load(environ={"OTEL_COST_GUARD": "shadow"}, clamp=True)
    assert policy.origin("execution", "budget_usd") == "otel-cost.yaml:2"
    assert policy.origin("execution", "max_calls_per_tool", "web") == "otel-cost.yaml:4"
    assert policy.origin("agents", "planner", "max_depth") == "otel-cost.yaml:7"
    assert policy.origin("guard", "mode") == "OTEL_COST_GUARD"
    assert policy.origin("guard", "clamp") == "argument"
    assert policy.origin("guard", "bound") == "default"
    covered = Policy.load(environ={"OTEL_COST_MAX_CALLS_PER_TOOL": "web=1"})
    assert covered.origin("execution", "max_calls_per_tool", "web") == "OTEL_COST_MAX_CALLS_PER_TOOL"


# Mistakes


def test_every_problem_is_told_at_once() -> None:
    """One error names each place, the value and the remedy, also of what another source covers."""
    text = (
        "guard: {mode: shaddow}\n"
        "execution:\n"
        "  budgt_usd: 10\n"
        "  budget_usd: 10$\n"
        "  max_model_calls: 1.5\n"
        "agents:\n"
        "  planner: {clamp: true}\n"
        "  writer: 5\n"
        "budget_usd: 4\n"
        "detectors: {thresholds: {foo: {a: 1}, retry_storm: {failed_tool_calls: many}}}\n"
    )
    limits = "budget_usd, max_calls_per_tool, max_depth, max_model_calls, max_tool_calls, max_total_tokens"
    limits += ", max_wall_time_s"
    detectors = "context_growth, identical_calls, near_identical_calls, ping_pong, retry_storm"
    assert problems_of(text, {"OTEL_COST_BUDGET_USD": "10€"}, max_depth=-1, budgt=1) == [
        "otel-cost.yaml:9: 'budget_usd' is not known here; write it below `execution:`",
        "otel-cost.yaml:1: mode='shaddow' is none of the choices; write off, shadow, warn, enforce",
        "otel-cost.yaml:3: 'budgt_usd' is not known here; did you mean 'budget_usd'?",
        "otel-cost.yaml:4: budget_usd='10$' is not a number of USD; write 10 or 10.00",
        "OTEL_COST_BUDGET_USD='10€' is not a number of USD; write 10 or 10.00",
        "otel-cost.yaml:5: max_model_calls='1.5' is not a whole number; write for example 100",
        "max_depth='-1' is not a whole number; write for example 100",
        f"otel-cost.yaml:10: 'foo' is not known here; write one of {detectors}",
        "otel-cost.yaml:10: failed_tool_calls='many' is not a number above 0; write for example 3",
        f"otel-cost.yaml:7: 'clamp' is not known here; write one of {limits}",
        "otel-cost.yaml:8: writer='5' is not a mapping; write `name: value` lines below it",
        "'budgt' is not known here; did you mean 'budget_usd'?",
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("OTEL_COST_BUDGET_USD", "10$"),
        ("OTEL_COST_BUDGET_USD", "-1"),
        ("OTEL_COST_BUDGET_USD", "NaN"),
        ("OTEL_COST_BUDGET_USD", "Infinity"),
        ("OTEL_COST_BUDGET_USD", "1e999999"),
        ("OTEL_COST_BUDGET_USD", "1,50"),
        ("OTEL_COST_MAX_MODEL_CALLS", "many"),
        ("OTEL_COST_MAX_MODEL_CALLS", "9" * 5_000),
        ("OTEL_COST_MAX_WALL_TIME_S", "0"),
        ("OTEL_COST_MAX_WALL_TIME_S", "1h"),
        ("OTEL_COST_MAX_CALLS_PER_TOOL", "web=3,web=4"),
        ("OTEL_COST_MAX_CALLS_PER_TOOL", "web=3,=4"),
        ("OTEL_COST_WARN_AT_RATIO", "80"),
        ("OTEL_COST_WARN_AT_RATIO", "0"),
        ("OTEL_COST_DOWNGRADE_TO", "gpt-5"),
        ("OTEL_COST_GUARD", "on"),
        ("OTEL_COST_GUARD_CLAMP", "maybe"),
        ("OTEL_COST_GUARD_ESCALATE_AFTER_REFUSALS", "0"),
        ("OTEL_COST_GUARD_MAX_WAIT_S", "-1"),
        ("OTEL_COST_BUDGET_TIME_ZONE", "Mars/Olympus"),
        ("OTEL_COST_BUDGET_TIME_ZONE", "../../etc/passwd"),
        ("OTEL_COST_DETECTOR_PING_PONG", "true"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(name: str, text: str) -> None:
    """The problem begins with what was typed, and says what to write."""
    (problem,) = problems_of(environ={name: text})
    assert problem.startswith(f"{name}={text[:60]!r} ")
    assert "; write " in problem


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("execution:\n  budget_usd:\n", "2: budget_usd='' is not a number of USD; write 10 or 10.00"),
        ("execution: [1]\n", "1: execution=a list is not a mapping; write `name: value` lines below it"),
        ("- 1\n", "1: the policy=a list is not a mapping; write `name: value` lines below it"),
        ("a: b: c\n", "1: is not YAML: mapping values are not allowed here"),
        ("prices: a\nprices: b\n", "2: 'prices' stands here twice; the first is at otel-cost.yaml:1"),
        ("execution: {? [a, b] : 1}\n", "1: a name must be a text"),
        (
            "execution: {max_calls_per_tool: {web_*: 3}}\n",
            "1: max_calls_per_tool: 'web_*' is a pattern; write a tool's name, or '*' for others",
        ),
        (
            "ladder:\n  downgrade_at_ratio: 0.7\n",
            "2: downgrade_at_ratio needs downgrade_to; write for example {gpt-5: gpt-5-mini}",
        ),
        ("ladder:\n  downgrade_to: {o3: o3}\n", "2: 'o3' is downgraded to itself; write a cheaper one"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_its_line(text: str, problem: str) -> None:
    """A half-written budget, too, is a mistake rather than no limit."""
    assert problems_of(text) == [f"otel-cost.yaml:{problem}"]


def test_a_file_that_is_in_itself_ends() -> None:
    """An anchor within itself, and nesting without end, are problems and not a crash."""
    assert "nested too deeply" in problems_of("agents: &a\n  x: *a\n")[0]
    assert "nested too deeply" in problems_of("agents: " + "[" * 5_000 + "]" * 5_000 + "\n")[0]


def test_a_file_that_is_not_there_is_a_problem() -> None:
    """Whoever names a policy wants one; the file that nobody named may be absent."""
    (problem,) = problems_of(environ={"OTEL_COST_POLICY": "nowhere.yaml"})
    assert problem.startswith("nowhere.yaml: cannot be read (")
    write("", "empty.yaml")
    assert not Policy.load("empty.yaml", environ={}).is_limited


def test_bytes_that_are_no_text_are_a_problem() -> None:
    """Neither a wrong encoding nor a control character crashes."""
    Path("otel-cost.yaml").write_bytes(b"execution: \xff\n")
    assert "cannot be read" in problems_of()[0]
    Path("otel-cost.yaml").write_bytes(b"execution: \x07\n")
    assert "is not YAML" in problems_of()[0]


@given(st.text(max_size=200))
def test_any_text_is_a_policy_or_a_told_problem(text: str) -> None:
    """Nothing that can stand in a file or a variable raises anything but ConfigError."""
    path = Path("any.yaml")
    path.write_text(f"execution: {text}", encoding="utf-8", errors="replace")
    for environ in ({"OTEL_COST_POLICY": str(path)}, {"OTEL_COST_MAX_CALLS_PER_TOOL": text}):
        with suppress(ConfigError):
            Policy.load(environ=environ)


# What holds


def test_money_is_exact() -> None:
    """An amount is never a binary fraction: 0.1 is 100,000,000,000 pico-dollars, whoever gives it."""
    assert Policy.load(environ={"OTEL_COST_BUDGET_USD": "0.1"}).execution.budget_picousd == 10**11
    assert Policy.load(environ={}, budget_usd=0.1).execution.budget_picousd == 10**11
    assert Policy.load(environ={}, budget_usd=0).execution.budget_picousd == 0
    assert ExecutionLimits().budget_picousd is None


def test_the_tightest_of_all_limits_holds() -> None:
    """An execution is held to the limits of all, of its agent and of its feature at once."""
    write(
        "execution: {budget_usd: 5, max_depth: 4, max_calls_per_tool: {'*': 10}}\n"
        "agents: {planner: {budget_usd: 2, max_calls_per_tool: {web: 20, mail: 1}}}\n"
        "features: {'search-*': {budget_usd: 3, max_depth: 1, max_model_calls: 7}}\n"
    )
    policy = Policy.load(environ={})
    assert policy.limits_for() == policy.execution
    both = policy.limits_for(agent="planner", feature="search-eu")
    assert (both.budget_usd, both.max_depth, both.max_model_calls) == (2, 1, 7)
    assert [both.calls_of(tool) for tool in ("web", "mail", "else")] == [10, 1, 10]
    assert policy.limits_for(agent="writer", feature="search-eu").budget_usd == 3


def test_a_name_beats_patterns_and_the_first_pattern_the_others() -> None:
    """One entry of a section holds; `*` is for all that are left, unnamed ones included."""
    write(
        "agents:\n  re*: {budget_usd: 1}\n  '*': {budget_usd: 2}\n"
        "  research: {budget_usd: 3}\n  r*: {budget_usd: 4}\n"
    )
    policy = Policy.load(environ={})
    names = ("research", "retriever", "router", "Research", "")
    assert [policy.limits_for(agent=name).budget_usd for name in names] == [3, 1, 2, 2, 2]


def test_off_lets_one_tool_go_free() -> None:
    """`*` limits the others; a tool can be left out of it, or forbidden with 0."""
    environ = {"OTEL_COST_MAX_CALLS_PER_TOOL": "*=10,search=off,delete=0"}
    limits = Policy.load(environ=environ).execution
    assert [limits.calls_of(tool) for tool in ("search", "delete", "else")] == [None, 0, 10]
    assert limits.is_limited
    assert not ExecutionLimits(max_calls_per_tool={"*": None}).is_limited


@given(LIMITS, LIMITS)
def test_the_tightest_is_never_looser_than_either(one: ExecutionLimits, other: ExecutionLimits) -> None:
    """Each limit is the lower of the two, whatever the order, and a limit with itself is itself."""
    both = one.tightest(other)
    assert both == other.tightest(one) == both.tightest(one)
    assert one.tightest(one) == one
    for name in ("budget_usd", "max_model_calls", "max_wall_time_s"):
        known = [value for value in (getattr(one, name), getattr(other, name)) if value is not None]
        assert getattr(both, name) == (min(known) if known else None)
    for tool in ("a", "b", "c", "d"):
        known = [calls for calls in (one.calls_of(tool), other.calls_of(tool)) if calls is not None]
        assert both.calls_of(tool) == (min(known) if known else None)


def test_names_without_end_take_bounded_memory() -> None:
    """Limits are kept per agent, and agents' names may come from users."""
    policy = Policy(agents={"a*": ExecutionLimits(max_depth=1)})
    for number in range(MAX_REMEMBERED + 10):
        assert policy.limits_for(agent=f"a{number}").max_depth == 1
    assert len(policy._limits) <= MAX_REMEMBERED
    assert policy.limits_for(agent="a1") is policy.limits_for(agent="a1")


def test_budgets_above_executions_are_found_by_name() -> None:
    """User per day and team per month are soft, organization per month is hard; `off` is no budget."""
    write(
        "budgets:\n"
        "  user_usd_per_day: {'*': 10, alice: 25.5, ops: off}\n"
        "  team_usd_per_month: {'search-*': 100}\n"
        "  organization_usd_per_month: 20_000\n"
    )
    policy = Policy.load(environ={})
    found = policy.level_budgets(user="alice", team="search-eu", organization="acme")
    assert [(budget.level, budget.pattern, budget.window, budget.is_hard) for budget in found] == [
        ("user", "alice", "day", False),
        ("team", "search-*", "month", False),
        ("organization", "*", "month", True),
    ]
    assert [budget.budget_picousd for budget in found] == [255 * 10**11, 100 * 10**12, 20_000 * 10**12]
    assert [budget.level for budget in policy.level_budgets(user="ops", team="x")] == ["organization"]
    assert not policy.is_limited


def test_thresholds_are_kept_by_detector() -> None:
    """Numbers by name; a variable changes the action and leaves them; the detectors take them as they are."""
    write("detectors:\n  retry_storm: warn\n  thresholds: {retry_storm: {failed_tool_calls: 4}}\n")
    detectors = Policy.load(environ={"OTEL_COST_DETECTOR_RETRY_STORM": "kill"}).detectors
    assert detectors == Detectors(retry_storm="kill", thresholds={"retry_storm": {"failed_tool_calls": 4.0}})
    assert thresholds(detectors.thresholds).failed_tool_calls == 4


def test_only_thresholds_that_exist_can_be_set() -> None:
    """Each detector has names of its own, and a share that cannot be reached is a mistake."""
    assert problems_of(
        thresholds={"ping_pong": {"calls": 3}, "near_identical_calls": {"similarity_ratio": 2}}
    ) == [
        "thresholds: ping_pong: 'calls' is not known here; write one of rounds",
        "thresholds: near_identical_calls: similarity_ratio='2' is not a ratio; write 0.8 for 80 %",
    ]
    assert Policy.load(environ={}, thresholds=DEFAULT_THRESHOLDS).detectors.thresholds == DEFAULT_THRESHOLDS


# What is said about it


def test_every_rule_is_explained_with_its_origin() -> None:
    """For an execution of somebody's: what holds, from where, and what happens then."""
    write(
        "execution:\n  budget_usd: 5.00\n  max_calls_per_tool: {'*': 9}\n"
        "agents:\n  planner:\n    budget_usd: 2\n"
        "budgets:\n  user_usd_per_day:\n    alice: 25\n"
        "detectors: {ping_pong: off, retry_storm: kill}\n"
    )
    environ = {"OTEL_COST_WARN_AT_RATIO": "0.5"}
    rules = policy_report.explain(Policy.load(environ=environ), agent="planner", user="alice")
    refused = "the call is not sent; BudgetExceeded ends the execution"
    assert rules[:3] == [
        ("agents.planner", "budget_usd", "2", "otel-cost.yaml:6", refused),
        ("execution", "max_calls_per_tool.*", "9", "otel-cost.yaml:3", refused),
        ("ladder", "warn_at_ratio", "0.5", "OTEL_COST_WARN_AT_RATIO", "at 1 USD a warning is logged"),
    ]
    assert ("detectors", "retry_storm", "kill", "otel-cost.yaml:10", refused) in rules
    assert "ping_pong" not in {rule.setting for rule in rules}
    assert rules[-1][:4] == ("budgets", "user_usd_per_day.alice", "25", "otel-cost.yaml:9")


@pytest.mark.parametrize(
    ("mode", "noted"), [("enforce", ""), ("shadow", " (noted only: the guard does not enforce)")]
)
def test_steps_before_a_refusal_are_explained(mode: str, noted: str) -> None:
    """With the amount at which each begins; a mode that changes no request says so."""
    policy = Policy.load(
        environ={},
        mode=mode,
        budget_usd=2,
        clamp=True,
        wrap_up_call=True,
        remind_at_ratio=0.5,
        downgrade_at_ratio=0.75,
        downgrade_to={"gpt-4o": "gpt-4o-mini"},
    )
    told = {rule.setting: rule.when_reached for rule in policy_report.explain(policy)}
    assert told["remind_at_ratio"] == f"at 1 USD the agent is told in its requests what remains{noted}"
    assert told["downgrade_at_ratio"] == (
        f"at 1.5 USD cheaper models are asked for: gpt-4o -> gpt-4o-mini{noted}"
    )
    assert told["clamp"] == f"a call that does not fit may write less, if that fits{noted}"
    assert told["wrap_up_call"] == f"one last call is let through for the agent to sum up{noted}"


def test_what_is_probably_not_meant_is_noted() -> None:
    """No limit at all, a limit that another one hides, a downgrade to something dearer or without a price."""
    book = PriceBook.load()
    assert "OTEL_COST_BUDGET_USD=5.00" in policy_report.notes(Policy(), book)[0]
    arguments: dict[str, Any] = {
        "budget_usd": 5,
        "agents": {"planner": {"budget_usd": "8.00", "max_depth": 2}},
        "downgrade_to": {"gpt-5-mini": "gpt-5", "o3": "no-such-model", "gpt-5": "gpt-5-mini"},
    }
    assert policy_report.notes(Policy.load(environ={}, **arguments), book) == [
        "downgrade_to: 'gpt-5' does not cost less than 'gpt-5-mini'",
        "downgrade_to: no price is known for 'no-such-model'",
        "agents planner: budget_usd 8.00 has no effect: that of `execution` is lower",
        "downgrade_to: has no effect without downgrade_at_ratio; 1 is for calls that do not fit",
    ]
    patterns = {"gpt-4o*": "gpt-4o-mini"}
    sound = Policy.load(environ={}, budget_usd=1, downgrade_to=patterns, downgrade_at_ratio=1)
    assert policy_report.notes(sound, book) == []
    assert policy_report.notes(Policy.load(environ={}, mode="off", budget_usd=1), book) == [
        "limits are set, and the guard is off: nothing is stopped"
    ]


def test_a_policy_shows_itself_in_the_shape_of_its_file() -> None:
    """What `as_json` gives is itself a policy, the same one."""
    write(
        "execution: {budget_usd: 0.30, max_calls_per_tool: {a: 1}}\nagents: {p: {max_depth: 1}}\n"
        "detectors: {thresholds: {ping_pong: {rounds: 3}}}\n"
    )
    policy = Policy.load(environ={})
    shown = policy_report.as_json(policy)
    assert shown["execution"]["budget_usd"] == "0.30"
    without_none = json.loads(
        json.dumps(shown), object_hook=lambda pairs: {k: v for k, v in pairs.items() if v is not None}
    )
    path = write(json.dumps(without_none), "again.yaml")
    assert policy_report.as_json(Policy.load(path, environ={})) == shown


def test_the_policy_is_light() -> None:
    """Without a file no YAML reader is loaded, and the server never."""
    code = (
        "import sys; from otel_cost.budgets import Policy; Policy.load(environ={}, budget_usd=1); "
        "print([name for name in sys.modules if name.split('.')[0] in "
        "('yaml', 'zoneinfo', 'difflib', 'rich', 'typer', 'pydantic', 'opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"

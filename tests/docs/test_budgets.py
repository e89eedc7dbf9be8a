"""The page about budgets says what the code does."""

from __future__ import annotations

import re
from dataclasses import fields
from decimal import Decimal
from pathlib import Path

import pytest

from otel_cost.budgets import SECTIONS, SUGGESTED_BUDGET_USD, TABLES, Policy
from otel_cost.policy_report import known_variables
from tests.data import ROOT
from tests.docs import generate

PAGE = (ROOT / "docs" / "budgets.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)


def _load(text: str, directory: Path) -> Policy:
    path = directory / "otel-cost.yaml"
    path.write_text(text, encoding="utf-8")
    return Policy.load(path, environ={})


def test_the_example_file_can_be_used(tmp_path: Path) -> None:
    """Every line of it is taken, and means what its comment says."""
    policy = _load(EXAMPLES[0], tmp_path)
    assert policy.execution.budget_usd == SUGGESTED_BUDGET_USD
    assert policy.limits_for(agent="research-eu").calls_of("web_search") == 10
    assert policy.limits_for(agent="research-eu").calls_of("read_file") is None
    assert policy.limits_for(agent="planner", feature="autocomplete").budget_usd == Decimal("0.05")
    assert [budget.pattern for budget in policy.level_budgets(user="bob", organization="acme")] == ["*", "*"]
    assert policy.prices == (tmp_path / "house-prices.yaml",)


def test_every_setting_is_in_the_example(tmp_path: Path) -> None:
    """No setting can be written that the example does not show, with a comment or beside one."""
    policy = _load(EXAMPLES[0], tmp_path)
    shown = {path[:2] for path in policy.origins}
    expected = {(section, item.name) for section, kind in SECTIONS.items() for item in fields(kind)}
    assert expected <= shown
    assert {path[0] for path in shown} == {*SECTIONS, *TABLES, "prices"}


def test_one_agent_can_have_more(tmp_path: Path) -> None:
    """The second example does what the text before it says."""
    policy = _load(EXAMPLES[1], tmp_path)
    assert [policy.limits_for(agent=name).budget_usd for name in ("researcher", "other", "")] == [20, 5, 5]


def test_defaults_in_the_example_are_the_defaults(tmp_path: Path) -> None:
    """Where the example shows the guard, it shows it as it is without a file."""
    assert _load(EXAMPLES[0], tmp_path).guard == Policy().guard


def test_every_variable_is_known() -> None:
    """What `budgets check` takes for misspelt is what docs/settings.md does not name."""
    documented = set(re.findall(r"`(OTEL_COST_\w+)`", generate.settings()))
    assert known_variables() == documented


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines can be pasted."""
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    names: dict[str, object] = {}
    exec(compile(code, "docs/budgets.md", "exec"), names)
    policy = names["policy"]
    assert isinstance(policy, Policy)
    assert (policy.execution.budget_picousd, policy.guard.mode) == (5 * 10**12, "shadow")

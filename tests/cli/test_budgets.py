"""`otel-cost budgets` as a person uses it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

POLICY = """\
execution:
  budget_usd: 5.00
agents:
  planner:
    budget_usd: 2.00
budgets:
  user_usd_per_day: 10
"""


def run(directory: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a directory, with no setting but those given."""
    inherited = {name: text for name, text in os.environ.items() if not name.startswith("OTEL_COST_")}
    return subprocess.run(
        [sys.executable, "-c", "from otel_cost.cli.main import main; main()", "budgets", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=directory,
        env={**inherited, "COLUMNS": "160", **variables},
    )


def test_a_sound_policy_is_ok(tmp_path: Path) -> None:
    """The file that is in force is found, summed up, and scripts see success."""
    (tmp_path / "otel-cost.yaml").write_text(POLICY, encoding="utf-8")
    done = run(tmp_path, "check")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "ok: otel-cost.yaml",
        "guard: enforce, strict",
        "execution: budget_usd 5.00",
        "agents planner: budget_usd 2.00",
        "budgets: user_usd_per_day *=10 (this version checks it only)",
    ]


def test_every_problem_is_told_and_fails(tmp_path: Path) -> None:
    """Those of the policy with those of the variables, a line each."""
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY.replace("5.00", "5,00"), encoding="utf-8")
    done = run(tmp_path, "check", "policy.yaml", OTEL_COST_GUARD="on")
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "OTEL_COST_GUARD='on' is none of the choices; write off, shadow, warn, enforce",
        "policy.yaml:2: budget_usd='5,00' is not a number of USD; write 10 or 10.00",
        "2 problems",
    ]
    shown = json.loads(run(tmp_path, "check", "policy.yaml", "--json").stdout)
    assert (shown["ok"], len(shown["problems"])) == (False, 1)


def test_the_price_files_are_checked_too(tmp_path: Path) -> None:
    """One that is missing or wrong is a problem of the policy that names it."""
    (tmp_path / "otel-cost.yaml").write_text("prices: [house.yaml]\n", encoding="utf-8")
    (tmp_path / "house.yaml").write_text("discounts:\n  - {discount_ratio: 0.1}\n", encoding="utf-8")
    done = run(tmp_path, "check")
    assert done.returncode == 1
    assert "house.yaml:2: 'provider' is missing" in done.stdout


def test_a_check_as_json_shows_the_policy_in_force(tmp_path: Path) -> None:
    """With what the variables change, and amounts as exact text."""
    (tmp_path / "otel-cost.yaml").write_text(POLICY, encoding="utf-8")
    done = run(tmp_path, "check", "--json", OTEL_COST_BUDGET_USD="0.10")
    shown = json.loads(done.stdout)
    assert (shown["ok"], shown["file"], shown["problems"]) == (True, "otel-cost.yaml", [])
    assert shown["policy"]["execution"]["budget_usd"] == "0.10"
    assert shown["policy"]["agents"]["planner"]["budget_usd"] == "2.00"
    assert shown["notes"] == ["agents planner: budget_usd 2.00 has no effect: that of `execution` is lower"]


def test_an_explanation_names_limit_line_and_consequence(tmp_path: Path) -> None:
    """For this execution: its agent's limit and not the general one, and the user's budget."""
    (tmp_path / "otel-cost.yaml").write_text(POLICY, encoding="utf-8")
    done = run(tmp_path, "explain", "--agent", "planner", "--user", "alice")
    assert done.returncode == 0
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[0] == "policy: otel-cost.yaml, guard: enforce (default)"
    refused = "the call is not sent; BudgetExceeded ends the execution"
    assert f"agents.planner budget_usd 2.00 otel-cost.yaml:5 {refused}" in lines
    assert "ladder warn_at_ratio 0.8 default at 1.6 USD a warning is logged" in lines
    assert any(line.startswith("budgets user_usd_per_day.* 10 otel-cost.yaml:7 soft: ") for line in lines)
    assert not any("5.00" in line for line in lines)


def test_an_explanation_as_json_has_every_rule(tmp_path: Path) -> None:
    """The variable that set a limit is its origin."""
    done = run(tmp_path, "explain", "--json", OTEL_COST_BUDGET_USD="7", OTEL_COST_GUARD="shadow")
    shown = json.loads(done.stdout)
    assert shown["rules"][0] == {
        "section": "execution",
        "setting": "budget_usd",
        "value": "7",
        "origin": "OTEL_COST_BUDGET_USD",
        "when_reached": "it is recorded; the call is sent",
    }
    assert (shown["file"], shown["mode"], shown["suggestion"]) == (None, "shadow", None)


def test_without_a_limit_it_says_what_a_sensible_one_is(tmp_path: Path) -> None:
    """Nobody has to guess a first number, and nobody believes to be protected."""
    for command in ("check", "explain"):
        done = run(tmp_path, command)
        assert done.returncode == 0
        assert "no limit is set, so nothing is ever stopped" in done.stdout
        assert "OTEL_COST_BUDGET_USD=5.00" in done.stdout


def test_a_misspelt_variable_is_noted(tmp_path: Path) -> None:
    """A limit that nobody reads is worse than none."""
    done = run(tmp_path, "check", OTEL_COST_BUDGT_USD="5", OTEL_COST_TEAM="search")
    assert (
        "note: OTEL_COST_BUDGT_USD is not read by anything; did you mean OTEL_COST_BUDGET_USD?" in done.stdout
    )
    assert "OTEL_COST_TEAM" not in done.stdout


def test_an_explanation_of_a_broken_policy_is_bad_input(tmp_path: Path) -> None:
    """It says what is wrong, and exits as any command with bad input."""
    done = run(tmp_path, "explain", "nowhere.yaml")
    assert done.returncode == 2
    assert "nowhere.yaml: cannot be read" in done.stderr

"""`otel-cost budgets`: whether the policy is sound, and what it means for an execution."""

from __future__ import annotations

import os
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Annotated

import typer

from otel_cost import policy_report
from otel_cost.budgets import LEVELS, NO_LIMIT_ADVICE, Policy
from otel_cost.cli.console import Column, console, print_table
from otel_cost.cli.options import JsonOption, StoreOption
from otel_cost.cli.text import plain, write_json
from otel_cost.errors import ConfigError
from otel_cost.pricing import PriceBook

app = typer.Typer(no_args_is_help=True, add_completion=False)
budgets_app = typer.Typer(no_args_is_help=True, help="What may be spent, and what happens at a limit.")
app.add_typer(budgets_app, name="budgets")
out = console()

FAILED = 1
STATUS_COLUMNS = (
    "level",
    "name",
    "budget_window",
    "limit_usd",
    "spent_usd",
    "remaining_usd",
    "utilisation_ratio",
    "elapsed_ratio",
    "projected_usd",
    "exhausted_at",
    "unpriced_calls",
)
"""What a terminal shows of a budget; `--json` shows all of it."""
RULE_COLUMNS = (
    Column("section"),
    Column("setting", is_whole=True),
    Column("value", is_whole=True),
    Column("from"),
    Column("when reached"),
)

File = Annotated[
    Path | None,
    typer.Argument(metavar="FILE", help="The policy.", show_default=False),
]


@budgets_app.command("check")
def check(file: File = None, as_json: JsonOption = False) -> None:
    """Check the policy and the price files it names, and tell every problem. Exit code 1 when there is one.

    Without FILE it is the policy in force: OTEL_COST_POLICY, else otel-cost.yaml here, and the variables.
    """
    try:
        policy = Policy.load(file)
        book = PriceBook.load(policy.prices)
    except ConfigError as error:
        _show_problems(error.problems, as_json=as_json)
        raise typer.Exit(FAILED) from None
    notes = policy_report.notes(policy, book) + policy_report.unknown_variables(os.environ)
    if as_json:
        shown = {"ok": True, "file": _name(policy), "problems": [], "notes": notes}
        write_json({**shown, "policy": policy_report.as_json(policy)}, indent=2)
        return
    _say(f"ok: {_name(policy) or 'no policy file; variables and defaults'}")
    for line in policy_report.summary(policy):
        _say(line)
    for note in notes:
        _say(f"note: {note}")


def _show_problems(problems: tuple[str, ...], *, as_json: bool) -> None:
    if as_json:
        write_json({"ok": False, "problems": list(problems)}, indent=2)
        return
    for problem in problems:
        _say(problem)
    _say(f"{len(problems)} {'problem' if len(problems) == 1 else 'problems'}")


@budgets_app.command("explain")
def explain(
    file: File = None,
    agent: Annotated[str, typer.Option(help="Of this agent.")] = "",
    feature: Annotated[str, typer.Option(help="For this feature.")] = "",
    user: Annotated[str, typer.Option(help="Started by this user.")] = "",
    team: Annotated[str, typer.Option(help="Paid by this team.")] = "",
    organization: Annotated[str, typer.Option(help="Paid by this organization.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Show which limits hold for an execution, where each is written, and what happens when it is reached."""
    policy = Policy.load(file)
    who = {"agent": agent, "feature": feature, "user": user, "team": team, "organization": organization}
    rules = policy_report.explain(policy, **who)
    limits = policy.limits_for(agent=agent, feature=feature)
    suggestion = None if limits.is_limited else NO_LIMIT_ADVICE
    if as_json:
        write_json(
            {
                "file": _name(policy),
                "mode": policy.guard.mode,
                "execution": who,
                "rules": [rule._asdict() for rule in rules],
                "suggestion": suggestion,
            },
            indent=2,
        )
        return
    _say(
        f"policy: {_name(policy) or 'no file'}, guard: {policy.guard.mode} ({policy.origin('guard', 'mode')})"
    )
    print_table(out, RULE_COLUMNS, rules)
    if suggestion:
        _say(suggestion)


@budgets_app.command("status")
def status(
    level: Annotated[
        str, typer.Option(help="Only user, team or organization budgets.", show_default=False)
    ] = "",
    at: Annotated[
        str, typer.Option(help="As of the end of 2026-01-31, or of a time, UTC.", show_default="now")
    ] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Lines at most.")] = 100,
    as_json: JsonOption = False,
    store: StoreOption = None,
) -> None:
    """Show what is used of each budget above executions, where it leads, and when it is exhausted.

    The budgets are those that `migrate`, `up` or `import` last brought into the store. Spending is counted by
    whole hours: `--at` a time, to the end of its hour, a date, to its end on each organization's clock.
    """
    from otel_cost.cli import reports
    from otel_cost.store.period import parse_since

    if level not in ("", *(each[0] for each in LEVELS)):
        raise ConfigError(f"--level {level!r} is none of user, team and organization")
    moment = parse_since(at, option="--at") if at else datetime.now(tz=timezone.utc)
    with reports.open_migrated(store) as opened:
        result = opened.query("budget_status", at=moment, is_day=_is_date(at), level=level, limit=limit)
    if as_json:
        reports.write_json(result.dicts())
    elif result.rows:
        reports.show_rows(result, STATUS_COLUMNS)
    else:
        _say("no budget above executions holds for anybody; see budgets in the policy")


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _name(policy: Policy) -> str | None:
    return str(policy.path) if policy.path else None


def _say(line: str) -> None:
    out.print(plain(line))

"""What an application asks its guard: what is left to spend, and to let an execution go on."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from otel_cost.errors import ConfigError
from otel_cost.guard import clients
from otel_cost.guard.ladder import standing
from otel_cost.guard.records import usd
from otel_cost.money import to_picousd


class Spending(NamedTuple):
    """How the budget of an execution stands, in USD.

    Attributes:
        scope: What the limit applies to: the execution's own budget, or one around it that more is spent of.
        limit_usd: None: nothing limits it.
        reserved_usd: What calls in flight hold.
    """

    execution_id: str
    scope: str
    limit_usd: Decimal | None
    spent_usd: Decimal
    reserved_usd: Decimal

    @property
    def remaining_usd(self) -> Decimal | None:
        """What a further call may cost; None without a limit, never below 0."""
        if self.limit_usd is None:
            return None
        return max(Decimal(0), self.limit_usd - self.spent_usd - self.reserved_usd)


def spending() -> Spending | None:
    """Return how the budget stands that a model call made here would spend; None where no guard is in force.

    Costs microseconds, so that a tool may ask before it begins something dear.
    """
    guard = clients.current()
    budget = guard.budget_around() if guard else None
    if guard is None or budget is None:
        return None
    scope, (limit, settled, reserved) = standing(guard.ledger, budget)
    limit_usd = None if limit is None else usd(limit)
    return Spending(budget.execution_id, scope, limit_usd, usd(settled), usd(reserved))


def remaining() -> Decimal | None:
    """Return how many USD the current execution has left; None where nothing limits it."""
    here = spending()
    return here.remaining_usd if here else None


def approve(execution_id: str, *, budget_usd: Decimal | str | float) -> None:
    """Let a live execution go on with a new budget, from any thread of the process that runs it.

    What it spent still counts. That it was refused, or ended by a detector, is forgotten; its next call is
    decided anew.

    Args:
        execution_id: As `BudgetExceeded` names it; for a budget within an execution, its scope without
            `execution:`.
        budget_usd: What it may spend in all, in USD.

    Raises:
        ConfigError: The budget is not an amount of USD, no guard is in force in this process, or it has not
            seen this execution.
    """
    limit_picousd = budget_picousd(budget_usd)
    guard = clients.current()
    if guard is None:
        raise ConfigError("no guard is in force in this process, so there is nothing to approve; set a limit")
    guard.approve(execution_id.removeprefix("execution:"), limit_picousd)


def budget_picousd(budget_usd: Decimal | str | float) -> int:
    """Return an amount that somebody typed in pico-USD.

    Raises:
        ConfigError: It is none.
    """
    try:
        picousd = to_picousd(Decimal(str(budget_usd)))
    except (ArithmeticError, ValueError):
        picousd = -1
    if picousd < 0:
        raise ConfigError(f"budget_usd={budget_usd!r} is not an amount of USD; write 10 or '0.50'")
    return picousd

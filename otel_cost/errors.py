"""Every error otel_cost raises on purpose.

OtelCostError
├── ConfigError            a setting, policy or price file that cannot be used
├── UsageError             usage no provider could have meant
├── UnknownModelError      no price entry matches: unpriced, which is not free
├── ResponseCutError       a limit was reached while a response was being sent
├── StoreError             the store refused or could not be reached
│   └── StoreBusyError     another process owns the embedded store
└── IngestError            telemetry that cannot be accepted
    ├── MalformedError     it will never be accepted: do not retry
    └── BackpressureError  not now: retry after `retry_after_s`

BudgetExceeded             a limit is reached; a BaseException, because agents retry and swallow the others
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any

Reduced = tuple[Callable[..., BaseException], tuple[Any, ...], dict[str, Any]]


def _remade(kind: type[BaseException], args: tuple[object, ...]) -> BaseException:
    """Return an error without asking for what its message was made of: the fields follow as they were."""
    return kind.__new__(kind, *args)


class OtelCostError(Exception):
    """Base of every error this package raises on purpose."""

    def __reduce__(self) -> Reduced:
        """Go to another process, or into a copy, with every field."""
        return _remade, (type(self), self.args), self.__dict__


class ConfigError(OtelCostError):
    """A setting, policy or price file cannot be used.

    Attributes:
        problems: Every problem found, each naming the variable or file:line, the value and the remedy.
    """

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class UsageError(OtelCostError):
    """Usage that no provider could have meant: negative, not a whole number, or a part above its total."""


class UnknownModelError(OtelCostError):
    """No price entry matches the model. The call is unpriced, which is not the same as free."""

    def __init__(self, model: str, provider: str | None) -> None:
        self.model = model
        self.provider = provider
        where = f" of provider {provider!r}" if provider else ""
        super().__init__(
            f"no price is known for model {model!r}{where}; "
            "add it to a price file and name that file in OTEL_COST_PRICES"
        )


class StoreError(OtelCostError):
    """The store refused a statement or could not be reached."""


class StoreBusyError(StoreError):
    """Another process owns the embedded store."""


class IngestError(OtelCostError):
    """Telemetry that cannot be accepted."""


class MalformedError(IngestError):
    """Telemetry that will never be accepted: the sender must not retry."""


class BackpressureError(IngestError):
    """The queue is full: the sender may retry.

    Attributes:
        retry_after_s: How long to wait, in seconds.
    """

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


class BudgetExceeded(BaseException):
    """A limit is reached: the request was not sent, and the agent should end.

    Derived from `BaseException`: clients retry an `Exception`, frameworks wrap it and agents catch it, so
    that the loop it should end goes on.

    Attributes:
        execution_id: The agent run.
        kind: `budget_usd`, another limit (`max_model_calls`), a detector (`retry_storm`), `unpriced` or
            `guard_failed`.
        scope: What the limit applies to: `execution:<id>`.
        limit_usd: The budget; None where another limit was reached and there is none.
        spent_usd: What was spent within it.
        reserved_usd: What calls in flight hold of it.
        asked_usd: What the refused request could cost.
        request: The refused request: method, host, path and model.
        model: Its model; empty where the request names none.
        reason: Why, as a sentence without advice and without anything of a prompt.
        last_calls: The last calls of the execution and what they cost, newest last.
        retry_after_s: When there is room again, for a limit over a time that ends; None for any other.
        top_components: What spent most in the execution and how much exactly, dearest first: agent, component
            and model as far as they are known, and `others` for the rest.
    """

    generations: tuple[()] = ()
    llm_output: None = None
    """LangChain reads these two of every result that is not an `Exception`, ours too, before it raises it."""

    def __init__(
        self,
        why: str = "",
        *,
        execution_id: str,
        request: str,
        kind: str = "budget_usd",
        scope: str = "",
        limit_usd: Decimal | None = None,
        spent_usd: Decimal = Decimal(0),
        reserved_usd: Decimal = Decimal(0),
        asked_usd: Decimal = Decimal(0),
        model: str = "",
        last_calls: Sequence[str] = (),
        top_components: Sequence[str] = (),
        retry_after_s: float | None = None,
    ) -> None:
        self.execution_id = execution_id
        self.kind = kind
        self.scope = scope or f"execution:{execution_id}"
        self.limit_usd = limit_usd
        self.spent_usd = spent_usd
        self.reserved_usd = reserved_usd
        self.asked_usd = asked_usd
        self.request = request
        self.model = model
        self.last_calls = tuple(last_calls)
        self.top_components = tuple(top_components)
        self.retry_after_s = retry_after_s
        self.reason = f"execution {execution_id}: {why}" if why else self._explain_budget()
        super().__init__(self._explain(why))

    def __reduce__(self) -> Reduced:
        """Go to another process, or into a copy, with every field."""
        return _remade, (type(self), self.args), self.__dict__

    def _explain(self, why: str) -> str:
        told = [self.reason, f"{self.request} was not sent"]
        if why:
            told.append(f"{_money(self.spent_usd)} is spent")
        if self.last_calls:
            told.append(f"last calls: {', '.join(self.last_calls)}")
        if self.top_components:
            told.append(f"spent most: {', '.join(self.top_components)}")
        remedy = _REMEDIES.get(self.kind, _OTHER_REMEDY)
        scope = self.scope.removeprefix("execution:")
        told.append(f"to allow more, {remedy.format(kind=self.kind, scope=scope)}")
        return "; ".join(told)

    def _explain_budget(self) -> str:
        return (
            f"execution {self.execution_id} may spend {_money(self.limit_usd or Decimal(0))} ({self.scope}): "
            f"{_money(self.spent_usd)} is spent, {_money(self.reserved_usd)} is held by calls in flight, and "
            f"this call may cost {_money(self.asked_usd)}"
        )


class ResponseCutError(OtelCostError):
    """A limit was reached while a response was being sent, which the server has to break off.

    Attributes:
        exceeded: The refusal.
    """

    def __init__(self, exceeded: BudgetExceeded) -> None:
        self.exceeded = exceeded
        super().__init__(f"the response that had begun is cut: {exceeded.reason}")


_REMEDIES = {
    "budget_usd": "raise OTEL_COST_BUDGET_USD or the budget_usd of execution(...), or for this run "
    "call otel_cost.approve({scope!r}, budget_usd=...)",
    "unpriced": "add the model to a price file (OTEL_COST_PRICES), or set OTEL_COST_GUARD_UNPRICED=estimate",
    "guard_failed": "look at the log for what failed, or set OTEL_COST_GUARD_ON_FAILURE=allow",
}
_OTHER_REMEDY = "change {kind} in the policy (otel-cost budgets explain shows where it is set)"


def _money(usd: Decimal) -> str:
    """Return an amount to read: cents, or as many digits as a smaller one needs."""
    return f"${usd:.2f}" if usd >= 1 or not usd else f"${usd:.3g}" if usd < Decimal("0.01") else f"${usd:.4f}"

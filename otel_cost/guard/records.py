"""What a guard tells and remembers of executions: events on spans, log lines, what a report needs."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict, defaultdict, deque
from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from otel_cost import attributes as names
from otel_cost.attribution import Budget
from otel_cost.budgets import ENFORCE, SHADOW
from otel_cost.containment import contained
from otel_cost.detectors import LIMIT, Finding
from otel_cost.errors import BudgetExceeded
from otel_cost.guard.calls import ModelCall
from otel_cost.guard.decisions import tell_refusal, tell_step
from otel_cost.guard.spenders import Spenders
from otel_cost.ledger import Balance, Refusal
from otel_cost.money import PICO, usd_text

if TYPE_CHECKING:
    from otel_cost.guard.ladder import Way

logger = logging.getLogger("otel_cost")

LAST_CALLS = 5
MAX_NOTED = 4_096
"""Executions of which something is remembered for a report."""

T = TypeVar("T")


_MESSAGES = {
    names.DOWNGRADED: f"%(scope)s: %({names.DOWNGRADED_TO})s is asked instead of %({names.DOWNGRADED_FROM})s",
    names.CLAMPED: f"%(scope)s has %({names.CLAMPED_OUTPUT_TOKENS})s output tokens left for its next answer",
    names.WRAP_UP: "%(scope)s has one more call, to sum up",
}
"""What is logged of each decision, once an execution and model."""


class Records:
    """Tells what was decided, and remembers what must not be told twice. Safe under threads.

    Args:
        mode: Of the guard; `shadow` writes no warnings.
    """

    def __init__(self, mode: str) -> None:
        self._mode = mode
        self._last_calls: OrderedDict[str, deque[tuple[str, int]]] = OrderedDict()
        self._refused: OrderedDict[str, int] = OrderedDict()
        self._warned: OrderedDict[str, None] = OrderedDict()
        self._doomed: OrderedDict[str, Finding] = OrderedDict()
        self._last_call_of: OrderedDict[str, None] = OrderedDict()
        self._spenders = Spenders()
        self.renew_lock()

    def renew_lock(self) -> None:
        """Take a new lock: in a forked child the old one may belong to a thread that it has not."""
        self._lock = threading.RLock()

    def doom(self, execution_id: str, finding: Finding) -> None:
        """Remember that an execution ends with its next call."""
        with self._lock:
            _put(self._doomed, execution_id, finding)

    def doom_of(self, execution_id: str) -> Finding | None:
        """Return why an execution ends with its next call; None where it goes on."""
        return self._doomed.get(execution_id)

    def had_last_call(self, scope: str) -> bool:
        """Whether a scope has had its last call, so that none follows."""
        return scope in self._last_call_of

    def begin_last_call(self, scope: str) -> bool:
        """Note the last call of a scope. Returns whether it is the first to be."""
        with self._lock:
            is_first = scope not in self._last_call_of
            _put(self._last_call_of, scope, None)
            return is_first

    def take_back_last_call(self, scope: str) -> None:
        """Forget a last call that was not sent, or that nothing was billed for."""
        with self._lock:
            self._last_call_of.pop(scope, None)

    def forgive(self, execution_id: str, scope: str) -> None:
        """Forget that an execution, or a budget within it, was to end; and tell anew what is told once."""
        with self._lock:
            self._refused.pop(execution_id, None)
            self._doomed.pop(execution_id, None)
            self._warned.pop(scope, None)
            self._last_call_of.pop(scope, None)

    def warn_once(self, about: str, message: str, *args: object) -> bool:
        """Log a warning the first time it is about this. Returns whether it is the first time."""
        with self._lock:
            if about in self._warned:
                return False
            _put(self._warned, about, None)
        if self._mode != SHADOW:
            logger.warning(message, *args)
        return True

    def note_call(self, execution_id: str, name: str, spender: str, cost_picousd: int) -> None:
        """Remember a call for the report of a refusal."""
        if not cost_picousd:
            return
        with self._lock:
            self._spenders.add(execution_id, spender, cost_picousd)
            calls = self._last_calls.get(execution_id) or deque(maxlen=LAST_CALLS)
            calls.append((name, cost_picousd))
            _put(self._last_calls, execution_id, calls)

    def refuse(self, exceeded: BudgetExceeded) -> int:
        """Tell of a refused call; the first of an execution is a warning. Returns how many there were."""
        refused = self._count_refusal(exceeded.execution_id)
        is_news = refused == 1 and self._mode != SHADOW
        logger.log(logging.WARNING if is_news else logging.DEBUG, "%s", exceeded)
        with contained("record a refusal"):
            tell_refusal(exceeded, self._mode, number=refused)
        return refused

    def decided(
        self,
        name: str,
        execution_id: str,
        scope: str,
        balance: Balance,
        asked: Way | None = None,
        *,
        shown: Mapping[str, str | int] = MappingProxyType({}),
    ) -> None:
        """Tell what was decided about a call, on a span and, what an operator should know, in the log.

        Args:
            name: One of `attributes.DECISIONS`.
            asked: The call as the application asked for it.
            shown: What was changed, which the span of the call shows too where it was done.
        """
        with contained("record a decision"):
            limit, settled, reserved = balance
            amounts = {
                names.DECISION_LIMIT_USD: limit,
                names.DECISION_SPENT_USD: settled,
                names.DECISION_RESERVED_USD: reserved,
                names.DECISION_ASKED_USD: asked.cost_picousd if asked else None,
            }
            told = {
                names.DECISION_KIND: "budget_usd",
                names.DECISION_MODE: self._mode,
                names.EXECUTION_ID[0]: execution_id,
                names.DECISION_SCOPE: scope,
                names.DECISION_MODEL: asked.call.model if asked else "",
                names.DECISION_REASON: _reason(name, scope, balance, shown),
                **{name: usd_text(amount) for name, amount in amounts.items() if amount is not None},
                **{name: str(value) for name, value in shown.items()},
            }
            tell_step(name, told, shown if self._mode == ENFORCE else {})
        if (message := _MESSAGES.get(name)) and asked is not None:
            about = f"{scope} {name} {asked.call.model}"
            self.warn_once(about, message, {"scope": scope, **shown})

    def explain(
        self,
        call: ModelCall,
        budget: Budget,
        balance: Balance,
        refusal: Refusal | None,
        finding: Finding | None,
    ) -> BudgetExceeded:
        """Return the error that says why a call is refused, and how its budget stands."""
        limit = balance.limit_picousd
        return BudgetExceeded(
            finding.message if finding else "",
            execution_id=budget.execution_id,
            kind=finding.kind.removeprefix(LIMIT) if finding else "budget_usd",
            scope=refusal.scope if refusal else budget.scope,
            limit_usd=None if limit is None else usd(limit),
            spent_usd=usd(balance.settled_picousd),
            reserved_usd=usd(balance.reserved_picousd),
            asked_usd=usd(refusal.asked_picousd) if refusal else Decimal(0),
            request=f"{call.target} ({call.model})" if call.model else call.target,
            model=call.model,
            last_calls=tuple(
                f"{name} ${usd(picousd):.6f}"
                for name, picousd in tuple(self._last_calls.get(budget.execution_id, ()))
            ),
            top_components=self._spenders.top(budget.execution_id),
        )

    def _count_refusal(self, execution_id: str) -> int:
        """An agent that goes on in spite of refusals would fill the log with what it already says."""
        with self._lock:
            refused = self._refused.get(execution_id, 0) + 1
            _put(self._refused, execution_id, refused)
            return refused


def _reason(name: str, scope: str, balance: Balance, shown: Mapping[str, str | int]) -> str:
    """Return why a step was taken, as a sentence."""
    limit, settled, _ = balance
    spent = f"{scope} has spent ${usd(settled):f}"
    spent += "" if limit is None else f" of ${usd(limit):f}"
    if name not in _MESSAGES:
        return spent
    return f"{spent}; {_MESSAGES[name] % defaultdict(lambda: '?', shown, scope=scope)}"


def _put(memory: OrderedDict[str, T], name: str, value: T) -> None:
    memory[name] = value
    if len(memory) > MAX_NOTED:
        memory.popitem(last=False)


def usd(picousd: int) -> Decimal:
    """Return an amount in USD, exactly."""
    return Decimal(picousd) / PICO

"""The guard: refuses a model call that does not fit its execution's budget, before it is sent.

`admit` holds the most a call can cost and returns a ticket; whoever sends the request settles the ticket with
what came of it, on every way out.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Generator
from decimal import Decimal
from typing import NamedTuple

from opentelemetry import trace

from otel_cost.attribution import Budget, budget_of_context, payer_of_context
from otel_cost.containment import contained
from otel_cost.errors import BudgetExceeded, UnknownModelError
from otel_cost.guard.answers import Answer
from otel_cost.guard.bounds import Bound, Bounds
from otel_cost.guard.calls import EMBEDDINGS, ModelCall
from otel_cost.ledger import Hold, Ledger, Refusal
from otel_cost.money import PICO
from otel_cost.pricing import PriceBook
from otel_cost.process import root_execution_id
from otel_cost.usage import Usage

logger = logging.getLogger("otel_cost")

OFF, SHADOW, WARN, ENFORCE = "off", "shadow", "warn", "enforce"
STRICT, ESTIMATE = "strict", "estimate"

WAIT_S = 60.0
"""How long a call waits for others to give back what they hold too much, before it is refused."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.002, 0.05
LAST_CALLS = 5
MAX_NOTED = 4_096
"""Executions whose last calls are remembered."""
UNKNOWN_INPUT_USD_PER_MTOK, UNKNOWN_OUTPUT_USD_PER_MTOK = 15, 75
"""What a model without a price is taken to cost: the dearest that is widely used, Claude Opus 4.1
(https://claude.com/pricing, 2026-11). A guess, marked as one; unknown is not free."""
BYTES_PER_OUTPUT_TOKEN = 4
"""Of text, where an answer ends before it says what it used."""


class Limits(NamedTuple):
    """What the guard holds executions to.

    Attributes:
        mode: `off`, `shadow` (only note what would have been refused), `warn` (and say so), `enforce`.
        execution_picousd: What one execution may spend; None: nothing limits it.
        bound: `strict`: a call holds the most it can cost; `estimate`: what it will hardly pass.
    """

    mode: str = ENFORCE
    execution_picousd: int | None = None
    bound: str = STRICT


class Ticket:
    """One admitted call. Exactly one of its methods counts, the first that is called."""

    __slots__ = ("_guard", "budget", "call", "hold", "is_closed", "likely_picousd")

    def __init__(
        self, guard: Guard, call: ModelCall, budget: Budget, hold: Hold | None, likely_picousd: int
    ) -> None:
        self._guard, self.call, self.budget, self.hold = guard, call, budget, hold
        self.likely_picousd = likely_picousd
        self.is_closed = False

    def answered(self, answer: Answer) -> None:
        """Settle with what the provider says it used, or an estimate where it does not say."""
        cost_picousd = self.likely_picousd
        with contained("price an answer"):
            cost_picousd = self._guard.cost(self.call, answer)
        self._settle(cost_picousd)

    def refused(self) -> None:
        """Nothing was billed: the request never left, or the provider answered with an error."""
        self._settle(0)

    def lost(self) -> None:
        """The request left and no answer came: the provider may bill for it, so an estimate counts."""
        self._settle(self.likely_picousd)

    def _settle(self, cost_picousd: int) -> None:
        with contained("settle a call"):
            if self._guard.settle(self, cost_picousd) and cost_picousd:
                self._guard.note(self, cost_picousd)


class Guard:
    """Decides about calls. Safe under threads, asyncio and fork.

    Args:
        limits: What executions are held to.
        ledger: Where money is held and counted.
        book: Prices.
        root: Gives the execution of a call made outside of any span, such as a script's own; None without.

    Attributes:
        refusals: Calls refused, or in the modes `shadow` and `warn` those that would have been.
    """

    def __init__(
        self,
        limits: Limits,
        ledger: Ledger,
        book: PriceBook,
        *,
        root: Callable[[], str | None] = root_execution_id,
        wait_s: float = WAIT_S,
    ) -> None:
        self.limits, self.ledger, self.book = limits, ledger, book
        self.bounds = Bounds()
        self.refusals = 0
        self._root, self._wait_s = root, wait_s
        self._last_calls: OrderedDict[str, deque[str]] = OrderedDict()
        self._refused: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    def admit(self, call: ModelCall) -> Ticket:
        """Hold what a call may cost, waiting while calls in flight hold what it needs.

        Raises:
            BudgetExceeded: It does not fit, whatever these give back.
        """
        attempts = self._attempts(call)
        while True:
            try:
                time.sleep(next(attempts))
            except StopIteration as done:  # noqa: PERF203 (how a generator returns)
                return _ticket(done)

    async def admit_async(self, call: ModelCall, sleep: Callable[[float], Awaitable[None]]) -> Ticket:
        """As `admit`, without blocking the event loop, which `sleep` belongs to."""
        attempts = self._attempts(call)
        while True:
            try:
                await sleep(next(attempts))
            except StopIteration as done:  # noqa: PERF203 (how a generator returns)
                return _ticket(done)

    def cost(self, call: ModelCall, answer: Answer) -> int:
        """Return what an answered call cost in pico-USD, by its usage or else by its text."""
        usage = answer.usage_of(call.api.name == EMBEDDINGS)
        if usage is not None:
            self.bounds.learn(call, *usage.totals)
            return self._price(call, usage, answer.model, answer.service_tier)
        bound = self.bounds.likely(call)
        written = -(-answer.output_bytes // BYTES_PER_OUTPUT_TOKEN)
        known = answer.input_usage or Usage(input_tokens=bound.input_tokens)
        return self._price(call, known._replace(output_tokens=written), answer.model, answer.service_tier)

    def settle(self, ticket: Ticket, cost_picousd: int) -> bool:
        """Count what a call cost, once. Returns False when it was counted before."""
        if ticket.hold is not None:
            return self.ledger.settle(ticket.hold, cost_picousd)
        with self._lock:
            if ticket.is_closed:
                return False
            ticket.is_closed = True
        self.ledger.spend(ticket.budget.scope, cost_picousd)
        return True

    def note(self, ticket: Ticket, cost_picousd: int) -> None:
        """Remember a call for the report of a refusal."""
        with self._lock:
            calls = self._last_calls.setdefault(ticket.budget.execution_id, deque(maxlen=LAST_CALLS))
            calls.append(f"{ticket.call.model or ticket.call.target} ${Decimal(cost_picousd) / PICO:.6f}")
            if len(self._last_calls) > MAX_NOTED:
                self._last_calls.popitem(last=False)

    def _attempts(self, call: ModelCall) -> Generator[float, None, Ticket]:
        """Yield how long to wait before each further attempt; return the ticket."""
        budget = self._open(budget_of_context() or self._budget_of_span())
        worst, likely = (
            self._price_bound(call, self.bounds.worst(call)),
            self._price_bound(call, self.bounds.likely(call)),
        )
        asked = worst if self.limits.bound == STRICT else likely
        deadline, pause_s = time.monotonic() + self._wait_s, FIRST_PAUSE_S
        while True:
            answer = self.ledger.reserve(budget.scope, asked, owner=call.target)
            if isinstance(answer, Hold):
                return Ticket(self, call, budget, answer, min(likely, asked))
            if not _may_fit(answer) or time.monotonic() > deadline:
                self._refuse(call, budget, answer)
                return Ticket(self, call, budget, None, likely)
            if self.limits.mode != ENFORCE:
                return Ticket(self, call, budget, None, likely)
            yield pause_s
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _open(self, budget: Budget) -> Budget:
        """Begin a budget and those around it, with what an execution gets where nothing else is said."""
        default = self.limits.execution_picousd
        if budget.within:
            self.ledger.open(budget.within, default)
        limit = default if budget.limit_picousd is None else budget.limit_picousd
        self.ledger.open(budget.scope, limit, budget.within)
        return budget

    def _budget_of_span(self) -> Budget:
        """Return what a call outside of `execution(...)` spends: its trace, else the script."""
        execution_id = payer_of_context().execution_id
        if not execution_id:
            current = trace.get_current_span().get_span_context()
            execution_id = f"{current.trace_id:032x}" if current.is_valid else self._root() or ""
        execution_id = execution_id or uuid.uuid4().hex  # a call of nobody's is an execution of its own
        return Budget(execution_id, f"execution:{execution_id}")

    def _refuse(self, call: ModelCall, budget: Budget, refusal: Refusal) -> None:
        self.refusals += 1
        exceeded = self._explain(call, budget, refusal)
        first = self._is_first_refusal(budget.execution_id)
        logger.log(logging.WARNING if first and self.limits.mode != SHADOW else logging.DEBUG, "%s", exceeded)
        if self.limits.mode == ENFORCE:
            raise exceeded

    def _is_first_refusal(self, execution_id: str) -> bool:
        """An agent that goes on in spite of it would fill the log with what it already says."""
        with self._lock:
            known = execution_id in self._refused
            self._refused[execution_id] = None
            if len(self._refused) > MAX_NOTED:
                self._refused.popitem(last=False)
        return not known

    def _explain(self, call: ModelCall, budget: Budget, refusal: Refusal) -> BudgetExceeded:
        balance = refusal.balance
        return BudgetExceeded(
            execution_id=budget.execution_id,
            scope=refusal.scope,
            limit_usd=_usd(balance.limit_picousd or 0),
            spent_usd=_usd(balance.settled_picousd),
            reserved_usd=_usd(balance.reserved_picousd),
            asked_usd=_usd(refusal.asked_picousd),
            request=f"{call.target} ({call.model})" if call.model else call.target,
            last_calls=tuple(self._last_calls.get(budget.execution_id, ())),
        )

    def _price_bound(self, call: ModelCall, bound: Bound) -> int:
        """Return the most that tokens cost: input may all be written to a cache, which costs more."""
        output = bound.output_tokens
        usages = [Usage(input_tokens=bound.input_tokens, output_tokens=output)]
        if call.writes_cache:
            usages.append(Usage(cache_write_1h_tokens=bound.input_tokens, output_tokens=output))
            usages.append(Usage(cache_write_tokens=bound.input_tokens, output_tokens=output))
        return max(self._price(call, usage) for usage in usages)

    def _price(self, call: ModelCall, usage: Usage, model: str = "", service_tier: str = "") -> int:
        tier = service_tier or call.service_tier or None
        for name in (model, call.model):
            try:
                priced = self.book.price(
                    usage, model=name, provider=call.provider or None, at=time.time_ns(), service_tier=tier
                )
            except UnknownModelError:
                continue
            if priced.cost_picousd is not None:
                return priced.cost_picousd
        inputs, outputs = usage.totals
        per_token = PICO // 10**6
        return per_token * (inputs * UNKNOWN_INPUT_USD_PER_MTOK + outputs * UNKNOWN_OUTPUT_USD_PER_MTOK)


def _may_fit(refusal: Refusal) -> bool:
    """Whether a refused call fits once the calls in flight give back what they hold."""
    balance = refusal.balance
    return balance.settled_picousd + refusal.asked_picousd <= (balance.limit_picousd or 0)


def _ticket(done: StopIteration) -> Ticket:
    ticket: Ticket = done.value
    return ticket


def _usd(picousd: int) -> Decimal:
    return Decimal(picousd) / PICO


def default_guard() -> Guard:
    """Return a guard with the settings of the environment, a ledger in memory and the catalogue's prices."""
    from otel_cost.config import Config
    from otel_cost.ledger.memory import MemoryLedger

    return Guard(Limits(), MemoryLedger(), PriceBook.load(Config.load().prices))

"""The guard: refuses a model call that its execution's limits have no room for, before it is sent.

`admit` holds the most a call can cost and returns a ticket; whoever sends the request settles the ticket with
what came of it, on every way out.
"""

from __future__ import annotations

import _thread
import logging
import os
import signal
import time
import uuid
import weakref
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping
from functools import partial
from typing import NamedTuple, TypeVar

from opentelemetry import context, trace
from opentelemetry.context import Context

from otel_cost import attributes as names
from otel_cost.attribution import (
    Budget,
    Payer,
    budget_of_context,
    implied_budget,
    payer_of_context,
    payer_of_environment,
)
from otel_cost.budgets import (
    ALLOW,
    DENY,
    ENFORCE,
    KILL,
    OFF,
    SHADOW,
    STRICT,
    ExecutionLimits,
    Policy,
    match,
)
from otel_cost.containment import contained, count, elsewhere
from otel_cost.detectors import LIMIT, Exchange, Finding, ModelCallOutcome, Step, Watch, Watches, thresholds
from otel_cost.errors import BudgetExceeded, ConfigError, UnknownModelError
from otel_cost.guard.answers import Answer
from otel_cost.guard.bounds import Bound, Bounds, asks_to_think, thinks
from otel_cost.guard.calls import EMBEDDINGS, MEDIA, ModelCall, unseen
from otel_cost.guard.decisions import tell_refusal
from otel_cost.guard.in_flight import OWN_WAIT_S, InFlight, Reader
from otel_cost.guard.ladder import Ladder, Way, changed, is_reached, may_fit, standing
from otel_cost.guard.media import output_kinds
from otel_cost.guard.records import MAX_NOTED, Records, usd
from otel_cost.guard.rewrites import Change
from otel_cost.guard.spans import Unmetered
from otel_cost.guard.spenders import spender
from otel_cost.guard.steps import read_step
from otel_cost.guard.untold import NOTHING as NOTHING_UNTOLD
from otel_cost.guard.untold import bill_of, tier_of, untold
from otel_cost.ledger import Balance, Busy, Hold, Ledger, Refusal, Tally
from otel_cost.money import PICO, to_picousd
from otel_cost.policy_values import EVERYONE
from otel_cost.pricing import PriceBook, process_book
from otel_cost.process import root_execution_id, watch_for_servers
from otel_cost.usage import MODEL, Usage, classify, in_place

logger = logging.getLogger("otel_cost")

T = TypeVar("T")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.002, 0.05
LONGEST_TURN_S = 0.5
"""Longest pause before a ledger is asked again that other processes use: asking takes 0.2 s of it."""
UNKNOWN_INPUT_USD_PER_MTOK, UNKNOWN_OUTPUT_USD_PER_MTOK = 15, 75
"""What a model without a price is taken to cost: the dearest that is widely used, Claude Opus 4.1
(https://claude.com/pricing, 2026-11). A guess, marked as one; unknown is not free."""
WRITES_ON = frozenset({"aws"})
"""Providers that finish, and bill, an answer whose stream was closed; measured for Bedrock:
https://github.com/BerriAI/litellm/pull/36008."""
MORE_TOKENS = 256
"""Least that is held at once for a stream that goes on."""
NOBODYS = (
    "a model call belongs to no execution, so that the limits hold for each such call by itself; put what is "
    "one run into `with otel_cost.execution(...)`, or instrument the server, so that each request is a trace"
)


class Cost(NamedTuple):
    """What an answered call cost, by its usage or, where it does not say, an estimate.

    Attributes:
        untold: What the span of the call has no way to know of what was used, as attributes.
    """

    picousd: int
    input_tokens: int = 0
    output_tokens: int = 0
    untold: Mapping[str, str | int] = NOTHING_UNTOLD


class Ticket:
    """One admitted call. Exactly one of its methods counts, the first that is called.

    Attributes:
        held_tokens: Output tokens that are paid for by what is held.
        spender: What the call is booked under in the report of a refusal.
        change: What must be sent instead of what the application gave; None: nothing else.
        is_last: No call of its budget follows.
        reader: Who sent it, or read of its answer last.
    """

    __slots__ = (
        "__weakref__",
        "_guard",
        "_is_closed",
        "_more",
        "budget",
        "call",
        "change",
        "conversation",
        "held_tokens",
        "hold",
        "is_last",
        "metered",
        "reader",
        "span",
        "spender",
    )

    def __init__(
        self,
        guard: Guard,
        call: ModelCall,
        budget: Budget,
        hold: Hold | None,
        *,
        held_tokens: int = 0,
        conversation: int = 0,
        spender: str = "",
        change: Change | None = None,
        is_last: bool = False,
    ) -> None:
        self._guard, self.call, self.budget, self.hold = guard, call, budget, hold
        self.change, self.is_last = change, is_last
        self.held_tokens, self.conversation, self.spender = held_tokens, conversation, spender
        self.span = trace.get_current_span()
        self._more: list[Hold] = []
        self._is_closed = False
        self.reader = Reader.here()
        guard.in_flight.add(self)
        self.metered = guard.unmetered.admitted(budget, call.model, self.span)

    def keep_up(self, answer: Answer) -> None:
        """Hold more for an answer that is longer than what was held for it.

        Raises:
            BudgetExceeded: There is no more. What was written so far is settled; the stream must be closed.
        """
        self.reader = Reader.here()
        if answer.output_bytes <= self.held_tokens or self.hold is None:
            return  # a token has a byte at least
        refusal = None
        with contained("hold more for a stream"):
            refusal = self._guard.hold_more(self, answer, self._more)
        if refusal is not None:
            self.answered(answer)
            self._guard.cut(self, refusal)

    def answered(self, answer: Answer) -> None:
        """Settle with what the provider says it used, or an estimate where it does not say."""
        try:
            cost = self._guard.cost(self, answer)
        except Exception as error:
            count("price an answer", error)
            cost = self._likely()
        self._settle(cost)

    def refused(self) -> None:
        """Nothing was billed: the request never left, or the provider answered with an error."""
        self._settle(Cost(0), is_failed=True)

    def lost(self) -> None:
        """The request left and no answer came: the provider may bill for it, so an estimate counts."""
        self._settle(self._likely(), is_failed=True)

    def cannot_change(self, error: Exception) -> None:
        """Let a call pass as it was asked for, or do what the policy says of a guard that failed.

        Raises:
            BudgetExceeded: The policy says `deny`.
        """
        self.change = None
        try:
            self._guard.failed(self.call, error)
        except BudgetExceeded:
            self.refused()
            raise

    def _likely(self) -> Cost:
        """What counts when nobody says: what such calls usually cost, and never more than is held."""
        held = self.hold.amount_picousd if self.hold else 0
        try:
            likely = self._guard.likely_cost(self)
        except Exception as error:
            count("estimate a call", error)
            return Cost(held)
        return Cost(min(likely, held) if self.hold else likely)

    def close(self) -> bool:
        """Return whether this is the first to close it, for a ticket without a hold, which knows itself."""
        was_closed, self._is_closed = self._is_closed, True
        return not was_closed

    def holds(self) -> list[Hold]:
        """Return what is held for it."""
        return [*([self.hold] if self.hold else []), *self._more]

    def _settle(self, cost: Cost, *, is_failed: bool = False) -> None:
        self._guard.in_flight.discard(self)
        try:
            self._guard.settle(self, cost, is_failed=is_failed)
        except Exception as error:
            count("settle a call", error)
        while self._more:
            with contained("give back what a stream held"):
                self._guard.ledger.release(self._more.pop())


class Guard:
    """Decides about calls. Safe under threads, asyncio and fork.

    Args:
        policy: What executions are held to.
        ledger: Where money is held and counted.
        book: Prices.
        root: Gives the execution of a call that nothing is around, such as a script's own; None without.

    Attributes:
        refusals: Calls refused, or in the modes `shadow` and `warn` those that would have been.
        limits_steps: Whether the processes of some execution have steps to count together.
    """

    def __init__(
        self,
        policy: Policy,
        ledger: Ledger,
        book: PriceBook,
        *,
        root: Callable[[], str | None] = root_execution_id,
    ) -> None:
        self.policy, self.ledger, self.book = policy, ledger, book
        self.bounds = Bounds()
        self.watches = Watches(thresholds(policy.detectors.thresholds))
        self.unmetered = Unmetered(self)
        self.in_flight = InFlight()
        self.refusals = 0
        self.limits_steps = policy.limits_steps
        self._mode, self._root = policy.guard.mode, root
        self._is_strict = policy.guard.bound == STRICT
        self._process_payer = payer_of_environment(os.environ)
        self.records = Records(self._mode)
        self._given: OrderedDict[str, int] = OrderedDict()
        self._ladder = Ladder(
            policy,
            ledger,
            self.bounds,
            self.records,
            bound=self._bound,
            cost=self._bound_cost,
            most=self._most_cost,
            is_priced=lambda call: self._known_price(call, Usage(input_tokens=1)) is not None,
        )
        _guards.add(self)

    def after_fork(self) -> None:
        """Take new locks: in a forked child a thread that is not there may hold the old ones."""
        self.records.renew_lock()
        self.bounds.after_fork()
        self.unmetered.renew_lock()
        self.in_flight.renew_lock()

    def admit(self, call: ModelCall) -> Ticket:
        """Hold what a call may cost, waiting while calls in flight hold what it needs.

        Raises:
            BudgetExceeded: It does not fit, whatever these give back.
        """
        attempts = self._attempts(call)
        try:
            while True:
                time.sleep(next(attempts))
        except StopIteration as done:  # how a generator returns
            ticket: Ticket = done.value
            return ticket
        finally:
            attempts.close()

    async def admit_async(self, call: ModelCall, sleep: Callable[[float], Awaitable[None]]) -> Ticket:
        """As `admit`, without blocking the event loop, which `sleep` belongs to."""
        attempts = self._attempts(call, is_async=True)
        try:
            while True:
                await sleep(next(attempts))
        except StopIteration as done:  # how a generator returns
            ticket: Ticket = done.value
            return ticket
        except GeneratorExit:  # of a task that is collected
            elsewhere(attempts.close)
            raise
        except BaseException:
            attempts.close()
            raise

    def budget_around(self) -> Budget | None:
        """Open what the caller spends, for others to spend it too; None where nobody names an execution."""
        payer = self._payer()
        budget = budget_of_context()
        if budget is None:
            execution_id = self._execution_of_span(payer.execution_id)
            if not execution_id:
                return None
            budget = implied_budget(execution_id, payer)
        budget = self.with_shares(budget, payer)
        self._open(budget)
        return budget

    def begin(self, budget: Budget, limit_picousd: int) -> None:
        """Hold an execution to the limit it is given now; what it spent under the same name before counts.

        The same limit given again changes nothing, so that an approval in between stays.
        """
        self._open(budget)
        scope = budget.scope
        is_new = self._given.pop(scope, None) != limit_picousd
        self._given[scope] = limit_picousd
        if len(self._given) > MAX_NOTED:
            self._given.popitem(last=False)
        known, settled, _ = self.ledger.balance(scope)
        if is_new and known != limit_picousd:
            self.ledger.limit(scope, limit_picousd)
            self.records.take_back_last_call(scope)
            logger.info("%s may now spend $%.4f; $%.4f is spent", scope, usd(limit_picousd), usd(settled))

    def approve(self, execution_id: str, limit_picousd: int) -> None:
        """Change the limit of an execution, and forget that it was to end.

        Raises:
            ConfigError: This process knows of no such execution.
        """
        scope = f"execution:{execution_id}"
        if self.ledger.balance(scope) == Balance(None, 0, 0) and self.records.doom_of(execution_id) is None:
            raise ConfigError(
                f"no execution {execution_id!r} has a limit or spent anything in this process, so nothing is "
                "approved; write the id or the scope that BudgetExceeded names"
            )
        self.ledger.limit(scope, limit_picousd)
        self.records.forgive(execution_id, scope)
        balance = self.ledger.balance(scope)
        spent = usd(balance.settled_picousd)
        logger.info("%s may now spend $%.4f; $%.4f is spent", scope, usd(limit_picousd), spent)
        self.records.decided(names.APPROVED, execution_id, scope, balance)

    def failed(self, call: ModelCall, error: Exception, *, doing: str = "admit a call") -> None:
        """Do what the policy says of a guard that failed: let the call pass, counted and logged, or not.

        Raises:
            BudgetExceeded: The policy says `deny`.
        """
        count(doing, error)
        if self.policy.guard.on_failure == DENY and self._mode == ENFORCE:
            execution_id = budget.execution_id if (budget := budget_of_context()) else ""
            why = f"the guard failed ({type(error).__name__}) and its policy is to deny"
            exceeded = BudgetExceeded(
                why, execution_id=execution_id, request=call.target, kind="guard_failed", model=call.model
            )
            with contained("record a refusal"):
                tell_refusal(exceeded, self._mode)
            raise exceeded from error

    def cost(self, ticket: Ticket, answer: Answer) -> Cost:
        """Return what an answered call cost, by its usage, else by its text and what it may hide."""
        usage = answer.usage_of(ticket.call.api.name == EMBEDDINGS)
        if usage is None:
            partial = self._partial_usage(ticket, answer)
            picousd = self._price_answer(ticket, answer, partial)
            said = untold(ticket.call, answer, partial, is_partial=True)
            return Cost(picousd, *partial.totals, said)
        inputs, outputs = usage.totals
        try:
            self.bounds.learn(
                ticket.call,
                inputs,
                outputs,
                answer.text,
                usage.output_tokens,
                conversation=ticket.conversation,
                response_id=answer.response_id,
            )
        except Exception as error:
            count("learn from an answer", error)
        picousd = self._price_answer(ticket, answer, usage)
        is_hidden = ticket.change is not None and ticket.change.hides_usage
        said = untold(ticket.call, answer, usage, is_usage_hidden=is_hidden)
        return Cost(picousd, inputs, outputs, said)

    def _price_answer(self, ticket: Ticket, answer: Answer, usage: Usage) -> int:
        bill = bill_of(ticket.call, answer)
        if bill is not None:
            return to_picousd(bill)
        return self._price(ticket.call, usage, answer.model, tier_of(ticket.call, answer))

    def _partial_usage(self, ticket: Ticket, answer: Answer) -> Usage:
        """Return what an answer used that broke off, or does not tell it.

        That is what was said of it by then, and the text after that. Where the answer is no text, or comes
        later, it is what was asked for.
        """
        call = ticket.call
        told = answer.usage_so_far or Usage(input_tokens=self.bounds.usual_input(call, ticket.conversation))
        if call.api.name in MEDIA:
            asked = self.bounds.worst(call).usage
            return answer.usage_so_far or asked._replace(input_tokens=told.input_tokens)
        output = told.output_tokens + self.bounds.text_tokens(call, answer.untold)
        if not answer.tells_output:
            likely = self.bounds.likely(call).output_tokens
            output = max(output, self._hidden(call, ticket.held_tokens if self._is_strict else likely))
        return answer.with_searches(told._replace(output_tokens=output))

    def _written_tokens(self, call: ModelCall, answer: Answer) -> int:
        told = (answer.usage_so_far or Usage()) if answer.tells_output else Usage()
        return told.total_output_tokens + self.bounds.text_tokens(call, answer.untold)

    def _hidden(self, call: ModelCall, tokens: int) -> int:
        """Return the output tokens that a stream without usage may have been billed for and not sent."""
        if call.provider in WRITES_ON or call.is_deferred:
            return tokens
        if not (thinks(call.model) or asks_to_think(call.body)):
            return 0
        self.records.warn_once(
            call.model,
            "a stream of %s ended without usage, so %d output tokens are taken for it; ask for it with "
            'stream_options={"include_usage": true}',
            call.model,
            tokens,
        )
        return tokens

    def likely_cost(self, ticket: Ticket) -> int:
        """Return what a call like this usually costs, in pico-USD."""
        likely = self.bounds.likely(ticket.call, ticket.conversation)
        return self._price(ticket.call, likely.usage)

    def hold_more(self, ticket: Ticket, answer: Answer, holds: list[Hold]) -> Refusal | None:
        """Hold as much again for a stream that has used up what was held. Returns why there is no more."""
        call = ticket.call
        if self._written_tokens(call, answer) <= ticket.held_tokens:
            return None
        tokens = max(ticket.held_tokens, MORE_TOKENS)
        more = self.ledger.reserve(
            ticket.budget.scope, self._price(call, Usage(output_tokens=tokens)), owner=call.target
        )
        if isinstance(more, Hold):
            holds.append(more)
        elif self._mode == ENFORCE:
            return more
        ticket.held_tokens += tokens
        return None

    def cut(self, ticket: Ticket, refusal: Refusal) -> None:
        """Refuse the rest of an answer.

        Raises:
            BudgetExceeded: Always, where the policy is enforced.
        """
        self._refuse(ticket.call, ticket.budget, refusal=refusal)

    def settle(self, ticket: Ticket, cost: Cost, *, is_failed: bool = False) -> None:
        """Count what a call cost, once."""
        if ticket.hold is not None:
            if not self.ledger.settle(ticket.hold, cost.picousd):
                return
        elif ticket.close():
            self.ledger.spend(ticket.budget.scope, cost.picousd)
        else:
            return
        totals = (cost.input_tokens, cost.output_tokens)
        self.unmetered.settled(ticket.metered, totals, is_billed=cost.picousd > 0)
        if ticket.is_last and is_failed and not cost.picousd:
            self.records.take_back_last_call(ticket.budget.scope)
        name = ticket.call.model or ticket.call.target
        self.records.note_call(ticket.budget.execution_id, name, ticket.spender, cost.picousd)
        try:
            self._watch_outcome(ticket, cost, is_failed=is_failed)
        except Exception as error:
            count("watch an execution", error)
        if cost.untold:
            with contained("tell a span what its call used"):
                _write(ticket.span, cost.untold)
        self._warn_of_budget(ticket.budget)

    def _watch_outcome(self, ticket: Ticket, cost: Cost, *, is_failed: bool) -> None:
        outcome = ModelCallOutcome(
            cost.picousd,
            cost.input_tokens,
            cost.output_tokens,
            ticket.call.model,
            is_failed,
            conversation=ticket.conversation,
        )
        watch, exchange = self.watches.of(ticket.budget.execution_id), self._exchange(ticket.budget)
        for finding in watch.answered(outcome, exchange):
            if self._speak(ticket.budget, finding) == KILL:
                self.records.doom(ticket.budget.execution_id, finding)

    def spend(self, budget: Budget, picousd: int, model: str) -> None:
        """Count what a call cost that passed no client."""
        self._open(budget)
        self.ledger.spend(budget.scope, picousd)
        self.records.note_call(budget.execution_id, model, spender(budget.payer, model), picousd)
        self._warn_of_budget(budget)

    def refuse_if_over(self, model: str) -> None:
        """Refuse a call that passes no client where its execution has nothing left or was ended.

        Raises:
            BudgetExceeded: It has, and the policy is enforced.
        """
        budget = self.budget_around()
        if budget is None:
            return
        call = unseen(model)
        self._stop_at((), budget, call)
        answer = self.ledger.reserve(budget.scope, 1)
        if isinstance(answer, Hold):
            self.ledger.release(answer)
        elif not may_fit(answer):
            self._refuse(call, budget, refusal=answer)

    def _attempts(self, call: ModelCall, *, is_async: bool = False) -> Generator[float, None, Ticket]:
        """Yield how long to wait before each further attempt; return the ticket."""
        at = context.get_current()
        payer = self._payer(at)
        budget = self.with_shares(budget_of_context(at) or self._budget_of_span(payer), payer)
        limits = self.policy.limits_for(agent=payer.agent, feature=payer.feature)
        try:
            self._open(budget)
        except Busy as busy:
            yield from self._in_turn(lambda: self._open(budget), busy)
        step, watch, findings = self._watch(call, budget, limits)
        call.conversation = step.conversation
        try:
            self._stop_at(findings, budget, call)
            self._stop_unpriced(call, budget)
            way, hold = yield from self._reserve(call, budget, is_async=is_async)
        except BaseException:
            if watch is not None:
                watch.take_back(self._exchange(budget))
            raise
        held_tokens = way.bound.output_tokens
        if hold is not None and way.cost_picousd:
            held_tokens = held_tokens * hold.amount_picousd // way.cost_picousd
        return Ticket(
            self,
            way.call,
            budget,
            hold,
            held_tokens=held_tokens,
            conversation=step.conversation,
            spender=spender(payer, way.call.model),
            change=way.change,
            is_last=names.WRAP_UP in way.steps,
        )

    def _watch(
        self, call: ModelCall, budget: Budget, limits: ExecutionLimits
    ) -> tuple[Step, Watch | None, list[Finding]]:
        """Look at what the agent did and begin its next call; a watch that fails takes no budget with it.

        Raises:
            BudgetExceeded: It failed, and the policy says `deny`.
        """
        try:
            step, watch = read_step(call), self.watches.of(budget.execution_id)
            findings, exchange = watch.stepped(step), self._exchange(budget, call)
            return step, watch, [*findings, *watch.begin(limits, depth=budget.depth, exchange=exchange)]
        except Exception as error:
            self.failed(call, error, doing="watch an execution")
            return Step(), None, []

    def _exchange(self, budget: Budget, call: ModelCall | None = None) -> Exchange | None:
        """Return how to count steps together with other processes of an execution; None where there are none.

        Args:
            call: What is let through, or not, where that fails; None: it is counted only.
        """
        file = self.ledger.shared_in(budget.scope) if self.limits_steps else None
        if file is None:
            return None

        def exchange(age_s: float, counts: Mapping[str, int]) -> Tally | None:
            doing = "count steps together with other processes"
            try:
                return file.tally(budget.execution_id, age_s, counts)
            except Exception as error:
                if call is None:
                    count(doing, error)
                else:
                    self.failed(call, error, doing=doing)
                return None

        return exchange

    def share_steps(self, budget: Budget) -> None:
        """Tell what an execution did so far, before a child process of it begins to count."""
        if exchange := self._exchange(budget):
            self.watches.of(budget.execution_id).share(exchange)

    def _reserve(
        self, call: ModelCall, budget: Budget, *, is_async: bool
    ) -> Generator[float, None, tuple[Way, Hold | None]]:
        """Yield how long to wait; return how the call is sent, and its hold; None where it passes without."""
        began, pause_s = time.monotonic(), FIRST_PAUSE_S
        is_late = False
        while True:
            waited_s = time.monotonic() - began
            is_late = is_late or waited_s > self.policy.guard.max_wait_s
            climb = partial(self._ladder.climb, call, budget, is_late=is_late)
            try:
                way, answer, may_wait = climb()
            except Busy as busy:
                way, answer, may_wait = yield from self._in_turn(climb, busy)
            if isinstance(answer, Hold):
                return self._taken(call, way, budget), answer
            if not may_wait:
                self._refuse(call, budget, refusal=answer)
            if not may_wait or self._mode != ENFORCE:
                return self._ladder.way(call), None
            is_late = waited_s > OWN_WAIT_S and self.in_flight.is_vain(answer, is_async=is_async)
            if not is_late:
                yield pause_s
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _in_turn(self, do: Callable[[], T], busy: Busy) -> Generator[float, None, T]:
        """Yield how long to wait while other processes use the ledger; return what is done with it then.

        Args:
            busy: What the ledger answered when it was asked first.

        Raises:
            Busy: They do all the time, as one does that was frozen while it wrote.
        """
        deadline, pause_s = time.monotonic() + self.policy.guard.max_wait_s, LONGEST_PAUSE_S
        while time.monotonic() <= deadline:
            yield pause_s
            pause_s = min(2 * pause_s, LONGEST_TURN_S)
            try:
                return do()
            except Busy as again:
                busy = again
        raise busy

    def _taken(self, asked: ModelCall, way: Way, budget: Budget) -> Way:
        """Tell what is done to a call. Returns how it is sent: as it was asked, unless that is enforced."""
        if not way.steps and way.change is None:
            return way
        as_asked = self._ladder.way(asked)
        with contained("tell of a changed call"):
            scope, balance = standing(self.ledger, budget)
            for step in way.steps:
                shown = changed(step, asked, way.call)
                told = (budget.execution_id, scope, balance, as_asked)
                self.records.decided(step, *told, shown=shown)
        return way if self._mode == ENFORCE else as_asked

    def _open(self, budget: Budget) -> None:
        """Begin a budget and those around it, each with what it was given, else what the policy gives it."""
        around, limit = budget.around, budget.limit_picousd
        if around is not None:
            self._open(around)
        if limit is None and budget.is_implied:
            limit = self.policy.execution.budget_picousd
        elif limit is None:
            payer = budget.payer.over(self._process_payer)
            limit = self.policy.limits_for(agent=payer.agent, feature=payer.feature).budget_picousd
        self.ledger.open(budget.scope, limit, around.scope if around else "")

    def _budget_of_span(self, payer: Payer) -> Budget:
        """Return what a call outside of `execution(...)` spends: its trace, else the script."""
        return implied_budget(self._execution_of_span(payer.execution_id) or self._own_of_a_call(), payer)

    def _own_of_a_call(self) -> str:
        """Return an execution for a single call, where nobody says what it belongs to."""
        if self.policy.is_limited:
            self.records.warn_once(NOBODYS, NOBODYS)
        current = trace.get_current_span().get_span_context()
        return f"{current.trace_id:032x}" if current.is_valid else uuid.uuid4().hex

    def with_shares(self, budget: Budget, payer: Payer) -> Budget:
        """Return what an agent or feature may spend of an execution, where the policy limits its share."""
        if not (self.policy.features or self.policy.agents):
            return budget
        payer, began = payer.over(self._process_payer), budget.payer.over(self._process_payer)
        is_implied = budget.is_implied
        for kind, table in (("feature", self.policy.features), ("agent", self.policy.agents)):
            name = getattr(payer, kind)
            if not table or not (is_implied or (name and name != getattr(began, kind))):
                continue
            pattern = match(table, name)
            limit = None if pattern is None else table[pattern].budget_picousd
            if limit is not None:
                scope = f"{budget.scope}/{kind}:{name or EVERYONE}"
                budget = Budget(budget.execution_id, scope, limit, budget, budget.depth, payer)
        return budget

    def _payer(self, at: Context | None = None) -> Payer:
        return payer_of_context(at).over(self._process_payer)

    def _execution_of_span(self, execution_id: str) -> str:
        if execution_id:
            return execution_id
        span = trace.get_current_span()
        current = span.get_span_context()
        if current.is_valid and not _is_alone(span):
            return f"{current.trace_id:032x}"
        return self._root() or ""

    def budget_of_root(self) -> Budget | None:
        """Return what a call spends that nothing is around; None where the process runs many executions."""
        execution_id = self._root()
        return implied_budget(execution_id) if execution_id else None

    def _stop_at(self, findings: Iterable[Finding], budget: Budget, call: ModelCall) -> None:
        """Speak of findings, and refuse the call at the first that ends its execution."""
        doomed = self.records.doom_of(budget.execution_id)
        for finding in (doomed, *findings) if doomed else findings:
            if finding is doomed or self._speak(budget, finding) == KILL:
                self._refuse(call, budget, finding=finding)

    def _speak(self, budget: Budget, finding: Finding) -> str:
        """Log a finding as its detector's setting says. Returns that setting; limits always end."""
        if finding.kind.startswith(LIMIT):
            return KILL
        action: str = getattr(self.policy.detectors, finding.kind)
        if action != OFF and self._mode != SHADOW:
            logger.warning("execution %s: %s", budget.execution_id, finding.message)
        return action

    def _refuse(
        self,
        call: ModelCall,
        budget: Budget,
        *,
        refusal: Refusal | None = None,
        finding: Finding | None = None,
    ) -> None:
        """Record that a call has no room, and raise where the policy is enforced."""
        self.refusals += 1
        balance = refusal.balance if refusal else self.ledger.balance(budget.scope)
        exceeded = self.records.explain(call, budget, balance, refusal, finding)
        refused = self.records.refuse(exceeded)
        if self._mode == ENFORCE:
            self._escalate(refused)
            raise exceeded

    def _escalate(self, refused: int) -> None:
        """Interrupt the main thread of an agent that swallows every refusal, and later end the process."""
        after = self.policy.guard.escalate_after_refusals
        if not after or refused < after:
            return
        is_last = refused >= 2 * after
        if is_last or refused == after:
            then = "ending the process" if is_last else "interrupting the main thread"
            logger.error("%d calls of an execution were refused and it goes on; %s", refused, then)
        if is_last:
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            _thread.interrupt_main()

    def _warn_of_budget(self, budget: Budget) -> None:
        """Say once that most of a budget is spent."""
        balance = self.ledger.balance(budget.scope)
        limit, spent, _ = balance
        if not limit or not is_reached(self.policy.ladder.warn_at_ratio, balance):
            return
        told = (budget.scope, usd(spent), usd(limit))
        if self.records.warn_once(budget.scope, "%s has spent $%.4f of $%.4f", *told):
            self.records.decided(names.WARNED, budget.execution_id, budget.scope, balance)

    def _bound(self, call: ModelCall) -> Bound:
        bound_of = self.bounds.worst if self._is_strict else self.bounds.likely
        return bound_of(call, call.conversation)

    def _bound_cost(self, call: ModelCall, bound: Bound) -> int:
        """Return the most that a bound costs, whatever is the dearest that its tokens may be.

        Input may all be written to a cache, and an answer may be a picture or speech.
        """
        plain = bound.usage
        worst = self._price(call, plain)
        if call.writes_cache:
            for kind in ("cache_write_1h_tokens", "cache_write_tokens"):
                written = plain._replace(input_tokens=0, **{kind: plain.input_tokens})
                worst = max(worst, self._price(call, written))
        for kind in output_kinds(call.model) if plain.output_tokens else ():
            made = plain._replace(output_tokens=0, **{kind: plain.output_tokens})
            worst = max(worst, self._price(call, made))
        return worst

    def _most_cost(self, call: ModelCall) -> int:
        """Return the most that a call can cost, of a model that no estimate can be made of yet; else 0."""
        if self._is_strict or self.bounds.has_learnt(call):
            return 0
        return self._bound_cost(call, self.bounds.worst(call, call.conversation))

    def _stop_unpriced(self, call: ModelCall, budget: Budget) -> None:
        if self.policy.guard.unpriced == DENY and self._known_price(call, Usage(input_tokens=1)) is None:
            finding = Finding("unpriced", f"no price is known for model {call.model!r}", 0, 1, call.model)
            self._refuse(call, budget, finding=finding)

    def _price(self, call: ModelCall, usage: Usage, model: str = "", service_tier: str = "") -> int:
        """Return what usage costs in pico-USD; of an unknown model what the policy takes it for."""
        known = self._known_price(call, usage, model, service_tier)
        if known is not None:
            return known
        if self.policy.guard.unpriced == ALLOW:
            return 0
        inputs, outputs = usage.totals
        per_token = PICO // 10**6
        return per_token * (inputs * UNKNOWN_INPUT_USD_PER_MTOK + outputs * UNKNOWN_OUTPUT_USD_PER_MTOK)

    def _known_price(
        self, call: ModelCall, usage: Usage, model: str = "", service_tier: str = ""
    ) -> int | None:
        tier = service_tier or in_place(call.place, call.service_tier) or None
        provider, at = call.provider or None, time.time_ns()
        for name in (model, call.model) if model else (call.model,):
            try:
                priced = self.book.price(usage, model=name, provider=provider, at=at, service_tier=tier)
            except UnknownModelError:
                continue
            if priced.cost_picousd is not None:
                return priced.cost_picousd
        return None


_guards: weakref.WeakSet[Guard] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for guard in list(_guards):
        guard.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def _write(span: trace.Span, said: Mapping[str, str | int]) -> None:
    """Put attributes on the span of a model call, where it is one that records."""
    if span.is_recording() and classify(getattr(span, "attributes", None) or {}) == MODEL:
        span.set_attributes(said)


def _is_alone(span: trace.Span) -> bool:
    """Return whether a span is that of a single call and the first of its trace: no run is around it."""
    if not span.is_recording() or getattr(span, "parent", None) is not None:
        return False
    is_client = getattr(span, "kind", None) is trace.SpanKind.CLIENT
    return is_client or classify(getattr(span, "attributes", None) or {}) == MODEL


def default_guard(policy: Policy | None = None) -> Guard:
    """Return a guard with the policy's ledger and the catalogue's prices; default: the policy in force.

    Raises:
        ConfigError: The policy, or the ledger's file, cannot be used.
    """
    from otel_cost.ledger.open import open_ledger

    policy = policy or Policy.load()
    watch_for_servers()
    return Guard(policy, open_ledger(policy.guard.ledger), process_book(policy.prices))

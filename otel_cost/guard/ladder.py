"""The way down to a budget: remind, ask for a cheaper model, lower the output, one last call, no call.

`Ladder.climb` answers how a call may be sent with what is left, and holds the money for it. Whether that is
done or only noted is the guard's matter, by its mode.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from otel_cost import attributes as names
from otel_cost.attribution import Budget
from otel_cost.budgets import Policy, match
from otel_cost.containment import count
from otel_cost.guard.bounds import Bound, Bounds
from otel_cost.guard.calls import ModelCall
from otel_cost.guard.records import Records, usd
from otel_cost.guard.rewrites import (
    Change,
    asking_for_usage,
    change,
    least_output,
    most_output,
    with_model,
    with_note,
    with_output_limit,
    without_tools,
)
from otel_cost.ledger import Balance, Hold, Ledger, Refusal

LAST_OUTPUT_TOKENS = 1_024
"""Output that money is kept back for, for the last call: a page of text."""
MAX_FITTINGS = 4
"""How often a call is fitted into what other calls change meanwhile, before it waits."""
MAX_MODELS = 8
LAST_NOTE = (
    "Note on the budget: it allows no call after this one. "
    "Answer now with what you have, without calling any tool."
)


class Way(NamedTuple):
    """A way of sending a call.

    Attributes:
        call: As it is sent.
        bound: Its tokens.
        cost_picousd: What it holds.
        steps: What was done to it, in order: `otel_cost.reminded`, `otel_cost.downgraded`, ...
        change: What is sent instead; None: what the application gave.
    """

    call: ModelCall
    bound: Bound
    cost_picousd: int
    steps: tuple[str, ...] = ()
    change: Change | None = None


class Outcome(NamedTuple):
    """What came of trying to pay for a call.

    Attributes:
        may_wait: It did not fit, and may once the calls in flight give back what they hold too much.
    """

    way: Way
    answer: Hold | Refusal
    may_wait: bool = False


class Ladder:
    """Finds a way of sending a call that its budget has room for.

    Args:
        bound: Tokens that a call is held for.
        cost: What so many tokens of a call cost, in pico-USD; never less for more.
        most: What is held for a call where there is as much, although it needs less; 0: just what it needs.
        is_priced: Whether that is a known price.
    """

    def __init__(
        self,
        policy: Policy,
        ledger: Ledger,
        bounds: Bounds,
        records: Records,
        *,
        bound: Callable[[ModelCall], Bound],
        cost: Callable[[ModelCall, Bound], int],
        most: Callable[[ModelCall], int],
        is_priced: Callable[[ModelCall], bool],
    ) -> None:
        self._policy, self._ledger, self._bounds, self._records = policy, ledger, bounds, records
        self._bound, self._cost, self._most, self._is_priced = bound, cost, most, is_priced
        ladder, guard = policy.ladder, policy.guard
        self._changes = bool(
            ladder.remind_at_ratio or ladder.downgrade_to or guard.clamp or ladder.wrap_up_call
        )

    def climb(self, call: ModelCall, budget: Budget, *, is_late: bool = False) -> Outcome:
        """Hold what a call may cost, changed as far as the policy says and the budget demands.

        Args:
            is_late: It has waited long enough: what is there now must do.
        """
        asked = self.way(call)
        if not (self._changes or self._asks(call)):
            return self._plain(asked, budget, is_late)
        try:
            scope, balance = standing(self._ledger, budget)
        except Exception as error:
            count("rewrite a request", error)
            return self._plain(asked, budget, is_late)
        if balance.limit_picousd is None:
            return self._plain(asked, budget, is_late)
        if self._records.had_last_call(budget.scope):
            return Outcome(asked, Refusal(scope, balance, asked.cost_picousd))
        if not call.body or call.is_fixed():
            return self._plain(asked, budget, is_late)
        return self._fitted(asked, self._ways(asked, balance), budget, scope, is_late)

    def _asks(self, call: ModelCall) -> bool:
        return self._policy.guard.ask_for_usage and call.can_hide and call.is_stream

    def _plain(self, way: Way, budget: Budget, is_late: bool) -> Outcome:
        answer = self._reserve(way, budget)
        return Outcome(way, answer, isinstance(answer, Refusal) and not is_late and may_fit(answer))

    def _reserve(self, way: Way, budget: Budget) -> Hold | Refusal:
        """Hold the most that a call can cost, else all that is left, if that is what it needs."""
        amount = max(way.cost_picousd, self._most(way.call))
        while True:
            answer = self._ledger.reserve(budget.scope, amount, owner=way.call.target)
            if isinstance(answer, Hold) or amount == way.cost_picousd:
                return answer
            amount = max(way.cost_picousd, answer.balance.remaining_picousd or 0)  # less than was refused

    def _fitted(self, asked: Way, ways: list[Way], budget: Budget, scope: str, is_late: bool) -> Outcome:
        """Try the ways that leave the answer as long as it was asked for, then shorter ones."""
        kept = _Kept(scope, self._last_cost(ways[-1]))
        refusals = []
        for way in ways:
            answer = self._hold(way, budget, kept)
            if isinstance(answer, Hold):
                return Outcome(way, answer)
            if not is_late and may_fit(answer):
                return Outcome(way, answer, may_wait=True)
            refusals.append(answer)
        found = None
        try:
            found = self._clamped(ways[-1], budget, refusals[-1], kept, is_late)
            found = found or self._last_call(asked.call, ways[-1], budget, refusals[-1], is_late)
        except Exception as error:
            count("rewrite a request", error)
        return found or Outcome(asked, refusals[0]._replace(asked_picousd=asked.cost_picousd))

    def _ways(self, asked: Way, balance: Balance) -> list[Way]:
        """Return the ways of sending a call in full, each one cheaper than the one before; one at least."""
        try:
            return self._full_ways(asked, balance)
        except Exception as error:
            count("rewrite a request", error)
            return [asked]

    def _full_ways(self, asked: Way, balance: Balance) -> list[Way]:
        ladder = self._policy.ladder
        call = self._metered(asked.call)
        steps: tuple[str, ...] = ()
        if is_reached(ladder.remind_at_ratio, balance):
            noted = with_note(call, reminder(balance))
            steps = () if noted is call else (names.REMINDED,)
            call = noted
        ways = [self.way(call, steps)]
        if ladder.downgrade_at_ratio is None:
            return ways
        for model in self._cheaper(call.model):
            way = self.way(with_model(call, model), (*steps, names.DOWNGRADED))
            if way.cost_picousd < ways[-1].cost_picousd and self._is_priced(way.call):
                ways.append(way)
        return ways[1:] if len(ways) > 1 and is_reached(ladder.downgrade_at_ratio, balance) else ways

    def _cheaper(self, model: str) -> list[str]:
        """Return what stands in for a model, what stands in for that, and so on."""
        found, table = [model], self._policy.ladder.downgrade_to
        while len(found) <= MAX_MODELS and (pattern := match(table, found[-1])) is not None:
            if table[pattern] in found:
                break
            found.append(table[pattern])
        return found[1:]

    def _metered(self, call: ModelCall) -> ModelCall:
        return asking_for_usage(call) if self._asks(call) else call

    def way(self, call: ModelCall, steps: tuple[str, ...] = ()) -> Way:
        """Return a way of sending a call in full."""
        bound = self._bound(call)
        is_changed = bool(steps) or call.hides_usage
        return Way(call, bound, self._cost(call, bound), steps, change(call) if is_changed else None)

    def _last_cost(self, way: Way) -> int:
        """Return what is kept back for the last call: one more like this, with its answer, and a page."""
        if not self._policy.ladder.wrap_up_call:
            return 0
        answer = min(
            self._bounds.likely(way.call, way.call.conversation).output_tokens, way.bound.output_tokens
        )
        last = way.bound._replace(
            input_tokens=way.bound.input_tokens + answer, output_tokens=LAST_OUTPUT_TOKENS
        )
        return self._cost(way.call, last)

    def _hold(self, way: Way, budget: Budget, kept: _Kept) -> Hold | Refusal:
        """Hold what a way costs, where that leaves what is kept back."""
        if not kept.picousd:
            return self._reserve(way, budget)
        answer = self._ledger.reserve(budget.scope, way.cost_picousd, owner=way.call.target)
        if isinstance(answer, Refusal):
            return answer
        limit, settled, reserved = self._ledger.balance(kept.scope)
        if limit is None or settled + reserved + kept.picousd <= limit:
            return answer
        self._ledger.release(answer)
        left = Balance(limit, settled, max(0, reserved - way.cost_picousd))
        return Refusal(kept.scope, left, way.cost_picousd + kept.picousd)

    def _clamped(
        self, way: Way, budget: Budget, refusal: Refusal, kept: _Kept, is_late: bool
    ) -> Outcome | None:
        """Lower the output of a call until it fits; None where it cannot be low enough."""
        if not self._policy.guard.clamp:
            return None
        return self._shortened(way, (*way.steps, names.CLAMPED), budget, refusal, kept, is_late)

    def _last_call(
        self, asked: ModelCall, cheapest: Way, budget: Budget, refusal: Refusal, is_late: bool
    ) -> Outcome | None:
        """Spend what was kept back on one call that must answer; None where there is none left."""
        if not self._policy.ladder.wrap_up_call:
            return None
        model = cheapest.call.model
        call = self._metered(asked) if model == asked.model else with_model(self._metered(asked), model)
        noted = with_note(call, LAST_NOTE, is_last=True)
        if noted is call or not self._records.begin_last_call(budget.scope):
            return None
        steps = () if model == asked.model else (names.DOWNGRADED,)
        outcome = None
        try:
            way = self.way(without_tools(noted), (*steps, names.WRAP_UP))
            none = _Kept(refusal.scope, 0)
            outcome = self._shortened(way, way.steps, budget, refusal, none, is_late)
        finally:
            if outcome is None or isinstance(outcome.answer, Refusal):
                self._records.take_back_last_call(budget.scope)
        return outcome

    def _shortened(
        self, way: Way, steps: tuple[str, ...], budget: Budget, refusal: Refusal, kept: _Kept, is_late: bool
    ) -> Outcome | None:
        """Hold a call with as much output as there is room for; None where that is too little."""
        for _ in range(MAX_FITTINGS):
            tokens = self._room(way, refusal.balance, kept.picousd, is_late)
            if not tokens:
                return None if tokens is None else Outcome(way, refusal, may_wait=True)
            shorter = self.way(with_output_limit(way.call, tokens), steps)
            answer = self._hold(shorter, budget, kept)
            if isinstance(answer, Hold):
                return Outcome(shorter, answer)
            refusal = answer
        return None if is_late else Outcome(way, refusal, may_wait=True)

    def _room(self, way: Way, balance: Balance, kept_picousd: int, is_late: bool) -> int | None:
        """Return how many output tokens a balance has room for; 0: more later; None: too few ever.

        It is worth waiting for what calls in flight hold as long as that is more than what is there.
        """
        least = least_output(way.call)
        free = (balance.limit_picousd or 0) - balance.settled_picousd - kept_picousd
        later = self._tokens(way, free)
        now = self._tokens(way, free - balance.reserved_picousd)
        if later < least or (is_late and now < least):
            return None
        return now if is_late or 2 * now >= max(later, 2 * least) else 0

    def _tokens(self, way: Way, amount_picousd: int) -> int:
        """Return the most output tokens that an amount pays for, behind the input."""

        def cost(tokens: int) -> int:
            return self._cost(way.call, way.bound._replace(output_tokens=tokens))

        return max(0, bisect_right(range(most_output(way.call) + 1), amount_picousd, key=cost) - 1)


class _Kept(NamedTuple):
    """What no call but the last may use of a scope."""

    scope: str
    picousd: int


def standing(ledger: Ledger, budget: Budget) -> tuple[str, Balance]:
    """Return the scope that most is spent of, of a budget's own and those around it, and how it stands."""
    found = [(each.scope, ledger.balance(each.scope)) for each in budget.chain()]
    limited = [(scope, balance) for scope, balance in found if balance.limit_picousd is not None]
    return max(limited, key=lambda each: _spent_ratio(each[1])) if limited else found[0]


def reminder(balance: Balance) -> str:
    """Return the note that tells an agent what is left."""
    left, limit = usd(balance.remaining_picousd or 0), usd(balance.limit_picousd or 0)
    digits = 2 if left >= Decimal("0.1") else 4
    return (
        f"Note on the budget: you have ${left:.{digits}f} of ${limit:.{digits}f} left for this task; "
        "finish with few further calls."
    )


def changed(step: str, asked: ModelCall, sent: ModelCall) -> dict[str, str | int]:
    """Return what a step changed, as attributes of the call's span."""
    if step == names.DOWNGRADED:
        return {names.DOWNGRADED_FROM: asked.model, names.DOWNGRADED_TO: sent.model}
    if step in (names.CLAMPED, names.WRAP_UP) and sent.output_limit != asked.output_limit:
        return {names.CLAMPED_OUTPUT_TOKENS: sent.output_limit or 0}
    return {}


def _spent_ratio(balance: Balance) -> Fraction:
    return Fraction(balance.settled_picousd, balance.limit_picousd) if balance.limit_picousd else Fraction(1)


def is_reached(ratio: float | None, balance: Balance) -> bool:
    """Whether so much of a limit is spent, by the ratio as it was written: 0.1 is a tenth exactly."""
    limit, settled, _ = balance
    if ratio is None or limit is None:
        return False
    numerator, denominator = _as_written(ratio)
    return settled * denominator >= limit * numerator


@lru_cache(maxsize=16)
def _as_written(ratio: float) -> tuple[int, int]:
    return Decimal(str(ratio)).as_integer_ratio()


def may_fit(refusal: Refusal) -> bool:
    """Whether a refused call fits once the calls in flight give back what they hold."""
    balance = refusal.balance
    return balance.settled_picousd + refusal.asked_picousd <= (balance.limit_picousd or 0)

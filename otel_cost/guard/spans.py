"""The second line: model calls that pass no client, as through gRPC and websockets, known by their spans.

What such a call cost is known when its span ends, and counts then. The next one of its kind is refused as its
span starts, once the budget is spent. A call that was metered at a client is not counted here: the guard
knows the span around it, or else finds it again by its time, model and tokens.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry import trace
from opentelemetry.context import Context

from otel_cost import attributes as names
from otel_cost.accounting import Span
from otel_cost.attribution import NOBODY, Budget, budget_of_context, implied_budget, payer_of_context
from otel_cost.second_line import SpanKey, Spent
from otel_cost.usage import MODEL, Reading, classify

if TYPE_CHECKING:
    from otel_cost.guard import Guard

MAX_NOTED = 8_192
"""Spans and kinds of calls that are remembered; the oldest go first."""
MAX_CALLS = 512
"""Metered calls that are remembered: each is looked at for a span that was not around one."""
SLACK_NS = 5_000_000
"""How far a span may miss its call: some are made afterwards, from times rounded to milliseconds."""

Kind = tuple[str, str, str]
"""A kind of calls: instrumentation, provider, model asked for."""


@dataclass(slots=True, eq=False)
class Metered:
    """A call that the guard admitted at a client."""

    execution_id: str
    model: str
    began_ns: int
    ended_ns: int = 0
    totals: tuple[int, int] = (0, 0)
    has_span: bool = False

    def is_during(self, span: Span, execution_id: str) -> bool:
        """Return whether it went on while a span of an execution was open."""
        slack_ns = 0 if self.has_span else SLACK_NS
        began, ended = span.started_ns - slack_ns, span.ended_ns + slack_ns
        is_over = 0 < self.ended_ns < began
        return self.execution_id == execution_id and self.began_ns <= ended and not is_over


class _Noted(NamedTuple):
    budget: Budget | None
    kind: Kind | None


class Unmetered:
    """Counts what no client shows."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._started: OrderedDict[SpanKey, _Noted] = OrderedDict()
        self._around: OrderedDict[SpanKey, None] = OrderedDict()
        self._calls: OrderedDict[int, Metered] = OrderedDict()
        self._kinds: OrderedDict[Kind, None] = OrderedDict()
        self.renew_lock()

    def renew_lock(self) -> None:
        """Take a new lock; the collector may end a span while its thread has it."""
        self._lock = threading.RLock()

    def admitted(self, budget: Budget, model: str, current: trace.Span) -> Metered:
        """Note a call that a client is about to send, and the span around it."""
        call = Metered(budget.execution_id, model, time.time_ns())
        with self._lock:
            _put(self._calls, id(call), call, MAX_CALLS)
            if current.is_recording():
                key = current.get_span_context()[:2]
                _put(self._around, key, None)
                call.has_span = classify(getattr(current, "attributes", None) or {}) == MODEL
        return call

    def settled(self, call: Metered, totals: tuple[int, int], *, is_billed: bool) -> None:
        """Note what came of it; one that was not billed has no second record."""
        call.ended_ns, call.totals = time.time_ns(), totals
        if not is_billed:
            with self._lock:
                if self._calls.get(id(call)) is call:
                    del self._calls[id(call)]

    def started(self, key: SpanKey, attributes: Mapping[str, Any], scope: str, at: Context | None) -> None:
        """Note a span, or refuse the call that it is about.

        Raises:
            BudgetExceeded: Calls of its kind pass no client, and nothing is left for them.
        """
        budget, kind = budget_of_context(at), _kind(attributes, scope)
        if kind is not None and kind in self._kinds:
            self._guard.refuse_if_over(kind[2] or kind[1])
        if budget is None and kind is not None and not trace.get_current_span(at).get_span_context().is_valid:
            budget = self._guard.budget_of_root()
        if budget is not None:
            budget = self._guard.with_shares(budget, payer_of_context(at))
        if budget is not None or kind is not None:
            with self._lock:
                _put(self._started, key, _Noted(budget, kind))

    def ended(self, key: SpanKey, spent: Spent | None) -> None:
        """Count what a model call cost, unless it was metered; None for a span that costs nothing itself."""
        with self._lock:
            noted = self._started.pop(key, _Noted(None, None))
            is_metered = key in self._around
            self._around.pop(key, None)
        if spent is None or spent.span.reading is None or spent.span.reading.span_class != MODEL:
            return
        budget = noted.budget or self._guard.with_shares(implied_budget(spent.execution_id), NOBODY)
        with self._lock:
            is_metered = is_metered or self._was_metered(
                spent, spent.span.reading, budget.execution_id, is_usual=noted.kind not in self._kinds
            )
            if noted.kind is not None:
                self._kinds.pop(noted.kind, None)
                if not is_metered:
                    _put(self._kinds, noted.kind, None)
        if not is_metered and spent.picousd > 0:
            self._guard.spend(budget, spent.picousd, spent.span.reading.model)

    def _was_metered(self, spent: Spent, reading: Reading, execution_id: str, *, is_usual: bool) -> bool:
        """Return whether a span that was not around a metered call is about one all the same.

        Args:
            is_usual: No call of its kind is known to pass no client: one in flight beside it is taken for it.
        """
        calls = [call for call in self._calls.values() if call.is_during(spent.span, execution_id)]
        totals = reading.usage.totals if reading.usage else (0, 0)
        if calls and (spent.is_remainder or any(call.totals == totals != (0, 0) for call in calls)):
            for call in calls:
                call.has_span = call.has_span or call.totals == totals
            return True
        without = [call for call in calls if not call.has_span]
        found = [call for call in without if _is_same(call.model, (reading.request_model, reading.model))]
        if is_usual:
            found += [call for call in without if not call.ended_ns]
        for call in found[:1]:
            call.has_span = True
        return bool(found)


def _is_same(model: str, names: tuple[str, ...]) -> bool:
    """Return whether a model has one of the names, or what is left of it without its vendor or region."""
    whole = model.lower()
    return any(name and (whole.endswith(name.lower()) or name.lower().endswith(whole)) for name in names)


def _kind(attributes: Mapping[str, Any], scope: str) -> Kind | None:
    if classify(attributes) != MODEL:
        return None
    return scope, _first(attributes, names.PROVIDER), _first(attributes, names.REQUEST_MODEL)


def _first(attributes: Mapping[str, Any], aliases: tuple[str, ...]) -> str:
    return next((str(attributes[name]) for name in aliases if name in attributes), "")


def _put(memory: OrderedDict[Any, Any], key: object, value: object, most: int = MAX_NOTED) -> None:
    memory[key] = value
    if len(memory) > most:
        memory.popitem(last=False)

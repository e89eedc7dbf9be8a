"""Live accounting: what each execution has spent so far, as its spans end.

Children end before their parents, so the rules of `accounting.py` can be decided one span at a time. Memory
is bounded: a fixed number of executions, open spans and recent calls, whatever the application does.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from operator import add, sub
from typing import TYPE_CHECKING, NamedTuple

from otel_cost import accounting
from otel_cost.accounting import Span
from otel_cost.attribution import NOBODY, Payer
from otel_cost.usage import AGGREGATE, MODEL, OTHER, TOOL, Reading

if TYPE_CHECKING:
    from otel_cost.pricing import Charge

RECENT_CALLS = 2_048
"""Calls looked back at for a second record, over all executions: two records of a call end close together."""
ALIKE_CALLS = 64
"""Calls of one trace with the same model and tokens that are told apart."""
RECENT_RESPONSES = 2_048
"""Response ids looked back at; the second record may be in another trace."""

_new = tuple.__new__

SpanKey = tuple[int, int]
"""Trace id and span id."""


class Amount(NamedTuple):
    """Money and tokens. `cost_picousd` sums what is known; `unpriced` counts the calls that are not in it."""

    cost_picousd: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    unpriced: int = 0

    def __add__(self, other: Amount) -> Amount:  # type: ignore[override]
        if other is NOTHING:
            return self
        if self is NOTHING:
            return other
        return Amount._make(map(add, self, other))

    def __sub__(self, other: Amount) -> Amount:
        return Amount._make(map(sub, self, other))


NOTHING = Amount()


@dataclass(slots=True)
class Execution:
    """Running totals of one agent run."""

    execution_id: str
    total: Amount = NOTHING
    model_calls: int = 0
    tool_calls: int = 0

    def count(self, span_class: str, has_amount: bool) -> None:
        """Count a call; an agent without an amount of its own is none."""
        if span_class == TOOL:
            self.tool_calls += 1
        elif span_class == MODEL or has_amount:
            self.model_calls += 1


@dataclass(slots=True)
class OpenSpan:
    """A span that has not ended, and what ended below it.

    Attributes:
        near: What counts below it with neither a tool nor an agent in between.
        far: What counts below it beyond a tool or an agent: an agent's usage may hold it, a call's cannot.
    """

    parent: OpenSpan | None
    trace_id: int
    named_execution: str = ""
    payer: Payer = NOBODY
    near: Amount = NOTHING
    far: Amount = NOTHING
    has_near: bool = False
    has_far: bool = False

    @property
    def execution_id(self) -> str:
        """The run it belongs to: the one that was named, else the trace."""
        return self.named_execution or f"{self.trace_id:032x}"


@dataclass(slots=True)
class Call:
    """A finished call that a second record may still be of."""

    span: Span
    execution: Execution
    amount: Amount
    scopes: tuple[str, ...]


class Outcome(NamedTuple):
    """What was decided about a span when it ended.

    Attributes:
        amount: What it added to its execution; a correction of an earlier record may be negative in parts.
        is_remainder: Only what its descendants do not cover counts.
    """

    execution: Execution
    counted: bool
    reason: str = ""
    amount: Amount = NOTHING
    is_remainder: bool = False


class Executions:
    """Every execution this process knows, and the spans open in it. Safe under threads and fork."""

    def __init__(self, *, max_executions: int = 4096, max_open_spans: int = 65536) -> None:
        self._max_executions = max_executions
        self._max_open_spans = max_open_spans
        self._executions: OrderedDict[str, Execution] = OrderedDict()
        self._open: OrderedDict[SpanKey, OpenSpan] = OrderedDict()
        self._responses: OrderedDict[Hashable, Call] = OrderedDict()
        self._recent: OrderedDict[Hashable, list[Call]] = OrderedDict()
        self.renew_lock()
        _registries.add(self)

    def renew_lock(self) -> None:
        """Take a new lock: in a forked child the old one may be held by a thread that does not exist."""
        self._lock = threading.RLock()

    def start(self, key: SpanKey, parent_span_id: int | None, payer: Payer) -> OpenSpan:
        """Follow a span until it ends; where too many are open, the oldest is not followed any more."""
        parent = self._open.get((key[0], parent_span_id)) if parent_span_id else None
        execution_id = payer.execution_id
        if parent is not None:
            execution_id = execution_id or parent.named_execution
            payer = payer.over(parent.payer)
        opened = OpenSpan(parent, key[0], execution_id, payer)
        self._open[key] = opened
        if len(self._open) > self._max_open_spans:
            self._open.popitem(last=False)
        return opened

    def end_plain(self, key: SpanKey) -> OpenSpan | None:
        """End a span that concerns no model, handing what is below it to its parent; None if not followed."""
        opened = self._open.pop(key, None)
        if opened is not None and opened.parent is not None and (opened.has_near or opened.has_far):
            with self._lock:
                _hand_up(opened, OTHER, NOTHING, has_own=False)
        return opened

    def end(self, key: SpanKey, span: Span) -> Outcome:
        """Decide whether and for how much a span that ended counts, and add it to its execution."""
        opened = self._open.pop(key, None) or OpenSpan(None, key[0])
        reading = span.reading
        assert reading is not None  # only billable spans are accounted
        own = _amount_of(reading, span.charge)
        with self._lock:
            outcome = self._decide(opened, self._execution(opened.execution_id), span, reading, own)
            if outcome.counted:
                outcome.execution.total += outcome.amount
            return outcome

    def get(self, execution_id: str) -> Execution | None:
        """Return an execution's totals, or None when it is not known (any more)."""
        return self._executions.get(execution_id)

    def open_span(self, key: SpanKey) -> OpenSpan | None:
        """Return the open span, or None when it is not followed."""
        return self._open.get(key)

    def __len__(self) -> int:
        return len(self._executions)

    def _execution(self, execution_id: str) -> Execution:
        found = self._executions.get(execution_id)
        if found is None:
            found = self._executions[execution_id] = Execution(execution_id)
            if len(self._executions) > self._max_executions:
                self._executions.popitem(last=False)
        else:
            self._executions.move_to_end(execution_id)
        return found

    def _decide(
        self, opened: OpenSpan, execution: Execution, span: Span, reading: Reading, own: Amount
    ) -> Outcome:
        response = accounting.response_key(span) if reading.response_id else None
        if reading.usage is None and accounting.is_logfire_request(span):
            shape: Hashable | None = accounting.logfire_shape(span)
        else:
            shape = accounting.call_shape(span, own.input_tokens, own.output_tokens)
        earlier, reason = self._earlier_record(span, response, shape)
        if earlier is not None:
            return _second_record(opened, execution, span, own, earlier, reason)
        outcome = _cover(opened, execution, reading, own)
        if reading.span_class != AGGREGATE:
            self._remember(Call(span, execution, outcome.amount, (span.scope,)), response, shape)
        return outcome

    def _earlier_record(self, span: Span, response: Hashable, shape: Hashable) -> tuple[Call | None, str]:
        call = self._responses.get(response) if response else None
        if call is not None and _is_same_response(call, span):
            return call, accounting.DUPLICATE_RESPONSE_ID
        for call in self._recent.get(shape, ()) if shape else ():
            if span.scope not in call.scopes and accounting.is_same_call(call.span, span):
                call.scopes += (span.scope,)
                return call, accounting.DUPLICATE_CALL
        if accounting.is_logfire_log(span) and (requests := self._recent.get(accounting.logfire_shape(span))):
            return requests.pop(0), accounting.USAGE_ON_LOG
        return None, ""

    def _remember(self, call: Call, response: Hashable, shape: Hashable) -> None:
        if response:
            self._responses[response] = call
            if len(self._responses) > RECENT_RESPONSES:
                self._responses.popitem(last=False)
        if shape is None:
            return
        alike = self._recent.get(shape)
        if alike is None:
            self._recent[shape] = [call]
            if len(self._recent) > RECENT_CALLS:
                self._recent.popitem(last=False)
            return
        alike.append(call)
        if len(alike) > ALIKE_CALLS:
            del alike[0]


def _is_same_response(call: Call, span: Span) -> bool:
    """Whether a record with the id of a call is of it; of a tool call, each scope has one."""
    if span.span_class != TOOL:
        return accounting.is_same_response(call.span, span)
    if span.scope in call.scopes or not accounting.is_same_response(call.span, span):
        return False
    call.scopes += (span.scope,)
    return True


def _second_record(
    opened: OpenSpan, execution: Execution, span: Span, own: Amount, earlier: Call, reason: str
) -> Outcome:
    """Keep the better of two records of one call; a better second one corrects what the first one added."""
    if accounting.best_first(earlier.span) <= accounting.best_first(span):
        _hand_up(opened, span.span_class, NOTHING, has_own=False)
        return Outcome(execution, counted=False, reason=reason)
    correction = own - earlier.amount
    earlier.amount = own
    earlier.span = span
    _hand_up(opened, span.span_class, correction, has_own=True)
    return Outcome(earlier.execution, counted=True, amount=correction)


def _cover(opened: OpenSpan, execution: Execution, reading: Reading, own: Amount) -> Outcome:
    """Apply the coverage rule with what already ended below the span, and count the call."""
    span_class, has_own = reading.span_class, reading.has_amount
    has_below = opened.has_near or (opened.has_far and span_class != MODEL)
    if span_class == TOOL or not has_below:
        execution.count(span_class, has_own)
        if opened.parent is not None:
            _hand_up(opened, span_class, own, has_own=has_own)
        # As `Outcome(...)` in half the time.
        return _new(Outcome, (execution, True, "", own, False))
    rest = _remainder(reading, own, _below(opened, span_class)) if has_own else None
    if rest is None or rest == NOTHING:
        _hand_up(opened, span_class, NOTHING, has_own=has_own)
        return Outcome(execution, counted=False, reason=accounting.COVERED_BY_DESCENDANTS)
    execution.count(span_class, has_own)
    _hand_up(opened, span_class, rest, has_own=True)
    return Outcome(execution, counted=True, amount=rest, is_remainder=True)


def _below(opened: OpenSpan, span_class: str) -> Amount:
    return opened.near if span_class == MODEL else opened.near + opened.far


def _remainder(reading: Reading, own: Amount, below: Amount) -> Amount | None:
    """Return what a span holds beyond its descendants; None when it holds less than they do."""
    if reading.usage is None:
        if own.unpriced or own.cost_picousd < below.cost_picousd:
            return None
        return Amount(own.cost_picousd - below.cost_picousd)
    rest = own - below
    if rest.input_tokens < 0 or rest.output_tokens < 0:
        return None
    if not (rest.input_tokens or rest.output_tokens):
        return NOTHING
    is_unpriced = bool(own.unpriced or below.unpriced)
    cost = 0 if is_unpriced else max(0, rest.cost_picousd)
    return Amount(cost, rest.input_tokens, rest.output_tokens, int(is_unpriced))


def _hand_up(opened: OpenSpan, span_class: str, own: Amount, *, has_own: bool) -> None:
    """Hand what counts at and below an ending span to its parent; a tool or an agent puts it out of reach."""
    parent = opened.parent
    if parent is None:
        return
    beyond = span_class in (TOOL, AGGREGATE)
    if beyond:
        parent.far += own + opened.near + opened.far
        parent.has_far = parent.has_far or has_own or opened.has_near or opened.has_far
    else:
        parent.near += own + opened.near
        parent.far += opened.far
        parent.has_near = parent.has_near or has_own or opened.has_near
        parent.has_far = parent.has_far or opened.has_far


def _amount_of(reading: Reading, charge: Charge | None) -> Amount:
    cost_picousd = charge.cost_picousd if charge else None
    unpriced = 1 if cost_picousd is None and reading.span_class != TOOL else 0
    inputs, outputs = reading.usage.totals if reading.usage else (0, 0)
    return _new(Amount, (cost_picousd or 0, inputs, outputs, unpriced))


_registries: weakref.WeakSet[Executions] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for executions in list(_registries):
        executions.renew_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)

"""Live accounting: what each execution has spent so far, as its spans end.

Children end before their parents, so the rules of `accounting.py` can be decided one span at a time. Memory
is bounded: a fixed number of executions, open spans and recent calls, whatever the application does.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

from otel_cost import accounting
from otel_cost.accounting import Span
from otel_cost.attribution import NOBODY, Payer
from otel_cost.usage import AGGREGATE, MODEL, OTHER, TOOL

RECENT_CALLS = 2_048
"""Calls looked back at for a second record, over all executions: two records of a call end close together."""
ALIKE_CALLS = 64
"""Calls of one trace with the same model and tokens that are told apart."""
RECENT_RESPONSES = 2_048
"""Response ids looked back at; the second record may be in another trace."""

Shape = tuple[object, ...]


class Amount(NamedTuple):
    """Money and tokens. `cost_picousd` sums what is known; `unpriced` counts the calls that are not in it."""

    cost_picousd: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    unpriced: int = 0

    def __add__(self, other: Amount) -> Amount:  # type: ignore[override]
        return Amount(
            self.cost_picousd + other.cost_picousd,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.unpriced + other.unpriced,
        )

    def __sub__(self, other: Amount) -> Amount:
        return Amount(
            self.cost_picousd - other.cost_picousd,
            self.input_tokens - other.input_tokens,
            self.output_tokens - other.output_tokens,
            self.unpriced - other.unpriced,
        )


NOTHING = Amount()


@dataclass(slots=True)
class Execution:
    """Running totals of one agent run."""

    execution_id: str
    total: Amount = NOTHING
    model_calls: int = 0
    tool_calls: int = 0


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
        return self.named_execution or format(self.trace_id, "032x")


@dataclass(slots=True)
class Call:
    """A finished call that a second record may still be of."""

    span: Span
    execution: Execution
    amount: Amount
    scopes: set[str]


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
        self._open: OrderedDict[tuple[int, int], OpenSpan] = OrderedDict()
        self._responses: OrderedDict[tuple[bool, str], Call] = OrderedDict()
        self._recent: OrderedDict[Shape, list[Call]] = OrderedDict()
        self.renew_lock()
        _registries.add(self)

    def renew_lock(self) -> None:
        """Take a new lock: in a forked child the old one may be held by a thread that does not exist."""
        self._lock = threading.Lock()

    def start(
        self, trace_id: int, span_id: int, parent_span_id: int | None, *, execution_id: str, payer: Payer
    ) -> OpenSpan:
        """Follow a span until it ends; where too many are open, the oldest is not followed any more."""
        parent = self._open.get((trace_id, parent_span_id)) if parent_span_id else None
        if parent is not None:
            execution_id = execution_id or parent.named_execution
            if parent.payer is not NOBODY:
                payer = payer.over(parent.payer)
        opened = OpenSpan(parent, trace_id, execution_id, payer)
        self._open[trace_id, span_id] = opened
        if len(self._open) > self._max_open_spans:
            self._open.popitem(last=False)
        return opened

    def end_plain(self, trace_id: int, span_id: int) -> OpenSpan | None:
        """End a span that concerns no model, handing what is below it to its parent; None if not followed."""
        opened = self._open.pop((trace_id, span_id), None)
        if opened is not None and opened.parent is not None and (opened.has_near or opened.has_far):
            with self._lock:
                _hand_up(opened, OTHER, NOTHING, has_own=False)
        return opened

    def end(self, trace_id: int, span_id: int, span: Span) -> Outcome:
        """Decide whether and for how much a span that ended counts, and add it to its execution."""
        opened = self._open.pop((trace_id, span_id), None) or OpenSpan(None, trace_id)
        with self._lock:
            outcome = self._decide(opened, self._execution(opened.execution_id), span)
            outcome.execution.total += outcome.amount
            return outcome

    def get(self, execution_id: str) -> Execution | None:
        """Return an execution's totals, or None when it is not known (any more)."""
        return self._executions.get(execution_id)

    def open_span(self, trace_id: int, span_id: int) -> OpenSpan | None:
        """Return the open span, or None when it is not followed."""
        return self._open.get((trace_id, span_id))

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

    def _decide(self, opened: OpenSpan, execution: Execution, span: Span) -> Outcome:
        shape = accounting.call_shape(span) if accounting.has_call_shape(span) else None
        earlier, reason = self._earlier_record(span, shape)
        if earlier is None:
            return self._first_record(opened, execution, span, shape)
        if accounting.best_first(earlier.span) <= accounting.best_first(span):
            _hand_up(opened, span.span_class, NOTHING, has_own=False)
            return Outcome(execution, counted=False, reason=reason)
        correction = _amount_of(span) - earlier.amount
        earlier.amount = _amount_of(span)
        earlier.span = span
        _hand_up(opened, span.span_class, correction, has_own=True)
        return Outcome(earlier.execution, counted=True, amount=correction)

    def _first_record(
        self, opened: OpenSpan, execution: Execution, span: Span, shape: Shape | None
    ) -> Outcome:
        outcome = _cover(opened, execution, span)
        if outcome.counted:
            if span.span_class == TOOL:
                execution.tool_calls += 1
            elif span.span_class == MODEL or span.has_amount:
                execution.model_calls += 1
        if span.span_class != AGGREGATE:
            self._remember(Call(span, execution, outcome.amount, {span.scope}), shape)
        return outcome

    def _earlier_record(self, span: Span, shape: Shape | None) -> tuple[Call | None, str]:
        call = self._responses.get(accounting.response_key(span)) if span.response_id else None
        if call is not None:
            return call, accounting.DUPLICATE_RESPONSE_ID
        for call in self._recent.get(shape, ()) if shape else ():
            if span.scope not in call.scopes and accounting.is_same_call(call.span, span):
                call.scopes.add(span.scope)
                return call, accounting.DUPLICATE_CALL
        return None, ""

    def _remember(self, call: Call, shape: Shape | None) -> None:
        if call.span.response_id:
            self._responses[accounting.response_key(call.span)] = call
            if len(self._responses) > RECENT_RESPONSES:
                self._responses.popitem(last=False)
        if shape is None:
            return
        alike = self._recent.setdefault(shape, [])
        alike.append(call)
        if len(alike) > ALIKE_CALLS:
            del alike[0]
        if len(self._recent) > RECENT_CALLS:
            self._recent.popitem(last=False)


def _cover(opened: OpenSpan, execution: Execution, span: Span) -> Outcome:
    """Apply the coverage rule with what already ended below the span."""
    below, has_below = _below(opened, span.span_class)
    own = _amount_of(span)
    if span.span_class == TOOL or not has_below:
        _hand_up(opened, span.span_class, own, has_own=span.has_amount)
        return Outcome(execution, counted=True, amount=own)
    rest = _remainder(span, own, below) if span.has_amount else None
    if rest is None or rest == NOTHING:
        _hand_up(opened, span.span_class, NOTHING, has_own=span.has_amount)
        return Outcome(execution, counted=False, reason=accounting.COVERED_BY_DESCENDANTS)
    _hand_up(opened, span.span_class, rest, has_own=True)
    return Outcome(execution, counted=True, amount=rest, is_remainder=True)


def _below(opened: OpenSpan, span_class: str) -> tuple[Amount, bool]:
    if span_class == MODEL:
        return opened.near, opened.has_near
    return opened.near + opened.far, opened.has_near or opened.has_far


def _remainder(span: Span, own: Amount, below: Amount) -> Amount | None:
    """Return what a span holds beyond its descendants; None when it holds less than they do."""
    if span.usage is None:
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


def _amount_of(span: Span) -> Amount:
    inputs, outputs = (
        (span.usage.total_input_tokens, span.usage.total_output_tokens) if span.usage else (0, 0)
    )
    cost = span.charge.cost_picousd if span.charge else None
    is_unpriced = cost is None and span.span_class != TOOL
    return Amount(cost or 0, inputs, outputs, int(is_unpriced))


_registries: weakref.WeakSet[Executions] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for executions in list(_registries):
        executions.renew_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)

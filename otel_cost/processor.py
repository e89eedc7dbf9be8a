"""CostSpanProcessor: writes what each span cost onto the span, before any exporter sees it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakSet

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import StatusCode

from otel_cost import accounting
from otel_cost import attributes as names
from otel_cost.attribution import NOBODY, Payer, Pseudonyms, payer_of, payer_of_context, payer_of_environment
from otel_cost.charging import charge, error_type_of
from otel_cost.config import Config
from otel_cost.containment import contained, count
from otel_cost.executions import Execution, Executions, Outcome, SpanKey
from otel_cost.metrics import CostMetrics
from otel_cost.money import PICO, usd_text
from otel_cost.pricing import Charge, PriceBook, process_book
from otel_cost.second_line import Spent, in_force
from otel_cost.usage import PROVIDER_SAID, Reading, read

_HAS_ON_ENDING = hasattr(SpanProcessor, "_on_ending")
"""From SDK 1.40 on a span can be changed when it is ending; before, only ahead of the other processors."""


class CostSpanProcessor(SpanProcessor):
    """Prices model and tool spans as they end and tallies every execution.

    Add it before the exporting processors: with SDK 1.39 they see the cost only then, with later versions in
    any order. It exports nothing, starts no thread and never raises.

    Args:
        config: Default: `Config.load()`, that is the `OTEL_COST_*` variables.
        book: Prices; default: the catalogue with the files of `config.prices` laid over it.
        executions: Where totals are kept; share one between processors that should see the same executions.

    Attributes:
        leaves_alone: Spans that start while this is true are neither priced nor counted, for a provider whose
            exporters drop them; None where there are none.
    """

    def __init__(
        self,
        config: Config | None = None,
        *,
        book: PriceBook | None = None,
        executions: Executions | None = None,
        cost_metrics: CostMetrics | None = None,
    ) -> None:
        self.config = config or Config.load()
        self.book = book or process_book(self.config.prices)
        self._is_enabled = self.config.enabled
        self.executions = executions or Executions(
            max_executions=self.config.max_executions, max_open_spans=self.config.max_open_spans
        )
        self._metrics = cost_metrics or (CostMetrics() if self.config.metrics else None)
        self._pseudonyms = Pseudonyms(self.config.hash_key.encode(), self.config.hash_fields)
        self._process_payer = payer_of_environment(os.environ)
        self._resource_payers: dict[int, tuple[object, Payer]] = {}
        self.leaves_alone: Callable[[], bool] | None = None
        self._left_alone: WeakSet[Span] = WeakSet()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Note where a span stands and who pays for it.

        Raises:
            BudgetExceeded: The guard can refuse the call that it is about nowhere else.
        """
        try:
            if self.leaves_alone is not None and self.leaves_alone():
                self._left_alone.add(span)
            elif self._is_enabled:
                scope = span.instrumentation_scope.name if span.instrumentation_scope else ""
                for line in in_force:
                    line.started(_key(span), _attributes_of(span), scope, parent_context)
                payer = payer_of(_attributes_of(span)).over(payer_of_context(parent_context))
                parent = span.parent
                if parent is None or parent.is_remote:
                    payer = self._with_execution(span, payer)
                self.executions.start(_key(span), parent.span_id if parent else None, payer)
        except Exception as error:
            count("follow span", error)

    def _on_ending(self, span: Span) -> None:
        if self.leaves_alone is None or span not in self._left_alone:
            self._finish(span)

    def on_end(self, span: ReadableSpan) -> None:
        """Price a span where there was no earlier moment: SDK 1.39, or a wrapper that passes no other on."""
        if not _HAS_ON_ENDING or self.executions.open_span(_key(span)) is not None:
            self._finish(span)

    def shutdown(self) -> None:
        """Nothing to flush: what is known is already on the spans."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing to flush."""
        return True

    def execution(self, execution_id: str) -> Execution | None:
        """Return the running totals of an execution, or None when it is not known (any more)."""
        return self.executions.get(execution_id)

    def _finish(self, span: Span | ReadableSpan) -> None:
        if not self._is_enabled:
            return
        try:
            key, attributes = _key(span), _attributes_of(span)
            reading = None if names.MARKERS.isdisjoint(attributes) else _read(span, attributes)
            if reading is not None and reading.is_billable:
                self._price(span, key, attributes, reading)
            else:
                self._end_plain(span, key, attributes)
        except Exception as error:
            count("price span", error)
            self.executions.end_plain(_key(span))

    def _end_plain(self, span: Span | ReadableSpan, key: SpanKey, attributes: dict[str, Any]) -> None:
        closed = self.executions.end_plain(key)
        for line in in_force:
            line.ended(key, None)
        if closed is not None and _is_local_root(span):
            execution = self.executions.get(closed.execution_id)
            if execution is not None:
                _write_totals(attributes, execution)

    def _price(
        self, span: Span | ReadableSpan, key: SpanKey, attributes: dict[str, Any], reading: Reading
    ) -> None:
        opened = self.executions.open_span(key)
        payer = self._payer(span, attributes, opened.payer if opened else NOBODY)
        if opened is not None and payer.execution_id:
            opened.named_execution = payer.execution_id
        error_type = "" if reading.has_amount else error_type_of(attributes, _exceptions(span))
        cost = charge(reading, attributes, self.book, at=span.start_time or 0, error_type=error_type)
        facts = _facts(span, key, reading, cost)
        outcome = self.executions.end(key, facts)
        self._tell_guard(key, facts, outcome)
        self._write(attributes, reading, cost, outcome)
        if payer is not NOBODY:
            attributes.update(self._pseudonyms.apply(payer).attributes())
        attributes[names.EXECUTION_ID[0]] = outcome.execution.execution_id
        if outcome.counted and self._metrics:
            self._metrics.record(reading, cost.status, outcome.amount)
        if _is_local_root(span):
            _write_totals(attributes, outcome.execution)

    def _tell_guard(self, key: SpanKey, facts: accounting.Span, outcome: Outcome) -> None:
        picousd, execution_id = outcome.amount.cost_picousd, outcome.execution.execution_id
        for line in in_force:
            with contained("count a call that passed no client"):
                spent = Spent(facts, picousd, execution_id, outcome.is_remainder) if outcome.counted else None
                line.ended(key, spent)

    def _write(self, attributes: dict[str, Any], reading: Reading, cost: Charge, outcome: Outcome) -> None:
        attributes[names.PRICE_STATUS] = cost.status
        attributes[names.COUNTED] = outcome.counted
        if outcome.reason:
            attributes[names.NOT_COUNTED_REASON] = outcome.reason
        if reading.marks:
            attributes[names.USAGE_MARKS] = reading.marks
        if cost.reason:
            attributes[names.PRICE_REASON] = cost.reason
        if cost.cost_picousd is not None:
            self._write_amount(attributes, reading, cost, cost.cost_picousd, outcome)

    def _write_amount(
        self, attributes: dict[str, Any], reading: Reading, cost: Charge, cost_picousd: int, outcome: Outcome
    ) -> None:
        card, listed_picousd = cost.card, cost.list_cost_picousd
        attributes[names.COST_USD] = usd_text(cost_picousd)
        attributes[names.PRICE_VERSION] = card.version if card else ""
        if card and card.entry.model:
            attributes[names.PRICE_MODEL] = card.entry.model
        if card and card.entry.source:
            attributes[names.PRICE_SOURCE] = card.entry.source
        if listed_picousd is not None and listed_picousd != cost_picousd:
            attributes[names.LIST_COST_USD] = usd_text(listed_picousd)
        if not outcome.counted:
            return
        # Backends add these up, so they stand only on spans that count, and only for what counts.
        counted_usd = (outcome.amount.cost_picousd if outcome.is_remainder else cost_picousd) / PICO
        attributes[names.COST_AMOUNT] = counted_usd
        attributes[names.COST_CURRENCY] = "USD"
        attributes[names.COST_SOURCE] = "provider" if reading.reported_by == PROVIDER_SAID else "local"
        if self.config.emit_cost:
            attributes[names.COST] = counted_usd

    def _payer(self, span: Span | ReadableSpan, attributes: dict[str, Any], enclosing: Payer) -> Payer:
        own = payer_of(attributes)
        return own.over(enclosing).over(self._payer_around(span))

    def _with_execution(self, span: Span | ReadableSpan, payer: Payer) -> Payer:
        """Return the payer with the execution of the resource or process, where nothing else names one."""
        execution_id = payer.execution_id or self._payer_around(span).execution_id
        return payer._replace(execution_id=execution_id) if execution_id else payer

    def _payer_around(self, span: Span | ReadableSpan) -> Payer:
        resource = span.resource
        known = self._resource_payers.get(id(resource))
        if known is None or known[0] is not resource:
            if len(self._resource_payers) > 16:
                self._resource_payers.clear()
            known = self._resource_payers[id(resource)] = (
                resource,
                payer_of(resource.attributes).over(self._process_payer),
            )
        return known[1]


def _attributes_of(span: Span | ReadableSpan) -> dict[str, Any]:
    """Return the span's own attribute map: the public setter refuses a span that is ending."""
    held: Any = span._attributes
    if held is None:
        return {}
    found = getattr(held, "_dict", held)
    if not isinstance(found, dict):
        # A wrapping processor passed on a copy with a view of the map; later processors get this span too.
        found = span._attributes = dict(found)
    return found


def _is_local_root(span: Span | ReadableSpan) -> bool:
    parent = span.parent
    return parent is None or parent.is_remote


def _read(span: Span | ReadableSpan, attributes: dict[str, Any]) -> Reading | None:
    """Read a span, unless another of our processors has priced it."""
    if names.PRICE_STATUS in attributes:
        return None
    scope = span.instrumentation_scope
    if scope is None:
        return read(attributes)
    return read(attributes, scope=scope.name, scope_version=scope.version or "")


def _exceptions(span: Span | ReadableSpan) -> Iterator[object]:
    """Yield the types of the exceptions that a failed span recorded."""
    if span.status.status_code is StatusCode.ERROR:
        yield from ((event.attributes or {}).get(names.EXCEPTION_TYPE) for event in span.events)


def _key(span: Span | ReadableSpan) -> SpanKey:
    key: SpanKey = span.context[:2]
    return key


def _facts(span: Span | ReadableSpan, key: SpanKey, reading: Reading, cost: Charge) -> accounting.Span:
    scope = span.instrumentation_scope
    scope_name = scope.name if scope else ""
    return accounting.Span(*key, "", scope_name, span.start_time or 0, span.end_time or 0, reading, cost)


def _write_totals(attributes: dict[str, Any], execution: Execution) -> None:
    total = execution.total
    attributes[names.EXECUTION_ID[0]] = execution.execution_id
    attributes[names.EXECUTION_COST_USD] = usd_text(total.cost_picousd)
    attributes[names.EXECUTION_MODEL_CALLS] = execution.model_calls
    attributes[names.EXECUTION_TOOL_CALLS] = execution.tool_calls
    attributes[names.EXECUTION_UNPRICED_CALLS] = total.unpriced
    attributes[names.EXECUTION_INPUT_TOKENS] = total.input_tokens
    attributes[names.EXECUTION_OUTPUT_TOKENS] = total.output_tokens

"""What the guard decided, told where traces and the warehouse see it: an event on a span."""

from __future__ import annotations

import os
from collections.abc import Mapping
from decimal import Decimal

from opentelemetry import trace
from opentelemetry.context import Context

from otel_cost import attributes as names
from otel_cost.attribution import payer_of_context, payer_of_environment, process_pseudonyms
from otel_cost.budgets import ENFORCE
from otel_cost.errors import BudgetExceeded
from otel_cost.usage import MODEL, classify

SCOPE = "otel_cost.guard"
MAX_SPANS = 128
"""Refusals of one execution that get a span of their own: as many as the SDK keeps events on one span."""


def tell_refusal(exceeded: BudgetExceeded, mode: str, *, number: int = 1) -> None:
    """Tell that a call was refused, or would have been, and mark its span as one that was never sent.

    Args:
        number: Which refusal of the execution it is; an agent that goes on makes no end of spans.
    """
    shown = {names.REFUSED: True} if mode == ENFORCE else {}
    tell_step(names.REFUSED, _told(exceeded, mode), shown, number=number)


def tell_step(
    name: str, told: Mapping[str, str], shown: Mapping[str, bool | int | str], *, number: int = 1
) -> None:
    """Tell a decision about a call, and show on the call's own span what was done to it.

    Args:
        number: As in `tell_refusal`.
    """
    span = trace.get_current_span()
    if shown and span.is_recording() and classify(getattr(span, "attributes", None) or {}) == MODEL:
        span.set_attributes(dict(shown))
    if _is_exported(span) or number <= MAX_SPANS:
        tell(name, told)


def tell(name: str, told: Mapping[str, str]) -> None:
    """Put a decision on the current span; where that one is not exported, on a short span of its own.

    Args:
        name: The event: `otel_cost.refused`, `otel_cost.warned`, ...
        told: Its attributes. Who pays is added.
    """
    payer = process_pseudonyms().apply(payer_of_context().over(payer_of_environment(os.environ)))
    told = {**payer.attributes(), **told}
    span = trace.get_current_span()
    if _is_exported(span):
        span.add_event(name, told)
        return
    around = None if span.get_span_context().trace_flags.sampled else Context()
    execution = {key: told[key] for key in names.EXECUTION_ID if key in told}
    own = trace.get_tracer(SCOPE).start_span(names.DECISION_SPAN, around, attributes=execution)
    own.add_event(name, told)
    own.end()


def _told(exceeded: BudgetExceeded, mode: str) -> dict[str, str]:
    amounts = {
        names.DECISION_LIMIT_USD: exceeded.limit_usd,
        names.DECISION_SPENT_USD: exceeded.spent_usd,
        names.DECISION_RESERVED_USD: exceeded.reserved_usd,
        names.DECISION_ASKED_USD: exceeded.asked_usd,
    }
    texts = {
        names.DECISION_KIND: exceeded.kind,
        names.DECISION_MODE: mode,
        names.EXECUTION_ID[0]: exceeded.execution_id,
        names.DECISION_SCOPE: exceeded.scope,
        names.DECISION_REASON: exceeded.reason,
        names.DECISION_MODEL: exceeded.model,
        names.DECISION_TOP_COMPONENTS: ", ".join(exceeded.top_components),
    }
    known = {name: text for name, text in texts.items() if text}
    return known | {name: _exact(amount) for name, amount in amounts.items() if amount is not None}


def _exact(usd: Decimal) -> str:
    """Return an amount without an exponent, zero as 0."""
    return f"{usd:f}" if usd else "0"


def _is_exported(span: trace.Span) -> bool:
    """Whether a span is sent: one that a sampler dropped may be recorded all the same, to be priced."""
    return span.is_recording() and span.get_span_context().trace_flags.sampled

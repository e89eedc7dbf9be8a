"""From what a span says to what it cost: who is believed, and what the amount is worth."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from otel_cost.catalogue import why_unpriced
from otel_cost.errors import UnknownModelError
from otel_cost.money import to_picousd
from otel_cost.pricing import Charge, PriceBook, PriceStatus
from otel_cost.usage import AGGREGATE, PROVIDER_SAID, TOOL, Reading, read_amount

BILLING_PROVIDERS = ("openrouter", "perplexity")
"""Providers whose usage says what they bill: as `cost`, as `cost.total_cost`.

https://openrouter.ai/docs/use-cases/usage-accounting, https://docs.perplexity.ai/api-reference/responses-post
(2026-11)
"""


def charge(reading: Reading, attributes: Mapping[str, Any], book: PriceBook, *, at: int) -> Charge:
    """Return what a span cost.

    In order of belief: what the provider billed; list price times tokens; what the instrumentation computed
    with prices of its own. Usage that is incomplete or known to be off makes the amount an estimate.

    Args:
        at: When the call started, unix nanoseconds. Decides which rate was in force.

    Returns:
        A charge in every case; one without an amount is `unpriced` and says why.
    """
    if reading.span_class == TOOL:
        return book.tool_charge(reading.tool_name, attributes) or _unpriced("no price for this tool")
    listed = _list_charge(reading, book, at)
    if reading.reported_cost_usd is not None:
        if reading.reported_by == PROVIDER_SAID:
            return _reported(reading, listed, "provided", "the provider's own figure")
        if listed.cost_picousd is None:
            return _reported(reading, listed, "estimated", "computed by the instrumentation")
    return listed


def _list_charge(reading: Reading, book: PriceBook, at: int) -> Charge:
    if reading.usage is None:
        return _unpriced("no usage on the span")
    model, requested = reading.model, reading.request_model
    for name in (model,) if model == requested else (model, requested):
        if not name:
            continue
        try:
            listed = book.price(
                reading.usage,
                model=name,
                provider=reading.provider or None,
                at=at,
                service_tier=reading.service_tier or None,
                summed=reading.span_class == AGGREGATE,
            )
        except UnknownModelError:
            continue
        if reading.marks and reading.is_estimate and listed.status == "priced":
            return listed._replace(status="estimated", reason=", ".join(reading.marks))
        return listed
    return _unpriced(why_unpriced(reading.provider, model) if model else "no model on the span")


def _unpriced(reason: str) -> Charge:
    return Charge("unpriced", None, reason=reason)


def _reported(reading: Reading, listed: Charge, status: PriceStatus, reason: str) -> Charge:
    assert reading.reported_cost_usd is not None  # callers looked
    return listed._replace(status=status, cost_picousd=to_picousd(reading.reported_cost_usd), reason=reason)


def billed_usd(raw_usage: Mapping[str, Any]) -> Decimal | None:
    """Return what a provider billed, or None where its usage does not say.

    With a key of the customer's own (`is_byok`), the bill is the provider's fee and the upstream cost comes
    on top. A bill of 0 without one is not believed: free models have a list price of 0, too.

    Args:
        raw_usage: The usage object of an answer of one of `BILLING_PROVIDERS`.
    """
    cost = raw_usage.get("cost")
    cost = read_amount(cost.get("total_cost") if isinstance(cost, Mapping) else cost)
    if raw_usage.get("is_byok") is True:
        details = raw_usage.get("cost_details")
        upstream = (
            read_amount(details.get("upstream_inference_cost")) if isinstance(details, Mapping) else None
        )
        return None if upstream is None else upstream + (cost or 0)
    return cost or None

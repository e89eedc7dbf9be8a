"""From what a span says to what it cost: who is believed, and what the amount is worth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from otel_cost import attributes as names
from otel_cost.catalogue import why_unpriced
from otel_cost.errors import UnknownModelError
from otel_cost.money import to_picousd
from otel_cost.pricing import Charge, PriceBook, PriceStatus
from otel_cost.usage import AGGREGATE, MODEL, PROVIDER_SAID, TOOL, Reading, read_amount

BILLING_PROVIDERS = ("openrouter", "perplexity")
"""Providers whose usage says what they bill: as `cost`, as `cost.total_cost`.

https://openrouter.ai/docs/use-cases/usage-accounting, https://docs.perplexity.ai/api-reference/responses-post
(2026-11)
"""

_REFUSING_STATUSES = ("401", "402", "403", "404", "413", "429", "503", "529")
_OF_OPENAI_AND_ANTHROPIC = (
    "AuthenticationError",
    "NotFoundError",
    "OverloadedError",
    "PermissionDeniedError",
    "RateLimitError",
    "RequestTooLargeError",
    "ServiceUnavailableError",
)
_OF_COHERE = ("ForbiddenError", "TooManyRequestsError", "UnauthorizedError")
_OF_BEDROCK = (
    "AccessDeniedException",
    "ModelNotReadyException",
    "ResourceNotFoundException",
    "ServiceUnavailableException",
    "ThrottlingException",
)
_OF_GOOGLE = ("NotFound", "PermissionDenied", "ResourceExhausted", "Unauthenticated")
REFUSALS = frozenset((*_REFUSING_STATUSES, *_OF_OPENAI_AND_ANTHROPIC, *_OF_COHERE, *_OF_BEDROCK, *_OF_GOOGLE))
"""Errors of calls that a provider did not begin to work on: a status, or what clients raise for one.

What a provider works on it may bill, whatever comes of it (a content filter's 400, a 408), but not the rest
(401, 429): https://learn.microsoft.com/azure/ai-services/openai/how-to/manage-costs. Google bills no 400 and
no 500 (https://ai.google.dev/gemini-api/docs/billing); others do not say so, and there they stay unknown
(2026-11).
"""
REFUSED = "the provider refused it, and bills nothing"


def charge(
    reading: Reading, attributes: Mapping[str, Any], book: PriceBook, *, at: int, error_type: str = ""
) -> Charge:
    """Return what a span cost.

    In order of belief: what the provider billed; list price times tokens; what the instrumentation computed
    with prices of its own. Usage that is incomplete or known to be off makes the amount an estimate. A call
    that says of itself that the provider refused it cost nothing.

    Args:
        at: When the call started, unix nanoseconds. Decides which rate was in force.
        error_type: As `error_type_of` gives it. Asked only of model calls without usage and cost.

    Returns:
        A charge in every case; one without an amount is `unpriced` and says why.
    """
    if error_type and reading.span_class == MODEL and not reading.has_amount and is_refusal(error_type):
        return Charge("priced", 0, 0, reason=REFUSED)
    if reading.span_class == TOOL:
        return book.tool_charge(reading.tool_name, attributes) or _unpriced("no price for this tool")
    listed = _list_charge(reading, book, at)
    if reading.reported_cost_usd is not None:
        if reading.reported_by == PROVIDER_SAID:
            return _reported(reading, listed, "provided", "the provider's own figure")
        if listed.cost_picousd is None:
            return _reported(reading, listed, "estimated", "computed by the instrumentation")
    return listed


def error_type_of(attributes: Mapping[str, Any], exceptions: Iterable[object]) -> str:
    """Return how a call failed, empty where its span does not say.

    Args:
        exceptions: What the events of a span that failed have as `exception.type`: an instrumentation that
            writes no `error.type` records the exception.
    """
    told = attributes.get(names.ERROR_TYPE) or next(filter(None, exceptions), None)
    return "" if told is None else str(told)


def is_refusal(error_type: str) -> bool:
    """Whether a provider did not begin to work on a call that failed so: `429`, `openai.RateLimitError`."""
    return error_type.rpartition(".")[2] in REFUSALS


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

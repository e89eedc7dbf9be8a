"""What the span of a call has no way to know of what it used, so that it costs what the ledger counted."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType

from otel_cost import attributes as names
from otel_cost.charging import BILLING_PROVIDERS
from otel_cost.guard.answers import Answer
from otel_cost.guard.calls import GEMINI, INTERACTIONS, ModelCall
from otel_cost.usage import Usage, in_place, place_of

Said = Mapping[str, str | int]

NOTHING: Said = MappingProxyType({})

_PARTS = (
    ("audio_input_tokens", names.AUDIO_INPUT_TOKENS[0]),
    ("image_input_tokens", names.IMAGE_INPUT_TOKENS[0]),
    ("audio_output_tokens", names.AUDIO_OUTPUT_TOKENS[0]),
    ("image_output_tokens", names.IMAGE_OUTPUT_TOKENS[0]),
    ("tool_input_tokens", names.TOOL_INPUT_TOKENS[0]),
)


def untold(
    call: ModelCall, answer: Answer, usage: Usage, *, is_usage_hidden: bool = False, is_partial: bool = False
) -> Said:
    """Return as attributes what instrumentations leave out: searches, places, what is no text, bills.

    Args:
        is_usage_hidden: The application has not asked for the usage, so that no instrumentation sees it.
        is_partial: The answer broke off, so that nobody was told a usage.
    """
    said: dict[str, str | int] = usage_attributes(usage) if is_usage_hidden or is_partial else {}
    if is_partial:
        said[names.USAGE_SOURCE] = names.PARTIAL
    if searches := answer.untold_searches or (usage.web_searches if call.api.name == INTERACTIONS else 0):
        said[names.WEB_SEARCHES[0]] = searches
    if place_of(answer.inference_geo):
        said[names.INFERENCE_GEO] = answer.inference_geo
    if (bill := bill_of(call, answer)) is not None:
        said |= {names.COST_AMOUNT: str(bill), names.COST_CURRENCY: "USD", names.COST_SOURCE: "provider"}
    if call.api.name == GEMINI:
        said |= _parts(usage)
    elif call.api.name == INTERACTIONS:
        said |= usage_attributes(usage) | _parts(usage)
    return said


def bill_of(call: ModelCall, answer: Answer) -> Decimal | None:
    """Return what the provider says it bills in USD, where it is one to be believed and says so."""
    return answer.billed_usd if call.provider in BILLING_PROVIDERS else None


def tier_of(call: ModelCall, answer: Answer) -> str:
    """Return the service tier that an answer tells, or else its request, after the place of the inference."""
    place = place_of(answer.inference_geo) if answer.inference_geo else call.place
    return in_place(place, answer.service_tier or call.service_tier)


def usage_attributes(usage: Usage) -> dict[str, str | int]:
    """Return usage as the attributes of a span."""
    inputs, outputs = usage.totals
    details = {
        names.CACHE_READ_TOKENS[0]: usage.cache_read_tokens,
        names.CACHE_WRITE_TOKENS[0]: usage.cache_write_tokens + usage.cache_write_1h_tokens,
        names.REASONING_TOKENS[0]: usage.reasoning_tokens,
    }
    return {
        names.INPUT_TOKENS[0]: inputs,
        names.OUTPUT_TOKENS[0]: outputs,
        **{name: count for name, count in details.items() if count},
    }


def _parts(usage: Usage) -> dict[str, str | int]:
    """The parts of input and output, and the total, which tells what is inside of what.

    OpenTelemetry's instrumentation (google-genai 1.3b0) leaves what tools gave out of the input, and the
    thoughts of an interaction out of the output. OpenInference's (1.4.14) counts what an interaction read
    from a cache twice, and what its tools gave as output.
    """
    said: dict[str, str | int] = {name: count for part, name in _PARTS if (count := getattr(usage, part))}
    if said or usage.reasoning_tokens:
        said[names.TOTAL_TOKENS[0]] = sum(usage.totals)
    return said

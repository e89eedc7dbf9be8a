"""Calls described as JSON, priced one by one: what `otel-cost price` computes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

from otel_cost.catalogue import resolve_provider, why_unpriced
from otel_cost.charging import BILLING_PROVIDERS, billed_usd
from otel_cost.errors import OtelCostError, UnknownModelError, UsageError
from otel_cost.money import usd_text
from otel_cost.pricing import Charge, PriceBook
from otel_cost.totals import usage_of_totals

SUMMED_SCOPES = ("execution", "session", "run")
"""How a `scope` begins that says that usage is the sum of several calls."""


def price_lines(book: PriceBook, lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Yield one result per line of JSON, in order; a line that cannot be priced gives an error, not an end.

    A line has `model`, and may have `provider`, `usage` (totals that contain their parts; see
    `totals.usage_of_totals`), `date` (ISO 8601; now by default), `service_tier`, `scope` (`execution...`: the
    usage is the sum of several calls), `raw_usage` (what the provider sent, whose bill is believed where the
    provider is one of `charging.BILLING_PROVIDERS`) and `id`, which comes back.
    """
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _guarded(book, number, line)


def _guarded(book: PriceBook, number: int, line: str) -> dict[str, Any]:
    try:
        call = json.loads(line, parse_float=Decimal)
        if not isinstance(call, dict):
            raise UsageError("is not a JSON object")
        return _identity(call) | price_call(book, call)
    except ValueError as error:
        return {"status": "error", "error": f"line {number}: is not JSON: {error}"}
    except OtelCostError as error:
        return {"status": "error", "error": f"line {number}: {error}"}


def _identity(call: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": call["id"]} if isinstance(call.get("id"), str | int) else {}


def price_call(book: PriceBook, call: Mapping[str, Any]) -> dict[str, Any]:
    """Return what one call cost, with where the price is from.

    Raises:
        UsageError: The call has no model, or usage or a date that nobody could mean.
    """
    model, provider, tier = (_text(call, name) for name in ("model", "provider", "service_tier"))
    if not model:
        raise UsageError("'model' is missing; write the model as the span names it")
    raw = call.get("raw_usage")
    raw = raw if isinstance(raw, Mapping) else {}
    listed = _listed(book, call, model, provider, tier or _text(raw, "service_tier"))
    bill = billed_usd(raw) if resolve_provider(provider, model) in BILLING_PROVIDERS else None
    return as_json(listed if bill is None else Charge.provided(bill, listed), model, provider)


def _listed(book: PriceBook, call: Mapping[str, Any], model: str, provider: str, tier: str) -> Charge:
    usage = call.get("usage")
    if usage is None:
        return Charge("unpriced", None, None, "no usage")
    if not isinstance(usage, Mapping):
        raise UsageError(f"usage={str(usage)[:60]!r} is not an object of counts")
    at = moment(call.get("date"))
    summed = _text(call, "scope").startswith(SUMMED_SCOPES)
    counts = usage_of_totals(usage)
    try:
        return book.price(
            counts, model=model, provider=provider or None, at=at, service_tier=tier or None, summed=summed
        )
    except UnknownModelError:
        return Charge("unpriced", None, None, why_unpriced(provider, model), counts)


def moment(value: object) -> datetime:
    """Return a date or time in ISO 8601 as UTC, and now for None.

    Raises:
        UsageError: The value is no date.
    """
    if value is None:
        return datetime.now(tz=timezone.utc)
    try:
        # Python 3.10 does not read the Z.
        at = datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    except ValueError:
        raise UsageError(f"date={value!r} is not a date; write 2026-01-31 or 2026-01-31T12:00:00Z") from None
    return at if at.tzinfo else at.replace(tzinfo=timezone.utc)


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    if value is not None and not isinstance(value, str):
        raise UsageError(f"{name}={value!r} is not a text")
    return value or ""


def as_json(charge: Charge, model: str, provider: str) -> dict[str, Any]:
    """Return a charge as JSON: amounts as plain decimal text, null where there is none."""
    made: dict[str, Any] = {
        "cost_usd": _usd(charge.cost_picousd),
        "status": charge.status,
        "model": charge.model or model,
        "provider": charge.provider or provider,
        "list_cost_usd": _usd(charge.list_cost_picousd),
        "lines": [
            {"bucket": name, "units": units, "usd_per_unit": _rate(rate)}
            for name, units, rate in charge.lines
        ],
        "source": charge.source,
        "source_date": charge.source_date,
        "version": charge.version,
    }
    if charge.reason:
        made["reason"] = charge.reason
    if charge.missing:
        made["missing"] = list(charge.missing)
    return made


def _usd(picousd: int | None) -> str | None:
    return None if picousd is None else usd_text(picousd)


def _rate(atto_usd: int) -> str:
    return format(Decimal(atto_usd).scaleb(-18).normalize(), "f")

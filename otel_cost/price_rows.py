"""Rates as rows for a database, which looks them up by provider, model, service tier and time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

from otel_cost.catalogue import Entry
from otel_cost.rates import PRICED_UNITS, Card, Schedule

FOREVER = datetime(2100, 1, 1, tzinfo=timezone.utc)
"""The end of rates that nobody has changed yet: inside what every date type of ClickHouse holds."""

PEAK = "PEAK"
"""Begins the pseudo service tiers of rates that hold in daily windows: `PEAK`, and `PEAK batch` of `batch`.

In capitals, so that no tier a span or a price file names is taken for one: those are read in lower case.
"""

THRESHOLDS = ("above", "above_2")
"""No known model has more than two thresholds; a test says so."""


def rows(entry: Entry, service_tier: str, schedule: Schedule, version: str) -> Iterator[dict[str, Any]]:
    """Yield one row per period: half-open `valid_from` to `valid_to`, UTC.

    Columns:
        provider, model: The price entry that `pattern_rows` leads to.
        service_tier: Empty for the standard one; what `peak_tier` says inside the daily windows of a tier.
        valid_from, valid_to: When the rates hold.
        peak_windows: (second of the UTC day that a window begins, second that it ends).
        <bucket>: Decimal USD per unit with 18 decimals, or None; the buckets of `otel_cost.usage.BUCKETS`,
            and `requests`, the fee of a request.
        above_input_tokens, <bucket>_above: The rates of requests with more input, cached included; 0 is none.
        above_2_input_tokens, <bucket>_above_2: The same for a second threshold.
        discount_ratio: What the customer pays less, from 0 to 1.
        estimated: Why the rates are not the model's own, or an empty text.
        source, source_date, version: Where the rates are from.
    """
    ends = [*(period.since for period in schedule.periods[1:]), FOREVER]
    for period, valid_to in zip(schedule.periods, ends, strict=True):
        if not period.card.own:
            continue
        head: dict[str, Any] = {
            "provider": entry.provider,
            "model": entry.model,
            "service_tier": service_tier,
        }
        head |= {"valid_from": period.since, "valid_to": valid_to}
        windows = tuple((begin, end) for begin, end, _ in period.windows)
        yield (
            head | {"peak_windows": windows} | _columns(period.card) | _origin(entry, period.card, version)
        )
        if windows:
            card = period.windows[0][2]
            yield (
                head
                | {"service_tier": peak_tier(service_tier), "peak_windows": ()}
                | _columns(card)
                | _origin(entry, card, version)
            )


def peak_tier(service_tier: str) -> str:
    """Return the pseudo service tier of the rates that hold in the daily windows of another."""
    return f"{PEAK} {service_tier}".rstrip()


def _origin(entry: Entry, card: Card, version: str) -> dict[str, Any]:
    return {
        "discount_ratio": card.terms.discount_ratio,
        "estimated": card.estimated,
        "source": entry.source,
        "source_date": entry.source_date,
        "version": version,
    }


def _columns(card: Card) -> dict[str, Any]:
    base, *above = reversed(card.thresholds)
    made: dict[str, Any] = {unit: _usd(rate) for unit, rate in card.rates(base).items()}
    for number, prefix in enumerate(THRESHOLDS):
        start = above[number] if number < len(above) else 0
        made[f"{prefix}_input_tokens"] = start
        rates = card.rates(start + 1) if start else dict.fromkeys(PRICED_UNITS)
        made |= {f"{unit}_{prefix}": _usd(rate) for unit, rate in rates.items()}
    return made


def _usd(atto: int | None) -> Decimal | None:
    return None if atto is None else Decimal(atto).scaleb(-18)

"""What a price book knows, as rows for people and programs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

from otel_cost.pricing import PriceBook
from otel_cost.providers import canonical_provider
from otel_cost.rates import PLAIN_BUCKETS, PRICED_UNITS, TOKEN_UNITS, Card

COUNT_OPTIONS = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "reasoning_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
    "image_input_tokens",
    "image_output_tokens",
    "web_searches",
    "rerank_searches",
    "images",
)
"""Counts that the command line takes one by one; a batch takes every one."""

SHOWN = ("input_tokens", "cache_read_tokens", "output_tokens")


def current(book: PriceBook, provider: str, model: str, at: datetime) -> Iterator[dict[str, Any]]:
    """Yield the models whose name contains a text, with the standard rates in force at a moment."""
    wanted = canonical_provider(provider.lower()) or provider.lower()
    for entry in book.entries():
        if wanted in ("", entry.provider) and model.lower() in entry.model and not entry.caveat:
            card = book.schedule(entry, "").at(at)
            yield {
                "provider": entry.provider,
                "model": entry.model,
                "usd_per_mtok": {
                    name: usd for name, usd in _usd(card, 0, 10**6).items() if name in PLAIN_BUCKETS
                },
                "source": entry.source,
            }


def history(book: PriceBook, model: str, provider: str) -> dict[str, Any] | None:
    """Return every rate of one model, or None where no price is known."""
    entry = book.resolve(model, provider or None)
    if entry is None:
        return None
    rates = []
    for tier in book.service_tiers(entry):
        for period in book.schedule(entry, tier).periods:
            since = period.since.date().isoformat() if period.start_ns else "always"
            windows = [(_clock(begin, end), card) for begin, end, card in period.windows]
            for daily, card in [("", period.card), *windows]:
                rates += [
                    {"since": since, "service_tier": tier, "daily": daily, **step} for step in _steps(card)
                ]
    return {
        "provider": entry.provider,
        "model": entry.model,
        "source": entry.source,
        "source_date": entry.source_date,
        "version": book.version,
        "caveat": entry.caveat,
        "rates": rates,
    }


def check(book: PriceBook, now: datetime) -> dict[str, Any]:
    """Return how much a book knows and how old it is: days since the newest change that is in force."""
    entries = [entry for entry in book.entries() if not entry.caveat]
    days = [when for entry in entries for when, _ in entry.prices if isinstance(when, str)]
    newest = max((day for day in days if day <= now.date().isoformat()), default="")
    age = (now.date() - datetime.fromisoformat(newest).date()).days if newest else 0
    return {
        "version": book.version,
        "providers": len({entry.provider for entry in entries}),
        "models": len(entries),
        "dated_changes": len(days),
        "newest_change": newest,
        "age_days": age,
    }


def _steps(card: Card) -> Iterator[dict[str, Any]]:
    for start in reversed(card.thresholds):
        yield {"above_input_tokens": start, "rates": _distinct(_usd(card, start, 10**6))}


def _usd(card: Card, above: int, scale: int) -> dict[str, str]:
    rates = card.rates(above + 1)
    return {
        unit: format((Decimal(rate) * (scale if unit in TOKEN_UNITS else 1)).scaleb(-18).normalize(), "f")
        for unit in PRICED_UNITS
        if (rate := rates[unit]) is not None
    }


def _distinct(rates: dict[str, str]) -> dict[str, str]:
    """Leave out buckets that cost what the bucket around them costs."""
    from otel_cost.rates import PARENTS

    return {
        unit: usd
        for unit, usd in rates.items()
        if usd != next((rates[parent] for parent in PARENTS.get(unit, ()) if parent in rates), None)
    }


def _clock(begin: int, end: int) -> str:
    return f"{begin // 3600:02}:{begin % 3600 // 60:02}-{end // 3600:02}:{end % 3600 // 60:02}"

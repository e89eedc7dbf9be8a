"""What holds for every price: equal to genai-prices, additive, monotone, the sum of its buckets."""

from __future__ import annotations

from datetime import datetime, timezone
from decimal import Decimal
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_cost.pricing import PriceBook
from otel_cost.totals import usage_of_totals
from otel_cost.usage import BUCKETS, Usage

genai_prices = pytest.importorskip("genai_prices", reason="genai-prices needs Python 3.11")
providers = pytest.importorskip("genai_prices.data").providers

TOLERANCE_USD = Decimal("1.5e-12")
"""Half a pico-dollar of rounding, and another for each million tokens at a rate finer than an atto-dollar."""

OURS = {("openai", name) for name in ("moderation", "gpt-4o-search-preview", "gpt-5-search-api")}
"""Entries of genai-prices that our overrides replace."""

AT = datetime(2026, 1, 1, tzinfo=timezone.utc)
MODELS = [
    (provider.id, model.id)
    for provider in providers
    for model in provider.models
    if (provider.id, model.id) not in OURS
]
MOMENTS = st.datetimes(datetime(2024, 1, 1), datetime(2027, 6, 1), timezones=st.just(timezone.utc))  # noqa: DTZ001
TOKENS = st.one_of(
    st.integers(0, 3000), st.sampled_from([0, 100_000, 199_999, 200_000, 200_001, 272_001, 600_000])
)
TIERS = st.sampled_from([None, "batch", "flex", "priority", "fast"])


@cache
def book() -> PriceBook:
    """The book that ships."""
    return PriceBook.load()


@st.composite
def totals(draw: st.DrawFn) -> dict[str, int]:
    """Totals that contain their parts, in the names of genai-prices."""
    read, written, written_1h, audio, cached_audio, fresh = (draw(TOKENS) for _ in range(6))
    visible, reasoning = draw(TOKENS), draw(TOKENS)
    return {
        "input_tokens": read + written + written_1h + audio + cached_audio + fresh,
        "cache_read_tokens": read + cached_audio,
        "cache_write_tokens": written + written_1h,
        "cache_write_1h_tokens": written_1h,
        "input_audio_tokens": audio + cached_audio,
        "cache_audio_read_tokens": cached_audio,
        "output_tokens": visible + reasoning,
        "output_reasoning_tokens": reasoning,
        "web_searches": draw(st.integers(0, 20)),
    }


def theirs(counts: dict[str, int], provider: str, model: str, at: datetime, tier: str | None) -> Decimal:
    """What genai-prices says, for the model that it means by that name."""
    keys = ("service_tier", "processing", "speed")
    context = dict.fromkeys(keys, tier) if tier else None
    usage = genai_prices.Usage(**counts)
    return genai_prices.calc_price(
        usage, model, provider_id=provider, genai_request_timestamp=at, price_context=context
    ).total_price


@settings(max_examples=600, deadline=None)
@given(named=st.sampled_from(MODELS), counts=totals(), at=MOMENTS)
def test_amounts_equal_genai_prices(named: tuple[str, str], counts: dict[str, int], at: datetime) -> None:
    """Any usage of any model at any time costs what genai-prices says, to a pico-dollar or so."""
    provider, model = named
    try:
        expected = theirs(counts, provider, model, at, None)
    except (LookupError, ValueError):
        return
    charge = book().price(usage_of_totals(counts), model=model, provider=provider, at=at)
    if charge.cost_usd is None:
        assert expected == 0
    else:
        assert abs(charge.cost_usd - expected) <= TOLERANCE_USD


def test_every_model_equals_genai_prices() -> None:
    """One usage of everything at once, for each model that genai-prices finds by its own name."""
    counts = dict.fromkeys(("cache_read_tokens", "input_audio_tokens"), 700) | {
        "input_tokens": 210_000,
        "cache_audio_read_tokens": 100,
        "cache_write_tokens": 900,
        "cache_write_1h_tokens": 400,
        "output_tokens": 5000,
        "output_reasoning_tokens": 3000,
        "web_searches": 3,
    }
    different = []
    for provider, model in MODELS:
        try:
            expected = theirs(counts, provider, model, AT, None)
        except LookupError:
            continue
        charge = book().price(usage_of_totals(counts), model=model, provider=provider, at=AT)
        if abs((charge.cost_usd or 0) - expected) > TOLERANCE_USD:
            different.append((provider, model, charge.cost_usd, expected))
    assert different == []


@settings(max_examples=300, deadline=None)
@given(
    named=st.sampled_from(
        [
            (p.id, m.id)
            for p in providers
            for m in p.models
            if m.price_variants and m.is_match(m.id) and p.id != "perplexity"
        ]
    ),
    counts=totals(),
    at=MOMENTS,
    tier=TIERS,
)
def test_service_tiers_equal_genai_prices(
    named: tuple[str, str], counts: dict[str, int], at: datetime, tier: str | None
) -> None:
    """Where genai-prices has rates for a tier, they are ours; where it has none, we say more or mark it."""
    provider, model = named
    charge = book().price(usage_of_totals(counts), model=model, provider=provider, at=at, service_tier=tier)
    standard = theirs(counts, provider, model, at, None)
    expected = theirs(counts, provider, model, at, tier)
    if charge.cost_usd is None:
        assert expected == 0
    elif expected != standard or tier is None:
        assert abs(charge.cost_usd - expected) <= TOLERANCE_USD
    elif expected and tier != "batch":
        assert charge.status == "estimated" or abs(charge.cost_usd - expected) <= TOLERANCE_USD


PRICED = st.sampled_from(
    [
        ("openai", "gpt-4o"),
        ("anthropic", "claude-sonnet-4-5"),
        ("google", "gemini-2.5-pro"),
        ("groq", "openai/gpt-oss-20b"),
    ]
)
SMALL = st.fixed_dictionaries(
    {
        name: st.integers(0, 10_000)
        for name in (
            "input_tokens",
            "cache_read_tokens",
            "cache_write_tokens",
            "output_tokens",
            "reasoning_tokens",
        )
    }
).map(lambda counts: Usage(**counts))


def cost(usage: Usage, named: tuple[str, str], **more: Any) -> int:
    """Whole pico-USD that usage costs."""
    charge = book().price(usage, model=named[1], provider=named[0], at=AT, **more)
    assert charge.cost_picousd is not None
    return charge.cost_picousd


def plus(one: Usage, other: Usage) -> Usage:
    """Usage of two calls together."""
    return Usage(**{name: getattr(one, name) + getattr(other, name) for name in BUCKETS})


@given(one=SMALL, other=SMALL, named=PRICED)
def test_costs_are_additive_below_a_threshold(one: Usage, other: Usage, named: tuple[str, str]) -> None:
    """Two calls cost what one with the tokens of both costs, but for the rounding of each."""
    assert abs(cost(one, named) + cost(other, named) - cost(plus(one, other), named)) <= 1


@given(usage=SMALL, more=SMALL, named=PRICED)
def test_more_usage_never_costs_less(usage: Usage, more: Usage, named: tuple[str, str]) -> None:
    """Adding tokens to any bucket does not lower the cost."""
    assert cost(plus(usage, more), named) >= cost(usage, named)


@given(usage=SMALL, named=PRICED)
def test_the_lines_sum_to_the_cost(usage: Usage, named: tuple[str, str]) -> None:
    """The cost is the sum of units times rate over its lines, rounded half up to a pico-dollar."""
    charge = book().price(usage, model=named[1], provider=named[0], at=AT)
    atto = sum(units * rate for _, units, rate in charge.lines)
    assert charge.cost_picousd == (2 * atto + 10**6) // (2 * 10**6)


@given(usage=SMALL, named=PRICED)
def test_the_quick_way_is_the_long_way(usage: Usage, named: tuple[str, str]) -> None:
    """Common usage takes a shorter way to the same amount: pricing as a sum goes the long one."""
    assert cost(usage, named) == cost(usage, named, summed=True)


@pytest.mark.parametrize("named", [("google", "gemini-2.5-pro"), ("anthropic", "claude-sonnet-4-5")])
def test_a_threshold_only_raises(named: tuple[str, str]) -> None:
    """One token more at 200,000 costs more than a token."""
    below, above = (cost(Usage(input_tokens=tokens), named) for tokens in (200_000, 200_001))
    assert above > below * Decimal("1.5")

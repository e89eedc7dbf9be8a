"""What a call costs: expected amounts are worked by hand from the rates named beside them."""

from __future__ import annotations

import threading
from datetime import datetime, timezone
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from otel_cost.errors import UnknownModelError
from otel_cost.pricing import CACHED_SCHEDULES, LONGEST_NAME, Charge, PriceBook, is_unusual
from otel_cost.rates import PLAIN_BUCKETS
from otel_cost.usage import BUCKETS, Usage

DAY = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)


@cache
def book() -> PriceBook:
    """The book that ships."""
    return PriceBook.load()


def price(
    model: str, provider: str, at: datetime | int = DAY, tier: str | None = None, **usage: int
) -> Charge:
    """Price usage given as buckets."""
    return book().price(Usage(**usage), model=model, provider=provider, at=at, service_tier=tier)


def test_buckets_are_added_up_at_their_own_rates() -> None:
    """Fresh, cached and visible tokens each cost their own rate, and reasoning that of output.

    GPT-4o: 2.50 USD per million for input, 1.25 for cached input, 10 for output
    (https://platform.openai.com/docs/pricing, 2026-11-22): 1,000 x 2.5 + 600 x 1.25 + 200 x 10 = 5,250
    millionths.
    """
    charge = price(
        "gpt-4o", "openai", input_tokens=1000, cache_read_tokens=600, output_tokens=50, reasoning_tokens=150
    )
    assert charge.status == "priced"
    assert charge.cost_usd == Decimal("0.00525")
    assert charge.reason == ""
    assert charge.missing == ()


def test_cache_writes_cost_more_the_longer_they_are_kept() -> None:
    """Five-minute writes cost 1.25 times the input rate, one-hour writes twice.

    Claude Opus 5: 5 USD input, 6.25 and 10 for writes, 0.50 for reads
    (https://platform.claude.com/docs/en/about-claude/pricing): 1,000 x (6.25 + 10 + 0.5) = 16,750 millionths.
    """
    charge = price(
        "claude-opus-5",
        "anthropic",
        cache_write_tokens=1000,
        cache_write_1h_tokens=1000,
        cache_read_tokens=1000,
    )
    assert charge.cost_usd == Decimal("0.01675")


@pytest.mark.parametrize(
    ("input_tokens", "expected"),
    [
        # 200,000 x 1.25 + 1,000 x 10 = 260,000 millionths; above, all tokens at 2.50 and 15.
        (200_000, "0.26"),
        (200_001, "0.5150025"),
    ],
)
def test_a_long_prompt_raises_the_rate_of_every_token(input_tokens: int, expected: str) -> None:
    """Gemini 2.5 Pro costs 1.25 and 10 USD up to 200,000 input tokens, 2.50 and 15 above
    (https://ai.google.dev/gemini-api/docs/pricing)."""
    charge = price("gemini-2.5-pro", "gcp.gemini", input_tokens=input_tokens, output_tokens=1000)
    assert charge.cost_usd == Decimal(expected)


@pytest.mark.parametrize(
    ("cached", "expected"), [(71_999, "0.0927998"), (72_000, "0.093"), (72_001, "0.1860004")]
)
def test_cached_input_counts_towards_the_threshold(cached: int, expected: str) -> None:
    """200,000 fresh tokens and what was cached decide together at 272,000 tokens.

    GPT-5.6 Luna from 2026-07-30: 0.20 USD, 0.02 cached; twice that above 272,000 input tokens
    (https://developers.openai.com/api/docs/pricing): 200,000 x 0.2 + 72,000 x 0.02 = 41,440 millionths.
    """
    charge = price("gpt-5.6-luna", "openai", input_tokens=200_000, cache_read_tokens=cached)
    rate, cached_rate = Decimal("0.2"), Decimal("0.02")
    by_hand = (200_000 * rate + cached * cached_rate) * (2 if 200_000 + cached > 272_000 else 1) / 10**6
    assert charge.cost_usd == by_hand


def test_the_rate_in_force_at_the_time_holds() -> None:
    """OpenAI made o3 cheaper on 2025-06-10: 10 and 40 USD per million before, 2 and 8 from that day on.

    https://openai.com/api/pricing, announced 2025-06-10.
    """
    used = {"input_tokens": 1_000_000, "output_tokens": 1_000_000}
    before = price("o3", "openai", datetime(2025, 6, 9, 23, 59, 59, tzinfo=timezone.utc), **used)
    after = price("o3", "openai", datetime(2025, 6, 10, tzinfo=timezone.utc), **used)
    assert (before.cost_usd, after.cost_usd) == (50, 10)


def test_a_time_is_taken_in_utc() -> None:
    """A moment is the same moment in any zone, as nanoseconds, and without a zone."""
    moment = datetime.fromisoformat("2025-06-10T01:30:00+02:00")
    same = [moment, moment.astimezone(timezone.utc), datetime(2025, 6, 9, 23, 30)]  # noqa: DTZ001
    costs = {price("o3", "openai", at, input_tokens=10).cost_usd for at in same}
    costs.add(price("o3", "openai", int(moment.timestamp()) * 10**9, input_tokens=10).cost_usd)
    assert costs == {Decimal("0.0001")}


@pytest.mark.parametrize(
    ("hour", "minute", "expected"), [(0, 29, "0.135"), (0, 30, "0.27"), (16, 30, "0.135")]
)
def test_the_hour_decides_where_a_provider_has_peak_hours(hour: int, minute: int, expected: str) -> None:
    """DeepSeek Chat costs 0.27 USD from 00:30 to 16:30 UTC, else 0.135
    (https://api-docs.deepseek.com/quick_start/pricing)."""
    at = datetime(2025, 5, 1, hour, minute, tzinfo=timezone.utc)
    assert price("deepseek-chat", "deepseek", at, input_tokens=10**6).cost_usd == Decimal(expected)


@pytest.mark.parametrize("tier", [None, "", "default", "standard", "on_demand", "auto", "Standard"])
def test_standard_tiers_cost_the_list_price(tier: str | None) -> None:
    """Tiers that mean no tier change nothing. GPT-4o: 2.50 USD per million."""
    charge = price("gpt-4o", "openai", tier=tier, input_tokens=10**6)
    assert (charge.status, charge.cost_usd) == ("priced", Decimal("2.5"))


@pytest.mark.parametrize("at", [datetime(2025, 1, 1, tzinfo=timezone.utc), DAY])
def test_a_batch_costs_half(at: datetime) -> None:
    """Before and after the catalogue listed batch rates (https://platform.openai.com/docs/guides/batch)."""
    charge = price("gpt-4o", "openai", at, "batch", input_tokens=10**6, output_tokens=10**6)
    assert (charge.status, charge.cost_usd) == ("priced", Decimal("6.25"))


def test_a_priority_tier_has_rates_of_its_own() -> None:
    """GPT-4o with priority processing costs 4.25 USD per million for input
    (https://platform.openai.com/docs/pricing)."""
    assert price("gpt-4o", "openai", tier="priority", input_tokens=10**6).cost_usd == Decimal("4.25")


@pytest.mark.parametrize(
    ("model", "provider", "tier", "status", "usd"),
    [
        # https://platform.claude.com/docs/en/about-claude/pricing: Opus 4.7 at 5 and 25, a batch costs half.
        ("claude-opus-4-7", "anthropic", "regional", "priced", "33"),
        ("claude-opus-4-7", "anthropic", "regional standard", "priced", "33"),
        ("claude-opus-4-7", "anthropic", "Regional Batch", "priced", "16.5"),
        ("claude-opus-4-7", "anthropic", "regional platinum", "estimated", "33"),
        ("claude-opus-4-7", "anthropic", "mars", "estimated", "30"),
        # Older models cost the same everywhere: GPT-4o at 2.50 and 10 (https://openai.com/api/pricing).
        ("gpt-4o", "openai", "regional", "priced", "12.5"),
        ("gpt-4o", "openai", "regional batch", "priced", "6.25"),
        # GPT-5.4 mini at 0.75 and 4.50, with priority at twice that (https://platform.openai.com/docs/pricing).
        ("gpt-5.4-mini", "openai", "regional priority", "priced", "11.55"),
        # Sonnet 5 at 2 and 10, also where Google lists it as Anthropic does.
        ("claude-sonnet-5", "gcp.vertex_ai", "regional", "priced", "13.2"),
        # Another owner's list has no such uplift, and Bedrock's ids have prices of their own: 1.1 x (3 + 15).
        ("claude-opus-4-7", "azure", "regional", "priced", "30"),
        ("eu.anthropic.claude-sonnet-4-6", "aws", "", "priced", "19.8"),
    ],
)
def test_inference_in_a_region_costs_a_tenth_more(
    model: str, provider: str, tier: str, status: str, usd: str
) -> None:
    """For the models that the provider charges it for, on top of what their service tier costs."""
    charge = price(model, provider, tier=tier, input_tokens=10**6, output_tokens=10**6)
    assert (charge.status, charge.cost_usd) == (status, Decimal(usd))


def test_a_search_costs_the_same_in_a_region() -> None:
    """Only tokens cost more: 10 a thousand searches (https://platform.claude.com/docs/en/about-claude/pricing)."""
    assert price("claude-opus-4-7", "anthropic", tier="regional", web_searches=1000).cost_usd == 10


def test_an_unknown_tier_is_an_estimate() -> None:
    """The list price stands in for a tier without rates, and says so."""
    charge = price("gpt-4o", "openai", tier="platinum", input_tokens=10**6)
    assert (charge.status, charge.cost_usd) == ("estimated", Decimal("2.5"))
    assert "platinum" in charge.reason


def test_a_used_bucket_without_a_rate_is_named() -> None:
    """A search that nobody publishes a fee for leaves the amount an estimate that names what is missing."""
    charge = price("gpt-3.5-turbo", "openai", input_tokens=10**6, code_executions=3)
    assert (charge.status, charge.cost_usd, charge.missing) == (
        "estimated",
        Decimal("0.5"),
        ("code_executions",),
    )


def test_usage_that_nothing_prices_is_unpriced() -> None:
    """Images of a text model cost something, but nobody says what: no amount, never 0."""
    charge = price("gpt-4o", "openai", images=2)
    assert (charge.status, charge.cost_usd, charge.list_cost_usd) == ("unpriced", None, None)
    assert "images" in charge.reason


def test_fees_for_searches_come_on_top() -> None:
    """Ten web searches at 10 USD per thousand (https://platform.claude.com/docs/en/about-claude/pricing)."""
    charge = price("claude-opus-5", "anthropic", input_tokens=1000, web_searches=10)
    assert charge.cost_usd == Decimal("0.105")


def test_a_fee_per_request_is_charged_once() -> None:
    """Sonar Pro takes 14 USD per thousand requests beside 3 and 15 USD per million tokens
    (https://docs.perplexity.ai/getting-started/pricing)."""
    charge = price("sonar-pro", "perplexity", input_tokens=1000, output_tokens=1000)
    assert charge.cost_usd == Decimal("0.014") + Decimal("0.018")
    assert charge.lines[-1] == ("requests", 1, 14 * 10**15)


@pytest.mark.parametrize(
    ("model", "usd"),
    [
        ("gpt-4o-search-preview", "0.0295"),
        ("gpt-4o-search-preview-2025-03-11", "0.0295"),
        ("gpt-4o-mini-search-preview", "0.02527"),
        ("gpt-4o-mini-search-preview-2025-03-11", "0.02527"),
        ("gpt-5-search-api", "0.01325"),
        ("gpt-5-search-api-2025-10-14", "0.01325"),
        ("gpt-4o-mini", "0.00027"),
    ],
)
def test_models_that_always_search_charge_for_it(model: str, usd: str) -> None:
    """1,000 tokens in and 200 out at 2.50 and 10, 0.15 and 0.60, 1.25 and 10 a million, and 25, 25 and 10 for
    a thousand requests (https://developers.openai.com/api/docs/pricing, 2026-11)."""
    charge = price(model, "openai", input_tokens=1000, output_tokens=200)
    assert (charge.status, charge.cost_usd) == ("priced", Decimal(usd))


def test_reranking_is_charged_by_the_search() -> None:
    """Cohere Rerank 3.5: 2 USD per thousand searches (https://cohere.com/pricing)."""
    assert price("rerank-v3.5", "cohere", rerank_searches=5).cost_usd == Decimal("0.01")


def test_embeddings_cost_input_only() -> None:
    """text-embedding-3-small: 0.02 USD per million (https://platform.openai.com/docs/pricing)."""
    charge = price("text-embedding-3-small", "openai", input_tokens=1_000_000)
    assert (charge.status, charge.cost_usd) == ("priced", Decimal("0.02"))


def test_an_hour_of_audio_is_charged_by_the_second() -> None:
    """whisper-1: 0.006 USD a minute (https://platform.openai.com/docs/pricing), 90 seconds: 0.009."""
    assert price("whisper-1", "openai", audio_seconds=90).cost_usd == Decimal("0.009")


def test_what_is_free_is_priced_at_nothing() -> None:
    """OpenRouter's free variants have a price, which is 0."""
    charge = price("some-maker/new-model:free", "openrouter", input_tokens=10**6)
    assert (charge.status, charge.cost_usd) == ("priced", 0)


def test_a_model_listed_without_rates_is_unpriced() -> None:
    """An entry that has no rates is a gap, not a gift."""
    charge = price("gemma-3-27b", "google", input_tokens=10**6)
    assert (charge.status, charge.cost_usd) == ("unpriced", None)


def test_fine_tuned_models_cost_more_than_their_base() -> None:
    """ft:gpt-4.1-mini: 0.80 USD per million (https://platform.openai.com/docs/pricing), the base 0.40."""
    name = "ft:gpt-4.1-mini-2025-04-14:my-org::AbC123"
    assert price(name, "openai", input_tokens=10**6).cost_usd == Decimal("0.8")
    assert price("ft:gpt-4o-mini-2024-07-18:org::id", "openai", input_tokens=10**6).cost_usd == Decimal("0.3")


def test_an_unknown_fine_tune_is_estimated_from_its_base() -> None:
    """GPT-5 costs 1.25 USD per million; a fine-tune of it is at least an estimate, and marked as one."""
    charge = price("ft:gpt-5:my-org::AbC123", "openai", input_tokens=10**6)
    assert (charge.status, charge.cost_usd) == ("estimated", Decimal("1.25"))


def test_a_sum_of_calls_is_not_one_long_call() -> None:
    """Usage of a whole run does not cross a threshold, and is an estimate where one call might have.

    Claude Sonnet 4.5: 3 USD per million, 6 above 200,000 input tokens in one request.
    """
    usage = Usage(input_tokens=1_000_000)
    at = datetime(2026, 1, 14, tzinfo=timezone.utc)
    one, many = (
        book().price(usage, model="claude-sonnet-4-5", provider="anthropic", at=at, summed=summed)
        for summed in (False, True)
    )
    assert (one.status, one.cost_usd) == ("priced", 6)
    assert (many.status, many.cost_usd) == ("estimated", 3)
    assert many.lines == (("input_tokens", 1_000_000, 3 * 10**12),)


def test_a_small_sum_of_calls_is_exact() -> None:
    """Below the lowest threshold no part can have been above it."""
    charge = book().price(
        Usage(input_tokens=1000), model="claude-sonnet-4-5", provider="anthropic", at=DAY, summed=True
    )
    assert (charge.status, charge.cost_usd) == ("priced", Decimal("0.003"))


def test_costs_are_rounded_half_up_once(tmp_path: Path) -> None:
    """Half a pico-dollar goes up: at 0.0000005 USD per million, a token costs 0.5 pico-USD, two cost 1."""
    file = tmp_path / "prices.yaml"
    file.write_text("models: [{model: tiny, rates: {input_usd_per_mtok: 0.0000005}}]")
    own = PriceBook.load([file])
    cost = [own.price(Usage(input_tokens=n), model="tiny", at=DAY).cost_picousd for n in (1, 2, 3)]
    assert cost == [1, 1, 2]


def test_a_provided_bill_stands_beside_the_list_price() -> None:
    """What was billed is the cost; what it should have been stays visible."""
    listed = price("gpt-4o", "openai", input_tokens=10**6)
    charge = Charge.provided(Decimal("1.23"), listed)
    assert (charge.status, charge.cost_usd, charge.list_cost_usd) == (
        "provided",
        Decimal("1.23"),
        Decimal("2.5"),
    )
    assert Charge.provided(Decimal("0.1")).list_cost_usd is None


def test_lines_add_up_to_the_cost() -> None:
    """Every used bucket has a line with its units and rate, and they explain the whole amount."""
    charge = price(
        "gpt-5", "openai", input_tokens=7, cache_read_tokens=5, output_tokens=3, reasoning_tokens=2
    )
    assert [line[:2] for line in charge.lines] == [
        ("input_tokens", 7),
        ("cache_read_tokens", 5),
        ("output_tokens", 3),
        ("reasoning_tokens", 2),
    ]
    assert sum(units * rate for _, units, rate in charge.lines) == (charge.cost_picousd or 0) * 10**6


def test_a_charge_says_where_its_rates_are_from() -> None:
    """Entry, source and version of the book are on every charge."""
    charge = price("claude-sonnet-4-5@20250929", "gcp.vertex_ai", input_tokens=1)
    assert (charge.provider, charge.model) == ("google", "claude-sonnet-4-5")
    assert charge.source.startswith("https://")
    assert charge.version == book().version
    assert charge.version.startswith("genai-prices ")


def test_an_unknown_model_is_an_error() -> None:
    """It names the model and says what to do; it is not priced at 0."""
    with pytest.raises(UnknownModelError, match="OTEL_COST_PRICES") as caught:
        price("model-from-the-future", "openai", input_tokens=1)
    assert caught.value.model == "model-from-the-future"
    with pytest.raises(UnknownModelError):
        price("model-from-the-future", "openai", input_tokens=1)


def test_endless_names_are_refused_and_not_kept() -> None:
    """A name as long as a document costs no memory."""
    own = PriceBook.load()
    with pytest.raises(UnknownModelError):
        own.price(Usage(input_tokens=1), model="gpt-4o" * LONGEST_NAME, at=DAY)
    assert own._schedules == {}


def test_the_cache_is_bounded() -> None:
    """Any number of names leaves at most so many compiled ones."""
    own = PriceBook.load()
    for number in range(CACHED_SCHEDULES + 10):
        own.resolve("gpt-4o", "openai")
        with pytest.raises(UnknownModelError):
            own.price(Usage(), model=f"unknown-{number}", at=DAY)
    assert len(own._schedules) <= CACHED_SCHEDULES


@pytest.mark.parametrize("bucket", [name for name in BUCKETS if name not in PLAIN_BUCKETS])
def test_every_uncommon_bucket_is_looked_at(bucket: str) -> None:
    """The quick way is only taken when nothing but the common buckets is used."""
    assert is_unusual(Usage(**{bucket: 1}))
    assert not is_unusual(Usage(**dict.fromkeys(PLAIN_BUCKETS, 1)))


def test_threads_share_a_book() -> None:
    """Many threads that price for the first time get the same amounts."""
    own = PriceBook.load()
    names = [entry.model for entry in book().entries() if entry.provider == "openai" and not entry.caveat]
    results: list[list[Any]] = []

    def work() -> None:
        results.append(
            [own.price(Usage(input_tokens=9), model=n, provider="openai", at=DAY).cost_usd for n in names]
        )

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert all(result == results[0] for result in results)

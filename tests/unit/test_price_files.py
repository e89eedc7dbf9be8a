"""Price files: what a user adds to the catalogue, and how mistakes in them are told."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from otel_cost.errors import ConfigError, UnknownModelError
from otel_cost.price_files import read
from otel_cost.pricing import PriceBook
from otel_cost.usage import Usage

DAY = datetime(2026, 11, 22, tzinfo=timezone.utc)


@pytest.fixture
def book(tmp_path: Path) -> Any:
    """Make a price book with files of the given texts laid over it, the last one most important."""

    def make(*texts: str) -> PriceBook:
        paths = []
        for number, text in enumerate(texts):
            paths.append(tmp_path / f"prices-{number}.yaml")
            paths[-1].write_text(text, encoding="utf-8")
        return PriceBook.load(paths)

    return make


def cost(book: PriceBook, model: str, provider: str = "", at: datetime = DAY, **more: Any) -> Decimal | None:
    """What a million input tokens cost."""
    return book.price(Usage(input_tokens=10**6), model=model, provider=provider, at=at, **more).cost_usd


def test_a_model_can_be_added(book: Any) -> None:
    """Its name, aliases and patterns all mean it, at the provider it is listed for."""
    own = book(
        """
        models:
          - provider: my-gateway
            model: House-Model
            aliases: [house]
            patterns: ['house-v[0-9]+']
            rates: {input_usd_per_mtok: 0.10, output_usd_per_mtok: 0.40}
            source: https://intranet.example/prices
        """
    )
    for name in ("house-model", "House", "house-v12", "litellm_proxy/house"):
        assert cost(own, name, "my-gateway") == Decimal("0.1")
    with pytest.raises(UnknownModelError):
        cost(own, "house", "openai")
    charge = own.price(Usage(output_tokens=1), model="house", provider="my-gateway", at=DAY)
    assert (charge.model, charge.source) == ("house-model", "https://intranet.example/prices")
    assert "prices-0.yaml" in charge.version


def test_a_rate_is_read_as_written(book: Any) -> None:
    """0.1 is a tenth and not its nearest binary fraction; underscores group digits."""
    own = book("models: [{model: m, rates: {input_usd_per_mtok: 0.1, output_usd_per_mtok: 1_000.000001}}]")
    charge = own.price(Usage(input_tokens=3, output_tokens=1), model="m", at=DAY)
    assert charge.cost_usd == Decimal("0.0000003") + Decimal("0.001000000001")


def test_later_files_win(book: Any) -> None:
    """A model of a later file covers that of an earlier one, and both cover the catalogue."""
    first = "models: [{provider: openai, model: gpt-4o, rates: {input_usd_per_mtok: 9}}]"
    assert cost(book(first), "gpt-4o", "openai") == 9
    assert cost(book(first, first.replace("9", "7")), "gpt-4o", "openai") == 7
    assert cost(book(first), "gpt-4o", "azure") == Decimal("2.5")


def test_a_price_for_one_provider_beats_one_for_any(book: Any) -> None:
    """The more specific entry is looked at first, wherever it stands in the file."""
    own = book(
        """
        models:
          - {model: m, rates: {input_usd_per_mtok: 1}}
          - {provider: openai, model: m, rates: {input_usd_per_mtok: 2}}
        """
    )
    assert (cost(own, "m", "openai"), cost(own, "m", "groq"), cost(own, "m")) == (2, 1, 1)


def test_rates_have_dates_thresholds_and_tiers(book: Any) -> None:
    """A change holds from its first day, UTC; a threshold for all tokens; a tier as rates or a factor."""
    own = book(
        """
        models:
          - model: m
            dated:
              - rates: {input_usd_per_mtok: 4}
              - valid_from: 2026-06-01
                rates: {input_usd_per_mtok: 2, output_usd_per_mtok: 8}
                tiers:
                  - {above_input_tokens: 200_000, input_usd_per_mtok: 3}
                service_tiers:
                  batch: {multiplier: 0.5}
                  priority: {input_usd_per_mtok: 5}
        """
    )
    assert cost(own, "m", at=datetime(2026, 5, 31, 23, tzinfo=timezone.utc)) == 4
    assert cost(own, "m", at=datetime(2026, 6, 1, tzinfo=timezone.utc)) == 3
    assert cost(own, "m", service_tier="batch") == Decimal("1.5")
    assert cost(own, "m", service_tier="priority") == 5
    for tokens, usd in ((200_000, "0.4"), (200_001, "0.600003")):
        assert own.price(Usage(input_tokens=tokens), model="m", at=DAY).cost_usd == Decimal(usd)


def test_the_newest_rates_of_a_tier_hold(book: Any) -> None:
    """Of two changes of one tier the later one counts."""
    own = book(
        """
        models:
          - model: m
            dated:
              - valid_from: 2026-01-01
                rates: {input_usd_per_mtok: 4}
                service_tiers: {batch: {multiplier: 0.5}}
              - valid_from: 2026-06-01
                rates: {input_usd_per_mtok: 4}
                service_tiers: {batch: {multiplier: 0.25}}
        """
    )
    assert cost(own, "m", service_tier="batch") == 1


def test_a_deployment_is_priced_as_its_model(book: Any) -> None:
    """An Azure deployment, or an ARN that says nothing, is mapped to a model."""
    arn = "arn:aws:bedrock:us-east-1:1:application-inference-profile/abc"
    own = book(f"deployments: {{My-GPT4: gpt-4o, '{arn}': aws/us.anthropic.claude-opus-4-6-v1}}")
    assert cost(own, "my-gpt4", "azure.ai.openai") == Decimal("2.5")
    assert cost(own, "azure/my-gpt4", "litellm") == Decimal("2.5")
    assert cost(own, arn, "aws.bedrock") == Decimal("5.5")


def test_a_host_without_prices_is_priced_by_its_customer(book: Any) -> None:
    """What Ollama serves costs what the price file says, also nothing; nothing else makes it free."""
    own = book(
        """
        models:
          - provider: ollama
            model: deepseek-r1
            rates: {input_usd_per_mtok: 0, output_usd_per_mtok: 0}
          - provider: SambaNova
            model: DeepSeek-V3.2
            rates: {input_usd_per_mtok: 3, output_usd_per_mtok: 4.5}
        """
    )
    assert cost(own, "deepseek-r1", "ollama") == cost(own, "ollama/deepseek-r1:latest", "litellm") == 0
    assert cost(own, "sambanova/DeepSeek-V3.2") == 3
    with pytest.raises(UnknownModelError):
        cost(own, "mistral-nemo", "ollama")


def test_a_discount_lowers_the_cost_and_not_the_list_price(book: Any) -> None:
    """15 % off at one provider, 50 % for one model; GPT-4o lists at 2.50, o3 at 2, both per million."""
    own = book(
        """
        discounts:
          - {provider: openai, discount_ratio: 0.15}
          - {provider: openai, model: O3, discount_ratio: 0.5}
        """
    )
    charge = own.price(Usage(input_tokens=10**6), model="gpt-4o", provider="openai", at=DAY)
    assert (charge.status, charge.cost_usd, charge.list_cost_usd) == (
        "priced",
        Decimal("2.125"),
        Decimal("2.5"),
    )
    assert cost(own, "o3", "openai") == 1
    assert cost(own, "gpt-4o", "azure") == Decimal("2.5")


def test_tools_have_prices(book: Any) -> None:
    """A fee per call, a fee per unit that an attribute counts, or both."""
    own = book(
        """
        tools:
          - {name: tavily_search, usd_per_call: 0.008, source: https://tavily.com/pricing}
          - {name: ocr, usd_per_call: 0.01, usd_per_unit: 0.0015, unit_attribute: ocr.pages}
        """
    )
    search = own.tool_charge("Tavily_Search", {})
    assert search is not None
    assert (search.status, search.cost_usd, search.source) == (
        "priced",
        Decimal("0.008"),
        "https://tavily.com/pricing",
    )
    ocr = own.tool_charge("ocr", {"ocr.pages": 4})
    assert ocr is not None
    assert ocr.cost_usd == Decimal("0.016")
    assert own.tool_charge("unknown", {}) is None


@pytest.mark.parametrize("units", [None, "many", True, -1, float("nan"), [4]])
def test_a_tool_without_its_units_is_unpriced(book: Any, units: object) -> None:
    """What nobody counted is not free."""
    own = book("tools: [{name: ocr, usd_per_unit: 0.0015, unit_attribute: ocr.pages}]")
    charge = own.tool_charge("ocr", {} if units is None else {"ocr.pages": units})
    assert charge is not None
    assert (charge.status, charge.cost_usd) == ("unpriced", None)
    assert "ocr.pages" in charge.reason


def test_json_will_do(tmp_path: Path) -> None:
    """A price file may be JSON."""
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({"models": [{"model": "m", "rates": {"input_usd_per_mtok": 0.3}}]}))
    assert cost(PriceBook.load([path]), "m") == Decimal("0.3")


MISTAKES = r"""models:
  - provider: openai
    model: a
    rates: {input_usd_per_mtok: '10$', inptu_usd_per_mtok: 1}
  - model: b
  - rates: {input_usd_per_mtok: -1}
    patterns: ['(?!x)', '(', 'House-.*', '\D+']
  - model: c
    dated:
      - {valid_from: 1st of May, rates: {}}
      - {rates: {input_usd_per_mtok: 1}, tiers: [{above_input_tokens: lots}], service_tiers: {default: {}}}
deployments: {x: no-such-model-anywhere}
tools:
  - {name: t}
  - {name: u, usd_per_unit: 1}
discounts:
  - {provider: openai, discount_ratio: 15}
  - {discount_ratio: 0.1}
service_tiers: nothing
typo: 1
"""


def test_all_mistakes_are_told_together(tmp_path: Path) -> None:
    """Each problem names the file, the line, the value and what to write."""
    path = tmp_path / "prices.yaml"
    path.write_text(MISTAKES)
    with pytest.raises(ConfigError) as caught:
        read(path)
    told = {problem.removeprefix(f"{path}:").partition(": ")[0] for problem in caught.value.problems}
    assert told == {"4", "5", "6", "7", "10", "11", "14", "15", "17", "18", "19", "20"}
    text = str(caught.value)
    assert "'10$' is not a number of USD; write 10 or 10.00" in text
    assert "'inptu_usd_per_mtok' is not known here" in text
    assert "'1st of May' is not a day; write it as 2026-01-31" in text
    assert "databases cannot" in text
    assert "'House-.*' has capitals" in text
    assert "\\D" not in text


def test_mistakes_of_all_files_are_told_together(book: Any) -> None:
    """One start shows what is wrong in every file."""
    with pytest.raises(ConfigError) as caught:
        book("typo: 1", "models: [{model: m}]")
    assert ["prices-0.yaml" in caught.value.problems[0], "prices-1.yaml" in caught.value.problems[1]] == [
        True
    ] * 2


def test_a_deployment_of_nothing_is_told(book: Any) -> None:
    """A deployment of a model without a price would never be priced."""
    with pytest.raises(ConfigError, match="no-such-model"):
        book("deployments: {x: no-such-model}")
    with pytest.raises(ConfigError, match="no-such-model"):
        book("discounts: [{provider: openai, model: no-such-model, discount_ratio: 0.1}]")


@pytest.mark.parametrize("text", ["models: [", "- 1", "'text'"])
def test_what_is_no_price_file_is_told(book: Any, text: str) -> None:
    """Broken YAML and YAML that is something else name the line."""
    with pytest.raises(ConfigError, match=r"prices-0\.yaml:\d+: "):
        book(text)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """A path in OTEL_COST_PRICES that is wrong stops the start."""
    with pytest.raises(ConfigError, match="cannot be read"):
        PriceBook.load([tmp_path / "none.yaml"])


def test_an_empty_file_changes_nothing(book: Any) -> None:
    """Nothing is a valid price file."""
    assert cost(book(""), "gpt-4o", "openai") == Decimal("2.5")


def test_shipped_rates_name_their_source(tmp_path: Path) -> None:
    """A rate that ships has the page and the day it was read there."""
    path = tmp_path / "prices.yaml"
    path.write_text("models: [{model: m, rates: {input_usd_per_mtok: 1}}]")
    with pytest.raises(ConfigError, match="source_date"):
        read(path, sources_required=True)


def test_a_tier_of_some_models(book: Any) -> None:
    """GPT-4o at 2.50 costs three times that, o3 at 2 what it lists at, and what is for all beats our own."""
    own = book(
        """
        service_tiers:
          - {provider: openai, models: [GPT-4o], tier: turbo, multiplier: 3}
          - {provider: openai, tier: regional, multiplier: 2}
        """
    )
    at = datetime(2026, 11, 1, tzinfo=timezone.utc)
    usage = Usage(input_tokens=10**6)

    def charged(model: str, tier: str) -> tuple[str, Decimal | None]:
        charge = own.price(usage, model=model, provider="openai", at=at, service_tier=tier)
        return charge.status, charge.cost_usd

    assert charged("gpt-4o", "turbo") == ("priced", Decimal("7.5"))
    assert charged("o3", "turbo") == ("estimated", Decimal(2))
    assert charged("gpt-4o", "regional turbo") == ("priced", Decimal(15))
    assert charged("gpt-5.4-mini", "regional") == ("priced", Decimal("1.5"))

"""The page about prices says what the code does."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path

from otel_cost.price_files import read
from otel_cost.pricing import PriceBook
from otel_cost.rates import RATE_KEYS
from otel_cost.usage import Usage

PAGE = Path(__file__).resolve().parents[2] / "docs" / "prices.md"


def test_the_example_file_is_valid(tmp_path: Path) -> None:
    """The price file on the page can be used as it is, and costs what it says: 2 USD per million."""
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    path = tmp_path / "prices.yaml"
    path.write_text(example, encoding="utf-8")
    assert read(path).tools
    book = PriceBook.load([path])
    at = datetime(2026, 11, 22, tzinfo=timezone.utc)
    charge = book.price(Usage(input_tokens=100_000), model="house-v7", provider="my-gateway", at=at)
    assert charge.cost_usd == Decimal("0.2")
    assert book.price(Usage(input_tokens=10), model="my-gpt4", provider="azure", at=at).model == "gpt-4o"


def test_every_rate_is_on_the_page() -> None:
    """A rate that can be written is in the table, and no other is."""
    text = PAGE.read_text(encoding="utf-8")
    table = text[text.index("Rates, with the unit") : text.index("## In the warehouse")]
    assert set(re.findall(r"`(\w+_usd_\w+)`", table)) == set(RATE_KEYS)

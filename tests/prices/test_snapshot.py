"""The catalogue that ships: current, light to load, and each of our rates with its source."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from importlib.metadata import version
from importlib.util import find_spec

import pytest

from otel_cost import price_snapshot
from otel_cost.price_files import read
from otel_cost.pricing import PriceBook

needs_genai_prices = pytest.mark.skipif(
    find_spec("genai_prices") is None, reason="genai-prices needs Python 3.11"
)


@needs_genai_prices
def test_the_shipped_catalogue_is_current() -> None:
    """It is what the installed genai-prices and our overrides give: `otel-cost prices update` was run."""
    assert json.loads(price_snapshot.SNAPSHOT.read_text(encoding="utf-8")) == price_snapshot.build()
    assert PriceBook.load().version.startswith(f"genai-prices {version('genai-prices')}, ")


@needs_genai_prices
def test_the_catalogue_is_one_model_a_line() -> None:
    """A change of one price is one line of a diff."""
    text = price_snapshot.SNAPSHOT.read_text(encoding="utf-8")
    assert text == price_snapshot.render(price_snapshot.build())
    models = sum(len(provider["models"]) for provider in json.loads(text)["providers"].values())
    assert text.count("\n") > models


def test_our_own_rates_have_sources() -> None:
    """Each override names the page it was read from and the day."""
    ours = read(price_snapshot.OVERRIDES, sources_required=True)
    assert ours.models
    for _, model, made in ours.models:
        assert made["source"].startswith("https://"), model
        assert made["source_date"] >= "2026-01-01", model


def test_pricing_imports_nothing_heavy() -> None:
    """Neither genai-prices nor pydantic, YAML or anything of the server is needed to price a call."""
    code = (
        "import sys, otel_cost.pricing as p; p.PriceBook.load(); "
        "print({'genai_prices', 'pydantic', 'yaml', 'typer', 'rich', 'chdb'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_book_loads_in_milliseconds() -> None:
    """Ten milliseconds were asked for; a loaded machine gets five times that before this fails."""
    took = []
    for _ in range(10):
        began = time.perf_counter()
        PriceBook.load()
        took.append(time.perf_counter() - began)
    assert min(took) < 0.05

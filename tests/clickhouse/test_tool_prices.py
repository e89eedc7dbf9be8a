"""Tools that no process priced cost in SQL what Python says they cost, to the pico-dollar."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from otel_cost.pricing import PriceBook
from otel_cost.store import Store
from tests.clickhouse import spans
from tests.clickhouse.conftest import on_every_node
from tests.clickhouse.test_agreement import _compared

FILE = """
tools:
  - {name: Tavily_Search, usd_per_call: 0.008}
  - {name: ocr, usd_per_unit: 0.0015, unit_attribute: ocr.pages}
  - {name: crawl, usd_per_call: 0.01, usd_per_unit: 0.0000000000005, unit_attribute: crawl.pages}
  - {name: free, usd_per_call: 0}
"""
UNITS: tuple[Any, ...] = (
    3, 0, 2.5, "4", " 5 ", "1e3", 10**12, 1.0, "0.000001",
    -1, 10**12 + 1, "many", "", "1_000", True, "NaN", "inf", "1e300", None,
)  # fmt: skip
"""Numbers of units, as the attributes of spans may say them, and what is none."""


@pytest.fixture
def priced(store: Store, book: PriceBook, tmp_path: Path) -> Iterator[tuple[Store, PriceBook]]:
    """A store and a book with the prices of tools in them; afterwards the store has those of `book` again."""
    file = tmp_path / "house.yaml"
    file.write_text(FILE)
    made = PriceBook.load([file])
    store.push_prices(made)
    yield store, made
    store.push_prices(book)


def tool_call(number: int, name: str, **said: Any) -> dict[str, Any]:
    """Return a request of one tool call; attribute names with `__` for a dot."""
    told = {name.replace("__", "."): value for name, value in said.items() if value is not None}
    attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name, **told}
    at = (spans.STARTED_NS, spans.STARTED_NS + 10**9)
    return spans._request("app", f"{number:032x}", f"{number:016x}", at, attributes)


def costs(store: Store) -> list[str | None]:
    """Return what each call cost, in order."""
    found = sorted(spans.charges(store).items())
    return [None if row["cost_usd"] is None else str(Decimal(row["cost_usd"])) for _, row in found]


def test_a_tool_costs_what_its_price_file_says(priced: tuple[Store, PriceBook]) -> None:
    """Per call, per unit and both, half a pico-dollar rounded up; an unknown number of units is no zero."""
    store, _ = priced
    calls = [
        tool_call(1, "tavily_search"),  # capitals do not matter
        tool_call(2, "ocr", ocr__pages=3),  # 3 x 0.0015
        tool_call(3, "crawl", crawl__pages=1),  # 0.01 and half a pico-dollar
        tool_call(4, "ocr"),
        tool_call(5, "free"),
        tool_call(6, "ls"),
    ]
    spans.insert(store, calls)
    assert costs(store) == ["0.008", "0.0045", "0.010000000001", None, "0", None]
    statuses = [row["price_status"] for _, row in sorted(spans.charges(store).items())]
    assert statuses == ["priced", "priced", "priced", "unpriced", "priced", "unpriced"]
    models = [row["price_model"] for _, row in sorted(spans.charges(store).items())]
    assert models == ["Tavily_Search", "ocr", "crawl", "ocr", "free", ""]


def test_whatever_a_span_says_both_say_the_same(priced: tuple[Store, PriceBook]) -> None:
    """Units written in any way, and what is no number of units: status, cost and price entry are equal."""
    store, book = priced
    names = ("ocr", "OCR", "crawl", "tavily_search", "free", "nothing")
    said = [(name, units) for name in names for units in UNITS]
    calls = [
        tool_call(number, name, ocr__pages=units, crawl__pages=units)
        for number, (name, units) in enumerate(said, 1)
    ]
    assert _compared(store, calls, book) == len(said)
    assert sum(cost is None for cost in costs(store)) == 3 * 10 + len(UNITS)


def test_what_our_processor_priced_stays(priced: tuple[Store, PriceBook]) -> None:
    """The amount on the span is believed before the price file of the warehouse."""
    store, _ = priced
    status = {"otel_cost__price__status": "priced", "otel_cost__cost_usd": "0.5"}
    spans.insert(store, [tool_call(1, "tavily_search", **status)])
    assert costs(store) == ["0.5"]


def test_prices_of_tools_change_with_the_book(
    priced: tuple[Store, PriceBook], book: PriceBook, tmp_path: Path
) -> None:
    """Without them a tool has no price any more; the price of a call that was stored before stays."""
    store, _ = priced
    spans.insert(store, [tool_call(1, "tavily_search")])
    store.push_prices(book)
    spans.insert(store, [tool_call(2, "tavily_search")])
    file = tmp_path / "dearer.yaml"
    file.write_text(FILE.replace("0.008", "0.009"))
    store.push_prices(PriceBook.load([file]))
    spans.insert(store, [tool_call(3, "tavily_search")])
    assert costs(store) == ["0.008", None, "0.009"]


def test_a_book_pushed_by_an_older_version_gets_its_tools(priced: tuple[Store, PriceBook]) -> None:
    """A store that has the prices of a book and not yet what tools cost is brought up to date."""
    store, made = priced
    on_every_node(store, "TRUNCATE TABLE tool_prices")
    store.push_prices(made)
    spans.insert(store, [tool_call(1, "tavily_search")])
    assert costs(store) == ["0.008"]

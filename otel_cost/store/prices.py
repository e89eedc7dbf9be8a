"""Hand a price book to the warehouse, where dictionaries look prices up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from otel_cost.rates import PRICED_UNITS
from otel_cost.store.tables import replace

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

    from otel_cost.pricing import PriceBook

NO_RATE = Decimal(-1)
"""Stands for a rate that nobody publishes: a dictionary's array cannot hold NULL."""

_PRICES = {
    "provider": "LowCardinality(String)",
    "model": "String",
    "service_tier": "LowCardinality(String)",
    "valid_from": "DateTime('UTC')",
    "valid_to": "DateTime('UTC')",
    "rates": "Array(Decimal(38, 18))",
    "thresholds": "Array(UInt64)",
    "peak_begins": "Array(UInt32)",
    "peak_ends": "Array(UInt32)",
    "discount_ratio": "Decimal(38, 18)",
    "estimated": "LowCardinality(String)",
    "source": "LowCardinality(String)",
    "source_date": "LowCardinality(String)",
    "version": "LowCardinality(String)",
}
_TOOLS = {
    "name": "String",
    "tool_name": "String",
    "usd_per_call": "Decimal(38, 18)",
    "usd_per_unit": "Decimal(38, 18)",
    "unit_attribute": "String",
    "source": "LowCardinality(String)",
    "source_date": "LowCardinality(String)",
    "version": "LowCardinality(String)",
}
_PATTERNS = {
    "id": "UInt64",
    "parent_id": "UInt64",
    "regexp": "String",
    "keys": "Array(String)",
    "values": "Array(String)",
}

_DICTIONARIES = ("model_patterns_dictionary", "tool_prices_dictionary", "prices_dictionary")


def push(client: Client, book: PriceBook) -> bool:
    """Replace prices, model patterns and tool prices where they are another book's. Tells whether they were.

    Readers see the old prices or the new ones: a full table takes the place of the old one in one step.
    """
    tools = [tuple(row[name] for name in _TOOLS) for row in book.tool_rows()]
    if book.version == _pushed(client) and len(tools) == int(
        str(client.command("SELECT count() FROM tool_prices"))
    ):
        return False
    replace(client, "model_patterns", _PATTERNS, [pattern_row(row) for row in book.pattern_rows()])
    replace(client, "tool_prices", _TOOLS, tools)
    replace(client, "prices", _PRICES, [price_row(row) for row in book.price_rows()])
    reload(client)
    return True


def reload(client: Client, names: Iterable[str] = _DICTIONARIES) -> None:
    """Have dictionaries look at their tables again."""
    for name in names:
        client.command(f"SYSTEM RELOAD DICTIONARY {name}")


def loaded(client: Client) -> list[str]:
    """Return the dictionaries somebody has looked prices up in."""
    asked = "SELECT name, status FROM system.dictionaries WHERE database = currentDatabase()"
    known = {name for name, status in client.query(asked).result_rows if status == "LOADED"}
    return [name for name in _DICTIONARIES if name in known]


def price_row(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return one row of table `prices` from one of `PriceBook.price_rows()`."""
    windows = row["peak_windows"]
    return (
        row["provider"],
        row["model"],
        row["service_tier"],
        row["valid_from"],
        row["valid_to"] - timedelta(seconds=1),
        [rate for suffix in _suffixes(row) for rate in _rates(row, suffix)],
        [row[f"{suffix[1:]}_input_tokens"] for suffix in _suffixes(row) if suffix],
        [begin for begin, _ in windows],
        [end for _, end in windows],
        row["discount_ratio"],
        row["estimated"],
        row["source"],
        row["source_date"],
        row["version"],
    )


def _suffixes(row: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    for suffix in ("_above", "_above_2"):
        if row[f"{suffix[1:]}_input_tokens"]:
            yield suffix


def _rates(row: Mapping[str, Any], suffix: str) -> Iterator[Decimal]:
    for unit in PRICED_UNITS:
        rate = row.get(f"{unit}{suffix}")
        yield NO_RATE if rate is None else rate


def pattern_row(row: tuple[int, str, str, str]) -> tuple[Any, ...]:
    """Return one row of table `model_patterns` from one of `PriceBook.pattern_rows()`."""
    number, regexp, provider, model = row
    return number, 0, regexp, ["provider", "model"], [provider, model]


def _pushed(client: Client) -> str:
    """Return the version of the book in the table, empty when there is none or more than one."""
    versions = client.query("SELECT DISTINCT version FROM prices LIMIT 2").result_rows
    return str(versions[0][0]) if len(versions) == 1 else ""

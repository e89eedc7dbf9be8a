"""Hand a price book to the warehouse, where dictionaries look prices up."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from otel_cost.rates import PRICED_UNITS

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
    "estimated": "LowCardinality(String)",
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


def push(client: Client, book: PriceBook) -> bool:
    """Replace the prices and model patterns where they differ from the book's. Tells whether they did.

    Readers see the old prices or the new ones: a full table takes the place of the old one in one step.
    """
    prices = [price_row(row) for row in book.price_rows()]
    patterns = [pattern_row(row) for row in book.pattern_rows()]
    digest = hashlib.sha256(repr((prices, patterns)).encode()).hexdigest()
    if digest in _pushed(client):
        return False
    _replace(client, "prices", _PRICES, prices, digest)
    _replace(client, "model_patterns", _PATTERNS, patterns, digest)
    for name in ("prices_dictionary", "model_patterns_dictionary"):
        client.command(f"SYSTEM RELOAD DICTIONARY {name}")
    return True


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


def _pushed(client: Client) -> set[str]:
    found = client.query(
        "SELECT comment FROM system.tables WHERE database = currentDatabase() AND name = 'prices'"
    )
    return {str(row[0]) for row in found.result_rows}


def _replace(
    client: Client, table: str, columns: dict[str, str], rows: Iterable[tuple[Any, ...]], digest: str
) -> None:
    client.command(f"DROP TABLE IF EXISTS {table}_next")
    client.command(f"CREATE TABLE {table}_next AS {table}")
    data = list(rows)
    if data:
        client.insert(
            f"{table}_next", data, column_names=list(columns), column_type_names=list(columns.values())
        )
    client.command(f"ALTER TABLE {table}_next MODIFY COMMENT '{digest}'")
    client.command(f"EXCHANGE TABLES {table} AND {table}_next")
    client.command(f"DROP TABLE {table}_next")

"""Hand a price book to the warehouse, where dictionaries look prices up."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from otel_cost.rates import PRICED_UNITS
from otel_cost.store import price_changes
from otel_cost.store.actor import actor
from otel_cost.store.files import named_sql, statements
from otel_cost.store.price_changes import BookChange
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
_CHANGES = [
    "changed_at",
    "actor",
    "old_version",
    "new_version",
    "subject",
    "change",
    "provider",
    "model",
    "service_tier",
    "valid_from",
    "old",
    "new",
]
_PATTERNS = {
    "id": "UInt64",
    "parent_id": "UInt64",
    "regexp": "String",
    "keys": "Array(String)",
    "values": "Array(String)",
}

_DICTIONARIES = ("model_patterns_dictionary", "tool_prices_dictionary", "prices_dictionary")


def push(client: Client, book: PriceBook) -> BookChange:
    """Replace prices, model patterns and tool prices where they are another book's. Returns what changed.

    Readers see the old prices or the new ones: a full table takes the place of the old one in one step, and
    what it held is noted in `price_changes` before.
    """
    patterns = [pattern_row(row) for row in book.pattern_rows()]
    rates, tools = _rates_of(book), _tools_of(book)
    if (
        _pushed(client) == book.version
        and _counts(client) == (len(rates), len(tools))
        and _pushed_names(client) == _fingerprint(patterns)
    ):
        return BookChange(book.version, book.version, [])
    found = compare(client, book)
    _note(client, found)
    replace(client, "model_patterns", _PATTERNS, patterns)
    replace(client, "tool_prices", _TOOLS, tools)
    replace(client, "prices", _PRICES, rates)
    reload(client)
    return found


def compare(client: Client, book: PriceBook) -> BookChange:
    """Return what pushing a book would change."""
    rates = (_stored(client, "pushed_rates"), _by_name(_rates_of(book), _PRICES))
    tools = (_stored(client, "pushed_tools"), _by_name(_tools_of(book), _TOOLS))
    return price_changes.compare((_pushed(client), book.version), rates, tools)


def _rates_of(book: PriceBook) -> list[tuple[Any, ...]]:
    return [price_row(row) for row in book.price_rows()]


def _tools_of(book: PriceBook) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in _TOOLS) for row in book.tool_rows()]


def _stored(client: Client, name: str) -> list[Mapping[str, Any]]:
    (statement,) = statements(named_sql("queries", name))
    found = client.query(statement, settings={"log_comment": name})
    rows = [tuple(_aware(value) for value in row) for row in found.result_rows]
    return _by_name(rows, dict.fromkeys(found.column_names, ""))


def _by_name(rows: Sequence[tuple[Any, ...]], columns: Mapping[str, str]) -> list[Mapping[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _aware(value: Any) -> Any:
    return value.replace(tzinfo=timezone.utc) if isinstance(value, datetime) else value


def _note(client: Client, found: BookChange) -> None:
    """Keep what changes, so that old amounts can be explained."""
    head = [datetime.now(timezone.utc), actor(), found.old_version, found.new_version]
    rows = [
        [*head, each.subject, each.change, each.provider, each.model, each.service_tier, each.valid_from]
        + [json.dumps(side) if side else "" for side in (each.old, each.new)]
        for each in found.changes
    ]
    if rows:
        client.insert("price_changes", rows, column_names=_CHANGES)


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


def _counts(client: Client) -> tuple[int, int]:
    """Return how many prices of models and of tools there are: other versions made other rows of a book."""
    (counts,) = client.query(
        "SELECT (SELECT count() FROM prices), (SELECT count() FROM tool_prices)"
    ).result_rows
    return int(counts[0]), int(counts[1])


def _pushed_names(client: Client) -> str:
    """Return the fingerprint of the patterns in the table: versions of the package read names differently."""
    asked = (
        "SELECT lower(hex(SHA256(arrayStringConcat(arrayMap(row -> row.2, arraySort(groupArray("
        "(id, concat(regexp, '\\t', arrayStringConcat(values, '\\t')))))), '\\n')))) FROM model_patterns"
    )
    return str(client.query(asked).result_rows[0][0])


def _fingerprint(patterns: Iterable[tuple[Any, ...]]) -> str:
    lines = ("\t".join([regexp, *values]) for _, _, regexp, _, values in patterns)
    return sha256("\n".join(lines).encode()).hexdigest()


def _pushed(client: Client) -> str:
    """Return the version of the book in the table, empty when there is none or more than one."""
    versions = client.query("SELECT DISTINCT version FROM prices LIMIT 2").result_rows
    return str(versions[0][0]) if len(versions) == 1 else ""

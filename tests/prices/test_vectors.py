"""Recorded bills and amounts computed by others, against the price book that ships."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from otel_cost.price_batch import price_call
from otel_cost.pricing import PriceBook
from otel_cost.rates import make_schedule
from tests.data import lines

TOLERANCE_USD = Decimal("1e-9")
DIFFERENCES = Path(__file__).parent / "differences.yaml"
GENAI_NAMES = {
    "input_mtok": "input_usd_per_mtok",
    "output_mtok": "output_usd_per_mtok",
    "cache_read_mtok": "cache_read_usd_per_mtok",
    "cache_write_mtok": "cache_write_usd_per_mtok",
    "cache_write_1h_mtok": "cache_write_1h_usd_per_mtok",
    "web_searches_kcount": "web_searches_usd_per_kcount",
}


@cache
def book() -> PriceBook:
    """The book that ships."""
    return PriceBook.load()


def vectors() -> list[dict[str, Any]]:
    """Every vector."""
    return [json.loads(line, parse_float=Decimal) for line in lines("price_vectors/vectors.jsonl")]


def differences() -> dict[str, dict[str, Any]]:
    """The table, by vector."""
    return {row["id"]: row for row in yaml.safe_load(DIFFERENCES.read_text(encoding="utf-8"))}


def amount(call: dict[str, Any]) -> Decimal | None:
    """What the command line says a call costs."""
    text = price_call(book(), call)["cost_usd"]
    return None if text is None else Decimal(text)


def is_exact(ours: Decimal | None, theirs: object) -> bool:
    """Tell whether two amounts are equal to 1e-9 USD."""
    return ours is not None and abs(ours - Decimal(str(theirs))) < TOLERANCE_USD


def test_bills_are_exact() -> None:
    """What a provider billed is what we say, to the last digit."""
    billed = [vector for vector in vectors() if vector["kind"] == "provider_billed"]
    assert billed
    for vector in billed:
        assert is_exact(amount(vector), vector["expected_usd"]), vector["id"]


def test_list_price_explains_the_bills_that_it_can() -> None:
    """Without the bill, list price gives it too, but for a server tool's fee and a dearer host."""
    unexplained = {
        vector["id"]
        for vector in vectors()
        if vector["kind"] == "provider_billed"
        and not is_exact(amount(vector | {"raw_usage": None}), vector["expected_usd"])
    }
    assert unexplained == {"83e041c0d954", "da251d09fe29"}


def test_every_other_amount_is_exact_or_in_the_table() -> None:
    """Each amount equals ours to 1e-9 USD, or its difference is in the table, with both amounts right."""
    known = differences()
    found = {}
    for vector in vectors():
        ours = amount(vector)
        if not is_exact(ours, vector["expected_usd"]):
            found[vector["id"]] = (ours, Decimal(vector["expected_usd"]))
    assert found == {key: (Decimal(row["ours"]), Decimal(row["theirs"])) for key, row in known.items()}


def test_nothing_billable_is_free_or_unpriced() -> None:
    """No vector that costs somebody something is priced at 0, and none is without a price."""
    statuses = Counter()
    for vector in vectors():
        priced = price_call(book(), vector)
        statuses[priced["status"]] += 1
        if Decimal(vector["expected_usd"]) > 0:
            assert priced["cost_usd"] is not None
            assert Decimal(priced["cost_usd"]) > 0
    assert statuses["unpriced"] == 0
    assert statuses["error"] == 0


@pytest.mark.parametrize("how", ["changed", "corrected", "time_of_day", "billed", "fee"])
def test_the_table_says_why(how: str) -> None:
    """Undoing what the table names as the reason of a difference gives the other amount."""
    undo = {
        "changed": _before,
        "corrected": _at_their_rates,
        "time_of_day": _at_hour,
        "billed": _without_bill,
        "fee": _without_fee,
    }[how]
    by_id = {vector["id"]: vector for vector in vectors()}
    rows = [row for row in differences().values() if row["how"] == how]
    assert rows
    for row in rows:
        assert is_exact(undo(by_id[row["id"]], row), row["theirs"]), row["id"]


def _before(vector: dict[str, Any], row: dict[str, Any]) -> Decimal | None:
    eve = row["since"] - timedelta(days=1)
    return amount(vector | {"date": f"{eve.isoformat()}T00:00:00Z"})


def _at_hour(vector: dict[str, Any], row: dict[str, Any]) -> Decimal | None:
    return amount(vector | {"date": f"{vector['date'][:10]}T{row['at']:02}:00:00Z"})


def _without_bill(vector: dict[str, Any], row: dict[str, Any]) -> Decimal | None:
    return amount(vector | {"raw_usage": None})


def _without_fee(vector: dict[str, Any], row: dict[str, Any]) -> Decimal | None:
    entry = book().resolve(vector["model"], vector["provider"])
    assert entry is not None
    fee = book().schedule(entry).at(datetime(2026, 1, 1, tzinfo=timezone.utc)).rates(0)["requests"]
    ours = amount(vector)
    return ours if ours is None or not fee else ours - Decimal(fee).scaleb(-18)


def _at_their_rates(vector: dict[str, Any], row: dict[str, Any]) -> Decimal | None:
    rates = " ".join(f"{GENAI_NAMES[key]}={usd}" for key, usd in vector["rates_usd_per_mtok"].items())
    entry = book().resolve(vector["model"], vector["provider"])
    assert entry is not None
    card = make_schedule(type(entry)(entry.provider, entry.model, [[None, rates]])).at(
        datetime(2026, 1, 1, tzinfo=timezone.utc)
    )
    priced = price_call(book(), vector)
    return sum(
        (line["units"] * Decimal(card.rates(0)[line["bucket"]] or 0).scaleb(-18) for line in priced["lines"]),
        Decimal(0),
    )


def test_most_amounts_need_no_explanation() -> None:
    """97 of 100 amounts are equal at the vector's own date; rates that changed since make up the rest."""
    everything = vectors()
    assert 1 - len(differences()) / len(everything) > 0.97

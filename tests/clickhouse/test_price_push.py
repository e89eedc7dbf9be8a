"""Prices pushed to a store hold for the next span, and what was there is kept."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from otel_cost.pricing import PriceBook
from otel_cost.store import Store
from tests.clickhouse import spans
from tests.clickhouse.test_reprice import call, costs, make_books, tool


@pytest.fixture
def books(tmp_path: Path) -> dict[str, PriceBook]:
    """The books of the repricing tests by name."""
    return make_books(tmp_path)


def changes(store: Store, subject: str) -> list[dict[str, Any]]:
    """Return what the latest push noted about a subject."""
    answer = store.sql(
        "SELECT change, provider, model, service_tier, toString(valid_from) AS since, old, new"
        " FROM price_changes"
        " WHERE subject = {subject:String}"
        " AND changed_at = (SELECT max(changed_at) FROM price_changes)"
        " ORDER BY model, service_tier, since",
        {"subject": subject},
    )
    return [json.loads(line) for line in answer.splitlines()]


def test_the_next_span_costs_what_was_pushed(store: Store, books: dict[str, PriceBook]) -> None:
    """A model, a tool and a rate that a price file adds or changes hold at once, for spans without a cost."""
    store.push_prices(books["old"])
    spans.insert(store, [call(1), call(2, "newcomer"), tool(3, "search")])
    assert costs(store) == {1: ("priced", "0.0072"), 2: ("unpriced", None), 3: ("unpriced", None)}
    store.push_prices(books["new"])
    spans.insert(store, [call(4), call(5, "newcomer"), tool(6, "search")])
    told = costs(store)
    # 1,000 x 2 + 200 x 8 and 1,000 x 1 + 200 x 2 millionths, and the fee; what was there stays
    assert {n: told[n] for n in (4, 5, 6)} == {
        4: ("priced", "0.0036"),
        5: ("priced", "0.0014"),
        6: ("priced", "0.008"),
    }
    assert {n: told[n] for n in (1, 2)} == {1: ("priced", "0.0072"), 2: ("unpriced", None)}


def test_a_push_tells_and_keeps_what_it_changes(store: Store, books: dict[str, PriceBook]) -> None:
    """Models, rates and tools added, changed and removed; a dry run tells the same and changes nothing."""
    store.push_prices(books["old"])
    told = store.push_prices(books["new"], dry_run=True)
    assert store.push_prices(books["old"]).changes == []
    done = store.push_prices(books["new"])
    assert told.as_dict() == done.as_dict()
    assert (done.old_version, done.new_version) == (books["old"].version, books["new"].version)
    counts = {name: done.as_dict()["counts"][name] for name in ("model", "tool")}
    # newcomer is new; large has other rates, and GPT-4o a discount
    assert counts["model"] == {"added": 1, "changed": 2, "removed": 0}
    assert counts["tool"] == {"added": 2, "changed": 0, "removed": 0}
    (first, dated) = [
        row for row in changes(store, "rates") if (row["model"], row["service_tier"]) == ("large", "")
    ]
    assert (first["change"], first["since"]) == ("changed", "1970-01-01 00:00:00")
    assert (dated["change"], dated["since"], dated["old"]) == ("added", "2026-06-01 00:00:00", "")
    new = json.loads(dated["new"])
    assert (new["input_tokens"], new["input_tokens above 200,000"]) == ("0.000002", "0.000003")
    back = store.push_prices(books["old"])
    assert back.count("model", "removed") == 1
    assert json.loads(changes(store, "tool")[1]["old"])["usd_per_call"] == "0.008"


def test_names_that_another_version_reads_differently_are_pushed(
    store: Store, books: dict[str, PriceBook], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same prices with other rules for names are pushed again, so that a new version's rules hold."""
    book = books["old"]
    rows = list(book.pattern_rows())
    store.push_prices(book)
    monkeypatch.setattr(book, "pattern_rows", lambda: [rows[0]._replace(regexp="^nothing$"), *rows[1:]])
    assert store.push_prices(book).changes == []
    first = store.sql("SELECT regexp FROM model_patterns ORDER BY id LIMIT 1", fmt="TabSeparatedRaw")
    assert first.strip() == b"^nothing$"


def test_a_price_file_takes_the_place_of_the_catalogue(store: Store, tmp_path: Path) -> None:
    """Nothing of a covered model is left, its rates for service tiers included: SQL and Python agree."""
    file = tmp_path / "own.yaml"
    file.write_text(
        "models:\n  - provider: openai\n    model: gpt-4o\n"
        "    rates: {input_usd_per_mtok: 1, output_usd_per_mtok: 2}\n"
    )
    book = PriceBook.load([file])
    keys = [
        (row["provider"], row["model"], row["service_tier"], row["valid_from"]) for row in book.price_rows()
    ]
    assert len(keys) == len(set(keys))
    store.push_prices(book)
    spans.insert(
        store,
        [
            call(n, "gpt-4o", "openai", openai__response__service_tier=t)
            for n, t in enumerate(("", "priority"), 1)
        ],
    )
    # 1,000 x 1 + 200 x 2 millionths, and the same as an estimate: the file has no rates for the tier
    assert costs(store) == {1: ("priced", "0.0014"), 2: ("estimated", "0.0014")}
    charge = next(iter(spans.charges(store).values()))
    assert Decimal(str(charge["list_cost_usd"])) == Decimal("0.0014")

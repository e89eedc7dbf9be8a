"""Rates that hold in daily windows: those of every service tier, to the second, in SQL as in Python."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest

from otel_cost.price_rows import peak_tier
from otel_cost.pricing import PriceBook
from otel_cost.rates import unix_ns
from otel_cost.store import Store
from tests.clickhouse import spans
from tests.clickhouse.test_agreement import _compared
from tests.clickhouse.test_reprice import costs

TODAY = datetime(2026, 11, 26, tzinfo=timezone.utc)
CLOCKS = {1: "00:29:59", 2: "00:30:00", 3: "16:29:59", 4: "16:30:00"}


def call(number: int, model: str, provider: str, service_tier: str, second: int) -> spans.Request:
    """Return a request of one model call at a second of a day: 1,000 tokens in, 200 out."""
    said = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": model,
        "openai.response.service_tier": service_tier,
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.output_tokens": 200,
    }
    return spans.of_attributes(number, said, unix_ns(TODAY + timedelta(seconds=second)))


def at(clock: str) -> int:
    """Return a time of the day in seconds."""
    hours, minutes, seconds = map(int, clock.split(":"))
    return hours * 3600 + minutes * 60 + seconds


def requests(book: PriceBook) -> Iterator[spans.Request]:
    """Yield calls of every model with windows and every service tier of it, at the edges of each window."""
    number = 0
    for entry in book.entries():
        windows = [each for period in book.schedule(entry).periods for each in period.windows]
        for tier in (*book.service_tiers(entry), "peak", "PEAK batch") if windows else ():
            for begin, end, _ in windows:
                for second in (begin - 1, begin, end - 1, end):
                    number += 1
                    yield call(number, entry.model, entry.provider, tier, second)


def test_each_tier_of_each_model_has_its_peak(store: Store, book: PriceBook) -> None:
    """Inside a window, before it and behind it, also where a span says it is of a tier called peak."""
    assert _compared(store, list(requests(book)), book) > 200


def test_a_batch_costs_half_of_what_the_hour_costs(store: Store) -> None:
    """DeepSeek on Azure: 0.27 and 1.10 a million from 00:30 to 16:30 UTC, 0.135 and 0.55 outside.

    https://api-docs.deepseek.com/quick_start/pricing
    https://learn.microsoft.com/azure/ai-services/openai/how-to/batch
    """
    calls = [
        call(number + 10 * bool(tier), "deepseek-chat", "azure", tier, at(clock))
        for tier in ("", "batch")
        for number, clock in CLOCKS.items()
    ]
    spans.insert(store, calls)
    # 1,000 x 0.27 + 200 x 1.10 = 490 millionths in the window and 245 outside; of a batch half as much
    assert costs(store) == {
        1: ("priced", "0.000245"),
        2: ("priced", "0.00049"),
        3: ("priced", "0.00049"),
        4: ("priced", "0.000245"),
        11: ("priced", "0.0001225"),
        12: ("priced", "0.000245"),
        13: ("priced", "0.000245"),
        14: ("priced", "0.0001225"),
    }


def test_a_store_that_lacks_rows_of_its_book_gets_them(store: Store, book: PriceBook) -> None:
    """An earlier version made fewer rows of the same book: the next push brings the others."""
    every = PriceBook.price_rows
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            PriceBook,
            "price_rows",
            lambda self: (row for row in every(self) if row["service_tier"] != peak_tier("batch")),
        )
        store.push_prices(book)
    pushed = store.push_prices(book)
    assert pushed.old_version == pushed.new_version
    told = {(change.subject, change.change) for change in pushed.changes}
    assert told == {("rates", "added"), ("model", "changed"), ("book", "changed")}
    assert pushed.count("rates", "added") == 16
    assert store.push_prices(book).changes == []

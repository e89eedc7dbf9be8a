"""Rates as rows for a database: what a dictionary looks up gives what Python computes."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from decimal import Decimal
from functools import cache
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from otel_cost.price_rows import FOREVER, peak_tier
from otel_cost.pricing import PriceBook
from otel_cost.rates import PRICED_UNITS
from otel_cost.usage import BUCKETS, Usage


@cache
def book() -> PriceBook:
    """The book that ships."""
    return PriceBook.load()


@cache
def table() -> dict[tuple[str, str, str], list[dict[str, Any]]]:
    """Its rows by provider, model and service tier."""
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in book().price_rows():
        found.setdefault((row["provider"], row["model"], row["service_tier"]), []).append(row)
    return found


def look_up(provider: str, model: str, tier: str, at: datetime) -> dict[str, Any] | None:
    """The row that a database finds: by key, by time, and in the daily windows that of the peak."""
    row = _in_force(provider, model, tier, at)
    if row is not None:
        second = at.hour * 3600 + at.minute * 60 + at.second
        if any(begin <= second < end for begin, end in row["peak_windows"]):
            return _in_force(provider, model, peak_tier(tier), at)
    return row


def _in_force(provider: str, model: str, tier: str, at: datetime) -> dict[str, Any] | None:
    rows = table().get((provider, model, tier), [])
    return next((row for row in rows if row["valid_from"] <= at < row["valid_to"]), None)


def amount(row: dict[str, Any], usage: Usage) -> Decimal:
    """Usage times the row's rates, those above a threshold where the input is."""
    suffix = ""
    for prefix in ("above", "above_2"):
        threshold = row[f"{prefix}_input_tokens"]
        if threshold and usage.total_input_tokens > threshold:
            suffix = f"_{prefix}"
    used = {**{bucket: getattr(usage, bucket) for bucket in BUCKETS}, "requests": 1}
    return sum((units * (row[f"{name}{suffix}"] or 0) for name, units in used.items()), Decimal(0))


ENTRIES = st.deferred(lambda: st.sampled_from([entry for entry in book().entries() if not entry.caveat]))
USAGE = st.fixed_dictionaries(
    {bucket: st.sampled_from([0, 1, 999, 130_000, 280_000]) for bucket in BUCKETS[:4] + BUCKETS[11:13]}
).map(lambda counts: Usage(**counts))


@settings(max_examples=500, deadline=None)
@given(
    entry=ENTRIES,
    usage=USAGE,
    tier=st.sampled_from(["", "batch", "flex"]),
    at=st.datetimes(datetime(2024, 1, 1), datetime(2027, 6, 1), timezones=st.just(timezone.utc)),  # noqa: DTZ001
)
def test_a_database_computes_what_python_does(entry: Any, usage: Usage, tier: str, at: datetime) -> None:
    """Row, time, threshold and service tier lead to the same amount."""
    row = look_up(entry.provider, entry.model, tier, at)
    card = book().schedule(entry, tier).at(at)
    if row is None:
        assert tier not in book().service_tiers(entry) or not card.own
        return
    rates = card.rates(usage.total_input_tokens)
    used = {**{bucket: getattr(usage, bucket) for bucket in BUCKETS}, "requests": 1}
    expected = sum(units * (rates[name] or 0) for name, units in used.items())
    assert amount(row, usage) == Decimal(expected).scaleb(-18)
    assert row["estimated"] == card.estimated


def test_periods_cover_all_time_without_overlap() -> None:
    """Half-open periods of one key follow each other; the first has no beginning and the last no end."""
    for rows in table().values():
        ordered = sorted(rows, key=lambda row: row["valid_from"])
        assert ordered[-1]["valid_to"] == FOREVER
        for earlier, later in pairwise(ordered):
            assert earlier["valid_to"] <= later["valid_from"]
            assert earlier["valid_from"] + timedelta(days=1) <= earlier["valid_to"]


def test_every_pattern_with_rates_has_rows() -> None:
    """What a pattern leads to has rates, unless nobody publishes any."""
    with_rows = {(provider, model) for provider, model, _ in table()}
    for row in book().pattern_rows():
        if row.model and (row.provider, row.model) not in with_rows:
            entry = next(
                entry
                for entry in book().entries()
                if (entry.provider, entry.model) == (row.provider, row.model)
            )
            assert all(rates == "" for _, rates in entry.prices)


def test_rows_have_every_column() -> None:
    """Each unit thrice, exact to 18 decimals; a threshold of 0 means none."""
    rows = [row for rows in table().values() for row in rows]
    columns = set(rows[0])
    for unit in PRICED_UNITS:
        assert {unit, f"{unit}_above", f"{unit}_above_2"} <= columns
    for row in rows:
        assert set(row) == columns
        assert all(rate is None or rate.as_tuple().exponent >= -18 for rate in (row[u] for u in PRICED_UNITS))
        assert (row["input_tokens_above"] is None) >= (row["above_input_tokens"] == 0)


def test_no_model_has_more_thresholds_than_there_are_columns() -> None:
    """A third threshold would be lost in the rows."""
    for entry in book().entries():
        for period in book().schedule(entry).periods:
            assert len(period.card.thresholds) <= 3


def test_windows_of_a_period_share_their_rates() -> None:
    """There is one row for all of them; rates of a second kind would be lost."""
    schedules = [book().schedule(entry) for entry in book().entries()]
    periods = [period for schedule in schedules for period in schedule.periods if period.windows]
    assert periods
    for period in periods:
        assert len({str(card.own) for _, _, card in period.windows}) == 1


def test_a_name_means_one_entry() -> None:
    """Provider and model name one entry: a database looks prices up by them."""
    entries = [(entry.provider, entry.model) for entry in book().entries()]
    assert len(entries) == len(set(entries))

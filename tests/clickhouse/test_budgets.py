"""Budgets above executions: what is spent of them, in which window, and where that leads.

Calls are of gpt-4o-mini at 0.15 USD a million tokens in, with no answer: 4,000,000 tokens are 0.60 USD.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest

from otel_cost.budgets import Policy
from otel_cost.store import Store
from tests.clickhouse import spans
from tests.clickhouse.calls import Call, after, moment

SIXTY_CENTS = 4_000_000


@pytest.fixture(autouse=True)
def _utc_again(opened_store: Store) -> Iterator[None]:
    """Leave no clock behind."""
    yield
    opened_store.push_policy(Policy())


def _fill(store: Store, policy: Policy, calls: Iterable[Call]) -> None:
    store.push_policy(policy)
    spans.insert(store, [call.request() for call in calls])
    store.roll()


def _status(store: Store, at: datetime | str, *, is_day: bool = False) -> dict[str, dict[str, Any]]:
    rows = store.query("budget_status", at=at, is_day=is_day, level="", limit=100).dicts()
    return {row["name"]: row for row in rows}


def _calls(ats: Iterable[datetime], first: int = 0, **payer: Any) -> list[Call]:
    """Return a call of 0.60 USD at each of some times, each an execution of its own."""
    made = {"input_tokens": SIXTY_CENTS, "output_tokens": 0, **payer}
    return [Call(execution=number, number=0, at=at, **made) for number, at in enumerate(ats, first)]


def test_who_is_named_has_the_window_of_who_is_not(store: Store) -> None:
    """West of UTC it is still June for a user and a team, whether the policy names them or a pattern does.

    Ten calls each from 8:00 in Los Angeles on the 30th of June are 6 USD. At 20:00 there, 3:00 UTC of July,
    20 of 24 hours have passed: 6 x 24 / 20 = 7.20 USD a day.
    """
    policy = Policy.load(
        user_usd_per_day={"*": "10", "alice": "25"},
        team_usd_per_month={"search": "1500", "*": "1000"},
        time_zone={"acme": "America/Los_Angeles", "*": "UTC"},
    )
    ats = [after(moment("2026-06-30 15:00"), 30 * number) for number in range(10)]
    named = _calls(ats, user="alice", team="search")
    others = _calls(ats, first=10, user="bob", team="other")
    _fill(store, policy, named + others)
    told = _status(store, moment("2026-07-01 03:00"))
    for name in ("alice", "bob"):
        assert str(told[name]["window_begins_on"]) == "2026-06-30"
        assert (told[name]["elapsed_ratio"], told[name]["projected_usd"]) == (0.8333, Decimal("7.2"))
    for name in ("search", "other"):
        assert str(told[name]["window_begins_on"]) == "2026-06-01"
        assert (told[name]["spent_usd"], told[name]["elapsed_ratio"]) == (Decimal(6), 0.9944)


def test_who_has_spent_nothing_is_told_on_the_clock_of_all(store: Store) -> None:
    """A user whom the policy names has a row before a first call, in the window of the clock of `*`."""
    zones = {"acme": "America/Los_Angeles", "*": "Asia/Tokyo"}
    _fill(store, Policy.load(user_usd_per_day={"alice": "25"}, time_zone=zones), [])
    (row,) = _status(store, moment("2026-07-01 18:00")).values()
    assert (row["name"], row["spent_usd"], str(row["window_begins_on"])) == (
        "alice",
        Decimal(0),
        "2026-07-02",
    )


def test_a_name_in_several_organizations_is_one_budget(store: Store) -> None:
    """What a user spends in two organizations is added up, in the window of the one that most was spent in.

    At 3:00 UTC on the 1st of July it is 20:00 on the 30th of June in Los Angeles, where alice spent twice
    0.60 USD, and noon of the 1st in Tokyo, where she spent 0.60 USD that morning, and more on the day before.
    """
    zones = {"acme": "America/Los_Angeles", "bolt": "Asia/Tokyo", "*": "UTC"}
    west = _calls([moment("2026-06-30 15:00"), moment("2026-06-30 16:00")], user="alice")
    east = _calls(
        [moment("2026-06-30 14:00"), moment("2026-07-01 01:00")], 2, user="alice", organization="bolt"
    )
    _fill(store, Policy.load(user_usd_per_day={"alice": "25"}, time_zone=zones), west + east)
    (row,) = _status(store, moment("2026-07-01 03:00")).values()
    assert (row["spent_usd"], str(row["window_begins_on"])) == (Decimal("1.8"), "2026-06-30")
    assert row["elapsed_ratio"] == 0.8333


HOURLY = [after(moment("2026-06-01 00:01"), 60 * hour) for hour in range(72)]
"""A minute past every hour of three days."""


@pytest.mark.parametrize(
    ("at", "hours", "hours_of_month"),
    [
        ("2026-06-01 00:00:00", 0, 0),
        ("2026-06-01 00:00:01", 1, 1),
        ("2026-06-02 18:00:00", 18, 42),
        ("2026-06-02 18:20:00", 19, 43),
        ("2026-06-03 23:59:59", 24, 72),
    ],
)
def test_a_moment_that_has_passed_counts_whole_hours(
    store: Store, at: str, hours: int, hours_of_month: int
) -> None:
    """What is spent and the time that has passed both go to the end of the hour asked about.

    So 0.60 USD an hour is 14.40 USD a day and 432 USD a month, whatever moment is asked about.
    """
    policy = Policy.load(user_usd_per_day={"ann": "50"}, team_usd_per_month={"red": "1000"})
    _fill(store, policy, _calls(HOURLY))
    told = _status(store, at)
    assert told["ann"]["spent_usd"] == hours * Decimal("0.6")
    assert told["ann"]["projected_usd"] == (Decimal("14.4") if hours else 0)
    assert told["ann"]["elapsed_ratio"] == round(hours / 24, 4)
    assert told["red"]["spent_usd"] == hours_of_month * Decimal("0.6")
    assert told["red"]["projected_usd"] == (432 if hours_of_month else 0)


@pytest.mark.parametrize("zone", ["UTC", "America/Los_Angeles", "Asia/Kolkata", "Pacific/Auckland"])
def test_a_date_is_asked_about_as_a_whole(store: Store, zone: str) -> None:
    """All 24 hours of the 2nd of June on the organization's clock are there, wherever it is."""
    policy = Policy.load(user_usd_per_day={"*": "50"}, time_zone={"acme": zone})
    _fill(store, policy, _calls(HOURLY))
    (row,) = _status(store, "2026-06-02 00:00:00", is_day=True).values()
    assert str(row["window_begins_on"]) == "2026-06-02"
    assert (row["spent_usd"], row["projected_usd"]) == (Decimal("14.4"), Decimal("14.4"))
    assert (row["elapsed_ratio"], row["exhausted_at"]) == (1, None)


def test_today_is_asked_about_as_of_now(store: Store) -> None:
    """A budget of today's date is told as it is now: less than the whole day has passed of it."""
    now = datetime.now(timezone.utc).replace(microsecond=0)
    _fill(store, Policy.load(user_usd_per_day={"ann": "50"}), _calls([now]))
    told = _status(store, f"{now:%Y-%m-%d} 00:00:00", is_day=True)["ann"]
    seconds = (datetime.now(timezone.utc) - now.replace(hour=0, minute=0, second=0)).total_seconds()
    assert told["spent_usd"] in (Decimal("0.6"), Decimal(0)), "zero in the first second of an hour"
    assert told["elapsed_ratio"] == pytest.approx(seconds / 86400, abs=0.01)


@pytest.mark.parametrize(
    ("begin", "day", "zone", "hours"),
    [
        ("2026-03-28 23:00", "2026-03-29", "Europe/Berlin", 23),
        ("2026-04-01 22:00", "2026-04-02", "Europe/Berlin", 24),
        ("2026-10-24 22:00", "2026-10-25", "Europe/Berlin", 25),
        ("2026-04-23 22:00", "2026-04-24", "Africa/Cairo", 23),
    ],
)
def test_a_day_on_which_clocks_change_has_its_own_hours(
    store: Store, begin: str, day: str, zone: str, hours: int
) -> None:
    """0.60 USD an hour is 14.40 USD a day on every day, and comes to 0.60 USD for each hour the day has.

    The calls begin with the day and go on for two of its days. In Cairo the clock goes from midnight to 1:00.
    """
    policy = Policy.load(user_usd_per_day={"*": "50"}, time_zone={"acme": zone})
    _fill(store, policy, _calls(after(moment(begin), 60 * hour + 1) for hour in range(48)))
    (early,) = _status(store, after(moment(begin), 240)).values()
    assert (str(early["window_begins_on"]), early["spent_usd"]) == (day, Decimal("2.4"))
    assert (early["burn_rate_usd_per_day"], early["projected_usd"]) == (
        Decimal("14.4"),
        hours * Decimal("0.6"),
    )
    assert early["elapsed_ratio"] == round(4 / hours, 4)
    (whole,) = _status(store, f"{day} 00:00:00", is_day=True).values()
    assert (whole["spent_usd"], whole["elapsed_ratio"]) == (hours * Decimal("0.6"), 1)


def test_a_month_in_which_clocks_change_has_its_own_hours(store: Store) -> None:
    """March in Berlin is an hour short: 0.60 USD an hour are 743 times 0.60, whenever one asks."""
    policy = Policy.load(team_usd_per_month={"red": "1000"}, time_zone={"acme": "Europe/Berlin"})
    begin = moment("2026-02-28 23:00")
    _fill(store, policy, _calls(after(begin, 60 * hour + 1) for hour in range(743)))
    for at in ("2026-03-20 12:00:00", "2026-03-30 12:00:00", "2026-03-31 21:59:59"):
        (row,) = _status(store, at).values()
        assert row["projected_usd"] == 743 * Decimal("0.6")

"""What is found unusual, on cases worked by hand, and how a finding comes, changes and goes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from otel_cost.budgets import Anomalies, Policy
from otel_cost.pricing import PriceBook
from otel_cost.store import Store
from tests.clickhouse.conftest import empty, migrated_store, set_refreshing

NOW = datetime(2026, 6, 30, 12, tzinfo=timezone.utc)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
DEFAULT = Anomalies()
PICO = Decimal("0.000000000001")


@pytest.fixture(scope="module", params=["chdb", "server"])
def opened_store(request: pytest.FixtureRequest, book: PriceBook) -> Iterator[Store]:
    """A store of either kind; a cluster has a test of its own, since each look there takes seconds."""
    with migrated_store(request, request.param, book) as store:
        set_refreshing(store, "STOP")
        yield store


def call(execution: str, at: datetime, usd: Decimal | str | None, **columns: Any) -> dict[str, Any]:
    """Return a charge: a priced model call of ann's planner for feature plan, unless told otherwise."""
    return {
        "trace_id": execution,
        "span_id": f"{int(at.timestamp() * 1000):016x}",
        "execution_id": execution,
        "started_at": at,
        "ended_at": at + timedelta(seconds=1),
        "kind": "model",
        "span_class": "model",
        "provider": "openai",
        "model": "gpt-5",
        "input_tokens": 1000,
        "output_tokens": 300,
        "cost_usd": None if usd is None else Decimal(usd),
        "list_cost_usd": None if usd is None else Decimal(usd),
        "price_status": "unpriced" if usd is None else "priced",
        "status": "Unset",
        "team": "",
        "user_id": "ann",
        "feature": "plan",
        "agent_name": "planner",
        "version": 1,
        **columns,
    }


def insert(store: Store, charges: Sequence[dict[str, Any]]) -> None:
    """Store charges as if their spans had been read, priced and accounted, and add them up."""
    names = list(charges[0])
    rows = [[charge[name] for name in names] for charge in charges]
    with store.connection("insert") as client:
        client.insert("charges", rows, column_names=names, settings={"max_partitions_per_insert_block": 0})
    store.roll()


def runs(costs: Sequence[Decimal | str], at: datetime = NOW, **columns: Any) -> list[dict[str, Any]]:
    """Return executions of one call each, a minute apart, the last at `at`."""
    begin = at - timedelta(minutes=len(costs) - 1)
    return [
        call(f"run-{number}", begin + timedelta(minutes=number), usd, **columns)
        for number, usd in enumerate(costs)
    ]


def found(store: Store, settings: Anomalies = DEFAULT) -> dict[tuple[str, str], dict[str, Any]]:
    """Look, and return every finding by its kind and subject."""
    store.push_policy(Policy(anomalies=settings))
    store.find_anomalies()
    rows = store.query("anomalies", since=NOW - 60 * DAY, until=NOW + 60 * DAY, kind="", limit=1000).dicts()
    assert len({(row["kind"], row["subject"]) for row in rows}) == len(rows)
    for row in rows:
        for name in ("first_seen", "last_seen", "resolved_at"):
            row[name] = row[name] and row[name].replace(tzinfo=timezone.utc)
    return {(row["kind"], row["subject"]): row for row in rows}


def test_ten_times_the_median_is_exact(store: Store) -> None:
    """The others cost 1, 1, 1, 2, 2, 2: their median is 1.50. 15.00 is no finding, a trillionth more is."""
    insert(store, runs(["1", "1", "1", "2", "2", "2", "15"]))
    assert ("execution_cost", "execution:run-6") not in found(store)
    insert(store, [call("run-6", NOW, Decimal(15) + PICO, version=2)])
    row = found(store)["execution_cost", "execution:run-6"]
    assert (row["expected"], row["seen"]) == (Decimal("1.5"), Decimal("15.000000000001"))
    assert row["stake_usd"] == Decimal("13.500000000001")
    assert row["severity"] == "critical"
    assert row["reason"] == (
        "it cost $15, 10 times the $1.5 that the other 6 executions of planner for plan cost at the median "
        "of 28 days (1 model calls, 0 tool calls)"
    )


def test_an_execution_is_not_compared_with_itself(store: Store) -> None:
    """The others cost 1, 1, 1, 3, 3: their median is 1. With itself it would be 2, and 11 no finding."""
    insert(store, runs(["1", "1", "1", "3", "3", "11"]))
    assert found(store)["execution_cost", "execution:run-5"]["expected"] == 1


def test_few_others_say_nothing(store: Store) -> None:
    """Four others are no measure, five are."""
    insert(store, runs(["1", "1", "1", "1", "50"]))
    assert not found(store)
    insert(store, [call("run-9", NOW - HOUR, "1")])
    assert list(found(store)) == [("execution_cost", "execution:run-4")]


def test_agents_and_features_are_compared_with_their_own(store: Store) -> None:
    """What is dear for one agent, or for one feature, is usual for another."""
    dear = [row | {"execution_id": f"dear-{n}"} for n, row in enumerate(runs(["20"] * 9, feature="research"))]
    cheap = [row | {"execution_id": f"cheap-{n}"} for n, row in enumerate(runs(["1"] * 9, NOW - HOUR))]
    insert(store, [*dear, *cheap])
    assert not found(store)


def test_what_is_usual_is_taken_from_the_last_days(store: Store) -> None:
    """Executions of more than 28 days ago are no measure; those just within are."""
    old = runs(["1"] * 6, NOW - 29 * DAY)
    insert(store, [*old, call("dear", NOW, "50")])
    assert not found(store)
    insert(
        store, [row | {"execution_id": f"more-{n}"} for n, row in enumerate(runs(["1"] * 6, NOW - 27 * DAY))]
    )
    assert list(found(store)) == [("execution_cost", "execution:dear")]


def test_the_factor_is_a_setting(store: Store) -> None:
    """With a factor of 3, three times the median is no finding and more is."""
    insert(store, runs(["1"] * 6 + ["3", "3.01"]))
    assert not found(store)
    assert list(found(store, replace(DEFAULT, execution_factor=Decimal(3)))) == [
        ("execution_cost", "execution:run-7")
    ]


def test_maxima_hold_whatever_is_usual(store: Store) -> None:
    """A limit in USD, or of calls, needs nothing to compare with; at the limit is not beyond it."""
    insert(store, [call("one", NOW, "2.00"), *(call("two", NOW - n * HOUR, "0.50") for n in range(1, 6))])
    assert not found(store)
    rows = found(store, replace(DEFAULT, max_execution_usd=Decimal("2.00"), max_execution_calls=5))
    assert list(rows) == [("execution_maximum", "execution:two")]
    assert rows["execution_maximum", "execution:two"]["reason"].startswith(
        "it cost $2.5, more than the $2 that"
    )
    rows = found(store, replace(DEFAULT, max_execution_calls=4))
    assert rows["execution_maximum", "execution:two"]["unit"] == "calls"


def test_looking_again_changes_nothing(store: Store) -> None:
    """One row per finding, however often somebody looks."""
    insert(store, runs(["1"] * 6 + ["50"]))
    first = found(store)
    assert found(store) == first
    written = json.loads(store.sql("SELECT count() AS n FROM anomalies"))["n"]
    assert int(written) == 1


def test_a_finding_resolves_by_itself_and_comes_back(store: Store) -> None:
    """More than 7 days ago is over; when it comes again, the finding is open, since it first began."""
    insert(store, [call("a", NOW - 20 * DAY, None, model="nova", provider="acme")])
    insert(store, [call("b", NOW - 20 * DAY + HOUR, "1")])
    key = "unpriced_model", "model:nova"
    assert found(store)[key]["status"] == "open"
    assert found(store)[key]["stake_usd"] is None
    insert(store, [call("c", NOW - 10 * DAY, "1")])
    row = found(store)[key]
    assert (row["status"], row["resolved_at"]) == ("resolved", NOW - 10 * DAY + timedelta(seconds=1))
    insert(store, [call("d", NOW, None, model="nova", provider="acme")])
    row = found(store)[key]
    assert (row["status"], row["resolved_at"]) == ("open", None)
    assert (row["first_seen"], row["last_seen"]) == (NOW - 20 * DAY, NOW)


def test_last_seen_moves(store: Store) -> None:
    """A finding that goes on is the same one, seen later."""
    insert(store, [call("a", NOW - 2 * HOUR, None, model="nova")])
    assert found(store)["unpriced_model", "model:nova"]["last_seen"] == NOW - 2 * HOUR
    insert(store, [call("b", NOW, None, model="nova")])
    row = found(store)["unpriced_model", "model:nova"]
    assert (row["first_seen"], row["last_seen"], row["seen"]) == (NOW - 2 * HOUR, NOW, 2)


def test_without_settings_nothing_is_touched(store: Store) -> None:
    """A store whose settings were never pushed finds nothing, and closes nothing."""
    insert(store, [call("a", NOW, None, model="nova")])
    assert found(store)
    store.sql("TRUNCATE TABLE anomaly_settings", fmt="Null", readonly=False)
    store.find_anomalies()
    rows = store.query("anomalies", since=NOW - DAY, until=NOW + DAY, kind="", limit=10).dicts()
    assert [row["status"] for row in rows] == ["open"]


def test_spend_that_nobody_owns(store: Store) -> None:
    """Ten cents are let pass, more is not; any name at all makes an owner."""
    nobody = {"user_id": "", "feature": ""}
    insert(store, [call("a", NOW, "0.10", **nobody), call("b", NOW - HOUR, "5", feature="", team="search")])
    assert not found(store)
    insert(store, [call("c", NOW - 2 * HOUR, "0.01", **nobody)])
    row = found(store)["unowned_spend", "agent:planner"]
    assert (row["seen"], row["stake_usd"]) == (Decimal("0.11"), Decimal("0.11"))


def failing(run: str, count: int, at: datetime = NOW) -> list[dict[str, Any]]:
    """Return an answered call, failures, and an answered call."""
    made = [call(run, at, "0.01")]
    for number in range(1, count + 1):
        failed = {"status": "Error", "output_tokens": 0}
        made.append(call(run, at + timedelta(seconds=10 * number), "0", **failed))
    return [*made, call(run, at + timedelta(seconds=10 * count + 10), "0.01")]


def test_five_failures_in_a_row_are_a_storm(store: Store) -> None:
    """Four are not, and what was answered before and after does not count."""
    insert(store, [*failing("calm", 4), *failing("storm", 5, NOW + HOUR)])
    assert list(found(store)) == [("retry_storm", "execution:storm")]
    assert found(store)["retry_storm", "execution:storm"]["seen"] == 5


def by_hour(hours: int, failing_hour: int) -> list[dict[str, Any]]:
    """Return six executions from 6:00 on with ten calls an hour, of which eight fail in one of them."""
    return [
        call(
            f"long-{run}",
            NOW + (hour - 6) * HOUR + timedelta(minutes=6 * number, seconds=run),
            "0.01",
            status="Error" if hour == failing_hour and number % 5 else "Unset",
        )
        for run in range(6)
        for hour in range(hours)
        for number in range(10)
    ]


def nightly(
    days: int, hours: Sequence[int] = (22,), executions: int = 15, **columns: Any
) -> list[dict[str, Any]]:
    """Return as many executions each night up to the day before NOW, with a call in each of some hours."""
    midnight = NOW.replace(hour=0)
    return [
        call(
            f"night-{day}-{run}",
            midnight - day * DAY + hour * HOUR + timedelta(seconds=run),
            "0.01",
            **columns,
        )
        for day in range(1, days + 1)
        for run in range(executions)
        for hour in hours
    ]


@pytest.mark.parametrize("days", [4, 10, 21])
def test_a_job_that_runs_every_night_is_usual(store: Store, days: int) -> None:
    """Fifteen executions at 22:00 are what is expected there, after few days or weeks, and none beside it."""
    insert(store, [*nightly(days), call("now", NOW, "0.01")])
    assert ("volume_spike", "feature:plan") not in found(store)


@pytest.mark.parametrize(("extra", "is_spike"), [(0, False), (45, True)])
def test_a_night_with_four_times_as_many_is_not(store: Store, extra: int, is_spike: bool) -> None:
    """Sixty executions last night, where fifteen are usual, are a spike, told against the fifteen."""
    midnight = NOW.replace(hour=0)
    more = [
        call(f"more-{run}", midnight - 2 * HOUR + timedelta(minutes=1, seconds=run), "0.01")
        for run in range(extra)
    ]
    insert(store, [*nightly(21), *more, call("now", NOW, "0.01")])
    told = found(store)
    assert (("volume_spike", "feature:plan") in told) == is_spike
    if is_spike:
        row = told["volume_spike", "feature:plan"]
        assert (row["seen"], row["expected"], row["first_seen"]) == (60, 15, midnight - 2 * HOUR)


def test_an_execution_that_runs_past_midnight_begins_once(store: Store) -> None:
    """Fifteen that ran two hours longer last night began at 22:00, and none of them at midnight."""
    usual = [each for each in nightly(21) if not each["execution_id"].startswith("night-1-")]
    insert(store, [*usual, *nightly(1, hours=(22, 23, 24)), call("now", NOW, "0.01")])
    assert ("volume_spike", "feature:plan") not in found(store)
    begun = store.sql(
        "SELECT hour, sum(executions), sum(calls) FROM baselines FINAL"
        " WHERE utc_day >= '2026-06-29' GROUP BY hour ORDER BY hour",
        fmt="TSV",
    )
    assert begun.decode().splitlines() == [
        "2026-06-29 22:00:00\t15\t30",
        "2026-06-30 00:00:00\t0\t15",
        "2026-06-30 12:00:00\t1\t1",
    ]


def test_a_storm_is_in_the_hour_its_calls_failed_in(store: Store) -> None:
    """Six executions of six hours make 60 calls an hour; that 48 failed from 10:00 on is told of it."""
    insert(store, by_hour(hours=6, failing_hour=4))
    row = found(store)["retry_storm", "agent:planner"]
    assert (row["seen"], row["expected"]) == (Decimal("0.8"), Decimal("0.133333"))
    assert row["reason"].startswith("48 of 60 calls failed in the hour from 2026-06-30 10:00:00 UTC")
    assert row["first_seen"] == NOW - 2 * HOUR


def test_a_storm_is_of_five_executions(store: Store) -> None:
    """What four executions fail in is no storm of their agent, however often they do."""
    few = [each for each in by_hour(hours=6, failing_hour=4) if each["execution_id"] in ("long-0", "long-1")]
    insert(store, few)
    assert ("retry_storm", "agent:planner") not in found(store)


@pytest.mark.parametrize("ahead", [datetime(2090, 1, 1, tzinfo=timezone.utc), NOW + 3 * DAY + 500 * DAY])
def test_a_clock_that_is_ahead_changes_nothing(store: Store, ahead: datetime) -> None:
    """Calls of a day to come hide nothing of an imported history, are no findings, and resolve none."""
    history = by_hour(hours=6, failing_hour=4)
    insert(store, history)
    before = found(store)
    assert ("retry_storm", "agent:planner") in before
    nobody = {"user_id": "", "feature": "", "agent_name": "skewed"}
    insert(
        store,
        [
            call("ahead", ahead, "5", **nobody),
            call("unknown", ahead, None, model="no-such-model", agent_name="skewed"),
        ],
    )
    assert found(store) == before


def stepping(run: str, outputs: Sequence[int]) -> list[dict[str, Any]]:
    """Return calls whose prompts grow by 100 tokens, with answers of these lengths."""
    return [
        call(run, NOW + timedelta(seconds=10 * n), "0.01", input_tokens=1000 + 100 * n, output_tokens=tokens)
        for n, tokens in enumerate(outputs)
    ]


def test_a_loop_is_six_repeats(store: Store) -> None:
    """A B four times repeats six calls; one call less is five, and other lengths are other answers."""
    insert(store, stepping("loop", [50, 200] * 4))
    insert(store, stepping("shorter", [50, 200, 50, 200, 50, 200, 50]))
    insert(store, stepping("varied", [50, 200, 60, 250, 75, 300, 90, 360]))
    assert list(found(store)) == [("loop", "execution:loop")]
    assert found(store)["loop", "execution:loop"]["seen"] == 6
    assert found(store)["loop", "execution:loop"]["stake_usd"] == Decimal("0.06")


def test_what_the_guard_saw_is_told(store: Store) -> None:
    """A loop that a detector of the guard saw is a finding, in its words."""
    insert(store, [call("looped", NOW, "0.50")])
    names = [
        "trace_id",
        "span_id",
        "event_number",
        "decided_at",
        "execution_id",
        "decision",
        "kind",
        "mode",
        "reason",
    ]
    row = [
        "t",
        "s",
        1,
        NOW,
        "looped",
        "warn",
        "identical_calls",
        "enforce",
        "identical_calls: 3 calls of search",
    ]
    with store.connection("insert") as client:
        client.insert("decisions", [row], column_names=names)
    told = found(store)["loop", "execution:looped"]
    assert told["reason"] == "the guard saw it happen: identical_calls: 3 calls of search"


@pytest.mark.parametrize("name", ["it's", "back\\slash", "question?", "{brace}"])
def test_evidence_survives_odd_names(store: Store, name: str) -> None:
    """The query that shows a finding can be pasted, whatever the subject is called."""
    insert(store, [call("a", NOW, None, model=name)])
    row = found(store)["unpriced_model", f"model:{name}"]
    assert len(store.sql(row["evidence"]).splitlines()) == 1


@pytest.mark.slow
def test_a_cluster_looks_at_all_shards(request: pytest.FixtureRequest, book: PriceBook) -> None:
    """An execution is compared with those on other shards, and what is found is read from any."""
    with migrated_store(request, "cluster", book) as store:
        set_refreshing(store, "STOP")
        empty(store)
        insert(store, runs(["1"] * 6 + ["50"]))
        shards = store.sql("SELECT uniqExact(_shard_num) FROM charges", fmt="TSV")
        assert shards == b"2\n"
        assert list(found(store)) == [("execution_cost", "execution:run-6")]

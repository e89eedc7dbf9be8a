"""Rollups are exact: whatever was delivered, how often, in what order, and whatever broke off in between."""

from __future__ import annotations

import json
import random
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_cost.budgets import Policy
from otel_cost.errors import StoreError
from otel_cost.server.spans import to_columns
from otel_cost.store import Store, rollups
from otel_cost.store.dsn import Embedded
from otel_cost.store.files import sql_files
from tests.clickhouse import spans
from tests.clickhouse.calls import Call, after, moment
from tests.clickhouse.conftest import empty, on_every_node

BEGIN = moment("2026-06-01 22:30")
CALLS = [
    Call(
        execution=number // 5,
        number=number,
        at=after(BEGIN, 7 * number),
        user=f"user-{number // 5 % 3}",
        team=f"team-{number // 5 % 2}",
        input_tokens=100 * number + 1,
        output_tokens=number,
        error=number % 7 == 0,
    )
    for number in range(40)
]
"""Eight executions over four and a half hours, across midnight."""
IN_STEPS = pytest.mark.parametrize("opened_store", ["chdb"], indirect=True)
"""Where a pass can be taken step by step: a server's views run when they do, and are the same statements."""
Amounts = dict[Any, tuple[Decimal, int]]


def _sums(keyed: Iterator[tuple[Any, Decimal, int]]) -> Amounts:
    sums: dict[Any, tuple[Decimal, int]] = defaultdict(lambda: (Decimal(0), 0))
    for key, cost, calls in keyed:
        sums[key] = (sums[key][0] + cost, sums[key][1] + calls)
    return dict(sums)


def _truth(calls: Sequence[Call]) -> dict[str, Amounts]:
    """Return what each rollup has to say of some distinct calls."""
    return {
        "spend_hourly": _sums((f"{call.at:%Y-%m-%d %H}", call.cost_usd, 1) for call in calls),
        "spend_daily": _sums((f"{call.at:%Y-%m-%d} {call.team}", call.cost_usd, 1) for call in calls),
        "user_spend_daily": _sums((f"{call.at:%Y-%m-%d} {call.user}", call.cost_usd, 1) for call in calls),
        "executions": _sums((call.trace_id, call.cost_usd, 1) for call in calls),
    }


SAID = {
    "spend_hourly": "formatDateTime(hour, '%Y-%m-%d %H'), cost_usd, calls",
    "spend_daily": "toString(day) || ' ' || team, cost_usd, calls",
    "user_spend_daily": "toString(day) || ' ' || user_id, cost_usd, calls",
    "executions": "execution_id, cost_usd, model_calls",
}


def _said(store: Store) -> dict[str, Amounts]:
    """Return what each rollup says, as people ask it: a sum over rows, with no word about versions."""
    told = {}
    for name, columns in SAID.items():
        answer = store.sql(f"SELECT {columns} FROM {name}", fmt="JSONCompactEachRow")
        rows = [json.loads(line, parse_float=Decimal) for line in answer.splitlines()]
        told[name] = _sums((key, Decimal(str(cost)), int(calls)) for key, cost, calls in rows)
    return told


def _deliver(store: Store, calls: Sequence[Call]) -> None:
    store.insert_spans(to_columns([row for call in calls for row in call.rows()]))


class StoppedError(Exception):
    """Stands for a process that is gone in the middle of a pass."""


def _stop_after(statements_run: int, original: Callable[..., None]) -> Callable[..., None]:
    left = [statements_run]

    def run(*args: Any) -> None:
        if not left[0]:
            raise StoppedError
        left[0] -= 1
        original(*args)

    return run


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), repeated=st.integers(0, 6), stops=st.lists(st.integers(0, 6), max_size=4))
def test_totals_are_the_truth_whatever_happens(
    opened_store: Store, seed: int, repeated: int, stops: list[int]
) -> None:
    """Any order, batches, repeats, several senders, and passes that break off anywhere: totals are right."""
    empty(opened_store)
    chance = random.Random(seed)
    calls = chance.sample(CALLS, len(CALLS))
    cuts = sorted(chance.sample(range(1, len(calls)), 5))
    parts = [calls[start:end] for start, end in zip([0, *cuts], [*cuts, len(calls)], strict=True)]
    deliveries = parts + chance.choices(parts, k=repeated)
    chance.shuffle(deliveries)
    senders = [
        threading.Thread(target=lambda own=own: [_deliver(opened_store, part) for part in own])
        for own in (deliveries[::2], deliveries[1::2])
    ]
    for sender in senders:
        sender.start()
    _roll_and_stop(opened_store, stops)
    for sender in senders:
        sender.join()
    opened_store.roll()
    assert _said(opened_store) == _truth(CALLS)
    assert opened_store.stale_days() == []
    assert opened_store.query("reconcile", since="2026-06-01 00:00:00").rows == []


def _roll_and_stop(store: Store, stops: list[int]) -> None:
    """Begin passes beside what is being delivered, and let each end after some of its statements."""
    if not isinstance(store.place, Embedded):
        store.roll()
        return
    for after_statements in stops:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rollups, "_run", _stop_after(after_statements, rollups._run))
            try:
                store.roll()
            except StoppedError:
                continue


def test_the_comparison_can_fail(store: Store) -> None:
    """A call less is another truth."""
    _deliver(store, CALLS[1:])
    store.roll()
    assert _said(store) == _truth(CALLS[1:])
    assert _said(store) != _truth(CALLS)


def test_rolling_again_writes_nothing(store: Store) -> None:
    """A day is made anew only when something came to it."""
    _deliver(store, CALLS)
    store.roll()
    written = "SELECT count(), max(version) FROM spend_hours"
    before = store.sql(written, fmt="TSV")
    store.roll()
    assert store.sql(written, fmt="TSV") == before


def test_money_moves_with_its_payer(store: Store) -> None:
    """A span that names the user comes late: the row of nobody goes, its money is the user's."""
    call = Call(1, 1, BEGIN, user="")
    _deliver(store, [call])
    store.roll()
    users = "SELECT user_id, cost_usd FROM user_spend_daily"
    assert store.sql(users, fmt="TSV") == b"\t0.00027\n"
    root = {
        "traceId": call.trace_id,
        "spanId": "f" * 16,
        "startTimeUnixNano": str(int(call.at.timestamp()) * 10**9),
        "endTimeUnixNano": str((int(call.at.timestamp()) + 2) * 10**9),
        "attributes": [{"key": "user.id", "value": {"stringValue": "ann"}}],
    }
    child = call.request()
    child["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["parentSpanId"] = "f" * 16
    empty(store)
    spans.insert(store, [child])
    assert store.sql(users, fmt="TSV") == b"\t0.00027\n"
    spans.insert(store, [{"resourceSpans": [{"scopeSpans": [{"spans": [root]}]}]}])
    assert store.sql(users, fmt="TSV") == b"ann\t0.00027\n"
    assert store.sql("SELECT DISTINCT user_id FROM spend_hourly", fmt="TSV") == b"ann\n"


def test_an_execution_goes_on_after_midnight(store: Store) -> None:
    """Its cost is that of both days, once; status and time are those of the span around it."""
    calls = [Call(1, 1, moment("2026-06-01 23:59")), Call(1, 2, moment("2026-06-02 00:01"))]
    root = {
        "traceId": calls[0].trace_id,
        "spanId": "f" * 16,
        "startTimeUnixNano": str(int(moment("2026-06-01 23:58").timestamp()) * 10**9),
        "endTimeUnixNano": str(int(moment("2026-06-02 00:03").timestamp()) * 10**9),
        "status": {"code": 2},
    }
    _deliver(store, calls)
    spans.insert(store, [{"resourceSpans": [{"scopeSpans": [{"spans": [root]}]}]}])
    told = store.sql("SELECT cost_usd, model_calls, status, started_at, ended_at FROM executions", fmt="TSV")
    assert told == b"0.00054\t2\terror\t2026-06-01 23:58:00.000000000\t2026-06-02 00:03:00.000000000\n"


@pytest.fixture
def clocks(store: Store) -> Iterator[Store]:
    """A store of organizations on their own clocks."""
    store.push_policy(Policy.load(time_zone={"*": "Europe/Berlin", "acme": "Asia/Kolkata", "zulu": "UTC"}))
    yield store
    store.push_policy(Policy.load())


def test_days_and_hours_begin_on_the_organizations_clock(clocks: Store) -> None:
    """18:45 UTC is a quarter past midnight in Kolkata (+5:30), a quarter to nine in Berlin's summer (+2)."""
    at = moment("2026-06-01 18:45")
    _deliver(clocks, [Call(n, n, at, organization=name) for n, name in enumerate(("acme", "bmbh", "zulu"))])
    clocks.roll()
    told = clocks.sql("SELECT organization, day, hour FROM spend_hourly ORDER BY organization", fmt="TSV")
    assert told.decode().splitlines() == [
        "acme\t2026-06-02\t2026-06-01 18:30:00",
        "bmbh\t2026-06-01\t2026-06-01 18:00:00",
        "zulu\t2026-06-01\t2026-06-01 18:00:00",
    ]
    clocks.push_policy(Policy.load())
    clocks.roll()
    assert clocks.sql("SELECT DISTINCT day FROM spend_daily", fmt="TSV") == b"2026-06-01\n"


def test_a_change_of_the_clocks_is_to_the_second(clocks: Store) -> None:
    """Berlin goes from +1 to +2 on 2026-03-29: that day is from 23:00 UTC to 22:00 UTC."""
    moments = ["2026-03-28 22:59", "2026-03-28 23:00", "2026-03-29 21:59", "2026-03-29 22:00"]
    _deliver(clocks, [Call(n, n, moment(text), organization="bmbh") for n, text in enumerate(moments)])
    clocks.roll()
    told = clocks.sql("SELECT day, sum(calls) FROM spend_daily GROUP BY day ORDER BY day", fmt="TSV")
    assert told.decode().splitlines() == ["2026-03-28\t1", "2026-03-29\t2", "2026-03-30\t1"]


def test_a_day_outlives_its_charges(store: Store) -> None:
    """Retention drops the charges of a day; its totals stay, also when a span of it comes late."""
    _deliver(store, CALLS)
    store.roll()
    before = _said(store)
    on_every_node(store, "ALTER TABLE charges DROP PARTITION '2026-06-01'")
    store.roll()
    assert _said(store) == before
    _deliver(store, [Call(99, 99, BEGIN)])
    store.roll()
    assert _said(store) == before


KEPT = ("execution_days", "baselines", "spend_hours", "spend_days", "user_spend_days")


def _kept(store: Store, day: str) -> dict[str, str]:
    """Return every total of a day, but for its versions."""
    columns = "COLUMNS('^(execution_id|hour|day|feature|user_id|executions|model_calls|calls|cost_usd)$')"
    return {
        table: store.sql(
            f"SELECT {columns} FROM {table} FINAL WHERE utc_day = '{day}' ORDER BY ALL", fmt="TSV"
        ).decode()
        for table in KEPT
    }


def _drop_day(store: Store, day: str) -> None:
    """Drop a day as retention does."""
    on_every_node(
        store, *(f"ALTER TABLE {table} DROP PARTITION '{day}'" for table in ("charges", "trace_links"))
    )


QUIET = [Call(n, n, moment(f"2026-06-10 09:{n:02}")) for n in range(10)]
"""Ten calls on a day, and none on the day before."""


def test_a_late_span_of_the_day_before_leaves_a_dropped_day(store: Store) -> None:
    """A day whose charges were dropped keeps executions and baselines when the day before is rolled up."""
    _deliver(store, [*QUIET, Call(50, 50, moment("2026-07-10 09:00"))])
    store.roll()
    before = _kept(store, "2026-06-10")
    assert all(before.values())
    _drop_day(store, "2026-06-10")
    _deliver(store, [Call(99, 99, moment("2026-06-09 23:00"))])
    store.roll()
    assert _kept(store, "2026-06-10") == before
    assert store.sql("SELECT sum(model_calls) FROM executions", fmt="TSV") == b"12\n"


@pytest.mark.parametrize("is_dropped_first", [True, False])
def test_a_late_span_leaves_a_dropped_day_that_was_forgotten(store: Store, is_dropped_first: bool) -> None:
    """`roll --again` knows of which days charges were dropped, before it or between it and its pass."""
    _deliver(store, [*QUIET, Call(50, 50, moment("2026-07-10 09:00"))])
    store.roll()
    before = _kept(store, "2026-06-10")
    if is_dropped_first:
        _drop_day(store, "2026-06-10")
        store.forget_rollups()
        store.roll()
    else:
        store.forget_rollups()
        _drop_day(store, "2026-06-10")
    assert _kept(store, "2026-06-10") == before
    for late in (moment("2026-06-10 23:00"), moment("2026-06-09 23:00")):
        _deliver(store, [Call(99, late.day, late)])
        store.roll()
        assert _kept(store, "2026-06-10") == before
    assert store.stale_days() == []


def test_forgetting_makes_every_day_anew(store: Store) -> None:
    """After `roll --again` a total that was wrong is right, and every day of it noted as done."""
    _deliver(store, QUIET)
    store.roll()
    before = _kept(store, "2026-06-10")
    on_every_node(
        store, "INSERT INTO spend_days SELECT * REPLACE (7 AS calls, version + 1 AS version) FROM spend_days"
    )
    assert _kept(store, "2026-06-10") != before
    store.forget_rollups()
    assert store.stale_days() == ["2026-06-10"]
    store.roll()
    assert (_kept(store, "2026-06-10"), store.stale_days()) == (before, [])


def test_reconciling_finds_what_differs(store: Store) -> None:
    """A total that is not the sum of its charges is told, with the dollars."""
    _deliver(store, CALLS[:1])
    store.roll()
    assert store.query("reconcile", since="2026-06-01 00:00:00").rows == []
    changed = "cost_usd + 1 AS cost_usd, version + 1 AS version"
    change = f"INSERT INTO spend_days SELECT * REPLACE ({changed}) FROM spend_days"
    on_every_node(store, change)
    (found,) = store.query("reconcile", since="2026-06-01 00:00:00").dicts()
    assert (found["table_name"], found["difference_usd"]) == ("spend_daily", Decimal(1))


def test_reconciling_finds_spans_that_got_lost_between_tables(store: Store) -> None:
    """A crash between otel_traces and the tables made of it is told by how many spans they lack."""
    _deliver(store, CALLS[:3])
    assert store.query("reconcile_spans", since="2026-06-01 00:00:00").rows == []
    on_every_node(store, "TRUNCATE TABLE trace_links")
    (found,) = store.query("reconcile_spans", since="2026-06-01 00:00:00").dicts()
    assert (found["received"], found["linked"], found["missing"]) == (3, 0, 3)


def test_a_rollup_that_is_no_insert_is_refused(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of rollups/ that cannot become a view of a server is told by name."""
    path = tmp_path / "3_wrong.sql"
    path.write_text("SELECT 1;")
    with pytest.raises(StoreError, match=r"3_wrong\.sql is not one INSERT INTO"):
        rollups.view_of(path)


def test_parts_are_not_counted_by_a_merge(store: Store) -> None:
    """Merging what is there makes no day stale."""
    for call in CALLS[:5]:
        _deliver(store, [call])
    store.roll()
    on_every_node(store, "OPTIMIZE TABLE charges FINAL", "OPTIMIZE TABLE trace_links FINAL")
    assert store.stale_days() == []


@IN_STEPS
def test_a_day_that_missed_a_step_is_not_noted_as_done(store: Store) -> None:
    """Days that change in the middle of a pass, as on a slow server, are made again from the start."""
    first, second, *others = sql_files("rollups")
    _deliver(store, CALLS[:5])
    with store.connection("test") as client:
        client.command("TRUNCATE TABLE rolling_days")
        rollups._run(client, first)
        rollups._run(client, second)
    _deliver(store, [Call(99, 99, moment("2026-06-09 12:00"))])
    with store.connection("test") as client:
        client.command("TRUNCATE TABLE rolling_days")
        for path in (first, *others):
            rollups._run(client, path)
    assert store.stale_days() == ["2026-06-01", "2026-06-09"]
    store.roll()
    assert store.stale_days() == []
    assert _said(store) == _truth([*CALLS[:5], Call(99, 99, moment("2026-06-09 12:00"))])


@IN_STEPS
def test_a_pass_at_work_keeps_its_days(store: Store) -> None:
    """The next tick of a server does not take other days while those of a pass are not done."""
    first = sql_files("rollups")[0]
    days = "SELECT utc_day, version FROM rolling_days ORDER BY utc_day"
    _deliver(store, CALLS[:1])
    with store.connection("test") as client:
        client.command("TRUNCATE TABLE rolling_days")
        rollups._run(client, first)
        before = client.query(days).result_rows
    _deliver(store, [Call(99, 99, moment("2026-06-09 12:00"))])
    with store.connection("test") as client:
        client.command("CREATE OR REPLACE TABLE next_days AS rolling_days")
        select = rollups.parts_of(first)[1]
        client.command(f"INSERT INTO next_days {select}")
        assert client.query(days.replace("rolling_days", "next_days")).result_rows == before
        client.command("DROP TABLE next_days")


def test_a_day_of_which_nothing_counts_is_done(store: Store) -> None:
    """Its charges are in an execution that cost nothing, and no pass is needed again and again."""
    _deliver(store, CALLS[:1])
    uncounted = "false AS counted, 'duplicate_call' AS not_counted_reason, version + 1 AS version"
    store.sql(
        f"INSERT INTO charges SELECT * REPLACE ({uncounted}) FROM charges FINAL", fmt="Null", readonly=False
    )
    store.roll()
    assert store.stale_days() == []
    assert store.sql("SELECT count() FROM spend_hourly", fmt="TSV") == b"0\n"


def test_this_hour_is_in_a_period_that_ends_ahead(store: Store) -> None:
    """The week of hours that `spend_by_hour` shows is the one up to now, also of a period until 2100."""
    now = datetime.now(timezone.utc).replace(microsecond=0)
    spans.insert(store, [Call(execution=1, number=1, at=now).request()])
    for until in ("2100-01-01 00:00:00", "2199-01-01 00:00:00"):
        rows = store.query("spend_by_hour", since="1970-01-01 00:00:00", until=until, by="user").dicts()
        assert [(row["name"], row["model_calls"]) for row in rows] == [("ann", 1)]

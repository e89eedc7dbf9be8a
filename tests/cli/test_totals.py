"""`budgets status`, `roll` and what `doctor` says of totals, as a person runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from otel_cost.budgets import Policy
from otel_cost.cli import doctor
from otel_cost.store import open_store
from tests.cli.test_reports import run
from tests.clickhouse import spans
from tests.clickhouse.calls import Call, moment
from tests.server.commands import serving
from tests.stores import embedded


@pytest.fixture
def dsn(tmp_path: Path) -> str:
    """A store with two calls of 0.00027 USD and budgets for who made them, owned by nobody."""
    made = embedded(tmp_path / "store")
    with open_store(made) as store:
        store.push_policy(Policy.load(user_usd_per_day="0.0009", team_usd_per_month={"red": "off"}))
        spans.insert(store, [Call(1, number, moment("2026-06-01 11:00")).request() for number in (1, 2)])
    return made


def test_budgets_status_shows_what_is_used(dsn: str) -> None:
    """0.00054 of 0.0009 USD by noon of the day is 0.00108 by its end, and the limit is reached at 20:00."""
    done = run("budgets", "status", "--at", "2026-06-01T12:00:00", "--json", "--store", dsn)
    assert done.returncode == 0, done.stderr
    (told,) = json.loads(done.stdout)
    assert (told["level"], told["name"], told["spent_usd"], told["limit_usd"]) == (
        "user",
        "ann",
        "0.00054",
        "0.0009",
    )
    assert (told["remaining_usd"], told["projected_usd"]) == ("0.00036", "0.00108")
    assert told["exhausted_at"].startswith("2026-06-01T20:00:00")
    shown = run("budgets", "status", "--at", "2026-06-01T12:00:00", "--store", dsn).stdout
    assert "ann" in shown


def test_budgets_status_of_a_date_is_that_of_its_end(dsn: str) -> None:
    """The 0.00054 USD of a day that is over are what the day comes to, and do not exhaust 0.0009 USD."""
    done = run("budgets", "status", "--at", "2026-06-01", "--json", "--store", dsn)
    (told,) = json.loads(done.stdout)
    assert (told["spent_usd"], told["projected_usd"], told["exhausted_at"]) == ("0.00054", "0.00054", None)


def test_nobody_held_to_a_budget_is_said(dsn: str) -> None:
    """A level without budgets is told in words; one that is none is refused."""
    done = run("budgets", "status", "--level", "team", "--store", dsn)
    assert (done.returncode, done.stdout.strip()[:9]) == (0, "no budget")
    wrong = run("budgets", "status", "--level", "galaxy", "--store", dsn)
    assert (wrong.returncode, "none of user, team and organization" in wrong.stderr) == (2, True)


def test_roll_mends_a_total(dsn: str) -> None:
    """Doctor finds a total that is not the sum of its charges, and `roll --again` makes it anew."""
    with open_store(dsn) as store:
        changed = "cost_usd + 1 AS cost_usd, version + 1 AS version"
        change = f"INSERT INTO spend_days SELECT * REPLACE ({changed}) FROM spend_days"
        store.sql(change, fmt="Null", readonly=False)
        (found,) = doctor._totals(store.query("reconcile", since=moment("2026-06-01 00:00")).dicts())
        assert (found.level, "spend_daily is 1.0" in found.detail) == ("fail", True)
    done = run("roll", "--again", "--store", dsn)
    assert (done.returncode, done.stdout.strip()) == (0, "1 day added up, all totals are up to date")
    with open_store(dsn) as store:
        assert store.query("reconcile", since=moment("2026-06-01 00:00")).rows == []


def test_doctor_tells_of_spans_that_were_not_read(dsn: str) -> None:
    """Spans that a crash left in otel_traces alone are counted, with what to do."""
    with open_store(dsn) as store:
        store.sql("TRUNCATE TABLE trace_links", fmt="Null", readonly=False)
        (found,) = doctor._lost_spans(
            store.query("reconcile_spans", since=moment("2026-06-01 00:00")).dicts()
        )
    assert (found.level, found.detail) == ("fail", "2 of 2 spans of 2026-06-01 were not read")
    assert found.remedy == "otel-cost backfill --since 2026-06-01"


def test_a_served_store_lacks_nothing(tmp_path: Path) -> None:
    """Behind `otel-cost up` a store is an embedded one: doctor does not miss what only servers have."""
    with serving(tmp_path / "store"), open_store(f"chdb://{tmp_path / 'store'}") as store:
        assert store.pending() == []
        assert {found.level for found in doctor._opened_store(store, "here")} == {"ok"}

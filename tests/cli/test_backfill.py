"""`otel-cost backfill` as a person runs it, sent by `otel-cost doctor`."""

from __future__ import annotations

from pathlib import Path

from otel_cost.server.spans import to_columns
from otel_cost.store import open_store
from tests.cli.test_price import run
from tests.clickhouse.calls import Call, moment
from tests.clickhouse.test_backfill import without_views
from tests.stores import embedded


def test_spans_that_no_view_has_read_are_found_and_read(tmp_path: Path) -> None:
    """The doctor names the command, a dry run changes nothing, the run charges the calls."""
    dsn = embedded(tmp_path / "store")
    calls = [Call(1, number, moment("2026-06-01 12:00")) for number in range(3)]
    with open_store(dsn) as store:
        store.insert_spans(to_columns(calls[0].rows()))
        with without_views(store):
            store.insert_spans(to_columns([row for call in calls[1:] for row in call.rows()]))
    for words in (("--dry-run",), ()):
        done = run("backfill", "--since", "2026-06-01", "--store", dsn, *words)
        assert done.returncode == 0, done.stderr
        assert "2026-06-01: 2 of 3 spans had not been read" in done.stdout
    assert "every span was read" in run("backfill", "--store", dsn).stdout
    spent = run("sql", "--store", dsn, "SELECT sum(cost_usd) AS usd FROM charges FINAL FORMAT TSV")
    # 1,000 tokens in and 200 out: 270 millionths, three times
    assert spent.stdout.strip() == "0.00081", spent

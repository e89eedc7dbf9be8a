"""A repricing that is killed goes on where it was. In its own file: a process opens one embedded store."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from otel_cost.errors import ConfigError
from otel_cost.store import open_store, reprice
from tests.clickhouse import spans
from tests.clickhouse.test_reprice import agent, below, call, costs, make_books, total
from tests.stores import embedded

KILLED = """
import sys
from otel_cost.store import open_store, reprice
reprice.CHARGES_PER_SLICE = 20
def tell(step, done, total):
    print(step, flush=True)
with open_store(sys.argv[1]) as store:
    reprice.reprice(store, reprice.Asked(), progress=tell)
"""


@pytest.mark.parametrize(("step", "lines"), [("stage", 3), ("account", 2), ("apply", 4)])
def test_a_killed_run_goes_on(tmp_path: Path, step: str, lines: int) -> None:
    """Killed while it plans or writes, a run that goes on changes each charge once, and notes it once."""
    books = make_books(tmp_path)
    dsn = embedded(tmp_path / "store", has_prices=False)
    requests = [call(n) for n in range(1, 201)] + [agent(300, 300), below(301, 300, 300)]
    with open_store(dsn) as store:
        store.push_prices(books["old"])
        spans.insert(store, requests)
        store.push_prices(books["new"])
    with subprocess.Popen([sys.executable, "-c", KILLED, dsn], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines -= line.strip() == step
            if not lines:
                break
        process.kill()
    assert not lines
    with open_store(dsn) as store:
        (stopped,) = reprice.runs(store)
        assert stopped.state == ("applying" if step == "apply" else "planning")
        done = reprice.resume(store, stopped.run_id)
        # 200 x 0.0036 and the agent's two halves
        assert total(store) == Decimal("0.7272")
        assert set(costs(store).values()) == {("priced", "0.0036")}
        assert (done.run.run_id, done.run.state, done.run.changed) == (stopped.run_id, "done", 202)
        assert (done.run.old_cost_usd, done.run.new_cost_usd) == (Decimal("1.4544"), Decimal("0.7272"))
        noted = store.sql(
            "SELECT count(), sum(old_counted_usd), sum(new_counted_usd) FROM repricings FINAL", fmt="TSV"
        )
        assert noted.split() == [b"202", b"1.4544", b"0.7272"]
        with pytest.raises(ConfigError, match="nothing to go on with"):
            reprice.resume(store, stopped.run_id)

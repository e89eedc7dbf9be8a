"""The store that tests of reports read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from otel_cost.pricing import PriceBook
from otel_cost.store import open_store
from tests.clickhouse import spans

CASES = Path(__file__).parents[1] / "clickhouse" / "cases" / "input.jsonl"


@pytest.fixture(scope="module")
def dsn(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with the small set of spans of tests/clickhouse/test_queries.py, owned by nobody."""
    pytest.importorskip("chdb")
    made = f"chdb://{tmp_path_factory.mktemp('store').resolve()}"
    with open_store(made) as store:
        store.migrate()
        store.push_prices(PriceBook.load())
        spans.insert(store, [json.loads(line) for line in CASES.read_text().splitlines()])
    return made

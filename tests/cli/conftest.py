"""The store that tests of reports read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from otel_cost.store import open_store
from tests.clickhouse import spans
from tests.stores import embedded

CASES = Path(__file__).parents[1] / "clickhouse" / "cases" / "input.jsonl"


@pytest.fixture(scope="module")
def dsn(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with the small set of spans of tests/clickhouse/test_queries.py, owned by nobody."""
    made = embedded(tmp_path_factory.mktemp("store") / "store")
    with open_store(made) as store:
        spans.insert(store, [json.loads(line) for line in CASES.read_text().splitlines()])
    return made

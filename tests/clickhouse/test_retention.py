"""Tables keep rows for as long as they are told, and drop whole days after that."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest

from otel_cost.errors import ConfigError
from otel_cost.store import Store, retention
from otel_cost.store.files import sql_files
from tests.clickhouse import spans
from tests.data import ROOT

CALL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o-mini",
}
RULES = """
SELECT name, extract(engine_full, 'toIntervalDay\\\\((\\\\d+)\\\\)') AS days
FROM system.tables
WHERE database = currentDatabase() AND engine_full LIKE '%TTL%'
ORDER BY name
"""


@pytest.fixture
def kept(store: Store) -> Iterator[Store]:
    """A store that keeps everything again afterwards."""
    yield store
    store.retain({path.stem: retention.FOREVER for path in sql_files("retention")})


def _rules(store: Store) -> dict[str, str]:
    place = getattr(store.place, "database", "")
    query = RULES
    if store.topology.cluster:
        query = RULES.replace("currentDatabase()", f"'{place}_local'")
    return dict(line.split() for line in store.sql(query, fmt="TSV").decode().splitlines())


def test_settings_are_read() -> None:
    """Days, or for ever; several tables at once."""
    assert retention.parse(["otel_traces=30", "decisions=forever"]) == {"otel_traces": 30, "decisions": 0}


def test_every_mistake_is_told() -> None:
    """What is no table and what is no number of days, together, each with what to write."""
    with pytest.raises(ConfigError) as refused:
        retention.parse(["spans=30", "charges=1 month", "charges", "decisions=0", "decisions=1;DROP"])
    assert len(refused.value.problems) == 5
    assert (
        "names no table that is kept for a time: charges, decisions, otel_traces" in refused.value.problems[0]
    )
    assert all("write" in problem for problem in refused.value.problems[1:])


def test_a_setting_is_set_once(kept: Store) -> None:
    """Tables that go together have it together; setting it again changes nothing, and it can be lifted."""
    assert kept.retain({"charges": 400}) == ["charges", "trace_links"]
    assert kept.retain({"charges": 400}) == []
    assert kept.retain({"charges": 30, "otel_traces": 7}) == [
        "charges",
        "trace_links",
        "otel_traces",
        "otel_traces_trace_id_ts",
    ]
    assert _rules(kept) == {
        "charges": "30",
        "trace_links": "30",
        "otel_traces": "7",
        "otel_traces_trace_id_ts": "7",
    }
    assert kept.retain({"charges": 0}) == ["charges", "trace_links"]
    assert _rules(kept) == {"otel_traces": "7", "otel_traces_trace_id_ts": "7"}
    assert kept.migrate() == []
    assert _rules(kept) == {"otel_traces": "7", "otel_traces_trace_id_ts": "7"}


def test_old_days_go_and_others_stay(kept: Store) -> None:
    """Spans of a hundred days ago are dropped from a table that keeps ten, those of today are not."""
    now_ns = time.time_ns()
    for number, age_days in enumerate((100, 0), 1):
        at_ns = now_ns - age_days * 86_400 * 10**9
        spans.insert(
            kept, [spans._request("app", f"{number:032x}", f"{number:016x}", (at_ns, at_ns + 10**9), CALL)]
        )
    assert len(spans.charges(kept)) == 2
    kept.retain({"otel_traces": 10, "charges": 10})
    tables = ("otel_traces", "charges", "trace_links")
    count = "SELECT " + ", ".join(f"(SELECT count() FROM {table})" for table in tables)
    deadline = time.monotonic() + 60
    while kept.sql(count, fmt="TSV") != b"1\t1\t1\n" and time.monotonic() < deadline:
        time.sleep(0.5)
    assert kept.sql(count, fmt="TSV") == b"1\t1\t1\n"
    assert [trace for trace, _ in spans.charges(kept)] == [f"{2:032x}"]


def test_the_sql_of_tiered_storage_is_valid(store: Store) -> None:
    """ClickHouse understands what the documentation says about cheaper disks."""
    text = (ROOT / "docs" / "warehouse-server.md").read_text()
    (block,) = [found for found in re.findall(r"```sql\n(.*?)```", text, re.S) if "TO VOLUME" in found]
    statements = [part for part in block.split(";") if part.strip()]
    assert len(statements) == 2
    for statement in statements:
        assert b"AlterQuery" in store.sql(f"EXPLAIN AST {statement}", fmt="TSV", readonly=False)

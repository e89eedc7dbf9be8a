"""A database comes to this version's schema forward only, and any number of times."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_cost.errors import StoreError
from otel_cost.store import Store, files, migrations, open_store
from otel_cost.store.files import sql_files, sql_root, statements

FOLDERS = (
    "migrations",
    "views",
    "server",
    "rollups",
    "findings",
    "cluster",
    "cluster/setup",
    "backfill",
    "move",
    "queries",
)
MADE = ("migrations", "views", "server", "rollups", "findings")
"""Folders whose files are applied on a server of its own."""
NUMBER = re.compile(r"^\d+_")
"""Of a migration or a rollup."""
ALL_FILES = [path for folder in FOLDERS for path in sql_files(folder)]


@pytest.fixture
def fresh(server_dsn: str, request: pytest.FixtureRequest) -> Iterator[Store]:
    """A store on a database that does not exist yet."""
    database = f"made_by_{request.node.name.partition('[')[0]}"[:60]
    with open_store(f"{server_dsn.removesuffix('costs')}{database}") as store:
        yield store
        store.sql(f"DROP DATABASE IF EXISTS {database}", fmt="Null", readonly=False)


@pytest.fixture
def own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the SQL files that a test may edit."""
    copy = tmp_path / "clickhouse"
    shutil.copytree(sql_root(), copy)
    monkeypatch.setattr("otel_cost.store.files.sql_root", lambda: copy)
    files.named_sql.cache_clear()
    return copy


def test_a_database_is_made_and_filled_once(fresh: Store) -> None:
    """The first run applies every migration and view, the second none."""
    assert fresh.is_empty()
    expected = {f"{path.parent.name}/{path.stem}" for path in ALL_FILES if path.parent.name in MADE}
    assert set(fresh.pending()) == expected
    assert set(fresh.migrate()) == expected
    assert fresh.migrate() == []
    assert fresh.pending() == []
    assert not fresh.is_empty()


def test_the_history_says_what_was_applied_when(fresh: Store) -> None:
    """Name, checksum and UTC time of each file are on record."""
    applied = fresh.migrate()
    answer = fresh.sql("SELECT name FROM migrations FINAL WHERE length(checksum) = 64", fmt="TSV")
    assert set(answer.decode().split()) == set(applied)
    age = "SELECT max(dateDiff('second', applied_at, now64())) < 300 FROM migrations FINAL"
    assert fresh.sql(age, fmt="TSV") == b"1\n"


def test_an_edited_migration_is_refused(fresh: Store, own_files: Path) -> None:
    """A migration that was applied and then edited stops the run, and says which one."""
    fresh.migrate()
    edited = own_files / "migrations" / "0006_create_charges.sql"
    edited.write_text(edited.read_text() + "\n-- edited\n")
    with pytest.raises(StoreError, match=r"0006_create_charges\.sql was edited .* write a new migration"):
        fresh.migrate()


def test_a_changed_view_takes_the_place_of_the_old_one(fresh: Store, own_files: Path) -> None:
    """A view is what its file says now; rows it wrote before stay."""
    fresh.migrate()
    changed = own_files / "views" / "link_readings.sql"
    changed.write_text(changed.read_text().replace("    status,\n", "    'changed' AS status,\n"))
    assert fresh.migrate() == ["views/link_readings"]
    columns = "TraceId, SpanId, Timestamp, SpanAttributes"
    insert = (
        f"INSERT INTO otel_traces ({columns}) SELECT 't', 's', now64(9), map('gen_ai.operation.name', 'chat')"
    )
    fresh.sql(insert, fmt="Null", readonly=False)
    assert fresh.sql("SELECT status FROM trace_links", fmt="TSV") == b"changed\n"


@pytest.mark.parametrize("kind", ["chdb", "server"])
def test_totals_are_made_anew_when_they_are_made_in_another_way(
    request: pytest.FixtureRequest, own_files: Path, kind: str, tmp_path: Path
) -> None:
    """An upgrade that changes a rollup changes the totals of days that were rolled up before, too."""
    if kind == "chdb":
        with open_store(f"chdb://{tmp_path / 'store'}") as store:
            _check_new_totals(store, own_files)
    else:
        _check_new_totals(request.getfixturevalue("fresh"), own_files)


def _check_new_totals(store: Store, own_files: Path) -> None:
    store.migrate()
    columns = "trace_id, span_id, started_at, kind, counted, cost_usd, price_status"
    row = "'t', 's', toDateTime64('2026-06-01 12:00:00', 9), 'model', true, 0.5, 'priced'"
    store.sql(f"INSERT INTO charges ({columns}) SELECT {row}", fmt="Null", readonly=False)
    assert _rolled(store) == b"0.5\n"
    assert store.migrate() == []
    assert store.stale_days() == []
    changed = own_files / "rollups" / "3_spend_days.sql"
    changed.write_text(changed.read_text().replace("sum(hours.cost_usd)", "2 * sum(hours.cost_usd)"))
    assert store.pending() == store.migrate() == ["rollups/3_spend_days"]
    assert _rolled(store) == b"1\n"


def _rolled(store: Store) -> bytes:
    store.roll()
    return store.sql("SELECT sum(cost_usd) FROM spend_days FINAL", fmt="TSV")


def test_a_retired_view_is_dropped(fresh: Store, own_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A view that this version does without writes nothing more; a later version's is left alone."""
    fresh.migrate()
    for name in ("link_readings", "charge_readings"):
        (own_files / "views" / f"{name}.sql").unlink()
    monkeypatch.setattr(migrations, "_RETIRED", ("link_readings",))
    assert fresh.pending() == fresh.migrate() == ["views/link_readings"]
    assert fresh.migrate() == []
    assert fresh.sql("EXISTS VIEW link_readings", fmt="TSV") == b"0\n"
    assert fresh.sql("EXISTS VIEW charge_readings", fmt="TSV") == b"1\n"


def test_prepared_charges_are_like_charges(fresh: Store) -> None:
    """A repricing writes them from one table into the other as they are, by position."""
    fresh.migrate()
    columns, prepared = (
        fresh.sql(
            "SELECT name, type FROM system.columns WHERE database = currentDatabase()"
            " AND table = {table:String} ORDER BY position",
            {"table": table},
        )
        for table in ("charges", "repriced")
    )
    assert b"cost_usd" in columns
    assert columns == prepared


def test_a_filled_store_gets_new_codecs_and_keeps_its_rows(fresh: Store, own_files: Path) -> None:
    """Rows that were written before stay as they were, before and after they are merged."""
    later = {path: path.read_text() for path in own_files.glob("migrations/0012_*")}
    for path in later:
        path.unlink()
    fresh.migrate()
    columns = "trace_id, span_id, started_at, cost_usd, model, response_id"
    row = "SELECT 't', 's', toDateTime64('2026-06-01 12:00:00.123456789', 9), 0.001234567891, 'm', 'r'"
    fresh.sql(f"INSERT INTO charges ({columns}) {row}", fmt="Null", readonly=False)
    before = fresh.sql(f"SELECT {columns} FROM charges", fmt="TSV")
    for path, text in later.items():
        path.write_text(text)
    assert fresh.migrate() == ["migrations/0012_alter_charges", "migrations/0012_alter_trace_links"]
    assert fresh.sql(f"SELECT {columns} FROM charges", fmt="TSV") == before
    fresh.sql("OPTIMIZE TABLE charges FINAL", fmt="Null", readonly=False)
    assert fresh.sql(f"SELECT {columns} FROM charges", fmt="TSV") == before
    codec = "SELECT compression_codec FROM system.columns WHERE database = currentDatabase()"
    assert (
        fresh.sql(f"{codec} AND table = 'charges' AND name = 'started_at'", fmt="TSV")
        == b"CODEC(T64, ZSTD(1))\n"
    )


@pytest.mark.parametrize("path", ALL_FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_file_says_what_it_is_for(path: Path) -> None:
    """A header names the file and its readers; no wildcard hides a column, no line is too long to read."""
    text = path.read_text()
    header = [line for line in text.splitlines() if line.startswith("--")]
    name = NUMBER.sub("", path.stem)
    if path.parent.name == "migrations":
        name = name.partition("_")[2]
    assert header[0].startswith(f"-- {name}: ")
    assert any(line.startswith("-- Read by:") for line in header)
    asks = statements(files.with_parts(text))[0].startswith(("SELECT", "WITH"))
    wanted = "-- Result:" if path.parent.name == "queries" and asks else "-- Grain:"
    if path.parent.name in ("migrations", "queries"):
        assert any(line.startswith(wanted) for line in header)
    assert not any(";" in line for line in header)
    assert len(statements(text)) == 1
    assert max(map(len, text.splitlines())) <= 130


@pytest.mark.parametrize("path", sql_files("queries"), ids=lambda path: path.name)
def test_no_query_is_spliced(path: Path) -> None:
    """Queries take server-side parameters only: every brace is `{name:Type}`."""
    bare = "".join(statements(path.read_text()))
    assert bare.count("{") == len(re.findall(r"\{[a-z_]+:[A-Z][A-Za-z0-9]+(\([A-Za-z0-9, ']+\))?\}", bare))

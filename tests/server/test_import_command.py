"""`otel-cost import` as a person runs it."""

from __future__ import annotations

import json
import lzma
import signal
import subprocess
from pathlib import Path

from otel_cost.store import open_store
from tests.data import shared_data
from tests.server.commands import COMMAND, environment, otel_cost, serving, wait_for
from tests.server.test_importer import LAYOUTS, count_spans, lines
from tests.server.test_kill import priced_request

COUNT = "SELECT count(), uniqExact(trace_id, span_id) FROM charges FINAL"


def run(store: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Import into an embedded store."""
    return otel_cost("import", "--store", f"chdb://{store}", *map(str, arguments))


def charges(store: Path) -> list[int]:
    """Return how many charges there are, and how many spans they are of."""
    with open_store(f"chdb://{store}") as opened:
        return [int(each) for each in opened.sql(COUNT, fmt="TabSeparated").split()]


def test_files_become_charges(fresh_store: Path, tmp_path: Path) -> None:
    """Plain words on standard output and error, 0 when all was taken; twice changes nothing."""
    path = tmp_path / "a.jsonl.xz"
    path.write_bytes(lzma.compress(lines(20)))
    first = run(fresh_store, path)
    assert first.returncode == 0, first.stderr
    assert "60 spans from 1 files" in first.stdout
    assert "\x1b" not in first.stdout + first.stderr
    assert run(fresh_store, path).returncode == 0
    assert charges(fresh_store) == [60, 60]


def test_the_summary_in_json(fresh_store: Path, tmp_path: Path) -> None:
    """`--json` writes one object; bad lines give status 1 and are named on no other stream."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines(2) + b"oops\n" + lines(1))
    done = run(fresh_store, "--json", path)
    summary = json.loads(done.stdout)
    assert done.returncode == 1
    assert (summary["spans"], summary["bad_records"], summary["records"]) == (9, 1, 4)
    (problem,) = summary["problems"]
    assert problem.startswith(f"{path}:3: not JSON: ")
    assert summary["spans_per_s"] > 0


def test_bad_lines_are_printed(fresh_store: Path, tmp_path: Path) -> None:
    """Without --json each problem is a line on standard error; --strict stops there."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"{}\n[broken\n" + lines(1))
    loose = run(fresh_store, path)
    assert loose.returncode == 1
    assert f"{path}:2: not JSON" in loose.stderr
    assert "3 spans" in loose.stdout
    strict = run(fresh_store, "--strict", path)
    assert strict.returncode == 1
    assert f"{path}:2: not JSON" in strict.stderr
    assert "Traceback" not in strict.stderr


def test_missing_files_are_named(fresh_store: Path) -> None:
    """Status 2, and every argument that names nothing."""
    missing = run(fresh_store, "/nowhere/a.jsonl", "/nowhere/*.gz")
    assert missing.returncode == 2
    assert "/nowhere/a.jsonl" in missing.stderr
    assert "/nowhere/*.gz" in missing.stderr


def test_an_import_beside_a_running_server(fresh_store: Path, tmp_path: Path) -> None:
    """While `up` owns the store the files are sent to it, with its token."""
    path = tmp_path / "a.pb"
    path.write_bytes(LAYOUTS["messages"]([priced_request(seed) for seed in range(5)]))
    with serving(fresh_store, OTEL_COST_TOKEN="s3cret") as up:
        done = run(fresh_store, "--json", path)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["spans"] == 200
        assert up.query(COUNT, "s3cret") == "200\t200\n"


def test_ctrl_c_stops_and_the_same_command_goes_on(fresh_store: Path, tmp_path: Path) -> None:
    """An interrupted import says how far it came, and loses nothing of that."""
    path = tmp_path / "a.pb"
    path.write_bytes(LAYOUTS["messages"]([priced_request(seed, 400) for seed in range(100)]))
    command = [*COMMAND, "import", "--store", f"chdb://{fresh_store}", str(path)]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment()
    ) as first:
        wait_for(lambda: (fresh_store / "imports.json").exists() or first.poll() is not None, 60)
        first.send_signal(signal.SIGINT)
        _, words = first.communicate(timeout=60)
    if first.returncode == 130:
        assert "spans on disk; the same import goes on there" in words
    else:
        assert first.returncode == 0, words
    again = run(fresh_store, "--json", path)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["resumed_files"] == (first.returncode == 130)
    assert charges(fresh_store) == [40_000, 40_000]


def test_recorded_agents_are_imported(fresh_store: Path) -> None:
    """Real recordings go in whole: as many spans in the store as the file has lines for."""
    path = shared_data("trail/traces.otlp.jsonl.xz")
    done = run(fresh_store, "--json", path)
    assert done.returncode == 0, done.stderr
    with open_store(f"chdb://{fresh_store}") as store:
        stored = int(store.sql("SELECT count() FROM otel_traces", fmt="TabSeparated"))
    assert stored == json.loads(done.stdout)["spans"] == count_spans(path)

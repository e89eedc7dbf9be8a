"""Decoding beside the process that stores: the same result, whatever happens to the decoders."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from otel_cost.server import decoding
from otel_cost.server import importer as importer_module
from otel_cost.server.decoding import Decoders, as_packed
from otel_cost.server.importer import Importer, Journal, Summary
from otel_cost.server.records import Record, Source
from otel_cost.server.sinks import OtlpSink, StoreSink
from otel_cost.server.spans import Row
from otel_cost.server.writer import Writer
from tests.server.fakes import MemoryStore, unpack
from tests.server.harness import request_of, running

HAS_STARTED = Decoders._has_started


@pytest.fixture(autouse=True)
def always_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decode in other processes from the first byte on, whatever the machine."""
    monkeypatch.setattr(decoding, "PARALLEL_BYTES", -1)
    monkeypatch.setattr(importer_module, "BATCH_BYTES", 4_000)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    monkeypatch.setattr(Decoders, "_has_started", lambda self: self._starting.exception(30) or True)


@pytest.fixture
def store() -> Iterator[MemoryStore]:
    """A store in memory."""
    return MemoryStore()


def message(seed: int, count: int = 5) -> bytes:
    """Return a protobuf message of spans behind its size."""
    body = request_of(count, seed=seed).SerializeToString()
    return len(body).to_bytes(4, "big") + body


def run(store: MemoryStore, path: Path) -> Summary:
    """Import a file into a store."""
    writer = Writer(store)
    try:
        return Importer(StoreSink(writer), Journal(path.parent / "notes")).run([Source(path)])
    finally:
        writer.stop(10)


def test_the_order_and_the_problems_are_those_of_the_file(store: MemoryStore, tmp_path: Path) -> None:
    """Parts that are decoded side by side are stored, counted and complained about in order."""
    path = tmp_path / "a.pb"
    broken = (3).to_bytes(4, "big") + b"\x0a\xff\xff"
    path.write_bytes(b"".join(message(seed) + (broken if seed % 10 == 9 else b"") for seed in range(40)))
    summary = run(store, path)
    expected = [
        span.span_id.hex()
        for seed in range(40)
        for span in request_of(5, seed=seed).resource_spans[0].scope_spans[0].spans
    ]
    assert list(store.column("SpanId")) == expected
    assert (summary.spans, summary.records, summary.bad_records) == (200, 44, 4)
    places = [int(problem.split("@")[1].split(":")[0]) for problem in summary.problems]
    assert places == sorted(places)


def test_requests_for_a_server_are_made_beside_too(tmp_path: Path) -> None:
    """A server gets the same spans, once."""
    path = tmp_path / "a.pb"
    path.write_bytes(b"".join(message(seed) for seed in range(20)))
    with running() as server:
        sink = OtlpSink(server.http, "")
        summary = Importer(sink, Journal(tmp_path / "notes")).run([Source(path)])
        sink.close()
        assert summary.spans == len(set(server.store.column("SpanId"))) == 100


def test_a_decoder_that_is_killed_costs_nothing() -> None:
    """When the system kills a decoder, for memory say, what it had in hand is decoded here."""
    records = [Record(f"r{seed}", seed + 1, message(seed)[4:], is_json=False) for seed in range(8)]
    decoders = Decoders(as_packed)
    pending = [(decoders.submit([record]), [record]) for record in records[:2]]
    assert decoders._pool is not None
    for process in list(decoders._pool._processes.values()):
        os.kill(process.pid or 0, signal.SIGKILL)
    pending[0][0].exception(20)
    pending += [(decoders.submit([record]), [record]) for record in records[2:]]
    results = [decoders.result(future, part) for future, part in pending]
    decoders.close()
    assert [tally.spans for tally, _ in results] == [5] * 8
    assert len(set(unpack([packed for _, packed in results])["SpanId"])) == 40


def process_of(records: Sequence[Record], rows: Sequence[Row]) -> int:
    """Tell where spans are decoded."""
    return os.getpid()


def test_nobody_waits_for_the_decoders_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts are decoded here until a decoder is ready, then there."""
    monkeypatch.setattr(Decoders, "_has_started", HAS_STARTED)
    decoders = Decoders(process_of)
    part = [Record("r1", 1, message(1)[4:], is_json=False)]
    first = decoders.submit(part)
    decoders._starting.result(30)
    second = decoders.submit(part)
    assert decoders.result(first, part)[1] == os.getpid() != decoders.result(second, part)[1]
    decoders.close()


ORPHAN = """
import os, time
from otel_cost.server import decoding
decoding.PARALLEL_BYTES, os.cpu_count = -1, lambda: 2
if __name__ == "__main__":
    decoders = decoding.Decoders(decoding.as_packed)
    decoders.submit([]).result()
    print(*decoders._pool._processes, flush=True)
    time.sleep(60)
"""


def test_decoders_do_not_outlive_a_killed_import(tmp_path: Path) -> None:
    """`kill -9` of the import ends its decoders within seconds."""
    script = tmp_path / "orphan.py"
    script.write_text(ORPHAN)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        decoder = int(process.stdout.readline())
        process.kill()
    deadline = time.monotonic() + 20
    while is_running(decoder):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    """Whether a process does anything any more."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"

"""Import of recorded traces: layouts, compressions, damage, and going on after a stop."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import json
import lzma
import struct
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import zstandard
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_cost.errors import ConfigError, MalformedError, StoreError
from otel_cost.server import importer as importer_module
from otel_cost.server.importer import Importer, Journal, Summary
from otel_cost.server.records import Record, Source, find_sources
from otel_cost.server.sinks import OtlpSink, StoreSink
from otel_cost.server.writer import Writer
from otel_cost.store import Packed
from tests.data import shared_data
from tests.server.fakes import MemoryStore
from tests.server.harness import request_of, running

PACK: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}


@pytest.fixture
def store() -> MemoryStore:
    """A store in memory."""
    return MemoryStore()


@pytest.fixture
def writer(store: MemoryStore) -> Iterator[Writer]:
    """A writer over it, stopped afterwards."""
    made = Writer(store)
    yield made
    store.open.set()
    made.stop(10)


def otlp_json(request: ExportTraceServiceRequest) -> dict[str, object]:
    """Return a request as the Collector writes it: ids in hexadecimal."""
    document = MessageToDict(request)
    for resource in document["resourceSpans"]:
        for group in resource["scopeSpans"]:
            for span in group["spans"]:
                for name in ("traceId", "spanId", "parentSpanId"):
                    if name in span:
                        span[name] = base64.b64decode(span[name]).hex()
    return document


def lines(count: int, each: int = 3) -> bytes:
    """Return OTLP/JSON lines, as the file exporter writes them."""
    return b"".join(
        json.dumps(otlp_json(request_of(each, seed=seed))).encode() + b"\n" for seed in range(count)
    )


def write(path: Path, data: bytes) -> Path:
    """Write a file and return its path."""
    path.write_bytes(data)
    return path


def run(writer: Writer, *paths: Path, journal: Path | None = None, **options: bool) -> Summary:
    """Import files into the store behind a writer."""
    notes = Journal(journal or paths[0].parent / "imports.json")
    return Importer(StoreSink(writer), notes, **options).run(find_sources([str(path) for path in paths]))


@pytest.mark.parametrize("suffix", PACK)
def test_compressed_lines(writer: Writer, store: MemoryStore, tmp_path: Path, suffix: str) -> None:
    """Plain, gz, xz and zst are told by their content, not their name."""
    path = write(tmp_path / f"misnamed{suffix}.json", PACK[suffix](lines(5)))
    summary = run(writer, path)
    assert (summary.spans, summary.records, summary.files) == (15, 5, 1)
    assert summary.is_clean
    assert len(set(store.column("SpanId"))) == 15


def test_files_of_several_compressed_members(writer: Writer, tmp_path: Path) -> None:
    """A rotated log that was appended to after compression is read to its end."""
    for suffix in (".gz", ".xz", ".zst"):
        path = write(tmp_path / f"a{suffix}", PACK[suffix](lines(2)) + PACK[suffix](lines(2)))
        assert run(writer, path).spans == 12


LAYOUTS: dict[str, Callable[[list[ExportTraceServiceRequest]], bytes]] = {
    "wrapped-lines": lambda rs: b"\n".join(json.dumps({"id": 1, "otlp": otlp_json(r)}).encode() for r in rs),
    "array": lambda rs: json.dumps([otlp_json(r) for r in rs], indent=1).encode(),
    "array-of-wrapped": lambda rs: json.dumps([{"otlp": otlp_json(r)} for r in rs]).encode(),
    "blank-lines": lambda rs: b"\n\n".join(json.dumps(otlp_json(r)).encode() for r in rs) + b"\n \n",
    "windows-lines": lambda rs: b"\r\n".join(json.dumps(otlp_json(r)).encode() for r in rs),
    "messages": lambda rs: b"".join(
        struct.pack(">I", len(body)) + body for body in (r.SerializeToString() for r in rs)
    ),
    "one-message": lambda rs: b"".join(r.SerializeToString() for r in rs),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(writer: Writer, store: MemoryStore, tmp_path: Path, layout: str) -> None:
    """Every layout holds the same spans."""
    requests = [request_of(4, seed=seed) for seed in range(3)]
    summary = run(writer, write(tmp_path / "traces", LAYOUTS[layout](requests)))
    assert summary.is_clean, summary.problems
    assert store.column("SpanId") == [
        span.span_id.hex() for r in requests for span in r.resource_spans[0].scope_spans[0].spans
    ]


def test_a_pretty_document(writer: Writer, tmp_path: Path) -> None:
    """One document over many lines."""
    path = write(tmp_path / "one.json", json.dumps(otlp_json(request_of(4)), indent=2).encode())
    assert run(writer, path).spans == 4


def test_standard_input(writer: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`-` reads what is piped in."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(lines(2)))))
    summary = Importer(StoreSink(writer), Journal(tmp_path / "notes")).run(find_sources(["-"]))
    assert summary.spans == 6


def test_directories_and_patterns(writer: Writer, tmp_path: Path) -> None:
    """Directories give their trace files, patterns what they match; the rest is an error."""
    (tmp_path / "deep").mkdir()
    write(tmp_path / "deep" / "b.jsonl.gz", gzip.compress(lines(1)))
    write(tmp_path / "a.json", lines(1))
    write(tmp_path / "notes.txt", b"nothing")
    names = [source.path.name for source in find_sources([str(tmp_path)]) if source.path]
    assert names == ["a.json", "b.jsonl.gz"]
    assert len(find_sources([str(tmp_path / "*.json")])) == 1
    with pytest.raises(ConfigError, match=r"(?s)missing\.json.*also/\*\.gz"):
        find_sources([str(tmp_path / "missing.json"), str(tmp_path / "a.json"), str(tmp_path / "also/*.gz")])


def test_bad_lines_are_named_and_the_rest_goes_on(writer: Writer, store: MemoryStore, tmp_path: Path) -> None:
    """Each bad line is reported with file, line and reason."""
    good = lines(4).splitlines()
    other = b'{"resourceLogs": []}'
    bad = [b"{nonsense", b'{"resourceSpans": 7}', b"[1", b'{"spans": []}', b'"text"']
    path = write(
        tmp_path / "mixed.jsonl", b"\n".join([good[0], bad[0], good[1], *bad[1:], other, good[2], good[3]])
    )
    summary = run(writer, path)
    assert summary.spans == 12
    assert summary.bad_records == 5
    assert not summary.is_clean
    assert [problem.split(": ")[0] for problem in summary.problems] == [
        f"{path}:{n}" for n in (2, 4, 5, 6, 7)
    ]
    assert "resourceSpans is an integer" in summary.problems[1]


def test_rejected_spans_are_named(writer: Writer, tmp_path: Path) -> None:
    """A bad span costs its line nothing else."""
    request = request_of(3)
    document = otlp_json(request)
    document["resourceSpans"][0]["scopeSpans"][0]["spans"][1]["spanId"] = "x"  # type: ignore[index]
    summary = run(writer, write(tmp_path / "a.jsonl", json.dumps(document).encode()))
    assert (summary.spans, summary.rejected_spans, summary.bad_records) == (2, 1, 0)
    assert "a.jsonl:1: spans rejected: spanId is not hexadecimal" in summary.problems[0]


def test_strict_stops_at_the_first_problem(writer: Writer, store: MemoryStore, tmp_path: Path) -> None:
    """With --strict nothing behind a bad line is read."""
    path = write(tmp_path / "a.jsonl", lines(1) + b"oops\n" + lines(3))
    with pytest.raises(MalformedError, match=r"a\.jsonl:2: not JSON"):
        run(writer, path, strict=True)
    assert len(store.column("SpanId")) <= 3


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_a_file_that_breaks_off_gives_what_is_readable(writer: Writer, tmp_path: Path, suffix: str) -> None:
    """A truncated archive is a problem of that file; the next file is imported."""
    packed = PACK[suffix](lines(400))
    broken = write(tmp_path / f"broken{suffix}", packed[: len(packed) * 2 // 3])
    summary = run(writer, broken, write(tmp_path / "whole.json", lines(1)))
    assert summary.bad_records == 1
    assert summary.spans >= 3
    assert "breaks off" in summary.problems[0] or "not JSON" in summary.problems[0]


def test_messages_that_break_off(writer: Writer, tmp_path: Path) -> None:
    """The last size prefix promises more than there is."""
    body = request_of(2).SerializeToString()
    data = (struct.pack(">I", len(body)) + body) * 2
    summary = run(writer, write(tmp_path / "a.pb", data[:-5]))
    assert (summary.spans, summary.bad_records) == (2, 1)
    assert f"at byte {len(body) + 4} should have {len(body)} bytes" in summary.problems[0]


@pytest.mark.parametrize("data", [b"", b"\n\n", b"\x00\x01\x02", b"hello world", bz2.compress(b"x" * 100)])
def test_files_without_traces(writer: Writer, tmp_path: Path, data: bytes) -> None:
    """Empty files are nothing; others are a problem, never a crash."""
    summary = run(writer, write(tmp_path / "a", data))
    assert summary.spans == 0
    assert summary.bad_records == (1 if data.strip() else 0)


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.pb", "array.json"])
def test_a_stopped_import_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """After a failure the same command delivers the rest, and at most one batch again."""
    monkeypatch.setattr(importer_module, "BATCH_BYTES", 1)
    requests = [request_of(10, seed=seed) for seed in range(40)]
    data = {
        "a.jsonl": lines(40, 10),
        "a.jsonl.gz": gzip.compress(lines(40, 10)),
        "a.pb": LAYOUTS["messages"](requests),
        "array.json": LAYOUTS["array"](requests),
    }[name]
    path, store = write(tmp_path / name, data), MemoryStore()

    class Failing(MemoryStore):
        def insert_packed(self, parts: Sequence[Packed]) -> None:
            if self.inserts >= 15:
                raise StoreError("the disk is full")
            super().insert_packed(parts)

    failing = Failing()
    writer = Writer(failing, batch_spans=10)
    with pytest.raises(StoreError, match="run the same import again"):
        run(writer, path)
    writer.stop(10)
    writer = Writer(store, batch_spans=30)
    summary = run(writer, path)
    writer.stop(10)
    first, second = failing.column("SpanId"), store.column("SpanId")
    assert summary.resumed_files == 1
    assert len(first) == 150
    assert len(set(first) | set(second)) == 400
    assert len(set(first) & set(second)) <= 30
    assert Journal(tmp_path / "imports.json")._offsets == {}


def test_what_follows_a_failure_is_not_taken_for_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When one part fails and the next is stored, going on later begins with the part that failed."""
    monkeypatch.setattr(importer_module, "BATCH_BYTES", 1)
    path = write(tmp_path / "a.jsonl", lines(6))

    class FailsOnce(MemoryStore):
        def insert_packed(self, parts: Sequence[Packed]) -> None:
            self.is_down = 2 <= self.inserts <= 6  # one part and its halves
            super().insert_packed(parts)

    unreliable = FailsOnce()
    writer = Writer(unreliable, batch_spans=3)
    with pytest.raises(StoreError, match="run the same import again"):
        run(writer, path)
    run(writer, path)
    writer.stop(10)
    assert len(set(unreliable.column("SpanId"))) == 18


class Interrupted(StoreSink):
    """A way to a store, where Ctrl-C comes in the first wait for one of the parts."""

    def __init__(self, writer: Writer, part: int) -> None:
        super().__init__(writer)
        self._left, self._is_due = part, True

    def send(self, part: Any, records: Sequence[Record]) -> Future[int]:
        """Send the spans; the future of the one part is interrupted once."""
        sent = super().send(part, records)
        if not self._left:
            stored = sent.result

            def result(timeout: float | None = None) -> int:
                if self._is_due:
                    self._is_due = False
                    raise KeyboardInterrupt
                return stored(timeout)

            sent.result = result  # type: ignore[method-assign]
        self._left -= 1
        return sent


@pytest.mark.parametrize("in_flight", [1, 32])
@pytest.mark.parametrize("part", range(3))
def test_an_interrupted_wait_is_no_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int, in_flight: int
) -> None:
    """The next import goes on behind all that reached the disk, and the one after it begins anew."""
    monkeypatch.setattr(importer_module, "BATCH_BYTES", 1)
    monkeypatch.setattr(importer_module, "IN_FLIGHT", in_flight)
    paths = [write(tmp_path / f"{seed}.jsonl", lines(seed + 1)) for seed in range(2)]
    store, notes = MemoryStore(), Journal(tmp_path / "imports.json")
    writer = Writer(store, batch_spans=3)
    with pytest.raises(KeyboardInterrupt):
        Importer(Interrupted(writer, part), notes).run(find_sources([str(path) for path in paths]))
    before = len(store.column("SpanId"))
    summary = run(writer, *paths)
    assert summary.resumed_files >= 1
    assert (before + summary.spans, len(store.column("SpanId"))) == (9, 9)
    assert run(writer, *paths).spans == 9
    writer.stop(10)


def test_small_files_share_an_insert(writer: Writer, store: MemoryStore, tmp_path: Path) -> None:
    """An insert costs nearly the same for one span as for a thousand, so files are joined."""
    paths = [write(tmp_path / f"{seed}.jsonl", lines(seed + 1)) for seed in range(9)]
    summary = run(writer, *paths)
    assert (summary.files, summary.spans, store.inserts) == (9, 135, 1)


def test_restart_begins_again(writer: Writer, tmp_path: Path) -> None:
    """--restart forgets where an import stopped; after its end, files are always imported whole."""
    path = write(tmp_path / "a.jsonl", lines(3))
    Journal(tmp_path / "imports.json").reached({Source(path).identity(): len(lines(1))})
    assert run(writer, path, restart=True).spans == 9
    assert run(writer, path).spans == 9
    Journal(tmp_path / "imports.json").reached({Source(path).identity(): len(lines(1))})
    assert run(writer, path).spans == 6


def test_notes_belong_to_one_store(tmp_path: Path) -> None:
    """Notes about a database that was made anew do not hold; damaged notes are no notes."""
    Journal(tmp_path / "notes", "one").reached({"file": 10})
    assert Journal(tmp_path / "notes", "one").offset("file") == 10
    assert Journal(tmp_path / "notes", "two").offset("file") == 0
    for damage in ("{", "[]", '{"store": "one", "offsets": 5}', "null"):
        (tmp_path / "notes").write_text(damage)
        assert Journal(tmp_path / "notes", "one").offset("file") == 0


def test_an_import_goes_through_a_running_server(tmp_path: Path) -> None:
    """Where a server owns the store, files are sent to it: the same spans, once, with the token."""
    json_path = write(tmp_path / "a.jsonl", lines(20))
    proto_path = write(tmp_path / "a.pb", LAYOUTS["messages"]([request_of(5, seed=s) for s in range(50, 60)]))
    with running(token="secret-token") as server:
        sink = OtlpSink(server.http, "secret-token")
        summary = Importer(sink, Journal(tmp_path / "notes")).run(
            find_sources([str(json_path), str(proto_path)])
        )
        sink.close()
        assert (summary.spans, summary.is_clean) == (110, True)
        assert len(set(server.store.column("SpanId"))) == len(server.store.column("SpanId")) == 110
        refused = OtlpSink(server.http, "wrong")
        with pytest.raises(StoreError, match="answers 401"):
            Importer(refused, Journal(tmp_path / "notes")).run(find_sources([str(json_path)]))
        refused.close()


def test_recorded_agents_are_read(writer: Writer, store: MemoryStore, tmp_path: Path) -> None:
    """Real recordings, wrapped in lines, compressed or not: no line is bad and no span is rejected."""
    paths = [
        shared_data("framework_traces/framework_traces.otlp.jsonl"),
        shared_data("trail/traces.otlp.jsonl.xz"),
    ]
    paths += sorted(shared_data("replayed_spans").glob("*.otlp.jsonl.xz"))
    summary = run(writer, *paths, journal=tmp_path / "notes")
    assert summary.is_clean, summary.problems[:5]
    sent = sum(count_spans(path) for path in paths)
    assert len(store.column("SpanId")) == summary.spans == sent > 1_000


def count_spans(path: Path) -> int:
    """Count the spans of a recording without the code under test."""
    with lzma.open(path, "rt") if path.suffix == ".xz" else path.open() as file:
        documents = [json.loads(line)["otlp"] for line in file]
    groups = [
        group for document in documents for each in document["resourceSpans"] for group in each["scopeSpans"]
    ]
    return sum(len(group["spans"]) for group in groups)

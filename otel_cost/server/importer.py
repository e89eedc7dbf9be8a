"""Import files of spans: read, decode and store at the same time, and go on where a killed import stopped."""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from otel_cost.errors import BackpressureError, IngestError, MalformedError, StoreError
from otel_cost.server import otlp_json, otlp_protobuf
from otel_cost.server.records import Record, Source
from otel_cost.server.spans import Decoded, Row

BATCH_SPANS = 10_000
"""Spans handed over at once; the writer joins two where it can."""
BATCH_BYTES = 32 * 1024 * 1024
"""Bytes handed over at once, whichever comes first."""
IN_FLIGHT = 3
"""Batches on their way: one being written, one waiting, one being answered."""
PROBLEMS_KEPT = 100
"""Problems whose text is kept; all are counted."""


class Sink(Protocol):
    """Where decoded spans go."""

    def send(self, rows: Sequence[Row], requests: Sequence[dict[str, Any] | bytes], size: int) -> Future[int]:
        """Store spans; the future gives how many of them were refused, once the others are on disk.

        Args:
            rows: The spans.
            requests: The same spans as they were read.
            size: About how many bytes they are.
        """
        ...


@dataclass(slots=True)
class Summary:
    """What an import did."""

    files: int = 0
    records: int = 0
    spans: int = 0
    """Spans on disk now, those that were there before included."""
    rejected_spans: int = 0
    bad_records: int = 0
    truncated_attributes: int = 0
    resumed_files: int = 0
    duration_s: float = 0.0
    problems: list[str] = field(default_factory=list)
    """The first problems, each with file and line."""

    @property
    def is_clean(self) -> bool:
        """Whether every record and every span was taken."""
        return not self.bad_records and not self.rejected_spans

    def problem(self, text: str) -> None:
        """Keep the text of a problem, up to a limit."""
        if len(self.problems) < PROBLEMS_KEPT:
            self.problems.append(text)

    def as_dict(self) -> dict[str, Any]:
        """Return the summary with rates, ready for JSON."""
        speed = round(self.spans / self.duration_s) if self.duration_s else 0
        names = [name for name in self.__slots__ if name not in ("duration_s", "problems")]
        counts = {name: getattr(self, name) for name in names}
        return {
            **counts,
            "duration_s": round(self.duration_s, 3),
            "spans_per_s": speed,
            "problems": self.problems,
        }


class Journal:
    """How far each file has come, kept beside the store so that it goes where the store goes."""

    def __init__(self, path: Path, store_identity: str = "") -> None:
        self._path, self._store = path, store_identity
        self._offsets: dict[str, int] = self._read()

    def offset(self, identity: str) -> int:
        """Return where to go on with a file; 0 for one that is new or was finished."""
        return self._offsets.get(identity, 0)

    def reached(self, identity: str, offset: int) -> None:
        """Remember that everything before an offset is on disk."""
        if identity:
            self._offsets[identity] = offset
            self._write()

    def finished(self, identity: str) -> None:
        """Forget a file, so that importing it again imports all of it."""
        if self._offsets.pop(identity, None) is not None:
            self._write()

    def _read(self) -> dict[str, int]:
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
            if content["store"] != self._store:
                return {}
            return {str(name): int(offset) for name, offset in content["offsets"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        beside = self._path.with_suffix(f".{os.getpid()}")
        beside.write_text(json.dumps({"store": self._store, "offsets": self._offsets}), encoding="utf-8")
        beside.replace(self._path)


@dataclass(slots=True)
class _Batch:
    """Spans that travel together, and how far the file is read once they are on disk."""

    rows: list[Row] = field(default_factory=list)
    requests: list[dict[str, Any] | bytes] = field(default_factory=list)
    size: int = 0
    end: int = 0
    label: str = ""


class Importer:
    """Brings files into a sink."""

    def __init__(
        self,
        sink: Sink,
        journal: Journal,
        *,
        strict: bool = False,
        restart: bool = False,
        progress: Callable[[Source, Summary], None] = lambda source, summary: None,
    ) -> None:
        self.summary = Summary()
        self._sink, self._journal = sink, journal
        self._strict, self._restart, self._progress = strict, restart, progress
        self._flying: deque[tuple[_Batch, Future[int]]] = deque()

    def run(self, sources: Sequence[Source]) -> Summary:
        """Import files one after another.

        Raises:
            MalformedError: A record cannot be read, in strict mode.
            StoreError: The store takes no spans; what was stored before is remembered.
        """
        started = time.monotonic()
        try:
            for source in sources:
                self._import(source)
                self.summary.files += 1
        finally:
            self.summary.duration_s = time.monotonic() - started
        return self.summary

    def _import(self, source: Source) -> None:
        identity = source.identity()
        start = 0 if self._restart else self._journal.offset(identity)
        self.summary.resumed_files += start > 0
        try:
            for batch in self._batches(source, start):
                self._launch(batch, identity, source)
            while self._flying:
                self._land(identity, source)
        finally:
            self._abandon(identity, source)
        self._journal.finished(identity)

    def _batches(self, source: Source, start: int) -> Iterator[_Batch]:
        batch = _Batch(end=start)
        for record in source.records(start):
            decoded = self._decode(record)
            batch.end, batch.label = record.end, record.label
            if decoded.rows and record.request is not None:
                batch.rows += decoded.rows
                batch.requests.append(record.request)
                batch.size += record.size
            if len(batch.rows) >= BATCH_SPANS or batch.size >= BATCH_BYTES:
                yield batch
                batch = _Batch(end=batch.end)
        if batch.rows:
            yield batch

    def _decode(self, record: Record) -> Decoded:
        """Return the spans of a record, and note what is wrong with it."""
        self.summary.records += 1
        try:
            if record.problem:
                raise MalformedError(record.problem)
            decoded = _decode(record.request)
        except MalformedError as error:
            self.summary.bad_records += 1
            self._complain(f"{record.label}: {error}")
            return Decoded()
        self.summary.truncated_attributes += decoded.truncated
        if decoded.rejected:
            self.summary.rejected_spans += decoded.rejected.total()
            self._complain(f"{record.label}: spans rejected: {decoded.describe_rejected()}")
        return decoded

    def _complain(self, text: str) -> None:
        self.summary.problem(text)
        if self._strict:
            raise MalformedError(text)

    def _launch(self, batch: _Batch, identity: str, source: Source) -> None:
        while len(self._flying) >= IN_FLIGHT:
            self._land(identity, source)
        self._flying.append((batch, self._sink.send(batch.rows, batch.requests, batch.size)))

    def _land(self, identity: str, source: Source) -> None:
        """Wait for the oldest batch, and remember how far the file has come."""
        batch, sent = self._flying.popleft()
        try:
            refused = sent.result()
        except (BackpressureError, IngestError) as error:
            raise StoreError(
                f"{batch.label}: {error}; run the same import again to go on from here"
            ) from error
        self.summary.spans += len(batch.rows) - refused
        if refused:
            self.summary.rejected_spans += refused
            self._complain(f"up to {batch.label}: the store refused {refused} spans")
        self._journal.reached(identity, batch.end)
        self._progress(source, self.summary)

    def _abandon(self, identity: str, source: Source) -> None:
        """After an error, still remember what reaches the disk."""
        while self._flying:
            try:
                self._land(identity, source)
            except (StoreError, MalformedError):  # noqa: PERF203
                self._flying.clear()


def _decode(request: dict[str, Any] | bytes | None) -> Decoded:
    if request is None:
        return Decoded()
    if isinstance(request, bytes):
        return otlp_protobuf.decode_protobuf(request)
    return otlp_json.flatten(request)

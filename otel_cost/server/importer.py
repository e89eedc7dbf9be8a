"""Import files of spans: read, decode and store at the same time, and go on where a killed import stopped."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from otel_cost.errors import BackpressureError, IngestError, MalformedError, StoreError
from otel_cost.server.decoding import Decoders, Form, Tally
from otel_cost.server.records import Record, Source

BATCH_BYTES = 8 * 1024 * 1024
"""Bytes decoded at once: a tenth of a second; the writer joins several to one insert."""
IN_FLIGHT = 32
"""Parts on their way to the disk: two inserts' worth, one being written and one waiting."""


class Sink(Protocol):
    """Where decoded spans go."""

    @property
    def form(self) -> Form:
        """What `send` takes, made of records and their spans by whoever decodes them."""
        ...

    def send(self, part: Any, records: Sequence[Record]) -> Future[int]:
        """Store spans; the future gives how many of them were refused, once the others are on disk.

        Args:
            part: The spans in the sink's form.
            records: What they were read from.
        """
        ...


@dataclass(slots=True)
class Summary(Tally):
    """What an import did. Its spans are those on disk now, those that were there before included."""

    files: int = 0
    resumed_files: int = 0
    duration_s: float = 0.0

    @property
    def is_clean(self) -> bool:
        """Whether every record and every span was taken."""
        return not self.bad_records and not self.rejected_spans

    def as_dict(self) -> dict[str, Any]:
        """Return the summary with rates, ready for JSON."""
        speed = round(self.spans / self.duration_s) if self.duration_s else 0
        return {
            "files": self.files,
            "records": self.records,
            "spans": self.spans,
            "rejected_spans": self.rejected_spans,
            "bad_records": self.bad_records,
            "truncated_attributes": self.truncated_attributes,
            "resumed_files": self.resumed_files,
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
        """Return where to go on with a file; 0 for one that no unfinished import has come to."""
        return self._offsets.get(identity, 0)

    def reached(self, offsets: Mapping[str, int]) -> None:
        """Remember that everything before these offsets is on disk."""
        self._change({**self._offsets, **{identity: end for identity, end in offsets.items() if identity}})

    def forget(self, identities: Iterable[str]) -> None:
        """Forget files whose import has ended, so that importing them again imports all of them."""
        gone = set(identities)
        self._change({identity: end for identity, end in self._offsets.items() if identity not in gone})

    def _change(self, offsets: dict[str, int]) -> None:
        if offsets != self._offsets:
            self._offsets = offsets
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
    """Records that travel together, of one file or several, and how far each is read with them."""

    records: list[Record] = field(default_factory=list)
    reached: dict[str, int] = field(default_factory=dict)
    size: int = 0

    def add(self, record: Record, identity: str) -> None:
        self.records.append(record)
        self.size += len(record.body)
        self.reached[identity] = record.end

    @property
    def label(self) -> str:
        return self.records[-1].label if self.records else ""


class Importer:
    """Brings files into a sink: reads one part, decodes the next, stores a third."""

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
        self._batch = _Batch()
        self._decoders = Decoders(sink.form)
        self._decoding: deque[tuple[_Batch, Future[tuple[Tally, Any]]]] = deque()
        self._flying: deque[tuple[_Batch, int, Future[int]]] = deque()

    def run(self, sources: Sequence[Source]) -> Summary:
        """Import files one after another.

        Raises:
            MalformedError: A record cannot be read, in strict mode.
            StoreError: The store takes no spans; what was stored before is remembered.
        """
        started = time.monotonic()
        try:
            self._decoders.expect(sum(source.size for source in sources))
            identities = [source.identity() for source in sources]
            starts = [0 if self._restart else self._journal.offset(identity) for identity in identities]
            for source, identity, start in zip(sources, identities, starts, strict=True):
                self._read(source, identity, start)
            self._launch()
            while self._decoding:
                self._forward()
            while self._flying:
                self._land()
            self._journal.forget(identities)
        finally:
            self._abandon()
            self.summary.duration_s = time.monotonic() - started
        return self.summary

    def _read(self, source: Source, identity: str, start: int) -> None:
        self.summary.resumed_files += start > 0
        self._progress(source, self.summary)
        for record in source.records(start):
            self._batch.add(record, identity)
            if self._batch.size >= BATCH_BYTES:
                self._launch()
                self._progress(source, self.summary)
        self.summary.files += 1

    def _launch(self) -> None:
        """Have the records read so far decoded."""
        while len(self._decoding) > self._decoders.ahead or (self._decoding and self._decoding[0][1].done()):
            self._forward()
        self._decoding.append((self._batch, self._decoders.submit(self._batch.records)))
        self._batch = _Batch()

    def _forward(self) -> None:
        """Send the spans of the oldest records that are being decoded."""
        batch, decoding = self._decoding.popleft()
        tally, part = self._decoders.result(decoding, batch.records)
        self.summary.add(tally)
        if tally.problems and self._strict:
            raise MalformedError(tally.problems[0])
        while len(self._flying) >= IN_FLIGHT:
            self._land()
        self._flying.append((batch, tally.spans, self._sink.send(part, batch.records)))

    def _land(self) -> None:
        """Wait for the oldest spans to be stored, and remember how far the files have come."""
        batch, spans, sent = self._flying[0]
        try:
            refused = sent.result()
        except (BackpressureError, IngestError) as error:
            self._flying.clear()  # going on later begins here, whatever of the rest is stored
            raise StoreError(
                f"{batch.label}: {error}; run the same import again to go on from here"
            ) from error
        self._flying.popleft()  # not before: an interrupted wait leaves them to `_abandon`
        self.summary.spans += spans - refused
        self._journal.reached(batch.reached)
        if refused:
            self.summary.rejected_spans += refused
            self.summary.problem(f"up to {batch.label}: the store refused {refused} spans")
            if self._strict:
                raise MalformedError(self.summary.problems[-1])

    def _abandon(self) -> None:
        """After an error, still remember what reaches the disk."""
        self._decoders.close()
        with contextlib.suppress(StoreError, MalformedError):
            while self._flying:
                self._land()

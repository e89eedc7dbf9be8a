"""Decode the records of an import, in processes of their own where there is much to decode."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context, parent_process
from typing import Any

import orjson

from otel_cost.errors import MalformedError
from otel_cost.server import otlp_json, otlp_protobuf
from otel_cost.server.ingest import MAX_BODY_BYTES
from otel_cost.server.records import Record
from otel_cost.server.spans import Decoded, Row, to_columns
from otel_cost.store import Packed, pack

PARALLEL_BYTES = 16 * 1024 * 1024
"""What is decoded before another process helps: half a second of work, which is what its start costs."""
MAX_DECODERS = 4
"""More would wait for the store, which takes about as long per span as one decoder."""
PROBLEMS_KEPT = 100
"""Problems whose text is kept; all are counted."""
PROTOBUF, JSON = "application/x-protobuf", "application/json"

_SAMPLE = Record(
    "sample",
    0,
    b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"00000000000000000000000000000001",'
    b'"spanId":"0000000000000001","startTimeUnixNano":"1000000000000000000"}]}]}]}',
)
"""What a decoder decodes first, to import everything it needs."""
_PART_BYTES = MAX_BODY_BYTES // 4
_OTHER_SIGNALS = ("resourceLogs", "resourceMetrics", "resourceProfiles")


@dataclass(slots=True)
class Tally:
    """What records held."""

    records: int = 0
    spans: int = 0
    rejected_spans: int = 0
    bad_records: int = 0
    truncated_attributes: int = 0
    problems: list[str] = field(default_factory=list)
    """The first problems, each with file and line."""

    def problem(self, text: str) -> None:
        """Keep the text of a problem, up to a limit."""
        if len(self.problems) < PROBLEMS_KEPT:
            self.problems.append(text)

    def add(self, other: Tally) -> None:
        """Count what another tally counted, but for its spans: they count once they are on disk."""
        self.records += other.records
        self.rejected_spans += other.rejected_spans
        self.bad_records += other.bad_records
        self.truncated_attributes += other.truncated_attributes
        for text in other.problems:
            self.problem(text)


Form = Callable[[Sequence[Record], Sequence[Row]], Any]
"""What a sink wants: made of the records that hold spans, and of these spans, where they are decoded."""


def as_packed(records: Sequence[Record], rows: Sequence[Row]) -> Packed:
    """Return the spans as the store reads them."""
    return pack(to_columns(rows))


def as_bodies(records: Sequence[Record], rows: Sequence[Row]) -> list[tuple[str, bytes]]:
    """Return the requests joined to few OTLP bodies, each behind its content type."""
    return list(_bodies(records))


def decode_part(records: Sequence[Record], form: Form) -> tuple[Tally, Any]:
    """Return what records hold, and their spans in the form a sink wants."""
    tally = Tally()
    good: list[Record] = []
    rows: list[Row] = []
    for record in records:
        if found := _decode(record, tally).rows:
            good.append(record)
            rows += found
    tally.spans = len(rows)
    return tally, form(good, rows)


def decode_rows(records: Sequence[Record]) -> list[Row]:
    """Return the spans of records."""
    return [row for record in records for row in _decode(record, Tally()).rows]


def _decode(record: Record, tally: Tally) -> Decoded:
    """Return the spans of a record, and note what is wrong with it."""
    tally.records += 1
    try:
        decoded = _decode_body(record)
    except MalformedError as error:
        tally.bad_records += 1
        tally.problem(f"{record.label}: {error}")
        return Decoded()
    tally.truncated_attributes += decoded.truncated
    if decoded.rejected:
        tally.rejected_spans += decoded.rejected.total()
        tally.problem(f"{record.label}: spans rejected: {decoded.describe_rejected()}")
    return decoded


def _decode_body(record: Record) -> Decoded:
    if record.problem:
        raise MalformedError(record.problem)
    if not record.is_json:
        return otlp_protobuf.decode_protobuf(record.body)
    request = unwrap(_loads(record.body))
    return Decoded() if request is None else otlp_json.flatten(request)


def _loads(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise MalformedError(f"not JSON: {error}") from error


def unwrap(document: Any) -> dict[str, Any] | None:
    """Return the trace request in a line: itself or its member `otlp`; None when it holds other signals.

    Raises:
        MalformedError: There is none.
    """
    if isinstance(document, dict):
        inner = document.get("otlp")
        request: dict[str, Any] = inner if isinstance(inner, dict) else document
        if "resourceSpans" in request or "resource_spans" in request:
            return request
        if not request or any(signal in request for signal in _OTHER_SIGNALS):
            return None
    raise MalformedError("has no resourceSpans: not an OTLP trace request")


def _bodies(records: Sequence[Record]) -> Iterator[tuple[str, bytes]]:
    """Join requests to bodies well below the server's limit. Protobuf messages join end to end."""
    messages = [record.body for record in records if not record.is_json]
    for body in _joined(messages, b""):
        yield PROTOBUF, body
    resources = [part for record in records if record.is_json for part in _resources(record.body)]
    for body in _joined(resources, b","):
        yield JSON, b'{"resourceSpans":[' + body + b"]}"


def _joined(parts: Sequence[bytes], separator: bytes) -> Iterator[bytes]:
    waiting, size = list[bytes](), 0
    for part in parts:
        if waiting and size + len(part) > _PART_BYTES:
            yield separator.join(waiting)
            waiting, size = [], 0
        waiting.append(part)
        size += len(part)
    if waiting:
        yield separator.join(waiting)


def _resources(text: bytes) -> Iterator[bytes]:
    request = unwrap(_loads(text)) or {}
    for resource in request.get("resourceSpans") or request.get("resource_spans") or ():
        yield orjson.dumps(resource)


class Decoders:
    """Decodes part after part: here while there is little, then beside this process, which stores."""

    def __init__(self, form: Form) -> None:
        self.ahead = min((os.cpu_count() or 1) - 1, MAX_DECODERS) + 1
        """Parts worth having under way."""
        self._form, self._seen_bytes = form, 0
        self._pool: ProcessPoolExecutor | None = None
        self._starting: Future[Any] = Future()

    def expect(self, size_bytes: int) -> None:
        """Start the decoders when so much needs them."""
        if self._pool is None and self.ahead > 1 and size_bytes > PARALLEL_BYTES:
            self._pool = ProcessPoolExecutor(self.ahead - 1, get_context("spawn"), initializer=_begin)
            self._starting = self._pool.submit(decode_part, [_SAMPLE], self._form)

    def submit(self, records: Sequence[Record]) -> Future[tuple[Tally, Any]]:
        """Begin to decode; the result is what `decode_part` returns."""
        self._seen_bytes += sum(len(record.body) for record in records)
        self.expect(self._seen_bytes)
        if self._pool is not None and self._has_started():
            with suppress(BrokenExecutor):
                return self._pool.submit(decode_part, records, self._form)
        here: Future[tuple[Tally, Any]] = Future()
        here.set_result(decode_part(records, self._form))
        return here

    def result(self, decoding: Future[tuple[Tally, Any]], records: Sequence[Record]) -> tuple[Tally, Any]:
        """Wait for a part. When the decoder was killed, the work is done here."""
        try:
            return decoding.result()
        except BrokenExecutor:
            self._pool, self.ahead = None, 1
            return decode_part(records, self._form)

    def close(self) -> None:
        """End the decoders."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _has_started(self) -> bool:
        """Whether a decoder takes work; until then it goes faster here."""
        return self._starting.done()


def _begin() -> None:
    """Prepare a decoder: rows make no cycles, and looking for some takes a third of the time."""
    gc.disable()
    _end_with_parent()


def _end_with_parent() -> None:
    """End this process when the one it works for is killed, which would leave it waiting for ever."""
    parent = parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

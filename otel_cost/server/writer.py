"""Group commit: requests wait for the one insert that holds them all, and learn whether it is on disk."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from otel_cost.errors import BackpressureError, OtelCostError
from otel_cost.server.spans import Row, to_columns
from otel_cost.store import Packed, pack

log = logging.getLogger(__name__)

BATCH_SPANS = 40_000
"""Spans in one insert: with 20,000, its fixed cost and merging its parts make a span dearer by half."""
BATCH_BYTES = 128 * 1024 * 1024
"""Bytes of requests in one insert: 40,000 spans of the usual 3 kB; in memory they take six times that."""
QUEUE_SPANS = 100_000
"""Spans that may wait: some ten seconds of work, after which senders are told to come back."""
MAX_FAILED_INSERTS = 32
"""Inserts that may fail while looking for the rows a store refuses: enough for three among 10,000."""
RETRY_AFTER_S = (1.0, 30.0)
"""Shortest and longest wait asked of a sender."""


class SpanStore(Protocol):
    """What the writer needs of a store."""

    def insert_packed(self, parts: Sequence[Packed]) -> None:
        """Store a batch of spans; on return they are on disk."""
        ...


@dataclass(slots=True)
class _Waiting:
    """The spans of one request, and whoever waits for them."""

    spans: Sequence[Row] | Packed
    unpack: Callable[[], Sequence[Row]]
    size: int
    done: Future[int] = field(default_factory=Future)
    refused: int = 0
    unsaved: int = 0


class Writer:
    """One thread that inserts what arrived meanwhile: the more arrive, the fewer inserts each needs."""

    def __init__(
        self, store: SpanStore, *, batch_spans: int = BATCH_SPANS, queue_spans: int = QUEUE_SPANS
    ) -> None:
        self.spans_per_s = 5_000.0
        """How fast the last inserts went; a guess before the first."""
        self._store, self._batch_spans, self._queue_spans = store, batch_spans, queue_spans
        self._queue: deque[_Waiting] = deque()
        self._queued, self._writing = 0, 0
        self._stopping = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="otel-cost-writer", daemon=True)
        self._thread.start()

    @property
    def pending_spans(self) -> int:
        """Spans that are accepted but not yet on disk."""
        return self._queued + self._writing

    @property
    def is_alive(self) -> bool:
        """Whether spans can still be written."""
        return self._thread.is_alive() and not self._stopping

    def submit(
        self,
        spans: Sequence[Row] | Packed,
        size: int = 0,
        unpack: Callable[[], Sequence[Row]] | None = None,
    ) -> Future[int]:
        """Queue the spans of one request.

        Args:
            size: Bytes of the request, which bound an insert beside the number of spans.
            unpack: Gives the rows of packed spans, should the store refuse some of them.

        Returns:
            A future that is done when they are on disk. Its result is how many of them the store refused for
            good; it raises `BackpressureError` when they could not be stored now.

        Raises:
            BackpressureError: Too many spans wait already, or the server is stopping.
        """
        rows = () if isinstance(spans, Packed) else spans
        waiting = _Waiting(spans, unpack or (lambda: rows), size)
        if not spans:
            waiting.done.set_result(0)
            return waiting.done
        with self._changed:
            if self._stopping:
                raise BackpressureError("the server is shutting down", retry_after_s=RETRY_AFTER_S[0])
            if self._queued and self._queued + len(spans) > self._queue_spans:
                raise self._busy(f"{self._queued} spans wait to be stored")
            self._queue.append(waiting)
            self._queued += len(spans)
            self._changed.notify()
        return waiting.done

    def stop(self, deadline_s: float) -> bool:
        """Take no more spans and write those that wait. Returns whether all were written in time."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(deadline_s)
        with self._changed:
            left = list(self._queue)
            self._queue.clear()
        for waiting in left:
            _fail(waiting, BackpressureError("the server stopped", retry_after_s=RETRY_AFTER_S[0]))
        return not left and not self._thread.is_alive()

    def _busy(self, why: str) -> BackpressureError:
        low, high = RETRY_AFTER_S
        wait_s = min(max(self.pending_spans / self.spans_per_s, low), high)
        return BackpressureError(f"{why}; try again in {wait_s:.0f} s", retry_after_s=wait_s)

    def _run(self) -> None:
        while True:
            group = self._next_group()
            if not group:
                return
            try:
                self._write_group(group)
            except Exception:  # the thread must outlive whatever a store does
                log.exception("writing a batch failed unexpectedly")
                self._settle(group, failed=True)
            with self._changed:
                self._writing = 0

    def _next_group(self) -> list[_Waiting]:
        """Wait for requests and take as many as fit one insert; nothing when stopped and empty."""
        group: list[_Waiting] = []
        with self._changed:
            while not group:
                while not self._queue and not self._stopping:
                    self._changed.wait()
                if not self._queue:
                    break
                group = self._take()
            self._writing = sum(len(waiting.spans) for waiting in group)
        return group

    def _take(self) -> list[_Waiting]:
        """Take requests off the queue up to a full batch, leaving out those nobody waits for any more."""
        group: list[_Waiting] = []
        spans = size = 0
        while self._queue:
            spans, size = spans + len(self._queue[0].spans), size + self._queue[0].size
            if group and (spans > self._batch_spans or size > BATCH_BYTES):
                break
            waiting = self._queue.popleft()
            self._queued -= len(waiting.spans)
            if waiting.done.set_running_or_notify_cancel():
                group.append(waiting)
        return group

    def _write_group(self, group: list[_Waiting]) -> None:
        started, count = time.monotonic(), sum(len(waiting.spans) for waiting in group)
        try:
            self._store.insert_packed(_pack([waiting.spans for waiting in group]))
        except (OtelCostError, ValueError, TypeError, OverflowError) as error:
            log.warning("the store refused a batch of %d spans, trying its parts: %s", count, error)
            self._settle(group, failed=not _Search(self._store).save(group))
            return
        self._settle(group, failed=False)
        speed = count / max(time.monotonic() - started, 1e-3)
        self.spans_per_s = 0.7 * self.spans_per_s + 0.3 * speed

    def _settle(self, group: list[_Waiting], *, failed: bool) -> None:
        for waiting in group:
            if failed or waiting.unsaved:
                _fail(waiting, self._busy("the store cannot take spans now"))
            elif not waiting.done.done():
                waiting.done.set_result(waiting.refused)


def _pack(batch: Sequence[Sequence[Row] | Packed]) -> list[Packed]:
    """Return what is packed already, and all rows in one piece."""
    packed = [spans for spans in batch if isinstance(spans, Packed)]
    rows = [row for spans in batch if not isinstance(spans, Packed) for row in spans]
    return [*packed, pack(to_columns(rows))] if rows else packed


def _fail(waiting: _Waiting, error: Exception) -> None:
    if not waiting.done.done():
        waiting.done.set_exception(error)


class _Search:
    """Saves what can be saved of a batch the store refused, by halving it.

    Rows it cannot save alone while others go in are refused for good: sending them again would fail again.
    When nothing goes in, or too many parts fail, the store is the problem, and the senders keep their spans.
    """

    def __init__(self, store: SpanStore) -> None:
        self._store = store
        self._failed_inserts = 0
        self._saved_any = False

    def save(self, group: list[_Waiting]) -> bool:
        """Store the rows of the group one part at a time. Returns whether the store took anything."""
        owned = [(waiting, row) for waiting in group for row in waiting.unpack()]
        self._save_halves(owned)
        return self._saved_any

    def _save(self, owned: list[tuple[_Waiting, Row]]) -> None:
        if self._failed_inserts >= MAX_FAILED_INSERTS:
            _count(owned, refused=False)
            return
        try:
            self._store.insert_packed([pack(to_columns([row for _, row in owned]))])
            self._saved_any = True
        except (OtelCostError, ValueError, TypeError, OverflowError) as error:
            self._failed_inserts += 1
            if len(owned) == 1:
                log.warning("the store refused one span: %s", error)
                _count(owned, refused=True)
            else:
                self._save_halves(owned)

    def _save_halves(self, owned: list[tuple[_Waiting, Row]]) -> None:
        middle = (len(owned) + 1) // 2
        for half in (owned[:middle], owned[middle:]):
            if half:
                self._save(half)


def _count(owned: list[tuple[_Waiting, Row]], *, refused: bool) -> None:
    for waiting, _ in owned:
        waiting.refused += refused
        waiting.unsaved += not refused

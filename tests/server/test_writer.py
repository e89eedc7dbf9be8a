"""Group commit: what waits, what is joined, and what a failing store does to it."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_cost.errors import BackpressureError
from otel_cost.server.otlp_protobuf import flatten
from otel_cost.server.spans import Row
from otel_cost.server.writer import Writer
from tests.server.fakes import MemoryStore
from tests.server.harness import request_of


def rows_of(count: int, seed: int = 1, name: str = "chat") -> list[Row]:
    """Return the rows of valid spans."""
    return flatten(request_of(count, seed=seed, name=name)).rows


@pytest.fixture
def store() -> MemoryStore:
    """A store to be told what to do."""
    return MemoryStore()


@pytest.fixture
def writer(store: MemoryStore) -> Iterator[Writer]:
    """A writer over it, stopped afterwards."""
    made = Writer(store, batch_spans=100, queue_spans=300)
    yield made
    store.open.set()
    made.stop(10)


def test_requests_that_wait_together_are_one_insert(store: MemoryStore, writer: Writer) -> None:
    """What arrives during an insert goes into the next one, in order."""
    store.open.clear()
    futures = [writer.submit(rows_of(10, seed)) for seed in range(6)]
    store.open.set()
    assert [future.result(10) for future in futures] == [0] * 6
    assert store.inserts <= 2
    expected = [row[2] for seed in range(6) for row in rows_of(10, seed)]
    assert store.column("SpanId") == expected


def test_a_batch_has_a_limit_and_a_request_is_never_split(store: MemoryStore, writer: Writer) -> None:
    """At most `batch_spans` a batch, unless one request alone is larger."""
    store.open.clear()
    futures = [writer.submit(rows_of(count, count)) for count in (5, 60, 60, 150)]
    store.open.set()
    for future in futures:
        future.result(10)
    sizes = [len(batch["SpanId"]) for batch in store.batches]
    assert sum(sizes) == 275
    assert max(sizes) == 150
    assert all(size <= 100 for size in sizes if size != 150)


def test_nobody_is_answered_before_the_insert_returns(store: MemoryStore, writer: Writer) -> None:
    """An acknowledgement means on disk."""
    store.open.clear()
    future = writer.submit(rows_of(1))
    with pytest.raises(concurrent.futures.TimeoutError):
        future.result(0.1)
    assert not store.batches
    store.open.set()
    assert future.result(10) == 0
    assert len(store.batches) == 1


def test_a_full_queue_pushes_back_and_says_for_how_long(store: MemoryStore, writer: Writer) -> None:
    """Beyond `queue_spans` the sender is asked to wait; what was accepted is kept."""
    store.open.clear()
    accepted = []

    def fill() -> None:
        for seed in range(10):
            accepted.append(writer.submit(rows_of(100, seed)))  # noqa: PERF401 the list outlives the error

    with pytest.raises(BackpressureError, match="spans wait") as caught:
        fill()
    assert 3 <= len(accepted) <= 4
    assert 1 <= caught.value.retry_after_s <= 30
    store.open.set()
    for future in accepted:
        assert future.result(10) == 0


def test_a_request_larger_than_the_queue_passes_when_it_is_empty(writer: Writer) -> None:
    """A limit on waiting must not make a legal request impossible."""
    assert writer.submit(rows_of(500)).result(10) == 0


def test_one_bad_span_costs_no_other_its_place(store: MemoryStore, writer: Writer) -> None:
    """A batch that fails is split until only the bad span is refused, and its sender is told."""
    store.refused_names = {"bad"}
    store.open.clear()
    blocker = writer.submit(rows_of(1, 99))
    good, mixed = writer.submit(rows_of(20, 1)), writer.submit(rows_of(20, 2) + rows_of(1, 3, name="bad"))
    also_good = writer.submit(rows_of(20, 4))
    store.open.set()
    assert [f.result(10) for f in (blocker, good, mixed, also_good)] == [0, 0, 1, 0]
    stored = store.column("SpanId")
    assert len(stored) == len(set(stored)) == 61
    assert "bad" not in store.column("SpanName")


def test_a_store_that_is_down_loses_nothing_and_costs_few_tries(store: MemoryStore, writer: Writer) -> None:
    """When nothing goes in, the senders keep their spans; a thousand rows are not tried one by one."""
    store.is_down = True
    futures = [writer.submit(rows_of(100, seed)) for seed in (1, 2)]
    for future in futures:
        with pytest.raises(BackpressureError, match="cannot take spans now"):
            future.result(30)
    assert store.inserts <= 2 * 40
    store.is_down = False
    assert writer.submit(rows_of(3)).result(10) == 0


def test_unexpected_errors_do_not_stop_the_writer(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug in a store fails its batch and no later one."""
    store = writer._store
    real = store.insert_packed

    def broken(parts: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(store, "insert_packed", broken)
    with pytest.raises(BackpressureError):
        writer.submit(rows_of(2)).result(10)
    monkeypatch.setattr(store, "insert_packed", real)
    assert writer.submit(rows_of(2)).result(10) == 0


def test_stopping_writes_what_waits_and_takes_no_more(store: MemoryStore, writer: Writer) -> None:
    """An orderly end loses nothing that was accepted."""
    store.open.clear()
    futures = [writer.submit(rows_of(50, seed)) for seed in range(3)]
    stopping = threading.Thread(target=writer.stop, args=(10,))
    stopping.start()
    while writer.is_alive:
        pass
    with pytest.raises(BackpressureError, match="shutting down"):
        writer.submit(rows_of(1))
    store.open.set()
    stopping.join(10)
    assert [future.result(0) for future in futures] == [0, 0, 0]


def test_stopping_gives_up_at_its_deadline(store: MemoryStore, writer: Writer) -> None:
    """A store that hangs cannot keep the process; those who wait are told to send again."""
    store.open.clear()
    writer.submit(rows_of(1))
    while writer._queued:
        pass
    waiting = writer.submit(rows_of(1, 2))
    assert writer.stop(0.2) is False
    with pytest.raises(BackpressureError, match="stopped"):
        waiting.result(0)


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=8),
    bad=st.sets(st.integers(0, 7), max_size=2),
)
def test_every_good_row_is_stored_once_and_every_sender_is_answered(sizes: list[int], bad: set[int]) -> None:
    """Whatever the sizes and wherever the bad spans are: stored plus refused is what was sent."""
    store = MemoryStore()
    store.refused_names = {"bad"}
    writer = Writer(store, batch_spans=50)
    requests = [
        rows_of(size, seed + 1) + rows_of(seed in bad, 100 + seed, name="bad")
        for seed, size in enumerate(sizes)
    ]
    store.open.clear()
    futures = [writer.submit(rows) for rows in requests]
    store.open.set()
    refused = 0
    for index, future in enumerate(futures):
        try:
            refused += future.result(30)
        except BackpressureError:  # noqa: PERF203 one of them may fail
            assert requests[index]
            assert all(name == "bad" for name in (row[5] for row in requests[index]))
            refused += len(requests[index])
    writer.stop(10)
    stored = store.column("SpanId")
    assert len(stored) == len(set(stored))
    assert len(stored) + refused == sum(len(rows) for rows in requests)

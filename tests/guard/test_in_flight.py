"""What a call waits for: for calls in flight that others will end, and not for what waits for it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

import otel_cost.guard
from otel_cost import execution
from otel_cost.budgets import Policy
from otel_cost.errors import BudgetExceeded
from otel_cost.guard import Guard, Ticket
from otel_cost.guard.answers import Answer
from otel_cost.guard.calls import ModelCall, recognise
from otel_cost.ledger.memory import MemoryLedger
from otel_cost.pricing import PriceBook
from tests.guard.workers import CHAT

BOOK = PriceBook.load()
SHORT_S, LONG_S = 2, 60


class Clock:
    """Time that passes while somebody sleeps, and what happens at its third second."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.later: Callable[[], None] = lambda: None

    def monotonic(self) -> float:
        """Return the time."""
        return self.now_s

    def sleep(self, pause_s: float) -> None:
        """Let time pass."""
        if self.now_s < 3 <= self.now_s + pause_s:
            self.later()
        self.now_s += pause_s

    async def sleep_async(self, pause_s: float) -> None:
        """Let time pass for a task."""
        await asyncio.sleep(0)
        self.sleep(pause_s)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The guard's clock."""
    made = Clock()
    fake = SimpleNamespace(monotonic=made.monotonic, sleep=made.sleep, time_ns=lambda: 1_790_000_000 * 10**9)
    monkeypatch.setattr(otel_cost.guard, "time", fake)
    return made


@pytest.fixture
def guard() -> Iterator[Guard]:
    """A guard that lets one call of a dime through at a time."""
    made = Guard(Policy.load(environ={}, max_wait_s=LONG_S, budget_usd="0.15"), MemoryLedger(), BOOK)
    with execution("run"):
        yield made


def chat() -> ModelCall:
    """Return a call of a dime."""
    call = recognise("POST", "https://api.openai.com/v1/chat/completions", json.dumps(CHAT))
    assert call is not None
    return call


def in_thread(do: Callable[[], Ticket | None]) -> Ticket | None:
    """Do something in a thread of its own, inside the execution here."""
    found: list[Ticket | None] = []

    def run() -> None:
        with execution("run"):
            found.append(do())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


def test_a_call_does_not_wait_for_a_stream_that_its_own_thread_left_open(guard: Guard, clock: Clock) -> None:
    """Nobody else would end it, so the call is refused at once; when it is closed there is room again."""
    stream = guard.admit(chat())
    with pytest.raises(BudgetExceeded, match="is held by calls in flight"):
        guard.admit(chat())
    assert clock.now_s < SHORT_S
    stream.refused()
    guard.admit(chat()).refused()


def test_a_task_does_not_wait_for_a_stream_of_its_own(guard: Guard, clock: Clock) -> None:
    """The same in asyncio."""

    async def run() -> None:
        stream = await guard.admit_async(chat(), clock.sleep_async)
        with pytest.raises(BudgetExceeded):
            await guard.admit_async(chat(), clock.sleep_async)
        stream.refused()

    asyncio.run(run())
    assert clock.now_s < SHORT_S


def test_a_call_waits_for_those_of_other_threads(guard: Guard, clock: Clock) -> None:
    """Three seconds pass until it has room."""
    stream = in_thread(lambda: guard.admit(chat()))
    assert stream is not None
    clock.later = stream.refused
    guard.admit(chat()).refused()
    assert SHORT_S < clock.now_s < LONG_S


def test_a_call_waits_for_a_stream_that_another_thread_reads(guard: Guard, clock: Clock) -> None:
    """Whoever opened it, it goes on while this thread waits."""
    stream = guard.admit(chat())
    in_thread(lambda: stream.keep_up(Answer()))
    clock.later = stream.refused
    guard.admit(chat()).refused()
    assert SHORT_S < clock.now_s < LONG_S


def test_a_task_waits_for_other_tasks(guard: Guard, clock: Clock) -> None:
    """They share its thread, and go on while it waits."""

    async def run() -> None:
        admit: Coroutine[Any, Any, Ticket] = guard.admit_async(chat(), clock.sleep_async)
        stream = await asyncio.create_task(admit)
        clock.later = stream.refused
        (await guard.admit_async(chat(), clock.sleep_async)).refused()

    asyncio.run(run())
    assert SHORT_S < clock.now_s < LONG_S


def test_a_call_that_blocks_the_event_loop_waits_for_no_task_of_it(guard: Guard, clock: Clock) -> None:
    """While it waits no other task of its thread goes on."""

    async def run() -> None:
        stream = await asyncio.create_task(guard.admit_async(chat(), clock.sleep_async))
        with pytest.raises(BudgetExceeded):
            guard.admit(chat())
        stream.refused()

    asyncio.run(run())
    assert clock.now_s < SHORT_S

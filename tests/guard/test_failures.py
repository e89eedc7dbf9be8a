"""What breaks inside the guard or around it costs the agent nothing: it goes on, counted, told once."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from otel_cost import containment, execution
from otel_cost.budgets import ALLOW, DENY, Policy
from otel_cost.containment import error_counts, forget_errors
from otel_cost.errors import BudgetExceeded
from otel_cost.fake_provider import FakeProvider, Reply
from otel_cost.guard import Guard, clients
from otel_cost.guard.calls import recognise
from otel_cost.guard.records import MAX_NOTED
from otel_cost.ledger import Hold
from otel_cost.ledger.memory import MAX_SCOPES, MemoryLedger
from otel_cost.ledger.sqlite import SqliteLedger
from otel_cost.money import PICO
from otel_cost.pricing import PriceBook
from otel_cost.usage import Usage

DIME = PICO // 10
OUTPUT = 10_000
"""Output tokens of gpt-4o that cost a dime: 10 USD per million (https://openai.com/api/pricing, 2026-11)."""
CHAT: Any = {"model": "gpt-4o", "max_tokens": OUTPUT, "messages": [{"role": "user", "content": "hello"}]}


class Clock:
    """A clock that can be told to jump."""

    def __init__(self) -> None:
        self.offset = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.offset


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    """A provider that bills a dime a call."""
    with FakeProvider(Reply("ok", usage=Usage(output_tokens=OUTPUT))) as made:
        yield made


@pytest.fixture
def clock() -> Clock:
    """The clock of the ledger."""
    return Clock()


@pytest.fixture
def guard(clock: Clock) -> Iterator[Guard]:
    """A guard in force, with prices of its own to break."""
    forget_errors()
    made = Guard(Policy.load(environ={}), MemoryLedger(clock=clock), PriceBook.load())
    clients.install(made)
    yield made
    clients.uninstall()
    forget_errors()


def call(provider: FakeProvider, **changes: Any) -> None:
    """Send one model call of a dime."""
    url = f"{provider.openai_url}/chat/completions"
    httpx.post(url, json={**CHAT, **changes}, timeout=30).raise_for_status()


def settled(guard: Guard, execution_id: str = "run") -> int:
    """Return what an execution spent."""
    return guard.ledger.balance(f"execution:{execution_id}").settled_picousd


def broken(*args: object, **kwargs: object) -> Any:
    """Fail as a bug does."""
    raise RuntimeError("a bug")


def broken_parts(guard: Guard) -> dict[str, tuple[object, str]]:
    """Return what may break, and where: the owner and the name of a method."""
    return {
        "prices": (guard.book, "price"),
        "ledger: open": (guard.ledger, "open"),
        "ledger: reserve": (guard.ledger, "reserve"),
        "ledger: settle": (guard.ledger, "settle"),
        "ledger: balance": (guard.ledger, "balance"),
        "bounds: worst": (guard.bounds, "worst"),
        "bounds: learn": (guard.bounds, "learn"),
        "detectors": (guard.watches, "of"),
        "policy": (type(guard.policy), "limits_for"),
    }


PARTS = list(broken_parts(Guard(Policy.load(environ={}), MemoryLedger(), PriceBook.load())))


@pytest.mark.parametrize("part", PARTS)
def test_an_agent_goes_on_when_a_part_breaks(
    part: str,
    provider: FakeProvider,
    guard: Guard,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Ten calls are sent whole and streamed; each error is counted, and one line in the log says so."""
    monkeypatch.setattr(*broken_parts(guard)[part], broken)
    with execution("run", budget_usd="5"):
        for number in range(10):
            call(provider, stream=number % 2 == 1, stream_options={"include_usage": True})
    assert provider.count() == 10
    counted = {kind: times for kind, times in error_counts().items() if kind[1] == "RuntimeError"}
    assert counted
    assert max(counted.values()) >= 10
    told = [r.message for r in caplog.records if "otel_cost could not" in r.message]
    assert len(told) == len(counted)
    assert "a bug" not in "".join(told)


@pytest.mark.parametrize("part", ["bounds: learn", "detectors"])
def test_a_budget_holds_when_something_else_breaks(
    part: str, provider: FakeProvider, guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What only learns or watches cannot take the budget with it: the fourth dime of 35 cents is refused."""
    monkeypatch.setattr(*broken_parts(guard)[part], broken)
    with execution("run", budget_usd="0.35"):
        for _ in range(3):
            call(provider)
        with pytest.raises(BudgetExceeded):
            call(provider)
    assert provider.count() == 3
    assert settled(guard) == 3 * DIME


def test_a_ledger_that_cannot_settle_keeps_the_hold(
    provider: FakeProvider, guard: Guard, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Money whose end is not known stays held, and counts as spent after its time: unknown is not zero."""
    with execution("run", budget_usd="0.15"):
        with monkeypatch.context() as patched:
            patched.setattr(guard.ledger, "settle", broken)
            call(provider)
        monkeypatch.setattr(guard, "policy", Policy.load(environ={}, max_wait_s=0.01))
        with pytest.raises(BudgetExceeded):
            call(provider)
    clock.offset += 24 * 3_600
    assert settled(guard) >= DIME


@pytest.fixture
def frozen(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A process that stops while it writes to `a.ledger`, once it is told to begin."""
    tmp_path.chmod(0o700)
    SqliteLedger(tmp_path / "a.ledger").close()
    other = sqlite3.connect(tmp_path / "a.ledger", isolation_level=None, check_same_thread=False)
    yield other
    other.close()
    clients.uninstall()
    forget_errors()


def guard_in_file(directory: Path, **settings: Any) -> Guard:
    """Put a guard in force whose ledger other processes share."""
    made = Guard(Policy.load(environ={}, **settings), SqliteLedger(directory / "a.ledger"), PriceBook.load())
    clients.install(made)
    return made


def test_an_event_loop_goes_on_while_another_process_is_frozen(
    provider: FakeProvider, frozen: sqlite3.Connection, tmp_path: Path
) -> None:
    """Its calls wait; here another task of the same loop is what they wait for."""
    guard = guard_in_file(tmp_path, max_wait_s=20)
    frozen.execute("BEGIN IMMEDIATE")
    url = f"{provider.openai_url}/chat/completions"

    async def thaw() -> None:
        for _ in range(10):
            await asyncio.sleep(0.02)
        frozen.execute("ROLLBACK")

    async def run() -> None:
        async with httpx.AsyncClient() as client:
            await asyncio.gather(client.post(url, json=CHAT), thaw())
            with pytest.raises(BudgetExceeded):
                await client.post(url, json=CHAT)

    with execution("run", budget_usd="0.15"):
        asyncio.run(run())
    assert provider.count() == 1
    assert settled(guard) == DIME


def test_a_call_waits_for_a_process_that_is_frozen(
    provider: FakeProvider, frozen: sqlite3.Connection, tmp_path: Path
) -> None:
    """Also outside of an event loop; its settlement waits too."""
    guard = guard_in_file(tmp_path, max_wait_s=20)
    frozen.execute("BEGIN IMMEDIATE")
    with execution("run", budget_usd="0.15"):
        threading.Timer(0.5, frozen.execute, ["ROLLBACK"]).start()
        call(provider)
    assert settled(guard) == DIME


@pytest.mark.parametrize("on_failure", [ALLOW, DENY])
def test_a_process_that_stays_frozen(
    on_failure: str, provider: FakeProvider, frozen: sqlite3.Connection, tmp_path: Path
) -> None:
    """After `max_wait_s` the guard has failed, and does what the policy says of that."""
    guard_in_file(tmp_path, max_wait_s=0.1, on_failure=on_failure)
    frozen.execute("BEGIN IMMEDIATE")
    with execution("run", budget_usd="0.15"):
        if on_failure == DENY:
            with pytest.raises(BudgetExceeded, match="the guard failed"):
                call(provider)
        else:
            call(provider)
    assert provider.count() == (0 if on_failure == DENY else 1)
    assert error_counts()["admit a call", "Busy"] == 1


def test_a_stream_whose_second_hold_cannot_be_given_back(
    provider: FakeProvider, guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer arrives whole although `release` fails at its end."""
    provider.script = Reply("word " * 3_000, usage=Usage(output_tokens=3_000))
    monkeypatch.setattr(guard.ledger, "release", broken)
    with execution("run", budget_usd="1"):
        body = {**CHAT, "stream": True, "max_tokens": 100, "stream_options": {"include_usage": True}}
        with httpx.stream("POST", f"{provider.openai_url}/chat/completions", json=body) as response:
            for _ in response.iter_lines():
                pass
    assert settled(guard) == 3_000 * PICO // 10**5  # 10 USD per million
    assert error_counts()["give back what a stream held", "RuntimeError"] > 0


def test_a_refusal_that_cannot_be_recorded_still_refuses(
    provider: FakeProvider, guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A span that takes no events is not a way around a budget."""
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("t")
    with tracer.start_as_current_span("agent", record_exception=False) as span:
        monkeypatch.setattr(span, "add_event", broken)
        with execution("run", budget_usd=0), pytest.raises(BudgetExceeded):
            call(provider)
    assert provider.count() == 0
    assert error_counts()["record a refusal", "RuntimeError"] == 1


@pytest.mark.parametrize("at_ns", [0, 4_000_000_000 * 10**9, -1])
def test_a_wall_clock_that_is_wrong(
    at_ns: int, provider: FakeProvider, guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock in 1970, 2096 or before all time changes no price that has no date."""
    monkeypatch.setattr(time, "time_ns", lambda: at_ns)
    with execution("run", budget_usd="0.25"):
        for _ in range(2):
            call(provider)
        with pytest.raises(BudgetExceeded):
            call(provider)
    assert settled(guard) == 2 * DIME


@pytest.mark.parametrize("jump_s", [-1e6, 1e6])
def test_a_clock_that_jumps_while_a_call_is_in_flight(
    jump_s: float, provider: FakeProvider, guard: Guard, clock: Clock
) -> None:
    """Back or forward, what was billed counts once, and the budget goes on to hold."""

    def answer(received: object) -> Reply:
        clock.offset += jump_s
        guard.ledger.balance("execution:run")  # as any other call would
        return Reply("ok", usage=Usage(output_tokens=OUTPUT))

    provider.script = answer
    with execution("run", budget_usd="0.25"):
        for _ in range(2):
            call(provider)
        with pytest.raises(BudgetExceeded):
            call(provider)
    assert settled(guard) == 2 * DIME
    assert guard.ledger.balance("execution:run").reserved_picousd == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_process_that_forks_while_calls_are_in_flight(provider: FakeProvider, guard: Guard) -> None:
    """The child has locks that work, whatever its parent's threads held, and spends what was left."""
    provider.script = Reply("ok", usage=Usage(output_tokens=OUTPUT), delay_s=0.3)
    with execution("run", budget_usd="0.35"):
        call(provider)
        thread = threading.Thread(target=call, args=(provider,))
        thread.start()
        time.sleep(0.1)
        with guard.records._lock, guard.bounds._lock, guard.watches._lock, containment._lock:
            child = os.fork()
            if child == 0:
                _exit_with_calls(provider)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2  # a dime was spent, two are left
        thread.join()
    assert settled(guard) == 2 * DIME
    assert guard.ledger.balance("execution:run").reserved_picousd == 0


def _exit_with_calls(provider: FakeProvider) -> None:
    """Send until refused, and end this process with how many calls were sent; a minute is a deadlock."""
    import signal

    signal.alarm(60)
    containment.count("try a lock", RuntimeError())
    for sent in range(9):
        try:
            call(provider)
        except BaseException as error:  # noqa: PERF203 (how many were sent is the point)
            os._exit(sent if isinstance(error, BudgetExceeded) else 99)
    os._exit(98)


class Stuck(SpanExporter):
    """An exporter that does not return before it is let go."""

    def __init__(self) -> None:
        self.is_free = threading.Event()
        self.is_stuck = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.is_stuck.set()
        self.is_free.wait(60)
        return SpanExportResult.SUCCESS


def test_an_exporter_that_never_returns(provider: FakeProvider, guard: Guard) -> None:
    """Telemetry that stands still holds nobody up, and the budget does not depend on it."""
    exporter = Stuck()
    tracing = TracerProvider(shutdown_on_exit=False)
    batches = BatchSpanProcessor(exporter, max_queue_size=8, max_export_batch_size=1, schedule_delay_millis=1)
    tracing.add_span_processor(batches)
    tracer = tracing.get_tracer("t")
    logging.getLogger("opentelemetry.sdk").setLevel(logging.ERROR)
    started = time.monotonic()
    with execution("run", budget_usd="2.05"):
        for _ in range(20):
            with tracer.start_as_current_span("chat"):
                call(provider)
        with tracer.start_as_current_span("chat"), pytest.raises(BudgetExceeded):
            call(provider)
    assert exporter.is_stuck.wait(5)
    assert time.monotonic() - started < 30
    exporter.is_free.set()
    tracing.shutdown()
    assert settled(guard) == 20 * DIME


def test_a_million_open_executions() -> None:
    """What is kept of executions that never end is bounded, and those with a call in flight are all kept."""
    ledger = MemoryLedger()
    in_flight = ledger.reserve("execution:busy", DIME)
    assert isinstance(in_flight, Hold)
    for number in range(1_000_000):
        ledger.open(f"execution:{number}", DIME)
    assert len(ledger) <= MAX_SCOPES
    assert ledger.balance("execution:busy").reserved_picousd == DIME
    assert ledger.settle(in_flight, DIME)


def test_executions_beyond_what_the_guard_remembers(guard: Guard) -> None:
    """Every kind of memory of the guard is bounded, whatever is refused, found or spent."""
    url = "https://api.openai.com/v1/chat/completions"
    body = b'{"model": "gpt-4o", "max_tokens": 10000, "messages": [{"role": "user", "content": "hi"}]}'
    asked = recognise("POST", url, body)
    assert asked is not None
    for number in range(MAX_NOTED + 500):
        with execution(str(number), budget_usd="0.15"):
            guard.admit(asked).answered(_answer())
            with pytest.raises(BudgetExceeded):
                guard.admit(asked)
    records = guard.records
    for memory in (records._last_calls, records._refused, records._warned, records._doomed):
        assert len(memory) <= MAX_NOTED
    assert guard.refusals == MAX_NOTED + 500
    assert len(guard.ledger) <= MAX_SCOPES  # type: ignore[arg-type]


def _answer() -> Any:
    from otel_cost.guard.answers import read_answer

    return read_answer(b'{"model": "gpt-4o", "usage": {"prompt_tokens": 0, "completion_tokens": 10000}}')

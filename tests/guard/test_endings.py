"""Every hold ends: wherever a task is cancelled, a stream is left or a process stops."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import httpx2
import pytest
import requests

from otel_cost import execution
from otel_cost.budgets import Policy
from otel_cost.fake_provider import FakeProvider, Reply
from otel_cost.guard import Guard, clients
from otel_cost.ledger import Hold
from otel_cost.ledger.shared import SharedLedger
from otel_cost.money import PICO
from otel_cost.pricing import PriceBook
from otel_cost.usage import Usage
from tests.data import ROOT
from tests.guard.workers import CHAT
from tests.waiting import until

BOOK = PriceBook.load()
SCOPE = "execution:run"
STREAM = {**CHAT, "stream": True}


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    """A provider that takes its time, so that there is much to wait for."""
    reply = Reply("a b c d e", usage=Usage(output_tokens=5), delay_s=0.002, chunk_delay_s=0.002)
    with FakeProvider(reply) as made:
        yield made


@pytest.fixture
def guard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guard]:
    """A guard in force."""
    tmp_path.chmod(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    made = Guard(Policy.load(environ={}, max_wait_s=5), SharedLedger(), BOOK)
    clients.install(made)
    yield made
    clients.uninstall()


def ended(guard: Guard) -> int:
    """Return what was spent, once nothing is held any more."""
    gc.collect()
    until(lambda: guard.ledger.open_holds == 0)  # type: ignore[attr-defined]
    balance = guard.ledger.balance(SCOPE)
    assert balance.reserved_picousd == 0
    return balance.settled_picousd


# --- cancelled at every await -----------------------------------------------------------------------------


@types.coroutine
def cancelled_at(coroutine: Coroutine[Any, Any, object], step: int) -> Generator[Any, Any, bool]:
    """Run a coroutine and cancel its task while it waits for the n-th time. Returns whether it got so far."""
    steps, error = 0, None
    try:
        while True:
            waits_for = coroutine.send(None) if error is None else coroutine.throw(error)
            steps, error = steps + 1, None
            if steps == step:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            try:
                yield waits_for
            except BaseException as thrown:
                error = thrown
    except StopIteration:
        return steps >= step


async def _httpx(url: str) -> None:
    async with httpx.AsyncClient() as client:
        await client.post(url, json=CHAT)


async def _httpx_stream(url: str) -> None:
    async with httpx.AsyncClient() as client, client.stream("POST", url, json=STREAM) as response:
        async for _ in response.aiter_lines():
            pass


async def _httpx_stream_unclosed(url: str) -> None:
    async with httpx.AsyncClient() as client:
        response = await client.send(client.build_request("POST", url, json=STREAM), stream=True)
        async for _ in response.aiter_bytes():
            pass


async def _aiohttp(url: str) -> None:
    async with aiohttp.ClientSession() as session, session.post(url, json=CHAT) as response:
        await response.read()


async def _aiohttp_stream(url: str) -> None:
    async with aiohttp.ClientSession() as session, session.post(url, json=STREAM) as response:
        async for _ in response.content:
            pass


SENDING = [_httpx, _httpx_stream, _httpx_stream_unclosed, _aiohttp, _aiohttp_stream]


@pytest.mark.parametrize("send", SENDING, ids=lambda send: send.__name__)
def test_a_call_cancelled_at_any_await(
    send: Callable[[str], Coroutine[Any, Any, None]], provider: FakeProvider, guard: Guard
) -> None:
    """No hold is left, wherever it is cancelled, and a request that arrived is never free."""
    url = f"{provider.openai_url}/chat/completions"

    async def run(step: int) -> bool:
        task = asyncio.ensure_future(_awaited(cancelled_at(send(url), step)))
        done = await asyncio.gather(task, return_exceptions=True)
        return done[0] is not False  # an error, or gone on in spite of it

    step, spent, arrived, is_cancelled = 0, 0, 0, True
    with execution("run", budget_usd=1_000):
        while is_cancelled:
            step += 1
            is_cancelled = asyncio.run(run(step))
            now = ended(guard)
            assert now > spent or provider.count() == arrived, f"cancelled at await {step}"
            spent, arrived = now, provider.count()
    assert step > 3


async def _awaited(waiting: Awaitable[bool]) -> bool:
    return await waiting


def test_a_call_cancelled_while_it_waits_for_others(provider: FakeProvider, guard: Guard) -> None:
    """It holds nothing, and nothing is sent."""

    async def run() -> None:
        task = asyncio.create_task(_httpx(f"{provider.openai_url}/chat/completions"))
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    with execution("run", budget_usd="0.15"):
        guard.budget_around()
        other = guard.ledger.reserve(SCOPE, PICO // 10)
        assert isinstance(other, Hold)
        asyncio.run(run())
        guard.ledger.release(other)
    assert (ended(guard), provider.count()) == (0, 0)


async def started(call: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Start a call and give it time to come as far as it gets."""
    task = asyncio.create_task(call)
    await asyncio.sleep(0.1)
    return task


def test_a_call_that_is_given_up_is_uncounted_at_once(provider: FakeProvider, guard: Guard) -> None:
    """A cancelled task whose error is kept somewhere leaves no call behind for the collector to end."""
    errors: list[BaseException] = []

    async def call() -> None:
        try:
            await _httpx(f"{provider.openai_url}/chat/completions")
        except asyncio.CancelledError as error:
            errors.append(error)
            raise

    async def run() -> None:
        task = await started(call())
        task.cancel()
        await asyncio.wait([task])

    with execution("run", budget_usd="0.15"):
        guard.budget_around()
        other = guard.ledger.reserve(SCOPE, PICO // 10)
        assert isinstance(other, Hold)
        asyncio.run(run())
        assert guard.watches.of("run").model_calls == 0
        guard.ledger.release(other)
    assert len(errors) == 1


def _left_to_the_collector(call: Coroutine[Any, Any, None]) -> None:
    """Close an event loop over a task that nobody cancelled: it is part of a cycle, as each that waits is."""
    loop = asyncio.new_event_loop()
    task = loop.run_until_complete(started(call))
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()


@pytest.mark.parametrize("module", [httpx, httpx2], ids=lambda module: module.__name__)
def test_a_task_collected_with_its_call(module: Any, guard: Guard) -> None:
    """Its loop was closed before the answer came: the request left, so an estimate counts."""

    async def never(_: object) -> Any:
        await asyncio.Event().wait()

    async def send() -> None:
        client = module.AsyncClient(transport=module.MockTransport(never))
        await client.post("http://127.0.0.1/v1/chat/completions", json=CHAT)

    with execution("run", budget_usd=1):
        _left_to_the_collector(send())
        assert 0 < ended(guard) < PICO // 8


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_task_collected_while_its_execution_is_watched(provider: FakeProvider, guard: Guard) -> None:
    """A call that waited for others is uncounted without the thread that counts waiting for itself."""
    gc.disable()
    try:
        with execution("run", budget_usd="0.15"):
            guard.budget_around()
            other = guard.ledger.reserve(SCOPE, PICO // 10)
            assert isinstance(other, Hold)
            _left_to_the_collector(_httpx(f"{provider.openai_url}/chat/completions"))
            watch = guard.watches.of("run")
            assert watch.model_calls == 1
            counting = threading.Thread(
                target=watch.share, args=(lambda *_: gc.collect() and None,), daemon=True
            )
            counting.start()
            counting.join(10)
            assert not counting.is_alive()
            until(lambda: watch.model_calls == 0)
            guard.ledger.release(other)
    finally:
        gc.enable()


# --- left in other ways -----------------------------------------------------------------------------------


def _never_read(url: str) -> None:
    client = httpx.Client()
    client.send(client.build_request("POST", url, json=STREAM), stream=True)


def _closed_unread(url: str) -> None:
    with httpx.stream("POST", url, json=STREAM):
        pass


def _generator_never_started(url: str) -> None:
    client = httpx.Client()
    client.send(client.build_request("POST", url, json=STREAM), stream=True).iter_lines()


def _generator_closed(url: str) -> None:
    client = httpx.Client()
    lines = client.send(client.build_request("POST", url, json=STREAM), stream=True).iter_lines()
    next(lines)
    lines.close()  # type: ignore[attr-defined]


def _generator_left(url: str) -> None:
    client = httpx.Client()
    for _ in client.send(client.build_request("POST", url, json=STREAM), stream=True).iter_lines():
        break


def _client_gone(url: str) -> None:
    with httpx.Client() as client:
        response = client.send(client.build_request("POST", url, json=STREAM), stream=True)
        lines = response.iter_lines()
        next(lines)


def _in_a_cycle(url: str) -> None:
    client = httpx.Client()
    held: list[Any] = [client.send(client.build_request("POST", url, json=STREAM), stream=True)]
    held.append(held)
    next(held[0].iter_raw())


def _requests_left(url: str) -> None:
    for _ in requests.post(url, json=STREAM, timeout=10, stream=True).iter_lines():
        break


@pytest.mark.parametrize(
    "leave",
    [
        _never_read,
        _closed_unread,
        _generator_never_started,
        _generator_closed,
        _generator_left,
        _client_gone,
        _in_a_cycle,
        _requests_left,
    ],
    ids=lambda f: f.__name__,
)
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_stream_left_in_any_way(leave: Callable[[str], None], provider: FakeProvider, guard: Guard) -> None:
    """Its hold is settled, and what was sent counts."""
    with execution("run", budget_usd=1):
        leave(f"{provider.openai_url}/chat/completions")
        assert 0 < ended(guard) < PICO // 10


class Collecting(int):
    """An amount that has the garbage collected in the middle of the ledger's arithmetic."""

    def __radd__(self, other: int) -> int:
        gc.collect()
        return other + int(self)


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("is_shared", [False, True], ids=["memory", "file"])
def test_a_stream_collected_inside_the_ledger(is_shared: bool, provider: FakeProvider, guard: Guard) -> None:
    """The thread that holds the ledger's lock does not wait for itself."""
    gc.disable()
    try:
        with execution("run", budget_usd=1):
            guard.budget_around()
            if is_shared:
                assert guard.ledger.share(SCOPE)  # type: ignore[attr-defined]
            _in_a_cycle(f"{provider.openai_url}/chat/completions")
            work = threading.Thread(target=guard.ledger.reserve, args=(SCOPE, Collecting(1)), daemon=True)
            work.start()
            work.join(10)
            assert not work.is_alive()
            until(lambda: guard.ledger.balance(SCOPE).reserved_picousd == 1)
    finally:
        gc.enable()


EXIT = """
import httpx, os, sys
import otel_cost
otel_cost.install()
client = httpx.Client()
body = {"model": "gpt-4o", "max_tokens": 10_000, "stream": True, "messages": []}
response = client.send(client.build_request("POST", sys.argv[1], json=body), stream=True)
print(next(response.iter_lines()), flush=True)
"""


ENDS = ["", "sys.exit(3)", "os._exit(3)", "raise SystemError", "os.kill(os.getpid(), 9)"]


@pytest.mark.parametrize("end", ENDS)
def test_a_process_that_ends_while_it_streams(end: str, provider: FakeProvider, guard: Guard) -> None:
    """However it ends, what it held is settled or counts as spent, and nobody else has it."""
    with execution("run", budget_usd=1):
        url = f"{provider.openai_url}/chat/completions"
        done = subprocess.run(
            [sys.executable, "-c", EXIT + end, url], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert (done.returncode == 0) == (end == "")
        assert done.stdout.startswith("data:"), done.stderr
        assert 0 < ended(guard) <= PICO * 11 // 100

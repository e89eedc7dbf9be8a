"""Many calls at once against one cap: the provider's own bill never passes what was promised."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import openai
import pytest

from otel_cost import execution
from otel_cost.budgets import ESTIMATE, STRICT, Policy
from otel_cost.errors import BudgetExceeded
from otel_cost.fake_provider import FakeProvider, Reply
from otel_cost.guard import Guard, clients
from otel_cost.ledger.memory import MemoryLedger
from otel_cost.pricing import PriceBook
from otel_cost.usage import Usage
from tests.guard.opened import opened

BOOK = PriceBook.load()
CAP_USD, CALL_USD = Decimal(1), Decimal("0.1")
OUTPUT = 10_000
OUTPUT_USD_PER_MTOK = Decimal(10)
"""Of gpt-4o (https://openai.com/api/pricing, 2026-11): 10,000 tokens cost a dime."""
BODY: Any = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
LIMITED: Any = {**BODY, "max_tokens": OUTPUT}
Fleet = Callable[[FakeProvider, int, dict[str, Any]], None]
"""Sends so many calls at once; each that is refused gives up."""


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    """A provider that bills a dime a call, after 50 ms."""
    with FakeProvider(Reply("ok", usage=Usage(output_tokens=OUTPUT), delay_s=0.05)) as made:
        yield made


@pytest.fixture(autouse=True)
def no_guard_stays() -> Iterator[None]:
    """Take the guard away after each test."""
    yield
    clients.uninstall()


def guard_of(bound: str) -> Guard:
    """Put a new guard in force."""
    made = Guard(Policy.load(environ={}, bound=bound), MemoryLedger(), BOOK)
    clients.install(made)
    return made


def billed_usd(provider: FakeProvider) -> Decimal:
    """Return the provider's bill: what it answered, at the list price, worked out without the product."""
    return provider.truth().output_tokens * OUTPUT_USD_PER_MTOK / 10**6


def by_threads(provider: FakeProvider, count: int, body: dict[str, Any]) -> None:
    """Send from so many threads that begin together."""
    client, start = opened(openai.OpenAI(base_url=provider.openai_url, api_key="x")), threading.Barrier(count)

    def call() -> None:
        start.wait()
        try:
            client.chat.completions.create(**body)
        except BudgetExceeded:
            return

    threads = [threading.Thread(target=call) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def by_tasks(provider: FakeProvider, count: int, body: dict[str, Any]) -> None:
    """Send from so many tasks of one event loop."""

    async def call(client: openai.AsyncOpenAI) -> None:
        try:
            await client.chat.completions.create(**body)
        except BudgetExceeded:
            return

    async def run() -> None:
        async with openai.AsyncOpenAI(base_url=provider.openai_url, api_key="x") as client:
            await asyncio.gather(*(call(client) for _ in range(count)))

    asyncio.run(run())


def one_by_one(provider: FakeProvider, count: int, body: dict[str, Any]) -> None:
    """Send one call after another, as one agent does."""
    by = opened(openai.OpenAI(base_url=provider.openai_url, api_key="x"))
    for _ in range(count):
        try:
            by.chat.completions.create(**body)
        except BudgetExceeded:  # noqa: PERF203 (a refused call does not end the others)
            continue


def learn(provider: FakeProvider) -> None:
    """Let the guard see six answers, in an execution of their own that is not counted."""
    with execution("lesson"):
        one_by_one(provider, 6, BODY)
    provider.calls.clear()


@pytest.mark.parametrize("count", [20, 100, 500])
@pytest.mark.parametrize("fleet", [by_threads, by_tasks])
def test_strict_never_passes_the_cap(fleet: Fleet, count: int, provider: FakeProvider) -> None:
    """With an output limit the bill stays within the cap, and nine tenths of it are spent on honest calls."""
    guard = guard_of(STRICT)
    with execution("run", budget_usd=CAP_USD):
        fleet(provider, count, LIMITED)
    billed = billed_usd(provider)
    assert CAP_USD - CALL_USD <= billed <= CAP_USD
    balance = guard.ledger.balance("execution:run")
    assert Decimal(balance.settled_picousd) / 10**12 == billed
    assert balance.reserved_picousd == 0


@pytest.mark.parametrize("count", [20, 100, 500])
@pytest.mark.parametrize("fleet", [by_threads, by_tasks])
def test_an_estimate_passes_it_by_a_call_at_most(fleet: Fleet, count: int, provider: FakeProvider) -> None:
    """Without an output limit, what earlier answers taught is held: the bill is over by one call at most."""
    guard_of(ESTIMATE)
    learn(provider)
    with execution("run", budget_usd=CAP_USD):
        fleet(provider, count, BODY)
    assert CAP_USD - CALL_USD <= billed_usd(provider) <= CAP_USD + CALL_USD


@pytest.mark.parametrize("body", [BODY, LIMITED])
@pytest.mark.parametrize("fleet", [one_by_one, by_threads, by_tasks])
def test_an_estimate_that_knows_nothing_yet(
    fleet: Fleet, body: dict[str, Any], provider: FakeProvider
) -> None:
    """The first calls to a model pass the cap by one at most too: each may hold all that is left."""
    guard = guard_of(ESTIMATE)
    with execution("run", budget_usd=CAP_USD):
        fleet(provider, 40, body)
    assert CAP_USD - CALL_USD <= billed_usd(provider) <= CAP_USD + CALL_USD
    assert guard.ledger.balance("execution:run").reserved_picousd == 0

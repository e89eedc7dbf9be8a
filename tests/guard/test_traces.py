"""Executions inside a trace: each holds its own limit, and the trace's counts what all of them spend."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from opentelemetry import context, propagate, trace

from otel_cost import approve, execution
from otel_cost.budgets import Policy
from otel_cost.errors import BudgetExceeded
from otel_cost.fake_provider import FakeProvider, Reply
from otel_cost.guard import Guard, clients
from otel_cost.ledger.memory import MemoryLedger
from otel_cost.money import PICO
from otel_cost.pricing import PriceBook
from otel_cost.usage import Usage
from tests.guard.workers import CHAT, OUTPUT, call

BOOK = PriceBook.load()
DIME = PICO // 10
TRACE_ID = f"{7:032x}"
TRACE = f"execution:{TRACE_ID}"


@pytest.fixture
def url() -> Iterator[str]:
    """Where a provider is that bills a dime a call."""
    with FakeProvider(Reply("one", usage=Usage(output_tokens=OUTPUT))) as made:
        yield made.openai_url


@pytest.fixture(autouse=True)
def in_a_trace() -> Iterator[None]:
    """Run the test inside a span, as a server's handler runs, and take its guard away afterwards."""
    span = trace.NonRecordingSpan(trace.SpanContext(7, 8, is_remote=False))
    with trace.use_span(span):
        yield
    clients.uninstall()


def guard_of(**settings: Any) -> Guard:
    """Put a new guard in force."""
    made = Guard(Policy.load(environ={}, max_wait_s=5, **settings), MemoryLedger(), BOOK)
    clients.install(made)
    return made


def spent(guard: Guard, scope: str = TRACE) -> int:
    """Return what was spent of a scope, in dimes, with nothing left in flight."""
    balance = guard.ledger.balance(scope)
    assert balance.reserved_picousd == 0
    return balance.settled_picousd // DIME


@pytest.mark.parametrize("before", [0, 1])
def test_a_limit_holds_whatever_the_trace_has_spent(before: int, url: str) -> None:
    """A quarter pays for two dimes, also where the trace called a model before; all of it is the trace's."""
    guard = guard_of()
    assert call(url, before) == before
    with execution(agent="planner", budget_usd="0.25"):
        assert call(url, 9) == 2
    assert call(url, 1) == 1
    assert spent(guard) == before + 3


def test_jobs_of_one_trace_have_a_limit_each(url: str) -> None:
    """What one of them spent is not taken from the next, and each is held to its own amount."""
    guard = guard_of()
    done = []
    for budget_usd in ("0.25", "0.15", "0.45"):
        with execution(budget_usd=budget_usd):
            done.append(call(url, 9))
    assert done == [2, 1, 4]
    assert spent(guard) == 7


def test_a_limit_inside_a_trace_is_capped_by_what_the_trace_has_left(url: str) -> None:
    """The operator's 35 cents for an execution stay, however much the code asks for a part of it."""
    guard_of(budget_usd="0.35")
    call(url, 1)
    with execution(budget_usd="9"):
        assert call(url, 9) == 2
        with pytest.raises(BudgetExceeded) as raised:
            httpx.post(f"{url}/chat/completions", json=CHAT)
    assert (raised.value.execution_id, raised.value.scope) == (TRACE_ID, TRACE)


def test_an_execution_inside_a_trace_is_still_the_traces(url: str) -> None:
    """Reports see no new execution and no deeper one: the id is the trace's, the depth an outermost's."""
    guard_of(max_depth=0)
    with execution(budget_usd="0.15") as payer:
        assert payer.execution_id == ""
        assert call(url, 9) == 1
        with pytest.raises(BudgetExceeded) as raised:
            httpx.post(f"{url}/chat/completions", json=CHAT)
    assert raised.value.execution_id == TRACE_ID
    assert raised.value.scope.startswith(f"{TRACE}/")


@pytest.mark.parametrize("kind", ["agent", "feature"])
@pytest.mark.parametrize("before", [0, 1])
def test_what_the_policy_gives_an_agent_is_a_share_of_the_trace(before: int, kind: str, url: str) -> None:
    """Its blocks have it together, whatever was called before; who is around them goes on."""
    guard = guard_of(**{f"{kind}s": {"planner": {"budget_usd": "0.25"}}})
    assert call(url, before) == before
    done = []
    for _ in range(3):
        with execution(**{kind: "planner"}):  # type: ignore[arg-type]
            done.append(call(url, 9))
    assert done == [2, 0, 0]
    assert call(url, 1) == 1
    assert spent(guard, f"{TRACE}/{kind}:planner") == 2
    assert spent(guard) == before + 3


def test_the_lower_of_an_agents_and_a_features_share_holds(url: str) -> None:
    """The feature's is shared by its agents."""
    guard_of(agents={"a": {"budget_usd": "0.25"}}, features={"search": {"budget_usd": "0.35"}})
    with execution(agent="a", feature="search"):
        assert call(url, 9) == 2
    with execution(agent="b", feature="search"):
        assert call(url, 9) == 1


def test_one_agent_may_have_more_than_the_others(url: str) -> None:
    """An entry for `*` holds the calls of nobody in particular, and not the agent that has its own."""
    guard_of(agents={"researcher": {"budget_usd": "0.45"}, "*": {"budget_usd": "0.15"}})
    assert call(url, 9) == 1
    with execution(agent="researcher"):
        assert call(url, 9) == 4
    with execution(agent="writer"):
        assert call(url, 9) == 1


def test_a_limit_inside_a_calling_services_execution_holds(url: str) -> None:
    """A service that learns the execution's id from baggage spends of it, with a limit of its own."""
    guard = guard_of(budget_usd="0.45")
    headers: dict[str, str] = {}
    with execution("run-7"):
        propagate.inject(headers)
    token = context.attach(propagate.extract(headers))
    try:
        call(url, 1)
        for _ in range(2):
            with execution(budget_usd="0.25") as payer:
                assert (payer.execution_id, call(url, 9)) in (("run-7", 2), ("run-7", 1))
    finally:
        context.detach(token)
    assert spent(guard, "execution:run-7") == 4


def test_threads_and_tasks_spend_the_limit_they_are_started_in(url: str) -> None:
    """The block's limit is shared like any other."""
    guard = guard_of()
    call(url, 1)

    async def tasks() -> None:
        await asyncio.gather(*(asyncio.to_thread(call, url, 1) for _ in range(6)))

    with execution(budget_usd="0.35"), ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(lambda _: call(url, 1), range(6))) == 3
    with execution(budget_usd="0.35"):
        asyncio.run(tasks())
    assert spent(guard) == 7


def test_a_name_that_is_used_again_keeps_what_it_spent(url: str) -> None:
    """Its limit is the one given last, higher or lower."""
    guard = guard_of()
    done = []
    for budget_usd in ("0.15", "0.15", "0.45", "0.35", "0.55"):
        with execution("chat-1", budget_usd=budget_usd):
            done.append(call(url, 9))
    assert done == [1, 0, 3, 0, 1]
    assert spent(guard, "execution:chat-1") == 5
    assert spent(guard) == 0


def test_a_limit_given_to_a_name_that_had_none(url: str) -> None:
    """What was spent without a limit counts towards the first one."""
    guard_of()
    with execution("chat-1"):
        assert call(url, 2) == 2
    with execution("chat-1", budget_usd="0.35"):
        assert call(url, 9) == 1


def test_an_approval_outlives_the_block(url: str) -> None:
    """The next turn of a conversation asks for the limit it always asks for, and does not take it back."""
    guard_of()
    with execution("chat-1", budget_usd="0.15"):
        assert call(url, 9) == 1
    approve("chat-1", budget_usd="0.35")
    with execution("chat-1", budget_usd="0.15"):
        assert call(url, 9) == 2

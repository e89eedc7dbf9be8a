"""Dollars that a provider bills against a cap of one dollar, by who guards it.

    python benchmarks/bench_overshoot.py            # a table, and benchmarks/results/overshoot.md

Every guard is used as its own documentation shows, in asyncio, with the official client against a provider on
the loopback that bills $0.10 a call after 50 ms. What counts is the provider's own bill.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else importing it asks the network

import agentbudget
import litellm
import openai
import shekel

import otel_cost
from otel_cost.budgets import ESTIMATE, STRICT, Policy
from otel_cost.fake_provider import FakeProvider, Reply
from otel_cost.guard import clients, default_guard
from otel_cost.usage import Usage

OUTPUT = 10_000
OUTPUT_USD_PER_MTOK = Decimal(10)
"""Of gpt-4o (https://openai.com/api/pricing, 2026-11): 10,000 tokens cost a dime."""
CALL: dict[str, Any] = {
    "model": "gpt-4o",
    "max_tokens": OUTPUT,
    "messages": [{"role": "user", "content": "hello"}],
}
RESULTS = Path(__file__).resolve().parent / "results" / "overshoot.md"
Send = Callable[[], Awaitable[object]]
"""Sends one call, or raises where the budget has no room."""
Guarded = Callable[[str], AbstractAsyncContextManager[Send]]


@asynccontextmanager
async def nobody(url: str) -> AsyncIterator[Send]:
    async with openai.AsyncOpenAI(base_url=url, api_key="x") as client:
        yield lambda: client.chat.completions.create(**CALL)


def ours(bound: str) -> Guarded:
    @asynccontextmanager
    async def guarded(url: str) -> AsyncIterator[Send]:
        clients.install(default_guard(Policy.load(environ={}, bound=bound)))
        try:
            with otel_cost.execution(budget_usd=1):
                async with nobody(url) as send:
                    yield send
        finally:
            clients.uninstall()

    return guarded


@asynccontextmanager
async def litellm_max_budget(url: str) -> AsyncIterator[Send]:
    litellm._current_cost, litellm.max_budget = 0.0, 1.0
    try:
        yield lambda: litellm.acompletion(**CALL, api_base=url, api_key="x")
    finally:
        litellm.max_budget = 0.0


@asynccontextmanager
async def litellm_budget_manager(url: str) -> AsyncIterator[Send]:
    manager = litellm.BudgetManager(project_name="bench")
    manager.create_budget(total_budget=1, user="agent")

    async def send() -> None:
        if manager.get_current_cost(user="agent") > manager.get_total_budget("agent"):
            raise litellm.BudgetExceededError(manager.get_current_cost(user="agent"), 1)
        answer = await litellm.acompletion(**CALL, api_base=url, api_key="x")
        manager.update_cost(completion_obj=answer, user="agent")

    yield send
    Path("user_cost.json").unlink(missing_ok=True)


@asynccontextmanager
async def by_agentbudget(url: str) -> AsyncIterator[Send]:
    budget = agentbudget.AgentBudget(max_spend="$1.00", max_repeated_calls=1_000)
    with budget.session() as session:
        async with openai.AsyncOpenAI(base_url=url, api_key="x") as client:
            agentbudget.wrap_client(client, session)
            yield lambda: client.chat.completions.create(**CALL)


@asynccontextmanager
async def by_shekel(url: str) -> AsyncIterator[Send]:
    try:
        async with shekel.budget(max_usd=1.0), nobody(url) as send:
            yield send
    except shekel.BudgetExceededError:
        return  # it may raise again where it ends


GUARDS: dict[str, Guarded] = {
    "no guard": nobody,
    "otel-cost, strict": ours(STRICT),
    "otel-cost, estimate": ours(ESTIMATE),
    "litellm.max_budget": litellm_max_budget,
    "LiteLLM BudgetManager": litellm_budget_manager,
    "agentbudget": by_agentbudget,
    "shekel": by_shekel,
}


async def worker(send: Send, calls: int) -> None:
    """Send calls one after another, up to the first that is refused."""
    for _ in range(calls):
        try:
            await send()
        except BaseException as error:  # noqa: PERF203 (what is refused ends the loop)
            if "udget" not in type(error).__name__:
                raise
            return


async def billed_usd(guarded: Guarded, workers: int, calls: int) -> Decimal:
    with FakeProvider(Reply("ok", usage=Usage(output_tokens=OUTPUT), delay_s=0.05)) as provider:
        async with guarded(provider.openai_url) as send:
            await asyncio.gather(*(worker(send, calls) for _ in range(workers)))
        return provider.truth().output_tokens * OUTPUT_USD_PER_MTOK / 10**6


SHAPES = {"20 at once": (20, 1), "20 in a row": (1, 20), "20 workers x 5": (20, 5)}


def main() -> None:
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.chdir(folder)  # LiteLLM keeps a file where it stands
        rows = [row(name, guarded) for name, guarded in GUARDS.items()]
    lines = [
        "# Dollars billed against a cap of $1.00",
        "",
        "`python benchmarks/bench_overshoot.py`: calls of $0.10, 50 ms each, asyncio, one process; each",
        "guard as its own documentation shows it. The amounts are the provider's own bill.",
        ", ".join([*(f"{name} {version(name)}" for name in ("litellm", "agentbudget", "shekel", "openai"))])
        + f", Python {platform.python_version()}.",
        "",
        f"| | {' | '.join(SHAPES)} |",
        f"|---|{'---|' * len(SHAPES)}",
        *rows,
        "",
    ]
    RESULTS.write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


def row(name: str, guarded: Guarded) -> str:
    amounts = [asyncio.run(billed_usd(guarded, *shape)) for shape in SHAPES.values()]
    return f"| {name} | {' | '.join(f'${amount:.2f}' for amount in amounts)} |"


if __name__ == "__main__":
    main()

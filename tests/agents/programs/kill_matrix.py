"""Runs cells of the kill matrix, one after another, and prints what came of each as a line of JSON.

    python -m tests.agents.programs.kill_matrix "openai chat/plain" "anthropic async/twenty" ...

Each cell has a provider of its own that counts requests, and an execution whose budget is three calls. What
runs in it would go on for ever. A cell that does not end in time ends the process, with its stacks.
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

import otel_cost
from otel_cost.errors import BudgetExceeded
from otel_cost.fake_provider import Call, FakeProvider, Reply, ToolCall
from otel_cost.usage import Usage
from tests.agents.programs import kill_frameworks  # noqa: F401 (registers its agents)
from tests.agents.programs.kill_clients import (
    BEDROCK,
    CLAUDE,
    CLIENTS,
    COHERE,
    GEMINI,
    GPT,
    GPT_THINKING,
    LLAMA,
    MISTRAL,
    OUTPUT_TOKENS,
    Client,
    Step,
)

CALLS = 3
DEADLINE_S = 120
"""After which a cell is stuck. Most of it is for imports: LiteLLM takes a minute before it is compiled."""
ENOUGH_REFUSALS = 500
"""After which a cell will never end."""
AT_ONCE = 20
AFTERMATH_S = 0.2
"""How long to wait for a request that would come after the end."""
USAGE = Usage(input_tokens=15_000, output_tokens=OUTPUT_TOKENS)
"""What every call is billed. Requests hold a little less: the same output, and less input. So three fit into
a budget of three, one after another or at once, and a fourth fits in neither case."""
CALL_USD = {
    # 15,000 input and 20,000 output tokens, in USD per million, 2026-11:
    GPT: "0.2375",  # 2.50 and 10, https://openai.com/api/pricing
    GPT_THINKING: "0.04375",  # 0.25 and 2, https://openai.com/api/pricing
    CLAUDE: "0.345",  # 3 and 15, https://claude.com/pricing
    BEDROCK: "0.345",  # 3 and 15, https://aws.amazon.com/bedrock/pricing
    GEMINI: "0.0545",  # 0.30 and 2.50, https://ai.google.dev/gemini-api/docs/pricing
    MISTRAL: "0.15",  # 2 and 6, https://mistral.ai/pricing
    COHERE: "0.2375",  # 2.50 and 10, https://cohere.com/pricing
    LLAMA: "1.725",  # no price is known: 15 and 75, what the guard takes an unknown model to cost
}


# --- loops ------------------------------------------------------------------------------------------------


def _plain(step: Step) -> None:
    while True:
        step()


def _swallow(step: Step) -> None:
    while True:
        try:
            step()
        except Exception:  # noqa: PERF203 the loop is the point
            continue


def _retry(step: Step) -> None:
    import tenacity

    retrying = tenacity.Retrying(wait=tenacity.wait_none())
    while True:
        retrying(step)


def _twenty(step: Step) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for running in [pool.submit(step) for _ in range(AT_ONCE)]:
            running.result()


async def _plain_async(step: Step) -> None:
    while True:
        await step()


async def _swallow_async(step: Step) -> None:
    while True:
        try:
            await step()
        except Exception:  # noqa: PERF203 the loop is the point
            continue


async def _retry_async(step: Step) -> None:
    import tenacity

    async def once() -> Any:
        return await step()

    retrying = tenacity.AsyncRetrying(wait=tenacity.wait_none())
    while True:
        await retrying(once)


async def _twenty_async(step: Step) -> None:
    await asyncio.gather(*(step() for _ in range(AT_ONCE)))


LOOPS: dict[str, tuple[Callable[[Step], None], Callable[[Step], Any]]] = {
    "plain": (_plain, _plain_async),
    "swallow": (_swallow, _swallow_async),
    "retry": (_retry, _retry_async),
    "twenty": (_twenty, _twenty_async),
}


# --- what is seen -----------------------------------------------------------------------------------------


class Refusals(logging.Handler):
    """Sees the guard refuse, by what it logs, and what had happened when it first did."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.begin(None)

    def begin(self, provider: FakeProvider | None) -> None:
        """Start counting for a provider."""
        self.provider, self.count = provider, 0
        self.requests_before: int | None = None
        self.first_at_s: float | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if self.provider is None or not any(isinstance(a, BudgetExceeded) for a in record.args or ()):
            return
        if not self.count:
            self.requests_before, self.first_at_s = self.provider.count(), time.monotonic()
        self.count += 1
        if self.count >= ENOUGH_REFUSALS:
            sys.stderr.write(f"refused {self.count} times, and it still goes on\n")
            sys.stderr.flush()
            os._exit(3)


class Scopes(SpanProcessor):
    """Sees who made spans."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def on_end(self, span: ReadableSpan) -> None:
        if span.instrumentation_scope is not None:
            self.seen.add(span.instrumentation_scope.name)


def answer(call: Call) -> Reply:
    """Ask for the request's first tool, again and again; without tools answer in words."""
    names = [name for name in _tools(call.body) if name != "final_answer"]
    asked = [ToolCall(names[0], {"city": "Bergen"})] if names else []
    return Reply("one two three", tool_calls=asked, usage=USAGE, delay_s=0.01)


def _tools(body: dict[str, Any]) -> list[str]:
    tools = body.get("tools") or []
    return [name for tool in tools if (name := tool.get("name") or tool.get("function", {}).get("name"))]


def chain(error: BaseException | None) -> list[BaseException]:
    """Return an error and all that it carries."""
    found: list[BaseException] = []
    queue = [error]
    while queue:
        current = queue.pop()
        if current is not None and current not in found:
            found.append(current)
            queue += [current.__cause__, current.__context__, *getattr(current, "exceptions", ())]
    return found


def ending(error: BaseException | None) -> dict[str, Any]:
    """Return how a run ended, and whether its error is ours, carries ours or quotes ours."""
    carried = chain(error)
    how = "not at all"
    if isinstance(error, BudgetExceeded):
        how = "is ours"
    elif any(isinstance(one, BudgetExceeded) for one in carried):
        how = "carries ours"
    elif any("may spend $" in str(one) for one in carried):
        how = "quotes ours"
    return {"error": type(error).__qualname__, "ours": how, "text": str(error)[:300]}


def run(client: Client, loop: str, provider: FakeProvider) -> None:
    """Run one cell; it ends by an error."""
    sync, concurrent = LOOPS[loop]
    if not client.is_async:
        sync(client.make(provider))
        return

    async def main() -> None:
        await concurrent(client.make(provider))

    asyncio.run(main())


def measure(cell: str, refusals: Refusals, scopes: Scopes) -> dict[str, Any]:
    """Return what came of a cell."""
    name, _, loop = cell.rpartition("/")
    client = CLIENTS[name]
    budget_usd = CALLS * Decimal(CALL_USD[client.model])
    error: BaseException | None = None
    scopes.seen = set()
    with FakeProvider(answer) as provider:
        refusals.begin(provider)
        try:
            with otel_cost.execution(cell.replace(" ", "-"), budget_usd=budget_usd):
                run(client, loop, provider)
        except BaseException as raised:
            error = raised
        ended_at_s = time.monotonic()
        time.sleep(AFTERMATH_S)
        found = {
            "cell": cell,
            "requests": provider.count(),
            "before_kill": refusals.requests_before,
            "refusals": refusals.count,
            "ended_after_s": round(ended_at_s - (refusals.first_at_s or ended_at_s), 2),
            "scopes": sorted(scopes.seen),
        }
    return found | ending(error)


def main(cells: list[str]) -> None:
    """Run cells in this process."""
    refusals, scopes = Refusals(), Scopes()
    logger = logging.getLogger("otel_cost")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(refusals)
    add = getattr(trace.get_tracer_provider(), "add_span_processor", None)
    if add is not None:
        add(scopes)
    for cell in cells:
        faulthandler.dump_traceback_later(DEADLINE_S, exit=True)
        found = measure(cell, refusals, scopes)
        print("CELL " + json.dumps(found), flush=True)  # noqa: T201 what the test reads
    # The process has to end by itself, too.
    faulthandler.dump_traceback_later(DEADLINE_S, exit=True)


if __name__ == "__main__":
    main(sys.argv[1:])

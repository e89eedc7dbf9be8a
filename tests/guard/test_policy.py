"""What the policy says, done: limits on steps, detectors, models without a price, a guard that fails."""

from __future__ import annotations

import contextlib
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_cost import execution
from otel_cost.budgets import Policy
from otel_cost.errors import BudgetExceeded
from otel_cost.fake_provider import FakeProvider, Reply
from otel_cost.guard import Guard, clients
from otel_cost.ledger.memory import MemoryLedger
from otel_cost.pricing import PriceBook
from otel_cost.usage import Usage

BOOK = PriceBook.load()


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    """A provider that bills 100 tokens in and 10 out."""
    with FakeProvider(Reply("ok", usage=Usage(input_tokens=100, output_tokens=10))) as made:
        yield made


@pytest.fixture(autouse=True)
def no_guard_stays() -> Iterator[None]:
    """Take the guard away after each test."""
    yield
    clients.uninstall()


def guard_of(**settings: Any) -> Guard:
    """Put a guard with these settings in force."""
    made = Guard(Policy.load(environ={}, **settings), MemoryLedger(), BOOK)
    clients.install(made)
    return made


def call(provider: FakeProvider, messages: list[Any] | None = None, **changes: Any) -> None:
    """Send one model call."""
    asked = messages or [{"role": "user", "content": "hello"}]
    body = {"model": "gpt-4o-mini", "max_tokens": 20, "messages": asked, **changes}
    httpx.post(f"{provider.openai_url}/chat/completions", json=body).raise_for_status()


def after_tool(arguments: dict[str, Any], result: str, *, times: int) -> list[Any]:
    """Return the history of an agent that called one tool so often with the same arguments."""
    history: list[Any] = [{"role": "user", "content": "find it"}]
    for number in range(times):
        asked = {"name": "search", "arguments": json.dumps(arguments)}
        tool_call = {"id": f"c{number}", "type": "function", "function": asked}
        history.append({"role": "assistant", "content": None, "tool_calls": [tool_call]})
        history.append({"role": "tool", "tool_call_id": f"c{number}", "content": result})
    return history


@pytest.mark.parametrize(
    ("limit", "sent"),
    [({"max_model_calls": 3}, 3), ({"max_total_tokens": 250}, 3), ({"max_wall_time_s": 1e-6}, 0)],
)
def test_limits_on_steps(provider: FakeProvider, limit: dict[str, Any], sent: int) -> None:
    """The call that would pass a limit is not sent, and the error names the limit and where it is set."""
    guard_of(**limit)
    (name,) = limit
    with execution("run"):
        for _ in range(sent):
            call(provider)
        with pytest.raises(BudgetExceeded) as caught:
            call(provider)
    assert provider.count() == sent
    assert caught.value.kind == name
    assert f"change {name} in the policy" in str(caught.value)


def test_limits_on_tools(provider: FakeProvider) -> None:
    """The request that carries the result of one tool call too many is not sent."""
    guard_of(max_calls_per_tool={"search": 2})
    with execution("run"):
        for times in (1, 2):
            call(provider, after_tool({"q": times}, "nothing", times=times))
        with pytest.raises(BudgetExceeded) as caught:
            call(provider, after_tool({"q": 3}, "nothing", times=3))
    assert caught.value.kind == "max_calls_per_tool"
    assert provider.count() == 2


def test_limits_of_an_agent(provider: FakeProvider) -> None:
    """Limits may be given by agent; another agent has its own."""
    guard_of(agents={"researcher": {"max_model_calls": 1}})
    with execution("one", agent="researcher"):
        call(provider)
        with pytest.raises(BudgetExceeded):
            call(provider)
    with execution("two", agent="writer"):
        for _ in range(3):
            call(provider)


def test_limits_on_the_steps_of_a_sub_agent(provider: FakeProvider) -> None:
    """They are compared with what the whole execution did; an execution of its own has its own count."""
    guard = guard_of(agents={"planner": {"max_model_calls": 2}})
    with execution("run", agent="boss"):
        for _ in range(3):
            call(provider)
        with execution(agent="planner"), pytest.raises(BudgetExceeded, match="model call 4, where 2"):
            call(provider)
        with execution("planner-1", agent="planner"):
            for _ in range(2):
                call(provider)
            with pytest.raises(BudgetExceeded, match="model call 3, where 2"):
                call(provider)
    assert guard.ledger.balance("execution:run").settled_picousd == 5 * 21 * 10**6


def test_how_deep_agents_nest(provider: FakeProvider) -> None:
    """A sub-agent below the deepest level sends nothing."""
    guard_of(max_depth=1)
    with execution("outer"), execution("inner"):
        call(provider)
        with execution("innermost"), pytest.raises(BudgetExceeded, match="max_depth"):
            call(provider)


@pytest.mark.parametrize(("action", "is_stopped"), [("kill", True), ("warn", False), ("off", False)])
def test_identical_tool_calls(
    provider: FakeProvider, caplog: pytest.LogCaptureFixture, action: str, is_stopped: bool
) -> None:
    """An agent that asks the same of a tool again and again is stopped, warned of or left alone."""
    guard = guard_of(identical_calls=action, near_identical_calls="off")

    def agent() -> None:
        for times in range(1, 6):
            call(provider, after_tool({"q": "same"}, "nothing", times=times))

    with execution("run"):
        if is_stopped:
            with pytest.raises(BudgetExceeded, match="identical_calls in the policy"):
                agent()
        else:
            agent()
    told = [r for r in caplog.records if "search" in r.message and r.levelno == logging.WARNING]
    assert bool(told) is (action != "off")
    assert guard.refusals == is_stopped


def test_a_retry_storm_ends_with_the_next_call(provider: FakeProvider) -> None:
    """Failures in a row are found when answers come; the call after that is not sent."""
    provider.script = Reply(status=500, error="down")
    guard_of(retry_storm="kill")

    def agent() -> None:
        for _ in range(20):
            with contextlib.suppress(httpx.HTTPStatusError):
                call(provider)

    with execution("run"), pytest.raises(BudgetExceeded) as caught:
        agent()
    assert caught.value.kind == "retry_storm"
    assert provider.count() < 20


@pytest.mark.parametrize(("unpriced", "sent"), [("estimate", 1), ("deny", 0), ("allow", 3)])
def test_models_without_a_price(provider: FakeProvider, unpriced: str, sent: int) -> None:
    """They are taken for dear ones, refused, or let through uncounted."""
    provider.script = Reply("ok", usage=Usage(output_tokens=1_000_000 // 75))  # a dollar at the dear rate
    guard = guard_of(unpriced=unpriced, budget_usd="1.5")
    with execution("run"):
        for _ in range(sent):
            call(provider, model="model-that-nobody-sells", max_tokens=1_000_000 // 75)
        if unpriced != "allow":
            with pytest.raises(BudgetExceeded):
                call(provider, model="model-that-nobody-sells", max_tokens=1_000_000 // 75)
    assert provider.count() == sent
    spent = guard.ledger.balance("execution:run").settled_picousd
    assert (spent > 0) is (unpriced == "estimate")


@pytest.mark.parametrize(("on_failure", "sent"), [("allow", 1), ("deny", 0)])
def test_a_guard_that_fails(
    provider: FakeProvider, monkeypatch: pytest.MonkeyPatch, on_failure: str, sent: int
) -> None:
    """The policy says whether the agent goes on without it."""
    guard = guard_of(on_failure=on_failure, budget_usd="1")

    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(guard.ledger, "reserve", broken)
    refused = (
        contextlib.nullcontext()
        if sent
        else pytest.raises(BudgetExceeded, match="OTEL_COST_GUARD_ON_FAILURE=allow")
    )
    with refused:
        call(provider)
    assert provider.count() == sent


def test_most_of_a_budget_is_said_once(provider: FakeProvider, caplog: pytest.LogCaptureFixture) -> None:
    """At 80 % of the budget there is one warning, with both amounts."""
    provider.script = Reply("ok", usage=Usage(output_tokens=10_000))  # gpt-4o-mini: 0.60 USD per million
    guard_of(budget_usd="0.05")
    with execution("run"):
        for _ in range(7):
            call(provider)
    told = [r.message for r in caplog.records if "has spent" in r.message]
    assert told == ["execution:run has spent $0.0420 of $0.0500"]


def test_a_refusal_is_an_event_on_the_span(provider: FakeProvider) -> None:
    """Traces show what was refused, and why; nothing of the prompt."""
    guard_of(budget_usd="0")
    exporter = InMemorySpanExporter()
    tracing = TracerProvider(shutdown_on_exit=False)
    tracing.add_span_processor(SimpleSpanProcessor(exporter))
    with tracing.get_tracer("t").start_as_current_span("agent"), pytest.raises(BudgetExceeded):
        call(provider)
    (span,) = exporter.get_finished_spans()
    (event,) = [each for each in span.events if each.name == "otel_cost.refused"]
    told = dict(event.attributes or {})
    assert (told["otel_cost.kind"], told["otel_cost.mode"]) == ("budget_usd", "enforce")
    assert (told["otel_cost.limit_usd"], told["otel_cost.spent_usd"]) == ("0", "0")
    assert told["otel_cost.execution.id"] == f"{span.context.trace_id:032x}"
    assert trace.get_current_span() is trace.INVALID_SPAN


STUBBORN = """
import signal, sys, httpx, otel_cost
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background has it ignored
with otel_cost.execution("run", budget_usd=0):
    while True:
        try:
            httpx.post(sys.argv[1] + "/chat/completions", json={"model": "gpt-4o", "messages": []})
        except otel_cost.BudgetExceeded:
            pass
        except KeyboardInterrupt:
            print("interrupted", flush=True)
"""


def test_what_will_not_end_is_ended(provider: FakeProvider) -> None:
    """An agent that swallows every refusal is interrupted after so many, then its process is ended."""
    done = subprocess.run(
        [sys.executable, "-c", STUBBORN, provider.openai_url],
        env={"OTEL_COST_GUARD_ESCALATE_AFTER_REFUSALS": "5", "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "interrupted" in done.stdout
    assert "ending the process" in done.stderr
    assert provider.count() == 0


def test_a_sub_agent_has_its_own_share_of_the_execution(provider: FakeProvider) -> None:
    """An agent that the policy has a budget for is held to it inside another's execution too, all its calls
    together, while the one around it goes on. A call is 100 x 0.15 + 10 x 0.60 = 21 millionths of a USD."""
    agents = {"researcher": {"budget_usd": "0.0002"}, "writer-*": {"budget_usd": "0.5"}}
    guard = guard_of(budget_usd="1", agents=agents)

    def research() -> None:
        while True:
            with execution(agent="researcher"):
                call(provider)

    with execution("run", agent="planner"):
        with pytest.raises(BudgetExceeded) as raised:
            research()
        sent = provider.count()
        call(provider)
        with execution(agent="writer-1"):
            call(provider)
        with execution(agent="unnamed"):
            call(provider)
    assert raised.value.scope == "execution:run/agent:researcher"
    assert 1 < sent < 10
    assert raised.value.spent_usd == sent * Decimal("0.000021")
    assert guard.ledger.balance("execution:run").settled_picousd == (sent + 3) * 21 * 10**6
    assert guard.ledger.balance("execution:run/agent:writer-1").settled_picousd == 21 * 10**6

"""The second line: calls that pass no client count by their spans, and those that do never twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
import httpx
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_cost import CostSpanProcessor, execution
from otel_cost.budgets import SHADOW, Policy
from otel_cost.config import Config
from otel_cost.errors import BudgetExceeded
from otel_cost.fake_provider import FakeProvider, Reply
from otel_cost.guard import Guard, clients
from otel_cost.ledger.memory import MemoryLedger
from otel_cost.money import PICO
from otel_cost.pricing import PriceBook
from otel_cost.usage import Usage
from tests.guard.workers import CHAT, OUTPUT

BOOK = PriceBook.load()
DIME = PICO // 10
SCOPE = "execution:run"
ASKED = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o"}


@pytest.fixture
def guard() -> Iterator[Guard]:
    """A guard in force."""
    yield guard_of()
    clients.uninstall()


def guard_of(**settings: Any) -> Guard:
    """Put a new guard in force."""
    made = Guard(Policy.load(environ={}, max_wait_s=5, **settings), MemoryLedger(), BOOK)
    clients.install(made)
    return made


@pytest.fixture
def spans() -> InMemorySpanExporter:
    """What is exported."""
    return InMemorySpanExporter()


@pytest.fixture
def tracer(spans: InMemorySpanExporter) -> trace.Tracer:
    """A tracer with our processor, and no global state."""
    provider = TracerProvider()
    provider.add_span_processor(CostSpanProcessor(Config(metrics=False), book=BOOK))
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return provider.get_tracer("instrumentor")


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    """A provider that bills a dime a call."""
    with FakeProvider(Reply("one", usage=Usage(input_tokens=0, output_tokens=OUTPUT))) as made:
        yield made


def answer(span: trace.Span, output: int = OUTPUT) -> None:
    """Put on a span what a call used: a dime's worth."""
    span.set_attribute("gen_ai.usage.input_tokens", 0)
    span.set_attribute("gen_ai.usage.output_tokens", output)


def spent(guard: Guard, scope: str = SCOPE) -> int:
    """Return what an execution spent, in dimes."""
    balance = guard.ledger.balance(scope)
    assert balance.reserved_picousd == 0
    assert balance.settled_picousd % DIME == 0
    return balance.settled_picousd // DIME


def send(provider: FakeProvider, **body: Any) -> None:
    """Make a call that the guard meters at the client."""
    httpx.post(f"{provider.openai_url}/chat/completions", json={**CHAT, **body}).raise_for_status()


@pytest.fixture
def vertex() -> Iterator[Callable[[], bytes]]:
    """A model behind gRPC that counts what it is asked."""
    asked: list[bytes] = []

    def predict(request: bytes, context: Any) -> bytes:
        asked.append(request)
        return b"%d" % len(asked)

    server = grpc.server(futures.ThreadPoolExecutor(2))
    method = grpc.unary_unary_rpc_method_handler(predict)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("Prediction", {"Predict": method})])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/Prediction/Predict")
        yield lambda: call(b"hello", timeout=10)
    server.stop(None).wait()


def test_calls_through_grpc_count_and_end(
    tracer: trace.Tracer, guard: Guard, vertex: Callable[[], bytes]
) -> None:
    """Each counts as its span ends; when the budget is spent, the next is not made."""
    answered = []

    def run() -> None:
        while True:
            with tracer.start_as_current_span("chat gpt-4o", attributes=ASKED) as span:
                answered.append(vertex())
                answer(span)

    with execution("run", budget_usd="0.25"), pytest.raises(BudgetExceeded, match="passes no client"):
        run()
    assert answered == [b"1", b"2", b"3"]
    assert spent(guard) == 3


def test_a_call_that_was_metered_is_not_counted_again(
    tracer: trace.Tracer, guard: Guard, provider: FakeProvider
) -> None:
    """The span around it is known, also with another one in between, and is not refused at its start."""
    with execution("run", budget_usd="0.25"):
        with tracer.start_as_current_span("chat gpt-4o", attributes=ASKED) as span:
            send(provider)
            answer(span)
        with tracer.start_as_current_span("chat gpt-4o", attributes=ASKED) as span:
            with tracer.start_as_current_span("POST"):
                send(provider)
            answer(span)
        assert spent(guard) == 2
        started = tracer.start_as_current_span("chat gpt-4o", attributes=ASKED)
        with started, pytest.raises(BudgetExceeded, match="POST"):
            send(provider)
    assert spent(guard) == provider.count() == 2


def test_a_span_made_after_its_call_is_not_counted_again(
    tracer: trace.Tracer, guard: Guard, provider: FakeProvider
) -> None:
    """As callbacks make them, with the times of the call, rounded to milliseconds."""
    with execution("run", budget_usd=1):
        for _ in range(3):
            began = time.time_ns()
            send(provider)
            ended = time.time_ns()
            span = tracer.start_span("chat", attributes=ASKED, start_time=began // 10**6 * 10**6)
            answer(span)
            span.end(ended // 10**6 * 10**6)
    assert spent(guard) == provider.count() == 3


def test_a_span_that_is_not_current_is_not_counted_again(
    tracer: trace.Tracer, guard: Guard, provider: FakeProvider
) -> None:
    """As callback handlers open them around a call, with another count of its tokens."""
    with execution("run", budget_usd=1):
        span = tracer.start_span("ChatOpenAI", attributes=ASKED)
        send(provider)
        answer(span, OUTPUT + 7)
        span.end()
    assert spent(guard) == 1


@pytest.mark.parametrize("named", ["gpt-4o", "gpt-4o-2024-08-06"])
def test_a_span_that_ends_before_its_stream_is_not_counted_again(
    named: str, tracer: trace.Tracer, guard: Guard, provider: FakeProvider
) -> None:
    """An instrumentation ends it at the last event, before the bytes end, and names the model otherwise."""
    url = f"{provider.openai_url}/chat/completions"
    body = {**CHAT, "model": "openai/gpt-4o", "stream": True, "stream_options": {"include_usage": True}}
    with execution("run", budget_usd="1"):
        for number in range(3):
            span = tracer.start_span("chat", attributes={**ASKED, "gen_ai.request.model": named})
            with httpx.stream("POST", url, json=body) as response:
                lines = response.iter_lines()
                assert next(lines)
                answer(span)
                span.end()
                assert list(lines)
            assert spent(guard) == number + 1


def test_two_records_of_a_metered_call(tracer: trace.Tracer, guard: Guard, provider: FakeProvider) -> None:
    """A framework's span around an instrumentor's: neither counts beside what was metered."""
    with execution("run", budget_usd=1):
        outer = tracer.start_span("ChatOpenAI", attributes=ASKED)
        with tracer.start_as_current_span("chat gpt-4o", attributes=ASKED) as inner:
            send(provider)
            answer(inner)
        answer(outer)
        outer.end()
    assert spent(guard) == 1


def test_both_kinds_of_calls_in_one_execution(
    tracer: trace.Tracer, guard: Guard, provider: FakeProvider
) -> None:
    """Each counts once, in any order and overlapping, by its model where both are open."""
    other = {**ASKED, "gen_ai.request.model": "gpt-4o-2024-11-20"}
    with execution("run", budget_usd=1):
        unseen = tracer.start_span("chat", attributes=other)
        with tracer.start_as_current_span("chat", attributes=ASKED) as span:
            send(provider)
            answer(span, OUTPUT)
        answer(unseen, 2 * OUTPUT)
        unseen.end()
        with tracer.start_as_current_span("chat", attributes=other) as span:
            answer(span, OUTPUT)
    assert spent(guard) == 4


def test_an_inner_budget_is_spent_by_spans(tracer: trace.Tracer, guard: Guard) -> None:
    """A call that passes no client spends from the innermost budget around its span."""
    with execution("run", budget_usd=1):
        with execution(budget_usd="0.15"):
            scope = guard.budget_around().scope  # type: ignore[union-attr]
            for _ in range(2):
                with tracer.start_as_current_span("chat", attributes=ASKED) as span:
                    answer(span)
            with pytest.raises(BudgetExceeded) as caught:
                tracer.start_span("chat", attributes=ASKED)
        assert caught.value.scope == scope
        with tracer.start_as_current_span("chat", attributes=ASKED) as span:
            answer(span)
    assert spent(guard) == 3


def test_in_shadow_mode_nothing_is_refused(tracer: trace.Tracer) -> None:
    """What would have been is counted."""
    guard = guard_of(mode=SHADOW)
    try:
        with execution("run", budget_usd="0.15"):
            for _ in range(3):
                with tracer.start_as_current_span("chat", attributes=ASKED) as span:
                    answer(span)
        assert spent(guard) == 3
        assert guard.refusals == 1
    finally:
        clients.uninstall()


def test_without_a_guard_spans_are_left_alone(tracer: trace.Tracer, spans: InMemorySpanExporter) -> None:
    """They are priced as ever."""
    with tracer.start_as_current_span("chat", attributes=ASKED) as span:
        answer(span)
    (exported,) = spans.get_finished_spans()
    assert exported.attributes is not None
    assert exported.attributes["otel_cost.cost_usd"] == "0.1"


def test_calls_through_grpc_spend_the_share_of_their_agent(tracer: trace.Tracer, guard: Guard) -> None:
    """What the policy gives an agent holds for them as for any other call; who is around it goes on."""
    guard = guard_of(agents={"planner": {"budget_usd": "0.15"}})
    made = []

    def ask() -> None:
        with tracer.start_as_current_span("chat gpt-4o", attributes=ASKED) as span:
            made.append(span)
            answer(span)

    with execution("run"):
        ask()
        with execution(agent="planner"):
            ask()
            ask()
            with pytest.raises(BudgetExceeded):
                ask()
        ask()
    assert spent(guard, f"{SCOPE}/agent:planner") == 2
    assert spent(guard) == 4 == len(made)


def test_calls_through_grpc_in_a_script_spend_its_budget(tracer: trace.Tracer, guard: Guard) -> None:
    """Where each of them is a trace of its own, nothing else than the script holds them together."""
    policy = Policy.load(environ={}, budget_usd="0.25")
    guard = Guard(policy, MemoryLedger(), BOOK, root=lambda: "script")
    clients.install(guard)

    def ask() -> None:
        with tracer.start_as_current_span("chat gpt-4o", attributes=ASKED) as span:
            answer(span)

    for _ in range(3):
        ask()
    with pytest.raises(BudgetExceeded):
        ask()
    assert spent(guard, "execution:script") == 3

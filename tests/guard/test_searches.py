"""Web searches that the provider makes while it answers: held before, counted after, told to the span."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import anthropic
import openai
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_cost import CostSpanProcessor, execution
from otel_cost.budgets import Policy
from otel_cost.config import Config
from otel_cost.errors import BudgetExceeded
from otel_cost.fake_provider import FakeProvider, Reply
from otel_cost.guard import Guard, clients
from otel_cost.guard.bounds import OVERHEAD_TOKENS, Bounds
from otel_cost.guard.calls import recognise
from otel_cost.guard.searches import UNLIMITED, WEB_TOKENS
from otel_cost.ledger.memory import MemoryLedger
from otel_cost.money import PICO
from otel_cost.pricing import PriceBook
from otel_cost.usage import Usage

BOOK = PriceBook.load()
USED = Usage(input_tokens=1_000, output_tokens=200, web_searches=2)
COST_USD = Decimal("0.0245")
"""Of gpt-4o: 1,000 x 2.50 + 200 x 10 a million (https://openai.com/api/pricing, 2026-11), and two searches
at 10 a thousand (https://platform.openai.com/docs/pricing, 2026-11)."""
ASKED = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o"}
WEB: Any = [{"type": "web_search"}]


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    """A provider that searches twice, and opens what it finds, before it answers."""
    with FakeProvider(Reply("one two three four", usage=USED)) as made:
        yield made


@pytest.fixture
def guard() -> Iterator[Guard]:
    """A guard in force."""
    made = Guard(Policy.load(environ={}, max_wait_s=5), MemoryLedger(), BOOK)
    clients.install(made)
    yield made
    assert made.ledger.open_holds == 0  # type: ignore[attr-defined]
    clients.uninstall()


def spent_usd(guard: Guard) -> Decimal:
    """Return what the execution spent."""
    balance = guard.ledger.balance("execution:run")
    assert balance.reserved_picousd == 0
    return Decimal(balance.settled_picousd) / PICO


@pytest.fixture
def client(provider: FakeProvider, guard: Guard) -> Iterator[openai.OpenAI]:
    """OpenAI's client, whose connections are closed."""
    with openai.OpenAI(base_url=provider.openai_url, api_key="x", max_retries=0) as made:
        yield made


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
def test_searches_count_though_the_usage_does_not_tell_them(
    client: openai.OpenAI, guard: Guard, is_stream: bool
) -> None:
    """OpenAI lists them among what the answer consists of; opened pages are listed, too, and are free."""
    with execution("run", budget_usd=10):
        answer = client.responses.create(model="gpt-4o", input="hi", tools=WEB, stream=is_stream)
        assert not is_stream or len(list(answer)) > 10  # type: ignore[arg-type]
    assert spent_usd(guard) == COST_USD


def test_a_span_costs_what_the_ledger_counted(client: openai.OpenAI, guard: Guard) -> None:
    """No instrumentation writes how many searches there were, so the guard does."""
    spans, tracing = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    tracing.add_span_processor(CostSpanProcessor(Config(metrics=False), book=BOOK))
    tracing.add_span_processor(SimpleSpanProcessor(spans))
    with (
        execution("run", budget_usd=10),
        tracing.get_tracer("instrumentor").start_as_current_span("chat", attributes=ASKED) as span,
    ):
        answer = client.responses.create(model="gpt-4o", input="hi", tools=WEB)
        assert answer.usage is not None
        span.set_attribute("gen_ai.usage.input_tokens", answer.usage.input_tokens)
        span.set_attribute("gen_ai.usage.output_tokens", answer.usage.output_tokens)
    (told,) = spans.get_finished_spans()
    assert told.attributes is not None
    assert told.attributes["gen_ai.usage.web_search_requests"] == 2
    assert Decimal(str(told.attributes["otel_cost.cost_usd"])) == spent_usd(guard) == COST_USD


def test_a_span_around_something_else_is_left_alone(client: openai.OpenAI, guard: Guard) -> None:
    """A span that is no model call's, as of a web request, is told nothing."""
    spans, tracing = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    tracing.add_span_processor(SimpleSpanProcessor(spans))
    with execution("run", budget_usd=10), tracing.get_tracer("web").start_as_current_span("GET /"):
        client.responses.create(model="gpt-4o", input="hi", tools=WEB)
    (told,) = spans.get_finished_spans()
    assert "gen_ai.usage.web_search_requests" not in (told.attributes or {})


def test_searches_of_a_stream_that_is_left_count(client: openai.OpenAI, guard: Guard) -> None:
    """They were made before the text, which never came to its end."""
    with execution("run", budget_usd=10):
        stream = client.responses.create(model="gpt-4o", input="hi", tools=WEB, stream=True)
        for event in stream:
            if event.type == "response.output_text.delta":
                break
        stream.close()
    assert Decimal("0.02") < spent_usd(guard) < COST_USD


def test_anthropic_tells_its_searches(provider: FakeProvider, guard: Guard) -> None:
    """Its usage has them, so that they count once: 1,000 x 3 + 200 x 15 a million, and 2 at 10 a thousand.

    https://claude.com/pricing#api (2026-11)
    """
    tools: Any = [{"type": "web_search_20250305", "name": "web_search", "max_uses": 2}]
    with execution("run", budget_usd=10), anthropic.Anthropic(base_url=provider.url, api_key="x") as own:
        own.messages.create(
            model="claude-sonnet-4-6",
            max_tokens=500,
            messages=[{"role": "user", "content": "hi"}],
            tools=tools,
        )
    assert spent_usd(guard) == Decimal("0.026")


def test_a_model_that_always_searches(client: openai.OpenAI, guard: Guard) -> None:
    """Neither request nor usage tells of it: 1,000 x 2.50 + 200 x 10 a million, a search at 25 a thousand.

    A budget of the fee alone is too small. https://developers.openai.com/api/docs/pricing (2026-11)
    """
    messages: Any = [{"role": "user", "content": "hi"}]
    with execution("run", budget_usd=1):
        client.chat.completions.create(model="gpt-4o-search-preview", messages=messages, max_tokens=300)
    assert spent_usd(guard) == Decimal("0.0295")
    with execution("poor", budget_usd=Decimal("0.025")), pytest.raises(BudgetExceeded):
        client.chat.completions.create(model="gpt-4o-search-preview", messages=messages, max_tokens=300)


OPENAI = "https://api.openai.com/v1/responses"
ANTHROPIC = "https://api.anthropic.com/v1/messages"


@pytest.mark.parametrize(
    ("url", "body", "searches"),
    [
        (OPENAI, {}, 0),
        (OPENAI, {"tools": None}, 0),
        (OPENAI, {"tools": ["web_search", {"type": 5}, {}]}, 0),
        (OPENAI, {"tools": [{"type": "function", "name": "web_search"}]}, 0),
        (OPENAI, {"tools": WEB}, UNLIMITED),
        (OPENAI, {"tools": [{"type": "web_search_preview_2025_03_11"}], "max_tool_calls": 3}, 3),
        (ANTHROPIC, {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, UNLIMITED),
        (ANTHROPIC, {"tools": [{"type": "web_search_20260209", "name": "web_search", "max_uses": 5}]}, 5),
    ],
)
def test_what_a_request_allows(url: str, body: dict[str, Any], searches: int) -> None:
    """Tools of the provider's, by their type; a function of the application's costs nothing by its name."""
    call = recognise("POST", url, json.dumps({"model": "m", **body}).encode())
    assert call is not None
    bound = Bounds().worst(call)
    assert bound.others.web_searches == call.searches.web == searches
    text = len(call.prompt)
    assert bound.input_tokens - searches * WEB_TOKENS in range(OVERHEAD_TOKENS, OVERHEAD_TOKENS + text)
    assert Bounds().likely(call).others.web_searches == min(searches, 1)


def test_what_searches_may_cost_is_held(client: openai.OpenAI, provider: FakeProvider, guard: Guard) -> None:
    """Three searches may cost 0.03, and 24,000 x 2.50 a million: a dime is enough, eight cents are not."""
    asked: Any = {
        "model": "gpt-4o",
        "input": "hi",
        "max_output_tokens": 10,
        "tools": WEB,
        "max_tool_calls": 3,
    }
    with execution("poor", budget_usd="0.08"), pytest.raises(BudgetExceeded):
        client.responses.create(**asked)
    assert provider.count() == 0
    with execution("run", budget_usd="0.10"):
        client.responses.create(**asked)
    assert spent_usd(guard) == COST_USD


def test_what_was_found_teaches_nothing_about_prompts(
    client: openai.OpenAI, provider: FakeProvider, guard: Guard
) -> None:
    """A prompt is counted with what was found for it; others are not held to that."""
    found = USED._replace(input_tokens=50_000)
    provider.script = lambda call: Reply("one", usage=found)
    with execution("run", budget_usd=10):
        for _ in range(6):
            client.responses.create(model="gpt-4o", input="hi", tools=WEB)
    call = recognise("POST", OPENAI, json.dumps({"model": "gpt-4o", "input": "x" * 1_000}).encode())
    assert call is not None
    assert guard.bounds.worst(call).input_tokens < 2_000

"""Calls that are billed for more than the tokens of a text: pictures, speech, searches, batches, bills."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import httpx
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
from otel_cost.guard.bounds import OVERHEAD_TOKENS, UNKNOWN_HISTORY_TOKENS, Bounds
from otel_cost.guard.calls import recognise
from otel_cost.guard.media import IMAGE_TOKENS
from otel_cost.ledger.memory import MemoryLedger
from otel_cost.money import PICO
from otel_cost.pricing import PriceBook
from otel_cost.usage import Usage

BOOK = PriceBook.load()
OPENAI, GEMINI = "https://api.openai.com/v1", "https://generativelanguage.googleapis.com/v1beta"
Ask = Callable[..., Decimal]


@pytest.fixture
def guard() -> Iterator[Guard]:
    """A guard in force that is strict, so that all that is held is known."""
    policy = Policy.load(environ={"OTEL_COST_GUARD_BOUND": "strict"}, max_wait_s=5)
    made = Guard(policy, MemoryLedger(), BOOK)
    clients.install(made)
    yield made
    assert made.ledger.open_holds == 0  # type: ignore[attr-defined]
    clients.uninstall()


@pytest.fixture
def ask(guard: Guard) -> Ask:
    """Asks a provider that gives one answer, and returns what the call was charged, in USD."""

    def run(url: str, body: Any, answer: Any, kind: str = "application/json") -> Decimal:
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()

        def reply(request: httpx.Request) -> httpx.Response:
            return httpx.Response(200, content=content, headers={"content-type": kind})

        with execution("run", budget_usd=100), httpx.Client(transport=httpx.MockTransport(reply)) as client:
            client.post(url, json=body)
        balance = guard.ledger.balance("execution:run")
        assert balance.reserved_picousd == 0
        return Decimal(balance.settled_picousd) / PICO

    return run


def test_pictures_in_an_answer_cost_what_pictures_do(ask: Ask) -> None:
    """100 x 0.30 + 1,290 x 30 a million for gemini-2.5-flash-image; as text they would be a twelfth.

    https://ai.google.dev/gemini-api/docs/pricing (2026-11)
    """
    usage = {
        "promptTokenCount": 100,
        "candidatesTokenCount": 1290,
        "totalTokenCount": 1390,
        "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1290}],
    }
    body = {"contents": [{"parts": [{"text": "a cat"}]}]}
    url = f"{GEMINI}/models/gemini-2.5-flash-image:generateContent"
    assert ask(url, body, {"usageMetadata": usage}) == Decimal("0.03873")


def test_pictures_are_held_as_pictures(guard: Guard) -> None:
    """1,290 tokens may be a picture of 0.0387, for which three cents are not enough."""
    body = {"contents": [{"parts": [{"text": "a cat"}]}], "generationConfig": {"maxOutputTokens": 1_290}}
    with execution("poor", budget_usd="0.03"), httpx.Client() as client, pytest.raises(BudgetExceeded):
        client.post(f"{GEMINI}/models/gemini-2.5-flash-image:generateContent", json=body)


def test_an_image_call_that_tells_no_usage_is_charged_as_asked(ask: Ask) -> None:
    """Two images of gpt-image-1, at most 6,240 tokens each at 40 USD a million, and a prompt of a few words.

    https://platform.openai.com/docs/pricing (2026-11)
    """
    charged = ask(
        f"{OPENAI}/images/generations", {"model": "gpt-image-1", "prompt": "a cat", "n": 2}, {"data": []}
    )
    images = 2 * IMAGE_TOKENS * Decimal("0.00004")
    assert images <= charged < images + Decimal("0.001")


def test_speech_is_billed_by_the_character(ask: Ask) -> None:
    """1,000 characters of tts-1 at 15 USD a million, whatever the sound is: https://platform.openai.com/docs/pricing."""
    body = {"model": "tts-1", "input": "é" * 1_000, "voice": "alloy"}
    assert ask(f"{OPENAI}/audio/speech", body, b"\xff\xfb" * 5_000, "audio/mpeg") == Decimal("0.015")


@pytest.mark.parametrize("answer", [{"meta": {"billed_units": {"search_units": 1}}}, {"results": []}])
def test_reranking_is_billed_by_the_search(ask: Ask, answer: dict[str, Any]) -> None:
    """2 USD a thousand for rerank-v3.5, told or not: https://cohere.com/pricing (2026-11)."""
    body = {"model": "rerank-v3.5", "query": "cat", "documents": ["a", "b"]}
    assert ask("https://api.cohere.com/v2/rerank", body, answer) == Decimal("0.002")


def test_an_answer_that_comes_later_is_charged_as_held(ask: Ask) -> None:
    """In the background 30,000 tokens of gpt-4.1 may be written, at 8 USD a million (https://openai.com/api/pricing)."""
    body = {"model": "gpt-4.1", "input": "hi", "background": True, "max_output_tokens": 30_000}
    charged = ask(f"{OPENAI}/responses", body, {"id": "resp_1", "status": "queued", "usage": None})
    assert Decimal("0.24") <= charged < Decimal("0.242")


def test_a_batch_is_charged_as_held(ask: Ask) -> None:
    """Two requests of 10,000 tokens of claude-sonnet-4-5 at 15 USD a million, half price in a batch.

    https://claude.com/pricing#api (2026-11)
    """
    one = {
        "model": "claude-sonnet-4-5",
        "max_tokens": 10_000,
        "messages": [{"role": "user", "content": "hi"}],
    }
    body = {"requests": [{"custom_id": name, "params": one} for name in "ab"]}
    answer = {"id": "msgbatch_1", "processing_status": "in_progress"}
    charged = ask("https://api.anthropic.com/v1/messages/batches", body, answer)
    assert Decimal("0.15") <= charged < Decimal("0.152")


def test_usage_of_nothing_beside_a_text_is_not_believed(ask: Ask) -> None:
    """A gateway that fills in zeros has not said what was used."""
    answer = {
        "choices": [{"message": {"content": "word " * 800}}],
        "usage": {"prompt_tokens": 0, "completion_tokens": 0},
    }
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
    assert ask(f"{OPENAI}/chat/completions", body, answer) > Decimal("0.005")


def test_a_bill_is_believed_before_the_list(guard: Guard, ask: Ask) -> None:
    """OpenRouter says what it bills, a tool of its own included; the span costs the same."""
    spans, tracing = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    tracing.add_span_processor(CostSpanProcessor(Config(metrics=False), book=BOOK))
    tracing.add_span_processor(SimpleSpanProcessor(spans))
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openrouter",
        "gen_ai.request.model": "openai/gpt-4o-mini",
        "gen_ai.usage.input_tokens": 85,
        "gen_ai.usage.output_tokens": 106,
    }
    usage = {"prompt_tokens": 85, "completion_tokens": 106, "cost": 0.0160614}
    body = {"model": "openai/gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}
    url = "https://openrouter.ai/api/v1/chat/completions"
    with tracing.get_tracer("instrumentor").start_as_current_span("chat", attributes=attributes):
        assert ask(url, body, {"usage": usage}) == Decimal("0.0160614")
    (told,) = spans.get_finished_spans()
    assert told.attributes is not None
    assert Decimal(str(told.attributes["otel_cost.cost_usd"])) == Decimal("0.0160614")


@pytest.mark.parametrize(
    ("model", "cost"), [("gemini-3.5-flash", "0.04395"), ("gemini-2.5-flash", "0.03553")]
)
@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
def test_google_bills_what_it_looks_up(guard: Guard, model: str, cost: str, is_stream: bool) -> None:
    """Three queries at 14 USD a thousand, or a prompt at 35; one that is empty or asked twice is free.

    100 x 1.50 + 200 x 9 a million and 3 x 0.014, or 100 x 0.30 + 200 x 2.50 a million and 0.035.
    https://ai.google.dev/gemini-api/docs/pricing (2026-11)
    """
    verb = "streamGenerateContent?alt=sse" if is_stream else "generateContent"
    body = {"contents": [{"parts": [{"text": "who won?"}]}], "tools": [{"google_search": {}}]}
    usage = Usage(input_tokens=100, output_tokens=200, web_searches=3)
    with (
        FakeProvider(Reply("Nobody did", usage=usage)) as provider,
        httpx.Client() as client,
        execution("run", budget_usd=10),
    ):
        client.post(f"{provider.url}/v1beta/models/{model}:{verb}", json=body)
    balance = guard.ledger.balance("execution:run")
    assert Decimal(balance.settled_picousd) / PICO == Decimal(cost)


def test_searches_of_files_count(ask: Ask) -> None:
    """Ten at 2.50 USD a thousand, and 100 x 2 + 50 x 8 a million for gpt-4.1: https://platform.openai.com/docs/pricing."""
    answer = {
        "output": [{"type": "file_search_call", "status": "completed"}] * 10,
        "usage": {"input_tokens": 100, "output_tokens": 50},
    }
    body = {"model": "gpt-4.1", "input": "hi", "tools": [{"type": "file_search", "vector_store_ids": ["v"]}]}
    assert ask(f"{OPENAI}/responses", body, answer) == Decimal("0.0256")


@pytest.mark.parametrize(
    ("part", "tokens"),
    [
        ({"type": "input_file", "file_id": "file-1"}, UNKNOWN_HISTORY_TOKENS),
        ({"type": "input_file", "file_url": "https://example.com/a.pdf"}, UNKNOWN_HISTORY_TOKENS),
        ({"type": "input_image", "image_url": "https://example.com/a.png"}, 2_000),
        ({"inlineData": {"mimeType": "text/csv", "data": "QUJD" * 10_000}}, 30_000),
        ({"type": "input_file", "file_data": "data:text/csv;base64," + "QUJD" * 10_000}, 30_000),
    ],
)
def test_what_files_may_be(part: dict[str, Any], tokens: int) -> None:
    """Behind a name there may be anything, behind text a token a byte; a picture has its largest size."""
    body = {"model": "gpt-4.1", "input": [{"role": "user", "content": [part]}], "max_output_tokens": 5}
    call = recognise("POST", f"{OPENAI}/responses", json.dumps(body).encode())
    assert call is not None
    assert tokens <= Bounds().worst(call).input_tokens < tokens * 1.4 + OVERHEAD_TOKENS + 2_500

"""Streams that are cut: the bytes stop, the provider sees it, and what counts is what the provider bills."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, NamedTuple

import anthropic
import httpx
import openai
import pytest

from otel_cost import execution
from otel_cost.budgets import Policy
from otel_cost.errors import BudgetExceeded
from otel_cost.fake_provider import Call, FakeProvider, Reply, tokens
from otel_cost.guard import Guard, clients
from otel_cost.ledger.memory import MemoryLedger
from otel_cost.money import PICO
from otel_cost.pricing import PriceBook
from otel_cost.usage import Usage
from tests.guard.opened import opened
from tests.guard.tracing import priced_openai

BOOK = PriceBook.load()
TOLERANCE = Decimal("0.02")
PACE_S = 0.002
"""For each token, so that the provider is not far ahead of who reads; a fast one writes 200 a second."""
MESSAGES: Any = [{"role": "user", "content": "tell me everything about the sea"}]
INPUT = 24
"""Tokens that the provider counts for the question."""
WORDS = {
    "English": "the sea is a large body of salt water which covers more than seventy percent, however, tides"
    " oceanographers investigated currents; fish. and 1,024 unbelievably deep trenches",
    "German": "die Meeresströmungen sind größtenteils windgetrieben, während Gezeitenkräfte überall wirken."
    " Tiefseegräben entstehen außerdem an Plattengrenzen und bleiben unerforscht",
    "Russian": "море покрывает большую часть поверхности земли, глубина океана достигает километров."
    " течения и приливы изучают океанографы",
    "Chinese": "海洋 覆盖 了 地球 表面 的 百分之七十, 深度 可达 一万米. 洋流 和 潮汐 由 海洋学家 研究",
    "code": "def tide(x): return {'high': x[0] >= 12, 'low': x[1] != 3.5} # for i in range(10_000): yield",
}


def text(language: str, *, seed: int, words: int) -> str:
    """Return a text of random words of a language, as a model may write it."""
    chosen = random.Random(seed)
    joint = "" if language == "Chinese" else " "
    return joint.join(chosen.choice(WORDS[language].split()) for _ in range(words))


def _chat(provider: FakeProvider, *, usage: bool) -> Any:
    client = opened(openai.OpenAI(base_url=provider.openai_url, api_key="x"))
    options: Any = {"stream_options": {"include_usage": True}} if usage else {}
    return client.chat.completions.create(
        model="gpt-4o", messages=MESSAGES, max_tokens=9_000, stream=True, **options
    )


def _responses(provider: FakeProvider, *, usage: bool) -> Any:
    client = opened(openai.OpenAI(base_url=provider.openai_url, api_key="x"))
    return client.responses.create(
        model="gpt-4o", input="tell me everything", max_output_tokens=9_000, stream=True
    )


def _anthropic(provider: FakeProvider, *, usage: bool) -> Any:
    client = opened(anthropic.Anthropic(base_url=provider.url, api_key="x"))
    return client.messages.create(model="claude-sonnet-4-6", max_tokens=9_000, messages=MESSAGES, stream=True)


class _Lines:
    """A stream of Gemini's, as its own client reads it."""

    def __init__(self, provider: FakeProvider) -> None:
        url = f"{provider.url}/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse"
        body = {
            "contents": [{"parts": [{"text": "tell me"}]}],
            "generationConfig": {"maxOutputTokens": 9_000},
        }
        self._client = httpx.Client()
        self._response = self._client.send(self._client.build_request("POST", url, json=body), stream=True)

    def __iter__(self) -> Iterator[str]:
        try:
            yield from (line for line in self._response.iter_lines() if line)
        finally:
            self.close()

    def close(self) -> None:
        self._response.close()
        self._client.close()


class Api(NamedTuple):
    """A way to stream, with USD per million tokens of its model: https://openai.com/api/pricing,
    https://claude.com/pricing, https://ai.google.dev/pricing, 2026-11."""

    send: Callable[..., Any]
    input_usd: Decimal
    output_usd: Decimal
    tokens_per_event: int


APIS = {
    "OpenAI chat": Api(_chat, Decimal("2.5"), Decimal(10), 1),
    "OpenAI responses": Api(_responses, Decimal("2.5"), Decimal(10), 1),
    "Anthropic": Api(_anthropic, Decimal(3), Decimal(15), 4),
    "Gemini": Api(lambda provider, usage: _Lines(provider), Decimal("1.25"), Decimal(10), 6),
}


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    """A provider that writes what a test tells it to."""
    with FakeProvider() as made:
        yield made


@pytest.fixture
def guard() -> Iterator[Guard]:
    """A guard that holds what is likely, so that a long answer passes it."""
    made = Guard(Policy.load(environ={}, bound="estimate"), MemoryLedger(), BOOK)
    clients.install(made)
    yield made
    assert made.ledger.open_holds == 0  # type: ignore[attr-defined]
    clients.uninstall()


def reply(api: Api, written: str, *, delay_s: float = 0) -> Reply:
    """Return an answer that bills each token of a text."""
    usage = Usage(input_tokens=INPUT, output_tokens=len(tokens(written)))
    return Reply(written, usage=usage, tokens_per_event=api.tokens_per_event, chunk_delay_s=delay_s)


def learn(api: Api, provider: FakeProvider, language: str) -> None:
    """Let the guard see six whole answers of other words."""
    with execution("lesson"):
        for seed in range(6):
            provider.script = reply(api, text(language, seed=seed, words=300 + 60 * seed))
            for _ in api.send(provider, usage=True):
                pass


def left(provider: FakeProvider) -> Call:
    """Return the last call once the provider has seen that its client is gone."""
    for _ in range(500):
        if provider.calls[-1].written_ratio is not None:
            return provider.calls[-1]
        time.sleep(0.01)
    raise AssertionError("the provider did not see the client hang up")


def billed_usd(api: Api, call: Call) -> Decimal:
    """Return the provider's own bill of a call."""
    usage = call.billed
    return (usage.input_tokens * api.input_usd + usage.output_tokens * api.output_usd) / 10**6


def spent_usd(guard: Guard) -> Decimal:
    """Return what the execution spent, with nothing left in flight."""
    balance = guard.ledger.balance("execution:run")
    assert balance.reserved_picousd == 0
    return Decimal(balance.settled_picousd) / PICO


def assert_near(spent: Decimal, billed: Decimal) -> None:
    """Check that what counts is within 2 % of the bill."""
    assert abs(spent - billed) <= TOLERANCE * billed, (spent, billed, spent / billed - 1)


@pytest.mark.parametrize(
    ("name", "language"),
    [
        *(("Anthropic", language) for language in WORDS),
        *(("OpenAI chat", language) for language in ("English", "Russian", "code")),
        *(("OpenAI responses", language) for language in ("German", "Chinese")),
        *(("Gemini", language) for language in ("English", "Chinese")),
    ],
)
def test_a_stream_that_is_closed(name: str, language: str, provider: FakeProvider, guard: Guard) -> None:
    """An application that has read enough pays for what was written by then, in any language."""
    api = APIS[name]
    learn(api, provider, language)
    provider.script = reply(api, text(language, seed=99, words=1_500), delay_s=PACE_S * api.tokens_per_event)
    with execution("run", budget_usd=1):
        stream = api.send(provider, usage=False)
        for number, _ in enumerate(stream):
            if number * api.tokens_per_event >= 600:
                break
        stream.close()
    call = left(provider)
    assert call.written_ratio is not None
    assert call.written_ratio < Decimal("0.9")
    assert_near(spent_usd(guard), billed_usd(api, call))


@pytest.mark.parametrize("language", ["English", "Chinese"])
@pytest.mark.parametrize("name", ["OpenAI chat", "OpenAI responses"])
def test_a_stream_of_a_model_not_known_yet(
    name: str, language: str, provider: FakeProvider, guard: Guard
) -> None:
    """OpenAI sends a token with each event, so that nothing must be learnt before."""
    api = APIS[name]
    provider.script = reply(api, text(language, seed=99, words=1_500), delay_s=PACE_S)
    with execution("run", budget_usd=1):
        stream = api.send(provider, usage=False)
        for _, _ in zip(range(600), stream, strict=False):
            pass
        stream.close()
    assert_near(spent_usd(guard), billed_usd(api, left(provider)))


@pytest.mark.parametrize("name", APIS)
def test_a_stream_that_is_cut_by_its_budget(name: str, provider: FakeProvider, guard: Guard) -> None:
    """The bytes stop, the provider sees the connection close, and its bill is what counts."""
    api = APIS[name]
    learn(api, provider, "English")
    written = text("English", seed=99, words=2_200)
    provider.script = reply(api, written, delay_s=PACE_S * api.tokens_per_event)
    budget_usd = len(tokens(written)) * api.output_usd / 10**6 / 2
    received = 0

    def read() -> None:
        nonlocal received
        for _ in api.send(provider, usage=False):
            received += 1

    with execution("run", budget_usd=budget_usd), pytest.raises(BudgetExceeded):
        read()
    call = left(provider)
    assert call.written_ratio is not None
    assert Decimal("0.1") < call.written_ratio < Decimal("0.6")
    assert received * api.tokens_per_event < 0.6 * len(tokens(written))
    assert_near(spent_usd(guard), billed_usd(api, call))
    assert spent_usd(guard) <= budget_usd


def test_gemini_may_tell_the_input_alone(provider: FakeProvider, guard: Guard) -> None:
    """Older models say nothing of the output before its end; what was written counts, not nothing."""
    events = [
        b'data: {"candidates": [{"content": {"parts": [{"text": "one two three four"}]}}], '
        b'"usageMetadata": {"promptTokenCount": 24, "totalTokenCount": 24}}\n\n'
    ] * 50

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=iter(events))

    url = (
        "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse"
    )
    transport = httpx.MockTransport(answer)
    with httpx.Client(transport=transport) as client, execution("run", budget_usd=1):
        assert client.post(url, json={"contents": []}).is_success
    # 50 events of 18 bytes, 4 bytes a token, at 10 USD per million; 24 tokens of input at 1.25
    assert spent_usd(guard) == (225 * Decimal(10) + 24 * Decimal("1.25")) / 10**6


def test_the_span_tells_that_its_usage_is_partial(provider: FakeProvider, guard: Guard) -> None:
    """The span of a cut call has the amount that the guard counts, marked as an estimate and why."""
    with priced_openai(BOOK) as exporter:
        api = APIS["OpenAI chat"]
        provider.script = reply(api, text("English", seed=1, words=300), delay_s=0.001)
        with execution("run", budget_usd=1):
            stream = api.send(provider, usage=False)
            next(iter(stream))
            stream.close()
    (span,) = exporter.get_finished_spans()
    told = dict(span.attributes or {})
    assert told["otel_cost.usage.source"] == "partial"
    assert (told["otel_cost.price.status"], told["otel_cost.price.reason"]) == ("estimated", "partial")
    assert told["otel_cost.usage.marks"] == ("partial",)
    assert Decimal(str(told["otel_cost.cost_usd"])) == spent_usd(guard) > 0


def test_bedrock_finishes_and_bills_what_nobody_reads(provider: FakeProvider, guard: Guard) -> None:
    """Closing its stream saves nothing: the usual output counts, here all that the request allows."""
    provider.script = Reply("one two three four", chunk_delay_s=0.01)
    url = f"{provider.url}/model/anthropic.claude-3-5-sonnet-20240620-v1:0/converse-stream"
    body = {
        "messages": [{"role": "user", "content": [{"text": "hi"}]}],
        "inferenceConfig": {"maxTokens": 500},
    }
    with execution("run", budget_usd=1), httpx.stream("POST", url, json=body) as response:
        next(response.iter_raw())
    # 15 USD per million output tokens (https://aws.amazon.com/bedrock/pricing, 2026-11)
    assert 500 * Decimal(15) / 10**6 <= spent_usd(guard) <= 530 * Decimal(15) / 10**6

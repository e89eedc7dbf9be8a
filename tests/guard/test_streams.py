"""Streams that pass what was held for them: more is held while there is some, then the stream is cut."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import aiohttp
import anthropic
import httpx
import openai
import pytest
import requests

from otel_cost import execution
from otel_cost.budgets import Policy
from otel_cost.errors import BudgetExceeded
from otel_cost.fake_provider import FakeProvider, Reply
from otel_cost.guard import Guard, clients
from otel_cost.ledger.memory import MemoryLedger
from otel_cost.money import PICO
from otel_cost.pricing import PriceBook
from otel_cost.usage import Usage
from tests.guard.opened import opened

BOOK = PriceBook.load()
WORDS = 6_000
WORD = "abc "
"""Four bytes, which is what a token of text is taken to have."""
MESSAGES: Any = [{"role": "user", "content": "tell me everything"}]


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    """A provider that writes a long text, a word at a time."""
    with FakeProvider(Reply(WORD * WORDS, usage=Usage(output_tokens=WORDS))) as made:
        yield made


@pytest.fixture
def guard() -> Iterator[Guard]:
    """A guard that holds what is likely, so that a long answer passes it."""
    made = Guard(Policy.load(environ={}, bound="estimate"), MemoryLedger(), BOOK)
    clients.install(made)
    yield made
    assert made.ledger.open_holds == 0  # type: ignore[attr-defined]
    clients.uninstall()


def _openai(provider: FakeProvider, model: str) -> Iterator[str]:
    client = opened(openai.OpenAI(base_url=provider.openai_url, api_key="x"))
    for chunk in client.chat.completions.create(model=model, messages=MESSAGES, stream=True):
        yield chunk.choices[0].delta.content or ""


def _responses(provider: FakeProvider, model: str) -> Iterator[str]:
    client = opened(openai.OpenAI(base_url=provider.openai_url, api_key="x"))
    for event in client.responses.create(model=model, input="tell me everything", stream=True):
        yield event.delta if event.type == "response.output_text.delta" else ""


def _anthropic(provider: FakeProvider, model: str) -> Iterator[str]:
    client = opened(anthropic.Anthropic(base_url=provider.url, api_key="x"))
    with client.messages.stream(model=model, max_tokens=50_000, messages=MESSAGES) as stream:
        yield from stream.text_stream


def _gemini(provider: FakeProvider, model: str) -> Iterator[str]:
    url = f"{provider.url}/v1beta/models/{model}:streamGenerateContent?alt=sse"
    with httpx.stream("POST", url, json={"contents": [{"parts": [{"text": "tell me"}]}]}) as response:
        for line in response.iter_lines():
            yield WORD if line else ""


def _requests(provider: FakeProvider, model: str) -> Iterator[str]:
    body = {"model": model, "messages": MESSAGES, "stream": True}
    url = f"{provider.openai_url}/chat/completions"
    with requests.post(url, json=body, stream=True, timeout=30) as response:
        for line in response.iter_lines():
            yield WORD if line else ""


# USD per million output tokens: https://openai.com/api/pricing, https://claude.com/pricing,
# https://ai.google.dev/pricing, 2026-11.
STREAMS = {
    "openai": (_openai, "gpt-4o", 10),
    "responses": (_responses, "gpt-4o", 10),
    "requests": (_requests, "gpt-4o", 10),
    "anthropic": (_anthropic, "claude-sonnet-4-6", 15),
    "gemini": (_gemini, "gemini-2.0-flash", "0.4"),
}


def spent(guard: Guard) -> int:
    """Return what the execution spent."""
    return guard.ledger.balance("execution:run").settled_picousd


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_cut_where_its_budget_ends(name: str, provider: FakeProvider, guard: Guard) -> None:
    """Of a budget for 3,000 words the stream uses the better part, and the bytes stop there."""
    send, model, usd_per_mtok = STREAMS[name]
    per_word = int(float(usd_per_mtok) * PICO) // 10**6
    budget = 3_000 * per_word
    received = 0

    def read() -> None:
        nonlocal received
        for text in send(provider, model):
            received += len(text) // len(WORD)

    with execution("run", budget_usd=f"{budget / PICO:.12f}"), pytest.raises(BudgetExceeded):
        read()
    assert 1_000 < received < 3_000
    # What came, but for the input and what a buffer held back; all of it within the budget.
    assert received * per_word <= spent(guard) <= budget
    assert spent(guard) <= 1.05 * received * per_word + 600 * per_word


def test_a_stream_that_fits_is_left_alone(provider: FakeProvider, guard: Guard) -> None:
    """More is held as it goes on, and given back at its end: what counts is the provider's own figure."""
    client = opened(openai.OpenAI(base_url=provider.openai_url, api_key="x"))
    options: Any = {"stream": True, "stream_options": {"include_usage": True}}
    with execution("run", budget_usd="1"):
        chunks = list(client.chat.completions.create(model="gpt-4o", messages=MESSAGES, **options))
    assert len(chunks) > WORDS
    assert spent(guard) == WORDS * 10 * PICO // 10**6


def test_asynchronous_streams_are_cut(provider: FakeProvider, guard: Guard) -> None:
    """The same for httpx's and aiohttp's own loops."""

    async def by_openai() -> None:
        async with openai.AsyncOpenAI(base_url=provider.openai_url, api_key="x") as client:
            async for _ in await client.chat.completions.create(
                model="gpt-4o", messages=MESSAGES, stream=True
            ):
                pass

    async def by_aiohttp() -> None:
        body = {"model": "gpt-4o", "messages": MESSAGES, "stream": True}
        url = f"{provider.openai_url}/chat/completions"
        async with aiohttp.ClientSession() as session, session.post(url, json=body) as response:
            async for _ in response.content:
                pass

    for number, read in enumerate((by_openai, by_aiohttp)):
        with execution(f"run{number}", budget_usd="0.03"), pytest.raises(BudgetExceeded):
            asyncio.run(read())
        balance = guard.ledger.balance(f"execution:run{number}")
        assert PICO // 100 < balance.settled_picousd <= 3 * PICO // 100
        assert balance.reserved_picousd == 0

"""What is done to calls on the way to a budget: real clients, and a provider that says what reached it."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import aiohttp
import anthropic
import boto3
import botocore.config
import httpx
import httpx2
import openai
import pytest
import requests
import urllib3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otel_cost
from otel_cost import execution
from otel_cost.budgets import ENFORCE, ESTIMATE, SHADOW, WARN, Policy
from otel_cost.errors import BudgetExceeded, ConfigError
from otel_cost.fake_provider import Call, FakeProvider, Reply
from otel_cost.guard import Guard, clients, ladder
from otel_cost.guard.control import spending
from otel_cost.guard.rewrites import Change, encoded
from otel_cost.ledger.memory import MemoryLedger
from otel_cost.money import PICO
from otel_cost.pricing import PriceBook
from otel_cost.usage import Usage
from tests.guard.opened import opened
from tests.guard.tracing import priced_openai

BOOK = PriceBook.load()
# USD per million tokens, https://openai.com/api/pricing (2026-11): gpt-4o 2.50 in, 10 out; gpt-4o-mini 0.15
# in, 0.60 out. https://claude.com/pricing (2026-11): Claude Sonnet 3 in, 15 out.
MICRO = PICO // 10**6
OUTPUT = 10_000
"""A dime of gpt-4o."""
MESSAGES: Any = [{"role": "user", "content": "hello"}]
CHAT: dict[str, Any] = {"model": "gpt-4o", "max_tokens": OUTPUT, "messages": MESSAGES}
TOOLS = [{"type": "function", "function": {"name": "search", "parameters": {"type": "object"}}}]


def written(call: Call) -> Reply:
    """Bill as many tokens as the request allows, 10,000 at most."""
    body, inner = call.body, call.body.get("inferenceConfig") or call.body.get("generationConfig") or {}
    limits = [
        holder.get(name)
        for holder in (body, inner)
        for name in (
            "max_tokens",
            "max_completion_tokens",
            "max_output_tokens",
            "maxTokens",
            "maxOutputTokens",
        )
    ]
    return Reply("done", usage=Usage(output_tokens=min([OUTPUT, *(limit for limit in limits if limit)])))


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    """A provider whose models write all they may."""
    with FakeProvider(written) as made:
        yield made


@pytest.fixture(autouse=True)
def _no_guard_after() -> Iterator[None]:
    yield
    guard = clients.current()
    clients.uninstall()
    assert guard is None or guard.ledger.open_holds == 0  # type: ignore[attr-defined]


def guard_of(**settings: Any) -> Guard:
    """Put a guard with these settings in force."""
    made = Guard(Policy.load(environ={}, **{"max_wait_s": 5, **settings}), MemoryLedger(), BOOK)
    clients.install(made)
    return made


def spent(guard: Guard, scope: str = "execution:run") -> int:
    """Return what an execution spent, with nothing left in flight."""
    balance = guard.ledger.balance(scope)
    assert balance.reserved_picousd == 0
    return balance.settled_picousd


def at_once(count: int, run: Callable[[], None]) -> None:
    """Run something in so many threads, and wait for them."""
    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def send(provider: FakeProvider, **changes: Any) -> httpx.Response:
    """Send one chat call."""
    response = httpx.post(f"{provider.openai_url}/chat/completions", json={**CHAT, **changes})
    return response.raise_for_status()


# --- one way of sending a model call, per client ----------------------------------------------------------


def _openai(provider: FakeProvider) -> None:
    opened(openai.OpenAI(base_url=provider.openai_url, api_key="x")).chat.completions.create(**CHAT)


def _openai_async(provider: FakeProvider) -> None:
    async def run() -> None:
        async with openai.AsyncOpenAI(base_url=provider.openai_url, api_key="x") as client:
            await client.chat.completions.create(**CHAT)

    asyncio.run(run())


def _httpx2_stream(provider: FakeProvider) -> None:
    body = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
    with httpx2.stream("POST", f"{provider.openai_url}/chat/completions", json=body) as response:
        response.read()


def _requests(provider: FakeProvider) -> None:
    requests.post(f"{provider.openai_url}/chat/completions", json=CHAT, timeout=9).raise_for_status()


def _requests_text(provider: FakeProvider) -> None:
    headers = {"content-type": "application/json"}
    url = f"{provider.openai_url}/chat/completions"
    requests.post(url, data=json.dumps(CHAT), headers=headers, timeout=9).raise_for_status()


def _urllib3(provider: FakeProvider) -> None:
    text = json.dumps(CHAT)
    headers = {"content-type": "application/json", "content-length": str(len(text))}
    with urllib3.PoolManager() as pool:
        pool.request("POST", f"{provider.openai_url}/chat/completions?x=%20", body=text, headers=headers)


def _aiohttp(provider: FakeProvider, **given: Any) -> None:
    async def run() -> None:
        async with (
            aiohttp.ClientSession(base_url=provider.url) as session,
            session.post("/v1/chat/completions", **(given or {"json": CHAT})) as response,
        ):
            await response.json()

    asyncio.run(run())


def _aiohttp_text(provider: FakeProvider) -> None:
    text = json.dumps(CHAT)
    headers = {"Content-Type": "application/json", "Content-Length": str(len(text))}
    _aiohttp(provider, data=text, headers=headers)


SENDERS: dict[str, Callable[[FakeProvider], None]] = {
    "openai": _openai,
    "openai async": _openai_async,
    "httpx2 stream": _httpx2_stream,
    "requests": _requests,
    "requests text": _requests_text,
    "urllib3": _urllib3,
    "aiohttp": _aiohttp,
    "aiohttp text": _aiohttp_text,
}


# --- clamp ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SENDERS)
def test_the_last_calls_fit(name: str, provider: FakeProvider) -> None:
    """Of 15 cents a dime is spent; the second call may write what a nickel pays for, the third is refused."""
    guard = guard_of(clamp=True)
    with execution("run", budget_usd="0.15"):
        SENDERS[name](provider)
        SENDERS[name](provider)
        with pytest.raises(BudgetExceeded):
            SENDERS[name](provider)
    first, second = provider.requests()
    # held for input: 400 tokens, and one for each byte at most, at 2.50 USD per million; output at 10
    prompt_bytes = int(headers(first)["content-length"])
    tokens = second.body["max_tokens"]
    assert (50_000 * 10 - (prompt_bytes + 400) * 25) // 100 <= tokens <= (50_000 * 10 - 400 * 25) // 100
    assert second.body == {**first.body, "max_tokens": tokens}
    assert headers(second)["content-type"] == headers(first)["content-type"] == "application/json"
    assert spent(guard) == (OUTPUT + tokens) * 10 * MICRO
    assert spent(guard) <= 150_000 * MICRO


def headers(call: Call) -> dict[str, str]:
    """Return the headers of a request by their names in lower case."""
    return {name.lower(): value for name, value in call.headers.items()}


def test_a_request_without_a_limit_gets_one(provider: FakeProvider) -> None:
    """It is OpenAI's own, no higher than every model takes, and what fits where that is less."""
    guard = guard_of(clamp=True)
    client = opened(openai.OpenAI(base_url=provider.openai_url, api_key="x"))
    with execution("run", budget_usd="0.06"):
        for _ in range(2):
            client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    first, second = (call.body["max_completion_tokens"] for call in provider.requests())
    assert first == 4_096
    assert 0 < second < 6_000 - 4_096
    assert spent(guard) == (first + second) * 10 * MICRO


def test_twenty_calls_at_once_keep_the_promise(provider: FakeProvider) -> None:
    """However many at once, spent stays within the budget, and nearly all of it is used."""
    guard = guard_of(clamp=True)
    refused = []

    def call() -> None:
        try:
            send(provider)
        except BudgetExceeded as error:
            refused.append(error)

    with execution("run", budget_usd="0.55"):
        at_once(20, call)
    assert provider.count() + len(refused) == 20
    assert provider.count() >= 6
    assert 540_000 * MICRO <= spent(guard) <= 550_000 * MICRO


def test_thinking_is_lowered_with_the_answer(provider: FakeProvider) -> None:
    """Anthropic's limit stays above its thinking budget, and a call that cannot think at all is refused."""
    guard = guard_of(clamp=True)
    client = opened(anthropic.Anthropic(base_url=provider.url, api_key="x"))
    given: Any = {
        "model": "claude-sonnet-4-6",
        "max_tokens": 9_000,
        "messages": MESSAGES,
        "thinking": {"type": "enabled", "budget_tokens": 8_000},
    }
    with execution("run", budget_usd="0.05"):
        client.messages.create(**given)
        with pytest.raises(BudgetExceeded):
            client.messages.create(**given)
    (call,) = provider.requests()
    # 5 cents, less what is held for some 600 tokens of input at 3 USD, at 15 USD per million
    assert 3_100 < call.body["max_tokens"] < 3_334
    assert call.body["thinking"]["budget_tokens"] == call.body["max_tokens"] // 2
    assert spent(guard) == call.body["max_tokens"] * 15 * MICRO


def test_gemini_is_clamped_in_its_own_place(provider: FakeProvider) -> None:
    """`generationConfig.maxOutputTokens`, whatever else stands there; 0.40 USD per million tokens."""
    guard = guard_of(clamp=True)
    url = f"{provider.url}/v1beta/models/gemini-2.0-flash:generateContent?key=k"
    body = {
        "contents": [{"role": "user", "parts": [{"text": "hello"}]}],
        "generationConfig": {"temperature": 0.5, "maxOutputTokens": 9_000},
    }
    with execution("run", budget_usd="0.002"):
        httpx.post(url, json=body).raise_for_status()
    (call,) = provider.requests()
    limit = call.body["generationConfig"].pop("maxOutputTokens")
    assert call.body["generationConfig"] == {"temperature": 0.5}
    assert 4_700 < limit < 5_000
    assert spent(guard) == limit * 4 * MICRO // 10


# --- Bedrock ----------------------------------------------------------------------------------------------

SONNET = "anthropic.claude-3-5-sonnet-20240620-v1:0"
HAIKU = "anthropic.claude-3-haiku-20240307-v1:0"
SECRET = "wJalrXUtnFEMI"


def _bedrock(provider: FakeProvider) -> Any:
    return boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=provider.url,
        aws_access_key_id="AKID",
        aws_secret_access_key=SECRET,
        config=botocore.config.Config(retries={"total_max_attempts": 2}),
    )


def is_signed(provider: FakeProvider, call: Call, body: bytes) -> bool:
    """Whether a request's signature is the one that AWS would compute for its path, headers and body."""
    sent = headers(call)
    stated = dict(part.strip().split("=", 1) for part in sent["authorization"].split(" ", 1)[1].split(","))
    names = stated["SignedHeaders"].split(";")
    path = call.path if call.path.startswith("/") else f"/{call.path}"
    request = AWSRequest("POST", f"{provider.url}{path}", {name: sent[name] for name in names}, body)
    request.context["timestamp"] = sent["x-amz-date"]
    auth = SigV4Auth(Credentials("AKID", SECRET), "bedrock", "us-east-1")
    to_sign = auth.string_to_sign(request, auth.canonical_request(request))
    return bool(auth.signature(to_sign, request) == stated["Signature"])


def test_bedrock_is_signed_anew(provider: FakeProvider) -> None:
    """A changed model in the path and a changed body have a signature that fits; a retry too."""
    guard = guard_of(clamp=True, downgrade_at_ratio=0.5, downgrade_to={"*sonnet*": HAIKU})
    client = _bedrock(provider)
    given = {
        "modelId": SONNET,
        "messages": [{"role": "user", "content": [{"text": "hello"}]}],
        "inferenceConfig": {"maxTokens": OUTPUT},
    }
    replies = [Reply("ok", usage=Usage(output_tokens=OUTPUT)), Reply(status=500)]
    provider.script = lambda call: replies[call.number - 1] if call.number <= 2 else written(call)
    with execution("run", budget_usd="0.16"):
        client.converse(**given)
        client.converse(**given)
    first, failed, retried = provider.requests()
    assert (first.model, failed.model, retried.model) == (SONNET, HAIKU, HAIKU)
    # what is left is a cent, of which haiku at 1.25 USD per million has 8,000 tokens less its input at 0.25
    limit = retried.body["inferenceConfig"]["maxTokens"]
    assert 7_700 < limit < 8_000
    assert failed.body == retried.body
    for call in (first, failed, retried):
        raw = json.dumps(call.body).encode() if call is first else encoded(call.body)
        assert is_signed(provider, call, raw)
        assert not is_signed(provider, call, raw + b" ")
    assert spent(guard) == 150_000 * MICRO + limit * 125 * MICRO // 100


def test_what_somebody_else_signed_is_not_changed(provider: FakeProvider) -> None:
    """A body whose signature we cannot make goes out as it is, or not at all."""
    guard_of(clamp=True)
    signed = {"authorization": "AWS4-HMAC-SHA256 Credential=AKID"}
    url = f"{provider.openai_url}/chat/completions"
    with execution("run", budget_usd="0.15"):
        httpx.post(url, json=CHAT, headers=signed).raise_for_status()
        with pytest.raises(BudgetExceeded):
            httpx.post(url, json=CHAT, headers=signed)
        with pytest.raises(BudgetExceeded):
            requests.post(url, json=CHAT, headers={"Content-Digest": "sha-256=:x:"}, timeout=9)
    assert provider.count() == 1


# --- downgrade --------------------------------------------------------------------------------------------


def test_a_cheaper_model_from_a_share_on(provider: FakeProvider, caplog: pytest.LogCaptureFixture) -> None:
    """Half of a dollar is spent at 10 USD per million, all further calls are asked of the mini one."""
    guard = guard_of(downgrade_at_ratio=0.5, downgrade_to={"gpt-4o": "gpt-4o-mini"})
    with execution("run", budget_usd="1"):
        for _ in range(8):
            answer = send(provider).json()
    assert [call.model for call in provider.requests()] == ["gpt-4o"] * 5 + ["gpt-4o-mini"] * 3
    assert answer["model"] == "gpt-4o-mini"
    assert spent(guard) == (5 * 100_000 + 3 * 6_000) * MICRO
    told = [r.message for r in caplog.records if "gpt-4o-mini" in r.message]
    assert told == ["execution:run: gpt-4o-mini is asked instead of gpt-4o"]


def test_a_cheaper_model_where_no_other_fits(provider: FakeProvider) -> None:
    """A call that the model asked for is too dear for goes to the first in the row that fits."""
    guard = guard_of(
        downgrade_at_ratio=1, downgrade_to={"gpt-4o": "gpt-4.1", "gpt-4.1": "gpt-4o-mini", "*": "o1"}
    )
    with execution("run", budget_usd="0.105"):
        send(provider)
        with pytest.raises(BudgetExceeded, match=r"this call may cost \$0\.101"):
            send(provider)  # half a cent is left, and the mini one costs 0.6 cents
        with execution("small", budget_usd="0.02"):
            send(provider, max_tokens=4_000)
    assert [call.model for call in provider.requests()] == ["gpt-4o", "gpt-4o-mini"]
    assert spent(guard) == (100_000 + 2_400) * MICRO


def test_a_model_in_the_path_is_changed_there(provider: FakeProvider) -> None:
    """Gemini names it nowhere else; the rest of the URL stays. 0.40 and 0.30 USD per million tokens."""
    guard = guard_of(downgrade_at_ratio=0.5, downgrade_to={"gemini-2.0-flash": "gemini-2.0-flash-lite"})
    url = f"{provider.url}/v1beta/models/gemini-2.0-flash:generateContent?key=k"
    contents = [{"role": "user", "parts": [{"text": "hello"}]}]
    body = {"contents": contents, "generationConfig": {"maxOutputTokens": OUTPUT}}

    async def send_async() -> None:
        async with aiohttp.ClientSession() as session, session.post(url, json=body) as response:
            await response.json()

    with execution("run", budget_usd="0.02"):
        httpx.post(url, json=body)
        provider.script = Reply(usage=Usage(output_tokens=20_000))
        httpx.post(url, json=body)
        provider.script = written
        httpx.post(url, json=body)
        asyncio.run(send_async())
    assert [call.model for call in provider.requests()] == ["gemini-2.0-flash"] * 2 + [
        "gemini-2.0-flash-lite"
    ] * 2
    assert all(call.body == body for call in provider.requests())
    assert spent(guard) == (4_000 + 8_000 + 2 * 3_000) * MICRO


def test_a_model_that_is_not_cheaper_is_never_taken(provider: FakeProvider) -> None:
    """Nor one without a known price, nor one that stands in for itself."""
    guard_of(
        downgrade_at_ratio=0.1,
        unpriced="allow",
        downgrade_to={"gpt-4o": "gpt-4-turbo", "gpt-4o-mini": "nobody-sells-this", "gpt-4.1*": "gpt-4.1"},
    )
    with execution("run", budget_usd="1"):
        send(provider)
        for model in ("gpt-4o", "gpt-4o-mini", "gpt-4.1"):
            send(provider, model=model, max_tokens=100)
    assert [call.model for call in provider.requests()][1:] == ["gpt-4o", "gpt-4o-mini", "gpt-4.1"]


@pytest.mark.parametrize("mode", [SHADOW, WARN])
@pytest.mark.parametrize(
    ("step", "would"),
    [("clamp", ["reminded", "downgraded", "clamped"]), ("wrap_up_call", ["downgraded", "wrap_up"])],
)
def test_softer_modes_change_nothing(step: str, would: list[str], mode: str, provider: FakeProvider) -> None:
    """What would have been done is on the span; what is sent is what the application gave."""
    guard = guard_of(
        mode=mode,
        remind_at_ratio=0.1,
        downgrade_at_ratio=0.5,
        downgrade_to={"gpt-4o": "gpt-4.1"},
        warn_at_ratio="off",
        **{step: True},
    )
    events = recorded(lambda: [send(provider) for _ in range(3)], "0.15")
    assert [call.body for call in provider.requests()] == [CHAT] * 3
    assert {event["otel_cost.mode"] for _, event in events} == {mode}
    seen = [name.removeprefix("otel_cost.") for name, _ in events]
    assert seen == [*would, "refused"]
    assert guard.refusals == 1
    assert spent(guard) == 300_000 * MICRO


# --- events -----------------------------------------------------------------------------------------------


def recorded(run: Callable[[], object], budget_usd: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the events on the span of a model call that is open meanwhile, and what it shows, last."""
    exporter = InMemorySpanExporter()
    tracing = TracerProvider(shutdown_on_exit=False)
    tracing.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = tracing.get_tracer("t")
    with (
        tracer.start_as_current_span("chat", attributes={"gen_ai.operation.name": "chat"}),
        execution("run", budget_usd=budget_usd),
    ):
        run()
    (span,) = exporter.get_finished_spans()
    found = [(event.name, dict(event.attributes or {})) for event in span.events]
    shown = {key: value for key, value in (span.attributes or {}).items() if key.startswith("otel_cost.")}
    return found if not shown else [*found, ("span", {**shown, "otel_cost.mode": ENFORCE})]


def test_every_step_is_an_event(provider: FakeProvider) -> None:
    """Each with the same facts, so that they can be listed together; the span shows what was changed."""
    guard_of(
        clamp=True,
        remind_at_ratio=0.5,
        downgrade_at_ratio=0.5,
        downgrade_to={"gpt-4o": "gpt-4.1"},
        warn_at_ratio=0.9,
    )
    *events, (_, shown) = recorded(lambda: [send(provider), send(provider)], "0.15")
    names = [name for name, _ in events]
    assert names == [
        "otel_cost.reminded",
        "otel_cost.downgraded",
        "otel_cost.clamped",
        "otel_cost.warned",
    ]
    second = provider.requests()[1].body
    for name, event in events:
        assert event["otel_cost.kind"] == "budget_usd"
        assert event["otel_cost.mode"] == ENFORCE
        assert event["otel_cost.execution.id"] == "run"
        assert event["otel_cost.scope"] == "execution:run"
        assert event["otel_cost.limit_usd"] == "0.15"
        if name != "otel_cost.warned":
            assert event["otel_cost.spent_usd"] == "0.1"
            assert Decimal("0.1") < Decimal(event["otel_cost.asked_usd"]) < Decimal("0.102")
    reasons = {name: event["otel_cost.reason"] for name, event in events}
    so_far = "execution:run has spent $0.1 of $0.15"
    assert reasons["otel_cost.reminded"] == so_far
    assert reasons["otel_cost.downgraded"] == f"{so_far}; execution:run: gpt-4.1 is asked instead of gpt-4o"
    tokens = second["max_tokens"]
    assert reasons["otel_cost.clamped"] == (
        f"{so_far}; execution:run has {tokens} output tokens left for its next answer"
    )
    assert "otel_cost.asked_usd" not in dict(events)["otel_cost.warned"]
    assert shown["otel_cost.downgraded_from"] == "gpt-4o"
    assert shown["otel_cost.downgraded_to"] == second["model"] == "gpt-4.1"
    assert shown["otel_cost.clamped_output_tokens"] == second["max_tokens"] < OUTPUT


# --- remind -----------------------------------------------------------------------------------------------


def test_an_agent_is_told_what_remains(provider: FakeProvider) -> None:
    """From half of its budget on, at the end of each request; its own history stays as it is."""
    guard_of(remind_at_ratio=0.5)
    client = opened(openai.OpenAI(base_url=provider.openai_url, api_key="x"))
    history: list[Any] = [{"role": "user", "content": "find it"}]
    left = []
    with execution("run", budget_usd="0.45"):
        for number in range(4):
            client.chat.completions.create(model="gpt-4o", max_tokens=OUTPUT, messages=history)
            left.append(otel_cost.remaining())
            asked = {"id": f"c{number}", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            history.append({"role": "assistant", "content": None, "tool_calls": [asked]})
            history.append({"role": "tool", "tool_call_id": f"c{number}", "content": f"result {number}"})
    assert left == [Decimal("0.35"), Decimal("0.25"), Decimal("0.15"), Decimal("0.05")]
    *quiet, last = [call.body["messages"] for call in provider.requests()]
    assert quiet == [history[: 1 + 2 * number] for number in range(3)]
    assert last[:-1] == history[:6]
    assert last[-1]["content"] == (
        "result 2\n\nNote on the budget: you have $0.15 of $0.45 left for this task; "
        "finish with few further calls."
    )


def test_what_remains_is_known_anywhere(provider: FakeProvider) -> None:
    """Before the first call, in a nested budget, in a thread; None without a limit or a guard."""
    assert spending() is None
    guard_of()
    assert otel_cost.remaining() is None
    with execution("free"):
        assert otel_cost.remaining() is None
    with execution("run", budget_usd="0.25"):
        assert otel_cost.remaining() == Decimal("0.25")
        send(provider)
        seen: list[Decimal | None] = []
        thread = threading.Thread(target=lambda: seen.append(otel_cost.remaining()))
        thread.start()
        thread.join()
        assert seen == [Decimal("0.15")]
        with execution("sub", budget_usd="5"):
            here = spending()
            assert here is not None
            assert here == ("sub", "execution:run", Decimal("0.25"), Decimal("0.1"), Decimal(0))
            assert here.remaining_usd == Decimal("0.15")


# --- the last call ----------------------------------------------------------------------------------------


def test_the_last_call_must_answer(provider: FakeProvider, caplog: pytest.LogCaptureFixture) -> None:
    """Where the next call has no room one more is sent, short and without tools; then there is none."""
    guard = guard_of(wrap_up_call=True)
    client = opened(openai.OpenAI(base_url=provider.openai_url, api_key="x"))
    with execution("run", budget_usd="0.25"):
        for _ in range(3):
            client.chat.completions.create(**CHAT, tools=TOOLS)  # type: ignore[call-overload]
        for _ in range(2):
            with pytest.raises(BudgetExceeded):
                client.chat.completions.create(**CHAT, tools=TOOLS)  # type: ignore[call-overload]
    first, second, last = (call.body for call in provider.requests())
    assert "tool_choice" not in first
    assert first == second
    assert last["tool_choice"] == "none"
    assert last["tools"] == TOOLS
    assert last["messages"][-1]["content"].endswith("without calling any tool.")
    # what is left is a nickel, less what is held for some 700 tokens of input
    assert 4_700 < last["max_tokens"] < 5_000
    assert spent(guard) == (200_000 + 10 * last["max_tokens"]) * MICRO <= 250_000 * MICRO
    told = [r.message for r in caplog.records if "sum up" in r.message]
    assert told == ["execution:run has one more call, to sum up"]


def test_money_is_kept_back_for_the_last_call(provider: FakeProvider) -> None:
    """A call that would leave nothing for it is the last one itself, although it has room."""
    guard_of(wrap_up_call=True)
    with execution("run", budget_usd="0.205"):
        send(provider)
        send(provider)
        with pytest.raises(BudgetExceeded):
            send(provider)
    first, last = (call.body for call in provider.requests())
    assert first == CHAT
    assert last["messages"] != MESSAGES
    assert last["max_tokens"] == OUTPUT


def test_a_last_call_that_cannot_fit_is_none(provider: FakeProvider) -> None:
    """Where not even a few tokens are left the execution ends at once, and so where it may not be changed."""
    guard_of(wrap_up_call=True)
    with execution("run", budget_usd="0.0001"), pytest.raises(BudgetExceeded):
        send(provider)
    assert provider.count() == 0


def test_a_last_call_that_failed_is_made_again(provider: FakeProvider) -> None:
    """The provider's error cost nothing, so the client's retry is still the last call."""
    guard_of(wrap_up_call=True)
    replies = {2: Reply(status=500, error="down")}
    provider.script = lambda call: replies.get(call.number, written(call))
    client = opened(openai.OpenAI(base_url=provider.openai_url, api_key="x", max_retries=1))
    with execution("run", budget_usd="0.15"):
        client.chat.completions.create(**CHAT)
        client.chat.completions.create(**CHAT)
        with pytest.raises(BudgetExceeded):
            client.chat.completions.create(**CHAT)
    bodies = [call.body for call in provider.requests()]
    assert len(bodies) == 3
    assert bodies[1] == bodies[2] != bodies[0]


def test_one_thread_of_many_makes_the_last_call(provider: FakeProvider) -> None:
    """All others are refused, and the budget holds."""
    guard = guard_of(wrap_up_call=True)
    refused = []

    def agent() -> None:
        try:
            for _ in range(10):
                send(provider)
        except BudgetExceeded as error:
            refused.append(error)

    with execution("run", budget_usd="0.55"):
        at_once(8, agent)
    assert len(refused) == 8
    assert sum(call.body["messages"] != MESSAGES for call in provider.requests()) == 1
    assert spent(guard) <= 550_000 * MICRO


# --- approval ---------------------------------------------------------------------------------------------


def test_an_approved_execution_goes_on(provider: FakeProvider, caplog: pytest.LogCaptureFixture) -> None:
    """As the error says: from any thread, what it spent still counts, and the new limit holds."""
    guard = guard_of(wrap_up_call=True)

    def run() -> None:
        for _ in range(2):
            send(provider)
        with pytest.raises(BudgetExceeded, match=r"call otel_cost.approve\('run', budget_usd=...\)"):
            send(provider)
        approving = threading.Thread(target=otel_cost.approve, args=("run",), kwargs={"budget_usd": "0.45"})
        approving.start()
        approving.join()
        otel_cost.approve("run", budget_usd="0.35")
        for _ in range(2):
            send(provider)
        with pytest.raises(BudgetExceeded, match=r"may spend \$0\.35"):
            send(provider)

    events = recorded(run, "0.15")
    first, approved = (event for name, event in events if name == "otel_cost.approved")
    assert first["otel_cost.limit_usd"] == "0.45"
    assert approved["otel_cost.limit_usd"] == "0.35"
    assert approved["otel_cost.scope"] == "execution:run"
    # of each limit a dime is spent on a call as it was asked for, and what remains on the last one
    assert [call.body == CHAT for call in provider.requests()] == [True, False, True, False]
    assert 340_000 * MICRO <= spent(guard) <= 350_000 * MICRO


def test_what_a_detector_ended_may_go_on(provider: FakeProvider) -> None:
    """An approval forgets that too."""
    provider.script = Reply(status=500, error="down")
    guard_of(retry_storm="kill")

    def agent() -> None:
        for _ in range(20):
            httpx.post(f"{provider.openai_url}/chat/completions", json=CHAT)

    with execution("run", budget_usd="1"):
        with pytest.raises(BudgetExceeded):
            agent()
        before = provider.count()
        with pytest.raises(BudgetExceeded):
            agent()
        assert provider.count() == before
        otel_cost.approve("run", budget_usd="1")
        provider.script = written
        send(provider)


def test_what_cannot_be_approved() -> None:
    """An amount that is none, and a process without a guard."""
    with pytest.raises(ConfigError, match="no guard is in force"):
        otel_cost.approve("run", budget_usd=1)
    guard_of()
    with pytest.raises(ConfigError, match="is not an amount of USD; write 10"):
        otel_cost.approve("run", budget_usd="much")


def test_an_execution_that_nobody_has_seen_is_not_approved(provider: FakeProvider) -> None:
    """A mistyped id is an error, and gives nobody a limit; an execution with one is known before it calls."""
    guard = guard_of()
    with execution("run", budget_usd="0"):
        with pytest.raises(ConfigError, match=r"no execution 'rnu' .* write the id or the scope"):
            otel_cost.approve("rnu", budget_usd="1")
        otel_cost.approve("run", budget_usd="0.15")
        send(provider)
    with execution("rnu"):
        send(provider)
    assert guard.ledger.balance("execution:rnu").limit_picousd is None


# --- streams ----------------------------------------------------------------------------------------------


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the names of providers lead to this machine."""
    real = socket.getaddrinfo

    def local(host: Any, *args: Any, **kwargs: Any) -> Any:
        is_provider = host in ("api.openai.com", "gateway.example", b"api.openai.com")
        return real("127.0.0.1" if is_provider else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", local)


def _base_url(provider: FakeProvider, host: str) -> str:
    return provider.openai_url.replace("127.0.0.1", host)


@pytest.mark.usefixtures("hosts")
def test_a_stream_is_billed_by_usage_nobody_asked_for(provider: FakeProvider) -> None:
    """The loop that reads `choices[0]` of every chunk never sees the chunk that has none."""
    provider.script = Reply("a b c", usage=Usage(output_tokens=7_000))
    guard = guard_of()
    url = _base_url(provider, "api.openai.com")

    def read() -> str:
        stream = opened(openai.OpenAI(base_url=url, api_key="x")).chat.completions.create(**CHAT, stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in stream)

    async def read_async() -> str:
        async with openai.AsyncOpenAI(base_url=url, api_key="x") as client:
            stream = await client.chat.completions.create(**CHAT, stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    with execution("run", budget_usd="1"):
        assert read() == "a b c"
        assert asyncio.run(read_async()) == "a b c"
    assert spent(guard) == 2 * 70_000 * MICRO
    assert all(call.body["stream_options"] == {"include_usage": True} for call in provider.requests())


@pytest.mark.usefixtures("hosts")
def test_the_span_has_the_usage_that_the_application_does_not_see(provider: FakeProvider) -> None:
    """An instrumentation sees what the application sees, so the guard tells its span: 1,000 tokens in, 600 of
    them cached, 200 out of gpt-4o are 400 x 2.50 + 600 x 1.25 + 200 x 10 = 3,750 millionths of a dollar."""
    provider.script = Reply("a b c", usage=Usage(input_tokens=400, cache_read_tokens=600, output_tokens=200))
    guard = guard_of()
    with priced_openai(BOOK) as exporter:
        client = opened(openai.OpenAI(base_url=_base_url(provider, "api.openai.com"), api_key="x"))
        with execution("run", budget_usd="1"):
            for chunk in client.chat.completions.create(**CHAT, stream=True):
                assert chunk.choices
    (span,) = exporter.get_finished_spans()
    told = dict(span.attributes or {})
    assert (told["otel_cost.cost_usd"], told["otel_cost.price.status"]) == ("0.00375", "priced")
    assert "otel_cost.usage.source" not in told
    assert spent(guard) == 3_750 * MICRO


@pytest.mark.usefixtures("hosts")
@pytest.mark.parametrize(
    ("host", "settings"),
    [
        ("gateway.example", {}),
        ("api.openai.com", {"ask_for_usage": False}),
        ("api.openai.com", {"mode": SHADOW}),
        ("api.openai.com", {"budget_usd": "off"}),
    ],
)
def test_where_usage_is_not_asked_for(host: str, settings: Any, provider: FakeProvider) -> None:
    """Of unknown hosts, where it is switched off, where nothing may be changed or nothing is limited."""
    guard_of(**{"budget_usd": "1", **settings})
    with execution("run"):
        client = opened(openai.OpenAI(base_url=_base_url(provider, host), api_key="x"))
        for chunk in client.chat.completions.create(**CHAT, stream=True):
            assert chunk.choices
    assert provider.requests()[0].body == {**CHAT, "stream": True}


@pytest.mark.usefixtures("hosts")
def test_who_asks_for_usage_gets_it(provider: FakeProvider) -> None:
    """Nothing is taken from an application that reads the last chunk."""
    provider.script = Reply("a b c", usage=Usage(output_tokens=7))
    guard_of(budget_usd="1")
    client = opened(openai.OpenAI(base_url=_base_url(provider, "api.openai.com"), api_key="x"))
    with execution("run"):
        stream = client.chat.completions.create(**CHAT, stream=True, stream_options={"include_usage": True})
        usages = [chunk.usage for chunk in stream]
    assert usages[-1] is not None
    assert usages[-1].completion_tokens == 7


# --- what must not happen ---------------------------------------------------------------------------------


def test_bytes_that_are_not_changed_go_out_as_they_are() -> None:
    """However a body is written, and although every step of the ladder is on."""
    guard_of(
        clamp=True,
        remind_at_ratio=0.9,
        downgrade_at_ratio=0.9,
        downgrade_to={"gpt-4o": "gpt-4o-mini"},
        wrap_up_call=True,
    )
    odd = b'{ "model" :"gpt-4o","max_tokens":10,\n "messages":[{"role":"user","content":"\\u00e9"}], "x":1.0}'
    sent = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append((str(request.url), request.content, request.headers.get("content-length")))
        return httpx.Response(200, json={"usage": {"prompt_tokens": 1, "completion_tokens": 1}})

    url = "https://api.openai.com/v1/chat/completions?a=b%20c"
    with execution("run", budget_usd="1"), httpx.Client(transport=httpx.MockTransport(answer)) as client:
        client.post(url, content=odd)
    assert sent == [(url, odd, str(len(odd)))]


def test_a_changed_request_leaves_the_applications_own_alone(provider: FakeProvider) -> None:
    """One that is kept and sent again says what it said."""
    guard_of(remind_at_ratio=0.1)
    with execution("run", budget_usd="1"), httpx.Client() as client, requests.Session() as session:
        send(provider)
        url = f"{provider.openai_url}/chat/completions"
        kept = client.build_request("POST", url, json=CHAT)
        prepared = session.prepare_request(requests.Request("POST", url, json=CHAT))
        before = (kept.content, prepared.body)
        for _ in range(2):
            client.send(kept)
            session.send(prepared)
        assert (kept.content, prepared.body) == before
    notes = [json.dumps(call.body).count("Note on the budget") for call in provider.requests()]
    assert notes == [0, 1, 1, 1, 1]


@pytest.mark.parametrize("name", SENDERS)
@pytest.mark.parametrize("step", ["with_note", "change"])
def test_a_rewriter_that_fails_lets_the_call_pass(
    step: str, name: str, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it was asked for, with its own hold."""
    guard = guard_of(remind_at_ratio=0.1, clamp=True, wrap_up_call=True)

    def broken(*args: object, **kwargs: object) -> Any:
        raise RuntimeError("a bug")

    with execution("run", budget_usd="1"):
        SENDERS[name](provider)
        monkeypatch.setattr(ladder, step, broken)
        SENDERS[name](provider)
    first, second = provider.requests()
    assert first.body == second.body
    assert spent(guard) == 200_000 * MICRO


@pytest.mark.parametrize(("on_failure", "sent"), [("allow", 2), ("deny", 1)])
def test_a_change_that_cannot_be_applied(
    on_failure: str, sent: int, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call passes unchanged, or is refused where the policy says that a failing guard denies."""
    guard_of(remind_at_ratio=0.1, on_failure=on_failure)
    with execution("run", budget_usd="1"):
        send(provider)
        monkeypatch.setattr(ladder, "change", lambda call: Change("http://a\n", b"", {}))
        if on_failure == "deny":
            with pytest.raises(BudgetExceeded, match="OTEL_COST_GUARD_ON_FAILURE=allow"):
                send(provider)
        else:
            send(provider)
    assert [call.body for call in provider.requests()] == [CHAT] * sent


def test_estimates_are_clamped_too(provider: FakeProvider) -> None:
    """In the mode `estimate` the likely output is held, and what is sent is limited to what is left."""
    guard = guard_of(clamp=True, bound=ESTIMATE)
    with execution("run", budget_usd="0.005"):
        httpx.post(
            f"{provider.openai_url}/chat/completions", json={"model": "gpt-4o", "messages": MESSAGES}
        ).raise_for_status()
    (call,) = provider.requests()
    assert 0 < call.body["max_completion_tokens"] < 500
    assert spent(guard) <= 5_000 * MICRO


def test_warnings_are_events_too(provider: FakeProvider, caplog: pytest.LogCaptureFixture) -> None:
    """Once an execution, at the share that the policy says."""
    guard_of(warn_at_ratio=0.5)
    with caplog.at_level(logging.WARNING):
        events = recorded(lambda: [send(provider) for _ in range(3)], "0.35")
    assert [name for name, _ in events] == ["otel_cost.warned"]
    assert events[0][1]["otel_cost.spent_usd"] == "0.2"

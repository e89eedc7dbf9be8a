"""The guard at every client that model SDKs send through: real clients, a provider that counts requests."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
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
from opentelemetry.sdk.trace import TracerProvider

from otel_cost import execution
from otel_cost.attribution import budget_of_context
from otel_cost.budgets import ESTIMATE, SHADOW, WARN, Policy
from otel_cost.errors import BudgetExceeded, ConfigError
from otel_cost.fake_provider import FakeProvider, Reply
from otel_cost.guard import Guard, clients
from otel_cost.ledger.memory import MemoryLedger
from otel_cost.money import PICO
from otel_cost.pricing import PriceBook
from otel_cost.usage import Usage
from tests.guard.opened import opened
from tests.waiting import until

BOOK = PriceBook.load()
DIME = PICO // 10
OUTPUT = 10_000
"""Output tokens of gpt-4o that cost a dime: 10 USD per million (https://openai.com/api/pricing, 2026-11)."""
MESSAGES = [{"role": "user", "content": "hello"}]
CHAT = {"model": "gpt-4o", "max_tokens": OUTPUT, "messages": MESSAGES}


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    """A provider that bills a dime a call, after a moment."""
    with FakeProvider(Reply("one two three", usage=Usage(output_tokens=OUTPUT), delay_s=0.02)) as made:
        yield made


@pytest.fixture
def guard() -> Iterator[Guard]:
    """A guard in force, without a limit of its own."""
    made = guard_of()
    yield made
    assert made.ledger.open_holds == 0  # type: ignore[attr-defined]
    clients.uninstall()


def guard_of(**settings: Any) -> Guard:
    """Put a new guard in force."""
    made = Guard(Policy.load(environ={}, max_wait_s=5, **settings), MemoryLedger(), BOOK)
    clients.install(made)
    return made


def settled(guard: Guard, scope: str = "execution:run") -> int:
    """Return what an execution spent, with nothing left in flight."""
    balance = guard.ledger.balance(scope)
    assert balance.reserved_picousd == 0
    return balance.settled_picousd


def collected(guard: Guard) -> int:
    """Return what an execution spent, once streams that nobody has any more are settled."""
    gc.collect()
    until(lambda: guard.ledger.balance("execution:run").reserved_picousd == 0)
    return settled(guard)


# --- one way of sending a model call, per client ----------------------------------------------------------


def _openai(provider: FakeProvider) -> None:
    opened(openai.OpenAI(base_url=provider.openai_url, api_key="x")).chat.completions.create(**CHAT)  # type: ignore[call-overload]


def _openai_stream(provider: FakeProvider) -> None:
    client = opened(openai.OpenAI(base_url=provider.openai_url, api_key="x"))
    options = {"stream": True, "stream_options": {"include_usage": True}}
    for _ in client.chat.completions.create(**CHAT, **options):  # type: ignore[call-overload]
        pass


def _httpx(provider: FakeProvider) -> None:
    with httpx.Client() as client:
        client.post(f"{provider.openai_url}/chat/completions", json=CHAT).raise_for_status()


def _httpx_stream(provider: FakeProvider) -> None:
    body = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
    with httpx2.stream("POST", f"{provider.openai_url}/chat/completions", json=body) as response:
        for _ in response.iter_lines():
            pass


def _requests(provider: FakeProvider) -> None:
    requests.post(f"{provider.openai_url}/chat/completions", json=CHAT, timeout=10).raise_for_status()


def _requests_stream(provider: FakeProvider) -> None:
    body = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
    url = f"{provider.openai_url}/chat/completions"
    with requests.post(url, json=body, timeout=10, stream=True) as response:
        for _ in response.iter_lines():
            pass


def _urllib3(provider: FakeProvider) -> None:
    assert urllib3.request("POST", f"{provider.openai_url}/chat/completions", json=CHAT).status == 200


def _urllib3_stream(provider: FakeProvider) -> None:
    body = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
    url = f"{provider.openai_url}/chat/completions"
    for _ in urllib3.request("POST", url, json=body, preload_content=False):
        pass


def _bedrock_client(provider: FakeProvider) -> Any:
    return boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=provider.url,
        aws_access_key_id="x",
        aws_secret_access_key="x",
        config=botocore.config.Config(retries={"total_max_attempts": 1}),
    )


# Claude 3.5 Sonnet on Bedrock: 15 USD per million output tokens
# (https://aws.amazon.com/bedrock/pricing, 2026-11).
CONVERSE = {
    "modelId": "anthropic.claude-3-5-sonnet-20240620-v1:0",
    "messages": [{"role": "user", "content": [{"text": "hello"}]}],
    "inferenceConfig": {"maxTokens": OUTPUT},
}


def _bedrock(provider: FakeProvider) -> None:
    _bedrock_client(provider).converse(**CONVERSE)


def _bedrock_stream(provider: FakeProvider) -> None:
    for _ in _bedrock_client(provider).converse_stream(**CONVERSE)["stream"]:
        pass


async def _openai_async(provider: FakeProvider) -> None:
    async with openai.AsyncOpenAI(base_url=provider.openai_url, api_key="x") as client:
        await client.chat.completions.create(**CHAT)  # type: ignore[call-overload]


async def _httpx_async_stream(provider: FakeProvider) -> None:
    body = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
    url = f"{provider.openai_url}/chat/completions"
    async with httpx.AsyncClient() as client, client.stream("POST", url, json=body) as response:
        async for _ in response.aiter_lines():
            pass


async def _aiohttp(provider: FakeProvider) -> None:
    url = f"{provider.openai_url}/chat/completions"
    async with aiohttp.ClientSession() as session, session.post(url, json=CHAT) as response:
        await response.json()


async def _aiohttp_stream(provider: FakeProvider) -> None:
    body = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
    url = f"{provider.openai_url}/chat/completions"
    async with aiohttp.ClientSession() as session, session.post(url, json=body) as response:
        async for _ in response.content:
            pass


def in_loop(send: Callable[[FakeProvider], Awaitable[None]]) -> Callable[[FakeProvider], None]:
    """Return a way of sending that runs a loop of its own."""

    async def run(provider: FakeProvider) -> None:
        await send(provider)

    return lambda provider: asyncio.run(run(provider))


SENDERS: dict[str, Callable[[FakeProvider], None]] = {
    "openai": _openai,
    "openai stream": _openai_stream,
    "httpx": _httpx,
    "httpx2 stream": _httpx_stream,
    "requests": _requests,
    "requests stream": _requests_stream,
    "urllib3": _urllib3,
    "urllib3 stream": _urllib3_stream,
    "openai async": in_loop(_openai_async),
    "httpx async stream": in_loop(_httpx_async_stream),
    "aiohttp": in_loop(_aiohttp),
    "aiohttp stream": in_loop(_aiohttp_stream),
}
BEDROCK_SENDERS = {"botocore": _bedrock, "botocore stream": _bedrock_stream}


@pytest.mark.parametrize("name", SENDERS)
def test_a_loop_ends_at_its_budget(name: str, provider: FakeProvider, guard: Guard) -> None:
    """Three dimes are sent of a budget of 35 cents; the fourth request never leaves, however often tried."""
    with execution("run", budget_usd="0.35"):
        for _ in range(3):
            SENDERS[name](provider)
        for _ in range(3):
            with pytest.raises(BudgetExceeded, match=r"may spend \$0\.35"):
                SENDERS[name](provider)
    assert provider.count() == 3
    assert settled(guard) == 3 * DIME


@pytest.mark.parametrize("name", BEDROCK_SENDERS)
def test_bedrock_ends_at_its_budget(name: str, provider: FakeProvider, guard: Guard) -> None:
    """The same for botocore, whose requests are signed: 15 cents a call."""
    with execution("run", budget_usd="0.40"):
        for _ in range(2):
            BEDROCK_SENDERS[name](provider)
        with pytest.raises(BudgetExceeded):
            BEDROCK_SENDERS[name](provider)
    assert provider.count() == 2
    assert settled(guard) == 2 * 15 * PICO // 100


def test_what_swallows_every_exception_still_ends(provider: FakeProvider, guard: Guard) -> None:
    """`except Exception: continue`, the loop that no error ends."""

    def agent() -> None:
        while True:
            try:
                _openai(provider)
            except Exception:  # noqa: PERF203 the loop is the point
                continue

    with execution("run", budget_usd=0.25), pytest.raises(BudgetExceeded):
        agent()
    assert provider.count() == 2


def test_what_swallows_even_this_sends_nothing(provider: FakeProvider, guard: Guard) -> None:
    """A bare `except:` goes on, without a request."""
    with execution("run", budget_usd="0.10"):
        for _ in range(50):
            try:
                _openai(provider)
            except:  # noqa: E722, PERF203 the loop is the point
                continue
    assert provider.count() == 0
    assert guard.refusals == 50


@pytest.mark.parametrize("count", [20, 100])
def test_threads_share_the_budget_of_their_execution(
    count: int, provider: FakeProvider, guard: Guard
) -> None:
    """Calls at once never pass the cap, and use nine tenths of it: they wait for each other's holds."""
    client = opened(openai.OpenAI(base_url=provider.openai_url, api_key="x"))
    refused = []

    def call() -> None:
        try:
            client.chat.completions.create(**CHAT)  # type: ignore[call-overload]
        except BudgetExceeded as error:
            refused.append(error)

    with execution("run", budget_usd=1):
        threads = [threading.Thread(target=call) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert 9 <= provider.count() <= 10
    assert settled(guard) == provider.count() * DIME
    assert len(refused) == count - provider.count()


@pytest.mark.parametrize("count", [20, 100, 500])
def test_tasks_share_the_budget_of_their_execution(count: int, provider: FakeProvider, guard: Guard) -> None:
    """The same with asyncio."""

    async def run() -> list[object]:
        async with openai.AsyncOpenAI(base_url=provider.openai_url, api_key="x") as client:

            async def call() -> int:
                try:
                    await client.chat.completions.create(**CHAT)  # type: ignore[call-overload]
                except BudgetExceeded:
                    return 0
                return 1

            with execution("run", budget_usd=1):
                return await asyncio.gather(*(call() for _ in range(count)))

    sent = sum(asyncio.run(run()))  # type: ignore[arg-type]
    assert sent == provider.count()
    assert 9 <= sent <= 10
    assert settled(guard) == sent * DIME


def test_in_estimate_mode_at_most_one_call_is_over(provider: FakeProvider) -> None:
    """Without an output limit the usual output is held; what is over is known when the next call asks."""
    guard = guard_of(bound=ESTIMATE)
    client = opened(openai.OpenAI(base_url=provider.openai_url, api_key="x"))

    def agent() -> None:
        for _ in range(30):
            client.chat.completions.create(model="gpt-4o", messages=MESSAGES)  # type: ignore[call-overload]

    with execution("run", budget_usd="1"), pytest.raises(BudgetExceeded):
        agent()
    assert 9 <= provider.count() <= 11
    assert settled(guard) <= 11 * DIME
    clients.uninstall()


def test_a_sub_agent_has_what_its_parent_has_left(provider: FakeProvider, guard: Guard) -> None:
    """A nested budget is capped by the one around it, and spends from it."""
    with execution("run", budget_usd="0.35"):
        _openai(provider)
        with execution(budget_usd="0.15"):
            _openai(provider)
            with pytest.raises(BudgetExceeded, match=r"\$0\.15"):
                _openai(provider)
        with execution("sub", budget_usd="5"):
            _openai(provider)
            with pytest.raises(BudgetExceeded, match=r"\$0\.35.*\(execution:run\)"):
                _openai(provider)
    assert provider.count() == 3
    assert settled(guard) == 3 * DIME
    assert settled(guard, "execution:sub") == DIME


@pytest.mark.parametrize("inner", [["sub"], ["sub", "subsub"], [None, "sub"]])
def test_outer_budgets_hold_before_they_are_used(
    inner: list[str | None], provider: FakeProvider, guard: Guard
) -> None:
    """However deep the first call is made, all budgets around it count it and stop the next."""
    with contextlib.ExitStack() as nested:
        for name, budget in (("run", "0.15"), *((name, "5") for name in inner)):
            nested.enter_context(execution(name, budget_usd=budget))
        _openai(provider)
        with pytest.raises(BudgetExceeded, match=r"\$0\.15.*\(execution:run\)"):
            _openai(provider)
    assert provider.count() == 1
    assert settled(guard) == DIME


def test_a_provider_that_refuses_bills_nothing(guard: Guard) -> None:
    """Errors and retries give their hold back; a provider that does not answer at all does too."""
    with FakeProvider(Reply(status=500, error="down")) as failing, execution("run", budget_usd="0.25"):
        client = opened(openai.OpenAI(base_url=failing.openai_url, api_key="x", max_retries=4))
        for _ in range(3):
            with pytest.raises(openai.InternalServerError):
                client.chat.completions.create(**CHAT, timeout=5)  # type: ignore[call-overload]
        assert failing.count() == 15
    with execution("run"), pytest.raises(httpx.ConnectError):
        httpx.post("http://127.0.0.1:9/v1/chat/completions", json=CHAT)
    with execution("run"), pytest.raises(requests.ConnectionError):
        requests.post("http://127.0.0.1:9/v1/chat/completions", json=CHAT, timeout=5)
    with execution("run"), pytest.raises(urllib3.exceptions.MaxRetryError):
        urllib3.request("POST", "http://127.0.0.1:9/v1/chat/completions", json=CHAT, retries=1)
    assert settled(guard) == 0


def _raise_for_status(response: Any, *args: object, **kwargs: object) -> None:
    response.raise_for_status()


async def _raise_for_status_async(response: httpx.Response) -> None:
    response.raise_for_status()


def _raise_own_error(response: httpx.Response) -> None:
    try:
        response.raise_for_status()
    except httpx.HTTPStatusError as error:
        raise LookupError("no answer") from error


def _httpx_hook(url: str) -> None:
    with httpx.Client(event_hooks={"response": [_raise_for_status]}) as client:
        client.post(url, json=CHAT)


def _httpx_hook_of_ones_own(url: str) -> None:
    with httpx.Client(event_hooks={"response": [_raise_own_error]}) as client:
        client.post(url, json=CHAT)


def _httpx2_async_hook(url: str) -> None:
    async def run() -> None:
        async with httpx2.AsyncClient(event_hooks={"response": [_raise_for_status_async]}) as client:
            await client.post(url, json=CHAT)

    asyncio.run(run())


def _requests_hook(url: str) -> None:
    with requests.Session() as session:
        session.hooks["response"].append(_raise_for_status)
        session.post(url, json=CHAT, timeout=5)


def _requests_retries(url: str) -> None:
    retries = urllib3.Retry(2, status_forcelist=[429], allowed_methods=None, backoff_factor=0)
    with requests.Session() as session:
        session.mount("http://", requests.adapters.HTTPAdapter(max_retries=retries))
        session.post(url, json=CHAT, timeout=5)


def _urllib3_retries(url: str) -> None:
    retries = urllib3.Retry(2, status_forcelist=[429], allowed_methods=None, backoff_factor=0)
    urllib3.request("POST", url, json=CHAT, retries=retries)


def _aiohttp_raising(url: str) -> None:
    async def run() -> None:
        async with aiohttp.ClientSession(raise_for_status=True) as session:
            await session.post(url, json=CHAT)

    asyncio.run(run())


@pytest.mark.parametrize(
    "send",
    [
        _httpx_hook,
        _httpx_hook_of_ones_own,
        _httpx2_async_hook,
        _requests_hook,
        _requests_retries,
        _urllib3_retries,
        _aiohttp_raising,
    ],
    ids=lambda send: send.__name__,
)
def test_a_client_that_raises_for_a_refusal_owes_nothing(send: Callable[[str], None], guard: Guard) -> None:
    """A provider that answers 429 bills nothing, also where the client raises before anybody sees it."""
    with FakeProvider(Reply(status=429)) as busy, execution("run", budget_usd="0.15"):
        for _ in range(3):
            with pytest.raises(Exception, match=r"429|no answer"):
                send(f"{busy.openai_url}/chat/completions")
        assert busy.count() >= 3
    assert settled(guard) == 0


def test_a_hook_that_raises_for_an_answer_leaves_it_billed(provider: FakeProvider, guard: Guard) -> None:
    """Only an error status says that nothing is billed: an answer that a hook does not like counts."""

    def reject(response: httpx.Response) -> None:
        raise ValueError(response.status_code)

    client = opened(httpx.Client(event_hooks={"response": [reject]}))
    with execution("run", budget_usd="1"), pytest.raises(ValueError, match="200"):
        client.post(f"{provider.openai_url}/chat/completions", json=CHAT)
    assert settled(guard) > 0


def test_an_answer_that_aiohttp_cannot_read_counts(guard: Guard) -> None:
    """Its error has the status 400, which the provider did not send."""

    async def garble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"no HTTP\r\n\r\n")
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(garble, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/chat/completions"
        async with server, aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientResponseError, match="400"):
                await session.post(url, json=CHAT)

    with execution("run", budget_usd="1"):
        asyncio.run(run())
    assert settled(guard) > 0


def test_an_answer_that_never_came_counts(provider: FakeProvider, guard: Guard) -> None:
    """After a timeout the provider goes on and bills: an estimate counts, not nothing."""
    provider.script = Reply("late", delay_s=1)
    with execution("run", budget_usd="1"), pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{provider.openai_url}/chat/completions", json=CHAT, timeout=0.1)
    assert 0 < settled(guard) <= DIME + DIME // 10


def test_streams_settle_on_every_way_out(provider: FakeProvider, guard: Guard) -> None:
    """Closed early, dropped unread, cancelled: no hold stays, and what was sent counts."""
    client = opened(openai.OpenAI(base_url=provider.openai_url, api_key="x"))
    with execution("run", budget_usd="1"):
        stream = client.chat.completions.create(**CHAT, stream=True)  # type: ignore[call-overload]
        next(iter(stream))
        stream.close()
        after_closing = settled(guard)
        client.chat.completions.create(**CHAT, stream=True)  # type: ignore[call-overload]
        after_dropping = collected(guard)
    assert 0 < after_closing < after_dropping < DIME


def test_thinking_that_is_not_streamed_counts(
    provider: FakeProvider, guard: Guard, caplog: pytest.LogCaptureFixture
) -> None:
    """A stream without usage of a model that thinks is taken for all it may write, not for its few words."""
    client = opened(openai.OpenAI(base_url=provider.openai_url, api_key="x"))
    spent = {}
    for model in ("gpt-5", "gpt-4o"):
        with execution(model, budget_usd="1"):
            stream = client.chat.completions.create(  # type: ignore[call-overload]
                model=model, messages=MESSAGES, stream=True, max_completion_tokens=2_000
            )
            for _ in stream:
                pass
        spent[model] = settled(guard, f"execution:{model}")
    # 2,000 tokens at 10 USD per million (https://openai.com/api/pricing, 2026-11), and the few of three words
    assert spent["gpt-5"] >= 2_000 * PICO // 10**5
    assert 0 < spent["gpt-4o"] < spent["gpt-5"] // 4
    (told,) = [r.message for r in caplog.records if "without usage" in r.message]
    assert told.startswith("a stream of gpt-5 ended without usage, so 2000 output tokens are taken")


def test_cancelled_tasks_leave_no_hold(provider: FakeProvider, guard: Guard) -> None:
    """Wherever a task is cancelled while it streams, its hold is settled."""
    provider.script = Reply("a b c d e", usage=Usage(output_tokens=5), chunk_delay_s=0.01)

    async def stream() -> None:
        async with openai.AsyncOpenAI(base_url=provider.openai_url, api_key="x") as client:
            async for _ in await client.chat.completions.create(**CHAT, stream=True):  # type: ignore[call-overload]
                pass

    async def run() -> None:
        for step in range(12):
            task = asyncio.create_task(stream())
            await asyncio.sleep(step * 0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    with execution("run", budget_usd="1"):
        asyncio.run(run())
    collected(guard)


def test_other_traffic_is_not_touched(provider: FakeProvider, guard: Guard) -> None:
    """A request that is no model call passes with no budget at all."""
    with execution("run", budget_usd=0):
        assert httpx.get(provider.url).status_code == 501
        assert requests.post(f"{provider.url}/orders", json={"model": "T"}, timeout=5).status_code == 404
    assert guard.refusals == 0


def test_the_span_around_a_request_tells_what_it_is(guard: Guard) -> None:
    """A gateway with an API of its own is guarded inside a model call's span: 35 cents leave room for three
    answers of a dime."""
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, json={"usage": {"prompt_tokens": 0, "completion_tokens": OUTPUT}})

    tracer = TracerProvider().get_tracer("gateway")
    span = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
    }
    with execution("run", budget_usd="0.35"), httpx.Client(transport=httpx.MockTransport(answer)) as client:

        def ask() -> None:
            with tracer.start_as_current_span("chat", attributes=span):
                client.post("https://llm.example/ask", json={"prompt": "hello", "max_tokens": OUTPUT})

        for _ in range(3):
            ask()
        with pytest.raises(BudgetExceeded):
            ask()
    assert len(sent) == 3
    assert settled(guard) == 3 * DIME


@pytest.mark.parametrize("mode", [SHADOW, WARN])
def test_softer_modes_only_note(mode: str, provider: FakeProvider, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is stopped; what would have been is counted, and `warn` says so once an execution."""
    guard = guard_of(mode=mode, budget_usd="0.1")
    with execution("run"):
        for _ in range(4):
            _openai(provider)
    assert (provider.count(), guard.refusals) == (4, 4)
    assert settled(guard) == 4 * DIME
    assert len([r for r in caplog.records if "may spend" in r.message and r.levelname == "WARNING"]) == (
        mode == WARN
    )
    clients.uninstall()


def test_anthropic_holds_what_a_cache_write_may_cost(guard: Guard) -> None:
    """Where a prompt may be written to a cache the dearer rate is held, and the answer settles it exactly."""
    usage = Usage(input_tokens=10, cache_write_tokens=90, output_tokens=5)
    with FakeProvider(Reply("hi", usage=usage)) as provider, execution("run", budget_usd=1):
        client = opened(anthropic.Anthropic(base_url=provider.url, api_key="x"))
        cached = [{"type": "text", "text": "x" * 4000, "cache_control": {"type": "ephemeral"}}]
        client.messages.create(
            model="claude-sonnet-4-6",
            max_tokens=100,
            system=cached,
            messages=MESSAGES,  # type: ignore[arg-type]
        )
    # 3 USD input, 3.75 USD cache write, 15 USD output per million (https://claude.com/pricing, 2026-11)
    assert settled(guard) == (10 * 300 + 90 * 375 + 5 * 1500) * PICO // 10**8


def test_an_unknown_model_is_not_free(provider: FakeProvider, guard: Guard) -> None:
    """A model without a price is held to a dear one's, so that its loop ends too: 10,000 tokens at 75 USD."""
    body = {**CHAT, "model": "model-that-nobody-sells"}
    url = f"{provider.openai_url}/chat/completions"
    with execution("run", budget_usd="1"):
        httpx.post(url, json=body).raise_for_status()
        with pytest.raises(BudgetExceeded):
            httpx.post(url, json=body)
    assert provider.count() == 1
    assert settled(guard) == 75 * PICO // 100


def test_a_failing_guard_lets_the_agent_go_on(
    provider: FakeProvider, guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error inside the guard, at any of its steps, costs the agent nothing."""

    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("a bug")

    for owner, name in (
        (guard, "cost"),
        (guard.bounds, "worst"),
        (guard.ledger, "reserve"),
        (guard.book, "price"),
    ):
        with monkeypatch.context() as patched, execution(budget_usd="1"):
            patched.setattr(owner, name, broken)
            _openai(provider)
            _openai_stream(provider)
    assert provider.count() == 8


@pytest.mark.parametrize("budget", ["10$", -1, "nan", "", float("inf")])
def test_a_budget_that_is_no_amount_is_refused(budget: Any) -> None:
    """The error says what to write."""
    with pytest.raises(ConfigError, match="is not an amount of USD; write 10"), execution(budget_usd=budget):
        pass
    assert budget_of_context() is None


def test_a_nested_budget_that_calls_first_leaves_the_one_around_it(
    provider: FakeProvider, guard: Guard
) -> None:
    """Each budget of a chain has its own limit, in whichever order they come to spend."""
    with execution("run", budget_usd="0.35"):
        with execution(budget_usd="0.15"), execution(budget_usd=5):
            _openai(provider)
        _openai(provider)
        _openai(provider)
        with pytest.raises(BudgetExceeded, match="may spend"):
            _openai(provider)
    assert settled(guard) == provider.count() * DIME == 3 * DIME


def test_the_error_explains_itself(provider: FakeProvider, guard: Guard) -> None:
    """It has the figures, the last calls and the remedy; nothing of the prompt or the key."""
    with execution("run", budget_usd="0.15"):
        _openai(provider)
        with pytest.raises(BudgetExceeded) as caught:
            _openai(provider)
    error = caught.value
    assert (error.execution_id, error.scope) == ("run", "execution:run")
    assert (str(error.limit_usd), str(error.spent_usd), str(error.reserved_usd)) == ("0.15", "0.1", "0")
    assert error.last_calls == ("gpt-4o $0.100000",)
    assert "hello" not in json.dumps([str(error), error.request])
    assert "OTEL_COST_BUDGET_USD" in str(error)

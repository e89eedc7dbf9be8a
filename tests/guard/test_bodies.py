"""Bodies that are no bytes when the guard looks: forms, files, buffers and streams, through real clients."""

from __future__ import annotations

import asyncio
import io
import json
import random
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import httpx2
import openai
import pytest
import requests
import urllib3

from otel_cost import execution
from otel_cost.budgets import DENY, Policy
from otel_cost.errors import BudgetExceeded
from otel_cost.guard import Guard, clients
from otel_cost.guard.bodies import Field, Form, read_body
from otel_cost.ledger.memory import MemoryLedger
from otel_cost.money import PICO
from otel_cost.pricing import PriceBook
from tests.guard.opened import opened

BOOK = PriceBook.load()
DIME = PICO // 10
OUTPUT = 10_000
"""Output tokens of gpt-4o that cost a dime: 10 USD per million (https://openai.com/api/pricing, 2026-11)."""
CHAT = {"model": "gpt-4o", "max_tokens": OUTPUT, "messages": [{"role": "user", "content": "hello"}]}
SENT = json.dumps(CHAT).encode()
ANSWER = {
    "model": "gpt-4o",
    "text": "hello",
    "choices": [{"message": {"content": "x"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 0, "completion_tokens": OUTPUT, "total_tokens": OUTPUT},
}
FILE = random.Random(1).randbytes(200_000)
TIMEOUT_S = 10


class Provider:
    """A provider that keeps the bodies it is sent, whole or in chunks, and bills a dime for each."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.types: list[str] = []
        self.url = ""

    def __enter__(self) -> Provider:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                provider.bodies.append(b"".join(_sent(self)))
                provider.types.append(self.headers.get("content-type", ""))
                answer = json.dumps(ANSWER).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _sent(handler: BaseHTTPRequestHandler) -> Iterator[bytes]:
    if "chunked" not in handler.headers.get("transfer-encoding", ""):
        yield handler.rfile.read(int(handler.headers.get("content-length", 0)))
        return
    while size := int(handler.rfile.readline(), 16):
        yield handler.rfile.read(size)
        handler.rfile.readline()
    handler.rfile.readline()


@pytest.fixture
def provider() -> Iterator[Provider]:
    """A provider whose host nobody knows."""
    with Provider() as made:
        yield made


@pytest.fixture
def guard() -> Iterator[Guard]:
    """A guard in force, without a limit of its own."""
    yield _guard()
    clients.uninstall()


def _guard(**settings: Any) -> Guard:
    made = Guard(Policy.load(environ={}, max_wait_s=5, **settings), MemoryLedger(), BOOK)
    clients.install(made)
    return made


# --- one way of sending a body, per client ----------------------------------------------------------------


def _generator() -> Iterator[bytes]:
    yield SENT[:10]
    yield SENT[10:]


async def _async_generator() -> AsyncIterator[bytes]:
    for part in _generator():
        yield part


def _httpx(make: Callable[[], Any], module: Any = httpx) -> Callable[[str], None]:
    def send(url: str) -> None:
        module.post(f"{url}/chat/completions", content=make()).raise_for_status()

    return send


def _httpx_async(url: str) -> None:
    async def run() -> None:
        async with httpx.AsyncClient() as client:
            await client.post(f"{url}/chat/completions", content=_async_generator())

    asyncio.run(run())


def _requests(make: Callable[[], Any]) -> Callable[[str], None]:
    def send(url: str) -> None:
        requests.post(f"{url}/chat/completions", data=make(), timeout=TIMEOUT_S).raise_for_status()

    return send


def _urllib3(make: Callable[[], Any]) -> Callable[[str], None]:
    def send(url: str) -> None:
        assert urllib3.request("POST", f"{url}/chat/completions", body=make()).status == 200

    return send


def _aiohttp(make: Callable[[], Any]) -> Callable[[str], None]:
    def send(url: str) -> None:
        async def run() -> None:
            async with aiohttp.ClientSession() as session:
                await (await session.post(f"{url}/chat/completions", data=make())).read()

        asyncio.run(run())

    return send


READABLE = {
    "httpx BytesIO": _httpx(lambda: io.BytesIO(SENT)),
    "httpx2 BytesIO": _httpx(lambda: io.BytesIO(SENT), httpx2),
    "requests BytesIO": _requests(lambda: io.BytesIO(SENT)),
    "requests bytearray": _requests(lambda: bytearray(SENT)),
    "urllib3 BytesIO": _urllib3(lambda: io.BytesIO(SENT)),
    "urllib3 memoryview": _urllib3(lambda: memoryview(SENT)),
    "aiohttp bytearray": _aiohttp(lambda: bytearray(SENT)),
    "aiohttp BytesIO": _aiohttp(lambda: io.BytesIO(SENT)),
    "aiohttp JsonPayload": _aiohttp(lambda: aiohttp.JsonPayload(CHAT)),
}
UNREADABLE = {
    "httpx generator": _httpx(_generator),
    "httpx2 generator": _httpx(_generator, httpx2),
    "httpx async generator": _httpx_async,
    "requests generator": _requests(_generator),
    "urllib3 generator": _urllib3(_generator),
    "aiohttp async generator": _aiohttp(_async_generator),
}


@pytest.mark.parametrize("name", READABLE)
def test_a_body_in_memory_is_read(name: str, provider: Provider, guard: Guard) -> None:
    """It is held to its output limit at the price of its model, and then sent whole."""
    with execution("run", budget_usd="0.15"):
        READABLE[name](provider.url)
        with pytest.raises(BudgetExceeded, match="gpt-4o"):
            READABLE[name](provider.url)
    assert [json.loads(body) for body in provider.bodies] == [CHAT]
    assert guard.ledger.balance("execution:run").settled_picousd == DIME


@pytest.mark.parametrize("name", READABLE)
def test_a_body_in_memory_can_be_changed(name: str, provider: Provider) -> None:
    """Its output is lowered to what the budget pays for; what it is declared as stays."""
    _guard(clamp=True)
    try:
        with execution("run", budget_usd="0.06"):
            READABLE[name](provider.url)
        with execution("same", budget_usd=1):
            READABLE[name](provider.url)
    finally:
        clients.uninstall()
    clamped, same = map(json.loads, provider.bodies)
    assert same == CHAT == {**clamped, "max_tokens": OUTPUT}
    assert clamped["max_tokens"] < OUTPUT
    assert provider.types[0] == provider.types[1]


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_stream_is_not_let_through_unseen(name: str, provider: Provider, guard: Guard) -> None:
    """Nobody knows what it will ask for, so it needs as much as a call without a limit, of a dear model."""
    with execution("run", budget_usd="0.15"), pytest.raises(BudgetExceeded):
        UNREADABLE[name](provider.url)
    assert provider.bodies == []


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_stream_that_fits_is_sent_whole(name: str, provider: Provider, guard: Guard) -> None:
    """The guard takes nothing out of it, and what the provider says it used counts."""
    with execution("run", budget_usd="100"):
        UNREADABLE[name](provider.url)
    assert [json.loads(body) for body in provider.bodies] == [CHAT]
    assert guard.ledger.balance("execution:run").settled_picousd == DIME


def test_a_file_on_disk_is_sent_whole(tmp_path: Path, provider: Provider, guard: Guard) -> None:
    """It is not read before it is sent."""
    path = tmp_path / "chat.json"
    path.write_bytes(SENT)
    with execution("run", budget_usd="100"), path.open("rb") as body:
        requests.post(f"{provider.url}/chat/completions", data=body, timeout=TIMEOUT_S)
    assert provider.bodies == [SENT]
    assert guard.ledger.balance("execution:run").settled_picousd == DIME


def test_a_stream_that_is_no_call_passes(provider: Provider, guard: Guard) -> None:
    """Uploads to other paths are not touched, even without a cent left."""
    with execution("run", budget_usd=0):
        requests.post(f"{provider.url}/upload", data=_generator(), timeout=TIMEOUT_S)
        httpx.post(f"{provider.url}/upload", content=_generator())
        httpx.post(f"{provider.url}/chat/completions")  # nothing is asked for
    assert len(provider.bodies) == 3


# --- forms ------------------------------------------------------------------------------------------------


def _openai_transcription(url: str) -> None:
    client = opened(openai.OpenAI(base_url=url, api_key="x", max_retries=0))
    client.audio.transcriptions.create(model="gpt-4o-transcribe", file=("a.wav", FILE), prompt="a name")


def _openai_image_edit(url: str) -> None:
    client = opened(openai.OpenAI(base_url=url, api_key="x", max_retries=0))
    client.images.edit(model="gpt-image-1", image=("a.png", FILE), prompt="a hat", n=2)


def _openai_async_transcription(url: str) -> None:
    async def run() -> None:
        async with openai.AsyncOpenAI(base_url=url, api_key="x", max_retries=0) as client:
            await client.audio.transcriptions.create(model="gpt-4o-transcribe", file=io.BytesIO(FILE))

    asyncio.run(run())


def _httpx_form(url: str) -> None:
    files = {"file": ("a.wav", io.BytesIO(FILE)), "model": (None, "gpt-4o-transcribe")}
    httpx.post(f"{url}/audio/transcriptions", files=files)


def _requests_form(url: str) -> None:
    files = {"file": ("a.wav", FILE), "model": (None, "gpt-4o-transcribe")}
    requests.post(f"{url}/audio/transcriptions", files=files, timeout=TIMEOUT_S)


def _urllib3_form(url: str) -> None:
    fields: Any = {"file": ("a.wav", FILE), "model": "gpt-4o-transcribe"}
    urllib3.request("POST", f"{url}/audio/transcriptions", fields=fields)


def _aiohttp_form(url: str) -> None:
    async def run() -> None:
        form = aiohttp.FormData({"model": "gpt-4o-transcribe"})
        form.add_field("file", FILE, filename="a.wav")
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{url}/audio/transcriptions", data=form) as response,
        ):
            await response.read()

    asyncio.run(run())


def _aiohttp_mapping(url: str) -> None:
    async def run() -> None:
        form = {"model": "gpt-4o-transcribe", "file": io.BytesIO(FILE)}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{url}/audio/transcriptions", data=form) as response,
        ):
            await response.read()

    asyncio.run(run())


FORMS = {
    _openai_transcription: "gpt-4o-transcribe",
    _openai_image_edit: "gpt-image-1",
    _openai_async_transcription: "gpt-4o-transcribe",
    _httpx_form: "gpt-4o-transcribe",
    _requests_form: "gpt-4o-transcribe",
    _urllib3_form: "gpt-4o-transcribe",
    _aiohttp_form: "gpt-4o-transcribe",
    _aiohttp_mapping: "gpt-4o-transcribe",
}

MOST_USD = {"gpt-4o-transcribe": Decimal("0.42"), "gpt-image-1": Decimal("1.48")}
"""32,768 tokens of output at 10 and 40 USD per million (https://openai.com/api/pricing, 2026-11), 25,000 of
input for the file, at 2.50 and 5, and some words: as text its 200,000 bytes would be as many tokens."""


@pytest.mark.parametrize("send", FORMS, ids=lambda send: send.__name__)
def test_a_form_names_its_model(send: Callable[[str], None], provider: Provider, guard: Guard) -> None:
    """It is refused where nothing is left, sent whole where something is, and its file is no prompt."""
    with execution("none", budget_usd=0), pytest.raises(BudgetExceeded) as refused:
        send(provider.url)
    assert (provider.bodies, refused.value.model) == ([], FORMS[send])
    assert refused.value.asked_usd < MOST_USD[FORMS[send]]
    with execution("run", budget_usd="100"):
        send(provider.url)
    assert FILE in provider.bodies[0]
    assert guard.watches.of("run").model_calls == 1


def test_a_form_is_limited_to_so_many_calls(provider: Provider) -> None:
    """Limits on steps hold for uploads too."""
    _guard(max_model_calls=1)
    try:
        with execution("run"):
            _openai_transcription(provider.url)
            with pytest.raises(BudgetExceeded, match="max_model_calls"):
                _openai_image_edit(provider.url)
    finally:
        clients.uninstall()
    assert len(provider.bodies) == 1


FIELDS = [
    Field("model", "m", is_file=False),
    Field("n", b"2", is_file=False),
    Field("stream", "true", is_file=False),
    Field("image[]", FILE, is_file=True),
    Field("image[]", io.BytesIO(FILE), is_file=True),
    Field("tag", "a", is_file=False),
    Field("tag", "b", is_file=False),
]


def test_the_plain_fields_of_a_form_are_its_text() -> None:
    """Numbers and truth are what JSON would have; files only count by their size."""
    read = read_body(Form(FIELDS))
    assert read.text is not None
    assert json.loads(read.text) == {"model": "m", "n": 2, "stream": True, "tag": ["a", "b"]}
    assert (read.files, read.file_bytes, read.is_form) == (2, 2 * len(FILE), True)


@pytest.mark.parametrize("module", [httpx, httpx2], ids=lambda module: module.__name__)
def test_a_form_is_read_alike_before_and_after_it_is_encoded(module: Any) -> None:
    """Requests that were read, and clients that encode at once, have bytes only."""
    data = {"model": "m", "n": 2, "prompt": "wörter: \"a\"; filename='b'"}
    files = {"file": ("a;name=x.wav", FILE)}
    request = module.Request("POST", "https://api.openai.com/v1/images/edits", data=data, files=files)
    before = read_body(clients._content(module.RequestNotRead, request))
    request.read()
    after = read_body(clients._content(module.RequestNotRead, request))
    assert before == after
    assert before.text is not None
    assert json.loads(before.text) == data
    assert before.file_bytes == len(FILE)


# --- when recognising fails -------------------------------------------------------------------------------


@pytest.mark.parametrize("on_failure", ["allow", DENY])
def test_a_call_that_cannot_be_recognised(
    on_failure: str, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug in reading requests denies calls where the policy says so, and never anything else."""
    _guard(on_failure=on_failure)

    def broken(method: str, url: str, body: object, told: object = None) -> Any:
        if body is not None:
            raise RuntimeError("a bug")
        return recognise(method, url, None)

    recognise = clients.recognise
    monkeypatch.setattr(clients, "recognise", broken)
    try:
        with execution("run", budget_usd="1"):
            httpx.post(f"{provider.url}/upload", json=CHAT)
            if on_failure == DENY:
                with pytest.raises(BudgetExceeded, match="the guard failed"):
                    httpx.post(f"{provider.url}/chat/completions", json=CHAT)
            else:
                httpx.post(f"{provider.url}/chat/completions", json=CHAT)
    finally:
        clients.uninstall()
    assert len(provider.bodies) == (1 if on_failure == DENY else 2)

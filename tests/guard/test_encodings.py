"""Compressed answers: what the provider says it used counts, whoever undoes the compression."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import aiohttp
import brotli
import httpx
import httpx2
import pytest
import requests
import urllib3
import zstandard

from otel_cost import execution
from otel_cost.budgets import Policy
from otel_cost.guard import Guard, clients
from otel_cost.guard.encodings import decoder
from otel_cost.ledger.memory import MemoryLedger
from otel_cost.pricing import PriceBook

BOOK = PriceBook.load()
COST_PICOUSD = 12_500_000_000
"""1,000 input tokens at 2.50 and 1,000 output tokens at 10 USD per million: 0.0125 USD
(gpt-4o, https://openai.com/api/pricing, 2026-11)."""
USAGE = {"prompt_tokens": 1000, "completion_tokens": 1000, "total_tokens": 2000}
BODY = {"model": "gpt-4o", "max_tokens": 1000, "messages": [{"role": "user", "content": "hello"}]}
WHOLE = json.dumps({"model": "gpt-4o", "choices": [], "usage": USAGE}).encode()
EVENTS = b"".join(
    b"data: %s\n\n" % json.dumps({"model": "gpt-4o", "choices": [], **extra}).encode()
    for extra in ({}, {"usage": USAGE})
)


def _raw_deflate(data: bytes) -> bytes:
    made = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return made.compress(data) + made.flush()


ENCODERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "identity": ("", lambda data: data),
    "gzip": ("gzip", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "deflate without header": ("deflate", _raw_deflate),
    "br": ("br", brotli.compress),
    "zstd": ("zstd", lambda data: zstandard.ZstdCompressor().compress(data)),
}


@pytest.fixture(params=ENCODERS)
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A provider that compresses what it answers."""
    name, encode = ENCODERS[request.param]

    class Provider(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            answer = encode(EVENTS if asked.get("stream") else WHOLE)
            self.send_response(200)
            kind = "text/event-stream" if asked.get("stream") else "application/json"
            self.send_header("content-type", kind)
            if name:
                self.send_header("content-encoding", name)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Provider) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1/chat/completions"
        server.shutdown()


@pytest.fixture
def guard() -> Iterator[Guard]:
    """A guard in force."""
    made = Guard(Policy.load(environ={}), MemoryLedger(), BOOK)
    clients.install(made)
    yield made
    assert made.ledger.open_holds == 0  # type: ignore[attr-defined]
    clients.uninstall()


def _httpx_stream(url: str, body: dict[str, Any]) -> None:
    with httpx.stream("POST", url, json=body) as response:
        assert list(response.iter_lines())


def _httpx_whole(url: str, body: dict[str, Any]) -> None:
    assert httpx.post(url, json=body).text


def _httpx2_raw(url: str, body: dict[str, Any]) -> None:
    with httpx2.stream("POST", url, json=body) as response:
        assert b"".join(response.iter_raw())


def _requests_stream(url: str, body: dict[str, Any]) -> None:
    with requests.post(url, json=body, timeout=10, stream=True) as response:
        assert list(response.iter_lines())


def _requests_raw(url: str, body: dict[str, Any]) -> None:
    with requests.post(url, json=body, timeout=10, stream=True) as response:
        while response.raw.read(64):
            pass


def _requests_whole(url: str, body: dict[str, Any]) -> None:
    assert requests.post(url, json=body, timeout=10).text


def _urllib3_whole(url: str, body: dict[str, Any]) -> None:
    assert urllib3.PoolManager().request("POST", url, json=body).data


def _urllib3_late(url: str, body: dict[str, Any]) -> None:
    assert urllib3.PoolManager().request("POST", url, json=body, preload_content=False).data


def _urllib3_lines(url: str, body: dict[str, Any]) -> None:
    assert list(urllib3.PoolManager().request("POST", url, json=body, preload_content=False))


def _urllib3_stream(url: str, body: dict[str, Any]) -> None:
    response = urllib3.PoolManager().request("POST", url, json=body, preload_content=False)
    assert list(response.stream(16))
    response.release_conn()


def _aiohttp(url: str, body: dict[str, Any], *, decompress: bool = True) -> None:
    async def run() -> None:
        async with (
            aiohttp.ClientSession(auto_decompress=decompress) as session,
            session.post(url, json=body) as response,
        ):
            assert await response.read()

    asyncio.run(run())


def _aiohttp_raw(url: str, body: dict[str, Any]) -> None:
    _aiohttp(url, body, decompress=False)


SENDERS = [
    _httpx_stream,
    _httpx_whole,
    _httpx2_raw,
    _requests_stream,
    _requests_raw,
    _requests_whole,
    _urllib3_whole,
    _urllib3_late,
    _urllib3_lines,
    _urllib3_stream,
    _aiohttp,
    _aiohttp_raw,
]


@pytest.mark.parametrize("is_stream", [True, False], ids=["events", "document"])
@pytest.mark.parametrize("send", SENDERS, ids=lambda send: send.__name__.strip("_"))
def test_what_was_used_counts(
    send: Callable[[str, dict[str, Any]], None], is_stream: bool, url: str, guard: Guard
) -> None:
    """The provider's usage is read through every encoding, streamed or whole, decoded or not."""
    with execution("run", budget_usd="1"):
        send(url, {**BODY, "stream": is_stream})
    assert guard.ledger.balance("execution:run").settled_picousd == COST_PICOUSD


def test_several_encodings_are_undone_in_turn() -> None:
    """Encodings are listed in the order in which they were applied."""
    decode = decoder("gzip, br")
    assert decode is not None
    assert decode(brotli.compress(gzip.compress(b"text"))) == b"text"


def test_an_unknown_encoding_costs_what_is_usual(guard: Guard) -> None:
    """An answer that cannot be read reaches the application, and an estimate counts for it."""

    def answer(request: httpx.Request) -> httpx.Response:
        headers = {"content-type": "text/event-stream", "content-encoding": "secret"}
        return httpx.Response(200, headers=headers, stream=httpx.ByteStream(b"what?"))

    with (
        execution("run", budget_usd="1"),
        httpx.Client(transport=httpx.MockTransport(answer)) as client,
        client.stream("POST", "https://api.openai.com/v1/chat/completions", json=BODY) as response,
    ):
        assert response.read() == b"what?"
    assert guard.ledger.balance("execution:run").settled_picousd > 0

"""Calls that no `execution(...)` and no trace is around: a script's are one execution, a server's are not."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind

from otel_cost.budgets import Policy
from otel_cost.fake_provider import FakeProvider, Reply
from otel_cost.guard import Guard, clients
from otel_cost.ledger.memory import MemoryLedger
from otel_cost.pricing import PriceBook
from otel_cost.usage import Usage
from tests.data import ROOT
from tests.guard.workers import OUTPUT, call

BOOK = PriceBook.load()
WARNING = "a model call belongs to no execution"


BEGIN = """
import sys, otel_cost
from tests.guard.workers import call
otel_cost.install()
url = sys.argv[1]
"""


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    """A provider that bills a dime a call."""
    with FakeProvider(Reply("one", usage=Usage(output_tokens=OUTPUT))) as made:
        yield made


@pytest.fixture(autouse=True)
def no_guard_stays() -> Iterator[None]:
    """Take the guard away after each test."""
    yield
    clients.uninstall()


def script(provider: FakeProvider, code: str) -> subprocess.CompletedProcess[str]:
    """Run a plain program that is held to 25 cents and installs us, and nothing else."""
    return subprocess.run(
        [sys.executable, "-c", BEGIN + code, provider.openai_url],
        cwd=ROOT,
        env={"OTEL_COST_BUDGET_USD": "0.25", "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


THREADS = """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(4) as pool:
    list(pool.map(lambda _: call(url), range(8)))
"""
PROGRAMS = """
import subprocess
code = "import sys, otel_cost; from tests.guard.workers import call; otel_cost.install(); call(sys.argv[1])"
for _ in range(4):
    subprocess.run([sys.executable, "-c", code, url], check=True)
"""
TRACES = """
import openai
from opentelemetry import trace
from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor
from opentelemetry.sdk.trace import TracerProvider
trace.set_tracer_provider(TracerProvider())
OpenAIInstrumentor().instrument()
client = openai.OpenAI(base_url=url, api_key="none")
for _ in range(9):
    messages = [{"role": "user", "content": "hello"}]
    client.chat.completions.create(model="gpt-4o", max_tokens=10_000, messages=messages)
"""


@pytest.mark.parametrize("code", ["call(url, 9)", THREADS, PROGRAMS, TRACES])
def test_a_script_is_one_execution(code: str, provider: FakeProvider) -> None:
    """A quarter pays for two dimes: of a bare loop, of threads, of programs that it starts, and of calls of
    which an instrumentation makes a trace each."""
    done = script(provider, code)
    assert provider.count() == 2, done.stderr
    assert WARNING not in done.stderr


SERVER = """
import threading, urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        call(url)
        self.send_response(204)
        self.end_headers()

def ask():
    for _ in range(4):
        urllib.request.urlopen(f"http://127.0.0.1:{server.server_address[1]}/").read()
    server.shutdown()

server = HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=ask).start()
server.serve_forever(0.05)
"""


def test_a_server_is_not_one_execution(provider: FakeProvider) -> None:
    """Its requests do not spend each other's budget, and that they have none in common is said once."""
    done = script(provider, SERVER)
    assert provider.count() == 4, done.stderr
    assert done.stderr.count(WARNING) == 1
    assert "otel_cost.execution(...)" in done.stderr


@pytest.mark.parametrize(("budget_usd", "told"), [("0.15", 1), (None, 0)])
@pytest.mark.parametrize("has_span", [True, False])
def test_where_limits_hold_for_each_call_alone(
    budget_usd: str | None,
    told: int,
    has_span: bool,
    provider: FakeProvider,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In a server a call that nothing is around is an execution of its own, with a span of its own or none:
    one warning, where there is a limit at all."""
    policy = Policy.load(environ={}, budget_usd=budget_usd)
    clients.install(Guard(policy, MemoryLedger(), BOOK, root=lambda: None))
    tracer = TracerProvider().get_tracer("instrumentor")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            if has_span:
                with tracer.start_as_current_span("chat", kind=SpanKind.CLIENT):
                    assert call(provider.openai_url) == 1
            else:
                assert call(provider.openai_url) == 1
    assert caplog.text.count(WARNING) == told

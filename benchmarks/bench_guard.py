"""What guarding and pricing a call adds, beside instrumentations and other guards, in one run.

    python benchmarks/bench_guard.py            # a table, and benchmarks/results/guard.md

Each case sends the same call with the official OpenAI client to a transport in memory, whole and streamed, sync
and async; an addition is what a case takes more than the bare client. Cases alternate call by call, so that a
noisy machine disturbs all alike. Times are CPU time of the thread. Ratios count, not microseconds: the
yardstick is a span of ten attributes with a no-op processor.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else importing it asks the network

import agentbudget
import httpx2
import litellm
import openai
import shekel
from openinference.instrumentation.openai import OpenAIInstrumentor as OpenInference
from opentelemetry import trace
from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor as GenaiOpenAI
from opentelemetry.instrumentation.openai import OpenAIInstrumentor as OpenLLMetry
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

import otel_cost
from otel_cost.budgets import Policy
from otel_cost.config import Config
from otel_cost.fake_provider import _BODIES, _STREAMS, Call, Reply, _read, _server_sent_event
from otel_cost.guard import clients, default_guard
from otel_cost.processor import CostSpanProcessor
from otel_cost.usage import Usage

CHUNKS = 53
WARM_UP = 100
RESULTS = Path(__file__).parent / "results" / "guard.md"
HISTORY = [{"role": "system", "content": "You are a careful assistant. " * 20}] + [
    message
    for number in range(4)
    for message in (
        {"role": "user", "content": f"Question {number}: " + "what of it? " * 20},
        {"role": "assistant", "content": f"Answer {number}: " + "so it is. " * 20},
    )
]
CALL: dict[str, Any] = {
    "model": "gpt-4o-mini",
    "max_tokens": 500,
    "messages": [*HISTORY, {"role": "user", "content": "And now?"}],
}
STREAM: dict[str, Any] = {**CALL, "stream": True, "stream_options": {"include_usage": True}}
REPLY = Reply("word " * (CHUNKS - 4), usage=Usage(input_tokens=500, output_tokens=CHUNKS - 4))
Times = list[int]
"""Nanoseconds, one for each call."""


class Chunks(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A stream that comes event by event."""

    def __init__(self, chunks: list[bytes]) -> None:
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        yield from self._chunks

    async def __aiter__(self) -> Any:
        for chunk in self._chunks:
            yield chunk


def answers() -> tuple[bytes, list[bytes]]:
    """Return the bodies of a whole answer and of a streamed one."""
    made = []
    for body in (CALL, STREAM):
        api, model, is_stream = _read("/v1/chat/completions", body)
        made.append(Call(1, api, "/v1/chat/completions", model, is_stream, body, {}, "chatcmpl-1", REPLY))
    events = [
        _server_sent_event("openai.chat", name, body) for name, body in _STREAMS["openai.chat"](made[1])
    ]
    return json.dumps(_BODIES["openai.chat"](made[0])).encode(), [*events, b"data: [DONE]\n\n"]


WHOLE, EVENTS = answers()


def answer(request: httpx2.Request) -> httpx2.Response:
    if b'"stream":true' in request.content:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=Chunks(EVENTS))
    return httpx2.Response(200, headers={"content-type": "application/json"}, content=WHOLE)


def client() -> openai.OpenAI:
    transport = httpx2.MockTransport(answer)
    return openai.OpenAI(api_key="x", http_client=httpx2.Client(transport=transport), max_retries=0)


def async_client() -> openai.AsyncOpenAI:
    transport = httpx2.MockTransport(answer)
    return openai.AsyncOpenAI(api_key="x", http_client=httpx2.AsyncClient(transport=transport), max_retries=0)


def provider_with(*processors: SpanProcessor) -> TracerProvider:
    made = TracerProvider(shutdown_on_exit=False)
    for each in processors or (SpanProcessor(),):
        made.add_span_processor(each)
    return made


# --- cases: what is around the calls ----------------------------------------------------------------------


@contextmanager
def bare() -> Iterator[None]:
    yield


GUARD = default_guard(Policy.load(environ={}, budget_usd="1000"))


@contextmanager
def guarded() -> Iterator[None]:
    clients.install(GUARD)
    try:
        with otel_cost.execution("run", budget_usd=1000):
            yield
    finally:
        clients.uninstall()


def instrumented(instrumentor: Any, *processors: SpanProcessor) -> Callable[[], Any]:
    tracing = provider_with(*processors)

    @contextmanager
    def case() -> Iterator[None]:
        instrumentor.instrument(tracer_provider=tracing)
        try:
            yield
        finally:
            instrumentor.uninstrument()

    return case


@contextmanager
def both() -> Iterator[None]:
    """The whole of it: guard, official instrumentation and our processor."""
    with guarded(), PRICED():
        yield


PRICED = instrumented(GenaiOpenAI(), CostSpanProcessor(Config(metrics=True)))
CASES: dict[str, Callable[[], Any]] = {
    "bare client": bare,
    "otel-cost guard": guarded,
    "official genai-openai": instrumented(GenaiOpenAI()),
    "official genai-openai + our processor": PRICED,
    "official genai-openai + our processor + our guard": both,
    "OpenInference": instrumented(OpenInference()),
    "OpenLLMetry": instrumented(OpenLLMetry()),
    "agentbudget": lambda: _agentbudget(),
    "shekel": lambda: shekel.budget(max_usd=1000.0),
    "LiteLLM BudgetManager": lambda: _budget_manager(),
}


@contextmanager
def _agentbudget() -> Iterator[None]:
    agentbudget.init(budget="$1000.00", max_repeated_calls=10**9)
    try:
        yield
    finally:
        agentbudget.teardown()


MANAGER: list[Any] = []


@contextmanager
def _budget_manager() -> Iterator[None]:
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # it keeps a file where it stands
        manager = litellm.BudgetManager(project_name="bench")
        manager.create_budget(total_budget=1000, user="agent")
        MANAGER.append(manager)
        try:
            yield
        finally:
            MANAGER.clear()
            os.chdir(before)


# --- measuring --------------------------------------------------------------------------------------------


def send(by: openai.OpenAI) -> None:
    if MANAGER:
        assert MANAGER[0].get_current_cost(user="agent") <= MANAGER[0].get_total_budget("agent")
    got = by.chat.completions.create(**CALL)
    if MANAGER:
        MANAGER[0].update_cost(completion_obj=litellm.ModelResponse(**got.model_dump()), user="agent")


def stream(by: openai.OpenAI) -> None:
    for _ in by.chat.completions.create(**STREAM):
        pass


async def send_async(by: openai.AsyncOpenAI) -> None:
    await by.chat.completions.create(**CALL)


def timed(task: Callable[[], object]) -> int:
    start = time.thread_time_ns()
    task()
    return time.thread_time_ns() - start


def span(tracer: trace.Tracer) -> None:
    tracer.start_span("span", attributes={f"http.attribute.{n}": "value" for n in range(10)}).end()


def measure(rounds: int) -> dict[tuple[str, str], Times]:
    """Run every case in turn, a few calls at a time, again and again."""
    found: dict[tuple[str, str], Times] = {}
    by, by_async, loop = client(), async_client(), asyncio.new_event_loop()
    tracer = provider_with().get_tracer("bench")
    for number in range(rounds + 1):
        for name, case in CASES.items():
            with ExitStack() as around:
                around.enter_context(case())
                tasks: dict[str, Callable[[], object]] = {
                    "sync": lambda: send(by),
                    "stream": lambda: stream(by),
                }
                if name != "LiteLLM BudgetManager":
                    tasks["async"] = lambda: loop.run_until_complete(send_async(by_async))
                for kind, task in tasks.items():
                    count = WARM_UP if number == 0 else 10
                    times = [timed(task) for _ in range(count)][2:]  # the first ones enter the case
                    if number:
                        found.setdefault((name, kind), []).extend(times)
        found.setdefault(("span", "sync"), []).extend(timed(lambda: span(tracer)) for _ in range(10))
    loop.close()
    return found


def percentile(times: Times, percent: int) -> float:
    return sorted(times)[len(times) * percent // 100] / 1000


def report(rounds: int, found: dict[tuple[str, str], Times]) -> list[str]:
    yardstick = percentile(found["span", "sync"], 50)
    lines = [
        "# What guarding a call adds",
        "",
        f"`python benchmarks/bench_guard.py --rounds {rounds}`: {len(found['bare client', 'sync'])} calls of each kind,",
        f"cases alternating in one process; CPU time, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} shared cores.",
        f"A span of ten attributes with a no-op processor takes {yardstick:.1f} us here.",
        "",
        "| added to the bare client | sync p50 us | in spans | sync p99 us | async p50 us | stream chunk p50 us |",
        "|---|---|---|---|---|---|",
    ]
    bare_times = {kind: found["bare client", kind] for kind in ("sync", "async", "stream")}
    for name in CASES:
        if name == "bare client":
            continue
        added = {
            kind: percentile(found[name, kind], 50) - percentile(times, 50)
            for kind, times in bare_times.items()
            if (name, kind) in found
        }
        p99 = percentile(found[name, "sync"], 99) - percentile(bare_times["sync"], 50)
        lines.append(
            f"| {name} | {added['sync']:.0f} | {added['sync'] / yardstick:.1f} | {p99:.0f} "
            f"| {added['async']:.0f} | {added['stream'] / CHUNKS:.1f} |"
            if "async" in added
            else f"| {name} | {added['sync']:.0f} | {added['sync'] / yardstick:.1f} | {p99:.0f} | | |"
        )
    bare_row = " | ".join(f"{statistics.median(bare_times[kind]) / 1000:.0f}" for kind in ("sync", "async"))
    return [*lines, "", f"The bare client itself: sync and async us | {bare_row}", ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds
    logging.disable(logging.WARNING)
    lines = report(rounds, measure(rounds))
    RESULTS.write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()

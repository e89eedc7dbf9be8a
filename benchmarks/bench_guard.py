"""What guarding and pricing a call adds, beside instrumentations and other guards, in one run.

    python benchmarks/bench_guard.py            # a table, and benchmarks/results/guard.md

Each library wraps what it wraps in an application: we the HTTP client's `send`, the others the official
client's methods. What is wrapped answers from memory at once, so that what is left is the library's own work,
less that of the bare client, which is measured too. Cases alternate, so that a noisy machine disturbs all
alike; times are CPU time of the thread. Ratios count: the yardstick is a span of ten attributes with a no-op
processor.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else importing it asks the network

import agentbudget
import httpx2
import litellm
import openai
import shekel
from openai.resources.chat.completions import Completions
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openinference.instrumentation.openai import OpenAIInstrumentor as OpenInference
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

CHUNKS, LONG_CHUNKS = 53, 530
URL = "https://api.openai.com/v1/chat/completions"
WARM_UP = 100
RESULTS = Path(__file__).resolve().parent / "results" / "guard.md"
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
LONG: dict[str, Any] = {**CALL, "messages": [{**each, "content": each["content"] * 30} for each in HISTORY]}
STREAM: dict[str, Any] = {**CALL, "stream": True, "stream_options": {"include_usage": True}}
LONG_STREAM: dict[str, Any] = {**STREAM, "user": "long"}
Times = list[int]
"""Nanoseconds, one for each call."""


class Chunks(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A stream that comes event by event."""

    def __init__(self, is_long: bool) -> None:
        self._events = LONG_EVENTS if is_long else EVENTS

    def __iter__(self) -> Iterator[bytes]:
        yield from self._events


def call_of(body: dict[str, Any], words: int) -> Call:
    """Return a call as the fake provider has it, and as many words as its answer."""
    api, model, is_stream = _read("/v1/chat/completions", body)
    reply = Reply("word " * words, usage=Usage(input_tokens=500, output_tokens=words))
    return Call(1, api, "/v1/chat/completions", model, is_stream, body, {}, "chatcmpl-1", reply)


def events_of(body: dict[str, Any], count: int) -> list[bytes]:
    """Return a streamed answer of so many events, four of which bring no word."""
    made = _STREAMS["openai.chat"](call_of(body, count - 4))
    events = [_server_sent_event("openai.chat", name, event) for name, event in made]
    return [*events, b"data: [DONE]\n\n"]


WHOLE = json.dumps(_BODIES["openai.chat"](call_of(CALL, CHUNKS - 4))).encode()
EVENTS, LONG_EVENTS = events_of(STREAM, CHUNKS), events_of(LONG_STREAM, LONG_CHUNKS)


HEADERS = {"content-type": "application/json"}
ANSWERED = httpx2.Response(200, headers=HEADERS, content=WHOLE)
COMPLETION = ChatCompletion.model_validate_json(WHOLE)
LITELLM_ANSWER = litellm.ModelResponse(**COMPLETION.model_dump())
CLIENT = openai.OpenAI(api_key="x")


def streamed(is_long: bool) -> httpx2.Response:
    request = httpx2.Request("POST", URL)
    return httpx2.Response(
        200, headers={"content-type": "text/event-stream"}, stream=Chunks(is_long), request=request
    )


def answer(client: httpx2.Client, request: httpx2.Request) -> httpx2.Response:
    content = request.content
    return streamed(b'"user":"long"' in content) if b'"stream":true' in content else ANSWERED


async def answer_async(client: httpx2.AsyncClient, request: httpx2.Request) -> httpx2.Response:
    return ANSWERED


def request(client: openai.OpenAI, cast_to: Any, options: Any, **more: Any) -> Any:
    if more.get("stream"):
        response = streamed("user" in options.json_data)
        return openai.Stream(cast_to=ChatCompletionChunk, response=response, client=client)
    return COMPLETION


# What is wrapped below, before anything wraps it.
httpx2.Client.send, httpx2.AsyncClient.send = answer, answer_async  # type: ignore[assignment, method-assign]
openai.OpenAI.request = request  # type: ignore[method-assign, assignment]
CREATE = Completions.create


def unwrap() -> None:
    """Take off what a library left behind."""
    openai.OpenAI.request, Completions.create = request, CREATE  # type: ignore[method-assign, assignment]


def provider_with(*processors: SpanProcessor) -> TracerProvider:
    made = TracerProvider(shutdown_on_exit=False)
    for each in processors or (SpanProcessor(),):
        made.add_span_processor(each)
    return made


# --- cases: what is around the calls ----------------------------------------------------------------------


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


PRICED = instrumented(GenaiOpenAI(), CostSpanProcessor(Config(metrics=True)))
GUARD_CASE, OFFICIAL = "otel-cost guard", "official genai-openai"
OFFICIAL_PRICED = f"{OFFICIAL}, and otel-cost's pricing"
IN_ALL = "otel-cost in all: the guard, and what pricing adds to the official span"
CASES: dict[str, Callable[[], Any]] = {
    GUARD_CASE: guarded,
    OFFICIAL: instrumented(GenaiOpenAI()),
    OFFICIAL_PRICED: PRICED,
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
    manager = litellm.BudgetManager(project_name="bench")
    manager.create_budget(total_budget=1000, user="agent")
    MANAGER.append(manager)
    try:
        yield
    finally:
        MANAGER.clear()


# --- measuring --------------------------------------------------------------------------------------------


HTTP, HTTP_ASYNC = httpx2.Client(), httpx2.AsyncClient()
REQUEST, LONG_REQUEST, STREAM_REQUEST, LONG_STREAM_REQUEST = (
    httpx2.Request("POST", URL, json=body) for body in (CALL, LONG, STREAM, LONG_STREAM)
)


def http() -> None:
    HTTP.send(REQUEST)


def http_long() -> None:
    HTTP.send(LONG_REQUEST)


def http_stream(request: httpx2.Request) -> None:
    for _ in HTTP.send(request).stream:  # type: ignore[union-attr]
        pass


def http_async() -> None:
    with suppress(StopIteration):
        HTTP_ASYNC.send(REQUEST).send(None)  # nothing in it waits, so no event loop is in the way


def sdk() -> None:
    if MANAGER:
        assert MANAGER[0].get_current_cost(user="agent") <= MANAGER[0].get_total_budget("agent")
    CLIENT.chat.completions.create(**CALL)
    if MANAGER:
        MANAGER[0].update_cost(completion_obj=LITELLM_ANSWER, user="agent")


def sdk_stream(body: dict[str, Any]) -> None:
    for _ in CLIENT.chat.completions.create(**body):
        pass


def span() -> None:
    TRACER.start_span("span", attributes={f"http.attribute.{n}": "value" for n in range(10)}).end()


TRACER = provider_with().get_tracer("bench")
HTTP_TASKS = {
    "sync": http,
    "long": http_long,
    "stream": partial(http_stream, STREAM_REQUEST),
    "long stream": partial(http_stream, LONG_STREAM_REQUEST),
    "async": http_async,
}
SDK_TASKS = {
    "sync": sdk,
    "stream": partial(sdk_stream, STREAM),
    "long stream": partial(sdk_stream, LONG_STREAM),
}


def timed(task: Callable[[], object]) -> int:
    start = time.thread_time_ns()
    task()
    return time.thread_time_ns() - start


def measure(rounds: int) -> dict[tuple[str, str], Times]:
    """Run every case in turn, twenty calls at a time, again and again."""
    found: dict[tuple[str, str], Times] = defaultdict(list)
    for number in range(rounds + 1):
        for name, case in [("bare http", nullcontext), ("bare sdk", nullcontext), *CASES.items()]:
            tasks = HTTP_TASKS if name in ("bare http", GUARD_CASE) else SDK_TASKS
            unwrap()
            with case():
                for kind, task in tasks.items():
                    if name == "LiteLLM BudgetManager" and "stream" in kind:
                        continue  # it takes no streams
                    for _ in range(WARM_UP if number == 0 else 3):
                        task()
                    if number:
                        found[name, kind] += [timed(task) for _ in range(20)]
        found["span", "sync"] += [timed(span) for _ in range(20)]
    return found


def percentile(times: Times, percent: int) -> float:
    return sorted(times)[len(times) * percent // 100] / 1000


def report(rounds: int, found: dict[tuple[str, str], Times]) -> list[str]:
    yardstick = percentile(found["span", "sync"], 50)
    calls = len(found[GUARD_CASE, "sync"])
    lines = [
        "# What guarding a call adds",
        "",
        f"`python benchmarks/bench_guard.py --rounds {rounds}`: {calls} calls of each kind, of",
        f"{len(REQUEST.content)} bytes or {CHUNKS} events, cases alternating in one process. CPU time, load",
        f"{os.getloadavg()[0]:.0f} on {os.cpu_count()} shared cores. A span of ten attributes with a no-op",
        f"processor takes {yardstick:.1f} us here.",
        "",
        f"A bare call takes {percentile(found['bare sdk', 'sync'], 50):,.0f} us in the official client.",
        "",
        f"An event is one of {CHUNKS}: what a stream adds, the call's own part included, by its events. A",
        f"further event is what each adds beyond them, up to {LONG_CHUNKS}.",
        "",
        "| added | call p50 us | in spans | call p99 us | async p50 us | event p50 us | further event us |",
        "|---|---|---|---|---|---|---|",
    ]
    added = {name: additions(name, found) for name in CASES}
    whole = {
        kind: added[GUARD_CASE][kind] + added[OFFICIAL_PRICED][kind] - added[OFFICIAL][kind]
        for kind in ("call", "event", "further")
    }
    long = percentile(found[GUARD_CASE, "long"], 50) - percentile(found["bare http", "long"], 50)
    for name, cells in {IN_ALL: whole, **added}.items():
        call = cells["call"]
        shown = [call, call / yardstick, *map(cells.get, ("p99", "async", "event", "further"))]
        lines.append(f"| {name} | {' | '.join('' if each is None else f'{each:.1f}' for each in shown)} |")
    told = f"To a call of {len(LONG_REQUEST.content)} bytes the guard adds {long:.1f} us."
    return [*lines, "", told, ""]


def additions(name: str, found: dict[tuple[str, str], Times]) -> dict[str, float]:
    """Return the microseconds that a case adds to a call, whole or asynchronous, and to a streamed event."""
    base = "bare http" if name == GUARD_CASE else "bare sdk"
    added = {
        kind: percentile(times, 50) - percentile(found[base, kind], 50)
        for (case, kind), times in found.items()
        if case == name
    }
    made = {
        "call": added["sync"],
        "p99": percentile(found[name, "sync"], 99) - percentile(found[base, "sync"], 50),
    }
    if "stream" in added:
        made["event"] = added["stream"] / CHUNKS
        made["further"] = (added["long stream"] - added["stream"]) / (LONG_CHUNKS - CHUNKS)
    if "async" in added:
        made["async"] = added["async"]
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.chdir(folder)  # LiteLLM keeps a file where it stands
        lines = report(rounds, measure(rounds))
    RESULTS.write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()

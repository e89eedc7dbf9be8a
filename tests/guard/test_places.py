"""Inference that is kept to a region: held as asked, settled as told, told to the span."""

from __future__ import annotations

import json
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
from otel_cost.fake_provider import FakeProvider, Reply
from otel_cost.guard import Guard, clients
from otel_cost.guard.answers import read_answer
from otel_cost.guard.calls import ModelCall, recognise
from otel_cost.guard.untold import tier_of
from otel_cost.ledger.memory import MemoryLedger
from otel_cost.money import PICO
from otel_cost.pricing import PriceBook
from otel_cost.usage import Usage

BOOK = PriceBook.load()
ASKED = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "anthropic",
    "gen_ai.request.model": "claude-opus-4-7",
}
MESSAGES = "https://api.anthropic.com/v1/messages"


def call(url: str, body: dict[str, Any]) -> ModelCall:
    """Return a request as the guard sees it."""
    found = recognise("POST", url, json.dumps({"model": "claude-opus-4-7", "max_tokens": 10, **body}))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("url", "body", "place"),
    [
        (MESSAGES, {"inference_geo": "us"}, "regional"),
        (MESSAGES, {"inference_geo": "global"}, ""),
        (MESSAGES, {"inference_geo": "eu"}, "eu"),
        (MESSAGES, {"inference_geo": 5}, ""),
        (MESSAGES, {}, ""),
        (
            f"{MESSAGES}/batches",
            {"requests": [{"params": {}}, {"params": {"inference_geo": "us"}}]},
            "regional",
        ),
        ("https://eu.api.openai.com/v1/responses", {}, "regional"),
        ("https://api.openai.com/v1/responses", {}, ""),
    ],
)
def test_what_is_asked(url: str, body: dict[str, Any], place: str) -> None:
    """The body asks for it at Anthropic, the host at others."""
    assert call(url, body).place == place


@pytest.mark.parametrize(
    ("asked", "usage", "tier"),
    [
        ({"inference_geo": "us"}, {"inference_geo": "global", "service_tier": "standard"}, "standard"),
        ({}, {"inference_geo": "us", "service_tier": "standard"}, "regional standard"),
        ({"speed": "fast"}, {"inference_geo": "us", "speed": "fast"}, "regional fast"),
        ({"inference_geo": "us"}, {"service_tier": "batch"}, "regional batch"),
        ({"inference_geo": "us"}, {}, "regional"),
        ({}, {"inference_geo": "not_available"}, ""),
    ],
)
def test_the_answer_is_believed(asked: dict[str, Any], usage: dict[str, Any], tier: str) -> None:
    """A workspace has a default that no request shows; where the answer says nothing, the request decides."""
    answer = read_answer(json.dumps({"usage": {"input_tokens": 1, "output_tokens": 1, **usage}}).encode())
    assert tier_of(call(MESSAGES, asked), answer) == tier


@pytest.mark.parametrize(
    ("extra", "cost"),
    [({"inference_geo": "us"}, "0.011"), ({"inference_geo": "global"}, "0.01"), ({}, "0.01")],
)
def test_a_span_costs_what_the_ledger_counted(extra: dict[str, Any], cost: str) -> None:
    """1,000 x 5 + 200 x 25 a million, times 1.1 in the United States, where no instrumentation says so.

    https://platform.claude.com/docs/en/manage-claude/data-residency (2026-11)
    """
    spans, tracing = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    tracing.add_span_processor(CostSpanProcessor(Config(metrics=False), book=BOOK))
    tracing.add_span_processor(SimpleSpanProcessor(spans))
    guard = Guard(Policy.load(environ={}, max_wait_s=5), MemoryLedger(), BOOK)
    clients.install(guard)
    try:
        with (
            FakeProvider(Reply("hi", usage=Usage(input_tokens=1_000, output_tokens=200))) as provider,
            execution("run", budget_usd=10),
            tracing.get_tracer("instrumentor").start_as_current_span("chat", attributes=ASKED) as span,
        ):
            body = {"model": "claude-opus-4-7", "max_tokens": 300, "messages": [], **extra}
            usage = httpx.post(f"{provider.url}/v1/messages", json=body).json()["usage"]
            span.set_attribute("gen_ai.usage.input_tokens", usage["input_tokens"])
            span.set_attribute("gen_ai.usage.output_tokens", usage["output_tokens"])
    finally:
        clients.uninstall()
    (told,) = spans.get_finished_spans()
    assert told.attributes is not None
    spent = Decimal(guard.ledger.balance("execution:run").settled_picousd) / PICO
    assert Decimal(str(told.attributes["otel_cost.cost_usd"])) == spent == Decimal(cost)

"""The official instrumentation of OpenAI's client with our processor behind it, and what it exports."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_cost.pricing import PriceBook
from otel_cost.processor import CostSpanProcessor


@contextmanager
def priced_openai(book: PriceBook) -> Iterator[InMemorySpanExporter]:
    """Instrument OpenAI's client for a while."""
    exporter = InMemorySpanExporter()
    tracing = TracerProvider(shutdown_on_exit=False)
    tracing.add_span_processor(CostSpanProcessor(book=book))
    tracing.add_span_processor(SimpleSpanProcessor(exporter))
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=tracing)
    try:
        yield exporter
    finally:
        instrumentor.uninstrument()

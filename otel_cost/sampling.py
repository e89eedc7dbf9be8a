"""Meter model calls that the user's sampler drops, without exporting them.

A span that a sampler drops is never shown to processors, so what it cost would be lost. A `MeteringSampler`
keeps the decision of the sampler it wraps, but records a dropped span that concerns a model: processors see
it, and exporters, which look at the sampled flag, do not send it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

from otel_cost.attributes import DECISION_SPAN

MODEL_CALL_ATTRIBUTES = (
    "gen_ai.operation.name",
    "gen_ai.provider.name",
    "gen_ai.system",
    "gen_ai.request.model",
    "llm.request.type",
    "llm.model_name",
    "openinference.span.kind",
    "traceloop.span.kind",
    "langfuse.observation.type",
)
"""Any of these at the start of a span says that a model may be at work."""

MODEL_SCOPES = (
    "opentelemetry.instrumentation.genai",
    "opentelemetry.instrumentation.google_genai",
    "opentelemetry.instrumentation.google_generativeai",
    "opentelemetry.instrumentation.openai",
    "opentelemetry.instrumentation.anthropic",
    "opentelemetry.instrumentation.langchain",
    "opentelemetry.instrumentation.bedrock",
    "opentelemetry.instrumentation.botocore.bedrock",
    "opentelemetry.instrumentation.cohere",
    "opentelemetry.instrumentation.groq",
    "opentelemetry.instrumentation.mistralai",
    "opentelemetry.instrumentation.ollama",
    "opentelemetry.instrumentation.together",
    "opentelemetry.instrumentation.vertexai",
    "opentelemetry.instrumentation.llamaindex",
    "opentelemetry.instrumentation.crewai",
    "openinference.instrumentation",
    "com.anthropic.sdk",
    "pydantic-ai",
    "litellm",
    "langfuse-sdk",
    "logfire.openai",
    "logfire.anthropic",
    "strands",
    "gcp.vertex.agent",
)
"""Scopes (prefixes) that set those attributes only after the start; every span of theirs is recorded."""


class MeteringSampler(Sampler):
    """Decides as the wrapped sampler does, except that a model call is recorded where that one drops it.

    Attributes:
        inner: The user's sampler.
        records_all: Whether every span concerns a model, because of the scope it comes from.
    """

    def __init__(self, inner: Sampler, *, records_all: bool = False) -> None:
        self.inner = inner
        self.records_all = records_all

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Return the wrapped sampler's decision, with a dropped model call turned into a recorded one.

        A decision of the guard, on a span of its own where no other is sent, is always sampled.
        """
        if name == DECISION_SPAN:
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)
        result = self.inner.should_sample(
            parent_context, trace_id, name, kind, attributes, links, trace_state
        )
        if result.decision is not Decision.DROP or not self._is_metered(attributes):
            return result
        return SamplingResult(Decision.RECORD_ONLY, attributes, result.trace_state)

    def get_description(self) -> str:
        """Return the wrapped sampler's description, marked as metered."""
        return f"MeteringSampler{{{self.inner.get_description()}}}"

    def _is_metered(self, attributes: Attributes) -> bool:
        if self.records_all:
            return True
        return attributes is not None and any(name in attributes for name in MODEL_CALL_ATTRIBUTES)


def meter_dropped_spans(provider: TracerProvider) -> None:
    """Wrap a provider's sampler and those of the tracers it gave out. Doing it twice changes nothing."""
    if isinstance(provider.sampler, MeteringSampler):
        return
    provider.sampler = MeteringSampler(provider.sampler)
    for tracer in _existing_tracers(provider):
        _meter(tracer)
    give_tracer = provider.get_tracer

    def get_tracer(*args: Any, **kwargs: Any) -> Any:
        tracer = give_tracer(*args, **kwargs)
        _meter(tracer)
        return tracer

    provider.get_tracer = get_tracer  # type: ignore[method-assign]


def _existing_tracers(provider: TracerProvider) -> Iterable[Any]:
    """Return the tracers given out so far; SDKs before 1.41 do not remember them."""
    tracers = getattr(provider, "_tracers", ())
    return list(tracers.values() if isinstance(tracers, dict) else tracers)


def _meter(tracer: Any) -> None:
    sampler = getattr(tracer, "sampler", None)
    scope = getattr(tracer, "_instrumentation_scope", None)
    records_all = getattr(scope, "name", "").startswith(MODEL_SCOPES)
    if isinstance(sampler, MeteringSampler):
        if sampler.records_all == records_all:
            return
        sampler = sampler.inner
    if sampler is not None:
        tracer.sampler = MeteringSampler(sampler, records_all=records_all)

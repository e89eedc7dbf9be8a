"""`otel_cost.install()` on people's own providers: order, repetition, samplers, what goes wrong beside it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.trace import Tracer

import otel_cost
from otel_cost.instrument import _warn_of_other_kinds
from otel_cost.processor import CostSpanProcessor
from otel_cost.sampling import MeteringSampler
from tests.agents.harness import Program

# gpt-5-mini: $0.25 input, $0.025 cached, $2.00 output per million tokens
# (genai-prices 0.2.3, from https://developers.openai.com/api/docs/pricing).
# 400 * 0.25 + 600 * 0.025 + 200 * 2.00 = 515 millionths of a dollar.
CALL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-5-mini",
    "gen_ai.usage.input_tokens": 1000,
    "gen_ai.usage.cache_read.input_tokens": 600,
    "gen_ai.usage.output_tokens": 200,
}
CALL_USD = Decimal("0.000515")

MakeProvider = Callable[..., TracerProvider]


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    """What a backend would receive."""
    return InMemorySpanExporter()


@pytest.fixture
def make_provider(exporter: InMemorySpanExporter) -> Iterator[MakeProvider]:
    """Make a provider that exports at once."""
    made: list[TracerProvider] = []

    def make(sampler: Sampler = ALWAYS_ON) -> TracerProvider:
        provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        made.append(provider)
        return provider

    yield make
    for provider in made:
        provider.shutdown()


def call(tracer: Tracer) -> None:
    """Make one model call's span."""
    with tracer.start_as_current_span("chat gpt-5-mini", attributes=CALL):
        pass


def costs(exporter: InMemorySpanExporter) -> list[Decimal | None]:
    """Return what the exporter saw each span cost."""
    found = [(span.attributes or {}).get("otel_cost.cost_usd") for span in exporter.get_finished_spans()]
    return [None if text is None else Decimal(text) for text in found]


def test_an_exporter_added_before_sees_the_cost(make_provider, exporter):
    """The processor goes ahead of the exporters that are there already."""
    provider = make_provider()
    processor = otel_cost.install(provider)
    call(provider.get_tracer("test"))
    assert costs(exporter) == [CALL_USD]
    assert provider._active_span_processor._span_processors[0] is processor


def test_installing_again_changes_nothing(make_provider, exporter):
    """A second call returns the same processor, and nothing is priced or sampled twice."""
    provider = make_provider()
    first = otel_cost.install(provider)
    sampler = provider.sampler
    assert otel_cost.install(provider) is first
    assert provider.sampler is sampler
    assert (
        sum(isinstance(p, CostSpanProcessor) for p in provider._active_span_processor._span_processors) == 1
    )


def test_a_processor_added_by_hand_is_found(make_provider, exporter):
    """`add_span_processor(CostSpanProcessor())` is the other two-line set-up; install then adds none."""
    provider = make_provider()
    mine = CostSpanProcessor()
    provider.add_span_processor(mine)
    assert otel_cost.install(provider) is mine
    call(provider.get_tracer("test"))
    assert costs(exporter) == [CALL_USD]


def test_two_processors_price_a_span_once(make_provider, exporter):
    """Two set-ups that do not know of each other give the same cost, and count the call once."""
    provider = make_provider()
    first = otel_cost.install(provider)
    provider.add_span_processor(CostSpanProcessor())
    call(provider.get_tracer("test"))
    (span,) = exporter.get_finished_spans()
    execution = first.execution(span.attributes["otel_cost.execution.id"])
    assert costs(exporter) == [CALL_USD]
    assert execution.model_calls == 1


@pytest.mark.parametrize("sampler", [ALWAYS_OFF, TraceIdRatioBased(0.0), ParentBased(ALWAYS_OFF)])
def test_dropped_calls_are_metered_and_not_exported(make_provider, exporter, sampler):
    """The user's sampler decides about export alone; what was spent is known."""
    provider = make_provider(sampler)
    processor = otel_cost.install(provider)
    ended: list[ReadableSpan] = []
    provider.add_span_processor(_Seen(ended))
    with provider.get_tracer("app").start_as_current_span("request"):
        call(provider.get_tracer("test"))
    assert exporter.get_finished_spans() == ()
    (span,) = ended
    assert processor.execution(format(span.context.trace_id, "032x")).total.cost_picousd == 515_000_000


def test_tracers_made_before_are_metered_too(make_provider):
    """An instrumentor that took its tracer before the install is not forgotten."""
    provider = make_provider(ALWAYS_OFF)
    tracer = provider.get_tracer("test")
    otel_cost.install(provider)
    ended: list[ReadableSpan] = []
    provider.add_span_processor(_Seen(ended))
    call(tracer)
    assert len(ended) == 1


def test_a_dropped_span_of_a_model_scope_is_metered_whatever_it_starts_with(make_provider):
    """Some instrumentations name the model only after the start; their scope says enough."""
    provider = make_provider(ALWAYS_OFF)
    otel_cost.install(provider)
    ended: list[ReadableSpan] = []
    provider.add_span_processor(_Seen(ended))
    with provider.get_tracer("openinference.instrumentation.openai").start_as_current_span(
        "ChatCompletion"
    ) as span:
        span.set_attributes(CALL)
    assert [Decimal(span.attributes["otel_cost.cost_usd"]) for span in ended] == [CALL_USD]


def test_other_dropped_spans_stay_dropped(make_provider):
    """Spans that no model is behind cost nothing more than before."""
    provider = make_provider(ALWAYS_OFF)
    otel_cost.install(provider)
    span = provider.get_tracer("app").start_span("GET /", attributes={"http.request.method": "GET"})
    assert not span.is_recording()


def test_the_sampler_keeps_its_description_and_decisions(make_provider, exporter):
    """Wrapping is visible in the description, and sampled spans are sampled as before."""
    provider = make_provider(TraceIdRatioBased(1.0))
    otel_cost.install(provider)
    assert isinstance(provider.sampler, MeteringSampler)
    assert "TraceIdRatioBased" in provider.sampler.get_description()
    call(provider.get_tracer("test"))
    assert exporter.get_finished_spans()[0].context.trace_flags.sampled


def test_a_broken_exporter_breaks_neither_agent_nor_metering(make_provider):
    """An exporter that raises or fails leaves the agent running and the cost known."""
    provider = make_provider()
    processor = otel_cost.install(provider)
    seen: list[ReadableSpan] = []
    provider.add_span_processor(_Seen(seen))
    provider.add_span_processor(SimpleSpanProcessor(_Broken()))
    call(provider.get_tracer("test"))
    call(provider.get_tracer("test"))
    totals = [processor.execution(format(span.context.trace_id, "032x")).total.cost_picousd for span in seen]
    assert totals == [515_000_000] * 2


def test_calls_of_many_threads_are_all_counted(make_provider, exporter):
    """Eight threads under one root: every call is counted once, and the root has the sum."""
    provider = make_provider()
    otel_cost.install(provider)
    tracer = provider.get_tracer("test")
    with tracer.start_as_current_span("agent") as root:
        parent = trace.set_span_in_context(root)

        def work() -> None:
            for _ in range(25):
                tracer.start_span("chat", context=parent, attributes=CALL).end()

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    last = exporter.get_finished_spans()[-1].attributes
    assert last["otel_cost.execution.model_calls"] == 200
    assert Decimal(last["otel_cost.execution.cost_usd"]) == 200 * CALL_USD


def test_concurrent_executions_of_one_loop_stay_apart(make_provider, exporter):
    """asyncio.gather interleaves executions; each has its own payer and total."""
    provider = make_provider()
    otel_cost.install(provider)
    tracer = provider.get_tracer("test")

    async def agent(user: str, calls: int) -> None:
        with otel_cost.execution(f"run-{user}", user=user):
            for _ in range(calls):
                with tracer.start_as_current_span("chat", attributes=CALL):
                    await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(agent("ann", 2), agent("ben", 3))

    asyncio.run(main())
    users = [
        span.attributes["otel_cost.user"] for span in exporter.get_finished_spans() if span.name == "chat"
    ]
    assert sorted(users) == ["ann"] * 2 + ["ben"] * 3


def test_a_processor_that_makes_spans_does_not_recurse(make_provider, exporter):
    """A processor beside ours may itself call a model; both calls are priced."""
    provider = make_provider()
    otel_cost.install(provider)
    tracer = provider.get_tracer("test")
    provider.add_span_processor(_Summarizer(tracer))
    call(tracer)
    assert costs(exporter) == [CALL_USD] * 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_workers_go_on_as_a_server_does():
    """Workers forked after the install, as gunicorn does it, price and export on their own."""
    code = """
    import os, sys
    import otel_cost
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
    provider = TracerProvider()
    formatter = lambda span: f"{span.attributes.get('otel_cost.cost_usd')}\\n"
    provider.add_span_processor(BatchSpanProcessor(ConsoleSpanExporter(formatter=formatter)))
    trace.set_tracer_provider(provider)
    otel_cost.install()
    for _ in range(2):
        if os.fork() == 0:
            with trace.get_tracer("test").start_as_current_span("chat", attributes=%r): pass
            sys.exit(0)
    for _ in range(2): os.wait()
    """
    finished = Program(code % CALL, instrumented=False).run({"PYTHONWARNINGS": "ignore"})
    assert finished.stdout.split() == ["0.000515"] * 2, finished.stderr


def test_install_before_the_program_sets_its_provider():
    """The order of two lines does not matter: the processor waits for the provider."""
    code = """
    import otel_cost
    processor = otel_cost.install()
    assert otel_cost.install() is processor
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
    provider = TracerProvider()
    formatter = lambda span: f"{span.attributes.get('otel_cost.cost_usd')}\\n"
    provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(formatter=formatter)))
    trace.set_tracer_provider(provider)
    assert otel_cost.install() is processor
    with trace.get_tracer("test").start_as_current_span("chat", attributes=%r): pass
    """
    finished = Program(code % CALL, instrumented=False).run()
    assert finished.stdout == "0.000515\n", finished.stderr


def test_another_vendors_provider_is_named(caplog):
    """A provider that takes no processors cannot be priced, and that is said."""

    class Vendor(trace.TracerProvider):
        def get_tracer(self, *arguments: object, **options: object) -> Tracer:
            return trace.NoOpTracer()

    _warn_of_other_kinds(Vendor())
    _warn_of_other_kinds(trace.NoOpTracerProvider())
    assert len(caplog.records) == 1
    assert "Vendor is not OpenTelemetry's TracerProvider" in caplog.text


def test_importing_the_package_imports_no_sdk():
    """`import otel_cost` is cheap until a name is used."""
    code = "import sys, otel_cost; print('opentelemetry.sdk' in sys.modules)"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout == "False\n"


class _Seen(SpanProcessor):
    """Keeps every span that ends, sampled or not."""

    def __init__(self, ended: list[ReadableSpan]) -> None:
        self._ended = ended

    def on_end(self, span: ReadableSpan) -> None:
        self._ended.append(span)


class _Broken(SpanExporter):
    """Raises on every batch."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        raise ConnectionError("no route")


class _Summarizer(SpanProcessor):
    """Makes one more model call for the first span that ends."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._is_done = False

    def on_end(self, span: ReadableSpan) -> None:
        if not self._is_done:
            self._is_done = True
            call(self._tracer)

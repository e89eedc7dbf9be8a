"""Beside Langfuse, Logfire, OpenLLMetry and OpenInference: their exporters see costs, nothing counts twice.

Each program is what the project's own documentation tells people to write, and one line of ours. What is
checked is what the other project's exporter sends over the wire.
"""

from __future__ import annotations

import textwrap
from decimal import Decimal

import pytest

from otel_cost.fake_provider import FakeProvider, Reply
from otel_cost.usage import INPUT_BUCKETS, Usage
from tests.agents.harness import Collector, Program, environment, send_to
from tests.agents.test_double_emitters import measured, spent

USAGE = Usage(input_tokens=400, cache_read_tokens=600, output_tokens=50, reasoning_tokens=150)

# Per million tokens (genai-prices 0.2.3, from https://developers.openai.com/api/docs/pricing and
# https://www.anthropic.com/pricing#api): gpt-5-mini $0.25 input, $0.025 cached, $2.00 output;
# claude-sonnet-4-6 $3 input, $0.30 cached, $15 output.
OPENAI_USD = Decimal("0.000515")  # 400 * 0.25 + 600 * 0.025 + 200 * 2.00 = 515 millionths
ANTHROPIC_USD = Decimal("0.00438")  # 400 * 3 + 600 * 0.30 + 200 * 15 = 4,380 millionths

CALLS = """
import anthropic, openai
hi = [{"role": "user", "content": "hi"}]
client = openai.OpenAI()
client.chat.completions.create(model="gpt-5-mini", messages=hi)
list(client.chat.completions.create(
    model="gpt-5-mini", messages=hi, stream=True, stream_options={"include_usage": True}))
client.responses.create(model="gpt-5-mini", input="hi")
anthropic.Anthropic().messages.create(model="claude-sonnet-4-6", max_tokens=9, messages=hi)
"""
"""Three calls at OPENAI_USD and one at ANTHROPIC_USD."""

OWN_PROVIDER = """
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
"""

LANGFUSE = """
import otel_cost
from langfuse import get_client, observe
langfuse = get_client()
otel_cost.install()
from langfuse.openai import openai
@observe()
def agent():
    hi = [{"role": "user", "content": "hi"}]
    openai.OpenAI().chat.completions.create(model="gpt-5-mini", messages=hi)
    openai.OpenAI().chat.completions.create(model="gpt-5-mini", messages=hi)
agent()
langfuse.flush()
"""

LOGFIRE = (
    """
import logfire
import otel_cost
logfire.configure(send_to_logfire=False, console=False, inspect_arguments=False)
logfire.instrument_openai()
logfire.instrument_anthropic()
otel_cost.install()
with logfire.span("agent"):
"""
    + textwrap.indent(CALLS, "    ")
    + "\nlogfire.force_flush()"
)

OPENINFERENCE = (
    OWN_PROVIDER
    + """
import otel_cost
otel_cost.install()
from openinference.instrumentation.anthropic import AnthropicInstrumentor
from openinference.instrumentation.openai import OpenAIInstrumentor
AnthropicInstrumentor().instrument()
OpenAIInstrumentor().instrument()
with trace.get_tracer("app").start_as_current_span("agent"):
"""
    + textwrap.indent(CALLS, "    ")
)

OPENLLMETRY = (
    OWN_PROVIDER
    + """
from opentelemetry.instrumentation.anthropic import AnthropicInstrumentor
from opentelemetry.instrumentation.openai import OpenAIInstrumentor
AnthropicInstrumentor().instrument()
OpenAIInstrumentor().instrument()
from otel_cost import CostSpanProcessor
provider.add_span_processor(CostSpanProcessor())
with trace.get_tracer("app").start_as_current_span("agent"):
"""
    + textwrap.indent(CALLS, "    ")
)

OLDEST = [
    "opentelemetry-sdk==1.39.1",
    "opentelemetry-exporter-otlp==1.39.1",
    "opentelemetry-instrumentation==0.60b1",
    "openinference-instrumentation-openai",
    "openinference-instrumentation-anthropic",
    "openai<3",
    "anthropic<2",
]
"""The first supported OpenTelemetry, without a distribution, and the SDKs of its time."""

TRACELOOP = (
    """
from traceloop.sdk import Traceloop
from traceloop.sdk.decorators import workflow
Traceloop.init(app_name="app", disable_batch=True)
import otel_cost
otel_cost.install()
@workflow(name="agent")
def agent():
"""
    + textwrap.indent(CALLS, "    ")
    + "\nagent()"
)


@pytest.fixture
def provider():
    """A provider that bills the same usage for every call."""
    with FakeProvider(Reply("yes", usage=USAGE)) as provider:
        yield provider


def run(code: str, provider: FakeProvider, collector: Collector, **settings: str) -> None:
    """Run a program with its own set-up, without zero-code instrumentation."""
    keys = {"LANGFUSE_PUBLIC_KEY": "pk-none", "LANGFUSE_SECRET_KEY": "sk-none"}
    hosts = {"LANGFUSE_BASE_URL": collector.url, "TRACELOOP_BASE_URL": collector.url}
    quiet = {"TRACELOOP_TELEMETRY": "false", "TRACELOOP_API_KEY": "none"}
    program = Program(code, instrumented=False, python=settings.pop("python", Program("").python))
    finished = program.run(provider.environment, send_to(collector), keys, hosts, quiet, settings)
    assert finished.returncode == 0, finished.stderr


def check_all_calls(provider: FakeProvider, collector: Collector) -> None:
    """The spans of `CALLS` carry costs, and those that count add up to what was billed.

    Output is compared in total: OpenLLMetry's streamed spans do not tell reasoning apart; it costs the same.
    """
    assert provider.count() == 4
    found, truth = measured(collector), provider.truth()
    assert found.total_output_tokens == truth.total_output_tokens
    assert all(getattr(found, name) == getattr(truth, name) for name in INPUT_BUCKETS)
    assert spent(collector) == 3 * OPENAI_USD + ANTHROPIC_USD
    written = [span.attributes.get("gen_ai.usage.cost") for span in collector.counted()]
    assert sum(cost for cost in written if cost) == pytest.approx(float(3 * OPENAI_USD + ANTHROPIC_USD))


def test_openinference(provider, collector):
    """OpenInference spans without response ids, on a provider of the user's own."""
    run(OPENINFERENCE, provider, collector)
    check_all_calls(provider, collector)
    assert len(collector.counted()) == 4


def test_openllmetry(provider, collector):
    """OpenLLMetry's instrumentors, and our processor added by hand behind the exporter."""
    run(OPENLLMETRY, provider, collector)
    check_all_calls(provider, collector)
    assert len(collector.counted()) == 4


def test_logfire(provider, collector):
    """Logfire's own provider and its instrumentation of both SDKs, exported by its OTLP exporter."""
    run(LOGFIRE, provider, collector)
    check_all_calls(provider, collector)


def test_logfire_with_our_processor_among_its_own(provider, collector):
    """Given to `logfire.configure`, our processor works behind Logfire's wrappers too."""
    ours = "additional_span_processors=[otel_cost.CostSpanProcessor()])"
    code = LOGFIRE.replace("inspect_arguments=False)", f"inspect_arguments=False, {ours}")
    run(code.replace("otel_cost.install()\n", ""), provider, collector)
    check_all_calls(provider, collector)


def test_langfuse(provider, collector):
    """Langfuse's OpenAI wrapper and decorator; its exporter carries cost and cached tokens."""
    run(LANGFUSE, provider, collector)
    assert {span.scope for span in collector.spans} == {"langfuse-sdk"}
    assert [span.cost_usd for span in collector.counted()] == [OPENAI_USD] * 2
    assert measured(collector) == provider.truth()


def test_langfuse_under_zero_code(provider, collector):
    """Started by `otel-cost run`, Langfuse's spans and the official instrumentor's are one call each."""
    program = Program(LANGFUSE)
    langfuse = {"LANGFUSE_PUBLIC_KEY": "pk", "LANGFUSE_SECRET_KEY": "sk", "LANGFUSE_BASE_URL": collector.url}
    finished = program.run(provider.environment, send_to(collector), langfuse)
    assert finished.returncode == 0, finished.stderr
    once = {span.span_id: span for span in collector.spans}
    counted = [span.cost_usd for span in once.values() if span.is_counted]
    assert counted == [OPENAI_USD] * 2


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_whole_traceloop_sdk(provider, collector):
    """Traceloop's own set-up with everything it instruments, in an environment of its own."""
    python = environment("traceloop", ["traceloop-sdk==0.62.4", "openai", "anthropic", "httpx<1"])
    run(TRACELOOP, provider, collector, python=python)
    check_all_calls(provider, collector)
    assert "agent.workflow" in {span.name for span in collector.spans}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_oldest_supported_sdk(provider, collector):
    """OpenTelemetry 1.39, where only a processor ahead of the exporter can write on a span."""
    run(OPENINFERENCE, provider, collector, python=environment("sdk-1.39", OLDEST))
    check_all_calls(provider, collector)

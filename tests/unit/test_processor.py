"""The processor, with the real SDK and exporters behind and beside it."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Tracer

from otel_cost import containment
from otel_cost.attribution import execution
from otel_cost.config import Config
from otel_cost.metrics import CostMetrics
from otel_cost.pricing import PriceBook
from otel_cost.processor import CostSpanProcessor

# gpt-4o-mini: 0.15 in, 0.60 out per million (https://openai.com/api/pricing), so 1,000 / 200 is 0.00027 USD.
CALL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o-mini",
    "gen_ai.usage.input_tokens": 1000,
    "gen_ai.usage.output_tokens": 200,
}
BOOK = PriceBook.load()


class Rig:
    """A tracer provider with our processor and an exporter on each side of it."""

    def __init__(self, config: Config | None = None, **resource: str) -> None:
        self.before, self.after = InMemorySpanExporter(), InMemorySpanExporter()
        self.processor = CostSpanProcessor(config or Config(metrics=False), book=BOOK)
        self.provider = TracerProvider(
            resource=Resource({name.replace("__", "."): text for name, text in resource.items()}),
            shutdown_on_exit=False,
        )
        self.provider.add_span_processor(SimpleSpanProcessor(self.before))
        self.provider.add_span_processor(self.processor)
        self.provider.add_span_processor(SimpleSpanProcessor(self.after))

    @property
    def tracer(self) -> Tracer:
        """A tracer of some instrumentation."""
        return self.provider.get_tracer("test")

    def call(self, **changes: Any) -> None:
        """Make one model call's span; a change to None leaves an attribute out."""
        attributes = {**CALL, **{name.replace("__", "."): value for name, value in changes.items()}}
        kept = {name: value for name, value in attributes.items() if value is not None}
        with self.tracer.start_as_current_span("chat", attributes=kept):
            pass

    def spans(self) -> dict[str, ReadableSpan]:
        """The exported spans by name, the last of each name."""
        return {span.name: span for span in self.after.get_finished_spans()}

    def attributes(self, name: str = "chat") -> dict[str, Any]:
        """The exported attributes of the last span of a name."""
        return dict(self.spans()[name].attributes or {})


@pytest.fixture
def rig() -> Iterator[Rig]:
    """A rig whose errors, if any, are forgotten before and reported after."""
    containment.forget_errors()
    made = Rig()
    yield made
    made.provider.shutdown()
    assert containment.error_counts() == {}


def test_every_exporter_sees_the_cost(rig: Rig) -> None:
    """Exporters registered before and after the processor both get the amounts."""
    rig.call()
    for exporter in (rig.before, rig.after):
        attributes = dict(exporter.get_finished_spans()[0].attributes or {})
        assert attributes["otel_cost.cost_usd"] == "0.00027"
        assert attributes["otel_cost.price.status"] == "priced"
        assert attributes["otel_cost.counted"] is True
        assert attributes["gen_ai.usage.cost.amount"] == pytest.approx(0.00027)
        assert attributes["gen_ai.usage.cost.currency"] == "USD"
        assert attributes["gen_ai.usage.cost.source"] == "local"
        assert attributes["gen_ai.usage.cost"] == pytest.approx(0.00027)


def test_backends_attribute_can_be_turned_off() -> None:
    """Where a backend would add `gen_ai.usage.cost` twice, it is not written."""
    rig = Rig(Config(metrics=False, emit_cost=False))
    rig.call()
    assert "gen_ai.usage.cost" not in rig.attributes()
    assert "gen_ai.usage.cost.amount" in rig.attributes()


def test_disabled_processor_changes_nothing() -> None:
    """Switched off, the spans stay as they are."""
    rig = Rig(Config(metrics=False, enabled=False))
    rig.call()
    assert rig.attributes() == CALL


def test_unknown_model_is_unpriced_not_free(rig: Rig) -> None:
    """No amount is written for a model without a price."""
    rig.call(gen_ai__provider__name="acme", gen_ai__request__model="acme-1")
    attributes = rig.attributes()
    assert attributes["otel_cost.price.status"] == "unpriced"
    assert "otel_cost.cost_usd" not in attributes
    assert "gen_ai.usage.cost" not in attributes


def test_root_span_has_the_executions_totals(rig: Rig) -> None:
    """The outermost span says what everything below it cost."""
    with rig.tracer.start_as_current_span("root"):
        rig.call()
        rig.call()
        rig.call(gen_ai__provider__name="acme", gen_ai__request__model="acme-1")
        with rig.tracer.start_as_current_span(
            "tool", attributes={"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search"}
        ):
            pass
    root = rig.attributes("root")
    assert root["otel_cost.execution.cost_usd"] == "0.00054"
    assert root["otel_cost.execution.model_calls"] == 3
    assert root["otel_cost.execution.tool_calls"] == 1
    assert root["otel_cost.execution.unpriced_calls"] == 1
    assert root["otel_cost.execution.input_tokens"] == 3000
    assert root["otel_cost.execution.id"] == format(rig.spans()["root"].context.trace_id, "032x")


def test_what_does_not_count_shows_no_amount_to_backends(rig: Rig) -> None:
    """An agent that repeats its call keeps its own cost, marked, where backends do not add it up."""
    with rig.tracer.start_as_current_span(
        "agent", attributes=CALL | {"gen_ai.operation.name": "invoke_agent"}
    ):
        rig.call()
    agent = rig.attributes("agent")
    assert agent["otel_cost.counted"] is False
    assert agent["otel_cost.not_counted_reason"] == "covered_by_descendants"
    assert "gen_ai.usage.cost" not in agent
    assert agent["otel_cost.execution.cost_usd"] == "0.00027"


def test_second_processor_prices_nothing_twice() -> None:
    """Two of our processors on one provider give one cost and one total."""
    rig = Rig()
    rig.provider.add_span_processor(CostSpanProcessor(Config(metrics=False), book=BOOK))
    with rig.tracer.start_as_current_span("root"):
        rig.call()
    assert rig.attributes("root")["otel_cost.execution.cost_usd"] == "0.00027"


def test_payer_of_context_resource_and_span(rig: Rig) -> None:
    """The span's own attributes come before the enclosing execution, and that before nothing."""
    with execution("run-1", team="search", user="u-1", organization="acme"):
        rig.call(user__id="u-2")
    attributes = rig.attributes()
    assert attributes["otel_cost.user"] == "u-2"
    assert attributes["otel_cost.team"] == "search"
    assert attributes["otel_cost.organization"] == "acme"
    assert attributes["otel_cost.execution.id"] == "run-1"


def test_children_inherit_what_the_root_says(rig: Rig) -> None:
    """A payer named once on the outermost span is on every call below it."""
    with rig.tracer.start_as_current_span(
        "root", attributes={"user.id": "u-9", "gen_ai.agent.name": "planner"}
    ):
        rig.call()
    assert rig.attributes()["otel_cost.user"] == "u-9"
    assert rig.attributes()["otel_cost.agent"] == "planner"


def test_resource_names_the_environment() -> None:
    """What the resource says holds for every call of the process."""
    rig = Rig(deployment__environment__name="production", team__id="platform")
    rig.call()
    assert rig.attributes()["otel_cost.environment"] == "production"
    assert rig.attributes()["otel_cost.team"] == "platform"


def test_the_resource_or_the_process_can_name_the_execution(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that is one execution says so once, and all of its traces are that one."""
    monkeypatch.setenv("OTEL_COST_EXECUTION_ID", "process-run")
    by_process = Rig()
    by_process.call()
    by_resource = Rig(otel_cost__execution__id="job-7")
    for _ in range(2):
        with by_resource.tracer.start_as_current_span("root"):
            by_resource.call()
    assert by_process.attributes()["otel_cost.execution.id"] == "process-run"
    assert by_resource.attributes()["otel_cost.execution.id"] == "job-7"
    assert by_resource.attributes("root")["otel_cost.execution.model_calls"] == 2


def test_an_execution_named_while_a_call_runs_counts(rig: Rig) -> None:
    """An attribute set after the span began is as good as one it began with."""
    with rig.tracer.start_as_current_span("chat", attributes=CALL) as span:
        span.set_attribute("otel_cost.execution.id", "named-late")
    named = rig.processor.execution("named-late")
    assert named is not None
    assert named.model_calls == 1


def test_usage_that_comes_on_a_later_span_settles_its_request(rig: Rig) -> None:
    """Logfire's streamed request is unpriced until the span with its usage ends; then it is one call."""
    tracer = rig.provider.get_tracer("logfire.openai")
    asked = {name: value for name, value in CALL.items() if "usage" not in name}
    with rig.tracer.start_as_current_span("root"):
        for _ in range(2):
            tracer.start_span("request", attributes=asked, start_time=1).end(2)
        for _ in range(2):
            tracer.start_span("log", attributes=CALL, start_time=9).end(9)
    root = rig.attributes("root")
    assert root["otel_cost.execution.cost_usd"] == "0.00054"
    assert root["otel_cost.execution.model_calls"] == 2
    assert root["otel_cost.execution.unpriced_calls"] == 0


def test_personal_ids_can_be_hashed() -> None:
    """With a key the user is replaced by a keyed hash, the same for the same user."""
    rig = Rig(Config(metrics=False, hash_key="secret"))
    rig.call(user__id="alice@example.com")
    first = rig.attributes()["otel_cost.user"]
    rig.call(user__id="alice@example.com")
    assert first == rig.attributes()["otel_cost.user"]
    assert first.startswith("h:")
    assert "alice" not in first


def test_executions_in_threads_and_tasks_add_up(rig: Rig) -> None:
    """Twenty threads and twenty tasks of one execution, no call lost."""
    with execution("run-2"):
        import contextvars

        threads = [
            threading.Thread(target=contextvars.copy_context().run, args=(rig.call,)) for _ in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        async def gather() -> None:
            async def one() -> None:
                await asyncio.sleep(0)
                rig.call()

            await asyncio.gather(*(one() for _ in range(20)))

        asyncio.run(gather())
    total = rig.processor.execution("run-2")
    assert total is not None
    assert total.model_calls == 40
    assert Decimal(total.total.cost_picousd) == Decimal("0.00027") * 40 * 10**12


def test_a_forked_child_goes_on(rig: Rig) -> None:
    """A child process forked while another thread holds the lock still prices its calls."""
    held = threading.Event()
    release = threading.Event()

    def hold() -> None:
        with rig.processor.executions._lock:
            held.set()
            release.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        rig.call()
        os.write(writer, rig.attributes()["otel_cost.cost_usd"].encode())
        os._exit(0)
    release.set()
    thread.join()
    os.waitpid(child, 0)
    assert os.read(reader, 100) == b"0.00027"
    os.close(reader)
    os.close(writer)


def test_memory_is_bounded_however_many_executions() -> None:
    """Old executions and unended spans are let go; new ones are still priced."""
    rig = Rig(Config(metrics=False, max_executions=10, max_open_spans=50))
    unended = [rig.tracer.start_span(f"open {number}") for number in range(100)]
    for number in range(100):
        with execution(f"run-{number}"):
            rig.call()
    assert len(rig.processor.executions) == 10
    assert rig.processor.execution("run-0") is None
    assert rig.attributes()["otel_cost.cost_usd"] == "0.00027"
    for span in unended:
        span.end()


def test_a_span_that_the_garbage_collector_ends_waits_for_nobody(rig: Rig) -> None:
    """It may come by in the middle of another span's accounting, on the same thread, and both are counted."""
    done = threading.Event()

    def collected() -> None:
        with rig.processor.executions._lock, containment._lock:
            rig.call()
        done.set()

    threading.Thread(target=collected, daemon=True).start()
    assert done.wait(10)
    assert rig.attributes()["otel_cost.cost_usd"] == "0.00027"


def test_an_internal_error_never_reaches_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """When pricing itself fails, the span is exported as it is and the error counted."""
    containment.forget_errors()
    rig = Rig()

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("out of order")

    monkeypatch.setattr(rig.processor.book, "price", broken)
    rig.call()
    rig.call()
    assert rig.attributes() == CALL
    assert containment.error_counts() == {("price span", "RuntimeError"): 2}
    containment.forget_errors()


def test_metrics_sum_exactly() -> None:
    """Ten thousand calls of 0.00027 are 2.7 USD, with no drift, and unpriced calls are told apart."""
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    cost_metrics = CostMetrics(meters.get_meter("otel_cost"))
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(CostSpanProcessor(Config(), book=BOOK, cost_metrics=cost_metrics))
    tracer = provider.get_tracer("test")
    for _ in range(10_000):
        tracer.start_span("chat", attributes=CALL).end()
    tracer.start_span("chat", attributes=CALL | {"gen_ai.request.model": "no-such-model"}).end()
    data = reader.get_metrics_data()
    assert data is not None
    found = {
        metric.name: {
            tuple(sorted((point.attributes or {}).items())): point.value for point in metric.data.data_points
        }
        for metric in data.resource_metrics[0].scope_metrics[0].metrics
    }
    model = (("gen_ai.provider.name", "openai"), ("gen_ai.response.model", "gpt-4o-mini"))
    assert found["otel_cost.cost"][(*model, ("otel_cost.price.status", "priced"))] == 2.7
    assert found["otel_cost.tokens"][(*model, ("gen_ai.token.type", "input"))] == 10_000_000
    unpriced = (model[0], ("gen_ai.response.model", "no-such-model"), ("otel_cost.price.status", "unpriced"))
    assert found["otel_cost.calls"][unpriced] == 1
    meters.shutdown()
    provider.shutdown()

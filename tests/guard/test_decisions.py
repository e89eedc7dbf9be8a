"""A refusal is told on a span that is sent: the current one, or one of its own."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from otel_cost import execution
from otel_cost.attribution import Payer, process_pseudonyms
from otel_cost.budgets import Policy
from otel_cost.errors import BudgetExceeded
from otel_cost.fake_provider import FakeProvider, Reply
from otel_cost.guard import Guard, clients, decisions, spenders
from otel_cost.guard.spenders import MAX_NAMES, Spenders
from otel_cost.ledger.memory import MemoryLedger
from otel_cost.pricing import PriceBook
from otel_cost.sampling import meter_dropped_spans
from otel_cost.usage import Usage

BOOK = PriceBook.load()
CHAT = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o"}


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    """A provider that bills 100,000 tokens in: $0.25 of gpt-4o, 2.50 USD per million."""
    with FakeProvider(Reply("ok", usage=Usage(input_tokens=100_000))) as made:
        yield made


@pytest.fixture(autouse=True)
def no_guard_stays() -> Iterator[None]:
    """Take the guard away after each test."""
    yield
    clients.uninstall()


@pytest.fixture
def tracing(monkeypatch: pytest.MonkeyPatch) -> TracerProvider:
    """A provider in force that keeps what is exported, as `exported` returns it."""
    made = TracerProvider(shutdown_on_exit=False)
    _in_force(monkeypatch, made)
    return made


def _in_force(monkeypatch: pytest.MonkeyPatch, tracing: TracerProvider) -> None:
    tracing.add_span_processor(SimpleSpanProcessor(InMemorySpanExporter()))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", tracing)


def exported(tracing: TracerProvider) -> list[ReadableSpan]:
    """Return the spans that were sent."""
    (processor,) = tracing._active_span_processor._span_processors
    assert isinstance(processor, SimpleSpanProcessor)
    assert isinstance(processor.span_exporter, InMemorySpanExporter)
    return list(processor.span_exporter.get_finished_spans())


def refused(provider: FakeProvider, **settings: object) -> BudgetExceeded:
    """Send one call that is refused."""
    clients.install(Guard(Policy.load(environ={}, budget_usd="0", **settings), MemoryLedger(), BOOK))
    with pytest.raises(BudgetExceeded) as caught:
        call(provider)
    return caught.value


def call(provider: FakeProvider, model: str = "gpt-4o") -> None:
    """Send one model call."""
    body = {"model": model, "max_tokens": 20, "messages": [{"role": "user", "content": "a secret"}]}
    httpx.post(f"{provider.openai_url}/chat/completions", json=body).raise_for_status()


def told(spans: list[ReadableSpan]) -> list[tuple[str, dict[str, object]]]:
    """Return the name of each span with a decision, and the decision."""
    return [(span.name, dict(event.attributes or {})) for span in spans for event in span.events]


def test_without_a_span_it_gets_its_own(provider: FakeProvider, tracing: TracerProvider) -> None:
    """A refusal outside of any span arrives all the same, with its execution, reason and amounts."""
    error = refused(provider)
    ((name, event),) = told(exported(tracing))
    (span,) = exported(tracing)
    assert (name, span.parent) == ("otel_cost.decision", None)
    assert event["otel_cost.execution.id"] == error.execution_id
    assert dict(span.attributes or {}) == {"otel_cost.execution.id": error.execution_id}
    assert event["otel_cost.reason"] == error.reason
    assert str(error.reason).startswith(f"execution {error.execution_id} may spend $0.00")
    assert (event["otel_cost.model"], event["otel_cost.reserved_usd"]) == ("gpt-4o", "0")
    assert "secret" not in repr(event)


def test_a_span_that_is_recorded_gets_it(provider: FakeProvider, tracing: TracerProvider) -> None:
    """No second span is made, and the call's span is marked as never sent."""
    with trace.get_tracer("t").start_as_current_span("chat", attributes=CHAT):
        refused(provider)
    (span,) = exported(tracing)
    assert (span.attributes or {})["otel_cost.refused"] is True
    assert [event.name for event in span.events] == ["otel_cost.refused"]


def test_a_span_below_a_caller_that_is_sampled(provider: FakeProvider, tracing: TracerProvider) -> None:
    """A service without spans of its own tells it in the trace of its caller."""
    caller = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    with trace.use_span(NonRecordingSpan(caller)):
        refused(provider)
    (span,) = exported(tracing)
    assert span.context is not None
    assert (span.context.trace_id, span.parent) == (1, caller)


def test_a_trace_that_is_sampled_away(provider: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sampler of the user drops the trace, and of it the decision alone is sent."""
    tracing = TracerProvider(sampler=ParentBased(ALWAYS_OFF), shutdown_on_exit=False)
    meter_dropped_spans(tracing)
    _in_force(monkeypatch, tracing)
    with trace.get_tracer("t").start_as_current_span("chat", attributes=CHAT):
        assert trace.get_current_span().is_recording()  # to be priced, not to be sent
        error = refused(provider)
    ((name, event),) = told(exported(tracing))
    assert (name, event["otel_cost.execution.id"]) == ("otel_cost.decision", error.execution_id)


def test_an_agent_that_goes_on_makes_no_end_of_spans(provider: FakeProvider, tracing: TracerProvider) -> None:
    """After so many refusals of one execution without a span there are no more of ours."""
    clients.install(Guard(Policy.load(environ={}, budget_usd="0", mode="enforce"), MemoryLedger(), BOOK))
    with execution("run"), trace.use_span(trace.INVALID_SPAN):
        for _ in range(decisions.MAX_SPANS + 5):
            with pytest.raises(BudgetExceeded):
                call(provider)
    assert len(told(exported(tracing))) == decisions.MAX_SPANS


def test_who_pays_is_told(
    provider: FakeProvider, tracing: TracerProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The payer of the execution stands on the event; a person's id as a keyed hash where that is set."""
    monkeypatch.setenv("OTEL_COST_HASH_KEY", "key")
    process_pseudonyms.cache_clear()
    try:
        with execution("run", team="red", user="ann"), trace.use_span(trace.INVALID_SPAN):
            refused(provider)
    finally:
        process_pseudonyms.cache_clear()
    ((_, event),) = told(exported(tracing))
    assert (event["otel_cost.team"], event["otel_cost.execution.id"]) == ("red", "run")
    assert str(event["otel_cost.user"]).startswith("h:")


def test_who_pays_for_the_process_is_told(
    provider: FakeProvider, tracing: TracerProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`otel-cost run --user carol --agent watcher` names who pays for a refused call too, and whose limits
    hold: the 10 cents of the agent."""
    monkeypatch.setenv("OTEL_COST_USER", "carol")
    monkeypatch.setenv("OTEL_COST_AGENT", "watcher")
    policy = Policy.load(environ={}, agents={"watcher": {"budget_usd": "0.10"}})
    clients.install(Guard(policy, MemoryLedger(), BOOK))
    with pytest.raises(BudgetExceeded, match=r"may spend \$0\.10"):
        httpx.post(f"{provider.openai_url}/chat/completions", json={"model": "gpt-4o"})
    ((_, event),) = told(exported(tracing))
    assert (event["otel_cost.user"], event["otel_cost.agent"]) == ("carol", "watcher")


def test_what_spent_most_is_named(provider: FakeProvider, tracing: TracerProvider) -> None:
    """The error and the event say which agents and models the money went to, exactly."""
    clients.install(Guard(Policy.load(environ={}), MemoryLedger(), BOOK))

    def agent() -> None:
        for _ in range(9):
            call(provider, "gpt-4o-mini")  # 0.15 USD per million: $0.015 a call

    with execution("run", budget_usd="0.80"):
        with execution(agent="planner"):
            call(provider)
        with execution(agent="writer", component="draft"):
            call(provider)
            call(provider)
        with pytest.raises(BudgetExceeded) as caught:
            agent()
    top = caught.value.top_components
    assert top[:2] == ("writer draft gpt-4o $0.5", "planner gpt-4o $0.25")
    assert top[2].startswith("gpt-4o-mini $0.0")
    assert "spent most: writer draft gpt-4o $0.5, planner gpt-4o $0.25" in str(caught.value)
    events = [event for _, event in told(exported(tracing))]
    assert events[-1]["otel_cost.top_components"] == ", ".join(top)


def test_a_guard_that_fails_and_denies_tells_it(
    provider: FakeProvider, tracing: TracerProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That refusal too is a decision, of kind guard_failed."""
    guard = Guard(Policy.load(environ={}, on_failure="deny", budget_usd=1), MemoryLedger(), BOOK)
    monkeypatch.setattr(guard.ledger, "reserve", lambda *_, **__: 1 / 0)
    clients.install(guard)
    with pytest.raises(BudgetExceeded):
        call(provider)
    ((_, event),) = told(exported(tracing))
    assert event["otel_cost.kind"] == "guard_failed"
    assert "otel_cost.execution.id" not in event  # nobody knows which


def test_names_are_bounded_and_sums_exact() -> None:
    """However many names there are, few are kept, and what is told adds up to what was spent."""
    sums = Spenders()
    for number in range(MAX_NAMES + 10):
        sums.add("run", f"agent-{number:02}", 10**9 + number)
    top = sums.top("run")
    assert top[:3] == ("agent-15 $0.001000000015", "agent-14 $0.001000000014", "agent-13 $0.001000000013")
    amounts = [Decimal(text.rpartition("$")[2]) for text in top]
    spent = sum(10**9 + number for number in range(MAX_NAMES + 10))
    assert sum(amounts) == Decimal(spent) / 10**12
    assert len(top) == 4
    assert top[3].startswith("others $")
    assert sums.top("another") == ()


def test_executions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest execution is forgotten."""
    monkeypatch.setattr(spenders, "MAX_EXECUTIONS", 2)
    sums = Spenders()
    for name in ("one", "two", "three"):
        sums.add(name, "", 10**12)
    assert sums.top("one") == ()
    assert sums.top("three") == ("others $1",)


def test_what_a_call_is_booked_under() -> None:
    """Agent, component and model, each once, as far as they are known."""
    payer = Payer(agent="planner", component="planner")
    assert spenders.spender(payer, "gpt-4o") == "planner gpt-4o"
    assert spenders.spender(Payer(), "") == ""

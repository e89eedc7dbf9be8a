"""Who pays: nesting, propagation, cleaning."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import propagate, trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_cost.attribution import (
    MAX_PAYER_TEXT,
    NOBODY,
    Payer,
    Pseudonyms,
    clean,
    execution,
    payer_of,
    payer_of_context,
    payer_of_environment,
    process_pseudonyms,
)


def test_nested_executions_inherit_what_they_do_not_name() -> None:
    """A sub-agent keeps the run's id and team and has its own agent name."""
    with execution("run", team="search", agent="planner"), execution(agent="coder") as inner:
        assert inner == Payer(execution_id="run", team="search", agent="coder")
    assert payer_of_context() is NOBODY


def test_an_execution_without_an_open_span_gets_an_id() -> None:
    """A bare loop of calls is one execution."""
    with execution(user="u") as payer:
        assert len(payer.execution_id) == 32


def test_an_execution_in_an_open_span_is_its_trace() -> None:
    """Inside a trace the trace names the execution, so none is made up."""
    span = trace.NonRecordingSpan(trace.SpanContext(1, 2, is_remote=False))
    with trace.use_span(span), execution(user="u") as payer:
        assert payer.execution_id == ""


def test_payer_crosses_services_as_baggage() -> None:
    """What one service names, the next one finds in the headers it is sent."""
    headers: dict[str, str] = {}
    with execution("run-7", team="search", user="ü/1"):
        propagate.inject(headers)
    token = attach(propagate.extract(headers, Context()))
    try:
        assert payer_of_context() == Payer(execution_id="run-7", team="search", user="ü/1")
    finally:
        detach(token)


def test_propagation_can_be_turned_off() -> None:
    """Nothing is sent where headers reach third parties."""
    headers: dict[str, str] = {}
    with execution("run-8", user="u", propagate=False):
        propagate.inject(headers)
        assert payer_of_context().user == "u"
    assert "baggage" not in headers


@pytest.mark.parametrize(
    ("attributes", "payer"),
    [
        ({"user.id": "a", "session.id": "s"}, Payer(user="a", session="s")),
        ({"enduser.id": "a"}, Payer(user="a")),
        ({"langfuse.user.id": "a", "langfuse.session.id": "s"}, Payer(user="a", session="s")),
        ({"traceloop.association.properties.user_id": "a"}, Payer(user="a")),
        ({"langsmith.metadata.user_id": "a"}, Payer(user="a")),
        (
            {"gen_ai.conversation.id": "c", "gen_ai.agent.name": "planner"},
            Payer(session="c", agent="planner"),
        ),
        ({"otel_cost.user": "ours", "user.id": "theirs"}, Payer(user="ours")),
        ({"http.route": "/"}, NOBODY),
    ],
)
def test_every_conventions_names_are_read(attributes: dict[str, str], payer: Payer) -> None:
    """Standard names and those of other tools give the same payer."""
    assert payer_of(attributes) == payer


def test_environment_names_the_process() -> None:
    """OTEL_COST_TEAM and the like hold where nothing nearer is known."""
    assert payer_of_environment({"OTEL_COST_TEAM": "search", "HOME": "/"}) == Payer(team="search")


@given(st.one_of(st.text(max_size=400), st.integers(), st.none(), st.floats(), st.binary(), st.booleans()))
def test_payer_text_is_bounded_and_one_line(value: object) -> None:
    """Whatever is given, a payer's name fits a column and a terminal."""
    text = clean(value)
    assert len(text) <= MAX_PAYER_TEXT
    assert not any(ord(character) < 32 or ord(character) == 127 for character in text)


def test_pseudonyms_hide_and_are_stable() -> None:
    """The same id gives the same hash, another key another, and hashing twice changes nothing."""
    payer = Payer(user="alice", team="search")
    once = Pseudonyms(b"k").apply(payer)
    assert once == Pseudonyms(b"k").apply(once)
    assert once.team == "search"
    assert once.user not in ("alice", Pseudonyms(b"other").apply(payer).user)
    assert Pseudonyms().apply(payer) is payer


def test_what_others_see_of_a_person_is_a_pseudonym(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a key, neither the span that is started nor the baggage that services get names the user."""
    monkeypatch.setenv("OTEL_COST_HASH_KEY", "k")
    process_pseudonyms.cache_clear()
    exporter, tracing = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    tracing.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", tracing)
    carrier: dict[str, str] = {}
    try:
        with execution(user="alice", team="search") as payer:
            propagate.inject(carrier)
    finally:
        process_pseudonyms.cache_clear()
    (span,) = exporter.get_finished_spans()
    hidden = Pseudonyms(b"k").apply(payer).user
    assert payer.user == "alice"
    assert dict(span.attributes or {})["otel_cost.user"] == hidden
    assert "alice" not in carrier["baggage"]
    assert unquote(carrier["baggage"]).count(hidden) == 1
    assert "search" in carrier["baggage"]


def test_without_readable_settings_nobody_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it cannot be said how to hide a person, the person is left out."""
    monkeypatch.setenv("OTEL_COST_HASH_KEY", "k")
    monkeypatch.setenv("OTEL_COST_MAX_EXECUTIONS", "many")
    process_pseudonyms.cache_clear()
    carrier: dict[str, str] = {}
    with execution("run", user="alice"):
        propagate.inject(carrier)
    assert "alice" not in carrier["baggage"]

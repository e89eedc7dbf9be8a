"""What a process is: its name, whether it is a server, and the exporter that ends with it."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_cost.exporter import ResilientExporter, endpoint, is_reachable
from otel_cost.process import is_server, script_name
from tests.agents.harness import Collector
from tests.servers import free_port


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("python agent.py --user me", "agent.py"),
        ("python -u -W ignore /srv/app/agent.py", "agent.py"),
        ("python -m agents.main -v", "agents.main"),
        ("python -c print(1)", "-c"),
        ("python -X dev -Wd agent.py", "agent.py"),
        ("python", None),
        ("python -i", None),
        ("/venv/bin/python /venv/bin/uvicorn app:app", "uvicorn"),
    ],
)
def test_the_name_of_what_the_interpreter_runs(command, name):
    """A file, a module or a command; an interactive session has none."""
    assert script_name(command.split()) == name


@pytest.mark.parametrize("name", ["uvicorn", "gunicorn", "celery", "manage.py", "uvicorn.main", "pytest"])
def test_known_servers(name):
    """Programs that run many executions in one process get no root span."""
    assert is_server(name)


@pytest.mark.parametrize("name", ["agent.py", "flask.py", "my_uvicorn.py", "-c", "agents.main"])
def test_scripts(name):
    """A script is not a server because of a word in its name."""
    assert not is_server(name)


def test_the_endpoint_is_the_standard_one():
    """The variable for traces wins over the general one; without any it is `otel-cost up` on this machine."""
    general, traces = (
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a"},
        {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://b"},
    )
    assert endpoint({}) == "http://127.0.0.1:4318"
    assert endpoint(general) == "http://a"
    assert endpoint(general | traces) == "http://b"


def test_reachable(collector: Collector):
    """Only a port somebody listens on is reachable, with or without a scheme."""
    assert is_reachable(collector.url)
    assert is_reachable(collector.url.removeprefix("http://"))
    assert not is_reachable(f"http://127.0.0.1:{free_port()}")


def test_spans_are_dropped_and_counted_while_nobody_listens(caplog):
    """One line is logged, however many batches are dropped."""
    inner = _Inner()
    exporter = ResilientExporter(inner, url=f"http://127.0.0.1:{free_port()}")
    span = ReadableSpan("chat")
    with caplog.at_level(logging.WARNING):
        results = [exporter.export([span, span]) for _ in range(3)]
    assert results == [SpanExportResult.FAILURE] * 3
    assert exporter.dropped_spans == 6
    assert inner.batches == []
    assert len(caplog.records) == 1


def test_a_collector_that_starts_later_receives_what_follows(monkeypatch):
    """It is tried again after two seconds."""
    now_s = 100.0
    monkeypatch.setattr("otel_cost.exporter.time.monotonic", lambda: now_s)
    inner = _Inner()
    port = free_port()
    exporter = ResilientExporter(inner, url=f"http://127.0.0.1:{port}")
    exporter.export([ReadableSpan("lost")])
    with Collector() as started:
        exporter._gate._url = started.url
        exporter.export([ReadableSpan("too soon")])
        now_s += 2.0
        assert exporter.export([ReadableSpan("sent")]) is SpanExportResult.SUCCESS
    assert [span.name for batch in inner.batches for span in batch] == ["sent"]


def test_a_failed_export_is_not_hidden(collector: Collector):
    """What the collector refuses is reported as failed."""
    exporter = ResilientExporter(_Inner(SpanExportResult.FAILURE), url=collector.url)
    assert exporter.export([ReadableSpan("chat")]) is SpanExportResult.FAILURE


def test_a_collector_that_never_answers_costs_one_timeout(monkeypatch, collector: Collector):
    """After one slow failure the batches that wait behind it are dropped at once, for two seconds."""
    now_s = 100.0
    monkeypatch.setattr("otel_cost.exporter.time.monotonic", lambda: now_s)

    class Hangs(_Inner):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            nonlocal now_s
            now_s += 5.0
            return super().export(spans)

    inner = Hangs(SpanExportResult.FAILURE)
    exporter = ResilientExporter(inner, url=collector.url)
    for _ in range(4):
        exporter.export([ReadableSpan("chat")])
    assert now_s == 105.0
    assert exporter.dropped_spans == 3
    now_s += 2.0
    exporter.export([ReadableSpan("chat")])
    assert len(inner.batches) == 2


class _Inner(SpanExporter):
    """Keeps batches."""

    def __init__(self, result: SpanExportResult = SpanExportResult.SUCCESS) -> None:
        self.batches: list[Sequence[ReadableSpan]] = []
        self._result = result

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.batches.append(spans)
        return self._result

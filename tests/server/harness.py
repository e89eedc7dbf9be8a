"""Servers and requests for the tests of the pipeline."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_cost.server.process import Address, Listening, Server, Sockets
from otel_cost.server.queries import QueryEndpoint
from otel_cost.store.reader import Answer, Reader
from tests.server.fakes import MemoryStore

START_NS = 1_760_000_000 * 10**9


@dataclass
class Running:
    """A server inside this process."""

    server: Server
    http: str
    grpc: str
    store: MemoryStore
    host: str
    port: int


class NoEngine:
    """An engine for tests that ask nothing."""

    def run(self, sql: str, fmt: str, params: Any, settings: Any, database: str) -> Answer:
        """Answer nothing."""
        return Answer(b"", fmt)


@contextlib.contextmanager
def running(
    store: MemoryStore | None = None, token: str | None = None, host: str = "127.0.0.1"
) -> Iterator[Running]:
    """Run a server over a store in memory, in a thread, and stop it."""
    store = store or MemoryStore()
    sockets = Sockets(Address(host, 0), Address(host, 0), token)
    started, where = threading.Event(), []
    loop = asyncio.new_event_loop()

    def ready(listening: Listening) -> None:
        where.append(listening)
        started.set()

    server = Server(store, QueryEndpoint(Reader(NoEngine(), "otel_cost")), sockets, token)
    thread = threading.Thread(target=lambda: loop.run_until_complete(server.run(ready)), daemon=True)
    thread.start()
    assert started.wait(20), "the server did not start"
    port = where[0].http.port
    try:
        yield Running(server, f"http://{where[0].http}", str(where[0].grpc), store, host, port)
    finally:
        store.open.set()
        loop.call_soon_threadsafe(server.stop)
        thread.join(30)
        assert not thread.is_alive(), "the server did not stop"
        loop.close()
        sockets.close()


def request_of(
    count: int, *, seed: int = 1, name: str = "chat", service: str = "agent"
) -> ExportTraceServiceRequest:
    """Return a request of valid spans with fixed ids."""
    ids = random.Random(seed)
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    attribute = resource.resource.attributes.add(key="service.name")
    attribute.value.string_value = service
    group = resource.scope_spans.add()
    group.scope.name, group.scope.version = "scope", "1.0"
    for index in range(count):
        span = group.spans.add(
            trace_id=ids.randbytes(16),
            span_id=ids.randbytes(8),
            name=name,
            kind=3,
            start_time_unix_nano=START_NS + index * 1000,
            end_time_unix_nano=START_NS + index * 1000 + 10**9,
        )
        tokens = span.attributes.add(key="gen_ai.usage.input_tokens")
        tokens.value.int_value = 100 + index
    return request

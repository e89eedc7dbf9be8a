"""The HTTP application: OTLP, health and queries."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from otel_cost.server.guard import Guard
from otel_cost.server.http import Receiver, on_http_error
from otel_cost.server.ingest import Ingest
from otel_cost.server.queries import QueryEndpoint


def build_app(ingest: Ingest, queries: QueryEndpoint, guard: Guard) -> Starlette:
    """Return the application; it keeps no state of its own."""
    routes = [*Receiver(ingest, guard).routes(), *queries.routes(guard)]
    return Starlette(routes=routes, exception_handlers={HTTPException: on_http_error})

"""Applications on real servers answer a request that ran into a limit, and go on to serve the next one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import httpx
import pytest
import uvicorn

from otel_cost import execution, http
from otel_cost.budgets import Policy
from otel_cost.errors import BudgetExceeded, ResponseCutError
from otel_cost.fake_provider import FakeProvider
from otel_cost.guard import Guard, clients
from otel_cost.http import BudgetExceededMiddleware, BudgetExceededWsgiMiddleware
from otel_cost.ledger.memory import MemoryLedger
from otel_cost.pricing import PriceBook

Served = Callable[[Any], contextlib.AbstractContextManager[str]]

EXCEEDED = {
    "execution_id": "run",
    "request": "POST api.openai.com/v1/chat/completions",
    "limit_usd": Decimal("0.50"),
    "spent_usd": Decimal("0.45"),
}


def exceeded(**changes: Any) -> BudgetExceeded:
    """Return a refusal."""
    return BudgetExceeded(**(EXCEEDED | changes))


@contextlib.contextmanager
def on_uvicorn(app: Any) -> Iterator[str]:
    """Serve an ASGI application."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def on_wsgiref(app: Any) -> Iterator[str]:
    """Serve a WSGI application, one request after the other."""
    with WSGIServer(("127.0.0.1", 0), _Quiet) as server:
        server.set_app(app)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(20)


@contextlib.contextmanager
def on_werkzeug(app: Any) -> Iterator[str]:
    """Serve a WSGI application as `flask run` does."""
    from werkzeug.serving import WSGIRequestHandler as Handler
    from werkzeug.serving import make_server

    class Quiet(Handler):
        def log(self, *_: object) -> None:
            pass

    server = make_server("127.0.0.1", 0, app, threaded=False, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(20)
        server.server_close()


def ask(provider: FakeProvider) -> None:
    """Send a model call that no budget has room for."""
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "a secret"}]}
    with execution("run", user="ann"):
        httpx.post(f"{provider.openai_url}/chat/completions", json=body)


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    """A provider, and a guard that lets nothing through to it."""
    clients.install(Guard(Policy.load(environ={}, budget_usd="0"), MemoryLedger(), PriceBook.load()))
    with FakeProvider() as made:
        yield made
    clients.uninstall()


def starlette_app(work: Callable[[], None]) -> tuple[Any, Served]:
    """Return an application of Starlette whose middleware stands inside its error handlers."""
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def endpoint(request: Any) -> PlainTextResponse:
        if "stop" in request.query_params:
            work()
        return PlainTextResponse("served")

    middleware = [Middleware(BudgetExceededMiddleware)]
    return Starlette(routes=[Route("/", endpoint)], middleware=middleware), on_uvicorn


def fastapi_app(work: Callable[[], None]) -> tuple[Any, Served]:
    """Return one of FastAPI: an endpoint in a thread, an error handler, a middleware with a task group."""
    from fastapi import FastAPI
    from fastapi.responses import JSONResponse, PlainTextResponse

    app = FastAPI()

    @app.exception_handler(Exception)
    def handle(request: Any, error: Exception) -> JSONResponse:
        return JSONResponse({"handled": True}, status_code=500)

    @app.middleware("http")
    async def in_between(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    @app.get("/")
    def endpoint(stop: bool = False) -> PlainTextResponse:
        if stop:
            work()
        return PlainTextResponse("served")

    app.add_middleware(BudgetExceededMiddleware)
    return app, on_uvicorn


def flask_app(work: Callable[[], None]) -> tuple[Any, Served]:
    """Return one of Flask, with a handler of every `Exception`."""
    from flask import Flask, request

    app = Flask("app")
    app.register_error_handler(Exception, lambda error: ("handled", 500))

    @app.get("/")
    def endpoint() -> str:
        if "stop" in request.args:
            work()
        return "served"

    app.wsgi_app = BudgetExceededWsgiMiddleware(app.wsgi_app)  # type: ignore[method-assign]
    return app, on_werkzeug


def plain_app(work: Callable[[], None]) -> tuple[Any, Served]:
    """Return one of WSGI itself, which has begun a response before it works."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("content-type", "text/plain")])
        if environ["QUERY_STRING"]:
            work()
        yield b"served"

    return BudgetExceededWsgiMiddleware(app), on_wsgiref


@pytest.mark.parametrize("make", [starlette_app, fastapi_app, flask_app, plain_app])
def test_a_request_beyond_its_budget_is_answered(provider: FakeProvider, make: Any) -> None:
    """The client gets 402 and why, exactly; nothing of the prompt; the next request is served."""
    app, serve = make(lambda: ask(provider))
    with serve(app) as url, httpx.Client(base_url=url) as client:
        for _ in range(2):
            answer = client.get("/", params={"stop": "1"})
            assert answer.status_code == 402
            assert answer.headers["content-type"] == "application/problem+json"
            told = answer.json()
            assert told.pop("detail").startswith("execution run may spend $0.00 (execution:run)")
            assert told == {
                "title": "Payment Required",
                "status": 402,
                "kind": "budget_usd",
                "execution_id": "run",
                "limit_usd": "0",
                "spent_usd": "0",
            }
            assert "secret" not in answer.text
            served = client.get("/")
            assert (served.status_code, served.text) == (200, "served")
    assert provider.count() == 0


def streaming(kind: str) -> tuple[Any, Any]:
    """Return an ASGI and a WSGI application that stream a part and then run into a limit."""
    from starlette.applications import Starlette
    from starlette.responses import StreamingResponse
    from starlette.routing import Route

    async def parts() -> Any:
        yield b"data: one\n\n"
        await asyncio.sleep(0)
        raise exceeded()

    async def endpoint(request: Any) -> StreamingResponse:
        return StreamingResponse(parts(), media_type=kind)

    def wsgi(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", kind)])
        yield b"data: one\n\n"
        raise exceeded()

    inside = Starlette(routes=[Route("/", endpoint)])
    inside.add_middleware(BudgetExceededMiddleware)
    return inside, BudgetExceededWsgiMiddleware(wsgi)


@pytest.mark.parametrize(("number", "serve"), [(0, on_uvicorn), (1, on_werkzeug)])
def test_a_stream_of_events_ends_with_one_that_says_why(number: int, serve: Served) -> None:
    """What was sent stays, the last event is the problem, and the stream is whole."""
    with serve(streaming("text/event-stream")[number]) as url:
        text = httpx.get(url).text
    one, error, rest = text.split("\n\n")
    assert (one, rest) == ("data: one", "")
    name, data = error.split("\n")
    assert name == "event: error"
    assert json.loads(data.removeprefix("data: "))["kind"] == "budget_usd"


def test_flasks_test_client_gets_the_answer(provider: FakeProvider) -> None:
    """Nothing had been started, so that the answer starts the response as any other does (PEP 3333)."""
    app, _ = flask_app(lambda: ask(provider))
    answer = app.test_client().get("/?stop=1")
    assert answer.status_code == 402
    assert answer.get_json()["kind"] == "budget_usd"


def test_any_other_response_that_has_begun_is_cut() -> None:
    """The client sees that it is not whole, and the server serves the next request."""
    with on_uvicorn(streaming("text/plain")[0]) as url:
        for _ in range(2):
            with pytest.raises(httpx.RemoteProtocolError):
                httpx.get(url)


def test_a_wsgi_response_that_has_begun_is_cut() -> None:
    """The server gets an error that it catches, and not one that ends it."""
    body = iter(streaming("text/plain")[1]({}, lambda *_: None))
    assert next(body) == b"data: one\n\n"
    with pytest.raises(ResponseCutError, match="execution run may spend"):
        next(body)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, 402),
        ({"kind": "max_model_calls"}, 402),
        ({"kind": "max_depth"}, 402),
        ({"kind": "retry_storm"}, 500),
        ({"kind": "unpriced"}, 500),
        ({"kind": "guard_failed"}, 500),
        ({"scope": "user:ann", "retry_after_s": 3599.2}, 429),
    ],
)
def test_the_status_says_what_a_client_can_do(changes: dict[str, Any], status: int) -> None:
    """Pay, come back later, or nothing."""
    told = http.problem(exceeded(**changes))
    assert told.status == json.loads(told.body)["status"] == status
    waits = dict(told.headers).get("retry-after")
    assert waits == ("3600" if status == 429 else None)


def test_a_budget_without_a_limit_says_null() -> None:
    """Where a limit on calls was reached and there is no budget, there is no amount and not 0."""
    told = json.loads(http.problem(exceeded(kind="max_tool_calls", limit_usd=None)).body)
    assert (told["limit_usd"], told["spent_usd"]) == (None, "0.45")


def test_it_is_found_in_groups_and_causes() -> None:
    """Task groups and frameworks wrap it; an error of another kind stays what it is."""
    wrapped = RuntimeError("failed")
    wrapped.__cause__ = exceeded()
    group = type("Group", (Exception,), {"exceptions": (ValueError(), wrapped)})()
    assert http.find(group) is wrapped.__cause__
    assert http.find(ValueError()) is None
    looped = ValueError()
    looped.__cause__ = looped
    assert http.find(looped) is None


def test_other_errors_pass() -> None:
    """They are the framework's, on both sides."""

    async def asgi(*_: Any) -> None:
        raise KeyError("mine")

    def wsgi(*_: Any) -> Any:
        raise KeyError("mine")

    with pytest.raises(KeyError):
        asyncio.run(BudgetExceededMiddleware(asgi)({"type": "http"}, None, None))  # type: ignore[arg-type]
    with pytest.raises(KeyError):
        BudgetExceededWsgiMiddleware(wsgi)({}, lambda *_: None)


@pytest.mark.parametrize("is_accepted", [True, False])
def test_a_websocket_is_closed(is_accepted: bool) -> None:
    """With 1008 and the kind of limit, also where it was not accepted yet."""
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if is_accepted:
            await send({"type": "websocket.accept"})
        raise exceeded()

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(BudgetExceededMiddleware(app)({"type": "websocket"}, None, send))  # type: ignore[arg-type]
    assert sent[-1] == {"type": "websocket.close", "code": 1008, "reason": "budget_usd"}


def test_a_body_is_closed_and_one_that_is_whole_is_left_alone() -> None:
    """The application tidies up after a body, and a list stays the list that servers know the length of."""
    closed = []

    class Parts:
        def __iter__(self) -> Iterator[bytes]:
            yield b"part"

        def close(self) -> None:
            closed.append(True)

    whole = [b"whole"]
    assert BudgetExceededWsgiMiddleware(lambda *_: whole)({}, lambda *_: None) is whole
    body: Any = BudgetExceededWsgiMiddleware(lambda *_: Parts())({}, lambda *_: None)
    assert list(body) == [b"part"]
    body.close()
    assert closed == [True]

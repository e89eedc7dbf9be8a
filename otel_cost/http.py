"""Answer a web client whose request ran into a limit: middleware for ASGI and WSGI applications.

`BudgetExceeded` is no `Exception`, so the error handlers of frameworks let it pass. These turn it into a
response with JSON problem details (RFC 9457, https://www.rfc-editor.org/rfc/rfc9457) and a status:

- 429 with `Retry-After` where the limit is over a time that will be over, such as a user's day;
- 402 where what an execution was given is used up: money, calls, tokens, time, depth;
- 500 where the agent ran in circles (a detector), has no price for its model, or the guard failed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from decimal import Decimal
from http import HTTPStatus
from typing import Any, NamedTuple

from otel_cost.errors import BudgetExceeded, ResponseCutError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]
StartResponse = Callable[..., Any]
WsgiApp = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]

USED_UP = frozenset(
    {
        "budget_usd",
        "max_model_calls",
        "max_tool_calls",
        "max_calls_per_tool",
        "max_total_tokens",
        "max_wall_time_s",
        "max_depth",
    }
)
"""Kinds of limits that say how much an execution was given."""
POLICY_VIOLATION = 1008
"""https://www.rfc-editor.org/rfc/rfc6455#section-7.4.1"""
MAX_DEPTH = 16
"""How deep an error is looked for in groups and causes."""


class Problem(NamedTuple):
    """A response: JSON problem details with amounts, ids and the reason, and nothing of a prompt."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def phrase(self) -> str:
        """The status as text: `402 Payment Required`."""
        return f"{self.status} {HTTPStatus(self.status).phrase}"

    @property
    def event(self) -> bytes:
        """The body as the last event of a stream of server-sent events."""
        return b"event: error\ndata: " + self.body + b"\n\n"


def problem(exceeded: BudgetExceeded) -> Problem:
    """Return what to answer, for handlers of one's own."""
    status = _status(exceeded)
    told = {
        "title": status.phrase,
        "status": status.value,
        "detail": exceeded.reason,
        "kind": exceeded.kind,
        "execution_id": exceeded.execution_id,
        "limit_usd": _exact(exceeded.limit_usd),
        "spent_usd": _exact(exceeded.spent_usd),
    }
    body = json.dumps(told, ensure_ascii=False).encode()
    headers = [("content-type", "application/problem+json"), ("content-length", str(len(body)))]
    if exceeded.retry_after_s is not None:
        headers.append(("retry-after", str(max(1, math.ceil(exceeded.retry_after_s)))))
    return Problem(status.value, (*headers, ("cache-control", "no-store")), body)


def _status(exceeded: BudgetExceeded) -> HTTPStatus:
    if exceeded.retry_after_s is not None:
        return HTTPStatus.TOO_MANY_REQUESTS
    if exceeded.kind in USED_UP:
        return HTTPStatus.PAYMENT_REQUIRED
    return HTTPStatus.INTERNAL_SERVER_ERROR


def _exact(usd: Decimal | None) -> str | None:
    return None if usd is None else f"{usd:f}"


def find(error: BaseException, depth: int = MAX_DEPTH) -> BudgetExceeded | None:
    """Return the refusal that an error is, holds in a group, or was raised from; None where it has none.

    Task groups wrap what their tasks raise, and some frameworks raise an error of their own from it.
    """
    if isinstance(error, BudgetExceeded) or not depth:
        return error if isinstance(error, BudgetExceeded) else None
    inner = [*getattr(error, "exceptions", ()), error.__cause__]
    found = (find(each, depth - 1) for each in inner if isinstance(each, BaseException))
    return next((each for each in found if each is not None), None)


class BudgetExceededMiddleware:
    """ASGI: answers requests that ran into a limit, whatever framework is inside.

    A response that has begun cannot change its status. Server-sent events end with an event `error`; any
    other is cut, so that the client sees that it is not whole. A websocket is closed with 1008.

    ```python
    app.add_middleware(BudgetExceededMiddleware)  # Starlette, FastAPI
    app = BudgetExceededMiddleware(app)  # any other
    ```
    """

    def __init__(self, app: AsgiApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        sent = _Sent(send)
        try:
            await self.app(scope, receive, sent)
        except BaseException as error:
            exceeded = find(error)
            if exceeded is None:
                raise
            if scope["type"] == "websocket":
                await sent.close(exceeded)
            else:
                await sent.answer(exceeded)


class _Sent:
    """Passes messages to the server and remembers how far the response is."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._started: Message | None = None
        self._is_over = False

    async def __call__(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            self._started = message
        self._is_over = kind == "websocket.close" or (
            kind == "http.response.body" and not message.get("more_body", False)
        )
        await self._send(message)

    async def answer(self, exceeded: BudgetExceeded) -> None:
        """Send the problem, as far as the response still lets one.

        Raises:
            ResponseCutError: It does not, and what was sent must not be taken for the whole.
        """
        told = problem(exceeded)
        if self._is_over:
            return
        if self._started is None:
            headers = [(name.encode(), text.encode()) for name, text in told.headers]
            await self._send({"type": "http.response.start", "status": told.status, "headers": headers})
            await self._send({"type": "http.response.body", "body": told.body})
        elif _is_event_stream(
            (bytes(name).decode("latin-1"), bytes(text).decode("latin-1"))
            for name, text in self._started.get("headers", ())
        ):
            await self._send({"type": "http.response.body", "body": told.event})
        else:
            raise ResponseCutError(exceeded) from exceeded

    async def close(self, exceeded: BudgetExceeded) -> None:
        """Close a websocket; one that was not accepted yet is turned away."""
        if not self._is_over:
            await self._send(
                {"type": "websocket.close", "code": POLICY_VIOLATION, "reason": exceeded.kind[:100]}
            )


class BudgetExceededWsgiMiddleware:
    """WSGI: as `BudgetExceededMiddleware`.

    ```python
    app.wsgi_app = BudgetExceededWsgiMiddleware(app.wsgi_app)  # Flask
    application = BudgetExceededWsgiMiddleware(application)  # Django and any other
    ```
    """

    def __init__(self, app: WsgiApp) -> None:
        self.app = app

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Pass a request on."""
        response = _Response(start_response)
        try:
            body = self.app(environ, response.start)
        except BaseException as error:
            return [response.answer(error)]
        wrapper = environ.get("wsgi.file_wrapper")
        is_whole = isinstance(body, list | tuple) or (isinstance(wrapper, type) and isinstance(body, wrapper))
        return body if is_whole else _Body(body, response)


class _Response:
    """Passes the start of a response to the server and remembers it."""

    def __init__(self, start_response: StartResponse) -> None:
        self._start_response = start_response
        self._headers: list[tuple[str, str]] = []
        self._is_started = self.is_begun = False

    def start(self, status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
        self._headers, self._is_started = headers, True
        return self._start_response(status, headers, *exc_info)

    def answer(self, error: BaseException) -> bytes:
        """Return the problem, after a new start where no part of the body was sent.

        Raises:
            ResponseCutError: Part of it was, and must not be taken for the whole.
        """
        exceeded = find(error)
        if exceeded is None:
            raise error
        told = problem(exceeded)
        if self.is_begun and _is_event_stream(self._headers):
            return told.event
        cut = ResponseCutError(exceeded)
        if self.is_begun:
            raise cut from exceeded
        again = ((ResponseCutError, cut, error.__traceback__),) if self._is_started else ()
        self._start_response(told.phrase, list(told.headers), *again)
        return told.body


class _Body:
    """The parts of a body; what ends them early ends as an answer."""

    def __init__(self, body: Iterable[bytes], response: _Response) -> None:
        self._body, self._response = body, response

    def __iter__(self) -> Iterator[bytes]:
        try:
            for part in self._body:
                self._response.is_begun = self._response.is_begun or bool(part)
                yield part
        except GeneratorExit:
            raise
        except BaseException as error:
            yield self._response.answer(error)

    def close(self) -> None:
        """Let the application tidy up."""
        close = getattr(self._body, "close", None)
        if close is not None:
            close()


def _is_event_stream(headers: Iterable[tuple[str, str]]) -> bool:
    """Whether plain text can be added to a stream of server-sent events."""
    told = {name.lower(): text.lower() for name, text in headers}
    return told.get("content-type", "").startswith("text/event-stream") and "content-encoding" not in told

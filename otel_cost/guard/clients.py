"""Where requests leave the process: the HTTP clients that model SDKs send through, each wrapped once.

A client's `send` is wrapped, not its transport: transports are replaced, by LiteLLM for one, and leak.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any

import wrapt

from otel_cost.budgets import OFF, Policy
from otel_cost.containment import contained, count
from otel_cost.errors import BudgetExceeded
from otel_cost.guard import Guard, Ticket, default_guard
from otel_cost.guard.answers import Reader, read_answer
from otel_cost.guard.calls import ModelCall, recognise

if TYPE_CHECKING:
    _Proxy = wrapt.ObjectProxy[Any]
else:
    _Proxy = wrapt.ObjectProxy  # not generic before wrapt 2

_is_inside: ContextVar[bool] = ContextVar("otel_cost_guarded", default=False)
"""A client that sends through another one is admitted once."""

_installed: set[str] = set()
_install_lock = threading.Lock()
_current: list[Guard] = []


def install(guard: Guard) -> None:
    """Guard every client, those imported already and those imported later, with this guard and no other."""
    _current[:] = [guard]
    with contained("carry budgets into threads"):
        _follow_threads()
    with _install_lock:
        for module, hook in _HOOKS.items():
            if module not in _installed:
                _installed.add(module)
                wrapt.register_post_import_hook(_contained_hook(module, hook), module)


def _follow_threads() -> None:
    """Let threads and pools spend the budget of whoever starts them: Python leaves a context behind there."""
    from opentelemetry.instrumentation.threading import ThreadingInstrumentor

    instrumentor = ThreadingInstrumentor()
    if not instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.instrument()


def ensure(policy: Policy | None = None) -> None:
    """Guard every client by the policy in force, unless they are guarded already or the guard is off.

    Raises:
        ConfigError: The policy cannot be used.
    """
    if not _current:
        policy = policy or Policy.load()
        if policy.guard.mode != OFF:
            install(default_guard(policy))


def is_on() -> bool:
    """Whether clients are guarded, and threads followed."""
    return bool(_current)


def uninstall() -> None:
    """Let every request pass from now on."""
    _current.clear()


def _contained_hook(name: str, hook: Callable[[Any], None]) -> Callable[[Any], None]:
    def apply(module: Any) -> None:
        with contained(f"guard {name}"):
            hook(module)

    return apply


def _content_type(headers: Mapping[str, str]) -> str:
    return str(headers.get("content-type", ""))


def _call(method: str, url: object, body: Callable[[], object]) -> ModelCall | None:
    """Return the model call a request is; None for any other, and where the guard is off."""
    if not _current or _is_inside.get():
        return None
    try:
        held = body()
        return recognise(method, str(url), held if isinstance(held, bytes | str) else None)
    except Exception as error:
        count("recognise a model call", error)
        return None


def _admit(call: ModelCall | None) -> Ticket | None:
    if call is None:
        return None
    guard = _current[0]
    try:
        return guard.admit(call)
    except Exception as error:
        guard.failed(call, error)
        return None


async def _admit_async(call: ModelCall | None, sleep: Callable[[float], Awaitable[None]]) -> Ticket | None:
    if call is None:
        return None
    guard = _current[0]
    try:
        return await guard.admit_async(call, sleep)
    except Exception as error:
        guard.failed(call, error)
        return None


@contextmanager
def _sending(ticket: Ticket, unsent: tuple[type[BaseException], ...]) -> Iterator[None]:
    """Send an admitted call: what it sends through is not asked again, and an error settles it.

    Args:
        unsent: Errors of a request that never left, for which nothing is billed.
    """
    token = _is_inside.set(True)
    try:
        yield
    except BaseException as error:
        if isinstance(error, unsent):
            ticket.refused()
        else:
            ticket.lost()
        raise
    finally:
        _is_inside.reset(token)


def _sender(
    body: Callable[[Any], object],
    unsent: tuple[type[BaseException], ...],
    answered: Callable[[Ticket, Any, Any], Any],
) -> Callable[..., Any]:
    """Return a wrapper for a `send(request)`: `body` gives what it sends, `answered` settles its response."""

    def send(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        request = _request(args, kwargs)
        call = None if request is None else _call(request.method, request.url, partial(body, request))
        ticket = _admit(call)
        if ticket is None:
            return wrapped(*args, **kwargs)
        with _sending(ticket, unsent):
            response = wrapped(*args, **kwargs)
        return answered(ticket, request, response)

    return send


def _request(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0] if args else kwargs.get("request")


class _Meter:
    """Reads an answer as the application does, and settles the call when it ends, however it ends."""

    def __init__(self, ticket: Ticket, headers: Mapping[str, str]) -> None:
        self._ticket = ticket
        encoding = str(headers.get("content-encoding", ""))
        self._reader: Reader | None = Reader(_content_type(headers), encoding)

    def feed(self, data: bytes) -> None:
        """Take bytes on their way to the application.

        Raises:
            BudgetExceeded: They pass what the budget has left; they must not go on, and the stream must end.
        """
        reader = self._reader
        if reader is None:
            return
        try:
            reader.feed(data)
        except Exception as error:
            self._reader = None
            self._ticket.lost()
            count("read an answer", error)
            return
        self._ticket.keep_up(reader.answer)

    def finish(self) -> None:
        """Settle with what was read; what comes after the first time changes nothing."""
        if self._reader is None:
            return
        reader, self._reader = self._reader, None
        answer = reader.answer
        with contained("read an answer"):
            reader.finish()
        self._ticket.answered(answer)

    def __del__(self) -> None:
        """Nobody read the answer to its end, or closed it."""
        if self._reader is not None:
            self.finish()


# --- httpx, httpx2 ----------------------------------------------------------------------------------------


def _hook_httpx(module: Any) -> None:
    unsent = (module.ConnectError, module.ConnectTimeout, module.PoolTimeout, module.UnsupportedProtocol)
    answered = partial(_httpx_answer, _mixed(_SyncStream, module.SyncByteStream))
    answered_async = partial(_httpx_answer, _mixed(_AsyncStream, module.AsyncByteStream))

    async def send_async(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        request = _request(args, kwargs)
        call = None if request is None else _call(request.method, request.url, partial(_content, request))
        ticket = await _admit_async(call, _sleep)
        if ticket is None:
            return await wrapped(*args, **kwargs)
        with _sending(ticket, unsent):
            response = await wrapped(*args, **kwargs)
        return answered_async(ticket, request, response)

    wrapt.wrap_function_wrapper(module, "Client.send", _sender(_content, unsent, answered))
    wrapt.wrap_function_wrapper(module, "AsyncClient.send", send_async)


def _content(request: Any) -> object:
    return request.content


async def _sleep(seconds: float) -> None:
    from anyio import sleep

    await sleep(seconds)


def _httpx_answer(stream: Any, ticket: Ticket, request: Any, response: Any) -> Any:
    """Settle what is read already, meter what the application will read."""
    if response.status_code >= 400:
        ticket.refused()
    elif response.is_stream_consumed or response.is_closed:
        ticket.answered(read_answer(response.content, _content_type(response.headers)))
    else:
        response.stream = stream(response.stream, _Meter(ticket, response.headers))
    return response


def _mixed(stream: type, base: type) -> Any:
    """Return the stream's class as one of the client library's own, which it checks for."""
    return type(stream.__name__, (stream, base), {})


class _SyncStream:
    def __init__(self, inner: Any, meter: _Meter) -> None:
        self._inner, self._meter = inner, meter

    def __iter__(self) -> Iterator[bytes]:
        try:
            for chunk in self._inner:
                self._meter.feed(chunk)
                yield chunk
        except BudgetExceeded:
            self._inner.close()
            raise
        finally:
            self._meter.finish()

    def close(self) -> None:
        try:
            self._inner.close()
        finally:
            self._meter.finish()


class _AsyncStream:
    def __init__(self, inner: Any, meter: _Meter) -> None:
        self._inner, self._meter = inner, meter

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._inner:
                self._meter.feed(chunk)
                yield chunk
        except BudgetExceeded:
            await self._inner.aclose()
            raise
        finally:
            self._meter.finish()

    async def aclose(self) -> None:
        try:
            await self._inner.aclose()
        finally:
            self._meter.finish()


# --- requests, botocore -----------------------------------------------------------------------------------


def _hook_requests(module: Any) -> None:
    def answered(ticket: Ticket, request: Any, response: Any) -> Any:
        return _raw_answer(ticket, response, is_read=response._content_consumed)

    unsent = (module.exceptions.ConnectTimeout, module.exceptions.SSLError)
    wrapt.wrap_function_wrapper(module, "Session.send", _sender(_body, unsent, answered))


def _hook_botocore(module: Any) -> None:
    from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError, SSLError

    def answered(ticket: Ticket, request: Any, response: Any) -> Any:
        return _raw_answer(ticket, response, is_read=not request.stream_output)

    unsent = (ConnectTimeoutError, EndpointConnectionError, SSLError)
    wrapt.wrap_function_wrapper(module, "URLLib3Session.send", _sender(_body, unsent, answered))


def _body(request: Any) -> object:
    return request.body


def _raw_answer(ticket: Ticket, response: Any, *, is_read: bool) -> Any:
    """Settle what is read already, meter what will be read through urllib3."""
    if response.status_code >= 400:
        ticket.refused()
    elif is_read:
        ticket.answered(read_answer(response.content, _content_type(response.headers)))
    else:
        response.raw = _MeteredRaw(response.raw, _Meter(ticket, response.headers))
    return response


class _MeteredRaw(_Proxy):
    """A urllib3 response that is read through a meter; it is decoded as it is read."""

    def __init__(self, wrapped: Any, meter: _Meter) -> None:
        super().__init__(wrapped)
        self._self_meter = meter

    def read(self, *args: Any, **kwargs: Any) -> bytes:
        data: bytes = self.__wrapped__.read(*args, **kwargs)
        self._self_feed(data)
        if not data:
            self._self_meter.finish()
        return data

    def _self_feed(self, data: bytes) -> None:
        try:
            self._self_meter.feed(data)
        except BudgetExceeded:
            self.__wrapped__.close()
            raise

    def stream(self, *args: Any, **kwargs: Any) -> Iterator[bytes]:
        try:
            for chunk in self.__wrapped__.stream(*args, **kwargs):
                self._self_feed(chunk)
                yield chunk
        finally:
            self._self_meter.finish()

    def close(self) -> None:
        try:
            self.__wrapped__.close()
        finally:
            self._self_meter.finish()

    def release_conn(self) -> None:
        try:
            self.__wrapped__.release_conn()
        finally:
            self._self_meter.finish()


# --- aiohttp ----------------------------------------------------------------------------------------------


def _hook_aiohttp(module: Any) -> None:
    unsent = (module.ClientConnectorError, module.ConnectionTimeoutError, module.InvalidURL)

    async def request(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        method, url = (*args, kwargs.get("method"), kwargs.get("str_or_url"))[:2]
        call = _call(str(method), _absolute(instance, url), lambda: _aiohttp_body(kwargs))
        ticket = await _admit_async(call, asyncio.sleep)
        if ticket is None:
            return await wrapped(*args, **kwargs)
        with _sending(ticket, unsent):
            response = await wrapped(*args, **kwargs)
        if response.status >= 400:
            ticket.refused()
        else:
            headers = {"content-type": response.headers.get("content-type", "")}
            meter = _Meter(ticket, headers)
            response.content = _MeteredContent(response.content, meter, response.close)
        return response

    wrapt.wrap_function_wrapper(module, "ClientSession._request", request)


def _absolute(session: Any, url: Any) -> Any:
    base = getattr(session, "_base_url", None)
    if base is None:
        return url
    from yarl import URL

    return base.join(URL(str(url)))


def _aiohttp_body(kwargs: Mapping[str, Any]) -> object:
    held = kwargs.get("data")
    if held is None and kwargs.get("json") is not None:
        return json.dumps(kwargs["json"])
    return held


class _MeteredContent(_Proxy):
    """An aiohttp stream that is read through a meter. It gives decoded bytes."""

    def __init__(self, wrapped: Any, meter: _Meter, close: Callable[[], None]) -> None:
        super().__init__(wrapped)
        self._self_meter, self._self_close = meter, close

    def _self_pass(self, data: bytes) -> bytes:
        try:
            self._self_meter.feed(data)
        except BudgetExceeded:
            self._self_close()
            raise
        if self.__wrapped__.at_eof():
            self._self_meter.finish()
        return data

    async def read(self, *args: Any, **kwargs: Any) -> bytes:
        return self._self_pass(await self.__wrapped__.read(*args, **kwargs))

    async def readany(self) -> bytes:
        return self._self_pass(await self.__wrapped__.readany())

    async def readline(self, *args: Any, **kwargs: Any) -> bytes:
        return self._self_pass(await self.__wrapped__.readline(*args, **kwargs))

    async def readuntil(self, *args: Any, **kwargs: Any) -> bytes:
        return self._self_pass(await self.__wrapped__.readuntil(*args, **kwargs))

    async def readexactly(self, *args: Any, **kwargs: Any) -> bytes:
        return self._self_pass(await self.__wrapped__.readexactly(*args, **kwargs))

    def read_nowait(self, *args: Any, **kwargs: Any) -> bytes:
        return self._self_pass(self.__wrapped__.read_nowait(*args, **kwargs))

    async def readchunk(self) -> tuple[bytes, bool]:
        data, is_end = await self.__wrapped__.readchunk()
        return self._self_pass(data), is_end

    def __aiter__(self) -> Any:
        return self._self_each(self.readline)

    def iter_any(self) -> Any:
        return self._self_each(self.readany)

    def iter_chunked(self, n: int) -> Any:
        return self._self_each(lambda: self.read(n))

    async def iter_chunks(self) -> AsyncIterator[tuple[bytes, bool]]:
        while True:
            data, is_end = await self.readchunk()
            if not data and not is_end:
                return
            yield data, is_end

    async def _self_each(self, read: Callable[[], Awaitable[bytes]]) -> AsyncIterator[bytes]:
        try:
            while data := await read():
                yield data
        finally:
            self._self_meter.finish()


_HOOKS: dict[str, Callable[[Any], None]] = {
    "httpx": _hook_httpx,
    "httpx2": _hook_httpx,
    "requests": _hook_requests,
    "botocore.httpsession": _hook_botocore,
    "aiohttp": _hook_aiohttp,
}

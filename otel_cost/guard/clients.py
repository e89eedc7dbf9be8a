"""Where requests leave the process: the HTTP clients that model SDKs send through, each wrapped once.

A client's `send` is wrapped, not its transport: transports are replaced, by LiteLLM for one, and leak.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import wrapt
from opentelemetry import trace

from otel_cost import second_line
from otel_cost.budgets import OFF, Policy
from otel_cost.containment import contained, count, elsewhere
from otel_cost.errors import BudgetExceeded
from otel_cost.guard import Guard, Ticket, children, default_guard, greenlets
from otel_cost.guard.answers import Reader, read_answer
from otel_cost.guard.bodies import UNKNOWN, Field, Form, read_body
from otel_cost.guard.calls import ModelCall, Told, recognise, told_by
from otel_cost.guard.rewrites import Change, UsageFilter

if TYPE_CHECKING:
    _Proxy = wrapt.ObjectProxy[Any]
else:
    _Proxy = wrapt.ObjectProxy  # not generic before wrapt 2

T = TypeVar("T")

_is_inside: ContextVar[bool] = ContextVar("otel_cost_guarded", default=False)
"""A client that sends through another one is admitted once."""

_installed: set[str] = set()
_install_lock = threading.Lock()
_current: list[Guard] = []


def install(guard: Guard) -> None:
    """Guard every client, those imported already and those imported later, with this guard and no other."""
    _current[:] = [guard]
    second_line.in_force[:] = [guard.unmetered]
    with contained("carry budgets into threads"):
        _follow_threads()
    with contained("carry budgets into greenlets"):
        greenlets.follow()
    with contained("carry budgets into child processes"):
        children.follow()
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


def current() -> Guard | None:
    """Return the guard in force, if one is."""
    return _current[0] if _current else None


def uninstall() -> None:
    """Let every request pass from now on."""
    _current.clear()
    second_line.in_force.clear()


def _contained_hook(name: str, hook: Callable[[Any], None]) -> Callable[[Any], None]:
    def apply(module: Any) -> None:
        with contained(f"guard {name}"):
            hook(module)

    return apply


def _call(
    method: str,
    url: object,
    body: Callable[[], object],
    headers: Mapping[str, Any] | None = None,
    *,
    can_hide: bool = False,
) -> ModelCall | None:
    """Return the model call a request is; None for any other, and where the guard is off.

    Args:
        body: Gives what will be sent, in any way that `read_body` knows.
        headers: As they will be sent, where they can tell that the body is signed.
        can_hide: Whether a part of the answer can be kept from the application.

    Raises:
        BudgetExceeded: The guard failed, and the policy says `deny`.
    """
    if not _current or _is_inside.get():
        return None
    try:
        sent = read_body(body())
    except Exception as error:
        count("read a request", error)
        sent = UNKNOWN
    try:
        call = recognise(method, str(url), sent.text, _told)
        if call is not None:
            call.is_fixed, call.can_hide = partial(_is_signed, headers, call.url), can_hide
            if sent.is_form:
                call.is_fixed = lambda: True
            call.files, call.file_bytes = call.files + sent.files, call.file_bytes + sent.file_bytes
        return call
    except Exception as error:
        _unrecognised(method, str(url), error)
        return None


def _unrecognised(method: str, url: str, error: Exception) -> None:
    """Do what the policy says of a guard that failed, where a URL alone tells that it is a model call."""
    doing, call = "recognise a model call", None
    with contained(doing):
        call = recognise(method, url, None)
    if call is None:
        count(doing, error)
    else:
        _current[0].failed(call, error, doing=doing)


def _told() -> Told | None:
    """Return what the current span says it is calling."""
    return told_by(getattr(trace.get_current_span(), "attributes", None))


_SIGNATURES = frozenset({"signature", "digest", "content-digest", "content-md5"})


def _is_signed(headers: Mapping[str, Any] | None, url: str) -> bool:
    """Whether a request carries a signature or a digest of its body, which a change would break."""
    if "X-Amz-Signature=" in url:
        return True
    for name, value in headers.items() if headers is not None else ():
        lower = str(name).lower()
        if lower in _SIGNATURES or (lower == "authorization" and str(value).startswith("AWS4-")):
            return True
    return False


def _changed(ticket: Ticket, apply: Callable[[Change], T], asked: T) -> T:
    """Return the request that is sent: what the guard changed, or, where that fails, as it was asked for."""
    if ticket.change is not None:
        try:
            return apply(ticket.change)
        except Exception as error:
            ticket.cannot_change(error)
    return asked


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


class _sending:  # noqa: N801 (reads as a statement: `with _sending(ticket, unbilled):`)
    """Send an admitted call: what it sends through is not asked again, and an error settles it.

    Args:
        unbilled: Errors of a request that never left, or that was only ever refused.
    """

    __slots__ = ("_ticket", "_token", "_unbilled")

    def __init__(self, ticket: Ticket, unbilled: tuple[type[BaseException], ...]) -> None:
        self._ticket, self._unbilled = ticket, unbilled

    def __enter__(self) -> None:
        self._token = _is_inside.set(True)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            self._settle(error)
        try:  # noqa: SIM105 (`suppress` takes ten times as long)
            _is_inside.reset(self._token)
        except ValueError:  # a task that is collected ends in another context than its own
            pass

    def _settle(self, error: BaseException) -> None:
        settle = self._ticket.refused if self._is_unbilled(error) else self._ticket.lost
        if isinstance(error, GeneratorExit):  # of a task that is collected
            elsewhere(settle)
        else:
            settle()

    def _is_unbilled(self, error: BaseException) -> bool:
        with contained("read an error"):
            return any(isinstance(each, self._unbilled) or _is_refusal(each) for each in _reasons(error))
        return False


def _reasons(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it wraps: urllib3 wraps its errors once, requests these again."""
    seen: list[BaseException] = []
    inner: object = error
    while isinstance(inner, BaseException) and all(inner is not each for each in seen):
        seen.append(inner)
        yield inner
        first = inner.args[0] if inner.args else None
        wrapped = first if isinstance(first, BaseException) else inner.__cause__
        reason = getattr(inner, "reason", None)
        inner = reason if isinstance(reason, BaseException) else wrapped


def _is_refusal(error: BaseException) -> bool:
    """Return whether an error tells of an answer with an error status: of hooks that raise for it, say."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is None and error.__cause__ is None:  # with a cause, aiohttp could not read the answer
        status = getattr(error, "status", None)
    return isinstance(status, int) and status >= 400


class _Form(NamedTuple):
    """How a client holds what it sends through `send(request)`.

    Attributes:
        body: Gives the body of a request.
        changed: Makes the request that is sent instead; the application's own stays as it is.
        answered: Settles a response and returns it.
        unbilled: Errors of a request that never left, or that was only ever refused.
        is_fixed: Tells whether a request cannot be changed; None: its headers say so.
        can_hide: Whether a part of the answer can be kept from the application.
    """

    body: Callable[[Any], object]
    changed: Callable[[Any, Change], Any]
    answered: Callable[[Ticket, Any, Any], Any]
    unbilled: tuple[type[BaseException], ...]
    is_fixed: Callable[[Any], bool] | None = None
    can_hide: bool = False

    def call(self, request: Any) -> ModelCall | None:
        """Return the model call a request is."""
        if request is None:
            return None
        body = partial(self.body, request)
        call = _call(request.method, request.url, body, request.headers, can_hide=self.can_hide)
        if call is not None and self.is_fixed is not None:
            call.is_fixed = partial(self.is_fixed, request)
        return call


def _sender(form: _Form) -> Callable[..., Any]:
    """Return a wrapper for a `send(request)`."""

    def send(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        request = _request(args, kwargs)
        ticket = _admit(form.call(request))
        if ticket is None:
            return wrapped(*args, **kwargs)
        if ticket.change is not None:
            request = _changed(ticket, partial(form.changed, request), request)
            args = _with_request(request, args, kwargs)
        with _sending(ticket, form.unbilled):
            response = wrapped(*args, **kwargs)
        return form.answered(ticket, request, response)

    return send


def _async_sender(form: _Form, sleep: Callable[[float], Awaitable[None]]) -> Callable[..., Any]:
    """Return a wrapper for an asynchronous `send(request)`."""

    async def send(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        request = _request(args, kwargs)
        ticket = await _admit_async(form.call(request), sleep)
        if ticket is None:
            return await wrapped(*args, **kwargs)
        if ticket.change is not None:
            request = _changed(ticket, partial(form.changed, request), request)
            args = _with_request(request, args, kwargs)
        with _sending(ticket, form.unbilled):
            response = await wrapped(*args, **kwargs)
        return form.answered(ticket, request, response)

    return send


def _request(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0] if args else kwargs.get("request")


def _with_request(request: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """Return the positional arguments with a request in them, and take it out of the others."""
    kwargs.pop("request", None)
    return (request, *args[1:])


class _Meter:
    """Reads an answer as the application does, and settles the call when it ends, however it ends."""

    def __init__(self, ticket: Ticket, headers: Mapping[str, str]) -> None:
        self._ticket = ticket
        self._reader: Reader | None = None
        try:
            self._reader = Reader(_content_type(headers), str(headers.get("content-encoding", "")))
        except Exception as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """An answer that cannot be read costs what such answers usually do."""
        self._reader = None
        self._ticket.lost()
        count("read an answer", error)

    def feed(self, data: bytes, *, is_decoded: bool = False) -> None:
        """Take bytes on their way to the application, as they were sent or with their encoding undone.

        Raises:
            BudgetExceeded: They pass what the budget has left; they must not go on, and the stream must end.
        """
        reader = self._reader
        if reader is None:
            return
        try:
            reader.feed(data, is_decoded=is_decoded)
        except Exception as error:
            self._give_up(error)
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

    def __enter__(self) -> None:
        """Read a stream: its end, or an error in it, settles the call."""

    def __exit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        if kind is not GeneratorExit:  # that may come from the garbage collector; see below
            self.finish()

    def __del__(self) -> None:
        """Nobody read the answer to its end, or closed it."""
        if self._reader is not None:
            elsewhere(self.finish)


def _content_type(headers: Mapping[str, str]) -> str:
    return str(headers.get("content-type", ""))


# --- httpx, httpx2 ----------------------------------------------------------------------------------------


def _hook_httpx(module: Any) -> None:
    unbilled = (module.ConnectError, module.ConnectTimeout, module.PoolTimeout, module.UnsupportedProtocol)
    change = partial(_httpx_changed, module.Request)

    content = partial(_content, module.RequestNotRead)

    def form(stream: Any) -> _Form:
        return _Form(content, change, partial(_httpx_answer, stream), unbilled, can_hide=True)

    sync, concurrent = (
        _mixed(_SyncStream, module.SyncByteStream),
        _mixed(_AsyncStream, module.AsyncByteStream),
    )
    wrapt.wrap_function_wrapper(module, "Client.send", _sender(form(sync)))
    wrapt.wrap_function_wrapper(module, "AsyncClient.send", _async_sender(form(concurrent), _sleep))


def _httpx_changed(make: Any, request: Any, change: Change) -> Any:
    headers = [(name, value) for name, value in request.headers.raw if name.lower() not in _ABOUT_BODY]
    if change.hides_usage:  # what is compressed cannot be looked into as it passes
        headers = [(name, value) for name, value in headers if name.lower() != b"accept-encoding"]
        headers.append((b"accept-encoding", b"identity"))
    return make(
        request.method, change.url, headers=headers, content=change.body, extensions=request.extensions
    )


_ABOUT_BODY = frozenset({b"content-length", b"transfer-encoding"})


def _content(not_read: type[Exception], request: Any) -> object:
    fields = getattr(request.stream, "fields", None)
    if fields is not None:
        return Form(map(_httpx_field, fields))
    try:
        return request.content
    except not_read:
        return getattr(request.stream, "_stream", request.stream)


def _httpx_field(field: Any) -> Field:
    is_file = hasattr(field, "file")
    return Field(field.name, field.file if is_file else field.value, is_file and field.filename is not None)


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
        response.stream = stream(response.stream, _Meter(ticket, response.headers), _filter_of(ticket))
    return response


def _filter_of(ticket: Ticket) -> UsageFilter | None:
    return UsageFilter() if ticket.change is not None and ticket.change.hides_usage else None


def _mixed(stream: type, base: type) -> Any:
    """Return the stream's class as one of the client library's own, which it checks for."""
    return type(stream.__name__, (stream, base), {})


class _SyncStream:
    def __init__(self, inner: Any, meter: _Meter, hidden: UsageFilter | None) -> None:
        self._inner, self._meter, self._hidden = inner, meter, hidden

    def __iter__(self) -> Iterator[bytes]:
        with self._meter:
            try:
                for chunk in self._inner:
                    self._meter.feed(chunk)
                    if shown := chunk if self._hidden is None else self._hidden.feed(chunk):
                        yield shown
                if self._hidden is not None and (rest := self._hidden.finish()):
                    yield rest
            except BudgetExceeded:
                self._inner.close()
                raise

    def close(self) -> None:
        try:
            self._inner.close()
        finally:
            self._meter.finish()


class _AsyncStream:
    def __init__(self, inner: Any, meter: _Meter, hidden: UsageFilter | None) -> None:
        self._inner, self._meter, self._hidden = inner, meter, hidden

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._inner:
                self._meter.feed(chunk)
                if shown := chunk if self._hidden is None else self._hidden.feed(chunk):
                    yield shown
            if self._hidden is not None and (rest := self._hidden.finish()):
                yield rest
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


# --- requests, botocore, urllib3 --------------------------------------------------------------------------


def _hook_requests(module: Any) -> None:
    def answered(ticket: Ticket, request: Any, response: Any) -> Any:
        return _raw_answer(ticket, response, is_read=response._content_consumed)

    unbilled = (module.exceptions.ConnectTimeout, *_unbilled_by_urllib3())
    form = _Form(_body, _requests_changed, answered, unbilled)
    wrapt.wrap_function_wrapper(module, "Session.send", _sender(form))


def _requests_changed(request: Any, change: Change) -> Any:
    made = request.copy()
    made.url = change.url
    made.prepare_body(change.body, None)
    return made


def _hook_botocore(module: Any) -> None:
    from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError, SSLError

    def answered(ticket: Ticket, request: Any, response: Any) -> Any:
        return _raw_answer(ticket, response, is_read=not request.stream_output)

    unbilled = (ConnectTimeoutError, EndpointConnectionError, SSLError)
    form = _Form(_body, _botocore_changed, answered, unbilled, lambda request: not hasattr(request, _RESIGN))
    wrapt.wrap_function_wrapper(module, "URLLib3Session.send", _sender(form))


_RESIGN = "_otel_cost_resign"


def _hook_botocore_endpoint(module: Any) -> None:
    """Let a signed request know how to be made, and signed, anew from other parameters."""

    def create(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        request = wrapped(*args, **kwargs)
        with contained("keep how a request is signed"):
            setattr(request, _RESIGN, partial(_created_anew, wrapped, args, kwargs))
        return request

    wrapt.wrap_function_wrapper(module, "Endpoint.create_request", create)


def _created_anew(create: Any, args: tuple[Any, ...], kwargs: dict[str, Any], change: Change) -> Any:
    params = {**_params(args, kwargs), "url": change.url, "body": change.body}
    kwargs = {name: value for name, value in kwargs.items() if name != "params"}
    return create(params, *args[1:], **kwargs)


def _params(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    params: dict[str, Any] = args[0] if args else kwargs["params"]
    return params


def _botocore_changed(request: Any, change: Change) -> Any:
    return getattr(request, _RESIGN)(change)


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


def _hook_urllib3(module: Any) -> None:
    """What sends through urllib3 itself; requests and botocore do too, and were asked before."""
    unbilled = _unbilled_by_urllib3()

    def urlopen(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not _current:
            return wrapped(*args, **kwargs)
        method, url, body = (*args, None, None, None)[:3]
        address = _absolute_url(instance, str(kwargs.get("url", url)))
        headers = (*args, None, None, None, None)[3] or kwargs.get("headers") or {}
        method = str(kwargs.get("method", method))
        ticket = _admit(_call(method, address, lambda: kwargs.get("body", body), headers))
        if ticket is None:
            return wrapped(*args, **kwargs)
        args, kwargs = _changed(ticket, partial(_urllib3_changed, args, kwargs, headers), (args, kwargs))
        with _sending(ticket, unbilled):
            response = wrapped(*args, **kwargs)
        if response.status >= 300:
            ticket.refused()
        elif kwargs.get("preload_content", True):
            ticket.answered(read_answer(response.data, _content_type(response.headers)))
        else:
            return _MeteredRaw(response, _Meter(ticket, response.headers))
        return response

    wrapt.wrap_function_wrapper(module, "HTTPConnectionPool.urlopen", urlopen)


def _urllib3_changed(
    args: tuple[Any, ...], kwargs: dict[str, Any], headers: Mapping[str, Any], change: Change
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    parts = urlsplit(change.url)
    sent = {
        "url": parts._replace(scheme="", netloc="").geturl(),
        "body": change.body,
        "headers": dict(_without_size(headers)),
    }
    given = {name: value for name, value in kwargs.items() if name not in sent}
    places = dict(zip(_URLOPEN, args, strict=False)) | sent
    return (), {**places, **given}


_URLOPEN = ("method", "url", "body", "headers", "retries", "redirect", "assert_same_host", "timeout")


def _without_size(headers: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in headers.items() if name.lower().encode() not in _ABOUT_BODY]


def _unbilled_by_urllib3() -> tuple[type[BaseException], ...]:
    from urllib3.exceptions import ConnectTimeoutError, NewConnectionError, ResponseError, SSLError

    return (ConnectTimeoutError, NewConnectionError, ResponseError, SSLError)  # the third: retries used up


def _absolute_url(pool: Any, url: str) -> str:
    return url if "://" in url else f"{pool.scheme}://{pool.host}:{pool.port}{url}"


class _MeteredRaw(_Proxy):
    """A urllib3 response that is read through a meter."""

    def __init__(self, wrapped: Any, meter: _Meter) -> None:
        super().__init__(wrapped)
        self._self_meter = meter

    @property
    def data(self) -> bytes:
        data: bytes = self.__wrapped__.data
        self._self_feed(data, is_decoded=self.__wrapped__.decode_content)
        self._self_meter.finish()
        return data

    def json(self) -> Any:
        return json.loads(self.data)

    def read(self, *args: Any, **kwargs: Any) -> bytes:
        return self._self_pass(self.__wrapped__.read(*args, **kwargs), args, kwargs)

    def read1(self, *args: Any, **kwargs: Any) -> bytes:
        return self._self_pass(self.__wrapped__.read1(*args, **kwargs), args, kwargs)

    def readinto(self, buffer: Any) -> int:
        size: int = self.__wrapped__.readinto(buffer)
        self._self_pass(bytes(memoryview(buffer)[:size]), (), {})
        return size

    def stream(self, *args: Any, **kwargs: Any) -> Iterator[bytes]:
        is_decoded = self._self_is_decoded(args, kwargs)
        return self._self_each(self.__wrapped__.stream(*args, **kwargs), is_decoded=is_decoded)

    def read_chunked(self, *args: Any, **kwargs: Any) -> Iterator[bytes]:
        is_decoded = self._self_is_decoded(args, kwargs)
        return self._self_each(self.__wrapped__.read_chunked(*args, **kwargs), is_decoded=is_decoded)

    def __iter__(self) -> Iterator[bytes]:
        return self._self_each(iter(self.__wrapped__), is_decoded=True)

    def _self_pass(self, data: bytes, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        self._self_feed(data, is_decoded=self._self_is_decoded(args, kwargs))
        if not data:
            self._self_meter.finish()
        return data

    def _self_is_decoded(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        asked = kwargs.get("decode_content", args[1] if len(args) > 1 else None)
        return bool(self.__wrapped__.decode_content if asked is None else asked)

    def _self_feed(self, data: bytes, *, is_decoded: bool) -> None:
        try:
            self._self_meter.feed(data, is_decoded=is_decoded)
        except BudgetExceeded:
            self.__wrapped__.close()
            raise

    def _self_each(self, chunks: Iterator[bytes], *, is_decoded: bool) -> Iterator[bytes]:
        with self._self_meter:
            for chunk in chunks:
                self._self_feed(chunk, is_decoded=is_decoded)
                yield chunk

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
    unbilled = (module.ClientConnectorError, module.ConnectionTimeoutError, module.InvalidURL)

    async def request(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        method, url = (*args, kwargs.get("method"), kwargs.get("str_or_url"))[:2]
        headers = _aiohttp_headers(kwargs)
        call = _call(str(method), _absolute(instance, url), lambda: _aiohttp_body(instance, kwargs), headers)
        ticket = await _admit_async(call, asyncio.sleep)
        if ticket is None:
            return await wrapped(*args, **kwargs)
        url, sent = _changed(ticket, partial(_aiohttp_changed, instance, url, kwargs), (url, kwargs))
        with _sending(ticket, unbilled):
            sent = {name: value for name, value in sent.items() if name not in ("method", "str_or_url")}
            response = await wrapped(method, url, **sent)
        if response.status >= 400:
            ticket.refused()
        else:
            meter = _Meter(ticket, _undecoded(instance, kwargs, response.headers))
            response.content = _MeteredContent(response.content, meter, response.close)
        return response

    wrapt.wrap_function_wrapper(module, "ClientSession._request", request)


def _undecoded(session: Any, kwargs: Mapping[str, Any], headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return the headers of a body as aiohttp hands it on, decoded unless it is told not to."""
    asked = kwargs.get("auto_decompress")
    if getattr(session, "auto_decompress", True) if asked is None else asked:
        return {"content-type": _content_type(headers)}
    return headers


def _absolute(session: Any, url: Any) -> Any:
    base = getattr(session, "_base_url", None)
    if base is None:
        return url
    from yarl import URL

    return base.join(URL(str(url)))


def _aiohttp_headers(kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    given = kwargs.get("headers") or {}
    return given if isinstance(given, Mapping) else dict(given)


def _aiohttp_changed(
    session: Any, url: Any, kwargs: dict[str, Any], change: Change
) -> tuple[Any, dict[str, Any]]:
    from yarl import URL

    if change.url != str(_absolute(session, url)):
        changed = URL(change.url, encoded=True)
        url = changed if getattr(session, "_base_url", None) is None else changed.relative()
    if kwargs.get("data") is None:
        return url, {**kwargs, "json": change.document}
    headers = _without_size(_aiohttp_headers(kwargs))
    kind = getattr(kwargs["data"], "content_type", None)  # a payload brings its own
    if kind and all(name.lower() != "content-type" for name, _ in headers):
        headers.append(("content-type", kind))
    return url, {**kwargs, "data": change.body, "headers": headers}


def _aiohttp_body(session: Any, kwargs: Mapping[str, Any]) -> object:
    held = kwargs.get("data")
    if held is None and kwargs.get("json") is not None:
        dumps = getattr(session, "_json_serialize_bytes", None) or session.json_serialize
        return dumps(kwargs["json"])
    if isinstance(held, Mapping | list | tuple):
        pairs = held.items() if isinstance(held, Mapping) else held
        return Form(Field(str(name), value, is_file=False) for name, value in pairs)
    if (fields := getattr(held, "_fields", None)) is not None:
        return Form(Field(named["name"], value, "filename" in named) for named, _, value in fields)
    return getattr(held, "_value", held)


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
    "botocore.endpoint": _hook_botocore_endpoint,
    "botocore.httpsession": _hook_botocore,
    "urllib3.connectionpool": _hook_urllib3,
    "aiohttp": _hook_aiohttp,
}

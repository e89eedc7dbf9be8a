"""One process as one execution: a root span around a script, and no spans lost when it ends.

Without a root, a plain loop of model calls gives one trace per call and nothing shows what the run cost.
A server is not one execution, so what it serves starts traces of its own.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import PurePath
from types import FrameType, TracebackType
from typing import Any

import wrapt
from opentelemetry import context, propagate, trace
from opentelemetry.sdk.trace import TracerProvider

from otel_cost.containment import contained

SCOPE = "otel_cost.process"
CARRIED = ("TRACEPARENT", "TRACESTATE", "BAGGAGE")
"""Variables that carry a trace, and who pays for it, into child processes.

https://opentelemetry.io/docs/specs/otel/context/env-carriers/
"""

SERVER_PROGRAMS = frozenset(
    {
        "adk",
        "airflow",
        "celery",
        "chainlit",
        "daphne",
        "dagster",
        "django-admin",
        "dramatiq",
        "fastapi",
        "flask",
        "gradio",
        "granian",
        "gunicorn",
        "hypercorn",
        "ipykernel_launcher",
        "ipython",
        "jupyter",
        "jupyter-lab",
        "jupyter-notebook",
        "langgraph",
        "litestar",
        "locust",
        "manage.py",
        "mcp",
        "prefect",
        "pytest",
        "py.test",
        "quart",
        "rq",
        "sanic",
        "streamlit",
        "uvicorn",
        "uwsgi",
        "waitress-serve",
    }
)
"""Programs and modules that run many executions in one process."""

SERVER_ENTRIES = (
    ("uvicorn.server", "Server.run"),
    ("uvicorn.server", "Server.serve"),
    ("hypercorn.asyncio", "serve"),
    ("aiohttp.web", "run_app"),
    ("gunicorn.app.base", "BaseApplication.run"),
    ("waitress", "serve"),
    ("socketserver", "BaseServer.serve_forever"),
    ("gevent.baseserver", "BaseServer.serve_forever"),
    ("eventlet.wsgi", "server"),
)
"""Where a script becomes a server: module and callable."""


def script_name(argv: Sequence[str] | None = None) -> str | None:
    """Return what the interpreter runs: a file's name, a module or `-c`; None in an interactive session.

    Args:
        argv: The interpreter's own command line, by default that of this process.
    """
    arguments = iter(list(sys.orig_argv if argv is None else argv)[1:])
    for argument in arguments:
        if argument == "-m":
            return next(arguments, None)
        if argument.startswith("-c"):
            return "-c"
        if argument in ("-W", "-X", "--check-hash-based-pycs"):
            next(arguments, None)
        elif not argument.startswith("-"):
            return PurePath(argument).name
    return None


def is_server(name: str) -> bool:
    """Return whether a program or module by this name runs many executions in one process."""
    package = name if name.endswith(".py") else name.split(".")[0]
    return package in SERVER_PROGRAMS


def is_worker(argv: Sequence[str] | None = None) -> bool:
    """Return whether this process was spawned by multiprocessing, to work for the one that did."""
    arguments = sys.orig_argv if argv is None else argv
    return any(argument.startswith("from multiprocessing.") for argument in arguments)


def carried() -> dict[str, str]:
    """Return the variables that carry the current trace into a child process."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return {key.upper(): text for key, text in carrier.items() if key.upper() in CARRIED}


def inherited_trace(environ: Mapping[str, str]) -> context.Context | None:
    """Return the trace and baggage that the parent process left in the environment, if it did."""
    carrier = {key.lower(): environ[key] for key in CARRIED if key in environ}
    return propagate.extract(carrier) if carrier else None


def join_parent() -> None:
    """Go on in the parent process's trace without a span of one's own, as a worker does."""
    inherited = inherited_trace(os.environ)
    if inherited is not None:
        context.attach(inherited)


class Root:
    """The span around a script. Child processes continue its trace."""

    def __init__(self, name: str) -> None:
        tracer = trace.get_tracer(SCOPE)
        self._around = inherited_trace(os.environ)
        self.span = tracer.start_span(f"execution {name}", context=self._around)
        self._pid = os.getpid()
        self.is_open = True

    @property
    def execution_id(self) -> str:
        """The trace, in hexadecimal."""
        return f"{self.span.get_span_context().trace_id:032x}"

    def enter(self) -> None:
        """Make the span the parent of what this process does from now on."""
        context.attach(trace.set_span_in_context(self.span, self._around))
        os.environ.update(carried())

    def leave(self) -> None:
        """End the span and let what follows start traces of its own."""
        context.attach(trace.set_span_in_context(trace.INVALID_SPAN))
        for key in CARRIED:
            os.environ.pop(key, None)
        self.end()

    def fail(self, kind: type[BaseException]) -> None:
        """Mark the execution as failed; the message stays out, it may quote a prompt."""
        self.span.set_attribute("error.type", kind.__qualname__)
        self.span.set_status(trace.StatusCode.ERROR)

    def end(self) -> None:
        """End the span once, and only in the process that started it."""
        if self.is_open and os.getpid() == self._pid:
            self.is_open = False
            self.span.end()


_roots: list[Root] = []
"""The root of this process, where it has one."""
_OWN_ID = uuid.uuid4().hex
"""The execution that a script without a root is. Processes forked from it are the same one."""
_became_server = threading.Event()


def root_execution_id() -> str | None:
    """Return the execution that this process is, for what no span is around; None where it runs many."""
    if _became_server.is_set() or _runs_many():
        return None
    return _roots[0].execution_id if _roots else _OWN_ID


@cache
def _runs_many() -> bool:
    """Return whether this is a server, an interactive session, or a worker that takes what it is sent."""
    name = script_name()
    return name is None or is_server(name) or is_worker()


@cache
def watch_for_servers() -> None:
    """Notice when this process becomes a server: from then on it runs many executions. Once is enough."""
    at_server_start(_became_server.set)


def start_root(name: str) -> Root:
    """Open the root span of this process, fail it on an unhandled exception, close it at a server's start."""
    root = Root(name)
    _roots[:] = [root]
    root.enter()
    _fail_on_unhandled_exception(root)
    at_server_start(root.leave)
    return root


def at_server_start(leave: Callable[[], None]) -> None:
    """Do something when this process becomes a server: from then on it is not one execution."""
    for module, entry in SERVER_ENTRIES:
        wrapt.register_post_import_hook(_server_hook(leave, entry), module)


def _fail_on_unhandled_exception(root: Root) -> None:
    shown = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        with contained("mark the execution as failed"):
            root.fail(kind)
        shown(kind, error, traceback)

    sys.excepthook = hook


def _server_hook(leave: Callable[[], None], entry: str) -> Callable[[Any], None]:
    def serve(
        wrapped: Callable[..., Any], instance: object, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        with contained("leave the root span"):
            if _is_main_thread():
                leave()
            else:
                context.attach(trace.set_span_in_context(trace.INVALID_SPAN))
        return wrapped(*args, **kwargs)

    def hook(module: Any) -> None:
        with contained(f"watch for servers in {module.__name__}"):
            wrapt.wrap_function_wrapper(module, entry, serve)

    return hook


def _is_main_thread() -> bool:
    """Return whether this is the main thread, which eventlet has a second object for."""
    main = threading.main_thread()
    return threading.current_thread() is main or threading.get_native_id() == main.native_id


class Ending:
    """Ends the root span and sends what is waiting when the process ends, within a deadline.

    Args:
        root: The root span, if this process has one.
        timeout_s: How long the process may be held up, in seconds.
    """

    def __init__(self, provider: TracerProvider, root: Root | None, *, timeout_s: float) -> None:
        self._provider = provider
        self._root = root
        self._timeout_s = timeout_s

    def watch(self) -> None:
        """Act at interpreter exit, at the end of a forked worker, and on SIGTERM where nobody handles it."""
        atexit.register(self.finish)
        wrapt.register_post_import_hook(self._watch_workers, "multiprocessing.util")
        if threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._terminate)

    def finish(self) -> None:
        """End the root span and flush."""
        with contained("flush at exit"):
            if self._root is not None:
                self._root.end()
            self._provider.force_flush(int(self._timeout_s * 1000))

    def _watch_workers(self, util: Any) -> None:
        """Flush in forked workers too: they leave through `os._exit`, past the interpreter's exit hooks."""
        with contained("watch forked workers"):
            util.register_after_fork(
                self, lambda ending: util.Finalize(ending, ending.finish, exitpriority=0)
            )

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        """Flush beside the interrupted code, which may hold a lock that takes; then die of the signal."""
        flusher = threading.Thread(target=self.finish, name="otel-cost-flush", daemon=True)
        flusher.start()
        flusher.join(self._timeout_s)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)

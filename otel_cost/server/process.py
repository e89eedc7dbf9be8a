"""One process that owns the store: listening sockets, start, serving, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
import uvicorn

from otel_cost.errors import ConfigError
from otel_cost.server.app import build_app
from otel_cost.server.grpc import build_grpc_server
from otel_cost.server.guard import Guard, check_exposure, is_loopback
from otel_cost.server.ingest import Ingest
from otel_cost.server.queries import QueryEndpoint
from otel_cost.server.writer import SpanStore, Writer

log = logging.getLogger(__name__)

DRAIN_S = 20.0
"""How long a stop may take: two inserts of a full batch on a slow disk."""
_BACKLOG = 512
_KEEP_ALIVE_S = 30


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen; port 0 takes any free one."""

    host: str
    port: int

    @classmethod
    def parse(cls, option: str, text: str) -> Address:
        """Read `host:port`, `[ipv6]:port` or `:port`, which means this machine only.

        Raises:
            ConfigError: The text is none of these.
        """
        host, colon, port = text.rpartition(":")
        if (
            not colon
            or not port.isdecimal()
            or int(port) > 65_535
            or (":" in host and not host.startswith("["))
        ):
            raise ConfigError(f"{option}={text!r} is not host:port; write 127.0.0.1:4318")
        return cls(host.strip("[]") or "127.0.0.1", int(port))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Listening:
    """Where the server answers once it runs."""

    http: Address
    grpc: Address | None


class Sockets:
    """The ports of the server, taken before anything slow so that a taken one is said at once."""

    def __init__(self, http: Address, grpc_address: Address | None, token: str | None) -> None:
        check_exposure("--http", http.host, token)
        if grpc_address is not None:
            check_exposure("--grpc", grpc_address.host, token)
        self.http = _listen("--http", http)
        self.grpc_address = grpc_address
        if grpc_address is not None and grpc_address.port:
            with _listen("--grpc", grpc_address):
                pass

    @property
    def http_address(self) -> Address:
        """The HTTP address with the port that was taken."""
        host, port = self.http.getsockname()[:2]
        return Address(host, port)

    def close(self) -> None:
        """Give the port back."""
        self.http.close()


def _listen(option: str, address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((address.host, address.port))
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise ConfigError(_why_not(option, address, error)) from error
    return listening


def _why_not(option: str, address: Address, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"{option}: another program already listens on {address}, perhaps another `otel-cost up` or an "
            f"OpenTelemetry Collector. Stop it (`otel-cost down` stops ours), or give {option} another port."
        )
    return (
        f"{option}: cannot listen on {address}: {error.strerror}. Give {option} an address of this machine."
    )


class Server:
    """OTLP in and queries out, over one store."""

    def __init__(self, store: SpanStore, queries: QueryEndpoint, sockets: Sockets, token: str | None) -> None:
        self._writer = Writer(store)
        self._ingest = Ingest(self._writer)
        self._sockets = sockets
        http = sockets.http_address
        guard = Guard(token, loopback=is_loopback(http.host))
        app = build_app(self._ingest, queries, guard)
        self._uvicorn = _Uvicorn(uvicorn.Config(app, **_uvicorn_options()))
        self._guard = guard
        self._grpc: grpc.aio.Server | None = None
        self._stop = asyncio.Event()
        self._forced = False

    async def run(self, ready: Callable[[Listening], None]) -> bool:
        """Serve until `stop`; `ready` is called when both protocols answer.

        Returns:
            Whether every span that was accepted is on disk.
        """
        grpc_address = await self._start_grpc()
        serving = asyncio.create_task(self._uvicorn.serve([self._sockets.http]))
        while not self._uvicorn.started and not serving.done():
            await asyncio.sleep(0.01)
        gc.collect()
        gc.freeze()
        gc.set_threshold(_GC_THRESHOLD, 20, 20)
        ready(Listening(self._sockets.http_address, grpc_address))
        await self._stop.wait()
        return await self._shut_down(serving)

    def stop(self) -> None:
        """Begin an orderly end; the second time, end at once."""
        self._forced = self._stop.is_set()
        self._uvicorn.force_exit = self._forced
        self._stop.set()

    async def _start_grpc(self) -> Address | None:
        address = self._sockets.grpc_address
        if address is None:
            return None
        self._grpc = build_grpc_server(self._ingest, self._guard)
        try:
            port = self._grpc.add_insecure_port(str(address))
        except RuntimeError as error:
            raise ConfigError(f"--grpc: cannot listen on {address}: {error}") from error
        await self._grpc.start()
        return Address(address.host, port)

    async def _shut_down(self, serving: asyncio.Task[None]) -> bool:
        """Take no more, write what waits, answer who waits."""
        stopping_grpc = asyncio.create_task(self._grpc.stop(DRAIN_S)) if self._grpc else None
        self._uvicorn.should_exit = True
        draining = asyncio.create_task(asyncio.to_thread(self._writer.stop, DRAIN_S))
        while not draining.done() and not self._forced:
            await asyncio.wait([draining], timeout=0.05)
        written = draining.result() if draining.done() else False
        ending: list[Any] = [task for task in (serving, stopping_grpc) if task is not None]
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait(ending, timeout=0.1 if self._forced else 5.0)
        return written


_GC_THRESHOLD = 100_000
"""Allocations between collections: rows make no cycles, and looking for some halves the decoding speed."""


class _Uvicorn(uvicorn.Server):
    """A server that leaves signals to us."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """Capture nothing."""
        yield


def _uvicorn_options() -> dict[str, Any]:
    return {
        "log_config": None,
        "access_log": False,
        "lifespan": "off",
        "server_header": False,
        "date_header": False,
        "ws": "none",
        "proxy_headers": False,
        "timeout_keep_alive": _KEEP_ALIVE_S,
        "timeout_graceful_shutdown": int(DRAIN_S),
        "backlog": _BACKLOG,
        "limit_concurrency": 1_000,
    }


def run_server(server: Server, ready: Callable[[Listening], None]) -> bool:
    """Serve until SIGINT or SIGTERM; a second one gives up waiting for spans. See `Server.run`."""

    async def run() -> bool:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, server.stop)
        return await server.run(ready)

    return asyncio.run(run())

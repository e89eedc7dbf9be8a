"""`otel-cost up`, `down` and `import`: the pipeline."""

from __future__ import annotations

import logging
import os
import sys
from typing import Annotated

import typer
from rich.console import Console

from otel_cost.config import Config
from otel_cost.errors import ConfigError, OtelCostError
from otel_cost.pricing import PriceBook
from otel_cost.server import background
from otel_cost.server.ownership import owned
from otel_cost.server.process import Address, Listening, Server, Sockets, run_server
from otel_cost.server.queries import PROXY_PATH, QueryEndpoint
from otel_cost.store import open_store
from otel_cost.store.dsn import Embedded, default_dsn, parse_dsn
from otel_cost.store.reader import open_reader

app = typer.Typer(no_args_is_help=True, add_completion=False)
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

StoreOption = Annotated[
    str | None, typer.Option("--store", help="Where spans are kept. Default: OTEL_COST_STORE.")
]


def fail(error: OtelCostError) -> typer.Exit:
    """Print what is wrong, without a traceback, and return the exit: 2 for settings, else 1."""
    err.print(str(error), style="red", markup=False)
    return typer.Exit(2 if isinstance(error, ConfigError) else 1)


@app.command()
def up(
    store: StoreOption = None,
    http: Annotated[str, typer.Option(help="Where OTLP/HTTP and queries are served.")] = "127.0.0.1:4318",
    grpc: Annotated[
        str, typer.Option(help="Where OTLP/gRPC is served; empty for nowhere.")
    ] = "127.0.0.1:4317",
    token: Annotated[
        str | None, typer.Option(envvar="OTEL_COST_TOKEN", help="What senders and readers must show.")
    ] = None,
    in_background: Annotated[
        bool, typer.Option("--background", help="Return when it serves; `otel-cost down` stops it.")
    ] = False,
) -> None:
    """Receive OpenTelemetry spans, price them and keep them, until Ctrl-C."""
    try:
        dsn = store or default_dsn()
        if in_background:
            background.start(dsn, http, grpc, token, say=out.print)
            return
        finished = _serve(dsn, http, grpc, token)
    except OtelCostError as error:
        raise fail(error) from None
    if not finished:
        err.print("stopped before every span was on disk; their senders were told to send them again")
        raise typer.Exit(1)


@app.command()
def down(store: StoreOption = None) -> None:
    """Stop the `otel-cost up` that serves a store, once its spans are on disk."""
    try:
        stopped = background.stop(store or default_dsn())
    except OtelCostError as error:
        raise fail(error) from None
    out.print(f"stopped process {stopped}" if stopped else "nothing was running")


def _serve(dsn: str, http: str, grpc: str, token: str | None) -> bool:
    """Serve a store until told to stop. Returns whether every accepted span is on disk."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    place = parse_dsn(dsn)
    background.check_not_served(place)
    grpc_address = Address.parse("--grpc", grpc) if grpc else None
    sockets = Sockets(Address.parse("--http", http), grpc_address, token)
    try:
        with open_store(dsn) as opened:
            opened.migrate()
            opened.push_prices(_price_book())
            server = Server(opened, QueryEndpoint(open_reader(place)), sockets, token)
            url = f"http://{sockets.http_address}"
            with owned(place, url=url, proxy_path=PROXY_PATH, token=token):
                return run_server(server, lambda listening: _greet(listening, dsn, token))
    finally:
        sockets.close()


def _price_book() -> PriceBook:
    return PriceBook.load(Config.load().prices)


def _greet(listening: Listening, dsn: str, token: str | None) -> None:
    """Say what serves where, and what to look at next."""
    host = f"http://{listening.http}"
    out.print(f"otel-cost is up (process {os.getpid()}), spans are kept in {_shown(dsn)}", markup=False)
    out.print(f"  OTLP/HTTP  {host}  (OTEL_EXPORTER_OTLP_ENDPOINT={host})", markup=False)
    if listening.grpc:
        out.print(f"  OTLP/gRPC  {listening.grpc}", markup=False)
    out.print(f"  queries    {host}{PROXY_PATH}  (ClickHouse's HTTP interface, read only)", markup=False)
    if token:
        out.print("  token      needed by senders and readers", markup=False)
    out.print(
        "next: otel-cost run -- python agent.py, then otel-cost top executions; Ctrl-C stops", markup=False
    )
    sys.stdout.flush()


def _shown(dsn: str) -> str:
    place = parse_dsn(dsn)
    return str(place.path) if isinstance(place, Embedded) else repr(place)


if __name__ == "__main__":
    app()

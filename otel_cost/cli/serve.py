"""`otel-cost up`, `down` and `import`: the pipeline."""

from __future__ import annotations

import gc
import hashlib
import logging
import os
import sys
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Annotated

import typer

from otel_cost.cli.console import console
from otel_cost.cli.options import StoreOption
from otel_cost.cli.progress import show_progress
from otel_cost.cli.setup import bring_up_to_date
from otel_cost.cli.text import plain, write_json
from otel_cost.errors import StoreError
from otel_cost.server import background
from otel_cost.server.importer import Importer, Journal, Sink, Summary
from otel_cost.server.ownership import owned
from otel_cost.server.process import Address, Listening, Server, Sockets, run_server
from otel_cost.server.queries import PROXY_PATH, QueryEndpoint
from otel_cost.server.records import find_sources
from otel_cost.server.recovery import Recovering
from otel_cost.server.sinks import OtlpSink, StoreSink
from otel_cost.server.writer import SpanStore, Writer
from otel_cost.store import Store, open_store
from otel_cost.store.dsn import Embedded, default_dsn, parse_dsn, served_by
from otel_cost.store.dsn import Server as ServerPlace
from otel_cost.store.reader import open_reader

app = typer.Typer(no_args_is_help=True, add_completion=False)
out = console()
err = console(stderr=True)

JOURNAL = "imports.json"
HTTP_PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"
BEARER_NEEDED = (
    "  token      needed by senders and readers: otel-cost run on this machine takes OTEL_COST_TOKEN, "
    "others OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20<token>"
)


@app.command()
def up(
    store: StoreOption = None,
    http: Annotated[str, typer.Option(help="Where OTLP/HTTP and queries are served.")] = "127.0.0.1:4318",
    grpc: Annotated[str, typer.Option(help="Where OTLP/gRPC is served; '' for nowhere.")] = "127.0.0.1:4317",
    token: Annotated[
        str | None, typer.Option(envvar="OTEL_COST_TOKEN", help="What senders and readers must show.")
    ] = None,
    in_background: Annotated[
        bool, typer.Option("--background", help="Return when it serves; `otel-cost down` stops it.")
    ] = False,
) -> None:
    """Receive OpenTelemetry spans, price them and keep them, until Ctrl-C."""
    dsn = store or default_dsn()
    if in_background:
        background.start(dsn, http, grpc, token, say=out.print)
        return
    if not _serve(dsn, http, grpc, token):
        err.print("stopped before every span was on disk; their senders were told to send them again")
        raise typer.Exit(1)


@app.command()
def down(store: StoreOption = None) -> None:
    """Stop the `otel-cost up` that serves a store, once its spans are on disk."""
    stopped = background.stop(store or default_dsn())
    out.print(f"stopped process {stopped}" if stopped else "nothing was running")


@app.command("import")
def import_files(
    files: Annotated[
        list[str], typer.Argument(help="Files, directories or patterns of OTLP traces; - for standard input.")
    ],
    store: StoreOption = None,
    restart: Annotated[bool, typer.Option(help="Begin files again that an import left half done.")] = False,
    strict: Annotated[bool, typer.Option(help="Stop at the first record that cannot be read.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write the summary as JSON.")] = False,
) -> None:
    """Import recorded OpenTelemetry traces: OTLP/JSON lines or protobuf, plain, gz, xz or zst."""
    sources = find_sources(files)
    gc.disable()
    with ExitStack() as stack:
        sink, journal = _target(store or default_dsn(), stack)
        progress = stack.enter_context(show_progress(sources, err, quiet=as_json))
        importer = Importer(sink, journal, strict=strict, restart=restart, progress=progress)
        try:
            summary = importer.run(sources)
        except KeyboardInterrupt:
            err.print(f"stopped with {importer.summary.spans:,} spans on disk; the same import goes on there")
            raise typer.Exit(130) from None
    _report(summary, as_json)
    if not summary.is_clean:
        raise typer.Exit(1)


def _target(dsn: str, stack: ExitStack) -> tuple[Sink, Journal]:
    """Return where spans go, and what remembers how far: the store, or the process that serves it."""
    place = parse_dsn(dsn)
    if isinstance(place, Embedded) and (serving := served_by(place)):
        sink = OtlpSink(f"http://{serving.host}:{serving.port}", serving.token)
        stack.callback(sink.close)
        return sink, Journal(place.path / JOURNAL)
    opened = stack.enter_context(_open(dsn))
    writer = Writer(_recovered(opened, place))
    stack.callback(writer.stop, 60.0)
    if isinstance(place, Embedded):
        return StoreSink(writer), Journal(place.path / JOURNAL)
    return StoreSink(writer), Journal(_state_directory() / JOURNAL, _identity(opened, dsn))


def _open(dsn: str) -> Store:
    """Return a store with its tables and prices in place."""
    opened = open_store(dsn)
    try:
        bring_up_to_date(opened)
    except BaseException:
        opened.close()
        raise
    threading.Thread(target=_load_prices, args=(opened,), daemon=True).start()
    return opened


def _load_prices(store: Store) -> None:
    """Have the engine load its prices while spans are being read, so that no insert waits for them."""
    with suppress(StoreError):
        store.query("loaded_prices")


def _recovered(store: Store, place: Embedded | ServerPlace) -> SpanStore:
    """Return the store with a killed process's work finished; a server's own view finishes it there."""
    if not isinstance(place, Embedded):
        return store
    recovering = Recovering(store, place.path)
    recovering.recover()
    return recovering


def _identity(store: Store, dsn: str) -> str:
    """Return what changes when a server's database is made anew."""
    made = store.query("store_identity").rows
    return hashlib.sha256(f"{dsn} {made}".encode()).hexdigest()


def _state_directory() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "otel-cost"


def _report(summary: Summary, as_json: bool) -> None:
    if as_json:
        write_json(summary.as_dict())
        return
    for problem in summary.problems:
        err.print(plain(problem))
    speed = summary.spans / summary.duration_s if summary.duration_s else 0
    text = (
        f"{summary.spans:,} spans from {summary.files:,} files in {summary.duration_s:.1f} s ({speed:,.0f}/s)"
    )
    if summary.resumed_files:
        text += f"; {summary.resumed_files} went on where an earlier import stopped"
    if not summary.is_clean:
        text += f"; {summary.bad_records:,} records unreadable, {summary.rejected_spans:,} spans rejected"
    out.print(text)


def _serve(dsn: str, http: str, grpc: str, token: str | None) -> bool:
    """Serve a store until told to stop. Returns whether every accepted span is on disk."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    place = parse_dsn(dsn)
    background.check_not_served(place)
    grpc_address = Address.parse("--grpc", grpc) if grpc else None
    sockets = Sockets(Address.parse("--http", http), grpc_address, token)
    with ExitStack() as stack:
        stack.callback(sockets.close)
        opened = stack.enter_context(_open(dsn))
        server = Server(
            _recovered(opened, place),
            QueryEndpoint(open_reader(place, opened.settings), opened.catch_up),
            sockets,
            token,
        )
        url = f"http://{sockets.http_address}"
        stack.enter_context(owned(place, url=url, proxy_path=PROXY_PATH, token=token))
        return run_server(server, lambda listening: _greet(listening, dsn, token))


def _greet(listening: Listening, dsn: str, token: str | None) -> None:
    """Say what serves where, and what to look at next."""
    host, place = f"http://{listening.http}", parse_dsn(dsn)
    where = str(place.path) if isinstance(place, Embedded) else repr(place)
    lines = [
        f"otel-cost is up (process {os.getpid()}), spans are kept in {where}",
        f"  OTLP/HTTP  {host}  (OTEL_EXPORTER_OTLP_ENDPOINT={host} {HTTP_PROTOCOL})",
        *([f"  OTLP/gRPC  {listening.grpc}"] if listening.grpc else []),
        f"  queries    {host}{PROXY_PATH}  (ClickHouse's HTTP interface, read only)",
        *([BEARER_NEEDED] if token else []),
        "next: otel-cost run -- python agent.py, then otel-cost top executions; Ctrl-C stops",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()

"""`otel-cost anomalies`: what is unusual about spending, in words."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Annotated

import typer

from otel_cost.budgets import ANOMALY_KINDS
from otel_cost.cli.options import JsonOption, StoreOption
from otel_cost.cli.reports import nothing_since, open_migrated, out, show_rows, write_json
from otel_cost.errors import ConfigError
from otel_cost.store.period import parse_since

app = typer.Typer(no_args_is_help=True, add_completion=False)

COLUMNS = ("severity", "status", "kind", "subject", "stake_usd", "last_seen", "reason")
"""What a terminal shows of a finding; `--json` shows all of it, with the query that shows it."""
FOREVER = datetime(2200, 1, 1, tzinfo=timezone.utc)


@app.command()
def anomalies(
    since: Annotated[str, typer.Option(help="24h, 7d, 2026-01-31 or all.")] = "30d",
    kind: Annotated[
        str, typer.Option(help=f"Only these: {', '.join(ANOMALY_KINDS)}.", show_default=False)
    ] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Lines at most.")] = 100,
    as_json: JsonOption = False,
    store: StoreOption = None,
) -> None:
    """List what is unusual about spending, with what it costs: the open and the gravest first."""
    begins = parse_since(since)
    _check_kind(kind)
    with open_migrated(store) as opened:
        result = opened.query("anomalies", since=begins, until=FOREVER, kind=kind, limit=limit)
    if as_json:
        write_json(result.dicts())
        return
    if not result.rows:
        out.print(nothing_since("Nothing unusual", begins))
        return
    show_rows(result, COLUMNS)


def _check_kind(kind: str) -> None:
    if kind and kind not in ANOMALY_KINDS:
        raise ConfigError(f"--kind {kind!r} is not known; write one of {', '.join(ANOMALY_KINDS)}")

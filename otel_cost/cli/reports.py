"""`otel-cost top`, `trace`, `decisions`, `sql` and `migrate`: what the store knows, as tables or JSON."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any

import typer
from rich.text import Text

from otel_cost.cli import console, text
from otel_cost.cli.console import Column, print_table, print_tree
from otel_cost.cli.options import DsnOption, JsonOption, StoreOption
from otel_cost.cli.setup import bring_up_to_date
from otel_cost.cli.text import plain, plain_lines
from otel_cost.errors import ConfigError
from otel_cost.store import Result, Store, open_store, retention
from otel_cost.store.client import nothing_at
from otel_cost.store.cluster import script as cluster_script
from otel_cost.store.dsn import Server, default_dsn, parse_dsn
from otel_cost.store.period import EPOCH, parse_since
from otel_cost.store.topology import Topology

app = typer.Typer(no_args_is_help=True, add_completion=False)
out = console.console()
err = console.console(stderr=True)

UNKNOWN = "unknown"
"""Shown where a price is not known: never $0."""


class Subject(str, Enum):
    """What `top` lists."""

    executions = "executions"
    users = "users"
    teams = "teams"
    organizations = "organizations"
    models = "models"
    agents = "agents"
    tools = "tools"
    features = "features"


HEADINGS = {
    "execution_id": "execution",
    "user_id": "user",
    "agent_name": "agent",
    "tool_name": "tool",
    "cost_usd": "cost",
    "model_calls": "calls",
    "tool_calls": "tool calls",
    "unpriced_calls": "unpriced",
    "estimated_calls": "estimated",
    "input_tokens": "input",
    "cache_read_tokens": "of it cached",
    "output_tokens": "output",
    "duration_s": "seconds",
    "started_at": "started (UTC)",
    "decided_at": "decided (UTC)",
    "killed_reason": "killed for",
    "limit_usd": "limit",
    "spent_usd": "spent",
    "asked_usd": "asked",
    "remaining_usd": "remaining",
    "utilisation_ratio": "used",
    "elapsed_ratio": "elapsed",
    "projected_usd": "projected",
    "exhausted_at": "exhausted (UTC)",
    "budget_window": "a",
    "stake_usd": "at stake",
    "last_seen": "last seen (UTC)",
}
DECISION_COLUMNS = (
    "decided_at",
    "execution_id",
    "decision",
    "kind",
    "mode",
    "limit_usd",
    "spent_usd",
    "asked_usd",
    "model",
)
"""What a terminal shows of a decision; `--json` shows all of it."""
HIDDEN = frozenset({"trace_id", "ended_at", "organization", "team", "feature", "estimated_calls"})
"""Columns that only `--json` shows: a terminal is narrow."""
WHOLE = frozenset({"execution_id", "trace_id"})
"""Columns of ids: one that is folded cannot be copied."""


@app.command()
def top(
    subject: Annotated[Subject, typer.Argument(help="What to list.", show_default=False)],
    since: Annotated[str, typer.Option(help="24h, 7d, 2026-01-31 or all.")] = "7d",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Lines at most.")] = 20,
    as_json: JsonOption = False,
    store: StoreOption = None,
) -> None:
    """List what cost most, first the most expensive."""
    begins = parse_since(since)
    with open_migrated(store) as opened:
        result = opened.query(f"top_{subject.value}", since=begins, limit=limit)
    if as_json:
        write_json(result.dicts())
        return
    if not result.rows:
        out.print(nothing_since("No spending", begins))
        return
    first = result.columns[0]
    show_rows(result, [name for name in result.columns if name == first or name not in HIDDEN])
    _note_unpriced(result)


@app.command()
def trace(
    id: Annotated[
        str, typer.Argument(help="A trace id, the beginning of one, or an execution id.", show_default=False)
    ],
    as_json: JsonOption = False,
    store: StoreOption = None,
) -> None:
    """Show the spans of a trace as a tree, with what each one cost.

    An execution has the trees of its first 100 traces by their ids; the total is of all of them.
    """
    if not id.strip():
        raise ConfigError("the id is empty; otel-cost top executions lists those there are")
    with open_migrated(store) as opened:
        found = opened.query("find_traces", id=id).dicts()
        if not found:
            raise ConfigError(f"there is no trace or execution {id!r}; see otel-cost top executions")
        shown = [str(row["trace_id"]) for row in found]
        days = {name: found[0][name] for name in ("first_day", "last_day")}
        spans = opened.query("trace_spans", trace_ids=shown).dicts()
        decisions = opened.query("trace_decisions", trace_ids=shown).dicts()
        (total,) = opened.query("trace_totals", id=id, **days).dicts()
    told = {"trace_ids": shown, "traces_not_shown": found[0]["traces"] - len(shown)}
    if as_json:
        write_json({**told, "total": total, "spans": spans, "decisions": decisions})
        return
    for trace_id in shown:
        below = [span for span in spans if span["trace_id"] == trace_id]
        decided = [decision for decision in decisions if decision["trace_id"] == trace_id]
        print_tree(out, tree(trace_id, below, decided))
    if told["traces_not_shown"]:
        out.print(f"{told['traces_not_shown']:,} more traces are not shown, and are in the total")
    out.print(total_line(total))


@app.command()
def decisions(
    since: Annotated[str, typer.Option(help="24h, 7d, 2026-01-31 or all.")] = "7d",
    execution: Annotated[str, typer.Option(help="Only those about this execution.", show_default=False)] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Lines at most.")] = 100,
    as_json: JsonOption = False,
    store: StoreOption = None,
) -> None:
    """List what the guard refused, warned of or changed, the latest first."""
    begins = parse_since(since)
    with open_migrated(store) as opened:
        result = opened.query("decisions", since=begins, execution_id=execution, limit=limit)
    if as_json:
        write_json(result.dicts())
        return
    if not result.rows:
        out.print(nothing_since("No decisions", begins))
        return
    show_rows(result, DECISION_COLUMNS)


@app.command(context_settings={"ignore_unknown_options": True})  # a query may begin with a comment
def sql(
    statement: Annotated[
        str, typer.Argument(help="A query, read only; - takes it from standard input.", show_default=False)
    ],
    fmt: Annotated[str, typer.Option("--format", help="A ClickHouse output format.")] = "PrettyCompact",
    params: Annotated[
        list[str] | None,
        typer.Option(
            "--param", help="NAME=VALUE of {NAME:Type} in the query; may be repeated.", show_default=False
        ),
    ] = None,
    store: StoreOption = None,
) -> None:
    """Run a query of your own on charges, executions, decisions, spend_hourly, prices, otel_traces, ..."""
    values = dict(map(_parameter, params or ()))
    query = sys.stdin.read() if statement == "-" else os.fsencode(statement).decode(errors="replace")
    query, fmt = _without_format(query, fmt)
    with open_migrated(store) as opened:
        answer = opened.sql(query, values, fmt=fmt)
    if sys.stdout.isatty():
        answer = plain_lines(answer.decode(errors="replace")).encode(sys.stdout.encoding, "backslashreplace")
    sys.stdout.buffer.write(answer)
    sys.stdout.buffer.flush()


def _without_format(query: str, fmt: str) -> tuple[str, str]:
    """Return a query, and the format of its answer: the one that it ends with, else the one that is given."""
    if not query.strip().strip(";").strip():
        raise ConfigError("the query is empty; write for example SELECT * FROM executions LIMIT 10")
    found = re.search(r"\sFORMAT\s+(\w+)[\s;]*\Z", query, re.IGNORECASE)
    return (query[: found.start()], found[1]) if found else (query, fmt)


def _parameter(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise ConfigError(f"--param {text!r} is not NAME=VALUE; write it as --param model=gpt-4o")
    return name, value


@app.command()
def roll(
    again: Annotated[
        bool, typer.Option("--again", help="Make the totals of every day anew, whatever their state.")
    ] = False,
    store: StoreOption = None,
) -> None:
    """Bring totals up to date with every span received so far. Seldom needed: a store does it by itself."""
    with open_changeable(store) as opened:
        if again:
            opened.forget_rollups()
        days = len(opened.stale_days())
        added = f"{days} {'day' if days == 1 else 'days'}"
        with err.status(f"adding up {added}"):
            opened.roll()
    out.print(f"{added} added up, all totals are up to date")


@app.command()
def migrate(
    store: DsnOption = None,
    cluster: Annotated[
        str,
        typer.Option(
            help="Spread an empty store over this cluster of the servers' remote_servers.", show_default=False
        ),
    ] = "",
    replicated: Annotated[
        bool, typer.Option("--replicated", help="Give the tables of an empty store Replicated engines.")
    ] = False,
    retain: Annotated[
        list[str] | None,
        typer.Option(
            help="How long a table keeps rows: otel_traces=30, charges=400, decisions=forever.",
            metavar="TABLE=DAYS",
        ),
    ] = None,
    roles: Annotated[
        bool,
        typer.Option(
            "--roles",
            help="Also make the roles otel_cost_reader, _grafana, _writer and _control on a server.",
        ),
    ] = False,
    script: Annotated[
        bool,
        typer.Option(
            "--print", help="Write the DDL of the cluster, with ON CLUSTER, for you to apply; change nothing."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Create or upgrade the tables and views, and bring the prices up to date."""
    if script:
        _print_ddl(store or default_dsn(), Topology(cluster, replicated))
        return
    days = retention.parse(retain or [])
    with open_store(store) as opened:
        wanted = Topology(cluster, replicated) if cluster or replicated else None
        applied = bring_up_to_date(opened, wanted)
        applied += opened.grant() if roles else []
        applied += [f"retention/{table}" for table in opened.retain(days)]
    if as_json:
        write_json({"applied": applied})
        return
    for name in applied:
        out.print(f"applied {name}")
    out.print("The store is up to date.")


def _print_ddl(dsn: str, topology: Topology) -> None:
    place = parse_dsn(dsn)
    if not topology.cluster or not isinstance(place, Server):
        raise ConfigError("--print needs --cluster NAME and a --dsn clickhouse://host/database")
    for statement in cluster_script(place.database, topology):
        sys.stdout.write(f"{statement};\n\n")


def open_migrated(dsn: str | None) -> Store:
    """Open a store that has its tables. Raises `ConfigError` when it has none yet."""
    opened = open_store(dsn, create=False)
    try:
        if opened.is_empty():
            raise nothing_at(opened.place)
    except BaseException:
        opened.close()
        raise
    return opened


def open_changeable(dsn: str | None) -> Store:
    """Open a store to change what it holds.

    Raises:
        ConfigError: It has no tables yet, or older ones, or `otel-cost up` serves it.
    """
    opened = open_migrated(dsn)
    try:
        if opened.is_served:
            raise ConfigError(
                "otel-cost up serves this store, and changes nothing for other commands; stop it with "
                "otel-cost down, run this again, and start it again"
            )
        if opened.pending():
            raise ConfigError(
                f"the tables at {opened.place} are of an older version; run otel-cost migrate first"
            )
    except BaseException:
        opened.close()
        raise
    return opened


def write_json(value: Any) -> None:
    """Write a value as JSON: money as exact text, times as ISO 8601."""
    text.write_json(value, default=_plain)


def _plain(value: object) -> str:
    if isinstance(value, Decimal):
        return decimal_text(value)
    if isinstance(value, datetime):
        return value.astimezone(timezone.utc).isoformat()
    return str(value)


def decimal_text(amount: Decimal) -> str:
    """Return every digit of an amount and no trailing zeros: `0.004596`."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def usd(amount: Decimal | None) -> str:
    """Return an amount as dollars: cents from a dollar up, every digit of what is smaller."""
    if amount is None:
        return UNKNOWN
    sign, amount = "-" if amount < 0 else "", abs(amount)
    if amount >= 1:
        return f"{sign}${amount:,.2f}"
    whole, _, digits = decimal_text(amount).partition(".")
    return f"{sign}${whole}.{digits.ljust(2, '0')}"


def moment(at: datetime) -> str:
    """Return a time to the second."""
    return f"{at:%Y-%m-%d %H:%M:%S}"


def nothing_since(what: str, begins: datetime) -> str:
    """Return that a period has nothing to list, and how to look further back where that is possible."""
    return f"{what} at all." if begins == EPOCH else f"{what} since {moment(begins)}. Try --since all."


def show_rows(result: Result, names: Sequence[str]) -> None:
    """Print columns of a result as a table: texts left, numbers right."""
    rows = result.dicts()
    columns = [
        Column(
            HEADINGS.get(name, name),
            is_number=all(isinstance(row[name], int | float | Decimal | None) for row in rows),
            is_whole=name in WHOLE or any(isinstance(row[name], datetime) for row in rows),
        )
        for name in names
    ]
    print_table(out, columns, [[cell(name, shown[name]) for name in names] for shown in map(_as_known, rows)])


def _as_known(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row without a cost where only what cost nothing is known, as refused calls, and not all is."""
    is_unknown = row.get("unpriced_calls") and row.get("cost_usd") == 0
    return {**row, "cost_usd": None} if is_unknown else row


def cell(name: str, value: object) -> str:
    """Return a value as a person reads it in its column."""
    if name in ("limit_usd", "asked_usd") and value is None:
        return "-"
    if name.endswith("_usd"):
        return usd(value if isinstance(value, Decimal) else None)
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, int):
        return f"{value:,}"
    return str(value) if value not in (None, "") else "-"


def _note_unpriced(result: Result) -> None:
    if "model_calls" in result.columns and any(row["unpriced_calls"] for row in result.dicts()):
        out.print("Costs leave unpriced calls out: otel-cost prices check names their models.")


def tree(
    trace_id: str, spans: Sequence[dict[str, Any]], decisions: Sequence[dict[str, Any]] = ()
) -> Iterator[tuple[int, bool, list[Text]]]:
    """Yield the lines of one trace as `print_tree` takes them, with what the guard decided at each span.

    A span whose parent is missing hangs on the trace. Without recursion: traces may be deeper than Python's
    stack.
    """
    decided: dict[str, list[list[Text]]] = {}
    for decision in decisions:
        decided.setdefault(decision["span_id"], []).append(decision_parts(decision))
    known = {span["span_id"] for span in spans}
    below: dict[str, list[dict[str, Any]]] = {}
    for span in spans:
        parent = span["parent_span_id"]
        below.setdefault(parent if parent in known and parent != span["span_id"] else "", []).append(span)
    yield 0, True, [Text(f"trace {trace_id}", "bold")]
    waiting = _siblings(1, below.get("", []))
    while waiting:
        depth, is_last, span = waiting.pop()
        yield depth, is_last, span_parts(span)
        told, deeper = decided.get(span["span_id"], []), below.get(span["span_id"], [])
        for number, parts in enumerate(told, 1):
            yield depth + 1, number == len(told) and not deeper, parts
        waiting += _siblings(depth + 1, deeper)


def _siblings(depth: int, spans: Sequence[dict[str, Any]]) -> list[tuple[int, bool, dict[str, Any]]]:
    """Return the spans below one parent, the first of them last."""
    return [(depth, span is spans[-1], span) for span in reversed(spans)]


def span_parts(span: dict[str, Any]) -> list[Text]:
    """Return what a line says of a span: its name, length, usage and cost, and why it does not count."""
    parts = [Text.assemble(plain(span["name"] or "-"), " ", (f"{span['duration_s']:.3f} s", "dim"))]
    if span["kind"] == "model":
        parts.append(Text(plain(span["model"] or "no model")))
        if span["input_tokens"] is not None:
            parts.append(Text(f"{span['input_tokens']:,} in, {span['output_tokens']:,} out"))
    if span["kind"] and (span["kind"] == "model" or span["cost_usd"] is not None):
        parts.append(_cost_of(span))
    if span["status"] == "Error":
        parts.append(Text("error", "red"))
    return parts


def decision_parts(decision: dict[str, Any]) -> list[Text]:
    """Return what a line says of a decision: `deny budget_usd (enforce): execution run may spend ...`."""
    is_stop = decision["decision"] == "deny" and decision["mode"] == "enforce"
    told = plain(f"{decision['decision']} {decision['kind']} ({decision['mode']})")
    reason = f": {plain(decision['reason'])}" if decision["reason"] else ""
    return [Text.assemble((told, "bold red" if is_stop else "yellow"), reason)]


def _cost_of(span: dict[str, Any]) -> Text:
    if not span["counted"]:
        return Text(f"{usd(span['cost_usd'])}, not counted: {plain(span['not_counted_reason'])}", "dim")
    mark = " (estimated)" if span["price_status"] == "estimated" else ""
    return Text.assemble((usd(span["cost_usd"]), "green"), mark)


def total_line(total: dict[str, Any]) -> str:
    """Return what the traces cost together as one line."""
    parts = [
        f"total {usd(_as_known(total)['cost_usd'])}",
        f"{total['model_calls']:,} model calls",
        f"{total['tool_calls']:,} tool calls",
        f"{total['input_tokens'] or 0:,} in, {total['output_tokens'] or 0:,} out",
    ]
    if total["unpriced_calls"]:
        parts.append(f"{total['unpriced_calls']:,} unpriced and left out")
    if total["not_counted"]:
        parts.append(f"{total['not_counted']:,} repeats not counted")
    return "  ".join(parts)

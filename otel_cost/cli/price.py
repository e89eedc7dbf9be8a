"""`otel-cost price` and `otel-cost prices`: what a call costs, and what the price book knows."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otel_cost import price_list
from otel_cost.cli.console import Column, console, print_table
from otel_cost.cli.options import DsnOption, JsonOption
from otel_cost.cli.text import plain, write_json
from otel_cost.config import Config
from otel_cost.errors import ConfigError, UsageError
from otel_cost.price_batch import moment, price_call, price_lines
from otel_cost.pricing import PriceBook

if TYPE_CHECKING:
    from otel_cost.store.price_changes import BookChange

app = typer.Typer(no_args_is_help=True, add_completion=False)
prices_app = typer.Typer(no_args_is_help=True, help="What the price book knows, and how old it is.")
app.add_typer(prices_app, name="prices")
out = console()

PRICES_VARIABLE = "OTEL_COST_PRICES"
FAILED = 1
SUBJECTS = {"model": "models", "rates": "rate periods", "tool": "tools"}
SHOWN_CHANGES = 20
"""Rates shown one by one; a new catalogue has hundreds."""

Tokens = Annotated[int | None, typer.Option(min=0, show_default=False)]


def load_book() -> PriceBook:
    """Return the price book with the files that the settings name."""
    return PriceBook.load(Config.load().prices)


@app.command()
def price(
    model: Annotated[str | None, typer.Option(help="The model as a span names it.")] = None,
    provider: Annotated[str, typer.Option(help="The provider as a span names it.")] = "",
    at: Annotated[
        str | None, typer.Option(help="When: 2026-01-31 or with a time, UTC. Default: now.")
    ] = None,
    service_tier: Annotated[str, typer.Option(help="batch, flex, priority; default: standard.")] = "",
    input_tokens: Annotated[int | None, typer.Option(min=0, help="All input, cached included.")] = None,
    output_tokens: Annotated[int | None, typer.Option(min=0, help="All output, reasoning included.")] = None,
    cache_read_tokens: Tokens = None,
    cache_write_tokens: Annotated[int | None, typer.Option(min=0, help="All writes, 1h included.")] = None,
    cache_write_1h_tokens: Annotated[int | None, typer.Option("--cache-write-1h-tokens", min=0)] = None,
    reasoning_tokens: Tokens = None,
    audio_input_tokens: Tokens = None,
    audio_output_tokens: Tokens = None,
    image_input_tokens: Tokens = None,
    image_output_tokens: Tokens = None,
    web_searches: Tokens = None,
    rerank_searches: Tokens = None,
    images: Tokens = None,
    batch: Annotated[
        str | None, typer.Option(metavar="FILE", help="Price each line of JSON of a file; - for stdin.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a model call costs, at the rates in force when it was made."""
    if (model is None) == (batch is None):
        raise ConfigError("give either --model or --batch; see `otel-cost price --help`")
    when = _moment(at)
    book = load_book()
    if batch is not None:
        _price_batch(book, batch)
        return
    counts = {name: value for name, value in locals().items() if name in price_list.COUNT_OPTIONS}
    usage = {name: value for name, value in counts.items() if value is not None}
    call = {"model": model, "provider": provider, "date": at, "service_tier": service_tier, "usage": usage}
    try:
        priced = price_call(book, call)
    except UsageError as error:
        raise ConfigError(_with_options(str(error), usage)) from None
    if as_json:
        write_json(priced, indent=2)
    else:
        _show_priced(priced, when)
    if priced["status"] == "unpriced":
        raise typer.Exit(FAILED)


def _moment(at: str | None) -> datetime:
    try:
        return moment(at)
    except UsageError:
        raise ConfigError(f"--at {at!r} is not a date; write 2026-01-31 or 2026-01-31T12:00:00Z") from None


def _with_options(told: str, usage: Mapping[str, int]) -> str:
    """Return an error about counts with the options that they were given by."""
    options = {name: f"--{name.replace('_', '-')}" for name in usage}
    told = re.sub(r"\w+", lambda word: options.get(word[0], word[0]), told)
    return f"{told}; given are {', '.join(f'{options[name]} {count}' for name, count in usage.items())}"


def _price_batch(book: PriceBook, path: str) -> None:
    failed = 0
    for priced in price_lines(book, _lines(path)):
        failed += priced["status"] == "error"
        write_json(priced)
    if failed:
        typer.echo(f"otel-cost: {failed} lines could not be read; their results say why", err=True)
        raise typer.Exit(FAILED)


def _lines(path: str) -> Iterator[str]:
    if path == "-":
        yield from sys.stdin
        return
    try:
        with Path(path).open(encoding="utf-8") as file:
            yield from file
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"--batch {path}: cannot be read ({error}); name a file of JSON lines, or -"
        ) from None


def _show_priced(priced: dict[str, Any], at: datetime) -> None:
    if priced["cost_usd"] is None:
        out.print(plain(f"unpriced: {priced['reason']}"))
        return
    where = f"{priced['provider']} / {priced['model']}"
    out.print(f"${priced['cost_usd']} {priced['status']}: {where}, rates of {at:%Y-%m-%d}")
    columns = [
        Column("bucket", is_whole=True),
        Column("units", is_number=True),
        Column("USD per unit", is_number=True),
    ]
    rows = [(line["bucket"], f"{line['units']:,}", line["usd_per_unit"]) for line in priced["lines"]]
    print_table(out, columns, rows)
    if reason := priced.get("reason"):
        out.print(f"estimated: {reason}")
    if priced["list_cost_usd"] != priced["cost_usd"]:
        out.print(f"at list price: ${priced['list_cost_usd']}")
    out.print(f"source: {priced['source']} ({priced['source_date'] or priced['version']})")


@prices_app.command("list")
def list_prices(
    provider: Annotated[str, typer.Option(help="Only this provider.")] = "",
    model: Annotated[str, typer.Option(help="Only models whose name contains this.")] = "",
    as_json: JsonOption = False,
) -> None:
    """List the models and their rates in force now."""
    rows = list(price_list.current(load_book(), provider, model, datetime.now(tz=timezone.utc)))
    if as_json:
        write_json(rows, indent=2)
        return
    numbers = [Column(name, is_number=True) for name in ("input", "cached", "output")]
    shown = [
        (row["provider"], row["model"], *(row["usd_per_mtok"].get(name, "") for name in price_list.SHOWN))
        for row in rows
    ]
    print_table(out, [Column("provider"), Column("model"), *numbers], shown)
    out.print(f"{len(rows)} models; USD per million tokens, standard tier")


@prices_app.command("show")
def show_prices(
    model: Annotated[str, typer.Argument(help="The model as a span names it.")],
    provider: Annotated[str, typer.Option(help="The provider as a span names it.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Show every rate of one model: dates, thresholds, service tiers, source."""
    found = price_list.history(load_book(), model, provider)
    if found is None:
        raise ConfigError(
            f"no price is known for model {model!r}; `otel-cost prices list --model` finds names, and a file "
            f"named in {PRICES_VARIABLE} adds one"
        )
    if as_json:
        write_json(found, indent=2)
        return
    out.print(f"{found['provider']} / {found['model']}")
    out.print(f"source: {found['source']} ({found['source_date'] or found['version']})")
    columns = [
        Column("since", is_whole=True),
        Column("service tier"),
        Column("daily (UTC)", is_whole=True),
        Column("above input tokens", is_number=True),
        Column("rates"),
    ]
    rows = []
    for row in found["rates"]:
        rates = ", ".join(f"{name} {usd}" for name, usd in row["rates"].items())
        above = f"{row['above_input_tokens']:,}" if row["above_input_tokens"] else ""
        rows.append((row["since"], row["service_tier"] or "standard", row["daily"], above, rates))
    print_table(out, columns, rows)


@prices_app.command("check")
def check_prices(
    max_age_days: Annotated[int, typer.Option(min=0, help="Fail when no newer change is known.")] = 60,
    store: Annotated[
        str | None, typer.Option(envvar="OTEL_COST_STORE", help="Also list the models it has no price for.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check the price book: its age, its size, the user's files, and the models seen without a price."""
    book = load_book()
    found = price_list.check(book, datetime.now(tz=timezone.utc))
    found["is_current"] = found["age_days"] <= max_age_days
    found["unpriced"] = _unpriced(book, store) if store else []
    if as_json:
        write_json(found, indent=2)
    else:
        out.print(f"version: {found['version']}")
        out.print(f"{found['models']} models of {found['providers']} providers")
        out.print(f"{found['dated_changes']} dated changes")
        out.print(f"newest change: {found['newest_change']} ({found['age_days']} days ago)")
        out.print(
            "to update: pip install -U otel-cost, or `otel-cost prices update` after upgrading genai-prices"
        )
        _show_unpriced(found["unpriced"])
    if not found["is_current"]:
        typer.echo(
            f"otel-cost: the newest change is {found['age_days']} days old, and --max-age-days allows "
            f"{max_age_days}; update the book, or allow more",
            err=True,
        )
        raise typer.Exit(FAILED)


def _unpriced(book: PriceBook, store: str) -> list[dict[str, Any]]:
    """Return the models that were used without a price, and whether this book has one by now."""
    from otel_cost.store import open_store
    from otel_cost.store.dsn import Embedded, parse_dsn

    place = parse_dsn(store)
    if isinstance(place, Embedded) and not place.path.exists():
        return []
    with open_store(store) as opened:
        rows = [] if opened.is_empty() else opened.query("unpriced").dicts()
    return [
        {
            "provider": row["provider"],
            "model": row["model"],
            "calls": row["calls_with_usage"],
            "last_seen_on": str(row["last_seen_on"]),
            "is_priced_now": bool(row["model"]) and book.resolve(row["model"], row["provider"]) is not None,
        }
        for row in rows
        if row["calls_with_usage"]
    ]


def _show_unpriced(rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    columns = [
        Column("provider"),
        Column("model without a price"),
        Column("calls", is_number=True),
        Column("last seen", is_whole=True),
        Column(""),
    ]
    shown = [
        (
            row["provider"],
            row["model"],
            f"{row['calls']:,}",
            row["last_seen_on"],
            "has one in this book" if row["is_priced_now"] else "",
        )
        for row in rows
    ]
    print_table(out, columns, shown)


@prices_app.command("push")
def push_prices(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")
    ] = False,
    as_json: JsonOption = False,
    store: DsnOption = None,
) -> None:
    """Bring this book, your price files included, to the store, which prices spans by it from then on.

    `otel-cost reprice` prices what is there already.
    """
    from otel_cost.cli.reports import open_changeable

    book = load_book()
    with open_changeable(store) as opened:
        found = opened.push_prices(book, dry_run=dry_run)
    if as_json:
        write_json(found.as_dict(), default=str)
        return
    _show_change(found, "would become" if dry_run else "are now")


def _show_change(found: BookChange, verb: str) -> None:
    if not found.changes:
        out.print(f"the store has these prices: {found.new_version}")
        return
    out.print(f"prices were: {found.old_version or 'none'}\nprices {verb}: {found.new_version}")
    for subject in ("model", "rates", "tool"):
        counts = [f"{found.count(subject, change):,} {change}" for change in ("added", "changed", "removed")]
        out.print(f"{SUBJECTS[subject]}: {', '.join(counts)}")
    detailed = [each for each in found.changes if each.subject in ("rates", "tool")]
    for each in detailed[:SHOWN_CHANGES]:
        parts = [f"{name} {old or 'none'} -> {new or 'none'}" for name, old, new in each.differences()]
        since = f" from {each.valid_from:%Y-%m-%d}" if each.valid_from else ""
        who = " / ".join(filter(None, (each.provider, each.model, each.service_tier)))
        out.print(f"{each.change} {who}{since}: {', '.join(parts)}")
    if len(detailed) > SHOWN_CHANGES:
        out.print(f"and {len(detailed) - SHOWN_CHANGES:,} more; --json shows all")


@prices_app.command("update")
def update_prices(
    output: Annotated[
        Path | None, typer.Option(help="Where to; default: where the package reads it.")
    ] = None,
) -> None:
    """Write the book again from the installed genai-prices and this package's own rates."""
    from otel_cost import price_snapshot

    path = output or price_snapshot.SNAPSHOT
    try:
        price_snapshot.write(path)
    except ImportError:
        raise ConfigError("genai-prices is not installed; pip install genai-prices") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error}); name another place with --output") from None
    out.print(f"wrote {path}")
    if output:
        out.print(f"use it: {PRICES_VARIABLE}={output}")

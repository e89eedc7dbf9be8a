"""`otel-cost reprice`: price what is stored again at the prices of today's book."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from otel_cost.cli.console import Column, print_table
from otel_cost.cli.options import DsnOption, JsonOption
from otel_cost.cli.reports import decimal_text, err, open_changeable, out, write_json
from otel_cost.errors import ConfigError
from otel_cost.store import Store, reprice
from otel_cost.store.period import parse_since
from otel_cost.store.reprice import Asked, Report

app = typer.Typer(no_args_is_help=True, add_completion=False)

STEPS = {"stage": "pricing", "account": "accounting", "total": "adding up", "apply": "writing"}
INTERRUPTED = 130


@app.command("reprice")
def reprice_charges(
    since: Annotated[
        str | None, typer.Option(help="From when on: 24h, 7d, 2026-01-31 or all.", show_default=False)
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Up to when, not included. Default: no end.", show_default=False)
    ] = None,
    model: Annotated[str, typer.Option(help="Only this model, as spans or prices name it.")] = "",
    provider: Annotated[str, typer.Option(help="Only this provider.")] = "",
    unpriced_only: Annotated[
        bool, typer.Option("--unpriced-only", help="Only calls that have no price yet.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")
    ] = False,
    reason: Annotated[str, typer.Option(help="Why, kept with the run.")] = "",
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help="Go on with a run that was stopped.")
    ] = None,
    undo: Annotated[str | None, typer.Option(metavar="RUN", help="Bring back what a run replaced.")] = None,
    as_json: JsonOption = False,
    store: DsnOption = None,
) -> None:
    """Price stored calls again, at the prices in the store now that held when each call was made.

    `otel-cost prices push` brings the prices. What a provider billed stays as it is.
    """
    if sum(given is not None for given in (since, resume, undo)) != 1:
        raise ConfigError("give one of --since, --resume RUN and --undo RUN; --since all is everything")
    if since is None and (until or model or provider or unpriced_only or (resume and (dry_run or reason))):
        raise ConfigError(
            "--resume and --undo take what the run was asked for; give no other choice with them"
        )
    asked = Asked(
        **({"since": parse_since(since)} if since else {}),
        **({"until": parse_since(until, option="--until")} if until else {}),
        model=model,
        provider=provider,
        unpriced_only=unpriced_only,
    )
    with open_changeable(store) as opened, _told(opened), _progress(err) as progress:
        if resume is not None:
            report = reprice.resume(opened, resume, progress=progress)
        elif undo is not None:
            report = reprice.undo(opened, undo, dry_run=dry_run, reason=reason, progress=progress)
        else:
            report = reprice.reprice(opened, asked, dry_run=dry_run, reason=reason, progress=progress)
    if as_json:
        write_json(report.as_dict())
    else:
        _show(report)


@contextmanager
def _told(store: Store) -> Iterator[None]:
    """Say what Ctrl-C left behind."""
    try:
        yield
    except KeyboardInterrupt:
        run = reprice.runs(store)[0]
        told = "nothing was changed"
        if run.state == "stopped":
            told = f"some calls are changed; go on with otel-cost reprice --resume {run.run_id}, or --undo it"
        err.print(f"stopped: {told}")
        raise typer.Exit(INTERRUPTED) from None


@contextmanager
def _progress(console: Console) -> Iterator[reprice.Progress]:
    """Yield what a run tells how far it is: a bar on a terminal, nothing elsewhere."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks = {step: bar.add_task(label, total=None, start=False) for step, label in STEPS.items()}

        def report(step: str, done: int, total: int) -> None:
            bar.start_task(tasks[step])
            bar.update(tasks[step], completed=done, total=total)

        yield report


def _show(report: Report) -> None:
    run = report.run
    changed = [each for each in report.models if each.changed]
    if changed:
        headings = ("calls", "changed", "priced now", "unpriced now", "was (USD)", "is (USD)", "difference")
        rows = [
            (
                each.provider or "-",
                each.model or "-",
                *(f"{n:,}" for n in (each.charges, each.changed, each.newly_priced, each.newly_unpriced)),
                *(
                    decimal_text(amount)
                    for amount in (each.old_cost_usd, each.new_cost_usd, each.difference_usd)
                ),
            )
            for each in changed
        ]
        numbers = [Column(heading, is_number=True) for heading in headings]
        print_table(out, [Column("provider"), Column("model"), *numbers], rows)
    verb = "would change" if run.state == "dry_run" else "changed"
    out.print(
        f"{verb} {run.changed:,} of {run.charges:,} calls: {decimal_text(run.old_cost_usd)} USD before, "
        f"{decimal_text(run.new_cost_usd)} after, difference {decimal_text(run.difference_usd)}",
    )
    if run.state == "done" and run.changed:
        out.print(
            f"run {run.run_id}; to bring the old amounts back: otel-cost reprice --undo {run.run_id}",
            soft_wrap=True,
        )

"""`otel-cost run`, `doctor` and `demo`: agents, before and while they spend."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import MutableMapping, Sequence
from pathlib import Path, PurePath
from typing import Annotated

import typer
from rich.text import Text as Styled

from otel_cost.cli.console import Cell, Column, console, print_table
from otel_cost.cli.text import plain, write_json
from otel_cost.errors import ConfigError

app = typer.Typer(no_args_is_help=True, add_completion=False)
out = console()

NOT_EXECUTABLE = 126
NOT_FOUND = 127
"""What a shell answers for a file that it may not run, and for a command that does not exist."""

Text = str | None


@app.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    no_args_is_help=True,
)
def run(
    command: Annotated[list[str], typer.Argument(help="A Python program and its arguments.")],
    user: Annotated[Text, typer.Option(help="Who the money is attributed to.")] = None,
    team: Annotated[Text, typer.Option(help="The user's team.")] = None,
    organization: Annotated[Text, typer.Option(help="The team's organization.")] = None,
    feature: Annotated[Text, typer.Option(help="What of the product spends it.")] = None,
    environment: Annotated[Text, typer.Option(help="For example production.")] = None,
    service: Annotated[Text, typer.Option(help="service.name. Default: the program's name.")] = None,
) -> None:
    """Run a Python program with every model call measured and sent to the collector.

    Spans go where the OTEL_EXPORTER_OTLP_* variables say, by default to `otel-cost up` on this machine.
    Commands are looked up in the environment otel-cost is installed in first, then on PATH.
    A mistake in the policy or the settings is told before the program starts, with exit code 2.
    """
    from otel_cost import instrument

    environ: MutableMapping[str, str] = instrument.environment(dict(os.environ))
    environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environ.get("PATH", os.defpath)])
    executable = shutil.which(command[0], path=environ["PATH"])
    if executable is None and Path(command[0]).is_file():
        told = f"{command[0]!r} is not executable; write python {command[0]}, or chmod +x {command[0]}"
        typer.echo(f"otel-cost run: {told}", err=True)
        raise typer.Exit(NOT_EXECUTABLE)
    if executable is None:
        typer.echo(f"otel-cost run: there is no command {command[0]!r} on PATH", err=True)
        raise typer.Exit(NOT_FOUND)
    given = {
        "USER": user,
        "TEAM": team,
        "ORGANIZATION": organization,
        "FEATURE": feature,
        "ENVIRONMENT": environment,
    }
    environ.update({f"OTEL_COST_{name}": text for name, text in given.items() if text})
    try:
        instrument.check(environ)
    except ConfigError as error:
        typer.echo(instrument.NOT_STARTED.format(program=shlex.join(command), error=error), err=True)
        raise typer.Exit(instrument.BAD_SETTINGS) from None
    _name_service(environ, service, command)
    os.execve(executable, command, dict(environ))  # noqa: S606 (the command is what the user asked to run)


def _name_service(environ: MutableMapping[str, str], service: str | None, command: Sequence[str]) -> None:
    from otel_cost.process import script_name

    if service:
        environ["OTEL_SERVICE_NAME"] = service
    elif "service.name=" not in environ.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        program = PurePath(command[0]).name
        name = script_name(command) if program.startswith("python") else program
        environ.setdefault("OTEL_SERVICE_NAME", program if name in (None, "-c") else PurePath(str(name)).stem)


@app.command()
def doctor(
    store: Annotated[Text, typer.Option(help="The store to look at. Default: OTEL_COST_STORE.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Check what stands between a program and a right bill. Exit 1 when something must be mended."""
    from otel_cost.cli.doctor import examine

    findings = list(examine(store))
    if as_json:
        write_json([finding.as_json() for finding in findings], indent=2)
    else:
        colours = {"ok": "green", "warn": "yellow", "fail": "red"}
        rows: list[tuple[Cell, ...]] = []
        for finding in findings:
            rows.append((Styled(finding.level, colours[finding.level]), finding.subject, finding.detail))
            if finding.remedy:
                rows.append(("", "", Styled(f"-> {plain(finding.remedy)}", "dim")))
        print_table(out, [Column(""), Column(""), Column("")], rows)
    if any(finding.level == "fail" for finding in findings):
        raise typer.Exit(1)


@app.command()
def demo(
    keep: Annotated[bool, typer.Option(help="Keep the store of an earlier demo.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="Stop what an earlier demo left running.")] = False,
    home: Annotated[Path, typer.Option(help="Where the demo keeps its store.")] = Path(".demo"),
    data: Annotated[Path | None, typer.Option(help="Directory of recorded traces to import.")] = None,
) -> None:
    """Run real agents against a fake provider, import recorded traces, and show what everything cost."""
    from otel_cost.demo import stage

    home = home.resolve()
    if stop:
        stage.stop(stage.Stage(home, out.print))
        typer.echo("stopped")
        return
    stage.perform(home, keep=keep, data=data, say=lambda text: typer.echo(text))

"""The `otel-cost` command. A command's module is imported only when it is used, so that `run` starts fast."""

from __future__ import annotations

import importlib
import logging
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from otel_cost import __version__
from otel_cost.cli.text import accept_any_text, plain_lines
from otel_cost.errors import ConfigError, OtelCostError

MODULES = {
    "up": "serve",
    "down": "serve",
    "run": "agents",
    "import": "serve",
    "top": "reports",
    "trace": "reports",
    "decisions": "reports",
    "anomalies": "anomalies",
    "sql": "reports",
    "price": "price",
    "prices": "price",
    "reprice": "reprice",
    "budgets": "budgets",
    "roll": "reports",
    "migrate": "reports",
    "backfill": "backfill",
    "move": "move",
    "doctor": "agents",
    "demo": "agents",
}
"""Each command, in the order of use, and the module of `otel_cost.cli` that holds it."""

BAD_INPUT = 2


class LazyGroup(TyperGroup):
    """A group whose commands are imported one by one."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the commands in the order of their use."""
        return list(MODULES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import and return a command, or None when there is no such command."""
        module = MODULES.get(cmd_name)
        if module is None:
            return None
        holder = importlib.import_module(f"otel_cost.cli.{module}").app
        found: Any = typer.main.get_command(holder)
        return found.commands[cmd_name] if isinstance(found, TyperGroup) else found


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"otel-cost {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """See what AI agents spend, from the OpenTelemetry spans they already emit."""


def main() -> None:
    """Run the command line: 0 done, 1 failed, 2 bad input."""
    accept_any_text()
    driver = logging.getLogger("clickhouse_connect")  # it logs, with traceback, what we say in a sentence
    driver.addHandler(logging.NullHandler())
    driver.propagate = False
    try:
        app(prog_name="otel-cost")
    except OtelCostError as error:
        typer.echo(f"otel-cost: {plain_lines(str(error))}", err=True)
        sys.exit(BAD_INPUT if isinstance(error, ConfigError) else 1)

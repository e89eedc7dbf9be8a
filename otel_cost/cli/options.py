"""Options that several commands take."""

from __future__ import annotations

from typing import Annotated

import typer

StoreOption = Annotated[
    str | None, typer.Option("--store", help="Where spans are kept. Default: OTEL_COST_STORE.")
]
DsnOption = Annotated[
    str | None, typer.Option("--store", "--dsn", help="Where spans are kept. Default: OTEL_COST_STORE.")
]
"""As `StoreOption`, for commands that people run against servers."""
JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON, money as exact decimal text.")]

"""Which ledger a process uses."""

from __future__ import annotations

import os
from pathlib import Path

from otel_cost.ledger import Ledger
from otel_cost.ledger.memory import MemoryLedger

LEDGER = "OTEL_COST_LEDGER"
"""Names the file: for a child process that of its execution, for a `shared` ledger another than the usual."""


def open_ledger(kind: str) -> Ledger:
    """Return a ledger of a kind that the policy names: `memory`, `auto` or `shared`.

    Raises:
        ConfigError: The file of a shared one cannot be used.
    """
    if kind == "memory":
        return MemoryLedger()
    if kind == "auto":
        try:
            from otel_cost.ledger.shared import SharedLedger
        except ImportError:  # a Python that was built without SQLite
            return MemoryLedger()
        return SharedLedger()
    from otel_cost.ledger.owners import own_directory
    from otel_cost.ledger.sqlite import SqliteLedger

    named = os.environ.get(LEDGER, "")
    return SqliteLedger(Path(named) if named else own_directory() / "shared.ledger")

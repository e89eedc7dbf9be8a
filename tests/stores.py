"""Embedded stores that are ready at once: made one time in a test process, and copied."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import pytest

from otel_cost.pricing import PriceBook
from otel_cost.store import open_store


def embedded(path: Path, *, has_prices: bool = True) -> str:
    """Put an embedded store with tables, and prices unless told otherwise, at a path. Returns its DSN."""
    pytest.importorskip("chdb")
    shutil.copytree(_made(has_prices=has_prices), path, symlinks=True)
    return f"chdb://{path.resolve()}"


@cache
def _made(*, has_prices: bool) -> Path:
    path = Path(tempfile.mkdtemp(prefix="otel-cost-store-")).resolve()
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    if has_prices:
        shutil.copytree(_made(has_prices=False), path, symlinks=True, dirs_exist_ok=True)
    with open_store(f"chdb://{path}") as store:
        if has_prices:
            store.push_prices(PriceBook.load())
        else:
            store.migrate()
    return path

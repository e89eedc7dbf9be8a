"""Recorded data that the tests read where it is present."""

from __future__ import annotations

import lzma
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def shared_data(name: str) -> Path:
    """Return the path of a recorded data set, or skip the test where the data is not at hand.

    Looked for below OTEL_COST_TEST_DATA, by default `shared/data` beside the checkout.
    """
    base = Path(os.environ.get("OTEL_COST_TEST_DATA", ROOT.parent / "shared" / "data"))
    path = base / name
    if not path.exists():
        pytest.skip(f"recorded data {name!r} is not at {base}; set OTEL_COST_TEST_DATA to where it is")
    return path


def lines(name: str) -> Iterator[str]:
    """Yield the lines of a recorded data set, plain or xz."""
    path = shared_data(name)
    opener = lzma.open if path.suffix == ".xz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        yield from file

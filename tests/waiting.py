"""Waiting for what something else does."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(is_so: Callable[[], object], timeout_s: float = 20) -> None:
    """Wait for something that another thread or process does."""
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)

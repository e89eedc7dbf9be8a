"""The one place where an internal error ends: counted, logged once per kind, never raised into the host."""

from __future__ import annotations

import _thread
import logging
import os
import threading
from collections import Counter
from collections.abc import Callable
from types import TracebackType

logger = logging.getLogger("otel_cost")

_lock = threading.RLock()
_counts: Counter[tuple[str, str]] = Counter()


class contained:  # noqa: N801 (reads as a statement: `with contained("price span"):`)
    """Keep an internal error from reaching the host.

    Catches `Exception` only: a budget decision is a `BaseException` and passes.
    """

    __slots__ = ("_doing",)

    def __init__(self, doing: str) -> None:
        self._doing = doing

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None or not isinstance(error, Exception):
            return False
        count(self._doing, error)
        return True


def count(doing: str, error: Exception) -> None:
    """Count an internal error; log the first of each kind, without the values that caused it."""
    kind = (doing, type(error).__name__)
    with _lock:
        _counts[kind] += 1
        is_first = _counts[kind] == 1
    if is_first:
        logger.warning(
            "otel_cost could not %s (%s); the application is not affected, further errors of this kind are "
            "only counted",
            doing,
            type(error).__name__,
            exc_info=error if logger.isEnabledFor(logging.DEBUG) else None,
        )


def elsewhere(do: Callable[[], object]) -> None:
    """Do in another thread what takes locks: the garbage collector may come by while this one holds them."""
    try:
        _thread.start_new_thread(do, ())
    except RuntimeError:  # the interpreter ends
        do()


def _after_fork_in_child() -> None:
    """Take a new lock: a thread that is not there may hold the old one."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def error_counts() -> dict[tuple[str, str], int]:
    """Return how often each kind of error was contained, by what was being done and the error's type."""
    with _lock:
        return dict(_counts)


def forget_errors() -> None:
    """Start counting anew; the next error of each kind is logged again."""
    with _lock:
        _counts.clear()

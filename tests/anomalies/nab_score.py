"""The scoring function of the Numenta Anomaly Benchmark, from its published formula (Lavin and Ahmad, 2015).

A detection inside a labelled window earns up to 1, the more the earlier; only the earliest counts. A window
without one costs 1. A detection outside costs up to 0.11, less soon after a window. The first 15 % of a
series are probation, where nothing counts. Totals are normalised: 0 is a detector that never speaks, 100 one
that speaks once, at the start of each window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

TRUE_POSITIVE, FALSE_NEGATIVE, FALSE_POSITIVE = 1.0, 1.0, 0.11
"""Weights of the standard profile."""
PROBATION_RATIO = 0.15
PROBATION_ROWS_AT_MOST = 750
"""15 % of 5,000 rows: longer series are not on probation for longer."""


class Window(NamedTuple):
    """Rows of a series that are labelled anomalous, the last one included."""

    first: int
    last: int


def sigmoid(position: float) -> float:
    """Return the worth of a detection: near 1 at -1 (begin of a window), 0 at 0 (its end), -1 far behind."""
    if position > 3:
        return -1.0
    return 2 / (1 + math.exp(5 * position)) - 1


def raw_score(rows: int, windows: Sequence[Window], detections: Sequence[int]) -> float:
    """Return the score of the detections (row numbers) in one series, not normalised."""
    begins = probation(rows)
    counted = sorted({row for row in detections if row >= begins})
    scored = [window for window in windows if window.last >= begins]
    return sum(_window_score(window, counted) for window in scored) + sum(
        FALSE_POSITIVE * _outside(row, windows)
        for row in counted
        if not any(window.first <= row <= window.last for window in windows)
    )


def probation(rows: int) -> int:
    """Return how many rows at the beginning do not count."""
    return min(math.floor(PROBATION_RATIO * rows), PROBATION_ROWS_AT_MOST)


def normalised(score: float, windows: int) -> float:
    """Return a score on the scale from 0 (never speaks) to 100 (perfect)."""
    null, perfect = -FALSE_NEGATIVE * windows, TRUE_POSITIVE * windows
    return 100 * (score - null) / (perfect - null)


def _window_score(window: Window, detections: Sequence[int]) -> float:
    inside = [row for row in detections if window.first <= row <= window.last]
    if not inside:
        return -FALSE_NEGATIVE
    width = window.last - window.first + 1
    position = -(window.last - inside[0] + 1) / width
    return TRUE_POSITIVE * sigmoid(position) / sigmoid(-1)


def _outside(row: int, windows: Sequence[Window]) -> float:
    before = [window for window in windows if window.last < row]
    if not before:
        return -1.0
    last = before[-1]
    return sigmoid((row - last.last) / max(last.last - last.first, 1))

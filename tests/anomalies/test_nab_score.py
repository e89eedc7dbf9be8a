"""The benchmark's scoring function, against scores worked by hand."""

from __future__ import annotations

import math

import pytest

from tests.anomalies.nab_score import Window, normalised, probation, raw_score, sigmoid

ROWS = 1000
WINDOW = Window(400, 499)


def test_a_detection_at_the_start_of_a_window_is_perfect() -> None:
    """One detection at the first row of the only window is worth 1, which is 100."""
    assert raw_score(ROWS, [WINDOW], [400]) == pytest.approx(1.0)
    assert normalised(1.0, 1) == 100


def test_silence_is_null() -> None:
    """A missed window costs 1, and missing all of them is 0 on the scale."""
    assert raw_score(ROWS, [WINDOW, Window(700, 720)], []) == -2
    assert normalised(-2.0, 2) == 0


def test_a_late_detection_is_worth_less() -> None:
    """Half way through a window: 2/(1+e^-2.5) - 1 = 0.84828, over 2/(1+e^-5) - 1 = 0.98661."""
    assert raw_score(ROWS, [WINDOW], [450]) == pytest.approx(0.848284 / 0.986614, abs=1e-5)


def test_only_the_earliest_detection_of_a_window_counts() -> None:
    """More detections in the same window change nothing."""
    assert raw_score(ROWS, [WINDOW], [450, 460, 499]) == raw_score(ROWS, [WINDOW], [450])


def test_a_false_alert_costs_011() -> None:
    """Before any window, and far behind one, an alert costs 0.11 in full."""
    assert raw_score(ROWS, [WINDOW], [200, 400]) == pytest.approx(1 - 0.11)
    assert raw_score(ROWS, [WINDOW], [400, 900]) == pytest.approx(1 - 0.11)


def test_an_alert_soon_after_a_window_costs_less() -> None:
    """10 rows behind a window of 100: position 10/99, 2/(1+e^0.50505) - 1 = -0.24729, times 0.11."""
    expected = 0.11 * (2 / (1 + math.exp(50 / 99)) - 1)
    assert expected == pytest.approx(-0.0272, abs=1e-4)
    assert raw_score(ROWS, [WINDOW], [400, 509]) == pytest.approx(1 + expected)


def test_nothing_counts_on_probation() -> None:
    """The first 15 % count neither for nor against, and at most 750 rows."""
    assert raw_score(ROWS, [WINDOW], [0, 149, 400]) == pytest.approx(1.0)
    assert raw_score(ROWS, [WINDOW], [150, 400]) == pytest.approx(0.89)
    assert probation(20_000) == 750


def test_the_sigmoid_is_odd_and_bounded() -> None:
    """The worth is 0 at the end of a window and symmetric about it."""
    assert sigmoid(0) == 0
    assert sigmoid(-0.3) == -sigmoid(0.3)
    assert sigmoid(3.1) == -1

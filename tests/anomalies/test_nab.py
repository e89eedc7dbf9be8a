"""The rule for volume spikes on labelled series that others made, beside two simpler rules."""

from __future__ import annotations

from datetime import datetime, timedelta

from tests.anomalies import nab
from tests.anomalies.__main__ import PAGE


def test_an_incident_is_one_alert() -> None:
    """Points within a day of the last flagged one belong to it."""
    begin = datetime(2026, 6, 1)  # noqa: DTZ001 (the benchmark has no zones)
    times = [begin + timedelta(hours=10 * step) for step in range(8)]
    assert nab.alerts(times, [0, 9, 9, 0, 0, 0, 9, 0], 5) == [1, 6]


def test_the_published_scores_are_measured() -> None:
    """docs/anomalies.md holds what the rule and the others score; ours is ahead of both over the corpus."""
    table = list(nab.table(nab.usual))
    assert nab.markdown(iter(table)) in PAGE.read_text(encoding="utf-8")
    scores = {row[0]: float(row[2]) for row in table[1:]}
    ours = scores.pop("volume spikes, as used (upwards)")
    assert ours > max(scores["fixed threshold"], scores["EWMA"])

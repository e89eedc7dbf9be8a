"""The rule for volume spikes on the Numenta Anomaly Benchmark, beside a fixed threshold and an EWMA chart.

Every detector gives each point a score; a point at or above a threshold is flagged, and an alert is a
flagged point with no other flagged in the 24 hours before, as one incident is one finding. Thresholds are the
detector's usual one, and the one that is best over the corpus, which is how the benchmark itself compares.
"""

from __future__ import annotations

import json
import lzma
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from otel_cost.budgets import Anomalies
from otel_cost.store import Store, open_store
from otel_cost.store.files import named_sql, statements
from tests.anomalies.nab_score import Window, normalised, probation, raw_score
from tests.data import shared_data

QUIET = timedelta(hours=24)
OURS_THRESHOLD, SIGMAS = Anomalies().volume_score, 3.0
EWMA_WEIGHT = 0.2
"""Of the newest value; 0.2 is the textbook's (Montgomery, Introduction to Statistical Quality Control)."""
SUBJECT = "name"


class Series(NamedTuple):
    """One file of the benchmark with its labels."""

    name: str
    times: list[datetime]
    values: list[float]
    windows: list[Window]

    @property
    def group(self) -> str:
        """Return the folder it comes from."""
        return self.name.partition("/")[0]


class Outcome(NamedTuple):
    """What one detector did at one threshold.

    Attributes:
        found: Windows with an alert in them.
        false_alerts: Alerts outside of windows, after probation.
    """

    score: float
    windows: int
    found: int
    false_alerts: int


def corpus() -> list[Series]:
    """Return the series at hand, in the order of their names."""
    root = shared_data("nab")
    labels = json.loads((root / "combined_windows.json").read_text())
    return [_series(root, name, labels[name]) for name in sorted(labels) if (root / f"{name}.xz").exists()]


def _series(root: Path, name: str, labels: list[list[str]]) -> Series:
    with lzma.open(root / f"{name}.xz", "rt") as file:
        rows = [line.strip().split(",") for line in file][1:]
    times = [datetime.fromisoformat(row[0]) for row in rows]
    bounds = [[datetime.fromisoformat(edge) for edge in window] for window in labels]
    windows = [Window(times.index(first), times.index(last)) for first, last in bounds]
    return Series(name, times, [float(row[1]) for row in rows], windows)


def our_scores(store: Store, series: Sequence[Series]) -> dict[str, list[float]]:
    """Return the scores of views/volume_scores.sql over each series, 0 where it says nothing."""
    _run(
        store,
        "CREATE OR REPLACE TABLE nab_series"
        " (subject String, at DateTime('UTC'), value Float64) ENGINE = Memory",
    )
    _fill(store, series)
    (view,) = statements(named_sql("views", "volume_scores"))
    query = view.partition("\nAS\n")[2].replace("FROM volume_series", f"FROM ({_SOURCE})")
    answer = store.sql(
        f"SELECT subject, toUnixTimestamp(at), score FROM ({query})", fmt="TSV", readonly=False
    )
    found: dict[str, dict[int, float]] = {}
    for line in answer.decode().splitlines():
        subject, at, score = line.split("\t")
        found.setdefault(subject, {})[int(at)] = float(score)
    return {item.name: [found.get(item.name, {}).get(_unix(at), 0.0) for at in item.times] for item in series}


_SOURCE = (
    "SELECT subject, at, value, false AS is_count, true AS is_watched,"
    " min(at) OVER (PARTITION BY subject) AS first_at FROM nab_series"
)


def _unix(at: datetime) -> int:
    return int((at - datetime(1970, 1, 1)).total_seconds())  # noqa: DTZ001 (the benchmark has no zones)


def _fill(store: Store, series: Sequence[Series]) -> None:
    rows = [
        (item.name, _unix(at), value)
        for item in series
        for at, value in zip(item.times, item.values, strict=True)
    ]
    with store.connection("fill") as client:
        client.insert("nab_series", rows, column_names=["subject", "at", "value"])


def _run(store: Store, statement: str) -> None:
    store.sql(statement, fmt="Null", readonly=False)


def fixed_scores(series: Series) -> list[float]:
    """Return how far each value is from the mean of the probation, in its standard deviations."""
    known = series.values[: max(probation(len(series.values)), 2)]
    mean = sum(known) / len(known)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in known) / (len(known) - 1))
    return [(value - mean) / max(deviation, 1e-9) for value in series.values]


def ewma_scores(series: Series) -> list[float]:
    """Return how far each value is from the moving average before it, in its moving standard deviation."""
    mean, variance, scores = series.values[0], 0.0, []
    for value in series.values:
        gap = value - mean
        scores.append(gap / max(math.sqrt(variance), 1e-9) if variance else 0.0)
        mean += EWMA_WEIGHT * gap
        variance = (1 - EWMA_WEIGHT) * (variance + EWMA_WEIGHT * gap * gap)
    return scores


def alerts(times: Sequence[datetime], scores: Sequence[float], threshold: float) -> list[int]:
    """Return the rows at which an incident begins."""
    begun, quiet_until = [], datetime.min  # noqa: DTZ901 (as above)
    for row, (at, score) in enumerate(zip(times, scores, strict=True)):
        if score >= threshold:
            if at >= quiet_until:
                begun.append(row)
            quiet_until = at + QUIET
    return begun


def outcome(series: Sequence[Series], scores: dict[str, list[float]], threshold: float) -> Outcome:
    """Return the benchmark's score of one detector over some series, not normalised."""
    raw, found, false_alerts = 0.0, 0, 0
    for item in series:
        begun = alerts(item.times, scores[item.name], threshold)
        counted = [row for row in begun if row >= probation(len(item.values))]
        inside = [
            window for window in item.windows if any(window.first <= row <= window.last for row in counted)
        ]
        outside = [
            row for row in counted if not any(window.first <= row <= window.last for window in item.windows)
        ]
        raw += raw_score(len(item.values), item.windows, begun)
        found, false_alerts = found + len(inside), false_alerts + len(outside)
    return Outcome(raw, sum(len(item.windows) for item in series), found, false_alerts)


def best_threshold(series: Sequence[Series], scores: dict[str, list[float]]) -> float:
    """Return the threshold with the highest score over the corpus, of a grid of 200."""
    grid = [0.5 * 1.03**step for step in range(200)]
    return max(grid, key=lambda threshold: outcome(series, scores, threshold).score)


class Detector(NamedTuple):
    """A detector of the table."""

    name: str
    scores: dict[str, list[float]]
    threshold: float


def detectors(series: Sequence[Series]) -> Iterator[Detector]:
    """Yield ours as it is used, ours in both directions, and the two to compare with, in both directions."""
    with tempfile.TemporaryDirectory() as directory, open_store(f"chdb://{directory}") as store:
        ours = our_scores(store, series)
    yield Detector("volume spikes, as used (upwards)", ours, OURS_THRESHOLD)
    yield Detector("volume spikes, both ways", _both_ways(ours), OURS_THRESHOLD)
    yield Detector("fixed threshold", _both_ways({item.name: fixed_scores(item) for item in series}), SIGMAS)
    yield Detector("EWMA", _both_ways({item.name: ewma_scores(item) for item in series}), SIGMAS)


def _both_ways(scores: dict[str, list[float]]) -> dict[str, list[float]]:
    return {name: [abs(score) for score in values] for name, values in scores.items()}


def table(choose: Callable[[Sequence[Series], Detector], float]) -> Iterator[list[str]]:
    """Yield the rows of the table: detector, threshold, score, found, false alerts, then each group."""
    series = corpus()
    groups = sorted({item.group for item in series})
    yield ["detector", "threshold", "score", "windows found", "false alerts", *groups]
    for detector in detectors(series):
        threshold = choose(series, detector)
        total = outcome(series, detector.scores, threshold)
        row = [detector.name, f"{threshold:.1f}", f"{normalised(total.score, total.windows):.1f}"]
        row += [f"{total.found} of {total.windows}", str(total.false_alerts)]
        yield row + [
            _cell([item for item in series if item.group == group], detector, threshold) for group in groups
        ]


def _cell(series: Sequence[Series], detector: Detector, threshold: float) -> str:
    """Return a group's score; without windows there is no scale, so only its false alerts."""
    result = outcome(series, detector.scores, threshold)
    if not result.windows:
        return f"{result.false_alerts} false alerts"
    return f"{normalised(result.score, result.windows):.1f}"


def usual(_: Sequence[Series], detector: Detector) -> float:
    """Return the threshold the detector is used with."""
    return detector.threshold


def best(series: Sequence[Series], detector: Detector) -> float:
    """Return the threshold that is best over the corpus."""
    return best_threshold(series, detector.scores)


def markdown(rows: Iterator[list[str]]) -> str:
    """Return rows as a table."""
    head, *body = rows
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *body)]
    return "\n".join(lines)

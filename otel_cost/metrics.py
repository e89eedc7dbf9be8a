"""OpenTelemetry metrics of what was spent: exact inside, converted to floating point only when collected."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Meter, Observation

from otel_cost import attributes as names
from otel_cost.containment import error_counts
from otel_cost.money import PICO
from otel_cost.usage import Reading

MAX_LABELS = 500
"""Different models told apart; the rest is `other`, so that a broken emitter cannot flood a backend."""

Labels = tuple[str, str, str]


class CostMetrics:
    """Running sums per provider, model and price status, observed by the meter.

    Metrics: `otel_cost.cost` ({USD}), `otel_cost.tokens` ({token}), `otel_cost.calls` ({call}, unpriced ones
    by their status) and `otel_cost.errors` ({error}). Only what counts is in them.
    """

    def __init__(self, meter: Meter | None = None) -> None:
        self._lock = threading.Lock()
        self._cost: Counter[Labels] = Counter()
        self._calls: Counter[Labels] = Counter()
        self._tokens: Counter[tuple[str, str, str]] = Counter()
        meter = meter or metrics.get_meter("otel_cost")
        meter.create_observable_counter(
            "otel_cost.cost",
            [self._observe_cost],
            "{USD}",
            "Estimated or provided cost of model and tool calls.",
        )
        meter.create_observable_counter(
            "otel_cost.tokens", [self._observe_tokens], "{token}", "Tokens of counted model calls."
        )
        meter.create_observable_counter(
            "otel_cost.calls", [self._observe_calls], "{call}", "Counted model and tool calls."
        )
        meter.create_observable_counter(
            "otel_cost.errors", [_observe_errors], "{error}", "Internal errors that were contained."
        )

    def record(
        self, reading: Reading, status: str, *, cost_picousd: int, input_tokens: int, output_tokens: int
    ) -> None:
        """Add one counted call."""
        model = reading.tool_name if reading.tool_name else reading.model
        with self._lock:
            labels = (reading.provider, model, status)
            if labels not in self._calls and len(self._calls) >= MAX_LABELS:
                labels = ("other", "other", status)
            self._calls[labels] += 1
            self._cost[labels] += cost_picousd
            self._tokens[labels[0], labels[1], "input"] += input_tokens
            self._tokens[labels[0], labels[1], "output"] += output_tokens

    def _observe_cost(self, _options: CallbackOptions) -> Iterable[Observation]:
        for labels, amount in self._snapshot(self._cost):
            yield Observation(amount / PICO, _labels(labels, names.PRICE_STATUS))

    def _observe_calls(self, _options: CallbackOptions) -> Iterable[Observation]:
        for labels, amount in self._snapshot(self._calls):
            yield Observation(amount, _labels(labels, names.PRICE_STATUS))

    def _observe_tokens(self, _options: CallbackOptions) -> Iterable[Observation]:
        for labels, amount in self._snapshot(self._tokens):
            yield Observation(amount, _labels(labels, "gen_ai.token.type"))

    def _snapshot(self, counter: Counter[Labels]) -> list[tuple[Labels, int]]:
        with self._lock:
            return list(counter.items())


def _labels(labels: Labels, third: str) -> dict[str, str]:
    return {names.PROVIDER[0]: labels[0], names.RESPONSE_MODEL[0]: labels[1], third: labels[2]}


def _observe_errors(_options: CallbackOptions) -> Iterable[Observation]:
    for (doing, error_type), amount in error_counts().items():
        yield Observation(amount, {"otel_cost.doing": doing, "error.type": error_type})

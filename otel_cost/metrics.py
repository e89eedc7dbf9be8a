"""OpenTelemetry metrics of what was spent: exact inside, converted to floating point only when collected."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Meter, Observation

from otel_cost import attributes as names
from otel_cost.containment import error_counts
from otel_cost.executions import Amount
from otel_cost.money import PICO
from otel_cost.usage import Reading

MAX_LABELS = 500
"""Different models told apart; the rest is `other`, so that a broken emitter cannot flood a backend."""

Labels = tuple[str, str, str]


@dataclass(slots=True)
class Sums:
    """What the counted calls of one provider, model and price status add up to."""

    calls: int = 0
    cost_picousd: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


class CostMetrics:
    """Running sums per provider, model and price status, observed by the meter.

    Metrics: `otel_cost.cost` ({USD}), `otel_cost.tokens` ({token}), `otel_cost.calls` ({call}, unpriced ones
    by their status) and `otel_cost.errors` ({error}). Only what counts is in them.
    """

    def __init__(self, meter: Meter | None = None) -> None:
        self._lock = threading.RLock()
        self._sums: dict[Labels, Sums] = {}
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

    def record(self, reading: Reading, status: str, amount: Amount) -> None:
        """Add one counted call; what a correction takes back stays in, because counters never fall."""
        labels = (reading.provider, reading.tool_name or reading.model, status)
        cost_picousd, input_tokens, output_tokens, _ = amount
        with self._lock:
            sums = self._sums.get(labels) or self._new_sums(labels)
            sums.calls += 1
            if cost_picousd > 0:
                sums.cost_picousd += cost_picousd
            if input_tokens > 0:
                sums.input_tokens += input_tokens
            if output_tokens > 0:
                sums.output_tokens += output_tokens

    def _new_sums(self, labels: Labels) -> Sums:
        if len(self._sums) >= MAX_LABELS:
            labels = ("other", "other", labels[2])
        return self._sums.setdefault(labels, Sums())

    def _observe_cost(self, _options: CallbackOptions) -> Iterable[Observation]:
        for labels, sums in self._snapshot():
            yield Observation(sums.cost_picousd / PICO, _labels(labels, names.PRICE_STATUS))

    def _observe_calls(self, _options: CallbackOptions) -> Iterable[Observation]:
        for labels, sums in self._snapshot():
            yield Observation(sums.calls, _labels(labels, names.PRICE_STATUS))

    def _observe_tokens(self, _options: CallbackOptions) -> Iterable[Observation]:
        tokens: Counter[Labels] = Counter()
        for (provider, model, _), sums in self._snapshot():
            tokens[provider, model, "input"] += sums.input_tokens
            tokens[provider, model, "output"] += sums.output_tokens
        for labels, amount in tokens.items():
            yield Observation(amount, _labels(labels, "gen_ai.token.type"))

    def _snapshot(self) -> list[tuple[Labels, Sums]]:
        with self._lock:
            return [(labels, replace(sums)) for labels, sums in self._sums.items()]


def _labels(labels: Labels, third: str) -> dict[str, str]:
    return {names.PROVIDER[0]: labels[0], names.RESPONSE_MODEL[0]: labels[1], third: labels[2]}


def _observe_errors(_options: CallbackOptions) -> Iterable[Observation]:
    for (doing, error_type), amount in error_counts().items():
        yield Observation(amount, {"otel_cost.doing": doing, "error.type": error_type})

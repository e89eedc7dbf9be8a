"""Recorded executions played to a watch as the guard would, and a table of what it finds.

Run it to print the table of docs/detectors.md: `python -m tests.detectors.recordings`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from otel_cost.detectors import (
    DETECTORS,
    IDENTICAL_CALLS,
    Finding,
    ModelCallOutcome,
    Step,
    Thresholds,
    ToolCallOutcome,
    Watch,
    fingerprint,
    sketch,
)
from otel_cost.money import to_picousd
from otel_cost.pricing import PriceBook
from otel_cost.usage import Usage
from tests.data import lines
from tests.otlp import RecordedSpan, recorded_spans

STORM = 3
"""Malformed replies in a row that make an execution of miniswe_gemini3 a retry storm."""

Event = ModelCallOutcome | Step


@dataclass(frozen=True)
class Recording:
    """An execution and what is known about it.

    Attributes:
        is_healthy: miniswe_gemini3: its tests passed in the end, and it is no storm. trail: people found
            neither abuse nor exhaustion of resources in it.
        is_storm: miniswe_gemini3: three malformed replies in a row, or more.
        is_abusive: trail: people labelled it as abuse or exhaustion of resources.
        has_repeats: trail: the same call of a tool three times or more, as counted in the labels.
    """

    source: str
    name: str
    events: tuple[Event, ...]
    is_healthy: bool
    is_storm: bool = False
    is_abusive: bool = False
    has_repeats: bool = False

    def findings(self, thresholds: Thresholds | None = None) -> list[Finding]:
        """Return everything a watch finds in it."""
        watch = Watch(thresholds)
        found: list[Finding] = []
        for event in self.events:
            found += watch.stepped(event) if isinstance(event, Step) else watch.answered(event)
        return found

    def kinds(self, thresholds: Thresholds | None = None) -> set[str]:
        """Return the detectors that speak about it."""
        return {finding.kind for finding in self.findings(thresholds)}

    def malformed_cost_picousd(self, in_a_row: int) -> int:
        """Return what the first so many malformed replies in a row cost."""
        row: list[int] = []
        for call in (event for event in self.events if isinstance(event, ModelCallOutcome)):
            row = [*row, call.cost_picousd] if call.is_discarded else []
            if len(row) == in_a_row:
                return sum(row)
        raise ValueError(f"{self.name} has no {in_a_row} malformed replies in a row")


def miniswe() -> list[Recording]:
    """Return the executions of miniswe_gemini3: one agent, whose only tool is a shell."""
    calls: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in lines("miniswe_gemini3/calls.jsonl.xz"):
        call = json.loads(line, parse_float=Decimal)
        calls[call["execution_id"]].append(call)
    facts = [json.loads(line) for line in lines("miniswe_gemini3/executions.jsonl")]
    return [_miniswe(fact, calls[fact["execution_id"]]) for fact in facts if fact["execution_id"] in calls]


def _miniswe(fact: dict[str, Any], calls: list[dict[str, Any]]) -> Recording:
    events = [event for call in sorted(calls, key=lambda call: call["seq"]) for event in _turn(call)]
    is_storm = fact["max_consecutive_format_errors"] >= STORM
    healthy = fact["resolved"] and not is_storm
    return Recording("miniswe_gemini3", fact["execution_id"], tuple(events), healthy, is_storm)


def _turn(call: dict[str, Any]) -> Iterator[Event]:
    yield ModelCallOutcome(
        to_picousd(call["cost_usd"] or Decimal(0)),
        call["prompt_tokens"],
        call["completion_tokens"],
        call["response_model"],
        is_discarded=not call["format_ok"],
    )
    if call["format_ok"]:
        arguments, result = fingerprint(call["action_sha1"]), fingerprint(call["observation_sha1"])
        has_failed = call["returncode"] not in (0, None)
        yield Step((ToolCallOutcome("bash", arguments, sketch(call["action"]), has_failed, result),))


def trail() -> list[Recording]:
    """Return the traces of TRAIL: smolagents with web and file tools, labelled by people."""
    labels = {label["trace_id"]: label for label in map(json.loads, lines("trail/labels.jsonl"))}
    book = PriceBook.load()
    recordings = []
    for line in lines("trail/traces.otlp.jsonl.xz"):
        record = json.loads(line)
        label = labels[record["trace_id"]]
        recordings.append(
            Recording(
                "trail",
                record["trace_id"],
                tuple(_trail_events(record["otlp"], book)),
                not label["resource_abuse"],
                is_abusive=label["resource_abuse"],
                has_repeats=label["max_identical_tool_calls"] >= 3,
            )
        )
    return recordings


def _trail_events(request: dict[str, Any], book: PriceBook) -> Iterator[Event]:
    for recorded in sorted(recorded_spans(request), key=lambda one: int(one.span["endTimeUnixNano"])):
        kind = recorded.attributes.get("openinference.span.kind")
        if kind == "LLM":
            yield _model_call(recorded, book)
        elif kind == "TOOL":
            yield Step((_tool_call(recorded),))


def _model_call(recorded: RecordedSpan, book: PriceBook) -> ModelCallOutcome:
    attributes = recorded.attributes
    model = attributes.get("llm.model_name", "")
    inputs = int(attributes.get("llm.token_count.prompt", 0))
    outputs = int(attributes.get("llm.token_count.completion", 0))
    cost_picousd = 0
    if inputs or outputs:  # a call that failed has neither, nor a model
        usage = Usage(input_tokens=inputs, output_tokens=outputs)
        at = int(recorded.span["startTimeUnixNano"])
        cost_picousd = book.price(usage, model=model, provider=None, at=at).cost_picousd or 0
    return ModelCallOutcome(cost_picousd, inputs, outputs, model, _has_failed(recorded))


def _has_failed(recorded: RecordedSpan) -> bool:
    return bool(recorded.span.get("status", {}).get("code") == 2)


def _tool_call(recorded: RecordedSpan) -> ToolCallOutcome:
    attributes = recorded.attributes
    given = str(attributes.get("input.value", ""))
    output = attributes.get("output.value")
    return ToolCallOutcome(
        attributes.get("tool.name") or recorded.span["name"],
        fingerprint(given),
        sketch(_arguments(given)),
        _has_failed(recorded),
        None if output is None else fingerprint(str(output)),
    )


def _arguments(given: str) -> str:
    """Return the arguments without what smolagents writes around them."""
    try:
        read = json.loads(given)
    except ValueError:
        return given
    return json.dumps([read.get("args"), read.get("kwargs")]) if isinstance(read, dict) else given


def table(recordings: Iterable[Recording]) -> str:
    """Return the share of healthy executions each detector flags, and of the bad ones."""
    kinds = [(recording, recording.kinds()) for recording in recordings]
    columns = {
        "miniswe healthy": lambda one: one.source == "miniswe_gemini3" and one.is_healthy,
        "miniswe storms": lambda one: one.is_storm,
        "miniswe others": lambda one: (
            one.source == "miniswe_gemini3" and not (one.is_healthy or one.is_storm)
        ),
        "TRAIL not abusive": lambda one: one.source == "trail" and one.is_healthy,
        "TRAIL abusive": lambda one: one.is_abusive,
    }
    rows = [f"| detector | {' | '.join(columns)} |", f"|---|{'---:|' * len(columns)}"]
    for name in (*DETECTORS, "any of them"):
        cells = []
        for is_in in columns.values():
            group = [found for one, found in kinds if is_in(one)]
            flagged = sum(name in found or (name not in DETECTORS and bool(found)) for found in group)
            cells.append(f"{flagged} of {len(group)}")
        rows.append(f"| {f'`{name}`' if name in DETECTORS else name} | {' | '.join(cells)} |")
    return "\n".join(rows)


def precision_and_recall(recordings: Iterable[Recording]) -> tuple[float, float]:
    """Return how the detection of identical calls agrees with the labels of TRAIL."""
    labelled = [
        (IDENTICAL_CALLS in one.kinds(), one.is_abusive) for one in recordings if one.source == "trail"
    ]
    both = sum(flagged and abusive for flagged, abusive in labelled)
    flagged = sum(flagged for flagged, _ in labelled)
    return both / max(1, flagged), both / max(1, sum(abusive for _, abusive in labelled))


if __name__ == "__main__":
    everything = [*miniswe(), *trail()]
    precision, recall = precision_and_recall(everything)
    print(table(everything))  # noqa: T201 (the command's output)
    print(f"\nidentical_calls on TRAIL: precision {precision:.2f}, recall {recall:.2f}")  # noqa: T201

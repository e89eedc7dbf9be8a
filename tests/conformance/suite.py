"""The conformance suite: what counts once, as data that any backend can be fed and asked about."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
BASE_NS = 1_780_315_200_000_000_000
"""2026-06-01 12:00:00 UTC, when every case starts."""
MS = 1_000_000


@dataclass(frozen=True)
class Case:
    """One case: what is delivered, in which batches, and what must come out."""

    name: str
    why: str
    spans: tuple[dict[str, Any], ...]
    batches: tuple[tuple[str, ...], ...]
    expected: dict[str, Any]
    live_differs: bool = False

    def requests(self) -> Iterator[dict[str, Any]]:
        """Yield an OTLP/JSON ExportTraceServiceRequest per batch."""
        by_id = {span["id"]: span for span in self.spans}
        for batch in self.batches:
            yield {"resourceSpans": [_resource_spans(self, by_id[name]) for name in batch]}

    def ids(self, span: dict[str, Any]) -> tuple[str, str]:
        """Return a span's trace and span id, in hexadecimal."""
        return trace_id(self.name, span.get("trace", "")), span_id(self.name, span["id"])


@dataclass(frozen=True)
class Answer:
    """What a backend says about a case: totals over counted spans, and each billable span by its hex id."""

    totals: dict[str, Any]
    spans: dict[str, dict[str, Any]] = field(default_factory=dict)


Backend = Callable[[Case], Answer]


def load() -> list[Case]:
    """Return every case of the suite."""
    raw = yaml.safe_load((HERE / "cases.yaml").read_text(encoding="utf-8"))
    return [_case(entry) for entry in raw]


def _case(entry: dict[str, Any]) -> Case:
    spans = tuple(entry["spans"])
    everything = (tuple(span["id"] for span in spans),)
    batches = tuple(tuple(batch) for batch in entry.get("batches", everything))
    return Case(
        entry["case"], entry["why"], spans, batches, entry["expected"], entry.get("live") == "differs"
    )


def trace_id(case: str, trace: str = "") -> str:
    """Return a case's trace id: stable, so that a backend can be asked about it later."""
    return hashlib.sha256(f"{case}/{trace}".encode()).hexdigest()[:32]


def span_id(case: str, name: str) -> str:
    """Return a span's id within a case."""
    return hashlib.sha256(f"{case}#{name}".encode()).hexdigest()[:16]


def _resource_spans(case: Case, span: dict[str, Any]) -> dict[str, Any]:
    scope, version = span["scope"]
    resource = {"service.name": "conformance", **span.get("resource", {})}
    return {
        "resource": {"attributes": _attributes(resource)},
        "scopeSpans": [{"scope": {"name": scope, "version": version}, "spans": [_otlp_span(case, span)]}],
    }


def _otlp_span(case: Case, span: dict[str, Any]) -> dict[str, Any]:
    trace, own_id = case.ids(span)
    start, end = span["at"]
    return {
        "traceId": trace,
        "spanId": own_id,
        "parentSpanId": span_id(case.name, span["parent"]) if "parent" in span else "",
        "name": span["name"],
        "kind": 3,
        "startTimeUnixNano": str(BASE_NS + start * MS),
        "endTimeUnixNano": str(BASE_NS + end * MS),
        "attributes": _attributes(span["attributes"]),
        "status": {"code": 2} if span.get("error") else {},
        "events": [_exception(span)] if "exception" in span else [],
    }


def _exception(span: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": "exception",
        "timeUnixNano": str(BASE_NS + span["at"][1] * MS),
        "attributes": _attributes({"exception.type": span["exception"]}),
    }


def _attributes(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _any_value(value)} for key, value in values.items()]


def _any_value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    return {"stringValue": str(value)}


def differences(case: Case, answer: Answer) -> list[str]:
    """Return what a backend got wrong, a line each; empty when it conforms."""
    found = []
    for name, wanted in case.expected["totals"].items():
        if name in answer.totals and str(answer.totals[name]) != str(wanted):
            found.append(f"{case.name}: total {name} is {answer.totals[name]}, expected {wanted}")
    for name, wanted in case.expected["spans"].items():
        said = answer.spans.get(span_id(case.name, name))
        if said is None:
            if answer.spans:
                found.append(f"{case.name}: span {name} is missing")
            continue
        found += [
            f"{case.name}: span {name} has {key} {said[key]!r}, expected {value!r}"
            for key, value in wanted.items()
            if key in said and said[key] != value
        ]
    return found


def export(directory: Path) -> None:
    """Write the suite as files for other backends: `<case>.otlp.jsonl`, a batch a line, and expected.json."""
    directory.mkdir(parents=True, exist_ok=True)
    expected = {}
    for case in load():
        batches = "".join(json.dumps(request, sort_keys=True) + "\n" for request in case.requests())
        (directory / f"{case.name}.otlp.jsonl").write_text(batches, encoding="utf-8")
        expected[case.name] = {
            "why": case.why,
            "trace_ids": sorted({case.ids(span)[0] for span in case.spans}),
            "totals": case.expected["totals"],
            "spans": {span_id(case.name, name): value for name, value in case.expected["spans"].items()},
        }
    (directory / "expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")

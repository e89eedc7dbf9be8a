"""The recordings that generated charges take after: when requests arrive, and what executions are made of."""

from __future__ import annotations

import csv
import json
import lzma
import os
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
VARIABLE = "OTEL_COST_TEST_DATA"
ARRIVALS = "azure_llm_2023/AzureLLMInferenceTrace_code.csv"
CALLS = "miniswe_gemini3/calls.jsonl.xz"
OUTPUT_TOKENS_PER_S = 80
"""How fast a model writes, to part the time between two calls: the recording has no durations."""
FIRST_TOKEN_MS = 800


class MissingRecordingError(Exception):
    """A recording that the generator needs is not at hand."""


@dataclass(frozen=True, slots=True)
class Step:
    """One model call of a recorded execution, with the tool call that followed it.

    Attributes:
        after_ms: From the start of the execution to the start of the call.
        tool_ms: How long the tool ran; 0 where the reply was malformed and there was none.
        cost_pico_usd: What the provider billed; -1 where the recording has no bill.
    """

    shape: int
    step: int
    after_ms: int
    model_ms: int
    tool_ms: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    cost_pico_usd: int
    is_malformed: bool
    is_failed: bool
    action: str


def recording(name: str) -> Path:
    """Return the path of a recording, below OTEL_COST_TEST_DATA or `shared/data` beside the checkout.

    Raises:
        MissingRecordingError: It is not there.
    """
    base = Path(os.environ.get(VARIABLE, ROOT.parent / "shared" / "data"))
    path = base / name
    if not path.is_file():
        raise MissingRecordingError(f"{path} does not exist; set {VARIABLE} to the directory that has {name}")
    return path


def arrival_offsets_s() -> list[float]:
    """Return when each request of a recorded hour of production came, in seconds from its first one."""
    with recording(ARRIVALS).open(encoding="utf-8") as file:
        times = [row["TIMESTAMP"] for row in csv.DictReader(file)]
    began = _seconds(times[0])
    return [(_seconds(text) - began) % 3600 for text in times]


def _seconds(text: str) -> float:
    whole, _, fraction = text.partition(".")
    return datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{fraction or 0}")


def steps() -> list[Step]:
    """Return every call of the recorded executions, by execution and in order."""
    calls = defaultdict(list)
    with lzma.open(recording(CALLS), "rt", encoding="utf-8") as file:
        for line in file:
            call = json.loads(line)
            calls[call["execution_id"]].append(call)
    return [
        step for shape, name in enumerate(sorted(calls)) for step in _execution(shape, _in_order(calls[name]))
    ]


def _in_order(calls: list[dict]) -> list[dict]:  # type: ignore[type-arg]
    return sorted(calls, key=lambda call: call["seq"])


def _execution(shape: int, calls: list[dict]) -> list[Step]:  # type: ignore[type-arg]
    """Part the time between two calls into the model's and the tool's share."""
    found, after_ms = [], 0
    for number, call in enumerate(calls):
        written_ms = FIRST_TOKEN_MS + call["completion_tokens"] * 1000 // OUTPUT_TOKENS_PER_S
        until = calls[number + 1]["created"] if number + 1 < len(calls) else call["created"] + 5
        gap_ms = max(500, (until - call["created"]) * 1000)
        model_ms = min(gap_ms * 9 // 10, written_ms)
        found.append(_step(shape, number, after_ms, model_ms, gap_ms - model_ms, call))
        after_ms += gap_ms
    return found


def _step(shape: int, number: int, after_ms: int, model_ms: int, tool_ms: int, call: dict) -> Step:  # type: ignore[type-arg]
    billed = call["cost_usd"]
    return Step(
        shape=shape,
        step=number + 1,
        after_ms=after_ms,
        model_ms=model_ms,
        tool_ms=tool_ms if call["format_ok"] else 0,
        prompt_tokens=call["prompt_tokens"],
        cached_tokens=min(call["cached_tokens"], call["prompt_tokens"]),
        completion_tokens=max(call["completion_tokens"], call["reasoning_tokens"]),
        reasoning_tokens=call["reasoning_tokens"],
        cost_pico_usd=-1 if billed is None else round(billed * 10**12),
        is_malformed=not call["format_ok"],
        is_failed=bool(call["returncode"]),
        action=call["action"] or "",
    )

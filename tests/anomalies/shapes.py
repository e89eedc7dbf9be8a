"""What real traffic looks like: how an agent's calls follow each other, how large they are, when they come.

Shapes come from recordings: healthy runs of a coding agent (mini-swe-agent on SWE-bench, Gemini 3 Pro) and
one hour of requests to a production service (Azure, 2023). Only numbers, no text.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from random import Random
from typing import NamedTuple

from tests.data import lines, shared_data

BLOCK_MINUTES = 10
"""Arrivals are resampled in blocks of this length, since bursts last for minutes."""


class Call(NamedTuple):
    """One model call and, where it asked for a tool, that it did."""

    input_tokens: int
    cached_tokens: int
    output_tokens: int
    is_failed: bool = False
    tool: str = ""


@lru_cache(maxsize=1)
def runs() -> tuple[tuple[Call, ...], ...]:
    """Return the healthy runs of the coding agent; every call but the last used its tool.

    Healthy are those that solved their task without three useless replies in a row, as in docs/detectors.md.
    """
    rows = map(json.loads, lines("miniswe_gemini3/executions.jsonl"))
    healthy = {
        row["execution_id"] for row in rows if row["resolved"] and row["max_consecutive_format_errors"] < 3
    }
    found: dict[str, list[Call]] = {}
    for line in lines("miniswe_gemini3/calls.jsonl.xz"):
        row = json.loads(line)
        if row["execution_id"] not in healthy:
            continue
        call = Call(row["prompt_tokens"], row["cached_tokens"], row["completion_tokens"], tool="shell")
        found.setdefault(row["execution_id"], []).append(call)
    return tuple((*calls[:-1], calls[-1]._replace(tool="")) for calls in found.values())


@lru_cache(maxsize=1)
def requests() -> tuple[Call, ...]:
    """Return the requests of the service, each a call of its own."""
    return tuple(Call(context, 0, generated) for _, context, generated in _azure())


@lru_cache(maxsize=1)
def _minutes() -> tuple[float, ...]:
    """Return how many requests came in each minute of the recorded hour, over their mean."""
    counts = Counter(minute for minute, _, _ in _azure())
    known = [counts[minute] for minute in sorted(counts)]
    mean = sum(known) / len(known)
    return tuple(count / mean for count in known)


@lru_cache(maxsize=1)
def _azure() -> tuple[tuple[str, int, int], ...]:
    with (shared_data("azure_llm_2023") / "AzureLLMInferenceTrace_code.csv").open() as file:
        return tuple(
            (row["TIMESTAMP"][11:16], int(row["ContextTokens"]), int(row["GeneratedTokens"]))
            for row in csv.DictReader(file)
        )


def burst_factor(random: Random) -> float:
    """Return how much busier than usual an hour is: the mean of recorded minutes, resampled in blocks."""
    minutes = _minutes()
    drawn = 0.0
    for _ in range(60 // BLOCK_MINUTES):
        begin = random.randrange(len(minutes))
        drawn += sum(minutes[(begin + step) % len(minutes)] for step in range(BLOCK_MINUTES))
    return drawn / 60


def varied(calls: Sequence[Call], random: Random, *, spread: float = 0.15, scale: float = 1.0) -> list[Call]:
    """Return a run like a recorded one: all prompts scaled together, each answer by itself."""
    prompt = scale * random.lognormvariate(0, spread)
    return [
        call._replace(
            input_tokens=max(1, round(call.input_tokens * prompt)),
            cached_tokens=round(call.cached_tokens * prompt),
            output_tokens=max(1, round(call.output_tokens * random.lognormvariate(0, spread))),
        )
        for call in calls
    ]


def poisson(mean: float, random: Random) -> int:
    """Return a count of independent events."""
    if mean > 50:
        return max(0, round(random.gauss(mean, mean**0.5)))
    count, left = 0, random.expovariate(1.0)
    while left < mean:
        count, left = count + 1, left + random.expovariate(1.0)
    return count

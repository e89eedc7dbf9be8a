"""What particular instrumentations are known to get wrong about usage, by scope and version.

Measured by replaying recorded provider responses through the real instrumentation; see docs/conventions.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

CACHE_NOT_REPORTED = "cache_not_reported"
"""Cached input is not told apart, so the cost at the full input rate is an upper bound."""
OUTPUT_OVERSTATED = "output_overstated"
"""Output tokens are too many by the count that opens the stream."""

Version = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Quirk:
    """One known fault of one instrumentation.

    Attributes:
        scope: The instrumentation scope's name, exact.
        below: First version without the fault; None while every known version has it.
        streams_only: Whether only streamed calls are affected.
    """

    scope: str
    mark: str
    below: Version | None = None
    streams_only: bool = False


QUIRKS = (
    Quirk("opentelemetry.instrumentation.openai_v2", CACHE_NOT_REPORTED),
    Quirk("opentelemetry.instrumentation.openai.v1", CACHE_NOT_REPORTED, below=(0, 34)),
    Quirk("opentelemetry.instrumentation.anthropic", OUTPUT_OVERSTATED, streams_only=True),
    Quirk("openinference.instrumentation.anthropic", CACHE_NOT_REPORTED, below=(1,), streams_only=True),
    Quirk("openinference.instrumentation.smolagents", CACHE_NOT_REPORTED),
)


def parse_version(text: str) -> Version:
    """Return the leading numbers of a version: `0.62b2` is (0, 62). Empty when there are none."""
    numbers = []
    for part in text.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)


@lru_cache(maxsize=512)
def quirks_of(scope: str, version: str) -> tuple[Quirk, ...]:
    """Return the known faults of an instrumentation; none for one never measured.

    A scope without a version counts as the newest: only faults that no version has mended apply.
    """
    number = parse_version(version)
    return tuple(
        quirk
        for quirk in QUIRKS
        if quirk.scope == scope and (quirk.below is None or (number and number < quirk.below))
    )

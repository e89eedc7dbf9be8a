"""Usage as people and price catalogues write it down, in totals that contain their parts."""

from __future__ import annotations

from collections.abc import Mapping

from otel_cost.errors import UsageError
from otel_cost.usage import UNITS, Usage

_MEANINGS: dict[str, tuple[str, ...]] = {
    "input": ("input_tokens",),
    "cache_read": ("cache_read_tokens",),
    "cache_write": ("cache_write_tokens",),
    "cache_write_5m": ("cache_write_5m_tokens",),
    "cache_write_1h": ("cache_write_1h_tokens",),
    "text_input": ("input_text_tokens", "text_input_tokens"),
    "text_cache_read": ("cache_text_read_tokens", "text_cache_read_tokens"),
    "audio_input": ("input_audio_tokens", "audio_input_tokens"),
    "audio_cache_read": ("cache_audio_read_tokens", "audio_cache_read_tokens"),
    "image_input": ("input_image_tokens", "image_input_tokens"),
    "image_cache_read": ("cache_image_read_tokens", "image_cache_read_tokens"),
    "video_input": ("input_video_tokens", "video_input_tokens"),
    "video_cache_read": ("cache_video_read_tokens", "video_cache_read_tokens"),
    "tool_input": ("input_tool_tokens", "tool_input_tokens"),
    "text_tool_input": ("input_text_tool_tokens",),
    "output": ("output_tokens",),
    "text_output": ("output_text_tokens", "text_output_tokens"),
    "reasoning": ("output_reasoning_tokens", "reasoning_tokens"),
    "citation": ("output_citation_tokens", "citation_tokens"),
    "audio_output": ("output_audio_tokens", "audio_output_tokens"),
    "image_output": ("output_image_tokens", "image_output_tokens"),
    "web_searches": ("web_searches",),
    "file_searches": ("file_searches", "storage_searches"),
    "code_executions": ("code_executions",),
    "rerank_searches": ("rerank_searches",),
    "images": ("images",),
    "audio_seconds": ("audio_seconds", "input_audio_seconds"),
    "characters": ("characters", "input_characters"),
    "pages": ("pages", "input_document_pages"),
}
"""What is counted, and the names it goes by: ours, and those of genai-prices."""

_BY_NAME = {name: meaning for meaning, names in _MEANINGS.items() for name in names}
COUNT_NAMES = tuple(_BY_NAME)


def usage_of_totals(counts: Mapping[str, object]) -> Usage:
    """Return usage in disjoint buckets from totals that contain their parts.

    Args:
        counts: Amounts by name. `input_tokens` contains what was read from and written to a cache, and every
            modality; `output_tokens` contains reasoning; an amount of a modality contains its cached part;
            `cache_write_tokens` contains the 5-minute and 1-hour parts. None is as good as absent. Where a
            total is absent, it is the sum of its parts.

    Raises:
        UsageError: A name is unknown, an amount is not a whole number of 0 or more, or parts exceed their
            total.
    """
    given = dict.fromkeys(_MEANINGS, 0) | _checked(counts)
    cached = {kind: given[f"{kind}_cache_read"] for kind in ("audio", "image", "video")}
    kinds = {kind: _rest(given, f"{kind}_input", cached[kind]) for kind in cached}
    written = given["cache_write"] or given["cache_write_5m"] + given["cache_write_1h"]
    read = given["cache_read"] or given["text_cache_read"] + sum(cached.values())
    tool = given["tool_input"] or given["text_tool_input"]
    special = read + written + tool + sum(kinds.values())
    spoken = given["reasoning"] + given["citation"] + given["audio_output"] + given["image_output"]
    return Usage(
        input_tokens=_take(_total(given, "input", special), special, "input_tokens"),
        cache_read_tokens=_take(read, sum(cached.values()), "cache_read_tokens"),
        cache_write_tokens=_take(written, given["cache_write_1h"], "cache_write_tokens"),
        cache_write_1h_tokens=given["cache_write_1h"],
        tool_input_tokens=tool,
        audio_input_tokens=kinds["audio"],
        audio_cache_read_tokens=cached["audio"],
        image_input_tokens=kinds["image"],
        image_cache_read_tokens=cached["image"],
        video_input_tokens=kinds["video"],
        video_cache_read_tokens=cached["video"],
        output_tokens=_take(_total(given, "output", spoken), spoken, "output_tokens"),
        reasoning_tokens=given["reasoning"],
        citation_tokens=given["citation"],
        audio_output_tokens=given["audio_output"],
        image_output_tokens=given["image_output"],
        **{unit: given[unit] for unit in UNITS},
    )


def _checked(counts: Mapping[str, object]) -> dict[str, int]:
    given: dict[str, int] = {}
    for name, amount in counts.items():
        if name not in _BY_NAME:
            raise UsageError(f"usage has no {name!r}; write one of {', '.join(COUNT_NAMES)}")
        if amount is None:
            continue
        if type(amount) is not int or amount < 0:
            raise UsageError(f"{name}={amount!r} is not a whole number of 0 or more")
        given[_BY_NAME[name]] = amount
    return given


def _total(given: Mapping[str, int], direction: str, parts: int) -> int:
    return given[direction] or parts + (given[f"text_{direction}"] if not parts else 0)


def _rest(given: Mapping[str, int], total: str, part: int) -> int:
    return _take(given[total], part, total) if given[total] else 0


def _take(total: int, parts: int, name: str) -> int:
    if parts > total:
        raise UsageError(f"{name}={total} is less than the {parts} of its parts; a total contains its parts")
    return total - parts

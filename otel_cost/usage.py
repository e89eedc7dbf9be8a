"""Usage: what one model call consumed, in buckets that never overlap."""

from __future__ import annotations

from dataclasses import dataclass, fields

from otel_cost.errors import UsageError


@dataclass(frozen=True, slots=True)
class Usage:
    """Disjoint buckets of one model call: a token is in exactly one of them.

    Providers report totals that contain their parts (cached input inside input, reasoning inside output).
    Here the parts are taken out, so a cost is the plain sum of bucket times rate. The totals that the
    semantic conventions define are `total_input_tokens` and `total_output_tokens`.
    """

    input_tokens: int = 0
    """Uncached text input, and input whose kind is unknown."""
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    """Cache writes kept five minutes, or for a time the provider did not state."""
    cache_write_1h_tokens: int = 0
    tool_input_tokens: int = 0
    """Input made of the results of the provider's own tools."""
    audio_input_tokens: int = 0
    audio_cache_read_tokens: int = 0
    image_input_tokens: int = 0
    image_cache_read_tokens: int = 0
    video_input_tokens: int = 0
    video_cache_read_tokens: int = 0
    output_tokens: int = 0
    """Visible text output, and output whose kind is unknown."""
    reasoning_tokens: int = 0
    citation_tokens: int = 0
    audio_output_tokens: int = 0
    image_output_tokens: int = 0
    web_searches: int = 0
    file_searches: int = 0
    code_executions: int = 0
    rerank_searches: int = 0
    images: int = 0
    """Images made, where a provider charges for each."""
    audio_seconds: int = 0
    characters: int = 0
    pages: int = 0

    @property
    def total_input_tokens(self) -> int:
        """Input tokens as `gen_ai.usage.input_tokens` defines them: cached included."""
        return sum(getattr(self, name) for name in INPUT_BUCKETS)

    @property
    def total_output_tokens(self) -> int:
        """Output tokens as `gen_ai.usage.output_tokens` defines them: reasoning included."""
        return sum(getattr(self, name) for name in OUTPUT_BUCKETS)

    def check(self) -> None:
        """Raise `UsageError` when a bucket is negative or not a whole number."""
        for field in fields(self):
            amount = getattr(self, field.name)
            if type(amount) is not int or amount < 0:
                raise UsageError(f"{field.name}={amount!r} is not a whole number of 0 or more")


INPUT_BUCKETS = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "tool_input_tokens",
    "audio_input_tokens",
    "audio_cache_read_tokens",
    "image_input_tokens",
    "image_cache_read_tokens",
    "video_input_tokens",
    "video_cache_read_tokens",
)
OUTPUT_BUCKETS = (
    "output_tokens",
    "reasoning_tokens",
    "citation_tokens",
    "audio_output_tokens",
    "image_output_tokens",
)
UNIT_BUCKETS = tuple(
    field.name for field in fields(Usage) if field.name not in INPUT_BUCKETS + OUTPUT_BUCKETS
)
BUCKETS = INPUT_BUCKETS + OUTPUT_BUCKETS + UNIT_BUCKETS

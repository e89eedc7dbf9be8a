"""What the usage object of an answer says, as amounts that `usage.to_usage` takes.

Beyond what instrumentations hand on, which is in `documents.py`: what stands in lists or deeper, and what
one provider counts unlike the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from otel_cost import documents

Json = Mapping[str, Any]
Amounts = dict[str, object]

_INPUT = {
    "audio": "audio_input_tokens",
    "image": "image_input_tokens",
    "document": "image_input_tokens",
    "video": "video_input_tokens",
}
_CACHED = {
    "audio": "audio_cache_read_tokens",
    "image": "image_cache_read_tokens",
    "document": "image_cache_read_tokens",
    "video": "video_cache_read_tokens",
}
_OUTPUT = {"audio": "audio_output_tokens", "image": "image_output_tokens"}


def amounts(usage: Json) -> Amounts:
    """Return the amounts in a provider's own usage object, whichever provider it is."""
    found = documents.provider_usage(usage)
    for key in usage.keys() & _READERS.keys():
        _READERS[key](usage, found)
    return found


def service_tier(usage: Json) -> str:
    """Return the tier that a usage object names: Anthropic's fast mode is dearer whatever its tier is.

    https://platform.claude.com/docs/en/build-with-claude/fast-mode (2026-11)
    """
    return "fast" if usage.get("speed") == "fast" else ""


def _by_modality(key: str, names: Mapping[str, str]) -> Callable[[Json, Amounts], None]:
    """Google's lists: https://ai.google.dev/api/generate-content#ModalityTokenCount."""

    def read(usage: Json, found: Amounts) -> None:
        for entry in documents.objects(usage[key]):
            name = names.get(str(entry.get("modality")).lower())
            count = entry.get("tokenCount", entry.get("tokens"))
            if name and type(count) is int:
                before = found.get(name)
                found[name] = count + (before if type(before) is int else 0)

    return read


def _cache_lifetimes(usage: Json, found: Amounts) -> None:
    """https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_CacheDetail.html."""
    for entry in documents.objects(usage["cacheDetails"]):
        if entry.get("ttl") == "1h":
            found["cache_write_1h_tokens"] = entry.get("inputTokens")


def _google(usage: Json, found: Amounts) -> None:
    """Google leaves out what is 0, and counts thoughts and what tools gave beside output and input."""
    found.setdefault("output_tokens", 0)
    parts = ("input_tokens", "output_tokens", "reasoning_tokens", "tool_input_tokens")
    found.setdefault("total_tokens", _sum(found.get(name) for name in parts))


def _google_searches(usage: Json, found: Amounts) -> None:
    """https://ai.google.dev/api/interactions-api#Resource:Usage."""
    for entry in documents.objects(usage["grounding_tool_count"]):
        if entry.get("type") == "google_search":
            found["web_searches"] = entry.get("count")


def _perplexity_chat(usage: Json, found: Amounts) -> None:
    """Reasoning and citations are beside the completion: https://docs.perplexity.ai/docs/getting-started/pricing."""
    found["web_searches"] = usage.get("num_search_queries")
    beside = {name: usage.get(name) for name in ("reasoning_tokens", "citation_tokens")}
    found.update({**beside, "output_tokens": _sum((found.get("output_tokens"), *beside.values()))})
    found.pop("total_tokens", None)  # leaves them out


def _perplexity_responses(usage: Json, found: Amounts) -> None:
    """https://docs.perplexity.ai/api-reference/responses-post."""
    details = usage["tool_calls_details"]
    search = details.get("search_web") if isinstance(details, Mapping) else None
    if isinstance(search, Mapping):
        found["web_searches"] = search.get("invocation")


def _nova_cache(usage: Json, found: Amounts) -> None:
    """Amazon's own models, invoked: https://docs.aws.amazon.com/nova/latest/userguide/complete-request-schema.html."""
    read, written = usage["cacheReadInputTokenCount"], usage.get("cacheWriteInputTokenCount", 0)
    found["cache_read_tokens"], found["cache_write_tokens"] = read, written
    found["input_tokens"] = _sum((found.get("input_tokens"), read, written))
    found.pop("total_tokens", None)  # leaves them out


def _reranked(usage: Json, found: Amounts) -> None:
    """https://docs.cohere.com/reference/rerank: the units it bills."""
    found["rerank_searches"] = usage["search_units"]


def _seconds(usage: Json, found: Amounts) -> None:
    """A transcription billed by its length: https://platform.openai.com/docs/api-reference/audio/json-object."""
    if usage.get("type") == "duration":
        found["audio_seconds"] = usage["seconds"]


_READERS: dict[str, Callable[[Json, Amounts], None]] = {
    **{key: _by_modality(key, _INPUT) for key in ("promptTokensDetails", "input_tokens_by_modality")},
    **{key: _by_modality(key, _CACHED) for key in ("cacheTokensDetails", "cached_tokens_by_modality")},
    **{key: _by_modality(key, _OUTPUT) for key in ("candidatesTokensDetails", "output_tokens_by_modality")},
    "cacheDetails": _cache_lifetimes,
    "promptTokenCount": _google,
    "total_input_tokens": _google,
    "grounding_tool_count": _google_searches,
    "num_search_queries": _perplexity_chat,
    "tool_calls_details": _perplexity_responses,
    "cacheReadInputTokenCount": _nova_cache,
    "search_units": _reranked,
    "seconds": _seconds,
}


def _sum(counts: Iterable[object]) -> int:
    return sum(count for count in counts if isinstance(count, int))

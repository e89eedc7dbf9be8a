"""Usage that emitters leave inside JSON documents, as the same reported amounts plain attributes give.

A reported amount is counted as its emitter counts it: totals still contain their parts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from otel_cost import attributes as names

Reported = dict[str, object]

Path = tuple[str, ...]

# Where each amount stands in the usage object of OpenAI (chat, responses, images, transcriptions), Anthropic,
# Gemini (generateContent, interactions), Bedrock Converse, Mistral, DeepSeek, Perplexity and OpenRouter.
# https://platform.openai.com/docs/api-reference/chat/object, https://docs.claude.com/en/api/messages,
# https://ai.google.dev/api/generate-content#UsageMetadata, https://ai.google.dev/api/interactions-api,
# https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html
PROVIDER_USAGE: dict[str, tuple[Path, ...]] = {
    "input_tokens": (
        ("prompt_tokens",),
        ("input_tokens",),
        ("promptTokenCount",),
        ("inputTokens",),
        ("total_input_tokens",),
    ),
    "output_tokens": (
        ("completion_tokens",),
        ("output_tokens",),
        ("candidatesTokenCount",),
        ("outputTokens",),
        ("total_output_tokens",),
    ),
    "total_tokens": (("total_tokens",), ("totalTokenCount",), ("totalTokens",)),
    "cache_read_tokens": (
        ("prompt_tokens_details", "cached_tokens"),
        ("input_tokens_details", "cached_tokens"),
        ("cache_read_input_tokens",),
        ("cachedContentTokenCount",),
        ("cacheReadInputTokens",),
        ("prompt_cache_hit_tokens",),
        ("input_tokens_details", "cache_read_input_tokens"),
        ("total_cached_tokens",),
    ),
    "cache_write_tokens": (
        ("cache_creation_input_tokens",),
        ("cacheWriteInputTokens",),
        ("prompt_tokens_details", "cache_write_tokens"),
        ("input_tokens_details", "cache_write_tokens"),
    ),
    "cache_write_1h_tokens": (("cache_creation", "ephemeral_1h_input_tokens"),),
    "cache_write_5m_tokens": (("cache_creation", "ephemeral_5m_input_tokens"),),
    "reasoning_tokens": (
        ("completion_tokens_details", "reasoning_tokens"),
        ("output_tokens_details", "reasoning_tokens"),
        ("thoughtsTokenCount",),
        ("output_tokens_details", "thinking_tokens"),
        ("total_thought_tokens",),
    ),
    "audio_input_tokens": (
        ("prompt_tokens_details", "audio_tokens"),
        ("input_tokens_details", "audio_tokens"),
        ("input_token_details", "audio_tokens"),
    ),
    "audio_output_tokens": (("completion_tokens_details", "audio_tokens"),),
    "image_input_tokens": (("input_tokens_details", "image_tokens"),),
    "image_output_tokens": (
        ("completion_tokens_details", "image_tokens"),
        ("output_tokens_details", "image_tokens"),
    ),
    "tool_input_tokens": (("toolUsePromptTokenCount",), ("total_tool_use_tokens",)),
    "web_searches": (("server_tool_use", "web_search_requests"),),
}
EXCLUSIVE_CACHE_KEYS = frozenset(
    {
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
        "cacheReadInputTokens",
        "cacheWriteInputTokens",
    }
)
"""Their presence says that the provider's own input leaves cached tokens out (Anthropic, Bedrock)."""

LANGSMITH_DETAILS: dict[str, tuple[str, ...]] = {
    "cache_read_tokens": ("cache_read",),
    "cache_write_tokens": ("cache_creation",),
    "cache_write_1h_tokens": ("ephemeral_1h_input_tokens",),
    "cache_write_5m_tokens": ("ephemeral_5m_input_tokens",),
    "audio_input_tokens": ("audio",),
}
LANGSMITH_OUTPUT_DETAILS: dict[str, tuple[str, ...]] = {
    "reasoning_tokens": ("reasoning",),
    "audio_output_tokens": ("audio",),
}
LANGFUSE_DETAILS: dict[str, tuple[str, ...]] = {
    "input_tokens": ("input", "prompt_tokens", "input_tokens"),
    "output_tokens": ("output", "completion_tokens", "output_tokens"),
    "total_tokens": ("total", "total_tokens"),
    "cache_read_tokens": (
        "input_cache_read",
        "input_cached_tokens",
        "cache_read_input_tokens",
        "cache_read_tokens",
        "prompt_tokens_details.cached_tokens",
        "input_tokens_details.cached_tokens",
    ),
    "cache_write_tokens": (
        "input_cache_creation",
        "cache_creation_input_tokens",
        "input_cache_write",
        "cache_write_tokens",
        "prompt_tokens_details.cache_write_tokens",
        "input_tokens_details.cache_write_tokens",
    ),
    "reasoning_tokens": (
        "output_reasoning",
        "output_reasoning_tokens",
        "reasoning_tokens",
        "completion_tokens_details.reasoning_tokens",
        "output_tokens_details.reasoning_tokens",
    ),
    "audio_input_tokens": ("input_audio", "input_audio_tokens", "prompt_tokens_details.audio_tokens"),
    "audio_output_tokens": ("output_audio", "output_audio_tokens", "completion_tokens_details.audio_tokens"),
}
"""Langfuse's own flat keys, and OpenAI's usage object, which its OpenAI wrapper passes on as it is."""


_JSON = json.JSONDecoder()


def read_json(text: str) -> Any:
    """Return what a text says, as `json.loads` does, which looks for blanks around it twice and slowly.

    Raises:
        ValueError: It is not JSON.
        RecursionError: It is too deep.
    """
    text = text.strip(" \t\n\r")
    document, end = _JSON.raw_decode(text)
    if end != len(text):
        raise ValueError(f"there is more after the document, from character {end} on")
    return document


def parse(text: object) -> dict[str, Any]:
    """Return the JSON object in an attribute; empty when it is none."""
    if isinstance(text, Mapping):
        return dict(text)
    if not isinstance(text, str) or not text.startswith("{"):
        return {}
    try:
        document = read_json(text)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


_PLACES: dict[str, list[tuple[int, str, str]]] = {}
"""What `PROVIDER_USAGE` has below a key: how trusted it is, which amount, and the key inside if any."""
for _name, _paths in PROVIDER_USAGE.items():
    for _rank, (_key, *_inside) in enumerate(_paths):
        _PLACES.setdefault(_key, []).append((_rank, _name, "".join(_inside)))


def provider_usage(document: Mapping[str, Any]) -> Reported:
    """Return the amounts in a provider's own usage object, whichever provider it is."""
    reported: Reported = {}
    for name, key, inside in _places(tuple(document)):
        value = document[key]
        if inside:
            value = value.get(inside) if isinstance(value, dict) else None
        if value is not None:
            reported[name] = value
    return reported


@lru_cache(maxsize=256)
def _places(keys: tuple[str, ...]) -> tuple[tuple[str, str, str], ...]:
    """Return where a usage object with these keys may hold which amount, the most trusted place last."""
    found = [(-rank, name, key, inside) for key in keys for rank, name, inside in _PLACES.get(key, ())]
    return tuple((name, key, inside) for _, name, key, inside in sorted(found))


def input_excludes_cache(document: Mapping[str, Any]) -> bool:
    """Tell whether a provider's own usage object counts input without cached tokens."""
    return not EXCLUSIVE_CACHE_KEYS.isdisjoint(document) and "prompt_tokens" not in document


DETAILS = frozenset(
    {
        names.INPUT_TOKEN_DETAILS,
        names.OUTPUT_TOKEN_DETAILS,
        names.LANGFUSE_USAGE_DETAILS,
        names.PROVIDER_METADATA,
    }
)
"""JSON attributes in which LangSmith, Langfuse and the Vercel AI SDK keep amounts."""


def details(attributes: Mapping[str, Any]) -> Reported:
    """Return the amounts that LangSmith, Langfuse and the Vercel AI SDK keep in JSON attributes."""
    return {
        **_vercel_metadata(attributes),
        **_pick(parse(attributes.get(names.INPUT_TOKEN_DETAILS)), LANGSMITH_DETAILS),
        **_pick(parse(attributes.get(names.OUTPUT_TOKEN_DETAILS)), LANGSMITH_OUTPUT_DETAILS),
        **_pick(_flat(parse(attributes.get(names.LANGFUSE_USAGE_DETAILS))), LANGFUSE_DETAILS),
    }


def _vercel_metadata(attributes: Mapping[str, Any]) -> Reported:
    """Anthropic's cache writes stand nowhere else."""
    anthropic = parse(attributes.get(names.PROVIDER_METADATA)).get("anthropic")
    written = anthropic.get("cacheCreationInputTokens") if isinstance(anthropic, dict) else None
    return {} if written is None else {"cache_write_tokens": written}


def vercel_service_tier(attributes: Mapping[str, Any]) -> str:
    """Return the service tier in the Vercel AI SDK's provider metadata, or an empty string."""
    openai = parse(attributes.get(names.PROVIDER_METADATA)).get("openai")
    tier = openai.get("serviceTier") if isinstance(openai, dict) else None
    return tier if isinstance(tier, str) else ""


def _flat(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document with the members of inner objects beside their parents: `outer.inner`."""
    inner = {
        f"{name}.{key}": value
        for name, held in document.items()
        if isinstance(held, dict)
        for key, value in held.items()
    }
    return {**document, **inner}


def _pick(document: Mapping[str, Any], table: Mapping[str, tuple[str, ...]]) -> Reported:
    picked: Reported = {}
    for name, keys in table.items():
        found = next((document[key] for key in keys if document.get(key) is not None), None)
        if found is not None:
            picked[name] = found
    return picked


def objects(value: Any) -> list[dict[str, Any]]:
    """Return the JSON objects in a list; none of what is no list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def at(document: Any, path: Path) -> Any:
    """Return what stands at a path of keys; None where nothing does."""
    for key in path:
        document = document.get(key) if isinstance(document, dict) else None
    return document

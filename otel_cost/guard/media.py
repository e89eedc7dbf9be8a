"""What calls are billed for that make no text: images, speech, videos, an order of documents.

Their answers seldom say what they used, so what was asked for is held, and counts where they do not.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from otel_cost.guard.calls import IMAGES, MEDIA, RERANK, SPEECH, VIDEOS, ModelCall
from otel_cost.usage import Usage

IMAGE_TOKENS = 6_240
"""Of the largest image in high quality.
https://platform.openai.com/docs/guides/image-generation (2026-11)"""
SPEECH_TOKENS_PER_CHARACTER = 2
"""Speech has some 15 characters a second, and 20 tokens: 1.5 cents a minute at 12 USD a million tokens.
https://platform.openai.com/docs/models/gpt-4o-mini-tts (2026-11). Slow speech has more."""
VIDEO_TOKENS = 32_768
"""Taken for a video, which is billed by the second: some 2.5 USD where no price is known."""
DOCUMENTS_PER_SEARCH = 100
DOCUMENT_BYTES = 500
"""A longer one counts as several; in tokens there: https://docs.cohere.com/docs/rerank-overview (2026-11)."""


NOTHING = Usage()


def asked(call: ModelCall) -> Usage:
    """Return the units that a call asks for; none for one that makes text."""
    if call.api.name not in MEDIA:
        return NOTHING
    if call.api.name == IMAGES:
        images = call.answers
        return Usage(image_output_tokens=images * IMAGE_TOKENS, images=images)
    if call.api.name == SPEECH:
        characters = _length(call.body.get("input"))
        return Usage(audio_output_tokens=characters * SPEECH_TOKENS_PER_CHARACTER, characters=characters)
    if call.api.name == VIDEOS:
        return Usage(output_tokens=call.answers * VIDEO_TOKENS)
    assert call.api.name == RERANK  # the last of them
    documents = call.body.get("documents")
    count = len(documents) if isinstance(documents, list) else 0
    return Usage(rerank_searches=1 + (count + len(call.prompt) // DOCUMENT_BYTES) // DOCUMENTS_PER_SEARCH)


_SPEAKS = re.compile(r"audio|tts|live|speech|realtime")
_DRAWS = re.compile(r"image|banana")


@lru_cache(maxsize=512)
def output_kinds(model: str) -> tuple[str, ...]:
    """Return the buckets that the output of a model may be of, beside text, by its name."""
    kinds = []
    if _SPEAKS.search(model):
        kinds.append("audio_output_tokens")
    if _DRAWS.search(model):
        kinds.append("image_output_tokens")
    return tuple(kinds)


def _length(text: Any) -> int:
    return len(text) if isinstance(text, str) else 0

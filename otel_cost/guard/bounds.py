"""How much a call can cost before it is sent: input and output tokens, bounded and learnt.

A token covers at least one byte of text, so the bytes of a prompt bound its tokens. What a model's own
answers report makes the bound tighter: the most tokens per byte seen so far, with a margin.
"""

from __future__ import annotations

import math
import re
import threading
from collections import OrderedDict
from typing import NamedTuple

from otel_cost.guard.calls import EMBEDDINGS, ModelCall

MARGIN = 1.5
"""Times the most tokens per byte seen: prose has 0.2 to 0.3, code 0.4, base64 and rare scripts up to 0.8."""
MIN_SAMPLES = 5
"""Answers needed before what was learnt is used."""
TYPICAL_TOKENS_PER_BYTE = 0.3
"""Used for an estimate before anything is learnt."""
OVERHEAD_TOKENS = 400
"""What a provider adds that is not in the request: message marks, and 313 to 346 for Anthropic's tools
(https://docs.claude.com/en/docs/agents-and-tools/tool-use/overview, 2026-11)."""
MEDIA_TOKENS = 2_000
"""Least bound of a file: the largest image is 1,600 tokens at Anthropic, 1,445 at OpenAI."""
MEDIA_BYTES_PER_TOKEN = 8
"""Bytes of a file for each of its tokens at most: dense pages of a PDF come to some 25 bytes a token."""
UNLIMITED_OUTPUT_TOKENS = 32_768
"""Output bound of a request without a limit: beyond what any call of the recorded agents wrote."""
TYPICAL_OUTPUT_TOKENS = 1_024
"""Used for an estimate before anything is learnt."""
MAX_MODELS = 512
BYTES_PER_OUTPUT_TOKEN = 4.0
"""Of streamed text before anything is learnt; English has 4 to 5, most other scripts 2 to 3."""
_PLAUSIBLE_BYTES_PER_TOKEN = (1.5, 8.0)


_THINKING = re.compile(
    r"(?:^|[/.:_-])(?:o[1-9]\b|gpt-5|gpt-oss|deepseek-(?:reasoner|r1)|qwq|grok-(?:3-mini|4)|magistral)|thinking",
    re.IGNORECASE,
)


def thinks(model: str) -> bool:
    """Whether a model writes tokens that are billed and not sent, so that its text does not tell its output.

    https://platform.openai.com/docs/guides/reasoning: reasoning tokens are billed as output tokens.
    """
    return bool(_THINKING.search(model))


class Bound(NamedTuple):
    """Tokens of a call.

    Attributes:
        input_tokens: Of the prompt; a cached share is not assumed.
        output_tokens: Of all answers together.
    """

    input_tokens: int
    output_tokens: int


class _Learnt:
    """What the answers of one model taught: a histogram of output sizes, and the most tokens per byte."""

    __slots__ = ("answers", "buckets", "text_bytes", "text_tokens", "tokens_per_byte")

    def __init__(self) -> None:
        self.answers = self.text_bytes = self.text_tokens = 0
        self.tokens_per_byte = 0.0
        self.buckets = [0] * 32

    def learn(self, prompt_bytes: int, input_tokens: int, output_tokens: int, text: tuple[int, int]) -> None:
        self.answers += 1
        self.text_bytes += text[0]
        self.text_tokens += text[1]
        if prompt_bytes:
            ratio = max(0, input_tokens - OVERHEAD_TOKENS) / prompt_bytes
            self.tokens_per_byte = max(self.tokens_per_byte, ratio)
        self.buckets[min(output_tokens.bit_length(), 31)] += 1

    def output_p99(self) -> int:
        """Return a size that 99 of 100 answers did not pass, rounded up to a power of two."""
        left = self.answers // 100
        for bits in range(31, -1, -1):
            left -= self.buckets[bits]
            if left < 0:
                return 1 << bits
        return 1


class Bounds:
    """Bounds calls, and learns from their answers. A few hundred bytes a model."""

    def __init__(self) -> None:
        self._learnt: OrderedDict[tuple[str, str], _Learnt] = OrderedDict()
        self._lock = threading.Lock()

    def worst(self, call: ModelCall) -> Bound:
        """Return what a call can use at most, its own output limit believed."""
        learnt = self._learnt.get((call.provider, call.model))
        is_known = learnt is not None and learnt.answers >= MIN_SAMPLES
        ratio = min(1.0, learnt.tokens_per_byte * MARGIN) if learnt is not None and is_known else 1.0
        output = UNLIMITED_OUTPUT_TOKENS if call.output_limit is None else call.output_limit
        return _bound(call, ratio, output)

    def likely(self, call: ModelCall) -> Bound:
        """Return what a call will hardly pass, going by what the model answered before."""
        learnt = self._learnt.get((call.provider, call.model))
        ratio, output = TYPICAL_TOKENS_PER_BYTE, TYPICAL_OUTPUT_TOKENS
        if learnt is not None and learnt.answers >= MIN_SAMPLES:
            ratio, output = min(1.0, learnt.tokens_per_byte), learnt.output_p99()
        if call.output_limit is not None:
            output = min(output, call.output_limit)
        return _bound(call, ratio, output)

    def has_learnt(self, call: ModelCall) -> bool:
        """Whether enough answers of the model were seen to tell what is likely."""
        learnt = self._learnt.get((call.provider, call.model))
        return learnt is not None and learnt.answers >= MIN_SAMPLES

    def text_tokens(self, call: ModelCall, text_bytes: int) -> int:
        """Return about how many tokens a text that a model wrote is."""
        learnt = self._learnt.get((call.provider, call.model))
        each = BYTES_PER_OUTPUT_TOKEN
        if learnt is not None and learnt.answers >= MIN_SAMPLES and learnt.text_tokens:
            low, high = _PLAUSIBLE_BYTES_PER_TOKEN
            each = min(max(learnt.text_bytes / learnt.text_tokens, low), high)
        return math.ceil(text_bytes / each)

    def learn(
        self, call: ModelCall, input_tokens: int, output_tokens: int, text: tuple[int, int] = (0, 0)
    ) -> None:
        """Remember what an answer used; `text` is the bytes and the tokens of what it wrote to be read."""
        prompt_bytes = 0 if call.files else call.prompt_bytes
        with self._lock:
            learnt = self._learnt.setdefault((call.provider, call.model), _Learnt())
            learnt.learn(prompt_bytes, input_tokens, output_tokens, text)
            if len(self._learnt) > MAX_MODELS:
                self._learnt.popitem(last=False)


def _bound(call: ModelCall, tokens_per_byte: float, output_tokens: int) -> Bound:
    text = math.ceil(call.prompt_bytes * tokens_per_byte)
    files = max(call.files * MEDIA_TOKENS, call.file_bytes // MEDIA_BYTES_PER_TOKEN)
    return Bound(text + files + OVERHEAD_TOKENS, 0 if call.api.name == EMBEDDINGS else output_tokens)

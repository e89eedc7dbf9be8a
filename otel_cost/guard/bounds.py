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

from otel_cost.guard.answers import NO_TEXT, Text
from otel_cost.guard.calls import CHAT, COMPLETIONS, EMBEDDINGS, OLLAMA, RESPONSES, ModelCall

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
_EVENT_IS_TOKEN = frozenset({CHAT, COMPLETIONS, OLLAMA, RESPONSES})
"""APIs whose streams bring a token with each event, unless events are longer than a token is."""
_MAX_TOKEN_BYTES = 8


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


class _Rate:
    """Tokens for each byte, or each event, of streamed text, and how steady they were."""

    __slots__ = ("highest", "lowest", "tokens", "units")

    def __init__(self) -> None:
        self.units = self.tokens = 0
        self.lowest, self.highest = math.inf, 0.0

    def learn(self, units: int, tokens: int) -> None:
        self.units += units
        self.tokens += tokens
        self.lowest, self.highest = min(self.lowest, tokens / units), max(self.highest, tokens / units)

    def spread(self) -> float:
        return self.highest / self.lowest


class _Learnt:
    """What the answers of one model taught: a histogram of output sizes, tokens for each byte and event."""

    __slots__ = (
        "answers",
        "buckets",
        "input_tokens",
        "per_byte",
        "per_event",
        "prompt_bytes",
        "tokens_per_byte",
    )

    def __init__(self) -> None:
        self.answers = self.prompt_bytes = self.input_tokens = 0
        self.tokens_per_byte = 0.0
        self.per_byte, self.per_event = _Rate(), _Rate()
        self.buckets = [0] * 32

    def learn(
        self, prompt_bytes: int, input_tokens: int, output_tokens: int, text: Text, tokens: int
    ) -> None:
        self.answers += 1
        if prompt_bytes:
            self.prompt_bytes += prompt_bytes
            self.input_tokens += input_tokens
            ratio = max(0, input_tokens - OVERHEAD_TOKENS) / prompt_bytes
            self.tokens_per_byte = max(self.tokens_per_byte, ratio)
        if text.events and text.bytes and tokens:
            self.per_byte.learn(text.bytes, tokens)
            self.per_event.learn(text.events, tokens)
        self.buckets[min(output_tokens.bit_length(), 31)] += 1

    def text_tokens(self, text: Text) -> float:
        """Return the tokens of a text by what was steadier: those of a byte, or those of an event."""
        by_event, by_byte = self.per_event, self.per_byte
        if by_event.spread() < by_byte.spread():
            return text.events * by_event.tokens / by_event.units
        low, high = _PLAUSIBLE_BYTES_PER_TOKEN
        return text.bytes / min(max(by_byte.units / by_byte.tokens, low), high)

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

    def after_fork(self) -> None:
        """Take a new lock, as the guard does."""
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

    def usual_input(self, call: ModelCall) -> int:
        """Return about how many tokens a prompt is, going by the mean of earlier ones."""
        learnt, ratio = self._learnt.get((call.provider, call.model)), TYPICAL_TOKENS_PER_BYTE
        if learnt is not None and learnt.prompt_bytes:
            ratio = learnt.input_tokens / learnt.prompt_bytes
        return math.ceil(call.prompt_bytes * ratio) + _file_tokens(call)

    def text_tokens(self, call: ModelCall, text: Text) -> int:
        """Return about how many tokens a text is that a model wrote."""
        learnt = self._learnt.get((call.provider, call.model))
        if learnt is not None and learnt.answers >= MIN_SAMPLES and learnt.per_byte.units:
            return math.ceil(learnt.text_tokens(text))
        if call.api.name in _EVENT_IS_TOKEN and text.bytes <= text.events * _MAX_TOKEN_BYTES:
            return text.events
        return max(text.events, math.ceil(text.bytes / BYTES_PER_OUTPUT_TOKEN))

    def learn(
        self,
        call: ModelCall,
        input_tokens: int,
        output_tokens: int,
        text: Text = NO_TEXT,
        text_tokens: int = 0,
    ) -> None:
        """Remember what an answer used; `text` is what it wrote to be read, where it was streamed."""
        prompt_bytes = 0 if call.files else call.prompt_bytes
        with self._lock:
            learnt = self._learnt.setdefault((call.provider, call.model), _Learnt())
            learnt.learn(prompt_bytes, input_tokens, output_tokens, text, text_tokens)
            if len(self._learnt) > MAX_MODELS:
                self._learnt.popitem(last=False)


def _file_tokens(call: ModelCall) -> int:
    return max(call.files * MEDIA_TOKENS, call.file_bytes // MEDIA_BYTES_PER_TOKEN)


def _bound(call: ModelCall, tokens_per_byte: float, output_tokens: int) -> Bound:
    text = math.ceil(call.prompt_bytes * tokens_per_byte)
    inputs = text + _file_tokens(call) + OVERHEAD_TOKENS
    return Bound(inputs, 0 if call.api.name == EMBEDDINGS else output_tokens)

"""How much a call can cost before it is sent: input and output tokens, bounded and learnt.

A token covers at least one byte of text, so the bytes of a prompt bound its tokens. What a model's own
answers report makes the bound better: what the same conversation was counted as before, and how dear the
model's tokenizer is.
"""

from __future__ import annotations

import math
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

from otel_cost.guard.answers import NO_TEXT, Text
from otel_cost.guard.calls import (
    BATCH,
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    MEDIA,
    OLLAMA,
    RESPONSES,
    ModelCall,
)
from otel_cost.guard.media import NOTHING, asked
from otel_cost.guard.prompts import SEAM_TOKENS, Sketch, least_most_tokens, most_tokens, new_part, sketch
from otel_cost.guard.searches import NONE, Allowed, allowed
from otel_cost.usage import Usage

MARGIN = 1.1
"""Times the most tokens that a model was seen to make of a prompt, where its tokenizer is dearer than those
that `prompts.most_tokens` was measured with."""
MIN_SAMPLES = 5
"""Answers needed before what was learnt is used."""
TYPICAL_TOKENS_PER_BYTE = 0.3
"""Used for an estimate before anything is learnt."""
OVERHEAD_TOKENS = 400
"""What a provider adds that is not in the request: message marks, and 313 to 346 for Anthropic's tools
(https://docs.claude.com/en/docs/agents-and-tools/tool-use/overview, 2026-11)."""
MEDIA_TOKENS = 2_000
"""Least bound of a file: the largest image is 1,600 tokens at Anthropic, 1,445 at OpenAI."""
_DEAR_IMAGES = {"gpt-4o-mini": 25_501}
"""Of the largest image: 2,833 tokens and 5,667 for each of four tiles.
https://platform.openai.com/docs/guides/images-vision (2026-11)"""
MEDIA_BYTES_PER_TOKEN = 8
"""Bytes of a file for each of its tokens at most: dense pages of a PDF come to some 25 bytes a token."""
UNLIMITED_OUTPUT_TOKENS = 32_768
"""Output bound of a request without a limit: beyond what any call of the recorded agents wrote."""
TYPICAL_OUTPUT_TOKENS = 1_024
"""Used for an estimate before anything is learnt."""
MAX_MODELS = 512
MAX_CONVERSATIONS = 2_048
"""Conversations whose last prompt is remembered, at some 3 kB each."""
MAX_HISTORIES = 4_096
"""Histories kept by providers whose size is remembered."""
UNKNOWN_HISTORY_TOKENS = 200_000
"""Taken for a history that the provider keeps and nobody here has seen grow: the context of most models."""
BYTES_PER_OUTPUT_TOKEN = 4.0
"""Of streamed text before anything is learnt; English has 4 to 5, most other scripts 2 to 3."""
_PLAUSIBLE_BYTES_PER_TOKEN = (1.5, 8.0)
_EVENT_IS_TOKEN = frozenset({CHAT, COMPLETIONS, OLLAMA, RESPONSES})
"""APIs whose streams bring a token with each event, unless events are longer than a token is."""
_MAX_TOKEN_BYTES = 8

K = TypeVar("K")
V = TypeVar("V")

_THINKING = re.compile(
    r"(?:^|[/.:_-])(?:o[1-9]\b|gpt-5|gpt-oss|deepseek-(?:reasoner|r1)|qwq|grok-(?:3-mini|4)|magistral)|thinking",
    re.IGNORECASE,
)


def thinks(model: str) -> bool:
    """Whether a model writes tokens that are billed and not sent, so that its text does not tell its output.

    https://platform.openai.com/docs/guides/reasoning: reasoning tokens are billed as output tokens.
    """
    return bool(_THINKING.search(model))


def asks_to_think(body: Mapping[str, Any]) -> bool:
    """Whether a request asks for thoughts, of which the answer shows a summary or nothing.

    https://platform.claude.com/docs/en/build-with-claude/extended-thinking (2026-11)
    """
    thinking = body.get("thinking")
    return isinstance(thinking, dict) and thinking.get("type") in ("enabled", "adaptive")


class Bound(NamedTuple):
    """What a call can use.

    Attributes:
        input_tokens: Of the prompt; a cached share is not assumed.
        output_tokens: Of all answers together.
        others: What else is billed: searches, whose findings are in `input_tokens`, and what is no text.
    """

    input_tokens: int
    output_tokens: int
    others: Usage = NOTHING

    @property
    def usage(self) -> Usage:
        """All of it, as usage."""
        if self.others is NOTHING:
            return Usage(input_tokens=self.input_tokens, output_tokens=self.output_tokens)
        output = self.output_tokens + self.others.output_tokens
        return self.others._replace(input_tokens=self.input_tokens, output_tokens=output)


class _Rate:
    """Tokens for each byte, or each event, of streamed text, and how steady they were."""

    __slots__ = ("highest", "lowest", "tokens", "units")

    def __init__(self) -> None:
        self.units = self.tokens = 0
        self.lowest, self.highest = math.inf, 0.0

    def learn(self, units: int, tokens: int) -> None:
        self.units += units
        self.tokens += tokens
        rate = tokens / units
        self.lowest, self.highest = min(self.lowest, rate), max(self.highest, rate)

    def spread(self) -> float:
        return self.highest / self.lowest


class _Learnt:
    """What the answers of one model taught: sizes of prompts and answers, tokens for each byte and event."""

    __slots__ = (
        "answers",
        "buckets",
        "input_tokens",
        "per_byte",
        "per_event",
        "prompt_bytes",
        "prompts",
        "tokens_per_byte",
        "tokens_per_most",
    )

    def __init__(self) -> None:
        self.answers = self.prompts = self.prompt_bytes = self.input_tokens = 0
        self.tokens_per_byte = self.tokens_per_most = 0.0
        self.per_byte, self.per_event = _Rate(), _Rate()
        self.buckets = [0] * 32

    def learn_prompt(self, prompt: bytes, input_tokens: int) -> None:
        self.prompts += 1
        self.prompt_bytes += len(prompt)
        self.input_tokens += input_tokens
        self.tokens_per_byte = max(self.tokens_per_byte, input_tokens / len(prompt))
        counted = max(0, input_tokens - OVERHEAD_TOKENS)
        if counted * MARGIN > least_most_tokens(len(prompt)):  # else it is no dearer than was measured
            self.tokens_per_most = max(self.tokens_per_most, counted / most_tokens(prompt))

    def learn_answer(self, output_tokens: int, text: Text, text_tokens: int) -> None:
        self.answers += 1
        if text.events and text.bytes and text_tokens:
            self.per_byte.learn(text.bytes, text_tokens)
            self.per_event.learn(text.events, text_tokens)
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


class _Counted(NamedTuple):
    """A prompt of a conversation, and the tokens the provider counted."""

    sketch: Sketch
    input_tokens: int


class Bounds:
    """Bounds calls, and learns from their answers: some 300 bytes a model, 3 kB a conversation."""

    def __init__(self) -> None:
        self._learnt: OrderedDict[tuple[str, str], _Learnt] = OrderedDict()
        self._counted: OrderedDict[tuple[str, str, int], _Counted] = OrderedDict()
        self._histories: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.RLock()

    def after_fork(self) -> None:
        """Take a new lock, as the guard does."""
        self._lock = threading.RLock()

    def worst(self, call: ModelCall, conversation: int = 0) -> Bound:
        """Return what a call can use at most, its own output limit believed.

        Args:
            conversation: What tells conversations apart; 0 where it is not known.
        """
        prompt, text = call.prompt, len(call.prompt)  # a token has a byte at least
        learnt = self._learnt.get((call.provider, call.model))
        dearness = max(1.0, learnt.tokens_per_most * MARGIN) if learnt else 1.0
        if counted := self._before(call, conversation):
            added = _most(new_part(prompt, counted.sketch), dearness)
            text = counted.input_tokens + added + SEAM_TOKENS
        if text > least_most_tokens(len(prompt)):
            text = min(text, _most(prompt, dearness))
        output = call.output_limit
        if output is None:
            output = UNLIMITED_OUTPUT_TOKENS * (call.answers if call.api.name == BATCH else 1)
        text += call.references * UNKNOWN_HISTORY_TOKENS
        if call.has_text_files:
            text += call.file_bytes * 3 // 4  # in base64; a byte may be a token
        return _bound(call, text + self._kept(call), output, call.searches)

    def likely(self, call: ModelCall, conversation: int = 0) -> Bound:
        """Return what a call will hardly pass, going by what the model answered before."""
        if call.api.name == BATCH:
            return self.worst(call)
        learnt = self._learnt.get((call.provider, call.model))
        ratio, output = TYPICAL_TOKENS_PER_BYTE, TYPICAL_OUTPUT_TOKENS
        if learnt is not None and learnt.prompts >= MIN_SAMPLES:
            ratio = min(1.0, learnt.tokens_per_byte)
        if learnt is not None and learnt.answers >= MIN_SAMPLES:
            output = learnt.output_p99()
        if call.output_limit is not None:
            output = min(output, call.output_limit)
        text = len(call.prompt) * ratio
        if counted := self._before(call, conversation):
            text = counted.input_tokens + len(new_part(call.prompt, counted.sketch)) * ratio
        searches = allowed(call.body, call.model, 1) if call.searches is not NONE else NONE
        return _bound(call, math.ceil(text) + self._kept(call), output, searches)

    def has_learnt(self, call: ModelCall) -> bool:
        """Whether enough answers of the model were seen to tell what is likely."""
        learnt = self._learnt.get((call.provider, call.model))
        return learnt is not None and learnt.answers >= MIN_SAMPLES

    def usual_input(self, call: ModelCall, conversation: int = 0) -> int:
        """Return about how many tokens a prompt is: as those before in its conversation, else as the mean."""
        learnt, ratio = self._learnt.get((call.provider, call.model)), TYPICAL_TOKENS_PER_BYTE
        if learnt is not None and learnt.prompt_bytes:
            ratio = learnt.input_tokens / learnt.prompt_bytes
        text = len(call.prompt) * ratio
        if counted := self._before(call, conversation):
            text = counted.input_tokens + (len(call.prompt) - counted.sketch.size) * ratio
        return max(0, math.ceil(text)) + self._kept(call) + _file_tokens(call)

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
        *,
        conversation: int = 0,
        response_id: str = "",
    ) -> None:
        """Remember what an answer used.

        Args:
            text: What the model wrote to be read, where it was streamed, and its tokens.
            conversation: As for `worst`.
            response_id: The provider's name of the answer, which a later call may continue.
        """
        prompt, model = call.prompt, (call.provider, call.model)
        is_whole = bool(prompt) and not (call.files or call.history or call.searches is not NONE)
        counted = _Counted(sketch(prompt), input_tokens) if is_whole and conversation else None
        with self._lock:
            learnt = self._learnt.get(model)
            if learnt is None:
                learnt = _Learnt()
                _remember(self._learnt, model, learnt, MAX_MODELS)
            learnt.learn_answer(output_tokens, text, text_tokens)
            if is_whole:
                learnt.learn_prompt(prompt, input_tokens)
            if counted:
                _remember(self._counted, (*model, conversation), counted, MAX_CONVERSATIONS)
            for name in (call.history, response_id):
                if name:
                    _remember(self._histories, name, input_tokens + output_tokens, MAX_HISTORIES)

    def _before(self, call: ModelCall, conversation: int) -> _Counted | None:
        if not conversation or call.files or call.history or call.searches is not NONE:
            return None
        return self._counted.get((call.provider, call.model, conversation))

    def _kept(self, call: ModelCall) -> int:
        """Return the tokens that the provider adds from what it keeps itself."""
        return self._histories.get(call.history, UNKNOWN_HISTORY_TOKENS) if call.history else 0


def _remember(memory: OrderedDict[K, V], name: K, value: V, size: int) -> None:
    memory[name] = value
    memory.move_to_end(name)
    if len(memory) > size:
        memory.popitem(last=False)


def _most(text: bytes, dearness: float) -> int:
    """Return how many tokens a text can be to a model: never more than it has bytes.

    Args:
        dearness: Times what the tokenizers make of it that `most_tokens` was measured with.
    """
    return min(len(text), math.ceil(most_tokens(text) * dearness))


def _file_tokens(call: ModelCall) -> int:
    each = next((tokens for name, tokens in _DEAR_IMAGES.items() if name in call.model), MEDIA_TOKENS)
    return max(call.files * each, call.file_bytes // MEDIA_BYTES_PER_TOKEN)


def _bound(call: ModelCall, text_tokens: int, output_tokens: int, searches: Allowed) -> Bound:
    inputs = text_tokens + OVERHEAD_TOKENS + searches.tokens
    if call.files or call.file_bytes:
        inputs += _file_tokens(call)
    outputs, others = output_tokens, NOTHING
    if call.api.name == EMBEDDINGS or call.api.name in MEDIA:
        outputs, others = 0, asked(call)
    if searches is not NONE:
        others = others._replace(web_searches=searches.web, file_searches=searches.files)
    return Bound(inputs, outputs, others)

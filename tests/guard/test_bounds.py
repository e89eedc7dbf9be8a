"""What a prompt can be at most is never under what it is: real tokenizers, recorded calls of real agents."""

from __future__ import annotations

import base64
import json
import random
import warnings
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_cost.guard.bounds import UNKNOWN_HISTORY_TOKENS, Bounds
from otel_cost.guard.calls import ModelCall, recognise
from otel_cost.guard.prompts import SEAM_TOKENS, least_most_tokens, most_tokens, new_part, sketch
from otel_cost.guard.steps import read_step
from tests.data import lines

CHAT = "https://api.openai.com/v1/chat/completions"
RESPONSES = "https://api.openai.com/v1/responses"
GEMINI = "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-pro:generateContent"
TOKENIZERS = ("cl100k_base", "o200k_base")
MESSAGE_TOKENS = 4
"""What marks a message (https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken)."""

PROSE = "The agent reads the page, looks for the table it was asked about, and answers with its sources. "
CODE = "for index, row in enumerate(rows):\n    total += row['cost_usd'] * counts.get(row['id'], 0)\n"


@cache
def tokenizer(name: str) -> Any:
    """A tokenizer of OpenAI's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of how it reads its own data
        import bpe_openai
    return bpe_openai.get_encoding(name)


def tokens(text: str) -> int:
    """Return the tokens of a text, by whichever tokenizer finds more."""
    return max(len(tokenizer(name).encode(text)) for name in TOKENIZERS)


def call(url: str, **body: Any) -> ModelCall:
    """Return a model call."""
    found = recognise("POST", url, json.dumps({"model": "gpt-4o", **body}, ensure_ascii=False).encode())
    assert found is not None
    return found


def chat(messages: list[str]) -> tuple[ModelCall, int]:
    """Return a call with a history, and the tokens the provider would count."""
    roles = ("user", "assistant")
    history = [{"role": roles[at % 2], "content": text} for at, text in enumerate(messages)]
    tools = [{"type": "function", "function": {"name": "search", "description": PROSE}}]
    counted = sum(tokens(text) + MESSAGE_TOKENS for text in messages) + tokens(json.dumps(tools))
    return call(CHAT, messages=history, tools=tools), counted


def contents(seed: int, size: int) -> dict[str, str]:
    """Return texts that take few tokens a byte, and many."""
    numbers = random.Random(seed)
    return {
        "prose": PROSE * (size // len(PROSE) + 1),
        "code": CODE * (size // len(CODE) + 1),
        "base64": base64.b64encode(numbers.randbytes(size)).decode(),
        "hex": numbers.randbytes(size // 2).hex(),
        "numbers": ",".join(
            f"{numbers.random() * 10 ** numbers.randint(0, 6):.3f}" for _ in range(size // 8)
        ),
        "capitals": "".join(numbers.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(size)),
        "letters": "".join(numbers.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(size)),
        "marks": "".join(numbers.choice("{}[]<>;:,.!?@#$%^&*-_=+|~") for _ in range(size)),
        "chinese": "人人生而自由，在尊严和权利上一律平等。" * (size // 54 + 1),
        "amharic": "የሰው ልጅ ሁሉ ሲወለድ ነጻና በክብርና በመብትም እኩልነት ያለው ነው። " * (size // 100 + 1),
        "emoji": "".join(numbers.choice("😀🎉🧪🚀🦄🥷🪐") for _ in range(size // 4)),
        "anything": "".join(chr(numbers.randint(0x80, 0x2FFF)) for _ in range(size // 3)),
    }


KINDS = list(contents(0, 100))


@pytest.mark.parametrize("kind", KINDS)
def test_no_text_has_more_tokens_than_bounded(kind: str) -> None:
    """Of whatever a prompt consists, its bytes bound its tokens."""
    text = contents(1, 4000)[kind]
    assert tokens(text) <= most_tokens(text.encode())


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=400))
def test_no_unicode_has_more_tokens_than_bounded(text: str) -> None:
    """The same for any text there is; a short one may be of letters that make no word."""
    assert tokens(text) <= most_tokens(text.encode()) + SEAM_TOKENS


@given(st.binary(max_size=400) | st.text("abcdefghij ").map(str.encode))
def test_the_size_of_a_text_tells_the_least_of_its_bound(text: bytes) -> None:
    """A prompt is only gone through where that can lower its bound."""
    assert least_most_tokens(len(text)) <= most_tokens(text) <= len(text)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=9_000), st.data())
def test_what_is_new_is_never_left_out(before: bytes, data: st.DataObject) -> None:
    """However a prompt was edited, what is not in the earlier one is in the new part."""
    start = data.draw(st.integers(0, len(before)))
    end = data.draw(st.integers(start, len(before)))
    added = data.draw(st.binary(max_size=500))
    after = before[:start] + added + before[end:]
    new = new_part(after, sketch(before))
    at = after.find(new)
    kept_head, kept_tail = after[:at], after[at + len(new) :]
    assert before.startswith(kept_head)
    assert before.endswith(kept_tail)
    assert len(kept_head) + len(kept_tail) <= len(before)


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_conversation_of_another_kind_is_bounded(kind: str) -> None:
    """A model that was learnt from prose is asked about something else in a conversation of its own."""
    bounds = Bounds()
    for number in range(9):
        asked, counted = chat([f"{number} {PROSE * 30}"])
        bounds.learn(asked, counted, 10)
    asked, counted = chat([contents(2, 6000)[kind]])
    assert counted <= bounds.worst(asked).input_tokens


def test_a_dear_tokenizer_is_learnt() -> None:
    """Of a model that makes a token of every letter, one is held; more than one a byte there cannot be."""
    bounds, text = Bounds(), "x" * 5000
    asked = call(CHAT, messages=[{"role": "user", "content": text}])
    assert bounds.worst(asked).input_tokens < 5_000
    for counted in (5_400, 50_000):
        bounds.learn(asked, counted, 10)
        assert 5_400 <= bounds.worst(asked).input_tokens <= 5_600


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(KINDS), min_size=1, max_size=8), st.integers(0, 10**6), st.data())
def test_a_conversation_is_bounded_through_all_its_calls(
    kinds: list[str], seed: int, data: st.DataObject
) -> None:
    """Whatever is added to a history, taken out of it or put in another's place, no call passes its bound."""
    bounds, history = Bounds(), ["You are an agent. " + PROSE * 10]
    for number, kind in enumerate(kinds):
        if len(history) > 2 and data.draw(st.booleans()):
            del history[data.draw(st.integers(1, len(history) - 1))]
        history.append(contents(seed + number, data.draw(st.integers(10, 3000)))[kind])
        asked, counted = chat(history)
        conversation = read_step(asked).conversation
        assert counted <= bounds.worst(asked, conversation).input_tokens
        bounds.learn(asked, counted, 10, conversation=conversation)


def test_a_long_history_is_not_held_twice() -> None:
    """What was counted before is known: 2 kB after 200 kB of history hold a tenth more than they cost."""
    bounds, history = Bounds(), [PROSE * 2000]
    asked, counted = chat(history)
    conversation = read_step(asked).conversation
    bounds.learn(asked, counted, 10, conversation=conversation)
    asked, counted = chat([*history, "Yes.", CODE * 20])
    assert read_step(asked).conversation == conversation
    assert counted <= bounds.worst(asked, conversation).input_tokens <= 1.15 * counted


def test_a_history_that_the_provider_keeps_counts() -> None:
    """A call that continues a response is as large as that one was; one nobody saw may be as large as any."""
    bounds = Bounds()
    first = call(RESPONSES, input=PROSE)
    bounds.learn(first, 500, 5_200, response_id="resp_1")
    continued = call(RESPONSES, input="go on", previous_response_id="resp_1")
    assert 5_700 <= bounds.worst(continued).input_tokens <= 5_700 + 600
    unseen = call(RESPONSES, input="go on", previous_response_id="resp_0")
    assert bounds.worst(unseen).input_tokens >= UNKNOWN_HISTORY_TOKENS
    bounds.learn(continued, 5_710, 90, response_id="resp_2")
    again = call(RESPONSES, input="go on", previous_response_id="resp_2")
    assert bounds.worst(again).input_tokens >= 5_800


@pytest.mark.parametrize(
    ("url", "body"),
    [
        (RESPONSES, {"input": "hi", "conversation": "conv_1"}),
        (RESPONSES, {"input": "hi", "conversation": {"id": "conv_1"}}),
        (RESPONSES, {"input": "hi", "prompt": {"id": "pmpt_1"}}),
        (GEMINI, {"contents": [], "cachedContent": "cachedContents/1"}),
    ],
)
def test_what_else_a_provider_adds_counts(url: str, body: dict[str, Any]) -> None:
    """Conversations, stored prompts and cached contents are remembered by what calls with them used."""
    bounds, asked = Bounds(), call(url, **body)
    assert bounds.worst(asked).input_tokens >= UNKNOWN_HISTORY_TOKENS
    bounds.learn(asked, 9_000, 100)
    assert 9_100 <= bounds.worst(asked).input_tokens <= 9_100 + 600


def test_a_prompt_that_is_text_is_no_history() -> None:
    """The completions API calls its text a prompt."""
    assert call("https://api.openai.com/v1/completions", prompt="once upon a time").history == ""


def recorded() -> Iterator[tuple[str, str, int]]:
    """Yield the model, the request and the input tokens of calls recorded with their request."""
    files = (
        "trail/traces.otlp.jsonl.xz",
        "replayed_spans/openinference-openai-0.1.30+anthropic-0.1.20.otlp.jsonl.xz",
        "replayed_spans/openinference-openai-0.1.66.otlp.jsonl.xz",
    )
    for file in files:
        for line in lines(file):
            for span in _spans(json.loads(line)["otlp"]):
                said = {item["key"]: next(iter(item["value"].values()), "") for item in span["attributes"]}
                request, count = said.get("input.value"), said.get("llm.token_count.prompt")
                if said.get("openinference.span.kind") == "LLM" and request and count:
                    yield said.get("llm.model_name", ""), request, int(count)


def _spans(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for resource in request["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            yield from scope["spans"]


def test_recorded_calls_are_bounded() -> None:
    """Real requests of real agents, in the order of their recording: what the provider counted fits."""
    bounds, seen, held, used = Bounds(), Counter[str](), 0, 0
    for model, request, counted in recorded():
        found = recognise("POST", CHAT, json.dumps({"model": model, **_body(request)}))
        assert found is not None
        conversation = read_step(found).conversation
        bound = bounds.worst(found, conversation).input_tokens
        assert counted <= bound, (model, counted, bound)
        bounds.learn(found, counted, 10, conversation=conversation)
        seen[model] += 1
        held, used = held + bound, used + counted
    assert seen["o3-mini"] > 300
    assert len(seen) > 15
    assert held < 2 * used


def _body(request: str) -> dict[str, Any]:
    try:
        read = json.loads(request)
    except ValueError:
        return {"messages": [{"role": "user", "content": request}]}
    return read if isinstance(read, dict) else {"messages": read}

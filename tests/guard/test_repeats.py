"""Events known by their bytes: an answer is read the same as if each had been read as JSON, for less."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from otel_cost.fake_provider import _STREAMS, Call, Reply, _aws_event, _server_sent_event
from otel_cost.guard import answers
from otel_cost.guard.answers import Answer, Reader
from otel_cost.guard.repeats import Repeats
from otel_cost.usage import Usage

Json = dict[str, Any]
SSE = "text/event-stream"

WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.sampled_from(['"', "\\", "\n", ""])


def chat(text: str, number: int, padding: str) -> Json:
    """What OpenAI sends for each token, usage asked for."""
    choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}
    return {"id": "c1", "model": "m", "choices": [choice], "usage": None, "obfuscation": padding}


def responses(text: str, number: int, padding: str) -> Json:
    """OpenAI's other interface numbers its events."""
    head = {"type": "response.output_text.delta", "item_id": "i"}
    return head | {"delta": text, "sequence_number": number, "obfuscation": padding}


def repeated(text: str, number: int, padding: str) -> Json:
    """What it says at the end of a text came in parts before."""
    return {"type": "response.output_text.done", "item_id": "i", "text": text, "sequence_number": number}


def anthropic(text: str, number: int, padding: str) -> Json:
    """Blocks of text."""
    return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}


def thinking(text: str, number: int, padding: str) -> Json:
    """Blocks of thought, in between."""
    return {"type": "content_block_delta", "index": 1, "delta": {"type": "thinking_delta", "thinking": text}}


def gemini(text: str, number: int, padding: str) -> Json:
    """Each event says what was used so far."""
    counts = {"promptTokenCount": 5, "candidatesTokenCount": number}
    return {"candidates": [{"content": {"parts": [{"text": text}]}}], "usageMetadata": counts}


def ollama(text: str, number: int, padding: str) -> Json:
    """Lines with the time of day."""
    return {"model": "m", "created_at": padding, "message": {"role": "assistant", "content": text}}


def ended(text: str, number: int, padding: str) -> Json:
    """The last event of a chat."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": "stop"}
    return {"id": "c1", "model": "m", "choices": [choice], "usage": {"completion_tokens": number}}


def renamed(text: str, number: int, padding: str) -> Json:
    """Another model answers all of a sudden."""
    return chat(text, number, padding) | {"model": "other", "service_tier": padding}


def listed(text: str, number: int, padding: str) -> Json:
    """Text in lists, and beside text that stays the same."""
    return {"content": [text, "same"], "delta": {"text": "same", "reasoning": text}, "n": [number]}


EVENTS = st.builds(
    lambda make, text, number, padding, has_spaces, is_ascii: json.dumps(
        make(text, number, padding),
        ensure_ascii=is_ascii,
        separators=(", ", ": ") if has_spaces else (",", ":"),
    ).encode(),
    st.sampled_from([chat, responses, repeated, anthropic, thinking, gemini, ollama, ended, renamed, listed]),
    WORDS,
    st.integers(-1, 1_000),
    WORDS,
    st.booleans(),
    st.booleans(),
)
STREAMS = st.one_of(
    st.lists(EVENTS, max_size=30),
    # a few kinds, repeated often
    st.lists(EVENTS, min_size=1, max_size=3).flatmap(lambda few: st.lists(st.sampled_from(few), max_size=30)),
)


def told(answer: Answer) -> Json:
    """Return everything that an answer knows."""
    return {name: getattr(answer, name) for name in Answer.__slots__}


def read(events: list[bytes]) -> Answer:
    """Return what a reader learns of the events of a stream, each of which comes alone."""
    reader = Reader(SSE)
    for event in events:
        reader.feed(b"data: " + event + b"\n\n")
    return reader.answer


def read_as_json(events: list[bytes]) -> Answer:
    """Return what there is to learn."""
    answer = Answer()
    for event in events:
        for document in answers._parse(event):
            answer.take(document)
    return answer


def dumped(*documents: Any) -> list[bytes]:
    """Return documents as events."""
    return [json.dumps(document).encode() for document in documents]


@settings(max_examples=600, deadline=None)
@given(STREAMS)
@example(dumped({"text": "a"}, {"text": ""}, {"text": "b"}))
@example(dumped([{"text": "a"}, {"text": ""}], [{"text": "b"}, {"text": "cd"}]))
@example(dumped({"model": "a", "text": "x"}, {"model": "b"}, {"model": "a", "text": "y"}))
@example(dumped({"sequence_number": 1, "text": "a"}, {"sequence_number": "1", "text": "a"}))
@example([b'{"text": "a", "text": "b"}', b'{"text": "ccc", "text": "d"}'])
@example([b'{"text": "a"}', b'{"text": "\xff"}', '{"text": "é"}'.encode()])
@example([b'{"text": "a"}', b'{"text": "b"} ', b'{"text": "b"}}', b'{"text": "b"'])
def test_an_answer_is_the_same(events: list[bytes]) -> None:
    """Text, names, usage and whether it has ended: whatever events come, in whatever order."""
    assert told(read(events)) == told(read_as_json(events))


@settings(max_examples=600, deadline=None)
@given(
    st.sampled_from([chat, responses, anthropic, ollama]),
    st.data(),
)
def test_one_wrong_byte_changes_nothing_else(make: Any, data: st.DataObject) -> None:
    """An event that another byte makes a different one, or none, is not taken for a repeated one.

    But for raw control characters, which JSON forbids and which no encoder writes.
    """
    first, second, damaged = dumped(make("one", 1, "pad"), make("two", 2, "ding"), make("six", 3, "dle"))
    place = data.draw(st.integers(0, len(damaged) - 1))
    put = data.draw(st.integers(0x20, 0xFF))
    events = [first, second, damaged[:place] + bytes([put]) + damaged[place + 1 :]]
    assert told(read(events)) == told(read_as_json(events))


@pytest.mark.parametrize("api", ["openai.chat", "openai.responses", "anthropic.messages", "bedrock"])
def test_few_events_are_read_as_json(monkeypatch: pytest.MonkeyPatch, api: str) -> None:
    """Of a hundred words, those that begin and end the stream, and one that is the pattern."""
    parsed: list[bytes] = []
    parse = answers._parse
    monkeypatch.setattr(answers, "_parse", lambda text: parsed.append(text) or parse(text))
    reply = Reply("word " * 100, usage=Usage(input_tokens=5, output_tokens=100))
    call = Call(1, api, "/", "m", True, {}, {}, "id", reply)
    bodies = list(_STREAMS[api](call))
    reader = Reader("application/vnd.amazon.eventstream" if api == "bedrock" else SSE)
    for name, body in bodies:
        reader.feed(_aws_event(name, body) if api == "bedrock" else _server_sent_event(api, name, body))
    assert reader.finish().output_bytes == len("word " * 100)
    assert len(parsed) < len(bodies) - 95


def test_looking_for_a_pattern_ends() -> None:
    """A stream that repeats nothing is not looked at for ever."""
    repeats = Repeats()
    assert sum(repeats.looks() for _ in range(100)) == 8

"""What answers say they used, whole, streamed, compressed, cut in any pieces, or ended early."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from otel_cost.fake_provider import _STREAMS, Call, Reply, _aws_event, _server_sent_event
from otel_cost.guard.answers import Answer, Reader, read_answer
from otel_cost.usage import Usage

USAGE = Usage(input_tokens=400, cache_read_tokens=600, output_tokens=50, reasoning_tokens=150)
APIS = ("openai.chat", "openai.responses", "anthropic.messages", "gemini", "bedrock")


def stream(api: str, usage: Usage = USAGE) -> list[bytes]:
    """Return the events of a streamed answer, as the provider would send them."""
    body = {"stream_options": {"include_usage": True}}
    call = Call(1, api, "/", "m", True, body, {}, "id", Reply("one two three four", usage=usage))
    return [
        _aws_event(name, event) if api == "bedrock" else _server_sent_event(api, name, event)
        for name, event in _STREAMS[api](call)
    ]


def content_type(api: str) -> str:
    """Return the content type of a stream."""
    return "application/vnd.amazon.eventstream" if api == "bedrock" else "text/event-stream; charset=utf-8"


def read(api: str, pieces: Iterator[bytes] | list[bytes], encoding: str = "") -> Answer:
    """Return what a reader learns from pieces."""
    reader = Reader(content_type(api), encoding)
    for piece in pieces:
        reader.feed(piece)
    return reader.finish()


@pytest.mark.parametrize("api", APIS)
def test_streams_cut_anywhere(api: str) -> None:
    """The usage is the same however the network cuts the bytes."""
    data = b"".join(stream(api))
    expected = USAGE
    if api in ("anthropic.messages", "bedrock"):  # their output contains reasoning and never tells it apart
        expected = USAGE._replace(output_tokens=200, reasoning_tokens=0)
    random.seed(7)
    for _ in range(20):
        cuts = sorted(random.sample(range(len(data)), 9))
        pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        assert read(api, pieces).usage_of(False) == expected


@pytest.mark.parametrize("api", APIS)
def test_a_stream_that_ends_early_says_what_it_sent(api: str) -> None:
    """Without the last event there is no usage, but the text that came is known."""
    events = stream(api)
    first_half = events[: len(events) // 2]
    answer = read(api, first_half)
    assert answer.usage_of(False) is None
    assert 0 < answer.output_bytes <= len("one two three four") + len("assistant")


def test_anthropic_tells_the_input_first() -> None:
    """Of a stream that ends early the input is exact."""
    answer = read("anthropic.messages", stream("anthropic.messages")[:3])
    assert answer.usage_of(False) is None
    assert answer.usage_so_far == Usage(input_tokens=400, cache_read_tokens=600)


def test_compressed_streams() -> None:
    """A gateway may compress; the usage is read all the same."""
    data = gzip.compress(b"".join(stream("openai.chat")))
    answer = read("openai.chat", [data[i : i + 7] for i in range(0, len(data), 7)], "gzip")
    assert answer.usage_of(False) == USAGE


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"usage": {"prompt_tokens": 9, "completion_tokens": 3}}, Usage(input_tokens=9, output_tokens=3)),
        (
            {"usage": {"billed_units": {"input_tokens": 9, "output_tokens": 3}}},
            Usage(input_tokens=9, output_tokens=3),
        ),
        (
            {"meta": {"billed_units": {"input_tokens": 9, "output_tokens": 3}}},
            Usage(input_tokens=9, output_tokens=3),
        ),
        ({"prompt_eval_count": 9, "eval_count": 3, "done": True}, Usage(input_tokens=9, output_tokens=3)),
        (
            {"usage": {"input_tokens": 4, "cache_read_input_tokens": 5, "output_tokens": 3}},
            Usage(input_tokens=4, cache_read_tokens=5, output_tokens=3),
        ),
        (
            {
                "usageMetadata": {
                    "promptTokenCount": 9,
                    "candidatesTokenCount": 3,
                    "thoughtsTokenCount": 2,
                    "totalTokenCount": 14,
                }
            },
            Usage(input_tokens=9, output_tokens=3, reasoning_tokens=2),
        ),
        ({"choices": []}, None),
        ({"usage": None}, None),
        ({"usage": {"prompt_tokens": -4, "completion_tokens": "x"}}, None),
    ],
)
def test_documents(document: dict[str, Any], expected: Usage | None) -> None:
    """Each provider's own words; impossible amounts are no amounts."""
    assert read_answer(json.dumps(document).encode()).usage_of(False) == expected


def test_embeddings_have_no_output() -> None:
    """Their usage is complete without one."""
    answer = read_answer(b'{"usage": {"prompt_tokens": 9, "total_tokens": 9}}')
    assert answer.usage_of(True) == Usage(input_tokens=9)


def test_geminis_array() -> None:
    """Not asked for events, Gemini streams one array."""
    events = [
        {"candidates": [{"content": {"parts": [{"text": "hi"}]}}]},
        {"usageMetadata": {"promptTokenCount": 2, "candidatesTokenCount": 1}},
    ]
    answer = read_answer(json.dumps(events).encode())
    assert answer.usage_of(False) == Usage(input_tokens=2, output_tokens=1)


def test_names() -> None:
    """The model and the tier that answered decide the price."""
    answer = read_answer(b'{"model": "gpt-5-2025-08-07", "service_tier": "flex", "usage": {}}')
    assert (answer.model, answer.service_tier) == ("gpt-5-2025-08-07", "flex")


@pytest.mark.parametrize(
    "kind", ["text/event-stream", "application/vnd.amazon.eventstream", "application/json"]
)
def test_damage_is_no_usage(kind: str) -> None:
    """Random bytes teach nothing and break nothing."""
    random.seed(3)
    for _ in range(200):
        reader = Reader(kind)
        for _ in range(5):
            reader.feed(random.randbytes(random.randrange(200)))
        assert reader.finish().usage_of(False) is None


def test_what_is_kept_of_an_endless_line_is_bounded() -> None:
    """A line that never ends is given up."""
    reader = Reader("text/event-stream")
    for _ in range(20):
        reader.feed(b"x" * 1_000_000)
    assert len(reader._pending) == 0
    assert reader.finish().usage_of(False) is None

"""What answers say they used, whole, streamed, compressed, cut in any pieces, or ended early."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from otel_cost.fake_provider import _STREAMS, Call, Reply, _aws_event, _server_sent_event
from otel_cost.guard.answers import MAX_PENDING_BYTES, Answer, Reader, read_answer
from otel_cost.usage import Usage
from tests.data import lines

USAGE = Usage(input_tokens=400, cache_read_tokens=600, output_tokens=50, reasoning_tokens=150)
APIS = ("openai.chat", "openai.responses", "anthropic.messages", "gemini", "interactions", "bedrock")


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
    if api == "bedrock":  # its output contains reasoning and never tells it apart
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
        (  # https://ai.google.dev/api/generate-content#UsageMetadata: what is 0 is left out
            {"usageMetadata": {"promptTokenCount": 9, "thoughtsTokenCount": 2, "totalTokenCount": 11}},
            Usage(input_tokens=9, reasoning_tokens=2),
        ),
        (
            {
                "usageMetadata": {
                    "promptTokenCount": 3284,
                    "cachedContentTokenCount": 2917,
                    "candidatesTokenCount": 1300,
                    "toolUsePromptTokenCount": 119,
                    "totalTokenCount": 4703,
                    "promptTokensDetails": [
                        {"modality": "TEXT", "tokenCount": 70},
                        {"modality": "VIDEO", "tokenCount": 2893},
                        {"modality": "AUDIO", "tokenCount": 321},
                    ],
                    "cacheTokensDetails": [
                        {"modality": "VIDEO", "tokenCount": 2570},
                        {"modality": "TEXT", "tokenCount": 62},
                        {"modality": "AUDIO", "tokenCount": 285},
                    ],
                    "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1290}],
                }
            },
            Usage(
                input_tokens=8,
                cache_read_tokens=62,
                tool_input_tokens=119,
                audio_input_tokens=36,
                audio_cache_read_tokens=285,
                video_input_tokens=323,
                video_cache_read_tokens=2570,
                output_tokens=10,
                image_output_tokens=1290,
            ),
        ),
        (  # https://ai.google.dev/api/interactions-api
            {
                "usage": {
                    "total_input_tokens": 9,
                    "total_output_tokens": 3,
                    "total_thought_tokens": 2,
                    "total_tool_use_tokens": 4,
                    "output_tokens_by_modality": [{"modality": "image", "tokens": 3}],
                    "grounding_tool_count": [{"type": "google_search", "count": 5}],
                }
            },
            Usage(
                input_tokens=9,
                tool_input_tokens=4,
                reasoning_tokens=2,
                image_output_tokens=3,
                web_searches=5,
            ),
        ),
        (  # https://platform.openai.com/docs/api-reference/responses/object
            {
                "usage": {
                    "input_tokens": 100,
                    "input_tokens_details": {"cached_tokens": 30, "cache_write_tokens": 50},
                    "output_tokens": 3,
                }
            },
            Usage(input_tokens=20, cache_read_tokens=30, cache_write_tokens=50, output_tokens=3),
        ),
        (  # https://platform.openai.com/docs/api-reference/images/object
            {
                "usage": {
                    "input_tokens": 9,
                    "output_tokens": 30,
                    "output_tokens_details": {"image_tokens": 28},
                }
            },
            Usage(input_tokens=9, output_tokens=2, image_output_tokens=28),
        ),
        (  # https://platform.openai.com/docs/api-reference/audio/json-object
            {"usage": {"input_tokens": 9, "input_token_details": {"audio_tokens": 8}, "output_tokens": 3}},
            Usage(input_tokens=1, audio_input_tokens=8, output_tokens=3),
        ),
        ({"usage": {"type": "duration", "seconds": 61}}, Usage(audio_seconds=61)),
        (  # https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html
            {
                "usage": {
                    "inputTokens": 1,
                    "outputTokens": 3,
                    "cacheWriteInputTokens": 9,
                    "cacheDetails": [{"ttl": "1h", "inputTokens": 7}, {"ttl": "5m", "inputTokens": 2}],
                }
            },
            Usage(input_tokens=1, cache_write_tokens=2, cache_write_1h_tokens=7, output_tokens=3),
        ),
        (
            {"usage": {"inputTokens": 1, "outputTokens": 3, "cacheReadInputTokenCount": 9, "totalTokens": 4}},
            Usage(input_tokens=1, cache_read_tokens=9, output_tokens=3),
        ),
        (  # https://docs.perplexity.ai/docs/getting-started/pricing
            {
                "usage": {
                    "prompt_tokens": 33,
                    "completion_tokens": 7163,
                    "total_tokens": 7196,
                    "citation_tokens": 20016,
                    "reasoning_tokens": 95305,
                    "num_search_queries": 18,
                }
            },
            Usage(
                input_tokens=33,
                output_tokens=7163,
                reasoning_tokens=95305,
                citation_tokens=20016,
                web_searches=18,
            ),
        ),
        (  # https://docs.perplexity.ai/api-reference/responses-post
            {
                "usage": {
                    "input_tokens": 9,
                    "output_tokens": 3,
                    "tool_calls_details": {"search_web": {"invocation": 20}},
                }
            },
            Usage(input_tokens=9, output_tokens=3, web_searches=20),
        ),
        ({"meta": {"billed_units": {"search_units": 2}}}, Usage(rerank_searches=2)),
        ({"usage": {"prompt_tokens": 9.0, "completion_tokens": "3"}}, Usage(input_tokens=9, output_tokens=3)),
        ({"usage": {"prompt_tokens": 0, "completion_tokens": 0}}, None),
        ({"choices": []}, None),
        ({"usage": None}, None),
        ({"usage": {"prompt_tokens": -4, "completion_tokens": "x"}}, None),
    ],
)
def test_documents(document: dict[str, Any], expected: Usage | None) -> None:
    """Each provider's own words; impossible amounts are no amounts."""
    assert read_answer(json.dumps(document).encode()).usage_of(False) == expected


def test_recorded_usage_is_read_as_its_provider_counts() -> None:
    """Usage objects of real answers: the totals are those of genai-prices' own tests."""
    compared = 0
    for line in lines("price_vectors/vectors.jsonl"):
        vector = json.loads(line)
        raw, told = vector.get("raw_usage"), vector["usage"]
        if not raw:
            continue
        holder = "usageMetadata" if "promptTokenCount" in raw else "usage"
        usage = read_answer(json.dumps({holder: raw}).encode()).usage_of("embed" in vector["model"])
        assert usage is not None, vector["id"]
        assert usage.totals == (told.get("input_tokens", 0), told.get("output_tokens", 0)), vector["id"]
        cached = usage.cache_read_tokens + usage.audio_cache_read_tokens
        cached += usage.image_cache_read_tokens + usage.video_cache_read_tokens
        assert cached == told.get("cache_read_tokens", 0), vector["id"]
        compared += 1
    assert compared > 400


def test_the_end_of_a_large_document_is_read() -> None:
    """Pictures come first; what they used stands behind them."""
    usage = {"input_tokens": 9, "output_tokens": 30}
    document = json.dumps({"data": [{"b64_json": "x" * (MAX_PENDING_BYTES + 5)}], "usage": usage}).encode()
    assert read_answer(document).usage_of(False) == Usage(input_tokens=9, output_tokens=30)
    reader = Reader("application/json")
    for start in range(0, len(document), 1_000_000):
        reader.feed(document[start : start + 1_000_000])
        assert len(reader._pending) <= MAX_PENDING_BYTES
    assert reader.finish().usage_of(False) == Usage(input_tokens=9, output_tokens=30)


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
    ("document", "tier"),
    [
        ({"serviceTier": {"type": "priority"}, "usage": {}}, "priority"),
        ({"usage": {"service_tier": "standard", "speed": "fast", "output_tokens": 1}}, "fast"),
        ({"usage": {"service_tier": "priority", "speed": "standard", "output_tokens": 1}}, "priority"),
    ],
)
def test_tiers(document: dict[str, Any], tier: str) -> None:
    """Bedrock names one in an object; Anthropic's fast mode is beside it, and dearer.

    https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ServiceTier.html,
    https://platform.claude.com/docs/en/build-with-claude/fast-mode
    """
    assert read_answer(json.dumps(document).encode()).service_tier == tier


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

"""Which requests are model calls, and what they ask for."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from otel_cost.guard.calls import ModelCall, recognise, told_by

OPENAI = "https://api.openai.com/v1"
BEDROCK = "https://bedrock-runtime.us-east-1.amazonaws.com"
GEMINI = "https://generativelanguage.googleapis.com/v1beta"


def call(url: str, body: dict[str, Any], **options: Any) -> ModelCall:
    """Return a request that must be a model call."""
    found = recognise("POST", url, json.dumps(body).encode(), **options)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("url", "body", "api", "provider", "model", "output_limit", "is_stream"),
    [
        (
            f"{OPENAI}/chat/completions",
            {"model": "gpt-5", "max_completion_tokens": 90, "max_tokens": 5},
            "chat",
            "openai",
            "gpt-5",
            90,
            False,
        ),
        (
            f"{OPENAI}/chat/completions",
            {"model": "gpt-4o", "max_tokens": 50, "n": 3, "stream": True},
            "chat",
            "openai",
            "gpt-4o",
            150,
            True,
        ),
        (
            f"{OPENAI}/completions",
            {"model": "gpt-3.5-turbo-instruct", "prompt": ["a", "b", "c"], "max_tokens": 50, "n": 2},
            "completions",
            "openai",
            "gpt-3.5-turbo-instruct",
            300,
            False,
        ),
        (
            f"{OPENAI}/completions",
            {"model": "gpt-3.5-turbo-instruct", "prompt": [1, 2, 3], "max_tokens": 50},
            "completions",
            "openai",
            "gpt-3.5-turbo-instruct",
            50,
            False,
        ),
        (
            f"{GEMINI}/interactions",
            {"model": "gemini-3.5-flash", "generation_config": {"max_output_tokens": 9}, "stream": True},
            "interactions",
            "google",
            "gemini-3.5-flash",
            9,
            True,
        ),
        (
            "https://api.anthropic.com/v1/messages/batches",
            {"requests": [{"params": {"model": "claude-haiku-4-5", "max_tokens": n}} for n in (5, 6)]},
            "batch",
            "anthropic",
            "claude-haiku-4-5",
            11,
            False,
        ),
        (
            f"{GEMINI}/models/gemini-2.5-flash:batchGenerateContent",
            {"batch": {"input_config": {"requests": {"requests": [{"request": {"contents": []}}]}}}},
            "batch",
            "google",
            "gemini-2.5-flash",
            None,
            False,
        ),
        (
            f"{GEMINI}/models/imagen-4.0:predict",
            {"instances": []},
            "images",
            "google",
            "imagen-4.0",
            None,
            False,
        ),
        (f"{GEMINI}/models/veo-3:predictLongRunning", {}, "videos", "google", "veo-3", None, False),
        (f"{GEMINI}/tunedModels/mine:generateContent", {}, "gemini", "google", "mine", None, False),
        (f"{OPENAI}/videos", {"model": "sora-2", "prompt": "x"}, "videos", "openai", "sora-2", None, False),
        (f"{OPENAI}/responses/compact", {"model": "gpt-5"}, "responses", "openai", "gpt-5", None, False),
        (
            "https://api.mistral.ai/v1/conversations",
            {"model": "mistral-large-latest", "inputs": "hi"},
            "other",
            "mistral",
            "mistral-large-latest",
            None,
            False,
        ),
        (f"{OPENAI}/chat/completions", {"model": "gpt-4o"}, "chat", "openai", "gpt-4o", None, False),
        (
            f"{OPENAI}/responses",
            {"model": "gpt-5", "max_output_tokens": 7},
            "responses",
            "openai",
            "gpt-5",
            7,
            False,
        ),
        (
            f"{OPENAI}/embeddings",
            {"model": "text-embedding-3-small"},
            "embeddings",
            "openai",
            "text-embedding-3-small",
            None,
            False,
        ),
        (
            "https://me.openai.azure.com/openai/deployments/my-gpt/chat/completions?api-version=1",
            {"max_tokens": 4},
            "chat",
            "azure",
            "my-gpt",
            4,
            False,
        ),
        (
            "https://api.anthropic.com/v1/messages",
            {"model": "claude-opus-4-6", "max_tokens": 8},
            "messages",
            "anthropic",
            "claude-opus-4-6",
            8,
            False,
        ),
        (
            f"{GEMINI}/models/gemini-3-pro:generateContent",
            {"generationConfig": {"maxOutputTokens": 9, "candidateCount": 2}},
            "gemini",
            "google",
            "gemini-3-pro",
            18,
            False,
        ),
        (
            f"{GEMINI}/models/gemini-3-pro:streamGenerateContent?alt=sse",
            {"contents": []},
            "gemini",
            "google",
            "gemini-3-pro",
            None,
            True,
        ),
        (
            f"{BEDROCK}/model/us.anthropic.claude-opus-4-6-v1%3A0/converse",
            {"inferenceConfig": {"maxTokens": 3}},
            "converse",
            "aws",
            "us.anthropic.claude-opus-4-6-v1:0",
            3,
            False,
        ),
        (f"{BEDROCK}/model/m/converse-stream", {"messages": []}, "converse", "aws", "m", None, True),
        (f"{BEDROCK}/model/m/invoke", {"max_tokens": 6}, "invoke", "aws", "m", 6, False),
        (
            "https://us-east5-aiplatform.googleapis.com/v1/projects/p/locations/l/publishers/anthropic/models/claude-opus-4-6:rawPredict",
            {"max_tokens": 2},
            "messages",
            "google",
            "claude-opus-4-6",
            2,
            False,
        ),
        (
            "https://api.cohere.com/v2/chat",
            {"model": "command-a", "max_tokens": 11},
            "cohere",
            "cohere",
            "command-a",
            11,
            False,
        ),
        (
            "http://127.0.0.1:11434/api/chat",
            {"model": "llama3", "options": {"num_predict": 12}},
            "ollama",
            "ollama",
            "llama3",
            12,
            True,
        ),
        (
            "http://gateway.internal:4000/v1/chat/completions",
            {"model": "gpt-4o"},
            "chat",
            "",
            "gpt-4o",
            None,
            False,
        ),
        (
            "https://openrouter.ai/api/v1/chat/completions",
            {"model": "z-ai/glm-4.6"},
            "chat",
            "openrouter",
            "z-ai/glm-4.6",
            None,
            False,
        ),
    ],
)
def test_model_calls(
    url: str,
    body: dict[str, Any],
    api: str,
    provider: str,
    model: str,
    output_limit: int | None,
    is_stream: bool,
) -> None:
    """Every API that agents use, at its provider or at a gateway."""
    found = call(url, body)
    assert (found.api.name, found.provider, found.model) == (api, provider, model)
    assert (found.output_limit, found.is_stream) == (output_limit, is_stream)


@pytest.mark.parametrize(
    ("method", "url", "body"),
    [
        ("GET", f"{OPENAI}/chat/completions", None),
        ("POST", f"{OPENAI}/files", b'{"model": "gpt-5"}'),
        ("POST", "https://api.anthropic.com/v1/messages/count_tokens", b'{"model": "claude-opus-4-6"}'),
        ("POST", "https://api.openai.com/v1/files", b'{"model": "x"}'),
        ("POST", "https://shop.example/api/responses", b'{"form": 1}'),
        ("POST", "https://shop.example/v1/messages", b"name=value"),
        ("POST", "https://shop.example/chat/completions", b""),
        ("POST", "https://shop.example/upload", None),
        ("POST", "https://evil.example/api.openai.com/other", b'{"model": "gpt-5"}'),
    ],
)
def test_other_traffic_is_left_alone(method: str, url: str, body: bytes | None) -> None:
    """A path that looks alike is not enough: the host must be a provider's, or the body name a model."""
    assert recognise(method, url, body) is None


def test_a_body_that_cannot_be_read_is_still_a_call_at_a_providers_host() -> None:
    """An upload of unknown content is not let through unseen."""
    found = recognise("POST", f"{OPENAI}/chat/completions", b"\xff\xfe")
    assert found is not None
    assert (found.model, found.body, found.prompt) == ("", {}, b"\xff\xfe")


def test_keys_and_prompts_do_not_show() -> None:
    """What is printed of a call has neither its query nor its body."""
    found = call(f"{GEMINI}/models/g:generateContent?key=SECRET", {"contents": [{"text": "PROMPT"}]})
    assert "SECRET" not in repr(found)
    assert "PROMPT" not in repr(found)
    assert found.target == "POST generativelanguage.googleapis.com/v1beta/models/g:generateContent"


def test_files_are_not_prompt() -> None:
    """The bytes of an image are not taken for text, wherever a provider keeps them; links count as files."""
    image = base64.b64encode(bytes(range(256)) * 40).decode()
    bodies = [
        {"content": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}}]},
        {"content": [{"type": "image", "source": {"type": "base64", "data": image}}]},
        {"contents": [{"parts": [{"inlineData": {"data": image}}]}]},
        {"messages": [{"content": [{"image": {"source": {"bytes": image}}}]}]},
        {"messages": [{"images": [image]}]},
    ]
    for body in bodies:
        found = call(f"{OPENAI}/chat/completions", {"model": "gpt-4o", **body})
        assert (found.files, len(found.prompt) < 200) == (1, True)
        assert found.file_bytes >= len(image)
    linked = call(
        f"{OPENAI}/chat/completions", {"model": "g", "c": [{"image_url": {"url": "https://x/y.png"}}]}
    )
    assert (linked.files, linked.file_bytes) == (1, 0)


@pytest.mark.parametrize(
    ("part", "writes_cache"),
    [
        ({"text": "hi", "cache_control": {"type": "ephemeral"}}, True),
        ({"cachePoint": {"type": "default"}}, True),
        ({"data": "x", "cache_control": {"type": "ephemeral"}}, True),
        ({"text": 'what does "cache_control": {} do?', "data": "x"}, False),
    ],
)
def test_a_cache_is_asked_for_by_a_key(part: dict[str, Any], writes_cache: bool) -> None:
    """A prompt that talks of caching is not held at the dearer rate of what writes a cache."""
    body = {"model": "claude-sonnet-4-6", "messages": [{"role": "user", "content": [part]}]}
    found = call("https://api.anthropic.com/v1/messages", body)
    assert found.writes_cache is writes_cache


def test_long_text_under_a_files_key_is_prompt() -> None:
    """Prose cannot pass for a file: it has blanks."""
    found = call(f"{OPENAI}/chat/completions", {"model": "g", "data": "some words " * 100})
    assert (found.files, found.file_bytes) == (0, 0)


CHAT_SPAN = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o",
}


def test_the_span_says_who_is_behind_a_gateway() -> None:
    """A host of one's own gets the provider that the span around the request names."""
    url = "https://llm.example/v1/chat/completions"
    found = call(url, {"model": "gpt-5"}, told=lambda: told_by(CHAT_SPAN))
    assert (found.provider, found.model) == ("openai", "gpt-5")


def test_the_span_makes_a_call_of_an_unknown_path() -> None:
    """A prompt sent from inside a model call's span is a model call, wherever it goes."""
    body = {"inputs": "hello", "parameters": {"max_new_tokens": 70}}
    found = call("https://llm.example/generate", body, told=lambda: told_by(CHAT_SPAN))
    assert (found.api.name, found.provider, found.model) == ("other", "openai", "gpt-4o")
    assert found.output_limit == 70


@pytest.mark.parametrize(
    ("url", "body", "span"),
    [
        ("https://llm.example/generate", b'{"inputs": "hello"}', {"gen_ai.operation.name": "execute_tool"}),
        ("https://llm.example/generate", b'{"inputs": "hello"}', {}),
        ("https://oauth2.googleapis.com/token", b"grant_type=refresh_token", CHAT_SPAN),
        ("https://llm.example/telemetry", b'{"event": "sent"}', CHAT_SPAN),
        (f"{OPENAI}/files", b'{"purpose": "batch", "input": "x"}', CHAT_SPAN),
        (f"{GEMINI}/models/gemini-2.5-pro:countTokens", b'{"contents": []}', CHAT_SPAN),
    ],
)
def test_what_else_a_client_sends_is_left_alone(url: str, body: bytes, span: dict[str, str]) -> None:
    """Tokens are fetched, files sent and prompts measured below such spans too, and tools call anything."""
    assert recognise("POST", url, body, lambda: told_by(span)) is None

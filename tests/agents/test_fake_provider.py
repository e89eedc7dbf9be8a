"""The fake provider speaks each protocol well enough for the real SDKs, and bills what the script says."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from otel_cost.fake_provider import FakeProvider, Reply, ToolCall
from otel_cost.usage import Usage

TRUTH = Usage(
    input_tokens=400,
    cache_read_tokens=500,
    cache_write_tokens=70,
    cache_write_1h_tokens=30,
    output_tokens=50,
    reasoning_tokens=150,
)
REPLY = Reply("four words of text", usage=TRUTH)
QUESTION = [{"role": "user", "content": "hello"}]


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    """A provider that bills the truth for every request."""
    with FakeProvider(REPLY, id_prefix="fake") as provider:
        yield provider


@pytest.fixture
def openai_client(provider: FakeProvider) -> Iterator[openai.OpenAI]:
    """The real OpenAI SDK, without retries."""
    with openai.OpenAI(base_url=provider.openai_url, api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def anthropic_client(provider: FakeProvider) -> Iterator[anthropic.Anthropic]:
    """The real Anthropic SDK, without retries."""
    with anthropic.Anthropic(base_url=provider.url, api_key="none", max_retries=0) as client:
        yield client


def post(url: str, body: object) -> bytes:
    """Return the answer to a JSON request."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request) as response:
        return response.read()


def data_lines(content: bytes) -> list[dict[str, Any]]:
    """Return the bodies of streamed events."""
    return [json.loads(line[6:]) for line in content.splitlines() if line.startswith(b"data: ")]


def test_openai_chat_counts_parts_inside_totals(provider, openai_client):
    """A chat completion reports cached input and reasoning inside its totals."""
    reply = openai_client.chat.completions.create(model="gpt-5-mini", messages=QUESTION)
    assert reply.choices[0].message.content == "four words of text"
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (1000, 200)
    assert reply.usage.prompt_tokens_details.cached_tokens == 500
    assert reply.usage.completion_tokens_details.reasoning_tokens == 150
    assert reply.id == provider.calls[0].response_id == "chatcmpl-fake-000001"


def test_openai_chat_stream_sends_usage_only_when_asked(openai_client):
    """A stream ends with a usage chunk for a client that asked for it, and without one otherwise."""
    silent = list(openai_client.chat.completions.create(model="gpt-5-mini", messages=QUESTION, stream=True))
    asked = list(
        openai_client.chat.completions.create(
            model="gpt-5-mini", messages=QUESTION, stream=True, stream_options={"include_usage": True}
        )
    )
    assert [chunk.usage for chunk in silent if chunk.usage] == []
    assert asked[-1].usage.prompt_tokens == 1000
    text = "".join(chunk.choices[0].delta.content or "" for chunk in asked if chunk.choices)
    assert text == "four words of text"


def test_mistral_streams_always_tell_usage(provider):
    """Mistral speaks OpenAI's protocol, but does not wait to be asked for usage."""
    asked = {"model": "mistral-large-latest", "messages": QUESTION, "stream": True}
    lines = post(f"{provider.openai_url}/chat/completions", asked).splitlines()
    chunks = [json.loads(line[6:]) for line in lines if line.startswith(b"data: {")]
    assert [chunk["usage"]["prompt_tokens"] for chunk in chunks if "usage" in chunk] == [1000]


def test_openai_responses(openai_client):
    """A response reports the same usage whether it is streamed or not."""
    whole = openai_client.responses.create(model="gpt-5-mini", input="hello")
    with openai_client.responses.stream(model="gpt-5-mini", input="hello") as stream:
        streamed = stream.get_final_response()
    assert whole.output_text == streamed.output_text == "four words of text"
    assert whole.usage == streamed.usage
    assert whole.usage.input_tokens_details.cached_tokens == 500
    assert whole.usage.output_tokens_details.reasoning_tokens == 150


def test_openai_embeddings_bill_input_only(provider, openai_client):
    """Each text of an embeddings request gets a vector, and output is nothing."""
    reply = openai_client.embeddings.create(model="text-embedding-3-small", input=["a", "b"])
    assert len(reply.data) == 2
    assert reply.usage.total_tokens == 1000
    assert provider.count("openai.embeddings") == 1


def test_anthropic_counts_cache_beside_input(anthropic_client):
    """Anthropic's input leaves out cached tokens, and splits cache writes by their lifetime."""
    usage = anthropic_client.messages.create(model="claude-sonnet-4-6", max_tokens=9, messages=QUESTION).usage
    assert (usage.input_tokens, usage.output_tokens) == (400, 200)
    assert (usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (500, 100)
    assert usage.cache_creation.ephemeral_1h_input_tokens == 30


def test_anthropic_stream_ends_with_the_same_usage(anthropic_client):
    """A streamed message accumulates to the usage of a whole one."""
    with anthropic_client.messages.stream(
        model="claude-sonnet-4-6", max_tokens=9, messages=QUESTION
    ) as stream:
        message = stream.get_final_message()
    assert message.content[0].text == "four words of text"
    assert (message.usage.input_tokens, message.usage.output_tokens) == (400, 200)
    assert message.usage.cache_creation.ephemeral_5m_input_tokens == 70


def test_gemini_counts_thoughts_beside_candidates(provider):
    """Gemini's prompt holds the cached tokens; thoughts are not in the candidates."""
    body = json.loads(post(f"{provider.url}/v1beta/models/gemini-3-pro:generateContent", {"contents": []}))
    usage = body["usageMetadata"]
    assert (usage["promptTokenCount"], usage["cachedContentTokenCount"]) == (1000, 500)
    assert (usage["candidatesTokenCount"], usage["thoughtsTokenCount"]) == (50, 150)
    assert provider.calls[0].model == "gemini-3-pro"


def test_gemini_stream_carries_the_usage_so_far(provider):
    """Each streamed part has the usage up to it, and the last one all of it."""
    url = f"{provider.url}/v1beta/models/gemini-3-pro:streamGenerateContent?alt=sse"
    parts = [json.loads(line[6:]) for line in post(url, {}).decode().splitlines() if line]
    counts = [part["usageMetadata"]["candidatesTokenCount"] for part in parts]
    assert counts == sorted(counts)
    assert 0 < counts[0] < counts[-1]
    texts = [part["candidates"][0]["content"]["parts"][0]["text"] for part in parts]
    assert "".join(texts) == "four words of text"


def test_bedrock_counts_cache_beside_input(provider):
    """Bedrock Converse's input leaves out cached tokens; the model id is decoded from the path."""
    body = json.loads(
        post(f"{provider.url}/model/anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse", {"messages": []})
    )
    assert body["usage"]["inputTokens"] == 400
    assert body["usage"]["cacheReadInputTokens"] == 500
    assert provider.calls[0].model == "anthropic.claude-sonnet-4-5-20250929-v1:0"


def test_cohere_reports_what_it_bills(provider):
    """A Cohere chat tells billed units, whole and at the end of a stream, inside the last delta."""
    asked = {"model": "command-a-03-2025", "messages": QUESTION}
    whole = json.loads(post(f"{provider.url}/v2/chat", asked))
    events = data_lines(post(f"{provider.url}/v2/chat", asked | {"stream": True}))
    assert whole["message"]["content"][0]["text"] == "four words of text"
    assert whole["usage"]["billed_units"] == {"input_tokens": 1000, "output_tokens": 200}
    assert (events[0]["type"], events[-1]["type"]) == ("message-start", "message-end")
    assert events[-1]["delta"]["usage"] == whole["usage"]
    texts = [e["delta"]["message"]["content"]["text"] for e in events if e["type"] == "content-delta"]
    assert "".join(texts) == "four words of text"
    assert [(call.api, call.model, call.stream) for call in provider.calls] == [
        ("cohere", "command-a-03-2025", False),
        ("cohere", "command-a-03-2025", True),
    ]


def test_ollama_streams_lines_unless_told_otherwise(provider):
    """Ollama streams by default, a document a line; the last one has the counts."""
    asked = {"model": "llama3.2", "messages": QUESTION}
    lines = [json.loads(line) for line in post(f"{provider.url}/api/chat", asked).splitlines()]
    whole = json.loads(post(f"{provider.url}/api/chat", asked | {"stream": False}))
    assert "".join(line["message"]["content"] for line in lines) == "four words of text"
    assert [line["done"] for line in lines] == [False] * 4 + [True]
    assert ["eval_count" in line for line in lines] == [False] * 4 + [True]
    for last in (lines[-1], whole):
        assert (last["prompt_eval_count"], last["eval_count"]) == (1000, 200)
    assert [call.stream for call in provider.calls] == [True, False]


@pytest.mark.parametrize(("path", "streams"), [("/v2/chat", False), ("/api/chat", True)])
def test_tool_calls_and_errors_of_cohere_and_ollama(provider, path, streams):
    """A scripted tool call and a scripted error come in the form of each."""
    provider.script = Reply(tool_calls=[ToolCall("search", {"query": "tea"})])
    answer = json.loads(post(provider.url + path, {"model": "m", "messages": QUESTION}))
    (asked,) = answer["message"]["tool_calls"]
    arguments = asked["function"]["arguments"]
    assert asked["function"]["name"] == "search"
    assert (arguments if streams else json.loads(arguments)) == {"query": "tea"}
    provider.script = Reply(status=503, error="down")
    with pytest.raises(urllib.error.HTTPError) as caught:
        post(provider.url + path, {"model": "m", "messages": QUESTION})
    with caught.value:
        assert "down" in json.load(caught.value).values()


def test_tool_calls_reach_the_sdk(openai_client, anthropic_client, provider):
    """A scripted tool call arrives with its arguments, streamed or not, in every dialect."""
    provider.script = Reply(tool_calls=[ToolCall("search", {"query": "tea"})])
    chat = openai_client.chat.completions.create(model="gpt-5-mini", messages=QUESTION)
    with openai_client.responses.stream(model="gpt-5-mini", input="hello") as stream:
        response = stream.get_final_response()
    with anthropic_client.messages.stream(
        model="claude-sonnet-4-6", max_tokens=9, messages=QUESTION
    ) as stream:
        message = stream.get_final_message()
    assert json.loads(chat.choices[0].message.tool_calls[0].function.arguments) == {"query": "tea"}
    assert json.loads(response.output[0].arguments) == {"query": "tea"}
    assert message.content[0].input == {"query": "tea"}


def test_errors_are_the_providers_own(openai_client, anthropic_client, provider):
    """A scripted error is raised as the SDK's error for that status, is logged, and bills nothing."""
    provider.script = Reply(status=429, error="slow down", headers={"retry-after": "0"})
    with pytest.raises(openai.RateLimitError, match="slow down"):
        openai_client.chat.completions.create(model="gpt-5-mini", messages=QUESTION)
    with pytest.raises(anthropic.RateLimitError, match="slow down"):
        anthropic_client.messages.create(model="claude-sonnet-4-6", max_tokens=9, messages=QUESTION)
    assert provider.count() == 2
    assert provider.truth() == Usage()


def test_a_cut_stream_breaks_the_connection(openai_client, provider):
    """A stream cut after two events fails in the client instead of looking finished."""
    provider.script = Reply("a b c d", cut_after=2)
    stream = openai_client.chat.completions.create(model="gpt-5-mini", messages=QUESTION, stream=True)
    with pytest.raises(openai.APIConnectionError):
        list(stream)


def test_replies_come_in_order_and_the_last_repeats():
    """A list of replies is used up in order; the truth is the sum of what was billed."""
    replies = [Reply("one", usage=Usage(input_tokens=1)), Reply("two", usage=Usage(input_tokens=10))]
    with (
        FakeProvider(replies, id_prefix="run") as provider,
        openai.OpenAI(base_url=provider.openai_url, api_key="none") as client,
    ):
        answers = [
            client.chat.completions.create(model="gpt-5-mini", messages=QUESTION).choices[0].message.content
            for _ in range(3)
        ]
        assert answers == ["one", "two", "two"]
        assert provider.truth() == Usage(input_tokens=21)
        assert [call.response_id for call in provider.calls] == [f"chatcmpl-run-00000{n}" for n in (1, 2, 3)]


def test_two_providers_give_different_ids():
    """A second run's calls are not taken for repeats of the first one's; a prefix that is given is kept."""
    ids = []
    for options in ({}, {}, {"id_prefix": "run"}, {"id_prefix": "run"}):
        with FakeProvider(**options) as provider:
            post(f"{provider.openai_url}/chat/completions", {"model": "gpt-5-mini", "messages": QUESTION})
            ids.append(provider.calls[0].response_id)
    assert len(set(ids)) == 3
    assert ids[2] == ids[3] == "chatcmpl-run-000001"


def test_an_unknown_path_is_refused_and_logged(provider):
    """A request to no known API gets 404 and stays in the log."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        post(f"{provider.url}/v2/else", {})
    caught.value.close()
    assert caught.value.code == 404
    assert [call.api for call in provider.calls] == ["unknown"]

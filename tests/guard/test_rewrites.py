"""Changes of requests, each API's in its own place; no client and no provider."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from otel_cost.guard.calls import ModelCall, recognise
from otel_cost.guard.rewrites import (
    UsageFilter,
    asking_for_usage,
    change,
    encoded,
    least_output,
    most_output,
    with_model,
    with_note,
    with_output_limit,
    without_tools,
)

NOTE = "Note: little is left."
OPENAI = "https://api.openai.com/v1"
INTERACTIONS = "https://generativelanguage.googleapis.com/v1beta/interactions"
GEMINI = "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-pro:generateContent"
BEDROCK = "https://bedrock-runtime.us-east-1.amazonaws.com/model/us.amazon.nova-pro-v1%3A0"
USER = {"role": "user", "content": "hello"}
TOOLS = [{"type": "function", "function": {"name": "search"}}]


def call(url: str, **body: Any) -> ModelCall:
    """Return the model call that a request is."""
    made = recognise("POST", url, json.dumps(body))
    assert made is not None
    return made


def chat(**body: Any) -> ModelCall:
    """Return a call of OpenAI's chat API."""
    return call(f"{OPENAI}/chat/completions", **{"model": "gpt-4o", "messages": [USER], **body})


def claude(**body: Any) -> ModelCall:
    """Return a call of Anthropic's API."""
    given = {"model": "claude-sonnet-4-6", "max_tokens": 8_000, "messages": [USER], **body}
    return call("https://api.anthropic.com/v1/messages", **given)


# --- models -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "body", "changed_url", "changed_model"),
    [
        (f"{OPENAI}/chat/completions", {"model": "gpt-5"}, f"{OPENAI}/chat/completions", "a b"),
        (
            f"{GEMINI}?alt=sse&key=k",
            {},
            GEMINI.replace("gemini-2.5-pro", "a%20b") + "?alt=sse&key=k",
            None,
        ),
        (f"{BEDROCK}/converse-stream", {}, f"{BEDROCK.rpartition('/')[0]}/a%20b/converse-stream", None),
        (
            "https://x.openai.azure.com/openai/deployments/big/chat/completions?api-version=2024-10-21",
            {"model": "big"},
            "https://x.openai.azure.com/openai/deployments/a%20b/chat/completions?api-version=2024-10-21",
            "a b",
        ),
    ],
)
def test_a_model_is_changed_wherever_it_is_named(
    url: str, body: dict[str, Any], changed_url: str, changed_model: str | None
) -> None:
    """In the body, in the path, and in both at once; the query stays."""
    made = change(with_model(call(url, **body), "a b"))
    assert made.url == changed_url
    assert made.document.get("model") == changed_model
    again = recognise("POST", made.url, made.body)
    assert again is not None
    assert again.model == "a b"


# --- output limits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "limited"),
    [
        (chat(max_tokens=900), {"max_tokens": 300}),
        (chat(max_completion_tokens=900), {"max_completion_tokens": 300}),
        (chat(max_completion_tokens=100), {"max_completion_tokens": 100}),
        (chat(max_tokens=900, n=3), {"max_tokens": 100}),
        (chat(), {"max_completion_tokens": 300}),
        (chat(model="o3"), {"max_completion_tokens": 300}),
        (call("http://gw/v1/chat/completions", model="mistral-small"), {"max_tokens": 300}),
        (call("http://gw/v1/chat/completions", model="openai/gpt-4o"), {"max_completion_tokens": 300}),
        (call(f"{OPENAI}/responses", model="gpt-4o", input="x"), {"max_output_tokens": 300}),
        (claude(), {"max_tokens": 300}),
        (call(GEMINI, contents=[]), {"generationConfig": {"maxOutputTokens": 300}}),
        (
            call(INTERACTIONS, model="gemini-3.5-flash", input="x"),
            {"generation_config": {"max_output_tokens": 300}},
        ),
        (
            call(GEMINI, generationConfig={"temperature": 0, "maxOutputTokens": 900}),
            {"generationConfig": {"temperature": 0, "maxOutputTokens": 300}},
        ),
        (call(f"{BEDROCK}/converse", messages=[]), {"inferenceConfig": {"maxTokens": 300}}),
        (call(f"{BEDROCK}/invoke", messages=[]), {"inferenceConfig": {"maxTokens": 300}}),
        (call("https://api.cohere.com/v2/chat", model="command-a"), {"max_tokens": 300}),
        (call("http://localhost:11434/api/chat", model="qwen3"), {"options": {"num_predict": 300}}),
    ],
)
def test_an_output_limit_is_lowered_or_added(made: ModelCall, limited: dict[str, Any]) -> None:
    """Where the API has it; over all answers together; never raised."""
    before = copy.deepcopy(made.body)
    body = with_output_limit(made, 300).body
    assert {key: body[key] for key in limited} == limited
    assert set(body) - set(limited) == set(made.body) - set(limited)
    assert made.body == before


def test_a_thinking_budget_stays_below_the_limit() -> None:
    """Anthropic refuses `max_tokens` that is not above it; below 1,024 it refuses the budget."""
    thinking = {"type": "enabled", "budget_tokens": 6_000}
    made = claude(thinking=thinking)
    assert least_output(made) == 1_024 + 256
    assert with_output_limit(made, 7_000).body["thinking"]["budget_tokens"] == 6_000
    for tokens, budget in ((4_000, 2_000), (1_280, 1_024)):
        limited = with_output_limit(made, tokens)
        assert limited.body["max_tokens"] == limited.output_limit == tokens
        assert limited.body["thinking"] == {"type": "enabled", "budget_tokens": budget}
    nested = call(
        f"{BEDROCK}/converse",
        inferenceConfig={"maxTokens": 8_000},
        additionalModelRequestFields={"thinking": thinking, "top_k": 5},
    )
    fields = with_output_limit(nested, 4_000).body["additionalModelRequestFields"]
    assert fields == {"thinking": {"type": "enabled", "budget_tokens": 2_000}, "top_k": 5}


@pytest.mark.parametrize(
    ("made", "tokens"),
    [
        (chat(max_tokens=9_000), 9_000),
        (chat(), 4_096),
        (chat(n=2), 8_192),
        (call(f"{BEDROCK.rpartition('/')[0]}/meta.llama3-8b-instruct-v1%3A0/invoke", prompt="x"), 2_048),
        (call(f"{BEDROCK.rpartition('/')[0]}/somebody.new-v1%3A0/invoke", prompt="x"), 0),
        (call(f"{OPENAI}/embeddings", model="text-embedding-3-small", input="x"), 0),
    ],
)
def test_what_can_be_limited(made: ModelCall, tokens: int) -> None:
    """A limit that a request lacks is one that every model takes; where none is known there is none."""
    assert most_output(made) == tokens


# --- notes ------------------------------------------------------------------------------------------------

ASKED = {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function"}]}
TOOL_RESULT = {"type": "tool_result", "tool_use_id": "t", "content": "found"}
CACHED = {"type": "text", "text": "long", "cache_control": {"type": "ephemeral"}}
RESULT = {"toolUseId": "t", "content": [{"json": {"a": 1}}], "status": "success"}
ANSWERED = {"name": "f", "response": {"result": 1}}


@pytest.mark.parametrize(
    ("made", "key", "last"),
    [
        (chat(), "messages", {"role": "user", "content": f"hello\n\n{NOTE}"}),
        (
            chat(messages=[USER, ASKED, {"role": "tool", "tool_call_id": "c", "content": "found"}]),
            "messages",
            {"role": "tool", "tool_call_id": "c", "content": f"found\n\n{NOTE}"},
        ),
        (
            chat(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]),
            "messages",
            {
                "role": "user",
                "content": [{"type": "image_url", "image_url": {}}, {"type": "text", "text": NOTE}],
            },
        ),
        (
            claude(),
            "messages",
            {"role": "user", "content": [{"type": "text", "text": "hello"}, {"type": "text", "text": NOTE}]},
        ),
        (
            claude(messages=[USER, {"role": "user", "content": [TOOL_RESULT, CACHED]}]),
            "messages",
            {"role": "user", "content": [TOOL_RESULT, CACHED, {"type": "text", "text": NOTE}]},
        ),
        (
            call(
                f"{OPENAI}/responses",
                model="gpt-4o",
                input=[{"type": "function_call_output", "call_id": "c", "output": "found"}],
            ),
            "input",
            {"type": "function_call_output", "call_id": "c", "output": f"found\n\n{NOTE}"},
        ),
        (
            call(GEMINI, contents=[{"role": "user", "parts": [{"text": "hello"}]}]),
            "contents",
            {"role": "user", "parts": [{"text": "hello"}, {"text": NOTE}]},
        ),
        (
            call(GEMINI, contents=[{"role": "user", "parts": [{"functionResponse": ANSWERED}]}]),
            "contents",
            {
                "role": "user",
                "parts": [{"functionResponse": {"name": "f", "response": {"result": 1, "budget": NOTE}}}],
            },
        ),
        (
            call(INTERACTIONS, model="gemini-3.5-flash", input=[{"type": "user_input", "content": "hello"}]),
            "input",
            {"type": "user_input", "content": f"hello\n\n{NOTE}"},
        ),
        (
            call(
                INTERACTIONS,
                model="gemini-3.5-flash",
                input=[
                    {"type": "function_result", "call_id": "c", "result": [{"type": "text", "text": "5"}]}
                ],
            ),
            "input",
            {
                "type": "function_result",
                "call_id": "c",
                "result": [{"type": "text", "text": "5"}, {"type": "text", "text": NOTE}],
            },
        ),
        (
            call(f"{BEDROCK}/converse", messages=[{"role": "user", "content": [{"text": "hello"}]}]),
            "messages",
            {"role": "user", "content": [{"text": "hello"}, {"text": NOTE}]},
        ),
        (
            call(f"{BEDROCK}/converse", messages=[{"role": "user", "content": [{"toolResult": RESULT}]}]),
            "messages",
            {
                "role": "user",
                "content": [{"toolResult": {**RESULT, "content": [{"json": {"a": 1}}, {"text": NOTE}]}}],
            },
        ),
        (
            call("http://localhost:11434/api/chat", model="qwen3", messages=[USER]),
            "messages",
            {"role": "user", "content": f"hello\n\n{NOTE}"},
        ),
    ],
)
def test_a_note_stands_at_the_end(made: ModelCall, key: str, last: dict[str, Any]) -> None:
    """It is in the last message, behind or inside the results of tools; all before it is as it was."""
    before = copy.deepcopy(made.body)
    noted = with_note(made, NOTE)
    assert noted.body[key][-1] == last
    assert noted.body[key][:-1] == before[key][:-1]
    assert {**noted.body, key: None} == {**before, key: None}
    assert made.body == before
    added = len(encoded(noted.body)) - len(encoded(before))
    assert len(noted.prompt) >= len(made.prompt) + added


@pytest.mark.parametrize(
    "made",
    [
        chat(messages=[USER, {"role": "assistant", "content": "I think"}]),
        chat(messages=[]),
        chat(messages="no list"),
        claude(messages=[{"role": "user", "content": ""}]),
        call(f"{OPENAI}/completions", model="gpt-3.5-turbo-instruct", prompt="once"),
        call(f"{OPENAI}/embeddings", model="text-embedding-3-small", input="x"),
        call(GEMINI, contents=[{"role": "user", "parts": []}]),
        call(f"{BEDROCK}/converse", messages=[{"role": "user", "content": [{"toolResult": None}, 5]}]),
        call(f"{BEDROCK}/invoke", messages=[USER]),
    ],
)
def test_where_a_note_has_no_place(made: ModelCall) -> None:
    """An answer begun for the model to go on with, a text to complete, a body of unknown form: no change."""
    assert with_note(made, NOTE) is made


@pytest.mark.parametrize(
    "made",
    [
        call(f"{OPENAI}/responses", model="gpt-4o", input="go on", previous_response_id="r"),
        call(INTERACTIONS, model="gemini-3.5-flash", input="go on", previous_interaction_id="r"),
    ],
)
def test_a_conversation_the_provider_keeps_gets_no_reminder(made: ModelCall) -> None:
    """It would stay in it and pile up; the note of the last call does no harm."""
    assert with_note(made, NOTE) is made
    assert with_note(made, NOTE, is_last=True).body["input"] == f"go on\n\n{NOTE}"


@pytest.mark.parametrize(
    ("made", "choice"),
    [
        (chat(tools=TOOLS, tool_choice="required"), {"tool_choice": "none"}),
        (chat(functions=[{"name": "search"}]), {"function_call": "none"}),
        (chat(), {}),
        (claude(tools=[{"name": "search"}]), {"tool_choice": {"type": "none"}}),
        (call(f"{OPENAI}/responses", model="gpt-4o", tools=TOOLS), {"tool_choice": "none"}),
        (
            call(INTERACTIONS, model="gemini-3.5-flash", tools=TOOLS),
            {"generation_config": {"tool_choice": "none"}},
        ),
        (
            call(GEMINI, tools=[{"functionDeclarations": []}], tool_config={}),
            {"toolConfig": {"functionCallingConfig": {"mode": "NONE"}}},
        ),
        (
            call(f"{BEDROCK}/converse", toolConfig={"tools": TOOLS, "toolChoice": {"any": {}}}),
            {"toolConfig": {"tools": TOOLS}},
        ),
        (call("https://api.cohere.com/v2/chat", model="command-a", tools=TOOLS), {"tool_choice": "NONE"}),
    ],
)
def test_tools_are_forbidden_where_there_are_any(made: ModelCall, choice: dict[str, Any]) -> None:
    """OpenAI refuses a choice without tools; Bedrock refuses tool results without a list of tools."""
    body = without_tools(made).body
    assert {key: body[key] for key in choice} == choice
    assert body.get("tools") == made.body.get("tools")
    if not choice:
        assert body is made.body


# --- usage of streams -------------------------------------------------------------------------------------


def test_usage_is_asked_for_where_that_is_known_to_work() -> None:
    """Only of known hosts, only of streams, and never against what the request says."""
    asked = asking_for_usage(chat(stream=True, stream_options={"include_obfuscation": False}))
    assert asked.body["stream_options"] == {"include_obfuscation": False, "include_usage": True}
    gateway = call("http://gateway/v1/chat/completions", model="gpt-4o", messages=[], stream=True)
    told = chat(stream=True, stream_options={"include_usage": False})
    responses = call(f"{OPENAI}/responses", model="gpt-4o", input="x", stream=True)
    for made in (chat(), gateway, told, responses):
        assert asking_for_usage(made) is made


@pytest.mark.parametrize("size", [0, 1, 7, 64, 10_000])
def test_only_the_usage_chunk_is_hidden(size: int) -> None:
    """Whatever pieces the bytes come in, all others pass as they are."""
    chunks = [
        {"choices": [{"delta": {"content": 'data: {"choices":[],"usage":{}}'}}], "usage": None},
        {"choices": [], "prompt_filter_results": [], "usage": None},
        {"choices": [], "usage": {"prompt_tokens": 5}},
    ]
    events = [f"data: {json.dumps(chunk)}\r\n\r\n".encode() for chunk in chunks]
    stream = b"".join([b": ping\n\n", *events, b"data: [DONE]\n\n", b"data: cut o"])
    hidden = UsageFilter()
    pieces = (
        [stream[at : at + size] for at in range(0, len(stream), size)] if size else stream.splitlines(True)
    )
    shown = b"".join(map(hidden.feed, pieces))
    assert shown + hidden.finish() == stream.replace(events[2], b"")


# --- bytes ------------------------------------------------------------------------------------------------


def test_a_changed_body_says_the_same() -> None:
    """Text of any script, numbers and the order of keys survive; what JSON cannot hold is an error."""
    text = '{"model":"gpt-4o","messages":[{"role":"user","content":"naïve \\u2028 \\ud83d"}],"top_p":1e-7}'
    made = recognise("POST", f"{OPENAI}/chat/completions", text)
    assert made is not None
    assert json.loads(change(made).body) == json.loads(text)
    assert list(json.loads(change(made).body)) == ["model", "messages", "top_p"]
    huge = recognise("POST", f"{OPENAI}/chat/completions", '{"model":"gpt-4o","seed":1e999}')
    assert huge is not None
    with pytest.raises(ValueError, match="JSON"):
        change(huge)

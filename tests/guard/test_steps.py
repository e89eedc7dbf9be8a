"""What a request says its agent did since the one before, in every API's way of writing it down."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from typing import Any

import anthropic
import httpx
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_cost.detectors import (
    IDENTICAL_CALLS,
    RETRY_STORM,
    Finding,
    ModelCallOutcome,
    Step,
    Watch,
    fingerprint,
    similarity_ratio,
)
from otel_cost.fake_provider import FakeProvider, Reply, ToolCall
from otel_cost.guard.calls import recognise
from otel_cost.guard.steps import MAX_ITEMS, read_step

URLS = {
    "chat": "https://api.openai.com/v1/chat/completions",
    "responses": "https://api.openai.com/v1/responses",
    "messages": "https://api.anthropic.com/v1/messages",
    "gemini": "https://generativelanguage.googleapis.com/v1beta/models/gemini-3-pro:generateContent",
    "interactions": "https://generativelanguage.googleapis.com/v1/interactions",
    "converse": "https://bedrock-runtime.us-east-1.amazonaws.com/model/claude/converse",
    "ollama": "http://127.0.0.1:11434/api/chat",
}
TASK = "Find the answer."

Tool = Callable[[str, dict[str, Any]], tuple[str, bool]]
"""Runs a tool: what it returns, and whether it failed."""


def step(api: str, body: dict[str, Any]) -> Step:
    """Return what a request of an API says."""
    call = recognise("POST", URLS[api], json.dumps({"model": "m", **body}).encode())
    assert call is not None
    return read_step(call)


def run_chat(provider: FakeProvider, tool: Tool, turns: int) -> None:
    """An agent on OpenAI's chat completions."""
    messages: list[Any] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": TASK}]
    with openai.OpenAI(base_url=provider.openai_url, api_key="none") as client:
        for _ in range(turns):
            answer = client.chat.completions.create(model="gpt-5", messages=messages).choices[0].message
            messages.append(answer)
            for call in answer.tool_calls or ():
                result, _ = tool(call.function.name, json.loads(call.function.arguments))
                messages.append({"role": "tool", "tool_call_id": call.id, "content": result})


def run_responses(provider: FakeProvider, tool: Tool, turns: int) -> None:
    """An agent on OpenAI's responses."""
    items: list[Any] = [{"role": "user", "content": TASK}]
    with openai.OpenAI(base_url=provider.openai_url, api_key="none") as client:
        for _ in range(turns):
            output = client.responses.create(model="gpt-5", instructions="Be brief.", input=items).output
            items += output
            for item in output:
                if item.type == "function_call":
                    result, _ = tool(item.name, json.loads(item.arguments))
                    came = {"type": "function_call_output", "call_id": item.call_id, "output": result}
                    items.append(came)


def run_messages(provider: FakeProvider, tool: Tool, turns: int) -> None:
    """An agent on Anthropic's messages."""
    messages: list[Any] = [{"role": "user", "content": TASK}]
    with anthropic.Anthropic(base_url=provider.url, api_key="none") as client:
        for _ in range(turns):
            answer = client.messages.create(model="claude", max_tokens=99, system="Brief.", messages=messages)
            messages.append({"role": "assistant", "content": answer.content})
            results = []
            for block in answer.content:
                if block.type == "tool_use":
                    result, has_failed = tool(block.name, block.input)
                    came = {"type": "tool_result", "tool_use_id": block.id, "content": result}
                    results.append(came | {"is_error": has_failed})
            messages.append({"role": "user", "content": results})


def run_gemini(provider: FakeProvider, tool: Tool, turns: int) -> None:
    """An agent on Gemini, whose answers go back as they came."""
    contents: list[Any] = [{"role": "user", "parts": [{"text": TASK}]}]
    for _ in range(turns):
        url = f"{provider.url}/v1beta/models/gemini-3-pro:generateContent"
        answer = httpx.post(url, json={"contents": contents}).json()["candidates"][0]["content"]
        contents.append(answer)
        parts = []
        for part in answer["parts"]:
            if call := part.get("functionCall"):
                result, has_failed = tool(call["name"], call["args"])
                response = {"error" if has_failed else "output": result}
                parts.append({"functionResponse": {"name": call["name"], "response": response}})
        contents.append({"role": "user", "parts": parts})


def run_interactions(provider: FakeProvider, tool: Tool, turns: int) -> None:
    """An agent on Google's interactions that keeps its history itself."""
    items: list[Any] = [{"type": "user_input", "content": [{"type": "text", "text": TASK}]}]
    for _ in range(turns):
        body = {"model": "gemini-3.5-flash", "input": items, "store": False}
        answer = httpx.post(f"{provider.url}/v1/interactions", json=body).json()["steps"]
        items += answer
        for asked in answer:
            if asked["type"] == "function_call":
                result, has_failed = tool(asked["name"], asked["arguments"])
                came = {"type": "function_result", "call_id": asked["id"], "name": asked["name"]}
                items.append({**came, "result": result, "is_error": has_failed})


def run_converse(provider: FakeProvider, tool: Tool, turns: int) -> None:
    """An agent on Bedrock, whose answers go back as they came."""
    messages: list[Any] = [{"role": "user", "content": [{"text": TASK}]}]
    for _ in range(turns):
        url = f"{provider.url}/model/claude/converse"
        answer = httpx.post(url, json={"messages": messages}).json()["output"]["message"]
        messages.append(answer)
        results = []
        for block in answer["content"]:
            if use := block.get("toolUse"):
                result, has_failed = tool(use["name"], use["input"])
                came = {"toolUseId": use["toolUseId"], "content": [{"text": result}]}
                results.append({"toolResult": came | ({"status": "error"} if has_failed else {})})
        messages.append({"role": "user", "content": results})


AGENTS = {
    "chat": run_chat,
    "responses": run_responses,
    "messages": run_messages,
    "gemini": run_gemini,
    "interactions": run_interactions,
    "converse": run_converse,
}


def steps(api: str, replies: Sequence[Reply], tool: Tool, turns: int) -> list[Step]:
    """Return what each request of an agent says, as the provider received it."""
    with FakeProvider(replies) as provider:
        AGENTS[api](provider, tool, turns)
        return [step(api, request.body) for request in provider.requests()]


def asks(*calls: tuple[str, dict[str, Any]]) -> Reply:
    """Return a reply that asks for tools."""
    return Reply(tool_calls=[ToolCall(name, arguments) for name, arguments in calls])


def works(name: str, arguments: dict[str, Any]) -> tuple[str, bool]:
    """A tool that tells what it was asked."""
    return f"{name} {sorted(arguments.items())}", False


def fails(name: str, arguments: dict[str, Any]) -> tuple[str, bool]:
    """A tool that never works."""
    return "Error: no such page", True


@pytest.mark.parametrize("api", AGENTS)
def test_each_request_tells_the_calls_since_the_last(api: str) -> None:
    """Every call is told once, in order, with its name; the first request tells none."""
    replies = [
        asks(("search", {"q": "a"}), ("search", {"q": "b"})),
        asks(("visit", {"url": "x", "page": 1})),
        asks(("visit", {"page": 1, "url": "x"})),
        Reply("done"),
    ]
    first, *told = steps(api, replies, works, 4)
    assert first.tool_calls == ()
    assert [[call.name for call in one.tool_calls] for one in told] == [
        ["search", "search"],
        ["visit"],
        ["visit"],
    ]
    a, b = told[0].tool_calls
    assert a.arguments != b.arguments
    assert a.result != b.result
    assert told[1].tool_calls == told[2].tool_calls, "the order of keys makes no difference"
    assert not any(call.is_failed for one in told for call in one.tool_calls)


@pytest.mark.parametrize("api", AGENTS)
def test_errors_of_tools_are_told(api: str) -> None:
    """Where the API has a flag it counts, elsewhere how the result begins."""
    _, told = steps(api, [asks(("visit", {"url": "x"})), Reply("done")], fails, 2)
    assert [call.is_failed for call in told.tool_calls] == [True]


@pytest.mark.parametrize("api", AGENTS)
def test_each_request_stands_elsewhere_in_one_conversation(api: str) -> None:
    """The tail changes with every step even where the agent does the same again; the conversation stays."""
    told = steps(api, [asks(("wait", {}))], lambda name, arguments: ("still", False), 4)
    assert len({one.tail for one in told}) == 4
    assert len({one.conversation for one in told}) == 1
    assert 0 not in {told[0].tail, told[0].conversation}


@pytest.mark.parametrize("api", AGENTS)
def test_a_loop_is_found_from_its_requests(api: str) -> None:
    """An agent that calls a broken tool again and again is found at the third time, with what it cost."""
    watch, found = Watch(), []
    for one in steps(api, [asks(("visit", {"url": "x"}))], fails, 5):
        found += watch.stepped(one)
        watch.answered(ModelCallOutcome(1_000_000, conversation=one.conversation))
    assert [(finding.kind, finding.count, finding.cost_picousd) for finding in found] == [
        (IDENTICAL_CALLS, 3, 3_000_000)
    ]


def test_a_request_that_the_client_repeats_is_one_step() -> None:
    """The SDK's own retry after an error sends the same body; its tool calls are not counted again."""
    replies = [asks(("visit", {"url": "x"})), Reply(status=500), Reply(status=500), Reply("done")]
    told = steps("chat", replies, fails, 2)
    assert len(told) == 4
    watch = Watch()
    found: list[Finding] = []
    for one in told:
        found += watch.stepped(one)
        watch.answered(ModelCallOutcome(0, is_failed=True, conversation=one.conversation))
    assert found == []
    assert watch.tool_calls == 1


def test_arguments_nobody_can_read() -> None:
    """A tool call that is not JSON is a malformed reply; three of them in a row are a storm."""
    watch, found = Watch(), []
    messages: list[Any] = [{"role": "user", "content": TASK}]
    for turn in range(3):
        function = {"name": "edit", "arguments": '{"file": "a'}
        asked = {"id": f"c{turn}", "type": "function", "function": function}
        messages += [
            {"role": "assistant", "content": None, "tool_calls": [asked]},
            {"role": "tool", "tool_call_id": f"c{turn}", "content": f"invalid JSON, attempt {turn}"},
        ]
        told = step("chat", {"messages": messages})
        assert told.is_malformed
        watch.answered(ModelCallOutcome(2_000_000, conversation=told.conversation))
        found += watch.stepped(told)
    assert [(one.kind, one.count, one.cost_picousd) for one in found] == [(RETRY_STORM, 3, 6_000_000)]


def test_a_malformed_reply_is_told_once() -> None:
    """It stays in the history, but the replies after it are good."""
    body: dict[str, Any] = {"messages": [{"role": "user", "content": TASK}]}
    told = []
    for call_id, arguments in (("c1", "{"), ("c2", "{}")):
        asked = {"id": call_id, "function": {"name": "edit", "arguments": arguments}}
        body["messages"] += [
            {"role": "assistant", "tool_calls": [asked]},
            {"role": "tool", "tool_call_id": call_id, "content": "x"},
        ]
        told.append(step("chat", body).is_malformed)
    assert told == [True, False]


def test_empty_arguments_are_not_malformed() -> None:
    """OpenAI sends an empty text for a tool without parameters."""
    asked = {"id": "c", "function": {"name": "now", "arguments": ""}}
    body = {
        "messages": [
            {"role": "assistant", "tool_calls": [asked]},
            {"role": "tool", "tool_call_id": "c", "content": "noon"},
        ]
    }
    told = step("chat", body)
    assert not told.is_malformed
    assert [call.name for call in told.tool_calls] == ["now"]


def test_plain_tools_take_any_text() -> None:
    """Custom tools of OpenAI have text for arguments, in both of its APIs."""
    asked = {"id": "c", "type": "custom", "custom": {"name": "shell", "input": "ls {"}}
    chat = step(
        "chat",
        {
            "messages": [
                {"role": "assistant", "tool_calls": [asked]},
                {"role": "tool", "tool_call_id": "c", "content": "a"},
            ]
        },
    )
    responses = step(
        "responses",
        {
            "input": [
                {"type": "reasoning", "id": "r", "summary": []},
                {"type": "custom_tool_call", "call_id": "c", "name": "shell", "input": "ls {"},
                {"type": "custom_tool_call_output", "call_id": "c", "output": "a"},
            ]
        },
    )
    assert chat.tool_calls == responses.tool_calls
    assert len(chat.tool_calls) == 1
    assert not chat.is_malformed
    assert not responses.is_malformed


def test_ollama_has_no_ids() -> None:
    """Calls without ids belong to results by name, in their order."""
    calls = [{"function": {"name": "search", "arguments": {"q": q}}} for q in "ab"]
    results = [
        {"role": "tool", "tool_name": "search", "content": content} for content in ("one", "Error: no")
    ]
    told = step("ollama", {"messages": [{"role": "assistant", "tool_calls": calls}, *results]})
    assert [call.is_failed for call in told.tool_calls] == [False, True]


def test_results_of_calls_the_provider_keeps_are_news() -> None:
    """With `previous_response_id` the calls themselves are not in the request; what came of them is."""
    body = {"previous_response_id": "resp_1", "input": [_came("c1", "noon")]}
    told = step("responses", body)
    assert told.tool_calls == ()
    assert told.news is not None
    again = step("responses", {"previous_response_id": "resp_2", "input": [_came("c2", "noon")]})
    assert again.news == told.news
    assert again.tail != told.tail


def _came(call_id: str, output: str) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": output}


def test_a_users_words_are_news() -> None:
    """A chat without tools goes on with each new message of its user."""
    history = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    told = [step("chat", {"messages": [*history, {"role": "user", "content": text}]}) for text in ("a", "b")]
    assert told[0].news != told[1].news
    assert told[0].conversation == told[1].conversation


def test_an_answer_begun_for_the_model() -> None:
    """Anthropic lets the request end with the beginning of the answer; the step before it is still told."""
    messages = [
        {"role": "user", "content": TASK},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "now", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "noon"}]},
        {"role": "assistant", "content": "It is"},
    ]
    assert [call.name for call in step("messages", {"messages": messages}).tool_calls] == ["now"]


@pytest.mark.parametrize(
    ("result", "is_failed"),
    [
        ("Error: no such file", True),
        ("ValueError: bad", True),
        ("Error executing tool visit: 404", True),
        ("Traceback (most recent call last):\n  File ...", True),
        ("An error occurred while running the tool. Please try again.", True),
        ("2 validation errors:\n...", True),
        ('{"error": "not found"}', True),
        ('{"isError": true, "content": []}', True),
        ([{"type": "text", "text": "Error: no"}], True),
        ('{"error": null, "rows": 3}', False),
        ("Errors in the report: 0", False),
        ("Error handling in Python, a tutorial", False),
        ("3 results", False),
        ("", False),
        (None, False),
    ],
)
def test_results_that_read_like_errors(result: Any, is_failed: bool) -> None:
    """Chat completions have no flag for an error, so the opening of the result has to do."""
    asked = {"id": "c", "function": {"name": "visit", "arguments": "{}"}}
    messages = [
        {"role": "assistant", "tool_calls": [asked]},
        {"role": "tool", "tool_call_id": "c", "content": result},
    ]
    assert [call.is_failed for call in step("chat", {"messages": messages}).tool_calls] == [is_failed]


@pytest.mark.parametrize(
    ("is_error", "status", "result"), [(False, "success", "Error: x"), (True, "error", "x")]
)
def test_a_flag_is_believed_over_the_words(is_error: bool, status: str, result: str) -> None:
    """A search for error messages finds some; Anthropic and Bedrock can say that this is no error."""
    use = {"type": "tool_use", "id": "t", "name": "grep", "input": {}}
    came = {"type": "tool_result", "tool_use_id": "t", "content": result, "is_error": is_error}
    body = {"messages": [{"role": "assistant", "content": [use]}, {"role": "user", "content": [came]}]}
    assert [call.is_failed for call in step("messages", body).tool_calls] == [is_error]
    body = copy.deepcopy(VALID["converse"])
    body["messages"][1]["content"][0]["toolResult"] |= {"status": status, "content": [{"text": result}]}
    assert [call.is_failed for call in step("converse", body).tool_calls] == [is_error]


def test_only_the_end_of_a_history_is_read() -> None:
    """What lies before the model's last turn makes no difference, however long it is."""

    class Untouched(list[Any]):
        def __iter__(self) -> Any:
            raise AssertionError("the whole history was walked")

    asked = {"id": "c", "function": {"name": "visit", "arguments": "{}"}}
    end = [
        {"role": "assistant", "tool_calls": [asked]},
        {"role": "tool", "tool_call_id": "c", "content": "x"},
    ]
    call = recognise("POST", URLS["chat"], json.dumps({"model": "m", "messages": end}).encode())
    assert call is not None
    expected = read_step(call).tool_calls
    call.body["messages"] = Untouched([{"role": "user", "content": "old"}] * (3 * MAX_ITEMS) + end)
    assert read_step(call).tool_calls == expected
    assert len(expected) == 1


def test_similar_arguments_have_similar_sketches() -> None:
    """Two searches that differ by a word share most of their sketch, two different ones little."""
    told = [
        step("gemini", {"contents": _searched(text)}).tool_calls[0]
        for text in ("cheap flights to Oslo in May", "cheap flights to Oslo in June", "how tall is Everest")
    ]
    assert similarity_ratio(told[0].sketch, told[1].sketch) > 0.6
    assert similarity_ratio(told[0].sketch, told[2].sketch) < 0.3


def _searched(text: str) -> list[dict[str, Any]]:
    return [
        {"role": "model", "parts": [{"functionCall": {"name": "search", "args": {"query": text}}}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "search", "response": {"output": "x"}}}]},
    ]


def test_no_text_is_kept() -> None:
    """A step holds numbers and the names of tools, nothing of what was said."""
    told = step("gemini", {"contents": _searched("secret words")})
    assert "secret" not in repr(told)
    assert told.tool_calls[0].arguments == fingerprint('{"query": "secret words"}')


VALID: dict[str, dict[str, Any]] = {
    "chat": {
        "messages": [
            {"role": "user", "content": TASK},
            {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "x"}]},
        ]
    },
    "responses": {
        "input": [
            {"role": "user", "content": TASK},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "x"},
        ]
    },
    "messages": {
        "messages": [
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "x"}]},
        ]
    },
    "gemini": {"contents": _searched("x")},
    "converse": {
        "messages": [
            {"role": "assistant", "content": [{"toolUse": {"toolUseId": "t", "name": "f", "input": {}}}]},
            {"role": "user", "content": [{"toolResult": {"toolUseId": "t", "content": [{"text": "x"}]}}]},
        ]
    },
}
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "parts", "id", "text", "function"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return where values stand in a body."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, item in inner for place in places(item, (*at, key)))]


@pytest.mark.parametrize("api", VALID)
@given(data=st.data())
def test_no_body_breaks_it(api: str, data: st.DataObject) -> None:
    """With anything at all in any place of a request, there is an answer, and no exception."""
    body = copy.deepcopy(VALID[api])
    assert len(step(api, body).tool_calls) == 1
    *path, last = data.draw(st.sampled_from(places(body)[1:]))
    holder: Any = body
    for key in path:
        holder = holder[key]
    holder[last] = data.draw(JUNK)
    assert isinstance(step(api, body), Step)


def test_a_body_too_deep_to_read() -> None:
    """Arguments nested deeper than anything can follow are no reason to fail."""
    deep: Any = "x"
    for _ in range(100_000):
        deep = {"a": deep}
    call = recognise("POST", URLS["gemini"], b'{"contents": []}')
    assert call is not None
    call.body["contents"] = _searched("x")
    call.body["contents"][0]["parts"][0]["functionCall"]["args"] = deep
    assert read_step(call) == Step()


def test_other_requests_say_nothing() -> None:
    """Embeddings have no steps."""
    call = recognise("POST", "https://api.openai.com/v1/embeddings", b'{"model": "m", "input": "x"}')
    assert call is not None
    assert read_step(call) == Step()

"""Changes of a model call: another model, a lower output limit, a note at its end. Nothing is sent here.

Each returns the changed call, or the call itself where its API has no place for the change. A body is never
changed in place: the application may hold it, and other changes start from it.

A note goes to the end of the last message, inside the last tool result where there is one: what is before it
stays as it was, so that prompt caches hold, and the order of roles and of tool results, which providers
insist on (Mistral takes no user message after a tool's, Bedrock no text beside a tool result), stays too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit, urlunsplit

from otel_cost.guard.bounds import thinks
from otel_cost.guard.calls import (
    BATCH,
    CHAT,
    COHERE,
    COMPLETIONS,
    CONVERSE,
    EMBEDDINGS,
    GEMINI,
    INTERACTIONS,
    INVOKE,
    MEDIA,
    MESSAGES,
    OLLAMA,
    OTHER,
    RESPONSES,
    Json,
    ModelCall,
    output_limit,
)
from otel_cost.providers import endpoint_provider

Place = tuple[str, ...]

LEAST_OUTPUT_TOKENS = 16
"""Lowest limit that is set: OpenAI's Responses API refuses a lower one
(https://platform.openai.com/docs/api-reference/responses/create, 2026-11), and nobody can use one."""
LEAST_THINKING_TOKENS = 1_024
"""Lowest thinking budget that Anthropic takes
(https://docs.claude.com/en/docs/build-with-claude/extended-thinking, 2026-11)."""
LEAST_ANSWER_TOKENS = 256
"""What is left for the answer behind the lowest thinking budget."""
ADDED_OUTPUT_TOKENS = 4_096
"""Highest limit given to a request that has none: a model refuses one above its own, and few have less
(gpt-3.5-turbo: 4,096, https://platform.openai.com/docs/models, 2026-11)."""
_ADDED_BY_LLAMA = 2_048
"""The highest `max_gen_len` of Llama 3 on Bedrock
(https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-meta.html, 2026-11)."""

_THINKING_BUDGETS: tuple[Place, ...] = (
    ("thinking", "budget_tokens"),
    ("additionalModelRequestFields", "thinking", "budget_tokens"),
    ("additionalModelRequestFields", "reasoning_config", "budget_tokens"),
)
_OPENAI_MODEL = re.compile(r"(?:^|/)(?:gpt-(?!oss)|chatgpt-|o[1-9]\b)")
_INVOKE_LIMITS: tuple[tuple[re.Pattern[str], Place], ...] = (
    (re.compile(r"(?:^|\.)(?:anthropic|mistral|cohere|deepseek|ai21)\."), ("max_tokens",)),
    (re.compile(r"(?:^|\.)amazon\.nova"), ("inferenceConfig", "maxTokens")),
    (re.compile(r"(?:^|\.)meta\.llama"), ("max_gen_len",)),
    (re.compile(r"(?:^|\.)amazon\.titan"), ("textGenerationConfig", "maxTokenCount")),
)
"""https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters.html"""
_ASK_FOR_USAGE = frozenset({"openai", "deepseek", "groq"})
"""Whose chat streams take `stream_options.include_usage`: https://platform.openai.com/docs/api-reference/chat,
https://api-docs.deepseek.com/api/create-chat-completion,
https://console.groq.com/docs/api-reference (2026-11).
Elsewhere it may be an error, or usage comes unasked."""


class Change(NamedTuple):
    """What is sent instead of what the application asked for.

    Attributes:
        url: Whole, with its query.
        body: JSON.
        document: The same, read.
        hides_usage: The usage at the end of the stream was not asked for by the application, and must not
            reach it.
    """

    url: str
    body: bytes
    document: Json
    hides_usage: bool = False


def change(call: ModelCall) -> Change:
    """Return a changed call as it is sent.

    Raises:
        ValueError: It cannot be written as JSON: it has a number that JSON has not.
    """
    return Change(call.url, encoded(call.body), call.body, call.hides_usage)


def encoded(body: Json) -> bytes:
    """Return a body as the clients write it: compact, in UTF-8."""
    try:
        return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which only an escape can write
        return json.dumps(body, separators=(",", ":"), allow_nan=False).encode()


def with_model(call: ModelCall, model: str) -> ModelCall:
    """Return a call of another model, wherever its API names it: in the body, in the path, in both."""
    body, url, target = call.body, call.url, call.target
    if isinstance(body.get("model"), str):
        body = {**body, "model": model}
    parts = urlsplit(url)
    found = call.api.path.search(parts.path)
    if found and found.groupdict().get("model"):
        start, end = found.span("model")
        path = f"{parts.path[:start]}{quote(model, safe='')}{parts.path[end:]}"
        url, target = urlunsplit(parts._replace(path=path)), f"POST {parts.hostname}{path}"
    return replace(call, model=model, body=body, url=url, target=target)


def least_output(call: ModelCall) -> int:
    """Return the lowest output limit a call can be given, over all of its answers."""
    least = LEAST_OUTPUT_TOKENS
    if _thinking_budget(call.body):
        least = LEAST_THINKING_TOKENS + LEAST_ANSWER_TOKENS
    elif thinks(call.model):
        least = LEAST_THINKING_TOKENS
    return least * call.answers


def most_output(call: ModelCall) -> int:
    """Return the highest output limit a call can be given, over all of its answers; 0 where it takes none."""
    if call.output_limit is not None:
        return call.output_limit
    place = _new_limit(call)
    if place is None:
        return 0
    return (_ADDED_BY_LLAMA if place == ("max_gen_len",) else ADDED_OUTPUT_TOKENS) * call.answers


def with_output_limit(call: ModelCall, tokens: int) -> ModelCall:
    """Return a call that may write so many tokens at most, over all of its answers.

    Every limit it has is lowered; one that has none gets its API's own. A thinking budget must be below the
    limit, so it is lowered with it.
    """
    each = tokens // call.answers
    if call.api.name == BATCH:
        return call
    present = [place for place in call.api.output_limits if _count(call.body, place)]
    new = None if present else _new_limit(call)
    if not present and new is None:
        return call
    body = call.body
    for place in present or [new or ()]:
        body = _put(body, place, min(each, _count(body, place) or each))
    for place in _THINKING_BUDGETS:
        budget = _count(body, place)
        if budget and budget >= each:
            body = _put(body, place, max(LEAST_THINKING_TOKENS, each // 2))
    return replace(call, body=body, output_limit=output_limit(call.api, body))


def with_note(call: ModelCall, note: str, *, is_last: bool = False) -> ModelCall:
    """Return a call whose last message ends with a note.

    Args:
        is_last: No call follows: what the provider keeps of this one does no harm.
    """
    write = _NOTES.get(call.api.name)
    if write is None or (_is_kept(call.body) and not is_last):
        return call
    body = write(call.body, note)
    if body is call.body:
        return call
    return replace(call, body=body, prompt=call.prompt + _NOTE_MARKS + note.encode())


_NOTE_MARKS = b'[{"type":"input_text","text":""},{"type":"input_text","text":""}]'
"""What is written around a note at most."""


def without_tools(call: ModelCall) -> ModelCall:
    """Return a call whose answer is text: its tools stay in the prompt and are not to be called."""
    body, api = call.body, call.api.name
    if api == GEMINI and body.get("tools"):
        body = _put(body, ("toolConfig",), {"functionCallingConfig": {"mode": "NONE"}})
        body.pop("tool_config", None)
    elif api == CONVERSE and isinstance(body.get("toolConfig"), dict):  # it has no way to forbid them
        config = {key: value for key, value in body["toolConfig"].items() if key != "toolChoice"}
        body = {**body, "toolConfig": config}
    elif api in (MESSAGES, INVOKE) and body.get("tools"):
        body = {**body, "tool_choice": {"type": "none"}}
    elif api == INTERACTIONS and body.get("tools"):
        body = _put(body, ("generation_config", "tool_choice"), "none")
    elif api in (CHAT, RESPONSES) and body.get("tools"):
        body = {**body, "tool_choice": "none"}
    elif api == COHERE and body.get("tools"):
        body = {**body, "tool_choice": "NONE"}
    elif api == CHAT and body.get("functions"):
        body = {**body, "function_call": "none"}
    return call if body is call.body else replace(call, body=body)


def asking_for_usage(call: ModelCall) -> ModelCall:
    """Return a stream that ends with its usage, of a provider that is known to send it when asked."""
    options = call.body.get("stream_options") or {}
    is_known = _seller(call) in _ASK_FOR_USAGE and call.api.name in (CHAT, COMPLETIONS)
    if not (call.is_stream and is_known and isinstance(options, dict)) or "include_usage" in options:
        return call
    body = {**call.body, "stream_options": {**options, "include_usage": True}}
    return replace(call, body=body, hides_usage=True)


def _seller(call: ModelCall) -> str | None:
    """Return whose host it is; the call's provider may be what the span says, whoever stands between."""
    parts = urlsplit(call.url)
    return endpoint_provider(parts.hostname or "", parts.path)


def _new_limit(call: ModelCall) -> Place | None:
    """Return where a request without an output limit gets one; None where that is not known."""
    api = call.api
    if api.name in (BATCH, EMBEDDINGS, OTHER) or api.name in MEDIA:
        return None
    if api.name == CHAT:
        is_openai = _seller(call) in ("openai", "azure") or _OPENAI_MODEL.search(call.model)
        return ("max_completion_tokens",) if is_openai else ("max_tokens",)
    if api.name == INVOKE:
        return next((place for model, place in _INVOKE_LIMITS if model.search(call.model)), None)
    return api.output_limits[0] if api.output_limits else None


def _thinking_budget(body: Json) -> int:
    return max((_count(body, place) or 0 for place in _THINKING_BUDGETS), default=0)


def _count(body: Json, place: Place) -> int | None:
    value: Any = body
    for key in place:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _put(body: Json, place: Place, value: Any) -> Json:
    """Return a body with a value at a path of keys; what is around it is copied, the rest is shared."""
    key, *rest = place
    inner = body.get(key)
    return {
        **body,
        key: _put(inner if isinstance(inner, dict) else {}, tuple(rest), value) if rest else value,
    }


# --- notes ------------------------------------------------------------------------------------------------


def _is_kept(body: Json) -> bool:
    """Whether the provider keeps the conversation, so that a note would stay in it."""
    kept = ("previous_response_id", "conversation", "previous_interaction_id")
    return any(body.get(key) for key in kept)


def _noted_messages(key: str, noted: Callable[[Json, str], Json | None]) -> Callable[[Json, str], Json]:
    """Return what notes the last of a body's messages, unless that is the model's own."""

    def write(body: Json, note: str) -> Json:
        messages = body.get(key)
        if not isinstance(messages, list) or not messages or not isinstance(messages[-1], dict):
            return body
        if messages[-1].get("role") in ("assistant", "model"):
            return body
        last = noted(messages[-1], note)
        return body if last is None else {**body, key: [*messages[:-1], last]}

    return write


def _noted_text(content: Any, note: str, part: Json) -> Any:
    """Return a content, text or parts, with a note behind it; None where it is neither."""
    if isinstance(content, str):
        return f"{content}\n\n{note}"
    return [*content, part] if isinstance(content, list) else None


def _in_chat(message: Json, note: str) -> Json | None:
    content = _noted_text(message.get("content"), note, {"type": "text", "text": note})
    return None if content is None else {**message, "content": content}


def _in_messages(message: Json, note: str) -> Json | None:
    """Anthropic's: a text becomes a block of its own, as which it was cached."""
    content = message.get("content")
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) and content else content
    if not isinstance(blocks, list) or not blocks:
        return None
    return {**message, "content": [*blocks, {"type": "text", "text": note}]}


def _in_item(item: Json, note: str) -> Json | None:
    part = {"type": "input_text", "text": note}
    if item.get("type") in ("function_call_output", "custom_tool_call_output"):
        output = _noted_text(item.get("output"), note, part)
        return None if output is None else {**item, "output": output}
    if item.get("type", "message") != "message":
        return None
    content = _noted_text(item.get("content"), note, part)
    return None if content is None else {**item, "content": content}


def _in_response_input(body: Json, note: str) -> Json:
    if isinstance(body.get("input"), str):
        return {**body, "input": f"{body['input']}\n\n{note}"}
    return _noted_messages("input", _in_item)(body, note)


def _in_step(step: Json, note: str) -> Json | None:
    """Of Google's interactions: a step, or a part of what the user says."""
    part = {"type": "text", "text": note}
    if step.get("type") == "function_result":
        result = _noted_text(step.get("result"), note, part)
        return None if result is None else {**step, "result": result}
    if step.get("type") != "user_input":
        return None
    content = _noted_text(step.get("content"), note, part)
    return None if content is None else {**step, "content": content}


def _in_interaction(body: Json, note: str) -> Json:
    """Google keeps an interaction unless told not to, so that a note would stay in it."""
    given = body.get("input")
    if isinstance(given, str):
        return {**body, "input": f"{given}\n\n{note}"}
    if isinstance(given, list) and given and isinstance(given[-1], dict) and given[-1].get("type") == "text":
        return {**body, "input": [*given, {"type": "text", "text": note}]}
    return _noted_messages("input", _in_step)(body, note)


def _in_gemini(content: Json, note: str) -> Json | None:
    parts = content.get("parts")
    if not isinstance(parts, list) or not parts or not isinstance(parts[-1], dict):
        return None
    key = next((key for key in ("functionResponse", "function_response") if key in parts[-1]), None)
    if key is None:
        return {**content, "parts": [*parts, {"text": note}]}
    response = parts[-1][key].get("response")
    if not isinstance(response, dict) or "budget" in response:
        return None
    last = _put(parts[-1], (key, "response", "budget"), note)
    return {**content, "parts": [*parts[:-1], last]}


def _in_converse(message: Json, note: str) -> Json | None:
    blocks = message.get("content")
    if not isinstance(blocks, list) or not blocks or not isinstance(blocks[-1], dict):
        return None
    result = blocks[-1].get("toolResult")
    if not isinstance(result, dict):
        return {**message, "content": [*blocks, {"text": note}]}
    if not isinstance(result.get("content"), list):
        return None
    last = _put(blocks[-1], ("toolResult", "content"), [*result["content"], {"text": note}])
    return {**message, "content": [*blocks[:-1], last]}


def _in_invoke(body: Json, note: str) -> Json:
    """Only Claude's body is known well enough: it names its version."""
    return _noted_messages("messages", _in_messages)(body, note) if "anthropic_version" in body else body


def _in_cohere(body: Json, note: str) -> Json:
    if isinstance(body.get("message"), str) and not body.get("tool_results"):  # v1
        return {**body, "message": f"{body['message']}\n\n{note}"}
    return _noted_messages("messages", _in_chat)(body, note)


def _in_ollama(body: Json, note: str) -> Json:
    if isinstance(body.get("prompt"), str):
        return {**body, "prompt": f"{body['prompt']}\n\n{note}"}
    return _noted_messages("messages", _in_chat)(body, note)


_NOTES: dict[str, Callable[[Json, str], Json]] = {
    CHAT: _noted_messages("messages", _in_chat),
    RESPONSES: _in_response_input,
    MESSAGES: _noted_messages("messages", _in_messages),
    GEMINI: _noted_messages("contents", _in_gemini),
    INTERACTIONS: _in_interaction,
    CONVERSE: _noted_messages("messages", _in_converse),
    INVOKE: _in_invoke,
    COHERE: _in_cohere,
    OLLAMA: _in_ollama,
}


# --- usage that was asked for -----------------------------------------------------------------------------


_NO_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\]')


class UsageFilter:
    """Takes the chunk with the usage out of a chat stream: its `choices` are empty, and loops read the first.

    Bytes of a line that is not complete are kept back until it is.
    """

    def __init__(self) -> None:
        self._pending = b""
        self._is_dropping = False

    def feed(self, data: bytes) -> bytes:
        """Return what the application may see of the next bytes."""
        is_between = not (self._pending or self._is_dropping) and data[-1:] == b"\n"
        if is_between and not _NO_CHOICES.search(data):
            return data
        *lines, self._pending = (self._pending + data).split(b"\n")
        return b"".join(self._passed(lines))

    def finish(self) -> bytes:
        """Return what is left when no more bytes come."""
        rest, self._pending = self._pending, b""
        return rest

    def _passed(self, lines: list[bytes]) -> Iterator[bytes]:
        for line in lines:
            if self._is_dropping and not line.strip():  # the end of the event that was dropped
                self._is_dropping = False
            elif _is_usage_chunk(line):
                self._is_dropping = True
            else:
                self._is_dropping = False
                yield line + b"\n"


def _is_usage_chunk(line: bytes) -> bool:
    if not line.startswith(b"data:") or not _NO_CHOICES.search(line):
        return False
    try:
        read = json.loads(line[5:])
    except ValueError:
        return False
    return isinstance(read, dict) and read.get("choices") == [] and isinstance(read.get("usage"), dict)

"""What a request says its agent did since the one before: which tools ran, and what came of each.

Agents send their whole history with each request. Only its end is read, from the model's last turn on, and
its very beginning, which tells conversations apart. Nothing is kept of what is read but hashes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from otel_cost.detectors import Step, ToolCallOutcome, fingerprint, sketch
from otel_cost.documents import objects, read_json
from otel_cost.guard.calls import (
    CHAT,
    COHERE,
    CONVERSE,
    GEMINI,
    INTERACTIONS,
    INVOKE,
    MESSAGES,
    OLLAMA,
    RESPONSES,
    ModelCall,
)

Json = dict[str, Any]

MAX_ITEMS = 128
"""Messages looked at from the end; an answer with more tool calls than that is read in part."""
MAX_TEXT = 65_536
"""Characters of arguments or results told apart exactly; of more, the beginning, the end and the size."""
MAX_SYSTEM_ITEMS = 8
MAX_OPENING = 4_096
MAX_OPENING_PARTS = 32

_ERROR_OPENING = re.compile(
    r"traceback \(most recent call last\)"
    r"|an (?:error|exception) occurred"  # openai-agents: default_tool_error_function
    r"|\d+ validation errors?\b"  # pydantic-ai
    r"|tool execution failed|failed to "
    r"|(?:tool )?[\w.]*(?:error|exception) ?(?::|\(|while |executing |calling |running |in )",
    re.IGNORECASE,
)
"""How tools and frameworks begin a result that is an error, where the API has no flag for it."""
_ERROR_KEYS = ("error", "is_error", "isError")  # Gemini's convention, and MCP's


@dataclass(slots=True)
class _Asked:
    """A tool call of the model. Its arguments are JSON, as text or read, or the text of a plain tool.

    Attributes:
        read: The arguments as read; None where they are a plain text, too long, or no JSON.
    """

    call_id: str
    name: str
    arguments: Any
    is_plain: bool = False
    read: Any = field(init=False)

    def __post_init__(self) -> None:
        given = self.arguments
        if not isinstance(given, str):
            self.read = given
        else:
            self.read = None if self.is_plain or len(given) > MAX_TEXT else _parsed(given)


class _Came(NamedTuple):
    """The result of a tool call. `is_failed` is None where the API has no word for it."""

    call_id: str
    name: str
    content: Any
    is_failed: bool | None = None


@dataclass(slots=True)
class _Tail:
    """The end of a history: the model's last turn, and what came after it."""

    asked: list[_Asked]
    came: list[_Came]
    said: list[str]


def read_step(call: ModelCall) -> Step:
    """Return what happened since the request before; an empty step where it cannot be read. Never raises."""
    form = _FORMS.get(call.api.name)
    if form is None:
        return Step()
    try:
        return _step(call.body, form)
    except (TypeError, ValueError, RecursionError):
        return Step()


def _step(body: Json, form: _Form) -> Step:
    items = form.items(body)
    if not items:
        return Step()
    conversation = _mark(*_pieces([form.system(body), _first(items)]))
    tail = _tail(items, form)
    asked = tail.asked
    if not asked:
        news = _news(tail)
        return Step((), False, news, _mark(len(items), form.link(body), news), conversation)
    calls = tuple([_outcome(*pair) for pair in _pairs(tail)])
    news = None if calls else _news(tail)
    ids, keys = tuple([one.call_id for one in asked]), tuple([_key(one) for one in calls])
    mark = _mark(len(items), form.link(body), ids, keys, news)
    return Step(calls, any(map(_is_malformed, asked)), news, mark, conversation)


def _mark(*parts: object) -> int:
    """Return 64 bits that stand for values in this process, and are never 0."""
    return hash(parts) or 1


def _first(items: list[Any]) -> Json | None:
    """Return what the conversation begins with, behind what the system says."""
    for item in items[:MAX_SYSTEM_ITEMS]:
        if isinstance(item, dict) and not _is_system(item):
            return item
    return None


def _tail(items: list[Any], form: _Form) -> _Tail:
    """Walk from the end to the beginning of the model's last turn."""
    tail, is_in_turn, is_model = _Tail([], [], []), False, form.is_model
    recent = items[-MAX_ITEMS:]
    while len(recent) > 1 and isinstance(recent[-1], dict) and is_model(recent[-1]):
        recent.pop()  # an answer begun for the model to go on with
    for item in reversed(recent):
        if not isinstance(item, dict):
            continue
        if is_model(item):
            is_in_turn = True
            tail.asked[:0] = form.asked(item)
        elif is_in_turn:
            break
        else:
            came = [*form.came(item)]
            tail.came[:0] = came
            if not came and not _is_system(item):
                tail.said.insert(0, _opening(item.get("content") or item.get("parts")))
    return tail


def _pairs(tail: _Tail) -> Iterator[tuple[_Asked, _Came]]:
    """Match calls with results: by id, else by name in their order. A call without a result has not run."""
    by_id = {came.call_id: came for came in tail.came if came.call_id}
    others = [came for came in tail.came if not came.call_id]
    for asked in tail.asked:
        came = by_id.pop(asked.call_id, None) if asked.call_id else None
        if came is None:
            came = next((one for one in others if one.name in (asked.name, "")), None)
            if came is None:
                continue
            others.remove(came)
        yield asked, came


def _outcome(asked: _Asked, came: _Came) -> ToolCallOutcome:
    arguments = _canonical(asked)
    result = _text(came.content)
    is_failed = _looks_failed(came.content) if came.is_failed is None else came.is_failed
    return ToolCallOutcome(
        asked.name, fingerprint(_clip(arguments)), sketch(arguments), is_failed, fingerprint(_clip(result))
    )


def _key(call: ToolCallOutcome) -> tuple[str, int, int | None]:
    return call.name, call.arguments, call.result


def _news(tail: _Tail) -> int | None:
    """What is new and belongs to no call: a user's words, or results of calls that the provider keeps."""
    said = tail.said + [_clip(_text(came.content)) for came in tail.came] if tail.came else tail.said
    return fingerprint("\0".join(said)) if said else None


def _canonical(asked: _Asked) -> str:
    """Return arguments in one spelling, so that the order of keys makes no difference."""
    given = asked.arguments
    return given if asked.read is None and isinstance(given, str) else _sorted(asked.read)


def _is_malformed(asked: _Asked) -> bool:
    given = asked.arguments
    if asked.read is not None or asked.is_plain or not isinstance(given, str):
        return False
    return len(given) <= MAX_TEXT and bool(given.strip())


_sorted = json.JSONEncoder(sort_keys=True).encode


def _parsed(text: str) -> Any:
    try:
        return read_json(text)
    except (ValueError, RecursionError):
        return None


def _looks_failed(content: Any) -> bool:
    """Whether a result reads like an error: by its first words, or by a key that says so."""
    if isinstance(content, dict):
        return any(bool(content.get(key)) for key in _ERROR_KEYS)
    text = _opening(content).lstrip()
    if text.startswith("{") and isinstance(read := _parsed(_clip(_text(content))), dict):
        return _looks_failed(read)
    return _ERROR_OPENING.match(text) is not None


def _text(content: Any) -> str:
    """Return a result as text: as it is, or what is in its blocks."""
    if isinstance(content, str):
        return content
    blocks = objects(content)
    if blocks and all(isinstance(block.get("text"), str) for block in blocks):
        return "\n".join(block["text"] for block in blocks)
    return _sorted(content)


def _clip(text: str) -> str:
    if len(text) <= MAX_TEXT:
        return text
    return f"{text[:MAX_TEXT]}{text[-MAX_OPENING:]}{len(text)}"


def _opening(value: Any) -> str:
    """Return the first few thousand characters of the texts in a value, without walking all of them."""
    return value[:MAX_OPENING] if isinstance(value, str) else "\0".join(_pieces([value]))


def _pieces(values: list[Any]) -> list[str]:
    found: list[str] = []
    pending, room = values[::-1], MAX_OPENING
    for _ in range(MAX_OPENING_PARTS):
        if not pending:
            break
        value = pending.pop()
        kind = type(value)  # as JSON is read
        if kind is str:
            found.append(value[:room])
            room -= len(value)
            if room <= 0:
                break
        elif kind is dict:
            for key in ("parts", "content", "text"):
                if key in value:
                    pending.append(value[key])
        elif kind is list:
            pending += value[:MAX_OPENING_PARTS][::-1]
    return found


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _object(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _is_system(item: Json) -> bool:
    return item.get("role") in ("system", "developer")


def _is_assistant(item: Json) -> bool:
    return item.get("role") in ("assistant", "model", "CHATBOT")


def _chat_asked(item: Json) -> Iterator[_Asked]:
    calls = objects(item.get("tool_calls"))
    if isinstance(item.get("function_call"), dict):  # before there were tools
        calls = [*calls, {"function": item["function_call"]}]
    for call in calls:
        call_id = _string(call.get("id"))
        if isinstance(custom := call.get("custom"), dict):
            yield _Asked(call_id, _string(custom.get("name")), custom.get("input"), is_plain=True)
        elif isinstance(function := call.get("function"), dict):
            yield _Asked(call_id, _string(function.get("name")), function.get("arguments"))


def _chat_came(item: Json) -> Iterable[_Came]:
    if item.get("role") not in ("tool", "function"):
        return ()
    name = _string(item.get("name")) or _string(item.get("tool_name"))  # Ollama's
    return (_Came(_string(item.get("tool_call_id")), name, item.get("content")),)


def _responses_items(body: Json) -> list[Any]:
    given = body.get("input")
    return [{"role": "user", "content": given}] if isinstance(given, str) else _list(given)


def _is_responses_model(item: Json) -> bool:
    kind = _string(item.get("type"))
    return kind.endswith("_call") or kind in ("reasoning", "item_reference") or _is_assistant(item)


def _responses_asked(item: Json) -> Iterator[_Asked]:
    kind, call_id = _string(item.get("type")), _string(item.get("call_id"))
    if kind == "custom_tool_call":
        yield _Asked(call_id, _string(item.get("name")), item.get("input"), is_plain=True)
    elif kind.endswith("_call") and call_id:
        yield _Asked(call_id, _string(item.get("name")) or kind, item.get("arguments", item.get("action")))


def _responses_came(item: Json) -> Iterator[_Came]:
    if _string(item.get("type")).endswith("_call_output"):
        yield _Came(_string(item.get("call_id")), "", item.get("output"))


def _interaction_items(body: Json) -> list[Any]:
    given = body.get("input")
    items = given if isinstance(given, list) else [given]
    if any(isinstance(item, dict) and "content" not in item and "text" in item for item in items):
        return [{"type": "user_input", "content": items}]
    return [{"type": "user_input", "content": item} if isinstance(item, str) else item for item in items]


def _is_interaction_model(item: Json) -> bool:
    kind = _string(item.get("type"))
    return kind in ("model_output", "thought") or kind.endswith("_call")


def _interaction_asked(item: Json) -> Iterator[_Asked]:
    if item.get("type") == "function_call":
        yield _Asked(_string(item.get("id")), _string(item.get("name")), item.get("arguments"))


def _interaction_came(item: Json) -> Iterator[_Came]:
    if item.get("type") == "function_result":
        told = item.get("is_error") if isinstance(item.get("is_error"), bool) else None
        yield _Came(_string(item.get("call_id")), _string(item.get("name")), item.get("result"), told)


def _messages_asked(item: Json) -> Iterator[_Asked]:
    for block in objects(item.get("content")):
        if block.get("type") == "tool_use":
            yield _Asked(_string(block.get("id")), _string(block.get("name")), block.get("input"))


def _messages_came(item: Json) -> Iterator[_Came]:
    for block in objects(item.get("content")):
        if block.get("type") == "tool_result":
            failed = block.get("is_error")
            told = failed if isinstance(failed, bool) else None
            yield _Came(_string(block.get("tool_use_id")), "", block.get("content"), told)


def _gemini_asked(item: Json) -> Iterator[_Asked]:
    for part in objects(item.get("parts")):
        if call := _object(part.get("functionCall") or part.get("function_call")):
            yield _Asked(_string(call.get("id")), _string(call.get("name")), call.get("args"))


def _gemini_came(item: Json) -> Iterator[_Came]:
    for part in objects(item.get("parts")):
        if given := _object(part.get("functionResponse") or part.get("function_response")):
            yield _Came(_string(given.get("id")), _string(given.get("name")), given.get("response"))


def _converse_asked(item: Json) -> Iterator[_Asked]:
    for block in objects(item.get("content")):
        if use := _object(block.get("toolUse")):
            yield _Asked(_string(use.get("toolUseId")), _string(use.get("name")), use.get("input"))


def _converse_came(item: Json) -> Iterator[_Came]:
    for block in objects(item.get("content")):
        if result := _object(block.get("toolResult")):
            told = {"error": True, "success": False}.get(_string(result.get("status")))
            yield _Came(_string(result.get("toolUseId")), "", result.get("content"), told)


def _messages(body: Json) -> list[Any]:
    return _list(body.get("messages"))


@dataclass(frozen=True, slots=True)
class _Form:
    """How an API writes a history down."""

    asked: Callable[[Json], Iterable[_Asked]]
    came: Callable[[Json], Iterable[_Came]]
    items: Callable[[Json], list[Any]] = _messages
    is_model: Callable[[Json], bool] = _is_assistant
    system: Callable[[Json], Any] = lambda body: body.get("system")
    link: Callable[[Json], str] = lambda body: ""


_CHAT = _Form(_chat_asked, _chat_came, system=lambda body: body["messages"][:1])
_MESSAGES = _Form(_messages_asked, _messages_came)
_FORMS = {
    CHAT: _CHAT,  # https://platform.openai.com/docs/guides/function-calling?api-mode=chat
    COHERE: _CHAT,  # https://docs.cohere.com/docs/tool-use-overview
    OLLAMA: _CHAT,  # https://docs.ollama.com/capabilities/tool-calling
    # https://platform.openai.com/docs/guides/function-calling?api-mode=responses
    RESPONSES: _Form(
        _responses_asked,
        _responses_came,
        _responses_items,
        _is_responses_model,
        lambda body: body.get("instructions"),
        lambda body: _string(body.get("previous_response_id")),
    ),
    # https://docs.claude.com/en/docs/agents-and-tools/tool-use/implement-tool-use
    MESSAGES: _MESSAGES,
    INVOKE: _MESSAGES,  # of Claude; other models' bodies have no such blocks
    # https://ai.google.dev/gemini-api/docs/function-calling
    GEMINI: _Form(
        _gemini_asked,
        _gemini_came,
        lambda body: _list(body.get("contents")),
        system=lambda body: body.get("systemInstruction") or body.get("system_instruction"),
    ),
    # https://ai.google.dev/gemini-api/docs/interactions/function-calling
    INTERACTIONS: _Form(
        _interaction_asked,
        _interaction_came,
        _interaction_items,
        _is_interaction_model,
        lambda body: body.get("system_instruction"),
        lambda body: _string(body.get("previous_interaction_id")),
    ),
    # https://docs.aws.amazon.com/bedrock/latest/userguide/tool-use-inference-call.html
    CONVERSE: _Form(_converse_asked, _converse_came),
}

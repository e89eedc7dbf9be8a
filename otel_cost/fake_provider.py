"""A local provider that bills exactly what a script says.

It speaks the wire protocols of OpenAI (chat completions, responses, embeddings), Anthropic (messages),
Gemini (`generateContent` and interactions), Bedrock (Converse), Cohere (v2 chat) and Ollama (chat),
streamed or not, and reports scripted usage in each provider's own way of counting. Every request is logged
with the usage that was sent for it, so a test or a demo can compare what was measured with what is true. It
answers from memory and never leaves the machine.
"""

from __future__ import annotations

import binascii
import json
import re
import secrets
import select
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import ceil
from socket import MSG_PEEK
from typing import Any
from urllib.parse import unquote, urlsplit

from otel_cost.usage import BUCKETS, Usage

Json = dict[str, Any]
Event = tuple[str, Json]
"""The name and the body of one streamed event."""

DEFAULT_USAGE = Usage(input_tokens=10, output_tokens=5)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool the model asks for."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """What the provider answers to one request, and what it bills for it."""

    text: str = "ok"
    tool_calls: Sequence[ToolCall] = ()
    usage: Usage = DEFAULT_USAGE
    model: str | None = None
    """The model named in the response; by default the one that was asked for."""
    service_tier: str | None = None
    status: int = 200
    """An HTTP status of 400 or more answers with the provider's form of error, and bills nothing."""
    error: str = "scripted error"
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    """Wait before the first byte."""
    chunk_delay_s: float = 0.0
    """Wait before each streamed event."""
    cut_after: int | None = None
    """Close the connection after this many streamed events, as a provider that fails half way."""
    tokens_per_event: int = 0
    """Tokens in each streamed event in the mean, as `tokens` splits the text; 0 streams a word at a time."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request the provider received, and what it sent for it."""

    number: int
    api: str
    """`openai.{chat,responses,embeddings}`, `anthropic.messages`, `gemini`, `interactions`, `bedrock`,
    `cohere`, `ollama` or `unknown`."""
    path: str
    model: str
    stream: bool
    body: Json
    headers: Mapping[str, str]
    response_id: str
    reply: Reply = Reply()
    written_ratio: Fraction | None = None
    """How much of a streamed text was written when the client hung up; None where it did not."""

    @property
    def text(self) -> str:
        """Everything the request says, for scripts that look for a word in it."""
        return json.dumps(self.body)

    @property
    def billed(self) -> Usage:
        """The usage the provider counted: nothing where it answered with an error.

        Of a stream that the client left, the output written by then; `usage` belongs to the whole text.
        """
        if self.reply.status >= 400:
            return Usage()
        usage = self.reply.usage
        if self.written_ratio is None:
            return usage
        return usage._replace(output_tokens=ceil(usage.output_tokens * self.written_ratio))


Script = Callable[[Call], Reply] | Sequence[Reply] | Reply


class FakeProvider:
    """A provider on a loopback port, used as a context manager.

    Args:
        script: One reply for all requests, replies in order (the last repeats), or a function of the call.
        id_prefix: Part of every response id, after which ids count up. Default: another one each time, since
            a store takes a call whose id it knows for a repeat. Give one to have the same ids each time.
        port: The port to listen on; 0 takes a free one.
    """

    def __init__(self, script: Script = Reply(), *, id_prefix: str | None = None, port: int = 0) -> None:
        self.calls: list[Call] = []
        self.script = script
        self._id_prefix = secrets.token_hex(6) if id_prefix is None else id_prefix
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.provider = self
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="fake-provider", daemon=True
        )

    def __enter__(self) -> FakeProvider:
        """Start listening."""
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Stop listening and wait for the listener to end."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """The base URL for Anthropic, Gemini, Bedrock, Cohere, Mistral and Ollama clients."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def openai_url(self) -> str:
        """The base URL for OpenAI clients."""
        return f"{self.url}/v1"

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables that send the official SDKs here, with keys that open nothing."""
        return {
            "OPENAI_BASE_URL": self.openai_url,
            "OPENAI_API_KEY": "none",
            "ANTHROPIC_BASE_URL": self.url,
            "ANTHROPIC_API_KEY": "none",
            "GOOGLE_GEMINI_BASE_URL": self.url,
            "GEMINI_API_KEY": "none",
            "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": self.url,
            "AWS_ACCESS_KEY_ID": "none",
            "AWS_SECRET_ACCESS_KEY": "none",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def count(self, api: str | None = None) -> int:
        """Return how many requests arrived, of one API or of all."""
        return len(self.requests(api))

    def requests(self, api: str | None = None) -> list[Call]:
        """Return the requests in the order of their arrival, of one API or of all."""
        with self._lock:
            return [call for call in self.calls if api in (None, call.api)]

    def truth(self) -> Usage:
        """Return the sum of the usage billed so far, bucket by bucket."""
        billed = [call.billed for call in self.requests()]
        return Usage(**{name: sum(getattr(usage, name) for usage in billed) for name in BUCKETS})

    def receive(self, path: str, body: Json, headers: Mapping[str, str]) -> Call:
        """Log a request and decide what it is answered."""
        api, model, stream = _read(path, body)
        with self._lock:
            number = len(self.calls) + 1
            response_id = f"{_ID_PREFIXES[api]}-{self._id_prefix}-{number:06d}"
            call = Call(number, api, path, model, stream, body, headers, response_id)
            call = replace(call, reply=self._reply(call))
            self.calls.append(call)
        return call

    def left(self, call: Call, written: str) -> None:
        """Note that the client hung up when so much of a streamed text was written."""
        whole = len(tokens(call.reply.text)) or 1
        with self._lock:
            for index, known in enumerate(self.calls):
                if known is call:
                    ratio = Fraction(len(tokens(written)), whole)
                    self.calls[index] = replace(call, written_ratio=ratio)

    def _reply(self, call: Call) -> Reply:
        if isinstance(self.script, Reply):
            return self.script
        if callable(self.script):
            return self.script(call)
        return self.script[min(call.number, len(self.script)) - 1]


_ID_PREFIXES = {
    "openai.chat": "chatcmpl",
    "openai.responses": "resp",
    "openai.embeddings": "embd",
    "anthropic.messages": "msg",
    "gemini": "gemini",
    "interactions": "v1",
    "bedrock": "bedrock",
    "cohere": "cohere",
    "ollama": "ollama",
    "unknown": "unknown",
}
_BODY_PATHS = {
    "/chat/completions": "openai.chat",
    "/responses": "openai.responses",
    "/embeddings": "openai.embeddings",
    "/messages": "anthropic.messages",
    "/interactions": "interactions",
    "/v2/chat": "cohere",
}
_GEMINI_PATH = re.compile(r"/models/(?P<model>[^/:]+):(?P<verb>generateContent|streamGenerateContent)$")
_BEDROCK_PATH = re.compile(r"/model/(?P<model>.+)/(?P<verb>converse|converse-stream)$")


def _read(path: str, body: Json) -> tuple[str, str, bool]:
    """Return the API, the model and whether the answer is streamed."""
    for ending, api in _BODY_PATHS.items():
        if path.endswith(ending):
            return api, str(body.get("model", "")), bool(body.get("stream"))
    if path.endswith("/api/chat"):
        return "ollama", str(body.get("model", "")), body.get("stream") is not False
    if match := _GEMINI_PATH.search(path):
        return "gemini", match["model"], match["verb"].startswith("stream")
    if match := _BEDROCK_PATH.search(path):
        return "bedrock", unquote(match["model"]), match["verb"].endswith("stream")
    return "unknown", "", False


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256
    provider: FakeProvider

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is not an error of the provider."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: requests carry prompts."""

    def do_POST(self) -> None:
        """Answer one model call."""
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        body: Json = {}
        with suppress(ValueError):
            body = json.loads(raw)
        path = urlsplit(self.path).path
        call = self.server.provider.receive(path, body, dict(self.headers.items()))
        time.sleep(call.reply.delay_s)
        if call.api == "unknown" or call.reply.status >= 400:
            self._send_json(_error(call), call.reply.status if call.api != "unknown" else 404, call)
        elif call.stream:
            self._send_stream(call)
        else:
            self._send_json(_BODIES[call.api](call), 200, call)

    def _send_json(self, body: Json, status: int, call: Call) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self._send_headers(call, "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _send_headers(self, call: Call, content_type: str) -> None:
        self.send_header("content-type", content_type)
        self.send_header("request-id", f"req-{call.response_id}")
        for name, value in call.reply.headers.items():
            self.send_header(name, value)

    def _send_stream(self, call: Call) -> None:
        self.send_response(200)
        self._send_headers(call, _STREAM_TYPES.get(call.api, "text/event-stream"))
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        written: list[str] = []
        for sent, (name, body) in enumerate(_STREAMS[call.api](call)):
            if sent == call.reply.cut_after:
                self.close_connection = True
                return
            time.sleep(call.reply.chunk_delay_s)
            if not self._has_sent(_encoded(call.api, name, body)):
                self.server.provider.left(call, "".join(written))
                return
            written.append(_delta(call.api, name, body))
        if call.api == "openai.chat":
            self._send_chunk(b"data: [DONE]\n\n")
        self._send_chunk(b"")

    def _has_sent(self, content: bytes) -> bool:
        """Send a chunk, unless the client has hung up."""
        try:
            if select.select([self.connection], [], [], 0)[0] and not self.connection.recv(1, MSG_PEEK):
                raise ConnectionResetError
            self._send_chunk(content)
        except OSError:
            self.close_connection = True
            return False
        return True

    def _send_chunk(self, content: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(content), content))


_STREAM_TYPES = {"bedrock": "application/vnd.amazon.eventstream", "ollama": "application/x-ndjson"}


def _encoded(api: str, name: str, body: Json) -> bytes:
    if api == "bedrock":
        return _aws_event(name, body)
    return json.dumps(body).encode() + b"\n" if api == "ollama" else _server_sent_event(api, name, body)


def _server_sent_event(api: str, name: str, body: Json) -> bytes:
    named = api in ("anthropic.messages", "cohere", "interactions", "openai.responses")
    head = f"event: {name}\n" if named else ""
    return f"{head}data: {json.dumps(body)}\n\n".encode()


def _aws_event(name: str, body: Json) -> bytes:
    """Return a message of the AWS event stream encoding: lengths, headers, payload, two checksums."""
    headers = b"".join(
        struct.pack("!B", len(key)) + key.encode() + struct.pack("!BH", 7, len(value)) + value.encode()
        for key, value in (
            (":event-type", name),
            (":content-type", "application/json"),
            (":message-type", "event"),
        )
    )
    payload = json.dumps(body).encode()
    prelude = struct.pack("!II", 16 + len(headers) + len(payload), len(headers))
    message = prelude + struct.pack("!I", binascii.crc32(prelude)) + headers + payload
    return message + struct.pack("!I", binascii.crc32(message))


def tokens(text: str) -> list[str]:
    """Split a text about as tokenizers do: short words whole, others, digits and other scripts in parts."""
    return _TOKEN.findall(text)


_TOKEN = re.compile(
    r"\s?[A-Za-z]{1,7}"  # " token" + "izer"
    r"|\s?\d{1,3}"
    r"|\s?[^\W\dA-Za-z\u3040-\u9fff]{1,3}"  # accented Latin, Cyrillic, Arabic: two to three letters
    r"|[\u3040-\u9fff]"
    r"|\s?[^\w\s]{1,2}|\s+|\w"
)


def _pieces(call: Call) -> list[str]:
    """Split a text as a stream does, a word or some tokens at a time."""
    size = call.reply.tokens_per_event
    if not size:
        return re.findall(r"\s*\S+|\s+\Z", call.reply.text) or [""]
    split, start = tokens(call.reply.text), 0
    pieces: list[str] = []
    while start < len(split):
        end = start + 1 + 2 * len(pieces) % (2 * size - 1)
        pieces.append("".join(split[start:end]))
        start = end
    return pieces or [""]


def _delta(api: str, name: str, body: Json) -> str:
    """Return the text that a streamed event adds."""
    if api == "openai.responses":
        return str(body["delta"]) if name == "response.output_text.delta" else ""
    if api == "openai.chat":
        return "".join(choice["delta"].get("content") or "" for choice in body["choices"])
    if api == "gemini":
        return "".join(part.get("text", "") for part in body["candidates"][0]["content"]["parts"])
    if api == "interactions":
        return str(body["delta"].get("text", "")) if name == "step.delta" else ""
    if api == "ollama":
        return str(body["message"]["content"])
    if api == "cohere":
        return str(body["delta"]["message"]["content"]["text"]) if name == "content-delta" else ""
    return str(body["delta"].get("text", "")) if name in ("content_block_delta", "contentBlockDelta") else ""


def _model(call: Call) -> str:
    return call.reply.model or call.model


def _call_id(call: Call, index: int, prefix: str = "call") -> str:
    return f"{prefix}_{call.number:04d}_{index}"


def _error(call: Call) -> Json:
    """Return an error in the form the provider of this API gives it."""
    message, status = call.reply.error, call.reply.status
    if call.api == "unknown":
        message, status = f"nothing is served at {call.path}", 404
    kind = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error"}.get(status)
    kind = kind or ("rate_limit_error" if status == 429 else "api_error")
    if call.api == "anthropic.messages":
        return {"type": "error", "error": {"type": kind, "message": message}}
    if call.api == "gemini":
        return {"error": {"code": status, "message": message, "status": kind.upper()}}
    if call.api in ("bedrock", "cohere"):
        return {"message": message}
    if call.api == "ollama":
        return {"error": message}
    return {"error": {"message": message, "type": kind, "param": None, "code": kind}}


# --- OpenAI -----------------------------------------------------------------------------------------------


def _openai_audio_input(usage: Usage) -> int:
    return usage.audio_input_tokens + usage.audio_cache_read_tokens


def _openai_cached(usage: Usage) -> int:
    return usage.cache_read_tokens + usage.audio_cache_read_tokens + usage.image_cache_read_tokens


def _openai_chat_usage(usage: Usage) -> Json:
    """https://platform.openai.com/docs/api-reference/chat/object: details are parts of the totals."""
    return {
        "prompt_tokens": usage.total_input_tokens,
        "completion_tokens": usage.total_output_tokens,
        "total_tokens": usage.total_input_tokens + usage.total_output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": _openai_cached(usage),
            "cache_write_tokens": usage.cache_write_tokens + usage.cache_write_1h_tokens,
            "audio_tokens": _openai_audio_input(usage),
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": usage.audio_output_tokens,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _openai_tool_calls(call: Call) -> list[Json]:
    return [
        {
            "id": _call_id(call, index),
            "type": "function",
            "function": {"name": tool.name, "arguments": json.dumps(tool.arguments)},
        }
        for index, tool in enumerate(call.reply.tool_calls)
    ]


def _openai_chat(call: Call) -> Json:
    message: Json = {"role": "assistant", "content": call.reply.text, "refusal": None}
    if call.reply.tool_calls:
        message |= {"content": None, "tool_calls": _openai_tool_calls(call)}
    finish_reason = "tool_calls" if call.reply.tool_calls else "stop"
    return _openai_chat_head(call, "chat.completion") | {
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason, "logprobs": None}],
        "usage": _openai_chat_usage(call.reply.usage),
    }


def _openai_chat_head(call: Call, kind: str) -> Json:
    head = {"id": call.response_id, "object": kind, "created": int(time.time()), "model": _model(call)}
    return head | ({"service_tier": call.reply.service_tier} if call.reply.service_tier else {})


def _openai_chat_stream(call: Call) -> Iterator[Event]:
    """Usage comes in a last chunk, and only to who asked for it. Mistral's are told always.

    https://docs.mistral.ai/api (CompletionChunk)
    """

    def chunk(delta: Json, finish_reason: str | None = None) -> Event:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
        return "", _openai_chat_head(call, "chat.completion.chunk") | {"choices": [choice]}

    yield chunk({"role": "assistant", "content": ""})
    if call.reply.tool_calls:
        for index, tool_call in enumerate(_openai_tool_calls(call)):
            yield chunk({"tool_calls": [{"index": index} | tool_call]})
        yield chunk({}, "tool_calls")
    else:
        yield from (chunk({"content": piece}) for piece in _pieces(call))
        yield chunk({}, "stop")
    if (call.body.get("stream_options") or {}).get("include_usage") or "mistral" in call.model:
        usage = _openai_chat_usage(call.reply.usage)
        yield "", _openai_chat_head(call, "chat.completion.chunk") | {"choices": [], "usage": usage}


def _openai_responses_usage(usage: Usage) -> Json:
    """https://platform.openai.com/docs/api-reference/responses/object: details are parts of the totals."""
    return {
        "input_tokens": usage.total_input_tokens,
        "input_tokens_details": {
            "cached_tokens": _openai_cached(usage),
            "cache_write_tokens": usage.cache_write_tokens + usage.cache_write_1h_tokens,
        },
        "output_tokens": usage.total_output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_input_tokens + usage.total_output_tokens,
    }


def _openai_output(call: Call) -> list[Json]:
    """Return the finished output items of a response."""
    if call.reply.tool_calls:
        return [
            {
                "id": _call_id(call, index, "fc"),
                "type": "function_call",
                "status": "completed",
                "call_id": _call_id(call, index),
                "name": tool.name,
                "arguments": json.dumps(tool.arguments),
            }
            for index, tool in enumerate(call.reply.tool_calls)
        ]
    content = [{"type": "output_text", "text": call.reply.text, "annotations": [], "logprobs": []}]
    message = {"id": f"msg_{call.number:04d}", "type": "message", "role": "assistant", "status": "completed"}
    return [*_openai_searches(call), message | {"content": content}]


def _openai_searches(call: Call) -> list[Json]:
    """Return the web searches that are billed, and the page opened after each, which is not."""
    actions: list[Json] = [
        {"type": "search", "query": "of what"},
        {"type": "open_page", "url": "https://example.com/"},
    ]
    return [
        {
            "id": _call_id(call, 2 * index + step, "ws"),
            "type": "web_search_call",
            "status": "completed",
            "action": action,
        }
        for index in range(call.reply.usage.web_searches)
        for step, action in enumerate(actions)
    ]


def _openai_response(call: Call, status: str = "completed") -> Json:
    is_done = status == "completed"
    return {
        "id": call.response_id,
        "object": "response",
        "created_at": int(time.time()),
        "status": status,
        "model": _model(call),
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "output": _openai_output(call) if is_done else [],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "top_p": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "service_tier": call.reply.service_tier or "default",
        "usage": _openai_responses_usage(call.reply.usage) if is_done else None,
    }


def _openai_responses_stream(call: Call) -> Iterator[Event]:
    events = [("response.created", {"response": _openai_response(call, "in_progress")})]
    for index, item in enumerate(_openai_output(call)):
        events += _openai_item_events(index, item, _pieces(call))
    events.append(("response.completed", {"response": _openai_response(call)}))
    for number, (name, body) in enumerate(events):
        yield name, {"type": name, "sequence_number": number} | body


def _openai_item_events(index: int, item: Json, pieces: list[str]) -> list[Event]:
    place: Json = {"output_index": index, "item_id": item["id"]}
    empty: Json = {name: blank for name, blank in (("arguments", ""), ("content", [])) if name in item}
    started: Json = item | empty | {"status": "in_progress"}
    events: list[Event] = [("response.output_item.added", {"output_index": index, "item": started})]
    if "arguments" in item:
        events.append(("response.function_call_arguments.delta", place | {"delta": item["arguments"]}))
        done = {"arguments": item["arguments"], "name": item["name"]}
        events.append(("response.function_call_arguments.done", place | done))
    elif "content" in item:
        part = item["content"][0]
        place |= {"content_index": 0}
        events.append(("response.content_part.added", place | {"part": part | {"text": ""}}))
        deltas = ({"delta": piece, "logprobs": []} for piece in pieces)
        events.extend(("response.output_text.delta", place | delta) for delta in deltas)
        events.append(("response.output_text.done", place | {"text": part["text"], "logprobs": []}))
        events.append(("response.content_part.done", place | {"part": part}))
    return [*events, ("response.output_item.done", {"output_index": index, "item": item})]


def _openai_embeddings(call: Call) -> Json:
    texts = call.body.get("input", "")
    count = len(texts) if isinstance(texts, list) else 1
    total = call.reply.usage.total_input_tokens
    return {
        "object": "list",
        "model": _model(call),
        "data": [{"object": "embedding", "index": i, "embedding": [0.0, 1.0]} for i in range(count)],
        "usage": {"prompt_tokens": total, "total_tokens": total},
    }


# --- Anthropic --------------------------------------------------------------------------------------------


def _anthropic_usage(usage: Usage) -> Json:
    """https://docs.anthropic.com/en/api/messages: `input_tokens` leaves out what was cached or written."""
    written = usage.cache_write_tokens + usage.cache_write_1h_tokens
    return {
        "input_tokens": usage.total_input_tokens - usage.cache_read_tokens - written,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "cache_creation_input_tokens": written,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_tokens,
            "ephemeral_1h_input_tokens": usage.cache_write_1h_tokens,
        },
        "output_tokens": usage.total_output_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
        "server_tool_use": {"web_search_requests": usage.web_searches, "web_fetch_requests": 0},
        "service_tier": "standard",
    }


def _anthropic_message(call: Call) -> Json:
    usage = _anthropic_usage(call.reply.usage)
    if call.reply.service_tier:
        usage["service_tier"] = call.reply.service_tier
    usage["inference_geo"] = call.body.get("inference_geo", "global")
    return {
        "id": call.response_id,
        "type": "message",
        "role": "assistant",
        "model": _model(call),
        "content": _anthropic_content(call),
        "stop_reason": "tool_use" if call.reply.tool_calls else "end_turn",
        "stop_sequence": None,
        "usage": usage,
    }


def _anthropic_content(call: Call) -> list[Json]:
    if not call.reply.tool_calls:
        return [{"type": "text", "text": call.reply.text}]
    return [
        {
            "type": "tool_use",
            "id": _call_id(call, index, "toolu"),
            "name": tool.name,
            "input": dict(tool.arguments),
        }
        for index, tool in enumerate(call.reply.tool_calls)
    ]


def _anthropic_stream(call: Call) -> Iterator[Event]:
    """Input is reported at the start, output as a running total at the end."""
    for name, body in _anthropic_events(_anthropic_message(call), _pieces(call)):
        yield name, {"type": name} | body


def _anthropic_events(message: Json, pieces: list[str]) -> Iterator[Event]:
    started = {"content": [], "stop_reason": None, "usage": message["usage"] | {"output_tokens": 1}}
    yield "message_start", {"message": message | started}
    for index, block in enumerate(message["content"]):
        is_text = block["type"] == "text"
        empty: Json = {"text": ""} if is_text else {"input": {}}
        yield "content_block_start", {"index": index, "content_block": block | empty}
        if is_text:
            deltas: list[Json] = [{"type": "text_delta", "text": piece} for piece in pieces]
        else:
            deltas = [{"type": "input_json_delta", "partial_json": json.dumps(block["input"])}]
        yield from (("content_block_delta", {"index": index, "delta": delta}) for delta in deltas)
        yield "content_block_stop", {"index": index}
    last = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield "message_delta", {"delta": last, "usage": message["usage"]}
    yield "message_stop", {}


# --- Gemini -----------------------------------------------------------------------------------------------


def _gemini_usage(usage: Usage) -> Json:
    """https://ai.google.dev/api/generate-content#UsageMetadata: cache inside the prompt, thoughts apart."""
    audio = _openai_audio_input(usage)
    text = usage.total_input_tokens - usage.tool_input_tokens - audio
    return {
        "promptTokenCount": usage.total_input_tokens - usage.tool_input_tokens,
        "cachedContentTokenCount": _openai_cached(usage),
        "candidatesTokenCount": usage.total_output_tokens - usage.reasoning_tokens,
        "thoughtsTokenCount": usage.reasoning_tokens,
        "toolUsePromptTokenCount": usage.tool_input_tokens,
        "totalTokenCount": usage.total_input_tokens + usage.total_output_tokens,
        "promptTokensDetails": _modalities("tokenCount", TEXT=text, AUDIO=audio),
        "candidatesTokensDetails": _modalities(
            "tokenCount",
            TEXT=usage.output_tokens,
            AUDIO=usage.audio_output_tokens,
            IMAGE=usage.image_output_tokens,
        ),
    }


def _modalities(unit: str, **counts: int) -> list[Json]:
    return [{"modality": modality, unit: count} for modality, count in counts.items() if count]


def _gemini_response(call: Call) -> Json:
    parts: list[Json] = [
        {"functionCall": {"name": tool.name, "args": dict(tool.arguments)}} for tool in call.reply.tool_calls
    ]
    return _gemini_part(call, parts or [{"text": call.reply.text}]) | {
        "usageMetadata": _gemini_usage(call.reply.usage)
    }


def _gemini_part(call: Call, parts: list[Json], finish_reason: str = "STOP") -> Json:
    candidate: Json = {"index": 0, "content": {"role": "model", "parts": parts}}
    candidate |= {"finishReason": finish_reason} if finish_reason else {}
    if finish_reason and call.reply.usage.web_searches:
        queries = [f"what is {number}" for number in range(call.reply.usage.web_searches)]
        candidate["groundingMetadata"] = {"webSearchQueries": ["", *queries, *queries[:1]]}
    return {"responseId": call.response_id, "modelVersion": _model(call), "candidates": [candidate]}


def _gemini_stream(call: Call) -> Iterator[Event]:
    """Each part carries the usage up to it, the last one the whole."""
    whole = _gemini_response(call)
    if call.reply.tool_calls:
        yield "", whole
        return
    *first, last = _pieces(call)
    count, whole_count, usage = 0, len(tokens(call.reply.text)) or 1, call.reply.usage
    for piece in first:
        count += len(tokens(piece))
        so_far = usage._replace(output_tokens=ceil(usage.output_tokens * Fraction(count, whole_count)))
        yield "", _gemini_part(call, [{"text": piece}], "") | {"usageMetadata": _gemini_usage(so_far)}
    yield "", whole | _gemini_part(call, [{"text": last}])


def _interaction_usage(usage: Usage) -> Json:
    """https://ai.google.dev/api/interactions-api: thoughts and what tools gave are apart."""
    return {
        "total_input_tokens": usage.total_input_tokens - usage.tool_input_tokens,
        "total_cached_tokens": _openai_cached(usage),
        "total_output_tokens": usage.total_output_tokens - usage.reasoning_tokens,
        "total_thought_tokens": usage.reasoning_tokens,
        "total_tool_use_tokens": usage.tool_input_tokens,
        "total_tokens": usage.total_input_tokens + usage.total_output_tokens,
        "output_tokens_by_modality": _modalities(
            "tokens", text=usage.output_tokens, image=usage.image_output_tokens
        ),
        "grounding_tool_count": [{"type": "google_search", "count": usage.web_searches}],
    }


def _interaction(call: Call, steps: list[Json], status: str) -> Json:
    made = {"id": call.response_id, "object": "interaction", "model": _model(call), "status": status}
    return made | {"steps": steps, "usage": _interaction_usage(call.reply.usage)}


def _interaction_steps(call: Call) -> list[Json]:
    calls: list[Json] = [
        {
            "type": "function_call",
            "id": _call_id(call, index),
            "name": tool.name,
            "arguments": dict(tool.arguments),
        }
        for index, tool in enumerate(call.reply.tool_calls)
    ]
    return calls or [{"type": "model_output", "content": [{"type": "text", "text": call.reply.text}]}]


def _interaction_response(call: Call) -> Json:
    return _interaction(
        call, _interaction_steps(call), "requires_action" if call.reply.tool_calls else "completed"
    )


def _interaction_stream(call: Call) -> Iterator[Event]:
    """The end of the stream tells the usage, and repeats nothing of what came."""
    made = _interaction_response(call)
    begun = {key: value for key, value in made.items() if key not in ("steps", "usage")}
    yield _stepped("interaction.created", interaction=begun | {"status": "in_progress"})
    for index, step in enumerate(made["steps"]):
        is_text = step["type"] == "model_output"
        yield _stepped("step.start", index=index, step={"type": "model_output"} if is_text else step)
        for piece in _pieces(call) if is_text else ():
            yield _stepped("step.delta", index=index, delta={"type": "text", "text": piece})
        yield _stepped("step.stop", index=index)
    yield _stepped("interaction.completed", interaction=begun | {"usage": made["usage"]})


def _stepped(kind: str, **held: Any) -> Event:
    return kind, {"event_type": kind, **held}


# --- Bedrock ----------------------------------------------------------------------------------------------


def _bedrock_usage(usage: Usage) -> Json:
    """https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html: cache apart."""
    written = usage.cache_write_tokens + usage.cache_write_1h_tokens
    return {
        "inputTokens": usage.total_input_tokens - usage.cache_read_tokens - written,
        "outputTokens": usage.total_output_tokens,
        "totalTokens": usage.total_input_tokens + usage.total_output_tokens,
        "cacheReadInputTokens": usage.cache_read_tokens,
        "cacheWriteInputTokens": written,
    }


def _bedrock_response(call: Call) -> Json:
    content: list[Json] = [
        {"toolUse": {"toolUseId": _call_id(call, index), "name": tool.name, "input": dict(tool.arguments)}}
        for index, tool in enumerate(call.reply.tool_calls)
    ]
    return {
        "output": {"message": {"role": "assistant", "content": content or [{"text": call.reply.text}]}},
        "stopReason": "tool_use" if call.reply.tool_calls else "end_turn",
        "usage": _bedrock_usage(call.reply.usage),
        "metrics": {"latencyMs": int(call.reply.delay_s * 1000)},
    }


def _bedrock_stream(call: Call) -> Iterator[Event]:
    response = _bedrock_response(call)
    yield "messageStart", {"role": "assistant"}
    for index, block in enumerate(response["output"]["message"]["content"]):
        place = {"contentBlockIndex": index}
        if tool := block.get("toolUse"):
            start = {"toolUse": {"toolUseId": tool["toolUseId"], "name": tool["name"]}}
            yield "contentBlockStart", place | {"start": start}
            delta = {"toolUse": {"input": json.dumps(tool["input"])}}
            yield "contentBlockDelta", place | {"delta": delta}
        else:
            for piece in _pieces(call):
                yield "contentBlockDelta", place | {"delta": {"text": piece}}
        yield "contentBlockStop", place
    yield "messageStop", {"stopReason": response["stopReason"]}
    yield "metadata", {"usage": response["usage"], "metrics": response["metrics"]}


# --- Cohere -----------------------------------------------------------------------------------------------


def _cohere_usage(usage: Usage) -> Json:
    """https://docs.cohere.com/reference/chat: what is billed, and what was counted."""
    counted = {"input_tokens": usage.total_input_tokens, "output_tokens": usage.total_output_tokens}
    return {"billed_units": counted, "tokens": counted, "cached_tokens": usage.cache_read_tokens}


def _cohere_response(call: Call) -> Json:
    content: Json = {"content": [{"type": "text", "text": call.reply.text}]}
    if call.reply.tool_calls:
        content = {"tool_plan": "", "tool_calls": _openai_tool_calls(call)}
    return {
        "id": call.response_id,
        "finish_reason": "TOOL_CALL" if call.reply.tool_calls else "COMPLETE",
        "message": {"role": "assistant"} | content,
        "usage": _cohere_usage(call.reply.usage),
    }


def _cohere_stream(call: Call) -> Iterator[Event]:
    """The last event has the usage, inside its delta."""
    for name, body in _cohere_events(_cohere_response(call), _pieces(call)):
        yield name, {"type": name} | body


def _cohere_events(response: Json, pieces: list[str]) -> Iterator[Event]:
    message = response["message"]
    started = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
    yield "message-start", {"id": response["id"], "delta": {"message": started}}
    for index, tool in enumerate(message.get("tool_calls", ())):
        yield "tool-call-start", {"index": index, "delta": {"message": {"tool_calls": tool}}}
        yield "tool-call-end", {"index": index}
    for index, block in enumerate(message.get("content", ())):
        empty = {"message": {"content": block | {"text": ""}}}
        yield "content-start", {"index": index, "delta": empty}
        for piece in pieces:
            yield "content-delta", {"index": index, "delta": {"message": {"content": {"text": piece}}}}
        yield "content-end", {"index": index}
    yield "message-end", {"delta": {"finish_reason": response["finish_reason"], "usage": response["usage"]}}


# --- Ollama -----------------------------------------------------------------------------------------------


def _ollama_message(call: Call, text: str, is_done: bool) -> Json:
    """https://docs.ollama.com/api#generate-a-chat-completion: counts come with the last line."""
    head = {"model": _model(call), "created_at": "2026-01-01T00:00:00Z", "done": is_done}
    message: Json = {"role": "assistant", "content": text}
    if is_done and call.reply.tool_calls:
        calls = [
            {"function": {"name": tool.name, "arguments": dict(tool.arguments)}}
            for tool in call.reply.tool_calls
        ]
        message |= {"content": "", "tool_calls": calls}
    counts = {
        "done_reason": "stop",
        "prompt_eval_count": call.reply.usage.total_input_tokens,
        "eval_count": call.reply.usage.total_output_tokens,
    }
    return head | {"message": message} | (counts if is_done else {})


def _ollama_response(call: Call) -> Json:
    return _ollama_message(call, call.reply.text, True)


def _ollama_stream(call: Call) -> Iterator[Event]:
    if not call.reply.tool_calls:
        yield from (("", _ollama_message(call, piece, False)) for piece in _pieces(call))
    yield "", _ollama_message(call, "", True)


_BODIES: dict[str, Callable[[Call], Json]] = {
    "openai.chat": _openai_chat,
    "openai.responses": _openai_response,
    "openai.embeddings": _openai_embeddings,
    "anthropic.messages": _anthropic_message,
    "gemini": _gemini_response,
    "interactions": _interaction_response,
    "bedrock": _bedrock_response,
    "cohere": _cohere_response,
    "ollama": _ollama_response,
}
_STREAMS: dict[str, Callable[[Call], Iterator[Event]]] = {
    "openai.chat": _openai_chat_stream,
    "openai.responses": _openai_responses_stream,
    "anthropic.messages": _anthropic_stream,
    "gemini": _gemini_stream,
    "interactions": _interaction_stream,
    "bedrock": _bedrock_stream,
    "cohere": _cohere_stream,
    "ollama": _ollama_stream,
}

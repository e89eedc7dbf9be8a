"""Which HTTP request is a model call, and what it asks for: provider, model, output limit, stream."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from otel_cost.providers import endpoint_provider

Json = dict[str, Any]

CHAT, COMPLETIONS, RESPONSES, MESSAGES = "chat", "completions", "responses", "messages"
GEMINI, CONVERSE, INVOKE, COHERE, OLLAMA = "gemini", "converse", "invoke", "cohere", "ollama"
EMBEDDINGS, OTHER = "embeddings", "other"

_FILE_KEYS = frozenset(
    {"data", "image_url", "url", "uri", "fileUri", "bytes", "file_data", "images", "result"}
)
_FILE_MARK = re.compile(b'"(?:%b)"' % "|".join(sorted(_FILE_KEYS)).encode())
_MIN_FILE_BYTES = 512


@dataclass(frozen=True, slots=True)
class Api:
    """One kind of request. Places in the body are paths of keys.

    Attributes:
        path: What the end of the URL's path looks like; a group `model` names the model.
        output_limits: Where the request limits its output tokens, the first one present is in force.
        answers: Where it asks for several answers, each of which may use the output limit.
        provider: Whose API it is where the host does not tell; empty for one that many speak.
    """

    name: str
    path: re.Pattern[str]
    output_limits: tuple[tuple[str, ...], ...] = ()
    answers: tuple[tuple[str, ...], ...] = ()
    provider: str = ""
    is_stream: Callable[[str, Json], bool] = lambda path, body: body.get("stream") is True


def _path(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"{pattern}/?\Z")


APIS = (
    # https://platform.openai.com/docs/api-reference/chat/create, also spoken by most other providers.
    # Azure names the deployment in the path.
    Api(
        CHAT,
        _path(r"(?:/deployments/(?P<model>[^/]+))?/chat/completions"),
        (("max_completion_tokens",), ("max_tokens",)),
        (("n",),),
    ),
    Api(
        COMPLETIONS,
        _path(r"(?:/deployments/(?P<model>[^/]+))?/completions"),
        (("max_tokens",),),
        (("n",), ("best_of",)),
    ),
    # https://platform.openai.com/docs/api-reference/responses/create
    Api(RESPONSES, _path(r"/responses"), (("max_output_tokens",),)),
    # https://docs.claude.com/en/api/messages
    Api(MESSAGES, _path(r"/v1/messages"), (("max_tokens",),), provider="anthropic"),
    # https://docs.claude.com/en/api/claude-on-vertex-ai
    Api(
        MESSAGES,
        _path(r"/publishers/anthropic/models/(?P<model>[^/:]+):(?:streamR|r)awPredict"),
        (("max_tokens",),),
        provider="google",
    ),
    # https://ai.google.dev/api/generate-content, and Vertex
    Api(
        GEMINI,
        _path(r"/models/(?P<model>[^/:]+):(?:streamGenerateContent|generateContent)"),
        (("generationConfig", "maxOutputTokens"),),
        (("generationConfig", "candidateCount"),),
        "google",
        lambda path, body: "streamGenerateContent" in path,
    ),
    Api(
        EMBEDDINGS,
        _path(r"/models/(?P<model>[^/:]+):(?:embedContent|batchEmbedContents|predict)"),
        provider="google",
    ),
    # https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
    Api(
        CONVERSE,
        _path(r"/model/(?P<model>[^/]+)/converse(?:-stream)?"),
        (("inferenceConfig", "maxTokens"),),
        (),
        "aws",
        lambda path, body: path.rstrip("/").endswith("-stream"),
    ),
    # https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InvokeModel.html
    Api(
        INVOKE,
        _path(r"/model/(?P<model>[^/]+)/invoke(?:-with-response-stream)?"),
        (
            ("max_tokens",),
            ("inferenceConfig", "maxTokens"),
            ("max_gen_len",),
            ("textGenerationConfig", "maxTokenCount"),
            ("max_tokens_to_sample",),
        ),
        (),
        "aws",
        lambda path, body: path.rstrip("/").endswith("-stream"),
    ),
    # https://docs.cohere.com/reference/chat
    Api(COHERE, _path(r"/v[12]/chat"), (("max_tokens",),), (), "cohere"),
    # https://docs.ollama.com/api: streams unless told otherwise
    Api(
        OLLAMA,
        _path(r"/api/(?:chat|generate)"),
        (("options", "num_predict"),),
        (),
        "ollama",
        lambda path, body: body.get("stream") is not False,
    ),
    Api(EMBEDDINGS, _path(r"(?:/deployments/(?P<model>[^/]+))?/(?:embeddings|v[12]/embed|api/embed)")),
    # Billed by other units than output tokens: images, speech, rerank.
    Api(
        OTHER, _path(r"/(?:images/(?:generations|edits)|audio/(?:speech|transcriptions)|rerank|v[12]/rerank)")
    ),
)


@dataclass(slots=True)
class ModelCall:
    """A request that a provider will bill for.

    Attributes:
        model: As the request names it; empty when it cannot be read.
        output_limit: Output tokens the request allows, over all answers; None when it sets no limit.
        body: The parsed body; empty when it is not JSON.
        prompt_bytes: Size of the body on the wire, without the files in it.
        file_bytes: Size of the files in it: images, sound, documents.
        files: How many there are, those behind links included.
        service_tier: As the request asks; empty where it does not.
        writes_cache: The request asks for its prompt to be kept, which costs more than reading it.
        target: Method, host and path, for people; never the query, which may hold a key.
    """

    api: Api
    provider: str
    model: str
    target: str
    is_stream: bool
    output_limit: int | None
    body: Json = field(repr=False, default_factory=dict)
    prompt_bytes: int = 0
    file_bytes: int = 0
    files: int = 0
    service_tier: str = ""
    writes_cache: bool = False


def recognise(
    method: str, url: str, body: bytes | str | None, known_hosts: Mapping[str, str] | None = None
) -> ModelCall | None:
    """Return the model call that a request is, or None: only model traffic is touched.

    A path alone may be anybody's, so the body must name a model, or the host must be a provider's.

    Args:
        body: What will be sent, where it is known before it is sent.
        known_hosts: Hosts the application uses, such as a gateway's, and the provider behind each.
    """
    if method.upper() != "POST":
        return None
    route = _route(url.partition("?")[0])
    if route is None:
        return None
    provider = (known_hosts or {}).get(route.host) or route.provider
    read = _parse(body)
    model = _text(read.get("model")) or route.model
    if not model and provider is None:
        return None
    return ModelCall(
        route.api,
        provider or route.api.provider,
        model,
        route.target,
        route.api.is_stream(route.path, read),
        output_limit(route.api, read),
        read,
        *_sizes(body, read),
        _text(read.get("service_tier") or read.get("serviceTier")),
        _mentions(body, "cache_control") or _mentions(body, "cachePoint"),
    )


class _Route(NamedTuple):
    """What a URL alone tells of a request."""

    api: Api
    host: str
    path: str
    provider: str | None
    model: str
    target: str


@lru_cache(maxsize=1_024)
def _route(url: str) -> _Route | None:
    """Return what a URL tells, without its query, which may hold a key; agents use few of them."""
    parts = urlsplit(url)
    host, path = (parts.hostname or "").lower(), parts.path
    for api in APIS:
        if found := api.path.search(path):
            model = unquote(found.groupdict().get("model") or "")
            return _Route(api, host, path, endpoint_provider(host, path), model, f"POST {host}{path}")
    return None


def output_limit(api: Api, body: Json) -> int | None:
    """Return how many output tokens a request allows, over all of its answers; None when it does not say."""
    each = _first_count(body, api.output_limits)
    if each is None:
        return None
    return each * max([1, *_counts(body, api.answers)])


def _parse(body: bytes | str | None) -> Json:
    if not body:
        return {}
    try:
        read = json.loads(body if isinstance(body, str) else body.decode())
    except (ValueError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _mentions(body: bytes | str | None, word: str) -> bool:
    if not body:
        return False
    return word in body if isinstance(body, str) else word.encode() in body


def _sizes(body: bytes | str | None, read: Json) -> tuple[int, int, int]:
    """Return the bytes of a body that are not files, those that are, and how many files there are."""
    if not body:
        return 0, 0, 0
    text = body if isinstance(body, bytes) else body.encode()
    if not _FILE_MARK.search(text):
        return len(text), 0, 0
    file_bytes, files = _files(read)
    return max(0, len(text) - file_bytes), file_bytes, files


def _files(value: Any, key: str = "") -> tuple[int, int]:
    if isinstance(value, str):
        if key not in _FILE_KEYS:
            return 0, 0
        if value.startswith(("http://", "https://", "gs://", "s3://")):
            return 0, 1
        is_file = len(value) >= _MIN_FILE_BYTES and " " not in value[:_MIN_FILE_BYTES]
        return (len(value), 1) if is_file else (0, 0)
    found: list[tuple[int, int]] = []
    if isinstance(value, dict):
        found = [_files(item, name) for name, item in value.items()]
    elif isinstance(value, list):
        found = [_files(item, key) for item in value]
    return sum(size for size, _ in found), sum(count for _, count in found)


def _first_count(body: Json, places: tuple[tuple[str, ...], ...]) -> int | None:
    return next(_counts(body, places), None)


def _counts(body: Json, places: tuple[tuple[str, ...], ...]) -> Iterator[int]:
    for place in places:
        value: Any = body
        for key in place:
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            yield value

"""Which HTTP request is a model call, and what it asks for: provider, model, output limit, stream."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from otel_cost import attributes as names
from otel_cost.providers import canonical_provider, endpoint_provider
from otel_cost.usage import MODEL, classify

Json = dict[str, Any]

CHAT, COMPLETIONS, RESPONSES, MESSAGES = "chat", "completions", "responses", "messages"
GEMINI, CONVERSE, INVOKE, COHERE, OLLAMA = "gemini", "converse", "invoke", "cohere", "ollama"
EMBEDDINGS, OTHER = "embeddings", "other"

_HISTORIES = {"previous_response_id": None, "conversation": None, "cachedContent": None, "prompt": None}
_PROMPTS = frozenset({"contents", "input", "inputs", "instances", "messages", "prompt"})
_NO_CALL = re.compile(r"(?:count_?tokens|tokenize|moderations|files|batches)/?\Z", re.IGNORECASE)
"""Ends of paths that take a prompt and bill for no answer."""

_FILE_KEYS = frozenset(
    {"data", "image_url", "url", "uri", "fileUri", "bytes", "file_data", "images", "result"}
)
_CACHE_KEYS = frozenset({"cache_control", "cachePoint"})
"""How a request asks for a part of its prompt to be kept: Anthropic's and Bedrock's."""
_MARKS = re.compile(
    b'"(?=[%b])(?:(%b)|%b)"'  # few words begin with one of these letters, so few are looked at
    % (
        "".join(sorted({key[0] for key in _FILE_KEYS | _CACHE_KEYS})).encode(),
        "|".join(sorted(_CACHE_KEYS)).encode(),
        "|".join(sorted(_FILE_KEYS)).encode(),
    )
)
"""Finds both kinds of keys in one pass; the first group is one that asks for a cache."""
_MIN_FILE_BYTES = 512
UNLIMITED_SEARCHES = 10
"""Web searches of a request that allows them and sets no limit: providers set none either."""


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


UNNAMED = Api(
    OTHER,
    _path(""),
    (
        ("max_tokens",),
        ("max_completion_tokens",),
        ("max_output_tokens",),
        ("max_new_tokens",),
        ("parameters", "max_new_tokens"),
    ),
    (("n",),),
)
"""A request that is known as a model call by the span around it only."""


class Told(NamedTuple):
    """What a span says of the model call it is around; an empty text is unknown."""

    provider: str = ""
    model: str = ""


@dataclass(slots=True)
class ModelCall:
    """A request that a provider will bill for.

    Attributes:
        model: As the request names it; empty when it cannot be read.
        output_limit: Output tokens the request allows, over all answers; None when it sets no limit.
        body: The parsed body; empty when it is not JSON.
        prompt: The body as it is sent, without the files in it.
        file_bytes: Size of the files in it: images, sound, documents.
        files: How many there are, those behind links included.
        service_tier: As the request asks; empty where it does not.
        writes_cache: The request asks for its prompt to be kept, which costs more than reading it.
        url: Whole, with its query, which may hold a key.
        conversation: What tells conversations apart; 0 where it is not known.
        is_fixed: Tells whether its bytes are signed, so that nothing of it can be changed.
        can_hide: Who sends it can keep a part of the answer from the application.
        hides_usage: That part is the usage, which the application has not asked for.
        searches: Web searches that the provider may make, and bill, while it answers.
        history: Names what the provider adds to the prompt from what it keeps; empty where it adds nothing.
        target: Method, host and path, for people; never the query, which may hold a key.
    """

    api: Api
    provider: str
    model: str
    target: str
    is_stream: bool
    output_limit: int | None
    body: Json = field(repr=False, default_factory=dict)
    prompt: bytes = field(repr=False, default=b"")
    file_bytes: int = 0
    files: int = 0
    service_tier: str = ""
    writes_cache: bool = False
    searches: int = 0
    history: str = ""
    url: str = field(repr=False, default="")
    conversation: int = 0
    is_fixed: Callable[[], bool] = lambda: False
    can_hide: bool = False
    hides_usage: bool = False


_UNSEEN = Api("unseen", re.compile(r"(?!)"))


def unseen(model: str) -> ModelCall:
    """Return a call of which nothing is known but the model: it passes no client, as through gRPC."""
    return ModelCall(_UNSEEN, "", model, "a call that passes no client", is_stream=False, output_limit=None)


def recognise(
    method: str, url: str, body: bytes | str | None, told: Callable[[], Told | None] = lambda: None
) -> ModelCall | None:
    """Return the model call that a request is, or None: only model traffic is touched.

    A path alone may be anybody's, so the body must name a model, the host must be a provider's, or the span
    around the request must be a model call's. At a path that is no known API's, the span and a prompt in the
    body must tell: token exchanges and uploads pass below such spans too.

    Args:
        body: What will be sent, where it is known before it is sent.
        told: Gives what the current span says it is calling; None where it is no model call's.
    """
    if method.upper() != "POST":
        return None
    route = _route(url.partition("?")[0])
    is_unnamed = route.api is UNNAMED
    said = told() if is_unnamed else None
    if is_unnamed and (said is None or _NO_CALL.search(route.path)):
        return None
    read = _parse(body)
    if is_unnamed and _PROMPTS.isdisjoint(read):
        return None
    provider, model = route.seller or route.api.provider, _text(read.get("model")) or route.model
    if not (provider and model):
        said = said or told()
    if said is not None:
        provider, model = provider or said.provider, model or said.model
    elif not model and not route.seller:
        return None
    text = body.encode() if isinstance(body, str) else body or b""
    has_files, writes_cache = _marked(text)
    return ModelCall(
        route.api,
        provider,
        model,
        route.target,
        route.api.is_stream(route.path, read),
        output_limit(route.api, read),
        read,
        *(_parted(text, read) if has_files else (text, 0, 0)),
        _text(read.get("service_tier") or read.get("serviceTier")),
        writes_cache,
        _searches(read),
        _history(read),
        url,
    )


def told_by(attributes: Mapping[str, Any] | None) -> Told | None:
    """Return what the attributes of a span say of a model call; None where it is no model call's."""
    if not attributes or classify(attributes) != MODEL:
        return None
    provider = _first_text(attributes, names.PROVIDER).lower()
    return Told(canonical_provider(provider) or "", _first_text(attributes, names.REQUEST_MODEL))


def _first_text(attributes: Mapping[str, Any], aliases: Iterable[str]) -> str:
    return next((text for name in aliases if (text := _text(attributes.get(name)))), "")


class _Route(NamedTuple):
    """What a URL alone tells of a request.

    Attributes:
        seller: The provider whose host it is; empty where none is known.
    """

    api: Api
    path: str
    seller: str
    model: str
    target: str


@lru_cache(maxsize=1_024)
def _route(url: str) -> _Route:
    """Return what a URL tells, without its query, which may hold a key; agents use few of them."""
    parts = urlsplit(url)
    host, path = (parts.hostname or "").lower(), parts.path
    api, model = UNNAMED, ""
    for named in APIS:
        if found := named.path.search(path):
            api, model = named, unquote(found.groupdict().get("model") or "")
            break
    return _Route(api, path, endpoint_provider(host, path) or "", model, f"POST {host}{path}")


def output_limit(api: Api, body: Json) -> int | None:
    """Return how many output tokens a request allows, over all of its answers; None when it does not say."""
    for place in api.output_limits:
        if each := _count(body, place):
            return each * max([1, *[_count(body, place) for place in api.answers]])
    return None


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


def _marked(text: bytes) -> tuple[bool, bool]:
    """Return whether a body may hold files, and whether it asks for a part of it to be kept."""
    has_files = writes_cache = False
    for found in _MARKS.finditer(text):
        if found[1]:
            writes_cache = True
        else:
            has_files = True
        if has_files and writes_cache:
            break
    return has_files, writes_cache


def _parted(text: bytes, read: Json) -> tuple[bytes, int, int]:
    """Return a body without its files, the bytes of these, and how many there are."""
    files = list(_files(read))
    for file in filter(None, files):
        text = text.replace(file.encode(), b"")
    return text, sum(map(len, files)), len(files)


def _files(value: Any, key: str = "") -> Iterator[str]:
    """Yield the files in a body, empty where it holds only a link to one."""
    if isinstance(value, str):
        if key not in _FILE_KEYS:
            return
        if value.startswith(("http://", "https://", "gs://", "s3://")):
            yield ""
        elif len(value) >= _MIN_FILE_BYTES and " " not in value[:_MIN_FILE_BYTES]:
            yield value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _files(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _files(item, key)


def _searches(body: Json) -> int:
    """Return how many web searches a request lets OpenAI or Anthropic make.

    https://platform.openai.com/docs/guides/tools-web-search (2026-11),
    https://platform.claude.com/docs/en/agents-and-tools/tool-use/web-search-tool (2026-11)
    """
    tools = body.get("tools")
    if isinstance(tools, list):
        for tool in tools:
            kind = tool.get("type") if isinstance(tool, dict) else None
            if isinstance(kind, str) and kind.startswith("web_search"):
                limit = _count(tool, ("max_uses",)) or _count(body, ("max_tool_calls",))
                return limit or UNLIMITED_SEARCHES
    return 0


def _history(body: Json) -> str:
    """Name what the provider adds: an earlier response, a conversation, a cached or stored prompt.

    https://platform.openai.com/docs/guides/conversation-state, https://ai.google.dev/gemini-api/docs/caching
    """
    if _HISTORIES.keys().isdisjoint(body):
        return ""
    for key in _HISTORIES:
        value = body.get(key)
        named = value.get("id") if isinstance(value, dict) else value
        if isinstance(named, str) and named and (key != "prompt" or value is not named):
            return named
    return ""


def _count(body: Json, place: tuple[str, ...]) -> int:
    """Return the number that stands at a place; 0 where there is none above it."""
    value: Any = body
    for key in place:
        value = value.get(key) if isinstance(value, dict) else None
    return value if type(value) is int and value > 0 else 0

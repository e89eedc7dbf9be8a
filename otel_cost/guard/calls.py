"""Which HTTP request is a model call, and what it asks for: provider, model, output limit, stream."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from otel_cost import attributes as names
from otel_cost.documents import read_json
from otel_cost.guard.searches import NONE as NO_SEARCHES
from otel_cost.guard.searches import Allowed, allowed
from otel_cost.providers import canonical_provider, endpoint_provider, is_regional
from otel_cost.usage import MODEL, REGIONAL, classify, place_of

Json = dict[str, Any]

CHAT, COMPLETIONS, RESPONSES, MESSAGES = "chat", "completions", "responses", "messages"
GEMINI, CONVERSE, INVOKE, COHERE, OLLAMA = "gemini", "converse", "invoke", "cohere", "ollama"
INTERACTIONS, BATCH, EMBEDDINGS, OTHER = "interactions", "batch", "embeddings", "other"
IMAGES, SPEECH, VIDEOS, RERANK = "images", "speech", "videos", "rerank"
MEDIA = frozenset({IMAGES, SPEECH, VIDEOS, RERANK})
"""What is not answered in text, and billed by other units than its tokens."""

_HISTORIES = (
    "previous_response_id",
    "previous_interaction_id",
    "conversation",
    "cachedContent",
    "cached_content",
    "prompt",
)
_HISTORY_KEYS = frozenset(_HISTORIES)
_PROMPTS = frozenset({"contents", "input", "inputs", "instances", "messages", "prompt"})
_NO_CALL = re.compile(r"(?:count_?tokens|tokenize|moderations|files)/?\Z", re.IGNORECASE)
"""Ends of paths that take a prompt and bill for no answer."""

_REFERENCES = frozenset({"file_id", "file_url", "fileUri", "file_uri"})
_FILE_KEYS = _REFERENCES | {"data", "image_url", "url", "uri", "bytes", "file_data", "images", "result"}
_TEXT_FILE = re.compile(
    rb'(?:"(?:mime_?type|media_type)"\s*:\s*"|"data:)(?:text/|application/(?:json|csv|xml))', re.IGNORECASE
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
    Api(RESPONSES, _path(r"/responses(?:/compact)?"), (("max_output_tokens",),)),
    # https://docs.claude.com/en/api/messages, and batches of them
    Api(MESSAGES, _path(r"/v1/messages"), (("max_tokens",),), provider="anthropic"),
    Api(BATCH, _path(r"/v1/messages/batches"), (("max_tokens",),), provider="anthropic"),
    Api(
        BATCH,
        _path(r"/models/(?P<model>[^/:]+):batchGenerateContent"),
        (("generationConfig", "maxOutputTokens"),),
        provider="google",
    ),
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
        _path(
            r"/(?:models|tunedModels|endpoints)/(?P<model>[^/:]+):(?:streamGenerateContent|generateContent)"
        ),
        (("generationConfig", "maxOutputTokens"),),
        (("generationConfig", "candidateCount"),),
        "google",
        lambda path, body: "streamGenerateContent" in path,
    ),
    # https://ai.google.dev/api/interactions-api
    Api(
        INTERACTIONS,
        _path(r"/interactions"),
        (("generation_config", "max_output_tokens"),),
        provider="google",
    ),
    # https://ai.google.dev/gemini-api/docs/imagen, https://ai.google.dev/gemini-api/docs/video
    Api(
        IMAGES,
        _path(r"/models/(?P<model>imagen[^/:]*):predict"),
        (),
        (("parameters", "sampleCount"),),
        "google",
    ),
    Api(
        VIDEOS,
        _path(r"/models/(?P<model>[^/:]+):predictLongRunning"),
        (),
        (("parameters", "sampleCount"),),
        "google",
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
    # https://platform.openai.com/docs/api-reference/images, audio and videos
    Api(IMAGES, _path(r"/images/(?:generations|edits|variations)"), (), (("n",),)),
    Api(SPEECH, _path(r"/audio/speech")),
    Api(VIDEOS, _path(r"/videos")),
    Api(OTHER, _path(r"/audio/(?:transcriptions|translations)")),
    # https://docs.cohere.com/reference/rerank
    Api(RERANK, _path(r"/rerank")),
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
        has_text_files: Some of them are text, of which a byte may be a token.
        references: Those behind links, or known to the provider by name, that are no images: of any size.
        service_tier: As the request asks; empty where it does not.
        place: Where inference is to be kept to, as the request asks or the host says; empty for anywhere.
        writes_cache: The request asks for its prompt to be kept, which costs more than reading it.
        url: Whole, with its query, which may hold a key.
        conversation: What tells conversations apart; 0 where it is not known.
        is_fixed: Tells whether its bytes are signed, so that nothing of it can be changed.
        can_hide: Who sends it can keep a part of the answer from the application.
        hides_usage: That part is the usage, which the application has not asked for.
        searches: What the provider may look for, and bill, while it answers.
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
    references: int = 0
    has_text_files: bool = False
    service_tier: str = ""
    place: str = ""
    writes_cache: bool = False
    searches: Allowed = NO_SEARCHES
    history: str = ""
    url: str = field(repr=False, default="")
    conversation: int = 0
    is_fixed: Callable[[], bool] = lambda: False
    can_hide: bool = False
    hides_usage: bool = False

    @property
    def answers(self) -> int:
        """How many answers the request asks for, each of which may use the output limit."""
        return answers(self.api, self.body)

    @property
    def is_deferred(self) -> bool:
        """Whether what comes back is a promise, and the answer is read in other requests."""
        return self.api.name == BATCH or self.body.get("background") is True


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
        body: What will be sent; None where that cannot be known before, and a known path has to do.
        told: Gives what the current span says it is calling; None where it is no model call's.
    """
    if method.upper() != "POST":
        return None
    route = _route(url.partition("?")[0])
    is_unnamed = route.api is UNNAMED
    said = told() if is_unnamed else None
    if is_unnamed and (not (said or route.seller) or _NO_CALL.search(route.path)):
        return None
    read = _parse(body)
    if is_unnamed and _PROMPTS.isdisjoint(read):
        return None
    provider, model = route.seller or route.api.provider, _model(route.api, read) or route.model
    if not (provider and model):
        said = said or told()
    if said is not None:
        provider, model = provider or said.provider, model or said.model
    elif not model and not route.seller and body is not None:
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
        *(_parted(text, read) if has_files else (text, 0, 0, 0, False)),
        BATCH if route.api.name == BATCH else _asked_tier(read),
        _asked_place(route, read),
        writes_cache,
        allowed(read, model),
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
        is_regional: The host keeps inference to a region.
    """

    api: Api
    path: str
    seller: str
    model: str
    target: str
    is_regional: bool


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
    seller = endpoint_provider(parts.netloc.rpartition("@")[2].lower(), path) or ""
    return _Route(api, path, seller, model, f"POST {host}{path}", is_regional(host))


def output_limit(api: Api, body: Json) -> int | None:
    """Return how many output tokens a request allows, over all of its answers; None when it does not say."""
    if api.name == BATCH:
        limits = [_count(one, place) for one in batched(body) for place in api.output_limits]
        return sum(limits) if limits and all(limits) else None
    for place in api.output_limits:
        if place[0] in body and (each := _count(body, place)):
            return each * answers(api, body)
    return None


def answers(api: Api, body: Json) -> int:
    """Return how many answers a request asks for, each of which may use the output limit."""
    if api.name == BATCH:
        return max(1, len(batched(body)))
    each = 1
    for place in api.answers:
        if place[0] in body:
            each = max(each, _count(body, place))
    prompts = body.get("prompt") if api.name == COMPLETIONS else None
    if isinstance(prompts, list) and prompts and not isinstance(prompts[0], int):  # else one, as tokens
        return each * len(prompts)
    return each


def batched(body: Json) -> list[Json]:
    """Return the requests of a batch that holds them.

    https://docs.claude.com/en/api/creating-message-batches, https://ai.google.dev/gemini-api/docs/batch-api
    """
    holder = body.get("batch", body)
    for key in ("input_config", "inputConfig", "requests"):
        inner = holder.get(key) if isinstance(holder, dict) else None
        holder = inner if inner is not None else holder
    if isinstance(holder, dict):
        holder = holder.get("requests")
    if not isinstance(holder, list):
        return []
    held = [one.get("params", one.get("request")) for one in holder if isinstance(one, dict)]
    return [one for one in held if isinstance(one, dict)]


def _model(api: Api, body: Json) -> str:
    if api.name == BATCH:
        body = next(iter(batched(body)), body)
    model = body.get("model")
    return model if isinstance(model, str) else ""


def _parse(body: bytes | str | None) -> Json:
    if not body:
        return {}
    try:
        read = read_json(body if isinstance(body, str) else body.decode())
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


def _parted(text: bytes, read: Json) -> tuple[bytes, int, int, int, bool]:
    """Return a body without its files, their bytes, how many there are, and what is said of them."""
    found = list(_files(read))
    inline = [file.text for file in found if file.text]
    has_text = bool(inline) and _TEXT_FILE.search(text) is not None  # a file may say it itself
    for file in inline:
        text = text.replace(file.encode(), b"")
    references = sum(not (file.text or file.is_image) for file in found)
    return text, sum(map(len, inline)), len(found), references, has_text


class _File(NamedTuple):
    """A file in a body; without text it stands behind a link or a name."""

    text: str
    is_image: bool


def _files(value: Any, key: str = "", is_image: bool = False) -> Iterator[_File]:
    """Yield the files in a body."""
    if isinstance(value, str):
        if key not in _FILE_KEYS:
            return
        if key in _REFERENCES or value.startswith(("http://", "https://", "gs://", "s3://")):
            yield _File("", is_image)
        elif len(value) >= _MIN_FILE_BYTES and " " not in value[:_MIN_FILE_BYTES]:
            yield _File(value, is_image)
    elif isinstance(value, dict):
        is_image = is_image or _is_image(value)
        for name, item in value.items():
            yield from _files(item, name, is_image or name.startswith("image"))
    elif isinstance(value, list):
        for item in value:
            yield from _files(item, key, is_image)


def _is_image(holder: Json) -> bool:
    kind = holder.get("mimeType") or holder.get("mime_type") or holder.get("type")
    return isinstance(kind, str) and "image" in kind


def tier_of(holder: Mapping[str, Any]) -> str:
    """Return the service tier that a request or an answer names, or an empty string; Bedrock's is an object.

    https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ServiceTier.html
    """
    tier = holder.get("service_tier") or holder.get("serviceTier")
    return _text(tier.get("type") if isinstance(tier, dict) else tier) if tier else ""


def _asked_tier(body: Json) -> str:
    return "fast" if body.get("speed") == "fast" else tier_of(body)


def _asked_place(route: _Route, body: Json) -> str:
    """https://platform.claude.com/docs/en/manage-claude/data-residency (2026-11)."""
    if route.is_regional:
        return REGIONAL
    for one in batched(body) if route.api.name == BATCH else (body,):
        if geo := one.get("inference_geo"):
            return place_of(_text(geo))
    return ""


def _history(body: Json) -> str:
    """Name what the provider adds: an earlier response, a conversation, a cached or stored prompt.

    https://platform.openai.com/docs/guides/conversation-state, https://ai.google.dev/gemini-api/docs/caching
    """
    if _HISTORY_KEYS.isdisjoint(body):
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

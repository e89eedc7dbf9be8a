"""Usage: what a span says one call consumed, in buckets that never overlap.

The only place that knows which convention and which instrumentation counts what inside what.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple, cast

from otel_cost import attributes as names
from otel_cost import documents
from otel_cost.emitters import Quirk, quirks_of
from otel_cost.errors import UsageError
from otel_cost.providers import biller, is_regional

_new = tuple.__new__

Picker = Callable[[Mapping[str, Any]], tuple[Any, ...]]


class Usage(NamedTuple):
    """Disjoint buckets of one model call: a token is in exactly one of them.

    Providers report totals that contain their parts (cached input inside input, reasoning inside output).
    Here the parts are taken out, so a cost is the plain sum of bucket times rate. The totals that the
    semantic conventions define are `total_input_tokens` and `total_output_tokens`.
    """

    input_tokens: int = 0
    """Uncached text input, and input whose kind is unknown."""
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    """Cache writes kept five minutes, or for a time the provider did not state."""
    cache_write_1h_tokens: int = 0
    tool_input_tokens: int = 0
    """Input made of the results of the provider's own tools."""
    audio_input_tokens: int = 0
    audio_cache_read_tokens: int = 0
    image_input_tokens: int = 0
    image_cache_read_tokens: int = 0
    video_input_tokens: int = 0
    video_cache_read_tokens: int = 0
    output_tokens: int = 0
    """Visible text output, and output whose kind is unknown."""
    reasoning_tokens: int = 0
    citation_tokens: int = 0
    audio_output_tokens: int = 0
    image_output_tokens: int = 0
    web_searches: int = 0
    file_searches: int = 0
    code_executions: int = 0
    rerank_searches: int = 0
    images: int = 0
    """Images made, where a provider charges for each."""
    audio_seconds: int = 0
    characters: int = 0
    pages: int = 0

    @property
    def totals(self) -> tuple[int, int]:
        """`total_input_tokens` and `total_output_tokens`."""
        return sum(self[:_INPUTS_END]), sum(self[_INPUTS_END:_OUTPUTS_END])

    @property
    def total_input_tokens(self) -> int:
        """Input tokens as `gen_ai.usage.input_tokens` defines them: cached included."""
        return sum(self[:_INPUTS_END])

    @property
    def total_output_tokens(self) -> int:
        """Output tokens as `gen_ai.usage.output_tokens` defines them: reasoning included."""
        return sum(self[_INPUTS_END:_OUTPUTS_END])

    def check(self) -> None:
        """Raise `UsageError` when a bucket is negative or not a whole number."""
        for name, amount in self._asdict().items():
            if type(amount) is not int or amount < 0:
                raise UsageError(f"{name}={amount!r} is not a whole number of 0 or more")


BUCKETS = Usage._fields
INPUT_BUCKETS = BUCKETS[: BUCKETS.index("output_tokens")]
OUTPUT_BUCKETS = BUCKETS[BUCKETS.index("output_tokens") : BUCKETS.index("web_searches")]
UNITS = BUCKETS[BUCKETS.index("web_searches") :]
"""What is billed otherwise than by the token."""
_INPUTS_END = len(INPUT_BUCKETS)
_OUTPUTS_END = _INPUTS_END + len(OUTPUT_BUCKETS)

MARK_INPUT_EXCLUDED_CACHE = "input_excluded_cache"
"""Input left cached tokens out although its convention includes them; corrected."""
MARK_OUTPUT_EXCLUDED_REASONING = "output_excluded_reasoning"
"""Output left reasoning out although its convention includes it; corrected."""
MARK_INPUT_MISSING = "input_missing"
MARK_OUTPUT_MISSING = "output_missing"
MARK_PARTIAL = "partial"
"""The answer broke off: the usage is what the provider had said by then, and an estimate of the rest."""
MARK_IMPOSSIBLE_USAGE = "impossible_usage"
"""An amount is negative, not a whole number, or more than any provider serves; that amount is ignored."""
MARK_IMPOSSIBLE_COST = "impossible_cost"
MARK_CURRENCY_NOT_USD = "currency_not_usd"

EXACT_MARKS = frozenset({MARK_INPUT_EXCLUDED_CACHE, MARK_IMPOSSIBLE_COST, MARK_CURRENCY_NOT_USD})
"""Marks that leave the usage right. Every other mark makes an amount an estimate."""

MAX_COUNT = 10**12
"""More than any provider serves in one call; anything above comes from a broken emitter."""

MODEL = "model"
TOOL = "tool"
AGGREGATE = "aggregate"
OTHER = "other"

PROVIDER_SAID = "provider"
EMITTER_SAID = "emitter"


class Reading(NamedTuple):
    """What one span says about a call.

    Attributes:
        span_class: `model` (one call), `tool`, `aggregate` (agent, chain, workflow: may repeat what is below
            it) or `other`.
        usage: Disjoint buckets; None when the span carries no usage, which is not the same as zero.
        response_id: The provider's id of the response; for a tool, the id of the call.
        reported_cost_usd: A cost the span asserts, in USD.
        reported_by: `provider` when the provider billed it, `emitter` when the instrumentation computed it.
        marks: Why the usage had to be corrected or is incomplete, empty when neither.
    """

    span_class: str
    provider: str = ""
    model: str = ""
    request_model: str = ""
    operation: str = ""
    service_tier: str = ""
    response_id: str = ""
    tool_name: str = ""
    usage: Usage | None = None
    reported_cost_usd: Decimal | None = None
    reported_by: str = ""
    marks: tuple[str, ...] = ()

    @property
    def is_billable(self) -> bool:
        """Whether the span is a charge: a model or tool call, or anything with usage or a cost."""
        return self.span_class in (MODEL, TOOL) or self.has_amount

    @property
    def has_amount(self) -> bool:
        """Whether it says how much was used or paid."""
        return self.usage is not None or self.reported_cost_usd is not None

    @property
    def kind(self) -> str:
        """`tool` or `model`, as a charge is filed."""
        return TOOL if self.span_class == TOOL else MODEL

    @property
    def is_estimate(self) -> bool:
        """Whether the facts are incomplete, so that an amount made from them is an estimate."""
        return bool(self.marks) and not EXACT_MARKS.issuperset(self.marks)


def read(attributes: Mapping[str, Any], *, scope: str = "", scope_version: str = "") -> Reading | None:
    """Read what a span says about a model or tool call.

    Args:
        attributes: The span's attributes; values of the wrong type are contained and marked.
        scope: Name of the instrumentation scope, which decides how its amounts are counted.

    Returns:
        The reading, or None when the span concerns neither a model nor a tool nor an agent.
    """
    layout = _layout(_READ_NAMES.intersection(attributes))
    if not layout.is_marked:
        return None
    if layout.is_plain and (reading := _read_plain(attributes, layout, scope, scope_version)):
        return reading
    return _read_any(attributes, layout, scope, scope_version)


def _read_plain(
    attributes: Mapping[str, Any], layout: Layout, scope: str, scope_version: str
) -> Reading | None:
    """Read what almost all calls are, in a third of the time; None for a span that needs the long way."""
    key = (layout, layout.pick_words(attributes), scope, scope_version)
    try:
        kind = _kinds[key]
    except (KeyError, TypeError):
        kind = _kind_of(attributes, *key)
    if kind is None:
        return None
    amounts = layout.pick_amounts(attributes)
    for amount in amounts:
        if type(amount) is not int or not 0 <= amount <= MAX_COUNT:
            return None
    marks: list[str] = []
    counts = dict(zip(layout.amount_names, amounts, strict=True))
    if kind.excludes_reasoning:
        _add_reasoning(counts)
    usage = to_usage(counts, exclusive=kind.excludes_cache, marks=marks, operation=kind.words[4])
    if kind.quirks and usage is not None:
        _mark_quirks(attributes, kind.quirks, counts, marks)
    response_id = _response_id(attributes, layout, scope)
    # As `Reading(...)` in half the time.
    return _new(Reading, (*kind.words, response_id, "", usage, None, "", _different(marks) if marks else ()))


class Kind(NamedTuple):
    """What is alike in calls with the same operation, provider and models: `words` opens their `Reading`."""

    words: tuple[str, str, str, str, str, str]
    excludes_cache: bool
    excludes_reasoning: bool
    quirks: tuple[Quirk, ...]


_kinds: dict[tuple[object, ...], Kind | None] = {}


def _kind_of(
    attributes: Mapping[str, Any], layout: Layout, words: tuple[object, ...], scope: str, scope_version: str
) -> Kind | None:
    if not all(
        type(word) is int or (isinstance(word, str) and len(word) <= names.MAX_TEXT) for word in words
    ):
        return None
    span_class = classify(attributes)
    kind = None
    if span_class in (MODEL, AGGREGATE):
        texts = _texts(attributes, layout)
        provider, request_model = texts.get("provider", ""), texts.get("request_model", "")
        kind = Kind(
            (
                span_class,
                _biller(attributes, provider),
                texts.get("response_model") or request_model,
                request_model,
                _operation(attributes),
                _placed(attributes, texts.get("service_tier", "")),
            ),
            _input_excludes_cache(attributes, provider.lower(), scope),
            _output_excludes_reasoning(attributes, scope),
            quirks_of(scope, scope_version),
        )
    if len(_kinds) >= CACHED_KINDS:
        _kinds.clear()
    _kinds[layout, words, scope, scope_version] = kind
    return kind


def _read_any(
    attributes: Mapping[str, Any], layout: Layout, scope: str, scope_version: str
) -> Reading | None:
    span_class = classify(attributes)
    texts = _texts(attributes, layout)
    if span_class == TOOL:
        return Reading(
            TOOL,
            operation="execute_tool",
            tool_name=texts.get("tool_name", ""),
            response_id=texts.get("tool_call_id", ""),
        )
    marks: list[str] = []
    operation = _operation(attributes)
    found = _amounts(attributes, layout)
    provider = texts.get("provider", "")
    usage = _usage(attributes, layout, found, provider, scope, operation, marks)
    cost, reported_by = _reported_cost(attributes, scope, marks) if layout.has_cost else (None, "")
    if span_class == OTHER and usage is None and cost is None:
        return None
    if usage is not None:
        _mark_quirks(attributes, quirks_of(scope, scope_version), found, marks)
        if attributes.get(names.USAGE_SOURCE) == names.PARTIAL:
            marks.append(MARK_PARTIAL)
    request_model = texts.get("request_model", "")
    return Reading(
        AGGREGATE if span_class == OTHER else span_class,
        _biller(attributes, provider),
        texts.get("response_model") or request_model,
        request_model,
        operation,
        _service_tier(attributes, texts),
        _response_id(attributes, layout, scope),
        "",
        usage,
        cost,
        reported_by,
        _different(marks),
    )


def _different(marks: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(marks))


_CLASSES: tuple[tuple[str, dict[str, str]], ...] = (
    (names.AI_OPERATION, {"ai.toolCall": TOOL}),
    (
        names.OPERATION,
        {
            **dict.fromkeys(names.MODEL_OPERATIONS, MODEL),
            **dict.fromkeys(names.TOOL_OPERATIONS, TOOL),
            **dict.fromkeys(names.AGGREGATE_OPERATIONS, AGGREGATE),
        },
    ),
    (
        names.OPENINFERENCE_KIND,
        {
            **dict.fromkeys(("LLM", "EMBEDDING", "RERANKER"), MODEL),
            "TOOL": TOOL,
            **dict.fromkeys(("AGENT", "CHAIN", "RETRIEVER", "GUARDRAIL", "EVALUATOR"), AGGREGATE),
        },
    ),
    (names.LLM_REQUEST_TYPE, dict.fromkeys(("chat", "completion", "embedding", "rerank"), MODEL)),
    (
        names.LANGFUSE_TYPE,
        {
            **dict.fromkeys(("generation", "embedding"), MODEL),
            "tool": TOOL,
            **dict.fromkeys(("agent", "chain", "span", "retriever", "evaluator", "guardrail"), AGGREGATE),
        },
    ),
    (
        names.LANGSMITH_KIND,
        {
            **dict.fromkeys(("llm", "embedding"), MODEL),
            "tool": TOOL,
            **dict.fromkeys(("chain", "retriever", "prompt", "parser"), AGGREGATE),
        },
    ),
    (names.TRACELOOP_KIND, {"tool": TOOL, **dict.fromkeys(("workflow", "task", "agent"), AGGREGATE)}),
)
_TEXT_NAMES: dict[str, tuple[str, ...]] = {
    "provider": names.PROVIDER,
    "response_model": names.RESPONSE_MODEL,
    "request_model": names.REQUEST_MODEL,
    "response_id": names.RESPONSE_ID,
    "service_tier": names.SERVICE_TIER,
    "tool_name": names.TOOL_NAME,
    "tool_call_id": names.TOOL_CALL_ID,
}
_COST_NAMES = frozenset(names.REPORTED_COST)
_WORDS = frozenset(
    {
        *(name for name, _ in _CLASSES),
        names.LOGFIRE_SPAN_TYPE,
        names.OPENAI_API_TYPE,
        names.SERVER_ADDRESS,
        names.SERVER_PORT,
        names.API_BASE,
        names.INFERENCE_GEO,
        *names.PROVIDER,
        *names.RESPONSE_MODEL,
        *names.REQUEST_MODEL,
        *names.SERVICE_TIER,
    }
)
"""Names whose values are few: together they tell kinds of calls apart."""
_READ_NAMES = names.MARKERS.union(
    {names.REFUSED, names.USAGE_SOURCE},
    _WORDS,
    documents.DETAILS,
    _COST_NAMES,
    *names.USAGE_NAMES.values(),
    *_TEXT_NAMES.values(),
)

_TOLD_OTHERWISE = frozenset({names.USAGE_RAW, names.USAGE_SOURCE})

CACHED_LAYOUTS = 1024
"""Sets of names kept: far more than the instrumentations of one service use, about a megabyte."""
CACHED_KINDS = 4096
"""Kinds of calls kept: far more than one service makes, about two megabytes."""

Places = tuple[tuple[str, tuple[str, ...]], ...]
"""What is known, and the names of the attributes that may say it, the most trusted first."""


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Where spans that carry the same set of names say what; an instrumentation repeats its sets.

    Attributes:
        is_marked: Some name says that the span may concern a model or a tool.
        is_plain: Amounts stand in attributes of their own, and no cost is reported.
        pick_words: Takes what tells kinds of calls apart out of attributes.
        pick_amounts: Takes the amounts out, in the order of `amount_names`, each from its most trusted name.
    """

    is_marked: bool
    is_plain: bool
    has_cost: bool
    has_details: bool
    amounts: Places
    texts: Places
    response_id: tuple[str, ...]
    amount_names: tuple[str, ...]
    pick_amounts: Picker
    pick_words: Picker


@lru_cache(maxsize=CACHED_LAYOUTS)
def _layout(present: frozenset[str]) -> Layout:
    amounts = _places(names.USAGE_NAMES, present)
    texts = _places(_TEXT_NAMES, present)
    has_cost = not _COST_NAMES.isdisjoint(present)
    has_details = not documents.DETAILS.isdisjoint(present)
    return Layout(
        is_marked=not names.MARKERS.isdisjoint(present),
        is_plain=not has_cost
        and not has_details
        and present.isdisjoint((names.USAGE_RAW, names.USAGE_SOURCE)),
        has_cost=has_cost,
        has_details=has_details,
        amounts=amounts,
        texts=texts,
        response_id=dict(texts).get("response_id", ()),
        amount_names=tuple(name for name, _ in amounts),
        pick_amounts=_picker([aliases[0] for _, aliases in amounts]),
        pick_words=_picker(sorted(_WORDS & present)),
    )


def _places(table: Mapping[str, tuple[str, ...]], present: frozenset[str]) -> Places:
    found = ((name, tuple(alias for alias in aliases if alias in present)) for name, aliases in table.items())
    return tuple((name, aliases) for name, aliases in found if aliases)


def _picker(wanted: Sequence[str]) -> Picker:
    if len(wanted) > 1:
        return itemgetter(*wanted)
    return lambda attributes: tuple(attributes[name] for name in wanted)


def _amounts(attributes: Mapping[str, Any], layout: Layout) -> documents.Reported:
    """Pick each reported amount from its most trusted name. An empty text is absent."""
    found: documents.Reported = {}
    for name, aliases in layout.amounts:
        for alias in aliases:
            value = attributes[alias]
            if value is not None and value != "":
                found[name] = value
                break
    return found


def _texts(attributes: Mapping[str, Any], layout: Layout) -> dict[str, str]:
    return {name: _first_text(attributes, aliases) for name, aliases in layout.texts}


def _biller(attributes: Mapping[str, Any], provider: str) -> str:
    return biller(provider, _address(attributes), str(attributes.get(names.SERVER_PORT) or ""))


def _address(attributes: Mapping[str, Any]) -> str:
    address = attributes.get(names.SERVER_ADDRESS) or attributes.get(names.API_BASE)
    return address if isinstance(address, str) else ""


def _first_text(attributes: Mapping[str, Any], aliases: Sequence[str]) -> str:
    """Pick a text from its most trusted name; empty where that holds none."""
    for alias in aliases:
        value = attributes[alias]
        if value is not None and value != "":
            return value[: names.MAX_TEXT] if isinstance(value, str) else ""
    return ""


def classify(attributes: Mapping[str, Any]) -> str:
    """Return what a span is: `model`, `tool`, `aggregate` or `other`.

    Logfire announces a span by a `pending_span` that repeats its attributes; that one is `other`, and so is
    a call that was refused before it was sent.
    """
    if attributes.get(names.LOGFIRE_SPAN_TYPE) == "pending_span" or attributes.get(names.REFUSED) is True:
        return OTHER
    for name, table in _CLASSES:
        if name in attributes and (found := table.get(str(attributes[name]))):
            return found
    operation = str(attributes.get(names.AI_OPERATION, ""))
    if operation:
        return MODEL if operation.endswith((".doGenerate", ".doStream", ".doEmbed")) else AGGREGATE
    return OTHER


def _usage(
    attributes: Mapping[str, Any],
    layout: Layout,
    found: documents.Reported,
    provider: str,
    scope: str,
    operation: str,
    marks: list[str],
) -> Usage | None:
    raw = documents.parse(attributes[names.USAGE_RAW]) if names.USAGE_RAW in attributes else {}
    reported = documents.provider_usage(raw) if raw else {}
    exclusive = documents.input_excludes_cache(raw)
    if not reported:
        reported = documents.details(attributes) | found if layout.has_details else found
        exclusive = _input_excludes_cache(attributes, provider.lower(), scope)
    counts = whole_counts(reported, marks)
    if _output_excludes_reasoning(attributes, scope):
        _add_reasoning(counts)
    return to_usage(counts, exclusive=exclusive, marks=marks, operation=operation) if counts else None


BEDROCK_SCOPES = frozenset(
    {
        "opentelemetry.instrumentation.bedrock",
        "opentelemetry.instrumentation.botocore",
        "opentelemetry.instrumentation.botocore.bedrock-runtime",
        "opentelemetry.instrumentation.genai.bedrock",
    }
)
"""Instrumentations that pass on what Amazon Bedrock says, whose input leaves cached tokens out
(https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html). Their own total, where they write
one, leaves them out too. Frameworks on Bedrock (LangChain, LiteLLM, pydantic-ai) add them up."""


def _input_excludes_cache(attributes: Mapping[str, Any], provider: str, scope: str) -> bool:
    """The emitter decides: the AI SDK 5 passed on what Anthropic and Bedrock say, the AI SDK 6 adds it up."""
    if scope in BEDROCK_SCOPES:
        return True
    return (
        "ai.usage.cachedInputTokens" in attributes
        and "ai.usage.inputTokenDetails.cacheReadTokens" not in attributes
        and ("anthropic" in provider or "bedrock" in provider)
    )


OPENAI_SCOPE = "opentelemetry.instrumentation.genai.openai"
"""Writes completion tokens as output, reasoning apart and no total, whoever answers the OpenAI client."""


def _output_excludes_reasoning(attributes: Mapping[str, Any], scope: str) -> bool:
    """Chat completions of xAI count reasoning beside completion tokens, Google's interactions beside output.

    https://docs.x.ai/docs/key-information/consumption-and-rate-limits, https://ai.google.dev/api/interactions-api
    """
    return attributes.get(names.OPERATION) == names.INTERACTION or (
        scope == OPENAI_SCOPE
        and str(attributes.get(names.SERVER_ADDRESS, "")).endswith("api.x.ai")
        and attributes.get(names.OPENAI_API_TYPE) != "responses"
    )


def _add_reasoning(counts: dict[str, int]) -> None:
    """Put reasoning into the output that leaves it out, where no total can tell."""
    if "output_tokens" in counts and "total_tokens" not in counts:
        counts["output_tokens"] += counts.get("reasoning_tokens", 0)


_INTEGERS = {int}


def whole_counts(reported: documents.Reported, marks: list[str]) -> dict[str, int]:
    """Return the amounts that are whole numbers, be they floats or texts, and mark that others are not."""
    if {*map(type, reported.values())} == _INTEGERS:
        whole = cast("dict[str, int]", reported)
        if min(whole.values()) >= 0 and max(whole.values()) <= MAX_COUNT:
            return dict(whole)  # as almost always
    counts: dict[str, int] = {}
    for name, value in reported.items():
        if type(value) is int and 0 <= value <= MAX_COUNT:
            counts[name] = value
        elif (count := _count(value)) is not None:
            counts[name] = count
        else:
            marks.append(MARK_IMPOSSIBLE_USAGE)
    return counts


def to_usage(
    counts: Mapping[str, int],
    *,
    exclusive: bool = False,
    marks: list[str] | None = None,
    operation: str = "",
) -> Usage | None:
    """Take the parts out of their totals.

    A part that is more than its total cannot be inside it, nor can one that the stated total adds: cached
    input, a prompt made of what tools gave, reasoning.

    Args:
        counts: Amounts under the names of `attributes.USAGE_NAMES` and of buckets; totals contain their
            parts.
        exclusive: Input leaves cached tokens out, as Anthropic and Bedrock count.
        marks: Collects what had to be corrected or is missing.

    Returns:
        Disjoint usage, or None when neither input nor output is known.
    """
    marks = [] if marks is None else marks
    total_input, total_output = counts.get("input_tokens"), counts.get("output_tokens")
    if total_input is None or total_output is None:
        whole = _complete_totals(counts, operation, marks)
        if whole is None:
            return None
        total_input, total_output = whole
    read_tokens = counts.get("cache_read_tokens", 0)
    write_1h = counts.get("cache_write_1h_tokens", 0)
    write = max(counts.get("cache_write_tokens", 0), write_1h + counts.get("cache_write_5m_tokens", 0))
    cached, reasoning = read_tokens + write, counts.get("reasoning_tokens", 0)
    tool = counts.get("tool_input_tokens", 0)
    unsaid = counts.get("total_tokens", -1) - total_input - total_output
    if tool and (tool > total_input or _adds(unsaid, tool, cached, reasoning)):
        total_input += tool
    if cached:
        if exclusive:
            total_input += cached
        elif cached > total_input or _adds(unsaid, cached, reasoning, tool):
            marks.append(MARK_INPUT_EXCLUDED_CACHE)
            total_input += cached
    if reasoning and (reasoning > total_output or _adds(unsaid, reasoning, cached, tool)):
        marks.append(MARK_OUTPUT_EXCLUDED_REASONING)
        total_output += reasoning
    if not _RARE_PARTS.isdisjoint(counts):
        return _disjoint(counts, total_input, total_output, read_tokens, write, write_1h, reasoning)
    inputs = (total_input - cached, read_tokens, write - write_1h, write_1h)
    outputs = (total_output - reasoning, reasoning)
    return _new(Usage, inputs + _NO_RARE_INPUT + outputs + _NOTHING_RARE)


def _complete_totals(counts: Mapping[str, int], operation: str, marks: list[str]) -> tuple[int, int] | None:
    """Return input and output where one of them is not stated; None when neither can be told."""
    found_input, found_output = counts.get("input_tokens"), counts.get("output_tokens")
    total = counts.get("total_tokens")
    is_embedding = operation in names.EMBEDDING_OPERATIONS
    if found_input is None and found_output is None:
        if total is None or not is_embedding:
            return None
        return total, 0
    if found_input is None:
        assert found_output is not None  # one of the two is known here
        if total is not None and total >= found_output:
            return total - found_output, found_output
        marks.append(MARK_INPUT_MISSING)
        return 0, found_output
    if total is not None and total >= found_input:
        return found_input, total - found_input
    if not is_embedding:
        marks.append(MARK_OUTPUT_MISSING)
    return found_input, 0


def _adds(unsaid: int, part: int, *others: int) -> bool:
    """Whether what the stated total has beyond input and output is a part, perhaps plus others too."""
    left = unsaid - part
    return left >= 0 and left in (0, *others, sum(others))


def _disjoint(
    counts: Mapping[str, int],
    total_input: int,
    total_output: int,
    read_tokens: int,
    write: int,
    write_1h: int,
    reasoning: int,
) -> Usage:
    room, out_room, read = total_input - read_tokens - write, total_output - reasoning, read_tokens
    audio_read, read = _part(counts.get("audio_cache_read_tokens", 0), read)
    image_read, read = _part(counts.get("image_cache_read_tokens", 0), read)
    video_read, read = _part(counts.get("video_cache_read_tokens", 0), read)
    audio, room = _part(counts.get("audio_input_tokens", 0) - audio_read, room)
    image, room = _part(counts.get("image_input_tokens", 0) - image_read, room)
    tool, room = _part(counts.get("tool_input_tokens", 0), room)
    video, room = _part(counts.get("video_input_tokens", 0) - video_read, room)
    audio_out, out_room = _part(counts.get("audio_output_tokens", 0), out_room)
    image_out, out_room = _part(counts.get("image_output_tokens", 0), out_room)
    citations, out_room = _part(counts.get("citation_tokens", 0), out_room)
    return Usage(
        input_tokens=room,
        cache_read_tokens=read,
        cache_write_tokens=write - write_1h,
        cache_write_1h_tokens=write_1h,
        tool_input_tokens=tool,
        audio_input_tokens=audio,
        audio_cache_read_tokens=audio_read,
        image_input_tokens=image,
        image_cache_read_tokens=image_read,
        video_input_tokens=video,
        video_cache_read_tokens=video_read,
        output_tokens=out_room,
        reasoning_tokens=reasoning,
        citation_tokens=citations,
        audio_output_tokens=audio_out,
        image_output_tokens=image_out,
        **{unit: counts[unit] for unit in UNITS if unit in counts},
    )


_RARE_PARTS = frozenset({*INPUT_BUCKETS[4:], *OUTPUT_BUCKETS[2:], *UNITS})


_NO_RARE_INPUT: tuple[int, ...] = (0,) * (len(INPUT_BUCKETS) - 4)
_NOTHING_RARE: tuple[int, ...] = (0,) * (len(BUCKETS) - len(INPUT_BUCKETS) - 2)


def _part(wanted: int, room: int) -> tuple[int, int]:
    """Take a part out of what is left of its total; a part cannot exceed it."""
    taken = max(0, min(wanted, room))
    return taken, room - taken


def _mark_quirks(
    attributes: Mapping[str, Any],
    quirks: Sequence[Quirk],
    found: Mapping[str, object],
    marks: list[str],
) -> None:
    for quirk in quirks:
        if quirk.streams_only and not _is_stream(attributes):
            continue
        if quirk.mark == "cache_not_reported" and (
            "cache_read_tokens" in found or "cache_write_tokens" in found
        ):
            continue
        marks.append(quirk.mark)


def _is_stream(attributes: Mapping[str, Any]) -> bool:
    for name in names.STREAMING:
        if str(attributes.get(name, "")).lower() == "true":
            return True
    return '"stream": true' in str(attributes.get(names.INVOCATION_PARAMETERS, ""))


def _reported_cost(attributes: Mapping[str, Any], scope: str, marks: list[str]) -> tuple[Decimal | None, str]:
    """A cost of zero is an emitter that did not know the price, unless the provider said it."""
    for name in names.REPORTED_COST:
        if (value := attributes.get(name)) is None:
            continue
        amount = read_amount(value)
        if amount is None:
            marks.append(MARK_IMPOSSIBLE_COST)
            continue
        if str(attributes.get(names.COST_CURRENCY) or "USD").upper() != "USD":
            marks.append(MARK_CURRENCY_NOT_USD)
            return None, ""
        by = _reported_by(attributes, name, scope, amount)
        if amount == 0 and by == EMITTER_SAID:
            continue
        return amount, by
    return None, ""


def _reported_by(attributes: Mapping[str, Any], name: str, scope: str, amount: Decimal) -> str:
    source = str(attributes.get(names.COST_SOURCE, ""))
    if source:
        return PROVIDER_SAID if source == "provider" else EMITTER_SAID
    if name in names.ESTIMATOR_COSTS or scope.startswith(names.ESTIMATOR_SCOPES):
        return EMITTER_SAID
    if amount == 0 and name not in names.PROVIDER_COSTS:
        return EMITTER_SAID
    return PROVIDER_SAID


def _operation(attributes: Mapping[str, Any]) -> str:
    for name in (names.OPERATION, names.OPENINFERENCE_KIND, names.LLM_REQUEST_TYPE, names.AI_OPERATION):
        if value := attributes.get(name):
            text = str(value)
            return "embeddings" if text.endswith((".doEmbed", "ai.embed", "ai.embedMany")) else text
    return ""


def _service_tier(attributes: Mapping[str, Any], texts: Mapping[str, str]) -> str:
    tier = texts.get("service_tier", "")
    if not tier and names.USAGE_RAW in attributes:
        tier = _text(documents.parse(attributes[names.USAGE_RAW]), "service_tier")
    if not tier and names.PROVIDER_METADATA in attributes:
        tier = documents.vercel_service_tier(attributes)
    return _placed(attributes, tier)


def _placed(attributes: Mapping[str, Any], tier: str) -> str:
    """Put before a service tier where inference was kept to, as the usage or the host tells."""
    geo = attributes.get(names.INFERENCE_GEO)
    if not geo and names.USAGE_RAW in attributes:
        geo = documents.parse(attributes[names.USAGE_RAW]).get("inference_geo")
    if isinstance(geo, str) and geo:
        return in_place(place_of(geo), tier)
    return in_place(REGIONAL if is_regional(_address(attributes)) else "", tier)


REGIONAL = "regional"
"""Stands before the service tier of a call whose inference was kept to a region, where some cost more."""
_ANYWHERE = frozenset(("", "global", "not_available"))


def place_of(inference_geo: str) -> str:
    """Return the word that stands before the service tier for where Anthropic ran the inference.

    Another place than those whose price is known is named as it is, so that the amount is an estimate.
    https://platform.claude.com/docs/en/manage-claude/data-residency (2026-11)
    """
    geo = inference_geo.lower()
    return "" if geo in _ANYWHERE else REGIONAL if geo == "us" else geo


def in_place(place: str, tier: str) -> str:
    """Return a service tier with the place before it, where there is one."""
    return f"{place} {tier}".strip()[: names.MAX_TEXT] if place else tier


_RESPONSE_ID_IN_BODY = re.compile(r'"id":\s*"((?:chatcmpl|resp|msg|gen|cmpl)[-_][\w.-]{1,120})"')


def _response_id(attributes: Mapping[str, Any], layout: Layout, scope: str) -> str:
    """LiteLLM makes up ids for providers other than OpenAI; OpenInference has none but keeps the body."""
    response_id = _first_text(attributes, layout.response_id)
    if response_id and not scope.startswith("litellm"):
        return response_id
    body = attributes.get(names.OUTPUT_VALUE)
    if isinstance(body, str) and scope.startswith("openinference."):
        match = _RESPONSE_ID_IN_BODY.search(body[:400])
        return match.group(1) if match else ""
    return ""


def _text(found: Mapping[str, object], name: str) -> str:
    value = found.get(name)
    return value[: names.MAX_TEXT] if isinstance(value, str) else ""


def _count(value: object) -> int | None:
    """Return a whole number of 0 or more, from a float or a text; None when it is not one."""
    if isinstance(value, float):
        return int(value) if 0 <= value <= MAX_COUNT and value.is_integer() else None
    if isinstance(value, str) and len(value) <= 20:
        text = value.removesuffix(".0")
        return int(text) if text.isascii() and text.isdigit() and int(text) <= MAX_COUNT else None
    return None


def read_amount(value: object) -> Decimal | None:
    """Return a finite amount of 0 or more; None when it is not one."""
    text = str(value)
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal) or "_" in text:
        return None
    try:
        amount = Decimal(text)
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and 0 <= amount <= MAX_COUNT else None

"""The usage reader: one convention at a time, then what emitters get wrong."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_cost import usage as reader
from otel_cost.errors import UsageError
from otel_cost.usage import (
    BEDROCK_SCOPES,
    MARK_IMPOSSIBLE_COST,
    MARK_IMPOSSIBLE_USAGE,
    MARK_INPUT_EXCLUDED_CACHE,
    MARK_OUTPUT_EXCLUDED_REASONING,
    MARK_OUTPUT_MISSING,
    MAX_COUNT,
    OPENAI_SCOPE,
    Reading,
    Usage,
    read,
    to_usage,
)

CHAT = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}


def reading_of(attributes: dict[str, Any], *, scope: str = "", version: str = "") -> Reading:
    """Read attributes that are known to be a call's."""
    found = read(attributes, scope=scope, scope_version=version)
    assert found is not None
    return found


# Each emitter's way of saying: 1,000 input of which 600 cached, 200 output of which 150 reasoning.
SAME_CALL = {
    "gen_ai": CHAT
    | {
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.cache_read.input_tokens": 600,
        "gen_ai.usage.output_tokens": 200,
        "gen_ai.usage.reasoning.output_tokens": 150,
    },
    "openllmetry": CHAT
    | {
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.cache_read.input_tokens": 600,
        "gen_ai.usage.output_tokens": 200,
        "gen_ai.usage.reasoning_tokens": 150,
    },
    "openllmetry_old": {
        "llm.request.type": "chat",
        "gen_ai.usage.prompt_tokens": 1000,
        "gen_ai.usage.cache_read_input_tokens": 600,
        "gen_ai.usage.completion_tokens": 200,
        "llm.usage.reasoning_tokens": 150,
    },
    "openinference": {
        "openinference.span.kind": "LLM",
        "llm.token_count.prompt": 1000,
        "llm.token_count.prompt_details.cache_read": 600,
        "llm.token_count.completion": 200,
        "llm.token_count.completion_details.reasoning": 150,
    },
    "openinference_as_text": {
        "openinference.span.kind": "LLM",
        "llm.token_count.prompt": "1000",
        "llm.token_count.prompt_details.cache_read": "600",
        "llm.token_count.completion": "200",
        "llm.token_count.completion_details.reasoning": "150",
    },
    "pydantic_ai": CHAT
    | {
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.details.cache_read_tokens": 600,
        "gen_ai.usage.output_tokens": 200,
        "gen_ai.usage.details.reasoning_tokens": 150,
    },
    "ai_sdk": {
        "ai.operationId": "ai.streamText.doStream",
        "ai.usage.inputTokens": 1000,
        "ai.usage.cachedInputTokens": 600,
        "ai.usage.outputTokens": 200,
        "ai.usage.reasoningTokens": 150,
    },
    "logfire_raw": CHAT
    | {
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.output_tokens": 200,
        "gen_ai.usage.raw": '{"prompt_tokens": 1000, "completion_tokens": 200, "prompt_tokens_details":'
        ' {"cached_tokens": 600}, "completion_tokens_details": {"reasoning_tokens": 150}}',
    },
    "langsmith": {
        "langsmith.span.kind": "llm",
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.input_token_details": '{"cache_read": 600}',
        "gen_ai.usage.output_tokens": 200,
        "gen_ai.usage.output_token_details": '{"reasoning": 150}',
    },
    "langfuse_disjoint": {
        "langfuse.observation.type": "generation",
        "langfuse.observation.usage_details": '{"input": 400, "input_cache_read": 600, "output": 50,'
        ' "output_reasoning": 150, "total": 1200}',
    },
    "gen_ai_with_total": CHAT
    | {
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.cache_read.input_tokens": 600,
        "gen_ai.usage.output_tokens": 200,
        "gen_ai.usage.reasoning.output_tokens": 150,
        "gen_ai.usage.total_tokens": 1200,
    },
    "google_adk": {
        "gen_ai.operation.name": "call_llm",
        "openinference.span.kind": "LLM",
        "gen_ai.usage.input_tokens": 1000,
        "llm.token_count.prompt": 1000,
        "gen_ai.usage.cache_read.input_tokens": 600,
        "gen_ai.usage.output_tokens": 200,
        "gen_ai.usage.reasoning.output_tokens": 150,
    },
}


@pytest.mark.parametrize("emitter", sorted(SAME_CALL))
def test_every_convention_gives_the_same_buckets(emitter: str) -> None:
    """However a call is reported, each token is in one bucket."""
    assert reading_of(SAME_CALL[emitter]).usage == Usage(
        input_tokens=400, cache_read_tokens=600, output_tokens=50, reasoning_tokens=150
    )


@pytest.mark.parametrize("scope", sorted(BEDROCK_SCOPES))
@pytest.mark.parametrize("provider", ["aws.bedrock", "AWS"])
def test_bedrock_leaves_cached_tokens_out_of_input(scope: str, provider: str) -> None:
    """Bedrock's input is what was neither read from nor written to the cache; so is the total beside it."""
    usage = reading_of(
        CHAT
        | {
            "gen_ai.system": provider,
            "gen_ai.usage.input_tokens": 1000,
            "gen_ai.usage.cache_read.input_tokens": 600,
            "gen_ai.usage.cache_write.input_tokens": 100,
            "gen_ai.usage.output_tokens": 200,
            "gen_ai.usage.total_tokens": 1200,
        },
        scope=scope,
    ).usage
    assert usage == Usage(input_tokens=1000, cache_read_tokens=600, cache_write_tokens=100, output_tokens=200)


@pytest.mark.parametrize(
    ("scope", "provider"),
    [
        ("opentelemetry.instrumentation.genai.langchain", "aws.bedrock"),
        ("opentelemetry.instrumentation.langchain", "aws.bedrock"),
        ("openinference.instrumentation.bedrock", "aws.bedrock"),
        ("pydantic-ai", "bedrock"),
        ("litellm", "bedrock"),
        ("my.own.scope", "aws.bedrock"),
    ],
)
def test_frameworks_on_bedrock_add_cached_tokens_to_input(scope: str, provider: str) -> None:
    """Input is 400 + 600 read + 100 written, as the conventions say, for every other emitter."""
    reading = reading_of(
        CHAT
        | {
            "gen_ai.provider.name": provider,
            "gen_ai.usage.input_tokens": 1100,
            "gen_ai.usage.cache_read.input_tokens": 600,
            "gen_ai.usage.cache_write.input_tokens": 100,
            "gen_ai.usage.output_tokens": 200,
        },
        scope=scope,
    )
    assert reading.usage == Usage(
        input_tokens=400, cache_read_tokens=600, cache_write_tokens=100, output_tokens=200
    )
    assert reading.marks == ()


AI_SDK_CALL = {
    "ai.operationId": "ai.generateText.doGenerate",
    "ai.usage.inputTokens": 1000,
    "ai.usage.cachedInputTokens": 600,
    "ai.usage.outputTokens": 200,
    "ai.usage.totalTokens": 1200,
}


@pytest.mark.parametrize(
    "provider",
    ["anthropic.messages", "amazon-bedrock", "bedrock.anthropic.messages", "vertex.anthropic.messages"],
)
def test_the_ai_sdk_adds_cached_tokens_to_input_from_version_6_on(provider: str) -> None:
    """Version 5 passes on what Anthropic and Bedrock say; 6 adds it up and tells the parts apart."""
    five = AI_SDK_CALL | {"ai.model.provider": provider}
    six = five | {"ai.usage.inputTokenDetails.cacheReadTokens": 600}
    outside, inside = reading_of(five, scope="ai").usage, reading_of(six, scope="ai").usage
    assert outside == Usage(input_tokens=1000, cache_read_tokens=600, output_tokens=200)
    assert inside == Usage(input_tokens=400, cache_read_tokens=600, output_tokens=200)


def test_cache_writes_are_split_by_lifetime() -> None:
    """The hour-long part of a cache write is its own bucket and is taken out of the total."""
    usage = reading_of(
        CHAT
        | {
            "gen_ai.usage.input_tokens": 1100,
            "gen_ai.usage.cache_write.input_tokens": 100,
            "anthropic.usage.cache_creation.ephemeral_1h_input_tokens": 40,
            "anthropic.usage.cache_creation.ephemeral_5m_input_tokens": 60,
            "gen_ai.usage.output_tokens": 0,
        }
    ).usage
    assert usage == Usage(input_tokens=1000, cache_write_tokens=60, cache_write_1h_tokens=40)


def test_more_cached_than_input_means_input_leaves_it_out() -> None:
    """600 cached tokens cannot be inside 400: the input is corrected and the correction is marked."""
    reading = reading_of(
        CHAT
        | {
            "gen_ai.usage.input_tokens": 400,
            "gen_ai.usage.cache_read.input_tokens": 600,
            "gen_ai.usage.output_tokens": 200,
        }
    )
    assert reading.usage is not None
    assert reading.usage.total_input_tokens == 1000
    assert reading.marks == (MARK_INPUT_EXCLUDED_CACHE,)
    assert not reading.is_estimate


def test_a_stated_total_tells_that_reasoning_is_outside_output() -> None:
    """Where the total is input plus output plus reasoning, reasoning was not in output."""
    reading = reading_of(
        CHAT
        | {
            "gen_ai.usage.input_tokens": 100,
            "gen_ai.usage.output_tokens": 200,
            "gen_ai.usage.reasoning_tokens": 150,
            "gen_ai.usage.total_tokens": 450,
        }
    )
    assert reading.usage == Usage(input_tokens=100, output_tokens=200, reasoning_tokens=150)
    assert reading.marks == (MARK_OUTPUT_EXCLUDED_REASONING,)


XAI_CALL = CHAT | {
    "server.address": "api.x.ai",
    "gen_ai.usage.input_tokens": 32,
    "gen_ai.usage.output_tokens": 500,
    "gen_ai.usage.reasoning.output_tokens": 300,
}


@pytest.mark.parametrize(
    ("more", "scope", "output_tokens"),
    [
        ({}, OPENAI_SCOPE, 500),
        ({"server.address": "us-east-1.api.x.ai"}, OPENAI_SCOPE, 500),
        ({"gen_ai.usage.total_tokens": 532}, OPENAI_SCOPE, 200),
        ({"openai.api.type": "responses"}, OPENAI_SCOPE, 200),
        ({"server.address": "api.openai.com"}, OPENAI_SCOPE, 200),
        ({}, "pydantic-ai", 200),
    ],
)
@pytest.mark.parametrize("cost", [{}, {"gen_ai.usage.cost": 0}], ids=["short_way", "long_way"])
def test_xai_counts_reasoning_beside_completion_tokens(
    more: dict[str, Any], scope: str, output_tokens: int, cost: dict[str, Any]
) -> None:
    """The official OpenAI instrumentation passes that on without a total; everybody else adds it up."""
    usage = reading_of(XAI_CALL | more | cost, scope=scope).usage
    assert usage == Usage(input_tokens=32, output_tokens=output_tokens, reasoning_tokens=300)


def test_a_stated_total_tells_that_every_part_is_outside() -> None:
    """Where the total adds all four amounts, neither cached input nor reasoning was inside another."""
    reading = reading_of(
        {
            "langfuse.observation.type": "generation",
            "langfuse.observation.usage_details": '{"input": 1000, "input_cache_read": 600, "output": 200,'
            ' "output_reasoning": 150, "total": 1950}',
        }
    )
    assert reading.usage == Usage(
        input_tokens=1000, cache_read_tokens=600, output_tokens=200, reasoning_tokens=150
    )


@pytest.mark.parametrize(
    ("said", "usage"),
    [
        (
            {"input_tokens": 17, "output_tokens": 201, "reasoning_tokens": 213, "total_tokens": 550},
            Usage(input_tokens=17, tool_input_tokens=119, output_tokens=201, reasoning_tokens=213),
        ),
        (
            {"input_tokens": 17, "output_tokens": 414, "reasoning_tokens": 213, "total_tokens": 550},
            Usage(input_tokens=17, tool_input_tokens=119, output_tokens=201, reasoning_tokens=213),
        ),
        (
            {"input_tokens": 136, "output_tokens": 414, "reasoning_tokens": 213, "total_tokens": 550},
            Usage(input_tokens=17, tool_input_tokens=119, output_tokens=201, reasoning_tokens=213),
        ),
        (
            {"input_tokens": 17, "output_tokens": 5},
            Usage(input_tokens=17, tool_input_tokens=119, output_tokens=5),
        ),
        (
            {"input_tokens": 136, "output_tokens": 5},
            Usage(input_tokens=17, tool_input_tokens=119, output_tokens=5),
        ),
        (
            {"input_tokens": 200, "output_tokens": 5, "cache_read_tokens": 90, "total_tokens": 324},
            Usage(input_tokens=110, cache_read_tokens=90, tool_input_tokens=119, output_tokens=5),
        ),
    ],
)
def test_a_prompt_that_tools_made_counts_once(said: dict[str, int], usage: Usage) -> None:
    """Gemini counts what its own tools gave beside the prompt, emitters inside it: the stated total tells.

    https://ai.google.dev/api/generate-content#UsageMetadata
    """
    assert to_usage({**said, "tool_input_tokens": 119}) == usage


def test_thoughts_without_an_answer_count_once() -> None:
    """Where only the total tells the output, it has them: 15 of input, and 2 thought before it was cut."""
    usage = to_usage({"input_tokens": 15, "reasoning_tokens": 2, "total_tokens": 17})
    assert usage == Usage(input_tokens=15, reasoning_tokens=2)


def test_missing_usage_is_missing() -> None:
    """A call without usage has none, which is not zero."""
    assert reading_of(CHAT).usage is None


def test_half_missing_usage_is_an_estimate() -> None:
    """Output that is not reported makes the call an estimate, not a cheap call."""
    reading = reading_of(CHAT | {"gen_ai.usage.input_tokens": 1000})
    assert reading.marks == (MARK_OUTPUT_MISSING,)
    assert reading.is_estimate


def test_an_embedding_has_no_output() -> None:
    """Embeddings report input, or a total, and nothing is missing."""
    reading = reading_of({"ai.operationId": "ai.embed.doEmbed", "ai.usage.tokens": 10})
    assert (reading.usage, reading.marks) == (Usage(input_tokens=10), ())


@pytest.mark.parametrize(
    "value", [-1, float("nan"), float("inf"), 1.5, "many", True, MAX_COUNT + 1, "9" * 30, [1], b"1"]
)
def test_impossible_amounts_are_contained(value: object) -> None:
    """An amount that cannot be is left out and marked; the rest is kept."""
    reading = reading_of(CHAT | {"gen_ai.usage.input_tokens": value, "gen_ai.usage.output_tokens": 200})
    assert reading.usage == Usage(output_tokens=200)
    assert MARK_IMPOSSIBLE_USAGE in reading.marks
    assert reading.is_estimate


@pytest.mark.parametrize(
    ("attributes", "span_class"),
    [
        ({"gen_ai.operation.name": "execute_tool"}, "tool"),
        ({"openinference.span.kind": "TOOL"}, "tool"),
        ({"ai.operationId": "ai.toolCall"}, "tool"),
        ({"gen_ai.operation.name": "invoke_agent"}, "aggregate"),
        ({"openinference.span.kind": "CHAIN"}, "aggregate"),
        ({"ai.operationId": "ai.generateText"}, "aggregate"),
        ({"traceloop.span.kind": "workflow"}, "aggregate"),
        ({"ai.operationId": "ai.generateText.doGenerate"}, "model"),
        ({"llm.request.type": "completion"}, "model"),
        ({"gen_ai.operation.name": "embeddings"}, "model"),
    ],
)
def test_spans_are_classified(attributes: dict[str, Any], span_class: str) -> None:
    """What a span is decides whether it may repeat what is below it."""
    assert reading_of(attributes).span_class == span_class


@pytest.mark.parametrize(
    "attributes", [{}, {"http.request.method": "POST"}, {"logfire.span_type": "pending_span"} | CHAT]
)
def test_other_spans_are_not_read(attributes: dict[str, Any]) -> None:
    """A span that concerns no model, or announces one that will, says nothing."""
    assert read(attributes) is None


@pytest.mark.parametrize(
    ("attributes", "scope", "expected"),
    [
        ({"gen_ai.usage.cost.amount": 0.25, "gen_ai.usage.cost.source": "provider"}, "", "provider"),
        ({"gen_ai.usage.cost.amount": 0.25, "gen_ai.usage.cost.source": "local"}, "", "emitter"),
        ({"gen_ai.usage.cost": "0.25"}, "my.client", "provider"),
        ({"gen_ai.usage.cost": 0.25}, "litellm", "emitter"),
        ({"llm.cost.total": 0.25}, "openinference.instrumentation.litellm", "emitter"),
        ({"operation.cost": 0.25}, "pydantic-ai", "emitter"),
    ],
)
def test_a_cost_is_worth_what_its_author_is(attributes: dict[str, Any], scope: str, expected: str) -> None:
    """What a provider billed is told from what an instrumentation computed."""
    reading = reading_of(CHAT | attributes, scope=scope)
    assert (reading.reported_cost_usd, reading.reported_by) == (Decimal("0.25"), expected)


@pytest.mark.parametrize("scope", ["", "my-app", "lmnr", "mlflow", "litellm"])
@pytest.mark.parametrize("zero", [0, 0.0, "0", "0.00", "0e5"])
def test_a_cost_of_zero_is_an_emitter_that_did_not_know(zero: object, scope: str) -> None:
    """Nobody but the provider can say that a call is free: unknown is never zero."""
    reading = reading_of(CHAT | {"gen_ai.usage.cost": zero}, scope=scope)
    assert (reading.reported_cost_usd, reading.reported_by, reading.marks) == (None, "", ())


@pytest.mark.parametrize(
    "attributes",
    [
        {"gen_ai.usage.cost": 0, "gen_ai.usage.cost.source": "provider"},
        {"openrouter.usage.cost": 0},
        {"gen_ai.usage.cost": 0, "openrouter.cost": "0.0"},
    ],
)
def test_a_provider_may_say_that_a_call_was_free(attributes: dict[str, Any]) -> None:
    """Zero is believed where the span says that the provider billed it, or only its answer has the name."""
    reading = reading_of(CHAT | attributes, scope="my-app")
    assert (reading.reported_cost_usd, reading.reported_by) == (Decimal(0), "provider")


@pytest.mark.parametrize("value", [-0.1, float("nan"), "free", "1_000", True])
def test_an_impossible_cost_is_no_cost(value: object) -> None:
    """A cost below zero or not a number is ignored and marked."""
    reading = reading_of(CHAT | {"gen_ai.usage.cost": value})
    assert (reading.reported_cost_usd, reading.marks) == (None, (MARK_IMPOSSIBLE_COST,))


def test_check_names_the_bucket() -> None:
    """Usage given by hand is refused with the bucket that is wrong."""
    with pytest.raises(UsageError, match="output_tokens=-1 is not a whole number"):
        Usage(output_tokens=-1).check()


counts = st.integers(min_value=0, max_value=10**7)


@given(
    st.fixed_dictionaries(
        {"input_tokens": counts, "output_tokens": counts},
        optional={
            "cache_read_tokens": counts,
            "cache_write_tokens": counts,
            "cache_write_1h_tokens": counts,
            "reasoning_tokens": counts,
            "audio_input_tokens": counts,
            "audio_output_tokens": counts,
            "audio_cache_read_tokens": counts,
            "image_input_tokens": counts,
            "tool_input_tokens": counts,
            "total_tokens": counts,
        },
    ),
    st.booleans(),
)
def test_buckets_never_overlap_and_never_vanish(reported: dict[str, int], exclusive: bool) -> None:
    """Whatever is reported, buckets are whole and sum to the totals, or to them plus what was outside."""
    usage = to_usage(reported, exclusive=exclusive)
    assert usage is not None
    usage.check()
    written = max(reported.get("cache_write_tokens", 0), reported.get("cache_write_1h_tokens", 0))
    cached = reported.get("cache_read_tokens", 0) + written
    reasoning, tool = reported.get("reasoning_tokens", 0), reported.get("tool_input_tokens", 0)
    outside = {0, cached, tool, cached + tool}
    assert usage.total_input_tokens - reported["input_tokens"] in outside
    assert usage.total_output_tokens in (reported["output_tokens"], reported["output_tokens"] + reasoning)
    assert usage.cache_write_tokens + usage.cache_write_1h_tokens == written


@given(
    st.dictionaries(
        st.sampled_from(sorted({k for c in SAME_CALL.values() for k in c})),
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(),
            st.floats(),
            st.text(max_size=30),
            st.lists(st.integers(), max_size=3),
        ),
    )
)
def test_no_attribute_value_breaks_the_reader(attributes: dict[str, Any]) -> None:
    """Any value under any name is contained."""
    reading = read(attributes)
    if reading is not None and reading.usage is not None:
        reading.usage.check()


NAMES = st.sampled_from(
    [
        "gen_ai.provider.name",
        "gen_ai.system",
        "gen_ai.request.model",
        "gen_ai.response.model",
        "gen_ai.response.service_tier",
        "gen_ai.response.id",
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.prompt_tokens",
        "gen_ai.usage.output_tokens",
        "gen_ai.usage.total_tokens",
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cache_write.input_tokens",
        "gen_ai.usage.reasoning.output_tokens",
        "ai.usage.cachedInputTokens",
        "openinference.span.kind",
        "langfuse.observation.type",
        "server.address",
    ]
)
VALUES = st.one_of(
    st.sampled_from(["openai", "aws.bedrock", "anthropic", "m", "", "7", "LLM", "AGENT", "TOOL", "x" * 300]),
    st.integers(-1, MAX_COUNT + 1),
    st.sampled_from([True, 1.0, 2.5, ("a",)]),
)
SCOPES = st.sampled_from(
    ["", "litellm", "openinference.instrumentation.smolagents", "opentelemetry.instrumentation.openai_v2"]
)


@given(
    st.dictionaries(NAMES, VALUES),
    st.sampled_from(["chat", "embeddings", "invoke_agent", "execute_tool", "other"]),
    SCOPES,
)
def test_the_short_way_of_reading_says_what_the_long_way_says(
    attributes: dict[str, Any], operation: str, scope: str
) -> None:
    """A call that is read by what its kind is known to be is read as if it were the first of its kind."""
    attributes = {"gen_ai.operation.name": operation, **attributes}
    layout = reader._layout(reader._READ_NAMES.intersection(attributes))
    long_way = reader._read_any(attributes, layout, scope, "1.0")
    first = read(attributes, scope=scope, scope_version="1.0")
    assert repr(first) == repr(long_way)
    assert repr(read(attributes, scope=scope, scope_version="1.0")) == repr(long_way)


def test_calls_are_read_the_short_way() -> None:
    """Calls of every convention without documents inside take the short way."""
    for convention in ("gen_ai", "openllmetry_old", "openinference"):
        attributes = SAME_CALL[convention]
        layout = reader._layout(reader._READ_NAMES.intersection(attributes))
        assert reader._read_plain(attributes, layout, "a", "1") is not None


def test_what_is_kept_of_kinds_of_calls_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """An emitter that never repeats a model cannot fill the memory."""
    monkeypatch.setattr(reader, "CACHED_KINDS", 10)
    monkeypatch.setattr(reader, "_kinds", {})
    for number in range(100):
        reading_of({**SAME_CALL["gen_ai"], "gen_ai.request.model": f"m{number}"})
        assert 0 < len(reader._kinds) <= 10

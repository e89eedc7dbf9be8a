"""Every attribute name that is read or written, by what it means.

Readers take the first name present, so the order of a tuple is the order of trust: current names of the
GenAI semantic conventions, then the conventions of other projects, then retired names.

Sources:
    https://github.com/open-telemetry/semantic-conventions-genai (gen_ai.*)
    https://github.com/Arize-ai/openinference/blob/main/spec/semantic_conventions.md (llm.*, openinference.*)
    https://github.com/traceloop/openllmetry (llm.usage.*, traceloop.*)
    https://ai-sdk.dev/docs/ai-sdk-core/telemetry (ai.*)
    https://langfuse.com/integrations/native/opentelemetry (langfuse.*)
    https://docs.langchain.com/langsmith/trace-with-opentelemetry (langsmith.*)
"""

from __future__ import annotations

# --- usage read ---

INPUT_TOKENS = (
    "gen_ai.usage.input_tokens",
    "llm.token_count.prompt",
    "ai.usage.inputTokens",
    "ai.usage.promptTokens",
    "gen_ai.usage.prompt_tokens",
    "llm.usage.prompt_tokens",
)
OUTPUT_TOKENS = (
    "gen_ai.usage.output_tokens",
    "llm.token_count.completion",
    "ai.usage.outputTokens",
    "ai.usage.completionTokens",
    "gen_ai.usage.completion_tokens",
    "llm.usage.completion_tokens",
)
TOTAL_TOKENS = (
    "gen_ai.usage.total_tokens",
    "llm.token_count.total",
    "ai.usage.totalTokens",
    "ai.usage.tokens",
    "llm.usage.total_tokens",
)
CACHE_READ_TOKENS = (
    "gen_ai.usage.cache_read.input_tokens",
    "llm.token_count.prompt_details.cache_read",
    "ai.usage.inputTokenDetails.cacheReadTokens",
    "ai.usage.cachedInputTokens",
    "gen_ai.usage.cache_read_input_tokens",
    "gen_ai.usage.cache_read_tokens",
    "gen_ai.usage.details.cache_read_tokens",
    "gen_ai.usage.details.cache_read_input_tokens",
    "gen_ai.usage.details.cached_tokens",
    "gen_ai.usage.input_tokens.cached",
    "gen_ai.usage.prompt_tokens_details.cached_tokens",
    "llm.usage.cache_read_input_tokens",
)
CACHE_WRITE_TOKENS = (
    "gen_ai.usage.cache_write.input_tokens",
    "gen_ai.usage.cache_creation.input_tokens",
    "llm.token_count.prompt_details.cache_write",
    "ai.usage.inputTokenDetails.cacheWriteTokens",
    "gen_ai.usage.cache_write_input_tokens",
    "gen_ai.usage.cache_creation_input_tokens",
    "gen_ai.usage.cache_write_tokens",
    "gen_ai.usage.details.cache_write_tokens",
    "gen_ai.usage.details.cache_creation_input_tokens",
    "llm.usage.cache_creation_input_tokens",
)
CACHE_WRITE_1H_TOKENS = (
    "anthropic.usage.cache_creation.ephemeral_1h_input_tokens",
    "gen_ai.usage.cache_creation.ephemeral_1h_input_tokens",
    "gen_ai.usage.details.ephemeral_1h_input_tokens",
)
CACHE_WRITE_5M_TOKENS = (
    "anthropic.usage.cache_creation.ephemeral_5m_input_tokens",
    "gen_ai.usage.cache_creation.ephemeral_5m_input_tokens",
    "gen_ai.usage.details.ephemeral_5m_input_tokens",
)
REASONING_TOKENS = (
    "gen_ai.usage.reasoning.output_tokens",
    "llm.token_count.completion_details.reasoning",
    "ai.usage.outputTokenDetails.reasoningTokens",
    "ai.usage.reasoningTokens",
    "gen_ai.usage.reasoning_tokens",
    "gen_ai.usage.details.reasoning_tokens",
    "gen_ai.usage.details.thoughts_tokens",
    "gen_ai.usage.output_tokens.reasoning",
    "gen_ai.usage.completion_tokens_details.reasoning_tokens",
    "llm.usage.reasoning_tokens",
)
AUDIO_INPUT_TOKENS = (
    "gen_ai.usage.audio.input_tokens",
    "gen_ai.usage.input_audio_tokens",
    "llm.token_count.prompt_details.audio",
    "gen_ai.usage.details.input_audio_tokens",
)
AUDIO_OUTPUT_TOKENS = (
    "gen_ai.usage.audio.output_tokens",
    "gen_ai.usage.output_audio_tokens",
    "llm.token_count.completion_details.audio",
    "gen_ai.usage.details.output_audio_tokens",
)
AUDIO_CACHE_READ_TOKENS = (
    "gen_ai.usage.audio.cache_read.input_tokens",
    "gen_ai.usage.cache_audio_read_tokens",
    "gen_ai.usage.details.cache_audio_read_tokens",
)
IMAGE_INPUT_TOKENS = ("gen_ai.usage.image.input_tokens", "gen_ai.usage.details.input_image_tokens")
IMAGE_OUTPUT_TOKENS = ("gen_ai.usage.image.output_tokens", "gen_ai.usage.details.output_image_tokens")
TOOL_INPUT_TOKENS = ("gen_ai.usage.details.tool_use_prompt_tokens",)
WEB_SEARCHES = (
    "gen_ai.usage.web_search_requests",
    "anthropic.usage.server_tool_use.web_search_requests",
    "gen_ai.usage.server_tool_use.web_search_requests",
    "gen_ai.usage.details.web_search_requests",
    "gen_ai.usage.details.web_searches",
)

USAGE_NAMES: dict[str, tuple[str, ...]] = {
    "input_tokens": INPUT_TOKENS,
    "output_tokens": OUTPUT_TOKENS,
    "total_tokens": TOTAL_TOKENS,
    "cache_read_tokens": CACHE_READ_TOKENS,
    "cache_write_tokens": CACHE_WRITE_TOKENS,
    "cache_write_1h_tokens": CACHE_WRITE_1H_TOKENS,
    "cache_write_5m_tokens": CACHE_WRITE_5M_TOKENS,
    "reasoning_tokens": REASONING_TOKENS,
    "audio_input_tokens": AUDIO_INPUT_TOKENS,
    "audio_output_tokens": AUDIO_OUTPUT_TOKENS,
    "audio_cache_read_tokens": AUDIO_CACHE_READ_TOKENS,
    "image_input_tokens": IMAGE_INPUT_TOKENS,
    "image_output_tokens": IMAGE_OUTPUT_TOKENS,
    "tool_input_tokens": TOOL_INPUT_TOKENS,
    "web_searches": WEB_SEARCHES,
}
"""Reported amounts, as the emitters count them (totals contain their parts), and where each is found."""

# JSON documents that carry usage where the plain names above do not.
USAGE_RAW = "gen_ai.usage.raw"  # Logfire: the provider's own usage object
INPUT_TOKEN_DETAILS = "gen_ai.usage.input_token_details"  # noqa: S105 (LangSmith; tokens of text)
OUTPUT_TOKEN_DETAILS = "gen_ai.usage.output_token_details"  # noqa: S105 (as above)
LANGFUSE_USAGE_DETAILS = "langfuse.observation.usage_details"
PROVIDER_METADATA = "ai.response.providerMetadata"  # Vercel AI SDK
OUTPUT_VALUE = "output.value"  # OpenInference: the response body, when content capture is on

# --- cost read ---

COST_AMOUNT = "gen_ai.usage.cost.amount"
COST_CURRENCY = "gen_ai.usage.cost.currency"
COST_SOURCE = "gen_ai.usage.cost.source"
REPORTED_COST = (
    COST_AMOUNT,
    "gen_ai.usage.cost",
    "openrouter.usage.cost",
    "openrouter.cost",
    "llm.cost.total",
    "gen_ai.usage.total_cost",
    "gen_ai.cost.total_cost",
    "claude_code.cost_usd",
    "operation.cost",
)

ESTIMATOR_COSTS = frozenset(
    {"operation.cost", "gen_ai.cost.total_cost", "gen_ai.usage.total_cost", "claude_code.cost_usd"}
)
"""Costs that the emitter computed from a price list of its own; a provider never sends these."""
PROVIDER_COSTS = frozenset({"openrouter.usage.cost", "openrouter.cost"})
"""Costs that only a provider's own answer fills (https://openrouter.ai/docs/use-cases/usage-accounting)."""
ESTIMATOR_SCOPES = ("litellm", "openlit", "langfuse", "openinference.", "pydantic-ai", "traceloop", "logfire")
"""Scopes (prefixes) that compute costs themselves, so what they report is an estimate."""

# --- what a span is ---

OPERATION = "gen_ai.operation.name"
OPENINFERENCE_KIND = "openinference.span.kind"
LLM_REQUEST_TYPE = "llm.request.type"
AI_OPERATION = "ai.operationId"
TRACELOOP_KIND = "traceloop.span.kind"
LANGFUSE_TYPE = "langfuse.observation.type"
LANGSMITH_KIND = "langsmith.span.kind"
LOGFIRE_SPAN_TYPE = "logfire.span_type"

INTERACTION = "interactions.create"
"""The operation of OpenTelemetry's instrumentation of Google's interactions, whose thoughts are
beside the output (opentelemetry-instrumentation-google-genai 1.3b0)."""
MODEL_OPERATIONS = frozenset(
    {
        INTERACTION,
        "chat",
        "text_completion",
        "completion",
        "completions",
        "generate_content",
        "generateContent",
        "responses",
        "response",
        "message",
        "messages",
        "embeddings",
        "embedding",
        "rerank",
        "image_generation",
        "speech",
        "transcription",
        "call_llm",
        "generation",
    }
)
TOOL_OPERATIONS = frozenset({"execute_tool"})
AGGREGATE_OPERATIONS = frozenset(
    {"invoke_agent", "create_agent", "invoke_workflow", "agent", "chain", "workflow", "plan", "handoff"}
)
EMBEDDING_OPERATIONS = frozenset({"embeddings", "embedding", "rerank", "EMBEDDING", "RERANKER"})

RESPONSE_MODEL = (
    "gen_ai.response.model",
    "ai.response.model",
    "llm.response.model",
)
REQUEST_MODEL = (
    "gen_ai.request.model",
    "llm.model_name",
    "embedding.model_name",
    "reranker.model_name",
    "ai.model.id",
    "llm.request.model",
    "langfuse.observation.model.name",
    "langsmith.metadata.ls_model_name",
    "model_name",
)
PROVIDER = (
    "gen_ai.provider.name",
    "gen_ai.system",
    "llm.provider",
    "ai.model.provider",
    "llm.system",
    "llm.vendor",
    "langsmith.metadata.ls_provider",
)
RESPONSE_ID = (
    "gen_ai.response.id",
    "ai.response.id",
    "llm.response.id",
    "gen_ai.openai.response.id",
)
SERVICE_TIER = (
    "gen_ai.response.service_tier",
    "openai.response.service_tier",
    "gen_ai.openai.response.service_tier",
    "anthropic.response.service_tier",
    "gen_ai.anthropic.response.service_tier",
)
INFERENCE_GEO = "anthropic.usage.inference_geo"
"""Where Anthropic ran the inference, as its usage says (so `gen_ai.usage.raw` too); the guard writes it."""
TOOL_CALL_ID = ("gen_ai.tool.call.id", "ai.toolCall.id", "tool_call.id", "tool.id")
OPENAI_API_TYPE = "openai.api.type"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
API_BASE = "gen_ai.openai.api_base"  # OpenLLMetry: the client's base URL
STREAMING = ("gen_ai.request.stream", "gen_ai.is_streaming", "llm.is_streaming")
INVOCATION_PARAMETERS = "llm.invocation_parameters"  # OpenInference: the request's parameters as JSON
MAX_TEXT = 256
"""Longer names of models, tools and people are cut: no real one is, and columns and memory stay bounded."""
TOOL_NAME = ("gen_ai.tool.name", "tool.name", "tool_name", "ai.toolCall.name", "traceloop.entity.name")

# Any of these says that a span may concern a model or a tool; one with none is not looked at again.
MARKERS = frozenset(
    {
        OPERATION,
        OPENINFERENCE_KIND,
        LLM_REQUEST_TYPE,
        AI_OPERATION,
        TRACELOOP_KIND,
        LANGFUSE_TYPE,
        LANGSMITH_KIND,
        LANGFUSE_USAGE_DETAILS,
        USAGE_RAW,
        *INPUT_TOKENS,
        *OUTPUT_TOKENS,
        *REPORTED_COST,
    }
)

ERROR_TYPE = "error.type"
"""How a call failed: a status or the name of an exception."""
EXCEPTION_TYPE = "exception.type"
"""The same on an event of a span that has no `error.type`."""

# --- who pays ---

EXECUTION_ID = ("otel_cost.execution.id",)
ORGANIZATION = (
    "otel_cost.organization",
    "organization.id",
    "org.id",
    "tenant.id",
    "langfuse.trace.metadata.organization",
    "traceloop.association.properties.organization",
    "langsmith.metadata.organization",
    "metadata.organization",
)
TEAM = (
    "otel_cost.team",
    "team.id",
    "team",
    "langfuse.trace.metadata.team",
    "traceloop.association.properties.team",
    "langsmith.metadata.team",
    "metadata.team",
)
USER = (
    "otel_cost.user",
    "user.id",
    "enduser.id",
    "langfuse.user.id",
    "traceloop.association.properties.user_id",
    "langsmith.metadata.user_id",
    "ai.telemetry.metadata.userId",
    "metadata.user_id",
)
FEATURE = (
    "otel_cost.feature",
    "feature",
    "langfuse.trace.metadata.feature",
    "traceloop.association.properties.feature",
    "langsmith.metadata.feature",
    "ai.telemetry.functionId",
    "metadata.feature",
)
AGENT = ("otel_cost.agent", "gen_ai.agent.name", "agent.name", "agent_name", "traceloop.workflow.name")
COMPONENT = ("otel_cost.component", "component", "graph.node.id", "langsmith.metadata.langgraph_node")
ENVIRONMENT = (
    "otel_cost.environment",
    "deployment.environment.name",
    "deployment.environment",
    "langfuse.environment",
)
SESSION = (
    "otel_cost.session",
    "session.id",
    "gen_ai.conversation.id",
    "langfuse.session.id",
    "traceloop.association.properties.session_id",
    "langsmith.trace.session_id",
)

PAYER_NAMES: dict[str, tuple[str, ...]] = {
    "organization": ORGANIZATION,
    "team": TEAM,
    "user": USER,
    "feature": FEATURE,
    "agent": AGENT,
    "component": COMPONENT,
    "environment": ENVIRONMENT,
    "session": SESSION,
}

# --- written ---

COST = "gen_ai.usage.cost"
"""What today's backends read (Langfuse, LiteLLM, OpenLIT). USD, double."""
COST_USD = "otel_cost.cost_usd"
"""Estimated or provided cost of this span in USD, an exact decimal string."""
LIST_COST_USD = "otel_cost.list_cost_usd"
PRICE_STATUS = "otel_cost.price.status"
PRICE_MODEL = "otel_cost.price.model"
PRICE_SOURCE = "otel_cost.price.source"
PRICE_VERSION = "otel_cost.price.version"
PRICE_REASON = "otel_cost.price.reason"
COUNTED = "otel_cost.counted"
NOT_COUNTED_REASON = "otel_cost.not_counted_reason"
USAGE_MARKS = "otel_cost.usage.marks"
USAGE_SOURCE = "otel_cost.usage.source"
PARTIAL = "partial"

REFUSED = "otel_cost.refused"
"""On the span of a model call that the guard refused: never sent, so it is no call and costs nothing.

The event that says why has this name too.
"""

WARNED = "otel_cost.warned"
REMINDED = "otel_cost.reminded"
DOWNGRADED = "otel_cost.downgraded"
CLAMPED = "otel_cost.clamped"
WRAP_UP = "otel_cost.wrap_up"
APPROVED = "otel_cost.approved"
DECISIONS = {
    REFUSED: "deny",
    WARNED: "warn",
    REMINDED: "remind",
    DOWNGRADED: "downgrade",
    CLAMPED: "clamp",
    WRAP_UP: "wrap_up",
    APPROVED: "approve",
}
"""Events of the guard, and what each is called in the warehouse."""
DECISION_SPAN = "otel_cost.decision"
"""Name of the span that carries such an event where no other can."""
DECISION_KIND = "otel_cost.kind"
DECISION_MODE = "otel_cost.mode"
DECISION_SCOPE = "otel_cost.scope"
DECISION_REASON = "otel_cost.reason"
DECISION_MODEL = "otel_cost.model"
DECISION_TOP_COMPONENTS = "otel_cost.top_components"
DECISION_LIMIT_USD = "otel_cost.limit_usd"
DECISION_SPENT_USD = "otel_cost.spent_usd"
DECISION_RESERVED_USD = "otel_cost.reserved_usd"
DECISION_ASKED_USD = "otel_cost.asked_usd"

CLAMPED_OUTPUT_TOKENS = "otel_cost.clamped_output_tokens"
DOWNGRADED_FROM = "otel_cost.downgraded_from"
DOWNGRADED_TO = "otel_cost.downgraded_to"

TRUNCATED_ATTRIBUTES = "otel_cost.truncated_attributes"
"""Written by the receiver: names of attributes whose values were cut, separated by commas."""

EXECUTION_COST_USD = "otel_cost.execution.cost_usd"
EXECUTION_MODEL_CALLS = "otel_cost.execution.model_calls"
EXECUTION_TOOL_CALLS = "otel_cost.execution.tool_calls"
EXECUTION_UNPRICED_CALLS = "otel_cost.execution.unpriced_calls"
EXECUTION_INPUT_TOKENS = "otel_cost.execution.input_tokens"
EXECUTION_OUTPUT_TOKENS = "otel_cost.execution.output_tokens"

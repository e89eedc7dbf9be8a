-- attribute_names: what each attribute name means, in every convention that is read.
-- The same names as otel_cost/attributes.py and otel_cost/documents.py.
-- Grain:     one row per attribute name, kind says what its value is: an amount, a cost, a payer or text
-- Source:    the lists below. The order in a list is the order of trust, the first name present is believed
-- Read by:   views/read_spans.sql
-- A name with a colon is a key inside a JSON attribute: raw: gen_ai.usage.raw, langfuse:
-- langfuse.observation.usage_details, langsmith_input: and langsmith_output: gen_ai.usage.input_token_details and
-- output_token_details, vercel_anthropic: the object anthropic of ai.response.providerMetadata.
CREATE OR REPLACE DICTIONARY attribute_names
(
    name       String,
    field      String,
    rank       UInt16,
    is_marker  UInt8,
    kind       String
)
PRIMARY KEY name
SOURCE(CLICKHOUSE(QUERY $query$
WITH
    [
        ('input_tokens', [
            'gen_ai.usage.input_tokens',
            'llm.token_count.prompt',
            'ai.usage.inputTokens',
            'ai.usage.promptTokens',
            'gen_ai.usage.prompt_tokens',
            'llm.usage.prompt_tokens',
            'langfuse:input',
            'langfuse:prompt_tokens',
            'langfuse:input_tokens',
            'raw:prompt_tokens',
            'raw:input_tokens',
            'raw:promptTokenCount',
            'raw:inputTokens',
            'raw:total_input_tokens'
        ]),
        ('output_tokens', [
            'gen_ai.usage.output_tokens',
            'llm.token_count.completion',
            'ai.usage.outputTokens',
            'ai.usage.completionTokens',
            'gen_ai.usage.completion_tokens',
            'llm.usage.completion_tokens',
            'langfuse:output',
            'langfuse:completion_tokens',
            'langfuse:output_tokens',
            'raw:completion_tokens',
            'raw:output_tokens',
            'raw:candidatesTokenCount',
            'raw:outputTokens',
            'raw:total_output_tokens'
        ]),
        ('total_tokens', [
            'gen_ai.usage.total_tokens',
            'llm.token_count.total',
            'ai.usage.totalTokens',
            'ai.usage.tokens',
            'llm.usage.total_tokens',
            'langfuse:total',
            'langfuse:total_tokens',
            'raw:total_tokens',
            'raw:totalTokenCount',
            'raw:totalTokens'
        ]),
        ('cache_read_tokens', [
            'gen_ai.usage.cache_read.input_tokens',
            'llm.token_count.prompt_details.cache_read',
            'ai.usage.inputTokenDetails.cacheReadTokens',
            'ai.usage.cachedInputTokens',
            'gen_ai.usage.cache_read_input_tokens',
            'gen_ai.usage.cache_read_tokens',
            'gen_ai.usage.details.cache_read_tokens',
            'gen_ai.usage.details.cache_read_input_tokens',
            'gen_ai.usage.details.cached_tokens',
            'gen_ai.usage.input_tokens.cached',
            'gen_ai.usage.prompt_tokens_details.cached_tokens',
            'llm.usage.cache_read_input_tokens',
            'langfuse:input_cache_read',
            'langfuse:input_cached_tokens',
            'langfuse:cache_read_input_tokens',
            'langfuse:cache_read_tokens',
            'langsmith_input:cache_read',
            'raw:prompt_tokens_details.cached_tokens',
            'raw:input_tokens_details.cached_tokens',
            'raw:cache_read_input_tokens',
            'raw:cachedContentTokenCount',
            'raw:cacheReadInputTokens',
            'raw:prompt_cache_hit_tokens',
            'raw:input_tokens_details.cache_read_input_tokens',
            'raw:total_cached_tokens'
        ]),
        ('cache_write_tokens', [
            'gen_ai.usage.cache_write.input_tokens',
            'gen_ai.usage.cache_creation.input_tokens',
            'llm.token_count.prompt_details.cache_write',
            'ai.usage.inputTokenDetails.cacheWriteTokens',
            'gen_ai.usage.cache_write_input_tokens',
            'gen_ai.usage.cache_creation_input_tokens',
            'gen_ai.usage.cache_write_tokens',
            'gen_ai.usage.details.cache_write_tokens',
            'gen_ai.usage.details.cache_creation_input_tokens',
            'llm.usage.cache_creation_input_tokens',
            'langfuse:input_cache_creation',
            'langfuse:cache_creation_input_tokens',
            'langfuse:input_cache_write',
            'langfuse:cache_write_tokens',
            'langsmith_input:cache_creation',
            'vercel_anthropic:cacheCreationInputTokens',
            'raw:cache_creation_input_tokens',
            'raw:cacheWriteInputTokens',
            'raw:prompt_tokens_details.cache_write_tokens',
            'raw:input_tokens_details.cache_write_tokens'
        ]),
        ('cache_write_1h_tokens', [
            'anthropic.usage.cache_creation.ephemeral_1h_input_tokens',
            'gen_ai.usage.cache_creation.ephemeral_1h_input_tokens',
            'gen_ai.usage.details.ephemeral_1h_input_tokens',
            'langsmith_input:ephemeral_1h_input_tokens',
            'raw:cache_creation.ephemeral_1h_input_tokens'
        ]),
        ('cache_write_5m_tokens', [
            'anthropic.usage.cache_creation.ephemeral_5m_input_tokens',
            'gen_ai.usage.cache_creation.ephemeral_5m_input_tokens',
            'gen_ai.usage.details.ephemeral_5m_input_tokens',
            'langsmith_input:ephemeral_5m_input_tokens',
            'raw:cache_creation.ephemeral_5m_input_tokens'
        ]),
        ('reasoning_tokens', [
            'gen_ai.usage.reasoning.output_tokens',
            'llm.token_count.completion_details.reasoning',
            'ai.usage.outputTokenDetails.reasoningTokens',
            'ai.usage.reasoningTokens',
            'gen_ai.usage.reasoning_tokens',
            'gen_ai.usage.details.reasoning_tokens',
            'gen_ai.usage.details.thoughts_tokens',
            'gen_ai.usage.output_tokens.reasoning',
            'gen_ai.usage.completion_tokens_details.reasoning_tokens',
            'llm.usage.reasoning_tokens',
            'langfuse:output_reasoning',
            'langfuse:output_reasoning_tokens',
            'langfuse:reasoning_tokens',
            'langsmith_output:reasoning',
            'raw:completion_tokens_details.reasoning_tokens',
            'raw:output_tokens_details.reasoning_tokens',
            'raw:thoughtsTokenCount',
            'raw:output_tokens_details.thinking_tokens',
            'raw:total_thought_tokens'
        ]),
        ('audio_input_tokens', [
            'gen_ai.usage.audio.input_tokens',
            'gen_ai.usage.input_audio_tokens',
            'llm.token_count.prompt_details.audio',
            'gen_ai.usage.details.input_audio_tokens',
            'langfuse:input_audio',
            'langfuse:input_audio_tokens',
            'langsmith_input:audio',
            'raw:prompt_tokens_details.audio_tokens',
            'raw:input_tokens_details.audio_tokens',
            'raw:input_token_details.audio_tokens'
        ]),
        ('audio_output_tokens', [
            'gen_ai.usage.audio.output_tokens',
            'gen_ai.usage.output_audio_tokens',
            'llm.token_count.completion_details.audio',
            'gen_ai.usage.details.output_audio_tokens',
            'langfuse:output_audio',
            'langfuse:output_audio_tokens',
            'langsmith_output:audio',
            'raw:completion_tokens_details.audio_tokens'
        ]),
        ('audio_cache_read_tokens', [
            'gen_ai.usage.audio.cache_read.input_tokens',
            'gen_ai.usage.cache_audio_read_tokens',
            'gen_ai.usage.details.cache_audio_read_tokens'
        ]),
        ('image_input_tokens', [
            'gen_ai.usage.image.input_tokens',
            'gen_ai.usage.details.input_image_tokens',
            'raw:input_tokens_details.image_tokens'
        ]),
        ('image_output_tokens', [
            'gen_ai.usage.image.output_tokens',
            'gen_ai.usage.details.output_image_tokens',
            'raw:completion_tokens_details.image_tokens',
            'raw:output_tokens_details.image_tokens'
        ]),
        ('tool_input_tokens', [
            'gen_ai.usage.details.tool_use_prompt_tokens',
            'raw:toolUsePromptTokenCount',
            'raw:total_tool_use_tokens'
        ]),
        ('web_searches', [
            'gen_ai.usage.web_search_requests',
            'anthropic.usage.server_tool_use.web_search_requests',
            'gen_ai.usage.server_tool_use.web_search_requests',
            'gen_ai.usage.details.web_search_requests',
            'gen_ai.usage.details.web_searches',
            'raw:server_tool_use.web_search_requests'
        ]),
        ('reported_cost', [
            'gen_ai.usage.cost.amount',
            'gen_ai.usage.cost',
            'openrouter.usage.cost',
            'openrouter.cost',
            'llm.cost.total',
            'gen_ai.usage.total_cost',
            'gen_ai.cost.total_cost',
            'claude_code.cost_usd',
            'operation.cost'
        ]),
        ('cost_currency', [
            'gen_ai.usage.cost.currency'
        ]),
        ('cost_source', [
            'gen_ai.usage.cost.source'
        ]),
        ('operation_name', [
            'gen_ai.operation.name'
        ]),
        ('openinference_kind', [
            'openinference.span.kind'
        ]),
        ('request_type', [
            'llm.request.type'
        ]),
        ('ai_operation', [
            'ai.operationId'
        ]),
        ('langfuse_type', [
            'langfuse.observation.type'
        ]),
        ('langsmith_kind', [
            'langsmith.span.kind'
        ]),
        ('traceloop_kind', [
            'traceloop.span.kind'
        ]),
        ('refused', [
            'otel_cost.refused'
        ]),
        ('logfire_type', [
            'logfire.span_type'
        ]),
        ('document', [
            'gen_ai.usage.raw',
            'gen_ai.usage.input_token_details',
            'gen_ai.usage.output_token_details',
            'langfuse.observation.usage_details',
            'ai.response.providerMetadata'
        ]),
        ('response_model', [
            'gen_ai.response.model',
            'ai.response.model',
            'llm.response.model'
        ]),
        ('request_model', [
            'gen_ai.request.model',
            'llm.model_name',
            'embedding.model_name',
            'reranker.model_name',
            'ai.model.id',
            'llm.request.model',
            'langfuse.observation.model.name',
            'langsmith.metadata.ls_model_name',
            'model_name'
        ]),
        ('provider', [
            'gen_ai.provider.name',
            'gen_ai.system',
            'llm.provider',
            'ai.model.provider',
            'llm.system',
            'llm.vendor',
            'langsmith.metadata.ls_provider'
        ]),
        ('response_id', [
            'gen_ai.response.id',
            'ai.response.id',
            'llm.response.id',
            'gen_ai.openai.response.id'
        ]),
        ('service_tier', [
            'gen_ai.response.service_tier',
            'openai.response.service_tier',
            'gen_ai.openai.response.service_tier',
            'anthropic.response.service_tier',
            'gen_ai.anthropic.response.service_tier'
        ]),
        ('tool_name', [
            'gen_ai.tool.name',
            'tool.name',
            'tool_name',
            'ai.toolCall.name',
            'traceloop.entity.name'
        ]),
        ('tool_call_id', [
            'gen_ai.tool.call.id',
            'ai.toolCall.id',
            'tool_call.id',
            'tool.id'
        ]),
        ('error_type', [
            'error.type'
        ]),
        ('execution_id', [
            'otel_cost.execution.id'
        ]),
        ('organization', [
            'otel_cost.organization',
            'organization.id',
            'org.id',
            'tenant.id',
            'langfuse.trace.metadata.organization',
            'traceloop.association.properties.organization',
            'langsmith.metadata.organization',
            'metadata.organization'
        ]),
        ('team', [
            'otel_cost.team',
            'team.id',
            'team',
            'langfuse.trace.metadata.team',
            'traceloop.association.properties.team',
            'langsmith.metadata.team',
            'metadata.team'
        ]),
        ('user_id', [
            'otel_cost.user',
            'user.id',
            'enduser.id',
            'langfuse.user.id',
            'traceloop.association.properties.user_id',
            'langsmith.metadata.user_id',
            'ai.telemetry.metadata.userId',
            'metadata.user_id'
        ]),
        ('feature', [
            'otel_cost.feature',
            'feature',
            'langfuse.trace.metadata.feature',
            'traceloop.association.properties.feature',
            'langsmith.metadata.feature',
            'ai.telemetry.functionId',
            'metadata.feature'
        ]),
        ('agent_name', [
            'otel_cost.agent',
            'gen_ai.agent.name',
            'agent.name',
            'agent_name',
            'traceloop.workflow.name'
        ]),
        ('component', [
            'otel_cost.component',
            'component',
            'graph.node.id',
            'langsmith.metadata.langgraph_node'
        ]),
        ('environment', [
            'otel_cost.environment',
            'deployment.environment.name',
            'deployment.environment',
            'langfuse.environment'
        ]),
        ('session_id', [
            'otel_cost.session',
            'session.id',
            'gen_ai.conversation.id',
            'langfuse.session.id',
            'traceloop.association.properties.session_id',
            'langsmith.trace.session_id'
        ]),
        ('span_cost_usd', [
            'otel_cost.cost_usd'
        ]),
        ('span_list_cost_usd', [
            'otel_cost.list_cost_usd'
        ]),
        ('span_price_status', [
            'otel_cost.price.status'
        ]),
        ('span_price_version', [
            'otel_cost.price.version'
        ]),
        ('span_price_model', [
            'otel_cost.price.model'
        ])
    ] AS fields,
    [
        'ai.operationId',
        'ai.usage.completionTokens',
        'ai.usage.inputTokens',
        'ai.usage.outputTokens',
        'ai.usage.promptTokens',
        'claude_code.cost_usd',
        'gen_ai.cost.total_cost',
        'gen_ai.operation.name',
        'gen_ai.usage.completion_tokens',
        'gen_ai.usage.cost',
        'gen_ai.usage.cost.amount',
        'gen_ai.usage.input_tokens',
        'gen_ai.usage.output_tokens',
        'gen_ai.usage.prompt_tokens',
        'gen_ai.usage.raw',
        'gen_ai.usage.total_cost',
        'langfuse.observation.type',
        'langfuse.observation.usage_details',
        'langsmith.span.kind',
        'llm.cost.total',
        'llm.request.type',
        'llm.token_count.completion',
        'llm.token_count.prompt',
        'llm.usage.completion_tokens',
        'llm.usage.prompt_tokens',
        'openinference.span.kind',
        'openrouter.cost',
        'openrouter.usage.cost',
        'operation.cost',
        'traceloop.span.kind'
    ] AS markers
SELECT
    row.1 AS name,
    row.2 AS field,
    row.3 AS rank,
    has(markers, name) AS is_marker,
    multiIf(
        match(field, '_tokens$|^web_searches$'), 'amount',
        field = 'reported_cost', 'cost',
        field IN (
            'execution_id', 'organization', 'team', 'user_id', 'feature', 'agent_name', 'component', 'environment',
            'session_id'), 'payer',
        'text') AS kind
FROM
(
    SELECT arrayJoin(arrayFlatten(arrayMap(
        item -> arrayMap((name, rank) -> (name, item.1, rank), item.2, arrayEnumerate(item.2)),
        fields))) AS row
)
$query$))
LAYOUT(COMPLEX_KEY_HASHED())
LIFETIME(0);

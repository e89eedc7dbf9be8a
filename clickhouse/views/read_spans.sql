-- read_spans: says what each span means, whatever convention it was written in.
-- The same rules as otel_cost/usage.py, attributes.py, documents.py, emitters.py and attribution.py.
-- Grain:     one row per span of an insert
-- Target:    readings (kept nowhere, passed on to charges and trace_links)
-- Source:    otel_traces, on insert
-- Read by:   views/charge_readings.sql, views/link_readings.sql
-- Each list of names is in the order of trust, so the first one present is believed. A name with a colon is a key
-- inside a JSON attribute: langfuse: langfuse.observation.usage_details, langsmith_input and langsmith_output:
-- gen_ai.usage.input_token_details and output_token_details, vercel_anthropic: ai.response.providerMetadata.
CREATE MATERIALIZED VIEW IF NOT EXISTS read_spans
TO readings
AS
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
            'langfuse:input_tokens'
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
            'langfuse:output_tokens'
        ]),
        ('total_tokens', [
            'gen_ai.usage.total_tokens',
            'llm.token_count.total',
            'ai.usage.totalTokens',
            'ai.usage.tokens',
            'llm.usage.total_tokens',
            'langfuse:total',
            'langfuse:total_tokens'
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
            'langsmith_input:cache_read'
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
            'vercel_anthropic:cacheCreationInputTokens'
        ]),
        ('cache_write_1h_tokens', [
            'anthropic.usage.cache_creation.ephemeral_1h_input_tokens',
            'gen_ai.usage.cache_creation.ephemeral_1h_input_tokens',
            'gen_ai.usage.details.ephemeral_1h_input_tokens',
            'langsmith_input:ephemeral_1h_input_tokens'
        ]),
        ('cache_write_5m_tokens', [
            'anthropic.usage.cache_creation.ephemeral_5m_input_tokens',
            'gen_ai.usage.cache_creation.ephemeral_5m_input_tokens',
            'gen_ai.usage.details.ephemeral_5m_input_tokens',
            'langsmith_input:ephemeral_5m_input_tokens'
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
            'langsmith_output:reasoning'
        ]),
        ('audio_input_tokens', [
            'gen_ai.usage.audio.input_tokens',
            'gen_ai.usage.input_audio_tokens',
            'llm.token_count.prompt_details.audio',
            'gen_ai.usage.details.input_audio_tokens',
            'langfuse:input_audio',
            'langfuse:input_audio_tokens',
            'langsmith_input:audio'
        ]),
        ('audio_output_tokens', [
            'gen_ai.usage.audio.output_tokens',
            'gen_ai.usage.output_audio_tokens',
            'llm.token_count.completion_details.audio',
            'gen_ai.usage.details.output_audio_tokens',
            'langfuse:output_audio',
            'langfuse:output_audio_tokens',
            'langsmith_output:audio'
        ]),
        ('audio_cache_read_tokens', [
            'gen_ai.usage.audio.cache_read.input_tokens',
            'gen_ai.usage.cache_audio_read_tokens',
            'gen_ai.usage.details.cache_audio_read_tokens'
        ]),
        ('image_input_tokens', [
            'gen_ai.usage.image.input_tokens',
            'gen_ai.usage.details.input_image_tokens'
        ]),
        ('image_output_tokens', [
            'gen_ai.usage.image.output_tokens',
            'gen_ai.usage.details.output_image_tokens'
        ]),
        ('tool_input_tokens', [
            'gen_ai.usage.details.tool_use_prompt_tokens'
        ]),
        ('web_searches', [
            'gen_ai.usage.web_search_requests',
            'anthropic.usage.server_tool_use.web_search_requests',
            'gen_ai.usage.server_tool_use.web_search_requests',
            'gen_ai.usage.details.web_search_requests',
            'gen_ai.usage.details.web_searches'
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
        ])
    ] AS span_fields,
    arrayFlatten(arrayMap(field -> field.2, span_fields)) AS span_names,
    arrayFlatten(arrayMap(field -> arrayMap(name -> field.1, field.2), span_fields)) AS span_name_fields,
    [
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
        ])
    ] AS payer_fields,
    arrayFlatten(arrayMap(field -> field.2, payer_fields)) AS payer_names,
    arrayFlatten(arrayMap(field -> arrayMap(name -> field.1, field.2), payer_fields)) AS payer_name_fields,
    [
        ('input_tokens', [
            'prompt_tokens',
            'input_tokens',
            'promptTokenCount',
            'inputTokens'
        ]),
        ('output_tokens', [
            'completion_tokens',
            'output_tokens',
            'candidatesTokenCount',
            'outputTokens'
        ]),
        ('total_tokens', [
            'total_tokens',
            'totalTokenCount',
            'totalTokens'
        ]),
        ('cache_read_tokens', [
            'prompt_tokens_details.cached_tokens',
            'input_tokens_details.cached_tokens',
            'cache_read_input_tokens',
            'cachedContentTokenCount',
            'cacheReadInputTokens',
            'prompt_cache_hit_tokens'
        ]),
        ('cache_write_tokens', [
            'cache_creation_input_tokens',
            'cacheWriteInputTokens',
            'prompt_tokens_details.cache_write_tokens'
        ]),
        ('cache_write_1h_tokens', [
            'cache_creation.ephemeral_1h_input_tokens'
        ]),
        ('cache_write_5m_tokens', [
            'cache_creation.ephemeral_5m_input_tokens'
        ]),
        ('reasoning_tokens', [
            'completion_tokens_details.reasoning_tokens',
            'output_tokens_details.reasoning_tokens',
            'thoughtsTokenCount'
        ]),
        ('audio_input_tokens', [
            'prompt_tokens_details.audio_tokens',
            'input_tokens_details.audio_tokens'
        ]),
        ('audio_output_tokens', [
            'completion_tokens_details.audio_tokens'
        ]),
        ('image_input_tokens', [
            'input_tokens_details.image_tokens'
        ]),
        ('image_output_tokens', [
            'completion_tokens_details.image_tokens'
        ]),
        ('tool_input_tokens', [
            'toolUsePromptTokenCount'
        ]),
        ('web_searches', [
            'server_tool_use.web_search_requests'
        ])
    ] AS raw_fields,
    arrayFlatten(arrayMap(field -> field.2, raw_fields)) AS raw_names,
    arrayFlatten(arrayMap(field -> arrayMap(name -> field.1, field.2), raw_fields)) AS raw_name_fields,
    known AS
    (
        SELECT
            *,
            mapFilter(
                (name, value) -> transform(name, span_names, arrayEnumerate(span_names), 0) > 0
                    OR transform(name, payer_names, arrayEnumerate(payer_names), 0) > 0
                    OR name IN (
                        'gen_ai.operation.name', 'openinference.span.kind', 'llm.request.type', 'ai.operationId',
                        'traceloop.span.kind', 'langfuse.observation.type', 'langsmith.span.kind', 'logfire.span_type',
                        'gen_ai.usage.raw', 'gen_ai.usage.input_token_details', 'gen_ai.usage.output_token_details',
                        'langfuse.observation.usage_details', 'ai.response.providerMetadata', 'error.type',
                        'gen_ai.usage.cost.currency', 'gen_ai.usage.cost.source', 'gen_ai.request.stream',
                        'gen_ai.is_streaming', 'llm.is_streaming', 'otel_cost.cost_usd', 'otel_cost.list_cost_usd',
                        'otel_cost.price.status', 'otel_cost.price.version', 'otel_cost.price.model'),
                SpanAttributes) AS attributes
        FROM otel_traces
        WHERE TraceId != '' AND SpanId != ''
    ),
    marked AS
    (
        SELECT
            *,
            hasAny(mapKeys(attributes), [
                'gen_ai.operation.name', 'openinference.span.kind', 'llm.request.type', 'ai.operationId',
                'traceloop.span.kind', 'langfuse.observation.type', 'langsmith.span.kind',
                'langfuse.observation.usage_details', 'gen_ai.usage.raw',
                'gen_ai.usage.input_tokens', 'llm.token_count.prompt', 'ai.usage.inputTokens', 'ai.usage.promptTokens',
                'gen_ai.usage.prompt_tokens', 'llm.usage.prompt_tokens',
                'gen_ai.usage.output_tokens', 'llm.token_count.completion', 'ai.usage.outputTokens',
                'ai.usage.completionTokens', 'gen_ai.usage.completion_tokens', 'llm.usage.completion_tokens',
                'gen_ai.usage.cost.amount', 'gen_ai.usage.cost', 'openrouter.usage.cost', 'openrouter.cost',
                'llm.cost.total', 'gen_ai.usage.total_cost', 'gen_ai.cost.total_cost', 'claude_code.cost_usd',
                'operation.cost']) AS is_marked,
            arrayZip(mapKeys(attributes)::Array(String), mapValues(attributes)) AS plain_pairs,
            arrayConcat(
                plain_pairs,
                arrayMap(
                    pair -> ('langfuse:' || pair.1, trim(BOTH '"' FROM pair.2)),
                    JSONExtractKeysAndValuesRaw(attributes['langfuse.observation.usage_details'])),
                arrayMap(
                    pair -> ('langsmith_input:' || pair.1, trim(BOTH '"' FROM pair.2)),
                    JSONExtractKeysAndValuesRaw(attributes['gen_ai.usage.input_token_details'])),
                arrayMap(
                    pair -> ('langsmith_output:' || pair.1, trim(BOTH '"' FROM pair.2)),
                    JSONExtractKeysAndValuesRaw(attributes['gen_ai.usage.output_token_details'])),
                arrayMap(
                    pair -> ('vercel_anthropic:' || pair.1, trim(BOTH '"' FROM pair.2)),
                    JSONExtractKeysAndValuesRaw(attributes['ai.response.providerMetadata'], 'anthropic'))) AS pairs,
            attributes['gen_ai.usage.raw'] AS raw,
            if(raw = '', [], arrayMap(
                pair -> (pair.1, trim(BOTH '"' FROM pair.2)),
                arrayConcat(
                    JSONExtractKeysAndValuesRaw(raw),
                    arrayMap(
                        pair -> ('prompt_tokens_details.' || pair.1, pair.2),
                        JSONExtractKeysAndValuesRaw(raw, 'prompt_tokens_details')),
                    arrayMap(
                        pair -> ('input_tokens_details.' || pair.1, pair.2),
                        JSONExtractKeysAndValuesRaw(raw, 'input_tokens_details')),
                    arrayMap(
                        pair -> ('completion_tokens_details.' || pair.1, pair.2),
                        JSONExtractKeysAndValuesRaw(raw, 'completion_tokens_details')),
                    arrayMap(
                        pair -> ('output_tokens_details.' || pair.1, pair.2),
                        JSONExtractKeysAndValuesRaw(raw, 'output_tokens_details')),
                    arrayMap(
                        pair -> ('cache_creation.' || pair.1, pair.2),
                        JSONExtractKeysAndValuesRaw(raw, 'cache_creation')),
                    arrayMap(
                        pair -> ('server_tool_use.' || pair.1, pair.2),
                        JSONExtractKeysAndValuesRaw(raw, 'server_tool_use'))))) AS raw_pairs
        FROM known
    ),
    found AS
    (
        SELECT
            *,
            arraySort(
                item -> item.1,
                arrayFilter(
                    item -> item.1 > 0 AND item.3 != 'null'
                        AND (item.3 != '' OR endsWith(span_name_fields[item.1], '_tokens')
                            OR span_name_fields[item.1] IN ('web_searches', 'reported_cost')),
                    arrayMap(
                        pair -> (transform(pair.1, span_names, arrayEnumerate(span_names), 0), pair.1, pair.2),
                        if(is_marked, pairs, [])))) AS span_items,
            mapFromArrays(
                arrayMap(item -> span_name_fields[item.1], span_items),
                arrayMap(item -> item.3, span_items)) AS said,
            arraySort(
                item -> item.1,
                arrayFilter(
                    item -> item.1 > 0 AND item.2 != 'null',
                    arrayMap(
                        pair -> (transform(pair.1, raw_names, arrayEnumerate(raw_names), 0), pair.2),
                        raw_pairs))) AS raw_items,
            arraySort(
                item -> item.1,
                arrayFilter(
                    item -> item.1 > 0 AND item.2 != '',
                    arrayConcat(
                        arrayMap(
                            pair -> (
                                transform(pair.1, payer_names, arrayEnumerate(payer_names), 0),
                                substringUTF8(trim(replaceRegexpAll(pair.2, '[\\x00-\\x1f\\x7f]+', ' ')), 1, 128)),
                            if(is_marked, plain_pairs, [])),
                        arrayMap(
                            (name, value) -> (
                                transform(name, payer_names, arrayMap(index -> 1000 + index, arrayEnumerate(payer_names)), 0),
                                substringUTF8(trim(replaceRegexpAll(value, '[\\x00-\\x1f\\x7f]+', ' ')), 1, 128)),
                            if(is_marked, mapKeys(ResourceAttributes)::Array(String), []),
                            if(is_marked, mapValues(ResourceAttributes), []))))) AS payer_items,
            mapFromArrays(
                arrayMap(item -> payer_name_fields[item.1 % 1000], payer_items),
                arrayMap(item -> item.2, payer_items)) AS payer
        FROM marked
    ),
    classified AS
    (
        SELECT
            *,
            multiIf(
                NOT is_marked OR attributes['logfire.span_type'] = 'pending_span', 'other',
                attributes['ai.operationId'] = 'ai.toolCall', 'tool',
                arrayFirst(class -> class != '', [
                    transform(
                        attributes['gen_ai.operation.name'],
                        [
                            'chat', 'text_completion', 'completion', 'completions', 'generate_content', 'generateContent',
                            'responses', 'response', 'message', 'messages', 'embeddings', 'embedding', 'rerank',
                            'image_generation', 'speech', 'transcription', 'call_llm', 'generation',
                            'execute_tool',
                            'invoke_agent', 'create_agent', 'invoke_workflow', 'agent', 'chain', 'workflow', 'plan', 'handoff'
                        ],
                        [
                            'model', 'model', 'model', 'model', 'model', 'model',
                            'model', 'model', 'model', 'model', 'model', 'model', 'model',
                            'model', 'model', 'model', 'model', 'model',
                            'tool',
                            'aggregate', 'aggregate', 'aggregate', 'aggregate', 'aggregate', 'aggregate', 'aggregate', 'aggregate'
                        ],
                        ''),
                    transform(
                        attributes['openinference.span.kind'],
                        ['LLM', 'EMBEDDING', 'RERANKER', 'TOOL', 'AGENT', 'CHAIN', 'RETRIEVER', 'GUARDRAIL', 'EVALUATOR'],
                        ['model', 'model', 'model', 'tool', 'aggregate', 'aggregate', 'aggregate', 'aggregate', 'aggregate'],
                        ''),
                    if(attributes['llm.request.type'] IN ('chat', 'completion', 'embedding', 'rerank'), 'model', ''),
                    transform(
                        attributes['langfuse.observation.type'],
                        [
                            'generation', 'embedding', 'tool',
                            'agent', 'chain', 'span', 'retriever', 'evaluator', 'guardrail'
                        ],
                        [
                            'model', 'model', 'tool',
                            'aggregate', 'aggregate', 'aggregate', 'aggregate', 'aggregate', 'aggregate'
                        ],
                        ''),
                    transform(
                        attributes['langsmith.span.kind'],
                        ['llm', 'embedding', 'tool', 'chain', 'retriever', 'prompt', 'parser'],
                        ['model', 'model', 'tool', 'aggregate', 'aggregate', 'aggregate', 'aggregate'],
                        ''),
                    transform(
                        attributes['traceloop.span.kind'],
                        ['tool', 'workflow', 'task', 'agent'],
                        ['tool', 'aggregate', 'aggregate', 'aggregate'],
                        ''),
                    multiIf(
                        attributes['ai.operationId'] = '', '',
                        match(attributes['ai.operationId'], '\\.(doGenerate|doStream|doEmbed)$'), 'model',
                        'aggregate'),
                    'other'])) AS class,
            arrayFirst(text -> text != '', [
                attributes['gen_ai.operation.name'],
                attributes['openinference.span.kind'],
                attributes['llm.request.type'],
                attributes['ai.operationId']]) AS operation_text,
            if(match(operation_text, '(\\.doEmbed|ai\\.embed|ai\\.embedMany)$'), 'embeddings', operation_text)
                AS operation,
            operation IN ('embeddings', 'embedding', 'rerank', 'EMBEDDING', 'RERANKER') AS is_embedding,
            if(
                notEmpty(raw_items),
                mapFromArrays(
                    arrayMap(item -> raw_name_fields[item.1], raw_items),
                    arrayMap(item -> item.2, raw_items)),
                mapFilter((field, value) -> endsWith(field, '_tokens') OR field = 'web_searches', said)) AS amounts,
            mapApply(
                (field, value) -> (
                    field,
                    if(match(value, '^[0-9]{1,18}(\\.0)?$'), toUInt64OrNull(splitByChar('.', value)[1]), NULL)),
                amounts) AS numbers,
            mapApply((field, number) -> (field, if(number <= 1000000000000, number, NULL)), numbers) AS counts,
            if(
                notEmpty(raw_items),
                hasAny(
                    raw_pairs.1,
                    [
                        'cache_read_input_tokens', 'cache_creation_input_tokens',
                        'cacheReadInputTokens', 'cacheWriteInputTokens'
                    ])
                    AND NOT has(raw_pairs.1, 'prompt_tokens'),
                lower(said['provider']) IN ('aws.bedrock', 'bedrock', 'aws_bedrock', 'aws-bedrock', 'amazon-bedrock')
                    OR (startsWith(lower(said['provider']), 'anthropic')
                        AND mapContains(attributes, 'ai.usage.cachedInputTokens')
                        AND NOT mapContains(attributes, 'ai.usage.inputTokenDetails.cacheReadTokens'))) AS is_exclusive,
            arrayMap(
                item -> (
                    toDecimal128OrNull(item.3, 18),
                    item.2 NOT IN (
                        'operation.cost', 'gen_ai.cost.total_cost', 'gen_ai.usage.total_cost', 'claude_code.cost_usd')
                        AND NOT match(
                            ScopeName,
                            '^(litellm|openlit|langfuse|openinference\\.|pydantic-ai|traceloop|logfire)')),
                arrayFilter(item -> span_name_fields[item.1] = 'reported_cost', span_items)) AS reported
        FROM found
    ),
    costed AS
    (
        SELECT
            *,
            attributes['gen_ai.usage.cost.source'] AS cost_source,
            arrayMap(
                cost -> (
                    if(cost.1 >= 0 AND cost.1 <= 1000000000000, cost.1, NULL),
                    if(cost_source = '', cost.2, cost_source = 'provider')),
                reported) AS costs,
            arrayFirstIndex(cost -> isNotNull(cost.1), costs) AS first_amount,
            first_amount > 0 AND upper(attributes['gen_ai.usage.cost.currency']) NOT IN ('', 'USD') AS is_foreign,
            if(is_foreign, 0, arrayFirstIndex(cost -> cost.1 > 0 OR (cost.1 = 0 AND cost.2), costs)) AS chosen,
            counts['input_tokens'] AS found_input,
            counts['output_tokens'] AS found_output,
            counts['total_tokens'] AS found_total,
            class != 'tool' AND (
                isNotNull(found_input) OR isNotNull(found_output)
                OR (isNotNull(found_total) AND is_embedding)) AS has_usage,
            multiIf(
                NOT has_usage, 0,
                isNotNull(found_input), found_input,
                isNull(found_output), found_total,
                found_total >= found_output, found_total - found_output,
                0) AS said_input,
            multiIf(
                NOT has_usage, 0,
                isNotNull(found_output), found_output,
                isNull(found_input), 0,
                found_total >= found_input, found_total - found_input,
                0) AS said_output,
            ifNull(counts['cache_read_tokens'], 0) AS cached_read,
            ifNull(counts['cache_write_1h_tokens'], 0) AS written_1h,
            greatest(
                ifNull(counts['cache_write_tokens'], 0),
                written_1h + ifNull(counts['cache_write_5m_tokens'], 0)) AS written,
            ifNull(counts['reasoning_tokens'], 0) AS reasoned,
            has_usage AND NOT is_exclusive AND cached_read + written > 0 AND (
                cached_read + written > said_input
                OR ifNull(found_total = said_input + ifNull(found_output, 0) + cached_read + written, false))
                AS is_input_corrected,
            has_usage AND reasoned > 0 AND (
                reasoned > said_output
                OR ifNull(found_total = ifNull(found_input, 0) + said_output + reasoned, false)) AS is_output_corrected
        FROM classified
    ),
    totalled AS
    (
        SELECT
            *,
            toInt64(said_input + if(is_exclusive OR is_input_corrected, cached_read + written, 0)) AS total_input,
            toInt64(said_output + if(is_output_corrected, reasoned, 0)) AS total_output,
            least(ifNull(counts['audio_cache_read_tokens'], 0), cached_read) AS audio_read,
            total_input - cached_read - written AS room_0,
            greatest(0, least(toInt64(ifNull(counts['audio_input_tokens'], 0)) - audio_read, room_0)) AS audio,
            room_0 - audio AS room_1,
            least(toInt64(ifNull(counts['image_input_tokens'], 0)), room_1) AS image,
            room_1 - image AS room_2,
            least(toInt64(ifNull(counts['tool_input_tokens'], 0)), room_2) AS tool,
            least(toInt64(reasoned), total_output) AS reasoning,
            total_output - reasoning AS out_room_1,
            least(toInt64(ifNull(counts['audio_output_tokens'], 0)), out_room_1) AS audio_out,
            out_room_1 - audio_out AS out_room_2,
            least(toInt64(ifNull(counts['image_output_tokens'], 0)), out_room_2) AS image_out,
            chosen > 0 AS has_cost,
            if(class = 'other' AND (has_usage OR has_cost), 'aggregate', class) AS final_class,
            final_class IN ('model', 'aggregate') AS is_read,
            splitByChar('.', ScopeVersion) AS version_parts,
            arrayMap(
                part -> toUInt32OrZero(extract(part, '^[0-9]+')),
                arraySlice(
                    version_parts,
                    1,
                    arrayFirstIndex(part -> NOT match(part, '^[0-9]'), arrayPushBack(version_parts, '')) - 1)) AS version,
            arrayExists(
                name -> lower(attributes[name]) = 'true',
                ['gen_ai.request.stream', 'gen_ai.is_streaming', 'llm.is_streaming'])
                OR position(SpanAttributes['llm.invocation_parameters'], '"stream": true') > 0 AS is_stream,
            isNull(counts['cache_read_tokens']) AND isNull(counts['cache_write_tokens']) AS is_cache_unsaid
        FROM costed
    )
SELECT
    TraceId AS trace_id,
    SpanId AS span_id,
    ParentSpanId AS parent_span_id,
    Timestamp AS started_at,
    addNanoseconds(Timestamp, Duration) AS ended_at,
    ServiceName AS service_name,
    ScopeName AS scope_name,
    final_class AS span_class,
    final_class IN ('model', 'tool') OR has_usage OR (is_read AND has_cost) AS is_billable,
    if(is_read, substringUTF8(said['provider'], 1, 256), '') AS provider,
    if(is_read, substringUTF8(if(said['response_model'] != '', said['response_model'], said['request_model']), 1, 256), '')
        AS model,
    if(is_read, substringUTF8(said['request_model'], 1, 256), '') AS request_model,
    multiIf(final_class = 'tool', 'execute_tool', is_read, operation, '') AS operation,
    if(is_read, substringUTF8(arrayFirst(tier -> tier != '', [
        said['service_tier'],
        JSONExtractString(raw, 'service_tier'),
        JSONExtractString(attributes['ai.response.providerMetadata'], 'openai', 'serviceTier'),
        '']), 1, 256), '') AS service_tier,
    multiIf(
        final_class = 'tool', substringUTF8(said['tool_call_id'], 1, 256),
        NOT is_read, '',
        said['response_id'] != '' AND NOT startsWith(ScopeName, 'litellm'), substringUTF8(said['response_id'], 1, 256),
        startsWith(ScopeName, 'openinference.'), extract(
            substringUTF8(SpanAttributes['output.value'], 1, 400),
            '"id":\\s*"((?:chatcmpl|resp|msg|gen|cmpl)[-_][\\w.-]{1,120})"'),
        '') AS response_id,
    if(final_class = 'tool', substringUTF8(said['tool_name'], 1, 256), '') AS tool_name,
    has_usage,
    if(has_usage, room_2 - tool, 0) AS input_tokens,
    if(has_usage, cached_read - audio_read, 0) AS cache_read_tokens,
    if(has_usage, written - written_1h, 0) AS cache_write_tokens,
    if(has_usage, written_1h, 0) AS cache_write_1h_tokens,
    if(has_usage, tool, 0) AS tool_input_tokens,
    if(has_usage, audio, 0) AS audio_input_tokens,
    if(has_usage, audio_read, 0) AS audio_cache_read_tokens,
    if(has_usage, image, 0) AS image_input_tokens,
    if(has_usage, out_room_2 - image_out, 0) AS output_tokens,
    if(has_usage, reasoning, 0) AS reasoning_tokens,
    if(has_usage, audio_out, 0) AS audio_output_tokens,
    if(has_usage, image_out, 0) AS image_output_tokens,
    if(has_usage, ifNull(counts['web_searches'], 0), 0) AS web_searches,
    if(is_read, arrayFilter(mark -> mark != '', [
        if(mapExists((field, count) -> isNull(count), counts), 'impossible_usage', ''),
        if(has_usage AND isNull(found_input) AND isNotNull(found_output) AND NOT ifNull(found_total >= found_output, false),
            'input_missing', ''),
        if(has_usage AND isNotNull(found_input) AND isNull(found_output) AND NOT is_embedding
            AND NOT ifNull(found_total >= found_input, false), 'output_missing', ''),
        if(is_input_corrected, 'input_excluded_cache', ''),
        if(is_output_corrected, 'output_excluded_reasoning', ''),
        if(has_usage AND is_cache_unsaid AND (
            ScopeName IN ('opentelemetry.instrumentation.openai_v2', 'openinference.instrumentation.smolagents')
            OR (ScopeName = 'opentelemetry.instrumentation.openai.v1' AND notEmpty(version) AND version < [0, 34])
            OR (ScopeName = 'openinference.instrumentation.anthropic' AND is_stream
                AND notEmpty(version) AND version < [1])
            OR (ScopeName = 'openlit.otel.tracing' AND notEmpty(version) AND version < [1, 33])),
            'cache_not_reported', ''),
        if(has_usage AND is_stream AND ScopeName = 'opentelemetry.instrumentation.anthropic', 'output_overstated', ''),
        if(arrayExists((cost, index) -> isNull(cost.1) AND (
            if(is_foreign, index < first_amount, chosen = 0 OR index < chosen)), costs, arrayEnumerate(costs)),
            'impossible_cost', ''),
        if(is_foreign, 'currency_not_usd', '')]), []) AS usage_marks,
    arrayExists(
        mark -> mark NOT IN ('input_excluded_cache', 'impossible_cost', 'currency_not_usd'), usage_marks) AS is_estimate,
    if(is_read AND has_cost, costs[chosen].1, NULL) AS reported_cost_usd,
    multiIf(NOT is_read OR NOT has_cost, '', costs[chosen].2, 'provider', 'emitter') AS reported_by,
    toDecimal128OrNull(attributes['otel_cost.cost_usd'], 12) AS span_cost_usd,
    toDecimal128OrNull(attributes['otel_cost.list_cost_usd'], 12) AS span_list_cost_usd,
    attributes['otel_cost.price.status'] AS span_price_status,
    attributes['otel_cost.price.version'] AS span_price_version,
    attributes['otel_cost.price.model'] AS span_price_model,
    StatusCode AS status,
    multiIf(
        attributes['error.type'] != '', substringUTF8(attributes['error.type'], 1, 256),
        StatusCode = 'Error', substringUTF8(arrayFirst(
            type -> type != '',
            arrayPushBack(arrayMap(event -> event['exception.type'], Events.Attributes), '')), 1, 256),
        '') AS error_type,
    if(payer['execution_id'] != '', payer['execution_id'], TraceId) AS execution_id,
    payer['organization'] AS organization,
    payer['team'] AS team,
    payer['user_id'] AS user_id,
    payer['feature'] AS feature,
    payer['agent_name'] AS agent_name,
    payer['component'] AS component,
    payer['environment'] AS environment,
    payer['session_id'] AS session_id
FROM totalled;

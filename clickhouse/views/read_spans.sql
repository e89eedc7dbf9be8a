-- read_spans: says what each span means, whatever convention it was written in.
-- The same rules as otel_cost/usage.py, documents.py, emitters.py and attribution.py.
-- Grain:     one row per span of an insert that says something about a model, a tool or an agent
-- Target:    readings (kept nowhere, passed on to charges and trace_links)
-- Source:    marked_spans, on insert, attribute_names, endpoints_dictionary for who bills, and tool_prices_dictionary for
--            what counts the units of a tool
-- Read by:   views/charge_readings.sql, views/link_readings.sql
-- Steps:     named (which known attributes a span has), said (field by field, the most trusted value),
--            counted (amounts as numbers), totalled (totals that contain their parts), and their parts taken out.
-- Parts are multiplied by has_usage, not chosen by if: ClickHouse evaluates an if lazily by default, and a dozen of them over
-- one chain of expressions take gigabytes. A name is looked up as LowCardinality, which is once per
-- name of an insert instead of once per attribute. What can be compared early is: what the engine takes to optimise an AND
-- or OR, at each insert, grows with the steps before it.
CREATE MATERIALIZED VIEW IF NOT EXISTS read_spans
TO readings
AS
WITH
    named AS
    (
        SELECT
            * EXCEPT (resource_attributes),
            attributes['gen_ai.usage.raw'] AS raw,
            attributes['ai.response.providerMetadata'] AS metadata,
            lower(arrayStringConcat([
                attributes['gen_ai.request.stream'],
                attributes['gen_ai.is_streaming'],
                attributes['llm.is_streaming']], ' ')) LIKE '%true%'
                OR position(attributes['llm.invocation_parameters'], '"stream": true') > 0 AS is_stream,
            arrayMap(
                part -> toUInt32OrZero(part),
                extractAll(extract(scope_version, '^[0-9]+(?:[^.]*\\.[0-9]+)*'), '(?:^|\\.)([0-9]+)')) AS version,
            attributes['otel_cost.usage.source'] = 'partial' AS tells_a_part,
            arrayMap(
                pair -> (
                    dictGet('attribute_names', 'field', pair.1::LowCardinality(String)),
                    dictGet('attribute_names', 'rank', pair.1::LowCardinality(String)),
                    dictGet('attribute_names', 'kind', pair.1::LowCardinality(String)),
                    pair.1,
                    pair.2),
                arrayFilter(
                    pair -> dictGet('attribute_names', 'kind', pair.1::LowCardinality(String)) = 'cost'
                        OR (pair.2 != ''
                            AND dictGet('attribute_names', 'kind', pair.1::LowCardinality(String)) IN ('amount', 'text')),
                    CAST(attributes, 'Array(Tuple(LowCardinality(String), String))'))) AS span_items,
            arrayFilter(item -> item.2 != '', arrayMap(
                pair -> (
                    dictGet('attribute_names', 'field', pair.1::LowCardinality(String)),
                    substringUTF8(trim(replaceRegexpAll(pair.2::LowCardinality(String), '[\\x00-\\x1f\\x7f]+', ' ')), 1, 128)),
                arrayFilter(
                    pair -> dictGet('attribute_names', 'kind', pair.1::LowCardinality(String)) = 'payer',
                    CAST(resource_attributes, 'Array(Tuple(LowCardinality(String), String))')))) AS resource_payers
        FROM marked_spans
    ),
    opened AS
    (
        SELECT
            * EXCEPT (resource_payers, scope_version, version, is_stream),
            notEmpty(version) AS has_version,
            scope_name IN ('opentelemetry.instrumentation.openai_v2', 'openinference.instrumentation.smolagents')
                OR (scope_name = 'opentelemetry.instrumentation.openai.v1' AND has_version AND version < [0, 34])
                OR (scope_name = 'openinference.instrumentation.anthropic' AND is_stream AND has_version AND version < [1])
                OR (scope_name = 'openlit.otel.tracing' AND has_version AND version < [1, 33]) AS hides_cache,
            scope_name = 'opentelemetry.instrumentation.anthropic' AND is_stream AS overstates_output,
            arrayMap(
                pair -> (
                    dictGet('attribute_names', 'field', pair.1::LowCardinality(String)),
                    dictGet('attribute_names', 'rank', pair.1::LowCardinality(String)),
                    dictGet('attribute_names', 'kind', pair.1::LowCardinality(String)),
                    pair.1,
                    trim(BOTH '"' FROM pair.2)),
                arrayFlatten(arrayMap(
                    document -> arrayMap(
                        pair -> (document.1 || pair.1, pair.2),
                        arrayFilter(pair -> pair.2 != 'null', JSONExtractKeysAndValuesRaw(document.2))),
                    arrayFlatten(arrayMap(
                        item -> multiIf(
                            item.4 = 'langfuse.observation.usage_details', [('langfuse:', item.5)],
                            item.4 = 'gen_ai.usage.input_token_details', [('langsmith_input:', item.5)],
                            item.4 = 'gen_ai.usage.output_token_details', [('langsmith_output:', item.5)],
                            item.4 = 'ai.response.providerMetadata',
                                [('vercel_anthropic:', JSONExtractRaw(item.5, 'anthropic'))],
                            item.4 = 'gen_ai.usage.raw', [
                                ('raw:', item.5),
                                ('raw:prompt_tokens_details.', JSONExtractRaw(item.5, 'prompt_tokens_details')),
                                ('raw:input_tokens_details.', JSONExtractRaw(item.5, 'input_tokens_details')),
                                ('raw:completion_tokens_details.', JSONExtractRaw(item.5, 'completion_tokens_details')),
                                ('raw:output_tokens_details.', JSONExtractRaw(item.5, 'output_tokens_details')),
                                ('raw:cache_creation.', JSONExtractRaw(item.5, 'cache_creation')),
                                ('raw:server_tool_use.', JSONExtractRaw(item.5, 'server_tool_use'))],
                            []),
                        arrayFilter(item -> item.1 = 'document', span_items)))))) AS document_items,
            mapFromArrays(
                arrayConcat(mapKeys(own_payer), resource_payers.1::Array(String)),
                arrayConcat(mapValues(own_payer), resource_payers.2::Array(String))) AS payer
        FROM named
    ),
    ranked AS
    (
        SELECT
            * EXCEPT (span_items, document_items),
            arraySort(
                item -> item.2,
                arrayConcat(
                    span_items,
                    arrayFilter(item -> item.1 != '' AND (item.5 != '' OR item.3 = 'cost'), document_items))) AS items
        FROM opened
    ),
    said AS
    (
        SELECT
            * EXCEPT (items),
            arrayFilter(item -> item.3 = 'text', items) AS text_items,
            mapFromArrays(text_items.1, text_items.5) AS said,
            arrayFilter(item -> startsWith(item.4, 'raw:'), items) AS raw_items,
            arrayFilter(item -> item.3 = 'cost', items) AS cost_items,
            arrayFilter(item -> item.3 = 'amount', items) AS amount_items
        FROM ranked
    ),
    classified AS
    (
        SELECT
            *,
            multiIf(
                said['logfire_type'] = 'pending_span' OR said['refused'] = 'true', 'other',
                said['ai_operation'] = 'ai.toolCall', 'tool',
                arrayFirst(class -> class != '', [
                    multiIf(
                        said['operation_name'] IN (
                            'chat', 'text_completion', 'completion', 'completions', 'generate_content', 'generateContent',
                            'responses', 'response', 'message', 'messages', 'embeddings', 'embedding', 'rerank',
                            'image_generation', 'speech', 'transcription', 'call_llm', 'generation',
                            'interactions.create'), 'model',
                        said['operation_name'] = 'execute_tool', 'tool',
                        said['operation_name'] IN (
                            'invoke_agent', 'create_agent', 'invoke_workflow', 'agent', 'chain', 'workflow', 'plan',
                            'handoff'), 'aggregate',
                        ''),
                    multiIf(
                        said['openinference_kind'] IN ('LLM', 'EMBEDDING', 'RERANKER'), 'model',
                        said['openinference_kind'] = 'TOOL', 'tool',
                        said['openinference_kind'] IN ('AGENT', 'CHAIN', 'RETRIEVER', 'GUARDRAIL', 'EVALUATOR'), 'aggregate',
                        ''),
                    if(said['request_type'] IN ('chat', 'completion', 'embedding', 'rerank'), 'model', ''),
                    multiIf(
                        said['langfuse_type'] IN ('generation', 'embedding'), 'model',
                        said['langfuse_type'] = 'tool', 'tool',
                        said['langfuse_type'] IN ('agent', 'chain', 'span', 'retriever', 'evaluator', 'guardrail'), 'aggregate',
                        ''),
                    multiIf(
                        said['langsmith_kind'] IN ('llm', 'embedding'), 'model',
                        said['langsmith_kind'] = 'tool', 'tool',
                        said['langsmith_kind'] IN ('chain', 'retriever', 'prompt', 'parser'), 'aggregate',
                        ''),
                    multiIf(
                        said['traceloop_kind'] = 'tool', 'tool',
                        said['traceloop_kind'] IN ('workflow', 'task', 'agent'), 'aggregate',
                        ''),
                    multiIf(
                        said['ai_operation'] = '', 'other',
                        match(said['ai_operation'], '\\.(doGenerate|doStream|doEmbed)$'), 'model',
                        'aggregate')])) AS class,
            arrayFirst(text -> text != '', [
                said['operation_name'], said['openinference_kind'], said['request_type'], said['ai_operation']])
                AS operation_text,
            lower(said['provider']) AS said_provider,
            extractGroups(
                lower(if(
                    attributes['server.address'] != '', attributes['server.address'], attributes['gen_ai.openai.api_base'])),
                '^(?:[a-z]+://)?(?:[^/?#@]*@)?([^/:?#@]{1,253})(?::([0-9]{1,5})(?:[/?#]|$))?') AS server,
            arrayStringConcat(arrayFilter(part -> part != '', [
                server[1], if(server[2] != '', server[2], attributes['server.port'])]), ':') AS endpoint,
            dictGet('endpoints_dictionary', 'provider', endpoint::LowCardinality(String))::String AS owner,
            if(
                owner != '' AND (
                    said_provider = ''
                    OR (match(said_provider, '^(openai([._-][^/]*)?|chatopenai)$') AND owner != 'openai')
                    OR (match(said_provider, '^(anthropic([._-][^/]*)?|chatanthropic|com\\.anthropic\\.sdk\\.python|claude)$')
                        AND owner != 'anthropic')),
                owner,
                said['provider']) AS biller,
            lower(if(
                attributes['anthropic.usage.inference_geo'] != '',
                attributes['anthropic.usage.inference_geo'],
                JSONExtractString(raw, 'inference_geo'))) AS geo,
            multiIf(
                geo = 'us', 'regional',
                geo IN ('global', 'not_available'), '',
                geo != '', geo,
                match(
                    server[1],
                    '^([a-z]{2}\\.api\\.openai\\.com|([a-z0-9-]+-aiplatform|aiplatform\\.[a-z]+\\.rep)\\.googleapis\\.com)$'),
                    'regional',
                '') AS place,
            if(
                notEmpty(raw_items),
                arrayFilter((item, number) -> number = 1, raw_items, arrayEnumerateUniq(raw_items.1)),
                arrayFilter((item, number) -> number = 1, amount_items, arrayEnumerateUniq(amount_items.1)))
                AS first_items
        FROM said
    ),
    counted AS
    (
        SELECT
            *,
            if(match(operation_text, '(\\.doEmbed|ai\\.embed|ai\\.embedMany)$'), 'embeddings', operation_text)
                AS said_operation,
            if(
                notEmpty(raw_items),
                match(raw, '"(cache_read_input_tokens|cache_creation_input_tokens|cacheReadInputTokens|cacheWriteInputTokens)"')
                    AND hasAny(JSONExtractKeys(raw), [
                        'cache_read_input_tokens', 'cache_creation_input_tokens',
                        'cacheReadInputTokens', 'cacheWriteInputTokens'])
                    AND NOT JSONHas(raw, 'prompt_tokens'),
                scope_name IN (
                    'opentelemetry.instrumentation.bedrock', 'opentelemetry.instrumentation.botocore',
                    'opentelemetry.instrumentation.botocore.bedrock-runtime', 'opentelemetry.instrumentation.genai.bedrock')
                    OR (match(said_provider, 'anthropic|bedrock')
                        AND mapContains(attributes, 'ai.usage.cachedInputTokens')
                        AND NOT mapContains(attributes, 'ai.usage.inputTokenDetails.cacheReadTokens'))) AS is_exclusive,
            mapApply(
                (field, value) -> (field, if(
                    match(value, '^0*[0-9]{1,12}(\\.0)?$|^1000000000000(\\.0)?$'),
                    toUInt64OrNull(extract(value, '^[0-9]+')),
                    NULL)),
                mapFromArrays(first_items.1, first_items.5)) AS counts,
            arrayMap(
                item -> (
                    toDecimal128OrNull(trim(item.5), 18),
                    if(
                        said['cost_source'] = '',
                        item.4 NOT IN (
                            'operation.cost', 'gen_ai.cost.total_cost', 'gen_ai.usage.total_cost', 'claude_code.cost_usd')
                            AND NOT match(
                                scope_name,
                                '^(litellm|openlit|langfuse|openinference\\.|pydantic-ai|traceloop|logfire)')
                            AND (startsWith(item.4, 'openrouter.') OR match(item.5, '^[^eE]*[1-9]')),
                        said['cost_source'] = 'provider')),
                cost_items) AS stated_costs
        FROM classified
    ),
    numbered AS
    (
        SELECT
            *,
            counts['input_tokens'] AS found_input,
            isNull(counts['total_tokens']) AND (said_operation = 'interactions.create' OR (
                scope_name = 'opentelemetry.instrumentation.genai.openai' AND endsWith(attributes['server.address'], 'api.x.ai')
                AND attributes['openai.api.type'] != 'responses')) AS adds_reasoning,
            counts['output_tokens'] + adds_reasoning * ifNull(counts['reasoning_tokens'], 0) AS found_output,
            counts['total_tokens'] AS found_total,
            said_operation IN ('embeddings', 'embedding', 'rerank', 'EMBEDDING', 'RERANKER') AS is_embedding,
            ifNull(counts['cache_read_tokens'], 0) AS cache_read,
            ifNull(counts['cache_write_1h_tokens'], 0) AS cache_write_1h,
            toInt64(ifNull(counts['reasoning_tokens'], 0)) AS said_reasoning,
            arrayMap(cost -> (if(cost.1 >= 0 AND cost.1 <= 1000000000000, cost.1, NULL), cost.2), stated_costs) AS costs
        FROM counted
    ),
    used AS
    (
        SELECT
            *,
            class != 'tool' AND (
                isNotNull(found_input) OR isNotNull(found_output)
                OR (isNotNull(found_total) AND is_embedding)) AS has_usage,
            greatest(
                ifNull(counts['cache_write_tokens'], 0),
                cache_write_1h + ifNull(counts['cache_write_5m_tokens'], 0)) AS cache_write,
            arrayFirstIndex(cost -> isNotNull(cost.1), costs) AS first_amount
        FROM numbered
    ),
    totalled AS
    (
        SELECT
            *,
            toInt64(multiIf(
                NOT has_usage, 0,
                isNotNull(found_input), found_input,
                isNull(found_output), found_total,
                found_total >= found_output, found_total - found_output,
                0)) AS said_input,
            toInt64(multiIf(
                NOT has_usage, 0,
                isNotNull(found_output), found_output,
                isNull(found_input), 0,
                found_total >= found_input, found_total - found_input,
                0)) AS said_output,
            toInt64(ifNull(counts['tool_input_tokens'], 0)) AS said_tool,
            if(isNull(found_total), -1000000000000000, toInt64(found_total) - said_input - said_output) AS unsaid_total,
            first_amount > 0 AND upper(said['cost_currency']) NOT IN ('', 'USD') AS is_foreign,
            has_usage AND isNull(found_input) AND isNotNull(found_output) AND NOT ifNull(found_total >= found_output, false)
                AS lacks_input,
            has_usage AND isNotNull(found_input) AND isNull(found_output) AND NOT is_embedding
                AND NOT ifNull(found_total >= found_input, false) AS lacks_output,
            has_usage AND hides_cache AND isNull(counts['cache_read_tokens']) AND isNull(counts['cache_write_tokens'])
                AS lacks_cache,
            has_usage AND overstates_output AS has_too_much_output,
            has_usage AND tells_a_part AS has_a_part
        FROM used
    ),
    corrected AS
    (
        SELECT
            *,
            toInt64(cache_read + cache_write) AS cached,
            if(
                has_usage AND said_tool > 0 AND (
                    said_tool > said_input
                    OR has([0, cached, said_reasoning, cached + said_reasoning], unsaid_total - said_tool)),
                said_tool,
                0) AS tool_beside,
            NOT is_exclusive AND cached > 0 AND has_usage AND (
                cached > said_input + tool_beside
                OR has([0, said_reasoning, said_tool, said_reasoning + said_tool], unsaid_total - cached))
                AS is_input_corrected,
            has_usage AND said_reasoning > 0 AND (
                said_reasoning > said_output
                OR has([0, cached, said_tool, cached + said_tool], unsaid_total - said_reasoning))
                AS is_output_corrected,
            toInt64(least(ifNull(counts['audio_cache_read_tokens'], 0), cache_read)) AS audio_cache_read,
            if(is_foreign, 0, arrayFirstIndex(cost -> ifNull(cost.1 > 0 OR (cost.1 = 0 AND cost.2), false), costs)) AS chosen
        FROM totalled
    ),
    rooms AS
    (
        SELECT
            *,
            said_input + tool_beside - if(is_exclusive OR is_input_corrected, 0, cached) AS uncached_input,
            said_output + if(is_output_corrected, said_reasoning, 0) AS total_output,
            if(class = 'other' AND (has_usage OR chosen > 0), 'aggregate', class) AS final_class
        FROM corrected
    ),
    audible AS
    (
        SELECT
            *,
            greatest(0, least(toInt64(ifNull(counts['audio_input_tokens'], 0)) - audio_cache_read, uncached_input))
                AS audio_input,
            least(said_reasoning, total_output) AS reasoning,
            final_class IN ('model', 'aggregate') AS is_read,
            is_read AND chosen > 0 AS has_cost
        FROM rooms
    ),
    parted AS
    (
        SELECT
            *,
            least(toInt64(ifNull(counts['image_input_tokens'], 0)), uncached_input - audio_input) AS image_input,
            least(toInt64(ifNull(counts['audio_output_tokens'], 0)), total_output - reasoning) AS audio_output,
            if(is_read, arrayFilter(mark -> mark != '', [
                if(mapExists((field, count) -> isNull(count), counts), 'impossible_usage', ''),
                if(lacks_input, 'input_missing', ''),
                if(lacks_output, 'output_missing', ''),
                if(is_input_corrected, 'input_excluded_cache', ''),
                if(is_output_corrected, 'output_excluded_reasoning', ''),
                if(lacks_cache, 'cache_not_reported', ''),
                if(has_too_much_output, 'output_overstated', ''),
                if(has_a_part, 'partial', ''),
                if(arrayExists((cost, index) -> isNull(cost.1) AND (
                    if(is_foreign, index < first_amount, chosen = 0 OR index < chosen)), costs, arrayEnumerate(costs)),
                    'impossible_cost', ''),
                if(is_foreign, 'currency_not_usd', '')]), []) AS marks
        FROM audible
    ),
    disjoint AS
    (
        SELECT
            *,
            least(said_tool, uncached_input - audio_input - image_input) AS tool_input,
            least(toInt64(ifNull(counts['image_output_tokens'], 0)), total_output - reasoning - audio_output) AS image_output
        FROM parted
    )
SELECT
    trace_id,
    span_id,
    parent_span_id,
    started_at,
    ended_at,
    service_name,
    scope_name,
    final_class AS span_class,
    final_class IN ('model', 'tool') OR has_usage OR has_cost AS is_billable,
    if(is_read, substringUTF8(biller, 1, 256), '') AS provider,
    if(is_read, substringUTF8(if(said['response_model'] != '', said['response_model'], said['request_model']), 1, 256), '')
        AS model,
    if(is_read, substringUTF8(said['request_model'], 1, 256), '') AS request_model,
    multiIf(final_class = 'tool', 'execute_tool', is_read, said_operation, '') AS operation,
    if(is_read, substringUTF8(arrayStringConcat(arrayFilter(word -> word != '', [
        place,
        arrayFirst(tier -> tier != '', [
            said['service_tier'],
            JSONExtractString(raw, 'service_tier'),
            JSONExtractString(metadata, 'openai', 'serviceTier')])]), ' '), 1, 256), '') AS service_tier,
    multiIf(
        final_class = 'tool', substringUTF8(said['tool_call_id'], 1, 256),
        NOT is_read, '',
        said['response_id'] != '' AND NOT startsWith(scope_name, 'litellm'), substringUTF8(said['response_id'], 1, 256),
        startsWith(scope_name, 'openinference.'), extract(
            substringUTF8(attributes['output.value'], 1, 400),
            '"id":\\s*"((?:chatcmpl|resp|msg|gen|cmpl)[-_][\\w.-]{1,120})"'),
        '') AS response_id,
    if(final_class = 'tool', substringUTF8(said['tool_name'], 1, 256), '') AS tool_name,
    attributes[dictGet('tool_prices_dictionary', 'unit_attribute', lowerUTF8(tool_name))] AS tool_units,
    has_usage,
    has_usage * (uncached_input - audio_input - image_input - tool_input) AS input_tokens,
    has_usage * (cache_read - audio_cache_read) AS cache_read_tokens,
    has_usage * (cache_write - cache_write_1h) AS cache_write_tokens,
    has_usage * cache_write_1h AS cache_write_1h_tokens,
    has_usage * tool_input AS tool_input_tokens,
    has_usage * audio_input AS audio_input_tokens,
    has_usage * audio_cache_read AS audio_cache_read_tokens,
    has_usage * image_input AS image_input_tokens,
    has_usage * (total_output - reasoning - audio_output - image_output) AS output_tokens,
    has_usage * reasoning AS reasoning_tokens,
    has_usage * audio_output AS audio_output_tokens,
    has_usage * image_output AS image_output_tokens,
    has_usage * ifNull(counts['web_searches'], 0) AS web_searches,
    marks AS usage_marks,
    arrayExists(mark -> mark NOT IN ('input_excluded_cache', 'impossible_cost', 'currency_not_usd'), marks) AS is_estimate,
    if(has_cost, costs[chosen].1, NULL) AS reported_cost_usd,
    multiIf(NOT has_cost, '', costs[chosen].2, 'provider', 'emitter') AS reported_by,
    toDecimal128OrNull(said['span_cost_usd'], 12) AS span_cost_usd,
    toDecimal128OrNull(said['span_list_cost_usd'], 12) AS span_list_cost_usd,
    if(
        said['span_price_status'] = 'unpriced' OR (
            said['span_price_status'] IN ('provided', 'priced', 'estimated')
            AND span_cost_usd BETWEEN 0 AND 1000000000000),
        said['span_price_status'],
        '') AS span_price_status,
    said['span_price_version'] AS span_price_version,
    said['span_price_model'] AS span_price_model,
    status,
    multiIf(
        said['error_type'] != '', substringUTF8(said['error_type'], 1, 256),
        status = 'Error', substringUTF8(exception_type, 1, 256),
        '') AS error_type,
    if(payer['execution_id'] != '', payer['execution_id'], trace_id) AS execution_id,
    payer['organization'] AS organization,
    payer['team'] AS team,
    payer['user_id'] AS user_id,
    payer['feature'] AS feature,
    payer['agent_name'] AS agent_name,
    payer['component'] AS component,
    payer['environment'] AS environment,
    payer['session_id'] AS session_id,
    own_payer
FROM disjoint;

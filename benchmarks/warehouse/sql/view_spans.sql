-- seeds.spans: the spans of the executions of one day.
-- Parameters: seed UInt64, day Date, runs UInt64 (how many executions)
-- Grain:      one row per span. part says which: web (a request), root (the agent), node (a step of a graph), model,
--             again (the same call as another instrumentation sees it), failed (a call that was retried), http, tool
CREATE VIEW seeds.spans
AS
WITH
    parts AS
    (
        SELECT
            run.*,
            step.* EXCEPT (shape),
            part,
            cityHash64(run.key, step.step, part) AS id,
            leftPad(lower(hex(id)), 16, '0') AS span_id,
            if(cityHash64(run.key, step.step, 'small') % 10 = 0, run.small, run.large) AS used,
            leftPad(lower(hex(cityHash64(run.key, step.step, 'node'))), 16, '0') AS node_id,
            leftPad(lower(hex(cityHash64(run.key, 1, 'root'))), 16, '0') AS root_id
        FROM seeds.runs(seed = {seed:UInt64}, day = {day:Date}, runs = {runs:UInt64}) AS run
        INNER JOIN seeds.steps AS step ON step.shape = run.shape
        ARRAY JOIN arrayConcat(
            if(step.step = 1, if(run.has_web_span, ['web', 'root'], ['root']), []),
            if(run.is_nested, ['node'], []),
            if(cityHash64(run.key, step.step, 'failed') % 100 = 0, ['failed'], []),
            ['model'],
            if(run.is_doubled, ['again'], []),
            if(run.has_http_spans, ['http'], []),
            if(step.tool_ms > 0, ['tool'], [])) AS part
    )
SELECT
    key,
    trace_id,
    span_id,
    part,
    step,
    multiIf(
        part = 'web' OR (part = 'root' AND NOT has_web_span), '',
        part = 'root', leftPad(lower(hex(cityHash64(key, 1, 'web'))), 16, '0'),
        part = 'node' OR NOT is_nested AND part != 'http', root_id,
        part = 'http', leftPad(lower(hex(cityHash64(key, step, 'model'))), 16, '0'),
        node_id) AS parent_span_id,
    began_ns + toInt64(id % 1000003) + 1000000 * multiIf(
        part = 'web', 0,
        part = 'root', 2,
        part = 'node', 4 + after_ms,
        part = 'tool', 8 + after_ms + model_ms,
        part = 'http', 7 + after_ms,
        6 + after_ms) AS started_ns,
    toInt64(id % 999983) + 1000000 * multiIf(
        part = 'web', execution_ms + 10,
        part = 'root', execution_ms + 6,
        part = 'node', model_ms + tool_ms,
        part = 'tool', tool_ms,
        part = 'failed', 40,
        model_ms) AS duration_ns,
    service_name,
    multiIf(
        part = 'web', 'opentelemetry.instrumentation.fastapi',
        part = 'http', 'opentelemetry.instrumentation.httpx',
        part = 'again', 'opentelemetry.instrumentation.langchain',
        part IN ('root', 'node', 'tool'), 'opentelemetry.instrumentation.genai.langchain',
        used.5) AS scope_name,
    multiIf(part IN ('web', 'http'), 'other', part IN ('root', 'node'), 'aggregate', part = 'tool', 'tool', 'model') AS span_class,
    used.1 AS provider,
    used.2 AS model,
    used.3 AS request_model,
    translate(
        base64Encode(concat(sipHash128(key, step, 'id'), sipHash128(key, step, 'more'))),
        '+/=', 'xYz') AS base62,
    multiIf(
        part = 'tool' AND has_tool_ids, 'call_' || substring(base62, 1, 24),
        part NOT IN ('model', 'again'), '',
        used.4 = 'chatcmpl', 'chatcmpl-' || substring(base62, 1, 29),
        used.4 = 'resp', 'resp_' || lower(hex(substring(concat(sipHash128(key, step, 'id'), sipHash128(key, step, 'more')), 1, 24))),
        used.4 = 'msg', 'msg_' || substring(base62, 1, 24),
        used.4 = 'gen', 'gen-' || toString(intDiv(started_ns, 1000000000)) || '-' || substring(base62, 1, 20),
        '') AS response_id,
    part IN ('model', 'again') AS has_usage,
    cached_tokens AS cache_read_tokens,
    if(used.1 = 'anthropic', intDiv((prompt_tokens - cached_tokens) * 9, 10), 0) AS cache_write_tokens,
    prompt_tokens,
    completion_tokens,
    reasoning_tokens,
    if(used.1 = 'openrouter' AND has_usage AND cost_pico_usd >= 0, cost_pico_usd, -1) AS billed_pico_usd,
    has_usage AND id % 97 = 0 AND used.1 != 'openrouter' AS is_partial,
    multiIf(part = 'failed' OR (part = 'tool' AND is_failed), 'Error', part IN ('model', 'again', 'node'), 'Ok', 'Unset') AS status,
    multiIf(part = 'failed', 'RateLimitError', status = 'Error', 'ToolError', '') AS error_type,
    if(
        part = 'tool',
        arrayElement(
            ['shell', 'shell', 'shell', 'read_file', 'search', 'edit_file', 'fetch_url', 'run_tests', 'query_database'],
            1 + cityHash64(action) % 9),
        '') AS tool_name,
    if(cityHash64(key, step, 'small') % 10 = 0, 'summarizer', '') AS component,
    execution_id,
    session_id,
    organization,
    team,
    user_id,
    feature,
    agent_name,
    environment,
    is_payer_inherited,
    is_doubled,
    said,
    action,
    mapFilter((field, name) -> name != '', map(
        'agent_name', agent_name, 'component', component, 'execution_id', if(execution_id = trace_id, '', execution_id),
        'feature', feature, 'organization', organization, 'session_id', session_id, 'team', team, 'user_id', user_id)) AS payer,
    multiIf(
        part = 'http' OR (part = 'root' AND has_web_span AND is_payer_inherited), map(),
        is_payer_inherited AND part NOT IN ('web', 'root'), mapFilter((field, name) -> field = 'component', payer),
        payer) AS own_payer
FROM parts;

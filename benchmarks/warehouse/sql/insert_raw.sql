-- insert_raw: the spans of one day as they came, for the store's own views to read, price and keep.
-- Parameters: seed UInt64, day Date, runs UInt64
-- A model call is about 3 kB with its messages: recorded commands, which repeat as prompts do, and some text of its own,
-- which does not compress. Who pays is on the span, or on the outermost one.
INSERT INTO otel_traces
(
    Timestamp,
    TraceId,
    SpanId,
    ParentSpanId,
    SpanName,
    SpanKind,
    ServiceName,
    ResourceAttributes,
    ScopeName,
    ScopeVersion,
    SpanAttributes,
    Duration,
    StatusCode
)
SELECT
    fromUnixTimestamp64Nano(started_ns, 'UTC') AS Timestamp,
    trace_id,
    span_id,
    parent_span_id,
    multiIf(
        part = 'web', 'POST /runs',
        part = 'root', 'invoke_agent ' || agent_name,
        part = 'node', 'node',
        part = 'http', 'POST',
        part = 'tool', 'execute_tool ' || tool_name,
        'chat ' || span.request_model) AS SpanName,
    multiIf(part = 'web', 'Server', part IN ('root', 'node', 'tool'), 'Internal', 'Client') AS SpanKind,
    service_name,
    map(
        'service.name', service_name,
        'service.version', '2.14.1',
        'deployment.environment.name', environment,
        'host.name', 'worker-' || toString(span.key % 16),
        'telemetry.sdk.language', 'python',
        'telemetry.sdk.name', 'opentelemetry',
        'telemetry.sdk.version', '1.45.2') AS ResourceAttributes,
    scope_name,
    '1.3b0' AS ScopeVersion,
    mapFilter((name, value) -> value != '', mapConcat(
        mapFromArrays(
            arrayMap(name -> transform(
                name,
                ['agent_name', 'component', 'execution_id', 'feature', 'organization', 'session_id', 'team', 'user_id'],
                [
                    'gen_ai.agent.name', 'otel_cost.component', 'otel_cost.execution.id', 'otel_cost.feature',
                    'otel_cost.organization', 'session.id', 'otel_cost.team', 'user.id'],
                name), mapKeys(own_payer)),
            mapValues(own_payer)),
        map('error.type', error_type),
        multiIf(
            part = 'web', map(
                'http.request.method', 'POST', 'url.path', '/runs', 'url.scheme', 'https', 'http.route', '/runs',
                'http.response.status_code', '200', 'server.address', service_name, 'user_agent.original', 'app/5.2'),
            part = 'http', map(
                'http.request.method', 'POST', 'url.full', 'https://api.example.com/v1/chat/completions',
                'http.response.status_code', '200', 'server.address', 'api.example.com', 'server.port', '443',
                'network.protocol.version', '2'),
            part = 'root', map('gen_ai.operation.name', 'invoke_agent', 'gen_ai.provider.name', span.provider),
            part = 'node', map('gen_ai.operation.name', 'invoke_workflow', 'step', toString(step)),
            part = 'tool', map(
                'gen_ai.operation.name', 'execute_tool', 'gen_ai.tool.name', tool_name, 'gen_ai.tool.type', 'function',
                'gen_ai.tool.call.id', response_id, 'gen_ai.tool.call.arguments', action),
            map(
                'gen_ai.operation.name', 'chat',
                'gen_ai.provider.name', span.provider,
                'gen_ai.request.model', span.request_model,
                'gen_ai.request.temperature', '0.7',
                'gen_ai.request.max_tokens', '8192',
                'gen_ai.input.messages', said,
                'server.address', 'api.example.com',
                'gen_ai.response.model', if(has_usage, span.model, ''),
                'gen_ai.response.id', response_id,
                'gen_ai.response.finish_reasons', if(has_usage, '["tool_calls"]', ''),
                'gen_ai.output.messages', if(has_usage, action || ' ' || text, ''),
                'gen_ai.usage.input_tokens', if(has_usage, toString(prompt_tokens), ''),
                'gen_ai.usage.cache_read.input_tokens', if(has_usage, toString(span.cache_read_tokens), ''),
                'gen_ai.usage.cache_write.input_tokens', if(has_usage, toString(span.cache_write_tokens), ''),
                'gen_ai.usage.output_tokens', if(has_usage, toString(completion_tokens), ''),
                'gen_ai.usage.reasoning.output_tokens', if(has_usage, toString(span.reasoning_tokens), ''),
                'gen_ai.usage.cost', if(
                    billed_pico_usd < 0, '', toString(toDecimal128(billed_pico_usd, 12) / 1000000000000)),
                'otel_cost.usage.source', if(is_partial, 'partial', ''))))) AS SpanAttributes,
    duration_ns,
    status
FROM
(
    SELECT
        *,
        base64Encode(arrayStringConcat(arrayMap(
            number -> reinterpretAsString(sipHash128(key, step, number)),
            range(if(part IN ('model', 'again'), 24, 0))))) AS text
    FROM seeds.spans(seed = {seed:UInt64}, day = {day:Date}, runs = {runs:UInt64})
) AS span;

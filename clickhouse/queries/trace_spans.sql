-- trace_spans: what happened in some traces, and what did each span cost?
-- Parameters: trace_ids Array(String)
-- Result:     one row per span in order of start: trace_id, span_id, parent_span_id, name, started_at (UTC), duration_s
--             (seconds), status, service_name, kind (model, tool or empty), provider, model, tool_name, input_tokens,
--             output_tokens, cost_usd (USD, NULL when not billable or not priced), price_status, counted,
--             not_counted_reason
-- Read by:    otel-cost trace
-- The upper bound is a DateTime64: compared with a DateTime, ClickHouse 26.9 leaves out parts that begin in its last second
WITH
    bounds AS
    (
        SELECT
            min(Start) AS first,
            max(End) AS last
        FROM otel_traces_trace_id_ts
        WHERE TraceId IN {trace_ids:Array(String)}
    ),
    spans AS
    (
        SELECT
            TraceId AS trace_id,
            SpanId AS span_id,
            any(ParentSpanId) AS parent_span_id,
            any(SpanName) AS name,
            min(Timestamp) AS started_at,
            any(Duration) / 1e9 AS duration_s,
            any(StatusCode) AS status,
            any(ServiceName) AS service_name
        FROM otel_traces
        WHERE TraceId IN {trace_ids:Array(String)}
            AND Timestamp >= (SELECT first FROM bounds)
            AND Timestamp < toDateTime64((SELECT last FROM bounds), 9) + INTERVAL 1 SECOND
        GROUP BY
            trace_id,
            span_id
    )
SELECT
    spans.trace_id AS trace_id,
    spans.span_id AS span_id,
    spans.parent_span_id AS parent_span_id,
    spans.name AS name,
    spans.started_at AS started_at,
    spans.duration_s AS duration_s,
    spans.status AS status,
    spans.service_name AS service_name,
    charge.kind AS kind,
    charge.provider AS provider,
    charge.model AS model,
    charge.tool_name AS tool_name,
    charge.input_tokens AS input_tokens,
    charge.output_tokens AS output_tokens,
    charge.cost_usd AS cost_usd,
    charge.price_status AS price_status,
    charge.counted AS counted,
    charge.not_counted_reason AS not_counted_reason
FROM spans
LEFT JOIN
(
    SELECT
        trace_id,
        span_id,
        kind,
        provider,
        model,
        tool_name,
        input_tokens,
        output_tokens,
        cost_usd,
        price_status,
        counted,
        not_counted_reason
    FROM charges FINAL
    WHERE trace_id IN {trace_ids:Array(String)}
) AS charge
    ON charge.trace_id = spans.trace_id AND charge.span_id = spans.span_id
ORDER BY
    trace_id,
    started_at,
    span_id;

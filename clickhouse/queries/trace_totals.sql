-- trace_totals: what did some traces cost together?
-- Parameters: trace_ids Array(String)
-- Result:     cost_usd (USD, NULL when nothing is priced), model_calls, tool_calls, unpriced_calls (model calls without a
--             price: cost_usd leaves them out), not_counted (charges left out as repeats), input_tokens, output_tokens,
--             started_at and ended_at (UTC), execution_ids
-- Read by:    otel-cost trace
SELECT
    sumIf(charge.cost_usd, counted) AS cost_usd,
    countIf(kind = 'model' AND counted) AS model_calls,
    countIf(kind = 'tool' AND counted) AS tool_calls,
    countIf(kind = 'model' AND counted AND isNull(charge.cost_usd)) AS unpriced_calls,
    countIf(NOT counted) AS not_counted,
    sumIf(charge.input_tokens, counted) AS input_tokens,
    sumIf(charge.output_tokens, counted) AS output_tokens,
    min(charge.started_at) AS started_at,
    max(charge.ended_at) AS ended_at,
    groupUniqArray(execution_id) AS execution_ids
FROM charges AS charge FINAL
WHERE trace_id IN {trace_ids:Array(String)}
    AND toDate(charge.started_at) BETWEEN (
            SELECT if(count() = 0, toDate('1970-01-01'), toDate(min(Start)))
            FROM otel_traces_trace_id_ts
            WHERE TraceId IN {trace_ids:Array(String)})
        AND (
            SELECT if(count() = 0, toDate('2149-06-06'), toDate(max(End)))
            FROM otel_traces_trace_id_ts
            WHERE TraceId IN {trace_ids:Array(String)});

-- trace_decisions: what did the guard decide in some traces, and at which span?
-- Parameters: trace_ids Array(String)
-- Result:     one row per decision in order of time: trace_id, span_id, decided_at (UTC), decision, kind, mode, limit_usd,
--             spent_usd, reserved_usd, asked_usd (USD, NULL where not told), reason, top_components, model
-- Read by:    otel-cost trace
SELECT
    trace_id,
    span_id,
    decided_at,
    decision,
    kind,
    mode,
    limit_usd,
    spent_usd,
    reserved_usd,
    asked_usd,
    reason,
    top_components,
    model
FROM decisions FINAL
WHERE trace_id IN {trace_ids:Array(String)}
ORDER BY
    trace_id,
    decided_at,
    span_id,
    event_number;

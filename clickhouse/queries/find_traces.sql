-- find_traces: which traces does a person mean by an id?
-- Parameters: id String (a trace id, the beginning of one, or an execution id)
-- Result:     trace_id
-- Bound:      at most 100 traces
-- Read by:    otel-cost trace
SELECT trace_id
FROM
(
    SELECT DISTINCT TraceId AS trace_id
    FROM otel_traces_trace_id_ts
    WHERE startsWith(TraceId, lower({id:String}))
    UNION DISTINCT
    SELECT DISTINCT trace_id
    FROM charges
    WHERE execution_id = {id:String}
    UNION DISTINCT
    SELECT DISTINCT trace_id
    FROM decisions
    WHERE execution_id = {id:String}
)
ORDER BY trace_id
LIMIT 100;

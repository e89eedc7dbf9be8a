-- otel_traces_trace_id_ts_mv: notes when each trace of an insert began and ended.
-- Grain:     one row per trace and insert
-- Target:    otel_traces_trace_id_ts
-- Source:    otel_traces, on insert
-- Read by:   queries/trace_spans.sql
CREATE MATERIALIZED VIEW IF NOT EXISTS otel_traces_trace_id_ts_mv
TO otel_traces_trace_id_ts
AS
SELECT
    TraceId,
    min(Timestamp) AS Start,
    max(Timestamp) AS End
FROM otel_traces
WHERE TraceId != ''
GROUP BY TraceId;

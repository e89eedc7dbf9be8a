-- recent_days: between which days the spans of recent traces are, and records of their responses in others.
-- Grain:     one row
-- Source:    recent_traces, otel_traces_trace_id_ts
-- Read by:   server/refresh_accounts.sql, cluster/refresh_accounts.sql
CREATE OR REPLACE VIEW recent_days
AS
SELECT
    if(count() = 0, toDate('1970-01-01'), greatest(toDate(min(Start)), toDate('1970-01-02')) - 1) AS first_day,
    if(count() = 0, toDate('2149-06-06'), least(toDate(max(End)), toDate('2149-06-05')) + 1) AS last_day
FROM otel_traces_trace_id_ts
WHERE TraceId IN (SELECT trace_id FROM recent_traces);

-- link_readings: keeps which span stands under which, and what each is.
-- Grain:     one row per span of an insert
-- Target:    trace_links
-- Source:    readings, on insert
-- Read by:   views/accounts.sql, views/executions.sql, views/unsettled_traces.sql
CREATE MATERIALIZED VIEW IF NOT EXISTS link_readings
TO trace_links
AS
SELECT
    trace_id,
    span_id,
    parent_span_id,
    started_at,
    ended_at,
    span_class,
    status
FROM readings;

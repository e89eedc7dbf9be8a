-- link_readings: keeps which span stands under which, what each is, and whom it names as the payer of what is below it.
-- Grain:     one row per span of an insert that says something about a model, a tool or an agent (others: link_spans)
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
    status,
    own_payer AS payer
FROM readings;

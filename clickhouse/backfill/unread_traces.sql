-- unread_traces: which traces have spans of a part of a day that no view read?
-- Parameters: day Date (UTC), parts UInt32 (of a day, by trace), part UInt32 (from 0), again Bool (those that were read, too)
-- Result:     trace_id
-- Source:     backfill/unread_spans.sql, which the runner puts in for the mark below
-- Read by:    otel_cost/store/backfill.py
SELECT DISTINCT TraceId AS trace_id
FROM
(
<unread_spans>
);

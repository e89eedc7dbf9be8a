-- unread_spans: which spans of a part of a day did no view read?
-- Parameters: day Date (UTC), parts UInt32 (of a day, by trace), part UInt32 (from 0), again Bool (those that were read, too)
-- Result:     the columns of otel_traces. Each span that was read is in trace_links
-- Read by:    otel_cost/store/backfill.py, in place of otel_traces in the queries of the views that read it
SELECT *
FROM otel_traces
WHERE Timestamp >= toDateTime64({day:Date}, 9, 'UTC')
    AND Timestamp < toDateTime64({day:Date} + 1, 9, 'UTC')
    AND TraceId != ''
    AND SpanId != ''
    AND cityHash64(TraceId) % {parts:UInt32} = {part:UInt32}
    AND ({again:Bool} OR (TraceId, SpanId) NOT IN (
        SELECT
            trace_id,
            span_id
        FROM trace_links
        WHERE toDate(started_at) = {day:Date} AND cityHash64(trace_id) % {parts:UInt32} = {part:UInt32}));

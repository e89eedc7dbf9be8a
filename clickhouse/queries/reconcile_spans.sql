-- reconcile_spans: did every span that was received reach the tables made of spans?
-- Parameters: since DateTime64(9, 'UTC') (from the begin of its day)
-- Result:     utc_day, received (distinct spans in otel_traces with ids), linked (of them in trace_links), missing. Only days
--             with missing spans have a row
-- Read by:    otel-cost doctor
SELECT
    utc_day,
    count() AS received,
    countIf(is_linked) AS linked,
    received - linked AS missing
FROM
(
    SELECT
        utc_day,
        trace_id,
        span_id,
        max(is_link) AS is_linked,
        max(NOT is_link) AS is_received
    FROM
    (
        SELECT
            toDate(Timestamp) AS utc_day,
            TraceId AS trace_id,
            SpanId AS span_id,
            false AS is_link
        FROM otel_traces
        WHERE Timestamp >= toDateTime64(toDate32({since:DateTime64(9, 'UTC')}), 9) AND TraceId != '' AND SpanId != ''
        UNION ALL
        SELECT
            toDate(started_at) AS utc_day,
            trace_id,
            span_id,
            true AS is_link
        FROM trace_links
        WHERE toDate(started_at) >= toDate32({since:DateTime64(9, 'UTC')})
    )
    GROUP BY
        utc_day,
        trace_id,
        span_id
)
WHERE is_received
GROUP BY utc_day
HAVING missing > 0
ORDER BY utc_day;

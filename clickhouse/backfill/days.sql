-- days: how many spans came of each day?
-- Parameters: since DateTime64(9, 'UTC') (from the begin of its day)
-- Result:     utc_day, spans (as they came, repeats included)
-- Read by:    otel_cost/store/backfill.py
SELECT
    toDate(Timestamp) AS utc_day,
    count() AS spans
FROM otel_traces
WHERE Timestamp >= toDateTime64(toDate({since:DateTime64(9, 'UTC')}), 9) AND TraceId != '' AND SpanId != ''
GROUP BY utc_day
ORDER BY utc_day;

-- trace_days: on which days can the spans of some traces be, and records of their responses in others?
-- Parameters: trace_ids Array(String)
-- Result:     first_day, last_day (UTC): a day before the first span and a day after the last, every day where nothing is known
-- Read by:    Store.account
SELECT
    if(count() = 0, toDate('1970-01-01'), greatest(toDate(min(Start)), toDate('1970-01-02')) - 1) AS first_day,
    if(count() = 0, toDate('2149-06-06'), toDate(max(End)) + 1) AS last_day
FROM otel_traces_trace_id_ts
WHERE TraceId IN {trace_ids:Array(String)};

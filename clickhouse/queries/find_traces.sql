-- find_traces: which traces does a person mean by an id?
-- Parameters: id String (an execution id, a trace id, or the beginning of one)
-- Result:     trace_id, traces (how many there are), first_day and last_day (UTC, between which their charges are)
-- Bound:      at most 100 traces are told, the first by their ids
-- Read by:    otel-cost trace, queries/trace_totals.sql, which has the steps before the last SELECT put in
-- What is somebody's whole id is not the beginning of another's. An execution is looked for on the days that the rollup has
-- it on, and on those of the spans that came in the last ten minutes, which the rollup may not know of. Days are all there are
-- where a trace's spans are kept no longer: only they tell when it was.
WITH
    meant AS
    (
        SELECT trace_id
        FROM
        (
            SELECT
                trace_id,
                max(is_whole) AS is_whole
            FROM
            (
                SELECT
                    trace_id,
                    true AS is_whole
                FROM charges FINAL
                WHERE execution_id = {id:String}
                    AND toDate(started_at) GLOBAL IN (
                        SELECT utc_day
                        FROM execution_days
                        WHERE execution_id = {id:String}
                        UNION DISTINCT
                        SELECT toDate(started_at)
                        FROM trace_links
                        WHERE inserted_at > now() - INTERVAL 10 MINUTE)
                UNION ALL
                SELECT
                    trace_id,
                    true AS is_whole
                FROM decisions
                WHERE execution_id = {id:String}
                UNION ALL
                SELECT
                    TraceId AS trace_id,
                    trace_id = lower({id:String}) AS is_whole
                FROM otel_traces_trace_id_ts
                WHERE startsWith(TraceId, lower({id:String}))
            )
            GROUP BY trace_id
        )
        QUALIFY is_whole = max(is_whole) OVER ()
    )
SELECT
    meant.trace_id AS trace_id,
    count() OVER () AS traces,
    if(countIf(isNull(spanned.first_at)) OVER () > 0, toDate('1970-01-01'), toDate(min(spanned.first_at) OVER ())) AS first_day,
    if(countIf(isNull(spanned.first_at)) OVER () > 0, toDate('2149-06-06'), toDate(max(spanned.last_at) OVER ())) AS last_day
FROM meant
LEFT JOIN
(
    SELECT
        TraceId AS trace_id,
        toNullable(min(Start)) AS first_at,
        toNullable(max(End)) AS last_at
    FROM otel_traces_trace_id_ts
    WHERE TraceId GLOBAL IN (SELECT trace_id FROM meant)
    GROUP BY trace_id
) AS spanned
    ON spanned.trace_id = meant.trace_id
ORDER BY trace_id
LIMIT 100;

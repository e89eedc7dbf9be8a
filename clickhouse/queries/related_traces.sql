-- related_traces: which other traces hold a record of a response that these traces hold.
-- Parameters: trace_ids Array(String), first_day and last_day Date, between which their spans are
-- Result:     trace_id
-- Bound:      a day before and after the traces asked about, duplicates across traces come together. Ids of tool calls say
--             nothing beyond their trace
-- Read by:    Store.account
WITH asked AS
(
    SELECT
        response_key,
        started_at
    FROM charges
    WHERE trace_id IN {trace_ids:Array(String)}
        AND toDate(started_at) BETWEEN {first_day:Date} AND {last_day:Date}
        AND response_key != 0
        AND span_class != 'tool'
)
SELECT DISTINCT trace_id
FROM charges
WHERE started_at BETWEEN (SELECT min(started_at) FROM asked) - INTERVAL 1 DAY
    AND (SELECT max(started_at) FROM asked) + INTERVAL 1 DAY
    AND response_key IN (SELECT response_key FROM asked)
    AND span_class != 'tool'
    AND trace_id NOT IN {trace_ids:Array(String)};

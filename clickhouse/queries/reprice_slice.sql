-- reprice_slice: up to which trace do so many charges of a day reach?
-- Parameters: day Date, after String, the trace before the first, charges UInt64
-- Result:     upto String, charges (fewer than asked for where the day ends)
-- Read by:    otel_cost/store/reprice.py, which works by such parts so that memory is bounded
SELECT
    max(trace_id) AS upto,
    count() AS charges
FROM
(
    SELECT trace_id
    FROM charges
    WHERE toDate(started_at) = {day:Date} AND trace_id > {after:String}
    ORDER BY trace_id
    LIMIT {charges:UInt64}
);

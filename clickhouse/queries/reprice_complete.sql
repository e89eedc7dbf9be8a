-- reprice_complete: puts the other charges of some traces beside those that are prepared, so that traces are whole.
-- Parameters: trace_ids Array(String), rivals Array(String), first_day and last_day Date, as in account_traces
-- Grain:      writes one row per charge that is not prepared, as it is
-- Target:     repriced
-- Source:     charges
-- Read by:    otel_cost/store/reprice.py
INSERT INTO repriced
SELECT *
FROM charges FINAL
WHERE (trace_id IN {trace_ids:Array(String)} OR trace_id IN {rivals:Array(String)})
    AND toDate(started_at) BETWEEN {first_day:Date} AND {last_day:Date}
    AND (trace_id, span_id) NOT IN (
        SELECT
            trace_id,
            span_id
        FROM repriced
        WHERE trace_id IN {trace_ids:Array(String)} OR trace_id IN {rivals:Array(String)});

-- reprice_unsettled: which traces of a repricing got spans while it ran, so that what counts is decided again?
-- Parameters: run_id String, began DateTime64(6)
-- Result:     trace_id
-- Read by:    otel_cost/store/reprice.py at the end of a run
SELECT DISTINCT trace_id
FROM trace_links
WHERE inserted_at >= toDateTime({began:DateTime64(6, 'UTC')}) - INTERVAL 1 MINUTE
    AND trace_id IN (
        SELECT trace_id
        FROM repricings
        WHERE run_id = {run_id:String});

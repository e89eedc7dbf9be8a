-- repricing_runs: which repricings were there, and how far did they come?
-- Parameters: run_id String, empty for all
-- Result:     the columns of repricing_runs, and is_live: noted within the last half minute
-- Read by:    otel_cost/store/reprice.py
SELECT
    run_id,
    undoes_run_id,
    state,
    worker,
    began_at,
    noted_at,
    actor,
    reason,
    since,
    until,
    model,
    provider,
    unpriced_only,
    price_version,
    step,
    day,
    after_trace_id,
    charges,
    changed,
    newly_priced,
    newly_unpriced,
    old_cost_usd,
    new_cost_usd,
    noted_at > now64(6) - INTERVAL 30 SECOND AS is_live
FROM repricing_runs FINAL
WHERE {run_id:String} IN ('', run_id)
ORDER BY began_at DESC
LIMIT 1000;

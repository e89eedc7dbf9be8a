-- reprice_result: what did a repricing change?
-- Parameters: run_id String
-- Result:     provider, model, charges, changed (the same), newly_priced, newly_unpriced, old_cost_usd, new_cost_usd
-- Read by:    otel_cost/store/reprice.py for a run that was stopped and went on
SELECT
    new_provider AS provider,
    model,
    count() AS charges,
    count() AS changed,
    countIf(isNull(change.old_cost_usd) AND isNotNull(change.new_cost_usd)) AS newly_priced,
    countIf(isNotNull(change.old_cost_usd) AND isNull(change.new_cost_usd)) AS newly_unpriced,
    sum(ifNull(change.old_counted_usd, 0)) AS old_cost_usd,
    sum(ifNull(change.new_counted_usd, 0)) AS new_cost_usd
FROM repricings AS change FINAL
WHERE run_id = {run_id:String}
GROUP BY
    provider,
    model
ORDER BY
    provider,
    model;

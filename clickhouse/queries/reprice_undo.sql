-- reprice_undo: brings back the amounts that a repricing replaced, for a part of a day.
-- Parameters: day Date, after and upto String: the charges of that day and of the traces after one and up to the other (all
--             that remain where empty), undoes_run_id String
-- Grain:     writes one row per charge that the run changed and that no later one has changed since
-- Target:    repriced
-- Source:    charges, repricings
-- Read by:   otel_cost/store/reprice.py
INSERT INTO repriced
SELECT charge.* REPLACE (
    change.old_provider AS provider,
    if(empty(charge.covered_tokens), change.old_cost_usd, NULL) AS cost_usd,
    if(empty(charge.covered_tokens), change.old_list_cost_usd, NULL) AS list_cost_usd,
    if(empty(charge.covered_tokens), NULL, change.old_cost_usd) AS covered_cost_usd,
    if(empty(charge.covered_tokens), NULL, change.old_list_cost_usd) AS covered_list_cost_usd,
    change.old_price_status AS price_status,
    change.old_price_version AS price_version,
    change.old_price_model AS price_model,
    toUnixTimestamp64Micro(now64(6)) AS version)
FROM charges AS charge FINAL
INNER JOIN
(
    SELECT
        trace_id,
        span_id,
        old_provider,
        old_cost_usd,
        new_cost_usd,
        old_list_cost_usd,
        new_list_cost_usd,
        old_price_status,
        new_price_status,
        old_price_version,
        old_price_model,
        new_price_model
    FROM repricings FINAL
    WHERE run_id = {undoes_run_id:String} AND toDate(started_at) = {day:Date}
        AND trace_id > {after:String}
        AND ({upto:String} = '' OR trace_id <= {upto:String})
) AS change
    ON change.trace_id = charge.trace_id AND change.span_id = charge.span_id
WHERE toDate(charge.started_at) = {day:Date}
    AND charge.trace_id > {after:String}
    AND ({upto:String} = '' OR charge.trace_id <= {upto:String})
    AND charge.price_status = change.new_price_status AND charge.price_model = change.new_price_model
    AND if(empty(charge.covered_tokens), charge.cost_usd, ifNull(charge.cost_usd, 0) + charge.covered_cost_usd)
        <=> change.new_cost_usd
    AND if(empty(charge.covered_tokens), charge.list_cost_usd, ifNull(charge.list_cost_usd, 0) + charge.covered_list_cost_usd)
        <=> change.new_list_cost_usd;
